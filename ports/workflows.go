package ports

import (
	"context"
	"encoding/json"

	"github.com/nexus-protocol/nexus/domain/scheduler"
)

// WorkflowReader finds workflows.
type WorkflowReader interface {
	// Get returns a workflow, a deleted one too (DeletedAt is set). One that never was is WORKFLOW_NOT_FOUND.
	Get(ctx context.Context, id string) (scheduler.Workflow, error)
	// ListByOwner returns a user's workflows that are not deleted, newest first, and how many there are in all.
	ListByOwner(ctx context.Context, userID string, page Page) ([]scheduler.Workflow, int, error)
}

// WorkflowStore changes workflows.
type WorkflowStore interface {
	WorkflowReader
	// Lock is Get, and keeps the workflow from changing until the transaction ends.
	Lock(ctx context.Context, id string) (scheduler.Workflow, error)
	Insert(ctx context.Context, w scheduler.Workflow) error
	// Save writes everything but the owner and the time of creation.
	Save(ctx context.Context, w scheduler.Workflow) error
}

// RunFilter narrows a list of runs.
type RunFilter struct {
	WorkflowID string
	Open       bool // only those that have not ended
}

// RunReader finds runs of workflows. One that is not there is RUN_NOT_FOUND.
type RunReader interface {
	// Get returns a run with the outputs of its steps.
	Get(ctx context.Context, id string) (scheduler.Run, error)
	// List returns the runs of the filter without outputs, newest first (ties by id, descending), and how many there are in
	// all.
	List(ctx context.Context, f RunFilter, page Page) ([]scheduler.Run, int, error)
}

// RunLogReader reads the logs of many runs at once.
type RunLogReader interface {
	// EventsOf returns the events of the runs after the positions: of each run the oldest, in order and without a gap, and
	// at most limit in all. When it returns fewer than limit they are all there are. No run may be named twice.
	EventsOf(ctx context.Context, after []Position, limit int) ([]scheduler.Event, error)
}

// RunStore changes runs.
type RunStore interface {
	RunReader
	// Lock returns a run without the outputs of its steps, and keeps it from changing until the transaction ends.
	Lock(ctx context.Context, id string) (scheduler.Run, error)
	// Outputs returns what those of the steps that have completed gave.
	Outputs(ctx context.Context, id string, steps scheduler.Set) (map[int]json.RawMessage, error)
	// Insert adds a run and its events so far, of which the first is its creation.
	Insert(ctx context.Context, r scheduler.Run, events []scheduler.Event) error
	// Save writes what commands change of a locked run and appends the events. A sequence number that is taken is
	// ErrDuplicate.
	Save(ctx context.Context, r scheduler.Run, events []scheduler.Event) error
}
