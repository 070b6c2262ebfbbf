// Package echo is the simplest agent there is: it answers with what it was given. It speaks A2A 0.3 over JSON-RPC and
// depends on nothing but the standard library, so that it can be copied as a beginning.
package echo

import (
	"encoding/json"
	"net/http"
	"time"
)

const maxBody = 1 << 20

// Handler serves the agent. baseURL is where it can be reached; it stands in the agent card.
func Handler(baseURL string) http.Handler {
	card := map[string]any{
		"protocolVersion": "0.3.0", "name": "Echo", "description": "Answers with what it is given.", "version": "1.0.0",
		"url": baseURL + "/", "preferredTransport": "JSONRPC", "capabilities": map[string]any{"streaming": false},
		"defaultInputModes": []string{"text/plain", "application/json"}, "defaultOutputModes": []string{"text/plain", "application/json"},
		"skills": []any{map[string]any{"id": "echo", "name": "Echo", "description": "Gives back what it gets.", "tags": []string{"demo"}}},
	}
	mux := http.NewServeMux()
	for _, path := range []string{"/.well-known/agent-card.json", "/.well-known/agent.json"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { answer(w, card) })
	}
	mux.HandleFunc("POST /{$}", rpc)
	return mux
}

type request struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Method  string          `json:"method"`
	Params  struct {
		Message struct {
			MessageID string            `json:"messageId"`
			ContextID string            `json:"contextId"`
			Parts     []json.RawMessage `json:"parts"`
		} `json:"message"`
	} `json:"params"`
}

func rpc(w http.ResponseWriter, r *http.Request) {
	var in request
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&in); err != nil {
		fail(w, nil, -32700, "the body is not a JSON-RPC request")
		return
	}
	msg := in.Params.Message
	switch {
	case in.JSONRPC != "2.0" || len(in.ID) == 0:
		fail(w, in.ID, -32600, "the request is not JSON-RPC 2.0")
	case in.Method != "message/send":
		fail(w, in.ID, -32601, "there is no method "+in.Method)
	case msg.MessageID == "" || len(msg.Parts) == 0:
		fail(w, in.ID, -32602, "the message needs a messageId and parts")
	default:
		if msg.ContextID == "" {
			msg.ContextID = "context-" + msg.MessageID
		}
		answer(w, map[string]any{"jsonrpc": "2.0", "id": in.ID, "result": map[string]any{
			"kind": "task", "id": "echo-" + msg.MessageID, "contextId": msg.ContextID, // the same for a repeated message
			"status":    map[string]any{"state": "completed", "timestamp": time.Now().UTC()},
			"artifacts": []any{map[string]any{"artifactId": "echo", "name": "Echo", "parts": msg.Parts}},
		}})
	}
}

func fail(w http.ResponseWriter, id json.RawMessage, code int, message string) {
	answer(w, map[string]any{"jsonrpc": "2.0", "id": id, "error": map[string]any{"code": code, "message": message}})
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the caller has gone if this fails
}
