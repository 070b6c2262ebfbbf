package app

import (
	"context"
	"fmt"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// ReplyTask is what one side says in an open task.
type ReplyTask struct {
	Role      task.Role // RoleUser for the requester's side, RoleAgent for the agent's
	MessageID string    // "": one is made up
	Parts     []task.Part
	Artifacts []task.Artifact // of the agent's side only
	// Status, of the agent's side only, is what the task becomes by it: Running, Completed, Failed, or "" for Running.
	Status task.Status

	push *PushTo // where the requester wants to be told from now on; checked
}

func (in ReplyTask) check() error {
	var bad fault.Fields
	switch in.Role {
	case task.RoleUser:
		bad.Check(len(in.Parts) > 0, "message.parts", "must have at least one part")
		bad.Check(len(in.Artifacts) == 0, "artifacts", "are made by the agent; a message of role user has none")
		bad.Check(in.Status == "", "status", "is for the agent to say; a message of role user has none")
	case task.RoleAgent:
		switch in.Status {
		case "", task.Running:
			bad.Check(len(in.Parts)+len(in.Artifacts) > 0, "message.parts", "must have at least one part, or artifacts beside them")
		case task.Completed, task.Failed:
		default:
			bad.Add("status", "must be running, completed or failed")
		}
	default:
		bad.Add("message.role", "must be user or agent")
	}
	bad.Check(len(in.MessageID) <= task.MaxName, "message.messageId", "must be at most %d bytes long", task.MaxName)
	if err := bad.Err(); err != nil {
		return err
	}
	return task.CheckSaid("message", in.Parts, in.Artifacts)
}

// Reply says something in a task. With RoleUser its requester may call it, and the agent is given the message soon, in
// the same context. With RoleAgent the agent's owner may, for an agent that calls in by itself: its answer is taken as if
// the agent had given it when it was called. To those who have no part in the task it does not exist; one that has ended
// is TASK_NOT_ACTIVE. One commit.
func (s *Tasks) Reply(ctx context.Context, c identity.Caller, id string, in ReplyTask) (TaskView, error) {
	if err := in.check(); err != nil {
		return TaskView{}, err
	}
	action := identity.TaskReply
	if in.Role == task.RoleAgent {
		action = identity.TaskAnswer
	}
	if c.Known() { // a stranger may reply in a stranger's task
		if err := identity.MayAsk(c, action); err != nil {
			return TaskView{}, err
		}
	}
	var out TaskView
	err := s.once(ctx, c, func() any { return out }, func(ctx context.Context, u *unit) error {
		t, err := u.Tasks.Lock(ctx, id)
		if err == nil {
			err = identity.Authorize(c, action, taskResource(t))
		}
		if err == nil && t.Status.Ended() {
			err = task.NotActive(t)
		}
		if err != nil {
			return err
		}
		_, history, err := u.Tasks.History(ctx, id)
		if err != nil {
			return fmt.Errorf("read task: %w", err)
		}
		var agent registry.Agent
		if in.Role == task.RoleAgent {
			if agent, err = u.Agents.Get(ctx, t.AgentID); err != nil {
				return fmt.Errorf("read agent: %w", err)
			}
		}
		t.Push = t.Push || in.push != nil
		cmd := in.command(u)
		if c, ok := cmd.(task.Complete); ok {
			c.Earlier = (&log{events: history}).since(t.Asked)
			cmd = c
		}
		next, events, err := s.apply(ctx, u, t, agent, cmd)
		if err != nil {
			return err
		}
		if in.push != nil {
			before, err := u.Push.ByTask(ctx, id)
			if err != nil {
				return fmt.Errorf("read push configurations: %w", err)
			}
			if _, err := s.keepPush(ctx, u, c, next, *in.push, before); err != nil {
				return err
			}
		}
		out = view(next, append(history, events...))
		asked := in.Role == task.RoleUser && t.Status != task.Pending
		goesOn := t.AwaitsInput && !next.AwaitsInput && !next.Status.Ended() && next.RemoteTaskID != "" // nobody asked how it is getting on while it waited
		if asked || goesOn {
			return u.enqueue(ctx, jobForward, id, u.now, ports.PriorityInteractive)
		}
		return nil
	})
	if err == nil && out.Status.Ended() { // a call of the agent may be under way; its answer would change nothing
		s.calls.stop(id)
	}
	return out, err
}

// command is what a reply means for the task.
func (in ReplyTask) command(u *unit) task.Command {
	for i := range in.Artifacts {
		if in.Artifacts[i].ID == "" {
			in.Artifacts[i].ID = u.id()
		}
	}
	var said []task.Message
	if len(in.Parts) > 0 {
		id := in.MessageID
		if id == "" {
			id = u.id()
		}
		said = []task.Message{{ID: id, Role: in.Role, Parts: in.Parts}}
	}
	switch {
	case in.Role == task.RoleUser:
		return task.Reply{At: u.now, Message: said[0]}
	case in.Status == task.Completed:
		return task.Complete{At: u.now, Messages: said, Artifacts: in.Artifacts}
	case in.Status == task.Failed:
		return task.Fail{At: u.now, Error: task.Error{Code: task.ErrAgentFailed, Message: "the agent reports that it failed"}, Messages: said, Artifacts: in.Artifacts}
	default:
		return task.Progress{At: u.now, Messages: said, Artifacts: in.Artifacts}
	}
}
