// Package eventhub wakes the subscriptions of one process. Adapters of ports.Events share it.
package eventhub

import (
	"sync"

	"github.com/nexus-protocol/nexus/ports"
)

var _ ports.Subscription = (*Subscription)(nil)

// Hub knows all subscriptions. The zero value is ready for use.
type Hub struct {
	mu      sync.Mutex
	streams map[string]*Subscription // the first of each stream's
}

// Subscription is a ports.Subscription: a link in its stream's list, and a signal.
type Subscription struct {
	hub        *Hub
	stream     string
	prev, next *Subscription
	wake       chan struct{}
	closed     bool
}

// Subscribe implements ports.Events.
func (h *Hub) Subscribe(stream string) *Subscription {
	s := &Subscription{hub: h, stream: stream, wake: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams == nil {
		h.streams = map[string]*Subscription{}
	}
	if s.next = h.streams[stream]; s.next != nil {
		s.next.prev = s
	}
	h.streams[stream] = s
	return s
}

// Wake wakes the subscriptions of the streams.
func (h *Hub) Wake(streams ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, stream := range streams {
		h.streams[stream].signal()
	}
}

// WakeAll wakes all there are.
func (h *Hub) WakeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, first := range h.streams {
		first.signal()
	}
}

// Streams is how many streams have subscriptions.
func (h *Hub) Streams() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.streams)
}

// signal wakes a list. A reader that was woken and has not looked yet will see this too.
func (s *Subscription) signal() {
	for ; s != nil; s = s.next {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// Wake implements ports.Subscription.
func (s *Subscription) Wake() <-chan struct{} { return s.wake }

// Close implements ports.Subscription.
func (s *Subscription) Close() {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	if s.next != nil {
		s.next.prev = s.prev
	}
	switch {
	case s.prev != nil:
		s.prev.next = s.next
	case s.next != nil:
		s.hub.streams[s.stream] = s.next
	default:
		delete(s.hub.streams, s.stream)
	}
	s.prev, s.next = nil, nil
}
