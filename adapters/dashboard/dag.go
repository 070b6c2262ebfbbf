package dashboard

import (
	"fmt"
	"slices"
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
	X, Y      int
	short     string
}

// edge is an arrow from a step to one that waits for it.
type edge struct{ Path string }

// graph is a drawn workflow.
type graph struct {
	W, H  int
	Nodes []node
	Edges []edge
}

// Measures of the graph, in pixels.
const (
	nodeW, nodeH = 184, 52
	gapX, gapY   = 56, 22
	gapDown      = 38 // between rows of a graph that goes down
	gapAside     = 18
	margin       = 8
	labelRunes   = 20
)

// draw lays steps out in columns from left to right, each as far left as what it waits for allows. Dependencies that are
// none, such as those of a draft, are left out.
func draw(nodes []node) graph { return lay(nodes, false) }

// drawDown is draw from top to bottom, for where there is little room beside it.
func drawDown(nodes []node) graph { return lay(nodes, true) }

func lay(nodes []node, down bool) graph {
	level := make([]int, len(nodes))
	var columns [][]int
	for i := range nodes {
		var deps []int
		for _, d := range nodes[i].DependsOn {
			if d >= 0 && d < i && !slices.Contains(deps, d) {
				deps = append(deps, d)
				level[i] = max(level[i], level[d]+1)
			}
		}
		nodes[i].DependsOn = deps
		for len(columns) <= level[i] {
			columns = append(columns, nil)
		}
		columns[level[i]] = append(columns[level[i]], i)
	}
	row := make([]float64, len(nodes)) // where a step is in its column
	tallest := 0
	for _, col := range columns {
		tallest = max(tallest, len(col))
	}
	for c, col := range columns {
		if c > 0 { // near the middle of what each waits for, so that few arrows cross
			middle := func(i int) float64 {
				sum := 0.0
				for _, d := range nodes[i].DependsOn {
					sum += row[d]
				}
				return sum / float64(max(len(nodes[i].DependsOn), 1))
			}
			slices.SortStableFunc(col, func(a, b int) int {
				switch x, y := middle(a), middle(b); {
				case x < y:
					return -1
				case x > y:
					return 1
				}
				return a - b
			})
		}
		for r, i := range col {
			row[i] = float64(r) + float64(tallest-len(col))/2
		}
	}
	g := graph{
		W: 2*margin + len(columns)*nodeW + max(len(columns)-1, 0)*gapX,
		H: 2*margin + tallest*nodeH + max(tallest-1, 0)*gapY,
	}
	if down {
		g.W = 2*margin + tallest*nodeW + max(tallest-1, 0)*gapAside
		g.H = 2*margin + len(columns)*nodeH + max(len(columns)-1, 0)*gapDown
	}
	for i := range nodes {
		n := &nodes[i]
		n.X = margin + level[i]*(nodeW+gapX)
		n.Y = margin + int(row[i]*float64(nodeH+gapY))
		if down {
			n.X, n.Y = margin+int(row[i]*float64(nodeW+gapAside)), margin+level[i]*(nodeH+gapDown)
		}
		n.short = shorten(n.Name, labelRunes)
		for _, d := range n.DependsOn {
			from := nodes[d]
			if down {
				x1, y1, x2, y2 := from.X+nodeW/2, from.Y+nodeH, n.X+nodeW/2, n.Y-7
				bend := max((y2-y1)/2, 14)
				g.Edges = append(g.Edges, edge{fmt.Sprintf("M%d %dC%d %d %d %d %d %d", x1, y1, x1, y1+bend, x2, y2-bend, x2, y2)})
				continue
			}
			x1, y1, x2, y2 := from.X+nodeW, from.Y+nodeH/2, n.X-7, n.Y+nodeH/2
			bend := max((x2-x1)/2, 18)
			g.Edges = append(g.Edges, edge{fmt.Sprintf("M%d %dC%d %d %d %d %d %d", x1, y1, x1+bend, y1, x2-bend, y2, x2, y2)})
		}
	}
	g.Nodes = nodes
	return g
}

func shorten(s string, most int) string {
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most-1]) + "…"
}
