package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/uptrace/bun"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/ports"
)

var (
	_ ports.IdentityStore = (*identities)(nil)
	_ ports.TokenStore    = (*tokens)(nil)
	_ ports.LetterStore   = (*letters)(nil)
)

type identities struct{ access }

type identityRow struct {
	bun.BaseModel `bun:"table:identities,alias:i"`

	ID        string `bun:"id,pk"`
	UserID    string `bun:"user_id"`
	Issuer    string `bun:"issuer"`
	Subject   string `bun:"subject"`
	Email     string `bun:"email"`
	CreatedAt micros `bun:"created_at"`
}

func (r identityRow) domain() identity.Identity {
	return identity.Identity{ID: r.ID, UserID: r.UserID, Issuer: r.Issuer, Subject: r.Subject, Email: r.Email, CreatedAt: r.CreatedAt.time()}
}

var qIdentity = hot(`SELECT i.id, i.user_id, i.issuer, i.subject, i.email, i.created_at, ` + userColumns + `
	FROM identities AS i JOIN users AS u ON u.id = i.user_id WHERE i.issuer = ? AND i.subject = ?`)

func identityNotFound(id string) error {
	return fault.NotFoundf(fault.CodeNotFound, "Identity", id)
}

// Find implements ports.IdentityReader. One statement.
func (v *identities) Find(ctx context.Context, issuer, subject string) (identity.Identity, identity.User, error) {
	var r identityRow
	var u userRow
	err := v.do(ctx, func(ctx context.Context, c *session) error {
		dest := append([]any{&r.ID, &r.UserID, &r.Issuer, &r.Subject, &r.Email, &r.CreatedAt}, u.dest()...)
		return c.store.wrap(c.row(ctx, qIdentity, []any{issuer, subject}, dest...), "read identity")
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return identity.Identity{}, identity.User{}, identityNotFound(subject)
	case err != nil:
		return identity.Identity{}, identity.User{}, err
	}
	return r.domain(), u.domain(), nil
}

// ListByUser implements ports.IdentityReader. One statement.
func (v *identities) ListByUser(ctx context.Context, userID string) (out []identity.Identity, err error) {
	var rows []identityRow
	err = v.solo(ctx, func(ctx context.Context, c *session) error {
		rows = nil
		return c.store.wrap(c.bun.NewSelect().Model(&rows).Where("i.user_id = ?", userID).OrderExpr("i.created_at, i.id").Scan(ctx), "list identities")
	})
	for _, r := range rows {
		out = append(out, r.domain())
	}
	return out, err
}

// Insert implements ports.IdentityStore. One statement.
func (v *identities) Insert(ctx context.Context, i identity.Identity) error {
	row := identityRow{ID: i.ID, UserID: i.UserID, Issuer: i.Issuer, Subject: i.Subject, Email: i.Email, CreatedAt: at(i.CreatedAt)}
	return v.solo(ctx, func(ctx context.Context, c *session) error {
		r, err := c.writes().NewInsert().Model(&row).On("CONFLICT (issuer, subject) DO NOTHING").Exec(ctx)
		if err != nil {
			return c.store.wrap(err, "insert identity")
		}
		if n, err := r.RowsAffected(); n > 0 || err != nil {
			return err
		}
		return ports.ErrDuplicate
	})
}

// Delete implements ports.IdentityStore. One statement.
func (v *identities) Delete(ctx context.Context, userID, id string) error {
	return v.solo(ctx, func(ctx context.Context, c *session) error {
		r, err := c.writes().NewDelete().Model((*identityRow)(nil)).Where("id = ?", id).Where("user_id = ?", userID).Exec(ctx)
		if err != nil {
			return c.store.wrap(err, "delete identity")
		}
		if n, err := r.RowsAffected(); n > 0 || err != nil {
			return err
		}
		return identityNotFound(id)
	})
}

// DeleteByUser implements ports.IdentityStore. One statement.
func (v *identities) DeleteByUser(ctx context.Context, userID string) error {
	return v.solo(ctx, func(ctx context.Context, c *session) error {
		_, err := c.writes().NewDelete().Model((*identityRow)(nil)).Where("user_id = ?", userID).Exec(ctx)
		return c.store.wrap(err, "delete identities")
	})
}

type tokens struct{ access }

type tokenRow struct {
	bun.BaseModel `bun:"table:mail_tokens,alias:m"`

	Hash      string           `bun:"hash,pk"`
	UserID    string           `bun:"user_id"`
	Purpose   identity.Purpose `bun:"purpose"`
	Email     string           `bun:"email"`
	CreatedAt micros           `bun:"created_at"`
	ExpiresAt micros           `bun:"expires_at"`
}

func (r *tokenRow) dest() []any {
	return []any{&r.Hash, &r.UserID, &r.Purpose, &r.Email, &r.CreatedAt, &r.ExpiresAt}
}

const tokenColumns = `hash, user_id, purpose, email, created_at, expires_at`

var (
	qToken     = hot(`SELECT ` + tokenColumns + ` FROM mail_tokens WHERE hash = ?`)
	qTakeToken = hot(`DELETE FROM mail_tokens WHERE hash = ? RETURNING `+tokenColumns).ranked(rankAccess, 0)
)

// Get implements ports.TokenReader. One statement.
func (v *tokens) Get(ctx context.Context, hash string) (identity.Token, error) {
	return v.find(ctx, v.do, qToken, hash)
}

// Take implements ports.TokenStore. One statement.
func (v *tokens) Take(ctx context.Context, hash string) (identity.Token, error) {
	return v.find(ctx, v.solo, qTakeToken, hash)
}

func (v *tokens) find(ctx context.Context, in func(context.Context, func(context.Context, *session) error) error, q statement, hash string) (identity.Token, error) {
	var r tokenRow
	err := in(ctx, func(ctx context.Context, c *session) error {
		return c.store.wrap(c.row(ctx, q, []any{hash}, r.dest()...), "find token")
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return identity.Token{}, fault.New(fault.NotFound, fault.CodeNotFound, "Token not found")
	case err != nil:
		return identity.Token{}, err
	}
	return identity.Token{
		Hash: r.Hash, UserID: r.UserID, Purpose: r.Purpose, Email: r.Email, CreatedAt: r.CreatedAt.time(), ExpiresAt: r.ExpiresAt.time(),
	}, nil
}

// Insert implements ports.TokenStore. One statement.
func (v *tokens) Insert(ctx context.Context, t identity.Token) error {
	row := tokenRow{Hash: t.Hash, UserID: t.UserID, Purpose: t.Purpose, Email: t.Email, CreatedAt: at(t.CreatedAt), ExpiresAt: at(t.ExpiresAt)}
	return v.solo(ctx, func(ctx context.Context, c *session) error {
		_, err := c.writes().NewInsert().Model(&row).Exec(ctx)
		return c.store.wrap(err, "insert token")
	})
}

// DeleteByUser implements ports.TokenStore. One statement.
func (v *tokens) DeleteByUser(ctx context.Context, userID string, purposes ...identity.Purpose) error {
	return v.solo(ctx, func(ctx context.Context, c *session) error {
		q := c.writes().NewDelete().Model((*tokenRow)(nil)).Where("user_id = ?", userID)
		if len(purposes) > 0 {
			q = q.Where("purpose IN (?)", bun.List(purposes))
		}
		_, err := q.Exec(ctx)
		return c.store.wrap(err, "delete tokens")
	})
}

// DeleteExpired implements ports.TokenStore. One statement.
func (v *tokens) DeleteExpired(ctx context.Context, now time.Time) error {
	return v.solo(ctx, func(ctx context.Context, c *session) error {
		_, err := c.writes().NewDelete().Model((*tokenRow)(nil)).Where("expires_at <= ?", at(now)).Exec(ctx)
		return c.store.wrap(err, "delete expired tokens")
	})
}

type letters struct{ access }

type letterRow struct {
	bun.BaseModel `bun:"table:letters,alias:l"`

	ID        string              `bun:"id,pk"`
	Kind      identity.LetterKind `bun:"kind"`
	UserID    string              `bun:"user_id"`
	Email     string              `bun:"email"`
	CreatedAt micros              `bun:"created_at"`
}

var qLetter = hot(`SELECT id, kind, user_id, email, created_at FROM letters WHERE id = ?`)

// Get implements ports.LetterReader. One statement.
func (v *letters) Get(ctx context.Context, id string) (identity.Letter, error) {
	var r letterRow
	err := v.do(ctx, func(ctx context.Context, c *session) error {
		return c.store.wrap(c.row(ctx, qLetter, []any{id}, &r.ID, &r.Kind, &r.UserID, &r.Email, &r.CreatedAt), "read letter")
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return identity.Letter{}, fault.NotFoundf(fault.CodeNotFound, "Letter", id)
	case err != nil:
		return identity.Letter{}, err
	}
	return identity.Letter{ID: r.ID, Kind: r.Kind, UserID: r.UserID, Email: r.Email, CreatedAt: r.CreatedAt.time()}, nil
}

// Insert implements ports.LetterStore. One statement.
func (v *letters) Insert(ctx context.Context, l identity.Letter) error {
	row := letterRow{ID: l.ID, Kind: l.Kind, UserID: l.UserID, Email: l.Email, CreatedAt: at(l.CreatedAt)}
	return v.solo(ctx, func(ctx context.Context, c *session) error {
		_, err := c.writes().NewInsert().Model(&row).Exec(ctx)
		return c.store.wrap(err, "insert letter")
	})
}

// Delete implements ports.LetterStore. One statement.
func (v *letters) Delete(ctx context.Context, id string) error {
	return v.solo(ctx, func(ctx context.Context, c *session) error {
		_, err := c.writes().NewDelete().Model((*letterRow)(nil)).Where("id = ?", id).Exec(ctx)
		return c.store.wrap(err, "delete letter")
	})
}
