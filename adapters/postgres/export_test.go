package postgres

import "context"

// OpenDB opens connections as a store's are.
var OpenDB = open

// WithCommit puts a fault around every COMMIT.
func WithCommit(around func(commit func() error) error) Option {
	return func(o *options) { o.commit = around }
}

// SetClock compares the clocks now.
func (s *Store) SetClock(ctx context.Context) error { return s.clock.Set(ctx) }
