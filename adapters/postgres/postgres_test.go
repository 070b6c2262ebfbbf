package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/adapters/postgres"
	"github.com/nexus-protocol/nexus/adapters/postgres/postgrestest"
	"github.com/nexus-protocol/nexus/domain/billing"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
	"github.com/nexus-protocol/nexus/ports/portstest"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }

// fresh is a store in an empty database.
func fresh(t testing.TB, opts ...postgres.Option) (*postgres.Store, string) {
	t.Helper()
	url := postgrestest.Prepared(t, func(url string) error { return postgres.Migrate(context.Background(), url) })
	s, err := postgres.Open(t.Context(), url, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s, url
}

func TestStore(t *testing.T) {
	for _, c := range portstest.StoreChecks() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			s, _ := fresh(t)
			require.NoError(t, c.Run(t.Context(), s, portstest.Traits{TimePrecision: time.Microsecond}))
		})
	}
}

// TestTheDatabaseSearchesToo is the part of the suite that searches, where nothing is kept in memory.
func TestTheDatabaseSearchesToo(t *testing.T) {
	for _, c := range portstest.StoreChecks() {
		if strings.HasPrefix(c.Name, "agents/") {
			t.Run(c.Name, func(t *testing.T) {
				t.Parallel()
				s, _ := fresh(t, postgres.WithMarket(0))
				require.NoError(t, c.Run(t.Context(), s, portstest.Traits{TimePrecision: time.Microsecond}))
			})
		}
	}
}

func TestTenProcessesMigrateAtOnce(t *testing.T) {
	t.Parallel()
	url := postgrestest.URL(t)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if err := postgres.Migrate(t.Context(), url); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	list, err := postgres.MigrationStatus(t.Context(), url)
	require.NoError(t, err)
	for _, m := range list {
		require.True(t, m.Applied, m.Name)
	}
}

func TestUpDownUp(t *testing.T) {
	t.Parallel()
	url := postgrestest.URL(t)
	for range 2 {
		require.NoError(t, postgres.Migrate(t.Context(), url))
		require.NoError(t, postgres.MigrateDown(t.Context(), url))
	}
	_, err := postgres.Open(t.Context(), url)
	require.ErrorIs(t, err, postgres.ErrSchemaOlder)
}

func TestANewerSchemaIsRefused(t *testing.T) {
	t.Parallel()
	_, url := fresh(t)
	db, err := sql.Open("pgx", url)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	_, err = db.Exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, true)")
	require.NoError(t, err)
	require.ErrorIs(t, postgres.Migrate(t.Context(), url), postgres.ErrSchemaNewer)
	_, err = postgres.Open(t.Context(), url)
	require.ErrorIs(t, err, postgres.ErrSchemaNewer)
}

func TestTheLedgerIsAppendOnly(t *testing.T) {
	t.Parallel()
	s, url := fresh(t)
	require.NoError(t, s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
		return errors.Join(tx.Ledger.Post(ctx, ledger.Grant("u", now()).Stamp(memory.NewID)), tx.Ledger.Seal(ctx, ledger.Seal{N: 1, Marks: []byte("x")}),
			tx.Grants.Insert(ctx, billing.Grant{ID: "g", UserID: "u", ByID: "a", Credits: 1, Reason: "x", At: now()}))
	}))
	db, err := sql.Open("pgx", url)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	db.SetMaxOpenConns(1)
	for _, role := range []string{"origin", "replica"} { // in the second, triggers are off that are not always on
		_, err := db.Exec("SET session_replication_role = " + role)
		require.NoError(t, err)
		for _, q := range []string{
			"UPDATE ledger_entries SET amount = 2", "DELETE FROM ledger_entries", "TRUNCATE ledger_entries",
			"UPDATE ledger_transfers SET key = 'x'", "DELETE FROM ledger_transfers", "TRUNCATE ledger_transfers",
			"UPDATE ledger_seals SET hash = ''", "DELETE FROM ledger_seals", "TRUNCATE ledger_seals",
			"DELETE FROM ledger_accounts", "TRUNCATE ledger_accounts",
			"UPDATE credit_grants SET reason = ''", "DELETE FROM credit_grants", "TRUNCATE credit_grants",
		} {
			_, err := db.Exec(q)
			require.ErrorContains(t, err, "append-only", q)
		}
	}
}

func TestWhatTheDatabaseRefusesOfTheLedger(t *testing.T) {
	t.Parallel()
	s, url := fresh(t)
	require.NoError(t, s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
		return tx.Ledger.Post(ctx, ledger.Grant("u", now()).Stamp(memory.NewID))
	}))
	db, err := sql.Open("pgx", url)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	for q, want := range map[string]string{
		"UPDATE ledger_accounts SET available = available - 1000000, spent = spent + 1000000":                             "only a reversal",
		"UPDATE ledger_accounts SET available = available - 100002, reversed = reversed + 100001, spent = spent + 1":      "only a reversal",
		"INSERT INTO ledger_accounts VALUES ('v', -1, 0, 0, 0, 0, 0, 1)":                                                  "only a reversal",
		"UPDATE ledger_accounts SET held = -1, spent = 1":                                                                 "held_check",
		"UPDATE ledger_accounts SET available = available + 1":                                                            "ledger_accounts_check",
		"UPDATE ledger_accounts SET available = available + 9223372036854775807, granted = granted + 9223372036854775807": "out of range",
		"INSERT INTO ledger_transfers SELECT 'other', key, '', '', 0 FROM ledger_transfers":                               "key",
		`INSERT INTO ledger_entries (id, transfer_id, account, type, amount, balance_after, at) VALUES
			('e', 't', 'a', 'hold', 1, 0, 0), ('e', 't', 'b', 'hold', -1, 0, 0), ('e', 'x', 'a', 'hold', 1, 0, 0)`: "does not balance",
	} {
		_, err := db.Exec(q)
		require.ErrorContains(t, err, want, q)
	}
	_, err = db.Exec("UPDATE ledger_accounts SET available = available - 100001, reversed = reversed + 100001")
	require.NoError(t, err, "a debt")
}

func TestAWrongURLIsOneClearLine(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"postgres://nobody:secret@127.0.0.1:1/none": "127.0.0.1:1",
		"mysql://x":   "postgres://",
		"postgres://": "",
	} {
		began := time.Now()
		err := postgres.Migrate(t.Context(), url)
		if want == "" { // the libpq defaults of the machine may lead somewhere
			continue
		}
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "secret")
		require.NotContains(t, err.Error(), "\n")
		require.Less(t, time.Since(began), 5*time.Second)
	}
}

// Units that each lock one row wait for each other in a circle once they share transactions. The database breaks the
// circle by failing one; its whole transaction must then give its locks up, or the next unit in it fails alike.
func TestACircleOfSharedTransactionsIsBroken(t *testing.T) {
	t.Parallel()
	url := postgrestest.URL(t)
	require.NoError(t, postgres.Migrate(t.Context(), url))
	s, err := postgres.Open(t.Context(), url, postgres.WithWriters(4), postgres.WithGroup(256))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	at := time.Now().UTC().Truncate(time.Microsecond)
	u := identity.User{ID: "u", Email: "u@example.com", Role: identity.RoleUser, CreatedAt: at}
	var ids []string
	require.NoError(t, s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
		ids = nil
		if err := tx.Users.Insert(ctx, u); err != nil {
			return err
		}
		for i := range 8 {
			v, events, err := task.New(task.Draft{ID: fmt.Sprint("t", i), Title: "x", RequesterUserID: "u", AgentID: "a", AgentOwnerID: "u", At: at})
			if err != nil {
				return err
			}
			if err := tx.Tasks.Insert(ctx, v, events); err != nil {
				return err
			}
			ids = append(ids, v.ID)
		}
		return nil
	}))
	const workers, each = 24, 8
	began := time.Now()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				id := ids[rand.IntN(len(ids))]
				err := s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
					v, err := tx.Tasks.Lock(ctx, id)
					if err != nil {
						return err
					}
					v.Attempts++
					return tx.Tasks.Save(ctx, v, nil)
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	total := 0
	for _, id := range ids {
		v, err := s.Read().Tasks.Get(t.Context(), id)
		require.NoError(t, err)
		total += v.Attempts
	}
	require.Equal(t, workers*each, total, "no update is lost")
	require.Less(t, time.Since(began), 60*time.Second)
}

// The statements for the metrics can be answered from indexes alone, but for the jobs that are due.
func TestStatsUseIndexes(t *testing.T) {
	t.Parallel()
	_, url := fresh(t)
	db, err := sql.Open("pgx", url)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	db.SetMaxOpenConns(1)
	_, err = db.Exec("SET enable_seqscan = off; SET enable_bitmapscan = off") // which is cheaper as long as there is nothing
	require.NoError(t, err)
	for query, want := range map[string]string{
		"SELECT status, count(*) FROM tasks WHERE status IN ('pending', 'assigned', 'running') GROUP BY status":     "Index Only Scan using tasks_open",
		"SELECT priority, count(*) FROM jobs GROUP BY priority":                                                     "Index Only Scan using jobs_due",
		"SELECT priority, min(lease_until) FROM jobs WHERE priority IN (0, 1, 2) AND run_at <= 1 GROUP BY priority": "Index Scan using jobs_due",
		"SELECT sum(amount) FROM ledger_entries WHERE seq > 1":                                                      "Index Scan using ledger_entries_pkey",
	} {
		rows, err := db.QueryContext(t.Context(), "EXPLAIN "+query)
		require.NoError(t, err)
		var plan string
		for rows.Next() {
			var line string
			require.NoError(t, rows.Scan(&line))
			plan += line + "\n"
		}
		require.NoError(t, rows.Err())
		require.Contains(t, plan, want, query)
	}
}

// The newest migrations can be taken back and made again with data there.
func TestTheNewestMigrationsKeepWhatIsThere(t *testing.T) {
	t.Parallel()
	s, url := fresh(t)
	j := ports.Job{ID: "j", Kind: "k", Subject: "s", Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
	agent := func(id string, latency time.Duration) registry.Agent {
		return registry.Agent{ID: id, OwnerUserID: "u", Name: "Reader", Endpoint: "https://a.example.com", Status: registry.Online, Metadata: []byte("{}"), TrustScore: 50, Latency: latency}
	}
	require.NoError(t, s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
		return errors.Join(tx.Jobs.Enqueue(ctx, j), tx.Agents.Insert(ctx, agent("a", time.Second)))
	}))
	for range 2 {
		require.NoError(t, postgres.MigrateDown(t.Context(), url))
	}
	require.NoError(t, postgres.Migrate(t.Context(), url))
	again, err := postgres.Open(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, again.Close()) })
	n, err := again.Read().Jobs.Count(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.NoError(t, again.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error { return tx.Agents.Insert(ctx, agent("b", time.Second)) }))
	for _, q := range []registry.Query{{Text: "reader"}, {Text: "reader", MaxLatency: new(time.Second)}} {
		q, err := q.Normalize()
		require.NoError(t, err)
		found, _, err := again.Read().Agents.Discover(t.Context(), q, time.Now())
		require.NoError(t, err)
		require.Len(t, found, map[bool]int{true: 2, false: 1}[q.MaxLatency == nil], "that of before has no latency now")
	}
}
