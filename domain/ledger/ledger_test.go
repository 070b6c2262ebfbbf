package ledger_test

import (
	"fmt"
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
				balance[d.UserID] = balance[d.UserID].Plus(d)
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
			"settle": func(t *rapid.T) {
				if len(open) == 0 {
					t.Skip("nothing is held")
				}
				h := open[0]
				open = open[1:]
				if rapid.Bool().Draw(t, "paid") {
					book(h.Capture(rapid.SampledFrom(users).Draw(t, "owner"), time.Time{}))
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

func TestValidateRefusesWhatDoesNotBalance(t *testing.T) {
	tr := ledger.Grant("u", time.Time{}).Stamp(ids())
	require.NoError(t, tr.Validate())
	tr.Postings[0].Amount++
	require.True(t, fault.Has(tr.Validate(), fault.CodeInternal))
	require.Error(t, ledger.Grant("u", time.Time{}).Validate(), "not stamped")
}

func TestRunningBalanceOfEntries(t *testing.T) {
	tr, err := ledger.Hold{TaskID: "t", UserID: "a", Amount: 1000}.Capture("b", time.Time{})
	require.NoError(t, err)
	entries := tr.Stamp(ids()).Entries(map[string]credits.Amount{"a": 500, "b": 950})
	require.Equal(t, []credits.Amount{0, 1500, 500, 950, 0}, []credits.Amount{
		entries[0].BalanceAfter, entries[1].BalanceAfter, entries[2].BalanceAfter, entries[3].BalanceAfter, entries[4].BalanceAfter,
	})
}
