package bunstore

import (
	"context"
	"slices"

	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/domain/scheduler"
	"github.com/nexus-protocol/nexus/domain/trust"
	"github.com/nexus-protocol/nexus/ports"
)

// Foresight. A unit in lockstep that says what it is going to lock gets it rank by rank as all others do, but without coming
// back in between; and in one round trip, when all units of the group are at that point. What is known together goes into
// the memo, the rest is kept for the unit until it asks.

type foresight struct{ access }

// ahead is what was read for a unit before it asked.
type ahead struct {
	tasks    map[string]taskRow
	runs     map[string]scheduler.Run
	dealings map[pairKey]trust.Dealings
	memory   int // the memo's generation in which the dealings were read
}

// Expect implements ports.Foresight. One round trip in lockstep, up to one a rank where others are in between; none elsewhere.
func (v foresight) Expect(ctx context.Context, e ports.Expected) error {
	return v.do(ctx, func(ctx context.Context, c *session) error {
		if c.lane == nil || c.memo == nil {
			return nil
		}
		if err := c.expect(ctx, e); err != nil {
			return c.store.wrap(err, "read ahead")
		}
		return nil
	})
}

func (c *session) expect(ctx context.Context, e ports.Expected) error {
	var calls []*call
	var done []func() // with what was read
	if len(c.lane.behind) == 0 {
		calls, done = c.expectLocks(e)
	}
	for _, id := range e.AgentIDs {
		if _, seen := c.memo.agent(id); !seen {
			var s standing
			k := qAgentVersion.first([]any{id}, &s.version, &s.score, &s.bound, &s.latency, &s.featured)
			calls = append(calls, k)
			done = append(done, func() {
				if k.rows > 0 {
					c.memo.sawAgent(id, s)
				}
			})
		}
	}
	if len(calls) == 0 {
		return nil
	}
	if calls[0].rank != unranked {
		c.lane.stages = fresh
	}
	if err := c.send(ctx, calls...); err != nil {
		return err
	}
	for _, keep := range done {
		keep()
	}
	return nil
}

// expectLocks are the calls that lock, in the order of their ranks.
func (c *session) expectLocks(e ports.Expected) (calls []*call, done []func()) {
	c.ahead = ahead{
		tasks: map[string]taskRow{}, runs: map[string]scheduler.Run{}, dealings: map[pairKey]trust.Dealings{}, memory: c.memo.generation(),
	}
	if id := e.TaskID; id != "" {
		var r taskRow
		k := qLockTask.first([]any{id}, r.dest()...)
		calls = append(calls, k)
		done = append(done, func() {
			if k.rows > 0 {
				c.ahead.tasks[id] = r
			}
		})
	}
	if id := e.RunID; id != "" {
		calls = append(calls, &call{statement: qLockRun, args: []any{id}, visit: func(scan func(...any) error) error {
			r, err := c.store.run(scan)
			c.ahead.runs[id] = r
			return err
		}})
	}
	if id := e.EvidenceOf; id != "" {
		if _, _, known := c.memo.profile(id); !known {
			var p trust.Profile
			k := profileInto(qProfile, id, &p)
			calls = append(append(calls, lockEvidence(c, id)...), k)
			done = append(done, func() { c.memo.sawEvidence(id, p, k.rows > 0) })
		}
		if user := e.RequesterID; user != "" {
			var d trust.Dealings
			calls = append(calls, dealings(id, user, &d))
			done = append(done, func() { c.ahead.dealings[pairKey{id, user}] = d })
		}
	}
	var of []ledger.Balance
	for _, id := range slices.Compact(slices.Sorted(slices.Values(e.UserIDs))) {
		of = append(of, ledger.Balance{UserID: id})
	}
	purses, keep := c.memo.purseReads(of)
	return append(calls, purses...), append(done, keep)
}

// taskAhead is a task that was locked before the unit asked, once.
func (c *session) taskAhead(id string) (taskRow, bool) {
	r, ok := c.ahead.tasks[id]
	delete(c.ahead.tasks, id)
	return r, ok
}

// runAhead is the same of a run.
func (c *session) runAhead(id string) (scheduler.Run, bool) {
	r, ok := c.ahead.runs[id]
	delete(c.ahead.runs, id)
	return r, ok
}

// dealingsAhead is what was read of them, unless units have written such things since.
func (c *session) dealingsAhead(agentID, userID string) (trust.Dealings, bool) {
	d, ok := c.ahead.dealings[pairKey{agentID, userID}]
	delete(c.ahead.dealings, pairKey{agentID, userID})
	return d, ok && c.ahead.memory == c.memo.generation()
}

// How far a unit is with what it expects.
const (
	fresh   = 1 + iota // it has sent nothing
	partway            // it has some of its locks
)

// stage is what a unit sends next: all that it waits for or, of what it expects, what is of the lowest rank.
func (l *lane) stage() []*call {
	if l.stages == 0 {
		return l.calls
	}
	first := unranked
	for i, k := range l.calls {
		if k.rank != unranked && first != unranked && k.rank != first {
			return l.calls[:i]
		}
		if k.rank != unranked {
			first = k.rank
		}
	}
	return l.calls
}

// foreseen are the units that can take all that they expect in one round trip: when all of the group are about to, those
// that want no row of another's.
func (g *lockstep) foreseen(open []*lane) []*lane {
	taken := locks{}
	var batch []*lane
	for _, l := range open {
		if l.stages != fresh {
			return nil
		}
		if !g.blocked(l, l.calls) && taken.take(l.calls) {
			batch = append(batch, l)
		}
	}
	return batch
}
