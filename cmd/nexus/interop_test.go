package main

import (
	"bufio"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/nodetest"
	"github.com/nexus-protocol/nexus/examples/echo"
	"github.com/nexus-protocol/nexus/examples/scripted"
)

const interopDir = "testdata/interop"

var sdks = sync.OnceValues(func() (string, error) { return nodetest.Install(interopDir) })

// The official JavaScript SDK, as of 1.0 and as of 0.3, does through the gateway what it does with any agent, also across a
// kill -9 of the server.
func TestJavaScriptSDKs(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"v10.mjs", "v03.mjs"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.start()
			serve := func(h *httptest.Server) string {
				t.Cleanup(h.Close)
				return h.URL
			}
			playing := httptest.NewServer(scripted.Handler(scripted.Options{BaseURL: "http://agent.example", Gateway: s.url() + "/api/v1/a2a", Slow: 2 * time.Second}))
			c := s.signUp("a@example.com")
			played := s.register(c, serve(playing), 0)
			echoes := s.register(c, serve(httptest.NewServer(echo.Handler("http://agent.example"))), 0)
			key, err := s.run("", "key", "create", "--agent", echoes, "--scopes", "*")
			require.NoError(t, err)

			cmd := exec.CommandContext(t.Context(), "node", script(t, name))
			door := s.url() + "/api/v1/a2a/agents/"
			cmd.Env = append(os.Environ(), "SCRIPTED="+door+played, "ECHO="+door+echoes, "KEY="+strings.TrimSpace(key))
			var wrong syncBuffer
			cmd.Stderr = &wrong
			in, err := cmd.StdinPipe()
			require.NoError(t, err)
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			var said []string
			for lines := bufio.NewScanner(out); lines.Scan(); {
				said = append(said, lines.Text())
				if lines.Text() == "restart" {
					s.kill()
					s.start()
					_, err = io.WriteString(in, "\n")
					require.NoError(t, err)
				}
			}
			require.NoError(t, cmd.Wait(), wrong.String())
			require.Contains(t, said, "done")
		})
	}
}
