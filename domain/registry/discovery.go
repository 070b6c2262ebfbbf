package registry

import (
	"cmp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
)

// Sort is an order of discovery. Ties are broken by id, so that every order is total and paging never repeats or skips.
type Sort string

// The orders.
const (
	SortTrust     Sort = "trust"     // highest first
	SortPrice     Sort = "price"     // lowest first
	SortNewest    Sort = "newest"    // newest first
	SortRelevance Sort = "relevance" // best match of the text first
)

// Limits of a query.
const (
	DefaultLimit = 20
	MaxLimit     = 100
	MaxOffset    = 1_000_000
	CountLimit   = 1_000 // agents that are counted; of more it is known that there are more
	MaxLatency   = time.Hour
	maxQuery     = 200 // characters
	maxWords     = 8
)

// Query asks for agents. Zero fields do not narrow.
type Query struct {
	SkillTags []string // any of them: a skill's or the agent's own
	Category  string
	MinTrust  *float64
	Status    Status
	Text      string // every word must be the beginning of a word in the name, a skill, or the description
	SkillID   string
	MaxPrice  *credits.Amount
	// MaxLatency narrows to agents that usually take no longer, which leaves out those of whom that is not known.
	MaxLatency *time.Duration `json:",omitempty"` // left out it is no part of a cursor's question, as it was before there was any
	Sort       Sort
	Limit      int // 0: the default
	Offset     int
	After      *Place // only what comes after it in the order; Offset counts from there
}

// Place is a place in the order of a query: that of an agent as it was when it was found. Of the fields that are ordered by
// only the one that the query's Sort names matters.
type Place struct {
	Trust     float64        `json:"t,omitempty"`
	Price     credits.Amount `json:"p,omitempty"`
	CreatedAt int64          `json:"c,omitempty"` // microseconds since 1970
	Relevance int            `json:"r,omitempty"`
	ID        string         `json:"i"`
}

// Place returns the agent's place in the order of a normalized query.
func (q Query) Place(a Agent) Place {
	p := Place{ID: a.ID}
	switch q.Sort {
	case SortPrice:
		p.Price = a.Price
	case SortNewest:
		p.CreatedAt = a.CreatedAt.UnixMicro()
	case SortRelevance:
		p.Relevance = a.SearchText().Relevance(q.Words())
	case SortTrust:
		p.Trust = a.TrustScore
	}
	return p
}

// Normalize validates the query and fills in what was left out.
func (q Query) Normalize() (Query, error) {
	var bad fault.Fields
	for i, t := range q.SkillTags {
		q.SkillTags[i] = strings.ToLower(strings.TrimSpace(t))
	}
	q.SkillTags = slices.DeleteFunc(q.SkillTags, func(t string) bool { return t == "" })
	bad.Check(len(q.SkillTags) <= MaxTags, "skillTags", "must be at most %d", MaxTags)
	q.Category = strings.ToLower(strings.TrimSpace(q.Category))
	if q.MinTrust != nil {
		bad.Check(*q.MinTrust >= 0 && *q.MinTrust <= 100, "minTrustScore", "must be 0 to 100")
	}
	bad.Check(q.Status == "" || slices.Contains(Statuses(), q.Status), "status", "must be one of %v", Statuses())
	bad.Check(q.MaxPrice == nil || *q.MaxPrice >= 0, "maxPrice", "must not be negative")
	bad.Check(q.MaxLatency == nil || *q.MaxLatency >= time.Millisecond && *q.MaxLatency <= MaxLatency, "maxLatencyMs", "must be 1 to %d", MaxLatency.Milliseconds())
	bad.Check(len([]rune(q.Text)) <= maxQuery, "q", "must be at most %d characters long", maxQuery)
	words := q.Words()
	bad.Check(len(words) <= maxWords, "q", "must be at most %d words", maxWords)
	switch q.Sort {
	case "":
		q.Sort = SortTrust
		if len(words) > 0 {
			q.Sort = SortRelevance
		}
	case SortTrust, SortPrice, SortNewest:
	case SortRelevance:
		bad.Check(len(words) > 0, "sort", "can be relevance only where q is given")
	default:
		bad.Add("sort", "must be trust, price, newest or relevance")
	}
	if q.Limit == 0 {
		q.Limit = DefaultLimit
	}
	bad.Check(q.Limit >= 1 && q.Limit <= MaxLimit, "limit", "must be 1 to %d", MaxLimit)
	bad.Check(q.Offset >= 0 && q.Offset <= MaxOffset, "offset", "must be 0 to %d", MaxOffset)
	return q, bad.Err()
}

// Words splits the query's text into the words that must all match.
func (q Query) Words() []string { return Words(q.Text) }

// Words splits a text into lower-case words of letters and digits, without repeats.
func Words(s string) []string {
	var out []string
	for _, w := range strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		if !slices.Contains(out, w) {
			out = append(out, w)
		}
	}
	return out
}

// Weights of a word found at the beginning of a word in the name, in a skill, or in the description.
const (
	WeightName        = 4
	WeightSkill       = 2
	WeightDescription = 1
)

// SearchText is what text search looks at: the words of each field, each word with a space before it.
type SearchText struct{ Name, Skills, Description string }

// SearchText returns the agent's words. Stores keep it beside the agent.
func (a Agent) SearchText() SearchText {
	var skills strings.Builder
	for _, s := range a.Skills {
		skills.WriteString(s.Name + " " + s.Description + " " + strings.Join(s.Tags, " ") + " ")
	}
	skills.WriteString(strings.Join(a.Tags, " "))
	return SearchText{spaced(a.Name), spaced(skills.String()), spaced(a.Description)}
}

func spaced(s string) string {
	words := Words(s)
	if len(words) == 0 {
		return ""
	}
	return " " + strings.Join(words, " ")
}

// Relevance is the weight of the words found in the text; 0 if any word is found nowhere.
func (t SearchText) Relevance(words []string) int {
	total := 0
	for _, w := range words {
		found := 0
		for _, f := range []struct {
			text   string
			weight int
		}{{t.Name, WeightName}, {t.Skills, WeightSkill}, {t.Description, WeightDescription}} {
			if strings.Contains(f.text, " "+w) {
				found += f.weight
			}
		}
		if found == 0 {
			return 0
		}
		total += found
	}
	return total
}

// AllTags returns the agent's own and its skills' tags, sorted, without repeats.
func (a Agent) AllTags() []string {
	all := slices.Clone(a.Tags)
	for _, s := range a.Skills {
		all = append(all, s.Tags...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Match reports whether a normalized query finds the agent.
func (q Query) Match(a Agent, now time.Time) bool {
	if a.DeletedAt != nil {
		return false
	}
	if len(q.SkillTags) > 0 && !slices.ContainsFunc(a.AllTags(), func(t string) bool { return slices.Contains(q.SkillTags, t) }) {
		return false
	}
	if q.SkillID != "" {
		if _, ok := a.Skill(q.SkillID); !ok {
			return false
		}
	}
	words := q.Words()
	return (q.Category == "" || a.EffectiveCategory() == q.Category) &&
		(q.MinTrust == nil || a.TrustScore >= *q.MinTrust) &&
		(q.Status == "" || a.StatusAt(now) == q.Status) &&
		(q.MaxPrice == nil || a.Price <= *q.MaxPrice) &&
		(q.MaxLatency == nil || a.Latency > 0 && a.Latency <= *q.MaxLatency) &&
		(len(words) == 0 || a.SearchText().Relevance(words) > 0)
}

// Compare orders two agents that a normalized query found.
func (q Query) Compare(a, b Agent) int { return q.Place(a).compare(q.Place(b)) }

// Past reports whether an agent that a normalized query found comes after q.After.
func (q Query) Past(a Agent) bool { return q.After == nil || q.Place(a).compare(*q.After) > 0 }

// compare orders places of one query; what it is not ordered by is alike in both.
func (p Place) compare(o Place) int {
	return cmp.Or(cmp.Compare(o.Trust, p.Trust), cmp.Compare(p.Price, o.Price), cmp.Compare(o.CreatedAt, p.CreatedAt), cmp.Compare(o.Relevance, p.Relevance), strings.Compare(p.ID, o.ID))
}
