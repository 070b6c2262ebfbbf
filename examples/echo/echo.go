// Package echo is the simplest agent in one file: it answers every message with the parts of that message. It speaks
// A2A 0.3 and 1.0 over JSON-RPC, and takes parts that are {type, data} too. It keeps nothing, and needs nothing but the
// standard library. Copy it to begin an agent of your own.
package echo

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"time"
)

const maxBody = 1 << 20

// Handler serves the agent card and the agent's one method, message/send or SendMessage, which is posted to the root path. The baseURL
// is the address under which callers reach it; the card names it.
func Handler(baseURL string) http.Handler {
	card := func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]any{
			"protocolVersion":    "0.3.0",
			"name":               "Echo",
			"description":        "Answers with what it is given.",
			"url":                baseURL,
			"preferredTransport": "JSONRPC",
			"supportedInterfaces": []map[string]any{
				{"url": baseURL, "protocolBinding": "JSONRPC", "protocolVersion": "0.3"},
				{"url": baseURL, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"},
			},
			"version":            "1.0.0",
			"capabilities":       map[string]any{"streaming": false, "pushNotifications": false},
			"defaultInputModes":  []string{"text/plain", "application/json"},
			"defaultOutputModes": []string{"text/plain", "application/json"},
			"skills": []map[string]any{{
				"id": "echo", "name": "Echo", "description": "Gives back what it gets.", "tags": []string{"demo", "text"},
			}},
		})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/agent-card.json", card)
	mux.HandleFunc("GET /.well-known/agent.json", card) // where older callers look
	mux.HandleFunc("POST /{$}", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			writeJSON(w, http.StatusRequestEntityTooLarge, refuse(nil, -32600, "send a whole request of at most 1 MiB"))
			return
		}
		writeJSON(w, http.StatusOK, answer(body))
	})
	return mux
}

// response is what answers a JSON-RPC request: a result or an error.
type response struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  any             `json:"result,omitempty"`
	Error   any             `json:"error,omitempty"`
}

func refuse(id json.RawMessage, code int, message string) response {
	return response{JSONRPC: "2.0", ID: id, Error: map[string]any{"code": code, "message": message}}
}

// answer is the whole protocol: check the request, find the method, read its parameters, do the work.
func answer(body []byte) response {
	var req struct {
		JSONRPC string          `json:"jsonrpc"`
		ID      json.RawMessage `json:"id"`
		Method  string          `json:"method"`
		Params  json.RawMessage `json:"params"`
	}
	if !json.Valid(body) {
		return refuse(nil, -32700, "the body is not JSON")
	}
	err := json.Unmarshal(body, &req)
	if len(req.ID) == 0 || bytes.ContainsAny(req.ID[:1], "{[tf") {
		return refuse(nil, -32600, "send one JSON-RPC request, with a string or a number as its id")
	}
	if err != nil || req.JSONRPC != "2.0" || req.Method == "" {
		return refuse(req.ID, -32600, `a request has "jsonrpc": "2.0" and a method`)
	}
	v10 := req.Method == "SendMessage"
	if !v10 && req.Method != "message/send" {
		return refuse(req.ID, -32601, "this agent knows message/send and SendMessage only")
	}
	var params struct {
		Message struct {
			MessageID string            `json:"messageId"`
			ContextID string            `json:"contextId"`
			TaskID    string            `json:"taskId"`
			Parts     []json.RawMessage `json:"parts"` // kept raw, so that they go back as they came
		} `json:"message"`
	}
	err = json.Unmarshal(req.Params, &params)
	msg := params.Message
	if err != nil || msg.MessageID == "" || len(msg.Parts) == 0 {
		return refuse(req.ID, -32602, "params.message needs a messageId and at least one part")
	}
	for _, raw := range msg.Parts {
		var part struct {
			Kind, Type           string          // 0.3, and those that are {type, data}
			Text, Data, Raw, URL json.RawMessage // 1.0
		}
		switch err := json.Unmarshal(raw, &part); {
		case err == nil && !v10 && part.Kind+part.Type != "":
		case err == nil && v10 && (part.Text != nil || part.Data != nil || part.Raw != nil || part.URL != nil):
		default:
			return refuse(req.ID, -32602, "every part is an object that says of what kind it is")
		}
	}
	if msg.TaskID != "" {
		return refuse(req.ID, -32001, "this agent keeps no tasks; send the message without taskId")
	}

	// A caller that got no answer sends the message again under the same id. The task's id follows from it, so that both
	// answers are about the same task.
	sum := sha256.Sum256([]byte(msg.MessageID))
	id := hex.EncodeToString(sum[:16])
	if msg.ContextID == "" {
		msg.ContextID = "context-" + id
	}
	task := map[string]any{
		"id":        id,
		"contextId": msg.ContextID,
		"artifacts": []map[string]any{{"artifactId": "echo-" + id, "name": "echo", "parts": msg.Parts}},
	}
	if v10 {
		task["status"] = map[string]any{"state": "TASK_STATE_COMPLETED", "timestamp": time.Now().UTC()}
		return response{JSONRPC: "2.0", ID: req.ID, Result: map[string]any{"task": task}}
	}
	task["kind"], task["status"] = "task", map[string]any{"state": "completed", "timestamp": time.Now().UTC()}
	return response{JSONRPC: "2.0", ID: req.ID, Result: task}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // fails only when the caller has gone, and then there is no one to tell
}
