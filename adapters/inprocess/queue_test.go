package inprocess_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/inprocess"
	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/ports"
	"github.com/nexus-protocol/nexus/ports/portstest"
)

func TestQueue(t *testing.T) {
	for _, c := range portstest.QueueChecks() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			store := memory.New()
			require.NoError(t, c.Run(t.Context(), store, func(workers int) ports.Queue {
				return inprocess.New(store, time.Now, inprocess.Options{Workers: workers})
			}, time.Now))
		})
	}
}
