package portstest

import (
	"context"

	"github.com/nexus-protocol/nexus/ports"
)

var secretChecks = []Check{
	{"secrets/the first one stays", func(ctx context.Context, s ports.Store, _ Traits) error {
		keep := func(name string, secret ...byte) error {
			return s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Secrets.Keep(ctx, name, secret) })
		}
		_, early, err1 := s.Read().Secrets.Get(ctx, "a")
		err2 := first(keep("a", 0, 0xff, 1), keep("a", 2), keep("b", 3))
		a, ok, err3 := s.Read().Secrets.Get(ctx, "a")
		b, _, err4 := s.Read().Secrets.Get(ctx, "b")
		if err := first(err1, err2, err3, err4, same("early", early, false), same("ok", ok, true), same("a", a, []byte{0, 0xff, 1}), same("b", b, []byte{3})); err != nil {
			return err
		}
		a[0] = 9
		a, _, err1 = s.Read().Secrets.Get(ctx, "a")
		return first(err1, same("after changing what was got", a[0], byte(0)))
	}},
}
