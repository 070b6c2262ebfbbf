package outbox_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/examples/outbox"
	"github.com/nexus-protocol/nexus/ports"
	"github.com/nexus-protocol/nexus/ports/portstest"
)

func TestMailer(t *testing.T) {
	dir := t.TempDir()
	received := func() []ports.Mail {
		out := []ports.Mail{}
		files, err := filepath.Glob(filepath.Join(dir, "*.json")) // by name
		require.NoError(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			var one ports.Mail
			require.NoError(t, json.Unmarshal(text, &one))
			out = append(out, one)
		}
		return out
	}
	require.NoError(t, portstest.Mailer(t.Context(), outbox.New(dir), received))
}
