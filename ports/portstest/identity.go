package portstest

import (
	"context"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/ports"
)

func sessionOf(u identity.User) identity.Session {
	return identity.Session{TokenHash: "token of " + u.ID, UserID: u.ID, CreatedAt: base, LastSeenAt: base, ExpiresAt: base.Add(time.Hour)}
}

func keyFor(a registry.Agent, hash string) identity.APIKey {
	return identity.APIKey{
		ID: newID(), AgentID: a.ID, UserID: a.OwnerUserID, Name: "Key", Prefix: "nxk_abc123", Hash: hash,
		Scopes: identity.Scopes{identity.ScopeTasksRead, identity.ScopeTasksWrite}, CreatedAt: base, ExpiresAt: ptr(base.Add(time.Hour)),
	}
}

var identityChecks = []Check{
	{"users/found by id and e-mail", func(ctx context.Context, s ports.Store, _ Traits) error {
		u := user("ann@example.com")
		u.Role = identity.RoleAdmin
		if err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Users.Insert(ctx, u) }); err != nil {
			return err
		}
		byID, err1 := s.Read().Users.Get(ctx, u.ID)
		byEmail, err2 := s.Read().Users.ByEmail(ctx, u.Email)
		_, err3 := s.Read().Users.Get(ctx, "nobody")
		_, err4 := s.Read().Users.ByEmail(ctx, "bob@example.com")
		return first(err1, err2, same("by id", byID, u), same("by e-mail", byEmail, u),
			wantCode("unknown id", err3, fault.CodeNotFound), wantCode("unknown e-mail", err4, fault.CodeNotFound))
	}},
	{"users/an e-mail is taken once", func(ctx context.Context, s ports.Store, _ Traits) error {
		insert := func(u identity.User) error {
			return s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Users.Insert(ctx, u) })
		}
		return first(insert(user("ann@example.com")), wantCode("second", insert(user("ann@example.com")), fault.CodeEmailTaken), insert(user("bob@example.com")))
	}},
	{"users/count", with(func(ctx context.Context, s ports.Store, _ Traits, _ world) error {
		return s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
			n, err := tx.Users.Count(ctx)
			return first(err, same("users", n, 2))
		})
	})},
	{"sessions/life", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		one, two := sessionOf(w.asker), sessionOf(w.owner)
		err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
			return first(tx.Sessions.Insert(ctx, one), tx.Sessions.Insert(ctx, two))
		})
		if err != nil {
			return err
		}
		got, u, err := s.Read().Sessions.Get(ctx, one.TokenHash)
		if err := first(err, same("session", got, one), same("its user", u, w.asker)); err != nil {
			return err
		}
		one.LastSeenAt, one.ExpiresAt = base.Add(time.Minute), base.Add(2*time.Hour)
		gone := one
		gone.TokenHash = "unknown"
		err = s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
			n, err := tx.Sessions.DeleteExpired(ctx, base)
			return first(err, same("expired at first", n, 0), tx.Sessions.Touch(ctx, one), tx.Sessions.Touch(ctx, gone))
		})
		if err != nil {
			return err
		}
		got, _, err = s.Read().Sessions.Get(ctx, one.TokenHash)
		_, _, unknown := s.Read().Sessions.Get(ctx, gone.TokenHash)
		if err := first(err, same("touched", got, one), wantCode("touched into being", unknown, fault.CodeNotFound)); err != nil {
			return err
		}
		err = s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
			n, err := tx.Sessions.DeleteExpired(ctx, base.Add(time.Hour))
			return first(err, same("expired", n, 1), tx.Sessions.Delete(ctx, one.TokenHash), tx.Sessions.Delete(ctx, one.TokenHash))
		})
		_, _, err1 := s.Read().Sessions.Get(ctx, one.TokenHash)
		_, _, err2 := s.Read().Sessions.Get(ctx, two.TokenHash)
		return first(err, wantCode("deleted", err1, fault.CodeNotFound), wantCode("expired", err2, fault.CodeNotFound))
	})},
	{"keys/life", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		k, later := keyFor(w.agent, "h1"), keyFor(w.agent, "h2")
		later.ExpiresAt, later.CreatedAt = nil, base.Add(time.Second)
		err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
			return first(tx.Keys.Insert(ctx, k), tx.Keys.Insert(ctx, later), tx.Keys.Touch(ctx, k.ID, base.Add(time.Minute)))
		})
		if err != nil {
			return err
		}
		k.LastUsedAt = ptr(base.Add(time.Minute))
		got, owner, err := s.Read().Keys.ByHash(ctx, "h1")
		all, err2 := s.Read().Keys.ListByAgent(ctx, w.agent.ID)
		_, _, unknown := s.Read().Keys.ByHash(ctx, "h")
		if err := first(err, err2, same("key", got, k), same("its user", owner, w.owner), same("list, newest first", all, []identity.APIKey{later, k}),
			wantCode("a part of a hash", unknown, fault.CodeAPIKeyNotFound)); err != nil {
			return err
		}
		revoke := func(agentID, keyID string) error {
			return s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Keys.Revoke(ctx, agentID, keyID, base) })
		}
		if err := first(wantCode("another agent's key", revoke("other", k.ID), fault.CodeAPIKeyNotFound), revoke(w.agent.ID, k.ID),
			wantCode("revoked twice", revoke(w.agent.ID, k.ID), fault.CodeAPIKeyNotFound)); err != nil {
			return err
		}
		got, _, err = s.Read().Keys.ByHash(ctx, "h1")
		all, err2 = s.Read().Keys.ListByAgent(ctx, w.agent.ID)
		if err := first(err, err2, same("live", got.Live(base), false), same("list without the revoked", len(all), 1)); err != nil {
			return err
		}
		err = s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Keys.RevokeAll(ctx, w.agent.ID, base) })
		got, _, err2 = s.Read().Keys.ByHash(ctx, "h2")
		return first(err, err2, same("live", got.Live(base), false))
	})},
}
