package app

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/domain/identity"
)

// The time of last use is written once a minute for each credential, and what is known of those that are used no more is
// forgotten.
func TestTouchesAreForgotten(t *testing.T) {
	var known touches
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	writes := 0
	for second := range 600 {
		now = now.Add(time.Second)
		require.True(t, known.first(fmt.Sprint("once ", second), now))
		if known.first("often", now) {
			writes++
		}
		require.LessOrEqual(t, len(known.young)+len(known.old), 2*(int(identity.SessionTouch/time.Second)+1))
	}
	require.Equal(t, 10, writes)
}
