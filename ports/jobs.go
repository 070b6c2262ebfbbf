package ports

import (
	"context"
	"time"
)

// Priority orders jobs that are due at the same time; lower runs first.
type Priority int

// The priorities.
const (
	PriorityInteractive  Priority = 0 // someone waits
	PriorityWorkflow     Priority = 1
	PriorityHousekeeping Priority = 2
)

// Job is work that must be done, written by the same transaction as the state that needs it. Its row is the only truth
// about it; a queue merely makes it run soon.
type Job struct {
	ID       string
	Kind     string // chooses the handler
	Subject  string // what it is about, such as a task's id
	RunAt    time.Time
	Priority Priority
	Attempt  int    // how often it was claimed; also the fencing token of the claim
	Trace    string // the traceparent of what it is done for; "" if it stands for itself
	Lease    Lease
}

// Lease says who works on a job and until when it is theirs.
type Lease struct {
	Owner string    // the process; "" when nobody does
	Until time.Time // meaningless without an owner
}

// Ref is what a queue needs to know to run a job.
type Ref struct {
	ID       string
	RunAt    time.Time
	Priority Priority
}

// Ref returns the job's reference.
func (j Job) Ref() Ref { return Ref{ID: j.ID, RunAt: j.RunAt, Priority: j.Priority} }

// JobReader reads jobs.
type JobReader interface {
	// Due returns jobs whose time has come by now and that nobody holds a running lease on, by priority, then time, then id.
	Due(ctx context.Context, now time.Time, limit int) ([]Ref, error)
	// Count returns how many jobs there are, running and waiting ones.
	Count(ctx context.Context) (int, error)
}

// JobStore changes jobs.
type JobStore interface {
	JobReader
	// Enqueue adds a job. If there is one with its id already, that stays as it is, and is to run no later than the new one.
	Enqueue(ctx context.Context, j Job) error
	// Claim takes a due job under a lease and counts the attempt. One that is gone, not due, or leased is ErrLeaseLost.
	Claim(ctx context.Context, id string, lease Lease, now time.Time) (Job, error)
	// Finish removes the job. It is ErrLeaseLost unless the claim (owner and attempt) still holds the job; a lease that ran out but was taken by nobody still holds.
	Finish(ctx context.Context, claimed Job) error
	// Retry gives the job up and lets it run again at runAt. It is ErrLeaseLost as in Finish.
	Retry(ctx context.Context, claimed Job, runAt time.Time) error
	// Extend moves the end of all leases of an owner.
	Extend(ctx context.Context, owner string, until time.Time) error
	// ReleaseOthers ends all leases but the owner's. It is for a process that knows itself to be alone.
	ReleaseOthers(ctx context.Context, owner string) (int, error)
}

// Queue makes jobs run. It holds no truth: what it forgets, its sweeper finds again in the store.
type Queue interface {
	// Dispatch tells that jobs were committed, so that they start at once or at their time. It never blocks and may forget.
	Dispatch(refs ...Ref)
	// Run works until ctx ends, then waits for the handlers that run and returns; what was not begun stays in the store.
	// handle is called for each job, several at a time; it claims the job itself and answers an error only for the log.
	Run(ctx context.Context, handle func(ctx context.Context, jobID string) error) error
}
