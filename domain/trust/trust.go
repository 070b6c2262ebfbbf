// Package trust turns evidence about an agent into a score. It is incremental: a profile and one piece of evidence give
// the next profile in constant time and without allocation; history is never read again.
package trust

import (
	"math"
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
	neutral      = 50.0 // where every component but tenure starts: neither good nor bad
	priorWeight  = 4.0  // the neutral start counts as so many pieces of evidence
	halfLifeDays = 60.0 // evidence loses half of its weight in this time
	tenureDays   = 90.0 // time constant of tenure
)

// Mean is a decayed weighted mean with the neutral prior: (prior×neutral + sum) / (prior + weight).
type Mean struct{ Sum, Weight float64 }

func (m Mean) value() float64 { return (priorWeight*neutral + m.Sum) / (priorWeight + m.Weight) }

func (m *Mean) add(x, decay float64) {
	m.Sum = m.Sum*decay + x
	m.Weight = m.Weight*decay + 1
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

// Profile is all that is remembered of an agent's evidence. The zero Profile with AgentID and Since set is a newcomer's.
type Profile struct {
	AgentID     string
	Since       time.Time // the agent's registration
	UpdatedAt   time.Time // of the newest evidence
	Reliability Mean
	Speed       Mean
	Quality     Mean
	Tasks       TaskStats
	Ratings     RatingStats
	Score       float64
	Components  Components
}

// Newcomer is the profile of an agent without evidence. It starts neutral, not at zero, and below the first badge.
func Newcomer(agentID string, since time.Time, w Weights) Profile {
	p := Profile{AgentID: agentID, Since: since, UpdatedAt: since}
	p.settle(since, w)
	return p
}

func (p *Profile) settle(at time.Time, w Weights) {
	p.Components = Components{
		Reliability: round1(p.Reliability.value()),
		Speed:       round1(p.Speed.value()),
		Quality:     round1(p.Quality.value()),
		Tenure:      round1(p.tenure(at)),
	}
	p.Score = w.Score(p.Components)
}

// tenure is 100 × (1 − e^(−age/90 days)), and counts only as far as there was activity: an agent with n pieces of
// evidence gets n/(n+4) of it.
func (p *Profile) tenure(at time.Time) float64 {
	n := float64(p.Tasks.Total())
	days := max(at.Sub(p.Since).Hours()/24, 0)
	return 100 * (1 - math.Exp(-days/tenureDays)) * n / (n + priorWeight)
}

// Confidence is how much the score rests on evidence rather than on the prior, 0–1: n/(n+10) for n tasks.
func (p Profile) Confidence() float64 {
	n := float64(p.Tasks.Total())
	return math.Round(n/(n+10)*100) / 100
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

// Event is one entry of an agent's trust history.
type Event struct {
	ID          string
	AgentID     string
	Type        EventType
	Score       float64 // the change of the score, −10 to 10; for a rating the stars
	Reason      string
	TaskID      string
	ScoreBefore float64
	ScoreAfter  float64
	CreatedAt   time.Time
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
	Stars   int           // of a rating, 1–5
	Own     bool          // between agents of one owner: noted in the history, but it moves nothing
}

// Apply adds one piece of evidence.
//
// Reliability is the posterior mean of "ended well" (Beta reputation, Jøsang & Ismail 2002), speed the mean share of
// the time limit that was left, quality the mean rating on a scale of 0–100; each with a neutral prior and a half-life.
func Apply(p Profile, e Evidence, w Weights) (Profile, Event) {
	before := p.Score
	if !e.Own {
		p.weigh(e)
		p.settle(e.At, w)
	}
	change := round1(min(max(p.Score-before, -10), 10))
	if e.Type == RatingReceived {
		change = float64(e.Stars)
	}
	return p, Event{
		ID: e.EventID, AgentID: p.AgentID, Type: e.Type, Score: change, Reason: e.Reason, TaskID: e.TaskID,
		ScoreBefore: before, ScoreAfter: p.Score, CreatedAt: e.At,
	}
}

func (p *Profile) weigh(e Evidence) {
	decay := 1.0
	if days := e.At.Sub(p.UpdatedAt).Hours() / 24; days > 0 {
		decay = math.Exp2(-days / halfLifeDays)
	}
	if e.At.After(p.UpdatedAt) {
		p.UpdatedAt = e.At
	}
	switch e.Type {
	case TaskCompleted:
		p.Tasks.Completed++
		p.Reliability.add(100, decay)
		if e.Limit > 0 {
			left := 1 - float64(e.Took)/float64(e.Limit)
			p.Speed.add(100*min(max(left, 0), 1), decay)
		}
	case TaskFailed:
		p.Tasks.Failed++
		p.Reliability.add(0, decay)
	case TaskTimeout:
		p.Tasks.TimedOut++
		p.Reliability.add(0, decay)
		p.Speed.add(0, decay)
	case RatingReceived:
		p.Ratings.Count++
		p.Ratings.Sum += int64(e.Stars)
		p.Quality.add(float64(e.Stars-1)*25, decay)
	case SLABreach, DisputeOpened, DisputeResolved: // noted in the history; they move no component
	}
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
