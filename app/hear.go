package app

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// log is what was said and made in a task so far.
type log struct {
	events    []task.Event
	said      map[string]bool // by the agent, by the ids of the messages
	artifacts map[string][]task.Artifact
}

// log reads a task's log, unless there is nothing in the answer to hold against it and nothing to be worked out from it.
func (u *unit) log(ctx context.Context, taskID string, a ports.Answer) (log, error) {
	l := log{said: map[string]bool{}, artifacts: map[string][]task.Artifact{}}
	if len(a.Messages)+len(a.Artifacts) == 0 && a.State != ports.AnswerDone {
		return l, nil
	}
	_, events, err := u.Tasks.History(ctx, taskID)
	if err != nil {
		return l, fmt.Errorf("read history: %w", err)
	}
	l.add(events)
	return l, nil
}

func (l *log) add(events []task.Event) {
	l.events = append(l.events, events...)
	for _, e := range events {
		switch {
		case e.Message != nil && e.Message.Role == task.RoleAgent:
			l.said[e.Message.ID] = true
		case e.Artifact != nil:
			l.artifacts[e.Artifact.ID] = append(l.artifacts[e.Artifact.ID], *e.Artifact)
		}
	}
}

// news is an answer without what is in the log already.
func (l *log) news(a ports.Answer) ports.Answer {
	a.Messages = slices.DeleteFunc(slices.Clone(a.Messages), func(m task.Message) bool { return l.said[m.ID] })
	a.Artifacts = slices.DeleteFunc(slices.Clone(a.Artifacts), func(f task.Artifact) bool {
		return slices.ContainsFunc(l.artifacts[f.ID], func(old task.Artifact) bool { return reflect.DeepEqual(old, f) })
	})
	return a
}

// since is what the log has after a place.
func (l *log) since(seq int64) []task.Event {
	i := slices.IndexFunc(l.events, func(e task.Event) bool { return e.Seq > seq })
	if i < 0 {
		return nil
	}
	return l.events[i:]
}

// ear takes in what an agent says and makes during a call.
type ear struct {
	w      *Worker
	of     forwarding
	stop   context.CancelFunc // of the call
	failed bool               // because of us

	known bool
	log   log
	seq   int64 // how far the task's log was then
}

// hear lets what an agent says and makes happen to the task at once. One commit, or none if all of it is known. The call
// is stopped when the task has ended meanwhile, or its requester has replied; and when it has lost its lease, and the agent
// was given the message anew.
func (e *ear) hear(ctx context.Context, a ports.Answer) error {
	if e.known {
		if a = e.log.news(a); len(a.Messages)+len(a.Artifacts) == 0 && a.RemoteTaskID == e.of.task.RemoteTaskID {
			return nil
		}
	}
	var next task.Task
	var events []task.Event
	var read *log
	err := e.w.update(ctx, func(ctx context.Context, u *unit) error {
		events, read = nil, nil
		t, err := u.Tasks.Lock(ctx, e.of.task.ID)
		if err != nil {
			return fmt.Errorf("lock task: %w", err)
		}
		next = t
		switch {
		case t.Status.Ended():
			return nil
		case t.Attempts != e.of.task.Attempts: // another call has taken over, as this one has lost its lease
			return ports.ErrLeaseLost
		}
		news := a
		if !e.known || t.LastSeq != e.seq { // others may have said it meanwhile, such as a call that has lost its lease
			now, err := u.log(ctx, t.ID, ports.Answer{State: ports.AnswerDone})
			if err != nil {
				return err
			}
			read, news = &now, now.news(a)
		}
		p := task.Progress{
			At: u.now, Messages: news.Messages, Artifacts: news.Artifacts, RemoteTaskID: a.RemoteTaskID, ContextID: a.ContextID, Told: e.of.seq,
		}
		next, events, err = e.w.apply(ctx, u, t, e.of.agent, p)
		return err
	})
	if err != nil {
		e.failed = true
		return err
	}
	if next.Status.Ended() {
		e.stop()
		return nil
	}
	if next.Unheard() { // the requester has said more; the agent is to hear it before it goes on
		e.stop()
	}
	if read != nil {
		e.known, e.log = true, *read
	}
	e.log.add(events)
	e.seq = next.LastSeq
	e.of.task.RemoteTaskID = a.RemoteTaskID
	return nil
}
