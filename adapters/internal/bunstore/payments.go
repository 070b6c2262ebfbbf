package bunstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nexus-protocol/nexus/domain/billing"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/ports"
)

type (
	purchases struct{ access }
	payments  struct{ access }
	grants    struct{ access }
)

var (
	_ ports.PurchaseStore = (*purchases)(nil)
	_ ports.PaymentStore  = (*payments)(nil)
	_ ports.GrantStore    = (*grants)(nil)
)

const (
	purchaseColumns = `id, user_id, package_id, credits, price, currency, provider, COALESCE(session_id, ''), payment_id, status, reversed, reversals, note, created_at, updated_at`
	eventColumns    = `key, id, provider, kind, session_id, payment_id, dispute_id, refund_id, purchase_id, user_id, package_id, amount, currency, at, received_at, outcome`
)

// A payment is locked before the purchase that it is of, and both before any money. Their ranks are those of rows that no
// unit of work has beside them.
var (
	qPurchase       = hot(`SELECT ` + purchaseColumns + ` FROM purchases WHERE id = ?`)
	qLockPurchase   = hot(`SELECT `+purchaseColumns+` FROM purchases WHERE id = ?{lock}`).ranked(rankAgent, 0).locks("purchase")
	qPurchases      = hot(`SELECT ` + purchaseColumns + ` FROM purchases WHERE user_id = ? ORDER BY created_at DESC, id DESC LIMIT ? OFFSET ?`)
	qCountPurchases = hot(`SELECT count(*) FROM purchases WHERE user_id = ?`)
	qInsertPurchase = hot(`INSERT INTO purchases (id, user_id, package_id, credits, price, currency, provider, session_id, payment_id, status, reversed, reversals, note, created_at, updated_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, NULLIF(?, ''), ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`).ranked(rankAgent, 0)
	qBySession    = hot(`SELECT id FROM purchases WHERE session_id = ?`)
	qByPayment    = hot(`SELECT id FROM purchases WHERE payment_id = ? AND payment_id <> '' ORDER BY id LIMIT 1`)
	qSavePurchase = hot(`UPDATE purchases SET session_id = NULLIF(?, ''), payment_id = ?, status = ?, reversed = ?, reversals = ?, note = ?, updated_at = ? WHERE id = ?`)

	qAddPaymentEvent = hot(`INSERT INTO payment_events (`+eventColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`).ranked(rankAccess, 0)
	qPaymentEvent    = hot(`SELECT ` + eventColumns + ` FROM payment_events WHERE key = ?`)
	qEndPaymentEvent = hot(`UPDATE payment_events SET outcome = ? WHERE key = ?`)
	qMakePayment     = hot(`INSERT INTO payments (id, currency, refunded, lost) VALUES (?, '', 0, '{}') ON CONFLICT DO NOTHING`).ranked(rankRun, 0)
	qLockPayment     = hot(`SELECT currency, refunded, refunded_at, returned, lost FROM payments WHERE id = ?{lock}`).ranked(rankRun, 0).locks("payment")
	qSavePayment     = hot(`UPDATE payments SET currency = ?, refunded = ?, refunded_at = ?, returned = ?, lost = ? WHERE id = ?`)

	qInsertGrant = hot(`INSERT INTO credit_grants (id, user_id, by_user_id, credits, reason, at) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`).ranked(rankAccess, 0)
	qGrants      = hot(`SELECT id, user_id, by_user_id, credits, reason, at FROM credit_grants ORDER BY at DESC, id DESC LIMIT ? OFFSET ?`)
	qCountGrants = hot(`SELECT count(*) FROM credit_grants`)
	qGrantsTo    = hot(`SELECT id, user_id, by_user_id, credits, reason, at FROM credit_grants WHERE user_id = ? ORDER BY at DESC, id DESC LIMIT ? OFFSET ?`)
	qCountTo     = hot(`SELECT count(*) FROM credit_grants WHERE user_id = ?`)
)

func scanPurchase(scan func(...any) error) (p billing.Purchase, err error) {
	var made, changed micros
	err = scan(&p.ID, &p.UserID, &p.PackageID, &p.Credits, &p.Price.Amount, &p.Price.Currency, &p.Provider, &p.SessionID, &p.PaymentID, &p.Status, &p.Reversed, &p.Reversals,
		&p.Note, &made, &changed)
	p.CreatedAt, p.UpdatedAt = made.time(), changed.time()
	return p, err
}

// Get implements ports.PurchaseReader. One statement.
func (v *purchases) Get(ctx context.Context, id string) (billing.Purchase, error) {
	return v.find(ctx, qPurchase, id)
}

// Lock implements ports.PurchaseStore. One statement.
func (v *purchases) Lock(ctx context.Context, id string) (billing.Purchase, error) {
	return v.find(ctx, qLockPurchase, id)
}

func (v *purchases) find(ctx context.Context, q statement, id string) (p billing.Purchase, err error) {
	found := false
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		found = false
		err := c.each(ctx, q, []any{id}, func(scan func(...any) error) (err error) {
			found = true
			p, err = scanPurchase(scan)
			return err
		})
		return c.store.wrap(err, "read purchase")
	})
	if err == nil && !found {
		err = fault.NotFoundf(fault.CodeNotFound, "Purchase", id)
	}
	return p, err
}

// ListByUser implements ports.PurchaseReader. Two statements.
func (v *purchases) ListByUser(ctx context.Context, userID string, page ports.Page) (out []billing.Purchase, total int, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		out = nil
		err := c.each(ctx, qPurchases, []any{userID, page.Limit, page.Offset}, func(scan func(...any) error) error {
			p, err := scanPurchase(scan)
			out = append(out, p)
			return err
		})
		if err == nil {
			err = c.row(ctx, qCountPurchases, []any{userID}, &total)
		}
		return c.store.wrap(err, "list purchases")
	})
	return out, total, err
}

// Insert implements ports.PurchaseStore. One statement.
func (v *purchases) Insert(ctx context.Context, p billing.Purchase) error {
	return v.do(ctx, func(ctx context.Context, c *session) error {
		n, err := c.exec(ctx, qInsertPurchase, p.ID, p.UserID, p.PackageID, int64(p.Credits), p.Price.Amount, p.Price.Currency, p.Provider, p.SessionID, p.PaymentID,
			string(p.Status), int64(p.Reversed), p.Reversals, p.Note, int64(at(p.CreatedAt)), int64(at(p.UpdatedAt)))
		if err == nil && n == 0 {
			return fmt.Errorf("purchase %s: %w", p.ID, ports.ErrDuplicate)
		}
		return c.store.wrap(err, "insert purchase")
	})
}

// BySession implements ports.PurchaseStore. One statement.
func (v *purchases) BySession(ctx context.Context, sessionID string) (string, error) {
	return v.idBy(ctx, qBySession, sessionID)
}

// ByPayment implements ports.PurchaseStore. One statement.
func (v *purchases) ByPayment(ctx context.Context, paymentID string) (string, error) {
	return v.idBy(ctx, qByPayment, paymentID)
}

func (v *purchases) idBy(ctx context.Context, q statement, key string) (id string, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		return c.store.wrap(c.row(ctx, q, []any{key}, &id), "find purchase")
	})
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return id, err
}

// Save implements ports.PurchaseStore. One statement.
func (v *purchases) Save(ctx context.Context, p billing.Purchase) error {
	return v.do(ctx, func(ctx context.Context, c *session) error {
		n, err := c.exec(ctx, qSavePurchase, p.SessionID, p.PaymentID, string(p.Status), int64(p.Reversed), p.Reversals, p.Note, int64(at(p.UpdatedAt)), p.ID)
		if err == nil && n == 0 {
			return fault.NotFoundf(fault.CodeNotFound, "Purchase", p.ID)
		}
		return c.store.wrap(err, "save purchase")
	})
}

// AddEvent implements ports.PaymentStore. One statement.
func (v *payments) AddEvent(ctx context.Context, e ports.KeptEvent) (added bool, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		n, err := c.exec(ctx, qAddPaymentEvent, e.Key, e.ID, e.Provider, string(e.Kind), e.SessionID, e.PaymentID, e.DisputeID, e.RefundID, e.PurchaseID, e.UserID, e.PackageID,
			e.Amount.Amount, e.Amount.Currency, int64(at(e.At)), int64(at(e.ReceivedAt)), e.Outcome)
		added = n > 0
		return c.store.wrap(err, "keep event")
	})
	return added, err
}

// Event implements ports.PaymentStore. One statement.
func (v *payments) Event(ctx context.Context, key string) (e ports.KeptEvent, err error) {
	var when, received micros
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		return c.store.wrap(c.row(ctx, qPaymentEvent, []any{key}, &e.Key, &e.ID, &e.Provider, &e.Kind, &e.SessionID, &e.PaymentID, &e.DisputeID, &e.RefundID, &e.PurchaseID, &e.UserID,
			&e.PackageID, &e.Amount.Amount, &e.Amount.Currency, &when, &received, &e.Outcome), "read event")
	})
	if errors.Is(err, sql.ErrNoRows) {
		err = fault.NotFoundf(fault.CodeNotFound, "Event", key)
	}
	e.At, e.ReceivedAt = when.time(), received.time()
	return e, err
}

// EndEvent implements ports.PaymentStore. One statement.
func (v *payments) EndEvent(ctx context.Context, key, outcome string) error {
	return v.do(ctx, func(ctx context.Context, c *session) error {
		n, err := c.exec(ctx, qEndPaymentEvent, outcome, key)
		if err == nil && n == 0 {
			return fault.NotFoundf(fault.CodeNotFound, "Event", key)
		}
		return c.store.wrap(err, "end event")
	})
}

// told is a billing.Told as it is kept.
type told struct {
	Amount int64  `json:"amount"`
	At     micros `json:"at"` // 0: not known
}

// UnmarshalJSON implements json.Unmarshaler. Once it was the amount alone.
func (t *told) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] != '{' {
		return json.Unmarshal(b, &t.Amount)
	}
	type plain told
	return json.Unmarshal(b, (*plain)(t))
}

func toldOf(t billing.Told) told {
	if t.At.IsZero() {
		return told{Amount: t.Amount}
	}
	return told{t.Amount, at(t.At)}
}

func (t told) domain() billing.Told {
	if t.At == 0 {
		return billing.Told{Amount: t.Amount}
	}
	return billing.Told{Amount: t.Amount, At: t.At.time()}
}

func packTold(all map[string]billing.Told) (string, error) {
	rows := make(map[string]told, len(all))
	for id, t := range all {
		rows[id] = toldOf(t)
	}
	return pack(rows)
}

func unpackTold(text string) (map[string]billing.Told, error) {
	var rows map[string]told
	if err := unpack(text, &rows); err != nil || len(rows) == 0 {
		return nil, err
	}
	out := make(map[string]billing.Told, len(rows))
	for id, t := range rows {
		out[id] = t.domain()
	}
	return out, nil
}

// Lock implements ports.PaymentStore. Two statements, sent together.
func (v *payments) Lock(ctx context.Context, paymentID string) (p billing.Payment, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		p = billing.Payment{ID: paymentID}
		var refunded told
		var returned, lost string
		err := c.send(ctx, &call{statement: qMakePayment, args: []any{paymentID}},
			qLockPayment.first([]any{paymentID}, &p.Currency, &refunded.Amount, &refunded.At, &returned, &lost))
		p.Refunded = refunded.domain()
		if err == nil {
			p.Returned, err = unpackTold(returned)
		}
		if err == nil {
			p.Lost, err = unpackTold(lost)
		}
		return c.store.wrap(err, "lock payment")
	})
	return p, err
}

// Save implements ports.PaymentStore. One statement.
func (v *payments) Save(ctx context.Context, p billing.Payment) error {
	refunded := toldOf(p.Refunded)
	returned, err := packTold(p.Returned)
	if err != nil {
		return err
	}
	lost, err := packTold(p.Lost)
	if err != nil {
		return err
	}
	return v.do(ctx, func(ctx context.Context, c *session) error {
		_, err := c.exec(ctx, qSavePayment, p.Currency, refunded.Amount, int64(refunded.At), returned, lost, p.ID)
		return c.store.wrap(err, "save payment")
	})
}

// Insert implements ports.GrantStore. One statement.
func (v *grants) Insert(ctx context.Context, g billing.Grant) error {
	return v.do(ctx, func(ctx context.Context, c *session) error {
		n, err := c.exec(ctx, qInsertGrant, g.ID, g.UserID, g.ByID, int64(g.Credits), g.Reason, int64(at(g.At)))
		if err == nil && n == 0 {
			return fmt.Errorf("grant %s: %w", g.ID, ports.ErrDuplicate)
		}
		return c.store.wrap(err, "insert grant")
	})
}

// List implements ports.GrantReader. Two statements.
func (v *grants) List(ctx context.Context, userID string, page ports.Page) (out []billing.Grant, total int, err error) {
	list, count, args := qGrants, qCountGrants, []any{}
	if userID != "" {
		list, count, args = qGrantsTo, qCountTo, []any{userID}
	}
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		out = nil
		err := c.each(ctx, list, append(args, page.Limit, page.Offset), func(scan func(...any) error) error {
			var g billing.Grant
			var when micros
			err := scan(&g.ID, &g.UserID, &g.ByID, &g.Credits, &g.Reason, &when)
			g.At = when.time()
			out = append(out, g)
			return err
		})
		if err == nil {
			err = c.row(ctx, count, args, &total)
		}
		return c.store.wrap(err, "list grants")
	})
	return out, total, err
}
