package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nexus-protocol/nexus/adapters/a2agateway"
	"github.com/nexus-protocol/nexus/adapters/dashboard"
	"github.com/nexus-protocol/nexus/adapters/httpapi"
	"github.com/nexus-protocol/nexus/adapters/telemetry"
)

type serveCmd struct {
	Addr                  string         `env:"NEXUS_ADDR" default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Where to listen."`
	PublicURL             string         `env:"NEXUS_PUBLIC_URL" placeholder:"URL" help:"How the server is reached from outside; default: http:// and the address. Agents are told to call back there, if it is set."`
	AllowPrivateEndpoints bool           `env:"NEXUS_ALLOW_PRIVATE_ENDPOINTS" help:"Let agents, and receivers of push notifications, live at loopback and private addresses. Never on a server that strangers can reach."`
	RateLimit             string         `env:"NEXUS_RATE_LIMIT" default:"on" enum:"on,off" help:"on, or off for load tests."`
	TrustedProxies        []netip.Prefix `env:"NEXUS_TRUSTED_PROXIES" placeholder:"CIDR,…" help:"Proxies whose X-Forwarded-For is believed."`
	Workers               int            `env:"NEXUS_WORKERS" default:"1024" help:"How many calls of agents this process has under way at most."`
	CallsPerAgent         int            `env:"NEXUS_CALLS_PER_AGENT" default:"64" help:"How many of them one agent gets at the same time."`
	MaxStreams            int            `env:"NEXUS_MAX_STREAMS" default:"15000" help:"How many streams of events may be open in this process. Each takes a file descriptor."`
	StreamsPerUser        int            `env:"NEXUS_STREAMS_PER_USER" default:"100" help:"How many of them one user may have."`
	StreamKeepAlive       time.Duration  `env:"NEXUS_STREAM_KEEP_ALIVE" default:"12s" help:"How often something is written to a stream in which nothing happens; 15s at most."`
	ShutdownGrace         time.Duration  `env:"NEXUS_SHUTDOWN_GRACE" default:"20s" help:"How long a stopping server waits for requests and calls under way."`
	Demo                  bool           `env:"NEXUS_DEMO" help:"Start the example agents, register them, and print how to try it. Allows private endpoints."`

	CardKey     string `env:"NEXUS_CARD_KEY" placeholder:"PEM" help:"The private key that agent cards are signed with, and the secrets of push notifications sealed: P-256 or Ed25519, in PEM. Further keys after it are published with it, and open what they sealed. Default on SQLite: one that is made and kept in the data directory."`
	CardKeyFile string `env:"NEXUS_CARD_KEY_FILE" placeholder:"FILE" help:"The same, out of a file."`

	signinFlags `embed:""`

	MetricsAddr  string `env:"NEXUS_METRICS_ADDR" placeholder:"HOST:PORT" help:"Where Prometheus gets GET /metrics, or off. Default: ${metricsAddr}, if nobody else listens there."`
	MetricsToken string `env:"NEXUS_METRICS_TOKEN" placeholder:"TOKEN" help:"A bearer token that must be shown for the metrics."`

	StripeSecretKey     string            `env:"NEXUS_STRIPE_SECRET_KEY" placeholder:"KEY" help:"Stripe's secret key, to sell credits. Needs NEXUS_STRIPE_WEBHOOK_SECRET."`
	StripeWebhookSecret string            `env:"NEXUS_STRIPE_WEBHOOK_SECRET" placeholder:"SECRET" help:"The secret of the webhook at /api/v1/billing/webhook, by which Stripe signs what it tells."`
	StripeAPIBase       string            `env:"NEXUS_STRIPE_API_BASE" placeholder:"URL" help:"Where Stripe's API is; default: Stripe's own."`
	StripePrices        map[string]string `env:"NEXUS_STRIPE_PRICES" placeholder:"PACKAGE=PRICE;…" help:"Stripe's prices for packages, such as starter=price_123. A package without one gets its price written into the session."`

	RedisURL         string `env:"NEXUS_REDIS_URL" placeholder:"URL" help:"redis://host:6379/0 to hand round jobs by asynq, to tell other processes what has changed, and to count requests for all processes together. Needs NEXUS_DATABASE_URL."`
	Role             string `env:"NEXUS_ROLE" default:"all" enum:"all,api,worker" help:"all, api (serves requests, runs no jobs) or worker (runs jobs, serves health only)."`
	RateLimitOnError string `env:"NEXUS_RATE_LIMIT_ON_ERROR" default:"allow" enum:"allow,refuse" help:"What happens to requests that cannot be counted because Redis is away."`
}

const (
	defaultMetricsAddr = "127.0.0.1:9464"
	flushTimeout       = 5 * time.Second // for sending the last spans
)

// listenForMetrics opens the metrics' address; nil if there is none. That somebody else has the default one is no failure.
func (s *serveCmd) listenForMetrics(e *env) (net.Listener, error) {
	if s.MetricsAddr == "off" {
		return nil, nil
	}
	listener, err := net.Listen("tcp", cmp.Or(s.MetricsAddr, defaultMetricsAddr))
	switch {
	case err == nil:
		return listener, nil
	case s.MetricsAddr == "":
		e.log.Warn("no metrics, as another process listens there; choose another address with NEXUS_METRICS_ADDR", "address", defaultMetricsAddr)
		return nil, nil
	default:
		return nil, fmt.Errorf("listen for metrics: %w (choose another address with NEXUS_METRICS_ADDR)", err)
	}
}

// metricsDoor lets this machine in where only it can come, and everyone who has the token elsewhere.
func (s *serveCmd) metricsDoor(addr net.Addr) telemetry.Door {
	at, ok := addr.(*net.TCPAddr)
	return telemetry.Door{Token: s.MetricsToken, Local: ok && at.IP.IsLoopback()}
}

// Run serves until the process is told to stop: it then takes no new requests, ends the streams, finishes those under way and the calls to
// agents, for at most the grace, and closes the store.
func (s *serveCmd) Run(e *env) (err error) {
	db, err := e.database()
	if err != nil {
		return err
	}
	if db.lock != nil && (s.RedisURL != "" || s.Role != "all") {
		return errors.New("NEXUS_REDIS_URL and NEXUS_ROLE are for several processes, which need PostgreSQL: set NEXUS_DATABASE_URL")
	}
	if err := s.signinFlags.check(s.PublicURL); err != nil {
		return err
	}
	redisClient, err := e.openRedis(s.RedisURL)
	if err != nil {
		return err
	}
	ready := map[string]func(context.Context) error{}
	if redisClient != nil {
		defer func() { err = errors.Join(err, redisClient.Close()) }()
		ready["redis"] = func(ctx context.Context) error { return redisClient.Ping(ctx).Err() }
	}
	if db.lock != nil {
		release, err := db.lock()
		if err != nil {
			return fmt.Errorf("another server seems to use %s: %w", db.name, err)
		}
		defer release()
	}
	tracing, err := telemetry.OpenTracing(e, telemetry.Options{Logger: e.log, Version: version, Role: s.Role})
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(e), flushTimeout)
		defer cancel()
		if err := tracing.Close(ctx); err != nil {
			e.log.Warn("the last spans could not be sent", "error", err)
		}
	}()
	e.log = slog.New(tracing.Logs(e.log.Handler()))
	store, err := e.openStore(db, tracing)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	changes := e.openEvents(redisClient, db.lock != nil)
	metrics := telemetry.NewMetrics(telemetry.MetricsOptions{Logger: e.log, Version: version, Stats: store.Read().Stats, Pools: store.Pools})
	listener, err := net.Listen("tcp", s.Addr)
	if err != nil {
		return fmt.Errorf("listen: %w (choose another address with NEXUS_ADDR)", err)
	}
	defer func() { _ = listener.Close() }() // if it was not served
	base := "http://" + listener.Addr().String()
	callBacks := s.PublicURL // where it can be called back; that it listens somewhere does not tell that
	if s.PublicURL == "" {
		s.PublicURL = base
		if s.Demo || s.AllowPrivateEndpoints { // agents may be on this machine too
			callBacks = base
		}
	}
	signin, err := s.signin(e, strings.TrimRight(s.PublicURL, "/"))
	if err != nil {
		return err
	}
	payments, demoCheckout, err := s.payments()
	if err != nil {
		return err
	}
	key, err := s.cardKey(e, db.lock != nil)
	if err != nil {
		return err
	}
	signer, seal, err := keysOf(key)
	if err != nil {
		return err
	}
	w := wiring{
		signin:   signin,
		payments: payments,
		sealKeys: seal,
		events:   changes, allowPrivate: s.AllowPrivateEndpoints || s.Demo, workers: s.Workers, perAgent: s.CallsPerAgent, sole: db.lock != nil,
		redis: redisClient, limitClosed: s.RateLimitOnError == "refuse", unlimited: s.RateLimit == "off",
		callBacks: callBacks, tracing: tracing, metrics: metrics,
	}
	jobs := e.openQueue(store, w)
	defer func() { err = errors.Join(err, jobs.Close()) }()
	engine, err := e.newEngine(store, jobs, w)
	if err != nil {
		return err
	}
	metricsListener, err := s.listenForMetrics(e)
	if err != nil {
		return err
	}
	observe := telemetry.Requests(tracing, metrics)
	pages := dashboard.New(engine, dashboard.Options{
		Logger: e.log, PublicURL: s.PublicURL, RateLimit: s.RateLimit == "on", KeepAlive: s.StreamKeepAlive, MaxStreams: s.StreamsPerUser, Closing: e.Done(),
	})
	open := openRoutes(engine, a2agateway.New(engine, a2agateway.Options{Logger: e.log, PublicURL: s.PublicURL, Version: version, Signer: signer}), demoCheckout)
	handler := httpapi.New(engine, httpapi.Options{
		Logger: e.log, PublicURL: s.PublicURL, Version: version, TrustedProxies: s.TrustedProxies, RateLimit: s.RateLimit == "on",
		ReadyChecks: ready, Observe: observe,
		Open: open, Pages: pages, PagesAt: dashboard.Patterns(),
		Streams: httpapi.StreamOptions{KeepAlive: s.StreamKeepAlive, Max: s.MaxStreams, MaxPerCaller: s.StreamsPerUser, Closing: e.Done()},
	})
	if s.Role == "worker" {
		handler = httpapi.NewHealth(engine, httpapi.Options{Logger: e.log, Version: version, ReadyChecks: ready, Observe: observe})
	}

	// What the last units of work changed is told too: this stops after all that changes anything.
	tell, stopTelling := context.WithCancel(context.WithoutCancel(e))
	told := make(chan error, 1)
	go func() { told <- changes.Run(tell) }()
	defer func() {
		stopTelling()
		err = errors.Join(err, <-told)
	}()

	var demo map[string]string
	if s.Demo { // before the worker asks whether its agents are there
		if demo, err = serveDemoAgents(e); err != nil {
			return fmt.Errorf("serve the demo's agents: %w", err)
		}
	}

	if s.Role != "worker" {
		go func() {
			if err := store.LoadMarket(e); err != nil && e.Err() == nil {
				e.log.WarnContext(e, "the database searches for agents, as they cannot be kept in memory now", "error", err)
			}
		}()
	}

	// The worker stops after the server, so that a request that is being answered still finds it.
	work, stopWork := context.WithCancel(context.WithoutCancel(e))
	defer stopWork()
	group, serving := errgroup.WithContext(e) // a server whose worker has failed would take on tasks that nobody does
	if s.Role != "api" {
		group.Go(func() error { return engine.Worker.Run(work, s.ShutdownGrace) })
	}
	group.Go(func() error {
		defer stopWork()
		return httpapi.Serve(serving, listener, handler, s.ShutdownGrace)
	})
	if metricsListener != nil {
		door := s.metricsDoor(metricsListener.Addr())
		e.log.Info("metrics", "address", "http://"+metricsListener.Addr().String()+"/metrics")
		if !door.Local && door.Token == "" {
			e.log.Warn("whoever reaches that address can read the metrics; set NEXUS_METRICS_TOKEN, or let only Prometheus reach it")
		}
		group.Go(func() error {
			return httpapi.Serve(work, metricsListener, metrics.Handler(door), time.Second)
		})
	}
	if s.Demo {
		group.Go(func() error {
			if err := runDemo(e, engine, base, demo); err != nil && e.Err() == nil {
				e.log.Error("the demo could not be set up; the server runs without it", "error", err)
			}
			return nil
		})
	}
	e.log.Info("listening", "address", base, "database", db.name, "role", s.Role, "pid", os.Getpid())
	err = group.Wait()
	e.log.Info("stopped")
	return err
}
