package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/nexus-protocol/nexus/migrations"
)

// ErrSchemaNewer is returned for a database that a newer version of the program has migrated.
var ErrSchemaNewer = errors.New("the database's schema is newer than this program")

// ErrSchemaOlder is returned by Open for a database that has to be migrated first.
var ErrSchemaOlder = errors.New("the database's schema is older than this program needs")

// Migration is one step of the schema.
type Migration struct {
	Version   int64
	Name      string
	Applied   bool
	AppliedAt time.Time // zero when not applied
}

// Migrate brings the schema up to date, and makes the file if it is not there. Any number of processes may call it at
// once: one does the work, the others wait for it.
func Migrate(ctx context.Context, file string) error {
	return migrate(ctx, file, func(p *goose.Provider) error {
		_, err := p.Up(ctx)
		return err
	})
}

// MigrateDown takes the newest migration back, and what it holds with it.
func MigrateDown(ctx context.Context, file string) error {
	return migrate(ctx, file, func(p *goose.Provider) error {
		_, err := p.Down(ctx)
		if errors.Is(err, goose.ErrNoNextVersion) {
			return nil
		}
		return err
	})
}

// MigrationStatus lists the migrations that this program knows, in their order.
func MigrationStatus(ctx context.Context, file string) (out []Migration, err error) {
	err = migrate(ctx, file, func(p *goose.Provider) error {
		out = nil
		list, err := p.Status(ctx)
		for _, m := range list {
			name := strings.TrimSuffix(path.Base(m.Source.Path), ".sql")
			if _, rest, ok := strings.Cut(name, "_"); ok {
				name = rest
			}
			out = append(out, Migration{Version: m.Source.Version, Name: name, Applied: m.State == goose.StateApplied, AppliedAt: m.AppliedAt})
		}
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
	return appliedVersion(ctx, h.read)
}

func migrate(ctx context.Context, file string, do func(*goose.Provider) error) (err error) {
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
	p, err := provider(h.write)
	if err != nil {
		return err
	}
	if err := refuseNewer(ctx, h.write, p); err != nil {
		return err
	}
	if err := do(p); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

func provider(db *sql.DB) (*goose.Provider, error) {
	p, err := goose.NewProvider(goose.DialectSQLite3, db, migrations.SQLite, goose.WithLogger(goose.NopLogger()), goose.WithDisableGlobalRegistry(true))
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
	var tables int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?", goose.DefaultTablename).Scan(&tables); err != nil {
		return 0, fmt.Errorf("read the schema's version: %w", err)
	}
	if tables == 0 {
		return 0, nil
	}
	err = db.QueryRowContext(ctx, "SELECT COALESCE(MAX(version_id), 0) FROM "+goose.DefaultTablename+" WHERE is_applied").Scan(&version)
	if err != nil {
		return 0, fmt.Errorf("read the schema's version: %w", err)
	}
	return version, nil
}
