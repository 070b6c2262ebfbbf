package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/a2agateway"
	"github.com/nexus-protocol/nexus/examples/echo"
)

// What a worker was telling a receiver when it was killed, another one tells it; with secrets that no log has.
func TestPushNotificationsOutliveAWorker(t *testing.T) {
	t.Parallel()
	all := cluster(t, "api", "worker", "worker")
	key, err := a2agateway.NewCardKey()
	require.NoError(t, err)
	for _, s := range all {
		s.more = append(s.more, "NEXUS_CARD_KEY="+string(key))
	}
	startAll(all[:2])

	type update struct {
		StatusUpdate, ArtifactUpdate *struct {
			Metadata struct{ Sequence int }
			Status   struct{ State string }
		}
	}
	const canary = "canary-of-a-credential"
	var mu sync.Mutex
	var told []int
	tries, unshown, last := 0, 0, ""
	killed := make(chan struct{})
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var u update
		if json.NewDecoder(r.Body).Decode(&u) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		mu.Lock()
		tries++
		mu.Unlock()
		select {
		case <-killed:
		case <-r.Context().Done(): // it hangs until its worker is killed
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if r.Header.Get("Authorization") != "Bearer "+canary || r.Header.Get("X-A2A-Notification-Token") != canary {
			unshown++
		}
		if u.StatusUpdate != nil {
			told, last = append(told, u.StatusUpdate.Metadata.Sequence), u.StatusUpdate.Status.State
		} else if u.ArtifactUpdate != nil {
			told = append(told, u.ArtifactUpdate.Metadata.Sequence)
		}
	}))
	t.Cleanup(hook.Close)
	echoes := httptest.NewServer(echo.Handler("http://agent.example"))
	t.Cleanup(echoes.Close)
	c := all[0].signUp("a@example.com")
	id := all[0].register(c, echoes.URL, 0)
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":{"messageId":"m","role":"ROLE_USER","parts":[{"text":"hello"}]},
		"configuration":{"taskPushNotificationConfig":{"url":%q,"token":%q,"authentication":{"scheme":"Bearer","credentials":%q}}}}}`, hook.URL, canary, canary)
	res, err := http.Post(all[0].url()+"/api/v1/a2a/agents/"+id, "application/json", strings.NewReader(body))
	require.NoError(t, err)
	text, err := io.ReadAll(res.Body)
	require.NoError(t, errors.Join(err, res.Body.Close()))
	answer := string(text)
	require.Contains(t, answer, "TASK_STATE_COMPLETED", "a receiver that hangs holds up no task")
	require.NotContains(t, answer, canary)
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return tries > 0
	}, 10*time.Second, time.Millisecond)
	all[1].kill()
	close(killed)
	all[2].start()
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return last == "TASK_STATE_COMPLETED"
	}, 25*time.Second, 5*time.Millisecond, "the lease of a dead worker is over after ten seconds")
	mu.Lock()
	defer mu.Unlock()
	require.IsIncreasing(t, told)
	require.Zero(t, unshown)
	for _, s := range all {
		require.NotContains(t, s.log.String(), canary)
	}
	quietLogs(t, all)
}
