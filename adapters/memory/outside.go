package memory

import (
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

var (
	_ ports.RateLimiter    = (*Limiter)(nil)
	_ ports.PasswordHasher = (*Hasher)(nil)
	_ ports.AgentCaller    = (*Agents)(nil)
	_ ports.EndpointGuard  = OpenGuard{}
	_ ports.SchemaChecker  = Schemas{}
)

// Limiter is a ports.RateLimiter for one process: the generic cell rate algorithm, with one moment kept for each key.
type Limiter struct {
	now func() time.Time
	mu  sync.Mutex
	tat map[string]time.Time // theoretical arrival time: when the whole allowance is there again
	gc  time.Time
}

// NewLimiter makes a limiter on a clock.
func NewLimiter(now func() time.Time) *Limiter {
	return &Limiter{now: now, tat: map[string]time.Time{}}
}

// Allow implements ports.RateLimiter.
func (l *Limiter) Allow(_ context.Context, key string, rule ports.RateRule) (ports.RateResult, error) {
	if rule.Limit <= 0 || rule.Per <= 0 {
		return ports.RateResult{}, errors.New("a rate rule needs a limit and a time")
	}
	step := rule.Per / time.Duration(rule.Limit)
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	l.collect(now)
	tat := l.tat[key]
	if tat.Before(now) {
		tat = now
	}
	next := tat.Add(step)
	if wait := next.Sub(now) - rule.Per; wait > 0 {
		return ports.RateResult{Limit: rule.Limit, RetryAfter: wait, Reset: tat.Sub(now)}, nil
	}
	l.tat[key] = next
	return ports.RateResult{
		Allowed: true, Limit: rule.Limit, Remaining: int((rule.Per - next.Sub(now)) / step), Reset: next.Sub(now),
	}, nil
}

// collect forgets, once a minute, the keys whose allowance is whole.
func (l *Limiter) collect(now time.Time) {
	if now.Before(l.gc) {
		return
	}
	l.gc = now.Add(time.Minute)
	for k, t := range l.tat {
		if !t.After(now) {
			delete(l.tat, k)
		}
	}
}

// Hasher is a ports.PasswordHasher of the standard library: PBKDF2 with SHA-256. Servers use argon2id instead.
type Hasher struct{ slots chan struct{} }

// Rounds of PBKDF2: few enough for tests.
const rounds = 10_000

// NewHasher makes a hasher that works on two passwords at a time.
func NewHasher() *Hasher { return &Hasher{slots: make(chan struct{}, 2)} }

func (h *Hasher) derive(ctx context.Context, password string, salt []byte) ([]byte, error) {
	select {
	case h.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-h.slots }()
	return pbkdf2.Key(sha256.New, password, salt, rounds, sha256.Size)
}

// Hash implements ports.PasswordHasher.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // it never fails
	key, err := h.derive(ctx, password, salt)
	return hex.EncodeToString(salt) + "$" + hex.EncodeToString(key), err
}

// Verify implements ports.PasswordHasher.
func (h *Hasher) Verify(ctx context.Context, password, hash string) (bool, error) {
	saltHex, keyHex, _ := strings.Cut(hash, "$")
	salt, err1 := hex.DecodeString(saltHex)
	want, err2 := hex.DecodeString(keyHex)
	got, err := h.derive(ctx, password, salt)
	if err != nil || errors.Join(err1, err2) != nil || len(want) == 0 {
		return false, err
	}
	return subtle.ConstantTimeCompare(got, want) == 1, nil
}

// AgentFunc is an agent that is a function.
type AgentFunc func(ctx context.Context, c ports.Call) (ports.Answer, error)

// Agents is a ports.AgentCaller whose agents are functions in this process, by endpoint.
type Agents struct {
	mu     sync.RWMutex
	agents map[string]AgentFunc
}

// NewAgents makes a caller that reaches nobody yet.
func NewAgents() *Agents { return &Agents{agents: map[string]AgentFunc{}} }

// Handle puts an agent at an endpoint; nil takes it away.
func (a *Agents) Handle(endpoint string, f AgentFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if f == nil {
		delete(a.agents, endpoint)
		return
	}
	a.agents[endpoint] = f
}

func (a *Agents) at(endpoint string) (AgentFunc, error) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	f, ok := a.agents[endpoint]
	if !ok {
		return nil, &ports.CallError{Code: task.ErrUnreachable, Message: "there is no agent at " + endpoint, Retryable: true, Unreachable: true}
	}
	return f, nil
}

// Card implements ports.AgentCaller.
func (a *Agents) Card(_ context.Context, endpoint string) (json.RawMessage, error) {
	if _, err := a.at(endpoint); err != nil {
		return nil, err
	}
	return json.Marshal(map[string]string{"url": endpoint})
}

// Send implements ports.AgentCaller.
func (a *Agents) Send(ctx context.Context, c ports.Call) (ports.Answer, error) {
	f, err := a.at(c.Endpoint)
	if err != nil {
		return ports.Answer{}, err
	}
	return f(ctx, c)
}

// Follow implements ports.AgentCaller: the function is called again, and sees the RemoteTaskID that it gave.
func (a *Agents) Follow(ctx context.Context, c ports.Call) (ports.Answer, error) {
	return a.Send(ctx, c)
}

// Cancel implements ports.AgentCaller. Functions are cancelled by their context alone.
func (a *Agents) Cancel(_ context.Context, c ports.Call) error {
	_, err := a.at(c.Endpoint)
	return err
}

// OpenGuard is a ports.EndpointGuard that lets every endpoint pass.
type OpenGuard struct{}

// Check implements ports.EndpointGuard.
func (OpenGuard) Check(context.Context, string) error { return nil }

// Schemas is a ports.SchemaChecker that knows that a schema is a JSON object or a boolean, and no more: every value is
// valid under every schema.
type Schemas struct{}

// Compile implements ports.SchemaChecker.
func (Schemas) Compile(schema json.RawMessage) error {
	var v any
	if err := json.Unmarshal(schema, &v); err != nil {
		return fmt.Errorf("is not JSON: %w", err)
	}
	switch v.(type) {
	case map[string]any, bool:
		return nil
	default:
		return errors.New("must be an object or a boolean")
	}
}

// Validate implements ports.SchemaChecker.
func (Schemas) Validate(json.RawMessage, json.RawMessage) ([]ports.SchemaFault, error) {
	return nil, nil
}

var ids struct {
	sync.Mutex
	last uint64 // milliseconds << 12 | counter
}

// NewID makes a UUIDv7 (RFC 9562) from the wall clock. Ids of one process sort in the order they were made.
func NewID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	ids.Lock()
	stamp := max(uint64(time.Now().UnixMilli())<<12, ids.last+1)
	ids.last = stamp
	ids.Unlock()
	ms, counter := stamp>>12, stamp&0xfff
	for i := range 6 {
		b[i] = byte(ms >> (40 - 8*i))
	}
	b[6], b[7] = 0x70|byte(counter>>8), byte(counter)
	b[8] = 0x80 | b[8]&0x3f
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}
