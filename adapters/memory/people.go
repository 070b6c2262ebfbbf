package memory

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/mail"
	"net/url"
	"strings"
	"sync"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/ports"
)

var (
	_ ports.IdentityProvider = (*Provider)(nil)
	_ ports.Mailer           = (*Mailer)(nil)
)

// Person is whom a Provider knows.
type Person struct {
	Subject  string
	Email    string // normalised
	Verified bool
	Password string // "" for none
	Token    string // "" for none
}

// Provider is a ports.IdentityProvider that knows the people it is told of. Its browser is Visit.
type Provider struct {
	info   ports.ProviderInfo
	mu     sync.Mutex
	people map[string]Person // by subject
	codes  map[string]asked
}

// asked is what a code stands for.
type asked struct {
	subject, challenge, nonce, redirect string
}

// NewProvider makes a provider that knows nobody yet.
func NewProvider(info ports.ProviderInfo) *Provider {
	return &Provider{info: info, people: map[string]Person{}, codes: map[string]asked{}}
}

// Know tells the provider of a person, or what has become of one.
func (p *Provider) Know(one Person) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.people[one.Subject] = one
}

func (p *Provider) find(is func(Person) bool) (identity.Outside, error) {
	for _, one := range p.people {
		if is(one) {
			return identity.Outside{Issuer: p.info.Issuer, Subject: one.Subject, Email: one.Email, Verified: one.Verified}, nil
		}
	}
	return identity.Outside{}, fault.New(fault.Unauthenticated, fault.CodeUnauthorized, "the provider does not know you so")
}

func noSuchWay() error {
	return fault.New(fault.Forbidden, fault.CodeForbidden, "this identity provider cannot be used in this way")
}

// Info implements ports.IdentityProvider.
func (p *Provider) Info() ports.ProviderInfo { return p.info }

// Password implements ports.IdentityProvider.
func (p *Provider) Password(_ context.Context, email, password string) (identity.Outside, error) {
	if !p.info.Password {
		return identity.Outside{}, noSuchWay()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.find(func(one Person) bool { return one.Email == email && one.Password == password && password != "" })
}

func challenge(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Begin implements ports.IdentityProvider.
func (p *Provider) Begin(_ context.Context, f ports.SignInFlow) (string, error) {
	if !p.info.Redirect {
		return "", noSuchWay()
	}
	return p.info.Issuer + "/authorize?" + url.Values{
		"state": {f.State}, "nonce": {f.Nonce}, "code_challenge": {challenge(f.Verifier)}, "redirect_uri": {f.RedirectURL},
	}.Encode(), nil
}

// Visit is what the browser of a person does at the address that Begin returned: it comes back with these.
func (p *Provider) Visit(address, subject string) (state, code string, err error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", "", err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	q := u.Query()
	code = rand.Text()
	p.codes[code] = asked{subject, q.Get("code_challenge"), q.Get("nonce"), q.Get("redirect_uri")}
	return q.Get("state"), code, nil
}

// Finish implements ports.IdentityProvider.
func (p *Provider) Finish(_ context.Context, f ports.SignInFlow, code string) (identity.Outside, error) {
	if !p.info.Redirect {
		return identity.Outside{}, noSuchWay()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	a, ok := p.codes[code]
	delete(p.codes, code)
	return p.find(func(one Person) bool {
		return ok && a.subject == one.Subject && a.challenge == challenge(f.Verifier) && a.nonce == f.Nonce && a.redirect == f.RedirectURL
	})
}

// Token implements ports.IdentityProvider.
func (p *Provider) Token(_ context.Context, token string) (identity.Outside, error) {
	if !p.info.Token {
		return identity.Outside{}, noSuchWay()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.find(func(one Person) bool { return one.Token == token && token != "" })
}

// Mailer is a ports.Mailer that keeps the mails.
type Mailer struct {
	mu   sync.Mutex
	sent []ports.Mail
	fail func(ports.Mail) error
}

// NewMailer makes a mailer.
func NewMailer() *Mailer { return &Mailer{} }

// Fail makes the mailer fail as f says; nil: not any more.
func (m *Mailer) Fail(f func(ports.Mail) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = f
}

// Sent returns the mails that were sent, the first ones first.
func (m *Mailer) Sent() []ports.Mail {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]ports.Mail{}, m.sent...)
}

// Send implements ports.Mailer.
func (m *Mailer) Send(ctx context.Context, one ports.Mail) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if a, err := mail.ParseAddress(one.To); err != nil || a.Address != one.To || strings.ContainsAny(one.ID+one.To+one.Subject, "\r\n\x00") {
		return &ports.MailError{Reason: "the mail cannot be put into words"}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		if err := m.fail(one); err != nil {
			return err
		}
	}
	m.sent = append(m.sent, one)
	return nil
}

// ErrMail is for a Mailer that is to fail for a while.
var ErrMail = errors.New("memory: the mail server is away")
