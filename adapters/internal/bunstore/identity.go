package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/ports"
)

type users struct{ access }

const userColumns = `u.id, u.email, u.password_hash, u.role, u.created_at, u.verified_at, u.pending_email, u.disabled_at, u.deleted_at, u.name`

func (r *userRow) dest() []any {
	return []any{&r.ID, &r.Email, &r.PasswordHash, &r.Role, &r.CreatedAt, &r.VerifiedAt, &r.PendingEmail, &r.DisabledAt, &r.DeletedAt, &r.Name}
}

var (
	qUser        = hot(`SELECT ` + userColumns + ` FROM users AS u WHERE u.id = ?`)
	qUserByEmail = hot(`SELECT ` + userColumns + ` FROM users AS u WHERE u.email = ?`)
	qLockUser    = hot(`SELECT `+userColumns+` FROM users AS u WHERE u.id = ?{lock}`).ranked(rankAccess, 0).locks("user")
)

// Get implements ports.UserReader. One statement.
func (v *users) Get(ctx context.Context, id string) (identity.User, error) {
	return v.find(ctx, qUser, id)
}

// ByEmail implements ports.UserReader. One statement.
func (v *users) ByEmail(ctx context.Context, email string) (identity.User, error) {
	return v.find(ctx, qUserByEmail, email)
}

func (v *users) find(ctx context.Context, q statement, by string) (identity.User, error) {
	var r userRow
	err := v.do(ctx, func(ctx context.Context, c *session) error {
		return c.store.wrap(c.row(ctx, q, []any{by}, r.dest()...), "read user")
	})
	if errors.Is(err, sql.ErrNoRows) {
		return identity.User{}, fault.NotFoundf(fault.CodeNotFound, "User", by)
	}
	return r.domain(), err
}

// List implements ports.UserReader. Two statements.
func (v *users) List(ctx context.Context, f ports.UserFilter, page ports.Page) (out []identity.User, total int, err error) {
	var rows []userRow
	err = v.solo(ctx, func(ctx context.Context, c *session) error {
		rows = nil
		q := c.bun.NewSelect().Model(&rows).Where("u.deleted_at IS NULL")
		if f.Email != "" {
			q = q.Where(`u.email LIKE ? ESCAPE '!'`, "%"+likeText.Replace(f.Email)+"%")
		}
		if f.Role != "" {
			q = q.Where("u.role = ?", f.Role)
		}
		if f.Disabled != nil && *f.Disabled {
			q = q.Where("u.disabled_at IS NOT NULL")
		} else if f.Disabled != nil {
			q = q.Where("u.disabled_at IS NULL")
		}
		n, err := q.Count(ctx)
		if total = int(n); err != nil {
			return c.store.wrap(err, "count users")
		}
		err = q.OrderExpr("u.created_at DESC, u.id DESC").Limit(int64(page.Limit)).Offset(int64(page.Offset)).Scan(ctx)
		return c.store.wrap(err, "list users")
	})
	for _, r := range rows {
		out = append(out, r.domain())
	}
	return out, total, err
}

// likeText keeps what a text has of a pattern's signs from being ones.
var likeText = strings.NewReplacer("!", "!!", "%", "!%", "_", "!_")

// Count implements ports.UserStore. One statement, and one for the lock where there is one.
func (v *users) Count(ctx context.Context) (n int, err error) {
	err = v.solo(ctx, func(ctx context.Context, c *session) error {
		if lock := c.store.cfg.Dialect.LockUsers; lock != "" {
			if err := c.plain(ctx, lock); err != nil {
				return c.store.wrap(err, "lock users")
			}
		}
		all, err := c.bun.NewSelect().Model((*userRow)(nil)).Count(ctx)
		n = int(all)
		return c.store.wrap(err, "count users")
	})
	return n, err
}

// Insert implements ports.UserStore. One statement.
func (v *users) Insert(ctx context.Context, u identity.User) error {
	row := userRowOf(u)
	return v.solo(ctx, func(ctx context.Context, c *session) error {
		r, err := c.writes().NewInsert().Model(&row).On("CONFLICT (email) DO NOTHING").Exec(ctx)
		if err != nil {
			return c.store.wrap(err, "insert user")
		}
		if n, err := r.RowsAffected(); n > 0 || err != nil {
			return err
		}
		return emailTaken()
	})
}

func emailTaken() error {
	return fault.New(fault.Conflict, fault.CodeEmailTaken, "there is an account with this e-mail; log in, or use another one")
}

// Lock implements ports.UserStore. One statement.
func (v *users) Lock(ctx context.Context, id string) (identity.User, error) {
	var r userRow
	err := v.solo(ctx, func(ctx context.Context, c *session) error {
		return c.store.wrap(c.row(ctx, qLockUser, []any{id}, r.dest()...), "lock user")
	})
	if errors.Is(err, sql.ErrNoRows) {
		return identity.User{}, fault.NotFoundf(fault.CodeNotFound, "User", id)
	}
	return r.domain(), err
}

// Save implements ports.UserStore. Two statements.
func (v *users) Save(ctx context.Context, u identity.User) error {
	row := userRowOf(u)
	return v.solo(ctx, func(ctx context.Context, c *session) error {
		// Asked first, as a statement that fails takes the transaction with it.
		taken, err := c.bun.NewSelect().Model((*userRow)(nil)).Where("u.email = ?", u.Email).Where("u.id <> ?", u.ID).Exists(ctx)
		switch {
		case err != nil:
			return c.store.wrap(err, "find user")
		case taken:
			return emailTaken()
		}
		r, err := c.writes().NewUpdate().Model(&row).ExcludeColumn("created_at").WherePK().Exec(ctx)
		if err != nil {
			if err = c.store.wrap(err, "save user"); errors.Is(err, ports.ErrDuplicate) { // taken in this very moment
				return emailTaken()
			}
			return err
		}
		if n, err := r.RowsAffected(); n > 0 || err != nil {
			return err
		}
		return fault.NotFoundf(fault.CodeNotFound, "User", u.ID)
	})
}

type sessions struct{ access }

var (
	qSession = hot(`SELECT s.token_hash, s.user_id, s.created_at, s.last_seen_at, s.expires_at, s.address, s.device, ` + userColumns + `
		FROM sessions AS s JOIN users AS u ON u.id = s.user_id WHERE s.token_hash = ?`)
	qTouchSession = hot(`UPDATE sessions SET last_seen_at = ?, expires_at = ? WHERE token_hash = ?`).ranked(rankAccess, 2)
)

// Get implements ports.SessionReader. One statement.
func (v *sessions) Get(ctx context.Context, tokenHash string) (identity.Session, identity.User, error) {
	var s sessionRow
	var u userRow
	err := v.do(ctx, func(ctx context.Context, c *session) error {
		dest := append([]any{&s.TokenHash, &s.UserID, &s.CreatedAt, &s.LastSeenAt, &s.ExpiresAt, &s.Address, &s.Device}, u.dest()...)
		return c.store.wrap(c.row(ctx, qSession, []any{tokenHash}, dest...), "read session")
	})
	if errors.Is(err, sql.ErrNoRows) {
		return identity.Session{}, identity.User{}, fault.New(fault.NotFound, fault.CodeNotFound, "Session not found")
	}
	return s.domain(), u.domain(), err
}

// ListByUser implements ports.SessionReader. One statement.
func (v *sessions) ListByUser(ctx context.Context, userID string, now time.Time, limit int) (out []identity.Session, err error) {
	var rows []sessionRow
	err = v.solo(ctx, func(ctx context.Context, c *session) error {
		rows = nil
		err := c.bun.NewSelect().Model(&rows).Where("s.user_id = ?", userID).Where("s.expires_at > ?", at(now)).
			OrderExpr("s.last_seen_at DESC, s.token_hash").Limit(int64(limit)).Scan(ctx)
		return c.store.wrap(err, "list sessions")
	})
	for _, r := range rows {
		out = append(out, r.domain())
	}
	return out, err
}

// Insert implements ports.SessionStore. One statement.
func (v *sessions) Insert(ctx context.Context, s identity.Session) error {
	row := sessionRow{
		TokenHash: s.TokenHash, UserID: s.UserID, CreatedAt: at(s.CreatedAt), LastSeenAt: at(s.LastSeenAt), ExpiresAt: at(s.ExpiresAt),
		Address: s.Address, Device: s.Device,
	}
	return v.solo(ctx, func(ctx context.Context, c *session) error {
		_, err := c.writes().NewInsert().Model(&row).Exec(ctx)
		return c.store.wrap(err, "insert session")
	})
}

// Touch implements ports.SessionStore. One statement.
func (v *sessions) Touch(ctx context.Context, s identity.Session) error {
	return v.do(ctx, func(ctx context.Context, c *session) error {
		_, err := c.exec(ctx, qTouchSession, int64(at(s.LastSeenAt)), int64(at(s.ExpiresAt)), s.TokenHash)
		return c.store.wrap(err, "touch session")
	})
}

// Delete implements ports.SessionStore. One statement.
func (v *sessions) Delete(ctx context.Context, tokenHash string) error {
	return v.solo(ctx, func(ctx context.Context, c *session) error {
		_, err := c.writes().NewDelete().Model((*sessionRow)(nil)).Where("token_hash = ?", tokenHash).Exec(ctx)
		return c.store.wrap(err, "delete session")
	})
}

// DeleteByUser implements ports.SessionStore. One statement.
func (v *sessions) DeleteByUser(ctx context.Context, userID, spare string) error {
	return v.solo(ctx, func(ctx context.Context, c *session) error {
		_, err := c.writes().NewDelete().Model((*sessionRow)(nil)).Where("user_id = ?", userID).Where("token_hash <> ?", spare).Exec(ctx)
		return c.store.wrap(err, "delete sessions")
	})
}

// DeleteExpired implements ports.SessionStore. One statement.
func (v *sessions) DeleteExpired(ctx context.Context, now time.Time) (n int, err error) {
	err = v.solo(ctx, func(ctx context.Context, c *session) error {
		r, err := c.writes().NewDelete().Model((*sessionRow)(nil)).Where("expires_at <= ?", at(now)).Exec(ctx)
		if err != nil {
			return c.store.wrap(err, "delete expired sessions")
		}
		rows, err := r.RowsAffected()
		n = int(rows)
		return err
	})
	return n, err
}

type keys struct{ access }

var (
	qKeyByHash = hot(`SELECT ` + keyColumns + `, ` + userColumns + ` FROM api_keys AS k JOIN users AS u ON u.id = k.user_id WHERE k.hash = ?`)
	qTouchKey  = hot(`UPDATE api_keys SET last_used_at = ? WHERE id = ?`).ranked(rankAccess, 1)
)

func keyNotFound(id string) error { return fault.NotFoundf(fault.CodeAPIKeyNotFound, "API key", id) }

// ByHash implements ports.KeyReader. One statement.
func (v *keys) ByHash(ctx context.Context, hash string) (identity.APIKey, identity.User, error) {
	var r keyRow
	var u userRow
	err := v.do(ctx, func(ctx context.Context, c *session) error {
		return c.store.wrap(c.row(ctx, qKeyByHash, []any{hash}, append(r.dest(), u.dest()...)...), "read key")
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return identity.APIKey{}, identity.User{}, fault.New(fault.NotFound, fault.CodeAPIKeyNotFound, "API key not found")
	case err != nil:
		return identity.APIKey{}, identity.User{}, err
	}
	k, err := r.domain()
	return k, u.domain(), err
}

// ListByAgent implements ports.KeyReader. One statement.
func (v *keys) ListByAgent(ctx context.Context, agentID string) ([]identity.APIKey, error) {
	var rows []keyRow
	err := v.solo(ctx, func(ctx context.Context, c *session) error {
		rows = nil
		err := c.bun.NewSelect().Model(&rows).Where("k.agent_id = ?", agentID).Where("k.revoked_at IS NULL").OrderExpr("k.created_at DESC, k.id DESC").Scan(ctx)
		return c.store.wrap(err, "list keys")
	})
	if err != nil {
		return nil, err
	}
	return convert(rows, keyRow.domain)
}

// Insert implements ports.KeyStore. One statement.
func (v *keys) Insert(ctx context.Context, k identity.APIKey) error {
	row, err := keyRowOf(k)
	if err != nil {
		return err
	}
	return v.solo(ctx, func(ctx context.Context, c *session) error {
		_, err := c.writes().NewInsert().Model(&row).Exec(ctx)
		return c.store.wrap(err, "insert key")
	})
}

// Revoke implements ports.KeyStore. One statement.
func (v *keys) Revoke(ctx context.Context, agentID, keyID string, when time.Time) error {
	n, err := v.revoke(ctx, agentID, &keyID, when)
	if err == nil && n == 0 {
		return keyNotFound(keyID)
	}
	return err
}

// RevokeAll implements ports.KeyStore. One statement.
func (v *keys) RevokeAll(ctx context.Context, agentID string, when time.Time) error {
	_, err := v.revoke(ctx, agentID, nil, when)
	return err
}

// RevokeByUser implements ports.KeyStore. One statement.
func (v *keys) RevokeByUser(ctx context.Context, userID string, when time.Time) error {
	return v.solo(ctx, func(ctx context.Context, c *session) error {
		_, err := c.writes().NewUpdate().Model((*keyRow)(nil)).Set("revoked_at = ?", at(when)).Where("user_id = ?", userID).Where("revoked_at IS NULL").Exec(ctx)
		return c.store.wrap(err, "revoke keys")
	})
}

func (v *keys) revoke(ctx context.Context, agentID string, keyID *string, when time.Time) (n int64, err error) {
	err = v.solo(ctx, func(ctx context.Context, c *session) error {
		q := c.writes().NewUpdate().Model((*keyRow)(nil)).Set("revoked_at = ?", at(when)).Where("agent_id = ?", agentID).Where("revoked_at IS NULL")
		if keyID != nil {
			q = q.Where("id = ?", *keyID)
		}
		r, err := q.Exec(ctx)
		if err != nil {
			return c.store.wrap(err, "revoke key")
		}
		n, err = r.RowsAffected()
		return err
	})
	return n, err
}

// Touch implements ports.KeyStore. One statement.
func (v *keys) Touch(ctx context.Context, keyID string, when time.Time) error {
	return v.do(ctx, func(ctx context.Context, c *session) error {
		_, err := c.exec(ctx, qTouchKey, int64(at(when)), keyID)
		return c.store.wrap(err, "touch key")
	})
}

// convert turns rows into what they stand for.
func convert[R, D any](rows []R, domain func(R) (D, error)) ([]D, error) {
	out := make([]D, len(rows))
	for i, r := range rows {
		d, err := domain(r)
		if err != nil {
			return nil, err
		}
		out[i] = d
	}
	return out, nil
}

var (
	_ ports.UserStore    = (*users)(nil)
	_ ports.SessionStore = (*sessions)(nil)
	_ ports.KeyStore     = (*keys)(nil)
)
