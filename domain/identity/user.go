// Package identity knows who calls: users, sessions, API keys and their scopes; and it decides, in access.go, what a
// caller may do.
package identity

import (
	"net/mail"
	"strings"
	"time"
	"unicode"
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
	Name         string // what they call themselves; "" for who has not said
	PasswordHash string // "" for one who comes in by an identity provider alone
	Role         Role
	CreatedAt    time.Time

	VerifiedAt   *time.Time // when the e-mail was shown to be theirs; nil: not yet
	PendingEmail string     // that is to take the e-mail's place once it is verified
	DisabledAt   *time.Time // by an admin: until then nothing of theirs is let in
	DeletedAt    *time.Time // for good; what is left keeps the books whole
}

// Active reports whether the user and their keys are let in.
func (u User) Active() bool { return u.DisabledAt == nil && u.DeletedAt == nil }

// Deleted is what is left of the user's account: nothing that says who it was, and an e-mail that nobody can have.
func (u User) Deleted(now time.Time) User {
	return User{ID: u.ID, Email: u.ID + "@deleted.invalid", Role: RoleUser, CreatedAt: u.CreatedAt, DeletedAt: &now}
}

// Limits of an account.
const (
	MinPassword = 10 // characters
	MaxPassword = 128
	MaxName     = 80  // characters
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
	bad.Check(ok, "email", notAnEmail)
	checkPassword(&bad, "password", password)
	return norm, bad.Err()
}

const notAnEmail = "must be an e-mail address"

func checkPassword(bad *fault.Fields, field, password string) {
	n := utf8.RuneCountInString(password)
	bad.Check(n >= MinPassword && n <= MaxPassword, field, "must be %d to %d characters long", MinPassword, MaxPassword)
}

// CheckPassword validates a new password, which the request has in the field.
func CheckPassword(field, password string) error {
	var bad fault.Fields
	checkPassword(&bad, field, password)
	return bad.Err()
}

// CheckName validates what a user wants to be called, and returns the form that is stored: one line, without space around
// it. "" is good: it says that they do not want to be called anything.
func CheckName(field, name string) (string, error) {
	name = strings.TrimSpace(name)
	var bad fault.Fields
	bad.Check(utf8.ValidString(name) && utf8.RuneCountInString(name) <= MaxName, field, "must be at most %d characters long", MaxName)
	bad.Check(!strings.ContainsFunc(name, func(r rune) bool { return unicode.Is(unicode.C, r) || unicode.In(r, unicode.Zl, unicode.Zp) }), field, "must be one line of visible characters")
	return name, bad.Err()
}

// CheckEmail validates an e-mail and returns the normalised form.
func CheckEmail(email string) (string, error) {
	var bad fault.Fields
	norm, ok := NormalizeEmail(email)
	bad.Check(ok, "email", notAnEmail)
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
	Address    string // where it was begun from, as limits count it; "" if that is not known
	Device     string // what the browser called itself then, cut to MaxDevice bytes
}

// MaxDevice is how much is kept of what a browser calls itself, in bytes.
const MaxDevice = 256

// ID names the session to its user, in the form of a UUID. It follows from the token's hash, and neither from the other.
func (s Session) ID() string {
	h := HashToken("session " + s.TokenHash)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:32]
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
