package httpapi_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"path"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/httpapi"
	"github.com/nexus-protocol/nexus/adapters/httpapi/apitest"
	"github.com/nexus-protocol/nexus/adapters/inprocess"
	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// agents are the suite's agents as functions in this process.
func agents() *memory.Agents {
	out := memory.NewAgents()
	handle := func(b apitest.Behaviour, f memory.AgentFunc) { out.Handle(endpoint(b), f) }
	handle(apitest.Echo, func(_ context.Context, c ports.Call) (ports.Answer, error) {
		m := task.Message{ID: "re-" + c.Message.ID, Role: task.RoleAgent}
		for _, p := range c.Message.Parts {
			if p.Type == task.PartText {
				var text string
				if err := json.Unmarshal(p.Data, &text); err != nil {
					return ports.Answer{}, err
				}
				p = task.TextPart("echo: " + text)
			}
			m.Parts = append(m.Parts, p)
		}
		return ports.Answer{State: ports.AnswerDone, Messages: []task.Message{m}}, nil
	})
	for b, code := range map[apitest.Behaviour]string{
		apitest.Failing: task.ErrAgent, apitest.HTML: task.ErrProtocol, apitest.Huge: task.ErrProtocol,
	} {
		handle(b, func(context.Context, ports.Call) (ports.Answer, error) {
			return ports.Answer{}, &ports.CallError{Code: code, Message: "the oven is cold"}
		})
	}
	handle(apitest.Asking, func(_ context.Context, c ports.Call) (ports.Answer, error) {
		question := task.Message{ID: "question " + c.TaskID, Role: task.RoleAgent, Parts: []task.Part{task.TextPart("which one?")}}
		if c.RemoteTaskID == "" {
			return ports.Answer{State: ports.AnswerInputRequired, Messages: []task.Message{question}, RemoteTaskID: "remote", ContextID: "context"}, nil
		}
		fine := task.Message{ID: "fine", Role: task.RoleAgent, Parts: []task.Part{task.TextPart("fine")}}
		return ports.Answer{
			State: ports.AnswerDone, Messages: []task.Message{question, fine}, Artifacts: []task.Artifact{{ID: "a", Parts: c.Message.Parts}},
		}, nil
	})
	handle(apitest.Making, func(_ context.Context, c ports.Call) (ports.Answer, error) {
		time.Sleep(apitest.MakingTime)
		return ports.Answer{State: ports.AnswerDone, Artifacts: []task.Artifact{{ID: "thing", Name: "thing", Parts: c.Message.Parts[:1]}}}, nil
	})
	handle(apitest.Stalling, func(ctx context.Context, _ ports.Call) (ports.Answer, error) {
		<-ctx.Done()
		return ports.Answer{}, ctx.Err()
	})
	return out
}

func endpoint(b apitest.Behaviour) string { return "http://" + string(b) + ".test" }

// newEngine is a whole engine in memory, with its worker at work until the test ends.
func newEngine(t *testing.T, change ...func(*app.Config)) *app.Engine {
	t.Helper()
	store := memory.New()
	cfg := app.Config{
		Store: store, Queue: inprocess.New(store, time.Now, inprocess.Options{}), Agents: agents(), Guard: memory.OpenGuard{},
		Schema: memory.Schemas{}, Hasher: memory.NewHasher(), Limits: memory.NewLimiter(time.Now), Events: inprocess.NewEvents(), Now: time.Now, NewID: memory.NewID, Random: rand.Reader,
	}
	for _, c := range change {
		c(&cfg)
	}
	engine, err := app.New(cfg)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- engine.Worker.Run(ctx, time.Second) }()
	t.Cleanup(func() {
		stop()
		assert.NoError(t, <-done)
	})
	return engine
}

// logBuffer is what a server wrote to its log.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// keepAlive is short, so that tests need not wait.
const keepAlive = 200 * time.Millisecond

func TestAPI(t *testing.T) {
	for name, limited := range map[string]bool{"with limits": true, "without limits": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log logBuffer
			payments := memory.NewPayments(time.Now)
			engine := newEngine(t, func(c *app.Config) {
				c.Grants = payments
				if limited { // the other one sells nothing
					c.Payments = payments
				}
			})
			srv := httptest.NewServer(httpapi.New(engine, httpapi.Options{
				RateLimit: limited, Logger: log.logger(), Streams: httpapi.StreamOptions{KeepAlive: keepAlive},
			}))
			t.Cleanup(func() {
				srv.Close()
				for _, secret := range []string{"correct horse battery", `"nxk_`, "nexus_session", "Lorem ipsum", "evil.example", "skillTags="} {
					assert.NotContains(t, log.String(), secret, "in the log")
				}
				assert.NotContains(t, log.String(), `"level":"ERROR"`)
			})
			target := apitest.Target{BaseURL: srv.URL, AgentURL: endpoint, RateLimited: limited, KeepAlive: keepAlive}
			if limited {
				target.Pay = func(t *testing.T, checkoutURL string) ([]byte, string) {
					d, err := payments.Pay("memory_" + path.Base(checkoutURL))
					require.NoError(t, err)
					return d.Body, d.Signature
				}
			}
			apitest.Run(t, target)
		})
	}
}
