package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/task"
)

// taskJSON is a task on the wire.
type taskJSON struct {
	ID               string         `json:"id" format:"uuid"`
	Title            string         `json:"title"`
	Description      string         `json:"description"`
	Status           task.Status    `json:"status" enum:"pending,assigned,running,completed,failed,cancelled"`
	InputRequired    bool           `json:"inputRequired" doc:"The agent has asked something, and goes on once its requester has replied."`
	RequesterUserID  *string        `json:"requesterUserId" format:"uuid" doc:"null when a stranger asked, of an agent that costs nothing."`
	RequesterAgentID *string        `json:"requesterAgentId" format:"uuid" doc:"null when a person asked."`
	AssignedAgentID  string         `json:"assignedAgentId" format:"uuid"`
	AssignmentReason string         `json:"assignmentReason,omitempty" doc:"In the answer to the creation of a task without assignedAgentId: why this agent was chosen."`
	SkillID          *string        `json:"skillId"`
	Input            object         `json:"input"`
	Output           anything       `json:"output" doc:"What the agent answered, as one JSON value; null until the task is completed."`
	Messages         []messageJSON  `json:"messages,omitzero" nullable:"false" doc:"Absent in lists."`
	Artifacts        []artifactJSON `json:"artifacts,omitzero" nullable:"false" doc:"Absent in lists."`
	MaxBudgetCredits *amount        `json:"maxBudgetCredits" nullable:"true"`
	CostCredits      amount         `json:"costCredits" doc:"What the task costs as things stand: its price, or nothing once it has failed or was cancelled."`
	Attempts         int            `json:"attempts" doc:"How often the agent was called."`
	Error            *taskErrorJSON `json:"error" nullable:"true" doc:"Why the task failed; null unless it did."`
	TimeoutSeconds   int            `json:"timeoutSeconds"`
	TimeoutAt        time.Time      `json:"timeoutAt"`
	CreatedAt        time.Time      `json:"createdAt"`
	StartedAt        *time.Time     `json:"startedAt"`
	UpdatedAt        time.Time      `json:"updatedAt"`
	CompletedAt      *time.Time     `json:"completedAt" doc:"When the task ended, whichever way."`
	WorkflowRunID    *string        `json:"workflowRunId" format:"uuid"`
	StepIndex        *int           `json:"stepIndex"`
}

type taskErrorJSON struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Schema implements huma.SchemaProvider.
func (taskErrorJSON) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeObject, Nullable: true, Required: []string{"code", "message"}, AdditionalProperties: true,
		Properties: map[string]*huma.Schema{
			"code":    {Type: huma.TypeString, Description: "TIMEOUT, AGENT_UNREACHABLE, AGENT_ERROR, AGENT_FAILED or PROTOCOL_ERROR."},
			"message": {Type: huma.TypeString},
		},
	}
}

type messageJSON struct {
	ID        string     `json:"id"`
	Role      task.Role  `json:"role" enum:"user,agent"`
	Parts     []partJSON `json:"parts" nullable:"false"`
	CreatedAt time.Time  `json:"createdAt"`
}

type artifactJSON struct {
	ID          string     `json:"id"`
	Name        string     `json:"name"`
	Description string     `json:"description,omitempty"`
	Parts       []partJSON `json:"parts" nullable:"false"`
}

type partJSON struct {
	Type     task.PartType `json:"type" enum:"text,data,file"`
	Data     anything      `json:"data" doc:"Of text a string, of data any JSON value, of file an object of name, mimeType, and bytes (base64) or uri."`
	Metadata object        `json:"metadata,omitempty"`
}

func part(p task.Part) partJSON {
	return partJSON{Type: p.Type, Data: anything(p.Data), Metadata: object(p.Metadata)}
}

func message(m task.Message) messageJSON {
	return messageJSON{ID: m.ID, Role: m.Role, Parts: convert(m.Parts, part), CreatedAt: m.At.UTC()}
}

func artifact(a task.Artifact) artifactJSON {
	return artifactJSON{ID: a.ID, Name: a.Name, Description: a.Description, Parts: convert(a.Parts, part)}
}

// taskSummary is a task without what was said and made in it.
func taskSummary(t task.Task) taskJSON {
	out := taskJSON{
		ID: t.ID, Title: t.Title, Description: t.Description, Status: t.Status, InputRequired: t.AwaitsInput, RequesterUserID: textOrNull(t.RequesterUserID),
		RequesterAgentID: textOrNull(t.RequesterAgentID), AssignedAgentID: t.AgentID, SkillID: textOrNull(t.SkillID),
		Input: object(t.Input), Output: anything(t.Output), MaxBudgetCredits: amountOf(t.MaxBudget), CostCredits: amount(t.Cost()),
		Attempts: t.Attempts, TimeoutSeconds: int(t.Timeout / time.Second), TimeoutAt: t.TimeoutAt.UTC(), CreatedAt: t.CreatedAt.UTC(),
		StartedAt: utc(t.StartedAt), UpdatedAt: t.UpdatedAt.UTC(), CompletedAt: utc(t.CompletedAt),
		WorkflowRunID: textOrNull(t.WorkflowRunID), StepIndex: t.StepIndex,
	}
	if t.Error != nil {
		out.Error = &taskErrorJSON{t.Error.Code, t.Error.Message}
	}
	return out
}

func taskWhole(v app.TaskView) taskJSON {
	out := taskSummary(v.Task)
	out.Messages, out.Artifacts = convert(v.Messages, message), convert(v.Artifacts, artifact)
	out.AssignmentReason = v.Why
	return out
}

type createTaskInput struct{ Body createTaskBody }

type createTaskBody struct {
	AssignedAgentID  *string  `json:"assignedAgentId,omitempty" nullable:"true" format:"uuid" doc:"The agent that is to do it. Without it the best one that is online is chosen, by skillId or skillTags."`
	SkillTags        []string `json:"skillTags,omitempty" nullable:"true" maxItems:"20" doc:"Without assignedAgentId: tags of which the agent must have any."`
	Title            string   `json:"title" minLength:"1" maxLength:"200"`
	Description      string   `json:"description,omitempty" nullable:"true" maxLength:"10000" doc:"What the agent is told; without it, the title."`
	Input            object   `json:"input,omitempty" nullable:"true" doc:"At most 256 KiB."`
	TimeoutSeconds   *int     `json:"timeoutSeconds,omitempty" nullable:"true" minimum:"10" maximum:"3600" doc:"300 without it."`
	SkillID          string   `json:"skillId,omitempty" nullable:"true" doc:"A skill of the agent; input is then held against its inputSchema."`
	MaxBudgetCredits *amount  `json:"maxBudgetCredits,omitempty" nullable:"true" minimum:"0" doc:"The most it may cost; a price above it is refused with INSUFFICIENT_CREDITS."`
	MinTrustScore    *float64 `json:"minTrustScore,omitempty" nullable:"true" minimum:"0" maximum:"100" doc:"An agent below it is refused."`
	QueueIfOffline   bool     `json:"queueIfOffline,omitempty" nullable:"true" doc:"An agent that is offline gets the task when it is back, if that is within its time; until then it is pending. Without it the task is refused with AGENT_OFFLINE."`
}

func (b createTaskBody) command() (app.CreateTask, error) {
	agentID := ""
	if b.AssignedAgentID != nil {
		if agentID = strings.ToLower(*b.AssignedAgentID); !isUUID(agentID) {
			return app.CreateTask{}, noSuch(fault.CodeAgentNotFound, *b.AssignedAgentID)
		}
	}
	in := app.CreateTask{
		AgentID: agentID, SkillTags: b.SkillTags, Title: b.Title, Description: b.Description, Input: json.RawMessage(b.Input),
		SkillID: b.SkillID, MaxBudget: creditsOf(b.MaxBudgetCredits), MinTrust: b.MinTrustScore, QueueIfOffline: b.QueueIfOffline,
	}
	if b.TimeoutSeconds != nil {
		in.Timeout = time.Duration(*b.TimeoutSeconds) * time.Second
	}
	return in, nil
}

type replyTaskInput struct {
	TaskID string `path:"taskId" format:"uuid"`
	Body   replyTaskBody
}

type replyTaskBody struct {
	Message struct {
		Role  task.Role  `json:"role" enum:"user,agent" doc:"user for the requester's side, agent for the agent's."`
		Parts []saidPart `json:"parts" nullable:"false" maxItems:"100"`
	} `json:"message"`
	Artifacts []madeArtifact `json:"artifacts,omitempty" nullable:"true" maxItems:"100" doc:"Of the agent's side only."`
	Status    task.Status    `json:"status,omitempty" nullable:"true" enum:"running,completed,failed" doc:"Of the agent's side only: what the task becomes by it; running without it."`
}

type saidPart struct {
	Type     task.PartType `json:"type" enum:"text,data,file"`
	Data     anything      `json:"data" doc:"Of text a string, of data any JSON value, of file an object of name, mimeType, and bytes (base64) or uri."`
	Metadata object        `json:"metadata,omitempty" nullable:"true"`
}

type madeArtifact struct {
	ID          string     `json:"id,omitempty" nullable:"true" maxLength:"200" doc:"Without it one is made up."`
	Name        string     `json:"name,omitempty" nullable:"true" maxLength:"200"`
	Description string     `json:"description,omitempty" nullable:"true" maxLength:"10000"`
	Parts       []saidPart `json:"parts" nullable:"false" minItems:"1" maxItems:"100"`
}

func said(p saidPart) task.Part {
	return task.Part{Type: p.Type, Data: json.RawMessage(p.Data), Metadata: json.RawMessage(p.Metadata)}
}

func made(a madeArtifact) task.Artifact {
	return task.Artifact{ID: a.ID, Name: a.Name, Description: a.Description, Parts: convert(a.Parts, said)}
}

func (b replyTaskBody) command() app.ReplyTask {
	return app.ReplyTask{Role: b.Message.Role, Parts: convert(b.Message.Parts, said), Artifacts: convert(b.Artifacts, made), Status: b.Status}
}

type dashboardTaskInput struct{ Body dashboardTaskBody }

type dashboardTaskBody struct {
	AgentID string `json:"agentId" format:"uuid"`
	Message string `json:"message" minLength:"1" maxLength:"10000" doc:"What the agent is told."`
}

func (b dashboardTaskBody) command() (app.CreateTask, error) {
	if !isUUID(b.AgentID) {
		return app.CreateTask{}, noSuch(fault.CodeAgentNotFound, b.AgentID)
	}
	return app.CreateTask{AgentID: strings.ToLower(b.AgentID), Title: task.TitleOf(b.Message), Description: b.Message}, nil
}

type dashboardTaskJSON struct {
	TaskID string `json:"taskId" format:"uuid"`
}

type taskInput struct {
	TaskID string `path:"taskId" format:"uuid"`
}

type listTasksInput struct {
	Status          task.Status `query:"status" enum:"pending,assigned,running,completed,failed,cancelled"`
	AssignedAgentID string      `query:"assignedAgentId" format:"uuid"`
	Role            string      `query:"role" enum:"requester,assignee" doc:"Tasks that the caller asked for, or that the caller's agents were given; without it, both."`
	Limit           int         `query:"limit" default:"20" minimum:"1" maximum:"100" doc:"How many to answer with."`
	Offset          int         `query:"offset" default:"0" minimum:"0" maximum:"1000000" doc:"How many to pass over."`
}

func (s *server) mountTasks() {
	tasks := s.engine.Tasks
	registerCreate(s, route{
		method: "POST", path: "/api/v1/tasks", access: caller, scope: string(identity.ScopeTasksWrite), limit: &app.LimitTasks,
		id: "create-task", tag: tagTasks, summary: "Create a task", status: http.StatusAccepted,
		text:    "The price is held, and the task is forwarded to the agent soon after. A task for an agent of one's own costs nothing.",
		headers: map[string]string{"Location": "The task's path."},
		errors:  []fault.Code{fault.CodeAgentNotFound, fault.CodeInsufficientCredits, fault.CodeTrustThreshold, fault.CodeAgentOffline},
	}, func(ctx context.Context, in *createTaskInput) (app.TaskView, error) {
		cmd, err := in.Body.command()
		if err != nil {
			return app.TaskView{}, err
		}
		return tasks.Create(ctx, callerOf(ctx), cmd)
	}, answerWith(taskWhole), func(t app.TaskView) string { return "/api/v1/tasks/" + t.ID })
	register(s, route{
		method: "GET", path: "/api/v1/tasks", access: caller, scope: string(identity.ScopeTasksRead),
		id: "list-tasks", tag: tagTasks, summary: "List the caller's tasks", text: "Newest first.", status: http.StatusOK,
	}, func(ctx context.Context, in *listTasksInput) (many[taskJSON], error) {
		q := app.TaskQuery{Status: in.Status, AgentID: strings.ToLower(in.AssignedAgentID), Role: in.Role, Page: page(in.Limit, in.Offset)}
		if q.AgentID != "" && !isUUID(q.AgentID) {
			var bad fault.Fields
			bad.Add("assignedAgentId", "must be a UUID")
			return many[taskJSON]{}, bad.Err()
		}
		l, err := tasks.List(ctx, callerOf(ctx), q)
		return answerList(l, err, taskSummary)
	})
	register(s, route{
		method: "GET", path: "/api/v1/tasks/{taskId}", access: caller, scope: string(identity.ScopeTasksRead),
		id: "get-task", tag: tagTasks, summary: "Get a task", status: http.StatusOK,
		text: "For its requester, its agent's owner, and admins; to all others it does not exist.",
	}, func(ctx context.Context, in *taskInput) (one[taskJSON], error) {
		t, err := tasks.Get(ctx, callerOf(ctx), in.TaskID)
		return answer(taskWhole(t), err)
	})
	register(s, route{
		method: "POST", path: "/api/v1/tasks/{taskId}/cancel", access: caller, scope: string(identity.ScopeTasksWrite),
		id: "cancel-task", tag: tagTasks, summary: "Cancel a task", status: http.StatusOK,
		text:   "For its requester. The money comes back; the agent is told but not waited for. A task that was cancelled before stays as it is.",
		errors: []fault.Code{fault.CodeTaskNotActive},
	}, func(ctx context.Context, in *taskInput) (one[taskJSON], error) {
		t, err := tasks.Cancel(ctx, callerOf(ctx), in.TaskID)
		return answer(taskWhole(t), err)
	})
	registerCreate(s, route{
		method: "POST", path: "/api/v1/tasks/{taskId}/reply", access: caller, scope: string(identity.ScopeTasksWrite),
		id: "reply-to-task", tag: tagTasks, summary: "Say something in a task", status: http.StatusOK,
		text: "With role user, for its requester: the agent is given the message soon, in the same context. With role agent, for the agent's owner: " +
			"what the agent says and makes, when it calls in by itself; with a status it also ends the task that way.",
		errors: []fault.Code{fault.CodeTaskNotFound, fault.CodeTaskNotActive},
	}, func(ctx context.Context, in *replyTaskInput) (app.TaskView, error) {
		return tasks.Reply(ctx, callerOf(ctx), in.TaskID, in.Body.command())
	}, answerWith(taskWhole), nil)
	registerCreate(s, route{
		method: "POST", path: "/api/dashboard/tasks", access: session, limit: &app.LimitDashboardTasks,
		id: "create-dashboard-task", tag: tagTasks, summary: "Tell an agent to do something", status: http.StatusAccepted,
		text:   "For people: a task that is one message. It takes a session alone.",
		errors: []fault.Code{fault.CodeAgentNotFound, fault.CodeInsufficientCredits, fault.CodeAgentOffline},
	}, func(ctx context.Context, in *dashboardTaskInput) (app.TaskView, error) {
		cmd, err := in.Body.command()
		if err != nil {
			return app.TaskView{}, err
		}
		return tasks.Create(ctx, callerOf(ctx), cmd)
	}, answerWith(func(t app.TaskView) dashboardTaskJSON { return dashboardTaskJSON{t.ID} }), nil)
}
