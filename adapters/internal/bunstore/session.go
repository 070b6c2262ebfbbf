package bunstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/ports"
)

// statement is SQL that is prepared once a connection. Its parameters are question marks, {lock} stands for the
// dialect's lock clause.
type statement struct {
	id    int
	text  string
	reads bool // changes nothing
}

var statements []statement

func hot(text string) statement {
	q := statement{len(statements), text, strings.HasPrefix(text, "SELECT")}
	statements = append(statements, q)
	return q
}

// multi is an INSERT of several rows: a statement for each number of them.
type multi struct {
	columns int
	byRows  []statement
}

// maxRows is how many rows one statement inserts at most.
const maxRows = 8

func hotMulti(head string, columns int, tail string) multi {
	m := multi{columns: columns}
	row := "(?" + strings.Repeat(", ?", columns-1) + ")"
	for n := 1; n <= maxRows; n++ {
		m.byRows = append(m.byRows, hot(head+" VALUES "+row+strings.Repeat(", "+row, n-1)+" "+tail))
	}
	return m
}

// session is a connection with its prepared statements. One goroutine uses it at a time.
type session struct {
	store    *Store
	conn     *sql.Conn
	bun      bun.Conn // for what only reads; see writes
	prepared []*sql.Stmt
	dirty    bool // something was, or may have been, changed
}

// writes is Bun for what changes something.
func (c *session) writes() bun.Conn {
	c.dirty = true
	return c.bun
}

func (s *Store) open(ctx context.Context, db *bun.DB) (*session, error) {
	c, err := db.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return &session{store: s, conn: c.Conn, bun: c, prepared: make([]*sql.Stmt, len(s.sql))}, nil
}

// close gives the connection back. broken throws it away instead.
func (c *session) close(broken bool) {
	for _, s := range c.prepared {
		if s != nil {
			_ = s.Close() // nothing depends on it any more
		}
	}
	if broken {
		_ = c.conn.Raw(func(any) error { return driver.ErrBadConn }) // the way to tell database/sql
	}
	_ = c.conn.Close()
}

// plain runs SQL that has no parameters and no prepared statement.
func (c *session) plain(ctx context.Context, text string) error {
	span := ports.Span(ports.NoSpan{})
	if c.store.cfg.Tracer != nil {
		_, span = c.store.span(ctx, summarize(text))
	}
	_, err := c.conn.ExecContext(ctx, text)
	finish(span, err)
	return err
}

func (c *session) stmt(ctx context.Context, q statement) (*sql.Stmt, error) {
	if s := c.prepared[q.id]; s != nil {
		return s, nil
	}
	s, err := c.conn.PrepareContext(ctx, c.store.sql[q.id])
	if err != nil {
		return nil, err
	}
	c.prepared[q.id] = s
	return s, nil
}

func (c *session) query(ctx context.Context, q statement, args []any) (*sql.Rows, error) {
	if !c.store.cfg.Dialect.Prepare {
		return c.conn.QueryContext(ctx, c.store.sql[q.id], args...)
	}
	s, err := c.stmt(ctx, q)
	if err != nil {
		return nil, err
	}
	return s.QueryContext(ctx, args...)
}

// exec returns how many rows were changed.
func (c *session) exec(ctx context.Context, q statement, args ...any) (n int64, err error) {
	span := c.spanOf(ctx, q)
	n, err = c.change(ctx, q, args)
	finish(span, err)
	return n, err
}

func (c *session) change(ctx context.Context, q statement, args []any) (int64, error) {
	var r sql.Result
	var err error
	if c.store.cfg.Dialect.Prepare {
		var s *sql.Stmt
		if s, err = c.stmt(ctx, q); err == nil {
			r, err = s.ExecContext(ctx, args...)
		}
	} else {
		r, err = c.conn.ExecContext(ctx, c.store.sql[q.id], args...)
	}
	if err != nil {
		c.dirty = true
		return 0, err
	}
	n, err := r.RowsAffected()
	c.dirty = c.dirty || n > 0 && !q.reads
	return n, err
}

// execMulti inserts rows, maxRows at a time, and returns how many were.
func (c *session) execMulti(ctx context.Context, m multi, args []any) (int64, error) {
	var total int64
	for len(args) > 0 {
		rows := min(len(args)/m.columns, maxRows)
		n, err := c.exec(ctx, m.byRows[rows-1], args[:rows*m.columns]...)
		if err != nil {
			return total, err
		}
		total += n
		args = args[rows*m.columns:]
	}
	return total, nil
}

// row reads one row. If there is none it is sql.ErrNoRows.
func (c *session) row(ctx context.Context, q statement, args []any, dest ...any) error {
	if c.store.cfg.Dialect.Local { // watching over the context would cost more than the read
		ctx = context.WithoutCancel(ctx)
	}
	found := false
	err := c.each(ctx, q, args, func(scan func(...any) error) error {
		if found {
			return nil
		}
		found = true
		return scan(dest...)
	})
	if err == nil && !found {
		return sql.ErrNoRows
	}
	return err
}

// each reads rows.
func (c *session) each(ctx context.Context, q statement, args []any, visit func(scan func(...any) error) error) (err error) {
	span := c.spanOf(ctx, q)
	defer func() { finish(span, err) }()
	rows, err := c.query(ctx, q, args)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		c.dirty = c.dirty || !q.reads
		if err := visit(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// access gives a session for one step: a reader's to committed state, or a transaction's.
type access interface {
	do(ctx context.Context, fn func(ctx context.Context, c *session) error) error
}

// readers is a pool of sessions over committed state.
type readers struct {
	store *Store
	free  chan *session // nil: not connected yet
}

func newReaders(s *Store, n int) *readers {
	r := &readers{store: s, free: make(chan *session, n)}
	for range n {
		r.free <- nil
	}
	return r
}

// do waits for a session. A connection that turns out to be gone is replaced, and the read begins again, once.
func (r *readers) do(ctx context.Context, fn func(ctx context.Context, c *session) error) error {
	err := r.once(ctx, fn)
	if err != nil && r.store.broken(err) && ctx.Err() == nil {
		err = r.once(ctx, fn)
	}
	return r.store.outside(err)
}

func (r *readers) once(ctx context.Context, fn func(ctx context.Context, c *session) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	var c *session
	select {
	case c = <-r.free:
	default:
		since := time.Now()
		select {
		case c = <-r.free:
			r.store.readUse.wait(since)
		case <-ctx.Done():
			return ctx.Err()
		case <-r.store.stopped:
			return ErrClosed
		}
	}
	clean := false
	r.store.readUse.busy.Add(1)
	defer func() { // also when a row's visitor panics
		if c != nil && (!clean || err != nil && (ctx.Err() != nil || r.store.broken(err))) { // an interrupted one may not be fit
			c.close(true)
			c = nil
			r.store.readUse.open.Add(-1)
		}
		r.store.readUse.busy.Add(-1)
		r.free <- c
	}()
	if c == nil {
		if c, err = r.store.open(ctx, r.store.cfg.Read); err != nil {
			return err
		}
		r.store.readUse.open.Add(1)
	}
	err = fn(ctx, c)
	clean = true
	return err
}

func (r *readers) close() {
	for range cap(r.free) {
		if c := <-r.free; c != nil {
			c.close(false)
		}
	}
}

// outside says of an error that comes of a lost connection that it is not the caller's.
func (s *Store) outside(err error) error {
	if _, classified := fault.As(err); classified || !s.broken(err) {
		return err
	}
	return fmt.Errorf("%w: %w", fault.New(fault.Unavailable, fault.CodeUnavailable, "the database cannot be reached now; try again in a moment"), err)
}

func (s *Store) broken(err error) bool {
	return err != nil && (errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) || s.cfg.Dialect.Lost(err))
}
