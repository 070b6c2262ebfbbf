package telemetry

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// Options are the settings of OpenTracing; zero values are the defaults.
type Options struct {
	Logger  *slog.Logger // default: discards
	Version string       // of the program
	Role    string       // of the process, such as api or worker
}

// OpenTracing sends spans by OTLP over HTTP to where the standard environment says: OTEL_EXPORTER_OTLP_ENDPOINT or
// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT. Without either it returns nil, and nothing is recorded; so it does if
// OTEL_SDK_DISABLED is true or OTEL_TRACES_EXPORTER is none. The other OTEL_ variables of the exporter, the batches, the
// sampler, the limits and the resource hold too. It changes nothing that is global to the process.
func OpenTracing(ctx context.Context, opt Options) (*Tracing, error) {
	if os.Getenv("OTEL_SDK_DISABLED") == "true" || os.Getenv("OTEL_TRACES_EXPORTER") == "none" ||
		cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT")) == "" {
		return nil, nil
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("OTLP exporter: %w", err)
	}
	// No detector of the process: its arguments may hold secrets.
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithHost(), resource.WithAttributes(
		attribute.String("service.name", "nexus"), attribute.String("service.version", opt.Version), attribute.String("nexus.role", opt.Role),
		attribute.Int("process.pid", os.Getpid()),
	), resource.WithFromEnv())
	if err != nil {
		opt.Logger.WarnContext(ctx, "some attributes of the traces' resource are missing", "error", err)
	}
	provider := sdk.NewTracerProvider(sdk.WithBatcher(&patient{SpanExporter: exporter, log: opt.Logger}), sdk.WithResource(about))
	return &Tracing{tracer: provider.Tracer(scope), close: provider.Shutdown}, nil
}

// patient is an exporter whose failures are said once a minute and otherwise change nothing: what watches the engine must
// not disturb it.
type patient struct {
	sdk.SpanExporter
	log  *slog.Logger
	said atomic.Int64
	lost atomic.Int64
}

// ExportSpans implements trace.SpanExporter.
func (p *patient) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := p.SpanExporter.ExportSpans(ctx, spans)
	if err == nil {
		return nil
	}
	p.lost.Add(int64(len(spans)))
	now := time.Now().Unix()
	if last := p.said.Load(); now-last >= 60 && p.said.CompareAndSwap(last, now) {
		p.log.WarnContext(ctx, "spans could not be sent and are lost", "spans", p.lost.Swap(0), "error", err)
	}
	return nil
}
