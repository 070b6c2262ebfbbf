package agentindex_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/internal/agentindex"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/registry"
)

var day = time.Date(2026, 3, 6, 12, 0, 0, 0, time.UTC)

func idOf(n int) string { return fmt.Sprintf("0198c0de-0000-7000-8000-%012x", n) }

func standing(a registry.Agent, version int64) agentindex.Standing {
	s := agentindex.Standing{Version: version, Price: a.Price, Score: a.TrustScore, Bound: a.TrustBound, Latency: a.Latency, Featured: a.Featured, Status: a.Status}
	if a.LastHeartbeat != nil {
		s.Heartbeat = a.LastHeartbeat.UnixMicro()
	}
	return s
}

func put(t *testing.T, x *agentindex.Index, a registry.Agent, version int64) {
	t.Helper()
	entry := agentindex.Agent{ID: a.ID, CreatedAt: a.CreatedAt.UnixMicro(), Standing: standing(a, version), Text: a.SearchText(), Tags: a.AllTags(), Category: a.EffectiveCategory()}
	for _, s := range a.Skills {
		entry.Skills = append(entry.Skills, s.ID)
	}
	require.NoError(t, x.Put(entry))
}

// TestAgreesWithTheDomain compares with registry.Query's Match, Compare and Past, among more agents than are looked at one by one, while
// they change.
func TestAgreesWithTheDomain(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	pick := func(from []string) string { return from[r.IntN(len(from))] }
	words := strings.Fields("reader writer pdf pdfs é éc écho ß 19 20pdf 字 translation " + strings.Repeat("x", 70))
	terms := []string{"a", "b", "c'd", "é", "ocr"}
	var rare []string
	for i := range 60 {
		rare = append(rare, fmt.Sprintf("tra%02d", i))
	}
	crowded := r.IntN(2) == 0
	fill := func(a registry.Agent) registry.Agent {
		a.Name, a.Description = pick(words)+" "+pick(words)+" "+pick(rare), pick(words)+" common "+pick(words)
		a.Tags, a.Skills, a.Category, a.Status, a.LastHeartbeat = []string{pick(terms)}, nil, "", registry.Statuses()[r.IntN(3)], nil
		if r.IntN(4) > 0 {
			a.Tags = append(a.Tags, "most")
		}
		if r.IntN(2) == 0 {
			a.Category = pick(terms)
		}
		if r.IntN(2) == 0 {
			a.Skills = []registry.Skill{{ID: pick(terms), Name: pick(words), Tags: []string{pick(terms)}}}
		}
		if r.IntN(2) == 0 {
			beat := day.Add(-time.Duration(r.IntN(400)) * time.Second)
			a.LastHeartbeat = &beat
		}
		a.Price, a.Latency = credits.Amount(r.IntN(5)), time.Duration(r.IntN(4))*time.Second
		return a
	}
	score := func() float64 {
		if r.IntN(8) > 0 && crowded {
			return 47.5
		}
		return float64(r.IntN(1001)) / 10
	}
	x := agentindex.New()
	all, versions := map[string]registry.Agent{}, map[string]int64{}
	const agents = 20_000
	for n := range agents {
		a := fill(registry.Agent{ID: idOf(n), TrustScore: score(), CreatedAt: day.Add(time.Duration(n/3) * time.Second)})
		all[a.ID] = a
		put(t, x, a, 0)
	}
	x.Loaded()
	for i := range 2000 {
		id := idOf(r.IntN(agents))
		a, there := all[id]
		switch r.IntN(4) {
		case 0:
			if !there {
				a = registry.Agent{ID: id, TrustScore: score(), CreatedAt: day}
			}
			all[id], versions[id] = fill(a), int64(i+1)
			put(t, x, all[id], versions[id])
		case 1:
			delete(all, id)
			x.Remove(id)
		default:
			a.Latency = time.Duration(r.IntN(4)) * time.Second
			a.TrustScore, a.Price, a.Status = score(), credits.Amount(r.IntN(5)), registry.Statuses()[r.IntN(3)]
			require.Equal(t, there, x.Set(id, standing(a, versions[id])))
			if there {
				all[id] = a
			}
		}
	}
	require.Equal(t, len(all), x.Len())
	for range 60 {
		q := registry.Query{Limit: 1 + r.IntN(30)}
		if r.IntN(3) > 0 {
			q.Text = []string{pick(words)[:1], pick(words), "common", "co", "pd", pick(words) + " " + pick(words), "tra", pick(rare), "common " + pick(words), "nobody"}[r.IntN(10)]
			if !strings.ContainsAny(q.Text[:1], "abcdefghijklmnopqrstuvwxyz") {
				q.Text = pick(words)
			}
		}
		switch r.IntN(5) {
		case 0:
			q.SkillTags = []string{"most"}
		case 1:
			q.SkillTags = []string{pick(terms), pick(terms), "none"}
		case 2:
			q.SkillID = pick(terms)
		}
		if r.IntN(4) == 0 {
			q.Category = pick(terms)
		}
		if r.IntN(4) == 0 {
			q.Status = registry.Statuses()[r.IntN(3)]
		}
		if r.IntN(4) == 0 {
			least := float64(r.IntN(24)) * 2.5
			q.MinTrust = &least
		}
		if r.IntN(4) == 0 {
			most := credits.Amount(r.IntN(5))
			q.MaxPrice = &most
		}
		if r.IntN(4) == 0 {
			most := time.Duration(1+r.IntN(3)) * time.Second
			q.MaxLatency = &most
		}
		q.Sort = []registry.Sort{"", "", registry.SortTrust, registry.SortPrice, registry.SortNewest}[r.IntN(5)]
		q, err := q.Normalize()
		require.NoError(t, err)
		var want []registry.Agent
		for _, a := range all {
			if q.Match(a, day) {
				want = append(want, a)
			}
		}
		broad := len(want) > registry.CountLimit
		asked := q
		if broad && q.Sort == registry.SortRelevance { // gives way
			q.Sort = registry.SortTrust
		}
		slices.SortFunc(want, q.Compare)
		check := func(from int) {
			t.Helper()
			got, total := x.Search(asked, day)
			if broad {
				require.Greater(t, total, registry.CountLimit, "%+v", asked)
				if asked.After == nil && from+asked.Limit < len(want) {
					require.Greater(t, total, from+asked.Limit)
				}
			} else {
				require.Equal(t, len(want), total, "%+v", asked)
			}
			want := want[min(from, len(want)):min(from+q.Limit, len(want))]
			require.Len(t, got, len(want), "%+v", asked)
			for i, a := range want {
				require.Equal(t, a.ID, got[i].ID, "%+v from %d", asked, from)
				require.Equal(t, standing(a, versions[a.ID]), got[i].Standing)
			}
		}
		asked.Offset = []int{0, r.IntN(120), r.IntN(len(want) + 2)}[r.IntN(3)]
		check(asked.Offset)
		asked.Offset = 0
		if len(want) > 0 && asked.Sort == q.Sort {
			for range 2 {
				i := r.IntN(len(want))
				place := q.Place(want[i])
				asked.After = &place
				check(i + 1)
			}
		}
	}
}

func TestRefusesWhatIsNoUUID(t *testing.T) {
	t.Parallel()
	x := agentindex.New()
	for _, id := range []string{"", "agent", strings.ToUpper(idOf(0xabc)), "0198c0de00000-7000-8000-000000000001", "0198c0de-0000-7000-8000-00000000000g"} {
		require.ErrorIs(t, x.Put(agentindex.Agent{ID: id}), agentindex.ErrID, id)
		require.False(t, x.Set(id, agentindex.Standing{}))
		x.Remove(id)
	}
	require.Zero(t, x.Len())
}

// TestItIsWornWhenMostOfItIsDead is what tells when to make it anew.
func TestItIsWornWhenMostOfItIsDead(t *testing.T) {
	t.Parallel()
	x := agentindex.New()
	x.Loaded()
	a := registry.Agent{ID: idOf(1), Name: "One"}
	words := func(n int) (text string) {
		for i := range 500 {
			text += fmt.Sprintf(" w%dx%d", n, i)
		}
		return text
	}
	changes := 0
	for ; !x.Worn(); changes++ {
		require.Less(t, changes, 1000)
		a.Description = words(changes)
		put(t, x, a, int64(changes))
		put(t, x, a, int64(changes)) // of the same words, which is no change
	}
	require.Greater(t, changes, 50)
	require.Equal(t, 1, x.Len())
}

// TestSearchesWhileAgentsChange is for the race detector, and finds nobody twice.
func TestSearchesWhileAgentsChange(t *testing.T) {
	t.Parallel()
	x := agentindex.New()
	const agents = 200
	agent := func(n, words int) registry.Agent {
		return registry.Agent{ID: idOf(n), Name: fmt.Sprint("Agent w", words, " common"), Tags: []string{"t"}, TrustScore: float64(words % 100)}
	}
	for n := range agents {
		put(t, x, agent(n, n), 0)
	}
	x.Loaded()
	var all sync.WaitGroup
	for w := range 2 {
		all.Go(func() {
			for i := range 1000 {
				n := (i*7 + w) % agents
				switch i % 3 {
				case 0:
					put(t, x, agent(n, i), int64(i))
				case 1:
					x.Set(idOf(n), agentindex.Standing{Score: float64(i % 100)})
				default:
					x.Remove(idOf(n))
				}
			}
		})
		all.Go(func() {
			q, err := registry.Query{Text: "comm", SkillTags: []string{"t"}, Limit: 100}.Normalize()
			assert.NoError(t, err)
			for range 300 {
				seen := map[string]bool{}
				found, total := x.Search(q, day)
				assert.GreaterOrEqual(t, total, len(found))
				for _, h := range found {
					assert.False(t, seen[h.ID])
					seen[h.ID] = true
				}
			}
		})
	}
	all.Wait()
}
