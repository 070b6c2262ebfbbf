package smtpmailer_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/http/httptest"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/smtpmailer"
	"github.com/nexus-protocol/nexus/ports"
	"github.com/nexus-protocol/nexus/ports/portstest"
)

// server is an SMTP server that keeps what it is sent.
type server struct {
	t    *testing.T
	addr string
	tls  *tls.Config // of a client that trusts it
	auth bool        // a user is needed

	mu     sync.Mutex
	raw    []string
	clear  int // conversations in which a mail was begun without TLS
	refuse error
	rcpts  []string
}

type session struct {
	*server
	conn *smtp.Conn
	in   bool
}

func (s *server) NewSession(c *smtp.Conn) (smtp.Session, error) {
	return &session{server: s, conn: c}, nil
}
func (s *session) Reset()                   {}
func (s *session) Logout() error            { return nil }
func (s *session) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != "us" || password != "s3cret:/" {
			return smtp.ErrAuthFailed
		}
		s.in = true
		return nil
	}), nil
}

func (s *session) Mail(string, *smtp.MailOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.conn.TLSConnectionState(); !ok {
		s.clear++
	}
	if s.auth && !s.in {
		return smtp.ErrAuthRequired
	}
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rcpts = append(s.rcpts, to)
	return s.refuse
}

func (s *session) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.raw = append(s.raw, string(text))
	return err
}

// start runs a server; implicit is TLS from the start, offered is STARTTLS.
func start(t *testing.T, implicit, offered, auth bool) *server {
	t.Helper()
	certs := httptest.NewUnstartedServer(nil)
	certs.StartTLS()
	t.Cleanup(certs.Close)
	pool := x509.NewCertPool()
	pool.AddCert(certs.Certificate())
	s := &server{t: t, tls: &tls.Config{RootCAs: pool}, auth: auth}
	srv := smtp.NewServer(s)
	srv.Domain, srv.AllowInsecureAuth, srv.ErrorLog = "mx.example.com", true, log.New(io.Discard, "", 0)
	srv.ReadTimeout, srv.WriteTimeout = 5*time.Second, 5*time.Second
	cfg := &tls.Config{Certificates: certs.TLS.Certificates}
	if offered {
		srv.TLSConfig = cfg
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.addr = l.Addr().String()
	if implicit {
		l = tls.NewListener(l, cfg)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	return s
}

func (s *server) mailer(scheme, user, query string) *smtpmailer.Mailer {
	s.t.Helper()
	m, err := smtpmailer.New(smtpmailer.Options{URL: scheme + "://" + user + s.addr + query, From: "NEXUS Grüße <nexus@example.com>", TLS: s.tls})
	require.NoError(s.t, err)
	return m
}

// received decodes the mails that came.
func (s *server) received() []ports.Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []ports.Mail{}
	for _, raw := range s.raw {
		m, err := mail.ReadMessage(strings.NewReader(raw))
		require.NoError(s.t, err)
		subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
		require.NoError(s.t, err)
		require.Equal(s.t, "quoted-printable", m.Header.Get("Content-Transfer-Encoding"))
		body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
		require.NoError(s.t, err)
		to, err := m.Header.AddressList("To")
		require.NoError(s.t, err)
		require.Len(s.t, to, 1)
		from, err := m.Header.AddressList("From")
		require.NoError(s.t, err)
		require.Equal(s.t, "nexus@example.com", from[0].Address)
		require.Equal(s.t, "auto-generated", m.Header.Get("Auto-Submitted"))
		require.Empty(s.t, m.Header.Get("Bcc"))
		id := strings.TrimSuffix(strings.TrimPrefix(m.Header.Get("Message-Id"), "<"), "@example.com>")
		out = append(out, ports.Mail{ID: id, To: to[0].Address, Subject: subject, Text: strings.ReplaceAll(string(body), "\r\n", "\n")})
	}
	return out
}

func TestMailer(t *testing.T) {
	for name, c := range map[string]struct {
		implicit, offered bool
		scheme, user, q   string
	}{
		"STARTTLS":     {false, true, "smtp", "us:s3cret%3A%2F@", ""},
		"TLS at once":  {true, false, "smtps", "us:s3cret%3A%2F@", ""},
		"in the clear": {false, false, "smtp", "", "?tls=none"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, c.implicit, c.offered, c.user != "")
			require.NoError(t, portstest.Mailer(t.Context(), s.mailer(c.scheme, c.user, c.q), s.received))
			if c.q == "" {
				require.Zero(t, s.clear)
			}
			require.NotContains(t, fmt.Sprint(s.rcpts), "eve")
		})
	}
}

var hello = ports.Mail{ID: "i", To: "ann@example.com", Subject: "Hello", Text: "x\n"}

// A server that offers no TLS gets neither the password nor the mail; neither does one whose certificate nobody signed.
func TestNothingIsSaidInTheClear(t *testing.T) {
	s := start(t, false, false, false)
	require.Error(t, s.mailer("smtp", "us:s3cret%3A%2F@", "").Send(t.Context(), hello))
	require.Error(t, s.mailer("smtp", "", "").Send(t.Context(), hello))
	other := start(t, false, true, false)
	other.tls = nil
	require.Error(t, other.mailer("smtp", "", "").Send(t.Context(), hello))
	for _, s := range []*server{s, other} {
		require.Empty(t, s.received())
		require.Zero(t, s.clear)
	}
}

func TestWhatAnotherAttemptWouldMend(t *testing.T) {
	s := start(t, false, true, true)
	good := s.mailer("smtp", "us:s3cret%3A%2F@", "")
	var final *ports.MailError
	s.refuse = &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no ann@example.com here"}
	err := good.Send(t.Context(), hello)
	require.ErrorAs(t, err, &final)
	require.NotContains(t, err.Error(), "ann")
	s.refuse = &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "later, ann@example.com"}
	err = good.Send(t.Context(), hello)
	require.Error(t, err)
	require.False(t, errors.As(err, &final))
	require.NotContains(t, err.Error(), "ann")
	s.refuse = nil
	require.NoError(t, good.Send(t.Context(), hello))

	err = s.mailer("smtp", "us:wrongpassword@", "").Send(t.Context(), hello)
	require.Error(t, err)
	require.False(t, errors.As(err, &final), "the operator can mend it")
	require.NotContains(t, err.Error(), "wrongpassword")

	gone, err := smtpmailer.New(smtpmailer.Options{URL: "smtp://127.0.0.1:1", From: "a@example.com"})
	require.NoError(t, err)
	err = gone.Send(t.Context(), hello)
	require.Error(t, err)
	require.False(t, errors.As(err, &final))
}

// A server that says nothing is not waited for longer than the context allows.
func TestASilentServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	m, err := smtpmailer.New(smtpmailer.Options{URL: "smtp://" + l.Addr().String() + "?tls=none", From: "a@example.com"})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	require.Error(t, m.Send(ctx, hello))
	require.Less(t, time.Since(began), 5*time.Second)
}

func TestOptions(t *testing.T) {
	for _, o := range []smtpmailer.Options{
		{},
		{URL: "smtp://", From: "a@example.com"},
		{URL: "http://u:topsecret@h", From: "a@example.com"},
		{URL: "smtp://u:topsecret@h:99999", From: "a@example.com"},
		{URL: "smtp://u:topsecret@h/path", From: "a@example.com"},
		{URL: "smtp://h", From: ""},
		{URL: "smtp://h", From: "a@example.com\r\nBcc: b@example.com"},
		{URL: "smtp://u:topsecret@h?tls=none", From: "a@example.com"},
		{URL: "smtps://h?tls=none", From: "a@example.com"},
		{URL: "smtp://h?tls=off", From: "a@example.com"},
		{URL: "smtp://u:topsecret@h:%zz", From: "a@example.com"},
	} {
		_, err := smtpmailer.New(o)
		require.Error(t, err, o.URL)
		require.NotContains(t, err.Error(), "topsecret")
	}
}
