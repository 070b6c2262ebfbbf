package app

import (
	"context"
	"fmt"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/scheduler"
	"github.com/nexus-protocol/nexus/ports"
)

// Workflows is definitions of work in several steps, and the runs of it.
type Workflows struct{ *core }

// recentRuns is how many runs come with a workflow.
const recentRuns = 20

// WorkflowView is a workflow with its newest runs, which are without outputs.
type WorkflowView struct {
	scheduler.Workflow
	Runs []scheduler.Run
}

// ChangeWorkflow says what is to change; nil leaves it as it is.
type ChangeWorkflow struct {
	Name        *string
	Description *string
	Steps       *[]scheduler.Step
}

func workflowResource(ownerUserID string) identity.Resource {
	return identity.Resource{OwnerUserID: ownerUserID}
}

// liveWorkflow is a workflow that was not deleted and that the caller may do the action to.
func liveWorkflow(ctx context.Context, get func(context.Context, string) (scheduler.Workflow, error), c identity.Caller, a identity.Action, id string) (scheduler.Workflow, error) {
	w, err := get(ctx, id)
	if err == nil && w.DeletedAt != nil {
		err = fault.NotFoundf(fault.CodeWorkflowNotFound, "Workflow", id)
	}
	if err == nil {
		err = identity.Authorize(c, a, workflowResource(w.OwnerUserID))
	}
	return w, err
}

// define validates a workflow. One read for each agent that it names.
func (s *Workflows) define(ctx context.Context, w scheduler.Workflow) (scheduler.Workflow, error) {
	known := map[string]bool{}
	for _, step := range w.Steps[:min(len(w.Steps), scheduler.MaxSteps)] {
		if _, asked := known[step.AgentID]; asked || step.AgentID == "" {
			continue
		}
		_, err := liveAgent(ctx, s.Store.Read().Agents.Get, step.AgentID)
		if err != nil && !fault.Has(err, fault.CodeAgentNotFound) {
			return w, fmt.Errorf("read agent: %w", err)
		}
		known[step.AgentID] = err == nil
	}
	return scheduler.Define(w, func(id string) bool { return known[id] })
}

// Check tells what Create would find wrong. One read for each agent.
func (s *Workflows) Check(ctx context.Context, c identity.Caller, name, description string, steps []scheduler.Step) error {
	if err := identity.Authorize(c, identity.WorkflowCreate, identity.Resource{}); err != nil {
		return err
	}
	_, err := s.define(ctx, scheduler.Workflow{Name: name, Description: description, OwnerUserID: c.UserID, Steps: steps})
	return err
}

// Create defines a workflow. Any known caller may call it. One read for each agent, one commit.
func (s *Workflows) Create(ctx context.Context, c identity.Caller, name, description string, steps []scheduler.Step) (scheduler.Workflow, error) {
	var out scheduler.Workflow
	if err := identity.Authorize(c, identity.WorkflowCreate, identity.Resource{}); err != nil {
		return out, err
	}
	if err := s.replay(ctx, c); err != nil {
		return out, err
	}
	w, err := s.define(ctx, scheduler.Workflow{Name: name, Description: description, OwnerUserID: c.UserID, Steps: steps})
	if err != nil {
		return out, err
	}
	err = s.once(ctx, c, func() any { return out }, func(ctx context.Context, u *unit) error {
		out = w
		out.ID, out.CreatedAt, out.UpdatedAt = u.id(), u.now, u.now
		return u.Workflows.Insert(ctx, out)
	})
	return out, err
}

// Get returns a workflow with its newest runs. Its owner may call it. Two reads.
func (s *Workflows) Get(ctx context.Context, c identity.Caller, id string) (WorkflowView, error) {
	w, err := liveWorkflow(ctx, s.Store.Read().Workflows.Get, c, identity.WorkflowRead, id)
	if err != nil {
		return WorkflowView{}, err
	}
	return s.view(ctx, w)
}

func (s *Workflows) view(ctx context.Context, w scheduler.Workflow) (WorkflowView, error) {
	runs, _, err := s.Store.Read().Runs.List(ctx, ports.RunFilter{WorkflowID: w.ID}, ports.Page{Limit: recentRuns})
	if err != nil {
		return WorkflowView{}, fmt.Errorf("list runs: %w", err)
	}
	return WorkflowView{w, runs}, nil
}

// List returns the caller's workflows, newest first. One read.
func (s *Workflows) List(ctx context.Context, c identity.Caller, p Page) (List[scheduler.Workflow], error) {
	var none List[scheduler.Workflow]
	if err := identity.Authorize(c, identity.WorkflowList, identity.Resource{}); err != nil {
		return none, err
	}
	page, err := p.resolve(defaultLimit, maxLimit)
	if err != nil {
		return none, err
	}
	items, total, err := s.Store.Read().Workflows.ListByOwner(ctx, c.UserID, page)
	if err != nil {
		return none, fmt.Errorf("list workflows: %w", err)
	}
	return list(items, total, page), nil
}

// Change alters a workflow; runs that have begun keep the steps that they began with. Its owner may call it. One read, and
// one for each agent of new steps; one commit, and one read of the runs.
func (s *Workflows) Change(ctx context.Context, c identity.Caller, id string, in ChangeWorkflow) (WorkflowView, error) {
	w, err := liveWorkflow(ctx, s.Store.Read().Workflows.Get, c, identity.WorkflowChange, id)
	if err != nil {
		return WorkflowView{}, err
	}
	change := func(w scheduler.Workflow) scheduler.Workflow {
		if in.Name != nil {
			w.Name = *in.Name
		}
		if in.Description != nil {
			w.Description = *in.Description
		}
		return w
	}
	preview := change(w)
	var steps []scheduler.Step
	if in.Steps != nil {
		preview.Steps = *in.Steps
		if preview, err = s.define(ctx, preview); err == nil {
			steps = preview.Steps
		}
	} else { // agents that are gone since are no reason to refuse a new name
		_, err = scheduler.Define(preview, func(string) bool { return true })
	}
	if err != nil {
		return WorkflowView{}, err
	}
	err = s.update(ctx, func(ctx context.Context, u *unit) error {
		now, err := liveWorkflow(ctx, u.Workflows.Lock, c, identity.WorkflowChange, id)
		if err != nil {
			return err
		}
		w = change(now)
		if steps != nil {
			w.Steps = steps
		}
		w.UpdatedAt = u.now
		return u.Workflows.Save(ctx, w)
	})
	if err != nil {
		return WorkflowView{}, err
	}
	return s.view(ctx, w)
}

// Delete takes a workflow away, and cancels its open runs. Its past runs stay readable to its owner. One commit, and one
// for each open run, which a job does where a crash prevents it.
func (s *Workflows) Delete(ctx context.Context, c identity.Caller, id string) error {
	err := s.update(ctx, func(ctx context.Context, u *unit) error {
		w, err := liveWorkflow(ctx, u.Workflows.Lock, c, identity.WorkflowChange, id)
		if err != nil {
			return err
		}
		w.DeletedAt, w.UpdatedAt = &u.now, u.now
		if err := u.Workflows.Save(ctx, w); err != nil {
			return fmt.Errorf("save workflow: %w", err)
		}
		return u.enqueue(ctx, jobCancelRuns, id, u.now, ports.PriorityHousekeeping)
	})
	if err != nil {
		return err
	}
	if err := s.cancelRuns(ctx, id); err != nil {
		s.Logger.DebugContext(ctx, "a deleted workflow's runs are left to its job", "workflow", id, "error", err)
	}
	return nil
}

// Execute begins a run, whose first steps start with it: their prices are held and their tasks exist in the same commit.
// A step that cannot begin fails, and the run goes on without it. The workflow's owner may call it, and pays. One commit.
func (s *Workflows) Execute(ctx context.Context, c identity.Caller, id string) (scheduler.Run, error) {
	var out scheduler.Run
	if err := identity.MayAsk(c, identity.WorkflowChange); err != nil {
		return out, err
	}
	err := s.once(ctx, c, func() any { return out }, func(ctx context.Context, u *unit) error {
		w, err := liveWorkflow(ctx, u.Workflows.Get, c, identity.WorkflowChange, id)
		if err != nil {
			return err
		}
		r, events, err := scheduler.NewRun(u.id(), w, c.AgentID, u.now)
		if err != nil {
			return err
		}
		r, more, _, err := s.advance(ctx, u, r, scheduler.Start{At: u.now})
		if err != nil {
			return err
		}
		events = append(events, more...)
		if err := u.Runs.Insert(ctx, r, events); err != nil {
			return fmt.Errorf("insert run: %w", err)
		}
		u.grown.runs = append(u.grown.runs, growth[scheduler.Event]{r.ID, events})
		out = r
		return nil
	})
	return out, err
}

// Runs returns the runs of a workflow, newest first and without outputs. Its owner may call it, also once it is deleted.
// Two reads.
func (s *Workflows) Runs(ctx context.Context, c identity.Caller, id string, p Page) (List[scheduler.Run], error) {
	var none List[scheduler.Run]
	w, err := s.Store.Read().Workflows.Get(ctx, id)
	if err == nil {
		err = identity.Authorize(c, identity.WorkflowRead, workflowResource(w.OwnerUserID))
	}
	if err != nil {
		return none, err
	}
	page, err := p.resolve(defaultLimit, maxLimit)
	if err != nil {
		return none, err
	}
	items, total, err := s.Store.Read().Runs.List(ctx, ports.RunFilter{WorkflowID: id}, page)
	if err != nil {
		return none, fmt.Errorf("list runs: %w", err)
	}
	return list(items, total, page), nil
}

// Run returns a run of a workflow. Its owner may call it. One read.
func (s *Workflows) Run(ctx context.Context, c identity.Caller, workflowID, id string) (scheduler.Run, error) {
	return s.ownRun(ctx, c, identity.WorkflowRead, workflowID, id)
}

// FindRun returns a run of any of the caller's workflows, without the workflow being named. Its owner may call it. One read.
func (s *Workflows) FindRun(ctx context.Context, c identity.Caller, id string) (scheduler.Run, error) {
	r, err := s.Store.Read().Runs.Get(ctx, id)
	if err == nil {
		err = identity.Authorize(c, identity.WorkflowRead, workflowResource(r.OwnerUserID))
	}
	return r, err
}

// ownRun is a run that the caller may do the action to.
func (s *Workflows) ownRun(ctx context.Context, c identity.Caller, a identity.Action, workflowID, id string) (scheduler.Run, error) {
	r, err := s.Store.Read().Runs.Get(ctx, id)
	if err == nil && r.WorkflowID != workflowID {
		err = fault.NotFoundf(fault.CodeRunNotFound, "Run", id)
	}
	if err == nil {
		err = identity.Authorize(c, a, workflowResource(r.OwnerUserID))
	}
	return r, err
}

// CancelRun ends a run by its owner's wish: what is open of it is cancelled, and the money comes back. Cancelling a
// cancelled run changes nothing; one that has ended otherwise is TASK_NOT_ACTIVE. Two reads, one commit.
func (s *Workflows) CancelRun(ctx context.Context, c identity.Caller, workflowID, id string) (scheduler.Run, error) {
	r, err := s.ownRun(ctx, c, identity.WorkflowChange, workflowID, id)
	if err == nil {
		err = s.cancelRun(ctx, r)
	}
	if err != nil {
		return scheduler.Run{}, err
	}
	return s.Store.Read().Runs.Get(ctx, id)
}
