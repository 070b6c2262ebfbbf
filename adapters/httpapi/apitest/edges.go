package apitest

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// testBodies sends every route that takes a body what it must not take.
func testBodies(t *testing.T, s *suite) {
	u := s.signUp(t)
	a := u.agent(t, Echo, nil)
	task := u.ended(t, u.task(t, a["id"], nil)["id"])
	run := u.run(t, u.workflow(t, steps(a, nil)))
	deep := func(n int, open, end string) string { return strings.Repeat(open, n) + strings.Repeat(end, n) }
	bodies := map[string]string{
		"cut":                       `{"name": "x"`,
		"trailing garbage":          `{} {}`,
		"trailing bracket":          `{}}`,
		"trailing comma":            `{"zz": 1,}`,
		"array":                     `[]`,
		"string":                    `"x"`,
		"number":                    `5`,
		"null":                      `null`,
		"words":                     `hello`,
		"comment":                   `{/* x */}`,
		"single quotes":             `{'a': 1}`,
		"bare key":                  `{a: 1}`,
		"NaN":                       `{"zz": NaN}`,
		"leading zero":              `{"zz": 01}`,
		"plus":                      `{"zz": +1}`,
		"hex":                       `{"zz": 0x1}`,
		"number too large":          `{"zz": 1e999}`,
		"number too small":          `{"zz": 1e-99999}`,
		"number too long":           `{"zz": ` + strings.Repeat("1", 200_000) + `}`,
		"same key":                  `{"zz": 1, "zz": 2}`,
		"same key, escaped":         `{"zz": 1, "\u007az": 2}`,
		"same key by case":          `{"zz": 1, "ZZ": 2}`,
		"same key by Unicode's":     `{"skill": 1, "` + "\u017f\u212a" + `ill": 2}`,
		"same key within":           `{"zz": [{"a": {"b": 1, "b": 2}}]}`,
		"same key within, by case":  `{"zz": {"role": "user", "ROLE": "admin"}}`,
		"NUL escaped":               `{"zz": "a\u0000b"}`,
		"NUL in a key":              `{"a\u0000": 1}`,
		"NUL":                       "{\"zz\": \"\x00\"}",
		"control character":         "{\"zz\": \"\n\"}",
		"no UTF-8":                  "{\"zz\": \"\xff\xfe\"}",
		"overlong UTF-8":            "{\"zz\": \"\xc0\x80\"}",
		"half a surrogate pair":     `{"zz": "\ud800"}`,
		"other half":                `{"zz": "\udc00"}`,
		"surrogates the wrong way":  `{"zz": "\udc00\ud800"}`,
		"unknown escape":            `{"zz": "\x41"}`,
		"byte order mark":           "\ufeff{}",
		"deeper than 64":            `{"zz": ` + deep(64, "[", "]") + `}`,
		"deeper than 64 in objects": `{"zz": ` + strings.Repeat(`{"a":`, 64) + "1" + strings.Repeat("}", 65),
		"10 000 deep":               `{"zz": ` + deep(10_000, "[", "]") + `}`,
		"10 000 deep and open":      strings.Repeat(`{"a":`, 10_000),
		"100 000 deep arrays":       strings.Repeat(`[`, 100_000),
	}
	c := map[bool]*client{true: s.stranger(), false: u}
	for _, op := range s.spec.operations {
		requestBody, ok := op.raw["requestBody"].(object)
		if !ok {
			continue
		}
		if s.RateLimited && (op.path == "/api/v1/tasks" || op.path == "/api/dashboard/tasks" || strings.HasSuffix(op.path, "/execute")) {
			continue // the suite has a run without limits for that
		}
		if op.path == "/api/v1/billing/webhook" || s.RateLimited && op.path == "/api/v1/billing/checkout" {
			continue // the first has a test of its own: what counts there is the signature
		}
		content := requestBody["content"].(object)
		caller := c[slices.Contains(open, op.method+" "+op.path)]
		if slices.Contains(forAdmins, op.raw["operationId"]) {
			caller = s.admin
		}
		path := fill(op.path, map[string]any{"agentId": a["id"], "taskId": task["id"], "workflowId": run["workflowId"], "runId": run["id"]})
		name := op.method + " " + op.path
		send := func(r request) *response {
			r.method, r.path = op.method, path
			return caller.do(t, r)
		}
		for what, body := range bodies {
			r := send(request{body: body})
			require.Equal(t, http.StatusBadRequest, r.status, "%s: %s: %s", name, what, r.body)
			require.NotEmpty(t, r.invalid(), "%s: %s", name, what)
		}
		// A path says where.
		assert.Equal(t, []string{"zz[0].a.b"}, send(request{body: bodies["same key within"]}).invalid())

		large := `{"zz": "` + strings.Repeat("x", 2<<20) + `"}`
		send(request{body: large}).refused(http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE")
		send(request{body: large, chunked: true}).refused(http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE")
		send(request{body: strings.Repeat("[", 2<<20)}).refused(http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE")
		exactly := `{"zz": "` + strings.Repeat("x", 1<<20-10) + `"}`
		require.Len(t, exactly, 1<<20)
		assert.NotEqual(t, http.StatusRequestEntityTooLarge, send(request{body: exactly}).status, name)
		send(request{body: exactly + " "}).refused(http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE")

		for _, typ := range []string{
			"text/plain", "text/json", "application/x-json", "application/merge-patch+json", "multipart/form-data; boundary=x", "application/json; charset=latin1",
			"application/json, text/plain", "APPLICATION", ";", "application/octet-stream",
		} {
			r := send(request{body: `{}`, header: http.Header{"Content-Type": {typ}}})
			require.Equal(t, http.StatusUnsupportedMediaType, r.status, "%s: %s: %s", name, typ, r.body)
			r.refused(http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE")
		}
		send(request{body: `{}`, header: http.Header{"Content-Type": nil}}).refused(http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE")
		send(request{body: `{}`, header: http.Header{"Content-Type": {"application/json", "application/json"}}}).
			refused(http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE")
		send(request{body: `{}`, header: http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}}}).
			refused(http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE")
		if content["application/x-www-form-urlencoded"] == nil {
			send(request{body: "name=x", header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}}).
				refused(http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE")
		}
		for _, typ := range []string{"application/json; charset=utf-8", "Application/JSON;charset=UTF-8", "application/json;"} {
			r := send(request{body: `{"zz": 1}`, header: http.Header{"Content-Type": {typ}}})
			assert.NotEqual(t, http.StatusUnsupportedMediaType, r.status, "%s: %s", name, typ)
		}
		if requestBody["required"] == true {
			send(request{body: ""}).invalid()
			send(request{}).refused(http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE")
		}
	}
	_, meta := u.get(t, "/api/v1/agents").list()
	assert.InDelta(t, 1, meta["total"], 0, "nothing was stored")
	_, meta = u.get(t, "/api/v1/tasks").list()
	assert.InDelta(t, 2, meta["total"], 0, "nothing was stored")
	_, meta = u.get(t, "/api/v1/agents/"+a["id"].(string)+"/api-keys").list()
	assert.InDelta(t, 0, meta["total"], 0, "nothing was stored")
	got := u.get(t, "/api/v1/agents/"+a["id"].(string)).data(http.StatusOK)
	assert.Equal(t, a["name"], got["name"])

	// What looks odd but is right is taken.
	odd := "\n\t {\"name\"\r\n:\"\\u0041\\\\ \\ud83d\\ude00 \u2028\", \"endpoint\": " + strconv.Quote(s.AgentURL(Gone)) + ", \"metadata\": {\"\": {}, \"e\": -0.0e-5}}\n"
	made := u.post(t, "/api/v1/agents", odd).data(http.StatusCreated)
	assert.Equal(t, "A\\ 😀", strings.TrimSpace(strings.TrimSuffix(made["name"].(string), "\u2028")))
}

// testQueries gives every parameter of every query what it must not take.
func testQueries(t *testing.T, s *suite) {
	u := s.signUp(t)
	a := u.agent(t, Echo, nil)
	task := u.ended(t, u.task(t, a["id"], nil)["id"])
	run := u.run(t, u.workflow(t, steps(a, nil)))
	user := u
	for _, op := range s.spec.operations {
		u := user
		if slices.Contains(forAdmins, op.raw["operationId"]) {
			u = s.admin
		}
		path := fill(op.path, map[string]any{"agentId": a["id"], "taskId": task["id"], "workflowId": run["workflowId"], "runId": run["id"]})
		params, _ := op.raw["parameters"].([]any)
		for _, p := range params {
			p := p.(object)
			if p["in"] != "query" {
				continue
			}
			name, schema := p["name"].(string), p["schema"].(object)
			what := op.method + " " + op.path + " " + name
			bad := []string{"%00", "a%00b", "%ff"}
			switch {
			case schema["type"] != "string":
				bad = append(bad, "", "abc", "1e", "--1", "0x10", "NaN", "Infinity", "1_000", "1,5", "%201", "1e999", strings.Repeat("9", 400))
			case schema["enum"] != nil:
				bad = append(bad, "nope", fmt.Sprint(schema["enum"].([]any)[0])+"x")
			}
			if schema["type"] == "integer" {
				bad = append(bad, "1.5", "1.0", "1e1", "-1", "9223372036854775808")
			}
			for limit, by := range map[string]float64{"minimum": -1, "maximum": 1} {
				if n, ok := schema[limit].(float64); ok {
					bad = append(bad, strconv.FormatFloat(n+by, 'f', -1, 64))
				}
			}
			for _, value := range bad {
				r := u.get(t, path+"?"+name+"="+value)
				require.Equal(t, http.StatusBadRequest, r.status, "%s=%s: %s", what, value, r.body)
				assert.Equal(t, []string{name}, r.invalid(), "%s=%s", what, value)
			}
			assert.Equal(t, []string{name}, u.get(t, path+"?"+name+"=1&"+name+"=1").invalid(), what)
			u.get(t, path+"?"+name+"=%zz").invalid()
			for limit := range map[string]bool{"minimum": true, "maximum": true} {
				if n, ok := schema[limit].(float64); ok {
					r := u.get(t, path+"?"+name+"="+strconv.FormatFloat(n, 'f', -1, 64))
					assert.Equal(t, http.StatusOK, r.status, what)
				}
			}
			if schema["type"] == "string" && schema["format"] == nil {
				assert.Equal(t, http.StatusOK, u.get(t, path+"?"+name+"=").status, what)
			}
		}
		if op.method == http.MethodGet && len(params) > 0 {
			assert.NotEqual(t, http.StatusBadRequest, u.get(t, path+"?unknown=1&unknown=2").status, op.path)
		}
	}
	assert.Equal(t, []string{"limit"}, u.get(t, "/api/v1/agents?limit=101").invalid(), "not cut to 100")
}

// testIDs puts ids into every path under which there can be nothing.
func testIDs(t *testing.T, s *suite) {
	u := s.signUp(t)
	a := u.agent(t, Echo, nil)
	code := map[string]string{"agentId": "AGENT_NOT_FOUND", "taskId": "TASK_NOT_FOUND", "keyId": "API_KEY_NOT_FOUND"}
	bodies := map[string]any{
		"update-agent": object{}, "create-api-key": object{"name": "x", "scopes": []string{"*"}}, "rate-agent": object{"taskId": unknownID, "rating": 5},
		"reply-to-task": object{"message": object{"role": "user", "parts": []any{object{"type": "text", "data": "x"}}}},
	}
	ids := []string{
		unknownID, "abc", "0", "null", "-1", "\x00", "\xff\xfe", "a/b", "..", "' OR 1=1 --", "%", "😀", strings.Repeat("x", 5_000),
		unknownID + "x", unknownID[1:], strings.ReplaceAll(unknownID, "-", ""), "{" + unknownID + "}", strings.ReplaceAll(unknownID, "0", "g"),
		unknownID + "\x00", "urn:uuid:" + unknownID,
	}
	for _, op := range s.spec.operations {
		for _, seg := range op.segments {
			name := strings.Trim(seg, "{}")
			if code[name] == "" {
				continue
			}
			for _, id := range ids {
				path := op.path
				for _, p := range []string{"agentId", "taskId", "keyId"} {
					value := url.PathEscape(fmt.Sprint(a["id"]))
					if p == name {
						value = strings.ReplaceAll(url.PathEscape(id), "..", "%2e%2e")
					}
					path = strings.ReplaceAll(path, "{"+p+"}", value)
				}
				r := u.do(t, request{method: op.method, path: path, body: bodies[op.raw["operationId"].(string)]})
				require.Equal(t, http.StatusNotFound, r.status, "%s %s %q: %s", op.method, op.path, id, r.body)
				r.refused(http.StatusNotFound, code[name])
			}
		}
	}
}

func testRateLimit(t *testing.T, s *suite) {
	owner, u, other := s.signUp(t), s.signUp(t), s.signUp(t)
	a := owner.agent(t, Echo, nil)
	body := object{"assignedAgentId": a["id"], "title": "x"}
	if !s.RateLimited {
		for range 35 {
			r := u.post(t, "/api/v1/tasks", body)
			r.data(http.StatusAccepted)
			assert.Empty(t, r.header.Get("RateLimit-Limit"))
		}
		return
	}
	var refused *response
	allowed := 0
	for range 40 {
		r := u.post(t, "/api/v1/tasks", body)
		assert.Equal(t, "30", r.header.Get("RateLimit-Limit"))
		assert.Equal(t, `"tasks";q=30;w=60`, r.header.Get("RateLimit-Policy"))
		left, err := strconv.Atoi(r.header.Get("RateLimit-Remaining"))
		require.NoError(t, err)
		reset, err := strconv.Atoi(r.header.Get("RateLimit-Reset"))
		require.NoError(t, err)
		assert.Equal(t, fmt.Sprintf(`"tasks";r=%d;t=%d`, left, reset), r.header.Get("RateLimit"))
		if r.status == http.StatusTooManyRequests {
			refused = r
			assert.Zero(t, left)
			break
		}
		r.data(http.StatusAccepted)
		allowed++
		assert.Empty(t, r.header.Get("Retry-After"))
	}
	require.NotNil(t, refused)
	assert.GreaterOrEqual(t, allowed, 30)
	assert.LessOrEqual(t, allowed, 35, "30, and what came back while they were sent")
	d := refused.refused(http.StatusTooManyRequests, "RATE_LIMIT_EXCEEDED")
	wait, err := strconv.Atoi(refused.header.Get("Retry-After"))
	require.NoError(t, err)
	assert.Positive(t, wait)
	assert.InDelta(t, wait, d["retryAfter"], 0)
	// It is the caller that is limited: by every credential, and no one else.
	own := u.agent(t, Echo, nil)
	k, _ := u.key(t, own["id"], "*")
	k.post(t, "/api/v1/tasks", body).refused(http.StatusTooManyRequests, "RATE_LIMIT_EXCEEDED")
	other.post(t, "/api/v1/tasks", body).data(http.StatusAccepted)
	u.get(t, "/api/v1/tasks").list()
}
