package apitest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// event is one server-sent event.
type event struct {
	id   int64
	kind string
	data object
}

// stream is an answer that is read event by event.
type stream struct {
	t        *testing.T
	header   http.Header
	lines    *bufio.Scanner
	body     io.Closer
	comments int
	retry    string
}

// patience is how long a test waits for a stream.
const patience = 40 * time.Second

func streamPath(id any) string { return fmt.Sprintf("/api/v1/tasks/%s/stream", id) }

// stream opens a task's stream after an event; "" begins with the current state.
func (c *client) stream(t *testing.T, taskID any, after string) *stream {
	t.Helper()
	return c.streamAt(t, streamPath(taskID), after)
}

// streamAt opens the stream at a path after an event; "" begins with the current state.
func (c *client) streamAt(t *testing.T, path, after string) *stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.s.BaseURL+path, nil)
	require.NoError(t, err)
	req.Header = c.header.Clone()
	req.Header.Set("Accept", "text/event-stream")
	if after != "" {
		req.Header.Set("Last-Event-ID", after)
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(t, err)
	t.Cleanup(func() { _ = res.Body.Close() })
	if res.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(res.Body)
		require.Equal(t, http.StatusOK, res.StatusCode, "%s", b)
	}
	assert.Equal(t, "text/event-stream; charset=utf-8", res.Header.Get("Content-Type"))
	assert.Equal(t, "no-store", res.Header.Get("Cache-Control"))
	assert.Equal(t, "no", res.Header.Get("X-Accel-Buffering"))
	assert.Empty(t, res.Header.Get("Content-Encoding"))
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 4<<20)
	return &stream{t: t, header: res.Header, lines: lines, body: res.Body}
}

// next reads up to the next event. At the end it returns io.EOF.
func (s *stream) next() (event, error) {
	s.t.Helper()
	var e event
	var data string
	for s.lines.Scan() {
		if strings.HasPrefix(s.lines.Text(), ":") {
			s.comments++
			continue
		}
		name, value, _ := strings.Cut(s.lines.Text(), ": ")
		switch name {
		case "id":
			var err error
			e.id, err = strconv.ParseInt(value, 10, 64)
			require.NoError(s.t, err)
		case "event":
			e.kind = value
		case "data":
			data += value
		case "retry":
			s.retry = value
		case "":
			if data == "" { // of a comment, or of the hint
				continue
			}
			require.NoError(s.t, json.Unmarshal([]byte(data), &e.data), data)
			require.NotZero(s.t, e.id)
			return e, nil
		default:
			require.Fail(s.t, "an unknown field", s.lines.Text())
		}
	}
	if err := s.lines.Err(); err != nil {
		return e, err
	}
	return e, io.EOF
}

// must reads the next event, which is to be of a kind.
func (s *stream) must(kind string) event {
	s.t.Helper()
	e, err := s.next()
	require.NoError(s.t, err, "instead of %s", kind)
	require.Equal(s.t, kind, e.kind, "%v", e.data)
	return e
}

// rest reads all that comes up to the end.
func (s *stream) rest() (out []event) {
	s.t.Helper()
	for {
		e, err := s.next()
		if errors.Is(err, io.EOF) {
			return out
		}
		require.NoError(s.t, err)
		out = append(out, e)
	}
}

func kindsOf(events []event) (out []string) {
	for _, e := range events {
		kind := e.kind
		if kind == "status" || kind == "complete" {
			kind += " " + e.data["status"].(string)
		}
		if kind == "message" {
			kind += " " + e.data["role"].(string)
		}
		out = append(out, kind)
	}
	return out
}

// The whole life of a task, seen by all who may.
func testStream(t *testing.T, s *suite) {
	owner, u := s.signUp(t), s.signUp(t)
	a := owner.agent(t, Making, nil)
	task := u.task(t, a["id"], object{"description": "line one\nline two\r\n\u2028<three>", "input": object{"n": 1}})
	watchers := map[string]*stream{}
	for name, c := range map[string]*client{"requester": u, "owner": owner, "admin": s.admin} {
		watchers[name] = c.stream(t, task["id"], "")
	}
	var seen []event
	for name, w := range watchers {
		got := w.rest()
		assert.Equal(t, "2000", w.retry)
		kinds := kindsOf(got)
		if kinds[0] == "status assigned" {
			assert.Equal(t, []string{"status assigned", "message user", "status running", "artifact", "complete completed"}, kinds, name)
		} else { // it was opened when the agent had been called already
			assert.Equal(t, []string{"status running", "message user", "artifact", "complete completed"}, kinds, name)
		}
		seen = got
	}
	done := u.ended(t, task["id"])
	last := seen[len(seen)-1]
	assert.Equal(t, object{"status": "completed", "artifacts": done["artifacts"]}, last.data)
	assert.Len(t, done["artifacts"], 1)
	assert.Equal(t, object{"status": "assigned"}, u.stream(t, task["id"], "0").must("status").data)
	for _, e := range seen {
		switch e.kind {
		case "message":
			assert.Equal(t, done["messages"].([]any)[0], any(e.data))
		case "artifact":
			assert.Equal(t, done["artifacts"].([]any)[0], any(e.data))
		}
	}
	// Who comes late gets the end at once.
	late := u.stream(t, task["id"], "").rest()
	assert.Equal(t, []string{"status completed", "message user", "artifact", "complete completed"}, kindsOf(late))
	for i := 1; i < len(late); i++ {
		assert.Greater(t, late[i].id, late[i-1].id)
	}
	assert.Equal(t, last, late[3])
	r := u.do(t, request{method: http.MethodHead, path: streamPath(task["id"])})
	assert.Equal(t, http.StatusOK, r.status)
	assert.Equal(t, "text/event-stream; charset=utf-8", r.header.Get("Content-Type"))
}

// After every position there is exactly what comes after it, also while the task goes on.
func testStreamResume(t *testing.T, s *suite) {
	u := s.signUp(t)
	a := u.agent(t, Making, nil)
	task := u.task(t, a["id"], nil)
	live := map[int]*stream{}
	for i := range 3 {
		live[i] = u.stream(t, task["id"], strconv.Itoa(i))
	}
	whole := live[0].rest()
	require.Equal(t, []string{"status assigned", "message user", "status running", "artifact", "complete completed"}, kindsOf(whole))
	for i, e := range whole {
		assert.EqualValues(t, i+1, e.id)
	}
	for i := 1; i < len(live); i++ {
		assert.Equal(t, whole[i:], live[i].rest())
	}
	for i := range whole {
		assert.Equal(t, whole[i:], u.stream(t, task["id"], strconv.Itoa(i)).rest())
	}
	// The end is not told twice, and a browser need not come again.
	for _, at := range []string{"5", "6", "9223372036854775807"} {
		r := u.with("Last-Event-ID", at).get(t, streamPath(task["id"]))
		assert.Equal(t, http.StatusNoContent, r.status)
		assert.Empty(t, r.body)
		assert.Equal(t, http.StatusNoContent, u.get(t, streamPath(task["id"])+"?lastEventId="+at).status)
	}
	r := u.get(t, streamPath(task["id"])+"?lastEventId=4")
	assert.Equal(t, 1, strings.Count(string(r.body), "event: "), "%s", r.body)
	r = u.with("Last-Event-ID", "4").get(t, streamPath(task["id"])+"?lastEventId=0")
	assert.Equal(t, 1, strings.Count(string(r.body), "event: "), "the header is newer: %s", r.body)

	// One who claims to have seen what is yet to come still sees it.
	stalls := u.agent(t, Stalling, nil)
	task = u.task(t, stalls["id"], nil)
	u.waitFor(t, task["id"], func(task object) bool { return task["status"] == "running" })
	ahead := u.stream(t, task["id"], "1000")
	u.post(t, "/api/v1/tasks/"+task["id"].(string)+"/cancel", nil).data(http.StatusOK)
	assert.Equal(t, []string{"complete cancelled"}, kindsOf(ahead.rest()))
}

// Every way to end is told.
func testStreamEnds(t *testing.T, s *suite) {
	u := s.signUp(t)
	failing := u.task(t, u.agent(t, Failing, nil)["id"], nil)
	got := u.stream(t, failing["id"], "").rest()
	last := got[len(got)-1]
	assert.Equal(t, "failed", last.data["status"])
	assert.Equal(t, []any{}, last.data["artifacts"])
	assert.Equal(t, u.ended(t, failing["id"])["error"], last.data["error"])
	assert.NotEmpty(t, last.data["error"].(object)["message"])

	task := u.task(t, u.agent(t, Stalling, nil)["id"], nil)
	w := u.stream(t, task["id"], "")
	for e := w.must("status"); e.data["status"] != "running"; {
		var err error
		e, err = w.next()
		require.NoError(t, err)
	}
	u.post(t, "/api/v1/tasks/"+task["id"].(string)+"/cancel", nil).data(http.StatusOK)
	got = w.rest()
	assert.Equal(t, object{"status": "cancelled", "artifacts": []any{}}, got[len(got)-1].data)
}

// A refusal is an answer like every other.
func testStreamRefusals(t *testing.T, s *suite) {
	owner, u, other := s.signUp(t), s.signUp(t), s.signUp(t)
	task := u.task(t, owner.agent(t, Stalling, nil)["id"], nil)
	path := streamPath(task["id"])
	s.stranger().get(t, path).refused(http.StatusUnauthorized, "UNAUTHORIZED")
	s.stranger().with("Authorization", "Bearer nxk_nonsense").get(t, path).refused(http.StatusUnauthorized, "UNAUTHORIZED")
	r := other.get(t, path)
	r.refused(http.StatusNotFound, "TASK_NOT_FOUND")
	unknown := other.get(t, streamPath(unknownID))
	assert.Equal(t,
		strings.ReplaceAll(string(unknown.body), unknownID, "ID"), strings.ReplaceAll(string(r.body), task["id"].(string), "ID"),
		"another's task looks like none at all")
	theirs := other.agent(t, Echo, nil)
	k, _ := other.key(t, theirs["id"], "*")
	k.get(t, path).refused(http.StatusNotFound, "TASK_NOT_FOUND")
	for _, id := range []string{"abc", "-1", "1.5", "1e1", "0x1", "+1", "9223372036854775808", "1,2", "é"} {
		assert.Equal(t, []string{"Last-Event-ID"}, u.with("Last-Event-ID", id).get(t, path).invalid(), id)
	}
	twice := u.do(t, request{method: http.MethodGet, path: path, header: http.Header{"Last-Event-Id": {"1", "2"}}})
	assert.Equal(t, []string{"Last-Event-ID"}, twice.invalid())
	u.do(t, request{method: http.MethodPost, path: path}).refused(http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED")
}

// A stream in which nothing happens is written to all the same.
func testStreamKeepAlive(t *testing.T, s *suite) {
	u := s.signUp(t)
	task := u.task(t, u.agent(t, Stalling, nil)["id"], nil)
	u.waitFor(t, task["id"], func(task object) bool { return task["status"] == "running" })
	w := u.stream(t, task["id"], "")
	began := time.Now()
	var cancelled sync.WaitGroup
	cancelled.Go(func() {
		time.Sleep(3*s.KeepAlive + s.KeepAlive/2)
		u.post(t, "/api/v1/tasks/"+task["id"].(string)+"/cancel", nil)
	})
	w.rest()
	took := time.Since(began)
	cancelled.Wait() // the stream may end before the answer comes
	assert.Positive(t, w.comments, "in %s", took)
	assert.LessOrEqual(t, float64(w.comments), took.Seconds()/s.KeepAlive.Seconds()+2, "in %s", took) // a busy machine may write fewer
}

// Who may not read any more does not go on reading.
func testStreamRevoked(t *testing.T, s *suite) {
	owner, u := s.signUp(t), s.signUp(t)
	task := u.task(t, owner.agent(t, Stalling, nil)["id"], nil)
	u.waitFor(t, task["id"], func(task object) bool { return task["status"] == "running" })
	own := u.agent(t, Echo, nil)
	revoked, made := u.key(t, own["id"], "tasks:read")
	kept, _ := u.key(t, own["id"], "tasks:read")
	leaving := s.again(t, u)
	streams := map[string]*stream{"revoked": revoked.stream(t, task["id"], ""), "logged out": leaving.stream(t, task["id"], "")}
	stays := kept.stream(t, task["id"], "")
	u.delete(t, fmt.Sprintf("/api/v1/agents/%s/api-keys/%s", own["id"], made["id"])).data(http.StatusOK)
	assert.Equal(t, http.StatusOK, leaving.post(t, "/auth/logout", nil).status)
	began := time.Now()
	for name, w := range streams {
		for _, e := range w.rest() {
			assert.NotEqual(t, "complete", e.kind, name)
		}
	}
	assert.Less(t, time.Since(began), 3*s.KeepAlive+2*time.Second)
	revoked.get(t, streamPath(task["id"])).refused(http.StatusUnauthorized, "UNAUTHORIZED")
	u.post(t, "/api/v1/tasks/"+task["id"].(string)+"/cancel", nil).data(http.StatusOK)
	got := stays.rest()
	assert.Equal(t, "complete", got[len(got)-1].kind, "the others' go on")
}

// again logs a user in once more.
func (s *suite) again(t *testing.T, u *client) *client {
	t.Helper()
	r := s.stranger().post(t, "/auth/login", object{"email": u.email, "password": password})
	r.data(http.StatusOK)
	c := *u
	c.header = http.Header{"Cookie": {"nexus_session=" + r.cookie("nexus_session").Value}}
	return &c
}

// A stream that is cut at random and resumed, over and over, has brought each event once and in order.
func testStreamCut(t *testing.T, s *suite) {
	u := s.signUp(t)
	a := u.agent(t, Making, nil)
	for range 8 {
		task := u.task(t, a["id"], nil)
		var got []event
		for after, over := "0", false; !over; {
			w := u.stream(t, task["id"], after)
			for range rand.IntN(3) {
				e, err := w.next()
				require.NoError(t, err)
				got = append(got, e)
				after = strconv.FormatInt(e.id, 10)
				if over = e.kind == "complete"; over {
					break
				}
			}
			_ = w.body.Close()
			time.Sleep(time.Duration(rand.IntN(40)) * time.Millisecond)
		}
		assert.Equal(t, u.stream(t, task["id"], "0").rest(), got)
	}
}
