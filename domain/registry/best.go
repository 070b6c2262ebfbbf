package registry

import (
	"cmp"
	"strings"
)

// Candidate is an agent that may be chosen for a task.
type Candidate struct {
	Agent Agent
	Band  int  // of trust's lower bound; higher is better
	Load  int  // calls under way
	Own   bool // it is the requester's: taken only where there is no other
}

// busy is how many calls are no difference worth choosing by.
const busy = 4

// Best chooses one: others before the requester's own, then the best band, the lightest load in steps of four calls, the
// lowest price, the lightest load, and the id. alike is how many have the best band. There must be one at least.
func Best(all []Candidate) (best, alike int) {
	for i := range all {
		if compareCandidates(all[i], all[best]) < 0 {
			best = i
		}
	}
	for _, c := range all {
		if c.Band == all[best].Band && c.Own == all[best].Own {
			alike++
		}
	}
	return best, alike
}

func compareCandidates(a, b Candidate) int {
	own := func(c Candidate) int {
		if c.Own {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(own(a), own(b)), cmp.Compare(b.Band, a.Band), cmp.Compare(a.Load/busy, b.Load/busy), cmp.Compare(a.Agent.Price, b.Agent.Price),
		cmp.Compare(a.Load, b.Load), strings.Compare(a.Agent.ID, b.Agent.ID))
}
