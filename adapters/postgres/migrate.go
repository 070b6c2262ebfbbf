package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/nexus-protocol/nexus/adapters/internal/schema"
	"github.com/nexus-protocol/nexus/migrations"
)

// What a database is refused for.
var (
	ErrSchemaNewer = schema.ErrNewer // a newer version of the program has migrated it
	ErrSchemaOlder = schema.ErrOlder // by Open: it has to be migrated first
)

// Migration is one step of the schema.
type Migration = schema.Migration

var tables = schema.Schema{
	Dialect: goose.DialectPostgres, Files: migrations.Postgres, Exists: "SELECT CASE WHEN to_regclass($1) IS NULL THEN 0 ELSE 1 END",
}

// Migrate brings the schema up to date. Any number of processes may call it at once: one works, under a lock of its
// session, and the others wait.
func Migrate(ctx context.Context, url string) error {
	return migrate(url, func(s schema.Schema, db *sql.DB) error { return s.Up(ctx, db) })
}

// MigrateDown takes the newest migration back, and what it holds with it.
func MigrateDown(ctx context.Context, url string) error {
	return migrate(url, func(s schema.Schema, db *sql.DB) error { return s.Down(ctx, db) })
}

// MigrationStatus lists the migrations that this program knows, in their order.
func MigrationStatus(ctx context.Context, url string) (out []Migration, err error) {
	err = migrate(url, func(s schema.Schema, db *sql.DB) (err error) {
		out, err = s.Status(ctx, db)
		return err
	})
	return out, err
}

func migrate(url string, do func(schema.Schema, *sql.DB) error) (err error) {
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 60)) // asks every second for a minute
	if err != nil {
		return fmt.Errorf("migration lock: %w", err)
	}
	locked := tables
	locked.Options = []goose.ProviderOption{goose.WithSessionLocker(locker)}
	db, err := open(url, 2)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return unreachable(do(locked, db))
}
