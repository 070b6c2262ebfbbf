package sqlite

import (
	"errors"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/nexus-protocol/nexus/adapters/internal/bunstore"
)

// dialect is what is special about SQLite. A transaction that may write is alone, so nothing has to be locked.
func dialect() bunstore.Dialect {
	return bunstore.Dialect{
		Name: "sqlite", Begin: "BEGIN IMMEDIATE", Prepare: true, Local: true,
		Duplicate: func(err error) bool {
			c := code(err)
			return c == lib.SQLITE_CONSTRAINT_PRIMARYKEY || c == lib.SQLITE_CONSTRAINT_UNIQUE || c == lib.SQLITE_CONSTRAINT_ROWID
		},
		Retryable: func(err error) bool {
			c := code(err) & 0xff
			return c == lib.SQLITE_BUSY || c == lib.SQLITE_LOCKED
		},
		Lost: func(error) bool { return false }, // there is no connection that could be
	}
}

// code is SQLite's extended result code, 0 for an error of someone else's.
func code(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}
