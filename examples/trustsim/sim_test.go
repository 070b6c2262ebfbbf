package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTheGoals is the short form of make trust-sim: smaller markets, with seeds that nothing was tuned on.
func TestTheGoals(t *testing.T) {
	const seed, markets = 70_001, 3
	size := Standard()
	size.Agents = 300
	found := map[System][]Figures{}
	for _, s := range Systems() {
		for i := range markets {
			found[s] = append(found[s], Run(seed+uint64(i), size, s, Attacks()))
		}
	}
	// worse is a measure for which less is better. Losses of an attack are all alike: it does not pay.
	worse := map[string]func(Figures) float64{
		"correlation": func(f Figures) float64 { return -f.Correlation },
		"regret":      func(f Figures) float64 { return f.Regret },
	}
	for _, k := range Attacks() {
		worse["gain of "+k.String()] = func(f Figures) float64 { return max(f.Gain[k], 0) }
	}
	of := func(s System, measure func(Figures) float64) (out []float64) {
		for _, f := range found[s] {
			out = append(out, measure(f))
		}
		return out
	}
	for name, measure := range worse {
		ours := of(Nexus, measure)
		switch sum := Summarize(ours); name {
		case "correlation":
			require.LessOrEqual(t, sum.Mean, -0.9, name)
		case "regret":
			require.LessOrEqual(t, sum.Mean, 0.05, name)
		default: // a ring is one in so small a market, and its luck the whole of the figure
			require.LessOrEqual(t, sum.Mean, 0.05+sum.Error, name)
			require.LessOrEqual(t, sum.Mean, 0.3, name)
		}
		for _, s := range Systems()[1:] {
			difference := of(s, measure)
			for i := range difference {
				difference[i] = ours[i] - difference[i]
			}
			d := Summarize(difference)
			require.LessOrEqual(t, d.Mean, 2.5*d.Error+1e-9, "%s: worse than %s by %v", name, s, d)
		}
	}
}

func TestASeedIsAMarket(t *testing.T) {
	size := Market{Agents: 60, Tasks: 10, Attackers: 0.2}
	for _, s := range Systems() {
		require.Equal(t, Run(7, size, s, Attacks()), Run(7, size, s, Attacks()), s)
	}
	require.NotEqual(t, Run(7, size, Nexus, nil), Run(8, size, Nexus, nil))
}
