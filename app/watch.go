package app

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/task"
)

// How often a watcher looks by itself.
const (
	watchLook  = 15 * time.Second // a wake is lost when a process dies between its commit and its publication
	watchAlone = 2 * time.Second  // nobody wakes it
	watchBatch = 100              // events of one read
)

// Watch yields a task's events after a sequence number, in order and each once, those that are there and then those that
// come, whichever process they come from. It ends after the task has ended and all has been yielded, or with ctx. An error
// is its last. Whoever may read the task may watch it; that is decided at the beginning. One read for the task, and one
// each time that it grows.
func (s *Tasks) Watch(ctx context.Context, c identity.Caller, id string, after int64) iter.Seq2[task.Event, error] {
	return func(yield func(task.Event, error) bool) {
		if err := s.watch(ctx, c, id, after, yield); err != nil {
			yield(task.Event{}, err)
		}
	}
}

// watch returns nil when it is over or nobody wants more.
func (s *Tasks) watch(ctx context.Context, c identity.Caller, id string, after int64, yield func(task.Event, error) bool) error {
	r := s.Store.Read().Tasks
	t, err := r.Get(ctx, id)
	if err == nil {
		err = identity.Authorize(c, identity.TaskRead, taskResource(t))
	}
	if err != nil {
		return err
	}
	var wake <-chan struct{}
	every := watchAlone
	if s.Events != nil { // before the first look, so that nothing comes in between
		sub := s.Events.Subscribe(id)
		defer sub.Close()
		wake, every = sub.Wake(), watchLook
	}
	look := time.NewTicker(every)
	defer look.Stop()
	after = min(after, t.LastSeq) // one who claims to have seen more still sees the end
	ended := t.Status.Ended() && after == t.LastSeq
	for !ended {
		events, err := r.Events(ctx, id, after, watchBatch)
		if err != nil {
			return fmt.Errorf("read events: %w", err)
		}
		for _, e := range events {
			if !yield(e, nil) {
				return nil
			}
			after, ended = e.Seq, e.Kind == task.EventComplete
		}
		if ended || len(events) == watchBatch {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wake:
		case <-look.C:
		}
	}
	return nil
}
