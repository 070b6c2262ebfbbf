// Package bench holds the engine against others at the same work, on the same machine and databases, in one run. It is a
// module of its own, so that nobody who embeds the engine gets the others' dependencies.
package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
	_ "github.com/dbos-inc/dbos-transact-golang/dbos/driver/sqlite"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/nexus-protocol/nexus/adapters/inprocess"
	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/adapters/postgres"
	"github.com/nexus-protocol/nexus/adapters/postgres/postgrestest"
	"github.com/nexus-protocol/nexus/adapters/sqlite"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/scheduler"
	"github.com/nexus-protocol/nexus/ports"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }

// shape is a workflow: for each step those that it waits for.
type shape struct {
	name  string
	steps [][]int
}

var shapes = []shape{
	{"mixed", [][]int{nil, {0}, {0}, {0}, {0}, {1, 2, 3, 4}, {5}, {5}, {5}, {6, 7, 8}}},
	{"chain", [][]int{nil, {0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}, {8}}},
	{"fan-out", [][]int{nil, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}}},
	{"diamond", [][]int{nil, {0}, {0}, {1, 2}}},
}

// levels are the steps that can run together.
func (s shape) levels() (out [][]int) {
	depth := make([]int, len(s.steps))
	for i, deps := range s.steps {
		for _, d := range deps {
			depth[i] = max(depth[i], depth[d]+1)
		}
		for len(out) <= depth[i] {
			out = append(out, nil)
		}
		out[depth[i]] = append(out[depth[i]], i)
	}
	return out
}

// contender runs a shape to its end; client is who asks.
type contender struct {
	name string
	run  func(ctx context.Context, client int) error
}

const clients = 32

// measure runs a contender for a while and returns how many runs ended in a second, and how long one took (median).
func measure(b *testing.B, c contender, n int, length time.Duration) (perSecond float64, p50 time.Duration) {
	b.Helper()
	var mu sync.Mutex
	var took []time.Duration
	var all sync.WaitGroup
	began := time.Now()
	for client := range n {
		all.Go(func() {
			for time.Since(began) < length {
				t := time.Now()
				if err := c.run(b.Context(), client); err != nil {
					b.Errorf("%s: %v", c.name, err)
					return
				}
				mu.Lock()
				took = append(took, time.Since(t))
				mu.Unlock()
			}
		})
	}
	all.Wait()
	slices.Sort(took)
	return float64(len(took)) / time.Since(began).Seconds(), took[len(took)/2]
}

// BenchmarkWorkflows has each engine run each shape, in turns. The steps do nothing, in the engine's own process. Of the
// figures only the ratios count.
func BenchmarkWorkflows(b *testing.B) {
	for _, s := range shapes {
		b.Run(s.name, func(b *testing.B) {
			engines := []contender{
				nexus(b, "nexus-sqlite", s, openSQLite(b)), nexus(b, "nexus-postgres", s, openPostgres(b)),
				dbosOn(b, "dbos-sqlite", s, "sqlite:file:"+filepath.Join(b.TempDir(), "dbos.db")+"?_pragma=synchronous(FULL)"), dbosOn(b, "dbos-postgres", s, postgrestest.URL(b)), riverOn(b, s),
			}
			for b.Loop() {
				rates, alone := map[string][]float64{}, map[string][]time.Duration{}
				for range 3 {
					for _, e := range engines {
						rate, _ := measure(b, e, clients, 2*time.Second)
						_, p50 := measure(b, e, 1, time.Second)
						rates[e.name], alone[e.name] = append(rates[e.name], rate), append(alone[e.name], p50)
					}
				}
				if b.Failed() {
					return
				}
				rate := func(name string) float64 { slices.Sort(rates[name]); return rates[name][1] }
				b.ReportMetric(0, "ns/op")
				for _, e := range engines {
					slices.Sort(alone[e.name])
					b.ReportMetric(rate(e.name), e.name+"/s")
					b.ReportMetric(float64(alone[e.name][1].Microseconds())/1000, e.name+"-p50-ms")
				}
				b.ReportMetric(rate("nexus-postgres")/rate("dbos-postgres"), "×dbos-postgres")
				b.ReportMetric(rate("nexus-sqlite")/rate("dbos-sqlite"), "×dbos-sqlite")
				b.ReportMetric(rate("nexus-postgres")/rate("river"), "×river")
			}
		})
	}
}

// try says how to go on after an error: not at all.
func try[T any](v T, err error) func(*testing.B) T {
	return func(b *testing.B) T {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
		return v
	}
}

type store interface {
	ports.Store
	Close() error
}

func openSQLite(b *testing.B) store {
	path := filepath.Join(b.TempDir(), "nexus.db")
	if err := sqlite.Migrate(b.Context(), path); err != nil {
		b.Fatal(err)
	}
	return try(sqlite.Open(b.Context(), path))(b)
}

func openPostgres(b *testing.B) store {
	url := postgrestest.URL(b)
	if err := postgres.Migrate(b.Context(), url); err != nil {
		b.Fatal(err)
	}
	return try(postgres.Open(b.Context(), url))(b)
}

// nexus runs a shape with everything on: each step is a paid task of another owner's agent, with its events, money, trust
// evidence and jobs. Each client is a user, and watches the run to its end.
func nexus(b *testing.B, name string, s shape, store store) contender {
	b.Helper()
	agents := memory.NewAgents()
	engine := try(app.New(app.Config{
		Store: store, Queue: inprocess.New(store, time.Now, inprocess.Options{}), Agents: agents, Guard: memory.OpenGuard{}, Schema: memory.Schemas{},
		Hasher: memory.NewHasher(), Limits: memory.NewLimiter(time.Now), Events: inprocess.NewEvents(), Now: time.Now, NewID: memory.NewID, Random: rand.Reader,
	}))(b)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- engine.Worker.Run(ctx, time.Second) }()
	b.Cleanup(func() {
		stop()
		if err := errors.Join(<-done, store.Close()); err != nil {
			b.Error(err)
		}
	})
	user := func(email string) identity.Caller {
		u := try(engine.Identity.SignUp(ctx, app.Credentials{Email: email, Password: "long enough"}))(b)
		return identity.SessionCaller(u, "")
	}
	steps := make([]scheduler.Step, len(s.steps))
	for i, deps := range s.steps {
		endpoint, price, title := fmt.Sprint("http://agent", i), credits.Amount(1), "Agent"
		agents.Handle(endpoint, func(context.Context, ports.Call) (ports.Answer, error) {
			return ports.Answer{State: ports.AnswerDone}, nil
		})
		a := try(engine.Agents.Register(ctx, user(fmt.Sprintf("owner%d@example.com", i)), registry.Profile{Name: &title, Endpoint: &endpoint, Price: &price}))(b)
		steps[i] = scheduler.Step{Name: "step", AgentID: a.ID, DependsOn: deps}
	}
	var users [clients]identity.Caller
	var flows [clients]scheduler.Workflow
	for i := range clients {
		users[i] = user(fmt.Sprintf("user%d@example.com", i))
		flows[i] = try(engine.Workflows.Create(ctx, users[i], "bench", "", steps))(b)
	}
	return contender{name, func(ctx context.Context, client int) error {
		run, err := engine.Workflows.Execute(ctx, users[client], flows[client].ID)
		if err != nil {
			return err
		}
		w, _, err := engine.Workflows.Watch(ctx, users[client], run.WorkflowID, run.ID, run.LastSeq)
		if err != nil {
			return err
		}
		defer w.Close()
		for {
			events, err := w.Next(ctx, nil)
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if last := events[len(events)-1]; last.Kind == scheduler.EventComplete && last.Status != scheduler.Completed {
				return fmt.Errorf("the run is %s: %+v", last.Status, last.Error)
			}
		}
	}}
}

func dbosOn(b *testing.B, name string, s shape, url string) contender {
	b.Helper()
	c := try(dbos.NewContext(context.Background(), dbos.Config{AppName: "bench", DatabaseURL: url, Logger: slog.New(slog.DiscardHandler)}))(b)
	nothing := func(context.Context) (int, error) { return 1, nil }
	flow := func(ctx dbos.Context, _ int) (int, error) {
		sum := 0
		for _, level := range s.levels() {
			if len(level) == 1 {
				n, err := dbos.RunAsStep(ctx, nothing)
				if err != nil {
					return 0, err
				}
				sum += n
				continue
			}
			var running []<-chan dbos.StepOutcome[int]
			for range level {
				out, err := dbos.Go(ctx, nothing)
				if err != nil {
					return 0, err
				}
				running = append(running, out)
			}
			for _, out := range running {
				o := <-out
				if o.Err != nil {
					return 0, o.Err
				}
				sum += o.Result
			}
		}
		return sum, nil
	}
	dbos.RegisterWorkflow(c, flow)
	if err := dbos.Launch(c); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { dbos.Shutdown(c, 5*time.Second) })
	return contender{name, func(context.Context, int) error {
		h, err := dbos.RunWorkflow(c, flow, 0)
		if err != nil {
			return err
		}
		n, err := h.GetResult()
		if err == nil && n != len(s.steps) {
			err = fmt.Errorf("%d steps ran", n)
		}
		return err
	}}
}

// stepArgs is a step of a run, for River.
type stepArgs struct {
	Run  int64 `json:"run"`
	Step int   `json:"step"`
}

// Kind implements river.JobArgs.
func (stepArgs) Kind() string { return "step" }

type stepWorker struct {
	river.WorkerDefaults[stepArgs]
	pool  *pgxpool.Pool
	shape shape
	ended *sync.Map // run → chan
}

// Work does a step, and in the transaction that completes it begins those that waited for nothing else.
func (w *stepWorker) Work(ctx context.Context, job *river.Job[stepArgs]) error {
	return pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
		var next []int
		over := false
		if len(w.shape.steps) > 0 {
			rows, err := tx.Query(ctx, `UPDATE steps SET waits = waits - 1 WHERE run = $1 AND step = ANY($2) RETURNING step, waits`, job.Args.Run, w.dependents(job.Args.Step))
			if err != nil {
				return err
			}
			var step, waits int
			if _, err := pgx.ForEachRow(rows, []any{&step, &waits}, func() error {
				if waits == 0 {
					next = append(next, step)
				}
				return nil
			}); err != nil {
				return err
			}
		}
		var open int
		if err := tx.QueryRow(ctx, `UPDATE runs SET open = open - 1 WHERE id = $1 RETURNING open`, job.Args.Run).Scan(&open); err != nil {
			return err
		}
		over = open == 0
		client := river.ClientFromContext[pgx.Tx](ctx)
		if len(next) > 0 {
			var many []river.InsertManyParams
			for _, step := range next {
				many = append(many, river.InsertManyParams{Args: stepArgs{job.Args.Run, step}})
			}
			if _, err := client.InsertManyFastTx(ctx, tx, many); err != nil {
				return err
			}
		}
		if _, err := river.JobCompleteTx[*riverpgxv5.Driver](ctx, tx, job); err != nil {
			return err
		}
		if over {
			defer func() {
				if ch, ok := w.ended.Load(job.Args.Run); ok {
					time.AfterFunc(0, func() { close(ch.(chan struct{})) })
				}
			}()
		}
		return nil
	})
}

func (w *stepWorker) dependents(step int) (out []int) {
	for i, deps := range w.shape.steps {
		if slices.Contains(deps, step) {
			out = append(out, i)
		}
	}
	return out
}

// riverOn runs a shape on River with a graph of counters built by hand, as those do who have no workflow engine.
func riverOn(b *testing.B, s shape) contender {
	b.Helper()
	ctx := context.Background()
	pool := try(pgxpool.New(ctx, postgrestest.URL(b)))(b)
	migrator := try(rivermigrate.New(riverpgxv5.New(pool), nil))(b)
	try(migrator.Migrate(ctx, rivermigrate.DirectionUp, nil))(b)
	try(pool.Exec(ctx, `CREATE TABLE runs (id BIGINT PRIMARY KEY, open INT NOT NULL); CREATE TABLE steps (run BIGINT, step INT, waits INT NOT NULL, PRIMARY KEY (run, step))`))(b)
	w := &stepWorker{pool: pool, shape: s, ended: &sync.Map{}}
	workers := river.NewWorkers()
	river.AddWorker(workers, w)
	client := try(river.NewClient(riverpgxv5.New(pool), &river.Config{
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 100}}, Workers: workers, Logger: slog.New(slog.DiscardHandler),
		FetchCooldown: time.Millisecond, FetchPollInterval: 50 * time.Millisecond,
	}))(b)
	if err := client.Start(ctx); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := client.Stop(ctx); err != nil {
			b.Error(err)
		}
		pool.Close()
	})
	var ids atomic.Int64
	return contender{"river", func(ctx context.Context, _ int) error {
		id := ids.Add(1)
		ended := make(chan struct{})
		w.ended.Store(id, ended)
		defer w.ended.Delete(id)
		err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `INSERT INTO runs VALUES ($1, $2)`, id, len(s.steps)); err != nil {
				return err
			}
			waits := make([]int, len(s.steps))
			for i, deps := range s.steps {
				waits[i] = len(deps)
			}
			if _, err := tx.Exec(ctx, `INSERT INTO steps SELECT $1, i - 1, waits FROM unnest($2::int[]) WITH ORDINALITY AS u (waits, i)`, id, waits); err != nil {
				return err
			}
			_, err := client.InsertTx(ctx, tx, stepArgs{id, 0}, nil)
			return err
		})
		if err != nil {
			return err
		}
		select {
		case <-ended:
			return nil
		case <-time.After(time.Minute):
			return fmt.Errorf("run %d does not end", id)
		}
	}}
}
