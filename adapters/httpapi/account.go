package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/nexus-protocol/nexus/adapters/internal/websession"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
)

// noticeJSON says to a person what has happened, where there is nothing else to say.
type noticeJSON struct {
	Message string `json:"message" doc:"For people: what has happened, and what comes next."`
}

type accountJSON struct {
	ID            string         `json:"id" format:"uuid"`
	Name          *string        `json:"name" doc:"What the user wants to be called."`
	Email         string         `json:"email" format:"email"`
	EmailVerified bool           `json:"emailVerified"`
	PendingEmail  *string        `json:"pendingEmail" doc:"The e-mail that takes the place of the other once it is verified."`
	Role          identity.Role  `json:"role" enum:"user,admin"`
	HasPassword   bool           `json:"hasPassword" doc:"false for who comes in by an identity provider alone."`
	Identities    []identityJSON `json:"identities" nullable:"false" doc:"The identities at providers that let the user in."`
	CreatedAt     time.Time      `json:"createdAt"`
}

type identityJSON struct {
	ID        string    `json:"id" format:"uuid"`
	Issuer    string    `json:"issuer"`
	Email     *string   `json:"email"`
	CreatedAt time.Time `json:"createdAt"`
}

func accountOf(v app.AccountView) accountJSON {
	return accountJSON{
		ID: v.ID, Name: textOrNull(v.Name), Email: v.Email, EmailVerified: v.VerifiedAt != nil, PendingEmail: textOrNull(v.PendingEmail), Role: v.Role,
		HasPassword: v.PasswordHash != "", CreatedAt: v.CreatedAt.UTC(),
		Identities: convert(v.Identities, func(i identity.Identity) identityJSON {
			return identityJSON{i.ID, i.Issuer, textOrNull(i.Email), i.CreatedAt.UTC()}
		}),
	}
}

type sessionItemJSON struct {
	ID         string    `json:"id" format:"uuid"`
	Current    bool      `json:"current" doc:"It is the one that asks."`
	Address    *string   `json:"address" doc:"Where it was begun from; of an IPv6 address the network."`
	Device     *string   `json:"device" doc:"What the browser called itself."`
	CreatedAt  time.Time `json:"createdAt"`
	LastSeenAt time.Time `json:"lastSeenAt"`
	ExpiresAt  time.Time `json:"expiresAt"`
}

func sessionItem(v app.SessionView) sessionItemJSON {
	return sessionItemJSON{
		ID: v.ID(), Current: v.Current, Address: textOrNull(v.Address), Device: textOrNull(v.Device),
		CreatedAt: v.CreatedAt.UTC(), LastSeenAt: v.LastSeenAt.UTC(), ExpiresAt: v.ExpiresAt.UTC(),
	}
}

type waysJSON struct {
	Password  bool           `json:"password" doc:"POST /auth/login works."`
	SignUp    bool           `json:"signUp" doc:"POST /auth/signup works."`
	Mail      bool           `json:"mail" doc:"The server sends mail, such as for a forgotten password."`
	Providers []providerJSON `json:"providers" nullable:"false"`
}

type providerJSON struct {
	Name  string  `json:"name"`
	Title string  `json:"title" doc:"For people."`
	URL   *string `json:"url" doc:"Where a browser begins to sign in, if this provider has pages for it."`
	Token bool    `json:"token" doc:"Its tokens are taken at POST /auth/token."`
}

type (
	emailInput struct{ Body emailBody }
	emailBody  struct {
		Email string `json:"email" doc:"The account's e-mail."`
	}
	resetInput struct{ Body resetBody }
	resetBody  struct {
		Token    string `json:"token" doc:"Of the mail."`
		Password string `json:"password" doc:"The new one, 10 to 128 characters."`
	}
	tokenInput struct{ Body tokenBody }
	tokenBody  struct {
		Token string `json:"token" doc:"Of the mail."`
	}
	providerTokenInput struct{ Body providerTokenBody }
	providerTokenBody  struct {
		Provider string `json:"provider" doc:"The provider's name, of GET /auth/ways."`
		Token    string `json:"token" doc:"The access token that the provider gave."`
	}
	changePasswordInput struct{ Body changePasswordBody }
	changePasswordBody  struct {
		CurrentPassword string `json:"currentPassword,omitempty" doc:"Not needed by who has none yet and logged in within the last 15 minutes."`
		NewPassword     string `json:"newPassword" doc:"10 to 128 characters."`
	}
	changeAccountInput struct{ Body changeAccountBody }
	changeAccountBody  struct {
		Name string `json:"name" doc:"What to be called, one line of at most 80 characters; empty: nothing in particular."`
	}
	changeEmailInput struct{ Body changeEmailBody }
	changeEmailBody  struct {
		Email    string `json:"email" doc:"The new one."`
		Password string `json:"password,omitempty" doc:"Not needed by who has none and logged in within the last 15 minutes."`
	}
	confirmInput struct{ Body confirmBody }
	confirmBody  struct {
		Password string `json:"password,omitempty" doc:"Not needed by who has none and logged in within the last 15 minutes."`
	}
	sessionInput struct {
		SessionID string `path:"sessionId" format:"uuid"`
	}
	identityInput struct {
		IdentityID string `path:"identityId" format:"uuid"`
	}
	userInput struct {
		UserID string `path:"userId" format:"uuid"`
	}
)

type adminUserJSON struct {
	ID            string        `json:"id" format:"uuid"`
	Name          *string       `json:"name" doc:"What the user wants to be called."`
	Email         string        `json:"email" format:"email"`
	EmailVerified bool          `json:"emailVerified"`
	Role          identity.Role `json:"role" enum:"user,admin"`
	DisabledAt    *time.Time    `json:"disabledAt" doc:"null: the user is let in."`
	CreatedAt     time.Time     `json:"createdAt"`
}

func adminUser(u identity.User) adminUserJSON {
	return adminUserJSON{u.ID, textOrNull(u.Name), u.Email, u.VerifiedAt != nil, u.Role, utc(u.DisabledAt), u.CreatedAt.UTC()}
}

type listUsersInput struct {
	Email    string `query:"email" maxLength:"254" doc:"Only those whose e-mail has this in it."`
	Role     string `query:"role" enum:"user,admin" doc:"Only those of this role."`
	Disabled string `query:"disabled" enum:"true,false" doc:"Only those who are disabled, or are not."`
	Limit    int    `query:"limit" default:"20" minimum:"1" maximum:"100" doc:"How many to answer with."`
	Offset   int    `query:"offset" default:"0" minimum:"0" maximum:"1000000" doc:"How many to pass over."`
}

// What people are told.
const (
	saidForgot   = "If there is an account with this e-mail, a mail with a link to set a new password is on its way. The link is good for one hour."
	saidReset    = "The new password is set, and all sessions have ended. Log in with it."
	saidVerified = "The e-mail is verified."
)

// mountAccounts adds what people do about their accounts, and admins about others'.
func (s *server) mountAccounts() {
	ids := s.engine.Identity
	say := func(message string, err error) (one[noticeJSON], error) { return answer(noticeJSON{message}, err) }

	register(s, route{
		method: "GET", path: "/auth/ways", access: public,
		id: "list-ways", tag: tagAuth, summary: "List the ways to sign in", status: http.StatusOK,
	}, func(context.Context, *struct{}) (one[waysJSON], error) {
		w := ids.Ways()
		out := waysJSON{Password: w.Password, SignUp: w.SignUp, Mail: w.Mail, Providers: []providerJSON{}}
		for _, p := range w.Providers {
			j := providerJSON{Name: p.Name, Title: p.Title, Token: p.Token}
			if p.Redirect {
				j.URL = textOrNull(withPath + p.Name)
			}
			out.Providers = append(out.Providers, j)
		}
		return answer(out, nil)
	})
	register(s, route{
		method: "POST", path: "/auth/token", access: public, browser: true,
		id: "log-in-by-token", tag: tagAuth, summary: "Log in by a provider's token", status: http.StatusOK,
		text:   "Begins a session for whom an identity provider, such as Supabase, gave an access token. Who was not here before gets an account, if the provider has made sure of the e-mail and no account has it.",
		errors: []fault.Code{fault.CodeForbidden, fault.CodeUnauthorized, fault.CodeEmailTaken, fault.CodeNotFound, fault.CodeRateLimitExceeded, fault.CodeProtocol, fault.CodeUnavailable},
	}, func(ctx context.Context, in *providerTokenInput) (one[sessionJSON], error) {
		x := exchangeOf(ctx)
		u, token, err := ids.SignInByToken(ctx, in.Body.Provider, in.Body.Token, s.browser(x.request))
		if err == nil {
			s.setSession(x, x.request, token)
		}
		return answer(sessionJSON{userJSON{u.ID, u.Email, u.Role}}, err)
	})

	register(s, route{
		method: "POST", path: "/auth/forgot-password", access: public, browser: true, form: s.forgotByForm,
		id: "forgot-password", tag: tagAuth, summary: "Ask for a new password", status: http.StatusAccepted,
		text:   "Sends a mail with a link to set a new password, if there is an account with the e-mail. The answer is the same if there is none.",
		errors: []fault.Code{fault.CodeForbidden, fault.CodeRateLimitExceeded, fault.CodeUnavailable},
	}, func(ctx context.Context, in *emailInput) (one[noticeJSON], error) {
		return say(saidForgot, ids.ForgotPassword(ctx, in.Body.Email, s.limited(exchangeOf(ctx).request)))
	})
	register(s, route{
		method: "POST", path: "/auth/reset-password", access: public, browser: true, form: s.resetByForm,
		id: "reset-password", tag: tagAuth, summary: "Set a new password by mail", status: http.StatusOK,
		text:   "Sets a new password by the token of a mail, which is good once and for one hour. All sessions end, and all tokens of other mails.",
		errors: []fault.Code{fault.CodeForbidden, fault.CodeRateLimitExceeded},
	}, func(ctx context.Context, in *resetInput) (one[noticeJSON], error) {
		return say(saidReset, ids.ResetPassword(ctx, in.Body.Token, in.Body.Password, s.limited(exchangeOf(ctx).request)))
	})
	register(s, route{
		method: "POST", path: "/auth/verify-email", access: public, browser: true, form: s.verifyByForm,
		id: "verify-email", tag: tagAuth, summary: "Verify an e-mail", status: http.StatusOK,
		text:   "Shows by the token of a mail, which is good once and for a day, that an e-mail is the account's.",
		errors: []fault.Code{fault.CodeForbidden, fault.CodeEmailTaken, fault.CodeRateLimitExceeded},
	}, func(ctx context.Context, in *tokenInput) (one[noticeJSON], error) {
		_, err := ids.VerifyEmail(ctx, in.Body.Token, s.limited(exchangeOf(ctx).request))
		return say(saidVerified, err)
	})

	register(s, route{
		method: "GET", path: "/auth/account", access: session,
		id: "get-account", tag: tagAuth, summary: "Get one's own account", status: http.StatusOK,
	}, func(ctx context.Context, _ *struct{}) (one[accountJSON], error) {
		v, err := ids.Account(ctx, callerOf(ctx))
		return answer(accountOf(v), err)
	})
	register(s, route{
		method: "PATCH", path: "/auth/account", access: session,
		id: "change-account", tag: tagAuth, summary: "Change what one is called", status: http.StatusOK,
	}, func(ctx context.Context, in *changeAccountInput) (one[accountJSON], error) {
		v, err := ids.ChangeName(ctx, callerOf(ctx), in.Body.Name)
		return answer(accountOf(v), err)
	})
	register(s, route{
		method: "POST", path: "/auth/account/password", access: session,
		id: "change-password", tag: tagAuth, summary: "Change the password", status: http.StatusOK,
		text:   "All other sessions of the user end.",
		errors: []fault.Code{fault.CodeRateLimitExceeded},
	}, func(ctx context.Context, in *changePasswordInput) (one[noticeJSON], error) {
		return say("The password is changed, and all other sessions have ended.", ids.ChangePassword(ctx, callerOf(ctx), in.Body.CurrentPassword, in.Body.NewPassword))
	})
	register(s, route{
		method: "POST", path: "/auth/account/email", access: session,
		id: "change-email", tag: tagAuth, summary: "Change the e-mail", status: http.StatusAccepted,
		text:   "Sends a mail to the new address. It takes the place of the old one once it is verified.",
		errors: []fault.Code{fault.CodeRateLimitExceeded, fault.CodeUnavailable},
	}, func(ctx context.Context, in *changeEmailInput) (one[noticeJSON], error) {
		return say("A mail with a link to confirm the new address is on its way to it.", ids.ChangeEmail(ctx, callerOf(ctx), in.Body.Email, in.Body.Password))
	})
	register(s, route{
		method: "POST", path: "/auth/account/verification", access: session,
		id: "send-verification", tag: tagAuth, summary: "Ask for a mail to verify the e-mail", status: http.StatusAccepted,
		errors: []fault.Code{fault.CodeRateLimitExceeded, fault.CodeUnavailable},
	}, func(ctx context.Context, _ *struct{}) (one[noticeJSON], error) {
		return say("If the e-mail is not verified yet, a mail with a link to do so is on its way.", ids.SendVerification(ctx, callerOf(ctx)))
	})
	register(s, route{
		method: "POST", path: "/auth/account/delete", access: session,
		id: "delete-account", tag: tagAuth, summary: "Delete one's own account", status: http.StatusOK,
		text:   "For good. Sessions, keys, agents and workflows go, and what is open of them is cancelled and refunded; past tasks, trust events and entries of the ledger stay, without a name. The credits that are left are nobody's any more.",
		errors: []fault.Code{fault.CodeRateLimitExceeded},
	}, func(ctx context.Context, in *confirmInput) (one[noticeJSON], error) {
		err := ids.DeleteAccount(ctx, callerOf(ctx), in.Body.Password)
		if x := exchangeOf(ctx); err == nil {
			s.setSession(x, x.request, "")
		}
		return say("The account is deleted.", err)
	})
	register(s, route{
		method: "DELETE", path: "/auth/identities/{identityId}", access: session,
		id: "unlink-identity", tag: tagAuth, summary: "Unlink an identity", status: http.StatusOK,
		text: "The identity at a provider does not let the user in any more. The last way in to an account stays.",
	}, func(ctx context.Context, in *identityInput) (one[revokedJSON], error) {
		return answer(revokedJSON{in.IdentityID, true}, ids.Unlink(ctx, callerOf(ctx), in.IdentityID))
	})

	register(s, route{
		method: "GET", path: "/auth/sessions", access: session,
		id: "list-sessions", tag: tagAuth, summary: "List one's own sessions", status: http.StatusOK, text: "The last used first, a hundred at most.",
	}, func(ctx context.Context, _ *struct{}) (many[sessionItemJSON], error) {
		all, err := ids.Sessions(ctx, callerOf(ctx))
		return many[sessionItemJSON]{convert(all, sessionItem), metaJSON{Total: len(all), Limit: len(all)}}, err
	})
	register(s, route{
		method: "DELETE", path: "/auth/sessions", access: session,
		id: "revoke-other-sessions", tag: tagAuth, summary: "Revoke all other sessions", status: http.StatusOK, text: "All but the one that asks.",
	}, func(ctx context.Context, _ *struct{}) (one[noticeJSON], error) {
		return say("All other sessions have ended.", ids.RevokeOtherSessions(ctx, callerOf(ctx)))
	})
	register(s, route{
		method: "DELETE", path: "/auth/sessions/{sessionId}", access: session,
		id: "revoke-session", tag: tagAuth, summary: "Revoke a session", status: http.StatusOK, text: "It may be the one that asks.",
	}, func(ctx context.Context, in *sessionInput) (one[revokedJSON], error) {
		return answer(revokedJSON{in.SessionID, true}, ids.RevokeSession(ctx, callerOf(ctx), in.SessionID))
	})

	register(s, route{
		method: "GET", path: "/api/v1/admin/users", access: session,
		id: "list-users", tag: tagAdmin, summary: "List the users", status: http.StatusOK, text: "Newest first.",
	}, func(ctx context.Context, in *listUsersInput) (many[adminUserJSON], error) {
		find := app.FindUsers{Page: page(in.Limit, in.Offset), Email: in.Email, Role: identity.Role(in.Role)}
		if in.Disabled != "" {
			off := in.Disabled == "true"
			find.Disabled = &off
		}
		l, err := ids.Users(ctx, callerOf(ctx), find)
		return answerList(l, err, adminUser)
	})
	register(s, route{
		method: "POST", path: "/api/v1/admin/users/{userId}/disable", access: session,
		id: "disable-user", tag: tagAdmin, summary: "Disable a user", status: http.StatusOK,
		text: "Sessions end, and neither keys nor passwords nor providers let the user in any more. Their agents are offline from then on; tasks that were begun go on. Nobody can disable themselves.",
	}, func(ctx context.Context, in *userInput) (one[adminUserJSON], error) {
		u, err := ids.DisableUser(ctx, callerOf(ctx), in.UserID)
		return answer(adminUser(u), err)
	})
	register(s, route{
		method: "POST", path: "/api/v1/admin/users/{userId}/enable", access: session,
		id: "enable-user", tag: tagAdmin, summary: "Enable a user", status: http.StatusOK, text: "Takes back that the user was disabled. Agents are online again once they answer or send a heartbeat.",
	}, func(ctx context.Context, in *userInput) (one[adminUserJSON], error) {
		u, err := ids.EnableUser(ctx, callerOf(ctx), in.UserID)
		return answer(adminUser(u), err)
	})

	s.mountAccountPages()
	s.mountProviders()
}

// limited is the address that limits count the request by, "" if they are off.
func (s *server) limited(r *http.Request) string {
	if !s.opt.RateLimit {
		return ""
	}
	return s.clientAddress(r)
}

// browser is where a person comes from.
func (s *server) browser(r *http.Request) app.Browser {
	return app.Browser{Address: s.limited(r), Device: r.UserAgent(), Session: websession.Token(r)}
}
