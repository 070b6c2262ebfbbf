package app

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/ports"
)

// Once makes a use case that creates or charges something safe to repeat: within 24 hours the same caller with the same
// key gets the first answer again, and nothing is done. Put it into the context with WithOnce.
type Once struct {
	Key     string   // the caller's own name for the request, 1 to 255 characters
	Request [32]byte // a digest of what is asked; the same key with another one is IDEMPOTENCY_CONFLICT
	// Render makes the answer that a repeat gets, of what the use case returns. It may be called more than once.
	Render func(result any) ([]byte, error)

	fresh bool // it was looked up, and was not done before
}

// maxOnceKey is the most characters that a key may have.
const maxOnceKey = 255

// answersKept is how long the first answer is kept.
const answersKept = 24 * time.Hour

type onceKey struct{}

// WithOnce lets the next use case that is called with the context be done once.
func WithOnce(ctx context.Context, o Once) context.Context {
	return context.WithValue(ctx, onceKey{}, &o)
}

// Replayed is the error of a use case that was done before. It carries the first answer.
type Replayed struct{ Answer []byte }

// Error implements error.
func (r *Replayed) Error() string { return "it was done before; its first answer stands" }

// once is update for use cases that make something, done once if the context says so. result is what the use case
// returns, once fn has run.
func (c *core) once(ctx context.Context, who identity.Caller, result func() any, fn func(ctx context.Context, u *unit) error) error {
	o, _ := ctx.Value(onceKey{}).(*Once)
	if o == nil {
		return c.update(ctx, fn)
	}
	if err := c.replay(ctx, who); err != nil {
		return err
	}
	err := c.update(ctx, func(ctx context.Context, u *unit) error {
		if err := fn(ctx, u); err != nil {
			return err
		}
		return c.keep(ctx, u, who, o, result())
	})
	o.fresh = false
	if err == nil {
		return nil
	}
	// It may be that it was refused because it was done, by another at this very moment.
	var first *Replayed
	if done := c.replay(ctx, who); errors.As(done, &first) || fault.Has(done, fault.CodeIdempotencyConflict) {
		return done
	}
	return err
}

// replay returns Replayed if the context's use case was done before. One read, and none without a Once, or when it was looked
// up already: who comes in between is met at the commit.
func (c *core) replay(ctx context.Context, who identity.Caller) error {
	o, _ := ctx.Value(onceKey{}).(*Once)
	if o == nil || o.fresh {
		return nil
	}
	if n := len([]rune(o.Key)); n < 1 || n > maxOnceKey {
		var bad fault.Fields
		bad.Add("Idempotency-Key", "must be 1 to %d characters long", maxOnceKey)
		return bad.Err()
	}
	a, ok, err := c.Store.Read().Answers.Get(ctx, o.id(who))
	switch {
	case err != nil:
		return fmt.Errorf("read answer: %w", err)
	case !ok || !a.At.After(c.now().Add(-answersKept)):
		o.fresh = true
		return nil
	case a.Request != hex.EncodeToString(o.Request[:]):
		return fault.New(fault.Conflict, fault.CodeIdempotencyConflict,
			"this Idempotency-Key was used for another request; use a new one for each")
	}
	seal, err := o.seal(who)
	if err != nil {
		return err
	}
	n := seal.NonceSize()
	if len(a.Body) < n {
		return errors.New("a kept answer is cut off")
	}
	answer, err := seal.Open(nil, a.Body[:n], a.Body[n:], nil)
	if err != nil {
		return fmt.Errorf("open a kept answer: %w", err)
	}
	return &Replayed{Answer: answer}
}

// keep writes down the answer, in the transaction that does what it tells of.
func (c *core) keep(ctx context.Context, u *unit, who identity.Caller, o *Once, result any) error {
	answer, err := o.Render(result)
	if err != nil {
		return fmt.Errorf("render answer: %w", err)
	}
	seal, err := o.seal(who)
	if err != nil {
		return err
	}
	nonce := make([]byte, seal.NonceSize())
	if _, err := io.ReadFull(c.Random, nonce); err != nil {
		return fmt.Errorf("draw a nonce: %w", err)
	}
	kept := ports.KeptAnswer{
		ID: o.id(who), Request: hex.EncodeToString(o.Request[:]), Body: seal.Seal(nonce, nonce, answer, nil), At: u.now,
	}
	return u.Answers.Put(ctx, kept, u.now.Add(-answersKept))
}

// id names the answer without giving the key away.
func (o *Once) id(who identity.Caller) string {
	sum := sha256.Sum256([]byte(who.UserID + "\x00" + who.AgentID + "\x00" + o.Key))
	return hex.EncodeToString(sum[:])
}

// seal keeps answers secret from whoever reads the store, since one may be a new API key: only who knows the request's key
// can open it.
func (o *Once) seal(who identity.Caller) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, []byte(o.Key), []byte(who.UserID+"\x00"+who.AgentID), "nexus: kept answer", 32)
	if err != nil {
		return nil, fmt.Errorf("derive a key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make a cipher: %w", err)
	}
	return cipher.NewGCM(block)
}
