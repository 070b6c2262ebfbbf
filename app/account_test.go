package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/scheduler"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
	"github.com/nexus-protocol/nexus/ports/portstest"
)

// What mails are about.
const (
	toVerify = "Confirm your e-mail address"
	toReset  = "Set a new password"
	toMove   = "Confirm your new e-mail address"
)

const (
	site   = "https://nexus.example.com"
	secret = "correct horse"
)

// people is a rig with a mailer and an identity provider, and people with browsers.
type people struct {
	*rig
	mails *memory.Mailer
	idp   *memory.Provider
}

func everyHouse(t *testing.T, test func(t *testing.T, p *people)) {
	everyStore(t, func(t *testing.T, r *rig) {
		p := &people{r, memory.NewMailer(), memory.NewProvider(ports.ProviderInfo{Name: "fake", Title: "Fake", Issuer: "https://id.example.com", Redirect: true, Token: true})}
		r.with(func(c *app.Config) {
			c.Mailer, c.Providers, c.PublicURL = p.mails, []ports.IdentityProvider{p.idp}, site
		})
		test(t, p)
	})
}

// signUp makes an account, and a session of a browser at the address.
func (p *people) signUp(email, address string) (identity.Caller, string) {
	p.t.Helper()
	_, err := p.Identity.SignUp(p.t.Context(), app.Credentials{Email: email, Password: secret, Address: address})
	require.NoError(p.t, err)
	return p.logIn(email, secret, address)
}

func (p *people) logIn(email, password, address string) (identity.Caller, string) {
	p.t.Helper()
	_, token, err := p.Identity.LogIn(p.t.Context(), app.Credentials{Email: email, Password: password, Address: address, Device: "Browser"}, "")
	require.NoError(p.t, err)
	return p.caller(token), token
}

func (p *people) caller(token string) identity.Caller {
	p.t.Helper()
	c, _, err := p.Identity.BySession(p.t.Context(), token)
	require.NoError(p.t, err)
	return c
}

func (p *people) out(token string) {
	p.t.Helper()
	_, _, err := p.Identity.BySession(p.t.Context(), token)
	p.refused(err, fault.CodeUnauthorized)
}

// mail waits for the n-th mail to somebody about something.
func (p *people) mail(to, about string, n int) ports.Mail {
	p.t.Helper()
	var found []ports.Mail
	require.Eventually(p.t, func() bool {
		found = nil
		for _, m := range p.mails.Sent() {
			if m.To == to && m.Subject == about {
				found = append(found, m)
			}
		}
		return len(found) >= n
	}, 5*time.Second, time.Millisecond)
	return found[n-1]
}

var links = regexp.MustCompile(site + `/auth/([a-z-]+)\?token=(\S+)`)

// token is the token of a mail's link.
func (p *people) token(m ports.Mail, page string) string {
	p.t.Helper()
	found := links.FindStringSubmatch(m.Text)
	require.NotNil(p.t, found, m.Text)
	require.Equal(p.t, page, found[1])
	require.True(p.t, identity.IsToken(found[2]))
	return found[2]
}

// quiet waits until no letter's job is left.
func (p *people) quiet() {
	p.t.Helper()
	require.Eventually(p.t, func() bool {
		due, err := p.store.Read().Jobs.Due(p.t.Context(), p.clock.now().Add(24*time.Hour), 100)
		require.NoError(p.t, err)
		for _, ref := range due {
			if strings.HasPrefix(ref.ID, "mail.") {
				return false
			}
		}
		n, err := p.store.Read().Jobs.Count(p.t.Context())
		require.NoError(p.t, err)
		return n == len(due)
	}, 5*time.Second, time.Millisecond)
}

func (p *people) stale(err error) {
	p.t.Helper()
	p.refused(err, fault.CodeValidation)
	require.ErrorContains(p.t, err, "token")
}

func TestLocalAccountsAreAnIdentityProvider(t *testing.T) {
	everyHouse(t, func(t *testing.T, p *people) {
		p.work()
		c, _ := p.signUp("ann@example.com", "")
		_, err := p.Identity.VerifyEmail(t.Context(), p.token(p.mail("ann@example.com", toVerify, 1), "verify-email"), "")
		require.NoError(t, err)
		require.NoError(t, portstest.IdentityProvider(t.Context(), app.LocalAccounts{Store: p.store, Hasher: memory.NewHasher()}, portstest.ProviderCase{
			Subject: c.UserID, Email: "ann@example.com", LoginEmail: " Ann@Example.com", LoginPassword: secret,
		}))
	})
}

func TestAForgottenPassword(t *testing.T) {
	everyHouse(t, func(t *testing.T, p *people) {
		p.work()
		ctx := t.Context()
		_, session := p.signUp("ann@example.com", "")
		verify := p.token(p.mail("ann@example.com", toVerify, 1), "verify-email")
		for range 2 {
			require.NoError(t, p.Identity.ForgotPassword(ctx, " Ann@Example.com ", "192.0.2.1"))
		}
		first, second := p.token(p.mail("ann@example.com", toReset, 1), "reset-password"), p.token(p.mail("ann@example.com", toReset, 2), "reset-password")
		require.NotEqual(t, first, second)

		// Nobody who reads the store can use what is in there.
		kept, err := p.store.Read().Tokens.Get(ctx, identity.HashToken(first))
		require.NoError(t, err)
		require.NotContains(t, fmt.Sprintf("%+v", kept), first)
		p.stale(p.Identity.ResetPassword(ctx, kept.Hash, "another password", ""))

		// What is wrong uses nothing up.
		for _, forged := range []string{"", "x", first[:42], first + "A", flipped(first), strings.Repeat("A", 43), verify, session} {
			p.stale(p.Identity.ResetPassword(ctx, forged, "another password", ""))
		}
		p.refused(p.Identity.ResetPassword(ctx, first, "short", ""), fault.CodeValidation)
		_, err = p.Identity.VerifyEmail(ctx, first, "")
		p.stale(err)
		p.caller(session)

		require.NoError(t, p.Identity.ResetPassword(ctx, first, "another password", ""))
		p.out(session)
		p.stale(p.Identity.ResetPassword(ctx, first, "a third password", ""))
		p.stale(p.Identity.ResetPassword(ctx, second, "a third password", ""))
		_, err = p.Identity.VerifyEmail(ctx, verify, "")
		p.stale(err)
		_, _, err = p.Identity.LogIn(ctx, app.Credentials{Email: "ann@example.com", Password: secret}, "")
		p.refused(err, fault.CodeUnauthorized)
		c, _ := p.logIn("ann@example.com", "another password", "")
		p.mail("ann@example.com", "Your password was changed", 1)
		v, err := p.Identity.Account(ctx, c)
		require.NoError(t, err)
		require.NotNil(t, v.VerifiedAt, "who can read the mail has shown that it is theirs")

		// An old one is of no use.
		require.NoError(t, p.Identity.ForgotPassword(ctx, "ann@example.com", ""))
		old := p.token(p.mail("ann@example.com", toReset, 3), "reset-password")
		p.clock.skip(time.Hour)
		p.stale(p.Identity.ResetPassword(ctx, old, "a third password", ""))
		p.quiet()
	})
}

func flipped(token string) string {
	if token[0] == 'A' {
		return "B" + token[1:]
	}
	return "A" + token[1:]
}

// Of a token that many use at once, one use counts.
func TestATokenIsUsedOnce(t *testing.T) {
	everyHouse(t, func(t *testing.T, p *people) {
		p.work()
		p.signUp("ann@example.com", "")
		require.NoError(t, p.Identity.ForgotPassword(t.Context(), "ann@example.com", ""))
		token := p.token(p.mail("ann@example.com", toReset, 1), "reset-password")
		var wg sync.WaitGroup
		errs := make([]error, 6)
		for i := range errs {
			wg.Go(func() { errs[i] = p.Identity.ResetPassword(t.Context(), token, fmt.Sprintf("new password %d", i), "") })
		}
		wg.Wait()
		won := 0
		for i, err := range errs {
			if err == nil {
				won++
				p.logIn("ann@example.com", fmt.Sprintf("new password %d", i), "")
				continue
			}
			p.stale(err)
		}
		require.Equal(t, 1, won)
	})
}

// Whether there is an account shows neither in the answer nor in what is written before it.
func TestAskingForAPasswordTellsNothing(t *testing.T) {
	everyHouse(t, func(t *testing.T, p *people) {
		p.signUp("ann@example.com", "")
		gone, _ := p.signUp("gone@example.com", "")
		off, _ := p.signUp("off@example.com", "")
		require.NoError(t, p.Identity.DeleteAccount(t.Context(), gone, secret))
		admin, _ := p.logIn("ann@example.com", secret, "")
		_, err := p.Identity.DisableUser(t.Context(), admin, off.UserID)
		require.NoError(t, err)
		before, err := p.store.Read().Jobs.Count(t.Context())
		require.NoError(t, err)
		for i, email := range []string{"ann@example.com", "nobody@example.com", "gone@example.com", "off@example.com"} {
			require.NoError(t, p.Identity.ForgotPassword(t.Context(), email, ""))
			n, err := p.store.Read().Jobs.Count(t.Context())
			require.NoError(t, err)
			require.Equal(t, before+i+1, n)
		}
		p.work()
		p.quiet()
		resets := map[string]bool{}
		for _, m := range p.mails.Sent() {
			if strings.Contains(m.Text, "reset-password") {
				resets[m.To] = true
			}
		}
		require.Equal(t, map[string]bool{"ann@example.com": true}, resets)
		p.refused(p.Identity.ForgotPassword(t.Context(), "no address", ""), fault.CodeValidation)
		for range 4 {
			require.NoError(t, p.Identity.ForgotPassword(t.Context(), "nobody@example.com", ""))
		}
		p.refused(p.Identity.ForgotPassword(t.Context(), "nobody@example.com", ""), fault.CodeRateLimitExceeded)
	})
}

// Somebody who made an account with another's e-mail has nothing left of it once the other has set a password by mail.
func TestAnAccountThatWasMadeAheadOfItsOwner(t *testing.T) {
	everyHouse(t, func(t *testing.T, p *people) {
		p.work()
		ctx := t.Context()
		p.signUp("boss@example.com", "")
		thief, session := p.signUp("victim@example.com", "")
		a := p.agent(thief, 0, echo)
		key, err := p.Identity.CreateKey(ctx, thief, a.ID, identity.NewKey{Name: "k", Scopes: []string{"*"}})
		require.NoError(t, err)
		p.idp.Know(memory.Person{Subject: "thief", Email: "thief@example.com", Verified: true})
		require.NoError(t, p.link(thief, "thief"))

		require.NoError(t, p.Identity.ForgotPassword(ctx, "victim@example.com", ""))
		reset := func(n int, password string) {
			require.NoError(t, p.Identity.ResetPassword(ctx, p.token(p.mail("victim@example.com", toReset, n), "reset-password"), password, ""))
		}
		reset(1, "the victim's password")
		p.out(session)
		_, err = p.Identity.ByKey(ctx, string(key.Secret))
		p.refused(err, fault.CodeUnauthorized)
		user, _, err := p.signIn("thief")
		require.NoError(t, err)
		require.NotEqual(t, thief.UserID, user.ID)

		// Whose e-mail was known to be theirs keeps keys and identities.
		c, _ := p.logIn("victim@example.com", "the victim's password", "")
		key, err = p.Identity.CreateKey(ctx, c, a.ID, identity.NewKey{Name: "k", Scopes: []string{"*"}})
		require.NoError(t, err)
		require.NoError(t, p.Identity.ForgotPassword(ctx, "victim@example.com", ""))
		reset(2, "another password")
		_, err = p.Identity.ByKey(ctx, string(key.Secret))
		require.NoError(t, err)
	})
}

func TestAMailIsTriedAgain(t *testing.T) {
	everyHouse(t, func(t *testing.T, p *people) {
		ctx := t.Context()
		var mu sync.Mutex
		seen := map[string]int{}
		p.mails.Fail(func(m ports.Mail) error {
			mu.Lock()
			defer mu.Unlock()
			seen[m.ID]++
			if seen[m.ID] == 1 {
				return memory.ErrMail
			}
			return nil
		})
		p.signUp("ann@example.com", "")
		p.work()
		require.Eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(seen) == 1 }, 5*time.Second, time.Millisecond)
		require.Empty(t, p.mails.Sent())
		require.Eventually(t, func() bool { p.clock.skip(time.Second); return len(p.mails.Sent()) == 1 }, 10*time.Second, 10*time.Millisecond)
		_, err := p.Identity.VerifyEmail(ctx, p.token(p.mail("ann@example.com", toVerify, 1), "verify-email"), "")
		require.NoError(t, err)
		p.quiet()

		// What no attempt would mend, and what is too old, is given up.
		p.mails.Fail(func(ports.Mail) error { return &ports.MailError{Reason: "no such box"} })
		require.NoError(t, p.Identity.ForgotPassword(ctx, "ann@example.com", ""))
		p.quiet()
		p.mails.Fail(func(ports.Mail) error { return memory.ErrMail })
		require.NoError(t, p.Identity.ForgotPassword(ctx, "ann@example.com", ""))
		require.Eventually(t, func() bool {
			p.clock.skip(5 * time.Minute)
			n, err := p.store.Read().Jobs.Count(ctx)
			require.NoError(t, err)
			return n == 0
		}, 10*time.Second, 10*time.Millisecond)
		require.Len(t, p.mails.Sent(), 1)
	})
}

func TestAnotherEMail(t *testing.T) {
	everyHouse(t, func(t *testing.T, p *people) {
		p.work()
		ctx := t.Context()
		p.signUp("bob@example.com", "")
		c, session := p.signUp("ann@example.com", "")
		p.refused(p.Identity.ChangeEmail(ctx, c, "new@example.com", "wrong password"), fault.CodeValidation)
		p.refused(p.Identity.ChangeEmail(ctx, c, "nowhere", secret), fault.CodeValidation)
		require.NoError(t, p.Identity.ChangeEmail(ctx, c, "typo@example.com", secret))
		typo := p.token(p.mail("typo@example.com", toMove, 1), "verify-email")
		require.NoError(t, p.Identity.ChangeEmail(ctx, c, " New@example.com", secret))
		move := p.token(p.mail("new@example.com", toMove, 1), "verify-email")
		require.NoError(t, p.Identity.ForgotPassword(ctx, "ann@example.com", ""))
		old := p.token(p.mail("ann@example.com", toReset, 1), "reset-password")

		_, err := p.Identity.VerifyEmail(ctx, typo, "")
		p.stale(err)
		v, err := p.Identity.Account(ctx, c)
		require.NoError(t, err)
		require.Equal(t, "ann@example.com", v.Email)
		require.Equal(t, "new@example.com", v.PendingEmail)
		u, err := p.Identity.VerifyEmail(ctx, move, "")
		require.NoError(t, err)
		require.Equal(t, "new@example.com", u.Email)
		require.NotNil(t, u.VerifiedAt)
		require.Empty(t, u.PendingEmail)
		_, err = p.Identity.VerifyEmail(ctx, move, "")
		p.stale(err)
		p.stale(p.Identity.ResetPassword(ctx, old, "another password", ""))
		p.mail("ann@example.com", "Your e-mail address was changed", 1)
		p.caller(session)
		p.logIn("new@example.com", secret, "")

		// One that somebody has is found out when it is shown to be theirs, and not before.
		require.NoError(t, p.Identity.ChangeEmail(ctx, c, "bob@example.com", secret))
		_, err = p.Identity.VerifyEmail(ctx, p.token(p.mail("bob@example.com", toMove, 1), "verify-email"), "")
		p.refused(err, fault.CodeEmailTaken)
		p.quiet()
	})
}

func TestSessionsAreSeenAndEnded(t *testing.T) {
	everyHouse(t, func(t *testing.T, p *people) {
		ctx := t.Context()
		ann, one := p.signUp("ann@example.com", "192.0.2.1")
		p.clock.skip(time.Second)
		_, two := p.logIn("ann@example.com", secret, "192.0.2.2")
		bob, bobs := p.signUp("bob@example.com", "192.0.2.3")
		all, err := p.Identity.Sessions(ctx, ann)
		require.NoError(t, err)
		require.Len(t, all, 2)
		require.Equal(t, "192.0.2.2", all[0].Address)
		require.Equal(t, "Browser", all[0].Device)
		require.False(t, all[0].Current)
		require.True(t, all[1].Current)
		require.NotContains(t, all[0].TokenHash, all[0].ID()[:8])

		p.refused(p.Identity.RevokeSession(ctx, bob, all[0].ID()), fault.CodeNotFound)
		require.NoError(t, p.Identity.RevokeSession(ctx, ann, all[0].ID()))
		p.out(two)
		p.refused(p.Identity.RevokeSession(ctx, ann, all[0].ID()), fault.CodeNotFound)
		_, three := p.logIn("ann@example.com", secret, "")
		require.NoError(t, p.Identity.RevokeOtherSessions(ctx, ann))
		p.out(three)
		p.caller(one)
		p.caller(bobs)

		// No key does what its user alone may.
		a := p.agent(ann, 0, echo)
		made, err := p.Identity.CreateKey(ctx, ann, a.ID, identity.NewKey{Name: "k", Scopes: []string{"*"}})
		require.NoError(t, err)
		key, err := p.Identity.ByKey(ctx, string(made.Secret))
		require.NoError(t, err)
		for name, do := range map[string]func(c identity.Caller) error{
			"account":  func(c identity.Caller) error { _, err := p.Identity.Account(ctx, c); return err },
			"sessions": func(c identity.Caller) error { _, err := p.Identity.Sessions(ctx, c); return err },
			"revoke":   func(c identity.Caller) error { return p.Identity.RevokeSession(ctx, c, all[1].ID()) },
			"others":   func(c identity.Caller) error { return p.Identity.RevokeOtherSessions(ctx, c) },
			"password": func(c identity.Caller) error { return p.Identity.ChangePassword(ctx, c, secret, "another password") },
			"email":    func(c identity.Caller) error { return p.Identity.ChangeEmail(ctx, c, "x@example.com", secret) },
			"verify":   func(c identity.Caller) error { return p.Identity.SendVerification(ctx, c) },
			"delete":   func(c identity.Caller) error { return p.Identity.DeleteAccount(ctx, c, secret) },
			"unlink":   func(c identity.Caller) error { return p.Identity.Unlink(ctx, c, "x") },
			"link":     func(c identity.Caller) error { return p.Identity.FinishLink(ctx, c, "fake", app.SignInAnswer{}, "") },
			"users":    func(c identity.Caller) error { _, err := p.Identity.Users(ctx, c, app.FindUsers{}); return err },
			"disable":  func(c identity.Caller) error { _, err := p.Identity.DisableUser(ctx, c, bob.UserID); return err },
			"enable":   func(c identity.Caller) error { _, err := p.Identity.EnableUser(ctx, c, bob.UserID); return err },
		} {
			require.True(t, fault.Has(do(key), fault.CodeForbidden), name)
			require.True(t, fault.Has(do(identity.Caller{}), fault.CodeUnauthorized), name)
		}
	})
}

func TestAnotherPassword(t *testing.T) {
	everyHouse(t, func(t *testing.T, p *people) {
		ctx := t.Context()
		ann, one := p.signUp("ann@example.com", "")
		_, two := p.logIn("ann@example.com", secret, "")
		err := p.Identity.ChangePassword(ctx, ann, "wrong password", "another password")
		p.refused(err, fault.CodeValidation)
		require.ErrorContains(t, err, "currentPassword")
		err = p.Identity.ChangePassword(ctx, ann, secret, "short")
		require.ErrorContains(t, err, "newPassword")
		p.caller(two)
		require.NoError(t, p.Identity.ChangePassword(ctx, ann, secret, "another password"))
		p.caller(one)
		p.out(two)
		p.logIn("ann@example.com", "another password", "")
		for range 8 { // a stolen session is no way to try passwords out
			p.refused(p.Identity.DeleteAccount(ctx, ann, "wrong password"), fault.CodeValidation)
		}
		p.refused(p.Identity.DeleteAccount(ctx, ann, "another password"), fault.CodeRateLimitExceeded)
	})
}

// hesitant lets something happen while a password is verified.
type hesitant struct {
	ports.PasswordHasher
	meanwhile func()
}

func (h *hesitant) Verify(ctx context.Context, password, hash string) (bool, error) {
	ok, err := h.PasswordHasher.Verify(ctx, password, hash)
	if do := h.meanwhile; do != nil {
		h.meanwhile = nil
		do()
	}
	return ok, err
}

// Who logged in with the old password while a new one was set is not in.
func TestALogInDoesNotOutliveThePasswordItWasMadeWith(t *testing.T) {
	everyHouse(t, func(t *testing.T, p *people) {
		ann, _ := p.signUp("ann@example.com", "")
		slow := &hesitant{PasswordHasher: memory.NewHasher()}
		p.with(func(c *app.Config) { c.Hasher = slow })
		slow.meanwhile = func() { require.NoError(t, p.Identity.ChangePassword(t.Context(), ann, secret, "another password")) }
		_, _, err := p.Identity.LogIn(t.Context(), app.Credentials{Email: "ann@example.com", Password: secret}, "")
		p.refused(err, fault.CodeUnauthorized)
		slow.meanwhile = func() { require.NoError(t, p.Identity.ChangePassword(t.Context(), ann, "another password", secret)) }
		p.refused(p.Identity.ChangePassword(t.Context(), ann, "another password", "a third password"), fault.CodeForbidden)
	})
}

// quick is a hasher for many log-ins.
type quick struct{}

func (quick) Hash(_ context.Context, password string) (string, error) { return "of " + password, nil }

func (quick) Verify(_ context.Context, password, hash string) (bool, error) {
	return "of "+password == hash, nil
}

func TestGuessing(t *testing.T) {
	everyHouse(t, func(t *testing.T, p *people) {
		p.with(func(c *app.Config) { c.Hasher = quick{} })
		p.signUp("ann@example.com", "192.0.2.1")
		guess := func(email, address string) error {
			_, _, err := p.Identity.LogIn(t.Context(), app.Credentials{Email: email, Password: "wrong password", Address: address}, "")
			return err
		}
		for range 10 {
			p.refused(guess("ann@example.com", "198.51.100.1"), fault.CodeUnauthorized)
		}
		err := guess("ann@example.com", "198.51.100.1")
		p.refused(err, fault.CodeRateLimitExceeded)
		f, _ := fault.As(err)
		require.LessOrEqual(t, f.Details["retryAfter"], 60)
		p.logIn("ann@example.com", secret, "203.0.113.9") // who guesses keeps out nobody else

		// Many addresses together come to an end too, but not for where she is known to come from; and what they are told is
		// the same of an account that there is not.
		limited := map[string]int{}
		for _, email := range []string{"ann@example.com", "nobody@example.com"} {
			for i := range 110 {
				if err := guess(email, fmt.Sprintf("198.51.100.%d", 10+i)); fault.Has(err, fault.CodeRateLimitExceeded) {
					f, _ := fault.As(err)
					require.LessOrEqual(t, f.Details["retryAfter"], 60)
					limited[email]++
				} else {
					p.refused(err, fault.CodeUnauthorized)
				}
			}
		}
		require.Positive(t, limited["nobody@example.com"])
		require.Greater(t, limited["ann@example.com"], 10)
		p.logIn("ann@example.com", secret, "192.0.2.1")
		p.clock.skip(time.Minute)
		p.logIn("ann@example.com", secret, "203.0.113.77") // nor anybody for long
	})
}

// come is the way of a browser to the provider and back.
func (p *people) come(c identity.Caller, subject string) (app.SignInAnswer, error) {
	p.t.Helper()
	begun, err := p.Identity.BeginSignIn(p.t.Context(), c, "fake")
	if err != nil {
		return app.SignInAnswer{}, err
	}
	require.Contains(p.t, begun.URL, "redirect_uri=https%3A%2F%2Fnexus.example.com%2Fauth%2Fcallback%2Ffake")
	require.NotContains(p.t, begun.URL, begun.Secret)
	state, code, err := p.idp.Visit(begun.URL, subject)
	require.NoError(p.t, err)
	return app.SignInAnswer{Secret: begun.Secret, State: state, Code: code}, nil
}

func (p *people) signIn(subject string) (identity.User, string, error) {
	p.t.Helper()
	a, err := p.come(identity.Caller{}, subject)
	require.NoError(p.t, err)
	return p.Identity.FinishSignIn(p.t.Context(), "fake", a, app.Browser{})
}

func (p *people) link(c identity.Caller, subject string) error {
	p.t.Helper()
	a, err := p.come(c, subject)
	if err != nil {
		return err
	}
	return p.Identity.FinishLink(p.t.Context(), c, "fake", a, "")
}

func TestWhoComesFromOutside(t *testing.T) {
	everyHouse(t, func(t *testing.T, p *people) {
		p.work()
		ctx := t.Context()
		p.idp.Know(memory.Person{Subject: "1", Email: "boss@example.com", Verified: true, Token: "boss's"})
		boss, token, err := p.signIn("1")
		require.NoError(t, err)
		require.Equal(t, identity.RoleAdmin, boss.Role, "the first is the admin")
		require.NotNil(t, boss.VerifiedAt)
		require.Equal(t, credits.Whole(1000), p.balance(p.caller(token)).Available)
		again, _, err := p.signIn("1")
		require.NoError(t, err)
		require.Equal(t, boss.ID, again.ID)
		byToken, _, err := p.Identity.SignInByToken(ctx, "fake", "boss's", app.Browser{})
		require.NoError(t, err)
		require.Equal(t, boss.ID, byToken.ID)
		_, _, err = p.Identity.SignInByToken(ctx, "fake", "nobody's", app.Browser{})
		p.refused(err, fault.CodeUnauthorized)
		_, _, err = p.Identity.LogIn(ctx, app.Credentials{Email: "boss@example.com", Password: ""}, "")
		p.refused(err, fault.CodeUnauthorized)

		// The subject is who it is, whatever became of the e-mail.
		p.idp.Know(memory.Person{Subject: "1", Email: "married@example.com"})
		again, _, err = p.signIn("1")
		require.NoError(t, err)
		require.Equal(t, boss.ID, again.ID)
		require.Equal(t, "boss@example.com", again.Email)

		// An e-mail that the provider has not made sure of makes no account, and one that is taken opens none.
		p.idp.Know(memory.Person{Subject: "2", Email: "ann@example.com"})
		_, _, err = p.signIn("2")
		p.refused(err, fault.CodeForbidden)
		ann, session := p.signUp("ann@example.com", "")
		for _, verified := range []bool{false, true} {
			p.idp.Know(memory.Person{Subject: "2", Email: "ann@example.com", Verified: verified})
			_, _, err = p.signIn("2")
			require.Error(t, err)
		}
		p.refused(err, fault.CodeEmailTaken)
		v, err := p.Identity.Account(ctx, ann)
		require.NoError(t, err)
		require.Empty(t, v.Identities)

		// It does once its user, logged in, has linked it.
		require.NoError(t, p.link(ann, "2"))
		require.NoError(t, p.link(ann, "2"), "twice is no error")
		p.mail("ann@example.com", "A new way to sign in", 1)
		in, _, err := p.signIn("2")
		require.NoError(t, err)
		require.Equal(t, ann.UserID, in.ID)
		p.refused(p.link(p.caller(token), "2"), fault.CodeForbidden)
		p.refused(p.link(ann, "1"), fault.CodeForbidden)

		// The last way in stays; another's is nobody else's business.
		v, err = p.Identity.Account(ctx, ann)
		require.NoError(t, err)
		require.Len(t, v.Identities, 1)
		bv, err := p.Identity.Account(ctx, p.caller(token))
		require.NoError(t, err)
		p.refused(p.Identity.Unlink(ctx, p.caller(token), v.Identities[0].ID), fault.CodeNotFound)
		p.refused(p.Identity.Unlink(ctx, p.caller(token), bv.Identities[0].ID), fault.CodeForbidden)
		_, _, err = p.signIn("1")
		require.NoError(t, err)
		require.NoError(t, p.Identity.Unlink(ctx, p.caller(session), v.Identities[0].ID))
		_, _, err = p.signIn("2")
		p.refused(err, fault.CodeEmailTaken)
		_, err = p.Identity.BeginSignIn(ctx, identity.Caller{}, "other")
		p.refused(err, fault.CodeNotFound)
	})
}

func TestASignInBelongsToTheBrowserThatBeganIt(t *testing.T) {
	everyHouse(t, func(t *testing.T, p *people) {
		ctx := t.Context()
		p.idp.Know(memory.Person{Subject: "1", Email: "mallory@example.com", Verified: true})
		ann, _ := p.signUp("ann@example.com", "")
		bob, _ := p.signUp("bob@example.com", "")
		mallorys, err := p.come(identity.Caller{}, "1")
		require.NoError(t, err)
		victims, err := p.come(identity.Caller{}, "1")
		require.NoError(t, err)
		linking, err := p.come(ann, "1")
		require.NoError(t, err)
		for name, a := range map[string]app.SignInAnswer{
			"no cookie":                {State: mallorys.State, Code: mallorys.Code},
			"another browser's":        {Secret: victims.Secret, State: mallorys.State, Code: mallorys.Code},
			"a made-up state":          {Secret: victims.Secret, State: "x", Code: mallorys.Code},
			"no state":                 {Secret: victims.Secret, Code: mallorys.Code},
			"another's code":           {Secret: victims.Secret, State: victims.State, Code: mallorys.Code},
			"begun to link an account": linking,
		} {
			_, _, err := p.Identity.FinishSignIn(ctx, "fake", a, app.Browser{})
			require.True(t, fault.Has(err, fault.CodeUnauthorized), "%s: %v", name, err)
		}
		p.refused(p.Identity.FinishLink(ctx, ann, "fake", victims, ""), fault.CodeUnauthorized)
		p.refused(p.Identity.FinishLink(ctx, bob, "fake", linking, ""), fault.CodeUnauthorized)
		require.NoError(t, p.Identity.FinishLink(ctx, ann, "fake", linking, ""))
	})
}

// Many first sign-ins of one person at the same time make one account.
func TestOnePersonIsOneAccount(t *testing.T) {
	everyHouse(t, func(t *testing.T, p *people) {
		p.idp.Know(memory.Person{Subject: "1", Email: "ann@example.com", Verified: true, Token: "t"})
		ids := make([]string, 6)
		var wg sync.WaitGroup
		for i := range ids {
			wg.Go(func() {
				u, _, err := p.Identity.SignInByToken(t.Context(), "fake", "t", app.Browser{})
				if err == nil {
					ids[i] = u.ID
				}
			})
		}
		wg.Wait()
		for _, id := range ids {
			require.NotEmpty(t, id)
			require.Equal(t, ids[0], id)
		}
	})
}

func TestTheEndOfAnAccount(t *testing.T) {
	everyHouse(t, func(t *testing.T, p *people) {
		p.work()
		ctx := t.Context()
		boss, _ := p.signUp("boss@example.com", "")
		p.refused(p.Identity.DeleteAccount(ctx, boss, secret), fault.CodeForbidden)
		ann, session := p.signUp("ann@example.com", "")
		wait := make(chan struct{})
		defer close(wait)
		hang := func(ctx context.Context, _ ports.Call) (ports.Answer, error) {
			select {
			case <-wait:
			case <-ctx.Done():
			}
			return ports.Answer{}, ctx.Err()
		}
		hers, others := p.agent(ann, credits.Whole(10), hang), p.agent(boss, credits.Whole(10), hang)
		key, err := p.Identity.CreateKey(ctx, ann, hers.ID, identity.NewKey{Name: "k", Scopes: []string{"*"}})
		require.NoError(t, err)
		given, asked := p.create(boss, hers), p.create(ann, others)
		w, err := p.Workflows.Create(ctx, ann, "W", "", []scheduler.Step{{Name: "one", AgentID: others.ID, Input: json.RawMessage(`{}`)}})
		require.NoError(t, err)
		run, err := p.Workflows.Execute(ctx, ann, w.ID)
		require.NoError(t, err)
		p.idp.Know(memory.Person{Subject: "1", Email: "ann@example.com", Verified: true})
		require.NoError(t, p.link(ann, "1"))

		p.refused(p.Identity.DeleteAccount(ctx, ann, "wrong password"), fault.CodeValidation)
		require.NoError(t, p.Identity.DeleteAccount(ctx, ann, secret))
		p.out(session)
		_, err = p.Identity.ByKey(ctx, string(key.Secret))
		p.refused(err, fault.CodeUnauthorized)
		_, _, err = p.Identity.LogIn(ctx, app.Credentials{Email: "ann@example.com", Password: secret}, "")
		p.refused(err, fault.CodeUnauthorized)

		// What was open ends, and the money goes back; what is past stays, without a name.
		require.Equal(t, task.Cancelled, p.ended(boss, given.ID).Status)
		require.Equal(t, task.Cancelled, p.ended(boss, asked.ID).Status)
		require.Eventually(t, func() bool {
			b, err := p.store.Read().Ledger.Balance(ctx, ann.UserID)
			require.NoError(t, err)
			return b.Held == 0 && b.Available == credits.Whole(1000)
		}, 5*time.Second, time.Millisecond)
		require.Equal(t, credits.Whole(1000), p.balance(boss).Available)
		_, err = p.Agents.Get(ctx, boss, hers.ID)
		p.refused(err, fault.CodeAgentNotFound)
		kept, err := p.store.Read().Runs.Get(ctx, run.ID)
		require.NoError(t, err)
		require.Equal(t, scheduler.Cancelled, kept.Status)
		left, err := p.store.Read().Users.Get(ctx, ann.UserID)
		require.NoError(t, err)
		require.Equal(t, identity.User{ID: ann.UserID, Email: ann.UserID + "@deleted.invalid", Role: identity.RoleUser, CreatedAt: left.CreatedAt, DeletedAt: left.DeletedAt}, left)
		entries, n, err := p.store.Read().Ledger.Transactions(ctx, ann.UserID, "", ports.Page{Limit: 10})
		require.NoError(t, err)
		require.NotEmpty(t, entries)
		p.mail("ann@example.com", "Your account was deleted", 1)

		// The e-mail and the identity are free again, for an account that has nothing to do with the other.
		fresh, token, err := p.signIn("1")
		require.NoError(t, err)
		require.NotEqual(t, ann.UserID, fresh.ID)
		require.Equal(t, credits.Whole(1000), p.balance(p.caller(token)).Available)
		_, still, err := p.store.Read().Ledger.Transactions(ctx, ann.UserID, "", ports.Page{Limit: 10})
		require.NoError(t, err)
		require.Equal(t, n, still)

		// An agent that a request registered at the very last moment goes too.
		late, err := p.Agents.Register(ctx, ann, registry.Profile{Name: ptr("Late"), Endpoint: ptr("http://late.example.com")})
		require.NoError(t, err)
		p.clock.skip(3 * time.Minute)
		require.Eventually(t, func() bool {
			_, err := p.Agents.Get(ctx, boss, late.ID)
			return fault.Has(err, fault.CodeAgentNotFound)
		}, 5*time.Second, 5*time.Millisecond)
	})
}

func TestAdminsShutPeopleOut(t *testing.T) {
	everyHouse(t, func(t *testing.T, p *people) {
		ctx := t.Context()
		boss, _ := p.signUp("boss@example.com", "")
		ann, session := p.signUp("ann@example.com", "")
		a := p.agent(ann, 0, echo)
		key, err := p.Identity.CreateKey(ctx, ann, a.ID, identity.NewKey{Name: "k", Scopes: []string{"*"}})
		require.NoError(t, err)
		p.idp.Know(memory.Person{Subject: "1", Email: "ann@example.com", Verified: true})
		require.NoError(t, p.link(ann, "1"))

		_, err = p.Identity.Users(ctx, ann, app.FindUsers{})
		p.refused(err, fault.CodeForbidden)
		_, err = p.Identity.DisableUser(ctx, ann, boss.UserID)
		p.refused(err, fault.CodeForbidden)
		_, err = p.Identity.DisableUser(ctx, boss, boss.UserID)
		p.refused(err, fault.CodeForbidden)
		_, err = p.Identity.DisableUser(ctx, boss, memory.NewID())
		p.refused(err, fault.CodeNotFound)

		for range 2 { // twice is no error
			u, err := p.Identity.DisableUser(ctx, boss, ann.UserID)
			require.NoError(t, err)
			require.NotNil(t, u.DisabledAt)
		}
		p.out(session)
		_, err = p.Identity.ByKey(ctx, string(key.Secret))
		p.refused(err, fault.CodeUnauthorized)
		_, _, err = p.Identity.LogIn(ctx, app.Credentials{Email: "ann@example.com", Password: secret}, "")
		p.refused(err, fault.CodeForbidden)
		_, _, err = p.Identity.LogIn(ctx, app.Credentials{Email: "ann@example.com", Password: "wrong password"}, "")
		p.refused(err, fault.CodeUnauthorized)
		_, _, err = p.signIn("1")
		p.refused(err, fault.CodeForbidden)
		off := true
		l, err := p.Identity.Users(ctx, boss, app.FindUsers{Disabled: &off, Email: "ANN@"})
		require.NoError(t, err)
		require.Equal(t, 1, l.Total)
		require.Equal(t, ann.UserID, l.Items[0].ID)

		u, err := p.Identity.EnableUser(ctx, boss, ann.UserID)
		require.NoError(t, err)
		require.Nil(t, u.DisabledAt)
		p.out(session)
		_, err = p.Identity.ByKey(ctx, string(key.Secret))
		require.NoError(t, err)
		p.logIn("ann@example.com", secret, "")
	})
}

// Who has no password shows by a new session that it is them.
func TestWhoHasNoPassword(t *testing.T) {
	everyHouse(t, func(t *testing.T, p *people) {
		ctx := t.Context()
		p.signUp("boss@example.com", "")
		p.idp.Know(memory.Person{Subject: "1", Email: "ann@example.com", Verified: true})
		_, token, err := p.signIn("1")
		require.NoError(t, err)
		p.clock.skip(16 * time.Minute)
		p.refused(p.Identity.ChangePassword(ctx, p.caller(token), "", secret), fault.CodeForbidden)
		p.refused(p.Identity.DeleteAccount(ctx, p.caller(token), ""), fault.CodeForbidden)
		_, token, err = p.signIn("1")
		require.NoError(t, err)
		require.NoError(t, p.Identity.ChangePassword(ctx, p.caller(token), "", secret))
		p.logIn("ann@example.com", secret, "")
		p.refused(p.Identity.ChangePassword(ctx, p.caller(token), "", "another password"), fault.CodeValidation)
	})
}

// Without local accounts the password door is the provider's, and there is no other.
func TestWithoutLocalAccounts(t *testing.T) {
	everyHouse(t, func(t *testing.T, p *people) {
		ctx := t.Context()
		admin, err := p.Identity.CreateUser(ctx, app.Credentials{Email: "admin@example.com", Password: secret}, identity.RoleAdmin)
		require.NoError(t, err)
		theirs := memory.NewProvider(ports.ProviderInfo{Name: "theirs", Title: "Theirs", Issuer: "https://id.example.com", Password: true})
		theirs.Know(memory.Person{Subject: "1", Email: "ann@example.com", Verified: true, Password: "their password"})
		theirs.Know(memory.Person{Subject: "2", Email: "admin@example.com", Verified: true, Password: "their password"})
		p.with(func(c *app.Config) { c.Providers = []ports.IdentityProvider{theirs} })
		ways := p.Identity.Ways()
		require.True(t, ways.Password)
		require.False(t, ways.SignUp)
		_, _, err = p.Identity.LogIn(ctx, app.Credentials{Email: "ann@example.com", Password: "their password"}, "")
		require.NoError(t, err)
		_, err = p.Identity.SignUp(ctx, app.Credentials{Email: "bob@example.com", Password: secret})
		p.refused(err, fault.CodeForbidden)
		p.refused(p.Identity.ForgotPassword(ctx, "ann@example.com", ""), fault.CodeForbidden)
		_, _, err = p.Identity.LogIn(ctx, app.Credentials{Email: "admin@example.com", Password: secret}, "")
		p.refused(err, fault.CodeUnauthorized)
		_, _, err = p.Identity.LogIn(ctx, app.Credentials{Email: "admin@example.com", Password: "their password"}, "")
		p.refused(err, fault.CodeEmailTaken)
		require.NoError(t, p.Identity.LinkIdentity(ctx, "admin@example.com", "https://id.example.com", "2"))
		in, _, err := p.Identity.LogIn(ctx, app.Credentials{Email: "admin@example.com", Password: "their password"}, "")
		require.NoError(t, err)
		require.Equal(t, admin.ID, in.ID)

		p.with(func(c *app.Config) {
			c.Providers, c.NoLocalAccounts, c.PublicURL = []ports.IdentityProvider{p.idp}, true, site
		})
		require.False(t, p.Identity.Ways().Password)
		_, _, err = p.Identity.LogIn(ctx, app.Credentials{Email: "admin@example.com", Password: secret}, "")
		p.refused(err, fault.CodeForbidden)
	})
}

func TestConfigOfProviders(t *testing.T) {
	r := newRig(t, memory.New())
	base := app.Config{
		Store: r.store, Queue: nil, Agents: r.agents, Guard: memory.OpenGuard{}, Schema: memory.Schemas{}, Hasher: memory.NewHasher(),
		Limits: memory.NewLimiter(time.Now), Now: time.Now, NewID: memory.NewID, Random: strings.NewReader(""),
	}
	named := func(i ports.ProviderInfo) *memory.Provider {
		i.Issuer = "https://id.example.com"
		return memory.NewProvider(i)
	}
	for want, change := range map[string]func(*app.Config){
		"PublicURL": func(c *app.Config) { c.Mailer = memory.NewMailer() },
		"PublicURL ": func(c *app.Config) {
			c.Providers, c.PublicURL = []ports.IdentityProvider{named(ports.ProviderInfo{Name: "a", Redirect: true})}, "https://x/"
		},
		"no name": func(c *app.Config) {
			c.Providers = []ports.IdentityProvider{named(ports.ProviderInfo{Name: "local", Token: true})}
		},
		"only one": func(c *app.Config) {
			c.Providers = []ports.IdentityProvider{named(ports.ProviderInfo{Name: "a", Password: true}), named(ports.ProviderInfo{Name: "b", Password: true})}
		},
		"nobody in": func(c *app.Config) { c.NoLocalAccounts = true },
	} {
		cfg := base
		change(&cfg)
		_, err := app.New(cfg)
		require.ErrorContains(t, err, strings.TrimSpace(want))
	}
}

func TestWithoutAMailer(t *testing.T) {
	r := newRig(t, memory.New())
	c := r.user()
	for _, err := range []error{
		r.Identity.ForgotPassword(t.Context(), "user1@example.com", ""), r.Identity.SendVerification(t.Context(), c),
		r.Identity.ChangeEmail(t.Context(), c, "x@example.com", "long enough"),
	} {
		r.refused(err, fault.CodeUnavailable)
	}
	n, err := r.store.Read().Jobs.Count(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
}

// Nobody's tasks go to the agents of a user who is shut out, and nothing brings those back before the user is.
func TestAgentsOfADisabledUserAreOffline(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) { // jobs are run by hand
		boss, owner, asker := r.user(), r.user(), r.user()
		probed, beating := r.agent(owner, credits.Whole(1), echo), r.agent(owner, 0, echo)
		others := r.agent(asker, 0, echo)
		_, err := r.Agents.Heartbeat(t.Context(), owner, beating.ID, "", nil)
		require.NoError(t, err)
		do := func(job string) { require.NoError(t, r.Worker.Handle(t.Context(), job)) }
		is := func(a registry.Agent, want registry.Status) {
			t.Helper()
			now, err := r.Agents.Get(t.Context(), asker, a.ID)
			require.NoError(t, err)
			require.Equal(t, want, now.StatusAt(r.clock.now()))
		}

		_, err = r.Identity.DisableUser(t.Context(), boss, owner.UserID)
		require.NoError(t, err)
		do("user.agents:" + owner.UserID)
		is(probed, registry.Offline)
		is(beating, registry.Offline)
		is(others, registry.Online)
		r.clock.skip(registry.ProbeEvery)
		do("agent.probe:" + probed.ID)
		is(probed, registry.Offline)
		_, err = r.Tasks.Create(t.Context(), asker, app.CreateTask{AgentID: probed.ID, Title: "x"})
		r.refused(err, fault.CodeAgentOffline)
		waits, err := r.Tasks.Create(t.Context(), asker, app.CreateTask{AgentID: probed.ID, Title: "x", QueueIfOffline: true})
		require.NoError(t, err)

		_, err = r.Identity.EnableUser(t.Context(), boss, owner.UserID)
		require.NoError(t, err)
		do("user.agents:" + owner.UserID)
		do("agent.probe:" + probed.ID)
		is(probed, registry.Online)
		is(beating, registry.Offline)
		_, err = r.Agents.Heartbeat(t.Context(), owner, beating.ID, "", nil)
		require.NoError(t, err)
		is(beating, registry.Online)
		r.work()
		require.Equal(t, task.Completed, r.ended(asker, waits.ID).Status)
	})
}
