package app_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
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
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/scheduler"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/domain/trust"
	"github.com/nexus-protocol/nexus/ports"
)

func step(a registry.Agent, dependsOn ...int) scheduler.Step {
	return scheduler.Step{Name: "step", AgentID: a.ID, DependsOn: dependsOn}
}

func (r *rig) workflow(c identity.Caller, steps ...scheduler.Step) scheduler.Workflow {
	r.t.Helper()
	w, err := r.Workflows.Create(r.t.Context(), c, "Flow", "", steps)
	require.NoError(r.t, err)
	return w
}

func (r *rig) execute(c identity.Caller, w scheduler.Workflow) scheduler.Run {
	r.t.Helper()
	run, err := r.Workflows.Execute(r.t.Context(), c, w.ID)
	require.NoError(r.t, err)
	return run
}

func (r *rig) runEnded(c identity.Caller, run scheduler.Run) scheduler.Run {
	r.t.Helper()
	require.Eventually(r.t, func() bool {
		var err error
		run, err = r.Workflows.Run(r.t.Context(), c, run.WorkflowID, run.ID)
		require.NoError(r.t, err)
		return run.Status.Ended()
	}, 10*time.Second, time.Millisecond)
	return run
}

func statuses(run scheduler.Run) string {
	var out []string
	for _, s := range run.Steps {
		out = append(out, string(s.Status))
	}
	return strings.Join(out, " ")
}

func TestAWorkflowRunsToItsEnd(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		asker, owner := r.user(), r.user()
		a := r.agent(owner, credits.Whole(10), func(_ context.Context, c ports.Call) (ports.Answer, error) {
			for _, p := range c.Message.Parts {
				if p.Type == task.PartData {
					return ports.Answer{State: ports.AnswerDone, Messages: []task.Message{{ID: "m", Role: task.RoleAgent, Parts: []task.Part{{Type: task.PartData, Data: p.Data}}}}}, nil
				}
			}
			return ports.Answer{State: ports.AnswerDone}, nil
		})
		first := step(a)
		first.Input = json.RawMessage(`{"n":1}`)
		last := step(a, 1, 2)
		last.Input = json.RawMessage(`{"own":true}`)
		w := r.workflow(asker, first, step(a, 0), step(a, 0), last)
		run := r.execute(asker, w)
		require.Equal(t, scheduler.Running, run.Status)
		require.Equal(t, "running pending pending pending", statuses(run))

		run = r.runEnded(asker, run)
		require.Equal(t, scheduler.Completed, run.Status)
		require.Equal(t, "completed completed completed completed", statuses(run))
		require.JSONEq(t, `{"n":1}`, string(run.Steps[0].Output))
		require.JSONEq(t, `{"own":true,"step_1_output":{"step_0_output":{"n":1}},"step_2_output":{"step_0_output":{"n":1}}}`, string(run.Steps[3].Output))
		require.Equal(t, credits.Whole(960), r.balance(asker).Available)
		require.Zero(t, r.balance(asker).Held)
		require.Equal(t, credits.Amount(103_800), r.balance(owner).Available)

		for i, s := range run.Steps {
			v, err := r.Tasks.Get(t.Context(), asker, s.TaskID)
			require.NoError(t, err)
			require.Equal(t, run.ID, v.WorkflowRunID)
			require.Equal(t, i, *v.StepIndex)
		}
		p, err := r.Trust.Profile(t.Context(), asker, a.ID)
		require.NoError(t, err)
		require.Len(t, p.Recent, 4)
		require.Equal(t, trust.TaskCompleted, p.Recent[0].Type)
		left, err := r.store.Read().Jobs.Due(t.Context(), r.clock.now(), 10)
		require.NoError(t, err)
		require.Empty(t, left, "no job is left behind")

		view, err := r.Workflows.Get(t.Context(), asker, w.ID)
		require.NoError(t, err)
		require.Len(t, view.Runs, 1)
		require.Equal(t, scheduler.Completed, view.Runs[0].Status)
	})
}

func TestAFailedStepSkipsWhatWaitsForIt(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		asker, owner := r.user(), r.user()
		good := r.agent(owner, credits.Whole(10), echo)
		bad := r.agent(owner, credits.Whole(10), func(context.Context, ports.Call) (ports.Answer, error) {
			return ports.Answer{State: ports.AnswerFailed, Reason: "no luck"}, nil
		})
		run := r.runEnded(asker, r.execute(asker, r.workflow(asker, step(good), step(bad, 0), step(good, 1), step(good, 2), step(good, 0))))
		require.Equal(t, scheduler.Failed, run.Status)
		require.Equal(t, "completed failed skipped skipped completed", statuses(run))
		require.Equal(t, task.ErrAgentFailed, run.Steps[1].Error.Code)
		require.Equal(t, scheduler.ErrDependency, run.Steps[2].Error.Code)
		require.Contains(t, run.Error.Message, "no luck")
		require.Equal(t, credits.Whole(980), r.balance(asker).Available)
		require.Zero(t, r.balance(asker).Held)
	})
}

func TestAStepIsTriedAgainLater(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		asker, owner := r.user(), r.user()
		var calls atomic.Int32
		a := r.agent(owner, credits.Whole(10), func(context.Context, ports.Call) (ports.Answer, error) {
			if calls.Add(1) < 3 {
				return ports.Answer{State: ports.AnswerFailed, Reason: "not yet"}, nil
			}
			return ports.Answer{State: ports.AnswerDone}, nil
		})
		s := step(a)
		s.Retry = scheduler.RetryPolicy{MaxRetries: 2, Backoff: 100 * time.Millisecond}
		started := time.Now()
		run := r.runEnded(asker, r.execute(asker, r.workflow(asker, s, step(a, 0))))
		require.Equal(t, scheduler.Completed, run.Status)
		require.Equal(t, 3, run.Steps[0].Attempts)
		require.Nil(t, run.Steps[0].Error)
		require.GreaterOrEqual(t, time.Since(started), 300*time.Millisecond, "100 ms before the second attempt, 200 ms before the third")
		require.Equal(t, credits.Whole(980), r.balance(asker).Available, "attempts that failed cost nothing")
		tasks, err := r.Tasks.List(t.Context(), asker, app.TaskQuery{})
		require.NoError(t, err)
		require.Equal(t, 4, tasks.Total)
	})
}

func TestAStepThatTimesOut(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		asker, owner := r.user(), r.user()
		a := r.agent(owner, 0, func(ctx context.Context, _ ports.Call) (ports.Answer, error) {
			<-ctx.Done()
			return ports.Answer{}, ctx.Err()
		})
		run := r.execute(asker, r.workflow(asker, step(a), step(a, 0)))
		require.Eventually(t, func() bool {
			v, err := r.Tasks.Get(t.Context(), asker, run.Steps[0].TaskID)
			return err == nil && v.Status == task.Running
		}, 5*time.Second, time.Millisecond)
		r.clock.skip(time.Hour)
		run = r.runEnded(asker, run)
		require.Equal(t, "failed skipped", statuses(run))
		require.Equal(t, scheduler.ErrTimeout, run.Steps[0].Error.Code)
	})
}

// A step that cannot be paid fails, and those that can be go on.
func TestAStepThatCannotBePaid(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		asker, owner := r.user(), r.user()
		cheap, dear := r.agent(owner, credits.Whole(400), echo), r.agent(owner, credits.Whole(700), echo)
		run := r.runEnded(asker, r.execute(asker, r.workflow(asker, step(cheap), step(dear, 0), step(cheap, 0), step(cheap, 1))))
		require.Equal(t, "completed failed completed skipped", statuses(run))
		require.Equal(t, string(fault.CodeInsufficientCredits), run.Steps[1].Error.Code)
		require.Empty(t, run.Steps[1].TaskID)
		require.Equal(t, credits.Whole(200), r.balance(asker).Available)
		require.Zero(t, r.balance(asker).Held)

		// Nothing at all can be paid: the run is there, and has failed.
		run = r.execute(asker, r.workflow(asker, step(dear), step(dear)))
		require.Equal(t, scheduler.Failed, run.Status)
		require.Equal(t, "failed failed", statuses(run))
		require.Equal(t, credits.Whole(200), r.balance(asker).Available)
	})
}

func TestAStepWhoseAgentIsGone(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		asker, owner := r.user(), r.user()
		a, off, gone := r.agent(owner, 0, echo), r.agent(owner, 0, nil), r.agent(owner, 0, echo)
		require.Equal(t, registry.Offline, off.Status)
		w := r.workflow(asker, step(a), step(off), step(gone))
		_, err := r.Agents.Delete(t.Context(), owner, gone.ID)
		require.NoError(t, err)
		run := r.runEnded(asker, r.execute(asker, w))
		require.Equal(t, "completed failed failed", statuses(run))
		require.Equal(t, string(fault.CodeAgentOffline), run.Steps[1].Error.Code)
		require.Equal(t, string(fault.CodeAgentNotFound), run.Steps[2].Error.Code)
	})
}

func TestARunIsCancelled(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		asker, owner, stranger := r.user(), r.user(), r.user()
		var told atomic.Int32
		slow := r.agent(owner, credits.Whole(100), func(ctx context.Context, _ ports.Call) (ports.Answer, error) {
			<-ctx.Done()
			told.Add(1)
			return ports.Answer{}, ctx.Err()
		})
		w := r.workflow(asker, step(slow), step(slow), step(slow, 0))
		run := r.execute(asker, w)
		require.Equal(t, credits.Whole(800), r.balance(asker).Available)
		_, err := r.Workflows.CancelRun(t.Context(), stranger, w.ID, run.ID)
		r.refused(err, fault.CodeForbidden)
		other := r.workflow(asker, step(slow))
		_, err = r.Workflows.CancelRun(t.Context(), asker, other.ID, run.ID)
		r.refused(err, fault.CodeRunNotFound)

		run, err = r.Workflows.CancelRun(t.Context(), asker, w.ID, run.ID)
		require.NoError(t, err)
		require.Equal(t, scheduler.Cancelled, run.Status)
		require.Equal(t, "cancelled cancelled cancelled", statuses(run))
		require.Equal(t, credits.Whole(1000), r.balance(asker).Available)
		require.Zero(t, r.balance(asker).Held)
		for _, s := range run.Steps[:2] {
			v, err := r.Tasks.Get(t.Context(), asker, s.TaskID)
			require.NoError(t, err)
			require.Equal(t, task.Cancelled, v.Status)
		}
		again, err := r.Workflows.CancelRun(t.Context(), asker, w.ID, run.ID)
		require.NoError(t, err)
		require.Equal(t, run, again)

		done := r.runEnded(asker, r.execute(asker, r.workflow(asker, step(r.agent(owner, 0, echo)))))
		_, err = r.Workflows.CancelRun(t.Context(), asker, done.WorkflowID, done.ID)
		r.refused(err, fault.CodeTaskNotActive)
	})
}

// A step whose input is still to be held against a schema has no task yet; its run can be cancelled all the same.
func TestARunIsCancelledBeforeItsStepHasATask(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) { // nobody works
		asker, owner := r.user(), r.user()
		a := r.agent(owner, credits.Whole(1), echo)
		_, err := r.Agents.Change(t.Context(), owner, a.ID, registry.Profile{Skills: &[]registry.Skill{{ID: "strict", Name: "Strict", InputSchema: json.RawMessage(`{}`)}}})
		require.NoError(t, err)
		checked := step(a)
		checked.SkillID = "strict"
		w := r.workflow(asker, checked, step(a), step(a, 0))
		run := r.execute(asker, w)
		require.Empty(t, run.Steps[0].TaskID)
		run, err = r.Workflows.CancelRun(t.Context(), asker, w.ID, run.ID)
		require.NoError(t, err)
		require.Equal(t, scheduler.Cancelled, run.Status)
		require.Equal(t, "cancelled cancelled cancelled", statuses(run))
		require.Equal(t, credits.Whole(1000), r.balance(asker).Available)
	})
}

func TestCancellingOneStepsTaskSkipsTheRest(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		asker, owner := r.user(), r.user()
		slow := r.agent(owner, credits.Whole(1), func(ctx context.Context, _ ports.Call) (ports.Answer, error) {
			<-ctx.Done()
			return ports.Answer{}, ctx.Err()
		})
		run := r.execute(asker, r.workflow(asker, step(slow), step(slow, 0)))
		_, err := r.Tasks.Cancel(t.Context(), asker, run.Steps[0].TaskID)
		require.NoError(t, err)
		run = r.runEnded(asker, run)
		require.Equal(t, "cancelled skipped", statuses(run))
		require.Equal(t, scheduler.Failed, run.Status)
		require.Zero(t, r.balance(asker).Held)
	})
}

func TestAWorkflowIsItsOwnersAlone(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		me, other := r.user(), r.user()
		a := r.agent(other, 0, echo)
		w := r.workflow(me, step(a))
		ctx := t.Context()
		_, err := r.Workflows.Get(ctx, other, w.ID)
		r.refused(err, fault.CodeForbidden)
		_, err = r.Workflows.Change(ctx, other, w.ID, app.ChangeWorkflow{Name: ptr("x")})
		r.refused(err, fault.CodeForbidden)
		r.refused(r.Workflows.Delete(ctx, other, w.ID), fault.CodeForbidden)
		_, err = r.Workflows.Execute(ctx, other, w.ID)
		r.refused(err, fault.CodeForbidden)
		_, err = r.Workflows.Runs(ctx, other, w.ID, app.Page{})
		r.refused(err, fault.CodeForbidden)
		run := r.execute(me, w)
		_, err = r.Workflows.Run(ctx, other, w.ID, run.ID)
		r.refused(err, fault.CodeForbidden)
		_, _, err = r.Workflows.Watch(ctx, other, w.ID, run.ID, 0)
		r.refused(err, fault.CodeForbidden)
		_, err = r.Workflows.Get(ctx, identity.Caller{}, w.ID)
		r.refused(err, fault.CodeUnauthorized)
		_, err = r.Workflows.Create(ctx, identity.Caller{}, "x", "", []scheduler.Step{step(a)})
		r.refused(err, fault.CodeUnauthorized)
		key := me
		key.Scopes = identity.Scopes{identity.ScopeWorkflowsRead}
		_, err = r.Workflows.Execute(ctx, key, w.ID)
		r.refused(err, fault.CodeForbidden)
		l, err := r.Workflows.List(ctx, other, app.Page{})
		require.NoError(t, err)
		require.Empty(t, l.Items)
	})
}

func TestEveryFaultOfAWorkflowIsTold(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		me := r.user()
		a := r.agent(me, 0, echo)
		_, err := r.Workflows.Create(t.Context(), me, "", "", []scheduler.Step{step(a, 0), {Name: "x", AgentID: "nobody", DependsOn: []int{0, 0}}})
		f, ok := fault.As(err)
		require.True(t, ok)
		var paths []string
		for _, field := range f.Details["fields"].([]fault.Field) {
			paths = append(paths, field.Path)
		}
		slices.Sort(paths)
		require.Equal(t, []string{"name", "steps[0].dependsOn[0]", "steps[1].agentId", "steps[1].dependsOn[1]"}, paths)
	})
}

func TestARunKeepsTheStepsItBeganWith(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		asker, owner := r.user(), r.user()
		a := r.agent(owner, 0, echo)
		w := r.workflow(asker, step(a), step(a, 0))
		run := r.execute(asker, w)
		changed, err := r.Workflows.Change(t.Context(), asker, w.ID, app.ChangeWorkflow{Name: ptr("New"), Steps: ptr([]scheduler.Step{step(a)})})
		require.NoError(t, err)
		require.Equal(t, "New", changed.Name)
		require.Len(t, changed.Steps, 1)
		r.work()
		require.Equal(t, "completed completed", statuses(r.runEnded(asker, run)))
		require.Equal(t, "completed", statuses(r.runEnded(asker, r.execute(asker, w))))

		_, err = r.Agents.Delete(t.Context(), owner, a.ID)
		require.NoError(t, err)
		_, err = r.Workflows.Change(t.Context(), asker, w.ID, app.ChangeWorkflow{Description: ptr("still fine")})
		require.NoError(t, err)
		_, err = r.Workflows.Change(t.Context(), asker, w.ID, app.ChangeWorkflow{Steps: ptr([]scheduler.Step{step(a)})})
		r.refused(err, fault.CodeValidation)
	})
}

func TestADeletedWorkflowsRunsAreCancelled(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		asker, owner := r.user(), r.user()
		a := r.agent(owner, credits.Whole(5), echo)
		w := r.workflow(asker, step(a))
		runs := []scheduler.Run{r.execute(asker, w), r.execute(asker, w)}
		require.NoError(t, r.Workflows.Delete(t.Context(), asker, w.ID))
		_, err := r.Workflows.Get(t.Context(), asker, w.ID)
		r.refused(err, fault.CodeWorkflowNotFound)
		_, err = r.Workflows.Execute(t.Context(), asker, w.ID)
		r.refused(err, fault.CodeWorkflowNotFound)
		r.refused(r.Workflows.Delete(t.Context(), asker, w.ID), fault.CodeWorkflowNotFound)
		for _, run := range runs {
			now, err := r.Workflows.Run(t.Context(), asker, w.ID, run.ID)
			require.NoError(t, err)
			require.Equal(t, scheduler.Cancelled, now.Status)
		}
		require.Zero(t, r.balance(asker).Held)
		r.work() // the job finds nothing left to do
		require.Eventually(t, func() bool {
			left, err := r.store.Read().Jobs.Due(t.Context(), r.clock.now(), 10)
			return err == nil && len(left) == 0
		}, 5*time.Second, 5*time.Millisecond)
	})
}

func TestAnOutputThatIsTooLargeFailsItsStep(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		asker, owner := r.user(), r.user()
		size := scheduler.MaxOutput - len(`{"text":""}`)
		answer := func(context.Context, ports.Call) (ports.Answer, error) {
			return ports.Answer{State: ports.AnswerDone, Messages: []task.Message{{ID: "m", Role: task.RoleAgent, Parts: []task.Part{task.TextPart(strings.Repeat("x", size))}}}}, nil
		}
		a := r.agent(owner, 0, answer)
		// As large as may be, twice, into one step.
		run := r.runEnded(asker, r.execute(asker, r.workflow(asker, step(a), step(a), step(a, 0, 1))))
		require.Equal(t, "completed completed completed", statuses(run), "%+v", run.Error)
		size++
		run = r.runEnded(asker, r.execute(asker, r.workflow(asker, step(a), step(a, 0))))
		require.Equal(t, "failed skipped", statuses(run))
		require.Equal(t, scheduler.ErrOutputTooLarge, run.Steps[0].Error.Code)
	})
}

// textual is a checker for which every schema demands a text.
type textual struct{ memory.Schemas }

func (textual) Validate(_, value json.RawMessage) ([]ports.SchemaFault, error) {
	var v struct{ Text *string }
	if err := json.Unmarshal(value, &v); err != nil || v.Text != nil {
		return nil, err
	}
	return []ports.SchemaFault{{Path: "text", Message: "is required"}}, nil
}

func TestAStepsInputIsHeldAgainstItsSkill(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.with(func(c *app.Config) { c.Schema = textual{} })
		r.work()
		asker, owner := r.user(), r.user()
		a := r.agent(owner, credits.Whole(1), echo)
		_, err := r.Agents.Change(t.Context(), owner, a.ID, registry.Profile{Skills: &[]registry.Skill{
			{ID: "strict", Name: "Strict", InputSchema: json.RawMessage(`{}`)}, {ID: "free", Name: "Free"},
		}})
		require.NoError(t, err)
		good, bad, unknown, free := step(a), step(a), step(a), step(a)
		good.SkillID, good.Input = "strict", json.RawMessage(`{"text":"x"}`)
		bad.SkillID, bad.Input = "strict", json.RawMessage(`{"bad":"x"}`)
		unknown.SkillID, free.SkillID = "nope", "free"
		next := good
		next.DependsOn = []int{0}
		run := r.runEnded(asker, r.execute(asker, r.workflow(asker, good, bad, unknown, free, next)))
		require.Equal(t, "completed failed failed completed completed", statuses(run))
		for _, i := range []int{1, 2} {
			require.Equal(t, string(fault.CodeValidation), run.Steps[i].Error.Code)
		}
		require.Equal(t, credits.Whole(997), r.balance(asker).Available)
	})
}

// unfit is a checker that breaks on every value.
type unfit struct{ memory.Schemas }

func (unfit) Validate(_, _ json.RawMessage) ([]ports.SchemaFault, error) {
	return nil, errors.New("the schema cannot be applied")
}

// A schema that cannot be worked with fails its step, which nobody would wait for in vain.
func TestASchemaThatCannotBeApplied(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.with(func(c *app.Config) { c.Schema = unfit{} })
		r.work()
		asker, owner := r.user(), r.user()
		a := r.agent(owner, 0, echo)
		_, err := r.Agents.Change(t.Context(), owner, a.ID, registry.Profile{Skills: &[]registry.Skill{{ID: "odd", Name: "Odd", InputSchema: json.RawMessage(`{}`)}}})
		require.NoError(t, err)
		odd := step(a)
		odd.SkillID = "odd"
		run := r.runEnded(asker, r.execute(asker, r.workflow(asker, odd)))
		require.Equal(t, "failed", statuses(run))
		require.Equal(t, string(fault.CodeValidation), run.Steps[0].Error.Code)
		_, err = r.Tasks.Create(t.Context(), asker, app.CreateTask{AgentID: a.ID, SkillID: "odd", Title: "x"})
		r.refused(err, fault.CodeValidation)
	})
}

// Whatever happens at the same time, each run ends once, its log is what it tells, no step begins before those that it
// waits for, and the money is right.
func TestWhateverHappensARunEndsOnce(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		asker, owner := r.user(), r.user()
		var n atomic.Uint32
		a := r.agent(owner, credits.Whole(1), func(ctx context.Context, c ports.Call) (ports.Answer, error) {
			i := n.Add(1)
			time.Sleep(time.Duration(i%4) * time.Millisecond)
			if i%7 == 0 {
				return ports.Answer{State: ports.AnswerFailed, Reason: "no"}, nil
			}
			return echo(ctx, c)
		})
		retried := step(a)
		retried.Retry = scheduler.RetryPolicy{MaxRetries: 1, Backoff: 100 * time.Millisecond}
		w := r.workflow(asker, retried, step(a, 0), step(a, 0), step(a, 0), step(a, 1, 2), step(a, 3, 4))
		const runs = 20
		var all sync.WaitGroup
		for i := range runs {
			all.Go(func() {
				run, err := r.Workflows.Execute(t.Context(), asker, w.ID)
				if err != nil {
					t.Error(err)
					return
				}
				if i%3 == 0 {
					time.Sleep(time.Duration(i) * time.Millisecond)
					if _, err := r.Workflows.CancelRun(t.Context(), asker, w.ID, run.ID); err != nil && !fault.Has(err, fault.CodeTaskNotActive) {
						t.Error(err)
					}
				}
				if i%4 == 0 {
					_, _ = r.Tasks.Cancel(t.Context(), asker, run.Steps[0].TaskID) // it may have ended
				}
			})
		}
		all.Wait()
		l, err := r.Workflows.Runs(t.Context(), asker, w.ID, app.Page{Limit: ptr(100)})
		require.NoError(t, err)
		require.Len(t, l.Items, runs)
		paid := credits.Amount(0)
		for _, run := range l.Items {
			run = r.runEnded(asker, run)
			log, err := r.store.Read().RunLogs.EventsOf(t.Context(), []ports.Position{{ID: run.ID}}, 1000)
			require.NoError(t, err)
			told, err := scheduler.Replay(log)
			require.NoError(t, err)
			require.Equal(t, told.Status, run.Status)
			for i, s := range run.Steps {
				if s.Status == scheduler.Completed {
					paid += credits.Whole(1)
				}
				for _, d := range run.Plan.Steps()[i].DependsOn {
					if s.Attempts > 0 {
						require.Equal(t, scheduler.Completed, run.Steps[d].Status)
						require.False(t, s.StartedAt != nil && s.StartedAt.Before(*run.Steps[d].CompletedAt))
					}
				}
			}
		}
		b := r.balance(asker)
		require.Zero(t, b.Held)
		require.Equal(t, paid, b.Spent)
	})
}

func TestARunIsWatched(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		asker, owner := r.user(), r.user()
		a := r.agent(owner, 0, echo)
		w := r.workflow(asker, step(a), step(a, 0))
		run := r.execute(asker, w)
		fromState, seen, err := r.Workflows.Watch(t.Context(), asker, w.ID, run.ID, app.FromState)
		require.NoError(t, err)
		defer fromState.Close()
		require.Equal(t, run.ID, seen.ID)
		fromStart, _, err := r.Workflows.Watch(t.Context(), asker, w.ID, run.ID, 0)
		require.NoError(t, err)
		defer fromStart.Close()
		r.work()
		all := func(w *app.Watcher[scheduler.Event]) (out []scheduler.Event) {
			for {
				events, err := w.Next(t.Context(), nil)
				if errors.Is(err, io.EOF) {
					return out
				}
				require.NoError(t, err)
				out = append(out, events...)
			}
		}
		state, log := all(fromState), all(fromStart)
		told, err := scheduler.Replay(log)
		require.NoError(t, err)
		require.Equal(t, scheduler.Completed, told.Status)
		var kinds []string
		for _, e := range state {
			kinds = append(kinds, fmt.Sprint(e.Step, " ", e.Status))
		}
		require.Equal(t, []string{"-1 running", "0 running", "1 pending", "0 completed", "1 pending", "1 running", "1 completed", "-1 completed"}, kinds)

		again, _, err := r.Workflows.Watch(t.Context(), asker, w.ID, run.ID, app.FromState)
		require.NoError(t, err)
		defer again.Close()
		require.Len(t, all(again), 4)
		over, _, err := r.Workflows.Watch(t.Context(), asker, w.ID, run.ID, told.LastSeq)
		require.NoError(t, err)
		require.True(t, over.Over())
		over.Close()
	})
}

func TestExecutingAWorkflowOnce(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		asker := r.user()
		w := r.workflow(asker, step(r.agent(asker, 0, echo)))
		ctx := app.WithOnce(t.Context(), app.Once{Key: "k", Render: func(v any) ([]byte, error) { return []byte(v.(scheduler.Run).ID), nil }})
		run, err := r.Workflows.Execute(ctx, asker, w.ID)
		require.NoError(t, err)
		_, err = r.Workflows.Execute(ctx, asker, w.ID)
		var before *app.Replayed
		require.ErrorAs(t, err, &before)
		require.Equal(t, run.ID, string(before.Answer))
		l, err := r.Workflows.Runs(t.Context(), asker, w.ID, app.Page{})
		require.NoError(t, err)
		require.Equal(t, 1, l.Total)
	})
}
