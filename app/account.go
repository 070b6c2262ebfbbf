package app

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// maxSessions is how many of a user's sessions are listed, the last used first.
const maxSessions = 100

// freshSession is how old a session may be that stands for the password of a user who has none.
const freshSession = 15 * time.Minute

// AccountView is a user's account with the identity providers that let them in.
type AccountView struct {
	identity.User
	Identities []identity.Identity
}

// own asks if the caller may do that to their own account.
func own(c identity.Caller, a identity.Action) error {
	return identity.Authorize(c, a, identity.Resource{OwnerUserID: c.UserID})
}

// Account returns the caller's own account. A session may call it.
func (s *Identity) Account(ctx context.Context, c identity.Caller) (AccountView, error) {
	if err := own(c, identity.AccountRead); err != nil {
		return AccountView{}, err
	}
	r := s.Store.Read()
	user, err := r.Users.Get(ctx, c.UserID)
	if err != nil {
		return AccountView{}, fmt.Errorf("find user: %w", err)
	}
	all, err := r.Identities.ListByUser(ctx, c.UserID)
	return AccountView{user, all}, err
}

// SessionView is a session, and whether it is the caller's own.
type SessionView struct {
	identity.Session
	Current bool
}

// Sessions lists the caller's sessions that hold, the last used first, at most a hundred. A session may call it.
func (s *Identity) Sessions(ctx context.Context, c identity.Caller) ([]SessionView, error) {
	if err := own(c, identity.AccountRead); err != nil {
		return nil, err
	}
	all, err := s.Store.Read().Sessions.ListByUser(ctx, c.UserID, s.now(), maxSessions)
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	out := make([]SessionView, len(all))
	for i, one := range all {
		out[i] = SessionView{one, one.TokenHash == c.Session}
	}
	return out, nil
}

// RevokeSession ends one of the caller's sessions, which may be the one that asks. One that they do not have is
// NOT_FOUND. A session may call it. One commit.
func (s *Identity) RevokeSession(ctx context.Context, c identity.Caller, id string) error {
	if err := own(c, identity.AccountChange); err != nil {
		return err
	}
	return s.update(ctx, func(ctx context.Context, u *unit) error {
		all, err := u.Sessions.ListByUser(ctx, c.UserID, u.now, maxSessions)
		if err != nil {
			return fmt.Errorf("list sessions: %w", err)
		}
		for _, one := range all {
			if one.ID() == id {
				return u.Sessions.Delete(ctx, one.TokenHash)
			}
		}
		return fault.NotFoundf(fault.CodeNotFound, "Session", id)
	})
}

// RevokeOtherSessions ends all of the caller's sessions but the one that asks. A session may call it. One commit.
func (s *Identity) RevokeOtherSessions(ctx context.Context, c identity.Caller) error {
	if err := own(c, identity.AccountChange); err != nil {
		return err
	}
	return s.update(ctx, func(ctx context.Context, u *unit) error { return u.Sessions.DeleteByUser(ctx, c.UserID, c.Session) })
}

// confirm makes sure that it is the user who asks for what a stolen session must not do: by the password, or for one who has
// none, by having come in just now.
func (s *Identity) confirm(ctx context.Context, c identity.Caller, field, password string) (identity.User, error) {
	if err := own(c, identity.AccountChange); err != nil {
		return identity.User{}, err
	}
	if err := s.limit(ctx, limitPassword, c.UserID); err != nil {
		return identity.User{}, err
	}
	user, err := s.Store.Read().Users.Get(ctx, c.UserID)
	if err != nil {
		return user, fmt.Errorf("find user: %w", err)
	}
	if user.PasswordHash == "" || !s.local() {
		session, _, err := s.Store.Read().Sessions.Get(ctx, c.Session)
		if err != nil && !fault.Has(err, fault.CodeNotFound) {
			return user, fmt.Errorf("find session: %w", err)
		}
		if err != nil || s.now().Sub(session.CreatedAt) > freshSession {
			return user, fault.New(fault.Forbidden, fault.CodeForbidden, "log in again first, as this needs a session that began within the last %d minutes", int(freshSession.Minutes()))
		}
		return user, nil
	}
	ok := false
	if len(password) <= 4*identity.MaxPassword {
		if ok, err = s.Hasher.Verify(ctx, password, user.PasswordHash); err != nil {
			return user, fmt.Errorf("verify password: %w", err)
		}
	}
	if !ok {
		var bad fault.Fields
		bad.Add(field, "is not the password of this account")
		return user, bad.Err()
	}
	return user, nil
}

// change alters a user whom confirm has let pass, unless the password was changed meanwhile.
func (s *Identity) change(ctx context.Context, confirmed identity.User, fn func(ctx context.Context, u *unit, user identity.User) error) error {
	return s.update(ctx, func(ctx context.Context, u *unit) error {
		user, err := u.activeUser(ctx, confirmed.ID)
		switch {
		case err != nil:
			return err
		case user.PasswordHash != confirmed.PasswordHash:
			return fault.New(fault.Forbidden, fault.CodeForbidden, "the password was changed meanwhile; try again")
		}
		return fn(ctx, u, user)
	})
}

// ChangeName sets what the caller wants to be called; "" takes it away. A session may call it. One commit.
func (s *Identity) ChangeName(ctx context.Context, c identity.Caller, name string) (AccountView, error) {
	if err := own(c, identity.AccountChange); err != nil {
		return AccountView{}, err
	}
	name, err := identity.CheckName("name", name)
	if err != nil {
		return AccountView{}, err
	}
	err = s.update(ctx, func(ctx context.Context, u *unit) error {
		user, err := u.activeUser(ctx, c.UserID)
		if err != nil {
			return err
		}
		user.Name = name
		return u.Users.Save(ctx, user)
	})
	if err != nil {
		return AccountView{}, err
	}
	return s.Account(ctx, c)
}

// ChangePassword sets a new password, for which the old one is needed, and ends the user's other sessions and all mails with
// which it could be set anew. A session may call it. One commit.
func (s *Identity) ChangePassword(ctx context.Context, c identity.Caller, old, password string) error {
	if !s.local() {
		return noLocalAccounts()
	}
	if err := identity.CheckPassword("newPassword", password); err != nil {
		return err
	}
	user, err := s.confirm(ctx, c, "currentPassword", old)
	if err != nil {
		return err
	}
	hash, err := s.Hasher.Hash(ctx, password)
	if err != nil {
		return fmt.Errorf("hash password: %w", err)
	}
	return s.change(ctx, user, func(ctx context.Context, u *unit, user identity.User) error {
		user.PasswordHash = hash
		return s.savePassword(ctx, u, user, c.Session)
	})
}

// savePassword saves a user with a new password, and ends what the old one had begun.
func (s *Identity) savePassword(ctx context.Context, u *unit, user identity.User, spare string) error {
	if err := u.Users.Save(ctx, user); err != nil {
		return fmt.Errorf("save user: %w", err)
	}
	if err := u.Sessions.DeleteByUser(ctx, user.ID, spare); err != nil {
		return fmt.Errorf("revoke sessions: %w", err)
	}
	if err := u.Tokens.DeleteByUser(ctx, user.ID, identity.ResetPassword, identity.ChangeEmail); err != nil {
		return fmt.Errorf("delete tokens: %w", err)
	}
	return s.post(ctx, u, identity.LetterPasswordChanged, user.ID, user.Email)
}

// ChangeEmail has a mail sent to a new e-mail, which takes the place of the old one once VerifyEmail is given the mail's
// token. A session may call it, with the password. One commit.
func (s *Identity) ChangeEmail(ctx context.Context, c identity.Caller, email, password string) error {
	if s.Mailer == nil {
		return noMail()
	}
	email, err := identity.CheckEmail(email)
	if err != nil {
		return err
	}
	user, err := s.confirm(ctx, c, "password", password)
	if err != nil {
		return err
	}
	if err := s.limit(ctx, limitMail, c.UserID); err != nil {
		return err
	}
	if err := s.limit(ctx, limitMail, email); err != nil {
		return err
	}
	return s.change(ctx, user, func(ctx context.Context, u *unit, user identity.User) error {
		if user.PendingEmail = email; user.Email == email {
			user.PendingEmail = ""
		}
		if err := u.Users.Save(ctx, user); err != nil {
			return fmt.Errorf("save user: %w", err)
		}
		if err := u.Tokens.DeleteByUser(ctx, user.ID, identity.ChangeEmail); err != nil || user.PendingEmail == "" {
			return err
		}
		return s.post(ctx, u, identity.LetterChangeEmail, user.ID, email)
	})
}

// SendVerification has a mail sent with which the caller's e-mail can be verified, if it is not yet. A session may call it.
// One commit.
func (s *Identity) SendVerification(ctx context.Context, c identity.Caller) error {
	if s.Mailer == nil {
		return noMail()
	}
	if err := own(c, identity.AccountChange); err != nil {
		return err
	}
	if err := s.limit(ctx, limitMail, c.UserID); err != nil {
		return err
	}
	return s.update(ctx, func(ctx context.Context, u *unit) error {
		user, err := u.Users.Get(ctx, c.UserID)
		if err != nil {
			return fmt.Errorf("find user: %w", err)
		}
		if user.VerifiedAt != nil {
			return nil
		}
		return s.post(ctx, u, identity.LetterVerify, user.ID, user.Email)
	})
}

// ForgotPassword has a mail sent with which a new password can be set, if there is an account with the e-mail. Whether there
// is shows neither in what it returns nor in how long it takes: that is found out when the mail is sent. Anyone may call
// it. One commit.
func (s *Identity) ForgotPassword(ctx context.Context, email, address string) error {
	switch {
	case !s.local():
		return noLocalAccounts()
	case s.Mailer == nil:
		return noMail()
	}
	email, err := identity.CheckEmail(email)
	if err != nil {
		return err
	}
	if err := s.limit(ctx, limitMailAddress, address); err != nil {
		return err
	}
	if err := s.limit(ctx, limitMail, email); err != nil {
		return err
	}
	return s.update(ctx, func(ctx context.Context, u *unit) error { return s.post(ctx, u, identity.LetterReset, "", email) })
}

// take uses up a token that was sent by mail, and locks its user.
func (u *unit) take(ctx context.Context, token string, purposes ...identity.Purpose) (identity.Token, identity.User, error) {
	t, err := u.Tokens.Take(ctx, identity.HashToken(token))
	switch {
	case fault.Has(err, fault.CodeNotFound):
		return t, identity.User{}, identity.StaleToken()
	case err != nil:
		return t, identity.User{}, fmt.Errorf("take token: %w", err)
	}
	fits := false
	for _, p := range purposes {
		fits = fits || t.Purpose == p
	}
	if !fits || !t.Live(u.now) {
		return t, identity.User{}, identity.StaleToken()
	}
	user, err := u.Users.Lock(ctx, t.UserID)
	if err != nil {
		return t, user, fmt.Errorf("lock user: %w", err)
	}
	if !user.Active() {
		return t, user, identity.StaleToken()
	}
	return t, user, nil
}

// ResetPassword sets a new password by the token of a mail, and ends all of the user's sessions and all other mails' tokens.
// It also shows that the e-mail is theirs. Where that was not known before, whoever made the account may have been another:
// then its API keys are revoked, and no identity provider lets anyone in to it any more. Anyone with the token may call it.
// One commit.
func (s *Identity) ResetPassword(ctx context.Context, token, password, address string) error {
	if !s.local() {
		return noLocalAccounts()
	}
	if err := s.checkToken(ctx, token, address); err != nil {
		return err
	}
	if err := identity.CheckPassword("password", password); err != nil {
		return err
	}
	// Hashing is dear, so a forged token does not come as far.
	known, err := s.Store.Read().Tokens.Get(ctx, identity.HashToken(token))
	switch {
	case fault.Has(err, fault.CodeNotFound) || err == nil && known.Purpose != identity.ResetPassword:
		return identity.StaleToken()
	case err != nil:
		return fmt.Errorf("find token: %w", err)
	}
	hash, err := s.Hasher.Hash(ctx, password)
	if err != nil {
		return fmt.Errorf("hash password: %w", err)
	}
	return s.update(ctx, func(ctx context.Context, u *unit) error {
		t, user, err := u.take(ctx, token, identity.ResetPassword)
		if err == nil && user.Email != t.Email {
			err = identity.StaleToken()
		}
		if err != nil {
			return err
		}
		proven := user.VerifiedAt != nil
		user.PasswordHash, user.PendingEmail = hash, ""
		if !proven {
			user.VerifiedAt = &u.now
			if err := u.Identities.DeleteByUser(ctx, user.ID); err != nil {
				return fmt.Errorf("unlink identities: %w", err)
			}
			if err := u.Keys.RevokeByUser(ctx, user.ID, u.now); err != nil {
				return fmt.Errorf("revoke keys: %w", err)
			}
		}
		if err := u.Tokens.DeleteByUser(ctx, user.ID); err != nil {
			return fmt.Errorf("delete tokens: %w", err)
		}
		return s.savePassword(ctx, u, user, "")
	})
}

func (s *Identity) checkToken(ctx context.Context, token, address string) error {
	if err := s.limit(ctx, limitToken, address); err != nil {
		return err
	}
	if !identity.IsToken(token) {
		return identity.StaleToken()
	}
	return nil
}

// VerifyEmail shows by the token of a mail that an e-mail is the user's: the account's own, or the one that takes its place
// from now on. Anyone with the token may call it. One commit.
func (s *Identity) VerifyEmail(ctx context.Context, token, address string) (identity.User, error) {
	if err := s.checkToken(ctx, token, address); err != nil {
		return identity.User{}, err
	}
	var out identity.User
	err := s.update(ctx, func(ctx context.Context, u *unit) error {
		t, user, err := u.take(ctx, token, identity.VerifyEmail, identity.ChangeEmail)
		if err != nil {
			return err
		}
		old := user.Email
		moves := t.Purpose == identity.ChangeEmail
		if want := map[bool]string{true: user.PendingEmail, false: user.Email}[moves]; want != t.Email {
			return identity.StaleToken()
		}
		user.VerifiedAt = &u.now
		purposes := []identity.Purpose{identity.VerifyEmail}
		if moves {
			user.Email, user.PendingEmail = t.Email, ""
			purposes = nil // what was sent to the old one is void
		}
		if err := u.Users.Save(ctx, user); err != nil {
			return err
		}
		if err := u.Tokens.DeleteByUser(ctx, user.ID, purposes...); err != nil {
			return fmt.Errorf("delete tokens: %w", err)
		}
		out = user
		if moves {
			return s.post(ctx, u, identity.LetterEmailChanged, user.ID, old)
		}
		return nil
	})
	if err != nil {
		return identity.User{}, err
	}
	return out, nil
}

// Unlink takes an identity away from the caller's account. The last way in stays. A session may call it. One commit.
func (s *Identity) Unlink(ctx context.Context, c identity.Caller, id string) error {
	if err := own(c, identity.AccountChange); err != nil {
		return err
	}
	return s.update(ctx, func(ctx context.Context, u *unit) error {
		user, err := u.Users.Lock(ctx, c.UserID)
		if err != nil {
			return fmt.Errorf("lock user: %w", err)
		}
		if err := u.Identities.Delete(ctx, user.ID, id); err != nil {
			return err
		}
		left, err := u.Identities.ListByUser(ctx, user.ID)
		if err != nil {
			return fmt.Errorf("list identities: %w", err)
		}
		if len(left) == 0 && (user.PasswordHash == "" || !s.local()) {
			return fault.New(fault.Forbidden, fault.CodeForbidden, "this is the only way in to the account; link another one, or set a password, first")
		}
		return nil
	})
}

// DeleteAccount ends the caller's account for good, with the password: sessions, keys, agents and workflows go, and what is
// open of them is cancelled and refunded. Past tasks, trust events and entries of the ledger stay, without a name; the credits
// that are left are nobody's any more. The e-mail is free again. The only admin stays. A session may call it. One commit,
// and a job for what follows.
func (s *Identity) DeleteAccount(ctx context.Context, c identity.Caller, password string) error {
	user, err := s.confirm(ctx, c, "password", password)
	if err != nil {
		return err
	}
	return s.update(ctx, func(ctx context.Context, u *unit) error {
		if user.Role == identity.RoleAdmin {
			if _, err := u.Users.Count(ctx); err != nil { // admins change one at a time
				return fmt.Errorf("count users: %w", err)
			}
			enabled := false
			_, admins, err := u.Users.List(ctx, ports.UserFilter{Role: identity.RoleAdmin, Disabled: &enabled}, ports.Page{Limit: 1})
			if err != nil {
				return fmt.Errorf("count admins: %w", err)
			}
			if admins < 2 {
				return fault.New(fault.Forbidden, fault.CodeForbidden, "you are the only admin; make another one first")
			}
		}
		now, err := u.Users.Lock(ctx, user.ID)
		switch {
		case err != nil:
			return fmt.Errorf("lock user: %w", err)
		case now.PasswordHash != user.PasswordHash || !now.Active():
			return identity.Unauthorized()
		}
		if err := u.Users.Save(ctx, now.Deleted(u.now)); err != nil {
			return fmt.Errorf("save user: %w", err)
		}
		for _, end := range []func() error{
			func() error { return u.Sessions.DeleteByUser(ctx, user.ID, "") },
			func() error { return u.Keys.RevokeByUser(ctx, user.ID, u.now) },
			func() error { return u.Identities.DeleteByUser(ctx, user.ID) },
			func() error { return u.Tokens.DeleteByUser(ctx, user.ID) },
			func() error { return s.post(ctx, u, identity.LetterAccountDeleted, user.ID, now.Email) },
		} {
			if err := end(); err != nil {
				return err
			}
		}
		return u.enqueue(ctx, jobDrainUser, user.ID, u.now, ports.PriorityHousekeeping)
	})
}

// drainSettles is how long after an account's end its requests that were let in before may still be under way.
const drainSettles = 2 * time.Minute

// drainUser takes a deleted user's agents, workflows and open tasks out of the market, and looks again once nothing new can
// come.
func (w *Worker) drainUser(ctx context.Context, job ports.Job) error {
	began := w.now()
	user, err := w.Store.Read().Users.Get(ctx, job.Subject)
	if err != nil {
		return fmt.Errorf("find user: %w", err)
	}
	if user.DeletedAt != nil {
		if err := w.endAllOf(ctx, identity.SessionCaller(user, "")); err != nil {
			return err
		}
	}
	return w.update(ctx, func(ctx context.Context, u *unit) error {
		if user.DeletedAt != nil {
			if settled := user.DeletedAt.Add(drainSettles); began.Before(settled) {
				return u.retry(ctx, job, settled)
			}
		}
		return u.Jobs.Finish(ctx, job)
	})
}

func (w *Worker) endAllOf(ctx context.Context, c identity.Caller) error {
	r, page := w.Store.Read(), ports.Page{Limit: drainBatch}
	for {
		workflows, _, err := r.Workflows.ListByOwner(ctx, c.UserID, page)
		if err != nil {
			return fmt.Errorf("list workflows: %w", err)
		}
		for _, one := range workflows {
			if err := (&Workflows{w.core}).Delete(ctx, c, one.ID); err != nil && !fault.Has(err, fault.CodeWorkflowNotFound) {
				return fmt.Errorf("delete workflow: %w", err)
			}
		}
		agents, _, err := r.Agents.ListByOwner(ctx, c.UserID, page)
		if err != nil {
			return fmt.Errorf("list agents: %w", err)
		}
		for _, one := range agents {
			if _, err := (&Agents{w.core}).Delete(ctx, c, one.ID); err != nil && !fault.Has(err, fault.CodeAgentNotFound) {
				return fmt.Errorf("delete agent: %w", err)
			}
		}
		found := len(workflows) + len(agents)
		for _, status := range task.Statuses() {
			if status.Ended() {
				continue
			}
			tasks, _, err := r.Tasks.List(ctx, ports.TaskFilter{RequesterUserID: c.UserID, Status: status}, page)
			if err != nil {
				return fmt.Errorf("list tasks: %w", err)
			}
			for _, one := range tasks {
				if _, err := (&Tasks{w.core}).Cancel(ctx, c, one.ID); err != nil && !fault.Has(err, fault.CodeTaskNotActive) {
					return fmt.Errorf("cancel task: %w", err)
				}
			}
			found += len(tasks)
		}
		if found == 0 {
			return nil
		}
	}
}

// FindUsers narrows a list of users.
type FindUsers struct {
	Page     Page
	Email    string // a part of it
	Role     identity.Role
	Disabled *bool
}

// Users lists the accounts, newest first. An admin's session may call it.
func (s *Identity) Users(ctx context.Context, c identity.Caller, in FindUsers) (List[identity.User], error) {
	if err := identity.Authorize(c, identity.UserList, identity.Resource{}); err != nil {
		return List[identity.User]{}, err
	}
	page, err := in.Page.resolve(defaultLimit, maxLimit)
	if err != nil {
		return List[identity.User]{}, err
	}
	email := strings.ToLower(strings.TrimSpace(in.Email))
	items, total, err := s.Store.Read().Users.List(ctx, ports.UserFilter{Email: email, Role: in.Role, Disabled: in.Disabled}, page)
	if err != nil {
		return List[identity.User]{}, fmt.Errorf("list users: %w", err)
	}
	return list(items, total, page), nil
}

// DisableUser shuts a user out: sessions end at once, and neither keys nor passwords nor providers let them in any more. Their
// agents are offline from then on, so that nobody's tasks go there. What was begun goes on, what is theirs stays, and
// EnableUser takes it back. Nobody disables themselves. An admin's session may call it. One commit, and a job for the agents.
func (s *Identity) DisableUser(ctx context.Context, c identity.Caller, id string) (identity.User, error) {
	return s.setDisabled(ctx, c, id, true)
}

// EnableUser lets a disabled user in again. Their agents are online again once they are seen or send a heartbeat. An admin's
// session may call it. One commit, and a job for the agents.
func (s *Identity) EnableUser(ctx context.Context, c identity.Caller, id string) (identity.User, error) {
	return s.setDisabled(ctx, c, id, false)
}

func (s *Identity) setDisabled(ctx context.Context, c identity.Caller, id string, off bool) (out identity.User, err error) {
	if err := identity.Authorize(c, identity.UserChange, identity.Resource{}); err != nil {
		return out, err
	}
	if off && id == c.UserID {
		return out, fault.New(fault.Forbidden, fault.CodeForbidden, "nobody can disable their own account")
	}
	err = s.update(ctx, func(ctx context.Context, u *unit) error {
		user, err := u.Users.Lock(ctx, id)
		switch {
		case err != nil:
			return err
		case user.DeletedAt != nil:
			return fault.NotFoundf(fault.CodeNotFound, "User", id)
		}
		out = user
		if off == (user.DisabledAt != nil) {
			return nil
		}
		if out.DisabledAt = nil; off {
			out.DisabledAt = &u.now
			if err := u.Sessions.DeleteByUser(ctx, id, ""); err != nil {
				return fmt.Errorf("revoke sessions: %w", err)
			}
			if err := u.Tokens.DeleteByUser(ctx, id); err != nil {
				return fmt.Errorf("delete tokens: %w", err)
			}
		}
		if err := u.Users.Save(ctx, out); err != nil {
			return err
		}
		return u.enqueue(ctx, jobUserAgents, id, u.now, ports.PriorityInteractive)
	})
	if err != nil {
		return identity.User{}, err
	}
	return out, nil
}

// userAgents takes the agents of a user who is disabled off the market, or has those of one who is enabled looked for. One
// commit for every hundred.
func (w *Worker) userAgents(ctx context.Context, job ports.Job) error {
	before, err := w.Store.Read().Users.Get(ctx, job.Subject)
	if err != nil {
		return fmt.Errorf("find user: %w", err)
	}
	var all []string
	for {
		some, _, err := w.Store.Read().Agents.ListByOwner(ctx, job.Subject, ports.Page{Limit: drainBatch, Offset: len(all)})
		if err != nil {
			return fmt.Errorf("list agents: %w", err)
		}
		for _, a := range some {
			all = append(all, a.ID)
		}
		if len(some) < drainBatch {
			break
		}
	}
	slices.Sort(all) // all lock them in one order
	for some := range slices.Chunk(all, drainBatch) {
		err := w.update(ctx, func(ctx context.Context, u *unit) error {
			for _, id := range some {
				a, err := u.Agents.Lock(ctx, id)
				if err != nil {
					return fmt.Errorf("lock agent: %w", err)
				}
				if before.Active() && a.Probed() {
					err = u.enqueue(ctx, jobProbe, id, u.now, ports.PriorityHousekeeping)
				} else if after, changed := a.Withdrawn(u.now); changed && !before.Active() {
					err = u.saveAgent(ctx, a, after)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return w.update(ctx, func(ctx context.Context, u *unit) error {
		user, err := u.Users.Lock(ctx, job.Subject)
		if err != nil {
			return fmt.Errorf("lock user: %w", err)
		}
		if user.Active() != before.Active() { // by now
			return u.retry(ctx, job, u.now)
		}
		return u.Jobs.Finish(ctx, job)
	})
}
