package app

import (
	"context"
	"fmt"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/trust"
)

// chooseAmong is how many agents, the most trusted ones that fit, one is chosen out of.
const chooseAmong = 50

// wanted is what an agent that is to be chosen must be like.
type wanted struct {
	skillID   string
	skillTags []string
	minTrust  *float64
	maxPrice  *credits.Amount
	notOf     string // a user whose own agents are left out; "" for none
}

// choose finds the best agent for a skill: among the online ones those of the best band of trust's lower bound, of these
// the one with the fewest calls under way from here, of these the cheapest. why says so in words. One read.
func (c *core) choose(ctx context.Context, w wanted) (best registry.Agent, why string, err error) {
	q := registry.Query{
		SkillID: w.skillID, SkillTags: w.skillTags, MinTrust: w.minTrust, MaxPrice: w.maxPrice, Status: registry.Online, Sort: registry.SortTrust, Limit: chooseAmong,
	}
	if q, err = q.Normalize(); err != nil {
		return best, "", err
	}
	found, total, err := c.Store.Read().Agents.Discover(ctx, q, c.now())
	if err != nil {
		return best, "", fmt.Errorf("discover: %w", err)
	}
	if total == 0 || len(found) == 0 {
		return best, "", fault.New(fault.NotFound, fault.CodeAgentNotFound, "no agent that is online has this skill and fits; see /api/v1/discover, or ask for less")
	}
	loads := make([]registry.Candidate, len(found))
	for i, a := range found {
		loads[i] = registry.Candidate{Agent: a, Band: trust.BandOf(a.TrustBound), Load: c.turns.load(a.ID), Own: a.OwnerUserID == w.notOf && w.notOf != ""}
	}
	i, alike := registry.Best(loads)
	best = found[i]
	why = fmt.Sprintf("chosen out of %s: its trust score of %g is likely not below %g", counted(total, "online agent that fits", "online agents that fit"), best.TrustScore, best.TrustBound)
	if alike > 1 {
		why += fmt.Sprintf("; of the %d that are as trusted, the least busy and then the cheapest", alike)
	}
	return best, why, nil
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
