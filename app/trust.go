package app

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/domain/trust"
	"github.com/nexus-protocol/nexus/ports"
)

// Trust is what agents' conduct adds up to.
type Trust struct{ *core }

// recentEvents is how many events a profile shows.
const recentEvents = 10

// TrustProfile is an agent's profile with its newest events.
type TrustProfile struct {
	trust.Profile
	Recent []trust.Event
}

// Profile returns an agent's trust. Any known caller may call it, for a deleted agent too. Three reads.
func (s *Trust) Profile(ctx context.Context, c identity.Caller, agentID string) (TrustProfile, error) {
	if err := identity.Authorize(c, identity.TrustRead, identity.Resource{}); err != nil {
		return TrustProfile{}, err
	}
	a, err := s.Store.Read().Agents.Get(ctx, agentID)
	if err != nil {
		return TrustProfile{}, err
	}
	return s.profile(ctx, a)
}

// profile is an agent's trust. Two reads.
func (c *core) profile(ctx context.Context, a registry.Agent) (TrustProfile, error) {
	var out TrustProfile
	r := c.Store.Read()
	p, ok, err := r.Trust.Profile(ctx, a.ID)
	if err != nil {
		return out, fmt.Errorf("read trust profile: %w", err)
	}
	if !ok {
		p = trust.Resumed(a.ID, a.CreatedAt, a.TrustScore, *c.Weights)
	}
	out.Profile = p
	if out.Recent, _, err = r.Trust.Events(ctx, a.ID, ports.Page{Limit: recentEvents}); err != nil {
		return out, fmt.Errorf("read trust events: %w", err)
	}
	return out, nil
}

// listTrustEvents names an agent's history in cursors.
const listTrustEvents = "trust events"

// History returns an agent's trust events, newest first; it has cursors. Any known caller may call it, for a deleted agent
// too. Two reads.
func (s *Trust) History(ctx context.Context, c identity.Caller, agentID string, p Page) (List[trust.Event], error) {
	var none List[trust.Event]
	if err := identity.Authorize(c, identity.TrustRead, identity.Resource{}); err != nil {
		return none, err
	}
	page, err := p.resolve(defaultLimit, maxLimit)
	if err == nil {
		err = cursorAlone(p.Cursor, p.Offset)
	}
	if err != nil {
		return none, err
	}
	r := s.Store.Read()
	if _, err := r.Agents.Get(ctx, agentID); err != nil {
		return none, err
	}
	var items []trust.Event
	var total int
	if p.Cursor != "" {
		from, err := openCursor[trust.Place](ctx, s.core, listTrustEvents, agentID, p.Cursor)
		if err != nil {
			return none, err
		}
		items, total, err = r.Trust.EventsAfter(ctx, agentID, from, page.Limit+1)
		if err != nil {
			return none, fmt.Errorf("read trust events: %w", err)
		}
	} else {
		items, total, err = r.Trust.Events(ctx, agentID, ports.Page{Limit: page.Limit + 1, Offset: page.Offset})
		if err != nil {
			return none, fmt.Errorf("read trust events: %w", err)
		}
	}
	items, more := upTo(items, page.Limit)
	out := list(items, total, page)
	if more {
		out.Next, err = sealCursor(ctx, s.core, listTrustEvents, agentID, items[len(items)-1].Place())
	}
	return out, err
}

// RateAgent is a requester's opinion of one completed task.
type RateAgent struct {
	TaskID  string
	Stars   int // 1–5
	Comment string
}

// Rate adds a rating. Only the requester of the completed task may call it, once. One commit.
func (s *Trust) Rate(ctx context.Context, c identity.Caller, agentID string, in RateAgent) (trust.Event, error) {
	var event trust.Event
	if err := identity.MayAsk(c, identity.TrustRate); err != nil {
		return event, err
	}
	if err := trust.CheckRating(in.Stars, in.Comment); err != nil {
		return event, err
	}
	err := s.once(ctx, c, func() any { return event }, func(ctx context.Context, u *unit) error {
		a, err := u.Agents.Get(ctx, agentID)
		if err != nil {
			return err
		}
		t, err := u.Tasks.Lock(ctx, in.TaskID)
		if err == nil {
			err = identity.Authorize(c, identity.TrustRate, taskResource(t))
		}
		if err != nil {
			return err
		}
		var bad fault.Fields
		bad.Check(t.AgentID == agentID, "taskId", "is a task of another agent")
		bad.Check(t.Status == task.Completed, "taskId", "must be a completed task; this one is %s", t.Status)
		if err := bad.Err(); err != nil {
			return err
		}
		reason := in.Comment
		if reason == "" {
			reason = fmt.Sprintf("rated %d of 5", in.Stars)
		}
		return s.weigh(ctx, u, a, t, trust.Evidence{
			Type: trust.RatingReceived, EventID: u.id(), TaskID: t.ID, At: u.now, Reason: reason, Stars: in.Stars,
			Own: t.AgentOwnerID == t.RequesterUserID,
		}, &event)
	})
	return event, err
}

// Rating returns the rating of a task; ok is false when it has none yet. Who may read the task may call it. Two reads.
func (s *Trust) Rating(ctx context.Context, c identity.Caller, taskID string) (e trust.Event, ok bool, err error) {
	t, err := s.Store.Read().Tasks.Get(ctx, taskID)
	if err == nil {
		err = identity.Authorize(c, identity.TaskRead, taskResource(t))
	}
	if err != nil {
		return trust.Event{}, false, err
	}
	return s.Store.Read().Trust.Rating(ctx, taskID)
}

// trustDays is how many days of scores are told at most.
const trustDays = 365

// DayScore is an agent's score at the end of a UTC day.
type DayScore struct {
	Day   string // 2006-01-02
	Score float64
}

// Daily returns an agent's score at the end of each of the last days, oldest first, today as it is now; days before the
// agent's registration are left out. Any known caller may call it, for a deleted agent too. Two reads.
func (s *Trust) Daily(ctx context.Context, c identity.Caller, agentID string, days int) ([]DayScore, error) {
	if err := identity.Authorize(c, identity.TrustRead, identity.Resource{}); err != nil {
		return nil, err
	}
	var bad fault.Fields
	bad.Check(days >= 1 && days <= trustDays, "days", "must be 1 to %d", trustDays)
	if err := bad.Err(); err != nil {
		return nil, err
	}
	a, err := s.Store.Read().Agents.Get(ctx, agentID)
	if err != nil {
		return nil, err
	}
	return s.daily(ctx, a, days)
}

// daily is an agent's score of each day. Two reads.
func (c *core) daily(ctx context.Context, a registry.Agent, days int) ([]DayScore, error) {
	var ends []time.Time
	for end := c.now().Truncate(24*time.Hour).AddDate(0, 0, 1); len(ends) < days && end.After(a.CreatedAt); end = end.AddDate(0, 0, -1) {
		ends = append(ends, end)
	}
	slices.Reverse(ends)
	scores, err := c.Store.Read().Trust.ScoresAt(ctx, a.ID, ends)
	if err != nil {
		return nil, fmt.Errorf("read scores: %w", err)
	}
	out := make([]DayScore, len(ends))
	p, known, err := c.Store.Read().Trust.Profile(ctx, a.ID)
	if err != nil {
		return nil, fmt.Errorf("read trust profile: %w", err)
	}
	start := a.TrustScore // without evidence it is what it was registered with
	if known {
		start = trust.Started(p, *c.Weights)
	}
	for i, end := range ends {
		out[i] = DayScore{Day: end.AddDate(0, 0, -1).Format(time.DateOnly), Score: start}
		if scores[i] != nil {
			out[i].Score = *scores[i]
		}
	}
	return out, nil
}

// Verdict is what came of working out an agent's profile again from its events.
type Verdict struct {
	AgentID string
	Events  int
	// Wrong names what does not agree; "" if all does.
	Wrong string
}

// verifyBatch is how many events are read at a time.
const verifyBatch = 1_000

// Verify works an agent's profile out again from its events. It is for the operator's command line. It reads all events of
// the agent; while tasks of it end it may find them out of step.
func (s *Trust) Verify(ctx context.Context, agentID string) (Verdict, error) {
	v := Verdict{AgentID: agentID}
	r := s.Store.Read()
	if _, err := r.Agents.Get(ctx, agentID); err != nil {
		return v, err
	}
	stored, known, err := r.Trust.Profile(ctx, agentID)
	if err != nil || !known {
		return v, err
	}
	all, _, err := r.Trust.Events(ctx, agentID, ports.Page{Limit: verifyBatch})
	for some := all; err == nil && len(some) == verifyBatch; all = append(all, some...) {
		some, _, err = r.Trust.EventsAfter(ctx, agentID, some[len(some)-1].Place(), verifyBatch)
	}
	if err != nil {
		return v, fmt.Errorf("read trust events: %w", err)
	}
	v.Events = len(all)
	slices.SortFunc(all, func(a, b trust.Event) int { return cmp.Compare(a.Seq, b.Seq) })
	p := trust.Resumed(agentID, stored.Since, trust.Started(stored, *s.Weights), *s.Weights)
	p.Start = stored.Start
	for _, e := range all {
		if e.Seq == 0 {
			v.Wrong = "it has events from before the weight of each was kept"
			return v, nil
		}
		var ok bool
		if p, ok = trust.Replay(p, e, *s.Weights); !ok {
			v.Wrong = fmt.Sprintf("event %d (%s) is missing, or its scores are not what it leads to: %g", e.Seq, e.ID, p.Score)
			return v, nil
		}
	}
	if !p.Agrees(stored) {
		v.Wrong = fmt.Sprintf("the profile is not what its events lead to: a score of %g where %g is kept", p.Damped(stored.Damping, p.UpdatedAt, *s.Weights).Score, stored.Score)
	}
	return v, nil
}

// The bounds of a pass.
const (
	passPage  = 5_000     // payments read at a time
	passMost  = 2_000_000 // payments that a pass looks at
	passBatch = 200       // users or agents in a commit
)

// pass looks for rings in the payments, and lets what it finds stand.
func (c *core) pass(ctx context.Context) error {
	r := c.Store.Read()
	var all []trust.Payment
	for after := (trust.Payment{}); len(all) < passMost; {
		some, err := r.Trust.Payments(ctx, after.AgentID, after.FromUserID, passPage)
		if err != nil {
			return fmt.Errorf("read payments: %w", err)
		}
		all = append(all, some...)
		if len(some) < passPage {
			break
		}
		after = some[len(some)-1]
	}
	found := trust.Pass(all, trust.DefaultPass())
	users := slices.Sorted(maps.Keys(found.Standing))
	for users := range slices.Chunk(users, passBatch) {
		standing := make(map[string]float64, len(users))
		for _, id := range users {
			standing[id] = found.Standing[id]
		}
		if err := c.commit(ctx, func(ctx context.Context, u *unit) error { return u.Tx.Trust.Stand(ctx, standing) }); err != nil {
			return fmt.Errorf("save standing: %w", err)
		}
	}
	damped := map[string]float64{}
	for after := ""; ; {
		some, err := r.Trust.Damped(ctx, after, passPage)
		if err != nil {
			return fmt.Errorf("read damped agents: %w", err)
		}
		for _, d := range some {
			damped[d.AgentID], after = d.Damping, d.AgentID
		}
		if len(some) < passPage {
			break
		}
	}
	for _, id := range slices.Sorted(maps.Keys(found.Damping)) {
		was, ok := damped[id]
		if !ok {
			was = 1
		}
		if math.Abs(was-found.Damping[id]) < 0.01 {
			continue
		}
		err := c.commit(ctx, func(ctx context.Context, u *unit) error {
			p, _, known, err := u.Tx.Trust.Lock(ctx, id, "")
			if err != nil || !known {
				return err
			}
			return u.Tx.Trust.Settle(ctx, p.Damped(found.Damping[id], u.now, *c.Weights))
		})
		if err != nil {
			return fmt.Errorf("damp %s: %w", id, err)
		}
	}
	return nil
}
