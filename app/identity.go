package app

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/ports"
)

// Identity is who people are: accounts, log-in, sessions, identity providers and API keys.
type Identity struct {
	*core
	passwords ports.IdentityProvider // who checks e-mails and passwords; nil: nobody
	touched   touches
}

// Credentials is what a person types in. Address is where from, for the limits; "" is not limited. Device is what the
// browser calls itself.
type Credentials struct {
	Email    string
	Password string
	Address  string
	Device   string
}

// SignUp makes an account with the initial credits, and sends a mail to verify its e-mail if there is a mailer. The first
// account is the admin's. Anyone may call it where the engine keeps passwords itself. One commit.
func (s *Identity) SignUp(ctx context.Context, in Credentials) (identity.User, error) {
	if !s.local() {
		return identity.User{}, noLocalAccounts()
	}
	email, err := identity.CheckCredentials(in.Email, in.Password)
	if err != nil {
		return identity.User{}, err
	}
	if err := s.limit(ctx, limitSignUp, in.Address); err != nil {
		return identity.User{}, err
	}
	return s.create(ctx, email, in.Password, identity.RoleUser, true)
}

// CreateUser makes an account with a role. It is for the operator's command line, and asks for no credential.
func (s *Identity) CreateUser(ctx context.Context, in Credentials, role identity.Role) (identity.User, error) {
	email, err := identity.CheckCredentials(in.Email, in.Password)
	if err != nil {
		return identity.User{}, err
	}
	return s.create(ctx, email, in.Password, role, false)
}

func (s *Identity) create(ctx context.Context, email, password string, role identity.Role, verify bool) (identity.User, error) {
	hash, err := s.Hasher.Hash(ctx, password)
	if err != nil {
		return identity.User{}, fmt.Errorf("hash password: %w", err)
	}
	var user identity.User
	err = s.update(ctx, func(ctx context.Context, u *unit) error {
		user = identity.User{ID: u.id(), Email: email, PasswordHash: hash, Role: role, CreatedAt: u.now}
		if user, err = u.newUser(ctx, user); err != nil || !verify {
			return err
		}
		return s.post(ctx, u, identity.LetterVerify, user.ID, user.Email)
	})
	return user, err
}

// newUser adds a user with the initial credits; the first is the admin.
func (u *unit) newUser(ctx context.Context, user identity.User) (identity.User, error) {
	n, err := u.Users.Count(ctx)
	if err != nil {
		return user, fmt.Errorf("count users: %w", err)
	}
	if n == 0 {
		user.Role = identity.RoleAdmin
	}
	if err := u.Users.Insert(ctx, user); err != nil {
		return user, fmt.Errorf("insert user: %w", err)
	}
	return user, u.post(ctx, ledger.Grant(user.ID, u.now))
}

// LogOut revokes the caller's session, if it is one. One commit.
func (s *Identity) LogOut(ctx context.Context, c identity.Caller) error {
	if c.Session == "" {
		return nil
	}
	return s.update(ctx, func(ctx context.Context, u *unit) error { return u.Sessions.Delete(ctx, c.Session) })
}

// BySession identifies the caller of a session's token. extended says that the session's end was moved on by this use.
// One read; a commit at most once a minute for a session.
func (s *Identity) BySession(ctx context.Context, token string) (c identity.Caller, extended bool, err error) {
	if !identity.IsToken(token) {
		return c, false, identity.Unauthorized()
	}
	hash, now := identity.HashToken(token), s.now()
	session, user, err := s.Store.Read().Sessions.Get(ctx, hash)
	switch {
	case fault.Has(err, fault.CodeNotFound):
		return c, false, identity.Unauthorized()
	case err != nil:
		return c, false, fmt.Errorf("find session: %w", err)
	case !session.Live(now) || !user.Active():
		return c, false, identity.Unauthorized()
	}
	if seen, changed := session.Seen(now); changed && s.touched.first(hash, now) {
		err := s.update(ctx, func(ctx context.Context, u *unit) error { return u.Sessions.Touch(ctx, seen) })
		if extended = err == nil; !extended {
			s.Logger.WarnContext(ctx, "the session's last use could not be noted", "error", err)
		}
	}
	return identity.SessionCaller(user, hash), extended, nil
}

// ByKey identifies the caller of an API key. One read; a commit at most once a minute for a key.
func (s *Identity) ByKey(ctx context.Context, text string) (identity.Caller, error) {
	secret, ok := identity.ParseSecret(text)
	if !ok {
		return identity.Caller{}, identity.Unauthorized()
	}
	now := s.now()
	key, user, err := s.Store.Read().Keys.ByHash(ctx, secret.Hash())
	switch {
	case fault.Has(err, fault.CodeAPIKeyNotFound):
		return identity.Caller{}, identity.Unauthorized()
	case err != nil:
		return identity.Caller{}, fmt.Errorf("find key: %w", err)
	case !key.Live(now) || !user.Active():
		return identity.Caller{}, identity.Unauthorized()
	}
	if (key.LastUsedAt == nil || now.Sub(*key.LastUsedAt) >= identity.SessionTouch) && s.touched.first(key.ID, now) {
		if err := s.update(ctx, func(ctx context.Context, u *unit) error { return u.Keys.Touch(ctx, key.ID, u.now) }); err != nil {
			s.Logger.WarnContext(ctx, "the key's last use could not be noted", "error", err)
		}
	}
	return identity.KeyCaller(key, user.Role), nil
}

// touches remembers when this process last wrote that a credential was used, for as long as it matters.
type touches struct {
	mu         sync.Mutex
	since      time.Time            // when young was begun
	young, old map[string]time.Time // by credential
}

// first lets one of many requests at once write the time of last use.
func (t *touches) first(credential string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.since) >= identity.SessionTouch {
		t.old, t.young, t.since = t.young, map[string]time.Time{}, now
	}
	last, ok := t.young[credential]
	if !ok {
		last, ok = t.old[credential]
	}
	if ok && now.Sub(last) < identity.SessionTouch {
		return false
	}
	t.young[credential] = now
	return true
}

// User returns the caller's own account.
func (s *Identity) User(ctx context.Context, c identity.Caller) (identity.User, error) {
	if !c.Known() {
		return identity.User{}, identity.Unauthorized()
	}
	return s.Store.Read().Users.Get(ctx, c.UserID)
}

// UserByEmail finds an account. It is for the operator's command line, and asks for no credential.
func (s *Identity) UserByEmail(ctx context.Context, email string) (identity.User, error) {
	norm, _ := identity.NormalizeEmail(email)
	return s.Store.Read().Users.ByEmail(ctx, norm)
}

// CreatedKey is a new API key with its secret, which nobody can read again.
type CreatedKey struct {
	identity.APIKey
	Secret identity.Secret
}

// CreateKey makes an API key for an agent. The secret is returned here and never again. Its owner may call it. One commit.
func (s *Identity) CreateKey(ctx context.Context, c identity.Caller, agentID string, in identity.NewKey) (CreatedKey, error) {
	if err := identity.MayAsk(c, identity.KeyCreate); err != nil { // before a repeat is told of a key
		return CreatedKey{}, err
	}
	secret, err := s.drawSecret()
	if err != nil {
		return CreatedKey{}, err
	}
	var key identity.APIKey
	err = s.once(ctx, c, func() any { return CreatedKey{key, secret} }, func(ctx context.Context, u *unit) error {
		a, err := u.ownAgent(ctx, c, identity.KeyCreate, agentID)
		if err != nil {
			return err
		}
		if key, err = in.Make(c, secret, u.id(), a.ID, a.OwnerUserID, u.now); err != nil {
			return err
		}
		return u.Keys.Insert(ctx, key)
	})
	return CreatedKey{key, secret}, err
}

// CreateKeyFor makes an API key in the name of the agent's owner. It is for the operator's command line, and asks for no
// credential.
func (s *Identity) CreateKeyFor(ctx context.Context, agentID string, in identity.NewKey) (CreatedKey, error) {
	a, err := liveAgent(ctx, s.Store.Read().Agents.Get, agentID)
	if err != nil {
		return CreatedKey{}, err
	}
	operator := identity.Caller{UserID: a.OwnerUserID, Scopes: identity.Scopes{identity.ScopeAll}}
	return s.CreateKey(ctx, operator, agentID, in)
}

func (s *Identity) drawSecret() (identity.Secret, error) {
	for range 8 {
		raw := make([]byte, identity.KeyEntropy)
		if _, err := io.ReadFull(s.Random, raw); err != nil {
			return "", fmt.Errorf("draw a key: %w", err)
		}
		if secret, ok := identity.NewSecret(raw); ok {
			return secret, nil
		}
	}
	return "", fault.New(fault.Internal, fault.CodeInternal, "the source of randomness is broken")
}

// ListKeys returns an agent's keys that are not revoked. Its owner may call it.
func (s *Identity) ListKeys(ctx context.Context, c identity.Caller, agentID string) ([]identity.APIKey, error) {
	r := s.Store.Read()
	a, err := liveAgent(ctx, r.Agents.Get, agentID)
	if err != nil {
		return nil, err
	}
	if err := identity.Authorize(c, identity.KeyList, identity.Resource{OwnerUserID: a.OwnerUserID}); err != nil {
		return nil, err
	}
	return r.Keys.ListByAgent(ctx, agentID)
}

// RevokeKey ends a key at once. The agent's owner may call it. One commit.
func (s *Identity) RevokeKey(ctx context.Context, c identity.Caller, agentID, keyID string) error {
	return s.update(ctx, func(ctx context.Context, u *unit) error {
		if _, err := u.ownAgent(ctx, c, identity.KeyRevoke, agentID); err != nil {
			return err
		}
		return u.Keys.Revoke(ctx, agentID, keyID, u.now)
	})
}

// ownAgent locks an agent that the caller may change, so that it cannot be deleted before the unit ends.
func (u *unit) ownAgent(ctx context.Context, c identity.Caller, a identity.Action, agentID string) (registry.Agent, error) {
	agent, err := liveAgent(ctx, u.Agents.Lock, agentID)
	if err != nil {
		return agent, err
	}
	return agent, identity.Authorize(c, a, identity.Resource{OwnerUserID: agent.OwnerUserID})
}

// liveAgent gets an agent that is not deleted.
func liveAgent(ctx context.Context, get func(context.Context, string) (registry.Agent, error), id string) (registry.Agent, error) {
	a, err := get(ctx, id)
	if err == nil && a.DeletedAt != nil {
		return a, registry.NotFound(id)
	}
	return a, err
}
