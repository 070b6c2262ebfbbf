package postgres_test

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/registry"
)

// What the agents of a market are made of. Words, tags and skills are as common as Zipf has it: the nth is about n times as rare as the first.
const (
	marketWords      = 20_000
	marketTags       = 2_000
	marketSkills     = 1_000
	marketCategories = 30
)

// marketAt is the time in the market.
var marketAt = time.UnixMicro(1_800_000_000_000_000)

// word is the nth word of the market, of two to four syllables, no two alike; its beginning is as common as that of real words, as the
// first syllables are common.
func word(n int) string {
	const syllables = "ta re in con de pro a co ma un se pa di ex le sa mi re fo na tra e mo po si vi ca be lo ra da su te bo cla pre ho o wi fi ba gra pi ha dis ne me ri sta no en com la ci gi fu ro ve do mu sco ju wa key"
	all := strings.Fields(syllables)
	r := rand.New(rand.NewPCG(uint64(n), 11))
	var b strings.Builder
	for range 2 + r.IntN(2) {
		b.WriteString(all[int(float64(len(all))*r.Float64()*r.Float64())])
	}
	b.WriteByte("nrstlmdk"[n%8])
	for n /= 8; n > 0; n /= 20 {
		b.WriteByte("aeiourstlnmdkpgbvfcz"[n%20])
	}
	return b.String()
}

// zipf draws from 0 to n-1, the lower the likelier; the nth is about n times as rare as the first.
func zipf(r *rand.Rand, n int) int { return int(math.Pow(float64(n)+1, r.Float64())) - 1 }

func tagOf(n int) string      { return fmt.Sprint("tag", n) }
func skillOf(n int) string    { return fmt.Sprint("skill", n) }
func categoryOf(n int) string { return fmt.Sprint("cat", n) }

// marketAgent is the nth agent of a market: a third have no evidence yet, the others' scores are about 68, give or take 15, and they take 10 ms to 100 s; one in
// six is free, the others cost 0.10 to 1 000; of four, three are online; half send heartbeats.
func marketAgent(n int, words []string) registry.Agent {
	r := rand.New(rand.NewPCG(uint64(n), 12))
	some := func(most int) string {
		var b strings.Builder
		for range most {
			b.WriteString(words[zipf(r, len(words))])
			b.WriteByte(' ')
		}
		return strings.TrimSpace(b.String())
	}
	created := marketAt.Add(-time.Duration(2_000_000-n) * time.Minute)
	a := registry.Agent{
		ID: fmt.Sprintf("%08x-%04x-7%03x-8%03x-%012x", n>>4, (n&15)<<12, r.IntN(1<<12), r.IntN(1<<12), r.Int64N(1<<48)), OwnerUserID: fmt.Sprint("u", zipf(r, 100_000)),
		Name: "Agent " + some(2), Description: some(8 + r.IntN(12)), Endpoint: fmt.Sprintf("https://agents-%d.example.com/a2a/%d", n%100, n), Status: registry.Online,
		Metadata: json.RawMessage(`{"version":"2.1.0"}`), TrustScore: 47.5, TrustBound: 20, CreatedAt: created, UpdatedAt: created,
	}
	for range 1 + r.IntN(4) {
		a.Tags = append(a.Tags, tagOf(zipf(r, marketTags)))
	}
	a.Tags = slices.Compact(slices.Sorted(slices.Values(a.Tags)))
	for range 1 + r.IntN(3) {
		if s := skillOf(zipf(r, marketSkills)); !slices.ContainsFunc(a.Skills, func(has registry.Skill) bool { return has.ID == s }) {
			a.Skills = append(a.Skills, registry.Skill{
				ID: s, Name: some(2), Description: some(4), Tags: []string{tagOf(zipf(r, marketTags))},
				InputSchema: json.RawMessage(`{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]}`),
			})
		}
	}
	if r.IntN(4) > 0 {
		a.Category = categoryOf(zipf(r, marketCategories))
	}
	if r.IntN(6) > 0 {
		a.Price = credits.Amount(10 * math.Pow(10_000, r.Float64()))
	}
	if r.IntN(3) > 0 {
		a.TrustScore = math.Round(10*min(max(68+15*r.NormFloat64(), 0), 100)) / 10
		a.TrustBound = max(a.TrustScore-8, 0)
		a.Latency = time.Duration(10*math.Pow(10_000, rand.New(rand.NewPCG(uint64(n), 27)).Float64())) * time.Millisecond
	}
	switch r.IntN(20) {
	case 0, 1, 2:
		a.Status = registry.Offline
	case 3, 4:
		a.Status = registry.Degraded
	}
	if r.IntN(2) == 0 {
		beat := marketAt.Add(-time.Duration(r.IntN(int(80 * time.Second))))
		if a.Status == registry.Offline {
			beat = beat.Add(-time.Hour)
		}
		a.LastHeartbeat = &beat
	}
	return a
}

// copied writes a line of COPY.
func copied(w *bufio.Writer, fields ...any) error {
	for i, f := range fields {
		if i > 0 {
			_ = w.WriteByte('\t')
		}
		switch f := f.(type) {
		case nil:
			_, _ = w.WriteString(`\N`)
		case string:
			for _, c := range []byte(f) {
				switch c {
				case '\\':
					_, _ = w.WriteString(`\\`)
				case '\n':
					_, _ = w.WriteString(`\n`)
				case '\t':
					_, _ = w.WriteString(`\t`)
				default:
					_ = w.WriteByte(c)
				}
			}
		case int64:
			_, _ = w.WriteString(strconv.FormatInt(f, 10))
		case float64:
			_, _ = w.WriteString(strconv.FormatFloat(f, 'g', -1, 64))
		}
	}
	return w.WriteByte('\n')
}

// market fills a migrated database with n agents. The indexes are made afterwards, as that is faster.
func market(b *testing.B, url string, n int) {
	b.Helper()
	ctx := b.Context()
	db, err := sql.Open("pgx", url)
	require.NoError(b, err)
	defer func() { _ = db.Close() }()
	exec := func(q string, args ...any) {
		_, err := db.ExecContext(ctx, q, args...)
		require.NoError(b, err, q)
	}
	var again []string
	for _, table := range marketTables {
		rows, err := db.QueryContext(ctx, `SELECT indexname, indexdef FROM pg_indexes WHERE tablename = $1 AND indexdef NOT LIKE '%UNIQUE%'`, table)
		require.NoError(b, err)
		var names []string
		for rows.Next() {
			var name, def string
			require.NoError(b, rows.Scan(&name, &def))
			names, again = append(names, name), append(again, def)
		}
		require.NoError(b, rows.Err())
		for _, name := range names {
			exec("DROP INDEX " + name)
		}
	}
	words := make([]string, marketWords)
	for i := range words {
		words[i] = word(i)
	}
	vocabulary := map[string]bool{}
	var all sync.WaitGroup
	failed := make(chan error, len(marketTables))
	for _, table := range marketTables {
		r, w := io.Pipe()
		all.Go(func() {
			conn, err := pgx.Connect(ctx, url)
			if err == nil {
				_, err = conn.PgConn().CopyFrom(ctx, r, "COPY "+table+" ("+marketColumns[table]+") FROM STDIN")
				err = errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
			}
			failed <- errors.Join(err, r.CloseWithError(err))
		})
		all.Go(func() {
			out := bufio.NewWriterSize(w, 1<<18)
			for i := range n {
				a := marketAgent(i, words)
				if table == marketTables[0] {
					for w := range strings.FieldsSeq(a.SearchText().Name + a.SearchText().Skills + a.SearchText().Description) {
						vocabulary[w] = true
					}
				}
				if err := copyAgent(out, table, int64(i), a); err != nil {
					_ = w.CloseWithError(err)
					return
				}
			}
			_ = w.CloseWithError(errors.Join(out.Flush()))
		})
	}
	all.Wait()
	for range marketTables {
		require.NoError(b, <-failed)
	}
	exec("INSERT INTO agent_vocabulary (word) SELECT unnest($1::text[])", slices.Collect(maps.Keys(vocabulary)))
	conn, err := db.Conn(ctx)
	require.NoError(b, err)
	defer func() { _ = conn.Close() }()
	for _, q := range append(append([]string{"SET maintenance_work_mem = '1GB'", "SET synchronous_commit = off"}, again...), "VACUUM ANALYZE agents", "VACUUM ANALYZE agent_terms", "VACUUM ANALYZE agent_index", "ANALYZE agent_vocabulary", "CHECKPOINT") {
		since := time.Now()
		_, err := conn.ExecContext(ctx, q)
		require.NoError(b, err, q)
		if d := time.Since(since); d > time.Second {
			b.Logf("%v: %.60s", d.Round(100*time.Millisecond), q)
		}
	}
	var wrong int // what was copied is what the store would have written
	require.NoError(b, db.QueryRowContext(ctx, `SELECT count(*) FROM (SELECT * FROM agents ORDER BY seq LIMIT 2000) AS a
		WHERE NOT EXISTS (SELECT 1 FROM agent_index AS i WHERE i.agent_id = a.id AND i.terms = agent_index_terms(a) AND i.price = a.price AND i.status = a.status AND i.latency_ms IS NOT DISTINCT FROM a.latency_ms)`).Scan(&wrong))
	require.Zero(b, wrong)
}

var (
	marketTables  = []string{"agents", "agent_terms", "agent_index"}
	marketColumns = map[string]string{
		"agents": `id, version, owner_user_id, status, category, effective_category, price, trust_score, trust_bound, latency_ms, featured, last_heartbeat, created_at, updated_at,
			name, endpoint, description, tags, search_name, search_skills, search_description, metadata, skills`,
		"agent_terms": `kind, term, agent_id, band`,
		"agent_index": `agent_id, created_at, price, last_heartbeat, latency_ms, band, status, terms`,
	}
)

func latencyOf(a registry.Agent) any {
	if a.Latency == 0 {
		return nil
	}
	return a.Latency.Milliseconds()
}

func copyAgent(w *bufio.Writer, table string, version int64, a registry.Agent) error {
	text, band := a.SearchText(), int64(a.TrustScore/5)
	switch table {
	case "agents":
		var beat any
		if a.LastHeartbeat != nil {
			beat = a.LastHeartbeat.UnixMicro()
		}
		tags, err := json.Marshal(a.Tags)
		if err != nil {
			return err
		}
		type skill struct {
			ID          string   `json:"id"`
			Name        string   `json:"name"`
			Description string   `json:"description"`
			Tags        []string `json:"tags"`
			InputSchema string   `json:"inputSchema"`
		}
		var has []skill
		for _, s := range a.Skills {
			has = append(has, skill{s.ID, s.Name, s.Description, s.Tags, string(s.InputSchema)})
		}
		skills, err := json.Marshal(has)
		if err != nil {
			return err
		}
		return copied(w, a.ID, version, a.OwnerUserID, string(a.Status), a.Category, a.EffectiveCategory(), int64(a.Price), a.TrustScore, a.TrustBound, latencyOf(a), int64(0), beat, a.CreatedAt.UnixMicro(), a.UpdatedAt.UnixMicro(),
			a.Name, a.Endpoint, a.Description, string(tags), text.Name, text.Skills, text.Description, string(a.Metadata), string(skills))
	case "agent_terms":
		for _, t := range a.AllTags() {
			if err := copied(w, "tag", t, a.ID, band); err != nil {
				return err
			}
		}
		for _, s := range a.Skills {
			if err := copied(w, "skill", s.ID, a.ID, band); err != nil {
				return err
			}
		}
		return nil
	default:
		places := map[string][]string{}
		for place, field := range map[string]string{"1A": text.Name, "2B": text.Skills, "3D": text.Description} {
			for w := range strings.FieldsSeq(field) {
				places[w] = append(places[w], place)
			}
		}
		var terms strings.Builder
		entry := func(e, places string) { _, _ = fmt.Fprintf(&terms, "'%02d%s'%s ", band, e, places) }
		begins := map[string]bool{}
		for w, at := range places {
			slices.Sort(at)
			entry(w, ":"+strings.Join(at, ","))
			letters := []rune(w)
			for n := 1; n <= 2 && n <= len(letters); n++ {
				begins["^"+string(letters[:n])] = true
			}
		}
		for p := range begins {
			entry(p, "")
		}
		for _, t := range a.AllTags() {
			entry("#"+t, "")
		}
		for _, s := range a.Skills {
			entry("!"+s.ID, "")
		}
		if c := a.EffectiveCategory(); c != "" {
			entry("="+c, "")
		}
		var beat any
		if a.LastHeartbeat != nil {
			beat = a.LastHeartbeat.UnixMicro()
		}
		return copied(w, a.ID, a.CreatedAt.UnixMicro(), int64(a.Price), beat, latencyOf(a), band, string(a.Status), terms.String())
	}
}
