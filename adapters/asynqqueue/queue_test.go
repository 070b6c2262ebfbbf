package asynqqueue_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/asynqqueue"
	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/adapters/redistest"
	"github.com/nexus-protocol/nexus/ports"
	"github.com/nexus-protocol/nexus/ports/portstest"
)

func TestMain(m *testing.M) { os.Exit(redistest.Main(m)) }

func client(t *testing.T) *redis.Client {
	t.Helper()
	opt, err := redis.ParseURL(redistest.URL(t))
	require.NoError(t, err)
	c := redis.NewClient(opt)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestConformance(t *testing.T) {
	for _, c := range portstest.QueueChecks() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			store, rc := memory.New(), client(t)
			require.NoError(t, c.Run(t.Context(), store, func(workers int) ports.Queue {
				q := asynqqueue.New(store, rc, time.Now, asynqqueue.Options{Workers: workers})
				t.Cleanup(func() { require.NoError(t, q.Close()) })
				return q
			}, time.Now))
		})
	}
}

// Redis is emptied while jobs are under way. None is lost, and none acts twice.
func TestAnEmptiedRedisLosesNothing(t *testing.T) {
	t.Parallel()
	store, rc := memory.New(), client(t)
	q := asynqqueue.New(store, rc, time.Now, asynqqueue.Options{Workers: 4})
	t.Cleanup(func() { require.NoError(t, q.Close()) })
	var mu sync.Mutex
	acts := map[string]int{}
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() {
		over <- q.Run(ctx, func(ctx context.Context, id string) error {
			lease := ports.Lease{Owner: "w", Until: time.Now().Add(time.Minute)}
			var j ports.Job
			err := store.Update(ctx, func(ctx context.Context, tx ports.Tx) (err error) {
				j, err = tx.Jobs.Claim(ctx, id, lease, time.Now())
				return err
			})
			if err != nil {
				return nil //nolint:nilerr // it is another's
			}
			time.Sleep(5 * time.Millisecond)
			mu.Lock()
			acts[id]++
			mu.Unlock()
			return store.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Jobs.Finish(ctx, j) })
		})
	}()
	const jobs = 300
	for i := range jobs {
		j := ports.Job{ID: fmt.Sprintf("job-%03d", i), Kind: "k", RunAt: time.Now()}
		require.NoError(t, store.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error { return tx.Jobs.Enqueue(ctx, j) }))
		q.Dispatch(j.Ref())
		if i%100 == 50 {
			require.NoError(t, rc.FlushDB(t.Context()).Err())
		}
	}
	require.Eventually(t, func() bool {
		n, err := store.Read().Jobs.Count(t.Context())
		return err == nil && n == 0
	}, 20*time.Second, 10*time.Millisecond)
	stop()
	require.NoError(t, <-over)
	require.Len(t, acts, jobs)
	for id, n := range acts {
		require.Equal(t, 1, n, id)
	}
}

// A process that works begins a job of its own without a detour through Redis, as long as it has a place.
func TestAJobOfOnesOwnBeginsAtOnce(t *testing.T) {
	t.Parallel()
	store, rc := memory.New(), client(t)
	q := asynqqueue.New(store, rc, time.Now, asynqqueue.Options{Workers: 1})
	t.Cleanup(func() { require.NoError(t, q.Close()) })
	begun, release := make(chan string), make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() {
		over <- q.Run(ctx, func(_ context.Context, id string) error {
			begun <- id
			<-release
			return nil
		})
	}()
	known := func() int64 { return rc.SCard(t.Context(), "asynq:queues").Val() }
	require.Eventually(t, func() bool { return rc.ZCard(t.Context(), "asynq:servers").Val() > 0 }, 10*time.Second, time.Millisecond, "it works")
	q.Dispatch(ports.Ref{ID: "first", RunAt: time.Now()})
	require.Equal(t, "first", <-begun)
	require.Zero(t, known(), "Redis has not seen it")
	q.Dispatch(ports.Ref{ID: "second", RunAt: time.Now()})
	require.Eventually(t, func() bool { return known() > 0 }, 10*time.Second, time.Millisecond)
	close(release)
	require.Equal(t, "second", <-begun)
	stop()
	require.NoError(t, <-over)
}
