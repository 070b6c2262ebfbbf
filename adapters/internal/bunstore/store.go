// Package bunstore is the SQL store. What the databases share is here; what differs between them is named in Dialect.
//
// Statements that every task needs are SQL text, prepared once a connection and given their values as parameters; Bun
// builds the others. The comments name the number of statements. Where units of work run one after the other each is a
// round trip, and a unit adds its share of BEGIN and COMMIT, and two for a savepoint when it shares them with others.
// In lockstep those that a step of a unit sends together are one round trip, and so are those of all other units that
// wait at that time; inserts, the saving of tasks and the end of jobs go with what comes next. Equal statements are then
// one, whatever their number says, money and evidence are read and written once for all units of a transaction, and the
// COMMIT goes with the last statements where nothing has to be looked at in between.
package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/uptrace/bun"

	"github.com/nexus-protocol/nexus/ports"
)

var _ ports.Store = (*Store)(nil)

// ErrClosed is returned by a store that has been closed.
var ErrClosed = errors.New("store: closed")

// Dialect is all that differs between the databases, but for the schema.
type Dialect struct {
	Name  string
	Begin string // starts a transaction that may write
	// Writer is what a connection for writing is told before anything else; "" is nothing.
	Writer string
	// Lock is what a SELECT ends with to keep its row from changing; "" where a transaction that may write is alone.
	Lock string
	// LockUsers keeps others from adding users until the transaction ends; "" where it is alone.
	LockUsers string
	Numbered  bool // parameters are $1, $2 … and not ?
	Prepare   bool // the connections keep prepared statements
	// Local says that statements run in this process, so that a read of one row is not worth interrupting.
	Local bool
	// Skip is what a SELECT ends with to pass over rows that others have locked, and to lock the rest; "" where a
	// transaction that may write is alone.
	Skip string
	// Pipeline runs statements on a connection in one round trip. The first error ends it; the transaction is then lost.
	// Where it is set the units of work of a group run in lockstep, and this is how their statements are sent.
	Pipeline func(conn *sql.Conn, calls []Call) error

	// Bulk says that a Pipeline takes arrays as parameters, so that equal statements of several units become one.
	Bulk bool
	// Exact is a statement as one that fails, by an error that Short tells, unless it changes as many rows as one more parameter
	// says. Where it is set the COMMIT can go with the last statements, as nothing has to be looked at in between.
	Exact func(text string) string
	Short func(error) bool
	// Clock is a SELECT of the server's time in microseconds; "" where there is no server.
	Clock string

	// Logs joins to each row of p, a task's id and a sequence number, the rows of task_events that come after it, as e: by
	// the key for each, in whatever way the database has to be told so.
	Logs string

	// Duplicate tells a violated uniqueness.
	Duplicate func(error) bool
	// Retryable tells an error after which the same transaction may well succeed.
	Retryable func(error) bool
	// Transfers joins the transfer x of each entry e, if there is one, by its id; there are few entries, and many transfers.
	Transfers string
	// Snapshot begins a transaction that reads what was committed when it first read, and holds up nobody.
	Snapshot string
	// NewestEntry reads the newest number that was drawn for an entry of the ledger, committed or not; NextWriter one that
	// is above those of all transactions that have written something by now, and OldestWriter the lowest of those that have
	// not ended, or NextWriter's. "" where there is one writer.
	NewestEntry, NextWriter, OldestWriter string
	// Lost tells that the connection is gone. A COMMIT that ends so may have happened.
	Lost func(error) bool

	// What of agent_moves is seen. Mark is an expression of a number that all changes which are not seen yet have at least, Seen a text that says
	// all, and Unseen a condition on a change's number and an earlier Seen, its parameter.
	Mark, Seen string
	Unseen     string // the number is {number}
	// Text narrows discovery to agents that may match all words, by means of an index that is joined to agents AS a. It may let
	// too many pass. "" is all of them. nil: there is no such index.
	Text func(words []string) (from, where string, args []any)
	// TextIsExact is up to how many letters of a word Entries lets none pass that does not match.
	TextIsExact int

	// Index is a statement that brings an index of agents up to date with what one of them, its parameter, is found by; ""
	// where all indexes see to themselves.
	Index string
	// Cached is what goes before the parameters of a statement whose plan the connection is to keep; nil for nothing.
	Cached []any
	// Entries asks for all words and terms, in the band of trust whose two digits take the place of mark: index asks the index of
	// agents, agent_index, and row a row of it. alike has, for each word, all that begin like it, or none where they are not known. What
	// row is for one word, with A, B or D after it, asks for it in the name, the skills or the description. loose: what the index finds has
	// to be asked for row too. nil: there is no such index.
	Entries func(words []string, alike [][]string, anyTag []string, skillID, category string) (index, row, mark string, loose bool)
	// Beginning is up to how many letters of a word Entries needs nothing alike.
	Beginning int
}

// Config is what a store is made of. Write and Read may be the same.
type Config struct {
	Dialect Dialect
	Write   *bun.DB
	Read    *bun.DB
	Writers int // transactions at a time
	Readers int // reads at a time
	// Group is how many units of work may share a commit; default 256. Where writers lock rows against each other, and
	// there is no Pipeline, it must be 1: units that are each careful about the order of their locks are not so together.
	Group int
	// Market is up to how many agents are searched in memory; 0: none.
	Market int
	// Tracer, if set, gets a span of every statement that is part of a trace.
	Tracer ports.Tracer
	// Commit, if set, stands around every COMMIT. Tests put faults there.
	Commit func(commit func() error) error
}

// Store is a ports.Store over SQL.
type Store struct {
	cfg    Config
	sql    []string // of each statement, in this dialect
	exact  []string // the same, where it is to change just so many rows
	tables []uint64 // that it touches, by statement
	// What is said of each statement in traces, and of the database; empty without a tracer.
	summaries []summary
	system    string
	reads     ports.Reads
	readers   *readers
	agents    agentCache
	market    *market
	plans     planCache
	counts    struct{ commits, roundTrips, remembered, markets atomic.Int64 }

	queue   chan *request
	writers sync.WaitGroup
	closing chan struct{} // nothing more is taken
	stopped chan struct{} // all writers have ended
	once    sync.Once

	readUse, writeUse gauge
}

// New makes a store and starts its writers. The schema must be there.
func New(cfg Config) *Store {
	if cfg.Group == 0 {
		cfg.Group = maxGroup
	}
	s := &Store{
		cfg: cfg, queue: make(chan *request, maxGroup), closing: make(chan struct{}), stopped: make(chan struct{}),
	}
	s.sql, s.exact, s.tables = make([]string, 1+len(statements)), make([]string, 1+len(statements)), make([]uint64, 1+len(statements))
	known := map[string]int{}
	for _, q := range statements {
		s.sql[q.id] = cfg.Dialect.compile(q.text)
		if cfg.Dialect.Exact != nil && !q.reads {
			s.exact[q.id] = cfg.Dialect.compile(cfg.Dialect.Exact(q.text))
		}
		s.tables[q.id] = tablesOf(q.text, known)
	}
	if cfg.Tracer != nil {
		s.system = map[string]string{"postgres": "postgresql"}[cfg.Dialect.Name]
		if s.system == "" {
			s.system = cfg.Dialect.Name
		}
		for _, text := range s.sql {
			s.summaries = append(s.summaries, summarize(text))
		}
		s.cfg.Read, s.cfg.Write = cfg.Read.WithQueryHook(hook{s}), cfg.Write.WithQueryHook(hook{s})
	}
	s.readers = newReaders(s, cfg.Readers)
	s.market = newMarket(s, cfg.Market)
	s.reads = newViews(s.readers).reads()
	s.reads.Audit = &audits{s.readers, &horizon{}}
	s.reads.Stats = &stats{s.readers, &totals{now: time.Now}}
	for range cfg.Writers {
		w := &writer{store: s}
		s.writers.Go(w.run)
	}
	go func() {
		s.writers.Wait()
		close(s.stopped)
	}()
	return s
}

// Close lets the transactions that run end, and refuses new ones. It leaves the database handles open.
func (s *Store) Close() error {
	s.once.Do(func() {
		close(s.closing)
		s.market.stop()
		<-s.stopped
		s.readers.close()
	})
	return nil
}

// Read implements ports.Store.
func (s *Store) Read() ports.Reads { return s.reads }

// Stats counts what a store has asked of its database since it was opened.
type Stats struct {
	Commits    int64 // of transactions, each of one unit of work or more
	RoundTrips int64 // in which statements were sent, BEGIN and COMMIT among them; not those that prepare one for the first time
	Remembered int64 // searches that were answered in memory
	Markets    int64 // times that the agents were loaded for them
}

// Stats returns the counts up to now.
func (s *Store) Stats() Stats {
	return Stats{Commits: s.counts.commits.Load(), RoundTrips: s.counts.roundTrips.Load(), Remembered: s.counts.remembered.Load(), Markets: s.counts.markets.Load()}
}

// Ping implements ports.Store: it reads from the schema. One statement.
func (s *Store) Ping(ctx context.Context) error {
	return s.readers.do(ctx, func(ctx context.Context, c *session) error {
		var none int
		err := c.row(ctx, qPing, nil, &none)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
}

var qPing = hot(`SELECT 1 FROM users LIMIT 1`)

// compile puts the dialect's words into a statement.
func (d Dialect) compile(text string) string {
	text = strings.NewReplacer("{lock}", d.Lock, "{skip}", d.Skip, "{logs}", d.Logs, "{transfers}", d.Transfers, "{index}", d.Index, "{mark}", d.Mark, "{seen}", d.Seen,
		"{unseen renewed}", strings.ReplaceAll(d.Unseen, "{number}", "renewed"), "{unseen moved}", strings.ReplaceAll(d.Unseen, "{number}", "moved")).Replace(text)
	if !d.Numbered {
		return text
	}
	return numbered(text)
}

// numbered makes parameters of question marks.
func numbered(text string) string {
	var out strings.Builder
	n := 0
	for _, c := range text { // no statement has a question mark in a literal
		if c != '?' {
			out.WriteRune(c)
			continue
		}
		n++
		out.WriteString("$" + strconv.Itoa(n))
	}
	return out.String()
}

// wrap says what an error of the database was about, and classifies it.
func (s *Store) wrap(err error, what string) error {
	switch {
	case err == nil:
		return nil
	case s.cfg.Dialect.Duplicate(err):
		return fmt.Errorf("%s: %w", what, errors.Join(ports.ErrDuplicate, err))
	default:
		return fmt.Errorf("%s: %w", what, err)
	}
}
