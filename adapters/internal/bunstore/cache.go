package bunstore

import (
	"slices"
	"sync"

	"github.com/nexus-protocol/nexus/domain/registry"
)

// maxCached bounds the texts of the agents that are remembered, in bytes.
const maxCached = 16 << 20

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
