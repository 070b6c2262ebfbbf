package memory_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/internal/ledgertest"
	"github.com/nexus-protocol/nexus/adapters/memory"
)

func TestLedger(t *testing.T) {
	t.Run("model", func(t *testing.T) {
		const each = 20_000 // operations on a store, as statements go along all entries that it has
		for ops := ledgertest.Ops(2_000); ops > 0; ops -= each {
			ledgertest.Model(t, memory.New(), min(ops, each))
		}
	})
	t.Run("writers", func(t *testing.T) {
		_, err := ledgertest.Writers(t.Context(), memory.New(), ledgertest.For(500*time.Millisecond))
		require.NoError(t, err)
	})
	t.Run("linearizability", func(t *testing.T) { require.NoError(t, ledgertest.Linearizable(t.Context(), memory.New(), 8, 60)) })
}
