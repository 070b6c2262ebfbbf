package app

import (
	"context"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/scheduler"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// How what is watched is read.
const (
	watchLook    = 15 * time.Second // without a wake: one is lost when a process dies between its commit and its publication
	watchAlone   = 2 * time.Second  // the same where nobody wakes
	watchSpread  = 8                // looks are spread over as many steps
	watchBatch   = 128              // events of one read
	watchLogs    = 64               // logs of one read
	watchReaders = 2                // reads at a time, however many are woken at once
	watchRetry   = time.Second      // after a read that failed
	watchTimeout = 10 * time.Second // of one read, which is nobody's request
)

// FromState is the position of a watcher that wants to know first how things stand, and then what changes.
const FromState int64 = -1

// Watcher gets what happens in one task or run, from its log. It is for one goroutine.
type Watcher[E any] struct {
	feeds     *feeds[E]
	feed      *feed[E]
	at        *link[E]
	authorize func(identity.Caller) error
	ready     []E   // to be returned before all else
	seq       int64 // of the last event that was returned or is ready
	behind    int64 // up to this one the watcher reads for itself
	over      bool  // the last event was returned, or is ready
}

// position is how far a log is.
type position struct {
	seq  int64 // of its newest event
	over bool  // there will be none after it
}

// watch begins to watch. open reads how far the log is by now, who may watch it, and, where it is asked for from
// FromState, how things stand.
func (s *feeds[E]) watch(c identity.Caller, id string, after int64, open func() (position, func(identity.Caller) error, []E, error)) (*Watcher[E], error) {
	w := &Watcher[E]{feeds: s, feed: s.join(id), seq: after} // before the first look, so that nothing comes in between
	now, authorize, state, err := open()
	if err == nil {
		err = authorize(c)
	}
	if err != nil {
		w.Close()
		return nil, err
	}
	w.authorize = authorize
	var known int64
	w.at, known = s.start(w.feed, now)
	if w.seq == FromState {
		w.ready, w.seq = state, now.seq
	}
	w.seq = min(w.seq, now.seq) // one who claims to have seen more still sees the end
	w.behind = max(known, now.seq)
	w.over = now.over && w.seq == now.seq
	return w, nil
}

// Authorize decides whether a caller may watch, such as the one who opened the watcher, as he is by now. It reads nothing.
func (w *Watcher[E]) Authorize(c identity.Caller) error { return w.authorize(c) }

// Over reports whether nothing more will come, so that Next would return io.EOF.
func (w *Watcher[E]) Over() bool { return w.over && len(w.ready) == 0 }

// Next waits for events and returns them. After the last one it returns io.EOF. When there is something in
// interrupt, which may be nil, it returns none, and may be called again; so it does with an error of ctx.
func (w *Watcher[E]) Next(ctx context.Context, interrupt <-chan struct{}) ([]E, error) {
	if len(w.ready) > 0 {
		out := w.ready
		w.ready = nil
		return out, nil
	}
	if w.over {
		return nil, io.EOF
	}
	if w.seq < w.behind {
		events, err := w.feeds.one(ctx, w.feed.id, w.seq)
		if err != nil {
			return nil, err
		}
		if len(events) > 0 {
			return w.take(events), nil
		}
		w.behind = w.seq
	}
	var wake <-chan struct{}
	if w.feed.sub != nil {
		wake = w.feed.sub.Wake()
	}
	for {
		select {
		case <-w.at.grown:
			events := w.at.events
			w.at = w.at.next
			for len(events) > 0 && w.feeds.place(events[0]).seq <= w.seq { // read already
				events = events[1:]
			}
			if len(events) > 0 {
				return w.take(events), nil
			}
		case <-wake: // it is that of all who watch the same: whoever takes it sees to the read
			w.feeds.look(w.feed)
		case <-interrupt:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (w *Watcher[E]) take(events []E) []E {
	last := w.feeds.place(events[len(events)-1])
	w.seq, w.over = last.seq, last.over
	return events
}

// Close ends the watcher. A second one does nothing.
func (w *Watcher[E]) Close() {
	if w.feed != nil {
		w.feeds.leave(w.feed)
		w.feed, w.at, w.ready, w.over = nil, nil, nil, true
	}
}

// feeds are the logs of one kind that are watched in this process. What a log grows by is handed to all who watch it: by
// the unit of work that has written it, if it was one of this process, or else by one of few readers, which reads it once.
type feeds[E any] struct {
	core  *core
	what  string           // they are logs of
	place func(E) position // of an event
	// one reads the next events of one log, many those of several after the positions; more says that some of them may have
	// grown by more.
	one  func(ctx context.Context, id string, seq int64) ([]E, error)
	many func(ctx context.Context, after []ports.Position) (grown map[string][]E, more bool, err error)

	mu      sync.Mutex
	byID    map[string]*feed[E]
	queue   []*feed[E] // those that are to be read
	readers int
	looking bool // somebody looks after the feeds that nobody wakes
	step    int
}

// feed is one log that is watched.
type feed[E any] struct {
	id  string
	sub ports.Subscription // nil where nobody wakes

	// Under the lock of feeds:
	watchers int
	known    bool  // from where on to read
	seq      int64 // of the last event that was read
	over     bool  // that was its last
	queued   bool
	reading  bool
	again    bool // it was woken while it was read
	looked   int  // the step at which it was read last
	tail     *link[E]
}

// link leads from one moment in a feed to the next. It holds no more than what comes after it, so that a watcher that has
// everything holds nothing, and one that lags what it lacks.
type link[E any] struct {
	grown  chan struct{} // closed once the rest is there
	events []E
	next   *link[E]
}

func newLink[E any]() *link[E] { return &link[E]{grown: make(chan struct{})} }

// join adds a watcher to a feed.
func (s *feeds[E]) join(id string) *feed[E] {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.byID[id]
	if f == nil {
		f = &feed[E]{id: id, tail: newLink[E](), looked: s.step}
		if s.core.Events != nil {
			f.sub = s.core.Events.Subscribe(id)
		}
		if s.byID == nil {
			s.byID = map[string]*feed[E]{}
		}
		s.byID[id] = f
		if !s.looking {
			s.looking = true
			go s.lookAround()
		}
	}
	f.watchers++
	return f
}

// start tells a feed how far its log is, unless it knows, and returns the feed's newest link and where that is.
func (s *feeds[E]) start(f *feed[E], now position) (*link[E], int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !f.known {
		f.known, f.seq, f.over = true, now.seq, now.over
	}
	return f.tail, f.seq
}

// leave takes a watcher away, and the feed after its last one.
func (s *feeds[E]) leave(f *feed[E]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.watchers--; f.watchers > 0 {
		return
	}
	delete(s.byID, f.id)
	if f.sub != nil {
		f.sub.Close()
	}
}

// look has a feed read soon.
func (s *feeds[E]) look(f *feed[E]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.enqueue(f)
}

// enqueue is look under the lock.
func (s *feeds[E]) enqueue(f *feed[E]) {
	switch {
	case f.queued || f.over || !f.known || f.watchers == 0:
		return
	case f.reading:
		f.again = true
		return
	}
	f.queued = true
	s.queue = append(s.queue, f)
	if s.readers < watchReaders {
		s.readers++
		go s.read()
	}
}

// read reads feeds, as many at a time as are waiting, until none is.
func (s *feeds[E]) read() {
	for {
		s.mu.Lock()
		if len(s.queue) == 0 {
			s.queue = nil
			s.readers--
			s.mu.Unlock()
			return
		}
		n := min(len(s.queue), watchLogs)
		batch := slices.Clone(s.queue[:n])
		clear(s.queue[:n])
		s.queue = s.queue[n:]
		// One that everybody has left may have another of the same log beside it, and no log may be asked for twice.
		batch = slices.DeleteFunc(batch, func(f *feed[E]) bool { return f.watchers == 0 })
		n = len(batch)
		if n == 0 {
			s.mu.Unlock()
			continue
		}
		after := make([]ports.Position, n)
		for i, f := range batch {
			f.queued, f.reading, f.looked = false, true, s.step
			after[i] = ports.Position{ID: f.id, Seq: f.seq}
		}
		s.mu.Unlock()

		ctx, cancel := context.WithTimeout(context.Background(), watchTimeout)
		grown, more, err := s.many(ctx, after)
		cancel()
		if err != nil {
			s.core.Logger.Warn("what is watched could not be read, it will be tried again", "what", s.what, "logs", n, "error", err)
			time.AfterFunc(watchRetry, func() {
				for _, f := range batch {
					s.look(f)
				}
			})
		}

		s.mu.Lock()
		for _, f := range batch {
			if events := grown[f.id]; len(events) > 0 {
				f.grow(events, s.place(events[len(events)-1]))
			}
			again := f.again || more
			f.reading, f.again = false, false
			if again {
				s.enqueue(f)
			}
		}
		s.mu.Unlock()
	}
}

// grow hands events, of which the last is at a position, to all watchers.
func (f *feed[E]) grow(events []E, last position) {
	f.seq, f.over = last.seq, last.over
	l := f.tail
	f.tail = newLink[E]()
	l.events, l.next = events, f.tail
	close(l.grown)
}

// growth is what a log grew by in a unit of work.
type growth[E any] struct {
	id     string
	events []E
}

// taskGrowth is what a task's log grew by.
type taskGrowth struct {
	growth[task.Event]
	after task.Task // as it is then
	first bool      // the agent's side had said and made nothing before
}

// grown is all logs that grew in a unit of work.
type grown struct {
	tasks []taskGrowth
	runs  []growth[scheduler.Event]
}

// tellOf wakes those who watch logs that have grown. Who has everything up to there, in this process, gets what is new
// without a look at the store.
func (c *core) tellOf(g grown) {
	var elsewhere, anywhere []string
	to := func(id string, told bool) {
		if told {
			elsewhere = append(elsewhere, id)
		} else {
			anywhere = append(anywhere, id)
		}
	}
	for _, t := range g.tasks {
		to(t.id, c.feeds.told(t.id, t.watched))
	}
	for _, r := range g.runs {
		to(r.id, c.runs.told(r.id, func() []scheduler.Event { return r.events }))
	}
	if c.Events == nil {
		return
	}
	if len(anywhere) > 0 {
		c.Events.Publish(anywhere...)
	}
	if len(elsewhere) > 0 {
		c.Events.PublishElsewhere(elsewhere...)
	}
}

// watched is a task's events as watchers get them; nil if that takes a look at what came before.
func (g taskGrowth) watched() []TaskEvent {
	out := make([]TaskEvent, len(g.events))
	for i, e := range g.events {
		if out[i].Event = e; e.Kind != task.EventComplete {
			continue
		}
		if !g.first {
			return nil
		}
		_, out[i].Artifacts = task.History(g.events)
	}
	out[len(out)-1].after = &g.after
	return out
}

// told hands what a log grew by to those who watch it here, and reports whether they have it all now. They have to be woken
// to look for themselves when it is not what comes next, or what that is, is just being found out.
func (s *feeds[E]) told(id string, events func() []E) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.byID[id]
	switch {
	case f == nil || f.over: // who comes from now on sees it
		return true
	case !f.known || f.reading:
		return false
	}
	news := events()
	if len(news) == 0 {
		return false
	}
	last := s.place(news[len(news)-1])
	if last.seq <= f.seq {
		return true
	}
	if s.place(news[0]).seq != f.seq+1 {
		return false
	}
	f.grow(news, last)
	return true
}

// lookAround has those feeds read that were not for a while, as long as there are any feeds.
func (s *feeds[E]) lookAround() {
	every := watchLook
	if s.core.Events == nil {
		every = watchAlone
	}
	t := time.NewTicker(every / watchSpread)
	defer t.Stop()
	for range t.C {
		s.mu.Lock()
		if len(s.byID) == 0 {
			s.looking = false
			s.mu.Unlock()
			return
		}
		s.step++
		for _, f := range s.byID {
			if s.step-f.looked >= watchSpread {
				s.enqueue(f)
			}
		}
		s.mu.Unlock()
	}
}

// TaskEvent is an entry of a task's log as watchers get it. It is shared: nobody may change it.
type TaskEvent struct {
	task.Event
	Artifacts []task.Artifact // of a complete event: all that the task made

	after *task.Task // as it is after the event; nil if that takes a look at the store
}

// Watch begins to watch a task. Next then returns its events after the sequence number, in order and each once, those that
// are there and those that come, whichever process they come from. FromState gives the current state first: a status
// event that stands for the log's first one and has the task's status of now, and with it all that was said and made so
// far. Whoever may read the task may watch it. One read; from a sequence number a second one if there is more by now. From
// then on at most one read each time that the task grows, however many watch it here. The caller must Close the watcher.
func (s *Tasks) Watch(ctx context.Context, c identity.Caller, id string, after int64) (*Watcher[TaskEvent], error) {
	return s.feeds.watch(c, id, after, func() (position, func(identity.Caller) error, []TaskEvent, error) {
		r := s.Store.Read().Tasks
		var t task.Task
		var state []TaskEvent
		var err error
		if after == FromState {
			var history []task.Event
			if t, history, err = r.History(ctx, id); err == nil {
				state = stateOf(t, history)
			}
		} else {
			t, err = r.Get(ctx, id)
		}
		may := func(c identity.Caller) error { return identity.Authorize(c, identity.TaskRead, taskResource(t)) }
		return position{t.LastSeq, t.Status.Ended()}, may, state, err
	})
}

// stateOf is a task as it is, told as events. Of the statuses only the one of now is told; the others are past.
func stateOf(t task.Task, history []task.Event) []TaskEvent {
	out := make([]TaskEvent, 0, len(history)+2)
	out = append(out, TaskEvent{Event: task.Event{TaskID: t.ID, Seq: 1, Kind: task.EventStatus, Status: t.Status, AwaitsInput: t.AwaitsInput, At: t.UpdatedAt}})
	for _, e := range history {
		out = append(out, TaskEvent{Event: e})
	}
	if t.Status.Ended() {
		_, artifacts := task.History(history)
		out = append(out, TaskEvent{
			Event:     task.Event{TaskID: t.ID, Seq: t.LastSeq, Kind: task.EventComplete, Status: t.Status, Error: t.Error, At: *t.CompletedAt},
			Artifacts: artifacts,
		})
	}
	return out
}

// feedTasks says how the logs of tasks are read.
func (c *core) feedTasks() {
	c.feeds = feeds[TaskEvent]{
		core: c, what: "tasks", one: c.eventsAfter, many: c.eventsOf,
		place: func(e TaskEvent) position { return position{e.Seq, e.Kind == task.EventComplete} },
	}
}

// eventsAfter reads the next events of a task as watchers get them. One read, and one more for the task's end.
func (c *core) eventsAfter(ctx context.Context, id string, seq int64) ([]TaskEvent, error) {
	log, err := c.Store.Read().Tasks.Events(ctx, id, seq, watchBatch)
	if err != nil {
		return nil, err
	}
	return c.complete(ctx, log)
}

// complete brings what a task made to its last event.
func (c *core) complete(ctx context.Context, log []task.Event) ([]TaskEvent, error) {
	out := make([]TaskEvent, len(log))
	for i, e := range log {
		out[i].Event = e
		if e.Kind != task.EventComplete {
			continue
		}
		if e.Seq <= int64(len(log)) && log[0].Seq == 1 {
			_, out[i].Artifacts = task.History(log) // it is all there
			continue
		}
		_, history, err := c.Store.Read().Tasks.History(ctx, e.TaskID)
		if err != nil {
			return nil, err
		}
		_, out[i].Artifacts = task.History(history)
	}
	return out, nil
}

// eventsOf reads what tasks grew by. more says that some of them may have grown by more.
func (c *core) eventsOf(ctx context.Context, after []ports.Position) (grown map[string][]TaskEvent, more bool, err error) {
	log, err := c.Store.Read().TaskLogs.EventsOf(ctx, after, watchBatch)
	if err != nil {
		return nil, false, err
	}
	byTask := make(map[string][]task.Event, len(after))
	for _, e := range log {
		byTask[e.TaskID] = append(byTask[e.TaskID], e)
	}
	grown = make(map[string][]TaskEvent, len(byTask))
	for id, events := range byTask {
		if grown[id], err = c.complete(ctx, events); err != nil {
			return nil, false, err
		}
	}
	return grown, len(log) == watchBatch, nil
}
