package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/a2aclient"
	"github.com/nexus-protocol/nexus/adapters/asynqqueue"
	"github.com/nexus-protocol/nexus/adapters/httpapi"
	"github.com/nexus-protocol/nexus/adapters/inprocess"
	"github.com/nexus-protocol/nexus/adapters/jsonschemacheck"
	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/adapters/postgres"
	"github.com/nexus-protocol/nexus/adapters/postgres/postgrestest"
	"github.com/nexus-protocol/nexus/adapters/redistest"
	"github.com/nexus-protocol/nexus/adapters/sqlite"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/examples/echo"
	"github.com/nexus-protocol/nexus/ports"
)

// counted counts the units of work.
type counted struct {
	ports.Store
	units atomic.Int64
}

func (c *counted) Update(ctx context.Context, fn func(context.Context, ports.Tx) error) error {
	c.units.Add(1)
	return c.Store.Update(ctx, fn)
}

// BenchmarkTaskEndToEnd is a paid task from POST /api/v1/tasks until GET says that it is completed, over HTTP, with durable
// commits and an agent that answers at once; client, server, worker and agent share this process. It also reports what a
// task takes: units of work, commits, and round trips to the database (on SQLite: statements), those of the client's
// requests included; and its rate beside that of as many clients that commit one row at a time in the same run.
func BenchmarkTaskEndToEnd(b *testing.B) {
	for _, on := range []string{"sqlite", "postgres", "postgres+asynq"} {
		for _, clients := range []int{1, 16} {
			b.Run(fmt.Sprintf("%s/clients=%d", on, clients), func(b *testing.B) { benchTasks(b, on, clients) })
		}
	}
}

// counting is a store that says what it asks of its database.
type counting interface {
	store
	Stats() sqlite.Stats
}

// benchStore opens a store and says how many single-row commits a second it gets of as many clients.
func benchStore(b *testing.B, on string, clients int) (disk counting, rowsPerSecond float64) {
	b.Helper()
	if on == "sqlite" {
		path := filepath.Join(b.TempDir(), "nexus.db")
		require.NoError(b, sqlite.Migrate(b.Context(), path))
		disk, err := sqlite.Open(b.Context(), path)
		require.NoError(b, err)
		return disk, insertRate(b, clients, func() error {
			j := ports.Job{ID: memory.NewID(), Kind: "bench", RunAt: time.Now().Add(time.Hour)}
			return disk.Update(context.Background(), func(ctx context.Context, tx ports.Tx) error { return tx.Jobs.Enqueue(ctx, j) })
		})
	}
	url := postgrestest.URL(b)
	require.NoError(b, postgres.Migrate(b.Context(), url))
	disk, err := postgres.Open(b.Context(), url)
	require.NoError(b, err)
	db, err := sql.Open("pgx", url)
	require.NoError(b, err)
	defer func() { require.NoError(b, db.Close()) }()
	db.SetMaxIdleConns(clients)
	_, err = db.Exec("CREATE TABLE bench_rows (id TEXT PRIMARY KEY, payload TEXT)")
	require.NoError(b, err)
	insert, err := db.Prepare("INSERT INTO bench_rows VALUES ($1, $2)")
	require.NoError(b, err)
	return disk, insertRate(b, clients, func() error {
		_, err := insert.Exec(memory.NewID(), "a row of some length, as rows are")
		return err
	})
}

func benchTasks(b *testing.B, on string, clients int) {
	disk, row := benchStore(b, on, clients)
	b.Cleanup(func() { _ = disk.Close() })
	store := &counted{Store: disk}
	var jobs ports.Queue = inprocess.New(store, time.Now, inprocess.Options{})
	if on == "postgres+asynq" {
		opt, err := redis.ParseURL(redistest.URL(b))
		require.NoError(b, err)
		opt.PoolSize = 64
		rc := redis.NewClient(opt)
		q := asynqqueue.New(store, rc, time.Now, asynqqueue.Options{})
		b.Cleanup(func() { _ = q.Close(); _ = rc.Close() })
		jobs = q
	}
	engine, err := app.New(app.Config{
		Store: store, Queue: jobs,
		Agents: a2aclient.New(&http.Transport{MaxIdleConnsPerHost: 64}, nil), Guard: memory.OpenGuard{}, Schema: jsonschemacheck.New(),
		Hasher: memory.NewHasher(), Limits: memory.NewLimiter(time.Now), Now: time.Now, NewID: memory.NewID, Random: rand.Reader, Sole: true,
	})
	require.NoError(b, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- engine.Worker.Run(ctx, time.Second) }()
	b.Cleanup(func() { stop(); <-done })
	api := httptest.NewServer(httpapi.New(engine, httpapi.Options{}))
	b.Cleanup(api.Close)
	agentServer := httptest.NewServer(nil)
	agentServer.Config.Handler = echo.Handler(agentServer.URL)
	b.Cleanup(agentServer.Close)
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 64

	s := &server{t: b, addr: api.Listener.Addr().String()}
	owner := s.signUp("owner@example.com")
	agentID := s.register(owner, agentServer.URL, 0.01)
	askers := make([]*client, clients)
	for i := range askers {
		person := s.signUp(fmt.Sprintf("asker%d@example.com", i))
		desk := s.register(person, agentServer.URL, 0)
		caller := identity.Caller{UserID: person.userID, Scopes: identity.Scopes{identity.ScopeAll}}
		key, err := engine.Identity.CreateKey(ctx, caller, desk, identity.NewKey{Name: "bench", Scopes: []string{"*"}})
		require.NoError(b, err)
		askers[i] = &client{base: api.URL, bearer: string(key.Secret), userID: person.userID}
		rich(b, store, person.userID)
	}
	var mu sync.Mutex
	var took []time.Duration
	var next atomic.Int64
	store.units.Store(0)
	asked := disk.Stats()
	b.ResetTimer()
	began := time.Now()
	var wg sync.WaitGroup
	for _, c := range askers {
		wg.Go(func() {
			for next.Add(1) <= int64(b.N) {
				start := time.Now()
				var v taskJSON
				if _, err := c.call("POST", "/api/v1/tasks", map[string]any{"assignedAgentId": agentID, "title": "x", "input": map[string]int{"n": 1}}, &v); err != nil {
					b.Error(err)
					return
				}
				for v.Status != "completed" {
					time.Sleep(time.Duration(clients-1) * 500 * time.Microsecond) // who asks all the time takes the time of those who work
					if _, err := c.call("GET", "/api/v1/tasks/"+v.ID, nil, &v); err != nil {
						b.Error(err)
						return
					}
				}
				mu.Lock()
				took = append(took, time.Since(start))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	rate := float64(b.N) / time.Since(began).Seconds()
	b.StopTimer()
	slices.Sort(took)
	if len(took) == 0 {
		return
	}
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(rate, "tasks/s")
	b.ReportMetric(float64(store.units.Load())/float64(b.N), "units/task")
	b.ReportMetric(rate/row, "tasks/insert")
	b.ReportMetric(float64(disk.Stats().Commits-asked.Commits)/float64(b.N), "commits/task")
	b.ReportMetric(float64(disk.Stats().RoundTrips-asked.RoundTrips)/float64(b.N), "trips/task")
	sum, err := store.Read().Ledger.Imbalance(context.Background())
	require.NoError(b, err)
	require.Zero(b, sum)
}

// rich gives a user enough for any number of rounds.
func rich(b *testing.B, store ports.Store, userID string) {
	b.Helper()
	t := ledger.Grant(userID, time.Now())
	t.Key += ":bench"
	t.Postings[0].Amount, t.Postings[1].Amount = -1<<40, 1<<40
	t = t.Stamp(memory.NewID)
	require.NoError(b, store.Update(context.Background(), func(ctx context.Context, tx ports.Tx) error { return tx.Ledger.Post(ctx, t) }))
}

// insertRate is how often a second as many clients get an insert done.
func insertRate(b *testing.B, clients int, insert func() error) float64 {
	b.Helper()
	const rows = 2_000
	var next atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for range clients {
		wg.Go(func() {
			for next.Add(1) <= rows {
				if err := insert(); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	return rows / time.Since(began).Seconds()
}
