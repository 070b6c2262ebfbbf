package portstest

import (
	"context"
	"errors"
	"time"

	"github.com/nexus-protocol/nexus/ports"
)

var callBackChecks = []Check{
	{"call-backs/the first key stays", func(ctx context.Context, s ports.Store, _ Traits) error {
		none, err1 := s.Read().CallBacks.Key(ctx)
		offer := func(key []byte) error {
			return s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.CallBacks.OfferKey(ctx, key) })
		}
		key := []byte{0, 0xff, '\n'}
		err2, err3 := offer(key), offer([]byte("another"))
		got, err4 := s.Read().CallBacks.Key(ctx)
		return first(err1, err2, err3, err4, same("before", len(none), 0), same("key", got, key))
	}},
	{"call-backs/offers at once end with one key", func(ctx context.Context, s ports.Store, _ Traits) error {
		for _, err := range together(8, func(i int) error {
			return s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.CallBacks.OfferKey(ctx, []byte{1, byte(i)}) })
		}) {
			if err != nil {
				return err
			}
		}
		key, err := s.Read().CallBacks.Key(ctx)
		return first(err, same("length", len(key), 2))
	}},
	{"call-backs/counted by task and forgotten by age", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		one, events1 := taskFor(w.asker, w.agent)
		two, events2 := taskFor(w.asker, w.agent)
		add := func(id string, at time.Time) func(context.Context, ports.Tx) error {
			return func(ctx context.Context, tx ports.Tx) error {
				_, err1 := tx.Tasks.Lock(ctx, id)
				before, err2 := tx.CallBacks.Count(ctx, id)
				err3 := tx.CallBacks.Add(ctx, id, at)
				after, err4 := tx.CallBacks.Count(ctx, id)
				return first(err1, err2, err3, err4, same("counted in the unit", after, before+1))
			}
		}
		err := first(s.Update(ctx, insertTask(one, events1)), s.Update(ctx, insertTask(two, events2)))
		for _, failed := range together(6, func(i int) error { return s.Update(ctx, add(one.ID, base.Add(time.Duration(i)*time.Second))) }) {
			err = first(err, failed)
		}
		lost := errors.New("taken back")
		err = first(err, s.Update(ctx, add(two.ID, base.Add(time.Minute))), wantErr("a unit that fails", s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
			return first(add(two.ID, base.Add(time.Hour))(ctx, tx), lost)
		}), lost))
		n1, err1 := s.Read().CallBacks.Count(ctx, one.ID)
		n2, err2 := s.Read().CallBacks.Count(ctx, two.ID)
		n3, err3 := s.Read().CallBacks.Count(ctx, "nobody's")
		if err := first(err, err1, err2, err3, same("of one", n1, 6), same("of the other", n2, 1), same("of none", n3, 0)); err != nil {
			return err
		}
		gone := 0
		err = s.Update(ctx, func(ctx context.Context, tx ports.Tx) (err error) {
			gone, err = tx.CallBacks.DeleteUntil(ctx, base.Add(59*time.Second))
			return err
		})
		n1, err1 = s.Read().CallBacks.Count(ctx, one.ID)
		n2, err2 = s.Read().CallBacks.Count(ctx, two.ID)
		return first(err, err1, err2, same("forgotten", gone, 1), same("the old one", n1, 0), same("the new one", n2, 1))
	})},
}
