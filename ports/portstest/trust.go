package portstest

import (
	"context"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/trust"
	"github.com/nexus-protocol/nexus/ports"
)

// learn adds evidence the way a use case does.
func learn(ctx context.Context, s ports.Store, w world, e trust.Evidence) (p trust.Profile, ev trust.Event, err error) {
	e.EventID = newID()
	err = s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
		before, ok, err := tx.Trust.Lock(ctx, w.agent.ID)
		if err != nil {
			return err
		}
		if !ok {
			before = trust.Newcomer(w.agent.ID, w.agent.CreatedAt, trust.DefaultWeights())
		}
		p, ev = trust.Apply(before, e, trust.DefaultWeights())
		return tx.Trust.Save(ctx, p, ev)
	})
	return p, ev, err
}

var trustChecks = []Check{
	{"trust/profile and events come back as they were", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		_, known, err := s.Read().Trust.Profile(ctx, w.agent.ID)
		if err := first(err, same("known at first", known, false)); err != nil {
			return err
		}
		_, e1, err1 := learn(ctx, s, w, trust.Evidence{Type: trust.TaskCompleted, TaskID: "t1", At: base.Add(time.Minute), Took: 7 * time.Second, Limit: time.Minute, Reason: "ok"})
		_, e2, err2 := learn(ctx, s, w, trust.Evidence{Type: trust.RatingReceived, TaskID: "t1", At: base.Add(time.Hour), Stars: 4, Reason: "ünïcode"})
		p, e3, err3 := learn(ctx, s, w, trust.Evidence{Type: trust.TaskFailed, TaskID: "t2", At: base.Add(240 * time.Hour)})
		got, known, err4 := s.Read().Trust.Profile(ctx, w.agent.ID)
		all, total, err5 := s.Read().Trust.Events(ctx, w.agent.ID, ports.Page{Limit: 10})
		page, _, err6 := s.Read().Trust.Events(ctx, w.agent.ID, ports.Page{Limit: 1, Offset: 1})
		a, err7 := s.Read().Agents.Get(ctx, w.agent.ID)
		return first(err1, err2, err3, err4, err5, err6, err7, same("known", known, true), same("profile", got, p), same("total", total, 3),
			same("events, newest first", all, []trust.Event{e3, e2, e1}), same("page", page, []trust.Event{e2}), same("the agent's score", a.TrustScore, p.Score))
	})},
	{"trust/a task counts once and is rated once", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		done := trust.Evidence{Type: trust.TaskCompleted, TaskID: "t", At: base}
		rated := trust.Evidence{Type: trust.RatingReceived, TaskID: "t", At: base, Stars: 5}
		_, _, err1 := learn(ctx, s, w, done)
		_, _, err2 := learn(ctx, s, w, done)
		p, _, err3 := learn(ctx, s, w, rated)
		_, _, err4 := learn(ctx, s, w, rated)
		got, _, err5 := s.Read().Trust.Profile(ctx, w.agent.ID)
		_, total, err6 := s.Read().Trust.Events(ctx, w.agent.ID, ports.Page{Limit: 10})
		return first(err1, wantErr("completed twice", err2, ports.ErrDuplicate), err3, wantCode("rated twice", err4, fault.CodeAlreadyRated), err5, err6,
			same("profile", got, p), same("events", total, 2))
	})},
}
