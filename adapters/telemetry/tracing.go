// Package telemetry lets the engine be watched: traces by OpenTelemetry, and metrics for Prometheus. What it records are
// ids, kinds, counts and codes of the program's own; nothing that a stranger wrote, no query, no body, no secret.
package telemetry

import (
	"context"
	"errors"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/ports"
)

var _ ports.Tracer = (*Tracing)(nil)

// scope is what spans say that they were made by.
const scope = "github.com/nexus-protocol/nexus"

// header is where a trace's context travels. Its companion tracestate does not: what a stranger put there would be passed
// on to other strangers.
const header = "Traceparent"

// maxTraceparent bounds what is taken for one.
const maxTraceparent = 128

// Tracing is a ports.Tracer over OpenTelemetry. A nil one records nothing.
type Tracing struct {
	tracer trace.Tracer
	close  func(context.Context) error
}

// NewTracing makes spans with a provider of the caller's, who shuts it down.
func NewTracing(p trace.TracerProvider) *Tracing {
	return &Tracing{tracer: p.Tracer(scope), close: func(context.Context) error { return nil }}
}

// Close sends what has not been sent yet, as long as ctx allows.
func (t *Tracing) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return t.close(ctx)
}

// kinds are the options that make a span of each kind.
var kinds = map[ports.SpanKind][]trace.SpanStartOption{
	ports.SpanWork:  {trace.WithSpanKind(trace.SpanKindInternal)},
	ports.SpanJob:   {trace.WithSpanKind(trace.SpanKindConsumer)},
	ports.SpanCall:  {trace.WithSpanKind(trace.SpanKindClient)},
	ports.SpanQuery: {trace.WithSpanKind(trace.SpanKindClient)},
}

// Start implements ports.Tracer.
func (t *Tracing) Start(ctx context.Context, kind ports.SpanKind, name string) (context.Context, ports.Span) {
	if t == nil || kind == ports.SpanQuery && !trace.SpanContextFromContext(ctx).IsSampled() {
		return ctx, ports.NoSpan{}
	}
	ctx, s := t.tracer.Start(ctx, name, kinds[kind]...)
	if !s.IsRecording() {
		return ctx, ports.NoSpan{}
	}
	return ctx, span{s}
}

// Traceparent implements ports.Tracer.
func (t *Tracing) Traceparent(ctx context.Context) string {
	if t == nil {
		return ""
	}
	c := trace.SpanContextFromContext(ctx)
	if !c.IsValid() {
		return ""
	}
	sampled := "-00"
	if c.IsSampled() {
		sampled = "-01"
	}
	return "00-" + c.TraceID().String() + "-" + c.SpanID().String() + sampled
}

// Resume implements ports.Tracer.
func (t *Tracing) Resume(ctx context.Context, traceparent string) context.Context {
	if t == nil || traceparent == "" || len(traceparent) > maxTraceparent {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": traceparent})
}

// span is a recorded span.
type span struct{ trace.Span }

// Text implements ports.Span.
func (s span) Text(key, value string) { s.SetAttributes(attribute.String(key, value)) }

// Number implements ports.Span.
func (s span) Number(key string, value int64) { s.SetAttributes(attribute.Int64(key, value)) }

// End implements ports.Span.
func (s span) End(err error) {
	if err != nil {
		s.fail(reason(err))
	}
	s.Span.End()
}

func (s span) fail(reason string) {
	s.SetAttributes(attribute.String("error.type", reason))
	s.SetStatus(codes.Error, "")
}

// reason is the code of an error: one of the program's own, whatever the error's text says.
func reason(err error) string {
	var call *ports.CallError
	if errors.As(err, &call) {
		return callCode(call.Code)
	}
	if f, ok := fault.As(err); ok {
		return string(f.Code)
	}
	switch {
	case errors.Is(err, ports.ErrLeaseLost):
		return "LEASE_LOST"
	case errors.Is(err, ports.ErrDuplicate):
		return "DUPLICATE"
	case errors.Is(err, context.DeadlineExceeded):
		return "DEADLINE_EXCEEDED"
	case errors.Is(err, context.Canceled):
		return "CANCELED"
	default:
		return "_OTHER"
	}
}

// Transport makes a span of each request that goes out, and tells who gets it the place in the trace.
func (t *Tracing) Transport(inner http.RoundTripper) http.RoundTripper {
	if t == nil {
		return inner
	}
	return transport{t, inner}
}

type transport struct {
	t     *Tracing
	inner http.RoundTripper
}

// RoundTrip implements http.RoundTripper. Of the address only the host is recorded: paths and queries may hold secrets.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, s := t.t.Start(r.Context(), ports.SpanCall, knownMethod(r.Method))
	s.Text("http.request.method", knownMethod(r.Method))
	s.Text("server.address", r.URL.Hostname())
	r = r.Clone(ctx) // which a RoundTripper must not change
	r.Header.Set(header, t.t.Traceparent(ctx))
	res, err := t.inner.RoundTrip(r)
	if err == nil {
		s.Number("http.response.status_code", int64(res.StatusCode))
	}
	s.End(err)
	return res, err
}
