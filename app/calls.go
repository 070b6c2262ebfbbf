package app

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// inFlight knows the calls that this process has under way, so that a cancel can stop one at once.
type inFlight struct {
	mu    sync.Mutex
	calls map[string]*context.CancelFunc
}

// start notes a call, in place of one whose lease was lost. cancel is what end knows it by.
func (f *inFlight) start(taskID string, cancel *context.CancelFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls == nil {
		f.calls = map[string]*context.CancelFunc{}
	}
	f.calls[taskID] = cancel
}

func (f *inFlight) end(taskID string, cancel *context.CancelFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls[taskID] == cancel {
		delete(f.calls, taskID)
	}
}

func (f *inFlight) stop(taskID string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if cancel := f.calls[taskID]; cancel != nil {
		(*cancel)()
	}
}

// adrift are jobs that this process may have leases on, though it does not work on them: the store was away when they
// should have been given up, or when they were claimed, be it by a claim or with the task that they are for. As leases are renewed all at once, theirs would be too, for ever.
type adrift struct {
	mu   sync.Mutex
	jobs map[string]ports.Job
}

func (a *adrift) add(job ports.Job) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.jobs == nil {
		a.jobs = map[string]ports.Job{}
	}
	a.jobs[job.ID] = job
}

func (a *adrift) forget(jobID string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.jobs, jobID)
}

// take returns all and forgets them.
func (a *adrift) take() []ports.Job {
	a.mu.Lock()
	defer a.mu.Unlock()
	jobs := a.jobs
	a.jobs = nil
	return slices.Collect(maps.Values(jobs))
}

// turns lets no agent be called more often at the same time than it may be, so that a slow one does not take every place
// that this process has for calls. Some may wait for their turn; those beyond have to come again later.
type turns struct {
	limit int // calls of one agent at a time, and also how many may wait behind them

	mu     sync.Mutex
	agents map[string]*atAgent
}

type atAgent struct {
	calls   int
	waiting []*turn
}

// load is how many calls of the agent are under way here, or wait for it.
func (t *turns) load(agentID string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := t.agents[agentID]
	if at == nil {
		return 0
	}
	return at.calls + len(at.waiting)
}

// turn is leave to call an agent, once ready is closed. Whoever has it must give it back.
type turn struct {
	of      *turns
	agentID string
	ready   chan struct{}
}

// take returns a turn, which may have to be waited for; nil when too many wait already.
func (t *turns) take(agentID string) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.agents == nil {
		t.agents = map[string]*atAgent{}
	}
	at := t.agents[agentID]
	if at == nil {
		at = &atAgent{}
		t.agents[agentID] = at
	}
	mine := &turn{of: t, agentID: agentID, ready: make(chan struct{})}
	switch {
	case at.calls < t.limit:
		at.calls++
		close(mine.ready)
	case len(at.waiting) < t.limit:
		at.waiting = append(at.waiting, mine)
	default:
		return nil
	}
	return mine
}

// come tells whether the turn has come.
func (mine *turn) come() bool {
	select {
	case <-mine.ready:
		return true
	default:
		return false
	}
}

// giveBack lets the next one have the turn. Without a turn it does nothing.
func (mine *turn) giveBack() {
	if mine == nil {
		return
	}
	t := mine.of
	t.mu.Lock()
	defer t.mu.Unlock()
	at := t.agents[mine.agentID]
	if !mine.come() {
		at.waiting = slices.DeleteFunc(at.waiting, func(other *turn) bool { return other == mine })
		return
	}
	if len(at.waiting) > 0 {
		close(at.waiting[0].ready)
		at.waiting = slices.Delete(at.waiting, 0, 1)
		return
	}
	if at.calls--; at.calls == 0 {
		delete(t.agents, mine.agentID)
	}
}

// crew is what a process that works has under way.
type crew struct {
	work context.Context // of what it does
	open context.Context // when it ends nothing new is begun

	mu     sync.Mutex
	closed bool
	calls  sync.WaitGroup
}

// run does f beside what calls it; false when the crew has left.
func (c *crew) run(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.calls.Go(f)
	return true
}

// leave waits for what is under way, and takes nothing more.
func (c *crew) leave() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.calls.Wait()
}

// begun is a call that this process begins once the unit of work that asks for it is committed. It has its place and its
// turn already, and its job is written as claimed.
type begun struct {
	crew   *crew
	job    ports.Job
	call   forwarding
	turn   *turn
	ctx    context.Context
	cancel context.CancelFunc
}

// reserve takes a place and a turn for the first call of a new task's agent, if both are free now and this process works;
// else it returns nil. They are given back with the unit, or after the call.
func (c *core) reserve(u *unit, t task.Task, agent registry.Agent) *begun {
	crew := c.crew.Load()
	if crew == nil || crew.open.Err() != nil {
		return nil
	}
	select {
	case c.places <- struct{}{}:
	default:
		return nil
	}
	turn := c.turns.take(agent.ID)
	if turn == nil || !turn.come() {
		turn.giveBack()
		<-c.places
		return nil
	}
	b := &begun{crew: crew, turn: turn, call: forwarding{task: t, agent: agent, begun: true}}
	b.ctx, b.cancel = context.WithCancel(crew.work)
	c.calls.start(t.ID, &b.cancel) // before the commit: a cancel that comes after it has something to stop
	u.begun = append(u.begun, b)
	return b
}

func (c *core) release(b *begun) {
	c.calls.end(b.call.task.ID, &b.cancel)
	b.cancel()
	b.turn.giveBack()
	<-c.places
}

// forgo gives back what a unit that is not committed took for its calls, and returns the jobs that it wrote as claimed.
func (c *core) forgo(u *unit) (written []ports.Job) {
	if u == nil {
		return nil
	}
	for _, b := range u.begun {
		c.release(b)
		if b.job.ID != "" {
			written = append(written, b.job)
		}
	}
	u.begun = nil
	return written
}

// begin makes a call whose unit of work is committed.
func (c *core) begin(b *begun) {
	w := &Worker{c}
	if b.crew.run(func() {
		defer c.release(b)
		traced, span := w.begun(b.crew.work, b.job)
		err := w.do(traced, w.Tracer.Resume(b.ctx, w.Tracer.Traceparent(traced)), b.job, &b.call)
		err = w.done(traced, b.job, err)
		span.End(err)
		if err != nil {
			w.Logger.ErrorContext(traced, "job failed, it will run again", "job", b.job.ID, "error", err)
		}
	}) {
		return
	}
	c.release(b) // the crew has left since: the next process need not wait for the lease
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := w.giveUp(ctx, b.job, 0); err != nil {
		w.Logger.Error("a job could not be given up, it will run when its lease is over", "job", b.job.ID, "error", err)
	}
}
