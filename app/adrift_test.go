package app_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// flaky is a store whose connection breaks when it should tell how a commit ended, or before.
type flaky struct {
	ports.Store
	loseClaim atomic.Bool  // the answer to the next claim's commit
	away      atomic.Int32 // so many updates fail
}

var errBroken = errors.New("the connection broke")

type watchedJobs struct {
	ports.JobStore
	claimed *bool
}

func (j watchedJobs) Claim(ctx context.Context, id string, lease ports.Lease, now time.Time) (ports.Job, error) {
	job, err := j.JobStore.Claim(ctx, id, lease, now)
	*j.claimed = err == nil
	return job, err
}

func (s *flaky) Update(ctx context.Context, fn func(ctx context.Context, tx ports.Tx) error) error {
	if s.away.Load() > 0 {
		s.away.Add(-1)
		return errBroken
	}
	claimed := false
	err := s.Store.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
		claimed = false
		tx.Jobs = watchedJobs{tx.Jobs, &claimed}
		return fn(ctx, tx)
	})
	if err == nil && claimed && s.loseClaim.CompareAndSwap(true, false) {
		return errBroken
	}
	return err
}

// A job that the process lost sight of is not kept from everyone by the lease that the process renews for its others.
func TestAJobThatTheStoreLostSightOfRunsAgain(t *testing.T) {
	for name, lose := range map[string]func(s *flaky, calls int32){
		"while it was claimed": nil,
		"when it was done": func(s *flaky, calls int32) {
			if calls == 1 {
				s.away.Store(2) // the answer, and giving it up
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			everyStore(t, func(t *testing.T, r *rig) {
				s := &flaky{Store: r.store}
				r.store = s
				r.with()
				asker, owner := r.user(), r.user()
				began, release := make(chan struct{}, 1), make(chan struct{})
				busy := r.agent(owner, 0, func(ctx context.Context, c ports.Call) (ports.Answer, error) {
					began <- struct{}{}
					<-release
					return echo(ctx, c)
				})
				var calls atomic.Int32
				a := r.agent(owner, 0, func(ctx context.Context, c ports.Call) (ports.Answer, error) {
					if n := calls.Add(1); lose != nil {
						lose(s, n)
					}
					return echo(ctx, c)
				})
				r.work()
				defer close(release)
				r.create(asker, busy)
				<-began // the process has a job, so it renews its leases
				time.Sleep(100 * time.Millisecond)
				s.loseClaim.Store(lose == nil)
				v := r.create(asker, a)
				require.Eventually(t, func() bool {
					v, err := r.Tasks.Get(t.Context(), asker, v.ID)
					return err == nil && v.Status == task.Completed
				}, 8*time.Second, 10*time.Millisecond)
			})
		})
	}
}

// A call whose lease ran out leaves the one that took over in its place within reach of a cancel.
func TestALateCallDoesNotHideTheOneThatTookOver(t *testing.T) {
	t.Parallel()
	r := newRig(t, memory.New())
	asker, owner := r.user(), r.user()
	began, late := make(chan struct{}, 2), make(chan struct{})
	var calls atomic.Int32
	a := r.agent(owner, 0, func(ctx context.Context, c ports.Call) (ports.Answer, error) {
		first := calls.Add(1) == 1
		began <- struct{}{}
		if first {
			<-late
			return echo(ctx, c)
		}
		<-ctx.Done()
		return ports.Answer{}, ctx.Err()
	})
	v := r.create(asker, a)
	handle := func() chan error {
		done := make(chan error, 1)
		go func() { done <- r.Worker.Handle(context.Background(), "task.forward:"+v.ID) }()
		<-began
		return done
	}
	first := handle()
	r.clock.skip(11 * time.Second) // its lease runs out
	second := handle()
	close(late)
	require.NoError(t, <-first)
	_, err := r.Tasks.Cancel(t.Context(), asker, v.ID)
	require.NoError(t, err)
	select {
	case err := <-second:
		require.NoError(t, err)
	case <-time.After(5 * time.Second):
		t.Fatal("the call goes on after the cancel")
	}
}
