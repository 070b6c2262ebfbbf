package portstest

import (
	"context"
	"errors"
	"regexp"
	"strings"

	"github.com/nexus-protocol/nexus/ports"
)

var traceparent = regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)

// Tracer checks a tracer that records. here is it, elsewhere is one of another process.
func Tracer(ctx context.Context, here, elsewhere ports.Tracer) error {
	traceOf := func(place string) string { return strings.Split(place, "-")[1] }
	if err := same("outside of any trace", here.Traceparent(ctx), ""); err != nil {
		return err
	}
	inQuery, query := here.Start(ctx, ports.SpanQuery, "query")
	query.End(nil)
	if err := same("a query begins no trace", here.Traceparent(inQuery), ""); err != nil {
		return err
	}
	inOuter, outer := here.Start(ctx, ports.SpanWork, "outer")
	place := here.Traceparent(inOuter)
	if !traceparent.MatchString(place) {
		return failf("%q is no traceparent", place)
	}
	inInner, inner := here.Start(inOuter, ports.SpanQuery, "inner")
	inner.Text("key", "value")
	inner.Number("number", 1)
	below := here.Traceparent(inInner)
	inner.End(errors.New("it failed"))
	inner.End(nil)
	outer.End(nil)
	if err := first(same("trace of the inner span", traceOf(below), traceOf(place)), same("place after the inner span", here.Traceparent(inOuter), place)); err != nil {
		return err
	}
	if below == place {
		return failf("the inner span has the place of the outer one")
	}
	_, other := here.Start(ctx, ports.SpanWork, "other")
	other.End(nil)
	resumed := elsewhere.Resume(ctx, place)
	if err := same("place when resumed", elsewhere.Traceparent(resumed), place); err != nil {
		return err
	}
	inJob, job := elsewhere.Start(resumed, ports.SpanJob, "job")
	defer job.End(nil)
	if err := same("trace of a resumed span", traceOf(elsewhere.Traceparent(inJob)), traceOf(place)); err != nil {
		return err
	}
	for _, bad := range []string{"", "x", "00-0-0-00", "00-" + strings.Repeat("0", 32) + "-" + strings.Repeat("0", 16) + "-01", strings.Repeat("x", 1000)} {
		if err := same("resumed from "+bad, here.Traceparent(here.Resume(ctx, bad)), ""); err != nil {
			return err
		}
	}
	quiet := here.Resume(ctx, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00") // decided elsewhere: not to be recorded
	inQuiet, span := here.Start(quiet, ports.SpanWork, "quiet")
	span.End(nil)
	if got := here.Traceparent(inQuiet); !strings.HasPrefix(got, "00-0af7651916cd43dd8448eb211c80319c-") || !strings.HasSuffix(got, "-00") {
		return failf("below a span that is not recorded: %q", got)
	}
	return nil
}
