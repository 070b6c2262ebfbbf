package app_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// flaky is a store whose connection breaks when it should tell how a commit ended, or before.
type flaky struct {
	ports.Store
	loseClaim atomic.Bool  // the answer to the next commit by which a job is claimed
	lost      atomic.Bool  // it was
	away      atomic.Int32 // so many updates fail
}

var errBroken = errors.New("the connection broke")

type watchedJobs struct {
	ports.JobStore
	claimed *bool
}

func (j watchedJobs) Claim(ctx context.Context, id string, lease ports.Lease, now time.Time) (ports.Job, error) {
	job, err := j.JobStore.Claim(ctx, id, lease, now)
	*j.claimed = *j.claimed || err == nil
	return job, err
}

// Enqueue notes a job that is written as claimed.
func (j watchedJobs) Enqueue(ctx context.Context, job ports.Job) error {
	*j.claimed = *j.claimed || job.Lease.Owner != ""
	return j.JobStore.Enqueue(ctx, job)
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
		s.lost.Store(true)
		return errBroken
	}
	return err
}

// A job that the process lost sight of is not kept from everyone by the lease that the process renews for its others.
func TestAJobThatTheStoreLostSightOfRunsAgain(t *testing.T) {
	for name, lose := range map[string]func(s *flaky, calls int32) error{ // called with 0 before the task is created, and then with each call
		"when it was taken on": func(s *flaky, calls int32) error {
			s.loseClaim.Store(calls == 0)
			return nil
		},
		"while it was claimed": func(s *flaky, calls int32) error {
			if calls != 1 {
				return nil
			}
			s.loseClaim.Store(true)
			return &ports.CallError{Code: task.ErrUnreachable, Message: "later", Retryable: true}
		},
		"when it was done": func(s *flaky, calls int32) error {
			if calls == 1 {
				s.away.Store(2) // the answer, and giving it up
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			everyStore(t, func(t *testing.T, r *rig) {
				s := &flaky{Store: r.store}
				r.store = s
				r.with()
				asker, owner := r.user(), r.user()
				began, release := make(chan struct{}), make(chan struct{})
				var first sync.Once
				busy := r.agent(owner, 0, func(ctx context.Context, c ports.Call) (ports.Answer, error) {
					first.Do(func() { close(began) })
					<-release
					return echo(ctx, c)
				})
				var calls atomic.Int32
				a := r.agent(owner, credits.Whole(1), func(ctx context.Context, c ports.Call) (ports.Answer, error) {
					if err := lose(s, calls.Add(1)); err != nil {
						return ports.Answer{}, err
					}
					return echo(ctx, c)
				})
				r.work()
				defer close(release)
				r.create(asker, busy)
				<-began // the process works, and has a job, so it renews its leases
				require.NoError(t, lose(s, 0))
				_, err := r.Tasks.Create(t.Context(), asker, app.CreateTask{AgentID: a.ID, Title: "x"})
				if s.lost.Load() {
					require.ErrorIs(t, err, errBroken)
				} else {
					require.NoError(t, err)
				}
				require.Eventually(t, func() bool {
					list, err := r.Tasks.List(t.Context(), asker, app.TaskQuery{AgentID: a.ID, Role: "requester"})
					return err == nil && len(list.Items) == 1 && list.Items[0].Status == task.Completed
				}, 20*time.Second, 10*time.Millisecond)
				require.Equal(t, credits.Whole(999), r.balance(asker).Available)
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

// What a call hears whose lease ran out is not believed once another one has taken over: the agent may tell that one
// another story.
func TestALateCallIsNotHeard(t *testing.T) {
	t.Parallel()
	r := newRig(t, memory.New(memory.WithReplay()))
	asker, owner := r.user(), r.user()
	began, late := make(chan struct{}, 2), make(chan struct{})
	var calls atomic.Int32
	a := r.agent(owner, 0, func(ctx context.Context, c ports.Call) (ports.Answer, error) {
		first := calls.Add(1) == 1
		began <- struct{}{}
		if !first {
			<-ctx.Done()
			return ports.Answer{}, ctx.Err()
		}
		<-late
		said := []task.Message{{ID: "late", Role: task.RoleAgent, Parts: []task.Part{task.TextPart("hm")}}}
		if err := c.Hear(ctx, ports.Answer{State: ports.AnswerWorking, RemoteTaskID: "late", Messages: said}); err != nil {
			return ports.Answer{}, err
		}
		return ports.Answer{State: ports.AnswerWorking, RemoteTaskID: "late"}, nil
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
	now, err := r.Tasks.Get(t.Context(), asker, v.ID)
	require.NoError(t, err)
	require.Len(t, now.Messages, 1, "what was asked, and nothing else")
	require.Empty(t, now.RemoteTaskID)
	require.True(t, now.Unheard(), "the one that took over is still at it")
	_, err = r.Tasks.Cancel(t.Context(), asker, v.ID)
	require.NoError(t, err)
	require.NoError(t, <-second)
}
