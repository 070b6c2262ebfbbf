package app

import (
	"context"
	"fmt"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
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
	var out TrustProfile
	if err := identity.Authorize(c, identity.TrustRead, identity.Resource{}); err != nil {
		return out, err
	}
	r := s.Store.Read()
	a, err := r.Agents.Get(ctx, agentID)
	if err != nil {
		return out, err
	}
	p, ok, err := r.Trust.Profile(ctx, agentID)
	if err != nil {
		return out, fmt.Errorf("read trust profile: %w", err)
	}
	if !ok {
		p = trust.Newcomer(agentID, a.CreatedAt, *s.Weights)
	}
	out.Profile = p
	if out.Recent, _, err = r.Trust.Events(ctx, agentID, ports.Page{Limit: recentEvents}); err != nil {
		return out, fmt.Errorf("read trust events: %w", err)
	}
	return out, nil
}

// History returns an agent's trust events, newest first. Any known caller may call it, for a deleted agent too.
func (s *Trust) History(ctx context.Context, c identity.Caller, agentID string, p Page) (List[trust.Event], error) {
	var none List[trust.Event]
	if err := identity.Authorize(c, identity.TrustRead, identity.Resource{}); err != nil {
		return none, err
	}
	page, err := p.resolve(defaultLimit, maxLimit)
	if err != nil {
		return none, err
	}
	r := s.Store.Read()
	if _, err := r.Agents.Get(ctx, agentID); err != nil {
		return none, err
	}
	items, total, err := r.Trust.Events(ctx, agentID, page)
	if err != nil {
		return none, fmt.Errorf("read trust events: %w", err)
	}
	return list(items, total, page), nil
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
		return s.weigh(ctx, u, a, trust.Evidence{
			Type: trust.RatingReceived, EventID: u.id(), TaskID: t.ID, At: u.now, Reason: reason, Stars: in.Stars,
			Own: t.AgentOwnerID == t.RequesterUserID,
		}, &event)
	})
	return event, err
}
