package app_test

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/inprocess"
	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/adapters/postgres/postgrestest"
	"github.com/nexus-protocol/nexus/adapters/redisevents"
	"github.com/nexus-protocol/nexus/adapters/redistest"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/scheduler"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

func TestMain(m *testing.M) {
	code := postgrestest.Main(m)
	redistest.Stop()
	os.Exit(code)
}

// seen is what a watcher was given.
type seen struct {
	events    []task.Event
	artifacts []task.Artifact // that the last event brought
	err       error
	at        time.Time // of the end
}

// watch watches in a goroutine.
func (r *rig) watch(ctx context.Context, c identity.Caller, id string, after int64) <-chan seen {
	out := make(chan seen, 1)
	go func() {
		var s seen
		defer func() { s.at = time.Now(); out <- s }()
		w, err := r.Tasks.Watch(ctx, c, id, after)
		if err != nil {
			s.err = err
			return
		}
		defer w.Close()
		for {
			events, err := w.Next(ctx, nil)
			if errors.Is(err, io.EOF) {
				return
			}
			if s.err = err; err != nil {
				return
			}
			for _, e := range events {
				s.events, s.artifacts = append(s.events, e.Event), e.Artifacts
			}
		}
	}()
	return out
}

func kinds(events []task.Event) (out []string) {
	for i, e := range events {
		if i > 0 && e.Seq != events[i-1].Seq+1 {
			out = append(out, "a gap")
		}
		out = append(out, string(e.Kind))
	}
	return out
}

func TestWatch(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		asker, owner := r.user(), r.user()
		v := r.create(asker, r.agent(owner, 0, echo))
		whole := r.watch(t.Context(), asker, v.ID, 0)
		late := r.watch(t.Context(), asker, v.ID, v.LastSeq)
		ahead := r.watch(t.Context(), owner, v.ID, 1_000_000)
		time.Sleep(20 * time.Millisecond) // they wait
		r.work()
		r.ended(asker, v.ID)
		log, err := r.store.Read().Tasks.Events(t.Context(), v.ID, 0, 100)
		require.NoError(t, err)
		s := <-whole
		require.NoError(t, s.err)
		require.Equal(t, log, s.events)
		require.Equal(t, log[v.LastSeq:], (<-late).events)
		s = <-ahead
		require.NoError(t, s.err)
		require.LessOrEqual(t, len(s.events), len(log)-int(v.LastSeq), "nothing of what was over before it asked")
		if n := len(s.events); n > 0 { // else all was over before it began
			require.Equal(t, log[len(log)-n:], s.events)
		}
		again := <-r.watch(t.Context(), asker, v.ID, 2)
		require.Equal(t, log[2:], again.events)
		over := <-r.watch(t.Context(), asker, v.ID, int64(len(log)))
		require.NoError(t, over.err)
		require.Empty(t, over.events)
		r.refused((<-r.watch(t.Context(), r.user(), v.ID, 0)).err, fault.CodeTaskNotFound)
		ctx, stop := context.WithCancel(t.Context())
		waiting := r.watch(ctx, asker, r.create(asker, r.agent(owner, 0, func(ctx context.Context, _ ports.Call) (ports.Answer, error) {
			<-ctx.Done()
			return ports.Answer{}, ctx.Err()
		})).ID, 0)
		time.Sleep(20 * time.Millisecond)
		stop()
		require.ErrorIs(t, (<-waiting).err, context.Canceled)
	})
}

// Two processes, one of which works. Who watches on the other one sees at once what it does; without Redis, a little later.
func TestWatchingWhatAnotherProcessDoes(t *testing.T) {
	t.Parallel()
	base, stop, err := redistest.Start()
	require.NoError(t, err)
	store := memory.New()
	var hearing []func() bool
	process := func() *rig {
		o, err := redis.ParseURL(base + "/0")
		require.NoError(t, err)
		client := redis.NewClient(o)
		changes := redisevents.New(client, memory.NewID(), redisevents.Options{DeafEvery: 4 * time.Second})
		ctx, cancel := context.WithCancel(context.Background())
		over := make(chan error, 1)
		go func() { over <- changes.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			require.NoError(t, <-over)
			require.NoError(t, client.Close())
		})
		require.Eventually(t, changes.Hearing, 10*time.Second, time.Millisecond)
		hearing = append(hearing, changes.Hearing)
		return newRig(t, store, func(c *app.Config) { c.Events, c.Sole = changes, false })
	}
	a, b := process(), process()
	b.work()
	release := make(chan struct{})
	asker, owner := a.user(), a.user()
	agent := b.agent(owner, 0, func(ctx context.Context, c ports.Call) (ports.Answer, error) {
		<-release
		return echo(ctx, c)
	})
	watchOne := func() (delay time.Duration) {
		v := a.create(asker, agent)
		s := a.watch(t.Context(), asker, v.ID, 0)
		require.Eventually(t, func() bool {
			v, err := b.Tasks.Get(t.Context(), asker, v.ID)
			return err == nil && v.Status == task.Running
		}, 5*time.Second, time.Millisecond)
		time.Sleep(50 * time.Millisecond) // the watcher waits for the end
		release <- struct{}{}
		out := <-s
		require.NoError(t, out.err)
		require.Equal(t, []string{"status", "message", "status", "artifact", "complete"}, kinds(out.events))
		return out.at.Sub(*a.ended(asker, v.ID).CompletedAt)
	}
	quickly := func() time.Duration { // other tests run on this machine; by itself it looks every 15 s, and every 4 s while it is deaf
		best := time.Hour
		for range 3 {
			best = min(best, watchOne())
		}
		return best
	}
	best := quickly()
	require.Less(t, best, 2*time.Second, "it was woken")
	stop()
	away := watchOne()
	t.Logf("seen %s after it was done; without Redis %s after", best, away)
	_, port, _ := strings.Cut(strings.TrimPrefix(base, "redis://"), ":")
	stop, err = redistest.StartAt(port)
	require.NoError(t, err)
	t.Cleanup(stop)
	for _, hears := range hearing {
		require.Eventually(t, hears, 30*time.Second, time.Millisecond, "Redis is back")
	}
	require.Less(t, quickly(), 2*time.Second, "it is woken again")
}

// What is not committed wakes nobody.
func TestOnlyWhatIsCommittedIsPublished(t *testing.T) {
	t.Parallel()
	changes := &recorder{Events: inprocess.NewEvents()}
	r := newRig(t, memory.New(memory.WithReplay()), func(c *app.Config) { c.Events = changes })
	asker, owner := r.user(), r.user()
	a := r.agent(owner, 100_000_000, echo)
	_, err := r.Tasks.Create(t.Context(), asker, app.CreateTask{AgentID: a.ID, Title: "too dear"})
	r.refused(err, fault.CodeInsufficientCredits)
	require.Empty(t, changes.published)
	v := r.create(asker, r.agent(owner, 0, echo))
	require.Equal(t, []string{v.ID}, changes.published, "once, however often the unit ran")
	_, err = r.Tasks.Cancel(t.Context(), asker, v.ID)
	require.NoError(t, err)
	_, err = r.Tasks.Cancel(t.Context(), asker, v.ID)
	require.NoError(t, err)
	require.Equal(t, []string{v.ID, v.ID}, changes.published, "the second one changes nothing")
}

type recorder struct {
	ports.Events
	published []string
}

// Who has everything that happened up to now gets what a process of its own does next without being woken to read it.
func TestWhoIsUpToDateIsHandedWhatComes(t *testing.T) {
	t.Parallel()
	everyStore(t, func(t *testing.T, r *rig) {
		mute := &muted{Events: inprocess.NewEvents()}
		r = newRig(t, r.store, func(c *app.Config) { c.Events = mute })
		asker, owner := r.user(), r.user()
		a := r.agent(owner, 100, echo)
		w, err := r.Workflows.Create(t.Context(), asker, "w", "", []scheduler.Step{{Name: "one", AgentID: a.ID}, {Name: "two", AgentID: a.ID, DependsOn: []int{0}}})
		require.NoError(t, err)
		run, err := r.Workflows.Execute(t.Context(), asker, w.ID)
		require.NoError(t, err)
		runs, _, err := r.Workflows.Watch(t.Context(), asker, w.ID, run.ID, run.LastSeq)
		require.NoError(t, err)
		defer runs.Close()
		mute.on.Store(true)
		r.work()
		ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
		defer stop()
		var seen []scheduler.Event
		for !runs.Over() {
			events, err := runs.Next(ctx, nil)
			require.NoError(t, err)
			seen = append(seen, events...)
		}
		log, err := r.store.Read().RunLogs.EventsOf(t.Context(), []ports.Position{{ID: run.ID, Seq: run.LastSeq}}, 100)
		require.NoError(t, err)
		require.Equal(t, log, seen, "as if they had been read")
	})
}

// muted wakes nobody once it is on.
type muted struct {
	ports.Events
	on atomic.Bool
}

func (m *muted) Publish(streams ...string) {
	if !m.on.Load() {
		m.Events.Publish(streams...)
	}
}

func (r *recorder) PublishElsewhere(streams ...string) {
	r.published = append(r.published, streams...)
	r.Events.PublishElsewhere(streams...)
}

func (r *recorder) Publish(streams ...string) {
	r.published = append(r.published, streams...)
	r.Events.Publish(streams...)
}
