package sqlite

import (
	"errors"
	"strings"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/nexus-protocol/nexus/adapters/internal/bunstore"
)

// dialect is what is special about SQLite. A transaction that may write is alone, so nothing has to be locked.
func dialect() bunstore.Dialect {
	return bunstore.Dialect{
		Name: "sqlite", Begin: "BEGIN IMMEDIATE", Snapshot: "BEGIN", Transfers: "LEFT JOIN ledger_transfers AS x ON x.id = e.transfer_id", Prepare: true, Local: true,
		Duplicate: func(err error) bool {
			c := code(err)
			return c == lib.SQLITE_CONSTRAINT_PRIMARYKEY || c == lib.SQLITE_CONSTRAINT_UNIQUE || c == lib.SQLITE_CONSTRAINT_ROWID
		},
		Retryable: func(err error) bool {
			c := code(err) & 0xff
			return c == lib.SQLITE_BUSY || c == lib.SQLITE_LOCKED
		},
		Lost: func(error) bool { return false }, // there is no connection that could be
		Text: candidates, Mark: nextMove, Seen: "CAST(" + nextMove + " AS TEXT)",
		Unseen: "({number} >= CAST(? AS INTEGER))",
		// A CROSS join goes from its left to its right.
		Logs: "CROSS JOIN task_events e WHERE e.task_id = p.id AND e.seq > p.seq",
	}
}

const nextMove = "(SELECT COALESCE(MAX(moved), 0) + 1 FROM agent_moves)"

// candidates asks the text index. A word with a letter that the index takes for something else is left to the comparison
// that follows.
func candidates(words []string) (from, where string, args []any) {
	var match []string
	for _, w := range words {
		if !strings.ContainsFunc(w, foreign) {
			match = append(match, `"`+w+`"*`)
		}
	}
	if len(match) == 0 {
		return "", "", nil
	}
	// A CROSS join goes from its left to its right, and ends when enough is found.
	return "agent_words CROSS JOIN agents AS a ON a.seq = agent_words.rowid", "agent_words MATCH ?", []any{strings.Join(match, " AND ")}
}

// foreign tells the blocks with letters whose kind has changed since the index's Unicode: New Tai Lue, Vedic Extensions.
func foreign(r rune) bool { return r >= 0x1980 && r <= 0x19df || r >= 0x1cd0 && r <= 0x1cff }

// code is SQLite's extended result code, 0 for an error of someone else's.
func code(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}
