// Package identity knows who calls: users, sessions, API keys and their scopes; and it decides, in access.go, what a
// caller may do.
package identity

import (
	"net/mail"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nexus-protocol/nexus/domain/fault"
)

// Role is what a user is on the whole platform.
type Role string

// The roles. The first user to sign up is the admin.
const (
	RoleUser  Role = "user"
	RoleAdmin Role = "admin"
)

// User is a person with an account.
type User struct {
	ID           string
	Email        string // normalised
	PasswordHash string
	Role         Role
	CreatedAt    time.Time
}

// Limits of an account.
const (
	MinPassword = 10 // characters
	MaxPassword = 128
	maxEmail    = 254 // bytes, RFC 5321
)

// NormalizeEmail returns the form that is stored and compared: trimmed, lower case. ok is false when it is no address.
func NormalizeEmail(s string) (email string, ok bool) {
	s = strings.ToLower(strings.TrimSpace(s))
	a, err := mail.ParseAddress(s)
	if err != nil || a.Address != s || len(s) > maxEmail {
		return "", false
	}
	return s, true
}

// CheckCredentials validates a sign-up and returns the normalised e-mail.
func CheckCredentials(email, password string) (string, error) {
	var bad fault.Fields
	norm, ok := NormalizeEmail(email)
	bad.Check(ok, "email", "must be an e-mail address")
	n := utf8.RuneCountInString(password)
	bad.Check(n >= MinPassword && n <= MaxPassword, "password", "must be %d to %d characters long", MinPassword, MaxPassword)
	return norm, bad.Err()
}

// SessionIdle is the time without use after which a session ends.
const SessionIdle = 30 * 24 * time.Hour

// SessionTouch is how stale a session's or key's time of last use may get before it is written again.
const SessionTouch = time.Minute

// Session is a browser's log-in. Only the hash of its token is kept.
type Session struct {
	TokenHash  string
	UserID     string
	CreatedAt  time.Time
	LastSeenAt time.Time
	ExpiresAt  time.Time
}

// Live reports whether the session still holds.
func (s Session) Live(now time.Time) bool { return now.Before(s.ExpiresAt) }

// Seen extends the session. changed is false when the last use was noted a moment ago.
func (s Session) Seen(now time.Time) (out Session, changed bool) {
	if now.Sub(s.LastSeenAt) < SessionTouch {
		return s, false
	}
	s.LastSeenAt, s.ExpiresAt = now, now.Add(SessionIdle)
	return s, true
}
