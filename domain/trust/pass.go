package trust

import (
	"cmp"
	"slices"
)

// Payment is what a user has paid for the tasks of an agent, in credits. Those to one's own agents do not count.
type Payment struct {
	FromUserID string
	AgentID    string
	ToUserID   string // the agent's owner
	Amount     float64
	Full       float64 // Pair.Full
	Counted    float64 // Pair.Counted
}

// PassParameters steer a pass over the payment graph.
type PassParameters struct {
	Rounds int     // of the iteration
	Follow float64 // how much of the standing of those who pay comes through to whom they paid, who then pays others
	Circle float64 // share of the spending that comes back within three payments at which a payer has no standing left
	Widest int     // so many of a user's largest payees are looked at for that
	Enough float64 // share of the median independence at which an agent is not damped at all
	Fewest int     // payers that an agent must have to be damped
}

// DefaultPass are the platform's parameters.
func DefaultPass() PassParameters {
	return PassParameters{Rounds: 20, Follow: 0.85, Circle: 0.05, Widest: 64}
}

// Findings are what a pass found.
type Findings struct {
	Standing map[string]float64 // of each user who paid, 0–1
	Damping  map[string]float64 // of each agent that was paid, 0–1
}

// Damping is how much counts of what is above an agent's start: Profile.Damping.
type Damping struct {
	AgentID string
	Damping float64
}

// Pass looks for rings: groups that only trade with each other. It is an iteration over the payment graph, in the way of
// EigenTrust (Kamvar, Schlosser & Garcia-Molina 2003) and PageRank, with the money's way backwards: an agent is as
// independent as those who pay it, weighted by what they pay; and a payer is as credible as
//
//	breadth × (source + (1 − source) × Follow × independence of the payer's own income) × straight
//
// where source is the share of what was spent that was not earned before, so that money that goes round in a ring never
// becomes credible, and breadth is 1 − Σ share² over those who are paid (Herfindahl), so that who pays one only has no
// voice. straight is 1 − c/Circle, not below 0, where c is the share of the spending that comes back by way of one or two others: rings
// that also earn honestly are known by it. Standing is relative to the median of all payers, damping to that of all agents: a market in which all are new
// damps nobody. The order of the payments does not matter. It takes Rounds × len(payments) steps,
// and Widest² × those who both earn and spend.
func Pass(payments []Payment, par PassParameters) Findings {
	edges := slices.Clone(payments)
	edges = slices.DeleteFunc(edges, func(e Payment) bool { return e.FromUserID == e.ToUserID || e.FromUserID == "" || e.Amount <= 0 })
	slices.SortFunc(edges, func(a, b Payment) int {
		return cmp.Or(cmp.Compare(a.FromUserID, b.FromUserID), cmp.Compare(a.ToUserID, b.ToUserID), cmp.Compare(a.AgentID, b.AgentID), cmp.Compare(a.Amount, b.Amount))
	})
	users := indexed(edges, func(e Payment) []string { return []string{e.FromUserID, e.ToUserID} })
	n := len(users.names)
	spent, earned, square, income := make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)
	credible, next := make([]float64, n), make([]float64, n)
	from, to := make([]int, len(edges)), make([]int, len(edges))
	for i, e := range edges {
		from[i], to[i] = users.at[e.FromUserID], users.at[e.ToUserID]
		spent[from[i]] += e.Amount
		earned[to[i]] += e.Amount
	}
	for i := 0; i < len(edges); { // what goes to one owner is one share
		j, sum := i, 0.0
		for ; j < len(edges) && from[j] == from[i] && to[j] == to[i]; j++ {
			sum += edges[j].Amount
		}
		square[from[i]] += sum * sum
		i = j
	}
	breadth, source := make([]float64, n), make([]float64, n)
	for u := range n {
		if spent[u] > 0 {
			breadth[u] = 1 - square[u]/(spent[u]*spent[u])
			source[u] = max(spent[u]-earned[u], 0) / spent[u]
		}
	}
	for u, c := range circular(n, from, to, edges, spent, par.Widest) {
		breadth[u] *= max(1-c/par.Circle, 0)
	}
	for u := range n {
		credible[u] = breadth[u]
	}
	for range par.Rounds {
		clear(income)
		for i, e := range edges {
			income[to[i]] += e.Amount * credible[from[i]]
		}
		for u := range n {
			independent := 0.0
			if earned[u] > 0 {
				independent = income[u] / earned[u]
			}
			next[u] = breadth[u] * (source[u] + (1-source[u])*par.Follow*independent)
		}
		credible, next = next, credible
	}
	out := Findings{Standing: make(map[string]float64, n), Damping: map[string]float64{}}
	var voices []float64
	for u := range n {
		if credible[u] > 0 {
			voices = append(voices, credible[u])
		}
	}
	usual := median(voices)
	for u, name := range users.names {
		if spent[u] > 0 && usual > 0 {
			out.Standing[name] = min(credible[u]/usual, 1)
		}
	}
	over, counted := make(map[string]float64, len(edges)), make(map[string]float64, len(edges))
	for _, e := range edges {
		counted[e.AgentID] += e.Counted
		if standing, ok := out.Standing[e.FromUserID]; ok {
			over[e.AgentID] += max(e.Counted-e.Full*max(standing, 1-most), 0)
		}
	}
	for agent, n := range counted {
		out.Damping[agent] = 1
		if n > 0 {
			out.Damping[agent] = 1 - over[agent]/n
		}
	}
	return out
}

// circular is, for each user, the share of what is spent that comes back to it in the second or third payment, if each
// passes on what it gets in the shares in which it spends.
func circular(n int, from, to []int, edges []Payment, spent []float64, widest int) []float64 {
	type share struct {
		to    int
		share float64
	}
	out := make([][]share, n)
	for i, e := range edges {
		u := from[i]
		if k := len(out[u]); k > 0 && out[u][k-1].to == to[i] { // sorted by both
			out[u][k-1].share += e.Amount / spent[u]
			continue
		}
		out[u] = append(out[u], share{to[i], e.Amount / spent[u]})
	}
	for u, shares := range out {
		if len(shares) > widest {
			slices.SortFunc(shares, func(a, b share) int { return cmp.Or(cmp.Compare(b.share, a.share), cmp.Compare(a.to, b.to)) })
			out[u] = shares[:widest]
		}
	}
	back := make([]float64, n)
	reach := make([]float64, n) // what of the walk from u is at a user after two steps
	for u := range n {
		for _, v := range out[u] {
			for _, w := range out[v.to] {
				reach[w.to] += v.share * w.share
			}
		}
		back[u] = reach[u]
		for _, v := range out[u] {
			for _, w := range out[v.to] {
				if w.to != u && reach[w.to] > 0 {
					for _, x := range out[w.to] {
						if x.to == u {
							back[u] += reach[w.to] * x.share
						}
					}
				}
				reach[w.to] = 0
			}
		}
		reach[u] = 0
	}
	return back
}

func median(xs []float64) float64 {
	if len(xs) == 0 {
		return 0
	}
	slices.Sort(xs)
	return xs[len(xs)/2]
}

type index struct {
	names []string
	at    map[string]int
}

func indexed(edges []Payment, of func(Payment) []string) index {
	x := index{at: make(map[string]int, len(edges))}
	for _, e := range edges {
		for _, name := range of(e) {
			if _, ok := x.at[name]; !ok {
				x.at[name] = len(x.names)
				x.names = append(x.names, name)
			}
		}
	}
	return x
}
