package portstest

import (
	"context"
	"math"
	"strings"
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
	r, err := audit(ctx, s)
	if err != nil {
		return err
	}
	for _, f := range r.Findings {
		if !strings.HasPrefix(f.About, "task ") { // the checks hold for tasks that there are not
			return failf("the audit found: %s", f)
		}
	}
	return nil
}

// audit holds the ledger against itself.
func audit(ctx context.Context, s ports.Store) (r ledger.Report, err error) {
	const page = 3 // so that there are several
	err = s.Read().Audit.Snapshot(ctx, func(ctx context.Context, snap ports.LedgerSnapshot) error {
		a := ledger.NewAudit(nil)
		seals, err := pages(ctx, snap.Seals, func(s ledger.Seal) int64 { return s.N }, page)
		entries, err2 := pages(ctx, snap.Entries, func(e ledger.Booked) int64 { return e.Seq }, page)
		balances, err3 := pages(ctx, snap.Balances, func(b ledger.Balance) string { return b.UserID }, page)
		holds, err4 := pages(ctx, snap.OpenHolds, func(h ledger.Hold) string { return h.TaskID }, page)
		empty, err5 := snap.EmptyTransfers(ctx, page)
		if err := first(err, err2, err3, err4, err5); err != nil {
			return err
		}
		for _, s := range seals {
			a.Seal(s)
			for len(entries) > 0 && entries[0].Seq <= s.To {
				a.Entry(entries[0])
				entries = entries[1:]
			}
		}
		for _, e := range entries {
			a.Entry(e)
		}
		for _, b := range balances {
			a.Balance(b)
		}
		for _, h := range holds {
			a.Open(h)
		}
		for _, id := range empty {
			a.Empty(id)
		}
		r = a.Report()
		return nil
	})
	return r, err
}

// pages reads all there is, few at a time.
func pages[K, V any](ctx context.Context, read func(context.Context, K, int) ([]V, error), key func(V) K, limit int) (all []V, err error) {
	for after := *new(K); ; after = key(all[len(all)-1]) {
		some, err := read(ctx, after, limit)
		all = append(all, some...)
		if err != nil || len(some) > limit {
			return nil, first(err, failf("%d rows where %d were asked for", len(some), limit))
		}
		if len(some) < limit {
			return all, nil
		}
	}
}

// sealAll seals all there is now, few entries at a time. That may have to wait for others who write.
func sealAll(ctx context.Context, s ports.Store, limit int) error {
	newest := int64(0)
	for {
		last, err := s.Read().Audit.LastSeal(ctx)
		waiting, err2 := s.Read().Audit.Entries(ctx, last.To, math.MaxInt64, 1_000)
		to, err3 := s.Read().Audit.Settled(ctx)
		if err := first(err, err2, err3); err != nil {
			return err
		}
		if n := len(waiting); n > 0 && newest == 0 {
			newest = waiting[n-1].Seq
		}
		if last.To >= newest {
			return nil
		}
		entries, err := s.Read().Audit.Entries(ctx, last.To, to, limit)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			continue
		}
		next := last.Next(entries, base)
		if err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Ledger.Seal(ctx, next) }); err != nil {
			return err
		}
	}
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
	{"ledger/a part is captured, and refunded", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		h := ledger.Hold{TaskID: "t", UserID: w.asker.ID, Amount: 1000}
		part, err := h.CapturePart(610, w.owner.ID, base)
		back, err2 := h.Refund(610, w.owner.ID, base)
		if err := first(err, err2, place(ctx, s, h), post(ctx, s, part, nil)); err != nil {
			return err
		}
		b, err := s.Read().Ledger.Balance(ctx, w.asker.ID)
		if err := first(err, same("after the part", b, ledger.Balance{UserID: w.asker.ID, Available: 99_390, Granted: 100_000, Spent: 610}),
			post(ctx, s, back, nil), wantErr("refunded twice", post(ctx, s, back, nil), ports.ErrDuplicate)); err != nil {
			return err
		}
		b, err = s.Read().Ledger.Balance(ctx, w.asker.ID)
		o, err2 := s.Read().Ledger.Balance(ctx, w.owner.ID)
		fees, err3 := s.Read().Ledger.AccountTotal(ctx, ledger.Fees)
		return first(err, err2, err3, same("the requester's", b, ledger.Balance{UserID: w.asker.ID, Available: 100_000, Granted: 100_000}),
			same("the owner's", o, ledger.Balance{UserID: w.owner.ID, Earned: 579, Reversed: 579}), same("fees", fees, credits.Amount(0)),
			sound(ctx, s, w.asker.ID, w.owner.ID))
	})},
	{"ledger/a debt is paid first", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		bought := ledger.Issue{ID: "cs_1", UserID: w.owner.ID, Amount: 1000, Description: "1000"}
		gift := ledger.Issue{ID: "g", UserID: w.owner.ID, Amount: 300, Given: true, Description: "Gift"}
		issue := func(i ledger.Issue) error {
			t, err := i.Credit(base)
			return post(ctx, s, t, err)
		}
		reverse := func(before, now credits.Amount, step int) error {
			t, err := bought.Reverse(before, now, step, base)
			return post(ctx, s, t, err)
		}
		spent := ledger.Hold{TaskID: "t", UserID: w.owner.ID, Amount: 800}
		more := ledger.Hold{TaskID: "u", UserID: w.owner.ID, Amount: 1}
		if err := first(issue(bought), wantErr("credited twice", issue(bought), ports.ErrDuplicate), place(ctx, s, spent), reverse(0, 600, 1), reverse(600, 1000, 2),
			wantErr("a step twice", reverse(600, 1000, 2), ports.ErrDuplicate)); err != nil {
			return err
		}
		err := place(ctx, s, more)
		f, _ := fault.As(err)
		if err := wantCode("held by a debtor", err, fault.CodeInsufficientCredits); err != nil {
			return err
		}
		b, err := s.Read().Ledger.Balance(ctx, w.owner.ID)
		if err := first(err, same("the debt that is told", f.Details["debt"], any(credits.Amount(800))),
			same("in debt", b, ledger.Balance{UserID: w.owner.ID, Available: -800, Held: 800, Purchased: 1000, Reversed: 1000}), sound(ctx, s, w.owner.ID),
			capture(ctx, s, spent, w.asker.ID, base), issue(gift), wantCode("held by a debtor who paid a part", place(ctx, s, more), fault.CodeInsufficientCredits),
			reverse(1000, 499, 3), place(ctx, s, more)); err != nil {
			return err
		}
		b, err = s.Read().Ledger.Balance(ctx, w.owner.ID)
		cleared, err2 := s.Read().Ledger.AccountTotal(ctx, ledger.Clearing)
		page, _, err3 := s.Read().Ledger.Transactions(ctx, w.owner.ID, ledger.TypeReversal, ports.Page{Limit: 10})
		if err := first(err, err2, err3, same("reversals", len(page), 3)); err != nil {
			return err
		}
		return first(same("out of debt", b, ledger.Balance{UserID: w.owner.ID, Held: 1, Granted: 300, Purchased: 1000, Spent: 800, Reversed: 499}),
			same("cleared", cleared, credits.Amount(-501)), same("balance after the first reversal", page[2].BalanceAfter, credits.Amount(-400)), sound(ctx, s, w.owner.ID))
	})},
	{"ledger/an overflow is refused", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		huge, err := ledger.Issue{ID: "h", UserID: w.asker.ID, Amount: math.MaxInt64}.Credit(base)
		if post(ctx, s, huge, err) == nil {
			return failf("more than an int64 was booked")
		}
		return sound(ctx, s, w.asker.ID)
	})},
	{"ledger/seals", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		h := ledger.Hold{TaskID: "t", UserID: w.asker.ID, Amount: 1000, Title: "Work"}
		none, err := s.Read().Audit.LastSeal(ctx)
		if err := first(err, same("before the first", none, ledger.Seal{}), place(ctx, s, h), sealAll(ctx, s, 3), sound(ctx, s, w.asker.ID)); err != nil {
			return err
		}
		last, err := s.Read().Audit.LastSeal(ctx)
		last.Marks = []byte("x")
		err2 := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Ledger.Seal(ctx, last) })
		if err := first(err, wantErr("the same number again", err2, ports.ErrDuplicate), capture(ctx, s, h, w.owner.ID, base.Add(time.Second)), sound(ctx, s, w.asker.ID),
			same("totals", last.Totals, ledger.Totals{Available: 99_000, Held: 1000, Issuance: -100_000})); err != nil {
			return err
		}
		fees, err := s.Read().Ledger.AccountTotal(ctx, ledger.Fees) // behind the last seal
		issued, err2 := s.Read().Ledger.AccountTotal(ctx, ledger.Issuance)
		if err := first(err, err2, same("fees", fees, credits.Amount(50)), same("issued", issued, -ledger.InitialGrant), sealAll(ctx, s, 100)); err != nil {
			return err
		}
		r, err := audit(ctx, s)
		fees, err2 = s.Read().Ledger.AccountTotal(ctx, ledger.Fees)
		nothing, err3 := s.Read().Audit.Entries(ctx, 0, 0, 10)
		return first(err, err2, err3, same("findings", r.Wrong, 0), same("entries, and those that are sealed", [2]int{r.Entries, r.Sealed}, [2]int{9, 9}), same("seals", r.Seals, 3),
			same("sealed fees", fees, credits.Amount(50)), same("up to nothing", len(nothing), 0),
			same("totals", r.Totals, ledger.Totals{Available: 99_950, Fees: 50, Issuance: -100_000}))
	})},
	{"ledger/a snapshot is of one moment", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		var before, after []ledger.Booked
		var balances []ledger.Balance
		err := s.Read().Audit.Snapshot(ctx, func(ctx context.Context, snap ports.LedgerSnapshot) (err error) {
			before, err = snap.Entries(ctx, 0, 100)
			gift, err2 := ledger.Issue{ID: newID(), UserID: w.asker.ID, Amount: 1, Given: true}.Credit(base)
			if err := first(err, post(ctx, s, gift, err2)); err != nil {
				return err
			}
			balances, err = snap.Balances(ctx, "", 100)
			if err != nil {
				return err
			}
			after, err = snap.Entries(ctx, 0, 100)
			return err
		})
		if err := first(err, same("entries", len(before), 2), same("entries later", after, before), same("balances", len(balances), 1)); err != nil {
			return err
		}
		b, err := s.Read().Ledger.Balance(ctx, w.asker.ID)
		return first(err, same("balance", balances[0].Available, ledger.InitialGrant), same("balance outside", b.Available, ledger.InitialGrant+1), sound(ctx, s, w.asker.ID))
	})},
	{"ledger/what is held for open tasks", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		t, events := taskFor(w.asker, w.agent)
		h := ledger.Hold{TaskID: t.ID, UserID: w.asker.ID, Amount: t.Price}
		if err := first(s.Update(ctx, insertTask(t, events)), place(ctx, s, h)); err != nil {
			return err
		}
		r, err := audit(ctx, s)
		if err := first(err, same("findings", r.Findings, []ledger.Finding(nil)), same("holds", r.Holds, 1), post(ctx, s, h.Release(base), nil)); err != nil {
			return err
		}
		r, err = audit(ctx, s)
		if err := first(err, same("findings of an open task for which nothing is held", len(r.Findings), 1)); err != nil {
			return err
		}
		return same("what it is about", r.Findings[0].About, "task "+t.ID)
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
