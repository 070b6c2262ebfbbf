package ports

import (
	"context"
	"time"

	"github.com/nexus-protocol/nexus/domain/registry"
)

// AgentReader finds agents.
type AgentReader interface {
	// Get returns an agent, a deleted one too (DeletedAt is set). One that never was is AGENT_NOT_FOUND.
	Get(ctx context.Context, id string) (registry.Agent, error)
	// ListByOwner returns a user's agents that are not deleted, newest first, and how many there are in all.
	ListByOwner(ctx context.Context, userID string, page Page) ([]registry.Agent, int, error)
	// Discover returns the stretch of agents that a normalized query finds, in its order, and how many it finds in all.
	// It must agree with registry.Query's Match, Compare and Past at the moment now; the number is of those before After too.
	// Of more than registry.CountLimit the number may be too low, but is above that, and without After above the end of the
	// stretch as long as there may be more; and SortRelevance is SortTrust then.
	Discover(ctx context.Context, q registry.Query, now time.Time) ([]registry.Agent, int, error)
}

// AgentStore changes agents.
type AgentStore interface {
	AgentReader
	// Lock is Get, and keeps the agent from changing until the transaction ends.
	Lock(ctx context.Context, id string) (registry.Agent, error)
	Insert(ctx context.Context, a registry.Agent) error
	// Save writes everything but TrustScore, TrustBound and Latency, which belong to TrustStore.
	Save(ctx context.Context, a registry.Agent) error
}
