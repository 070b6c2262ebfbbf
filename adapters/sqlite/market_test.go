package sqlite_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/sqlite"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/ports"
)

// TestMemoryKnowsWhatOthersCommit has the file changed by another process, as the command line does beside a server.
func TestMemoryKnowsWhatOthersCommit(t *testing.T) {
	t.Parallel()
	s, path := fresh(t)
	other, err := sqlite.Open(t.Context(), path)
	require.NoError(t, err)
	defer func() { require.NoError(t, other.Close()) }()
	insert := func(a registry.Agent) {
		require.NoError(t, other.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error { return tx.Agents.Insert(ctx, a) }))
	}
	search := func(text string) []string {
		q, err := registry.Query{Text: text}.Normalize()
		require.NoError(t, err)
		found, _, err := s.Read().Agents.Discover(t.Context(), q, day)
		require.NoError(t, err)
		return ids(found)
	}
	before := s.Stats()
	first, second := benchAgent("owner"), benchAgent("owner")
	first.Name, second.Name = "Reader", "Readers"
	insert(first)
	require.NoError(t, s.LoadMarket(t.Context()))
	require.Equal(t, []string{first.ID}, search("read"))
	insert(second)
	require.Len(t, search("read"), 2)
	second.Name = "Writer"
	require.NoError(t, other.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error { return tx.Agents.Save(ctx, second) }))
	require.Equal(t, []string{second.ID}, search("writer"))
	_, err = raw(t, path).ExecContext(t.Context(), "UPDATE agents SET deleted_at = 1 WHERE id = ?", first.ID)
	require.NoError(t, err)
	require.Empty(t, search("read"))
	_, err = raw(t, path).ExecContext(t.Context(), "DELETE FROM agents WHERE id = ?", second.ID)
	require.NoError(t, err)
	require.Empty(t, search("writer"))
	require.EqualValues(t, 5, s.Stats().Remembered-before.Remembered, "all searches were in memory")
}

// TestTheMarketIsMadeAnew has an agent that changes its words until most of what is remembered is of no use. Meanwhile others come and go, and
// are found while they are there.
func TestTheMarketIsMadeAnew(t *testing.T) {
	t.Parallel()
	s, _ := fresh(t)
	update := func(fn func(ctx context.Context, tx ports.Tx) error) { require.NoError(t, s.Update(t.Context(), fn)) }
	found := func() (out []string) {
		q, err := registry.Query{SkillTags: []string{"passing"}}.Normalize()
		require.NoError(t, err)
		got, _, err := s.Read().Agents.Discover(t.Context(), q, day)
		require.NoError(t, err)
		return ids(got)
	}
	fat := benchAgent("owner")
	update(func(ctx context.Context, tx ports.Tx) error { return tx.Agents.Insert(ctx, fat) })
	require.NoError(t, s.LoadMarket(t.Context()))
	for n := 0; s.Stats().Markets < 2; n++ {
		require.Less(t, n, 5_000)
		if n%3 == 0 && n < 300 { // some 6 000 words
			fat.Skills = nil
			for i := range 50 {
				var words strings.Builder
				for w := range 120 {
					fmt.Fprintf(&words, "%x ", (n*50+i)*120+w)
				}
				fat.Skills = append(fat.Skills, registry.Skill{ID: fmt.Sprint("s", i), Name: "s", Description: words.String()})
			}
			update(func(ctx context.Context, tx ports.Tx) error { return tx.Agents.Save(ctx, fat) })
		}
		a := benchAgent("owner")
		a.Tags = []string{"passing"}
		update(func(ctx context.Context, tx ports.Tx) error { return tx.Agents.Insert(ctx, a) })
		require.Equal(t, []string{a.ID}, found())
		a.DeletedAt = &day
		update(func(ctx context.Context, tx ports.Tx) error { return tx.Agents.Save(ctx, a) })
		require.Empty(t, found())
	}
}

// TestAnAgentWithoutAUUID is found by the database, as the memory cannot hold it.
func TestAnAgentWithoutAUUID(t *testing.T) {
	t.Parallel()
	s, _ := fresh(t)
	a := benchAgent("owner")
	require.NoError(t, s.LoadMarket(t.Context()))
	for _, id := range []string{a.ID, "odd"} {
		a.ID, a.Name = id, "Odd"
		require.NoError(t, s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error { return tx.Agents.Insert(ctx, a) }))
	}
	q, err := registry.Query{Text: "odd"}.Normalize()
	require.NoError(t, err)
	found, total, err := s.Read().Agents.Discover(t.Context(), q, day)
	require.NoError(t, err)
	require.Len(t, found, 2)
	require.Equal(t, 2, total)
	require.Error(t, s.LoadMarket(t.Context()))
}
