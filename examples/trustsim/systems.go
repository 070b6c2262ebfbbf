package main

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/nexus-protocol/nexus/domain/trust"
)

// nexus is the engine's own domain/trust, used as the engine uses it.
type nexus struct {
	weights  trust.Weights
	profiles map[int]trust.Profile
	pairs    map[[2]int]trust.Pair // agent, requester
	raters   map[int]trust.Rater
	paces    map[int]*trust.Pace // by skill
}

func newNexus() *nexus {
	return &nexus{trust.DefaultWeights(), map[int]trust.Profile{}, map[[2]int]trust.Pair{}, map[int]trust.Rater{}, map[int]*trust.Pace{}}
}

func (s *nexus) join(agent int, at time.Time) {
	s.profiles[agent] = trust.Newcomer(strconv.Itoa(agent), at, s.weights)
}

func (s *nexus) source(agent, requester int, paid float64, rating bool, at time.Time) trust.Source {
	return trust.Dealings{Pair: s.pairs[[2]int{agent, requester}], Rater: s.raters[requester]}.Source(paid, rating, at)
}

func (s *nexus) task(agent, requester int, well bool, took time.Duration, paid float64, at time.Time) {
	src := s.source(agent, requester, paid, false, at)
	e := trust.Evidence{Type: trust.TaskFailed, At: at, Limit: limit, Source: src}
	pace := s.paces[agent%skills]
	if pace == nil {
		pace = &trust.Pace{}
		s.paces[agent%skills] = pace
	}
	if well {
		e.Type, e.Took, e.Median = trust.TaskCompleted, took, pace.Median()
	} else {
		paid = 0
	}
	var ev trust.Event
	s.profiles[agent], ev = trust.Apply(s.profiles[agent], e, s.weights)
	if well {
		pace.Add(took, ev.Weight, at)
	}
	key := [2]int{agent, requester}
	s.pairs[key] = s.pairs[key].Dealt(1, paid, src, at)
}

func (s *nexus) rate(agent, requester, stars int, paid float64, at time.Time) {
	before := s.profiles[agent]
	src := s.source(agent, requester, paid, true, at)
	s.profiles[agent], _ = trust.Apply(before, trust.Evidence{Type: trust.RatingReceived, At: at, Stars: stars, Source: src}, s.weights)
	key := [2]int{agent, requester}
	s.pairs[key] = s.pairs[key].Dealt(0, 0, src, at)
	s.raters[requester] = s.raters[requester].Judged(stars, before)
}

func (s *nexus) pass(at time.Time) {
	payments := make([]trust.Payment, 0, len(s.pairs))
	for k, p := range s.pairs {
		payments = append(payments, trust.Payment{FromUserID: strconv.Itoa(k[1]), AgentID: strconv.Itoa(k[0]), ToUserID: strconv.Itoa(ownerOf(k[0])), Amount: p.Paid, Full: p.Full, Counted: p.Counted})
	}
	found := trust.Pass(payments, trust.DefaultPass())
	for user, standing := range found.Standing {
		n, _ := strconv.Atoi(user)
		r := s.raters[n]
		r.Standing, r.Seen = standing, true
		s.raters[n] = r
	}
	for agent, damping := range found.Damping {
		n, _ := strconv.Atoi(agent)
		s.profiles[n] = s.profiles[n].Damped(damping, at, s.weights)
	}
}

func (s *nexus) score(agent int) float64  { return s.profiles[agent].Score }
func (s *nexus) choice(agent int) float64 { return float64(s.profiles[agent].Band()) }

// average is the plain mean of all that was seen: 1 for a task that ended well, 0 for one that did not, and each rating
// on a scale from 0 to 1.
type average struct{ sum, n map[int]float64 }

func (s *average) join(agent int, _ time.Time) {
	if s.sum == nil {
		s.sum, s.n = map[int]float64{}, map[int]float64{}
	}
	s.sum[agent], s.n[agent] = 0, 0
}

func (s *average) add(agent int, x float64) {
	s.sum[agent] += x
	s.n[agent]++
}

func (s *average) task(agent, _ int, well bool, _ time.Duration, _ float64, _ time.Time) {
	if well {
		s.add(agent, 1)
	} else {
		s.add(agent, 0)
	}
}

func (s *average) rate(agent, _, stars int, _ float64, _ time.Time) {
	s.add(agent, float64(stars-1)/4)
}
func (s *average) pass(time.Time) {}

func (s *average) score(agent int) float64 {
	if s.n[agent] == 0 {
		return 0.5
	}
	return s.sum[agent] / s.n[agent]
}
func (s *average) choice(agent int) float64 { return s.score(agent) }

// betaReputation is that of Jøsang & Ismail (2002) with continuous feedback: the mean of a Beta distribution whose two
// parameters begin at 1, and with their forgetting factor, of 0.99 an observation.
type betaReputation struct{ r, s map[int]float64 }

func (b *betaReputation) join(agent int, _ time.Time) {
	if b.r == nil {
		b.r, b.s = map[int]float64{}, map[int]float64{}
	}
	b.r[agent], b.s[agent] = 0, 0
}

func (b *betaReputation) add(agent int, x float64) {
	const keep = 0.99
	b.r[agent] = b.r[agent]*keep + x
	b.s[agent] = b.s[agent]*keep + 1 - x
}

func (b *betaReputation) task(agent, _ int, well bool, _ time.Duration, _ float64, _ time.Time) {
	if well {
		b.add(agent, 1)
	} else {
		b.add(agent, 0)
	}
}

func (b *betaReputation) rate(agent, _, stars int, _ float64, _ time.Time) {
	b.add(agent, float64(stars-1)/4)
}
func (b *betaReputation) pass(time.Time) {}
func (b *betaReputation) score(agent int) float64 {
	return (b.r[agent] + 1) / (b.r[agent] + b.s[agent] + 2)
}
func (b *betaReputation) choice(agent int) float64 { return b.score(agent) }

// eigenTrust is that of Kamvar, Schlosser & Garcia-Molina (2003): what a user is satisfied with less what it is not, not
// below zero, as shares; and the stationary distribution of following them, with 0.15 going to ten requesters that are
// known to be honest.
type eigenTrust struct {
	local map[[2]int]float64 // from a user to an agent's owner
	trust map[int]float64
}

func newEigen() *eigenTrust { return &eigenTrust{map[[2]int]float64{}, map[int]float64{}} }

func (e *eigenTrust) join(int, time.Time) {}

func (e *eigenTrust) task(agent, requester int, well bool, _ time.Duration, _ float64, _ time.Time) {
	x := -1.0
	if well {
		x = 1
	}
	e.local[[2]int{requester, ownerOf(agent)}] += x
}

func (e *eigenTrust) rate(agent, requester, stars int, _ float64, _ time.Time) {
	e.local[[2]int{requester, ownerOf(agent)}] += float64(stars-3) / 2
}

func (e *eigenTrust) pass(time.Time) {
	const restart, known, rounds = 0.15, 10, 15
	edges := slices.SortedFunc(maps.Keys(e.local), func(a, b [2]int) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })
	out := map[int]float64{}
	at := map[int]int{}
	for _, k := range edges {
		for _, u := range k {
			if _, ok := at[u]; !ok {
				at[u] = len(at)
			}
		}
		out[k[0]] += max(e.local[k], 0)
	}
	for u := range known {
		if _, ok := at[u]; !ok {
			at[u] = len(at)
		}
	}
	type step struct {
		from, to int
		share    float64
	}
	var steps []step
	for _, k := range edges {
		if v := e.local[k]; v > 0 {
			steps = append(steps, step{at[k[0]], at[k[1]], v / out[k[0]]})
		}
	}
	p, t, next := make([]float64, len(at)), make([]float64, len(at)), make([]float64, len(at))
	for u := range known {
		p[at[u]] = 1.0 / known
	}
	copy(t, p)
	for range rounds {
		clear(next)
		kept := 0.0
		for _, s := range steps {
			next[s.to] += (1 - restart) * s.share * t[s.from]
			kept += (1 - restart) * s.share * t[s.from]
		}
		for i := range next { // who trusts nobody trusts those who are known
			next[i] += (1 - kept) * p[i]
		}
		t, next = next, t
	}
	for u, i := range at {
		e.trust[u] = t[i]
	}
}

func (e *eigenTrust) score(agent int) float64  { return e.trust[ownerOf(agent)] }
func (e *eigenTrust) choice(agent int) float64 { return e.score(agent) }
