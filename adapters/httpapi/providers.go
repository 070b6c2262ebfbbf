package httpapi

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"

	"github.com/nexus-protocol/nexus/adapters/internal/websession"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
)

// withPath is where a browser begins to sign in, before the provider's name.
const withPath = "/auth/with/"

// flowCookie keeps what a browser that went to a provider must come back with: the secret, if it is to log in or to link,
// and where to go on to.
const flowCookie = "nexus_signin"

const flowSeconds = 600

func (s *server) mountProviders() {
	s.page(route{
		method: "GET", path: withPath + "{provider}", access: public, id: "begin-sign-in", tag: tagAuth, summary: "Sign in at a provider", status: http.StatusSeeOther,
		text: "For browsers: leads to the provider's pages, which lead back. The parameter next says where to go on to then.", answers: "On to the provider. What is wrong is said on the page to log in.",
	}, s.beginSignIn)
	s.page(route{
		method: "POST", path: withPath + "{provider}", access: session, id: "begin-link", tag: tagAuth, summary: "Link an identity at a provider", status: http.StatusOK,
		text: "For a form of a person who is logged in: leads to the provider's pages, which lead back. Its field next says where to go on to then.", answers: "A page that goes on to the provider by itself.",
	}, s.beginLink)
	s.page(route{
		method: "GET", path: "/auth/callback/{provider}", access: public, id: "finish-sign-in", tag: tagAuth, summary: "Come back from a provider", status: http.StatusSeeOther,
		text: "Where a provider leads browsers back to.", answers: "Logged in, or linked, and on to where it wanted to go. What is wrong is said on the page to log in.",
	}, s.finishSignIn)
}

// flow is what flowCookie says.
type flow struct {
	secret string
	link   bool
	next   string
}

func (s *server) setFlow(w http.ResponseWriter, r *http.Request, f flow) {
	kind := "in"
	if f.link {
		kind = "link"
	}
	c := &http.Cookie{
		Name: flowCookie, Path: "/auth/", MaxAge: flowSeconds, Value: f.secret + "." + kind + "." + base64.RawURLEncoding.EncodeToString([]byte(f.next)),
		HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: s.opt.SecureCookies || r.TLS != nil,
	}
	if f.secret == "" {
		c.Value, c.MaxAge = "", -1
	}
	http.SetCookie(w, c)
}

func readFlow(r *http.Request) flow {
	c, err := r.Cookie(flowCookie)
	if err != nil {
		return flow{next: "/"}
	}
	parts := strings.SplitN(c.Value, ".", 3)
	if len(parts) < 3 {
		return flow{next: "/"}
	}
	next, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		next = nil
	}
	return flow{secret: parts[0], link: parts[1] == "link", next: websession.LocalPath(string(next), "/")}
}

// maxNext is how long a path may be that a cookie keeps.
const maxNext = 1024

func nextOf(text string) string {
	if len(text) > maxNext {
		return "/"
	}
	return websession.LocalPath(text, "/")
}

// beginSignIn sends the browser to a provider. It is a link, which a form's policy does not hold back; a page of another
// site that sends somebody here gets them no further than to the page to log in.
func (s *server) beginSignIn(x *exchange, r *http.Request) {
	next := nextOf(r.URL.Query().Get("next"))
	if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" || site == "same-site" {
		http.Redirect(x, r, "/auth/login?next="+url.QueryEscape(next), http.StatusSeeOther)
		return
	}
	begun, err := s.engine.Identity.BeginSignIn(r.Context(), identity.Caller{}, r.PathValue("provider"))
	if err != nil {
		s.showFailure(x, r, next, err)
		return
	}
	s.setFlow(x, r, flow{secret: begun.Secret, next: next})
	http.Redirect(x, r, begun.URL, http.StatusSeeOther)
}

// beginLink leads a person who is logged in to a provider, to have their identity there linked. It answers with a page that
// goes on by itself, since browsers hold the redirect that answers a form against the form's policy.
func (s *server) beginLink(x *exchange, r *http.Request) {
	form, err := readForm(x, r)
	if err != nil {
		s.fail(x, r, err)
		return
	}
	begun, err := s.engine.Identity.BeginSignIn(r.Context(), x.caller, r.PathValue("provider"))
	if err != nil {
		s.fail(x, r, err)
		return
	}
	s.setFlow(x, r, flow{secret: begun.Secret, link: true, next: nextOf(form.Get("next"))})
	x.Header().Set("Refresh", "0; url="+begun.URL)
	s.showPage(x, r, http.StatusOK, "account.html", accountPage{Title: "One moment", Text: "Your identity provider goes on from here.", Link: begun.URL, LinkText: "Continue"})
}

// finishSignIn takes a browser that comes back from a provider.
func (s *server) finishSignIn(x *exchange, r *http.Request) {
	f, q := readFlow(r), r.URL.Query()
	s.setFlow(x, r, flow{})
	name := r.PathValue("provider")
	in := app.SignInAnswer{Secret: f.secret, State: q.Get("state"), Code: q.Get("code")}
	var err error = errAbroad
	switch {
	case q.Get("error") != "": // what it says is in nobody's words
	case f.link:
		var c identity.Caller
		if c, _, err = s.engine.Identity.BySession(r.Context(), websession.Token(r)); err == nil {
			x.caller = c
			err = s.engine.Identity.FinishLink(r.Context(), c, name, in, s.limited(r))
		}
	default:
		var token string
		if _, token, err = s.engine.Identity.FinishSignIn(r.Context(), name, in, s.browser(r)); err == nil {
			s.setSession(x, r, token)
		}
	}
	if err != nil {
		s.showFailure(x, r, f.next, err)
		return
	}
	http.Redirect(x, r, f.next, http.StatusSeeOther)
}

var errAbroad = fault.New(fault.Unauthenticated, fault.CodeUnauthorized, "the identity provider did not let you in; try again, or another way")

// showFailure shows the page to log in, with what was wrong.
func (s *server) showFailure(x *exchange, r *http.Request, next string, err error) {
	status, _ := s.errorAnswer(r.Context(), x, err)
	s.showPage(x, r, status, "entry.html", s.entryPage(logIn, "", next, err))
}

// messageOf is what a person is told of a fault.
func messageOf(err error) string {
	if f := join(err); f != nil && f.Kind != fault.Internal {
		return f.Message
	}
	return "Something went wrong. Please try again."
}

// accountPage is a page with one small form, or none.
type accountPage struct {
	Title    string
	Text     string
	Error    string
	Action   string // of the form; "" for none
	Token    string
	Email    bool // the form asks for an e-mail,
	Password bool // for a new password
	Button   string
	Link     string
	LinkText string
}

// The pages about forgotten passwords and mails' links. A link by itself does nothing, since programs follow those in mails:
// what it is for happens when its page's button is pressed.
var (
	forgotPage = accountPage{Title: "Forgot your password?", Text: "Give the e-mail of your account. If there is one, a link to set a new password is sent to it.", Action: "/auth/forgot-password", Email: true, Button: "Send the link"}
	resetPage  = accountPage{Title: "Set a new password", Action: "/auth/reset-password", Password: true, Button: "Set the password"}
	verifyPage = accountPage{Title: "Confirm your e-mail", Text: "Press the button to confirm that this e-mail address is yours.", Action: "/auth/verify-email", Button: "Confirm"}
)

func (s *server) mountAccountPages() {
	for _, one := range []struct {
		id, summary string
		page        accountPage
	}{
		{"get-forgot-password", "The page for a forgotten password", forgotPage},
		{"get-reset-password", "The page that a mail leads to, to set a new password", resetPage},
		{"get-verify-email", "The page that a mail leads to, to verify an e-mail", verifyPage},
	} {
		s.page(route{
			method: "GET", path: one.page.Action, access: public, id: one.id, tag: tagAuth, summary: one.summary, status: http.StatusOK,
		}, func(x *exchange, r *http.Request) {
			page := one.page
			page.Token = r.URL.Query().Get("token")
			s.showPage(x, r, http.StatusOK, "account.html", page)
		})
	}
}

// byForm answers a form of an account page: with what was done, or with the form again and what was wrong.
func (s *server) byForm(w http.ResponseWriter, r *http.Request, page accountPage, done string, do func(form url.Values) error) {
	x := exchangeOf(r.Context())
	form, err := readForm(x, r)
	if err == nil {
		err = do(form)
	}
	status := http.StatusOK
	if err != nil {
		status, _ = s.errorAnswer(r.Context(), x, err)
		page.Error, page.Token = messageOf(err), form.Get("token")
	} else {
		page = accountPage{Title: page.Title, Text: done, Link: "/auth/login", LinkText: "Log in"}
	}
	s.showPage(x, r, status, "account.html", page)
}

func (s *server) forgotByForm(w http.ResponseWriter, r *http.Request) {
	s.byForm(w, r, forgotPage, saidForgot, func(form url.Values) error {
		return s.engine.Identity.ForgotPassword(r.Context(), form.Get("email"), s.limited(r))
	})
}

func (s *server) resetByForm(w http.ResponseWriter, r *http.Request) {
	s.byForm(w, r, resetPage, saidReset, func(form url.Values) error {
		return s.engine.Identity.ResetPassword(r.Context(), form.Get("token"), form.Get("password"), s.limited(r))
	})
}

func (s *server) verifyByForm(w http.ResponseWriter, r *http.Request) {
	s.byForm(w, r, verifyPage, saidVerified, func(form url.Values) error {
		_, err := s.engine.Identity.VerifyEmail(r.Context(), form.Get("token"), s.limited(r))
		return err
	})
}
