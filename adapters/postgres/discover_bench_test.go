package postgres_test

import (
	"database/sql"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/internal/markettest"
	"github.com/nexus-protocol/nexus/adapters/postgres"
	"github.com/nexus-protocol/nexus/adapters/postgres/postgrestest"
)

// explain shows the plans of what the store asks: who has moved since, where the market is in memory, and, where it is not, for a word and a
// category, for what begins like it, for a word with state and price, for a skill, for a category, and along the order.
func explain(b *testing.B, db *sql.DB) {
	b.Helper()
	found := func(entries, also string) string {
		return `SELECT f.band, count(*) FROM (SELECT i.agent_id, b.band FROM generate_series(20, 0, -1) AS b (band) CROSS JOIN LATERAL (SELECT replace('` + strings.ReplaceAll(entries, "'", "''") + `', '~', lpad(b.band::text, 2, '0'))::tsquery AS q OFFSET 0) AS q
	CROSS JOIN LATERAL (SELECT i.agent_id FROM agent_index AS i WHERE i.terms @@ q.q` + also + ` OFFSET 0) AS i LIMIT 1001) AS f GROUP BY f.band`
	}
	some := markettest.Word(500)
	for _, query := range []string{
		`SELECT m.agent_id, a.trust_score FROM (SELECT moved, agent_id FROM agent_moves WHERE (moved, agent_id) > (pg_snapshot_xmin(pg_current_snapshot())::text::bigint, '')
	AND moved < pg_snapshot_xmax(pg_current_snapshot())::text::bigint AND NOT pg_visible_in_snapshot(moved::text::xid8, pg_current_snapshot()) ORDER BY moved, agent_id LIMIT 1000) AS m
	LEFT JOIN agents AS a ON a.id = m.agent_id`,
		found("'~"+some+"':* & '~=cat7'", ""),
		found("'~^"+some[:2]+"'", ""),
		found("'~"+some+"':*", " AND i.price <= 2000 AND i.status = 'online' AND (i.last_heartbeat IS NULL OR i.last_heartbeat > 0)"),
		found("'~!skill7'", " AND i.status = 'online' AND (i.last_heartbeat IS NULL OR i.last_heartbeat > 0)"),
		`SELECT f.band, count(*) FROM (SELECT t.agent_id, t.band FROM agent_terms AS t WHERE t.kind = 'skill' AND t.term = 'skill7' AND t.band BETWEEN 0 AND 20 ORDER BY t.band DESC LIMIT 1001) AS f
	GROUP BY f.band`,
		`SELECT a.id FROM agents AS a WHERE a.deleted_at IS NULL AND a.effective_category = 'cat7' AND a.trust_score >= 50 ORDER BY a.trust_score DESC, a.id LIMIT 20`,
		`SELECT a.id FROM agents AS a WHERE a.deleted_at IS NULL AND a.trust_score < 100
	AND EXISTS (SELECT 1 FROM agent_terms AS t WHERE t.kind = 'tag' AND t.term = 'tag0' AND t.agent_id = a.id OFFSET 0) ORDER BY a.trust_score DESC, a.id LIMIT 20`,
	} {
		rows, err := db.QueryContext(b.Context(), "EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) "+query)
		require.NoError(b, err)
		plan := query + "\n"
		for rows.Next() {
			var line string
			require.NoError(b, rows.Scan(&line))
			plan += "    " + line + "\n"
		}
		require.NoError(b, rows.Err())
		fmt.Println(plan)
	}
}

// spent is the CPU time that the database's sessions and this process had so far, where the system tells.
func spent(b *testing.B, db *sql.DB) (server, client time.Duration) {
	b.Helper()
	rows, err := db.QueryContext(b.Context(), "SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
	require.NoError(b, err)
	for rows.Next() {
		var pid int
		require.NoError(b, rows.Scan(&pid))
		server += markettest.Spent(pid)
	}
	require.NoError(b, rows.Err())
	return server, markettest.Spent(os.Getpid())
}

// BenchmarkDiscovery asks a market of NEXUS_BENCH_AGENTS (1 000 000 without it) for agents, sixteen clients at a
// time, and shows the plans. NEXUS_BENCH_MARKET is the URL of a database that has such a market or is empty, and keeps it; without it
// one is made for the occasion.
func BenchmarkDiscovery(b *testing.B) {
	n := 1_000_000
	if s := os.Getenv("NEXUS_BENCH_AGENTS"); s != "" {
		var err error
		n, err = strconv.Atoi(s)
		require.NoError(b, err)
	}
	url := os.Getenv("NEXUS_BENCH_MARKET")
	if url == "" {
		url = postgrestest.URL(b)
	}
	require.NoError(b, postgres.Migrate(b.Context(), url))
	s, err := postgres.Open(b.Context(), url)
	require.NoError(b, err)
	defer func() { require.NoError(b, s.Close()) }()
	db, err := sql.Open("pgx", url)
	require.NoError(b, err)
	defer func() { _ = db.Close() }()
	var has int
	require.NoError(b, db.QueryRowContext(b.Context(), "SELECT count(*) FROM agents").Scan(&has))
	if has != n {
		require.Zero(b, has, "another market is there")
		since := time.Now()
		market(b, url, n)
		b.Logf("%d agents in %v", n, time.Since(since).Round(time.Second))
	}
	explain(b, db)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	since := time.Now()
	require.NoError(b, s.LoadMarket(b.Context()))
	took := time.Since(since)
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.Logf("in memory after %v, %d bytes an agent", took.Round(100*time.Millisecond), (after.HeapAlloc-before.HeapAlloc)/uint64(n))

	markettest.Ask(b, s.Read().Agents, markettest.Goals{Filter: 20 * time.Millisecond, Text: 50 * time.Millisecond}, func() (server, client time.Duration) { return spent(b, db) })
}
