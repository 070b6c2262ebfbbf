package app_test

import (
	"context"
	"crypto/rand"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/inprocess"
	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/adapters/sqlite"
	"github.com/nexus-protocol/nexus/adapters/sqlite/sqlitetest"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/billing"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// witness is an observer that keeps what it is told.
type witness struct {
	mu    sync.Mutex
	ended []task.Task
	heard []billing.Outcome
}

func (w *witness) TaskEnded(t task.Task) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = append(w.ended, t)
}

func (w *witness) PaymentHeard(o billing.Outcome) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heard = append(w.heard, o)
}

func (w *witness) seen() []task.Task {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]task.Task(nil), w.ended...)
}

// tracedRig is a rig whose engine is traced and observed. open makes its store, with the tracer.
func tracedRig(t *testing.T, open func(*memory.Tracer) ports.Store) (*rig, *memory.Tracer, *witness) {
	t.Helper()
	tracer, seen := memory.NewTracer(), &witness{}
	store := open(tracer)
	r := &rig{t: t, clock: &clock{}, store: store, agents: memory.NewAgents()}
	var err error
	r.Engine, err = app.New(app.Config{
		Store: store, Queue: inprocess.New(store, r.clock.now, inprocess.Options{SweepEvery: 20 * time.Millisecond}), Agents: r.agents,
		Guard: memory.OpenGuard{}, Schema: memory.Schemas{}, Hasher: memory.NewHasher(), Limits: memory.NewLimiter(r.clock.now),
		Now: r.clock.now, NewID: memory.NewID, Random: rand.Reader, Sole: true, Tracer: tracer, Observe: seen,
	})
	require.NoError(t, err)
	return r, tracer, seen
}

func everyTracedStore(t *testing.T, test func(t *testing.T, r *rig, tracer *memory.Tracer, seen *witness)) {
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		r, tracer, seen := tracedRig(t, func(*memory.Tracer) ports.Store { return memory.New(memory.WithReplay()) })
		test(t, r, tracer, seen)
	})
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		r, tracer, seen := tracedRig(t, func(tracer *memory.Tracer) ports.Store {
			path := filepath.Join(t.TempDir(), "nexus.db")
			sqlitetest.Fill(t, path)
			store, err := sqlite.Open(t.Context(), path, sqlite.WithTracer(tracer))
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, store.Close()) })
			return store
		})
		test(t, r, tracer, seen)
	})
}

func named(spans []memory.Span, name string) (out []memory.Span) {
	for _, s := range spans {
		if s.Name == name {
			out = append(out, s)
		}
	}
	return out
}

// Attempts, follow-ups, and what an agent is told of a cancellation are in the trace of who asked for them.
func TestATaskIsOneTrace(t *testing.T) {
	everyTracedStore(t, func(t *testing.T, r *rig, tracer *memory.Tracer, seen *witness) {
		r.work()
		owner, asker := r.user(), r.user()
		attempts := 0
		a := r.agent(owner, 100, func(ctx context.Context, c ports.Call) (ports.Answer, error) {
			require.NotEmpty(t, tracer.Traceparent(ctx), "who calls an agent can say in which trace")
			if attempts++; attempts == 1 {
				return ports.Answer{}, &ports.CallError{Code: task.ErrAgent, Message: "later", Retryable: true}
			}
			if attempts == 2 {
				return ports.Answer{State: ports.AnswerWorking, RemoteTaskID: "r"}, nil
			}
			return echo(ctx, c)
		})
		ctx, request := tracer.Start(t.Context(), ports.SpanWork, "request")
		v, err := r.Tasks.Create(ctx, asker, app.CreateTask{AgentID: a.ID, Title: "Do it"})
		require.NoError(t, err)
		request.End(nil)
		require.Equal(t, task.Completed, r.ended(asker, v.ID).Status)
		var jobs []memory.Span
		require.Eventually(t, func() bool { jobs = named(tracer.Spans(), "task.forward"); return len(jobs) == 3 }, 10*time.Second, 5*time.Millisecond)
		req := named(tracer.Spans(), "request")[0]
		for i, j := range jobs {
			require.Equal(t, req.Trace, j.Trace)
			require.Equal(t, ports.SpanJob, j.Kind)
			require.Equal(t, map[string]string{"nexus.task.id": v.ID, "nexus.job.attempt": string(rune('1' + i))}, j.Attrs)
			require.NoError(t, j.Err)
		}
		require.Len(t, seen.seen(), 1, "once, however often the unit ran")
		require.Equal(t, v.ID, seen.seen()[0].ID)

		r.agents.Handle(a.Endpoint, func(context.Context, ports.Call) (ports.Answer, error) {
			return ports.Answer{State: ports.AnswerWorking, RemoteTaskID: "r"}, nil
		})
		second := r.create(asker, a) // nobody's trace: it begins one
		require.Eventually(t, func() bool {
			now, err := r.store.Read().Tasks.Get(t.Context(), second.ID)
			return err == nil && now.RemoteTaskID != ""
		}, 10*time.Second, 5*time.Millisecond)
		ctx, cancel := tracer.Start(t.Context(), ports.SpanWork, "cancel")
		_, err = r.Tasks.Cancel(ctx, asker, second.ID)
		require.NoError(t, err)
		cancel.End(nil)
		var told []memory.Span
		require.Eventually(t, func() bool { told = named(tracer.Spans(), "task.tell_cancel"); return len(told) == 1 }, 10*time.Second, 5*time.Millisecond)
		require.Equal(t, named(tracer.Spans(), "cancel")[0].Trace, told[0].Trace)
		for _, j := range named(tracer.Spans(), "task.forward") {
			if j.Attrs["nexus.task.id"] == second.ID {
				require.NotEqual(t, req.Trace, j.Trace)
				require.NotEmpty(t, j.Parent, "it is below the unit that enqueued it")
			}
		}
		require.Equal(t, task.Cancelled, seen.seen()[1].Status)
	})
}

// A unit that fails is seen to have failed, and nobody is told of a task that did not end.
func TestAUnitThatFailsEndsNothing(t *testing.T) {
	everyTracedStore(t, func(t *testing.T, r *rig, tracer *memory.Tracer, seen *witness) {
		owner, asker := r.user(), r.user()
		a := r.agent(owner, 100, echo)
		v := r.create(asker, a)
		ctx, stop := context.WithCancel(t.Context())
		stop()
		_, err := r.Tasks.Cancel(ctx, asker, v.ID)
		require.Error(t, err)
		require.Empty(t, seen.seen())
		units := named(tracer.Spans(), "unit of work")
		require.Error(t, units[len(units)-1].Err)
	})
}

// An untraced engine pays nothing for spans.
func TestWithoutATracerSpansCostNothing(t *testing.T) {
	var tracer ports.Tracer = ports.Untraced{}
	ctx := t.Context()
	require.Zero(t, testing.AllocsPerRun(100, func() {
		ctx, span := tracer.Start(tracer.Resume(ctx, "00-x"), ports.SpanJob, "x")
		span.Text("key", http.MethodGet)
		span.Number("n", 1<<40)
		_ = tracer.Traceparent(ctx)
		span.End(nil)
	}))
}
