package a2aclient_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/a2aproject/a2a-go/v2/a2a"
	"github.com/a2aproject/a2a-go/v2/a2acompat/a2av0"
	"github.com/a2aproject/a2a-go/v2/a2asrv"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
	"github.com/nexus-protocol/nexus/ports/portstest"
)

// sdkAgent is an agent of the suite's on a2a-go.
type sdkAgent struct {
	agent portstest.Agent
	mu    sync.Mutex
	stops map[a2a.TaskID]context.CancelFunc
}

func (s *sdkAgent) Execute(ctx context.Context, in *a2asrv.ExecutorContext) iter.Seq2[a2a.Event, error] {
	return func(yield func(a2a.Event, error) bool) {
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		s.mu.Lock()
		s.stops[in.TaskID] = stop
		s.mu.Unlock()
		if in.StoredTask == nil && !yield(a2a.NewSubmittedTask(in, in.Message), nil) {
			return
		}
		tell := func(a ports.Answer) bool {
			for _, f := range a.Artifacts { // in as many chunks as it has parts
				for i, p := range toSDK(f.Parts) {
					e := a2a.NewArtifactUpdateEvent(in, a2a.ArtifactID(f.ID), p)
					e.Append, e.LastChunk, e.Artifact.Name, e.Artifact.Description = i > 0, i == len(f.Parts)-1, f.Name, f.Description
					if !yield(e, nil) {
						return false
					}
				}
			}
			for _, m := range a.Messages {
				if a.State == ports.AnswerInputRequired {
					break // the question goes with the state
				}
				if !yield(a2a.NewStatusUpdateEvent(in, a2a.TaskStateWorking, messageOf(in, m)), nil) {
					return false
				}
			}
			return true
		}
		got := ports.Call{TaskID: string(in.TaskID), ContextID: in.ContextID, RemoteTaskID: string(in.TaskID), Message: task.Message{ID: in.Message.ID, Role: task.RoleUser, Parts: fromSDK(in.Message.Parts)}}
		a := s.agent(ctx, got, func(a ports.Answer) { tell(a) })
		if ctx.Err() != nil || !tell(a) { // cancelled, which is told by Cancel
			return
		}
		switch a.State {
		case ports.AnswerInputRequired:
			yield(a2a.NewStatusUpdateEvent(in, a2a.TaskStateInputRequired, messageOf(in, a.Messages[0])), nil)
		case ports.AnswerFailed:
			yield(a2a.NewStatusUpdateEvent(in, a2a.TaskStateFailed, a2a.NewMessageForTask(a2a.MessageRoleAgent, in, a2a.NewTextPart(a.Reason))), nil)
		default:
			yield(a2a.NewStatusUpdateEvent(in, a2a.TaskStateCompleted, nil), nil)
		}
	}
}

func (s *sdkAgent) Cancel(_ context.Context, in *a2asrv.ExecutorContext) iter.Seq2[a2a.Event, error] {
	return func(yield func(a2a.Event, error) bool) {
		s.mu.Lock()
		if stop := s.stops[in.TaskID]; stop != nil {
			stop()
		}
		s.mu.Unlock()
		yield(a2a.NewStatusUpdateEvent(in, a2a.TaskStateCanceled, nil), nil)
	}
}

func messageOf(in a2a.TaskInfoProvider, m task.Message) *a2a.Message {
	out := a2a.NewMessageForTask(a2a.MessageRoleAgent, in, toSDK(m.Parts)...)
	out.ID = m.ID
	return out
}

type sdkFile struct {
	Name     string  `json:"name,omitempty"`
	MimeType string  `json:"mimeType,omitempty"`
	Bytes    *string `json:"bytes,omitempty"`
	URI      string  `json:"uri,omitempty"`
}

func toSDK(parts []task.Part) []*a2a.Part {
	var out []*a2a.Part
	for _, p := range parts {
		var q *a2a.Part
		switch p.Type {
		case task.PartText:
			var s string
			_ = json.Unmarshal(p.Data, &s)
			q = a2a.NewTextPart(s)
		case task.PartFile:
			var f sdkFile
			_ = json.Unmarshal(p.Data, &f)
			if f.Bytes != nil {
				b, _ := base64.StdEncoding.DecodeString(*f.Bytes)
				q = a2a.NewRawPart(b)
			} else {
				q = a2a.NewFileURLPart(a2a.URL(f.URI), "")
			}
			q.MediaType, q.Filename = f.MimeType, f.Name
		default:
			var v any
			_ = json.Unmarshal(p.Data, &v)
			q = a2a.NewDataPart(v)
		}
		if p.Metadata != nil {
			_ = json.Unmarshal(p.Metadata, &q.Metadata)
		}
		out = append(out, q)
	}
	return out
}

func fromSDK(parts a2a.ContentParts) []task.Part {
	var out []task.Part
	for _, p := range parts {
		var q task.Part
		meta := p.Metadata
		switch c := p.Content.(type) {
		case a2a.Text:
			q = task.TextPart(string(c))
		case a2a.Data:
			b, _ := json.Marshal(c.Value)
			q = task.Part{Type: task.PartData, Data: b}
			if p.Metadata["data_part_compat"] == true {
				q.Data, _ = json.Marshal(c.Value.(map[string]any)["value"])
				meta = maps.Clone(meta) // the SDK still reads it
				delete(meta, "data_part_compat")
			}
		case a2a.Raw:
			s := base64.StdEncoding.EncodeToString(c)
			b, _ := json.Marshal(sdkFile{Name: p.Filename, MimeType: p.MediaType, Bytes: &s})
			q = task.Part{Type: task.PartFile, Data: b}
		case a2a.URL:
			b, _ := json.Marshal(sdkFile{Name: p.Filename, MimeType: p.MediaType, URI: string(c)})
			q = task.Part{Type: task.PartFile, Data: b}
		}
		if len(meta) > 0 {
			q.Metadata, _ = json.Marshal(meta)
		}
		out = append(out, q)
	}
	return out
}

// twice is the binding in which a2a-go puts bytes into base64 twice, unlike A2A 0.3 and the SDK for JavaScript. It also
// leaves it to the agent to unwrap data that is no object.
const twice = "0.3 HTTP+JSON"

// bindings are how a2a-go serves an agent, with the card that says so.
var bindings = map[string]struct {
	serve func(a2asrv.RequestHandler) http.Handler
	path  string
	card  string // %s is the URL
}{
	"1.0 JSON-RPC":  {func(h a2asrv.RequestHandler) http.Handler { return a2asrv.NewJSONRPCHandler(h) }, "/rpc", `{"supportedInterfaces":[{"url":"%s/rpc","protocolBinding":"JSONRPC","protocolVersion":"1.0"}],"capabilities":{"streaming":true}}`},
	"0.3 JSON-RPC":  {func(h a2asrv.RequestHandler) http.Handler { return a2av0.NewJSONRPCHandler(h) }, "/rpc", `{"protocolVersion":"0.3.0","url":"%s/rpc","capabilities":{"streaming":true}}`},
	"1.0 HTTP+JSON": {func(h a2asrv.RequestHandler) http.Handler { return http.StripPrefix("/rest", a2asrv.NewRESTHandler(h)) }, "/rest/", `{"supportedInterfaces":[{"url":"%s/rest","protocolBinding":"HTTP+JSON","protocolVersion":"1.0"}],"capabilities":{"streaming":true}}`},
	"0.3 HTTP+JSON": {func(h a2asrv.RequestHandler) http.Handler { return http.StripPrefix("/rest", a2av0.NewRESTHandler(h)) }, "/rest/", `{"protocolVersion":"0.3.0","preferredTransport":"HTTP+JSON","url":"%s/rest/","capabilities":{"streaming":true}}`},
}

func sdkServer(t *testing.T, binding string, agent portstest.Agent) *httptest.Server {
	t.Helper()
	b := bindings[binding]
	mux := http.NewServeMux()
	mux.Handle(b.path, b.serve(a2asrv.NewHandler(&sdkAgent{agent: agent, stops: map[a2a.TaskID]context.CancelFunc{}}, a2asrv.WithLogger(slog.New(slog.DiscardHandler)))))
	server := httptest.NewServer(mux)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return server
}

// The suite, against agents built with a2a-go, by what their cards say.
func TestAgentsOfTheGoSDK(t *testing.T) {
	for name, b := range bindings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := func(agent portstest.Agent) (string, json.RawMessage) {
				at := sdkServer(t, name, agent).URL
				return at, json.RawMessage(fmt.Sprintf(b.card, at))
			}
			require.NoError(t, portstest.AgentCaller(t.Context(), newClient(), host, portstest.CallerTraits{Streams: true, Nowhere: nowhere(t), NoBytes: name == twice}))
		})
	}
}

// The same without a card: the dialect is found out, and remembered.
func TestDialectsAreFoundOut(t *testing.T) {
	for name := range bindings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := strings.TrimRight(bindings[name].path, "/")
			host := func(agent portstest.Agent) (string, json.RawMessage) {
				return sdkServer(t, name, agent).URL + path, nil
			}
			require.NoError(t, portstest.AgentCaller(t.Context(), newClient(), host, portstest.CallerTraits{Nowhere: nowhere(t), NoBytes: name == twice}))
		})
	}
}

func nowhere(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(nil)
	s.Close()
	return s.URL
}
