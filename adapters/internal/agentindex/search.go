package agentindex

import (
	"cmp"
	"slices"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/nexus-protocol/nexus/domain/registry"
)

// some is how many candidates are sorted into bands one by one; of more, the bands are intersected with them, the first ones first.
const some = 65_536

// Search finds the stretch of agents that a normalized query asks for, and how many it finds in all, as ports.AgentReader has it.
func (x *Index) Search(q registry.Query, now time.Time) (found []Hit, total int) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	s := search{x: x, q: q, want: codeOf(q.Status)}
	s.late, s.gone = now.Add(-registry.DegradedAfter).UnixMicro(), now.Add(-registry.OfflineAfter).UnixMicro()
	if x.loading || !s.narrow() {
		return nil, 0
	}
	s.by(q.Sort)
	all := s.count()
	total = len(all)
	var page []item
	if total <= registry.CountLimit { // which are all there are
		page = s.ordered(all)
	} else {
		if q.Sort == registry.SortRelevance {
			s.q.Sort = registry.SortTrust
		}
		if page = s.stretchOf(); len(page) == q.Limit && q.After == nil { // and there may be more
			total = max(total, q.Offset+q.Limit+1)
		}
	}
	for _, i := range page {
		found = append(found, x.hit(i.place))
	}
	return found, total
}

// search is one query.
type search struct {
	x     *Index
	q     registry.Query
	words [][]*word       // of each word of the query, those that begin so
	match *roaring.Bitmap // those that have all words and terms, some of them dead; nil: all

	want       uint8 // status
	late, gone int64 // heartbeats up to then are too old

	order  *order
	last   int               // band that may have some who fit
	sets   []*roaring.Bitmap // the candidates in the bands, as far as they were looked at
	sorted []uint32          // or the candidates by band, if they are some
	begins [nowhere + 1]int  // and where each band of them does
}

// narrow finds who has all words and terms; false if nobody can.
func (s *search) narrow() bool {
	for _, w := range s.q.Words() {
		alike := s.x.beginLike(w)
		if len(alike) == 0 {
			return false
		}
		s.words = append(s.words, alike)
	}
	var sets []*roaring.Bitmap
	either := func(lists ...*places) bool {
		if set := union(lists); set != nil {
			sets = append(sets, set)
			return true
		}
		return false
	}
	for _, alike := range s.words {
		var lists []*places
		for _, w := range alike {
			lists = append(lists, &w.any)
		}
		if !either(lists...) {
			return false
		}
	}
	if len(s.q.SkillTags) > 0 {
		var lists []*places
		for _, t := range s.q.SkillTags {
			lists = append(lists, s.x.tags[t])
		}
		if !either(lists...) {
			return false
		}
	}
	if s.q.SkillID != "" && !either(s.x.skills[s.q.SkillID]) || s.q.Category != "" && !either(s.x.categories[s.q.Category]) {
		return false
	}
	switch len(sets) {
	case 0:
	case 1:
		s.match = sets[0]
	default:
		slices.SortFunc(sets, func(a, b *roaring.Bitmap) int { return cmp.Compare(a.GetCardinality(), b.GetCardinality()) })
		s.match = roaring.FastAnd(sets...)
	}
	return true
}

// union is who is in any of the lists; nil if there are none. It is not to be changed.
func union(lists []*places) *roaring.Bitmap {
	var sets []*roaring.Bitmap
	var few []uint32
	for _, l := range lists {
		switch {
		case l == nil:
		case l.many != nil:
			sets = append(sets, l.many)
		default:
			few = append(few, l.few...)
		}
	}
	if len(few) > 0 {
		slices.Sort(few)
		sets = append(sets, roaring.BitmapOf(slices.Compact(few)...))
	}
	switch len(sets) {
	case 0:
		return nil
	case 1:
		return sets[0]
	default:
		return roaring.FastOr(sets...)
	}
}

// by has the candidates looked at in the bands of an order, that of trust for relevance.
func (s *search) by(sort registry.Sort) {
	s.order = s.x.orders[registry.SortTrust]
	if o := s.x.orders[sort]; o != nil {
		s.order = o
	}
	s.last = len(s.order.bands) - 1
	switch {
	case sort == registry.SortPrice && s.q.MaxPrice != nil:
		s.last = s.order.band(int64(*s.q.MaxPrice))
	case s.order == s.x.orders[registry.SortTrust] && s.q.MinTrust != nil:
		s.last = s.order.band(keyOfScore(*s.q.MinTrust))
	}
	s.sets = make([]*roaring.Bitmap, len(s.order.bands))
	if s.match == nil || s.match.GetCardinality() > some {
		return
	}
	visit(s.match, func(p uint32) bool {
		if b := s.order.of[p]; b != nowhere {
			s.begins[b+1]++
		}
		return true
	})
	for b := range nowhere {
		s.begins[b+1] += s.begins[b]
	}
	at := s.begins
	s.sorted = make([]uint32, s.begins[nowhere])
	visit(s.match, func(p uint32) bool {
		if b := s.order.of[p]; b != nowhere {
			s.sorted[at[b]] = p
			at[b]++
		}
		return true
	})
}

// in visits the candidates of a band, all of which are alive, until it has seen enough.
func (s *search) in(band int, see func(p uint32) (more bool)) {
	if s.sorted != nil {
		for _, p := range s.sorted[s.begins[band]:s.begins[band+1]] {
			if !see(p) {
				return
			}
		}
		return
	}
	visit(s.set(band), see)
}

func (s *search) set(band int) *roaring.Bitmap {
	switch {
	case s.match == nil:
		return s.order.bands[band]
	case s.sets[band] == nil:
		s.sets[band] = roaring.And(s.order.bands[band], s.match)
	}
	return s.sets[band]
}

// size is how many candidates a band has.
func (s *search) size(band int) int {
	if s.sorted != nil {
		return s.begins[band+1] - s.begins[band]
	}
	return int(s.set(band).GetCardinality())
}

// fits says whether a living agent that has all words and terms is also the rest of what is asked for.
func (s *search) fits(p uint32) bool {
	return (s.q.MinTrust == nil || s.x.score[p] >= *s.q.MinTrust) && (s.q.MaxPrice == nil || s.x.price[p] <= *s.q.MaxPrice) &&
		(s.want == 0 || s.statusOf(p) == s.want) && (s.q.MaxLatency == nil || s.x.latency[p] > 0 && s.x.latency[p] <= *s.q.MaxLatency)
}

var online, degraded, offline = codeOf(registry.Online), codeOf(registry.Degraded), codeOf(registry.Offline)

// statusOf is registry.Agent.StatusAt.
func (s *search) statusOf(p uint32) uint8 {
	status := s.x.status[p]
	switch beat := s.x.beat[p]; {
	case beat == 0:
		return status
	case beat <= s.gone:
		return offline
	case beat <= s.late && status == online:
		return degraded
	default:
		return status
	}
}

// visit goes over places until it has seen enough.
func visit(set *roaring.Bitmap, see func(p uint32) (more bool)) {
	var lot [256]uint32
	it := set.ManyIterator()
	for {
		n := it.NextMany(lot[:])
		if n == 0 {
			return
		}
		for _, p := range lot[:n] {
			if !see(p) {
				return
			}
		}
	}
}

// item is an agent with what it is ordered by, the lowest key first.
type item struct {
	key   int64
	place uint32
}

func (s *search) compare(a, b item) int {
	if a.key != b.key {
		return cmp.Compare(a.key, b.key)
	}
	if a.place < s.x.upto && b.place < s.x.upto { // which spares a look at the ids
		return cmp.Compare(a.place, b.place)
	}
	return compareIDs(s.x.ids[a.place], s.x.ids[b.place])
}

// keyOf is the key of an agent with that relevance.
func (s *search) keyOf(p uint32, relevance int) int64 {
	if s.q.Sort == registry.SortRelevance {
		return int64(-relevance)
	}
	return s.order.key(s.x, p)
}

// keyOfPlace is that of the place in the order that the query goes on from.
func (s *search) keyOfPlace(at registry.Place) int64 {
	switch s.q.Sort {
	case registry.SortPrice:
		return int64(at.Price)
	case registry.SortNewest:
		return -at.CreatedAt
	case registry.SortRelevance:
		return int64(-at.Relevance)
	default:
		return keyOfScore(at.Trust)
	}
}

// stretch takes the best of what it is given, and has those that the query asks for at the end.
type stretch struct {
	s     *search
	after *item // of which the id may be nobody's
	id    string
	most  int
	items []item
	full  bool // items[most-1] is as bad as any may be
}

func (s *search) stretch(offset int) *stretch {
	t := &stretch{s: s, most: min(offset, len(s.x.at)) + s.q.Limit}
	if s.q.After != nil {
		t.after, t.id = &item{key: s.keyOfPlace(*s.q.After)}, s.q.After.ID
	}
	return t
}

func (t *stretch) add(i item) {
	if t.after != nil && (i.key < t.after.key || i.key == t.after.key && t.s.x.ids[i.place].String() <= t.id) {
		return
	}
	if t.full && t.s.compare(i, t.items[t.most-1]) >= 0 {
		return
	}
	if t.items = append(t.items, i); len(t.items) > 2*t.most+256 {
		t.sort()
	}
}

func (t *stretch) sort() {
	slices.SortFunc(t.items, t.s.compare)
	if len(t.items) >= t.most {
		t.items, t.full = t.items[:t.most], true
	}
}

// from is what comes after the first offset of them.
func (t *stretch) from(offset int) []item {
	t.sort()
	return t.items[min(offset, len(t.items)):]
}

// ordered is the stretch of those that were found.
func (s *search) ordered(found []uint32) []item {
	var weights []int
	if s.q.Sort == registry.SortRelevance {
		weights = s.relevance(found)
	}
	t := s.stretch(s.q.Offset)
	for i, p := range found {
		r := 0
		if weights != nil {
			r = weights[i]
		}
		t.add(item{s.keyOf(p, r), p})
	}
	return t.from(s.q.Offset)
}

// relevance is registry.SearchText.Relevance of each.
func (s *search) relevance(found []uint32) []int {
	nth := make(map[uint32]int, len(found))
	for i, p := range found {
		nth[p] = i
	}
	set := roaring.BitmapOf(found...)
	weights := make([]int, len(found))
	for _, alike := range s.words {
		fields := make([]uint8, len(found))
		for _, w := range alike {
			if w.any.many != nil {
				visit(roaring.And(w.any.many, set), func(p uint32) bool {
					fields[nth[p]] |= w.fields(p)
					return true
				})
				continue
			}
			for _, p := range w.any.few {
				if i, ok := nth[p]; ok {
					fields[i] |= w.fields(p)
				}
			}
		}
		for i, f := range fields {
			for _, in := range []struct {
				field  uint8
				weight int
			}{{inName, registry.WeightName}, {inSkills, registry.WeightSkill}, {inDescription, registry.WeightDescription}} {
				if f&in.field != 0 {
					weights[i] += in.weight
				}
			}
		}
	}
	return weights
}

// count collects those that fit, the first bands first, until there are more than are counted.
func (s *search) count() (all []uint32) {
	for b := 0; b <= s.last && len(all) <= registry.CountLimit; b++ {
		s.in(b, func(p uint32) bool {
			if s.fits(p) {
				all = append(all, p)
			}
			return len(all) <= registry.CountLimit
		})
	}
	return all
}

// stretchOf is the stretch of more than are counted.
func (s *search) stretchOf() (page []item) {
	first, skip := 0, s.q.Offset
	if s.q.After != nil {
		first = s.order.band(s.keyOfPlace(*s.q.After))
	}
	allFit := s.q.After == nil && s.q.MinTrust == nil && s.q.MaxPrice == nil && s.q.MaxLatency == nil && s.q.Status == ""
	for b := first; b <= s.last && len(page) < s.q.Limit; b++ {
		if allFit {
			if n := s.size(b); n <= skip {
				skip -= n
				continue
			}
		}
		t := s.stretch(skip)
		alike := s.order.alike(b)
		s.in(b, func(p uint32) bool {
			if alike && len(t.items) >= t.most && p < s.x.upto { // who comes after those that were met
				return true
			}
			if s.fits(p) {
				t.add(item{s.order.key(s.x, p), p})
			}
			return true
		})
		n := len(t.items) // or more, where they are enough
		page = append(page, t.from(skip)...)
		skip = max(0, skip-n)
	}
	return page[:min(s.q.Limit, len(page))]
}
