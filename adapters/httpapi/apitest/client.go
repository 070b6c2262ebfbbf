package apitest

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// object is a JSON object as it came.
type object = map[string]any

const password = "correct horse battery"

// client is a caller of the API: a session, a key, or a stranger.
type client struct {
	s      *suite
	userID string
	email  string
	role   string
	header http.Header
}

// request is what a test sends that a client would not send by itself.
type request struct {
	method, path string
	body         any // a string is sent as it is, nil is no body, anything else as JSON
	header       http.Header
	chunked      bool
}

// response is what came back, read whole.
type response struct {
	t      *testing.T
	status int
	header http.Header
	body   []byte
	json   object // nil if the body is no JSON object
}

func (s *suite) stranger() *client { return &client{s: s, header: http.Header{}} }

// with returns the client with one more header.
func (c *client) with(name, value string) *client {
	out := *c
	out.header = c.header.Clone()
	out.header.Set(name, value)
	return &out
}

// do sends a request. Whatever comes back must be as the server's OpenAPI document says. All tests sign up from one
// address, so a sign-up waits for its turn.
func (c *client) do(t *testing.T, r request) *response {
	t.Helper()
	for {
		out := c.once(t, r)
		if out.status != http.StatusTooManyRequests || r.path != "/auth/signup" {
			return out
		}
		wait, err := strconv.Atoi(out.header.Get("Retry-After"))
		require.NoError(t, err)
		time.Sleep(time.Duration(wait) * time.Second)
	}
}

func (c *client) once(t *testing.T, r request) *response {
	t.Helper()
	var body io.Reader
	header := c.header.Clone()
	switch b := r.body.(type) {
	case nil:
	case string:
		body = strings.NewReader(b)
		header.Set("Content-Type", "application/json")
	default:
		text, err := json.Marshal(b)
		require.NoError(t, err)
		body = bytes.NewReader(text)
		header.Set("Content-Type", "application/json")
	}
	if r.chunked {
		body = struct{ io.Reader }{body}
	}
	req, err := http.NewRequestWithContext(t.Context(), r.method, c.s.BaseURL+r.path, body)
	require.NoError(t, err)
	req.Header = header
	for name, values := range r.header {
		req.Header[name] = values
	}
	res, err := c.s.http.Do(req)
	require.NoError(t, err, "%s %s", r.method, r.path)
	defer func() { _ = res.Body.Close() }()
	out := &response{t: t, status: res.StatusCode, header: res.Header}
	out.body, err = io.ReadAll(res.Body)
	require.NoError(t, err)
	if strings.HasPrefix(res.Header.Get("Content-Type"), "application/json") && r.method != http.MethodHead {
		require.NoError(t, json.Unmarshal(out.body, &out.json), "%s %s: %s", r.method, r.path, out.body)
	}
	assert.Less(t, out.status, 600)
	assert.NotEqual(t, http.StatusInternalServerError, out.status, "%s %s: %s", r.method, r.path, out.body)
	assert.NotEmpty(t, out.header.Get("X-Request-Id"))
	assert.Equal(t, "nosniff", out.header.Get("X-Content-Type-Options"))
	kept := "no-store"
	if strings.HasPrefix(r.path, "/docs") && !strings.HasPrefix(r.path, "/docs/reference") && out.status == http.StatusOK {
		kept = "private, no-cache" // they are the same for all who are not logged in
	}
	assert.Equal(t, kept, out.header.Get("Cache-Control"))
	assert.NotEmpty(t, out.header.Get("Referrer-Policy"))
	assert.NotEmpty(t, out.header.Get("Content-Security-Policy"))
	if c.s.spec != nil {
		c.s.spec.check(t, r.method, req.URL, out)
	}
	return out
}

func (c *client) get(t *testing.T, path string) *response {
	t.Helper()
	return c.do(t, request{method: http.MethodGet, path: path})
}

func (c *client) post(t *testing.T, path string, body any) *response {
	t.Helper()
	return c.do(t, request{method: http.MethodPost, path: path, body: body})
}

func (c *client) patch(t *testing.T, path string, body any) *response {
	t.Helper()
	return c.do(t, request{method: http.MethodPatch, path: path, body: body})
}

func (c *client) delete(t *testing.T, path string) *response {
	t.Helper()
	return c.do(t, request{method: http.MethodDelete, path: path})
}

// data is the answer's object, after a look at the status.
func (r *response) data(status int) object {
	r.t.Helper()
	require.Equal(r.t, status, r.status, "%s", r.body)
	d, ok := r.json["data"].(object)
	require.True(r.t, ok, "no data in %s", r.body)
	return d
}

// list is the answer's array and its meta.
func (r *response) list() (items []object, meta object) {
	r.t.Helper()
	require.Equal(r.t, http.StatusOK, r.status, "%s", r.body)
	all, ok := r.json["data"].([]any)
	require.True(r.t, ok, "no list in %s", r.body)
	items = []object{}
	for _, v := range all {
		items = append(items, v.(object))
	}
	return items, r.json["meta"].(object)
}

// refused returns the error's details, after a look at the status and the code.
func (r *response) refused(status int, code string) object {
	r.t.Helper()
	e, ok := r.json["error"].(object)
	require.True(r.t, ok, "status %d, no error in %s", r.status, r.body)
	require.Equal(r.t, fmt.Sprint(status, " ", code), fmt.Sprint(r.status, " ", e["code"]), "%s", r.body)
	d, _ := e["details"].(object)
	return d
}

// invalid returns the paths that a validation fault names, in order.
func (r *response) invalid() []string {
	r.t.Helper()
	d := r.refused(http.StatusBadRequest, "VALIDATION_ERROR")
	fields, ok := d["fields"].([]any)
	require.True(r.t, ok, "no details.fields in %s", r.body)
	paths := []string{}
	for _, f := range fields {
		f := f.(object)
		assert.NotEmpty(r.t, f["message"])
		paths = append(paths, f["path"].(string))
	}
	return paths
}

// cookie is the cookie that the answer sets, nil if it sets none of that name.
func (r *response) cookie(name string) *http.Cookie {
	for _, c := range (&http.Response{Header: r.header}).Cookies() {
		if c.Name == name {
			return c
		}
	}
	return nil
}

func newEmail() string { return "u" + strings.ToLower(rand.Text()) + "@example.com" }

// signUp makes a user with a session. Where the server limits sign-ups, it waits its turn.
func (s *suite) signUp(t *testing.T) *client {
	t.Helper()
	email := newEmail()
	r := s.stranger().post(t, "/auth/signup", object{"email": email, "password": password})
	u := r.data(http.StatusCreated)["user"].(object)
	c := r.cookie("nexus_session")
	require.NotNil(t, c)
	return &client{
		s: s, userID: u["id"].(string), email: email, role: u["role"].(string),
		header: http.Header{"Cookie": {c.Name + "=" + c.Value}},
	}
}

// agent registers an agent of the caller's. Fields of extra take the place of the usual ones.
func (c *client) agent(t *testing.T, b Behaviour, extra object) object {
	t.Helper()
	body := object{"name": string(b) + " agent", "endpoint": c.s.AgentURL(b)}
	for k, v := range extra {
		body[k] = v
	}
	return c.post(t, "/api/v1/agents", body).data(http.StatusCreated)
}

// key makes a key for an agent of the caller's and returns a client that uses it, and the key's object.
func (c *client) key(t *testing.T, agentID any, scopes ...string) (*client, object) {
	t.Helper()
	k := c.post(t, fmt.Sprintf("/api/v1/agents/%s/api-keys", agentID), object{"name": "test", "scopes": scopes}).data(http.StatusCreated)
	return &client{
		s: c.s, userID: c.userID, email: c.email, role: c.role,
		header: http.Header{"Authorization": {"Bearer " + k["key"].(string)}},
	}, k
}

// task creates a task.
func (c *client) task(t *testing.T, agentID any, extra object) object {
	t.Helper()
	body := object{"assignedAgentId": agentID, "title": "Do it"}
	for k, v := range extra {
		body[k] = v
	}
	return c.post(t, "/api/v1/tasks", body).data(http.StatusAccepted)
}

// ended waits for a task to end and returns it.
func (c *client) ended(t *testing.T, id any) object {
	t.Helper()
	return c.waitFor(t, id, func(task object) bool {
		return task["status"] == "completed" || task["status"] == "failed" || task["status"] == "cancelled"
	})
}

func (c *client) waitFor(t *testing.T, id any, is func(object) bool) object {
	t.Helper()
	for deadline := time.Now().Add(25 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		task := c.get(t, fmt.Sprintf("/api/v1/tasks/%s", id)).data(http.StatusOK)
		if is(task) {
			return task
		}
		require.True(t, time.Now().Before(deadline), "the task stays %v", task)
	}
}

func (c *client) balance(t *testing.T) object {
	t.Helper()
	return c.get(t, "/api/v1/billing/balance").data(http.StatusOK)
}

func escape(id any) string { return url.PathEscape(fmt.Sprint(id)) }
