package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/nexus-protocol/nexus/adapters/a2agateway"
	"github.com/nexus-protocol/nexus/adapters/demopay"
	"github.com/nexus-protocol/nexus/adapters/httpapi"
	"github.com/nexus-protocol/nexus/adapters/stripepay"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/ports"
)

// Where payers come back to.
const (
	paidPath     = "/billing/return?checkout=success"
	unpaidPath   = "/billing/return?checkout=cancelled"
	stripeNeeded = "NEXUS_STRIPE_SECRET_KEY and NEXUS_STRIPE_WEBHOOK_SECRET go together: without the one nothing can be sold, without the other forged payments would be believed"
)

// payments is Stripe if there are its keys, in the demo a page that plays it, and else nobody. The addresses that payers
// come back to are the server's own, whatever a request says.
func (s *serveCmd) payments() (ports.Payments, *demopay.Payments, error) {
	public := strings.TrimRight(s.PublicURL, "/")
	key, secret := strings.TrimSpace(s.StripeSecretKey), strings.TrimSpace(s.StripeWebhookSecret)
	switch {
	case key == "" && secret == "" && s.Demo:
		demo := demopay.New(demopay.Options{BaseURL: public, SuccessURL: public + paidPath, CancelURL: public + unpaidPath})
		return demo, demo, nil
	case key == "" && secret == "":
		return nil, nil, nil
	case key == "" || secret == "":
		return nil, nil, errors.New(stripeNeeded)
	}
	if u, err := url.Parse(s.StripeAPIBase); err != nil || s.StripeAPIBase != "" && (u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
		return nil, nil, errors.New("NEXUS_STRIPE_API_BASE must be a URL such as https://api.stripe.com")
	}
	p, err := stripepay.New(stripepay.Options{
		SecretKey: key, WebhookSecret: secret, APIBase: s.StripeAPIBase, Prices: s.StripePrices, SuccessURL: public + paidPath, CancelURL: public + unpaidPath,
	})
	return p, nil, err
}

// openRoutes are those that need no credential: the gateway's and, in the demo, the page that plays checkout.
func openRoutes(engine *app.Engine, gateway *a2agateway.Gateway, demo *demopay.Payments) []httpapi.OpenRoute {
	var out []httpapi.OpenRoute
	for _, r := range gateway.Routes() {
		out = append(out, httpapi.OpenRoute(r))
	}
	if demo == nil {
		return out
	}
	page := demo.Handler(engine.Billing.Receive)
	for _, pattern := range demopay.Patterns() {
		method, path, _ := strings.Cut(pattern, " ")
		out = append(out, httpapi.OpenRoute{
			Method: method, Path: path, Handler: page, ID: "demo-checkout-" + strings.ToLower(method), Tag: "Demo", TagText: "What only a demo has.",
			Summary: "The page that plays checkout", Answers: map[int]any{http.StatusOK: nil}, Says: map[int]string{http.StatusOK: "A page."},
		})
	}
	return out
}

type creditsGrantCmd struct {
	To     string `required:"" help:"The e-mail of the account that gets the credits."`
	Amount string `required:"" help:"How many credits, such as 100 or 9.5."`
	Reason string `required:"" help:"Why. It is kept, and the user sees it."`
	By     string `required:"" help:"The e-mail of the admin's account who gives them. It is kept."`
}

// Run gives credits in the name of an admin.
func (c *creditsGrantCmd) Run(e *env) error {
	amount, err := credits.Parse(c.Amount)
	if err != nil {
		return fmt.Errorf("--amount: %w", err)
	}
	return e.withEngine(func(engine *app.Engine) error {
		admin, err := engine.Identity.UserByEmail(e, c.By)
		if err != nil {
			return fmt.Errorf("--by: %w", err)
		}
		g, err := engine.Billing.Grant(e, identity.SessionCaller(admin, ""), app.GrantCredits{Email: c.To, Amount: amount, Reason: c.Reason})
		if err != nil {
			return err
		}
		fmt.Fprintf(e.out, "%s %s credits to %s\n", g.ID, g.Credits, c.To)
		return nil
	})
}
