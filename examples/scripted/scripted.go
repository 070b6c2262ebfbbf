// Package scripted is an agent that does what the message's id asks for, which is how the A2A project's compatibility kit
// speaks to the agent that it judges: "tck-complete-task-…", "tck-input-required-…" and so on. To any other id it asks
// back, so that the task stays open. It speaks A2A 0.3 over
// JSON-RPC, as long as a caller waits, keeps the tasks that it has asked something about in memory, and needs nothing but
// the standard library.
//
// An engine gives its agents messages under ids of its own. The id that the requester chose is in the task's history,
// which the agent reads at the engine's A2A gateway.
package scripted

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	maxBody = 1 << 20
	maxOpen = 10_000 // tasks that wait for an answer
)

// Options are the agent's settings.
type Options struct {
	BaseURL string // under which callers reach it; the card names it
	// Gateway is the engine's A2A endpoint, where the requester's own message ids are found; without it, the ids of the
	// messages that come in are the script.
	Gateway string
	Slow    time.Duration // how long the script "test-resubscribe-message-id" takes; default 5 s
}

type agent struct {
	opt  Options
	mu   sync.Mutex
	open map[string]bool // by task id: has asked something
}

type object = map[string]any

// Handler serves the agent card, and at the root path message/send, tasks/get and tasks/cancel.
func Handler(opt Options) http.Handler {
	if opt.Slow == 0 {
		opt.Slow = 5 * time.Second
	}
	a := &agent{opt: opt, open: map[string]bool{}}
	mux := http.NewServeMux()
	for _, path := range []string{"/.well-known/agent-card.json", "/.well-known/agent.json"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, a.card()) })
	}
	mux.HandleFunc("POST /{$}", a.serve)
	return mux
}

func (a *agent) card() object {
	modes := []string{"text/plain", "application/json"}
	return object{
		"protocolVersion": "0.3.0", "name": "Scripted", "description": "Does what the id of the message asks for.", "url": a.opt.BaseURL,
		"preferredTransport": "JSONRPC", "version": "1.0.0", "capabilities": object{"streaming": false, "pushNotifications": false},
		"defaultInputModes": modes, "defaultOutputModes": modes,
		"skills": []object{{"id": "script", "name": "Script", "description": "Completes, asks, rejects or makes things, as it is told.", "tags": []string{"test"}}},
	}
}

type request struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		ID      string `json:"id"`
		Message struct {
			MessageID string            `json:"messageId"`
			ContextID string            `json:"contextId"`
			TaskID    string            `json:"taskId"`
			Parts     []json.RawMessage `json:"parts"`
		} `json:"message"`
		Metadata struct {
			NexusTaskID string `json:"nexusTaskId"`
		} `json:"metadata"`
	} `json:"params"`
}

func (a *agent) serve(w http.ResponseWriter, r *http.Request) {
	var req request
	if json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&req) != nil || len(req.ID) == 0 {
		writeJSON(w, refusal(nil, -32600, "send one JSON-RPC request of A2A 0.3"))
		return
	}
	switch req.Method {
	case "message/send":
		writeJSON(w, a.send(r.Context(), req))
	case "tasks/cancel", "tasks/get":
		if !a.asked(req.Params.ID, req.Method == "tasks/get") {
			writeJSON(w, refusal(req.ID, -32001, "there is no such task"))
			return
		}
		state := "input-required"
		if req.Method == "tasks/cancel" {
			state = "canceled"
		}
		writeJSON(w, result(req.ID, task(req.Params.ID, "context-"+req.Params.ID, state, nil)))
	default:
		writeJSON(w, refusal(req.ID, -32601, "this agent knows message/send, tasks/get and tasks/cancel only"))
	}
}

// asked tells whether a task waits for an answer, and if it is not to be kept, forgets it.
func (a *agent) asked(id string, keep bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	open := a.open[id]
	if !keep {
		delete(a.open, id)
	}
	return open
}

func (a *agent) ask(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.open) >= maxOpen {
		return false
	}
	a.open[id] = true
	return true
}

// send plays the script.
func (a *agent) send(ctx context.Context, req request) object {
	m := req.Params.Message
	if m.MessageID == "" || len(m.Parts) == 0 {
		return refusal(req.ID, -32602, "params.message needs a messageId and at least one part")
	}
	id := m.TaskID
	if id == "" { // the same message is the same task
		sum := sha256.Sum256([]byte(m.MessageID))
		id = hex.EncodeToString(sum[:16])
	}
	if m.ContextID == "" {
		m.ContextID = "context-" + id
	}
	name, err := a.script(ctx, req)
	if err != nil {
		return refusal(req.ID, -32603, err.Error())
	}
	answered := func(state string, said []object, made ...object) object {
		a.asked(id, false)
		t := task(id, m.ContextID, state, said)
		if len(made) > 0 {
			t["artifacts"] = []object{{"artifactId": "artifact-" + id, "name": "artifact", "parts": made}}
		}
		return result(req.ID, t)
	}
	ask := func() object {
		if !a.ask(id) {
			return refusal(req.ID, -32603, "too many tasks wait for an answer")
		}
		return result(req.ID, task(id, m.ContextID, "input-required", []object{text("which?")}))
	}
	file := object{"kind": "file", "file": object{"name": "output.txt", "mimeType": "text/plain", "bytes": "b3V0cHV0"}}
	for _, s := range []struct {
		prefix string
		play   func() object
	}{
		{"tck-input-required", ask},
		{"tck-reject-task", func() object { return answered("rejected", []object{text("rejected")}) }},
		{"tck-message-response", func() object {
			return result(req.ID, object{
				"kind": "message", "role": "agent", "messageId": "said-" + m.MessageID, "contextId": m.ContextID, "parts": []object{text("Direct message response")},
			})
		}},
		{"tck-artifact-text", func() object { return answered("completed", nil, text("Generated text content")) }},
		{"tck-artifact-file-url", func() object {
			return answered("completed", nil, object{"kind": "file", "file": object{"name": "output.txt", "mimeType": "text/plain", "uri": "https://example.com/output.txt"}})
		}},
		{"tck-artifact-file", func() object { return answered("completed", nil, file) }},
		{"tck-artifact-data", func() object {
			return answered("completed", nil, object{"kind": "data", "data": object{"key": "value", "count": 42}})
		}},
		{"tck-stream-001", func() object { return answered("completed", nil, text("Stream hello from TCK")) }},
		{"tck-stream-002", func() object { return answered("completed", nil) }},
		{"tck-stream-003", func() object { return answered("completed", nil, text("Stream task lifecycle")) }},
		{"tck-stream-ordering", func() object { return answered("completed", nil, text("Ordered output")) }},
		{"tck-stream-artifact-text", func() object { return answered("completed", nil, text("Streamed text content")) }},
		{"tck-stream-artifact-file", func() object { return answered("completed", nil, file) }},
		{"tck-stream-artifact-chunked", func() object { return answered("completed", nil, text("chunk-1 "), text("chunk-2")) }},
		{"test-resubscribe-message-id", func() object {
			select {
			case <-ctx.Done():
			case <-time.After(a.opt.Slow):
			}
			return answered("completed", []object{text("at last")})
		}},
	} {
		if strings.HasPrefix(name, s.prefix) {
			return s.play()
		}
	}
	if strings.HasPrefix(name, "tck-") {
		return answered("completed", []object{text("Hello from TCK")})
	}
	return ask()
}

// script is the id that the requester gave to its newest message.
func (a *agent) script(ctx context.Context, req request) (string, error) {
	if a.opt.Gateway == "" || req.Params.Metadata.NexusTaskID == "" {
		return req.Params.Message.MessageID, nil
	}
	body, err := json.Marshal(object{"jsonrpc": "2.0", "id": 1, "method": "tasks/get", "params": object{"id": req.Params.Metadata.NexusTaskID}})
	if err != nil {
		return "", err
	}
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, a.opt.Gateway, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	post.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(post)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		Result struct {
			History []struct {
				Role      string `json:"role"`
				MessageID string `json:"messageId"`
			} `json:"history"`
		} `json:"result"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 16*maxBody)).Decode(&answer); err != nil {
		return "", fmt.Errorf("the gateway's answer: %w", err)
	}
	name := ""
	for _, m := range answer.Result.History {
		if m.Role == "user" {
			name = m.MessageID
		}
	}
	return name, nil
}

func text(s string) object { return object{"kind": "text", "text": s} }

func task(id, contextID, state string, said []object) object {
	status := object{"state": state, "timestamp": time.Now().UTC()}
	if said != nil {
		status["message"] = object{
			"kind": "message", "role": "agent", "messageId": fmt.Sprintf("%s-%s-%d", id, state, time.Now().UnixNano()), "taskId": id, "contextId": contextID, "parts": said,
		}
	}
	return object{"kind": "task", "id": id, "contextId": contextID, "status": status}
}

func result(id json.RawMessage, v any) object {
	return object{"jsonrpc": "2.0", "id": id, "result": v}
}

func refusal(id json.RawMessage, code int, message string) object {
	return object{"jsonrpc": "2.0", "id": id, "error": object{"code": code, "message": message}}
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // fails only when the caller has gone, and then there is no one to tell
}
