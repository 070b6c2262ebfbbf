package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/nexus-protocol/nexus/adapters/a2aclient"
	"github.com/nexus-protocol/nexus/adapters/argon2hasher"
	"github.com/nexus-protocol/nexus/adapters/inprocess"
	"github.com/nexus-protocol/nexus/adapters/jsonschemacheck"
	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/adapters/sqlite"
	"github.com/nexus-protocol/nexus/adapters/ssrfguard"
	"github.com/nexus-protocol/nexus/app"
)

// databasePath is the SQLite file; its folder is made if need be.
func (e *env) databasePath() (string, error) {
	if err := os.MkdirAll(e.cli.DataDir, 0o700); err != nil {
		return "", fmt.Errorf("data directory: %w", err)
	}
	return filepath.Join(e.cli.DataDir, "nexus.db"), nil
}

// openStore opens the database with its schema up to date.
func (e *env) openStore() (*sqlite.Store, error) {
	path, err := e.databasePath()
	if err != nil {
		return nil, err
	}
	if err := sqlite.Migrate(e, path); err != nil {
		return nil, fmt.Errorf("migrate %s: %w", path, err)
	}
	store, err := sqlite.Open(e, path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return store, nil
}

// wiring is the choice of adapters that is not the store's.
type wiring struct {
	allowPrivate bool
	workers      int
	sole         bool
}

func (e *env) newEngine(store *sqlite.Store, w wiring) (*app.Engine, error) {
	guard := ssrfguard.New(w.allowPrivate)
	return app.New(app.Config{
		Store:  store,
		Queue:  inprocess.New(store, time.Now, inprocess.Options{Workers: w.workers, Logger: e.log}),
		Agents: a2aclient.New(guard.Transport(), ssrfguard.ErrProhibited),
		Guard:  guard,
		Schema: jsonschemacheck.New(),
		Hasher: argon2hasher.New(),
		Limits: memory.NewLimiter(time.Now),
		Now:    time.Now,
		NewID:  func() string { return uuid.Must(uuid.NewV7()).String() }, // fails only without a source of randomness
		Random: rand.Reader,
		Logger: e.log,
		Sole:   w.sole,
	})
}

// withEngine runs an operator's command against the database. The server may be running at the same time.
func (e *env) withEngine(do func(*app.Engine) error) (err error) {
	store, err := e.openStore()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	engine, err := e.newEngine(store, wiring{})
	if err != nil {
		return err
	}
	return do(engine)
}
