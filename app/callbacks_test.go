package app_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

func callable(c *app.Config) {
	c.CallBackURL = func(taskID string) string { return "http://engine.example.com/" + taskID }
}

// caller is an agent that says it works until it is let go, and knows where to call back.
type caller struct {
	follows atomic.Int32
	done    atomic.Bool

	mu     sync.Mutex
	tokens map[string]string // by task
	during func(taskID string, c ports.Call)
}

func (a *caller) answer(_ context.Context, c ports.Call) (ports.Answer, error) {
	if c.CallBack != nil {
		a.mu.Lock()
		if a.tokens == nil {
			a.tokens = map[string]string{}
		}
		a.tokens[c.TaskID] = c.CallBack.Token
		a.mu.Unlock()
	}
	if c.RemoteTaskID != "" {
		a.follows.Add(1)
	}
	now := ports.Answer{State: ports.AnswerWorking, RemoteTaskID: "remote of " + c.TaskID}
	if a.done.Load() {
		now.State, now.Messages = ports.AnswerDone, said("the answer")
	}
	if a.during != nil {
		a.during(c.TaskID, c)
	}
	return now, nil
}

func (a *caller) token(t *testing.T, taskID string) string {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	require.NotEmpty(t, a.tokens[taskID])
	return a.tokens[taskID]
}

// still fails if the agent is asked within a while.
func (a *caller) still(t *testing.T, why string) {
	t.Helper()
	n := a.follows.Load()
	time.Sleep(150 * time.Millisecond) // several sweeps
	require.Equal(t, n, a.follows.Load(), why)
}

func (a *caller) asked(t *testing.T, n int32, why string) {
	t.Helper()
	require.Eventually(t, func() bool { return a.follows.Load() >= n }, 5*time.Second, time.Millisecond, why)
}

func TestAnAgentThatCallsBackIsAskedThenAndElseSeldom(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.with(callable)
		r.work()
		asker, owner := r.user(), r.user()
		var agent caller
		v := r.create(asker, r.agent(owner, credits.Whole(10), agent.answer))
		agent.asked(t, 1, "as any that works, until it calls")
		require.NoError(t, r.Gateway.CalledBack(t.Context(), v.ID, agent.token(t, v.ID)))
		agent.asked(t, 2, "when it has called")
		time.Sleep(50 * time.Millisecond) // it may have been asked already when it called, and then once more
		agent.still(t, "it calls, so it is not asked")
		r.clock.skip(30 * time.Second)
		agent.still(t, "nor after a while")
		n := agent.follows.Load()
		r.clock.skip(31 * time.Second)
		agent.asked(t, n+1, "but after a minute, as calls get lost")
		agent.still(t, "and then not before the next")

		agent.done.Store(true)
		require.NoError(t, r.Gateway.CalledBack(t.Context(), v.ID, agent.token(t, v.ID)))
		done := r.ended(asker, v.ID)
		require.Equal(t, task.Completed, done.Status)
		require.Len(t, done.Messages, 2)

		for range 3 { // late, and again
			require.NoError(t, r.Gateway.CalledBack(t.Context(), v.ID, agent.token(t, v.ID)))
		}
		agent.still(t, "the task has ended")
		after, err := r.Tasks.Get(t.Context(), asker, v.ID)
		require.NoError(t, err)
		require.Equal(t, done, after)
		n2, err := r.store.Read().Jobs.Count(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, n2, "the agent's probe")
	})
}

// The agent calls while it is being asked, and what it answers is of before: the call must not be lost.
func TestACallDuringACallIsNotLost(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.with(callable)
		asker, owner := r.user(), r.user()
		agent := &caller{}
		agent.during = func(taskID string, c ports.Call) {
			// The answer is made: what the agent has done since is only in its call.
			if c.CallBack != nil {
				require.NoError(t, r.Gateway.CalledBack(t.Context(), taskID, c.CallBack.Token))
				return
			}
			if agent.follows.Load() == 2 {
				agent.done.Store(true)
				require.NoError(t, r.Gateway.CalledBack(t.Context(), taskID, agent.token(t, taskID)))
			}
		}
		v := r.create(asker, r.agent(owner, credits.Whole(10), agent.answer))
		r.work()
		agent.asked(t, 1, "it has called while it was given the message")
		r.clock.skip(61 * time.Second)
		require.Equal(t, task.Completed, r.ended(asker, v.ID).Status)
		require.EqualValues(t, 3, agent.follows.Load())
	})
}

func TestOnlyWhoHasTheTokenCallsBack(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.with(callable)
		r.work()
		asker, owner := r.user(), r.user()
		var agent caller
		a := r.agent(owner, 0, agent.answer)
		one, other := r.create(asker, a), r.create(asker, a)
		agent.asked(t, 2, "both work")
		require.NoError(t, r.Gateway.CalledBack(t.Context(), other.ID, agent.token(t, other.ID)))
		mine := agent.token(t, one.ID)
		require.NotEqual(t, mine, agent.token(t, other.ID))
		require.Len(t, mine, 43, "256 bits")
		count := func() int {
			n, err := r.store.Read().CallBacks.Count(t.Context(), one.ID)
			require.NoError(t, err)
			return n
		}
		for _, wrong := range []string{"", "x", mine[:42], mine + "A", strings.ToLower(mine), agent.token(t, other.ID)} {
			require.True(t, fault.Has(r.Gateway.CalledBack(t.Context(), one.ID, wrong), fault.CodeUnauthorized), wrong)
		}
		require.True(t, fault.Has(r.Gateway.CalledBack(t.Context(), "nobody's", mine), fault.CodeUnauthorized))
		require.Zero(t, count())

		r.with(callable) // another process on the store
		require.NoError(t, r.Gateway.CalledBack(t.Context(), one.ID, mine))
		require.Equal(t, 1, count())
		r.with() // one that tells nobody to call
		require.True(t, fault.Has(r.Gateway.CalledBack(t.Context(), one.ID, mine), fault.CodeUnauthorized))
	})
}

func TestCallsBackAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, memory.New(), callable)
	asker, owner := r.user(), r.user()
	var agent caller
	a := r.agent(owner, 0, agent.answer)
	stop := r.workUntil()
	v := r.create(asker, a)
	agent.asked(t, 1, "it works")
	stop()
	n, token := 0, agent.token(t, v.ID)
	for ; n < 2000; n++ {
		if err := r.Gateway.CalledBack(t.Context(), v.ID, token); err != nil {
			require.True(t, fault.Has(err, fault.CodeRateLimitExceeded), err)
			break
		}
	}
	require.InDelta(t, 660, n, 40)
	count, err := r.store.Read().CallBacks.Count(t.Context(), v.ID)
	require.NoError(t, err)
	require.Equal(t, n, count)
}

// An agent that has asked back may go on without an answer from the requester: what it asked for was given to it elsewhere.
func TestAnAgentThatHasAskedBackCallsBack(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.with(callable)
		r.work()
		asker, owner := r.user(), r.user()
		var agent caller
		var state atomic.Value
		state.Store(ports.AnswerInputRequired)
		var broken atomic.Bool
		v := r.create(asker, r.agent(owner, credits.Whole(10), func(ctx context.Context, c ports.Call) (ports.Answer, error) {
			a, err := agent.answer(ctx, c)
			a.State = state.Load().(ports.AnswerState)
			if a.State == ports.AnswerInputRequired {
				a.Messages = said("sign in there")
			}
			if broken.Load() {
				return ports.Answer{}, &ports.CallError{Code: task.ErrProtocol, Message: "there are no tasks here"}
			}
			return a, err
		}))
		is := func(what func(app.TaskView) bool) {
			t.Helper()
			require.Eventually(t, func() bool {
				now, err := r.Tasks.Get(t.Context(), asker, v.ID)
				require.NoError(t, err)
				return what(now)
			}, 5*time.Second, time.Millisecond)
		}
		is(func(v app.TaskView) bool { return v.AwaitsInput })
		call := func() { require.NoError(t, r.Gateway.CalledBack(t.Context(), v.ID, agent.token(t, v.ID))) }
		before, err := r.Tasks.Get(t.Context(), asker, v.ID)
		require.NoError(t, err)
		call()
		agent.asked(t, 1, "it has called")
		broken.Store(true)
		call()
		agent.asked(t, 2, "it has called again")
		idle := func() {
			t.Helper()
			require.Eventually(t, func() bool {
				n, err := r.store.Read().Jobs.Count(t.Context())
				require.NoError(t, err)
				return n == 1 // the agent's probe
			}, 5*time.Second, time.Millisecond)
		}
		idle()
		now, err := r.Tasks.Get(t.Context(), asker, v.ID)
		require.NoError(t, err)
		require.Equal(t, before.LastSeq, now.LastSeq, "nothing new, and a look that fails is nothing")
		require.True(t, now.AwaitsInput)

		broken.Store(false)
		state.Store(ports.AnswerWorking)
		call()
		is(func(v app.TaskView) bool { return !v.AwaitsInput && v.Status == task.Running })
		state.Store(ports.AnswerDone)
		call()
		done := r.ended(asker, v.ID)
		require.Equal(t, task.Completed, done.Status)
		require.Equal(t, credits.Whole(990), r.balance(asker).Available)
	})
}

// It calls before its question is taken in, to say that it needs no answer any more.
func TestACallDuringAQuestionIsNotLost(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.with(callable)
		asker, owner := r.user(), r.user()
		var follows atomic.Int32
		v := r.create(asker, r.agent(owner, 0, func(ctx context.Context, c ports.Call) (ports.Answer, error) {
			if c.CallBack == nil {
				follows.Add(1)
				return ports.Answer{State: ports.AnswerDone, RemoteTaskID: "r", Messages: said("the answer")}, nil
			}
			require.NoError(t, r.Gateway.CalledBack(ctx, c.TaskID, c.CallBack.Token))
			return ports.Answer{State: ports.AnswerInputRequired, RemoteTaskID: "r", Messages: said("sign in there")}, nil
		}))
		r.work()
		require.Eventually(t, func() bool { return follows.Load() > 0 }, 10*time.Second, time.Millisecond)
		require.Equal(t, task.Completed, r.ended(asker, v.ID).Status)
	})
}
