// Package asynqqueue makes jobs run by asynq over Redis, in any number of processes. Redis only hands them round: what
// it forgets, the sweeper hands over again out of the store, and what it delivers twice acts once, since a job is claimed
// in the store.
package asynqqueue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/nexus-protocol/nexus/ports"
)

var _ ports.Queue = (*Queue)(nil)

// Options are the queue's settings; zero values are the defaults.
type Options struct {
	Workers    int           // jobs that are begun at once in this process; default 128
	SweepEvery time.Duration // default one second
	Logger     *slog.Logger  // default: discards
}

const (
	kind = "nexus:job"
	// asynq asks Redis this often when it has nothing to do. Its own default of a second would be every task's delay.
	checkEvery      = 10 * time.Millisecond
	checkLaterEvery = 100 * time.Millisecond
	// A job that is due for so long and was taken up by nobody is handed over again.
	overdue    = 2 * time.Second
	sweepBatch = 1_000
	// Refs that wait to be handed over; what does not fit is left to the sweeper.
	backlog = 10_000
	senders = 8
	// asynq waits so long for handlers at a stop; how long they may take is for whoever runs the queue to say.
	waitForHandlers = 24 * time.Hour
)

// names of asynq's queues, by priority. The first is emptied before the second is looked at.
var names = map[ports.Priority]string{
	ports.PriorityInteractive: "nexus-interactive", ports.PriorityWorkflow: "nexus-workflow", ports.PriorityHousekeeping: "nexus-housekeeping",
}

// Queue is a ports.Queue over Redis. Make it with New and end it with Close.
type Queue struct {
	store  ports.Store
	redis  redis.UniversalClient
	client *asynq.Client
	now    func() time.Time
	opt    Options
	refs   chan ports.Ref
	done   chan struct{}
	once   sync.Once
	wg     sync.WaitGroup

	mu    sync.RWMutex
	start func(id string) bool // begins a job here, if there is a place; nil while Run does not run
}

// New makes a queue over the store's jobs. now must be the engine's clock. Redis need not be there yet.
func New(store ports.Store, client redis.UniversalClient, now func() time.Time, opt Options) *Queue {
	if opt.Workers <= 0 {
		opt.Workers = 128
	}
	if opt.SweepEvery <= 0 {
		opt.SweepEvery = time.Second
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	q := &Queue{
		store: store, redis: client, client: asynq.NewClientFromRedisClient(client), now: now, opt: opt,
		refs: make(chan ports.Ref, backlog), done: make(chan struct{}),
	}
	for range senders {
		q.wg.Go(q.send)
	}
	return q
}

// Close stops handing jobs over. The Redis client is the caller's to close.
func (q *Queue) Close() error {
	q.once.Do(func() { close(q.done) })
	q.wg.Wait()
	return nil
}

// Dispatch implements ports.Queue.
func (q *Queue) Dispatch(refs ...ports.Ref) {
	for _, r := range refs {
		if !r.RunAt.After(q.now()) && q.begin(r.ID) {
			continue
		}
		select {
		case q.refs <- r:
		default: // the sweeper will find it
			return
		}
	}
}

// begin runs a job in this process at once, if it works and has a place: asynq would ask for it only at its next look.
func (q *Queue) begin(id string) bool {
	q.mu.RLock()
	defer q.mu.RUnlock()
	return q.start != nil && q.start(id)
}

func (q *Queue) setStart(start func(id string) bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.start = start
}

func (q *Queue) send() {
	for {
		select {
		case <-q.done:
			return
		case r := <-q.refs:
			if err := q.enqueue(context.Background(), r, ""); err != nil {
				q.opt.Logger.Debug("a job could not be handed to Redis; it will be found", "job", r.ID, "error", err)
			}
		}
	}
}

// enqueue hands a job to asynq. A job's id and time make its task unique; epoch makes another one of it, for when the
// first may have been lost.
func (q *Queue) enqueue(ctx context.Context, r ports.Ref, epoch string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	name, ok := names[r.Priority]
	if !ok {
		name = names[ports.PriorityHousekeeping]
	}
	id := r.ID + ":" + strconv.FormatInt(r.RunAt.UnixMicro(), 36) + epoch
	opts := []asynq.Option{asynq.Queue(name), asynq.TaskID(id), asynq.MaxRetry(0), asynq.Retention(0), asynq.Timeout(waitForHandlers)}
	if r.RunAt.After(q.now()) {
		opts = append(opts, asynq.ProcessAt(r.RunAt))
	}
	_, err := q.client.EnqueueContext(ctx, asynq.NewTask(kind, []byte(r.ID+" "+strconv.FormatInt(r.RunAt.UnixMicro(), 10))), opts...)
	if errors.Is(err, asynq.ErrTaskIDConflict) || errors.Is(err, asynq.ErrDuplicateTask) {
		return nil // it is there
	}
	return err
}

// refOf is what enqueue made a task of.
func refOf(ctx context.Context, t *asynq.Task) (r ports.Ref) {
	id, at, _ := strings.Cut(string(t.Payload()), " ")
	r.ID = id
	if us, err := strconv.ParseInt(at, 10, 64); err == nil {
		r.RunAt = time.UnixMicro(us)
	}
	r.Priority = ports.PriorityHousekeeping
	queue, _ := asynq.GetQueueName(ctx)
	for p, name := range names {
		if name == queue {
			r.Priority = p
		}
	}
	return r
}

// early tells of a job that is not due yet, and hands it over again at its time: asynq counts in whole seconds, and by the
// clocks of the machines it runs on.
func (q *Queue) early(r ports.Ref) bool {
	wait := r.RunAt.Sub(q.now())
	if wait <= 0 {
		return false
	}
	time.AfterFunc(wait, func() { q.Dispatch(r) })
	return true
}

// Run implements ports.Queue. While Redis is away it waits for it.
func (q *Queue) Run(ctx context.Context, handle func(ctx context.Context, jobID string) error) error {
	for q.redis.Ping(ctx).Err() != nil {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(q.opt.SweepEvery):
		}
	}
	queues := map[string]int{}
	for p, name := range names {
		queues[name] = len(names) - int(p)
	}
	srv := asynq.NewServerFromRedisClient(q.redis, asynq.Config{
		Concurrency: q.opt.Workers, Queues: queues, StrictPriority: true, TaskCheckInterval: checkEvery, DelayedTaskCheckInterval: checkLaterEvery,
		ShutdownTimeout: waitForHandlers, Logger: logger{q.opt.Logger}, LogLevel: asynq.WarnLevel,
		BaseContext: func() context.Context { return context.WithoutCancel(ctx) },
	})
	places := make(chan struct{}, q.opt.Workers)
	var here sync.WaitGroup
	q.setStart(func(id string) bool {
		select {
		case places <- struct{}{}:
		default:
			return false
		}
		here.Go(func() {
			defer func() { <-places }()
			q.run(context.WithoutCancel(ctx), id, handle)
		})
		return true
	})
	err := srv.Start(asynq.HandlerFunc(func(ctx context.Context, t *asynq.Task) error {
		if ref := refOf(ctx, t); !q.early(ref) {
			places <- struct{}{}
			defer func() { <-places }()
			q.run(ctx, ref.ID, handle)
		}
		return nil // whether the job is done is in the store
	}))
	if err != nil {
		q.setStart(nil)
		here.Wait()
		return fmt.Errorf("start asynq: %w", err)
	}
	q.sweep(ctx, 0)
	tick := time.NewTicker(q.opt.SweepEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			q.sweep(ctx, overdue)
		}
	}
	q.setStart(nil)
	srv.Stop() // takes no more
	srv.Shutdown()
	here.Wait()
	return nil
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

// sweep hands over what the store says has been due for some time. Sweepers of other processes that do so in the same
// stretch of time make the same tasks.
func (q *Queue) sweep(ctx context.Context, late time.Duration) {
	now := q.now()
	refs, err := q.store.Read().Jobs.Due(ctx, now.Add(-late), sweepBatch)
	if err != nil {
		if ctx.Err() == nil {
			q.opt.Logger.ErrorContext(ctx, "due jobs could not be read, it will be tried again", "error", err)
		}
		return
	}
	epoch := ":" + strconv.FormatInt(now.UnixMilli()/overdue.Milliseconds(), 36)
	for _, r := range refs {
		if err := q.enqueue(ctx, r, epoch); err != nil {
			if ctx.Err() == nil {
				q.opt.Logger.WarnContext(ctx, "Redis is away: jobs wait", "error", err)
			}
			return
		}
	}
}

// logger is asynq's way to log.
type logger struct{ log *slog.Logger }

func (l logger) Debug(args ...any) { l.log.Debug("asynq: " + fmt.Sprint(args...)) }
func (l logger) Info(args ...any)  { l.log.Info("asynq: " + fmt.Sprint(args...)) }
func (l logger) Warn(args ...any)  { l.log.Warn("asynq: " + fmt.Sprint(args...)) }
func (l logger) Error(args ...any) { l.log.Error("asynq: " + fmt.Sprint(args...)) }
func (l logger) Fatal(args ...any) { l.log.Error("asynq: " + fmt.Sprint(args...)) }
