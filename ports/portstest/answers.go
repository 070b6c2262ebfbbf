package portstest

import (
	"context"
	"time"

	"github.com/nexus-protocol/nexus/ports"
)

var answerChecks = []Check{
	{"answers/the first one stays", func(ctx context.Context, s ports.Store, _ Traits) error {
		put := func(a ports.KeptAnswer, stale time.Time) error {
			return s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Answers.Put(ctx, a, stale) })
		}
		a := ports.KeptAnswer{ID: "id", Request: "r", Body: []byte{0, 0xff, '\n'}, At: base}
		b := ports.KeptAnswer{ID: "id", Request: "other", Body: []byte{}, At: base.Add(time.Hour)}
		_, none, err1 := s.Read().Answers.Get(ctx, "id")
		err2 := put(a, base.Add(-time.Hour))
		err3 := put(b, base.Add(-time.Microsecond))
		got, ok, err4 := s.Read().Answers.Get(ctx, "id")
		if err := first(err1, err2, err4, wantErr("a second", err3, ports.ErrDuplicate), same("none", none, false), same("there", ok, true), same("answer", got, a)); err != nil {
			return err
		}
		err := put(b, base)
		got, _, err2 = s.Read().Answers.Get(ctx, "id")
		return first(err, err2, same("one that is stale is replaced", got.Request, "other"), same("empty", len(got.Body), 0))
	}},
	{"answers/delete", func(ctx context.Context, s ports.Store, _ Traits) error {
		var n int
		err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
			for i, id := range []string{"a", "b", "c"} {
				if err := tx.Answers.Put(ctx, ports.KeptAnswer{ID: id, Body: []byte("x"), At: base.Add(time.Duration(i) * time.Second)}, base); err != nil {
					return err
				}
			}
			return nil
		})
		err2 := s.Update(ctx, func(ctx context.Context, tx ports.Tx) (err error) {
			n, err = tx.Answers.DeleteUntil(ctx, base.Add(time.Second))
			return err
		})
		_, gone, err3 := s.Read().Answers.Get(ctx, "b")
		_, left, err4 := s.Read().Answers.Get(ctx, "c")
		return first(err, err2, err3, err4, same("deleted", n, 2), same("gone", gone, false), same("left", left, true))
	}},
}
