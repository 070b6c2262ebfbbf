package apitest

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// Behaviour is how an agent behaves.
type Behaviour string

// The behaviours.
const (
	Echo     Behaviour = "echo"     // answers at once: "echo: " and the text it was sent, and the data it was sent
	Failing  Behaviour = "failing"  // answers every message with an error
	HTML     Behaviour = "html"     // answers with a web page
	Huge     Behaviour = "huge"     // answers with more than the engine takes
	Asking   Behaviour = "asking"   // asks what is meant, and echoes what it is then told
	Stalling Behaviour = "stalling" // does not answer
	Making   Behaviour = "making"   // takes MakingTime, and answers with the artifact "thing", whose text is that it was sent
	Gone     Behaviour = "gone"     // has nobody listening
)

// MakingTime is how long a Making agent takes.
const MakingTime = 800 * time.Millisecond

// startAgents starts HTTP agents that speak A2A's JSON-RPC.
func startAgents(t *testing.T) func(Behaviour) string {
	t.Helper()
	urls := map[Behaviour]string{}
	stop := make(chan struct{})
	for _, b := range []Behaviour{Echo, Failing, HTML, Huge, Asking, Stalling, Making, Gone} {
		srv := httptest.NewServer(&httpAgent{behaviour: b, stop: stop})
		urls[b] = srv.URL
		if b == Gone {
			srv.Close()
			continue
		}
		t.Cleanup(srv.Close)
	}
	t.Cleanup(func() { close(stop) }) // before the servers, which wait for their requests
	return func(b Behaviour) string { return urls[b] }
}

type httpAgent struct {
	behaviour Behaviour
	stop      chan struct{}
}

// ServeHTTP is the card and the one method message/send.
func (a *httpAgent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		a.card(w, r)
		return
	}
	var call struct {
		ID     json.RawMessage `json:"id"`
		Method string          `json:"method"`
		Params struct {
			Message struct {
				MessageID string `json:"messageId"`
				TaskID    string `json:"taskId"`
				ContextID string `json:"contextId"`
				Parts     []struct {
					Text *string         `json:"text"`
					Data json.RawMessage `json:"data"`
				} `json:"parts"`
			} `json:"message"`
		} `json:"params"`
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, 4<<20)).Decode(&call); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer := object{"jsonrpc": "2.0", "id": call.ID}
	switch a.behaviour {
	case Stalling:
		select {
		case <-r.Context().Done():
		case <-a.stop:
		}
		return
	case HTML:
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<!doctype html><title>It works!</title>")
		return
	case Failing:
		answer["error"] = object{"code": -32603, "message": "the oven is cold"}
	case Huge:
		answer["result"] = message(call.Params.Message.MessageID, object{"kind": "text", "text": strings.Repeat("x", 4<<20)})
	case Asking:
		said := call.Params.Message
		question := message("question", object{"kind": "text", "text": "which one?"})
		reply := object{"kind": "task", "id": "t-" + said.MessageID, "contextId": "c-" + said.MessageID, "status": object{"state": "input-required", "message": question}}
		if said.TaskID != "" { // the whole story, as agents tell it
			reply["id"], reply["contextId"] = said.TaskID, said.ContextID
			reply["status"] = object{"state": "completed"}
			reply["history"] = []object{question, message(said.MessageID, object{"kind": "text", "text": "fine"})}
			reply["artifacts"] = []object{{"artifactId": "a", "parts": said.Parts}}
		}
		answer["result"] = reply
	case Making:
		time.Sleep(MakingTime)
		var parts []object
		for _, p := range call.Params.Message.Parts {
			if p.Text != nil {
				parts = append(parts, object{"kind": "text", "text": *p.Text})
			}
		}
		answer["result"] = object{
			"kind": "task", "id": "r", "contextId": "c", "status": object{"state": "completed"},
			"artifacts": []object{{"artifactId": "thing", "name": "thing", "parts": parts}},
		}
	case Echo, Gone:
		var parts []object
		for _, p := range call.Params.Message.Parts {
			switch {
			case p.Text != nil:
				parts = append(parts, object{"kind": "text", "text": "echo: " + *p.Text})
			case p.Data != nil:
				parts = append(parts, object{"kind": "data", "data": p.Data})
			}
		}
		answer["result"] = message(call.Params.Message.MessageID, parts...)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

func message(id string, parts ...object) object {
	return object{"kind": "message", "messageId": "re-" + id, "role": "agent", "parts": parts}
}

func (a *httpAgent) card(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/.well-known/agent-card.json" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(object{
		"protocolVersion": "0.3.0", "name": string(a.behaviour), "description": "An agent of the test suite.", "version": "1.0.0",
		"url": "http://" + r.Host + "/", "preferredTransport": "JSONRPC", "capabilities": object{}, "skills": []object{},
		"defaultInputModes": []string{"text/plain"}, "defaultOutputModes": []string{"text/plain"},
	})
}
