package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/scheduler"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// How a run goes on. A step is a task. When that ends, what follows for the run is decided under the run's lock in the
// same commit: the task's end, its money, its evidence, the run's transition, and the tasks of the steps that may begin by
// it, with their money and jobs. So a run needs nobody who watches over it, and a crash leaves nothing half done. Only
// two things are left to jobs: retries, which have a time, and inputs that have to be held against a schema first.

// run locks a run for the unit, and returns it as the unit has made it so far. Outputs may be absent.
func (u *unit) run(ctx context.Context, id string) (scheduler.Run, error) {
	if r, ok := u.runs[id]; ok {
		return r, nil
	}
	r, err := u.Runs.Lock(ctx, id)
	if err != nil {
		return r, fmt.Errorf("lock run: %w", err)
	}
	u.keepRun(r)
	return r, nil
}

func (u *unit) keepRun(r scheduler.Run) {
	if u.runs == nil {
		u.runs = map[string]scheduler.Run{}
	}
	u.runs[r.ID] = r
}

// stepEnded tells the run, which is locked, that a step's task has ended.
func (c *core) stepEnded(ctx context.Context, u *unit, r scheduler.Run, t task.Task) error {
	if i := t.StepIndex; i == nil || *i >= len(r.Steps) || r.Steps[*i].TaskID != t.ID { // an earlier attempt's
		return nil
	}
	step := *t.StepIndex
	attempt := r.Steps[step].Attempts
	var cmd scheduler.Command
	switch {
	case t.Status == task.Completed:
		cmd = scheduler.StepCompleted{Step: step, Attempt: attempt, Output: t.Output, At: u.now}
	case t.Status == task.Cancelled:
		cmd = scheduler.StepCancelled{Step: step, Attempt: attempt, At: u.now}
	case t.Error.Code == task.ErrTimeout:
		cmd = scheduler.StepTimedOut{Step: step, Attempt: attempt, At: u.now}
	default:
		cmd = scheduler.StepFailed{Step: step, Attempt: attempt, Error: scheduler.Error(*t.Error), Retryable: true, At: u.now}
	}
	return c.move(ctx, u, r, cmd)
}

// move lets a command happen to a locked run and saves all that follows from it.
func (c *core) move(ctx context.Context, u *unit, r scheduler.Run, cmd scheduler.Command) error {
	next, events, cancels, err := c.advance(ctx, u, r, cmd)
	if err != nil {
		return err
	}
	u.keepRun(next)
	if len(events) > 0 {
		if err := u.Runs.Save(ctx, next, events); err != nil {
			return fmt.Errorf("save run: %w", err)
		}
		u.grown.runs = append(u.grown.runs, growth[scheduler.Event]{r.ID, events})
	}
	for _, k := range cancels {
		if k.TaskID == "" { // its input was still to be held against a schema; the job finds that it is not wanted any more
			continue
		}
		t, err := u.Tasks.Lock(ctx, k.TaskID)
		if err != nil {
			return fmt.Errorf("lock task: %w", err)
		}
		if t.Status.Ended() {
			continue
		}
		// A cancelled task is no evidence, so the agent itself does not matter.
		if _, _, err := c.apply(ctx, u, t, registry.Agent{}, task.Cancel{At: u.now}); err != nil {
			return err
		}
	}
	return nil
}

// advance works out what follows from a command, and makes the tasks of the steps that begin by it. What is left to do is
// to save the run and its events, and to cancel tasks.
func (c *core) advance(ctx context.Context, u *unit, r scheduler.Run, cmd scheduler.Command) (scheduler.Run, []scheduler.Event, []scheduler.CancelTask, error) {
	var events []scheduler.Event
	var cancels []scheduler.CancelTask
	for todo := []scheduler.Command{cmd}; len(todo) > 0; todo = todo[1:] {
		now, err := u.withOutputs(ctx, r, scheduler.Reads(r, todo[0]))
		if err != nil {
			return r, nil, nil, err
		}
		next, d, err := scheduler.Apply(now, todo[0])
		if err != nil {
			return r, nil, nil, err
		}
		r, events, cancels = next, append(events, d.Events...), append(cancels, d.Cancels...)
		if len(d.Starts) > 1 {
			ids := make([]string, len(d.Starts))
			for i, s := range d.Starts {
				ids[i] = r.Plan.Steps()[s.Step].AgentID
			}
			if err := u.expect(ctx, ports.Expected{AgentIDs: ids}); err != nil {
				return r, nil, nil, err
			}
		}
		for _, s := range d.Starts {
			began, err := c.startStep(ctx, u, r, s, nil)
			if err != nil {
				return r, nil, nil, err
			}
			if began != nil {
				todo = append(todo, began)
			}
		}
		if _, ticking := cmd.(scheduler.Tick); ticking { // the job that ticks sees to its own next time
			continue
		}
		for _, t := range d.Timers {
			if err := u.enqueue(ctx, jobRunTick, r.ID, t.At, ports.PriorityWorkflow); err != nil {
				return r, nil, nil, err
			}
		}
	}
	return r, events, cancels, nil
}

// withOutputs is a run with the outputs of those steps.
func (u *unit) withOutputs(ctx context.Context, r scheduler.Run, steps scheduler.Set) (scheduler.Run, error) {
	missing := false
	for i := range steps.All() {
		missing = missing || r.Steps[i].Output == nil
	}
	if !missing {
		return r, nil
	}
	outputs, err := u.Runs.Outputs(ctx, r.ID, steps)
	if err != nil {
		return r, fmt.Errorf("read outputs: %w", err)
	}
	r.Steps = slices.Clone(r.Steps)
	for i, out := range outputs {
		if r.Steps[i].Output == nil { // else it is of this unit, and perhaps not saved yet
			s := *r.Steps[i]
			s.Output = out
			r.Steps[i] = &s
		}
	}
	return r, nil
}

// unpaid says that the first task of a key could not be paid. The unit of work then runs again, knowing that.
type unpaid struct {
	key string
	err *fault.Error
}

func (e *unpaid) Error() string { return e.key + ": " + e.err.Error() }

// startStep makes the task of a step's attempt, and returns what the run is to be told: that it exists, or why not. It
// returns nil when the input has to be held against a schema first, which a job does. checked, if set, is the schema that
// it was held against.
func (c *core) startStep(ctx context.Context, u *unit, r scheduler.Run, s scheduler.StartStep, checked *json.RawMessage) (scheduler.Command, error) {
	step := r.Plan.Steps()[s.Step]
	failed := func(err error) (scheduler.Command, error) { return stepFailed(s, err, u.now) }
	if err := u.unpaid[s.Key]; err != nil {
		return failed(err)
	}
	a, err := liveAgent(ctx, u.Agents.Get, step.AgentID)
	if err == nil && a.StatusAt(u.now) == registry.Offline {
		err = a.OfflineFault()
	}
	if err == nil && step.SkillID != "" {
		skill, known := a.Skill(step.SkillID)
		switch {
		case known && skill.InputSchema != nil && checked == nil:
			return nil, u.enqueue(ctx, jobRunStep, s.Key, u.now, ports.PriorityWorkflow)
		case !known || checked != nil && !bytes.Equal(skill.InputSchema, *checked): // it was changed just now
			_, err = c.checkInput(ctx, a, step.SkillID, s.Input)
		}
	}
	if err != nil {
		return failed(err)
	}
	t, events, err := task.New(task.Draft{
		ID: u.id(), Title: step.Name, Input: s.Input, Timeout: step.Timeout, SkillID: step.SkillID, RequesterUserID: r.OwnerUserID,
		RequesterAgentID: r.RequesterAgentID, AgentID: a.ID, AgentOwnerID: a.OwnerUserID, Price: a.Price, At: u.now,
		WorkflowRunID: r.ID, StepIndex: &s.Step,
	})
	if err != nil {
		return failed(err)
	}
	if t.Price > 0 {
		hold, err := holdOf(t).Place(u.now)
		if err == nil {
			err = u.post(ctx, hold)
		}
		if f, ok := fault.As(err); ok && f.Code == fault.CodeInsufficientCredits {
			return nil, &unpaid{s.Key, f}
		}
		if err != nil {
			return nil, err
		}
	}
	if err := c.insert(ctx, u, t, events, a, ports.PriorityWorkflow); err != nil {
		return nil, err
	}
	return scheduler.StepStarted{Step: s.Step, Attempt: s.Attempt, TaskID: t.ID, At: u.now}, nil
}

// stepFailed tells a run that an attempt could not begin. Another one may help if the agent was offline. What is not a
// fault of the step's is returned.
func stepFailed(s scheduler.StartStep, err error, at time.Time) (scheduler.Command, error) {
	f, ok := fault.As(err)
	if !ok || f.Kind == fault.Internal || f.Kind == fault.Unavailable && f.Code != fault.CodeAgentOffline {
		return nil, err
	}
	return scheduler.StepFailed{
		Step: s.Step, Attempt: s.Attempt, Error: scheduler.Error{Code: string(f.Code), Message: f.Message},
		Retryable: f.Code == fault.CodeAgentOffline, At: at,
	}, nil
}

// tick begins the attempts of a run that are due, and comes back for those that are not.
func (w *Worker) tick(ctx context.Context, job ports.Job) error {
	return w.update(ctx, func(ctx context.Context, u *unit) error {
		r, err := u.run(ctx, job.Subject)
		if err == nil {
			err = w.move(ctx, u, r, scheduler.Tick{At: u.now})
		}
		if err != nil {
			return err
		}
		var next *time.Time
		for _, s := range u.runs[job.Subject].Steps {
			if s.RetryAt != nil && (next == nil || s.RetryAt.Before(*next)) {
				next = s.RetryAt
			}
		}
		if next == nil {
			return u.Jobs.Finish(ctx, job)
		}
		return u.retry(ctx, job, *next)
	})
}

// beginStep holds the input of a step against its agent's schema, and begins it. Two reads, one commit.
func (w *Worker) beginStep(ctx context.Context, job ports.Job) error {
	runID, step, attempt, err := scheduler.ParseKey(job.Subject)
	if err != nil {
		return err
	}
	waits := func(r scheduler.Run) bool {
		s := r.Steps[step]
		return s.InFlight() && s.Attempts == attempt && s.TaskID == ""
	}
	r, err := w.Store.Read().Runs.Get(ctx, runID)
	if err != nil {
		return fmt.Errorf("read run: %w", err)
	}
	start := scheduler.StartStep{Step: step, Attempt: attempt, Key: job.Subject}
	var checked json.RawMessage
	var refused error
	if waits(r) {
		start.Input = r.Input(step)
		of := r.Plan.Steps()[step]
		a, err := liveAgent(ctx, w.Store.Read().Agents.Get, of.AgentID)
		if err == nil {
			checked, err = w.checkInput(ctx, a, of.SkillID, start.Input)
		}
		if _, ok := fault.As(err); err != nil && !ok {
			return err
		}
		refused = err
	}
	return w.update(ctx, func(ctx context.Context, u *unit) error {
		r, err := u.run(ctx, runID)
		if err != nil {
			return err
		}
		if waits(r) {
			var cmd scheduler.Command
			if refused != nil {
				cmd, err = stepFailed(start, refused, u.now)
			} else {
				cmd, err = w.startStep(ctx, u, r, start, &checked)
			}
			if err == nil {
				err = w.move(ctx, u, r, cmd)
			}
			if err != nil {
				return err
			}
		}
		return u.Jobs.Finish(ctx, job)
	})
}

// errMoved is returned when a run has begun another task since it was looked at.
var errMoved = errors.New("the run has moved on")

// cancelRun cancels a run as it was read just now. Tasks are locked before runs, so it locks those that it knows of, and
// begins again if there is another one by then. Mostly one commit.
func (c *core) cancelRun(ctx context.Context, r scheduler.Run) error {
	for range 10 {
		var ids []string
		for _, s := range r.Steps {
			if s.InFlight() && s.TaskID != "" {
				ids = append(ids, s.TaskID)
			}
		}
		slices.Sort(ids) // all lock them in one order
		err := c.update(ctx, func(ctx context.Context, u *unit) error {
			for _, id := range ids {
				if _, err := u.Tasks.Lock(ctx, id); err != nil {
					return fmt.Errorf("lock task: %w", err)
				}
			}
			now, err := u.run(ctx, r.ID)
			if err != nil {
				return err
			}
			for _, s := range now.Steps {
				if s.InFlight() && s.TaskID != "" && !slices.Contains(ids, s.TaskID) {
					return errMoved
				}
			}
			return c.move(ctx, u, now, scheduler.Cancel{At: u.now})
		})
		if !errors.Is(err, errMoved) {
			if err == nil {
				for _, id := range ids {
					c.calls.stop(id)
				}
			}
			return err
		}
		if r, err = c.Store.Read().Runs.Get(ctx, r.ID); err != nil {
			return fmt.Errorf("read run: %w", err)
		}
	}
	return fault.New(fault.Unavailable, fault.CodeUnavailable, "the run goes on too fast to be cancelled now; try again")
}

// cancelRuns cancels the open runs of a deleted workflow.
func (c *core) cancelRuns(ctx context.Context, workflowID string) error {
	for {
		open, _, err := c.Store.Read().Runs.List(ctx, ports.RunFilter{WorkflowID: workflowID, Open: true}, ports.Page{Limit: drainBatch})
		if err != nil {
			return fmt.Errorf("find open runs: %w", err)
		}
		if len(open) == 0 {
			return nil
		}
		for _, r := range open {
			if err := c.cancelRun(ctx, r); err != nil && !fault.Has(err, fault.CodeTaskNotActive) { // it has just ended
				return err
			}
		}
	}
}

func (c *core) feedRuns() {
	c.runs = feeds[scheduler.Event]{
		core: c, what: "runs", many: c.runEventsOf,
		place: func(e scheduler.Event) position { return position{e.Seq, e.Kind == scheduler.EventComplete} },
		one: func(ctx context.Context, id string, seq int64) ([]scheduler.Event, error) {
			grown, _, err := c.runEventsOf(ctx, []ports.Position{{ID: id, Seq: seq}})
			return grown[id], err
		},
	}
}

// runEventsOf reads what runs grew by. more says that some of them may have grown by more.
func (c *core) runEventsOf(ctx context.Context, after []ports.Position) (grown map[string][]scheduler.Event, more bool, err error) {
	log, err := c.Store.Read().RunLogs.EventsOf(ctx, after, watchBatch)
	if err != nil {
		return nil, false, err
	}
	grown = map[string][]scheduler.Event{}
	for _, e := range log {
		grown[e.RunID] = append(grown[e.RunID], e)
	}
	return grown, len(log) == watchBatch, nil
}

// Watch begins to watch a run, and returns it as it is now. Next then returns its events after the sequence number, as in
// Tasks.Watch. FromState gives the current state first: a status event that stands for the log's first one, and one event
// for each step. The workflow's owner may call it. Reads as in Tasks.Watch. The caller must Close the watcher.
func (s *Workflows) Watch(ctx context.Context, c identity.Caller, workflowID, id string, after int64) (*Watcher[scheduler.Event], scheduler.Run, error) {
	var r scheduler.Run
	w, err := s.runs.watch(c, id, after, func() (position, func(identity.Caller) error, []scheduler.Event, error) {
		var err error
		r, err = s.ownRun(ctx, c, identity.WorkflowRead, workflowID, id)
		may := func(c identity.Caller) error {
			return identity.Authorize(c, identity.WorkflowRead, workflowResource(r.OwnerUserID))
		}
		if err != nil {
			return position{}, may, nil, err
		}
		return position{r.LastSeq, r.Status.Ended()}, may, runState(r), nil
	})
	return w, r, err
}

// runState is a run as it is, told as events.
func runState(r scheduler.Run) []scheduler.Event {
	out := []scheduler.Event{{RunID: r.ID, Seq: 1, Kind: scheduler.EventStarted, Status: r.Status, Step: -1, At: r.CreatedAt}}
	for i, s := range r.Steps {
		e := scheduler.Event{
			RunID: r.ID, Seq: 1, Status: s.Status, Step: i, Attempt: s.Attempts, TaskID: s.TaskID, Output: s.Output, Error: s.Error, RetryAt: s.RetryAt, At: r.CreatedAt,
		}
		switch {
		case s.CompletedAt != nil:
			e.At = *s.CompletedAt
		case s.StartedAt != nil:
			e.At = *s.StartedAt
		}
		switch s.Status {
		case scheduler.Running:
			e.Kind = scheduler.EventStepStarted
		case scheduler.Completed:
			e.Kind = scheduler.EventStepCompleted
		case scheduler.Failed:
			e.Kind = scheduler.EventStepFailed
		case scheduler.Skipped:
			e.Kind = scheduler.EventStepSkipped
		case scheduler.Cancelled:
			e.Kind = scheduler.EventStepCancelled
		case scheduler.Pending:
			e.Kind = scheduler.EventStepScheduled
			if s.RetryAt != nil {
				e.Kind = scheduler.EventStepRetrying
			}
		}
		out = append(out, e)
	}
	if r.Status.Ended() {
		return append(out, scheduler.Event{RunID: r.ID, Seq: r.LastSeq, Kind: scheduler.EventComplete, Status: r.Status, Step: -1, Error: r.Error, At: *r.CompletedAt})
	}
	out[len(out)-1].Seq = r.LastSeq
	return out
}
