package portstest

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

func pushOf(taskID, userID, name string) task.PushConfig {
	return task.PushConfig{
		ID: newID(), TaskID: taskID, UserID: userID, Name: name, URL: "https://receiver.example.com/Ü?x=1", Dialect: "d", Whole: true,
		Schemes: []string{"Bearer", "Basic"}, Sealed: []byte{0, 0xff, '\n'}, Told: 3, Failures: 2, SetAt: base, DoneAt: ptr(base.Add(time.Second)),
	}
}

func put(s ports.Store, configs ...task.PushConfig) func(context.Context) error {
	return func(ctx context.Context) error {
		return s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
			for _, c := range configs {
				if err := tx.Push.Put(ctx, c); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

var pushChecks = []Check{
	{"push/come back as they were", func(ctx context.Context, s ports.Store, _ Traits) error {
		full, plain := pushOf("t", "u", "n"), task.PushConfig{ID: newID(), TaskID: "t", Name: "n", URL: "http://r", SetAt: base}
		other := pushOf("other", "u", "n")
		_, none, err := s.Read().Push.Get(ctx, full.ID)
		empty, err2 := s.Read().Push.ByTask(ctx, "t")
		if err := first(err, err2, same("none", none, false), same("none of the task", len(empty), 0), put(s, full, plain, other)(ctx)); err != nil {
			return err
		}
		got, ok, err := s.Read().Push.Get(ctx, full.ID)
		all, err2 := s.Read().Push.ByTask(ctx, "t")
		if err := first(err, err2, same("there", ok, true), same("full", got, full), same("of the task, in order", all, []task.PushConfig{full, plain})); err != nil {
			return err
		}
		full.URL, full.Dialect, full.Whole, full.Schemes, full.Sealed = "http://elsewhere", "e", false, nil, nil
		full.Told, full.Failures, full.SetAt, full.DoneAt = 4, 0, base.Add(time.Hour), nil
		var within task.PushConfig
		err = s.Update(ctx, func(ctx context.Context, tx ports.Tx) (err error) {
			if err = tx.Push.Put(ctx, full); err == nil {
				within, _, err = tx.Push.Get(ctx, full.ID)
			}
			return err
		})
		got, _, err2 = s.Read().Push.Get(ctx, full.ID)
		return first(err, err2, same("changed, as the unit sees it", within, full), same("changed", got, full))
	}},
	{"push/a name is one configuration's", func(ctx context.Context, s ports.Store, _ Traits) error {
		c := pushOf("t", "u", "n")
		if err := put(s, c, pushOf("t", "u", "m"), pushOf("t", "", "n"), pushOf("v", "u", "n"))(ctx); err != nil {
			return err
		}
		return wantErr("the same name", put(s, pushOf("t", "u", "n"))(ctx), ports.ErrDuplicate)
	}},
	{"push/delete", func(ctx context.Context, s ports.Store, _ Traits) error {
		long, just, open, gone := pushOf("t", "u", "a"), pushOf("t", "u", "b"), pushOf("t", "u", "c"), pushOf("t", "u", "d")
		just.DoneAt, open.DoneAt = ptr(base.Add(time.Second+time.Microsecond)), nil
		if err := put(s, long, just, open, gone)(ctx); err != nil {
			return err
		}
		n := 0
		err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) (err error) {
			if err = first(tx.Push.Delete(ctx, gone.ID), tx.Push.Delete(ctx, gone.ID), tx.Push.Delete(ctx, "unknown")); err == nil {
				n, err = tx.Push.DeleteUntil(ctx, base.Add(time.Second))
			}
			return err
		})
		left, err2 := s.Read().Push.ByTask(ctx, "t")
		return first(err, err2, same("deleted", n, 1), same("left", left, []task.PushConfig{just, open}))
	}},
}

// Reception is how a receiver of a suite answers.
type Reception int

// The receptions.
const (
	Take     Reception = iota
	Refuse             // as if it were broken
	SendAway           // it wants none any more
	PutOff             // it asks to be left alone for a minute
	Ignore             // it does not answer until the ctx of the notifier ends
)

// Receivers begins receivers for a suite, each at a URL of its own. taken is how often it has taken something.
type Receivers func(r Reception) (url string, taken func() int)

// Notifier checks a notifier. dialects are all that it knows.
func Notifier(ctx context.Context, n ports.Notifier, dialects []string, receivers Receivers) error {
	t, events, err := task.New(task.Draft{ID: newID(), Title: "Title", RequesterUserID: "u", AgentID: "a", AgentOwnerID: "o", At: base})
	if err != nil {
		return err
	}
	const canary = "canary-4711"
	notification := func(url, dialect string, whole bool) ports.Notification {
		about := events[:1]
		if whole {
			about = events[1:]
		}
		return ports.Notification{
			Seq: 1, Task: t, Events: about, Secrets: task.PushSecrets{Token: canary, Credentials: canary},
			Config: task.PushConfig{ID: newID(), TaskID: t.ID, URL: url, Dialect: dialect, Whole: whole, Schemes: []string{"Bearer"}},
		}
	}
	for _, dialect := range dialects {
		for _, whole := range []bool{false, true} {
			url, taken := receivers(Take)
			what := dialect + ": "
			if err := first(n.Notify(ctx, notification(url, dialect, whole)), same(what+"taken", taken(), 1), n.Notify(ctx, notification(url, dialect, whole)), same(what+"taken again", taken(), 2)); err != nil {
				return failf("%s%w", what, err)
			}
		}
	}
	refused := func(r Reception) (*ports.NotifyError, error) {
		url, taken := receivers(r)
		err := n.Notify(ctx, notification(url, dialects[0], false))
		var e *ports.NotifyError
		switch {
		case !errors.As(err, &e):
			return nil, failf("reception %d: want a NotifyError, got %v", r, err)
		case strings.Contains(err.Error(), canary), strings.Contains(err.Error(), url):
			return nil, failf("reception %d: the error tells secrets, or a URL that may hold some: %w", r, err)
		}
		return e, same("taken", taken(), 0)
	}
	broken, err1 := refused(Refuse)
	gone, err2 := refused(SendAway)
	later, err3 := refused(PutOff)
	if err := first(err1, err2, err3); err != nil {
		return err
	}
	if err := first(same("broken is gone", broken.Gone, false), same("sent away", gone.Gone, true), same("put off is gone", later.Gone, false), same("put off", later.RetryAfter, time.Minute)); err != nil {
		return err
	}
	url, _ := receivers(Ignore)
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	return wantErr("one that does not answer", n.Notify(short, notification(url, dialects[0], false)), context.DeadlineExceeded)
}
