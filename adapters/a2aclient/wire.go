package a2aclient

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/nexus-protocol/nexus/adapters/internal/a2awire"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// Answers are read in all forms of A2A at once, whichever the question was in: agents mix them.

type rpcResponse struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  json.RawMessage `json:"result"`
	Error   *wireError      `json:"error"`
}

// wireResult is a task, a message, or an event of a stream.
type wireResult struct {
	// 1.0 wraps what it answers with, and so does 0.3 over HTTP+JSON.
	Task           *wireResult `json:"task"`
	Message        *wireResult `json:"message"`
	Msg            *wireResult `json:"msg"`
	StatusUpdate   *wireResult `json:"statusUpdate"`
	ArtifactUpdate *wireResult `json:"artifactUpdate"`

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
	Content   []answeredPart `json:"content"`

	// Of an event.
	TaskID    string        `json:"taskId"`
	Artifact  *wireArtifact `json:"artifact"`
	Append    bool          `json:"append"`
	LastChunk bool          `json:"lastChunk"`
	Final     bool          `json:"final"`
}

type wireStatus struct {
	State   string           `json:"state"`
	Message *answeredMessage `json:"message"`
}

type answeredMessage struct {
	MessageID string         `json:"messageId"`
	Role      string         `json:"role"`
	Parts     []answeredPart `json:"parts"`
	Content   []answeredPart `json:"content"` // 0.3 over HTTP+JSON
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

// Limits of an answer.
const (
	maxDepth = 64
	maxItems = 10_000 // messages, artifacts and parts together; who streams words one by one has many
	maxText  = 500    // characters of an agent's words in an error
	maxID    = 1_000  // bytes of an agent's id of a task or a context
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
	reason  string // A2A's name of it, over HTTP+JSON
}

func (e agentError) Error() string { return fmt.Sprintf("JSON-RPC error %d: %s", e.code, e.message) }

// wireError is an error of JSON-RPC, or one of HTTP+JSON: google.rpc.Status in 1.0, and the same without a wrapper in 0.3.
type wireError struct {
	Code    int             `json:"code"`
	Message string          `json:"message"`
	Details json.RawMessage `json:"details"`
}

func (e wireError) said() agentError {
	said := agentError{code: e.Code, message: cut(e.Message)}
	var details []struct {
		Reason string `json:"reason"`
	}
	if json.Unmarshal(e.Details, &details) == nil {
		for _, d := range details {
			said.reason = cmp.Or(said.reason, cut(d.Reason))
		}
	}
	return said
}

// decodeError reads the body of a failure; ok is false if it says nothing that is known.
func decodeError(body []byte) (said agentError, ok bool) {
	var e struct {
		wireError

		Error *wireError `json:"error"`
	}
	if checkText(body) != nil || json.Unmarshal(body, &e) != nil {
		return said, false
	}
	if e.Error != nil {
		return e.Error.said(), true
	}
	return e.said(), e.Message != "" && e.Code != 0
}

// request is what of a request its answer is held against.
type request struct {
	id           string // of JSON-RPC
	dialect      dialect
	typed        *bool  // is set when the answer has parts that are {type, data}; may be nil
	remoteTaskID string // "" when the agent has given none yet
}

// decodeAnswer reads the result of a call.
func decodeAnswer(result json.RawMessage, to request) (ports.Answer, error) {
	var r wireResult
	if err := json.Unmarshal(result, &r); err != nil {
		return ports.Answer{}, errNeither
	}
	s := newStory(to)
	if t := r.task(); t != nil {
		if state, _, err := stateOf(t.Status.State); err == nil && state == ports.AnswerWorking {
			t.History, t.Artifacts, t.Status.Message = nil, nil, nil // they come with the answer that ends the task
		}
	}
	if err := s.event(r); err != nil {
		return ports.Answer{}, err
	}
	return s.answer(), nil
}

// task is the task in a result, nil if there is none.
func (r *wireResult) task() *wireResult {
	if r.Task != nil {
		r = r.Task
	}
	if r.Status == nil {
		return nil
	}
	return r
}

// message is the message in a result, nil if there is none.
func (r *wireResult) message() *answeredMessage {
	switch {
	case r.Message != nil:
		r = r.Message
	case r.Msg != nil:
		r = r.Msg
	}
	if r.Parts == nil && r.Content == nil {
		return nil
	}
	return &answeredMessage{MessageID: r.MessageID, Role: r.Role, Parts: r.Parts, Content: r.Content}
}

// decodeResult unpacks what an agent answers with.
func decodeResult(body []byte, to request) (json.RawMessage, error) {
	if err := checkText(body); err != nil {
		return nil, err
	}
	if to.dialect.rest() {
		if body = bytes.TrimSpace(body); !json.Valid(body) || string(body) == "null" {
			return nil, unusable("the agent's answer is not JSON")
		}
		return body, nil
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
		return nil, res.Error.said()
	case json.Unmarshal(res.ID, &gotID) != nil || gotID != to.id:
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

func (p answeredPart) part(to request) (task.Part, error) {
	kind := p.Kind
	if kind == "" {
		kind = p.Type
		if kind == "text" && p.Data != nil && p.Text == nil && to.typed != nil {
			*to.typed = true
		}
	}
	if kind == "" { // 1.0 tells by the field that is there
		switch {
		case p.Text != nil:
			kind = "text"
		case p.Raw != nil || p.URL != nil || a2awire.IsObject(p.File):
			kind = "file"
		case p.Data != nil:
			kind = "data"
		}
	}
	out := task.Part{Type: task.PartType(kind), Data: p.Data}
	if a2awire.IsObject(p.Metadata) {
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
		if to.dialect == rest03 { // there it is an object in an object
			var inner map[string]json.RawMessage
			if json.Unmarshal(out.Data, &inner) == nil && len(inner) == 1 && inner["data"] != nil {
				out.Data = inner["data"]
			}
		}
		out.Data, out.Metadata = a2awire.Unwrap(out.Data, out.Metadata)
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
	out := a2awire.File{Name: p.Filename, MimeType: p.MediaType, Bytes: p.Raw, URI: p.URL}
	given := p.File
	if given == nil {
		given = p.Data // the {type, data} dialect
	}
	if a2awire.IsObject(given) {
		var f answeredFile
		if json.Unmarshal(given, &f) != nil {
			return nil, unusable("a file part of the agent's answer has no file")
		}
		out = a2awire.File{
			Name: cmp.Or(f.Name, out.Name), MimeType: cmp.Or(f.MimeType, f.MediaType, out.MimeType),
			Bytes: cmp.Or(f.Bytes, f.WithBytes, out.Bytes), URI: cmp.Or(f.URI, f.WithURI, out.URI),
		}
	}
	switch {
	case out.Bytes == nil && (out.URI == nil || *out.URI == ""):
		return nil, unusable("a file part of the agent's answer has no file")
	case out.Bytes != nil && !a2awire.IsBase64(*out.Bytes):
		return nil, unusable("a file in the agent's answer is not base64")
	}
	b, _ := json.Marshal(out) // strings always marshal
	return b, nil
}

// asCallError classifies what went wrong with an answer.
func asCallError(err error) error {
	var said agentError
	if errors.As(err, &said) {
		return &refusal{CallError: &ports.CallError{Code: task.ErrAgent, Message: "the agent answered with " + said.Error()}, rpc: said.code, reason: said.reason}
	}
	return &ports.CallError{Code: task.ErrProtocol, Message: err.Error()}
}
