package portstest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nexus-protocol/nexus/domain/billing"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/ports"
)

func purchaseOf(userID string, at time.Time) billing.Purchase {
	return billing.Start(newID(), userID, billing.Packages()[0], "provider", at)
}

func eventOf(id string) ports.KeptEvent {
	return ports.KeptEvent{Key: "provider:" + id, ReceivedAt: base, Event: billing.Event{
		ID: id, Provider: "provider", Kind: billing.EventPaid, SessionID: "s", PaymentID: "p", DisputeID: "d", RefundID: "r", PurchaseID: "q", UserID: "u", PackageID: "starter",
		Amount: billing.Money{Amount: 1000, Currency: "usd"}, At: base.Add(-time.Second),
	}}
}

var billingChecks = []Check{
	{"purchases/insert, save, list", func(ctx context.Context, s ports.Store, _ Traits) error {
		a, b, c := purchaseOf("ann", base), purchaseOf("ann", base.Add(time.Second)), purchaseOf("bob", base)
		b.SessionID = "session b"
		insert := func(p billing.Purchase) error {
			return s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Purchases.Insert(ctx, p) })
		}
		if err := first(insert(a), insert(b), insert(c)); err != nil {
			return err
		}
		other := purchaseOf("ann", base)
		other.SessionID = b.SessionID
		if err := first(wantErr("the same id", insert(a), ports.ErrDuplicate), wantErr("the same session", insert(other), ports.ErrDuplicate)); err != nil {
			return err
		}
		a.SessionID, a.PaymentID, a.Status, a.Reversed, a.Reversals, a.Note, a.UpdatedAt = "session a", "payment a", billing.Paid, 5, 2, "note", base.Add(time.Minute)
		var bySession, byPayment, noSession, noPayment, empty string
		err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
			locked, err := tx.Purchases.Lock(ctx, a.ID)
			if err := first(err, same("locked", locked.ID, a.ID), tx.Purchases.Save(ctx, a)); err != nil {
				return err
			}
			var errs [5]error
			bySession, errs[0] = tx.Purchases.BySession(ctx, "session a")
			byPayment, errs[1] = tx.Purchases.ByPayment(ctx, "payment a")
			noSession, errs[2] = tx.Purchases.BySession(ctx, "session c")
			noPayment, errs[3] = tx.Purchases.ByPayment(ctx, "payment b")
			empty, errs[4] = tx.Purchases.ByPayment(ctx, "")
			return first(errs[:]...)
		})
		got, err2 := s.Read().Purchases.Get(ctx, a.ID)
		if err := first(err, err2, same("saved", got, a), same("by session", bySession, a.ID), same("by payment", byPayment, a.ID), same("no session", noSession, ""),
			same("no payment", noPayment, ""), same("those that are not paid", empty, "")); err != nil {
			return err
		}
		_, err = s.Read().Purchases.Get(ctx, newID())
		list, total, err2 := s.Read().Purchases.ListByUser(ctx, "ann", ports.Page{Limit: 1})
		next, _, err3 := s.Read().Purchases.ListByUser(ctx, "ann", ports.Page{Limit: 5, Offset: 1})
		lost := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Purchases.Save(ctx, purchaseOf("ann", base)) })
		return first(wantCode("missing", err, fault.CodeNotFound), wantCode("saving what is not there", lost, fault.CodeNotFound), err2, err3,
			same("total", total, 2), same("newest", list, []billing.Purchase{b}), same("then", next, []billing.Purchase{a}))
	}},
	{"payments/an event is kept once", func(ctx context.Context, s ports.Store, _ Traits) error {
		add := func(e ports.KeptEvent) (added bool, err error) {
			err = s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
				added, err = tx.Payments.AddEvent(ctx, e)
				return err
			})
			return added, err
		}
		e := eventOf("e1")
		one, err1 := add(e)
		changed := e
		changed.UserID = "mallory"
		two, err2 := add(changed)
		three, err3 := add(eventOf("e2"))
		var got, ended ports.KeptEvent
		err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) (err error) {
			if got, err = tx.Payments.Event(ctx, e.Key); err != nil {
				return err
			}
			if err := tx.Payments.EndEvent(ctx, e.Key, "done"); err != nil {
				return err
			}
			ended, err = tx.Payments.Event(ctx, e.Key)
			return err
		})
		missing := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
			_, err := tx.Payments.Event(ctx, "provider:e3")
			return err
		})
		unended := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Payments.EndEvent(ctx, "provider:e3", "x") })
		return first(err1, err2, err3, err, same("the first", one, true), same("the second", two, false), same("another", three, true), same("kept", got, e),
			same("outcome", ended.Outcome, "done"), wantCode("missing", missing, fault.CodeNotFound), wantCode("ending what is not there", unended, fault.CodeNotFound))
	}},
	{"payments/many add up what they know", func(ctx context.Context, s ports.Store, _ Traits) error {
		for _, err := range together(32, func(i int) error {
			return s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
				p, err := tx.Payments.Lock(ctx, "payment")
				if err != nil {
					return err
				}
				e := billing.Event{Kind: billing.EventRefunded, Amount: billing.Money{Amount: int64(i), Currency: "usd"}}
				switch {
				case i%2 == 1:
					e.Kind, e.DisputeID = billing.EventLost, fmt.Sprint(i)
				case i%4 == 0:
					e.Kind, e.RefundID, e.At = billing.EventReturned, fmt.Sprint(i), base
				}
				return tx.Payments.Save(ctx, p.Hear(e))
			})
		}) {
			if err != nil {
				return err
			}
		}
		var got billing.Payment
		err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) (err error) {
			got, err = tx.Payments.Lock(ctx, "payment")
			return err
		})
		return first(err, same("refunded", got.Refunded, billing.Told{Amount: 30}), same("disputes", len(got.Lost), 16), same("a dispute", got.Lost["31"], billing.Told{Amount: 31}),
			same("returned", len(got.Returned), 8), same("one that is back", got.Returned["28"], billing.Told{Amount: 28, At: base}), same("currency", got.Currency, "usd"), same("id", got.ID, "payment"))
	}},
	{"grants/kept and listed", func(ctx context.Context, s ports.Store, _ Traits) error {
		one := billing.Grant{ID: newID(), UserID: "ann", ByID: "root", Credits: 950, Reason: "a prize", At: base}
		two := billing.Grant{ID: newID(), UserID: "bob", ByID: "root", Credits: 1, Reason: "sorry", At: base.Add(time.Second)}
		insert := func(g billing.Grant) error {
			return s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Grants.Insert(ctx, g) })
		}
		if err := first(insert(one), insert(two), wantErr("twice", insert(one), ports.ErrDuplicate)); err != nil {
			return err
		}
		all, total, err := s.Read().Grants.List(ctx, "", ports.Page{Limit: 10})
		anns, annsTotal, err2 := s.Read().Grants.List(ctx, "ann", ports.Page{Limit: 10})
		page, _, err3 := s.Read().Grants.List(ctx, "", ports.Page{Limit: 1, Offset: 1})
		return first(err, err2, err3, same("all", all, []billing.Grant{two, one}), same("total", total, 2), same("ann's", anns, []billing.Grant{one}),
			same("ann's total", annsTotal, 1), same("page", page, []billing.Grant{one}))
	}},
	{"usage/sums change nothing", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		midnight := base.Truncate(24 * time.Hour).Add(24 * time.Hour)
		pay := func(at time.Time, amount credits.Amount) error {
			h := ledger.Hold{TaskID: newID(), UserID: w.asker.ID, Amount: amount}
			return first(place(ctx, s, h), capture(ctx, s, h, w.owner.ID, at))
		}
		fold := func(user string, most int) error {
			return s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
				for {
					if more, err := tx.Usage.Fold(ctx, user, most); err != nil || !more {
						return err
					}
				}
			})
		}
		usage := func(from string, spent, earned []ledger.Day) error {
			got, err := s.Read().Ledger.Usage(ctx, w.asker.ID, from)
			theirs, err2 := s.Read().Ledger.Usage(ctx, w.owner.ID, from)
			return first(err, err2, same("spent from "+from, got, spent), same("earned from "+from, theirs, earned))
		}
		spent := []ledger.Day{{Date: "2026-03-06", Spent: 1000}, {Date: "2026-03-07", Spent: 5000}}
		earned := []ledger.Day{{Date: "2026-03-06", Earned: 950}, {Date: "2026-03-07", Earned: 4750}}
		if err := first(pay(midnight.Add(-time.Microsecond), 1000), pay(midnight, 2000), fold(w.asker.ID, 2), pay(midnight.Add(time.Hour), 3000), usage("2026-03-06", spent, earned)); err != nil {
			return err
		}
		// Those that come late, to a day that was summed up already, count all the same, and a second look sums up nothing twice.
		spent[0].Spent, earned[0].Earned = 1100, 1045
		if err := first(fold(w.owner.ID, 100), pay(midnight.Add(-time.Hour), 100), usage("2026-03-06", spent, earned), usage("2026-03-07", spent[1:], earned[1:]),
			fold(w.asker.ID, 1), fold(w.asker.ID, 1), fold(w.owner.ID, 3), usage("2026-03-06", spent, earned), usage("2026-03-07", spent[1:], earned[1:])); err != nil {
			return err
		}
		loose, err := s.Read().Usage.Loose(ctx, w.asker.ID, 10)
		return first(err, same("left", loose, 0), fold("nobody", 5), sound(ctx, s, w.asker.ID, w.owner.ID))
	})},
	{"usage/the busy are found", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		for range 3 {
			h := ledger.Hold{TaskID: newID(), UserID: w.asker.ID, Amount: 100}
			if err := first(place(ctx, s, h), capture(ctx, s, h, w.owner.ID, base)); err != nil {
				return err
			}
		}
		found := map[string]bool{}
		for range 100 {
			users, upTo, more, err := s.Read().Usage.Busy(ctx, 8, 1)
			if err != nil {
				return err
			}
			for _, id := range users {
				found[id] = true
			}
			if err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Usage.Note(ctx, upTo) }); err != nil {
				return err
			}
			if !more {
				none, again, _, err := s.Read().Usage.Busy(ctx, 8, 1)
				return first(err, same("found", found, map[string]bool{w.asker.ID: true, w.owner.ID: true}), same("none are left", len(none), 0), same("place", again, upTo))
			}
		}
		return failf("there is no end of entries to look at")
	})},
	{"statements/from end to end", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		h := ledger.Hold{TaskID: newID(), UserID: w.asker.ID, Amount: 100, Title: "Work"}
		if err := first(place(ctx, s, h), capture(ctx, s, h, w.owner.ID, base)); err != nil {
			return err
		}
		want, _, err := s.Read().Ledger.Transactions(ctx, w.asker.ID, "", ports.Page{Limit: 100})
		if err != nil {
			return err
		}
		var got []ledger.Entry
		for place := int64(0); ; {
			some, next, err := s.Read().Statements.Before(ctx, w.asker.ID, "", place, 3)
			if err != nil {
				return err
			}
			got = append(got, some...)
			if place == 0 { // what comes in the meantime is left out
				late := ledger.Hold{TaskID: newID(), UserID: w.asker.ID, Amount: 1}
				if err := post(ctx, s, first2(late.Place(base)), nil); err != nil {
					return err
				}
			}
			if len(some) < 3 {
				break
			}
			place = next
		}
		typed, _, err := s.Read().Statements.Before(ctx, w.asker.ID, ledger.TypeTaskDebit, 0, 10)
		none, _, err2 := s.Read().Statements.Before(ctx, "nobody", "", 0, 10)
		return first(err, err2, same("all", got, want), same("of a type", typed, want[:1]), same("nobody's", len(none), 0))
	})},
}

func first2[T any](v T, _ error) T { return v }

// Provider is what the suite has to know of a provider to check it.
type Provider struct {
	Sells bool // takes orders that are paid for
	Gives bool // settles grants
	// Pay lets a session be paid and returns what is delivered of it; Sign signs a body as if it were delivered then. Those
	// that do not sell need none.
	Pay  func(sessionID string) ([]ports.Delivery, error)
	Sign func(body []byte, at time.Time) string
	Now  time.Time
}

// Payments checks a way of paying.
func Payments(ctx context.Context, p ports.Payments, with Provider) error {
	if p.Name() == "" {
		return failf("it has no name")
	}
	pack := billing.Packages()[1]
	order := func(id string) billing.Order { return billing.Order{ID: id, UserID: "0190-user", Package: pack} }
	given := func(g billing.Grant) (billing.Checkout, error) {
		g.ID, g.UserID, g.ByID = newID(), "0190-user", "0190-admin"
		return p.Begin(ctx, billing.Order{ID: g.ID, UserID: g.UserID, Grant: &g})
	}
	gift, err := given(billing.Grant{Credits: 950, Reason: "a prize"})
	if !with.Gives {
		if err := wantCode("a grant", err, fault.CodePaymentsUnset); err != nil {
			return err
		}
	} else {
		again, err2 := given(billing.Grant{Credits: 950, Reason: "a prize"})
		_, nothing := given(billing.Grant{Credits: 0, Reason: "a prize"})
		_, minus := given(billing.Grant{Credits: -1, Reason: "a prize"})
		_, silent := given(billing.Grant{Credits: 1, Reason: ""})
		if err := first(err, err2, same("settled", gift.Settled, true), wantCode("nothing", nothing, fault.CodeValidation), wantCode("less than nothing", minus, fault.CodeValidation),
			wantCode("without a reason", silent, fault.CodeValidation)); err != nil {
			return err
		}
		if gift.SessionID == "" || gift.SessionID == again.SessionID {
			return failf("two grants are %q and %q", gift.SessionID, again.SessionID)
		}
	}
	one := newID()
	opened, err := p.Begin(ctx, order(one))
	if !with.Sells {
		_, read := p.Read(ctx, ports.Delivery{Body: []byte(`{}`)})
		return first(wantCode("an order", err, fault.CodePaymentsUnset), wantCode("a delivery", read, fault.CodePaymentsUnset))
	}
	again, err2 := p.Begin(ctx, order(one))
	other, err3 := p.Begin(ctx, order(newID()))
	if err := first(err, err2, err3, same("settled", opened.Settled, false), same("the same order's session", again.SessionID, opened.SessionID)); err != nil {
		return err
	}
	if opened.SessionID == "" || opened.URL == "" || other.SessionID == opened.SessionID {
		return failf("the orders' checkouts are %+v and %+v", opened, other)
	}
	deliveries, err := with.Pay(opened.SessionID)
	if err != nil {
		return err
	}
	paid := 0
	for _, d := range deliveries {
		e, err := p.Read(ctx, d)
		twice, err2 := p.Read(ctx, d)
		if err := first(err, err2, same("the same delivery", twice, e)); err != nil {
			return err
		}
		if e.Kind != billing.EventPaid {
			continue
		}
		paid++
		want := billing.Event{
			ID: e.ID, Provider: p.Name(), Kind: billing.EventPaid, SessionID: opened.SessionID, PaymentID: e.PaymentID, PurchaseID: one, UserID: "0190-user",
			PackageID: pack.ID, Amount: pack.Price, At: e.At,
		}
		if err := first(same("what is told", e, want), e.Check(), forgeries(ctx, p, with, d)); err != nil {
			return err
		}
	}
	return same("told of as paid", paid, 1)
}

// forgeries are deliveries that must not be believed.
func forgeries(ctx context.Context, p ports.Payments, with Provider, d ports.Delivery) error {
	changed := append([]byte(nil), d.Body...)
	for i, c := range changed {
		if c >= '0' && c <= '8' {
			changed[i]++
			break
		}
	}
	var errs []error
	for name, bad := range map[string]ports.Delivery{
		"no signature":      {Body: d.Body},
		"another body":      {Body: changed, Signature: d.Signature},
		"more of a body":    {Body: append(append([]byte(nil), d.Body...), ' '), Signature: d.Signature},
		"nothing":           {Signature: d.Signature},
		"half a signature":  {Body: d.Body, Signature: d.Signature[:len(d.Signature)/2]},
		"nonsense":          {Body: d.Body, Signature: "t=,v1=\x00"},
		"too old":           {Body: d.Body, Signature: with.Sign(d.Body, with.Now.Add(-302*time.Second))},
		"of the future":     {Body: d.Body, Signature: with.Sign(d.Body, with.Now.Add(302*time.Second))},
		"of the far future": {Body: d.Body, Signature: with.Sign(d.Body, with.Now.Add(50*365*24*time.Hour))},
		"signed nonsense":   {Body: []byte("]"), Signature: with.Sign([]byte("]"), with.Now)},
	} {
		_, err := p.Read(ctx, bad)
		errs = append(errs, wantCode(name, err, fault.CodeValidation))
	}
	for _, off := range []time.Duration{-298 * time.Second, 298 * time.Second} {
		if _, err := p.Read(ctx, ports.Delivery{Body: d.Body, Signature: with.Sign(d.Body, with.Now.Add(off))}); err != nil {
			errs = append(errs, failf("%s off: %w", off, err))
		}
	}
	return errors.Join(errs...)
}
