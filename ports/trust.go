package ports

import (
	"context"

	"github.com/nexus-protocol/nexus/domain/trust"
)

// TrustReader reads what is known of agents' conduct.
type TrustReader interface {
	// Profile returns an agent's profile; ok is false when there is no evidence yet.
	Profile(ctx context.Context, agentID string) (p trust.Profile, ok bool, err error)
	// Events returns an agent's trust events, newest first, and how many there are in all.
	Events(ctx context.Context, agentID string, page Page) ([]trust.Event, int, error)
}

// TrustStore changes it.
type TrustStore interface {
	TrustReader
	// Lock is Profile, and keeps the agent's evidence from changing until the transaction ends, also when there is none.
	Lock(ctx context.Context, agentID string) (p trust.Profile, ok bool, err error)
	// Save writes the profile and the event that led to it, and puts the score into the agent. A second rating of one
	// task is ALREADY_RATED; any other second event of one type for one task is ErrDuplicate.
	Save(ctx context.Context, p trust.Profile, e trust.Event) error
}
