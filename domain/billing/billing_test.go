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

// What is known of a payment, and what was taken back in the end, does not depend on the order in which it is told, nor on
// how often.
func TestTheOrderOfWhatIsToldDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) billing.Event {
			return billing.Event{
				Kind:      rapid.SampledFrom([]billing.Kind{billing.EventRefunded, billing.EventReturned, billing.EventLost, billing.EventWon}).Draw(t, "kind"),
				DisputeID: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "dispute"), RefundID: rapid.SampledFrom([]string{"d", "e"}).Draw(t, "refund"),
				Amount: billing.Money{Amount: rapid.Int64Range(0, 6000).Draw(t, "amount"), Currency: "usd"},
				At:     time.Unix(rapid.Int64Range(0, 5).Draw(t, "at"), 0),
			}
		}), 1, 8).Draw(t, "events")
		told := slices.Concat(events, events[:rapid.IntRange(0, len(events)).Draw(t, "again")])
		other := rapid.Permutation(told).Draw(t, "other order")
		hear := func(events []billing.Event) (billing.Payment, billing.Purchase) {
			pay := billing.Payment{ID: "p"}
			p := billing.Purchase{Credits: credits.Whole(5_000), Price: billing.Money{Amount: 4000, Currency: "usd"}, Status: billing.Paid}
			for _, e := range events {
				before := pay
				pay = pay.Hear(e)
				p = p.Reverse(before, pay, e.At)
				if p.Reversed < 0 || p.Reversed > p.Credits || p.Reversed != p.Back(pay) {
					t.Fatalf("%s of %s taken back, where it should be %s", p.Reversed, p.Credits, p.Back(pay))
				}
			}
			return pay, p
		}
		one, took := hear(told)
		two, tookToo := hear(other)
		assert.Equal(t, one, two)
		assert.Equal(t, took.Reversed, tookToo.Reversed)
	})
}

func TestWhatComesAgain(t *testing.T) {
	day := func(n int64) time.Time { return time.Unix(n*86_400, 0) }
	refunded := func(sum, on int64) billing.Event {
		return billing.Event{Kind: billing.EventRefunded, Amount: billing.Money{Amount: sum, Currency: "usd"}, At: day(on)}
	}
	returned := func(id string, n, on int64) billing.Event {
		return billing.Event{Kind: billing.EventReturned, RefundID: id, Amount: billing.Money{Amount: n, Currency: "usd"}, At: day(on)}
	}
	dispute := func(kind billing.Kind, n, on int64) billing.Event {
		return billing.Event{Kind: kind, DisputeID: "dp", Amount: billing.Money{Amount: n, Currency: "usd"}, At: day(on)}
	}
	for name, c := range map[string]struct {
		told []billing.Event
		want int64
	}{
		"a refund that failed":                  {[]billing.Event{refunded(1000, 1), returned("re", 1000, 2)}, 0},
		"one of two":                            {[]billing.Event{refunded(300, 1), refunded(700, 2), returned("re", 300, 3)}, 400},
		"and then another":                      {[]billing.Event{refunded(1000, 1), returned("re", 1000, 2), refunded(250, 3)}, 250},
		"told again later":                      {[]billing.Event{refunded(1000, 1), returned("re", 1000, 2), refunded(250, 3), returned("re", 1000, 4)}, 250},
		"at the same moment":                    {[]billing.Event{refunded(1000, 1), returned("re", 1000, 1)}, 0},
		"more than was paid back":               {[]billing.Event{refunded(100, 1), returned("re", 1000, 2)}, 0},
		"a dispute that was won":                {[]billing.Event{dispute(billing.EventWon, 1000, 1)}, 0},
		"a dispute that was won after all":      {[]billing.Event{dispute(billing.EventLost, 1000, 1), dispute(billing.EventWon, 1000, 2)}, 0},
		"and lost after that":                   {[]billing.Event{dispute(billing.EventLost, 1000, 1), dispute(billing.EventWon, 1000, 2), dispute(billing.EventLost, 600, 3)}, 600},
		"a refund stays where a dispute is won": {[]billing.Event{refunded(200, 1), dispute(billing.EventLost, 800, 1), dispute(billing.EventWon, 800, 2)}, 200},
	} {
		pay := billing.Payment{ID: "pi"}
		p := billing.Purchase{Credits: 1000, Price: billing.Money{Amount: 1000, Currency: "usd"}, Status: billing.Paid}
		for _, e := range c.told {
			before := pay
			pay = pay.Hear(e)
			p = p.Reverse(before, pay, e.At)
		}
		assert.Equal(t, credits.Amount(c.want), p.Reversed, name)
	}
	// Of a payment that was forgotten, as after a backup was restored, no more comes again than is told to.
	p := billing.Purchase{Credits: 1000, Price: billing.Money{Amount: 1000, Currency: "usd"}, Status: billing.Paid, Reversed: 700, Reversals: 1}
	none := billing.Payment{ID: "pi"}
	assert.Equal(t, p, p.Reverse(none, none.Hear(dispute(billing.EventWon, 300, 1)), day(1)))
	assert.Equal(t, p, p.Reverse(none, none.Hear(returned("re", 300, 1)), day(1)))
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
		got := p.Back(billing.Payment{Currency: "usd", Refunded: billing.Told{Amount: refunded}, Lost: map[string]billing.Told{"d": {Amount: lost}}})
		if int64(got) != want.Int64() || back == p.Price.Amount && got != p.Credits {
			t.Fatalf("%s of %s, want %s", got, p.Credits, want)
		}
	})
	p := billing.Purchase{Credits: 100, Price: billing.Money{Amount: 10, Currency: "usd"}, Status: billing.Open}
	assert.Zero(t, p.Back(billing.Payment{Currency: "usd", Refunded: billing.Told{Amount: 10}}), "nothing was credited")
	p.Status = billing.Paid
	assert.Zero(t, p.Back(billing.Payment{Currency: "jpy", Refunded: billing.Told{Amount: 10}}), "another currency")
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
