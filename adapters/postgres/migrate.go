package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/nexus-protocol/nexus/migrations"
)

// ErrSchemaNewer is returned for a database that a newer version of the engine has migrated.
var ErrSchemaNewer = errors.New("the database's schema is newer than this program")

// ErrSchemaOlder is returned for a database that is not migrated yet.
var ErrSchemaOlder = errors.New("the database's schema is older than this program")

// Migration is one step of the schema.
type Migration struct {
	Version   int64
	Name      string
	Applied   bool
	AppliedAt time.Time // zero when not applied
}

// Migrate brings the schema up to date. Any number of processes may call it at once: one works, under a lock of the
// session, and the others wait.
func Migrate(ctx context.Context, url string) error {
	return migrate(ctx, url, func(p *goose.Provider) error {
		_, err := p.Up(ctx)
		return err
	})
}

// MigrateDown takes the newest applied migration back, and its data with it.
func MigrateDown(ctx context.Context, url string) error {
	return migrate(ctx, url, func(p *goose.Provider) error {
		_, err := p.Down(ctx)
		return err
	})
}

// MigrationStatus lists the migrations in their order.
func MigrationStatus(ctx context.Context, url string) (out []Migration, err error) {
	err = migrate(ctx, url, func(p *goose.Provider) error {
		list, err := p.Status(ctx)
		for _, m := range list {
			out = append(out, Migration{
				Version: m.Source.Version, Name: path.Base(m.Source.Path), Applied: m.State == goose.StateApplied, AppliedAt: m.AppliedAt,
			})
		}
		return err
	})
	return out, err
}

func migrate(ctx context.Context, url string, do func(*goose.Provider) error) (err error) {
	db, err := open(url, 2)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	p, err := provider(db)
	if err != nil {
		return err
	}
	if err := refuseNewer(ctx, db, p); err != nil {
		return err
	}
	if err := do(p); err != nil {
		return fmt.Errorf("migrate: %w", unreachable(err))
	}
	return nil
}

func provider(db *sql.DB) (*goose.Provider, error) {
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 60)) // asks every second for a minute
	if err != nil {
		return nil, fmt.Errorf("migration lock: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, migrations.Postgres,
		goose.WithLogger(goose.NopLogger()), goose.WithDisableGlobalRegistry(true), goose.WithSessionLocker(locker))
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	return p, nil
}

func newest(p *goose.Provider) int64 {
	all := p.ListSources()
	return all[len(all)-1].Version // a provider without any is an error
}

func refuseNewer(ctx context.Context, db *sql.DB, p *goose.Provider) error {
	have, err := appliedVersion(ctx, db)
	if err != nil {
		return err
	}
	if want := newest(p); have > want {
		return fmt.Errorf("%w: it is at version %d, and this program knows up to %d; use the newer program", ErrSchemaNewer, have, want)
	}
	return nil
}

// checkSchema refuses every version but the one that this program was made for.
func checkSchema(ctx context.Context, db *sql.DB) error {
	p, err := provider(db)
	if err != nil {
		return err
	}
	if err := refuseNewer(ctx, db, p); err != nil {
		return err
	}
	have, err := appliedVersion(ctx, db)
	if err != nil {
		return err
	}
	if want := newest(p); have < want {
		return fmt.Errorf("%w: it is at version %d, and %d is needed; migrate it first", ErrSchemaOlder, have, want)
	}
	return nil
}

// appliedVersion reads the version without making anything.
func appliedVersion(ctx context.Context, db *sql.DB) (version int64, err error) {
	var there bool
	if err := db.QueryRowContext(ctx, "SELECT to_regclass('"+goose.DefaultTablename+"') IS NOT NULL").Scan(&there); err != nil {
		return 0, unreachable(err)
	}
	if !there {
		return 0, nil
	}
	err = db.QueryRowContext(ctx, "SELECT COALESCE(MAX(version_id), 0) FROM "+goose.DefaultTablename+" WHERE is_applied").Scan(&version)
	if err != nil {
		return 0, fmt.Errorf("read the schema's version: %w", err)
	}
	return version, nil
}
