package ports

import (
	"context"
	"time"
)

// KeptAnswer is the first answer to a request that may be repeated.
type KeptAnswer struct {
	ID      string
	Request string // a digest of what was asked
	Body    []byte
	At      time.Time
}

// AnswerReader finds answers.
type AnswerReader interface {
	// Get returns an answer, whatever its age; ok is false if there is none.
	Get(ctx context.Context, id string) (a KeptAnswer, ok bool, err error)
}

// AnswerStore keeps answers.
type AnswerStore interface {
	AnswerReader
	// Put keeps an answer in place of one that is from before or at stale. If there is a newer one it is ErrDuplicate.
	Put(ctx context.Context, a KeptAnswer, stale time.Time) error
	// DeleteUntil removes those from before or at t and returns how many.
	DeleteUntil(ctx context.Context, t time.Time) (int, error)
}
