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
	// AccountTotal is the sum of all entries of an account.
	AccountTotal(ctx context.Context, a ledger.Account) (credits.Amount, error)
	// Imbalance is the sum of all entries there are. It is 0, or something is very wrong.
	Imbalance(ctx context.Context) (credits.Amount, error)
}

// LedgerStore books transfers.
type LedgerStore interface {
	LedgerReader
	// Post books a transfer: relative changes of the balances in the order of Deltas, and the entries. A transfer that
	// does not balance is refused; a key that was booked before is ErrDuplicate; a balance that would fall below zero is
	// INSUFFICIENT_CREDITS with what is required of it and available in it. After an error the transaction must be given up.
	Post(ctx context.Context, t ledger.Transfer) error
}

// EarningsReader adds up what agents earned.
type EarningsReader interface {
	// EarnedByAgent returns what each of a user's agents brought in (task_credit), deleted ones too. Agents without any are
	// left out.
	EarnedByAgent(ctx context.Context, ownerUserID string) (map[string]credits.Amount, error)
}
