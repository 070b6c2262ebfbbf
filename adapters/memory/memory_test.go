package memory_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/ports/portstest"
)

func TestStore(t *testing.T) {
	for name, opts := range map[string][]memory.Option{"once": nil, "replayed": {memory.WithReplay()}} {
		t.Run(name, func(t *testing.T) {
			for _, c := range portstest.StoreChecks() {
				t.Run(c.Name, func(t *testing.T) {
					require.NoError(t, c.Run(t.Context(), memory.New(opts...), portstest.Traits{}))
				})
			}
		})
	}
}

func TestLimiter(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var mu sync.Mutex
	clock := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	require.NoError(t, portstest.RateLimiter(t.Context(), memory.NewLimiter(clock), time.Minute, func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(d)
	}))
}

func TestHasher(t *testing.T) {
	require.NoError(t, portstest.PasswordHasher(t.Context(), memory.NewHasher()))
}

func TestNewIDsSortAndAreUUIDv7(t *testing.T) {
	last := ""
	for range 10_000 {
		id := memory.NewID()
		require.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, id)
		require.Greater(t, id, last)
		last = id
	}
}

func TestTracer(t *testing.T) {
	require.NoError(t, portstest.Tracer(t.Context(), memory.NewTracer(), memory.NewTracer()))
}
