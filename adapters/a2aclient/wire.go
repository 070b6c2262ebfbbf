package a2aclient

import (
	"bytes"
	"cmp"
	"encoding/base64"
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
	Kind      string         `json:"kind"`
	MessageID string         `json:"messageId"`
	Role      string         `json:"role"`
	Parts     []wirePart     `json:"parts"`
	ContextID string         `json:"contextId,omitempty"`
	TaskID    string         `json:"taskId,omitempty"`
	Metadata  map[string]any `json:"metadata,omitempty"`
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

// answeredFile is a file in the words of 0.3 and of the drafts of 1.0.
type answeredFile struct {
	Name      string  `json:"name"`
	MimeType  string  `json:"mimeType"`
	MediaType string  `json:"mediaType"`
	Bytes     *string `json:"bytes"`
	WithBytes *string `json:"fileWithBytes"`
	URI       *string `json:"uri"`
	WithURI   *string `json:"fileWithUri"`
}

// file is the data of a task.PartFile.
type file struct {
	Name     string  `json:"name,omitempty"`
	MimeType string  `json:"mimeType,omitempty"`
	Bytes    *string `json:"bytes,omitempty"`
	URI      *string `json:"uri,omitempty"`
}

// Limits of an answer.
const (
	maxDepth = 64
	maxItems = 1_000 // messages, artifacts and parts together
	maxText  = 500   // characters of an agent's words in an error
	maxID    = 1_000 // bytes of an agent's id of a task or a context
)

// errProtocol is the cause of every answer that cannot be used.
type errProtocol struct{ why string }

func (e errProtocol) Error() string { return e.why }

var errNeither = unusable("the agent's result is neither a task nor a message")

func unusable(format string, args ...any) error { return errProtocol{fmt.Sprintf(format, args...)} }

// agentError is an error that the agent itself answers with.
type agentError struct {
	code    int
	message string
}

func (e agentError) Error() string { return fmt.Sprintf("JSON-RPC error %d: %s", e.code, e.message) }

// request is what of a request its answer is held against.
type request struct {
	id           string // of JSON-RPC
	remoteTaskID string // "" when the agent has given none yet
}

// decodeAnswer reads the body of an answer.
func decodeAnswer(body []byte, to request) (ports.Answer, error) {
	result, err := decodeResult(body, to.id)
	if err != nil {
		return ports.Answer{}, err
	}
	var r wireResult
	if err := json.Unmarshal(result, &r); err != nil {
		return ports.Answer{}, errNeither
	}
	d := decoder{to: to}
	a, err := d.answer(r)
	switch {
	case err != nil:
		return ports.Answer{}, err
	case d.items > maxItems:
		return ports.Answer{}, unusable("the agent's answer has more than %d parts", maxItems)
	case len(a.RemoteTaskID) > maxID || len(a.ContextID) > maxID:
		return ports.Answer{}, unusable("the agent's ids are longer than %d bytes", maxID)
	}
	return a, nil
}

func decodeResult(body []byte, id string) (json.RawMessage, error) {
	if err := checkText(body); err != nil {
		return nil, err
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

// checkText refuses JSON that not every reader takes: bad UTF-8, NUL even if escaped, brackets that are nested too deep.
func checkText(b []byte) error {
	if !utf8.Valid(b) {
		return unusable("the agent's answer is not UTF-8")
	}
	deep, inString := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == 0 || inString && bytes.HasPrefix(b[i:], []byte(`\u0000`)):
			return unusable("the agent's answer contains NUL")
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if deep++; deep > maxDepth {
				return unusable("the agent's answer is nested deeper than %d", maxDepth)
			}
		case c == '}' || c == ']':
			deep--
		}
	}
	return nil
}

func cut(s string) string {
	r := []rune(s)
	if len(r) > maxText {
		return string(r[:maxText]) + "…"
	}
	return s
}

type decoder struct {
	to    request
	items int
}

func (d *decoder) answer(r wireResult) (ports.Answer, error) {
	switch {
	case r.Task != nil && r.Task.Status != nil:
		return d.taskAnswer(*r.Task)
	case r.Status != nil:
		return d.taskAnswer(r)
	case r.Message != nil && r.Message.Parts != nil:
		return d.messageAnswer(*r.Message)
	case r.Parts != nil:
		return d.messageAnswer(r)
	default:
		return ports.Answer{}, errNeither
	}
}

func (d *decoder) messageAnswer(r wireResult) (ports.Answer, error) {
	m, err := d.message(answeredMessage{MessageID: r.MessageID, Parts: r.Parts}, d.to.id+"-message-0")
	return ports.Answer{State: ports.AnswerDone, Messages: []task.Message{m}, ContextID: r.ContextID}, err
}

func (d *decoder) taskAnswer(r wireResult) (ports.Answer, error) {
	asked := d.to.remoteTaskID
	switch {
	case r.ID == "":
		r.ID = asked
	case asked != "" && r.ID != asked:
		return ports.Answer{}, unusable("the agent answered about another task")
	}
	a := ports.Answer{RemoteTaskID: r.ID, ContextID: r.ContextID}
	state := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(r.Status.State, "TASK_STATE_")), "_", "-")
	switch state {
	case "completed":
		a.State = ports.AnswerDone
	case "submitted", "working":
		if r.ID == "" {
			return a, unusable("the agent says that it works on the task, but gives no id to ask for")
		}
		a.State = ports.AnswerWorking
		return a, nil
	case "failed":
		a.State, a.Reason = ports.AnswerFailed, "the agent reports that it failed"
	case "rejected":
		a.State, a.Reason = ports.AnswerFailed, "the agent rejected the task"
	case "canceled", "cancelled":
		a.State, a.Reason = ports.AnswerFailed, "the agent cancelled the task"
	case "input-required":
		a.State = ports.AnswerInputRequired
	case "auth-required":
		a.State, a.Reason = ports.AnswerFailed, "the agent asks for authentication"
	default:
		return a, unusable("the agent's task is in the unknown state %q", cut(r.Status.State))
	}
	base := r.ID
	if base == "" {
		base = d.to.id
	}
	// What is in the history may stand in the status again.
	seen := map[string]bool{}
	for i, m := range r.History {
		if role := strings.ToLower(strings.TrimPrefix(m.Role, "ROLE_")); role != "agent" || (m.MessageID != "" && seen[m.MessageID]) {
			continue
		}
		seen[m.MessageID] = true
		msg, err := d.message(m, fmt.Sprintf("%s-message-%d", base, i))
		if err != nil {
			return a, err
		}
		a.Messages = append(a.Messages, msg)
	}
	if m := r.Status.Message; m != nil {
		msg, err := d.message(*m, fmt.Sprintf("%s-message-%d", base, len(r.History)))
		if err != nil {
			return a, err
		}
		if words := textOf(msg.Parts); a.State == ports.AnswerFailed && words != "" {
			a.Reason += ": " + cut(words)
		}
		if m.MessageID == "" || !seen[m.MessageID] {
			a.Messages = append(a.Messages, msg)
		}
	}
	for i, w := range r.Artifacts {
		parts, err := d.parts(w.Parts)
		if err != nil {
			return a, err
		}
		if w.ArtifactID == "" {
			w.ArtifactID = fmt.Sprintf("%s-artifact-%d", base, i)
		}
		a.Artifacts = append(a.Artifacts, task.Artifact{ID: w.ArtifactID, Name: w.Name, Description: w.Description, Parts: parts})
	}
	return a, nil
}

func textOf(parts []task.Part) string {
	var words []string
	for _, p := range parts {
		var s string
		if p.Type == task.PartText && json.Unmarshal(p.Data, &s) == nil {
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
		case p.Raw != nil || p.URL != nil || isObject(p.File):
			kind = "file"
		case p.Data != nil:
			kind = "data"
		}
	}
	out := task.Part{Type: task.PartType(kind), Data: p.Data}
	if isObject(p.Metadata) {
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
		var err error
		if out.Data, err = p.file(); err != nil {
			return out, err
		}
	default:
		return out, unusable("a part of the agent's answer is of the unknown kind %q", cut(kind))
	}
	return out, nil
}

// file is what a part says of a file, in the form that a task.PartFile has.
func (p answeredPart) file() (json.RawMessage, error) {
	out := file{Name: p.Filename, MimeType: p.MediaType, Bytes: p.Raw, URI: p.URL}
	given := p.File
	if given == nil {
		given = p.Data // the {type, data} dialect
	}
	if isObject(given) {
		var f answeredFile
		if json.Unmarshal(given, &f) != nil {
			return nil, unusable("a file part of the agent's answer has no file")
		}
		out = file{
			Name: cmp.Or(f.Name, out.Name), MimeType: cmp.Or(f.MimeType, f.MediaType, out.MimeType),
			Bytes: cmp.Or(f.Bytes, f.WithBytes, out.Bytes), URI: cmp.Or(f.URI, f.WithURI, out.URI),
		}
	}
	switch {
	case out.Bytes == nil && (out.URI == nil || *out.URI == ""):
		return nil, unusable("a file part of the agent's answer has no file")
	case out.Bytes != nil && !isBase64(*out.Bytes):
		return nil, unusable("a file in the agent's answer is not base64")
	}
	b, _ := json.Marshal(out) // strings always marshal
	return b, nil
}

func isObject(b json.RawMessage) bool { return bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) }

// isBase64 takes every common alphabet, with and without padding.
func isBase64(s string) bool {
	for _, e := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if _, err := e.DecodeString(s); err == nil {
			return true
		}
	}
	return false
}

// asCallError classifies what went wrong with an answer.
func asCallError(err error) *ports.CallError {
	var said agentError
	if errors.As(err, &said) {
		return &ports.CallError{Code: task.ErrAgent, Message: "the agent answered with " + said.Error()}
	}
	return &ports.CallError{Code: task.ErrProtocol, Message: err.Error()}
}
