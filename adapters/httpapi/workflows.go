package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/scheduler"
)

// workflowJSON is a workflow on the wire.
type workflowJSON struct {
	ID          string    `json:"id" format:"uuid"`
	Name        string    `json:"name"`
	Description string    `json:"description"`
	OwnerUserID string    `json:"ownerUserId" format:"uuid"`
	Steps       []stepOut `json:"steps" nullable:"false"`
	Runs        []runJSON `json:"runs,omitzero" nullable:"false" doc:"The 20 newest, without outputs; absent in lists."`
	Schedule    anything  `json:"schedule" doc:"null: a workflow runs when it is executed."`
	CreatedAt   time.Time `json:"createdAt"`
	UpdatedAt   time.Time `json:"updatedAt"`
}

type stepOut struct {
	Name        string    `json:"name"`
	AgentID     string    `json:"agentId" format:"uuid"`
	SkillID     *string   `json:"skillId"`
	Input       object    `json:"input"`
	DependsOn   []int     `json:"dependsOn" nullable:"false"`
	Timeout     int       `json:"timeout" doc:"Seconds, of one attempt."`
	RetryPolicy retryJSON `json:"retryPolicy"`
}

type retryJSON struct {
	MaxRetries int   `json:"maxRetries"`
	BackoffMs  int64 `json:"backoffMs"`
}

// runJSON is a run on the wire.
type runJSON struct {
	ID          string           `json:"id" format:"uuid"`
	WorkflowID  string           `json:"workflowId" format:"uuid"`
	Status      scheduler.Status `json:"status" enum:"pending,running,completed,failed,cancelled"`
	StepResults []stepResultJSON `json:"stepResults" nullable:"false" doc:"One for each step that the workflow had when the run began."`
	Error       *stepErrorJSON   `json:"error" nullable:"true" doc:"Why the run failed; null unless it did."`
	StartedAt   *time.Time       `json:"startedAt"`
	CompletedAt *time.Time       `json:"completedAt" doc:"When the run ended, whichever way."`
	CreatedAt   time.Time        `json:"createdAt"`
}

type stepResultJSON struct {
	StepIndex   int              `json:"stepIndex"`
	Name        string           `json:"name"`
	Status      scheduler.Status `json:"status" enum:"pending,running,completed,failed,skipped,cancelled"`
	TaskID      *string          `json:"taskId" format:"uuid" doc:"Of the newest attempt; a step is a task like any other."`
	Attempts    int              `json:"attempts"`
	Output      anything         `json:"output" doc:"What the step's agent answered; null until it has completed, and in lists."`
	Error       *stepErrorJSON   `json:"error" nullable:"true" doc:"Why the step failed, was skipped, or is tried again."`
	RetryAt     *time.Time       `json:"retryAt" doc:"When it is tried again."`
	StartedAt   *time.Time       `json:"startedAt"`
	CompletedAt *time.Time       `json:"completedAt" doc:"When the step ended, whichever way."`
}

type stepErrorJSON taskErrorJSON

// Schema implements huma.SchemaProvider.
func (stepErrorJSON) Schema(r huma.Registry) *huma.Schema {
	s := taskErrorJSON{}.Schema(r)
	s.Properties["code"].Description = "A task's, or one of this API where the task could not be made; OUTPUT_TOO_LARGE; DEPENDENCY_FAILED of a skipped step; STEP_FAILED of a run."
	return s
}

func stepError(e *scheduler.Error) *stepErrorJSON {
	if e == nil {
		return nil
	}
	return &stepErrorJSON{e.Code, e.Message}
}

func workflowSummary(w scheduler.Workflow) workflowJSON {
	return workflowJSON{
		ID: w.ID, Name: w.Name, Description: w.Description, OwnerUserID: w.OwnerUserID, CreatedAt: w.CreatedAt.UTC(), UpdatedAt: w.UpdatedAt.UTC(),
		Steps: convert(w.Steps, func(s scheduler.Step) stepOut {
			return stepOut{
				Name: s.Name, AgentID: s.AgentID, SkillID: textOrNull(s.SkillID), Input: object(s.Input), DependsOn: append([]int{}, s.DependsOn...),
				Timeout: int(s.Timeout / time.Second), RetryPolicy: retryJSON{s.Retry.MaxRetries, s.Retry.Backoff.Milliseconds()},
			}
		}),
	}
}

func workflowWhole(w app.WorkflowView) workflowJSON {
	out := workflowSummary(w.Workflow)
	out.Runs = convert(w.Runs, run)
	return out
}

func run(r scheduler.Run) runJSON {
	return runJSON{
		ID: r.ID, WorkflowID: r.WorkflowID, Status: r.Status, Error: stepError(r.Error), StartedAt: utc(r.StartedAt), CompletedAt: utc(r.CompletedAt), CreatedAt: r.CreatedAt.UTC(),
		StepResults: convert(r.Steps, func(s *scheduler.StepResult) stepResultJSON {
			return stepResultJSON{
				StepIndex: s.Index, Name: s.Name, Status: s.Status, TaskID: textOrNull(s.TaskID), Attempts: s.Attempts, Output: anything(s.Output),
				Error: stepError(s.Error), RetryAt: utc(s.RetryAt), StartedAt: utc(s.StartedAt), CompletedAt: utc(s.CompletedAt),
			}
		}),
	}
}

type stepIn struct {
	Name        string   `json:"name" minLength:"1" maxLength:"100"`
	AgentID     string   `json:"agentId" doc:"The agent that does it."`
	SkillID     string   `json:"skillId,omitempty" nullable:"true" maxLength:"64" doc:"A skill of the agent; the input is then held against its inputSchema when the step begins."`
	Input       object   `json:"input,omitempty" nullable:"true" doc:"At most 256 KiB. The step's task gets it with step_<i>_output for each dependency i."`
	DependsOn   []int    `json:"dependsOn,omitempty" nullable:"true" doc:"Indices of earlier steps, which have to be completed first."`
	Timeout     *int     `json:"timeout,omitempty" nullable:"true" minimum:"10" maximum:"3600" doc:"Seconds, of one attempt; 300 without it."`
	RetryPolicy *retryIn `json:"retryPolicy,omitempty" nullable:"true"`
}

type retryIn struct {
	MaxRetries int    `json:"maxRetries"`
	BackoffMs  *int64 `json:"backoffMs"`
}

// Schema implements huma.SchemaProvider.
func (retryIn) Schema(huma.Registry) *huma.Schema {
	between := func(low, high float64, text string) *huma.Schema {
		return &huma.Schema{Type: huma.TypeInteger, Nullable: true, Minimum: &low, Maximum: &high, Description: text}
	}
	return &huma.Schema{
		Type: huma.TypeObject, Nullable: true, AdditionalProperties: true,
		Properties: map[string]*huma.Schema{
			"maxRetries": between(0, scheduler.MaxRetries, "Attempts beyond the first; 0 without it."),
			"backoffMs":  between(float64(scheduler.MinBackoff.Milliseconds()), float64(scheduler.MaxBackoff.Milliseconds()), "Before the first retry, doubling; 1000 without it."),
		},
	}
}

// step is the step as it was asked for. What is null or left out gets its default from the domain.
func (s stepIn) step() scheduler.Step {
	out := scheduler.Step{Name: s.Name, AgentID: strings.ToLower(s.AgentID), SkillID: s.SkillID, Input: json.RawMessage(s.Input), DependsOn: s.DependsOn}
	if s.Timeout != nil {
		out.Timeout = time.Duration(*s.Timeout) * time.Second
	}
	if p := s.RetryPolicy; p != nil {
		out.Retry.MaxRetries = p.MaxRetries
		if p.BackoffMs != nil {
			out.Retry.Backoff = time.Duration(*p.BackoffMs) * time.Millisecond
		}
	}
	return out
}

type createWorkflowInput struct{ Body createWorkflowBody }

type createWorkflowBody struct {
	Name        string   `json:"name" minLength:"1" maxLength:"200"`
	Description string   `json:"description,omitempty" nullable:"true" maxLength:"2000"`
	Steps       []stepIn `json:"steps" nullable:"false" minItems:"1" maxItems:"20"`
}

type patchWorkflowInput struct {
	WorkflowID string `path:"workflowId" format:"uuid"`
	Body       patchWorkflowBody
}

type patchWorkflowBody struct {
	Name        *string   `json:"name,omitempty" minLength:"1" maxLength:"200"`
	Description *string   `json:"description,omitempty" maxLength:"2000"`
	Steps       *[]stepIn `json:"steps,omitempty" nullable:"false" minItems:"1" maxItems:"20" doc:"Takes the place of all steps there were."`
}

func (b patchWorkflowBody) change() app.ChangeWorkflow {
	in := app.ChangeWorkflow{Name: b.Name, Description: b.Description}
	if b.Steps != nil {
		steps := convert(*b.Steps, stepIn.step)
		in.Steps = &steps
	}
	return in
}

type workflowInput struct {
	WorkflowID string `path:"workflowId" format:"uuid"`
}

type runInput struct {
	WorkflowID string `path:"workflowId" format:"uuid"`
	RunID      string `path:"runId" format:"uuid"`
}

type listWorkflowsInput struct {
	Limit  int `query:"limit" default:"20" minimum:"1" maximum:"100" doc:"How many to answer with."`
	Offset int `query:"offset" default:"0" minimum:"0" maximum:"1000000" doc:"How many to pass over."`
}

type listRunsInput struct {
	WorkflowID string `path:"workflowId" format:"uuid"`
	Limit      int    `query:"limit" default:"20" minimum:"1" maximum:"100" doc:"How many to answer with."`
	Offset     int    `query:"offset" default:"0" minimum:"0" maximum:"1000000" doc:"How many to pass over."`
}

func (s *server) mountWorkflows() {
	workflows := s.engine.Workflows
	read, write := string(identity.ScopeWorkflowsRead), string(identity.ScopeWorkflowsWrite)
	registerCreate(s, route{
		method: "POST", path: "/api/v1/workflows", access: caller, scope: write,
		id: "create-workflow", tag: tagWorkflows, summary: "Create a workflow", status: http.StatusCreated,
		text:    "Steps name earlier steps that they wait for, so there are no cycles. All faults are told at once, each with its path.",
		headers: map[string]string{"Location": "The workflow's path."},
		also: func(ctx context.Context, body []byte) error {
			var b createWorkflowBody
			if json.Unmarshal(body, &b) != nil { // what is of a wrong type has to be mended first
				return nil
			}
			return workflows.Check(ctx, callerOf(ctx), b.Name, b.Description, convert(b.Steps, stepIn.step))
		},
	}, func(ctx context.Context, in *createWorkflowInput) (scheduler.Workflow, error) {
		return workflows.Create(ctx, callerOf(ctx), in.Body.Name, in.Body.Description, convert(in.Body.Steps, stepIn.step))
	}, answerWith(func(w scheduler.Workflow) workflowJSON { return workflowWhole(app.WorkflowView{Workflow: w}) }),
		func(w scheduler.Workflow) string { return "/api/v1/workflows/" + w.ID })
	register(s, route{
		method: "GET", path: "/api/v1/workflows", access: caller, scope: read,
		id: "list-workflows", tag: tagWorkflows, summary: "List the caller's workflows", text: "Newest first.", status: http.StatusOK,
	}, func(ctx context.Context, in *listWorkflowsInput) (many[workflowJSON], error) {
		l, err := workflows.List(ctx, callerOf(ctx), page(in.Limit, in.Offset))
		return answerList(l, err, workflowSummary)
	})
	register(s, route{
		method: "GET", path: "/api/v1/workflows/{workflowId}", access: caller, scope: read,
		id: "get-workflow", tag: tagWorkflows, summary: "Get a workflow", text: "For its owner. With its newest runs.", status: http.StatusOK,
	}, func(ctx context.Context, in *workflowInput) (one[workflowJSON], error) {
		w, err := workflows.Get(ctx, callerOf(ctx), in.WorkflowID)
		return answer(workflowWhole(w), err)
	})
	register(s, route{
		method: "PATCH", path: "/api/v1/workflows/{workflowId}", access: caller, scope: write,
		id: "update-workflow", tag: tagWorkflows, summary: "Change a workflow", status: http.StatusOK,
		text: "For its owner. What is left out stays as it is. Runs keep the steps that they began with.",
		also: func(ctx context.Context, body []byte) error {
			var b patchWorkflowBody
			if json.Unmarshal(body, &b) != nil || b.Steps == nil { // what is of a wrong type has to be mended first
				return nil
			}
			return workflows.Check(ctx, callerOf(ctx), "any", "", convert(*b.Steps, stepIn.step))
		},
	}, func(ctx context.Context, in *patchWorkflowInput) (one[workflowJSON], error) {
		w, err := workflows.Change(ctx, callerOf(ctx), in.WorkflowID, in.Body.change())
		return answer(workflowWhole(w), err)
	})
	register(s, route{
		method: "DELETE", path: "/api/v1/workflows/{workflowId}", access: caller, scope: write,
		id: "delete-workflow", tag: tagWorkflows, summary: "Delete a workflow", status: http.StatusOK,
		text: "For its owner. Its open runs are cancelled; past ones stay readable to its owner.",
	}, func(ctx context.Context, in *workflowInput) (one[deletedJSON], error) {
		err := workflows.Delete(ctx, callerOf(ctx), in.WorkflowID)
		return answer(deletedJSON{in.WorkflowID, true}, err)
	})
	registerCreate(s, route{
		method: "POST", path: "/api/v1/workflows/{workflowId}/execute", access: caller, scope: write, limit: &app.LimitRuns,
		id: "execute-workflow", tag: tagWorkflows, summary: "Execute a workflow", status: http.StatusAccepted,
		text: "For its owner, who pays: each step's price is held when the step begins. A step begins as soon as those that it waits for have completed. " +
			"A step that fails for good, such as for want of credits, has what waits for it skipped; the rest goes on.",
		headers: map[string]string{"Location": "The run's path."},
		errors:  []fault.Code{fault.CodeWorkflowNotFound},
	}, func(ctx context.Context, in *workflowInput) (scheduler.Run, error) {
		return workflows.Execute(ctx, callerOf(ctx), in.WorkflowID)
	}, answerWith(run), runPath)
	register(s, route{
		method: "GET", path: "/api/v1/workflows/{workflowId}/runs", access: caller, scope: read,
		id: "list-runs", tag: tagWorkflows, summary: "List a workflow's runs", text: "For its owner. Newest first, without outputs.", status: http.StatusOK,
	}, func(ctx context.Context, in *listRunsInput) (many[runJSON], error) {
		l, err := workflows.Runs(ctx, callerOf(ctx), in.WorkflowID, page(in.Limit, in.Offset))
		return answerList(l, err, run)
	})
	register(s, route{
		method: "GET", path: "/api/v1/workflows/{workflowId}/runs/{runId}", access: caller, scope: read,
		id: "get-run", tag: tagWorkflows, summary: "Get a run", text: "For the workflow's owner.", status: http.StatusOK,
	}, func(ctx context.Context, in *runInput) (one[runJSON], error) {
		r, err := workflows.Run(ctx, callerOf(ctx), in.WorkflowID, in.RunID)
		return answer(run(r), err)
	})
	register(s, route{
		method: "POST", path: "/api/v1/workflows/{workflowId}/runs/{runId}/cancel", access: caller, scope: write,
		id: "cancel-run", tag: tagWorkflows, summary: "Cancel a run", status: http.StatusOK,
		text:   "For the workflow's owner. Its open steps are cancelled and their money comes back. A run that was cancelled before stays as it is.",
		errors: []fault.Code{fault.CodeTaskNotActive},
	}, func(ctx context.Context, in *runInput) (one[runJSON], error) {
		r, err := workflows.CancelRun(ctx, callerOf(ctx), in.WorkflowID, in.RunID)
		return answer(run(r), err)
	})
	s.mountRunStream()
}

func runPath(r scheduler.Run) string {
	return fmt.Sprintf("/api/v1/workflows/%s/runs/%s", r.WorkflowID, r.ID)
}

// The data of a run's events.
type (
	runStatusEventJSON struct {
		Status scheduler.Status `json:"status" enum:"pending,running,completed,failed,cancelled"`
	}
	stepEventJSON struct {
		StepIndex int              `json:"stepIndex"`
		Name      string           `json:"name"`
		Status    scheduler.Status `json:"status" enum:"pending,running,completed,failed,skipped,cancelled"`
		Attempts  int              `json:"attempts"`
		TaskID    *string          `json:"taskId,omitempty" format:"uuid" doc:"When the attempt's task exists."`
		Output    anything         `json:"output,omitempty" doc:"Of a completed step."`
		Error     *stepErrorJSON   `json:"error,omitempty"`
		RetryAt   *time.Time       `json:"retryAt,omitempty" doc:"When the step is tried again."`
		At        time.Time        `json:"at"`
	}
	runCompleteEventJSON struct {
		Status scheduler.Status `json:"status" enum:"completed,failed,cancelled"`
		Error  *stepErrorJSON   `json:"error,omitempty" doc:"Why the run failed; absent unless it did."`
	}
)

func runEvent(r scheduler.Run, e scheduler.Event) sent {
	switch e.Kind {
	case scheduler.EventComplete:
		return sent{e.Seq, "complete", runCompleteEventJSON{e.Status, stepError(e.Error)}}
	case scheduler.EventCreated, scheduler.EventStarted:
		return sent{e.Seq, "status", runStatusEventJSON{e.Status}}
	default:
		return sent{e.Seq, "step", stepEventJSON{
			StepIndex: e.Step, Name: r.Plan.Steps()[e.Step].Name, Status: e.Status, Attempts: e.Attempt, TaskID: textOrNull(e.TaskID), Output: anything(e.Output),
			Error: stepError(e.Error), RetryAt: utc(e.RetryAt), At: e.At.UTC(),
		}}
	}
}

func (s *server) mountRunStream() {
	rt := route{
		method: "GET", path: "/api/v1/workflows/{workflowId}/runs/{runId}/stream", access: caller, scope: string(identity.ScopeWorkflowsRead),
		id: "stream-run", tag: tagWorkflows, summary: "Stream a run's updates", status: http.StatusOK,
		text: "Server-sent events, for the workflow's owner: the whole run in one stream. First how the run and each of its steps stand, then each change as it happens.",
	}
	docs := []eventDoc{
		{"status", reflect.TypeFor[runStatusEventJSON](), "The run's status."},
		{"step", reflect.TypeFor[stepEventJSON](), "What has become of a step."},
		{"complete", reflect.TypeFor[runCompleteEventJSON](), "The run has ended, and so does the stream."},
	}
	mountStream(s, rt, docs, func(ctx context.Context, param func(string) string, c identity.Caller, after int64) (*app.Watcher[scheduler.Event], func(scheduler.Event) sent, error) {
		w, run, err := s.engine.Workflows.Watch(ctx, c, param("workflowId"), param("runId"), after)
		return w, func(e scheduler.Event) sent { return runEvent(run, e) }, err
	})
}
