package app

import (
	"context"
	"fmt"

	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/ports"
)

// Market is what is shown of agents to whoever comes by, strangers too. What it returns still has what is its owner's
// business, such as the endpoint; who shows it leaves that out.
type Market struct{ *core }

// marketDays is how many days of scores come with an agent.
const marketDays = 90

// Listing is an agent as the market shows it.
type Listing struct {
	registry.Agent
	Trust TrustProfile
	Days  []DayScore // the score of each day, oldest first
}

// Search finds agents. Anyone may call it. One read.
func (s *Market) Search(ctx context.Context, c identity.Caller, q registry.Query) (List[registry.Agent], error) {
	if err := identity.Authorize(c, identity.MarketRead, identity.Resource{Open: true}); err != nil {
		return List[registry.Agent]{}, err
	}
	q, err := q.Normalize()
	if err != nil {
		return List[registry.Agent]{}, err
	}
	items, total, err := s.Store.Read().Agents.Discover(ctx, q, s.now())
	if err != nil {
		return List[registry.Agent]{}, fmt.Errorf("discover: %w", err)
	}
	return list(items, total, ports.Page{Limit: q.Limit, Offset: q.Offset}), nil
}

// Agent returns an agent with its trust. Anyone may call it. Five reads.
func (s *Market) Agent(ctx context.Context, c identity.Caller, id string) (Listing, error) {
	if err := identity.Authorize(c, identity.MarketRead, identity.Resource{Open: true}); err != nil {
		return Listing{}, err
	}
	var out Listing
	var err error
	if out.Agent, err = liveAgent(ctx, s.Store.Read().Agents.Get, id); err != nil {
		return out, err
	}
	if out.Trust, err = s.profile(ctx, out.Agent); err != nil {
		return out, err
	}
	out.Days, err = s.daily(ctx, out.Agent, marketDays)
	return out, err
}
