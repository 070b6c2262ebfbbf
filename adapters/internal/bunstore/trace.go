package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"github.com/uptrace/bun"

	"github.com/nexus-protocol/nexus/ports"
)

// What a span says of a statement is its operation and its table, out of lists of our own: no text of a statement gets
// out, since Bun writes values into it.

var (
	operations = []string{"SELECT", "INSERT", "UPDATE", "DELETE", "LOCK", "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE"}
	tables     = []string{
		"users", "sessions", "api_keys", "agents", "agent_terms", "tasks", "task_events", "ledger_accounts", "ledger_transfers", "ledger_entries", "ledger_seals",
		"trust_profiles", "trust_events", "jobs", "answers", "push_configs",
	}
)

// summary is what a statement does, and to which table in the first place.
type summary struct{ name, operation, table string }

func summarize(text string) summary {
	var s summary
	before := ""
	for word := range strings.FieldsSeq(text) {
		if s.operation == "" {
			if s.operation = known(operations, word); s.operation == "" {
				s.operation = "QUERY"
			}
		}
		if before == "FROM" || before == "INTO" || before == "UPDATE" || before == "TABLE" {
			if s.table = known(tables, strings.Trim(word, `"(),;`)); s.table != "" {
				break
			}
		}
		before = word
	}
	s.name = strings.TrimSpace(s.operation + " " + s.table)
	return s
}

// known returns the word of the list that w is, whatever its case, or "".
func known(list []string, w string) string {
	for _, k := range list {
		if strings.EqualFold(k, w) {
			return k
		}
	}
	return ""
}

// span starts the span of a statement.
func (s *Store) span(ctx context.Context, what summary) (context.Context, ports.Span) {
	ctx, span := s.cfg.Tracer.Start(ctx, ports.SpanQuery, what.name)
	span.Text("db.system.name", s.system)
	span.Text("db.operation.name", what.operation)
	if what.table != "" {
		span.Text("db.collection.name", what.table)
	}
	return ctx, span
}

// spanOf starts the span of one of the prepared statements.
func (c *session) spanOf(ctx context.Context, q statement) ports.Span {
	if c.store.cfg.Tracer == nil {
		return ports.NoSpan{}
	}
	_, span := c.store.span(ctx, c.store.summaries[q.id])
	return span
}

// finish ends the span of a statement. That there is no such row is no failure.
func finish(span ports.Span, err error) {
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	span.End(err)
}

// commitSpans starts a span in the trace of each unit that a commit is shared by.
func (w *writer) commitSpans(units []*request) []ports.Span {
	if w.store.cfg.Tracer == nil {
		return nil
	}
	var out []ports.Span
	for _, r := range units {
		if r.out.err == nil {
			_, span := w.store.span(r.ctx, summary{name: "COMMIT", operation: "COMMIT"})
			span.Number("nexus.commit.units", int64(len(units)))
			out = append(out, span)
		}
	}
	return out
}

// sharedSpans starts spans of statements that units share, in the trace of each: one of each kind.
func (s *Store) sharedSpans(units []*request, calls []*call) []ports.Span {
	if s.cfg.Tracer == nil {
		return nil
	}
	kinds := map[string]summary{}
	for _, k := range calls {
		kinds[s.summaries[k.id].name] = s.summaries[k.id]
	}
	var out []ports.Span
	for _, r := range units {
		if r.out.err != nil {
			continue
		}
		for _, what := range kinds {
			_, span := s.span(r.ctx, what)
			span.Number("nexus.commit.units", int64(len(units)))
			out = append(out, span)
		}
	}
	return out
}

// finishAll ends spans that end alike.
func finishAll(spans []ports.Span, err error) {
	for _, span := range spans {
		finish(span, err)
	}
}

// hook makes spans of the statements that Bun builds.
type hook struct{ *Store }

type hookKey struct{}

// BeforeQuery implements bun.QueryHook.
func (h hook) BeforeQuery(ctx context.Context, e *bun.QueryEvent) context.Context {
	ctx, span := h.span(ctx, summarize(e.Query))
	return context.WithValue(ctx, hookKey{}, span)
}

// AfterQuery implements bun.QueryHook.
func (h hook) AfterQuery(ctx context.Context, e *bun.QueryEvent) {
	if span, ok := ctx.Value(hookKey{}).(ports.Span); ok {
		finish(span, e.Err)
	}
}
