package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/adapters/sqlite"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// Units of different traces that share a commit each have it in their own, and nobody's statements are in another's.
func TestUnitsThatShareACommitStayInTheirTraces(t *testing.T) {
	tracer := memory.NewTracer()
	var n atomic.Int32
	s, _ := fresh(t, sqlite.WithTracer(tracer), commits(&n))
	const units = 5
	traces := map[int]string{}
	var fns []func() error
	for i := range units {
		ctx, span := tracer.Start(t.Context(), ports.SpanWork, "unit "+strconv.Itoa(i))
		span.End(nil)
		traces[i] = strings.Split(tracer.Traceparent(ctx), "-")[1]
		fns = append(fns, func() error {
			return s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
				if i == 3 {
					return errOops // before it changed anything, so that the others need not run again
				}
				if err := tx.Users.Insert(ctx, userOf(i)); err != nil {
					return err
				}
				return tx.Jobs.Enqueue(ctx, ports.Job{ID: fmt.Sprint("j", i), Kind: "k"})
			})
		})
	}
	before := n.Load()
	errs := companions(t, s, fns...)
	require.ErrorIs(t, errs[3], errOops)
	require.EqualValues(t, 1, n.Load()-before, "they share one commit")
	seen := map[string]map[string]int{}
	for _, span := range tracer.Spans() {
		if seen[span.Trace] == nil {
			seen[span.Trace] = map[string]int{}
		}
		seen[span.Trace][span.Name]++
		if span.Name == "COMMIT" {
			require.Equal(t, strconv.Itoa(units+1), span.Attrs["nexus.commit.units"], "they, and the one who kept the writer busy")
		}
	}
	require.Len(t, seen, units, "what is in no trace begins none")
	for i := range units {
		want := map[string]int{"INSERT users": 1, "INSERT jobs": 1, "COMMIT": 1}
		if i == 3 {
			want = map[string]int{}
		}
		want["unit "+strconv.Itoa(i)] = 1
		require.Equal(t, want, seen[traces[i]], "unit %d", i)
	}
}

// What a statement is about is said in words of our own, whoever built it and whatever values it has.
func TestStatementsAreNamedWithoutTheirValues(t *testing.T) {
	tracer := memory.NewTracer()
	s, _ := fresh(t, sqlite.WithTracer(tracer))
	ctx, span := tracer.Start(t.Context(), ports.SpanWork, "unit")
	u := userOf(1)
	u.Email, u.PasswordHash = "x' FROM secrets_a UPDATE secrets_b@example.com", "INSERT INTO secrets_c"
	require.NoError(t, s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Users.Insert(ctx, u) }))
	_, err := s.Read().Users.ByEmail(ctx, "nobody FROM secrets_d")
	require.Error(t, err)
	_, _, err = s.Read().Tasks.List(ctx, ports.TaskFilter{RequesterUserID: "secrets_e FROM secrets_f"}, ports.Page{Limit: 1})
	require.NoError(t, err)
	_, _, err = s.Read().Ledger.Transactions(ctx, "secrets_g", "", ports.Page{Limit: 1})
	require.NoError(t, err)
	_, err = s.Read().Jobs.Due(ctx, time.Now(), 1)
	require.NoError(t, err)
	span.End(nil)
	var names []string
	for _, s := range tracer.Spans() {
		require.NotContains(t, fmt.Sprint(s), "secrets_")
		names = append(names, s.Name)
	}
	require.Equal(t, []string{"BEGIN", "INSERT users", "COMMIT", "SELECT users", "SELECT tasks", "SELECT ledger_entries", "SELECT jobs", "unit"}, names)
}

func TestPools(t *testing.T) {
	s, _ := fresh(t, sqlite.WithReaders(2))
	reads, writes := func() ports.Pool { return s.Pools()[0] }, func() ports.Pool { return s.Pools()[1] }
	require.Equal(t, ports.Pool{Name: "reads", Max: 2}, reads())
	require.NoError(t, s.Ping(t.Context()))
	require.Equal(t, ports.Pool{Name: "reads", Max: 2, Open: 1}, reads())
	require.Equal(t, ports.Pool{Name: "writes", Max: 1}, writes())
	errs := companions(t, s, func() error {
		require.Equal(t, 1, writes().InUse)
		return insertUser(s, 1)
	})
	require.NoError(t, errors.Join(errs...))
	require.Eventually(t, func() bool { return writes().InUse == 0 }, time.Second, time.Millisecond)
	require.EqualValues(t, 1, writes().Waits)
	require.Positive(t, writes().Waited)
	require.Equal(t, 1, writes().Open)
}

// The ledger is added up once: what is settled is not looked at again, what is new is.
func TestALongLedgerIsAddedUpOnce(t *testing.T) {
	s, path := fresh(t)
	db := raw(t, path)
	entries := func(pairs int, at time.Time) {
		_, err := db.ExecContext(t.Context(), `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
			INSERT INTO ledger_entries (id, transfer_id, account, type, amount, balance_after, at)
			SELECT 'e', 't', CASE side WHEN 0 THEN 'user:u' || (i % 100) || ':available' ELSE 'platform:issuance' END, 'initial_grant', CASE side WHEN 0 THEN 3 ELSE -3 END, 0, ?
			FROM n, (SELECT 0 AS side UNION ALL SELECT 1)`, pairs, at.UnixMicro())
		require.NoError(t, err)
	}
	entries(30_001, time.Now().Add(-time.Hour))
	entries(20_000, time.Now()) // one statement goes along all of these, every time
	want := ports.LedgerStats{Available: 3 * 50_001, Issuance: -3 * 50_001}
	for range 3 {
		got, err := s.Read().Stats.Ledger(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	entries(1, time.Now())
	got, err := s.Read().Stats.Ledger(t.Context())
	require.NoError(t, err)
	require.Equal(t, ports.LedgerStats{Available: 3 * 50_002, Issuance: -3 * 50_002}, got)

	late, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Read().Stats.Ledger(late)
	require.ErrorIs(t, err, context.Canceled)
}

// The statements for the metrics do not go along what has ended, or what is not due.
func TestStatsUseIndexes(t *testing.T) {
	_, path := fresh(t)
	db := raw(t, path)
	for query, want := range map[string]string{
		"SELECT status, count(*) FROM tasks WHERE status IN ('pending', 'assigned', 'running') GROUP BY status":     "COVERING INDEX tasks_open",
		"SELECT priority, count(*) FROM jobs GROUP BY priority":                                                     "COVERING INDEX jobs_due",
		"SELECT priority, min(lease_until) FROM jobs WHERE priority IN (0, 1, 2) AND run_at <= 1 GROUP BY priority": "INDEX jobs_due (priority=? AND run_at<?)",
		"SELECT sum(amount) FROM ledger_entries WHERE seq > 1":                                                      "INTEGER PRIMARY KEY (rowid>?)",
	} {
		rows, err := db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query)
		require.NoError(t, err)
		var plan strings.Builder
		for rows.Next() {
			var a, b, c any
			var line string
			require.NoError(t, rows.Scan(&a, &b, &c, &line))
			plan.WriteString(line + "\n")
		}
		require.NoError(t, errors.Join(rows.Err(), rows.Close()))
		require.Contains(t, plan.String(), want, query)
	}
}

// A job of an older process has no trace.
func TestJobsOfBeforeTheMigrationAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nexus.db")
	require.NoError(t, sqlite.Migrate(t.Context(), path))
	steps, err := sqlite.MigrationStatus(t.Context(), path)
	require.NoError(t, err)
	for range len(steps) - 1 { // to what there was in the beginning
		require.NoError(t, sqlite.MigrateDown(t.Context(), path))
	}
	_, err = raw(t, path).ExecContext(t.Context(), "INSERT INTO jobs VALUES ('j', 'k', 's', 0, 0, 0, '', 0)")
	require.NoError(t, err)
	require.NoError(t, sqlite.Migrate(t.Context(), path))
	s, err := sqlite.Open(t.Context(), path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	require.NoError(t, s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
		j, err := tx.Jobs.Claim(ctx, "j", ports.Lease{Owner: "o", Until: time.Unix(20, 0)}, time.Unix(10, 0))
		require.Empty(t, j.Trace)
		return err
	}))
	stats, err := s.Read().Stats.Jobs(t.Context(), time.Unix(10, 0))
	require.NoError(t, err)
	require.Equal(t, 1, stats[0].Running)
	open, err := s.Read().Stats.OpenTasks(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[task.Status]int{}, open)
}
