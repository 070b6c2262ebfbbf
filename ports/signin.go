package ports

import (
	"context"

	"github.com/nexus-protocol/nexus/domain/identity"
)

// IdentityProvider says who a person is. What a provider was not able to find out, because it is away or its answer makes
// no sense, is UNAVAILABLE or PROTOCOL_ERROR; what it found not to be so is UNAUTHORIZED. A way that a provider does not
// have is FORBIDDEN.
type IdentityProvider interface {
	// Info tells what the provider is. It never changes.
	Info() ProviderInfo
	// Password finds out by an e-mail and a password. It takes as long for an e-mail that nobody has. An account that may
	// not come in, though the password is right, is FORBIDDEN with a message for its owner.
	Password(ctx context.Context, email, password string) (identity.Outside, error)
	// Begin returns where to send a browser. From there it comes back to the flow's RedirectURL, with the flow's State and
	// a code in its query.
	Begin(ctx context.Context, f SignInFlow) (url string, err error)
	// Finish finds out by the code that the browser came back with. A code is good once, and only with the flow that it was
	// asked for with.
	Finish(ctx context.Context, f SignInFlow, code string) (identity.Outside, error)
	// Token finds out by a token that the provider gave the person for this server.
	Token(ctx context.Context, token string) (identity.Outside, error)
}

// ProviderInfo is what a provider is, and the ways that it has.
type ProviderInfo struct {
	Name   string // in addresses: a to z, 0 to 9 and -, at most 32
	Title  string // for people
	Issuer string // of all its identities; "": its subjects are the ids of the engine's own users

	Password, Redirect, Token bool
}

// SignInFlow is one sign-in by way of the provider's own pages. State, Nonce and Verifier are secrets of at least 32
// random characters each, which only the browser that began it leads back to.
type SignInFlow struct {
	RedirectURL string
	State       string
	Nonce       string // that the provider must put into its answer
	Verifier    string // of PKCE, RFC 7636; the provider is told its hash first
}

// Mailer sends mail.
type Mailer interface {
	// Send hands a mail on. When it returns nil, somebody else answers for it. A mail that cannot be put into words, such
	// as one with a line break in its subject, is refused and nothing is sent. The error names no secrets, and is a
	// *MailError if it would be the same another time.
	Send(ctx context.Context, m Mail) error
}

// Mail is a mail in plain text.
type Mail struct {
	ID      string // the same at each attempt to send it
	To      string // one address, without a name
	Subject string // one line
	Text    string // lines end with \n
}

// MailError is a failure that another attempt would not mend.
type MailError struct{ Reason string }

// Error implements error.
func (e *MailError) Error() string { return e.Reason }
