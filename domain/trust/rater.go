package trust

import (
	"math"
	"time"
)

// Parameters of what evidence weighs.
const (
	freeStake       = 0.25 // the weight of a task that cost nothing
	stakeHalf       = 5.0  // credits that count for half of the rest
	metHalf         = 3.0  // earlier evidence of the pair after which another piece counts for a quarter
	pairDays        = 30.0 // half-life of that
	unknownStanding = 0.1  // of a requester that no pass has seen
	agreementPrior  = 4.0  // a new rater counts as one who agreed so often
	most            = 0.98 // doubt that counts: nothing that was paid for counts for nothing
	tolerance       = 30.0 // points by which honest ratings may be off
)

// Source is where evidence comes from. The zero Source is a stranger who paid nothing and of whom nothing bad is known.
type Source struct {
	Stake float64 // credits paid for the task
	Doubt float64 // 0–1: what is known against the requester; Rater.Doubt has it
	Met   float64 // how much evidence there was of the same requester's about the same agent: Pair.Met
}

// Weight is how much the evidence counts, 0–1. It grows with what was really paid (saturating, so that no single task
// decides), shrinks with doubt, and with each further piece of one pair: the n-th counts (1 + n/3)⁻², so that all that one
// requester can ever add is about that of three to four.
func (s Source) Weight() float64 {
	stake, doubt := max(s.Stake, 0), min(max(s.Doubt, 0), most)
	met := 1 + max(s.Met, 0)/metHalf
	return (freeStake + (1-freeStake)*stake/(stake+stakeHalf)) * (1 - doubt) / (met * met)
}

// Pair is what one requester and one agent had to do with each other.
type Pair struct {
	Tasks     float64 // with a half-life of 30 days
	Paid      float64 // credits, likewise
	Full      float64 // what its evidence would have counted without any doubt, likewise
	Counted   float64 // what it did count, likewise
	UpdatedAt time.Time
}

// Met is how much of it counts at a moment.
func (p Pair) Met(at time.Time) float64 { return p.Tasks * pairDecay(at.Sub(p.UpdatedAt)) }

// Dealt adds a task that ended, or a rating of one (which is no further task), and what was paid for it.
func (p Pair) Dealt(tasks, paid float64, s Source, at time.Time) Pair {
	d := pairDecay(at.Sub(p.UpdatedAt))
	p.Tasks, p.Paid = p.Tasks*d+tasks, p.Paid*d+paid
	counted := s.Weight()
	s.Doubt = 0
	p.Full, p.Counted = p.Full*d+s.Weight(), p.Counted*d+counted
	if at.After(p.UpdatedAt) {
		p.UpdatedAt = at
	}
	return p
}

func pairDecay(gap time.Duration) float64 {
	if gap <= 0 {
		return 1
	}
	return math.Exp2(-gap.Hours() / 24 / pairDays)
}

// Dealings are what is known of a requester when there is evidence of its about an agent. Without a UserID there are none.
type Dealings struct {
	UserID      string // the requester
	OwnerUserID string // the agent's
	Pair        Pair
	Rater       Rater
}

// Source is where a task's or a rating's evidence comes from; credits is what was paid.
func (d Dealings) Source(credits float64, rating bool, at time.Time) Source {
	s := Source{Stake: credits, Doubt: d.Rater.Doubt(), Met: d.Pair.Met(at)}
	if rating { // the task itself is among what they had to do with each other
		s.Met = max(s.Met-1, 0)
	}
	return s
}

// Rater is what is known of a user as a requester and rater.
type Rater struct {
	UserID    string
	Standing  float64 // from the newest Pass, 0–1
	Seen      bool    // by a pass; else Standing means nothing
	Agreed    float64 // ratings that agreed with what others found, by how sure that was
	Disagreed float64 // and those that did not
}

// Doubt is what is to be subtracted from the weight of the rater's word: 1 − standing × agreement². Agreement is the posterior
// mean of having agreed with others (after Whitby, Jøsang & Indulska's filter of unfair ratings, 2004, but gradual).
func (r Rater) Doubt() float64 {
	standing := unknownStanding
	if r.Seen {
		standing = r.Standing
	}
	agreement := (agreementPrior + r.Agreed) / (agreementPrior + r.Agreed + r.Disagreed)
	return 1 - standing*agreement*agreement
}

// Judged notes a rating that the rater gave an agent with the profile before it. It counts by how sure the market is of
// that agent's quality.
func (r Rater) Judged(stars int, p Profile) Rater {
	sure := p.Quality.Weight / (p.Quality.Weight + 2*priorWeight)
	off := math.Abs(float64(stars-1)*25-p.Quality.value(p.Start)) - tolerance
	wrong := min(max(off/tolerance, 0), 1)
	r.Agreed += sure * (1 - wrong)
	r.Disagreed += sure * wrong
	return r
}
