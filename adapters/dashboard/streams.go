package dashboard

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/a-h/templ"

	"github.com/nexus-protocol/nexus/adapters/internal/websession"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
)

// streams counts the live pages of each user.
type streams struct {
	mu sync.Mutex
	of map[string]int
}

func (s *streams) admit(user string, most int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil {
		s.of = map[string]int{}
	}
	if s.of[user] >= most {
		return false
	}
	s.of[user]++
	return true
}

func (s *streams) release(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of[user]--; s.of[user] == 0 {
		delete(s.of, user)
	}
}

const (
	writeTimeout = 10 * time.Second          // of one piece to a live page
	settle       = 40 * time.Millisecond     // what happens within it is shown at once
	checkBeats   = 2                         // the session is looked at again with every second keep-alive
	eventOver    = "event: over\ndata: \n\n" // tells the page not to come again
)

// follow shows a live part of a page over and over: as it is now, and again after each change, until there is nothing more
// to come. What is sent is always the whole part, so that a page that was cut off is right again with the first piece it
// gets, whatever it missed.
func follow[E any](d *dashboard, x *exchange, w *app.Watcher[E], render func(ctx context.Context) (templ.Component, error)) error {
	defer w.Close()
	user := x.caller.UserID
	if !d.streams.admit(user, d.opt.MaxStreams) {
		return fault.New(fault.RateLimited, fault.CodeRateLimitExceeded, "you have %d live pages open; close one", d.opt.MaxStreams).With("retryAfter", 5)
	}
	defer d.streams.release(user)
	x.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	x.Header().Set("X-Accel-Buffering", "no")
	conn := http.NewResponseController(x.ResponseWriter)
	_ = conn.SetReadDeadline(time.Time{}) // the request was read; a server without deadlines needs none lifted
	send := func(b []byte) bool {
		_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		_, err := x.Write(b)
		return err == nil && conn.Flush() == nil
	}
	beat := make(chan struct{}, 1)
	ticker := time.NewTicker(d.opt.KeepAlive)
	defer ticker.Stop()
	stop := make(chan struct{})
	defer close(stop)
	closing := make(chan struct{})
	go func() {
		for {
			select {
			case <-ticker.C:
				select {
				case beat <- struct{}{}:
				default:
				}
			case <-d.opt.Closing: // never, if nil
				close(closing)
				close(beat)
				return
			case <-stop:
				return
			}
		}
	}()
	for beats := 0; ; {
		events, err := w.Next(x.Context(), beat)
		select {
		case <-closing:
			return nil
		default:
		}
		switch {
		case errors.Is(err, io.EOF):
			send([]byte(eventOver))
			return nil
		case err != nil:
			return nil // the page comes again
		case len(events) > 0:
			gather(x.Context(), w)
			ctx := withNow(x.Context(), d.engine.Now())
			c, err := render(ctx)
			if err != nil {
				d.log.WarnContext(ctx, "live page could not be shown", "error", err, "path", x.Pattern)
				return nil
			}
			b, err := frameOf(ctx, c)
			if err != nil || !send(b) {
				return nil
			}
			continue
		}
		if beats++; beats%checkBeats == 0 && !d.holds(x, w.Authorize) {
			send([]byte(eventOver))
			return nil
		}
		if !send([]byte(": keep-alive\n\n")) {
			return nil
		}
	}
}

// gather waits a moment, and takes what has happened meanwhile: it is shown together.
func gather[E any](ctx context.Context, w *app.Watcher[E]) {
	pause := make(chan struct{})
	t := time.AfterFunc(settle, func() { close(pause) })
	defer t.Stop()
	for {
		events, err := w.Next(ctx, pause)
		if err != nil || len(events) == 0 {
			return
		}
	}
}

// holds reports whether the session still does, and still may see what it watches.
func (d *dashboard) holds(x *exchange, may func(identity.Caller) error) bool {
	c, _, err := d.engine.Identity.BySession(x.Context(), websession.Token(x.Request))
	if err != nil {
		return !fault.Has(err, fault.CodeUnauthorized) // a database that is away is nobody's fault
	}
	return may(c) == nil
}

// frameOf is a component as one server-sent event.
func frameOf(ctx context.Context, c templ.Component) ([]byte, error) {
	var html bytes.Buffer
	if err := c.Render(ctx, &html); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for line := range strings.Lines(strings.ReplaceAll(html.String(), "\r", " ")) {
		b.WriteString("data: ")
		b.WriteString(strings.TrimSuffix(line, "\n"))
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}
