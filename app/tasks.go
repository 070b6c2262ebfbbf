package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/scheduler"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/domain/trust"
	"github.com/nexus-protocol/nexus/ports"
)

// Tasks is the life of tasks.
type Tasks struct{ *core }

// TaskView is a task with what was said and made in it.
type TaskView struct {
	task.Task
	Messages  []task.Message
	Artifacts []task.Artifact
	Why       string // of a task just created: why its agent was chosen; "" if the requester named it
}

func view(t task.Task, events []task.Event) TaskView {
	v := TaskView{Task: t}
	v.Messages, v.Artifacts = task.History(events)
	return v
}

// CreateTask is what a requester asks for.
type CreateTask struct {
	AgentID     string   // "": the best one for SkillID or SkillTags
	SkillTags   []string // any of these; only without AgentID
	Title       string
	Description string
	Input       json.RawMessage // nil or a JSON object
	Timeout     time.Duration   // 0: the default
	SkillID     string          // its input schema then checks Input
	MaxBudget   *credits.Amount
	MinTrust    *float64
	// QueueIfOffline lets the task wait, within its time, for an agent that is offline; without it that is AGENT_OFFLINE.
	QueueIfOffline bool
	// Message, if set, is the request as it was written, which then goes to the agent as it is; a title may be made of it.
	Message *task.Message
	// Conversation is what the requester's side calls the context that the task belongs to.
	Conversation string

	push  *PushTo  // where the requester wants to be told of what happens to it; checked
	await *awaited // the requester waits for it
}

// Create takes a task on: the price is held, and the task is forwarded to the agent soon after. Any known caller may
// call it, and pays. The caller's key's agent, if any, is the requester. One commit; with a skill one read before it, and
// with no agent named another one, in which the best is chosen.
func (s *Tasks) Create(ctx context.Context, c identity.Caller, in CreateTask) (TaskView, error) {
	if err := identity.Authorize(c, identity.TaskCreate, identity.Resource{}); err != nil {
		return TaskView{}, err
	}
	return s.make(ctx, c, in)
}

// make creates a task for a caller who may, or for a stranger.
func (s *Tasks) make(ctx context.Context, c identity.Caller, in CreateTask) (TaskView, error) {
	if in.AgentID == "" && in.SkillID == "" && len(in.SkillTags) == 0 {
		var bad fault.Fields
		bad.Add("assignedAgentId", "must name an agent; or say by skillId or skillTags what it must know")
		return TaskView{}, bad.Err()
	}
	var why string
	draft := task.Draft{
		Title: in.Title, Description: in.Description, Input: in.Input, Timeout: in.Timeout, SkillID: in.SkillID,
		MaxBudget: in.MaxBudget, Message: in.Message, Conversation: in.Conversation, RequesterUserID: c.UserID, RequesterAgentID: c.AgentID, AgentID: in.AgentID,
	}
	if err := draft.CheckRequest(); err != nil { // before a transaction is spent on it
		return TaskView{}, err
	}
	if m := in.MinTrust; m != nil && (*m < 0 || *m > 100) {
		var bad fault.Fields
		bad.Add("minTrustScore", "must be 0 to 100")
		return TaskView{}, bad.Err()
	}
	var checked json.RawMessage // the schema that the input was held against
	if err := s.replay(ctx, c); err != nil {
		return TaskView{}, err
	}
	if in.AgentID == "" {
		best, reason, err := s.choose(ctx, wanted{skillID: in.SkillID, skillTags: in.SkillTags, minTrust: in.MinTrust, maxPrice: in.MaxBudget, notOf: c.UserID})
		if err != nil {
			return TaskView{}, err
		}
		in.AgentID, draft.AgentID, why = best.ID, best.ID, reason
	}
	if in.SkillID != "" {
		a, err := liveAgent(ctx, s.Store.Read().Agents.Get, in.AgentID)
		if err == nil {
			checked, err = s.checkInput(ctx, a, in.SkillID, in.Input)
		}
		if err != nil {
			return TaskView{}, err
		}
	}
	var out TaskView
	err := s.once(ctx, c, func() any { return out }, func(ctx context.Context, u *unit) error {
		if !in.QueueIfOffline && c.UserID != "" { // else the agent may be locked first
			if err := u.expect(ctx, ports.Expected{AgentIDs: []string{in.AgentID}, UserIDs: []string{c.UserID}}); err != nil {
				return err
			}
		}
		a, err := liveAgent(ctx, u.Agents.Get, in.AgentID)
		if err == nil && in.QueueIfOffline && a.StatusAt(u.now) == registry.Offline {
			a, err = liveAgent(ctx, u.Agents.Lock, in.AgentID) // against its coming back at this moment
		}
		if err == nil && a.Price > 0 && !c.Known() { // nobody else pays for a stranger
			err = identity.Unauthorized()
		}
		if err == nil {
			err = s.checkAgent(a, in, u.now)
		}
		if skill, _ := a.Skill(in.SkillID); err == nil && in.SkillID != "" && !bytes.Equal(skill.InputSchema, checked) {
			_, err = s.checkInput(ctx, a, in.SkillID, in.Input) // it was changed just now
		}
		if err != nil {
			return err
		}
		d := draft
		d.ID, d.At, d.Price, d.AgentOwnerID = u.id(), u.now, a.Price, a.OwnerUserID
		d.Wait = a.StatusAt(u.now) == registry.Offline
		t, events, err := task.New(d)
		if err != nil {
			return err
		}
		if t.Price > 0 { // first, as it is what is refused most: nothing has to be taken back then
			hold, err := holdOf(t).Place(u.now)
			if err == nil {
				err = u.post(ctx, hold)
			}
			if err != nil {
				return err
			}
		}
		out = view(t, events)
		out.Why = why
		u.await = in.await
		if in.push == nil {
			return s.insert(ctx, u, t, events, a, ports.PriorityInteractive)
		}
		t.Push = true
		if err := s.insert(ctx, u, t, events, a, ports.PriorityInteractive); err != nil {
			return err
		}
		conf, err := s.keepPush(ctx, u, c, t, *in.push, nil)
		if err != nil || len(u.begun) == 0 {
			return err
		}
		return u.enqueue(ctx, jobPush, conf.ID, u.now, ports.PriorityWorkflow) // it tells that the agent is at work
	})
	return out, err
}

// insert adds a new task and has its agent called: by this process once the unit is committed, if it has a place for the
// call now, else by a job like any other. So a task that is taken on where there is room costs no commit to claim its job.
func (c *core) insert(ctx context.Context, u *unit, t task.Task, events []task.Event, agent registry.Agent, p ports.Priority) error {
	var mine *begun
	if t.Status == task.Assigned {
		mine = c.reserve(u, t, agent)
	}
	if mine != nil {
		for _, e := range events {
			if e.Message != nil {
				mine.call.message, mine.call.seq = t.Said(*e.Message, e.Seq), e.Seq
			}
		}
		next, started, err := task.Apply(t, task.Start{At: u.now})
		if err != nil {
			return err
		}
		t, events, mine.call.task = next, append(events, started...), next
	}
	u.grown.tasks = append(u.grown.tasks, taskGrowth{growth[task.Event]{t.ID, events}, t, true})
	if err := u.Tasks.Insert(ctx, t, events); err != nil {
		return fmt.Errorf("insert task: %w", err)
	}
	switch {
	case t.Status == task.Pending: // until the agent is back
		return nil
	case mine == nil:
		return u.enqueue(ctx, jobForward, t.ID, u.now, p)
	}
	mine.job = u.job(ctx, jobForward, t.ID, u.now, p)
	mine.job.Attempt, mine.job.Lease = 1, ports.Lease{Owner: c.Name, Until: u.now.Add(leaseFor)}
	if err := u.Jobs.Enqueue(ctx, mine.job); err != nil {
		return fmt.Errorf("enqueue %s: %w", jobForward, err)
	}
	return nil
}

func (s *Tasks) checkAgent(a registry.Agent, in CreateTask, now time.Time) error {
	if a.StatusAt(now) == registry.Offline && !in.QueueIfOffline {
		return a.OfflineFault()
	}
	if m := in.MinTrust; m != nil && a.TrustScore < *m {
		return fault.New(fault.Forbidden, fault.CodeTrustThreshold,
			"the agent's trust score of %g is below the minTrustScore of %g", a.TrustScore, *m).
			With("trustScore", a.TrustScore).With("minTrustScore", *m)
	}
	return nil
}

// checkInput holds the input against the skill's schema, and returns that. It may take a while, so it is no part of a
// unit of work. A schema that cannot be worked with is a fault too, as trying again would find the same.
func (c *core) checkInput(ctx context.Context, a registry.Agent, skillID string, input json.RawMessage) (schema json.RawMessage, err error) {
	var bad fault.Fields
	skill, ok := a.Skill(skillID)
	if !ok {
		bad.Add("skillId", "is no skill of agent %s", a.ID)
		return nil, bad.Err()
	}
	if skill.InputSchema == nil {
		return nil, nil
	}
	if len(input) == 0 {
		input = json.RawMessage("{}")
	}
	faults, err := c.Schema.Validate(skill.InputSchema, input)
	if err != nil {
		c.Logger.WarnContext(ctx, "the schema of a skill's input cannot be worked with", "agent", a.ID, "skill", skillID, "error", err)
		bad.Add("skillId", "has an inputSchema that this input cannot be held against; its agent's owner has to mend it")
	}
	for _, f := range faults {
		path := "input"
		if f.Path != "" && f.Path[0] != '[' {
			path += "."
		}
		bad.Add(path+f.Path, "%s", f.Message)
	}
	return skill.InputSchema, bad.Err()
}

func holdOf(t task.Task) ledger.Hold {
	return ledger.Hold{TaskID: t.ID, UserID: t.RequesterUserID, Amount: t.Price, Title: t.Title}
}

// post books a transfer under ids of the unit's.
func (u *unit) post(ctx context.Context, t ledger.Transfer) error {
	if err := u.Ledger.Post(ctx, t.Stamp(u.id)); err != nil {
		return fmt.Errorf("post %s: %w", t.Key, err)
	}
	return nil
}

// apply lets a command happen to a locked task and saves all that follows from it: the events, and if it ended the task
// also the money, the trust evidence, the word to an agent that is still at work on it, and the next steps of its run. Every change of a task goes
// through here. agent is the task's.
func (c *core) apply(ctx context.Context, u *unit, t task.Task, agent registry.Agent, cmd task.Command) (task.Task, []task.Event, error) {
	next, events, err := task.Apply(t, cmd)
	if err != nil || len(events) == 0 && next.LastSeq == t.LastSeq && next.UpdatedAt.Equal(t.UpdatedAt) {
		return next, events, err
	}
	if err := u.Tasks.Save(ctx, next, events); err != nil {
		return next, events, fmt.Errorf("save task: %w", err)
	}
	if len(events) > 0 {
		request, _ := t.First()
		u.grown.tasks = append(u.grown.tasks, taskGrowth{growth[task.Event]{t.ID, events}, next, t.LastSeq <= request+1}) // at most its start
	}
	if t.Push && task.AnyNotable(events) {
		if err := u.tellReceivers(ctx, t.ID); err != nil {
			return next, events, err
		}
	}
	if !next.Status.Ended() {
		return next, events, nil
	}
	u.ends = append(u.ends, next)
	abandoned := next.Status == task.Cancelled || next.Error != nil && next.Error.Code == task.ErrTimeout
	if abandoned && next.RemoteTaskID != "" {
		if err := u.enqueue(ctx, jobTellCancel, t.ID, u.now, ports.PriorityInteractive); err != nil {
			return next, events, err
		}
	}
	var run scheduler.Run
	if t.WorkflowRunID != "" {
		if run, err = u.run(ctx, t.WorkflowRunID); err != nil {
			return next, events, err
		}
	}
	err = c.learn(ctx, u, next, agent)
	if err == nil {
		err = u.settle(ctx, next)
	}
	if err == nil && run.ID != "" {
		err = c.stepEnded(ctx, u, run, next)
	}
	return next, events, err
}

// expect says what the unit will lock and read.
func (u *unit) expect(ctx context.Context, e ports.Expected) error {
	if u.Foresight == nil {
		return nil
	}
	if err := u.Foresight.Expect(ctx, e); err != nil {
		return fmt.Errorf("look ahead: %w", err)
	}
	return nil
}

// expectEnd says what the end of a task takes: its run, its agent's evidence, and the money of both sides.
func (u *unit) expectEnd(ctx context.Context, t task.Task) error {
	e := ports.Expected{TaskID: t.ID, RunID: t.WorkflowRunID, EvidenceOf: t.AgentID}
	if !ownTask(t) {
		e.RequesterID = t.RequesterUserID
	}
	if t.Price > 0 {
		e.UserIDs = []string{t.RequesterUserID, t.AgentOwnerID}
	}
	return u.expect(ctx, e)
}

// ownTask tells a task that is no evidence: of one's own agent, or of nobody.
func ownTask(t task.Task) bool { return t.AgentOwnerID == t.RequesterUserID || t.RequesterUserID == "" }

// settle pays for a task that was completed and gives the money back for any other.
func (u *unit) settle(ctx context.Context, t task.Task) error {
	if t.Price == 0 {
		return nil
	}
	if t.Status != task.Completed {
		return u.post(ctx, holdOf(t).Release(u.now))
	}
	capture, err := holdOf(t).Capture(t.AgentOwnerID, u.now)
	if err != nil {
		return err
	}
	return u.post(ctx, capture)
}

// learn takes a task's end as evidence about its agent. A cancelled task is none.
func (c *core) learn(ctx context.Context, u *unit, t task.Task, agent registry.Agent) error {
	e := trust.Evidence{EventID: u.id(), TaskID: t.ID, At: u.now, Limit: t.Timeout, Own: ownTask(t)}
	switch {
	case t.Status == task.Completed:
		e.Type, e.Reason, e.Took = trust.TaskCompleted, "completed the task", t.CompletedAt.Sub(*t.StartedAt)
		if !e.Own {
			var err error
			if e.Median, err = c.median(ctx, u, t.SkillID); err != nil {
				return err
			}
		}
	case t.Status == task.Failed && t.Error.Code == task.ErrTimeout:
		e.Type, e.Reason = trust.TaskTimeout, t.Error.Message
	case t.Status == task.Failed:
		e.Type, e.Reason = trust.TaskFailed, t.Error.Message
	default:
		return nil
	}
	return c.weigh(ctx, u, agent, t, e, nil)
}

// weigh adds one piece of evidence, about a task, to an agent's profile. event, if not nil, gets the event.
func (c *core) weigh(ctx context.Context, u *unit, agent registry.Agent, t task.Task, e trust.Evidence, event *trust.Event) error {
	requester := t.RequesterUserID
	if e.Own {
		requester = ""
	}
	p, d, ok, err := u.Tx.Trust.Lock(ctx, agent.ID, requester)
	if err != nil {
		return fmt.Errorf("lock trust profile: %w", err)
	}
	if !ok {
		p = trust.Resumed(agent.ID, agent.CreatedAt, agent.TrustScore, *c.Weights)
	}
	if requester != "" {
		price := float64(t.Price) / float64(credits.Credit)
		rating := e.Type == trust.RatingReceived
		e.Source = d.Source(price, rating, e.At)
		tasks, paid := 1.0, 0.0
		if t.Status == task.Completed && !rating {
			paid = price
		}
		before := d.Rater
		d.Rater = trust.Rater{UserID: requester}
		if rating {
			tasks = 0
			judged := before.Judged(e.Stars, p)
			d.Rater.Agreed, d.Rater.Disagreed = judged.Agreed-before.Agreed, judged.Disagreed-before.Disagreed
		}
		d.OwnerUserID, d.Pair = t.AgentOwnerID, d.Pair.Dealt(tasks, paid, e.Source, e.At)
	}
	next, ev := trust.Apply(p, e, *c.Weights)
	if event != nil {
		*event = ev
	}
	if e.Type == trust.TaskCompleted && t.SkillID != "" && ev.Weight > 0 {
		u.timed = append(u.timed, timed{t.SkillID, e.Took, ev.Weight, e.At})
	}
	if err := u.Tx.Trust.Save(ctx, next, ev, d); err != nil {
		return fmt.Errorf("save trust profile: %w", err)
	}
	return nil
}

func taskResource(t task.Task) identity.Resource {
	return identity.Resource{
		OwnerUserID: t.AgentOwnerID, RequesterUserID: t.RequesterUserID, Open: t.RequesterUserID == "",
		Missing: fault.NotFoundf(fault.CodeTaskNotFound, "Task", t.ID),
	}
}

// Get returns a task. Its requester, its agent's owner and admins may call it; to others it does not exist. One read.
func (s *Tasks) Get(ctx context.Context, c identity.Caller, id string) (TaskView, error) {
	t, events, err := s.Store.Read().Tasks.History(ctx, id)
	if err == nil {
		err = identity.Authorize(c, identity.TaskRead, taskResource(t))
	}
	if err != nil {
		return TaskView{}, err
	}
	return view(t, events), nil
}

// TaskQuery narrows a list of tasks.
type TaskQuery struct {
	Status  task.Status // "": any
	AgentID string
	Role    string // requester, assignee (of one's agents), or "" for both
	// Conversation narrows to the tasks of one context, by the name of the requester's side.
	Conversation string
	Page         Page
}

// List returns the caller's tasks, newest first, without messages and artifacts.
func (s *Tasks) List(ctx context.Context, c identity.Caller, q TaskQuery) (List[task.Task], error) {
	var none List[task.Task]
	if err := identity.Authorize(c, identity.TaskList, identity.Resource{}); err != nil {
		return none, err
	}
	var bad fault.Fields
	bad.Check(q.Status == "" || slices.Contains(task.Statuses(), q.Status), "status", "must be one of %v", task.Statuses())
	f := ports.TaskFilter{AgentID: q.AgentID, Status: q.Status, Conversation: q.Conversation}
	switch q.Role {
	case "":
		f.RequesterUserID, f.AgentOwnerID = c.UserID, c.UserID
	case "requester":
		f.RequesterUserID = c.UserID
	case "assignee":
		f.AgentOwnerID = c.UserID
	default:
		bad.Add("role", "must be requester or assignee")
	}
	page, err := q.Page.resolve(defaultLimit, maxLimit)
	if err := errors.Join(bad.Err(), err); err != nil {
		return none, err
	}
	items, total, err := s.Store.Read().Tasks.List(ctx, f, page)
	if err != nil {
		return none, fmt.Errorf("list tasks: %w", err)
	}
	return list(items, total, page), nil
}

// Cancel ends a task by its requester's wish: the money comes back, and the agent is told but not waited for. Cancelling
// a cancelled task changes nothing. One commit.
func (s *Tasks) Cancel(ctx context.Context, c identity.Caller, id string) (TaskView, error) {
	var out TaskView
	err := s.update(ctx, func(ctx context.Context, u *unit) error {
		t, err := u.Tasks.Lock(ctx, id)
		if err == nil {
			err = identity.Authorize(c, identity.TaskCancel, taskResource(t))
		}
		if err != nil {
			return err
		}
		_, history, err := u.Tasks.History(ctx, id)
		if err != nil {
			return fmt.Errorf("read task: %w", err)
		}
		// A cancelled task is no evidence, so the agent itself does not matter.
		next, events, err := s.apply(ctx, u, t, registry.Agent{}, task.Cancel{At: u.now})
		if err != nil {
			return err
		}
		out = view(next, append(history, events...))
		return nil
	})
	if err == nil {
		s.calls.stop(id)
	}
	return out, err
}
