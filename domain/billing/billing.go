// Package billing is what people pay money for credits: the packages on sale, purchases, and what is heard of their
// payments. It decides what a purchase is owed and what is to be taken back; the ledger moves the credits.
package billing

import (
	"maps"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
)

// Money is an amount of a currency, in its smallest unit.
type Money struct {
	Amount   int64  // cents
	Currency string // ISO 4217 in lower case
}

// Package is an amount of credits with a price.
type Package struct {
	ID      string
	Name    string
	Credits credits.Amount
	Price   Money
}

// Packages lists what is on sale, the smallest first.
func Packages() []Package {
	return []Package{
		{ID: "starter", Name: "Starter", Credits: credits.Whole(1_000), Price: Money{Amount: 10_00, Currency: "usd"}},
		{ID: "pro", Name: "Pro", Credits: credits.Whole(5_000), Price: Money{Amount: 40_00, Currency: "usd"}},
		{ID: "enterprise", Name: "Enterprise", Credits: credits.Whole(25_000), Price: Money{Amount: 150_00, Currency: "usd"}},
	}
}

// PackageByID finds a package on sale. An unknown one is VALIDATION_ERROR.
func PackageByID(id string) (Package, error) {
	var ids []string
	for _, p := range Packages() {
		if p.ID == id {
			return p, nil
		}
		ids = append(ids, p.ID)
	}
	var bad fault.Fields
	bad.Add("packageId", "must be one of %s", strings.Join(ids, ", "))
	return Package{}, bad.Err()
}

// Order is what a provider is asked for.
type Order struct {
	ID      string // of the purchase or the grant; the same order is never asked for twice
	UserID  string // who gets the credits
	Package Package
	Grant   *Grant // set if the credits are given, not sold; Package is then empty
}

// Checkout is a provider's answer to an order.
type Checkout struct {
	SessionID string // the provider's, unique to it; the key of the credit for ever
	URL       string // where the payer goes; "" if nobody needs to
	Settled   bool   // nothing is left to be paid
}

// Status is how far a purchase is.
type Status string

// The states of a purchase.
const (
	Started Status = "started" // the provider may not know of it
	Open    Status = "open"    // the payer is at it
	Waiting Status = "waiting" // the payer is done, the money is not there yet
	Paid    Status = "paid"    // credited
	Failed  Status = "failed"
	Expired Status = "expired"
	Refused Status = "refused" // what was paid is not what it costs; Note says more. For the operator to look at
)

// Purchase is a package that someone buys. It keeps what the package was when it was ordered.
type Purchase struct {
	ID        string
	UserID    string
	PackageID string
	Credits   credits.Amount
	Price     Money
	Provider  string
	SessionID string // "" until the provider has answered
	PaymentID string // "" until it is paid for
	Status    Status
	Reversed  credits.Amount // taken back so far
	Reversals int            // in so many steps
	Note      string
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Start begins a purchase.
func Start(id, userID string, p Package, provider string, at time.Time) Purchase {
	return Purchase{
		ID: id, UserID: userID, PackageID: p.ID, Credits: p.Credits, Price: p.Price, Provider: provider, Status: Started, CreatedAt: at, UpdatedAt: at,
	}
}

// Opened notes the provider's checkout. What has become of it since stays.
func (p Purchase) Opened(c Checkout, at time.Time) Purchase {
	if p.SessionID == "" {
		p.SessionID = c.SessionID
	}
	if p.Status == Started {
		p.Status = Open
	}
	p.UpdatedAt = at
	return p
}

// Kind is what an event tells.
type Kind string

// The kinds of event. The empty one tells nothing that matters here.
const (
	EventPaid     Kind = "paid"     // the money of a session is there
	EventWaiting  Kind = "waiting"  // the payer is done, the money comes later
	EventFailed   Kind = "failed"   // the money will not come
	EventExpired  Kind = "expired"  // the payer did not come
	EventRefunded Kind = "refunded" // Amount is all that was paid back of the payment so far
	EventReturned Kind = "returned" // the refund RefundID, of Amount, did not come about: the money is back
	EventLost     Kind = "lost"     // Amount was lost to the payer in the dispute DisputeID
	EventWon      Kind = "won"      // the dispute DisputeID was won, perhaps after it was lost: the money is back
)

// Outcome is what came of an event.
type Outcome string

// The outcomes.
const (
	Noted    Outcome = "noted"    // it changed nothing that was booked
	Credited Outcome = "credited" // the credits were booked
	Reversed Outcome = "reversed" // credits were taken back
	Returned Outcome = "returned" // credits that had been taken back were booked again
	Rejected Outcome = "refused"  // what was paid is not credited, for the operator to look at
)

// Outcomes lists all outcomes.
func Outcomes() []Outcome { return []Outcome{Noted, Credited, Reversed, Returned, Rejected} }

// Event is what a provider told of a payment, reduced to what is needed: no card, no address, no e-mail.
type Event struct {
	ID         string // unique for the provider
	Provider   string
	Kind       Kind
	SessionID  string // of a checkout; "" for a refund or a dispute
	PaymentID  string
	DisputeID  string
	RefundID   string
	PurchaseID string // what the order said, as far as the provider gave it back
	UserID     string
	PackageID  string
	Amount     Money
	At         time.Time // when it happened, by the provider's clock
}

// maxEventText bounds each text of an event.
const maxEventText = 255

// Check refuses an event that cannot be kept.
func (e Event) Check() error {
	var bad fault.Fields
	bad.Check(e.ID != "" && e.Kind != "" && e.Provider != "", "event", "has no id or no kind")
	for _, text := range []string{e.ID, e.SessionID, e.PaymentID, e.DisputeID, e.RefundID, e.PurchaseID, e.UserID, e.PackageID, e.Amount.Currency} {
		if len(text) > maxEventText || strings.ContainsRune(text, 0) {
			bad.Add("event", "has an id longer than %d characters", maxEventText)
			break
		}
	}
	bad.Check(e.SessionID != "" || e.PaymentID != "", "event", "names neither a session nor a payment")
	bad.Check(e.Amount.Amount >= 0, "event", "has a negative amount")
	return bad.Err()
}

// Payment names the payment that an event is about. A session without one is its own.
func (e Event) Payment() string {
	if e.PaymentID != "" {
		return e.PaymentID
	}
	return e.SessionID
}

// Told is an amount that was told, and when that was so by the provider's clock.
type Told struct {
	Amount int64
	At     time.Time
}

// Payment is what is known of what went back of a payment: the newest word on each thing. So neither the order matters in
// which it is told, nor how often.
type Payment struct {
	ID       string
	Currency string          // "" while nothing went back
	Refunded Told            // all that was paid back, without what had come back of it by then
	Returned map[string]Told // refunds that did not come about, by refund
	Lost     map[string]Told // by dispute; 0 of one that was won
}

// About reports whether the event tells of money that went back, or came again.
func (e Event) About() bool {
	switch e.Kind {
	case EventRefunded, EventReturned, EventLost, EventWon:
		return true
	case EventPaid, EventWaiting, EventFailed, EventExpired:
	}
	return false
}

// Hear returns the payment with what the event tells of it. Events in another currency than the first are not counted.
func (p Payment) Hear(e Event) Payment {
	if !e.About() || p.Currency != "" && p.Currency != e.Amount.Currency {
		return p
	}
	p.Currency = e.Amount.Currency
	told := Told{e.Amount.Amount, e.At}
	switch e.Kind {
	case EventRefunded:
		if p.Refunded.At.Before(told.At) || p.Refunded.At.Equal(told.At) && p.Refunded.Amount < told.Amount {
			p.Refunded = told
		}
	case EventReturned: // for good: the first word counts, as later ones say the same
		p.Returned = with(p.Returned, e.RefundID, told, func(known Told) bool {
			return told.At.Before(known.At) || told.At.Equal(known.At) && told.Amount > known.Amount
		})
	case EventLost, EventWon:
		if e.Kind == EventWon {
			told.Amount = 0
		}
		p.Lost = with(p.Lost, e.DisputeID, told, func(known Told) bool {
			return known.At.Before(told.At) || known.At.Equal(told.At) && told.Amount < known.Amount
		})
	case EventPaid, EventWaiting, EventFailed, EventExpired:
	}
	return p
}

// with is a copy of what is known with one more word on a thing, if there is none yet or it is better.
func with(known map[string]Told, id string, told Told, better func(Told) bool) map[string]Told {
	if old, ok := known[id]; ok && !better(old) {
		return known
	}
	out := maps.Clone(known)
	if out == nil {
		out = map[string]Told{}
	}
	out[id] = told
	return out
}

// Settle returns the purchase after an event about its session. credit says that its credits are to be booked now.
func (p Purchase) Settle(e Event, at time.Time) (next Purchase, credit bool) {
	if p.Status == Paid || p.SessionID != "" && p.SessionID != e.SessionID {
		return p, false
	}
	p.SessionID, p.UpdatedAt = e.SessionID, at
	switch e.Kind {
	case EventPaid:
		p.PaymentID = e.Payment()
		if p.Note = p.mismatch(e); p.Note != "" {
			p.Status = Refused
			return p, false
		}
		p.Status = Paid
		return p, true
	case EventWaiting:
		if p.Status == Started || p.Status == Open {
			p.Status = Waiting
		}
	case EventFailed:
		if p.Status != Refused {
			p.Status = Failed
		}
	case EventExpired:
		if p.Status == Started || p.Status == Open {
			p.Status = Expired
		}
	case EventRefunded, EventReturned, EventLost, EventWon:
	}
	return p, false
}

// mismatch says what of a payment is not as the purchase has it.
func (p Purchase) mismatch(e Event) string {
	switch {
	case e.Amount != p.Price:
		return "the amount or the currency is not the package's price"
	case e.UserID != p.UserID:
		return "the payment is for another user"
	case e.PackageID != p.PackageID:
		return "the payment is for another package"
	default:
		return ""
	}
}

// Restore makes the purchase that an event's session must have had, from what the order said. ok is false if that names no
// user or no package on sale.
func Restore(id string, e Event, at time.Time) (p Purchase, ok bool) {
	pack, err := PackageByID(e.PackageID)
	if err != nil || e.UserID == "" {
		return Purchase{}, false
	}
	p = Start(id, e.UserID, pack, e.Provider, at)
	p.SessionID = e.SessionID
	return p, true
}

// Back is how many of its credits a paid purchase has to give back in all, by what went back of its payment: the same
// share, rounded half up to a hundredth, and all of them when all of the money went back.
func (p Purchase) Back(pay Payment) credits.Amount {
	if p.Status != Paid || pay.Currency != p.Price.Currency || p.Price.Amount <= 0 {
		return 0
	}
	back := min(pay.Refunded.Amount, p.Price.Amount)
	for _, returned := range pay.Returned {
		if !returned.At.Before(pay.Refunded.At) { // else the sum is without it
			back -= min(returned.Amount, back)
		}
	}
	for _, lost := range pay.Lost {
		back += min(lost.Amount, p.Price.Amount-back)
	}
	whole, rest := int64(p.Credits)/p.Price.Amount, int64(p.Credits)%p.Price.Amount // split so that no product is large
	return credits.Amount(whole*back + (rest*back+p.Price.Amount/2)/p.Price.Amount)
}

// Reverse returns the purchase after its payment was known as before and is now. What was taken back is what has to be, and
// never less than the events account for: more, where they were forgotten, goes down only by what came again.
func (p Purchase) Reverse(before, now Payment, at time.Time) Purchase {
	was, is := p.Back(before), p.Back(now)
	target := max(p.Reversed, is)
	if is < was {
		target = max(p.Reversed-(was-is), 0)
	}
	if target != p.Reversed {
		p.Reversed, p.Reversals, p.UpdatedAt = target, p.Reversals+1, at
	}
	return p
}

// Bounds of a grant.
const (
	MaxGrant  = 1_000_000 * credits.Credit
	MaxReason = 500
)

// Grant is credits that an admin gives a user, and why.
type Grant struct {
	ID      string
	UserID  string // who gets them
	ByID    string // the admin
	Credits credits.Amount
	Reason  string
	At      time.Time
}

// Check refuses a grant that is out of bounds or has no reason, with all that is wrong.
func (g Grant) Check() error {
	var bad fault.Fields
	bad.Check(g.UserID != "", "userId", "must name the user who gets the credits")
	bad.Check(g.Credits > 0 && g.Credits <= MaxGrant, "amount", "must be above 0 and at most %s", MaxGrant)
	n := len([]rune(strings.TrimSpace(g.Reason)))
	bad.Check(n >= 1 && n <= MaxReason, "reason", "must say why, in 1 to %d characters", MaxReason)
	return bad.Err()
}

// NotConfigured is the fault of a server that takes no payments.
func NotConfigured() *fault.Error {
	return fault.New(fault.Unavailable, fault.CodePaymentsUnset, "this server takes no payments; ask its operator for credits")
}
