package worker_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/examples/worker"
)

type part struct {
	Kind string
	Text string
	Data map[string]any
}

type message struct {
	Role, MessageID, TaskID, ContextID string
	Parts                              []part
}

type status struct {
	State     string
	Message   *message
	Timestamp time.Time
}

type artifact struct {
	ArtifactID, Name string
	Parts            []part
}

// result is a task or an update, as its kind says.
type result struct {
	Kind, ID, TaskID, ContextID string
	Status                      status
	Artifact                    artifact
	Artifacts                   []artifact
	History                     []message
	Final, LastChunk            bool
}

type answer struct {
	JSONRPC string
	ID      json.RawMessage
	Result  *result
	Error   *struct {
		Code    int
		Message string
	}
}

type rig struct {
	*testing.T
	agent *worker.Agent
	url   string
}

func serve(t *testing.T, agent *worker.Agent) rig {
	t.Helper()
	srv := httptest.NewServer(agent.Handler("http://worker.example"))
	t.Cleanup(func() {
		agent.Close()
		srv.Close()
	})
	return rig{T: t, agent: agent, url: srv.URL}
}

func request(method, params string) string {
	return `{"jsonrpc":"2.0","id":7,"method":"` + method + `","params":` + params + `}`
}

// order is the params of a message with one data part; more goes into the message.
func order(messageID, data, more string) string {
	return fmt.Sprintf(`{"message":{"kind":"message","role":"user","messageId":%q,"parts":[{"kind":"data","data":%s}]%s}}`, messageID, data, more)
}

// unblocked makes params ask for an answer at once.
func unblocked(params string) string {
	return strings.TrimSuffix(params, "}") + `,"configuration":{"blocking":false}}`
}

func (r rig) post(body string) (int, answer) {
	r.Helper()
	resp, err := http.Post(r.url, "application/json", strings.NewReader(body))
	require.NoError(r, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(r, "application/json", resp.Header.Get("Content-Type"))
	var a answer
	require.NoError(r, json.NewDecoder(resp.Body).Decode(&a))
	require.Equal(r, "2.0", a.JSONRPC)
	require.NotEqual(r, a.Result == nil, a.Error == nil, "a result or an error, never both")
	return resp.StatusCode, a
}

func (r rig) call(method, params string) result {
	r.Helper()
	code, a := r.post(request(method, params))
	require.Equal(r, http.StatusOK, code)
	require.Nil(r, a.Error)
	require.Equal(r, "7", string(a.ID))
	require.Equal(r, "task", a.Result.Kind)
	return *a.Result
}

func (r rig) refused(method, params string) int {
	r.Helper()
	_, a := r.post(request(method, params))
	require.NotNil(r, a.Error)
	require.NotEmpty(r, a.Error.Message)
	return a.Error.Code
}

// events opens a stream; next reads from it, nil at its end.
func (r rig) events(method, params string) (next func() *result) {
	r.Helper()
	resp, err := http.Post(r.url, "application/json", strings.NewReader(request(method, params)))
	require.NoError(r, err)
	r.Cleanup(func() { _ = resp.Body.Close() })
	require.Equal(r, "text/event-stream", resp.Header.Get("Content-Type"))
	lines := bufio.NewReader(resp.Body)
	return func() *result {
		for {
			line, err := lines.ReadString('\n')
			if err == io.EOF {
				return nil
			}
			require.NoError(r, err)
			data, ok := strings.CutPrefix(line, "data: ")
			if !ok {
				continue
			}
			var a answer
			require.NoError(r, json.Unmarshal([]byte(data), &a))
			require.Nil(r, a.Error)
			require.Equal(r, "7", string(a.ID))
			return a.Result
		}
	}
}

func TestCard(t *testing.T) {
	t.Parallel()
	r := serve(t, worker.New())
	for _, path := range []string{"/.well-known/agent-card.json", "/.well-known/agent.json"} {
		resp, err := http.Get(r.url + path)
		require.NoError(t, err)
		defer func() { _ = resp.Body.Close() }()
		var card struct {
			ProtocolVersion, Name, Description, URL, PreferredTransport, Version string
			DefaultInputModes, DefaultOutputModes                                []string
			Capabilities                                                         map[string]bool
			Skills                                                               []struct {
				ID, Name, Description string
				Tags                  []string
			}
		}
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&card))
		require.Equal(t, "0.3.0", card.ProtocolVersion)
		require.Equal(t, "http://worker.example", card.URL)
		require.Equal(t, "JSONRPC", card.PreferredTransport)
		require.Equal(t, map[string]bool{"streaming": true, "pushNotifications": false}, card.Capabilities)
		require.NotEmpty(t, card.Name)
		require.NotEmpty(t, card.Description)
		require.NotEmpty(t, card.Version)
		require.NotEmpty(t, card.DefaultInputModes)
		require.NotEmpty(t, card.DefaultOutputModes)
		require.Len(t, card.Skills, 1)
		require.Equal(t, "work", card.Skills[0].ID)
		require.NotEmpty(t, card.Skills[0].Name)
		require.NotEmpty(t, card.Skills[0].Description)
		require.NotEmpty(t, card.Skills[0].Tags)
	}
}

func TestSend(t *testing.T) {
	t.Parallel()
	r := serve(t, worker.New())
	got := r.call("message/send", `{"message":{"messageId":"m","contextId":"c","parts":[
		{"kind":"text","text":"one two three"},
		{"kind":"data","data":{"steps":2,"delayMs":1,"text":"four five","step_0_output":{"x":1}}}]}}`)
	require.Equal(t, "completed", got.Status.State)
	require.Equal(t, "c", got.ContextID)
	require.Len(t, got.Artifacts, 1)
	require.Equal(t, "report", got.Artifacts[0].ArtifactID)
	require.Equal(t, "step 1 of 2: words 2, so far 2\nstep 2 of 2: words 3, so far 5", got.Artifacts[0].Parts[0].Text)
	data := got.Artifacts[0].Parts[1].Data
	require.InDelta(t, 2, data["steps"], 0)
	require.InDelta(t, 5, data["words"], 0)
	require.GreaterOrEqual(t, data["durationMs"], 2.0)
	require.Len(t, got.History, 2)
	require.Equal(t, "agent", got.History[0].Role)
	require.Equal(t, 2, r.agent.Steps())

	time.Sleep(2 * time.Millisecond)
	require.Equal(t, got, r.call("tasks/get", `{"id":"`+got.ID+`"}`), "what has ended stays as it is")
	require.Len(t, r.call("tasks/get", `{"id":"`+got.ID+`","historyLength":1}`).History, 1)
	require.Empty(t, r.call("tasks/get", `{"id":"`+got.ID+`","historyLength":0}`).History)
}

func TestOrderAsText(t *testing.T) {
	t.Parallel()
	r := serve(t, worker.New())
	got := r.call("message/send", `{"message":{"messageId":"m","parts":[{"kind":"text","text":" {\"steps\":1,\"delayMs\":0}"}]}}`)
	require.Equal(t, "completed", got.Status.State)
	require.Equal(t, "step 1 of 1: words 0, so far 0", got.Artifacts[0].Parts[0].Text)
}

func TestWithoutOrder(t *testing.T) {
	t.Parallel()
	r := serve(t, worker.New())
	next := r.events("message/stream", `{"message":{"messageId":"m","parts":[{"kind":"text","text":"{not an order"}]}}`)
	require.Equal(t, "working", next().Status.State)
	began := time.Now()
	require.Equal(t, "step 1 of 5: words 0, so far 0", next().Status.Message.Parts[0].Text)
	require.Greater(t, time.Since(began), 400*time.Millisecond)
}

func TestNotBlocking(t *testing.T) {
	t.Parallel()
	r := serve(t, worker.New())
	got := r.call("message/send", unblocked(order("m", `{"steps":2,"delayMs":20}`, "")))
	require.Equal(t, "working", got.Status.State)
	require.Empty(t, got.Artifacts)
	require.Eventually(t, func() bool {
		return r.call("tasks/get", `{"id":"`+got.ID+`"}`).Status.State == "completed"
	}, 2*time.Second, 5*time.Millisecond)
}

func TestFail(t *testing.T) {
	t.Parallel()
	r := serve(t, worker.New())
	got := r.call("message/send", order("m", `{"mode":"fail","steps":2,"delayMs":1}`, ""))
	require.Equal(t, "failed", got.Status.State)
	require.Equal(t, "step 2 of 2 failed, as it was told to", got.Status.Message.Parts[0].Text)
	require.Empty(t, got.Artifacts)
	require.Equal(t, 1, r.agent.Steps())
}

func TestRepeatJoins(t *testing.T) {
	t.Parallel()
	r := serve(t, worker.New())
	params := order("m", `{"steps":3,"delayMs":20}`, "")
	ids := make([]string, 8)
	var all sync.WaitGroup
	for i := range ids {
		all.Go(func() {
			_, a := r.post(request("message/send", params))
			if a.Result != nil && a.Result.Status.State == "completed" {
				ids[i] = a.Result.ID
			}
		})
	}
	all.Wait()
	late := r.call("message/send", params)
	require.Equal(t, "completed", late.Status.State)
	for _, id := range ids {
		require.Equal(t, late.ID, id)
	}
	require.Equal(t, 1, r.agent.Started())
	require.Equal(t, 3, r.agent.Steps())

	other := r.call("message/send", order("m2", `{"steps":1,"delayMs":0}`, ""))
	require.NotEqual(t, late.ID, other.ID)
	require.Equal(t, 2, r.agent.Started())
}

func TestCallerGoesAwayAndComesBack(t *testing.T) {
	t.Parallel()
	r := serve(t, worker.New())
	params := order("m", `{"mode":"stall"}`, "")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, strings.NewReader(request("message/send", params)))
	require.NoError(t, err)
	_, err = http.DefaultClient.Do(req)
	require.ErrorIs(t, err, context.DeadlineExceeded, "a stalled task gives no answer")

	next := r.events("message/stream", params)
	task := next()
	require.Equal(t, "working", task.Status.State)
	require.Equal(t, 1, r.agent.Started())
	r.call("tasks/cancel", `{"id":"`+task.ID+`"}`)
	last := next()
	require.Equal(t, "canceled", last.Status.State)
	require.True(t, last.Final)
	require.Nil(t, next())
}

func TestStallIsBounded(t *testing.T) {
	t.Parallel()
	r := serve(t, worker.NewLimited(10, 20*time.Millisecond))
	got := r.call("message/send", order("m", `{"mode":"stall"}`, ""))
	require.Equal(t, "failed", got.Status.State)
	require.Equal(t, "stalled for too long", got.Status.Message.Parts[0].Text)
}

func TestStream(t *testing.T) {
	t.Parallel()
	r := serve(t, worker.New())
	// Without any delay all may have happened before the first look; still nothing is left out.
	for _, delay := range []string{"0", "5"} {
		next := r.events("message/stream", order("m"+delay, `{"steps":3,"delayMs":`+delay+`}`, ""))
		task := next()
		require.Equal(t, "task", task.Kind)
		require.Equal(t, "working", task.Status.State)
		said := map[string]bool{}
		for step := 1; step <= 3; step++ {
			e := next()
			require.Equal(t, "status-update", e.Kind)
			require.Equal(t, task.ID, e.TaskID)
			require.Equal(t, task.ContextID, e.ContextID)
			require.Equal(t, "working", e.Status.State)
			require.False(t, e.Final)
			require.Equal(t, fmt.Sprintf("step %d of 3: words 0, so far 0", step), e.Status.Message.Parts[0].Text)
			said[e.Status.Message.MessageID] = true
		}
		require.Len(t, said, 3, "every message has an id of its own")
		e := next()
		require.Equal(t, "artifact-update", e.Kind)
		require.Equal(t, task.ID, e.TaskID)
		require.Equal(t, "report", e.Artifact.ArtifactID)
		require.True(t, e.LastChunk)
		e = next()
		require.Equal(t, "status-update", e.Kind)
		require.Equal(t, "completed", e.Status.State)
		require.True(t, e.Final)
		require.Nil(t, next())
	}
}

func TestResubscribe(t *testing.T) {
	t.Parallel()
	r := serve(t, worker.New())
	task := r.call("message/send", unblocked(order("m", `{"steps":2,"delayMs":30}`, "")))
	next := r.events("tasks/resubscribe", `{"id":"`+task.ID+`"}`)
	require.Equal(t, "task", next().Kind)
	var last *result
	for e := next(); e != nil; e = next() {
		last = e
	}
	require.True(t, last.Final)
	require.Equal(t, "completed", last.Status.State)

	next = r.events("tasks/resubscribe", `{"id":"`+task.ID+`"}`)
	require.Len(t, next().Artifacts, 1)
	require.True(t, next().Final)
	require.Nil(t, next())
	require.Equal(t, -32001, r.refused("tasks/resubscribe", `{"id":"none"}`))
	require.Equal(t, -32602, r.refused("message/stream", order("x", `{"steps":0}`, "")), "an error is plain JSON, not a stream")
}

func TestCancel(t *testing.T) {
	t.Parallel()
	r := serve(t, worker.New())
	task := r.call("message/send", unblocked(order("m", `{"steps":50,"delayMs":20}`, "")))
	blocked := make(chan answer, 1)
	go func() {
		_, a := r.post(request("message/send", order("m", `{}`, "")))
		blocked <- a
	}()
	got := r.call("tasks/cancel", `{"id":"`+task.ID+`"}`)
	require.Equal(t, "canceled", got.Status.State)
	require.Equal(t, "canceled", (<-blocked).Result.Status.State, "who waits is told")
	done := r.agent.Steps()
	time.Sleep(50 * time.Millisecond)
	require.Equal(t, done, r.agent.Steps(), "a cancelled task is worked on no more")
	require.Equal(t, got, r.call("tasks/get", `{"id":"`+task.ID+`"}`))
	require.Equal(t, -32002, r.refused("tasks/cancel", `{"id":"`+task.ID+`"}`))
	require.Equal(t, -32001, r.refused("tasks/cancel", `{"id":"none"}`))
}

func TestAsk(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]string{"by task": `,"taskId":%[1]q`, "by context": `,"contextId":%[2]q`, "by both": `,"taskId":%[1]q,"contextId":%[2]q`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := serve(t, worker.New())
			next := r.events("message/stream", order("m1", `{"mode":"ask","steps":1,"delayMs":1}`, ""))
			task := next()
			e := next()
			require.Equal(t, "input-required", e.Status.State)
			require.True(t, e.Final)
			require.NotEmpty(t, e.Status.Message.Parts[0].Text)
			require.Nil(t, next())
			require.Equal(t, "input-required", r.call("message/send", order("m1", `{"mode":"ask","steps":1,"delayMs":1}`, "")).Status.State)

			reply := fmt.Sprintf(`{"message":{"messageId":"m2","parts":[{"kind":"text","text":"with care"}]`+more+`}}%.0[1]s%.0[2]s`, task.ID, task.ContextID)
			for range 2 {
				got := r.call("message/send", reply)
				require.Equal(t, task.ID, got.ID)
				require.Equal(t, "completed", got.Status.State)
				require.Equal(t, "answer: with care\nstep 1 of 1: words 0, so far 0", got.Artifacts[0].Parts[0].Text)
			}
			require.Equal(t, 1, r.agent.Started())
			require.Equal(t, 1, r.agent.Steps())
		})
	}
}

func TestFurtherMessages(t *testing.T) {
	t.Parallel()
	r := serve(t, worker.New())
	task := r.call("message/send", unblocked(order("m1", `{"mode":"stall"}`, `,"contextId":"c"`)))
	tell := func(id string) string {
		return unblocked(`{"message":{"messageId":"` + id + `","taskId":"` + task.ID + `","parts":[{"kind":"text","text":"hurry up"}]}}`)
	}
	got := r.call("message/send", tell("m2"))
	require.Equal(t, "working", got.Status.State)
	require.Equal(t, "noted: hurry up", got.Status.Message.Parts[0].Text)
	require.Equal(t, got, r.call("message/send", tell("m2")), "noted once")
	for i := range 99 {
		r.call("message/send", tell(fmt.Sprint("more", i)))
	}
	require.Equal(t, -32602, r.refused("message/send", tell("too much")))
	require.Equal(t, -32602, r.refused("message/send", order("m3", `{}`, `,"contextId":"other","taskId":"`+task.ID+`"`)))
	require.Equal(t, -32001, r.refused("message/send", order("m4", `{}`, `,"taskId":"none"`)))
	r.call("tasks/cancel", `{"id":"`+task.ID+`"}`)
	require.Equal(t, -32602, r.refused("message/send", tell("m5")))
	require.Equal(t, 1, r.agent.Started())
}

func TestKeepsTheNewest(t *testing.T) {
	t.Parallel()
	r := serve(t, worker.NewLimited(2, time.Hour))
	stalled := r.call("message/send", unblocked(order("stalled", `{"mode":"stall"}`, "")))
	first := r.call("message/send", order("m1", `{"steps":1,"delayMs":0}`, ""))
	second := r.call("message/send", order("m2", `{"mode":"ask"}`, ""))
	require.Equal(t, -32001, r.refused("tasks/get", `{"id":"`+first.ID+`"}`), "the oldest of those that rest is forgotten")
	require.Equal(t, "working", r.call("tasks/get", `{"id":"`+stalled.ID+`"}`).Status.State, "never one that is worked on")

	r.call("message/send", unblocked(order("m3", `{"mode":"stall"}`, "")))
	require.Equal(t, -32001, r.refused("tasks/get", `{"id":"`+second.ID+`"}`))
	resp, err := http.Post(r.url, "application/json", strings.NewReader(request("message/send", order("m4", `{}`, ""))))
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.Equal(t, "1", resp.Header.Get("Retry-After"))
	require.Equal(t, stalled.ID, r.call("message/send", unblocked(order("stalled", `{"mode":"stall"}`, ""))).ID, "a repeat is no new work")
}

func TestClose(t *testing.T) {
	t.Parallel()
	r := serve(t, worker.New())
	next := r.events("message/stream", order("m", `{"mode":"stall"}`, ""))
	require.Equal(t, "working", next().Status.State)
	r.agent.Close()
	last := next()
	require.Equal(t, "failed", last.Status.State)
	require.True(t, last.Final)
	status, a := r.post(request("message/send", order("m2", `{}`, "")))
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.NotEmpty(t, a.Error.Message)
}

func TestErrors(t *testing.T) {
	t.Parallel()
	r := serve(t, worker.New())
	data := func(data string) string { return request("message/send", order("m", data, "")) }
	parts := func(parts string) string {
		return request("message/send", `{"message":{"messageId":"m","parts":`+parts+`}}`)
	}
	for name, c := range map[string]struct {
		body string
		code int
	}{
		"no JSON":          {`{"jsonrpc":`, -32700},
		"trailing":         {data(`{}`) + `x`, -32700},
		"batch":            {`[` + data(`{}`) + `]`, -32600},
		"no id":            {`{"jsonrpc":"2.0","method":"message/send"}`, -32600},
		"object as id":     {`{"jsonrpc":"2.0","id":{},"method":"message/send"}`, -32600},
		"wrong version":    {`{"jsonrpc":"1.0","id":7,"method":"message/send"}`, -32600},
		"number as method": {`{"jsonrpc":"2.0","id":7,"method":8}`, -32600},
		"unknown method":   {request("tasks/dance", `{}`), -32601},
		"no params":        {`{"jsonrpc":"2.0","id":7,"method":"message/send"}`, -32602},
		"wrong type":       {request("message/send", `{"message":"hello"}`), -32602},
		"no message":       {request("message/send", `{}`), -32602},
		"no parts":         {parts(`[]`), -32602},
		"null part":        {parts(`[null]`), -32602},
		"null data":        {parts(`[{"kind":"data","data":null}]`), -32602},
		"no data":          {parts(`[{"kind":"data"}]`), -32602},
		"file":             {parts(`[{"kind":"file","file":{"uri":"http://a.example/x"}}]`), -32005},
		"long id":          {request("message/send", order(strings.Repeat("m", 257), `{}`, "")), -32602},
		"array as data":    {data(`[]`), -32602},
		"no steps":         {data(`{"steps":0}`), -32602},
		"too many steps":   {data(`{"steps":51}`), -32602},
		"steps as text":    {data(`{"steps":"5"}`), -32602},
		"negative delay":   {data(`{"delayMs":-1}`), -32602},
		"too long a delay": {data(`{"delayMs":10001}`), -32602},
		"unknown mode":     {data(`{"mode":"dance"}`), -32602},
		"negative history": {request("tasks/get", `{"id":"t","historyLength":-1}`), -32602},
		"no task id":       {request("tasks/get", `{}`), -32602},
		"unknown task":     {request("tasks/get", `{"id":"t"}`), -32001},
		"call me back":     {request("tasks/pushNotificationConfig/set", `{}`), -32003},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, a := rig{T: t, url: r.url}.post(c.body)
			require.Equal(t, http.StatusOK, status)
			require.NotNil(t, a.Error)
			require.Equal(t, c.code, a.Error.Code, a.Error.Message)
		})
	}
	t.Cleanup(func() { require.Zero(t, r.agent.Started()) })
}

func TestBodyLimit(t *testing.T) {
	t.Parallel()
	r := serve(t, worker.New())
	status, a := r.post(strings.Repeat(" ", 1<<20+1))
	require.Equal(t, http.StatusRequestEntityTooLarge, status)
	require.Equal(t, -32600, a.Error.Code)
}
