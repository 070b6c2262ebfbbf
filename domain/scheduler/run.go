package scheduler

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// Status is where a run or one of its steps is in its life:
//
//	run:  pending → running → completed | failed | cancelled
//	step: pending → running → completed | failed | cancelled, and pending → skipped
//
// A step that waits for its next attempt is pending again.
type Status string

// The states.
const (
	Pending   Status = "pending"
	Running   Status = "running"
	Completed Status = "completed"
	Failed    Status = "failed"
	Skipped   Status = "skipped" // of a step: something upstream did not complete
	Cancelled Status = "cancelled"
)

// Ended reports whether s is an end state.
func (s Status) Ended() bool { return s != Pending && s != Running }

// Error tells why a step or a run failed.
type Error struct {
	Code    string
	Message string
}

// Codes of errors that the scheduler itself gives. A failed step else has the code that it failed with.
const (
	ErrTimeout        = "TIMEOUT"           // the attempt's time ran out
	ErrOutputTooLarge = "OUTPUT_TOO_LARGE"  // the step's output is over MaxOutput
	ErrOutputInvalid  = "OUTPUT_INVALID"    // the step's output is not JSON
	ErrDependency     = "DEPENDENCY_FAILED" // of a skipped step
	ErrStepFailed     = "STEP_FAILED"       // of a failed run
)

// Run is one execution of a workflow. It has the steps that the workflow had when it began, whatever becomes of the
// workflow. A run is one row, each of Steps another; a copy is cheap and Apply never changes the one it is given.
type Run struct {
	ID               string
	WorkflowID       string
	OwnerUserID      string // whose workflow it is, and who pays
	RequesterAgentID string // whose key it was begun with; "" for a person
	Status           Status
	Plan             *Plan
	Steps            []*StepResult // one for each step of the plan; they must not be changed, for copies of the run share them
	Error            *Error        // of a failed run
	Open             int           // steps that have not ended
	Waiting          int           // steps that wait for their next attempt
	LastSeq          int64         // of the newest event; it grows with every change
	CreatedAt        time.Time
	UpdatedAt        time.Time // of the newest event
	StartedAt        *time.Time
	CompletedAt      *time.Time // when the run ended, however it did
}

// StepResult is what has become of one step.
type StepResult struct {
	Index       int
	Name        string
	Status      Status
	TaskID      string          // of the newest attempt; "" before its task exists
	Attempts    int             // begun so far; the number of the newest attempt
	Remaining   int             // dependencies that have not completed; it stands still once the step has ended
	Output      json.RawMessage // of a completed step; nil counts as null
	Error       *Error          // why it failed or was skipped, or why it waits for another attempt
	RetryAt     *time.Time      // when the next attempt is due, of a step that waits for it
	StartedAt   *time.Time      // of the first attempt
	CompletedAt *time.Time      // when the step ended, however it did
}

// InFlight reports whether an attempt has begun and its answer is awaited.
func (s *StepResult) InFlight() bool {
	return s.Attempts > 0 && s.RetryAt == nil && !s.Status.Ended()
}

// Key names one attempt of one step, the same whenever it is asked for: <runId>/<step>/<attempt>. A task that is created
// under it is created once.
func Key(runID string, step, attempt int) string {
	b := make([]byte, 0, 64)
	b = append(b, runID...)
	b = append(b, '/')
	b = strconv.AppendInt(b, int64(step), 10)
	b = append(b, '/')
	return string(strconv.AppendInt(b, int64(attempt), 10))
}

// ParseKey takes a key apart. What is none is VALIDATION_ERROR.
func ParseKey(key string) (runID string, step, attempt int, err error) {
	parts := strings.Split(key, "/")
	if len(parts) == 3 && parts[0] != "" {
		var err1, err2 error
		step, err1 = strconv.Atoi(parts[1])
		attempt, err2 = strconv.Atoi(parts[2])
		if err1 == nil && err2 == nil && step >= 0 && step < MaxSteps && attempt > 0 {
			return parts[0], step, attempt, nil
		}
	}
	return "", 0, 0, refused("key", "is no key of a step's attempt")
}

// Kind is the kind of an entry in a run's log.
type Kind string

// The kinds.
const (
	EventCreated       Kind = "created"        // the first event of every run
	EventStarted       Kind = "started"        // the run has begun
	EventStepScheduled Kind = "step_scheduled" // an attempt is to begin
	EventStepStarted   Kind = "step_started"   // the attempt's task exists
	EventStepRetrying  Kind = "step_retrying"  // the attempt failed, and there will be another
	EventStepCompleted Kind = "step_completed"
	EventStepFailed    Kind = "step_failed"
	EventStepSkipped   Kind = "step_skipped"
	EventStepCancelled Kind = "step_cancelled"
	EventComplete      Kind = "complete" // the last event of every run
)

// Event is one entry of a run's log. Seq counts from 1 without a gap.
type Event struct {
	RunID   string
	Seq     int64
	Kind    Kind
	Status  Status // after the event: the step's of a step event, else the run's
	Step    int    // the index; -1 in the run's own events
	Attempt int    // of a step event; 0 if the step was never begun
	TaskID  string // of step_started
	Output  json.RawMessage
	Error   *Error
	RetryAt *time.Time // of step_retrying
	Created *Created   // of created
	At      time.Time
}

// Created is what a run is begun with.
type Created struct {
	WorkflowID       string
	OwnerUserID      string
	RequesterAgentID string
	Steps            []Step // must not be changed
}

// NewRun makes a pending run of a defined workflow, on behalf of its owner, and its first event. requesterAgentID is the
// agent that the owner acts through, if any.
func NewRun(id string, w Workflow, requesterAgentID string, at time.Time) (Run, []Event, error) {
	plan, err := Compile(w.Steps)
	if err != nil {
		return Run{}, nil, err
	}
	e := Event{
		RunID: id, Seq: 1, Kind: EventCreated, Status: Pending, Step: -1, At: at,
		Created: &Created{WorkflowID: w.ID, OwnerUserID: w.OwnerUserID, RequesterAgentID: requesterAgentID, Steps: plan.steps},
	}
	return created(e, plan), []Event{e}, nil
}

func created(e Event, plan *Plan) Run {
	r := Run{
		ID: e.RunID, WorkflowID: e.Created.WorkflowID, OwnerUserID: e.Created.OwnerUserID, RequesterAgentID: e.Created.RequesterAgentID, Status: Pending, Plan: plan, Open: plan.Len(), LastSeq: e.Seq, CreatedAt: e.At, UpdatedAt: e.At,
		Steps: make([]*StepResult, plan.Len()),
	}
	results := make([]StepResult, plan.Len())
	for i := range plan.steps {
		s := &plan.steps[i]
		results[i] = StepResult{Index: i, Name: s.Name, Status: Pending, Remaining: len(s.DependsOn)}
		r.Steps[i] = &results[i]
	}
	return r
}

// Replay builds a run from its whole log. It refuses, as INTERNAL_ERROR, a log that does not begin with created, has a
// gap, goes on after its end, or tells of a step that the run does not have.
func Replay(events []Event) (Run, error) {
	if len(events) == 0 || events[0].Kind != EventCreated || events[0].Created == nil || events[0].Seq != 1 {
		return Run{}, broken("the log of a run begins with its creation")
	}
	plan, err := Compile(events[0].Created.Steps)
	if err != nil {
		return Run{}, err
	}
	r := created(events[0], plan)
	for i := range events[1:] {
		e := &events[i+1]
		if e.RunID != r.ID || e.Seq != r.LastSeq+1 {
			return Run{}, broken("event %d of run %s follows event %d of run %s", e.Seq, e.RunID, r.LastSeq, r.ID)
		}
		if r.Status.Ended() {
			return Run{}, broken("event %d comes after the end of run %s", e.Seq, r.ID)
		}
		if !r.fold(e) {
			return Run{}, broken("event %d of run %s is unknown: %q of step %d", e.Seq, r.ID, e.Kind, e.Step)
		}
	}
	return r, nil
}

// fold lets an event have happened. Every change of a run goes through it, so a log and its run cannot differ.
func (r *Run) fold(e *Event) bool {
	switch e.Kind {
	case EventStarted:
		at := e.At
		r.Status, r.StartedAt = e.Status, &at
	case EventComplete:
		at := e.At
		r.Status, r.Error, r.CompletedAt = e.Status, e.Error, &at
	default:
		if e.Step < 0 || e.Step >= len(r.Steps) || !r.foldStep(r.Steps[e.Step], e) {
			return false
		}
	}
	r.LastSeq, r.UpdatedAt = e.Seq, e.At
	return true
}

func (r *Run) foldStep(s *StepResult, e *Event) bool {
	switch e.Kind {
	case EventStepScheduled:
		if s.RetryAt != nil {
			r.Waiting--
		}
		s.Attempts, s.TaskID, s.Error, s.RetryAt = e.Attempt, "", nil, nil
	case EventStepStarted:
		s.TaskID = e.TaskID
		if s.StartedAt == nil {
			at := e.At
			s.StartedAt = &at
		}
	case EventStepRetrying:
		r.Waiting++
		s.Error, s.RetryAt = e.Error, e.RetryAt
	case EventStepCompleted:
		for d := r.open(r.Plan.dependents[s.Index]); d != 0; {
			r.Steps[d.next()].Remaining--
		}
		fallthrough
	case EventStepFailed, EventStepSkipped, EventStepCancelled:
		if s.RetryAt != nil {
			r.Waiting--
			s.RetryAt = nil
		}
		r.Open--
		at := e.At
		s.Output, s.Error, s.CompletedAt = e.Output, e.Error, &at
		if s.StartedAt == nil && e.Kind == EventStepCompleted {
			s.StartedAt = &at
		}
	default:
		return false
	}
	s.Status = e.Status
	return true
}

// open returns those of the steps that have not ended.
func (r *Run) open(steps Set) Set {
	var open Set
	for steps != 0 {
		if i := steps.next(); !r.Steps[i].Status.Ended() {
			open.add(i)
		}
	}
	return open
}

// Input is what the step's task is given: the step's own input plus step_<i>_output for each dependency i, whose outputs
// must be there.
func (r *Run) Input(step int) json.RawMessage {
	s := &r.Plan.steps[step]
	if len(s.DependsOn) == 0 {
		return s.Input
	}
	size := len(s.Input)
	for _, d := range s.DependsOn {
		size += len(`,"step_00_output":null`) + len(r.Steps[d].Output)
	}
	b := append(make([]byte, 0, size), s.Input[:len(s.Input)-1]...)
	comma := !blank(b[1:])
	for _, d := range s.DependsOn {
		if comma {
			b = append(b, ',')
		}
		comma = true
		b = append(b, `"step_`...)
		b = strconv.AppendInt(b, int64(d), 10)
		b = append(b, `_output":`...)
		if out := r.Steps[d].Output; len(out) > 0 {
			b = append(b, out...)
		} else {
			b = append(b, "null"...)
		}
	}
	return append(b, '}')
}

func blank(b []byte) bool {
	for _, c := range b {
		if c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			return false
		}
	}
	return true
}
