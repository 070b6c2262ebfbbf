package bunstore

import (
	"context"
	"database/sql"
	"errors"

	"github.com/nexus-protocol/nexus/ports"
)

type secrets struct{ access }

var _ ports.SecretStore = (*secrets)(nil)

var (
	qSecret     = hot(`SELECT secret FROM secrets WHERE name = ?`)
	qKeepSecret = hot(`INSERT INTO secrets (name, secret) VALUES (?, ?) ON CONFLICT (name) DO NOTHING`).ranked(rankAccess, 0)
)

// Get implements ports.SecretReader. One statement.
func (v *secrets) Get(ctx context.Context, name string) (secret []byte, ok bool, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		return c.store.wrap(c.row(ctx, qSecret, []any{name}, &secret), "read secret")
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	return secret, err == nil, err
}

// Keep implements ports.SecretStore. One statement.
func (v *secrets) Keep(ctx context.Context, name string, secret []byte) error {
	return v.do(ctx, func(ctx context.Context, c *session) error {
		_, err := c.exec(ctx, qKeepSecret, name, secret)
		return c.store.wrap(err, "keep secret")
	})
}
