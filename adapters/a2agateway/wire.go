package a2agateway

import (
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/adapters/internal/a2awire"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/task"
)

// form is how a caller speaks: the version of A2A, or the {type, data} form of parts in the API reference.
type form a2awire.Form

const (
	v03   = form(a2awire.V03)
	typed = form(a2awire.Typed) // 0.3, but for parts that are {type, data}
	v10   = form(a2awire.V10)
)

// fields are a JSON object's, each as it came. Callers write them in camelCase or in snake_case.
type fields map[string]json.RawMessage

func (f fields) get(name string) json.RawMessage {
	if v, ok := f[name]; ok {
		return v
	}
	var snake strings.Builder
	for _, r := range name {
		if 'A' <= r && r <= 'Z' {
			snake.WriteByte('_')
			r += 'a' - 'A'
		}
		snake.WriteRune(r)
	}
	return f[snake.String()]
}

// into decodes a field, if it is there and not null.
func (f fields) into(name string, v any) error {
	raw := f.get(name)
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	if json.Unmarshal(raw, v) != nil {
		return invalid("params."+name, "has a wrong type")
	}
	return nil
}

// incoming is a message as a caller sends it.
type incoming struct {
	id, taskID, contextID string
	parts                 []task.Part
	metadata              fields
}

// message reads a message and notes the form of its parts.
func message(raw json.RawMessage, speaks *form) (incoming, error) {
	var m incoming
	var f fields
	if json.Unmarshal(raw, &f) != nil || f == nil {
		return m, invalid("params.message", "is missing")
	}
	var parts []fields
	var role string
	err := errors.Join(f.into("messageId", &m.id), f.into("taskId", &m.taskID), f.into("contextId", &m.contextID), f.into("role", &role),
		f.into("metadata", &m.metadata), f.into("parts", &parts))
	if err != nil {
		return m, err
	}
	if role != "user" && role != "ROLE_USER" {
		return m, invalid("params.message.role", "must be that of the user: messages come in from the client's side")
	}
	for _, p := range parts {
		part, err := readPart(p, speaks)
		if err != nil {
			return m, err
		}
		m.parts = append(m.parts, part)
	}
	return m, nil
}

func readPart(f fields, speaks *form) (task.Part, error) {
	var kind, old string
	if err := errors.Join(f.into("kind", &kind), f.into("type", &old)); err != nil {
		return task.Part{}, err
	}
	p := task.Part{Metadata: f.get("metadata")}
	if string(p.Metadata) == "null" {
		p.Metadata = nil
	}
	if kind == "" && old != "" {
		kind = old
		if f["data"] != nil && *speaks == v03 {
			*speaks = typed
		}
	}
	text, data, raw, url, inner := f["text"], f["data"], f["raw"], f["url"], f["file"]
	switch {
	case old != "" && (old == "text" || old == "file") && data != nil:
		p.Type, p.Data = task.PartType(old), data
	case kind == "text" || kind == "" && text != nil:
		p.Type, p.Data = task.PartText, text
	case kind == "data" || kind == "" && data != nil:
		p.Type = task.PartData
		p.Data, p.Metadata = a2awire.Unwrap(data, p.Metadata)
	case kind == "file" && inner != nil:
		var old struct {
			Name     string  `json:"name"`
			MimeType string  `json:"mimeType"`
			Bytes    *string `json:"bytes"`
			URI      *string `json:"uri"`
		}
		if json.Unmarshal(inner, &old) != nil {
			return p, invalid("params.message.parts", "has a file that is none")
		}
		return filePart(a2awire.File(old), p.Metadata), nil
	case kind == "" && (raw != nil || url != nil):
		var v a2awire.File
		if err := errors.Join(f.into("filename", &v.Name), f.into("mediaType", &v.MimeType), f.into("raw", &v.Bytes), f.into("url", &v.URI)); err != nil {
			return p, err
		}
		return filePart(v, p.Metadata), nil
	default:
		return p, invalid("params.message.parts", "has one that is neither text, data nor a file")
	}
	if len(p.Data) == 0 {
		return p, invalid("params.message.parts", "has one without content")
	}
	return p, nil
}

func filePart(f a2awire.File, metadata json.RawMessage) task.Part {
	data, _ := json.Marshal(f) // texts always marshal
	return task.Part{Type: task.PartFile, Data: data, Metadata: metadata}
}

// object is JSON that goes out.
type object = map[string]any

// parts are parts as the caller reads them.
func (s form) parts(parts []task.Part) []a2awire.Part { return a2awire.Form(s).Parts(parts) }

func (s form) message(t task.Task, m task.Message) object {
	out := object{"messageId": m.ID, "parts": s.parts(m.Parts), "taskId": t.ID, "contextId": contextOf(t)}
	if s == v10 {
		out["role"] = "ROLE_" + strings.ToUpper(string(m.Role))
		return out
	}
	out["kind"], out["role"] = "message", m.Role
	return out
}

// contextOf is the conversation that a task belongs to, by the caller's name or else by the task's own.
func contextOf(t task.Task) string {
	if t.Conversation != "" {
		return t.Conversation
	}
	return t.ID
}

func (s form) artifact(a task.Artifact) object {
	out := object{"artifactId": a.ID, "parts": s.parts(a.Parts)}
	if a.Name != "" {
		out["name"] = a.Name
	}
	if a.Description != "" {
		out["description"] = a.Description
	}
	return out
}

// states are A2A's, by ours. A task that is not yet at work was submitted.
var states = map[task.Status]string{
	task.Pending: "submitted", task.Assigned: "submitted", task.Running: "working", task.Completed: "completed", task.Failed: "failed", task.Cancelled: "canceled",
}

const inputRequired = "input-required"

func (s form) state(st task.Status, awaitsInput bool) string {
	state := states[st]
	if awaitsInput {
		state = inputRequired
	}
	if s == v10 {
		return "TASK_STATE_" + strings.ToUpper(strings.ReplaceAll(state, "-", "_"))
	}
	return state
}

// statusOf is the task state of ours that a state of A2A's stands for; ok is false if there is none.
func statusOf(state string) (st task.Status, ok bool) {
	switch a2awire.State(state) {
	case "submitted":
		return task.Assigned, true
	case "working", inputRequired:
		return task.Running, true
	case "completed":
		return task.Completed, true
	case "failed", "rejected":
		return task.Failed, true
	case "canceled":
		return task.Cancelled, true
	}
	return "", false
}

// status is where a task is, with what was said last, or why it failed.
func (s form) status(t task.Task, at time.Time, said *task.Message) object {
	out := object{"state": s.state(t.Status, t.AwaitsInput), "timestamp": at.UTC().Format("2006-01-02T15:04:05.000Z")}
	switch {
	case t.Error != nil:
		out["message"] = s.message(t, task.Message{ID: t.ID + "/error", Role: task.RoleAgent, Parts: []task.Part{task.TextPart(t.Error.Message)}})
	case said != nil:
		out["message"] = s.message(t, *said)
	}
	return out
}

// task is a whole task with the newest messages of its history; nil is all of them.
func (s form) task(v app.TaskView, history *int) object {
	t := v.Task
	var said *task.Message
	if n := len(v.Messages); n > 0 && v.Messages[n-1].Role == task.RoleAgent && t.AwaitsInput {
		said = &v.Messages[n-1]
	}
	out := object{"id": t.ID, "contextId": contextOf(t), "status": s.status(t, t.UpdatedAt, said)}
	artifacts := make([]object, 0, len(v.Artifacts))
	for _, a := range v.Artifacts {
		artifacts = append(artifacts, s.artifact(a))
	}
	if len(artifacts) > 0 {
		out["artifacts"] = artifacts
	}
	messages := v.Messages
	if history != nil && *history < len(messages) {
		messages = messages[len(messages)-*history:]
	}
	if len(messages) > 0 {
		said := make([]object, 0, len(messages))
		for _, m := range messages {
			said = append(said, s.message(t, m))
		}
		out["history"] = said
	}
	out["metadata"] = object{"agentId": t.AgentID}
	if s != v10 {
		out["kind"] = "task"
	}
	return out
}

// wrapped is a task as the answer to a message, or as the first event of a stream.
func (s form) wrapped(task object) object {
	if s == v10 {
		return object{"task": task}
	}
	return task
}

// said is a message as the answer to a message.
func (s form) said(m object) object {
	if s == v10 {
		return object{"message": m}
	}
	return m
}

// event is a change as the caller reads it; nil for one that it does not get to see.
func (s form) event(t task.Task, e app.TaskEvent) object {
	t.Status, t.AwaitsInput, t.Error = e.Status, e.AwaitsInput, e.Error
	base := object{"taskId": t.ID, "contextId": contextOf(t)}
	switch {
	case e.Artifact != nil:
		base["artifact"], base["append"], base["lastChunk"] = s.artifact(*e.Artifact), false, true
		if s == v10 {
			return object{"artifactUpdate": base}
		}
		base["kind"] = "artifact-update"
		return base
	case e.Message != nil && e.Message.Role == task.RoleUser:
		return nil
	}
	base["status"] = s.status(t, e.At, e.Message)
	if s == v10 {
		return object{"statusUpdate": base}
	}
	base["kind"], base["final"] = "status-update", over(e)
	return base
}

// over tells whether a stream ends with an event: the task has, or waits for the caller.
func over(e app.TaskEvent) bool {
	return e.Kind == task.EventComplete || e.Kind == task.EventStatus && e.AwaitsInput
}
