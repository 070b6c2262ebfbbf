package memory

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/nexus-protocol/nexus/ports"
)

var _ ports.Tracer = (*Tracer)(nil)

// Tracer is a ports.Tracer that keeps its spans.
type Tracer struct {
	mu    sync.Mutex
	ended []Span
}

// Span is a span that has ended.
type Span struct {
	Trace, ID string
	Parent    string // "" for the first of a trace
	Kind      ports.SpanKind
	Name      string
	Attrs     map[string]string
	Err       error
}

// NewTracer makes a tracer that has seen nothing.
func NewTracer() *Tracer { return &Tracer{} }

// Spans returns the spans that have ended, in the order in which they did.
func (t *Tracer) Spans() []Span {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.ended)
}

type place struct{ trace, span, flags string }

type placeKey struct{}

// Start implements ports.Tracer.
func (t *Tracer) Start(ctx context.Context, kind ports.SpanKind, name string) (context.Context, ports.Span) {
	above, inside := ctx.Value(placeKey{}).(place)
	if !inside {
		if kind == ports.SpanQuery {
			return ctx, ports.NoSpan{}
		}
		above = place{trace: randomHex(16), flags: "01"}
	}
	here := place{above.trace, randomHex(8), above.flags}
	ctx = context.WithValue(ctx, placeKey{}, here)
	if here.flags != "01" {
		return ctx, ports.NoSpan{}
	}
	return ctx, &span{tracer: t, Span: Span{Trace: here.trace, ID: here.span, Parent: above.span, Kind: kind, Name: name, Attrs: map[string]string{}}}
}

// Traceparent implements ports.Tracer.
func (t *Tracer) Traceparent(ctx context.Context) string {
	p, ok := ctx.Value(placeKey{}).(place)
	if !ok {
		return ""
	}
	return "00-" + p.trace + "-" + p.span + "-" + p.flags
}

var traceparent = regexp.MustCompile(`^00-([0-9a-f]{32})-([0-9a-f]{16})-(00|01)$`)

// Resume implements ports.Tracer.
func (t *Tracer) Resume(ctx context.Context, s string) context.Context {
	m := traceparent.FindStringSubmatch(s)
	if m == nil || strings.Trim(m[1], "0") == "" || strings.Trim(m[2], "0") == "" {
		return ctx
	}
	return context.WithValue(ctx, placeKey{}, place{m[1], m[2], m[3]})
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails
	return hex.EncodeToString(b)
}

type span struct {
	Span
	tracer *Tracer
	ended  bool
}

// Text implements ports.Span.
func (s *span) Text(key, value string) { s.Attrs[key] = value }

// Number implements ports.Span.
func (s *span) Number(key string, value int64) { s.Attrs[key] = strconv.FormatInt(value, 10) }

// End implements ports.Span.
func (s *span) End(err error) {
	if s.ended {
		return
	}
	s.ended, s.Err = true, err
	s.tracer.mu.Lock()
	defer s.tracer.mu.Unlock()
	s.tracer.ended = append(s.tracer.ended, s.Span)
}
