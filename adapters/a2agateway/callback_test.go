package a2agateway_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// notifications are what agents send, in the forms of both versions.
var notifications = []string{
	`{"kind":"task","id":"r","contextId":"c","status":{"state":"completed"},"artifacts":[{"artifactId":"forged","parts":[{"kind":"text","text":"forged"}]}]}`,
	`{"id":"r","status":{"state":"failed"}}`,
	`{"task":{"id":"r","contextId":"c","status":{"state":"TASK_STATE_COMPLETED"},"artifacts":[{"artifactId":"forged","parts":[{"text":"forged"}]}]}}`,
	`{"statusUpdate":{"taskId":"r","contextId":"c","status":{"state":"TASK_STATE_FAILED"}}}`,
	`{"artifactUpdate":{"taskId":"r","artifact":{"artifactId":"forged","parts":[{"text":"forged"}]}}}`,
	`{"message":{"messageId":"forged","role":"ROLE_AGENT","parts":[{"text":"forged"}]}}`,
	`{"kind":"status-update","taskId":"r","status":{"state":"completed"},"final":true}`,
}

func TestTheDoorForCallBacks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	told := make(chan ports.CallBack, 1)
	var asked atomic.Int32
	var done atomic.Bool
	a := r.register(r.owner, 0, func(_ context.Context, c ports.Call) (ports.Answer, error) {
		if c.CallBack != nil {
			told <- *c.CallBack
		}
		asked.Add(1)
		if !done.Load() {
			return ports.Answer{State: ports.AnswerWorking, RemoteTaskID: "r"}, nil
		}
		return ports.Answer{State: ports.AnswerDone, RemoteTaskID: "r", Messages: []task.Message{{ID: "m", Role: task.RoleAgent, Parts: []task.Part{task.TextPart("truth")}}}}, nil
	})
	v, err := r.engine.Tasks.Create(t.Context(), r.user, app.CreateTask{AgentID: a.ID, Title: "x"})
	require.NoError(t, err)
	to := <-told
	path, ok := strings.CutPrefix(to.URL, "http://engine.example")
	require.True(t, ok, to.URL)
	require.NotContains(t, to.URL, to.Token, "it would be in logs")
	running := func() app.TaskView {
		now, err := r.engine.Tasks.Get(t.Context(), r.user, v.ID)
		require.NoError(t, err)
		return now
	}
	require.Eventually(t, func() bool { return running().Status == task.Running }, 5*time.Second, time.Millisecond)
	before := running()

	t.Run("refused", func(t *testing.T) {
		for name, c := range map[string]struct {
			body    string
			headers []string
			status  int
			code    string
		}{
			"no token":          {notifications[0], nil, http.StatusUnauthorized, "UNAUTHORIZED"},
			"a wrong token":     {notifications[0], []string{"X-A2A-Notification-Token", to.Token[1:]}, http.StatusUnauthorized, "UNAUTHORIZED"},
			"an API key":        {notifications[0], []string{"Authorization", "Bearer " + r.key}, http.StatusUnauthorized, "UNAUTHORIZED"},
			"another scheme":    {notifications[0], []string{"Authorization", "Basic " + to.Token}, http.StatusUnauthorized, "UNAUTHORIZED"},
			"no JSON":           {notifications[0], []string{"X-A2A-Notification-Token", to.Token, "Content-Type", "text/plain"}, http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE"},
			"too long":          {`{"task":{"x":"` + strings.Repeat("x", 1<<20) + `"}}`, []string{"X-A2A-Notification-Token", to.Token}, http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE"},
			"no notification":   {`{"task":"x","kind":"other","status":{}}`, []string{"X-A2A-Notification-Token", to.Token}, http.StatusBadRequest, "VALIDATION_ERROR"},
			"keys twice":        {`{"task":{},"TASK":{}}`, []string{"X-A2A-Notification-Token", to.Token}, http.StatusBadRequest, "VALIDATION_ERROR"},
			"deep":              {`{"task":{"x":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `}}`, []string{"X-A2A-Notification-Token", to.Token}, http.StatusBadRequest, "VALIDATION_ERROR"},
			"cut off":           {`{"task":{"id":`, []string{"X-A2A-Notification-Token", to.Token}, http.StatusBadRequest, "VALIDATION_ERROR"},
			"a list":            {`[{"task":{}}]`, []string{"X-A2A-Notification-Token", to.Token}, http.StatusBadRequest, "VALIDATION_ERROR"},
			"empty":             {``, []string{"X-A2A-Notification-Token", to.Token}, http.StatusBadRequest, "VALIDATION_ERROR"},
			"of another's task": {notifications[0], []string{"X-A2A-Notification-Token", to.Token, "path", strings.TrimSuffix(path, v.ID) + a.ID}, http.StatusUnauthorized, "UNAUTHORIZED"},
		} {
			at, headers := path, c.headers
			if n := len(headers); n > 0 && headers[n-2] == "path" {
				at, headers = headers[n-1], headers[:n-2]
			}
			got := r.post(at, c.body, headers...)
			require.Equal(t, c.status, got.status, name)
			require.Contains(t, got.body, `"code":"`+c.code+`"`, name)
			require.NotContains(t, got.body, to.Token, name)
		}
	})
	n := asked.Load()
	time.Sleep(100 * time.Millisecond)
	require.LessOrEqual(t, asked.Load()-n, int32(1), "but for the usual asking")

	// Whatever the notification says: the agent is asked, and says something else.
	for i, body := range notifications {
		n := asked.Load()
		header := []string{"X-A2A-Notification-Token", to.Token}
		switch i % 3 {
		case 1:
			header = []string{"A2A-Notification-Token", to.Token, "Content-Type", "application/a2a+json"}
		case 2:
			header = []string{"Authorization", "bearer " + to.Token, "Content-Type", "application/json; charset=utf-8"}
		}
		got := r.post(path, body, header...)
		require.Equal(t, http.StatusNoContent, got.status, body)
		require.Empty(t, got.body)
		require.Eventually(t, func() bool { return asked.Load() > n }, 5*time.Second, time.Millisecond, body)
		now := running()
		require.Equal(t, before.LastSeq, now.LastSeq, body)
	}
	done.Store(true)
	require.Equal(t, http.StatusNoContent, r.post(path, notifications[0], "X-A2A-Notification-Token", to.Token).status)
	require.Eventually(t, func() bool { return running().Status == task.Completed }, 5*time.Second, time.Millisecond)
	end := running()
	require.JSONEq(t, `{"text":"truth"}`, string(end.Output))
	n = asked.Load()
	require.Equal(t, http.StatusNoContent, r.post(path, notifications[3], "X-A2A-Notification-Token", to.Token).status, "late")
	require.Equal(t, end, running())
	require.Equal(t, n, asked.Load())
	require.Equal(t, http.StatusNotFound, r.post(path+"/", notifications[0]).status)
}
