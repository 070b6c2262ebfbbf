package memory

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

type push struct{ view }

var _ ports.PushStore = push{}

func clonePush(c task.PushConfig) task.PushConfig {
	c.Schemes, c.Sealed, c.DoneAt = slices.Clone(c.Schemes), slices.Clone(c.Sealed), clonePtr(c.DoneAt)
	return c
}

func (v push) Get(ctx context.Context, id string) (task.PushConfig, bool, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return task.PushConfig{}, false, err
	}
	defer unlock()
	c, ok := v.s.push.get(id)
	return clonePush(c), ok, nil
}

func (v push) ByTask(ctx context.Context, taskID string) (out []task.PushConfig, err error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	for _, c := range v.s.push.rows {
		if c.TaskID == taskID {
			out = append(out, clonePush(c))
		}
	}
	slices.SortFunc(out, func(a, b task.PushConfig) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}

func (v push) Put(_ context.Context, c task.PushConfig) error {
	for _, other := range v.s.push.rows {
		if other.ID != c.ID && other.TaskID == c.TaskID && other.UserID == c.UserID && other.Name == c.Name {
			return ports.ErrDuplicate
		}
	}
	v.s.push.put(v.tx, c.ID, clonePush(c))
	return nil
}

func (v push) Delete(_ context.Context, id string) error {
	v.s.push.del(v.tx, id)
	return nil
}

func (v push) DeleteUntil(_ context.Context, t time.Time) (int, error) {
	n := 0
	for id, c := range v.s.push.rows {
		if c.DoneAt != nil && !c.DoneAt.After(t) {
			v.s.push.del(v.tx, id)
			n++
		}
	}
	return n, nil
}

// ReceiverFunc is a receiver of notifications that is a function. What is no *ports.NotifyError becomes one.
type ReceiverFunc func(ctx context.Context, n ports.Notification) error

// Receivers is a ports.Notifier whose receivers are functions in this process, by URL.
type Receivers struct {
	mu        sync.RWMutex
	receivers map[string]ReceiverFunc
}

var _ ports.Notifier = (*Receivers)(nil)

// NewReceivers makes a notifier that reaches nobody yet.
func NewReceivers() *Receivers { return &Receivers{receivers: map[string]ReceiverFunc{}} }

// Handle puts a receiver at a URL; nil takes it away.
func (r *Receivers) Handle(url string, f ReceiverFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f == nil {
		delete(r.receivers, url)
		return
	}
	r.receivers[url] = f
}

// Notify implements ports.Notifier.
func (r *Receivers) Notify(ctx context.Context, n ports.Notification) error {
	r.mu.RLock()
	f := r.receivers[n.Config.URL]
	r.mu.RUnlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if f == nil {
		return &ports.NotifyError{Reason: "there is no receiver"}
	}
	err := f(ctx, n)
	var refused *ports.NotifyError
	if err == nil || errors.As(err, &refused) || ctx.Err() != nil {
		return err
	}
	return &ports.NotifyError{Reason: "the receiver failed"}
}
