package bunstore

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

type stats struct {
	access
	ledger *totals
}

var _ ports.StatsReader = (*stats)(nil)

var (
	qCountOpen = hot(`SELECT status, count(*) FROM tasks WHERE ` + openStatus + ` GROUP BY status`)
	// All jobs are counted along the index; only those that are due are looked at.
	qJobStats = hot(`SELECT a.priority, a.n, COALESCE(d.n, 0), COALESCE(d.running, 0), COALESCE(d.oldest, 0) FROM (SELECT priority, count(*) AS n FROM jobs GROUP BY priority) AS a
		LEFT JOIN (SELECT priority, count(*) AS n, count(CASE WHEN lease_owner <> '' AND lease_until > ? THEN 1 END) AS running,
			min(CASE WHEN lease_owner = '' OR lease_until <= ? THEN run_at END) AS oldest
			FROM jobs WHERE priority IN (0, 1, 2) AND run_at <= ? GROUP BY priority) AS d ON d.priority = a.priority`)
	sums = `CAST(COALESCE(SUM(CASE WHEN account LIKE 'user:%:available' THEN amount END), 0) AS BIGINT),
		CAST(COALESCE(SUM(CASE WHEN account LIKE 'user:%:held' THEN amount END), 0) AS BIGINT),
		CAST(COALESCE(SUM(CASE WHEN account = 'platform:fees' THEN amount END), 0) AS BIGINT),
		CAST(COALESCE(SUM(CASE WHEN account = 'platform:issuance' THEN amount END), 0) AS BIGINT),
		CAST(COALESCE(SUM(CASE WHEN account = 'platform:clearing' THEN amount END), 0) AS BIGINT),
		CAST(COALESCE(SUM(amount), 0) AS BIGINT)`
	qAddUp = hot(`SELECT ` + sums + `, count(*), COALESCE(MAX(seq), 0), COALESCE(MAX(at), 0)
		FROM (SELECT seq, account, amount, at FROM ledger_entries WHERE seq > ? ORDER BY seq LIMIT ?) AS e`)
	qAddUpAll = hot(`SELECT ` + sums + ` FROM ledger_entries WHERE seq > ?`)
)

// OpenTasks implements ports.StatsReader. One statement, along the index of open tasks.
func (v *stats) OpenTasks(ctx context.Context) (out map[task.Status]int, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		out = map[task.Status]int{}
		err := c.each(ctx, qCountOpen, nil, func(scan func(...any) error) error {
			var status task.Status
			var n int
			if err := scan(&status, &n); err != nil {
				return err
			}
			out[status] = n
			return nil
		})
		return c.store.wrap(err, "count open tasks")
	})
	return out, err
}

// Jobs implements ports.StatsReader. One statement.
func (v *stats) Jobs(ctx context.Context, now time.Time) (out map[ports.Priority]ports.JobStats, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		out = map[ports.Priority]ports.JobStats{}
		t := int64(at(now))
		err := c.each(ctx, qJobStats, []any{t, t, t}, func(scan func(...any) error) error {
			var p ports.Priority
			var all, due, running int
			var oldest micros
			if err := scan(&p, &all, &due, &running, &oldest); err != nil {
				return err
			}
			s := ports.JobStats{Waiting: due - running, Running: running, Later: all - due}
			if s.Waiting > 0 {
				s.Oldest = oldest.time()
			}
			out[p] = s
			return nil
		})
		return c.store.wrap(err, "count jobs")
	})
	return out, err
}

const (
	// settled is how old an entry is before it is added up for good. Its number in the order of booking is drawn before its
	// transaction commits, so one with a lower number may still appear for as long as a transaction lasts.
	settled   = 5 * time.Minute
	chunkSize = 10_000 // entries added up by one statement
)

// totals are the sums of all entries up to one that is settled. Entries are never changed, so they are added up once.
type totals struct {
	mu   sync.Mutex
	from bool // a seal, if there is one
	seq  int64
	sums ports.LedgerStats
	now  func() time.Time
}

// Ledger implements ports.StatsReader. One statement along the newest entries, and one more when there were many in the
// last minutes; the first call goes along all that are not sealed, a chunk a statement.
func (v *stats) Ledger(ctx context.Context) (ports.LedgerStats, error) {
	t := v.ledger
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.from {
		last, err := (&audits{access: v.access}).LastSeal(ctx)
		if err != nil {
			return ports.LedgerStats{}, err
		}
		s := last.Totals
		t.from, t.seq = true, last.To
		t.sums = ports.LedgerStats{
			Available: s.Available, Held: s.Held, Fees: s.Fees, Issuance: s.Issuance, Clearing: s.Clearing,
			Imbalance: s.Available + s.Held + s.Fees + s.Issuance + s.Clearing,
		}
	}
	for {
		var sum ports.LedgerStats
		var n int
		var last int64
		var newest micros
		err := v.do(ctx, func(ctx context.Context, c *session) error {
			return c.row(ctx, qAddUp, []any{t.seq, chunkSize}, append(dest(&sum), &n, &last, &newest)...)
		})
		if err != nil {
			return sum, fmt.Errorf("add up the ledger: %w", err)
		}
		if n < chunkSize {
			return plus(t.sums, sum), nil
		}
		if newest.time().After(t.now().Add(-settled)) {
			break
		}
		t.seq, t.sums = last, plus(t.sums, sum)
	}
	// In one statement, since another one could see the second half of a transfer whose first half was not there yet.
	var sum ports.LedgerStats
	err := v.do(ctx, func(ctx context.Context, c *session) error {
		return c.row(ctx, qAddUpAll, []any{t.seq}, dest(&sum)...)
	})
	if err != nil {
		return sum, fmt.Errorf("add up the ledger: %w", err)
	}
	return plus(t.sums, sum), nil
}

func dest(s *ports.LedgerStats) []any {
	return []any{&s.Available, &s.Held, &s.Fees, &s.Issuance, &s.Clearing, &s.Imbalance}
}

func plus(a, b ports.LedgerStats) ports.LedgerStats {
	return ports.LedgerStats{
		Available: a.Available + b.Available, Held: a.Held + b.Held, Fees: a.Fees + b.Fees, Issuance: a.Issuance + b.Issuance,
		Clearing: a.Clearing + b.Clearing, Imbalance: a.Imbalance + b.Imbalance,
	}
}

// gauge is how much a pool is used.
type gauge struct {
	open, busy atomic.Int64
	waits      atomic.Int64
	waited     atomic.Int64 // nanoseconds
}

func (g *gauge) wait(since time.Time) {
	g.waits.Add(1)
	g.waited.Add(int64(time.Since(since)))
}

func (g *gauge) pool(name string, size int) ports.Pool {
	return ports.Pool{
		Name: name, Max: size, Open: int(g.open.Load()), InUse: int(g.busy.Load()), Waits: g.waits.Load(), Waited: time.Duration(g.waited.Load()),
	}
}

// Pools tells how the connections are used. A write waits from when it is asked for until its turn; several may then
// share one connection and one commit.
func (s *Store) Pools() []ports.Pool {
	return []ports.Pool{s.readUse.pool("reads", s.cfg.Readers), s.writeUse.pool("writes", s.cfg.Writers)}
}
