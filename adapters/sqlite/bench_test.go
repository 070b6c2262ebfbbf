package sqlite_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/internal/markettest"
	"github.com/nexus-protocol/nexus/adapters/sqlite"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/domain/trust"
	"github.com/nexus-protocol/nexus/ports"
)

// Everything here is on a real file, with synchronous=FULL: a commit is on the disk.

var drawn atomic.Int64

func newID() string { return fmt.Sprintf("0198c0de-0000-7000-8000-%012x", drawn.Add(1)) }

var day = time.Date(2026, 3, 6, 12, 0, 0, 0, time.UTC)

func benchAgent(owner string) registry.Agent {
	return registry.Agent{
		ID: newID(), OwnerUserID: owner, Name: "Agent", Description: "Does things", Endpoint: "https://a.example.com", Status: registry.Online,
		Skills: []registry.Skill{{ID: "do", Name: "Do", Description: "does it", Tags: []string{"a", "b"}, InputSchema: json.RawMessage(`{"type":"object"}`)}},
		Tags:   []string{"x"}, Metadata: json.RawMessage("{}"), Price: 100, TrustScore: 47.5, CreatedAt: day, UpdatedAt: day,
	}
}

// bench is a store with users who have money and agents of others.
type bench struct {
	s      *sqlite.Store
	users  []identity.User
	agents []registry.Agent
}

func newBench(b *testing.B, opts ...sqlite.Option) *bench {
	b.Helper()
	s, _ := fresh(b, opts...)
	m := &bench{s: s}
	require.NoError(b, s.Update(b.Context(), func(ctx context.Context, tx ports.Tx) error {
		for i := range 64 {
			u := identity.User{ID: newID(), Email: fmt.Sprint(i, "@example.com"), Role: identity.RoleUser, CreatedAt: day}
			a := benchAgent(u.ID)
			t := ledger.Grant(u.ID, day)
			t.Postings[0].Amount, t.Postings[1].Amount = -1<<40, 1<<40
			if err := tx.Users.Insert(ctx, u); err != nil {
				return err
			}
			if err := tx.Agents.Insert(ctx, a); err != nil {
				return err
			}
			if err := tx.Ledger.Post(ctx, t.Stamp(newID)); err != nil {
				return err
			}
			m.users, m.agents = append(m.users, u), append(m.agents, a)
		}
		return nil
	}))
	return m
}

// cycle is the three units of one task's life: created, claimed, finished and paid.
func (m *bench) cycle(ctx context.Context, n int) error {
	u, a := m.users[n%64], m.agents[(n+1)%64]
	t, events, err := task.New(task.Draft{
		ID: newID(), Title: "A title", Description: "Do it well", Input: json.RawMessage(`{"n":12345678901234567890,"text":"some words"}`),
		RequesterUserID: u.ID, AgentID: a.ID, AgentOwnerID: a.OwnerUserID, Price: a.Price, At: day,
	})
	if err != nil {
		return err
	}
	hold := ledger.Hold{TaskID: t.ID, UserID: u.ID, Amount: t.Price, Title: t.Title}
	jobID := newID()
	err = m.s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
		if _, err := tx.Agents.Get(ctx, a.ID); err != nil {
			return err
		}
		if err := tx.Tasks.Insert(ctx, t, events); err != nil {
			return err
		}
		if err := tx.Jobs.Enqueue(ctx, ports.Job{ID: jobID, Kind: "task.forward", Subject: t.ID, RunAt: day}); err != nil {
			return err
		}
		place, err := hold.Place(day)
		if err != nil {
			return err
		}
		return tx.Ledger.Post(ctx, place.Stamp(newID))
	})
	if err != nil {
		return err
	}
	var job ports.Job
	apply := func(ctx context.Context, tx ports.Tx, cmd task.Command) (task.Task, error) {
		now, err := tx.Tasks.Lock(ctx, t.ID)
		if err != nil {
			return now, err
		}
		if _, err := tx.Agents.Get(ctx, now.AgentID); err != nil {
			return now, err
		}
		next, events, err := task.Apply(now, cmd)
		if err != nil {
			return next, err
		}
		return next, tx.Tasks.Save(ctx, next, events)
	}
	err = m.s.Update(ctx, func(ctx context.Context, tx ports.Tx) (err error) {
		if job, err = tx.Jobs.Claim(ctx, jobID, ports.Lease{Owner: "me", Until: day.Add(time.Minute)}, day); err != nil {
			return err
		}
		_, err = apply(ctx, tx, task.Start{At: day})
		return err
	})
	if err != nil {
		return err
	}
	return m.s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
		ended, err := apply(ctx, tx, task.Complete{At: day, Messages: []task.Message{{ID: "m", Role: task.RoleAgent, Parts: []task.Part{task.TextPart("done")}}}})
		if err != nil {
			return err
		}
		p, d, ok, err := tx.Trust.Lock(ctx, a.ID, u.ID)
		if err != nil {
			return err
		}
		if !ok {
			p = trust.Newcomer(a.ID, day, trust.DefaultWeights())
		}
		source := d.Source(1, false, day)
		d.OwnerUserID, d.Pair = a.OwnerUserID, d.Pair.Dealt(1, 1, source, day)
		next, ev := trust.Apply(p, trust.Evidence{
			Type: trust.TaskCompleted, EventID: newID(), TaskID: t.ID, At: day, Took: time.Second, Limit: t.Timeout, Reason: "completed the task", Source: source,
		}, trust.DefaultWeights())
		if err := tx.Trust.Save(ctx, next, ev, d); err != nil {
			return err
		}
		capture, err := hold.Capture(ended.AgentOwnerID, day)
		if err != nil {
			return err
		}
		if err := tx.Ledger.Post(ctx, capture.Stamp(newID)); err != nil {
			return err
		}
		return tx.Jobs.Finish(ctx, job)
	})
}

// parallel runs b.N calls over so many goroutines.
func parallel(b *testing.B, goroutines int, do func(n int) error) {
	b.Helper()
	var next atomic.Int64
	var all sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu()
	for range goroutines {
		all.Go(func() {
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				if err := do(int(n)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "op/s")
	b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

func BenchmarkStoreTaskCycle(b *testing.B) {
	for _, n := range []int{1, 32, 128} {
		b.Run(fmt.Sprint("goroutines=", n), func(b *testing.B) {
			var commits atomic.Int64
			m := newBench(b, sqlite.WithCommit(func(commit func() error) error {
				commits.Add(1)
				return commit()
			}))
			commits.Store(0)
			parallel(b, n, func(n int) error { return m.cycle(context.Background(), n) })
			b.ReportMetric(float64(commits.Load())/float64(b.N), "commits/op")
		})
	}
}

func BenchmarkStoreTransfer(b *testing.B) {
	for _, accounts := range []int{64, 1} {
		b.Run(fmt.Sprint("accounts=", accounts), func(b *testing.B) {
			m := newBench(b)
			parallel(b, 32, func(n int) error {
				from, to := m.users[n%accounts], m.users[(n+7)%64]
				h := ledger.Hold{TaskID: newID(), UserID: from.ID, Amount: credits.Credit, Title: "x"}
				t, err := h.Capture(to.ID, day)
				if err != nil {
					return err
				}
				t.Postings = []ledger.Posting{
					{Account: ledger.Available(from.ID), Type: ledger.TypeTaskDebit, Amount: -credits.Credit},
					{Account: ledger.Available(to.ID), Type: ledger.TypeTaskCredit, Amount: credits.Credit},
				}
				t = t.Stamp(newID)
				return m.s.Update(context.Background(), func(ctx context.Context, tx ports.Tx) error { return tx.Ledger.Post(ctx, t) })
			})
		})
	}
}

// BenchmarkStoreInsert is the anchor: one row, one unit of work.
func BenchmarkStoreInsert(b *testing.B) {
	for _, n := range []int{1, 16, 32} {
		b.Run(fmt.Sprint("goroutines=", n), func(b *testing.B) {
			m := newBench(b)
			parallel(b, n, func(int) error {
				return m.s.Update(context.Background(), func(ctx context.Context, tx ports.Tx) error {
					return tx.Jobs.Enqueue(ctx, ports.Job{ID: newID(), Kind: "k", Subject: "s", RunAt: day})
				})
			})
		})
	}
}

func BenchmarkStoreRead(b *testing.B) {
	m := newBench(b)
	ctx := b.Context()
	require.NoError(b, m.cycle(ctx, 0))
	list, _, err := m.s.Read().Tasks.List(ctx, ports.TaskFilter{RequesterUserID: m.users[0].ID}, ports.Page{Limit: 1})
	require.NoError(b, err)
	id := list[0].ID
	k := identity.APIKey{ID: newID(), AgentID: m.agents[0].ID, UserID: m.users[0].ID, Hash: "hash", Scopes: identity.Scopes{"*"}, CreatedAt: day}
	require.NoError(b, m.s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Keys.Insert(ctx, k) }))
	for name, read := range map[string]func(ctx context.Context) error{
		"task":    func(ctx context.Context) error { _, err := m.s.Read().Tasks.Get(ctx, id); return err },
		"history": func(ctx context.Context) error { _, _, err := m.s.Read().Tasks.History(ctx, id); return err },
		"key":     func(ctx context.Context) error { _, _, err := m.s.Read().Keys.ByHash(ctx, "hash"); return err },
		"agent":   func(ctx context.Context) error { _, err := m.s.Read().Agents.Get(ctx, m.agents[0].ID); return err },
	} {
		b.Run(name, func(b *testing.B) {
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			parallel(b, 64, func(int) error { return read(ctx) })
		})
	}
}

// BenchmarkDiscovery asks a market of 100 000 agents: of the memory, and of the file, as it is until the market is loaded.
func BenchmarkDiscovery(b *testing.B) {
	path := filepath.Join(b.TempDir(), "nexus.db")
	require.NoError(b, sqlite.Migrate(b.Context(), path))
	words := make([]string, markettest.Words)
	for i := range words {
		words[i] = markettest.Word(i)
	}
	const n = 100_000
	for name, market := range map[string]int{"memory": n, "file": 0} {
		b.Run(name, func(b *testing.B) {
			s, err := sqlite.Open(b.Context(), path, sqlite.WithMarket(market))
			require.NoError(b, err)
			defer func() { require.NoError(b, s.Close()) }()
			_, err = s.Read().Agents.Get(b.Context(), markettest.Agent(n-1, words).ID)
			for from := 0; from < n && err != nil; from += 1000 { // once
				require.NoError(b, s.Update(b.Context(), func(ctx context.Context, tx ports.Tx) error {
					for i := range 1000 {
						if err := tx.Agents.Insert(ctx, markettest.Agent(from+i, words)); err != nil {
							return err
						}
					}
					return nil
				}))
			}
			since := time.Now()
			require.NoError(b, s.LoadMarket(b.Context()))
			b.Logf("loaded in %v", time.Since(since).Round(10*time.Millisecond))
			markettest.Ask(b, s.Read().Agents, markettest.Goals{Filter: 20 * time.Millisecond, Text: 20 * time.Millisecond}, func() (server, client time.Duration) {
				return 0, markettest.Spent(os.Getpid())
			})
		})
	}
}
