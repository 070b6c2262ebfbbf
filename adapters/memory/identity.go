package memory

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/ports"
)

type users struct{ view }

func cloneUser(u identity.User) identity.User {
	u.VerifiedAt, u.DisabledAt, u.DeletedAt = clonePtr(u.VerifiedAt), clonePtr(u.DisabledAt), clonePtr(u.DeletedAt)
	return u
}

func (v users) Get(ctx context.Context, id string) (identity.User, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return identity.User{}, err
	}
	defer unlock()
	u, ok := v.s.users.get(id)
	if !ok {
		return u, fault.NotFoundf(fault.CodeNotFound, "User", id)
	}
	return cloneUser(u), nil
}

func (v users) Lock(ctx context.Context, id string) (identity.User, error) { return v.Get(ctx, id) }

func (v users) List(ctx context.Context, f ports.UserFilter, page ports.Page) ([]identity.User, int, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer unlock()
	var found []identity.User
	for _, u := range v.s.users.rows {
		if u.DeletedAt == nil && strings.Contains(u.Email, f.Email) && (f.Role == "" || u.Role == f.Role) && (f.Disabled == nil || *f.Disabled == (u.DisabledAt != nil)) {
			found = append(found, u)
		}
	}
	total := len(found)
	return newest(found, page, func(u identity.User) (time.Time, string) { return u.CreatedAt, u.ID }, cloneUser), total, nil
}

func (v users) Save(_ context.Context, u identity.User) error {
	before, ok := v.s.users.get(u.ID)
	if !ok {
		return fault.NotFoundf(fault.CodeNotFound, "User", u.ID)
	}
	if id, taken := v.s.emails.get(u.Email); taken && id != u.ID {
		return emailTaken()
	}
	u.CreatedAt = before.CreatedAt
	v.s.emails.del(v.tx, before.Email)
	v.s.emails.put(v.tx, u.Email, u.ID)
	v.s.users.put(v.tx, u.ID, cloneUser(u))
	return nil
}

func emailTaken() error {
	return fault.New(fault.Conflict, fault.CodeEmailTaken, "there is an account with this e-mail already; log in, or use another one")
}

func (v users) ByEmail(ctx context.Context, email string) (identity.User, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return identity.User{}, err
	}
	defer unlock()
	id, ok := v.s.emails.get(email)
	if !ok {
		return identity.User{}, fault.NotFoundf(fault.CodeNotFound, "User", email)
	}
	return cloneUser(v.s.users.rows[id]), nil
}

func (v users) Count(context.Context) (int, error) { return len(v.s.users.rows), nil }

func (v users) Insert(_ context.Context, u identity.User) error {
	if _, taken := v.s.emails.get(u.Email); taken {
		return emailTaken()
	}
	if _, taken := v.s.users.get(u.ID); taken {
		return ports.ErrDuplicate
	}
	v.s.users.put(v.tx, u.ID, cloneUser(u))
	v.s.emails.put(v.tx, u.Email, u.ID)
	return nil
}

type sessions struct{ view }

func (v sessions) Get(ctx context.Context, tokenHash string) (identity.Session, identity.User, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return identity.Session{}, identity.User{}, err
	}
	defer unlock()
	s, ok := v.s.sessions.get(tokenHash)
	if !ok {
		return s, identity.User{}, fault.New(fault.NotFound, fault.CodeNotFound, "Session not found")
	}
	return s, cloneUser(v.s.users.rows[s.UserID]), nil
}

func (v sessions) ListByUser(ctx context.Context, userID string, now time.Time, limit int) ([]identity.Session, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	var out []identity.Session
	for _, s := range v.s.sessions.rows {
		if s.UserID == userID && s.Live(now) {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b identity.Session) int {
		return cmp.Or(b.LastSeenAt.Compare(a.LastSeenAt), strings.Compare(a.TokenHash, b.TokenHash))
	})
	return out[:min(limit, len(out))], nil
}

func (v sessions) Insert(_ context.Context, s identity.Session) error {
	if _, taken := v.s.sessions.get(s.TokenHash); taken {
		return ports.ErrDuplicate
	}
	v.s.sessions.put(v.tx, s.TokenHash, s)
	return nil
}

func (v sessions) Touch(_ context.Context, s identity.Session) error {
	if now, ok := v.s.sessions.get(s.TokenHash); ok {
		now.LastSeenAt, now.ExpiresAt = s.LastSeenAt, s.ExpiresAt
		v.s.sessions.put(v.tx, s.TokenHash, now)
	}
	return nil
}

func (v sessions) Delete(_ context.Context, tokenHash string) error {
	v.s.sessions.del(v.tx, tokenHash)
	return nil
}

func (v sessions) DeleteByUser(_ context.Context, userID, spare string) error {
	for hash, s := range v.s.sessions.rows {
		if s.UserID == userID && hash != spare {
			v.s.sessions.del(v.tx, hash)
		}
	}
	return nil
}

func (v sessions) DeleteExpired(_ context.Context, now time.Time) (n int, err error) {
	for hash, s := range v.s.sessions.rows {
		if !s.Live(now) {
			v.s.sessions.del(v.tx, hash)
			n++
		}
	}
	return n, nil
}

type keys struct{ view }

func cloneKey(k identity.APIKey) identity.APIKey {
	k.Scopes = slices.Clone(k.Scopes)
	k.ExpiresAt, k.LastUsedAt, k.RevokedAt = clonePtr(k.ExpiresAt), clonePtr(k.LastUsedAt), clonePtr(k.RevokedAt)
	return k
}

func clonePtr[V any](p *V) *V {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}

func keyNotFound(id string) error { return fault.NotFoundf(fault.CodeAPIKeyNotFound, "API key", id) }

func (v keys) ByHash(ctx context.Context, hash string) (identity.APIKey, identity.User, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return identity.APIKey{}, identity.User{}, err
	}
	defer unlock()
	id, ok := v.s.hashes.get(hash)
	if !ok {
		return identity.APIKey{}, identity.User{}, keyNotFound("of that text")
	}
	k := v.s.keys.rows[id]
	return cloneKey(k), cloneUser(v.s.users.rows[k.UserID]), nil
}

func (v keys) ListByAgent(ctx context.Context, agentID string) ([]identity.APIKey, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	var out []identity.APIKey
	for _, k := range v.s.keys.rows {
		if k.AgentID == agentID && k.RevokedAt == nil {
			out = append(out, cloneKey(k))
		}
	}
	slices.SortFunc(out, func(a, b identity.APIKey) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), strings.Compare(b.ID, a.ID))
	})
	return out, nil
}

func (v keys) Insert(_ context.Context, k identity.APIKey) error {
	if _, taken := v.s.hashes.get(k.Hash); taken {
		return ports.ErrDuplicate
	}
	v.s.keys.put(v.tx, k.ID, cloneKey(k))
	v.s.hashes.put(v.tx, k.Hash, k.ID)
	return nil
}

func (v keys) Revoke(_ context.Context, agentID, keyID string, at time.Time) error {
	k, ok := v.s.keys.get(keyID)
	if !ok || k.AgentID != agentID || k.RevokedAt != nil {
		return keyNotFound(keyID)
	}
	k.RevokedAt = &at
	v.s.keys.put(v.tx, keyID, k)
	return nil
}

func (v keys) RevokeAll(_ context.Context, agentID string, at time.Time) error {
	for id, k := range v.s.keys.rows {
		if k.AgentID == agentID && k.RevokedAt == nil {
			k.RevokedAt = &at
			v.s.keys.put(v.tx, id, k)
		}
	}
	return nil
}

func (v keys) RevokeByUser(_ context.Context, userID string, at time.Time) error {
	for id, k := range v.s.keys.rows {
		if k.UserID == userID && k.RevokedAt == nil {
			k.RevokedAt = &at
			v.s.keys.put(v.tx, id, k)
		}
	}
	return nil
}

func (v keys) Touch(_ context.Context, keyID string, at time.Time) error {
	if k, ok := v.s.keys.get(keyID); ok {
		k.LastUsedAt = &at
		v.s.keys.put(v.tx, keyID, k)
	}
	return nil
}
