package memory

import (
	"context"
	"slices"
	"time"

	"github.com/nexus-protocol/nexus/ports"
)

type callBacks struct{ view }

var _ ports.CallBackStore = callBacks{}

// calledBack is how often an agent called back about a task, and when it last did.
type calledBack struct {
	n  int
	at time.Time
}

const theKey = "key"

func (v callBacks) Key(ctx context.Context) ([]byte, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	key, _ := v.s.callKey.get(theKey)
	return slices.Clone(key), nil
}

func (v callBacks) OfferKey(_ context.Context, key []byte) error {
	if _, ok := v.s.callKey.get(theKey); !ok {
		v.s.callKey.put(v.tx, theKey, slices.Clone(key))
	}
	return nil
}

func (v callBacks) Count(ctx context.Context, taskID string) (int, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return 0, err
	}
	defer unlock()
	c, _ := v.s.callBacks.get(taskID)
	return c.n, nil
}

func (v callBacks) Add(_ context.Context, taskID string, at time.Time) error {
	c, _ := v.s.callBacks.get(taskID)
	if c.n++; at.After(c.at) {
		c.at = at
	}
	v.s.callBacks.put(v.tx, taskID, c)
	return nil
}

func (v callBacks) DeleteUntil(_ context.Context, t time.Time) (n int, err error) {
	for id, c := range v.s.callBacks.rows {
		if !c.at.After(t) {
			v.s.callBacks.del(v.tx, id)
			n++
		}
	}
	return n, nil
}
