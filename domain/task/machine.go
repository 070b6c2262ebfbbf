package task

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
)

// Command is something that is to happen to a task: Assign, Start, Progress, Reply, Complete, Fail, TimeOut, Cancel.
type Command interface{ command() }

// Assign gives a pending task to its agent, which is back. To one that is not pending it does nothing.
type Assign struct{ At time.Time }

// Start says that the agent is being called with the requester's next message. It counts an attempt.
type Start struct{ At time.Time }

// Progress brings what an agent said or made before the end.
type Progress struct {
	At           time.Time
	Messages     []Message
	Artifacts    []Artifact
	RemoteTaskID string // "" leaves it
	ContextID    string // "" leaves it
	Told         int64  // the message that the agent was given; 0 leaves it
	AwaitsInput  bool   // the agent asks for a reply
}

// Reply is what the requester says while the task is open.
type Reply struct {
	At      time.Time
	Message Message // the role is set
}

// Complete ends the task with the agent's answer. Output is worked out from it, and from what the agent said and made of
// the same question before.
type Complete struct {
	At        time.Time
	Messages  []Message
	Artifacts []Artifact
	Earlier   []Event // of the log

	RemoteTaskID string // the agent's own id for it; "" if it gave none, or none new
}

// Fail ends the task without success.
type Fail struct {
	At        time.Time
	Error     Error
	Messages  []Message  // what the agent said about it
	Artifacts []Artifact // what it made all the same
}

// TimeOut ends the task if its time is up.
type TimeOut struct{ At time.Time }

// Cancel ends the task by its requester's wish.
type Cancel struct{ At time.Time }

func (Assign) command()   {}
func (Start) command()    {}
func (Reply) command()    {}
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
	case Assign:
		if t.Status != Pending {
			return t, nil, nil
		}
		m.at = c.At
		m.status(Assigned, false)
	case Start:
		m.at = c.At
		m.t.Attempts++
		m.t.Tried++
		m.run(false)
	case Progress:
		m.at = c.At
		if c.RemoteTaskID != "" {
			m.t.RemoteTaskID = c.RemoteTaskID
		}
		if c.ContextID != "" {
			m.t.ContextID = c.ContextID
		}
		if c.Told > m.t.Told {
			m.t.Told, m.t.Tried = c.Told, 0
		}
		m.say(c.Messages, c.Artifacts)
		m.run(c.AwaitsInput && m.t.Told == m.t.Asked) // what it asked may have been answered by now
	case Reply:
		m.at = c.At
		c.Message.Role = RoleUser
		m.say([]Message{c.Message}, nil)
		m.t.Asked = m.t.LastSeq
		if m.t.AwaitsInput {
			m.status(m.t.Status, false)
		}
	case Complete:
		m.at = c.At
		m.begin()
		m.say(c.Messages, c.Artifacts)
		messages, artifacts := History(c.Earlier)
		m.t.Output = output(append(messages, c.Messages...), append(artifacts, c.Artifacts...))
		if c.RemoteTaskID != "" {
			m.t.RemoteTaskID = c.RemoteTaskID
		}
		m.end(Completed, nil)
	case Fail:
		m.at = c.At
		m.say(c.Messages, c.Artifacts)
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

// status changes what a status event tells, if it is a change.
func (m *machine) status(s Status, awaitsInput bool) {
	if m.t.Status == s && m.t.AwaitsInput == awaitsInput {
		return
	}
	m.t.Status, m.t.AwaitsInput = s, awaitsInput
	m.emit(Event{Kind: EventStatus, AwaitsInput: awaitsInput})
}

func (m *machine) begin() {
	if m.t.StartedAt == nil {
		at := m.at
		m.t.StartedAt = &at
	}
}

// run says that the agent is at work, or waits for an answer.
func (m *machine) run(awaitsInput bool) {
	m.begin()
	m.status(Running, awaitsInput)
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
	m.t.Status, m.t.Error, m.t.CompletedAt, m.t.AwaitsInput = s, err, &at, false
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
