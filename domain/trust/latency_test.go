package trust_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/nexus-protocol/nexus/domain/trust"
)

// took is the agent after tasks that took so long, one a minute, each from a payer of its own.
func took(p trust.Profile, tasks ...time.Duration) trust.Profile {
	for _, d := range tasks {
		e := trust.Evidence{Type: trust.TaskCompleted, At: p.UpdatedAt.Add(time.Minute), Took: d, Limit: time.Hour, Source: trust.Source{Stake: 5}}
		p, _ = trust.Apply(p, e, trust.DefaultWeights())
	}
	return p
}

func times(n int, d time.Duration) []time.Duration {
	out := make([]time.Duration, n)
	for i := range out {
		out[i] = d
	}
	return out
}

func TestLatencyIsPublishedFromTheThirdTaskOn(t *testing.T) {
	p := took(trust.Newcomer("a", start, trust.DefaultWeights()), 2*time.Second, 2*time.Second)
	require.Zero(t, p.Latency.Usual)
	for _, e := range []trust.Evidence{
		{Type: trust.TaskFailed}, {Type: trust.TaskTimeout}, {Type: trust.RatingReceived, Stars: 5}, {Type: trust.TaskCompleted, Took: time.Second, Own: true},
	} {
		e.At = p.UpdatedAt
		next, _ := trust.Apply(p, e, trust.DefaultWeights())
		require.Equal(t, p.Latency, next.Latency, "%+v", e)
	}
	p = took(p, 2*time.Second)
	require.Equal(t, 2*time.Second, p.Latency.Usual)
	require.Equal(t, time.Millisecond, took(trust.Newcomer("a", start, trust.DefaultWeights()), times(3, 0)...).Latency.Usual)
	require.Equal(t, 120*time.Millisecond, took(trust.Newcomer("a", start, trust.DefaultWeights()), times(3, 123*time.Millisecond+456)...).Latency.Usual, "two digits")
	require.Equal(t, 3600*time.Second, took(trust.Newcomer("a", start, trust.DefaultWeights()), times(3, 3599*time.Second)...).Latency.Usual)
}

// TestLatencyHoldsAgainstAnOutlier has one task of any length at any place among tasks of a second.
func TestLatencyHoldsAgainstAnOutlier(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(3, 60).Draw(t, "tasks")
		all := times(n, time.Second)
		at := rapid.IntRange(0, n-1).Draw(t, "place")
		all[at] = time.Duration(rapid.Int64Range(0, int64(1000*time.Hour)).Draw(t, "outlier"))
		p := took(trust.Newcomer("a", start, trust.DefaultWeights()), all...)
		if off := math.Abs(math.Log2(p.Latency.Usual.Seconds())); off > 0.75 || n > 20 && at < n-10 && off > 0.3 {
			t.Fatalf("%v", p.Latency.Usual)
		}
	})
}

func TestLatencyIsTheGeometricMean(t *testing.T) {
	p := trust.Newcomer("a", start, trust.DefaultWeights())
	for range 50 {
		p = took(p, time.Second, 2*time.Second, 4*time.Second)
	}
	require.InEpsilon(t, 2, p.Latency.Usual.Seconds(), 0.15)
}

func TestLatencyFollowsWhatHasChanged(t *testing.T) {
	for _, d := range []time.Duration{100 * time.Millisecond, 500 * time.Millisecond, 2 * time.Second, 30 * time.Second} {
		p := took(trust.Newcomer("a", start, trust.DefaultWeights()), times(300, time.Second)...)
		p = took(p, times(40, d)...)
		require.InEpsilon(t, d.Seconds(), p.Latency.Usual.Seconds(), 0.3, d.String())
	}
	p := took(trust.Newcomer("a", start, trust.DefaultWeights()), times(300, time.Second)...)
	p.UpdatedAt = p.UpdatedAt.AddDate(1, 0, 0) // what was a year ago counts little
	gap := p.UpdatedAt
	p.UpdatedAt = gap.AddDate(-1, 0, 0)
	p, _ = trust.Apply(p, trust.Evidence{Type: trust.TaskCompleted, At: gap, Took: 3 * time.Second, Source: trust.Source{Stake: 5}}, trust.DefaultWeights())
	require.InEpsilon(t, 3, p.Latency.Usual.Seconds(), 0.1)
}

// TestLatencyIsNotForStrangersToSet has quick answers to an accomplice's free tasks among slow ones to those who pay.
func TestLatencyIsNotForStrangersToSet(t *testing.T) {
	w := trust.DefaultWeights()
	p := took(trust.Newcomer("a", start, w), times(10, 20*time.Second)...)
	for n := range 200 {
		free := trust.Source{Doubt: 0.9, Met: float64(n)}
		p, _ = trust.Apply(p, trust.Evidence{Type: trust.TaskCompleted, At: p.UpdatedAt.Add(time.Minute), Took: 10 * time.Millisecond, Source: free}, w)
	}
	require.Greater(t, p.Latency.Usual, 10*time.Second)

	for n := range 200 { // but one steady customer is heard
		paid := trust.Source{Stake: 10, Met: float64(n)}
		p, _ = trust.Apply(p, trust.Evidence{Type: trust.TaskCompleted, At: p.UpdatedAt.Add(time.Minute), Took: time.Second, Source: paid}, w)
	}
	require.Less(t, p.Latency.Usual, 2*time.Second)
}

// TestLatencyIsSeldomWritten has noise by which a mean of twenty tasks always moves a little.
func TestLatencyIsSeldomWritten(t *testing.T) {
	p := took(trust.Newcomer("a", start, trust.DefaultWeights()), times(50, time.Second)...)
	written := 0
	for i := range 400 {
		next := took(p, time.Duration(float64(time.Second)*math.Exp2(math.Sin(float64(i*i)))))
		if next.Latency.Usual != p.Latency.Usual {
			written++
		}
		p = next
	}
	require.Less(t, written, 20)
}
