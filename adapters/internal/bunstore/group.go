package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/ports"
)

// Group commit. A writer takes whatever units of work wait, runs one after the other in one transaction, commits once,
// and only then answers any of them; nothing waits for company. A unit that fails harms nobody:
//
//   - If it has changed nothing there is nothing to take back.
//   - Otherwise the transaction is rolled back and the others run again, each behind a savepoint from then on, for a
//     while: failures come in rows, and savepoints cost every unit a little.
//
// The answer of one that failed waits for the commit too, because what it failed on may have been another's uncommitted
// change. When the transaction as a whole fails, its units run again, each alone.

const (
	maxGroup   = 256 // units in one transaction
	careful    = 512 // units that get a savepoint after one has failed
	maxRetries = 8   // of a unit that runs alone
	retryBase  = time.Millisecond
	retryMax   = 100 * time.Millisecond
)

// Where a request is.
const (
	waiting int32 = iota
	taken         // by a writer, which will answer it
	gone          // its context ended before its turn
)

// request is one Update.
type request struct {
	ctx     context.Context
	since   time.Time // when it began to wait; zero if there was a writer to take it at once
	fn      func(ctx context.Context, tx ports.Tx) error
	state   atomic.Int32
	verdict chan outcome
	out     outcome // of the newest run
}

// outcome is how a run ended.
type outcome struct {
	err      error // the function's, or that of a step that failed
	again    bool  // running again may help
	panicked bool
	value    any // what it panicked with
	exited   bool
}

func (r *request) take() bool { return r.state.CompareAndSwap(waiting, taken) }

// begun notes how long the request has waited.
func (r *request) begun(s *Store) {
	if !r.since.IsZero() {
		s.writeUse.wait(r.since)
		r.since = time.Time{}
	}
}

func (r *request) leave() bool { return r.state.CompareAndSwap(waiting, gone) }

// answer gives the verdict, once.
func (r *request) answer(err error) {
	r.out.err = err
	r.verdict <- r.out // has room
}

// ended says that fn did not return: it must not run again.
func (o outcome) ended() bool { return o.panicked || o.exited }

type insideKey struct{ *Store }

// Update implements ports.Store. When ctx ends while fn waits for its turn, fn is not run; when it ends while fn runs,
// what it did is rolled back. Once fn has returned nil under a live ctx its commit has begun, and Update waits for how
// that ends. fn runs in a goroutine of the store's, one at a time for each writer; if it panics, Update does.
func (s *Store) Update(ctx context.Context, fn func(ctx context.Context, tx ports.Tx) error) error {
	key := insideKey{s}
	if ctx.Value(key) != nil {
		return ports.ErrNestedUpdate
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-s.closing:
		return ErrClosed
	default:
	}
	r := &request{ctx: context.WithValue(ctx, key, true), fn: fn, verdict: make(chan outcome, 1)}
	if s.writeUse.busy.Load() >= int64(s.cfg.Writers) {
		r.since = time.Now()
	}
	ended, stopped := ctx.Done(), s.stopped
	select {
	case s.queue <- r:
	case <-ended:
		return ctx.Err()
	case <-stopped:
		return ErrClosed
	}
	for {
		select {
		case out := <-r.verdict:
			switch {
			case out.panicked:
				panic(out.value)
			case out.exited:
				runtime.Goexit()
			}
			return s.outside(out.err)
		case <-ended:
			if r.leave() {
				return ctx.Err()
			}
			ended = nil // it is being decided: wait
		case <-stopped:
			if r.leave() {
				return ErrClosed
			}
			stopped = nil // the verdict is there
		}
	}
}

// txn is a running transaction as one unit of work sees it.
type txn struct {
	c      *session
	failed error // a step's: the transaction must be given up
	ended  atomic.Bool
}

var errEnded = errors.New("store: the transaction has ended")

// do runs one step. Statements of a transaction are never interrupted: on SQLite that would roll back the whole of it,
// neighbours included. After a step has failed all others do, so that nothing is written behind the back of a
// transaction that the database has already given up. A row that is not there is no failure.
func (t *txn) do(ctx context.Context, fn func(ctx context.Context, c *session) error) error {
	switch {
	case t.ended.Load():
		return errEnded
	case t.failed != nil:
		return fmt.Errorf("an earlier step of the transaction failed: %w", t.failed)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	err := fn(context.WithoutCancel(ctx), t.c)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		t.failed = err
		if _, refused := fault.As(err); !refused { // by the database, which may have given up the transaction
			t.c.dirty = true
		}
	}
	return err
}

func (t *txn) solo(ctx context.Context, fn func(ctx context.Context, c *session) error) error {
	return t.do(ctx, func(ctx context.Context, c *session) error {
		if c.lane != nil {
			if err := c.lane.alone(ctx); err != nil {
				return err
			}
		}
		if err := c.remember(); err != nil {
			return err
		}
		return fn(ctx, c)
	})
}

// retryable tells an error after which a unit of work may do better when it runs again.
func (s *Store) retryable(err error) bool {
	return err != nil && (s.cfg.Dialect.Retryable(err) || s.broken(err))
}

// writer owns a connection and runs transactions on it, one at a time.
type writer struct {
	store   *Store
	c       *session // nil: not connected
	careful int      // so many units get a savepoint

	redo   []*request // to be run again, before those that wait
	alone  []*request // to be run again, each by itself
	open   bool       // a transaction, in which there are:
	ran    []*request // in their order, also those that failed without a trace
	kept   int        // how many of ran succeeded
	failed error      // the transaction's
	unsure bool       // it may have been committed all the same
}

// run works until the store closes.
func (w *writer) run() {
	finished := false
	defer func() {
		switch {
		case !finished: // a unit has ended this goroutine
			w.store.writers.Go(w.goOn)
		case w.c != nil:
			w.c.close(false)
		}
	}()
	for closing := false; ; {
		r := w.next()
		switch {
		case r != nil:
		case closing:
			finished = true
			return
		default:
			select {
			case r = <-w.store.queue:
				if !r.take() {
					continue
				}
			case <-w.store.closing:
				closing = true // but first what waits
				continue
			}
		}
		w.group(r)
	}
}

// goOn takes over from a goroutine that was ended.
func (w *writer) goOn() {
	w.failed = errors.New("a unit of work ended its goroutine")
	w.end()
	w.run()
}

// next is a request whose turn it is, nil if none waits or the transaction is full.
func (w *writer) next() *request {
	if len(w.redo) > 0 {
		r := w.redo[0]
		w.redo = w.redo[1:]
		return r
	}
	for len(w.ran) < w.store.cfg.Group {
		select {
		case r := <-w.store.queue:
			if r.take() {
				return r
			}
		default:
			return nil
		}
	}
	return nil
}

// group runs a request and all that wait behind it.
func (w *writer) group(first *request) {
	w.store.writeUse.busy.Add(1)
	defer w.store.writeUse.busy.Add(-1)
	if w.store.cfg.Dialect.Pipeline != nil {
		var all []*request
		for r := first; r != nil; r = w.next() {
			all = append(all, r)
			w.ran = all // which is what next counts
		}
		w.ran = nil
		w.together(all)
		return
	}
	for r := first; r != nil; r = w.next() {
		if w.add(r); w.failed != nil {
			break
		}
	}
	w.end()
}

// add runs one unit in the transaction.
func (w *writer) add(r *request) {
	r.begun(w.store)
	if r.out.ended() {
		r.answer(r.out.err)
		return
	}
	if err := r.ctx.Err(); err != nil {
		r.answer(err)
		return
	}
	if !w.open {
		if w.begin(r) != nil {
			w.alone = append(w.alone, r) // where it is tried again
			return
		}
		w.open = true
		if w.careful == 0 { // else what a unit left has to be there before the next one's savepoint
			w.c.memo = newMemo()
		}
	}
	guarded := w.careful > 0 && w.kept > 0
	w.careful = max(w.careful-1, 0)
	w.ran = append(w.ran, r)
	if guarded {
		if w.failed = w.exec(qSavepoint); w.failed != nil {
			return
		}
	}
	r.let(w.c)
	if r.out.err != nil && r.out.again { // all locks must go: to keep those of the others could make the next one fail alike
		w.failed = r.out.err
		return
	}
	switch dirty := r.out.err != nil && w.c.dirty; {
	case r.out.err == nil:
		w.kept++
		if guarded {
			w.failed = w.exec(qForget)
		}
	case guarded:
		if dirty {
			w.failed = w.exec(qRollbackTo)
		}
		if w.failed == nil {
			w.failed = w.exec(qForget)
		}
	case dirty: // what it changed cannot be told from what the others did
		w.careful = careful
		w.rollback()
		if w.kept > 0 {
			w.redo = append(slices.Clone(w.ran), w.redo...)
		} else { // all that ran rests on what is committed
			for _, r := range w.ran {
				r.answer(r.out.err)
			}
		}
		w.open, w.ran, w.kept = false, nil, 0
		w.c.forget()
	}
}

// end commits, answers, and runs those that have to run alone.
func (w *writer) end() {
	unknown := w.unsure
	w.unsure = false
	if w.open && w.failed == nil && w.kept > 0 {
		w.failed = w.c.remember(w.ran...)
	}
	if w.open && w.failed == nil && w.kept > 0 {
		if w.failed = w.commit(w.ran); w.failed == nil {
			w.open = false
		} else {
			unknown = w.store.broken(w.failed)
		}
	}
	if w.open {
		w.rollback()
	}
	switch {
	case w.failed == nil:
		for _, r := range w.ran {
			r.answer(r.out.err)
		}
	case unknown: // it may have been committed, so it must not run again
		for _, r := range w.ran {
			r.answer(unknownOutcome(w.failed))
		}
	default:
		w.alone = append(slices.Clone(w.ran), w.alone...)
	}
	w.c.forget()
	w.open, w.ran, w.kept, w.failed = false, w.ran[:0], 0, nil
	for len(w.alone) > 0 {
		r := w.alone[0]
		w.alone = w.alone[1:]
		w.single(r)
	}
}

func unknownOutcome(err error) error { return fmt.Errorf("commit, with unknown outcome: %w", err) }

// single runs a request in a transaction of its own, again when that may help.
func (w *writer) single(r *request) {
	for try := 0; ; try++ {
		if r.out.ended() {
			r.answer(r.out.err)
			return
		}
		if err := r.ctx.Err(); err != nil {
			r.answer(err)
			return
		}
		again, err := w.attempt(r)
		if !again || try == maxRetries {
			r.answer(err)
			return
		}
		wait := min(retryBase<<try, retryMax)
		select {
		case <-time.After(wait/2 + rand.N(wait/2)):
		case <-r.ctx.Done():
		}
	}
}

func (w *writer) attempt(r *request) (again bool, err error) {
	if err := w.begin(r); err != nil {
		return w.store.retryable(err), err
	}
	w.open, w.ran = true, append(w.ran, r) // in case it ends the goroutine
	r.let(w.c)
	w.open, w.ran = false, w.ran[:0]
	if r.out.err != nil {
		w.rollback()
		return r.out.again, r.out.err
	}
	if err := w.commit([]*request{r}); err != nil {
		w.rollback()
		if w.store.broken(err) {
			return false, unknownOutcome(err)
		}
		return w.store.retryable(err), fmt.Errorf("commit: %w", err)
	}
	return false, nil
}

// let runs the unit's function and notes how it ended, whichever way that was.
func (r *request) let(c *session) {
	c.dirty = false
	t := &txn{c: c}
	returned := false
	defer func() {
		t.ended.Store(true)
		if returned {
			return
		}
		if p := recover(); p != nil {
			r.out = outcome{err: errors.New("the unit of work panicked"), panicked: true, value: p}
		} else {
			r.out = outcome{err: errors.New("the unit of work ended its goroutine"), exited: true}
		}
	}()
	err := r.fn(r.ctx, newViews(t).tx())
	if err == nil && t.failed == nil {
		err = t.do(r.ctx, func(ctx context.Context, c *session) error { return c.flush(ctx) })
	}
	returned = true
	switch {
	case t.failed != nil && err == nil: // it went on after an error that it must not go on after
		err = fmt.Errorf("a step of the transaction failed: %w", t.failed)
	case err == nil && !c.committed():
		err = r.ctx.Err()
	}
	r.out = outcome{err: err, again: c.store.retryable(t.failed)}
}

var (
	qSavepoint  = hot(`SAVEPOINT unit`)
	qForget     = hot(`RELEASE SAVEPOINT unit`)
	qRollbackTo = hot(`ROLLBACK TO SAVEPOINT unit`)
)

func (w *writer) exec(q statement) error {
	_, err := w.c.exec(context.Background(), q)
	return err
}

// begin starts a transaction for the unit, on a new connection if the old one is gone.
func (w *writer) begin(r *request) error {
	ctx := context.WithoutCancel(r.ctx)
	for fresh := false; ; fresh = true {
		if w.c == nil {
			fresh = true
			if err := w.connect(ctx); err != nil {
				return err
			}
		}
		err := w.c.plain(ctx, w.store.cfg.Dialect.Begin)
		if err == nil {
			return nil
		}
		err = fmt.Errorf("begin: %w", err)
		lost := w.store.broken(err)
		if lost || !w.store.cfg.Dialect.Retryable(err) {
			w.discard()
		}
		if fresh || !lost {
			return err
		}
	}
}

// connect opens the writer's connection.
func (w *writer) connect(ctx context.Context) error {
	c, err := w.store.open(ctx, w.store.cfg.Write)
	if err != nil {
		return err
	}
	if told := w.store.cfg.Dialect.Writer; told != "" {
		if err := c.plain(ctx, told); err != nil {
			c.close(true)
			return fmt.Errorf("prepare to write: %w", err)
		}
	}
	w.c = c
	w.store.writeUse.open.Add(1)
	return nil
}

// commit ends the transaction of the units.
func (w *writer) commit(units []*request) (err error) {
	for _, span := range w.commitSpans(units) {
		defer func() { span.End(err) }()
	}
	w.store.counts.commits.Add(1)
	commit := func() error { return w.c.plain(context.Background(), "COMMIT") }
	if around := w.store.cfg.Commit; around != nil {
		return around(commit)
	}
	return commit()
}

// rollback ends the transaction. A connection on which that fails is in a state that nobody knows, and is thrown away.
func (w *writer) rollback() {
	if w.c != nil && w.c.plain(context.Background(), "ROLLBACK") != nil {
		w.discard()
	}
}

func (w *writer) discard() {
	w.c.close(true)
	w.c = nil
	w.store.writeUse.open.Add(-1)
}
