package portstest

import (
	"context"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/trust"
	"github.com/nexus-protocol/nexus/ports"
)

// learn adds evidence the way a use case does.
func learn(ctx context.Context, s ports.Store, w world, e trust.Evidence) (p trust.Profile, ev trust.Event, err error) {
	e.EventID = newID()
	err = s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
		before, _, ok, err := tx.Trust.Lock(ctx, w.agent.ID, "")
		if err != nil {
			return err
		}
		if !ok {
			before = trust.Newcomer(w.agent.ID, w.agent.CreatedAt, trust.DefaultWeights())
		}
		p, ev = trust.Apply(before, e, trust.DefaultWeights())
		return tx.Trust.Save(ctx, p, ev, trust.Dealings{})
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
		rating, rated, err8 := s.Read().Trust.Rating(ctx, "t1")
		_, none, err9 := s.Read().Trust.Rating(ctx, "t2")
		_, nobody, err10 := s.Read().Trust.Rating(ctx, "")
		return first(err1, err2, err3, err4, err5, err6, err7, err8, err9, err10, same("rating", rating, e2), same("who is rated", []bool{rated, none, nobody}, []bool{true, false, false}), same("known", known, true), same("profile", got, p), same("total", total, 3),
			same("events, newest first", all, []trust.Event{e3, e2, e1}), same("page", page, []trust.Event{e2}), same("the agent's score", a.TrustScore, p.Score))
	})},
	{"trust/an agent is found by how long it takes once that is known", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		now := base.Add(time.Hour)
		found := func(within time.Duration, more func(*registry.Query)) (bool, error) {
			q := registry.Query{MaxLatency: &within}
			if more != nil {
				more(&q)
			}
			q, err := q.Normalize()
			if err != nil {
				return false, err
			}
			some, total, err := s.Read().Agents.Discover(ctx, q, now)
			return len(some) == 1 && some[0].ID == w.agent.ID, first(err, same("total", total, len(some)))
		}
		byWord := func(q *registry.Query) { q.Text = w.agent.Name }
		var before, after []time.Duration
		look := func(to *[]time.Duration) error {
			a, err := s.Read().Agents.Get(ctx, w.agent.ID)
			var locked registry.Agent
			err2 := s.Update(ctx, func(ctx context.Context, tx ports.Tx) (err error) {
				locked, err = tx.Agents.Lock(ctx, w.agent.ID)
				return err
			})
			*to = []time.Duration{a.Latency, locked.Latency}
			return first(err, err2)
		}
		var p trust.Profile
		done := func(id string, at time.Time) (err error) {
			p, _, err = learn(ctx, s, w, trust.Evidence{Type: trust.TaskCompleted, TaskID: id, At: at, Took: 2345 * time.Millisecond, Limit: time.Minute})
			return err
		}
		early, err0 := found(time.Hour, nil)
		err1 := first(done("t1", base.Add(time.Minute)), done("t2", base.Add(2*time.Minute)), look(&before))
		two, err2 := found(time.Hour, nil)
		err3 := first(done("t3", base.Add(3*time.Minute)), look(&after))
		slower, err4 := found(2299*time.Millisecond, nil)
		enough, err5 := found(2300*time.Millisecond, nil)
		word, err6 := found(2300*time.Millisecond, byWord)
		noWord, err7 := found(2299*time.Millisecond, byWord)
		got, _, err8 := s.Read().Trust.Profile(ctx, w.agent.ID)
		return first(err0, err1, err2, err3, err4, err5, err6, err7, err8, same("before", before, []time.Duration{0, 0}), same("after", after, []time.Duration{2300 * time.Millisecond, 2300 * time.Millisecond}),
			same("found with no task, with two, of what is slower, of as much, by a word, and not", []bool{early, two, slower, enough, word, noWord}, []bool{false, false, false, true, true, false}),
			same("profile", got, p))
	})},
	{"trust/paces come back", func(ctx context.Context, s ports.Store, _ Traits) error {
		var before, within trust.Pace
		want := trust.Pace{UpdatedAt: base}
		want.Weights[0], want.Weights[7], want.Weights[95] = 0.1, 1e-300, 12345.678
		add := func(skill string, locked *trust.Pace, p trust.Pace) error {
			return s.Update(ctx, func(ctx context.Context, tx ports.Tx) (err error) {
				if *locked, err = tx.Trust.LockPace(ctx, skill); err != nil {
					return err
				}
				if err = tx.Trust.SavePace(ctx, skill, p); err != nil {
					return err
				}
				within, err = tx.Trust.Pace(ctx, skill)
				return err
			})
		}
		unknown, err1 := s.Read().Trust.Pace(ctx, "sum")
		err2 := add("sum", &before, want)
		err3 := first(same("unknown", unknown, trust.Pace{}), same("locked when unknown", before, trust.Pace{}), same("in the unit", within, want))
		got, err4 := s.Read().Trust.Pace(ctx, "sum")
		err5 := add("sum", &before, trust.Pace{UpdatedAt: base.Add(time.Hour)})
		other, err6 := s.Read().Trust.Pace(ctx, "other")
		return first(err1, err2, err3, err4, err5, err6, same("pace", got, want), same("locked", before, want), same("of another skill", other, trust.Pace{}))
	}},
	{"trust/events after a place", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		var want, got []trust.Event
		for i := range 7 { // some at the same moment
			_, e, err := learn(ctx, s, w, trust.Evidence{Type: trust.TaskCompleted, TaskID: newID(), At: base.Add(time.Duration(i/3) * time.Second)})
			if err != nil {
				return err
			}
			want = append([]trust.Event{e}, want...)
		}
		from := trust.Place{At: base.Add(time.Hour).UnixMicro()}
		for len(got) <= len(want) {
			some, total, err := s.Read().Trust.EventsAfter(ctx, w.agent.ID, from, 2)
			if err := first(err, same("total", total, 7)); err != nil {
				return err
			}
			if len(some) == 0 {
				break
			}
			got, from = append(got, some...), some[len(some)-1].Place()
		}
		return same("events, each page after the last one's place", got, want)
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
	{"trust/dealings, standing and agreement come back", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		const requester = "requester"
		var d, again, none trust.Dealings
		err1 := s.Update(ctx, func(ctx context.Context, tx ports.Tx) (err error) {
			if _, d, _, err = tx.Trust.Lock(ctx, w.agent.ID, requester); err != nil {
				return err
			}
			if err := same("dealings at first", d, trust.Dealings{UserID: requester, Rater: trust.Rater{UserID: requester}}); err != nil {
				return err
			}
			p, ev := trust.Apply(trust.Newcomer(w.agent.ID, base, trust.DefaultWeights()), trust.Evidence{Type: trust.RatingReceived, EventID: newID(), TaskID: "t1", At: base, Stars: 5}, trust.DefaultWeights())
			d.OwnerUserID = w.agent.OwnerUserID
			d.Pair = d.Pair.Dealt(1, 9.5, d.Source(9.5, false, base), base)
			d.Rater.Agreed, d.Rater.Disagreed = 0.5, 0.25
			return tx.Trust.Save(ctx, p, ev, d)
		})
		err2 := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
			return tx.Trust.Stand(ctx, map[string]float64{requester: 0.75, "someone": 0.5})
		})
		err3 := s.Update(ctx, func(ctx context.Context, tx ports.Tx) (err error) {
			p, d, _, err := tx.Trust.Lock(ctx, w.agent.ID, requester)
			if err != nil {
				return err
			}
			again = d
			p, ev := trust.Apply(p, trust.Evidence{Type: trust.RatingReceived, EventID: newID(), TaskID: "t2", At: base, Stars: 5}, trust.DefaultWeights())
			d.Rater.Agreed, d.Rater.Disagreed = 1, 0 // what it adds
			return tx.Trust.Save(ctx, p, ev, d)
		})
		err4 := s.Update(ctx, func(ctx context.Context, tx ports.Tx) (err error) {
			_, d, _, err = tx.Trust.Lock(ctx, w.agent.ID, requester)
			if err == nil {
				_, none, _, err = tx.Trust.Lock(ctx, w.agent.ID, "")
			}
			return err
		})
		want := trust.Rater{UserID: requester, Standing: 0.75, Seen: true, Agreed: 0.5, Disagreed: 0.25}
		grown := want
		grown.Agreed = 1.5
		paid, err5 := s.Read().Trust.Payments(ctx, "", "", 10)
		rest, err6 := s.Read().Trust.Payments(ctx, w.agent.ID, requester, 10)
		return first(err1, err2, err3, err4, err5, err6, same("rater", again.Rater, want), same("rater later", d.Rater, grown), same("pair", d.Pair, again.Pair),
			same("owner", d.OwnerUserID, w.agent.OwnerUserID), same("of nobody", none, trust.Dealings{}), same("payments", paid, []trust.Payment{{
				FromUserID: requester, AgentID: w.agent.ID, ToUserID: w.agent.OwnerUserID, Amount: 9.5, Full: d.Pair.Full, Counted: d.Pair.Counted,
			}}), same("payments after the last", len(rest), 0))
	})},
	{"trust/a profile that settles, scores of days, and what an owner gave up", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		_, e, err1 := learn(ctx, s, w, trust.Evidence{Type: trust.TaskFailed, TaskID: "t1", At: base.Add(time.Hour)})
		_, _, err2 := learn(ctx, s, w, trust.Evidence{Type: trust.TaskCompleted, TaskID: "t2", At: base.Add(25 * time.Hour)})
		_, early, err3 := s.Read().Trust.GivenUp(ctx, w.agent.OwnerUserID)
		undamped, err := s.Read().Trust.Damped(ctx, "", 10)
		if err != nil {
			return err
		}
		var damped trust.Profile
		err4 := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
			p, _, _, err := tx.Trust.Lock(ctx, w.agent.ID, "")
			if err != nil {
				return err
			}
			damped = p.Damped(0.25, base.Add(26*time.Hour), trust.DefaultWeights())
			a, err := tx.Agents.Lock(ctx, w.agent.ID)
			if err != nil {
				return err
			}
			a.DeletedAt = ptr(base.Add(27 * time.Hour))
			return first(tx.Trust.Settle(ctx, damped), tx.Agents.Save(ctx, a))
		})
		list, err9 := s.Read().Trust.Damped(ctx, "", 10)
		rest, err10 := s.Read().Trust.Damped(ctx, w.agent.ID, 10)
		if err := first(err9, err10, same("damped before", len(undamped), 0), same("damped", list, []trust.Damping{{AgentID: w.agent.ID, Damping: 0.25}}), same("damped after it", len(rest), 0)); err != nil {
			return err
		}
		got, _, err5 := s.Read().Trust.Profile(ctx, w.agent.ID)
		given, known, err6 := s.Read().Trust.GivenUp(ctx, w.agent.OwnerUserID)
		a, err7 := s.Read().Agents.Get(ctx, w.agent.ID)
		scores, err8 := s.Read().Trust.ScoresAt(ctx, w.agent.ID, []time.Time{base.Add(time.Hour), base.Add(2 * time.Hour)})
		if err := first(err1, err2, err3, err4, err5, err6, err7, err8, same("moments", len(scores), 2)); err != nil {
			return err
		}
		return first(same("given up early", early, false), same("profile", got, damped), same("given up", known, true), same("the one given up", given, damped),
			same("the agent's bound", a.TrustBound, damped.Bound), same("before the first event", scores[0] == nil, true), same("after it", *scores[1], e.ScoreAfter))
	})},
}
