package ports

import (
	"context"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/ledger"
)

// LedgerReader reads the credits.
type LedgerReader interface {
	// Balance is a user's money. A user without entries has a zero balance.
	Balance(ctx context.Context, userID string) (ledger.Balance, error)
	// Transactions returns the entries of a user's available account, newest first (by the order of booking), and how
	// many there are in all. typ "" means all types.
	Transactions(ctx context.Context, userID string, typ ledger.EntryType, page Page) ([]ledger.Entry, int, error)
	// Usage returns what a user spent (task_debit, as a positive amount) and earned (task_credit) on each UTC day from
	// the given one (2006-01-02) on, oldest first. Days without entries are left out.
	Usage(ctx context.Context, userID, fromDay string) ([]ledger.Day, error)
	// AccountTotal is the sum of all entries of an account. For the platform's own it takes no longer the more of them are
	// sealed.
	AccountTotal(ctx context.Context, a ledger.Account) (credits.Amount, error)
	// Imbalance is the sum of all entries there are. It is 0, or something is very wrong.
	Imbalance(ctx context.Context) (credits.Amount, error)
}

// LedgerStore books transfers.
type LedgerStore interface {
	LedgerReader
	// Post books a transfer: relative changes of the balances in the order of Deltas, and the entries. A transfer that is
	// not valid is refused; a key that was booked before is ErrDuplicate; a balance that does not cover what is taken, in
	// the sense of Balance.Apply, is INSUFFICIENT_CREDITS with what is required of it and available in it. After an error
	// the transaction must be given up.
	Post(ctx context.Context, t ledger.Transfer) error
	// Seal adds the seal that follows the newest one. A number that there is already is ErrDuplicate.
	Seal(ctx context.Context, s ledger.Seal) error
}

// LedgerAudit reads the ledger as a whole, in the order of booking: to seal it, and to hold it against itself.
type LedgerAudit interface {
	// LastSeal is the newest seal, without its marks; the zero value where there is none.
	LastSeal(ctx context.Context) (ledger.Seal, error)
	// Settled returns a place in the order of booking up to which no entry appears any more that is not there now. It may
	// wait for a moment, and be behind.
	Settled(ctx context.Context) (seq int64, err error)
	// Entries returns entries in the order of booking, those behind after and up to the place to, at most limit.
	Entries(ctx context.Context, after, to int64, limit int) ([]ledger.Booked, error)
	// Snapshot runs fn with the ledger as it is committed at one moment, while others go on writing. fn may run twice.
	Snapshot(ctx context.Context, fn func(ctx context.Context, s LedgerSnapshot) error) error
}

// LedgerSnapshot is a ledger of one moment. It is for one goroutine.
type LedgerSnapshot interface {
	// Entries returns at most limit entries behind after, in the order of booking.
	Entries(ctx context.Context, after int64, limit int) ([]ledger.Booked, error)
	// Seals returns at most limit seals behind number after, in their order.
	Seals(ctx context.Context, after int64, limit int) ([]ledger.Seal, error)
	// Balances returns at most limit of the balances that are kept, of users behind after, by user id.
	Balances(ctx context.Context, after string, limit int) ([]ledger.Balance, error)
	// OpenHolds returns what is to be held for open tasks, of tasks behind after, by task id; titles are left out.
	OpenHolds(ctx context.Context, after string, limit int) ([]ledger.Hold, error)
	// EmptyTransfers returns the ids of at most limit transfers without entries.
	EmptyTransfers(ctx context.Context, limit int) ([]string, error)
}

// EarningsReader adds up what agents earned.
type EarningsReader interface {
	// EarnedByAgent returns what each of a user's agents brought in (task_credit), deleted ones too. Agents without any are
	// left out.
	EarnedByAgent(ctx context.Context, ownerUserID string) (map[string]credits.Amount, error)
}
