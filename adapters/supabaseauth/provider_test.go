package supabaseauth_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/supabaseauth"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/ports/portstest"
)

// What is in testdata was answered by github.com/supabase/auth at its commit bc32168e, for a project made for the purpose:
// one user, once with a secret and once with keys.
const (
	project = "http://127.0.0.1:9990"
	issuer  = project + "/auth/v1"
	secret  = "super-secret-jwt-token-with-at-least-32-characters-long"
	anon    = "publishable key"
	subject = "29109fe2-7da7-4353-8264-221820cb7b3c"
	email   = "ann@example.com"
	right   = "correct horse"
)

var then = time.Date(2026, 11, 25, 11, 10, 0, 0, time.UTC) // some minutes after

func recorded(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	require.NoError(t, err)
	return string(b)
}

func tokenOf(t testing.TB, name string) string {
	t.Helper()
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	require.NoError(t, json.Unmarshal([]byte(recorded(t, name)), &answer))
	return answer.AccessToken
}

// service is the project's auth service, as it was recorded.
type service struct {
	t        *testing.T
	login    string // the recording of a log-in
	token    string // that /user takes
	user     string
	password func() (status int, body string) // instead, if set
	asked    []string
	err      error
	wait     string
}

// RoundTrip implements http.RoundTripper.
func (s *service) RoundTrip(r *http.Request) (*http.Response, error) {
	if s.err != nil {
		return nil, s.err
	}
	require.Equal(s.t, "127.0.0.1:9990", r.URL.Host)
	s.asked = append(s.asked, r.Method+" "+r.URL.RequestURI())
	status, body := http.StatusNotFound, "404 page not found"
	switch r.Method + " " + r.URL.RequestURI() {
	case "POST /auth/v1/token?grant_type=password":
		require.Equal(s.t, anon, r.Header.Get("apikey"))
		var in struct{ Email, Password string }
		text, err := io.ReadAll(r.Body)
		require.NoError(s.t, err)
		require.NoError(s.t, json.Unmarshal(text, &in))
		switch {
		case s.password != nil:
			status, body = s.password()
		case in.Email == email && in.Password == right:
			status, body = http.StatusOK, recorded(s.t, s.login)
		default:
			status, body = http.StatusBadRequest, recorded(s.t, "invalid-credentials")
		}
	case "GET /auth/v1/user":
		require.Equal(s.t, anon, r.Header.Get("apikey"))
		if status, body = http.StatusOK, s.user; r.Header.Get("Authorization") != "Bearer "+s.token {
			status, body = http.StatusForbidden, recorded(s.t, "bad-jwt")
		}
	case "GET /auth/v1/.well-known/jwks.json":
		status, body = http.StatusOK, recorded(s.t, "jwks")
	}
	h := http.Header{"Content-Type": {"application/json"}}
	if s.wait != "" {
		h.Set("Retry-After", s.wait)
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

// start is a provider of a project that signs with a secret, or with keys.
func start(t *testing.T, keys bool) (*supabaseauth.Provider, *service) {
	t.Helper()
	s := &service{t: t, login: "password-hs256", user: recorded(t, "user")}
	o := supabaseauth.Options{URL: project + "/", Key: anon, Secret: secret, Transport: s, Now: func() time.Time { return then }}
	if keys {
		s.login, o.Secret = "password-es256", ""
	}
	s.token = tokenOf(t, s.login)
	p, err := supabaseauth.New(o)
	require.NoError(t, err)
	return p, s
}

func sign(t *testing.T, alg jose.SignatureAlgorithm, key any, change map[string]any) string {
	t.Helper()
	c := map[string]any{
		"iss": issuer, "sub": subject, "aud": "authenticated", "role": "authenticated", "aal": "aal1", "exp": then.Add(time.Hour).Unix(), "iat": then.Unix(),
		"email": email, "is_anonymous": false,
	}
	maps.Copy(c, change)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, nil)
	require.NoError(t, err)
	token, err := jwt.Signed(signer).Claims(c).Serialize()
	require.NoError(t, err)
	return token
}

func TestProvider(t *testing.T) {
	for name, keys := range map[string]bool{"a secret": false, "keys": true} {
		t.Run(name, func(t *testing.T) {
			p, s := start(t, keys)
			bad := map[string]string{
				"another secret":   sign(t, jose.HS256, []byte(strings.Repeat("x", 32)), nil),
				"another project":  sign(t, jose.HS256, []byte(secret), map[string]any{"iss": "https://other.supabase.co/auth/v1"}),
				"another audience": sign(t, jose.HS256, []byte(secret), map[string]any{"aud": "other"}),
				"too old":          sign(t, jose.HS256, []byte(secret), map[string]any{"exp": then.Add(-time.Minute).Unix()}),
				"without end":      sign(t, jose.HS256, []byte(secret), map[string]any{"exp": nil}),
				"not yet":          sign(t, jose.HS256, []byte(secret), map[string]any{"nbf": then.Add(time.Hour).Unix()}),
				"nobody's":         sign(t, jose.HS256, []byte(secret), map[string]any{"sub": nil}),
				"the service's":    sign(t, jose.HS256, []byte(secret), map[string]any{"role": "service_role"}),
				"a stranger's":     sign(t, jose.HS256, []byte(secret), map[string]any{"is_anonymous": true}),
				"of no algorithm":  "eyJhbGciOiJub25lIn0." + strings.Split(s.token, ".")[1] + ".",
				"another way":      sign(t, jose.HS512, []byte(strings.Repeat("x", 64)), nil),
			}
			if keys {
				bad["signed with a secret"] = sign(t, jose.HS256, []byte(secret), nil)
			} else {
				bad["signed with a key"] = tokenOf(t, "password-es256")
			}
			require.NoError(t, portstest.IdentityProvider(t.Context(), p, portstest.ProviderCase{
				Issuer: issuer, Subject: subject, Email: email, LoginEmail: email, LoginPassword: right, Token: s.token, Bad: bad,
			}))
		})
	}
}

// The tokens' own claims about the e-mail are what users write about themselves; the service's word counts.
func TestTheServiceSaysWhatIsVerified(t *testing.T) {
	p, s := start(t, false)
	require.Contains(t, s.user, `"email_verified": true`)
	s.user = strings.Replace(s.user, `"email_confirmed_at": "`, `"email_confirmed_at": null, "x": "`, 1)
	who, err := p.Token(t.Context(), s.token)
	require.NoError(t, err)
	require.Equal(t, identity.Outside{Issuer: issuer, Subject: subject, Email: email}, who)
}

func TestASecondFactorIsNotPassedOver(t *testing.T) {
	p, s := start(t, false)
	s.user = `{"id": "` + subject + `", "email": "ann@example.com", "factors": [{"status": "unverified"}, {"status": "verified"}]}`
	_, err := p.Token(t.Context(), s.token)
	require.True(t, fault.Has(err, fault.CodeForbidden), "%v", err)
	s.password = func() (int, string) {
		return http.StatusOK, `{"access_token": "` + s.token + `", "user": ` + s.user + `}`
	}
	_, err = p.Password(t.Context(), email, right)
	require.True(t, fault.Has(err, fault.CodeForbidden), "%v", err)
	s.token = sign(t, jose.HS256, []byte(secret), map[string]any{"aal": "aal2"})
	_, err = p.Token(t.Context(), s.token)
	require.NoError(t, err)
}

func TestWhatTheServiceRefuses(t *testing.T) {
	p, s := start(t, false)
	for name, c := range map[string]struct {
		status int
		body   string
		want   fault.Code
	}{
		"not confirmed":        {400, recorded(t, "email-not-confirmed"), fault.CodeForbidden},
		"banned":               {400, recorded(t, "user-banned"), fault.CodeForbidden},
		"older, wrong":         {400, `{"error":"invalid_grant","error_description":"Invalid login credentials"}`, fault.CodeUnauthorized},
		"older, not confirmed": {400, `{"error":"invalid_grant","error_description":"Email not confirmed"}`, fault.CodeForbidden},
		"too many":             {429, `{"code":429,"error_code":"over_request_rate_limit","msg":"x"}`, fault.CodeRateLimitExceeded},
		"a wrong key":          {401, `{"message":"Invalid API key"}`, fault.CodeProtocol},
		"away":                 {503, `<html>`, fault.CodeUnavailable},
		"no JSON":              {200, `<html>`, fault.CodeProtocol},
		"another's token":      {200, `{"access_token":"` + s.token + `","user":{"id":"other","email":"ann@example.com"}}`, fault.CodeProtocol},
		"a token that is none": {200, `{"access_token":"x","user":{"id":"` + subject + `"}}`, fault.CodeProtocol},
		"no token":             {200, `{}`, fault.CodeProtocol},
		"without end":          {200, `{"access_token":"` + strings.Repeat("x", 2<<20), fault.CodeProtocol},
	} {
		s.password = func() (int, string) { return c.status, c.body }
		s.wait = "7"
		_, err := p.Password(t.Context(), email, right)
		require.True(t, fault.Has(err, c.want), "%s: %v", name, err)
		require.NotContains(t, err.Error(), right)
		if c.want == fault.CodeRateLimitExceeded {
			f, _ := fault.As(err)
			require.Equal(t, 7, f.Details["retryAfter"])
		}
	}
	s.token = "" // the session has ended
	_, err := p.Token(t.Context(), tokenOf(t, "password-hs256"))
	require.True(t, fault.Has(err, fault.CodeUnauthorized), "%v", err)

	for _, keys := range []bool{false, true} {
		p, s := start(t, keys)
		s.err = errors.New("no route to host")
		_, err := p.Password(t.Context(), email, right)
		require.True(t, fault.Has(err, fault.CodeUnavailable), "%v", err)
		_, err = p.Token(t.Context(), s.token)
		require.True(t, fault.Has(err, fault.CodeUnavailable), "%v", err)
	}
}

// What is no token of the project's asks it for nothing.
func TestGarbageIsNotPassedOn(t *testing.T) {
	p, s := start(t, true)
	for _, token := range []string{"", "x", "a.b.c", strings.Repeat("x", 100_000), sign(t, jose.HS256, []byte(secret), nil)} {
		_, err := p.Token(context.Background(), token)
		require.True(t, fault.Has(err, fault.CodeUnauthorized), "%v", err)
	}
	require.Empty(t, s.asked)
}

func TestOptions(t *testing.T) {
	for name, o := range map[string]supabaseauth.Options{
		"no URL":       {Key: anon},
		"in the clear": {URL: "http://x.supabase.co", Key: anon},
		"no key":       {URL: "https://x.supabase.co"},
		"short secret": {URL: "https://x.supabase.co", Key: anon, Secret: "short"},
	} {
		_, err := supabaseauth.New(o)
		require.Error(t, err, name)
		require.NotContains(t, err.Error(), "short")
	}
}
