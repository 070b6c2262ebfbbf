package a2agateway_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/a2agateway"
	"github.com/nexus-protocol/nexus/adapters/inprocess"
	"github.com/nexus-protocol/nexus/adapters/internal/peer"
	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

type object = map[string]any

// rig is a gateway before agents that are functions.
type rig struct {
	t      *testing.T
	engine *app.Engine
	agents *memory.Agents
	url    string
	owner  identity.Caller
	user   identity.Caller
	key    string // of an agent of the user's
	n      atomic.Int32
}

func newRig(t *testing.T, change ...func(*app.Config)) *rig {
	t.Helper()
	r := &rig{t: t, agents: memory.NewAgents()}
	store := memory.New()
	events := inprocess.NewEvents()
	now := time.Now() // of the limits: however long the test takes, nothing is allowed again
	cfg := app.Config{
		Store: store, Queue: inprocess.New(store, time.Now, inprocess.Options{}), Agents: r.agents, Guard: memory.OpenGuard{}, Schema: memory.Schemas{},
		Hasher: memory.NewHasher(), Limits: memory.NewLimiter(func() time.Time { return now }), Events: events, Now: time.Now, NewID: memory.NewID, Random: rand.Reader, Sole: true,
		CallBackURL: func(id string) string { return a2agateway.CallBackURL("http://engine.example/", id) },
	}
	for _, c := range change {
		c(&cfg)
	}
	engine, err := app.New(cfg)
	require.NoError(t, err)
	r.engine = engine
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- engine.Worker.Run(ctx, time.Second) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
	mux := http.NewServeMux()
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	r.url = srv.URL
	g := a2agateway.New(engine, a2agateway.Options{PublicURL: srv.URL, Signer: newSigner(t), Wait: 5 * time.Second, KeepAlive: 20 * time.Millisecond})
	for _, p := range a2agateway.Patterns() {
		mux.HandleFunc(p, func(w http.ResponseWriter, q *http.Request) {
			g.ServeHTTP(w, q.WithContext(peer.With(q.Context(), "192.0.2."+q.Header.Get("X-Test-Address"))))
		})
	}
	sign := func(email string) identity.Caller {
		u, err := engine.Identity.SignUp(t.Context(), app.Credentials{Email: email, Password: "long enough"})
		require.NoError(t, err)
		return identity.SessionCaller(u, "")
	}
	r.owner, r.user = sign("owner@example.com"), sign("user@example.com")
	desk := r.register(r.user, 0, nil)
	k, err := engine.Identity.CreateKey(t.Context(), r.user, desk.ID, identity.NewKey{Name: "k", Scopes: []string{"*"}})
	require.NoError(t, err)
	r.key = string(k.Secret)
	return r
}

func (r *rig) register(owner identity.Caller, price credits.Amount, f memory.AgentFunc) registry.Agent {
	r.t.Helper()
	endpoint := fmt.Sprintf("http://agent%d.example.com", r.n.Add(1))
	if f == nil {
		f = echo
	}
	r.agents.Handle(endpoint, f)
	name, text := "Agent", "Does things"
	skills := []registry.Skill{{ID: "say", Name: "Say", Tags: []string{fmt.Sprint("tag", r.n.Load())}}}
	a, err := r.engine.Agents.Register(r.t.Context(), owner, registry.Profile{Name: &name, Description: &text, Endpoint: &endpoint, Price: &price, Skills: &skills})
	require.NoError(r.t, err)
	return a
}

// registerAt registers a free agent at an endpoint.
func (r *rig) registerAt(name, endpoint string) registry.Agent {
	r.t.Helper()
	a, err := r.engine.Agents.Register(r.t.Context(), r.owner, registry.Profile{Name: &name, Endpoint: &endpoint})
	require.NoError(r.t, err)
	return a
}

func echo(_ context.Context, c ports.Call) (ports.Answer, error) {
	return ports.Answer{
		State: ports.AnswerDone, Messages: []task.Message{{ID: "said", Role: task.RoleAgent, Parts: []task.Part{task.TextPart("here")}}},
		Artifacts: []task.Artifact{{ID: "a", Name: "echo", Parts: c.Message.Parts}},
	}, nil
}

type answer struct {
	t      *testing.T
	status int
	header http.Header
	body   string
}

func (r *rig) post(path, body string, headers ...string) answer {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.url+path, strings.NewReader(body))
	require.NoError(r.t, err)
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(r.t, err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	require.NoError(r.t, err)
	return answer{r.t, resp.StatusCode, resp.Header, string(b)}
}

func (r *rig) call(path, method string, params any, headers ...string) answer {
	r.t.Helper()
	b, err := json.Marshal(object{"jsonrpc": "2.0", "id": 7, "method": method, "params": params})
	require.NoError(r.t, err)
	return r.post(path, string(b), headers...)
}

func (a answer) rpc() object {
	a.t.Helper()
	var v object
	require.NoError(a.t, json.Unmarshal([]byte(strings.TrimPrefix(a.body, "data: ")), &v), a.body) // a refused stream is one event
	require.Equal(a.t, "2.0", v["jsonrpc"], a.body)
	return v
}

func (a answer) result() object {
	a.t.Helper()
	v := a.rpc()
	require.Nil(a.t, v["error"], a.body)
	require.InDelta(a.t, 7, v["id"], 0)
	return v["result"].(object)
}

func (a answer) code() int {
	a.t.Helper()
	v := a.rpc()
	require.NotNil(a.t, v["error"], a.body)
	return int(v["error"].(object)["code"].(float64))
}

// events of an answer that is a stream.
func (a answer) events() []object {
	a.t.Helper()
	require.Equal(a.t, "text/event-stream", a.header.Get("Content-Type"), a.body)
	var out []object
	lines := bufio.NewScanner(strings.NewReader(a.body))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			out = append(out, answer{a.t, 0, nil, data}.result())
		}
	}
	return out
}

func says(form, id, text string, more object) object {
	part := map[string]object{
		"0.3": {"kind": "text", "text": text}, "1.0": {"text": text}, "typed": {"type": "text", "data": text},
	}[form]
	role := "user"
	if form == "1.0" {
		role = "ROLE_USER"
	}
	m := object{"messageId": id, "role": role, "parts": []any{part}}
	for k, v := range more {
		m[k] = v
	}
	return object{"message": m}
}

func door(a registry.Agent) string { return "/api/v1/a2a/agents/" + a.ID }

func TestSendInEveryForm(t *testing.T) {
	r := newRig(t)
	a := r.register(r.owner, 0, nil)
	old := r.call(door(a), "message/send", says("0.3", "m1", "hello <b>", nil)).result()
	assert.Equal(t, "task", old["kind"])
	assert.Equal(t, "completed", old["status"].(object)["state"])
	assert.Equal(t, []any{object{"artifactId": "a", "name": "echo", "parts": []any{object{"kind": "text", "text": "hello <b>"}}}}, old["artifacts"])
	history := old["history"].([]any)
	require.Len(t, history, 2)
	assert.Equal(t, object{
		"kind": "message", "messageId": "m1", "role": "user", "parts": []any{object{"kind": "text", "text": "hello <b>"}}, "taskId": old["id"], "contextId": old["contextId"],
	}, history[0])
	assert.NotEmpty(t, old["contextId"])

	now := r.call(door(a)+"/", "SendMessage", says("1.0", "m2", "hello", object{"contextId": "mine"}), "A2A-Version", "1.0").result()["task"].(object)
	assert.NotContains(t, now, "kind")
	assert.Equal(t, "mine", now["contextId"])
	assert.Equal(t, "TASK_STATE_COMPLETED", now["status"].(object)["state"])
	assert.Equal(t, []any{object{"text": "hello"}}, now["artifacts"].([]any)[0].(object)["parts"])
	assert.Equal(t, "ROLE_AGENT", now["history"].([]any)[1].(object)["role"])

	typed := r.call("/api/v1/a2a", "message/send", object{
		"assignedAgentId": strings.ToUpper(a.ID), "message": says("typed", "m3", "hello", nil)["message"], "configuration": object{"historyLength": 0},
	}).result()
	assert.Equal(t, []any{object{"type": "text", "data": "hello"}}, typed["artifacts"].([]any)[0].(object)["parts"])
	assert.NotContains(t, typed, "history")

	// Nothing that other forms of parts carry is lost.
	parts := map[string][]any{
		"message/send": {
			object{"kind": "data", "data": object{"n": 1.5}, "metadata": object{"k": true}},
			object{"kind": "file", "file": object{"name": "a.txt", "mimeType": "text/plain", "bytes": "aGk="}},
			object{"kind": "file", "file": object{"uri": "https://example.com/a"}},
		},
		"SendMessage": {
			object{"data": []any{1.0, nil, "x"}}, object{"raw": "aGk=", "filename": "a.txt", "mediaType": "text/plain"}, object{"url": "https://example.com/a", "metadata": object{"k": true}},
		},
	}
	for method, sent := range parts {
		role := map[string]string{"message/send": "user", "SendMessage": "ROLE_USER"}[method]
		v := r.call(door(a), method, object{"message": object{"message_id": "parts " + method, "role": role, "parts": sent}}).result()
		if method == "SendMessage" {
			v = v["task"].(object)
		}
		assert.Equal(t, sent, v["artifacts"].([]any)[0].(object)["parts"], method)
	}
	body := `{"jsonrpc":"2.0","id":"x","method":"SendMessage","params":{"message":{"messageId":"big","role":"ROLE_USER","parts":[{"data":12345678901234567890}]}}}`
	assert.Contains(t, r.post(door(a), body).body, `"data":12345678901234567890`)
}

func TestWhoIsMeant(t *testing.T) {
	r := newRig(t)
	a, b := r.register(r.owner, 0, nil), r.register(r.owner, 0, nil)
	id := 0
	to := func(params object) answer {
		id++
		p := says("0.3", fmt.Sprint("m", id), "hello", nil)
		if m, ok := params["message"]; ok {
			for k, v := range m.(object) {
				p["message"].(object)[k] = v
			}
		}
		for k, v := range params {
			if k != "message" {
				p[k] = v
			}
		}
		return r.call("/api/v1/a2a", "message/send", p)
	}
	agent := func(v answer) any { return v.result()["metadata"].(object)["agentId"] }
	assert.Equal(t, a.ID, agent(to(object{"metadata": object{"agentId": a.ID}, "assignedAgentId": b.ID})))
	assert.Equal(t, a.ID, agent(to(object{"message": object{"metadata": object{"agentId": a.ID}}})))
	assert.Equal(t, b.ID, agent(to(object{"assignedAgentId": b.ID})))
	assert.Equal(t, b.ID, agent(to(object{"metadata": object{"skillTags": b.Skills[0].Tags}})))
	assert.NotEmpty(t, agent(to(object{"message": object{"metadata": object{"skillId": "say"}}})))
	assert.Equal(t, -32602, to(nil).code())
	assert.Contains(t, to(nil).body, "metadata.agentId")
	assert.Equal(t, -32602, to(object{"assignedAgentId": "nobody"}).code())
	assert.Equal(t, -32602, r.call("/api/v1/a2a/agents/nobody", "message/send", says("0.3", "x", "x", nil)).code())
}

func TestCredentials(t *testing.T) {
	r := newRig(t)
	dear := r.register(r.owner, 500, nil)
	refused := r.call(door(dear), "message/send", says("0.3", "m", "x", nil))
	assert.Equal(t, -31401, refused.code())
	assert.Equal(t, http.StatusUnauthorized, refused.status)
	assert.Equal(t, -31401, r.call(door(dear), "message/send", says("0.3", "m", "x", nil), "Authorization", "Bearer nxk_wrong").code())
	mine := r.call(door(dear), "message/send", says("0.3", "m", "x", nil), "Authorization", "Bearer "+r.key).result()
	again := r.call(door(dear), "message/send", says("0.3", "m", "x", nil), "Authorization", "Bearer "+r.key).result()
	assert.Equal(t, mine["id"], again["id"])
	b, err := r.engine.Billing.Balance(t.Context(), r.user)
	require.NoError(t, err)
	assert.Equal(t, credits.Whole(995), b.Available, "charged once")

	// Nobody reads what is someone else's, and a stranger is told nothing at all where there is a price.
	for _, method := range []string{"tasks/get", "GetTask", "tasks/cancel", "CancelTask", "tasks/resubscribe", "SubscribeToTask", "ListTasks", "no/such"} {
		refused := r.call(door(dear), method, object{"id": mine["id"]})
		assert.Equal(t, http.StatusUnauthorized, refused.status, method)
		assert.Equal(t, "Bearer", refused.header.Get("WWW-Authenticate"), method)
		if code := r.call("/api/v1/a2a", method, object{"id": mine["id"]}).code(); method != "ListTasks" && method != "no/such" {
			assert.Equal(t, -32001, code, method)
		}
	}
	assert.Equal(t, -31401, r.call(door(dear), "message/send", says("0.3", "n", "x", object{"taskId": mine["id"]})).code())
	assert.Equal(t, -32001, r.call("/api/v1/a2a", "message/send", says("0.3", "n", "x", object{"taskId": mine["id"]})).code())
	assert.Equal(t, -31401, r.call(door(dear), "ListTasks", object{}).code())
	other := r.register(r.owner, 0, nil)
	assert.Equal(t, -32001, r.call(door(other), "tasks/get", object{"id": mine["id"]}, "Authorization", "Bearer "+r.key).code(), "it is another agent's")
	for i := range 40 {
		refused = r.call(door(other), "message/send", says("0.3", fmt.Sprint(i), "x", nil), "X-Test-Address", "9")
	}
	assert.Equal(t, http.StatusTooManyRequests, refused.status)
	assert.NotEmpty(t, refused.header.Get("Retry-After"))
}

func TestWhatIsRefused(t *testing.T) {
	r := newRig(t)
	a := r.register(r.owner, 0, nil)
	for body, code := range map[string]int{
		"":     -32700,
		"{":    -32700,
		"[]":   -32600,
		"null": -32600,
		`{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"id":"x","ID":"y"}}`:                                                                                          -32600,
		`{"jsonrpc":"2.0","id":1,"id":2,"method":"tasks/get","params":{"id":"x"}}`:                                                                                            -32600,
		`{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"id":` + strings.Repeat("[", 65) + strings.Repeat("]", 65) + `}}`:                                             -32600,
		`[{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"id":"x"}}]`:                                                                                                 -32600,
		`{"jsonrpc":"1.0","id":1,"method":"tasks/get"}`:                                                                                                                       -32600,
		`{"jsonrpc":"2.0","method":"tasks/get","params":{"id":"x"}}`:                                                                                                          -32600,
		`{"jsonrpc":"2.0","method":"tasks/get"}`:                                                                                                                              -32602,
		`{"jsonrpc":"2.0","method":"tasks/fetch"}`:                                                                                                                            -32601,
		`{"jsonrpc":"2.0","method":"message/send","params":{"":"x"}}`:                                                                                                         -32602,
		`{"jsonrpc":"2.0","id":{},"method":"tasks/get"}`:                                                                                                                      -32600,
		`{"jsonrpc":"2.0","id":1.5,"method":"tasks/get"}`:                                                                                                                     -32600,
		`{"jsonrpc":"2.0","id":1,"method":{"method":"tasks/get"}}`:                                                                                                            -32600,
		`{"jsonrpc":"2.0","id":1,"method":1}`:                                                                                                                                 -32600,
		`{"jsonrpc":"2.0","id":1,"method":"nothing"}`:                                                                                                                         -32601,
		`{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":[]}`:                                                                                                           -32602,
		`{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{}}`:                                                                                                           -32602,
		`{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"id":1}}`:                                                                                                     -32602,
		`{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"id":"x"}}`:                                                                                                   -32001,
		`{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":"x","historyLength":-1}}`:                                                                                  -32602,
		`{"jsonrpc":"2.0","id":1,"method":"message/send","params":{}}`:                                                                                                        -32602,
		`{"jsonrpc":"2.0","id":1,"method":"message/send","params":{"message":{"role":"user","parts":[{"kind":"text","text":"x"}]}}}`:                                          -32602,
		`{"jsonrpc":"2.0","id":1,"method":"message/send","params":{"message":{"messageId":"1","role":"agent","parts":[{"kind":"text","text":"x"}]}}}`:                         -32602,
		`{"jsonrpc":"2.0","id":1,"method":"message/send","params":{"message":{"messageId":"1","role":"user","parts":[]}}}`:                                                    -32602,
		`{"jsonrpc":"2.0","id":1,"method":"message/send","params":{"message":{"messageId":"1","role":"user","parts":[{"kind":"text","text":1}]}}}`:                            -32602,
		`{"jsonrpc":"2.0","id":1,"method":"message/send","params":{"message":{"messageId":"1","role":"user","parts":[{"kind":"video"}]}}}`:                                    -32602,
		`{"jsonrpc":"2.0","id":1,"method":"message/send","params":{"message":{"messageId":"1","role":"user","parts":[{"kind":"text","text":"a\u0000"}]}}}`:                    -32602,
		`{"jsonrpc":"2.0","id":1,"method":"message/send","params":{"message":{"messageId":"1","role":"user","taskId":"x","parts":[{"kind":"text","text":"a"}]}}}`:             -32001,
		`{"jsonrpc":"2.0","id":1,"method":"tasks/pushNotificationConfig/set","params":{}}`:                                                                                    -32003,
		`{"jsonrpc":"2.0","id":1,"method":"GetExtendedAgentCard"}`:                                                                                                            -31401,
		`{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"id":"` + strings.Repeat("x", 2<<20) + `"}}`:                                                                  -32600,
		`{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":{"messageId":"1","role":"ROLE_USER","parts":[{"text":"` + strings.Repeat("x", 300<<10) + `"}]}}}`: -32602,
	} {
		assert.Equal(t, code, r.post(door(a), body).code(), body[:min(len(body), 200)])
	}
	ok := `{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"id":"x"}}`
	assert.Equal(t, -32009, r.post(door(a), ok, "A2A-Version", "0.2").code())
	assert.Equal(t, -32005, r.post(door(a), ok, "Content-Type", "text/plain").code())
}

func TestTheLifeOfATask(t *testing.T) {
	r := newRig(t)
	out := make(chan ports.Answer)
	a := r.register(r.owner, 0, func(ctx context.Context, c ports.Call) (ports.Answer, error) {
		select {
		case v := <-out:
			return v, nil
		case <-ctx.Done():
			return ports.Answer{}, ctx.Err()
		}
	})
	auth := []string{"Authorization", "Bearer " + r.key}
	ask := ports.Answer{State: ports.AnswerInputRequired, ContextID: "c", Messages: []task.Message{{ID: "q", Role: task.RoleAgent, Parts: []task.Part{task.TextPart("which?")}}}}
	for form, m := range map[string][]string{
		"0.3": {"message/send", "tasks/get", "tasks/cancel", "message/stream", "tasks/resubscribe", "submitted", "input-required", "completed", "canceled"},
		"1.0": {"SendMessage", "GetTask", "CancelTask", "SendStreamingMessage", "SubscribeToTask", "TASK_STATE_SUBMITTED", "TASK_STATE_INPUT_REQUIRED", "TASK_STATE_COMPLETED", "TASK_STATE_CANCELED"},
	} {
		inner := func(v object) object {
			if form == "1.0" {
				return v["task"].(object)
			}
			return v
		}
		state := func(v object) any { return v["status"].(object)["state"] }
		p := says(form, "first "+form, "do it", nil)
		p["configuration"] = object{"blocking": false, "returnImmediately": true}
		v := inner(r.call(door(a), m[0], p, auth...).result())
		assert.Equal(t, m[5], state(v))
		streamed := make(chan []object, 1)
		go func() { streamed <- r.call(door(a), m[4], object{"id": v["id"]}, auth...).events() }()
		out <- ask
		var events []object
		if form == "0.3" { // in 1.0 a subscription goes on
			events = <-streamed
			last := events[len(events)-1]
			assert.Equal(t, true, last["final"])
			assert.Equal(t, m[6], state(last))
		}
		p = says(form, "first "+form, "do it", nil)
		assert.Equal(t, m[6], state(inner(r.call(door(a), m[0], p, auth...).result())), "a message that comes again is answered at once")
		v = r.call(door(a), m[1], object{"id": v["id"], "historyLength": 1}, auth...).result()
		assert.Equal(t, m[6], state(v))
		assert.Len(t, v["history"], 1)
		assert.Equal(t, "q", v["status"].(object)["message"].(object)["messageId"])

		assert.Equal(t, -32602, r.call(door(a), m[0], says(form, "wrong "+form, "this", object{"taskId": v["id"], "contextId": "another"}), auth...).code())
		go func() {
			out <- ports.Answer{State: ports.AnswerDone, Artifacts: []task.Artifact{{ID: "a", Parts: []task.Part{task.TextPart("done")}}}}
		}()
		v = inner(r.call(door(a), m[0], says(form, "second "+form, "this", object{"taskId": v["id"], "contextId": v["contextId"]}), auth...).result())
		assert.Equal(t, m[7], state(v))
		assert.Len(t, v["history"], 3)
		if form == "1.0" {
			events = <-streamed
			states := []any{}
			for _, e := range events {
				if u, ok := e["statusUpdate"].(object); ok {
					states = append(states, state(u))
				}
			}
			assert.Equal(t, m[7], states[len(states)-1])
		}
		assert.Equal(t, -32004, r.call(door(a), m[0], says(form, "late "+form, "this", object{"taskId": v["id"]}), auth...).code())
		assert.Equal(t, -32002, r.call(door(a), m[2], object{"id": v["id"]}, auth...).code())
		if form == "1.0" {
			assert.Equal(t, -32004, r.call(door(a), m[4], object{"id": v["id"]}, auth...).code())
		} else {
			assert.Len(t, r.call(door(a), m[4], object{"id": v["id"]}, auth...).events(), 2)
		}

		go func() {
			out <- ports.Answer{State: ports.AnswerDone, Artifacts: []task.Artifact{{ID: "a", Parts: []task.Part{task.TextPart("done")}}}}
		}()
		events = r.call(door(a), m[3], says(form, "stream "+form, "do it", nil), auth...).events()
		require.GreaterOrEqual(t, len(events), 3)
		assert.Equal(t, m[5], state(inner(events[0])))
		last, made := events[len(events)-1], events[len(events)-2]
		if form == "1.0" {
			last, made = last["statusUpdate"].(object), made["artifactUpdate"].(object)
		} else {
			assert.Equal(t, "status-update", last["kind"])
			assert.Equal(t, "artifact-update", made["kind"])
			assert.Equal(t, true, last["final"])
		}
		assert.Equal(t, m[7], state(last))
		assert.Equal(t, "a", made["artifact"].(object)["artifactId"])

		p = says(form, "third "+form, "do it", nil)
		p["configuration"] = object{"blocking": false, "return_immediately": true}
		v = inner(r.call(door(a), m[0], p, auth...).result())
		v = r.call(door(a), m[2], object{"id": v["id"]}, auth...).result()
		assert.Equal(t, m[8], state(v))
		assert.Equal(t, -32002, r.call(door(a), m[2], object{"id": v["id"]}, auth...).code())
	}
	all := r.call(door(a), "ListTasks", object{"pageSize": 4}, auth...).result()
	assert.InDelta(t, 6, all["totalSize"], 0)
	require.Len(t, all["tasks"], 4)
	rest := r.call(door(a), "ListTasks", object{"page_size": 4, "page_token": all["nextPageToken"], "includeArtifacts": true}, auth...).result()
	require.Len(t, rest["tasks"], 2)
	assert.Empty(t, rest["nextPageToken"])
	assert.InDelta(t, 6, r.call(door(a), "ListTasks", object{"status": "TASK_STATE_UNSPECIFIED"}, auth...).result()["totalSize"], 0)
	assert.Equal(t, []any{}, r.call(door(a), "ListTasks", object{"contextId": "none"}, auth...).result()["tasks"])
	assert.Equal(t, -32602, r.call(door(a), "ListTasks", object{"pageToken": "zzz"}, auth...).code())
	assert.Equal(t, -32602, r.call(door(a), "ListTasks", object{"status": "sleeping"}, auth...).code())
}

// A stream says that it is still there, and a task that takes its time does not hold message/send for ever.
func TestPatience(t *testing.T) {
	r := newRig(t)
	a := r.register(r.owner, 0, func(ctx context.Context, _ ports.Call) (ports.Answer, error) {
		<-ctx.Done()
		return ports.Answer{}, ctx.Err()
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+door(a), strings.NewReader(
		`{"jsonrpc":"2.0","id":1,"method":"message/stream","params":{"message":{"messageId":"1","role":"user","parts":[{"kind":"text","text":"x"}]}}}`))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	lines, comments := bufio.NewScanner(resp.Body), 0
	for comments < 2 && lines.Scan() {
		if strings.HasPrefix(lines.Text(), ":") {
			comments++
		}
	}
	assert.Equal(t, 2, comments)
	v := r.call(door(a), "message/send", says("0.3", "2", "x", nil)).result()
	assert.Contains(t, []any{"submitted", "working"}, v["status"].(object)["state"])
}

func TestCards(t *testing.T) {
	r := newRig(t)
	a := r.register(r.owner, 100, nil)
	for _, path := range []string{"", door(a)} {
		var first string
		at := path
		if at == "" {
			at = "/api/v1/a2a"
		}
		for _, card := range []string{path + "/.well-known/agent-card.json", path + "/.well-known/agent.json", at, at + "/"} {
			resp, err := http.Get(r.url + card) //nolint:noctx // a test
			require.NoError(t, err)
			b, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, http.StatusOK, resp.StatusCode)
			if first == "" {
				first = string(b)
			}
			assert.Equal(t, first, string(b))
			var v object
			require.NoError(t, json.Unmarshal(b, &v))
			assert.Equal(t, r.url+at, v["url"])
			assert.Len(t, v["supportedInterfaces"], 2)
			assert.NotEmpty(t, v["skills"])
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+card, nil)
			require.NoError(t, err)
			req.Header.Set("If-None-Match", resp.Header.Get("ETag"))
			again, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			require.NoError(t, again.Body.Close())
			assert.Equal(t, http.StatusNotModified, again.StatusCode)
		}
	}
	for _, path := range []string{"/.well-known/agent-card.json", "", "/", "/v1/card"} {
		resp, err := http.Get(r.url + "/api/v1/a2a/agents/nobody" + path) //nolint:noctx // a test
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, http.StatusNotFound, resp.StatusCode)
	}
}
