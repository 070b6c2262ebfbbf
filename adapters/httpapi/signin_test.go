package httpapi_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/httpapi"
	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/ports"
)

const secret = "correct horse battery"

// site is a server with a mailer and an identity provider.
type site struct {
	t     *testing.T
	url   string
	log   logBuffer
	mails *memory.Mailer
	idp   *memory.Provider
}

func newSite(t *testing.T, opt httpapi.Options) *site {
	t.Helper()
	s := &site{
		t: t, mails: memory.NewMailer(),
		idp: memory.NewProvider(ports.ProviderInfo{Name: "fake", Title: "Fake & Co", Issuer: "https://id.example.com", Redirect: true, Token: true}),
	}
	opt.Logger = s.log.logger()
	now := time.Now() // of the limits: however long the test takes, nothing is allowed again
	engine := newEngine(t, func(c *app.Config) {
		c.Limits = memory.NewLimiter(func() time.Time { return now })
		c.Mailer, c.Providers, c.PublicURL = s.mails, []ports.IdentityProvider{s.idp}, "https://nexus.example.com"
	})
	srv := httptest.NewServer(httpapi.New(engine, opt))
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

// browser keeps cookies and follows no redirect.
type browser struct {
	*site
	http *http.Client
}

func (s *site) browser() *browser {
	jar, err := cookiejar.New(nil)
	require.NoError(s.t, err)
	return &browser{s, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

type page struct {
	*http.Response
	text string
}

// ask sends a request; a url.Values body is a form, anything else JSON.
func (b *browser) ask(method, path string, body any, headers ...string) page {
	b.t.Helper()
	var in io.Reader
	kind := ""
	switch v := body.(type) {
	case nil:
	case url.Values:
		in, kind = strings.NewReader(v.Encode()), "application/x-www-form-urlencoded"
	default:
		text, err := json.Marshal(v)
		require.NoError(b.t, err)
		in, kind = bytes.NewReader(text), "application/json"
	}
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.url+path, in)
	require.NoError(b.t, err)
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := b.http.Do(r)
	require.NoError(b.t, err)
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	require.NoError(b.t, err)
	return page{res, string(text)}
}

func (p page) cookie(name string) *http.Cookie {
	for _, c := range p.Cookies() {
		if c.Name == name {
			return c
		}
	}
	return nil
}

func (b *browser) data(p page, status int) map[string]any {
	b.t.Helper()
	require.Equal(b.t, status, p.StatusCode, p.text)
	var out struct{ Data map[string]any }
	require.NoError(b.t, json.Unmarshal([]byte(p.text), &out))
	return out.Data
}

func (b *browser) code(p page) string {
	b.t.Helper()
	var out struct{ Error struct{ Code string } }
	require.NoError(b.t, json.Unmarshal([]byte(p.text), &out), p.text)
	return fmt.Sprint(p.StatusCode, " ", out.Error.Code)
}

func (b *browser) in() bool { return b.ask("GET", "/auth/account", nil).StatusCode == http.StatusOK }

func (b *browser) signUp(email string) *browser {
	b.t.Helper()
	b.data(b.ask("POST", "/auth/signup", map[string]string{"email": email, "password": secret}, "User-Agent", "Test/1"), http.StatusCreated)
	return b
}

var link = regexp.MustCompile(`https://nexus\.example\.com(/auth/\S+)`)

// mailed waits for a mail and returns where its link leads.
func (s *site) mailed(to, about string) string {
	s.t.Helper()
	path := ""
	require.Eventually(s.t, func() bool {
		for _, m := range s.mails.Sent() {
			if m.To == to && m.Subject == about {
				path = link.FindStringSubmatch(m.Text)[1]
			}
		}
		return path != ""
	}, 5*time.Second, time.Millisecond)
	return path
}

func tokenIn(path string) string { return path[strings.Index(path, "token=")+len("token="):] }

// isSafe looks at what every page about signing in must be: nothing runs in it, nothing frames it, nothing keeps it.
func isSafe(t *testing.T, p page) {
	t.Helper()
	assert.Equal(t, "text/html; charset=utf-8", p.Header.Get("Content-Type"))
	for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "form-action 'self'", "base-uri 'none'"} {
		assert.Contains(t, p.Header.Get("Content-Security-Policy"), want)
	}
	assert.Equal(t, "no-store", p.Header.Get("Cache-Control"))
	assert.Equal(t, "same-origin", p.Header.Get("Referrer-Policy"))
	assert.NotContains(t, p.text, "<script")
}

func TestAForgottenPasswordInTheBrowser(t *testing.T) {
	s := newSite(t, httpapi.Options{RateLimit: true})
	ann := s.browser().signUp("ann@example.com")
	other := s.browser()

	p := other.ask("GET", "/auth/login", nil)
	isSafe(t, p)
	assert.Contains(t, p.text, `href="/auth/forgot-password"`)
	p = other.ask("GET", "/auth/forgot-password", nil)
	isSafe(t, p)
	assert.Contains(t, p.text, `action="/auth/forgot-password"`)

	// The answer is the same whether there is an account or not.
	answers := map[string]bool{}
	for _, email := range []string{"ann@example.com", "nobody@example.com"} {
		p = other.ask("POST", "/auth/forgot-password", url.Values{"email": {email}})
		require.Equal(t, http.StatusOK, p.StatusCode)
		isSafe(t, p)
		answers[p.text] = true
		j := other.ask("POST", "/auth/forgot-password", map[string]string{"email": email})
		require.Equal(t, http.StatusAccepted, j.StatusCode)
		answers[j.text] = true
	}
	assert.Len(t, answers, 2, "one page and one JSON")
	assert.Equal(t, "400 VALIDATION_ERROR", other.code(other.ask("POST", "/auth/forgot-password", map[string]string{"email": "x"})))

	// Following the link does nothing by itself, however often; its button does, once.
	path := s.mailed("ann@example.com", "Set a new password")
	for range 3 {
		p = other.ask("GET", path, nil)
		require.Equal(t, http.StatusOK, p.StatusCode)
		isSafe(t, p)
		assert.Contains(t, p.text, tokenIn(path))
	}
	p = other.ask("POST", "/auth/reset-password", url.Values{"token": {tokenIn(path)}, "password": {"short"}})
	assert.Equal(t, http.StatusBadRequest, p.StatusCode)
	assert.Contains(t, p.text, tokenIn(path), "the form is there again")
	assert.Contains(t, p.text, "10 to 128")
	p = other.ask("POST", "/auth/reset-password", url.Values{"token": {tokenIn(path)}, "password": {"another password"}}, "Sec-Fetch-Site", "cross-site")
	assert.Equal(t, http.StatusForbidden, p.StatusCode)
	assert.True(t, ann.in())
	p = other.ask("POST", "/auth/reset-password", url.Values{"token": {tokenIn(path)}, "password": {"another password"}})
	require.Equal(t, http.StatusOK, p.StatusCode, p.text)
	assert.Nil(t, p.cookie("nexus_session"), "who has the mail logs in with the password")
	assert.False(t, ann.in())
	assert.Equal(t, "400 VALIDATION_ERROR", other.code(other.ask("POST", "/auth/reset-password", map[string]string{"token": tokenIn(path), "password": "a third password"})))
	other.data(other.ask("POST", "/auth/login", map[string]string{"email": "ann@example.com", "password": "another password"}), http.StatusOK)

	p = other.ask("GET", `/auth/reset-password?token=%22%3E%3Cscript%3Ealert(1)%3C/script%3E`, nil)
	isSafe(t, p)
	for range 40 {
		if p = other.ask("POST", "/auth/verify-email", map[string]string{"token": strings.Repeat("A", 43)}); p.StatusCode == http.StatusTooManyRequests {
			break
		}
		require.Equal(t, http.StatusBadRequest, p.StatusCode)
	}
	assert.Equal(t, "429 RATE_LIMIT_EXCEEDED", other.code(p))
	assert.NotEmpty(t, p.Header.Get("Retry-After"))
	for _, hidden := range []string{tokenIn(path), "ann@example.com", secret, "another password"} {
		assert.NotContains(t, s.log.String(), hidden, "in the log")
	}
}

func TestAVerifiedEMailInTheBrowser(t *testing.T) {
	s := newSite(t, httpapi.Options{})
	ann := s.browser().signUp("ann@example.com")
	path := s.mailed("ann@example.com", "Confirm your e-mail address")
	verified := func() any { return ann.data(ann.ask("GET", "/auth/account", nil), http.StatusOK)["emailVerified"] }
	ann.ask("GET", path, nil)
	assert.Equal(t, false, verified())
	p := s.browser().ask("POST", "/auth/verify-email", url.Values{"token": {tokenIn(path)}}) // on another device
	require.Equal(t, http.StatusOK, p.StatusCode, p.text)
	assert.Equal(t, true, verified())
	ann.data(ann.ask("POST", "/auth/account/email", map[string]string{"email": "new@example.com", "password": secret}), http.StatusAccepted)
	assert.Equal(t, "new@example.com", ann.data(ann.ask("GET", "/auth/account", nil), http.StatusOK)["pendingEmail"])
	p = ann.ask("POST", "/auth/verify-email", map[string]string{"token": tokenIn(s.mailed("new@example.com", "Confirm your new e-mail address"))})
	require.Equal(t, http.StatusOK, p.StatusCode, p.text)
	assert.Equal(t, "new@example.com", ann.data(ann.ask("GET", "/auth/account", nil), http.StatusOK)["email"])
}

// go to the provider and come back: where the browser is sent to.
func (b *browser) back(to, subject string) string {
	b.t.Helper()
	state, code, err := b.idp.Visit(to, subject)
	require.NoError(b.t, err)
	return "/auth/callback/fake?" + url.Values{"state": {state}, "code": {code}}.Encode()
}

func TestSigningInAtAProvider(t *testing.T) {
	s := newSite(t, httpapi.Options{PublicURL: "http://nexus.example.com"})
	s.idp.Know(memory.Person{Subject: "1", Email: "ann@example.com", Verified: true, Token: "ann's token"})
	b := s.browser()
	p := b.ask("GET", "/auth/login?next=/dashboard%3Fa%3D1", nil)
	isSafe(t, p)
	assert.Contains(t, p.text, `<a class="btn wide" href="/auth/with/fake?next=%2Fdashboard%3Fa%3D1">Continue with Fake &amp; Co</a>`)
	ways := b.data(b.ask("GET", "/auth/ways", nil), http.StatusOK)
	assert.Equal(t, map[string]any{
		"password": true, "signUp": true, "mail": true,
		"providers": []any{map[string]any{"name": "fake", "title": "Fake & Co", "url": "/auth/with/fake", "token": true}},
	}, ways)

	p = b.ask("GET", "/auth/with/fake?next=/dashboard%3Fa%3D1", nil)
	require.Equal(t, http.StatusSeeOther, p.StatusCode, p.text)
	assert.True(t, strings.HasPrefix(p.Header.Get("Location"), "https://id.example.com/authorize?"))
	flow := p.cookie("nexus_signin")
	require.NotNil(t, flow)
	assert.True(t, flow.HttpOnly)
	assert.Equal(t, http.SameSiteLaxMode, flow.SameSite)
	assert.Equal(t, "/auth/", flow.Path)
	assert.Equal(t, 600, flow.MaxAge)
	p = b.ask("GET", b.back(p.Header.Get("Location"), "1"), nil, "Sec-Fetch-Site", "cross-site")
	require.Equal(t, http.StatusSeeOther, p.StatusCode, p.text)
	assert.Equal(t, "/dashboard?a=1", p.Header.Get("Location"))
	session := p.cookie("nexus_session")
	require.NotNil(t, session)
	assert.True(t, session.HttpOnly)
	assert.Negative(t, p.cookie("nexus_signin").MaxAge)
	assert.True(t, b.in())

	// The session that the browser had goes when another one comes.
	thief := s.browser()
	u, err := url.Parse(s.url)
	require.NoError(t, err)
	thief.http.Jar.SetCookies(u, []*http.Cookie{{Name: "nexus_session", Value: session.Value, Path: "/"}})
	assert.True(t, thief.in())
	p = b.ask("GET", "/auth/with/fake", nil)
	p = b.ask("GET", b.back(p.Header.Get("Location"), "1"), nil)
	require.Equal(t, http.StatusSeeOther, p.StatusCode)
	assert.Equal(t, "/", p.Header.Get("Location"))
	assert.NotEqual(t, session.Value, p.cookie("nexus_session").Value)
	assert.False(t, thief.in())

	// Nowhere else, whoever asks.
	for _, next := range []string{"https://evil.example", "//evil.example", `/\evil.example`, "javascript:alert(1)", "/" + strings.Repeat("x", 5_000)} {
		p = b.ask("GET", "/auth/with/fake?next="+url.QueryEscape(next), nil)
		p = b.ask("GET", b.back(p.Header.Get("Location"), "1"), nil)
		assert.Equal(t, "/", p.Header.Get("Location"), next)
	}
	p = b.ask("GET", "/auth/with/fake", nil)
	way := b.back(p.Header.Get("Location"), "1")
	value := p.cookie("nexus_signin").Value
	secret, _, _ := strings.Cut(value, ".")
	b.http.Jar.SetCookies(u, []*http.Cookie{{Name: "nexus_signin", Value: secret + ".in.Ly9ldmlsLmV4YW1wbGU", Path: "/auth/"}}) // //evil.example
	assert.Equal(t, "/", b.ask("GET", way, nil).Header.Get("Location"))

	// What was begun elsewhere ends nowhere.
	for name, path := range map[string]string{
		"another's answer":    way,
		"no answer":           "/auth/callback/fake",
		"the person said no":  "/auth/callback/fake?error=access_denied&error_description=%3Cscript%3E",
		"an unknown provider": "/auth/callback/other?state=x&code=x",
		"a provider to begin": "/auth/with/other",
		"a made-up state":     "/auth/callback/fake?state=x&code=x",
		"hostile":             "/auth/callback/fake?state=%00&code=%ff",
	} {
		p = s.browser().ask("GET", path, nil)
		assert.Contains(t, []int{http.StatusUnauthorized, http.StatusNotFound}, p.StatusCode, name)
		isSafe(t, p)
		assert.Contains(t, p.text, `role="alert"`, name)
		assert.NotContains(t, p.text, "script", name)
		assert.Nil(t, p.cookie("nexus_session"), name)
	}
	p = s.browser().ask("GET", "/auth/with/fake?next=/x", nil, "Sec-Fetch-Site", "cross-site")
	assert.Equal(t, "/auth/login?next=%2Fx", p.Header.Get("Location"))
	assert.Nil(t, p.cookie("nexus_signin"))

	// By a token.
	b = s.browser()
	assert.Equal(t, "401 UNAUTHORIZED", b.code(b.ask("POST", "/auth/token", map[string]string{"provider": "fake", "token": "x"})))
	assert.Equal(t, "404 NOT_FOUND", b.code(b.ask("POST", "/auth/token", map[string]string{"provider": "other", "token": "x"})))
	assert.Equal(t, "403 FORBIDDEN", b.code(b.ask("POST", "/auth/token", map[string]string{"provider": "fake", "token": "ann's token"}, "Origin", "https://evil.example")))
	assert.False(t, b.in())
	b.data(b.ask("POST", "/auth/token", map[string]string{"provider": "fake", "token": "ann's token"}), http.StatusOK)
	assert.True(t, b.in())
	assert.NotContains(t, s.log.String(), "ann's token")
}

func TestLinkingAnIdentity(t *testing.T) {
	s := newSite(t, httpapi.Options{})
	s.idp.Know(memory.Person{Subject: "1", Email: "ann@example.com", Verified: true})
	ann := s.browser().signUp("ann@example.com")
	stranger := s.browser()

	// The e-mail alone opens nothing.
	p := stranger.ask("GET", "/auth/with/fake", nil)
	p = stranger.ask("GET", stranger.back(p.Header.Get("Location"), "1"), nil)
	assert.Equal(t, http.StatusConflict, p.StatusCode)
	assert.Nil(t, p.cookie("nexus_session"))
	assert.Equal(t, http.StatusUnauthorized, stranger.ask("POST", "/auth/with/fake", url.Values{}).StatusCode)

	// Another site's page does not link its owner's identity.
	p = ann.ask("POST", "/auth/with/fake", url.Values{}, "Sec-Fetch-Site", "cross-site")
	assert.Equal(t, http.StatusForbidden, p.StatusCode)
	p = ann.ask("POST", "/auth/with/fake", url.Values{"next": {"/settings"}})
	require.Equal(t, http.StatusOK, p.StatusCode, p.text)
	isSafe(t, p)
	_, to, _ := strings.Cut(p.Header.Get("Refresh"), "url=")
	way := ann.back(to, "1")
	assert.Equal(t, http.StatusUnauthorized, stranger.ask("GET", way, nil).StatusCode)
	way = ann.back(to, "1")
	p = ann.ask("GET", way, nil)
	require.Equal(t, http.StatusSeeOther, p.StatusCode, p.text)
	assert.Equal(t, "/settings", p.Header.Get("Location"))

	p = stranger.ask("GET", "/auth/with/fake", nil)
	p = stranger.ask("GET", stranger.back(p.Header.Get("Location"), "1"), nil)
	require.Equal(t, http.StatusSeeOther, p.StatusCode, p.text)
	account := stranger.data(stranger.ask("GET", "/auth/account", nil), http.StatusOK)
	assert.Equal(t, "ann@example.com", account["email"])
	id := account["identities"].([]any)[0].(map[string]any)["id"].(string)
	bob := s.browser().signUp("bob@example.com")
	assert.Equal(t, "404 NOT_FOUND", bob.code(bob.ask("DELETE", "/auth/identities/"+id, nil)))
	ann.data(ann.ask("DELETE", "/auth/identities/"+id, nil), http.StatusOK)
}

func TestLookingAfterAnAccount(t *testing.T) {
	s := newSite(t, httpapi.Options{RateLimit: true})
	boss, ann, phone, bob := s.browser().signUp("boss@example.com"), s.browser().signUp("ann@example.com"), s.browser(), s.browser().signUp("bob@example.com")
	phone.data(phone.ask("POST", "/auth/login", map[string]string{"email": "ann@example.com", "password": secret}, "User-Agent", "Phone"), http.StatusOK)

	p := ann.ask("GET", "/auth/sessions", nil)
	var list struct {
		Data []struct {
			ID, Address, Device string
			Current             bool
		}
	}
	require.NoError(t, json.Unmarshal([]byte(p.text), &list))
	require.Len(t, list.Data, 2)
	var phones string
	for _, one := range list.Data {
		assert.Equal(t, "127.0.0.1", one.Address)
		if !one.Current {
			phones = one.ID
			assert.Equal(t, "Phone", one.Device)
		}
	}
	assert.Equal(t, "404 NOT_FOUND", bob.code(bob.ask("DELETE", "/auth/sessions/"+phones, nil)))
	assert.Equal(t, "404 NOT_FOUND", ann.code(ann.ask("DELETE", "/auth/sessions/nonsense", nil)))
	assert.Equal(t, "403 FORBIDDEN", ann.code(ann.ask("DELETE", "/auth/sessions/"+phones, nil, "Origin", "https://evil.example")))
	assert.True(t, phone.in())
	ann.data(ann.ask("DELETE", "/auth/sessions/"+phones, nil), http.StatusOK)
	assert.False(t, phone.in())
	phone.data(phone.ask("POST", "/auth/login", map[string]string{"email": "ann@example.com", "password": secret}), http.StatusOK)
	ann.data(ann.ask("DELETE", "/auth/sessions", nil), http.StatusOK)
	assert.False(t, phone.in())

	assert.Equal(t, "400 VALIDATION_ERROR", ann.code(ann.ask("POST", "/auth/account/password", map[string]string{"currentPassword": "wrong password", "newPassword": "another password"})))
	ann.data(ann.ask("POST", "/auth/account/password", map[string]string{"currentPassword": secret, "newPassword": "another password"}), http.StatusOK)
	assert.True(t, ann.in())

	// Admins, and nobody else.
	assert.Equal(t, "403 FORBIDDEN", ann.code(ann.ask("GET", "/api/v1/admin/users", nil)))
	id := ann.data(ann.ask("GET", "/auth/account", nil), http.StatusOK)["id"].(string)
	assert.Equal(t, "403 FORBIDDEN", bob.code(bob.ask("POST", "/api/v1/admin/users/"+id+"/disable", nil)))
	p = boss.ask("GET", "/api/v1/admin/users?email=ANN&disabled=false", nil)
	require.Equal(t, http.StatusOK, p.StatusCode)
	assert.Contains(t, p.text, id)
	assert.NotContains(t, p.text, "bob@")
	assert.NotContains(t, strings.ToLower(p.text), "hash")
	boss.data(boss.ask("POST", "/api/v1/admin/users/"+id+"/disable", nil), http.StatusOK)
	assert.False(t, ann.in())
	assert.Equal(t, "403 FORBIDDEN", ann.code(ann.ask("POST", "/auth/login", map[string]string{"email": "ann@example.com", "password": "another password"})))
	assert.Nil(t, boss.data(boss.ask("POST", "/api/v1/admin/users/"+id+"/enable", nil), http.StatusOK)["disabledAt"])
	ann.data(ann.ask("POST", "/auth/login", map[string]string{"email": "ann@example.com", "password": "another password"}), http.StatusOK)

	assert.Equal(t, "400 VALIDATION_ERROR", ann.code(ann.ask("POST", "/auth/account/delete", map[string]string{"password": secret})))
	p = ann.ask("POST", "/auth/account/delete", map[string]string{"password": "another password"})
	ann.data(p, http.StatusOK)
	assert.Negative(t, p.cookie("nexus_session").MaxAge)
	assert.False(t, ann.in())
	assert.Equal(t, "401 UNAUTHORIZED", ann.code(ann.ask("POST", "/auth/login", map[string]string{"email": "ann@example.com", "password": "another password"})))
	s.browser().signUp("ann@example.com")
}

// Cookies are for https alone where that is how the server is reached.
func TestCookiesAreSecureBehindHTTPS(t *testing.T) {
	s := newSite(t, httpapi.Options{PublicURL: "https://nexus.example.com"})
	p := s.browser().ask("POST", "/auth/signup", map[string]string{"email": "ann@example.com", "password": secret})
	require.NotNil(t, p.cookie("nexus_session"))
	assert.True(t, p.cookie("nexus_session").Secure)
	assert.True(t, s.browser().ask("GET", "/auth/with/fake", nil).cookie("nexus_signin").Secure)
}

// Without local accounts there is no form, and nothing to forget.
func TestPagesOfAServerThatKeepsNoPasswords(t *testing.T) {
	idp := memory.NewProvider(ports.ProviderInfo{Name: "fake", Title: "Fake", Issuer: "https://id.example.com", Redirect: true})
	srv := httptest.NewServer(httpapi.New(newEngine(t, func(c *app.Config) {
		c.Providers, c.NoLocalAccounts, c.PublicURL = []ports.IdentityProvider{idp}, true, "https://nexus.example.com"
	}), httpapi.Options{}))
	t.Cleanup(srv.Close)
	b := (&site{t: t, url: srv.URL, idp: idp}).browser()
	for _, path := range []string{"/auth/login", "/auth/signup"} {
		p := b.ask("GET", path, nil)
		isSafe(t, p)
		assert.NotContains(t, p.text, "<form")
		assert.NotContains(t, p.text, "forgot-password")
		assert.Contains(t, p.text, "Continue with Fake")
	}
	for _, path := range []string{"/auth/login", "/auth/signup"} {
		assert.Equal(t, "403 FORBIDDEN", b.code(b.ask("POST", path, map[string]string{"email": "ann@example.com", "password": secret})))
	}
	assert.Equal(t, "403 FORBIDDEN", b.code(b.ask("POST", "/auth/forgot-password", map[string]string{"email": "ann@example.com"})))
}
