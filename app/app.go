// Package app holds the engine's use cases, one service an area, one method a use case. A use case loads, asks the
// domain, and saves, all in one unit of work: a task, its money, its trust evidence and its next job are one decision.
// Who may do what is asked of identity here, so that no adapter has to know.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/scheduler"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/domain/trust"
	"github.com/nexus-protocol/nexus/ports"
)

// Config is what the engine is built of. Every field without a default must be set.
type Config struct {
	Store  ports.Store
	Queue  ports.Queue
	Agents ports.AgentCaller
	Guard  ports.EndpointGuard
	Schema ports.SchemaChecker
	Hasher ports.PasswordHasher
	Limits ports.RateLimiter
	// Events wakes those who watch tasks. It is for one engine; a second one on the same store is another process to it. nil: nobody
	// is woken by another engine, and watchers look every two seconds.
	Events ports.Events
	// CallBackURL, if set, is where an agent can reach Gateway.CalledBack about a task. nil: agents are only asked.
	CallBackURL func(taskID string) string

	// Payments is whom credits are bought from, and Grants what admins give is asked of. nil: there is nobody, and to try is
	// PAYMENTS_NOT_CONFIGURED.
	Payments ports.Payments
	Grants   ports.Payments
	// Notifier tells those outside who asked for it what happens to tasks. nil: nobody can ask for it.
	Notifier ports.Notifier
	// SealKeys are keys of 32 bytes that callers' secrets are sealed with while the store keeps them: the first seals, all
	// of them open. Processes that share a store need the same. Without any, such secrets are not taken.
	SealKeys [][]byte

	// Providers say who people are, beside the accounts whose passwords the engine keeps itself. One that checks passwords
	// takes the place of those.
	Providers []ports.IdentityProvider
	// NoLocalAccounts switches those accounts off: nobody signs up or logs in with a password that the engine keeps.
	NoLocalAccounts bool
	// Mailer sends mail. nil: none is sent, and what needs a mail is UNAVAILABLE.
	Mailer ports.Mailer
	// PublicURL is how the server is reached from outside, without a / at its end. Mails and providers lead people back to
	// it; without either it is not needed.
	PublicURL string

	// Now is the clock; UTC or not. Processes that share a store must share a clock, such as the store's, or they take
	// each other's work for abandoned.
	Now    func() time.Time
	NewID  func() string // UUIDv7: ids sort by the time they were made
	Random io.Reader     // for secrets; must be cryptographic

	Logger  *slog.Logger   // default: discards
	Tracer  ports.Tracer   // default: records nothing
	Observe ports.Observer // default: nobody
	Weights *trust.Weights // default: trust.DefaultWeights
	// Sole says that no other process works on the store, so that at start all leases of earlier ones are void at once.
	Sole bool
	// MaxCalls is how many calls of agents this process has under way at most; default 1024.
	MaxCalls int
	// MaxCallsPerAgent is how many of them one agent gets at the same time; default 64. The same number may wait for their
	// turn in this process; the jobs of those beyond come again later, here or elsewhere.
	MaxCallsPerAgent int
	// Name tells this process from others in leases. Default: a new id.
	Name string
}

func (c Config) check() (Config, error) {
	var missing []error
	need := func(ok bool, name string) {
		if !ok {
			missing = append(missing, fmt.Errorf("app: Config.%s is not set", name))
		}
	}
	need(c.Store != nil, "Store")
	need(c.Queue != nil, "Queue")
	need(c.Agents != nil, "Agents")
	need(c.Guard != nil, "Guard")
	need(c.Schema != nil, "Schema")
	need(c.Hasher != nil, "Hasher")
	need(c.Limits != nil, "Limits")
	need(c.Now != nil, "Now")
	need(c.NewID != nil, "NewID")
	need(c.Random != nil, "Random")
	missing = append(missing, c.checkProviders()...)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Tracer == nil {
		c.Tracer = ports.Untraced{}
	}
	if c.Weights == nil {
		w := trust.DefaultWeights()
		c.Weights = &w
	}
	if c.MaxCalls == 0 {
		c.MaxCalls = defaultCalls
	}
	if c.MaxCallsPerAgent == 0 {
		c.MaxCallsPerAgent = defaultCallsPerAgent
	}
	need(c.MaxCalls > 0, "MaxCalls (above 0)")
	need(c.MaxCallsPerAgent > 0, "MaxCallsPerAgent (above 0)")
	for _, key := range c.SealKeys {
		need(len(key) == 32, "SealKeys (of 32 bytes each)")
	}
	need(c.Weights.Valid(), "Weights (none negative, adding up to 1)")
	if c.Name == "" && c.NewID != nil {
		c.Name = c.NewID()
	}
	return c, errors.Join(missing...)
}

// Engine is the whole of NEXUS. Its services are safe for concurrent use.
type Engine struct {
	Identity  *Identity
	Agents    *Agents
	Tasks     *Tasks
	Workflows *Workflows
	Trust     *Trust
	Billing   *Billing
	Gateway   *Gateway
	Market    *Market
	System    *System
	Limits    *Limits
	Worker    *Worker

	core *core
}

// New builds an engine. It starts nothing: Worker.Run does the work.
func New(cfg Config) (*Engine, error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, err
	}
	c := &core{Config: cfg, turns: turns{limit: cfg.MaxCallsPerAgent}, places: make(chan struct{}, cfg.MaxCalls), others: make(chan struct{}, maxOthers), pushes: make(chan struct{}, maxPushes), receivers: turns{limit: maxPushesPerHost}, askers: turns{limit: maxPushesPerUser}}
	c.feedTasks()
	c.feedRuns()
	e := &Engine{
		Identity: &Identity{core: c, passwords: c.passwordProvider()}, Agents: &Agents{c}, Tasks: &Tasks{c}, Workflows: &Workflows{c}, Trust: &Trust{c}, Billing: &Billing{c}, Gateway: &Gateway{c}, Market: &Market{c}, System: &System{c}, Limits: &Limits{c},
		core: c,
	}
	e.Worker = &Worker{core: c}
	return e, nil
}

// Ready tells whether the engine can serve now.
func (e *Engine) Ready(ctx context.Context) error {
	if err := e.core.Store.Ping(ctx); err != nil {
		return fault.New(fault.Unavailable, fault.CodeUnavailable, "the database cannot be reached").With("store", "down")
	}
	return nil
}

// Now is the engine's clock.
func (e *Engine) Now() time.Time { return e.core.now() }

type core struct {
	Config
	calls   inFlight
	turns   turns
	places  chan struct{} // one for each call that is under way
	others  chan struct{} // one for each other job, so that slow agents hold up nothing else
	queued  atomic.Int64  // calls' jobs that wait for a place before they are claimed
	crew    atomic.Pointer[crew]
	waiting atomic.Int64 // claimed jobs without one
	adrift  adrift
	feeds   feeds[TaskEvent]       // the tasks that are watched
	runs    feeds[scheduler.Event] // the runs that are watched
	cursors cursors
	paces   paces
	callKey atomic.Pointer[[]byte] // of the tokens of call-backs, once it is known
	// Notifications have places and turns of their own, so that slow receivers take none from agents.
	pushes    chan struct{}
	receivers turns // by host
	askers    turns // by user
}

// now is cut to what every store keeps, so that an answer says the same now and later.
func (c *core) now() time.Time { return c.Now().UTC().Truncate(time.Microsecond) }

// unit is one unit of work: a transaction, one moment, and a source of ids that gives the same ones when the
// transaction has to run again.
type unit struct {
	ports.Tx
	now    time.Time
	ids    *tape
	tracer ports.Tracer

	refs  []ports.Ref // jobs to be dispatched,
	grown grown       // logs that grew, to be published, and
	ends  []task.Task // tasks that ended, to be told, and
	timed []timed     // what they took, to be noted, once the unit is committed

	await  *awaited                 // who waits for the task that it makes
	begun  []*begun                 // calls that begin once the unit is committed
	runs   map[string]scheduler.Run // that it has locked, as it has made them
	unpaid map[string]error         // first tasks of these keys are known not to be payable
}

func (u *unit) id() string { return u.ids.next() }

// enqueue adds a job, which is dispatched once the unit is committed. There is one of a kind about a subject: if it is
// there already, it runs no later than at runAt. A new one goes on with the trace of who enqueues it.
func (u *unit) enqueue(ctx context.Context, kind, subject string, runAt time.Time, p ports.Priority) error {
	j := u.job(ctx, kind, subject, runAt, p)
	if err := u.Jobs.Enqueue(ctx, j); err != nil {
		return fmt.Errorf("enqueue %s: %w", kind, err)
	}
	u.refs = append(u.refs, j.Ref())
	return nil
}

func (u *unit) job(ctx context.Context, kind, subject string, runAt time.Time, p ports.Priority) ports.Job {
	j := ports.Job{ID: kind + ":" + subject, Kind: kind, Subject: subject, RunAt: runAt, Priority: p}
	if kind != jobProbe { // which never ends, so its trace would not either
		j.Trace = u.tracer.Traceparent(ctx)
	}
	return j
}

// retry gives a claimed job up until runAt.
func (u *unit) retry(ctx context.Context, j ports.Job, runAt time.Time) error {
	if err := u.Jobs.Retry(ctx, j, runAt); err != nil {
		return fmt.Errorf("retry job: %w", err)
	}
	j.RunAt = runAt
	u.refs = append(u.refs, j.Ref())
	return nil
}

// update is commit as a span of its own.
func (c *core) update(ctx context.Context, fn func(ctx context.Context, u *unit) error) error {
	ctx, span := c.Tracer.Start(ctx, ports.SpanWork, "unit of work")
	err := c.commit(ctx, fn)
	span.End(err)
	return err
}

// commit runs fn as one unit of work and, once it is committed, wakes the queue for the jobs that fn wrote, and those who
// watch what it changed.
func (c *core) commit(ctx context.Context, fn func(ctx context.Context, u *unit) error) error {
	now, ids := c.now(), &tape{draw: c.NewID}
	var done *unit
	refused := map[string]error{}
	for {
		err := c.Store.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
			ids.rewind()
			c.forgo(done)
			done = &unit{Tx: tx, now: now, ids: ids, tracer: c.Tracer, unpaid: refused}
			return fn(ctx, done)
		})
		if err == nil {
			break
		}
		begun := c.forgo(done)
		done = nil
		var short *unpaid
		if !errors.As(err, &short) || refused[short.key] != nil {
			if f, known := fault.As(err); !known || f.Kind == fault.Unavailable { // it may have been committed all the same
				for _, job := range begun {
					c.adrift.add(job)
				}
			}
			return err
		}
		refused[short.key] = short.err
	}
	c.tellOf(done.grown) // before anything comes of it, so that it mostly is what comes next
	if done.await != nil {
		c.open(done.await, done.grown.tasks)
	}
	for _, b := range done.begun {
		c.begin(b)
	}
	c.paces.note(done.timed)
	if len(done.refs) > 0 {
		c.Queue.Dispatch(done.refs...)
	}
	if c.Observe != nil {
		for _, t := range done.ends {
			c.Observe.TaskEnded(t)
		}
	}
	return nil
}

// tape remembers the ids it drew.
type tape struct {
	draw func() string
	ids  []string
	pos  int
}

func (t *tape) rewind() { t.pos = 0 }

func (t *tape) next() string {
	if t.pos == len(t.ids) {
		t.ids = append(t.ids, t.draw())
	}
	t.pos++
	return t.ids[t.pos-1]
}

// Paging limits of the lists that name no others.
const (
	defaultLimit = 20
	maxLimit     = 100
	maxOffset    = 1_000_000
)

// Page is a stretch of a list as a caller asks for it. A nil Limit means the list's default. Cursor, for lists that have
// them, is List.Next of an earlier answer to the same question, and takes the place of Offset.
type Page struct {
	Limit  *int
	Offset int
	Cursor string
}

func (p Page) resolve(standard, most int) (ports.Page, error) {
	out := ports.Page{Limit: standard, Offset: p.Offset}
	if p.Limit != nil {
		out.Limit = *p.Limit
	}
	var bad fault.Fields
	bad.Check(out.Limit >= 1 && out.Limit <= most, "limit", "must be 1 to %d", most)
	bad.Check(out.Offset >= 0 && out.Offset <= maxOffset, "offset", "must be 0 to %d", maxOffset)
	return out, bad.Err()
}

// List is a stretch of a list and how long the whole is.
type List[T any] struct {
	Items  []T
	Total  int
	Limit  int
	Offset int
	Next   string // the cursor of what comes after, for lists that have them; "" at the end
}

func list[T any](items []T, total int, p ports.Page) List[T] {
	if items == nil {
		items = []T{}
	}
	return List[T]{Items: items, Total: total, Limit: p.Limit, Offset: p.Offset}
}
