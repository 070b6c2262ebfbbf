// Package smtpmailer sends mail through an SMTP server, over TLS.
package smtpmailer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"strconv"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"

	"github.com/nexus-protocol/nexus/ports"
)

var _ ports.Mailer = (*Mailer)(nil)

// timeout bounds each step of a conversation with the server.
const timeout = 15 * time.Second

// Options say where to send mail through.
type Options struct {
	// URL is smtp://user:password@host:587, which begins in the clear and must go on in TLS before anything is said, or
	// smtps://user:password@host:465, which is TLS from the start. smtp://host:25?tls=none, without a user, is for a relay
	// on the same machine or a network that is trusted.
	URL string
	// From is the sender: an address, or a name and an address.
	From string
	// TLS is for a server whose certificate is signed by somebody unusual. nil: the system's.
	TLS *tls.Config
}

// Mailer is a ports.Mailer. It makes a connection for each mail.
type Mailer struct {
	from   *mail.Address
	domain string
	host   string
	opts   []gomail.Option
}

// New makes a mailer. It does not connect yet.
func New(o Options) (*Mailer, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Hostname() == "" || (u.Scheme != "smtp" && u.Scheme != "smtps") || strings.Trim(u.Path, "/") != "" {
		return nil, errors.New("the mail server must be smtp://user:password@host:587 or smtps://user:password@host:465") // without the URL, which has a password
	}
	from, err := mail.ParseAddress(o.From)
	if err != nil {
		return nil, errors.New(`the sender of mails must be an address, such as NEXUS <nexus@example.com>`)
	}
	port := map[string]int{"smtp": 587, "smtps": 465}[u.Scheme]
	if u.Port() != "" {
		if port, err = strconv.Atoi(u.Port()); err != nil || port < 1 || port > 65535 {
			return nil, errors.New("the mail server's port must be 1 to 65535")
		}
	}
	m := &Mailer{from: from, domain: from.Address[strings.LastIndexByte(from.Address, '@')+1:], host: u.Hostname()}
	m.opts = []gomail.Option{gomail.WithPort(port), gomail.WithTimeout(timeout)}
	clear := false
	switch u.Query().Get("tls") {
	case "":
	case "none":
		clear = true
	default:
		return nil, errors.New("the mail server's tls must be left out, or none")
	}
	switch {
	case clear && (u.Scheme == "smtps" || u.User != nil):
		return nil, errors.New("tls=none is for smtp without a user: a password is never sent in the clear")
	case clear:
		m.opts = append(m.opts, gomail.WithTLSPolicy(gomail.NoTLS))
	case u.Scheme == "smtps":
		m.opts = append(m.opts, gomail.WithSSL())
	default:
		m.opts = append(m.opts, gomail.WithTLSPolicy(gomail.TLSMandatory))
	}
	if !clear {
		cfg := &tls.Config{}
		if o.TLS != nil {
			cfg = o.TLS.Clone()
		}
		cfg.ServerName, cfg.MinVersion = u.Hostname(), tls.VersionTLS12
		m.opts = append(m.opts, gomail.WithTLSConfig(cfg))
	}
	if u.User != nil {
		password, _ := u.User.Password()
		m.opts = append(m.opts, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover), gomail.WithUsername(u.User.Username()), gomail.WithPassword(password))
	}
	if _, err := gomail.NewClient(m.host, m.opts...); err != nil {
		return nil, fmt.Errorf("mail server: %w", err)
	}
	return m, nil
}

// Send implements ports.Mailer. One connection. The library heeds ctx while it connects alone, so a conversation that is
// under way when ctx ends is left to end by its own timeout, and the mail may have been sent all the same.
func (m *Mailer) Send(ctx context.Context, one ports.Mail) error {
	msg, err := m.message(one)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	client, err := gomail.NewClient(m.host, m.opts...)
	if err != nil {
		return fmt.Errorf("mail server: %w", err)
	}
	done := make(chan error, 1)
	go func() {
		err := client.DialAndSendWithContext(ctx, msg)
		if msg.IsDelivered() { // whatever came after
			err = nil
		}
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			return classify(ctx, err)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// message puts a mail into words. What would begin another header or another command is refused.
func (m *Mailer) message(one ports.Mail) (*gomail.Msg, error) {
	refuse := func(what string) (*gomail.Msg, error) { return nil, &ports.MailError{Reason: what} }
	to, err := mail.ParseAddress(one.To)
	switch {
	case err != nil || to.Address != one.To || to.Name != "":
		return refuse("the recipient is no address")
	case strings.ContainsFunc(one.ID+one.To+one.Subject, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return refuse("the subject, the recipient or the id has a line break or another control character")
	}
	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	msg.FromMailAddress(m.from)
	if err := msg.To(one.To); err != nil {
		return refuse("the recipient is no address")
	}
	msg.Subject(one.Subject)
	msg.SetDate()
	msg.SetMessageIDWithValue(one.ID + "@" + m.domain)
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // so that nobody's holiday answers it
	msg.SetBodyString(gomail.TypeTextPlain, one.Text)
	return msg, nil
}

// classify says what went wrong without what the library says of it, which has the recipient's address in it.
func classify(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var sent *gomail.SendError
	var network net.Error
	switch {
	case errors.As(err, &sent):
		if code := sent.ErrorCode(); !sent.IsTemp() && code >= 500 {
			return &ports.MailError{Reason: fmt.Sprintf("the mail server refuses the mail: %s, code %d", sent.Reason, code)}
		}
		return fmt.Errorf("the mail server does not take the mail now: %s, code %d", sent.Reason, sent.ErrorCode())
	case errors.As(err, &network):
		return fmt.Errorf("the mail server cannot be reached: %w", network)
	default:
		return fmt.Errorf("the mail server does not let us in: %w", err)
	}
}
