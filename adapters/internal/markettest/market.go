// Package markettest is a market for the benchmarks of discovery: its agents, and what is asked of it.
package markettest

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/registry"
)

// What the agents of a market are made of. Words, tags and skills are as common as Zipf has it: the nth is about n times as rare as the first.
const (
	Words      = 20_000 // different ones
	tags       = 2_000
	skills     = 1_000
	categories = 30
)

// At is the time in the market.
var At = time.UnixMicro(1_800_000_000_000_000)

// Word is the nth word of the market, of two to four syllables, no two alike; its beginning is as common as that of real words, as the
// first syllables are common.
func Word(n int) string {
	const syllables = "ta re in con de pro a co ma un se pa di ex le sa mi re fo na tra e mo po si vi ca be lo ra da su te bo cla pre ho o wi fi ba gra pi ha dis ne me ri sta no en com la ci gi fu ro ve do mu sco ju wa key"
	all := strings.Fields(syllables)
	r := rand.New(rand.NewPCG(uint64(n), 11))
	var b strings.Builder
	for range 2 + r.IntN(2) {
		b.WriteString(all[int(float64(len(all))*r.Float64()*r.Float64())])
	}
	b.WriteByte("nrstlmdk"[n%8])
	for n /= 8; n > 0; n /= 20 {
		b.WriteByte("aeiourstlnmdkpgbvfcz"[n%20])
	}
	return b.String()
}

// zipf draws from 0 to n-1, the lower the likelier; the nth is about n times as rare as the first.
func zipf(r *rand.Rand, n int) int { return int(math.Pow(float64(n)+1, r.Float64())) - 1 }

func tagOf(n int) string      { return fmt.Sprint("tag", n) }
func skillOf(n int) string    { return fmt.Sprint("skill", n) }
func categoryOf(n int) string { return fmt.Sprint("cat", n) }

// Agent is the nth agent of a market: a third have no evidence yet, the others' scores are about 68, give or take 15, and they take 10 ms to 100 s; one in
// six is free, the others cost 0.10 to 1 000; of four, three are online; half send heartbeats.
func Agent(n int, words []string) registry.Agent {
	r := rand.New(rand.NewPCG(uint64(n), 12))
	some := func(most int) string {
		var b strings.Builder
		for range most {
			b.WriteString(words[zipf(r, len(words))])
			b.WriteByte(' ')
		}
		return strings.TrimSpace(b.String())
	}
	created := At.Add(-time.Duration(2_000_000-n) * time.Minute)
	a := registry.Agent{
		ID: fmt.Sprintf("%08x-%04x-7%03x-8%03x-%012x", n>>4, (n&15)<<12, r.IntN(1<<12), r.IntN(1<<12), r.Int64N(1<<48)), OwnerUserID: fmt.Sprint("u", zipf(r, 100_000)),
		Name: "Agent " + some(2), Description: some(8 + r.IntN(12)), Endpoint: fmt.Sprintf("https://agents-%d.example.com/a2a/%d", n%100, n), Status: registry.Online,
		Metadata: json.RawMessage(`{"version":"2.1.0"}`), TrustScore: 47.5, TrustBound: 20, CreatedAt: created, UpdatedAt: created,
	}
	for range 1 + r.IntN(4) {
		a.Tags = append(a.Tags, tagOf(zipf(r, tags)))
	}
	a.Tags = slices.Compact(slices.Sorted(slices.Values(a.Tags)))
	for range 1 + r.IntN(3) {
		if s := skillOf(zipf(r, skills)); !slices.ContainsFunc(a.Skills, func(has registry.Skill) bool { return has.ID == s }) {
			a.Skills = append(a.Skills, registry.Skill{
				ID: s, Name: some(2), Description: some(4), Tags: []string{tagOf(zipf(r, tags))},
				InputSchema: json.RawMessage(`{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]}`),
			})
		}
	}
	if r.IntN(4) > 0 {
		a.Category = categoryOf(zipf(r, categories))
	}
	if r.IntN(6) > 0 {
		a.Price = credits.Amount(10 * math.Pow(10_000, r.Float64()))
	}
	if r.IntN(3) > 0 {
		a.TrustScore = math.Round(10*min(max(68+15*r.NormFloat64(), 0), 100)) / 10
		a.TrustBound = max(a.TrustScore-8, 0)
		a.Latency = time.Duration(10*math.Pow(10_000, rand.New(rand.NewPCG(uint64(n), 27)).Float64())) * time.Millisecond
	}
	switch r.IntN(20) {
	case 0, 1, 2:
		a.Status = registry.Offline
	case 3, 4:
		a.Status = registry.Degraded
	}
	if r.IntN(2) == 0 {
		beat := At.Add(-time.Duration(r.IntN(int(80 * time.Second))))
		if a.Status == registry.Offline {
			beat = beat.Add(-time.Hour)
		}
		a.LastHeartbeat = &beat
	}
	return a
}
