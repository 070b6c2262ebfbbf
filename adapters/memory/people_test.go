package memory_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/ports"
	"github.com/nexus-protocol/nexus/ports/portstest"
)

func TestProvider(t *testing.T) {
	ann := memory.Person{Subject: "1", Email: "ann@example.com", Verified: true, Password: "correct horse", Token: "good.token.x"}
	for name, info := range map[string]ports.ProviderInfo{
		"every way": {Password: true, Redirect: true, Token: true}, "password": {Password: true}, "redirect": {Redirect: true}, "token": {Token: true},
	} {
		t.Run(name, func(t *testing.T) {
			info.Name, info.Title, info.Issuer = "fake", "Fake", "https://id.example.com"
			p := memory.NewProvider(info)
			p.Know(ann)
			require.NoError(t, portstest.IdentityProvider(t.Context(), p, portstest.ProviderCase{
				Issuer: info.Issuer, Subject: "1", Email: ann.Email, LoginEmail: ann.Email, LoginPassword: ann.Password, Token: ann.Token,
				Visit: func(_ context.Context, url string) (string, string, error) { return p.Visit(url, "1") },
			}))
		})
	}
}

func TestMailer(t *testing.T) {
	m := memory.NewMailer()
	require.NoError(t, portstest.Mailer(t.Context(), m, m.Sent))
}
