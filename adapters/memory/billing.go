package memory

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nexus-protocol/nexus/domain/billing"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/ports"
)

type (
	purchases struct{ view }
	payments  struct{ view }
	grants    struct{ view }
	usage     struct{ view }
	accounts  struct{ view }
)

var (
	_ ports.PurchaseStore   = purchases{}
	_ ports.PaymentStore    = payments{}
	_ ports.GrantStore      = grants{}
	_ ports.UsageStore      = usage{}
	_ ports.StatementReader = accounts{}
)

func (v purchases) Get(ctx context.Context, id string) (billing.Purchase, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return billing.Purchase{}, err
	}
	defer unlock()
	p, ok := v.s.purchases.get(id)
	if !ok {
		return p, fault.NotFoundf(fault.CodeNotFound, "Purchase", id)
	}
	return p, nil
}

func (v purchases) Lock(ctx context.Context, id string) (billing.Purchase, error) {
	return v.Get(ctx, id)
}

func (v purchases) ListByUser(ctx context.Context, userID string, page ports.Page) ([]billing.Purchase, int, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer unlock()
	var found []billing.Purchase
	for _, p := range v.s.purchases.rows {
		if p.UserID == userID {
			found = append(found, p)
		}
	}
	return newest(found, page, func(p billing.Purchase) (time.Time, string) { return p.CreatedAt, p.ID }, func(p billing.Purchase) billing.Purchase { return p }), len(found), nil
}

func (v purchases) Insert(_ context.Context, p billing.Purchase) error {
	_, twice := v.s.purchases.get(p.ID)
	if twice || p.SessionID != "" && v.find(func(o billing.Purchase) bool { return o.SessionID == p.SessionID }) != "" {
		return fmt.Errorf("purchase %s: %w", p.ID, ports.ErrDuplicate)
	}
	v.s.purchases.put(v.tx, p.ID, p)
	return nil
}

// find returns the lowest id of the purchases that are so.
func (v purchases) find(is func(billing.Purchase) bool) (found string) {
	for id, p := range v.s.purchases.rows {
		if is(p) && (found == "" || id < found) {
			found = id
		}
	}
	return found
}

func (v purchases) BySession(ctx context.Context, sessionID string) (string, error) {
	return v.find(func(p billing.Purchase) bool { return sessionID != "" && p.SessionID == sessionID }), ctx.Err()
}

func (v purchases) ByPayment(ctx context.Context, paymentID string) (string, error) {
	return v.find(func(p billing.Purchase) bool { return paymentID != "" && p.PaymentID == paymentID }), ctx.Err()
}

func (v purchases) Save(_ context.Context, p billing.Purchase) error {
	old, ok := v.s.purchases.get(p.ID)
	if !ok {
		return fault.NotFoundf(fault.CodeNotFound, "Purchase", p.ID)
	}
	if p.SessionID != "" && v.find(func(o billing.Purchase) bool { return o.SessionID == p.SessionID && o.ID != p.ID }) != "" {
		return fmt.Errorf("session %s: %w", p.SessionID, ports.ErrDuplicate)
	}
	old.SessionID, old.PaymentID, old.Status, old.Note, old.UpdatedAt = p.SessionID, p.PaymentID, p.Status, p.Note, p.UpdatedAt
	old.Reversed, old.Reversals = p.Reversed, p.Reversals
	v.s.purchases.put(v.tx, p.ID, old)
	return nil
}

func (v payments) AddEvent(_ context.Context, e ports.KeptEvent) (bool, error) {
	if _, twice := v.s.told.get(e.Key); twice {
		return false, nil
	}
	v.s.told.put(v.tx, e.Key, e)
	return true, nil
}

func (v payments) Event(ctx context.Context, key string) (ports.KeptEvent, error) {
	e, ok := v.s.told.get(key)
	if !ok {
		return e, fault.NotFoundf(fault.CodeNotFound, "Event", key)
	}
	return e, ctx.Err()
}

func (v payments) EndEvent(ctx context.Context, key, outcome string) error {
	e, err := v.Event(ctx, key)
	if err == nil {
		e.Outcome = outcome
		v.s.told.put(v.tx, key, e)
	}
	return err
}

func (v payments) Lock(ctx context.Context, paymentID string) (billing.Payment, error) {
	p := v.s.payments.rows[paymentID]
	p.ID, p.Lost = paymentID, maps.Clone(p.Lost)
	return p, ctx.Err()
}

func (v payments) Save(_ context.Context, p billing.Payment) error {
	p.Lost = maps.Clone(p.Lost)
	v.s.payments.put(v.tx, p.ID, p)
	return nil
}

func (v grants) Insert(_ context.Context, g billing.Grant) error {
	if _, twice := v.s.grants.get(g.ID); twice {
		return fmt.Errorf("grant %s: %w", g.ID, ports.ErrDuplicate)
	}
	v.s.grants.put(v.tx, g.ID, g)
	return nil
}

func (v grants) List(ctx context.Context, userID string, page ports.Page) ([]billing.Grant, int, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer unlock()
	var found []billing.Grant
	for _, g := range v.s.grants.rows {
		if userID == "" || g.UserID == userID {
			found = append(found, g)
		}
	}
	return newest(found, page, func(g billing.Grant) (time.Time, string) { return g.At, g.ID }, func(g billing.Grant) billing.Grant { return g }), len(found), nil
}

// Busy walks the entries themselves. No sums of days are kept here: to add up all entries is what every read here does.
func (v usage) Busy(ctx context.Context, limit, often int) (users []string, upTo int64, more bool, err error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return nil, 0, false, err
	}
	defer unlock()
	from := v.s.looked.rows[""]
	upTo = min(from+int64(limit), int64(len(v.s.entries)))
	times := map[string]int{}
	for _, e := range v.s.entries[from:upTo] {
		if e.Type == ledger.TypeTaskDebit || e.Type == ledger.TypeTaskCredit {
			times[e.UserID]++
		}
	}
	for id, n := range times {
		if n >= often {
			users = append(users, id)
		}
	}
	slices.Sort(users)
	return users, upTo, upTo-from == int64(limit), nil
}

func (v usage) Loose(ctx context.Context, _ string, _ int) (int, error) { return 0, ctx.Err() }

func (v usage) Fold(ctx context.Context, _ string, _ int) (bool, error) { return false, ctx.Err() }

func (v usage) Note(ctx context.Context, upTo int64) error {
	v.s.looked.put(v.tx, "", max(upTo, v.s.looked.rows[""]))
	return ctx.Err()
}

func (v accounts) Before(ctx context.Context, userID string, typ ledger.EntryType, place int64, limit int) (out []ledger.Entry, next int64, err error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer unlock()
	if place == 0 {
		place = int64(len(v.s.entries)) + 1
	}
	account := ledger.Available(userID)
	for next = place; next > 1 && len(out) < limit; {
		next--
		if e := v.s.entries[next-1].Entry; e.Account == account && (typ == "" || e.Type == typ) {
			out = append(out, e)
		}
	}
	return out, next, nil
}
