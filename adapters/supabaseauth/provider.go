// Package supabaseauth signs in the users of a Supabase project: with their e-mail and password at the project's own
// endpoint, or with an access token that the project gave them.
package supabaseauth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/nexus-protocol/nexus/adapters/internal/idp"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/ports"
)

var _ ports.IdentityProvider = (*Provider)(nil)

const (
	name     = "supabase"
	audience = "authenticated"
	leeway   = 30 * time.Second // between the clocks
)

// Options say which project.
type Options struct {
	// URL is the project's, https://<ref>.supabase.co, or that of a server of one's own. Its auth service is at /auth/v1.
	URL string
	// Key is the project's publishable (anon) key, which goes with every request.
	Key string
	// Secret is the project's JWT secret, if it signs with one (HS256). "": its tokens are checked with the keys that it
	// publishes.
	Secret string

	Transport http.RoundTripper // default: Go's
	Now       func() time.Time  // default: time.Now
}

// Provider is a ports.IdentityProvider.
type Provider struct {
	issuer string
	opt    Options
	client *http.Client
	keys   oidc.KeySet // nil with a secret
}

// New makes a provider. It does not connect yet.
func New(o Options) (*Provider, error) {
	o.URL = strings.TrimRight(o.URL, "/")
	if err := idp.CheckURL(o.URL); err != nil {
		return nil, fmt.Errorf("the Supabase URL %w", err)
	}
	if o.Key == "" {
		return nil, errors.New("the Supabase project's publishable (anon) key is missing")
	}
	if o.Secret != "" && len(o.Secret) < 32 {
		return nil, errors.New("the Supabase JWT secret must have at least 32 characters")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	p := &Provider{issuer: o.URL + "/auth/v1", opt: o, client: idp.Client(o.Transport)}
	if o.Secret == "" {
		p.keys = oidc.NewRemoteKeySet(oidc.ClientContext(context.Background(), p.client), p.issuer+"/.well-known/jwks.json")
	}
	return p, nil
}

// Info implements ports.IdentityProvider.
func (p *Provider) Info() ports.ProviderInfo {
	return ports.ProviderInfo{Name: name, Title: "Supabase", Issuer: p.issuer, Password: true, Token: true}
}

// Begin implements ports.IdentityProvider: there is no such way.
func (p *Provider) Begin(context.Context, ports.SignInFlow) (string, error) {
	return "", idp.NoSuchWay()
}

// Finish implements ports.IdentityProvider: there is no such way.
func (p *Provider) Finish(context.Context, ports.SignInFlow, string) (identity.Outside, error) {
	return identity.Outside{}, idp.NoSuchWay()
}

// claims are what an access token says.
type claims struct {
	jwt.Claims
	Role      string `json:"role"`
	Level     string `json:"aal"`
	Anonymous bool   `json:"is_anonymous"`
}

// user is what the auth service itself says of a user. A token's claims about the e-mail come from what users may write
// about themselves; these do not.
type user struct {
	ID          string     `json:"id"`
	Email       string     `json:"email"`
	ConfirmedAt *time.Time `json:"email_confirmed_at"`
	Factors     []struct {
		Status string `json:"status"`
	} `json:"factors"`
}

// Password implements ports.IdentityProvider. One request, and one for the project's keys when they are not known.
func (p *Provider) Password(ctx context.Context, email, password string) (identity.Outside, error) {
	if password == "" {
		return identity.Outside{}, wrongPassword()
	}
	body, err := json.Marshal(map[string]string{"email": email, "password": password})
	if err != nil {
		return identity.Outside{}, fmt.Errorf("encode: %w", err)
	}
	var answer struct {
		AccessToken string `json:"access_token"`
		User        user   `json:"user"`
	}
	if err := p.ask(ctx, http.MethodPost, "/token?grant_type=password", "", body, &answer); err != nil {
		var no *refusal
		if errors.As(err, &no) {
			return identity.Outside{}, no.ofPassword()
		}
		return identity.Outside{}, err
	}
	c, err := p.verify(ctx, answer.AccessToken)
	if err != nil {
		if fault.Has(err, fault.CodeUnauthorized) { // then the token is at fault, and not the person
			err = errors.Join(idp.Nonsense(), fmt.Errorf("the project's own token does not hold; is the JWT secret right? %w", errors.Unwrap(err)))
		}
		return identity.Outside{}, err
	}
	return p.outside(c, answer.User)
}

// Token implements ports.IdentityProvider. One request, which also finds out if the token's session still holds, and one
// for the project's keys when they are not known.
func (p *Provider) Token(ctx context.Context, token string) (identity.Outside, error) {
	c, err := p.verify(ctx, token)
	if err != nil {
		return identity.Outside{}, err
	}
	var u user
	if err := p.ask(ctx, http.MethodGet, "/user", token, nil, &u); err != nil {
		var no *refusal
		if errors.As(err, &no) {
			return identity.Outside{}, no.ofToken()
		}
		return identity.Outside{}, err
	}
	return p.outside(c, u)
}

// outside is who a verified token and the auth service say it is.
func (p *Provider) outside(c claims, u user) (identity.Outside, error) {
	if u.ID == "" || u.ID != c.Subject {
		return identity.Outside{}, idp.Nonsense()
	}
	for _, f := range u.Factors {
		if f.Status == "verified" && c.Level != "aal2" {
			return identity.Outside{}, fault.New(fault.Forbidden, fault.CodeForbidden,
				"this account has a second factor, which cannot be asked for here: sign in with it at the project's own application, and come with its token")
		}
	}
	email, ok := identity.NormalizeEmail(u.Email)
	return identity.Outside{Issuer: p.issuer, Subject: u.ID, Email: email, Verified: ok && u.ConfirmedAt != nil}, nil
}

// verify checks a token's signature, and that it is a user's, for now.
func (p *Provider) verify(ctx context.Context, token string) (claims, error) {
	var c claims
	if p.keys == nil {
		t, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.HS256})
		if err == nil {
			err = t.Claims([]byte(p.opt.Secret), &c)
		}
		if err != nil {
			return c, errors.Join(idp.Refused(), fmt.Errorf("token: %w", err))
		}
	} else {
		// Told apart first, so that not everything that is no token makes us ask for keys.
		if _, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256, jose.RS256, jose.EdDSA}); err != nil {
			return c, errors.Join(idp.Refused(), fmt.Errorf("token: %w", err))
		}
		payload, err := p.keys.VerifySignature(ctx, token)
		switch {
		case err != nil && strings.Contains(err.Error(), "fetching keys"):
			return c, errors.Join(idp.Away(), err)
		case err != nil:
			return c, errors.Join(idp.Refused(), fmt.Errorf("token: %w", err))
		}
		if err := json.Unmarshal(payload, &c); err != nil {
			return c, errors.Join(idp.Refused(), fmt.Errorf("token: %w", err))
		}
	}
	err := c.ValidateWithLeeway(jwt.Expected{Issuer: p.issuer, AnyAudience: jwt.Audience{audience}, Time: p.opt.Now()}, leeway)
	switch {
	case err != nil:
		return c, errors.Join(idp.Refused(), fmt.Errorf("token: %w", err))
	case c.Expiry == nil || c.Subject == "" || c.Role != audience || c.Anonymous:
		return c, errors.Join(idp.Refused(), errors.New("token: it is no user's, or has no end"))
	}
	return c, nil
}

// refusal is an answer of the auth service that is not a success.
type refusal struct {
	status int
	code   string
	wait   int // seconds
}

func (r *refusal) Error() string {
	return fmt.Sprintf("supabase answers %d %s", r.status, r.code)
}

func wrongPassword() error {
	return fault.New(fault.Unauthenticated, fault.CodeUnauthorized, "e-mail or password is wrong")
}

func (r *refusal) common() error {
	switch {
	case r.status == http.StatusTooManyRequests:
		wait := max(r.wait, 1)
		return errors.Join(fault.New(fault.RateLimited, fault.CodeRateLimitExceeded,
			"the identity provider has had too many attempts; try again in %d s", wait).With("retryAfter", wait), r)
	case r.code == "user_banned":
		return fault.New(fault.Forbidden, fault.CodeForbidden, "this account is disabled at the identity provider")
	case r.status >= http.StatusInternalServerError:
		return errors.Join(idp.Away(), r)
	default: // such as a wrong key
		return errors.Join(idp.Nonsense(), r)
	}
}

func (r *refusal) ofPassword() error {
	switch r.code {
	case "invalid_credentials", "invalid_grant", "user_not_found":
		return wrongPassword()
	case "email_not_confirmed": // said only after the right password
		return fault.New(fault.Forbidden, fault.CodeForbidden, "confirm your e-mail first: the link is in the mail that you got when you signed up")
	default:
		return r.common()
	}
}

func (r *refusal) ofToken() error {
	switch r.code {
	case "bad_jwt", "session_not_found", "session_expired", "user_not_found", "no_authorization":
		return errors.Join(idp.Refused(), r)
	default:
		return r.common()
	}
}

// ask makes a request of the auth service. An answer that is no success is a *refusal.
func (p *Provider) ask(ctx context.Context, method, path, bearer string, body []byte, into any) error {
	r, err := http.NewRequestWithContext(ctx, method, p.issuer+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	r.Header.Set("apikey", p.opt.Key)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	res, err := p.client.Do(r)
	if err != nil {
		return errors.Join(idp.Away(), fmt.Errorf("supabase: %w", err))
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return errors.Join(idp.Away(), fmt.Errorf("supabase: %w", err))
	}
	if res.StatusCode != http.StatusOK {
		no := &refusal{status: res.StatusCode}
		no.wait, _ = strconv.Atoi(res.Header.Get("Retry-After"))
		var said struct {
			Code  string `json:"error_code"`
			Error string `json:"error"` // of older versions
			Text  string `json:"error_description"`
		}
		if json.Unmarshal(text, &said) == nil {
			no.code = said.Code
			if no.code == "" {
				no.code = said.Error
			}
			if no.code == "invalid_grant" && said.Text == "Email not confirmed" {
				no.code = "email_not_confirmed"
			}
		}
		return no
	}
	if err := json.Unmarshal(text, into); err != nil {
		return errors.Join(idp.Nonsense(), errors.New("supabase: the answer is no JSON of its form"))
	}
	return nil
}
