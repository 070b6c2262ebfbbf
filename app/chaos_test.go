package app_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/domain/trust"
	"github.com/nexus-protocol/nexus/ports"
)

// Whatever both sides do at the same time, and however the agent answers: a task ends once, its money goes one way once,
// it is one piece of evidence at most, and who follows it sees each event once and in order.
func TestWhateverHappensATaskEndsOnce(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		asker, owner := r.user(), r.user()
		var mu sync.Mutex
		dice := rand.New(rand.NewPCG(7, uint64(time.Now().UnixNano())))
		roll := func(n int) int {
			mu.Lock()
			defer mu.Unlock()
			return dice.IntN(n)
		}
		a := r.agent(owner, credits.Whole(10), func(ctx context.Context, c ports.Call) (ports.Answer, error) {
			select {
			case <-time.After(time.Duration(roll(5)) * time.Millisecond):
			case <-ctx.Done():
				return ports.Answer{}, ctx.Err()
			}
			said := []task.Message{{ID: "m", Role: task.RoleAgent, Parts: []task.Part{task.TextPart("hm")}}}
			switch roll(6) {
			case 0:
				return ports.Answer{State: ports.AnswerFailed, Reason: "no"}, nil
			case 1:
				return ports.Answer{State: ports.AnswerInputRequired, Messages: said, RemoteTaskID: "r", ContextID: "c"}, nil
			case 2:
				return ports.Answer{State: ports.AnswerWorking, RemoteTaskID: "r", ContextID: "c"}, nil
			case 3:
				return ports.Answer{}, &ports.CallError{Code: task.ErrUnreachable, Message: "gone", Retryable: true, Unreachable: true}
			default:
				return ports.Answer{State: ports.AnswerDone, Messages: said}, nil
			}
		})
		parts := []task.Part{task.TextPart("and?")}
		const tasks = 25
		var all sync.WaitGroup
		ids := make([]string, tasks)
		for i := range tasks {
			v := r.create(asker, a)
			ids[i] = v.ID
			for _, do := range []func() error{
				func() error {
					_, err := r.Tasks.Reply(t.Context(), asker, v.ID, app.ReplyTask{Role: task.RoleUser, Parts: parts})
					return err
				},
				func() error {
					status := []task.Status{"", task.Running, task.Completed, task.Failed}[roll(4)]
					_, err := r.Tasks.Reply(t.Context(), owner, v.ID, app.ReplyTask{Role: task.RoleAgent, Parts: parts, Status: status})
					return err
				},
				func() error {
					if roll(3) > 0 {
						return nil
					}
					_, err := r.Tasks.Cancel(t.Context(), asker, v.ID)
					return err
				},
			} {
				all.Go(func() {
					for range roll(4) {
						time.Sleep(time.Duration(roll(6)) * time.Millisecond)
						if err := do(); err != nil && !fault.Has(err, fault.CodeTaskNotActive) {
							t.Error(err)
						}
					}
				})
			}
		}
		all.Wait()
		ended := map[task.Status]int{}
		for _, id := range ids {
			v, err := r.Tasks.Get(t.Context(), asker, id)
			require.NoError(t, err)
			for !v.Status.Ended() { // some wait for a word
				if v.AwaitsInput {
					_, err = r.Tasks.Reply(t.Context(), asker, id, app.ReplyTask{Role: task.RoleUser, Parts: parts})
					if err != nil {
						r.refused(err, fault.CodeTaskNotActive)
					}
				}
				time.Sleep(5 * time.Millisecond)
				r.clock.skip(50 * time.Millisecond)
				v, err = r.Tasks.Get(t.Context(), asker, id)
				require.NoError(t, err)
			}
			ended[v.Status]++
			var seen []int64
			ends := 0
			watched := <-r.watch(t.Context(), asker, id, 0)
			require.NoError(t, watched.err)
			for _, e := range watched.events {
				seen = append(seen, e.Seq)
				if e.Kind == task.EventComplete {
					ends++
				}
			}
			require.Equal(t, 1, ends)
			for i, seq := range seen {
				require.EqualValues(t, i+1, seq)
			}
		}
		t.Log(ended)
		b := r.balance(asker)
		require.Zero(t, b.Held)
		require.Equal(t, credits.Whole(1000)-credits.Amount(ended[task.Completed])*credits.Whole(10), b.Available)
		sum, err := r.store.Read().Ledger.Imbalance(t.Context())
		require.NoError(t, err)
		require.Zero(t, sum)
		events, _, err := r.store.Read().Trust.Events(t.Context(), a.ID, ports.Page{Limit: 1000})
		require.NoError(t, err)
		evidence := map[string]int{}
		for _, e := range events {
			evidence[e.TaskID]++
			require.Contains(t, []trust.EventType{trust.TaskCompleted, trust.TaskFailed, trust.TaskTimeout}, e.Type)
		}
		require.Len(t, evidence, tasks-ended[task.Cancelled])
		for id, n := range evidence {
			require.Equal(t, 1, n, id)
		}
		require.Eventually(t, func() bool {
			n, err := r.store.Read().Jobs.Count(t.Context())
			return err == nil && n == 1
		}, 5*time.Second, 5*time.Millisecond, fmt.Sprint("nothing is left to do but to probe ", a.ID))
	})
}
