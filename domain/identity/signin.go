package identity

import (
	"encoding/base64"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
)

// Outside is who somebody is to an identity provider. Issuer and subject together name a person for good; an e-mail does
// not, as it can change hands.
type Outside struct {
	Issuer   string
	Subject  string
	Email    string // normalised; "" if the provider tells none
	Verified bool   // the provider has made sure that the e-mail is theirs
}

// Identity is an outside identity that lets a user in.
type Identity struct {
	ID        string
	UserID    string
	Issuer    string
	Subject   string
	Email     string // as it was when it was linked, for people to tell identities apart
	CreatedAt time.Time
}

// Limits of an outside identity, in bytes.
const (
	maxIssuer  = 512
	maxSubject = 255 // OpenID Connect Core, section 2
)

// CheckOutside refuses an identity that names nobody. It is the provider's fault, not the person's.
func CheckOutside(o Outside) error {
	if o.Issuer == "" || len(o.Issuer) > maxIssuer || o.Subject == "" || len(o.Subject) > maxSubject {
		return fault.New(fault.BadGateway, fault.CodeProtocol, "the identity provider's answer does not say who this is")
	}
	return nil
}

// Purpose is what a token that was sent by mail is good for.
type Purpose string

// The purposes.
const (
	VerifyEmail   Purpose = "verify_email"   // shows that the account's e-mail is its user's
	ChangeEmail   Purpose = "change_email"   // the same for the one that is to take its place
	ResetPassword Purpose = "reset_password" // sets a new password without the old one
)

// Life is how long a token of the purpose holds.
func (p Purpose) Life() time.Duration {
	if p == ResetPassword {
		return time.Hour
	}
	return 24 * time.Hour
}

// Token is a secret that was sent by mail, of which only the hash is kept. It is good for one use.
type Token struct {
	Hash      string
	UserID    string
	Purpose   Purpose
	Email     string // that it was sent to
	CreatedAt time.Time
	ExpiresAt time.Time
}

// Live reports whether the token still holds.
func (t Token) Live(now time.Time) bool { return now.Before(t.ExpiresAt) }

// TokenEntropy is how many random bytes a session's or a mail's token has.
const TokenEntropy = 32

// NewToken is the text of a token of TokenEntropy random bytes.
func NewToken(random []byte) string { return base64.RawURLEncoding.EncodeToString(random) }

// IsToken reports whether s has the form of a token.
func IsToken(s string) bool {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(raw) == TokenEntropy
}

// StaleToken is the fault of a token that is forged, used, replaced or too old. It does not say which.
func StaleToken() error {
	var bad fault.Fields
	bad.Add("token", "is not valid any more; ask for a new mail")
	return bad.Err()
}

// LetterKind is what a letter is about.
type LetterKind string

// The kinds of letters. Those that carry a token are named as its purpose.
const (
	LetterVerify          = LetterKind(VerifyEmail)
	LetterChangeEmail     = LetterKind(ChangeEmail)
	LetterReset           = LetterKind(ResetPassword)
	LetterPasswordChanged = LetterKind("password_changed")
	LetterEmailChanged    = LetterKind("email_changed")
	LetterIdentityLinked  = LetterKind("identity_linked")
	LetterAccountDeleted  = LetterKind("account_deleted")
)

// Letter is a mail that is to be sent.
type Letter struct {
	ID        string
	Kind      LetterKind
	UserID    string // "" if it is found by the e-mail, when the letter is sent
	Email     string // where to
	CreatedAt time.Time
}

// LetterLife is how long it is tried to send a letter.
const LetterLife = time.Hour

// Purpose returns what the letter's token is good for. ok is false for letters that only tell something.
func (l Letter) Purpose() (p Purpose, ok bool) {
	switch p := Purpose(l.Kind); p {
	case VerifyEmail, ChangeEmail, ResetPassword:
		return p, true
	default:
		return "", false
	}
}
