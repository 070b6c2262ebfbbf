package a2aclient_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/a2aclient"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/examples/worker"
	"github.com/nexus-protocol/nexus/ports"
	"github.com/nexus-protocol/nexus/ports/portstest"
)

// typedAgent speaks 0.3 with parts that are {type, data}, as in the API reference, and takes no others.
func typedAgent(t *testing.T, agent portstest.Agent) string {
	t.Helper()
	type part struct {
		Type     task.PartType   `json:"type"`
		Data     json.RawMessage `json:"data"`
		Metadata json.RawMessage `json:"metadata,omitempty"`
	}
	write := func(parts []task.Part) []part {
		out := []part{}
		for _, p := range parts {
			out = append(out, part(p))
		}
		return out
	}
	var ended sync.Map
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var req struct {
			ID     string
			Method string
			Params struct {
				ID      string
				Message struct {
					MessageID, TaskID, ContextID string
					Parts                        []part
				}
			}
		}
		w.Header().Set("Content-Type", "application/json")
		reply := func(name string, v any) {
			_ = json.NewEncoder(w).Encode(map[string]any{"jsonrpc": "2.0", "id": req.ID, name: v}) // the caller may have gone
		}
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			t.Error(err)
		}
		m := req.Params.Message
		if req.Method == "tasks/get" {
			v, _ := ended.Load(req.Params.ID)
			reply("result", v)
			return
		}
		got := ports.Call{TaskID: m.TaskID, RemoteTaskID: m.TaskID, ContextID: m.ContextID, Message: task.Message{ID: m.MessageID, Role: task.RoleUser}}
		for _, p := range m.Parts {
			if p.Type == "" || p.Data == nil {
				reply("error", map[string]any{"code": -32602, "message": "a part has a type and data"})
				return
			}
			got.Message.Parts = append(got.Message.Parts, task.Part(p))
		}
		if got.RemoteTaskID == "" {
			got.RemoteTaskID, got.ContextID = "r-"+m.MessageID, "c"
		}
		a := agent(r.Context(), got, func(ports.Answer) {})
		status := map[string]any{"state": map[ports.AnswerState]string{ports.AnswerDone: "completed", ports.AnswerFailed: "failed", ports.AnswerInputRequired: "input-required"}[a.State]}
		if len(a.Messages) > 0 {
			status["message"] = map[string]any{"messageId": a.Messages[0].ID, "role": "agent", "parts": write(a.Messages[0].Parts)}
		}
		if a.Reason != "" {
			status["message"] = map[string]any{"role": "agent", "parts": write([]task.Part{task.TextPart(a.Reason)})}
		}
		artifacts := []any{}
		for _, f := range a.Artifacts {
			artifacts = append(artifacts, map[string]any{"artifactId": f.ID, "name": f.Name, "description": f.Description, "parts": write(f.Parts)})
		}
		result := map[string]any{"id": got.RemoteTaskID, "contextId": got.ContextID, "status": status, "artifacts": artifacts}
		ended.Store(got.RemoteTaskID, result)
		reply("result", result)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestAgentsOfTheAPIReference(t *testing.T) {
	for name, card := range map[string]string{
		"found out":        "",
		"against the card": `{"protocolVersion":"0.3.0","url":"http://elsewhere.example"}`,
		"by the card":      `{"protocolVersion":"0.3.0","url":"/","capabilities":{"extensions":[{"uri":"urn:nexus-protocol:parts:type-data"}]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			host := func(agent portstest.Agent) (string, json.RawMessage) {
				return typedAgent(t, agent), json.RawMessage(card)
			}
			require.NoError(t, portstest.AgentCaller(t.Context(), newClient(), host, portstest.CallerTraits{Nowhere: nowhere(t)}))
		})
	}
}

// The example agent, and all that its card promises.
func TestTheExampleWorkerIsListenedTo(t *testing.T) {
	agent := worker.New()
	server := httptest.NewServer(nil)
	server.Config.Handler = agent.Handler(server.URL)
	t.Cleanup(func() { agent.Close(); server.CloseClientConnections(); server.Close() })
	c := newClient()
	in := call(server.URL)
	var err error
	in.Card, err = c.Card(t.Context(), server.URL)
	require.NoError(t, err)
	in.Message.Parts = []task.Part{{Type: task.PartData, Data: json.RawMessage(`{"steps":3,"delayMs":5}`)}}
	heard := 0
	in.Hear = hearing(&heard)
	a, err := c.Send(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, ports.AnswerDone, a.State)
	require.Positive(t, heard)
}

// What an agent that refuses all is asked, and where: never at another origin than the registered one.
func TestWhereAndHowAnAgentIsSpokenTo(t *testing.T) {
	const endpoint = "http://agent.example:8000/base"
	guesses := []string{"POST /base message/send", "POST /base SendMessage", "POST /base message/send typed", "POST /base/message:send", "POST /base/v1/message:send"}
	for name, c := range map[string]struct {
		card string
		want []string // before the guesses
	}{
		"no card":                  {``, nil},
		"a card that is none":      {`[1]`, nil},
		"0.3":                      {`{"url":"http://agent.example:8000/rpc","protocolVersion":"0.3.0"}`, []string{"POST /rpc message/send", "POST /rpc message/send typed"}},
		"1.0":                      {`{"supportedInterfaces":[{"url":"http://agent.example:8000/grpc","protocolBinding":"GRPC","protocolVersion":"1.0"},{"url":"HTTP://AGENT.example:8000/rpc?k=v","protocolBinding":"JSONRPC","protocolVersion":"1.0"}]}`, []string{"POST /rpc?k=v SendMessage"}},
		"REST before JSON-RPC":     {`{"supportedInterfaces":[{"url":"/rest/?k=v","protocolBinding":"HTTP+JSON","protocolVersion":"1.0","tenant":"a/b"},{"url":"/rpc","protocolBinding":"JSONRPC","protocolVersion":"1.0"}]}`, []string{"POST /rest/a%2Fb/message:send?k=v", "POST /rpc SendMessage"}},
		"0.3 with more bindings":   {`{"url":"/rest","preferredTransport":"HTTP+JSON","protocolVersion":"0.3.0","additionalInterfaces":[{"url":"/rest","transport":"HTTP+JSON"},{"url":"/g","transport":"GRPC"},{"url":"/rpc","transport":"JSONRPC"}]}`, []string{"POST /rest/v1/message:send", "POST /rpc message/send", "POST /rpc message/send typed"}},
		"another host":             {`{"supportedInterfaces":[{"url":"http://169.254.169.254/","protocolBinding":"JSONRPC","protocolVersion":"1.0"}]}`, []string{"POST /base SendMessage"}},
		"another port":             {`{"supportedInterfaces":[{"url":"http://agent.example:22/","protocolBinding":"JSONRPC","protocolVersion":"1.0"}]}`, []string{"POST /base SendMessage"}},
		"another scheme":           {`{"supportedInterfaces":[{"url":"file:///etc/passwd","protocolBinding":"HTTP+JSON","protocolVersion":"1.0"}]}`, []string{"POST /base/message:send"}},
		"another user of the host": {`{"supportedInterfaces":[{"url":"http://ann:secret@agent.example:8000/rpc#x","protocolBinding":"JSONRPC","protocolVersion":"1.0"}]}`, []string{"POST /rpc SendMessage"}},
	} {
		t.Run(name, func(t *testing.T) {
			var asked []string
			client := a2aclient.New(roundTrip(func(r *http.Request) *http.Response {
				require.Equal(t, "agent.example:8000", r.URL.Host)
				require.Empty(t, r.Header.Get("Authorization"))
				var m struct {
					Method string
					Params struct {
						Message struct{ Parts []map[string]any }
					}
				}
				_ = json.NewDecoder(r.Body).Decode(&m) // REST has none
				what := r.Method + " " + r.URL.RequestURI()
				if m.Method != "" {
					what += " " + m.Method
					if m.Params.Message.Parts[0]["type"] != nil {
						what += " typed"
					}
				}
				require.Equal(t, m.Method == "SendMessage" || m.Method == "" && !strings.Contains(what, "/v1/"), r.Header.Get("A2A-Version") == "1.0")
				asked = append(asked, what)
				return &http.Response{StatusCode: 404, Status: "404", Body: http.NoBody, Header: http.Header{}}
			}), nil)
			in := call(endpoint)
			in.Card = json.RawMessage(c.card)
			_, err := client.Send(t.Context(), in)
			require.ErrorContains(t, err, "404")
			want := c.want
			for _, g := range guesses {
				if !slices.Contains(want, g) {
					want = append(want, g)
				}
			}
			require.Equal(t, want, asked)
		})
	}
}

// What is found out is remembered until the agent refuses it.
func TestADialectIsRememberedUntilItIsRefused(t *testing.T) {
	s := &scripted{answers: map[string]func() *http.Response{"SendMessage": rpc(`{"message":{"messageId":"a","role":"ROLE_AGENT","parts":[]}}`), "message/send": refuses(-32601)}}
	c := a2aclient.New(s, nil)
	in := call("http://agent.example")
	send := func() {
		t.Helper()
		_, err := c.Send(t.Context(), in)
		require.NoError(t, err)
	}
	send()
	send()
	s.answers["message/send"], s.answers["SendMessage"] = rpc(`{"kind":"message","messageId":"a","parts":[]}`), refuses(-32009)
	send()
	send()
	require.Equal(t, []string{"message/send", "SendMessage", "SendMessage", "SendMessage", "message/send", "message/send"}, s.asked)
}

func TestOnlyARefusalOfTheDialectIsTriedInAnother(t *testing.T) {
	for name, c := range map[string]struct {
		answer func() *http.Response
		asked  int
	}{
		"an error of the agent's": {refuses(-32000), 1},
		"a task it does not know": {refuses(-32001), 1},
		"wrong parameters":        {refuses(-32602), 2}, // the parts may be {type, data}
		"no such method":          {refuses(-32601), 5},
		"busy": {func() *http.Response {
			return &http.Response{StatusCode: 503, Body: http.NoBody, Header: http.Header{}}
		}, 1},
		"HTML": {answers("text/html", "<html>"), 1},
	} {
		s := &scripted{answers: map[string]func() *http.Response{"message/send": c.answer, "SendMessage": c.answer}}
		_, err := a2aclient.New(s, nil).Send(t.Context(), call("http://agent.example"))
		require.Error(t, err, name)
		require.Len(t, s.asked, c.asked, name)
	}
}

type roundTrip func(*http.Request) *http.Response

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) {
	res := f(r)
	res.Request = r
	return res, nil
}

func hearing(n *int) func(context.Context, ports.Answer) error {
	return func(_ context.Context, a ports.Answer) error { *n += len(a.Messages) + len(a.Artifacts); return nil }
}
