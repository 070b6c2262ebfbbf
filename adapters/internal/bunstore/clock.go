package bunstore

import (
	"context"
	"sync/atomic"
	"time"
)

// Clock is a clock of this process, set right by that of the database server, so that all processes on one database have
// the same time, whatever their machines believe. Reading it asks nobody.
type Clock struct {
	store  *Store
	local  func() time.Time
	offset atomic.Int64 // what is added to local
}

// NewClock makes a clock that is not set yet.
func (s *Store) NewClock(local func() time.Time) *Clock { return &Clock{store: s, local: local} }

// Now is the server's time as far as it is known.
func (c *Clock) Now() time.Time { return c.local().Add(time.Duration(c.offset.Load())) }

// Set asks the server for its time. One statement.
//
// The server read its clock at some moment between the question and the answer, which bounds the offset from both sides.
// One within the bounds is left alone, so that a slow answer or two good clocks change nothing.
func (c *Clock) Set(ctx context.Context) error {
	return c.store.readers.do(ctx, func(ctx context.Context, session *session) error {
		var server micros
		asked := c.local()
		err := session.conn.QueryRowContext(ctx, c.store.cfg.Dialect.Clock).Scan(&server)
		answered := c.local()
		if err != nil {
			return c.store.wrap(err, "read the clock")
		}
		least, most := server.time().Sub(answered), server.time().Sub(asked)
		if now := time.Duration(c.offset.Load()); now < least || now > most {
			c.offset.Store(int64(least + (most-least)/2))
		}
		return nil
	})
}
