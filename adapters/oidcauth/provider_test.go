package oidcauth_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/coreos/go-oidc/v3/oidc/oidctest"
	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/oidcauth"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/ports"
	"github.com/nexus-protocol/nexus/ports/portstest"
)

const (
	clientID     = "nexus client"
	clientSecret = "s3cret:&"
	back         = "https://nexus.example.com/auth/callback/x"
)

var key = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

// server is a provider: go-oidc's for discovery and keys, with the endpoints that give codes and tokens.
type server struct {
	*httptest.Server
	t *testing.T

	mu     sync.Mutex
	codes  map[string]url.Values // → what it was asked for with
	claims map[string]any        // beside the usual ones, or instead of them
	sign   func(claims string) string
	away   bool
	inBody bool           // it wants the client's secret there
	user   map[string]any // of the user's information; nil: there is none
	answer func(w http.ResponseWriter) bool
}

func start(t *testing.T) *server {
	t.Helper()
	s := &server{t: t, codes: map[string]url.Values{}, claims: map[string]any{}}
	s.sign = func(c string) string { return oidctest.SignIDToken(key(), "k", oidc.RS256, c) }
	std := &oidctest.Server{PublicKeys: []oidctest.PublicKey{{PublicKey: key().Public(), KeyID: "k", Algorithm: oidc.RS256}}}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if s.away {
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		if (s.user != nil || s.inBody) && r.URL.Path == "/.well-known/openid-configuration" {
			rec := httptest.NewRecorder()
			std.ServeHTTP(rec, r)
			var doc map[string]any
			_ = json.Unmarshal(rec.Body.Bytes(), &doc)
			if s.user != nil {
				doc["userinfo_endpoint"] = s.URL + "/user"
			}
			if s.inBody {
				doc["token_endpoint_auth_methods_supported"] = []string{"client_secret_post"}
			}
			_ = json.NewEncoder(w).Encode(doc)
			return
		}
		std.ServeHTTP(w, r)
	})
	mux.HandleFunc("GET /auth", s.authorize)
	mux.HandleFunc("POST /token", s.token)
	mux.HandleFunc("GET /user", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer access" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.user)
	})
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	std.SetIssuer(s.URL)
	return s
}

func (s *server) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Get("client_id") != clientID || q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || q.Get("scope") != "openid email" {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	code := rand.Text()
	s.mu.Lock()
	s.codes[code] = q
	s.mu.Unlock()
	http.Redirect(w, r, q.Get("redirect_uri")+"?"+url.Values{"code": {code}, "state": {q.Get("state")}}.Encode(), http.StatusFound)
}

func (s *server) token(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	id, secret, basic := r.BasicAuth()
	id, _ = url.QueryUnescape(id)
	secret, _ = url.QueryUnescape(secret)
	if s.inBody && !basic {
		id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	}
	s.mu.Lock()
	asked, ok := s.codes[r.FormValue("code")]
	delete(s.codes, r.FormValue("code"))
	s.mu.Unlock()
	sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
	switch {
	case s.answer != nil && s.answer(w):
		return
	case id != clientID || secret != clientSecret:
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(`{"error":"invalid_client"}`))
		return
	case !ok || asked.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(sum[:]) || asked.Get("redirect_uri") != r.FormValue("redirect_uri"):
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"error":"invalid_grant"}`))
		return
	}
	c := map[string]any{
		"iss": s.URL, "aud": clientID, "sub": "subject 1", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(), "nonce": asked.Get("nonce"),
		"email": "Ann@example.com", "email_verified": true,
	}
	maps.Copy(c, s.claims)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	text, _ := json.Marshal(c)
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "access", "token_type": "Bearer", "expires_in": 60, "id_token": s.sign(string(text))})
}

func (s *server) provider() *oidcauth.Provider {
	s.t.Helper()
	p, err := oidcauth.New(oidcauth.Options{Issuer: s.URL, ClientID: clientID, ClientSecret: clientSecret})
	require.NoError(s.t, err)
	return p
}

// visit is the browser.
func visit(ctx context.Context, to string) (state, code string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, to, nil)
	if err != nil {
		return "", "", err
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return "", "", err
	}
	defer func() { _ = res.Body.Close() }()
	at, err := res.Location()
	if err != nil {
		return "", "", err
	}
	return at.Query().Get("state"), at.Query().Get("code"), nil
}

func TestProvider(t *testing.T) {
	s := start(t)
	require.NoError(t, portstest.IdentityProvider(t.Context(), s.provider(), portstest.ProviderCase{
		Issuer: s.URL, Subject: "subject 1", Email: "ann@example.com", Visit: visit,
	}))
}

func TestASecretInTheBody(t *testing.T) {
	s := start(t)
	s.inBody = true
	_, _, err := s.signIn(s.provider())
	require.NoError(t, err)
}

var flow = ports.SignInFlow{RedirectURL: back, State: strings.Repeat("s", 43), Nonce: strings.Repeat("n", 43), Verifier: strings.Repeat("v", 43)}

func (s *server) signIn(p *oidcauth.Provider) (email string, verified bool, err error) {
	s.t.Helper()
	to, err := p.Begin(s.t.Context(), flow)
	require.NoError(s.t, err)
	_, code, err := visit(s.t.Context(), to)
	require.NoError(s.t, err)
	who, err := p.Finish(s.t.Context(), flow, code)
	return who.Email, who.Verified, err
}

func TestWhatATokenMustSay(t *testing.T) {
	s := start(t)
	p := s.provider()
	for name, claims := range map[string]map[string]any{
		"another issuer":          {"iss": "https://evil.example"},
		"no issuer":               {"iss": nil},
		"another audience":        {"aud": "somebody"},
		"no audience":             {"aud": nil},
		"two, meant for another":  {"aud": []string{clientID, "somebody"}, "azp": "somebody"},
		"two, meant for nobody":   {"aud": []string{clientID, "somebody"}},
		"too old":                 {"exp": time.Now().Add(-time.Hour).Unix()},
		"no end":                  {"exp": nil},
		"not yet":                 {"nbf": time.Now().Add(time.Hour).Unix()},
		"no nonce":                {"nonce": nil},
		"another nonce":           {"nonce": "other"},
		"of another access token": {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"},
	} {
		s.claims = claims
		_, _, err := s.signIn(p)
		require.True(t, fault.Has(err, fault.CodeUnauthorized), "%s: %v", name, err)
	}
	s.claims = map[string]any{"aud": []string{clientID, "somebody"}, "azp": clientID}
	_, _, err := s.signIn(p)
	require.NoError(t, err)
}

func TestWhoseSignatureCounts(t *testing.T) {
	s := start(t)
	p := s.provider()
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	public, err := x509.MarshalPKIXPublicKey(key().Public())
	require.NoError(t, err)
	part := base64.RawURLEncoding.EncodeToString
	for name, sign := range map[string]func(string) string{
		"another's":           func(c string) string { return oidctest.SignIDToken(other, "k", oidc.RS256, c) },
		"none":                func(c string) string { return part([]byte(`{"alg":"none"}`)) + "." + part([]byte(c)) + "." },
		"with the public key": func(c string) string { return oidctest.SignIDToken(public, "k", string(jose.HS256), c) },
		"with the client's": func(c string) string {
			return oidctest.SignIDToken([]byte(strings.Repeat(clientSecret, 8)), "k", string(jose.HS256), c)
		},
		"of another algorithm": func(c string) string { return oidctest.SignIDToken(key(), "k", oidc.PS256, c) },
		"of a changed text": func(c string) string {
			parts := strings.Split(oidctest.SignIDToken(key(), "k", oidc.RS256, c), ".")
			return parts[0] + "." + part([]byte(strings.Replace(c, "subject 1", "subject 2", 1))) + "." + parts[2]
		},
		"no token": func(string) string { return "x" },
	} {
		s.sign = sign
		_, _, err := s.signIn(p)
		require.True(t, fault.Has(err, fault.CodeUnauthorized), "%s: %v", name, err)
	}
}

func TestEMails(t *testing.T) {
	for name, c := range map[string]struct {
		claims, user map[string]any
		email        string
		verified     bool
	}{
		"verified":            {nil, nil, "ann@example.com", true},
		"verified, as a text": {map[string]any{"email_verified": "true"}, nil, "ann@example.com", true},
		"not verified":        {map[string]any{"email_verified": false}, nil, "ann@example.com", false},
		"not said":            {map[string]any{"email_verified": nil}, nil, "ann@example.com", false},
		"said oddly":          {map[string]any{"email_verified": 1}, nil, "ann@example.com", false},
		"no address":          {map[string]any{"email": "Ann <ann@example.com>"}, nil, "", false},
		"none":                {map[string]any{"email": nil}, nil, "", false},
		"of the user's information": {
			map[string]any{"email": nil, "email_verified": nil}, map[string]any{"sub": "subject 1", "email": "bob@example.com", "email_verified": true}, "bob@example.com", true,
		},
	} {
		s := start(t)
		s.claims, s.user = c.claims, c.user
		email, verified, err := s.signIn(s.provider())
		require.NoError(t, err, name)
		require.Equal(t, c.email, email, name)
		require.Equal(t, c.verified, verified, name)
	}
	s := start(t)
	s.claims, s.user = map[string]any{"email": nil}, map[string]any{"sub": "somebody", "email": "bob@example.com", "email_verified": true}
	_, _, err := s.signIn(s.provider())
	require.True(t, fault.Has(err, fault.CodeProtocol), "%v", err)
}

func TestAProviderThatIsOfNoUse(t *testing.T) {
	s := start(t)
	p := s.provider()
	s.away = true
	_, err := p.Begin(t.Context(), flow)
	require.True(t, fault.Has(err, fault.CodeUnavailable), "%v", err)
	s.away = false
	_, _, err = s.signIn(p)
	require.NoError(t, err, "it is asked again")

	for name, c := range map[string]struct {
		status int
		body   string
		want   fault.Code
	}{
		"away":           {http.StatusBadGateway, "", fault.CodeUnavailable},
		"no token":       {http.StatusOK, `{"access_token":"a","token_type":"Bearer"}`, fault.CodeProtocol},
		"nothing":        {http.StatusOK, `{}`, fault.CodeProtocol},
		"no JSON":        {http.StatusOK, `{`, fault.CodeProtocol},
		"without end":    {http.StatusOK, `{"access_token":"` + strings.Repeat("a", 2<<20), fault.CodeProtocol},
		"unknown client": {http.StatusUnauthorized, `{"error":"invalid_client","error_description":"s3cret"}`, fault.CodeProtocol},
	} {
		s.answer = func(w http.ResponseWriter) bool {
			w.WriteHeader(c.status)
			_, _ = w.Write([]byte(c.body))
			return true
		}
		_, _, err := s.signIn(p)
		require.True(t, fault.Has(err, c.want), "%s: %v", name, err)
		require.NotContains(t, err.Error(), "s3cret", name)
	}
}

func TestOptions(t *testing.T) {
	good := oidcauth.Options{Issuer: "https://id.example.com/realm", ClientID: "c"}
	_, err := oidcauth.New(good)
	require.NoError(t, err)
	for name, spoil := range map[string]func(*oidcauth.Options){
		"no issuer":    func(o *oidcauth.Options) { o.Issuer = "" },
		"in the clear": func(o *oidcauth.Options) { o.Issuer = "http://id.example.com" },
		"a user in it": func(o *oidcauth.Options) { o.Issuer = "https://u:p@id.example.com" },
		"a query":      func(o *oidcauth.Options) { o.Issuer = "https://id.example.com?x=1" },
		"no client":    func(o *oidcauth.Options) { o.ClientID = "" },
	} {
		o := good
		spoil(&o)
		_, err := oidcauth.New(o)
		require.Error(t, err, name)
	}
}
