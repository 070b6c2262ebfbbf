package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

type tasks struct{ access }

var (
	_ ports.TaskStore     = (*tasks)(nil)
	_ ports.TaskLogReader = (*tasks)(nil)
)

// openStatus is what the index of open tasks is limited to, to the letter.
const openStatus = `status IN ('pending', 'assigned', 'running')`

var (
	qTask     = hot(`SELECT ` + taskColumns + ` FROM tasks WHERE id = ?`)
	qLockTask = hot(`SELECT `+taskColumns+` FROM tasks WHERE id = ?{lock}`).ranked(rankTask, 0).locks("task").
			inBulk(reads(`SELECT u.n, `+columnsOf("t", taskColumns)+` FROM `+rowsOf("t")+` JOIN tasks AS t ON t.id = u.c0 ORDER BY u.n{lock} OF t`, "t"))
	qInsertTask = hot(`INSERT INTO tasks (` + taskColumns + `) VALUES (?` + strings.Repeat(", ?", taskColumnCount-1) + `) ON CONFLICT (id) DO NOTHING`).
			inBulk(inserts(`INSERT INTO tasks (`+taskColumns+`)`, "tttttttBbbbbBbbBtBttbtbbbbbbTTttTT", `ON CONFLICT (id) DO NOTHING`))
	qSaveTask = hot(`UPDATE tasks SET status = ?, attempts = ?, started_at = ?, updated_at = ?, timeout_at = ?, completed_at = ?, remote_task_id = ?,
		context_id = ?, last_seq = ?, asked = ?, told = ?, tried = ?, awaits_input = ?, push = ?, error_code = ?, error_message = ?, output = ? WHERE id = ?`).
		inBulk(changes(`UPDATE tasks AS t SET status = u.c0, attempts = u.c1, started_at = u.c2, updated_at = u.c3, timeout_at = u.c4, completed_at = u.c5, remote_task_id = u.c6,
		context_id = u.c7, last_seq = u.c8, asked = u.c9, told = u.c10, tried = u.c11, awaits_input = u.c12, push = u.c13, error_code = u.c14, error_message = u.c15, output = u.c16
		FROM `+rowsOf("tbBbbBttbbbbbbTTTt")+` WHERE t.id = u.c17`, "tbBbbBttbbbbbbTTTt", true, 17))
	qInsertEvents = hotMulti(`INSERT INTO task_events (task_id, seq, kind, status, at, body)`, "tbttbt", `ON CONFLICT (task_id, seq) DO NOTHING`)
	qEvents       = hot(`SELECT seq, kind, status, at, body FROM task_events WHERE task_id = ? AND seq > ? ORDER BY seq LIMIT ?`)
	qEventsOf8    = qEventsOf(8)
	qEventsOf64   = qEventsOf(64)
	qOverdue      = hot(`SELECT id FROM tasks WHERE ` + openStatus + ` AND timeout_at <= ? ORDER BY timeout_at, id LIMIT ?`)
	qOpenByAgent  = hot(`SELECT id FROM tasks WHERE ` + openStatus + ` AND agent_id = ? ORDER BY timeout_at, id LIMIT ?`)
	qOpenByStatus = hot(`SELECT id FROM tasks WHERE ` + openStatus + ` AND agent_id = ? AND status = ? ORDER BY timeout_at, id LIMIT ?`)

	// The task is the row with place 0; an event uses the columns of the task that have its type.
	qHistory = hot(`SELECT 0 AS place, ` + taskColumns + ` FROM tasks WHERE id = ? UNION ALL
		SELECT seq, kind, status, '', '', '', '', '', CAST(NULL AS BIGINT), 0, 0, 0, at, CAST(NULL AS BIGINT), 0, 0, CAST(NULL AS BIGINT), '', CAST(NULL AS BIGINT),
		'', '', 0, '', 0, 0, 0, 0, 0, 0, CAST(NULL AS TEXT), CAST(NULL AS TEXT), '', body, CAST(NULL AS TEXT), CAST(NULL AS TEXT)
		FROM task_events WHERE task_id = ? AND kind IN ('message', 'artifact') ORDER BY 1`)
)

// qEventsOf reads the logs of so many tasks.
func qEventsOf(tasks int) statement {
	return hot(`SELECT e.task_id, e.seq, e.kind, e.status, e.at, e.body FROM (WITH p (id, seq) AS (VALUES ` +
		strings.TrimSuffix(strings.Repeat("(CAST(? AS TEXT), CAST(? AS BIGINT)), ", tasks), ", ") +
		`) SELECT id, seq FROM p) AS p {logs} ORDER BY e.task_id, e.seq LIMIT ?`)
}

func taskNotFound(id string) error { return fault.NotFoundf(fault.CodeTaskNotFound, "Task", id) }

// Get implements ports.TaskReader. One statement.
func (v *tasks) Get(ctx context.Context, id string) (task.Task, error) { return v.find(ctx, qTask, id) }

// Lock implements ports.TaskStore. One statement.
func (v *tasks) Lock(ctx context.Context, id string) (task.Task, error) {
	return v.find(ctx, qLockTask, id)
}

func (v *tasks) find(ctx context.Context, q statement, id string) (task.Task, error) {
	var r taskRow
	err := v.do(ctx, func(ctx context.Context, c *session) error {
		if known, ok := c.taskAhead(id); ok {
			r = known
			return nil
		}
		return c.store.wrap(c.row(ctx, q, []any{id}, r.dest()...), "read task")
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return task.Task{}, taskNotFound(id)
	case err != nil:
		return task.Task{}, err
	}
	return r.domain(), nil
}

// History implements ports.TaskReader. One statement.
func (v *tasks) History(ctx context.Context, id string) (t task.Task, events []task.Event, err error) {
	known := false
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		known, events = false, nil
		var r taskRow
		var place int64
		dest := append([]any{&place}, r.dest()...)
		err := c.each(ctx, qHistory, []any{id, id}, func(scan func(...any) error) error {
			if err := scan(dest...); err != nil {
				return err
			}
			if place == 0 {
				t, known = r.domain(), true
				return nil
			}
			e, err := eventOf(id, place, task.EventKind(r.ID), r.Status, r.CreatedAt, r.Description)
			events = append(events, e)
			return err
		})
		return c.store.wrap(err, "read history")
	})
	if err == nil && !known {
		err = taskNotFound(id)
	}
	if err != nil {
		return task.Task{}, nil, err
	}
	return t, events, nil
}

// Events implements ports.TaskReader. One statement. A task that is not there has none.
func (v *tasks) Events(ctx context.Context, id string, afterSeq int64, limit int) ([]task.Event, error) {
	var out []task.Event
	err := v.do(ctx, func(ctx context.Context, c *session) error {
		out = nil
		err := c.each(ctx, qEvents, []any{id, afterSeq, limit}, func(scan func(...any) error) error {
			var seq int64
			var kind task.EventKind
			var status task.Status
			var when micros
			var body string
			if err := scan(&seq, &kind, &status, &when, &body); err != nil {
				return err
			}
			e, err := eventOf(id, seq, kind, status, when, body)
			out = append(out, e)
			return err
		})
		return c.store.wrap(err, "read events")
	})
	return out, err
}

// EventsOf implements ports.TaskLogReader. One statement for 64 tasks.
func (v *tasks) EventsOf(ctx context.Context, after []ports.Position, limit int) ([]task.Event, error) {
	var out []task.Event
	for len(after) > 0 && len(out) < limit {
		if len(after) == 1 {
			events, err := v.Events(ctx, after[0].ID, after[0].Seq, limit-len(out))
			return append(out, events...), err
		}
		q, places := qEventsOf64, 64
		if len(after) <= 8 {
			q, places = qEventsOf8, 8
		}
		n := min(len(after), places)
		args := make([]any, 0, 2*places+1)
		for _, p := range after[:n] {
			args = append(args, p.ID, p.Seq)
		}
		for range places - n {
			args = append(args, "", 0) // a task that is not there has no events
		}
		events, err := v.eventsOf(ctx, q, append(args, limit-len(out)))
		if err != nil {
			return nil, err
		}
		out, after = append(out, events...), after[n:]
	}
	return out, nil
}

func (v *tasks) eventsOf(ctx context.Context, q statement, args []any) (out []task.Event, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		out = nil
		err := c.each(ctx, q, args, func(scan func(...any) error) error {
			var id, body string
			var seq int64
			var kind task.EventKind
			var status task.Status
			var when micros
			if err := scan(&id, &seq, &kind, &status, &when, &body); err != nil {
				return err
			}
			e, err := eventOf(id, seq, kind, status, when, body)
			out = append(out, e)
			return err
		})
		return c.store.wrap(err, "read events")
	})
	return out, err
}

// List implements ports.TaskReader. One statement. Where both parties are given each has its own part of it, so that
// both can go along an index.
func (v *tasks) List(ctx context.Context, f ports.TaskFilter, page ports.Page) ([]task.Task, int, error) {
	narrow := ""
	var extra []any
	if f.AgentID != "" {
		narrow += " AND agent_id = ?"
		extra = append(extra, f.AgentID)
	}
	if f.Conversation != "" {
		narrow += " AND conversation = ?"
		extra = append(extra, f.Conversation)
	}
	if f.Status != "" {
		narrow += " AND status = ?"
		extra = append(extra, string(f.Status))
	}
	var parts []string
	var args []any
	part := func(where string, with ...any) {
		parts = append(parts, `SELECT id, created_at FROM tasks WHERE `+where+narrow)
		args = append(append(args, with...), extra...)
	}
	switch requester, owner := f.RequesterUserID, f.AgentOwnerID; {
	case requester != "" && owner != "":
		part(`requester_user_id = ?`, requester)
		part(`agent_owner_id = ? AND requester_user_id <> ?`, owner, requester)
	case requester != "":
		part(`requester_user_id = ?`, requester)
	case owner != "":
		part(`agent_owner_id = ?`, owner)
	default:
		return nil, 0, errors.New("list tasks: of nobody")
	}
	all := strings.Join(parts, " UNION ALL ")
	var rows []struct {
		taskRow `bun:",extend"`
		Total   int `bun:"total"`
	}
	total := 0
	err := v.solo(ctx, func(ctx context.Context, c *session) error {
		rows, total = nil, 0
		q := c.bun.NewSelect().TableExpr("tasks AS t").ColumnExpr("t.*").
			ColumnExpr("(SELECT count(*) FROM ("+all+") AS every) AS total", args...).
			Where("t.id IN (SELECT page.id FROM (SELECT id, created_at FROM ("+all+") AS every ORDER BY created_at DESC, id DESC LIMIT ? OFFSET ?) AS page)",
				append(args[:len(args):len(args)], page.Limit, page.Offset)...).
			OrderExpr("t.created_at DESC, t.id DESC")
		if err := q.Scan(ctx, &rows); err != nil {
			return c.store.wrap(err, "list tasks")
		}
		if len(rows) > 0 {
			total = rows[0].Total
			return nil
		}
		if page.Offset == 0 {
			return nil
		}
		return c.store.wrap(c.bun.NewRaw("SELECT count(*) FROM ("+all+") AS every", args...).Scan(ctx, &total), "count tasks") // beyond the end
	})
	if err != nil {
		return nil, 0, err
	}
	out := make([]task.Task, len(rows))
	for i := range rows {
		out[i] = rows[i].domain()
	}
	return out, total, nil
}

// Overdue implements ports.TaskReader. One statement.
func (v *tasks) Overdue(ctx context.Context, now time.Time, limit int) ([]string, error) {
	return v.ids(ctx, qOverdue, int64(at(now)), limit)
}

// OpenByAgent implements ports.TaskReader: the next to time out first. One statement, along all open tasks.
func (v *tasks) OpenByAgent(ctx context.Context, agentID string, status task.Status, limit int) ([]string, error) {
	if status == "" {
		return v.ids(ctx, qOpenByAgent, agentID, limit)
	}
	return v.ids(ctx, qOpenByStatus, agentID, string(status), limit)
}

func (v *tasks) ids(ctx context.Context, q statement, args ...any) ([]string, error) {
	var out []string
	err := v.do(ctx, func(ctx context.Context, c *session) error {
		out = nil
		err := c.each(ctx, q, args, func(scan func(...any) error) error {
			var id string
			err := scan(&id)
			out = append(out, id)
			return err
		})
		return c.store.wrap(err, "find tasks")
	})
	return out, err
}

// Insert implements ports.TaskStore. One statement, and one for every eight events, sent together.
func (v *tasks) Insert(ctx context.Context, t task.Task, events []task.Event) error {
	r := taskRowOf(t)
	return v.do(ctx, func(ctx context.Context, c *session) error {
		inserted := &call{statement: qInsertTask, args: r.values()}
		added, err := eventCalls(t.ID, events)
		if err != nil {
			return err
		}
		err = c.later(ctx, func() error {
			if inserted.rows == 0 {
				return fmt.Errorf("task %s: %w", t.ID, ports.ErrDuplicate)
			}
			return allInserted(t.ID, added)
		}, append([]*call{inserted}, added...)...)
		return c.store.wrap(err, "insert task")
	})
}

// Save implements ports.TaskStore. It writes what commands change; what was asked of whom, and for how much, stays as it
// was inserted. One statement, and one for every eight events, sent together.
func (v *tasks) Save(ctx context.Context, t task.Task, events []task.Event) error {
	r := taskRowOf(t)
	return v.do(ctx, func(ctx context.Context, c *session) error {
		delete(c.ahead.tasks, t.ID)
		saved := &call{statement: qSaveTask, args: []any{
			string(r.Status), r.Attempts, r.StartedAt, int64(r.UpdatedAt), int64(r.TimeoutAt), r.CompletedAt, r.RemoteTaskID,
			r.ContextID, r.LastSeq, r.Asked, r.Told, r.Tried, r.AwaitsInput, r.Push, r.ErrorCode, r.ErrorMessage, r.Output, r.ID,
		}}
		added, err := eventCalls(t.ID, events)
		if err != nil {
			return err
		}
		err = c.later(ctx, func() error {
			if saved.rows == 0 {
				return taskNotFound(t.ID)
			}
			return allInserted(t.ID, added)
		}, append([]*call{saved}, added...)...)
		return c.store.wrap(err, "save task")
	})
}

func eventCalls(taskID string, events []task.Event) ([]*call, error) {
	args := make([]any, 0, qInsertEvents.columns*len(events))
	for _, e := range events {
		body, err := eventBody(e)
		if err != nil {
			return nil, err
		}
		args = append(args, taskID, e.Seq, string(e.Kind), string(e.Status), int64(at(e.At)), body)
	}
	return qInsertEvents.calls(args), nil
}

func allInserted(taskID string, events []*call) error {
	for _, k := range events {
		if k.rows < int64(len(k.args)/qInsertEvents.columns) {
			return fmt.Errorf("events of task %s: %w", taskID, ports.ErrDuplicate)
		}
	}
	return nil
}
