// Package task is the life of one task as a state machine: a task and a command go in, the task after it and the events
// that tell what happened come out. Whatever the order in which commands arrive, a task ends once.
package task

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
)

// Status is where a task is in its life:
//
//	pending → assigned → running → completed | failed | cancelled
//
// Every open state may also go straight to failed or cancelled.
type Status string

// The states.
const (
	Pending   Status = "pending"  // waits for an offline agent
	Assigned  Status = "assigned" // accepted, not yet taken up by the agent
	Running   Status = "running"
	Completed Status = "completed"
	Failed    Status = "failed"
	Cancelled Status = "cancelled"
)

// Ended reports whether s is an end state.
func (s Status) Ended() bool { return s == Completed || s == Failed || s == Cancelled }

// Statuses lists all states.
func Statuses() []Status { return []Status{Pending, Assigned, Running, Completed, Failed, Cancelled} }

// Limits of a task.
const (
	MaxTitle       = 200    // characters
	MaxDescription = 10_000 // characters
	MaxName        = 255    // characters of an id that someone else gave
	MaxInput       = 256 << 10
	MaxOutput      = 1 << 20 // bytes of everything an agent answers
	MaxStepInput   = 8 << 20 // bytes, in place of MaxInput, of a workflow's step: what other steps made is part of it
	MinTimeout     = 10 * time.Second
	MaxTimeout     = 3600 * time.Second
	DefaultTimeout = 300 * time.Second
)

// MaxAttempts is how often an agent is called to give it one message.
const MaxAttempts = 3

// Error tells why a task failed.
type Error struct {
	Code    string
	Message string
}

// Codes of a failed task's error.
const (
	ErrTimeout     = "TIMEOUT"           // the task's time ran out
	ErrUnreachable = "AGENT_UNREACHABLE" // no connection, on any attempt
	ErrAgent       = "AGENT_ERROR"       // the agent answered with an error
	ErrAgentFailed = "AGENT_FAILED"      // the agent says that it failed
	ErrProtocol    = "PROTOCOL_ERROR"    // the agent's answer could not be used
)

// Task is one piece of work, asked of one agent.
type Task struct {
	ID               string
	Title            string
	Description      string
	Status           Status
	RequesterUserID  string // "" when a stranger asked, of an agent that costs nothing
	RequesterAgentID string // "" when a person asked
	AgentID          string
	AgentOwnerID     string // who is paid; the agent's owner when the task was made
	SkillID          string
	Input            json.RawMessage // a JSON object
	Output           json.RawMessage // nil until completed
	MaxBudget        *credits.Amount
	Price            credits.Amount // agreed when the task was made, and held
	Attempts         int
	Error            *Error
	Timeout          time.Duration
	CreatedAt        time.Time
	StartedAt        *time.Time
	UpdatedAt        time.Time
	TimeoutAt        time.Time
	CompletedAt      *time.Time
	WorkflowRunID    string
	StepIndex        *int
	RemoteTaskID     string // the agent's own id for it
	ContextID        string // the agent's conversation
	LastSeq          int64  // of the newest event
	Conversation     string // what the requester's side calls the context that the task belongs to; may be ""
	// Verbatim says that the request is what the requester wrote, part by part, and not made of title, description and
	// input.
	Verbatim bool

	// What the requester said and what the agent was given of it, by the sequence numbers of the messages. The agent has
	// one to hear when Asked is above Told.
	Asked int64
	Told  int64
	Tried int // calls that were to give it the next one
	// AwaitsInput says that the agent has asked something, and goes on once the requester has replied.
	AwaitsInput bool

	// Push says that there is, or was, a PushConfig for it. One without needs no look for any.
	Push bool
}

// Cost is what the task costs as things stand: the price while it is open or completed, nothing once it has failed or
// was cancelled.
func (t Task) Cost() credits.Amount {
	if t.Status == Failed || t.Status == Cancelled {
		return 0
	}
	return t.Price
}

// Role says who wrote a message.
type Role string

// The roles.
const (
	RoleUser  Role = "user"
	RoleAgent Role = "agent"
)

// PartType is the form of a part.
type PartType string

// Limits of one message, and of the artifacts that come with it.
const (
	MaxParts     = 100
	MaxArtifacts = 100
	MaxSaid      = 256 << 10 // bytes of all parts together
)

// The part types.
const (
	PartText PartType = "text" // Data is a JSON string
	PartData PartType = "data" // Data is any JSON value
	PartFile PartType = "file" // Data is a JSON object: name, mimeType, and bytes (base64) or uri
)

// Part is one piece of a message or artifact.
type Part struct {
	Type     PartType
	Data     json.RawMessage
	Metadata json.RawMessage // nil, or a JSON object
}

// Message is one thing said in a task.
type Message struct {
	ID    string
	Role  Role
	Parts []Part
	At    time.Time
}

// Artifact is one thing made by a task.
type Artifact struct {
	ID          string
	Name        string
	Description string
	Parts       []Part
}

// EventKind is the kind of an entry in a task's log.
type EventKind string

// The kinds.
const (
	EventStatus   EventKind = "status"
	EventMessage  EventKind = "message"
	EventArtifact EventKind = "artifact"
	EventComplete EventKind = "complete" // the last event of every task
)

// Event is one entry of a task's log. Seq counts from 1 without a gap.
type Event struct {
	TaskID   string
	Seq      int64
	Kind     EventKind
	Status   Status    // the task's, after the event
	Message  *Message  // of a message event
	Artifact *Artifact // of an artifact event
	Error    *Error    // of a complete event that tells of a failure
	At       time.Time
	// AwaitsInput is the task's, after a status event.
	AwaitsInput bool
}

// Draft is a task as it is asked for, with what is known of the agent that it is for.
type Draft struct {
	ID               string
	Title            string
	Description      string
	Input            json.RawMessage // nil or a JSON object
	Timeout          time.Duration   // 0: the default
	MaxBudget        *credits.Amount
	RequesterUserID  string
	RequesterAgentID string
	AgentID          string
	AgentOwnerID     string
	SkillID          string
	Price            credits.Amount // the agent's price now
	Wait             bool           // the agent is offline: the task is pending until it is back
	Message          *Message       // the request as it was written, if that is more than title, description and input
	Conversation     string
	WorkflowRunID    string // of a workflow's step
	StepIndex        *int   // of a workflow's step
	At               time.Time
}

// CheckRequest validates what a requester wrote.
func (d Draft) CheckRequest() error {
	var bad fault.Fields
	n := utf8.RuneCountInString(d.Title)
	bad.Check(n >= 1 && n <= MaxTitle, "title", "must be 1 to %d characters long", MaxTitle)
	bad.Check(utf8.RuneCountInString(d.Description) <= MaxDescription, "description", "must be at most %d characters long", MaxDescription)
	most := MaxInput
	if d.WorkflowRunID != "" {
		most = MaxStepInput
	}
	bad.Check(len(d.Input) <= most, "input", "must be at most %d KiB", most>>10)
	bad.Check(d.Timeout == 0 || (d.Timeout >= MinTimeout && d.Timeout <= MaxTimeout),
		"timeoutSeconds", "must be %d to %d", int(MinTimeout.Seconds()), int(MaxTimeout.Seconds()))
	bad.Check(d.MaxBudget == nil || *d.MaxBudget >= 0, "maxBudgetCredits", "must not be negative")
	bad.Check(utf8.RuneCountInString(d.Conversation) <= MaxName, "contextId", "must be at most %d characters long", MaxName)
	if err := bad.Err(); err != nil || d.Message == nil {
		return err
	}
	bad.Check(utf8.RuneCountInString(d.Message.ID) <= MaxName, "message.messageId", "must be at most %d characters long", MaxName)
	bad.Check(len(d.Message.Parts) > 0, "message.parts", "must have at least one part")
	if err := bad.Err(); err != nil {
		return err
	}
	return CheckSaid("message", d.Message.Parts, nil)
}

// New makes the task and its first events. A price over the requester's own limit is refused; a task for an agent of
// one's own costs nothing.
func New(d Draft) (Task, []Event, error) {
	if err := d.CheckRequest(); err != nil {
		return Task{}, nil, err
	}
	price := d.Price
	if d.AgentOwnerID == d.RequesterUserID {
		price = 0
	}
	if d.MaxBudget != nil && price > *d.MaxBudget {
		return Task{}, nil, fault.New(fault.Payment, fault.CodeInsufficientCredits,
			"the agent's price of %s is over maxBudgetCredits %s; raise it or choose a cheaper agent", price, *d.MaxBudget).
			With("required", price).With("available", *d.MaxBudget)
	}
	timeout := d.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	input := d.Input
	if len(input) == 0 {
		input = json.RawMessage("{}")
	}
	t := Task{
		ID: d.ID, Title: d.Title, Description: d.Description, Status: Assigned,
		RequesterUserID: d.RequesterUserID, RequesterAgentID: d.RequesterAgentID,
		AgentID: d.AgentID, AgentOwnerID: d.AgentOwnerID, SkillID: d.SkillID,
		Input: input, MaxBudget: d.MaxBudget, Price: price, Timeout: timeout,
		CreatedAt: d.At, UpdatedAt: d.At, TimeoutAt: d.At.Add(timeout), Conversation: d.Conversation, WorkflowRunID: d.WorkflowRunID, StepIndex: d.StepIndex, Verbatim: d.Message != nil,
	}
	if d.Wait {
		t.Status = Pending
	}
	m := machine{t: t, at: d.At}
	m.emit(Event{Kind: EventStatus})
	request := t.Request()
	if d.Message != nil {
		request.ID, request.Parts = d.Message.ID, d.Message.Parts
	}
	m.emit(Event{Kind: EventMessage, Message: &request})
	m.t.Asked = m.t.LastSeq
	return m.t, m.events, nil
}

// Request is the first message of a task that is not verbatim: what to do as text, and the input as data when there is
// any.
func (t Task) Request() Message {
	text := t.Description
	if text == "" {
		text = t.Title
	}
	parts := []Part{TextPart(text)}
	if string(t.Input) != "{}" {
		parts = append(parts, Part{Type: PartData, Data: t.Input})
	}
	return Message{ID: t.ID, Role: RoleUser, Parts: parts, At: t.CreatedAt}
}

// requestSeq is the place of the request in every task's log.
const requestSeq = 2

// Unheard reports whether the requester has said something that the agent was not given yet.
func (t Task) Unheard() bool { return t.Asked > t.Told }

// First reports whether what the agent is to be given next is the request itself, and its place in the log.
func (t Task) First() (seq int64, ok bool) { return requestSeq, t.Told < requestSeq }

// Said is a message of the log as the agent is given it: under an id of the task's, the same on every attempt, so that
// the agent can tell a repeat, and no two requesters' ids are taken for one.
func (t Task) Said(m Message, seq int64) Message {
	m.ID = t.ID
	if seq != requestSeq {
		m.ID += "/" + strconv.FormatInt(seq, 10)
	}
	return m
}

// TitleOf makes a title of a text: its first line that says something, cut to the length that a title may have.
func TitleOf(text string) string {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			if r := []rune(line); len(r) > MaxTitle {
				line = string(r[:MaxTitle-1]) + "…"
			}
			return line
		}
	}
	return "-"
}

// TextPart makes a text part.
func TextPart(text string) Part {
	b, _ := json.Marshal(text) // a string always marshals
	return Part{Type: PartText, Data: b}
}
