package memory_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/ports"
	"github.com/nexus-protocol/nexus/ports/portstest"
)

func TestReceivers(t *testing.T) {
	r := memory.NewReceivers()
	n := 0
	require.NoError(t, portstest.Notifier(t.Context(), r, []string{"any"}, func(how portstest.Reception) (string, func() int) {
		n++
		url, taken := fmt.Sprint("memory:", n), 0
		r.Handle(url, func(ctx context.Context, _ ports.Notification) error {
			switch how {
			case portstest.Refuse:
				return errors.New("at " + url)
			case portstest.SendAway:
				return &ports.NotifyError{Reason: "gone", Gone: true}
			case portstest.PutOff:
				return &ports.NotifyError{Reason: "later", RetryAfter: time.Minute}
			case portstest.Ignore:
				<-ctx.Done()
				return ctx.Err()
			}
			taken++
			return nil
		})
		return url, func() int { return taken }
	}))
}
