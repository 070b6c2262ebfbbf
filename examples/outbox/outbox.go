// Package outbox is an adapter of one's own: a ports.Mailer that puts each mail into a file of a folder, for somebody else
// to send.
package outbox

import (
	"context"
	"encoding/json"
	"net/mail"
	"os"
	"path/filepath"
	"strings"

	"github.com/nexus-protocol/nexus/ports"
)

// Mailer is a ports.Mailer.
type Mailer struct{ dir string }

var _ ports.Mailer = (*Mailer)(nil)

// New makes a mailer that writes into a folder that is there.
func New(dir string) *Mailer { return &Mailer{dir} }

// Send implements ports.Mailer.
func (m *Mailer) Send(ctx context.Context, one ports.Mail) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	a, err := mail.ParseAddress(one.To)
	if err != nil || a.Address != one.To || strings.ContainsAny(one.ID+one.To+one.Subject, "\r\n\x00/") {
		return &ports.MailError{Reason: "the recipient is no address, or there is a line break where none may be"}
	}
	text, err := json.Marshal(one)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(m.dir, one.ID+".json"), text, 0o600)
}
