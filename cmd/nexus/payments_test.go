package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/postgres/postgrestest"
	"github.com/nexus-protocol/nexus/adapters/stripepay/stripetest"
)

// sells lets the server sell by a fake of Stripe, and returns how its sessions are paid.
func (s *server) sells(t *testing.T) (pay func(t *testing.T, checkoutURL string) (body []byte, signature string)) {
	t.Helper()
	fake := stripetest.Start(t)
	s.more = append(s.more, "NEXUS_STRIPE_SECRET_KEY="+stripetest.SecretKey, "NEXUS_STRIPE_WEBHOOK_SECRET="+stripetest.WebhookSecret, "NEXUS_STRIPE_API_BASE="+fake.URL,
		"NEXUS_PUBLIC_URL=https://nexus.example/")
	return func(t *testing.T, checkoutURL string) ([]byte, string) {
		t.Helper()
		id := path.Base(checkoutURL)
		form := fake.Session(id).Form
		require.Equal(t, "https://nexus.example/billing/return?checkout=success", form.Get("success_url"), "whatever host a request names")
		require.Equal(t, "https://nexus.example/billing/return?checkout=cancelled", form.Get("cancel_url"))
		e := fake.Pay(id, false)[0]
		return e.Body, stripetest.Sign(e.Body, stripetest.WebhookSecret, time.Now())
	}
}

// Regression, traps.md 5: the webhook is never served without a secret.
func TestTrapNoWebhookWithoutASecret(t *testing.T) {
	t.Parallel()
	for _, env := range [][]string{
		{"NEXUS_STRIPE_SECRET_KEY=sk_test_secret"},
		{"NEXUS_STRIPE_WEBHOOK_SECRET=whsec_secret"},
		{"NEXUS_STRIPE_SECRET_KEY=sk_test_secret", "NEXUS_STRIPE_WEBHOOK_SECRET= "},
		{"NEXUS_STRIPE_SECRET_KEY=sk_test_secret", "NEXUS_STRIPE_WEBHOOK_SECRET=whsec_secret", "NEXUS_STRIPE_API_BASE=nonsense"},
		{"NEXUS_STRIPE_SECRET_KEY=sk_test_secret", "NEXUS_STRIPE_WEBHOOK_SECRET=whsec_secret", "NEXUS_STRIPE_PRICES=mega=price_1"},
	} {
		s := newServer(t)
		s.more = env
		_, err := s.run("", "serve")
		require.Error(t, err, "%v", env)
		require.NotContains(t, err.Error(), "sk_test_secret")
		require.NotContains(t, err.Error(), "whsec_secret")
	}
	s := newServer(t)
	s.start()
	c := &client{base: s.url()}
	status, err := c.call("POST", "/api/v1/billing/webhook", map[string]string{"id": "evt_1"}, nil)
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.ErrorContains(t, err, "PAYMENTS_NOT_CONFIGURED")
}

func TestDemoCheckout(t *testing.T) {
	t.Parallel()
	s := newServer(t, "--demo")
	s.start()
	c := s.signUp("payer@example.com")
	var out struct{ URL string }
	_, err := c.call("POST", "/api/v1/billing/checkout", map[string]string{"packageId": "starter"}, &out)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(out.URL, s.url()+"/demo/checkout?order="), out.URL)
	u, err := url.Parse(out.URL)
	require.NoError(t, err)
	res, err := http.Get(out.URL)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Contains(t, res.Header.Get("Content-Security-Policy"), "form-action 'self'")
	res, err = http.PostForm(s.url()+"/demo/checkout", url.Values{"order": {u.Query().Get("order")}, "do": {"pay"}})
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, "/billing/return", res.Request.URL.Path)
	require.Equal(t, http.StatusOK, res.StatusCode)
	var b balanceJSON
	require.Eventually(t, func() bool {
		_, err := c.call("GET", "/api/v1/billing/balance", nil, &b)
		return err == nil && b.Balance == 2000
	}, 10*time.Second, 10*time.Millisecond)
}

func TestCreditsGrant(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, who := range [][]string{{"--email", "boss@example.com", "--admin"}, {"--email", "ann@example.com"}} {
		_, err := s.run("correct horse\n", append([]string{"user", "create"}, who...)...)
		require.NoError(t, err)
	}
	grant := func(by, to, amount, reason string) (string, error) {
		return s.run("", "credits", "grant", "--by", by, "--to", to, "--amount", amount, "--reason", reason)
	}
	out, err := grant("boss@example.com", "Ann@example.com", "9.5", "a prize")
	require.NoError(t, err)
	require.Regexp(t, `^[0-9a-f-]{36} 9.5 credits to Ann@example.com\n$`, out)
	_, err = grant("ann@example.com", "ann@example.com", "1000", "for myself")
	require.ErrorContains(t, err, "FORBIDDEN")
	_, err = grant("boss@example.com", "ann@example.com", "0", "nothing")
	require.ErrorContains(t, err, "amount")
	_, err = grant("boss@example.com", "ann@example.com", "1e3", "too clever")
	require.ErrorContains(t, err, "--amount")
	_, err = grant("boss@example.com", "ann@example.com", "1", " ")
	require.ErrorContains(t, err, "reason")
	_, err = grant("nobody@example.com", "ann@example.com", "1", "x")
	require.ErrorContains(t, err, "--by")

	s.start()
	c := &client{base: s.url()}
	_, err = c.call("POST", "/auth/login", map[string]string{"email": "boss@example.com", "password": "correct horse"}, nil)
	require.NoError(t, err)
	var list []struct {
		UserID, ByUserID, Reason string
		Amount                   float64
	}
	_, err = c.call("GET", "/api/v1/billing/grants", nil, &list)
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, "a prize", list[0].Reason)
	require.InDelta(t, 9.5, list[0].Amount, 0)
	require.NotEqual(t, list[0].UserID, list[0].ByUserID)
}

// Whatever is killed whenever: who paid has the credits, once. Stripe comes again until it is told that all is well.
func TestPaymentsOutliveTheServer(t *testing.T) {
	for _, name := range []string{"sqlite", "postgres"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			if name == "postgres" {
				s.db = postgrestest.URL(t)
			}
			fake := stripetest.Start(t)
			s.more = []string{"NEXUS_STRIPE_SECRET_KEY=" + stripetest.SecretKey, "NEXUS_STRIPE_WEBHOOK_SECRET=" + stripetest.WebhookSecret, "NEXUS_STRIPE_API_BASE=" + fake.URL}
			s.start()
			const users, each = 3, 12
			var payers []*client
			var events []stripetest.Event
			for i := range users {
				c := s.signUp(fmt.Sprintf("payer%d@example.com", i))
				payers = append(payers, c)
				for range each {
					var out struct{ URL string }
					_, err := c.call("POST", "/api/v1/billing/checkout", map[string]string{"packageId": "starter"}, &out)
					require.NoError(t, err)
					id := path.Base(out.URL)
					events = append(events, fake.Refund(id, 250))
					events = append(events, fake.Pay(id, true)...)
				}
			}
			rand.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
			queue := make(chan stripetest.Event, len(events))
			for _, e := range events {
				queue <- e
			}
			close(queue)
			var senders sync.WaitGroup
			for range 4 {
				senders.Go(func() {
					for e := range queue {
						for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
							req, _ := http.NewRequest(http.MethodPost, s.url()+"/api/v1/billing/webhook", bytes.NewReader(e.Body))
							req.Header.Set("Content-Type", "application/json")
							req.Header.Set("Stripe-Signature", stripetest.Sign(e.Body, stripetest.WebhookSecret, time.Now()))
							res, err := http.DefaultClient.Do(req)
							if err != nil {
								continue
							}
							_ = res.Body.Close()
							if res.StatusCode == http.StatusOK {
								break
							}
						}
						time.Sleep(3 * time.Millisecond)
					}
				})
			}
			for range 3 {
				time.Sleep(time.Duration(10+rand.IntN(60)) * time.Millisecond)
				s.kill()
				s.start()
			}
			senders.Wait()
			for _, c := range payers {
				var b balanceJSON
				require.Eventually(t, func() bool {
					_, err := c.call("GET", "/api/v1/billing/balance", nil, &b)
					return err == nil && b.Balance == 1000+each*750
				}, 20*time.Second, 20*time.Millisecond, "%+v", &b)
			}
			time.Sleep(200 * time.Millisecond) // and nothing more comes
			sum, err := s.look(t).Read().Ledger.Imbalance(t.Context())
			require.NoError(t, err)
			require.Zero(t, sum)
			s.audited() // while the server runs
			for _, c := range payers {
				var b balanceJSON
				_, err := c.call("GET", "/api/v1/billing/balance", nil, &b)
				require.NoError(t, err)
				require.InDelta(t, 1000+each*750, b.Balance, 0)
			}
		})
	}
}
