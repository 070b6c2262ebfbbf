package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/nexus-protocol/nexus/adapters/postgres/postgrestest"
	"github.com/nexus-protocol/nexus/adapters/redistest"
)

// receivedSpan is a span as it came in by OTLP.
type receivedSpan struct {
	trace, id, parent, name, role, service string
	attrs                                  map[string]string
}

// receiver is a collector of traces.
type receiver struct {
	url   string
	mu    sync.Mutex
	spans []receivedSpan
	raw   strings.Builder
	odd   []string // what was not as it should be
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		var in collector.ExportTraceServiceRequest
		r.mu.Lock()
		defer r.mu.Unlock()
		if err != nil || req.URL.Path != "/v1/traces" || proto.Unmarshal(body, &in) != nil {
			r.odd = append(r.odd, fmt.Sprint(req.Method, " ", req.URL, " ", err))
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		r.raw.Write(body)
		for _, rs := range in.ResourceSpans {
			about := map[string]string{}
			for _, a := range rs.Resource.Attributes {
				about[a.Key] = a.Value.GetStringValue()
			}
			for _, ss := range rs.ScopeSpans {
				for _, s := range ss.Spans {
					attrs := map[string]string{}
					for _, a := range s.Attributes {
						attrs[a.Key] = a.Value.GetStringValue()
					}
					r.spans = append(r.spans, receivedSpan{
						trace: hex.EncodeToString(s.TraceId), id: hex.EncodeToString(s.SpanId), parent: hex.EncodeToString(s.ParentSpanId), name: s.Name,
						role: about["nexus.role"], service: about["service.name"], attrs: attrs,
					})
				}
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(srv.Close)
	r.url = srv.URL
	return r
}

// task returns the spans of the trace that a task is in, by name, once all of the names are there.
func (r *receiver) task(t *testing.T, id string, names ...string) map[string][]receivedSpan {
	t.Helper()
	var out map[string][]receivedSpan
	require.Eventually(t, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		traces := map[string]bool{}
		for _, s := range r.spans {
			if s.attrs["nexus.task.id"] == id {
				traces[s.trace] = true
			}
		}
		if len(traces) > 1 {
			t.Errorf("the task is in %d traces", len(traces))
		}
		out = map[string][]receivedSpan{}
		for _, s := range r.spans {
			if traces[s.trace] {
				out[s.name] = append(out[s.name], s)
			}
		}
		for _, name := range names {
			if len(out[name]) == 0 {
				return false
			}
		}
		return true
	}, 20*time.Second, 20*time.Millisecond, "of the trace there is only %v", out)
	return out
}

// A task that one process takes on and another one does is one trace, on each database and queue.
func TestATaskIsOneTraceAcrossProcesses(t *testing.T) {
	for name, withRedis := range map[string]bool{"postgres": false, "postgres and redis": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spans := newReceiver(t)
			endpoint, _ := agent(t, func() time.Duration { return 0 })
			api := newServer(t)
			api.db, api.role = postgrestest.URL(t), "api"
			if withRedis {
				api.rds = redistest.URL(t)
			}
			worker := api.beside("worker")
			for _, s := range []*server{api, worker} {
				s.more = []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + spans.url, "OTEL_BSP_SCHEDULE_DELAY=100", "OTEL_SERVICE_NAME=nexus-test"}
				s.start()
			}
			c := api.signUp("canary-email@example.com")
			agentID := api.register(c, endpoint+"/canary-path?canary-query", 1)
			for i := range 3 {
				var out taskJSON
				_, err := c.call("POST", "/api/v1/tasks?canary-query", map[string]any{"assignedAgentId": agentID, "title": "canary-title", "input": map[string]any{"text": "canary-input"}}, &out)
				require.NoError(t, err)
				got := spans.task(t, out.ID, "POST /api/v1/tasks", "INSERT jobs", "task.forward", "agent.send", "POST", "DELETE jobs", "COMMIT")
				request, job, send, post := got["POST /api/v1/tasks"], got["task.forward"], got["agent.send"], got["POST"]
				require.Len(t, request, 1)
				require.Len(t, job, 1)
				require.Empty(t, request[0].parent)
				require.Equal(t, "api", request[0].role)
				require.Equal(t, "worker", job[0].role)
				require.Equal(t, "nexus-test", job[0].service)
				require.Equal(t, job[0].id, send[0].parent)
				require.Equal(t, send[0].id, post[0].parent)
				units := map[string]receivedSpan{}
				for _, u := range got["unit of work"] {
					units[u.id] = u
				}
				require.Equal(t, request[0].id, units[job[0].parent].parent, "the job is below the unit that took the task on")
				for _, commit := range got["COMMIT"] {
					require.Contains(t, units, commit.parent, "task %d", i)
				}
			}
			require.NoError(t, worker.stop())
			require.NoError(t, api.stop())
			spans.mu.Lock()
			defer spans.mu.Unlock()
			require.Empty(t, spans.odd)
			for _, canary := range []string{"canary", "correct horse", "nxk_", c.cookie.Value, "postgres:/", "NEXUS_"} {
				require.NotContains(t, spans.raw.String(), canary)
			}
		})
	}
}

// With one process, and with a collector that is not there, which harms nobody.
func TestTracesOfOneProcess(t *testing.T) {
	t.Parallel()
	spans := newReceiver(t)
	endpoint, _ := agent(t, func() time.Duration { return 0 })
	s := newServer(t)
	s.more = []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + spans.url}
	s.start()
	c := s.signUp("a@example.com")
	agentID := s.register(c, endpoint, 1)
	done := func() string {
		var out taskJSON
		_, err := c.call("POST", "/api/v1/tasks", map[string]any{"assignedAgentId": agentID, "title": "x"}, &out)
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			_, err := c.call("GET", "/api/v1/tasks/"+out.ID, nil, &out)
			return err == nil && (out.Status == "completed" || out.Status == "failed")
		}, 10*time.Second, 5*time.Millisecond)
		return out.ID
	}
	id := done()
	require.NoError(t, s.stop(), "what was not sent yet is sent at the end")
	require.Len(t, spans.task(t, id, "agent.send")["POST /api/v1/tasks"], 1)

	spans.mu.Lock()
	before := len(spans.spans)
	spans.mu.Unlock()
	for _, more := range [][]string{
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", "OTEL_BSP_SCHEDULE_DELAY=10"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=" + spans.url, "OTEL_TRACES_SAMPLER=always_off"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=" + spans.url, "OTEL_SDK_DISABLED=true"},
		{},
	} {
		s.more = more
		s.start()
		done()
		require.NoError(t, s.stop())
	}
	spans.mu.Lock()
	defer spans.mu.Unlock()
	require.Len(t, spans.spans, before)
}

// scrape gets the metrics of a process.
func (s *server) scrape(t *testing.T, token string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequest("GET", "http://"+s.metrics+"/metrics", nil)
	require.NoError(t, err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(b)
}

// Every process has metrics; not on the API's listener; and also while the database is away.
func TestMetricsOfEachProcess(t *testing.T) {
	t.Parallel()
	endpoint, _ := agent(t, func() time.Duration { return 0 })
	api := newServer(t)
	url, database := between(t, postgrestest.URL(t))
	api.db, api.role = url, "api"
	worker := api.beside("worker")
	for _, s := range []*server{api, worker} {
		s.metrics = freeAddr(t)
		s.more = []string{"NEXUS_METRICS_TOKEN=t0ken"}
		s.start()
	}
	c := api.signUp("canary-email@example.com")
	agentID := api.register(c, endpoint, 5)
	var out taskJSON
	for out.ID == "" || out.ID[len(out.ID)-1] == '0' || out.ID[len(out.ID)-1] == '7' { // to which the agent says no
		_, err := c.call("POST", "/api/v1/tasks", map[string]any{"assignedAgentId": agentID, "title": "canary-title"}, &out)
		require.NoError(t, err)
	}
	var body string
	require.Eventually(t, func() bool {
		_, body = worker.scrape(t, "t0ken")
		return strings.Contains(body, "\nnexus_tasks_ended_total{state=\"completed\"} 1\n")
	}, 20*time.Second, 50*time.Millisecond)
	require.Contains(t, body, `nexus_agent_call_duration_seconds_count{operation="send",outcome="done"} 1`)
	require.Contains(t, body, "\nnexus_ledger_imbalance_credits 0\n")
	require.Contains(t, body, `nexus_ledger_credits{account="issuance"} -1000`)
	require.Contains(t, body, `nexus_db_connections_max{pool="reads"} 8`)
	require.Contains(t, body, "\ngo_goroutines ")
	_, body = api.scrape(t, "t0ken")
	require.Contains(t, body, `nexus_http_requests_total{method="POST",route="/api/v1/tasks",status="202"}`)
	require.NotContains(t, body, "canary")
	require.NotContains(t, body, agentID)

	status, refused := api.scrape(t, "")
	require.Equal(t, http.StatusUnauthorized, status)
	require.NotContains(t, refused, "nexus_")
	for _, s := range []*server{api, worker} {
		status, err := (&client{base: s.url()}).call("GET", "/metrics", nil, nil)
		require.Equal(t, http.StatusNotFound, status, "%v", err)
	}

	// First it says nothing any more, then it is gone.
	_, err := database.Toxics.AddToxicJson(strings.NewReader(`{"type": "timeout", "stream": "downstream", "attributes": {"timeout": 0}}`))
	require.NoError(t, err)
	for _, away := range []func(){func() {}, database.Stop} {
		away()
		errors := regexp.MustCompile(`nexus_scrape_errors_total\{part="ledger"\} (\d+)`)
		before := errors.FindStringSubmatch(body)
		require.Eventually(t, func() bool {
			began := time.Now()
			status, body = worker.scrape(t, "t0ken")
			require.Equal(t, http.StatusOK, status)
			require.Less(t, time.Since(began), 8*time.Second)
			now := errors.FindStringSubmatch(body)
			return len(now) == 2 && (len(before) == 0 && now[1] != "0" || len(before) == 2 && now[1] != before[1])
		}, 30*time.Second, 200*time.Millisecond)
		require.NotContains(t, body, "nexus_ledger_credits{")
		require.NotContains(t, body, "nexus_tasks_open{")
		require.Contains(t, body, `nexus_tasks_ended_total{state="completed"} 1`)
	}
}

func TestTheMetricsAddress(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.metrics = freeAddr(t)
	s.start()
	status, _ := s.scrape(t, "")
	require.Equal(t, http.StatusOK, status)
	second := newServer(t)
	second.metrics = s.metrics
	_, err := second.run("", "serve")
	require.ErrorContains(t, err, "NEXUS_METRICS_ADDR", "an address that was asked for must be had")
}
