package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/nexus-protocol/nexus/ports"
)

type callBacks struct{ access }

var _ ports.CallBackStore = (*callBacks)(nil)

var (
	qCallBackKey = hot(`SELECT secret FROM callback_key WHERE id = 1`)
	qOfferKey    = hot(`INSERT INTO callback_key (id, secret) VALUES (1, ?) ON CONFLICT (id) DO NOTHING`).ranked(rankAccess, 0)
	qCallBacks   = hot(`SELECT calls FROM callbacks WHERE task_id = ?`)
	qCalledBack  = hot(`INSERT INTO callbacks (task_id, calls, at) VALUES (?, 1, ?)
		ON CONFLICT (task_id) DO UPDATE SET calls = callbacks.calls + 1, at = CASE WHEN excluded.at > callbacks.at THEN excluded.at ELSE callbacks.at END`).ranked(rankAccess, 0)
	qDropCallBacks = hot(`DELETE FROM callbacks WHERE at <= ?`).ranked(rankAccess, 0)
)

// Key implements ports.CallBackReader. One statement.
func (v *callBacks) Key(ctx context.Context) (key []byte, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		return c.store.wrap(c.row(ctx, qCallBackKey, nil, &key), "read the key of call-backs")
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return key, err
}

// OfferKey implements ports.CallBackStore. One statement.
func (v *callBacks) OfferKey(ctx context.Context, key []byte) error {
	return v.do(ctx, func(ctx context.Context, c *session) error {
		_, err := c.exec(ctx, qOfferKey, key)
		return c.store.wrap(err, "keep the key of call-backs")
	})
}

// Count implements ports.CallBackReader. One statement.
func (v *callBacks) Count(ctx context.Context, taskID string) (n int, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		return c.store.wrap(c.row(ctx, qCallBacks, []any{taskID}, &n), "count call-backs")
	})
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return n, err
}

// Add implements ports.CallBackStore. One statement.
func (v *callBacks) Add(ctx context.Context, taskID string, when time.Time) error {
	return v.do(ctx, func(ctx context.Context, c *session) error {
		_, err := c.exec(ctx, qCalledBack, taskID, int64(at(when)))
		return c.store.wrap(err, "count a call-back")
	})
}

// DeleteUntil implements ports.CallBackStore. One statement.
func (v *callBacks) DeleteUntil(ctx context.Context, t time.Time) (n int, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		rows, err := c.exec(ctx, qDropCallBacks, int64(at(t)))
		n = int(rows)
		return c.store.wrap(err, "forget call-backs")
	})
	return n, err
}
