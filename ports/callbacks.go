package ports

import (
	"context"
	"time"
)

// CallBackReader reads what is known of agents that call back.
type CallBackReader interface {
	// Key returns the secret that their tokens are made with; nil as long as there is none.
	Key(ctx context.Context) ([]byte, error)
	// Count returns how often a task's agent has called back about it.
	Count(ctx context.Context, taskID string) (int, error)
}

// CallBackStore changes it.
type CallBackStore interface {
	CallBackReader
	// OfferKey makes this the secret if there is none yet.
	OfferKey(ctx context.Context, key []byte) error
	// Add counts one call about a task that the unit has locked.
	Add(ctx context.Context, taskID string, at time.Time) error
	// DeleteUntil forgets the counts whose last call was at t or before, and returns how many those were.
	DeleteUntil(ctx context.Context, t time.Time) (int, error)
}
