// Package migrations holds the schema, one folder a SQL dialect, in goose's format. A migration that was released is
// never changed; a new one is added.
package migrations

import (
	"embed"
	"io/fs"
)

//go:embed sqlite/*.sql
var files embed.FS

// SQLite is the schema for SQLite.
var SQLite = sub("sqlite")

func sub(dir string) fs.FS {
	f, err := fs.Sub(files, dir)
	if err != nil {
		panic(err) // only for a malformed name
	}
	return f
}
