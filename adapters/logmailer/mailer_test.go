package logmailer_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/logmailer"
	"github.com/nexus-protocol/nexus/ports"
	"github.com/nexus-protocol/nexus/ports/portstest"
)

func TestMailer(t *testing.T) {
	var b bytes.Buffer
	m := logmailer.New(slog.New(slog.NewJSONHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug})))
	require.NoError(t, portstest.Mailer(t.Context(), m, func() []ports.Mail {
		out, subjects := []ports.Mail{}, map[string]string{}
		for d := json.NewDecoder(bytes.NewReader(b.Bytes())); d.More(); {
			var line struct{ ID, Subject, To, Text string }
			require.NoError(t, d.Decode(&line))
			if line.To == "" {
				subjects[line.ID] = line.Subject
				continue
			}
			out = append(out, ports.Mail{ID: line.ID, To: line.To, Subject: subjects[line.ID], Text: line.Text})
		}
		return out
	}))
}

// What opens an account, and whose it is, stays out of a production server's log.
func TestTheInfoLevelKeepsTheSecret(t *testing.T) {
	var b bytes.Buffer
	m := logmailer.New(slog.New(slog.NewJSONHandler(&b, nil)))
	require.NoError(t, m.Send(t.Context(), ports.Mail{ID: "i", To: "ann@example.com", Subject: "Set a new password", Text: "https://x/?token=t0k3n\n"}))
	require.Contains(t, b.String(), "Set a new password")
	require.NotContains(t, b.String(), "t0k3n")
	require.NotContains(t, b.String(), "ann@")
}
