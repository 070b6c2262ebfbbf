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
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/internal/markettest"
	"github.com/nexus-protocol/nexus/domain/registry"
)

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
	words := make([]string, markettest.Words)
	for i := range words {
		words[i] = markettest.Word(i)
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
				a := markettest.Agent(i, words)
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
