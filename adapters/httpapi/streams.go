package httpapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/task"
)

// StreamOptions bound the streams of events. Zero values are the defaults.
type StreamOptions struct {
	// KeepAlive is how often something is written to a stream in which nothing happens; default 12 seconds, at most 15. With
	// every second one it is looked at whether the caller may still read it.
	KeepAlive time.Duration
	// WriteTimeout is how long one event may take to be written; default 10 seconds. A client that is slower is dropped.
	WriteTimeout time.Duration
	// Max is how many streams may be open in this process; default 15 000. Each takes a file descriptor.
	Max int
	// MaxPerCaller is how many of them one user may have; default 100.
	MaxPerCaller int
	// Closing is closed when the server is about to stop: all streams then end, and new ones are refused. Clients resume at
	// another server. nil: they end with the server.
	Closing <-chan struct{}
}

func (o StreamOptions) withDefaults() StreamOptions {
	standard := func(d *time.Duration, value time.Duration) {
		if *d <= 0 {
			*d = value
		}
	}
	standard(&o.KeepAlive, 12*time.Second)
	o.KeepAlive = min(o.KeepAlive, maxKeepAlive)
	standard(&o.WriteTimeout, 10*time.Second)
	if o.Max <= 0 {
		o.Max = 15_000
	}
	if o.MaxPerCaller <= 0 {
		o.MaxPerCaller = 100
	}
	return o
}

const (
	maxKeepAlive = 15 * time.Second
	beatSlots    = 32 // keep-alives are spread over as many moments
	checkBeats   = 2  // credentials are looked at again with every second keep-alive
	checkShare   = 4  // the streams of one credential share a look, for this part of the time between keep-alives
	retryHint    = 2 * time.Second
	maxIdleBuf   = 64 << 10 // larger buffers are not kept

	typeStream        = "text/event-stream"
	headerLastEventID = "Last-Event-ID"
	queryLastEventID  = "lastEventId" // for clients that cannot set headers
)

// streams are the open streams of events.
type streams struct {
	opt     StreamOptions
	buffers sync.Pool

	mu      sync.Mutex
	open    int
	of      map[string]int // open ones, by user
	opened  int            // since the start; deals out the slots
	beats   [beatSlots]chan struct{}
	beating bool
	closing bool
	checks  map[string]check
}

// check is what was found out about a credential.
type check struct {
	at     time.Time
	caller identity.Caller
	err    error
}

func newStreams(opt StreamOptions) *streams {
	s := &streams{opt: opt.withDefaults(), of: map[string]int{}, checks: map[string]check{}}
	s.buffers.New = func() any { return new(bytes.Buffer) }
	for i := range s.beats {
		s.beats[i] = make(chan struct{})
	}
	return s
}

// admit counts a stream in, or refuses it. slot is its place among the keep-alives.
func (s *streams) admit(userID string) (slot int, err error) {
	closing := false
	select {
	case <-s.opt.Closing:
		closing = true
	default:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	const wait = 5
	switch {
	case closing || s.closing:
		return 0, fault.New(fault.Unavailable, fault.CodeUnavailable, "the server is about to stop; try again in a second").With("retryAfter", 1)
	case s.of[userID] >= s.opt.MaxPerCaller:
		return 0, fault.New(fault.RateLimited, fault.CodeRateLimitExceeded,
			"the caller has %d streams open, and may have no more; close one", s.opt.MaxPerCaller).With("retryAfter", wait)
	case s.open >= s.opt.Max:
		return 0, fault.New(fault.Unavailable, fault.CodeUnavailable,
			"the server has as many streams open as it takes; try again in %d s, or ask for the task itself", wait).With("retryAfter", wait)
	}
	s.open++
	s.of[userID]++
	s.opened++
	if !s.beating {
		s.beating = true
		go s.beat()
	}
	return s.opened % beatSlots, nil
}

func (s *streams) release(userID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	if s.of[userID]--; s.of[userID] == 0 {
		delete(s.of, userID)
	}
}

// next is closed when something is to be written to the streams of a slot. ok is false when they are to end.
func (s *streams) next(slot int) (beat <-chan struct{}, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.beats[slot], !s.closing
}

// beat is the one clock of all streams, for as long as there are any.
func (s *streams) beat() {
	t := time.NewTicker(s.opt.KeepAlive / beatSlots)
	defer t.Stop()
	for slot := 0; ; slot = (slot + 1) % beatSlots {
		select {
		case <-t.C:
		case <-s.opt.Closing:
			s.mu.Lock()
			s.closing = true
			for _, b := range s.beats {
				close(b)
			}
			s.mu.Unlock()
			return
		}
		s.mu.Lock()
		if slot == 0 {
			for who, c := range s.checks {
				if time.Since(c.at) > s.opt.KeepAlive {
					delete(s.checks, who)
				}
			}
		}
		if s.open == 0 {
			s.beating = false
			s.mu.Unlock()
			return
		}
		close(s.beats[slot])
		s.beats[slot] = make(chan struct{})
		s.mu.Unlock()
	}
}

// holds reports whether the credential of a request holds by now, and for what. While that cannot be found out it does.
func (s *server) holds(x *exchange, r *http.Request, rt route) (identity.Caller, bool) {
	st := s.streams
	who := x.caller.KeyID + "/" + x.caller.Session
	st.mu.Lock()
	c, known := st.checks[who]
	st.mu.Unlock()
	if !known || time.Since(c.at) > st.opt.KeepAlive/checkShare {
		c = check{at: time.Now()}
		c.caller, c.err = s.identify(x, r, rt.access)
		st.mu.Lock()
		st.checks[who] = c
		st.mu.Unlock()
	}
	if f, ok := fault.As(c.err); ok && f.Kind == fault.Unauthenticated {
		return c.caller, false
	} else if c.err != nil {
		return x.caller, true
	}
	return c.caller, true
}

// The data of the events.
type (
	statusEventJSON struct {
		Status        task.Status `json:"status" enum:"pending,assigned,running,completed,failed,cancelled"`
		InputRequired bool        `json:"inputRequired,omitempty" doc:"The agent has asked something, and goes on once its requester has replied; absent unless it did."`
	}
	completeEventJSON struct {
		Status    task.Status    `json:"status" enum:"completed,failed,cancelled"`
		Artifacts []artifactJSON `json:"artifacts" nullable:"false"`
		Error     *taskErrorJSON `json:"error,omitempty" doc:"Why the task failed; absent unless it did."`
	}
)

// eventData is what a client gets to see of an event.
func eventData(e app.TaskEvent) any {
	switch e.Kind {
	case task.EventMessage:
		return message(*e.Message)
	case task.EventArtifact:
		return artifact(*e.Artifact)
	case task.EventComplete:
		out := completeEventJSON{Status: e.Status, Artifacts: convert(e.Artifacts, artifact)}
		if e.Error != nil {
			out.Error = &taskErrorJSON{e.Error.Code, e.Error.Message}
		}
		return out
	case task.EventStatus:
	}
	return statusEventJSON{e.Status, e.AwaitsInput}
}

// eventDoc is a kind of event, as the OpenAPI document has it.
type eventDoc struct {
	kind string
	data reflect.Type
	text string
}

// sent is an event as it goes over the wire.
type sent struct {
	id   int64
	kind string
	data any
}

func (s *server) mountTaskStream() {
	rt := route{
		method: "GET", path: "/api/v1/tasks/{taskId}/stream", access: caller, scope: string(identity.ScopeTasksRead),
		id: "stream-task", tag: tagTasks, summary: "Stream a task's updates", status: http.StatusOK,
		text: "Server-sent events, for those who may read the task. First the current state: the status, and what was said and made so far; then each change as it happens.",
	}
	docs := []eventDoc{
		{string(task.EventStatus), reflect.TypeFor[statusEventJSON](), "The task's status: first the one of now, then each one that it gets."},
		{string(task.EventMessage), reflect.TypeFor[messageJSON](), "One message."},
		{string(task.EventArtifact), reflect.TypeFor[artifactJSON](), "One artifact."},
		{string(task.EventComplete), reflect.TypeFor[completeEventJSON](), "The task has ended, and so does the stream."},
	}
	mountStream(s, rt, docs, func(ctx context.Context, param func(string) string, c identity.Caller, after int64) (*app.Watcher[app.TaskEvent], func(app.TaskEvent) sent, error) {
		w, err := s.engine.Tasks.Watch(ctx, c, param("taskId"), after)
		return w, func(e app.TaskEvent) sent { return sent{e.Seq, string(e.Kind), eventData(e)} }, err
	})
}

// mountStream adds a route that streams what a watcher brings. open makes the watcher, and says how its events are sent.
func mountStream[E any](s *server, rt route, docs []eventDoc, open func(ctx context.Context, param func(string) string, c identity.Caller, after int64) (*app.Watcher[E], func(E) sent, error)) {
	rt.text += " The stream ends after the event complete. A client that was cut off sends the id of the last event it got and goes on after it, nothing lost and nothing twice; " +
		"0 tells all from the beginning, as it happened. A comment comes at least every 15 s. The stream also ends when the credential holds no more, and when the server stops."
	rt.answers = "The events. As a text they are lines id, event and data (one line of JSON), with an empty line after each event."
	rt.errors = []fault.Code{fault.CodeRateLimitExceeded, fault.CodeUnavailable}
	rt.headers = map[string]string{"X-Accel-Buffering": "no, so that proxies pass each event on at once."}
	registry := s.api.OpenAPI().Components.Schemas
	position := &huma.Schema{Type: huma.TypeInteger, Format: "int64", Minimum: new(float64)}
	var events []*huma.Schema
	for _, e := range docs {
		events = append(events, &huma.Schema{
			Type: huma.TypeObject, Title: e.kind, Description: e.text, Required: []string{"id", "event", "data"},
			Properties: map[string]*huma.Schema{
				"id":    {Type: huma.TypeInteger, Format: "int64", Description: "The position in the log, for " + headerLastEventID + "."},
				"event": {Type: huma.TypeString, Enum: []any{e.kind}},
				"data":  registry.Schema(e.data, true, ""),
			},
		})
	}
	var params []*huma.Param
	for _, name := range pathParams(rt.path) {
		params = append(params, &huma.Param{Name: name, In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString, Format: "uuid"}})
	}
	op := &huma.Operation{
		OperationID: rt.id, Method: rt.method, Path: rt.path, Tags: []string{rt.tag}, Summary: rt.summary, Description: rt.text,
		Parameters: append(params,
			&huma.Param{Name: headerLastEventID, In: "header", Schema: position, Description: "The id of the last event that the client got."},
			&huma.Param{Name: queryLastEventID, In: "query", Schema: position, Description: "The same for clients that cannot set headers; the header wins."},
		),
		Responses: map[string]*huma.Response{
			strconv.Itoa(rt.status): {
				Description: rt.answers,
				Content:     map[string]*huma.MediaType{typeStream: {Schema: &huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{OneOf: events}}}},
			},
			strconv.Itoa(http.StatusNoContent): {Description: "It has ended and the client got all events; there is no need to come again."},
		},
	}
	s.document(op, rt)
	s.api.OpenAPI().AddOperation(op)
	s.handle(rt, func(x *exchange, r *http.Request) {
		in, err := s.check(op, x, humago.NewContext(op, r, x))
		var after int64
		if err == nil {
			after, err = lastEventID(r, in.query.Get(queryLastEventID))
		}
		if err != nil {
			s.fail(x, r, err)
			return
		}
		stream(s, x, r, rt, func() (*app.Watcher[E], func(E) sent, error) { return open(r.Context(), in.Param, x.caller, after) })
	})
}

// pathParams are the names of the parameters in a route's path.
func pathParams(path string) (names []string) {
	for part := range strings.SplitSeq(path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			names = append(names, strings.TrimSuffix(name, "}"))
		}
	}
	return names
}

// lastEventID is where a client wants to go on.
func lastEventID(r *http.Request, inQuery string) (int64, error) {
	name, given := queryLastEventID, inQuery
	if h := r.Header.Values(headerLastEventID); len(h) > 0 && h[0] != "" {
		if name, given = headerLastEventID, h[0]; len(h) > 1 {
			given = "several"
		}
	}
	if given == "" {
		return app.FromState, nil
	}
	id, err := strconv.ParseUint(given, 10, 63)
	if err != nil {
		var bad fault.Fields
		bad.Add(name, "must be the id of an event of this stream, a whole number; leave it out to begin with the current state")
		return 0, bad.Err()
	}
	return int64(id), nil
}

// stream answers with a watcher's events until there are no more, the client leaves or is too slow, the credential does
// not hold any more, or the server stops.
func stream[E any](s *server, x *exchange, r *http.Request, rt route, open func() (*app.Watcher[E], func(E) sent, error)) {
	slot, err := s.streams.admit(x.caller.UserID)
	if err != nil {
		s.fail(x, r, err)
		return
	}
	defer s.streams.release(x.caller.UserID)
	watcher, send, err := open()
	if err != nil {
		s.fail(x, r, err)
		return
	}
	defer watcher.Close()
	if watcher.Over() {
		x.WriteHeader(http.StatusNoContent) // an EventSource then stays away
		return
	}
	x.Header().Set("Content-Type", typeStream+"; charset=utf-8")
	x.Header().Set("X-Accel-Buffering", "no")
	if r.Method == http.MethodHead {
		x.WriteHeader(http.StatusOK)
		return
	}
	out := eventWriter{x: x, conn: http.NewResponseController(x.ResponseWriter), streams: s.streams}
	_ = out.conn.SetReadDeadline(time.Time{}) // the request was read; a server without deadlines needs none lifted
	if out.begin() != nil {
		return
	}
	if follow(s, x, r, rt, watcher, send, &out, slot) {
		_ = out.conn.SetWriteDeadline(time.Now().Add(s.streams.opt.WriteTimeout)) // for the end of the answer
	}
}

// follow writes what the watcher brings. It returns false if the client is lost.
func follow[E any](s *server, x *exchange, r *http.Request, rt route, watcher *app.Watcher[E], send func(E) sent, out *eventWriter, slot int) bool {
	beat, ok := s.streams.next(slot)
	for beats := 1; ok; {
		events, err := watcher.Next(r.Context(), beat)
		switch {
		case errors.Is(err, io.EOF):
			return true
		case err != nil:
			if r.Context().Err() == nil {
				_ = s.classify(r.Context(), x, err) // for the log; the client comes again
			}
			return true
		case len(events) > 0:
			for i := range events {
				if err := out.event(send(events[i])); err != nil {
					return s.lost(r.Context(), x, err)
				}
			}
			continue
		}
		if beat, ok = s.streams.next(slot); !ok {
			return true
		}
		if beats++; beats%checkBeats == 0 {
			c, holds := s.holds(x, r, rt)
			if !holds || watcher.Authorize(c) != nil {
				return true
			}
		}
		if err := out.comment(": keep-alive\n\n"); err != nil {
			return s.lost(r.Context(), x, err)
		}
	}
	return true
}

func (s *server) lost(ctx context.Context, x *exchange, err error) bool {
	s.log.LogAttrs(ctx, slog.LevelDebug, "stream dropped", slog.String("error", err.Error()), slog.String("request_id", x.id))
	return false
}

// eventWriter writes server-sent events. Between two of them it holds no memory.
type eventWriter struct {
	x       *exchange
	conn    *http.ResponseController
	streams *streams
}

func (w *eventWriter) begin() error {
	return w.comment("retry: " + strconv.FormatInt(retryHint.Milliseconds(), 10) + "\n\n")
}

func (w *eventWriter) event(e sent) error {
	b := w.streams.buffers.Get().(*bytes.Buffer)
	defer func() {
		if b.Cap() <= maxIdleBuf {
			b.Reset()
			w.streams.buffers.Put(b)
		}
	}()
	b.WriteString("id: ")
	b.Write(strconv.AppendInt(b.AvailableBuffer(), e.id, 10))
	b.WriteString("\nevent: ")
	b.WriteString(e.kind)
	b.WriteString("\ndata: ")
	if err := encodeTo(b, e.data); err != nil { // one line, with its end
		return err
	}
	b.WriteByte('\n')
	return w.write(b.Bytes())
}

func (w *eventWriter) comment(text string) error { return w.write([]byte(text)) }

// write sends one piece to the client, which has so long to take it.
func (w *eventWriter) write(b []byte) error {
	_ = w.conn.SetWriteDeadline(time.Now().Add(w.streams.opt.WriteTimeout)) // some writers have none
	if _, err := w.x.Write(b); err != nil {
		return err
	}
	return w.conn.Flush()
}
