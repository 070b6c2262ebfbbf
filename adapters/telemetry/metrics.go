package telemetry

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/nexus-protocol/nexus/domain/billing"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

var (
	_ ports.Observer    = (*Metrics)(nil)
	_ ports.AgentCaller = (*agents)(nil)
	_ ports.Notifier    = (*notifications)(nil)
)

// MetricsOptions are the settings of NewMetrics; zero values are the defaults.
type MetricsOptions struct {
	Logger  *slog.Logger        // default: discards
	Version string              // of the program
	Stats   ports.StatsReader   // default: nothing is said of what is in the store
	Pools   func() []ports.Pool // default: nothing is said of connections
	Now     func() time.Time    // the engine's clock; default time.Now
	// KeepFor is how long what was read from the store is shown before it is read again; default 10 s.
	KeepFor time.Duration
}

// Metrics counts and measures for Prometheus, in a registry of its own.
type Metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
	ended    *prometheus.CounterVec
	paid     *prometheus.CounterVec
	calls    *prometheus.HistogramVec
	pushes   *prometheus.HistogramVec
}

// NewMetrics makes metrics that have seen nothing.
func NewMetrics(opt MetricsOptions) *Metrics {
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.KeepFor <= 0 {
		opt.KeepFor = 10 * time.Second
	}
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "nexus_http_requests_total", Help: "Requests that were answered, by the pattern of their route.",
		}, []string{"route", "method", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "nexus_http_request_duration_seconds", Help: "From a request to the end of its answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
		}, []string{"route", "method", "status"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "nexus_http_requests_in_flight", Help: "Requests that are being answered."}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "nexus_tasks_ended_total", Help: "Tasks that this process ended, by the state they ended in.",
		}, []string{"state"}),
		paid: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "nexus_payment_events_total", Help: "Events of payments that this process did what follows from, by what came of them.",
		}, []string{"outcome"}),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "nexus_agent_call_duration_seconds", Help: "Calls of agents, by what was asked of them and what came of it.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}, []string{"operation", "outcome"}),
		pushes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "nexus_push_duration_seconds", Help: "Push notifications that were sent, by what came of it.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"outcome"}),
	}
	for _, outcome := range []string{pushTaken, pushRefused, pushGone} {
		m.pushes.WithLabelValues(outcome) // shown as 0 from the start
	}
	for _, s := range task.Statuses() {
		if s.Ended() {
			m.ended.WithLabelValues(string(s)) // shown as 0 from the start
		}
	}
	for _, o := range billing.Outcomes() {
		m.paid.WithLabelValues(string(o))
	}
	build := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "nexus_build_info", Help: "1; the labels say what was built, and by which Go.",
		ConstLabels: prometheus.Labels{"version": opt.Version, "goversion": runtime.Version()},
	}, func() float64 { return 1 })
	m.registry.MustRegister(m.requests, m.duration, m.inFlight, m.ended, m.paid, m.calls, m.pushes, build, newStoreCollector(opt),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// TaskEnded implements ports.Observer.
func (m *Metrics) TaskEnded(t task.Task) { m.ended.WithLabelValues(string(t.Status)).Inc() }

// PaymentHeard implements ports.Observer.
func (m *Metrics) PaymentHeard(o billing.Outcome) { m.paid.WithLabelValues(string(o)).Inc() }

// Door is who may read the metrics; the zero value lets everyone.
type Door struct {
	// Token, if set, must be shown as a bearer token.
	Token string
	// Local refuses requests that name a host other than this machine, so that no page of a browser here can read them
	// by a name that leads to the loopback address.
	Local bool
}

// answerTimeout bounds the writing of an answer, so that slow readers do not keep others out.
const answerTimeout = 30 * time.Second

// Handler serves GET /metrics and nothing else.
func (m *Metrics) Handler(door Door) http.Handler {
	serve := promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4})
	want := sha256.Sum256([]byte("Bearer " + door.Token))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTimeout)) // tests have none
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		if door.Local && !local(r.Host) {
			http.Error(w, "only for this machine", http.StatusForbidden)
			return
		}
		if got := sha256.Sum256([]byte(r.Header.Get("Authorization"))); door.Token != "" && subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "a bearer token is needed", http.StatusUnauthorized)
			return
		}
		serve.ServeHTTP(w, r)
	})
	return mux
}

// local tells a host and port of this machine.
func local(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// unmatched is the route of requests that no route took.
const unmatched = "unmatched"

var methods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodConnect, http.MethodOptions, http.MethodTrace,
}

// knownMethod is the method, unless a stranger made it up.
func knownMethod(m string) string {
	if slices.Contains(methods, m) {
		return m
	}
	return "_OTHER"
}

// probes are the paths that are asked for all the time; they get no traces.
var probes = []string{"/livez", "/readyz"}

// Requests watches over the requests of a server: call what it returns with each, go on with the context that it gives,
// and call done with the pattern of the route ("" if none took the request) and the status of the answer. A request that
// shows a place in a trace goes on with that trace. Either may be nil.
func Requests(t *Tracing, m *Metrics) func(r *http.Request) (ctx context.Context, done func(pattern string, status int)) {
	return func(r *http.Request) (context.Context, func(string, int)) {
		ctx, began, method := r.Context(), time.Now(), knownMethod(r.Method)
		var s trace.Span
		if t != nil && !slices.Contains(probes, r.URL.Path) {
			ctx, s = t.tracer.Start(t.Resume(ctx, r.Header.Get(header)), method, trace.WithSpanKind(trace.SpanKindServer))
		}
		if m != nil {
			m.inFlight.Inc()
		}
		return ctx, func(pattern string, status int) {
			route := unmatched
			if _, path, ok := strings.Cut(pattern, " "); ok {
				route = path
			}
			if s != nil {
				s.SetName(method + " " + route)
				s.SetAttributes(attribute.String("http.request.method", method), attribute.String("http.route", route), attribute.Int("http.response.status_code", status))
				if status >= http.StatusInternalServerError {
					span{s}.fail(strconv.Itoa(status))
				}
				s.End()
			}
			if m != nil {
				m.inFlight.Dec()
				m.requests.WithLabelValues(route, method, strconv.Itoa(status)).Inc()
				m.duration.WithLabelValues(route, method, strconv.Itoa(status)).Observe(time.Since(began).Seconds())
			}
		}
	}
}

// Agents watches over the calls of agents. Either of t and m may be nil.
func Agents(inner ports.AgentCaller, t *Tracing, m *Metrics) ports.AgentCaller {
	if t == nil && m == nil {
		return inner
	}
	return &agents{inner, t, m}
}

type agents struct {
	inner ports.AgentCaller
	t     *Tracing
	m     *Metrics
}

// What is asked of an agent.
const (
	opCard   = "card"
	opSend   = "send"
	opFollow = "follow"
	opCancel = "cancel"
)

// begin starts a call; done ends it.
func (a *agents) begin(ctx context.Context, operation, taskID string) (_ context.Context, done func(state ports.AnswerState, err error)) {
	began := time.Now()
	ctx, s := a.t.Start(ctx, ports.SpanCall, "agent."+operation)
	if taskID != "" {
		s.Text("nexus.task.id", taskID)
	}
	return ctx, func(state ports.AnswerState, err error) {
		outcome := string(state)
		if err != nil {
			outcome = reason(err)
		}
		s.Text("nexus.agent.outcome", outcome)
		s.End(err)
		if a.m != nil {
			a.m.calls.WithLabelValues(operation, strings.ToLower(strings.TrimPrefix(outcome, "_"))).Observe(time.Since(began).Seconds())
		}
	}
}

// callCode is the code of a call that failed, unless it is not one of those there are.
func callCode(code string) string {
	switch code {
	case task.ErrTimeout, task.ErrUnreachable, task.ErrAgent, task.ErrAgentFailed, task.ErrProtocol:
		return code
	default:
		return "_OTHER"
	}
}

// stateOf is the state of an answer, unless it is not one of those there are.
func stateOf(a ports.Answer) ports.AnswerState {
	switch a.State {
	case ports.AnswerDone, ports.AnswerWorking, ports.AnswerFailed, ports.AnswerInputRequired:
		return a.State
	default:
		return "_OTHER"
	}
}

// Card implements ports.AgentCaller.
func (a *agents) Card(ctx context.Context, endpoint string) (json.RawMessage, error) {
	ctx, done := a.begin(ctx, opCard, "")
	card, err := a.inner.Card(ctx, endpoint)
	done(ports.AnswerDone, err)
	return card, err
}

// Send implements ports.AgentCaller.
func (a *agents) Send(ctx context.Context, c ports.Call) (ports.Answer, error) {
	ctx, done := a.begin(ctx, opSend, c.TaskID)
	answer, err := a.inner.Send(ctx, c)
	done(stateOf(answer), err)
	return answer, err
}

// Follow implements ports.AgentCaller.
func (a *agents) Follow(ctx context.Context, c ports.Call) (ports.Answer, error) {
	ctx, done := a.begin(ctx, opFollow, c.TaskID)
	answer, err := a.inner.Follow(ctx, c)
	done(stateOf(answer), err)
	return answer, err
}

// Cancel implements ports.AgentCaller.
func (a *agents) Cancel(ctx context.Context, c ports.Call) error {
	ctx, done := a.begin(ctx, opCancel, c.TaskID)
	err := a.inner.Cancel(ctx, c)
	done(ports.AnswerDone, err)
	return err
}

// What comes of a push notification.
const (
	pushTaken    = "taken"
	pushRefused  = "refused" // it is sent again
	pushGone     = "gone"    // and will not be
	pushCanceled = "canceled"
)

// Notifications watches over the push notifications that are sent. m may be nil.
func Notifications(inner ports.Notifier, m *Metrics) ports.Notifier {
	if m == nil {
		return inner
	}
	return &notifications{inner, m}
}

type notifications struct {
	inner ports.Notifier
	m     *Metrics
}

// Notify implements ports.Notifier.
func (n *notifications) Notify(ctx context.Context, in ports.Notification) error {
	began, outcome := time.Now(), pushTaken
	err := n.inner.Notify(ctx, in)
	var failed *ports.NotifyError
	switch {
	case err == nil:
	case errors.As(err, &failed) && failed.Gone:
		outcome = pushGone
	case failed != nil:
		outcome = pushRefused
	default:
		outcome = pushCanceled
	}
	n.m.pushes.WithLabelValues(outcome).Observe(time.Since(began).Seconds())
	return err
}
