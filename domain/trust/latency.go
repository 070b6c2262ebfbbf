package trust

import (
	"math"
	"time"
)

// Parameters of an agent's latency.
const (
	latencyOutlier = 2.0   // octaves from the mean so far, beyond which a task's time counts as no further
	latencyMemory  = 20.0  // most evidence that the mean remembers
	latencyLeast   = 1e-12 // of less nothing is left
	latencyStep    = 1.1   // by so much the mean has to be off what is published before that changes
)

// Latency is how long an agent takes, from the start of a task to its completion: the geometric mean over the tasks that were
// completed, as durations are spread over orders of magnitude. It is a mean of logarithms, robust in the way of Huber (1964), and it
// forgets:
//
//	x = log2(took),  x′ = x, but at most two octaves from the mean so far
//	mean ← (kept × mean + w × x′) / (kept + w)
//
// w is what the evidence counts (Source.voice). kept is the weight so far, which loses half in 30 days and is at most 20 − w; where x is
// further off than two octaves it is divided by 1 + w too, so that one outlier moves the mean by little and another speed
// is followed within about ten tasks. The mean begins with the median of the first three tasks, one of which may be anything (Tukey's
// median of three, 1977); before there are three nothing is published. A replay of events leaves it alone: they do not have how long
// a task took. The zero Latency has seen nothing.
type Latency struct {
	First, Second float64 // of the first two tasks, log2 of microseconds; 0 from the third on
	Sum, Weight   float64
	// Usual is what is published, whole milliseconds of two significant digits; 0 as long as nothing is. It changes when the mean is
	// a tenth off, so that not each task writes it.
	Usual time.Duration
}

// add takes in how long a completed task took. Durations of less than a millisecond count as one.
func (l *Latency) add(took time.Duration, weight float64) {
	x := math.Log2(max(float64(took), float64(time.Millisecond)) / float64(time.Microsecond))
	switch {
	case l.Weight < latencyLeast:
		l.First, l.Second, l.Sum, l.Weight = x, 0, 0, weight
		return
	case l.First != 0 && l.Second == 0:
		l.Second, l.Weight = x, l.Weight+weight
		return
	case l.First != 0:
		l.Weight += weight
		l.Sum = l.Weight * max(min(l.First, l.Second), min(max(l.First, l.Second), x))
		l.First, l.Second = 0, 0
	default:
		mean, kept := l.Sum/l.Weight, min(l.Weight, latencyMemory-weight)
		if near := min(max(x, mean-latencyOutlier), mean+latencyOutlier); near != x {
			x, kept = near, kept/(1+weight)
		}
		l.Sum, l.Weight = kept*mean+weight*x, kept+weight
	}
	ms := math.Exp2(l.Sum/l.Weight) * float64(time.Microsecond) / float64(time.Millisecond)
	if was := float64(l.Usual / time.Millisecond); ms > was*latencyStep || ms < was/latencyStep {
		l.Usual = twoDigits(ms)
	}
}

func (l *Latency) age(decay float64) {
	l.Sum *= decay
	l.Weight *= decay
}

// twoDigits is so many milliseconds, rounded.
func twoDigits(ms float64) time.Duration {
	unit := time.Millisecond
	for ms >= 100 {
		ms, unit = ms/10, unit*10
	}
	return time.Duration(math.Round(ms)) * unit
}

// voice is how much the time that a task took counts: Weight, but of the tasks of one pair the n-th counts (1 + n/3)⁻¹. A stranger's many free
// tasks are still worth little, and a customer of long standing is heard when the agent has become slow.
func (s Source) voice() float64 { return s.Weight() * (1 + max(s.Met, 0)/metHalf) }
