package sqlite_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/internal/ledgertest"
)

func TestLedger(t *testing.T) {
	s, _ := fresh(t)
	t.Run("writers", func(t *testing.T) {
		n, err := ledgertest.Writers(t.Context(), s, ledgertest.For(2*time.Second))
		require.NoError(t, err)
		t.Logf("%d transfers booked", n)
	})
	t.Run("linearizability", func(t *testing.T) { require.NoError(t, ledgertest.Linearizable(t.Context(), s, 8, 60)) })
	t.Run("model", func(t *testing.T) { ledgertest.Model(t, s, ledgertest.Ops(400)) })
}
