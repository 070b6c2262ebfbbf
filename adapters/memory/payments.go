package memory

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nexus-protocol/nexus/domain/billing"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/ports"
)

var _ ports.Payments = (*Payments)(nil)

// Payments is a provider in memory, for tests: what its payers do is what the test calls. Grants are settled at once.
type Payments struct {
	now    func() time.Time
	secret []byte

	mu     sync.Mutex
	orders map[string]billing.Order // by session
	told   int
}

// NewPayments makes a provider on a clock.
func NewPayments(now func() time.Time) *Payments {
	p := &Payments{now: now, secret: make([]byte, 32), orders: map[string]billing.Order{}}
	_, _ = rand.Read(p.secret) // it never fails
	return p
}

// Name implements ports.Payments.
func (*Payments) Name() string { return "memory" }

// Begin implements ports.Payments.
func (p *Payments) Begin(ctx context.Context, o billing.Order) (billing.Checkout, error) {
	if o.Grant != nil {
		return billing.Checkout{SessionID: "memory_" + o.ID, Settled: true}, o.Grant.Check()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c := billing.Checkout{SessionID: "memory_" + o.ID, URL: "https://payments.test/" + o.ID}
	p.orders[c.SessionID] = o
	return c, ctx.Err()
}

// Pay pays a session, and returns what is delivered of it. Each call is an event of its own.
func (p *Payments) Pay(sessionID string) (ports.Delivery, error) {
	return p.tell(sessionID, billing.EventPaid, func(o billing.Order) int64 { return o.Package.Price.Amount })
}

// Refund pays an amount back, which is all that was paid back so far.
func (p *Payments) Refund(sessionID string, soFar int64) (ports.Delivery, error) {
	return p.tell(sessionID, billing.EventRefunded, func(billing.Order) int64 { return soFar })
}

func (p *Payments) tell(sessionID string, kind billing.Kind, amount func(billing.Order) int64) (ports.Delivery, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	o, ok := p.orders[sessionID]
	if !ok {
		return ports.Delivery{}, fmt.Errorf("memory: no session %s", sessionID)
	}
	p.told++
	e := billing.Event{
		ID: fmt.Sprintf("event_%06d", p.told), Provider: p.Name(), Kind: kind, PaymentID: "payment_" + o.ID,
		Amount: billing.Money{Amount: amount(o), Currency: o.Package.Price.Currency}, At: p.now().UTC().Truncate(time.Second),
	}
	if kind == billing.EventPaid {
		e.SessionID, e.PurchaseID, e.UserID, e.PackageID = sessionID, o.ID, o.UserID, o.Package.ID
	}
	body, err := json.Marshal(e)
	if err != nil {
		return ports.Delivery{}, fmt.Errorf("encode event: %w", err)
	}
	return ports.Delivery{Body: body, Signature: p.Sign(body, p.now())}, nil
}

// Sign is the signature of a body that is delivered then.
func (p *Payments) Sign(body []byte, at time.Time) string {
	t := strconv.FormatInt(at.Unix(), 10)
	h := hmac.New(sha256.New, p.secret)
	h.Write([]byte(t + "."))
	h.Write(body)
	return t + "." + hex.EncodeToString(h.Sum(nil))
}

// Read implements ports.Payments.
func (p *Payments) Read(_ context.Context, d ports.Delivery) (e billing.Event, err error) {
	var bad fault.Fields
	text, _, _ := strings.Cut(d.Signature, ".")
	t, err := strconv.ParseInt(text, 10, 64)
	at := time.Unix(t, 0)
	if off := p.now().Sub(at); err != nil || off > 5*time.Minute+time.Second || off < -5*time.Minute-time.Second || !hmac.Equal([]byte(d.Signature), []byte(p.Sign(d.Body, at))) {
		bad.Add("signature", "is not the signature of this body, or of another time")
		return billing.Event{}, bad.Err()
	}
	if json.Unmarshal(d.Body, &e) != nil {
		bad.Add("body", "is no event that can be read")
		return billing.Event{}, bad.Err()
	}
	if e.Kind == "" {
		return billing.Event{}, nil
	}
	return e, e.Check()
}
