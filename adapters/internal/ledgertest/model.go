// Package ledgertest tries the ledger of a store harder than its conformance suite does: any sequence of operations against
// a model, many writers at once against the sum of what they were told, and the histories of one account against what one
// account can do. Checks return errors, so that a test can also prove that they find a bad ledger.
package ledgertest

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/ports"
)

// OpsVariable is the environment variable that says how many operations the long form of the tests tries on each store.
const OpsVariable = "NEXUS_LEDGER_OPS"

// Ops is how many operations are to be tried; short unless the variable says otherwise.
func Ops(short int) int {
	if n, err := strconv.Atoi(os.Getenv(OpsVariable)); err == nil && n > 0 {
		return n
	}
	return short
}

// For is how long writers are to write; the short time unless the long form is asked for.
func For(short time.Duration) time.Duration {
	if os.Getenv(OpsVariable) != "" {
		return 30 * time.Second
	}
	return short
}

var (
	counter atomic.Int64
	process = rand.Text()[:8]
)

// newID makes ids that no other test has and that sort in the order in which they are made.
func newID() string { return fmt.Sprintf("%s-%010d", process, counter.Add(1)) }

func post(ctx context.Context, s ports.Store, t ledger.Transfer, err error) error {
	if err != nil {
		return err
	}
	t = t.Stamp(newID)
	return s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Ledger.Post(ctx, t) })
}

// steps is how many operations a run has.
const steps = 40

// Model has rapid try sequences of operations on the store, ops in all, holds it against the model after each, and audits
// the whole ledger at the end.
func Model(t *testing.T, s ports.Store, ops int) {
	t.Helper()
	checks := flag.Lookup("rapid.checks")
	old := checks.Value.String()
	if err := checks.Value.Set(strconv.Itoa(max(1, ops/steps))); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = checks.Value.Set(old) }()
	rapid.Check(t, func(r *rapid.T) {
		if err := run(t.Context(), s, func(n int, what string) int { return rapid.IntRange(0, n-1).Draw(r, what) }); err != nil {
			r.Fatal(err)
		}
		if err := seal(t.Context(), s); err != nil {
			r.Fatal(err)
		}
	})
	if err := Audit(t.Context(), s); err != nil {
		t.Fatal(err)
	}
}

// money is the model of a user: what an accountant would write on a card.
type money struct{ available, held, granted, purchased, earned, spent, reversed int64 }

func (m money) is(b ledger.Balance) bool {
	return m == money{int64(b.Available), int64(b.Held), int64(b.Granted), int64(b.Purchased), int64(b.Earned), int64(b.Spent), int64(b.Reversed)}
}

type modelHold struct {
	ledger.Hold
	payer    int
	captured int64
	owner    int
	settled  bool
	refunded bool
}

type modelIssue struct {
	ledger.Issue
	user     int
	reversed int64
	step     int
}

// run tries one sequence. choose picks a number below n.
func run(ctx context.Context, s ports.Store, choose func(n int, what string) int) error {
	var users [3]string
	var model [3]money
	var fees, issuance, clearing int64 // as far as these users go
	before := map[ledger.Account]credits.Amount{}
	platform := []ledger.Account{ledger.Fees, ledger.Issuance, ledger.Clearing}
	for _, a := range platform {
		sum, err := s.Read().Ledger.AccountTotal(ctx, a)
		if err != nil {
			return err
		}
		before[a] = sum
	}
	for i := range users {
		users[i] = newID()
		if err := post(ctx, s, ledger.Grant(users[i], time.Unix(0, 0)), nil); err != nil {
			return err
		}
		model[i] = money{available: 100_000, granted: 100_000}
		issuance -= 100_000
	}
	var holds []*modelHold
	var issues []*modelIssue
	var done []ledger.Transfer // all that was booked
	amount := func(most int64) int64 {
		if choose(20, "size") == 0 {
			return most // the largest, which is where refusals are
		}
		return 1 + int64(choose(int(most), "amount"))
	}
	pick := func(ok func(*modelHold) bool) *modelHold {
		var some []*modelHold
		for _, h := range holds {
			if ok(h) {
				some = append(some, h)
			}
		}
		if len(some) == 0 {
			return nil
		}
		return some[choose(len(some), "hold")]
	}
	for step := range steps {
		at := time.Unix(int64(step), 0)
		var t ledger.Transfer
		var err error
		want := error(nil) // what the store has to answer
		change := func() {}
		switch op := choose(10, "operation"); op {
		case 0, 1, 2: // hold
			h := &modelHold{Hold: ledger.Hold{TaskID: newID(), Title: "T"}, payer: choose(3, "payer")}
			n := amount(60_000)
			h.UserID, h.Amount = users[h.payer], credits.Amount(n)
			t, err = h.Place(at)
			if model[h.payer].available < n {
				want = errRefused
			}
			change = func() {
				model[h.payer].available -= n
				model[h.payer].held += n
				holds = append(holds, h)
			}
		case 3, 4, 5: // capture, in full or in part
			h := pick(func(h *modelHold) bool { return !h.settled })
			if h == nil {
				continue
			}
			price, owner := int64(h.Amount), choose(3, "owner")
			if choose(2, "part") == 0 {
				price = 1 + int64(choose(int(h.Amount), "price"))
			}
			t, err = h.CapturePart(credits.Amount(price), users[owner], at)
			change = func() {
				fee := (price*5 + 50) / 100 // half up
				p := &model[h.payer]
				p.held -= int64(h.Amount)
				p.available += int64(h.Amount) - price
				p.spent += price
				model[owner].available += price - fee
				model[owner].earned += price - fee
				fees += fee
				h.settled, h.captured, h.owner = true, price, owner
			}
		case 6: // release
			h := pick(func(h *modelHold) bool { return !h.settled })
			if h == nil {
				continue
			}
			t = h.Release(at)
			change = func() {
				model[h.payer].held -= int64(h.Amount)
				model[h.payer].available += int64(h.Amount)
				h.settled = true
			}
		case 7: // settle again, refund, or repeat something
			h := pick(func(h *modelHold) bool { return h.settled })
			switch kind := choose(3, "again"); {
			case kind == 0 && h != nil:
				want = ports.ErrDuplicate
				if t = h.Release(at); choose(2, "capture") == 0 {
					t, err = h.Capture(users[h.payer], at)
				}
			case kind == 1 && h != nil && h.captured > 0 && !h.refunded:
				t, err = h.Refund(credits.Amount(h.captured), users[h.owner], at)
				change = func() {
					fee := (h.captured*5 + 50) / 100
					model[h.payer].available += h.captured
					model[h.payer].spent -= h.captured
					model[h.owner].available -= h.captured - fee
					model[h.owner].reversed += h.captured - fee
					fees -= fee
					h.refunded = true
				}
			case len(done) > 0:
				want = ports.ErrDuplicate
				t = done[choose(len(done), "repeated")]
			default:
				continue
			}
		case 8: // buy, or be given
			i := &modelIssue{Issue: ledger.Issue{ID: newID(), Given: choose(3, "given") == 0}, user: choose(3, "buyer")}
			n := amount(50_000)
			i.UserID, i.Amount = users[i.user], credits.Amount(n)
			t, err = i.Credit(at)
			change = func() {
				m := &model[i.user]
				m.available += n
				if i.Given {
					m.granted += n
					issuance -= n
				} else {
					m.purchased += n
					clearing -= n
				}
				issues = append(issues, i)
			}
		default: // take back, or give back
			if len(issues) == 0 {
				continue
			}
			i := issues[choose(len(issues), "purchase")]
			now := int64(choose(int(i.Amount)+1, "reversed in all"))
			if now == i.reversed {
				continue
			}
			t, err = i.Reverse(credits.Amount(i.reversed), credits.Amount(now), i.step+1, at)
			change = func() {
				d := now - i.reversed
				model[i.user].available -= d
				model[i.user].reversed += d
				if i.Given {
					issuance += d
				} else {
					clearing += d
				}
				i.reversed = now
				i.step++
			}
		}
		if err != nil {
			return fmt.Errorf("make a transfer: %w", err)
		}
		switch err := post(ctx, s, t, nil); {
		case errors.Is(want, errRefused) && fault.Has(err, fault.CodeInsufficientCredits), want != nil && errors.Is(err, want):
		case want != nil || err != nil:
			return fmt.Errorf("post %s: got %w, want %w", t.Key, orNothing(err), orNothing(want))
		default:
			change()
			done = append(done, t)
		}
		for i, id := range users {
			b, err := s.Read().Ledger.Balance(ctx, id)
			if err != nil {
				return err
			}
			if !model[i].is(b) || !b.Consistent() {
				return fmt.Errorf("after %s: %+v is kept, and the model says %+v", t.Key, b, model[i])
			}
		}
	}
	for i, want := range []int64{fees, issuance, clearing} {
		a := platform[i]
		sum, err := s.Read().Ledger.AccountTotal(ctx, a)
		if err != nil {
			return err
		}
		if int64(sum-before[a]) != want {
			return fmt.Errorf("%s: %s came in, and the model says %d", a, sum-before[a], want)
		}
	}
	for i, id := range users { // the statement adds up to the balance
		all, total, err := s.Read().Ledger.Transactions(ctx, id, "", ports.Page{Limit: 10 * steps})
		if err != nil {
			return err
		}
		var sum credits.Amount
		for _, e := range all {
			sum += e.Amount
		}
		if int64(sum) != model[i].available || len(all) != total || all[0].BalanceAfter != sum {
			return fmt.Errorf("the %d of %d transactions of %s add up to %s, the newest says %s, and the model says %d", len(all), total, id, sum, all[0].BalanceAfter,
				model[i].available)
		}
	}
	return nil
}

var (
	errRefused = errors.New("INSUFFICIENT_CREDITS")
	errNothing = errors.New("no error")
)

func orNothing(err error) error {
	if err == nil {
		return errNothing
	}
	return err
}

// seal seals what is settled.
func seal(ctx context.Context, s ports.Store) error {
	last, err := s.Read().Audit.LastSeal(ctx)
	if err != nil {
		return err
	}
	to, err := s.Read().Audit.Settled(ctx)
	if err != nil {
		return err
	}
	entries, err := s.Read().Audit.Entries(ctx, last.To, to, ledger.SealSize)
	if err != nil || len(entries) == 0 {
		return err
	}
	next := last.Next(entries, time.Unix(0, 0))
	return s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Ledger.Seal(ctx, next) })
}

// Audit works the ledger out again from its entries. What is held is not compared with the tasks, as there are none.
func Audit(ctx context.Context, s ports.Store) error {
	const page = 5_000
	return s.Read().Audit.Snapshot(ctx, func(ctx context.Context, snap ports.LedgerSnapshot) error {
		a := ledger.NewAudit(nil)
		held := map[string]credits.Amount{}
		var seals []ledger.Seal
		for after := int64(0); ; {
			some, err := snap.Seals(ctx, after, page)
			if err != nil {
				return err
			}
			if len(some) == 0 {
				break
			}
			seals = append(seals, some...)
			after = seals[len(seals)-1].N
		}
		sealed := int64(0)
		for after := int64(0); ; {
			entries, err := snap.Entries(ctx, after, page)
			if err != nil {
				return err
			}
			for _, e := range entries {
				for len(seals) > 0 && e.Seq > sealed {
					a.Seal(seals[0])
					sealed, seals = seals[0].To, seals[1:]
				}
				a.Entry(e)
				if _, available, user := e.Account.User(); user && !available {
					held[e.Reference] += e.Amount
				}
				after = e.Seq
			}
			if len(entries) < page {
				break
			}
		}
		for after := ""; ; {
			balances, err := snap.Balances(ctx, after, page)
			if err != nil {
				return err
			}
			for _, b := range balances {
				a.Balance(b)
				after = b.UserID
			}
			if len(balances) < page {
				break
			}
		}
		for id, n := range held {
			if n < 0 {
				return fmt.Errorf("%s are held for %s", n, id)
			}
			a.Open(ledger.Hold{TaskID: id, Amount: n})
		}
		if r := a.Report(); r.Wrong > 0 {
			return fmt.Errorf("the audit found %d things, such as: %s", r.Wrong, r.Findings[0])
		}
		return nil
	})
}
