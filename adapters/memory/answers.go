package memory

import (
	"context"
	"slices"
	"time"

	"github.com/nexus-protocol/nexus/ports"
)

type answers struct{ view }

func (v answers) Get(ctx context.Context, id string) (ports.KeptAnswer, bool, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return ports.KeptAnswer{}, false, err
	}
	defer unlock()
	a, ok := v.s.answers.get(id)
	a.Body = slices.Clone(a.Body)
	return a, ok, nil
}

func (v answers) Put(_ context.Context, a ports.KeptAnswer, stale time.Time) error {
	if old, ok := v.s.answers.get(a.ID); ok && old.At.After(stale) {
		return ports.ErrDuplicate
	}
	a.Body = slices.Clone(a.Body)
	v.s.answers.put(v.tx, a.ID, a)
	return nil
}

func (v answers) DeleteUntil(_ context.Context, t time.Time) (int, error) {
	n := 0
	for id, a := range v.s.answers.rows {
		if !a.At.After(t) {
			v.s.answers.del(v.tx, id)
			n++
		}
	}
	return n, nil
}

var _ ports.AnswerStore = answers{}
