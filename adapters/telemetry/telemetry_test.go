package telemetry_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/nexus-protocol/nexus/adapters/a2aclient"
	"github.com/nexus-protocol/nexus/adapters/httpapi"
	"github.com/nexus-protocol/nexus/adapters/inprocess"
	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/adapters/sqlite"
	"github.com/nexus-protocol/nexus/adapters/telemetry"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
	"github.com/nexus-protocol/nexus/ports/portstest"
)

func provider(opts ...sdk.TracerProviderOption) (*telemetry.Tracing, *tracetest.InMemoryExporter) {
	spans := tracetest.NewInMemoryExporter()
	return telemetry.NewTracing(sdk.NewTracerProvider(append(opts, sdk.WithSyncer(spans))...)), spans
}

func TestTracer(t *testing.T) {
	here, _ := provider()
	elsewhere, _ := provider()
	require.NoError(t, portstest.Tracer(t.Context(), here, elsewhere))
}

func TestATracerThatIsNotThereRecordsNothing(t *testing.T) {
	var none *telemetry.Tracing
	ctx, span := none.Start(t.Context(), ports.SpanWork, "x")
	span.End(nil)
	require.Equal(t, t.Context(), ctx)
	require.Empty(t, none.Traceparent(none.Resume(ctx, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")))
	require.Equal(t, http.DefaultTransport, none.Transport(http.DefaultTransport))
	require.NoError(t, none.Close(t.Context()))
	for name, value := range map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "", "OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "none"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
			t.Setenv(name, value)
			got, err := telemetry.OpenTracing(t.Context(), telemetry.Options{})
			require.NoError(t, err)
			require.Nil(t, got)
		})
	}
}

func TestOfAnErrorOnlyACodeIsRecorded(t *testing.T) {
	tracing, spans := provider()
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("secret: %w", fault.New(fault.NotFound, fault.CodeTaskNotFound, "secret")), "TASK_NOT_FOUND"},
		{&ports.CallError{Code: task.ErrUnreachable, Message: "secret"}, "AGENT_UNREACHABLE"},
		{&ports.CallError{Code: "secret"}, "_OTHER"},
		{fmt.Errorf("secret: %w", context.DeadlineExceeded), "DEADLINE_EXCEEDED"},
		{fmt.Errorf("secret: %w", context.Canceled), "CANCELED"},
		{ports.ErrLeaseLost, "LEASE_LOST"},
		{ports.ErrDuplicate, "DUPLICATE"},
		{errors.New("secret"), "_OTHER"},
	} {
		spans.Reset()
		_, span := tracing.Start(t.Context(), ports.SpanWork, "x")
		span.End(c.err)
		got := spans.GetSpans()[0]
		require.Equal(t, codes.Error, got.Status.Code)
		require.Equal(t, c.want, attr(got, "error.type"))
		require.NotContains(t, fmt.Sprintf("%+v", got), "secret")
	}
}

// rig is an engine on SQLite with its API and a true agent, watched over in all ways.
type rig struct {
	t       testing.TB
	api     *httptest.Server
	agent   *httptest.Server
	store   *sqlite.Store
	path    string
	spans   *tracetest.InMemoryExporter
	metrics *telemetry.Metrics
	log     *lockedBuffer

	mu       sync.Mutex
	answers  []http.HandlerFunc // of the agent, in their order; the last one again and again
	received []http.Header      // by the agent, with what was posted
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newRig(t testing.TB) *rig {
	t.Helper()
	tracing, spans := provider()
	r := newRigWith(t, tracing)
	r.spans = spans
	return r
}

// newRigWith makes a rig without traces if tracing is nil.
func newRigWith(t testing.TB, tracing *telemetry.Tracing) *rig {
	t.Helper()
	r := &rig{t: t, path: filepath.Join(t.TempDir(), "nexus.db"), log: &lockedBuffer{}}
	require.NoError(t, sqlite.Migrate(t.Context(), r.path))
	var opts []sqlite.Option
	var tracer ports.Tracer
	if tracing != nil {
		opts, tracer = append(opts, sqlite.WithTracer(tracing)), tracing
	}
	store, err := sqlite.Open(t.Context(), r.path, opts...)
	require.NoError(t, err)
	r.store = store
	r.metrics = telemetry.NewMetrics(telemetry.MetricsOptions{Version: "v1", Stats: store.Read().Stats, Pools: store.Pools, KeepFor: time.Nanosecond})
	r.agent = httptest.NewServer(http.HandlerFunc(r.serveAgent))
	engine, err := app.New(app.Config{
		Store: store, Queue: inprocess.New(store, time.Now, inprocess.Options{SweepEvery: 20 * time.Millisecond}),
		Agents: telemetry.Agents(a2aclient.New(tracing.Transport(&http.Transport{}), nil), tracing, r.metrics),
		Guard:  memory.OpenGuard{}, Schema: memory.Schemas{}, Hasher: memory.NewHasher(), Limits: memory.NewLimiter(time.Now),
		Now: time.Now, NewID: memory.NewID, Random: rand.Reader, Sole: true, Tracer: tracer, Observe: r.metrics,
		Logger: slog.New(slog.NewJSONHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- engine.Worker.Run(ctx, time.Second) }()
	r.api = httptest.NewServer(httpapi.New(engine, httpapi.Options{Observe: telemetry.Requests(tracing, r.metrics)}))
	t.Cleanup(func() {
		r.api.Close()
		stop()
		require.NoError(t, <-done)
		r.agent.Close()
		require.NoError(t, store.Close())
	})
	return r
}

func (r *rig) serveAgent(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if req.Method == http.MethodGet {
		_, _ = io.WriteString(w, `{"name":"test"}`)
		return
	}
	r.mu.Lock()
	r.received = append(r.received, req.Header.Clone())
	answer := r.answers[0]
	if len(r.answers) > 1 {
		r.answers = r.answers[1:]
	}
	r.mu.Unlock()
	answer(w, req)
}

func says(state string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in struct{ ID json.RawMessage }
		_ = json.NewDecoder(r.Body).Decode(&in)
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"kind":"task","id":"remote","contextId":"c","status":{"state":%q},"artifacts":[]}}`, in.ID, state)
	}
}

func (r *rig) call(method, path string, header http.Header, body, data any) int {
	r.t.Helper()
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		require.NoError(r.t, err)
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.api.URL+path, in)
	require.NoError(r.t, err)
	req.Header = header.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	require.NoError(r.t, err)
	defer func() { _ = res.Body.Close() }()
	if data != nil {
		require.NoError(r.t, json.NewDecoder(res.Body).Decode(&struct{ Data any }{data}))
	}
	for _, c := range res.Cookies() {
		header.Set("Cookie", c.Name+"="+c.Value)
	}
	return res.StatusCode
}

// user signs up and returns the header that shows it.
func (r *rig) user(email, password string) http.Header {
	r.t.Helper()
	header := http.Header{}
	require.Equal(r.t, http.StatusCreated, r.call("POST", "/auth/signup", header, map[string]string{"email": email, "password": password}, nil))
	require.NotEmpty(r.t, header.Get("Cookie"))
	return header
}

func (r *rig) register(owner http.Header, path string) string {
	r.t.Helper()
	var out struct{ ID string }
	require.Equal(r.t, http.StatusCreated, r.call("POST", "/api/v1/agents", owner, map[string]any{"name": "Agent", "endpoint": r.agent.URL + path, "pricePerTask": 10}, &out))
	return out.ID
}

// run has a task done and returns its id.
func (r *rig) run(asker http.Header, body map[string]any, want string) string {
	r.t.Helper()
	var out struct{ ID, Status string }
	require.Equal(r.t, http.StatusAccepted, r.call("POST", "/api/v1/tasks", asker, body, &out))
	require.Eventually(r.t, func() bool {
		r.call("GET", "/api/v1/tasks/"+out.ID, asker, nil, &out)
		return out.Status == want
	}, 20*time.Second, 5*time.Millisecond)
	return out.ID
}

func attr(s tracetest.SpanStub, key string) string {
	for _, a := range s.Attributes {
		if string(a.Key) == key {
			return a.Value.String()
		}
	}
	return ""
}

// tree is the spans of one trace.
type tree struct {
	t     testing.TB
	spans []tracetest.SpanStub
}

// trace waits until the spans of the task's trace that carry names are there, each as often as asked for.
func (r *rig) trace(id trace.TraceID, want map[string]int) tree {
	r.t.Helper()
	var out tree
	require.Eventually(r.t, func() bool {
		out = tree{t: r.t}
		seen := map[string]int{}
		for _, s := range r.spans.GetSpans() {
			if s.SpanContext.TraceID() == id {
				out.spans = append(out.spans, s)
				seen[s.Name]++
			}
		}
		for name, n := range want {
			if seen[name] < n {
				return false
			}
		}
		return true
	}, 10*time.Second, 5*time.Millisecond, "spans are missing")
	return out
}

func (tr tree) named(name string) (out []tracetest.SpanStub) {
	for _, s := range tr.spans {
		if s.Name == name {
			out = append(out, s)
		}
	}
	return out
}

// parent is the span above.
func (tr tree) parent(s tracetest.SpanStub) tracetest.SpanStub {
	tr.t.Helper()
	for _, p := range tr.spans {
		if p.SpanContext.SpanID() == s.Parent.SpanID() {
			return p
		}
	}
	require.Fail(tr.t, "no parent in the trace", s.Name)
	return s
}

const (
	callersTrace = "0af7651916cd43dd8448eb211c80319c"
	callersSpan  = "b7ad6b7169203331"
)

// A task that fails once, is then worked on for a while, and completes is one trace: the caller's.
func TestOneTaskIsOneTrace(t *testing.T) {
	r := newRig(t)
	r.answers = []http.HandlerFunc{
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }, says("working"), says("completed"),
	}
	asker, owner := r.user("asker@example.com", "correct horse"), r.user("owner@example.com", "correct horse")
	agentID := r.register(owner, "/a2a")
	asker.Set("Traceparent", "00-"+callersTrace+"-"+callersSpan+"-01")
	asker.Set("Tracestate", "vendor=secret")
	var out struct{ ID, Status string }
	require.Equal(t, http.StatusAccepted, r.call("POST", "/api/v1/tasks", asker, map[string]any{"assignedAgentId": agentID, "title": "Do it"}, &out))
	asker.Del("Traceparent")
	require.Eventually(t, func() bool {
		r.call("GET", "/api/v1/tasks/"+out.ID, asker, nil, &out)
		return out.Status == "completed"
	}, 20*time.Second, 5*time.Millisecond)

	id, err := trace.TraceIDFromHex(callersTrace)
	require.NoError(t, err)
	tr := r.trace(id, map[string]int{"task.forward": 3, "unit of work": 4})
	request := tr.named("POST /api/v1/tasks")
	require.Len(t, request, 1)
	require.Equal(t, callersSpan, request[0].Parent.SpanID().String())
	require.Equal(t, trace.SpanKindServer, request[0].SpanKind)
	require.Equal(t, "202", attr(request[0], "http.response.status_code"))
	require.Equal(t, "/api/v1/tasks", attr(request[0], "http.route"))

	units := tr.named("unit of work")
	var created tracetest.SpanStub
	for _, u := range units {
		if tr.parent(u).Name == "POST /api/v1/tasks" {
			created = u
		}
	}
	require.NotEmpty(t, created.Name)
	jobs := tr.named("task.forward")
	require.Len(t, jobs, 3)
	attempts := map[string]bool{}
	for _, j := range jobs {
		require.Equal(t, created.SpanContext.SpanID(), j.Parent.SpanID(), "a job is below the unit that enqueued it")
		require.Equal(t, out.ID, attr(j, "nexus.task.id"))
		require.Equal(t, trace.SpanKindConsumer, j.SpanKind)
		attempts[attr(j, "nexus.job.attempt")] = true
	}
	require.Len(t, attempts, 3)
	calls := append(tr.named("agent.send"), tr.named("agent.follow")...)
	require.Len(t, calls, 3)
	outcomes := map[string]int{}
	for _, c := range calls {
		require.Equal(t, "task.forward", tr.parent(c).Name)
		outcomes[attr(c, "nexus.agent.outcome")]++
	}
	require.Equal(t, map[string]int{"AGENT_ERROR": 1, "working": 1, "done": 1}, outcomes)
	posts := tr.named("POST")
	require.Len(t, posts, 3)
	sent := map[string]bool{}
	for _, p := range posts {
		require.Contains(t, []string{"agent.send", "agent.follow"}, tr.parent(p).Name)
		require.Equal(t, "127.0.0.1", attr(p, "server.address"))
		sent["00-"+callersTrace+"-"+p.SpanContext.SpanID().String()+"-01"] = true
	}
	r.mu.Lock()
	for _, h := range r.received {
		require.True(t, sent[h.Get("Traceparent")], "the agent got %q", h.Get("Traceparent"))
		require.Empty(t, h.Values("Tracestate"), "what a caller wrote there is not for the agent")
		require.Empty(t, h.Values("Baggage"))
	}
	r.mu.Unlock()

	for name, below := range map[string][]string{
		"INSERT tasks": {"unit of work"}, "INSERT jobs": {"unit of work"}, "COMMIT": {"unit of work"}, "DELETE jobs": {"unit of work"},
		"INSERT ledger_entries": {"unit of work"}, "SELECT tasks": {"task.forward", "unit of work"}, "UPDATE tasks": {"task.forward", "unit of work"},
	} {
		found := tr.named(name)
		require.NotEmpty(t, found, name)
		for _, s := range found {
			require.Contains(t, below, tr.parent(s).Name, name)
			require.Equal(t, "sqlite", attr(s, "db.system.name"))
		}
	}
	require.Len(t, tr.named("COMMIT"), 4, "of the units that created it and that took in the three answers")
	for _, s := range tr.spans {
		if s.Parent.SpanID().String() != callersSpan {
			tr.parent(s) // is in the trace
		}
		if s.Name != "agent.send" {
			require.NotEqual(t, codes.Error, s.Status.Code, s.Name)
		}
	}
}

func TestWhatIsTooOftenIsNotTraced(t *testing.T) {
	r := newRig(t)
	require.Equal(t, http.StatusOK, r.call("GET", "/livez", nil, nil, nil))
	require.Equal(t, http.StatusOK, r.call("GET", "/readyz", nil, nil, nil))
	time.Sleep(100 * time.Millisecond) // the sweepers look several times
	require.Empty(t, r.spans.GetSpans())
	require.Equal(t, http.StatusNotFound, r.call("POST", "/nowhere/secret?token=secret", nil, nil, nil))
	require.Len(t, r.spans.GetSpans(), 1)
	require.Equal(t, "POST unmatched", r.spans.GetSpans()[0].Name)
}

// What is planted in every place that a stranger can write to, and every secret there is, is found nowhere.
func TestCanaries(t *testing.T) {
	r := newRig(t)
	canaries := []string{"canary-password", "canary-email", "canary-title", "canary-text", "canary-input", "canary-path", "canary-agent", "canary-answer", "canary-query", "canary-comment", "canary-method"}
	r.answers = []http.HandlerFunc{func(w http.ResponseWriter, req *http.Request) {
		var in struct{ ID json.RawMessage }
		_ = json.NewDecoder(req.Body).Decode(&in)
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"kind":"task","id":"canary-answer","status":{"state":"completed","message":{"kind":"message","messageId":"m","role":"agent","parts":[{"kind":"text","text":"canary-answer"}]}},"artifacts":[]}}`, in.ID)
	}, func(w http.ResponseWriter, req *http.Request) {
		var in struct{ ID json.RawMessage }
		_ = json.NewDecoder(req.Body).Decode(&in)
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32000,"message":"canary-answer"}}`, in.ID)
	}}
	asker, owner := r.user("canary-email@example.com", "canary-password"), r.user("owner@example.com", "canary-password-2")
	agentID := r.register(owner, "/canary-path?key=canary-query")
	own := r.register(asker, "/canary-path")
	var key struct{ Key string }
	require.Equal(t, http.StatusCreated, r.call("POST", "/api/v1/agents/"+own+"/api-keys", asker, map[string]any{"name": "canary-comment", "scopes": []string{"*"}}, &key))
	require.NotEmpty(t, key.Key)
	canaries = append(canaries, key.Key, strings.TrimPrefix(asker.Get("Cookie"), "nexus_session="))
	byKey := http.Header{"Authorization": {"Bearer " + key.Key}}
	body := map[string]any{"assignedAgentId": agentID, "title": "canary-title", "description": "canary-text", "input": map[string]any{"text": "canary-input"}}
	id := r.run(byKey, body, "completed")
	r.run(byKey, body, "failed")
	require.Equal(t, http.StatusCreated, r.call("POST", "/api/v1/trust/"+agentID+"/rate", byKey, map[string]any{"taskId": id, "rating": 5, "comment": "canary-comment"}, nil))
	require.Equal(t, http.StatusOK, r.call("GET", "/api/v1/discover?query=canary-query&tags=canary-query&skillTags=canary-query", byKey, nil, nil))
	r.call("GET", "/api/v1/tasks/canary-path?x=canary-query", byKey, nil, nil)
	r.call("POST", "/auth/login", http.Header{}, map[string]string{"email": "canary-email@example.com", "password": "canary-password-wrong"}, nil)
	r.call("POST", "/auth/signup", http.Header{}, map[string]string{"email": "canary-email@example.com", "password": "canary-password"}, nil)
	r.call("canary-method", "/canary-path", byKey, nil, nil)
	require.Equal(t, http.StatusOK, r.call("GET", "/api/v1/agents/"+own+"/api-keys", byKey, nil, nil))
	require.Equal(t, http.StatusOK, r.call("GET", "/api/v1/tasks", byKey, nil, nil))
	require.Equal(t, http.StatusOK, r.call("GET", "/api/v1/billing/transactions", byKey, nil, nil))

	spans := r.spans.GetSpans()
	require.Greater(t, len(spans), 100)
	var all strings.Builder
	for _, s := range spans {
		fmt.Fprintf(&all, "%s|%s|%v|%v|%v|%v\n", s.Name, s.Status.Description, s.Attributes, s.Events, s.Links, s.Resource.Attributes())
	}
	body2, _ := r.scrape(t)
	for where, text := range map[string]string{"spans": all.String(), "metrics": body2, "log": r.log.String()} {
		for _, c := range canaries {
			require.NotContains(t, text, c, where)
		}
		require.NotContains(t, text, "nxk_", where)
	}
	// An attribute that is new is looked at before it gets here.
	for _, s := range spans {
		for _, a := range s.Attributes {
			require.Contains(t, []attribute.Key{
				"http.request.method", "http.route", "http.response.status_code", "server.address", "db.system.name", "db.operation.name", "db.collection.name",
				"nexus.task.id", "nexus.agent.id", "nexus.job.attempt", "nexus.agent.outcome", "nexus.commit.units", "error.type",
			}, a.Key)
		}
		require.Empty(t, s.Events)
	}
}

func (r *rig) scrape(t *testing.T) (string, map[string]*dto.MetricFamily) {
	t.Helper()
	return scrape(t, r.metrics)
}

func scrape(t *testing.T, m *telemetry.Metrics) (string, map[string]*dto.MetricFamily) {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler(telemetry.Door{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	body := w.Body.String()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	require.NoError(t, err)
	return body, families
}

// value is the metric of the family with these labels.
func value(t *testing.T, families map[string]*dto.MetricFamily, name string, labels ...string) float64 {
	t.Helper()
	f := families[name]
	require.NotNil(t, f, name)
search:
	for _, m := range f.Metric {
		have := map[string]string{}
		for _, l := range m.Label {
			have[l.GetName()] = l.GetValue()
		}
		for i := 0; i < len(labels); i += 2 {
			if have[labels[i]] != labels[i+1] {
				continue search
			}
		}
		switch {
		case m.Counter != nil:
			return m.Counter.GetValue()
		case m.Gauge != nil:
			return m.Gauge.GetValue()
		default:
			return float64(m.Histogram.GetSampleCount())
		}
	}
	require.Fail(t, "no such metric", "%s %v in %v", name, labels, f)
	return 0
}

func TestMetricsAfterATaskAndWithoutADatabase(t *testing.T) {
	r := newRig(t)
	release := make(chan struct{})
	let := sync.OnceFunc(func() { close(release) })
	t.Cleanup(let) // a test that fails must not leave the agent waiting
	r.answers = []http.HandlerFunc{says("completed"), func(w http.ResponseWriter, req *http.Request) { <-release; says("completed")(w, req) }}
	asker, owner := r.user("asker@example.com", "correct horse"), r.user("owner@example.com", "correct horse")
	agentID := r.register(owner, "/")
	r.run(asker, map[string]any{"assignedAgentId": agentID, "title": "Do it"}, "completed")
	open := r.run(asker, map[string]any{"assignedAgentId": agentID, "title": "Wait"}, "running")
	r.call("GET", "/nowhere/"+open, asker, nil, nil)
	r.call("BREW", "/nowhere/else", asker, nil, nil)

	_, got := r.scrape(t)
	for _, c := range []struct {
		want   float64
		name   string
		labels []string
	}{
		{2, "nexus_http_requests_total", []string{"route", "/api/v1/tasks", "method", "POST", "status", "202"}},
		{1, "nexus_http_requests_total", []string{"route", "unmatched", "method", "GET", "status", "404"}},
		{1, "nexus_http_requests_total", []string{"route", "unmatched", "method", "_OTHER", "status", "404"}},
		{2, "nexus_http_request_duration_seconds", []string{"route", "/api/v1/tasks", "method", "POST", "status", "202"}},
		{0, "nexus_http_requests_in_flight", nil},
		{1, "nexus_tasks_open", []string{"state", "running"}},
		{0, "nexus_tasks_open", []string{"state", "assigned"}},
		{1, "nexus_tasks_ended_total", []string{"state", "completed"}},
		{0, "nexus_tasks_ended_total", []string{"state", "failed"}},
		{0, "nexus_payment_events_total", []string{"outcome", "refused"}},
		{1, "nexus_jobs", []string{"priority", "interactive", "state", "running"}},
		{0, "nexus_jobs", []string{"priority", "interactive", "state", "waiting"}},
		{1, "nexus_jobs", []string{"priority", "housekeeping", "state", "later"}},
		{0, "nexus_job_oldest_age_seconds", []string{"priority", "interactive"}},
		{1, "nexus_agent_call_duration_seconds", []string{"operation", "send", "outcome", "done"}},
		{2000 - 10 - 10 + 9.5, "nexus_ledger_credits", []string{"account", "available"}},
		{10, "nexus_ledger_credits", []string{"account", "held"}},
		{0.5, "nexus_ledger_credits", []string{"account", "fees"}},
		{-2000, "nexus_ledger_credits", []string{"account", "issuance"}},
		{0, "nexus_ledger_imbalance_credits", nil},
		{0, "nexus_scrape_errors_total", []string{"part", "ledger"}},
		{1, "nexus_db_connections_max", []string{"pool", "writes"}},
		{1, "nexus_build_info", []string{"version", "v1"}},
	} {
		require.Equal(t, c.want, value(t, got, c.name, c.labels...), "%s %v", c.name, c.labels)
	}
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes", "nexus_db_waits_total", "nexus_db_wait_seconds_total"} {
		require.NotNil(t, got[name], name)
	}
	for name, f := range got {
		require.NotContains(t, fmt.Sprint(f), agentID, name)
	}

	require.Eventually(t, func() bool { // chores write at any time
		_, got := r.scrape(t)
		return value(t, got, "nexus_db_connections", "pool", "writes", "state", "in_use") == 0
	}, 10*time.Second, time.Millisecond)
	let()
	require.Eventually(t, func() bool {
		_, got := r.scrape(t)
		return value(t, got, "nexus_tasks_ended_total", "state", "completed") == 2
	}, 10*time.Second, 10*time.Millisecond)

	require.NoError(t, r.store.Close())
	_, gone := r.scrape(t)
	for _, name := range []string{"nexus_tasks_open", "nexus_jobs", "nexus_job_oldest_age_seconds", "nexus_ledger_credits", "nexus_ledger_imbalance_credits"} {
		require.Nil(t, gone[name], name)
	}
	for _, part := range []string{"tasks", "jobs", "ledger"} {
		require.Equal(t, 1.0, value(t, gone, "nexus_scrape_errors_total", "part", part))
	}
	require.Equal(t, 2.0, value(t, gone, "nexus_tasks_ended_total", "state", "completed"))
}

// counted counts how often the store is asked, and answers slowly if told to.
type counted struct {
	ports.StatsReader
	mu    sync.Mutex
	n     int
	stuck bool
}

func (c *counted) OpenTasks(ctx context.Context) (map[task.Status]int, error) {
	c.mu.Lock()
	c.n++
	c.mu.Unlock()
	if c.stuck {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return c.StatsReader.OpenTasks(ctx)
}

func TestScrapingCannotLoadTheStore(t *testing.T) {
	stats := &counted{StatsReader: memory.New().Read().Stats}
	m := telemetry.NewMetrics(telemetry.MetricsOptions{Stats: stats})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 20 {
				m.Handler(telemetry.Door{}).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/metrics", nil))
			}
		})
	}
	all.Wait()
	require.Equal(t, 1, stats.n)

	stuck := telemetry.NewMetrics(telemetry.MetricsOptions{Stats: &counted{StatsReader: memory.New().Read().Stats, stuck: true}})
	began := time.Now()
	_, got := scrape(t, stuck)
	require.Less(t, time.Since(began), 5*time.Second)
	require.Nil(t, got["nexus_tasks_open"])
	require.Equal(t, 0.0, value(t, got, "nexus_ledger_imbalance_credits"), "what can be read is there")
}

func TestTheDoor(t *testing.T) {
	m := telemetry.NewMetrics(telemetry.MetricsOptions{})
	ask := func(d telemetry.Door, method, path, host, authorization string) int {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(method, path, nil)
		r.Host = host
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		m.Handler(d).ServeHTTP(w, r)
		return w.Code
	}
	for host, want := range map[string]int{
		"127.0.0.1:9464": 200, "localhost:9464": 200, "[::1]:9464": 200, "[::1]": 200, "127.0.0.1": 200, "127.9.9.9:1": 200,
		"evil.example:9464": 403, "10.0.0.1:9464": 403, "": 403, "localhost.evil.example": 403,
	} {
		require.Equal(t, want, ask(telemetry.Door{Local: true}, "GET", "/metrics", host, ""), host)
	}
	require.Equal(t, 200, ask(telemetry.Door{}, "GET", "/metrics", "nexus:9464", ""))
	for authorization, want := range map[string]int{
		"": 401, "Bearer ": 401, "Bearer t0ken": 200, "Bearer t0ke": 401, "Bearer t0ken2": 401, "t0ken": 401, "Basic t0ken": 401,
	} {
		require.Equal(t, want, ask(telemetry.Door{Token: "t0ken"}, "GET", "/metrics", "nexus:9464", authorization), authorization)
	}
	require.Equal(t, 405, ask(telemetry.Door{}, "POST", "/metrics", "x", ""))
	require.Equal(t, 404, ask(telemetry.Door{}, "GET", "/", "x", ""))
	require.Equal(t, 404, ask(telemetry.Door{}, "GET", "/debug/pprof/", "x", ""))
}

type receivers func(ports.Notification) error

// Notify implements ports.Notifier.
func (f receivers) Notify(_ context.Context, n ports.Notification) error { return f(n) }

func TestPushNotificationsAreCountedByWhatCameOfThem(t *testing.T) {
	t.Parallel()
	m := telemetry.NewMetrics(telemetry.MetricsOptions{})
	answers := map[string]error{
		"taken": nil, "refused": &ports.NotifyError{Reason: "secret"}, "gone": fmt.Errorf("secret: %w", &ports.NotifyError{Reason: "secret", Gone: true}), "canceled": context.Canceled,
	}
	n := telemetry.Notifications(receivers(func(n ports.Notification) error { return answers[n.Config.Name] }), m)
	before, _ := scrape(t, m)
	require.Contains(t, before, `nexus_push_duration_seconds_count{outcome="refused"} 0`, "an alert can tell none from unknown")
	for outcome, err := range answers {
		require.Equal(t, err, n.Notify(t.Context(), ports.Notification{Config: task.PushConfig{Name: outcome, URL: "http://secret.example"}}))
	}
	text, families := scrape(t, m)
	for outcome := range answers {
		require.InDelta(t, 1, value(t, families, "nexus_push_duration_seconds", "outcome", outcome), 0)
	}
	require.NotContains(t, text, "secret")
	same := receivers(func(ports.Notification) error { return nil })
	require.IsType(t, same, telemetry.Notifications(same, nil))
}

// The dashboard shows what there is, by its right name and labels.
func TestTheDashboardUsesWhatIsExported(t *testing.T) {
	r := newRig(t)
	r.answers = []http.HandlerFunc{says("completed")}
	asker, owner := r.user("asker@example.com", "correct horse"), r.user("owner@example.com", "correct horse")
	r.run(asker, map[string]any{"assignedAgentId": r.register(owner, "/"), "title": "Do it"}, "completed")
	_, exported := r.scrape(t)
	used := map[string]bool{}
	b, err := os.ReadFile("../../docs/grafana/nexus.json")
	require.NoError(t, err)
	var doc any
	require.NoError(t, json.Unmarshal(b, &doc))
	metric := regexp.MustCompile(`\b(nexus|go|process)_[a-z0-9_]+`)
	selector := regexp.MustCompile(`\b((?:nexus|go|process)_[a-z0-9_]+)\{([^}]*)\}`)
	label := regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)`)
	family := func(name string) *dto.MetricFamily {
		if exported[name] == nil {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				if base, ok := strings.CutSuffix(name, suffix); ok && exported[base] != nil {
					return exported[base]
				}
			}
		}
		return exported[name]
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, child := range v {
				expr, isText := child.(string)
				if !isText || k != "expr" && k != "query" && k != "definition" {
					walk(child)
					continue
				}
				for _, name := range metric.FindAllString(expr, -1) {
					f := family(name)
					require.NotNil(t, f, "%s in %s", name, expr)
					used[f.GetName()] = true
				}
				for _, m := range selector.FindAllStringSubmatch(expr, -1) {
					for _, l := range label.FindAllStringSubmatch(m[2], -1) {
						if l[1] == "job" || l[1] == "instance" { // Prometheus's own
							continue
						}
						require.Contains(t, fmt.Sprint(family(m[1])), `"`+l[1]+`"`, expr)
					}
				}
			}
		case []any:
			for _, child := range v {
				walk(child)
			}
		}
	}
	walk(doc)
	text, err := os.ReadFile("../../docs/telemetry.md")
	require.NoError(t, err)
	for name := range exported {
		if strings.HasPrefix(name, "nexus_") {
			require.True(t, used[name], "the dashboard does not show %s", name)
			require.Contains(t, string(text), "`"+name, "docs/telemetry.md does not explain %s", name)
		}
	}
	for _, name := range metric.FindAllString(string(text), -1) {
		if strings.HasPrefix(name, "nexus_") {
			require.NotNil(t, family(name), "docs/telemetry.md names %s", name)
		}
	}
}

// BenchmarkRequests is what it costs a request to be watched over.
func BenchmarkRequests(b *testing.B) {
	tracing := telemetry.NewTracing(sdk.NewTracerProvider())
	never := telemetry.NewTracing(sdk.NewTracerProvider(sdk.WithSampler(sdk.NeverSample())))
	m := telemetry.NewMetrics(telemetry.MetricsOptions{})
	for name, observe := range map[string]func(*http.Request) (context.Context, func(string, int)){
		"metrics": telemetry.Requests(nil, m), "metrics and traces": telemetry.Requests(tracing, m), "metrics, not sampled": telemetry.Requests(never, m),
	} {
		b.Run(name, func(b *testing.B) {
			r := httptest.NewRequest("GET", "/api/v1/agents", nil)
			b.ReportAllocs()
			for b.Loop() {
				_, done := observe(r)
				done("GET /api/v1/agents", 200)
			}
		})
	}
}

// BenchmarkTask is a task from POST until it is completed, with traces off, on, and on but not sampled.
func BenchmarkTask(b *testing.B) {
	on := func(s sdk.Sampler) *telemetry.Tracing {
		p := sdk.NewTracerProvider(sdk.WithBatcher(tracetest.NewNoopExporter()), sdk.WithSampler(s))
		b.Cleanup(func() { _ = p.Shutdown(context.Background()) })
		return telemetry.NewTracing(p)
	}
	for _, c := range []struct {
		name    string
		tracing *telemetry.Tracing
	}{{"off", nil}, {"on", on(sdk.AlwaysSample())}, {"not sampled", on(sdk.NeverSample())}} {
		b.Run(c.name, func(b *testing.B) {
			r := newRigWith(b, c.tracing)
			r.answers = []http.HandlerFunc{says("completed")}
			owner := r.user("owner@example.com", "correct horse")
			agentID := r.register(owner, "/")
			body := map[string]any{"assignedAgentId": agentID, "title": "Do it"}
			b.ReportAllocs()
			for b.Loop() {
				var out struct{ ID, Status string }
				require.Equal(b, http.StatusAccepted, r.call("POST", "/api/v1/tasks", owner, body, &out))
				for out.Status != "completed" {
					time.Sleep(time.Millisecond)
					r.call("GET", "/api/v1/tasks/"+out.ID, owner, nil, &out)
				}
			}
		})
	}
}

func TestLinesOfTheLogSayTheirTrace(t *testing.T) {
	tracing, _ := provider()
	var b bytes.Buffer
	log := slog.New(tracing.Logs(slog.NewTextHandler(&b, nil))).With("a", 1)
	log.InfoContext(t.Context(), "outside")
	require.NotContains(t, b.String(), "trace_id")
	ctx := tracing.Resume(t.Context(), "00-"+callersTrace+"-"+callersSpan+"-01")
	log.InfoContext(ctx, "inside")
	require.Contains(t, b.String(), "trace_id="+callersTrace+" span_id="+callersSpan)
	var none *telemetry.Tracing
	inner := slog.NewTextHandler(&b, nil)
	require.Equal(t, slog.Handler(inner), none.Logs(inner))
}
