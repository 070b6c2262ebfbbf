// Package sqlitetest gives tests a SQLite file that has the schema.
package sqlitetest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/nexus-protocol/nexus/adapters/sqlite"
)

// migrated is an empty file with the schema, which takes longer to make than to copy.
var migrated = sync.OnceValues(func() (file []byte, err error) {
	dir, err := os.MkdirTemp("", "nexus-schema-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "nexus.db")
	if err := sqlite.Migrate(context.Background(), path); err != nil {
		return nil, err
	}
	return os.ReadFile(path) //nolint:gosec // its own
})

// Fill writes an empty database with the schema to where there is no file yet.
func Fill(t testing.TB, path string) {
	t.Helper()
	file, err := migrated()
	if err == nil {
		err = os.WriteFile(path, file, 0o600)
	}
	if err != nil {
		t.Fatalf("make a database: %v", err)
	}
}
