package app_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/domain/credits"
)

// The worker seals what was booked within a minute or so, and leaves the books alone where nothing was.
func TestTheWorkerSealsTheLedger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, memory.New())
		r.work()
		asker, owner := r.user(), r.user()
		a := r.agent(owner, credits.Whole(1), echo)
		r.ended(asker, r.create(asker, a).ID)
		time.Sleep(70 * time.Second)
		report, err := r.Billing.Verify(t.Context(), nil)
		require.NoError(t, err)
		require.Empty(t, report.Findings)
		require.Equal(t, []int{1, 11, 11}, []int{report.Seals, report.Entries, report.Sealed})

		time.Sleep(10 * time.Minute)
		report, err = r.Billing.Verify(t.Context(), nil)
		require.NoError(t, err)
		require.Equal(t, 1, report.Seals)
	})
}
