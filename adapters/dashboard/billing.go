package dashboard

import (
	"net/http"
	"net/url"
	"slices"

	"github.com/nexus-protocol/nexus/app"
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
	d.show(x, http.StatusOK, billingPage(d.page(x, "Billing", "billing"), v))
	return nil
}
