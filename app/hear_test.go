package app_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

func said(ids ...string) (out []task.Message) {
	for _, id := range ids {
		out = append(out, task.Message{ID: id, Role: task.RoleAgent, Parts: []task.Part{task.TextPart("said " + id)}})
	}
	return out
}

func made(ids ...string) (out []task.Artifact) {
	for _, id := range ids {
		out = append(out, task.Artifact{ID: id, Parts: []task.Part{task.TextPart("made " + id)}})
	}
	return out
}

// news is what an agent at work has said and made.
func news(messages []task.Message, artifacts []task.Artifact) ports.Answer {
	return ports.Answer{State: ports.AnswerWorking, RemoteTaskID: "remote", ContextID: "context", Messages: messages, Artifacts: artifacts}
}

func (r *rig) sees(c string, ok func(app.TaskView) bool, get func() (app.TaskView, error)) {
	r.t.Helper()
	require.Eventually(r.t, func() bool {
		v, err := get()
		return err == nil && ok(v)
	}, 10*time.Second, time.Millisecond, c)
}

func TestWhatAnAgentSaysIsSeenAtOnceAndCountsOnce(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		asker, owner := r.user(), r.user()
		next := make(chan struct{})
		a := r.agent(owner, credits.Whole(10), func(ctx context.Context, c ports.Call) (ports.Answer, error) {
			for _, n := range []ports.Answer{news(nil, nil), news(said("a"), nil), news(said("a"), made("f")), news(said("b"), made("f"))} {
				if err := c.Hear(ctx, n); err != nil {
					return ports.Answer{}, err
				}
				<-next
			}
			return ports.Answer{State: ports.AnswerDone, RemoteTaskID: "remote", Messages: said("a", "b"), Artifacts: made("f", "g")}, nil
		})
		v := r.create(asker, a)
		get := func() (app.TaskView, error) { return r.Tasks.Get(t.Context(), asker, v.ID) }
		next <- struct{}{}
		r.sees("a message", func(v app.TaskView) bool { return len(v.Messages) == 2 && v.Status == task.Running }, get)
		next <- struct{}{}
		r.sees("an artifact", func(v app.TaskView) bool { return len(v.Messages) == 2 && len(v.Artifacts) == 1 }, get)
		next <- struct{}{}
		r.sees("another message", func(v app.TaskView) bool { return len(v.Messages) == 3 && len(v.Artifacts) == 1 }, get)
		next <- struct{}{}
		done := r.ended(asker, v.ID)
		require.Equal(t, task.Completed, done.Status)
		require.Len(t, done.Messages, 3)
		require.Len(t, done.Artifacts, 2)
		require.JSONEq(t, `{"text":"made f\nmade g\nsaid a\nsaid b"}`, string(done.Output), "as if all had come at the end")
		require.Equal(t, 1, done.Attempts)
	})
}

// What an agent has begun is not begun again: the next process asks for it by the id that was heard.
func TestATaskThatWasHeardOfIsTakenUpByTheNextProcess(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		asker, owner := r.user(), r.user()
		var sent, followed atomic.Int32
		heard := make(chan struct{}, 9)
		a := r.agent(owner, credits.Whole(10), func(ctx context.Context, c ports.Call) (ports.Answer, error) {
			if c.RemoteTaskID == "" {
				sent.Add(1)
				if err := c.Hear(ctx, news(said("a"), made("f"))); err != nil {
					return ports.Answer{}, err
				}
				heard <- struct{}{}
				<-ctx.Done()
				return ports.Answer{}, ctx.Err()
			}
			followed.Add(1)
			return ports.Answer{State: ports.AnswerDone, RemoteTaskID: c.RemoteTaskID, Messages: said("a", "b")}, nil
		})
		v := r.create(asker, a)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Worker.Run(ctx, 0) }()
		<-heard
		stop()
		require.NoError(t, <-done)
		r.with()
		r.work()
		end := r.ended(asker, v.ID)
		require.Equal(t, task.Completed, end.Status)
		require.Equal(t, [2]int32{1, 1}, [2]int32{sent.Load(), followed.Load()})
		require.JSONEq(t, `{"text":"made f\nsaid a\nsaid b"}`, string(end.Output))
		require.Len(t, end.Messages, 3)
	})
}

func TestAReplyReachesAnAgentThatIsListenedTo(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		asker, owner := r.user(), r.user()
		first := make(chan struct{}, 9)
		a := r.agent(owner, credits.Whole(10), func(ctx context.Context, c ports.Call) (ports.Answer, error) {
			if string(c.Message.Parts[0].Data) == `"more"` {
				return ports.Answer{State: ports.AnswerDone, RemoteTaskID: c.RemoteTaskID, Messages: said("the answer to more")}, nil
			}
			first <- struct{}{}
			for {
				if err := c.Hear(ctx, news(said(time.Now().String()), nil)); err != nil {
					return ports.Answer{}, err
				}
				select {
				case <-ctx.Done():
					return ports.Answer{}, ctx.Err()
				case <-time.After(10 * time.Millisecond):
				}
			}
		})
		v := r.create(asker, a)
		<-first
		_, err := r.Tasks.Reply(t.Context(), asker, v.ID, app.ReplyTask{Role: task.RoleUser, Parts: []task.Part{task.TextPart("more")}})
		require.NoError(t, err)
		done := r.ended(asker, v.ID)
		require.Equal(t, task.Completed, done.Status)
		require.Equal(t, "the answer to more", done.Messages[len(done.Messages)-1].ID)
	})
}

func TestACancelStopsTheListening(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		asker, owner := r.user(), r.user()
		stopped := make(chan error, 1)
		began := make(chan struct{}, 1)
		a := r.agent(owner, credits.Whole(10), func(ctx context.Context, c ports.Call) (ports.Answer, error) {
			if err := c.Hear(ctx, news(said("a"), nil)); err != nil {
				return ports.Answer{}, err
			}
			began <- struct{}{}
			<-ctx.Done()
			stopped <- c.Hear(context.WithoutCancel(ctx), news(said("late"), nil))
			return ports.Answer{}, ctx.Err()
		})
		v := r.create(asker, a)
		<-began
		_, err := r.Tasks.Cancel(t.Context(), asker, v.ID)
		require.NoError(t, err)
		require.NoError(t, <-stopped)
		end := r.ended(asker, v.ID)
		require.Equal(t, task.Cancelled, end.Status)
		require.Len(t, end.Messages, 2, "what comes late changes nothing")
	})
}

// A message that came another way meanwhile, from a call of another process or from the owner, is not said again.
func TestWhatIsHeardTwiceOverTwoWaysCountsOnce(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		asker, owner := r.user(), r.user()
		heard, next := make(chan struct{}), make(chan struct{})
		a := r.agent(owner, credits.Whole(10), func(ctx context.Context, c ports.Call) (ports.Answer, error) {
			for _, n := range []ports.Answer{news(said("a"), nil), news(said("a", "b"), nil), news(said("c"), nil)} {
				if err := c.Hear(ctx, n); err != nil {
					return ports.Answer{}, err
				}
				heard <- struct{}{}
				<-next
			}
			return ports.Answer{State: ports.AnswerDone, RemoteTaskID: "remote", Messages: said("a", "b", "c")}, nil
		})
		v := r.create(asker, a)
		<-heard
		_, err := r.Tasks.Reply(t.Context(), owner, v.ID, app.ReplyTask{Role: task.RoleAgent, MessageID: "b", Parts: []task.Part{task.TextPart("b")}})
		require.NoError(t, err)
		for range 2 {
			next <- struct{}{}
			<-heard
		}
		next <- struct{}{}
		var ids []string
		for _, m := range r.ended(asker, v.ID).Messages[1:] {
			ids = append(ids, m.ID)
		}
		require.Equal(t, []string{"a", "b", "c"}, ids)
	})
}

// What an agent's owner has told already is not told again by the agent's first answer.
func TestWhatTheOwnerSaidIsNotSaidAgain(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		asker, owner := r.user(), r.user()
		v := r.create(asker, r.agent(owner, 0, func(ctx context.Context, c ports.Call) (ports.Answer, error) {
			_, err := r.Tasks.Reply(ctx, owner, c.TaskID, app.ReplyTask{Role: task.RoleAgent, MessageID: "one", Parts: said("one")[0].Parts})
			require.NoError(t, err)
			return ports.Answer{State: ports.AnswerDone, Messages: said("one", "two")}, nil
		}))
		r.work()
		done := r.ended(asker, v.ID)
		require.Equal(t, task.Completed, done.Status)
		var ids []string
		for _, m := range done.Messages[1:] {
			ids = append(ids, m.ID)
		}
		require.Equal(t, []string{"one", "two"}, ids)
		require.Contains(t, string(done.Output), "said one", "it is part of what came out")
	})
}
