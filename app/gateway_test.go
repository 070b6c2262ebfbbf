package app_test

import (
	"context"
	"encoding/json"
	"sync"
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
