package apitest

import (
	"bytes"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func testHealth(t *testing.T, s *suite) {
	for _, path := range []string{"/api/v1/health", "/livez", "/readyz"} {
		d := s.stranger().get(t, path).data(http.StatusOK)
		assert.Equal(t, "ok", d["status"])
		at, err := time.Parse(time.RFC3339Nano, d["timestamp"].(string))
		require.NoError(t, err)
		assert.WithinDuration(t, time.Now(), at, time.Minute)
		assert.True(t, strings.HasSuffix(d["timestamp"].(string), "Z"))
	}
}

// routes are those that the API reference has, as far as they are served.
var routes = []string{
	"POST /auth/signup", "POST /auth/login", "POST /auth/logout",
	"POST /api/v1/agents", "GET /api/v1/agents", "GET /api/v1/agents/{}", "PATCH /api/v1/agents/{}", "DELETE /api/v1/agents/{}",
	"POST /api/v1/agents/{}/heartbeat", "GET /api/v1/discover",
	"POST /api/v1/agents/{}/api-keys", "GET /api/v1/agents/{}/api-keys", "DELETE /api/v1/agents/{}/api-keys/{}",
	"POST /api/v1/tasks", "GET /api/v1/tasks", "GET /api/v1/tasks/{}", "POST /api/v1/tasks/{}/cancel", "GET /api/v1/tasks/{}/stream",
	"GET /api/v1/trust/{}", "GET /api/v1/trust/{}/history", "GET /api/v1/trust/{}/daily", "POST /api/v1/trust/{}/rate",
	"GET /api/v1/billing/balance", "GET /api/v1/billing/transactions", "GET /api/v1/billing/usage", "POST /api/v1/billing/checkout", "POST /api/v1/billing/webhook",
	"GET /api/v1/health", "GET /livez", "GET /readyz",
}

// codes is the contract's table.
var codes = map[string]int{
	"VALIDATION_ERROR": 400, "UNAUTHORIZED": 401, "INSUFFICIENT_CREDITS": 402, "FORBIDDEN": 403, "TRUST_THRESHOLD_NOT_MET": 403,
	"AGENT_NOT_FOUND": 404, "TASK_NOT_FOUND": 404, "WORKFLOW_NOT_FOUND": 404, "RUN_NOT_FOUND": 404, "API_KEY_NOT_FOUND": 404, "NOT_FOUND": 404,
	"METHOD_NOT_ALLOWED": 405, "TASK_NOT_ACTIVE": 409, "ALREADY_RATED": 409, "IDEMPOTENCY_CONFLICT": 409, "EMAIL_TAKEN": 409,
	"PAYLOAD_TOO_LARGE": 413, "UNSUPPORTED_MEDIA_TYPE": 415, "RATE_LIMIT_EXCEEDED": 429, "INTERNAL_ERROR": 500, "PROTOCOL_ERROR": 502,
	"AGENT_OFFLINE": 503, "PAYMENTS_NOT_CONFIGURED": 503, "UNAVAILABLE": 503,
}

func testDocument(t *testing.T, s *suite) {
	doc := s.spec.doc
	assert.Equal(t, "3.1.0", doc["openapi"])
	assert.NotEmpty(t, doc["info"].(object)["title"])
	assert.NotEmpty(t, doc["info"].(object)["version"])
	var found []string
	ids := map[any]bool{}
	for _, op := range s.spec.operations {
		name := op.method + " " + op.path
		plain := make([]string, 0, len(op.segments))
		for _, seg := range op.segments {
			if strings.HasPrefix(seg, "{") {
				seg = "{}"
			}
			plain = append(plain, seg)
		}
		found = append(found, op.method+" "+strings.Join(plain, "/"))
		assert.NotEmpty(t, op.raw["summary"], name)
		assert.NotEmpty(t, op.raw["tags"], name)
		assert.False(t, ids[op.raw["operationId"]], "%s: the operation's id is used twice", name)
		ids[op.raw["operationId"]] = true
		assert.Contains(t, op.raw["responses"], "500", name)
		for status, response := range op.raw["responses"].(object) {
			assert.NotEmpty(t, response.(object)["description"], "%s %s", name, status)
			listed, _ := response.(object)["x-error-codes"].([]any)
			for _, code := range listed {
				assert.Equal(t, status, fmt.Sprint(codes[code.(string)]), "%s: %s", name, code)
			}
		}
		if op.raw["security"] != nil && len(op.raw["security"].([]any)) > 0 {
			assert.Contains(t, op.raw["responses"], "401", name)
		}
	}
	for _, r := range routes {
		assert.Contains(t, found, r)
	}
	schemas := doc["components"].(object)["schemas"].(object)
	enum := schemas["ErrorBody"].(object)["properties"].(object)["code"].(object)["enum"].([]any)
	for code := range codes {
		assert.Contains(t, enum, code)
	}
	assert.Len(t, enum, len(codes))
	assert.NotContains(t, string(s.stranger().get(t, "/openapi.json").body), "$schema")
}

func testDocs(t *testing.T, s *suite) {
	r := s.stranger().get(t, "/docs/reference")
	require.Equal(t, http.StatusOK, r.status)
	isPage(t, r)
	for _, op := range s.spec.operations {
		assert.Contains(t, string(r.body), "<code>"+op.path+"</code>")
	}
	for code := range codes {
		assert.Contains(t, string(r.body), code)
	}
	groups := map[string]string{} // each route is explained on its group's page
	for _, m := range operationLinks.FindAllStringSubmatch(string(r.body), -1) {
		if groups[m[1]] == "" {
			page := s.stranger().get(t, m[1])
			require.Equal(t, http.StatusOK, page.status)
			isPage(t, page)
			assert.Less(t, len(page.body), 100_000, m[1])
			groups[m[1]] = string(page.body)
		}
		assert.Contains(t, groups[m[1]], `id="`+m[2]+`"`)
	}
	assert.Greater(t, len(groups), 8)
	s.stranger().get(t, "/docs/reference/nothing").refused(http.StatusNotFound, "NOT_FOUND")
	root := s.stranger().get(t, "/")
	assert.Equal(t, http.StatusSeeOther, root.status)
	assert.Contains(t, fronts, root.header.Get("Location"))
	if docs := s.stranger().get(t, "/docs"); docs.status != http.StatusOK { // a server without pages has the reference alone
		assert.Equal(t, http.StatusSeeOther, docs.status)
		assert.Equal(t, "/docs/reference", docs.header.Get("Location"))
	}
}

var operationLinks = regexp.MustCompile(`href="(/docs/reference/[^"#]+)#([^"]+)"`)

// fronts are where / leads: to the dashboard's front, or without one to the reference.
var fronts = []string{"/docs/reference", "/marketplace"}

var fetches = regexp.MustCompile(`<(?:link|img)[^>]*? (?:href|src)="([^"]*)"`)

// isPage looks at what every page must be: without scripts, and with nothing fetched but the server's own style.
func isPage(t *testing.T, r *response) {
	t.Helper()
	assert.Equal(t, "text/html; charset=utf-8", r.header.Get("Content-Type"))
	policy := r.header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
		assert.Contains(t, policy, want)
	}
	assert.NotContains(t, policy, "unsafe")
	for _, without := range []string{"<script", "<style", " style=", " onclick="} {
		assert.NotContains(t, string(r.body), without)
	}
	for _, fetched := range fetches.FindAllSubmatch(r.body, -1) {
		assert.True(t, bytes.HasPrefix(fetched[1], []byte("/assets/")), "%s", fetched[0])
	}
}

const unknownID = "01890000-0000-7000-8000-000000000000"

// fill puts ids into the parameters of a path.
func fill(path string, ids map[string]any) string {
	for _, name := range []string{"agentId", "taskId", "keyId", "workflowId", "runId", "sessionId", "identityId", "userId"} {
		id := any(unknownID)
		if ids[name] != nil {
			id = ids[name]
		}
		path = strings.ReplaceAll(path, "{"+name+"}", escape(id))
	}
	return path
}

// open are the routes that ask for no credential. There are no others.
var open = []string{
	"POST /auth/signup", "POST /auth/login", "POST /auth/logout", "GET /api/v1/health", "GET /livez", "GET /readyz",
	"GET /auth/forgot-password", "GET /auth/reset-password", "GET /auth/verify-email", "GET /auth/with/{provider}", "GET /auth/callback/{provider}",
	"GET /auth/ways", "POST /auth/token", "POST /auth/forgot-password", "POST /auth/reset-password", "POST /auth/verify-email",
	"GET /api/v1/billing/packages", "POST /api/v1/billing/webhook", "GET /billing/return",
	"GET /auth/login", "GET /auth/signup", "GET /", "GET /docs", "GET /docs/reference", "GET /docs/reference/{group}", "GET /openapi.json",
}

// forAdmins are the operations that only an admin may ask for.
var forAdmins = []any{"grant-credits", "list-grants", "list-users", "disable-user", "enable-user"}

func testDefaultDeny(t *testing.T, s *suite) {
	for _, op := range s.spec.operations {
		name := op.method + " " + op.path
		r := s.stranger().do(t, request{method: op.method, path: fill(op.path, nil)})
		if slices.Contains(open, name) {
			assert.NotEqual(t, http.StatusUnauthorized, r.status, name)
			continue
		}
		assert.Equal(t, http.StatusUnauthorized, r.status, name)
		r.refused(http.StatusUnauthorized, "UNAUTHORIZED")
		assert.Equal(t, "Bearer", r.header.Get("WWW-Authenticate"), name)
		assert.NotEmpty(t, op.raw["security"], name)
	}
}

func testRoutes(t *testing.T, s *suite) {
	c := s.stranger()
	for _, path := range []string{
		"/nope", "/api", "/api/v1", "/api/v1/agents/", "/api/v1/agents/" + unknownID + "/nope", "/docs/", "/api/v1//agents", "/api/v1/./health",
		"/api/v1/x/../health", "//", "/auth", "/%00", "/%ff", "/api/v1/tasks/" + unknownID + "/cancel/",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
			r := c.do(t, request{method: method, path: path})
			r.refused(http.StatusNotFound, "NOT_FOUND")
			assert.Empty(t, r.header.Get("Location"))
		}
	}
	for path, allow := range map[string]string{
		"/api/v1/agents": "GET, HEAD, POST", "/api/v1/agents/" + unknownID: "DELETE, GET, HEAD, PATCH", "/api/v1/health": "GET, HEAD",
		"/auth/logout": "POST", "/docs": "GET, HEAD", "/docs/reference": "GET, HEAD", "/openapi.json": "GET, HEAD",
	} {
		for _, method := range []string{http.MethodPut, "BREW", http.MethodOptions} {
			r := c.do(t, request{method: method, path: path})
			r.refused(http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED")
			assert.Equal(t, allow, r.header.Get("Allow"))
		}
	}
	u := s.signUp(t)
	for _, path := range []string{"/api/v1/health", "/api/v1/agents", "/api/v1/billing/balance", "/docs/reference", "/openapi.json", "/auth/login"} {
		r := u.do(t, request{method: http.MethodHead, path: path})
		assert.Equal(t, http.StatusOK, r.status, path)
		assert.Empty(t, r.body)
	}
	assert.Equal(t, http.StatusUnauthorized, c.do(t, request{method: http.MethodHead, path: "/api/v1/agents"}).status)
}

func testHeaders(t *testing.T, s *suite) {
	for given, kept := range map[string]bool{
		"abc-123_X.y": true, strings.Repeat("a", 64): true, strings.Repeat("a", 65): false, "a b": false, "a\"b": false, "é": false,
	} {
		r := s.stranger().with("X-Request-Id", given).get(t, "/api/v1/health")
		assert.Equal(t, kept, r.header.Get("X-Request-Id") == given, given)
	}
	a, b := s.stranger().get(t, "/api/v1/health"), s.stranger().get(t, "/api/v1/health")
	assert.NotEqual(t, a.header.Get("X-Request-Id"), b.header.Get("X-Request-Id"))

	// Whatever a client accepts, it gets JSON.
	for _, accept := range []string{"text/html", "application/xml", "*/*", "application/json;q=0.1"} {
		r := s.stranger().with("Accept", accept).get(t, "/api/v1/health")
		assert.Equal(t, "application/json", r.header.Get("Content-Type"))
	}
	// A host that the client makes up leads nowhere.
	r := s.stranger().with("X-Forwarded-Host", "evil.example").get(t, "/")
	assert.Contains(t, fronts, r.header.Get("Location"))
}
