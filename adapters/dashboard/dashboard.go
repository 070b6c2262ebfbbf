// Package dashboard serves the pages that people use: their agents, tasks, workflows and credits, and the public
// marketplace. It renders what app tells and hands on what forms say; no rule of the engine is repeated here. Pages work
// without script where they can: what moves by itself comes over server-sent events.
package dashboard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/nexus-protocol/nexus/adapters/internal/websession"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
)

// Options are the dashboard's settings; zero values are the defaults.
type Options struct {
	Logger    *slog.Logger // default: discards
	PublicURL string       // how the server is reached from outside, such as https://nexus.example.com
	// RateLimit switches on the limit of tasks that a person may create by the dashboard.
	RateLimit bool
	// SecureCookies marks cookies as for https only, whatever the request says. Without it they are so marked if the
	// request came over TLS or PublicURL begins with https.
	SecureCookies bool
	// KeepAlive is how often something is written to a live page in which nothing happens; default 12 seconds.
	KeepAlive time.Duration
	// MaxStreams is how many live pages one user may have open in this process; default 50.
	MaxStreams int
	// Closing is closed when the server is about to stop: live pages then look for another one. nil: they end with it.
	Closing <-chan struct{}
}

type dashboard struct {
	engine  *app.Engine
	opt     Options
	log     *slog.Logger
	mux     *http.ServeMux
	origin  *http.CrossOriginProtection
	streams streams
}

// New makes the handler of the pages that Patterns lists; whatever else it is asked for is a page that there is not. It gets along without the rest of the server, but for
// /auth/login and /assets/, which httpapi serves.
func New(engine *app.Engine, opt Options) http.Handler {
	d := &dashboard{engine: engine, opt: opt, log: opt.Logger, mux: http.NewServeMux(), origin: http.NewCrossOriginProtection()}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if d.opt.KeepAlive <= 0 {
		d.opt.KeepAlive = 12 * time.Second
	}
	if d.opt.MaxStreams <= 0 {
		d.opt.MaxStreams = 50
	}
	if u, err := url.Parse(opt.PublicURL); err == nil && u.Host != "" {
		if err := d.origin.AddTrustedOrigin(u.Scheme + "://" + u.Host); err != nil {
			panic(fmt.Sprintf("dashboard: PublicURL: %v", err))
		}
		d.opt.SecureCookies = d.opt.SecureCookies || u.Scheme == "https"
	}
	for _, rt := range d.routes() {
		d.mux.HandleFunc(rt.pattern, func(w http.ResponseWriter, r *http.Request) { d.serve(w, r, rt) })
	}
	d.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { d.serve(w, r, route{public: true, do: d.lost}) })
	return d
}

// Patterns lists what New serves, as http.ServeMux writes it.
func Patterns() []string {
	var out []string
	for _, rt := range new(dashboard).routes() {
		out = append(out, rt.pattern)
	}
	return out
}

// route is one page, or one thing that a form does.
type route struct {
	pattern string
	public  bool // strangers may come; they are known all the same if they have a session
	do      func(*exchange) error
}

func (d *dashboard) routes() []route {
	return []route{
		{"GET /{$}", true, d.front},
		{"POST /theme", true, d.setTheme},
		{"GET /marketplace", true, d.market},
		{"GET /marketplace/{id}", true, d.marketAgent},
		{"/marketplace/", true, d.lost},
		{"GET /docs", true, d.docs},
		{"GET /docs/{page}", true, d.docs},
		{"GET /docs/{folder}/{page}", true, d.docs},

		{"GET /dashboard", false, d.home},
		{"/dashboard/", false, d.lost},

		{"GET /dashboard/agents", false, d.agents},
		{"GET /dashboard/agents/new", false, d.newAgent},
		{"POST /dashboard/agents/import", false, d.importAgent},
		{"POST /dashboard/agents", false, d.registerAgent},
		{"GET /dashboard/agents/{id}", false, d.agent},
		{"GET /dashboard/agents/{id}/edit", false, d.editAgent},
		{"POST /dashboard/agents/{id}", false, d.saveAgent},
		{"POST /dashboard/agents/{id}/delete", false, d.deleteAgent},
		{"POST /dashboard/agents/{id}/keys", false, d.createKey},
		{"POST /dashboard/agents/{id}/keys/{key}/revoke", false, d.revokeKey},

		{"GET /dashboard/tasks", false, d.tasks},
		{"GET /dashboard/tasks/new", false, d.newTask},
		{"POST /dashboard/tasks", false, d.createTask},
		{"GET /dashboard/tasks/{id}", false, d.task},
		{"GET /dashboard/tasks/{id}/live", false, d.taskLive},
		{"GET /dashboard/tasks/{id}/files/{artifact}/{part}", false, d.taskFile},
		{"POST /dashboard/tasks/{id}/cancel", false, d.cancelTask},
		{"POST /dashboard/tasks/{id}/reply", false, d.replyTask},
		{"POST /dashboard/tasks/{id}/rate", false, d.rateTask},

		{"GET /dashboard/workflows", false, d.workflows},
		{"GET /dashboard/workflows/new", false, d.newWorkflow},
		{"POST /dashboard/workflows/draft", false, d.draftWorkflow},
		{"POST /dashboard/workflows", false, d.createWorkflow},
		{"GET /dashboard/workflows/{id}", false, d.workflow},
		{"GET /dashboard/workflows/{id}/edit", false, d.editWorkflow},
		{"POST /dashboard/workflows/{id}", false, d.saveWorkflow},
		{"POST /dashboard/workflows/{id}/run", false, d.runWorkflow},
		{"POST /dashboard/workflows/{id}/delete", false, d.deleteWorkflow},
		{"GET /dashboard/workflows/{id}/runs/{run}", false, d.run},
		{"GET /dashboard/workflows/{id}/runs/{run}/live", false, d.runLive},
		{"POST /dashboard/workflows/{id}/runs/{run}/cancel", false, d.cancelRun},

		{"GET /dashboard/billing", false, d.billing},
		{"GET /dashboard/settings", false, d.settings},
		{"POST /dashboard/settings/profile", false, d.changeProfile},
		{"POST /dashboard/settings/password", false, d.changePassword},
		{"POST /dashboard/settings/email", false, d.changeEmail},
		{"POST /dashboard/settings/verify", false, d.sendVerification},
		{"POST /dashboard/settings/sessions/{session}/revoke", false, d.revokeSession},
		{"POST /dashboard/settings/sessions/revoke-others", false, d.revokeOthers},
		{"POST /dashboard/settings/delete", false, d.deleteAccount},

		{"GET /dashboard/admin", false, d.admin},
		{"POST /dashboard/admin/users/{user}/disable", false, d.disableUser},
		{"POST /dashboard/admin/users/{user}/enable", false, d.enableUser},
		{"POST /dashboard/admin/ledger", false, d.verifyLedger},

		{"GET /billing/return", true, d.paid},
		{"POST /dashboard/billing/checkout", false, d.checkout},
	}
}

// pagePolicy lets a page use what this site serves, and nothing that stands in the page itself.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; manifest-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// ServeHTTP implements http.Handler.
func (d *dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
	h.Set("Cache-Control", "no-store")
	d.mux.ServeHTTP(w, r)
}

// exchange is one request, who asks, and the answer.
type exchange struct {
	http.ResponseWriter
	*http.Request
	caller identity.Caller
}

// Header is the answer's.
func (x *exchange) Header() http.Header { return x.ResponseWriter.Header() }

// Write writes to the answer.
func (x *exchange) Write(b []byte) (int, error) { return x.ResponseWriter.Write(b) }

func (d *dashboard) serve(w http.ResponseWriter, r *http.Request, rt route) {
	x := &exchange{ResponseWriter: w, Request: r.WithContext(withNow(r.Context(), d.engine.Now()))}
	err := d.identify(x)
	if err == nil && !rt.public && !x.caller.Known() {
		err = identity.Unauthorized()
	}
	if err == nil && d.origin.Check(r) != nil {
		err = fault.New(fault.Forbidden, codeForeign, "a page of another site may not do this")
	}
	if err == nil && r.Method == http.MethodPost {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		x.Request.Body = r.Body
		if err = x.ParseForm(); err != nil {
			err = formFault(err)
		}
	}
	if err == nil {
		err = rt.do(x)
	}
	if err != nil {
		d.fail(x, err)
	}
}

// maxForm is the most bytes of a form: a workflow of twenty steps with the largest inputs does not have to fit.
const maxForm = 1 << 20

// codeForeign marks a request that came from a page of another site.
const codeForeign fault.Code = "FOREIGN_ORIGIN"

func formFault(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return fault.New(fault.TooLarge, fault.CodePayloadTooLarge, "the form is over %d KiB", tooLarge.Limit>>10)
	}
	return fault.New(fault.Invalid, fault.CodeValidation, "the form could not be read")
}

// identify finds out whose session it is. Nobody's is no error.
func (d *dashboard) identify(x *exchange) error {
	token := websession.Token(x.Request)
	if token == "" {
		return nil
	}
	c, extended, err := d.engine.Identity.BySession(x.Context(), token)
	switch {
	case fault.Has(err, fault.CodeUnauthorized):
		return nil
	case err != nil:
		return err
	case extended:
		websession.Set(x, x.Request, token, d.opt.SecureCookies)
	}
	x.caller = c
	return nil
}

// fail answers a request that came to nothing.
func (d *dashboard) fail(x *exchange, err error) {
	f, known := fault.As(err)
	status, code, title, text := http.StatusInternalServerError, "500", "Something went wrong", "It is our fault, and it has been noted. Please try again in a moment."
	switch {
	case known && f.Kind == fault.Unauthenticated:
		next := "/dashboard"
		if x.Method == http.MethodGet {
			next = x.URL.RequestURI()
		}
		if strings.HasSuffix(x.URL.Path, "/live") {
			http.Error(x, "log in again", http.StatusUnauthorized)
			return
		}
		http.Redirect(x, x.Request, "/auth/login?next="+url.QueryEscape(next), http.StatusSeeOther)
		return
	case known && f.Code == codeForeign:
		status, code, title, text = http.StatusForbidden, "403", "Not from there", "A page of another site tried to do this in your name. It was refused."
	case known && (f.Kind == fault.NotFound || f.Kind == fault.Forbidden): // whether it exists is nobody else's business
		status, code, title, text = http.StatusNotFound, "404", "There is nothing here", "The page may have been moved or deleted, or it belongs to somebody else."
	case known && f.Kind == fault.RateLimited:
		status, code, title, text = http.StatusTooManyRequests, "429", "That was a lot at once", f.Message
		if wait, ok := f.Details["retryAfter"].(int); ok {
			x.Header().Set("Retry-After", fmt.Sprint(wait))
		}
	case known && f.Kind == fault.TooLarge:
		status, code, title, text = http.StatusRequestEntityTooLarge, "413", "That is too large", f.Message
	case known && f.Kind == fault.Unavailable:
		status, code, title, text = http.StatusServiceUnavailable, "503", "Not just now", f.Message
	case known && f.Kind != fault.Internal:
		status, code, title, text = http.StatusBadRequest, "400", "That did not work", f.Message
	case errors.Is(err, context.Canceled) && x.Context().Err() != nil:
		return
	default:
		d.log.ErrorContext(x.Context(), "page failed", "error", err, "path", x.Pattern)
	}
	d.show(x, status, lostPage(d.page(x, title, ""), code, text))
}

func (d *dashboard) lost(*exchange) error {
	return fault.New(fault.NotFound, fault.CodeNotFound, "there is no such page")
}

// page is what every page shows around its own content.
type page struct {
	Title   string
	Summary string // for search engines; may be ""
	Section string // the place in the menu
	Theme   string // light, dark, or "" for what the system says
	Path    string
	Email   string // of who is logged in; "" for strangers
	Name    string // what they want to be called, or the e-mail
	Admin   bool
	Balance balance
	Flash   flash
}

func (d *dashboard) page(x *exchange, title, section string) page {
	p := page{Title: title, Section: section, Theme: websession.Theme(x.Request), Path: x.URL.RequestURI(), Flash: takeFlash(x)}
	if x.Method != http.MethodGet {
		p.Path = "/dashboard"
	}
	if !x.caller.Known() {
		return p
	}
	if u, err := d.engine.Identity.User(x.Context(), x.caller); err == nil {
		p.Email, p.Name, p.Admin = u.Email, orElse(u.Name, u.Email), u.Role == identity.RoleAdmin
	}
	if b, err := d.engine.Billing.Balance(x.Context(), x.caller); err == nil {
		p.Balance = balance(b)
	}
	return p
}

// show answers with a page.
func (d *dashboard) show(x *exchange, status int, c templ.Component) {
	var b bytes.Buffer
	if err := c.Render(x.Context(), &b); err != nil {
		d.log.ErrorContext(x.Context(), "page failed", "error", err, "path", x.Pattern)
		http.Error(x, "something went wrong", http.StatusInternalServerError)
		return
	}
	x.Header().Set("Content-Type", "text/html; charset=utf-8")
	x.WriteHeader(status)
	_, _ = x.Write(b.Bytes()) // whoever does not read it is gone
}

// to sends the browser on, with a word for the page that it comes to.
func (d *dashboard) to(x *exchange, path string, f flash) error {
	d.putFlash(x, f)
	http.Redirect(x, x.Request, path, http.StatusSeeOther)
	return nil
}

func (d *dashboard) front(x *exchange) error {
	to := "/marketplace"
	if x.caller.Known() {
		to = "/dashboard"
	}
	http.Redirect(x, x.Request, to, http.StatusSeeOther)
	return nil
}
