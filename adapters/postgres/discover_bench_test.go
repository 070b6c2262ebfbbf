package postgres_test

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/postgres"
	"github.com/nexus-protocol/nexus/adapters/postgres/postgrestest"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/registry"
)

// explain shows the plans of what the store asks for a word and a category, for what begins like it, for a word with state and price, for a
// skill, for a category, and along the order.
func explain(b *testing.B, db *sql.DB) {
	b.Helper()
	found := func(entries, also string) string {
		return `SELECT f.band, count(*) FROM (SELECT i.agent_id, b.band FROM generate_series(20, 0, -1) AS b (band) CROSS JOIN LATERAL (SELECT replace('` + strings.ReplaceAll(entries, "'", "''") + `', '~', lpad(b.band::text, 2, '0'))::tsquery AS q OFFSET 0) AS q
	CROSS JOIN LATERAL (SELECT i.agent_id FROM agent_index AS i WHERE i.terms @@ q.q` + also + ` OFFSET 0) AS i LIMIT 1001) AS f GROUP BY f.band`
	}
	some := word(500)
	for _, query := range []string{
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
		server += scheduled(pid)
	}
	require.NoError(b, rows.Err())
	tasks, _ := os.ReadDir("/proc/self/task")
	for _, t := range tasks {
		tid, _ := strconv.Atoi(t.Name())
		client += scheduled(tid)
	}
	return server, client
}

// scheduled is how long a process or thread was on a CPU; 0 where it is not known.
func scheduled(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
	if err != nil {
		return 0
	}
	onCPU, _, _ := strings.Cut(string(text), " ")
	ns, err := strconv.ParseInt(onCPU, 10, 64)
	if err != nil {
		return 0
	}
	return time.Duration(ns)
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

	at := marketAt
	words := make([]string, marketWords)
	for i := range words {
		words[i] = word(i)
	}
	// What is asked for is as common as what there is: half of the words are among the commonest 140.
	some := func(r *rand.Rand) string { return words[zipf(r, marketWords)] }
	rare := func(r *rand.Rand) string { return words[1_000+r.IntN(marketWords-1_000)] }
	begin := func(n int) func(r *rand.Rand) registry.Query {
		return func(r *rand.Rand) registry.Query { return registry.Query{Text: some(r)[:n]} }
	}
	tag := func(r *rand.Rand) []string { return []string{tagOf(zipf(r, marketTags))} }
	skill := func(r *rand.Rand) string { return skillOf(zipf(r, marketSkills)) }
	category := func(r *rand.Rand) string { return categoryOf(zipf(r, marketCategories)) }
	ptr := func(x float64) *float64 { return &x }
	price := func(r *rand.Rand) *credits.Amount { p := credits.Amount(50 + r.IntN(9000)); return &p }
	within := func(r *rand.Rand) *time.Duration {
		d := time.Duration(10*math.Pow(10_000, r.Float64())) * time.Millisecond
		return &d
	}
	const filter, text = 20 * time.Millisecond, 50 * time.Millisecond
	for _, test := range []struct {
		name string
		most time.Duration
		q    func(r *rand.Rand) registry.Query
	}{
		{"all", filter, func(r *rand.Rand) registry.Query { return registry.Query{Offset: r.IntN(900)} }},
		{"newest", filter, func(*rand.Rand) registry.Query { return registry.Query{Sort: registry.SortNewest} }},
		{"category", filter, func(r *rand.Rand) registry.Query { return registry.Query{Category: category(r)} }},
		{"trust", filter, func(r *rand.Rand) registry.Query { return registry.Query{MinTrust: ptr(float64(r.IntN(100)))} }},
		{"status", filter, func(r *rand.Rand) registry.Query { return registry.Query{Status: registry.Statuses()[r.IntN(3)]} }},
		{"price", filter, func(r *rand.Rand) registry.Query { return registry.Query{MaxPrice: price(r)} }},
		{"cheapest", filter, func(r *rand.Rand) registry.Query {
			return registry.Query{MaxPrice: price(r), Sort: registry.SortPrice, MinTrust: ptr(50)}
		}},
		{"latency", filter, func(r *rand.Rand) registry.Query { return registry.Query{MaxLatency: within(r)} }},
		{"tag", filter, func(r *rand.Rand) registry.Query { return registry.Query{SkillTags: tag(r)} }},
		{"three tags", filter, func(r *rand.Rand) registry.Query {
			return registry.Query{SkillTags: slices.Concat(tag(r), tag(r), tag(r))}
		}},
		{"skill", filter, func(r *rand.Rand) registry.Query { return registry.Query{SkillID: skill(r)} }},
		{"skill trust", filter, func(r *rand.Rand) registry.Query {
			return registry.Query{SkillID: skill(r), MinTrust: ptr(float64(r.IntN(100)))}
		}},
		{"skill category", filter, func(r *rand.Rand) registry.Query { return registry.Query{SkillID: skill(r), Category: category(r)} }},
		{"skill online trust", filter, func(r *rand.Rand) registry.Query {
			return registry.Query{SkillID: skill(r), Status: registry.Online, MinTrust: ptr(50)}
		}},
		{"skill latency", filter, func(r *rand.Rand) registry.Query {
			return registry.Query{SkillID: skill(r), MaxLatency: within(r)}
		}},
		{"the best for a skill", filter, func(r *rand.Rand) registry.Query { // as a task that names a skill asks
			return registry.Query{SkillID: skill(r), Status: registry.Online, MaxPrice: price(r), Limit: 50}
		}},
		{"text", text, func(r *rand.Rand) registry.Query { return registry.Query{Text: some(r)} }},
		{"rare text", text, func(r *rand.Rand) registry.Query { return registry.Query{Text: rare(r)} }},
		{"two words", text, func(r *rand.Rand) registry.Query { return registry.Query{Text: some(r) + " " + some(r)} }},
		{"text category", text, func(r *rand.Rand) registry.Query { return registry.Query{Text: some(r), Category: category(r)} }},
		{"text trust", text, func(r *rand.Rand) registry.Query {
			return registry.Query{Text: some(r), MinTrust: ptr(float64(r.IntN(100)))}
		}},
		{"text status trust price", text, func(r *rand.Rand) registry.Query {
			return registry.Query{Text: some(r), Status: registry.Online, MinTrust: ptr(50), MaxPrice: price(r)}
		}},
		{"text skill", text, func(r *rand.Rand) registry.Query { return registry.Query{Text: some(r), SkillID: skill(r)} }},
		{"text cheapest", text, func(r *rand.Rand) registry.Query { return registry.Query{Text: some(r), Sort: registry.SortPrice} }},
		{"a letter", text, begin(1)},
		{"two letters", text, begin(2)},
		{"three letters", text, begin(3)},
		{"four letters", text, begin(4)},
	} {
		b.Run(strings.ReplaceAll(test.name, " ", "-"), func(b *testing.B) {
			const clients = 16
			var mu sync.Mutex
			var took []time.Duration
			ask := func(d time.Duration, keep bool) {
				var all sync.WaitGroup
				end := time.Now().Add(d)
				for c := range clients {
					all.Go(func() {
						r := rand.New(rand.NewPCG(uint64(c), 7))
						for time.Now().Before(end) {
							q, err := test.q(r).Normalize()
							if err != nil {
								b.Error(err)
								return
							}
							since := time.Now()
							if _, _, err := s.Read().Agents.Discover(context.Background(), q, at); err != nil {
								b.Error(err)
								return
							}
							if keep {
								mu.Lock()
								took = append(took, time.Since(since))
								mu.Unlock()
							}
						}
					})
				}
				all.Wait()
			}
			if b.N > 1 {
				return
			}
			ask(time.Second, false) // which warms up
			server, client := spent(b, db)
			since := time.Now()
			ask(3*time.Second, true)
			lasted, n := time.Since(since).Seconds(), float64(len(took))
			server2, client2 := spent(b, db)
			if b.Failed() {
				return
			}
			slices.Sort(took)
			p99 := took[len(took)*99/100]
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(p99.Microseconds())/1000, "p99-ms")
			b.ReportMetric(n/lasted, "op/s")
			b.ReportMetric((server2-server).Seconds()*1000/n, "cpu-ms/op")
			b.ReportMetric((client2-client).Seconds()*1000/n, "client-cpu-ms/op")
			b.ReportMetric(0, "ns/op")
			if p99 > test.most {
				b.Logf("above the goal of %v", test.most)
			}
		})
	}
}
