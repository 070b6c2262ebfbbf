package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/a2agateway"
	"github.com/nexus-protocol/nexus/adapters/demopay"
	"github.com/nexus-protocol/nexus/adapters/httpapi"
	"github.com/nexus-protocol/nexus/adapters/inprocess"
	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// What the gateway takes and answers is as the OpenAPI document has it, in the demo too.
func TestTheGatewayIsAsDocumented(t *testing.T) {
	t.Parallel()
	store, agents := memory.New(), memory.NewAgents()
	engine, err := app.New(app.Config{
		Store: store, Queue: inprocess.New(store, time.Now, inprocess.Options{}), Agents: agents, Guard: memory.OpenGuard{}, Schema: memory.Schemas{}, Hasher: memory.NewHasher(),
		Limits: memory.NewLimiter(time.Now), Events: inprocess.NewEvents(), Now: time.Now, NewID: memory.NewID, Random: rand.Reader, Sole: true,
		CallBackURL: func(id string) string { return a2agateway.CallBackURL("http://x", id) },
	})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	worked := make(chan error, 1)
	go func() { worked <- engine.Worker.Run(ctx, time.Second) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-worked)
	})
	gateway := a2agateway.New(engine, a2agateway.Options{PublicURL: "http://x"})
	srv := httptest.NewServer(httpapi.New(engine, httpapi.Options{Open: openRoutes(engine, gateway, demopay.New(demopay.Options{BaseURL: "http://x"}))}))
	t.Cleanup(srv.Close)
	u, err := engine.Identity.SignUp(t.Context(), app.Credentials{Email: "a@example.com", Password: "long enough"})
	require.NoError(t, err)
	owner := identity.SessionCaller(u, "")
	tokens := make(chan string, 1)
	agents.Handle("http://agent", func(_ context.Context, c ports.Call) (ports.Answer, error) {
		if c.Message.Parts[0].Type == task.PartText && string(c.Message.Parts[0].Data) == `"ask"` {
			select {
			case tokens <- c.CallBack.Token:
			default:
			}
			return ports.Answer{State: ports.AnswerInputRequired, RemoteTaskID: "r", Messages: []task.Message{{ID: "q", Role: task.RoleAgent, Parts: []task.Part{task.TextPart("which?")}}}}, nil
		}
		return ports.Answer{State: ports.AnswerDone, Artifacts: []task.Artifact{{ID: "a", Name: "echo", Description: "d", Parts: c.Message.Parts}}}, nil
	})
	name, endpoint := "Agent", "http://agent"
	a, err := engine.Agents.Register(t.Context(), owner, registry.Profile{Name: &name, Endpoint: &endpoint})
	require.NoError(t, err)
	k, err := engine.Identity.CreateKey(t.Context(), owner, a.ID, identity.NewKey{Name: "k", Scopes: []string{"*"}})
	require.NoError(t, err)

	get := func(path string) string {
		res, err := http.Get(srv.URL + path)
		require.NoError(t, err)
		defer func() { _ = res.Body.Close() }()
		b, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return string(b)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(get("/openapi.json")))
	require.NoError(t, err)
	page := get("/docs/reference")
	for _, r := range gateway.Routes() {
		require.Contains(t, page, "<code>"+r.Path+"</code>")
	}
	schemas := jsonschema.NewCompiler()
	schemas.UseLoader(jsonschema.SchemeURLLoader{})
	require.NoError(t, schemas.AddResource("http://x/doc", doc))
	conforms := func(text string, pointer ...string) {
		t.Helper()
		for i := range pointer {
			pointer[i] = strings.NewReplacer("~", "~0", "/", "~1").Replace(pointer[i])
		}
		schema, err := schemas.Compile("http://x/doc#" + (&url.URL{Fragment: "/paths/" + strings.Join(pointer, "/")}).EscapedFragment())
		require.NoError(t, err, pointer)
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		require.NoError(t, err, text)
		require.NoError(t, schema.Validate(v), text)
	}
	ask := func(status int, method, route, body string, header ...string) string {
		t.Helper()
		path := strings.NewReplacer("{agentId}", a.ID, "{taskId}", a.ID).Replace(route)
		req, err := http.NewRequestWithContext(t.Context(), method, srv.URL+path, strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer func() { _ = res.Body.Close() }()
		b, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, status, res.StatusCode, "%s", b)
		if body != "" && status < 300 {
			conforms(body, route, strings.ToLower(method), "requestBody", "content", "application/json", "schema")
		}
		at := []string{route, strings.ToLower(method), "responses", fmt.Sprint(status), "content"}
		switch {
		case strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream"):
			for line := range strings.Lines(string(b)) {
				if data, ok := strings.CutPrefix(line, "data: "); ok {
					conforms(data, append(at, "text/event-stream", "schema", "items", "oneOf", "0", "properties", "data")...)
				}
			}
		case len(b) > 0:
			conforms(string(b), append(at, "application/json", "schema")...)
		}
		return string(b)
	}
	const open, agent, back = "/api/v1/a2a", "/api/v1/a2a/agents/{agentId}", "/api/v1/a2a/callbacks/{taskId}"
	n := 0
	rpc := func(route, method, params string, header ...string) (out struct{ Result, Error json.RawMessage }) {
		t.Helper()
		n++
		b := ask(http.StatusOK, "POST", route, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":%s}`, n, method, params), header...)
		if strings.HasPrefix(b, "{") {
			require.NoError(t, json.Unmarshal([]byte(b), &out))
		}
		return out
	}
	said := func(role, parts string) string {
		return fmt.Sprintf(`"message":{"messageId":"m%d","role":%q,"parts":%s}`, n, role, parts)
	}
	key := []string{"Authorization", "Bearer " + string(k.Secret)}
	const words, file, typed, new = `[{"kind":"text","text":"x"}]`, `[{"kind":"file","file":{"bytes":"aGk=","name":"n"}},{"kind":"data","data":{"a":1}}]`, `[{"type":"text","data":"x"}]`, `[{"text":"x"},{"data":[1]},{"url":"http://x"}]`
	require.NotEmpty(t, rpc(agent, "message/send", `{`+said("user", words)+`}`).Result)
	require.NotEmpty(t, rpc(agent, "message/send", `{`+said("user", file)+`}`).Result)
	require.NotEmpty(t, rpc(agent, "message/send", `{`+said("user", typed)+`}`).Result)
	require.NotEmpty(t, rpc(agent, "SendMessage", `{`+said("ROLE_USER", new)+`}`, key...).Result)
	require.NotEmpty(t, rpc(open, "SendMessage", `{"metadata":{"agentId":"`+a.ID+`"},`+said("ROLE_USER", `[{"text":"ask"}]`)+`}`).Result)
	rpc(open, "SendStreamingMessage", `{"metadata":{"agentId":"`+a.ID+`"},`+said("ROLE_USER", new)+`}`)
	rpc(open, "message/stream", `{"metadata":{"agentId":"`+a.ID+`"},`+said("user", file)+`}`)
	require.NotEmpty(t, rpc(open, "ListTasks", `{"pageSize":5,"includeArtifacts":true,"historyLength":2}`, key...).Result)
	require.NotEmpty(t, rpc(agent, "GetExtendedAgentCard", `{}`, key...).Result)
	require.NotEmpty(t, rpc(open, "tasks/get", `{"id":"nobody"}`).Error)
	require.NotEmpty(t, rpc(open, "message/send", `{`+said("user", words)+`}`).Error)
	require.NotEmpty(t, rpc(open, "no/such", `{}`).Error)
	ask(http.StatusUnauthorized, "POST", open, `{"jsonrpc":"2.0","id":1,"method":"ListTasks"}`)
	ask(http.StatusUnsupportedMediaType, "POST", open, `x`, "Content-Type", "text/plain")
	ask(http.StatusRequestEntityTooLarge, "POST", open, strings.Repeat("x", 1<<20+1))
	for _, path := range []string{"/.well-known/agent-card.json", "/.well-known/agent.json"} {
		ask(http.StatusOK, "GET", path, "")
		ask(http.StatusOK, "GET", agent+path, "", "A2A-Version", "1.0")
	}
	for _, path := range []string{open, agent} {
		ask(http.StatusOK, "GET", path, "")
		ask(http.StatusOK, "GET", path+"/v1/card", "", key...)
		ask(http.StatusUnauthorized, "GET", path+"/v1/card", "")
	}
	ask(http.StatusOK, "GET", "/.well-known/jwks.json", "")
	const moved = `{"statusUpdate":{"taskId":"r","status":{"state":"TASK_STATE_WORKING"}}}`
	ask(http.StatusUnauthorized, "POST", back, moved, "X-A2A-Notification-Token", <-tokens)
	ask(http.StatusBadRequest, "POST", back, `{}`)
	ask(http.StatusUnsupportedMediaType, "POST", back, moved, "Content-Type", "text/plain")
}
