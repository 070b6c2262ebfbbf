// Command trustsim prints how the engine's trust, a plain average, Beta reputation and EigenTrust do on made-up markets:
// how well scores follow true quality, what is lost by taking the best score, and what each attack gains.
package main

import (
	"flag"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/nexus-protocol/nexus/domain/trust/trustsim"
)

func main() {
	seed := flag.Uint64("seed", 1001, "the first market's")
	markets := flag.Int("markets", 5, "how many are tried")
	size := trustsim.Standard()
	flag.IntVar(&size.Agents, "agents", size.Agents, "of a market")
	flag.IntVar(&size.Tasks, "tasks", size.Tasks, "an agent")
	flag.Float64Var(&size.Attackers, "attackers", size.Attackers, "share of the agents")
	flag.Parse()

	fmt.Printf("%d markets of %d agents, %.0f %% of them attackers, %d tasks each; seeds from %d\n\n", *markets, size.Agents, size.Attackers*100, size.Tasks, *seed)
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(out, "\tcorrelation\tregret\t")
	for _, k := range trustsim.Attacks() {
		fmt.Fprintf(out, "%s\t", k)
	}
	fmt.Fprintln(out)
	for _, s := range trustsim.Systems() {
		var correlation, regret []float64
		gains := map[trustsim.Kind][]float64{}
		for i := range *markets {
			f := trustsim.Run(*seed+uint64(i), size, s, trustsim.Attacks())
			correlation, regret = append(correlation, f.Correlation), append(regret, f.Regret)
			for k, g := range f.Gain {
				gains[k] = append(gains[k], 100*g)
			}
		}
		fmt.Fprintf(out, "%s\t%v\t%v\t", s, trustsim.Summarize(correlation), trustsim.Summarize(regret))
		for _, k := range trustsim.Attacks() {
			g := trustsim.Summarize(gains[k])
			fmt.Fprintf(out, "%+.1f ±%.1f %%\t", g.Mean, g.Error)
		}
		fmt.Fprintln(out)
	}
	_ = out.Flush()
}
