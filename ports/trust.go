package ports

import (
	"context"
	"time"

	"github.com/nexus-protocol/nexus/domain/trust"
)

// TrustReader reads what is known of agents' conduct.
type TrustReader interface {
	// Profile returns an agent's profile; ok is false when there is no evidence yet.
	Profile(ctx context.Context, agentID string) (p trust.Profile, ok bool, err error)
	// ScoresAt returns the agent's score after its last event before each of the moments, nil where there was none.
	ScoresAt(ctx context.Context, agentID string, moments []time.Time) ([]*float64, error)
	// Pace returns how long the market takes for a skill; the zero Pace if nothing is known.
	Pace(ctx context.Context, skillID string) (trust.Pace, error)
	// GivenUp returns the lowest profile of the agents that the user has deleted; ok is false when none has one.
	GivenUp(ctx context.Context, ownerUserID string) (p trust.Profile, ok bool, err error)
	EvidenceReader
	PassReader
}

// EvidenceReader reads what has moved scores.
type EvidenceReader interface {
	// Events returns an agent's trust events, newest first, and how many there are in all.
	Events(ctx context.Context, agentID string, page Page) ([]trust.Event, int, error)
	// EventsAfter returns at most limit of the events that come after a place in that order, and how many there are in all,
	// those before it too.
	EventsAfter(ctx context.Context, agentID string, after trust.Place, limit int) ([]trust.Event, int, error)
	// Rating returns the rating of a task; ok is false when it has none.
	Rating(ctx context.Context, taskID string) (e trust.Event, ok bool, err error)
}

// PassReader reads what a pass over the payments goes by.
type PassReader interface {
	// Payments returns what was paid between users and agents, in the order of agent and user and after the given ones, at
	// most limit. "" is before all.
	Payments(ctx context.Context, afterAgentID, afterUserID string, limit int) ([]trust.Payment, error)
	// Damped returns the agents whose damping is below 1, in the order of their ids and after the given one, at most limit.
	Damped(ctx context.Context, afterAgentID string, limit int) ([]trust.Damping, error)
}

// TrustStore changes it.
type TrustStore interface {
	TrustReader
	// Lock is Profile, and keeps the agent's evidence from changing until the transaction ends, also when there is none.
	// d is what is known of the requester, with the UserIDs as they were given; without a requester there is nothing.
	Lock(ctx context.Context, agentID, requesterID string) (p trust.Profile, d trust.Dealings, ok bool, err error)
	// Save writes the profile and the event that led to it, and puts score, bound and latency into the agent. Of d it writes the
	// pair and, for a rating, adds what the rating adds to the rater's agreement, which are the differences that d has;
	// without a UserID it writes none. A second rating of one task is ALREADY_RATED; any other second event of one type
	// for one task is ErrDuplicate.
	Save(ctx context.Context, p trust.Profile, e trust.Event, d trust.Dealings) error
	// Settle writes a locked profile that changed without an event, and puts score, bound and latency into the agent.
	Settle(ctx context.Context, p trust.Profile) error
	// LockPace is Pace, and keeps it from changing until the transaction ends, also when nothing is known.
	LockPace(ctx context.Context, skillID string) (trust.Pace, error)
	// SavePace writes a locked one.
	SavePace(ctx context.Context, skillID string, p trust.Pace) error
	// Stand writes the standing of users after a pass.
	Stand(ctx context.Context, standing map[string]float64) error
}
