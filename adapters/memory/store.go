// Package memory has every port in memory, with nothing beyond the standard library: for tests, for trying things out,
// and for embedders who keep no state. What it promises is what the other adapters promise, but for surviving the process.
package memory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nexus-protocol/nexus/domain/billing"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/scheduler"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/domain/trust"
	"github.com/nexus-protocol/nexus/ports"
)

var _ ports.Store = (*Store)(nil)

// Store is a ports.Store in memory. One Update runs at a time; reads wait for it and see only what it committed.
type Store struct {
	mu     sync.RWMutex
	replay bool

	users     table[identity.User]
	emails    table[string] // → user
	sessions  table[identity.Session]
	keys      table[identity.APIKey]
	hashes    table[string] // → key
	agents    table[registry.Agent]
	tasks     table[task.Task]
	open      table[struct{}] // tasks that have not ended
	events    table[[]task.Event]
	balances  table[ledger.Balance]
	booked    table[struct{}] // keys of transfers
	entries   []ledger.Booked
	seals     []ledger.Seal
	totals    table[credits.Amount] // by account
	profiles  table[trust.Profile]
	history   table[[]trust.Event]
	pairs     table[dealt]       // by agent and requester
	raters    table[trust.Rater] // by user
	paces     table[trust.Pace]  // by skill
	once      table[trust.Event] // by task and type
	jobs      table[ports.Job]
	answers   table[ports.KeptAnswer]
	callBacks table[calledBack] // by task
	callKey   table[[]byte]     // of one row
	push      table[task.PushConfig]
	workflows table[scheduler.Workflow]
	runs      table[scheduler.Run]
	runLogs   table[[]scheduler.Event]

	purchases table[billing.Purchase]
	payments  table[billing.Payment]
	told      table[ports.KeptEvent]
	grants    table[billing.Grant]
	looked    table[int64] // how far, for busy users
	secrets   table[[]byte]

	identities table[identity.Identity]
	subjects   table[string] // by issuer and subject → identity
	tokens     table[identity.Token]
	letters    table[identity.Letter]
}

// Option is a setting of a Store.
type Option func(*Store)

// WithReplay makes every Update run its function twice, the first time for nothing, to expose functions that act
// outside of their transaction.
func WithReplay() Option { return func(s *Store) { s.replay = true } }

// New makes an empty store.
func New(opts ...Option) *Store {
	s := &Store{}
	for _, o := range opts {
		o(s)
	}
	return s
}

type insideKey struct{}

// errReadInside is returned for a read of committed state inside an Update, which would wait for itself.
var errReadInside = errors.New("memory: Read inside Update; read through the transaction")

// Update implements ports.Store.
func (s *Store) Update(ctx context.Context, fn func(ctx context.Context, tx ports.Tx) error) error {
	if ctx.Value(insideKey{}) == s {
		return ports.ErrNestedUpdate
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.replay {
		if err := s.run(ctx, fn, false); err != nil {
			return err
		}
	}
	return s.run(ctx, fn, true)
}

func (s *Store) run(ctx context.Context, fn func(ctx context.Context, tx ports.Tx) error, keep bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	t := &txn{Store: s}
	committed := false
	defer func() { // also when fn panics
		if !committed {
			t.rollback()
		}
	}()
	v := view{s: s, tx: t}
	err := fn(context.WithValue(ctx, insideKey{}, s), ports.Tx{
		Users: users{v}, Sessions: sessions{v}, Keys: keys{v}, Agents: agents{v}, Tasks: tasks{v}, Ledger: books{v}, Trust: trusts{v}, Jobs: jobs{v}, Answers: answers{v},
		Workflows: workflows{v}, Runs: runs{v}, Purchases: purchases{v}, Payments: payments{v}, Grants: grants{v}, Usage: usage{v}, Secrets: secrets{v}, CallBacks: callBacks{v}, Push: push{v},
		Identities: identities{v}, Tokens: tokens{v}, Letters: letters{v},
	})
	if err == nil {
		err = ctx.Err()
	}
	committed = err == nil && keep
	return err
}

// Read implements ports.Store.
func (s *Store) Read() ports.Reads {
	v := view{s: s}
	return ports.Reads{
		Users: users{v}, Sessions: sessions{v}, Keys: keys{v}, Agents: agents{v}, Tasks: tasks{v}, Ledger: books{v}, Trust: trusts{v}, Jobs: jobs{v}, Answers: answers{v},
		Workflows: workflows{v}, Runs: runs{v}, Stats: stats{v}, Earnings: books{v}, Audit: audits{v}, TaskLogs: tasks{v}, RunLogs: runs{v}, Purchases: purchases{v}, Grants: grants{v}, Usage: usage{v}, Secrets: secrets{v}, CallBacks: callBacks{v}, Push: push{v},
		Statements: accounts{v},
		Identities: identities{v}, Tokens: tokens{v}, Letters: letters{v},
	}
}

// Ping implements ports.Store.
func (s *Store) Ping(ctx context.Context) error { return ctx.Err() }

// txn is a running Update: how to take back what it did.
type txn struct {
	*Store
	undo []func()
}

func (t *txn) rollback() {
	for i := len(t.undo) - 1; i >= 0; i-- {
		t.undo[i]()
	}
}

// view is the state as a transaction sees it (tx is set) or as it is committed.
type view struct {
	s  *Store
	tx *txn
}

// read takes the lock for a read of committed state. Inside a transaction the lock is held already.
func (v view) read(ctx context.Context) (unlock func(), err error) {
	if v.tx != nil {
		return func() {}, ctx.Err()
	}
	if ctx.Value(insideKey{}) == v.s {
		return nil, errReadInside
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	v.s.mu.RLock()
	return v.s.mu.RUnlock, nil
}

// table is rows by key. Rows are never changed in place, only replaced.
type table[V any] struct{ rows map[string]V }

func (t *table[V]) get(key string) (V, bool) {
	v, ok := t.rows[key]
	return v, ok
}

func (t *table[V]) put(tx *txn, key string, v V) {
	if t.rows == nil {
		t.rows = map[string]V{}
	}
	old, had := t.rows[key]
	t.rows[key] = v
	tx.undo = append(tx.undo, func() {
		if had {
			t.rows[key] = old
		} else {
			delete(t.rows, key)
		}
	})
}

func (t *table[V]) del(tx *txn, key string) {
	old, had := t.rows[key]
	if !had {
		return
	}
	delete(t.rows, key)
	tx.undo = append(tx.undo, func() { t.rows[key] = old })
}

// stretch cuts a page out of a sorted list.
func stretch[V any](all []V, p ports.Page) []V {
	from := min(p.Offset, len(all))
	return all[from : from+min(p.Limit, len(all)-from)]
}

// newest is a page of what was found, newest first (ties by id, descending), as copies.
func newest[V any](found []V, p ports.Page, key func(V) (created time.Time, id string), clone func(V) V) []V {
	slices.SortFunc(found, func(a, b V) int {
		madeA, idA := key(a)
		madeB, idB := key(b)
		return cmp.Or(madeB.Compare(madeA), strings.Compare(idB, idA))
	})
	out := slices.Clone(stretch(found, p))
	for i := range out {
		out[i] = clone(out[i])
	}
	return out
}

// grow appends events to a log, whose numbers must not come twice.
func grow[E any](log, events []E, seq func(E) int64, id string) ([]E, error) {
	log = slices.Clip(log)
	for _, e := range events {
		if n := len(log); n > 0 && seq(log[n-1]) >= seq(e) {
			return nil, fmt.Errorf("event %d of %s: %w", seq(e), id, ports.ErrDuplicate)
		}
		log = append(log, e)
	}
	return log, nil
}
