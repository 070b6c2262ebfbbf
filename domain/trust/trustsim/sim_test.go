package trustsim_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/domain/trust/trustsim"
)

// TestTheGoals is the short form of make trust-sim: smaller markets, with seeds that nothing was tuned on.
func TestTheGoals(t *testing.T) {
	const seed, markets = 70_001, 3
	size := trustsim.Standard()
	size.Agents = 300
	found := map[trustsim.System][]trustsim.Figures{}
	for _, s := range trustsim.Systems() {
		for i := range markets {
			found[s] = append(found[s], trustsim.Run(seed+uint64(i), size, s, trustsim.Attacks()))
		}
	}
	// worse is a measure for which less is better. Losses of an attack are all alike: it does not pay.
	worse := map[string]func(trustsim.Figures) float64{
		"correlation": func(f trustsim.Figures) float64 { return -f.Correlation },
		"regret":      func(f trustsim.Figures) float64 { return f.Regret },
	}
	for _, k := range trustsim.Attacks() {
		worse["gain of "+k.String()] = func(f trustsim.Figures) float64 { return max(f.Gain[k], 0) }
	}
	of := func(s trustsim.System, measure func(trustsim.Figures) float64) (out []float64) {
		for _, f := range found[s] {
			out = append(out, measure(f))
		}
		return out
	}
	for name, measure := range worse {
		ours := of(trustsim.Nexus, measure)
		switch mean := trustsim.Summarize(ours).Mean; name {
		case "correlation":
			require.LessOrEqual(t, mean, -0.9, name)
		case "regret":
			require.LessOrEqual(t, mean, 0.05, name)
		default:
			require.LessOrEqual(t, mean, 0.05, name)
		}
		for _, s := range trustsim.Systems()[1:] {
			difference := of(s, measure)
			for i := range difference {
				difference[i] = ours[i] - difference[i]
			}
			d := trustsim.Summarize(difference)
			require.LessOrEqual(t, d.Mean, 2.5*d.Error+1e-9, "%s: worse than %s by %v", name, s, d)
		}
	}
}

func TestASeedIsAMarket(t *testing.T) {
	size := trustsim.Market{Agents: 60, Tasks: 10, Attackers: 0.2}
	for _, s := range trustsim.Systems() {
		require.Equal(t, trustsim.Run(7, size, s, trustsim.Attacks()), trustsim.Run(7, size, s, trustsim.Attacks()), s)
	}
	require.NotEqual(t, trustsim.Run(7, size, trustsim.Nexus, nil), trustsim.Run(8, size, trustsim.Nexus, nil))
}
