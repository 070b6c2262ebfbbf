package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/sqlite"
	"github.com/nexus-protocol/nexus/adapters/sqlite/sqlitetest"
	"github.com/nexus-protocol/nexus/domain/billing"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/ports"
	"github.com/nexus-protocol/nexus/ports/portstest"
)

var traits = portstest.Traits{TimePrecision: time.Microsecond}

// fresh makes a migrated file and a store over it.
func fresh(t testing.TB, opts ...sqlite.Option) (*sqlite.Store, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nexus.db")
	sqlitetest.Fill(t, path)
	s, err := sqlite.Open(t.Context(), path, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s, path
}

// raw opens the file behind the store's back.
func raw(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)&_pragma=recursive_triggers(1)")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func TestStore(t *testing.T) {
	for _, c := range portstest.StoreChecks() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			s, _ := fresh(t)
			require.NoError(t, c.Run(t.Context(), s, traits))
		})
	}
}

// TestTheDatabaseSearchesToo is the part of the suite that searches, where nothing is kept in memory.
func TestTheDatabaseSearchesToo(t *testing.T) {
	for _, c := range portstest.StoreChecks() {
		if strings.HasPrefix(c.Name, "agents/") {
			t.Run(c.Name, func(t *testing.T) {
				t.Parallel()
				s, _ := fresh(t, sqlite.WithMarket(0))
				require.NoError(t, c.Run(t.Context(), s, traits))
			})
		}
	}
}

func userOf(i int) identity.User {
	return identity.User{ID: fmt.Sprint("u", i), Email: fmt.Sprintf("u%d@example.com", i), PasswordHash: "h", Role: identity.RoleUser, CreatedAt: time.Unix(1, 0)}
}

func insertUser(s ports.Store, i int) error {
	return s.Update(context.Background(), func(ctx context.Context, tx ports.Tx) error { return tx.Users.Insert(ctx, userOf(i)) })
}

func grant(userID string) ledger.Transfer {
	n := 0
	return ledger.Grant(userID, time.Unix(1, 0)).Stamp(func() string { n++; return fmt.Sprint(userID, "-", n) })
}

func TestLedgerIsAppendOnly(t *testing.T) {
	s, path := fresh(t)
	require.NoError(t, s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error { return tx.Ledger.Post(ctx, grant("u")) }))
	require.NoError(t, s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
		return errors.Join(tx.Ledger.Seal(ctx, ledger.Seal{N: 1, Marks: []byte("x")}),
			tx.Grants.Insert(ctx, billing.Grant{ID: "g", UserID: "u", ByID: "a", Credits: 1, Reason: "x", At: time.Unix(1, 0)}))
	}))
	db := raw(t, path)
	for _, stmt := range []string{
		"DELETE FROM ledger_accounts",
		"REPLACE INTO ledger_accounts SELECT * FROM ledger_accounts",
		"UPDATE ledger_seals SET hash = x'00'",
		"DELETE FROM ledger_seals",
		"REPLACE INTO ledger_seals SELECT * FROM ledger_seals",
		"UPDATE ledger_entries SET amount = amount + 1",
		"DELETE FROM ledger_entries",
		"REPLACE INTO ledger_entries SELECT * FROM ledger_entries",
		"UPDATE ledger_transfers SET description = 'x'",
		"DELETE FROM ledger_transfers",
		"REPLACE INTO ledger_transfers SELECT * FROM ledger_transfers",
		"UPDATE credit_grants SET reason = ''",
		"DELETE FROM credit_grants",
		"REPLACE INTO credit_grants SELECT * FROM credit_grants",
	} {
		_, err := db.ExecContext(t.Context(), stmt)
		require.ErrorContains(t, err, "append-only", stmt)
	}
	b, err := s.Read().Ledger.Balance(t.Context(), "u")
	require.NoError(t, err)
	require.Equal(t, ledger.InitialGrant, b.Available)
}

func TestConstraints(t *testing.T) {
	s, path := fresh(t)
	require.NoError(t, s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error { return tx.Ledger.Post(ctx, grant("u")) }))
	db := raw(t, path)
	_, err := db.ExecContext(t.Context(), "PRAGMA foreign_keys = 1")
	require.NoError(t, err)
	for _, stmt := range []string{
		"UPDATE ledger_accounts SET available = available - 1000000, spent = spent + 1000000",                        // below zero
		"UPDATE ledger_accounts SET available = available - 100002, reversed = reversed + 100001, spent = spent + 1", // by more than was reversed
		"INSERT INTO ledger_accounts VALUES ('v', -1, 0, 0, 0, 0, 0, 1)",                                             // from nothing
		"UPDATE ledger_accounts SET held = -1, spent = 1",
		"UPDATE ledger_accounts SET available = available + 1",                                                                   // does not add up
		"UPDATE ledger_accounts SET available = available + 9223372036854775807, granted = granted + 9223372036854775807",        // overflows
		"INSERT INTO ledger_entries VALUES (NULL, 'i', 't', 'a', 'gift', 1, 0, 0)",                                               // no such type
		"INSERT INTO users (id, email, password_hash, role, created_at) VALUES ('x', 'x@example.com', 'h', 'root', 0)",           // no such role
		"INSERT INTO users (id, email, password_hash, role, created_at) VALUES ('x', 'x@example.com', 'h', 'user', 'yesterday')", // no time
		"INSERT INTO sessions (token_hash, user_id, created_at, last_seen_at, expires_at) VALUES ('h', 'nobody', 0, 0, 0)",       // no such user
		"INSERT INTO jobs VALUES ('j', 'k', 's', 0, 3, 0, '', 0, '')",                                                            // no such priority
		"INSERT INTO task_events VALUES ('t', 1, 'rumour', 'running', 0, '')",                                                    // no such kind
		"INSERT INTO trust_events VALUES ('a', 0, 'e', 'praise', 0, 0, 0, '', '', 1, 1, 0, 1)",                                   // no such type
		"INSERT INTO ledger_transfers SELECT 'other', key, '', '', 0 FROM ledger_transfers",                                      // the same key
	} {
		_, err := db.ExecContext(t.Context(), stmt)
		require.ErrorContains(t, err, "constraint", stmt)
	}
}

func TestAnOverflowIsAnError(t *testing.T) {
	s, _ := fresh(t)
	post := func(key string) error {
		return s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
			return tx.Ledger.Post(ctx, ledger.Transfer{ID: key, Key: key, At: time.Unix(1, 0), Postings: []ledger.Posting{
				{ID: key + "1", Account: ledger.Issuance, Type: ledger.TypePurchase, Amount: -(1 << 62)},
				{ID: key + "2", Account: ledger.Available("u"), Type: ledger.TypePurchase, Amount: 1 << 62},
			}})
		})
	}
	require.NoError(t, post("a"))
	require.Error(t, post("b"))
	b, err := s.Read().Ledger.Balance(t.Context(), "u")
	require.NoError(t, err)
	require.EqualValues(t, 1<<62, b.Available)
}

func TestAPartOfATransferIsNeverKept(t *testing.T) {
	s, _ := fresh(t)
	hold, err := ledger.Hold{TaskID: "t", UserID: "u", Amount: 1}.Place(time.Unix(1, 0))
	require.NoError(t, err)
	err = s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
		if err := tx.Users.Insert(ctx, userOf(1)); err != nil {
			return err
		}
		_ = tx.Ledger.Post(ctx, hold.Stamp(func() string { return "id" })) // refused, and the function goes on all the same
		return nil
	})
	require.ErrorContains(t, err, "INSUFFICIENT_CREDITS")
	_, err = s.Read().Users.Get(t.Context(), "u1")
	require.ErrorContains(t, err, "NOT_FOUND")
}

func TestATransactionCannotBeKept(t *testing.T) {
	s, _ := fresh(t)
	var kept ports.Tx
	require.NoError(t, s.Update(t.Context(), func(_ context.Context, tx ports.Tx) error { kept = tx; return nil }))
	_, err := kept.Users.Count(t.Context())
	require.ErrorContains(t, err, "ended")
}

// TestEveryConnectionIsDurable looks at the pragmas from inside of each connection.
func TestEveryConnectionIsDurable(t *testing.T) {
	s, _ := fresh(t)
	for name, db := range map[string]*sql.DB{"write": s.WriteHandle(), "read": s.ReadHandle()} {
		n := db.Stats().MaxOpenConnections
		require.Equal(t, map[string]int{"write": 1, "read": 4}[name], n)
	}
	for _, pragmas := range append(s.ReadPragmas(t, 4), s.WritePragmas(t)) {
		require.Equal(t, "2 wal 1 5000", pragmas)
	}
}

func TestFilesAreTheOwnersOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nexus.db")
	require.NoError(t, sqlite.Migrate(t.Context(), path))
	s, err := sqlite.Open(t.Context(), path)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	require.NoError(t, insertUser(s, 1))
	for _, f := range []string{path, path + "-wal", path + "-shm", path + ".migrate.lock"} {
		info, err := os.Stat(f)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), f)
	}
}

func TestAPathWithSpecialCharacters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?c#d%20é.db")
	require.NoError(t, sqlite.Migrate(t.Context(), path))
	s, err := sqlite.Open(t.Context(), path)
	require.NoError(t, err)
	require.NoError(t, insertUser(s, 1))
	require.NoError(t, s.Close())
	require.FileExists(t, path)
}

func TestClose(t *testing.T) {
	s, path := fresh(t)
	require.NoError(t, insertUser(s, 1))
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	require.Error(t, insertUser(s, 2))
	_, err := s.Read().Users.Get(t.Context(), "u1")
	require.Error(t, err)
	require.Error(t, s.Ping(t.Context()))
	again, err := sqlite.Open(t.Context(), path)
	require.NoError(t, err)
	_, err = again.Read().Users.Get(t.Context(), "u1")
	require.NoError(t, err)
	require.NoError(t, again.Close())
}

// TestCloseUnderLoad closes while many write: each is saved and told so, or told otherwise.
func TestCloseUnderLoad(t *testing.T) {
	s, path := fresh(t)
	var told sync.Map
	var all sync.WaitGroup
	for w := range 16 {
		all.Go(func() {
			for i := range 200 {
				n := w*1000 + i
				if insertUser(s, n) != nil {
					return
				}
				told.Store(userOf(n).ID, true)
			}
		})
	}
	time.Sleep(20 * time.Millisecond)
	require.NoError(t, s.Close())
	all.Wait()
	rows, err := raw(t, path).QueryContext(t.Context(), "SELECT id FROM users")
	require.NoError(t, err)
	saved := map[string]bool{}
	for rows.Next() {
		var id string
		require.NoError(t, rows.Scan(&id))
		saved[id] = true
	}
	require.NoError(t, errors.Join(rows.Err(), rows.Close()))
	n := 0
	told.Range(func(id, _ any) bool { n++; return saved[id.(string)] })
	require.Len(t, saved, n)
}

func TestTwoProcessesWriteOneFile(t *testing.T) {
	one, path := fresh(t)
	two, err := sqlite.Open(t.Context(), path)
	require.NoError(t, err)
	defer func() { require.NoError(t, two.Close()) }()
	var all sync.WaitGroup
	for w, s := range []*sqlite.Store{one, two, one, two} {
		all.Go(func() {
			for i := range 50 {
				if err := insertUser(s, w*1000+i); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	require.NoError(t, one.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
		n, err := tx.Users.Count(ctx)
		require.Equal(t, 200, n)
		return err
	}))
}

func TestManyReadersLeaveNoGoroutines(t *testing.T) {
	s, _ := fresh(t)
	require.NoError(t, insertUser(s, 1))
	before := runtime.NumGoroutine()
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			for i := range 20 {
				if i == 10 {
					cancel()
				}
				_, err := s.Read().Users.Get(ctx, "u1")
				if i < 10 && err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+4 }, time.Second, time.Millisecond)
	_, err := s.Read().Users.Get(t.Context(), "u1")
	require.NoError(t, err)
}
