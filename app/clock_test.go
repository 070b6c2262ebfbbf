package app_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/inprocess"
	"github.com/nexus-protocol/nexus/adapters/postgres"
	"github.com/nexus-protocol/nexus/adapters/postgres/postgrestest"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// Two processes whose machines' clocks are a minute apart work on one database. None takes what the other one works on,
// none ends a task before its time, and a job that is to wait waits no longer than it should.
func TestClocksThatAreAMinuteApart(t *testing.T) {
	t.Parallel()
	url := postgrestest.URL(t)
	require.NoError(t, postgres.Migrate(t.Context(), url))
	process := func(skew time.Duration) *rig {
		skewed := func() time.Time { return time.Now().Add(skew) }
		store, err := postgres.Open(t.Context(), url, postgres.WithClock(skewed))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, store.Close()) })
		require.WithinDuration(t, time.Now(), store.Now(), 2*time.Second)
		return newRig(t, store, func(c *app.Config) {
			c.Sole, c.Now = false, store.Now
			c.Queue = inprocess.New(store, store.Now, inprocess.Options{SweepEvery: 20 * time.Millisecond})
		})
	}
	slow, fast := process(0), process(time.Minute)
	asker, owner := slow.user(), slow.user()

	var first sync.Map // when each task was sent first
	var repeated atomic.Int32
	answer := func(ctx context.Context, c ports.Call) (ports.Answer, error) {
		if _, again := first.LoadOrStore(c.TaskID, time.Now()); again {
			repeated.Add(1)
		}
		select {
		case <-time.After(1500 * time.Millisecond): // some sweeps
		case <-ctx.Done():
			return ports.Answer{}, ctx.Err()
		}
		return echo(ctx, c)
	}
	a := slow.agent(owner, credits.Whole(1), answer)
	fast.agents.Handle(a.Endpoint, answer)
	var refused atomic.Int32
	once := func(ctx context.Context, c ports.Call) (ports.Answer, error) {
		if refused.Add(1) == 1 {
			return ports.Answer{}, &ports.CallError{Code: task.ErrAgent, Message: "later", Retryable: true}
		}
		return echo(ctx, c)
	}
	moody := slow.agent(owner, 0, once)
	fast.agents.Handle(moody.Endpoint, once)

	slow.work()
	fast.work()
	var ids []string
	for i := range 6 {
		r := []*rig{slow, fast}[i%2]
		v, err := r.Tasks.Create(t.Context(), asker, app.CreateTask{AgentID: a.ID, Title: "x", Timeout: 30 * time.Second})
		require.NoError(t, err)
		ids = append(ids, v.ID)
	}
	again := slow.create(asker, moody)
	for _, id := range ids {
		v := slow.ended(asker, id)
		require.Equal(t, task.Completed, v.Status, "%+v", v.Error)
		require.Equal(t, 1, v.Attempts)
		took := v.CompletedAt.Sub(*v.StartedAt)
		require.Greater(t, took, time.Second)
		require.Less(t, took, 20*time.Second)
		require.WithinDuration(t, time.Now(), *v.CompletedAt, 30*time.Second)
	}
	require.Zero(t, repeated.Load(), "calls of an agent that another process was calling")
	require.Equal(t, credits.Whole(int64(1000-len(ids))), slow.balance(asker).Available)
	v := slow.ended(asker, again.ID)
	require.Equal(t, task.Completed, v.Status)
	wait := v.CompletedAt.Sub(*v.StartedAt)
	require.Greater(t, wait, 200*time.Millisecond, "the second attempt waits")
	require.Less(t, wait, 5*time.Second, "but not for a minute")
}
