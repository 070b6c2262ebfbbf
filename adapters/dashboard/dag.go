package dashboard

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// node is a step as the graph draws it.
type node struct {
	Index     int
	Name      string
	Sub       string // what stands below the name
	Class     string
	To        string // where it leads; "" in the builder
	DependsOn []int
	Said      string // for those who do not see it
	X, Y, W   int
	short     string
}

// edge is an arrow from a step to one that waits for it.
type edge struct{ Path string }

// graph is a drawn workflow.
type graph struct {
	W, H  int
	Fits  bool // narrow enough to be made to fit a phone
	Nodes []node
	Edges []edge
}

// measures are sizes of a graph, in pixels, and where it goes.
type measures struct {
	down   bool // from top to bottom, rather than from left to right
	node   int  // the width of a step,
	along  int  // and the room between those after one another,
	beside int  // and those beside each other
	lane   int  // what an arrow takes that passes by
	label  int  // runes of a name
	sub    int  // and of what stands below it
}

const (
	nodeH  = 52
	margin = 8
	bow    = 14 // how far an arrow leaves a step before it bends
	tip    = 7  // the length of its head
)

var (
	across = measures{node: 184, along: 56, beside: 22, lane: 6, label: 20, sub: 22}
	down   = measures{down: true, node: 152, along: 38, beside: 12, lane: 2, label: 15, sub: 17} // two beside each other fit a phone
)

// draw lays steps out in columns from left to right, each as far left as what it waits for allows. Dependencies that are
// none, such as those of a draft, are left out.
func draw(nodes []node) graph { return lay(nodes, across) }

// drawDown is draw from top to bottom, for where there is little room beside it.
func drawDown(nodes []node) graph { return lay(nodes, down) }

// slot is a place in a column: a step's, or one that is kept free for the arrows of a step to pass by on their way to
// columns further on.
type slot struct {
	from     []int // slots of the column before
	at, size int   // across the columns
}

func (s slot) middle() int { return s.at + s.size/2 }

// lay is the layered drawing of Sugiyama and others, in one sweep: levels by the longest way, placeholders where arrows
// pass levels by, and in each level an order by the middle of what comes before.
func lay(nodes []node, m measures) graph {
	level, levels := make([]int, len(nodes)), 0
	for i := range nodes {
		var deps []int
		for _, d := range nodes[i].DependsOn {
			if d >= 0 && d < i && !slices.Contains(deps, d) {
				deps = append(deps, d)
				level[i] = max(level[i], level[d]+1)
			}
		}
		nodes[i].DependsOn = deps
		levels = max(levels, level[i]+1)
	}
	columns := make([][]int, levels)
	slots := make([]slot, len(nodes))
	thick, long := nodeH, m.node // of a step, across the columns and along them
	if m.down {
		thick, long = long, thick
	}
	for i := range nodes {
		slots[i].size = thick
		columns[level[i]] = append(columns[level[i]], i)
	}
	lanes := map[[2]int]int{}
	var via func(step, at int) int // the slot that the step's arrows come from at a level
	via = func(step, at int) int {
		if at == level[step] {
			return step
		}
		lane, known := lanes[[2]int{step, at}]
		if !known {
			from := via(step, at-1)
			lane = len(slots)
			slots = append(slots, slot{from: []int{from}, size: m.lane})
			lanes[[2]int{step, at}] = lane
			columns[at] = append(columns[at], lane)
		}
		return lane
	}
	for i := range nodes {
		for _, d := range nodes[i].DependsOn {
			from := via(d, level[i]-1)
			slots[i].from = append(slots[i].from, from)
		}
	}
	widest := 0
	width := func(col []int) int {
		w := (len(col) - 1) * m.beside
		for _, s := range col {
			w += slots[s].size
		}
		return w
	}
	for _, col := range columns {
		widest = max(widest, width(col))
	}
	for c, col := range columns {
		if c > 0 { // near the middle of what each waits for, so that few arrows cross
			middle := func(s int) float64 {
				sum := 0
				for _, f := range slots[s].from {
					sum += slots[f].middle()
				}
				return float64(sum) / float64(max(len(slots[s].from), 1))
			}
			slices.SortFunc(col, func(a, b int) int { return cmp.Or(cmp.Compare(middle(a), middle(b)), a-b) })
		}
		at := (widest - width(col)) / 2
		for _, s := range col {
			slots[s].at = at
			at += slots[s].size + m.beside
		}
	}
	length := max(levels*long+(levels-1)*m.along, 0)
	g := graph{W: 2*margin + length, H: 2*margin + widest, Nodes: nodes}
	if m.down {
		g.W, g.H = g.H, g.W
	}
	g.Fits = g.W <= 2*margin+2*m.node+4*m.beside
	start := func(level int) int { return margin + level*(long+m.along) }
	point := func(along, aside int) string {
		if m.down {
			along, aside = aside, along
		}
		return fmt.Sprintf("%d %d", along, aside)
	}
	for i := range nodes {
		n := &nodes[i]
		n.X, n.Y, n.W = start(level[i]), margin+slots[i].at, m.node
		if m.down {
			n.X, n.Y = n.Y, n.X
		}
		n.short, n.Sub = shorten(n.Name, m.label), shorten(n.Sub, m.sub)
		for _, d := range n.DependsOn {
			var path strings.Builder
			x, y := start(level[d])+long, margin+slots[d].middle()
			path.WriteString("M" + point(x, y))
			for l := level[d] + 1; l <= level[i]; l++ { // by the places that are kept free for it
				next, end := slots[i], start(l)-tip
				if l < level[i] {
					next, end = slots[lanes[[2]int{d, l}]], start(l)
				}
				to := margin + next.middle()
				bend := max((end-x)/2, bow)
				path.WriteString("C" + point(x+bend, y) + " " + point(end-bend, to) + " " + point(end, to))
				if l < level[i] {
					path.WriteString("L" + point(end+long, to))
				}
				x, y = end+long, to
			}
			g.Edges = append(g.Edges, edge{path.String()})
		}
	}
	return g
}

func shorten(s string, most int) string {
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most-1]) + "…"
}
