package bunstore

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/ports"
)

type usage struct{ access }

var _ ports.UsageStore = (*usage)(nil)

// Entries of one user's account become visible in the order of seq, as who writes them has locked the account. So those up
// to a mark are the same for ever, and what comes after it is added to their sums.
const (
	dayOf      = `at / 86400000000`
	spentOf    = `CASE WHEN type = 'task_debit' THEN -amount ELSE 0 END`
	earnedOf   = `CASE WHEN type = 'task_credit' THEN amount ELSE 0 END`
	usageTypes = `type IN ('task_debit', 'task_credit')`
)

var (
	qUsage = hot(`SELECT day, CAST(SUM(spent) AS BIGINT), CAST(SUM(earned) AS BIGINT) FROM (
		SELECT day, spent, earned FROM usage_days WHERE user_id = ? AND day >= ?
		UNION ALL
		SELECT ` + dayOf + `, ` + spentOf + `, ` + earnedOf + ` FROM ledger_entries
		WHERE account = ? AND seq > COALESCE((SELECT seq FROM usage_marks WHERE user_id = ?), 0) AND at >= ? AND ` + usageTypes + `
		) AS s GROUP BY day ORDER BY day`)

	qPlace = hot(`SELECT seq FROM usage_marks WHERE user_id = ''`)
	qAhead = hot(`SELECT count(*), COALESCE(MAX(seq), 0) FROM (SELECT seq FROM ledger_entries WHERE seq > ? ORDER BY seq LIMIT ?) AS s`)
	qBusy  = hot(`SELECT account FROM ledger_entries WHERE seq > ? AND seq <= ? AND ` + usageTypes + ` GROUP BY account HAVING count(*) >= ? ORDER BY account`)
	qNote  = hot(`INSERT INTO usage_marks (user_id, seq) VALUES ('', ?) ON CONFLICT (user_id) DO UPDATE SET seq = excluded.seq WHERE excluded.seq > usage_marks.seq`).ranked(rankAccess, 0)

	qMakeMark = hot(`INSERT INTO usage_marks (user_id, seq) VALUES (?, 0) ON CONFLICT DO NOTHING`).ranked(rankAccess, 0)
	qLockMark = hot(`SELECT seq FROM usage_marks WHERE user_id = ?{lock}`).ranked(rankAccess, 0).locks("usage")
	qTail     = hot(`SELECT count(*), COALESCE(MAX(seq), 0) FROM (SELECT seq FROM ledger_entries WHERE account = ? AND seq > ? ORDER BY seq LIMIT ?) AS s`)
	qLoose    = hot(`SELECT count(*) FROM (SELECT 1 AS one FROM ledger_entries
		WHERE account = ? AND seq > COALESCE((SELECT seq FROM usage_marks WHERE user_id = ?), 0) LIMIT ?) AS s`)
	qFold = hot(`INSERT INTO usage_days (user_id, day, spent, earned)
		SELECT ?, ` + dayOf + `, CAST(SUM(` + spentOf + `) AS BIGINT), CAST(SUM(` + earnedOf + `) AS BIGINT) FROM ledger_entries
		WHERE account = ? AND seq > ? AND seq <= ? AND ` + usageTypes + ` GROUP BY ` + dayOf + `
		ON CONFLICT (user_id, day) DO UPDATE SET spent = usage_days.spent + excluded.spent, earned = usage_days.earned + excluded.earned`)
	qMoveMark = hot(`UPDATE usage_marks SET seq = ? WHERE user_id = ?`)
)

// Usage implements ports.LedgerReader. One statement, along the sums of days and the entries that are not summed yet.
func (v *books) Usage(ctx context.Context, userID, fromDay string) ([]ledger.Day, error) {
	from, err := time.Parse(time.DateOnly, fromDay)
	if err != nil {
		return nil, fmt.Errorf("usage from %q: %w", fromDay, err)
	}
	since := from.UnixMicro()
	var out []ledger.Day
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		out = nil
		err := c.each(ctx, qUsage, []any{userID, since / dayMicros, string(ledger.Available(userID)), userID, since}, func(scan func(...any) error) error {
			var day int64
			var d ledger.Day
			if err := scan(&day, &d.Spent, &d.Earned); err != nil {
				return err
			}
			d.Date = micros(day * dayMicros).time().Format(time.DateOnly)
			out = append(out, d)
			return nil
		})
		return c.store.wrap(err, "read usage")
	})
	return out, err
}

// Busy implements ports.UsageReader. Three statements, along the entries there.
func (v *usage) Busy(ctx context.Context, limit, often int) (users []string, upTo int64, more bool, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		users = nil
		var place sql.NullInt64
		n := 0
		if err := c.send(ctx, qPlace.first(nil, &place)); err != nil {
			return c.store.wrap(err, "read place")
		}
		if err := c.row(ctx, qAhead, []any{place.Int64, limit}, &n, &upTo); err != nil {
			return c.store.wrap(err, "look ahead")
		}
		upTo, more = max(upTo, place.Int64), n == limit
		err := c.each(ctx, qBusy, []any{place.Int64, upTo, often}, func(scan func(...any) error) error {
			var account ledger.Account
			if err := scan(&account); err != nil {
				return err
			}
			if id, available, ok := account.User(); ok && available {
				users = append(users, id)
			}
			return nil
		})
		return c.store.wrap(err, "find busy users")
	})
	return users, upTo, more, err
}

// Loose implements ports.UsageReader. One statement.
func (v *usage) Loose(ctx context.Context, userID string, most int) (n int, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		return c.store.wrap(c.row(ctx, qLoose, []any{string(ledger.Available(userID)), userID, most}, &n), "count entries")
	})
	return n, err
}

// Note implements ports.UsageStore. One statement.
func (v *usage) Note(ctx context.Context, upTo int64) error {
	return v.do(ctx, func(ctx context.Context, c *session) error {
		_, err := c.exec(ctx, qNote, upTo)
		return c.store.wrap(err, "note place")
	})
}

// Fold implements ports.UsageStore. Five statements, along the entries that it sums.
func (v *usage) Fold(ctx context.Context, userID string, most int) (more bool, err error) {
	account := string(ledger.Available(userID))
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		var mark, last int64
		n := 0
		if err := c.send(ctx, &call{statement: qMakeMark, args: []any{userID}}, qLockMark.first([]any{userID}, &mark)); err != nil {
			return c.store.wrap(err, "lock mark")
		}
		if err := c.row(ctx, qTail, []any{account, mark, most}, &n, &last); err != nil || n == 0 {
			return c.store.wrap(err, "find entries")
		}
		more = n == most
		err := c.send(ctx, &call{statement: qFold, args: []any{userID, account, mark, last}}, &call{statement: qMoveMark, args: []any{last, userID}})
		return c.store.wrap(err, "sum up entries")
	})
	return more, err
}
