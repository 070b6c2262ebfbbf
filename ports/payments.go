package ports

import (
	"context"
	"time"

	"github.com/nexus-protocol/nexus/domain/billing"
	"github.com/nexus-protocol/nexus/domain/ledger"
)

// Payments is a way in which credits are paid for.
type Payments interface {
	// Name tells it apart from others; it is kept with what came of it, and never changes.
	Name() string
	// Begin asks for what an order costs. For an order that it was asked for before it answers with the same session. A
	// provider that cannot be reached is UNAVAILABLE, one that does not take such orders PAYMENTS_NOT_CONFIGURED.
	Begin(ctx context.Context, o billing.Order) (billing.Checkout, error)
	// Read makes sure that a delivery is the provider's own and recent, and says what it tells. Of what does not matter
	// here the Kind is empty. A delivery that is not the provider's, is older than five minutes or comes from later than
	// that, or makes no sense, is VALIDATION_ERROR; that none is taken at all is PAYMENTS_NOT_CONFIGURED.
	Read(ctx context.Context, d Delivery) (billing.Event, error)
}

// Delivery is what came to the place where a provider tells of payments.
type Delivery struct {
	Body      []byte
	Signature string // as its header had it
}

// PurchaseReader finds purchases. One that is not there is NOT_FOUND.
type PurchaseReader interface {
	Get(ctx context.Context, id string) (billing.Purchase, error)
	// ListByUser returns a user's purchases, newest first, and how many there are.
	ListByUser(ctx context.Context, userID string, p Page) ([]billing.Purchase, int, error)
}

// PurchaseStore changes purchases.
type PurchaseStore interface {
	PurchaseReader
	// Insert adds a purchase. A second one with its id or its session is ErrDuplicate.
	Insert(ctx context.Context, p billing.Purchase) error
	// Lock is Get, and keeps the purchase from changing.
	Lock(ctx context.Context, id string) (billing.Purchase, error)
	// BySession finds the id of the purchase that has the session; "" if there is none.
	BySession(ctx context.Context, sessionID string) (id string, err error)
	// ByPayment finds the id of the purchase that was paid for so; "" if there is none.
	ByPayment(ctx context.Context, paymentID string) (id string, err error)
	// Save writes SessionID, PaymentID, Status, Reversed, Reversals, Note and UpdatedAt of a purchase that the transaction has locked.
	Save(ctx context.Context, p billing.Purchase) error
}

// KeptEvent is an event as it was kept.
type KeptEvent struct {
	billing.Event
	Key        string // Provider and ID
	ReceivedAt time.Time
	Outcome    string // what came of it; "" while nothing did
}

// PaymentStore keeps what providers told, and what is known of payments from that.
type PaymentStore interface {
	// AddEvent keeps an event. added is false if it is there already; nothing changes then.
	AddEvent(ctx context.Context, e KeptEvent) (added bool, err error)
	// Event returns an event. One that is not there is NOT_FOUND.
	Event(ctx context.Context, key string) (KeptEvent, error)
	// EndEvent notes what came of an event.
	EndEvent(ctx context.Context, key, outcome string) error
	// Lock returns a payment and keeps it from changing, even if nothing is known of it yet. Of the rows of a unit of work
	// it is locked before purchases.
	Lock(ctx context.Context, paymentID string) (billing.Payment, error)
	// Save writes a payment that the transaction has locked.
	Save(ctx context.Context, p billing.Payment) error
}

// GrantReader reads the grants.
type GrantReader interface {
	// List returns the grants, newest first, and how many there are. userID "" means all users'.
	List(ctx context.Context, userID string, p Page) ([]billing.Grant, int, error)
}

// GrantStore keeps grants. What is kept is never changed.
type GrantStore interface {
	GrantReader
	// Insert adds a grant. A second one with its id is ErrDuplicate.
	Insert(ctx context.Context, g billing.Grant) error
}

// UsageReader finds where sums are worth their while.
type UsageReader interface {
	// Busy looks at the entries of the ledger after the place that was noted last, limit of them at most. It returns the
	// users who spent or earned at least so often there, and the place up to which it looked; more says that there may be
	// entries beyond.
	Busy(ctx context.Context, limit, often int) (userIDs []string, upTo int64, more bool, err error)
	// Loose is how many of a user's entries are not summed yet; it counts to most and no further.
	Loose(ctx context.Context, userID string, most int) (int, error)
}

// UsageStore keeps the sums of days, so that a report need not add up every entry there ever was. They follow from the
// entries: what is not summed yet is added up when it is asked for, and the report is exact at any moment.
type UsageStore interface {
	UsageReader
	// Fold sums up a user's entries that are not summed yet, at most so many of them, and returns whether there may be more.
	Fold(ctx context.Context, userID string, most int) (more bool, err error)
	// Note remembers a place that Busy looked up to.
	Note(ctx context.Context, upTo int64) error
}

// StatementReader reads a user's transactions from end to end.
type StatementReader interface {
	// Before returns entries of the user's available account, newest first, limit of them at most: those before a place, or
	// the newest if it is 0. typ "" means all types. next is the place of the last one, to go on from. Whoever goes on so gets
	// each entry once that there was when it began, and none that came later.
	Before(ctx context.Context, userID string, typ ledger.EntryType, place int64, limit int) (entries []ledger.Entry, next int64, err error)
}
