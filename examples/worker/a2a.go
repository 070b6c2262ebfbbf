package worker

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// The parts of A2A 0.3 that this agent needs, as they look on the wire.

type state string

const (
	working       state = "working"
	inputRequired state = "input-required"
	completed     state = "completed"
	failed        state = "failed"
	canceled      state = "canceled"
)

func (s state) ended() bool { return s == completed || s == failed || s == canceled }

// settled is a state in which the agent does nothing more by itself.
func (s state) settled() bool { return s != working }

type task struct {
	Kind      string     `json:"kind"`
	ID        string     `json:"id"`
	ContextID string     `json:"contextId"`
	Status    status     `json:"status"`
	Artifacts []artifact `json:"artifacts,omitempty"`
	History   []message  `json:"history,omitempty"` // what the agent said before its status' message
}

type status struct {
	State     state     `json:"state"`
	Message   *message  `json:"message,omitempty"`
	Timestamp time.Time `json:"timestamp"`
}

type message struct {
	Kind      string `json:"kind"`
	Role      string `json:"role"`
	MessageID string `json:"messageId"`
	TaskID    string `json:"taskId"`
	ContextID string `json:"contextId"`
	Parts     []part `json:"parts"`
}

type artifact struct {
	ArtifactID string `json:"artifactId"`
	Name       string `json:"name"`
	Parts      []part `json:"parts"`
}

type part struct {
	Kind string         `json:"kind"`
	Text string         `json:"text,omitempty"`
	Data map[string]any `json:"data,omitempty"`
}

func textPart(text string) part { return part{Kind: "text", Text: text} }

type statusUpdate struct {
	Kind      string `json:"kind"`
	TaskID    string `json:"taskId"`
	ContextID string `json:"contextId"`
	Status    status `json:"status"`
	Final     bool   `json:"final"`
}

type artifactUpdate struct {
	Kind      string   `json:"kind"`
	TaskID    string   `json:"taskId"`
	ContextID string   `json:"contextId"`
	Artifact  artifact `json:"artifact"`
	LastChunk bool     `json:"lastChunk"`
}

// statusUpdate tells where the task is. It is final when a stream has no more to tell.
func (t task) statusUpdate() statusUpdate {
	return statusUpdate{Kind: "status-update", TaskID: t.ID, ContextID: t.ContextID, Status: t.Status, Final: t.Status.State.settled()}
}

// newest cuts the history to its last messages, if the caller asked for so many.
func (t task) newest(messages *int) task {
	if messages != nil && *messages < len(t.History) {
		t.History = t.History[len(t.History)-*messages:]
	}
	return t
}

type incoming struct {
	MessageID string         `json:"messageId"`
	ContextID string         `json:"contextId"`
	TaskID    string         `json:"taskId"`
	Parts     []incomingPart `json:"parts"`
}

type incomingPart struct {
	Kind string          `json:"kind"`
	Text string          `json:"text"`
	Data json.RawMessage `json:"data"`
}

// The error codes of JSON-RPC and A2A.
const (
	codeParse         = -32700
	codeRequest       = -32600
	codeMethod        = -32601
	codeParams        = -32602
	codeUnavailable   = -32000
	codeNoTask        = -32001
	codeNotCancelable = -32002
	codeNoPush        = -32003
	codeContentType   = -32005
)

type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`

	status int // of HTTP
}

func refuse(code int, format string, args ...any) *rpcError {
	return &rpcError{Code: code, Message: fmt.Sprintf(format, args...), status: http.StatusOK}
}

func noTask(id string) *rpcError { return refuse(codeNoTask, "there is no task %q", id) }

// unavailable asks the caller to come again.
func unavailable(why string) *rpcError {
	return &rpcError{Code: codeUnavailable, Message: why, status: http.StatusServiceUnavailable}
}
