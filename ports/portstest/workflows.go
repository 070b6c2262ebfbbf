package portstest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/scheduler"
	"github.com/nexus-protocol/nexus/ports"
)

func workflowOf(w world, created time.Time) scheduler.Workflow {
	return scheduler.Workflow{
		ID: newID(), Name: "Ünïcode", Description: "d", OwnerUserID: w.asker.ID, CreatedAt: created, UpdatedAt: created.Add(1e6),
		Steps: []scheduler.Step{
			{Name: "a", AgentID: w.agent.ID, SkillID: "s", Input: json.RawMessage(`{"n":12345678901234567890}`), Timeout: 90 * time.Second, Retry: scheduler.RetryPolicy{MaxRetries: 2, Backoff: 1500 * time.Millisecond}},
			{Name: "b", AgentID: w.agent.ID, Input: json.RawMessage(`{}`), DependsOn: []int{0}, Timeout: time.Minute, Retry: scheduler.RetryPolicy{Backoff: time.Second}},
		},
	}
}

// moveRun lets a command happen to a run, as a host does.
func moveRun(ctx context.Context, s ports.Store, id string, cmd scheduler.Command) error {
	return s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
		r, err := tx.Runs.Lock(ctx, id)
		if err != nil {
			return err
		}
		outputs, err := tx.Runs.Outputs(ctx, id, scheduler.Reads(r, cmd))
		if err != nil {
			return err
		}
		for i, out := range outputs {
			step := *r.Steps[i]
			step.Output, r.Steps[i] = out, &step
		}
		next, d, err := scheduler.Apply(r, cmd)
		if err != nil {
			return err
		}
		return tx.Runs.Save(ctx, next, d.Events)
	})
}

func beginRun(ctx context.Context, s ports.Store, w scheduler.Workflow, at time.Time) (scheduler.Run, error) {
	r, events, err := scheduler.NewRun(newID(), w, "agent", at)
	if err != nil {
		return r, err
	}
	return r, s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Runs.Insert(ctx, r, events) })
}

// sameRun tells whether what the store knows of a run is what its log tells.
func sameRun(ctx context.Context, s ports.Store, id string) error {
	log, err := s.Read().RunLogs.EventsOf(ctx, []ports.Position{{ID: id}}, 1000)
	if err != nil {
		return err
	}
	want, err := scheduler.Replay(log)
	if err != nil {
		return failf("replay of %d events: %w", len(log), err)
	}
	got, err := s.Read().Runs.Get(ctx, id)
	return first(err, same("run", got, want))
}

var workflowChecks = []Check{
	{"workflows/come back as they were", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		one, two := workflowOf(w, base), workflowOf(w, base.Add(time.Second))
		two.Steps[0].SkillID = ""
		err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
			return first(tx.Workflows.Insert(ctx, one), tx.Workflows.Insert(ctx, two))
		})
		again := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Workflows.Insert(ctx, one) })
		got, err2 := s.Read().Workflows.Get(ctx, one.ID)
		got2, err3 := s.Read().Workflows.Get(ctx, two.ID)
		_, missing := s.Read().Workflows.Get(ctx, "unknown")
		list, total, err4 := s.Read().Workflows.ListByOwner(ctx, w.asker.ID, ports.Page{Limit: 1, Offset: 1})
		return first(err, err2, err3, err4, same("one", got, one), same("two", got2, two), wantCode("unknown", missing, fault.CodeWorkflowNotFound),
			wantErr("twice", again, ports.ErrDuplicate), same("total", total, 2), same("second page", list, []scheduler.Workflow{one}))
	})},
	{"workflows/are changed and deleted", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		flow := workflowOf(w, base)
		err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Workflows.Insert(ctx, flow) })
		err2 := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
			now, err := tx.Workflows.Lock(ctx, flow.ID)
			if err != nil {
				return err
			}
			now.Name, now.Description, now.Steps, now.UpdatedAt, now.DeletedAt = "n", "", now.Steps[:1], base.Add(5e6), ptr(base.Add(5e6))
			flow = now
			return tx.Workflows.Save(ctx, now)
		})
		got, err3 := s.Read().Workflows.Get(ctx, flow.ID)
		list, total, err4 := s.Read().Workflows.ListByOwner(ctx, w.asker.ID, ports.Page{Limit: 9})
		missing := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
			return tx.Workflows.Save(ctx, scheduler.Workflow{ID: "unknown"})
		})
		return first(err, err2, err3, err4, same("changed", got, flow), same("listed", len(list)+total, 0), wantCode("unknown", missing, fault.CodeWorkflowNotFound))
	})},
	{"runs/are what their logs tell", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		flow := workflowOf(w, base)
		r, err := beginRun(ctx, s, flow, base)
		if err != nil {
			return err
		}
		out := json.RawMessage(`{"big":12345678901234567890,"list":[null]}`)
		for i, cmd := range []scheduler.Command{
			scheduler.Start{At: base.Add(1e6)},
			scheduler.StepStarted{Attempt: 1, TaskID: "t1", At: base.Add(2e6)},
			scheduler.StepFailed{Attempt: 1, Error: scheduler.Error{Code: "C", Message: "m"}, Retryable: true, At: base.Add(3e6)},
			scheduler.Tick{At: base.Add(9 * time.Second)},
			scheduler.StepStarted{Attempt: 2, TaskID: "t2", At: base.Add(10 * time.Second)},
			scheduler.StepCompleted{Attempt: 2, Output: out, At: base.Add(11 * time.Second)},
			scheduler.StepStarted{Step: 1, Attempt: 1, TaskID: "t3", At: base.Add(12 * time.Second)},
			scheduler.StepTimedOut{Step: 1, Attempt: 1, At: base.Add(13 * time.Second)},
		} {
			if err := first(moveRun(ctx, s, r.ID, cmd), sameRun(ctx, s, r.ID)); err != nil {
				return failf("after command %d: %w", i, err)
			}
		}
		got, err := s.Read().Runs.Get(ctx, r.ID)
		_, missing := s.Read().Runs.Get(ctx, "unknown")
		return first(err, same("status", got.Status, scheduler.Failed), same("output", string(got.Steps[0].Output), string(out)),
			same("owner", got.OwnerUserID, w.asker.ID), same("agent", got.RequesterAgentID, "agent"), wantCode("unknown", missing, fault.CodeRunNotFound))
	})},
	{"runs/outputs are read apart", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		r, err := beginRun(ctx, s, workflowOf(w, base), base)
		for _, cmd := range []scheduler.Command{
			scheduler.Start{At: base}, scheduler.StepStarted{Attempt: 1, TaskID: "t", At: base}, scheduler.StepCompleted{Attempt: 1, Output: json.RawMessage(`7`), At: base},
		} {
			err = first(err, moveRun(ctx, s, r.ID, cmd))
		}
		var locked scheduler.Run
		var all, none map[int]json.RawMessage
		err2 := s.Update(ctx, func(ctx context.Context, tx ports.Tx) (err error) {
			if locked, err = tx.Runs.Lock(ctx, r.ID); err != nil {
				return err
			}
			if all, err = tx.Runs.Outputs(ctx, r.ID, 0b11); err == nil {
				none, err = tx.Runs.Outputs(ctx, r.ID, 0b10)
			}
			return err
		})
		if err := first(err, err2); err != nil {
			return err
		}
		return first(same("locked", locked.Steps[0].Output == nil, true), same("outputs", all, map[int]json.RawMessage{0: json.RawMessage("7")}), same("of the others", len(none), 0))
	})},
	{"runs/an event is written once", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		r, err := beginRun(ctx, s, workflowOf(w, base), base)
		if err != nil {
			return err
		}
		next, d, err := scheduler.Apply(r, scheduler.Start{At: base})
		if err != nil {
			return err
		}
		save := func(ctx context.Context, tx ports.Tx) error { return tx.Runs.Save(ctx, next, d.Events) }
		return first(s.Update(ctx, save), wantErr("again", s.Update(ctx, save), ports.ErrDuplicate), sameRun(ctx, s, r.ID))
	})},
	{"runs/what failed leaves nothing", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		flow := workflowOf(w, base)
		boom := errors.New("boom")
		r, events, err := scheduler.NewRun(newID(), flow, "", base)
		err2 := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
			return first(tx.Workflows.Insert(ctx, flow), tx.Runs.Insert(ctx, r, events), boom)
		})
		_, missing := s.Read().Runs.Get(ctx, r.ID)
		_, missing2 := s.Read().Workflows.Get(ctx, flow.ID)
		log, err3 := s.Read().RunLogs.EventsOf(ctx, []ports.Position{{ID: r.ID}}, 10)
		return first(err, wantErr("update", err2, boom), wantCode("run", missing, fault.CodeRunNotFound), wantCode("workflow", missing2, fault.CodeWorkflowNotFound), err3, same("log", len(log), 0))
	})},
	{"runs/lists", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		flow, other := workflowOf(w, base), workflowOf(w, base)
		var ids []string
		for i := range 3 {
			r, err := beginRun(ctx, s, flow, base.Add(time.Duration(i)*time.Second))
			if err != nil {
				return err
			}
			ids = append([]string{r.ID}, ids...)
		}
		_, err := beginRun(ctx, s, other, base)
		err2 := moveRun(ctx, s, ids[1], scheduler.Cancel{At: base.Add(time.Minute)})
		of := func(f ports.RunFilter, p ports.Page) (string, error) {
			runs, total, err := s.Read().Runs.List(ctx, f, p)
			out := fmt.Sprint(total)
			for _, r := range runs {
				out += " " + r.ID
			}
			return out, err
		}
		all, err3 := of(ports.RunFilter{WorkflowID: flow.ID}, ports.Page{Limit: 9})
		second, err4 := of(ports.RunFilter{WorkflowID: flow.ID}, ports.Page{Limit: 1, Offset: 1})
		open, err5 := of(ports.RunFilter{WorkflowID: flow.ID, Open: true}, ports.Page{Limit: 9})
		return first(err, err2, err3, err4, err5, same("all", all, "3 "+ids[0]+" "+ids[1]+" "+ids[2]), same("second", second, "3 "+ids[1]), same("open", open, "2 "+ids[0]+" "+ids[2]))
	})},
	{"runs/logs of many", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		flow := workflowOf(w, base)
		a, err := beginRun(ctx, s, flow, base)
		b, err2 := beginRun(ctx, s, flow, base)
		err3 := moveRun(ctx, s, b.ID, scheduler.Start{At: base})
		places := func(limit int, after ...ports.Position) (string, error) {
			events, err := s.Read().RunLogs.EventsOf(ctx, after, limit)
			out := ""
			for _, e := range events {
				out += fmt.Sprint(e.RunID, "/", e.Seq, " ")
			}
			return out, err
		}
		all, err4 := places(9, ports.Position{ID: a.ID}, ports.Position{ID: b.ID, Seq: 1}, ports.Position{ID: "unknown"})
		some, err5 := places(2, ports.Position{ID: b.ID}, ports.Position{ID: a.ID})
		return first(err, err2, err3, err4, err5, same("all", all, fmt.Sprintf("%s/1 %s/2 %s/3 ", a.ID, b.ID, b.ID)), same("two", some, fmt.Sprintf("%s/1 %s/2 ", b.ID, b.ID)))
	})},
}
