package portstest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nexus-protocol/nexus/ports"
)

// EventsTraits are the honest differences between adapters of ports.Events.
type EventsTraits struct {
	Processes bool // what one instance publishes, the others hear
}

// EventsCheck is one promise. open makes an instance as each process has one, which hears the others already.
type EventsCheck struct {
	Name string
	Run  func(ctx context.Context, open func() ports.Events, t EventsTraits) error
}

// EventsChecks lists what every ports.Events must show.
func EventsChecks() []EventsCheck { return eventsChecks }

// Events runs all checks and returns what failed.
func Events(ctx context.Context, open func() ports.Events, t EventsTraits) error {
	for _, c := range eventsChecks {
		if err := c.Run(ctx, open, t); err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
	}
	return nil
}

const (
	wakeWithin = 3 * time.Second       // on a machine that has more to do
	quietly    = 50 * time.Millisecond // without a wake, and no more are expected
)

func woken(s ports.Subscription, within time.Duration) bool {
	t := time.NewTimer(within)
	defer t.Stop()
	select {
	case <-s.Wake():
		return true
	case <-t.C:
		return false
	}
}

// wakes counts the wakes until there has been none for a while.
func wakes(s ports.Subscription) (n int) {
	for woken(s, quietly) {
		n++
	}
	return n
}

// promptly runs do, which must not block.
func promptly(what string, do func()) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
		return nil
	case <-time.After(wakeWithin):
		return failf("%s blocks", what)
	}
}

// leave closes subscriptions, and does not wait for an adapter whose publisher blocks.
func leave(subs ...ports.Subscription) {
	go func() {
		for _, s := range subs {
			s.Close()
		}
	}()
}

var eventsChecks = []EventsCheck{
	{"a publication wakes every subscription of its stream", func(_ context.Context, open func() ports.Events, _ EventsTraits) error {
		e, a, b := open(), newID(), newID()
		one, two, other := e.Subscribe(a), e.Subscribe(a), e.Subscribe(b)
		defer leave(one, two, other)
		if err := promptly("Publish", func() { e.Publish(); e.Publish(newID(), a) }); err != nil {
			return err
		}
		if err := first(same("the first", woken(one, wakeWithin), true), same("the second", woken(two, wakeWithin), true)); err != nil {
			return err
		}
		e.Publish(a, b)
		return first(same("the first again", woken(one, wakeWithin), true), same("the second again", woken(two, wakeWithin), true), same("the other", woken(other, wakeWithin), true))
	}},
	{"streams do not wake each other", func(_ context.Context, open func() ports.Events, _ EventsTraits) error {
		e, a := open(), newID()
		mine, other := e.Subscribe(a), e.Subscribe(newID())
		defer leave(mine, other)
		n := 0
		for range 20 {
			e.Publish(a)
			if !woken(mine, wakeWithin) {
				return failf("a wake is lost")
			}
			if woken(other, 2*time.Millisecond) {
				n++
			}
		}
		if n += wakes(other); n > 4 { // some for no reason are allowed
			return failf("20 publications of another stream woke it %d times", n)
		}
		return nil
	}},
	{"one publication is not many wakes", func(_ context.Context, open func() ports.Events, _ EventsTraits) error {
		e, a := open(), newID()
		s := e.Subscribe(a)
		defer leave(s)
		n := 0
		for range 10 {
			e.Publish(a)
			n += wakes(s)
		}
		if n < 10 || n > 13 {
			return failf("10 publications woke it %d times", n)
		}
		return nil
	}},
	{"a slow reader stops nobody and is woken once", func(_ context.Context, open func() ports.Events, _ EventsTraits) error {
		e, a := open(), newID()
		slow, fast := e.Subscribe(a), e.Subscribe(a)
		defer leave(slow, fast)
		const many = 20_000
		err := promptly("Publish to a reader that does not read", func() {
			for range many {
				e.Publish(a)
			}
		})
		if err != nil {
			return err
		}
		if !woken(fast, wakeWithin) {
			return failf("the other reader was not woken")
		}
		if n := wakes(slow); n < 1 || n > 4 {
			return failf("%d publications that it did not look at woke it %d times", many, n)
		}
		return nil
	}},
	{"no wake is lost between two looks", func(_ context.Context, open func() ports.Events, _ EventsTraits) error {
		e, a := open(), newID()
		s := e.Subscribe(a)
		defer leave(s)
		const last = 2_000
		var log atomic.Int64 // how long the stream is
		go func() {
			for range last {
				log.Add(1)
				e.Publish(a)
				if log.Load()%64 == 0 {
					time.Sleep(time.Microsecond)
				}
			}
		}()
		for log.Load() < last {
			before := log.Load()
			if !woken(s, wakeWithin) {
				return failf("the stream grew from %d to %d, and nobody said so", before, log.Load())
			}
		}
		return nil
	}},
	{"a closed subscription is left alone, and leaves the others alone", func(_ context.Context, open func() ports.Events, _ EventsTraits) error {
		for gone := range 3 { // the first, one in the middle, the last
			e, a := open(), newID()
			subs := []ports.Subscription{e.Subscribe(a), e.Subscribe(a), e.Subscribe(a)}
			wakes(subs[gone])
			subs[gone].Close()
			subs[gone].Close()
			e.Publish(a)
			for i, s := range subs {
				if i != gone && !woken(s, wakeWithin) {
					return failf("subscription %d was not woken after %d was closed", i, gone)
				}
			}
			if n := wakes(subs[gone]); n > 0 {
				return failf("a closed subscription was woken %d times", n)
			}
			for _, s := range subs {
				s.Close()
			}
			again := e.Subscribe(a)
			e.Publish(a)
			if !woken(again, wakeWithin) {
				return failf("a stream that had no subscriptions left does not wake a new one")
			}
			again.Close()
		}
		return nil
	}},
	{"ten thousand streams", func(_ context.Context, open func() ports.Events, _ EventsTraits) error {
		const many = 10_000
		e := open()
		streams, subs := make([]string, many), make([]ports.Subscription, many)
		err := promptly("Subscribe", func() {
			for i := range many {
				streams[i] = newID()
				subs[i] = e.Subscribe(streams[i])
			}
		})
		if err != nil {
			return err
		}
		err = promptly("Publish", func() {
			for _, s := range streams[:many/2] {
				e.Publish(s)
			}
			e.Publish(streams[many/2:]...)
		})
		if err != nil {
			return err
		}
		for i, s := range subs {
			if !woken(s, wakeWithin) {
				return failf("stream %d of %d was not woken", i, many)
			}
		}
		return promptly("Close", func() {
			for _, s := range subs {
				s.Close()
			}
		})
	}},
	{"subscriptions come and go", func(_ context.Context, open func() ports.Events, _ EventsTraits) error {
		e, stays := open(), newID()
		s := e.Subscribe(stays)
		defer leave(s)
		var work sync.WaitGroup
		for range 8 {
			work.Go(func() {
				for range 500 {
					brief := e.Subscribe(stays)
					e.Publish(stays)
					brief.Close()
				}
			})
		}
		if err := promptly("subscribing, publishing and closing at once", work.Wait); err != nil {
			return err
		}
		wakes(s)
		e.Publish(stays)
		return same("woken after all of that", woken(s, wakeWithin), true)
	}},
	{"other processes hear", func(_ context.Context, open func() ports.Events, t EventsTraits) error {
		if !t.Processes {
			return nil
		}
		const many = 2_500
		one, two, three := open(), open(), open()
		streams := make([]string, many)
		var subs []ports.Subscription
		for i := range many {
			streams[i] = newID() + " \"\n\u00e9"
			subs = append(subs, two.Subscribe(streams[i]), three.Subscribe(streams[i]))
		}
		defer leave(subs...)
		one.Publish(streams[0])
		if !woken(subs[0], wakeWithin) || !woken(subs[1], wakeWithin) {
			return failf("a publication is not heard")
		}
		one.Publish(streams[1:]...)
		for i, s := range subs[2:] {
			if !woken(s, wakeWithin) {
				return failf("subscription %d of %d is not woken", i, len(subs))
			}
		}
		back := one.Subscribe(streams[0])
		defer leave(back)
		three.Publish(streams[0])
		return same("in the other direction", woken(back, wakeWithin), true)
	}},
	{"only other processes hear what is published elsewhere", func(_ context.Context, open func() ports.Events, t EventsTraits) error {
		one := open()
		a, b := newID(), newID()
		here, last := one.Subscribe(a), one.Subscribe(b)
		defer leave(here, last)
		var there ports.Subscription
		if t.Processes {
			there = open().Subscribe(a)
			defer there.Close()
		}
		if err := promptly("PublishElsewhere", func() { one.PublishElsewhere(); one.PublishElsewhere(a) }); err != nil {
			return err
		}
		if there != nil && !woken(there, wakeWithin) {
			return failf("another process does not hear it")
		}
		one.Publish(b)
		if !woken(last, wakeWithin) {
			return failf("a publication is not heard")
		}
		return same("woken, who knows already", woken(here, quietly), false)
	}},
}
