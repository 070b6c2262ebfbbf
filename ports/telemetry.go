package ports

import (
	"context"
	"time"

	"github.com/nexus-protocol/nexus/domain/billing"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/task"
)

// Tracer records what happens as spans of traces. Names and keys of spans are constants of the program; values are ids,
// kinds, counts and codes, never what a stranger wrote and never a secret.
type Tracer interface {
	// Start begins a span below the one that ctx carries and returns a context that carries the new one. Where ctx carries
	// none a trace begins, but for kinds that say otherwise. The span must be ended.
	Start(ctx context.Context, kind SpanKind, name string) (context.Context, Span)
	// Traceparent is the place in its trace that ctx carries, as a traceparent of the W3C's Trace Context; "" if it carries
	// none.
	Traceparent(ctx context.Context) string
	// Resume returns a context whose next span is below the place that Traceparent gave, in this process or another. What
	// is no traceparent changes nothing.
	Resume(ctx context.Context, traceparent string) context.Context
}

// SpanKind says what a span is about.
type SpanKind int

// The kinds of span.
const (
	SpanWork  SpanKind = iota // the engine's own work
	SpanJob                   // a job, on behalf of who enqueued it
	SpanCall                  // a call of an agent
	SpanQuery                 // a statement of a database; only recorded as part of something that is
)

// Span is one stretch of a trace. It belongs to the goroutine that started it.
type Span interface {
	Text(key, value string)
	Number(key string, value int64)
	// End ends the span; err, if not nil, is why what it is about failed. Of an error only a code is recorded, as its text
	// may hold anything. Calls after the first do nothing.
	End(err error)
}

// Untraced is the Tracer that records nothing and costs nothing.
type Untraced struct{}

// Start implements Tracer.
func (Untraced) Start(ctx context.Context, _ SpanKind, _ string) (context.Context, Span) {
	return ctx, NoSpan{}
}

// Traceparent implements Tracer.
func (Untraced) Traceparent(context.Context) string { return "" }

// Resume implements Tracer.
func (Untraced) Resume(ctx context.Context, _ string) context.Context { return ctx }

// NoSpan is a Span that is not recorded.
type NoSpan struct{}

// Text implements Span.
func (NoSpan) Text(string, string) {}

// Number implements Span.
func (NoSpan) Number(string, int64) {}

// End implements Span.
func (NoSpan) End(error) {}

// Observer is told what has happened, once it is committed. It must be quick.
type Observer interface {
	// TaskEnded is called once for each task that this process ended.
	TaskEnded(t task.Task)
	// PaymentHeard is called once for each event of a payment that this process did what follows from.
	PaymentHeard(o billing.Outcome)
}

// StatsReader adds up what is in the store, for those who watch over it. Each answer is of one moment, and takes no
// longer the more of what has ended there is.
type StatsReader interface {
	// OpenTasks returns how many tasks there are in each open state; a state without any may be left out.
	OpenTasks(ctx context.Context) (map[task.Status]int, error)
	// Jobs returns how the jobs stand at the moment now, by priority; a priority without any may be left out.
	Jobs(ctx context.Context, now time.Time) (map[Priority]JobStats, error)
	// Ledger returns the totals of the ledger. The first call of a process may take longer, and an interrupted one is
	// taken up by the next.
	Ledger(ctx context.Context) (LedgerStats, error)
}

// JobStats is how the jobs of a priority stand.
type JobStats struct {
	Waiting int       // due, and nobody's
	Running int       // under a lease that has not run out
	Later   int       // not due yet
	Oldest  time.Time // since when the longest waiting one is due; zero if none waits
}

// LedgerStats are the sums of all postings by kind of account.
type LedgerStats struct {
	Available credits.Amount // what users can spend
	Held      credits.Amount // what is set aside for open tasks
	Fees      credits.Amount // what the platform took
	Issuance  credits.Amount // below zero by what was given away
	Clearing  credits.Amount // below zero by what was bought
	// Imbalance is the sum of all postings. It is 0, or something is very wrong.
	Imbalance credits.Amount
}

// Pool is a store's connections of one purpose, as they are now.
type Pool struct {
	Name   string // reads or writes
	Max    int    // how many there may be
	Open   int    // how many there are
	InUse  int    // how many of those are at work
	Waits  int64  // how often someone had to wait for one, since the start
	Waited time.Duration
}
