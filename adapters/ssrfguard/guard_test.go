package ssrfguard

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/ports/portstest"
)

func TestConformance(t *testing.T) {
	require.NoError(t, portstest.EndpointGuard(t.Context(), New(false)))
}

type names map[string][]netip.Addr

func (n names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	return n[host], nil
}

func TestEveryAddressOfANameMustBePublic(t *testing.T) {
	g := New(false)
	g.resolver = names{
		"fine.example":  {netip.MustParseAddr("8.8.8.8")},
		"mixed.example": {netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("::ffff:10.0.0.1")},
	}
	require.NoError(t, g.Check(t.Context(), "http://fine.example/"))
	require.True(t, fault.Has(g.Check(t.Context(), "http://mixed.example/"), fault.CodeValidation))
}

// A name that was fine when it was checked and leads inside when it is dialled is refused at the connection.
func TestConnectionsAreCheckedToo(t *testing.T) {
	inside := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(inside.Close)
	for _, url := range []string{inside.URL, "http://localhost:" + inside.URL[len("http://127.0.0.1:"):]} {
		_, err := (&http.Client{Transport: New(false).Transport()}).Get(url)
		require.ErrorIs(t, err, ErrProhibited)
	}
	res, err := (&http.Client{Transport: New(true).Transport()}).Get(inside.URL)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
}

func TestTheEnvironmentsProxyIsNotUsed(t *testing.T) {
	require.Nil(t, New(false).Transport().Proxy)
}
