package postgres_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/postgres"
	"github.com/nexus-protocol/nexus/adapters/postgres/postgrestest"
)

func TestTheClockIsTheDatabases(t *testing.T) {
	t.Parallel()
	url := postgrestest.URL(t)
	require.NoError(t, postgres.Migrate(t.Context(), url))
	var skew atomic.Int64
	s, err := postgres.Open(t.Context(), url, postgres.WithClock(func() time.Time { return time.Now().Add(time.Duration(skew.Load())) }))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	require.Less(t, time.Since(s.Now()).Abs(), 10*time.Microsecond, "a clock that is right is left alone")
	for _, wrong := range []time.Duration{time.Minute, -time.Hour, 0} { // somebody sets the machine's clock
		before := s.Now()
		skew.Store(int64(wrong))
		require.Greater(t, s.Now().Sub(before).Abs(), 50*time.Second)
		require.NoError(t, s.SetClock(t.Context()))
		require.WithinDuration(t, time.Now(), s.Now(), time.Second)
	}
}
