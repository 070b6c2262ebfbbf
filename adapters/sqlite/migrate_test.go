package sqlite_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/sqlite"
)

// schema is everything that the migrations made.
func schema(t *testing.T, path string) (out []string) {
	t.Helper()
	rows, err := raw(t, path).QueryContext(t.Context(), "SELECT type || ' ' || name || ': ' || COALESCE(sql, '') FROM sqlite_schema WHERE name NOT LIKE 'goose%' AND name NOT LIKE 'sqlite_%' ORDER BY 1")
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	for rows.Next() {
		var s string
		require.NoError(t, rows.Scan(&s))
		out = append(out, s)
	}
	require.NoError(t, rows.Err())
	return out
}

func TestMigrateUpDownUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nexus.db")
	ctx := t.Context()
	status, err := sqlite.MigrationStatus(ctx, path)
	require.NoError(t, err)
	require.NotEmpty(t, status)
	newest := status[len(status)-1]
	require.False(t, newest.Applied)

	require.NoError(t, sqlite.Migrate(ctx, path))
	first := schema(t, path)
	require.NotEmpty(t, first)
	version, err := sqlite.SchemaVersion(ctx, path)
	require.NoError(t, err)
	require.Equal(t, newest.Version, version)

	for range status {
		require.NoError(t, sqlite.MigrateDown(ctx, path))
	}
	require.Empty(t, schema(t, path), "down takes back all that up made")
	require.NoError(t, sqlite.MigrateDown(ctx, path), "and then does nothing")
	version, err = sqlite.SchemaVersion(ctx, path)
	require.NoError(t, err)
	require.Zero(t, version)
	_, err = sqlite.Open(ctx, path)
	require.ErrorIs(t, err, sqlite.ErrSchemaOlder)

	require.NoError(t, sqlite.Migrate(ctx, path))
	require.Equal(t, first, schema(t, path))
	status, err = sqlite.MigrationStatus(ctx, path)
	require.NoError(t, err)
	require.True(t, status[0].Applied)
	require.Equal(t, "init", status[0].Name)
	require.WithinDuration(t, time.Now(), status[0].AppliedAt, time.Minute)
}

func TestASchemaFromTheFutureIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nexus.db")
	require.NoError(t, sqlite.Migrate(t.Context(), path))
	_, err := raw(t, path).ExecContext(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, 1)")
	require.NoError(t, err)
	before := schema(t, path)
	_, openErr := sqlite.Open(t.Context(), path)
	_, statusErr := sqlite.MigrationStatus(t.Context(), path)
	for name, err := range map[string]error{
		"up": sqlite.Migrate(t.Context(), path), "down": sqlite.MigrateDown(t.Context(), path), "open": openErr, "status": statusErr,
	} {
		require.ErrorIs(t, err, sqlite.ErrSchemaNewer, name)
		require.ErrorContains(t, err, "99999", name)
	}
	require.Equal(t, before, schema(t, path))
}

func TestTenMigrationsAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nexus.db")
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if err := sqlite.Migrate(t.Context(), path); err != nil {
				t.Error(err)
				return
			}
			s, err := sqlite.Open(t.Context(), path)
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	one := filepath.Join(t.TempDir(), "one.db")
	require.NoError(t, sqlite.Migrate(t.Context(), one))
	require.Equal(t, schema(t, one), schema(t, path))
}

const childEnv = "NEXUS_TEST_MIGRATE"

// TestTenProcessesMigrateAtOnce starts this test binary ten times.
func TestTenProcessesMigrateAtOnce(t *testing.T) {
	if path := os.Getenv(childEnv); path != "" {
		require.NoError(t, sqlite.Migrate(t.Context(), path))
		return
	}
	path := filepath.Join(t.TempDir(), "nexus.db")
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTenProcessesMigrateAtOnce$")
			c.Env = append(os.Environ(), childEnv+"="+path)
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	all.Wait()
	_, err := sqlite.Open(t.Context(), path)
	require.NoError(t, err)
}

func TestMigrateWaitsNoLongerThanItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nexus.db")
	release, err := sqlite.LockProcess(path + ".migrate") // the same file
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, sqlite.Migrate(ctx, path), context.DeadlineExceeded)
	release()
	require.NoError(t, sqlite.Migrate(t.Context(), path))
}

func TestOneServerAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nexus.db")
	release, err := sqlite.LockProcess(path)
	require.NoError(t, err)
	_, err = sqlite.LockProcess(path)
	require.ErrorIs(t, err, sqlite.ErrLocked)
	release()
	release, err = sqlite.LockProcess(path)
	require.NoError(t, err)
	release()
}
