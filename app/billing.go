package app

import (
	"context"
	"fmt"
	"time"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/ledger"
)

// Billing is a user's view of the credits, and how there come to be more of them.
type Billing struct{ *core }

// Balance returns the caller's money. One read.
func (s *Billing) Balance(ctx context.Context, c identity.Caller) (ledger.Balance, error) {
	if err := identity.Authorize(c, identity.BillingRead, identity.Resource{}); err != nil {
		return ledger.Balance{}, err
	}
	return s.Store.Read().Ledger.Balance(ctx, c.UserID)
}

// Limits of the list of transactions.
const (
	transactionsLimit    = 50
	maxTransactionsLimit = 200
)

// Transactions returns what happened to the caller's balance, newest first. typ "" means everything.
func (s *Billing) Transactions(ctx context.Context, c identity.Caller, typ ledger.EntryType, p Page) (List[ledger.Entry], error) {
	var none List[ledger.Entry]
	if err := identity.Authorize(c, identity.BillingRead, identity.Resource{}); err != nil {
		return none, err
	}
	if err := checkType(typ); err != nil {
		return none, err
	}
	page, err := p.resolve(transactionsLimit, maxTransactionsLimit)
	if err != nil {
		return none, err
	}
	items, total, err := s.Store.Read().Ledger.Transactions(ctx, c.UserID, typ, page)
	if err != nil {
		return none, fmt.Errorf("read transactions: %w", err)
	}
	return list(items, total, page), nil
}

// Usage is what was spent and earned on each day of a period, oldest first, today included.
type Usage struct {
	Period      string
	Daily       []ledger.Day
	TotalSpent  credits.Amount
	TotalEarned credits.Amount
}

// Usage returns the caller's usage in a period of 7d, 30d ("" too) or 90d: all its days in UTC, those on which nothing
// happened too. It is exact up to this moment. Two reads.
func (s *Billing) Usage(ctx context.Context, c identity.Caller, period string) (Usage, error) {
	if err := identity.Authorize(c, identity.BillingRead, identity.Resource{}); err != nil {
		return Usage{}, err
	}
	if period == "" {
		period = "30d"
	}
	days, ok := ledger.PeriodDays(period)
	if !ok {
		var bad fault.Fields
		bad.Add("period", "must be 7d, 30d or 90d")
		return Usage{}, bad.Err()
	}
	first := s.now().AddDate(0, 0, 1-days)
	found, err := s.Store.Read().Ledger.Usage(ctx, c.UserID, first.Format(time.DateOnly))
	if err != nil {
		return Usage{}, fmt.Errorf("read usage: %w", err)
	}
	s.foldSoon(ctx, c.UserID)
	byDate := make(map[string]ledger.Day, len(found))
	for _, d := range found {
		byDate[d.Date] = d
	}
	out := Usage{Period: period}
	for i := range days {
		date := first.AddDate(0, 0, i).Format(time.DateOnly)
		d := byDate[date]
		d.Date = date
		out.Daily = append(out.Daily, d)
		out.TotalSpent += d.Spent
		out.TotalEarned += d.Earned
	}
	return out, nil
}

// EarnedByAgent returns what each of the caller's agents has earned; those without any are left out. One read.
func (s *Billing) EarnedByAgent(ctx context.Context, c identity.Caller) (map[string]credits.Amount, error) {
	if err := identity.Authorize(c, identity.BillingRead, identity.Resource{}); err != nil {
		return nil, err
	}
	return s.Store.Read().Earnings.EarnedByAgent(ctx, c.UserID)
}
