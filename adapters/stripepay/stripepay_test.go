package stripepay_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/stripepay"
	"github.com/nexus-protocol/nexus/adapters/stripepay/stripetest"
	"github.com/nexus-protocol/nexus/domain/billing"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/ports"
	"github.com/nexus-protocol/nexus/ports/portstest"
)

func open(t testing.TB, change ...func(*stripepay.Options)) (*stripetest.Stripe, *stripepay.Payments) {
	t.Helper()
	fake := stripetest.Start(t)
	opt := stripepay.Options{
		SecretKey: stripetest.SecretKey, WebhookSecret: stripetest.WebhookSecret, APIBase: fake.URL + "/",
		SuccessURL: "https://nexus.example/paid", CancelURL: "https://nexus.example/unpaid",
	}
	for _, c := range change {
		c(&opt)
	}
	p, err := stripepay.New(opt)
	require.NoError(t, err)
	return fake, p
}

func delivery(e stripetest.Event) ports.Delivery {
	return ports.Delivery{Body: e.Body, Signature: stripetest.Sign(e.Body, stripetest.WebhookSecret, time.Now())}
}

func TestPayments(t *testing.T) {
	fake, p := open(t)
	for _, later := range []bool{false, true} {
		require.NoError(t, portstest.Payments(t.Context(), p, portstest.Provider{
			Sells: true, Now: time.Now(),
			Pay: func(id string) (out []ports.Delivery, err error) {
				for _, e := range fake.Pay(id, later) {
					out = append(out, delivery(e))
				}
				return out, nil
			},
			Sign: func(body []byte, at time.Time) string {
				return stripetest.Sign(body, stripetest.WebhookSecret, at)
			},
		}))
	}
}

func order(id string) billing.Order {
	return billing.Order{ID: id, UserID: "user-1", Package: billing.Packages()[0]}
}

func TestASessionSaysWhoBuysWhat(t *testing.T) {
	fake, p := open(t, func(o *stripepay.Options) { o.Prices = map[string]string{"pro": "price_pro"} })
	fake.Prices["price_pro"] = 4000
	c, err := p.Begin(t.Context(), order("purchase-1"))
	require.NoError(t, err)
	s := fake.Session(c.SessionID)
	assert.Equal(t, "user-1", s.UserID)
	assert.Equal(t, map[string]string{"userId": "user-1", "packageId": "starter", "purchaseId": "purchase-1"}, s.Metadata)
	assert.Equal(t, int64(1000), s.Amount)
	assert.Equal(t, "usd", s.Currency)
	assert.Equal(t, "https://nexus.example/paid", s.Form.Get("success_url"))
	assert.Equal(t, "https://nexus.example/unpaid", s.Form.Get("cancel_url"))
	assert.Equal(t, "user-1", s.Form.Get("payment_intent_data[metadata][userId]"))
	assert.Contains(t, s.Form.Get("line_items[0][price_data][product_data][name]"), "1000")

	pro, err := p.Begin(t.Context(), billing.Order{ID: "purchase-2", UserID: "user-1", Package: billing.Packages()[1]})
	require.NoError(t, err)
	assert.Equal(t, "price_pro", fake.Session(pro.SessionID).Form.Get("line_items[0][price]"))
	assert.Empty(t, fake.Session(pro.SessionID).Form.Get("line_items[0][price_data][currency]"))
}

func TestErrorsOfStripe(t *testing.T) {
	fake, p := open(t)
	fake.FailNext(http.StatusServiceUnavailable) // and the repetition has the same key
	c, err := p.Begin(t.Context(), order("a"))
	require.NoError(t, err)
	assert.Len(t, fake.Sessions(), 1)
	assert.NotEmpty(t, c.URL)

	fake.FailNext(http.StatusInternalServerError)
	_, err = p.Begin(t.Context(), order("b"))
	assert.True(t, fault.Has(err, fault.CodeUnavailable), "%v", err)

	fake.FailNext(http.StatusBadRequest)
	_, err = p.Begin(t.Context(), order("c"))
	require.Error(t, err)
	_, classified := fault.As(err)
	assert.False(t, classified, "what Stripe does not understand is not the caller's fault")

	_, wrongKey := open(t, func(o *stripepay.Options) { o.SecretKey = "sk_test_wrong_secret" })
	_, err = wrongKey.Begin(t.Context(), order("d"))
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "sk_test_wrong_secret")

	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	_, away := open(t, func(o *stripepay.Options) { o.APIBase = gone.URL })
	_, err = away.Begin(t.Context(), order("e"))
	assert.True(t, fault.Has(err, fault.CodeUnavailable), "%v", err)

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = p.Begin(ended, order("f"))
	assert.True(t, errors.Is(err, context.Canceled), "%v", err)
}

func TestWhatEventsTell(t *testing.T) {
	fake, p := open(t)
	c, err := p.Begin(t.Context(), order("purchase-1"))
	require.NoError(t, err)
	read := func(e stripetest.Event) billing.Event {
		t.Helper()
		out, err := p.Read(t.Context(), delivery(e))
		require.NoError(t, err)
		text, err := json.Marshal(out)
		require.NoError(t, err)
		assert.NotContains(t, string(text), stripetest.Canary)
		return out
	}
	intent := fake.Session(c.SessionID).Intent
	later := fake.Pay(c.SessionID, true)
	assert.Equal(t, billing.EventWaiting, read(later[0]).Kind)
	paid := read(later[1])
	assert.Equal(t, billing.EventPaid, paid.Kind)
	assert.Equal(t, intent, paid.PaymentID)
	assert.Equal(t, billing.EventFailed, read(fake.Fail(c.SessionID)[1]).Kind)
	assert.Equal(t, billing.EventExpired, read(fake.Expire(c.SessionID)).Kind)
	one, two := read(fake.Refund(c.SessionID, 300)), read(fake.Refund(c.SessionID, 300))
	assert.Equal(t, []any{billing.EventRefunded, intent, int64(300)}, []any{one.Kind, one.PaymentID, one.Amount.Amount})
	assert.Equal(t, int64(600), two.Amount.Amount, "all that was refunded so far")
	for _, e := range append(fake.Return(c.SessionID, "failed", 300), fake.Return(c.SessionID, "canceled", 300)...) {
		back := read(e)
		assert.Equal(t, []any{billing.EventReturned, intent, int64(300)}, []any{back.Kind, back.PaymentID, back.Amount.Amount})
		assert.NotEmpty(t, back.RefundID)
	}
	assert.Empty(t, read(fake.Return(c.SessionID, "succeeded", 300)[0]).Kind, "what a refund says on its way")
	ends := fake.Dispute(c.SessionID, 1000, "lost", "won")
	lost, won := read(ends[0]), read(ends[1])
	assert.Equal(t, []any{billing.EventLost, intent, int64(1000)}, []any{lost.Kind, lost.PaymentID, lost.Amount.Amount})
	assert.NotEmpty(t, lost.DisputeID)
	assert.Equal(t, []any{billing.EventWon, intent, lost.DisputeID}, []any{won.Kind, won.PaymentID, won.DisputeID})
	assert.True(t, won.At.After(lost.At))
	assert.Empty(t, read(fake.Dispute(c.SessionID, 1000, "warning_closed")[0]).Kind)
	assert.Empty(t, read(fake.Event("customer.created", map[string]any{"id": "cus_1", "email": stripetest.Canary})).Kind)
	assert.Empty(t, read(fake.Event("charge.refunded", map[string]any{"id": "ch_1", "amount_refunded": 5, "currency": "usd"})).Kind, "no payment intent: not ours")
	assert.Empty(t, read(fake.Event("checkout.session.completed", map[string]any{"id": "cs_other", "payment_status": "paid"})).Kind, "another product of the account")
	session := map[string]any{
		"id": "cs_1", "payment_status": "paid", "amount_total": 1000, "currency": "usd", "client_reference_id": "user-1",
		"payment_intent": map[string]any{"id": "pi_expanded"}, "metadata": map[string]string{"packageId": "starter"},
	}
	expanded := read(fake.Event("checkout.session.completed", session))
	assert.Equal(t, []string{"pi_expanded", "user-1"}, []string{expanded.PaymentID, expanded.UserID})
	session["metadata"] = map[string]string{"packageId": "starter", "userId": "mallory"}
	assert.Empty(t, read(fake.Event("checkout.session.completed", session)).UserID, "two say different things")
}

// What is signed and makes no sense is refused, and never a crash.
func TestMalformedEvents(t *testing.T) {
	_, p := open(t)
	for _, body := range []string{
		`{}`, `null`, `[]`, `"x"`, `{"id":"evt_1","type":"checkout.session.completed"}`, `{"id":"evt_1","type":"checkout.session.completed","data":null}`,
		`{"id":"evt_1","type":"checkout.session.completed","data":{}}`, `{"id":"evt_1","type":"charge.refunded","data":{"object":[]}}`,
		`{"id":"evt_1","type":"charge.refunded","data":{"object":{"amount_refunded":-5,"currency":"usd","payment_intent":"pi_1"}}}`,
		`{"id":"evt_1","type":"charge.refunded","data":{"object":{"amount_refunded":1e30,"payment_intent":"pi_1"}}}`,
		`{"id":"","type":"charge.refunded","data":{"object":{"amount_refunded":5,"payment_intent":"pi_1"}}}`,
		`{"id":"evt_1","type":"charge.refunded","data":{"object":{"amount_refunded":5,"payment_intent":"` + strings.Repeat("x", 300) + `"}}}`,
		`{"id":"evt_1","type":"charge.dispute.closed","data":{"object":{"status":"lost","payment_intent":7}}}`, ``,
		`{"id":"evt_1","type":"charge.refund.updated","data":{"object":{"status":"failed","amount":-5,"payment_intent":"pi_1"}}}`,
	} {
		e, err := p.Read(t.Context(), delivery(stripetest.Event{Body: []byte(body)}))
		if err == nil {
			assert.Empty(t, e.Kind, body)
			continue
		}
		assert.True(t, fault.Has(err, fault.CodeValidation), "%s: %v", body, err)
	}
}

// FuzzRead gives the webhook's decoder what a stranger may send, signed and unsigned.
func FuzzRead(f *testing.F) {
	fake, p := open(f)
	c, err := p.Begin(f.Context(), order("a"))
	require.NoError(f, err)
	for _, e := range slices.Concat(fake.Pay(c.SessionID, true), []stripetest.Event{fake.Refund(c.SessionID, 5)}, fake.Return(c.SessionID, "failed", 5), fake.Dispute(c.SessionID, 5, "lost", "won")) {
		f.Add(e.Body, stripetest.Sign(e.Body, stripetest.WebhookSecret, time.Now()), true)
	}
	f.Add([]byte(`{"id":"e","type":"checkout.session.completed","data":null}`), "t=1,v1=00", true)
	f.Fuzz(func(t *testing.T, body []byte, header string, signed bool) {
		if signed {
			header = stripetest.Sign(body, stripetest.WebhookSecret, time.Now())
		}
		e, err := p.Read(t.Context(), ports.Delivery{Body: body, Signature: header})
		if err != nil && !fault.Has(err, fault.CodeValidation) {
			t.Fatal(err)
		}
		if err == nil && e.Kind != "" && e.Check() != nil {
			t.Fatalf("%+v", e)
		}
	})
}

// Regression, traps.md 5: an empty secret accepts forged events; future timestamps pass.
func TestTrapAnEmptySecretAcceptsForgedEvents(t *testing.T) {
	for _, opt := range []stripepay.Options{
		{SecretKey: "sk", SuccessURL: "https://a.example", CancelURL: "https://a.example"},
		{SecretKey: "sk", WebhookSecret: " \n", SuccessURL: "https://a.example", CancelURL: "https://a.example"},
		{WebhookSecret: "whsec", SuccessURL: "https://a.example", CancelURL: "https://a.example"},
		{SecretKey: "sk", WebhookSecret: "whsec"},
		{SecretKey: "sk", WebhookSecret: "whsec", SuccessURL: "https://a.example", CancelURL: "https://a.example", Prices: map[string]string{"nope": "price_1"}},
	} {
		_, err := stripepay.New(opt)
		require.Error(t, err)
	}
	fake, p := open(t)
	c, err := p.Begin(t.Context(), order("a"))
	require.NoError(t, err)
	e := fake.Pay(c.SessionID, false)[0]
	for _, header := range []string{
		stripetest.Sign(e.Body, "", time.Now()),
		stripetest.Sign(e.Body, stripetest.WebhookSecret, time.Now().Add(301*time.Second)),
		stripetest.Sign(e.Body, stripetest.WebhookSecret, time.Now().Add(-301*time.Second)),
		stripetest.Sign(e.Body, stripetest.WebhookSecret, time.Now().AddDate(50, 0, 0)),
		// Which of two times was signed must not be open.
		stripetest.Sign(e.Body, stripetest.WebhookSecret, time.Now().AddDate(1, 0, 0)) + ",t=1",
		strings.Replace(stripetest.Sign(e.Body, stripetest.WebhookSecret, time.Now()), "v1=", "v0=", 1),
	} {
		_, err := p.Read(t.Context(), ports.Delivery{Body: e.Body, Signature: header})
		assert.True(t, fault.Has(err, fault.CodeValidation), "%s: %v", header, err)
	}
	rolled := stripetest.Sign(e.Body, stripetest.WebhookSecret, time.Now())
	_, err = p.Read(t.Context(), ports.Delivery{Body: e.Body, Signature: rolled + ",v1=" + strings.Repeat("00", 32)})
	require.NoError(t, err, "one of several signatures is enough while a secret is rolled")
}
