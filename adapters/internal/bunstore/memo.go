package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/domain/trust"
	"github.com/nexus-protocol/nexus/ports"
)

// memo is what the units of one transaction know of rows that many of them change: the money of users, and the evidence
// of agents. The first that needs such a row locks and reads it; the others go on from what it left, and before the commit
// each row is written once, as the last of them left it. So the units of a group do not wait for each other's statements
// over a row that all of them want.
//
// What is in it is as good as written: it is gone with the transaction, and those who read such a row in the transaction
// look here first.
type memo struct {
	mu       sync.Mutex
	profiles map[string]*keptProfile // by agent
	pairs    map[pairKey]*keptPair
	purses   map[string]*purse // by user
	keys     map[string]bool   // of the transfers in booked
	booked   []booking         // in the order of booking
	agents   map[string]standing
	written  int // how often it has begun anew
}

// standing is what is read of an agent to know whether the rest of it is known. It is that of the first look.
type standing struct {
	version      int64
	score, bound float64
	latency      sql.NullInt64
	featured     int
}

// keptProfile is what is known of an agent. ok is false where there is no evidence yet.
type keptProfile struct {
	profile     trust.Profile
	ok, changed bool
}

type pairKey struct{ agentID, userID string }

type keptPair struct {
	ownerUserID string
	pair        trust.Pair
	changed     bool
}

// purse is a user's money.
type purse struct {
	balance ledger.Balance
	read    ledger.Balance // what was in it when it was read
}

// change is what has happened to the money since it was read.
func (p *purse) change() ledger.Balance {
	b, r := p.balance, p.read
	return ledger.Balance{
		UserID: b.UserID, Available: b.Available - r.Available, Held: b.Held - r.Held, Granted: b.Granted - r.Granted, Purchased: b.Purchased - r.Purchased,
		Earned: b.Earned - r.Earned, Spent: b.Spent - r.Spent, Reversed: b.Reversed - r.Reversed,
	}
}

type booking struct {
	transfer ledger.Transfer
	entries  []ledger.Entry
}

func newMemo() *memo {
	return &memo{profiles: map[string]*keptProfile{}, pairs: map[pairKey]*keptPair{}, purses: map[string]*purse{}, keys: map[string]bool{}, agents: map[string]standing{}}
}

// write returns what is to be written, in the one order of locks, and begins anew. Each call must change its rows.
func (m *memo) write() []*call {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*call
	var scores []*call
	for _, id := range slices.Sorted(maps.Keys(m.profiles)) {
		if p := m.profiles[id]; p.changed {
			out = append(out, saveProfile(p.profile))
			scores = append(scores, saveScore(p.profile))
		}
	}
	for k, p := range m.pairs {
		if p.changed {
			out = append(out, savePair(k.agentID, k.userID, p.ownerUserID, p.pair))
		}
	}
	out = append(out, scores...)
	for _, id := range slices.Sorted(maps.Keys(m.purses)) {
		if d := m.purses[id].change(); d != (ledger.Balance{UserID: id}) {
			out = append(out, changePurse(d))
		}
	}
	var entries []any
	for _, b := range m.booked {
		out = append(out, insertTransfer(b.transfer))
		entries = appendEntries(entries, b.entries)
	}
	out = append(out, qInsertEntries.calls(entries)...)
	m.profiles, m.pairs, m.purses = map[string]*keptProfile{}, map[pairKey]*keptPair{}, map[string]*purse{}
	m.keys, m.booked, m.agents = map[string]bool{}, nil, map[string]standing{}
	m.written++
	return out
}

// post books a transfer. One statement for each user whose money was not looked at yet, sent together, and two more for one
// who has no account.
func (m *memo) post(ctx context.Context, c *session, t ledger.Transfer) error {
	deltas := t.Deltas()
	if err := m.open(ctx, c, deltas); err != nil {
		return c.store.wrap(err, "read balances")
	}
	err := m.book(t, deltas)
	if err == nil {
		c.dirty = true
		return nil
	}
	if !errors.Is(err, ports.ErrDuplicate) { // a repeat is told as one, also where it could not be paid
		if repeat := booked(ctx, c, t.Key); repeat != nil {
			return repeat
		}
	}
	return fmt.Errorf("transfer %s: %w", t.Key, err)
}

// open reads the money of users, but for what is known. Who has no account gets an empty one: what is not there cannot be
// kept from changing.
func (m *memo) open(ctx context.Context, c *session, of []ledger.Balance) error {
	reads, keep := m.purseReads(of)
	if len(reads) == 0 {
		return nil
	}
	if err := c.send(ctx, reads...); err != nil {
		return err
	}
	var missing []*call
	for _, k := range reads {
		if k.rows == 0 {
			missing = append(missing, &call{statement: qOpenAccount, args: k.args}, k)
		}
	}
	if len(missing) > 0 {
		if err := c.send(ctx, missing...); err != nil {
			return err
		}
	}
	keep()
	return nil
}

// purseReads are the calls that lock and read the money of users of whom it is not known; keep keeps what they found.
func (m *memo) purseReads(of []ledger.Balance) (reads []*call, keep func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := make([]purse, 0, len(of))
	for _, d := range of {
		if m.purses[d.UserID] == nil {
			found = append(found, purse{balance: ledger.Balance{UserID: d.UserID}})
			p := &found[len(found)-1]
			reads = append(reads, qLockBalance.first([]any{d.UserID}, balanceDest(&p.balance)...))
		}
	}
	return reads, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		for i := range found {
			p := &found[i]
			if reads[i].rows > 0 && m.purses[p.balance.UserID] == nil { // else another unit has read it at the same time
				p.read = p.balance
				m.purses[p.balance.UserID] = p
			}
		}
	}
}

// book changes what is known of the money, if all of it can be.
func (m *memo) book(t ledger.Transfer, deltas []ledger.Balance) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.keys[t.Key] {
		return ports.ErrDuplicate
	}
	next := make([]ledger.Balance, len(deltas))
	after := make(map[string]credits.Amount, len(deltas))
	for i, d := range deltas {
		var err error
		if next[i], err = m.purses[d.UserID].balance.Apply(d); err != nil {
			return err
		}
		after[d.UserID] = next[i].Available
	}
	for i, d := range deltas {
		m.purses[d.UserID].balance = next[i]
	}
	m.keys[t.Key] = true
	m.booked = append(m.booked, booking{t, t.Entries(after)})
	return nil
}

// balance is a user's money as it is known; ok is false if it is not.
func (m *memo) balance(userID string) (b ledger.Balance, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.purses[userID]; p != nil {
		return p.balance, true
	}
	return b, false
}

// lock is trusts.Lock: it reads what is not known, and waits until no other unit has the agent's evidence.
func (m *memo) lock(ctx context.Context, c *session, agentID, requesterID string) (p trust.Profile, d trust.Dealings, ok bool, err error) {
	var calls []*call
	_, _, known := m.profile(agentID)
	var read keptProfile
	var profile *call
	if !known {
		profile = profileInto(qProfile, agentID, &read.profile)
		calls = append(lockEvidence(c, agentID), profile)
	}
	if requesterID != "" {
		var ok bool
		if d, ok = c.dealingsAhead(agentID, requesterID); !ok {
			calls = append(calls, dealings(agentID, requesterID, &d))
		}
	}
	if len(calls) > 0 {
		if err := c.send(ctx, calls...); err != nil {
			return p, d, false, c.store.wrap(err, "read trust profile")
		}
	}
	if err := c.turn(row{"evidence", agentID}); err != nil {
		return p, d, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	kept := m.profiles[agentID]
	if kept == nil {
		read.ok = profile.rows > 0
		kept = &read
		m.profiles[agentID] = kept
	}
	if requesterID != "" {
		if pair := m.pairs[pairKey{agentID, requesterID}]; pair != nil {
			d.OwnerUserID, d.Pair = pair.ownerUserID, pair.pair
		} else {
			m.pairs[pairKey{agentID, requesterID}] = &keptPair{ownerUserID: d.OwnerUserID, pair: d.Pair}
		}
	}
	return kept.profile, d, kept.ok, nil
}

// sawEvidence keeps what was read of an agent that is locked, unless another unit has read it at the same time.
func (m *memo) sawEvidence(agentID string, p trust.Profile, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.profiles[agentID] == nil {
		m.profiles[agentID] = &keptProfile{profile: p, ok: ok}
	}
}

// generation changes when what was known has been written.
func (m *memo) generation() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.written
}

// settle keeps a profile that was locked, and lets the next unit have it.
func (m *memo) settle(c *session, p trust.Profile, d trust.Dealings) {
	m.mu.Lock()
	m.profiles[p.AgentID] = &keptProfile{p, true, true}
	if d.UserID != "" {
		m.pairs[pairKey{p.AgentID, d.UserID}] = &keptPair{d.OwnerUserID, d.Pair, true}
	}
	m.mu.Unlock()
	c.dirty = true
	c.endTurn(row{"evidence", p.AgentID})
}

// profile is what is known of an agent; found is false if nothing was read of it.
func (m *memo) profile(agentID string) (p trust.Profile, ok, found bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if kept := m.profiles[agentID]; kept != nil {
		return kept.profile, kept.ok, true
	}
	return p, false, false
}

// agent is what was read of an agent; ok is false if nothing was, or it was changed since.
func (m *memo) agent(id string) (s standing, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok = m.agents[id]
	return s, ok
}

func (m *memo) sawAgent(id string, s standing) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.agents[id] = s
}

func (m *memo) forgetAgent(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.agents, id)
}
