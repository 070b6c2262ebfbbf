// Package oidcauth signs people in at any OpenID Connect provider: by the authorization code, with PKCE, state and nonce.
package oidcauth

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/nexus-protocol/nexus/adapters/internal/idp"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/ports"
)

var _ ports.IdentityProvider = (*Provider)(nil)

// Options are a client's registration at a provider. Where it leads browsers back to is the server's public address with
// /auth/callback/ and the name.
type Options struct {
	Name         string // in addresses; default oidc
	Title        string // for people; default OpenID Connect
	Issuer       string // https://…, exactly as the provider calls itself
	ClientID     string
	ClientSecret string   // "" for a public client
	Scopes       []string // default openid, email

	Transport http.RoundTripper // default: Go's
}

// Provider is a ports.IdentityProvider. It reads the provider's configuration when it first needs it, so the provider need
// not be there when the server starts.
type Provider struct {
	opt    Options
	client *http.Client

	mu    sync.Mutex
	known *oidc.Provider
}

// New makes a provider.
func New(o Options) (*Provider, error) {
	if err := idp.CheckURL(o.Issuer); err != nil {
		return nil, fmt.Errorf("the OpenID Connect issuer %w", err)
	}
	if o.ClientID == "" {
		return nil, errors.New("the OpenID Connect client has no id")
	}
	if o.Name == "" {
		o.Name = "oidc"
	}
	if o.Title == "" {
		o.Title = "OpenID Connect"
	}
	if len(o.Scopes) == 0 {
		o.Scopes = []string{oidc.ScopeOpenID, "email"}
	}
	return &Provider{opt: o, client: idp.Client(o.Transport)}, nil
}

// Info implements ports.IdentityProvider.
func (p *Provider) Info() ports.ProviderInfo {
	return ports.ProviderInfo{Name: p.opt.Name, Title: p.opt.Title, Issuer: p.opt.Issuer, Redirect: true}
}

// Password implements ports.IdentityProvider: there is no such way.
func (p *Provider) Password(context.Context, string, string) (identity.Outside, error) {
	return identity.Outside{}, idp.NoSuchWay()
}

// Token implements ports.IdentityProvider: there is no such way.
func (p *Provider) Token(context.Context, string) (identity.Outside, error) {
	return identity.Outside{}, idp.NoSuchWay()
}

// discover reads the provider's configuration once. Several may do so at the same time until one has it.
func (p *Provider) discover(ctx context.Context) (*oidc.Provider, error) {
	p.mu.Lock()
	known := p.known
	p.mu.Unlock()
	if known != nil {
		return known, nil
	}
	known, err := oidc.NewProvider(oidc.ClientContext(ctx, p.client), p.opt.Issuer)
	if err != nil {
		return nil, errors.Join(idp.Away(), fmt.Errorf("discover %s: %w", p.opt.Issuer, err))
	}
	p.mu.Lock()
	p.known = known
	p.mu.Unlock()
	return known, nil
}

func (p *Provider) config(known *oidc.Provider, f ports.SignInFlow) *oauth2.Config {
	to := known.Endpoint()
	to.AuthStyle = p.authStyle(known) // said, as finding it out costs a code
	return &oauth2.Config{
		ClientID: p.opt.ClientID, ClientSecret: p.opt.ClientSecret, Endpoint: to, RedirectURL: f.RedirectURL, Scopes: p.opt.Scopes,
	}
}

// authStyle is how the provider wants to be shown the client's secret: in the header, unless it says that it wants it in the
// body alone (OpenID Connect Discovery, section 3).
func (p *Provider) authStyle(known *oidc.Provider) oauth2.AuthStyle {
	var doc struct {
		Methods []string `json:"token_endpoint_auth_methods_supported"`
	}
	err := known.Claims(&doc)
	inBody := err == nil && slices.Contains(doc.Methods, "client_secret_post") && !slices.Contains(doc.Methods, "client_secret_basic")
	if p.opt.ClientSecret == "" || inBody {
		return oauth2.AuthStyleInParams
	}
	return oauth2.AuthStyleInHeader
}

// Begin implements ports.IdentityProvider.
func (p *Provider) Begin(ctx context.Context, f ports.SignInFlow) (string, error) {
	known, err := p.discover(ctx)
	if err != nil {
		return "", err
	}
	return p.config(known, f).AuthCodeURL(f.State, oidc.Nonce(f.Nonce), oauth2.S256ChallengeOption(f.Verifier)), nil
}

// claims are what an ID token, or the user's information, says of the person.
type claims struct {
	Email    string `json:"email"`
	Verified yes    `json:"email_verified"`
	Party    string `json:"azp"`
}

// yes is a truth; some providers write it as a text.
type yes bool

// UnmarshalJSON implements json.Unmarshaler.
func (y *yes) UnmarshalJSON(b []byte) error {
	*y = string(b) == "true" || string(b) == `"true"`
	return nil
}

// Finish implements ports.IdentityProvider.
func (p *Provider) Finish(ctx context.Context, f ports.SignInFlow, code string) (identity.Outside, error) {
	if code == "" {
		return identity.Outside{}, idp.Refused()
	}
	known, err := p.discover(ctx)
	if err != nil {
		return identity.Outside{}, err
	}
	ctx = oidc.ClientContext(ctx, p.client)
	token, err := p.config(known, f).Exchange(ctx, code, oauth2.VerifierOption(f.Verifier))
	if err != nil {
		return identity.Outside{}, classify(err)
	}
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return identity.Outside{}, idp.Nonsense()
	}
	id, err := known.Verifier(&oidc.Config{ClientID: p.opt.ClientID}).Verify(ctx, raw)
	if err != nil {
		return identity.Outside{}, errors.Join(idp.Refused(), fmt.Errorf("id token: %w", err))
	}
	var c claims
	if err := id.Claims(&c); err != nil {
		return identity.Outside{}, errors.Join(idp.Nonsense(), err)
	}
	switch {
	case f.Nonce == "" || subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(f.Nonce)) != 1, // another sign-in's
		len(id.Audience) > 1 && c.Party != p.opt.ClientID, // meant for another
		id.AccessTokenHash != "" && id.VerifyAccessToken(token.AccessToken) != nil:
		return identity.Outside{}, idp.Refused()
	}
	if c.Email == "" && known.UserInfoEndpoint() != "" {
		info, err := known.UserInfo(ctx, oauth2.StaticTokenSource(token))
		if err != nil {
			return identity.Outside{}, errors.Join(idp.Away(), fmt.Errorf("user's information: %w", err))
		}
		var more claims
		if err := info.Claims(&more); err != nil || info.Subject != id.Subject {
			return identity.Outside{}, idp.Nonsense()
		}
		c.Email, c.Verified = more.Email, more.Verified
	}
	email, ok := identity.NormalizeEmail(c.Email)
	return identity.Outside{Issuer: id.Issuer, Subject: id.Subject, Email: email, Verified: ok && bool(c.Verified)}, nil
}

// classify tells a code that is no good from a provider that is.
func classify(err error) error {
	var refused *oauth2.RetrieveError
	if !errors.As(err, &refused) {
		if strings.Contains(err.Error(), "cannot parse") || strings.Contains(err.Error(), "missing access_token") {
			return errors.Join(idp.Nonsense(), errors.New("token endpoint: no token in the answer"))
		}
		return errors.Join(idp.Away(), fmt.Errorf("token endpoint: %w", err))
	}
	why := fmt.Errorf("token endpoint: status %d, error %q", refused.Response.StatusCode, refused.ErrorCode) // not the body, which may be anything
	switch {
	case refused.ErrorCode == "invalid_grant":
		return errors.Join(idp.Refused(), why)
	case refused.Response.StatusCode >= http.StatusInternalServerError:
		return errors.Join(idp.Away(), why)
	default: // we are not known there, or have the wrong secret
		return errors.Join(idp.Nonsense(), why)
	}
}
