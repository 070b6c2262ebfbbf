package echo_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/examples/echo"
)

func TestEcho(t *testing.T) {
	server := httptest.NewServer(echo.Handler("http://a.example.com"))
	t.Cleanup(server.Close)
	for body, want := range map[string]string{
		`{"jsonrpc":"2.0","id":7,"method":"message/send","params":{"message":{"messageId":"m","parts":[{"kind":"text","text":"hi"}]}}}`: `"parts":[{"kind":"text","text":"hi"}]`,
		`{`:                                `-32700`,
		`{"id":1,"method":"message/send"}`: `-32600`,
		`{"jsonrpc":"2.0","id":1,"method":"dance"}`:                      `-32601`,
		`{"jsonrpc":"2.0","id":1,"method":"message/send"}`:               `-32602`,
		`{"jsonrpc":"2.0","x":"` + strings.Repeat("x", 2<<20) + `"}`:     `-32700`,
		`{"jsonrpc":"2.0","id":"a","method":"message/send","params":[]}`: `-32700`,
	} {
		res, err := http.Post(server.URL, "application/json", strings.NewReader(body))
		require.NoError(t, err)
		got, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Contains(t, string(got), want)
	}
	for _, path := range []string{"/.well-known/agent-card.json", "/.well-known/agent.json"} {
		res, err := http.Get(server.URL + path)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusOK, res.StatusCode)
	}
}
