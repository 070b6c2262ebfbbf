package ledger_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/ledger"
)

func ids() func() string {
	n := 0
	return func() string { n++; return fmt.Sprintf("id-%06d", n) }
}

func TestCaptureSplitsThePriceInFull(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		price := credits.Amount(rapid.Int64Range(1, 100_000_000).Draw(t, "price"))
		tr, err := ledger.Hold{TaskID: "t", UserID: "a", Amount: price}.Capture("b", time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		tr = tr.Stamp(ids())
		if err := tr.Validate(); err != nil {
			t.Fatal(err)
		}
		var fee, earned credits.Amount
		for _, p := range tr.Postings {
			switch p.Type {
			case ledger.TypePlatformFee:
				fee += p.Amount
			case ledger.TypeTaskCredit:
				earned += p.Amount
			}
		}
		if fee+earned != price || fee != (price*5+50)/100 {
			t.Fatalf("price %d: fee %d, earned %d", price, fee, earned)
		}
	})
}

// Whatever is granted, held, captured and released, every user's identity holds and all accounts together are zero.
func TestBalancesStayConsistent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		newID := ids()
		users := []string{"ann", "bob", "cleo"}
		balance := map[string]ledger.Balance{}
		totals := map[ledger.Account]credits.Amount{}
		book := func(tr ledger.Transfer, err error) {
			if err != nil {
				t.Fatal(err)
			}
			tr = tr.Stamp(newID)
			if err := tr.Validate(); err != nil {
				t.Fatal(err)
			}
			after := map[string]credits.Amount{}
			for _, d := range tr.Deltas() {
				next, err := balance[d.UserID].Apply(d)
				if err != nil {
					t.Fatal(err)
				}
				balance[d.UserID] = next
				after[d.UserID] = balance[d.UserID].Available
			}
			for _, e := range tr.Entries(after) {
				totals[e.Account] += e.Amount
			}
		}
		for _, u := range users {
			balance[u] = ledger.Balance{UserID: u}
			book(ledger.Grant(u, time.Time{}), nil)
		}
		var open []ledger.Hold
		type issue struct {
			ledger.Issue
			reversed credits.Amount
			step     int
		}
		var issues []issue
		t.Repeat(map[string]func(*rapid.T){
			"hold": func(t *rapid.T) {
				h := ledger.Hold{
					TaskID: newID(), UserID: rapid.SampledFrom(users).Draw(t, "payer"),
					Amount: credits.Amount(rapid.Int64Range(1, 5_000).Draw(t, "amount")),
				}
				if balance[h.UserID].Available < h.Amount {
					t.Skip("not enough")
				}
				book(h.Place(time.Time{}))
				open = append(open, h)
			},
			"buy": func(t *rapid.T) {
				i := ledger.Issue{
					ID: newID(), UserID: rapid.SampledFrom(users).Draw(t, "buyer"), Given: rapid.Bool().Draw(t, "given"),
					Amount: credits.Amount(rapid.Int64Range(1, 5_000).Draw(t, "credits")),
				}
				book(i.Credit(time.Time{}))
				issues = append(issues, issue{Issue: i})
			},
			"reverse": func(t *rapid.T) {
				if len(issues) == 0 {
					t.Skip("nothing was bought")
				}
				i := &issues[rapid.IntRange(0, len(issues)-1).Draw(t, "purchase")]
				now := credits.Amount(rapid.Int64Range(0, int64(i.Amount)).Draw(t, "in all"))
				if now == i.reversed {
					t.Skip("no change")
				}
				i.step++
				book(i.Reverse(i.reversed, now, i.step, time.Time{}))
				i.reversed = now
			},
			"settle": func(t *rapid.T) {
				if len(open) == 0 {
					t.Skip("nothing is held")
				}
				h := open[0]
				open = open[1:]
				if rapid.Bool().Draw(t, "paid") {
					owner := rapid.SampledFrom(users).Draw(t, "owner")
					price := credits.Amount(rapid.Int64Range(1, int64(h.Amount)).Draw(t, "price"))
					book(h.CapturePart(price, owner, time.Time{}))
					if rapid.Bool().Draw(t, "refunded") {
						book(h.Refund(price, owner, time.Time{}))
					}
				} else {
					book(h.Release(time.Time{}), nil)
				}
			},
			"": func(t *rapid.T) {
				var sum credits.Amount
				for _, v := range totals {
					sum += v
				}
				if sum != 0 {
					t.Fatalf("all accounts add up to %s", sum)
				}
				for u, b := range balance {
					if !b.Consistent() || totals[ledger.Available(u)] != b.Available || totals[ledger.Held(u)] != b.Held {
						t.Fatalf("%s: %+v, entries say %s and %s", u, b, totals[ledger.Available(u)], totals[ledger.Held(u)])
					}
				}
			},
		})
	})
}

// The fee is rounded half up to a hundredth: 5 % of 0.10 is 0.005, so 0.01.
func TestFee(t *testing.T) {
	for price, want := range map[credits.Amount][2]credits.Amount{
		0: {0, 0}, 1: {0, 1}, 9: {0, 9}, 10: {1, 9}, 11: {1, 10}, 29: {1, 28}, 30: {2, 28}, 50: {3, 47}, 1000: {50, 950}, 1001: {50, 951},
		1010: {51, 959}, 100_000_000: {5_000_000, 95_000_000}, math.MaxInt64: {461168601842738790, 8762203435012037017},
	} {
		fee, earning, err := ledger.Fee(price)
		require.NoError(t, err)
		require.Equal(t, want, [2]credits.Amount{fee, earning}, "of %s", price)
	}
	_, _, err := ledger.Fee(-1)
	require.Error(t, err)
}

// What was bought, spent and then refunded is a debt: nothing can be held until what comes in has paid it.
func TestADebtIsPaidFirst(t *testing.T) {
	newID := ids()
	b := ledger.Balance{UserID: "u"}
	try := func(tr ledger.Transfer, err error) error {
		require.NoError(t, err)
		tr = tr.Stamp(newID)
		require.NoError(t, tr.Validate())
		for _, d := range tr.Deltas() {
			if d.UserID == "u" {
				if b, err = b.Apply(d); err != nil {
					return err
				}
			}
		}
		require.True(t, b.Consistent(), "%+v", b)
		return nil
	}
	bought := ledger.Issue{ID: "cs_1", UserID: "u", Amount: 1000}
	task := ledger.Hold{TaskID: "t", UserID: "u", Amount: 700}
	require.NoError(t, try(bought.Credit(time.Time{})))
	require.NoError(t, try(task.Place(time.Time{})))
	require.NoError(t, try(bought.Reverse(0, 1000, 1, time.Time{})))
	require.Equal(t, ledger.Balance{UserID: "u", Available: -700, Held: 700, Purchased: 1000, Reversed: 1000}, b)
	require.Equal(t, credits.Amount(700), b.Debt())

	err := try(ledger.Hold{TaskID: "t2", UserID: "u", Amount: 1}.Place(time.Time{}))
	require.True(t, fault.Has(err, fault.CodeInsufficientCredits), "%v", err)
	f, _ := fault.As(err)
	require.Equal(t, credits.Amount(700), f.Details["debt"])
	require.NoError(t, try(task.Capture("o", time.Time{})), "what is held can be paid with")
	require.Equal(t, credits.Amount(700), b.Debt())

	require.NoError(t, try(ledger.Issue{ID: "g", UserID: "u", Amount: 600, Given: true}.Credit(time.Time{})))
	require.Equal(t, credits.Amount(100), b.Debt())
	require.Error(t, try(ledger.Hold{TaskID: "t3", UserID: "u", Amount: 1}.Place(time.Time{})))
	require.NoError(t, try(bought.Reverse(1000, 500, 2, time.Time{})), "half of it was given back")
	require.Equal(t, ledger.Balance{UserID: "u", Available: 400, Granted: 600, Purchased: 1000, Spent: 700, Reversed: 500}, b)
	require.NoError(t, try(ledger.Hold{TaskID: "t4", UserID: "u", Amount: 400}.Place(time.Time{})))
}

func TestTransfersThatCannotBe(t *testing.T) {
	bought := ledger.Issue{ID: "cs_1", UserID: "u", Amount: 1000}
	held := ledger.Hold{TaskID: "t", UserID: "u", Amount: 100}
	for name, make := range map[string]func() (ledger.Transfer, error){
		"nothing held":         func() (ledger.Transfer, error) { return ledger.Hold{TaskID: "t", UserID: "u"}.Place(time.Time{}) },
		"less than nothing":    func() (ledger.Transfer, error) { return held.CapturePart(-1, "o", time.Time{}) },
		"more than held":       func() (ledger.Transfer, error) { return held.CapturePart(101, "o", time.Time{}) },
		"nothing captured":     func() (ledger.Transfer, error) { return held.CapturePart(0, "o", time.Time{}) },
		"more refunded":        func() (ledger.Transfer, error) { return held.Refund(101, "o", time.Time{}) },
		"nothing bought":       func() (ledger.Transfer, error) { return ledger.Issue{ID: "i", UserID: "u"}.Credit(time.Time{}) },
		"bought by nobody":     func() (ledger.Transfer, error) { return ledger.Issue{ID: "i", Amount: 1}.Credit(time.Time{}) },
		"no difference":        func() (ledger.Transfer, error) { return bought.Reverse(5, 5, 1, time.Time{}) },
		"more than was bought": func() (ledger.Transfer, error) { return bought.Reverse(0, 1001, 1, time.Time{}) },
		"below nothing":        func() (ledger.Transfer, error) { return bought.Reverse(0, -1, 1, time.Time{}) },
	} {
		_, err := make()
		require.Error(t, err, name)
	}
}

// No sum of amounts wraps round into another sign.
func TestAmountsThatDoNotFit(t *testing.T) {
	of := func(amounts ...credits.Amount) ledger.Transfer {
		tr := ledger.Transfer{Key: "k"}
		for i, n := range amounts {
			tr.Postings = append(tr.Postings, ledger.Posting{Account: ledger.Available(fmt.Sprint("u", i%2)), Type: ledger.TypePurchase, Amount: n})
		}
		return tr.Stamp(ids())
	}
	require.NoError(t, of(math.MaxInt64/2, -math.MaxInt64/2).Validate())
	require.Error(t, of(math.MinInt64, math.MinInt64).Validate(), "which add up to 0 in an int64")
	require.Error(t, of(math.MaxInt64, math.MaxInt64, 2).Validate())
	require.Error(t, of(math.MaxInt64, -math.MaxInt64, 1, math.MinInt64+1, math.MaxInt64-1).Validate())
	require.NoError(t, of(math.MaxInt64, -math.MaxInt64).Validate())

	rich := ledger.Balance{UserID: "u", Available: math.MaxInt64 - 1, Purchased: math.MaxInt64 - 1}
	_, err := rich.Apply(ledger.Balance{UserID: "u", Available: 2, Purchased: 2})
	require.ErrorIs(t, err, credits.ErrRange)
}

func TestValidateRefusesWhatDoesNotBalance(t *testing.T) {
	tr := ledger.Grant("u", time.Time{}).Stamp(ids())
	require.NoError(t, tr.Validate())
	tr.Postings[0].Amount++
	require.True(t, fault.Has(tr.Validate(), fault.CodeInternal))
	require.Error(t, ledger.Grant("u", time.Time{}).Validate(), "not stamped")
	tr = ledger.Grant("u", time.Time{}).Stamp(ids())
	tr.Postings[0].Account = "platform:pocket"
	require.Error(t, tr.Validate(), "no such account")
}

func TestRunningBalanceOfEntries(t *testing.T) {
	tr, err := ledger.Hold{TaskID: "t", UserID: "a", Amount: 1000}.Capture("b", time.Time{})
	require.NoError(t, err)
	entries := tr.Stamp(ids()).Entries(map[string]credits.Amount{"a": 500, "b": 950})
	require.Equal(t, []credits.Amount{0, 1500, 500, 950, 0}, []credits.Amount{
		entries[0].BalanceAfter, entries[1].BalanceAfter, entries[2].BalanceAfter, entries[3].BalanceAfter, entries[4].BalanceAfter,
	})
}
