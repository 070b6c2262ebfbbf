package a2aclient

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/nexus-protocol/nexus/adapters/internal/a2awire"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// Whatever an agent answers, it is either refused with a reason or comes out as what the domain means by it, in bounds.
func FuzzDecodeAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"jsonrpc":"2.0","id":"t","result":{"kind":"message","messageId":"a","parts":[{"kind":"text","text":"x"}]}}`,
		`{"jsonrpc":"2.0","id":"t","result":{"task":{"id":"r","status":{"state":"TASK_STATE_COMPLETED"},"artifacts":[{"parts":[{"raw":"aGk="}]}]}}}`,
		`{"jsonrpc":"2.0","id":"t","result":{"message":{"role":"ROLE_AGENT","parts":[{"url":"u","filename":"n"},{"data":{"a":[1]}}]}}}`,
		`{"jsonrpc":"2.0","id":"t","result":{"id":"r","contextId":"c","status":{"state":"failed","message":{"role":"agent","parts":[{"type":"text","data":"no"}]}},"history":[{"role":"agent","parts":[{"kind":"file","file":{"uri":"u"}}]}]}}`,
		`{"jsonrpc":"2.0","id":"t","result":{"id":"r","status":{"state":"input-required"}}}`,
		`{"jsonrpc":"2.0","id":"t","result":{"parts":[{"file":{"fileWithBytes":""},"metadata":{}}]}}`,
		`{"jsonrpc":"2.0","id":"t","error":{"code":1,"message":"m"}}`,
	} {
		f.Add([]byte(seed), uint8(rpc03))
		var rpc struct{ Result json.RawMessage }
		if json.Unmarshal([]byte(seed), &rpc) == nil {
			f.Add([]byte(rpc.Result), uint8(rest10))
			f.Add([]byte(rpc.Result), uint8(rest03))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, binding uint8) {
		typed := false
		to := request{id: "t", dialect: dialect(binding % 5), typed: &typed}
		result, err := decodeResult(body, to)
		var a ports.Answer
		if err == nil {
			a, err = decodeAnswer(result, to)
		}
		if err != nil {
			var e *ports.CallError
			if !errors.As(asCallError(err), &e) || e.Message == "" || e.Retryable || len(e.Message) > 5*maxText {
				t.Fatalf("%+v", e)
			}
			return
		}
		checkAnswer(t, a)
	})
}

// checkAnswer fails for what the domain would not mean.
func checkAnswer(t *testing.T, a ports.Answer) {
	t.Helper()
	switch a.State {
	case ports.AnswerDone, ports.AnswerInputRequired:
	case ports.AnswerFailed:
		if a.Reason == "" || len([]rune(a.Reason)) > 2*maxText {
			t.Fatalf("reason %q", a.Reason)
		}
	case ports.AnswerWorking:
		if a.RemoteTaskID == "" || a.Messages != nil || a.Artifacts != nil {
			t.Fatalf("%+v", a)
		}
	default:
		t.Fatalf("state %q", a.State)
	}
	var parts []task.Part
	for _, m := range a.Messages {
		if m.ID == "" || m.Role != task.RoleAgent {
			t.Fatalf("%+v", m)
		}
		parts = append(parts, m.Parts...)
	}
	for _, artifact := range a.Artifacts {
		if artifact.ID == "" || strings.Contains(artifact.Name+artifact.Description, "\x00") {
			t.Fatalf("%+v", artifact)
		}
		parts = append(parts, artifact.Parts...)
	}
	if len(parts)+len(a.Messages)+len(a.Artifacts) > maxItems {
		t.Fatal(len(parts))
	}
	for _, p := range parts {
		if !json.Valid(p.Data) || checkText(p.Data) != nil || (p.Metadata != nil && !a2awire.IsObject(p.Metadata)) {
			t.Fatalf("part %q %q", p.Data, p.Metadata)
		}
		switch p.Type {
		case task.PartText:
			var s string
			if json.Unmarshal(p.Data, &s) != nil {
				t.Fatalf("text %q", p.Data)
			}
		case task.PartFile:
			var file map[string]string
			if json.Unmarshal(p.Data, &file) != nil {
				t.Fatalf("file %q", p.Data)
			}
			for name := range file {
				if !slices.Contains([]string{"name", "mimeType", "bytes", "uri"}, name) {
					t.Fatalf("file %q", p.Data)
				}
			}
		case task.PartData:
			if len(bytes.TrimSpace(p.Data)) == 0 {
				t.Fatal("no data")
			}
		default:
			t.Fatalf("type %q", p.Type)
		}
	}
}

// Whatever a stream brings, what is handed on is in bounds, and the end of it is an answer like any other.
func FuzzStream(f *testing.F) {
	for _, seed := range []string{
		"data: {\"jsonrpc\":\"2.0\",\"id\":\"t\",\"result\":{\"kind\":\"task\",\"id\":\"r\",\"status\":{\"state\":\"working\"}}}\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":\"t\",\"result\":{\"kind\":\"artifact-update\",\"taskId\":\"r\",\"append\":true,\"lastChunk\":true,\"artifact\":{\"artifactId\":\"a\",\"parts\":[{\"kind\":\"text\",\"text\":\"x\"}]}}}\n\n",
		"\ufeff: c\r\nevent: x\r\ndata: {\"statusUpdate\":{\"taskId\":\"r\",\"status\":{\"state\":\"TASK_STATE_WORKING\",\"message\":{\"role\":\"ROLE_AGENT\",\"parts\":[{\"text\":\"x\"}]}}}}\r\n\r\ndata: {\"task\":{\"id\":\"r\",\"status\":{\"state\":\"TASK_STATE_INPUT_REQUIRED\"}}}\r\r",
		"data: {\"artifactUpdate\":{\"taskId\":\"r\",\"artifact\":{\"parts\":[{\"data\":{\"data\":{\"value\":1}},\"metadata\":{\"data_part_compat\":true}}]}}}\n\ndata: {\"msg\":{\"content\":[{\"raw\":\"\"}]}}\n\n",
		"data: {\"error\":{\"code\":404,\"message\":\"m\",\"details\":[{\"reason\":\"R\"}]}}\n\n",
	} {
		for d := range uint8(5) {
			f.Add([]byte(seed), d)
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, binding uint8) {
		typed := false
		to := request{id: "t", dialect: dialect(binding % 5), typed: &typed}
		s, in := newStory(to), newEvents(bytes.NewReader(body))
		x := exchange{in: ports.Call{TaskID: "t"}, door: door{dialect: to.dialect}}
		messages := map[string]bool{}
		for {
			data, err := in.next()
			if err == nil {
				err = x.event(data, s)
			}
			if err != nil {
				break
			}
			if s.ended() {
				checkAnswer(t, s.answer())
				break
			}
			news, _ := s.news()
			for _, m := range news.Messages {
				if messages[m.ID] {
					t.Fatalf("%q came twice", m.ID)
				}
				messages[m.ID] = true
			}
			news.State = ports.AnswerDone
			checkAnswer(t, news)
		}
	})
}

// Whatever a card says, an agent is spoken to at the origin that its owner has registered.
func FuzzCard(f *testing.F) {
	for _, seed := range []string{
		`{"url":"https://agent.example/rpc","protocolVersion":"0.3.0","preferredTransport":"HTTP+JSON","additionalInterfaces":[{"url":"/x","transport":"JSONRPC"}]}`,
		`{"supportedInterfaces":[{"url":"//agent.example/a?b#c","protocolBinding":"JSONRPC","protocolVersion":"1.0","tenant":"../t"}],"capabilities":{"streaming":true,"extensions":[{"uri":"urn:nexus-protocol:parts:type-data"}]}}`,
		`{"supportedInterfaces":[{"url":"https://a@agent.example\\@evil.example","protocolBinding":"HTTP+JSON","protocolVersion":"1.0"}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		doors := readCard(raw, "https://agent.example/base").doors
		if len(doors) < len(guesses) || len(doors) > 2*maxDoors+len(guesses) {
			t.Fatalf("%d doors", len(doors))
		}
		for _, d := range doors {
			x := exchange{in: ports.Call{TaskID: "t", RemoteTaskID: "../../r?x#y"}, door: d}
			for _, op := range []operation{opSend, opStream, opGet, opCancel, opSubscribe} {
				method, at, _, err := x.request(op)
				if err != nil {
					t.Fatal(err)
				}
				req, err := http.NewRequest(method, at, nil)
				if err != nil {
					continue // and so will the call
				}
				if req.URL.Scheme != "https" || req.URL.Host != "agent.example" || req.URL.User != nil {
					t.Fatalf("%q leads to %s", raw, req.URL)
				}
			}
		}
	})
}
