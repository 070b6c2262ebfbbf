package redislimit_test

import (
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/redislimit"
	"github.com/nexus-protocol/nexus/adapters/redistest"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/ports"
	"github.com/nexus-protocol/nexus/ports/portstest"
)

func TestMain(m *testing.M) { os.Exit(redistest.Main(m)) }

func client(t *testing.T, url string) *redis.Client {
	t.Helper()
	opt, err := redis.ParseURL(url)
	require.NoError(t, err)
	c := redis.NewClient(opt)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestConformance(t *testing.T) {
	l := redislimit.New(client(t, redistest.URL(t)), redislimit.Options{})
	require.NoError(t, portstest.RateLimiter(t.Context(), l, 6*time.Second, time.Sleep))
}

func TestTwoProcessesCountTogether(t *testing.T) {
	url := redistest.URL(t)
	one, two := redislimit.New(client(t, url), redislimit.Options{}), redislimit.New(client(t, url), redislimit.Options{})
	rule := ports.RateRule{Name: "r", Limit: 3, Per: time.Minute}
	allowed := 0
	for range 4 {
		for _, l := range []*redislimit.Limiter{one, two} {
			r, err := l.Allow(t.Context(), "k", rule)
			require.NoError(t, err)
			if r.Allowed {
				allowed++
			}
		}
	}
	require.Equal(t, 3, allowed)
}

func TestWithoutRedis(t *testing.T) {
	nobody := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1})
	t.Cleanup(func() { _ = nobody.Close() })
	rule := ports.RateRule{Name: "r", Limit: 3, Per: time.Minute}
	r, err := redislimit.New(nobody, redislimit.Options{}).Allow(t.Context(), "k", rule)
	require.NoError(t, err)
	require.True(t, r.Allowed)
	_, err = redislimit.New(nobody, redislimit.Options{Closed: true}).Allow(t.Context(), "k", rule)
	require.True(t, fault.Has(err, fault.CodeUnavailable))
}
