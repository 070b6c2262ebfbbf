package main

import (
	"bufio"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// watch opens a task's stream. The lines of its events come through the channel, which is closed with the stream.
func (c *client) watch(t *testing.T, id, after string) <-chan string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.base+"/api/v1/tasks/"+id+"/stream", nil)
	require.NoError(t, err)
	req.AddCookie(c.cookie)
	if after != "" {
		req.Header.Set("Last-Event-ID", after)
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(t, err)
	t.Cleanup(func() { _ = res.Body.Close() })
	require.Equal(t, http.StatusOK, res.StatusCode)
	out := make(chan string, 1_000)
	go func() {
		defer close(out)
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "id: ") || strings.HasPrefix(lines.Text(), "event: ") {
				out <- lines.Text()
			}
		}
	}()
	return out
}

// upTo reads lines until one of them, or the end.
func upTo(t *testing.T, lines <-chan string, want string) (last, id string) {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				return last, id
			}
			last = line
			if n, ok := strings.CutPrefix(line, "id: "); ok {
				id = n
			}
			if line == want {
				return last, id
			}
		case <-late:
			require.Fail(t, "the stream neither goes on nor ends")
		}
	}
}

// A stream of one process sees at once what others do. When its process stops it ends at once, though the task goes on, and
// it is resumed at another process, where it sees the rest.
func TestStreamsOfACluster(t *testing.T) {
	t.Parallel()
	all := cluster(t, "api", "api", "worker")
	startAll(all)
	wait := make(chan struct{})
	endpoint := polite(t, func(string, int32) { <-wait })
	here := all[0].signUp("a@example.com")
	there := &client{base: all[1].url(), cookie: here.cookie}
	agentID := all[0].register(here, endpoint, 0)
	var v taskJSON
	_, err := there.call("POST", "/api/v1/tasks", map[string]any{"assignedAgentId": agentID, "title": "x"}, &v)
	require.NoError(t, err)
	lines := here.watch(t, v.ID, "0")
	last := ""
	for range 2 { // the status of a task that was taken on, and of one that a worker has begun
		last, _ = upTo(t, lines, "event: status")
		require.Equal(t, "event: status", last)
	}
	began := time.Now()
	require.NoError(t, all[0].stop())
	require.Less(t, time.Since(began), 10*time.Second, "nobody waits for streams")
	last, _ = upTo(t, lines, "event: complete")
	require.NotEqual(t, "event: complete", last)
	lines = there.watch(t, v.ID, "3")
	time.Sleep(100 * time.Millisecond)
	began = time.Now()
	close(wait)
	last, id := upTo(t, lines, "event: complete")
	require.Equal(t, []string{"event: complete", "4"}, []string{last, id})
	require.Less(t, time.Since(began), 8*time.Second, "it was woken: by itself it looks every 15 s")
	for _, s := range all[1:] {
		require.NoError(t, s.stop())
	}
	quietLogs(t, all)
}
