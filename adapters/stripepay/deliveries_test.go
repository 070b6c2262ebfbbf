package stripepay_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/httpapi"
	"github.com/nexus-protocol/nexus/adapters/inprocess"
	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/adapters/postgres"
	"github.com/nexus-protocol/nexus/adapters/postgres/postgrestest"
	"github.com/nexus-protocol/nexus/adapters/sqlite"
	"github.com/nexus-protocol/nexus/adapters/sqlite/sqlitetest"
	"github.com/nexus-protocol/nexus/adapters/stripepay"
	"github.com/nexus-protocol/nexus/adapters/stripepay/stripetest"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/billing"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/ports"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }

// stores are those of the engines under test.
var stores = map[string]func(t testing.TB) ports.Store{
	"memory": func(testing.TB) ports.Store { return memory.New() },
	"sqlite": func(t testing.TB) ports.Store {
		path := filepath.Join(t.TempDir(), "nexus.db")
		sqlitetest.Fill(t, path)
		s, err := sqlite.Open(t.Context(), path)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		return s
	},
	"postgres": func(t testing.TB) ports.Store {
		url := postgrestest.URL(t)
		require.NoError(t, postgres.Migrate(t.Context(), url))
		s, err := postgres.Open(t.Context(), url)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		return s
	},
}

// shop is an engine that sells by the fake, and its webhook.
type shop struct {
	*app.Engine
	t       testing.TB
	store   ports.Store
	stripe  *stripetest.Stripe
	handler http.Handler
	log     *safeBuffer
}

// safeBuffer is what was logged.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func openShop(t testing.TB, store ports.Store) *shop {
	t.Helper()
	fake, payments := open(t)
	s := &shop{t: t, store: store, stripe: fake, log: &safeBuffer{}}
	logger := slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	s.Engine, err = app.New(app.Config{
		Store: store, Queue: inprocess.New(store, time.Now, inprocess.Options{}), Agents: memory.NewAgents(), Guard: memory.OpenGuard{}, Schema: memory.Schemas{},
		Hasher: memory.NewHasher(), Limits: memory.NewLimiter(time.Now), Now: time.Now, NewID: func() string { return uuid.Must(uuid.NewV7()).String() }, Random: rand.Reader,
		Payments: payments, Logger: logger,
	})
	require.NoError(t, err)
	s.handler = httpapi.New(s.Engine, httpapi.Options{Logger: logger})
	return s
}

// work runs the worker until the test ends.
func (s *shop) work() {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Worker.Run(ctx, time.Second) }()
	s.t.Cleanup(func() {
		stop()
		assert.NoError(s.t, <-done)
	})
}

func (s *shop) user(i int) identity.Caller {
	s.t.Helper()
	u, err := s.Identity.CreateUser(s.t.Context(), app.Credentials{Email: fmt.Sprintf("u%d@example.com", i), Password: "correct horse battery"}, identity.RoleUser)
	require.NoError(s.t, err)
	return identity.SessionCaller(u, "")
}

// deliver sends an event to the webhook and returns the status.
func (s *shop) deliver(e stripetest.Event) int {
	r := httptest.NewRequest(http.MethodPost, "/api/v1/billing/webhook", bytes.NewReader(e.Body))
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	r.Header.Set("Stripe-Signature", stripetest.Sign(e.Body, stripetest.WebhookSecret, time.Now()))
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w.Code
}

// outcome is what came of an event; "" while nothing did.
func (s *shop) outcome(e stripetest.Event) (outcome string) {
	s.t.Helper()
	id := strings.SplitN(string(e.Body), `"id":"evt_`, 2)[1]
	key := "stripe:evt_" + id[:strings.IndexByte(id, '"')]
	err := s.store.Update(s.t.Context(), func(ctx context.Context, tx ports.Tx) error {
		kept, err := tx.Payments.Event(ctx, key)
		outcome = kept.Outcome
		return err
	})
	if fault.Has(err, fault.CodeNotFound) {
		return "not kept"
	}
	require.NoError(s.t, err)
	return outcome
}

func (s *shop) balance(c identity.Caller) ledger.Balance {
	s.t.Helper()
	b, err := s.Billing.Balance(s.t.Context(), c)
	require.NoError(s.t, err)
	return b
}

func (s *shop) buy(c identity.Caller, pack string) string {
	s.t.Helper()
	out, err := s.Billing.Checkout(s.t.Context(), c, pack)
	require.NoError(s.t, err)
	return out.SessionID
}

// settled waits until something came of the event.
func (s *shop) settled(e stripetest.Event) string {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return s.outcome(e) != "" }, 20*time.Second, 5*time.Millisecond)
	return s.outcome(e)
}

// TestDeliveries delivers what happens to many sessions in any order, several times, at once, and looks whether the
// balances are those of the sessions that were paid. NEXUS_STRIPE_EVENTS=10000 is the long form.
func TestDeliveries(t *testing.T) {
	wanted := 500
	if text := os.Getenv("NEXUS_STRIPE_EVENTS"); text != "" {
		n, err := strconv.Atoi(text)
		require.NoError(t, err)
		wanted = n
	}
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			deliveries(t, openShop(t, open(t)), wanted, mathrand.New(mathrand.NewPCG(seed, 1)))
		})
	}
}

func deliveries(t *testing.T, s *shop, wanted int, r *mathrand.Rand) {
	const users = 12
	callers := make([]identity.Caller, users)
	expect := make([]ledger.Balance, users)
	for i := range callers {
		callers[i] = s.user(i)
		expect[i] = ledger.Balance{UserID: callers[i].UserID, Available: ledger.InitialGrant, Granted: ledger.InitialGrant}
	}
	var all, events []stripetest.Event
	for len(all) < wanted {
		i, pack := r.IntN(users), billing.Packages()[r.IntN(3)]
		var id string
		if r.IntN(8) == 0 { // Stripe knows a session whose purchase was lost
			payments := openOn(t, s.stripe)
			c, err := payments.Begin(t.Context(), billing.Order{ID: uuid.NewString(), UserID: callers[i].UserID, Package: pack})
			require.NoError(t, err)
			id = c.SessionID
		} else {
			id = s.buy(callers[i], pack.ID)
		}
		var its []stripetest.Event
		paid, back := false, int64(0)
		switch r.IntN(8) {
		case 0:
			its = append(its, s.stripe.Expire(id))
		case 1:
			its = s.stripe.Fail(id)
		case 2, 3:
			its, paid = s.stripe.Pay(id, true), true
		default:
			its, paid = s.stripe.Pay(id, false), true
		}
		if paid {
			for left := pack.Price.Amount; r.IntN(3) == 0 && left > 0; {
				n := 1 + r.Int64N(left)
				its = append(its, s.stripe.Refund(id, n))
				if r.IntN(3) == 0 { // and it does not come about
					its = append(its, s.stripe.Return(id, []string{"failed", "canceled"}[r.IntN(2)], n)...)
					continue
				}
				back, left = back+n, left-n
			}
			n := 1 + r.Int64N(pack.Price.Amount)
			switch r.IntN(8) {
			case 0:
				its = append(its, s.stripe.Dispute(id, n, "lost")...)
				back = min(back+n, pack.Price.Amount)
			case 1:
				its = append(its, s.stripe.Dispute(id, pack.Price.Amount, "won")...)
			case 2:
				its = append(its, s.stripe.Dispute(id, n, "lost", "won")...)
			}
			reversed := credits.Amount((2*int64(pack.Credits)*back + pack.Price.Amount) / (2 * pack.Price.Amount)) // rounded half up
			expect[i].Purchased += pack.Credits
			expect[i].Reversed += reversed
			expect[i].Available += pack.Credits - reversed
		}
		events = append(events, its...)
		for _, e := range its {
			for range 1 + r.IntN(3) {
				all = append(all, e)
			}
		}
	}
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	s.work()
	queue := make(chan stripetest.Event)
	var senders sync.WaitGroup
	var refused atomic.Int64
	for range 16 {
		senders.Go(func() {
			for e := range queue {
				for range 1 + len(e.Body)%2 { // some twice by the same sender
					if s.deliver(e) != http.StatusOK {
						refused.Add(1)
					}
				}
			}
		})
	}
	began := time.Now()
	for _, e := range all {
		queue <- e
	}
	close(queue)
	senders.Wait()
	took := time.Since(began)
	require.Zero(t, refused.Load())
	for _, e := range events {
		s.settled(e)
	}
	for i, c := range callers {
		require.Equal(t, expect[i], s.balance(c))
	}
	sum, err := s.store.Read().Ledger.Imbalance(t.Context())
	require.NoError(t, err)
	require.Zero(t, sum)
	require.NotContains(t, s.log.String(), stripetest.Canary)
	require.NotContains(t, s.log.String(), "level=ERROR")
	t.Logf("%d deliveries of %d events in %s", len(all), len(events), took.Round(time.Millisecond))
}

// openOn is the adapter over a fake that runs already.
func openOn(t *testing.T, fake *stripetest.Stripe) *stripepay.Payments {
	t.Helper()
	p, err := stripepay.New(stripepay.Options{
		SecretKey: stripetest.SecretKey, WebhookSecret: stripetest.WebhookSecret, APIBase: fake.URL, SuccessURL: "https://nexus.example", CancelURL: "https://nexus.example",
	})
	require.NoError(t, err)
	return p
}

// What was spent already is a debt: nothing more can be held, and what is bought next pays it first.
func TestARefundOfSpentCreditsIsADebt(t *testing.T) {
	s := openShop(t, memory.New())
	s.work()
	c, owner := s.user(1), s.user(2)
	id := s.buy(c, "starter")
	paid := s.stripe.Pay(id, false)[0]
	require.Equal(t, http.StatusOK, s.deliver(paid))
	require.Equal(t, "credited", s.settled(paid))
	hold := ledger.Hold{TaskID: "t", UserID: c.UserID, Amount: credits.Whole(1_990), Title: "spree"}
	post := func(tr ledger.Transfer, err error) error {
		if err != nil {
			return err
		}
		tr = tr.Stamp(uuid.NewString)
		return s.store.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error { return tx.Ledger.Post(ctx, tr) })
	}
	require.NoError(t, post(hold.Place(time.Now())))
	require.NoError(t, post(hold.Capture(owner.UserID, time.Now())))
	refund := s.stripe.Refund(id, 1000)
	require.Equal(t, http.StatusOK, s.deliver(refund))
	require.Equal(t, "reversed", s.settled(refund))
	b := s.balance(c)
	assert.Equal(t, credits.Whole(-990), b.Available)
	assert.Equal(t, credits.Whole(990), b.Debt())
	err := post(ledger.Hold{TaskID: "u", UserID: c.UserID, Amount: 1, Title: "more"}.Place(time.Now()))
	assert.True(t, fault.Has(err, fault.CodeInsufficientCredits), "%v", err)
	paid = s.stripe.Pay(s.buy(c, "starter"), false)[0]
	require.Equal(t, http.StatusOK, s.deliver(paid))
	require.Equal(t, "credited", s.settled(paid))
	assert.Equal(t, credits.Whole(10), s.balance(c).Available)
}

// What Stripe takes back of a refund, and a dispute that is won after it was lost, bring the credits back.
func TestWhatComesAgainIsCreditedAgain(t *testing.T) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openShop(t, open(t))
			s.work()
			c := s.user(1)
			id := s.buy(c, "starter")
			tell := func(e stripetest.Event) string {
				require.Equal(t, http.StatusOK, s.deliver(e))
				return s.settled(e)
			}
			require.Equal(t, "credited", tell(s.stripe.Pay(id, false)[0]))
			require.Equal(t, "reversed", tell(s.stripe.Refund(id, 400)))
			require.Equal(t, credits.Whole(1_600), s.balance(c).Available)
			failed := s.stripe.Return(id, "failed", 400)
			require.Equal(t, "returned", tell(failed[0]))
			require.Equal(t, "noted", tell(failed[1]), "it is the same refund")
			require.Equal(t, credits.Whole(2_000), s.balance(c).Available)
			dispute := s.stripe.Dispute(id, 1000, "lost", "won")
			require.Equal(t, "reversed", tell(dispute[0]))
			require.Equal(t, credits.Whole(1_000), s.balance(c).Available)
			require.Equal(t, "returned", tell(dispute[1]))
			b := s.balance(c)
			require.Equal(t, credits.Whole(2_000), b.Available)
			require.Zero(t, b.Reversed)
			list, err := s.Billing.Transactions(t.Context(), c, ledger.TypeReversal, app.Page{})
			require.NoError(t, err)
			amounts := []credits.Amount{}
			for _, e := range list.Items {
				amounts = append(amounts, e.Amount)
			}
			require.Equal(t, []credits.Amount{credits.Whole(1_000), credits.Whole(-1_000), credits.Whole(400), credits.Whole(-400)}, amounts)
			report, err := s.Billing.Verify(t.Context(), nil)
			require.NoError(t, err)
			require.Empty(t, report.Findings)
		})
	}
}

// broken fails to post credits for a while.
type broken struct {
	ports.Store
	left  *atomic.Int64
	tried *atomic.Int64
}

type brokenBooks struct {
	ports.LedgerStore
	broken
}

var errCrash = errors.New("the power is gone")

func (b broken) Update(ctx context.Context, fn func(context.Context, ports.Tx) error) error {
	return b.Store.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
		tx.Ledger = brokenBooks{tx.Ledger, b}
		return fn(ctx, tx)
	})
}

func (b brokenBooks) Post(ctx context.Context, t ledger.Transfer) error {
	if strings.HasPrefix(t.Key, "purchase:") {
		b.tried.Add(1)
		if b.left.Add(-1) >= 0 {
			return errCrash
		}
	}
	return b.LedgerStore.Post(ctx, t)
}

// Regression, traps.md 4: the webhook's event recorded before the credit, with a crash between: paid, never credited.
func TestTrapPaidAndNeverCredited(t *testing.T) {
	for name, open := range map[string]func(testing.TB) ports.Store{"memory": stores["memory"], "sqlite": stores["sqlite"]} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := broken{open(t), &atomic.Int64{}, &atomic.Int64{}}
			b.left.Store(1)
			s := openShop(t, b)
			c := s.user(1)
			id := s.buy(c, "pro")
			paid := s.stripe.Pay(id, false)[0]
			require.Equal(t, http.StatusOK, s.deliver(paid), "Stripe does not come again after that")
			require.Empty(t, s.outcome(paid))

			s.work()
			require.Eventually(t, func() bool { return b.tried.Load() >= 1 }, 10*time.Second, time.Millisecond)
			require.Equal(t, "credited", s.settled(paid))
			require.GreaterOrEqual(t, b.tried.Load(), int64(2), "the first time failed")
			require.Equal(t, ledger.InitialGrant+credits.Whole(5_000), s.balance(c).Available)
			list, err := s.Billing.Purchases(t.Context(), c, app.Page{})
			require.NoError(t, err)
			require.Equal(t, billing.Paid, list.Items[0].Status)
		})
	}
}

// Regression, traps.md 5: an unknown amount credits.
func TestTrapAnUnknownAmountCredits(t *testing.T) {
	s := openShop(t, memory.New())
	s.work()
	c, other := s.user(1), s.user(2)
	id := s.buy(c, "pro")
	bought := s.stripe.Session(id)
	base := func(change func(map[string]any)) stripetest.Event {
		o := map[string]any{
			"id": id, "payment_status": "paid", "amount_total": 4000, "currency": "usd", "client_reference_id": c.UserID, "payment_intent": bought.Intent,
			"metadata": map[string]string{"userId": c.UserID, "packageId": "pro", "purchaseId": bought.Metadata["purchaseId"]},
		}
		change(o)
		return s.stripe.Event("checkout.session.completed", o)
	}
	for name, e := range map[string]stripetest.Event{
		"too little":       base(func(o map[string]any) { o["amount_total"] = 3999 }),
		"too much":         base(func(o map[string]any) { o["amount_total"] = 4001 }),
		"nothing":          base(func(o map[string]any) { o["amount_total"], o["payment_status"] = 0, "no_payment_required" }),
		"another currency": base(func(o map[string]any) { o["currency"] = "jpy" }),
		"another package": base(func(o map[string]any) {
			o["metadata"] = map[string]string{"userId": c.UserID, "packageId": "enterprise", "purchaseId": bought.Metadata["purchaseId"]}
		}),
		"another user": base(func(o map[string]any) {
			o["client_reference_id"] = other.UserID
			o["metadata"] = map[string]string{"userId": other.UserID, "packageId": "pro", "purchaseId": bought.Metadata["purchaseId"]}
		}),
		"two users":           base(func(o map[string]any) { o["client_reference_id"] = other.UserID }),
		"credits of an event": base(func(o map[string]any) { o["amount_total"], o["credits"] = 1, 1_000_000 }),
		"an unknown package": base(func(o map[string]any) {
			o["id"], o["metadata"] = "cs_2", map[string]string{"userId": c.UserID, "packageId": "mega"}
		}),
		"an unknown user": base(func(o map[string]any) {
			o["id"], o["client_reference_id"], o["payment_intent"] = "cs_3", "nobody", "pi_3"
			o["metadata"] = map[string]string{"packageId": "pro"}
		}),
	} {
		require.Equal(t, http.StatusOK, s.deliver(e), name)
		assert.Contains(t, s.settled(e), "refused: ", name)
		assert.Equal(t, ledger.InitialGrant, s.balance(c).Available, name)
		assert.Equal(t, ledger.InitialGrant, s.balance(other).Available, name)
	}
	assert.Contains(t, s.log.String(), "wants an operator's look")
	// Once it is paid as it should be, it is credited.
	good := base(func(map[string]any) {})
	require.Equal(t, http.StatusOK, s.deliver(good))
	require.Equal(t, "credited", s.settled(good))
	require.Equal(t, ledger.InitialGrant+credits.Whole(5_000), s.balance(c).Available)
}

// A purchase that was lost is made again from what its session says; the ledger knows whether it was credited before.
func TestAPurchaseThatWasLost(t *testing.T) {
	s := openShop(t, memory.New())
	s.work()
	c := s.user(1)
	payments := openOn(t, s.stripe)
	begin := func() string {
		out, err := payments.Begin(t.Context(), billing.Order{ID: uuid.NewString(), UserID: c.UserID, Package: billing.Packages()[0]})
		require.NoError(t, err)
		return out.SessionID
	}
	never := s.stripe.Pay(begin(), false)[0]
	require.Equal(t, http.StatusOK, s.deliver(never))
	require.Equal(t, "credited", s.settled(never))
	require.Equal(t, credits.Whole(2_000), s.balance(c).Available)

	id := begin()
	issue := ledger.Issue{ID: id, UserID: c.UserID, Amount: credits.Whole(1_000), Description: "before the restore"}
	for _, make := range []func() (ledger.Transfer, error){
		func() (ledger.Transfer, error) { return issue.Credit(time.Now()) },
		func() (ledger.Transfer, error) { return issue.Reverse(0, credits.Whole(300), 1, time.Now()) },
	} {
		tr, err := make()
		require.NoError(t, err)
		tr = tr.Stamp(uuid.NewString)
		require.NoError(t, s.store.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error { return tx.Ledger.Post(ctx, tr) }))
	}
	before := s.stripe.Pay(id, false)[0]
	require.Equal(t, http.StatusOK, s.deliver(before))
	s.settled(before)
	require.Equal(t, credits.Whole(2_700), s.balance(c).Available, "not credited again")
	for _, n := range []int64{300, 700} {
		refund := s.stripe.Refund(id, n)
		require.Equal(t, http.StatusOK, s.deliver(refund))
		s.settled(refund)
	}
	require.Equal(t, credits.Whole(2_000), s.balance(c).Available)
}
