package trust_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/nexus-protocol/nexus/domain/trust"
)

// town is a market in which everybody buys from many, and of which nobody stands out.
func town() (out []trust.Payment) {
	for buyer := range 30 {
		for i := range 6 {
			agent := (buyer*7 + i*11) % 20
			out = append(out, trust.Payment{FromUserID: fmt.Sprint("buyer", buyer), AgentID: fmt.Sprint("agent", agent), ToUserID: fmt.Sprint("owner", agent), Amount: 10, Full: 1, Counted: 0.5})
		}
	}
	return out
}

func pay(from, agent string, counted float64) trust.Payment {
	return trust.Payment{FromUserID: from, AgentID: agent, ToUserID: "owner of " + agent, Amount: 10, Full: 1, Counted: counted}
}

func TestPassKnowsRings(t *testing.T) {
	var ring []trust.Payment
	for i := range 5 {
		for j := range 5 {
			if i != j {
				ring = append(ring, pay(fmt.Sprint("owner of r", i), fmt.Sprint("r", j), 0.5))
			}
		}
	}
	var stuffed []trust.Payment
	for i := range 5 {
		stuffed = append(stuffed, pay(fmt.Sprint("sybil", i), "stuffed", 0.5))
	}
	found := trust.Pass(slices.Concat(town(), ring, stuffed), trust.DefaultPass())
	for i := range 30 {
		require.Greater(t, found.Standing[fmt.Sprint("buyer", i)], 0.9)
	}
	for i := range 20 {
		require.Greater(t, found.Damping[fmt.Sprint("agent", i)], 0.99)
	}
	for i := range 5 {
		require.Less(t, found.Standing[fmt.Sprint("owner of r", i)], 0.01)
		require.Less(t, found.Damping[fmt.Sprint("r", i)], 0.1)
		require.Zero(t, found.Standing[fmt.Sprint("sybil", i)], "who pays one only")
	}
	require.Less(t, found.Damping["stuffed"], 0.1)
}

func TestPassDoesNoHarmToTheInnocent(t *testing.T) {
	require.Empty(t, trust.Pass(nil, trust.DefaultPass()).Standing)
	require.Empty(t, trust.Pass([]trust.Payment{{FromUserID: "u", AgentID: "a", ToUserID: "u", Amount: 10}}, trust.DefaultPass()).Standing, "one's own")
	lone := trust.Pass([]trust.Payment{pay("u", "a", 0.1)}, trust.DefaultPass())
	require.NotContains(t, lone.Standing, "u", "nothing can be said of one payment")
	require.Equal(t, 1.0, lone.Damping["a"])

	attacked := town()
	for i := range 50 { // throwaway accounts that were never believed, to make another look like a ring
		attacked = append(attacked, pay(fmt.Sprint("sybil", i), "agent0", 0.02))
	}
	require.Greater(t, trust.Pass(attacked, trust.DefaultPass()).Damping["agent0"], 0.95)
}

func TestPassDoesNotDependOnTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		some := rapid.Custom(func(t *rapid.T) trust.Payment {
			agent := rapid.IntRange(0, 9).Draw(t, "agent")
			return trust.Payment{
				FromUserID: fmt.Sprint("u", rapid.IntRange(0, 9).Draw(t, "from")), AgentID: fmt.Sprint("a", agent), ToUserID: fmt.Sprint("u", agent/2),
				Amount: float64(rapid.IntRange(0, 50).Draw(t, "amount")), Full: 1, Counted: rapid.Float64Range(0, 1).Draw(t, "counted"),
			}
		})
		all := rapid.SliceOfN(some, 0, 60).Draw(t, "payments")
		found := trust.Pass(all, trust.DefaultPass())
		slices.Reverse(all)
		again := trust.Pass(all, trust.DefaultPass())
		require.Len(t, again.Standing, len(found.Standing))
		for _, pair := range []struct{ a, b map[string]float64 }{{found.Standing, again.Standing}, {found.Damping, again.Damping}} {
			for name, x := range pair.a {
				if x < 0 || x > 1 {
					t.Fatalf("%s: %g", name, x)
				}
				require.InDelta(t, x, pair.b[name], 1e-9)
			}
		}
	})
}

func TestWhatEvidenceWeighs(t *testing.T) {
	paid := trust.Source{Stake: 10}
	require.Greater(t, paid.Weight(), trust.Source{}.Weight(), "what was paid for counts more")
	require.Less(t, trust.Source{Stake: 1e9}.Weight(), 1.01)
	require.Less(t, trust.Source{Stake: 10, Doubt: 1}.Weight(), paid.Weight()/20)
	sum := 0.0
	for n := range 1_000 {
		sum += trust.Source{Stake: 1e9, Met: float64(n)}.Weight()
	}
	require.Less(t, sum, 4.0, "one pair never adds more")

	var p trust.Pair
	p = p.Dealt(1, 10, paid, start)
	p = p.Dealt(1, 10, paid, start.Add(30*24*time.Hour))
	require.InDelta(t, 1.5, p.Met(start.Add(30*24*time.Hour)), 1e-9, "old dealings are forgotten by halves")
}

func TestARaterWhoIsAlwaysOffIsDoubted(t *testing.T) {
	p := trust.Newcomer("a", start, trust.DefaultWeights())
	for i := range 60 {
		p, _ = trust.Apply(p, trust.Evidence{Type: trust.RatingReceived, At: start.Add(time.Duration(i) * time.Minute), Stars: 5, Source: trust.Source{Stake: 100}}, trust.DefaultWeights())
	}
	honest, liar := trust.Rater{Standing: 1, Seen: true}, trust.Rater{Standing: 1, Seen: true}
	require.Zero(t, honest.Doubt())
	for range 10 {
		honest, liar = honest.Judged(4, p), liar.Judged(1, p)
	}
	require.Less(t, honest.Doubt(), 0.05)
	require.Greater(t, liar.Doubt(), 0.7)
	require.Equal(t, 0.9, trust.Rater{}.Doubt(), "of a stranger little is believed")
	require.Zero(t, trust.Rater{Standing: 1, Seen: true}.Judged(1, trust.Newcomer("b", start, trust.DefaultWeights())).Disagreed, "where nobody knows better, nobody is wrong")
}

func TestSpeedAgainstTheMarketAndOneOutlier(t *testing.T) {
	w := trust.DefaultWeights()
	speed := func(took ...time.Duration) float64 {
		p := trust.Newcomer("a", start, w)
		for i, d := range took {
			p, _ = trust.Apply(p, trust.Evidence{
				Type: trust.TaskCompleted, At: start.Add(time.Duration(i) * time.Minute), Took: d, Limit: 300 * time.Second, Median: 60 * time.Second, Source: trust.Source{Stake: 100},
			}, w)
		}
		return p.Components.Speed
	}
	many := func(d time.Duration) []time.Duration { return slices.Repeat([]time.Duration{d}, 20) }
	require.Greater(t, speed(many(20*time.Second)...), speed(many(60*time.Second)...)+5)
	require.Greater(t, speed(many(60*time.Second)...), speed(many(180*time.Second)...)+5)
	require.InDelta(t, speed(many(20*time.Second)...), speed(append(many(20*time.Second), 300*time.Second)...), 2, "one outlier")
}

func TestChangeIsFollowedWithinTensOfEvents(t *testing.T) {
	w := trust.DefaultWeights()
	p := trust.Newcomer("a", start, w)
	at := start
	do := func(typ trust.EventType) {
		at = at.Add(time.Hour)
		p, _ = trust.Apply(p, trust.Evidence{Type: typ, At: at, Took: time.Minute, Limit: 300 * time.Second, Source: trust.Source{Stake: 10}}, w)
	}
	for range 500 {
		do(trust.TaskCompleted)
	}
	require.Greater(t, p.Components.Reliability, 90.0)
	for range 15 {
		do(trust.TaskFailed)
	}
	require.Less(t, p.Components.Reliability, 40.0, "500 good tasks do not pay for 15 bad ones")
	for range 15 {
		do(trust.TaskCompleted)
	}
	require.Less(t, p.Components.Reliability, 75.0, "and trust comes back more slowly than it went")
}

func TestABadRecordComesAlong(t *testing.T) {
	w := trust.DefaultWeights()
	bad, good := trust.Newcomer("a", start, w), trust.Newcomer("a", start, w)
	for i := range 20 {
		at := start.Add(time.Duration(i) * time.Hour)
		bad, _ = trust.Apply(bad, trust.Evidence{Type: trust.TaskFailed, At: at, Source: trust.Source{Stake: 10}}, w)
		good, _ = trust.Apply(good, trust.Evidence{Type: trust.TaskCompleted, At: at, Source: trust.Source{Stake: 10}}, w)
	}
	newcomer := trust.Newcomer("b", start, w)
	require.Less(t, trust.Successor("b", start, bad, w).Score, newcomer.Score-15)
	require.Equal(t, newcomer, trust.Successor("b", start, good, w), "a good one does not")
	for _, p := range []trust.Profile{newcomer, trust.Successor("b", start, bad, w)} {
		require.InDelta(t, p.Score, trust.Resumed("b", start, p.Score, w).Score, 0.051)
	}
}

func TestReplay(t *testing.T) {
	w := trust.DefaultWeights()
	rapid.Check(t, func(t *rapid.T) {
		p, at := trust.Newcomer("a", start, w), start
		var log []trust.Event
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			at = at.Add(time.Duration(rapid.IntRange(-3600, 1_000_000).Draw(t, "seconds")) * time.Second)
			if rapid.IntRange(0, 9).Draw(t, "pass") == 0 {
				p = p.Damped(rapid.Float64Range(0, 1).Draw(t, "damping"), p.UpdatedAt, w)
			}
			var ev trust.Event
			p, ev = trust.Apply(p, trust.Evidence{
				Type: rapid.SampledFrom([]trust.EventType{trust.TaskCompleted, trust.TaskFailed, trust.TaskTimeout, trust.RatingReceived}).Draw(t, "type"),
				At:   at, Took: time.Duration(rapid.IntRange(0, 400).Draw(t, "took")) * time.Second, Limit: 300 * time.Second, Median: 60 * time.Second,
				Stars: rapid.IntRange(1, 5).Draw(t, "stars"), Own: rapid.Bool().Draw(t, "own"),
				Source: trust.Source{Stake: rapid.Float64Range(0, 100).Draw(t, "stake"), Met: rapid.Float64Range(0, 10).Draw(t, "met")},
			}, w)
			log = append(log, ev)
		}
		again := trust.Newcomer("a", start, w)
		for _, e := range log {
			var ok bool
			if again, ok = trust.Replay(again, e, w); !ok {
				t.Fatalf("event %+v", e)
			}
		}
		require.True(t, again.Agrees(p))
		require.Zero(t, again.Latency, "which the events do not have")
		again.Latency = p.Latency
		require.Equal(t, p, again)
		log[0].ScoreAfter++
		_, ok := trust.Replay(trust.Newcomer("a", start, w), log[0], w)
		require.False(t, ok)
	})
}
