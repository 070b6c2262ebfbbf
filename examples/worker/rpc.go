package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	maxBody   = 1 << 20
	keepAlive = 15 * time.Second
)

// Handler serves the agent card and the agent's methods, which are posted to the root path: message/send,
// message/stream, tasks/get, tasks/cancel and tasks/resubscribe. The baseURL is the address under which callers reach it;
// the card names it.
func (a *Agent) Handler(baseURL string) http.Handler {
	card := func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]any{
			"protocolVersion":    "0.3.0",
			"name":               "Worker",
			"description":        "Works for some seconds; can be told to fail, to stall or to ask back.",
			"url":                baseURL,
			"preferredTransport": "JSONRPC",
			"version":            "1.0.0",
			"capabilities":       map[string]any{"streaming": true, "pushNotifications": false},
			"defaultInputModes":  []string{"text/plain", "application/json"},
			"defaultOutputModes": []string{"text/plain", "application/json"},
			"skills": []map[string]any{{
				"id":          "work",
				"name":        "Work",
				"description": "Works through some steps, counting words, and reports on them.",
				"tags":        []string{"demo", "slow"},
				"examples":    []string{`{"steps": 3, "delayMs": 200}`, `{"mode": "fail"}`, `{"mode": "stall"}`, `{"mode": "ask"}`},
			}},
		})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/agent-card.json", card)
	mux.HandleFunc("GET /.well-known/agent.json", card) // where older callers look
	mux.HandleFunc("POST /{$}", a.serveRPC)
	return mux
}

type request struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Method  string          `json:"method"`
	Params  json.RawMessage `json:"params"`
}

type response struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  any             `json:"result,omitempty"`
	Error   *rpcError       `json:"error,omitempty"`
}

func (a *Agent) serveRPC(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		fail(w, nil, &rpcError{Code: codeRequest, Message: "send a whole request of at most 1 MiB", status: http.StatusRequestEntityTooLarge})
		return
	}
	req, refused := readRequest(body)
	if refused != nil {
		fail(w, req.ID, refused)
		return
	}
	v, follow, history, refused := a.dispatch(r.Context(), req)
	switch {
	case r.Context().Err() != nil: // no one is left to answer
	case refused != nil:
		fail(w, req.ID, refused)
	case follow:
		a.stream(w, r, req.ID, v, history)
	default:
		writeJSON(w, http.StatusOK, response{JSONRPC: "2.0", ID: req.ID, Result: v.task.newest(history)})
	}
}

func readRequest(body []byte) (request, *rpcError) {
	var req request
	if !json.Valid(body) {
		return req, refuse(codeParse, "the body is not JSON")
	}
	err := json.Unmarshal(body, &req)
	if len(req.ID) == 0 || bytes.ContainsAny(req.ID[:1], "{[tf") {
		return request{}, refuse(codeRequest, "send one JSON-RPC request, with a string or a number as its id")
	}
	if err != nil || req.JSONRPC != "2.0" || req.Method == "" {
		return req, refuse(codeRequest, `a request has "jsonrpc": "2.0" and a method`)
	}
	return req, nil
}

// dispatch does what the method asks for. It says how much history is wanted, and whether the task is to be followed.
func (a *Agent) dispatch(ctx context.Context, req request) (v view, follow bool, history *int, err *rpcError) {
	switch req.Method {
	case "message/send", "message/stream":
		var p struct {
			Message       incoming `json:"message"`
			Configuration struct {
				Blocking      *bool `json:"blocking"`
				HistoryLength *int  `json:"historyLength"`
			} `json:"configuration"`
		}
		if json.Unmarshal(req.Params, &p) != nil {
			return v, false, nil, refuse(codeParams, "params has a message, as A2A 0.3 has it, and perhaps a configuration")
		}
		history = p.Configuration.HistoryLength
		if err := checkHistory(history); err != nil {
			return v, false, nil, err
		}
		if v, err = a.accept(p.Message); err != nil || req.Method == "message/stream" {
			return v, true, history, err
		}
		if p.Configuration.Blocking == nil || *p.Configuration.Blocking {
			v = a.wait(ctx, v)
		}
		return v, false, history, nil
	case "tasks/get", "tasks/cancel", "tasks/resubscribe":
		var p struct {
			ID            string `json:"id"`
			HistoryLength *int   `json:"historyLength"`
		}
		if json.Unmarshal(req.Params, &p) != nil || p.ID == "" {
			return v, false, nil, refuse(codeParams, "params needs the id of a task")
		}
		if err := checkHistory(p.HistoryLength); err != nil {
			return v, false, nil, err
		}
		if req.Method == "tasks/cancel" {
			v, err = a.cancel(p.ID)
		} else {
			v, err = a.find(p.ID)
		}
		return v, req.Method == "tasks/resubscribe", p.HistoryLength, err
	}
	if strings.HasPrefix(req.Method, "tasks/pushNotificationConfig/") {
		return v, false, nil, refuse(codeNoPush, "this agent does not call back; poll or stream")
	}
	return v, false, nil, refuse(codeMethod, "there is no method %q", req.Method)
}

func checkHistory(length *int) *rpcError {
	if length != nil && *length < 0 {
		return refuse(codeParams, "historyLength is not negative")
	}
	return nil
}

// wait returns the task once it has settled, or as it was when ctx ended.
func (a *Agent) wait(ctx context.Context, v view) view {
	for !v.task.Status.State.settled() && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-v.changed:
			v = a.look(v.job)
		}
	}
	return v
}

func (a *Agent) look(j *job) view {
	a.mu.Lock()
	defer a.mu.Unlock()
	return j.view()
}

// since returns what happened to a job after the first so many events.
func (a *Agent) since(j *job, seen int) (events []any, changed <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return j.events[seen:], j.changed
}

// stream answers with server-sent events: the task as it is, then all that happens to it, up to a final status.
func (a *Agent) stream(w http.ResponseWriter, r *http.Request, id json.RawMessage, v view, history *int) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(w)
	send := func(result any) bool {
		b, err := json.Marshal(response{JSONRPC: "2.0", ID: id, Result: result})
		if err == nil {
			_, err = fmt.Fprintf(w, "data: %s\n\n", b)
		}
		return err == nil && out.Flush() == nil
	}
	if !send(v.task.newest(history)) {
		return
	}
	if v.task.Status.State.settled() {
		send(v.task.statusUpdate())
		return
	}
	alive := time.NewTicker(keepAlive)
	defer alive.Stop()
	for seen := v.seen; ; {
		events, changed := a.since(v.job, seen)
		seen += len(events)
		for _, e := range events {
			if !send(e) {
				return
			}
			if u, ok := e.(statusUpdate); ok && u.Final {
				return
			}
		}
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		case <-alive.C:
			if _, err := io.WriteString(w, ": still there\n\n"); err != nil || out.Flush() != nil {
				return
			}
		}
	}
}

func fail(w http.ResponseWriter, id json.RawMessage, err *rpcError) {
	if err.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, err.status, response{JSONRPC: "2.0", ID: id, Error: err})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // fails only when the caller has gone, and then there is no one to tell
}
