package postgres_test

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/postgres"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/trust"
	"github.com/nexus-protocol/nexus/ports"
)

// TestDiscoveryAgreesWithTheDomain compares with registry.Query's Match, Compare and Past among more agents than are
// counted, sometimes most of them of one band, while scores, words and terms change.
func TestDiscoveryAgreesWithTheDomain(t *testing.T) {
	t.Parallel()
	t.Run("in memory", func(t *testing.T) { discoveryAgrees(t, postgres.WithMarket(1_000_000)) })
	t.Run("in the database", func(t *testing.T) { discoveryAgrees(t, postgres.WithMarket(0)) })
}

func discoveryAgrees(t *testing.T, market postgres.Option) {
	t.Parallel()
	s, url := fresh(t, market)
	require.NoError(t, s.LoadMarket(t.Context()))
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	day := time.Date(2026, 3, 6, 12, 0, 0, 0, time.UTC)
	odd := []string{"a'b", `c\d`, "#x", "!y", "=z", "19w", "~", "%", `"q"`, "é:*", "a & b", "\u007f"}
	pick := func(from []string) string { return from[r.IntN(len(from))] }
	words := strings.Fields("reader writer pdf pdfs é ß 19 20pdf 字 translation " + strings.Repeat("x", 70) + " " + strings.Repeat("x", 59) + "yz")
	crowded := r.IntN(2) == 0
	n := 0
	fill := func(a registry.Agent) registry.Agent {
		a.Name, a.Description = pick(words)+" "+pick(words), pick(words)+" common "+pick(words)
		a.Tags, a.Skills, a.Category, a.Status = []string{pick(odd)}, nil, "", registry.Statuses()[r.IntN(3)]
		if r.IntN(4) > 0 {
			a.Tags = append(a.Tags, "most")
		}
		if r.IntN(2) == 0 {
			a.Category = pick(odd)
		}
		if r.IntN(2) == 0 {
			a.Skills = []registry.Skill{{ID: pick(odd), Name: pick(words), Tags: []string{pick(odd)}}}
		}
		a.Price = credits.Amount(r.IntN(5))
		return a
	}
	latency := func() time.Duration { return time.Duration(r.IntN(4)) * time.Second } // of a quarter it is not known
	score := func() float64 {
		if r.IntN(8) > 0 && crowded {
			return 47.5
		}
		return float64(r.IntN(1001)) / 10
	}
	all := map[string]registry.Agent{}
	var ids []string
	for range 6 {
		require.NoError(t, s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
			for range 250 {
				n++
				a := fill(registry.Agent{ID: fmt.Sprintf("0198c0de-0000-7000-8000-%012x", n), OwnerUserID: "u", Endpoint: "https://a.example.com", Metadata: []byte("{}"), TrustScore: score(), Latency: latency(), CreatedAt: day.Add(time.Duration(n/3) * time.Second), UpdatedAt: day})
				all[a.ID], ids = a, append(ids, a.ID)
				if err := tx.Agents.Insert(ctx, a); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	for range 400 { // what changes is found by what it is now
		id := ids[r.IntN(len(ids))]
		a := all[id]
		require.NoError(t, s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
			a = all[id]
			switch r.IntN(10) {
			case 0:
				a = fill(a)
			case 1:
				a.DeletedAt = &day
			case 2:
				a.Price++
			case 3:
				beat := day.Add(-time.Duration(r.IntN(400)) * time.Second)
				a.LastHeartbeat = &beat
			case 4:
				a.Status = registry.Statuses()[r.IntN(3)]
			default:
				p := trust.Newcomer(id, day, trust.DefaultWeights())
				p.Score, p.Latency.Usual = score(), latency()
				if r.IntN(3) == 0 {
					p.Score = a.TrustScore // and only the latency changes
				}
				a.TrustScore, a.TrustBound, a.Latency = p.Score, p.Bound, p.Latency.Usual
				return tx.Trust.Settle(ctx, p)
			}
			return tx.Agents.Save(ctx, a)
		}))
		all[id] = a
	}
	for range 100 { // now this side of a band's edge, now that
		id := ids[r.IntN(len(ids))]
		a := all[id]
		for range 3 {
			p := trust.Newcomer(id, day, trust.DefaultWeights())
			p.Score = min(max(math.Round(a.TrustScore/5)*5+float64(r.IntN(60)-30)/10, 0), 100)
			p.Latency.Usual = a.Latency
			a.TrustScore = p.Score
			require.NoError(t, s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error { return tx.Trust.Settle(ctx, p) }))
		}
		all[id] = a
	}
	db, err := sql.Open("pgx", url)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	var below, wrong int
	require.NoError(t, db.QueryRowContext(t.Context(), `SELECT count(*) FILTER (WHERE a.trust_score < i.band * 5), count(*) FILTER (WHERE a.trust_score >= i.band * 5 + 5 OR a.trust_score < i.band * 5 - 2
		OR EXISTS (SELECT 1 FROM agent_terms AS t WHERE t.agent_id = a.id AND t.band <> i.band)) FROM agents AS a JOIN agent_index AS i ON i.agent_id = a.id`).Scan(&below, &wrong))
	require.Positive(t, below, "agents that are a little below their band")
	require.Zero(t, wrong, "agents in wrong bands")
	for range 80 {
		q := registry.Query{Limit: 1 + r.IntN(60)}
		if r.IntN(2) == 0 {
			q.Text = pick(words)[:1]
			if !strings.ContainsAny(q.Text, "abcdefghijklmnopqrstuvwxyz") || r.IntN(2) == 0 {
				q.Text = pick(words)
			}
			if r.IntN(3) == 0 {
				q.Text += " com"
			}
		}
		switch r.IntN(4) {
		case 0:
			q.SkillTags = []string{"most"}
		case 1:
			q.SkillTags = []string{pick(odd), pick(odd)}
		case 2:
			q.SkillID = pick(odd)
		}
		if r.IntN(4) == 0 {
			q.Category = pick(odd)
		}
		if r.IntN(4) == 0 {
			q.Status = registry.Statuses()[r.IntN(3)]
		}
		if r.IntN(4) == 0 {
			least := float64(r.IntN(24)) * 2.5
			q.MinTrust = &least
		}
		if r.IntN(4) == 0 {
			most := credits.Amount(r.IntN(5))
			q.MaxPrice = &most
		}
		if r.IntN(4) == 0 {
			within := time.Duration(1+r.IntN(3)) * time.Second
			q.MaxLatency = &within
		}
		if r.IntN(4) == 0 { // what all have
			q = registry.Query{Limit: q.Limit, Text: "common", MaxPrice: q.MaxPrice, MaxLatency: q.MaxLatency}
		}
		q.Sort = []registry.Sort{"", "", registry.SortTrust, registry.SortPrice, registry.SortNewest}[r.IntN(5)]
		q, err := q.Normalize()
		require.NoError(t, err)
		var want []registry.Agent
		for _, a := range all {
			if q.Match(a, day) {
				want = append(want, a)
			}
		}
		broad := len(want) > registry.CountLimit
		if broad && q.Sort == registry.SortRelevance {
			q.Sort = registry.SortTrust
		}
		slices.SortFunc(want, q.Compare)
		asked := q
		if broad && len(q.Words()) > 0 && r.IntN(2) == 0 && q.Sort == registry.SortTrust {
			asked.Sort = registry.SortRelevance // which gives way
		}
		check := func(from int) {
			got, total, err := s.Read().Agents.Discover(t.Context(), asked, day)
			require.NoError(t, err, "%+v", asked)
			if broad {
				require.Greater(t, total, registry.CountLimit, "%+v", asked)
			} else {
				require.Equal(t, len(want), total, "%+v", asked)
			}
			require.Equal(t, idsOf(want[min(from, len(want)):min(from+q.Limit, len(want))]), idsOf(got), "%+v from %d", asked, from)
		}
		asked.Offset = []int{0, r.IntN(120), r.IntN(len(want) + 2)}[r.IntN(3)]
		check(asked.Offset)
		asked.Offset = 0
		if len(want) > 0 && asked.Sort == q.Sort {
			for range 2 {
				i := r.IntN(len(want))
				place := q.Place(want[i])
				asked.After = &place
				check(i + 1)
			}
		}
	}
}

// TestAScoreALittleBelowItsBand has an agent that fell, but not out of its band, behind one of the next band that is better now.
func TestAScoreALittleBelowItsBand(t *testing.T) {
	t.Parallel()
	s, _ := fresh(t, postgres.WithMarket(0))
	day := time.Date(2026, 3, 6, 12, 0, 0, 0, time.UTC)
	agent := func(n int) string { return fmt.Sprintf("0198c0de-0000-7000-8000-%012d", n) }
	settle := func(n int, score float64) {
		p := trust.Newcomer(agent(n), day, trust.DefaultWeights())
		p.Score = score
		require.NoError(t, s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error { return tx.Trust.Settle(ctx, p) }))
	}
	for n, score := range []float64{1: 77, 2: 76, 3: 74, 4: 60} {
		if n == 0 {
			continue
		}
		require.NoError(t, s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
			return tx.Agents.Insert(ctx, registry.Agent{
				ID: agent(n), OwnerUserID: "u", Name: "Reader", Endpoint: "https://a.example.com", Status: registry.Online, Metadata: []byte("{}"), TrustScore: score,
				Tags: []string{"pdf"}, CreatedAt: day, UpdatedAt: day,
			})
		}))
	}
	settle(2, 73.5)
	for _, how := range []registry.Query{{SkillTags: []string{"pdf"}}, {SkillTags: []string{"pdf", "x"}}, {SkillTags: []string{"pdf"}, Status: registry.Online}, {Text: "read", Sort: registry.SortTrust}} {
		ask := func(limit, offset int, least float64, after *registry.Place) []string {
			q := how
			q.Limit, q.Offset, q.After = limit, offset, after
			if least > 0 {
				q.MinTrust = &least
			}
			q, err := q.Normalize()
			require.NoError(t, err)
			found, _, err := s.Read().Agents.Discover(t.Context(), q, day)
			require.NoError(t, err)
			return idsOf(found)
		}
		require.Equal(t, []string{agent(1), agent(3)}, ask(2, 0, 0, nil), "%+v", how)
		require.Equal(t, []string{agent(3)}, ask(1, 1, 0, nil), "%+v", how)
		require.Equal(t, []string{agent(2), agent(4)}, ask(2, 2, 0, nil), "%+v", how)
		require.Equal(t, []string{agent(1), agent(3)}, ask(5, 0, 74, nil), "%+v", how)
		require.Equal(t, []string{agent(1)}, ask(5, 0, 75, nil), "%+v", how)
		require.Equal(t, []string{agent(3)}, ask(1, 0, 0, &registry.Place{Trust: 77, ID: agent(1)}), "%+v", how)
		require.Equal(t, []string{agent(2)}, ask(1, 0, 0, &registry.Place{Trust: 74, ID: agent(3)}), "%+v", how)
	}
}

func idsOf(agents []registry.Agent) []string {
	out := make([]string, len(agents))
	for i, a := range agents {
		out[i] = a.ID
	}
	return out
}
