package scheduler

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
)

// Command is something that happened to a run: Start, StepStarted, StepCompleted, StepFailed, StepTimedOut,
// StepCancelled, Cancel, Tick. At is when; the times of a run never go back.
type Command interface{ command() }

// Start begins a pending run.
type Start struct{ At time.Time }

// StepStarted tells that the attempt's task exists.
type StepStarted struct {
	Step    int
	Attempt int
	TaskID  string
	At      time.Time
}

// StepCompleted tells that the attempt's task has completed. Output is any JSON value, nil counts as null; it
// is kept, not copied. An output that is no JSON or over MaxOutput fails the step for good, since another attempt would pay for the same answer again.
type StepCompleted struct {
	Step    int
	Attempt int
	Output  json.RawMessage
	At      time.Time
}

// StepFailed tells that the attempt's task has failed, or that it could not be created. The step is tried again if
// that may help and its policy has an attempt left.
type StepFailed struct {
	Step      int
	Attempt   int
	Error     Error
	Retryable bool // whether another attempt may end better
	At        time.Time
}

// StepTimedOut tells that the attempt's task has failed because its time ran out. It is retryable.
type StepTimedOut struct {
	Step    int
	Attempt int
	At      time.Time
}

// StepCancelled tells that somebody cancelled the attempt's task, but not the run. It is not tried again.
type StepCancelled struct {
	Step    int
	Attempt int
	At      time.Time
}

// Cancel ends the run by its owner's wish.
type Cancel struct{ At time.Time }

// Tick tells that time has passed: attempts that are due begin. For those that are not it asks again for their timers,
// so that one which came early or was lost costs no attempt.
type Tick struct{ At time.Time }

func (Start) command()         {}
func (StepStarted) command()   {}
func (StepCompleted) command() {}
func (StepFailed) command()    {}
func (StepTimedOut) command()  {}
func (StepCancelled) command() {}
func (Cancel) command()        {}
func (Tick) command()          {}

// Decision is what follows from a command. The zero Decision is nothing at all.
type Decision struct {
	Events  []Event
	Starts  []StartStep
	Timers  []SetTimer
	Cancels []CancelTask
	Changed Set  // the steps whose rows have to be saved; the run's row has to be if there are events
	Ended   bool // the run has ended by this command
}

// StartStep asks for the task of one attempt.
type StartStep struct {
	Step    int
	Attempt int             // from 1
	Key     string          // see Key; a task of this key must be created once
	Input   json.RawMessage // the step's own input plus step_<i>_output for each dependency i
}

// SetTimer asks for a Tick at a time. Setting the timer of a key twice must be the same as setting it once.
type SetTimer struct {
	Step    int
	Attempt int    // that the timer begins
	Key     string // of that attempt
	At      time.Time
}

// CancelTask asks that the task of an attempt be cancelled. A task that has ended meanwhile is left as it is.
type CancelTask struct {
	Step    int
	Attempt int
	Key     string
	TaskID  string // "" when the run was never told of one; then it has to be looked for by the key
}

// Apply lets one command happen. The given run is left as it was.
//
// What comes twice, too late, out of order, or from an earlier attempt changes nothing and is no error. Refused are an
// answer for a step or attempt that the run never began and a StepStarted without a task (VALIDATION_ERROR), a second task
// for one attempt (IDEMPOTENCY_CONFLICT), and the cancelling of a run that has completed or failed (TASK_NOT_ACTIVE).
//
// The outputs of other steps are needed only for the inputs in Starts; see Reads.
func Apply(r Run, c Command) (Run, Decision, error) {
	if r.Plan == nil || len(r.Steps) != len(r.Plan.steps) {
		return r, Decision{}, broken("run %s has not the steps of its plan", r.ID)
	}
	m := machine{run: r}
	var err error
	switch c := c.(type) {
	case Start:
		m.at = r.notBefore(c.At)
		m.start()
	case StepStarted:
		m.at = r.notBefore(c.At)
		err = m.stepStarted(c)
	case StepCompleted:
		m.at = r.notBefore(c.At)
		var open bool
		if open, err = m.awaits(c.Step, c.Attempt); open {
			m.completed(c.Step, c.Output)
		}
	case StepFailed:
		m.at = r.notBefore(c.At)
		var open bool
		if open, err = m.awaits(c.Step, c.Attempt); open {
			m.failed(c.Step, c.Error, c.Retryable)
		}
	case StepTimedOut:
		m.at = r.notBefore(c.At)
		var open bool
		if open, err = m.awaits(c.Step, c.Attempt); open {
			m.failed(c.Step, Error{Code: ErrTimeout, Message: "the agent did not finish within " + r.Plan.steps[c.Step].Timeout.String()}, true)
		}
	case StepCancelled:
		m.at = r.notBefore(c.At)
		var open bool
		if open, err = m.awaits(c.Step, c.Attempt); open {
			m.abandon(c.Step, Event{Kind: EventStepCancelled, Status: Cancelled}, "was cancelled")
		}
	case Cancel:
		m.at = r.notBefore(c.At)
		err = m.cancel()
	case Tick:
		m.at = r.notBefore(c.At)
		m.tick()
	default:
		err = broken("unknown command %T", c)
	}
	if err != nil {
		return r, Decision{}, err
	}
	m.d.Ended = !r.Status.Ended() && m.run.Status.Ended()
	return m.run, m.d, nil
}

// Reads returns the steps whose outputs Apply needs for the command, which are the dependencies of the steps that it will
// begin. All others may be absent from the run: a host need not load a megabyte to record that a task exists. A step that
// has ended never changes again, so what was not loaded is not in Changed either.
func Reads(r Run, c Command) Set {
	var begins, reads Set
	switch c := c.(type) {
	case StepCompleted:
		if r.Plan == nil || c.Step < 0 || c.Step >= len(r.Steps) {
			return 0
		}
		for d := range r.open(r.Plan.dependents[c.Step]).All() {
			if r.Steps[d].Remaining == 1 {
				begins.add(d)
			}
		}
	case Tick:
		for i, s := range r.Steps {
			if s.RetryAt != nil && !s.RetryAt.After(c.At) {
				begins.add(i)
			}
		}
	}
	for i := range begins.All() {
		for _, d := range r.Plan.steps[i].DependsOn {
			reads.add(d)
		}
	}
	if c, ok := c.(StepCompleted); ok {
		reads &^= only(c.Step) // it comes with the command
	}
	return reads
}

// notBefore is the time, or that of the newest event: clocks that were read one after the other may have their commands
// happen in the other order, and a step would seem to begin before those that it waited for.
func (r *Run) notBefore(at time.Time) time.Time {
	if at.Before(r.UpdatedAt) {
		return r.UpdatedAt
	}
	return at
}

type machine struct {
	run Run
	at  time.Time
	d   Decision
}

// change makes the machine's own copies of the steps that the command is going to change. Only these are copied, so a
// transition costs what it changes and not what the run has.
func (m *machine) change(steps Set) {
	copies := make([]StepResult, 0, steps.Len())
	m.run.Steps = slices.Clone(m.run.Steps)
	m.d.Changed = steps
	for steps != 0 {
		i := steps.next()
		copies = append(copies, *m.run.Steps[i])
		m.run.Steps[i] = &copies[len(copies)-1]
	}
}

func (m *machine) emit(e *Event) {
	e.RunID, e.Seq, e.At = m.run.ID, m.run.LastSeq+1, m.at
	m.run.fold(e)
	m.d.Events = append(m.d.Events, *e)
}

func (m *machine) stepEvent(step int, kind Kind, status Status, e Event) {
	e.Kind, e.Status, e.Step = kind, status, step
	if e.Attempt == 0 {
		e.Attempt = m.run.Steps[step].Attempts
	}
	m.emit(&e)
}

// awaits reports whether the answer of the attempt is one that the run still waits for.
func (m *machine) awaits(step, attempt int) (bool, error) {
	if step < 0 || step >= len(m.run.Steps) {
		return false, refused("step", "run %s has no step %d", m.run.ID, step)
	}
	s := m.run.Steps[step]
	if attempt < 1 || attempt > s.Attempts {
		return false, refused("attempt", "step %d of run %s has begun %d attempts; there is no attempt %d", step, m.run.ID, s.Attempts, attempt)
	}
	return attempt == s.Attempts && s.InFlight(), nil
}

func refused(path, format string, args ...any) error {
	var bad fault.Fields
	bad.Add(path, format, args...)
	return bad.Err()
}

func (m *machine) start() {
	if m.run.Status != Pending {
		return
	}
	m.change(m.run.Plan.roots)
	m.d.Events = make([]Event, 0, 2)
	m.emit(&Event{Kind: EventStarted, Status: Running, Step: -1})
	for i := range m.run.Plan.roots.All() {
		m.begin(i)
	}
}

// begin starts the step's next attempt.
func (m *machine) begin(step int) {
	attempt := m.run.Steps[step].Attempts + 1
	m.stepEvent(step, EventStepScheduled, Pending, Event{Attempt: attempt})
	m.d.Starts = append(m.d.Starts, StartStep{
		Step: step, Attempt: attempt, Key: Key(m.run.ID, step, attempt), Input: m.run.Input(step),
	})
}

func (m *machine) stepStarted(c StepStarted) error {
	open, err := m.awaits(c.Step, c.Attempt)
	if err != nil {
		return err
	}
	if c.TaskID == "" {
		return refused("taskId", "is required")
	}
	s := m.run.Steps[c.Step]
	switch {
	case c.Attempt < s.Attempts || s.TaskID == c.TaskID:
	case s.TaskID != "":
		return fault.New(fault.Conflict, fault.CodeIdempotencyConflict,
			"attempt %d of step %d of run %s has the task %s already; %s is one too many", c.Attempt, c.Step, m.run.ID, s.TaskID, c.TaskID)
	case open:
		m.change(only(c.Step))
		m.stepEvent(c.Step, EventStepStarted, Running, Event{TaskID: c.TaskID})
	case s.Status == Cancelled: // while the task was being created: nobody else knows that it is not wanted
		m.d.Cancels = []CancelTask{{Step: c.Step, Attempt: c.Attempt, Key: Key(m.run.ID, c.Step, c.Attempt), TaskID: c.TaskID}}
	}
	return nil
}

func (m *machine) completed(step int, output json.RawMessage) {
	if n := len(output); n > MaxOutput {
		m.failed(step, Error{
			Code:    ErrOutputTooLarge,
			Message: fmt.Sprintf("the output is %d bytes; at most %d (256 KiB) are allowed: let the agent answer with a reference instead", n, MaxOutput),
		}, false)
		return
	}
	if len(output) > 0 && !json.Valid(output) {
		m.failed(step, Error{Code: ErrOutputInvalid, Message: "the output is not JSON"}, false)
		return
	}
	dependents := m.run.open(m.run.Plan.dependents[step])
	m.d.Events = make([]Event, 0, 1+max(1, dependents.Len()))
	m.change(only(step) | dependents)
	m.stepEvent(step, EventStepCompleted, Completed, Event{Output: output})
	for dependents != 0 {
		if d := dependents.next(); m.run.Steps[d].Remaining == 0 {
			m.begin(d)
		}
	}
	m.settle()
}

func (m *machine) failed(step int, why Error, retryable bool) {
	s := m.run.Steps[step]
	if policy := m.run.Plan.steps[step].Retry; retryable && s.Attempts <= policy.MaxRetries {
		at := m.at.Add(policy.Delay(s.Attempts))
		next := s.Attempts + 1
		m.change(only(step))
		m.stepEvent(step, EventStepRetrying, Pending, Event{Error: &why, RetryAt: &at})
		m.d.Timers = []SetTimer{{Step: step, Attempt: next, Key: Key(m.run.ID, step, next), At: at}}
		return
	}
	m.abandon(step, Event{Kind: EventStepFailed, Status: Failed, Error: &why}, "failed")
}

// abandon ends a step that did not complete, and skips everything downstream of it. None of that can have begun.
func (m *machine) abandon(step int, e Event, what string) {
	skipped := m.run.open(m.run.Plan.downstream[step]) // of the others something else has failed before
	m.change(only(step) | skipped)
	m.stepEvent(step, e.Kind, e.Status, e)
	if skipped != 0 {
		why := &Error{Code: ErrDependency, Message: fmt.Sprintf("step \"%s\" %s", m.run.Steps[step].Name, what)}
		for d := range skipped.All() {
			m.stepEvent(d, EventStepSkipped, Skipped, Event{Error: why})
		}
	}
	m.settle()
}

// settle ends the run when no step is open any more.
func (m *machine) settle() {
	if m.run.Open > 0 {
		return
	}
	status, why, more := Completed, (*Error)(nil), 0
	for _, s := range m.run.Steps {
		if s.Status != Failed && s.Status != Cancelled {
			continue
		}
		if status == Failed {
			more++
			continue
		}
		status = Failed
		why = &Error{Code: ErrStepFailed, Message: fmt.Sprintf("step \"%s\" was cancelled", s.Name)}
		if s.Status == Failed && s.Error != nil {
			why.Message = fmt.Sprintf("step \"%s\" failed: %s: %s", s.Name, s.Error.Code, s.Error.Message)
		}
	}
	if more > 0 {
		why.Message += fmt.Sprintf(" (and %d more)", more)
	}
	m.emit(&Event{Kind: EventComplete, Status: status, Step: -1, Error: why})
}

func (m *machine) cancel() error {
	if m.run.Status == Cancelled {
		return nil
	}
	if m.run.Status.Ended() {
		return fault.New(fault.Conflict, fault.CodeTaskNotActive, "the run is %s already; nothing more can happen to it", m.run.Status).
			With("status", string(m.run.Status))
	}
	open := m.run.open(m.run.Plan.all())
	m.change(open)
	for i := range open.All() {
		if s := m.run.Steps[i]; s.InFlight() {
			m.d.Cancels = append(m.d.Cancels, CancelTask{Step: i, Attempt: s.Attempts, Key: Key(m.run.ID, i, s.Attempts), TaskID: s.TaskID})
		}
		m.stepEvent(i, EventStepCancelled, Cancelled, Event{})
	}
	m.emit(&Event{Kind: EventComplete, Status: Cancelled, Step: -1})
	return nil
}

func (m *machine) tick() {
	if m.run.Waiting == 0 {
		return
	}
	var due Set
	for i, s := range m.run.Steps {
		switch {
		case s.RetryAt == nil:
		case s.RetryAt.After(m.at):
			m.d.Timers = append(m.d.Timers, SetTimer{Step: i, Attempt: s.Attempts + 1, Key: Key(m.run.ID, i, s.Attempts+1), At: *s.RetryAt})
		default:
			due.add(i)
		}
	}
	if due == 0 {
		return
	}
	m.change(due)
	for i := range due.All() {
		m.begin(i)
	}
}
