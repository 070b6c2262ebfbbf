package app

import (
	"context"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// How tasks that are watched are read.
const (
	watchLook    = 15 * time.Second // without a wake: one is lost when a process dies between its commit and its publication
	watchAlone   = 2 * time.Second  // the same where nobody wakes
	watchSpread  = 8                // looks are spread over as many steps
	watchBatch   = 128              // events of one read
	watchTasks   = 64               // tasks of one read
	watchReaders = 2                // reads at a time, however many tasks are woken at once
	watchRetry   = time.Second      // after a read that failed
	watchTimeout = 10 * time.Second // of one read, which is nobody's request
)

// FromState is the position of a watcher that wants the task as it is first, and then what changes.
const FromState int64 = -1

// TaskEvent is an entry of a task's log as watchers get it. It is shared: nobody may change it.
type TaskEvent struct {
	task.Event
	Artifacts []task.Artifact // of a complete event: all that the task made
}

// Watcher gets what happens in one task. It is for one goroutine.
type Watcher struct {
	core     *core
	feed     *feed
	at       *link
	resource identity.Resource
	ready    []TaskEvent // to be returned before all else
	seq      int64       // of the last event that was returned or is ready
	behind   int64       // up to this one the watcher reads for itself
	over     bool        // the complete event was returned, or is ready
}

// Watch begins to watch a task. Next then returns its events after the sequence number, in order and each once, those that
// are there and those that come, whichever process they come from. FromState gives the current state first: a status
// event that stands for the log's first one and has the task's status of now, and with it all that was said and made so
// far. Whoever may read the task may watch it. One read; from a sequence number a second one if there is more by now. From
// then on one read each time that the task grows, however many watch it here. The caller must Close the watcher.
func (s *Tasks) Watch(ctx context.Context, c identity.Caller, id string, after int64) (*Watcher, error) {
	f := s.feeds.join(id) // before the first look, so that nothing comes in between
	w := &Watcher{core: s.core, feed: f, seq: after}
	if err := w.open(ctx, c, id); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

func (w *Watcher) open(ctx context.Context, c identity.Caller, id string) error {
	r := w.core.Store.Read().Tasks
	var t task.Task
	var history []task.Event
	var err error
	if w.seq == FromState {
		t, history, err = r.History(ctx, id)
	} else {
		t, err = r.Get(ctx, id)
	}
	if err != nil {
		return err
	}
	w.resource = taskResource(t)
	if err := w.Authorize(c); err != nil {
		return err
	}
	var known int64
	w.at, known = w.core.feeds.start(w.feed, t.LastSeq, t.Status.Ended())
	if w.seq == FromState {
		w.ready, w.seq = stateOf(t, history), t.LastSeq
	}
	w.seq = min(w.seq, t.LastSeq) // one who claims to have seen more still sees the end
	w.behind = max(known, t.LastSeq)
	w.over = t.Status.Ended() && w.seq == t.LastSeq
	return nil
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

// Authorize decides whether a caller may watch the task, such as the one who opened the watcher, as he is by now. It reads
// nothing.
func (w *Watcher) Authorize(c identity.Caller) error {
	return identity.Authorize(c, identity.TaskRead, w.resource)
}

// Over reports whether nothing more will come, so that Next would return io.EOF.
func (w *Watcher) Over() bool { return w.over && len(w.ready) == 0 }

// Next waits for events and returns them. After the task's last one it returns io.EOF. When there is something in
// interrupt, which may be nil, it returns none, and may be called again; so it does with an error of ctx.
func (w *Watcher) Next(ctx context.Context, interrupt <-chan struct{}) ([]TaskEvent, error) {
	if len(w.ready) > 0 {
		out := w.ready
		w.ready = nil
		return out, nil
	}
	if w.over {
		return nil, io.EOF
	}
	if w.seq < w.behind {
		events, err := w.core.eventsAfter(ctx, w.feed.id, w.seq)
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
			for len(events) > 0 && events[0].Seq <= w.seq { // read already
				events = events[1:]
			}
			if len(events) > 0 {
				return w.take(events), nil
			}
		case <-wake: // it is that of all watchers of the task: whoever takes it sees to the read
			w.core.feeds.look(w.feed)
		case <-interrupt:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (w *Watcher) take(events []TaskEvent) []TaskEvent {
	last := events[len(events)-1]
	w.seq, w.over = last.Seq, last.Kind == task.EventComplete
	return events
}

// Close ends the watcher. A second one does nothing.
func (w *Watcher) Close() {
	if w.feed != nil {
		w.core.feeds.leave(w.feed)
		w.feed, w.at, w.ready, w.over = nil, nil, nil, true
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

// feeds are the tasks that are watched in this process. What a task grows by is read once, by one of few readers, and
// handed to all who watch it.
type feeds struct {
	core    *core
	mu      sync.Mutex
	byTask  map[string]*feed
	queue   []*feed // those that are to be read
	readers int
	looking bool // somebody looks after the feeds that nobody wakes
	step    int
}

// feed is one task that is watched.
type feed struct {
	id  string
	sub ports.Subscription // nil where nobody wakes

	// Under the lock of feeds:
	watchers int
	known    bool  // from where on to read
	seq      int64 // of the last event that was read
	over     bool  // that was the task's last
	queued   bool
	reading  bool
	again    bool // it was woken while it was read
	looked   int  // the step at which it was read last
	tail     *link
}

// link leads from one moment in a feed to the next. It holds no more than what comes after it, so that a watcher that has
// everything holds nothing, and one that lags what it lacks.
type link struct {
	grown  chan struct{} // closed once the rest is there
	events []TaskEvent
	next   *link
}

func newLink() *link { return &link{grown: make(chan struct{})} }

// join adds a watcher to a task's feed.
func (s *feeds) join(id string) *feed {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.byTask[id]
	if f == nil {
		f = &feed{id: id, tail: newLink(), looked: s.step}
		if s.core.Events != nil {
			f.sub = s.core.Events.Subscribe(id)
		}
		if s.byTask == nil {
			s.byTask = map[string]*feed{}
		}
		s.byTask[id] = f
		if !s.looking {
			s.looking = true
			go s.lookAround()
		}
	}
	f.watchers++
	return f
}

// start tells a feed how far its task is, unless it knows, and returns the feed's newest link and where that is.
func (s *feeds) start(f *feed, seq int64, over bool) (*link, int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !f.known {
		f.known, f.seq, f.over = true, seq, over
	}
	return f.tail, f.seq
}

// leave takes a watcher away, and the feed after its last one.
func (s *feeds) leave(f *feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.watchers--; f.watchers > 0 {
		return
	}
	delete(s.byTask, f.id)
	if f.sub != nil {
		f.sub.Close()
	}
}

// look has a feed read soon.
func (s *feeds) look(f *feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.enqueue(f)
}

// enqueue is look under the lock.
func (s *feeds) enqueue(f *feed) {
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
func (s *feeds) read() {
	for {
		s.mu.Lock()
		if len(s.queue) == 0 {
			s.queue = nil
			s.readers--
			s.mu.Unlock()
			return
		}
		n := min(len(s.queue), watchTasks)
		batch := slices.Clone(s.queue[:n])
		clear(s.queue[:n])
		s.queue = s.queue[n:]
		after := make([]ports.TaskPosition, n)
		for i, f := range batch {
			f.queued, f.reading, f.looked = false, true, s.step
			after[i] = ports.TaskPosition{TaskID: f.id, Seq: f.seq}
		}
		s.mu.Unlock()

		grown, more, err := s.readEvents(after)
		if err != nil {
			s.core.Logger.Warn("tasks that are watched could not be read, it will be tried again", "tasks", n, "error", err)
			time.AfterFunc(watchRetry, func() {
				for _, f := range batch {
					s.look(f)
				}
			})
		}

		s.mu.Lock()
		for _, f := range batch {
			f.grow(grown[f.id])
			again := f.again || more
			f.reading, f.again = false, false
			if again {
				s.enqueue(f)
			}
		}
		s.mu.Unlock()
	}
}

// readEvents reads what tasks grew by. more says that some of them may have grown by more.
func (s *feeds) readEvents(after []ports.TaskPosition) (grown map[string][]TaskEvent, more bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), watchTimeout)
	defer cancel()
	log, err := s.core.Store.Read().TaskLogs.EventsOf(ctx, after, watchBatch)
	if err != nil {
		return nil, false, err
	}
	byTask := make(map[string][]task.Event, len(after))
	for _, e := range log {
		byTask[e.TaskID] = append(byTask[e.TaskID], e)
	}
	grown = make(map[string][]TaskEvent, len(byTask))
	for id, events := range byTask {
		if grown[id], err = s.core.complete(ctx, events); err != nil {
			return nil, false, err
		}
	}
	return grown, len(log) == watchBatch, nil
}

// grow hands events to all watchers.
func (f *feed) grow(events []TaskEvent) {
	if len(events) == 0 {
		return
	}
	last := events[len(events)-1]
	f.seq, f.over = last.Seq, last.Kind == task.EventComplete
	l := f.tail
	f.tail = newLink()
	l.events, l.next = events, f.tail
	close(l.grown)
}

// lookAround has those feeds read that were not for a while, as long as there are any feeds.
func (s *feeds) lookAround() {
	every := watchLook
	if s.core.Events == nil {
		every = watchAlone
	}
	t := time.NewTicker(every / watchSpread)
	defer t.Stop()
	for range t.C {
		s.mu.Lock()
		if len(s.byTask) == 0 {
			s.looking = false
			s.mu.Unlock()
			return
		}
		s.step++
		for _, f := range s.byTask {
			if s.step-f.looked >= watchSpread {
				s.enqueue(f)
			}
		}
		s.mu.Unlock()
	}
}
