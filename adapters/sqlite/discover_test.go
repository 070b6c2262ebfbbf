package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/sqlite"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/ports"
)

// syllables make words in scripts old and new, with marks, ligatures and letters that change their length with their case.
var syllables = []string{
	"a", "re", "Pdf", "x", "9", "42", "é", "É", "ß", "ẞ", "ſ", "ö", "o\u0308", "İ", "ı", "ǅ", "Σ", "σ", "ς", "Ж", "ж", "ё", "ק", "ع", "٣", "漢", "字", "か", "ガ",
	"한", "ჯ", "Ჯ", "𐐀", "𝒩", "ⅷ", "²", "ﬁ", "ꙁ", "ⴀ", "𞤀", "ࢠ", "\U0001E922", "ᦰ", "ᳲ", "ก", "नि", "א", "ꟊ", "K", "-", "_", "%", "'", `"`, "*", "\\", " ", " ", " ", " ", "\n", "🙂", "\u200d",
}

func phrase(r *rand.Rand, n int) string {
	var b strings.Builder
	for range n {
		b.WriteString(syllables[r.IntN(len(syllables))])
	}
	return b.String()
}

// TestDiscoveryAgreesWithTheDomain compares with registry.Query.Match and Compare, under change.
func TestDiscoveryAgreesWithTheDomain(t *testing.T) {
	t.Run("in memory", func(t *testing.T) { discoveryAgrees(t, sqlite.WithMarket(1_000_000)) })
	t.Run("in the database", func(t *testing.T) { discoveryAgrees(t, sqlite.WithMarket(0)) })
}

func discoveryAgrees(t *testing.T, market sqlite.Option) {
	s, _ := fresh(t, market)
	require.NoError(t, s.LoadMarket(t.Context()))
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var all []registry.Agent
	fill := func(a registry.Agent) registry.Agent {
		a.Name, a.Description, a.Status = phrase(r, 4), phrase(r, 12), registry.Statuses()[r.IntN(3)]
		a.Tags, a.Skills, a.Category, a.LastHeartbeat, a.DeletedAt = nil, nil, "", nil, nil
		for range r.IntN(3) {
			a.Tags = append(a.Tags, phrase(r, 1))
		}
		for i := range r.IntN(3) {
			a.Skills = append(a.Skills, registry.Skill{ID: fmt.Sprint("s", r.IntN(2)+2*i), Name: phrase(r, 3), Tags: []string{phrase(r, 1)}})
		}
		if r.IntN(2) == 0 {
			a.Category = phrase(r, 1)
		}
		if r.IntN(2) == 0 {
			beat := day.Add(-time.Duration(r.IntN(400)) * time.Second)
			a.LastHeartbeat = &beat
		}
		if r.IntN(5) == 0 {
			a.DeletedAt = &day
		}
		a.Price, a.CreatedAt = credits.Amount(r.IntN(5)), day.Add(time.Duration(r.IntN(5))*time.Second)
		return a
	}
	for round := range 6 {
		giveUp := round%2 == 1
		next := slices.Clone(all)
		err := s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
			for range 20 {
				a := fill(benchAgent("owner"))
				a.TrustScore, a.Latency = float64(r.IntN(10)), time.Duration(r.IntN(4))*time.Second
				next = append(next, a)
				if err := tx.Agents.Insert(ctx, a); err != nil {
					return err
				}
			}
			for range 20 {
				i := r.IntN(len(next))
				next[i] = fill(next[i])
				if i < len(all) {
					next[i].CreatedAt = all[i].CreatedAt // is not saved
				}
				if i >= len(all) {
					continue
				}
				if err := tx.Agents.Save(ctx, next[i]); err != nil {
					return err
				}
			}
			for i := len(all); i < len(next); i++ { // those that were inserted with other words
				var err error
				if next[i], err = tx.Agents.Get(ctx, next[i].ID); err != nil {
					return err
				}
			}
			if giveUp {
				return errOops
			}
			return nil
		})
		if giveUp {
			require.ErrorIs(t, err, errOops)
		} else {
			require.NoError(t, err)
			all = next
		}
		for range 150 {
			q := registry.Query{Limit: 1 + r.IntN(100), Text: phrase(r, 1+r.IntN(3))}
			switch r.IntN(4) {
			case 0:
				q.Text, q.SkillTags = "", []string{phrase(r, 1), phrase(r, 1)}
			case 1:
				q.Category = phrase(r, 1)
			case 2:
				q.Text, q.SkillID = "", fmt.Sprint("s", r.IntN(4))
			}
			if r.IntN(3) == 0 {
				q.Status = registry.Statuses()[r.IntN(3)]
			}
			if r.IntN(3) == 0 {
				trust, price := float64(r.IntN(10)), credits.Amount(r.IntN(5))
				q.MinTrust, q.MaxPrice = &trust, &price
			}
			if r.IntN(3) == 0 {
				within := time.Duration(1+r.IntN(3)) * time.Second
				q.MaxLatency = &within
			}
			q.Sort = []registry.Sort{"", registry.SortTrust, registry.SortPrice, registry.SortNewest}[r.IntN(4)]
			q, err := q.Normalize()
			require.NoError(t, err)
			var want []registry.Agent
			for _, a := range all {
				if q.Match(a, day) {
					want = append(want, a)
				}
			}
			slices.SortFunc(want, q.Compare)
			got, total, err := s.Read().Agents.Discover(t.Context(), q, day)
			require.NoError(t, err, "%+v", q)
			require.Equal(t, len(want), total, "%q %+v", q.Text, q)
			require.Equal(t, ids(want[:min(q.Limit, len(want))]), ids(got), "%q %+v", q.Text, q)
		}
	}
}

// TestTheTextIndexKnowsEveryLetter asks for a sample of all letters and digits, at every place of a word.
func TestTheTextIndexKnowsEveryLetter(t *testing.T) {
	s, _ := fresh(t, sqlite.WithMarket(0))
	r := rand.New(rand.NewPCG(rand.Uint64(), 0))
	var letters []rune
	for c := range unicode.MaxRune {
		isOne := unicode.IsLetter(c) || unicode.IsDigit(c)
		if block := c >= 0x1980 && c <= 0x19df || c >= 0x1cd0 && c <= 0x1cff; isOne && (block || c < 0x250 || r.IntN(700) == 0) {
			letters = append(letters, c)
		}
	}
	require.Greater(t, len(letters), 300)
	agents := map[rune]string{}
	require.NoError(t, s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
		for _, c := range letters {
			a := benchAgent("owner")
			a.Name, a.Description, a.Skills, a.Tags = fmt.Sprintf("w%x%cb", c, c), "", nil, nil
			agents[c] = a.ID
			if err := tx.Agents.Insert(ctx, a); err != nil {
				return err
			}
		}
		return nil
	}))
	for _, c := range letters {
		for _, text := range []string{fmt.Sprintf("w%x%c", c, c), fmt.Sprintf("w%x%cb", c, c)} {
			q, err := registry.Query{Text: text}.Normalize()
			require.NoError(t, err)
			got, _, err := s.Read().Agents.Discover(t.Context(), q, day)
			require.NoError(t, err, "%U", c)
			require.Contains(t, ids(got), agents[c], "%U", c)
		}
	}
}

func ids(agents []registry.Agent) []string {
	out := make([]string, len(agents))
	for i, a := range agents {
		out[i] = a.ID
	}
	return out
}

// TestAnAgentIsReadAsItIs reads what may come out of memory, after changes that were kept, given up, and made by another
// process.
func TestAnAgentIsReadAsItIs(t *testing.T) {
	s, path := fresh(t)
	a := benchAgent("owner")
	save := func(name string, end error) {
		err := s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
			a, err := tx.Agents.Lock(ctx, a.ID)
			if err != nil {
				return err
			}
			a.Name = name
			if err := tx.Agents.Save(ctx, a); err != nil {
				return err
			}
			got, err := tx.Agents.Get(ctx, a.ID)
			require.Equal(t, name, got.Name)
			return errors.Join(err, end)
		})
		if end == nil {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, end)
		}
	}
	is := func(name string) {
		t.Helper()
		for range 2 {
			got, err := s.Read().Agents.Get(t.Context(), a.ID)
			require.NoError(t, err)
			require.Equal(t, name, got.Name)
			got.Skills[0].Tags[0], got.Skills[0].InputSchema[0], got.Metadata[0] = "changed", '!', '!'
		}
	}
	require.NoError(t, s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error { return tx.Agents.Insert(ctx, a) }))
	is("Agent")
	save("given up", errOops)
	is("Agent")
	save("kept", nil)
	is("kept")
	save("given up again", errOops)
	is("kept")

	got, err := s.Read().Agents.Get(t.Context(), a.ID)
	require.NoError(t, err)
	a.Name = "kept"
	require.Equal(t, a, got)

	_, err = raw(t, path).ExecContext(t.Context(), "UPDATE agents SET trust_score = 99, latency_ms = 1500, featured = 1")
	require.NoError(t, err)
	got, err = s.Read().Agents.Get(t.Context(), a.ID)
	require.NoError(t, err)
	require.True(t, got.Featured)
	require.InDelta(t, 99, got.TrustScore, 0)
	require.Equal(t, 1500*time.Millisecond, got.Latency)
}
