package app

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/ports"
)

// LocalAccounts is the identity provider of the accounts whose passwords the engine keeps itself.
type LocalAccounts struct {
	Store  ports.Store
	Hasher ports.PasswordHasher
}

var _ ports.IdentityProvider = LocalAccounts{}

const localName = "local"

// Info implements ports.IdentityProvider.
func (LocalAccounts) Info() ports.ProviderInfo {
	return ports.ProviderInfo{Name: localName, Title: "E-mail and password", Password: true}
}

// Password implements ports.IdentityProvider. One read.
func (l LocalAccounts) Password(ctx context.Context, email, password string) (identity.Outside, error) {
	email, ok := identity.NormalizeEmail(email)
	if !ok || password == "" || len(password) > 4*identity.MaxPassword {
		return identity.Outside{}, wrongPassword()
	}
	user, err := l.Store.Read().Users.ByEmail(ctx, email)
	if err != nil && !fault.Has(err, fault.CodeNotFound) {
		return identity.Outside{}, fmt.Errorf("find user: %w", err)
	}
	if ok, err = l.Hasher.Verify(ctx, password, user.PasswordHash); err != nil {
		return identity.Outside{}, fmt.Errorf("verify password: %w", err)
	}
	if !ok {
		return identity.Outside{}, wrongPassword()
	}
	return identity.Outside{Subject: user.ID, Email: user.Email, Verified: user.VerifiedAt != nil}, nil
}

// Begin implements ports.IdentityProvider: there is no such way.
func (LocalAccounts) Begin(context.Context, ports.SignInFlow) (string, error) { return "", noSuchWay() }

// Finish implements ports.IdentityProvider: there is no such way.
func (LocalAccounts) Finish(context.Context, ports.SignInFlow, string) (identity.Outside, error) {
	return identity.Outside{}, noSuchWay()
}

// Token implements ports.IdentityProvider: there is no such way.
func (LocalAccounts) Token(context.Context, string) (identity.Outside, error) {
	return identity.Outside{}, noSuchWay()
}

func noSuchWay() error {
	return fault.New(fault.Forbidden, fault.CodeForbidden, "this identity provider cannot be used in this way")
}

func wrongPassword() error {
	return fault.New(fault.Unauthenticated, fault.CodeUnauthorized, "e-mail or password is wrong")
}

func noLocalAccounts() error {
	return fault.New(fault.Forbidden, fault.CodeForbidden, "this server keeps no passwords; sign in by its identity provider")
}

func disabled() error {
	return fault.New(fault.Forbidden, fault.CodeForbidden, "this account is disabled; ask the operator of the server")
}

// local reports whether the engine keeps passwords itself.
func (s *Identity) local() bool {
	_, ok := s.passwords.(LocalAccounts)
	return ok
}

// checkProviders lists what is wrong with the identity providers.
func (c Config) checkProviders() (wrong []error) {
	names, passwords := map[string]bool{localName: true}, 0
	back := c.Mailer != nil
	for _, p := range c.Providers {
		i := p.Info()
		if names[i.Name] || i.Name == "" || i.Issuer == "" {
			wrong = append(wrong, fmt.Errorf("app: Config.Providers: %q is no name of its own, or has no issuer", i.Name))
		}
		names[i.Name] = true
		if i.Password {
			passwords++
		}
		back = back || i.Redirect
	}
	if passwords > 1 {
		wrong = append(wrong, errors.New("app: Config.Providers: only one may check passwords"))
	}
	if back && (c.PublicURL == "" || strings.HasSuffix(c.PublicURL, "/")) {
		wrong = append(wrong, errors.New("app: Config.PublicURL is needed, without a / at its end, as mails and providers lead people back to it"))
	}
	if c.NoLocalAccounts && len(c.Providers) == 0 {
		wrong = append(wrong, errors.New("app: Config.NoLocalAccounts without Config.Providers lets nobody in"))
	}
	return wrong
}

// passwordProvider is who checks e-mails and passwords; nil: nobody.
func (c *core) passwordProvider() ports.IdentityProvider {
	for _, p := range c.Providers {
		if p.Info().Password {
			return p
		}
	}
	if c.NoLocalAccounts {
		return nil
	}
	return LocalAccounts{c.Store, c.Hasher}
}

func (c *core) provider(name string) (ports.IdentityProvider, error) {
	i := slices.IndexFunc(c.Providers, func(p ports.IdentityProvider) bool { return p.Info().Name == name })
	if i < 0 {
		return nil, fault.New(fault.NotFound, fault.CodeNotFound, "there is no such identity provider here")
	}
	return c.Providers[i], nil
}

// Ways is how people can come in.
type Ways struct {
	Password  bool // with an e-mail and a password
	SignUp    bool // they can make themselves an account, whose password the engine keeps
	Mail      bool // the server sends mail, so that a forgotten password can be set anew if SignUp is true too
	Providers []ports.ProviderInfo
}

// Ways tells how people can come in. Anyone may call it.
func (s *Identity) Ways() Ways {
	w := Ways{Password: s.passwords != nil, SignUp: s.local(), Mail: s.Mailer != nil}
	for _, p := range s.Providers {
		w.Providers = append(w.Providers, p.Info())
	}
	return w
}

// Browser is where a person comes from: the address as limits count it ("" is not limited), what the browser calls
// itself, and the token of the session that it had, which a new one takes the place of.
type Browser struct {
	Address string
	Device  string
	Session string
}

// LogIn checks the password and begins a session. The token is the cookie's value; it is not kept. previous, the token
// that the browser came with, if any, is revoked. Two reads, one commit.
func (s *Identity) LogIn(ctx context.Context, in Credentials, previous string) (user identity.User, token string, err error) {
	if s.passwords == nil {
		return user, "", noLocalAccounts()
	}
	email, ok := identity.NormalizeEmail(in.Email)
	if !ok || in.Password == "" || len(in.Password) > 4*identity.MaxPassword {
		return user, "", wrongPassword()
	}
	if err := s.limitGuesses(ctx, email, in.Address); err != nil {
		return user, "", err
	}
	b := Browser{Address: in.Address, Device: in.Device, Session: previous}
	if s.local() { // looked at first, so that a password that is changed meanwhile is noticed
		if user, err = s.Store.Read().Users.ByEmail(ctx, email); err != nil && !fault.Has(err, fault.CodeNotFound) {
			return user, "", fmt.Errorf("find user: %w", err)
		}
	}
	who, err := s.passwords.Password(ctx, email, in.Password)
	if err != nil {
		s.logProvider(ctx, s.passwords, err)
		return identity.User{}, "", err
	}
	if !s.local() {
		return s.enter(ctx, who, b)
	}
	if who.Subject != user.ID { // the e-mail has become another's at this very moment
		return identity.User{}, "", wrongPassword()
	}
	if token, err = s.startSession(ctx, user, b); err != nil {
		return identity.User{}, "", err
	}
	return user, token, nil
}

// limitGuesses counts an attempt to log in. Somebody who guesses from one place does not keep others from the account, and
// one who does so from many places not those who are known to come from theirs.
func (s *Identity) limitGuesses(ctx context.Context, email, address string) error {
	if err := s.limit(ctx, limitLogInAddress, address); err != nil {
		return err
	}
	if err := s.limit(ctx, limitLogIn, email+" "+address); err != nil {
		return err
	}
	refused := s.limit(ctx, limitLogInAccount, email)
	if refused == nil || !fault.Has(refused, fault.CodeRateLimitExceeded) || address == "" {
		return refused
	}
	r := s.Store.Read()
	user, err := r.Users.ByEmail(ctx, email)
	if err != nil {
		return refused
	}
	sessions, err := r.Sessions.ListByUser(ctx, user.ID, s.now(), maxSessions)
	if err != nil {
		return fmt.Errorf("list sessions: %w", err)
	}
	if slices.ContainsFunc(sessions, func(known identity.Session) bool { return known.Address == address }) {
		return nil
	}
	return refused
}

// enter begins a session for whom a provider has named.
func (s *Identity) enter(ctx context.Context, who identity.Outside, b Browser) (user identity.User, token string, err error) {
	if user, err = s.admit(ctx, who); err != nil {
		return identity.User{}, "", err
	}
	if token, err = s.startSession(ctx, user, b); err != nil {
		return identity.User{}, "", err
	}
	return user, token, nil
}

// admit finds the user of an outside identity, or makes one for an identity that is new here. An e-mail alone never lets
// anybody into an account that is there already.
func (s *Identity) admit(ctx context.Context, who identity.Outside) (identity.User, error) {
	if err := identity.CheckOutside(who); err != nil {
		return identity.User{}, err
	}
	_, user, err := s.Store.Read().Identities.Find(ctx, who.Issuer, who.Subject)
	if !fault.Has(err, fault.CodeNotFound) {
		return user, err
	}
	email, ok := identity.NormalizeEmail(who.Email)
	if !ok || !who.Verified {
		return user, fault.New(fault.Forbidden, fault.CodeForbidden, "the identity provider has not made sure of your e-mail; verify it there, then try again")
	}
	err = s.update(ctx, func(ctx context.Context, u *unit) error {
		fresh := identity.User{ID: u.id(), Email: email, Role: identity.RoleUser, CreatedAt: u.now, VerifiedAt: &u.now}
		if user, err = u.newUser(ctx, fresh); err != nil {
			return err
		}
		return u.link(ctx, user, who)
	})
	switch {
	case errors.Is(err, ports.ErrDuplicate) || fault.Has(err, fault.CodeEmailTaken): // by the same person, at this very moment?
		if _, user, again := s.Store.Read().Identities.Find(ctx, who.Issuer, who.Subject); again == nil {
			return user, nil
		}
		return identity.User{}, fault.New(fault.Conflict, fault.CodeEmailTaken,
			"there is an account with this e-mail already: log in to it, and link this way of signing in from its settings")
	case err != nil:
		return identity.User{}, err
	}
	return user, nil
}

// link lets an outside identity in to the user's account.
func (u *unit) link(ctx context.Context, user identity.User, who identity.Outside) error {
	email, _ := identity.NormalizeEmail(who.Email)
	return u.Identities.Insert(ctx, identity.Identity{
		ID: u.id(), UserID: user.ID, Issuer: who.Issuer, Subject: who.Subject, Email: email, CreatedAt: u.now,
	})
}

// StartSession begins a session for a user who was identified otherwise, such as by having signed up just now.
func (s *Identity) StartSession(ctx context.Context, user identity.User, b Browser) (token string, err error) {
	return s.startSession(ctx, user, b)
}

// activeUser locks a user, who must not have been disabled.
func (u *unit) activeUser(ctx context.Context, id string) (identity.User, error) {
	user, err := u.Users.Lock(ctx, id)
	switch {
	case err != nil:
		return user, fmt.Errorf("lock user: %w", err)
	case !user.Active():
		return user, disabled()
	}
	return user, nil
}

// startSession begins a session, unless the user has been disabled, or the password changed, since it was looked at.
func (s *Identity) startSession(ctx context.Context, user identity.User, b Browser) (token string, err error) {
	if token, err = s.drawToken(); err != nil {
		return "", err
	}
	device := strings.ToValidUTF8(strings.ReplaceAll(b.Device[:min(len(b.Device), identity.MaxDevice)], "\x00", ""), "")
	err = s.update(ctx, func(ctx context.Context, u *unit) error {
		now, err := u.activeUser(ctx, user.ID)
		switch {
		case err != nil:
			return err
		case now.PasswordHash != user.PasswordHash:
			return wrongPassword()
		}
		if b.Session != "" {
			if err := u.Sessions.Delete(ctx, identity.HashToken(b.Session)); err != nil {
				return fmt.Errorf("revoke previous session: %w", err)
			}
		}
		return u.Sessions.Insert(ctx, identity.Session{
			TokenHash: identity.HashToken(token), UserID: user.ID, CreatedAt: u.now, LastSeenAt: u.now, ExpiresAt: u.now.Add(identity.SessionIdle),
			Address: b.Address, Device: device,
		})
	})
	if err != nil {
		return "", err
	}
	return token, nil
}

func (c *core) drawToken() (string, error) {
	raw := make([]byte, identity.TokenEntropy)
	if _, err := io.ReadFull(c.Random, raw); err != nil {
		return "", fmt.Errorf("draw a token: %w", err)
	}
	return identity.NewToken(raw), nil
}

// logProvider tells the operator why a provider is of no use, where there is more to say than the person is told.
func (s *Identity) logProvider(ctx context.Context, p ports.IdentityProvider, err error) {
	if _, plain := err.(*fault.Error); err == nil || plain || p.Info().Issuer == "" || ctx.Err() != nil { //nolint:errorlint // what is wrapped has a cause
		return
	}
	s.Logger.WarnContext(ctx, "an identity provider let nobody in", "provider", p.Info().Name, "error", err)
}

// BegunSignIn is a sign-in that goes on at the provider. URL is where the browser is to be sent, Secret what it alone must
// keep, for ten minutes at most, and come back with.
type BegunSignIn struct {
	URL    string
	Secret string
}

// callbackPath is where browsers come back to, before the provider's name.
const callbackPath = "/auth/callback/"

// flow is a sign-in by a provider. All its secrets follow from the one that the browser keeps, so that there is nothing to
// remember here, and it is good only for who began it: a stranger, or the user who wants the identity linked.
func (s *Identity) flow(p ports.IdentityProvider, secret string, c identity.Caller) ports.SignInFlow {
	name := p.Info().Name
	derive := func(what string) string {
		mac := hmac.New(sha256.New, []byte(secret))
		_, _ = io.WriteString(mac, "nexus: "+what+"\x00"+name+"\x00"+c.UserID) // a hash takes everything
		return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
	return ports.SignInFlow{RedirectURL: s.PublicURL + callbackPath + name, State: derive("state"), Nonce: derive("nonce"), Verifier: derive("verifier")}
}

// BeginSignIn begins a sign-in at a provider's own pages. With the zero caller it is to log in; else the identity is to be
// linked to the caller's account, and the caller must have a session.
func (s *Identity) BeginSignIn(ctx context.Context, c identity.Caller, provider string) (BegunSignIn, error) {
	if c.Known() {
		if err := identity.Authorize(c, identity.AccountChange, identity.Resource{OwnerUserID: c.UserID}); err != nil {
			return BegunSignIn{}, err
		}
	}
	p, err := s.provider(provider)
	if err != nil {
		return BegunSignIn{}, err
	}
	secret, err := s.drawToken()
	if err != nil {
		return BegunSignIn{}, err
	}
	to, err := p.Begin(ctx, s.flow(p, secret, c))
	s.logProvider(ctx, p, err)
	return BegunSignIn{URL: to, Secret: secret}, err
}

// SignInAnswer is what a browser comes back with from a provider.
type SignInAnswer struct {
	Secret string // that it kept
	State  string
	Code   string
}

// finish finds out who came back from a provider.
func (s *Identity) finish(ctx context.Context, c identity.Caller, provider, address string, a SignInAnswer) (identity.Outside, error) {
	p, err := s.provider(provider)
	if err != nil {
		return identity.Outside{}, err
	}
	f := s.flow(p, a.Secret, c)
	if !identity.IsToken(a.Secret) || subtle.ConstantTimeCompare([]byte(f.State), []byte(a.State)) != 1 {
		return identity.Outside{}, fault.New(fault.Unauthenticated, fault.CodeUnauthorized, "this sign-in was not begun in this browser, or too long ago; begin again")
	}
	if err := s.limit(ctx, limitLogInAddress, address); err != nil {
		return identity.Outside{}, err
	}
	who, err := p.Finish(ctx, f, a.Code)
	s.logProvider(ctx, p, err)
	if err == nil && who.Issuer != p.Info().Issuer {
		err = fault.New(fault.BadGateway, fault.CodeProtocol, "the identity provider speaks for another")
	}
	return who, err
}

// FinishSignIn logs in who came back from a provider. Somebody who was not here before gets an account, if the provider has
// made sure of the e-mail and nobody has it; the first account is the admin's.
func (s *Identity) FinishSignIn(ctx context.Context, provider string, a SignInAnswer, b Browser) (identity.User, string, error) {
	who, err := s.finish(ctx, identity.Caller{}, provider, b.Address, a)
	if err != nil {
		return identity.User{}, "", err
	}
	return s.enter(ctx, who, b)
}

// FinishLink links the identity of who came back from a provider to the caller's account, which began it. An identity that
// another account has is refused. One commit.
func (s *Identity) FinishLink(ctx context.Context, c identity.Caller, provider string, a SignInAnswer, address string) error {
	if err := identity.Authorize(c, identity.AccountChange, identity.Resource{OwnerUserID: c.UserID}); err != nil {
		return err
	}
	who, err := s.finish(ctx, c, provider, address, a)
	if err != nil {
		return err
	}
	return s.linkTo(ctx, c.UserID, who)
}

func (s *Identity) linkTo(ctx context.Context, userID string, who identity.Outside) error {
	if err := identity.CheckOutside(who); err != nil {
		return err
	}
	return s.update(ctx, func(ctx context.Context, u *unit) error {
		user, err := u.activeUser(ctx, userID)
		if err != nil {
			return err
		}
		switch _, owner, err := u.Identities.Find(ctx, who.Issuer, who.Subject); {
		case err == nil && owner.ID == userID:
			return nil
		case err == nil:
			return fault.New(fault.Forbidden, fault.CodeForbidden, "this identity belongs to another account here")
		case !fault.Has(err, fault.CodeNotFound):
			return fmt.Errorf("find identity: %w", err)
		}
		if err := u.link(ctx, user, who); err != nil {
			return fmt.Errorf("link identity: %w", err)
		}
		return s.post(ctx, u, identity.LetterIdentityLinked, user.ID, user.Email)
	})
}

// LinkIdentity links an outside identity to an account. It is for the operator's command line, and asks for no credential.
func (s *Identity) LinkIdentity(ctx context.Context, email, issuer, subject string) error {
	user, err := s.UserByEmail(ctx, email)
	if err != nil {
		return err
	}
	return s.linkTo(ctx, user.ID, identity.Outside{Issuer: issuer, Subject: subject})
}

// SignInByToken logs in who shows a token that the provider gave them. New people are taken in as in FinishSignIn.
func (s *Identity) SignInByToken(ctx context.Context, provider, token string, b Browser) (identity.User, string, error) {
	p, err := s.provider(provider)
	if err != nil {
		return identity.User{}, "", err
	}
	if err := s.limit(ctx, limitLogInAddress, b.Address); err != nil {
		return identity.User{}, "", err
	}
	who, err := p.Token(ctx, token)
	if err != nil {
		s.logProvider(ctx, p, err)
		return identity.User{}, "", err
	}
	return s.enter(ctx, who, b)
}
