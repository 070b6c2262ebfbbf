// Package stripepay takes money by Stripe: a ports.Payments over Stripe's hosted checkout and its webhook.
package stripepay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/checkout/session"
	"github.com/stripe/stripe-go/v76/webhook"

	"github.com/nexus-protocol/nexus/domain/billing"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/ports"
)

var _ ports.Payments = (*Payments)(nil)

// tolerance is how far the time of a delivery may be from now, either way.
const tolerance = 300 * time.Second

// Options say whose account it is and where payers go back to. The first four must be set.
type Options struct {
	SecretKey     string // sk_…
	WebhookSecret string // whsec_…; without it anyone could forge events
	SuccessURL    string // where the payer comes back to after paying
	CancelURL     string // and after giving up

	APIBase string            // default: Stripe's own
	Prices  map[string]string // the id of Stripe's price for a package; default: the price is written into the session
	Now     func() time.Time  // default: time.Now
	Timeout time.Duration     // of a request; default 20 seconds
}

// Payments is Stripe.
type Payments struct {
	opt      Options
	sessions session.Client
}

// New makes the adapter. It refuses an account that would be served without its webhook's secret.
func New(opt Options) (*Payments, error) {
	opt.SecretKey, opt.WebhookSecret = strings.TrimSpace(opt.SecretKey), strings.TrimSpace(opt.WebhookSecret)
	switch {
	case opt.SecretKey == "" || opt.WebhookSecret == "":
		return nil, errors.New("stripe: the secret key and the webhook's secret go together: without the one nothing can be sold, without the other forged events would be believed")
	case opt.SuccessURL == "" || opt.CancelURL == "":
		return nil, errors.New("stripe: the URLs that payers come back to are not set")
	}
	for id := range opt.Prices {
		if _, err := billing.PackageByID(id); err != nil {
			return nil, fmt.Errorf("stripe: there is no package %q to have a price", id)
		}
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Timeout <= 0 {
		opt.Timeout = 20 * time.Second
	}
	cfg := &stripe.BackendConfig{
		HTTPClient:        &http.Client{Timeout: opt.Timeout},
		MaxNetworkRetries: stripe.Int64(2), // with an idempotency key
		LeveledLogger:     &stripe.LeveledLogger{Level: stripe.LevelNull},
		EnableTelemetry:   stripe.Bool(false),
	}
	if opt.APIBase != "" {
		cfg.URL = stripe.String(strings.TrimRight(opt.APIBase, "/"))
	}
	return &Payments{opt: opt, sessions: session.Client{B: stripe.GetBackendWithConfig(stripe.APIBackend, cfg), Key: opt.SecretKey}}, nil
}

// Name implements ports.Payments.
func (p *Payments) Name() string { return "stripe" }

// Begin implements ports.Payments: it makes a checkout session. It does not give credits away.
func (p *Payments) Begin(ctx context.Context, o billing.Order) (billing.Checkout, error) {
	if o.Grant != nil {
		return billing.Checkout{}, billing.NotConfigured()
	}
	item := &stripe.CheckoutSessionLineItemParams{Quantity: stripe.Int64(1)}
	if id := p.opt.Prices[o.Package.ID]; id != "" {
		item.Price = stripe.String(id)
	} else {
		item.PriceData = &stripe.CheckoutSessionLineItemPriceDataParams{
			Currency: stripe.String(o.Package.Price.Currency), UnitAmount: stripe.Int64(o.Package.Price.Amount),
			ProductData: &stripe.CheckoutSessionLineItemPriceDataProductDataParams{
				Name: stripe.String(fmt.Sprintf("%s NEXUS credits (%s)", o.Package.Credits, o.Package.Name)),
			},
		}
	}
	about := map[string]string{metaUser: o.UserID, metaPackage: o.Package.ID, metaPurchase: o.ID}
	params := &stripe.CheckoutSessionParams{
		Mode: stripe.String(string(stripe.CheckoutSessionModePayment)), ClientReferenceID: stripe.String(o.UserID),
		LineItems: []*stripe.CheckoutSessionLineItemParams{item}, SuccessURL: stripe.String(p.opt.SuccessURL), CancelURL: stripe.String(p.opt.CancelURL),
		PaymentIntentData: &stripe.CheckoutSessionPaymentIntentDataParams{Metadata: about},
	}
	params.Context, params.Metadata = ctx, about
	params.SetIdempotencyKey("nexus-checkout-" + o.ID)
	s, err := p.sessions.New(params)
	if err != nil {
		return billing.Checkout{}, p.translate(ctx, err)
	}
	if s.ID == "" || s.URL == "" {
		return billing.Checkout{}, errors.New("stripe: a session without an id or a URL")
	}
	return billing.Checkout{SessionID: s.ID, URL: s.URL}, nil
}

// Keys of the metadata.
const (
	metaUser     = "userId"
	metaPackage  = "packageId"
	metaPurchase = "purchaseId"
)

// translate says what an error of Stripe's means. One that asks for another configuration is the server's own.
func (p *Payments) translate(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var said *stripe.Error
	if errors.As(err, &said) && said.HTTPStatusCode < http.StatusInternalServerError && said.HTTPStatusCode != http.StatusTooManyRequests &&
		said.HTTPStatusCode != http.StatusConflict {
		return fmt.Errorf("stripe: %s: %s (request %s)", said.Type, strings.ReplaceAll(said.Msg, p.opt.SecretKey, "…"), said.RequestID)
	}
	return fmt.Errorf("%w: %w", fault.New(fault.Unavailable, fault.CodeUnavailable, "the payment provider cannot be reached now; try again in a moment"), err)
}

// Read implements ports.Payments.
func (p *Payments) Read(_ context.Context, d ports.Delivery) (billing.Event, error) {
	if err := p.recent(d.Signature); err != nil {
		return billing.Event{}, err
	}
	event, err := webhook.ConstructEventWithOptions(d.Body, d.Signature, p.opt.WebhookSecret, webhook.ConstructEventOptions{
		IgnoreTolerance:          true, // it looks only at the past, and at another clock
		IgnoreAPIVersionMismatch: true, // what is read here is the same in all versions
	})
	switch {
	case errors.Is(err, webhook.ErrNotSigned), errors.Is(err, webhook.ErrInvalidHeader), errors.Is(err, webhook.ErrNoValidSignature):
		return billing.Event{}, badSignature("is not the signature of this body")
	case err != nil:
		return billing.Event{}, malformed
	}
	return translateEvent(event)
}

// recent checks the time that was signed.
func (p *Payments) recent(header string) error {
	at := int64(-1)
	for pair := range strings.SplitSeq(header, ",") {
		text, ok := strings.CutPrefix(pair, "t=")
		if !ok {
			continue
		}
		t, err := strconv.ParseInt(text, 10, 64)
		if err != nil || t < 0 || at >= 0 { // of two it would be unclear which one was signed
			return badSignature("has no time, or several")
		}
		at = t
	}
	if at < 0 {
		return badSignature("has no time, or several")
	}
	if off := p.opt.Now().Unix() - at; off > int64(tolerance.Seconds()) || off < -int64(tolerance.Seconds()) {
		return badSignature("is of another time; is the clock right?")
	}
	return nil
}

func badSignature(what string) error {
	var bad fault.Fields
	bad.Add("Stripe-Signature", "%s", what)
	return bad.Err()
}

var malformed = func() error {
	var bad fault.Fields
	bad.Add("body", "is no event that can be read")
	return bad.Err()
}()

// The parts of Stripe's objects that are read. They are the same in all versions of the API.
type (
	sessionObject struct {
		ID                string            `json:"id"`
		ClientReferenceID string            `json:"client_reference_id"`
		Metadata          map[string]string `json:"metadata"`
		AmountTotal       int64             `json:"amount_total"`
		Currency          string            `json:"currency"`
		PaymentStatus     string            `json:"payment_status"`
		PaymentIntent     reference         `json:"payment_intent"`
	}
	chargeObject struct {
		AmountRefunded int64     `json:"amount_refunded"`
		Currency       string    `json:"currency"`
		PaymentIntent  reference `json:"payment_intent"`
	}
	refundObject struct {
		ID            string    `json:"id"`
		Amount        int64     `json:"amount"`
		Currency      string    `json:"currency"`
		Status        string    `json:"status"`
		PaymentIntent reference `json:"payment_intent"`
	}
	disputeObject struct {
		ID            string    `json:"id"`
		Amount        int64     `json:"amount"`
		Currency      string    `json:"currency"`
		Status        string    `json:"status"`
		PaymentIntent reference `json:"payment_intent"`
	}
)

// reference is another object's id: alone, or in the object itself.
type reference string

// UnmarshalJSON implements json.Unmarshaler.
func (r *reference) UnmarshalJSON(b []byte) error {
	var object struct {
		ID string `json:"id"`
	}
	if len(b) > 0 && b[0] == '{' {
		err := json.Unmarshal(b, &object)
		*r = reference(object.ID)
		return err
	}
	return json.Unmarshal(b, (*string)(r))
}

// translateEvent reduces an event to what matters. An event about something of the account that is not NEXUS's is of no
// kind.
func translateEvent(in stripe.Event) (billing.Event, error) {
	out := billing.Event{ID: in.ID, Provider: "stripe", At: time.Unix(in.Created, 0).UTC()}
	switch in.Type {
	case "checkout.session.completed", "checkout.session.async_payment_succeeded", "checkout.session.async_payment_failed", "checkout.session.expired":
		var s sessionObject
		if err := object(in, &s); err != nil {
			return billing.Event{}, err
		}
		out.SessionID, out.PaymentID, out.Amount = s.ID, string(s.PaymentIntent), billing.Money{Amount: s.AmountTotal, Currency: s.Currency}
		out.PurchaseID, out.PackageID, out.UserID = s.Metadata[metaPurchase], s.Metadata[metaPackage], s.Metadata[metaUser]
		switch {
		case out.PackageID == "":
			return billing.Event{}, nil // sold by someone else
		case out.UserID == "":
			out.UserID = s.ClientReferenceID
		case s.ClientReferenceID != "" && s.ClientReferenceID != out.UserID:
			out.UserID = "" // it is not for us to choose
		}
		switch {
		case in.Type == "checkout.session.async_payment_failed":
			out.Kind = billing.EventFailed
		case in.Type == "checkout.session.expired":
			out.Kind = billing.EventExpired
		case s.PaymentStatus == "unpaid":
			out.Kind = billing.EventWaiting
		default:
			out.Kind = billing.EventPaid
		}
	case "charge.refunded":
		var c chargeObject
		if err := object(in, &c); err != nil {
			return billing.Event{}, err
		}
		out.Kind, out.PaymentID, out.Amount = billing.EventRefunded, string(c.PaymentIntent), billing.Money{Amount: c.AmountRefunded, Currency: c.Currency}
	case "charge.refund.updated", "refund.updated", "refund.failed": // the same, as accounts of different age are told it
		var r refundObject
		if err := object(in, &r); err != nil {
			return billing.Event{}, err
		}
		if r.Status != "failed" && r.Status != "canceled" {
			return billing.Event{}, nil
		}
		out.Kind, out.RefundID, out.PaymentID = billing.EventReturned, r.ID, string(r.PaymentIntent)
		out.Amount = billing.Money{Amount: r.Amount, Currency: r.Currency}
	case "charge.dispute.closed", "charge.dispute.updated", "charge.dispute.funds_reinstated":
		var d disputeObject
		if err := object(in, &d); err != nil {
			return billing.Event{}, err
		}
		switch d.Status {
		case "lost":
			out.Kind = billing.EventLost
		case "won":
			out.Kind = billing.EventWon
		default:
			return billing.Event{}, nil
		}
		out.DisputeID, out.PaymentID = d.ID, string(d.PaymentIntent)
		out.Amount = billing.Money{Amount: d.Amount, Currency: d.Currency}
	}
	if out.Kind == "" || out.Payment() == "" { // a charge without a payment intent was made by someone else
		return billing.Event{}, nil
	}
	return out, out.Check()
}

// object decodes the object that an event is about. It may be missing altogether.
func object(e stripe.Event, into any) error {
	if e.Data == nil || len(e.Data.Raw) == 0 || json.Unmarshal(e.Data.Raw, into) != nil {
		return malformed
	}
	return nil
}
