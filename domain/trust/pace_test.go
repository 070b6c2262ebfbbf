package trust_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/nexus-protocol/nexus/domain/trust"
)

func TestAPaceIsNearTheTrueMedian(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all, left, right trust.Pace
		n := rapid.IntRange(10, 200).Draw(t, "n")*2 + 1
		center := rapid.IntRange(10, 1_000_000).Draw(t, "ms")
		for i := range n { // as many below as above, and the center itself
			took := center
			switch {
			case i < n/2:
				took = rapid.IntRange(0, center).Draw(t, "below")
			case i > n/2:
				took = rapid.IntRange(center, 4*center).Draw(t, "above")
			}
			d := time.Duration(took) * time.Millisecond
			all.Add(d, 1, start)
			if i%3 == 0 {
				left.Add(d, 1, start)
			} else {
				right.Add(d, 1, start)
			}
		}
		off := math.Log2(float64(all.Median()) / float64(time.Duration(center)*time.Millisecond))
		if math.Abs(off) > 0.26 {
			t.Fatalf("%v for %d ms", all.Median(), center)
		}
		left.Merge(right)
		for i := range all.Weights {
			if math.Abs(all.Weights[i]-left.Weights[i]) > 1e-9 {
				t.Fatal("in parts it is another")
			}
		}
	})
}

func TestAPaceNeedsEvidenceAndForgets(t *testing.T) {
	var p trust.Pace
	for range 4 {
		p.Add(time.Second, 1, start)
	}
	p.Add(time.Second, 0, start)
	require.Zero(t, p.Median(), "too little")
	for range 16 {
		p.Add(time.Second, 1, start)
	}
	require.InEpsilon(t, time.Second, p.Median(), 0.2)
	p.Add(100*time.Hour, 1, start) // beyond the scale
	p.Add(-time.Second, 1, start)
	require.InEpsilon(t, time.Second, p.Median(), 0.2, "outliers move it little")
	later := start.Add(120 * 24 * time.Hour)
	for range 10 {
		p.Add(time.Minute, 1, later)
	}
	require.InEpsilon(t, time.Minute, p.Median(), 0.2, "the market has changed")
	for range 1000 { // evidence that weighs next to nothing moves next to nothing
		p.Add(time.Hour, 0.001, later)
	}
	require.InEpsilon(t, time.Minute, p.Median(), 0.2)
}

func TestAPaceIsNotDrawnAwayByOutliers(t *testing.T) {
	var p trust.Pace
	for i := range 400 {
		d := time.Duration(50+i%21) * time.Second
		if i%10 == 0 {
			d = 1000 * time.Hour
		}
		p.Add(d, 1, start)
	}
	require.InDelta(t, 60, p.Median().Seconds(), 12)
}
