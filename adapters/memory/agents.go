package memory

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/ports"
)

type agents struct{ view }

func cloneAgent(a registry.Agent) registry.Agent {
	a.Skills = slices.Clone(a.Skills)
	for i, s := range a.Skills {
		a.Skills[i].Tags = slices.Clone(s.Tags)
		a.Skills[i].InputSchema, a.Skills[i].OutputSchema = slices.Clone(s.InputSchema), slices.Clone(s.OutputSchema)
	}
	a.Tags, a.Metadata, a.Card = slices.Clone(a.Tags), slices.Clone(a.Metadata), slices.Clone(a.Card)
	a.LastHeartbeat, a.DeletedAt = clonePtr(a.LastHeartbeat), clonePtr(a.DeletedAt)
	return a
}

func (v agents) Get(ctx context.Context, id string) (registry.Agent, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return registry.Agent{}, err
	}
	defer unlock()
	a, ok := v.s.agents.get(id)
	if !ok {
		return a, registry.NotFound(id)
	}
	return cloneAgent(a), nil
}

func (v agents) Lock(ctx context.Context, id string) (registry.Agent, error) { return v.Get(ctx, id) }

// find returns the stretch of the agents that match, in order, and how many match in all.
func (v agents) find(ctx context.Context, match func(registry.Agent) bool, order func(a, b registry.Agent) int, p ports.Page) ([]registry.Agent, int, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer unlock()
	var found []registry.Agent
	for _, a := range v.s.agents.rows {
		if match(a) {
			found = append(found, a)
		}
	}
	slices.SortFunc(found, order)
	out := slices.Clone(stretch(found, p))
	for i := range out {
		out[i] = cloneAgent(out[i])
	}
	return out, len(found), nil
}

func (v agents) ListByOwner(ctx context.Context, userID string, p ports.Page) ([]registry.Agent, int, error) {
	return v.find(ctx, func(a registry.Agent) bool { return a.OwnerUserID == userID && a.DeletedAt == nil },
		func(a, b registry.Agent) int {
			return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), strings.Compare(b.ID, a.ID))
		}, p)
}

func (v agents) Discover(ctx context.Context, q registry.Query, now time.Time) ([]registry.Agent, int, error) {
	page := ports.Page{Limit: math.MaxInt}
	found, total, err := v.find(ctx, func(a registry.Agent) bool { return q.Match(a, now) }, q.Compare, page)
	if total > registry.CountLimit && q.Sort == registry.SortRelevance {
		q.Sort = registry.SortTrust
		slices.SortFunc(found, q.Compare)
	}
	found = slices.DeleteFunc(found, func(a registry.Agent) bool { return !q.Past(a) })
	return stretch(found, ports.Page{Limit: q.Limit, Offset: q.Offset}), total, err
}

func (v agents) Insert(_ context.Context, a registry.Agent) error {
	if _, taken := v.s.agents.get(a.ID); taken {
		return ports.ErrDuplicate
	}
	v.s.agents.put(v.tx, a.ID, cloneAgent(a))
	return nil
}

func (v agents) Save(_ context.Context, a registry.Agent) error {
	old, ok := v.s.agents.get(a.ID)
	if !ok {
		return registry.NotFound(a.ID)
	}
	a = cloneAgent(a)
	a.TrustScore, a.TrustBound, a.Latency = old.TrustScore, old.TrustBound, old.Latency
	v.s.agents.put(v.tx, a.ID, a)
	return nil
}
