package bunstore

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/ports"
)

// audits reads the ledger as a whole.
type audits struct {
	access
	horizon *horizon
}

var _ ports.LedgerAudit = (*audits)(nil)

const sealColumns = `n, last_seq, available, held, fees, issuance, clearing, at, hash`

var (
	qLastSeal   = hot(`SELECT ` + sealColumns + ` FROM ledger_seals ORDER BY n DESC LIMIT 1`)
	qInsertSeal = hot(`INSERT INTO ledger_seals (` + sealColumns + `, marks) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (n) DO NOTHING`)
	qSeals      = hot(`SELECT ` + sealColumns + `, marks FROM ledger_seals WHERE n > ? ORDER BY n LIMIT ?`)
	qBooked     = hot(`SELECT e.seq, e.id, e.transfer_id, e.account, e.type, e.amount, e.balance_after, e.at, COALESCE(x.key, ''), COALESCE(x.reference, ''),
		COALESCE(x.description, ''), COALESCE(x.at, 0) FROM (SELECT * FROM ledger_entries WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?) AS e
		{transfers} ORDER BY e.seq`)
	qBalances  = hot(`SELECT user_id, ` + accountColumns + ` FROM ledger_accounts WHERE user_id > ? ORDER BY user_id LIMIT ?`)
	qOpenHolds = hot(`SELECT id, requester_user_id, price FROM tasks WHERE ` + openStatus + ` AND price > 0 AND id > ? ORDER BY id LIMIT ?`)
	qEmpty     = hot(`SELECT id FROM ledger_transfers EXCEPT SELECT transfer_id FROM ledger_entries ORDER BY 1 LIMIT ?`)
	qNewestSeq = hot(`SELECT COALESCE(MAX(seq), 0) FROM ledger_entries`)
)

// LastSeal implements ports.LedgerAudit. One statement.
func (v *audits) LastSeal(ctx context.Context) (s ledger.Seal, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		s = ledger.Seal{}
		err := c.each(ctx, qLastSeal, nil, func(scan func(...any) error) (err error) {
			s, err = scanSeal(scan)
			return err
		})
		return c.store.wrap(err, "read the last seal")
	})
	return s, err
}

func scanSeal(scan func(...any) error, more ...any) (ledger.Seal, error) {
	var s ledger.Seal
	var at micros
	var hash []byte
	t := &s.Totals
	if err := scan(append([]any{&s.N, &s.To, &t.Available, &t.Held, &t.Fees, &t.Issuance, &t.Clearing, &at, &hash}, more...)...); err != nil {
		return s, err
	}
	s.At = at.time()
	copy(s.Hash[:], hash)
	return s, nil
}

// Seal implements ports.LedgerStore. One statement.
func (v *books) Seal(ctx context.Context, s ledger.Seal) error {
	return v.do(ctx, func(ctx context.Context, c *session) error {
		t := s.Totals
		n, err := c.exec(ctx, qInsertSeal, s.N, s.To, int64(t.Available), int64(t.Held), int64(t.Fees), int64(t.Issuance), int64(t.Clearing), int64(at(s.At)),
			s.Hash[:], s.Marks)
		if err == nil && n == 0 {
			return fmt.Errorf("seal %d: %w", s.N, ports.ErrDuplicate)
		}
		return c.store.wrap(err, "insert seal")
	})
}

// horizon knows up to where no entry appears any more.
type horizon struct {
	mu  sync.Mutex
	seq int64
}

const (
	horizonTries = 100
	horizonPause = 5 * time.Millisecond
)

// Settled implements ports.LedgerAudit. An entry's number is drawn before its transaction commits. So, where several write
// at the same time, this looks at the newest number that was drawn, and then waits until all who might have drawn one up
// to it have ended. Two statements, or a few more.
func (v *audits) Settled(ctx context.Context) (int64, error) {
	var newest int64
	err := v.do(ctx, func(ctx context.Context, c *session) error {
		d := c.store.cfg.Dialect
		if d.NewestEntry == "" { // one writer, and what is committed is there
			return c.each(ctx, qNewestSeq, nil, func(scan func(...any) error) error { return scan(&newest) })
		}
		v.horizon.mu.Lock()
		defer v.horizon.mu.Unlock()
		newest = v.horizon.seq
		var drawn, writers int64
		if err := c.number(ctx, d.NewestEntry, &drawn); err != nil {
			return err
		}
		if err := c.number(ctx, d.NextWriter, &writers); err != nil { // behind the first, so that it covers all of those
			return err
		}
		for range horizonTries {
			var oldest int64
			if err := c.number(ctx, d.OldestWriter, &oldest); err != nil {
				return err
			}
			if oldest >= writers {
				newest, v.horizon.seq = drawn, drawn
				return nil
			}
			select {
			case <-time.After(horizonPause):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil // someone takes long; as it was
	})
	if err != nil {
		return 0, fmt.Errorf("find what is settled: %w", err)
	}
	return newest, nil
}

// number reads one with a statement that is not prepared.
func (c *session) number(ctx context.Context, text string, dest *int64) error {
	c.store.counts.roundTrips.Add(1)
	return c.conn.QueryRowContext(ctx, text).Scan(dest)
}

// Entries implements ports.LedgerAudit. One statement.
func (v *audits) Entries(ctx context.Context, after, to int64, limit int) (out []ledger.Booked, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		out, err = readBooked(ctx, c, after, to, limit)
		return err
	})
	return out, err
}

func readBooked(ctx context.Context, c *session, after, to int64, limit int) (out []ledger.Booked, err error) {
	err = c.each(ctx, qBooked, []any{after, to, limit}, func(scan func(...any) error) error {
		var b ledger.Booked
		var at, transferAt micros
		if err := scan(&b.Seq, &b.ID, &b.TransferID, &b.Account, &b.Type, &b.Amount, &b.BalanceAfter, &at, &b.Key, &b.Reference, &b.Description, &transferAt); err != nil {
			return err
		}
		b.UserID, _, _ = b.Account.User()
		b.At, b.TransferAt = at.time(), transferAt.time()
		out = append(out, b)
		return nil
	})
	return out, c.store.wrap(err, "read entries")
}

// Snapshot implements ports.LedgerAudit: a transaction on a reader's connection, which sees the database as it was at its
// first statement.
func (v *audits) Snapshot(ctx context.Context, fn func(ctx context.Context, s ports.LedgerSnapshot) error) error {
	return v.solo(ctx, func(ctx context.Context, c *session) (err error) {
		if err := c.plain(ctx, c.store.cfg.Dialect.Snapshot); err != nil {
			return fmt.Errorf("begin snapshot: %w", err)
		}
		defer func() {
			if ended := c.plain(context.WithoutCancel(ctx), "ROLLBACK"); ended != nil && err == nil {
				err = fmt.Errorf("end snapshot: %w", ended)
			}
		}()
		return fn(ctx, snapshot{c})
	})
}

type snapshot struct{ c *session }

func (s snapshot) Entries(ctx context.Context, after int64, limit int) ([]ledger.Booked, error) {
	return readBooked(ctx, s.c, after, math.MaxInt64, limit)
}

func (s snapshot) Seals(ctx context.Context, after int64, limit int) (out []ledger.Seal, err error) {
	err = s.c.each(ctx, qSeals, []any{after, limit}, func(scan func(...any) error) error {
		var marks []byte
		seal, err := scanSeal(scan, &marks)
		seal.Marks = marks
		out = append(out, seal)
		return err
	})
	return out, s.c.store.wrap(err, "read seals")
}

func (s snapshot) Balances(ctx context.Context, after string, limit int) (out []ledger.Balance, err error) {
	err = s.c.each(ctx, qBalances, []any{after, limit}, func(scan func(...any) error) error {
		var b ledger.Balance
		err := scan(&b.UserID, &b.Available, &b.Held, &b.Granted, &b.Purchased, &b.Earned, &b.Spent, &b.Reversed)
		out = append(out, b)
		return err
	})
	return out, s.c.store.wrap(err, "read balances")
}

func (s snapshot) OpenHolds(ctx context.Context, after string, limit int) (out []ledger.Hold, err error) {
	err = s.c.each(ctx, qOpenHolds, []any{after, limit}, func(scan func(...any) error) error {
		var h ledger.Hold
		err := scan(&h.TaskID, &h.UserID, &h.Amount)
		out = append(out, h)
		return err
	})
	return out, s.c.store.wrap(err, "read open tasks")
}

func (s snapshot) EmptyTransfers(ctx context.Context, limit int) (out []string, err error) {
	err = s.c.each(ctx, qEmpty, []any{limit}, func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		out = append(out, id)
		return err
	})
	return out, s.c.store.wrap(err, "read empty transfers")
}
