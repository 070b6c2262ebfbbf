package ports

import (
	"context"
	"time"

	"github.com/nexus-protocol/nexus/domain/identity"
)

// UserReader finds users, those too that are disabled. A user that is not there is NOT_FOUND.
type UserReader interface {
	Get(ctx context.Context, id string) (identity.User, error)        // a deleted one too
	ByEmail(ctx context.Context, email string) (identity.User, error) // the normalised form
	// List returns the users of the filter that are not deleted, newest first (ties by id, descending), and how many there
	// are in all.
	List(ctx context.Context, f UserFilter, page Page) ([]identity.User, int, error)
}

// UserFilter narrows a list of users. The zero value is all.
type UserFilter struct {
	Email    string        // a part of it, in lower case
	Role     identity.Role // "" is any
	Disabled *bool
}

// UserStore changes users.
type UserStore interface {
	UserReader
	// Count is how many users there are. No other transaction adds one between this call and the end of this one.
	Count(ctx context.Context) (int, error)
	// Insert adds a user. One with the same e-mail is EMAIL_TAKEN.
	Insert(ctx context.Context, u identity.User) error
	// Lock is Get, and keeps the user from changing until the transaction ends.
	Lock(ctx context.Context, id string) (identity.User, error)
	// Save writes everything but the time of creation. An e-mail that another user has is EMAIL_TAKEN.
	Save(ctx context.Context, u identity.User) error
}

// SessionReader finds sessions by their token's hash. One that is not there is NOT_FOUND; whether it still holds is for
// the caller to say.
type SessionReader interface {
	// Get returns the session and its user in one read.
	Get(ctx context.Context, tokenHash string) (identity.Session, identity.User, error)
	// ListByUser returns a user's sessions that have not ended by now, the last used first (ties by hash), at most limit.
	ListByUser(ctx context.Context, userID string, now time.Time, limit int) ([]identity.Session, error)
}

// SessionStore changes sessions.
type SessionStore interface {
	SessionReader
	Insert(ctx context.Context, s identity.Session) error
	// Touch writes LastSeenAt and ExpiresAt. A session that is gone stays gone.
	Touch(ctx context.Context, s identity.Session) error
	// Delete revokes a session. One that is not there is no error.
	Delete(ctx context.Context, tokenHash string) error
	// DeleteByUser revokes all sessions of a user but the one with the hash; "" spares none.
	DeleteByUser(ctx context.Context, userID, spare string) error
	// DeleteExpired removes what has ended by then and returns how many.
	DeleteExpired(ctx context.Context, now time.Time) (int, error)
}

// KeyReader finds API keys. One that is not there is API_KEY_NOT_FOUND.
type KeyReader interface {
	// ByHash returns the key and its user, whatever their state, in one read.
	ByHash(ctx context.Context, hash string) (identity.APIKey, identity.User, error)
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
	// RevokeByUser ends all keys that act for a user.
	RevokeByUser(ctx context.Context, userID string, at time.Time) error
	// Touch notes a use.
	Touch(ctx context.Context, keyID string, at time.Time) error
}

// IdentityReader finds the outside identities that let users in.
type IdentityReader interface {
	// Find returns the identity of an issuer's subject, and its user, in one read. One that is not there is NOT_FOUND.
	Find(ctx context.Context, issuer, subject string) (identity.Identity, identity.User, error)
	// ListByUser returns a user's identities, oldest first.
	ListByUser(ctx context.Context, userID string) ([]identity.Identity, error)
}

// IdentityStore changes outside identities.
type IdentityStore interface {
	IdentityReader
	// Insert adds an identity. One of the same issuer and subject is ErrDuplicate.
	Insert(ctx context.Context, i identity.Identity) error
	// Delete removes an identity of the user. One that is not there, or is another user's, is NOT_FOUND.
	Delete(ctx context.Context, userID, id string) error
	// DeleteByUser removes all of a user's.
	DeleteByUser(ctx context.Context, userID string) error
}

// TokenReader looks at tokens that were sent by mail.
type TokenReader interface {
	// Get returns a token, whatever its state. One that is not there is NOT_FOUND.
	Get(ctx context.Context, hash string) (identity.Token, error)
}

// TokenStore changes tokens that were sent by mail.
type TokenStore interface {
	TokenReader
	Insert(ctx context.Context, t identity.Token) error
	// Take removes a token and returns it. Of many that ask at the same time one gets it; to the others it is NOT_FOUND.
	Take(ctx context.Context, hash string) (identity.Token, error)
	// DeleteByUser removes all of a user's tokens of the purposes; of all, if none is named.
	DeleteByUser(ctx context.Context, userID string, purposes ...identity.Purpose) error
	// DeleteExpired removes what has ended by then.
	DeleteExpired(ctx context.Context, now time.Time) error
}

// LetterReader finds letters that are to be sent.
type LetterReader interface {
	// Get returns a letter. One that is not there is NOT_FOUND.
	Get(ctx context.Context, id string) (identity.Letter, error)
}

// LetterStore changes letters. Each has a job that sends it.
type LetterStore interface {
	LetterReader
	Insert(ctx context.Context, l identity.Letter) error
	// Delete removes a letter. One that is not there is no error.
	Delete(ctx context.Context, id string) error
}
