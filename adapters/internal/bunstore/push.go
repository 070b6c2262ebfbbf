package bunstore

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

type pushes struct{ access }

var _ ports.PushStore = (*pushes)(nil)

const pushColumns = `id, task_id, user_id, name, url, dialect, whole, schemes, sealed, told, failures, set_at, done_at`

// Whoever writes these rows holds the lock of their task, so that nobody waits for them.
var (
	qPush    = hot(`SELECT ` + pushColumns + ` FROM push_configs WHERE id = ?`)
	qPushes  = hot(`SELECT ` + pushColumns + ` FROM push_configs WHERE task_id = ? ORDER BY id`)
	qPutPush = hot(`INSERT INTO push_configs (` + pushColumns + `) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET url = excluded.url, dialect = excluded.dialect, whole = excluded.whole, schemes = excluded.schemes, sealed = excluded.sealed,
		told = excluded.told, failures = excluded.failures, set_at = excluded.set_at, done_at = excluded.done_at`)
	qDropPush   = hot(`DELETE FROM push_configs WHERE id = ?`)
	qDropPushes = hot(`DELETE FROM push_configs WHERE id IN (SELECT id FROM push_configs WHERE done_at <= ?{skip})`)
)

func scanPush(scan func(...any) error) (task.PushConfig, error) {
	var c task.PushConfig
	var whole int
	var schemes string
	var set micros
	var done sql.NullInt64
	if err := scan(&c.ID, &c.TaskID, &c.UserID, &c.Name, &c.URL, &c.Dialect, &whole, &schemes, &c.Sealed, &c.Told, &c.Failures, &set, &done); err != nil {
		return c, err
	}
	c.Whole, c.SetAt, c.DoneAt = whole != 0, set.time(), maybeTime(done)
	return c, unpack(schemes, &c.Schemes)
}

// Get implements ports.PushReader. One statement.
func (v *pushes) Get(ctx context.Context, id string) (c task.PushConfig, ok bool, err error) {
	found, err := v.find(ctx, qPush, id)
	if err != nil || len(found) == 0 {
		return c, false, err
	}
	return found[0], true, nil
}

// ByTask implements ports.PushReader. One statement.
func (v *pushes) ByTask(ctx context.Context, taskID string) ([]task.PushConfig, error) {
	return v.find(ctx, qPushes, taskID)
}

func (v *pushes) find(ctx context.Context, q statement, of string) (out []task.PushConfig, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		out = nil
		err := c.each(ctx, q, []any{of}, func(scan func(...any) error) error {
			p, err := scanPush(scan)
			out = append(out, p)
			return err
		})
		return c.store.wrap(err, "read push configurations")
	})
	return out, err
}

// Put implements ports.PushStore. One statement.
func (v *pushes) Put(ctx context.Context, p task.PushConfig) error {
	schemes, err := pack(p.Schemes)
	if err != nil {
		return err
	}
	return v.write(ctx, fmt.Sprintf("put push configuration of task %s", p.TaskID), &call{statement: qPutPush, args: []any{
		p.ID, p.TaskID, p.UserID, p.Name, p.URL, p.Dialect, number(p.Whole), schemes, p.Sealed, p.Told, p.Failures, int64(at(p.SetAt)), maybeAt(p.DoneAt),
	}})
}

// Delete implements ports.PushStore. One statement.
func (v *pushes) Delete(ctx context.Context, id string) error {
	return v.write(ctx, "delete push configuration", &call{statement: qDropPush, args: []any{id}})
}

func (v *pushes) write(ctx context.Context, what string, k *call) error {
	return v.do(ctx, func(ctx context.Context, c *session) error {
		return c.store.wrap(c.later(ctx, func() error { return nil }, k), what)
	})
}

// DeleteUntil implements ports.PushStore. One statement.
func (v *pushes) DeleteUntil(ctx context.Context, t time.Time) (n int, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		rows, err := c.exec(ctx, qDropPushes, int64(at(t)))
		n = int(rows)
		return c.store.wrap(err, "delete push configurations")
	})
	return n, err
}
