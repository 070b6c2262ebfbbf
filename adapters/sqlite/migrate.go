package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/pressly/goose/v3"

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
	Dialect: goose.DialectSQLite3, Files: migrations.SQLite,
	Exists: "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?",
}

// Migrate brings the schema up to date, and makes the file if it is not there. Any number of processes may call it at
// once: one does the work, the others wait for it.
func Migrate(ctx context.Context, file string) error {
	return migrate(ctx, file, func(db *sql.DB) error { return tables.Up(ctx, db) })
}

// MigrateDown takes the newest migration back, and what it holds with it.
func MigrateDown(ctx context.Context, file string) error {
	return migrate(ctx, file, func(db *sql.DB) error { return tables.Down(ctx, db) })
}

// MigrationStatus lists the migrations that this program knows, in their order.
func MigrationStatus(ctx context.Context, file string) (out []Migration, err error) {
	err = migrate(ctx, file, func(db *sql.DB) (err error) {
		out, err = tables.Status(ctx, db)
		return err
	})
	return out, err
}

// SchemaVersion is the version of the newest migration that was applied; 0 without any.
func SchemaVersion(ctx context.Context, file string) (version int64, err error) {
	h, err := open(file, 1)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	return tables.Version(ctx, h.read)
}

func migrate(ctx context.Context, file string, do func(*sql.DB) error) (err error) {
	release, err := lockWait(ctx, file+".migrate.lock")
	if err != nil {
		return fmt.Errorf("wait for other migrations: %w", err)
	}
	defer release()
	h, err := open(file, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	return do(h.write)
}
