package app_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// skilled changes an agent to have a skill, which is also a tag.
func (r *rig) skilled(owner identity.Caller, a registry.Agent, skill string) {
	skills := []registry.Skill{{ID: skill, Name: skill, Tags: []string{skill}}}
	_, err := r.Agents.Change(r.t.Context(), owner, a.ID, registry.Profile{Skills: &skills})
	require.NoError(r.t, err)
}

func TestATaskForASkillGetsTheBestAgent(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		asker, owner := r.user(), r.user()
		good, other, mine := r.agent(owner, credits.Whole(5), echo), r.agent(owner, credits.Whole(2), echo), r.agent(asker, 0, echo)
		create := func(in app.CreateTask) (app.TaskView, error) {
			in.Title = "t"
			return r.Tasks.Create(t.Context(), asker, in)
		}
		_, err := create(app.CreateTask{SkillID: "sum"})
		r.refused(err, fault.CodeAgentNotFound)
		_, err = create(app.CreateTask{})
		r.refused(err, fault.CodeValidation)
		r.skilled(owner, good, "sum")
		r.skilled(owner, other, "sum")
		r.skilled(asker, mine, "sum")

		v, err := create(app.CreateTask{SkillID: "sum"})
		require.NoError(t, err)
		require.Equal(t, other.ID, v.AgentID, "as trusted, and cheaper; one's own would prove nothing")
		require.Contains(t, v.Why, "3 online agents")
		require.Empty(t, r.ended(asker, v.ID).Why)
		for range 12 {
			u := r.user()
			r.ended(u, r.create(u, good).ID)
		}
		v, err = create(app.CreateTask{SkillTags: []string{"Sum"}})
		require.NoError(t, err)
		require.Equal(t, good.ID, v.AgentID, "more trusted")
		budget := credits.Whole(2)
		v, err = create(app.CreateTask{SkillTags: []string{"sum"}, MaxBudget: &budget})
		require.NoError(t, err)
		require.Equal(t, other.ID, v.AgentID, "what can be paid")
		trusted := 99.0
		_, err = create(app.CreateTask{SkillTags: []string{"sum"}, MinTrust: &trusted})
		r.refused(err, fault.CodeAgentNotFound)
	})
}

func TestDeletingAnAgentDoesNotClearItsOwnersName(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		owner := r.user()
		bad := r.agent(owner, credits.Whole(10), func(context.Context, ports.Call) (ports.Answer, error) {
			return ports.Answer{State: ports.AnswerFailed, Reason: "no"}, nil
		})
		for range 6 {
			asker := r.user()
			require.Equal(t, task.Failed, r.ended(asker, r.create(asker, bad).ID).Status)
		}
		_, err := r.Agents.Delete(t.Context(), owner, bad.ID)
		require.NoError(t, err)
		again, fresh := r.agent(owner, 0, echo), r.agent(r.user(), 0, echo)
		require.Less(t, again.TrustScore, fresh.TrustScore)
		p, err := r.Trust.Profile(t.Context(), owner, again.ID)
		require.NoError(t, err)
		require.InDelta(t, again.TrustScore, p.Score, 0.051)
		asker := r.user()
		r.ended(asker, r.create(asker, again).ID)
		p, err = r.Trust.Profile(t.Context(), owner, again.ID)
		require.NoError(t, err)
		require.InDelta(t, again.TrustScore, p.Recent[0].ScoreBefore, 0.051)
		v, err := r.Trust.Verify(t.Context(), again.ID)
		require.NoError(t, err)
		require.Equal(t, app.Verdict{AgentID: again.ID, Events: 1}, v)
	})
}

func TestAProfileIsWhatItsEventsLeadTo(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		owner := r.user()
		a := r.agent(owner, credits.Whole(10), echo)
		var last app.TaskView
		for range 8 {
			asker := r.user()
			last = r.ended(asker, r.create(asker, a).ID)
			_, err := r.Trust.Rate(t.Context(), asker, a.ID, app.RateAgent{TaskID: last.ID, Stars: 5})
			require.NoError(t, err)
		}
		r.ended(owner, r.create(owner, a).ID) // moves nothing
		v, err := r.Trust.Verify(t.Context(), a.ID)
		require.NoError(t, err)
		require.Equal(t, app.Verdict{AgentID: a.ID, Events: 17}, v)

		days, err := r.Trust.Daily(t.Context(), owner, a.ID, 30)
		require.NoError(t, err)
		p, err := r.Trust.Profile(t.Context(), owner, a.ID)
		require.NoError(t, err)
		require.Equal(t, p.Score, days[len(days)-1].Score)
		_, err = r.Trust.Daily(t.Context(), owner, a.ID, 366)
		r.refused(err, fault.CodeValidation)

		require.NoError(t, r.store.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
			p, _, _, err := tx.Trust.Lock(ctx, a.ID, "")
			if err != nil {
				return err
			}
			p.Quality.Sum++ // someone changed it by hand
			return tx.Trust.Settle(ctx, p)
		}))
		v, err = r.Trust.Verify(t.Context(), a.ID)
		require.NoError(t, err)
		require.Contains(t, v.Wrong, "not what its events lead to")
	})
}

func TestThePassOverThePaymentsIsAJob(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		var ring []identity.Caller
		var agents []registry.Agent
		for range 3 {
			u := r.user()
			ring, agents = append(ring, u), append(agents, r.agent(u, credits.Whole(10), echo))
		}
		honest := r.agent(r.user(), credits.Whole(10), echo)
		for i, u := range ring {
			for j, a := range agents {
				if i != j {
					r.ended(u, r.create(u, a).ID)
				}
			}
		}
		another := r.agent(r.user(), credits.Whole(10), echo)
		for range 4 {
			u := r.user()
			r.ended(u, r.create(u, honest).ID)
			r.ended(u, r.create(u, another).ID)
		}
		require.NoError(t, r.store.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
			return tx.Jobs.Enqueue(ctx, ports.Job{ID: "trust.pass:all", Kind: "trust.pass", Subject: "all", RunAt: r.clock.now(), Priority: ports.PriorityHousekeeping})
		}))
		require.Eventually(t, func() bool {
			p, _, err := r.store.Read().Trust.Profile(t.Context(), agents[0].ID)
			return err == nil && p.Damping < 0.5
		}, 20*time.Second, 20*time.Millisecond)
		p, _, err := r.store.Read().Trust.Profile(t.Context(), honest.ID)
		require.NoError(t, err)
		require.Equal(t, 1.0, p.Damping, fmt.Sprint(p))
	})
}
