package app_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/inprocess"
	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/adapters/sqlite"
	"github.com/nexus-protocol/nexus/adapters/sqlite/sqlitetest"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/billing"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/domain/trust"
	"github.com/nexus-protocol/nexus/ports"
)

// clock is the engine's clock in a test: the wall clock and what was skipped.
type clock struct{ skipped atomic.Int64 }

func (c *clock) now() time.Time       { return time.Now().Add(time.Duration(c.skipped.Load())) }
func (c *clock) skip(d time.Duration) { c.skipped.Add(int64(d)) }

// still is a clock that stands but for what is skipped: how fast the test runs is nothing to it.
func (c *clock) still() time.Time {
	return time.Unix(1_800_000_000, 0).Add(time.Duration(c.skipped.Load()))
}

// rig is an engine in memory, with agents that are functions.
type rig struct {
	*app.Engine
	t      *testing.T
	clock  *clock
	store  ports.Store
	agents *memory.Agents
	n      atomic.Int32
}

// everyStore runs a test on an engine over each store.
func everyStore(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		test(t, newRig(t, memory.New(memory.WithReplay())))
	})
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "nexus.db")
		sqlitetest.Fill(t, path)
		store, err := sqlite.Open(t.Context(), path)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, store.Close()) })
		test(t, newRig(t, store))
	})
}

func newRig(t *testing.T, store ports.Store, change ...func(*app.Config)) *rig {
	t.Helper()
	r := &rig{t: t, clock: &clock{}, store: store, agents: memory.NewAgents()}
	r.with(change...)
	return r
}

// with gives the rig an engine of another configuration.
func (r *rig) with(change ...func(*app.Config)) {
	r.t.Helper()
	cfg := app.Config{
		Store: r.store, Queue: inprocess.New(r.store, r.clock.now, inprocess.Options{SweepEvery: 20 * time.Millisecond}), Agents: r.agents,
		Guard: memory.OpenGuard{}, Schema: memory.Schemas{}, Hasher: memory.NewHasher(), Limits: memory.NewLimiter(r.clock.still),
		Events: inprocess.NewEvents(), Now: r.clock.now, NewID: memory.NewID, Random: rand.Reader, Sole: true,
	}
	for _, c := range change {
		c(&cfg)
	}
	engine, err := app.New(cfg)
	require.NoError(r.t, err)
	r.Engine = engine
}

// work runs the worker until the test ends.
func (r *rig) work() { r.t.Cleanup(r.workUntil()) }

// workUntil runs the worker until it is told to stop.
func (r *rig) workUntil() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Worker.Run(ctx, time.Second) }()
	return func() {
		cancel()
		require.NoError(r.t, <-done)
	}
}

func (r *rig) user() identity.Caller {
	r.t.Helper()
	u, err := r.Identity.SignUp(r.t.Context(), app.Credentials{Email: fmt.Sprintf("user%d@example.com", r.n.Add(1)), Password: "long enough"})
	require.NoError(r.t, err)
	return identity.SessionCaller(u, "")
}

func ptr[T any](v T) *T { return &v }

// agent registers an agent of the owner's that answers with f.
func (r *rig) agent(owner identity.Caller, price credits.Amount, f memory.AgentFunc) registry.Agent {
	r.t.Helper()
	endpoint := fmt.Sprintf("http://agent%d.example.com", r.n.Add(1))
	if f != nil {
		r.agents.Handle(endpoint, f)
	}
	a, err := r.Agents.Register(r.t.Context(), owner, registry.Profile{Name: ptr("Agent"), Endpoint: &endpoint, Price: &price})
	require.NoError(r.t, err)
	return a
}

func echo(_ context.Context, c ports.Call) (ports.Answer, error) {
	return ports.Answer{State: ports.AnswerDone, Artifacts: []task.Artifact{{ID: "a", Name: "echo", Parts: c.Message.Parts}}}, nil
}

func (r *rig) create(c identity.Caller, a registry.Agent) app.TaskView {
	r.t.Helper()
	v, err := r.Tasks.Create(r.t.Context(), c, app.CreateTask{AgentID: a.ID, Title: "Do it", Input: json.RawMessage(`{"x":1}`)})
	require.NoError(r.t, err)
	return v
}

func (r *rig) ended(c identity.Caller, id string) app.TaskView {
	r.t.Helper()
	var v app.TaskView
	require.Eventually(r.t, func() bool {
		var err error
		v, err = r.Tasks.Get(r.t.Context(), c, id)
		require.NoError(r.t, err)
		return v.Status.Ended()
	}, 10*time.Second, time.Millisecond)
	return v
}

func (r *rig) balance(c identity.Caller) ledger.Balance {
	r.t.Helper()
	b, err := r.Billing.Balance(r.t.Context(), c)
	require.NoError(r.t, err)
	require.True(r.t, b.Consistent(), "%+v", b)
	report, err := r.Billing.Verify(r.t.Context(), nil)
	require.NoError(r.t, err)
	require.Empty(r.t, report.Findings)
	sum, err := r.store.Read().Ledger.Imbalance(r.t.Context())
	require.NoError(r.t, err)
	require.Zero(r.t, sum, "all entries add up to nothing")
	return b
}

func (r *rig) refused(err error, code fault.Code) {
	r.t.Helper()
	require.True(r.t, fault.Has(err, code), "want %s, got %v", code, err)
}

func TestATaskIsDonePaidAndRemembered(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		asker, owner := r.user(), r.user()
		a := r.agent(owner, credits.Whole(10), echo)
		require.Equal(t, registry.Online, a.Status)

		created := r.create(asker, a)
		require.Equal(t, task.Assigned, created.Status)
		done := r.ended(asker, created.ID)
		require.Equal(t, task.Completed, done.Status)
		require.JSONEq(t, `{"x":1}`, string(done.Output))
		require.Len(t, done.Messages, 1)
		require.Len(t, done.Artifacts, 1)
		require.Equal(t, 1, done.Attempts)

		require.Equal(t, credits.Whole(990), r.balance(asker).Available)
		require.Zero(t, r.balance(asker).Held)
		require.Equal(t, credits.Amount(100_950), r.balance(owner).Available)

		p, err := r.Trust.Profile(t.Context(), asker, a.ID)
		require.NoError(t, err)
		require.Len(t, p.Recent, 1)
		require.Equal(t, trust.TaskCompleted, p.Recent[0].Type)
		found, err := r.Agents.Get(t.Context(), asker, a.ID)
		require.NoError(t, err)
		require.Equal(t, p.Score, found.TrustScore)

		usage, err := r.Billing.Usage(t.Context(), asker, "7d")
		require.NoError(t, err)
		require.Len(t, usage.Daily, 7)
		require.Equal(t, credits.Whole(10), usage.TotalSpent)
		require.Equal(t, credits.Whole(10), usage.Daily[6].Spent)

		left, err := r.store.Read().Jobs.Due(t.Context(), r.clock.now(), 10)
		require.NoError(t, err)
		require.Empty(t, left, "no job is left behind")
	})
}

func TestATaskOfOnesOwnAgentCostsNothingAndProvesNothing(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		me := r.user()
		a := r.agent(me, credits.Whole(10), echo)
		r.ended(me, r.create(me, a).ID)
		require.Equal(t, credits.Whole(1000), r.balance(me).Available)
		p, err := r.Trust.Profile(t.Context(), me, a.ID)
		require.NoError(t, err)
		require.Equal(t, 47.5, p.Score)
		require.Len(t, p.Recent, 1, "it is noted all the same")
	})
}

func TestFailuresGiveTheMoneyBack(t *testing.T) {
	for name, c := range map[string]struct {
		err      error
		answer   ports.Answer
		panics   bool
		code     string
		attempts int
	}{
		"an error that will not go away": {err: &ports.CallError{Code: task.ErrProtocol, Message: "HTML"}, code: task.ErrProtocol, attempts: 1},
		"unreachable":                    {err: &ports.CallError{Code: task.ErrUnreachable, Message: "refused", Retryable: true, Unreachable: true}, code: task.ErrUnreachable, attempts: 3},
		"the agent says so":              {answer: ports.Answer{State: ports.AnswerFailed, Reason: "no idea"}, code: task.ErrAgentFailed, attempts: 1},
		"at work, but no id to ask for":  {answer: ports.Answer{State: ports.AnswerWorking}, code: task.ErrProtocol, attempts: 1},
		"a bug of the adapter's":         {err: fmt.Errorf("boom"), code: task.ErrProtocol, attempts: 1},
		"a panic of the adapter's":       {panics: true, code: task.ErrProtocol, attempts: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, memory.New(memory.WithReplay()))
			r.work()
			asker, owner := r.user(), r.user()
			var calls atomic.Int32
			var mu sync.Mutex
			seen := map[string]bool{}
			a := r.agent(owner, credits.Whole(10), func(_ context.Context, call ports.Call) (ports.Answer, error) {
				calls.Add(1)
				mu.Lock()
				defer mu.Unlock()
				seen[call.Message.ID] = true
				if c.panics {
					panic("boom")
				}
				return c.answer, c.err
			})
			v := r.ended(asker, r.create(asker, a).ID)
			require.Equal(t, task.Failed, v.Status)
			require.Equal(t, c.code, v.Error.Code)
			require.NotEmpty(t, v.Error.Message)
			require.Equal(t, c.attempts, v.Attempts)
			require.EqualValues(t, c.attempts, calls.Load())
			require.Len(t, seen, 1, "the same message id on each attempt")
			require.Zero(t, v.Cost())
			b := r.balance(asker)
			require.Equal(t, credits.Whole(1000), b.Available)
			require.Equal(t, credits.Whole(1000), r.balance(owner).Available)
			p, err := r.Trust.Profile(t.Context(), asker, a.ID)
			require.NoError(t, err)
			require.Equal(t, trust.TaskFailed, p.Recent[0].Type)
			got, err := r.Agents.Get(t.Context(), asker, a.ID)
			require.NoError(t, err)
			want := registry.Online
			if c.code == task.ErrUnreachable {
				want = registry.Degraded
			}
			require.Equal(t, want, got.Status)
		})
	}
}

func TestAnAgentThatWorksIsFollowedToTheEnd(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		asker, owner := r.user(), r.user()
		var calls atomic.Int32
		a := r.agent(owner, credits.Whole(10), func(_ context.Context, c ports.Call) (ports.Answer, error) {
			if calls.Add(1) < 3 {
				return ports.Answer{State: ports.AnswerWorking, RemoteTaskID: "remote"}, nil
			}
			if c.RemoteTaskID != "remote" {
				return ports.Answer{}, fmt.Errorf("asked for %q", c.RemoteTaskID)
			}
			return ports.Answer{State: ports.AnswerDone, Messages: []task.Message{{ID: "m", Role: task.RoleAgent, Parts: []task.Part{task.TextPart("done")}}}}, nil
		})
		v := r.ended(asker, r.create(asker, a).ID)
		require.Equal(t, task.Completed, v.Status)
		require.Equal(t, 1, v.Attempts, "asking how it is getting on is no attempt")
		require.JSONEq(t, `{"text":"done"}`, string(v.Output))
	})
}

func TestTimeOut(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		asker, owner := r.user(), r.user()
		a := r.agent(owner, credits.Whole(10), func(ctx context.Context, _ ports.Call) (ports.Answer, error) {
			<-ctx.Done()
			return ports.Answer{}, ctx.Err()
		})
		v := r.create(asker, a)
		require.Eventually(t, func() bool {
			now, err := r.Tasks.Get(t.Context(), asker, v.ID)
			return err == nil && now.Status == task.Running
		}, 5*time.Second, time.Millisecond)
		require.Equal(t, credits.Whole(10), r.balance(asker).Held)
		r.clock.skip(v.Timeout)
		v = r.ended(asker, v.ID)
		require.Equal(t, task.ErrTimeout, v.Error.Code)
		require.Equal(t, credits.Whole(1000), r.balance(asker).Available)
		p, err := r.Trust.Profile(t.Context(), asker, a.ID)
		require.NoError(t, err)
		require.Equal(t, trust.TaskTimeout, p.Recent[0].Type)
	})
}

func TestCancel(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		asker, owner, other := r.user(), r.user(), r.user()
		stopped := make(chan struct{})
		a := r.agent(owner, credits.Whole(10), func(ctx context.Context, _ ports.Call) (ports.Answer, error) {
			<-ctx.Done()
			close(stopped)
			return ports.Answer{State: ports.AnswerDone}, nil // a late answer
		})
		v := r.create(asker, a)
		require.Eventually(t, func() bool {
			now, err := r.Tasks.Get(t.Context(), owner, v.ID)
			return err == nil && now.Status == task.Running
		}, 5*time.Second, time.Millisecond)

		_, err := r.Tasks.Cancel(t.Context(), other, v.ID)
		r.refused(err, fault.CodeTaskNotFound)
		_, err = r.Tasks.Cancel(t.Context(), owner, v.ID)
		r.refused(err, fault.CodeForbidden)
		out, err := r.Tasks.Cancel(t.Context(), asker, v.ID)
		require.NoError(t, err)
		require.Equal(t, task.Cancelled, out.Status)
		require.Len(t, out.Messages, 1)
		<-stopped
		again, err := r.Tasks.Cancel(t.Context(), asker, v.ID)
		require.NoError(t, err, "a second cancel changes nothing")
		require.Equal(t, out.UpdatedAt, again.UpdatedAt)
		require.Eventually(t, func() bool {
			n, err := r.store.Read().Jobs.Due(t.Context(), r.clock.now(), 9)
			return err == nil && len(n) == 0
		}, 5*time.Second, time.Millisecond)
		now, err := r.Tasks.Get(t.Context(), asker, v.ID)
		require.NoError(t, err)
		require.Equal(t, task.Cancelled, now.Status, "a late answer changes nothing")
		require.Equal(t, credits.Whole(1000), r.balance(asker).Available)
		_, total, err := r.store.Read().Trust.Events(t.Context(), a.ID, ports.Page{Limit: 9})
		require.NoError(t, err)
		require.Zero(t, total, "a cancelled task is no evidence")
	})
}

func TestCancelsRaceACompletion(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		asker, owner := r.user(), r.user()
		a := r.agent(owner, credits.Whole(1), echo)
		var cancelled, completed int
		for range 40 {
			v := r.create(asker, a)
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() {
					if _, err := r.Tasks.Cancel(t.Context(), asker, v.ID); err != nil && !fault.Has(err, fault.CodeTaskNotActive) {
						t.Errorf("cancel: %v", err)
					}
				})
			}
			wg.Wait()
			switch r.ended(asker, v.ID).Status {
			case task.Cancelled:
				cancelled++
			case task.Completed:
				completed++
			}
		}
		require.Equal(t, 40, cancelled+completed)
		require.Equal(t, credits.Whole(1000)-credits.Whole(int64(completed)), r.balance(asker).Available)
	})
}

func TestRaceForTheLastCredits(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		// nobody works: the holds stay
		asker, owner := r.user(), r.user()
		a := r.agent(owner, credits.Whole(300), echo)
		var won, lost atomic.Int32
		var wg sync.WaitGroup
		for range 12 {
			wg.Go(func() {
				_, err := r.Tasks.Create(t.Context(), asker, app.CreateTask{AgentID: a.ID, Title: "x"})
				switch {
				case err == nil:
					won.Add(1)
				case fault.Has(err, fault.CodeInsufficientCredits):
					lost.Add(1)
				default:
					t.Errorf("unexpected: %v", err)
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, 3, won.Load())
		require.EqualValues(t, 9, lost.Load())
		b := r.balance(asker)
		require.Equal(t, credits.Whole(100), b.Available)
		require.Equal(t, credits.Whole(900), b.Held)
		mine, err := r.Tasks.List(t.Context(), asker, app.TaskQuery{})
		require.NoError(t, err)
		require.Equal(t, 3, mine.Total, "a task that cannot be paid is not there at all")
	})
}

func TestWhoMayBeGivenATask(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		asker, owner := r.user(), r.user()
		a := r.agent(owner, credits.Whole(10), echo)
		create := func(in app.CreateTask) error {
			in.Title = "x"
			if in.AgentID == "" {
				in.AgentID = a.ID
			}
			_, err := r.Tasks.Create(t.Context(), asker, in)
			return err
		}
		r.refused(create(app.CreateTask{AgentID: "unknown"}), fault.CodeAgentNotFound)
		r.refused(create(app.CreateTask{MinTrust: ptr(47.6)}), fault.CodeTrustThreshold)
		require.NoError(t, create(app.CreateTask{MinTrust: ptr(47.5)}))
		r.refused(create(app.CreateTask{MinTrust: ptr(101.0)}), fault.CodeValidation)
		r.refused(create(app.CreateTask{MaxBudget: ptr(credits.Amount(999))}), fault.CodeInsufficientCredits)
		r.refused(create(app.CreateTask{SkillID: "none"}), fault.CodeValidation)
		_, err := r.Agents.Heartbeat(t.Context(), owner, a.ID, "", nil)
		require.NoError(t, err)
		r.clock.skip(registry.DegradedAfter)
		require.NoError(t, create(app.CreateTask{}), "a degraded agent still takes tasks")
		r.clock.skip(registry.OfflineAfter)
		r.refused(create(app.CreateTask{}), fault.CodeAgentOffline)
		_, err = r.Tasks.Create(t.Context(), identity.Caller{}, app.CreateTask{AgentID: a.ID, Title: "x"})
		r.refused(err, fault.CodeUnauthorized)
	})
}

func TestDeletingAnAgent(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		asker, owner := r.user(), r.user()
		a := r.agent(owner, credits.Whole(1), echo)
		k, err := r.Identity.CreateKey(t.Context(), owner, a.ID, identity.NewKey{Name: "k", Scopes: []string{"*"}})
		require.NoError(t, err)
		_, err = r.Identity.ByKey(t.Context(), string(k.Secret))
		require.NoError(t, err)
		var ids []string
		for range 150 { // more than one commit cancels
			ids = append(ids, r.create(asker, a).ID)
		}
		_, err = r.Agents.Delete(t.Context(), asker, a.ID)
		r.refused(err, fault.CodeForbidden)
		_, err = r.Agents.Delete(t.Context(), owner, a.ID)
		require.NoError(t, err)
		r.work()

		_, err = r.Identity.ByKey(t.Context(), string(k.Secret))
		r.refused(err, fault.CodeUnauthorized)
		_, err = r.Agents.Get(t.Context(), owner, a.ID)
		r.refused(err, fault.CodeAgentNotFound)
		_, err = r.Agents.Heartbeat(t.Context(), owner, a.ID, "", nil)
		r.refused(err, fault.CodeAgentNotFound)
		for _, id := range ids {
			require.Equal(t, task.Cancelled, r.ended(asker, id).Status)
		}
		require.Equal(t, credits.Whole(1000), r.balance(asker).Available)
		_, err = r.Trust.History(t.Context(), asker, a.ID, app.Page{})
		require.NoError(t, err, "its history stays readable")
	})
}

func TestRating(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		asker, owner, other := r.user(), r.user(), r.user()
		a := r.agent(owner, 0, echo)
		v := r.ended(asker, r.create(asker, a).ID)
		rate := func(c identity.Caller, agentID, taskID string, stars int) error {
			_, err := r.Trust.Rate(t.Context(), c, agentID, app.RateAgent{TaskID: taskID, Stars: stars, Comment: "fine"})
			return err
		}
		r.refused(rate(other, a.ID, v.ID, 5), fault.CodeTaskNotFound)
		r.refused(rate(owner, a.ID, v.ID, 5), fault.CodeForbidden)
		r.refused(rate(asker, a.ID, v.ID, 6), fault.CodeValidation)
		b := r.agent(owner, 0, nil)
		r.refused(rate(asker, b.ID, v.ID, 5), fault.CodeValidation)
		require.NoError(t, rate(asker, a.ID, v.ID, 5))
		r.refused(rate(asker, a.ID, v.ID, 5), fault.CodeAlreadyRated)
	})
}

func TestProbing(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		owner := r.user()
		a := r.agent(owner, 0, nil)
		require.Equal(t, registry.Offline, a.Status, "nobody answered; registering did not fail for it")
		is := func(want registry.Status) func() bool {
			return func() bool {
				now, err := r.Agents.Get(t.Context(), owner, a.ID)
				return err == nil && now.Status == want
			}
		}
		r.agents.Handle(a.Endpoint, echo)
		r.clock.skip(registry.ProbeEvery)
		require.Eventually(t, is(registry.Online), 5*time.Second, time.Millisecond)
		r.agents.Handle(a.Endpoint, nil)
		r.clock.skip(registry.ProbeEvery)
		require.Eventually(t, is(registry.Offline), 5*time.Second, time.Millisecond)
		_, err := r.Agents.Heartbeat(t.Context(), owner, a.ID, "", nil)
		require.NoError(t, err)
		r.clock.skip(registry.ProbeEvery)
		require.Eventually(t, func() bool { n, err := r.store.Read().Jobs.Count(t.Context()); return err == nil && n == 0 }, 5*time.Second, time.Millisecond,
			"an agent that sends heartbeats is not probed any more")
	})
}

func TestSessions(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		in := app.Credentials{Email: "Ann@Example.com", Password: "correct horse"}
		u, err := r.Identity.SignUp(t.Context(), in)
		require.NoError(t, err)
		require.Equal(t, identity.RoleAdmin, u.Role, "the first is the admin")
		second, err := r.Identity.SignUp(t.Context(), app.Credentials{Email: "bob@example.com", Password: "correct horse"})
		require.NoError(t, err)
		require.Equal(t, identity.RoleUser, second.Role)
		_, err = r.Identity.SignUp(t.Context(), in)
		r.refused(err, fault.CodeEmailTaken)

		_, _, err = r.Identity.LogIn(t.Context(), app.Credentials{Email: in.Email, Password: "wrong horse"}, "")
		r.refused(err, fault.CodeUnauthorized)
		_, one, err := r.Identity.LogIn(t.Context(), in, "")
		require.NoError(t, err)
		c, _, err := r.Identity.BySession(t.Context(), one)
		require.NoError(t, err)
		require.Equal(t, u.ID, c.UserID)
		_, two, err := r.Identity.LogIn(t.Context(), in, one)
		require.NoError(t, err)
		_, _, err = r.Identity.BySession(t.Context(), one)
		r.refused(err, fault.CodeUnauthorized) // rotated
		c, _, err = r.Identity.BySession(t.Context(), two)
		require.NoError(t, err)

		r.clock.skip(identity.SessionIdle - time.Hour)
		_, extended, err := r.Identity.BySession(t.Context(), two)
		require.NoError(t, err)
		require.True(t, extended)
		r.clock.skip(2 * time.Hour)
		_, _, err = r.Identity.BySession(t.Context(), two)
		require.NoError(t, err, "use extends it")
		require.NoError(t, r.Identity.LogOut(t.Context(), c))
		_, _, err = r.Identity.BySession(t.Context(), two)
		r.refused(err, fault.CodeUnauthorized)

		for range 11 {
			_, _, err = r.Identity.LogIn(t.Context(), app.Credentials{Email: in.Email, Password: "guess"}, "")
		}
		r.refused(err, fault.CodeRateLimitExceeded)
	})
}

func TestKeys(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		owner, other := r.user(), r.user()
		a := r.agent(owner, 0, echo)
		_, err := r.Identity.CreateKey(t.Context(), other, a.ID, identity.NewKey{Name: "k", Scopes: []string{"*"}})
		r.refused(err, fault.CodeForbidden)
		key, err := r.Identity.CreateKey(t.Context(), owner, a.ID, identity.NewKey{Name: "k", Scopes: []string{"tasks:write"}, ExpiresInDays: ptr(1)})
		require.NoError(t, err)
		c, err := r.Identity.ByKey(t.Context(), string(key.Secret))
		require.NoError(t, err)
		require.Equal(t, a.ID, c.AgentID)
		require.Equal(t, owner.UserID, c.UserID)
		list, err := r.Identity.ListKeys(t.Context(), owner, a.ID)
		require.NoError(t, err)
		require.NotNil(t, list[0].LastUsedAt)

		v := r.create(c, a)
		require.Equal(t, a.ID, v.RequesterAgentID)
		_, err = r.Tasks.Get(t.Context(), c, v.ID)
		f, _ := fault.As(err)
		require.Equal(t, "tasks:read", f.Details["requiredScope"])

		_, err = r.Identity.ByKey(t.Context(), string(key.Secret)[:len(key.Secret)-1])
		r.refused(err, fault.CodeUnauthorized)
		require.NoError(t, r.Identity.RevokeKey(t.Context(), owner, a.ID, key.ID))
		_, err = r.Identity.ByKey(t.Context(), string(key.Secret))
		r.refused(err, fault.CodeUnauthorized)
		late, err := r.Identity.CreateKey(t.Context(), owner, a.ID, identity.NewKey{Name: "k", Scopes: []string{"*"}, ExpiresInDays: ptr(1)})
		require.NoError(t, err)
		r.clock.skip(24 * time.Hour)
		_, err = r.Identity.ByKey(t.Context(), string(late.Secret))
		r.refused(err, fault.CodeUnauthorized)
	})
}

func TestAHeartbeatRacesADelete(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		owner := r.user()
		for range 20 {
			a := r.agent(owner, 0, nil)
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() {
					if _, err := r.Agents.Heartbeat(t.Context(), owner, a.ID, "", nil); err != nil && !fault.Has(err, fault.CodeAgentNotFound) {
						t.Errorf("heartbeat: %v", err)
					}
				})
			}
			wg.Go(func() {
				if _, err := r.Agents.Delete(t.Context(), owner, a.ID); err != nil {
					t.Errorf("delete: %v", err)
				}
			})
			wg.Wait()
			_, err := r.Agents.Get(t.Context(), owner, a.ID)
			r.refused(err, fault.CodeAgentNotFound)
		}
	})
}

func TestConfigNamesEverythingThatIsMissing(t *testing.T) {
	_, err := app.New(app.Config{})
	for _, field := range []string{"Store", "Queue", "Agents", "Guard", "Schema", "Hasher", "Limits", "Now", "NewID", "Random"} {
		require.ErrorContains(t, err, "Config."+field+" ")
	}
}

// An agent may ask back, more than once; each reply goes to it in the same context, once and in order.
func TestAReplyGoesOnWhereTheAgentAsked(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		asker, owner := r.user(), r.user()
		var heard []string
		var mu sync.Mutex
		a := r.agent(owner, credits.Whole(10), func(_ context.Context, c ports.Call) (ports.Answer, error) {
			mu.Lock()
			defer mu.Unlock()
			heard = append(heard, c.Message.ID+" "+string(c.Message.Parts[0].Data)+" "+c.RemoteTaskID+" "+c.ContextID)
			if len(heard) < 3 {
				ask := task.Message{ID: fmt.Sprint("q", len(heard)), Role: task.RoleAgent, Parts: []task.Part{task.TextPart("which one?")}}
				return ports.Answer{State: ports.AnswerInputRequired, Messages: []task.Message{ask}, RemoteTaskID: "remote", ContextID: "context"}, nil
			}
			return ports.Answer{State: ports.AnswerDone, Artifacts: []task.Artifact{{ID: "a", Parts: []task.Part{task.TextPart("done")}}}}, nil
		})
		v := r.create(asker, a)
		waits := func() app.TaskView {
			t.Helper()
			var now app.TaskView
			require.Eventually(t, func() bool {
				var err error
				now, err = r.Tasks.Get(t.Context(), asker, v.ID)
				return err == nil && now.AwaitsInput
			}, 5*time.Second, time.Millisecond)
			return now
		}
		reply := func(text string) app.TaskView {
			t.Helper()
			out, err := r.Tasks.Reply(t.Context(), asker, v.ID, app.ReplyTask{Role: task.RoleUser, Parts: []task.Part{task.TextPart(text)}})
			require.NoError(t, err)
			return out
		}
		now := waits()
		require.Equal(t, task.Running, now.Status)
		require.Len(t, now.Messages, 2)
		require.False(t, reply("the first").AwaitsInput)
		waits()
		_, err := r.Tasks.Reply(t.Context(), owner, v.ID, app.ReplyTask{Role: task.RoleUser, Parts: []task.Part{task.TextPart("x")}})
		r.refused(err, fault.CodeForbidden)
		reply("the second")
		done := r.ended(asker, v.ID)
		require.Equal(t, task.Completed, done.Status)
		require.Equal(t, 3, done.Attempts)
		require.False(t, done.AwaitsInput)
		require.JSONEq(t, `{"text":"done"}`, string(done.Output))
		require.Equal(t, credits.Whole(990), r.balance(asker).Available)
		mu.Lock()
		defer mu.Unlock()
		require.Len(t, heard, 3)
		require.Equal(t, v.ID+` "Do it"  `, heard[0])
		require.Contains(t, heard[1], `"the first" remote context`)
		require.Contains(t, heard[2], `"the second" remote context`)
		var states []string
		watched := <-r.watch(t.Context(), asker, v.ID, 0)
		require.NoError(t, watched.err)
		for _, e := range watched.events {
			if e.Kind == task.EventStatus {
				states = append(states, fmt.Sprint(e.Status, " ", e.AwaitsInput))
			}
		}
		require.Equal(t, []string{"assigned false", "running false", "running true", "running false", "running true", "running false"}, states)
		require.Eventually(t, func() bool { n, err := r.store.Read().Jobs.Count(t.Context()); return err == nil && n == 1 }, 5*time.Second, time.Millisecond,
			"only the agent's probe is left")
	})
}

// What the requester says while the agent is being called goes to it next, and what it says too late is kept.
// What an agent that calls in by itself said and made on the way is part of its answer.
func TestAnAnswerThatCameInPieces(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) { // nobody calls it
		asker, owner := r.user(), r.user()
		v := r.create(asker, r.agent(owner, credits.Whole(1), echo))
		made := []task.Artifact{{Name: "result", Parts: []task.Part{{Type: task.PartData, Data: json.RawMessage(`{"sum":3}`)}}}}
		_, err := r.Tasks.Reply(t.Context(), owner, v.ID, app.ReplyTask{Role: task.RoleAgent, Artifacts: made, Status: task.Running})
		require.NoError(t, err)
		done, err := r.Tasks.Reply(t.Context(), owner, v.ID, app.ReplyTask{Role: task.RoleAgent, Status: task.Completed})
		require.NoError(t, err)
		require.Equal(t, task.Completed, done.Status)
		require.JSONEq(t, `{"sum":3}`, string(done.Output))
		require.Len(t, done.Artifacts, 1)
	})
}

// An agent that asked something, and then goes on without an answer, is followed to the end.
func TestAnAgentThatGoesOnByItselfIsFollowed(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		asker, owner := r.user(), r.user()
		var calls atomic.Int32
		a := r.agent(owner, credits.Whole(10), func(context.Context, ports.Call) (ports.Answer, error) {
			said := []task.Message{{ID: fmt.Sprint(calls.Load()), Role: task.RoleAgent, Parts: []task.Part{task.TextPart("well")}}}
			if calls.Add(1) == 1 {
				return ports.Answer{State: ports.AnswerInputRequired, Messages: said, RemoteTaskID: "remote"}, nil
			}
			return ports.Answer{State: ports.AnswerDone, Messages: said, RemoteTaskID: "remote"}, nil
		})
		v := r.create(asker, a)
		require.Eventually(t, func() bool {
			v, err := r.Tasks.Get(t.Context(), asker, v.ID)
			return err == nil && v.AwaitsInput
		}, 10*time.Second, time.Millisecond)
		v, err := r.Tasks.Reply(t.Context(), owner, v.ID, app.ReplyTask{Role: task.RoleAgent, Parts: []task.Part{task.TextPart("never mind")}})
		require.NoError(t, err)
		require.False(t, v.AwaitsInput)
		v = r.ended(asker, v.ID)
		require.Equal(t, task.Completed, v.Status)
		require.Equal(t, 1, v.Attempts)
	})
}

func TestAReplyDuringACallIsNotLost(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		asker, owner := r.user(), r.user()
		in, out := make(chan string, 4), make(chan ports.AnswerState)
		a := r.agent(owner, 0, func(ctx context.Context, c ports.Call) (ports.Answer, error) {
			in <- string(c.Message.Parts[0].Data)
			select {
			case state := <-out:
				return ports.Answer{State: state, ContextID: "context"}, nil
			case <-ctx.Done():
				return ports.Answer{}, ctx.Err()
			}
		})
		v := r.create(asker, a)
		require.Equal(t, `"Do it"`, <-in)
		for _, text := range []string{"one", "two"} {
			_, err := r.Tasks.Reply(t.Context(), asker, v.ID, app.ReplyTask{Role: task.RoleUser, Parts: []task.Part{task.TextPart(text)}})
			require.NoError(t, err)
		}
		out <- ports.AnswerInputRequired
		require.Equal(t, `"one"`, <-in)
		out <- ports.AnswerInputRequired
		require.Equal(t, `"two"`, <-in)
		_, err := r.Tasks.Reply(t.Context(), asker, v.ID, app.ReplyTask{Role: task.RoleUser, Parts: []task.Part{task.TextPart("three")}})
		require.NoError(t, err)
		out <- ports.AnswerDone
		done := r.ended(asker, v.ID)
		require.Equal(t, task.Completed, done.Status)
		require.Len(t, done.Messages, 4)
		require.Empty(t, in)
	})
}

// Tasks wait for an agent that is offline, and go to it when it is back; those that come at that moment too.
func TestTasksWaitForAnAgentThatIsOffline(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		asker, owner := r.user(), r.user()
		a := r.agent(owner, credits.Whole(1), nil)
		queue := func() (app.TaskView, error) {
			return r.Tasks.Create(t.Context(), asker, app.CreateTask{AgentID: a.ID, Title: "x", QueueIfOffline: true})
		}
		var mu sync.Mutex
		var ids []string
		var wg sync.WaitGroup
		first, err := queue()
		require.NoError(t, err)
		require.Equal(t, task.Pending, first.Status)
		r.agents.Handle(a.Endpoint, echo)
		for range 20 {
			wg.Go(func() {
				v, err := queue()
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				ids = append(ids, v.ID)
			})
		}
		_, err = r.Agents.Heartbeat(t.Context(), owner, a.ID, "", nil)
		require.NoError(t, err)
		wg.Wait()
		for _, id := range append(ids, first.ID) {
			require.Equal(t, task.Completed, r.ended(asker, id).Status)
		}
		require.Equal(t, credits.Whole(979), r.balance(asker).Available)
	})
}

// An agent that takes its time is called no more often at once than it may be, and others are served meanwhile.
func TestASlowAgentLeavesRoomForOthers(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.with(func(c *app.Config) { c.MaxCalls, c.MaxCallsPerAgent = 4, 2 })
		r.work()
		asker, owner := r.user(), r.user()
		var now, most, all atomic.Int32
		release := make(chan struct{})
		slow := r.agent(owner, 0, func(ctx context.Context, c ports.Call) (ports.Answer, error) {
			all.Add(1)
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer now.Add(-1)
			select {
			case <-release:
				return echo(ctx, c)
			case <-ctx.Done():
				return ports.Answer{}, ctx.Err()
			}
		})
		quick := r.agent(owner, 0, echo)
		var tasks []app.TaskView
		for range 12 {
			tasks = append(tasks, r.create(asker, slow))
		}
		require.Eventually(t, func() bool { return now.Load() == 2 }, 5*time.Second, time.Millisecond)
		for range 5 {
			require.Equal(t, task.Completed, r.ended(asker, r.create(asker, quick).ID).Status)
		}
		waits := tasks[3]
		for _, v := range tasks { // one that has not begun
			if v, err := r.Tasks.Get(t.Context(), asker, v.ID); err == nil && v.Status == task.Assigned {
				waits = v
			}
		}
		require.Equal(t, task.Assigned, waits.Status)
		_, err := r.Tasks.Cancel(t.Context(), asker, waits.ID)
		require.NoError(t, err)
		close(release)
		for _, v := range tasks {
			r.clock.skip(time.Second) // for those that were told to come again
			if v.ID != waits.ID {
				require.Equal(t, task.Completed, r.ended(asker, v.ID).Status)
			}
		}
		require.Equal(t, task.Cancelled, r.ended(asker, waits.ID).Status)
		require.EqualValues(t, 2, most.Load())
		require.EqualValues(t, len(tasks)-1, all.Load(), "each was called once, and the cancelled one never")
	})
}

// Tasks that wait for an agent's turn do not hold up a worker that stops, and are taken up by the next.
// Calls that take every place, and tasks beyond number that wait for one, leave room for all other work.
func TestCallsLeaveRoomForOtherWork(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		p := &provider{Payments: memory.NewPayments(r.clock.now)}
		r.with(func(c *app.Config) { c.MaxCalls, c.Payments = 2, p })
		r.work()
		asker, owner := r.user(), r.user()
		var began atomic.Int32
		release := make(chan struct{})
		hangs := func(ctx context.Context, c ports.Call) (ports.Answer, error) {
			began.Add(1)
			select {
			case <-release:
				return echo(ctx, c)
			case <-ctx.Done():
				return ports.Answer{}, ctx.Err()
			}
		}
		var tasks []app.TaskView
		for i := range 150 { // more than a queue hands over at once
			a := r.agent(owner, 0, hangs)
			tasks = append(tasks, r.create(asker, a))
			if i == 1 {
				require.Eventually(t, func() bool { return began.Load() == 2 }, 10*time.Second, time.Millisecond)
			}
		}
		out, err := r.Billing.Checkout(t.Context(), asker, "starter")
		require.NoError(t, err)
		d, err := p.Pay(out.SessionID)
		require.NoError(t, err)
		require.NoError(t, r.Billing.Receive(t.Context(), d))
		require.Eventually(t, func() bool { return r.purchases(asker)[0].Status == billing.Paid }, 20*time.Second, 5*time.Millisecond)
		require.EqualValues(t, 2, began.Load())
		close(release)
		for _, v := range tasks {
			require.Equal(t, task.Completed, r.ended(asker, v.ID).Status)
		}
		require.EqualValues(t, len(tasks), began.Load())
	})
}

func TestAStoppedWorkerGivesUpWhatWaits(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.with(func(c *app.Config) { c.MaxCallsPerAgent = 1 })
		asker, owner := r.user(), r.user()
		began := make(chan struct{}, 2)
		a := r.agent(owner, 0, func(ctx context.Context, c ports.Call) (ports.Answer, error) {
			began <- struct{}{}
			<-ctx.Done()
			return ports.Answer{}, ctx.Err()
		})
		tasks := []app.TaskView{r.create(asker, a), r.create(asker, a)}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Worker.Run(ctx, 50*time.Millisecond) }()
		<-began
		time.Sleep(20 * time.Millisecond) // the other waits
		stop()
		require.NoError(t, <-done)
		require.Empty(t, began, "nothing was begun after the stop")
		r.agents.Handle(a.Endpoint, echo)
		r.work()
		for _, v := range tasks {
			require.Equal(t, task.Completed, r.ended(asker, v.ID).Status)
		}
	})
}

func TestAWorkerThatIsStoppedBeforeItBegan(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		ctx, stop := context.WithCancel(t.Context())
		stop()
		require.NoError(t, r.Worker.Run(ctx, time.Second))
	})
}

// A worker that stops in the middle of a call gives the job up, and the next one takes it up at once.
type brokenQueue struct{ ports.Queue }

func (brokenQueue) Run(context.Context, func(context.Context, string) error) error { return errBroken }

// A worker whose queue fails does not seem to work.
func TestAWorkerWhoseQueueFails(t *testing.T) {
	t.Parallel()
	r := newRig(t, memory.New(), func(c *app.Config) { c.Queue = brokenQueue{c.Queue} })
	done := make(chan error, 1)
	go func() { done <- r.Worker.Run(t.Context(), time.Second) }()
	select {
	case err := <-done:
		require.ErrorIs(t, err, errBroken)
	case <-time.After(20 * time.Second):
		t.Fatal("it goes on without a queue")
	}
}

func TestAStoppedWorkerLeavesItsTasksToTheNext(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		asker, owner := r.user(), r.user()
		var calls atomic.Int32
		a := r.agent(owner, credits.Whole(10), func(ctx context.Context, c ports.Call) (ports.Answer, error) {
			if calls.Add(1) == 1 {
				<-ctx.Done()
				return ports.Answer{}, ctx.Err()
			}
			return echo(ctx, c)
		})
		v := r.create(asker, a)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Worker.Run(ctx, 10*time.Millisecond) }()
		require.Eventually(t, func() bool { return calls.Load() == 1 }, 5*time.Second, time.Millisecond)
		stop()
		require.NoError(t, <-done)
		r.work()
		require.Equal(t, task.Completed, r.ended(asker, v.ID).Status)
		require.Equal(t, credits.Whole(990), r.balance(asker).Available)
	})
}
