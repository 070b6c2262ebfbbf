// Package inprocess runs jobs in this process. A committed job starts as soon as a slot is free, without a poll; a
// sweeper finds in the store what was committed elsewhere, or before this process began.
package inprocess

import (
	"container/heap"
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/nexus-protocol/nexus/ports"
)

var _ ports.Queue = (*Queue)(nil)

// Options are the queue's settings; zero values are the defaults.
type Options struct {
	Workers    int           // jobs that are begun at once; default 128
	SweepEvery time.Duration // default one second
	Logger     *slog.Logger  // default: discards
}

// maxKnown bounds the jobs kept in memory. The sweeper brings the others when there is room.
const maxKnown = 100_000

// sweepBatch is how many due jobs one sweep takes in.
const sweepBatch = 1_000

// Queue is a ports.Queue without any server.
type Queue struct {
	store ports.Store
	now   func() time.Time
	opt   Options
	wake  chan struct{}
	swept ports.Ref // the first of what the last sweep took in, if that was as much as one takes

	mu    sync.Mutex
	known map[string]time.Time // the time at which each job in the heaps is to run
	ready readyHeap
	later laterHeap
}

// New makes a queue over the store's jobs. now must be the engine's clock.
func New(store ports.Store, now func() time.Time, opt Options) *Queue {
	if opt.Workers <= 0 {
		opt.Workers = 128
	}
	if opt.SweepEvery <= 0 {
		opt.SweepEvery = time.Second
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	return &Queue{store: store, now: now, opt: opt, wake: make(chan struct{}, 1), known: map[string]time.Time{}}
}

// Dispatch implements ports.Queue.
func (q *Queue) Dispatch(refs ...ports.Ref) {
	now := q.now()
	q.mu.Lock()
	for _, r := range refs {
		if at, ok := q.known[r.ID]; ok && !r.RunAt.Before(at) || len(q.known) >= maxKnown {
			continue
		}
		q.known[r.ID] = r.RunAt
		if r.RunAt.After(now) {
			heap.Push(&q.later, r)
		} else {
			heap.Push(&q.ready, r)
		}
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default: // it is awake already
	}
}

// Run implements ports.Queue.
func (q *Queue) Run(ctx context.Context, handle func(ctx context.Context, jobID string) error) error {
	var running sync.WaitGroup
	defer running.Wait()
	slots := make(chan struct{}, q.opt.Workers)
	sweep := time.NewTicker(q.opt.SweepEvery)
	defer sweep.Stop()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	more := q.sweep(ctx)
	for {
		ref, wait, ok := q.next()
		if !ok {
			if more { // the last sweep left some behind
				if more = q.sweep(ctx); q.hasReady() {
					continue
				}
			}
			timer.Reset(wait)
			select {
			case <-ctx.Done():
				return nil
			case <-q.wake:
			case <-timer.C:
			case <-sweep.C:
				more = q.sweep(ctx)
			}
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case slots <- struct{}{}:
		}
		if ctx.Err() != nil { // both were ready
			return nil
		}
		running.Go(func() {
			defer func() { <-slots }()
			q.run(ctx, ref.ID, handle)
		})
		select {
		case <-sweep.C: // also while there is always something to do
			more = q.sweep(ctx)
		default:
		}
	}
}

func (q *Queue) run(ctx context.Context, id string, handle func(ctx context.Context, jobID string) error) {
	defer func() {
		if p := recover(); p != nil {
			q.opt.Logger.ErrorContext(ctx, "job panicked", "job", id, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	if err := handle(ctx, id); err != nil {
		q.opt.Logger.ErrorContext(ctx, "job failed", "job", id, "error", err)
	}
}

// sweep takes in what the store says is due. more is true when there may be yet more, and what the last sweep took in is
// not still there: handlers may leave jobs as they are, for later.
func (q *Queue) sweep(ctx context.Context) (more bool) {
	refs, err := q.store.Read().Jobs.Due(ctx, q.now(), sweepBatch)
	if err != nil {
		if ctx.Err() == nil {
			q.opt.Logger.ErrorContext(ctx, "due jobs could not be read, it will be tried again", "error", err)
		}
		return false
	}
	q.Dispatch(refs...)
	if len(refs) < sweepBatch {
		q.swept = ports.Ref{}
		return false
	}
	again := refs[0] == q.swept
	q.swept = refs[0]
	return !again
}

func (q *Queue) hasReady() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.ready) > 0
}

// next takes the job to run now. If there is none, wait is the time until there may be one.
func (q *Queue) next() (ref ports.Ref, wait time.Duration, ok bool) {
	now := q.now()
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.later) > 0 && !q.later[0].RunAt.After(now) {
		r := heap.Pop(&q.later).(ports.Ref)
		heap.Push(&q.ready, r)
	}
	for len(q.ready) > 0 {
		r := heap.Pop(&q.ready).(ports.Ref)
		if at, known := q.known[r.ID]; known && at.Equal(r.RunAt) { // else an earlier time took its place
			delete(q.known, r.ID)
			return r, 0, true
		}
	}
	if len(q.later) > 0 {
		return ref, max(q.later[0].RunAt.Sub(now), time.Millisecond), false
	}
	return ref, time.Hour, false
}

type readyHeap []ports.Ref

func (h readyHeap) Len() int { return len(h) }
func (h readyHeap) Less(i, j int) bool {
	if h[i].Priority != h[j].Priority {
		return h[i].Priority < h[j].Priority
	}
	return h[i].RunAt.Before(h[j].RunAt)
}
func (h readyHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *readyHeap) Push(x any)   { *h = append(*h, x.(ports.Ref)) }
func (h *readyHeap) Pop() any     { return pop((*[]ports.Ref)(h)) }

type laterHeap []ports.Ref

func (h laterHeap) Len() int           { return len(h) }
func (h laterHeap) Less(i, j int) bool { return h[i].RunAt.Before(h[j].RunAt) }
func (h laterHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *laterHeap) Push(x any)        { *h = append(*h, x.(ports.Ref)) }
func (h *laterHeap) Pop() any          { return pop((*[]ports.Ref)(h)) }

func pop(s *[]ports.Ref) ports.Ref {
	n := len(*s) - 1
	r := (*s)[n]
	*s = (*s)[:n]
	return r
}
