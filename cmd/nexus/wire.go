package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/nexus-protocol/nexus/adapters/a2aclient"
	"github.com/nexus-protocol/nexus/adapters/a2agateway"
	"github.com/nexus-protocol/nexus/adapters/argon2hasher"
	"github.com/nexus-protocol/nexus/adapters/asynqqueue"
	"github.com/nexus-protocol/nexus/adapters/inprocess"
	"github.com/nexus-protocol/nexus/adapters/jsonschemacheck"
	"github.com/nexus-protocol/nexus/adapters/manualpay"
	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/adapters/postgres"
	"github.com/nexus-protocol/nexus/adapters/redisevents"
	"github.com/nexus-protocol/nexus/adapters/redislimit"
	"github.com/nexus-protocol/nexus/adapters/sqlite"
	"github.com/nexus-protocol/nexus/adapters/ssrfguard"
	"github.com/nexus-protocol/nexus/adapters/telemetry"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/ports"
)

// database is where the state is, by the configuration: PostgreSQL if there is a URL, else a SQLite file.
type database struct {
	name    string // for people; without secrets
	migrate func(ctx context.Context) error
	down    func(ctx context.Context) error
	status  func(ctx context.Context) ([]schemaStep, error)
	open    func(ctx context.Context, t *telemetry.Tracing) (store, error)
	// lock makes this process the only server on the database; nil where there may be many.
	lock func() (release func(), err error)
}

// schemaStep is one migration; all databases have them alike.
type schemaStep = postgres.Migration

type store interface {
	ports.Store
	Pools() []ports.Pool
	LoadMarket(ctx context.Context) error
	Close() error
}

func (e *env) database() (database, error) {
	if e.cli.DatabaseURL == "" {
		return e.sqlite()
	}
	u, err := url.Parse(e.cli.DatabaseURL)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return database{}, errors.New("NEXUS_DATABASE_URL must be postgres://user:password@host:5432/name; without it the state is in a SQLite file")
	}
	return database{
		name:    u.Redacted(),
		migrate: func(ctx context.Context) error { return postgres.Migrate(ctx, e.cli.DatabaseURL) },
		down:    func(ctx context.Context) error { return postgres.MigrateDown(ctx, e.cli.DatabaseURL) },
		status: func(ctx context.Context) ([]schemaStep, error) {
			return postgres.MigrationStatus(ctx, e.cli.DatabaseURL)
		},
		open: func(ctx context.Context, t *telemetry.Tracing) (store, error) {
			opts := []postgres.Option{postgres.WithMarket(e.cli.DiscoveryAgents)}
			if t != nil {
				opts = append(opts, postgres.WithTracer(t))
			}
			return postgres.Open(ctx, e.cli.DatabaseURL, opts...)
		},
	}, nil
}

func (e *env) sqlite() (database, error) {
	if err := os.MkdirAll(e.cli.DataDir, 0o700); err != nil {
		return database{}, fmt.Errorf("data directory: %w", err)
	}
	path := filepath.Join(e.cli.DataDir, "nexus.db")
	return database{
		name:    path,
		migrate: func(ctx context.Context) error { return sqlite.Migrate(ctx, path) },
		down:    func(ctx context.Context) error { return sqlite.MigrateDown(ctx, path) },
		status:  func(ctx context.Context) ([]schemaStep, error) { return sqlite.MigrationStatus(ctx, path) },
		open: func(ctx context.Context, t *telemetry.Tracing) (store, error) {
			opts := []sqlite.Option{sqlite.WithMarket(e.cli.DiscoveryAgents)}
			if t != nil {
				opts = append(opts, sqlite.WithTracer(t))
			}
			return sqlite.Open(ctx, path, opts...)
		},
		lock: func() (func(), error) { return sqlite.LockProcess(path) },
	}, nil
}

// openStore opens the database with its schema up to date. tracing may be nil.
func (e *env) openStore(db database, tracing *telemetry.Tracing) (store, error) {
	if err := db.migrate(e); err != nil {
		return nil, fmt.Errorf("migrate %s: %w", db.name, err)
	}
	s, err := db.open(e, tracing)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", db.name, err)
	}
	return s, nil
}

// clockOf is the clock that all processes on the store share.
func clockOf(s store) func() time.Time {
	if shared, ok := s.(interface{ Now() time.Time }); ok {
		return shared.Now
	}
	return time.Now // the process is alone
}

// wiring is the choice of adapters that is not the store's.
type wiring struct {
	signin       signin
	payments     ports.Payments // nil: nothing is sold
	allowPrivate bool
	workers      int // calls of agents at a time
	perAgent     int // of them, of one
	sole         bool
	redis        redis.UniversalClient // nil: everything in this process
	limitClosed  bool
	unlimited    bool // requests are not counted
	events       ports.Events
	sealKeys     [][]byte           // nil: no secrets are kept
	callBacks    string             // the URL that agents can call back at; "": none is told to
	tracing      *telemetry.Tracing // nil: none
	metrics      *telemetry.Metrics // nil: none
}

// queue is the way that jobs are run.
type queue interface {
	ports.Queue
	Close() error
}

type inProcess struct{ *inprocess.Queue }

func (inProcess) Close() error { return nil }

// openQueue is asynq where there is Redis, else a queue in this process.
func (e *env) openQueue(store store, w wiring) queue {
	if w.redis != nil {
		return asynqqueue.New(store, w.redis, clockOf(store), asynqqueue.Options{Logger: e.log})
	}
	return inProcess{inprocess.New(store, clockOf(store), inprocess.Options{Logger: e.log})}
}

func (e *env) openLimiter(w wiring) ports.RateLimiter {
	if w.unlimited {
		return unlimited{}
	}
	if w.redis != nil {
		return redislimit.New(w.redis, redislimit.Options{Closed: w.limitClosed, Logger: e.log})
	}
	return memory.NewLimiter(time.Now)
}

// unlimited lets everything through, for load tests.
type unlimited struct{}

// Allow implements ports.RateLimiter.
func (unlimited) Allow(_ context.Context, _ string, r ports.RateRule) (ports.RateResult, error) {
	return ports.RateResult{Allowed: true, Limit: r.Limit, Remaining: r.Limit}, nil
}

// events is the way that processes tell each other what has grown.
type events interface {
	ports.Events
	Run(ctx context.Context) error
}

// lookEvery is how often readers look by themselves for what processes did that they do not hear.
const lookEvery = 2 * time.Second

type inProcessEvents struct {
	*inprocess.Events
	sole bool
}

func (i inProcessEvents) Run(ctx context.Context) error {
	if !i.sole {
		i.WakeAllEvery(ctx, lookEvery)
	}
	return nil
}

func (e *env) openEvents(client redis.UniversalClient, sole bool) events {
	if client != nil {
		return redisevents.New(client, newID(), redisevents.Options{DeafEvery: lookEvery, Logger: e.log})
	}
	return inProcessEvents{inprocess.NewEvents(), sole}
}

// newID fails only without a source of randomness.
func newID() string { return uuid.Must(uuid.NewV7()).String() }

// openRedis makes the client of the URL; nil without one. It connects when it is used, so Redis need not be there yet.
func (e *env) openRedis(redisURL string) (redis.UniversalClient, error) {
	if redisURL == "" {
		return nil, nil
	}
	opt, err := redis.ParseURL(redisURL)
	if err != nil {
		return nil, errors.New("NEXUS_REDIS_URL must be redis://user:password@host:6379/0; without it jobs and limits are in this process")
	}
	opt.PoolSize = 64
	redis.SetLogger(quiet{e.log})
	return redis.NewClient(opt), nil
}

// quiet logs what the Redis client says about each connection at the debug level; that Redis is away is said elsewhere.
type quiet struct{ log *slog.Logger }

func (q quiet) Printf(ctx context.Context, format string, v ...any) {
	q.log.DebugContext(ctx, "redis: "+fmt.Sprintf(format, v...))
}

func (e *env) newEngine(store store, q ports.Queue, w wiring) (*app.Engine, error) {
	guard := ssrfguard.New(w.allowPrivate)
	cfg := app.Config{
		Store:  store,
		Queue:  q,
		Agents: telemetry.Agents(a2aclient.New(w.tracing.Transport(guard.Transport()), ssrfguard.ErrProhibited), w.tracing, w.metrics),
		Guard:  guard,
		Schema: jsonschemacheck.New(),
		Hasher: argon2hasher.New(),
		Limits: e.openLimiter(w),
		Events: w.events,
		Now:    clockOf(store),
		NewID:  newID,
		Random: rand.Reader,

		Payments: w.payments,
		Grants:   manualpay.New(manualpay.Options{}),

		Logger: e.log,
		Sole:   w.sole,
		// The bare transport: what it tells would be written into traces.
		Notifier: telemetry.Notifications(a2agateway.NewNotifier(guard.Transport(), ssrfguard.ErrProhibited, version), w.metrics),
		SealKeys: w.sealKeys,

		Providers: w.signin.providers, NoLocalAccounts: w.signin.noLocal, Mailer: w.signin.mailer, PublicURL: w.signin.publicURL,

		MaxCalls: w.workers, MaxCallsPerAgent: w.perAgent,
	}
	if w.callBacks != "" {
		cfg.CallBackURL = func(taskID string) string { return a2agateway.CallBackURL(w.callBacks, taskID) }
	}
	if w.tracing != nil {
		cfg.Tracer = w.tracing
	}
	if w.metrics != nil {
		cfg.Observe = w.metrics
	}
	return app.New(cfg)
}

// withEngine runs an operator's command against the database. The server may be running at the same time.
func (e *env) withEngine(do func(*app.Engine) error) (err error) {
	db, err := e.database()
	if err != nil {
		return err
	}
	store, err := e.openStore(db, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	engine, err := e.newEngine(store, e.openQueue(store, wiring{}), wiring{})
	if err != nil {
		return err
	}
	return do(engine)
}
