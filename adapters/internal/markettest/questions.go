package markettest

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/ports"
)

// Goals are what the 99th percentile of a question should be below.
type Goals struct{ Filter, Text time.Duration }

// Ask asks a market for agents, sixteen clients at a time who never pause, for three seconds a question, and reports how long they
// waited and what CPU time a question took: spent is that of the database's processes, 0 where it has none, and of this process so far.
func Ask(b *testing.B, market ports.AgentReader, goals Goals, spent func() (server, client time.Duration)) {
	b.Helper()
	filter, text := goals.Filter, goals.Text
	words := make([]string, Words)
	for i := range words {
		words[i] = Word(i)
	}
	// What is asked for is as common as what there is: half of the words are among the commonest 140.
	some := func(r *rand.Rand) string { return words[zipf(r, Words)] }
	rare := func(r *rand.Rand) string { return words[1_000+r.IntN(Words-1_000)] }
	begin := func(n int) func(r *rand.Rand) registry.Query {
		return func(r *rand.Rand) registry.Query { return registry.Query{Text: some(r)[:n]} }
	}
	tag := func(r *rand.Rand) []string { return []string{tagOf(zipf(r, tags))} }
	skill := func(r *rand.Rand) string { return skillOf(zipf(r, skills)) }
	category := func(r *rand.Rand) string { return categoryOf(zipf(r, categories)) }
	ptr := func(x float64) *float64 { return &x }
	price := func(r *rand.Rand) *credits.Amount { p := credits.Amount(50 + r.IntN(9000)); return &p }
	within := func(r *rand.Rand) *time.Duration {
		d := time.Duration(10*math.Pow(10_000, r.Float64())) * time.Millisecond
		return &d
	}
	for _, test := range []struct {
		name string
		most time.Duration
		q    func(r *rand.Rand) registry.Query
	}{
		{"all", filter, func(r *rand.Rand) registry.Query { return registry.Query{Offset: r.IntN(900)} }},
		{"newest", filter, func(*rand.Rand) registry.Query { return registry.Query{Sort: registry.SortNewest} }},
		{"category", filter, func(r *rand.Rand) registry.Query { return registry.Query{Category: category(r)} }},
		{"trust", filter, func(r *rand.Rand) registry.Query { return registry.Query{MinTrust: ptr(float64(r.IntN(100)))} }},
		{"status", filter, func(r *rand.Rand) registry.Query { return registry.Query{Status: registry.Statuses()[r.IntN(3)]} }},
		{"price", filter, func(r *rand.Rand) registry.Query { return registry.Query{MaxPrice: price(r)} }},
		{"cheapest", filter, func(r *rand.Rand) registry.Query {
			return registry.Query{MaxPrice: price(r), Sort: registry.SortPrice, MinTrust: ptr(50)}
		}},
		{"latency", filter, func(r *rand.Rand) registry.Query { return registry.Query{MaxLatency: within(r)} }},
		{"tag", filter, func(r *rand.Rand) registry.Query { return registry.Query{SkillTags: tag(r)} }},
		{"three tags", filter, func(r *rand.Rand) registry.Query {
			return registry.Query{SkillTags: slices.Concat(tag(r), tag(r), tag(r))}
		}},
		{"skill", filter, func(r *rand.Rand) registry.Query { return registry.Query{SkillID: skill(r)} }},
		{"skill trust", filter, func(r *rand.Rand) registry.Query {
			return registry.Query{SkillID: skill(r), MinTrust: ptr(float64(r.IntN(100)))}
		}},
		{"skill category", filter, func(r *rand.Rand) registry.Query { return registry.Query{SkillID: skill(r), Category: category(r)} }},
		{"skill online trust", filter, func(r *rand.Rand) registry.Query {
			return registry.Query{SkillID: skill(r), Status: registry.Online, MinTrust: ptr(50)}
		}},
		{"skill latency", filter, func(r *rand.Rand) registry.Query {
			return registry.Query{SkillID: skill(r), MaxLatency: within(r)}
		}},
		{"the best for a skill", filter, func(r *rand.Rand) registry.Query { // as a task that names a skill asks
			return registry.Query{SkillID: skill(r), Status: registry.Online, MaxPrice: price(r), Limit: 50}
		}},
		{"text", text, func(r *rand.Rand) registry.Query { return registry.Query{Text: some(r)} }},
		{"rare text", text, func(r *rand.Rand) registry.Query { return registry.Query{Text: rare(r)} }},
		{"two words", text, func(r *rand.Rand) registry.Query { return registry.Query{Text: some(r) + " " + some(r)} }},
		{"text category", text, func(r *rand.Rand) registry.Query { return registry.Query{Text: some(r), Category: category(r)} }},
		{"text trust", text, func(r *rand.Rand) registry.Query {
			return registry.Query{Text: some(r), MinTrust: ptr(float64(r.IntN(100)))}
		}},
		{"text status trust price", text, func(r *rand.Rand) registry.Query {
			return registry.Query{Text: some(r), Status: registry.Online, MinTrust: ptr(50), MaxPrice: price(r)}
		}},
		{"text skill", text, func(r *rand.Rand) registry.Query { return registry.Query{Text: some(r), SkillID: skill(r)} }},
		{"text cheapest", text, func(r *rand.Rand) registry.Query { return registry.Query{Text: some(r), Sort: registry.SortPrice} }},
		{"a letter", text, begin(1)},
		{"two letters", text, begin(2)},
		{"three letters", text, begin(3)},
		{"four letters", text, begin(4)},
	} {
		b.Run(strings.ReplaceAll(test.name, " ", "-"), func(b *testing.B) {
			const clients = 16
			var mu sync.Mutex
			var took []time.Duration
			ask := func(d time.Duration, keep bool) {
				var all sync.WaitGroup
				end := time.Now().Add(d)
				for c := range clients {
					all.Go(func() {
						r := rand.New(rand.NewPCG(uint64(c), 7))
						for time.Now().Before(end) {
							q, err := test.q(r).Normalize()
							if err != nil {
								b.Error(err)
								return
							}
							since := time.Now()
							if _, _, err := market.Discover(context.Background(), q, At); err != nil {
								b.Error(err)
								return
							}
							if keep {
								mu.Lock()
								took = append(took, time.Since(since))
								mu.Unlock()
							}
							runtime.Gosched() // who asks is elsewhere, and keeps nobody from the processor
						}
					})
				}
				all.Wait()
			}
			if b.N > 1 {
				return
			}
			ask(time.Second, false) // which warms up
			server, client := spent()
			since := time.Now()
			ask(3*time.Second, true)
			lasted, n := time.Since(since).Seconds(), float64(len(took))
			server2, client2 := spent()
			if b.Failed() {
				return
			}
			slices.Sort(took)
			p99 := took[len(took)*99/100]
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(p99.Microseconds())/1000, "p99-ms")
			b.ReportMetric(n/lasted, "op/s")
			b.ReportMetric((server2-server).Seconds()*1000/n, "cpu-ms/op")
			b.ReportMetric((client2-client).Seconds()*1000/n, "client-cpu-ms/op")
			b.ReportMetric(0, "ns/op")
			if p99 > test.most {
				b.Logf("above the goal of %v", test.most)
			}
		})
	}
}

// Spent is how long a process was on a CPU so far, all its threads that live; 0 where the system does not tell.
func Spent(pid int) (sum time.Duration) {
	stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		onCPU, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseInt(onCPU, 10, 64)
		if err == nil {
			sum += time.Duration(ns)
		}
	}
	return sum
}
