package app

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
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
}

// Send begins a task, or goes on with one. The same message from the same caller is the same task, charged once, within 24
// hours. Agents with a price ask for a credential. Two reads and one commit.
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
	v, err := s.send(ctx, tasks, c, in)
	var before *Replayed
	if errors.As(err, &before) {
		return tasks.Get(ctx, c, string(before.Answer))
	}
	return v, err
}

func (s *Gateway) send(ctx context.Context, tasks *Tasks, c identity.Caller, in SendMessage) (TaskView, error) {
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
		Message: &task.Message{ID: in.MessageID, Parts: in.Parts}, push: in.Push,
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
