package httpapi

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/inprocess"
	"github.com/nexus-protocol/nexus/adapters/internal/websession"
	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/domain/trust"
	"github.com/nexus-protocol/nexus/ports"
)

// testEngine is an engine in memory whose worker does not run.
func testEngine(t *testing.T, store ports.Store) *app.Engine {
	t.Helper()
	now := time.Now() // of the limits: however long the test takes, nothing is allowed again
	e, err := app.New(app.Config{
		Store: store, Queue: inprocess.New(store, time.Now, inprocess.Options{}), Agents: memory.NewAgents(), Guard: memory.OpenGuard{},
		Schema: memory.Schemas{}, Hasher: memory.NewHasher(), Limits: memory.NewLimiter(func() time.Time { return now }), Now: time.Now, NewID: memory.NewID, Random: rand.Reader,
	})
	require.NoError(t, err)
	return e
}

// ask sends a request to a handler.
func ask(h http.Handler, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", typeJSON)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func errorOf(t *testing.T, w *httptest.ResponseRecorder) (code string, details map[string]any) {
	t.Helper()
	var e errorJSON
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &e), w.Body.String())
	return string(e.Error.Code), e.Error.Details
}

// withRoutes is a server that has only the routes that mount adds.
func withRoutes(t *testing.T, log io.Writer, mount func(*server)) *server {
	t.Helper()
	return newServer(testEngine(t, memory.New()), Options{Logger: slog.New(slog.NewJSONHandler(log, nil))}, mount)
}

func TestEveryKindAndCodeHasItsRow(t *testing.T) {
	for k := fault.Internal; k <= fault.Unavailable; k++ {
		assert.Contains(t, statuses, k)
	}
	assert.Len(t, statuses, int(fault.Unavailable)+1)
	for _, c := range fault.Codes() {
		assert.Contains(t, kinds, c)
		assert.NotEmpty(t, kinds[c].when, c)
	}
	assert.Len(t, kinds, len(fault.Codes()))
	// A kind that nobody has heard of is the server's fault, not the caller's.
	assert.Equal(t, http.StatusInternalServerError, statusOf(fault.Kind(200), "NEW"))
}

func TestRouteWithoutARuleDoesNotStart(t *testing.T) {
	nothing := func(context.Context, *struct{}) (one[healthJSON], error) { return one[healthJSON]{}, nil }
	for name, mount := range map[string]func(*server){
		"an operation": func(s *server) {
			register(s, route{method: "GET", path: "/x", id: "x", status: http.StatusOK}, nothing)
		},
		"a page": func(s *server) {
			s.handle(route{method: "GET", path: "/x"}, func(*exchange, *http.Request) {})
		},
		"past register": func(s *server) {
			huma.Register(s.api, huma.Operation{Method: "GET", Path: "/x"}, func(context.Context, *struct{}) (*reply, error) { return nil, nil })
		},
		"a parameter of unknown kind": func(s *server) {
			register(s, route{method: "GET", path: "/x/{who}", id: "x", access: caller, status: http.StatusOK},
				func(context.Context, *struct {
					Who string `path:"who"`
				},
				) (one[healthJSON], error) {
					return one[healthJSON]{}, nil
				})
		},
		"a query of unknown type": func(s *server) {
			register(s, route{method: "GET", path: "/x", id: "x", access: caller, status: http.StatusOK},
				func(context.Context, *struct {
					Tags []string `query:"tags"`
				},
				) (one[healthJSON], error) {
					return one[healthJSON]{}, nil
				})
		},
	} {
		assert.Panics(t, func() { withRoutes(t, io.Discard, mount) }, name)
	}
}

// TestNoRouteIsPublicByMistake walks every route there is, documented or not.
func TestNoRouteIsPublicByMistake(t *testing.T) {
	s := New(testEngine(t, memory.New()), Options{}).(*server)
	var open []string
	for _, rt := range s.routes {
		if rt.access == public {
			open = append(open, rt.method+" "+rt.path)
		}
		path := regexp.MustCompile(`\{\w+\}`).ReplaceAllString(strings.TrimSuffix(rt.path, "{$}"), "01890000-0000-7000-8000-000000000000")
		w := ask(s, rt.method, path, "")
		assert.Equal(t, rt.access != public, w.Code == http.StatusUnauthorized, "%s %s: %d", rt.method, rt.path, w.Code)
		if rt.id != "" && rt.access == caller {
			assert.NotEmpty(t, rt.scope, rt.id)
			assert.Contains(t, identity.AllScopes(), identity.Scope(rt.scope), rt.id)
		}
	}
	slices.Sort(open)
	assert.Equal(t, []string{
		"GET /api/v1/billing/packages", "GET /api/v1/health", "GET /assets/{file}", "GET /auth/callback/{provider}", "GET /auth/forgot-password", "GET /auth/login", "GET /auth/reset-password", "GET /auth/signup",
		"GET /auth/verify-email", "GET /auth/ways", "GET /auth/with/{provider}", "GET /billing/return", "GET /docs", "GET /docs/reference", "GET /docs/reference/{group}", "GET /livez", "GET /openapi.json", "GET /readyz", "GET /{$}",
		"POST /api/v1/billing/webhook", "POST /auth/forgot-password", "POST /auth/login", "POST /auth/logout", "POST /auth/reset-password", "POST /auth/signup", "POST /auth/token", "POST /auth/verify-email",
	}, open)
}

type openAnswer struct {
	Words string `json:"words" doc:"What is said."`
}

// TestEveryRouteIsInTheDocument walks every route there is: each is in the OpenAPI document and on the page, also those that
// are served for others. A final slash is no other route.
func TestEveryRouteIsInTheDocument(t *testing.T) {
	s := New(testEngine(t, memory.New()), Options{
		Open: []OpenRoute{{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }),
			Method:  "POST", Path: "/open/{agentId}", Slash: true, ID: "open", Tag: "Open", TagText: "Of others.", Summary: "Say something",
			Params: map[string]string{"agentId": "Whose.", "X-Word": "A word.", "Authorization": "A key."},
			Body:   openAnswer{}, Answers: map[int]any{200: openAnswer{}, 204: nil, 418: openAnswer{}}, Says: map[int]string{418: "It is a teapot."}, Events: openAnswer{},
		}},
	}).(*server)
	var doc struct {
		Paths      map[string]map[string]struct{ Summary string }
		Components struct{ Schemas map[string]any }
	}
	text := ask(s, "GET", "/openapi.json", "").Body.String()
	require.NoError(t, json.Unmarshal([]byte(text), &doc))
	page := ask(s, "GET", "/docs/reference", "").Body.String()
	for _, rt := range s.routes {
		if rt.path == assetPath {
			continue
		}
		path := strings.TrimSuffix(rt.path, "{$}")
		if rt.id == "" && path != "/" {
			path = strings.TrimSuffix(path, "/")
		}
		assert.NotEmpty(t, doc.Paths[path][strings.ToLower(rt.method)].Summary, "%s %s", rt.method, rt.path)
		assert.Contains(t, page, "<code>"+rt.path[:len(path)]+"</code>", "%s %s", rt.method, rt.path)
	}
	assert.Contains(t, doc.Components.Schemas, "OpenAnswer")
	group := ask(s, "GET", "/docs/reference/open", "").Body.String()
	for _, words := range []string{"It is a teapot.", "What is said.", "A word.", "Of others.", "Whose."} {
		assert.Contains(t, group, words)
		assert.Contains(t, text, words)
	}
	assert.Equal(t, http.StatusTeapot, ask(s, "POST", "/open/x/", "{}").Code)
	assert.Equal(t, http.StatusTeapot, ask(s, "POST", "/open/x", "{}").Code)
}

func TestSessionRoutesTakeNoKey(t *testing.T) {
	s := withRoutes(t, io.Discard, func(s *server) {
		s.mountAuth()
		s.mountAgents()
		s.mountKeys()
		s.handle(route{method: "GET", path: "/api/dashboard/x", access: session}, func(x *exchange, _ *http.Request) { x.WriteHeader(http.StatusNoContent) })
	})
	cookie, agentID := account(t, s)
	w := ask(s, "POST", "/api/v1/agents/"+agentID+"/api-keys", `{"name":"a","scopes":["*"]}`, "Cookie", cookie)
	var key one[newKeyJSON]
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &key))
	bearer := "Bearer " + key.Data.Key
	assert.Equal(t, http.StatusOK, ask(s, "GET", "/api/v1/agents", "", "Authorization", bearer).Code)
	assert.Equal(t, http.StatusNoContent, ask(s, "GET", "/api/dashboard/x", "", "Cookie", cookie).Code)
	assert.Equal(t, http.StatusUnauthorized, ask(s, "GET", "/api/dashboard/x", "", "Authorization", bearer).Code)
	assert.Equal(t, http.StatusUnauthorized, ask(s, "GET", "/api/dashboard/x", "", "Authorization", bearer, "Cookie", cookie).Code)
}

func TestUnclassifiedErrorsAreOpaque(t *testing.T) {
	for name, fails := range map[string]func() error{
		"an error":              func() error { return errors.New("pq: secret table is gone") },
		"an internal fault":     func() error { return fault.New(fault.Internal, fault.CodeInternal, "secret").With("secret", 1) },
		"wrapped":               func() error { return fmt.Errorf("x: %w", fault.New(fault.Internal, fault.CodeInternal, "secret")) },
		"a panic":               func() error { panic("secret") },
		"a panic of the Go's":   func() error { var m map[string]int; m["secret"]++; return nil }, //nolint:staticcheck // it is meant to
		"an answer not of JSON": func() error { return nil },
	} {
		var log strings.Builder
		s := withRoutes(t, &log, func(s *server) {
			register(s, route{method: "GET", path: "/x", id: "x", access: public, status: http.StatusOK},
				func(context.Context, *struct{}) (one[anything], error) {
					return one[anything]{anything("{secret")}, fails()
				})
		})
		w := ask(s, "GET", "/x", "", "X-Request-Id", "req-7")
		assert.Equal(t, http.StatusInternalServerError, w.Code, name)
		code, details := errorOf(t, w)
		assert.Equal(t, "INTERNAL_ERROR", code, name)
		assert.Equal(t, map[string]any{"requestId": "req-7"}, details, name)
		assert.NotContains(t, w.Body.String(), "secret", name)
		assert.Contains(t, log.String(), `"level":"ERROR"`, name)
		assert.Contains(t, log.String(), "req-7", name)
		assert.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
	}
}

func TestErrorAfterTheAnswerBegan(t *testing.T) {
	s := withRoutes(t, io.Discard, func(s *server) {
		s.handle(route{method: "GET", path: "/x", access: public}, func(x *exchange, _ *http.Request) {
			_, _ = x.Write([]byte("{"))
			panic("too late")
		})
	})
	srv := httptest.NewServer(s)
	defer srv.Close()
	res, err := http.Get(srv.URL + "/x") //nolint:noctx // a test
	if err == nil {
		_, err = io.ReadAll(res.Body)
		_ = res.Body.Close()
	}
	assert.Error(t, err, "a broken answer must not look whole")
}

func TestJoinedFaultsNameEveryField(t *testing.T) {
	one, two := fault.Fields{}, fault.Fields{}
	one.Add("a", "1")
	two.Add("b", "2")
	f := join(fmt.Errorf("x: %w", errors.Join(one.Err(), two.Err())))
	require.NotNil(t, f)
	assert.Equal(t, []fault.Field{{Path: "a", Message: "1"}, {Path: "b", Message: "2"}}, f.Details["fields"])
	gone := registry.NotFound("x")
	assert.Equal(t, gone, join(errors.Join(gone, two.Err())))
	assert.Nil(t, join(errors.Join(errors.New("x"))))
	assert.Nil(t, join(nil))
}

func TestDetailsOnTheWire(t *testing.T) {
	var fields fault.Fields
	fields.Add("a", "b")
	f, _ := fault.As(fields.Err())
	out, err := json.Marshal(detailsJSON(f.With("required", credits.Amount(1050)).With("n", 3).Details))
	require.NoError(t, err)
	assert.JSONEq(t, `{"fields":[{"path":"a","message":"b"}],"required":10.5,"n":3}`, string(out))
}

type hostError struct{ Teapot bool }

func (hostError) GetStatus() int { return http.StatusTeapot }
func (hostError) Error() string  { return "I'm the host's" }

// TestHostsErrorsStayTheHosts builds a server in a program that has its own form of huma's errors: neither sees the
// other's.
func TestHostsErrorsStayTheHosts(t *testing.T) {
	oldError, oldWith := huma.NewError, huma.NewErrorWithContext
	defer func() { huma.NewError, huma.NewErrorWithContext = oldError, oldWith }()
	huma.NewError = func(int, string, ...error) huma.StatusError { return hostError{} }
	huma.NewErrorWithContext = func(huma.Context, int, string, ...error) huma.StatusError { return hostError{} }
	s := New(testEngine(t, memory.New()), Options{})
	assert.Equal(t, hostError{}, huma.NewError(0, ""))
	assert.Equal(t, hostError{}, huma.NewErrorWithContext(nil, 0, ""))
	w := ask(s, "POST", "/auth/signup", `{"email":1}`)
	assert.Equal(t, http.StatusBadRequest, w.Code)
	code, _ := errorOf(t, w)
	assert.Equal(t, "VALIDATION_ERROR", code)
	doc := ask(s, "GET", "/openapi.json", "").Body.String()
	assert.NotContains(t, doc, "eapot")
	assert.NotContains(t, doc, "foreign")
	assert.NotContains(t, doc, "ErrorModel")
}

// TestDocumentedLimitsAreTheDomains keeps the limits that the OpenAPI document speaks of at what the domain enforces.
func TestDocumentedLimitsAreTheDomains(t *testing.T) {
	s := New(testEngine(t, memory.New()), Options{}).(*server)
	schemas := s.api.OpenAPI().Components.Schemas.Map()
	number := func(n int) *int { return &n }
	float := func(n float64) *float64 { return &n }
	for path, want := range map[string]*int{
		"CreateAgentBody.name": number(registry.MaxName), "CreateAgentBody.description": number(registry.MaxDescription),
		"CreateAgentBody.endpoint": number(registry.MaxEndpoint), "CreateAgentBody.category": number(registry.MaxTag), "CreateAgentBody.tags": number(registry.MaxTag),
		"PatchAgentBody.name": number(registry.MaxName), "PatchAgentBody.description": number(registry.MaxDescription),
		"PatchAgentBody.endpoint": number(registry.MaxEndpoint), "PatchAgentBody.category": number(registry.MaxTag), "PatchAgentBody.tags": number(registry.MaxTag),
		"SkillBody.id": number(registry.MaxSkillID), "SkillBody.name": number(registry.MaxName), "SkillBody.description": number(registry.MaxDescription), "SkillBody.tags": number(registry.MaxTag),
		"CreateTaskBody.title": number(task.MaxTitle), "CreateTaskBody.description": number(task.MaxDescription),
		"RateBody.comment": number(trust.MaxComment),
	} {
		typ, field, _ := strings.Cut(path, ".")
		schema := schemas[typ].Properties[field]
		if schema.Type == huma.TypeArray {
			schema = schema.Items
		}
		assert.Equal(t, want, schema.MaxLength, path)
	}
	price := float64(registry.MaxPrice / credits.Credit)
	for path, want := range map[string][2]*float64{
		"CreateAgentBody.pricePerTask": {float(0), float(price)}, "PatchAgentBody.pricePerTask": {float(0), float(price)},
		"CreateTaskBody.timeoutSeconds":   {float(task.MinTimeout.Seconds()), float(task.MaxTimeout.Seconds())},
		"CreateTaskBody.maxBudgetCredits": {float(0), nil}, "CreateTaskBody.minTrustScore": {float(0), float(100)},
		"CreateKeyBody.expiresInDays": {float(1), float(identity.MaxKeyDays)}, "RateBody.rating": {float(1), float(5)},
	} {
		typ, field, _ := strings.Cut(path, ".")
		schema := schemas[typ].Properties[field]
		assert.Equal(t, want, [2]*float64{schema.Minimum, schema.Maximum}, path)
	}
	enum := func(of any, path string) {
		typ, field, _ := strings.Cut(path, ".")
		var want []any
		for v := reflect.ValueOf(of); len(want) < v.Len(); {
			want = append(want, v.Index(len(want)).String())
		}
		assert.ElementsMatch(t, want, schemas[typ].Properties[field].Enum, path)
	}
	enum(task.Statuses(), "Task.status")
	enum(registry.Statuses(), "Agent.status")
	enum(fault.Codes(), "ErrorBody.code")
	for _, scope := range identity.AllScopes() {
		assert.Contains(t, schemas["CreateKeyBody"].Properties["scopes"].Description, string(scope))
	}
}

// brokenStore is a store that cannot be reached.
type brokenStore struct{ ports.Store }

func (brokenStore) Ping(context.Context) error { return errors.New("dial tcp 10.0.0.1: refused") }

func TestReady(t *testing.T) {
	w := ask(New(testEngine(t, brokenStore{memory.New()}), Options{}), "GET", "/readyz", "")
	assert.Equal(t, http.StatusServiceUnavailable, w.Code)
	code, _ := errorOf(t, w)
	assert.Equal(t, "UNAVAILABLE", code)
	assert.NotContains(t, w.Body.String(), "10.0.0.1")

	checks := map[string]func(context.Context) error{
		"redis": func(context.Context) error { return errors.New("dial tcp 10.0.0.1: refused") },
		"agent": func(context.Context) error { return nil },
	}
	s := New(testEngine(t, memory.New()), Options{ReadyChecks: checks})
	w = ask(s, "GET", "/readyz", "")
	assert.Equal(t, http.StatusServiceUnavailable, w.Code)
	_, details := errorOf(t, w)
	assert.Equal(t, map[string]any{"redis": "down"}, details)
	assert.NotContains(t, w.Body.String(), "10.0.0.1")
	assert.Equal(t, http.StatusOK, ask(s, "GET", "/livez", "").Code)
	assert.Equal(t, http.StatusOK, ask(s, "GET", "/api/v1/health", "").Code)
	checks["redis"] = checks["agent"]
	assert.Equal(t, http.StatusOK, ask(s, "GET", "/readyz", "").Code)
}

func TestCookiesAreForHTTPSWhereThereIsHTTPS(t *testing.T) {
	n := 0
	signUp := func(opt Options, change func(*http.Request)) string {
		n++
		r := httptest.NewRequest("POST", "/auth/signup", strings.NewReader(fmt.Sprintf(`{"email":"u%d@example.com","password":"0123456789"}`, n)))
		r.Header.Set("Content-Type", typeJSON)
		change(r)
		w := httptest.NewRecorder()
		New(testEngine(t, memory.New()), opt).ServeHTTP(w, r)
		require.Equal(t, http.StatusCreated, w.Code, w.Body.String())
		return w.Header().Get("Set-Cookie")
	}
	plain := func(*http.Request) {}
	assert.NotContains(t, signUp(Options{}, plain), "Secure")
	assert.NotContains(t, signUp(Options{PublicURL: "http://nexus.example"}, plain), "Secure")
	assert.NotContains(t, signUp(Options{}, func(r *http.Request) { r.Header.Set("X-Forwarded-Proto", "https") }), "Secure")
	assert.Contains(t, signUp(Options{PublicURL: "https://nexus.example"}, plain), "; Secure")
	assert.Contains(t, signUp(Options{SecureCookies: true}, plain), "; Secure")
	assert.Contains(t, signUp(Options{}, func(r *http.Request) { r.TLS = &tls.ConnectionState{} }), "; Secure")
	// The server's own pages come from its public URL, whatever a proxy makes of the host.
	own := func(r *http.Request) {
		r.Header.Set("Origin", "https://nexus.example")
		r.Header.Set("Sec-Fetch-Site", "cross-site")
	}
	signUp(Options{PublicURL: "https://nexus.example"}, own)
}

func TestClientAddress(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	for _, test := range []struct {
		remote    string
		forwarded []string
		trusted   []netip.Prefix
		want      string
	}{
		{"192.0.2.1:5", nil, nil, "192.0.2.1"},
		{"192.0.2.1:5", []string{"1.1.1.1"}, nil, "192.0.2.1"},
		{"192.0.2.1:5", []string{"1.1.1.1"}, proxies, "192.0.2.1"},
		{"10.0.0.1:5", nil, proxies, "10.0.0.1"},
		{"10.0.0.1:5", []string{"1.1.1.1, 192.0.2.9"}, proxies, "192.0.2.9"},
		{"10.0.0.1:5", []string{"1.1.1.1, 192.0.2.9, 10.2.3.4"}, proxies, "192.0.2.9"},
		{"10.0.0.1:5", []string{"1.1.1.1", "192.0.2.9"}, proxies, "192.0.2.9"},
		{"10.0.0.1:5", []string{"10.9.9.9"}, proxies, "10.9.9.9"},
		{"10.0.0.1:5", []string{"192.0.2.9, nonsense"}, proxies, "10.0.0.1"},
		{"10.0.0.1:5", []string{"192.0.2.9:4711"}, proxies, "192.0.2.9"},
		{"[::ffff:10.0.0.1]:5", []string{"192.0.2.9"}, proxies, "192.0.2.9"},
		{"[::1]:5", []string{"2001:db8:1:2:3:4:5:6"}, proxies, "2001:db8:1:2::/64"},
		{"[2001:db8:1:2:ffff::1]:5", nil, nil, "2001:db8:1:2::/64"},
		{"somewhere", nil, nil, "somewhere"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = test.remote
		r.Header["X-Forwarded-For"] = test.forwarded
		s := &server{opt: Options{TrustedProxies: test.trusted}}
		assert.Equal(t, test.want, s.clientAddress(r), "%+v", test)
	}
}

// TestForwardedForIsNoWayAroundTheLimit makes up an address for each log-in.
func TestForwardedForIsNoWayAroundTheLimit(t *testing.T) {
	logIns := func(opt Options) (limited int) {
		s := New(testEngine(t, memory.New()), opt)
		for i := range 70 {
			w := ask(s, "POST", "/auth/login", fmt.Sprintf(`{"email":"u%d@example.com","password":"0123456789"}`, i), "X-Forwarded-For", fmt.Sprintf("198.51.100.%d", i))
			if w.Code == http.StatusTooManyRequests {
				limited++
				assert.NotEmpty(t, w.Header().Get("Retry-After"))
			}
		}
		return limited
	}
	assert.Positive(t, logIns(Options{RateLimit: true}))
	assert.Zero(t, logIns(Options{}))
	assert.Zero(t, logIns(Options{RateLimit: true, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})) // httptest's
}

func TestAccessLog(t *testing.T) {
	var log strings.Builder
	s := New(testEngine(t, memory.New()), Options{Logger: slog.New(slog.NewJSONHandler(&log, nil))})
	last := func() map[string]any {
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		var line map[string]any
		require.NoError(t, json.Unmarshal([]byte(lines[len(lines)-1]), &line))
		return line
	}
	w := ask(s, "POST", "/auth/signup", `{"email":"a@example.com","password":"secret secret"}`)
	cookie := strings.Split(w.Header().Get("Set-Cookie"), ";")[0]
	ask(s, "GET", "/api/v1/agents/01890000-0000-7000-8000-000000000000?secret=1", "", "Cookie", cookie, "X-Request-Id", "req-8")
	line := last()
	for field, want := range map[string]any{"msg": "request", "method": "GET", "route": "GET /api/v1/agents/{agentId}", "status": 404.0, "request_id": "req-8"} {
		assert.Equal(t, want, line[field], field)
	}
	assert.NotEmpty(t, line["user"])
	assert.Positive(t, line["bytes"])
	assert.Contains(t, line, "duration")
	ask(s, "GET", "/secret", "")
	assert.Equal(t, "unmatched", last()["route"])
	assert.NotContains(t, log.String(), "secret")
	assert.NotContains(t, log.String(), strings.TrimPrefix(cookie, "nexus_session="))
}

func TestPagesUseWhatThePolicyAllows(t *testing.T) {
	s := New(testEngine(t, memory.New()), Options{})
	for _, path := range []string{"/docs/reference", "/docs/reference/tasks", "/auth/login", "/auth/signup", "/auth/forgot-password"} {
		w := ask(s, "GET", path, "")
		assert.NotRegexp(t, `<style|style="|<script`, w.Body.String(), path)
		assert.Contains(t, w.Header().Get("Content-Security-Policy"), "style-src 'self'", path)
		sheets := regexp.MustCompile(`href="(/assets/[^"]+)"`).FindAllStringSubmatch(w.Body.String(), -1)
		require.NotEmpty(t, sheets, path)
		for _, sheet := range sheets {
			assert.Equal(t, http.StatusOK, ask(s, "GET", sheet[1], "").Code, sheet[1])
		}
		assert.NotContains(t, w.Body.String(), "ZgotmplZ")
	}
}

// strictStore is a store that must not be asked for what has not the form of an id.
type strictStore struct {
	ports.Store
	t *testing.T
}

type strictAgents struct {
	ports.AgentStore
	ports.AgentReader
	t *testing.T
}

func (a strictAgents) Get(ctx context.Context, id string) (registry.Agent, error) {
	assert.True(a.t, isUUID(id), "%q reached the store", id)
	return a.AgentReader.Get(ctx, id)
}

func (a strictAgents) ListByOwner(ctx context.Context, id string, p ports.Page) ([]registry.Agent, int, error) {
	return a.AgentReader.ListByOwner(ctx, id, p)
}

func (a strictAgents) Discover(ctx context.Context, q registry.Query, now time.Time) ([]registry.Agent, int, error) {
	return a.AgentReader.Discover(ctx, q, now)
}

func (a strictAgents) Lock(ctx context.Context, id string) (registry.Agent, error) {
	assert.True(a.t, isUUID(id), "%q reached the store", id)
	return a.AgentStore.Lock(ctx, id)
}

type strictTasks struct {
	ports.TaskStore
	t *testing.T
}

func (s strictTasks) Lock(ctx context.Context, id string) (task.Task, error) {
	assert.True(s.t, isUUID(id), "%q reached the store", id)
	return s.TaskStore.Lock(ctx, id)
}

type strictTaskReader struct {
	ports.TaskReader
	t *testing.T
}

func (s strictTaskReader) History(ctx context.Context, id string) (task.Task, []task.Event, error) {
	assert.True(s.t, isUUID(id), "%q reached the store", id)
	return s.TaskReader.History(ctx, id)
}

type strictKeys struct {
	ports.KeyStore
	t *testing.T
}

func (s strictKeys) Revoke(ctx context.Context, agentID, keyID string, at time.Time) error {
	assert.True(s.t, isUUID(keyID), "%q reached the store", keyID)
	return s.KeyStore.Revoke(ctx, agentID, keyID, at)
}

func (s strictStore) Read() ports.Reads {
	r := s.Store.Read()
	r.Agents, r.Tasks = strictAgents{AgentReader: r.Agents, t: s.t}, strictTaskReader{r.Tasks, s.t}
	return r
}

func (s strictStore) Update(ctx context.Context, fn func(context.Context, ports.Tx) error) error {
	return s.Store.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
		tx.Agents, tx.Tasks, tx.Keys = strictAgents{tx.Agents, tx.Agents, s.t}, strictTasks{tx.Tasks, s.t}, strictKeys{tx.Keys, s.t}
		return fn(ctx, tx)
	})
}

// account signs up and registers an agent.
func account(t *testing.T, h http.Handler) (cookie, agentID string) {
	t.Helper()
	w := ask(h, "POST", "/auth/signup", `{"email":"a@example.com","password":"0123456789"}`)
	cookie = strings.Split(w.Header().Get("Set-Cookie"), ";")[0]
	w = ask(h, "POST", "/api/v1/agents", `{"name":"a","endpoint":"http://a.test"}`, "Cookie", cookie)
	var made one[agentJSON]
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &made))
	return cookie, made.Data.ID
}

func TestWhatIsNoIDNeverReachesTheStore(t *testing.T) {
	s := New(testEngine(t, strictStore{memory.New(), t}), Options{}).(*server)
	cookie, agentID := account(t, s)
	bodies := map[string]string{
		"PATCH": "{}", "create-api-key": `{"name":"x","scopes":["*"]}`, "rate-agent": `{"taskId":"a b","rating":5}`,
		"create-task": `{"assignedAgentId":"a b","title":"x"}`,
	}
	for _, rt := range s.routes {
		params := regexp.MustCompile(`\{\w+\}`).FindAllString(rt.path, -1)
		if len(params) == 0 && bodies[rt.id] == "" {
			continue
		}
		path := rt.path
		for i, p := range params {
			value := "a%00b"
			if i < len(params)-1 || bodies[rt.id] != "" {
				value = agentID
			}
			path = strings.Replace(path, p, value, 1)
		}
		body := bodies[rt.id]
		if body == "" {
			body = bodies[rt.method]
		}
		w := ask(s, rt.method, path, body, "Cookie", cookie)
		if rt.id != "create-api-key" {
			assert.Equal(t, http.StatusNotFound, w.Code, "%s %s: %s", rt.method, path, w.Body)
		}
	}
	assert.Equal(t, http.StatusBadRequest, ask(s, "GET", "/api/v1/tasks?assignedAgentId=a%20b", "", "Cookie", cookie).Code)
}

type unreadable struct{ t *testing.T }

func (u unreadable) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

// TestTooLargeIsRefusedUnread goes by what the header says.
func TestTooLargeIsRefusedUnread(t *testing.T) {
	s := New(testEngine(t, memory.New()), Options{})
	r := httptest.NewRequest("POST", "/auth/signup", unreadable{t})
	r.Header.Set("Content-Type", typeJSON)
	r.ContentLength = maxBody + 1
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	assert.Equal(t, http.StatusRequestEntityTooLarge, w.Code)
	assert.Equal(t, "close", w.Header().Get("Connection"))
}

// TestBodyShorterThanItsHeaderSays talks to the server without an HTTP client, which would not lie.
func TestBodyShorterThanItsHeaderSays(t *testing.T) {
	srv := httptest.NewServer(New(testEngine(t, memory.New()), Options{}))
	defer srv.Close()
	for _, length := range []string{"Content-Length: 500", "Transfer-Encoding: chunked"} {
		conn, err := net.Dial("tcp", srv.Listener.Addr().String()) //nolint:noctx // a test
		require.NoError(t, err)
		_, err = fmt.Fprintf(conn, "POST /auth/signup HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%s\r\n\r\n{\"email\":", length)
		require.NoError(t, err)
		require.NoError(t, conn.(*net.TCPConn).CloseWrite())
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		assert.Equal(t, http.StatusBadRequest, res.StatusCode)
		_ = res.Body.Close()
		_ = conn.Close()
	}
}

func TestServe(t *testing.T) {
	begun, finish := make(chan struct{}, 2), make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun <- struct{}{}
		select {
		case <-finish:
			_, _ = io.WriteString(w, "done")
		case <-r.Context().Done():
		}
	})
	for name, grace := range map[string]time.Duration{"in time": 10 * time.Second, "cut off": 50 * time.Millisecond} {
		ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test
		require.NoError(t, err)
		url := "http://" + ln.Addr().String()
		ctx, stop := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- Serve(ctx, ln, h, grace) }()
		answered := make(chan string, 1)
		go func() {
			res, err := http.Get(url) //nolint:noctx // a test
			if err != nil {
				answered <- "error"
				return
			}
			defer func() { _ = res.Body.Close() }()
			b, _ := io.ReadAll(res.Body)
			answered <- string(b)
		}()
		<-begun
		stop()
		require.Eventually(t, func() bool {
			conn, err := net.Dial("tcp", ln.Addr().String()) //nolint:noctx // a test
			if err == nil {
				_ = conn.Close()
			}
			return err != nil
		}, 5*time.Second, 5*time.Millisecond, "no new connections")
		if name == "in time" {
			finish <- struct{}{}
			assert.Equal(t, "done", <-answered)
		} else {
			assert.Equal(t, "error", <-answered)
		}
		assert.NoError(t, <-served, name)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	assert.Error(t, Serve(t.Context(), ln, h, time.Second))
}

func TestLocalPath(t *testing.T) {
	for path, want := range map[string]string{
		"/": "/", "/a?b=c#d": "/a?b=c#d", "": "else", "a": "else", "//a": "else", "/\\a": "else", "\\\\a": "else", "http://a/": "else", "/\x00": "else",
		"/\n/a": "else", "/%zz": "else", "javascript:alert(1)": "else", "///a": "else", "/a//b": "/a//b", " /a": "else",
	} {
		assert.Equal(t, want, websession.LocalPath(path, "else"), path)
	}
}
