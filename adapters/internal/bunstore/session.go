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
// dialect's lock clause, {skip} for the one that passes over locked rows, {logs} for the join of logs.
type statement struct {
	id    int
	text  string
	reads bool // changes nothing

	// What follows matters where units of work run in lockstep.
	rank rank   // of the rows that it may have to wait for
	key  int    // the parameter that names the row
	room string // "": it keeps no other unit of the same transaction from the row; else the name of its kind of lock
	free bool   // it ends the lock on the row instead, before the unit itself does
	jobs bool   // it is about jobs
	bulk *bulk  // how it is said of many rows at once; nil if it is not
}

// rank is the place in the one order in which rows are locked everywhere.
type rank int

// The ranks.
const (
	unranked rank = iota // waits for nobody
	rankTask
	rankJob // one that is claimed
	rankRun
	rankAgent // and its evidence
	rankMoney
	rankAccess // sessions and keys
	rankDone   // jobs that the process itself has claimed
)

var statements []statement

func hot(text string) statement {
	q := statement{id: len(statements) + 1, text: text, reads: strings.HasPrefix(text, "SELECT")}
	statements = append(statements, q)
	return q
}

// ranked says that the statement may wait for the row that its parameter number key names.
func (q statement) ranked(r rank, key int) statement {
	q.rank, q.key = r, key
	return q
}

// locks says that the row is the unit's alone until the unit ends or a statement frees it.
func (q statement) locks(room string) statement {
	q.room = room
	return q
}

// frees says that the row is no longer the unit's alone.
func (q statement) frees(room string) statement {
	q.room, q.free = room, true
	return q
}

// ofJobs says that the statement has to see what the unit has done to jobs.
func (q statement) ofJobs() statement {
	q.jobs = true
	return q
}

// multi is an INSERT of several rows: a statement for each number of them.
type multi struct {
	columns int
	byRows  []statement
}

// maxRows is how many rows one statement inserts at most.
const maxRows = 8

// hotMulti makes an INSERT of rows that must all be new. The kinds are those of the columns, as in bulk.
func hotMulti(head, kinds, tail string) multi {
	m := multi{columns: len(kinds)}
	row := "(?" + strings.Repeat(", ?", m.columns-1) + ")"
	bulk := inserts(head, kinds, tail)
	for n := 1; n <= maxRows; n++ {
		q := hot(head + " VALUES " + row + strings.Repeat(", "+row, n-1) + " " + tail)
		m.byRows = append(m.byRows, q.inBulk(bulk))
	}
	return m
}

// calls are those that insert rows, maxRows at a time.
func (m multi) calls(args []any) []*call {
	var out []*call
	for len(args) > 0 {
		rows := min(len(args)/m.columns, maxRows)
		out = append(out, &call{statement: m.byRows[rows-1], args: args[:rows*m.columns]})
		args = args[rows*m.columns:]
	}
	return out
}

// call is a statement with its parameters, and what came of it.
type call struct {
	statement
	args  []any
	visit func(scan func(...any) error) error // for each row that it returns; nil if it returns none
	rows  int64                               // that were changed, or returned
}

// first reads the first row that a call returns.
func (q statement) first(args []any, dest ...any) *call {
	k := &call{statement: q, args: args}
	k.visit = func(scan func(...any) error) error {
		if k.rows > 1 {
			return nil
		}
		return scan(dest...)
	}
	return k
}

// link is a connection with its prepared statements.
type link struct {
	conn     *sql.Conn
	bun      bun.Conn
	prepared []*sql.Stmt
}

// session is a connection as one goroutine uses it: a reader's, a writer's, or a unit's of a group in lockstep.
type session struct {
	*link
	store *Store
	lane  *lane // of a unit that shares the connection with others; nil: nobody else uses it now
	ahead ahead
	memo  *memo // what the units of a transaction know together; nil: every change is written at once
	dirty bool  // something was, or may have been, changed
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
	return &session{store: s, link: &link{conn: c.Conn, bun: c, prepared: make([]*sql.Stmt, len(s.sql))}}, nil
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
	c.store.counts.roundTrips.Add(1)
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

// send runs statements one after the other; in lockstep it takes one round trip, which other units share.
func (c *session) send(ctx context.Context, calls ...*call) (err error) {
	if c.lane != nil {
		err = c.lane.send(ctx, calls)
	} else {
		for _, k := range calls {
			if err = c.run(ctx, k); err != nil {
				break
			}
		}
	}
	for _, k := range calls {
		c.dirty = c.dirty || !k.reads && (err != nil || k.rows > 0)
	}
	return err
}

// later runs statements, and then check, some time before the unit of work ends, and before anything else that it does
// where they matter. In lockstep they go with its next statement, those on jobs with the next one on jobs or the last, so
// that they take no round trip of their own.
func (c *session) later(ctx context.Context, check func() error, calls ...*call) error {
	if c.lane != nil {
		c.lane.behind = append(c.lane.behind, deferred{calls, check})
		return nil
	}
	if err := c.send(ctx, calls...); err != nil {
		return err
	}
	return check()
}

// remember writes what the units of the transaction know together, which begin anew.
func (c *session) remember(units ...*request) error {
	if c.memo == nil {
		return nil
	}
	calls := c.memo.write()
	return written(c.store.sharedSpans(units, calls), calls, c.send(context.Background(), calls...))
}

// forget ends what they know: the transaction is lost.
func (c *session) forget() {
	if c != nil {
		c.memo = nil
	}
}

// turn waits until no other unit of the transaction has the row, which needs no statement.
func (c *session) turn(r row) error {
	if c.lane == nil {
		return nil
	}
	return c.lane.turn(r)
}

// endTurn lets the next one have the row.
func (c *session) endTurn(r row) {
	if c.lane != nil {
		c.lane.freed = append(c.lane.freed, r)
	}
}

// flush runs what was left for later.
func (c *session) flush(ctx context.Context) error {
	if c.lane == nil || len(c.lane.behind) == 0 {
		return nil
	}
	c.lane.last = true
	return c.send(ctx)
}

// committed tells that the transaction is over, and all that the unit did is done.
func (c *session) committed() bool { return c.lane != nil && c.lane.group.over }

// run runs one statement on the connection.
func (c *session) run(ctx context.Context, k *call) (err error) {
	span := c.spanOf(ctx, k.statement)
	defer func() { finish(span, err) }()
	c.store.counts.roundTrips.Add(1)
	text := c.store.sql[k.id]
	var prepared *sql.Stmt
	if c.store.cfg.Dialect.Prepare {
		if prepared, err = c.stmt(ctx, k.statement); err != nil {
			return err
		}
	}
	k.rows = 0
	if k.visit == nil {
		var r sql.Result
		if prepared != nil {
			r, err = prepared.ExecContext(ctx, k.args...)
		} else {
			r, err = c.conn.ExecContext(ctx, text, k.args...)
		}
		if err == nil {
			k.rows, err = r.RowsAffected()
		}
		return err
	}
	var rows *sql.Rows
	if prepared != nil {
		rows, err = prepared.QueryContext(ctx, k.args...)
	} else {
		rows, err = c.conn.QueryContext(ctx, text, k.args...)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		k.rows++
		if err := k.visit(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// exec returns how many rows were changed.
func (c *session) exec(ctx context.Context, q statement, args ...any) (int64, error) {
	k := &call{statement: q, args: args}
	err := c.send(ctx, k)
	return k.rows, err
}

// row reads one row. If there is none it is sql.ErrNoRows.
func (c *session) row(ctx context.Context, q statement, args []any, dest ...any) error {
	if c.store.cfg.Dialect.Local { // watching over the context would cost more than the read
		ctx = context.WithoutCancel(ctx)
	}
	k := q.first(args, dest...)
	if err := c.send(ctx, k); err != nil {
		return err
	}
	if k.rows == 0 {
		return sql.ErrNoRows
	}
	return nil
}

// each reads rows.
func (c *session) each(ctx context.Context, q statement, args []any, visit func(scan func(...any) error) error) error {
	return c.send(ctx, &call{statement: q, args: args, visit: visit})
}

// access gives a session for one step: a reader's to committed state, or a transaction's.
type access interface {
	// do is for steps that use prepared statements only.
	do(ctx context.Context, fn func(ctx context.Context, c *session) error) error
	// solo is for steps that need the connection itself, as Bun does.
	solo(ctx context.Context, fn func(ctx context.Context, c *session) error) error
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

func (r *readers) solo(ctx context.Context, fn func(ctx context.Context, c *session) error) error {
	return r.do(ctx, fn)
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
