package app

import (
	"context"
	"maps"
	"slices"
	"sync"

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
// should have been given up, or when they were claimed. As leases are renewed all at once, theirs would be too, for ever.
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
