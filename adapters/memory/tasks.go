package memory

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

type tasks struct{ view }

func cloneTask(t task.Task) task.Task {
	t.Input, t.Output = slices.Clone(t.Input), slices.Clone(t.Output)
	t.MaxBudget, t.Error, t.StepIndex = clonePtr(t.MaxBudget), clonePtr(t.Error), clonePtr(t.StepIndex)
	t.StartedAt, t.CompletedAt = clonePtr(t.StartedAt), clonePtr(t.CompletedAt)
	return t
}

func cloneParts(in []task.Part) []task.Part {
	out := slices.Clone(in)
	for i := range out {
		out[i].Data, out[i].Metadata = slices.Clone(out[i].Data), slices.Clone(out[i].Metadata)
	}
	return out
}

func cloneEvents(in []task.Event) []task.Event {
	out := slices.Clone(in)
	for i, e := range out {
		out[i].Message, out[i].Artifact, out[i].Error = clonePtr(e.Message), clonePtr(e.Artifact), clonePtr(e.Error)
		if e.Message != nil {
			out[i].Message.Parts = cloneParts(e.Message.Parts)
		}
		if e.Artifact != nil {
			out[i].Artifact.Parts = cloneParts(e.Artifact.Parts)
		}
	}
	return out
}

func taskNotFound(id string) error { return fault.NotFoundf(fault.CodeTaskNotFound, "Task", id) }

func (v tasks) Get(ctx context.Context, id string) (task.Task, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return task.Task{}, err
	}
	defer unlock()
	t, ok := v.s.tasks.get(id)
	if !ok {
		return t, taskNotFound(id)
	}
	return cloneTask(t), nil
}

func (v tasks) Lock(ctx context.Context, id string) (task.Task, error) { return v.Get(ctx, id) }

func (v tasks) History(ctx context.Context, id string) (task.Task, []task.Event, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return task.Task{}, nil, err
	}
	defer unlock()
	t, ok := v.s.tasks.get(id)
	if !ok {
		return t, nil, taskNotFound(id)
	}
	var out []task.Event
	for _, e := range v.s.events.rows[id] {
		if e.Kind == task.EventMessage || e.Kind == task.EventArtifact {
			out = append(out, e)
		}
	}
	return cloneTask(t), cloneEvents(out), nil
}

func (v tasks) Events(ctx context.Context, id string, afterSeq int64, limit int) ([]task.Event, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	all := v.s.events.rows[id]
	from, _ := slices.BinarySearchFunc(all, afterSeq+1, func(e task.Event, seq int64) int { return cmp.Compare(e.Seq, seq) })
	return cloneEvents(stretch(all, ports.Page{Limit: limit, Offset: from})), nil
}

func (v tasks) EventsOf(ctx context.Context, after []ports.Position, limit int) (out []task.Event, err error) {
	for _, p := range after {
		if len(out) == limit {
			break
		}
		events, err := v.Events(ctx, p.ID, p.Seq, limit-len(out))
		if err != nil {
			return nil, err
		}
		out = append(out, events...)
	}
	return out, nil
}

func (v tasks) List(ctx context.Context, f ports.TaskFilter, p ports.Page) ([]task.Task, int, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer unlock()
	var found []task.Task
	for _, t := range v.s.tasks.rows {
		party := f.RequesterUserID != "" && t.RequesterUserID == f.RequesterUserID || f.AgentOwnerID != "" && t.AgentOwnerID == f.AgentOwnerID
		if party && (f.AgentID == "" || t.AgentID == f.AgentID) && (f.Status == "" || t.Status == f.Status) && (f.Conversation == "" || t.Conversation == f.Conversation) {
			found = append(found, t)
		}
	}
	return newest(found, p, func(t task.Task) (time.Time, string) { return t.CreatedAt, t.ID }, cloneTask), len(found), nil
}

// openTasks returns ids of open tasks that match, the next to time out first.
func (v tasks) openTasks(ctx context.Context, limit int, match func(task.Task) bool) ([]string, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	var found []task.Task
	for id := range v.s.open.rows {
		if t := v.s.tasks.rows[id]; match(t) {
			found = append(found, t)
		}
	}
	slices.SortFunc(found, func(a, b task.Task) int { return cmp.Or(a.TimeoutAt.Compare(b.TimeoutAt), strings.Compare(a.ID, b.ID)) })
	var ids []string
	for _, t := range stretch(found, ports.Page{Limit: limit}) {
		ids = append(ids, t.ID)
	}
	return ids, nil
}

func (v tasks) Overdue(ctx context.Context, now time.Time, limit int) ([]string, error) {
	return v.openTasks(ctx, limit, func(t task.Task) bool { return !t.TimeoutAt.After(now) })
}

func (v tasks) OpenByAgent(ctx context.Context, agentID string, status task.Status, limit int) ([]string, error) {
	return v.openTasks(ctx, limit, func(t task.Task) bool { return t.AgentID == agentID && (status == "" || t.Status == status) })
}

func (v tasks) Insert(_ context.Context, t task.Task, events []task.Event) error {
	if _, taken := v.s.tasks.get(t.ID); taken {
		return ports.ErrDuplicate
	}
	return v.write(t, events)
}

func (v tasks) Save(_ context.Context, t task.Task, events []task.Event) error {
	if _, ok := v.s.tasks.get(t.ID); !ok {
		return taskNotFound(t.ID)
	}
	return v.write(t, events)
}

func (v tasks) write(t task.Task, events []task.Event) error {
	log, err := grow(v.s.events.rows[t.ID], events, func(e task.Event) int64 { return e.Seq }, t.ID)
	if err != nil {
		return err
	}
	if len(events) > 0 {
		v.s.events.put(v.tx, t.ID, cloneEvents(log))
	}
	v.s.tasks.put(v.tx, t.ID, cloneTask(t))
	if t.Status.Ended() {
		v.s.open.del(v.tx, t.ID)
	} else {
		v.s.open.put(v.tx, t.ID, struct{}{})
	}
	return nil
}
