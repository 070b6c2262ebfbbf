package memory

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/scheduler"
	"github.com/nexus-protocol/nexus/ports"
)

type workflows struct{ view }

func cloneSteps(in []scheduler.Step) []scheduler.Step {
	out := slices.Clone(in)
	for i, s := range out {
		out[i].Input, out[i].DependsOn = slices.Clone(s.Input), slices.Clone(s.DependsOn)
	}
	return out
}

func cloneWorkflow(w scheduler.Workflow) scheduler.Workflow {
	w.Steps, w.DeletedAt = cloneSteps(w.Steps), clonePtr(w.DeletedAt)
	return w
}

func workflowNotFound(id string) error {
	return fault.NotFoundf(fault.CodeWorkflowNotFound, "Workflow", id)
}

func (v workflows) Get(ctx context.Context, id string) (scheduler.Workflow, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return scheduler.Workflow{}, err
	}
	defer unlock()
	w, ok := v.s.workflows.get(id)
	if !ok {
		return w, workflowNotFound(id)
	}
	return cloneWorkflow(w), nil
}

func (v workflows) Lock(ctx context.Context, id string) (scheduler.Workflow, error) {
	return v.Get(ctx, id)
}

func (v workflows) ListByOwner(ctx context.Context, userID string, p ports.Page) ([]scheduler.Workflow, int, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer unlock()
	var found []scheduler.Workflow
	for _, w := range v.s.workflows.rows {
		if w.OwnerUserID == userID && w.DeletedAt == nil {
			found = append(found, w)
		}
	}
	return newest(found, p, func(w scheduler.Workflow) (time.Time, string) { return w.CreatedAt, w.ID }, cloneWorkflow), len(found), nil
}

func (v workflows) Insert(_ context.Context, w scheduler.Workflow) error {
	if _, taken := v.s.workflows.get(w.ID); taken {
		return ports.ErrDuplicate
	}
	v.s.workflows.put(v.tx, w.ID, cloneWorkflow(w))
	return nil
}

func (v workflows) Save(_ context.Context, w scheduler.Workflow) error {
	old, ok := v.s.workflows.get(w.ID)
	if !ok {
		return workflowNotFound(w.ID)
	}
	w.OwnerUserID, w.CreatedAt = old.OwnerUserID, old.CreatedAt
	v.s.workflows.put(v.tx, w.ID, cloneWorkflow(w))
	return nil
}

// runs keeps runs as Apply gives them: neither their steps nor their plans are ever changed in place.
type runs struct{ view }

func runNotFound(id string) error { return fault.NotFoundf(fault.CodeRunNotFound, "Run", id) }

// bare is a run without outputs.
func bare(r scheduler.Run) scheduler.Run {
	r.Steps = slices.Clone(r.Steps)
	for i, s := range r.Steps {
		if s.Output != nil {
			s := *s
			s.Output = nil
			r.Steps[i] = &s
		}
	}
	return r
}

func (v runs) outputs(id string, steps scheduler.Set) map[int]json.RawMessage {
	out := map[int]json.RawMessage{}
	for _, e := range v.s.runLogs.rows[id] {
		if e.Kind == scheduler.EventStepCompleted && steps.Has(e.Step) {
			out[e.Step] = slices.Clone(e.Output)
		}
	}
	return out
}

func (v runs) Get(ctx context.Context, id string) (scheduler.Run, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return scheduler.Run{}, err
	}
	defer unlock()
	r, ok := v.s.runs.get(id)
	if !ok {
		return r, runNotFound(id)
	}
	r.Steps = slices.Clone(r.Steps)
	for i, out := range v.outputs(id, 1<<len(r.Steps)-1) {
		s := *r.Steps[i]
		s.Output = out
		r.Steps[i] = &s
	}
	return r, nil
}

func (v runs) Lock(ctx context.Context, id string) (scheduler.Run, error) {
	r, ok := v.s.runs.get(id)
	if !ok {
		return r, runNotFound(id)
	}
	return r, ctx.Err()
}

func (v runs) Outputs(ctx context.Context, id string, steps scheduler.Set) (map[int]json.RawMessage, error) {
	return v.outputs(id, steps), ctx.Err()
}

func (v runs) List(ctx context.Context, f ports.RunFilter, p ports.Page) ([]scheduler.Run, int, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer unlock()
	var found []scheduler.Run
	for _, r := range v.s.runs.rows {
		if r.WorkflowID == f.WorkflowID && (!f.Open || !r.Status.Ended()) {
			found = append(found, r)
		}
	}
	return newest(found, p, func(r scheduler.Run) (time.Time, string) { return r.CreatedAt, r.ID }, bare), len(found), nil
}

func (v runs) EventsOf(ctx context.Context, after []ports.Position, limit int) (out []scheduler.Event, err error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	for _, p := range after {
		all := v.s.runLogs.rows[p.ID]
		from, _ := slices.BinarySearchFunc(all, p.Seq+1, func(e scheduler.Event, seq int64) int { return cmp.Compare(e.Seq, seq) })
		out = append(out, stretch(all, ports.Page{Limit: limit - len(out), Offset: from})...)
	}
	return out, nil
}

func (v runs) Insert(_ context.Context, r scheduler.Run, events []scheduler.Event) error {
	if _, taken := v.s.runs.get(r.ID); taken {
		return ports.ErrDuplicate
	}
	return v.write(r, events)
}

func (v runs) Save(_ context.Context, r scheduler.Run, events []scheduler.Event) error {
	if _, ok := v.s.runs.get(r.ID); !ok {
		return runNotFound(r.ID)
	}
	return v.write(r, events)
}

func (v runs) write(r scheduler.Run, events []scheduler.Event) error {
	log, err := grow(v.s.runLogs.rows[r.ID], events, func(e scheduler.Event) int64 { return e.Seq }, r.ID)
	if err != nil {
		return err
	}
	v.s.runLogs.put(v.tx, r.ID, log)
	v.s.runs.put(v.tx, r.ID, bare(r))
	return nil
}
