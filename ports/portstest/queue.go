package portstest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nexus-protocol/nexus/ports"
)

// QueueCheck is one promise of a queue. Each needs a fresh store, and a queue over it that runs so many jobs at once.
// It runs in real time: the store's jobs are due by the wall clock that now gives.
type QueueCheck struct {
	Name string
	Run  func(ctx context.Context, s ports.Store, open func(workers int) ports.Queue, now func() time.Time) error
}

// QueueChecks lists what every ports.Queue must show.
func QueueChecks() []QueueCheck { return queueChecks }

// bench runs a queue whose handler claims and finishes each job, as use cases do.
type bench struct {
	store ports.Store
	queue ports.Queue
	now   func() time.Time

	mu   sync.Mutex
	done map[string]time.Time
	work func(ctx context.Context, id string) error // between claim and finish
	stop context.CancelFunc
	over chan error
}

func startBench(ctx context.Context, s ports.Store, q ports.Queue, now func() time.Time, work func(ctx context.Context, id string) error) *bench {
	b := &bench{store: s, queue: q, now: now, done: map[string]time.Time{}, work: work, over: make(chan error, 1)}
	ctx, b.stop = context.WithCancel(ctx)
	go func() { b.over <- q.Run(ctx, b.handle) }()
	return b
}

func (b *bench) handle(ctx context.Context, id string) error {
	ctx = context.WithoutCancel(ctx)
	j, err := claim(ctx, b.store, id, "bench", b.now())
	if errors.Is(err, ports.ErrLeaseLost) {
		return nil
	}
	if err != nil {
		return err
	}
	at := b.now()
	if b.work != nil {
		if err := b.work(ctx, id); err != nil {
			return err
		}
	}
	if err := finish(ctx, b.store, j); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, twice := b.done[id]; twice {
		return fmt.Errorf("job %s acted twice", id)
	}
	b.done[id] = at
	return nil
}

// end stops the queue and waits for it.
func (b *bench) end() error {
	b.stop()
	select {
	case err := <-b.over:
		return err
	case <-time.After(10 * time.Second):
		return errors.New("the queue did not stop")
	}
}

func (b *bench) finished(id string) (time.Time, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at, ok := b.done[id]
	return at, ok
}

// await waits until the job is done, and returns when it began.
func (b *bench) await(id string, within time.Duration) (time.Time, error) {
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if at, ok := b.finished(id); ok {
			return at, nil
		}
	}
	return time.Time{}, failf("job %s was not done within %s", id, within)
}

func (b *bench) add(ctx context.Context, dispatch bool, p ports.Priority, after time.Duration) (ports.Job, error) {
	j := ports.Job{ID: newID(), Kind: "k", RunAt: b.now().Add(after), Priority: p}
	err := enqueue(ctx, b.store, j)
	if err == nil && dispatch {
		b.queue.Dispatch(j.Ref())
	}
	return j, err
}

var queueChecks = []QueueCheck{
	{"a dispatched job starts at once", func(ctx context.Context, s ports.Store, open func(int) ports.Queue, now func() time.Time) error {
		b := startBench(ctx, s, open(4), now, nil)
		time.Sleep(100 * time.Millisecond) // whatever is done at start is over
		best := time.Hour
		for range 5 { // the best of five, since other tests run on this machine
			j, err := b.add(ctx, true, 0, 0)
			if err != nil {
				return err
			}
			at, err := b.await(j.ID, 5*time.Second)
			if err != nil {
				return err
			}
			best = min(best, at.Sub(j.RunAt))
		}
		if best > 50*time.Millisecond {
			return failf("it took %s, as if it had been polled for", best)
		}
		return b.end()
	}},
	{"a scheduled job runs at its time", func(ctx context.Context, s ports.Store, open func(int) ports.Queue, now func() time.Time) error {
		b := startBench(ctx, s, open(4), now, nil)
		var late []time.Duration
		for range 5 { // the middle one, since other tests run on this machine
			j, err := b.add(ctx, true, 0, 300*time.Millisecond)
			if err != nil {
				return err
			}
			at, err := b.await(j.ID, 5*time.Second)
			if err != nil {
				return err
			}
			if at.Before(j.RunAt) {
				return failf("it ran %s early", j.RunAt.Sub(at))
			}
			late = append(late, at.Sub(j.RunAt))
		}
		if slices.Sort(late); late[2] > 500*time.Millisecond {
			return failf("they ran so late: %v", late)
		}
		return b.end()
	}},
	{"a job that nobody told of is found", func(ctx context.Context, s ports.Store, open func(int) ports.Queue, now func() time.Time) error {
		before := ports.Job{ID: newID(), Kind: "k", RunAt: now()}
		if err := enqueue(ctx, s, before); err != nil {
			return err
		}
		b := startBench(ctx, s, open(4), now, nil)
		if _, err := b.await(before.ID, 3*time.Second); err != nil {
			return failf("from before the start: %w", err)
		}
		later, err := b.add(ctx, false, 0, 0)
		if err != nil {
			return err
		}
		if _, err := b.await(later.ID, 5*time.Second); err != nil {
			return failf("from another process: %w", err)
		}
		return b.end()
	}},
	{"no more than the limit at once", func(ctx context.Context, s ports.Store, open func(int) ports.Queue, now func() time.Time) error {
		var running, most atomic.Int32
		b := startBench(ctx, s, open(3), now, func(context.Context, string) error {
			n := running.Add(1)
			defer running.Add(-1)
			for {
				m := most.Load()
				if n <= m || most.CompareAndSwap(m, n) {
					break
				}
			}
			time.Sleep(20 * time.Millisecond)
			return nil
		})
		var last ports.Job
		for range 15 {
			j, err := b.add(ctx, true, 0, 0)
			if err != nil {
				return err
			}
			last = j
		}
		if _, err := b.await(last.ID, 10*time.Second); err != nil {
			return err
		}
		return first(same("at once", most.Load(), int32(3)), b.end())
	}},
	{"a job delivered twice acts once", func(ctx context.Context, s ports.Store, open func(int) ports.Queue, now func() time.Time) error {
		var acts atomic.Int32
		b := startBench(ctx, s, open(8), now, func(context.Context, string) error {
			acts.Add(1)
			time.Sleep(50 * time.Millisecond)
			return nil
		})
		j, err := b.add(ctx, true, 0, 0)
		if err != nil {
			return err
		}
		for range 5 {
			b.queue.Dispatch(j.Ref())
			time.Sleep(5 * time.Millisecond)
		}
		if _, err := b.await(j.ID, 5*time.Second); err != nil {
			return err
		}
		return first(b.end(), same("acts", acts.Load(), int32(1)))
	}},
	{"a handler that fails or panics stops nothing", func(ctx context.Context, s ports.Store, open func(int) ports.Queue, now func() time.Time) error {
		var n atomic.Int32
		b := startBench(ctx, s, open(1), now, func(context.Context, string) error {
			switch n.Add(1) {
			case 1:
				panic("oops")
			case 2:
				return errGiveUp
			default:
				return nil
			}
		})
		var jobs []ports.Job
		for range 3 {
			j, err := b.add(ctx, true, 0, 0)
			if err != nil {
				return err
			}
			jobs = append(jobs, j)
		}
		for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			for _, j := range jobs {
				if _, ok := b.finished(j.ID); ok {
					return b.end()
				}
			}
		}
		return failf("none of three jobs was done after one panicked and one failed")
	}},
	{"the more urgent first", func(ctx context.Context, s ports.Store, open func(int) ports.Queue, now func() time.Time) error {
		var mu sync.Mutex
		var order []string
		gate := make(chan struct{})
		b := startBench(ctx, s, open(1), now, func(_ context.Context, id string) error {
			<-gate
			mu.Lock()
			defer mu.Unlock()
			order = append(order, id)
			return nil
		})
		blocker, err := b.add(ctx, true, ports.PriorityHousekeeping, 0)
		if err != nil {
			return err
		}
		time.Sleep(200 * time.Millisecond)
		priority := map[string]ports.Priority{}
		var last string
		for _, p := range []ports.Priority{ports.PriorityHousekeeping, ports.PriorityWorkflow, ports.PriorityInteractive, ports.PriorityInteractive} {
			j, err := b.add(ctx, true, p, 0)
			if err != nil {
				return err
			}
			priority[j.ID] = p
			if p == ports.PriorityHousekeeping {
				last = j.ID
			}
		}
		time.Sleep(300 * time.Millisecond) // until the queue knows of all of them
		close(gate)
		if _, err := b.await(last, 5*time.Second); err != nil {
			return err
		}
		for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			if mu.Lock(); len(order) == 5 {
				mu.Unlock()
				break
			}
			mu.Unlock()
		}
		if err := b.end(); err != nil {
			return err
		}
		if len(order) != 5 || order[0] != blocker.ID {
			return failf("order was %v", order)
		}
		// A queue may have taken one job in hand before the more urgent ones were there.
		for i := 3; i < len(order); i++ {
			if priority[order[i]] < priority[order[i-1]] {
				return failf("job %d of priority %d came after one of priority %d", i, priority[order[i]], priority[order[i-1]])
			}
		}
		return nil
	}},
	{"a stop finishes what runs and leaves the rest", func(ctx context.Context, s ports.Store, open func(int) ports.Queue, now func() time.Time) error {
		begun := make(chan struct{}, 10)
		b := startBench(ctx, s, open(1), now, func(context.Context, string) error {
			begun <- struct{}{}
			time.Sleep(200 * time.Millisecond)
			return nil
		})
		running, err := b.add(ctx, true, 0, 0)
		if err != nil {
			return err
		}
		<-begun
		waiting, err := b.add(ctx, true, 0, 0)
		if err != nil {
			return err
		}
		if err := b.end(); err != nil {
			return err
		}
		_, first1 := b.finished(running.ID)
		_, second := b.finished(waiting.ID)
		due, err := s.Read().Jobs.Due(ctx, now(), 10)
		return first(err, same("the running one is done", first1, true), same("the waiting one is done", second, false), same("left", len(due), 1))
	}},
}
