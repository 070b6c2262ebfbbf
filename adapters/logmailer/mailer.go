// Package logmailer writes mails to the log instead of sending them: for a server that has no mail server, and for trying
// things out.
package logmailer

import (
	"context"
	"log/slog"
	"net/mail"
	"strings"

	"github.com/nexus-protocol/nexus/ports"
)

var _ ports.Mailer = (*Mailer)(nil)

// Mailer is a ports.Mailer. That there was a mail, and what about, is logged at the info level. To whom, and the text, which
// may have a link in it that opens an account, are logged at the debug level alone, which no server that others use should
// have.
type Mailer struct{ log *slog.Logger }

// New makes a mailer.
func New(l *slog.Logger) *Mailer { return &Mailer{l} }

// Send implements ports.Mailer.
func (m *Mailer) Send(ctx context.Context, one ports.Mail) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	a, err := mail.ParseAddress(one.To)
	if err != nil || a.Address != one.To || strings.ContainsAny(one.ID+one.To+one.Subject, "\r\n\x00") {
		return &ports.MailError{Reason: "the recipient is no address, or there is a line break where none may be"}
	}
	m.log.InfoContext(ctx, "a mail would have been sent; NEXUS_SMTP_URL says through which server", "id", one.ID, "subject", one.Subject)
	m.log.DebugContext(ctx, "the mail", "id", one.ID, "to", one.To, "text", one.Text)
	return nil
}
