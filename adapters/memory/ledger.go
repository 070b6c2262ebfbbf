package memory

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/ports"
)

type books struct{ view }

func (v books) Balance(ctx context.Context, userID string) (ledger.Balance, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return ledger.Balance{}, err
	}
	defer unlock()
	b := v.s.balances.rows[userID]
	b.UserID = userID
	return b, nil
}

// newest walks a user's entries of the available account, newest first.
func (v books) newest(userID string, visit func(ledger.Entry)) {
	account := ledger.Available(userID)
	for _, e := range slices.Backward(v.s.entries) {
		if e.Account == account {
			visit(e.Entry)
		}
	}
}

func (v books) Transactions(ctx context.Context, userID string, typ ledger.EntryType, p ports.Page) ([]ledger.Entry, int, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer unlock()
	var found []ledger.Entry
	v.newest(userID, func(e ledger.Entry) {
		if typ == "" || e.Type == typ {
			found = append(found, e)
		}
	})
	return slices.Clone(stretch(found, p)), len(found), nil
}

func (v books) Usage(ctx context.Context, userID, fromDay string) ([]ledger.Day, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	days := map[string]ledger.Day{}
	v.newest(userID, func(e ledger.Entry) {
		date := e.At.UTC().Format(time.DateOnly)
		d := days[date]
		d.Date = date
		switch {
		case date < fromDay:
			return
		case e.Type == ledger.TypeTaskDebit:
			d.Spent -= e.Amount
		case e.Type == ledger.TypeTaskCredit:
			d.Earned += e.Amount
		default:
			return
		}
		days[date] = d
	})
	var out []ledger.Day
	for _, d := range days {
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b ledger.Day) int { return strings.Compare(a.Date, b.Date) })
	return out, nil
}

func (v books) EarnedByAgent(ctx context.Context, ownerUserID string) (map[string]credits.Amount, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	out := map[string]credits.Amount{}
	v.newest(ownerUserID, func(e ledger.Entry) {
		if t, ok := v.s.tasks.rows[e.Reference]; ok && e.Type == ledger.TypeTaskCredit {
			out[t.AgentID] += e.Amount
		}
	})
	return out, nil
}

func (v books) AccountTotal(ctx context.Context, a ledger.Account) (credits.Amount, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return 0, err
	}
	defer unlock()
	return v.s.totals.rows[string(a)], nil
}

func (v books) Imbalance(ctx context.Context) (sum credits.Amount, err error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return 0, err
	}
	defer unlock()
	for _, e := range v.s.entries {
		sum += e.Amount
	}
	return sum, nil
}

func (v books) Post(_ context.Context, t ledger.Transfer) error {
	if err := t.Validate(); err != nil {
		return err
	}
	if _, booked := v.s.booked.get(t.Key); booked {
		return fmt.Errorf("transfer %s: %w", t.Key, ports.ErrDuplicate)
	}
	after := map[string]credits.Amount{}
	for _, d := range t.Deltas() {
		b := v.s.balances.rows[d.UserID]
		b.UserID = d.UserID
		next, err := b.Apply(d)
		if err != nil {
			return err
		}
		v.s.balances.put(v.tx, d.UserID, next)
		after[d.UserID] = next.Available
	}
	v.s.booked.put(v.tx, t.Key, struct{}{})
	before := len(v.s.entries)
	for _, p := range t.Postings {
		sum, err := v.s.totals.rows[string(p.Account)].Add(p.Amount)
		if err != nil {
			return fmt.Errorf("total of %s: %w", p.Account, err)
		}
		v.s.totals.put(v.tx, string(p.Account), sum)
	}
	for _, e := range t.Entries(after) {
		v.s.entries = append(v.s.entries, ledger.Booked{Seq: int64(len(v.s.entries) + 1), Entry: e, Key: t.Key, TransferAt: t.At})
	}
	v.tx.undo = append(v.tx.undo, func() { v.s.entries = v.s.entries[:before] })
	return nil
}

func (v books) Seal(_ context.Context, seal ledger.Seal) error {
	before := len(v.s.seals)
	if seal.N != int64(before+1) {
		return fmt.Errorf("seal %d: %w", seal.N, ports.ErrDuplicate)
	}
	v.s.seals = append(v.s.seals, seal)
	v.tx.undo = append(v.tx.undo, func() { v.s.seals = v.s.seals[:before] })
	return nil
}

type audits struct{ view }

func (v audits) LastSeal(ctx context.Context) (ledger.Seal, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return ledger.Seal{}, err
	}
	defer unlock()
	if n := len(v.s.seals); n > 0 {
		last := v.s.seals[n-1]
		last.Marks = nil
		return last, nil
	}
	return ledger.Seal{}, nil
}

func (v audits) Settled(ctx context.Context) (int64, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return 0, err
	}
	defer unlock()
	return int64(len(v.s.entries)), nil
}

func (v audits) Entries(ctx context.Context, after, to int64, limit int) ([]ledger.Booked, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	all := v.s.entries[:min(to, int64(len(v.s.entries)))]
	return slices.Clone(stretch(all, ports.Page{Limit: limit, Offset: int(after)})), nil
}

// Snapshot copies what may change. Entries and seals only grow.
func (v audits) Snapshot(ctx context.Context, fn func(ctx context.Context, s ports.LedgerSnapshot) error) error {
	unlock, err := v.read(ctx)
	if err != nil {
		return err
	}
	s := snapshot{entries: v.s.entries, seals: v.s.seals}
	for _, b := range v.s.balances.rows {
		s.balances = append(s.balances, b)
	}
	for id := range v.s.open.rows {
		if t := v.s.tasks.rows[id]; t.Price > 0 {
			s.holds = append(s.holds, ledger.Hold{TaskID: id, UserID: t.RequesterUserID, Amount: t.Price})
		}
	}
	unlock()
	slices.SortFunc(s.balances, func(a, b ledger.Balance) int { return strings.Compare(a.UserID, b.UserID) })
	slices.SortFunc(s.holds, func(a, b ledger.Hold) int { return strings.Compare(a.TaskID, b.TaskID) })
	return fn(ctx, s)
}

type snapshot struct {
	entries  []ledger.Booked
	seals    []ledger.Seal
	balances []ledger.Balance
	holds    []ledger.Hold
}

func (s snapshot) Entries(ctx context.Context, after int64, limit int) ([]ledger.Booked, error) {
	return stretch(s.entries, ports.Page{Limit: limit, Offset: int(after)}), ctx.Err()
}

func (s snapshot) Seals(ctx context.Context, after int64, limit int) ([]ledger.Seal, error) {
	return stretch(s.seals, ports.Page{Limit: limit, Offset: int(after)}), ctx.Err()
}

func (s snapshot) Balances(ctx context.Context, after string, limit int) ([]ledger.Balance, error) {
	from, _ := slices.BinarySearchFunc(s.balances, after+"\x00", func(b ledger.Balance, id string) int { return strings.Compare(b.UserID, id) })
	return stretch(s.balances, ports.Page{Limit: limit, Offset: from}), ctx.Err()
}

func (s snapshot) OpenHolds(ctx context.Context, after string, limit int) ([]ledger.Hold, error) {
	from, _ := slices.BinarySearchFunc(s.holds, after+"\x00", func(h ledger.Hold, id string) int { return strings.Compare(h.TaskID, id) })
	return stretch(s.holds, ports.Page{Limit: limit, Offset: from}), ctx.Err()
}

func (s snapshot) EmptyTransfers(ctx context.Context, _ int) ([]string, error) { return nil, ctx.Err() }
