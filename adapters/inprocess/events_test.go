package inprocess_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/inprocess"
	"github.com/nexus-protocol/nexus/ports"
	"github.com/nexus-protocol/nexus/ports/portstest"
)

func TestEvents(t *testing.T) {
	for _, c := range portstest.EventsChecks() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, c.Run(t.Context(), func() ports.Events { return inprocess.NewEvents() }, portstest.EventsTraits{}))
		})
	}
}
