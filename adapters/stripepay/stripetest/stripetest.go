// Package stripetest is as much of Stripe as the tests need: checkout sessions that remember what happens to them, and the
// events that Stripe tells of it, signed. It speaks HTTP on a loopback address and knows no card.
package stripetest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v76/webhook"
)

// Secrets of the account.
const (
	SecretKey     = "sk_test_nexus"
	WebhookSecret = "whsec_nexus"
)

// Canary stands in the personal data of every event. It must not be found anywhere else.
const Canary = "payer.canary@example.com"

// Session is a checkout session.
type Session struct {
	ID, URL, UserID, Intent, Currency string
	Amount                            int64
	Metadata                          map[string]string
	Form                              url.Values // as it was asked for
	Refunded                          int64
}

// Stripe is the fake.
type Stripe struct {
	URL string
	// Prices are the amounts of the prices that sessions may name, in cents of a dollar.
	Prices map[string]int64

	mu       sync.Mutex
	n        int
	sessions map[string]*Session
	byKey    map[string]keyed
	fail     []int
	calls    int
}

type keyed struct {
	form string
	id   string
}

// Start starts the fake, for as long as the test runs.
func Start(t testing.TB) *Stripe {
	t.Helper()
	s := &Stripe{Prices: map[string]int64{}, sessions: map[string]*Session{}, byKey: map[string]keyed{}}
	srv := httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(srv.Close)
	s.URL = srv.URL
	return s
}

// FailNext lets the next requests fail with these statuses.
func (s *Stripe) FailNext(status ...int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = append(s.fail, status...)
}

// Calls is how many requests came.
func (s *Stripe) Calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// Sessions are all sessions there are, in order.
func (s *Stripe) Sessions() []Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []Session{}
	for _, id := range slices.Sorted(maps.Keys(s.sessions)) {
		out = append(out, *s.sessions[id])
	}
	return out
}

// Session is one session.
func (s *Stripe) Session(id string) Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *s.sessions[id]
}

func refuse(w http.ResponseWriter, status int, typ, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"type": typ, "message": message}})
}

func (s *Stripe) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	w.Header().Set("Request-Id", fmt.Sprintf("req_%d", s.calls))
	if len(s.fail) > 0 {
		status := s.fail[0]
		s.fail = s.fail[1:]
		refuse(w, status, "api_error", "told to fail")
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+SecretKey {
		refuse(w, http.StatusUnauthorized, "invalid_request_error", "Authorization was "+r.Header.Get("Authorization"))
		return
	}
	form, err := url.ParseQuery(string(body))
	if r.Method != http.MethodPost || r.URL.Path != "/v1/checkout/sessions" || err != nil {
		refuse(w, http.StatusNotFound, "invalid_request_error", "Unrecognized request URL")
		return
	}
	key := r.Header.Get("Idempotency-Key")
	before, again := s.byKey[key]
	if again && before.form != form.Encode() {
		refuse(w, http.StatusBadRequest, "idempotency_error", "Keys for idempotent requests can only be used with the same parameters they were first used with.")
		return
	}
	session := s.sessions[before.id]
	if !again {
		var fault string
		if session, fault = s.make(form); fault != "" {
			refuse(w, http.StatusBadRequest, "invalid_request_error", fault)
			return
		}
		s.sessions[session.ID] = session
		if key != "" {
			s.byKey[key] = keyed{form.Encode(), session.ID}
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(session.object("open", "unpaid"))
}

// make makes a session, or says what is wrong with the request for it.
func (s *Stripe) make(form url.Values) (*Session, string) {
	amount, _ := strconv.ParseInt(form.Get("line_items[0][price_data][unit_amount]"), 10, 64)
	currency := form.Get("line_items[0][price_data][currency]")
	if price := form.Get("line_items[0][price]"); price != "" {
		amount, currency = s.Prices[price], "usd"
	}
	switch {
	case form.Get("mode") != "payment":
		return nil, "mode"
	case amount <= 0 || currency == "" || form.Get("line_items[0][quantity]") != "1":
		return nil, "line_items"
	case !strings.HasPrefix(form.Get("success_url"), "http") || !strings.HasPrefix(form.Get("cancel_url"), "http"):
		return nil, "success_url"
	}
	s.n++
	out := &Session{
		ID: fmt.Sprintf("cs_test_%06d", s.n), Intent: fmt.Sprintf("pi_%06d", s.n), UserID: form.Get("client_reference_id"),
		Amount: amount, Currency: currency, Metadata: map[string]string{}, Form: form,
	}
	out.URL = s.URL + "/pay/" + out.ID
	for k, v := range form {
		if name, ok := strings.CutPrefix(k, "metadata["); ok {
			out.Metadata[strings.TrimSuffix(name, "]")] = v[0]
		}
	}
	return out, ""
}

func (s *Session) object(status, paid string) map[string]any {
	var intent any
	if status == "complete" {
		intent = s.Intent
	}
	return map[string]any{
		"id": s.ID, "object": "checkout.session", "mode": "payment", "status": status, "payment_status": paid, "url": s.URL, "client_reference_id": s.UserID,
		"metadata": s.Metadata, "amount_total": s.Amount, "currency": s.Currency, "payment_intent": intent,
		"customer_details": map[string]any{"email": Canary, "name": Canary},
	}
}

// Event is an event as Stripe tells it.
type Event struct {
	Type string
	Body []byte
}

// Event makes an event with an id of its own.
func (s *Stripe) Event(typ string, object any) Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.event(typ, object)
}

func (s *Stripe) event(typ string, object any) Event {
	s.n++
	body, err := json.Marshal(map[string]any{
		"id": fmt.Sprintf("evt_%06d", s.n), "object": "event", "type": typ, "api_version": "2026-10-28.future", "created": time.Now().Unix() + int64(s.n), // no two in one second
		"data": map[string]any{"object": object},
	})
	if err != nil {
		panic(err)
	}
	return Event{typ, body}
}

// Pay pays a session and returns what Stripe tells. Later means by a method whose money comes after the payer has left.
func (s *Stripe) Pay(id string, later bool) []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	session := s.sessions[id]
	if !later {
		return []Event{s.event("checkout.session.completed", session.object("complete", "paid"))}
	}
	return []Event{
		s.event("checkout.session.completed", session.object("complete", "unpaid")),
		s.event("checkout.session.async_payment_succeeded", session.object("complete", "paid")),
	}
}

// Fail lets a payment that was to come later fail.
func (s *Stripe) Fail(id string) []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	session := s.sessions[id]
	return []Event{
		s.event("checkout.session.completed", session.object("complete", "unpaid")),
		s.event("checkout.session.async_payment_failed", session.object("complete", "unpaid")),
	}
}

// Expire ends a session that nobody pays.
func (s *Stripe) Expire(id string) Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.event("checkout.session.expired", s.sessions[id].object("expired", "unpaid"))
}

// Refund pays an amount back.
func (s *Stripe) Refund(id string, amount int64) Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	session := s.sessions[id]
	session.Refunded += amount
	return s.event("charge.refunded", map[string]any{
		"id": "ch_" + session.Intent, "object": "charge", "amount": session.Amount, "amount_refunded": session.Refunded, "currency": session.Currency,
		"payment_intent": session.Intent, "billing_details": map[string]any{"email": Canary}, "metadata": session.Metadata,
	})
}

// Return ends a refund of an amount in this way: "failed" or "canceled". The money is back, and is refunded no more. It is
// told twice, as it is to accounts that ask for old and new events.
func (s *Stripe) Return(id, status string, amount int64) []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	session := s.sessions[id]
	session.Refunded -= amount
	s.n++
	refund := map[string]any{
		"id": fmt.Sprintf("re_%06d", s.n), "object": "refund", "amount": amount, "currency": session.Currency, "status": status, "charge": "ch_" + session.Intent,
		"payment_intent": session.Intent, "metadata": map[string]string{"for": Canary},
	}
	return []Event{s.event("charge.refund.updated", refund), s.event("refund.updated", refund)}
}

// Dispute ends a dispute about an amount in these ways, one after the other: "lost", "won" … One that was lost may be won
// after all.
func (s *Stripe) Dispute(id string, amount int64, statuses ...string) (out []Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	session := s.sessions[id]
	s.n++
	dispute := fmt.Sprintf("dp_%06d", s.n)
	typ := "charge.dispute.closed"
	for _, status := range statuses {
		out = append(out, s.event(typ, map[string]any{
			"id": dispute, "object": "dispute", "amount": amount, "currency": session.Currency, "status": status,
			"charge": "ch_" + session.Intent, "payment_intent": session.Intent, "evidence": map[string]any{"customer_email_address": Canary},
		}))
		typ = "charge.dispute.funds_reinstated"
	}
	return out
}

// Sign is the header that comes with an event that is sent then.
func Sign(body []byte, secret string, at time.Time) string {
	return webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: body, Secret: secret, Timestamp: at}).Header
}
