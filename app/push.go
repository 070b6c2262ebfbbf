package app

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// Bounds of telling receivers.
const (
	maxPushes        = 64 // that this process has under way
	maxPushesPerHost = 8  // of them, to one host
	pushBudget       = 15 * time.Second
	pushWithout      = time.Minute      // before a process without a notifier looks again
	pushKept         = 24 * time.Hour   // how long a configuration that is done can still be read
	pushWaitMax      = 15 * time.Minute // the longest time for which a receiver that asks for it is left alone
)

// The limits of those who ask to be told: of each caller with a credential, and of each address without.
var (
	limitPush         = ports.RateRule{Name: "push", Limit: 60, Per: time.Minute}
	limitPushStranger = ports.RateRule{Name: "push-stranger", Limit: 20, Per: time.Minute}
)

// PushTo is where a caller wants to be told of what happens to a task.
type PushTo struct {
	Name    string // the caller's own, under which a second one takes the place of the first; "": one is made up
	URL     string
	Dialect string // as the notifier calls it
	Whole   bool   // see task.PushConfig
	// Schemes of authentication. The first is used, with Credentials if there are any.
	Schemes     []string
	Credentials string
	Token       string // given to the receiver with each notification
}

func (p PushTo) config() (task.PushConfig, task.PushSecrets) {
	return task.PushConfig{Name: p.Name, URL: p.URL, Dialect: p.Dialect, Whole: p.Whole, Schemes: p.Schemes},
		task.PushSecrets{Token: p.Token, Credentials: p.Credentials}
}

// Pushes reports whether the engine can tell receivers.
func (s *Gateway) Pushes() bool { return s.Notifier != nil }

// SetPush lets the caller be told of what happens to a task. Whoever may read it may call it; to others it does not
// exist. Under a name that the caller used for the task before, the new place takes that of the old one: what the
// receiver was told is not told again. from is where a caller without a credential is. One read and one commit.
func (s *Gateway) SetPush(ctx context.Context, c identity.Caller, from, taskID string, to PushTo) (out task.PushConfig, err error) {
	t, err := s.Store.Read().Tasks.Get(ctx, taskID)
	if err == nil {
		err = identity.Authorize(c, identity.TaskRead, taskResource(t))
	}
	if err != nil {
		return out, err
	}
	rule, who := limitPush, c.UserID
	if !c.Known() {
		rule, who = limitPushStranger, from
	}
	if err := s.limit(ctx, rule, who); err != nil {
		return out, err
	}
	if err := s.checkPush(ctx, to); err != nil {
		return out, err
	}
	err = s.update(ctx, func(ctx context.Context, u *unit) error {
		t, err := u.Tasks.Lock(ctx, taskID)
		if err == nil {
			err = identity.Authorize(c, identity.TaskRead, taskResource(t))
		}
		if err != nil {
			return err
		}
		if !t.Push {
			t.Push = true
			if err := u.Tasks.Save(ctx, t, nil); err != nil {
				return fmt.Errorf("save task: %w", err)
			}
		}
		before, err := u.Push.ByTask(ctx, taskID)
		if err != nil {
			return fmt.Errorf("read push configurations: %w", err)
		}
		out, err = s.keepPush(ctx, u, c, t, to, before)
		return err
	})
	return out, err
}

// pushes are the caller's own configurations for a task, oldest first.
func (s *Gateway) pushes(ctx context.Context, c identity.Caller, taskID string) ([]task.PushConfig, error) {
	r := s.Store.Read()
	t, err := r.Tasks.Get(ctx, taskID)
	if err == nil {
		err = identity.Authorize(c, identity.TaskRead, taskResource(t))
	}
	if err != nil || !t.Push {
		return nil, err
	}
	all, err := r.Push.ByTask(ctx, taskID)
	if err != nil {
		return nil, fmt.Errorf("read push configurations: %w", err)
	}
	var mine []task.PushConfig
	for _, p := range all {
		if p.UserID == c.UserID {
			mine = append(mine, p)
		}
	}
	return mine, nil
}

// PushConfigs returns the places that the caller named for a task, oldest first; those of strangers are one caller's. They can
// be read for a day after the last notification. Two reads.
func (s *Gateway) PushConfigs(ctx context.Context, c identity.Caller, taskID string) ([]task.PushConfig, error) {
	return s.pushes(ctx, c, taskID)
}

// PushConfig returns the one with the name. Two reads.
func (s *Gateway) PushConfig(ctx context.Context, c identity.Caller, taskID, name string) (task.PushConfig, error) {
	mine, err := s.pushes(ctx, c, taskID)
	if err != nil {
		return task.PushConfig{}, err
	}
	for _, p := range mine {
		if p.Name == name {
			return p, nil
		}
	}
	return task.PushConfig{}, fault.NotFoundf(fault.CodeTaskNotFound, "Push notification configuration", name)
}

// DeletePush removes the one with the name: after that no notification begins. Without one it does nothing. One commit.
func (s *Gateway) DeletePush(ctx context.Context, c identity.Caller, taskID, name string) error {
	return s.update(ctx, func(ctx context.Context, u *unit) error {
		t, err := u.Tasks.Lock(ctx, taskID)
		if err == nil {
			err = identity.Authorize(c, identity.TaskRead, taskResource(t))
		}
		if err != nil || !t.Push {
			return err
		}
		all, err := u.Push.ByTask(ctx, taskID)
		if err != nil {
			return fmt.Errorf("read push configurations: %w", err)
		}
		for _, p := range all {
			if p.UserID == c.UserID && p.Name == name {
				return u.Push.Delete(ctx, p.ID)
			}
		}
		return nil
	})
}

// checkPush tells what is wrong with a place. It may look up its host, so it is no part of a unit of work.
func (c *core) checkPush(ctx context.Context, to PushTo) error {
	conf, secrets := to.config()
	if err := conf.Check(secrets); err != nil {
		return err
	}
	var bad fault.Fields
	if secrets != (task.PushSecrets{}) && len(c.SealKeys) == 0 {
		bad.Add("authentication", "and token cannot be kept here, as this server was given no key to seal them with; leave them out")
		return bad.Err()
	}
	err := c.Guard.Check(ctx, to.URL)
	if f, ok := fault.As(err); ok {
		if fields, ok := f.Details["fields"].([]fault.Field); ok {
			for _, w := range fields {
				bad.Add("url", "%s", w.Message)
			}
			return bad.Err()
		}
	}
	return err
}

// keepPush writes down where the caller wants to be told. The task is locked; before are its configurations.
func (c *core) keepPush(ctx context.Context, u *unit, who identity.Caller, t task.Task, to PushTo, before []task.PushConfig) (task.PushConfig, error) {
	conf, secrets := to.config()
	conf.ID, conf.TaskID, conf.UserID, conf.SetAt = u.id(), t.ID, who.UserID, u.now
	if conf.Name == "" {
		conf.Name = conf.ID
	}
	conf = conf.Since(t)
	mine, known := 0, false
	for _, p := range before {
		if p.UserID != conf.UserID {
			continue
		}
		mine++
		if p.Name == conf.Name {
			conf.ID, conf.Told, known = p.ID, p.Told, true
		}
	}
	if !known && mine >= task.MaxPushConfigs {
		var bad fault.Fields
		bad.Add("id", "would be one more than the %d that there may be for a task; delete one, or replace it", task.MaxPushConfigs)
		return conf, bad.Err()
	}
	if t.Status.Ended() && !conf.Behind(t) {
		conf = conf.End(u.now)
	} else if secrets != (task.PushSecrets{}) {
		var err error
		if conf.Sealed, err = c.sealPush(conf.ID, secrets); err != nil {
			return conf, err
		}
	}
	if err := u.Push.Put(ctx, conf); err != nil {
		return conf, fmt.Errorf("put push configuration: %w", err)
	}
	if conf.Behind(t) {
		return conf, u.enqueue(ctx, jobPush, conf.ID, u.now, ports.PriorityWorkflow)
	}
	return conf, nil
}

// tellReceivers lets all who want to be told of a task be told soon.
func (u *unit) tellReceivers(ctx context.Context, taskID string) error {
	all, err := u.Push.ByTask(ctx, taskID)
	if err != nil {
		return fmt.Errorf("read push configurations: %w", err)
	}
	for _, p := range all {
		if p.DoneAt != nil || p.Failures > 0 { // the job is there, and has its time
			continue
		}
		if err := u.enqueue(ctx, jobPush, p.ID, u.now, ports.PriorityWorkflow); err != nil {
			return err
		}
	}
	return nil
}

// push tells a receiver what it does not know yet, one thing after the other, each committed when it was taken. What was
// taken just before a crash is told again.
func (w *Worker) push(ctx context.Context, job ports.Job) error {
	for {
		conf, ok, err := w.Store.Read().Push.Get(ctx, job.Subject)
		if err != nil {
			return fmt.Errorf("read push configuration: %w", err)
		}
		if !ok || conf.DoneAt != nil {
			return w.update(ctx, func(ctx context.Context, u *unit) error { return u.Jobs.Finish(ctx, job) })
		}
		if w.Notifier == nil {
			return w.giveUp(ctx, job, pushWithout)
		}
		leave := w.mayPush(conf)
		if leave == nil {
			return w.giveUp(ctx, job, backoff(job.ID, job.Attempt))
		}
		more, err := w.pushNext(ctx, job, conf)
		leave()
		if err != nil || !more {
			return err
		}
		if crew := w.crew.Load(); crew != nil && crew.open.Err() != nil {
			return errStopping
		}
	}
}

// mayPush takes a place for one notification, of those that this process and the receiver's host have; nil if there is
// none, so that slow receivers hold up nobody but themselves.
func (c *core) mayPush(conf task.PushConfig) (leave func()) {
	host := conf.URL
	if u, err := url.Parse(conf.URL); err == nil {
		host = strings.ToLower(u.Hostname())
	}
	select {
	case c.pushes <- struct{}{}:
	default:
		return nil
	}
	turn := c.receivers.take(host)
	if turn == nil || !turn.come() {
		turn.giveBack()
		<-c.pushes
		return nil
	}
	return func() {
		turn.giveBack()
		<-c.pushes
	}
}

// pushNext tells the receiver the next thing, and notes what came of it. more says that there may be something else to
// tell at once; else the job is no longer this process's.
func (w *Worker) pushNext(ctx context.Context, job ports.Job, conf task.PushConfig) (more bool, err error) {
	n, seq, err := w.notification(ctx, conf)
	if err != nil {
		return false, err
	}
	var failed *ports.NotifyError
	if n != nil {
		if n.Secrets, err = w.openPush(conf); err != nil { // another process may have the key, or this one again
			failed = &ports.NotifyError{Reason: err.Error()}
		} else if failed, err = w.notify(ctx, *n); err != nil {
			return false, err
		}
	}
	over := false
	err = w.update(ctx, func(ctx context.Context, u *unit) error {
		more, over = false, false
		t, err := u.Tasks.Lock(ctx, conf.TaskID)
		if err != nil {
			return fmt.Errorf("lock task: %w", err)
		}
		now, ok, err := u.Push.Get(ctx, conf.ID)
		if err != nil {
			return fmt.Errorf("read push configuration: %w", err)
		}
		if !ok { // it was deleted meanwhile
			return u.Jobs.Finish(ctx, job)
		}
		var wait time.Duration
		switch {
		case failed == nil:
			now = now.Took(seq, t, u.now)
		case !now.SetAt.Equal(conf.SetAt): // it was another place that failed
		case failed.Gone:
			now = now.End(u.now)
		default:
			now, wait = now.Refused(u.now)
			wait = max(spread(wait, job.ID, now.Failures), min(failed.RetryAfter, pushWaitMax))
		}
		over = failed != nil && now.DoneAt != nil
		if err := u.Push.Put(ctx, now); err != nil {
			return fmt.Errorf("put push configuration: %w", err)
		}
		switch more = now.Behind(t); {
		case !more:
			return u.Jobs.Finish(ctx, job)
		case wait > 0:
			more = false
			return u.retry(ctx, job, u.now.Add(wait))
		default:
			return nil
		}
	})
	if err == nil && over {
		w.Logger.WarnContext(ctx, "a receiver of push notifications was given up", "task", conf.TaskID, "push", conf.ID, "reason", failed.Reason)
	}
	return more, err
}

// notification is the next thing that the receiver is to be told; nil if there is none. seq is how much of the log it
// knows then.
func (w *Worker) notification(ctx context.Context, conf task.PushConfig) (n *ports.Notification, seq int64, err error) {
	r := w.Store.Read().Tasks
	if conf.Whole {
		t, events, err := r.History(ctx, conf.TaskID)
		if err != nil {
			return nil, 0, fmt.Errorf("read task: %w", err)
		}
		if !conf.Behind(t) {
			return nil, t.LastSeq, nil
		}
		return &ports.Notification{Seq: t.LastSeq, Config: conf, Task: t, Events: events}, t.LastSeq, nil
	}
	events, err := r.Events(ctx, conf.TaskID, conf.Told, watchBatch)
	if err != nil {
		return nil, 0, fmt.Errorf("read events: %w", err)
	}
	seq = conf.Told
	for _, e := range events {
		seq = e.Seq
		if !e.Notable() {
			continue
		}
		t, err := r.Get(ctx, conf.TaskID)
		if err != nil {
			return nil, 0, fmt.Errorf("read task: %w", err)
		}
		return &ports.Notification{Seq: seq, Config: conf, Task: t, Events: []task.Event{e}}, seq, nil
	}
	return nil, seq, nil
}

// notify tells a receiver one thing. err is there when it is not known what came of it because this process stops.
func (w *Worker) notify(ctx context.Context, n ports.Notification) (failed *ports.NotifyError, err error) {
	callCtx, cancel := context.WithTimeout(ctx, pushBudget)
	defer cancel()
	err = w.Notifier.Notify(callCtx, n)
	switch {
	case err == nil:
		return nil, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.As(err, &failed):
		return failed, nil
	default:
		return &ports.NotifyError{Reason: "it did not answer in time"}, nil
	}
}

// sealPush hides secrets from whoever reads the store.
func (c *core) sealPush(id string, s task.PushSecrets) ([]byte, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode secrets: %w", err)
	}
	seal, err := sealer(c.SealKeys[0])
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, seal.NonceSize())
	if _, err := io.ReadFull(c.Random, nonce); err != nil {
		return nil, fmt.Errorf("draw a nonce: %w", err)
	}
	return seal.Seal(nonce, nonce, text, []byte(id)), nil
}

func (c *core) openPush(conf task.PushConfig) (s task.PushSecrets, err error) {
	if conf.Sealed == nil {
		return s, nil
	}
	for _, key := range c.SealKeys {
		seal, err := sealer(key)
		if err != nil {
			return s, err
		}
		n := seal.NonceSize()
		if len(conf.Sealed) < n {
			break
		}
		if text, err := seal.Open(nil, conf.Sealed[:n], conf.Sealed[n:], []byte(conf.ID)); err == nil {
			return s, json.Unmarshal(text, &s)
		}
	}
	return s, errors.New("its secrets were sealed with a key that is not there")
}

func sealer(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make a cipher: %w", err)
	}
	return cipher.NewGCM(block)
}
