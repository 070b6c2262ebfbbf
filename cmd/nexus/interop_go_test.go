package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/a2aproject/a2a-go/v2/a2a"
	"github.com/a2aproject/a2a-go/v2/a2aclient"
	"github.com/a2aproject/a2a-go/v2/a2aclient/agentcard"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/examples/scripted"
)

// keyed is an HTTP client that shows a key.
type keyed string

func (k keyed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(k))
	return http.DefaultTransport.RoundTrip(r)
}

// The official Go client does through the gateway what it does with any agent, also across a kill -9 of the server.
func TestGoSDK(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start()
	playing := httptest.NewServer(scripted.Handler(scripted.Options{BaseURL: "http://agent.example", Gateway: s.url() + "/api/v1/a2a", Slow: 2 * time.Second}))
	t.Cleanup(playing.Close)
	owner := s.signUp("a@example.com")
	id := s.register(owner, playing.URL, 0)
	ctx := t.Context()
	card, err := agentcard.NewResolver(http.DefaultClient).Resolve(ctx, s.url()+"/api/v1/a2a/agents/"+id)
	require.NoError(t, err)
	client, err := a2aclient.NewFromCard(ctx, card)
	require.NoError(t, err)
	n := 0
	says := func(script string, of a2a.TaskID) *a2a.SendMessageRequest {
		n++
		m := a2a.NewMessage(a2a.MessageRoleUser, a2a.NewTextPart("hello"))
		m.ID, m.TaskID = script+"-go-"+string(rune('a'+n)), of
		return &a2a.SendMessageRequest{Message: m}
	}
	send := func(script string, of a2a.TaskID) *a2a.Task {
		t.Helper()
		out, err := client.SendMessage(ctx, says(script, of))
		require.NoError(t, err)
		require.IsType(t, &a2a.Task{}, out)
		return out.(*a2a.Task)
	}
	// last follows a stream to its end.
	last := func(stream func(func(a2a.Event, error) bool)) (state a2a.TaskState, artifacts int) {
		t.Helper()
		for e, err := range stream {
			require.NoError(t, err)
			switch e := e.(type) {
			case *a2a.Task:
				state = e.Status.State
			case *a2a.TaskStatusUpdateEvent:
				state = e.Status.State
			case *a2a.TaskArtifactUpdateEvent:
				artifacts++
			}
		}
		return state, artifacts
	}

	done := send("tck-artifact-file", "")
	require.Equal(t, a2a.TaskStateCompleted, done.Status.State)
	got, err := client.GetTask(ctx, &a2a.GetTaskRequest{ID: done.ID})
	require.NoError(t, err)
	require.Len(t, got.Artifacts, 1)
	direct, err := client.SendMessage(ctx, says("tck-message-response", ""))
	require.NoError(t, err)
	require.IsType(t, &a2a.Message{}, direct)

	state, artifacts := last(client.SendStreamingMessage(ctx, says("tck-stream-001", "")))
	require.Equal(t, a2a.TaskStateCompleted, state)
	require.Equal(t, 1, artifacts)

	asks := send("tck-input-required", "")
	require.Equal(t, a2a.TaskStateInputRequired, asks.Status.State)
	require.Equal(t, a2a.TaskStateCompleted, send("tck-complete-task", asks.ID).Status.State)

	open := send("tck-input-required", "")
	cancelled, err := client.CancelTask(ctx, &a2a.CancelTaskRequest{ID: open.ID})
	require.NoError(t, err)
	require.Equal(t, a2a.TaskStateCanceled, cancelled.Status.State)
	_, err = client.CancelTask(ctx, &a2a.CancelTaskRequest{ID: open.ID})
	require.ErrorIs(t, err, a2a.ErrTaskNotCancelable)
	_, err = client.GetTask(ctx, &a2a.GetTaskRequest{ID: "nobody"})
	require.ErrorIs(t, err, a2a.ErrTaskNotFound)
	_, err = client.SendMessage(ctx, says("x", open.ID))
	require.ErrorIs(t, err, a2a.ErrUnsupportedOperation)
	for _, err := range client.SubscribeToTask(ctx, &a2a.SubscribeToTaskRequest{ID: "nobody"}) {
		require.Error(t, err)
	}

	key, err := s.run("", "key", "create", "--agent", id, "--scopes", "*")
	require.NoError(t, err)
	known, err := a2aclient.NewFromCard(ctx, card, a2aclient.WithJSONRPCTransport(&http.Client{Transport: keyed(key[:len(key)-1])}))
	require.NoError(t, err)
	extended, err := known.GetExtendedAgentCard(ctx, &a2a.GetExtendedAgentCardRequest{})
	require.NoError(t, err)
	require.NotEmpty(t, extended.Capabilities.Extensions)
	list, err := known.ListTasks(ctx, &a2a.ListTasksRequest{})
	require.NoError(t, err)
	require.Empty(t, list.Tasks, "strangers' tasks are nobody's")

	// A task outlives the server: it is being worked on when that is killed. So does the wish to be told of it.
	type told struct {
		header http.Header
		event  a2a.StreamResponse
	}
	heard := make(chan told, 100)
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := told{header: r.Header}
		if json.NewDecoder(r.Body).Decode(&n.event) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		heard <- n
	}))
	t.Cleanup(hook.Close)
	require.True(t, card.Capabilities.PushNotifications)
	req := says("test-resubscribe-message-id", "")
	auth := &a2a.PushAuthInfo{Scheme: "Bearer", Credentials: "let-me-in"}
	req.Config = &a2a.SendMessageConfig{ReturnImmediately: true, PushConfig: &a2a.PushConfig{URL: hook.URL, Token: "tok", Auth: auth}}
	out, err := client.SendMessage(ctx, req)
	require.NoError(t, err)
	about := out.(*a2a.Task).ID
	place := &a2a.PushConfig{TaskID: about, ID: "mine", URL: hook.URL + "/mine"}
	set, err := client.CreateTaskPushConfig(ctx, place)
	require.NoError(t, err)
	require.Equal(t, place, set)
	set, err = client.GetTaskPushConfig(ctx, &a2a.GetTaskPushConfigRequest{TaskID: about, ID: "mine"})
	require.NoError(t, err)
	require.Equal(t, place, set)
	places, err := client.ListTaskPushConfigs(ctx, &a2a.ListTaskPushConfigRequest{TaskID: about})
	require.NoError(t, err)
	require.Len(t, places, 2)
	for range 2 {
		require.NoError(t, client.DeleteTaskPushConfig(ctx, &a2a.DeleteTaskPushConfigRequest{TaskID: about, ID: "mine"}))
	}
	_, err = client.GetTaskPushConfig(ctx, &a2a.GetTaskPushConfigRequest{TaskID: about, ID: "mine"})
	require.ErrorIs(t, err, a2a.ErrTaskNotFound)
	_, err = client.CreateTaskPushConfig(ctx, &a2a.PushConfig{TaskID: "nobody", URL: hook.URL})
	require.ErrorIs(t, err, a2a.ErrTaskNotFound)
	s.kill()
	s.start()
	state, _ = last(client.SubscribeToTask(ctx, &a2a.SubscribeToTaskRequest{ID: out.(*a2a.Task).ID}))
	require.Equal(t, a2a.TaskStateCompleted, state)
	for ended := false; !ended; {
		select {
		case n := <-heard:
			require.Equal(t, "Bearer let-me-in", n.header.Get("Authorization"))
			require.Equal(t, "tok", n.header.Get("A2A-Notification-Token"), "as a2a-go calls it")
			e, ok := n.event.Event.(*a2a.TaskStatusUpdateEvent)
			ended = ok && e.Status.State == a2a.TaskStateCompleted && e.TaskID == about
		case <-time.After(20 * time.Second):
			require.Fail(t, "not told of the end")
		}
	}
}
