package bunstore

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/domain/billing"
)

// What was kept of disputes before their times were is read as it was.
func TestDisputesOfWhichTheTimeIsNotKnown(t *testing.T) {
	got, err := unpackTold(`{"old":12,"new":{"amount":3,"at":5000000}}`)
	require.NoError(t, err)
	want := map[string]billing.Told{"old": {Amount: 12}, "new": {Amount: 3, At: time.Unix(5, 0).UTC()}}
	require.Equal(t, want, got)
	text, err := packTold(want)
	require.NoError(t, err)
	again, err := unpackTold(text)
	require.NoError(t, err)
	require.Equal(t, want, again)
	for _, none := range []string{"{}", "null"} {
		got, err := unpackTold(none)
		require.NoError(t, err)
		require.Nil(t, got)
	}
}
