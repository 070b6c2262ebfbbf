package memory_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/ports"
	"github.com/nexus-protocol/nexus/ports/portstest"
)

func TestPayments(t *testing.T) {
	p := memory.NewPayments(time.Now)
	require.NoError(t, portstest.Payments(t.Context(), p, portstest.Provider{
		Sells: true, Gives: true, Now: time.Now(), Sign: p.Sign,
		Pay: func(id string) ([]ports.Delivery, error) {
			d, err := p.Pay(id)
			return []ports.Delivery{d}, err
		},
	}))
}
