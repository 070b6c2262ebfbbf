package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// The kinds of job. A job's id is its kind and its subject.
const (
	jobForward    = "task.forward"     // subject: a task; call its agent, or ask again how it is getting on
	jobTellCancel = "task.tell_cancel" // subject: a task; tell its agent that it was cancelled
	jobProbe      = "agent.probe"      // subject: an agent; find out if it is there
	jobDrain      = "agent.drain"      // subject: a deleted agent; cancel the tasks it still has
	jobTrustPass  = "trust.pass"       // subject: all; look for rings in the payments
	jobSeal       = "ledger.seal"      // subject: all; seal what was booked
	jobAssign     = "agent.assign"     // subject: an agent that is back; give it the tasks that wait for it
	jobRunTick    = "run.tick"         // subject: a run; begin the attempts that are due
	jobRunStep    = "run.step"         // subject: a step's attempt, by scheduler.Key; check its input and begin it
	jobCancelRuns = "workflow.cancel"  // subject: a deleted workflow; cancel the runs it still has
	jobLetter     = "mail.send"        // subject: a letter; send it
	jobDrainUser  = "user.drain"       // subject: a deleted user; take what is theirs out of the market
	jobUserAgents = "user.agents"      // subject: a user who was disabled or enabled; take their agents off the market, or look for them
	jobPayment    = "payment.event"    // subject: an event that a provider told; do what follows from it
	jobFoldUsage  = "usage.fold"       // subject: a user, or all; sum up the days of usage
	jobPush       = "push.tell"        // subject: a push configuration; tell its receiver what it does not know yet
)

// Times of the worker.
const (
	leaseFor      = 10 * time.Second // a dead worker's jobs are taken over after this
	leaseRenew    = 3 * time.Second
	sweepEvery    = time.Second
	sweepBatch    = 100
	tidyEvery     = time.Hour
	passEvery     = time.Hour
	sealEvery     = time.Minute
	retryBase     = 500 * time.Millisecond // before the second attempt; doubles
	retryMax      = 30 * time.Second
	followFirst   = 250 * time.Millisecond // before a working agent is asked again; grows to followMax
	followMax     = 5 * time.Second
	followCalling = time.Minute      // before one is asked again that has called back about the task, if it does not call
	maxDeliveries = 50               // of one call, counting crashes: then the answer itself is at fault
	cancelBudget  = 10 * time.Second // for telling an agent

	maxOthers = 512 // jobs that are no calls, at a time
	maxQueued = 32  // jobs of calls that wait for a place; those beyond come again with the queue's next sweep

	defaultCalls         = 1024
	defaultCallsPerAgent = 64
)

// Worker does the engine's work behind the requests: it runs jobs, renews their leases, and ends what is overdue.
type Worker struct{ *core }

// Run works until ctx ends, then lets running jobs finish and returns. grace bounds how long it waits for them; what is
// not done by then is given up and taken up again by the next process.
func (w *Worker) Run(ctx context.Context, grace time.Duration) error {
	if w.Sole {
		err := w.Store.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
			_, err := tx.Jobs.ReleaseOthers(ctx, w.Name)
			return err
		})
		switch {
		case ctx.Err() != nil: // told to stop before it began
			return nil
		case err != nil:
			return fmt.Errorf("release leases: %w", err)
		}
	}
	ctx, end := context.WithCancel(ctx) // also when the queue has failed
	defer end()
	// Handlers outlive ctx by the grace: a job that is nearly done should not have to begin again.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go func() {
		<-ctx.Done()
		t := time.NewTimer(grace)
		defer t.Stop()
		select {
		case <-t.C:
			stop()
		case <-work.Done():
		}
	}()
	var chores sync.WaitGroup
	for _, chore := range []struct {
		every time.Duration
		do    func(context.Context) error
		ctx   context.Context
	}{
		{leaseRenew, w.renew, work}, // as long as handlers run
		{sweepEvery, w.sweep, ctx},
		{paceEvery, w.savePaces, ctx},
		{tidyEvery, w.tidy, ctx},
		{sealEvery, w.sealSoon, ctx},
		{passEvery, func(ctx context.Context) error {
			return w.update(ctx, func(ctx context.Context, u *unit) error {
				if err := u.enqueue(ctx, jobFoldUsage, foldAll, u.now, ports.PriorityHousekeeping); err != nil {
					return err
				}
				return u.enqueue(ctx, jobTrustPass, "all", u.now, ports.PriorityHousekeeping)
			})
		}, ctx},
	} {
		chores.Go(func() {
			t := time.NewTicker(chore.every)
			defer t.Stop()
			for {
				select {
				case <-chore.ctx.Done():
					return
				case <-t.C:
				}
				if err := chore.do(chore.ctx); err != nil && chore.ctx.Err() == nil {
					w.Logger.ErrorContext(ctx, "chore failed, it will run again", "error", err)
				}
			}
		})
	}
	hands := &crew{work: work, open: ctx}
	w.crew.Store(hands)
	err := w.Queue.Run(ctx, func(_ context.Context, jobID string) error {
		rest, err := w.claim(work, ctx, jobID)
		if rest != nil {
			hands.run(func() {
				if err := rest(); err != nil {
					w.Logger.ErrorContext(work, "job failed, it will run again", "job", jobID, "error", err)
				}
			})
		}
		return err
	})
	end()
	hands.leave()
	stop()
	chores.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), paceLast)
	defer cancel()
	if err := w.savePaces(last); err != nil {
		w.Logger.DebugContext(ctx, "what tasks took of late is lost", "error", err)
	}
	return err
}

// renew keeps the leases of this process's jobs, but for those that nobody works on.
func (w *Worker) renew(ctx context.Context) (err error) {
	if len(w.places)+len(w.others) > 0 || w.waiting.Load() > 0 {
		err = w.commit(ctx, func(ctx context.Context, u *unit) error { return u.Jobs.Extend(ctx, w.Name, u.now.Add(leaseFor)) })
	}
	lost := w.adrift.take()
	errs := make([]error, len(lost))
	var all sync.WaitGroup // at once, as leases have to be renewed again soon
	for i, job := range lost {
		all.Go(func() { errs[i] = w.giveUp(ctx, job, 0) })
	}
	all.Wait()
	return errors.Join(append(errs, err)...)
}

// sweep ends tasks whose time is up and that no call watches over any more.
func (w *Worker) sweep(ctx context.Context) error {
	for first := ""; ; {
		ids, err := w.Store.Read().Tasks.Overdue(ctx, w.now(), sweepBatch)
		if err != nil {
			return fmt.Errorf("find overdue tasks: %w", err)
		}
		for _, id := range ids {
			err = errors.Join(err, w.change(ctx, id, func(u *unit, _ task.Task) task.Command { return task.TimeOut{At: u.now} }))
			w.calls.stop(id)
		}
		if err != nil || len(ids) < sweepBatch || ids[0] == first { // the last as the clock was set back
			return err
		}
		first = ids[0]
	}
}

// tidy removes what has ended and is of no more use.
func (w *Worker) tidy(ctx context.Context) error {
	return w.commit(ctx, func(ctx context.Context, u *unit) error {
		_, err := u.Sessions.DeleteExpired(ctx, u.now)
		if err == nil {
			_, err = u.Answers.DeleteUntil(ctx, u.now.Add(-answersKept))
		}
		if err == nil {
			err = u.Tokens.DeleteExpired(ctx, u.now)
		}
		if err == nil && w.CallBackURL != nil {
			_, err = u.CallBacks.DeleteUntil(ctx, u.now.Add(-2*task.MaxTimeout)) // of tasks that have ended long since
		}
		if err == nil {
			_, err = u.Push.DeleteUntil(ctx, u.now.Add(-pushKept))
		}
		return err
	})
}

// change applies a command to a task in a unit of its own, unless the task has ended.
func (w *Worker) change(ctx context.Context, id string, command func(*unit, task.Task) task.Command) error {
	return w.update(ctx, func(ctx context.Context, u *unit) error {
		t, agent, err := u.taskAndAgent(ctx, id)
		if err != nil || t.Status.Ended() {
			return err
		}
		_, _, err = w.apply(ctx, u, t, agent, command(u, t))
		return err
	})
}

// taskAndAgent locks a task and reads its agent, a deleted one too. Locks are taken in one order everywhere: task, the
// claim of a job, run, agent and its evidence, money by user, and last the end of a job.
func (u *unit) taskAndAgent(ctx context.Context, taskID string) (task.Task, registry.Agent, error) {
	t, err := u.Tasks.Lock(ctx, taskID)
	if err != nil {
		return t, registry.Agent{}, fmt.Errorf("lock task: %w", err)
	}
	a, err := u.Agents.Get(ctx, t.AgentID)
	if err != nil {
		return t, a, fmt.Errorf("read agent: %w", err)
	}
	return t, a, nil
}

// Handle runs one job, if it is there to be claimed, and returns when that is done; a job that is delivered twice acts
// once. One that is to call an agent is left for later where too many wait for that. Hosts that bring a queue of their own may
// call it; Run does not wait for calls of agents in the queue's places.
func (w *Worker) Handle(ctx context.Context, jobID string) error {
	rest, err := w.claim(ctx, ctx, jobID)
	if rest == nil {
		return err
	}
	return rest()
}

// claim takes a job and decides what can be decided at once. rest is what remains to be done, which may take long; nil
// if nothing does. It waits while this process has all the calls under way that it may have; where many wait for that already,
// it leaves the job for later, as whoever hands over jobs has others too. When open ends nothing new is begun. One commit.
func (w *Worker) claim(ctx, open context.Context, jobID string) (rest func() error, err error) {
	place := w.others
	if strings.HasPrefix(jobID, jobForward+":") {
		place = w.places
	}
	if !w.enter(open, place) {
		return nil, nil
	}
	var job ports.Job
	var call *forwarding
	var turn *turn
	var span ports.Span                 // the job's, once it is known,
	var traced, callCtx context.Context // with ctx in it; callCtx ends with cancel too
	var cancel context.CancelFunc
	known := ""        // the task that the call is registered for
	placeless := false // the job is done without one of the places
	leave := func(err error) error {
		if known != "" {
			w.calls.end(known, &cancel)
		}
		if span != nil {
			cancel()
			span.End(err)
		}
		turn.giveBack()
		if placeless {
			w.waiting.Add(-1)
		} else {
			<-place
		}
		return err
	}
	err = w.commit(ctx, func(unitCtx context.Context, u *unit) (err error) {
		call = nil
		var t task.Task
		var agent registry.Agent
		if taskID, ok := strings.CutPrefix(jobID, jobForward+":"); ok {
			if t, agent, err = u.taskAndAgent(unitCtx, taskID); err != nil {
				return err
			}
		}
		job, err = u.Jobs.Claim(unitCtx, jobID, ports.Lease{Owner: w.Name, Until: u.now.Add(leaseFor)}, u.now)
		if err != nil {
			return err
		}
		if span == nil { // only the job tells whose trace it goes on with
			traced, span = w.begun(ctx, job)
			callCtx, cancel = context.WithCancel(traced)
		}
		if job.Kind != jobForward {
			return nil
		}
		unitCtx = w.Tracer.Resume(unitCtx, w.Tracer.Traceparent(traced))
		over, err := w.over(unitCtx, u, job, t, agent)
		if over || err != nil {
			return err
		}
		if turn == nil {
			if turn = w.turns.take(agent.ID); turn == nil {
				return u.retry(unitCtx, job, u.now.Add(backoff(job.ID, job.Attempt)))
			}
		}
		// Before the commit: a cancel that comes after it has something to stop.
		known = t.ID
		w.calls.start(known, &cancel)
		call = &forwarding{task: t, agent: agent}
		if !turn.come() {
			return nil
		}
		return w.begin(unitCtx, u, call)
	})
	switch {
	case errors.Is(err, ports.ErrLeaseLost): // someone else's, done, or not due
		return nil, leave(nil)
	case err != nil:
		if job.Attempt > 0 { // it may have been claimed all the same
			w.adrift.add(job)
		}
		return nil, leave(fmt.Errorf("claim job %s: %w", jobID, err))
	}
	w.adrift.forget(jobID)                     // what it was before is over
	if job.Kind == jobForward && call == nil { // nothing is left to do, or not now
		return nil, leave(nil)
	}
	if job.Kind == jobPush {
		placeless = true
		w.waiting.Add(1)
		<-place
	}
	return func() error {
		if job.Kind == jobForward && !call.begun {
			if call, err = w.awaitTurn(traced, open, callCtx, job, turn); call == nil && err == nil {
				return leave(nil)
			}
		}
		if err == nil {
			err = w.do(traced, callCtx, job, call)
		}
		return leave(w.done(traced, job, err))
	}, nil
}

// enter takes a place, or tells that there is none and will be none soon.
func (w *Worker) enter(open context.Context, place chan struct{}) bool {
	select {
	case place <- struct{}{}:
		return true
	default:
	}
	if place == w.places {
		defer w.queued.Add(-1)
		if w.queued.Add(1) > maxQueued {
			return false
		}
	}
	select {
	case place <- struct{}{}:
		return true
	case <-open.Done():
		return false
	}
}

// begun starts the span of a job.
func (w *Worker) begun(ctx context.Context, job ports.Job) (context.Context, ports.Span) {
	ctx, span := w.Tracer.Start(w.Tracer.Resume(ctx, job.Trace), ports.SpanJob, job.Kind)
	area, _, _ := strings.Cut(job.Kind, ".")
	about := "nexus." + area + ".id"
	span.Text(about, job.Subject)
	span.Number("nexus.job.attempt", int64(job.Attempt))
	return ctx, span
}

// caught turns a panic into an error: one job, or one agent's answer, must not end the process and, as it would come again,
// the next one too.
func caught(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
	}
}

// do does the part of a job that may take long, and ends the job. callCtx ends before ctx when the call of a task's agent
// is no longer wanted.
func (w *Worker) do(ctx, callCtx context.Context, job ports.Job, call *forwarding) (err error) {
	defer caught(&err)
	switch job.Kind {
	case jobForward:
		return w.forward(ctx, callCtx, job, *call)
	case jobTellCancel:
		return w.tellCancel(ctx, job)
	case jobProbe:
		return w.probe(ctx, job)
	case jobAssign:
		return w.assign(ctx, job)
	case jobPayment:
		return w.payment(ctx, job)
	case jobTrustPass, jobSeal, jobDrain, jobCancelRuns, jobFoldUsage:
		clear := w.drain
		switch job.Kind {
		case jobCancelRuns:
			clear = w.cancelRuns
		case jobFoldUsage:
			clear = w.foldUsage
		case jobTrustPass:
			clear = func(ctx context.Context, _ string) error { return w.pass(ctx) }
		case jobSeal:
			clear = func(ctx context.Context, _ string) error { return w.seal(ctx) }
		}
		if err := clear(ctx, job.Subject); err != nil {
			return err
		}
		return w.update(ctx, func(ctx context.Context, u *unit) error { return u.Jobs.Finish(ctx, job) })
	case jobRunTick:
		return w.tick(ctx, job)
	case jobRunStep:
		return w.beginStep(ctx, job)
	case jobPush:
		return w.push(ctx, job)
	case jobLetter:
		return w.sendLetter(ctx, job)
	case jobDrainUser:
		return w.drainUser(ctx, job)
	case jobUserAgents:
		return w.userAgents(ctx, job)
	default:
		return fault.New(fault.Internal, fault.CodeInternal, "no handler for jobs of kind %q", job.Kind)
	}
}

// done gives up a job that could not be done.
func (w *Worker) done(ctx context.Context, job ports.Job, err error) error {
	switch {
	case err == nil || errors.Is(err, ports.ErrLeaseLost): // done, or done by another
		return nil
	case ctx.Err() != nil || errors.Is(err, errStopping): // give the job up at once, so that the next process need not wait for the lease
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		return w.giveUp(ctx, job, 0)
	default:
		return errors.Join(fmt.Errorf("%s %s: %w", job.Kind, job.Subject, err), w.giveUp(ctx, job, backoff(job.ID, job.Attempt)))
	}
}

var errStopping = errors.New("the worker stops")

// awaitTurn waits, without a place, until the agent may be called, and notes that it is. It returns nil when nothing is
// left to do then.
func (w *Worker) awaitTurn(ctx, open, callCtx context.Context, job ports.Job, turn *turn) (*forwarding, error) {
	w.waiting.Add(1)
	<-w.places
	select {
	case <-turn.ready:
	case <-open.Done():
	case <-callCtx.Done(): // the task has ended
	}
	w.places <- struct{}{} // for the caller to give back; those who have the others do so too
	w.waiting.Add(-1)
	if open.Err() != nil {
		return nil, errStopping
	}
	var next *forwarding
	err := w.update(ctx, func(ctx context.Context, u *unit) error {
		next = nil
		t, agent, err := u.taskAndAgent(ctx, job.Subject)
		if err != nil {
			return err
		}
		if over, err := w.over(ctx, u, job, t, agent); over || err != nil {
			return err
		}
		if !turn.come() {
			return u.retry(ctx, job, u.now.Add(retryBase))
		}
		next = &forwarding{task: t, agent: agent}
		return w.begin(ctx, u, next)
	})
	return next, err
}

func (w *Worker) giveUp(ctx context.Context, job ports.Job, wait time.Duration) error {
	err := w.update(ctx, func(ctx context.Context, u *unit) error { return u.retry(ctx, job, u.now.Add(wait)) })
	if errors.Is(err, ports.ErrLeaseLost) {
		return nil
	}
	if err != nil {
		w.adrift.add(job)
	}
	return err
}

// backoff is the wait after the n-th attempt: doubling, and spread.
func backoff(about string, n int) time.Duration {
	d := retryBase
	for i := 1; i < n && d < retryMax; i++ {
		d *= 2
	}
	return spread(d, about, n)
}

// spread spreads the wait after the n-th attempt over its upper half by what it is about, so that many that failed at
// once do not come back at once.
func spread(d time.Duration, about string, n int) time.Duration {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s/%d", about, n) // a hash takes everything
	half := d / 2
	return half + time.Duration(h.Sum64()%uint64(half+1))
}

// forwarding is one call of a task's agent.
type forwarding struct {
	task    task.Task
	agent   registry.Agent
	message task.Message // to be given to the agent
	seq     int64        // its place in the log; 0: there is none, only ask how the agent is getting on
	begun   bool
	calls   int // how often the agent has called back about the task until then
}

func (f forwarding) call() ports.Call {
	return ports.Call{
		Endpoint: f.agent.Endpoint, Card: f.agent.Card, TaskID: f.task.ID, SkillID: f.task.SkillID, Message: f.message,
		RemoteTaskID: f.task.RemoteTaskID, ContextID: f.task.ContextID,
	}
}

// over ends a task that the agent need not be called for any more, and its job.
func (w *Worker) over(ctx context.Context, u *unit, job ports.Job, t task.Task, agent registry.Agent) (bool, error) {
	var end task.Command
	switch {
	case t.Status.Ended():
	case agent.DeletedAt != nil:
		end = task.Cancel{At: u.now}
	case !u.now.Before(t.TimeoutAt):
		end = task.TimeOut{At: u.now}
	case t.Tried > maxDeliveries:
		end = task.Fail{At: u.now, Error: task.Error{Code: task.ErrProtocol, Message: "the engine could not take in the agent's answer"}}
	case !t.Unheard() && t.RemoteTaskID == "": // a reply brings a new job
	default:
		return false, nil
	}
	if end != nil {
		if _, _, err := w.apply(ctx, u, t, agent, end); err != nil {
			return true, err
		}
	}
	return true, u.Jobs.Finish(ctx, job)
}

// begin works out what the agent is to be given, and notes that it is being called.
func (w *Worker) begin(ctx context.Context, u *unit, f *forwarding) (err error) {
	f.begun = true
	if f.task.RemoteTaskID != "" {
		if f.calls, err = w.called(ctx, u, f.task.ID); err != nil {
			return err
		}
	}
	if !f.task.Unheard() {
		return nil
	}
	if f.message, f.seq, err = u.unheard(ctx, f.task); err == nil {
		f.task, _, err = w.apply(ctx, u, f.task, f.agent, task.Start{At: u.now})
	}
	return err
}

// unheard is the first message of the requester's that the agent was not given yet, and its place in the log.
func (u *unit) unheard(ctx context.Context, t task.Task) (task.Message, int64, error) {
	if seq, ok := t.First(); ok && !t.Verbatim { // which is known without a look at the log
		return t.Said(t.Request(), seq), seq, nil
	}
	for after := t.Told; ; {
		events, err := u.Tasks.Events(ctx, t.ID, after, watchBatch)
		if err != nil {
			return task.Message{}, 0, fmt.Errorf("read events: %w", err)
		}
		for _, e := range events {
			if e.Message != nil && e.Message.Role == task.RoleUser {
				return t.Said(*e.Message, e.Seq), e.Seq, nil
			}
			after = e.Seq
		}
		if len(events) == 0 {
			return task.Message{}, 0, fmt.Errorf("task %s: its log lacks message %d", t.ID, t.Asked)
		}
	}
}

// forward calls the agent and lets its answer happen to the task. Two commits with the one that claimed the job, and one for
// each thing that the agent says or makes before.
func (w *Worker) forward(ctx, callCtx context.Context, job ports.Job, f forwarding) error {
	callCtx, cancel := context.WithTimeout(callCtx, f.task.TimeoutAt.Sub(w.now()))
	defer cancel()

	var answer ports.Answer
	var err error
	ear := ear{w: w, of: f, stop: cancel}
	in := f.call()
	in.Hear = ear.hear
	if f.seq != 0 {
		if in.CallBack, err = w.callBack(ctx, f.task.ID); err != nil {
			return err
		}
	}
	answer, err = w.call(callCtx, in, f.seq != 0)
	var failed *ports.CallError
	if err != nil && !errors.As(err, &failed) {
		if ctx.Err() != nil || ear.failed && callCtx.Err() == nil { // shutting down, or the store is away
			return err
		}
		if callCtx.Err() == nil { // not a classified failure, so a bug of the adapter; the task must end all the same
			failed = &ports.CallError{Code: task.ErrProtocol, Message: "the call to the agent failed"}
			w.Logger.ErrorContext(ctx, "unclassified failure of a call", "task", f.task.ID, "error", err)
		}
	}
	return w.update(ctx, func(ctx context.Context, u *unit) error {
		if failed == nil && (answer.State == ports.AnswerDone || answer.State == ports.AnswerFailed) {
			if err := u.expectEnd(ctx, f.task); err != nil {
				return err
			}
		}
		t, err := u.Tasks.Lock(ctx, f.task.ID)
		if err != nil {
			return fmt.Errorf("lock task: %w", err)
		}
		if failed != nil && failed.Unreachable {
			if t.WorkflowRunID != "" { // runs are locked before agents
				if _, err := u.run(ctx, t.WorkflowRunID); err != nil {
					return err
				}
			}
			if err := w.noteUnreachable(ctx, u, f.agent.ID); err != nil {
				return err
			}
		}
		if t.Status.Ended() { // cancelled, or timed out, or ended by another: a late answer changes nothing
			return u.Jobs.Finish(ctx, job)
		}
		if looked := f.seq == 0 && f.task.AwaitsInput; failed != nil && looked { // nobody waits for the agent, so nothing is lost but a look
			switch {
			case t.Unheard(): // the requester has answered meanwhile
				return u.retry(ctx, job, u.now)
			case failed.Retryable && job.Attempt < task.MaxAttempts:
				return u.retry(ctx, job, u.now.Add(max(backoff(job.ID, job.Attempt), failed.RetryAfter)))
			default:
				return u.Jobs.Finish(ctx, job)
			}
		}
		var before log
		// Agents tell the whole story each time, and their owners may have told some of it since the message and the start.
		if failed == nil && (t.Told > 0 || t.LastSeq > f.seq+1) {
			if before, err = u.log(ctx, t.ID, answer); err != nil {
				return err
			}
			answer = before.news(answer)
		}
		cmd, again := next(t, f.seq, answer, failed, callCtx.Err() != nil, job.Attempt, u.now)
		if c, ok := cmd.(task.Complete); ok {
			c.Earlier = before.since(max(t.Told, f.seq))
			cmd = c
		}
		if cmd != nil {
			if t, _, err = w.apply(ctx, u, t, f.agent, cmd); err != nil {
				return err
			}
		}
		switch {
		case t.Status.Ended():
			return u.Jobs.Finish(ctx, job)
		case again > 0:
			if failed == nil && answer.State == ports.AnswerWorking && !t.Unheard() {
				if again, err = w.unlessCalled(ctx, u, t, f.calls, again); err != nil {
					return err
				}
			}
			return u.retry(ctx, job, u.now.Add(again))
		case t.Unheard(): // the requester said more meanwhile
			return u.retry(ctx, job, u.now)
		case t.AwaitsInput: // but the agent may not any more: it has called back since it was asked
			n, err := w.called(ctx, u, t.ID)
			if err != nil {
				return err
			}
			if n > f.calls {
				return u.retry(ctx, job, u.now.Add(followFirst))
			}
			return u.Jobs.Finish(ctx, job)
		default:
			return u.Jobs.Finish(ctx, job)
		}
	})
}

// call gives an agent a message, or asks it how it is getting on.
func (w *Worker) call(ctx context.Context, in ports.Call, send bool) (answer ports.Answer, err error) {
	defer caught(&err)
	if send {
		return w.Config.Agents.Send(ctx, in)
	}
	return w.Config.Agents.Follow(ctx, in)
}

// next says what an agent's answer to the message at told, or the lack of one, means for a task: what is to happen to it,
// and after how long the agent is to be called again, 0 for not before there is something to say.
func next(t task.Task, told int64, a ports.Answer, failed *ports.CallError, timeUp bool, attempt int, now time.Time) (cmd task.Command, again time.Duration) {
	left := t.TimeoutAt.Sub(now)
	switch {
	case failed != nil && failed.Retryable && t.Tried < task.MaxAttempts && left > 0:
		return nil, min(max(backoff(t.ID, t.Tried), failed.RetryAfter), left)
	case failed != nil:
		return task.Fail{At: now, Error: task.Error{Code: failed.Code, Message: failed.Message}}, 0
	case timeUp && left <= 0:
		return task.TimeOut{At: now}, 0
	case timeUp: // stopped early: the task ended elsewhere, or a clock jumped; look again
		return nil, retryBase
	case a.State == ports.AnswerDone:
		return task.Complete{At: now, Messages: a.Messages, Artifacts: a.Artifacts, RemoteTaskID: a.RemoteTaskID}, 0
	case a.State == ports.AnswerFailed:
		reason := a.Reason
		if reason == "" {
			reason = "the agent reports that it failed"
		}
		return task.Fail{At: now, Error: task.Error{Code: task.ErrAgentFailed, Message: reason}, Messages: a.Messages}, 0
	case a.State == ports.AnswerInputRequired:
		return task.Progress{
			At: now, Messages: a.Messages, Artifacts: a.Artifacts, RemoteTaskID: a.RemoteTaskID, ContextID: a.ContextID, Told: told, AwaitsInput: true,
		}, 0
	default: // at work
		wait := min(followFirst<<min(attempt, 5), followMax)
		if a.RemoteTaskID == "" {
			return task.Fail{At: now, Error: task.Error{Code: task.ErrProtocol, Message: "the agent says that it works on the task, but gives no id to ask for"}, Messages: a.Messages}, 0
		}
		p := task.Progress{At: now, RemoteTaskID: a.RemoteTaskID, ContextID: a.ContextID, Told: told}
		if t.Asked > max(t.Told, told) {
			wait = time.Microsecond
		}
		return p, min(wait, max(left, time.Millisecond))
	}
}

func (w *Worker) noteUnreachable(ctx context.Context, u *unit, agentID string) error {
	a, err := u.Agents.Lock(ctx, agentID)
	if err != nil {
		return fmt.Errorf("lock agent: %w", err)
	}
	if a, changed := a.Unreachable(u.now); changed {
		return u.Agents.Save(ctx, a)
	}
	return nil
}

// tellCancel tells an agent that a task is no longer wanted, and does not insist.
func (w *Worker) tellCancel(ctx context.Context, job ports.Job) error {
	r := w.Store.Read()
	t, err := r.Tasks.Get(ctx, job.Subject)
	if err != nil {
		return fmt.Errorf("read task: %w", err)
	}
	a, err := r.Agents.Get(ctx, t.AgentID)
	if err != nil {
		return fmt.Errorf("read agent: %w", err)
	}
	callCtx, cancel := context.WithTimeout(ctx, cancelBudget)
	defer cancel()
	err = w.Config.Agents.Cancel(callCtx, forwarding{task: t, agent: a}.call())
	var failed *ports.CallError
	again := errors.As(err, &failed) && failed.Retryable && job.Attempt < task.MaxAttempts
	return w.update(ctx, func(ctx context.Context, u *unit) error {
		if again {
			return u.retry(ctx, job, u.now.Add(backoff(job.ID, job.Attempt)))
		}
		return u.Jobs.Finish(ctx, job)
	})
}

// assign gives an agent that is back the tasks that wait for it, some in a commit.
func (w *Worker) assign(ctx context.Context, job ports.Job) error {
	for {
		ids, err := w.Store.Read().Tasks.OpenByAgent(ctx, job.Subject, task.Pending, sweepBatch)
		if err != nil {
			return fmt.Errorf("find pending tasks: %w", err)
		}
		slices.Sort(ids) // all lock them in one order
		err = w.update(ctx, func(ctx context.Context, u *unit) error {
			for _, id := range ids {
				t, agent, err := u.taskAndAgent(ctx, id)
				if err != nil {
					return err
				}
				if t.Status != task.Pending {
					continue
				}
				if _, _, err := w.apply(ctx, u, t, agent, task.Assign{At: u.now}); err != nil {
					return err
				}
				if err := u.enqueue(ctx, jobForward, id, u.now, ports.PriorityInteractive); err != nil {
					return err
				}
			}
			if len(ids) > 0 {
				return nil
			}
			// The agent's lock keeps tasks from becoming pending unseen.
			if _, err := u.Agents.Lock(ctx, job.Subject); err != nil {
				return fmt.Errorf("lock agent: %w", err)
			}
			left, err := u.Tasks.OpenByAgent(ctx, job.Subject, task.Pending, 1)
			if err != nil {
				return fmt.Errorf("find pending tasks: %w", err)
			}
			if len(left) > 0 {
				return u.retry(ctx, job, u.now)
			}
			return u.Jobs.Finish(ctx, job)
		})
		if err != nil || len(ids) == 0 {
			return err
		}
	}
}

// probe asks an agent for its card, and comes back after a while for as long as the agent sends no heartbeats. That of an
// owner who is shut out is not asked, and offline.
func (w *Worker) probe(ctx context.Context, job ports.Job) error {
	a, err := w.Store.Read().Agents.Get(ctx, job.Subject)
	if err != nil {
		return fmt.Errorf("read agent: %w", err)
	}
	if !a.Probed() {
		return w.update(ctx, func(ctx context.Context, u *unit) error { return u.Jobs.Finish(ctx, job) })
	}
	owner, err := w.Store.Read().Users.Get(ctx, a.OwnerUserID)
	if err != nil {
		return fmt.Errorf("read owner: %w", err)
	}
	var card json.RawMessage
	if owner.Active() {
		card = w.fetchCard(ctx, a.Endpoint)
	}
	return w.update(ctx, func(ctx context.Context, u *unit) error {
		now, err := u.Agents.Lock(ctx, job.Subject)
		if err != nil {
			return fmt.Errorf("lock agent: %w", err)
		}
		if !now.Probed() {
			return u.Jobs.Finish(ctx, job)
		}
		if now.Endpoint == a.Endpoint { // else the card is of a place it has moved away from
			seen := now.Seen(card, u.now)
			if seen.Status != now.Status || string(seen.Card) != string(now.Card) {
				if err := u.saveAgent(ctx, now, seen); err != nil {
					return err
				}
			}
		}
		return u.retry(ctx, job, u.now.Add(registry.ProbeEvery))
	})
}
