package portstest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/inprocess"
	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/domain/billing"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/domain/trust"
	"github.com/nexus-protocol/nexus/ports"
	"github.com/nexus-protocol/nexus/ports/portstest"
)

// spoiled is a sound store with one thing wrong.
type spoiled struct {
	ports.Store
	update func(ctx context.Context, inner ports.Store, fn func(context.Context, ports.Tx) error) error
	tx     func(*ports.Tx)
	reads  func(*ports.Reads)
}

func (s spoiled) Update(ctx context.Context, fn func(context.Context, ports.Tx) error) error {
	spoil := func(ctx context.Context, tx ports.Tx) error {
		if s.tx != nil {
			s.tx(&tx)
		}
		return fn(ctx, tx)
	}
	if s.update != nil {
		return s.update(ctx, s.Store, spoil)
	}
	return s.Store.Update(ctx, spoil)
}

func (s spoiled) Read() ports.Reads {
	r := s.Store.Read()
	if s.reads != nil {
		s.reads(&r)
	}
	return r
}

type (
	postAll        struct{ ports.LedgerStore }
	finishAll      struct{ ports.JobStore }
	claimAll       struct{ ports.JobStore }
	insertAll      struct{ ports.UserStore }
	roundedUsers   struct{ ports.UserStore }
	forgetfulSave  struct{ ports.AgentStore }
	reversedMarket struct{ ports.AgentReader }
	stuckMarket    struct{ ports.AgentReader }
	stuckHistory   struct{ ports.TrustReader }
	renewedSecrets struct {
		ports.SecretStore
		n *atomic.Int32
	}
	wholeLog     struct{ ports.TaskReader }
	keepingKeys  struct{ ports.KeyStore }
	lostTraces   struct{ ports.JobStore }
	countedTwice struct{ ports.StatsReader }
	staleLocks   struct {
		ports.TaskStore
		seen *sync.Map
	}
	dirtyTasks struct {
		ports.TaskStore
		seen *sync.Map
	}
	dirtyReader struct {
		ports.TaskReader
		seen *sync.Map
	}
)

func (s postAll) Post(ctx context.Context, t ledger.Transfer) error {
	if err := s.LedgerStore.Post(ctx, t); !errors.Is(err, ports.ErrDuplicate) {
		return err
	}
	return nil
}

func (s finishAll) Finish(ctx context.Context, j ports.Job) error {
	if err := s.JobStore.Finish(ctx, j); !errors.Is(err, ports.ErrLeaseLost) {
		return err
	}
	return nil
}

func (s claimAll) Claim(ctx context.Context, id string, l ports.Lease, now time.Time) (ports.Job, error) {
	return s.JobStore.Claim(ctx, id, l, now.Add(time.Hour))
}

func (s insertAll) Insert(ctx context.Context, u identity.User) error {
	if err := s.UserStore.Insert(ctx, u); !fault.Has(err, fault.CodeEmailTaken) {
		return err
	}
	return nil
}

func (s roundedUsers) Insert(ctx context.Context, u identity.User) error {
	u.CreatedAt = u.CreatedAt.Truncate(time.Second)
	return s.UserStore.Insert(ctx, u)
}

func (s forgetfulSave) Save(ctx context.Context, a registry.Agent) error {
	a.Card = nil
	return s.AgentStore.Save(ctx, a)
}

func (s reversedMarket) Discover(ctx context.Context, q registry.Query, now time.Time) ([]registry.Agent, int, error) {
	found, total, err := s.AgentReader.Discover(ctx, q, now)
	slices.Reverse(found)
	return found, total, err
}

func (s stuckMarket) Discover(ctx context.Context, q registry.Query, now time.Time) ([]registry.Agent, int, error) {
	q.After = nil
	return s.AgentReader.Discover(ctx, q, now)
}

func (s stuckHistory) EventsAfter(ctx context.Context, id string, after trust.Place, limit int) ([]trust.Event, int, error) {
	after.ID = "" // all of one moment count as passed
	return s.TrustReader.EventsAfter(ctx, id, after, limit)
}

func (s renewedSecrets) Keep(ctx context.Context, name string, secret []byte) error {
	return s.SecretStore.Keep(ctx, fmt.Sprint(name, s.n.Add(1)), secret)
}

func (s wholeLog) Events(ctx context.Context, id string, _ int64, limit int) ([]task.Event, error) {
	return s.TaskReader.Events(ctx, id, 0, limit)
}

func (s lostTraces) Enqueue(ctx context.Context, j ports.Job) error {
	j.Trace = ""
	return s.JobStore.Enqueue(ctx, j)
}

func (s countedTwice) Ledger(ctx context.Context) (ports.LedgerStats, error) {
	sums, err := s.StatsReader.Ledger(ctx)
	sums.Held *= 2
	return sums, err
}

func (keepingKeys) RevokeAll(context.Context, string, time.Time) error { return nil }

func (s staleLocks) Lock(ctx context.Context, id string) (task.Task, error) {
	t, err := s.TaskStore.Lock(ctx, id)
	first, _ := s.seen.LoadOrStore(id, t)
	return first.(task.Task), err
}

func (s staleLocks) Save(ctx context.Context, t task.Task, events []task.Event) error {
	if err := s.TaskStore.Save(ctx, t, events); !errors.Is(err, ports.ErrDuplicate) {
		return err
	}
	return nil
}

func (s dirtyTasks) Insert(ctx context.Context, t task.Task, events []task.Event) error {
	s.seen.Store(t.ID, t)
	return s.TaskStore.Insert(ctx, t, events)
}

func (s dirtyReader) Get(ctx context.Context, id string) (task.Task, error) {
	if t, ok := s.seen.Load(id); ok {
		return t.(task.Task), nil
	}
	return s.TaskReader.Get(ctx, id)
}

func TestASoundStorePasses(t *testing.T) {
	require.NoError(t, portstest.Store(t.Context(), func() ports.Store { return memory.New() }, portstest.Traits{}))
}

func TestEveryPlantedBugIsCaught(t *testing.T) {
	for name, c := range map[string]struct {
		store func() spoiled
		found string // the check that must fail
	}{
		"a lost rollback": {func() spoiled {
			return spoiled{update: func(ctx context.Context, inner ports.Store, fn func(context.Context, ports.Tx) error) error {
				var err error
				return errors.Join(inner.Update(ctx, func(ctx context.Context, tx ports.Tx) error { err = fn(ctx, tx); return nil }), err)
			}}
		}, "unit/rollback leaves nothing"},
		"a dirty read": {func() spoiled {
			seen := &sync.Map{}
			return spoiled{tx: func(tx *ports.Tx) { tx.Tasks = dirtyTasks{tx.Tasks, seen} }, reads: func(r *ports.Reads) { r.Tasks = dirtyReader{r.Tasks, seen} }}
		}, "unit/uncommitted changes are not seen"},
		"a swallowed context": {func() spoiled {
			return spoiled{update: func(ctx context.Context, inner ports.Store, fn func(context.Context, ports.Tx) error) error {
				return inner.Update(context.WithoutCancel(ctx), fn)
			}}
		}, "unit/an ended context saves nothing"},
		"a nested update": {func() spoiled {
			return spoiled{update: func(ctx context.Context, inner ports.Store, fn func(context.Context, ports.Tx) error) error {
				if err := inner.Update(ctx, fn); !errors.Is(err, ports.ErrNestedUpdate) {
					return err
				}
				return nil
			}}
		}, "unit/update inside update is refused"},
		"a place that is ignored": {func() spoiled { return spoiled{reads: func(r *ports.Reads) { r.Agents = stuckMarket{r.Agents} }} }, "agents/discovery agrees with the domain"},
		"a place in a tie":        {func() spoiled { return spoiled{reads: func(r *ports.Reads) { r.Trust = stuckHistory{r.Trust} }} }, "trust/events after a place"},
		"a secret that is lost": {func() spoiled {
			return spoiled{tx: func(tx *ports.Tx) { tx.Secrets = renewedSecrets{tx.Secrets, new(atomic.Int32)} }}
		}, "secrets/the first one stays"},
		"a duplicate key":         {func() spoiled { return spoiled{tx: func(tx *ports.Tx) { tx.Ledger = postAll{tx.Ledger} }} }, "ledger/a key is booked once"},
		"an e-mail taken twice":   {func() spoiled { return spoiled{tx: func(tx *ports.Tx) { tx.Users = insertAll{tx.Users} }} }, "users/an e-mail is taken once"},
		"a fence that is open":    {func() spoiled { return spoiled{tx: func(tx *ports.Tx) { tx.Jobs = finishAll{tx.Jobs} }} }, "jobs/a lease that ran out"},
		"a lease that is no lock": {func() spoiled { return spoiled{tx: func(tx *ports.Tx) { tx.Jobs = claimAll{tx.Jobs} }} }, "jobs/claim and finish"},
		"times cut to seconds":    {func() spoiled { return spoiled{tx: func(tx *ports.Tx) { tx.Users = roundedUsers{tx.Users} }} }, "users/found by id and e-mail"},
		"a column that is lost":   {func() spoiled { return spoiled{tx: func(tx *ports.Tx) { tx.Agents = forgetfulSave{tx.Agents} }} }, "agents/save leaves what trust keeps"},
		"keys that stay":          {func() spoiled { return spoiled{tx: func(tx *ports.Tx) { tx.Keys = keepingKeys{tx.Keys} }} }, "keys/life"},
		"a trace that is lost":    {func() spoiled { return spoiled{tx: func(tx *ports.Tx) { tx.Jobs = lostTraces{tx.Jobs} }} }, "jobs/claim and finish"},
		"sums that are off":       {func() spoiled { return spoiled{reads: func(r *ports.Reads) { r.Stats = countedTwice{r.Stats} }} }, "stats/ledger"},
		"a lost update": {func() spoiled {
			seen := &sync.Map{}
			return spoiled{tx: func(tx *ports.Tx) { tx.Tasks = staleLocks{tx.Tasks, seen} }}
		}, "race/cancels against a completion"},
		"an order of its own": {func() spoiled { return spoiled{reads: func(r *ports.Reads) { r.Agents = reversedMarket{r.Agents} }} }, "agents/discovery agrees with the domain"},
		"a log that repeats":  {func() spoiled { return spoiled{reads: func(r *ports.Reads) { r.Tasks = wholeLog{r.Tasks} }} }, "tasks/log and history"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			open := func() ports.Store {
				s := c.store()
				s.Store = memory.New()
				return s
			}
			require.ErrorContains(t, portstest.Store(t.Context(), open, portstest.Traits{}), c.found+": ")
		})
	}
}

// credulous is a way of paying with one thing wrong.
type credulous struct {
	ports.Payments
	begin func(ports.Payments, context.Context, billing.Order) (billing.Checkout, error)
	read  func(ports.Payments, context.Context, ports.Delivery) (billing.Event, error)
}

func (c credulous) Begin(ctx context.Context, o billing.Order) (billing.Checkout, error) {
	if c.begin != nil {
		return c.begin(c.Payments, ctx, o)
	}
	return c.Payments.Begin(ctx, o)
}

func (c credulous) Read(ctx context.Context, d ports.Delivery) (billing.Event, error) {
	if c.read != nil {
		return c.read(c.Payments, ctx, d)
	}
	return c.Payments.Read(ctx, d)
}

func TestABadWayOfPayingIsCaught(t *testing.T) {
	anything := func(body []byte) (e billing.Event, err error) { return e, json.Unmarshal(body, &e) }
	for name, bad := range map[string]credulous{
		"another session each time": {begin: func(p ports.Payments, ctx context.Context, o billing.Order) (billing.Checkout, error) {
			c, err := p.Begin(ctx, o)
			if !c.Settled {
				c.SessionID += fmt.Sprint(time.Now().UnixNano())
			}
			return c, err
		}},
		"whatever is signed by nobody": {read: func(p ports.Payments, ctx context.Context, d ports.Delivery) (billing.Event, error) {
			if d.Signature == "" {
				return anything(d.Body)
			}
			return p.Read(ctx, d)
		}},
		"the future": {read: func(p ports.Payments, ctx context.Context, d ports.Delivery) (billing.Event, error) {
			e, err := p.Read(ctx, d)
			if f, ok := fault.As(err); ok && len(d.Signature) > 60 && len(d.Body) > 2 && f.Code == fault.CodeValidation {
				return anything(d.Body)
			}
			return e, err
		}},
		"an amount that is off": {read: func(p ports.Payments, ctx context.Context, d ports.Delivery) (billing.Event, error) {
			e, err := p.Read(ctx, d)
			e.Amount.Amount++
			return e, err
		}},
		"grants for nothing": {begin: func(p ports.Payments, ctx context.Context, o billing.Order) (billing.Checkout, error) {
			c, err := p.Begin(ctx, o)
			if o.Grant != nil {
				err = nil
			}
			return c, err
		}},
	} {
		inner := memory.NewPayments(time.Now)
		bad.Payments = inner
		with := portstest.Provider{Sells: true, Gives: true, Now: time.Now(), Sign: inner.Sign, Pay: func(id string) ([]ports.Delivery, error) {
			d, err := inner.Pay(id)
			return []ports.Delivery{d}, err
		}}
		require.NoError(t, portstest.Payments(t.Context(), inner, with))
		require.Error(t, portstest.Payments(t.Context(), bad, with), name)
	}
}

// lazyQueue never looks into the store by itself.
type lazyQueue struct{ refs chan ports.Ref }

func (q lazyQueue) Dispatch(refs ...ports.Ref) {
	for _, r := range refs {
		q.refs <- r
	}
}

func (q lazyQueue) Run(ctx context.Context, handle func(context.Context, string) error) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-q.refs:
			go func() { _ = handle(ctx, r.ID) }()
		}
	}
}

func TestABadQueueIsCaught(t *testing.T) {
	caught := 0
	for _, c := range portstest.QueueChecks() {
		if c.Name != "a job that nobody told of is found" && c.Name != "no more than the limit at once" {
			continue
		}
		store := memory.New()
		require.NoError(t, c.Run(t.Context(), store, func(n int) ports.Queue {
			return inprocess.New(store, time.Now, inprocess.Options{Workers: n})
		}, time.Now))
		store = memory.New()
		require.Error(t, c.Run(t.Context(), store, func(int) ports.Queue { return lazyQueue{make(chan ports.Ref, 100)} }, time.Now), c.Name)
		caught++
	}
	require.Equal(t, 2, caught)
}

// badEvents is a small ports.Events over slices, with one thing wrong or none.
type badEvents struct {
	mu   sync.Mutex
	subs map[string][]*badSubscription
	bug  string
}

type badSubscription struct {
	of     *badEvents
	stream string
	wake   chan struct{}
}

func newBadEvents(bug string) *badEvents {
	return &badEvents{subs: map[string][]*badSubscription{}, bug: bug}
}

func (e *badEvents) PublishElsewhere(streams ...string) {
	if e.bug == "elsewhere is here too" {
		e.Publish(streams...)
	}
}

func (e *badEvents) Publish(streams ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.bug == "only the first stream of several" && len(streams) > 1 {
		streams = streams[:1]
	}
	for _, stream := range streams {
		subs := e.subs[stream]
		switch {
		case e.bug == "only the newest subscription" && len(subs) > 1:
			subs = subs[len(subs)-1:]
		case e.bug == "everybody is woken":
			subs = nil
			for _, s := range e.subs {
				subs = append(subs, s...)
			}
		}
		for _, s := range subs {
			if e.bug == "a publisher that blocks" {
				s.wake <- struct{}{}
				continue
			}
			select {
			case s.wake <- struct{}{}:
			default:
			}
		}
	}
}

func (e *badEvents) Subscribe(stream string) ports.Subscription {
	room := 1
	switch e.bug {
	case "a wake that is lost when nobody waits":
		room = 0
	case "a wake for each publication":
		room = 1 << 16
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s := &badSubscription{e, stream, make(chan struct{}, room)}
	e.subs[stream] = append(e.subs[stream], s)
	return s
}

func (s *badSubscription) Wake() <-chan struct{} { return s.wake }

func (s *badSubscription) Close() {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	switch s.of.bug {
	case "close does nothing":
	case "close ends the whole stream":
		delete(s.of.subs, s.stream)
	default:
		s.of.subs[s.stream] = slices.DeleteFunc(s.of.subs[s.stream], func(o *badSubscription) bool { return o == s })
	}
}

func TestBadEventsAreCaught(t *testing.T) {
	require.NoError(t, portstest.Events(t.Context(), func() ports.Events { return newBadEvents("") }, portstest.EventsTraits{}))
	for bug, found := range map[string]string{
		"a wake that is lost when nobody waits": "a publication wakes every subscription of its stream",
		"only the newest subscription":          "a publication wakes every subscription of its stream",
		"only the first stream of several":      "a publication wakes every subscription of its stream",
		"everybody is woken":                    "streams do not wake each other",
		"a publisher that blocks":               "a slow reader stops nobody and is woken once",
		"a wake for each publication":           "a slow reader stops nobody and is woken once",
		"close does nothing":                    "a closed subscription is left alone, and leaves the others alone",
		"close ends the whole stream":           "a closed subscription is left alone, and leaves the others alone",
		"deaf":                                  "other processes hear",
		"elsewhere is here too":                 "only other processes hear what is published elsewhere",
	} {
		t.Run(bug, func(t *testing.T) {
			t.Parallel()
			open := func() ports.Events { return newBadEvents(bug) }
			require.ErrorContains(t, portstest.Events(t.Context(), open, portstest.EventsTraits{Processes: bug == "deaf"}), found+": ")
		})
	}
}

// rootless begins a trace with every span.
type rootless struct{ *memory.Tracer }

func (r rootless) Resume(ctx context.Context, _ string) context.Context { return ctx }

func TestABadTracerIsCaught(t *testing.T) {
	require.NoError(t, portstest.Tracer(t.Context(), memory.NewTracer(), memory.NewTracer()))
	require.ErrorContains(t, portstest.Tracer(t.Context(), memory.NewTracer(), rootless{memory.NewTracer()}), "resumed")
	require.Error(t, portstest.Tracer(t.Context(), ports.Untraced{}, ports.Untraced{}))
}

// hosted puts the suite's agents at a memory caller.
func hosted(agents *memory.Agents, spoil func(ports.Call) ports.Call) portstest.AgentHost {
	n := 0
	return func(agent portstest.Agent) (string, json.RawMessage) {
		n++
		endpoint := fmt.Sprintf("memory:%d", n)
		var ended sync.Map
		agents.Handle(endpoint, func(ctx context.Context, c ports.Call) (ports.Answer, error) {
			if a, ok := ended.Load(c.RemoteTaskID); ok && c.Message.ID == "" {
				return a.(ports.Answer), nil
			}
			c = spoil(c)
			c.RemoteTaskID, c.ContextID = "r-"+c.TaskID, "c-"+c.TaskID
			var all ports.Answer
			var deaf error
			a := agent(ctx, c, func(news ports.Answer) {
				news.State, news.RemoteTaskID, news.ContextID = ports.AnswerWorking, c.RemoteTaskID, c.ContextID
				all.Messages, all.Artifacts = append(all.Messages, news.Messages...), append(all.Artifacts, news.Artifacts...)
				if deaf == nil && c.Hear != nil {
					deaf = c.Hear(ctx, news)
				}
			})
			a.RemoteTaskID, a.ContextID = c.RemoteTaskID, c.ContextID
			a.Messages, a.Artifacts = append(all.Messages, a.Messages...), append(all.Artifacts, a.Artifacts...)
			ended.Store(c.RemoteTaskID, a)
			return a, errors.Join(deaf, ctx.Err())
		})
		return endpoint, nil
	}
}

// badCaller is a caller with a fault in its answers.
type badCaller struct {
	*memory.Agents
	spoil func(ports.Answer, error) (ports.Answer, error)
}

func (b badCaller) Send(ctx context.Context, c ports.Call) (ports.Answer, error) {
	return b.spoil(b.Agents.Send(ctx, c))
}

func TestABadAgentCallerIsCaught(t *testing.T) {
	same := func(c ports.Call) ports.Call { return c }
	fine := func(a ports.Answer, err error) (ports.Answer, error) { return a, err }
	for bug, c := range map[string]struct {
		call   func(ports.Call) ports.Call
		answer func(ports.Answer, error) (ports.Answer, error)
		found  string // "": nothing
	}{
		"none": {same, fine, ""},
		"metadata is lost": {func(c ports.Call) ports.Call {
			c.Message.Parts = slices.Clone(c.Message.Parts)
			for i := range c.Message.Parts {
				c.Message.Parts[i].Metadata = nil
			}
			return c
		}, fine, "parts go both ways"},
		"only text comes back": {same, func(a ports.Answer, err error) (ports.Answer, error) {
			for i := range a.Artifacts {
				a.Artifacts[i].Parts = a.Artifacts[i].Parts[:1]
			}
			return a, err
		}, "parts go both ways"},
		"news is heard twice": {func(c ports.Call) ports.Call {
			if hear := c.Hear; hear != nil {
				c.Hear = func(ctx context.Context, a ports.Answer) error { return errors.Join(hear(ctx, a), hear(ctx, a)) }
			}
			return c
		}, fine, "is heard at once"},
		"errors of the listener are lost": {func(c ports.Call) ports.Call {
			if hear := c.Hear; hear != nil {
				c.Hear = func(ctx context.Context, a ports.Answer) error { _ = hear(ctx, a); return nil }
			}
			return c
		}, fine, "an error of the listener"},
		"the context is forgotten": {same, func(a ports.Answer, err error) (ports.Answer, error) { a.ContextID = ""; return a, err }, "in the same context"},
		"failures are silent":      {same, func(a ports.Answer, err error) (ports.Answer, error) { a.Reason = ""; return a, err }, "the agent's words"},
		"everything is the agent's fault": {same, func(a ports.Answer, err error) (ports.Answer, error) {
			if err != nil {
				err = &ports.CallError{Code: task.ErrAgent, Message: err.Error()}
			}
			return a, err
		}, "the listener"},
	} {
		t.Run(bug, func(t *testing.T) {
			t.Parallel()
			agents := memory.NewAgents()
			err := portstest.AgentCaller(t.Context(), badCaller{agents, c.answer}, hosted(agents, c.call), portstest.CallerTraits{Streams: true, Nowhere: "memory:nowhere"})
			if c.found == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.found)
		})
	}
}
