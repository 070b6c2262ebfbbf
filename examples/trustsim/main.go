// Command trustsim prints how the engine's trust, a plain average, Beta reputation and EigenTrust do on made-up markets:
// how well scores follow true quality, what is lost by taking the best score, and what each attack gains. Markets are of
// agents of known quality, honest and attacking ones, and requesters who see only how tasks end. A seed gives the same
// market and figures on every machine.
package main

import (
	"flag"
	"fmt"
	"os"
	"text/tabwriter"
)

func main() {
	seed := flag.Uint64("seed", 1001, "the first market's")
	markets := flag.Int("markets", 5, "how many are tried")
	size := Standard()
	flag.IntVar(&size.Agents, "agents", size.Agents, "of a market")
	flag.IntVar(&size.Tasks, "tasks", size.Tasks, "an agent")
	flag.Float64Var(&size.Attackers, "attackers", size.Attackers, "share of the agents")
	flag.Parse()

	fmt.Printf("%d markets of %d agents, %.0f %% of them attackers, %d tasks each; seeds from %d\n\n", *markets, size.Agents, size.Attackers*100, size.Tasks, *seed)
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(out, "\tcorrelation\tregret\t")
	for _, k := range Attacks() {
		fmt.Fprintf(out, "%s\t", k)
	}
	fmt.Fprintln(out)
	for _, s := range Systems() {
		var correlation, regret []float64
		gains := map[Kind][]float64{}
		for i := range *markets {
			f := Run(*seed+uint64(i), size, s, Attacks())
			correlation, regret = append(correlation, f.Correlation), append(regret, f.Regret)
			for k, g := range f.Gain {
				gains[k] = append(gains[k], 100*g)
			}
		}
		fmt.Fprintf(out, "%s\t%v\t%v\t", s, Summarize(correlation), Summarize(regret))
		for _, k := range Attacks() {
			g := Summarize(gains[k])
			fmt.Fprintf(out, "%+.1f ±%.1f %%\t", g.Mean, g.Error)
		}
		fmt.Fprintln(out)
	}
	_ = out.Flush()
}
