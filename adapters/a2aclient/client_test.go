package a2aclient_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/a2aclient"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/examples/echo"
	"github.com/nexus-protocol/nexus/examples/worker"
	"github.com/nexus-protocol/nexus/ports"
)

func call(endpoint string) ports.Call {
	return ports.Call{Endpoint: endpoint, TaskID: "t1", SkillID: "s", Message: task.Message{
		ID: "m1", Role: task.RoleUser, Parts: []task.Part{task.TextPart("hi"), {Type: task.PartData, Data: json.RawMessage(`{"n":12345678901234567890}`)}},
	}}
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func newClient() *a2aclient.Client { return a2aclient.New(&http.Transport{}, nil) }

func says(result string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":"t1","result":%s}`, result)
	}
}

func TestTheExampleAgents(t *testing.T) {
	server := httptest.NewServer(echo.Handler("http://x"))
	t.Cleanup(server.Close)
	c := newClient()
	a, err := c.Send(t.Context(), call(server.URL))
	require.NoError(t, err)
	require.Equal(t, ports.AnswerDone, a.State)
	require.Equal(t, call("").Message.Parts, a.Artifacts[0].Parts, "parts come back without loss")
	card, err := c.Card(t.Context(), server.URL)
	require.NoError(t, err)
	require.Contains(t, string(card), "Echo")

	agent := worker.New()
	server = httptest.NewServer(agent.Handler("http://x"))
	t.Cleanup(server.Close)
	in := call(server.URL)
	in.Message.Parts = []task.Part{{Type: task.PartData, Data: json.RawMessage(`{"steps":1,"delayMs":1,"mode":"fail"}`)}}
	a, err = c.Send(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, ports.AnswerFailed, a.State)
	require.Contains(t, a.Reason, "as it was told to")
	in.RemoteTaskID = a.RemoteTaskID
	a, err = c.Follow(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, ports.AnswerFailed, a.State)
	var failed *ports.CallError
	require.ErrorAs(t, c.Cancel(t.Context(), in), &failed, "it has ended already")

	in.Message.ID, in.TaskID, in.RemoteTaskID = "m2", "t2", ""
	in.Message.Parts = []task.Part{{Type: task.PartData, Data: json.RawMessage(`{"mode":"stall"}`)}}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = c.Send(ctx, in)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	agent.Close()
}

func TestAnswersInEveryDialect(t *testing.T) {
	text := []task.Part{task.TextPart("yes")}
	for name, result := range map[string]string{
		"0.3 message":           `{"kind":"message","messageId":"a","role":"agent","parts":[{"kind":"text","text":"yes"}]}`,
		"0.3 task":              `{"kind":"task","id":"r","contextId":"c","status":{"state":"completed","message":{"kind":"message","messageId":"a","role":"agent","parts":[{"kind":"text","text":"yes"}]}},"history":[{"messageId":"q","role":"user","parts":[]},{"messageId":"a","role":"agent","parts":[{"kind":"text","text":"yes"}]}]}`,
		"type and data":         `{"messageId":"a","role":"agent","parts":[{"type":"text","data":"yes"}]}`,
		"task of type and data": `{"id":"r","status":{"state":"completed","message":{"messageId":"a","role":"agent","parts":[{"type":"text","data":"yes"}]}}}`,
		"1.0 message":           `{"message":{"messageId":"a","role":"ROLE_AGENT","parts":[{"text":"yes"}]}}`,
		"1.0 task":              `{"task":{"id":"r","contextId":"c","status":{"state":"TASK_STATE_COMPLETED","message":{"messageId":"a","role":"ROLE_AGENT","parts":[{"text":"yes"}]}}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			a, err := newClient().Send(t.Context(), call(serve(t, says(result))))
			require.NoError(t, err)
			require.Equal(t, ports.AnswerDone, a.State)
			require.Equal(t, []task.Message{{ID: "a", Role: task.RoleAgent, Parts: text}}, a.Messages)
		})
	}
	a, err := newClient().Send(t.Context(), call(serve(t, says(`{"task":{"id":"r","status":{"state":"TASK_STATE_WORKING"}}}`))))
	require.NoError(t, err)
	require.Equal(t, ports.Answer{State: ports.AnswerWorking, RemoteTaskID: "r"}, a)
	a, err = newClient().Send(t.Context(), call(serve(t, says(`{"id":"r","status":{"state":"completed"},"artifacts":[{"parts":[{"kind":"file","file":{"name":"n","uri":"u"}},{"raw":"aGk=","mediaType":"text/plain"}]}]}`))))
	require.NoError(t, err)
	require.Equal(t, "r-artifact-0", a.Artifacts[0].ID)
	require.JSONEq(t, `{"name":"n","uri":"u"}`, string(a.Artifacts[0].Parts[0].Data))
	require.JSONEq(t, `{"bytes":"aGk=","mimeType":"text/plain"}`, string(a.Artifacts[0].Parts[1].Data))
}

func TestFailuresAreNamed(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	status := func(code int, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if len(header) == 2 {
				w.Header().Set(header[0], header[1])
			}
			w.WriteHeader(code)
		}
	}
	for name, c := range map[string]struct {
		endpoint  string
		handler   http.HandlerFunc
		code, say string
		retry     bool
		wait      time.Duration
		offline   bool
	}{
		"nobody there":       {endpoint: closed.URL, code: task.ErrUnreachable, say: "refused", retry: true, offline: true},
		"no such host":       {endpoint: "http://no-such-host.invalid", code: task.ErrUnreachable, say: "no connection", retry: true, offline: true},
		"closes at once":     {handler: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, code: task.ErrUnreachable, say: "EOF", retry: true, offline: true},
		"500":                {handler: status(500), code: task.ErrAgent, say: "HTTP 500"},
		"404":                {handler: status(404), code: task.ErrAgent, say: "HTTP 404"},
		"503":                {handler: status(503), code: task.ErrAgent, say: "HTTP 503", retry: true},
		"429 with seconds":   {handler: status(429, "Retry-After", "7"), code: task.ErrAgent, say: "HTTP 429", retry: true, wait: 7 * time.Second},
		"429 with centuries": {handler: status(429, "Retry-After", "99999999999"), code: task.ErrAgent, say: "HTTP 429", retry: true, wait: 5 * time.Minute},
		"HTML": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write([]byte("<html>"))
		}, code: task.ErrProtocol, say: "text/html"},
		"an endless body": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for {
				if _, err := w.Write([]byte(strings.Repeat("x", 64<<10))); err != nil {
					return
				}
			}
		}, code: task.ErrProtocol, say: "over 1 MiB"},
		"a redirect to itself": {handler: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
		}, code: task.ErrProtocol, say: "redirected the call too often"},
		"a redirect that loses the message": {handler: func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				http.Redirect(w, r, "/there", http.StatusFound)
			}
		}, code: task.ErrProtocol, say: "307 or 308"},
		"a JSON-RPC error": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"busy"}}`))
		}, code: task.ErrAgent, say: "-32000: busy"},
		"another's answer": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"jsonrpc":"2.0","id":"t2","result":{"parts":[]}}`))
		}, code: task.ErrProtocol, say: "another request"},
		"no result":        {handler: says(`null`), code: task.ErrProtocol, say: "no result"},
		"no sense":         {handler: says(`{"x":1}`), code: task.ErrProtocol, say: "neither a task nor a message"},
		"a list":           {handler: says(`[1]`), code: task.ErrProtocol, say: "neither a task nor a message"},
		"an unknown state": {handler: says(`{"id":"r","status":{"state":"dreaming"}}`), code: task.ErrProtocol, say: "dreaming"},
		"an unknown part":  {handler: says(`{"parts":[{"kind":"smell"}]}`), code: task.ErrProtocol, say: "smell"},
		"too deep":         {handler: says(`{"parts":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}`), code: task.ErrProtocol, say: "deeper"},
		"a NUL":            {handler: says(`{"parts":[{"kind":"text","text":"\u0000"}]}`), code: task.ErrProtocol, say: "UTF-8"},
		"bad UTF-8":        {handler: says("{\"parts\":[{\"kind\":\"text\",\"text\":\"\xff\"}]}"), code: task.ErrProtocol, say: "UTF-8"},
		"too many parts":   {handler: says(`{"parts":[` + strings.Repeat(`{"text":""},`, 1000) + `{"text":""}]}`), code: task.ErrProtocol, say: "more than 1000"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.handler != nil {
				c.endpoint = serve(t, c.handler)
			}
			_, err := newClient().Send(t.Context(), call(c.endpoint))
			var failed *ports.CallError
			require.ErrorAs(t, err, &failed)
			require.Equal(t, c.code, failed.Code)
			require.Contains(t, failed.Message, c.say)
			require.Equal(t, c.retry, failed.Retryable)
			require.Equal(t, c.offline, failed.Unreachable)
			require.Equal(t, c.wait, failed.RetryAfter)
		})
	}
}

func TestAnEndedContextIsItsOwnError(t *testing.T) {
	endpoint := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then does the server see that the caller goes away
		<-r.Context().Done()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := newClient().Send(ctx, call(endpoint))
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestCardIsLookedForBelowTheEndpointFirst(t *testing.T) {
	var asked []string
	endpoint := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path)
		if r.URL.Path == "/.well-known/agent.json" {
			_, _ = w.Write([]byte(`{"name":"x"}`))
			return
		}
		_, _ = w.Write([]byte(`<html>`))
	})
	card, err := newClient().Card(t.Context(), endpoint+"/agents/one")
	require.NoError(t, err)
	require.JSONEq(t, `{"name":"x"}`, string(card))
	require.Equal(t, []string{
		"/agents/one/.well-known/agent-card.json", "/agents/one/.well-known/agent.json", "/.well-known/agent-card.json", "/.well-known/agent.json",
	}, asked)
}
