package httpapi

import (
	"context"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/billing"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/ports"
)

// balanceJSON is a user's money on the wire. Always: total_granted + total_purchased + total_earned − total_spent − held
// − total_reversed = balance.
type balanceJSON struct {
	UserID         string `json:"user_id" format:"uuid"`
	Balance        amount `json:"balance" doc:"What can be spent now; below zero by what is owed."`
	TotalEarned    amount `json:"total_earned"`
	TotalSpent     amount `json:"total_spent"`
	TotalPurchased amount `json:"total_purchased"`
	Held           amount `json:"held" doc:"Set aside for open tasks."`
	TotalGranted   amount `json:"total_granted" doc:"Given by the platform, such as the initial credits."`
	TotalReversed  amount `json:"total_reversed" doc:"Taken back, such as by a refunded purchase."`
	Debt           amount `json:"debt" doc:"What is owed, since it was spent before it was taken back; what comes in pays it first."`
}

func balance(b ledger.Balance) balanceJSON {
	return balanceJSON{
		UserID: b.UserID, Balance: amount(b.Available), TotalEarned: amount(b.Earned), TotalSpent: amount(b.Spent),
		TotalPurchased: amount(b.Purchased), Held: amount(b.Held), TotalGranted: amount(b.Granted), TotalReversed: amount(b.Reversed),
		Debt: amount(b.Debt()),
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
	Format string           `query:"format" enum:"json,csv" doc:"Instead of an Accept header: csv is a table, of all transactions unless limit or offset are given."`
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

type packageJSON struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Credits  amount `json:"credits"`
	Price    int64  `json:"price" doc:"In the currency's smallest unit, such as cents."`
	Currency string `json:"currency" doc:"ISO 4217 in lower case."`
}

func packageOf(p billing.Package) packageJSON {
	return packageJSON{p.ID, p.Name, amount(p.Credits), p.Price.Amount, p.Price.Currency}
}

type packagesJSON struct {
	Packages []packageJSON `json:"packages" nullable:"false"`
	Open     bool          `json:"open" doc:"Whether this server sells them."`
}

type checkoutInput struct {
	Body struct {
		PackageID string `json:"packageId" minLength:"1" maxLength:"64" doc:"starter, pro or enterprise."`
	}
}

type checkoutJSON struct {
	URL string `json:"url" format:"uri" doc:"Where the payer goes to pay."`
}

type purchaseJSON struct {
	ID              string         `json:"id" format:"uuid"`
	PackageID       string         `json:"packageId"`
	Credits         amount         `json:"credits"`
	Price           int64          `json:"price" doc:"In the currency's smallest unit."`
	Currency        string         `json:"currency"`
	Status          billing.Status `json:"status" enum:"started,open,waiting,paid,failed,expired,refused" doc:"paid: credited. refused: what was paid is not the price, and the operator has to look at it."`
	CreditsReversed amount         `json:"creditsReversed" doc:"Taken back, as money went back."`
	CreatedAt       time.Time      `json:"createdAt"`
	UpdatedAt       time.Time      `json:"updatedAt"`
}

func purchase(p billing.Purchase) purchaseJSON {
	return purchaseJSON{
		ID: p.ID, PackageID: p.PackageID, Credits: amount(p.Credits), Price: p.Price.Amount, Currency: p.Price.Currency, Status: p.Status,
		CreditsReversed: amount(p.Reversed), CreatedAt: p.CreatedAt.UTC(), UpdatedAt: p.UpdatedAt.UTC(),
	}
}

type purchasesInput struct {
	Limit  int `query:"limit" default:"50" minimum:"1" maximum:"200" doc:"How many to answer with."`
	Offset int `query:"offset" default:"0" minimum:"0" maximum:"1000000" doc:"How many to pass over."`
}

type grantInput struct {
	Body struct {
		UserID string `json:"userId,omitempty" maxLength:"64" doc:"Who gets the credits; or else email."`
		Email  string `json:"email,omitempty" maxLength:"254" doc:"The e-mail of who gets the credits."`
		Amount amount `json:"amount" doc:"Above 0, at most 1 000 000."`
		Reason string `json:"reason" doc:"Why, in 1 to 500 characters. The user sees it."`
	}
}

type grantsInput struct {
	UserID string `query:"userId" maxLength:"64" doc:"Only those to this user."`
	Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"200" doc:"How many to answer with."`
	Offset int    `query:"offset" default:"0" minimum:"0" maximum:"1000000" doc:"How many to pass over."`
}

type grantJSON struct {
	ID        string    `json:"id" format:"uuid"`
	UserID    string    `json:"userId" format:"uuid"`
	ByUserID  string    `json:"byUserId" format:"uuid" doc:"The admin who gave them."`
	Amount    amount    `json:"amount"`
	Reason    string    `json:"reason"`
	CreatedAt time.Time `json:"createdAt"`
}

func grant(g billing.Grant) grantJSON {
	return grantJSON{g.ID, g.UserID, g.ByID, amount(g.Credits), g.Reason, g.At.UTC()}
}

func (s *server) mountBilling() {
	b := s.engine.Billing
	register(s, route{
		method: "GET", path: "/api/v1/billing/balance", access: caller, scope: string(identity.ScopeBillingRead),
		id: "get-balance", tag: tagBilling, summary: "Get the balance", status: http.StatusOK,
	}, func(ctx context.Context, _ *struct{}) (one[balanceJSON], error) {
		found, err := b.Balance(ctx, callerOf(ctx))
		return answer(balance(found), err)
	})
	register(s, route{
		method: "GET", path: "/api/v1/billing/transactions", access: caller, scope: string(identity.ScopeBillingRead),
		id: "list-transactions", tag: tagBilling, summary: "List transactions", status: http.StatusOK, csv: true,
		text: "What happened to the balance, newest first. With Accept: text/csv or format=csv it is a table; texts in it that a spreadsheet would take for a formula begin with an apostrophe.",
	}, func(ctx context.Context, in *transactionsInput) (many[transactionJSON], error) {
		x := exchangeOf(ctx)
		x.Header().Add("Vary", "Accept")
		if wantsCSV(x.request, in.Format) {
			return many[transactionJSON]{}, s.streamTransactions(ctx, x, in)
		}
		l, err := b.Transactions(ctx, callerOf(ctx), in.Type, page(in.Limit, in.Offset))
		return answerList(l, err, transaction)
	})
	register(s, route{
		method: "GET", path: "/api/v1/billing/usage", access: caller, scope: string(identity.ScopeBillingRead),
		id: "get-usage", tag: tagBilling, summary: "Get usage by day", status: http.StatusOK,
	}, func(ctx context.Context, in *usageInput) (one[usageJSON], error) {
		u, err := b.Usage(ctx, callerOf(ctx), in.Period)
		return answer(usage(u), err)
	})
	register(s, route{
		method: "GET", path: "/api/v1/billing/packages", access: public,
		id: "list-packages", tag: tagBilling, summary: "List the packages of credits", status: http.StatusOK,
	}, func(context.Context, *struct{}) (one[packagesJSON], error) {
		return answer(packagesJSON{convert(b.Packages(), packageOf), b.Sells()}, nil)
	})
	registerCreate(s, route{
		method: "POST", path: "/api/v1/billing/checkout", access: caller, scope: string(identity.ScopeBillingWrite), limit: &app.LimitCheckout,
		id: "create-checkout", tag: tagBilling, summary: "Buy credits", status: http.StatusOK, errors: []fault.Code{fault.CodePaymentsUnset, fault.CodeUnavailable},
		text: "Begins the purchase of a package and answers with the page where it is paid for. The credits come once it is.",
	}, func(ctx context.Context, in *checkoutInput) (app.Checkout, error) {
		return b.Checkout(ctx, callerOf(ctx), in.Body.PackageID)
	}, answerWith(func(c app.Checkout) checkoutJSON { return checkoutJSON{c.URL} }), nil)
	register(s, route{
		method: "GET", path: "/api/v1/billing/purchases", access: caller, scope: string(identity.ScopeBillingRead),
		id: "list-purchases", tag: tagBilling, summary: "List purchases", status: http.StatusOK, text: "What the caller bought or began to buy, newest first.",
	}, func(ctx context.Context, in *purchasesInput) (many[purchaseJSON], error) {
		l, err := b.Purchases(ctx, callerOf(ctx), page(in.Limit, in.Offset))
		return answerList(l, err, purchase)
	})
	s.mountWebhook()
	if s.opt.Pages == nil {
		s.page(route{
			method: "GET", path: "/billing/return", access: public,
			id: "get-billing-return", tag: tagBilling, summary: "The page after a checkout", status: http.StatusOK,
		}, func(x *exchange, r *http.Request) {
			s.showPage(x, r, http.StatusOK, "return.html", r.URL.Query().Get("checkout") == "success")
		})
	}
	registerCreate(s, route{
		method: "POST", path: "/api/v1/billing/grants", access: caller, scope: string(identity.ScopeBillingWrite),
		id: "grant-credits", tag: tagBilling, summary: "Give a user credits", status: http.StatusCreated, errors: []fault.Code{fault.CodePaymentsUnset},
		text: "For admins. It is kept who gave how many to whom, and why.",
	}, func(ctx context.Context, in *grantInput) (billing.Grant, error) {
		return b.Grant(ctx, callerOf(ctx), app.GrantCredits{UserID: in.Body.UserID, Email: in.Body.Email, Amount: credits.Amount(in.Body.Amount), Reason: in.Body.Reason})
	}, answerWith(grant), nil)
	register(s, route{
		method: "GET", path: "/api/v1/billing/grants", access: caller, scope: string(identity.ScopeBillingRead),
		id: "list-grants", tag: tagBilling, summary: "List what admins gave", status: http.StatusOK, text: "For admins; newest first.",
	}, func(ctx context.Context, in *grantsInput) (many[grantJSON], error) {
		l, err := b.Grants(ctx, callerOf(ctx), in.UserID, page(in.Limit, in.Offset))
		return answerList(l, err, grant)
	})
}

// headerSignature is where Stripe signs.
const headerSignature = "Stripe-Signature"

type receivedJSON struct {
	Received bool `json:"received"`
}

// mountWebhook adds the route where a provider tells of payments. Its body is taken byte by byte, since that is what is
// signed.
func (s *server) mountWebhook() {
	rt := route{
		method: "POST", path: "/api/v1/billing/webhook", access: public,
		id: "receive-payment-event", tag: tagBilling, summary: "Be told of payments", status: http.StatusOK,
		text: "For the payment provider. A delivery whose signature is missing, wrong, or more than five minutes off is refused and does nothing; one that came before, or that tells nothing of interest, " +
			"is taken and does nothing. What follows from the others is done soon after, once.",
		errors: []fault.Code{fault.CodeValidation, fault.CodePayloadTooLarge, fault.CodeUnsupportedMediaType, fault.CodePaymentsUnset, fault.CodeUnavailable},
	}
	op := &huma.Operation{
		OperationID: rt.id, Method: rt.method, Path: rt.path, Tags: []string{rt.tag}, Summary: rt.summary, Description: rt.text,
		Parameters: []*huma.Param{{
			Name: headerSignature, In: "header", Required: true, Schema: &huma.Schema{Type: huma.TypeString}, Description: "The time and the signature of the body.",
		}},
		RequestBody: &huma.RequestBody{
			Required: true, Description: "The provider's event.",
			Content: map[string]*huma.MediaType{typeJSON: {Schema: &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}}},
		},
		Responses: map[string]*huma.Response{strconv.Itoa(rt.status): {
			Description: http.StatusText(rt.status),
			Content:     map[string]*huma.MediaType{typeJSON: {Schema: s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[one[receivedJSON]](), true, "")}},
		}},
	}
	s.document(op, rt)
	s.api.OpenAPI().AddOperation(op)
	s.handle(rt, func(x *exchange, r *http.Request) {
		if err := s.receive(x, r); err != nil {
			s.fail(x, r, err)
			return
		}
		body, _ := encode(one[receivedJSON]{receivedJSON{true}}) // it is always the same
		x.Header().Set("Content-Type", typeJSON)
		_, _ = x.Write(body) // whoever does not read it is gone
	})
}

func (s *server) receive(x *exchange, r *http.Request) error {
	switch {
	case !s.engine.Billing.Sells():
		return billing.NotConfigured()
	case !isJSONType(r.Header):
		return errNotJSON
	}
	signatures := r.Header.Values(headerSignature)
	if len(signatures) != 1 {
		return badHeader(headerSignature, "must be given once")
	}
	body, err := readBody(x, r, maxBody)
	if err != nil {
		return err
	}
	return s.engine.Billing.Receive(r.Context(), ports.Delivery{Body: body, Signature: signatures[0]})
}
