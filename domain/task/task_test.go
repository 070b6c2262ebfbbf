package task_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/task"
)

var start = time.Date(2026, 3, 6, 12, 0, 0, 0, time.UTC)

func draft() task.Draft {
	return task.Draft{
		ID: "t1", Title: "Summarize", Description: "Please summarize", Input: json.RawMessage(`{"text":"x"}`),
		RequesterUserID: "asker", AgentID: "a1", AgentOwnerID: "owner", Price: 1000, At: start,
	}
}

func TestNew(t *testing.T) {
	tk, events, err := task.New(draft())
	require.NoError(t, err)
	require.Equal(t, task.Assigned, tk.Status)
	require.Equal(t, start.Add(300*time.Second), tk.TimeoutAt)
	require.Len(t, events, 2)
	require.Equal(t, task.EventStatus, events[0].Kind)
	require.Equal(t, task.EventMessage, events[1].Kind)
	require.Equal(t, []task.Part{task.TextPart("Please summarize"), {Type: task.PartData, Data: json.RawMessage(`{"text":"x"}`)}}, events[1].Message.Parts)
	require.EqualValues(t, 2, tk.LastSeq)
	require.Equal(t, credits.Amount(1000), tk.Cost())

	own := draft()
	own.AgentOwnerID = own.RequesterUserID
	tk, _, err = task.New(own)
	require.NoError(t, err)
	require.Zero(t, tk.Price, "a task for an agent of one's own costs nothing")

	limited := draft()
	limit := credits.Amount(999)
	limited.MaxBudget = &limit
	_, _, err = task.New(limited)
	require.True(t, fault.Has(err, fault.CodeInsufficientCredits))

	wrong := draft()
	wrong.Title, wrong.Description, wrong.Timeout = "", strings.Repeat("x", 10_001), 9*time.Second
	_, _, err = task.New(wrong)
	f, ok := fault.As(err)
	require.True(t, ok)
	require.Len(t, f.Details["fields"], 3)
}

func TestLife(t *testing.T) {
	tk, _, err := task.New(draft())
	require.NoError(t, err)
	step := func(c task.Command) []task.Event {
		t.Helper()
		var ev []task.Event
		tk, ev, err = task.Apply(tk, c)
		require.NoError(t, err)
		return ev
	}
	require.Len(t, step(task.Start{At: start.Add(time.Second)}), 1)
	require.Empty(t, step(task.Start{At: start.Add(2 * time.Second)}), "a further attempt is no new state")
	require.Equal(t, 2, tk.Attempts)
	require.Equal(t, start.Add(time.Second), *tk.StartedAt)
	require.Empty(t, step(task.Progress{At: start.Add(3 * time.Second), RemoteTaskID: "r"}))
	ev := step(task.Complete{
		At:        start.Add(4 * time.Second),
		Messages:  []task.Message{{ID: "m", Role: task.RoleAgent, Parts: []task.Part{task.TextPart("hello")}}},
		Artifacts: []task.Artifact{{ID: "f", Parts: []task.Part{task.TextPart("there")}}},
	})
	require.Equal(t, []task.EventKind{task.EventMessage, task.EventArtifact, task.EventComplete}, []task.EventKind{ev[0].Kind, ev[1].Kind, ev[2].Kind})
	require.Equal(t, task.Completed, ev[2].Status)
	require.JSONEq(t, `{"text":"there\nhello"}`, string(tk.Output))
	require.Equal(t, start.Add(4*time.Second), *tk.CompletedAt)

	_, _, err = task.Apply(tk, task.Cancel{At: start})
	require.True(t, fault.Has(err, fault.CodeTaskNotActive))
}

func TestOutputPrefersData(t *testing.T) {
	tk, _, _ := task.New(draft())
	tk, _, err := task.Apply(tk, task.Complete{
		At:        start,
		Messages:  []task.Message{{Role: task.RoleAgent, Parts: []task.Part{{Type: task.PartData, Data: json.RawMessage(`{"n":2}`)}}}},
		Artifacts: []task.Artifact{{Parts: []task.Part{task.TextPart("x"), {Type: task.PartData, Data: json.RawMessage(`{"n":1}`)}}}},
	})
	require.NoError(t, err)
	require.JSONEq(t, `{"n":1}`, string(tk.Output))
}

func TestTimeOutOnlyWhenTimeIsUp(t *testing.T) {
	tk, _, _ := task.New(draft())
	tk, ev, err := task.Apply(tk, task.TimeOut{At: tk.TimeoutAt.Add(-1)})
	require.NoError(t, err)
	require.Empty(t, ev)
	tk, _, err = task.Apply(tk, task.TimeOut{At: tk.TimeoutAt})
	require.NoError(t, err)
	require.Equal(t, task.Failed, tk.Status)
	require.Equal(t, task.ErrTimeout, tk.Error.Code)
	require.Zero(t, tk.Cost())
}

// Whatever commands come in whatever order: sequence numbers have no gap, there is one end at most, and after it nothing
// changes any more.
func TestAnyOrderOfCommandsEndsOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := draft()
		d.Wait = rapid.Bool().Draw(t, "agent is offline")
		tk, log, err := task.New(d)
		if err != nil {
			t.Fatal(err)
		}
		now := start
		for i := range rapid.IntRange(1, 30).Draw(t, "commands") {
			now = now.Add(time.Duration(rapid.IntRange(0, 60).Draw(t, "seconds")) * time.Second)
			msg := task.Message{ID: fmt.Sprint(i), Role: task.RoleAgent, Parts: []task.Part{task.TextPart("x")}}
			cmd := rapid.SampledFrom([]task.Command{
				task.Assign{At: now},
				task.Start{At: now},
				task.Progress{At: now, Messages: []task.Message{msg}, Told: rapid.Int64Range(0, tk.Asked).Draw(t, "told"), AwaitsInput: rapid.Bool().Draw(t, "asks")},
				task.Reply{At: now, Message: msg},
				task.Complete{At: now, Messages: []task.Message{msg}},
				task.Fail{At: now, Error: task.Error{Code: task.ErrAgent, Message: "no"}},
				task.TimeOut{At: now},
				task.Cancel{At: now},
			}).Draw(t, "command")
			before := tk
			next, events, err := task.Apply(tk, cmd)
			if before.Status.Ended() && (len(events) > 0 || next.Status != before.Status || next.LastSeq != before.LastSeq) {
				t.Fatalf("%T changed a task that was %s", cmd, before.Status)
			}
			if err != nil && !before.Status.Ended() {
				t.Fatalf("%T on a task that is %s: %v", cmd, before.Status, err)
			}
			if err == nil {
				tk = next
			}
			if tk.Told > tk.Asked || tk.AwaitsInput && (tk.Unheard() || tk.Status != task.Running) || tk.StartedAt == nil && (tk.Status == task.Running || tk.Status == task.Completed) {
				t.Fatalf("after %T: %+v", cmd, tk)
			}
			log = append(log, events...)
		}
		ends := 0
		for i, e := range log {
			if e.Seq != int64(i+1) {
				t.Fatalf("event %d has number %d", i+1, e.Seq)
			}
			if e.Kind == task.EventComplete {
				ends++
			}
			if same := i > 0 && e.Kind == task.EventStatus && log[i-1].Kind == task.EventStatus && log[i-1].Status == e.Status && log[i-1].AwaitsInput == e.AwaitsInput; same {
				t.Fatalf("event %d says what the one before it said", e.Seq)
			}
		}
		if ended := tk.Status.Ended(); ends > 1 || (ends == 1) != ended || ended != (tk.CompletedAt != nil) {
			t.Fatalf("%d ends of a task that is %s", ends, tk.Status)
		}
	})
}
