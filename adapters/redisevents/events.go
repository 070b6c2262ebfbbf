// Package redisevents tells all processes through Redis that a stream has grown.
//
// All streams share one channel, on which names go in batches: at a thousand changes a second that is some tens of
// kilobytes, and each process picks out what it has subscriptions for. A channel a stream would be a subscription in Redis
// for each reader, thousands of which would have to be made again after every lost connection.
package redisevents

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-protocol/nexus/adapters/internal/eventhub"
	"github.com/nexus-protocol/nexus/ports"
)

var _ ports.Events = (*Events)(nil)

const (
	maxPending = 10_000 // names that wait to be sent; more become one word to wake everybody
	maxBatch   = 1_000  // names in one message
	linger     = 2 * time.Millisecond
	patience   = 2 * time.Second // for one message, and for the last ones at a stop
	pauseFirst = 50 * time.Millisecond
	pauseMax   = time.Second
)

// Options are the settings; zero values are the defaults.
type Options struct {
	Channel   string        // default "nexus:events:" and the number of the client's database, since channels belong to no database
	PingEvery time.Duration // a connection that is silent for twice as long is given up; default three seconds
	// DeafEvery is how often all subscriptions are woken while other processes cannot be heard; default two seconds.
	DeafEvery time.Duration
	Logger    *slog.Logger // default: discards
}

// Events is a ports.Events for many processes. Subscriptions of this process are woken directly, with or without Redis;
// other processes hear of it as long as Run runs. One connection listens, however many subscriptions there are.
type Events struct {
	redis redis.UniversalClient
	opt   Options
	self  string // in each message, so that one's own wakes nobody twice
	hub   eventhub.Hub
	heard atomic.Bool // others can be

	ready   chan struct{}
	mu      sync.Mutex
	pending map[string]struct{}
	all     bool // there were too many
}

// message is what goes through Redis.
type message struct {
	From    string   `json:"from"`
	Streams []string `json:"streams,omitempty"`
	All     bool     `json:"all,omitempty"` // any stream may have grown
}

// New makes one of a name that no other process has. Redis need not be there yet.
func New(client redis.UniversalClient, name string, opt Options) *Events {
	if opt.Channel == "" {
		opt.Channel = "nexus:events:0"
		if c, ok := client.(*redis.Client); ok {
			opt.Channel = fmt.Sprintf("nexus:events:%d", c.Options().DB)
		}
	}
	if opt.PingEvery <= 0 {
		opt.PingEvery = 3 * time.Second
	}
	if opt.DeafEvery <= 0 {
		opt.DeafEvery = 2 * time.Second
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	return &Events{redis: client, opt: opt, self: name, ready: make(chan struct{}, 1), pending: map[string]struct{}{}}
}

// Publish implements ports.Events.
func (e *Events) Publish(streams ...string) {
	e.hub.Wake(streams...)
	e.PublishElsewhere(streams...)
}

// PublishElsewhere implements ports.Events.
func (e *Events) PublishElsewhere(streams ...string) {
	if len(streams) == 0 {
		return
	}
	e.mu.Lock()
	for _, s := range streams {
		if e.all {
			break
		}
		e.pending[s] = struct{}{}
		if len(e.pending) > maxPending {
			e.forget()
		}
	}
	e.mu.Unlock()
	e.signal()
}

// forget makes one word of all names. The lock is held.
func (e *Events) forget() {
	e.all = true
	clear(e.pending)
}

func (e *Events) signal() {
	select {
	case e.ready <- struct{}{}:
	default: // it is coming already
	}
}

// Subscribe implements ports.Events.
func (e *Events) Subscribe(stream string) ports.Subscription { return e.hub.Subscribe(stream) }

// Hearing tells whether what other processes publish is heard now.
func (e *Events) Hearing() bool { return e.heard.Load() }

// Run speaks to other processes and listens to them until ctx ends; then it sends what is left, if that can be done soon.
// While Redis is away it waits for it. It is to be called once.
func (e *Events) Run(ctx context.Context) error {
	var running sync.WaitGroup
	running.Go(func() { e.listen(ctx) })
	running.Go(func() { e.wakeTheDeaf(ctx) })
	e.send(ctx)
	running.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	for {
		m, any := e.take()
		if !any || e.publish(last, m) != nil { // readers will look by themselves
			return nil
		}
	}
}

// send publishes what waits. A message takes all that came together while the one before it was on its way.
func (e *Events) send(ctx context.Context) {
	pause := pauseFirst
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.ready:
		}
		m, any := e.take()
		if !any {
			continue
		}
		wait := linger
		if err := e.publish(ctx, m); err != nil { // it may have got through; to say it twice does no harm
			e.putBack(m)
			wait, pause = pause, min(2*pause, pauseMax)
		} else {
			pause = pauseFirst
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

// take takes the next message out of what waits.
func (e *Events) take() (m message, any bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.all {
		e.all = false
		return message{From: e.self, All: true}, true
	}
	for s := range e.pending {
		if len(m.Streams) == maxBatch {
			e.signal() // there is more
			break
		}
		m.Streams = append(m.Streams, s)
		delete(e.pending, s)
	}
	m.From = e.self
	return m, len(m.Streams) > 0
}

func (e *Events) putBack(m message) {
	e.mu.Lock()
	switch {
	case e.all:
	case m.All || len(e.pending)+len(m.Streams) > maxPending:
		e.forget()
	default:
		for _, s := range m.Streams {
			e.pending[s] = struct{}{}
		}
	}
	e.mu.Unlock()
	e.signal()
}

func (e *Events) publish(ctx context.Context, m message) error {
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return e.redis.Publish(ctx, e.opt.Channel, body).Err()
}

// listen hears other processes, over a new connection whenever the old one is lost.
func (e *Events) listen(ctx context.Context) {
	pause := pauseFirst
	var away bool
	for ctx.Err() == nil {
		err := e.hear(ctx, func() {
			pause = pauseFirst
			if away {
				away = false
				e.opt.Logger.InfoContext(ctx, "Redis is back: other processes are heard again")
			}
		})
		e.heard.Store(false)
		if ctx.Err() != nil {
			return
		}
		if !away {
			away = true
			e.opt.Logger.WarnContext(ctx, "Redis is away: what other processes do is seen later", "error", err)
		}
		sleep(ctx, pause)
		pause = min(2*pause, pauseMax)
	}
}

// hear listens over one connection until it is lost.
func (e *Events) hear(ctx context.Context, connected func()) error {
	sub := e.redis.Subscribe(ctx, e.opt.Channel)
	defer func() { _ = sub.Close() }()                         // it may be lost already
	defer context.AfterFunc(ctx, func() { _ = sub.Close() })() // which ends the wait for a message
	for silent := false; ; {
		got, err := sub.ReceiveTimeout(ctx, e.opt.PingEvery)
		var timeout net.Error
		switch {
		case err == nil:
			silent = false
		case errors.As(err, &timeout) && timeout.Timeout() && !silent && ctx.Err() == nil:
			silent = true
			if err := sub.Ping(ctx); err != nil {
				return err
			}
			continue
		default:
			return err
		}
		switch got := got.(type) {
		case *redis.Subscription:
			connected()
			e.heard.Store(true)
			e.hub.WakeAll() // of what was said before nothing was heard
		case *redis.Message:
			e.receive([]byte(got.Payload))
		}
	}
}

// receive lets a message from another process act here.
func (e *Events) receive(body []byte) {
	var m message
	if err := json.Unmarshal(body, &m); err != nil {
		m = message{All: true} // of a newer program; that something has happened is what it says
	}
	switch {
	case m.From == e.self && e.self != "":
	case m.All:
		e.hub.WakeAll()
	default:
		e.hub.Wake(m.Streams...)
	}
}

// wakeTheDeaf lets readers look by themselves while nobody tells them to.
func (e *Events) wakeTheDeaf(ctx context.Context) {
	for sleep(ctx, e.opt.DeafEvery) {
		if !e.heard.Load() {
			e.hub.WakeAll()
		}
	}
}

// sleep returns false when ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
