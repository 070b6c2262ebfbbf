package ports

import (
	"context"
	"time"

	"github.com/nexus-protocol/nexus/domain/task"
)

// PushReader finds push configurations.
type PushReader interface {
	// Get returns a configuration by its ID; ok is false if there is none.
	Get(ctx context.Context, id string) (c task.PushConfig, ok bool, err error)
	// ByTask returns those of a task, by ID, which is the order they were made in.
	ByTask(ctx context.Context, taskID string) ([]task.PushConfig, error)
}

// PushStore changes push configurations. Who does so holds the lock of the task, but for DeleteUntil.
type PushStore interface {
	PushReader
	// Put adds a configuration, or writes all of one that has its ID. Another one of the same task, user and name is
	// ErrDuplicate.
	Put(ctx context.Context, c task.PushConfig) error
	// Delete removes a configuration. One that is not there is no error.
	Delete(ctx context.Context, id string) error
	// DeleteUntil removes those that were done by t and returns how many. Some that others are at work on may be left.
	DeleteUntil(ctx context.Context, t time.Time) (int, error)
}

// Notifier tells receivers outside of what happens to tasks.
type Notifier interface {
	// Notify tells a receiver of one thing and returns once it has taken it. It takes no longer than some seconds. Every
	// error is a *NotifyError, but for that of a ctx that ended.
	Notify(ctx context.Context, n Notification) error
}

// Notification is one thing that a receiver is told.
type Notification struct {
	// Seq is the place in the task's log that the receiver knows after it. Together with the task's ID it is the same
	// whenever the notification is sent again.
	Seq     int64
	Config  task.PushConfig
	Secrets task.PushSecrets
	Task    task.Task
	// Events is the one event that it is about; or, for a configuration that wants the whole task, what was said and made
	// in it.
	Events []task.Event
}

// NotifyError says why a receiver did not take a notification.
type NotifyError struct {
	Reason     string        // for the operator: without the URL, secrets and contents
	Gone       bool          // the receiver says that it wants none any more
	RetryAfter time.Duration // how long it asks to be left alone; 0 if it does not say
}

// Error implements error.
func (e *NotifyError) Error() string {
	return "the receiver did not take the notification: " + e.Reason
}
