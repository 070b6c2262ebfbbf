package retryafter_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/internal/retryafter"
)

func TestWait(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, "-7": 0, "soon": 0, "1.5": 0, "601": 10 * time.Minute, "99999999999": 10 * time.Minute, "99999999999999999999999": 10 * time.Minute,
		"-99999999999999999999999": 0, "Fri, 31 Dec 9999 23:59:59 GMT": 10 * time.Minute, "Fri, 31 Dec 1999 23:59:59 GMT": 0,
	} {
		require.Equal(t, want, retryafter.Wait(header, 10*time.Minute), header)
	}
	soon := retryafter.Wait(time.Now().Add(5*time.Minute).UTC().Format(http.TimeFormat), 10*time.Minute)
	require.Greater(t, soon, 2*time.Minute)
	require.LessOrEqual(t, soon, 5*time.Minute)
}
