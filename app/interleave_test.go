package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/nexus-protocol/nexus/adapters/inprocess"
	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/adapters/sqlite"
	"github.com/nexus-protocol/nexus/adapters/sqlite/sqlitetest"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// tangle is a few tasks of one agent, and everything that can happen to them in an order that is drawn: also inside of the
// agent's calls, so that two processes call it about one task, it answers late, and again, and after the end.
type tangle struct {
	*rapid.T
	ctx    context.Context
	store  ports.Store
	now    *time.Time
	procs  [2]*Engine
	agents *memory.Agents
	asker  identity.Caller
	owner  identity.Caller
	agent  registry.Agent
	tasks  []string
	eyes   []*eye
	most   int            // actions
	tally  map[string]int // of what happened, in all tangles
	depth  int
	calm   bool
}

// neighbour is a process's ports.Events beside one other process.
type neighbour struct{ here, there *inprocess.Events }

func (n neighbour) Publish(streams ...string) {
	n.here.Publish(streams...)
	n.there.Publish(streams...)
}

func (n neighbour) PublishElsewhere(streams ...string)         { n.there.Publish(streams...) }
func (n neighbour) Subscribe(stream string) ports.Subscription { return n.here.Subscribe(stream) }

// eye is a client of a task's stream, which loses its connection and comes again with the last number that it has.
type eye struct {
	id    string
	from  int64 // the first number that it is to be given, less one
	seen  []TaskEvent
	watch *Watcher[TaskEvent]
	ended bool
}

const price = credits.Amount(700)

func (w *tangle) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *tangle) proc() *Engine { return w.procs[rapid.IntRange(0, 1).Draw(w.T, "process")] }

func (w *tangle) task() string {
	if len(w.tasks) == 0 {
		w.create()
	}
	return rapid.SampledFrom(w.tasks).Draw(w.T, "task")
}

func (w *tangle) create() {
	if len(w.tasks) == 3 {
		return
	}
	v, err := w.proc().Tasks.Create(w.ctx, w.asker, CreateTask{AgentID: w.agent.ID, Title: "x", Timeout: time.Duration(rapid.IntRange(10, 60).Draw(w.T, "timeout")) * time.Second})
	w.ok(err)
	w.tasks = append(w.tasks, v.ID)
}

func parts(text string) []task.Part { return []task.Part{task.TextPart(text)} }

func (w *tangle) act() {
	if w.most == 0 {
		return
	}
	w.most--
	w.happens(rapid.SampledFrom([]string{
		"create", "forward", "forward", "forward", "wait", "wait long", "reply", "answer", "cancel", "sweep", "tell of the cancel", "call back", "watch", "look", "look", "lose the stream",
	}).Draw(w.T, "what"))
}

func (w *tangle) happens(what string) {
	switch what {
	case "create":
		w.create()
	case "forward": // the job is handed over, due or not, once or again
		w.ok(w.proc().Worker.Handle(w.ctx, jobForward+":"+w.task()))
	case "tell of the cancel":
		w.ok(w.proc().Worker.Handle(w.ctx, jobTellCancel+":"+w.task()))
	case "wait":
		*w.now = w.now.Add(time.Duration(rapid.IntRange(1, 3000).Draw(w.T, "ms")) * time.Millisecond)
	case "wait long": // leases run out, and tasks
		*w.now = w.now.Add(time.Duration(rapid.IntRange(10, 30).Draw(w.T, "s")) * time.Second)
	case "reply":
		_, err := w.proc().Tasks.Reply(w.ctx, w.asker, w.task(), ReplyTask{Role: task.RoleUser, Parts: parts("more")})
		w.only(err)
	case "answer":
		in := ReplyTask{
			Role: task.RoleAgent, Parts: parts("by itself"), MessageID: rapid.SampledFrom([]string{"", "m1"}).Draw(w.T, "id"),
			Status: rapid.SampledFrom([]task.Status{"", task.Running, task.Completed, task.Failed}).Draw(w.T, "status"),
		}
		_, err := w.proc().Tasks.Reply(w.ctx, w.owner, w.task(), in)
		w.only(err)
	case "cancel":
		_, err := w.proc().Tasks.Cancel(w.ctx, w.asker, w.task())
		w.only(err)
	case "sweep":
		w.ok(w.proc().Worker.sweep(w.ctx))
	case "call back":
		p, id := w.proc(), w.task()
		c, err := p.core.callBack(w.ctx, id)
		w.ok(err)
		w.ok(p.Gateway.CalledBack(w.ctx, id, c.Token))
	case "watch":
		t, err := w.store.Read().Tasks.Get(w.ctx, w.task())
		w.ok(err)
		e := &eye{id: t.ID, from: rapid.Int64Range(0, t.LastSeq).Draw(w.T, "from")}
		w.eyes = append(w.eyes, e)
		w.resume(e)
	case "look":
		if len(w.eyes) > 0 {
			w.look(rapid.SampledFrom(w.eyes).Draw(w.T, "who"), 1)
		}
	case "lose the stream":
		if len(w.eyes) > 0 {
			e := rapid.SampledFrom(w.eyes).Draw(w.T, "who")
			e.watch.Close()
			w.resume(e)
			if len(e.seen) > 0 {
				w.tally["streams taken up again"]++
			}
		}
	}
}

// only lets no error pass but that a task has ended.
func (w *tangle) only(err error) {
	w.Helper()
	if err != nil && !fault.Has(err, fault.CodeTaskNotActive) {
		w.Fatal(err)
	}
}

func (w *tangle) resume(e *eye) {
	after := e.from
	if n := len(e.seen); n > 0 {
		after = e.seen[n-1].Seq
	}
	var err error
	e.watch, err = w.proc().Tasks.Watch(w.ctx, w.asker, e.id, after)
	w.ok(err)
}

// look takes what is there, so many times; without end if times is below 0.
func (w *tangle) look(e *eye, times int) {
	enough := make(chan struct{}, 1)
	for ; times != 0 && !e.ended; times-- {
		var interrupt <-chan struct{}
		if times > 0 {
			enough <- struct{}{}
			interrupt = enough
		}
		ctx, cancel := context.WithTimeout(w.ctx, 10*time.Second)
		events, err := e.watch.Next(ctx, interrupt)
		cancel()
		if errors.Is(err, io.EOF) {
			e.ended = true
			return
		}
		w.ok(err)
		e.seen = append(e.seen, events...)
	}
}

// answer is the agent.
func (w *tangle) answer(ctx context.Context, c ports.Call) (ports.Answer, error) {
	said := func() (out []task.Message) {
		for _, id := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"m1", "m2", "m3"}), 0, 3, rapid.ID).Draw(w.T, "messages") {
			out = append(out, task.Message{ID: id, Role: task.RoleAgent, Parts: parts(id)})
		}
		return out
	}
	if !w.calm && w.depth < 2 {
		w.depth++
		for range rapid.IntRange(0, 3).Draw(w.T, "meanwhile") {
			if c.Hear != nil && rapid.Bool().Draw(w.T, "speaks") {
				if err := c.Hear(context.WithoutCancel(ctx), ports.Answer{State: ports.AnswerWorking, RemoteTaskID: "r", Messages: said()}); err != nil {
					w.depth--
					return ports.Answer{}, err
				}
			}
			w.act()
		}
		w.depth--
	}
	if t, err := w.store.Read().Tasks.Get(w.ctx, c.TaskID); err == nil && t.Status.Ended() {
		w.tally["late answers"]++
	}
	if ctx.Err() != nil {
		w.tally["answers to nobody"]++
	}
	kind := "done"
	if !w.calm { // also when nobody waits for it any more: that is how late answers come
		kind = rapid.SampledFrom([]string{"done", "done", "working", "working", "asks", "failed", "broken", "gone"}).Draw(w.T, "answer")
	}
	switch kind {
	case "gone":
		if ctx.Err() != nil {
			return ports.Answer{}, ctx.Err()
		}
		return ports.Answer{}, &ports.CallError{Code: task.ErrUnreachable, Message: "gone", Retryable: true, Unreachable: true}
	case "broken":
		return ports.Answer{}, &ports.CallError{Code: task.ErrProtocol, Message: "not JSON"}
	case "working":
		return ports.Answer{State: ports.AnswerWorking, RemoteTaskID: "r"}, nil
	case "asks":
		return ports.Answer{State: ports.AnswerInputRequired, RemoteTaskID: "r", Messages: append(said(), task.Message{ID: "q", Role: task.RoleAgent, Parts: parts("which?")})}, nil
	case "failed":
		return ports.Answer{State: ports.AnswerFailed, Reason: "no", RemoteTaskID: "r", Messages: said()}, nil
	default:
		return ports.Answer{State: ports.AnswerDone, RemoteTaskID: "r", Messages: said()}, nil
	}
}

// judge lets what is open come to its end, and looks whether each task has one, and one settlement, and each stream was
// given each event once and in order.
func (w *tangle) judge() {
	w.calm = true
	r := w.store.Read()
	for round := 0; ; round++ {
		open := false
		for _, id := range w.tasks {
			t, err := r.Tasks.Get(w.ctx, id)
			w.ok(err)
			open = open || !t.Status.Ended()
			w.ok(w.proc().Worker.Handle(w.ctx, jobForward+":"+id))
		}
		if !open {
			break
		}
		if round > 100 {
			w.Fatal("a task never ends")
		}
		*w.now = w.now.Add(time.Second)
		w.ok(w.proc().Worker.sweep(w.ctx))
	}
	for _, id := range w.tasks { // nothing changes any more
		w.tasks = []string{id}
		for _, what := range []string{"forward", "reply", "answer", "cancel", "sweep", "call back", "tell of the cancel"} {
			before, err := r.Tasks.Events(w.ctx, id, 0, 1000)
			w.ok(err)
			w.happens(what)
			after, err := r.Tasks.Events(w.ctx, id, 0, 1000)
			w.ok(err)
			if len(before) != len(after) {
				w.Fatalf("%s changed a task that has ended", what)
			}
		}
		w.judgeTask(id)
	}
	b, err := r.Ledger.Balance(w.ctx, w.asker.UserID)
	w.ok(err)
	if !b.Consistent() || b.Held != 0 {
		w.Fatalf("the requester's balance is %+v", b)
	}
}

func (w *tangle) judgeTask(id string) {
	r := w.store.Read()
	t, err := r.Tasks.Get(w.ctx, id)
	w.ok(err)
	events, err := r.Tasks.Events(w.ctx, id, 0, 1000)
	w.ok(err)
	said := map[string]int{}
	for i, e := range events {
		if e.Seq != int64(i+1) || (e.Kind == task.EventComplete) != (i == len(events)-1) {
			w.Fatalf("event %d of %d of task %s is number %d, %s", i+1, len(events), id, e.Seq, e.Kind)
		}
		if m := e.Message; m != nil && m.Role == task.RoleAgent && string(m.Parts[0].Data) != `"by itself"` {
			if said[m.ID]++; said[m.ID] > 1 {
				w.Fatalf("message %s of task %s came twice", m.ID, id)
			}
		}
	}
	if last := events[len(events)-1]; last.Status != t.Status || t.LastSeq != last.Seq {
		w.Fatalf("task %s is %s, its last event says %s", id, t.Status, last.Status)
	}
	w.tally[string(t.Status)]++
	if t.Error != nil {
		w.tally[t.Error.Code]++
	}
	if t.Tried > 1 {
		w.tally["tried again"]++
	}
	entries := map[ledger.EntryType]int{}
	all, _, err := r.Ledger.Transactions(w.ctx, w.asker.UserID, "", ports.Page{Limit: 100})
	w.ok(err)
	for _, e := range all {
		if e.Reference == id {
			entries[e.Type]++
		}
	}
	back, paid := entries[ledger.TypeRelease], entries[ledger.TypeTaskDebit]
	if want := t.Status == task.Completed; entries[ledger.TypeHold] != 1 || paid != boolInt(want) || back != 1 {
		w.Fatalf("task %s is %s, and its entries are %v", id, t.Status, entries)
	}
	for i, e := range w.eyes {
		if e.id != id {
			continue
		}
		w.look(e, -1)
		e.watch.Close()
		if int64(len(e.seen)) != t.LastSeq-e.from && e.from != t.LastSeq {
			w.Fatalf("stream %d from %d of %d was given %d events: %v", i, e.from, t.LastSeq, len(e.seen), numbers(e.seen))
		}
		for j, got := range e.seen {
			if got.Seq != e.from+int64(j)+1 || got.Kind != events[got.Seq-1].Kind {
				w.Fatalf("stream %d from %d: event %d is number %d", i, e.from, j, got.Seq)
			}
		}
	}
}

func numbers(events []TaskEvent) (out []string) {
	for _, e := range events {
		out = append(out, fmt.Sprint(e.Seq, e.Kind))
	}
	return out
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Any interleaving of what can happen to tasks ends each of them once, with one settlement and one last event, and a stream
// that is taken up again anywhere has seen each event once, in order. NEXUS_SEEDS says how many there are on each store.
func TestAnyInterleavingEndsOnce(t *testing.T) {
	for name, c := range map[string]struct {
		open   func(t *testing.T) ports.Store
		most   int // actions
		worlds int
	}{
		"memory": {func(*testing.T) ports.Store { return memory.New() }, 60, 200},
		"sqlite": {func(t *testing.T) ports.Store {
			path := filepath.Join(t.TempDir(), "nexus.db")
			sqlitetest.Fill(t, path)
			store, err := sqlite.Open(t.Context(), path)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, store.Close()) })
			return store
		}, 15, 12},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if v := os.Getenv("NEXUS_SEEDS"); v != "" {
				var err error
				c.worlds, err = strconv.Atoi(v)
				require.NoError(t, err)
			}
			store := c.open(t)
			now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			agents := memory.NewAgents()
			here, there := inprocess.NewEvents(), inprocess.NewEvents()
			events := [2]neighbour{{here, there}, {there, here}} // both hear of what the other one changes
			var procs [2]*Engine
			for i := range procs {
				var err error
				procs[i], err = New(Config{
					Store: store, Queue: noQueue{}, Agents: agents, Guard: memory.OpenGuard{}, Schema: memory.Schemas{}, Hasher: memory.NewHasher(), Limits: memory.NewLimiter(func() time.Time { return now }),
					Events: events[i], Now: func() time.Time { return now }, NewID: memory.NewID, Random: rand.Reader, CallBackURL: func(id string) string { return "http://x/" + id },
				})
				require.NoError(t, err)
			}
			n, tally, done, broken := 0, map[string]int{}, 0, false
			property := func(rt *rapid.T) {
				if done >= c.worlds && !broken { // the rest would take too long
					return
				}
				defer func(before int) { broken = broken || done == before }(done)
				w := &tangle{T: rt, ctx: t.Context(), store: store, now: &now, procs: procs, agents: agents, tally: tally}
				for _, c := range []*identity.Caller{&w.asker, &w.owner} {
					n++
					u := identity.User{ID: memory.NewID(), Email: fmt.Sprint(n, "@example.com"), Role: identity.RoleUser, CreatedAt: now}
					w.ok(store.Update(w.ctx, func(ctx context.Context, tx ports.Tx) error {
						return errors.Join(tx.Users.Insert(ctx, u), tx.Ledger.Post(ctx, ledger.Grant(u.ID, now).Stamp(memory.NewID)))
					}))
					*c = identity.SessionCaller(u, "")
				}
				endpoint, name, cost := fmt.Sprint("http://agent", n), "Agent", price
				agents.Handle(endpoint, w.answer)
				var err error
				w.agent, err = procs[0].Agents.Register(w.ctx, w.owner, registry.Profile{Name: &name, Endpoint: &endpoint, Price: &cost})
				w.ok(err)
				w.most = rapid.IntRange(5, c.most).Draw(rt, "actions")
				for w.most > 0 {
					w.act()
				}
				w.judge()
				// One piece of evidence for each task that was not cancelled.
				evidence := 0
				tasks, _, err := store.Read().Tasks.List(w.ctx, ports.TaskFilter{RequesterUserID: w.asker.UserID}, ports.Page{Limit: 10})
				w.ok(err)
				for _, t := range tasks {
					if t.Status != task.Cancelled {
						evidence++
					}
				}
				if _, total, err := store.Read().Trust.Events(w.ctx, w.agent.ID, ports.Page{Limit: 1}); err != nil || total != evidence {
					w.Fatalf("%d pieces of evidence for %d tasks: %v", total, evidence, err)
				}
				done++
			}
			for done < c.worlds {
				rapid.Check(t, property)
			}
			t.Log(tally)
			if c.worlds < 100 { // too few for what is rare
				return
			}
			for _, what := range []string{"completed", "failed", "cancelled", task.ErrTimeout, "tried again", "late answers", "streams taken up again"} {
				require.NotZero(t, tally[what], "there was never one of: %s", what)
			}
		})
	}
}
