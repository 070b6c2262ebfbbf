package app

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/domain/trust"
	"github.com/nexus-protocol/nexus/ports"
)

// Agents is the registry: who there is, what they offer, and whether they are alive.
type Agents struct{ *core }

// cardTimeout bounds how long a registration waits for the agent's card.
const cardTimeout = 3 * time.Second

// Register adds an agent of the caller's. Its card is fetched first, for at most three seconds; an agent that does not
// answer is registered as offline. Any known caller may call it. One read, one commit.
func (s *Agents) Register(ctx context.Context, c identity.Caller, in registry.Profile) (registry.Agent, error) {
	if err := identity.Authorize(c, identity.AgentRegister, identity.Resource{}); err != nil {
		return registry.Agent{}, err
	}
	if err := s.replay(ctx, c); err != nil { // before strangers are asked for a card
		return registry.Agent{}, err
	}
	now := s.now()
	newcomer := trust.Newcomer("", now, *s.Weights)
	given, bad, err := s.Store.Read().Trust.GivenUp(ctx, c.UserID)
	if err != nil {
		return registry.Agent{}, fmt.Errorf("read trust profile: %w", err)
	}
	if bad { // what it was trusted with before goes with its owner
		newcomer = trust.Successor("", now, given, *s.Weights)
	}
	a, err := registry.Register(s.NewID(), c.UserID, in, newcomer.Score, now)
	a.TrustBound = newcomer.Bound
	if err == nil {
		err = s.checkSchemas(a)
	}
	if err == nil {
		err = s.Guard.Check(ctx, a.Endpoint)
	}
	if err != nil {
		return registry.Agent{}, err
	}
	a = a.Seen(s.fetchCard(ctx, a.Endpoint), now)
	err = s.once(ctx, c, func() any { return a }, func(ctx context.Context, u *unit) error {
		if err := u.Agents.Insert(ctx, a); err != nil {
			return fmt.Errorf("insert agent: %w", err)
		}
		return u.enqueue(ctx, jobProbe, a.ID, u.now.Add(registry.ProbeEvery), ports.PriorityHousekeeping)
	})
	return a, err
}

func (s *Agents) checkSchemas(a registry.Agent) error {
	var bad fault.Fields
	for i, skill := range a.Skills {
		for name, schema := range map[string]json.RawMessage{"inputSchema": skill.InputSchema, "outputSchema": skill.OutputSchema} {
			if schema == nil {
				continue
			}
			if err := s.Schema.Compile(schema); err != nil {
				bad.Add(fmt.Sprintf("skills[%d].%s", i, name), "is no valid JSON Schema: %v", err)
			}
		}
	}
	return bad.Err()
}

// fetchCard returns the agent's card, nil when there is none to be had.
func (c *core) fetchCard(ctx context.Context, endpoint string) json.RawMessage {
	ctx, cancel := context.WithTimeout(ctx, cardTimeout)
	defer cancel()
	card, err := c.Config.Agents.Card(ctx, endpoint)
	if err != nil {
		c.Logger.DebugContext(ctx, "no agent card", "endpoint", endpoint, "error", err)
		return nil
	}
	return card
}

// Get returns an agent. Any known caller may call it. One read.
func (s *Agents) Get(ctx context.Context, c identity.Caller, id string) (registry.Agent, error) {
	if err := identity.Authorize(c, identity.AgentRead, identity.Resource{}); err != nil {
		return registry.Agent{}, err
	}
	return liveAgent(ctx, s.Store.Read().Agents.Get, id)
}

// ListOwn returns the caller's agents, newest first.
func (s *Agents) ListOwn(ctx context.Context, c identity.Caller, p Page) (List[registry.Agent], error) {
	var none List[registry.Agent]
	if err := identity.Authorize(c, identity.AgentListOwn, identity.Resource{}); err != nil {
		return none, err
	}
	page, err := p.resolve(defaultLimit, maxLimit)
	if err != nil {
		return none, err
	}
	items, total, err := s.Store.Read().Agents.ListByOwner(ctx, c.UserID, page)
	if err != nil {
		return none, fmt.Errorf("list agents: %w", err)
	}
	return list(items, total, page), nil
}

// listDiscover names the list of found agents in cursors.
const listDiscover = "discover"

// discoverPlace is where a stretch of found agents ended, and in which order.
type discoverPlace struct {
	Sort registry.Sort `json:"s"`
	registry.Place
}

// Discover finds agents. cursor is List.Next of an earlier answer to the same query, whatever its limit, or "". Any known
// caller may call it.
//
// With cursors an agent is seen once however many come and go meanwhile, unless what it is ordered by changes: then it may be
// seen again, or not at all, as its new place is behind or before the cursor.
func (s *Agents) Discover(ctx context.Context, c identity.Caller, q registry.Query, cursor string) (List[registry.Agent], error) {
	var none List[registry.Agent]
	if err := identity.Authorize(c, identity.AgentRead, identity.Resource{}); err != nil {
		return none, err
	}
	q, err := q.Normalize()
	if err == nil {
		err = cursorAlone(cursor, q.Offset)
	}
	if err != nil {
		return none, err
	}
	page := ports.Page{Limit: q.Limit, Offset: q.Offset}
	question := q
	question.Limit, question.Offset = 0, 0
	if cursor != "" {
		from, err := openCursor[discoverPlace](ctx, s.core, listDiscover, question, cursor)
		if err != nil {
			return none, err
		}
		q.Sort, q.After = from.Sort, &from.Place
	}
	q.Limit++ // to know whether there is more
	items, total, err := s.Store.Read().Agents.Discover(ctx, q, s.now())
	if err != nil {
		return none, fmt.Errorf("discover: %w", err)
	}
	if q.Sort == registry.SortRelevance && total > registry.CountLimit {
		if q.After != nil { // there are so many now that they are in another order
			return none, staleCursor()
		}
		q.Sort = registry.SortTrust
	}
	items, more := upTo(items, page.Limit)
	out := list(items, total, page)
	if more {
		out.Next, err = sealCursor(ctx, s.core, listDiscover, question, discoverPlace{q.Sort, q.Place(items[len(items)-1])})
	}
	return out, err
}

// Inspection is what an endpoint shows of itself.
type Inspection struct {
	Card json.RawMessage // nil if there was none to be had
	Took time.Duration
}

// Inspect looks at an endpoint as Register would, for at most three seconds, and keeps nothing. Whoever may register
// agents may call it. An endpoint that leads inside is refused.
func (s *Agents) Inspect(ctx context.Context, c identity.Caller, endpoint string) (Inspection, error) {
	if err := identity.Authorize(c, identity.AgentRegister, identity.Resource{}); err != nil {
		return Inspection{}, err
	}
	if err := s.limit(ctx, limitInspect, c.UserID); err != nil {
		return Inspection{}, err
	}
	name := "inspected"
	a, err := registry.Register("", c.UserID, registry.Profile{Name: &name, Endpoint: &endpoint}, 0, s.now())
	if err == nil {
		err = s.Guard.Check(ctx, a.Endpoint)
	}
	if err != nil {
		return Inspection{}, err
	}
	began := s.now()
	card := s.fetchCard(ctx, a.Endpoint)
	return Inspection{Card: card, Took: s.now().Sub(began)}, nil
}

// Change alters an agent. A new endpoint is checked and its card fetched, as at registration. Its owner may call it.
// One read, one commit.
func (s *Agents) Change(ctx context.Context, c identity.Caller, id string, in registry.Profile) (registry.Agent, error) {
	before, err := liveAgent(ctx, s.Store.Read().Agents.Get, id)
	if err == nil {
		err = identity.Authorize(c, identity.AgentChange, identity.Resource{OwnerUserID: before.OwnerUserID})
	}
	if err != nil {
		return registry.Agent{}, err
	}
	preview, err := before.Change(in, s.now())
	if err == nil && in.Skills != nil {
		err = s.checkSchemas(preview)
	}
	moved := preview.Endpoint != before.Endpoint
	var card json.RawMessage
	if err == nil && moved {
		if err = s.Guard.Check(ctx, preview.Endpoint); err == nil {
			card = s.fetchCard(ctx, preview.Endpoint)
		}
	}
	if err != nil {
		return registry.Agent{}, err
	}
	var after registry.Agent
	err = s.update(ctx, func(ctx context.Context, u *unit) error {
		a, err := u.ownAgent(ctx, c, identity.AgentChange, id)
		if err != nil {
			return err
		}
		if after, err = a.Change(in, u.now); err != nil {
			return err
		}
		if moved {
			after = after.Seen(card, u.now)
		}
		return u.saveAgent(ctx, a, after)
	})
	return after, err
}

// Heartbeat notes a sign of life. The agent's owner may call it. One commit.
func (s *Agents) Heartbeat(ctx context.Context, c identity.Caller, id string, status registry.Status, metadata json.RawMessage) (registry.Agent, error) {
	var after registry.Agent
	err := s.update(ctx, func(ctx context.Context, u *unit) error {
		a, err := u.ownAgent(ctx, c, identity.AgentChange, id)
		if err != nil {
			return err
		}
		if after, err = a.Heartbeat(status, metadata, u.now); err != nil {
			return err
		}
		return u.saveAgent(ctx, a, after)
	})
	return after, err
}

// saveAgent saves what became of a locked agent. One that is back from offline gets the tasks that wait for it.
func (u *unit) saveAgent(ctx context.Context, before, after registry.Agent) error {
	if err := u.Agents.Save(ctx, after); err != nil {
		return fmt.Errorf("save agent: %w", err)
	}
	if before.StatusAt(u.now) == registry.Offline && after.StatusAt(u.now) != registry.Offline {
		return u.enqueue(ctx, jobAssign, after.ID, u.now, ports.PriorityInteractive)
	}
	return nil
}

// drainBatch is how many open tasks of a deleted agent one commit cancels.
const drainBatch = 100

// Delete takes an agent out of the market: gone from discovery, its keys revoked, its open tasks cancelled and refunded.
// Its owner may call it. One commit for the agent, and one for every hundred open tasks; what a crash leaves of these a
// job does.
func (s *Agents) Delete(ctx context.Context, c identity.Caller, id string) (registry.Agent, error) {
	var after registry.Agent
	err := s.update(ctx, func(ctx context.Context, u *unit) error {
		a, err := u.ownAgent(ctx, c, identity.AgentChange, id)
		if err != nil {
			return err
		}
		a.Status, a.DeletedAt, a.UpdatedAt = registry.Offline, &u.now, u.now
		after = a
		if err := u.Agents.Save(ctx, a); err != nil {
			return fmt.Errorf("save agent: %w", err)
		}
		if err := u.Keys.RevokeAll(ctx, id, u.now); err != nil {
			return fmt.Errorf("revoke keys: %w", err)
		}
		return u.enqueue(ctx, jobDrain, id, u.now, ports.PriorityHousekeeping)
	})
	if err != nil {
		return after, err
	}
	if err := s.drain(ctx, id); err != nil {
		s.Logger.DebugContext(ctx, "a deleted agent's tasks are left to its job", "agent", id, "error", err)
	}
	return after, nil
}

// drain cancels a deleted agent's open tasks, some in a commit. It locks tasks, and never the agent, which comes after them.
func (c *core) drain(ctx context.Context, agentID string) error {
	for {
		ids, err := c.Store.Read().Tasks.OpenByAgent(ctx, agentID, "", drainBatch)
		if err != nil {
			return fmt.Errorf("find open tasks: %w", err)
		}
		if len(ids) == 0 {
			return nil
		}
		slices.Sort(ids) // all lock them in one order
		err = c.update(ctx, func(ctx context.Context, u *unit) error {
			for _, id := range ids {
				t, err := u.Tasks.Lock(ctx, id)
				if err != nil {
					return fmt.Errorf("lock task: %w", err)
				}
				if t.Status.Ended() {
					continue
				}
				if _, _, err := c.apply(ctx, u, t, registry.Agent{}, task.Cancel{At: u.now}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, id := range ids {
			c.calls.stop(id)
		}
	}
}
