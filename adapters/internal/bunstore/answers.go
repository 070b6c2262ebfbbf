package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/nexus-protocol/nexus/ports"
)

type answers struct{ access }

var _ ports.AnswerStore = (*answers)(nil)

var (
	qAnswer    = hot(`SELECT request, body, at FROM answers WHERE id = ?`)
	qPutAnswer = hot(`INSERT INTO answers (id, request, body, at) VALUES (?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET request = excluded.request, body = excluded.body, at = excluded.at WHERE answers.at <= ?`).ranked(rankAccess, 0)
	qDropAnswers = hot(`DELETE FROM answers WHERE at <= ?`).ranked(rankAccess, 0)
)

// Get implements ports.AnswerReader. One statement.
func (v *answers) Get(ctx context.Context, id string) (a ports.KeptAnswer, ok bool, err error) {
	var when micros
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		return c.store.wrap(c.row(ctx, qAnswer, []any{id}, &a.Request, &a.Body, &when), "read answer")
	})
	if errors.Is(err, sql.ErrNoRows) {
		return ports.KeptAnswer{}, false, nil
	}
	a.ID, a.At = id, when.time()
	return a, err == nil, err
}

// Put implements ports.AnswerStore. One statement.
func (v *answers) Put(ctx context.Context, a ports.KeptAnswer, stale time.Time) error {
	return v.do(ctx, func(ctx context.Context, c *session) error {
		n, err := c.exec(ctx, qPutAnswer, a.ID, a.Request, a.Body, int64(at(a.At)), int64(at(stale)))
		if err == nil && n == 0 {
			return fmt.Errorf("answer: %w", ports.ErrDuplicate)
		}
		return c.store.wrap(err, "keep answer")
	})
}

// DeleteUntil implements ports.AnswerStore. One statement.
func (v *answers) DeleteUntil(ctx context.Context, t time.Time) (n int, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		rows, err := c.exec(ctx, qDropAnswers, int64(at(t)))
		n = int(rows)
		return c.store.wrap(err, "delete answers")
	})
	return n, err
}
