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
			visit(e)
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
	v.s.entries = append(v.s.entries, t.Entries(after)...)
	v.tx.undo = append(v.tx.undo, func() { v.s.entries = v.s.entries[:before] })
	for _, p := range t.Postings {
		v.s.totals.put(v.tx, string(p.Account), v.s.totals.rows[string(p.Account)]+p.Amount)
	}
	return nil
}
