// Package worker is an agent that does visible work over several seconds, and can be told to fail or to stall. It speaks
// A2A 0.3 over JSON-RPC, with polling, cancelling and streaming, and depends on nothing but the standard library.
//
// What it is to do comes as a data part:
//
//	{"steps": 5, "delayMs": 600, "mode": "ok" | "fail" | "stall"}
package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	maxBody  = 1 << 20
	maxSteps = 50
	maxDelay = 10_000 // milliseconds
	maxTasks = 1_000  // kept in memory; the oldest are forgotten
	maxStall = time.Hour
)

// Agent keeps its tasks in memory.
type Agent struct {
	mu      sync.Mutex
	tasks   map[string]*job
	order   []string // ids, oldest first
	started int
}

// New makes an agent that has nothing to do yet.
func New() *Agent { return &Agent{tasks: map[string]*job{}} }

// Started is how many pieces of work were begun. A repeated message begins nothing.
func (a *Agent) Started() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.started
}

// job is one piece of work. Its fields are guarded by the agent's lock.
type job struct {
	id, context string
	state       string
	lines       []string
	began       time.Time
	cancel      context.CancelFunc
	changed     chan struct{} // closed and replaced at every change
}

type order struct {
	Steps   int    `json:"steps"`
	DelayMS int    `json:"delayMs"`
	Mode    string `json:"mode"`
}

type part struct {
	Kind string          `json:"kind"`
	Text string          `json:"text,omitempty"`
	Data json.RawMessage `json:"data,omitempty"`
}

type request struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Method  string          `json:"method"`
	Params  struct {
		ID      string `json:"id"` // of a task
		Message struct {
			MessageID string `json:"messageId"`
			ContextID string `json:"contextId"`
			Parts     []part `json:"parts"`
		} `json:"message"`
		Configuration struct {
			Blocking *bool `json:"blocking"`
		} `json:"configuration"`
	} `json:"params"`
}

// Handler serves the agent. baseURL is where it can be reached; it stands in the agent card.
func (a *Agent) Handler(baseURL string) http.Handler {
	card := map[string]any{
		"protocolVersion": "0.3.0", "name": "Worker", "description": "Works for some seconds; can be told to fail or to stall.", "version": "1.0.0",
		"url": baseURL + "/", "preferredTransport": "JSONRPC", "capabilities": map[string]any{"streaming": true},
		"defaultInputModes": []string{"application/json"}, "defaultOutputModes": []string{"text/plain", "application/json"},
		"skills": []any{map[string]any{"id": "work", "name": "Work", "description": "Works through some steps and reports on them.", "tags": []string{"demo", "slow"}}},
	}
	mux := http.NewServeMux()
	for _, path := range []string{"/.well-known/agent-card.json", "/.well-known/agent.json"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { write(w, card) })
	}
	mux.HandleFunc("POST /{$}", a.rpc)
	return mux
}

func (a *Agent) rpc(w http.ResponseWriter, r *http.Request) {
	var in request
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&in); err != nil {
		fail(w, nil, -32700, "the body is not a JSON-RPC request")
		return
	}
	if in.JSONRPC != "2.0" || len(in.ID) == 0 {
		fail(w, in.ID, -32600, "the request is not JSON-RPC 2.0")
		return
	}
	switch in.Method {
	case "message/send", "message/stream":
		j, err := a.begin(in)
		switch {
		case err != nil:
			fail(w, in.ID, -32602, err.Error())
		case in.Method == "message/stream":
			a.stream(w, r, in.ID, j)
		default:
			if b := in.Params.Configuration.Blocking; b == nil || *b {
				a.wait(r.Context(), j)
			}
			reply(w, in.ID, a.task(j))
		}
	case "tasks/get", "tasks/cancel":
		a.mu.Lock()
		j := a.tasks[in.Params.ID]
		a.mu.Unlock()
		if j == nil {
			fail(w, in.ID, -32001, "there is no task "+in.Params.ID)
			return
		}
		if in.Method == "tasks/cancel" {
			a.end(j, "canceled", "cancelled")
		}
		reply(w, in.ID, a.task(j))
	default:
		fail(w, in.ID, -32601, "there is no method "+in.Method)
	}
}

// begin starts the work that a message asks for, or joins it if the message was sent before.
func (a *Agent) begin(in request) (*job, error) {
	msg := in.Params.Message
	if msg.MessageID == "" {
		return nil, fmt.Errorf("the message needs a messageId")
	}
	o := order{Steps: 5, DelayMS: 600, Mode: "ok"}
	for _, p := range msg.Parts {
		if p.Kind == "data" {
			if err := json.Unmarshal(p.Data, &o); err != nil {
				return nil, fmt.Errorf("the data part is no order: %w", err)
			}
		}
	}
	if o.Steps < 1 || o.Steps > maxSteps || o.DelayMS < 0 || o.DelayMS > maxDelay {
		return nil, fmt.Errorf("steps must be 1 to %d and delayMs 0 to %d", maxSteps, maxDelay)
	}
	if o.Mode != "ok" && o.Mode != "fail" && o.Mode != "stall" {
		return nil, fmt.Errorf("mode must be ok, fail or stall")
	}
	id := "work-" + msg.MessageID
	a.mu.Lock()
	defer a.mu.Unlock()
	if j := a.tasks[id]; j != nil {
		return j, nil
	}
	if len(a.order) == maxTasks {
		a.tasks[a.order[0]].cancel()
		delete(a.tasks, a.order[0])
		a.order = a.order[1:]
	}
	ctx, cancel := context.WithTimeout(context.Background(), maxStall)
	j := &job{id: id, context: msg.ContextID, state: "working", began: time.Now(), cancel: cancel, changed: make(chan struct{})}
	if j.context == "" {
		j.context = "context-" + msg.MessageID
	}
	a.tasks[id], a.order = j, append(a.order, id)
	a.started++
	go a.work(ctx, j, o)
	return j, nil
}

func (a *Agent) work(ctx context.Context, j *job, o order) {
	if o.Mode == "stall" {
		<-ctx.Done()
		a.end(j, "failed", "stalled for too long")
		return
	}
	for i := range o.Steps {
		t := time.NewTimer(time.Duration(o.DelayMS) * time.Millisecond)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		if o.Mode == "fail" && i == o.Steps-1 {
			a.end(j, "failed", "failed at the last step, as it was told to")
			return
		}
		a.note(j, fmt.Sprintf("step %d of %d is done", i+1, o.Steps))
	}
	a.end(j, "completed", "")
}

func (a *Agent) note(j *job, line string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if j.state == "working" {
		j.lines = append(j.lines, line)
		a.tell(j)
	}
}

func (a *Agent) end(j *job, state, why string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if j.state != "working" {
		return
	}
	j.state = state
	if why != "" {
		j.lines = append(j.lines, why)
	}
	j.cancel()
	a.tell(j)
}

// tell wakes those who watch. The lock is held.
func (a *Agent) tell(j *job) {
	close(j.changed)
	j.changed = make(chan struct{})
}

func (a *Agent) watch(j *job) (working bool, lines []string, changed <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return j.state == "working", j.lines, j.changed
}

func (a *Agent) wait(ctx context.Context, j *job) {
	for {
		working, _, changed := a.watch(j)
		if !working {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

func agentText(id, text string) map[string]any {
	return map[string]any{"kind": "message", "messageId": id, "role": "agent", "parts": []any{map[string]any{"kind": "text", "text": text}}}
}

// task is the A2A task as it stands.
func (a *Agent) task(j *job) map[string]any {
	a.mu.Lock()
	defer a.mu.Unlock()
	status := map[string]any{"state": j.state, "timestamp": time.Now().UTC()}
	out := map[string]any{"kind": "task", "id": j.id, "contextId": j.context, "status": status}
	switch n := len(j.lines); {
	case j.state == "completed":
		took, _ := json.Marshal(map[string]any{"steps": n, "durationMs": time.Since(j.began).Milliseconds()}) // numbers marshal
		out["artifacts"] = []any{map[string]any{"artifactId": "report", "name": "Report", "parts": []part{
			{Kind: "text", Text: strings.Join(j.lines, "\n")}, {Kind: "data", Data: took},
		}}}
	case n > 0:
		status["message"] = agentText(fmt.Sprintf("%s-%d", j.id, n), j.lines[n-1])
	}
	return out
}

func (a *Agent) stream(w http.ResponseWriter, r *http.Request, id json.RawMessage, j *job) {
	w.Header().Set("Content-Type", "text/event-stream")
	send := func(result any) {
		b, _ := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": id, "result": result}) // plain values marshal
		_, _ = fmt.Fprintf(w, "data: %s\n\n", b)                                           // the reader has gone if this fails
		_ = http.NewResponseController(w).Flush()
	}
	send(a.task(j))
	told := 0
	for {
		working, lines, changed := a.watch(j)
		for ; told < len(lines) && working; told++ {
			send(map[string]any{"kind": "status-update", "taskId": j.id, "contextId": j.context, "final": false, "status": map[string]any{
				"state": "working", "message": agentText(fmt.Sprintf("%s-%d", j.id, told+1), lines[told]),
			}})
		}
		if !working {
			last := a.task(j)
			if artifacts, ok := last["artifacts"].([]any); ok {
				send(map[string]any{"kind": "artifact-update", "taskId": j.id, "contextId": j.context, "artifact": artifacts[0], "lastChunk": true})
			}
			send(map[string]any{"kind": "status-update", "taskId": j.id, "contextId": j.context, "final": true, "status": last["status"]})
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		}
	}
}

func reply(w http.ResponseWriter, id json.RawMessage, result any) {
	write(w, map[string]any{"jsonrpc": "2.0", "id": id, "result": result})
}

func fail(w http.ResponseWriter, id json.RawMessage, code int, message string) {
	write(w, map[string]any{"jsonrpc": "2.0", "id": id, "error": map[string]any{"code": code, "message": message}})
}

func write(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the caller has gone if this fails
}
