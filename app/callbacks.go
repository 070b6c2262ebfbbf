package app

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// How often agents may call back about one task: calls beyond the first rule are looked into a little later, those beyond
// the second are refused.
var (
	paceCallBack  = ports.RateRule{Name: "callback-pace", Limit: 60, Per: time.Minute}
	limitCallBack = ports.RateRule{Name: "callback", Limit: 600, Per: time.Minute}
)

// keyOfCallBacks is the secret, the same for all processes on the store. It is made when it is first needed. One read, and
// none once it is known.
func (c *core) keyOfCallBacks(ctx context.Context) ([]byte, error) {
	if key := c.callKey.Load(); key != nil {
		return *key, nil
	}
	key, err := c.Store.Read().CallBacks.Key(ctx)
	if err == nil && key == nil {
		made := make([]byte, sha256.Size)
		if _, err := io.ReadFull(c.Random, made); err != nil {
			return nil, fmt.Errorf("draw a key: %w", err)
		}
		err = c.update(ctx, func(ctx context.Context, u *unit) (err error) {
			if err = u.CallBacks.OfferKey(ctx, made); err == nil {
				key, err = u.CallBacks.Key(ctx)
			}
			return err
		})
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("key of call-backs: %w", err)
	case len(key) == 0:
		return nil, errors.New("the key of call-backs is empty")
	}
	c.callKey.Store(&key)
	return key, nil
}

// callBackToken is what the agent of a task is given to show when it calls back. It is not kept: it follows from the key
// and the task, so it is the same on each attempt, and no two tasks have the same.
func callBackToken(key []byte, taskID string) string {
	h := hmac.New(sha256.New, key)
	_, _ = h.Write([]byte("nexus: call back\x00" + taskID)) // a hash takes everything
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// callBack is what a task's agent is told about calling back; nil if it cannot.
func (c *core) callBack(ctx context.Context, taskID string) (*ports.CallBack, error) {
	if c.CallBackURL == nil {
		return nil, nil
	}
	key, err := c.keyOfCallBacks(ctx)
	if err != nil {
		return nil, err
	}
	return &ports.CallBack{URL: c.CallBackURL(taskID), Token: callBackToken(key, taskID)}, nil
}

// called is how often the agent has called back about a task.
func (c *core) called(ctx context.Context, u *unit, taskID string) (int, error) {
	if c.CallBackURL == nil {
		return 0, nil
	}
	n, err := u.CallBacks.Count(ctx, taskID)
	if err != nil {
		return 0, fmt.Errorf("count call-backs: %w", err)
	}
	return n, nil
}

// unlessCalled is after how long an agent that is at work is asked again: soon if it has called back since it was asked,
// which was calls times by then, and seldom if it did so before.
func (c *core) unlessCalled(ctx context.Context, u *unit, t task.Task, calls int, wait time.Duration) (time.Duration, error) {
	n, err := c.called(ctx, u, t.ID)
	switch {
	case err != nil:
		return 0, err
	case n > calls:
		return min(wait, followFirst), nil
	case n > 0:
		return min(followCalling, max(t.TimeoutAt.Sub(u.now), time.Millisecond)), nil
	default:
		return wait, nil
	}
}

// CalledBack takes an agent's word that a task has moved on, and has the engine ask the agent how it stands: nothing else is
// believed. token is what the agent was given with the task; without it the caller is UNAUTHORIZED, whether there is such a
// task or not. About a task that has ended it does nothing. One read and one commit, and none for a wrong token.
func (s *Gateway) CalledBack(ctx context.Context, taskID, token string) error {
	if s.CallBackURL == nil {
		return identity.Unauthorized()
	}
	key, err := s.keyOfCallBacks(ctx)
	if err != nil {
		return err
	}
	got, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(callBackToken(key, taskID)))
	if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
		return identity.Unauthorized()
	}
	at := s.now()
	pace, err := s.take(ctx, paceCallBack, taskID)
	if fault.Has(err, fault.CodeRateLimitExceeded) {
		at = at.Add(pace.RetryAfter)
		err = s.limit(ctx, limitCallBack, taskID)
	}
	if err != nil {
		return err
	}
	t, err := s.Store.Read().Tasks.Get(ctx, taskID)
	if err != nil || t.Status.Ended() {
		return err
	}
	return s.update(ctx, func(ctx context.Context, u *unit) error {
		t, err := u.Tasks.Lock(ctx, taskID)
		if err != nil || t.Status.Ended() {
			return err
		}
		if err := u.CallBacks.Add(ctx, taskID, u.now); err != nil {
			return fmt.Errorf("count a call-back: %w", err)
		}
		// While a message is on its way to the agent, a call that is under way will see the count, and one that is to be made
		// again keeps its time.
		if t.RemoteTaskID == "" || t.Unheard() {
			return nil
		}
		return u.enqueue(ctx, jobForward, taskID, at, ports.PriorityInteractive)
	})
}
