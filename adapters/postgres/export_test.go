package postgres

import "context"

// WithGroup lets units of work share a commit, which the writers of this adapter do not do by themselves.
func WithGroup(n int) Option {
	return func(o *options) { o.group = n }
}

// SetClock compares the clocks now.
func (s *Store) SetClock(ctx context.Context) error { return s.clock.Set(ctx) }
