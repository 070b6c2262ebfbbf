package portstest

import (
	"context"
	"errors"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/domain/trust"
	"github.com/nexus-protocol/nexus/ports"
)

var errGiveUp = errors.New("give up")

var unitChecks = []Check{
	{"unit/rollback leaves nothing", with(rollback)},
	{"unit/uncommitted changes are not seen", with(dirtyRead)},
	{"unit/a unit sees its own changes", with(ownWrites)},
	{"unit/update inside update is refused", func(ctx context.Context, s ports.Store, _ Traits) error {
		return s.Update(ctx, func(ctx context.Context, _ ports.Tx) error {
			return wantErr("nested update", s.Update(ctx, func(context.Context, ports.Tx) error { return nil }), ports.ErrNestedUpdate)
		})
	}},
	{"unit/an ended context saves nothing", func(ctx context.Context, s ports.Store, _ Traits) error {
		u := user("a@example.com")
		ended, cancel := context.WithCancel(ctx)
		cancel()
		err := s.Update(ended, func(ctx context.Context, tx ports.Tx) error { return tx.Users.Insert(ctx, u) })
		if err := wantErr("ended before", err, context.Canceled); err != nil {
			return err
		}
		during, cancel := context.WithCancel(ctx)
		err = s.Update(during, func(ctx context.Context, tx ports.Tx) error {
			err := tx.Users.Insert(ctx, u)
			cancel()
			return err
		})
		_, gone := s.Read().Users.Get(ctx, u.ID)
		return first(wantErr("ended during", err, context.Canceled), wantCode("the user", gone, fault.CodeNotFound))
	}},
	{"unit/a panic rolls back and goes on", func(ctx context.Context, s ports.Store, _ Traits) error {
		u := user("a@example.com")
		var got any
		func() {
			defer func() { got = recover() }()
			_ = s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
				_ = tx.Users.Insert(ctx, u)
				panic("oops")
			})
		}()
		_, err := s.Read().Users.Get(ctx, u.ID)
		return first(same("panic", got, "oops"), wantCode("the user", err, fault.CodeNotFound), s.Ping(ctx))
	}},
	{"unit/a failed unit does not harm the next", func(ctx context.Context, s ports.Store, _ Traits) error {
		u := user("a@example.com")
		err := s.Update(ctx, func(context.Context, ports.Tx) error { return errGiveUp })
		return first(wantErr("first", err, errGiveUp), s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Users.Insert(ctx, u) }))
	}},
}

func rollback(ctx context.Context, s ports.Store, _ Traits, w world) error {
	u, a := user("new@example.com"), agentOf(w.owner.ID)
	t, events := taskFor(w.asker, w.agent)
	j := ports.Job{ID: newID(), Kind: "k", RunAt: base}
	hold, err := ledger.Hold{TaskID: t.ID, UserID: w.asker.ID, Amount: t.Price}.Place(base)
	if err != nil {
		return err
	}
	key := keyFor(w.agent, "hash")
	p, ev := trust.Apply(trust.Newcomer(w.agent.ID, base, trust.DefaultWeights()),
		trust.Evidence{Type: trust.TaskFailed, EventID: newID(), TaskID: t.ID, At: base}, trust.DefaultWeights())
	changed := w.agent
	changed.Name = "Changed"
	err = s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
		return first(
			tx.Users.Insert(ctx, u), tx.Agents.Insert(ctx, a), tx.Agents.Save(ctx, changed), tx.Tasks.Insert(ctx, t, events),
			tx.Keys.Insert(ctx, key), tx.Ledger.Post(ctx, hold.Stamp(newID)), tx.Trust.Save(ctx, p, ev, trust.Dealings{}), tx.Jobs.Enqueue(ctx, j),
			tx.Sessions.Insert(ctx, sessionOf(u)), tx.Identities.Insert(ctx, identityOf(u, "s")), tx.Tokens.Insert(ctx, tokenOf(u, identity.ResetPassword)),
			tx.Letters.Insert(ctx, letterTo(u)), tx.Users.Save(ctx, renamed(w.asker)), errGiveUp,
		)
	})
	if err := wantErr("update", err, errGiveUp); err != nil {
		return err
	}
	r := s.Read()
	_, noUser := r.Users.Get(ctx, u.ID)
	_, noAgent := r.Agents.Get(ctx, a.ID)
	_, noTask := r.Tasks.Get(ctx, t.ID)
	_, _, noKey := r.Keys.ByHash(ctx, key.Hash)
	_, _, noSession := r.Sessions.Get(ctx, sessionOf(u).TokenHash)
	_, _, noIdentity := r.Identities.Find(ctx, "https://id.example.com", "s")
	_, noToken := r.Tokens.Get(ctx, tokenOf(u, identity.ResetPassword).Hash)
	_, noLetter := r.Letters.Get(ctx, letterTo(u).ID)
	asker, err8 := r.Users.Get(ctx, w.asker.ID)
	old, err1 := r.Agents.Get(ctx, w.agent.ID)
	logged, err2 := r.Tasks.Events(ctx, t.ID, 0, 10)
	b, err3 := r.Ledger.Balance(ctx, w.asker.ID)
	_, entries, err4 := r.Ledger.Transactions(ctx, w.asker.ID, "", ports.Page{Limit: 10})
	_, known, err5 := r.Trust.Profile(ctx, w.agent.ID)
	_, told, err6 := r.Trust.Events(ctx, w.agent.ID, ports.Page{Limit: 10})
	waiting, err7 := r.Jobs.Count(ctx)
	return first(
		err1, err2, err3, err4, err5, err6, err7, err8, same("asker", asker, w.asker),
		wantCode("identity", noIdentity, fault.CodeNotFound), wantCode("token", noToken, fault.CodeNotFound), wantCode("letter", noLetter, fault.CodeNotFound),
		wantCode("user", noUser, fault.CodeNotFound), wantCode("agent", noAgent, fault.CodeAgentNotFound), wantCode("task", noTask, fault.CodeTaskNotFound),
		wantCode("key", noKey, fault.CodeAPIKeyNotFound), wantCode("session", noSession, fault.CodeNotFound),
		same("agent's name", old.Name, "Agent"), same("agent's score", old.TrustScore, 47.5), same("events", len(logged), 0),
		same("available", b.Available, ledger.InitialGrant), same("held", b.Held, b.Held*0), same("entries", entries, 1),
		same("trust profile", known, false), same("trust events", told, 0), same("jobs", waiting, 0),
	)
}

func dirtyRead(ctx context.Context, s ports.Store, _ Traits, w world) error {
	inside, goOn := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	t, events := taskFor(w.asker, w.agent)
	go func() {
		done <- s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
			if err := tx.Tasks.Insert(ctx, t, events); err != nil {
				return err
			}
			select {
			case <-inside:
			default:
				close(inside)
			}
			<-goOn
			return errGiveUp
		})
	}()
	<-inside
	seen := make(chan error, 1)
	go func() { // a store may let the reader wait
		_, err := s.Read().Tasks.Get(ctx, t.ID)
		seen <- err
	}()
	var err error
	select {
	case err = <-seen:
		close(goOn)
	case <-ctx.Done():
		close(goOn)
		err = ctx.Err()
	case <-soon():
		close(goOn)
		err = <-seen
	}
	return first(wantCode("a task that is not committed", err, fault.CodeTaskNotFound), wantErr("update", <-done, errGiveUp))
}

func ownWrites(ctx context.Context, s ports.Store, _ Traits, w world) error {
	t, events := taskFor(w.asker, w.agent)
	return s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
		if err := tx.Tasks.Insert(ctx, t, events); err != nil {
			return err
		}
		got, err := tx.Tasks.Lock(ctx, t.ID)
		_, history, err2 := tx.Tasks.History(ctx, t.ID)
		b, err3 := tx.Ledger.Balance(ctx, w.asker.ID)
		return first(err, err2, err3, same("id", got.ID, t.ID), same("history", len(history), 1), same("available", b.Available, ledger.InitialGrant))
	})
}
