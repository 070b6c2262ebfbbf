package app_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/domain/trust"
	"github.com/nexus-protocol/nexus/ports"
)

// A worker that ends writes down what tasks took; the next one, or another process, holds agents against it, and what comes of
// it can still be worked out again from the events.
func TestSpeedIsHeldAgainstTheMarketsMedian(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		slow := func(ctx context.Context, c ports.Call) (ports.Answer, error) {
			time.Sleep(25 * time.Millisecond)
			return echo(ctx, c)
		}
		owner := r.user()
		skilled := func(f memory.AgentFunc) registry.Agent {
			a := r.agent(owner, credits.Whole(40), f)
			r.skilled(owner, a, "sum")
			return a
		}
		trial := func(askers []identity.Caller, a registry.Agent) float64 {
			for _, asker := range askers {
				v, err := r.Tasks.Create(t.Context(), asker, app.CreateTask{AgentID: a.ID, SkillID: "sum", Title: "t", Input: []byte("{}")})
				require.NoError(t, err)
				require.Equal(t, task.Completed, r.ended(asker, v.ID).Status)
			}
			p, err := r.Trust.Profile(t.Context(), owner, a.ID)
			require.NoError(t, err)
			verdict, err := r.Trust.Verify(t.Context(), a.ID)
			require.NoError(t, err)
			require.Empty(t, verdict.Wrong)
			return p.Components.Speed
		}
		var askers []identity.Caller
		standing := map[string]float64{}
		for range 12 {
			u := r.user()
			askers = append(askers, u)
			standing[u.UserID] = 1
		}
		require.NoError(t, r.store.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error { return tx.Trust.Stand(ctx, standing) }))

		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Worker.Run(ctx, time.Second) }()
		unknown := trial(askers, skilled(slow))
		pace, err := r.store.Read().Trust.Pace(t.Context(), "sum")
		require.NoError(t, err)
		require.Equal(t, trust.Pace{}, pace, "what tasks take is not written down with each of them")
		stop()
		require.NoError(t, <-ended)
		pace, err = r.store.Read().Trust.Pace(t.Context(), "sum")
		require.NoError(t, err)
		require.GreaterOrEqual(t, pace.Median(), 20*time.Millisecond)

		var quick trust.Pace
		quick.Add(time.Millisecond, 1000, time.Now())
		require.NoError(t, r.store.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
			_, err := tx.Trust.LockPace(ctx, "sum")
			if err != nil {
				return err
			}
			return tx.Trust.SavePace(ctx, "sum", quick)
		}))
		r.with() // another process
		r.work()
		require.Less(t, trial(askers, skilled(slow)), unknown-5, "the market is quicker")
	})
}
