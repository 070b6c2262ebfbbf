package app

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/task"
)

// However many tasks are overdue at once, one sweep ends all of them.
func TestASweepEndsAllThatIsOverdue(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	e, err := New(Config{
		Store: memory.New(), Queue: noQueue{}, Agents: memory.NewAgents(), Guard: memory.OpenGuard{}, Schema: memory.Schemas{}, Hasher: memory.NewHasher(),
		Limits: memory.NewLimiter(func() time.Time { return now }), Now: func() time.Time { return now }, NewID: memory.NewID, Random: rand.Reader,
	})
	require.NoError(t, err)
	u, err := e.Identity.SignUp(t.Context(), Credentials{Email: "a@example.com", Password: "long enough"})
	require.NoError(t, err)
	me := identity.SessionCaller(u, "")
	a, err := e.Agents.Register(t.Context(), me, registry.Profile{Name: new("Away"), Endpoint: new("http://away.example.com")})
	require.NoError(t, err)
	for range 2*sweepBatch + 1 {
		_, err := e.Tasks.Create(t.Context(), me, CreateTask{AgentID: a.ID, Title: "x", QueueIfOffline: true})
		require.NoError(t, err)
	}
	now = now.Add(task.DefaultTimeout)
	require.NoError(t, e.Worker.sweep(t.Context()))
	open, err := e.core.Store.Read().Tasks.OpenByAgent(t.Context(), a.ID, "", 1)
	require.NoError(t, err)
	require.Empty(t, open)
}
