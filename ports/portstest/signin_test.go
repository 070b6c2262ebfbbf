package portstest_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/ports"
	"github.com/nexus-protocol/nexus/ports/portstest"
)

type (
	keptTokens    struct{ ports.TokenStore }
	sharedPeople  struct{ ports.IdentityStore }
	sparedAll     struct{ ports.SessionStore }
	forgottenUser struct{ ports.UserStore }
	strayLetters  struct{ ports.LetterStore }
)

func (s keptTokens) Take(ctx context.Context, hash string) (identity.Token, error) {
	return s.Get(ctx, hash)
}

func (s sharedPeople) Delete(ctx context.Context, userID, id string) error {
	if err := s.IdentityStore.Delete(ctx, userID, id); err != nil {
		return nil //nolint:nilerr // that is what is wrong with it
	}
	return nil
}

func (s sparedAll) DeleteByUser(context.Context, string, string) error { return nil }

func (s forgottenUser) Save(ctx context.Context, u identity.User) error {
	u.DisabledAt = nil
	return s.UserStore.Save(ctx, u)
}

func (s strayLetters) Delete(context.Context, string) error { return nil }

// Each of these stores lets in somebody whom it should not, or forgets that it must not.
func TestTheSuiteFindsStoresThatLetPeopleIn(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*ports.Tx)
		check string
	}{
		"a token that is good twice":     {func(tx *ports.Tx) { tx.Tokens = keptTokens{tx.Tokens} }, "tokens/life"},
		"another's identity":             {func(tx *ports.Tx) { tx.Identities = sharedPeople{tx.Identities} }, "identities/life"},
		"sessions that outlive revoking": {func(tx *ports.Tx) { tx.Sessions = sparedAll{tx.Sessions} }, "sessions/of a user"},
		"a user who is let in again":     {func(tx *ports.Tx) { tx.Users = forgottenUser{tx.Users} }, "users/save"},
		"letters that stay":              {func(tx *ports.Tx) { tx.Letters = strayLetters{tx.Letters} }, "letters/life"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, check := range portstest.StoreChecks() {
				if check.Name == c.check {
					require.NoError(t, check.Run(t.Context(), memory.New(), portstest.Traits{}))
					require.Error(t, check.Run(t.Context(), spoiled{Store: memory.New(), tx: c.spoil}, portstest.Traits{}))
					return
				}
			}
			t.Fatalf("no check %q", c.check)
		})
	}
}

// badProvider is a sound provider with one thing wrong.
type badProvider struct {
	*memory.Provider
	bug string
}

func (p badProvider) Begin(ctx context.Context, f ports.SignInFlow) (string, error) {
	if p.bug == "no state" {
		f.State = ""
	}
	return p.Provider.Begin(ctx, f)
}

func (p badProvider) Finish(ctx context.Context, f ports.SignInFlow, code string) (identity.Outside, error) {
	who, err := p.Provider.Finish(ctx, f, code)
	known := identity.Outside{Issuer: "https://id.example.com", Subject: "1", Email: "ann@example.com", Verified: true}
	switch {
	case p.bug == "any verifier" && strings.HasPrefix(f.Verifier, "other"), p.bug == "any nonce" && strings.HasPrefix(f.Nonce, "other"),
		p.bug == "any code" && code == "forged":
		return known, nil
	case p.bug == "unverified":
		who.Verified = false
	}
	return who, err
}

func (p badProvider) Password(ctx context.Context, email, password string) (identity.Outside, error) {
	if p.bug == "any password" {
		password = "correct horse"
	}
	return p.Provider.Password(ctx, email, password)
}

func (p badProvider) Token(ctx context.Context, token string) (identity.Outside, error) {
	if p.bug == "any end of a token" {
		token = strings.TrimSuffix(token, "x") + strings.Repeat("x", 1)
	}
	return p.Provider.Token(ctx, token)
}

func TestTheSuiteFindsBadProviders(t *testing.T) {
	for _, bug := range []string{"", "no state", "any verifier", "any nonce", "any code", "unverified", "any password", "any end of a token"} {
		sound := memory.NewProvider(ports.ProviderInfo{Name: "fake", Title: "Fake", Issuer: "https://id.example.com", Password: true, Redirect: true, Token: true})
		sound.Know(memory.Person{Subject: "1", Email: "ann@example.com", Verified: true, Password: "correct horse", Token: "good.token.x"})
		err := portstest.IdentityProvider(t.Context(), badProvider{sound, bug}, portstest.ProviderCase{
			Issuer: "https://id.example.com", Subject: "1", Email: "ann@example.com", LoginEmail: "ann@example.com", LoginPassword: "correct horse", Token: "good.token.x",
			Visit: func(_ context.Context, url string) (string, string, error) { return sound.Visit(url, "1") },
		})
		require.Equal(t, bug == "", err == nil, "%s: %v", bug, err)
	}
}

// badMailer sends whatever it is given.
type badMailer struct{ sent []ports.Mail }

func (m *badMailer) Send(_ context.Context, one ports.Mail) error {
	m.sent = append(m.sent, one)
	return nil
}

func TestTheSuiteFindsAMailerThatTakesHeaders(t *testing.T) {
	m := &badMailer{}
	require.Error(t, portstest.Mailer(t.Context(), m, func() []ports.Mail { return m.sent }))
}
