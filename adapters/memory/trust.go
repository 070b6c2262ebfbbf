package memory

import (
	"context"
	"fmt"
	"slices"

	"github.com/nexus-protocol/nexus/domain/trust"
	"github.com/nexus-protocol/nexus/ports"
)

type trusts struct{ view }

func (v trusts) Profile(ctx context.Context, agentID string) (p trust.Profile, ok bool, err error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return p, false, err
	}
	defer unlock()
	p, ok = v.s.profiles.get(agentID)
	return p, ok, nil
}

func (v trusts) Lock(ctx context.Context, agentID string) (trust.Profile, bool, error) {
	return v.Profile(ctx, agentID)
}

func (v trusts) Events(ctx context.Context, agentID string, p ports.Page) ([]trust.Event, int, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer unlock()
	all := slices.Clone(v.s.history.rows[agentID])
	slices.Reverse(all)
	return stretch(all, p), len(all), nil
}

func (v trusts) Save(_ context.Context, p trust.Profile, e trust.Event) error {
	if e.TaskID != "" {
		key := e.TaskID + " " + string(e.Type)
		if _, twice := v.s.once.get(key); twice {
			if e.Type == trust.RatingReceived {
				return trust.AlreadyRated(e.TaskID)
			}
			return fmt.Errorf("trust event %s of task %s: %w", e.Type, e.TaskID, ports.ErrDuplicate)
		}
		v.s.once.put(v.tx, key, struct{}{})
	}
	v.s.profiles.put(v.tx, p.AgentID, p)
	v.s.history.put(v.tx, p.AgentID, append(slices.Clip(v.s.history.rows[p.AgentID]), e))
	if a, ok := v.s.agents.get(p.AgentID); ok {
		a.TrustScore = p.Score
		v.s.agents.put(v.tx, a.ID, a)
	}
	return nil
}
