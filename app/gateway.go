package app

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// Gateway is the engine as an agent: messages come in, and the tasks that they begin or go on with are agents'. It is open
// to callers without a credential, for agents that cost nothing. Tasks.Get, Watch and Cancel serve its callers too: a
// stranger's task is open to whoever knows its id.
type Gateway struct{ *core }

// The limits of the gateway: of each caller with a credential, and of each address without.
var (
	limitGateway         = ports.RateRule{Name: "a2a", Limit: 120, Per: time.Minute}
	limitGatewayStranger = ports.RateRule{Name: "a2a-stranger", Limit: 30, Per: time.Minute}
)

// SendMessage is a message to an agent.
type SendMessage struct {
	// AgentID names the agent. Without it the best one that is online is chosen by SkillID or SkillTags.
	AgentID   string
	SkillID   string
	SkillTags []string
	// TaskID, if set, is the open task that the message goes on with.
	TaskID    string
	ContextID string // the caller's name for the conversation; without one, a task that begins gets a new one
	MessageID string // the caller's own; a message that comes again under it does nothing
	Parts     []task.Part
	Address   string  // where a caller without a credential is
	Push      *PushTo // where the caller wants to be told of what happens to the task
	// Wait is how long the caller waits at most for the task's end, or for the agent to ask back. 0: not at all.
	Wait time.Duration
}

// Send begins a task, or goes on with one. The same message from the same caller is the same task, charged once, within 24
// hours. Agents with a price ask for a credential. One read and one commit; to wait takes no more where the task is the
// caller's first message and this process calls the agent, and the agent answers at once; else a read each time that it grows, and two more.
func (s *Gateway) Send(ctx context.Context, c identity.Caller, in SendMessage) (TaskView, error) {
	if c.Known() {
		if err := identity.Authorize(c, identity.TaskCreate, identity.Resource{}); err != nil {
			return TaskView{}, err
		}
	}
	var bad fault.Fields
	bad.Check(in.MessageID != "" && len(in.MessageID) <= task.MaxName, "message.messageId", "must be 1 to %d bytes long", task.MaxName)
	bad.Check(len(in.Parts) > 0, "message.parts", "must have at least one part")
	if err := errors.Join(bad.Err(), task.CheckSaid("message", in.Parts, nil)); err != nil {
		return TaskView{}, err
	}
	name := sha256.Sum256([]byte(in.Address + "\x00" + in.MessageID))
	ctx = WithOnce(ctx, Once{Key: "a2a " + hex.EncodeToString(name[:]), Render: func(v any) ([]byte, error) { return []byte(v.(TaskView).ID), nil }})
	tasks := &Tasks{s.core}
	var to *awaited
	if in.Wait > 0 {
		to = &awaited{}
		defer to.close()
	}
	v, err := s.send(ctx, tasks, c, in, to)
	var before *Replayed
	if errors.As(err, &before) {
		v, err = tasks.Get(ctx, c, string(before.Answer))
	}
	if err != nil || to == nil || v.Status.Ended() || v.AwaitsInput {
		return v, err
	}
	return tasks.await(ctx, c, v, to, in.Wait)
}

// awaited is a task that the one who makes it waits for. The watcher is there before its agent is called, and so knows
// without a look where it begins.
type awaited struct{ watcher *Watcher[TaskEvent] }

func (a *awaited) close() {
	if a.watcher != nil {
		a.watcher.Close()
	}
}

// open begins to watch the task that a unit of work has just made.
func (c *core) open(a *awaited, made []taskGrowth) {
	if len(made) == 0 {
		return
	}
	at := position{seq: made[0].after.LastSeq}
	a.watcher, _ = c.feeds.watch(identity.Caller{}, made[0].id, at.seq, func() (position, func(identity.Caller) error, []TaskEvent, error) {
		return at, func(identity.Caller) error { return nil }, nil, nil // it is its own maker's
	})
}

// await waits for a task, which the caller has just seen, to end or to ask back, but not for ever, and returns it as it is then.
func (s *Tasks) await(ctx context.Context, c identity.Caller, v TaskView, to *awaited, most time.Duration) (TaskView, error) {
	if to.watcher == nil {
		w, err := s.Watch(ctx, c, v.ID, v.LastSeq)
		if err != nil {
			return TaskView{}, err
		}
		to.watcher = w
	}
	bounded, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for !to.watcher.Over() {
		events, err := to.watcher.Next(bounded, nil)
		switch {
		case err != nil && bounded.Err() != nil && ctx.Err() == nil: // it takes longer: the caller gets it as it is
			return s.Get(ctx, c, v.ID)
		case err != nil:
			return TaskView{}, err
		}
		over := false
		for _, e := range events {
			if e.Message != nil {
				v.Messages = append(slices.Clip(v.Messages), *e.Message)
			}
			if e.Artifact != nil {
				v.Artifacts = append(slices.Clip(v.Artifacts), *e.Artifact)
			}
			over = over || e.Kind == task.EventComplete || e.Kind == task.EventStatus && e.AwaitsInput
		}
		if after := events[len(events)-1].after; over && after != nil {
			v.Task = *after
			return v, nil
		}
		if over {
			break
		}
	}
	return s.Get(ctx, c, v.ID)
}

func (s *Gateway) send(ctx context.Context, tasks *Tasks, c identity.Caller, in SendMessage, to *awaited) (TaskView, error) {
	if err := s.replay(ctx, c); err != nil { // before it counts
		return TaskView{}, err
	}
	rule, who := limitGateway, c.UserID
	if !c.Known() {
		rule, who = limitGatewayStranger, in.Address
	}
	if err := s.limit(ctx, rule, who); err != nil {
		return TaskView{}, err
	}
	if in.Push != nil {
		if err := s.checkPush(ctx, *in.Push); err != nil {
			return TaskView{}, err
		}
	}
	if in.TaskID != "" {
		return tasks.Reply(ctx, c, in.TaskID, ReplyTask{Role: task.RoleUser, MessageID: in.MessageID, Parts: in.Parts, push: in.Push})
	}
	agentID := in.AgentID
	if agentID == "" {
		var err error
		if agentID, err = s.route(ctx, c, in); err != nil {
			return TaskView{}, err
		}
	}
	title, input := about(in.Parts)
	return tasks.make(ctx, c, CreateTask{
		AgentID: agentID, Title: title, Input: input, SkillID: in.SkillID, Conversation: cmp.Or(in.ContextID, s.NewID()),
		Message: &task.Message{ID: in.MessageID, Parts: in.Parts}, push: in.Push, await: to,
	})
}

// route finds the best agent for the skill. For a stranger it must cost nothing.
func (s *Gateway) route(ctx context.Context, c identity.Caller, in SendMessage) (string, error) {
	if in.SkillID == "" && len(in.SkillTags) == 0 {
		var bad fault.Fields
		bad.Add("params", "do not say which agent is meant: name it in metadata.agentId, or what it must know in metadata.skillId or metadata.skillTags; or send the message to /api/v1/a2a/agents/{id}")
		return "", bad.Err()
	}
	w := wanted{skillID: in.SkillID, skillTags: in.SkillTags, notOf: c.UserID}
	if !c.Known() {
		free := credits.Amount(0)
		w.maxPrice = &free
	}
	a, _, err := s.choose(ctx, w)
	return a.ID, err
}

// about makes a title of a message, and finds the data in it, if that is an object.
func about(parts []task.Part) (title string, input json.RawMessage) {
	var text strings.Builder
	for _, p := range parts {
		var s string
		switch {
		case p.Type == task.PartText && json.Unmarshal(p.Data, &s) == nil:
			text.WriteString(s + "\n")
		case p.Type == task.PartData && input == nil && len(p.Data) > 0 && p.Data[0] == '{':
			input = p.Data
		}
	}
	return task.TitleOf(text.String()), input
}

// Agent returns an agent as anyone may see it. One read.
func (s *Gateway) Agent(ctx context.Context, id string) (registry.Agent, error) {
	return liveAgent(ctx, s.Store.Read().Agents.Get, id)
}
