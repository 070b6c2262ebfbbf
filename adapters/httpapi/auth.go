package httpapi

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/nexus-protocol/nexus/adapters/internal/websession"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/ports"
)

// identify finds out who asks. An Authorization header, good or bad, counts alone; the cookie is looked at without one.
func (s *server) identify(w http.ResponseWriter, r *http.Request, a access) (identity.Caller, error) {
	if headers := r.Header.Values("Authorization"); len(headers) > 0 {
		scheme, token, _ := strings.Cut(headers[0], " ")
		if len(headers) > 1 || !strings.EqualFold(scheme, "Bearer") || a == session {
			return identity.Caller{}, identity.Unauthorized()
		}
		return s.engine.Identity.ByKey(r.Context(), strings.TrimSpace(token))
	}
	token := websession.Token(r)
	if token == "" {
		return identity.Caller{}, identity.Unauthorized()
	}
	c, extended, err := s.engine.Identity.BySession(r.Context(), token)
	if extended { // the cookie lives as long as the session
		s.setSession(w, r, token)
	}
	return c, err
}

// setSession gives the browser a session, or with "" takes it away.
func (s *server) setSession(w http.ResponseWriter, r *http.Request, token string) {
	websession.Set(w, r, token, s.opt.SecureCookies)
}

// count takes one from the caller's allowance and tells in the headers what is left.
func (s *server) count(x *exchange, r *http.Request, rule ports.RateRule) error {
	left, err := s.engine.Limits.Take(r.Context(), x.caller, rule)
	if err != nil && left.Limit == 0 { // it could not be counted
		return err
	}
	h := x.Header()
	reset := strconv.Itoa(int(math.Ceil(left.Reset.Seconds())))
	h.Set("RateLimit-Limit", strconv.Itoa(left.Limit))
	h.Set("RateLimit-Remaining", strconv.Itoa(left.Remaining))
	h.Set("RateLimit-Reset", reset)
	h.Set("RateLimit-Policy", strconv.Quote(rule.Name)+";q="+strconv.Itoa(rule.Limit)+";w="+strconv.Itoa(int(rule.Per.Seconds())))
	h.Set("RateLimit", strconv.Quote(rule.Name)+";r="+strconv.Itoa(left.Remaining)+";t="+reset)
	return err
}

type credentialsInput struct{ Body credentialsBody }

type credentialsBody struct {
	Email    string `json:"email" doc:"The account's e-mail."`
	Password string `json:"password" doc:"10 to 128 characters."`
}

type userJSON struct {
	ID    string        `json:"id" format:"uuid"`
	Email string        `json:"email" format:"email"`
	Role  identity.Role `json:"role" enum:"user,admin"`
}

type sessionJSON struct {
	User userJSON `json:"user"`
}

type loggedOutJSON struct {
	LoggedOut bool `json:"loggedOut"`
}

func (s *server) mountAuth() {
	cookie := map[string]string{"Set-Cookie": "The session: nexus_session, HttpOnly, SameSite=Lax, 30 days."}
	register(s, route{
		method: "POST", path: "/auth/signup", access: public, browser: true, form: s.enterByForm(signUp),
		id: "sign-up", tag: tagAuth, summary: "Sign up", status: http.StatusCreated, headers: cookie,
		text:   "Makes an account with 1 000 credits and logs it in. The first account is the admin's. A form may be posted instead of JSON; it is answered with a redirect to its field next.",
		errors: []fault.Code{fault.CodeForbidden, fault.CodeEmailTaken, fault.CodeRateLimitExceeded},
	}, s.enterByJSON(signUp))
	register(s, route{
		method: "POST", path: "/auth/login", access: public, browser: true, form: s.enterByForm(logIn),
		id: "log-in", tag: tagAuth, summary: "Log in", status: http.StatusOK, headers: cookie,
		text:   "Begins a session; one that the browser had is revoked. A form may be posted instead of JSON; it is answered with a redirect to its field next.",
		errors: []fault.Code{fault.CodeForbidden, fault.CodeUnauthorized, fault.CodeEmailTaken, fault.CodeRateLimitExceeded, fault.CodeProtocol, fault.CodeUnavailable},
	}, s.enterByJSON(logIn))
	register(s, route{
		method: "POST", path: "/auth/logout", access: public, browser: true, form: s.leaveByForm,
		id: "log-out", tag: tagAuth, summary: "Log out", status: http.StatusOK,
		text:   "Revokes the session of the cookie, if there is one. A form may be posted; it is answered with a redirect to its field next.",
		errors: []fault.Code{fault.CodeForbidden},
	}, func(ctx context.Context, _ *struct{}) (one[loggedOutJSON], error) {
		x := exchangeOf(ctx)
		return answer(loggedOutJSON{true}, s.leave(x, x.request))
	})
	s.mountAccounts()
	s.page(route{
		method: "GET", path: "/auth/login", access: public, id: "get-log-in", tag: tagAuth, summary: "The page to log in", status: http.StatusOK,
	}, s.showEntry(logIn))
	s.page(route{
		method: "GET", path: "/auth/signup", access: public, id: "get-sign-up", tag: tagAuth, summary: "The page to sign up", status: http.StatusOK,
	}, s.showEntry(signUp))
}

// entry is one of the two ways in.
type entry bool

const (
	logIn  entry = false
	signUp entry = true
)

// enter checks or makes the account and gives the browser a new session.
func (s *server) enter(w http.ResponseWriter, r *http.Request, e entry, email, password string) (identity.User, error) {
	b := s.browser(r)
	in := app.Credentials{Email: email, Password: password, Address: b.Address, Device: b.Device}
	var user identity.User
	var token string
	var err error
	if e == signUp {
		if user, err = s.engine.Identity.SignUp(r.Context(), in); err == nil {
			token, err = s.engine.Identity.StartSession(r.Context(), user, b)
		}
	} else {
		user, token, err = s.engine.Identity.LogIn(r.Context(), in, b.Session)
	}
	if err != nil {
		return user, err
	}
	s.setSession(w, r, token)
	return user, nil
}

func (s *server) enterByJSON(e entry) func(context.Context, *credentialsInput) (one[sessionJSON], error) {
	return func(ctx context.Context, in *credentialsInput) (one[sessionJSON], error) {
		x := exchangeOf(ctx)
		u, err := s.enter(x, x.request, e, in.Body.Email, in.Body.Password)
		return answer(sessionJSON{userJSON{u.ID, u.Email, u.Role}}, err)
	}
}

// leave revokes the browser's session and takes its cookie away. A session that holds no more is left as it is.
func (s *server) leave(w http.ResponseWriter, r *http.Request) error {
	if token := websession.Token(r); token != "" {
		c, _, err := s.engine.Identity.BySession(r.Context(), token)
		if err == nil {
			err = s.engine.Identity.LogOut(r.Context(), c)
		}
		if err != nil && !fault.Has(err, fault.CodeUnauthorized) {
			return err
		}
	}
	s.setSession(w, r, "")
	return nil
}
