package ports

import (
	"context"
	"time"

	"github.com/nexus-protocol/nexus/domain/task"
)

// TaskFilter narrows a list of tasks. Exactly one of the two parties may be left out.
type TaskFilter struct {
	RequesterUserID string // tasks that this user asked for
	AgentOwnerID    string // or tasks that this user's agents were given; both set: either
	AgentID         string
	Status          task.Status
	Conversation    string
}

// TaskReader finds tasks. One that is not there is TASK_NOT_FOUND.
type TaskReader interface {
	Get(ctx context.Context, id string) (task.Task, error)
	// History returns the task and its message and artifact events, oldest first, in one read.
	History(ctx context.Context, id string) (task.Task, []task.Event, error)
	// Events returns the events of a task after the given sequence number, oldest first, at most limit. A task that is not
	// there has none.
	Events(ctx context.Context, id string, afterSeq int64, limit int) ([]task.Event, error)
	// List returns the tasks of the filter, newest first (ties by id, descending), and how many there are in all.
	List(ctx context.Context, f TaskFilter, page Page) ([]task.Task, int, error)
	// Overdue returns ids of open tasks whose TimeoutAt is at or before now, longest overdue first.
	Overdue(ctx context.Context, now time.Time, limit int) ([]string, error)
	// OpenByAgent returns ids of the agent's open tasks that have the status; "" is any.
	OpenByAgent(ctx context.Context, agentID string, status task.Status, limit int) ([]string, error)
}

// TaskLogReader reads the logs of many tasks at once.
type TaskLogReader interface {
	// EventsOf returns the events of the tasks after the positions: of each task the oldest, in order and without a gap,
	// and at most limit in all. When it returns fewer than limit they are all there are. No task may be named twice.
	EventsOf(ctx context.Context, after []Position, limit int) ([]task.Event, error)
}

// TaskStore changes tasks.
type TaskStore interface {
	TaskReader
	// Lock is Get, and keeps the task from changing until the transaction ends.
	Lock(ctx context.Context, id string) (task.Task, error)
	// Insert adds a task and its first events.
	Insert(ctx context.Context, t task.Task, events []task.Event) error
	// Save writes what commands change of a locked task and appends its events; what was asked for (title, input, parties,
	// price) stays as it was inserted. A sequence number that is taken is ErrDuplicate.
	Save(ctx context.Context, t task.Task, events []task.Event) error
}
