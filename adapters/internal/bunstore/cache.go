package bunstore

import (
	"slices"
	"sync"

	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/scheduler"
)

// maxCached bounds the texts of the agents that are remembered, in bytes.
const maxCached = 64 << 20

// agentCache remembers agents as they were read, so that skills and cards are not decoded again for every task. It is
// no authority on anything: who asks has just read the version, which no two states of an agent share, committed or not.
type agentCache struct {
	mu   sync.Mutex
	byID map[string]cachedAgent
	size int
}

type cachedAgent struct {
	version int64
	agent   registry.Agent // but for what is changed without a new version
	size    int
}

func (c *agentCache) get(id string, version int64) (registry.Agent, bool) {
	c.mu.Lock()
	known, ok := c.byID[id]
	c.mu.Unlock()
	if !ok || known.version != version {
		return registry.Agent{}, false
	}
	return cloneAgent(known.agent), true
}

func (c *agentCache) put(version int64, a registry.Agent, size int) {
	size += 1 << 10 // for what is not text
	if size > maxCached/8 {
		return
	}
	a = cloneAgent(a)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byID == nil {
		c.byID = map[string]cachedAgent{}
	}
	c.size += size - c.byID[a.ID].size
	c.byID[a.ID] = cachedAgent{version, a, size}
	for id, old := range c.byID { // any will do, as maps have no order
		if c.size <= maxCached {
			break
		}
		if id != a.ID {
			c.size -= old.size
			delete(c.byID, id)
		}
	}
}

// cloneAgent copies what an agent points to, so that nobody can change what another one has.
func cloneAgent(a registry.Agent) registry.Agent {
	a.Skills, a.Tags, a.Metadata, a.Card = slices.Clone(a.Skills), slices.Clone(a.Tags), slices.Clone(a.Metadata), slices.Clone(a.Card)
	for i, s := range a.Skills {
		a.Skills[i].Tags, a.Skills[i].InputSchema, a.Skills[i].OutputSchema = slices.Clone(s.Tags), slices.Clone(s.InputSchema), slices.Clone(s.OutputSchema)
	}
	if a.LastHeartbeat != nil {
		t := *a.LastHeartbeat
		a.LastHeartbeat = &t
	}
	if a.DeletedAt != nil {
		t := *a.DeletedAt
		a.DeletedAt = &t
	}
	return a
}

// planCache remembers the plans of runs, so that they are not decoded again for every step. Who asks has just read what
// the run was created with, and gets no plan of anything else.
type planCache struct {
	mu    sync.Mutex
	byRun map[string]cachedPlan
	size  int // of the texts, in bytes
}

type cachedPlan struct {
	creation string
	plan     *scheduler.Plan
}

// of returns the plan of a run by the body of its first event.
func (c *planCache) of(runID, creation string) (*scheduler.Plan, error) {
	c.mu.Lock()
	known, ok := c.byRun[runID]
	c.mu.Unlock()
	if ok && known.creation == creation {
		return known.plan, nil
	}
	var body runEventDoc
	if err := unpack(creation, &body); err != nil {
		return nil, err
	}
	plan, err := scheduler.Compile(stepsOf(body.Steps))
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byRun == nil {
		c.byRun = map[string]cachedPlan{}
	}
	c.size += len(creation) - len(c.byRun[runID].creation)
	c.byRun[runID] = cachedPlan{creation, plan}
	for id, old := range c.byRun { // any will do, as maps have no order
		if c.size <= maxPlanTexts && len(c.byRun) <= maxPlans {
			break
		}
		if id != runID {
			c.size -= len(old.creation)
			delete(c.byRun, id)
		}
	}
	return plan, nil
}

// Bounds of the plans that are remembered: how many, and the bytes of their texts.
const (
	maxPlans     = 4096
	maxPlanTexts = 16 << 20
)
