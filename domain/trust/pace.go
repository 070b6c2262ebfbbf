package trust

import (
	"math"
	"time"
)

// Parameters of the market's pace.
const (
	paceOctave  = 4    // buckets in which a duration doubles: a median is right to within a tenth
	paceBuckets = 96   // from a millisecond to beyond the longest time limit
	paceDays    = 30.0 // half-life of what was seen
	paceEnough  = 5.0  // weight of evidence that makes a median worth comparing with
)

// Pace is how long tasks of one skill take in the market: a histogram of durations on a logarithmic scale, in the way of
// DDSketch (Masson, Rim & Lee 2019), each task by the weight of its evidence, so that whoever wants to move the median has to pay
// for it. What was seen elsewhere is added in, in any order; and an outlier counts by its side alone. The zero Pace has seen
// nothing.
type Pace struct {
	Weights   [paceBuckets]float64
	UpdatedAt time.Time
}

// Add takes in how long a completed task took. Durations of less than a millisecond count as one.
func (p *Pace) Add(took time.Duration, weight float64, at time.Time) {
	if weight <= 0 {
		return
	}
	p.age(at)
	octaves := math.Log2(max(float64(took)/float64(time.Millisecond), 1))
	p.Weights[min(int(octaves*paceOctave), paceBuckets-1)] += weight
}

// Merge adds what another has seen.
func (p *Pace) Merge(o Pace) {
	p.age(o.UpdatedAt)
	o.age(p.UpdatedAt)
	for i, w := range o.Weights {
		p.Weights[i] += w
	}
}

func (p *Pace) age(at time.Time) {
	gap := at.Sub(p.UpdatedAt)
	if gap <= 0 {
		return
	}
	p.UpdatedAt = at
	decay := math.Exp2(-gap.Hours() / 24 / paceDays)
	for i := range p.Weights {
		p.Weights[i] *= decay
	}
}

// Median is the time that half of the evidence was below; 0 while there is too little of it.
func (p *Pace) Median() time.Duration {
	total := 0.0
	for _, w := range p.Weights {
		total += w
	}
	if total < paceEnough {
		return 0
	}
	rest := total / 2
	for i, w := range p.Weights {
		if rest > w {
			rest -= w
			continue
		}
		return time.Duration(float64(time.Millisecond) * math.Exp2((float64(i)+rest/w)/paceOctave))
	}
	return 0
}
