package portstest

import (
	"context"
	"errors"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/ports"
)

func identityOf(u identity.User, subject string) identity.Identity {
	return identity.Identity{ID: newID(), UserID: u.ID, Issuer: "https://id.example.com", Subject: subject, Email: u.Email, CreatedAt: base}
}

func tokenOf(u identity.User, p identity.Purpose) identity.Token {
	return identity.Token{Hash: string(p) + " of " + u.ID, UserID: u.ID, Purpose: p, Email: u.Email, CreatedAt: base, ExpiresAt: base.Add(time.Hour)}
}

func letterTo(u identity.User) identity.Letter {
	return identity.Letter{ID: "letter to " + u.ID, Kind: identity.LetterReset, UserID: u.ID, Email: u.Email, CreatedAt: base}
}

func renamed(u identity.User) identity.User {
	u.Email = "other@example.com"
	return u
}

var signinChecks = []Check{
	{"users/save", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		changed := w.asker
		changed.Email, changed.Name, changed.PasswordHash, changed.Role, changed.PendingEmail = "new@example.com", "Ünïcode Lovelace", "", identity.RoleAdmin, "newer@example.com"
		changed.VerifiedAt, changed.DisabledAt, changed.DeletedAt = ptr(base), ptr(base.Add(time.Second)), ptr(base.Add(time.Minute))
		later := changed
		later.CreatedAt = base.Add(time.Hour) // which stays as it was
		save := func(u identity.User) error {
			return s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
				_, err := tx.Users.Lock(ctx, w.asker.ID)
				return first(err, tx.Users.Save(ctx, u))
			})
		}
		if err := save(later); err != nil {
			return err
		}
		byEmail, err1 := s.Read().Users.ByEmail(ctx, "new@example.com")
		_, old := s.Read().Users.ByEmail(ctx, w.asker.Email)
		taken := changed
		taken.Email = w.owner.Email
		nobody := changed
		nobody.ID, nobody.Email = newID(), "nobody@example.com"
		if err := first(err1, same("saved", byEmail, changed), wantCode("by the old e-mail", old, fault.CodeNotFound),
			wantCode("another's e-mail", save(taken), fault.CodeEmailTaken), wantCode("nobody", save(nobody), fault.CodeNotFound)); err != nil {
			return err
		}
		got, err := s.Read().Users.Get(ctx, w.asker.ID)
		return first(err, same("after what was refused", got, changed), s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
			_, err := tx.Users.Lock(ctx, "nobody")
			return wantCode("lock nobody", err, fault.CodeNotFound)
		}))
	})},
	{"users/list", func(ctx context.Context, s ports.Store, _ Traits) error {
		var all []identity.User
		err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
			all = nil
			for i, email := range []string{"ann@example.com", "bob_1@example.com", "bobx1@example.com", "gone@example.com", "off@example.com"} {
				u := user(email)
				u.CreatedAt = base.Add(time.Duration(i/2) * time.Second) // some at the same moment
				switch email {
				case "ann@example.com":
					u.Role = identity.RoleAdmin
				case "gone@example.com":
					u.DeletedAt = ptr(base)
				case "off@example.com":
					u.DisabledAt = ptr(base)
				}
				if err := tx.Users.Insert(ctx, u); err != nil {
					return err
				}
				all = append(all, u)
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, c := range []struct {
			what  string
			f     ports.UserFilter
			page  ports.Page
			want  []identity.User
			total int
		}{
			{"all", ports.UserFilter{}, ports.Page{Limit: 10}, []identity.User{all[4], all[2], all[1], all[0]}, 4},
			{"a page", ports.UserFilter{}, ports.Page{Limit: 1, Offset: 2}, []identity.User{all[1]}, 4},
			{"a part of the e-mail", ports.UserFilter{Email: "bob_1"}, ports.Page{Limit: 10}, []identity.User{all[1]}, 1},
			{"a sign of patterns", ports.UserFilter{Email: "%"}, ports.Page{Limit: 10}, nil, 0},
			{"admins", ports.UserFilter{Role: identity.RoleAdmin}, ports.Page{Limit: 10}, []identity.User{all[0]}, 1},
			{"disabled", ports.UserFilter{Disabled: ptr(true)}, ports.Page{Limit: 10}, []identity.User{all[4]}, 1},
			{"not disabled", ports.UserFilter{Disabled: ptr(false)}, ports.Page{Limit: 1}, []identity.User{all[2]}, 3},
		} {
			got, total, err := s.Read().Users.List(ctx, c.f, c.page)
			if len(got) == 0 {
				got = nil
			}
			if err := first(err, same(c.what, got, c.want), same(c.what+", in all", total, c.total)); err != nil {
				return err
			}
		}
		return nil
	}},
	{"users/a lock holds", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		for _, err := range together(8, func(int) error {
			return s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
				u, err := tx.Users.Lock(ctx, w.asker.ID)
				u.PendingEmail += "x"
				return first(err, tx.Users.Save(ctx, u))
			})
		}) {
			if err != nil {
				return err
			}
		}
		u, err := s.Read().Users.Get(ctx, w.asker.ID)
		return first(err, same("changes that were kept", u.PendingEmail, "xxxxxxxx"))
	})},
	{"sessions/of a user", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		var mine []identity.Session
		for i, hash := range []string{"c", "a", "b", "over"} {
			one := identity.Session{
				TokenHash: hash, UserID: w.asker.ID, CreatedAt: base, LastSeenAt: base.Add(time.Duration(i/2) * time.Second), ExpiresAt: base.Add(time.Hour),
				Address: "192.0.2.1", Device: "Browser/1 (é)",
			}
			if hash == "over" {
				one.ExpiresAt = base
			}
			mine = append(mine, one)
		}
		err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
			return first(tx.Sessions.Insert(ctx, mine[0]), tx.Sessions.Insert(ctx, mine[1]), tx.Sessions.Insert(ctx, mine[2]), tx.Sessions.Insert(ctx, mine[3]),
				tx.Sessions.Insert(ctx, sessionOf(w.owner)))
		})
		all, err1 := s.Read().Sessions.ListByUser(ctx, w.asker.ID, base, 10)
		some, err2 := s.Read().Sessions.ListByUser(ctx, w.asker.ID, base, 1)
		got, _, err3 := s.Read().Sessions.Get(ctx, "c")
		if err := first(err, err1, err2, err3, same("sessions", all, []identity.Session{mine[2], mine[1], mine[0]}), same("the first", some, all[:1]),
			same("session", got, mine[0])); err != nil {
			return err
		}
		err = s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Sessions.DeleteByUser(ctx, w.asker.ID, "a") })
		all, err1 = s.Read().Sessions.ListByUser(ctx, w.asker.ID, base, 10)
		_, _, err2 = s.Read().Sessions.Get(ctx, sessionOf(w.owner).TokenHash)
		if err := first(err, err1, same("what is left", all, mine[1:2]), err2); err != nil {
			return err
		}
		err = s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Sessions.DeleteByUser(ctx, w.asker.ID, "") })
		all, err1 = s.Read().Sessions.ListByUser(ctx, w.asker.ID, base, 10)
		return first(err, err1, same("sessions left", len(all), 0))
	})},
	{"keys/of a user", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		other := agentOf(w.asker.ID)
		err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
			return first(tx.Agents.Insert(ctx, other), tx.Keys.Insert(ctx, keyFor(w.agent, "h1")), tx.Keys.Insert(ctx, keyFor(other, "h2")),
				tx.Keys.RevokeByUser(ctx, w.owner.ID, base))
		})
		one, _, err1 := s.Read().Keys.ByHash(ctx, "h1")
		two, _, err2 := s.Read().Keys.ByHash(ctx, "h2")
		return first(err, err1, err2, same("the user's", one.RevokedAt, ptr(base)), same("another's", two.Live(base), true))
	})},
	{"identities/life", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		one, two, others := identityOf(w.asker, "s1"), identityOf(w.asker, "s2"), identityOf(w.owner, "s3")
		same1 := identityOf(w.owner, "s1")
		elsewhere := identityOf(w.owner, "s1")
		elsewhere.Issuer = "https://other.example.com"
		insert := func(i identity.Identity) error {
			return s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Identities.Insert(ctx, i) })
		}
		if err := first(insert(one), insert(two), insert(others), wantErr("an identity twice", insert(same1), ports.ErrDuplicate), insert(elsewhere)); err != nil {
			return err
		}
		got, u, err := s.Read().Identities.Find(ctx, one.Issuer, "s1")
		_, _, unknown := s.Read().Identities.Find(ctx, one.Issuer, "S1")
		all, err2 := s.Read().Identities.ListByUser(ctx, w.asker.ID)
		if err := first(err, err2, same("identity", got, one), same("its user", u, w.asker), wantCode("another case", unknown, fault.CodeNotFound),
			same("list, oldest first", all, []identity.Identity{one, two})); err != nil {
			return err
		}
		remove := func(userID, id string) error {
			return s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Identities.Delete(ctx, userID, id) })
		}
		if err := first(wantCode("another's", remove(w.owner.ID, one.ID), fault.CodeNotFound), remove(w.asker.ID, one.ID),
			wantCode("twice", remove(w.asker.ID, one.ID), fault.CodeNotFound), insert(same1)); err != nil {
			return err
		}
		err = s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Identities.DeleteByUser(ctx, w.owner.ID) })
		_, _, gone := s.Read().Identities.Find(ctx, one.Issuer, "s1")
		all, err2 = s.Read().Identities.ListByUser(ctx, w.asker.ID)
		return first(err, err2, wantCode("deleted", gone, fault.CodeNotFound), same("what is left", all, []identity.Identity{two}))
	})},
	{"tokens/life", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		reset, verify, others := tokenOf(w.asker, identity.ResetPassword), tokenOf(w.asker, identity.VerifyEmail), tokenOf(w.owner, identity.ResetPassword)
		over := tokenOf(w.owner, identity.ChangeEmail)
		over.ExpiresAt = base
		change := func(f fn) error { return s.Update(ctx, f) }
		err := change(func(ctx context.Context, tx ports.Tx) error {
			return first(tx.Tokens.Insert(ctx, reset), tx.Tokens.Insert(ctx, verify), tx.Tokens.Insert(ctx, others), tx.Tokens.Insert(ctx, over))
		})
		got, err1 := s.Read().Tokens.Get(ctx, reset.Hash)
		_, none := s.Read().Tokens.Get(ctx, "none")
		if err := first(err, err1, same("token", got, reset), wantCode("none", none, fault.CodeNotFound)); err != nil {
			return err
		}
		// A unit that fails gives back what it took.
		err = change(func(ctx context.Context, tx ports.Tx) error {
			got, err := tx.Tokens.Take(ctx, reset.Hash)
			return first(err, same("taken", got, reset), errGiveUp)
		})
		if err := wantErr("give up", err, errGiveUp); err != nil {
			return err
		}
		took := 0
		for _, err := range together(8, func(int) error {
			return change(func(ctx context.Context, tx ports.Tx) error {
				_, err := tx.Tokens.Take(ctx, reset.Hash)
				return err
			})
		}) {
			if err == nil {
				took++
			} else if !fault.Has(err, fault.CodeNotFound) {
				return err
			}
		}
		if err := same("how many of eight got the token", took, 1); err != nil {
			return err
		}
		err = change(func(ctx context.Context, tx ports.Tx) error {
			return first(tx.Tokens.DeleteByUser(ctx, w.asker.ID, identity.ResetPassword, identity.ChangeEmail), tx.Tokens.DeleteExpired(ctx, base))
		})
		_, err1 = s.Read().Tokens.Get(ctx, verify.Hash)
		_, err2 := s.Read().Tokens.Get(ctx, others.Hash)
		_, gone := s.Read().Tokens.Get(ctx, over.Hash)
		if err := first(err, err1, err2, wantCode("expired", gone, fault.CodeNotFound)); err != nil {
			return err
		}
		err = change(func(ctx context.Context, tx ports.Tx) error { return tx.Tokens.DeleteByUser(ctx, w.asker.ID) })
		_, gone = s.Read().Tokens.Get(ctx, verify.Hash)
		return first(err, wantCode("deleted", gone, fault.CodeNotFound))
	})},
	{"letters/life", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		l := letterTo(w.asker)
		stranger := identity.Letter{ID: newID(), Kind: identity.LetterReset, Email: "nobody@example.com", CreatedAt: base}
		err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
			return first(tx.Letters.Insert(ctx, l), tx.Letters.Insert(ctx, stranger))
		})
		got, err1 := s.Read().Letters.Get(ctx, l.ID)
		nobodys, err2 := s.Read().Letters.Get(ctx, stranger.ID)
		if err := first(err, err1, err2, same("letter", got, l), same("to nobody", nobodys, stranger)); err != nil {
			return err
		}
		err = s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
			return first(tx.Letters.Delete(ctx, l.ID), tx.Letters.Delete(ctx, l.ID))
		})
		_, gone := s.Read().Letters.Get(ctx, l.ID)
		return first(err, wantCode("deleted", gone, fault.CodeNotFound))
	})},
}

// ProviderCase is what an identity provider under test knows. Ways that it does not have are left out.
type ProviderCase struct {
	Issuer  string
	Subject string // of the person
	Email   string // that the provider has made sure is theirs

	// Of Password.
	LoginEmail, LoginPassword string
	// Visit, of Begin and Finish, does what the person's browser does at the address, and returns the query that it comes
	// back with.
	Visit func(ctx context.Context, url string) (state, code string, err error)
	// Of Token: one that is good, and ones that are not, by what is wrong with them.
	Token string
	Bad   map[string]string
}

// IdentityProvider checks a provider.
func IdentityProvider(ctx context.Context, p ports.IdentityProvider, c ProviderCase) error {
	info := p.Info()
	if info.Name == "" || len(info.Name) > 32 || info.Title == "" || !info.Password && !info.Redirect && !info.Token {
		return failf("info: %+v", info)
	}
	for _, r := range info.Name {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' {
			return failf("name %q", info.Name)
		}
	}
	who := identity.Outside{Issuer: c.Issuer, Subject: c.Subject, Email: c.Email, Verified: true}
	return first(same("issuer", info.Issuer, c.Issuer), same("info, again", p.Info(), info),
		providerPassword(ctx, p, c, who), providerRedirect(ctx, p, c, who), providerToken(ctx, p, c, who))
}

func providerPassword(ctx context.Context, p ports.IdentityProvider, c ProviderCase, who identity.Outside) error {
	_, err := p.Password(ctx, c.LoginEmail, "wrong password")
	if !p.Info().Password {
		return wantCode("a way that is not there", err, fault.CodeForbidden)
	}
	if err := wantCode("a wrong password", err, fault.CodeUnauthorized); err != nil {
		return err
	}
	for range 2 {
		got, err := p.Password(ctx, c.LoginEmail, c.LoginPassword)
		if err := first(err, same("who it is", got, who)); err != nil {
			return err
		}
	}
	_, nobody := p.Password(ctx, "nobody@example.com", c.LoginPassword)
	_, empty := p.Password(ctx, c.LoginEmail, "")
	return first(wantCode("nobody", nobody, fault.CodeUnauthorized), wantCode("no password", empty, fault.CodeUnauthorized))
}

func providerRedirect(ctx context.Context, p ports.IdentityProvider, c ProviderCase, who identity.Outside) error {
	flow := ports.SignInFlow{
		RedirectURL: "https://nexus.example.com/auth/callback/x", State: "state-0123456789-0123456789-0123456789",
		Nonce: "nonce-0123456789-0123456789-0123456789", Verifier: "verifier-0123456789-0123456789-0123456789-01",
	}
	if !p.Info().Redirect {
		_, err1 := p.Begin(ctx, flow)
		_, err2 := p.Finish(ctx, flow, "code")
		return first(wantCode("begin, which is not there", err1, fault.CodeForbidden), wantCode("finish, which is not there", err2, fault.CodeForbidden))
	}
	ask := func(f ports.SignInFlow) (string, error) {
		to, err := p.Begin(ctx, f)
		if err != nil {
			return "", err
		}
		state, code, err := c.Visit(ctx, to)
		return code, first(err, same("state", state, f.State))
	}
	code, err := ask(flow)
	if err != nil {
		return err
	}
	got, err := p.Finish(ctx, flow, code)
	_, again := p.Finish(ctx, flow, code)
	if err := first(err, same("who it is", got, who), wantCode("a code twice", again, fault.CodeUnauthorized)); err != nil {
		return err
	}
	for what, spoil := range map[string]func(*ports.SignInFlow){
		"another verifier": func(f *ports.SignInFlow) { f.Verifier = "other-0123456789-0123456789-0123456789-0123" },
		"another nonce":    func(f *ports.SignInFlow) { f.Nonce = "other-0123456789-0123456789-0123456789" },
	} {
		code, err := ask(flow)
		if err != nil {
			return err
		}
		other := flow
		spoil(&other)
		_, err = p.Finish(ctx, other, code)
		if err := wantCode(what, err, fault.CodeUnauthorized); err != nil {
			return err
		}
	}
	_, forged := p.Finish(ctx, flow, "forged")
	_, empty := p.Finish(ctx, flow, "")
	return first(wantCode("a forged code", forged, fault.CodeUnauthorized), wantCode("no code", empty, fault.CodeUnauthorized))
}

func providerToken(ctx context.Context, p ports.IdentityProvider, c ProviderCase, who identity.Outside) error {
	if !p.Info().Token {
		_, err := p.Token(ctx, "token")
		return wantCode("a way that is not there", err, fault.CodeForbidden)
	}
	got, err := p.Token(ctx, c.Token)
	if err := first(err, same("who it is", got, who)); err != nil {
		return err
	}
	for what, token := range c.Bad {
		_, err := p.Token(ctx, token)
		if err := wantCode(what, err, fault.CodeUnauthorized); err != nil {
			return err
		}
	}
	for _, token := range []string{"", "x", "a.b.c", c.Token + "x", c.Token[:len(c.Token)-1], c.Token + "." + c.Token} {
		_, err := p.Token(ctx, token)
		if err := wantCode("a token that is none", err, fault.CodeUnauthorized); err != nil {
			return err
		}
	}
	return nil
}

// Mailer checks a mailer. received returns what has arrived up to now, decoded.
func Mailer(ctx context.Context, m ports.Mailer, received func() []ports.Mail) error {
	good := []ports.Mail{
		{ID: "one", To: "ann@example.com", Subject: "Hello", Text: "Line\n.\n..two\n\nhttps://nexus.example.com/auth/reset-password?token=a_-b=\n"},
		{ID: "two", To: "bob+x@example.com", Subject: "Grüße – 日本", Text: "Grüße\nFrom here\n"},
	}
	for _, mail := range good {
		if err := m.Send(ctx, mail); err != nil {
			return err
		}
	}
	if err := same("received", received(), good); err != nil {
		return err
	}
	for what, bad := range map[string]ports.Mail{
		"a header in the subject": {ID: "3", To: "ann@example.com", Subject: "x\r\nBcc: eve@example.com", Text: "x\n"},
		"a bare line feed":        {ID: "4", To: "ann@example.com", Subject: "x\nBcc: eve@example.com", Text: "x\n"},
		"a bare return":           {ID: "5", To: "ann@example.com", Subject: "x\rBcc: eve@example.com", Text: "x\n"},
		"a header in the address": {ID: "6", To: "ann@example.com\r\nBcc: eve@example.com", Subject: "x", Text: "x\n"},
		"two addresses":           {ID: "7", To: "ann@example.com, eve@example.com", Subject: "x", Text: "x\n"},
		"a command":               {ID: "8", To: "ann@example.com>\r\nRCPT TO:<eve@example.com", Subject: "x", Text: "x\n"},
		"no address":              {ID: "9", To: "", Subject: "x", Text: "x\n"},
		"a header in the id":      {ID: "x\r\nBcc: eve@example.com", To: "ann@example.com", Subject: "x", Text: "x\n"},
	} {
		err := m.Send(ctx, bad)
		var final *ports.MailError
		if !errors.As(err, &final) {
			return failf("%s: want a *MailError, got %v", what, err)
		}
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if m.Send(ended, good[0]) == nil {
		return failf("sent though the context had ended")
	}
	return same("received, in all", len(received()), len(good))
}
