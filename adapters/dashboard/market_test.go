package dashboard_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/domain/trust"
	"github.com/nexus-protocol/nexus/ports"
)

func TestAgentsAreFoundByHowLongTheyTake(t *testing.T) {
	s := open(t)
	owner, _ := s.user(t, "owner@example.com")
	ids := map[string]string{}
	for name, usual := range map[string]time.Duration{"Unknown": 0, "Quick": 45 * time.Millisecond, "Usual": 2300 * time.Millisecond, "Slow": 90 * time.Second, "Slowest": 95 * time.Minute} {
		a := s.register(t, owner, name, s.agent, 0)
		ids[name] = a.ID
		p := trust.Newcomer(a.ID, a.CreatedAt, trust.DefaultWeights())
		p.Latency.Usual = usual
		require.NoError(t, s.store.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error { return tx.Trust.Settle(ctx, p) }))
	}
	c := client{t: t, site: s}
	shows := func(query string, names ...string) string {
		t.Helper()
		page := c.get("/marketplace" + query)
		require.Equal(t, http.StatusOK, page.status)
		for name, id := range ids {
			assert.Equal(t, slices.Contains(names, name), strings.Contains(page.body, id), name)
		}
		return page.body
	}
	all := []string{"Unknown", "Quick", "Usual", "Slow", "Slowest"}
	body := shows("", all...)
	for _, words := range []string{"usually 45 ms", "usually 2.3 s", "usually 1.5 min", "usually 1.6 h"} {
		assert.Contains(t, body, words)
	}
	assert.NotContains(t, body, "usually 0")
	shows("?within=1s", "Quick")
	body = shows("?within=10s", "Quick", "Usual")
	assert.Contains(t, body, `<option value="10s" selected>10 s</option>`)
	assert.Contains(t, body, "Clear the filters")
	shows("?within=10m0s", "Quick", "Usual", "Slow")
	assert.Contains(t, shows("?within=soon", all...), "Choose one of these.")
	assert.Contains(t, c.get("/marketplace/"+ids["Usual"]).body, "A task usually takes 2.3 s.")
	assert.NotContains(t, c.get("/marketplace/"+ids["Unknown"]).body, "usually takes")
}
