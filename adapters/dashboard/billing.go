package dashboard

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/billing"
	"github.com/nexus-protocol/nexus/domain/ledger"
)

const transactionRows = 50

type billingView struct {
	Balance ledger.Balance
	Usage   app.Usage
	Period  string
	Entries app.List[ledger.Entry]
	Type    ledger.EntryType
	Pages   listing
	Sale    []billing.Package // none if nothing is sold here
}

// statement is where all transactions of the chosen kind are, as a table.
func (v billingView) statement() string {
	q := url.Values{"format": {"csv"}}
	if v.Type != "" {
		q.Set("type", string(v.Type))
	}
	return "/api/v1/billing/transactions?" + q.Encode()
}

func (v billingView) with(key, value string) string {
	q := url.Values{"period": {v.Period}}
	if v.Type != "" {
		q.Set("type", string(v.Type))
	}
	q.Set(key, value)
	return "/dashboard/billing?" + q.Encode()
}

func (d *dashboard) billing(x *exchange) error {
	ctx, q := x.Context(), x.URL.Query()
	v := billingView{Period: q.Get("period"), Type: ledger.EntryType(q.Get("type"))}
	if _, ok := ledger.PeriodDays(v.Period); !ok {
		v.Period = "30d"
	}
	if !slices.Contains(ledger.EntryTypes(), v.Type) {
		v.Type = ""
	}
	var err error
	if v.Balance, err = d.engine.Billing.Balance(ctx, x.caller); err != nil {
		return err
	}
	if v.Usage, err = d.engine.Billing.Usage(ctx, x.caller, v.Period); err != nil {
		return err
	}
	if v.Entries, err = d.engine.Billing.Transactions(ctx, x.caller, v.Type, pageOf(q, transactionRows)); err != nil {
		return err
	}
	v.Pages = listingOf(v.Entries, x)
	if d.engine.Billing.Sells() {
		v.Sale = d.engine.Billing.Packages()
	}
	d.show(x, http.StatusOK, billingPage(d.page(x, "Billing", "billing"), v))
	return nil
}

// checkout begins a purchase and leads to where it is paid. A form may not lead off this site by a redirect (the page's
// policy forbids it), so to a provider elsewhere a page leads.
func (d *dashboard) checkout(x *exchange) error {
	if d.opt.RateLimit {
		if _, err := d.engine.Limits.Take(x.Context(), x.caller, app.LimitCheckout); err != nil {
			return err
		}
	}
	c, err := d.engine.Billing.Checkout(x.Context(), x.caller, x.PostForm.Get("package"))
	if err != nil {
		return err
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		return err
	}
	if base, err := url.Parse(d.opt.PublicURL); err == nil && base.Host == u.Host && base.Scheme == u.Scheme {
		http.Redirect(x, x.Request, c.URL, http.StatusSeeOther)
		return nil
	}
	x.Header().Set("Refresh", "0; url="+c.URL)
	d.show(x, http.StatusOK, onwardPage(d.page(x, "To the checkout", "billing"), u.Host, c.URL))
	return nil
}

// paid is where payers come back to. What they say of it is only good for a word; the credits come from the provider's own.
func (d *dashboard) paid(x *exchange) error {
	title, f := "Nothing was bought", flash{Bad: true, Text: "Nothing was bought."}
	if x.URL.Query().Get("checkout") == "success" {
		title, f = "Thank you", done("Thank you. Your credits are here as soon as the payment is confirmed, usually within seconds.")
	}
	if !x.caller.Known() { // the checkout may have been begun by a program
		d.show(x, http.StatusOK, saidPage(d.page(x, title, "billing"), f))
		return nil
	}
	return d.to(x, "/dashboard/billing", f)
}

// cash is a price in money as people write it.
func cash(m billing.Money) string {
	sign := map[string]string{"usd": "$", "eur": "€", "gbp": "£"}[m.Currency]
	if sign == "" {
		sign = strings.ToUpper(m.Currency) + " "
	}
	if m.Amount%100 == 0 {
		return fmt.Sprintf("%s%d", sign, m.Amount/100)
	}
	return fmt.Sprintf("%s%d.%02d", sign, m.Amount/100, m.Amount%100)
}
