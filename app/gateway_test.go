package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
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

// A message goes to the agent as it was written, once, and under an id that no other requester's message has.
func TestTheGatewayHandsMessagesOnAsTheyAre(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		asker, owner := r.user(), r.user()
		var mu sync.Mutex
		var heard []task.Message
		a := r.agent(owner, credits.Whole(10), func(_ context.Context, c ports.Call) (ports.Answer, error) {
			mu.Lock()
			defer mu.Unlock()
			heard = append(heard, c.Message)
			if len(heard) == 1 {
				return ports.Answer{State: ports.AnswerInputRequired, ContextID: "the agent's"}, nil
			}
			return ports.Answer{State: ports.AnswerDone, Artifacts: []task.Artifact{{ID: "a", Parts: c.Message.Parts}}}, nil
		})
		parts := []task.Part{
			{Type: task.PartData, Data: json.RawMessage(`{"n":12345678901234567890}`), Metadata: json.RawMessage(`{"k":1}`)},
			task.TextPart("two lines\nof text"),
			{Type: task.PartFile, Data: json.RawMessage(`{"name":"a.txt","bytes":"aGk="}`)},
		}
		in := app.SendMessage{AgentID: a.ID, MessageID: "m1", ContextID: "mine", Parts: parts}
		v, err := r.Gateway.Send(t.Context(), asker, in)
		require.NoError(t, err)
		require.Equal(t, "two lines", v.Title)
		require.Equal(t, "m1", v.Messages[0].ID)
		require.Equal(t, parts, v.Messages[0].Parts)
		in.Parts = parts[1:2]
		for range 3 {
			again, err := r.Gateway.Send(t.Context(), asker, in)
			require.NoError(t, err)
			require.Equal(t, v.ID, again.ID, "the same message is the same task, whatever it says now")
		}
		require.Equal(t, credits.Whole(10), r.balance(asker).Held, "and is charged once")
		require.Eventually(t, func() bool {
			now, err := r.Tasks.Get(t.Context(), asker, v.ID)
			return err == nil && now.AwaitsInput
		}, 5*time.Second, time.Millisecond)
		next := app.SendMessage{TaskID: v.ID, MessageID: "m2", Parts: parts[:1]}
		for range 2 {
			_, err = r.Gateway.Send(t.Context(), asker, next)
			require.NoError(t, err)
		}
		done := r.ended(asker, v.ID)
		require.Equal(t, task.Completed, done.Status)
		require.Len(t, done.Messages, 2)
		require.JSONEq(t, `{"n":12345678901234567890}`, string(done.Output))
		mu.Lock()
		defer mu.Unlock()
		require.Len(t, heard, 2)
		require.Equal(t, v.ID, heard[0].ID)
		require.Equal(t, parts, heard[0].Parts)
		require.Contains(t, heard[1].ID, v.ID+"/")

		of := func(conversation string) int {
			l, err := r.Tasks.List(t.Context(), asker, app.TaskQuery{Conversation: conversation})
			require.NoError(t, err)
			return l.Total
		}
		require.Equal(t, 1, of("mine"))
		require.Zero(t, of("another"))
	})
}

// A stranger may ask agents that cost nothing, and sees what it asked and nothing else.
func TestStrangersAtTheGateway(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		var stranger identity.Caller
		asker, owner := r.user(), r.user()
		free, dear := r.agent(owner, 0, echo), r.agent(owner, 1, echo)
		hello := []task.Part{task.TextPart("hello")}
		send := func(c identity.Caller, in app.SendMessage) (app.TaskView, error) {
			in.Parts, in.Address = hello, "192.0.2.1"
			return r.Gateway.Send(t.Context(), c, in)
		}
		v, err := send(stranger, app.SendMessage{AgentID: free.ID, MessageID: "1"})
		require.NoError(t, err)
		require.Empty(t, v.RequesterUserID)
		again, err := send(stranger, app.SendMessage{AgentID: free.ID, MessageID: "1"})
		require.NoError(t, err)
		require.Equal(t, v.ID, again.ID)
		other, err := r.Gateway.Send(t.Context(), stranger, app.SendMessage{AgentID: free.ID, MessageID: "1", Parts: hello, Address: "192.0.2.2"})
		require.NoError(t, err)
		require.NotEqual(t, v.ID, other.ID, "the same id of someone else is another message")
		require.Equal(t, task.Completed, r.ended(stranger, v.ID).Status)
		p, err := r.Trust.Profile(t.Context(), asker, free.ID)
		require.NoError(t, err)
		n, err := r.Trust.Profile(t.Context(), asker, dear.ID)
		require.NoError(t, err)
		require.Equal(t, n.Score, p.Score, "it proves nothing") //nolint:testifylint // the very same

		_, err = send(stranger, app.SendMessage{AgentID: dear.ID, MessageID: "2"})
		r.refused(err, fault.CodeUnauthorized)
		paid, err := send(asker, app.SendMessage{AgentID: dear.ID, MessageID: "2"})
		require.NoError(t, err)
		_, err = r.Tasks.Get(t.Context(), stranger, paid.ID)
		r.refused(err, fault.CodeUnauthorized)
		_, err = r.Tasks.Cancel(t.Context(), stranger, paid.ID)
		r.refused(err, fault.CodeUnauthorized)
		_, err = send(stranger, app.SendMessage{TaskID: paid.ID, MessageID: "3"})
		r.refused(err, fault.CodeUnauthorized)
		_, err = r.Tasks.Get(t.Context(), r.user(), paid.ID)
		r.refused(err, fault.CodeTaskNotFound)
		_, err = r.Tasks.List(t.Context(), stranger, app.TaskQuery{})
		r.refused(err, fault.CodeUnauthorized)

		_, err = send(stranger, app.SendMessage{MessageID: "4"})
		r.refused(err, fault.CodeValidation)
		_, err = send(stranger, app.SendMessage{MessageID: "4", SkillTags: []string{"nobody"}})
		r.refused(err, fault.CodeAgentNotFound)
		endpoint, name, tags := dear.Endpoint, "Tagged", []string{"shiny"}
		price := credits.Amount(0)
		tagged, err := r.Agents.Register(t.Context(), owner, registry.Profile{Name: &name, Endpoint: &endpoint, Tags: &tags, Price: &price})
		require.NoError(t, err)
		v, err = send(stranger, app.SendMessage{MessageID: "4", SkillTags: tags})
		require.NoError(t, err)
		require.Equal(t, tagged.ID, v.AgentID)
		for i := range 40 {
			_, err = send(stranger, app.SendMessage{AgentID: free.ID, MessageID: "many" + string(rune('a'+i))})
		}
		r.refused(err, fault.CodeRateLimitExceeded)
	})
}

// reading counts what is read of tasks and of kept answers outside of units of work.
type reading struct {
	ports.Store
	n atomic.Int32
}

type (
	countedTasks struct {
		ports.TaskReader
		n *atomic.Int32
	}
	countedLogs struct {
		ports.TaskLogReader
		n *atomic.Int32
	}
	countedAnswers struct {
		ports.AnswerReader
		n *atomic.Int32
	}
)

func (s *reading) Read() ports.Reads {
	r := s.Store.Read()
	r.Tasks, r.TaskLogs, r.Answers = countedTasks{r.Tasks, &s.n}, countedLogs{r.TaskLogs, &s.n}, countedAnswers{r.Answers, &s.n}
	return r
}

func (c countedTasks) Get(ctx context.Context, id string) (task.Task, error) {
	c.n.Add(1)
	return c.TaskReader.Get(ctx, id)
}

func (c countedTasks) History(ctx context.Context, id string) (task.Task, []task.Event, error) {
	c.n.Add(1)
	return c.TaskReader.History(ctx, id)
}

func (c countedLogs) EventsOf(ctx context.Context, after []ports.Position, limit int) ([]task.Event, error) {
	c.n.Add(1)
	return c.TaskLogReader.EventsOf(ctx, after, limit)
}

func (c countedAnswers) Get(ctx context.Context, id string) (ports.KeptAnswer, bool, error) {
	c.n.Add(1)
	return c.AnswerReader.Get(ctx, id)
}

// Who sends and waits gets what the store has by then, without a look at it when the agent answers at once.
func TestWhoSendsMayWait(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		store := &reading{Store: r.store}
		r.store = store
		r.with()
		r.work()
		asker, owner := r.user(), r.user()
		release := make(chan struct{})
		a := r.agent(owner, credits.Whole(1), func(ctx context.Context, c ports.Call) (ports.Answer, error) {
			switch text := string(c.Message.Parts[0].Data); text {
			case `"ask"`:
				return ports.Answer{State: ports.AnswerInputRequired, RemoteTaskID: "r", Messages: said("question of " + c.TaskID)}, nil
			case `"be slow"`:
				select {
				case <-release:
				case <-ctx.Done():
				}
			}
			return ports.Answer{State: ports.AnswerDone, Messages: said("answer of " + c.Message.ID), Artifacts: made("one")}, nil
		})
		n := 0
		send := func(text string, in app.SendMessage) app.TaskView {
			t.Helper()
			n++
			in.AgentID, in.Parts = a.ID, []task.Part{task.TextPart(text)}
			if in.MessageID == "" {
				in.MessageID = fmt.Sprint(n)
			}
			v, err := r.Gateway.Send(t.Context(), asker, in)
			require.NoError(t, err)
			return v
		}
		same := func(v app.TaskView) {
			t.Helper()
			now, err := r.Tasks.Get(t.Context(), asker, v.ID)
			require.NoError(t, err)
			require.Equal(t, now, v)
		}
		send("be there", app.SendMessage{Wait: time.Minute}) // then this process calls the agents of new tasks
		store.n.Store(0)
		done := send("do it", app.SendMessage{Wait: time.Minute, MessageID: "done"})
		require.LessOrEqual(t, store.n.Load(), int32(1), "whether it is a repeat")
		require.Equal(t, task.Completed, done.Status)
		require.Len(t, done.Messages, 2)
		require.Len(t, done.Artifacts, 1)
		same(done)
		require.Equal(t, done, send("do it", app.SendMessage{Wait: time.Minute, MessageID: "done"}), "a repeat")

		asks := send("ask", app.SendMessage{Wait: time.Minute})
		require.True(t, asks.AwaitsInput)
		same(asks)
		answered := send("this one", app.SendMessage{Wait: time.Minute, TaskID: asks.ID})
		require.Equal(t, task.Completed, answered.Status)
		require.Len(t, answered.Messages, 4)
		same(answered)

		slow := send("be slow", app.SendMessage{Wait: time.Millisecond})
		require.False(t, slow.Status.Ended(), "it waits no longer than it is told to")
		again := make(chan app.TaskView)
		go func() {
			v, _ := r.Gateway.Send(t.Context(), asker, app.SendMessage{AgentID: a.ID, MessageID: fmt.Sprint(n), Parts: []task.Part{task.TextPart("be slow")}, Wait: time.Minute})
			again <- v
		}()
		close(release)
		v := <-again
		require.Equal(t, slow.ID, v.ID)
		require.Equal(t, task.Completed, v.Status, "a repeat waits too")
		same(v)
	})
}
