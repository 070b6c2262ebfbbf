package bunstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/scheduler"
	"github.com/nexus-protocol/nexus/ports"
)

type workflows struct{ access }

var _ ports.WorkflowStore = (*workflows)(nil)

const workflowColumns = `id, owner_user_id, name, created_at, updated_at, deleted_at, description, steps`

var (
	qWorkflow       = hot(`SELECT ` + workflowColumns + ` FROM workflows WHERE id = ?`)
	qLockWorkflow   = hot(`SELECT `+workflowColumns+` FROM workflows WHERE id = ?{lock}`).ranked(rankRun, 0).locks("workflow")
	qInsertWorkflow = hot(`INSERT INTO workflows (` + workflowColumns + `) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`)
	qSaveWorkflow   = hot(`UPDATE workflows SET name = ?, updated_at = ?, deleted_at = ?, description = ?, steps = ? WHERE id = ?`)
	qWorkflows      = hot(`SELECT ` + workflowColumns + ` FROM workflows WHERE owner_user_id = ? AND deleted_at IS NULL ORDER BY created_at DESC, id DESC LIMIT ? OFFSET ?`)
	qCountWorkflows = hot(`SELECT count(*) FROM workflows WHERE owner_user_id = ? AND deleted_at IS NULL`)
)

// stepDoc is a step of a workflow.
type stepDoc struct {
	Name       string        `json:"name"`
	AgentID    string        `json:"agentId"`
	SkillID    string        `json:"skillId,omitempty"`
	Input      quoted        `json:"input,omitempty"`
	DependsOn  []int         `json:"dependsOn,omitempty"`
	Timeout    time.Duration `json:"timeout"` // nanoseconds
	MaxRetries int           `json:"maxRetries,omitempty"`
	Backoff    time.Duration `json:"backoff"` // nanoseconds
}

func stepDocs(steps []scheduler.Step) []stepDoc {
	docs := make([]stepDoc, len(steps))
	for i, s := range steps {
		docs[i] = stepDoc{s.Name, s.AgentID, s.SkillID, quote(s.Input), s.DependsOn, s.Timeout, s.Retry.MaxRetries, s.Retry.Backoff}
	}
	return docs
}

func stepsOf(docs []stepDoc) []scheduler.Step {
	steps := make([]scheduler.Step, len(docs))
	for i, d := range docs {
		steps[i] = scheduler.Step{
			Name: d.Name, AgentID: d.AgentID, SkillID: d.SkillID, Input: unquote(d.Input), DependsOn: d.DependsOn, Timeout: d.Timeout,
			Retry: scheduler.RetryPolicy{MaxRetries: d.MaxRetries, Backoff: d.Backoff},
		}
	}
	return steps
}

func scanWorkflow(scan func(...any) error) (scheduler.Workflow, error) {
	var w scheduler.Workflow
	var created, updated micros
	var deleted sql.NullInt64
	var steps string
	if err := scan(&w.ID, &w.OwnerUserID, &w.Name, &created, &updated, &deleted, &w.Description, &steps); err != nil {
		return w, err
	}
	w.CreatedAt, w.UpdatedAt, w.DeletedAt = created.time(), updated.time(), maybeTime(deleted)
	var docs []stepDoc
	err := unpack(steps, &docs)
	w.Steps = stepsOf(docs)
	return w, err
}

// Get implements ports.WorkflowReader. One statement.
func (v *workflows) Get(ctx context.Context, id string) (scheduler.Workflow, error) {
	return v.find(ctx, qWorkflow, id)
}

// Lock implements ports.WorkflowStore. One statement.
func (v *workflows) Lock(ctx context.Context, id string) (scheduler.Workflow, error) {
	return v.find(ctx, qLockWorkflow, id)
}

func (v *workflows) find(ctx context.Context, q statement, id string) (w scheduler.Workflow, err error) {
	found := false
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		found = false
		err := c.each(ctx, q, []any{id}, func(scan func(...any) error) (err error) {
			found = true
			w, err = scanWorkflow(scan)
			return err
		})
		return c.store.wrap(err, "read workflow")
	})
	if err == nil && !found {
		err = fault.NotFoundf(fault.CodeWorkflowNotFound, "Workflow", id)
	}
	return w, err
}

// ListByOwner implements ports.WorkflowReader. Two statements.
func (v *workflows) ListByOwner(ctx context.Context, userID string, page ports.Page) (out []scheduler.Workflow, total int, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		out = nil
		err := c.each(ctx, qWorkflows, []any{userID, page.Limit, page.Offset}, func(scan func(...any) error) error {
			w, err := scanWorkflow(scan)
			out = append(out, w)
			return err
		})
		if err == nil {
			err = c.row(ctx, qCountWorkflows, []any{userID}, &total)
		}
		return c.store.wrap(err, "list workflows")
	})
	return out, total, err
}

// Insert implements ports.WorkflowStore. One statement.
func (v *workflows) Insert(ctx context.Context, w scheduler.Workflow) error {
	steps, err := pack(stepDocs(w.Steps))
	if err != nil {
		return err
	}
	return v.do(ctx, func(ctx context.Context, c *session) error {
		n, err := c.exec(ctx, qInsertWorkflow, w.ID, w.OwnerUserID, w.Name, int64(at(w.CreatedAt)), int64(at(w.UpdatedAt)), maybeAt(w.DeletedAt), w.Description, steps)
		if err == nil && n == 0 {
			return fmt.Errorf("workflow %s: %w", w.ID, ports.ErrDuplicate)
		}
		return c.store.wrap(err, "insert workflow")
	})
}

// Save implements ports.WorkflowStore. One statement.
func (v *workflows) Save(ctx context.Context, w scheduler.Workflow) error {
	steps, err := pack(stepDocs(w.Steps))
	if err != nil {
		return err
	}
	return v.do(ctx, func(ctx context.Context, c *session) error {
		n, err := c.exec(ctx, qSaveWorkflow, w.Name, int64(at(w.UpdatedAt)), maybeAt(w.DeletedAt), w.Description, steps, w.ID)
		if err == nil && n == 0 {
			return fault.NotFoundf(fault.CodeWorkflowNotFound, "Workflow", w.ID)
		}
		return c.store.wrap(err, "save workflow")
	})
}

type runs struct{ access }

var (
	_ ports.RunStore     = (*runs)(nil)
	_ ports.RunLogReader = (*runs)(nil)
)

// What a run was created with is in the first event of its log.
const (
	runColumns  = `r.id, r.workflow_id, r.owner_user_id, r.requester_agent_id, r.status, r.last_seq, r.created_at, r.started_at, r.completed_at, r.state`
	runCreation = `(SELECT e.body FROM run_events e WHERE e.run_id = r.id AND e.seq = 1)`
	openRun     = `r.status IN ('pending', 'running')`
)

var (
	qRun     = hot(`SELECT ` + runColumns + `, ` + runCreation + ` FROM workflow_runs r WHERE r.id = ?`)
	qLockRun = hot(`SELECT `+runColumns+`, `+runCreation+` FROM workflow_runs r WHERE r.id = ?{lock}`).ranked(rankRun, 0).locks("run").
			inBulk(reads(`SELECT u.n, `+runColumns+`, `+runCreation+` FROM `+rowsOf("t")+` JOIN workflow_runs AS r ON r.id = u.c0 ORDER BY u.n{lock} OF r`, "t"))
	qInsertRun = hot(`INSERT INTO workflow_runs (id, workflow_id, owner_user_id, requester_agent_id, status, last_seq, created_at, started_at, completed_at, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`).
			inBulk(inserts(`INSERT INTO workflow_runs (id, workflow_id, owner_user_id, requester_agent_id, status, last_seq, created_at, started_at, completed_at, state)`, "tttttbbBBt", `ON CONFLICT (id) DO NOTHING`))
	qSaveRun = hot(`UPDATE workflow_runs SET status = ?, last_seq = ?, started_at = ?, completed_at = ?, state = ? WHERE id = ?`).
			inBulk(changes(`UPDATE workflow_runs AS r SET status = u.c0, last_seq = u.c1, started_at = u.c2, completed_at = u.c3, state = u.c4 FROM `+rowsOf("tbBBtt")+` WHERE r.id = u.c5`, "tbBBtt", true, 5))
	qOutputs = hot(`SELECT step, body FROM run_events WHERE run_id = ? AND kind = 'step_completed'`).
			inBulk(reads(`SELECT u.n, e.step, e.body FROM `+rowsOf("t")+` JOIN run_events AS e ON e.run_id = u.c0 AND e.kind = 'step_completed'`, "t"))
	qRunEvents  = hot(`SELECT seq, kind, status, step, attempt, at, body FROM run_events WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?`)
	qAddEvents  = hotMulti(`INSERT INTO run_events (run_id, seq, kind, status, step, attempt, at, body)`, "tbttbbbt", `ON CONFLICT (run_id, seq) DO NOTHING`)
	qRuns       = hot(`SELECT ` + runColumns + `, ` + runCreation + ` FROM workflow_runs r WHERE r.workflow_id = ? ORDER BY r.created_at DESC, r.id DESC LIMIT ? OFFSET ?`)
	qOpenRuns   = hot(`SELECT ` + runColumns + `, ` + runCreation + ` FROM workflow_runs r WHERE r.workflow_id = ? AND ` + openRun + ` ORDER BY r.created_at DESC, r.id DESC LIMIT ? OFFSET ?`)
	qCountRuns  = hot(`SELECT count(*) FROM workflow_runs r WHERE r.workflow_id = ?`)
	qCountOpens = hot(`SELECT count(*) FROM workflow_runs r WHERE r.workflow_id = ? AND ` + openRun)
)

func runNotFound(id string) error { return fault.NotFoundf(fault.CodeRunNotFound, "Run", id) }

// stateDoc is what commands change of a run, but for what has a column of its own.
type stateDoc struct {
	Steps   []resultDoc `json:"steps"`
	Open    int         `json:"open,omitempty"`
	Waiting int         `json:"waiting,omitempty"`
	Error   *errorDoc   `json:"error,omitempty"`
	At      micros      `json:"at"` // of the newest event
}

type resultDoc struct {
	Status      scheduler.Status `json:"status"`
	TaskID      string           `json:"taskId,omitempty"`
	Attempts    int              `json:"attempts,omitempty"`
	Remaining   int              `json:"remaining,omitempty"`
	Error       *errorDoc        `json:"error,omitempty"`
	RetryAt     *int64           `json:"retryAt,omitempty"` // microseconds since 1970, as all times
	StartedAt   *int64           `json:"startedAt,omitempty"`
	CompletedAt *int64           `json:"completedAt,omitempty"`
}

func docOf(e *scheduler.Error) *errorDoc {
	if e == nil {
		return nil
	}
	return &errorDoc{e.Code, e.Message}
}

func (d *errorDoc) ofRun() *scheduler.Error {
	if d == nil {
		return nil
	}
	return &scheduler.Error{Code: d.Code, Message: d.Message}
}

func momentOf(t *time.Time) *int64 {
	if t == nil {
		return nil
	}
	m := t.UnixMicro()
	return &m
}

func timeOf(m *int64) *time.Time {
	if m == nil {
		return nil
	}
	t := micros(*m).time()
	return &t
}

func runState(r scheduler.Run) (string, error) {
	d := stateDoc{Steps: make([]resultDoc, len(r.Steps)), Open: r.Open, Waiting: r.Waiting, Error: docOf(r.Error), At: at(r.UpdatedAt)}
	for i, s := range r.Steps {
		d.Steps[i] = resultDoc{
			Status: s.Status, TaskID: s.TaskID, Attempts: s.Attempts, Remaining: s.Remaining, Error: docOf(s.Error),
			RetryAt: momentOf(s.RetryAt), StartedAt: momentOf(s.StartedAt), CompletedAt: momentOf(s.CompletedAt),
		}
	}
	return pack(d)
}

// run reads a run without outputs.
func (s *Store) run(scan func(...any) error) (r scheduler.Run, err error) {
	var created micros
	var started, completed sql.NullInt64
	var state, creation string
	if err := scan(&r.ID, &r.WorkflowID, &r.OwnerUserID, &r.RequesterAgentID, &r.Status, &r.LastSeq, &created, &started, &completed, &state, &creation); err != nil {
		return r, err
	}
	r.CreatedAt, r.StartedAt, r.CompletedAt = created.time(), maybeTime(started), maybeTime(completed)
	var d stateDoc
	if err := unpack(state, &d); err != nil {
		return r, err
	}
	if r.Plan, err = s.plans.of(r.ID, creation); err != nil {
		return r, err
	}
	if len(d.Steps) != r.Plan.Len() {
		return r, fmt.Errorf("run %s has %d steps, and the state of %d", r.ID, r.Plan.Len(), len(d.Steps))
	}
	r.Open, r.Waiting, r.Error, r.UpdatedAt = d.Open, d.Waiting, d.Error.ofRun(), d.At.time()
	results := make([]scheduler.StepResult, len(d.Steps))
	r.Steps = make([]*scheduler.StepResult, len(d.Steps))
	for i, s := range d.Steps {
		results[i] = scheduler.StepResult{
			Index: i, Name: r.Plan.Steps()[i].Name, Status: s.Status, TaskID: s.TaskID, Attempts: s.Attempts, Remaining: s.Remaining,
			Error: s.Error.ofRun(), RetryAt: timeOf(s.RetryAt), StartedAt: timeOf(s.StartedAt), CompletedAt: timeOf(s.CompletedAt),
		}
		r.Steps[i] = &results[i]
	}
	return r, nil
}

// runEventDoc is the body of an event; many have none.
type runEventDoc struct {
	TaskID  string    `json:"taskId,omitempty"`
	Output  quoted    `json:"output,omitempty"`
	Error   *errorDoc `json:"error,omitempty"`
	RetryAt *int64    `json:"retryAt,omitempty"`

	WorkflowID       string    `json:"workflowId,omitempty"`
	OwnerUserID      string    `json:"ownerUserId,omitempty"`
	RequesterAgentID string    `json:"requesterAgentId,omitempty"`
	Steps            []stepDoc `json:"steps,omitempty"`
}

func runEventBody(e scheduler.Event) (string, error) {
	d := runEventDoc{TaskID: e.TaskID, Output: quote(e.Output), Error: docOf(e.Error), RetryAt: momentOf(e.RetryAt)}
	if c := e.Created; c != nil {
		d.WorkflowID, d.OwnerUserID, d.RequesterAgentID, d.Steps = c.WorkflowID, c.OwnerUserID, c.RequesterAgentID, stepDocs(c.Steps)
	} else if d.TaskID == "" && d.Output == nil && d.Error == nil && d.RetryAt == nil {
		return "", nil
	}
	return pack(d)
}

func scanRunEvent(scan func(...any) error) (e scheduler.Event, err error) {
	var when micros
	var body string
	if err := scan(&e.Seq, &e.Kind, &e.Status, &e.Step, &e.Attempt, &when, &body); err != nil {
		return e, err
	}
	e.At = when.time()
	if body == "" {
		return e, nil
	}
	var d runEventDoc
	if err := unpack(body, &d); err != nil {
		return e, err
	}
	e.TaskID, e.Output, e.Error, e.RetryAt = d.TaskID, unquote(d.Output), d.Error.ofRun(), timeOf(d.RetryAt)
	if e.Kind == scheduler.EventCreated {
		e.Created = &scheduler.Created{WorkflowID: d.WorkflowID, OwnerUserID: d.OwnerUserID, RequesterAgentID: d.RequesterAgentID, Steps: stepsOf(d.Steps)}
	}
	return e, nil
}

// Get implements ports.RunReader. Two statements.
func (v *runs) Get(ctx context.Context, id string) (r scheduler.Run, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		var err error
		if r, err = findRun(ctx, c, qRun, id); err != nil {
			return err
		}
		outputs, err := outputsOf(ctx, c, id, 1<<r.Plan.Len()-1)
		for i, out := range outputs {
			r.Steps[i].Output = out
		}
		return err
	})
	return r, err
}

// Lock implements ports.RunStore. One statement.
func (v *runs) Lock(ctx context.Context, id string) (r scheduler.Run, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) (err error) {
		r, err = findRun(ctx, c, qLockRun, id)
		return err
	})
	return r, err
}

func findRun(ctx context.Context, c *session, q statement, id string) (r scheduler.Run, err error) {
	if known, ok := c.runAhead(id); ok {
		return known, nil
	}
	found := false
	err = c.each(ctx, q, []any{id}, func(scan func(...any) error) (err error) {
		found = true
		r, err = c.store.run(scan)
		return err
	})
	if err == nil && !found {
		return r, runNotFound(id)
	}
	return r, c.store.wrap(err, "read run")
}

// Outputs implements ports.RunStore. One statement, along the log of the run.
func (v *runs) Outputs(ctx context.Context, id string, steps scheduler.Set) (out map[int]json.RawMessage, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) (err error) {
		out, err = outputsOf(ctx, c, id, steps)
		return err
	})
	return out, err
}

func outputsOf(ctx context.Context, c *session, id string, steps scheduler.Set) (map[int]json.RawMessage, error) {
	out := map[int]json.RawMessage{}
	err := c.each(ctx, qOutputs, []any{id}, func(scan func(...any) error) error {
		var step int
		var body string
		if err := scan(&step, &body); err != nil || !steps.Has(step) {
			return err
		}
		var d runEventDoc
		if body != "" {
			if err := unpack(body, &d); err != nil {
				return err
			}
		}
		out[step] = unquote(d.Output)
		return nil
	})
	return out, c.store.wrap(err, "read outputs")
}

// List implements ports.RunReader. Two statements.
func (v *runs) List(ctx context.Context, f ports.RunFilter, page ports.Page) (out []scheduler.Run, total int, err error) {
	list, count := qRuns, qCountRuns
	if f.Open {
		list, count = qOpenRuns, qCountOpens
	}
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		out = nil
		err := c.each(ctx, list, []any{f.WorkflowID, page.Limit, page.Offset}, func(scan func(...any) error) error {
			r, err := c.store.run(scan)
			out = append(out, r)
			return err
		})
		if err == nil {
			err = c.row(ctx, count, []any{f.WorkflowID}, &total)
		}
		return c.store.wrap(err, "list runs")
	})
	return out, total, err
}

// EventsOf implements ports.RunLogReader. One statement a run.
func (v *runs) EventsOf(ctx context.Context, after []ports.Position, limit int) (out []scheduler.Event, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		out = nil
		for _, p := range after {
			if len(out) == limit {
				break
			}
			err := c.each(ctx, qRunEvents, []any{p.ID, p.Seq, limit - len(out)}, func(scan func(...any) error) error {
				e, err := scanRunEvent(scan)
				e.RunID = p.ID
				out = append(out, e)
				return err
			})
			if err != nil {
				return c.store.wrap(err, "read events of runs")
			}
		}
		return nil
	})
	return out, err
}

// Insert implements ports.RunStore. One statement, and one for every eight events, sent together.
func (v *runs) Insert(ctx context.Context, r scheduler.Run, events []scheduler.Event) error {
	state, err := runState(r)
	if err != nil {
		return err
	}
	return v.write(ctx, r, events, "insert run", &call{statement: qInsertRun, args: []any{
		r.ID, r.WorkflowID, r.OwnerUserID, r.RequesterAgentID, string(r.Status), r.LastSeq, int64(at(r.CreatedAt)), maybeAt(r.StartedAt), maybeAt(r.CompletedAt), state,
	}}, fmt.Errorf("run %s: %w", r.ID, ports.ErrDuplicate))
}

// Save implements ports.RunStore. One statement, and one for every eight events, sent together.
func (v *runs) Save(ctx context.Context, r scheduler.Run, events []scheduler.Event) error {
	state, err := runState(r)
	if err != nil {
		return err
	}
	return v.write(ctx, r, events, "save run", &call{statement: qSaveRun, args: []any{
		string(r.Status), r.LastSeq, maybeAt(r.StartedAt), maybeAt(r.CompletedAt), state, r.ID,
	}}, runNotFound(r.ID))
}

// write runs a statement that changes the run, or else is the error none, and adds events.
func (v *runs) write(ctx context.Context, r scheduler.Run, events []scheduler.Event, what string, k *call, none error) error {
	args := make([]any, 0, qAddEvents.columns*len(events))
	for _, e := range events {
		body, err := runEventBody(e)
		if err != nil {
			return err
		}
		args = append(args, r.ID, e.Seq, string(e.Kind), string(e.Status), e.Step, e.Attempt, int64(at(e.At)), body)
	}
	added := qAddEvents.calls(args)
	return v.do(ctx, func(ctx context.Context, c *session) error {
		delete(c.ahead.runs, r.ID)
		err := c.later(ctx, func() error {
			if k.rows == 0 {
				return none
			}
			for _, a := range added {
				if a.rows < int64(len(a.args)/qAddEvents.columns) {
					return fmt.Errorf("events of run %s: %w", r.ID, ports.ErrDuplicate)
				}
			}
			return nil
		}, append([]*call{k}, added...)...)
		return c.store.wrap(err, what)
	})
}
