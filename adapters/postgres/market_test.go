package postgres_test

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/postgres"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/trust"
	"github.com/nexus-protocol/nexus/ports"
)

var marketDay = time.Date(2026, 3, 6, 12, 0, 0, 0, time.UTC)

func reader(n int) registry.Agent {
	return registry.Agent{
		ID: fmt.Sprintf("0198c0de-0000-7000-8000-%012d", n), OwnerUserID: "u", Name: "Reader", Endpoint: "https://a.example.com", Status: registry.Online, Metadata: []byte("{}"),
		TrustScore: 50, Tags: []string{"pdf"}, CreatedAt: marketDay, UpdatedAt: marketDay,
	}
}

func insert(t *testing.T, s *postgres.Store, a registry.Agent) {
	t.Helper()
	require.NoError(t, s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error { return tx.Agents.Insert(ctx, a) }))
}

func discovered(t *testing.T, s *postgres.Store, q registry.Query) []string {
	t.Helper()
	q, err := q.Normalize()
	require.NoError(t, err)
	found, _, err := s.Read().Agents.Discover(t.Context(), q, marketDay)
	require.NoError(t, err)
	return idsOf(found)
}

// TestMemoryKnowsWhatOthersCommit has two processes on a database, of which one searches in memory.
func TestMemoryKnowsWhatOthersCommit(t *testing.T) {
	t.Parallel()
	s, url := fresh(t)
	other, err := postgres.Open(t.Context(), url)
	require.NoError(t, err)
	defer func() { require.NoError(t, other.Close()) }()
	insert(t, s, reader(1))
	require.NoError(t, s.LoadMarket(t.Context()))
	pdf := registry.Query{SkillTags: []string{"pdf"}}
	before := s.Stats()
	require.Equal(t, idsOf([]registry.Agent{reader(1)}), discovered(t, s, pdf))
	require.Equal(t, idsOf([]registry.Agent{reader(1)}), discovered(t, s, pdf))
	require.EqualValues(t, 3, s.Stats().RoundTrips-before.RoundTrips, "what has changed, twice, and the agent once")
	insert(t, other, reader(2))
	require.Len(t, discovered(t, s, pdf), 2)
	require.NoError(t, other.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
		p := trust.Newcomer(reader(2).ID, marketDay, trust.DefaultWeights())
		p.Score, p.Bound, p.Latency.Usual = 80, 70, 3*time.Second
		return tx.Trust.Settle(ctx, p)
	}))
	require.Equal(t, reader(2).ID, discovered(t, s, pdf)[0], "who is better now")
	q, err := pdf.Normalize()
	require.NoError(t, err)
	found, _, err := s.Read().Agents.Discover(t.Context(), q, marketDay)
	require.NoError(t, err)
	require.Equal(t, []any{80.0, 70.0, 3 * time.Second}, []any{found[0].TrustScore, found[0].TrustBound, found[0].Latency}, "as they are now")
	renamed := reader(1)
	renamed.Name, renamed.Tags = "Writer", []string{"ocr"}
	require.NoError(t, other.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error { return tx.Agents.Save(ctx, renamed) }))
	require.Equal(t, []string{reader(2).ID}, discovered(t, s, pdf))
	require.Equal(t, []string{reader(1).ID}, discovered(t, s, registry.Query{Text: "wri"}))
	gone := reader(2)
	gone.DeletedAt = &marketDay
	require.NoError(t, other.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error { return tx.Agents.Save(ctx, gone) }))
	require.Empty(t, discovered(t, s, pdf))
	require.EqualValues(t, 8, s.Stats().Remembered-before.Remembered, "all searches were in memory")
}

// TestMemoryMissesNoLateCommit has a transaction that began before others end after them, and after searches that have seen those.
func TestMemoryMissesNoLateCommit(t *testing.T) {
	t.Parallel()
	s, url := fresh(t)
	for n := 1; n <= 3; n++ {
		insert(t, s, reader(n))
	}
	require.NoError(t, s.LoadMarket(t.Context()))
	db, err := sql.Open("pgx", url)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	late, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = late.ExecContext(t.Context(), "UPDATE agents SET trust_score = 90 WHERE id = $1", reader(3).ID)
	require.NoError(t, err)
	pdf := registry.Query{SkillTags: []string{"pdf"}}
	for n := 4; n <= 6; n++ {
		insert(t, s, reader(n))
		require.Len(t, discovered(t, s, pdf), n)
		require.Equal(t, reader(1).ID, discovered(t, s, pdf)[0])
	}
	require.NoError(t, late.Commit())
	require.Equal(t, reader(3).ID, discovered(t, s, pdf)[0])
	require.Equal(t, reader(3).ID, discovered(t, s, pdf)[0])
}

// TestTooManyForMemory has the database search.
func TestTooManyForMemory(t *testing.T) {
	t.Parallel()
	s, _ := fresh(t, postgres.WithMarket(2))
	insert(t, s, reader(1))
	require.NoError(t, s.LoadMarket(t.Context()))
	pdf := registry.Query{SkillTags: []string{"pdf"}}
	for n := 2; n <= 4; n++ {
		insert(t, s, reader(n))
		require.Len(t, discovered(t, s, pdf), n)
	}
	require.Error(t, s.LoadMarket(t.Context()))
}

// TestAnOpenTransactionCostsNothing has one of another database of the same server that has written, which no number of a later transaction here
// is below.
func TestAnOpenTransactionCostsNothing(t *testing.T) {
	t.Parallel()
	s, url := fresh(t)
	_, elsewhere := fresh(t)
	require.NoError(t, s.LoadMarket(t.Context()))
	other, err := sql.Open("pgx", elsewhere)
	require.NoError(t, err)
	defer func() { require.NoError(t, other.Close()) }()
	open, err := other.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, open.Rollback()) }()
	_, err = open.ExecContext(t.Context(), "CREATE TABLE x (a int)")
	require.NoError(t, err)
	db, err := sql.Open("pgx", url)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	_, err = db.ExecContext(t.Context(), `INSERT INTO agents (id, version, owner_user_id, status, category, effective_category, price, trust_score, trust_bound, featured, created_at, updated_at, name, endpoint,
		description, tags, search_name, search_skills, search_description, metadata, skills)
		SELECT '0198c0de-0000-7000-8000-' || lpad(n::text, 12, '0'), 1, 'u', 'online', '', '', 0, 50, 20, 0, 1, 1, 'Reader', 'https://a.example.com', '', '[]', ' reader', '', '', '{}', '[]' FROM generate_series(1, 3000) AS n`)
	require.NoError(t, err)
	trips := func() int64 {
		before := s.Stats()
		require.Len(t, discovered(t, s, registry.Query{Text: "reader"}), registry.DefaultLimit)
		require.EqualValues(t, 1, s.Stats().Remembered-before.Remembered)
		return s.Stats().RoundTrips - before.RoundTrips
	}
	require.Greater(t, trips(), int64(5), "who has come")
	require.EqualValues(t, 1, trips(), "nobody")
	_, err = db.ExecContext(t.Context(), "UPDATE agent_moves SET moved = moved + 1000000000") // as in a dump of another server
	require.NoError(t, err)
	require.EqualValues(t, 1, trips())
}
