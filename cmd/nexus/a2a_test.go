package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// An A2A client's task outlives the server: sent before a kill -9, followed to its end after it, on each database.
func TestAnA2ATaskOutlivesTheServer(t *testing.T) {
	everyDatabase(t, func(t *testing.T, s *server) {
		release := make(chan struct{})
		endpoint, calls := agent(t, func() time.Duration {
			select { // also those who are called again before the release
			case <-release:
			case <-t.Context().Done():
			}
			return 0
		})
		s.start()
		agentID := s.register(s.signUp("a@example.com"), endpoint, 0)
		rpc := func(method, params string) *bufio.Scanner {
			t.Helper()
			body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":%s}`, method, params)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url()+"/api/v1/a2a/agents/"+agentID, strings.NewReader(body))
			require.NoError(t, err)
			req.Header.Set("Content-Type", "application/json")
			resp, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			t.Cleanup(func() { _ = resp.Body.Close() })
			require.Equal(t, http.StatusOK, resp.StatusCode)
			return bufio.NewScanner(resp.Body)
		}
		type result struct {
			Result struct {
				ID     string
				Kind   string
				Final  bool
				Status struct{ State string }
			}
		}
		sent := rpc("message/send", `{"message":{"messageId":"1","role":"user","parts":[{"kind":"text","text":"x"}]},"configuration":{"blocking":false}}`)
		require.True(t, sent.Scan())
		var v result
		require.NoError(t, json.Unmarshal(sent.Bytes(), &v))
		require.Eventually(t, func() bool { _, ok := calls.Load(v.Result.ID); return ok }, 5*time.Second, time.Millisecond, "its agent is at work")
		s.kill()
		s.start()
		stream := rpc("tasks/resubscribe", fmt.Sprintf(`{"id":%q}`, v.Result.ID))
		close(release)
		var last result
		for stream.Scan() {
			if data, ok := strings.CutPrefix(stream.Text(), "data: "); ok {
				last = result{}
				require.NoError(t, json.Unmarshal([]byte(data), &last))
			}
		}
		require.Equal(t, "status-update", last.Result.Kind)
		require.True(t, last.Result.Final)
		require.Contains(t, []string{"completed", "failed"}, last.Result.Status.State) // as its agent says by the id
	})
}
