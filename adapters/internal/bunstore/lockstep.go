package bunstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nexus-protocol/nexus/ports"
)

// Lockstep. What a unit of work costs on a database server is its round trips, and while it waits for one it keeps
// others from the rows it has locked. So there a writer runs the units of a group at the same time, in one transaction:
// each runs until it needs the database, and when all of them wait, what they wait for is sent in one round trip. A
// group takes as many as its longest unit, and one commit.
//
//   - Statements that may wait for a row of someone else's are sent in the order of their rank and, within one, of the
//     row's name; a rank's turn comes when no unit of the group has business at a lower one. As all groups everywhere
//     do so, they do not wait for each other in a circle. Where one does all the same, the database breaks it, and its
//     units run again, each alone.
//   - The database does not keep the units of one transaction from each other's rows, so the group does: a row that one
//     unit has locked is its own until it ends. One that waits for such a row, and has changed nothing yet, waits for
//     the next transaction instead, so as to hold up nobody.
//   - A unit that failed after it had changed something takes the transaction with it. It runs again alone, the others
//     together.

// Call is a statement that a Dialect's Pipeline runs.
type Call struct {
	Text  string
	ID    int // of a text that comes again and again and is worth preparing; 0: of none
	Args  []any
	Visit func(scan func(...any) error) error // for each row that it returns; nil if none is wanted
	// Each is Visit for a statement whose first column is a number; scan reads the others.
	Each func(n int, scan func(...any) error) error
	Rows int64 // is set to how many were changed, where none is visited
}

// row names what a unit has locked.
type row struct {
	room string
	key  any
}

// lockstep is a group that runs.
type lockstep struct {
	w       *writer
	lanes   []*lane
	turn    chan *lane // those that came to wait, or ended
	held    map[row]*lane
	memo    *memo
	begun   bool
	over    bool  // it has committed
	failure error // of the transaction
}

// lane is a unit of a group.
type lane struct {
	group  *lockstep
	r      *request
	c      *session
	calls  []*call    // that it waits for
	stages int        // they may be sent rank by rank, and how far that is
	next   []*call    // of them, that are being sent
	behind []deferred // what goes before them
	wants  *row       // that it waits for, without a statement
	freed  []row      // that it has no longer
	last   bool       // what it waits for is all that it has left
	solo   bool       // it needs the connection itself, until it ends
	ended  bool       // its function has
	later  bool       // it waits for the next transaction
	reply  chan error // to what it waits for
	lost   error      // what it was told when it had to end; for its goroutine only
}

// deferred is what a unit left for later.
type deferred struct {
	calls []*call
	check func() error // of what came of them
}

var (
	errLater = errors.New("store: the unit of work waits for the next transaction")
	errGiven = errors.New("store: the transaction was given up")
)

// send waits until the group has sent the calls. In the unit's goroutine.
func (l *lane) send(ctx context.Context, calls []*call) error {
	due := l.due(calls)
	var behind []*call
	for _, d := range due {
		behind = append(behind, d.calls...)
	}
	l.calls = slices.Concat(behind, calls)
	if l.lost != nil || len(l.calls) == 0 {
		return l.lost
	}
	var spans []ports.Span
	if l.c.store.cfg.Tracer != nil {
		for _, k := range l.calls {
			spans = append(spans, l.c.spanOf(ctx, k.statement))
		}
	}
	l.group.turn <- l
	l.lost = <-l.reply
	for _, span := range spans {
		finish(span, l.lost)
	}
	for _, k := range behind {
		l.c.dirty = l.c.dirty || l.lost != nil || k.rows > 0
	}
	for _, d := range due {
		if l.lost == nil {
			l.lost = d.check()
		}
	}
	return l.lost
}

// due takes what goes before the calls out of what was left for later. What was done to jobs, the last in the order of
// locks, stays until the unit comes to jobs again, or to its end: what it locks until then would come too late.
func (l *lane) due(calls []*call) []deferred {
	ofJobs := func(k *call) bool { return k.jobs }
	if len(calls) == 0 || slices.ContainsFunc(calls, ofJobs) {
		due := l.behind
		l.behind = nil
		return due
	}
	var due, rest []deferred
	for _, d := range l.behind {
		if slices.ContainsFunc(d.calls, ofJobs) {
			rest = append(rest, d)
		} else {
			due = append(due, d)
		}
	}
	l.behind = rest
	return due
}

// turn waits until the unit has the row for itself. In the unit's goroutine.
func (l *lane) turn(r row) error {
	if l.lost != nil {
		return l.lost
	}
	l.wants = &r
	l.group.turn <- l
	l.lost = <-l.reply
	return l.lost
}

// alone waits until the unit has the connection for itself. In the unit's goroutine.
func (l *lane) alone(ctx context.Context) error {
	if err := l.send(ctx, nil); err != nil {
		return err
	}
	l.solo = true
	l.group.turn <- l
	if l.lost = <-l.reply; l.lost == nil {
		l.c.lane, l.c.memo = nil, nil
	}
	return l.lost
}

// together runs requests in lockstep and answers them, but for those that it leaves to be run again.
func (w *writer) together(rs []*request) {
	g := &lockstep{w: w, turn: make(chan *lane, len(rs)), held: map[row]*lane{}, memo: newMemo()}
	if w.c == nil { // which begin does otherwise
		if w.failed = w.connect(context.Background()); w.failed != nil {
			w.alone = append(w.alone, rs...)
			w.end()
			return
		}
	}
	for _, r := range rs {
		r.begun(w.store)
		if r.out.ended() {
			r.answer(r.out.err)
			continue
		}
		if err := r.ctx.Err(); err != nil {
			r.answer(err)
			continue
		}
		l := &lane{group: g, r: r, reply: make(chan error, 1)}
		l.c = &session{store: w.store, link: w.c.link, lane: l, memo: g.memo}
		g.lanes = append(g.lanes, l)
	}
	for _, l := range g.lanes {
		go l.run()
	}
	g.wait(len(g.lanes))
	for g.step() {
	}
	g.remember()
	w.open, w.failed = g.begun && !g.over, g.failure
	g.close()
}

func (l *lane) run() {
	defer func() {
		l.ended = true
		l.group.turn <- l
	}()
	l.r.let(l.c)
	if errors.Is(l.lost, errLater) || errors.Is(l.lost, errGiven) { // whatever it made of that
		l.r.out = outcome{err: l.lost}
	}
}

// wait is over when so many units have come to wait, or ended.
func (g *lockstep) wait(n int) {
	for range n {
		l := <-g.turn
		for _, r := range l.freed {
			delete(g.held, r)
		}
		l.freed = nil
		if !l.ended {
			continue
		}
		for k, owner := range g.held {
			if owner == l {
				delete(g.held, k)
			}
		}
	}
}

// step lets the group go on where it can; false when there is nothing left to do.
func (g *lockstep) step() bool {
	if g.grant() {
		return true
	}
	var free, blocked, solo, open []*lane
	spoiled := false
	for _, l := range g.lanes {
		if !l.ended {
			open = append(open, l)
		}
		switch {
		case l.ended:
			spoiled = spoiled || l.broke()
		case l.solo:
			solo = append(solo, l)
		case l.wants != nil || g.blocked(l, l.stage()):
			blocked = append(blocked, l)
		default:
			free = append(free, l)
		}
	}
	switch {
	case spoiled:
		g.postpone(open)
		return false
	case len(free) > 0:
	case len(solo) > 0:
		g.alone(solo[0])
		return true
	case len(blocked) > 0:
		g.giveUp(errors.New("store: units of work wait for each other"))
		return true
	default:
		return false
	}
	if len(solo) == 0 && len(blocked) == 0 {
		if batch := g.foreseen(open); len(batch) > 0 {
			// Those that are left out would take their locks too late.
			g.postpone(slices.DeleteFunc(open, func(l *lane) bool { return l.c.dirty || slices.Contains(batch, l) }))
			for _, l := range batch {
				l.next = l.calls
			}
			g.send(batch, inOrder(batch, true), nil)
			return true
		}
	}
	batch := slices.DeleteFunc(slices.Clone(free), func(l *lane) bool { return l.rank() != unranked })
	heirs := g.heirs(batch, blocked)
	if len(batch) == 0 {
		clean := slices.DeleteFunc(blocked, func(l *lane) bool { return l.c.dirty || l.wants != nil })
		if len(clean) > 0 {
			g.postpone(clean)
			return true
		}
		batch = g.lowest(free)
	}
	for _, l := range append(slices.Clone(batch), heirs...) {
		l.next = l.stage()
	}
	g.send(append(batch, heirs...), inOrder(batch, false), inOrder(heirs, false))
	return true
}

// grant gives units the rows that they wait for without a statement, as far as they are free.
func (g *lockstep) grant() bool {
	var lucky []*lane
	for _, l := range g.lanes {
		if !l.ended && l.wants != nil && g.held[*l.wants] == nil {
			g.held[*l.wants] = l
			l.wants = nil
			lucky = append(lucky, l)
		}
	}
	for _, l := range lucky {
		l.reply <- nil
	}
	g.wait(len(lucky))
	return len(lucky) > 0
}

// blocked tells whether calls of a unit wait for a row that another one has.
func (g *lockstep) blocked(l *lane, calls []*call) bool {
	for _, k := range calls {
		if k.room != "" && !k.free {
			if owner := g.held[k.row()]; owner != nil && owner != l {
				return true
			}
		}
	}
	return false
}

// heirs are those who wait for a row that one of the batch is about to free: they can follow it at once, as the database
// gave it to their transaction already.
func (g *lockstep) heirs(batch, blocked []*lane) []*lane {
	freed := map[row]bool{}
	for _, l := range batch {
		for _, k := range l.calls {
			if k.free {
				freed[k.row()] = true
			}
		}
	}
	if len(freed) == 0 {
		return nil
	}
	var out []*lane
	for _, l := range blocked {
		var locks []row
		waits := l.stages != 0
		for _, k := range l.calls {
			if k.room != "" && !k.free {
				locks = append(locks, k.row())
				waits = waits || !freed[k.row()]
			}
		}
		if waits {
			continue
		}
		for _, r := range locks {
			delete(freed, r) // for one
		}
		out = append(out, l)
	}
	return out
}

func (k *call) row() row { return row{k.room, k.args[k.key]} }

// rank is the highest of the calls that a unit waits for.
func (l *lane) rank() rank {
	r := unranked
	for _, k := range l.stage() {
		r = max(r, k.rank)
	}
	return r
}

// postpone ends units, which the next transaction begins again.
func (g *lockstep) postpone(waiting []*lane) {
	for _, l := range waiting {
		l.later = true
		l.reply <- errLater
	}
	g.wait(len(waiting))
}

// broke tells that a unit has failed and leaves changes behind.
func (l *lane) broke() bool { return l.r.out.err != nil && l.c.dirty && !l.later }

// lowest are the units whose turn it is: those of the lowest rank, of which only one gets the same lock.
func (g *lockstep) lowest(free []*lane) []*lane {
	first := slices.MinFunc(free, func(a, b *lane) int { return cmp.Compare(a.rank(), b.rank()) }).rank()
	taken := locks{}
	var batch []*lane
	for _, l := range free {
		if l.rank() != first {
			continue
		}
		if taken.take(l.stage()) {
			batch = append(batch, l)
		}
	}
	return batch
}

// locks are those that the units of a batch take.
type locks map[row]bool

// take adds those of calls, unless one of them is another unit's.
func (t locks) take(calls []*call) bool {
	for _, k := range calls {
		if k.room != "" && t[k.row()] {
			return false
		}
	}
	for _, k := range calls {
		if k.room != "" {
			t[k.row()] = true
		}
	}
	return true
}

// inOrder is what is sent for units, by the rows that they may have to wait for themselves; where that is of several ranks, by
// rank first.
func inOrder(batch []*lane, ranks bool) []*call {
	type sorted struct {
		rank rank
		by   string // the row that it, or a call of the same unit before it, may have to wait for
		k    *call
	}
	var all []sorted
	for _, l := range batch {
		var s sorted
		for _, k := range l.next {
			if k.rank != unranked {
				s.by = fmt.Sprint(k.args[k.key])
				if ranks {
					s.rank = k.rank
				}
			}
			s.k = k
			all = append(all, s)
		}
	}
	slices.SortStableFunc(all, func(a, b sorted) int { return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.by, b.by)) })
	calls := make([]*call, len(all))
	for i, s := range all {
		calls[i] = s.k
	}
	return calls
}

// send sends what units wait for, what their heirs wait for behind it, and lets those go on that have all of it.
func (g *lockstep) send(batch []*lane, calls, behind []*call) {
	calls = append(calls, behind...)
	var known []*call
	ending := g.ending(batch)
	if ending { // what they know together goes with it
		known = g.memo.write()
		calls = append(calls, known...)
	}
	run := g.pipeline
	if ending && g.mayCommit(calls) {
		run = g.finish
	}
	spans := g.spans(known)
	if err := written(spans, known, run(calls)); err != nil {
		g.giveUp(err)
		return
	}
	for _, k := range calls {
		if k.free {
			delete(g.held, k.row())
		}
	}
	var whole []*lane
	for _, l := range batch {
		for _, k := range l.next {
			if k.room != "" && !k.free {
				g.held[k.row()] = l
			}
		}
		l.calls, l.next = l.calls[len(l.next):], nil
		if len(l.calls) > 0 {
			l.stages = partway
			continue
		}
		l.stages = 0
		whole = append(whole, l)
	}
	for _, l := range whole {
		l.reply <- nil
	}
	g.wait(len(whole))
}

// pipeline sends calls in one round trip, the first time behind a BEGIN.
func (g *lockstep) pipeline(calls []*call) error {
	s := g.w.store
	lots, out, err := s.inLots(calls, (*lot).sent)
	if err != nil {
		return err
	}
	if !g.begun {
		out = append([]Call{{Text: s.cfg.Dialect.Begin}}, out...)
	}
	s.counts.roundTrips.Add(1)
	err = s.cfg.Dialect.Pipeline(g.w.c.conn, out)
	g.begun = true // or perhaps not, which the end of it finds out
	if err != nil {
		return err
	}
	for i, l := range lots {
		if err := l.answered(out[len(out)-len(lots)+i]); err != nil {
			return err
		}
	}
	return nil
}

// mayCommit tells whether calls, the last of the transaction, can take the COMMIT with them: it has begun, so that one that
// fails has not happened unless the connection is lost, and no unit has a reason to take it back.
func (g *lockstep) mayCommit(calls []*call) bool {
	if !g.begun || len(calls) == 0 || !g.w.store.ends(calls) {
		return false
	}
	some := false
	for _, l := range g.lanes {
		switch {
		case l.later:
		case l.ended:
			if l.broke() {
				return false
			}
			some = some || l.r.out.err == nil
		case l.r.ctx.Err() != nil:
			return false
		default:
			some = true
		}
	}
	return some
}

// finish sends the last calls and the COMMIT in one round trip. Each call must change its rows, or all is lost.
func (g *lockstep) finish(calls []*call) (err error) {
	s := g.w.store
	lots, out, err := s.inLots(calls, (*lot).sentExactly)
	if err != nil {
		return err
	}
	var units []*request
	for _, l := range g.lanes {
		if !l.later {
			units = append(units, l.r)
		}
	}
	for _, span := range g.w.commitSpans(units) {
		defer func() { span.End(err) }()
	}
	s.counts.commits.Add(1)
	s.counts.roundTrips.Add(1)
	err = s.cfg.Dialect.Pipeline(g.w.c.conn, append(out, Call{Text: "COMMIT"}))
	switch {
	case err == nil:
	case s.cfg.Dialect.Short(err):
		return errShort
	default:
		g.w.unsure = s.broken(err)
		return err
	}
	for _, l := range lots {
		l.allChanged()
	}
	g.over = true
	return nil
}

// counted is a call's visit, which may look at how many rows there were.
func (k *call) counted() func(scan func(...any) error) error {
	if k.visit == nil {
		return nil
	}
	return func(scan func(...any) error) error {
		k.rows++
		return k.visit(scan)
	}
}

// remember writes what the units know together, unless all is lost anyway.
func (g *lockstep) remember() {
	if g.failure != nil || slices.ContainsFunc(g.lanes, (*lane).broke) {
		return
	}
	g.failure = g.write(false)
}

// write writes what the units know together; open says that some of them have not ended.
func (g *lockstep) write(open bool) error {
	calls := g.memo.write()
	if len(calls) == 0 {
		return nil
	}
	run := g.pipeline
	if !open && g.mayCommit(calls) {
		run = g.finish
	}
	return written(g.spans(calls), calls, run(calls))
}

// written ends spans, and returns why calls that each must change something did not.
func written(spans []ports.Span, calls []*call, err error) error {
	if err == nil && short(calls) {
		err = errShort
	}
	finishAll(spans, err)
	return err
}

func (g *lockstep) spans(calls []*call) []ports.Span {
	if g.w.store.cfg.Tracer == nil {
		return nil
	}
	units := make([]*request, len(g.lanes))
	for i, l := range g.lanes {
		units[i] = l.r
	}
	return g.w.store.sharedSpans(units, calls)
}

// ending tells whether the units of a batch are all that have not ended, and have nothing left after it.
func (g *lockstep) ending(batch []*lane) bool {
	for _, l := range g.lanes {
		if !l.ended && (!l.last || !slices.Contains(batch, l)) {
			return false
		}
	}
	return true
}

// short tells that one of the calls did not change what it was to change.
func short(calls []*call) bool {
	return slices.ContainsFunc(calls, func(k *call) bool { return k.rows == 0 && k.id != qScore.id })
}

// alone lets a unit have the connection until it ends. The others wait.
func (g *lockstep) alone(l *lane) {
	if !g.begun {
		if err := g.w.begin(l.r); err != nil {
			g.giveUp(err)
			return
		}
		g.begun = true
		for _, other := range g.lanes { // it may be a new one
			other.c.link = g.w.c.link
		}
	}
	if err := g.write(true); err != nil {
		g.giveUp(err)
		return
	}
	l.solo = false
	l.reply <- nil
	g.wait(1)
	if !l.ended {
		panic("store: a unit of work that is alone waits for others")
	}
}

// giveUp ends all units: the transaction is lost.
func (g *lockstep) giveUp(err error) {
	g.failure = err
	n := 0
	for _, l := range g.lanes {
		if !l.ended {
			l.reply <- fmt.Errorf("%w: %w", errGiven, err)
			n++
		}
	}
	g.wait(n)
}

// close decides over the transaction.
func (g *lockstep) close() {
	w := g.w
	var broke []*request // failed, and had changed something
	var later []*request
	for _, l := range g.lanes {
		switch {
		case l.later:
			later = append(later, l.r)
		case g.failure == nil && l.broke():
			broke = append(broke, l.r)
		default:
			w.ran = append(w.ran, l.r)
			if l.r.out.err == nil {
				w.kept++
			}
		}
	}
	w.redo = append(later, w.redo...)
	if len(broke) > 0 {
		if w.open {
			w.rollback()
		}
		w.redo = append(slices.Clone(w.ran), w.redo...)
		w.open, w.ran, w.kept = false, w.ran[:0], 0
		w.alone = append(w.alone, broke...)
	}
	w.end()
}
