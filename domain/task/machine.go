package task

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
)

// Command is something that is to happen to a task: Start, Progress, Complete, Fail, TimeOut, Cancel.
type Command interface{ command() }

// Start says that the agent is being called. It counts an attempt.
type Start struct{ At time.Time }

// Progress brings what an agent said or made before the end.
type Progress struct {
	At           time.Time
	Messages     []Message
	Artifacts    []Artifact
	RemoteTaskID string // "" leaves it
	ContextID    string // "" leaves it
}

// Complete ends the task with the agent's answer. Output is worked out from it.
type Complete struct {
	At        time.Time
	Messages  []Message
	Artifacts []Artifact
}

// Fail ends the task without success.
type Fail struct {
	At       time.Time
	Error    Error
	Messages []Message // what the agent said about it
}

// TimeOut ends the task if its time is up.
type TimeOut struct{ At time.Time }

// Cancel ends the task by its requester's wish.
type Cancel struct{ At time.Time }

func (Start) command()    {}
func (Progress) command() {}
func (Complete) command() {}
func (Fail) command()     {}
func (TimeOut) command()  {}
func (Cancel) command()   {}

// Apply lets one command happen. A task that has ended refuses every command with TASK_NOT_ACTIVE, but for a second
// Cancel, which changes nothing. The given task is left as it was.
func Apply(t Task, c Command) (Task, []Event, error) {
	if t.Status.Ended() {
		if _, again := c.(Cancel); again && t.Status == Cancelled {
			return t, nil, nil
		}
		return t, nil, NotActive(t)
	}
	m := machine{t: t}
	switch c := c.(type) {
	case Start:
		m.at = c.At
		m.t.Attempts++
		if m.t.StartedAt == nil {
			m.t.StartedAt = &c.At
		}
		if m.t.Status != Running {
			m.t.Status = Running
			m.emit(Event{Kind: EventStatus})
		}
	case Progress:
		m.at = c.At
		if c.RemoteTaskID != "" {
			m.t.RemoteTaskID = c.RemoteTaskID
		}
		if c.ContextID != "" {
			m.t.ContextID = c.ContextID
		}
		m.say(c.Messages, c.Artifacts)
	case Complete:
		m.at = c.At
		m.say(c.Messages, c.Artifacts)
		m.t.Output = output(c.Messages, c.Artifacts)
		m.end(Completed, nil)
	case Fail:
		m.at = c.At
		m.say(c.Messages, nil)
		m.end(Failed, &c.Error)
	case TimeOut:
		if c.At.Before(t.TimeoutAt) {
			return t, nil, nil
		}
		m.at = c.At
		m.end(Failed, &Error{Code: ErrTimeout, Message: "the agent did not finish within " + t.Timeout.String()})
	case Cancel:
		m.at = c.At
		m.end(Cancelled, nil)
	default:
		return t, nil, fault.New(fault.Internal, fault.CodeInternal, "unknown command %T", c)
	}
	m.t.UpdatedAt = m.at
	return m.t, m.events, nil
}

// NotActive is the fault of a command to a task that has ended.
func NotActive(t Task) error {
	return fault.New(fault.Conflict, fault.CodeTaskNotActive, "the task is %s already; nothing more can happen to it", t.Status).
		With("status", string(t.Status))
}

type machine struct {
	t      Task
	at     time.Time
	events []Event
}

func (m *machine) emit(e Event) {
	m.t.LastSeq++
	e.TaskID, e.Seq, e.Status, e.At = m.t.ID, m.t.LastSeq, m.t.Status, m.at
	m.events = append(m.events, e)
}

func (m *machine) say(messages []Message, artifacts []Artifact) {
	for _, msg := range messages {
		msg.At = m.at
		m.emit(Event{Kind: EventMessage, Message: &msg})
	}
	for _, a := range artifacts {
		m.emit(Event{Kind: EventArtifact, Artifact: &a})
	}
}

func (m *machine) end(s Status, err *Error) {
	at := m.at
	m.t.Status, m.t.Error, m.t.CompletedAt = s, err, &at
	m.emit(Event{Kind: EventComplete, Error: err})
}

// output is the answer as one JSON value: the first data part if there is one, artifacts before messages; else all text
// as {"text": …}; else nil.
func output(messages []Message, artifacts []Artifact) json.RawMessage {
	var parts []Part
	for _, a := range artifacts {
		parts = append(parts, a.Parts...)
	}
	for _, m := range messages {
		if m.Role == RoleAgent {
			parts = append(parts, m.Parts...)
		}
	}
	var texts []string
	for _, p := range parts {
		switch p.Type {
		case PartData:
			return p.Data
		case PartText:
			var s string
			if json.Unmarshal(p.Data, &s) == nil {
				texts = append(texts, s)
			}
		case PartFile: // an artifact, not a value
		}
	}
	if len(texts) == 0 {
		return nil
	}
	b, _ := json.Marshal(map[string]string{"text": strings.Join(texts, "\n")}) // strings always marshal
	return b
}

// History is what a task's events add up to: what was said and made.
func History(events []Event) (messages []Message, artifacts []Artifact) {
	for _, e := range events {
		switch {
		case e.Message != nil:
			messages = append(messages, *e.Message)
		case e.Artifact != nil:
			artifacts = append(artifacts, *e.Artifact)
		}
	}
	return messages, artifacts
}
