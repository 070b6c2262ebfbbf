// Package sqlite keeps the engine's state in one SQLite file. Every commit is on the disk before it is answered: the
// journal is a write-ahead log with synchronous=FULL. One connection writes, a few others read what is committed; they
// never wait for each other.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	_ "modernc.org/sqlite" // the driver

	"github.com/nexus-protocol/nexus/adapters/internal/bunstore"
	"github.com/nexus-protocol/nexus/ports"
)

var _ ports.Store = (*Store)(nil)

const defaultReaders = 4

// Option is a setting of Open.
type Option func(*options)

type options struct {
	readers int
	tracer  ports.Tracer
	market  int
	commit  func(commit func() error) error
}

// WithReaders sets how many reads run at the same time; the default is 4.
func WithReaders(n int) Option {
	return func(o *options) { o.readers = max(n, 1) }
}

// WithMarket sets up to how many agents are kept in memory to be searched, at some 400 bytes each; 0 is none, the default two million.
// They are loaded by LoadMarket or the first search; until they are there, and where there are more, the database searches.
func WithMarket(agents int) Option {
	return func(o *options) { o.market = max(agents, 0) }
}

// Stats counts what a store has asked of its database since it was opened.
type Stats = bunstore.Stats

// WithTracer gives every statement that is part of a trace a span in it.
func WithTracer(t ports.Tracer) Option {
	return func(o *options) { o.tracer = t }
}

// Store is a ports.Store in a SQLite file.
type Store struct {
	*bunstore.Store
	handles handles
}

// Open opens a database whose schema is up to date; Migrate makes it so.
func Open(ctx context.Context, path string, opts ...Option) (*Store, error) {
	o := options{readers: defaultReaders, market: bunstore.DefaultMarket}
	for _, set := range opts {
		set(&o)
	}
	h, err := open(path, o.readers)
	if err != nil {
		return nil, err
	}
	if err := tables.Check(ctx, h.write); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return &Store{
		Store: bunstore.New(bunstore.Config{
			Dialect: dialect(), Write: bun.NewDB(h.write, sqlitedialect.New()), Read: bun.NewDB(h.read, sqlitedialect.New()),
			Writers: 1, Readers: o.readers, Tracer: o.tracer, Commit: o.commit, Market: o.market,
		}),
		handles: h,
	}, nil
}

// Close lets what runs end, and closes the file.
func (s *Store) Close() error { return errors.Join(s.Store.Close(), s.handles.Close()) }

// handles are the two ways into a file.
type handles struct{ write, read *sql.DB }

func (h handles) Close() error { return errors.Join(h.read.Close(), h.write.Close()) } // the last to close empties the log

// pragmas of every connection. recursive_triggers lets REPLACE meet the triggers that guard the ledger.
const pragmas = "_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)" +
	"&_pragma=recursive_triggers(1)&_pragma=temp_store(MEMORY)"

// writerPragmas of the one connection that writes: a cache of 16 MB, and a log that is put into the file every 16 MB, so
// that a page which many commits changed is written back once. The log is cut after a time when that could not be done.
const writerPragmas = "&_txlock=immediate&_pragma=cache_size(-16000)&_pragma=wal_autocheckpoint(4000)&_pragma=journal_size_limit(67108864)"

// open makes the file if it is not there, readable by its owner only. SQLite gives the log the same mode.
func open(path string, readers int) (handles, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return handles{}, fmt.Errorf("open database: %w", err)
	}
	f, err := os.OpenFile(abs, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return handles{}, fmt.Errorf("open database: %w", err)
	}
	if err := f.Close(); err != nil {
		return handles{}, fmt.Errorf("open database: %w", err)
	}
	base := (&url.URL{Scheme: "file", Path: filepath.ToSlash(abs)}).String() + "?" + pragmas
	write, err := sql.Open("sqlite", base+writerPragmas)
	if err != nil {
		return handles{}, fmt.Errorf("open database: %w", err)
	}
	write.SetMaxOpenConns(1)
	read, err := sql.Open("sqlite", base+"&_pragma=query_only(1)")
	if err != nil {
		return handles{}, errors.Join(fmt.Errorf("open database: %w", err), write.Close())
	}
	read.SetMaxOpenConns(readers)
	read.SetMaxIdleConns(readers)
	return handles{write, read}, nil
}
