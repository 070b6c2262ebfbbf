package ledger

import (
	"time"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
)

// Grant gives a new user the initial credits.
func Grant(userID string, at time.Time) Transfer {
	return Transfer{
		Key: "grant:" + userID, Reference: userID, Description: "Initial credits", At: at,
		Postings: []Posting{
			{Account: Issuance, Type: TypeInitialGrant, Amount: -InitialGrant},
			{Account: Available(userID), Type: TypeInitialGrant, Amount: InitialGrant},
		},
	}
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

// Capture pays the owner out of the hold. The fee is rounded half up to a hundredth and the owner gets the rest, so
// fee + earning = price, always.
func (h Hold) Capture(ownerUserID string, at time.Time) (Transfer, error) {
	fee, err := h.Amount.BasisPoints(FeePoints)
	if err != nil {
		return Transfer{}, fault.New(fault.Internal, fault.CodeInternal, "fee of task %s: %v", h.TaskID, err)
	}
	t := Transfer{
		Key: h.settleKey(), Reference: h.TaskID, Description: "Task: " + h.Title, At: at,
		Postings: []Posting{
			{Account: Held(h.UserID), Type: TypeRelease, Amount: -h.Amount},
			{Account: Available(h.UserID), Type: TypeRelease, Amount: h.Amount},
			{Account: Available(h.UserID), Type: TypeTaskDebit, Amount: -h.Amount},
		},
	}
	if earning := h.Amount - fee; earning > 0 {
		t.Postings = append(t.Postings, Posting{Account: Available(ownerUserID), Type: TypeTaskCredit, Amount: earning})
	}
	if fee > 0 {
		t.Postings = append(t.Postings, Posting{Account: Fees, Type: TypePlatformFee, Amount: fee})
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
