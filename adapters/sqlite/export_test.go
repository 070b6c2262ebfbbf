package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// WithCommit puts a fault around every COMMIT.
func WithCommit(around func(commit func() error) error) Option {
	return func(o *options) { o.commit = around }
}

// WriteHandle is the handle of the writer.
func (s *Store) WriteHandle() *sql.DB { return s.handles.write }

// ReadHandle is the handle of the readers.
func (s *Store) ReadHandle() *sql.DB { return s.handles.read }

type rower interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func pragmasOf(t testing.TB, c rower) string {
	t.Helper()
	var synchronous, foreignKeys, busy int
	var journal string
	ctx := t.Context()
	require.NoError(t, c.QueryRowContext(ctx, "PRAGMA synchronous").Scan(&synchronous))
	require.NoError(t, c.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&journal))
	require.NoError(t, c.QueryRowContext(ctx, "PRAGMA foreign_keys").Scan(&foreignKeys))
	require.NoError(t, c.QueryRowContext(ctx, "PRAGMA busy_timeout").Scan(&busy))
	return fmt.Sprintln(synchronous, journal, foreignKeys, busy)[:12]
}

// WritePragmas are those of the writer's connection, before the writer has taken it.
func (s *Store) WritePragmas(t testing.TB) string {
	t.Helper()
	return pragmasOf(t, s.handles.write)
}

// ReadPragmas are those of all n connections of the readers, before these have taken them.
func (s *Store) ReadPragmas(t testing.TB, n int) (out []string) {
	t.Helper()
	for range n {
		c, err := s.handles.read.Conn(t.Context())
		require.NoError(t, err)
		defer func() { require.NoError(t, c.Close()) }()
		out = append(out, pragmasOf(t, c))
	}
	return out
}
