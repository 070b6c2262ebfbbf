package agentindex

import (
	"math"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/nexus-protocol/nexus/domain/registry"
)

// order has the living agents in bands of what they are ordered by, so that who looks for the first looks at the first bands only, and
// what changes a little changes nothing here.
type order struct {
	key   func(x *Index, p uint32) int64 // the lowest comes first
	least int64                          // that there may be
	upTo  []int64                        // the highest key of each band but the last
	bands []*roaring.Bitmap
	of    []uint8 // by place; nowhere for a dead one
}

const (
	nowhere   = math.MaxUint8
	quantiles = 128 // bands of an order that nobody knows beforehand
	sampled   = 20_000
)

// keyOfScore keeps the order of scores, which are not negative, and has the highest first.
func keyOfScore(score float64) int64 { return -int64(math.Float64bits(score)) } //nolint:gosec // the highest bit is that of the sign

// orders are the three that a query can name; relevance is another one in each query.
func orders() map[registry.Sort]*order {
	trust := &order{least: math.MinInt64, key: func(x *Index, p uint32) int64 { return keyOfScore(x.score[p]) }}
	for score := 100; score > 0; score-- {
		trust.upTo = append(trust.upTo, keyOfScore(float64(score)))
	}
	trust.empty()
	price := &order{least: 0, key: func(x *Index, p uint32) int64 { return int64(x.price[p]) }}
	price.empty()
	newest := &order{least: math.MinInt64, key: func(x *Index, p uint32) int64 { return -x.created[p] }}
	newest.empty()
	return map[registry.Sort]*order{registry.SortTrust: trust, registry.SortPrice: price, registry.SortNewest: newest}
}

func (o *order) empty() {
	o.bands = o.bands[:0]
	for range len(o.upTo) + 1 {
		o.bands = append(o.bands, roaring.New())
	}
}

// band is the one of a key.
func (o *order) band(key int64) int {
	b, _ := slices.BinarySearch(o.upTo, key)
	return b
}

// alike says whether all of a band have the same key.
func (o *order) alike(band int) bool {
	switch {
	case band == len(o.upTo):
		return false
	case band == 0:
		return o.upTo[0] == o.least
	default:
		return o.upTo[band] == o.upTo[band-1]+1
	}
}

// put puts an agent where it belongs, wherever it was.
func (o *order) put(x *Index, p uint32) {
	b := o.band(o.key(x, p))
	for int(p) >= len(o.of) {
		o.of = append(o.of, nowhere)
	}
	if was := o.of[p]; int(was) != b {
		o.remove(p)
		o.bands[b].Add(p)
		o.of[p] = uint8(b) //nolint:gosec // there are fewer
	}
}

func (o *order) remove(p uint32) {
	if b := o.of[p]; b != nowhere {
		o.bands[b].Remove(p)
		o.of[p] = nowhere
	}
}

// fit makes bands of about as many agents each, but for the order of trust, which has bands of a point.
func (x *Index) fit() {
	for sort, o := range x.orders {
		if sort != registry.SortTrust {
			var keys []int64
			for p := 0; p < len(x.ids); p += 1 + len(x.ids)/sampled {
				keys = append(keys, o.key(x, uint32(p))) //nolint:gosec // see Put
			}
			slices.Sort(keys)
			o.upTo = nil
			for q := 1; q < quantiles; q++ {
				if i := q * len(keys) / quantiles; i < len(keys) {
					o.upTo = append(o.upTo, keys[i])
				}
			}
			o.upTo = slices.Compact(o.upTo)
		}
		o.empty()
		o.of = slices.Repeat([]uint8{nowhere}, len(x.ids))
		for p, alive := range x.alive {
			if alive {
				o.put(x, uint32(p)) //nolint:gosec // see Put
			}
		}
	}
	x.fitted = len(x.at)
}
