package sqlite_test

import (
	"context"
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
