// Package schema applies migrations, for every SQL database alike.
package schema

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
)

// ErrNewer is returned for a database that a newer version of the program has migrated.
var ErrNewer = errors.New("the database's schema is newer than this program")

// ErrOlder is returned by Check for a database that has to be migrated first.
var ErrOlder = errors.New("the database's schema is older than this program needs")

// Migration is one step of the schema.
type Migration struct {
	Version   int64
	Name      string
	Applied   bool
	AppliedAt time.Time // zero when not applied
}

// Schema is the migrations of one kind of database.
type Schema struct {
	Dialect goose.Dialect
	Files   fs.FS
	Options []goose.ProviderOption
	// Exists asks if there is the table that its one parameter names, and answers 0 or 1.
	Exists string
}

// Up applies what is missing.
func (s Schema) Up(ctx context.Context, db *sql.DB) error {
	return s.with(ctx, db, func(p *goose.Provider) error {
		_, err := p.Up(ctx)
		return err
	})
}

// Down takes the newest migration back, and what it holds with it.
func (s Schema) Down(ctx context.Context, db *sql.DB) error {
	return s.with(ctx, db, func(p *goose.Provider) error {
		_, err := p.Down(ctx)
		if errors.Is(err, goose.ErrNoNextVersion) {
			return nil
		}
		return err
	})
}

// Status lists the migrations that this program knows, in their order.
func (s Schema) Status(ctx context.Context, db *sql.DB) (out []Migration, err error) {
	err = s.with(ctx, db, func(p *goose.Provider) error {
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

// Check refuses every version but the one that this program was made for.
func (s Schema) Check(ctx context.Context, db *sql.DB) error {
	return s.with(ctx, db, func(p *goose.Provider) error {
		have, err := s.Version(ctx, db)
		if err != nil {
			return err
		}
		if want := newest(p); have < want {
			return fmt.Errorf("%w: it is at version %d, and %d is needed; migrate it first", ErrOlder, have, want)
		}
		return nil
	})
}

// Version is that of the newest migration that was applied; 0 without any. It makes nothing.
func (s Schema) Version(ctx context.Context, db *sql.DB) (version int64, err error) {
	var tables int
	if err := db.QueryRowContext(ctx, s.Exists, goose.DefaultTablename).Scan(&tables); err != nil {
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

// with refuses a database that is newer, and goes on with any other.
func (s Schema) with(ctx context.Context, db *sql.DB, do func(*goose.Provider) error) error {
	p, err := goose.NewProvider(s.Dialect, db, s.Files,
		append([]goose.ProviderOption{goose.WithLogger(goose.NopLogger()), goose.WithDisableGlobalRegistry(true)}, s.Options...)...)
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	have, err := s.Version(ctx, db)
	if err != nil {
		return err
	}
	if want := newest(p); have > want {
		return fmt.Errorf("%w: it is at version %d, and this program knows up to %d; use the newer program", ErrNewer, have, want)
	}
	return do(p)
}

func newest(p *goose.Provider) int64 {
	all := p.ListSources()
	return all[len(all)-1].Version // a provider without any is an error
}
