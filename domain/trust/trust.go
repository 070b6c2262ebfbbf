// Package trust turns evidence about an agent into a score. It is incremental: a profile and one piece of evidence give
// the next profile in constant time and without allocation; history is never read again. How the parts were chosen, and
// how they hold against attacks, is measured in examples/trustsim.
package trust

import (
	"cmp"
	"math"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
)

// Weights are the shares of the four components in the score. They add up to 1.
type Weights struct{ Reliability, Speed, Quality, Tenure float64 }

// DefaultWeights are the platform's: components of 90, 80, 85 and 70 give 85.5.
func DefaultWeights() Weights {
	return Weights{Reliability: 0.45, Speed: 0.20, Quality: 0.30, Tenure: 0.05}
}

// Valid reports whether no weight is negative and they add up to 1.
func (w Weights) Valid() bool {
	return w.Reliability >= 0 && w.Speed >= 0 && w.Quality >= 0 && w.Tenure >= 0 &&
		math.Abs(w.Reliability+w.Speed+w.Quality+w.Tenure-1) < 1e-9
}

// Components are the four views of an agent, each 0–100.
type Components struct{ Reliability, Speed, Quality, Tenure float64 }

// Score is the weighted mean, rounded to one decimal.
func (w Weights) Score(c Components) float64 {
	return round1(w.Reliability*c.Reliability + w.Speed*c.Speed + w.Quality*c.Quality + w.Tenure*c.Tenure)
}

func round1(x float64) float64 { return math.Round(x*10) / 10 }

// Parameters of the components.
const (
	neutral      = 50.0  // where every component but tenure starts: neither good nor bad
	priorWeight  = 4.0   // the neutral start counts as so many pieces of evidence
	halfLifeDays = 60.0  // evidence loses half of its weight in this time
	tenureDays   = 90.0  // time constant of tenure
	memory       = 120.0 // most evidence that a mean remembers; older evidence makes room for newer
	freshMemory  = 6.0   // most evidence that the fresh mean remembers
	freshEnough  = 3.0   // evidence that the fresh mean needs to say anything
	alarm        = 2.7   // standard deviations by which the fresh mean has to be below the long one
	outlier      = 25.0  // a speed counts as no further than this from the mean so far
	cautious     = 0.7   // standard deviations from the score down to its bound: about one in four is below
)

// Mean is a weighted mean that forgets, over a long memory and over a short one. Its value is the posterior mean
// (prior×priorWeight + Sum) / (priorWeight + Weight), which for outcomes of 0 and 100 is that of Beta reputation (Jøsang
// & Ismail 2002). When the short memory is worse than the long one by more than chance allows, the long one is given
// up: who was good and turns bad is followed within about ten events, while one bad day costs little (a one-sided
// two-window test, after Bifet & Gavaldà's ADWIN, 2007, with fixed windows). There is no such haste upwards.
type Mean struct {
	Sum, Weight           float64
	FreshSum, FreshWeight float64
}

func (m Mean) value(prior float64) float64 {
	return (priorWeight*prior + m.Sum) / (priorWeight + m.Weight)
}

func (m *Mean) add(x, weight float64) {
	m.Sum, m.Weight = forget(m.Sum, m.Weight, memory-weight)
	m.FreshSum, m.FreshWeight = forget(m.FreshSum, m.FreshWeight, freshMemory-weight)
	m.Sum, m.Weight = m.Sum+weight*x, m.Weight+weight
	m.FreshSum, m.FreshWeight = m.FreshSum+weight*x, m.FreshWeight+weight
	if m.FreshWeight < freshEnough || m.Weight <= m.FreshWeight {
		return
	}
	old := m.value(neutral)
	fresh := m.FreshSum / m.FreshWeight
	if old-fresh > alarm*math.Sqrt(old*(100-old)/m.FreshWeight) {
		m.Sum, m.Weight = m.FreshSum, m.FreshWeight
	}
}

// forget makes room: no more than most stays.
func forget(sum, weight, most float64) (float64, float64) {
	if weight <= most {
		return sum, weight
	}
	return sum * most / weight, most
}

// variance is an upper bound of the posterior's: no outcome within 0–100 varies more around its mean than 0 and 100 do.
func (m Mean) variance(shown, damping float64) float64 {
	return shown * (100 - shown) / (priorWeight + m.Weight*damping + 1)
}

// TaskStats counts an agent's tasks by how they ended.
type TaskStats struct{ Completed, Failed, TimedOut int64 }

// Total is the number of tasks that count as evidence.
func (s TaskStats) Total() int64 { return s.Completed + s.Failed + s.TimedOut }

// RatingStats counts an agent's ratings.
type RatingStats struct{ Count, Sum int64 }

// Average is the mean number of stars; 0 without ratings.
func (s RatingStats) Average() float64 {
	if s.Count == 0 {
		return 0
	}
	return math.Round(float64(s.Sum)/float64(s.Count)*100) / 100
}

// Profile is all that is remembered of an agent's evidence.
type Profile struct {
	AgentID     string
	Since       time.Time // the agent's registration
	UpdatedAt   time.Time // of the newest evidence
	Events      int64     // how many there were, also those that moved nothing
	Start       float64   // what the components but tenure started from: 50, or less after a bad record
	Damping     float64   // how much of what is above the start counts, 0–1: Pass has it
	Reliability Mean
	Speed       Mean
	Quality     Mean
	Latency     Latency // no part of the score
	Tasks       TaskStats
	Ratings     RatingStats
	Score       float64
	Bound       float64 // the score that the agent is likely not below; agents are chosen by it
	Components  Components
}

// Newcomer is the profile of an agent without evidence. It starts neutral, not at zero, and below the first badge.
func Newcomer(agentID string, since time.Time, w Weights) Profile {
	return newcomer(agentID, since, neutral, w)
}

func newcomer(agentID string, since time.Time, start float64, w Weights) Profile {
	p := Profile{AgentID: agentID, Since: since, UpdatedAt: since, Start: start, Damping: 1}
	p.settle(since, w)
	return p
}

// Successor is the profile of a new agent whose owner gave up another one. A bad record comes along, a good one does
// not: so nothing is gained by deleting an agent and registering it again.
func Successor(agentID string, since time.Time, given Profile, w Weights) Profile {
	worst := min(given.Reliability.value(given.Start), given.Quality.value(given.Start), neutral)
	return newcomer(agentID, since, math.Round(worst*100)/100, w)
}

// Resumed is the profile of an agent without evidence that was registered with the score, as a newcomer or a successor.
func Resumed(agentID string, since time.Time, score float64, w Weights) Profile {
	start := neutral
	if whole := 1 - w.Tenure; whole > 0 && score < w.Score(Components{neutral, neutral, neutral, 0}) {
		start = max(score/whole, 0)
	}
	return newcomer(agentID, since, start, w)
}

// Started is the score that the profile had before there was any evidence.
func Started(p Profile, w Weights) float64 {
	return w.Score(Components{p.Start, p.Start, p.Start, 0})
}

// Agrees reports whether two profiles have the same evidence. Of the latency, which events do not have, nothing is said.
func (p Profile) Agrees(q Profile) bool {
	return p.Events == q.Events && p.Tasks == q.Tasks && p.Ratings == q.Ratings && p.Reliability.near(q.Reliability) && p.Speed.near(q.Speed) && p.Quality.near(q.Quality)
}

func (m Mean) near(o Mean) bool {
	const rounding = 1e-6
	return math.Abs(m.Sum-o.Sum) < rounding && math.Abs(m.Weight-o.Weight) < rounding
}

func (p *Profile) settle(at time.Time, w Weights) {
	r, s, q := p.shown(p.Reliability), p.shown(p.Speed), p.shown(p.Quality)
	p.Components = Components{Reliability: round1(r), Speed: round1(s), Quality: round1(q), Tenure: round1(p.tenure(at))}
	p.Score = w.Score(p.Components)
	variance := w.Reliability*w.Reliability*p.Reliability.variance(r, p.Damping) +
		w.Speed*w.Speed*p.Speed.variance(s, p.Damping) + w.Quality*w.Quality*p.Quality.variance(q, p.Damping)
	p.Bound = round1(max(p.Score-cautious*math.Sqrt(variance), 0))
}

// shown is a component's value: damping takes from what is above the start, and nothing from what is below.
func (p *Profile) shown(m Mean) float64 {
	v := m.value(p.Start)
	if v > p.Start {
		v = p.Start + p.Damping*(v-p.Start)
	}
	return min(max(v, 0), 100)
}

// tenure is 100 × (1 − e^(−age/90 days)), and counts only as far as there was activity: an agent with evidence of the
// weight n gets n/(n+4) of it. It saturates in both.
func (p *Profile) tenure(at time.Time) float64 {
	n := p.Reliability.Weight * p.Damping
	days := max(at.Sub(p.Since).Hours()/24, 0)
	return 100 * (1 - math.Exp(-days/tenureDays)) * n / (n + priorWeight)
}

// Confidence is how much the score rests on evidence rather than on the start, 0–1: n/(n+10) for evidence of the weight n.
func (p Profile) Confidence() float64 {
	n := p.Reliability.Weight * p.Damping
	return math.Round(n/(n+10)*100) / 100
}

// Damped is the profile under another damping, which is cut to 0–1.
func (p Profile) Damped(damping float64, at time.Time, w Weights) Profile {
	p.Damping = min(max(damping, 0), 1)
	if at.Before(p.UpdatedAt) {
		at = p.UpdatedAt
	}
	p.settle(at, w)
	return p
}

// Badge names the band of a score.
func Badge(score float64) string {
	switch {
	case score >= 90:
		return "Verified Elite"
	case score >= 70:
		return "Trusted"
	case score >= 50:
		return "Established"
	default:
		return "New"
	}
}

// EventType is the kind of evidence.
type EventType string

// The event types.
const (
	TaskCompleted   EventType = "task_completed"
	TaskFailed      EventType = "task_failed"
	TaskTimeout     EventType = "task_timeout"
	SLABreach       EventType = "sla_breach"
	RatingReceived  EventType = "rating_received"
	DisputeOpened   EventType = "dispute_opened"
	DisputeResolved EventType = "dispute_resolved"
)

// Event is one entry of an agent's trust history. With Newcomer, or what the agent started as, its events give its
// profile again: Replay.
type Event struct {
	ID          string
	AgentID     string
	Seq         int64 // its place in the agent's history, from 1
	Type        EventType
	Score       float64 // the change of the score, −10 to 10; for a rating the stars
	Reason      string
	TaskID      string
	Weight      float64 // how much it counted, 0–1
	Speed       float64 // of a completed task, 0–100; −1 for none
	Damping     float64 // of the profile at that time
	ScoreBefore float64
	ScoreAfter  float64
	CreatedAt   time.Time
}

// Place is an event's place in its agent's history.
type Place struct {
	At int64  `json:"a"` // microseconds since 1970
	ID string `json:"i"`
}

// Place returns the event's place: newest first, ties by id, descending.
func (e Event) Place() Place { return Place{e.CreatedAt.UnixMicro(), e.ID} }

// Compare orders places, those of the newest events first.
func (p Place) Compare(o Place) int {
	return cmp.Or(cmp.Compare(o.At, p.At), strings.Compare(o.ID, p.ID))
}

// Evidence is one observation of an agent.
type Evidence struct {
	Type    EventType // TaskCompleted, TaskFailed, TaskTimeout or RatingReceived
	EventID string
	TaskID  string
	At      time.Time
	Reason  string
	Took    time.Duration // of a completed task
	Limit   time.Duration // the task's own time limit
	Median  time.Duration // what such tasks take in the market; 0: not known
	Stars   int           // of a rating, 1–5
	Own     bool          // between agents of one owner: noted in the history, but it moves nothing
	Source  Source
}

// Apply adds one piece of evidence.
//
// Reliability is the posterior mean of "ended well"; speed the mean of how the tasks' times compare (Evidence.speed);
// quality the posterior mean rating, on a scale of 0–100, each rating weighted by who gives it (Source.Weight). Each has
// a neutral prior and a half-life of 60 days. How long completed tasks take moves no score: Latency.
func Apply(p Profile, e Evidence, w Weights) (Profile, Event) {
	ev := Event{
		ID: e.EventID, AgentID: p.AgentID, Seq: p.Events + 1, Type: e.Type, Reason: e.Reason, TaskID: e.TaskID,
		Weight: e.Source.Weight(), Speed: e.speed(), Damping: p.Damping, ScoreBefore: p.Score, CreatedAt: e.At,
	}
	if e.Own {
		ev.Weight = 0
	}
	p.take(ev, e.Stars, w)
	if ev.Weight > 0 && e.Type == TaskCompleted {
		p.Latency.add(e.Took, e.Source.voice())
	}
	ev.ScoreAfter = p.Score
	if ev.Score = round1(min(max(ev.ScoreAfter-ev.ScoreBefore, -10), 10)); e.Type == RatingReceived {
		ev.Score = float64(e.Stars)
	}
	return p, ev
}

// Replay adds an event of an agent's history, in the order of Seq, to all but the latency. ok is false where its scores or
// its place are not what they must be.
func Replay(p Profile, e Event, w Weights) (next Profile, ok bool) {
	if p.Damping != e.Damping {
		p = p.Damped(e.Damping, p.UpdatedAt, w)
	}
	ok = e.Seq == p.Events+1
	p.take(e, int(e.Score), w)
	return p, ok && math.Abs(p.Score-e.ScoreAfter) < 0.051
}

// speed is the mean of two views, each 0–100: how much of the task's own time was left, and how the time compares to the
// market's median for the skill, 50 for as long, going to 100 for much shorter and to 0 for much longer. Where there is no
// median it is the first alone. −1: there is nothing to see.
func (e *Evidence) speed() float64 {
	if e.Type == TaskTimeout {
		return 0
	}
	if e.Type != TaskCompleted || e.Limit <= 0 {
		return -1
	}
	took := max(float64(e.Took), 0)
	left := 100 * max(1-took/float64(e.Limit), 0)
	if e.Median <= 0 {
		return left
	}
	median := float64(e.Median)
	return (left + 100*median/(median+took)) / 2
}

func (p *Profile) take(e Event, stars int, w Weights) {
	p.Events++
	if e.Weight <= 0 {
		return
	}
	decay := 1.0
	if gap := e.CreatedAt.Sub(p.UpdatedAt); gap > 0 {
		decay = math.Exp2(-gap.Hours() / 24 / halfLifeDays)
		p.UpdatedAt = e.CreatedAt
	}
	if decay < 1 { // all age alike, whichever the evidence is about
		p.Reliability.age(decay)
		p.Speed.age(decay)
		p.Quality.age(decay)
		p.Latency.age(decay * decay) // 30 days
	}
	switch e.Type {
	case TaskCompleted:
		p.Tasks.Completed++
		p.Reliability.add(100, e.Weight)
	case TaskFailed:
		p.Tasks.Failed++
		p.Reliability.add(0, e.Weight)
	case TaskTimeout:
		p.Tasks.TimedOut++
		p.Reliability.add(0, e.Weight)
	case RatingReceived:
		p.Ratings.Count++
		p.Ratings.Sum += int64(stars)
		p.Quality.add(float64(stars-1)*25, e.Weight)
	case SLABreach, DisputeOpened, DisputeResolved: // noted in the history; they move no component
	}
	if e.Speed >= 0 && (e.Type == TaskCompleted || e.Type == TaskTimeout) {
		mean := p.Speed.value(p.Start)
		p.Speed.add(min(max(e.Speed, mean-outlier), mean+outlier), e.Weight) // Huber 1964: no outlier goes far
	}
	p.settle(p.UpdatedAt, w)
}

func (m *Mean) age(decay float64) {
	m.Sum *= decay
	m.Weight *= decay
	m.FreshSum *= decay
	m.FreshWeight *= decay
}

// MaxComment is the longest comment of a rating, in characters.
const MaxComment = 1_000

// CheckRating validates what a rater wrote.
func CheckRating(stars int, comment string) error {
	var bad fault.Fields
	bad.Check(stars >= 1 && stars <= 5, "rating", "must be a whole number from 1 to 5")
	bad.Check(len([]rune(comment)) <= MaxComment, "comment", "must be at most %d characters long", MaxComment)
	return bad.Err()
}

// AlreadyRated is the fault of a second rating of one task.
func AlreadyRated(taskID string) *fault.Error {
	return fault.New(fault.Conflict, fault.CodeAlreadyRated, "task %s has been rated already", taskID)
}

// band is how many points of the bound are no difference worth choosing by.
const band = 2.5

// Band is the bound as agents are chosen by it: those of one band are alike, so that a little evidence more does not draw
// all tasks to one agent, and price and load decide.
func (p Profile) Band() int { return BandOf(p.Bound) }

// BandOf is the band of a bound.
func BandOf(bound float64) int { return int(bound / band) }
