package app

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/scheduler"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// The simulation is the whole engine in a world that a seed makes: two processes on one store, clients, agents, a clock, and
// whatever goes wrong. Everything happens on one goroutine, in an order that the seed gives: while an agent is being called
// the world goes on, inside of the call, so others claim, cancel, reply, time out and crash meanwhile. Nothing depends on
// how goroutines are scheduled, so a seed that fails does so again, to the last event.
//
// Jobs are handed over by no queue: each that is due may come next, or twice, or to the other process, or late, which is
// the worst that a queue may do.
type sim struct {
	t      *testing.T
	dice   *rand.Rand
	now    time.Time
	ids    int
	store  *memory.Store
	agents *memory.Agents
	procs  [2]*process
	calm   bool // nothing fails any more
	depth  int  // of calls within calls
	seen   []string
	tally  map[string]int // of what happened, in all worlds

	asker, owner identity.Caller
	agent        registry.Agent
	flows        []scheduler.Workflow
	runs         []*scheduler.Run
}

// process is a running engine and its view of the store. A dead one gets nothing done any more.
type process struct {
	*Engine
	sim  *sim
	dead bool
}

var errDown = fault.New(fault.Unavailable, fault.CodeUnavailable, "the store is away")

// Update implements ports.Store: at times it fails, or fails to tell that it did not.
func (p *process) Update(ctx context.Context, fn func(ctx context.Context, tx ports.Tx) error) error {
	lost := false
	if !p.sim.calm && !p.dead {
		switch p.sim.dice.IntN(40) {
		case 0:
			p.sim.tally["writes refused"]++
			return errDown
		case 1:
			p.sim.tally["commits not told of"]++
			lost = true
		}
	}
	if p.dead {
		return errDown
	}
	if err := p.sim.store.Update(ctx, fn); err != nil {
		return err
	}
	if lost {
		return errDown
	}
	return nil
}

func (p *process) Read() ports.Reads          { return p.sim.store.Read() }
func (p *process) Ping(context.Context) error { return nil }

// picky is a checker that dislikes some inputs.
type picky struct{ memory.Schemas }

func (picky) Validate(_, value json.RawMessage) ([]ports.SchemaFault, error) {
	if len(value)%5 == 0 {
		return []ports.SchemaFault{{Path: "x", Message: "is missing"}}, nil
	}
	return nil, nil
}

// noQueue hands nothing over.
type noQueue struct{}

func (noQueue) Dispatch(...ports.Ref) {}
func (noQueue) Run(context.Context, func(context.Context, string) error) error {
	return errors.New("nobody runs")
}

// Read implements io.Reader: secrets of the seed's.
func (s *sim) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(s.dice.Uint32())
	}
	return len(b), nil
}

func (s *sim) boot(i int) {
	p := &process{sim: s}
	engine, err := New(Config{
		Store: p, Queue: noQueue{}, Agents: s.agents, Guard: memory.OpenGuard{}, Schema: picky{}, Hasher: memory.NewHasher(),
		Limits: memory.NewLimiter(func() time.Time { return s.now }), Now: func() time.Time { return s.now }, Random: s,
		NewID: func() string { s.ids++; return fmt.Sprintf("01980000-0000-7000-8000-%012x", s.ids) },
	})
	require.NoError(s.t, err)
	p.Engine = engine
	s.procs[i] = p
}

func simulate(t *testing.T, seed uint64, tally map[string]int) (digest [32]byte) {
	s := &sim{t: t, tally: tally, dice: rand.New(rand.NewPCG(seed, 1)), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), store: memory.New(), agents: memory.NewAgents(), calm: true}
	s.boot(0)
	s.boot(1)
	ctx := t.Context()
	for i, c := range []*identity.Caller{&s.asker, &s.owner} {
		u := identity.User{ID: fmt.Sprintf("01970000-0000-7000-8000-%012x", i), Email: fmt.Sprint(i, "@example.com"), Role: identity.RoleUser, CreatedAt: s.now}
		require.NoError(t, s.store.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
			return errors.Join(tx.Users.Insert(ctx, u), tx.Ledger.Post(ctx, ledger.Grant(u.ID, s.now).Stamp(s.procs[0].core.NewID)))
		}))
		*c = identity.SessionCaller(u, "")
	}
	price, name, endpoint := credits.Whole(20), "Agent", "http://agent" // so that some cannot be paid
	s.agents.Handle(endpoint, s.answer)
	var err error
	s.agent, err = s.procs[0].Agents.Register(ctx, s.owner, registry.Profile{
		Name: &name, Endpoint: &endpoint, Price: &price, Skills: &[]registry.Skill{{ID: "checked", Name: "Checked", InputSchema: json.RawMessage(`{}`)}},
	})
	require.NoError(t, err)
	for range 6 {
		w, err := s.procs[0].Workflows.Create(ctx, s.asker, "flow", "", s.steps())
		require.NoError(t, err)
		s.flows = append(s.flows, w)
	}

	s.calm = false
	for range 150 {
		s.happen()
	}
	for len(s.runs) < len(s.flows) {
		s.execute()
	}
	s.calm = true
	for round := 0; !s.over(); round++ {
		require.Less(t, round, 3000, "seed %d: something never ends", seed)
		s.now = s.now.Add(time.Second)
		s.chores()
		for _, id := range s.due() {
			_ = s.procs[s.dice.IntN(2)].Worker.Handle(ctx, id) // the job runs again
		}
	}
	return s.judge(seed)
}

func (s *sim) steps() (steps []scheduler.Step) {
	for i := range 1 + s.dice.IntN(6) {
		step := scheduler.Step{Name: "step", AgentID: s.agent.ID, Timeout: time.Duration(10+s.dice.IntN(50)) * time.Second}
		if s.dice.IntN(3) == 0 {
			step.SkillID = "checked"
		}
		for d := range i {
			if s.dice.IntN(2) == 0 {
				step.DependsOn = append(step.DependsOn, d)
			}
		}
		step.Retry = scheduler.RetryPolicy{MaxRetries: s.dice.IntN(3), Backoff: time.Duration(100+s.dice.IntN(3000)) * time.Millisecond}
		steps = append(steps, step)
	}
	return steps
}

func (s *sim) due() (ids []string) {
	refs, err := s.store.Read().Jobs.Due(s.t.Context(), s.now, 100)
	require.NoError(s.t, err)
	for _, r := range refs {
		ids = append(ids, r.ID)
	}
	return ids
}

// chores does what running workers do from time to time.
func (s *sim) chores() {
	was := s.calm
	s.calm = true // they give jobs up in no order
	for _, p := range s.procs {
		_ = p.Worker.renew(s.t.Context())
		_ = p.Worker.sweep(s.t.Context())
	}
	s.calm = was
}

// happen lets one thing happen.
func (s *sim) happen() {
	ctx := s.t.Context()
	p := s.procs[s.dice.IntN(2)]
	switch n := s.dice.IntN(100); {
	case n < 50: // a job is handed over
		due := s.due()
		if len(due) == 0 {
			s.now = s.now.Add(time.Duration(1+s.dice.IntN(500)) * time.Millisecond)
			return
		}
		id := due[s.dice.IntN(len(due))]
		s.seen = append(s.seen, id)
		_ = p.Worker.Handle(ctx, id) // a failed one runs again
	case n < 55 && len(s.seen) > 0: // or once more
		_ = p.Worker.Handle(ctx, s.seen[s.dice.IntN(len(s.seen))])
	case n < 70:
		s.now = s.now.Add(time.Duration(1+s.dice.IntN(2_000)) * time.Millisecond)
	case n < 72:
		s.now = s.now.Add(time.Duration(s.dice.IntN(30_000)) * time.Millisecond)
	case n < 80:
		s.chores()
	case n < 83: // a process is killed, and another one takes its place
		i := s.dice.IntN(2)
		s.procs[i].dead = true
		s.tally["processes killed"]++
		s.boot(i)
	case n < 90:
		if len(s.runs) < len(s.flows) {
			s.execute()
		}
	case n < 93 && len(s.runs) > 0:
		r := s.runs[s.dice.IntN(len(s.runs))]
		if s.dice.IntN(3) == 0 {
			_, _ = p.Workflows.CancelRun(ctx, s.asker, r.WorkflowID, r.ID) // it may have ended
		}
	case n < 100 && len(s.runs) > 0: // a task is cancelled, asked about, or answered from outside
		r, err := s.store.Read().Runs.Get(ctx, s.runs[s.dice.IntN(len(s.runs))].ID)
		require.NoError(s.t, err)
		step := r.Steps[s.dice.IntN(len(r.Steps))]
		if step.TaskID == "" {
			return
		}
		said := []task.Part{task.TextPart("x")}
		switch s.dice.IntN(4) {
		case 0:
			_, _ = p.Tasks.Cancel(ctx, s.asker, step.TaskID)
		case 1:
			_, _ = p.Tasks.Reply(ctx, s.asker, step.TaskID, ReplyTask{Role: task.RoleUser, Parts: said})
		default:
			status := []task.Status{task.Running, task.Completed, task.Failed}[s.dice.IntN(3)]
			_, _ = p.Tasks.Reply(ctx, s.owner, step.TaskID, ReplyTask{Role: task.RoleAgent, Parts: said, Status: status})
		}
	}
}

// execute begins the next run, however often that has to be tried.
func (s *sim) execute() {
	w := s.flows[len(s.runs)]
	for {
		ctx := WithOnce(s.t.Context(), Once{Key: "run " + w.ID, Render: func(v any) ([]byte, error) { return []byte(v.(scheduler.Run).ID), nil }})
		r, err := s.procs[s.dice.IntN(2)].Workflows.Execute(ctx, s.asker, w.ID)
		var before *Replayed
		if errors.As(err, &before) {
			r, err = scheduler.Run{ID: string(before.Answer), WorkflowID: w.ID}, nil
		}
		if err == nil {
			s.runs = append(s.runs, &r)
			return
		}
		require.ErrorIs(s.t, err, errDown)
	}
}

// answer is the agent. While it is called the world goes on.
func (s *sim) answer(ctx context.Context, c ports.Call) (ports.Answer, error) {
	if s.depth < 3 && !s.calm {
		s.depth++
		for range s.dice.IntN(4) {
			s.happen()
		}
		s.depth--
	}
	if err := ctx.Err(); err != nil {
		return ports.Answer{}, err
	}
	said := []task.Message{{ID: "m" + strconv.Itoa(s.dice.IntN(3)), Role: task.RoleAgent, Parts: []task.Part{task.TextPart("hm")}}}
	n := s.dice.IntN(12)
	if s.calm {
		n += 6
	}
	switch {
	case n == 0:
		return ports.Answer{State: ports.AnswerInputRequired, Messages: said, RemoteTaskID: "r", ContextID: "c"}, nil
	case n < 3:
		return ports.Answer{State: ports.AnswerWorking, Messages: said, RemoteTaskID: "r", ContextID: "c"}, nil
	case n < 5:
		return ports.Answer{}, &ports.CallError{Code: task.ErrUnreachable, Message: "gone", Retryable: true, Unreachable: true}
	case n < 7:
		return ports.Answer{State: ports.AnswerFailed, Reason: "no"}, nil
	default:
		return ports.Answer{State: ports.AnswerDone, Messages: said}, nil
	}
}

func (s *sim) over() bool {
	for _, r := range s.runs {
		now, err := s.store.Read().Runs.Get(s.t.Context(), r.ID)
		require.NoError(s.t, err)
		if !now.Status.Ended() {
			return false
		}
	}
	// What is left is the job that probes the agent for ever, and words to agents that need not be insisted on.
	n, err := s.store.Read().Jobs.Count(s.t.Context())
	require.NoError(s.t, err)
	return n <= 1
}

// judge looks whether the world is as it should be, and returns a digest of all that happened in it.
func (s *sim) judge(seed uint64) [32]byte {
	ctx, r := s.t.Context(), s.store.Read()
	digest := sha256.New()
	tasks, paid, evidence := 0, 0, 0
	for _, run := range s.runs {
		log, err := r.RunLogs.EventsOf(ctx, []ports.Position{{ID: run.ID}}, 10_000)
		require.NoError(s.t, err)
		told, err := scheduler.Replay(log)
		require.NoError(s.t, err, "seed %d", seed)
		now, err := r.Runs.Get(ctx, run.ID)
		require.NoError(s.t, err)
		require.Equal(s.t, told, now, "seed %d", seed)
		s.tally["runs "+string(now.Status)]++
		made := map[string]int{}
		for _, e := range log {
			_, _ = fmt.Fprintf(digest, "%s %d %s %d %d %s %s\n", run.ID, e.Seq, e.Kind, e.Step, e.Attempt, e.TaskID, e.At)
			if e.Kind != scheduler.EventStepStarted {
				continue
			}
			made[e.TaskID]++
			require.Equal(s.t, 1, made[e.TaskID], "seed %d", seed)
			for _, d := range now.Plan.Steps()[e.Step].DependsOn {
				require.Equal(s.t, scheduler.Completed, now.Steps[d].Status, "seed %d: step %d began without step %d", seed, e.Step, d)
			}
			t, err := r.Tasks.Get(ctx, e.TaskID)
			require.NoError(s.t, err)
			require.True(s.t, t.Status.Ended(), "seed %d: task %s of an ended run is %s", seed, t.ID, t.Status)
			tasks++
			s.tally["tasks "+string(t.Status)]++
			if t.Status == task.Completed {
				paid++
			}
			if t.Status != task.Cancelled {
				evidence++
			}
			events, err := r.Tasks.Events(ctx, t.ID, 0, 10_000)
			require.NoError(s.t, err)
			for i, te := range events {
				require.EqualValues(s.t, i+1, te.Seq)
				require.Equal(s.t, i == len(events)-1, te.Kind == task.EventComplete, "seed %d: the end of task %s", seed, t.ID)
			}
		}
		for i, step := range now.Steps {
			ready := !slices.ContainsFunc(now.Plan.Steps()[i].DependsOn, func(d int) bool { return now.Steps[d].Status != scheduler.Completed })
			if now.Status != scheduler.Cancelled {
				require.Equal(s.t, !ready, step.Status == scheduler.Skipped, "seed %d: step %d is %s", seed, i, step.Status)
			}
		}
	}
	_, total, err := r.Tasks.List(ctx, ports.TaskFilter{RequesterUserID: s.asker.UserID}, ports.Page{Limit: 1})
	require.NoError(s.t, err)
	require.Equal(s.t, tasks, total, "seed %d: there are tasks that no run knows", seed)
	b, err := r.Ledger.Balance(ctx, s.asker.UserID)
	require.NoError(s.t, err)
	require.True(s.t, b.Consistent(), "seed %d", seed)
	require.Zero(s.t, b.Held, "seed %d", seed)
	require.Equal(s.t, credits.Whole(20)*credits.Amount(paid), b.Spent, "seed %d", seed)
	imbalance, err := r.Ledger.Imbalance(ctx)
	require.NoError(s.t, err)
	require.Zero(s.t, imbalance, "seed %d", seed)
	_, events, err := r.Trust.Events(ctx, s.agent.ID, ports.Page{Limit: 1})
	require.NoError(s.t, err)
	require.Equal(s.t, evidence, events, "seed %d: each task is evidence once", seed)
	return [32]byte(digest.Sum(nil))
}

// NEXUS_SEEDS says how many worlds there are, NEXUS_SEED takes one alone.
func TestAnySeedOfTheWorldEndsWell(t *testing.T) {
	seeds := uint64(150)
	if v := os.Getenv("NEXUS_SEEDS"); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		require.NoError(t, err)
		seeds = n
	}
	if v := os.Getenv("NEXUS_SEED"); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		require.NoError(t, err)
		simulate(t, n, map[string]int{})
		return
	}
	tally := map[string]int{}
	for seed := range seeds {
		digest := simulate(t, seed, tally)
		if seed%10 == 0 {
			require.Equal(t, digest, simulate(t, seed, map[string]int{}), "seed %d does not happen the same way again", seed)
		}
	}
	t.Logf("%d worlds: %v", seeds, tally)
	for _, what := range []string{"runs completed", "runs failed", "runs cancelled", "tasks completed", "tasks failed", "tasks cancelled", "processes killed", "writes refused", "commits not told of"} {
		require.NotZero(t, tally[what], "there was never one of: %s", what)
	}
}
