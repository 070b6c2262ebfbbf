package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/ledger"
)

// balanceJSON is a user's money on the wire. Always: total_granted + total_purchased + total_earned − total_spent − held
// − total_reversed = balance.
type balanceJSON struct {
	UserID         string `json:"user_id" format:"uuid"`
	Balance        amount `json:"balance" doc:"What can be spent now."`
	TotalEarned    amount `json:"total_earned"`
	TotalSpent     amount `json:"total_spent"`
	TotalPurchased amount `json:"total_purchased"`
	Held           amount `json:"held" doc:"Set aside for open tasks."`
	TotalGranted   amount `json:"total_granted" doc:"Given by the platform, such as the initial credits."`
	TotalReversed  amount `json:"total_reversed" doc:"Taken back, such as by a refunded purchase."`
}

func balance(b ledger.Balance) balanceJSON {
	return balanceJSON{
		UserID: b.UserID, Balance: amount(b.Available), TotalEarned: amount(b.Earned), TotalSpent: amount(b.Spent),
		TotalPurchased: amount(b.Purchased), Held: amount(b.Held), TotalGranted: amount(b.Granted), TotalReversed: amount(b.Reversed),
	}
}

type transactionJSON struct {
	ID           string           `json:"id" format:"uuid"`
	UserID       string           `json:"userId" format:"uuid"`
	Type         ledger.EntryType `json:"type" enum:"initial_grant,purchase,task_debit,task_credit,platform_fee,refund,hold,release,reversal"`
	Amount       amount           `json:"amount" doc:"Negative for what was taken."`
	BalanceAfter amount           `json:"balanceAfter"`
	ReferenceID  *string          `json:"referenceId" doc:"What it was for, such as a task's id."`
	Description  string           `json:"description"`
	CreatedAt    time.Time        `json:"createdAt"`
}

func transaction(e ledger.Entry) transactionJSON {
	return transactionJSON{
		ID: e.ID, UserID: e.UserID, Type: e.Type, Amount: amount(e.Amount), BalanceAfter: amount(e.BalanceAfter),
		ReferenceID: textOrNull(e.Reference), Description: e.Description, CreatedAt: e.At.UTC(),
	}
}

type transactionsInput struct {
	Type   ledger.EntryType `query:"type" enum:"initial_grant,purchase,task_debit,task_credit,platform_fee,refund,hold,release,reversal"`
	Limit  int              `query:"limit" default:"50" minimum:"1" maximum:"200" doc:"How many to answer with."`
	Offset int              `query:"offset" default:"0" minimum:"0" maximum:"1000000" doc:"How many to pass over."`
}

type usageInput struct {
	Period string `query:"period" default:"30d" enum:"7d,30d,90d"`
}

type usageJSON struct {
	Period      string    `json:"period" enum:"7d,30d,90d"`
	Daily       []dayJSON `json:"daily" nullable:"false" doc:"Every day of the period in UTC, oldest first, today included."`
	TotalSpent  amount    `json:"totalSpent"`
	TotalEarned amount    `json:"totalEarned"`
}

type dayJSON struct {
	Date   string `json:"date" format:"date"`
	Spent  amount `json:"spent"`
	Earned amount `json:"earned"`
}

func usage(u app.Usage) usageJSON {
	return usageJSON{
		Period: u.Period, TotalSpent: amount(u.TotalSpent), TotalEarned: amount(u.TotalEarned),
		Daily: convert(u.Daily, func(d ledger.Day) dayJSON { return dayJSON{d.Date, amount(d.Spent), amount(d.Earned)} }),
	}
}

func (s *server) mountBilling() {
	billing := s.engine.Billing
	register(s, route{
		method: "GET", path: "/api/v1/billing/balance", access: caller, scope: string(identity.ScopeBillingRead),
		id: "get-balance", tag: tagBilling, summary: "Get the balance", status: http.StatusOK,
	}, func(ctx context.Context, _ *struct{}) (one[balanceJSON], error) {
		b, err := billing.Balance(ctx, callerOf(ctx))
		return answer(balance(b), err)
	})
	register(s, route{
		method: "GET", path: "/api/v1/billing/transactions", access: caller, scope: string(identity.ScopeBillingRead),
		id: "list-transactions", tag: tagBilling, summary: "List transactions", status: http.StatusOK,
		text: "What happened to the balance, newest first.",
	}, func(ctx context.Context, in *transactionsInput) (many[transactionJSON], error) {
		l, err := billing.Transactions(ctx, callerOf(ctx), in.Type, page(in.Limit, in.Offset))
		return answerList(l, err, transaction)
	})
	register(s, route{
		method: "GET", path: "/api/v1/billing/usage", access: caller, scope: string(identity.ScopeBillingRead),
		id: "get-usage", tag: tagBilling, summary: "Get usage by day", status: http.StatusOK,
	}, func(ctx context.Context, in *usageInput) (one[usageJSON], error) {
		u, err := billing.Usage(ctx, callerOf(ctx), in.Period)
		return answer(usage(u), err)
	})
}
