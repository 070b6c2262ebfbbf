// Package postgres keeps the engine's state in PostgreSQL (14 or newer), for any number of processes at once.
package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/nexus-protocol/nexus/adapters/internal/bunstore"
	"github.com/nexus-protocol/nexus/ports"
)

var _ ports.Store = (*Store)(nil)

const (
	defaultWriters = 2
	defaultReaders = 8
	defaultGroup   = 128
	connectTimeout = 3 * time.Second
	compareClocks  = 10 * time.Second // a machine's clock that is set while the process runs is wrong for so long
)

// idleLimit is how long the server waits for the next statement of a transaction. A process that stands still, or whose
// machine is gone, would keep others from the rows that it has locked for as long as its connection seems to live.
const idleLimit = "idle_in_transaction_session_timeout"

// Option is a setting of Open.
type Option func(*options)

type options struct {
	writers, readers int
	group            int
	commit           func(commit func() error) error
	clock            func() time.Time
	tracer           ports.Tracer
	market           int
}

// WithWriters sets how many transactions run at the same time; the default is 2: one is built up while the other is on
// its way to the disk. More of them hold fewer units of work each, and wait for each other's rows.
func WithWriters(n int) Option {
	return func(o *options) { o.writers = max(n, 1) }
}

// WithGroup sets how many units of work may share a transaction and its commit; the default is 128. Nothing waits for
// company: a writer takes what is there.
func WithGroup(n int) Option {
	return func(o *options) { o.group = max(n, 1) }
}

// WithReaders sets how many reads run at the same time; the default is 8.
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

// WithClock sets the clock that Now corrects; the default is time.Now. Tests have wrong ones.
func WithClock(now func() time.Time) Option {
	return func(o *options) { o.clock = now }
}

// WithTracer gives every statement that is part of a trace a span in it.
func WithTracer(t ports.Tracer) Option {
	return func(o *options) { o.tracer = t }
}

// Store is a ports.Store in PostgreSQL, and the clock that all processes on it share. Writers and readers have connections of their own, so it holds at most their sum.
type Store struct {
	*bunstore.Store
	db    *sql.DB
	clock *bunstore.Clock
	stop  context.CancelFunc
	ended chan struct{} // the clock is not set any more
}

// Open opens a database whose schema is up to date; Migrate makes it so.
func Open(ctx context.Context, url string, opts ...Option) (*Store, error) {
	o := options{writers: defaultWriters, readers: defaultReaders, group: defaultGroup, clock: time.Now, market: bunstore.DefaultMarket}
	for _, set := range opts {
		set(&o)
	}
	db, err := open(url, o.writers+o.readers)
	if err != nil {
		return nil, err
	}
	if err := tables.Check(ctx, db); err != nil {
		return nil, errors.Join(unreachable(err), db.Close())
	}
	handle := bun.NewDB(db, pgdialect.New())
	s := &Store{db: db, ended: make(chan struct{}), Store: bunstore.New(bunstore.Config{
		Dialect: dialect(), Write: handle, Read: handle, Writers: o.writers, Readers: o.readers, Group: o.group, Commit: o.commit, Tracer: o.tracer, Market: o.market,
	})}
	s.clock = s.NewClock(o.clock)
	if err := s.clock.Set(ctx); err != nil {
		return nil, errors.Join(unreachable(err), s.Store.Close(), db.Close())
	}
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	go s.keepTime(ctx)
	return s, nil
}

// Now is the time by the database server's clock: that of this machine, which is compared with it when the store is opened
// and every few seconds from then on. All processes on the database have the same time to within the time that the server
// takes to answer. It costs no round trip. While the database is away the machine's clock goes on from where it was.
func (s *Store) Now() time.Time { return s.clock.Now() }

func (s *Store) keepTime(ctx context.Context) {
	defer close(s.ended)
	t := time.NewTicker(compareClocks)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			bounded, cancel := context.WithTimeout(ctx, compareClocks)
			_ = s.clock.Set(bounded) // the database is away: soon again
			cancel()
		}
	}
}

// Close lets what runs end, and closes the connections.
func (s *Store) Close() error {
	s.stop()
	<-s.ended
	return errors.Join(s.Store.Close(), s.db.Close())
}

// open parses the URL and connects at the first use. A statement is prepared by whoever runs it often, and sent with its
// parameters otherwise.
func open(url string, conns int) (*sql.DB, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, errors.New("the database URL is not one of PostgreSQL's, such as postgres://user:password@host:5432/name")
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectTimeout
	}
	cfg.DialFunc = (&net.Dialer{Timeout: cfg.ConnectTimeout, Control: giveUpUnanswered}).DialContext
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	if _, set := cfg.RuntimeParams["application_name"]; !set {
		cfg.RuntimeParams["application_name"] = "nexus"
	}
	// Statements here take milliseconds, whatever the planner thinks of them: to compile them, or to share them out among
	// processes, takes longer.
	settings := "SET jit = off; SET max_parallel_workers_per_gather = 0"
	if _, set := cfg.RuntimeParams[idleLimit]; !set {
		settings += "; SET " + idleLimit + " = '10s'"
	}
	db := stdlib.OpenDB(*cfg, stdlib.OptionAfterConnect(func(ctx context.Context, c *pgx.Conn) error { // poolers refuse to take them with the connection
		_, err := c.Exec(ctx, settings)
		return err
	}))
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

// dialect is what is special about PostgreSQL. Transactions are READ COMMITTED: rows that are changed by what was read
// from them are locked, the rest are relative updates.
func dialect() bunstore.Dialect {
	return bunstore.Dialect{
		Name: "postgres", Begin: "BEGIN", Lock: " FOR UPDATE", Skip: " FOR UPDATE SKIP LOCKED", Pipeline: pipeline, Bulk: true, LockUsers: "LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE",
		// What writers do goes by keys. Plans are made once, for tables that may be small then and large soon.
		Writer:   "SELECT set_config(name, value, false) FROM (VALUES ('plan_cache_mode', 'force_generic_plan'), ('enable_seqscan', 'off'), ('enable_hashjoin', 'off'), ('enable_mergejoin', 'off')) AS s (name, value)",
		Numbered: true, Prepare: true, Clock: "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
		// Without the OFFSET, which keeps the two apart, a table without statistics is walked through as a whole.
		Logs:      "CROSS JOIN LATERAL (SELECT * FROM task_events WHERE task_id = p.id AND seq > p.seq OFFSET 0) e",
		Transfers: "LEFT JOIN LATERAL (SELECT * FROM ledger_transfers WHERE id = e.transfer_id OFFSET 0) AS x ON true",
		Snapshot:  "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", NewestEntry: "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM ledger_entries_seq_seq",
		NextWriter: "SELECT " + nextWriter, OldestWriter: "SELECT " + oldestWriter,
		Exact: exact, Short: func(err error) bool { return code(err) == divisionByZero },
		Duplicate: func(err error) bool { return code(err) == "23505" },
		Retryable: func(err error) bool {
			switch code(err) {
			case "40001", "40P01", "55P03", "25P03": // serialisation failure, deadlock, lock not available, idle for too long
				return true
			}
			return false
		},
		Mark: oldestWriter, Seen: "pg_current_snapshot()::text",
		// What is visible now is below its end, but for what was restored out of another server.
		Unseen: "({number} < " + nextWriter + " AND NOT pg_visible_in_snapshot({number}::text::xid8, ?::text::pg_snapshot))",
		Lost:   lost, TextIsExact: indexedLetters, Index: "CALL index_agent(?)", Entries: entries, Beginning: indexedBeginning, Cached: []any{pgx.QueryExecModeCacheStatement},
	}
}

// Numbers of transactions: the lowest of those that have not ended, and one above all that have begun.
const (
	oldestWriter = "pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
	nextWriter   = "pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
)

const divisionByZero = "22012"

// exact divides by zero unless the statement changes as many rows as its last parameter says.
func exact(text string) string {
	if !strings.Contains(text, " RETURNING ") {
		text += " RETURNING 1"
	}
	return "WITH changed AS (" + text + ") SELECT 1 / (count(*) = ?)::int FROM changed"
}

// indexedLetters is how many letters of a word the index has: agent_index_terms.
const indexedLetters = 60

// indexedBeginning is up to how many letters the beginning of a word is an entry of the index: agent_index_terms.
const indexedBeginning = 2

// entries asks agent_index: a word is the beginning of one there, as far as it goes, which are those of alike where that is known; #tags,
// !skills and =category are there as a whole. All that begins like a word is put together anew for each question, so where
// something else narrows it, only its first letters are asked for, and the rows are to be asked for the rest.
func entries(words []string, alike [][]string, anyTag []string, skillID, category string) (index, row, mark string, loose bool) {
	everything := strings.Join(words, "") + strings.Join(slices.Concat(alike...), "") + strings.Join(anyTag, "") + skillID + category
	r := '~' // a letter that is nowhere in it
	for ; strings.ContainsRune(everything, r); r++ {
	}
	mark = string(r)
	quoted := func(kind, term string) string {
		return "'" + mark + strings.NewReplacer("'", "''", `\`, `\\`).Replace(kind+term) + "'"
	}
	var inIndex, inRow, tags []string
	for i, w := range words { // letters and digits only
		letters := []rune(w)
		w = string(letters[:min(len(letters), indexedLetters)])
		inRow = append(inRow, quoted("", w)+":*")
		switch {
		case len(letters) <= indexedBeginning:
			inIndex = append(inIndex, quoted("^", w))
		case i < len(alike) && len(alike[i]) > 0:
			var any []string
			for _, w := range alike[i] {
				any = append(any, quoted("", w))
			}
			inIndex = append(inIndex, "("+strings.Join(any, " | ")+")")
		case len(words) > 1 || len(anyTag) > 0 || skillID != "":
			inIndex = append(inIndex, quoted("^", string(letters[:indexedBeginning])))
			loose = true
		default:
			inIndex = append(inIndex, quoted("", w)+":*")
		}
	}
	for _, t := range anyTag {
		tags = append(tags, quoted("#", t))
	}
	var terms []string
	if len(tags) > 0 {
		terms = append(terms, "("+strings.Join(tags, " | ")+")")
	}
	if skillID != "" {
		terms = append(terms, quoted("!", skillID))
	}
	if category != "" {
		terms = append(terms, quoted("=", category))
	}
	return strings.Join(append(inIndex, terms...), " & "), strings.Join(append(inRow, terms...), " & "), mark, loose
}

// lost tells that the connection is of no more use: it broke, or the server goes away.
func lost(err error) bool {
	if errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return true
	}
	var op *net.OpError
	var connect *pgconn.ConnectError
	if errors.As(err, &op) || errors.As(err, &connect) {
		return true
	}
	c := code(err)
	return strings.HasPrefix(c, "08") || c == "57P01" || c == "57P02" || c == "57P03" || err != nil && strings.Contains(err.Error(), "conn closed")
}

// code is PostgreSQL's error code, "" for an error of someone else's.
func code(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// unreachable says in one line why there is no database.
func unreachable(err error) error {
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) {
		cause := err
		for inner := errors.Unwrap(cause); inner != nil; inner = errors.Unwrap(cause) {
			cause = inner
		}
		line, _, _ := strings.Cut(cause.Error(), "\n") // one for each address that was tried
		return fmt.Errorf("the database at %s:%d cannot be used: %s", connect.Config.Host, connect.Config.Port, line)
	}
	return err
}
