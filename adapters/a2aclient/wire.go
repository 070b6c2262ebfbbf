package a2aclient

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// Requests are A2A 0.3.

type rpcRequest struct {
	JSONRPC string `json:"jsonrpc"`
	ID      string `json:"id"`
	Method  string `json:"method"`
	Params  any    `json:"params"`
}

type sendParams struct {
	Message       wireMessage    `json:"message"`
	Configuration map[string]any `json:"configuration"`
	Metadata      map[string]any `json:"metadata"`
}

type taskParams struct {
	ID string `json:"id"`
}

type wireMessage struct {
	Kind      string     `json:"kind"`
	MessageID string     `json:"messageId"`
	Role      string     `json:"role"`
	Parts     []wirePart `json:"parts"`
	ContextID string     `json:"contextId,omitempty"`
	TaskID    string     `json:"taskId,omitempty"`
}

type wirePart struct {
	Kind     string          `json:"kind"`
	Text     *string         `json:"text,omitempty"`
	Data     json.RawMessage `json:"data,omitempty"`
	File     json.RawMessage `json:"file,omitempty"`
	Metadata json.RawMessage `json:"metadata,omitempty"`
}

func toWire(parts []task.Part) []wirePart {
	out := make([]wirePart, len(parts))
	for i, p := range parts {
		w := wirePart{Kind: string(p.Type), Metadata: p.Metadata}
		switch p.Type {
		case task.PartText:
			var s string
			_ = json.Unmarshal(p.Data, &s) // a text part's data is a JSON string
			w.Text = &s
		case task.PartData:
			w.Data = p.Data
		case task.PartFile:
			w.File = p.Data
		}
		out[i] = w
	}
	return out
}

// Answers are read in A2A 0.3, in the {type, data} dialect, and, as far as they differ, in 1.0.

type rpcResponse struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  json.RawMessage `json:"result"`
	Error   *struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

type wireResult struct {
	// 1.0 wraps what it answers with.
	Task    *wireResult `json:"task"`
	Message *wireResult `json:"message"`

	Kind      string            `json:"kind"`
	ID        string            `json:"id"`
	ContextID string            `json:"contextId"`
	Status    *wireStatus       `json:"status"`
	Artifacts []wireArtifact    `json:"artifacts"`
	History   []answeredMessage `json:"history"`

	// Of a message.
	MessageID string         `json:"messageId"`
	Role      string         `json:"role"`
	Parts     []answeredPart `json:"parts"`
}

type wireStatus struct {
	State   string           `json:"state"`
	Message *answeredMessage `json:"message"`
}

type answeredMessage struct {
	MessageID string         `json:"messageId"`
	Role      string         `json:"role"`
	Parts     []answeredPart `json:"parts"`
}

type wireArtifact struct {
	ArtifactID  string         `json:"artifactId"`
	Name        string         `json:"name"`
	Description string         `json:"description"`
	Parts       []answeredPart `json:"parts"`
}

type answeredPart struct {
	Kind      string          `json:"kind"`
	Type      string          `json:"type"` // the {type, data} dialect
	Text      *string         `json:"text"`
	Data      json.RawMessage `json:"data"`
	File      json.RawMessage `json:"file"`
	Raw       *string         `json:"raw"` // 1.0: base64
	URL       *string         `json:"url"` // 1.0
	Filename  string          `json:"filename"`
	MediaType string          `json:"mediaType"`
	Metadata  json.RawMessage `json:"metadata"`
}

// Limits of an answer.
const (
	maxDepth = 64
	maxItems = 1_000 // messages, artifacts and parts together
	maxText  = 500   // characters of an agent's words in an error
)

// errProtocol is the cause of every answer that cannot be used.
type errProtocol struct{ why string }

func (e errProtocol) Error() string { return e.why }

func unusable(format string, args ...any) error { return errProtocol{fmt.Sprintf(format, args...)} }

// agentError is an error that the agent itself answers with.
type agentError struct {
	code    int
	message string
}

func (e agentError) Error() string { return fmt.Sprintf("JSON-RPC error %d: %s", e.code, e.message) }

// decodeAnswer reads the body of an answer to the request of that id.
func decodeAnswer(body []byte, id string) (ports.Answer, error) {
	result, err := decodeResult(body, id)
	if err != nil {
		return ports.Answer{}, err
	}
	var r wireResult
	if err := json.Unmarshal(result, &r); err != nil {
		return ports.Answer{}, unusable("the agent's result is neither a task nor a message")
	}
	d := decoder{}
	a, err := d.answer(r)
	if err == nil && d.items > maxItems {
		err = unusable("the agent's answer has more than %d parts", maxItems)
	}
	return a, err
}

func decodeResult(body []byte, id string) (json.RawMessage, error) {
	if !utf8.Valid(body) || bytes.Contains(body, []byte(`\u0000`)) || bytes.IndexByte(body, 0) >= 0 {
		return nil, unusable("the agent's answer is not clean UTF-8 text")
	}
	if depth(body) > maxDepth {
		return nil, unusable("the agent's answer is nested deeper than %d", maxDepth)
	}
	var res rpcResponse
	if err := json.Unmarshal(body, &res); err != nil {
		return nil, unusable("the agent's answer is not JSON-RPC")
	}
	var gotID string
	switch {
	case res.JSONRPC != "2.0":
		return nil, unusable("the agent's answer is not JSON-RPC 2.0")
	case res.Error != nil:
		return nil, agentError{res.Error.Code, cut(res.Error.Message)}
	case json.Unmarshal(res.ID, &gotID) != nil || gotID != id:
		return nil, unusable("the agent answered another request")
	case len(res.Result) == 0 || string(res.Result) == "null":
		return nil, unusable("the agent's answer has no result")
	}
	return res.Result, nil
}

// depth is how deep brackets are nested, outside of strings.
func depth(b []byte) int {
	most, now, inString := 0, 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			now++
			most = max(most, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return most
}

func cut(s string) string {
	r := []rune(s)
	if len(r) > maxText {
		return string(r[:maxText]) + "…"
	}
	return s
}

type decoder struct{ items int }

func (d *decoder) answer(r wireResult) (ports.Answer, error) {
	switch {
	case r.Task != nil:
		return d.answer(wireResult{ID: r.Task.ID, ContextID: r.Task.ContextID, Status: r.Task.Status, Artifacts: r.Task.Artifacts, History: r.Task.History})
	case r.Message != nil && r.Status == nil:
		m := r.Message
		return d.answer(wireResult{ContextID: m.ContextID, MessageID: m.MessageID, Role: m.Role, Parts: m.Parts})
	case r.Status != nil:
		return d.taskAnswer(r)
	case r.Parts != nil:
		m, err := d.message(answeredMessage{MessageID: r.MessageID, Role: "agent", Parts: r.Parts}, "message")
		return ports.Answer{State: ports.AnswerDone, Messages: []task.Message{m}, ContextID: r.ContextID}, err
	default:
		return ports.Answer{}, unusable("the agent's result is neither a task nor a message")
	}
}

func (d *decoder) taskAnswer(r wireResult) (ports.Answer, error) {
	a := ports.Answer{RemoteTaskID: r.ID, ContextID: r.ContextID}
	state := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(r.Status.State, "TASK_STATE_")), "_", "-")
	switch state {
	case "completed":
		a.State = ports.AnswerDone
	case "submitted", "working":
		a.State = ports.AnswerWorking
	case "failed", "rejected":
		a.State, a.Reason = ports.AnswerFailed, "the agent "+state+" the task"
		if state == "failed" {
			a.Reason = "the agent reports that it failed"
		}
	case "canceled", "cancelled":
		a.State, a.Reason = ports.AnswerFailed, "the agent cancelled the task"
	case "input-required", "auth-required":
		a.State, a.Reason = ports.AnswerFailed, "the agent asks for more: "+state
	default:
		return a, unusable("the agent's task is in the unknown state %q", cut(r.Status.State))
	}
	if a.State == ports.AnswerWorking {
		return a, nil
	}
	// What is in the history may stand in the status again.
	seen := map[string]bool{}
	list := r.History
	if r.Status.Message != nil {
		list = append(list[:len(list):len(list)], *r.Status.Message)
	}
	for i, m := range list {
		if role := strings.ToLower(strings.TrimPrefix(m.Role, "ROLE_")); role != "agent" || (m.MessageID != "" && seen[m.MessageID]) {
			continue
		}
		seen[m.MessageID] = true
		msg, err := d.message(m, fmt.Sprintf("%s-message-%d", r.ID, i))
		if err != nil {
			return a, err
		}
		a.Messages = append(a.Messages, msg)
	}
	if a.State == ports.AnswerFailed && r.Status.Message != nil {
		if words := textOf(r.Status.Message.Parts); words != "" {
			a.Reason += ": " + cut(words)
		}
	}
	for i, w := range r.Artifacts {
		parts, err := d.parts(w.Parts)
		if err != nil {
			return a, err
		}
		if w.ArtifactID == "" {
			w.ArtifactID = fmt.Sprintf("%s-artifact-%d", r.ID, i)
		}
		a.Artifacts = append(a.Artifacts, task.Artifact{ID: w.ArtifactID, Name: w.Name, Description: w.Description, Parts: parts})
	}
	return a, nil
}

func textOf(parts []answeredPart) string {
	var words []string
	for _, p := range parts {
		var s string
		switch {
		case p.Text != nil:
			words = append(words, *p.Text)
		case p.Type == "text" && json.Unmarshal(p.Data, &s) == nil:
			words = append(words, s)
		}
	}
	return strings.Join(words, " ")
}

func (d *decoder) message(m answeredMessage, id string) (task.Message, error) {
	parts, err := d.parts(m.Parts)
	if m.MessageID != "" {
		id = m.MessageID
	}
	return task.Message{ID: id, Role: task.RoleAgent, Parts: parts}, err
}

func (d *decoder) parts(in []answeredPart) ([]task.Part, error) {
	out := make([]task.Part, 0, len(in))
	d.items += 1 + len(in)
	for _, p := range in {
		part, err := p.part()
		if err != nil {
			return nil, err
		}
		out = append(out, part)
	}
	return out, nil
}

func (p answeredPart) part() (task.Part, error) {
	kind := p.Kind
	if kind == "" {
		kind = p.Type
	}
	if kind == "" { // 1.0 tells by the field that is there
		switch {
		case p.Text != nil:
			kind = "text"
		case p.Raw != nil || p.URL != nil:
			kind = "file"
		case p.Data != nil:
			kind = "data"
		}
	}
	out := task.Part{Type: task.PartType(kind), Data: p.Data}
	if bytes.HasPrefix(bytes.TrimSpace(p.Metadata), []byte("{")) {
		out.Metadata = p.Metadata
	}
	switch out.Type {
	case task.PartText:
		if p.Text != nil {
			out.Data = task.TextPart(*p.Text).Data
		}
		var s string
		if json.Unmarshal(out.Data, &s) != nil {
			return out, unusable("a text part of the agent's answer has no text")
		}
	case task.PartData:
		if out.Data == nil {
			return out, unusable("a data part of the agent's answer has no data")
		}
	case task.PartFile:
		if p.File != nil {
			out.Data = p.File
		}
		if p.Raw != nil || p.URL != nil {
			file := map[string]any{}
			for name, v := range map[string]*string{"bytes": p.Raw, "uri": p.URL, "name": &p.Filename, "mimeType": &p.MediaType} {
				if v != nil && *v != "" {
					file[name] = *v
				}
			}
			out.Data, _ = json.Marshal(file) // strings always marshal
		}
		if !bytes.HasPrefix(bytes.TrimSpace(out.Data), []byte("{")) {
			return out, unusable("a file part of the agent's answer has no file")
		}
	default:
		return out, unusable("a part of the agent's answer is of the unknown kind %q", cut(kind))
	}
	return out, nil
}

// asCallError classifies what went wrong with an answer.
func asCallError(err error) *ports.CallError {
	var said agentError
	if errors.As(err, &said) {
		return &ports.CallError{Code: task.ErrAgent, Message: "the agent answered with " + said.Error()}
	}
	return &ports.CallError{Code: task.ErrProtocol, Message: err.Error()}
}
