package registry_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/registry"
)

func TestBest(t *testing.T) {
	c := func(id string, band, load int, price int64, own bool) registry.Candidate {
		return registry.Candidate{Agent: registry.Agent{ID: id, Price: credits.Amount(price)}, Band: band, Load: load, Own: own}
	}
	for name, test := range map[string]struct {
		all   []registry.Candidate
		want  string
		alike int
	}{
		"the most trusted":        {[]registry.Candidate{c("a", 3, 0, 1, false), c("b", 9, 0, 50, false)}, "b", 1},
		"then the cheapest":       {[]registry.Candidate{c("a", 9, 1, 50, false), c("b", 9, 3, 5, false)}, "b", 2},
		"unless it is busy":       {[]registry.Candidate{c("a", 9, 0, 50, false), c("b", 9, 40, 5, false)}, "a", 2},
		"others before one's own": {[]registry.Candidate{c("a", 3, 0, 9, false), c("b", 9, 0, 0, true)}, "a", 1},
		"one's own if need be":    {[]registry.Candidate{c("b", 9, 0, 0, true)}, "b", 1},
		"then the id":             {[]registry.Candidate{c("b", 9, 0, 1, false), c("a", 9, 0, 1, false)}, "a", 2},
	} {
		best, alike := registry.Best(test.all)
		require.Equal(t, test.want, test.all[best].Agent.ID, name)
		require.Equal(t, test.alike, alike, name)
	}
}
