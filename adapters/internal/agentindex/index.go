// Package agentindex is an index in memory of the agents that can be found: lists of places by word, skill, tag and category, and
// beside them what else a query looks at. It answers as registry.Query has it, and knows nothing of where agents are kept.
package agentindex

import (
	"bytes"
	"errors"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/google/uuid"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/registry"
)

// ErrID is returned for an agent whose id is not a UUID in its usual form, which the index cannot hold.
var ErrID = errors.New("agentindex: the id is not a UUID")

// Standing is what changes of an agent without a change of its words.
type Standing struct {
	Version   int64 // whatever it means to who keeps the agents
	Price     credits.Amount
	Score     float64
	Bound     float64
	Latency   time.Duration // 0: not known
	Featured  bool
	Status    registry.Status
	Heartbeat int64 // microseconds since 1970; 0: there was none
}

// Agent is what is searched of an agent that is not deleted.
type Agent struct {
	ID        string
	CreatedAt int64 // microseconds since 1970
	Standing
	Text     registry.SearchText
	Tags     []string // its own and its skills'
	Skills   []string // ids
	Category string   // the effective one
}

// Hit is an agent that was found.
type Hit struct {
	ID string
	Standing
}

// Index is safe for concurrent use. An agent has a place, a number that grows with each one that is put in: one whose words change
// gets a new place, and the old one is dead and stays in the lists. An Index should be made anew when it is worth it; see Worn.
type Index struct {
	mu    sync.RWMutex
	seed  maphash.Seed
	at    map[uuid.UUID]uint32
	ids   []uuid.UUID
	alive []bool
	// Lists are not fit to be searched.
	loading bool
	upto    uint32 // of the places before that the order is that of the ids: as far as they were loaded in it

	// By place. What searches of many agents look at lies close together.
	score    []float64
	price    []credits.Amount
	created  []int64
	status   []uint8 // 1 + its index in statuses
	beat     []int64
	latency  []time.Duration
	version  []int64
	bound    []float64
	featured []bool
	sum      []uint64 // of what it is found by
	entries  []int32  // in lists of words

	living, dead int // entries in lists of words, of agents and of places of no use

	words      map[string]*word // whole ones
	beginnings map[string]*word // the first letter, the first two and the first three, of all words
	alike      map[string][]string
	tags       map[string]*places
	skills     map[string]*places
	categories map[string]*places

	orders map[registry.Sort]*order
	fitted int // how many agents there were when the orders' bands were made
}

// New makes an empty index, to be loaded by Put and then told so.
func New() *Index {
	return &Index{
		loading: true, seed: maphash.MakeSeed(), at: map[uuid.UUID]uint32{}, words: map[string]*word{}, beginnings: map[string]*word{}, alike: map[string][]string{},
		tags: map[string]*places{}, skills: map[string]*places{}, categories: map[string]*places{}, orders: orders(),
	}
}

// Loaded ends the loading. Before it nothing is found.
func (x *Index) Loaded() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.loading = false
	x.fit()
	for _, of := range []map[string]*places{x.tags, x.skills, x.categories} {
		for _, l := range of {
			l.settle()
		}
	}
	for _, of := range []map[string]*word{x.words, x.beginnings} {
		for _, w := range of {
			for _, l := range []*places{&w.any, &w.name, &w.skills, &w.both} {
				l.settle()
			}
		}
	}
}

// Len is how many agents there are.
func (x *Index) Len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.at)
}

// worn is how many dead entries in lists are worth nothing to speak of.
const worn = 100_000

// Worn says whether most of what the index holds is of no use any more.
func (x *Index) Worn() bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.dead > max(x.living, worn)
}

// Put adds an agent, or says all that there is to know of one that is there.
func (x *Index) Put(a Agent) error {
	key, ok := parse(a.ID)
	if !ok {
		return ErrID
	}
	sum := x.sumOf(a)
	x.mu.Lock()
	defer x.mu.Unlock()
	if p, there := x.at[key]; there {
		if x.sum[p] == sum {
			x.stand(p, a.Standing)
			return nil
		}
		x.kill(key, p)
	}
	p := uint32(len(x.ids)) //nolint:gosec // a market is smaller
	x.at[key] = p
	if x.upto == p && (p == 0 || compareIDs(x.ids[p-1], key) < 0) {
		x.upto++
	}
	x.ids, x.alive = append(x.ids, key), append(x.alive, true)
	x.score, x.bound, x.price, x.created = append(x.score, a.Score), append(x.bound, a.Bound), append(x.price, a.Price), append(x.created, a.CreatedAt)
	x.status, x.beat, x.version, x.featured = append(x.status, codeOf(a.Status)), append(x.beat, a.Heartbeat), append(x.version, a.Version), append(x.featured, a.Featured)
	x.latency = append(x.latency, a.Latency)
	x.sum = append(x.sum, sum)
	entries := x.read(p, a.Text) + len(a.Tags) + len(a.Skills) + 1
	x.entries = append(x.entries, int32(entries)) //nolint:gosec // an agent's words are some thousands
	x.living += entries
	for _, t := range a.Tags {
		list(x.tags, t).add(p, x.loading)
	}
	for _, s := range a.Skills {
		list(x.skills, s).add(p, x.loading)
	}
	if a.Category != "" {
		list(x.categories, a.Category).add(p, x.loading)
	}
	switch {
	case x.loading:
	case len(x.at) > 4*max(x.fitted, some/4):
		x.fit()
	default:
		x.place(p)
	}
	return nil
}

// place puts an agent into the orders' bands.
func (x *Index) place(p uint32) {
	if !x.loading {
		for _, o := range x.orders {
			o.put(x, p)
		}
	}
}

// Set tells how an agent stands now whose words are as they were; known is false if it is not there.
func (x *Index) Set(agentID string, s Standing) (known bool) {
	key, ok := parse(agentID)
	x.mu.Lock()
	defer x.mu.Unlock()
	p, there := x.at[key]
	if !ok || !there {
		return false
	}
	x.stand(p, s)
	return true
}

// Remove takes an agent out, if it is there.
func (x *Index) Remove(agentID string) {
	key, ok := parse(agentID)
	x.mu.Lock()
	defer x.mu.Unlock()
	if p, there := x.at[key]; ok && there {
		x.kill(key, p)
	}
}

func (x *Index) kill(key uuid.UUID, p uint32) {
	delete(x.at, key)
	x.alive[p] = false
	x.living, x.dead = x.living-int(x.entries[p]), x.dead+int(x.entries[p])
	if !x.loading {
		for _, o := range x.orders {
			o.remove(p)
		}
	}
}

func (x *Index) stand(p uint32, s Standing) {
	x.score[p], x.bound[p], x.price[p], x.status[p], x.beat[p], x.version[p], x.featured[p] = s.Score, s.Bound, s.Price, codeOf(s.Status), s.Heartbeat, s.Version, s.Featured
	x.latency[p] = s.Latency
	x.place(p)
}

func (x *Index) hit(p uint32) Hit {
	return Hit{x.ids[p].String(), Standing{x.version[p], x.price[p], x.score[p], x.bound[p], x.latency[p], x.featured[p], statuses[x.status[p]], x.beat[p]}}
}

// statuses are those that an agent may report.
var statuses = append([]registry.Status{""}, registry.Statuses()...)

func codeOf(s registry.Status) uint8 { return uint8(max(slices.Index(statuses, s), 0)) } //nolint:gosec // they are few

// sumOf tells what an agent is found by from what another one is.
func (x *Index) sumOf(a Agent) uint64 {
	var h maphash.Hash
	h.SetSeed(x.seed)
	for _, list := range [][]string{{a.Text.Name, a.Text.Skills, a.Text.Description, a.Category}, a.Tags, a.Skills} {
		for _, s := range list {
			_, _ = h.WriteString(s)
			_ = h.WriteByte(0)
		}
		_ = h.WriteByte(1)
	}
	return h.Sum64()
}

// places is a list of places, in order.
type places struct {
	few  []uint32
	many *roaring.Bitmap // instead; while the index is loaded those of few come after them
}

const few = 64 // that are shorter as a list

func (l *places) add(p uint32, loading bool) {
	if loading {
		if l.few = append(l.few, p); len(l.few) >= 8*few {
			l.settle()
		}
		return
	}
	if l.many != nil {
		l.many.Add(p)
		return
	}
	if l.few = append(l.few, p); len(l.few) > few {
		l.settle()
	}
}

// settle makes a set of a long list.
func (l *places) settle() {
	switch {
	case l.many != nil:
		l.many.AddMany(l.few)
		l.few = nil
	case len(l.few) > few:
		l.many, l.few = roaring.BitmapOf(l.few...), nil
	default:
		l.few = slices.Clip(l.few)
	}
}

func (l *places) has(p uint32) bool {
	if l.many != nil {
		return l.many.Contains(p)
	}
	return slices.Contains(l.few, p)
}

func list(of map[string]*places, key string) *places {
	l := of[key]
	if l == nil {
		l = &places{}
		of[strings.Clone(key)] = l // which may be a part of a long text
	}
	return l
}

// The fields that a word may be in.
const (
	inName = 1 << iota
	inSkills
	inDescription
)

// word is where a word is found. Of those agents that have it in the description the ones that have it elsewhere too are listed; the
// description is where the rest have it.
type word struct{ any, name, skills, both places }

func (w *word) add(p uint32, fields uint8, loading bool) {
	w.any.add(p, loading)
	if fields&inName != 0 {
		w.name.add(p, loading)
	}
	if fields&inSkills != 0 {
		w.skills.add(p, loading)
	}
	if fields&inDescription != 0 && fields != inDescription {
		w.both.add(p, loading)
	}
}

// fields is where an agent that has the word has it.
func (w *word) fields(p uint32) (f uint8) {
	if w.name.has(p) {
		f |= inName
	}
	if w.skills.has(p) {
		f |= inSkills
	}
	if f == 0 || w.both.has(p) {
		f |= inDescription
	}
	return f
}

// beginning is up to how many letters words have lists of their own for what begins like them. Those that begin alike with more are found
// among those that begin alike with that many and one.
const beginning = 3

// cut is the first n letters of a word; ok is false where it has not so many.
func cut(w string, n int) (string, bool) {
	end := 0
	for range n {
		if end == len(w) {
			return "", false
		}
		_, size := utf8.DecodeRuneInString(w[end:])
		end += size
	}
	return w[:end], true
}

// read lists an agent's words, and returns in how many lists they are now.
func (x *Index) read(p uint32, t registry.SearchText) int {
	seen, begun := map[string]uint8{}, map[string]uint8{}
	for _, f := range []struct {
		text  string
		field uint8
	}{{t.Name, inName}, {t.Skills, inSkills}, {t.Description, inDescription}} {
		for w := range strings.SplitSeq(f.text, " ") {
			if w != "" {
				seen[w] |= f.field
			}
		}
	}
	for w, fields := range seen {
		known := x.words[w]
		if known == nil {
			known = &word{}
			w := strings.Clone(w)
			x.words[w] = known
			if like, ok := cut(w, beginning+1); ok {
				x.alike[like] = append(x.alike[like], w)
			}
		}
		known.add(p, fields, x.loading)
		for n := 1; n <= beginning; n++ {
			if b, ok := cut(w, n); ok {
				begun[b] |= fields
			}
		}
	}
	for b, fields := range begun {
		known := x.beginnings[b]
		if known == nil {
			known = &word{}
			x.beginnings[strings.Clone(b)] = known
		}
		known.add(p, fields, x.loading)
	}
	return len(seen) + len(begun)
}

// beginLike is the lists of all words that begin so.
func (x *Index) beginLike(w string) (out []*word) {
	like, longer := cut(w, beginning+1)
	if !longer {
		if b := x.beginnings[w]; b != nil {
			out = append(out, b)
		}
		return out
	}
	for _, v := range x.alike[like] {
		if strings.HasPrefix(v, w) {
			out = append(out, x.words[v])
		}
	}
	return out
}

// parse reads a UUID in its usual form, in which the order of texts is that of the bytes.
func parse(s string) (id uuid.UUID, ok bool) {
	id, err := uuid.Parse(s)
	return id, err == nil && id.String() == s
}

func compareIDs(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }
