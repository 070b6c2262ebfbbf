package billing_test

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/nexus-protocol/nexus/domain/billing"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
)

func TestPackages(t *testing.T) {
	have := []string{}
	for _, p := range billing.Packages() {
		have = append(have, fmt.Sprint(p.ID, " ", p.Credits, " ", p.Price.Amount, " ", p.Price.Currency))
		got, err := billing.PackageByID(p.ID)
		require.NoError(t, err)
		assert.Equal(t, p, got)
	}
	assert.Equal(t, []string{"starter 1000 1000 usd", "pro 5000 4000 usd", "enterprise 25000 15000 usd"}, have)
	for _, id := range []string{"", "Starter", "starter ", "mega"} {
		_, err := billing.PackageByID(id)
		assert.True(t, fault.Has(err, fault.CodeValidation), id)
	}
}

// What is known of a payment does not depend on the order in which it is told, nor on how often.
func TestTheOrderOfWhatIsToldDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) billing.Event {
			e := billing.Event{Kind: billing.EventRefunded, Amount: billing.Money{Amount: rapid.Int64Range(0, 6000).Draw(t, "amount"), Currency: "usd"}}
			if rapid.Bool().Draw(t, "lost") {
				e.Kind, e.DisputeID = billing.EventLost, rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "dispute")
			}
			return e
		}), 1, 8).Draw(t, "events")
		told := slices.Concat(events, events[:rapid.IntRange(0, len(events)).Draw(t, "again")])
		other := rapid.Permutation(told).Draw(t, "other order")
		p := billing.Purchase{Credits: credits.Whole(5_000), Price: billing.Money{Amount: 4000, Currency: "usd"}, Status: billing.Paid}
		one, two := billing.Payment{ID: "p"}, billing.Payment{ID: "p"}
		before := credits.Amount(0)
		for _, e := range told {
			one = one.Hear(e)
			now := p.Back(one)
			if now < before || now > p.Credits {
				t.Fatalf("after %s it is %s", before, now)
			}
			before = now
		}
		for _, e := range other {
			two = two.Hear(e)
		}
		assert.Equal(t, one, two)
		assert.Equal(t, p.Back(one), p.Back(two))
	})
}

// What goes back of the credits is the share of the money that went back, rounded half up.
func TestTheShareThatGoesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := billing.Purchase{
			Credits: credits.Amount(rapid.Int64Range(1, 1e15).Draw(t, "credits")), Status: billing.Paid,
			Price: billing.Money{Amount: rapid.Int64Range(1, 1e6).Draw(t, "price"), Currency: "usd"},
		}
		refunded := rapid.Int64Range(0, 2*p.Price.Amount).Draw(t, "refunded")
		lost := rapid.Int64Range(0, p.Price.Amount).Draw(t, "lost")
		back := min(refunded+lost, p.Price.Amount)
		want := new(big.Int).Mul(big.NewInt(2*back), big.NewInt(int64(p.Credits)))
		want.Add(want, big.NewInt(p.Price.Amount)).Div(want, big.NewInt(2*p.Price.Amount))
		got := p.Back(billing.Payment{Currency: "usd", Refunded: refunded, Lost: map[string]int64{"d": lost}})
		if int64(got) != want.Int64() || back == p.Price.Amount && got != p.Credits {
			t.Fatalf("%s of %s, want %s", got, p.Credits, want)
		}
	})
	p := billing.Purchase{Credits: 100, Price: billing.Money{Amount: 10, Currency: "usd"}, Status: billing.Open}
	assert.Zero(t, p.Back(billing.Payment{Currency: "usd", Refunded: 10}), "nothing was credited")
	p.Status = billing.Paid
	assert.Zero(t, p.Back(billing.Payment{Currency: "jpy", Refunded: 10}), "another currency")
	assert.Zero(t, p.Back(billing.Payment{}))
}

func TestSettle(t *testing.T) {
	at := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	pack := billing.Packages()[0]
	begin := func() billing.Purchase {
		return billing.Start("purchase", "user", pack, "stripe", at).Opened(billing.Checkout{SessionID: "cs"}, at)
	}
	e := func(kind billing.Kind) billing.Event {
		return billing.Event{ID: "e", Provider: "stripe", Kind: kind, SessionID: "cs", PaymentID: "pi", UserID: "user", PackageID: "starter", Amount: pack.Price}
	}
	for name, c := range map[string]struct {
		told   []billing.Kind
		want   billing.Status
		credit int
	}{
		"paid":                       {[]billing.Kind{billing.EventPaid}, billing.Paid, 1},
		"paid twice":                 {[]billing.Kind{billing.EventPaid, billing.EventPaid}, billing.Paid, 1},
		"later":                      {[]billing.Kind{billing.EventWaiting, billing.EventPaid}, billing.Paid, 1},
		"later, told the wrong way":  {[]billing.Kind{billing.EventPaid, billing.EventWaiting}, billing.Paid, 1},
		"failed":                     {[]billing.Kind{billing.EventWaiting, billing.EventFailed}, billing.Failed, 0},
		"failed, told the wrong way": {[]billing.Kind{billing.EventFailed, billing.EventWaiting}, billing.Failed, 0},
		"expired":                    {[]billing.Kind{billing.EventExpired}, billing.Expired, 0},
		"expired after it was paid":  {[]billing.Kind{billing.EventPaid, billing.EventExpired, billing.EventFailed}, billing.Paid, 1},
		"paid after all":             {[]billing.Kind{billing.EventFailed, billing.EventExpired, billing.EventPaid}, billing.Paid, 1},
	} {
		p, credited := begin(), 0
		for _, kind := range c.told {
			next, credit := p.Settle(e(kind), at)
			p = next
			if credit {
				credited++
			}
		}
		assert.Equal(t, c.want, p.Status, name)
		assert.Equal(t, c.credit, credited, name)
	}
	wrong := e(billing.EventPaid)
	wrong.Amount.Amount++
	p, credit := begin().Settle(wrong, at)
	assert.Equal(t, []any{billing.Refused, false}, []any{p.Status, credit})
	assert.NotEmpty(t, p.Note)
	other := e(billing.EventPaid)
	other.SessionID = "another"
	p, credit = begin().Settle(other, at)
	assert.Equal(t, []any{billing.Open, false}, []any{p.Status, credit})
}

func TestGrantsAreBounded(t *testing.T) {
	good := billing.Grant{ID: "g", UserID: "u", ByID: "a", Credits: billing.MaxGrant, Reason: strings.Repeat("é", billing.MaxReason)}
	require.NoError(t, good.Check())
	for _, change := range []func(*billing.Grant){
		func(g *billing.Grant) { g.Credits++ }, func(g *billing.Grant) { g.Credits = 0 }, func(g *billing.Grant) { g.Credits = -1 },
		func(g *billing.Grant) { g.Reason = " \n" }, func(g *billing.Grant) { g.Reason += "x" }, func(g *billing.Grant) { g.UserID = "" },
	} {
		g := good
		change(&g)
		require.True(t, fault.Has(g.Check(), fault.CodeValidation))
	}
}
