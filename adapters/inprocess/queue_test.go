package inprocess_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/inprocess"
	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/ports"
	"github.com/nexus-protocol/nexus/ports/portstest"
)

// counted counts how often it is asked for what is due.
type counted struct {
	ports.Store
	asked atomic.Int32
}

type countedJobs struct {
	ports.JobReader
	*counted
}

func (c *counted) Read() ports.Reads {
	r := c.Store.Read()
	r.Jobs = countedJobs{r.Jobs, c}
	return r
}

func (c countedJobs) Due(ctx context.Context, now time.Time, limit int) ([]ports.Ref, error) {
	c.asked.Add(1)
	return c.JobReader.Due(ctx, now, limit)
}

// Jobs that are left as they are, however many, come again with the next sweep, and not as fast as can be.
func TestJobsThatAreLeft(t *testing.T) {
	t.Parallel()
	store := &counted{Store: memory.New()}
	require.NoError(t, store.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
		for i := range 2500 {
			if err := tx.Jobs.Enqueue(ctx, ports.Job{ID: fmt.Sprint("job", i), Kind: "job", RunAt: time.Now().Add(-time.Minute)}); err != nil {
				return err
			}
		}
		return nil
	}))
	q := inprocess.New(store, time.Now, inprocess.Options{SweepEvery: 100 * time.Millisecond})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan error, 1)
	var handed atomic.Int32
	began := time.Now()
	go func() { done <- q.Run(ctx, func(context.Context, string) error { handed.Add(1); return nil }) }()
	require.Eventually(t, func() bool { return handed.Load() > 3_000 }, 20*time.Second, time.Millisecond, "they come again")
	time.Sleep(300 * time.Millisecond)
	sweeps := int32(time.Since(began)/(100*time.Millisecond)) + 1
	require.LessOrEqual(t, store.asked.Load(), sweeps+2, "in %d sweeps", sweeps)
	stop()
	require.NoError(t, <-done)
}

func TestQueue(t *testing.T) {
	for _, c := range portstest.QueueChecks() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			store := memory.New()
			require.NoError(t, c.Run(t.Context(), store, func(workers int) ports.Queue {
				return inprocess.New(store, time.Now, inprocess.Options{Workers: workers})
			}, time.Now))
		})
	}
}
