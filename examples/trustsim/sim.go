package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Kind is how an agent behaves.
type Kind int

// The kinds. All but the honest are attacks.
const (
	Honest    Kind = iota // delivers what it can
	Lazy                  // delivers a part of what it could
	Malicious             // takes the task and delivers rubbish
	OnOff                 // good for a while, then rubbish for a while
	Whitewash             // rubbish, and a new identity with a new account after every few tasks
	Stuffing              // pays itself for tasks and five stars, from accounts of its own making
	Colluding             // rings of ten that pay each other for five stars, and give rivals one star
	kinds
)

// Attacks are all kinds but the honest.
func Attacks() []Kind {
	return []Kind{Lazy, Malicious, OnOff, Whitewash, Stuffing, Colluding}
}

// String names the kind.
func (k Kind) String() string {
	return [kinds]string{"honest", "lazy", "malicious", "on-off", "whitewashing", "ballot-stuffing", "colluding"}[k]
}

// Parameters of the market.
const (
	days        = 60   // that a market runs
	rubbish     = 0.1  // quality of what is delivered by who does not care
	phase       = 20   // tasks that an on-off agent stays good, and then bad
	identity    = 10   // tasks after which a whitewasher changes its name
	sybils      = 6    // accounts of one who stuffs ballots
	ringSize    = 10   //
	rated       = 0.6  // share of completed tasks that are rated
	candidates  = 8    // agents that a requester looks at
	curious     = 0.1  // share of requesters who take any of them
	delegating  = 0.2  // share of tasks that agents' owners ask for
	effort      = 0.5  // what delivering at quality 1 costs, as a share of the price
	fee         = 0.05 // the platform's share of every payment
	careless    = 0.05 // share of requesters who rate at random
	skills      = 20   //
	slander     = 0.1  // chance of a colluder to buy from a rival and give it one star, a round
	passEvery   = 5    // rounds between passes over the payments, but for as many at the beginning
	limit       = 300 * time.Second
	usualTask   = 60 * time.Second
	noiseOfStar = 0.2
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// system is a way to make scores. Users and agents are numbers; a user that is an agent's owner has ownerOf's.
type system interface {
	join(agent int, at time.Time)
	task(agent, requester int, well bool, took time.Duration, paid float64, at time.Time)
	rate(agent, requester, stars int, paid float64, at time.Time)
	pass(at time.Time)
	score(agent int) float64  // of how good the agent is
	choice(agent int) float64 // by which one is chosen; the highest is taken
}

const firstOwner, firstSybil = 1_000_000, 2_000_000

func ownerOf(agent int) int { return firstOwner + agent }

type agentState struct {
	kind    Kind
	ability float64
	low     bool // delivers little, beside what else it does
	id      int  // its present identity
	done    int  // real tasks
	here    int  // of the present identity
	shift   int  // where an on-off agent begins
	gain    float64
}

// quality is what it delivers now.
func (a *agentState) quality() float64 {
	switch a.kind {
	case Lazy:
		return 0.6 * a.ability
	case Malicious, Whitewash:
		return rubbish
	case OnOff:
		if (a.done+a.shift)/phase%2 == 1 {
			return rubbish
		}
	case Stuffing, Colluding:
		if a.low {
			return 0.5 * a.ability
		}
	case Honest, kinds:
	}
	return a.ability
}

type market struct {
	rnd    random
	sys    system
	agents []agentState
	nextID int
	buyers []float64 // how much they are out in their ratings; NaN: at random
	now    time.Time
}

func newMarket(seed uint64, sys system, agents int, kindOf func(i int) (Kind, bool)) *market {
	m := &market{rnd: random(seed*0x9e3779b97f4a7c15 + 1), sys: sys, agents: make([]agentState, agents), nextID: agents, buyers: make([]float64, max(agents*2/5, 10)), now: start}
	for i := range m.buyers {
		m.buyers[i] = 0.08 * m.rnd.normal()
		if m.rnd.float() < careless {
			m.buyers[i] = math.NaN()
		}
	}
	for i := range m.agents {
		k, low := kindOf(i)
		m.agents[i] = agentState{kind: k, low: low, ability: 0.3 + 0.65*m.rnd.float(), id: i, shift: m.rnd.below(2 * phase)}
		sys.join(i, m.now)
	}
	return m
}

// deal is one task for an agent, by a user who means it.
func (m *market) deal(slot int) {
	a := &m.agents[slot]
	requester, bias := m.rnd.below(len(m.buyers)), 0.0
	if m.rnd.float() < delegating {
		other := m.rnd.below(len(m.agents))
		if m.agents[other].kind == Honest && other != slot {
			requester = ownerOf(m.agents[other].id)
		}
	}
	if requester < len(m.buyers) {
		bias = m.buyers[requester]
	}
	q := a.quality()
	price := 10 * math.Exp(0.5*m.rnd.normal())
	well := m.rnd.float() < 0.55+0.45*q
	took := time.Duration(float64(usualTask) * math.Exp(0.6*m.rnd.normal()) * (1.3 - 0.6*q))
	m.sys.task(a.id, requester, well, took, price, m.now)
	a.gain -= effort * q
	if well {
		a.gain += 1 - fee
		if m.rnd.float() < rated {
			view := q + bias + noiseOfStar*m.rnd.normal()
			if math.IsNaN(bias) {
				view = m.rnd.float()
			}
			m.sys.rate(a.id, requester, stars(view), price, m.now)
		}
	}
	a.done++
	if a.here++; a.kind == Whitewash && a.here >= identity {
		a.id, a.here = m.nextID, 0
		m.nextID++
		m.sys.join(a.id, m.now)
	}
}

func stars(q float64) int { return 1 + int(math.Round(4*min(max(q, 0), 1))) }

// cheat is what attackers do beside their tasks, once a round.
func (m *market) cheat(slot int) {
	a := &m.agents[slot]
	const price = 10.0
	bought := func(agent, requester, stars int) {
		m.sys.task(agent, requester, true, usualTask/3, price, m.now)
		m.sys.rate(agent, requester, stars, price, m.now)
	}
	switch a.kind {
	case Stuffing:
		bought(a.id, firstSybil+slot*sybils+m.rnd.below(sybils), 5)
		a.gain -= fee
	case Colluding:
		ring := slot / ringSize * ringSize // those of one kind stand together
		mate := ring + m.rnd.below(ringSize)
		if mate != slot && mate < len(m.agents) && m.agents[mate].kind == Colluding {
			bought(m.agents[mate].id, ownerOf(a.id), 5)
			a.gain -= fee
		}
		if rival := m.rnd.below(len(m.agents)); m.rnd.float() < slander && m.agents[rival].kind != Colluding {
			bought(m.agents[rival].id, ownerOf(a.id), 1)
			a.gain--
		}
	case Honest, Lazy, Malicious, OnOff, Whitewash, kinds:
	}
}

func (m *market) round(r, rounds int, tasks func()) {
	m.now = start.Add(time.Duration(r) * days * 24 * time.Hour / time.Duration(rounds))
	tasks()
	for i := range m.agents {
		m.cheat(i)
	}
	if r < passEvery || r%passEvery == 0 {
		m.sys.pass(m.now)
	}
}

// Figures are what was measured of one way to make scores.
type Figures struct {
	Correlation float64          // Spearman's, of score and true quality
	Regret      float64          // quality that is lost by taking the best score of a skill, of 0–1
	Gain        map[Kind]float64 // of each attack over honest play, as a share of what honest play earns
}

// census gives every agent the same number of honest tasks, whatever it deserves.
func census(seed uint64, sys system, agents, tasks int, attackers float64) (correlation, regret float64) {
	attacks := Attacks()
	bad := int(attackers * float64(agents))
	m := newMarket(seed, sys, agents, func(i int) (Kind, bool) {
		if i >= bad {
			return Honest, false
		}
		return attacks[i*len(attacks)/bad], true
	})
	for r := range tasks {
		m.round(r, tasks, func() {
			for i := range m.agents {
				m.deal(i)
			}
		})
	}
	sys.pass(m.now)
	score, truth := make([]float64, agents), make([]float64, agents)
	for i := range m.agents {
		score[i], truth[i] = sys.score(m.agents[i].id), m.agents[i].quality()
	}
	for s := range skills {
		best, chosen, top := 0.0, 0.0, math.Inf(-1)
		for i := s; i < agents; i += skills {
			best = max(best, truth[i])
			if c := sys.score(m.agents[i].id); c > top {
				top, chosen = c, truth[i]
			}
		}
		regret += (best - chosen) / skills
	}
	return spearman(score, truth), regret
}

// earnings are what the first share of a market's agents earn, when tasks go to those with the best scores.
func earnings(seed uint64, sys system, agents, tasks int, attackers float64, kind Kind, low bool) float64 {
	bad := int(attackers*float64(agents)) / ringSize * ringSize
	m := newMarket(seed, sys, agents, func(i int) (Kind, bool) {
		if i < bad {
			return kind, low
		}
		return Honest, false
	})
	for r := range tasks {
		m.round(r, tasks, func() {
			for range agents {
				best, top := m.rnd.below(agents), math.Inf(-1)
				if m.rnd.float() >= curious {
					for range candidates {
						i := m.rnd.below(agents)
						if c := sys.choice(m.agents[i].id); c > top {
							best, top = i, c
						}
					}
				}
				m.deal(best)
			}
		})
	}
	total := 0.0
	for i := range bad {
		total += m.agents[i].gain
	}
	return total
}

// Market is the size of a market.
type Market struct {
	Agents    int
	Tasks     int     // an agent, on average
	Attackers float64 // share of the agents
}

// Standard is the market of 1 000 agents, a fifth of them attackers, after 50 tasks each.
func Standard() Market { return Market{Agents: 1_000, Tasks: 50, Attackers: 0.2} }

// System names a way to make scores.
type System string

// The systems.
const (
	Nexus      System = "nexus"
	Average    System = "plain average"
	Beta       System = "Beta reputation"
	EigenTrust System = "EigenTrust"
)

// Systems lists them, ours first.
func Systems() []System { return []System{Nexus, Average, Beta, EigenTrust} }

func (s System) fresh() system {
	switch s {
	case Average:
		return &average{}
	case Beta:
		return &betaReputation{}
	case EigenTrust:
		return newEigen()
	case Nexus:
	}
	return newNexus()
}

// Run measures a system on one market.
func Run(seed uint64, size Market, s System, attacks []Kind) Figures {
	f := Figures{Gain: map[Kind]float64{}}
	f.Correlation, f.Regret = census(seed, s.fresh(), size.Agents, size.Tasks, size.Attackers)
	if len(attacks) == 0 {
		return f
	}
	honest := earnings(seed, s.fresh(), size.Agents, size.Tasks, size.Attackers, Honest, false)
	for _, k := range attacks {
		gain := earnings(seed, s.fresh(), size.Agents, size.Tasks, size.Attackers, k, false)
		if k == Stuffing || k == Colluding { // who may also save effort by it
			gain = max(gain, earnings(seed, s.fresh(), size.Agents, size.Tasks, size.Attackers, k, true))
		}
		f.Gain[k] = gain/honest - 1
	}
	return f
}

// Summary is the mean of a measure over markets, and the standard error of that.
type Summary struct{ Mean, Error float64 }

// Summarize is that of the values.
func Summarize(xs []float64) Summary {
	n := float64(len(xs))
	var sum, square float64
	for _, x := range xs {
		sum += x
	}
	for _, x := range xs {
		square += (x - sum/n) * (x - sum/n)
	}
	return Summary{sum / n, math.Sqrt(square / max(n-1, 1) / n)}
}

// String shows a mean and its error.
func (s Summary) String() string { return fmt.Sprintf("%.3f ±%.3f", s.Mean, s.Error) }

// spearman is Spearman's correlation of ranks, with the mean rank for ties.
func spearman(a, b []float64) float64 {
	x, y := ranks(a), ranks(b)
	mean := float64(len(x)-1) / 2
	var xy, xx, yy float64
	for i := range x {
		xy += (x[i] - mean) * (y[i] - mean)
		xx += (x[i] - mean) * (x[i] - mean)
		yy += (y[i] - mean) * (y[i] - mean)
	}
	return xy / math.Sqrt(xx*yy)
}

func ranks(v []float64) []float64 {
	order := make([]int, len(v))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case v[a] < v[b]:
			return -1
		case v[a] > v[b]:
			return 1
		}
		return 0
	})
	out := make([]float64, len(v))
	for i := 0; i < len(order); {
		j := i
		for j < len(order) && v[order[j]] == v[order[i]] {
			j++
		}
		for k := i; k < j; k++ {
			out[order[k]] = float64(i+j-1) / 2
		}
		i = j
	}
	return out
}

// random is SplitMix64: small, and the same everywhere.
type random uint64

func (r *random) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (r *random) float() float64 { return float64(r.next()>>11) / (1 << 53) }

func (r *random) below(n int) int { return int(r.next() % uint64(n)) }

// normal is by Box and Muller.
func (r *random) normal() float64 {
	u := 1 - r.float()
	return math.Sqrt(-2*math.Log(u)) * math.Cos(2*math.Pi*r.float())
}
