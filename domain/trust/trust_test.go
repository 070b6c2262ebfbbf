package trust_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/trust"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestTheReferencesExample(t *testing.T) {
	w := trust.DefaultWeights()
	require.True(t, w.Valid())
	require.Equal(t, 85.5, w.Score(trust.Components{Reliability: 90, Speed: 80, Quality: 85, Tenure: 70}))
	require.False(t, trust.Weights{Reliability: 1, Speed: 1}.Valid())
	require.False(t, trust.Weights{Reliability: 2, Speed: -1}.Valid())
}

func TestNewcomerIsNeutral(t *testing.T) {
	p := trust.Newcomer("a", start, trust.DefaultWeights())
	require.Equal(t, trust.Components{Reliability: 50, Speed: 50, Quality: 50, Tenure: 0}, p.Components)
	require.Equal(t, 47.5, p.Score)
	require.Equal(t, "New", trust.Badge(p.Score))
	require.Zero(t, p.Confidence())
}

func TestBadges(t *testing.T) {
	for score, want := range map[float64]string{100: "Verified Elite", 90: "Verified Elite", 89.9: "Trusted", 70: "Trusted", 69.9: "Established", 50: "Established", 49.9: "New", 0: "New"} {
		require.Equal(t, want, trust.Badge(score), "%g", score)
	}
}

func TestEvidenceMovesTheScore(t *testing.T) {
	w := trust.DefaultWeights()
	p := trust.Newcomer("a", start, w)
	done := trust.Evidence{Type: trust.TaskCompleted, EventID: "e", TaskID: "t", At: start.Add(time.Hour), Took: time.Second, Limit: 300 * time.Second}
	next, ev := trust.Apply(p, done, w)
	require.Greater(t, next.Score, p.Score)
	require.Equal(t, p.Score, ev.ScoreBefore)
	require.Equal(t, next.Score, ev.ScoreAfter)
	require.InDelta(t, next.Score-p.Score, ev.Score, 0.051)
	require.EqualValues(t, 1, next.Tasks.Completed)

	for _, bad := range []trust.EventType{trust.TaskFailed, trust.TaskTimeout} {
		worse, ev := trust.Apply(next, trust.Evidence{Type: bad, At: start.Add(2 * time.Hour)}, w)
		require.Less(t, worse.Score, next.Score, bad)
		require.Negative(t, ev.Score)
	}
	rated, ev := trust.Apply(next, trust.Evidence{Type: trust.RatingReceived, At: start.Add(2 * time.Hour), Stars: 5}, w)
	require.Greater(t, rated.Score, next.Score)
	require.Equal(t, 5.0, ev.Score, "for a rating the stars")
	require.Equal(t, 5.0, rated.Ratings.Average())

	own := done
	own.Own = true
	same, ev := trust.Apply(next, own, w)
	same.Events--
	require.Equal(t, next, same, "one's own tasks weigh nothing")
	require.Zero(t, ev.Score)
}

func TestRecentEvidenceOutweighsOld(t *testing.T) {
	w := trust.DefaultWeights()
	score := func(gap time.Duration) float64 {
		p := trust.Newcomer("a", start, w)
		at := start
		for range 20 {
			at = at.Add(time.Minute)
			p, _ = trust.Apply(p, trust.Evidence{Type: trust.TaskFailed, At: at}, w)
		}
		at = at.Add(gap)
		for range 10 {
			at = at.Add(time.Minute)
			p, _ = trust.Apply(p, trust.Evidence{Type: trust.TaskCompleted, At: at}, w)
		}
		return p.Components.Reliability
	}
	require.Greater(t, score(180*24*time.Hour), score(0)+10)
}

func TestScoreStaysInBounds(t *testing.T) {
	w := trust.DefaultWeights()
	rapid.Check(t, func(t *rapid.T) {
		p, at := trust.Newcomer("a", start, w), start
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			at = at.Add(time.Duration(rapid.IntRange(-3600, 1_000_000).Draw(t, "seconds")) * time.Second)
			var ev trust.Event
			before := p.Score
			p, ev = trust.Apply(p, trust.Evidence{
				Type: rapid.SampledFrom([]trust.EventType{trust.TaskCompleted, trust.TaskFailed, trust.TaskTimeout, trust.RatingReceived}).Draw(t, "type"),
				At:   at, Took: time.Duration(rapid.IntRange(0, 4000).Draw(t, "took")) * time.Second, Limit: 300 * time.Second,
				Stars: rapid.IntRange(1, 5).Draw(t, "stars"),
			}, w)
			if p.Score < 0 || p.Score > 100 || ev.ScoreBefore != before || ev.ScoreAfter != p.Score || ev.Score < -10 || ev.Score > 10 {
				t.Fatalf("score %g, event %+v", p.Score, ev)
			}
		}
	})
}

func TestCheckRating(t *testing.T) {
	require.NoError(t, trust.CheckRating(1, ""))
	require.True(t, fault.Has(trust.CheckRating(0, ""), fault.CodeValidation))
	require.True(t, fault.Has(trust.CheckRating(6, ""), fault.CodeValidation))
}

func TestApplyDoesNotAllocate(t *testing.T) {
	w := trust.DefaultWeights()
	p := trust.Newcomer("a", start, w)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		p, _ = trust.Apply(p, trust.Evidence{Type: trust.TaskCompleted, At: p.UpdatedAt.Add(time.Second), Took: time.Second, Limit: time.Minute}, w)
	}))
	require.NotZero(t, p.Latency.Usual)
}

func BenchmarkApply(b *testing.B) {
	w := trust.DefaultWeights()
	p := trust.Newcomer("a", start, w)
	at := start
	b.ReportAllocs()
	for b.Loop() {
		at = at.Add(time.Second)
		p, _ = trust.Apply(p, trust.Evidence{Type: trust.TaskCompleted, At: at, Took: time.Second, Limit: time.Minute}, w)
	}
}
