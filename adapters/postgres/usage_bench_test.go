package postgres_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/ports"
)

// usageEntries is how many entries the user has in the 90 days, and half as many before them.
const usageEntries = 1_000_000

// seedUsage books the entries of one user who is busy, behind the store's back: every third is money spent.
func seedUsage(b *testing.B, url, userID string) {
	b.Helper()
	db, err := sql.Open("pgx", url)
	require.NoError(b, err)
	defer func() { require.NoError(b, db.Close()) }()
	db.SetMaxOpenConns(1)
	for _, q := range []string{
		`SET session_replication_role = replica`, // no triggers: these entries have no others to balance
		`INSERT INTO ledger_entries (id, transfer_id, account, type, amount, balance_after, at)
			SELECT 'e' || n, 't' || n / 3, $1, (ARRAY['hold', 'release', 'task_debit'])[1 + n % 3], CASE WHEN n % 3 = 1 THEN 100 ELSE -100 END, 0,
				(EXTRACT(EPOCH FROM now() - interval '135 days') * 1000000)::bigint + n * (135 * 86400000000 / ($2 * 3 / 2))
			FROM generate_series(0::bigint, $2 * 3 / 2 - 1) AS n`,
		`VACUUM ANALYZE ledger_entries`,
	} {
		var args []any
		if q[0] == 'I' {
			args = []any{string(ledger.Available(userID)), usageEntries}
		}
		_, err := db.Exec(q, args...)
		require.NoError(b, err)
	}
}

// BenchmarkUsage is the report of 90 days over 1 000 000 entries: as it is without sums of days, while they are made, and
// with them.
func BenchmarkUsage(b *testing.B) {
	s, url := fresh(b)
	seedUsage(b, url, "busy")
	from := time.Now().UTC().AddDate(0, 0, -89).Format(time.DateOnly)
	read := func(b *testing.B) (days []ledger.Day) {
		var err error
		for b.Loop() {
			days, err = s.Read().Ledger.Usage(b.Context(), "busy", from)
			require.NoError(b, err)
		}
		return days
	}
	var loose, summed []ledger.Day
	b.Run("loose", func(b *testing.B) { loose = read(b) })
	b.Run("fold", func(b *testing.B) {
		for b.Loop() {
			for more := true; more; {
				require.NoError(b, s.Update(b.Context(), func(ctx context.Context, tx ports.Tx) (err error) {
					more, err = tx.Usage.Fold(ctx, "busy", 50_000)
					return err
				}))
			}
		}
	})
	b.Run("summed", func(b *testing.B) { summed = read(b) })
	require.Len(b, summed, 90)
	require.Equal(b, loose, summed)
}
