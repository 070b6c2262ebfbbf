package ledgertest

import (
	"context"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/ports"
)

// naive is a ledger as it is often written: it reads a balance, thinks, and writes another one.
type naive struct {
	ports.Store
	ports.LedgerStore
	bug string

	mu       sync.Mutex
	balances map[string]ledger.Balance
	keys     map[string]bool
	entries  []ledger.Booked
	unit     sync.Mutex // held by a unit of work, unless that is the bug
}

func newNaive(bug string) *naive {
	return &naive{Store: memory.New(), bug: bug, balances: map[string]ledger.Balance{}, keys: map[string]bool{}}
}

func (s *naive) Read() ports.Reads { return ports.Reads{Ledger: s, Audit: naiveAudit{s: s}} }

func (s *naive) Update(ctx context.Context, fn func(context.Context, ports.Tx) error) error {
	if s.bug != bugReadModifyWrite {
		s.unit.Lock()
		defer s.unit.Unlock()
	}
	return fn(ctx, ports.Tx{Ledger: s})
}

// The bugs.
const (
	bugReadModifyWrite = "a balance is read, changed and written back"
	bugNoFloor         = "a balance is not checked"
	bugTwice           = "a key is booked twice"
	bugStaleAfter      = "the balance after is that before"
	bugFee             = "the fee is rounded down"
	bugOverdraftAsDebt = "anyone may be in debt"
	bugLostTotal       = "a total is forgotten"
)

func (s *naive) locked(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
}

func (s *naive) Post(_ context.Context, t ledger.Transfer) error {
	if err := t.Validate(); err != nil {
		return err
	}
	if s.bug == bugFee && strings.HasPrefix(t.Key, "settle:") {
		for i, p := range t.Postings {
			if p.Type == ledger.TypePlatformFee && p.Amount > 1 {
				t.Postings[i].Amount--
				t.Postings[i-1].Amount++
			}
		}
	}
	duplicate := false
	s.locked(func() { duplicate = s.keys[t.Key] && s.bug != bugTwice })
	if duplicate {
		return ports.ErrDuplicate
	}
	after := map[string]credits.Amount{}
	next := map[string]ledger.Balance{}
	for _, d := range t.Deltas() {
		var b ledger.Balance
		s.locked(func() { b = s.balances[d.UserID] })
		b.UserID = d.UserID
		runtime.Gosched()
		n, err := b.Apply(d)
		switch {
		case err != nil && (s.bug == bugNoFloor || s.bug == bugOverdraftAsDebt && b.Available > 0):
			n = plus(b, d)
		case err != nil:
			return err
		}
		if s.bug == bugLostTotal && d.Spent != 0 {
			n.Spent, n.Earned = b.Spent, n.Earned-d.Spent // which keeps the equation
		}
		next[d.UserID], after[d.UserID] = n, n.Available
		if s.bug == bugStaleAfter {
			after[d.UserID] = b.Available
		}
	}
	s.locked(func() {
		maps.Copy(s.balances, next)
		s.keys[t.Key] = true
		for _, e := range t.Entries(after) {
			s.entries = append(s.entries, ledger.Booked{Seq: int64(len(s.entries) + 1), Entry: e, Key: t.Key, TransferAt: t.At})
		}
	})
	return nil
}

func (s *naive) Balance(_ context.Context, id string) (b ledger.Balance, err error) {
	s.locked(func() { b = s.balances[id] })
	b.UserID = id
	return b, nil
}

func (s *naive) sum(ok func(ledger.Booked) bool) (sum credits.Amount) {
	s.locked(func() {
		for _, e := range s.entries {
			if ok(e) {
				sum += e.Amount
			}
		}
	})
	return sum
}

func (s *naive) AccountTotal(_ context.Context, a ledger.Account) (credits.Amount, error) {
	return s.sum(func(e ledger.Booked) bool { return e.Account == a }), nil
}

func (s *naive) Imbalance(context.Context) (credits.Amount, error) {
	return s.sum(func(ledger.Booked) bool { return true }), nil
}

func (s *naive) Transactions(_ context.Context, id string, _ ledger.EntryType, _ ports.Page) (all []ledger.Entry, n int, err error) {
	s.locked(func() {
		for _, e := range slices.Backward(s.entries) {
			if e.Account == ledger.Available(id) {
				all = append(all, e.Entry)
			}
		}
	})
	return all, len(all), nil
}

type naiveAudit struct {
	ports.LedgerAudit
	s *naive
}

func (a naiveAudit) Snapshot(ctx context.Context, fn func(context.Context, ports.LedgerSnapshot) error) error {
	return fn(ctx, naiveSnapshot{s: a.s})
}

type naiveSnapshot struct {
	ports.LedgerSnapshot
	s *naive
}

func (n naiveSnapshot) Entries(_ context.Context, after int64, limit int) ([]ledger.Booked, error) {
	rest := n.s.entries[after:]
	return rest[:min(limit, len(rest))], nil
}

func (naiveSnapshot) Seals(context.Context, int64, int) ([]ledger.Seal, error) { return nil, nil }

func (n naiveSnapshot) Balances(_ context.Context, after string, _ int) (out []ledger.Balance, err error) {
	for _, id := range slices.Sorted(maps.Keys(n.s.balances)) {
		if id > after {
			out = append(out, n.s.balances[id])
		}
	}
	return out, nil
}

// Each bug is found by the checks that are meant to, and what has none by none of them.
func TestPlantedBugsAreFound(t *testing.T) {
	model := func(ctx context.Context, s ports.Store) error {
		r := rand.New(rand.NewPCG(1, 1))
		for range 40 {
			if err := run(ctx, s, func(n int, _ string) int { return r.IntN(n) }); err != nil {
				return err
			}
		}
		return Audit(ctx, s)
	}
	many := func(ctx context.Context, s ports.Store) error {
		_, err := Writers(ctx, s, 300*time.Millisecond)
		return err
	}
	linear := func(ctx context.Context, s ports.Store) error {
		for range 10 {
			if err := Linearizable(ctx, s, 8, 40); err != nil {
				return err
			}
		}
		return nil
	}
	for bug, found := range map[string][3]bool{ // by the model, by many writers, by the histories of one account
		"":                 {},
		bugReadModifyWrite: {false, true, true},
		bugNoFloor:         {true, true, true},
		bugTwice:           {true, true, false},
		bugStaleAfter:      {true, true, false},
		bugFee:             {true, true, false},
		bugOverdraftAsDebt: {true, true, true},
		bugLostTotal:       {true, true, false},
	} {
		t.Run(bug, func(t *testing.T) {
			for i, check := range []func(context.Context, ports.Store) error{model, many, linear} {
				err := check(t.Context(), newNaive(bug))
				name := []string{"model", "writers", "linearizability"}[i]
				if found[i] {
					require.Error(t, err, name)
				} else {
					require.NoError(t, err, name)
				}
			}
		})
	}
}
