package app

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/task"
)

// The last watcher of a task goes while its log is about to be read, and another one comes: what is read is then for that
// one alone, and it gets each event once.
func TestAWatcherThatComesWhenTheLastOneGoes(t *testing.T) {
	s := &sim{t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), store: memory.New(), agents: memory.NewAgents(), calm: true, dice: rand.New(rand.NewPCG(1, 1))}
	s.boot(0)
	e := s.procs[0].Engine
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c := identity.SessionCaller(identity.User{ID: "asker", Role: identity.RoleUser}, "")
	name, endpoint := "Agent", "http://agent"
	s.agents.Handle(endpoint, s.answer)
	a, err := e.Agents.Register(ctx, c, registry.Profile{Name: &name, Endpoint: &endpoint})
	require.NoError(t, err)
	v, err := e.Tasks.Create(ctx, c, CreateTask{AgentID: a.ID, Title: "x"})
	require.NoError(t, err)
	feeds := &e.core.feeds
	grow := func(w *Watcher[TaskEvent]) { // and have it read, but not yet
		_, err := e.Tasks.Reply(ctx, c, v.ID, ReplyTask{Role: task.RoleUser, Parts: []task.Part{task.TextPart("more")}})
		require.NoError(t, err)
		feeds.look(w.feed)
	}
	feeds.mu.Lock()
	feeds.readers = watchReaders
	feeds.mu.Unlock()
	gone, err := e.Tasks.Watch(ctx, c, v.ID, v.LastSeq)
	require.NoError(t, err)
	grow(gone)
	gone.Close()
	w, err := e.Tasks.Watch(ctx, c, v.ID, v.LastSeq+1)
	require.NoError(t, err)
	defer w.Close()
	grow(w)
	feeds.read()
	events, err := w.Next(ctx, nil)
	require.NoError(t, err)
	require.Len(t, events, 1)
	require.Equal(t, v.LastSeq+2, events[0].Seq)
}
