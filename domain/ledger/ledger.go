// Package ledger keeps the credits: accounts, and transfers of balanced postings between them. It decides what a
// transfer is; a store only adds it up. Nothing is ever changed or deleted, a mistake is mended by an opposite transfer.
package ledger

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
)

// FeePoints is the platform's share of what an agent earns, in basis points: 5 %.
const FeePoints = 500

// InitialGrant is what a new user starts with.
const InitialGrant = 1_000 * credits.Credit

// Account names one account. A user has two, what can be spent and what is held for open tasks; the platform has one
// for each purpose.
type Account string

// The platform's own accounts. They have no floor and no balance that is kept, so that nobody waits for them: what is in
// them is what their entries add up to. Credits come out of issuance and clearing, so these are negative.
const (
	Fees     Account = "platform:fees"     // what the platform took
	Issuance Account = "platform:issuance" // what it gave away
	Clearing Account = "platform:clearing" // what was bought through a payment provider
)

// known reports whether it is an account that there can be.
func (a Account) known() bool {
	switch a {
	case Fees, Issuance, Clearing:
		return true
	}
	id, _, ok := a.User()
	return ok && id != ""
}

// Available is the account of what a user can spend now.
func Available(userID string) Account { return Account("user:" + userID + ":available") }

// Held is the account of what a user has set aside for open tasks.
func Held(userID string) Account { return Account("user:" + userID + ":held") }

// User returns whose account it is. ok is false for the platform's own.
func (a Account) User() (userID string, available, ok bool) {
	rest, isUser := strings.CutPrefix(string(a), "user:")
	if !isUser {
		return "", false, false
	}
	if id, yes := strings.CutSuffix(rest, ":available"); yes {
		return id, true, true
	}
	if id, yes := strings.CutSuffix(rest, ":held"); yes {
		return id, false, true
	}
	return "", false, false
}

// EntryType says what a posting is for. The postings to a user's available account, with these types, are the
// transactions that the user sees; their amounts add up to the balance.
type EntryType string

// The types of entry.
const (
	TypeInitialGrant EntryType = "initial_grant"
	TypePurchase     EntryType = "purchase"
	TypeTaskDebit    EntryType = "task_debit"
	TypeTaskCredit   EntryType = "task_credit"
	TypePlatformFee  EntryType = "platform_fee"
	TypeRefund       EntryType = "refund"
	TypeHold         EntryType = "hold"
	TypeRelease      EntryType = "release"
	TypeReversal     EntryType = "reversal"
)

// EntryTypes lists all types.
func EntryTypes() []EntryType {
	return []EntryType{
		TypeInitialGrant, TypePurchase, TypeTaskDebit, TypeTaskCredit, TypePlatformFee, TypeRefund, TypeHold, TypeRelease, TypeReversal,
	}
}

// Posting adds Amount (negative: takes it) to an account.
type Posting struct {
	ID      string // the entry's id, given by Stamp
	Account Account
	Type    EntryType
	Amount  credits.Amount
}

// Transfer is a set of postings that is booked whole or not at all, and once: a store refuses a second one of the
// same key.
type Transfer struct {
	ID          string
	Key         string // idempotency key, such as settle:<task>
	Reference   string // what it is for: a task's or a purchase's id
	Description string
	At          time.Time
	Postings    []Posting
}

// Stamp gives the transfer and each posting an id. Ids must sort in the order they are drawn.
func (t Transfer) Stamp(newID func() string) Transfer {
	t.ID = newID()
	t.Postings = slices.Clone(t.Postings)
	for i := range t.Postings {
		t.Postings[i].ID = newID()
	}
	return t
}

// Validate refuses a transfer that does not balance, moves nothing, names an account that there cannot be, lacks its key
// or an id, or moves so much that no sum of its amounts is sure to fit.
func (t Transfer) Validate() error {
	if t.ID == "" || t.Key == "" || len(t.Postings) < 2 {
		return fault.New(fault.Internal, fault.CodeInternal, "a transfer needs an id, a key and two postings")
	}
	var in, out credits.Amount
	for _, p := range t.Postings {
		if p.ID == "" || p.Amount == 0 || p.Type == "" || !p.Account.known() {
			return fault.New(fault.Internal, fault.CodeInternal, "posting without id, account, type or amount in transfer %s", t.Key)
		}
		side := &in
		if p.Amount < 0 {
			side = &out
		}
		var err error
		if *side, err = side.Add(p.Amount); err != nil {
			return fault.New(fault.Internal, fault.CodeInternal, "transfer %s: %v", t.Key, err)
		}
	}
	if sum := in + out; sum != 0 {
		return fault.New(fault.Internal, fault.CodeInternal, "transfer %s does not balance: off by %s", t.Key, sum)
	}
	return nil
}

// Balance is one user's money. The identity
//
//	Granted + Purchased + Earned - Spent - Held - Reversed = Available
//
// holds after every transfer. Available is below zero when what was reversed had been spent already: that is the user's
// debt. While there is one nothing can be held or spent, and whatever comes in pays it first.
type Balance struct {
	UserID    string
	Available credits.Amount
	Held      credits.Amount
	Granted   credits.Amount
	Purchased credits.Amount
	Earned    credits.Amount
	Spent     credits.Amount
	Reversed  credits.Amount
}

// Debt is what the user owes, as a positive amount; 0 if nothing.
func (b Balance) Debt() credits.Amount { return max(0, -b.Available) }

// Consistent reports whether the identity above holds, nothing is below zero that must not be, and no more is owed than
// was reversed.
func (b Balance) Consistent() bool {
	return b.Granted+b.Purchased+b.Earned-b.Spent-b.Held-b.Reversed == b.Available && b.Held >= 0 && b.Debt() <= max(0, b.Reversed)
}

// Deltas adds up, for each user that the transfer touches, what changes in that user's balance; in order of user id,
// which is the order in which stores take their locks. The transfer must be a valid one.
func (t Transfer) Deltas() []Balance {
	byUser := map[string]*Balance{}
	for _, p := range t.Postings {
		id, available, ok := p.Account.User()
		if !ok {
			continue
		}
		d := byUser[id]
		if d == nil {
			d = &Balance{UserID: id}
			byUser[id] = d
		}
		d.add(p.Type, available, p.Amount)
	}
	out := make([]Balance, 0, len(byUser))
	for _, d := range byUser {
		out = append(out, *d)
	}
	slices.SortFunc(out, func(a, b Balance) int { return strings.Compare(a.UserID, b.UserID) })
	return out
}

// add counts a posting in.
func (b *Balance) add(typ EntryType, available bool, n credits.Amount) {
	if !available {
		b.Held += n
		return
	}
	b.Available += n
	switch typ {
	case TypeInitialGrant:
		b.Granted += n
	case TypePurchase:
		b.Purchased += n
	case TypeTaskCredit, TypePlatformFee:
		b.Earned += n
	case TypeTaskDebit, TypeRefund:
		b.Spent -= n
	case TypeReversal:
		b.Reversed -= n
	case TypeHold, TypeRelease: // between the user's own two accounts
	}
}

// Forced reports whether a delta applies to any available balance, because it takes nothing, or nothing that is not
// reversed. Any other applies only where the available balance covers it. What is held must always cover what is taken.
func (b Balance) Forced() bool { return b.Available >= 0 || b.Reversed >= -b.Available }

// Apply returns the balance after a delta. Where it does not cover what the delta takes the error is INSUFFICIENT_CREDITS,
// and where a sum does not fit, credits.ErrRange.
func (b Balance) Apply(d Balance) (Balance, error) {
	next := b
	for _, f := range []struct {
		to *credits.Amount
		n  credits.Amount
	}{
		{&next.Available, d.Available},
		{&next.Held, d.Held},
		{&next.Granted, d.Granted},
		{&next.Purchased, d.Purchased},
		{&next.Earned, d.Earned},
		{&next.Spent, d.Spent},
		{&next.Reversed, d.Reversed},
	} {
		var err error
		if *f.to, err = f.to.Add(f.n); err != nil {
			return b, fmt.Errorf("balance of %s: %w", b.UserID, err)
		}
	}
	if err := b.covers(d, next); err != nil {
		return b, err
	}
	if !next.Consistent() {
		return b, fault.New(fault.Internal, fault.CodeInternal, "the balance of %s would not add up", b.UserID)
	}
	return next, nil
}

func (b Balance) covers(d, next Balance) error {
	switch {
	case next.Available < 0 && !d.Forced():
		return Insufficient(-d.Available, b.Available)
	case next.Held < 0:
		return Insufficient(-d.Held, b.Held)
	}
	return nil
}

// Insufficient is the fault of a user whose available balance is below what is required.
func Insufficient(required, available credits.Amount) *fault.Error {
	if available < 0 {
		return fault.New(fault.Payment, fault.CodeInsufficientCredits,
			"%s credits are needed, and %s are owed since a purchase that had been spent was taken back; buy credits or earn them", required, -available).
			With("required", required).With("available", available).With("debt", -available)
	}
	return fault.New(fault.Payment, fault.CodeInsufficientCredits,
		"%s credits are needed and %s are available; buy credits or choose a cheaper agent", required, available).
		With("required", required).With("available", available)
}

// Entry is a posting as it was booked.
type Entry struct {
	ID           string
	TransferID   string
	Account      Account
	UserID       string // "" for the platform's own accounts
	Type         EntryType
	Amount       credits.Amount
	BalanceAfter credits.Amount // of a user's available account; zero elsewhere
	Reference    string
	Description  string
	At           time.Time
}

// Entries turns a transfer into entries. after is each user's available balance once the whole transfer is booked;
// the running balance of each entry is worked back from it, in order of booking. after is used up.
func (t Transfer) Entries(after map[string]credits.Amount) []Entry {
	out := make([]Entry, len(t.Postings))
	for i := len(t.Postings) - 1; i >= 0; i-- {
		p := t.Postings[i]
		e := Entry{
			ID: p.ID, TransferID: t.ID, Account: p.Account, Type: p.Type, Amount: p.Amount,
			Reference: t.Reference, Description: t.Description, At: t.At,
		}
		if id, available, ok := p.Account.User(); ok {
			e.UserID = id
			if available {
				e.BalanceAfter = after[id]
				after[id] -= p.Amount
			}
		}
		out[i] = e
	}
	return out
}
