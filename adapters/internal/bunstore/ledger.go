package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/ports"
)

type books struct{ access }

var _ ports.LedgerStore = (*books)(nil)

const (
	accountColumns = `available, held, granted, purchased, earned, spent, reversed`
	dayMicros      = int64(24 * time.Hour / time.Microsecond)
)

var (
	qBalance     = hot(`SELECT ` + accountColumns + ` FROM ledger_accounts WHERE user_id = ?`)
	qLockBalance = hot(`SELECT `+accountColumns+` FROM ledger_accounts WHERE user_id = ?{lock}`).ranked(rankMoney, 0).
			inBulk(reads(`SELECT u.n, `+columnsOf("a", accountColumns)+` FROM `+rowsOf("t")+` JOIN ledger_accounts AS a ON a.user_id = u.c0 ORDER BY u.n{lock} OF a`, "t"))
	qOpenAccount    = hot(`INSERT INTO ledger_accounts (user_id, `+accountColumns+`) VALUES (?, 0, 0, 0, 0, 0, 0, 0) ON CONFLICT (user_id) DO NOTHING`).ranked(rankMoney, 0)
	qTransfer       = hot(`SELECT 1 FROM ledger_transfers WHERE key = ?`)
	qInsertTransfer = hot(`INSERT INTO ledger_transfers (id, key, reference, description, at) VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING`).
			inBulk(inserts(`INSERT INTO ledger_transfers (id, key, reference, description, at)`, "ttttb", `ON CONFLICT (key) DO NOTHING`))
	// A row is only there to be taken from when it has enough, whatever has happened to it in the meantime; but for what
	// applies to any balance, and has no floor.
	qChange = hot(`UPDATE ledger_accounts SET available = available + ?, held = held + ?, granted = granted + ?, purchased = purchased + ?,
		earned = earned + ?, spent = spent + ?, reversed = reversed + ?
		WHERE user_id = ? AND available + ? >= ? AND held + ? >= 0 RETURNING available`).ranked(rankMoney, 7)
	// For changes that take nothing: the first one makes the account.
	qAdd = hot(`INSERT INTO ledger_accounts AS a (user_id, `+accountColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (user_id) DO UPDATE SET available = a.available + excluded.available, held = a.held + excluded.held, granted = a.granted + excluded.granted,
		purchased = a.purchased + excluded.purchased, earned = a.earned + excluded.earned, spent = a.spent + excluded.spent, reversed = a.reversed + excluded.reversed
		RETURNING available`).ranked(rankMoney, 0)
	// Of what was locked, and found to have enough.
	qChangePurse = hot(`UPDATE ledger_accounts SET available = available + ?, held = held + ?, granted = granted + ?, purchased = purchased + ?,
		earned = earned + ?, spent = spent + ?, reversed = reversed + ? WHERE user_id = ?`).ranked(rankMoney, 7).
		inBulk(changes(`UPDATE ledger_accounts AS a SET available = a.available + u.c0, held = a.held + u.c1, granted = a.granted + u.c2, purchased = a.purchased + u.c3,
		earned = a.earned + u.c4, spent = a.spent + u.c5, reversed = a.reversed + u.c6 FROM `+rowsOf("bbbbbbbt")+` WHERE a.user_id = u.c7`, "bbbbbbbt", true, 7))
	qInsertEntries = hotMulti(`INSERT INTO ledger_entries (id, transfer_id, account, type, amount, balance_after, at)`, "ttttbbb", ``)
	qEarned        = hot(`SELECT t.agent_id, CAST(SUM(e.amount) AS BIGINT) FROM ledger_entries AS e JOIN ledger_transfers AS x ON x.id = e.transfer_id
		JOIN tasks AS t ON t.id = x.reference WHERE e.account = ? AND e.type = 'task_credit' GROUP BY t.agent_id`)
	qAccountTotal = hot(`SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM ledger_entries WHERE account = ? AND seq > ?`)
	qImbalance    = hot(`SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM ledger_entries`)
)

// Balance implements ports.LedgerReader. One statement.
func (v *books) Balance(ctx context.Context, userID string) (ledger.Balance, error) {
	b := ledger.Balance{UserID: userID}
	err := v.do(ctx, func(ctx context.Context, c *session) error {
		return c.store.wrap(readBalance(ctx, c, &b), "read balance")
	})
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return b, err
}

func readBalance(ctx context.Context, c *session, b *ledger.Balance) error {
	if c.memo != nil {
		if known, ok := c.memo.balance(b.UserID); ok {
			*b = known
			return nil
		}
	}
	return c.row(ctx, qBalance, []any{b.UserID}, balanceDest(b)...)
}

func balanceDest(b *ledger.Balance) []any {
	return []any{&b.Available, &b.Held, &b.Granted, &b.Purchased, &b.Earned, &b.Spent, &b.Reversed}
}

// Transactions implements ports.LedgerReader. One statement.
func (v *books) Transactions(ctx context.Context, userID string, typ ledger.EntryType, page ports.Page) ([]ledger.Entry, int, error) {
	var rows []struct {
		entryRow `bun:",extend"`
		Total    int `bun:"total"`
	}
	total := 0
	err := v.solo(ctx, func(ctx context.Context, c *session) error {
		rows, total = nil, 0
		where, args := "account = ?", []any{ledger.Available(userID)}
		if typ != "" {
			where, args = where+" AND type = ?", append(args, typ)
		}
		count := c.bun.NewSelect().TableExpr("ledger_entries").ColumnExpr("count(*)").Where(where, args...)
		ids := c.bun.NewSelect().TableExpr("ledger_entries").ColumnExpr("seq").Where(where, args...).OrderExpr("seq DESC").Limit(int64(page.Limit)).Offset(int64(page.Offset))
		err := c.bun.NewSelect().TableExpr("ledger_entries AS e").Join("JOIN ledger_transfers AS x ON x.id = e.transfer_id").ColumnExpr(entryColumns).ColumnExpr("(?) AS total", count).
			Where("e.seq IN (SELECT page.seq FROM (?) AS page)", ids).OrderExpr("e.seq DESC").Scan(ctx, &rows)
		if err != nil {
			return c.store.wrap(err, "list transactions")
		}
		if len(rows) > 0 {
			total = rows[0].Total
			return nil
		}
		if page.Offset == 0 {
			return nil
		}
		return c.store.wrap(count.Scan(ctx, &total), "count transactions") // beyond the end
	})
	if err != nil {
		return nil, 0, err
	}
	out := make([]ledger.Entry, len(rows))
	for i, r := range rows {
		out[i] = r.domain()
	}
	return out, total, nil
}

// AccountTotal implements ports.LedgerReader. One statement, along all entries of the account; for the platform's own two,
// along those that are not sealed.
func (v *books) AccountTotal(ctx context.Context, a ledger.Account) (sum credits.Amount, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		var last ledger.Seal
		if _, ours := last.Totals.Of(a); ours {
			if err := c.each(ctx, qLastSeal, nil, func(scan func(...any) error) (err error) {
				last, err = scanSeal(scan)
				return err
			}); err != nil {
				return c.store.wrap(err, "read the last seal")
			}
		}
		var rest credits.Amount
		if err := c.row(ctx, qAccountTotal, []any{string(a), last.To}, &rest); err != nil {
			return c.store.wrap(err, "add up an account")
		}
		before, _ := last.Totals.Of(a)
		sum, err = before.Add(rest)
		return err
	})
	return sum, err
}

// EarnedByAgent implements ports.EarningsReader. One statement, along all entries of the user's account.
func (v *books) EarnedByAgent(ctx context.Context, ownerUserID string) (out map[string]credits.Amount, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		out = map[string]credits.Amount{}
		err := c.each(ctx, qEarned, []any{string(ledger.Available(ownerUserID))}, func(scan func(...any) error) error {
			var id string
			var sum credits.Amount
			if err := scan(&id, &sum); err != nil {
				return err
			}
			out[id] = sum
			return nil
		})
		return c.store.wrap(err, "add up earnings")
	})
	return out, err
}

// Imbalance implements ports.LedgerReader. One statement, along all entries there are.
func (v *books) Imbalance(ctx context.Context) (credits.Amount, error) { return v.sum(ctx, qImbalance) }

func (v *books) sum(ctx context.Context, q statement, args ...any) (sum credits.Amount, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		return c.each(ctx, q, args, func(scan func(...any) error) error { return scan(&sum) })
	})
	return sum, err
}

// Post implements ports.LedgerStore. One statement for each user who has part in it, sent together, then two more, and
// two when it is refused; where units share what they know, one for each user of whom nothing is known yet, and the rest
// at the end for all of them. Accounts are changed in the order of their user ids, so that two transfers never wait for each
// other.
func (v *books) Post(ctx context.Context, t ledger.Transfer) error {
	return v.do(ctx, func(ctx context.Context, c *session) error {
		if err := t.Validate(); err != nil {
			return err
		}
		if c.memo != nil {
			return c.memo.post(ctx, c, t)
		}
		deltas := t.Deltas()
		changes := make([]*call, len(deltas))
		left := make([]credits.Amount, len(deltas))
		for i, d := range deltas {
			changes[i] = change(d, &left[i])
		}
		if err := c.send(ctx, changes...); err != nil {
			return c.store.wrap(err, "change accounts")
		}
		after := make(map[string]credits.Amount, len(deltas))
		for i, d := range deltas {
			if changes[i].rows == 0 {
				return refused(ctx, c, t, d)
			}
			after[d.UserID] = left[i]
		}
		transfer := insertTransfer(t)
		args := appendEntries(nil, t.Entries(after))
		err := c.later(ctx, func() error {
			if transfer.rows == 0 {
				return fmt.Errorf("transfer %s: %w", t.Key, ports.ErrDuplicate)
			}
			return nil
		}, append([]*call{transfer}, qInsertEntries.calls(args)...)...)
		return c.store.wrap(err, "insert transfer")
	})
}

func insertTransfer(t ledger.Transfer) *call {
	return &call{statement: qInsertTransfer, args: []any{t.ID, t.Key, t.Reference, t.Description, int64(at(t.At))}}
}

func appendEntries(args []any, entries []ledger.Entry) []any {
	for _, e := range entries {
		args = append(args, e.ID, e.TransferID, string(e.Account), string(e.Type), int64(e.Amount), int64(e.BalanceAfter), int64(at(e.At)))
	}
	return args
}

// amounts are the parameters of a change of a user's money.
func amounts(d ledger.Balance) []any {
	return []any{int64(d.Available), int64(d.Held), int64(d.Granted), int64(d.Purchased), int64(d.Earned), int64(d.Spent), int64(d.Reversed)}
}

func changePurse(d ledger.Balance) *call {
	return &call{statement: qChangePurse, args: append(amounts(d), d.UserID)}
}

// change adds a delta to a user's account, if that has as much, and reads what is available after it.
func change(d ledger.Balance, after *credits.Amount) *call {
	sums := amounts(d)
	if d.Available >= 0 && d.Held >= 0 {
		return qAdd.first(append([]any{d.UserID}, sums...), after)
	}
	floor := int64(0)
	if d.Forced() {
		floor = math.MinInt64
	}
	return qChange.first(append(sums, d.UserID, int64(d.Available), floor, int64(d.Held)), after)
}

// refused says why a change of an account was not made: the transfer has been booked before, or the account has too
// little.
func refused(ctx context.Context, c *session, t ledger.Transfer, d ledger.Balance) error {
	if err := booked(ctx, c, t.Key); err != nil {
		return err
	}
	b := ledger.Balance{UserID: d.UserID}
	if err := readBalance(ctx, c, &b); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return c.store.wrap(err, "read balance")
	}
	if !d.Forced() && b.Available < -d.Available {
		return ledger.Insufficient(-d.Available, b.Available)
	}
	return ledger.Insufficient(-d.Held, b.Held)
}

// booked is ErrDuplicate if there is a transfer with the key, and nil if there is none.
func booked(ctx context.Context, c *session, key string) error {
	var one int
	switch err := c.row(ctx, qTransfer, []any{key}, &one); {
	case err == nil:
		return fmt.Errorf("transfer %s: %w", key, ports.ErrDuplicate)
	case errors.Is(err, sql.ErrNoRows):
		return nil
	default:
		return c.store.wrap(err, "read transfer")
	}
}
