package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"math"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/inprocess"
	"github.com/nexus-protocol/nexus/adapters/postgres"
	"github.com/nexus-protocol/nexus/adapters/postgres/postgrestest"
	"github.com/nexus-protocol/nexus/adapters/sqlite"
	"github.com/nexus-protocol/nexus/adapters/sqlite/sqlitetest"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// books is a ledger in a database that a test tampers with.
type books struct {
	*testing.T
	store  store
	engine *app.Engine
	db     *sql.DB
	args   []string // of commands
	setUp  []string // switches triggers off and saves all tables
	undo   []string // puts them back
}

var ledgerTables = []string{"ledger_entries", "ledger_transfers", "ledger_accounts", "ledger_seals", "tasks"}

func everyBooks(t *testing.T, test func(b *books)) {
	open := func(t *testing.T, b *books, err error, driver, dsn string) {
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, b.store.Close()) })
		b.db, err = sql.Open(driver, dsn)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, b.db.Close()) })
		e := &env{Context: t.Context(), cli: &cli{}, log: slog.New(slog.DiscardHandler)}
		b.engine, err = e.newEngine(b.store, inprocess.New(b.store, time.Now, inprocess.Options{}), wiring{})
		require.NoError(t, err)
		test(b)
	}
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		path := filepath.Join(dir, "nexus.db")
		b := &books{T: t, args: []string{"--data-dir", dir}}
		sqlitetest.Fill(t, path)
		for _, table := range ledgerTables {
			b.setUp = append(b.setUp, "CREATE TABLE saved_"+table+" AS SELECT * FROM "+table)
			b.undo = append(b.undo, "DELETE FROM "+table, "INSERT INTO "+table+" SELECT * FROM saved_"+table)
		}
		for _, name := range []string{
			"entries_keep", "entries_stay", "transfers_keep", "transfers_stay", "accounts_floor", "accounts_start", "accounts_stay", "seals_keep", "seals_stay",
		} {
			b.setUp = append(b.setUp, "DROP TRIGGER ledger_"+name)
		}
		var err error
		b.store, err = sqlite.Open(t.Context(), path)
		open(t, b, err, "sqlite", "file:"+path+"?_pragma=busy_timeout(5000)")
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		url := postgrestest.URL(t)
		b := &books{T: t, args: []string{"--database-url", url}}
		require.NoError(t, postgres.Migrate(t.Context(), url))
		for _, table := range ledgerTables {
			b.setUp = append(b.setUp, "ALTER TABLE "+table+" DISABLE TRIGGER ALL", "CREATE TABLE saved_"+table+" AS SELECT * FROM "+table)
			b.undo = append(b.undo, "DELETE FROM "+table, "INSERT INTO "+table+" OVERRIDING SYSTEM VALUE SELECT * FROM saved_"+table)
		}
		var err error
		b.store, err = postgres.Open(t.Context(), url)
		open(t, b, err, "pgx", url)
	})
}

func (b *books) post(t ledger.Transfer, err error) {
	b.Helper()
	require.NoError(b, err)
	t = t.Stamp(newID)
	require.NoError(b, b.store.Update(b.Context(), func(ctx context.Context, tx ports.Tx) error { return tx.Ledger.Post(ctx, t) }))
}

func (b *books) exec(statements ...string) {
	b.Helper()
	for _, q := range statements {
		_, err := b.db.ExecContext(b.Context(), q)
		require.NoError(b, err, q)
	}
}

// open makes a task for which something is held.
func (b *books) open(requester string) ledger.Hold {
	t, events, err := task.New(task.Draft{
		ID: newID(), Title: "Work", Description: "Do it", RequesterUserID: requester, AgentID: newID(), AgentOwnerID: "owner", Price: 100, At: time.Unix(1, 0),
	})
	require.NoError(b, err)
	h := ledger.Hold{TaskID: t.ID, UserID: requester, Amount: t.Price, Title: t.Title}
	place, err := h.Place(time.Unix(1, 0))
	require.NoError(b, err)
	place = place.Stamp(newID)
	require.NoError(b, b.store.Update(b.Context(), func(ctx context.Context, tx ports.Tx) error {
		if err := tx.Tasks.Insert(ctx, t, events); err != nil {
			return err
		}
		return tx.Ledger.Post(ctx, place)
	}))
	return h
}

// seal has the engine seal what is settled.
func (b *books) seal() {
	j := ports.Job{ID: "ledger.seal:all", Kind: "ledger.seal", Subject: "all", RunAt: time.Now().Add(-time.Minute), Priority: ports.PriorityHousekeeping}
	require.NoError(b, b.store.Update(b.Context(), func(ctx context.Context, tx ports.Tx) error { return tx.Jobs.Enqueue(ctx, j) }))
	require.NoError(b, b.engine.Worker.Handle(b.Context(), j.ID))
}

// sealAll seals all there is, which on PostgreSQL may have to wait for transactions in other databases of the server.
func (b *books) sealAll() {
	require.Eventually(b, func() bool {
		b.seal()
		last, err := b.store.Read().Audit.LastSeal(b.Context())
		require.NoError(b, err)
		rest, err := b.store.Read().Audit.Entries(b.Context(), last.To, math.MaxInt64, 1)
		require.NoError(b, err)
		return len(rest) == 0
	}, 30*time.Second, time.Millisecond)
}

// verify is the command.
func (b *books) verify(more ...string) (string, error) {
	var out bytes.Buffer
	err := run(b.Context(), append(append([]string{"ledger", "verify"}, more...), b.args...), strings.NewReader(""), &out, &bytes.Buffer{})
	return strings.TrimSpace(out.String()), err
}

// Every kind of tampering in the database itself is found, and said to be where it is.
func TestLedgerVerifyFindsTampering(t *testing.T) {
	everyBooks(t, func(b *books) {
		at := time.Unix(1, 0)
		for _, id := range []string{"ann", "bob"} {
			b.post(ledger.Grant(id, at), nil)
		}
		paid := ledger.Hold{TaskID: "paid", UserID: "ann", Amount: 1001}
		bought := ledger.Issue{ID: "cs_1", UserID: "bob", Amount: 500}
		b.post(paid.Place(at))
		b.post(paid.Capture("bob", at))
		b.sealAll()
		b.post(bought.Credit(at))
		b.sealAll()
		open := b.open("ann")
		b.post(bought.Reverse(0, 500, 1, at))

		out, err := b.verify()
		require.NoError(b, err, out)
		require.Regexp(b, `^all is well: 17 entries, 4 accounts, 1 holds, 2 seals over 13 entries, head 2:[0-9a-f]{64}$`, out)
		head := out[strings.LastIndex(out, " ")+1:]
		_, err = b.verify("--head", head)
		require.NoError(b, err)
		_, err = b.verify("--head", "2:abc")
		require.ErrorContains(b, err, "hexadecimal")

		const sealed, fresh = "(SELECT min(seq) FROM ledger_entries)", "(SELECT max(seq) FROM ledger_entries)"
		b.exec(b.setUp...)
		for what, c := range map[string]struct{ tamper, found string }{
			"a sealed amount":        {"UPDATE ledger_entries SET amount = amount + 1 WHERE seq = " + sealed, "was changed after it was sealed"},
			"a sealed account":       {"UPDATE ledger_entries SET account = 'user:eve:available' WHERE seq = 2", "was changed after it was sealed"},
			"a sealed time":          {"UPDATE ledger_entries SET at = at + 1 WHERE seq = " + sealed, "entry 1: "},
			"a sealed description":   {"UPDATE ledger_transfers SET description = 'x' WHERE key = 'grant:ann'", "entry 1: it, or its transfer, was changed"},
			"a key":                  {"UPDATE ledger_transfers SET key = 'x' WHERE key = 'settle:paid'", "was changed after it was sealed"},
			"a sealed entry gone":    {"DELETE FROM ledger_entries WHERE seq = " + sealed, "entry 1: it was sealed, and is gone"},
			"a sealed transfer gone": {"DELETE FROM ledger_transfers WHERE key = 'grant:ann'", "was changed after it was sealed"},
			"an amount":              {"UPDATE ledger_entries SET amount = amount - 1 WHERE seq = " + fresh, "transfer reversal:purchase:cs_1:1: it does not balance"},
			"a balance after":        {"UPDATE ledger_entries SET balance_after = 7 WHERE account = 'user:ann:available' AND type = 'hold' AND amount = -100", "the balance after it is 0.07"},
			"an entry gone":          {"DELETE FROM ledger_entries WHERE seq = " + fresh, "it does not balance: off by"},
			"a transfer gone":        {"DELETE FROM ledger_transfers WHERE reference = '" + open.TaskID + "'", "is gone"},
			"a transfer and its entries gone": {
				"DELETE FROM ledger_entries WHERE transfer_id = (SELECT id FROM ledger_transfers WHERE key = 'reversal:purchase:cs_1:1')", "it has no entries",
			},
			"money from nothing":    {"INSERT INTO ledger_entries (id, transfer_id, account, type, amount, balance_after, at) SELECT 'x', transfer_id, 'user:eve:available', 'purchase', 5, 5, at FROM ledger_entries WHERE seq = " + fresh, "user:eve:available"},
			"a balance":             {"UPDATE ledger_accounts SET available = available + 100, granted = granted + 100 WHERE user_id = 'ann'", "account user:ann:available: "},
			"a held balance":        {"UPDATE ledger_accounts SET held = held + 100, granted = granted + 100 WHERE user_id = 'ann'", "account user:ann:held: "},
			"a total":               {"UPDATE ledger_accounts SET earned = earned + 100, purchased = purchased - 100 WHERE user_id = 'bob'", "account user:bob:available: "},
			"an account gone":       {"DELETE FROM ledger_accounts WHERE user_id = 'bob'", "account user:bob:available: it has entries, and no balance"},
			"an account added":      {"INSERT INTO ledger_accounts SELECT 'eve', available, held, granted, purchased, earned, spent, reversed FROM ledger_accounts WHERE user_id = 'ann'", "account user:eve:available: "},
			"a price":               {"UPDATE tasks SET price = price + 1", "task " + open.TaskID + ": it is open, and 1 are held"},
			"an end without a word": {"UPDATE tasks SET status = 'completed'", "task " + open.TaskID + ": it is not open, and 1 are held"},
			"a seal's hash":         {"UPDATE ledger_seals SET hash = marks WHERE n = 1", "seal 1: its hash"},
			"a seal's marks":        {"UPDATE ledger_seals SET marks = hash WHERE n = 2", "seal 2: its hash"},
			"a seal's totals":       {"UPDATE ledger_seals SET fees = fees + 1 WHERE n = 2", "seal 2: its hash"},
			"a seal gone":           {"DELETE FROM ledger_seals WHERE n = 1", "seal 2: it follows seal 0"},
			"the newest seal gone":  {"DELETE FROM ledger_seals WHERE n = 2", "seal 2: it was noted down, and is gone"},
			"all seals gone":        {"DELETE FROM ledger_seals", "seal 2: it was noted down, and is gone"},
		} {
			b.exec(c.tamper)
			expected, err := ledger.ParseHead(head)
			require.NoError(b, err)
			r, err := b.engine.Billing.Verify(b.Context(), &expected)
			require.NoError(b, err, what)
			var all []string
			for _, f := range r.Findings {
				all = append(all, f.String())
			}
			require.Contains(b, strings.Join(all, "\n"), c.found, what)
			if what == "a balance" {
				out, err := b.verify()
				require.ErrorContains(b, err, "1 things are wrong")
				require.Equal(b, "account user:ann:available: 989.99 is kept, and its entries add up to 988.99", out[:strings.Index(out+"\n", "\n")])
			}
			b.exec(b.undo...)
		}
		_, err = b.verify("--head", head)
		require.NoError(b, err, "all is back where it was")
	})
}

// The ledger is verified while others begin and end tasks and seal what was booked.
func TestLedgerVerifyWhileTheEngineWorks(t *testing.T) {
	everyBooks(t, func(b *books) {
		b.post(ledger.Grant("ann", time.Unix(1, 0)), nil)
		ctx, stop := context.WithCancel(b.Context())
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for ctx.Err() == nil {
					h := b.open("ann")
					paid, err := h.Capture("bob", time.Unix(2, 0))
					require.NoError(b, err)
					paid = paid.Stamp(newID)
					require.NoError(b, b.store.Update(b.Context(), func(ctx context.Context, tx ports.Tx) error {
						t, err := tx.Tasks.Lock(ctx, h.TaskID)
						if err != nil {
							return err
						}
						t, events, err := task.Apply(t, task.Complete{At: time.Unix(2, 0)})
						return errors.Join(err, tx.Tasks.Save(ctx, t, events), tx.Ledger.Post(ctx, paid))
					}))
				}
			})
		}
		all.Go(func() {
			for ctx.Err() == nil {
				b.seal()
			}
		})
		entries := 0
		for n := 0; n < 5 || entries < 100; n++ {
			r, err := b.engine.Billing.Verify(b.Context(), nil)
			require.NoError(b, err)
			require.Empty(b, r.Findings)
			require.GreaterOrEqual(b, r.Entries, entries)
			entries = r.Entries
		}
		stop()
		all.Wait()
		b.sealAll()
		r, err := b.engine.Billing.Verify(b.Context(), nil)
		require.NoError(b, err)
		require.Empty(b, r.Findings)
		require.Equal(b, r.Entries, r.Sealed)
	})
}

func TestOnlyAnAdministratorAudits(t *testing.T) {
	everyBooks(t, func(b *books) {
		_, err := b.engine.Billing.Audit(b.Context(), identity.SessionCaller(identity.User{ID: "u", Role: identity.RoleUser}, "s"))
		require.True(b, fault.Has(err, fault.CodeForbidden), "%v", err)
		r, err := b.engine.Billing.Audit(b.Context(), identity.SessionCaller(identity.User{ID: "a", Role: identity.RoleAdmin}, "s"))
		require.NoError(b, err)
		require.Zero(b, r.Wrong)
	})
}
