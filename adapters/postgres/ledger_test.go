package postgres_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/internal/ledgertest"
	"github.com/nexus-protocol/nexus/adapters/postgres"
)

func TestLedger(t *testing.T) {
	s, url := fresh(t)
	other, err := postgres.Open(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, other.Close()) })
	both := ledgertest.Spread(s, other)
	t.Run("writers", func(t *testing.T) {
		n, err := ledgertest.Writers(t.Context(), both, ledgertest.For(2*time.Second))
		require.NoError(t, err)
		t.Logf("%d transfers booked", n)
	})
	t.Run("linearizability", func(t *testing.T) { require.NoError(t, ledgertest.Linearizable(t.Context(), both, 8, 40)) })
	t.Run("model", func(t *testing.T) { ledgertest.Model(t, s, ledgertest.Ops(400)) })
}
