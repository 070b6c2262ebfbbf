package app_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/billing"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/ports"
)

// provider is one in memory that can be away, and looks at the store while it is asked.
type provider struct {
	*memory.Payments
	ask func(o billing.Order) error
}

func (p *provider) Begin(ctx context.Context, o billing.Order) (billing.Checkout, error) {
	if p.ask != nil {
		if err := p.ask(o); err != nil {
			return billing.Checkout{}, err
		}
	}
	return p.Payments.Begin(ctx, o)
}

func selling(t *testing.T, r *rig) *provider {
	t.Helper()
	p := &provider{Payments: memory.NewPayments(r.clock.now)}
	r.with(func(c *app.Config) { c.Payments, c.Grants = p, p })
	return p
}

func (r *rig) purchases(c identity.Caller) []billing.Purchase {
	r.t.Helper()
	l, err := r.Billing.Purchases(r.t.Context(), c, app.Page{})
	require.NoError(r.t, err)
	return l.Items
}

func TestAPurchaseIsWrittenBeforeTheProviderIsAsked(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		p := selling(t, r)
		c := r.user()
		away := fault.New(fault.Unavailable, fault.CodeUnavailable, "away")
		p.ask = func(o billing.Order) error {
			list := r.purchases(c)
			require.Len(t, list, 1)
			require.Equal(t, []any{o.ID, billing.Started, "memory"}, []any{list[0].ID, list[0].Status, list[0].Provider})
			return away
		}
		once := app.WithOnce(t.Context(), app.Once{Key: "k", Render: func(v any) ([]byte, error) { return []byte(v.(app.Checkout).URL), nil }})
		_, err := r.Billing.Checkout(once, c, "pro")
		require.ErrorIs(t, err, away)

		// What was refused may be tried again; what was done is not done again.
		p.ask = nil
		first, err := r.Billing.Checkout(once, c, "pro")
		require.NoError(t, err)
		require.Equal(t, billing.Open, first.Status)
		p.ask = func(billing.Order) error { t.Error("asked again"); return nil }
		_, err = r.Billing.Checkout(once, c, "pro")
		var before *app.Replayed
		require.ErrorAs(t, err, &before)
		require.Equal(t, first.URL, string(before.Answer))
		require.Len(t, r.purchases(c), 2)

		_, err = r.Billing.Checkout(t.Context(), identity.Caller{}, "pro")
		require.True(t, fault.Has(err, fault.CodeUnauthorized))
		_, err = r.Billing.Checkout(t.Context(), identity.Caller{UserID: c.UserID, Scopes: identity.Scopes{identity.ScopeBillingRead}}, "pro")
		require.True(t, fault.Has(err, fault.CodeForbidden))
	})
}

// The provider may tell of the payment before it has answered who asked for it.
func TestAPaymentThatOvertakesItsCheckout(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		p := selling(t, r)
		r.work()
		c := r.user()
		fast := &fastProvider{provider: p, r: r, c: c}
		r.Engine.Billing.Payments = fast
		out, err := r.Billing.Checkout(t.Context(), c, "starter")
		require.NoError(t, err)
		require.Equal(t, billing.Paid, out.Status)
		list := r.purchases(c)
		require.Len(t, list, 1)
		require.Equal(t, billing.Paid, list[0].Status)
	})
}

// cheated tells of too little money.
type cheated struct {
	*provider
	by atomic.Int64
}

func (p *cheated) Read(ctx context.Context, d ports.Delivery) (billing.Event, error) {
	e, err := p.provider.Read(ctx, d)
	e.Amount.Amount -= p.by.Load()
	return e, err
}

// Whoever watches over the engine is told what came of payments, once each.
func TestWhatCameOfPaymentsIsObserved(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		p, seen := &cheated{provider: &provider{Payments: memory.NewPayments(r.clock.now)}}, &witness{}
		r.with(func(c *app.Config) { c.Payments, c.Observe = p, seen })
		r.work()
		c := r.user()
		tell := func(make func(session string) (ports.Delivery, error), session string, want ...billing.Outcome) {
			t.Helper()
			d, err := make(session)
			require.NoError(t, err)
			require.NoError(t, r.Billing.Receive(t.Context(), d))
			require.NoError(t, r.Billing.Receive(t.Context(), d), "again")
			require.Eventually(t, func() bool {
				seen.mu.Lock()
				defer seen.mu.Unlock()
				return slices.Equal(seen.heard, want)
			}, 10*time.Second, time.Millisecond)
		}
		buy := func() string {
			out, err := r.Billing.Checkout(t.Context(), c, "starter")
			require.NoError(t, err)
			return out.SessionID
		}
		good := buy()
		tell(p.Pay, good, billing.Credited)
		p.by.Store(1)
		tell(p.Pay, buy(), billing.Credited, billing.Rejected)
		p.by.Store(0)
		tell(func(id string) (ports.Delivery, error) { return p.Refund(id, 100) }, good, billing.Credited, billing.Rejected, billing.Reversed)
		require.Equal(t, credits.Whole(1_900), r.balance(c).Available)
	})
}

type fastProvider struct {
	*provider
	r *rig
	c identity.Caller
}

func (f *fastProvider) Begin(ctx context.Context, o billing.Order) (billing.Checkout, error) {
	c, err := f.provider.Begin(ctx, o)
	if err != nil {
		return c, err
	}
	d, err := f.Pay(c.SessionID)
	if err == nil {
		err = f.r.Billing.Receive(ctx, d)
	}
	require.Eventually(f.r.t, func() bool {
		b, err := f.r.Billing.Balance(ctx, f.c)
		return err == nil && b.Available == credits.Whole(2_000)
	}, 10*time.Second, time.Millisecond)
	return c, err
}

func TestNobodyIsGivenCreditsByAnyoneButAnAdmin(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		admin, user := r.user(), r.user() // the first is the admin
		in := app.GrantCredits{UserID: user.UserID, Amount: 950, Reason: " a prize "}
		_, err := r.Billing.Grant(t.Context(), admin, in)
		require.True(t, fault.Has(err, fault.CodePaymentsUnset), "%v", err)
		selling(t, r)
		for _, c := range []identity.Caller{{}, user, {UserID: admin.UserID, Role: identity.RoleAdmin, Scopes: identity.Scopes{identity.ScopeBillingRead}}} {
			_, err = r.Billing.Grant(t.Context(), c, in)
			require.Error(t, err)
			f, _ := fault.As(err)
			require.Contains(t, []fault.Code{fault.CodeForbidden, fault.CodeUnauthorized}, f.Code)
		}
		_, err = r.Billing.Grants(t.Context(), user, "", app.Page{})
		require.True(t, fault.Has(err, fault.CodeForbidden))
		g, err := r.Billing.Grant(t.Context(), admin, in)
		require.NoError(t, err)
		require.Equal(t, "a prize", g.Reason)
		b, err := r.Billing.Balance(t.Context(), user)
		require.NoError(t, err)
		require.Equal(t, ledger.Balance{UserID: user.UserID, Available: 100_950, Granted: 100_950}, b)
		all, err := r.Billing.Grants(t.Context(), admin, "", app.Page{})
		require.NoError(t, err)
		require.Equal(t, []billing.Grant{g}, all.Items)
	})
}

// spend books so many tasks' money, some hundredths each.
func (r *rig) spend(c, owner identity.Caller, tasks int) {
	r.t.Helper()
	post := func(ctx context.Context, tx ports.Tx, tr ledger.Transfer, err error) error {
		if err != nil {
			return err
		}
		return tx.Ledger.Post(ctx, tr.Stamp(memory.NewID))
	}
	require.NoError(r.t, r.store.Update(r.t.Context(), func(ctx context.Context, tx ports.Tx) error {
		for i := range tasks {
			h := ledger.Hold{TaskID: memory.NewID(), UserID: c.UserID, Amount: credits.Amount(1 + i%3)}
			tr, err := h.Place(r.Now())
			if err := post(ctx, tx, tr, err); err != nil {
				return err
			}
			tr, err = h.Capture(owner.UserID, r.Now())
			if err := post(ctx, tx, tr, err); err != nil {
				return err
			}
		}
		return nil
	}))
}

// A report that had much to add up lets it be summed up, and says the same afterwards.
func TestUsageIsSummedUpSoon(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		c, owner := r.user(), r.user()
		r.spend(c, owner, 1_700)
		before, err := r.Billing.Usage(t.Context(), c, "")
		require.NoError(t, err)
		require.Len(t, before.Daily, 30)
		require.Positive(t, before.TotalSpent)
		require.Eventually(t, func() bool {
			n, err := r.store.Read().Usage.Loose(t.Context(), c.UserID, 10_000)
			return err == nil && n == 0
		}, 10*time.Second, time.Millisecond)
		after, err := r.Billing.Usage(t.Context(), c, "")
		require.NoError(t, err)
		require.Equal(t, before, after)
		r.spend(c, owner, 3)
		again, err := r.Billing.Usage(t.Context(), c, "7d")
		require.NoError(t, err)
		require.Equal(t, before.TotalSpent+6, again.TotalSpent)
		require.Len(t, again.Daily, 7)
	})
}

// A statement that is longer than what is read at a time is whole.
func TestALongStatement(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		c, owner := r.user(), r.user()
		const tasks = 700 // three entries each
		r.spend(c, owner, tasks)
		var sum credits.Amount
		seen := map[string]bool{}
		batches := 0
		require.NoError(t, r.Billing.Statement(t.Context(), c, "", func(entries []ledger.Entry) error {
			batches++
			for _, e := range entries {
				assert.False(t, seen[e.ID])
				seen[e.ID] = true
				sum += e.Amount
			}
			return nil
		}))
		b, err := r.Billing.Balance(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, b.Available, sum)
		require.Len(t, seen, 1+3*tasks)
		require.Equal(t, 3, batches)
		require.True(t, fault.Has(r.Billing.Statement(t.Context(), c, "gift", nil), fault.CodeValidation))
	})
}
