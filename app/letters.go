package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/ports"
)

// Where the links in mails lead, before the token.
const (
	verifyPath = "/auth/verify-email?token="
	resetPath  = "/auth/reset-password?token="
)

// Times of sending a letter.
const (
	mailBudget = 30 * time.Second
	mailRetry  = 15 * time.Second // before the second attempt; doubles
	mailMax    = 10 * time.Minute
)

func noMail() error {
	return fault.New(fault.Unavailable, fault.CodeUnavailable, "this server sends no mail; ask its operator")
}

// post has a letter sent once the unit is committed, if there is a mailer. Its token, if it has one, is made when it is
// sent, so that it is nowhere but in the mail.
func (c *core) post(ctx context.Context, u *unit, kind identity.LetterKind, userID, email string) error {
	if c.Mailer == nil {
		return nil
	}
	l := identity.Letter{ID: u.id(), Kind: kind, UserID: userID, Email: email, CreatedAt: u.now}
	if err := u.Letters.Insert(ctx, l); err != nil {
		return fmt.Errorf("insert letter: %w", err)
	}
	return u.enqueue(ctx, jobLetter, l.ID, u.now, ports.PriorityInteractive)
}

// sendLetter sends a letter, if there is still a reason to. A crash in between may send it twice, with a token each. Two
// commits, one for a letter without a token.
func (w *Worker) sendLetter(ctx context.Context, job ports.Job) error {
	l, err := w.Store.Read().Letters.Get(ctx, job.Subject)
	switch {
	case fault.Has(err, fault.CodeNotFound):
		return w.letterDone(ctx, job)
	case err != nil:
		return fmt.Errorf("read letter: %w", err)
	case w.Mailer == nil || w.now().Sub(l.CreatedAt) > identity.LetterLife:
		w.Logger.WarnContext(ctx, "a mail is given up", "letter", l.ID, "kind", l.Kind)
		return w.letterDone(ctx, job)
	}
	link := ""
	if purpose, ok := l.Purpose(); ok {
		userID, err := w.addressee(ctx, l)
		if err != nil {
			return err
		}
		if userID == "" {
			return w.letterDone(ctx, job)
		}
		token, err := w.drawToken()
		if err != nil {
			return err
		}
		err = w.update(ctx, func(ctx context.Context, u *unit) error {
			return u.Tokens.Insert(ctx, identity.Token{
				Hash: identity.HashToken(token), UserID: userID, Purpose: purpose, Email: l.Email, CreatedAt: u.now, ExpiresAt: u.now.Add(purpose.Life()),
			})
		})
		if err != nil {
			return fmt.Errorf("keep token: %w", err)
		}
		link = w.PublicURL + verifyPath + token
		if purpose == identity.ResetPassword {
			link = w.PublicURL + resetPath + token
		}
	}
	subject, text := write(l, w.PublicURL, link)
	sendCtx, cancel := context.WithTimeout(ctx, mailBudget)
	defer cancel()
	err = w.Mailer.Send(sendCtx, ports.Mail{ID: l.ID, To: l.Email, Subject: subject, Text: text})
	var final *ports.MailError
	switch {
	case err == nil:
	case ctx.Err() != nil: // shutting down
		return err
	case errors.As(err, &final):
		w.Logger.WarnContext(ctx, "a mail cannot be sent", "letter", l.ID, "kind", l.Kind, "error", err)
	default:
		w.Logger.WarnContext(ctx, "a mail could not be sent, it will be tried again", "letter", l.ID, "kind", l.Kind, "error", err)
		wait := min(mailRetry<<min(job.Attempt-1, 10), mailMax)
		return w.update(ctx, func(ctx context.Context, u *unit) error { return u.retry(ctx, job, u.now.Add(wait)) })
	}
	return w.letterDone(ctx, job)
}

func (w *Worker) letterDone(ctx context.Context, job ports.Job) error {
	return w.update(ctx, func(ctx context.Context, u *unit) error {
		if err := u.Letters.Delete(ctx, job.Subject); err != nil {
			return fmt.Errorf("delete letter: %w", err)
		}
		return u.Jobs.Finish(ctx, job)
	})
}

// addressee is the user whom a letter with a token is for; "" if there is none any more, or it would be of no use.
func (w *Worker) addressee(ctx context.Context, l identity.Letter) (string, error) {
	var user identity.User
	var err error
	if l.UserID == "" {
		user, err = w.Store.Read().Users.ByEmail(ctx, l.Email)
	} else {
		user, err = w.Store.Read().Users.Get(ctx, l.UserID)
	}
	switch {
	case fault.Has(err, fault.CodeNotFound):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("find user: %w", err)
	}
	useful := map[identity.LetterKind]bool{
		identity.LetterVerify:      user.Email == l.Email && user.VerifiedAt == nil,
		identity.LetterChangeEmail: user.PendingEmail == l.Email,
		identity.LetterReset:       user.Email == l.Email,
	}[l.Kind]
	if !user.Active() || !useful {
		return "", nil
	}
	return user.ID, nil
}

// write writes a letter. link is where its token leads, "" if it has none; site is the address of the server.
func write(l identity.Letter, site, link string) (subject, text string) {
	p, _ := l.Purpose()
	hours := "one hour"
	if p.Life() > time.Hour {
		hours = "24 hours"
	}
	switch l.Kind {
	case identity.LetterVerify:
		subject = "Confirm your e-mail address"
		text = "Somebody, probably you, has an account at %[1]s with this e-mail address. To confirm that it is yours, open\n\n%[2]s\n\n" +
			"The link is good for %[3]s, and once. If you know nothing of it, do nothing.\n"
	case identity.LetterChangeEmail:
		subject = "Confirm your new e-mail address"
		text = "Somebody, probably you, wants this to be the e-mail address of an account at %[1]s. To confirm that it is yours, open\n\n%[2]s\n\n" +
			"The link is good for %[3]s, and once. If you know nothing of it, do nothing.\n"
	case identity.LetterReset:
		subject = "Set a new password"
		text = "Somebody, probably you, wants to set a new password for your account at %[1]s. To do so, open\n\n%[2]s\n\n" +
			"The link is good for %[3]s, and once. If it was not you, do nothing: your password stays as it is.\n"
	case identity.LetterPasswordChanged:
		subject = "Your password was changed"
		text = "The password of your account at %[1]s was changed, and all other sessions were ended. If it was not you, set a new one at once:\n\n" +
			"%[1]s/auth/forgot-password\n"
	case identity.LetterEmailChanged:
		subject = "Your e-mail address was changed"
		text = "Your account at %[1]s has another e-mail address from now on, and this one no longer. If it was not you, tell the operator of the server.\n"
	case identity.LetterIdentityLinked:
		subject = "A new way to sign in"
		text = "Your account at %[1]s can be entered by an identity provider from now on. If it was not you, remove it in your settings, and change your password.\n"
	case identity.LetterAccountDeleted:
		subject = "Your account was deleted"
		text = "Your account at %[1]s was deleted, with its agents and workflows. If it was not you, tell the operator of the server.\n"
	}
	if link == "" {
		return subject, fmt.Sprintf(text, site)
	}
	return subject, fmt.Sprintf(text, site, link, hours)
}
