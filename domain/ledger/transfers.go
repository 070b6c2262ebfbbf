package ledger

import (
	"strconv"
	"time"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
)

// Grant gives a new user the initial credits.
func Grant(userID string, at time.Time) Transfer {
	return between(Issuance, Available(userID), TypeInitialGrant, InitialGrant, Transfer{
		Key: "grant:" + userID, Reference: userID, Description: "Initial credits", At: at,
	})
}

func between(from, to Account, typ EntryType, n credits.Amount, t Transfer) Transfer {
	t.Postings = []Posting{{Account: from, Type: typ, Amount: -n}, {Account: to, Type: typ, Amount: n}}
	return t
}

// Issue is credits that come to a user from outside the market: bought, or given by hand.
type Issue struct {
	ID          string // what is credited once: the checkout session's id, or the gift's
	UserID      string
	Amount      credits.Amount // positive
	Given       bool           // by an administrator, who pays nothing: out of Issuance, as a grant. Else bought, out of Clearing
	Description string         // for the statement, such as "1,000 credits (starter)"
}

func (i Issue) source() (Account, EntryType, string) {
	if i.Given {
		return Issuance, TypeInitialGrant, "gift:"
	}
	return Clearing, TypePurchase, "purchase:"
}

// Credit books it, under a key that its ID gives, so once for ever. What the user owes is paid by it first.
func (i Issue) Credit(at time.Time) (Transfer, error) {
	from, typ, key := i.source()
	if i.ID == "" || i.UserID == "" || i.Amount <= 0 {
		return Transfer{}, fault.New(fault.Internal, fault.CodeInternal, "credits need an id, a user and a positive amount")
	}
	return between(from, Available(i.UserID), typ, i.Amount, Transfer{
		Key: key + i.ID, Reference: i.ID, Description: i.Description, At: at,
	}), nil
}

// Reverse takes back what the difference is between what was taken back before and what is to be taken back in all now,
// both from 0 to the whole amount; a smaller sum than before, after a dispute that was won, gives back. What the user has
// spent already becomes a debt. step numbers the changes of one Issue, from 1 on: each is booked once. Whoever calls must
// have the Issue locked, so that before and step are true. There must be a difference.
func (i Issue) Reverse(before, now credits.Amount, step int, at time.Time) (Transfer, error) {
	from, _, key := i.source()
	if i.ID == "" || i.UserID == "" || before == now || min(before, now) < 0 || max(before, now) > i.Amount {
		return Transfer{}, fault.New(fault.Internal, fault.CodeInternal, "cannot reverse %s of %s's %s after %s", now, i.ID, i.Amount, before)
	}
	words := "Reversed: "
	if now < before {
		words = "Reversal taken back: "
	}
	return between(Available(i.UserID), from, TypeReversal, now-before, Transfer{
		Key: "reversal:" + key + i.ID + ":" + strconv.Itoa(step), Reference: i.ID, Description: words + i.Description, At: at,
	}), nil
}

// Hold is money set aside for one task, until it is captured or released.
type Hold struct {
	TaskID string
	UserID string // who pays
	Amount credits.Amount
	Title  string // the task's, for the statement
}

// Place sets the amount aside. The amount must be positive.
func (h Hold) Place(at time.Time) (Transfer, error) {
	if h.Amount <= 0 {
		return Transfer{}, fault.New(fault.Internal, fault.CodeInternal, "a hold must be positive, got %s", h.Amount)
	}
	return Transfer{
		Key: "hold:" + h.TaskID, Reference: h.TaskID, Description: "Held for task: " + h.Title, At: at,
		Postings: []Posting{
			{Account: Available(h.UserID), Type: TypeHold, Amount: -h.Amount},
			{Account: Held(h.UserID), Type: TypeHold, Amount: h.Amount},
		},
	}, nil
}

// settleKey is shared by capture and release, so that a task can be settled once, one way or the other.
func (h Hold) settleKey() string { return "settle:" + h.TaskID }

// Fee splits a price that is not below zero: the platform's part is rounded half up to a hundredth and the earning is the
// rest, so that fee + earning = price, always.
func Fee(price credits.Amount) (fee, earning credits.Amount, err error) {
	fee, err = price.BasisPoints(FeePoints)
	return fee, price - fee, err
}

// Capture pays the owner out of the hold, in full.
func (h Hold) Capture(ownerUserID string, at time.Time) (Transfer, error) {
	return h.CapturePart(h.Amount, ownerUserID, at)
}

// CapturePart pays the owner a part of the hold, more than nothing and at most all of it, and gives the rest back.
func (h Hold) CapturePart(price credits.Amount, ownerUserID string, at time.Time) (Transfer, error) {
	if price <= 0 || price > h.Amount {
		return Transfer{}, fault.New(fault.Internal, fault.CodeInternal, "cannot capture %s of the %s held for task %s", price, h.Amount, h.TaskID)
	}
	fee, earning, err := Fee(price)
	if err != nil {
		return Transfer{}, fault.New(fault.Internal, fault.CodeInternal, "fee of task %s: %v", h.TaskID, err)
	}
	t := Transfer{
		Key: h.settleKey(), Reference: h.TaskID, Description: "Task: " + h.Title, At: at,
		Postings: []Posting{
			{Account: Held(h.UserID), Type: TypeRelease, Amount: -h.Amount},
			{Account: Available(h.UserID), Type: TypeRelease, Amount: h.Amount},
			{Account: Available(h.UserID), Type: TypeTaskDebit, Amount: -price},
		},
	}
	if earning > 0 {
		t.Postings = append(t.Postings, Posting{Account: Available(ownerUserID), Type: TypeTaskCredit, Amount: earning})
	}
	if fee > 0 {
		t.Postings = append(t.Postings, Posting{Account: Fees, Type: TypePlatformFee, Amount: fee})
	}
	return t, nil
}

// Refund takes back what was captured for a task, once: the payer gets the price, the owner gives the earning back, as a
// debt if it is spent, and the platform its fee.
func (h Hold) Refund(captured credits.Amount, ownerUserID string, at time.Time) (Transfer, error) {
	paid, err := h.CapturePart(captured, ownerUserID, at)
	if err != nil {
		return Transfer{}, err
	}
	t := Transfer{Key: "refund:" + h.TaskID, Reference: h.TaskID, Description: "Refunded: " + h.Title, At: at}
	for _, p := range paid.Postings {
		p.Amount = -p.Amount
		switch p.Type {
		case TypeTaskDebit:
			p.Type = TypeRefund
		case TypeTaskCredit:
			p.Type = TypeReversal
		case TypePlatformFee:
		default:
			continue
		}
		t.Postings = append(t.Postings, p)
	}
	return t, nil
}

// Release gives the whole hold back.
func (h Hold) Release(at time.Time) Transfer {
	return Transfer{
		Key: h.settleKey(), Reference: h.TaskID, Description: "Released: " + h.Title, At: at,
		Postings: []Posting{
			{Account: Held(h.UserID), Type: TypeRelease, Amount: -h.Amount},
			{Account: Available(h.UserID), Type: TypeRelease, Amount: h.Amount},
		},
	}
}

// Periods of the usage report, in days.
var periods = map[string]int{"7d": 7, "30d": 30, "90d": 90}

// PeriodDays returns the number of days of a usage period; ok is false for an unknown one.
func PeriodDays(period string) (days int, ok bool) {
	days, ok = periods[period]
	return days, ok
}

// Day is one UTC day of usage.
type Day struct {
	Date   string // 2006-01-02
	Spent  credits.Amount
	Earned credits.Amount
}
