package ports

import (
	"context"
	"time"

	"github.com/nexus-protocol/nexus/domain/identity"
)

// UserReader finds users. A user that is not there is NOT_FOUND.
type UserReader interface {
	Get(ctx context.Context, id string) (identity.User, error)
	ByEmail(ctx context.Context, email string) (identity.User, error) // the normalised form
}

// UserStore changes users.
type UserStore interface {
	UserReader
	// Count is how many users there are. No other transaction adds one between this call and the end of this one.
	Count(ctx context.Context) (int, error)
	// Insert adds a user. One with the same e-mail is EMAIL_TAKEN.
	Insert(ctx context.Context, u identity.User) error
}

// SessionReader finds sessions by their token's hash. One that is not there is NOT_FOUND; whether it still holds is for
// the caller to say.
type SessionReader interface {
	// Get returns the session and its user in one read.
	Get(ctx context.Context, tokenHash string) (identity.Session, identity.User, error)
}

// SessionStore changes sessions.
type SessionStore interface {
	SessionReader
	Insert(ctx context.Context, s identity.Session) error
	// Touch writes LastSeenAt and ExpiresAt. A session that is gone stays gone.
	Touch(ctx context.Context, s identity.Session) error
	// Delete revokes a session. One that is not there is no error.
	Delete(ctx context.Context, tokenHash string) error
	// DeleteExpired removes what has ended by then and returns how many.
	DeleteExpired(ctx context.Context, now time.Time) (int, error)
}

// KeyReader finds API keys. One that is not there is API_KEY_NOT_FOUND.
type KeyReader interface {
	// ByHash returns the key, whatever its state, and its user's role in one read.
	ByHash(ctx context.Context, hash string) (identity.APIKey, identity.Role, error)
	// ListByAgent returns an agent's keys that are not revoked, newest first.
	ListByAgent(ctx context.Context, agentID string) ([]identity.APIKey, error)
}

// KeyStore changes API keys.
type KeyStore interface {
	KeyReader
	Insert(ctx context.Context, k identity.APIKey) error
	// Revoke ends a key of the agent. One that is not there, is another agent's, or is revoked already is
	// API_KEY_NOT_FOUND.
	Revoke(ctx context.Context, agentID, keyID string, at time.Time) error
	// RevokeAll ends all of an agent's keys.
	RevokeAll(ctx context.Context, agentID string, at time.Time) error
	// Touch notes a use.
	Touch(ctx context.Context, keyID string, at time.Time) error
}
