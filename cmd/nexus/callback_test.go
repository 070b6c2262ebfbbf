package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/a2aproject/a2a-go/v2/a2a"
	"github.com/a2aproject/a2a-go/v2/a2acompat/a2av0"
	"github.com/a2aproject/a2a-go/v2/a2asrv"
	"github.com/a2aproject/a2a-go/v2/a2asrv/push"
	"github.com/stretchr/testify/require"
)

// slowAgent works until it is released.
type slowAgent chan struct{}

func (s slowAgent) Execute(ctx context.Context, in *a2asrv.ExecutorContext) iter.Seq2[a2a.Event, error] {
	return func(yield func(a2a.Event, error) bool) {
		if !yield(a2a.NewSubmittedTask(in, in.Message), nil) {
			return
		}
		select {
		case <-s:
		case <-ctx.Done():
			return
		}
		if yield(a2a.NewArtifactEvent(in, a2a.NewTextPart("done")), nil) {
			yield(a2a.NewStatusUpdateEvent(in, a2a.TaskStateCompleted, nil), nil)
		}
	}
}

func (s slowAgent) Cancel(context.Context, *a2asrv.ExecutorContext) iter.Seq2[a2a.Event, error] {
	return func(func(a2a.Event, error) bool) {}
}

// impatient answers at once, as agents may that have much to do, whatever they are asked; it counts what it is asked.
func impatient(h http.Handler, gets *atomic.Int32) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/tasks/") || bytes.Contains(body, []byte(`"tasks/get"`)) || bytes.Contains(body, []byte(`"GetTask"`)) {
			gets.Add(1)
		}
		now := []byte(`"acceptedOutputModes"`)
		if bytes.Contains(body, []byte(`"blocking":true`)) {
			body = bytes.Replace(body, []byte(`"blocking":true`), []byte(`"blocking":false`), 1)
		} else {
			body = bytes.Replace(body, now, append([]byte(`"returnImmediately":true,`), now...), 1)
		}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		h.ServeHTTP(w, r)
	})
}

// Agents built with a2a-go that answer that they work call back when they are done, in all four bindings, also when the
// server was killed meanwhile.
func TestAgentsCallBack(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.more = []string{"NEXUS_PUBLIC_URL=" + s.url()}
	s.start()
	owner := s.signUp("a@example.com")
	slow := make(slowAgent)
	var gets atomic.Int32
	var mu sync.Mutex
	tokens := map[string]string{} // by URL
	ids := map[string]string{}
	for name, b := range map[string]struct {
		serve func(a2asrv.RequestHandler) http.Handler
		card  string
	}{
		"1.0 JSON-RPC":  {func(h a2asrv.RequestHandler) http.Handler { return a2asrv.NewJSONRPCHandler(h) }, `"supportedInterfaces":[{"url":"%s","protocolBinding":"JSONRPC","protocolVersion":"1.0"}]`},
		"0.3 JSON-RPC":  {func(h a2asrv.RequestHandler) http.Handler { return a2av0.NewJSONRPCHandler(h) }, `"protocolVersion":"0.3.0","url":"%s"`},
		"1.0 HTTP+JSON": {func(h a2asrv.RequestHandler) http.Handler { return a2asrv.NewRESTHandler(h) }, `"supportedInterfaces":[{"url":"%s","protocolBinding":"HTTP+JSON","protocolVersion":"1.0"}]`},
		"0.3 HTTP+JSON": {func(h a2asrv.RequestHandler) http.Handler { return a2av0.NewRESTHandler(h) }, `"protocolVersion":"0.3.0","preferredTransport":"HTTP+JSON","url":"%s"`},
	} {
		sender := push.NewHTTPPushSender(&push.HTTPSenderConfig{AllowPrivateNetworks: true})
		handler := b.serve(a2asrv.NewHandler(slow, a2asrv.WithLogger(slog.New(slog.DiscardHandler)), a2asrv.WithPushNotifications(push.NewInMemoryStore(), noting(func(c *a2a.PushConfig) {
			mu.Lock()
			defer mu.Unlock()
			tokens[c.URL] = c.Token
		}, sender))))
		mux := http.NewServeMux()
		mux.Handle("/", impatient(handler, &gets))
		host := httptest.NewServer(mux)
		t.Cleanup(func() { host.CloseClientConnections(); host.Close() })
		mux.HandleFunc("GET /.well-known/agent-card.json", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprintf(w, `{"name":"a","capabilities":{"pushNotifications":true},`+b.card+`}`, host.URL)
		})
		agentID := s.register(owner, host.URL, 0)
		var out taskJSON
		_, err := owner.call("POST", "/api/v1/tasks", map[string]any{"assignedAgentId": agentID, "title": "x", "timeoutSeconds": 50}, &out)
		require.NoError(t, err)
		ids[name] = out.ID
	}
	now := func(id string) (out taskJSON) {
		_, err := owner.call("GET", "/api/v1/tasks/"+id, nil, &out)
		require.NoError(t, err)
		return out
	}
	called := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(tokens)
	}
	require.Eventually(t, func() bool { return called() == len(ids) }, 10*time.Second, time.Millisecond, "each says that it was given the task")
	require.Eventually(t, func() bool { return gets.Load() >= int32(len(ids)) }, 10*time.Second, time.Millisecond, "and is asked")
	var before int32
	require.Eventually(t, func() bool { // longer than between the first two questions
		before = gets.Load()
		time.Sleep(700 * time.Millisecond)
		return gets.Load() == before
	}, 10*time.Second, time.Millisecond, "no more than that")
	s.kill()
	s.start()
	time.Sleep(700 * time.Millisecond)
	require.Equal(t, before, gets.Load(), "they call, so they are not asked")

	// A forged word changes nothing.
	for at := range tokens {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at, strings.NewReader(`{"task":{"id":"r","status":{"state":"TASK_STATE_COMPLETED"}}}`))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-A2A-Notification-Token", strings.Repeat("A", 43))
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusUnauthorized, res.StatusCode)
	}
	close(slow)
	for name, id := range ids {
		require.Eventually(t, func() bool { return now(id).Status == "completed" }, 10*time.Second, time.Millisecond, name)
		var out struct{ Output json.RawMessage }
		_, err := owner.call("GET", "/api/v1/tasks/"+id, nil, &out)
		require.NoError(t, err)
		require.JSONEq(t, `{"text":"done"}`, string(out.Output), name)
	}
	for _, token := range tokens {
		require.NotContains(t, s.log.String(), token, "it is a secret")
	}
}

// noting shows where each notification goes before it is sent.
type notingSender struct {
	note func(*a2a.PushConfig)
	push.Sender
}

func noting(note func(*a2a.PushConfig), s push.Sender) push.Sender { return notingSender{note, s} }

func (n notingSender) SendPush(ctx context.Context, c *a2a.PushConfig, e a2a.Event) error {
	n.note(c)
	return n.Sender.SendPush(ctx, c, e)
}
