package portstest

import (
	"context"
	"time"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/ports"
)

func post(ctx context.Context, s ports.Store, t ledger.Transfer, err error) error {
	if err != nil {
		return err
	}
	t = t.Stamp(newID)
	return s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Ledger.Post(ctx, t) })
}

func place(ctx context.Context, s ports.Store, h ledger.Hold) error {
	t, err := h.Place(base)
	return post(ctx, s, t, err)
}

func capture(ctx context.Context, s ports.Store, h ledger.Hold, owner string, at time.Time) error {
	t, err := h.Capture(owner, at)
	return post(ctx, s, t, err)
}

// sound says that the books balance and that the user's identity holds.
func sound(ctx context.Context, s ports.Store, userIDs ...string) error {
	sum, err := s.Read().Ledger.Imbalance(ctx)
	if err := first(err, same("sum of all entries", sum, credits.Amount(0))); err != nil {
		return err
	}
	for _, id := range userIDs {
		b, err := s.Read().Ledger.Balance(ctx, id)
		available, err2 := s.Read().Ledger.AccountTotal(ctx, ledger.Available(id))
		held, err3 := s.Read().Ledger.AccountTotal(ctx, ledger.Held(id))
		if err := first(err, err2, err3, same("entries of the available account", available, b.Available), same("entries of the held account", held, b.Held)); err != nil {
			return err
		}
		if !b.Consistent() {
			return failf("balance is not consistent: %+v", b)
		}
	}
	return nil
}

var ledgerChecks = []Check{
	{"ledger/hold, capture, release", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		paid := ledger.Hold{TaskID: "t1", UserID: w.asker.ID, Amount: 1001, Title: "Paid"}
		back := ledger.Hold{TaskID: "t2", UserID: w.asker.ID, Amount: 500, Title: "Back"}
		if err := first(place(ctx, s, paid), place(ctx, s, back)); err != nil {
			return err
		}
		b, err := s.Read().Ledger.Balance(ctx, w.asker.ID)
		if err := first(err, same("while held", b, ledger.Balance{UserID: w.asker.ID, Available: 98_499, Held: 1501, Granted: 100_000}), sound(ctx, s, w.asker.ID)); err != nil {
			return err
		}
		if err := first(capture(ctx, s, paid, w.owner.ID, base.Add(time.Second)), post(ctx, s, back.Release(base.Add(2*time.Second)), nil)); err != nil {
			return err
		}
		b, err = s.Read().Ledger.Balance(ctx, w.asker.ID)
		o, err2 := s.Read().Ledger.Balance(ctx, w.owner.ID)
		fees, err3 := s.Read().Ledger.AccountTotal(ctx, ledger.Fees)
		issued, err4 := s.Read().Ledger.AccountTotal(ctx, ledger.Issuance)
		nobody, err5 := s.Read().Ledger.Balance(ctx, "nobody")
		return first(err, err2, err3, err4, err5,
			same("the requester's", b, ledger.Balance{UserID: w.asker.ID, Available: 98_999, Granted: 100_000, Spent: 1001}),
			same("the owner's", o, ledger.Balance{UserID: w.owner.ID, Available: 951, Earned: 951}),
			same("fees", fees, credits.Amount(50)), same("issued", issued, -ledger.InitialGrant), same("nobody's", nobody, ledger.Balance{UserID: "nobody"}),
			sound(ctx, s, w.asker.ID, w.owner.ID))
	})},
	{"ledger/a balance never falls below zero", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		h := ledger.Hold{TaskID: "t", UserID: w.asker.ID, Amount: ledger.InitialGrant + 1}
		err := place(ctx, s, h)
		if err := wantCode("too much", err, fault.CodeInsufficientCredits); err != nil {
			return err
		}
		f, _ := fault.As(err)
		h.Amount--
		stranger := ledger.Hold{TaskID: "u", UserID: w.owner.ID, Amount: 1}
		return first(same("required", f.Details["required"], any(ledger.InitialGrant+1)), same("available", f.Details["available"], any(ledger.InitialGrant)),
			wantCode("from nothing", place(ctx, s, stranger), fault.CodeInsufficientCredits), sound(ctx, s, w.asker.ID),
			place(ctx, s, h), sound(ctx, s, w.asker.ID))
	})},
	{"ledger/a key is booked once", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		h := ledger.Hold{TaskID: "t", UserID: w.asker.ID, Amount: 1000}
		other := ledger.Hold{TaskID: "u", UserID: w.asker.ID, Amount: 1000}
		return first(place(ctx, s, h), place(ctx, s, other), wantErr("held twice", place(ctx, s, h), ports.ErrDuplicate),
			capture(ctx, s, h, w.owner.ID, base), wantErr("captured twice", capture(ctx, s, h, w.owner.ID, base), ports.ErrDuplicate),
			wantErr("released after capture", post(ctx, s, h.Release(base), nil), ports.ErrDuplicate), sound(ctx, s, w.asker.ID, w.owner.ID))
	})},
	{"ledger/what does not balance is refused", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		t := ledger.Grant("x", base)
		t.Postings[1].Amount++
		if post(ctx, s, t, nil) == nil {
			return failf("a transfer that is off by 0.01 was booked")
		}
		return sound(ctx, s, w.asker.ID)
	})},
	{"ledger/transactions", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		h := ledger.Hold{TaskID: "t", UserID: w.asker.ID, Amount: 1000, Title: "Work"}
		if err := first(place(ctx, s, h), capture(ctx, s, h, w.owner.ID, base.Add(time.Second))); err != nil {
			return err
		}
		want := []struct {
			typ           ledger.EntryType
			amount, after credits.Amount
		}{
			{ledger.TypeTaskDebit, -1000, 99_000}, {ledger.TypeRelease, 1000, 100_000}, {ledger.TypeHold, -1000, 99_000}, {ledger.TypeInitialGrant, 100_000, 100_000},
		}
		var sum credits.Amount
		for i, x := range want {
			page, total, err := s.Read().Ledger.Transactions(ctx, w.asker.ID, "", ports.Page{Limit: 1, Offset: i})
			if err := first(err, same("total", total, 4), same("page", len(page), 1)); err != nil {
				return err
			}
			e := page[0]
			sum += e.Amount
			if err := first(same("type", e.Type, x.typ), same("amount", e.Amount, x.amount), same("balance after", e.BalanceAfter, x.after), same("user", e.UserID, w.asker.ID)); err != nil {
				return err
			}
			if i == 0 {
				if err := first(same("reference", e.Reference, "t"), same("description", e.Description, "Task: Work"), same("time", e.At, base.Add(time.Second))); err != nil {
					return err
				}
			}
		}
		typed, total, err := s.Read().Ledger.Transactions(ctx, w.owner.ID, ledger.TypeTaskCredit, ports.Page{Limit: 10})
		none, _, err2 := s.Read().Ledger.Transactions(ctx, w.owner.ID, ledger.TypeTaskDebit, ports.Page{Limit: 10})
		return first(err, err2, same("sum", sum, credits.Amount(99_000)), same("of a type", len(typed), 1), same("total of a type", total, 1), same("of another type", len(none), 0))
	})},
	{"ledger/usage by UTC day", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		midnight := base.Truncate(24 * time.Hour).Add(24 * time.Hour)
		for i, at := range []time.Time{midnight.Add(-time.Microsecond), midnight, midnight.Add(time.Hour), midnight.Add(48 * time.Hour)} {
			h := ledger.Hold{TaskID: newID(), UserID: w.asker.ID, Amount: credits.Amount(1000 * (i + 1))}
			if err := first(place(ctx, s, h), capture(ctx, s, h, w.owner.ID, at.In(time.FixedZone("far", 5*3600)))); err != nil {
				return err
			}
		}
		spent, err := s.Read().Ledger.Usage(ctx, w.asker.ID, "2026-03-06")
		later, err2 := s.Read().Ledger.Usage(ctx, w.asker.ID, "2026-03-07")
		earned, err3 := s.Read().Ledger.Usage(ctx, w.owner.ID, "2026-03-07")
		return first(err, err2, err3,
			same("spent", spent, []ledger.Day{{Date: "2026-03-06", Spent: 1000}, {Date: "2026-03-07", Spent: 5000}, {Date: "2026-03-09", Spent: 4000}}),
			same("later", later, spent[1:]),
			same("earned", earned, []ledger.Day{{Date: "2026-03-07", Earned: 4750}, {Date: "2026-03-09", Earned: 3800}}))
	})},
	{"ledger/earned by agent", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		other := agentOf(w.owner.ID)
		if err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Agents.Insert(ctx, other) }); err != nil {
			return err
		}
		for i, a := range []registry.Agent{w.agent, w.agent, other} {
			t, events := taskFor(w.asker, a)
			h := ledger.Hold{TaskID: t.ID, UserID: w.asker.ID, Amount: credits.Amount(1000 * (i + 1))}
			if err := first(s.Update(ctx, insertTask(t, events)), place(ctx, s, h), capture(ctx, s, h, w.owner.ID, base)); err != nil {
				return err
			}
		}
		t, events := taskFor(w.asker, w.agent) // which has brought nothing yet
		open := ledger.Hold{TaskID: t.ID, UserID: w.asker.ID, Amount: 500}
		err := first(s.Update(ctx, insertTask(t, events)), place(ctx, s, open))
		earned, err2 := s.Read().Earnings.EarnedByAgent(ctx, w.owner.ID)
		none, err3 := s.Read().Earnings.EarnedByAgent(ctx, w.asker.ID)
		return first(err, err2, err3, same("earned", earned, map[string]credits.Amount{w.agent.ID: 2850, other.ID: 2850}), same("of one without agents", len(none), 0))
	})},
}
