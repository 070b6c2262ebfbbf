package portstest

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

var taskChecks = []Check{
	{"tasks/come back as they were", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		full := task.Task{
			ID: newID(), Title: "Ünïcode", Description: "d", Status: task.Failed, RequesterUserID: w.asker.ID, RequesterAgentID: w.agent.ID,
			AgentID: w.agent.ID, AgentOwnerID: w.owner.ID, SkillID: "s", Input: json.RawMessage(`{"n":12345678901234567890}`), Output: json.RawMessage(`[1,2]`),
			MaxBudget: ptr(credits.Amount(5)), Price: 4, Attempts: 2, Error: &task.Error{Code: "C", Message: "m"}, Timeout: 90 * time.Second,
			CreatedAt: base, StartedAt: ptr(base.Add(1e6)), UpdatedAt: base.Add(2e6), TimeoutAt: base.Add(3e6), CompletedAt: ptr(base.Add(4e6)),
			WorkflowRunID: "run", StepIndex: ptr(0), RemoteTaskID: "r", ContextID: "c", LastSeq: 7, Push: true,
		}
		plain, events := taskFor(w.asker, w.agent)
		err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
			return first(tx.Tasks.Insert(ctx, full, nil), tx.Tasks.Insert(ctx, plain, events))
		})
		got, err2 := s.Read().Tasks.Get(ctx, full.ID)
		got2, err3 := s.Read().Tasks.Get(ctx, plain.ID)
		_, missing := s.Read().Tasks.Get(ctx, "unknown")
		_, _, missing2 := s.Read().Tasks.History(ctx, "unknown")
		return first(err, err2, err3, same("full", got, full), same("plain", got2, plain),
			wantCode("unknown", missing, fault.CodeTaskNotFound), wantCode("unknown", missing2, fault.CodeTaskNotFound))
	})},
	{"tasks/log and history", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		t, log := taskFor(w.asker, w.agent)
		if err := s.Update(ctx, insertTask(t, log)); err != nil {
			return err
		}
		data := task.Part{Type: task.PartData, Data: json.RawMessage(`{"big":12345678901234567890,"list":[null]}`), Metadata: json.RawMessage(`{"k":1}`)}
		file := task.Part{Type: task.PartFile, Data: json.RawMessage(`{"name":"a.txt","bytes":"aGk="}`)}
		for _, cmd := range []task.Command{
			task.Start{At: base.Add(time.Second)},
			task.Complete{
				At:        base.Add(2 * time.Second),
				Messages:  []task.Message{{ID: "m", Role: task.RoleAgent, Parts: []task.Part{task.TextPart("hé\n"), data}}},
				Artifacts: []task.Artifact{{ID: "a", Name: "n", Description: "d", Parts: []task.Part{file}}, {ID: "b", Parts: []task.Part{}}},
			},
		} {
			err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
				now, err := tx.Tasks.Lock(ctx, t.ID)
				if err != nil {
					return err
				}
				next, events, err := task.Apply(now, cmd)
				if err != nil {
					return err
				}
				if err := tx.Tasks.Save(ctx, next, events); err != nil {
					return err
				}
				t, log = next, append(log[:now.LastSeq:now.LastSeq], events...)
				return nil
			})
			if err != nil {
				return err
			}
		}
		r := s.Read().Tasks
		all, err := r.Events(ctx, t.ID, 0, 100)
		some, err2 := r.Events(ctx, t.ID, 2, 2)
		none, err3 := r.Events(ctx, t.ID, t.LastSeq, 100)
		got, history, err4 := r.History(ctx, t.ID)
		if err := first(err, err2, err3, err4, same("log", all, log), same("a part of the log", some, log[2:4]), same("after the last", len(none), 0), same("task", got, t)); err != nil {
			return err
		}
		messages, artifacts := task.History(history)
		wantM, wantA := task.History(log)
		return first(same("messages", messages, wantM), same("artifacts", artifacts, wantA))
	})},
	{"tasks/logs of many", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		logs := map[string][]task.Event{}
		var after []ports.Position
		total := 0
		err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
			clear(logs)
			after, total = nil, 0
			for i := range 150 { // from before the first event to after the last one
				t, events := taskFor(w.asker, w.agent)
				if err := tx.Tasks.Insert(ctx, t, events); err != nil {
					return err
				}
				seq := i % (len(events) + 1)
				logs[t.ID] = events[seq:]
				after = append(after, ports.Position{ID: t.ID, Seq: int64(seq)})
				total += len(events) - seq
			}
			return nil
		})
		if err != nil {
			return err
		}
		after = append(after, ports.Position{ID: "unknown"})
		for _, n := range []int{0, 1, 2, 7, 8, 9, 63, 64, 65, len(after)} {
			for _, limit := range []int{1, 5, total, total + 1} {
				got, err := s.Read().TaskLogs.EventsOf(ctx, after[:n], limit)
				want := 0
				byTask := map[string][]task.Event{}
				for _, p := range after[:n] {
					want += len(logs[p.ID])
				}
				for _, e := range got {
					byTask[e.TaskID] = append(byTask[e.TaskID], e)
				}
				if err := first(err, same("events", len(got), min(want, limit))); err != nil {
					return err
				}
				for id, events := range byTask {
					if err := same("the beginning of a log", events, logs[id][:min(len(events), len(logs[id]))]); err != nil {
						return err
					}
				}
			}
		}
		return nil
	})},
	{"tasks/a place in the log is taken once", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		t, log := taskFor(w.asker, w.agent)
		if err := s.Update(ctx, insertTask(t, log)); err != nil {
			return err
		}
		twice := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Tasks.Save(ctx, t, log[1:]) })
		all, err := s.Read().Tasks.Events(ctx, t.ID, 0, 100)
		return first(wantErr("second", twice, ports.ErrDuplicate), err, same("log", all, log))
	})},
	{"tasks/list", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		var all []task.Task
		err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
			all = nil
			for i := range 9 {
				t, events := taskFor(w.asker, w.agent)
				if i%3 == 0 {
					t.RequesterUserID, t.AgentOwnerID = w.owner.ID, w.asker.ID
				}
				t.CreatedAt = base.Add(time.Duration(i/2) * time.Second)
				t.Status = task.Statuses()[i%6]
				all = append(all, t)
				if err := tx.Tasks.Insert(ctx, t, events); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		slices.Reverse(all)
		for _, f := range []ports.TaskFilter{
			{RequesterUserID: w.asker.ID},
			{AgentOwnerID: w.asker.ID},
			{RequesterUserID: w.asker.ID, AgentOwnerID: w.asker.ID},
			{RequesterUserID: w.asker.ID, Status: task.Running},
			{RequesterUserID: w.asker.ID, AgentID: w.agent.ID},
			{RequesterUserID: w.asker.ID, AgentID: "other"},
			{RequesterUserID: "nobody"},
		} {
			want, got := []string{}, []string{}
			for _, t := range all {
				party := f.RequesterUserID == t.RequesterUserID || f.AgentOwnerID == t.AgentOwnerID
				if party && (f.Status == "" || f.Status == t.Status) && (f.AgentID == "" || f.AgentID == t.AgentID) {
					want = append(want, t.ID)
				}
			}
			for offset := 0; offset <= len(want); offset += 2 {
				page, total, err := s.Read().Tasks.List(ctx, f, ports.Page{Limit: 2, Offset: offset})
				if err := first(err, same("total", total, len(want))); err != nil {
					return err
				}
				for _, t := range page {
					got = append(got, t.ID)
				}
			}
			if err := same("newest first, page by page", got, want); err != nil {
				return err
			}
		}
		return nil
	})},
	{"tasks/overdue and open", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		var late []string
		err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
			late = nil
			for i, status := range task.Statuses() {
				t, events := taskFor(w.asker, w.agent)
				t.Status, t.TimeoutAt = status, base.Add(time.Duration(10-i)*time.Second)
				if !status.Ended() {
					late = append([]string{t.ID}, late...)
				}
				if err := tx.Tasks.Insert(ctx, t, events); err != nil {
					return err
				}
			}
			return nil
		})
		r := s.Read().Tasks
		none, err1 := r.Overdue(ctx, base.Add(7*time.Second), 10)
		one, err2 := r.Overdue(ctx, base.Add(8*time.Second), 10)
		all, err3 := r.Overdue(ctx, base.Add(time.Hour), 10)
		two, err4 := r.Overdue(ctx, base.Add(time.Hour), 2)
		open, err5 := r.OpenByAgent(ctx, w.agent.ID, "", 10)
		other, err6 := r.OpenByAgent(ctx, "other", "", 10)
		pending, err7 := r.OpenByAgent(ctx, w.agent.ID, task.Pending, 10)
		slices.Sort(open)
		sorted := slices.Sorted(slices.Values(late))
		return first(err, err1, err2, err3, err4, err5, err6, err7, same("pending", len(pending), 1), same("none", len(none), 0), same("the first", one, late[:1]), same("all, longest overdue first", all, late),
			same("two", two, late[:2]), same("open", open, sorted), same("of another", len(other), 0))
	})},
	{"tasks/input comes back byte by byte", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		t, events := taskFor(w.asker, w.agent)
		t.Input = json.RawMessage("{ \"a\" : 1.0e0,\t\"b\":\"\\u00e9\" }")
		err := s.Update(ctx, insertTask(t, events))
		got, err2 := s.Read().Tasks.Get(ctx, t.ID)
		return first(err, err2, same("input", bytes.Equal(got.Input, t.Input), true))
	})},
}
