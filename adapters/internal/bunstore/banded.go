package bunstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/ports"
)

// Discovery by bands. Where the dialect has an index of words and terms in bands of trust (Dialect.Bands), agents that
// have some are found band after band, the best first: the first thousand are counted, and only the bands that the stretch lies in are
// looked at closely. In a band that most agents of that trust are in, the stretch is found along the order of trust.

// The bands of trust that an index has.
const (
	bandWidth = 5.0
	topBand   = 20
	crowded   = 800   // matches in a band that cannot be counted to the end, that make it worth going along the order
	crowd     = 3_000 // matches that are not worth sorting
)

func bandOf(score float64) int { return min(max(int(score/bandWidth), 0), topBand) }

// sqlText is a part of a statement: text with question marks, and what they stand for.
type sqlText struct {
	text string
	args []any
}

func (s *sqlText) add(text string, args ...any) {
	s.text += text
	s.args = append(s.args, args...)
}

func (s *sqlText) part(p sqlText) { s.add(p.text, p.args...) }

// each runs the statement, whose plan the connection keeps where it can, and visits its rows.
func (s sqlText) each(ctx context.Context, c *session, visit func(scan func(...any) error) error) (err error) {
	d := c.store.cfg.Dialect
	text := s.text
	if d.Numbered {
		text = numbered(text)
	}
	span := ports.Span(ports.NoSpan{})
	if c.store.cfg.Tracer != nil {
		_, span = c.store.span(ctx, summarize(s.text))
	}
	defer func() { finish(span, err) }()
	c.store.counts.roundTrips.Add(1)
	rows, err := c.conn.QueryContext(ctx, text, append(slices.Clone(d.Cached), s.args...)...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := visit(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// banded is a query as the bands answer it.
type banded struct {
	c   *session
	q   registry.Query
	now time.Time
	// One tag or one skill has an index of its own; else there is a query of entries, in which mark stands for the band.
	kind, term string
	entries    string // for the index
	inRow      string // for a row of it
	mark       string
	needsAgent bool // the index does not have all that is asked for
	long       bool // of a word it has only the beginning
	first, low int  // bands to look in, the first is the highest
}

// bandedQuery is nil for a query that names no word and no term.
func bandedQuery(c *session, q registry.Query, now time.Time) *banded {
	words := q.Words()
	if c.store.cfg.Dialect.Entries == nil || len(words) == 0 && len(q.SkillTags) == 0 && q.SkillID == "" {
		return nil
	}
	b := &banded{c: c, q: q, now: now, first: topBand, needsAgent: q.Status != ""}
	if q.MinTrust != nil {
		b.low = bandOf(*q.MinTrust)
		b.needsAgent = b.needsAgent || *q.MinTrust != float64(b.low)*bandWidth
	}
	for _, w := range words {
		b.long = b.long || utf8.RuneCountInString(w) > c.store.cfg.Dialect.TextIsExact
	}
	b.needsAgent = b.needsAgent || b.long
	switch {
	case len(words) == 0 && q.SkillID == "" && len(q.SkillTags) == 1:
		b.kind, b.term = "tag", q.SkillTags[0]
	case len(words) == 0 && len(q.SkillTags) == 0:
		b.kind, b.term = "skill", q.SkillID
	default:
		b.entries, b.inRow, b.mark = c.store.cfg.Dialect.Entries(words, q.SkillTags, q.SkillID, q.Category)
	}
	if b.kind != "" {
		b.needsAgent = b.needsAgent || q.Category != "" || q.MaxPrice != nil
	}
	return b
}

// agentIs is what the agent a has to be, beside what the index has said of it.
func (b *banded) agentIs() (s sqlText) {
	s.add("a.deleted_at IS NULL")
	if b.q.MinTrust != nil {
		s.add(" AND a.trust_score >= ?", *b.q.MinTrust)
	}
	if b.kind != "" && b.q.Category != "" {
		s.add(" AND a.effective_category = ?", b.q.Category)
	}
	if b.kind != "" && b.q.MaxPrice != nil {
		s.add(" AND a.price <= ?", int64(*b.q.MaxPrice))
	}
	for _, w := range b.q.Words() {
		if utf8.RuneCountInString(w) > b.c.store.cfg.Dialect.TextIsExact {
			s.add(" AND (" + has("name", w) + " OR " + has("skills", w) + " OR " + has("description", w) + ")")
		}
	}
	if is, args := statusIs(b.q.Status, b.now); is != "" {
		s.add(" AND "+is, args...)
	}
	return s
}

// found is the agents of the bands from first down to low, as agent_id and band, best band first as far as only
// the beginning is read. checked: those that are all that is asked for, not only all that the index knows of.
func (b *banded) found(first, low int, checked bool) (s sqlText) {
	check := func(id string) {
		if checked && b.needsAgent {
			s.add(" AND EXISTS (SELECT 1 FROM agents AS a WHERE a.id = " + id + " AND ")
			s.part(b.agentIs())
			s.add(" OFFSET 0)")
		}
	}
	if b.kind != "" {
		s.add("SELECT t.agent_id, t.band FROM agent_terms AS t WHERE t.kind = ? AND t.term = ? AND t.band BETWEEN ? AND ?", b.kind, b.term, low, first)
		check("t.agent_id")
		s.add(" ORDER BY t.band DESC")
		return s
	}
	s.add("SELECT i.agent_id, b.band FROM generate_series(?::int, ?::int, -1) AS b (band) CROSS JOIN LATERAL (SELECT ", first, low)
	s.part(b.entriesOf("b.band", b.entries)) // once for each band
	s.add(" AS q OFFSET 0) AS q CROSS JOIN LATERAL (SELECT i.agent_id FROM agent_index AS i WHERE agent_index_prefixed(i.terms) @@ q.q")
	b.priceIs(&s)
	check("i.agent_id")
	s.add(" OFFSET 0) AS i")
	return s
}

func (b *banded) priceIs(s *sqlText) {
	if b.q.MaxPrice != nil {
		s.add(" AND i.price <= ?", int64(*b.q.MaxPrice))
	}
}

// entriesOf is the query of entries in a band, of which band is the number as SQL.
func (b *banded) entriesOf(band, entries string) (s sqlText) {
	s.add("replace(?, ?, lpad("+band+"::text, 2, '0'))::tsquery", entries, b.mark)
	return s
}

// meets is that an agent a, met along an order, has what the index knows of, in its band.
func (b *banded) meets() (s sqlText) {
	if b.kind != "" {
		s.add("EXISTS (SELECT 1 FROM agent_terms AS t WHERE t.kind = ? AND t.term = ? AND t.agent_id = a.id OFFSET 0)", b.kind, b.term)
		return s
	}
	s.add("EXISTS (SELECT 1 FROM agent_index AS i WHERE i.agent_id = a.id AND i.terms @@ ")
	s.part(b.entriesOf("floor(a.trust_score / 5)::int", b.inRow))
	b.priceIs(&s)
	s.add(" OFFSET 0)")
	return s
}

// bandCount is how many agents were found in a band.
type bandCount struct{ Band, N int }

// count counts agents band by band from first on, up to most of them.
func (b *banded) count(ctx context.Context, first, low, most int) (counts []bandCount, total int, err error) {
	var s sqlText
	s.add("SELECT f.band, count(*) AS n FROM (")
	s.part(b.found(first, low, true))
	s.add(" LIMIT ?) AS f GROUP BY f.band ORDER BY f.band DESC", most)
	err = s.each(ctx, b.c, func(scan func(...any) error) error {
		var n bandCount
		err := scan(&n.Band, &n.N)
		counts, total = append(counts, n), total+n.N
		return err
	})
	return counts, total, err
}

// stretch is where a stretch of the order of trust lies: in these bands, after so many of theirs. along: the last of them is
// crowded, and what lies in it is found sooner along the order.
type stretch struct {
	first, low int
	offset     int
	along      bool
}

// locate finds the stretch in counts, of which the last one may be of a part of its band only.
func locate(counts []bandCount, offset, limit int, partly bool) stretch {
	s := stretch{first: counts[0].Band, offset: offset}
	seen := 0
	for i, n := range counts {
		last := i == len(counts)-1
		if !last && seen+n.N <= offset { // the stretch begins further down
			seen += n.N
			s.first, s.offset = counts[i+1].Band, offset-seen
			continue
		}
		seen += n.N
		s.low = n.Band
		s.along = last && partly && n.N >= crowded
		if seen >= offset+limit && (!last || !partly) {
			break
		}
	}
	return s
}

// discover answers the query.
func (b *banded) discover(ctx context.Context) (out []agentRow, total int, err error) {
	q := b.q
	most := max(registry.CountLimit+1, q.Offset+q.Limit+1)
	if q.After != nil {
		most = registry.CountLimit + 1
	}
	counts, total, err := b.count(ctx, b.first, b.low, most)
	if err != nil || total == 0 || total <= q.Offset && total < most {
		return nil, total, err
	}
	few := total <= registry.CountLimit
	sort := q.Sort
	if sort == registry.SortRelevance && !few {
		sort = registry.SortTrust
	}
	first, after := orderOf(q, sort), placeOf(q)
	switch {
	case sort == registry.SortTrust:
		out, err = b.byTrust(ctx, first, after, counts, total >= most)
	case few && sort == registry.SortRelevance && !b.long:
		out, err = b.relevant(ctx, after, ports.Page{Limit: q.Limit, Offset: q.Offset})
	case few:
		out, err = b.sorted(ctx, first, after, b.first, b.low, ports.Page{Limit: q.Limit, Offset: q.Offset})
	default:
		out, err = b.along(ctx, first, after, topBand, ports.Page{Limit: q.Limit, Offset: q.Offset})
	}
	return out, total, err
}

// byTrust reads a stretch of the order of trust. partly: only the beginning of the last of the counted bands was counted.
func (b *banded) byTrust(ctx context.Context, first string, after *place, counts []bandCount, partly bool) (out []agentRow, err error) {
	limit := b.q.Limit
	enough := limit
	if after != nil { // from its band on
		top, most := bandOf(b.q.After.Trust), registry.CountLimit+1+limit
		total := 0
		if counts, total, err = b.count(ctx, top, b.low, most); err != nil || total == 0 {
			return nil, err
		}
		partly = total >= most
		if counts[0].Band == top { // some or all of which are before it
			enough += counts[0].N
		}
	}
	at := locate(counts, b.q.Offset, enough, partly)
	if last := counts[len(counts)-1].Band; partly && at.low == last && !at.along {
		_, n, err := b.count(ctx, last, last, crowd+1)
		if err != nil {
			return nil, err
		}
		at.along = n > crowd
	}
	page := ports.Page{Limit: limit, Offset: at.offset}
	if !at.along {
		return b.sorted(ctx, first, after, at.first, at.low, page)
	}
	if at.first > at.low {
		if out, err = b.sorted(ctx, first, after, at.first, at.low+1, page); err != nil || len(out) == limit {
			return out, err
		}
		page = ports.Page{Limit: limit - len(out)}
	}
	rest, err := b.along(ctx, first, after, at.low, page)
	return append(out, rest...), err
}

// sorted collects the agents of some bands, puts them in order, and reads the stretch of them.
func (b *banded) sorted(ctx context.Context, first string, after *place, top, low int, page ports.Page) ([]agentRow, error) {
	value, down := strings.CutSuffix(first, " DESC")
	var s sqlText
	s.add("SELECT f.first, f.id FROM (SELECT a.id, a.first FROM (")
	s.part(b.found(top, low, false))
	s.add(" OFFSET 0) AS t CROSS JOIN LATERAL (SELECT a.id, " + value + " AS first FROM agents AS a WHERE a.id = t.agent_id AND ")
	s.part(b.agentIs())
	s.add(" OFFSET 0) AS a) AS f")
	order := "f.first"
	if down {
		order += " DESC"
	}
	if after != nil {
		s.add(" WHERE ")
		s.part(after.is(order, "f.id"))
	}
	s.add(" ORDER BY "+order+", f.id LIMIT ? OFFSET ?", page.Limit, page.Offset)
	return readStretch(ctx, b.c, s, order)
}

// relevant puts the agents of all bands in the order of their relevance, which the index knows, and reads the stretch of them.
func (b *banded) relevant(ctx context.Context, after *place, page ports.Page) ([]agentRow, error) {
	words := b.q.Words()
	var s sqlText
	s.add("SELECT f.first, f.id FROM (SELECT i.agent_id AS id, i.first FROM generate_series(?::int, ?::int, -1) AS b (band) CROSS JOIN LATERAL (SELECT ", b.first, b.low)
	s.part(b.entriesOf("b.band", b.entries))
	s.add(" AS q")
	for n, w := range words {
		_, word, mark := b.c.store.cfg.Dialect.Entries([]string{w}, nil, "", "")
		for _, field := range "ABD" {
			s.add(", ")
			s.add(fmt.Sprintf("replace(?, ?, lpad(b.band::text, 2, '0'))::tsquery AS q%d%c", n, field), word+string(field), mark)
		}
	}
	s.add(" OFFSET 0) AS q CROSS JOIN LATERAL (SELECT i.agent_id, ")
	for n := range words {
		if n > 0 {
			s.add(" + ")
		}
		s.add(fmt.Sprintf("CASE WHEN i.terms @@ q.q%[1]dA THEN %[2]d ELSE 0 END + CASE WHEN i.terms @@ q.q%[1]dB THEN %[3]d ELSE 0 END + CASE WHEN i.terms @@ q.q%[1]dD THEN %[4]d ELSE 0 END",
			n, registry.WeightName, registry.WeightSkill, registry.WeightDescription))
	}
	s.add(" AS first FROM agent_index AS i WHERE agent_index_prefixed(i.terms) @@ q.q")
	b.priceIs(&s)
	if b.needsAgent {
		s.add(" AND EXISTS (SELECT 1 FROM agents AS a WHERE a.id = i.agent_id AND ")
		s.part(b.agentIs())
		s.add(" OFFSET 0)")
	}
	s.add(" OFFSET 0) AS i) AS f")
	if after != nil {
		s.add(" WHERE ")
		s.part(after.is("f.first DESC", "f.id"))
	}
	s.add(" ORDER BY f.first DESC, f.id LIMIT ? OFFSET ?", page.Limit, page.Offset)
	return readStretch(ctx, b.c, s, "f.first DESC")
}

// along goes along the order, from the top of a band of trust where that is the order, and takes the agents that it meets.
func (b *banded) along(ctx context.Context, first string, after *place, top int, page ports.Page) ([]agentRow, error) {
	value, _ := strings.CutSuffix(first, " DESC")
	var s sqlText
	s.add("SELECT a.id, " + value + " AS first FROM agents AS a WHERE ")
	s.part(b.agentIs())
	if top < topBand && value == "a.trust_score" {
		s.add(" AND a.trust_score < ?", float64(top+1)*bandWidth)
	}
	s.add(" AND ")
	s.part(b.meets())
	if after != nil {
		s.add(" AND ")
		s.part(after.is(first, "a.id"))
	}
	s.add(" ORDER BY "+first+", a.id LIMIT ? OFFSET ?", page.Limit, page.Offset)
	return readStretch(ctx, b.c, s, strings.Replace(first, value, "f.first", 1))
}

// discoverPlain answers a query whose filters and order one index has, so that any plan of it is a good one and need not be made
// anew each time. ok is false where there are so few agents that they had better be collected, and where it is no such query.
func discoverPlain(ctx context.Context, c *session, q registry.Query, now time.Time) (out []agentRow, total int, ok bool, err error) {
	var along string
	switch {
	case c.store.cfg.Dialect.Cached == nil || len(q.Words()) > 0 || len(q.SkillTags) > 0 || q.SkillID != "":
		return nil, 0, false, nil
	case q.Sort == registry.SortTrust && q.MaxPrice == nil, q.Sort == registry.SortPrice && q.MinTrust == nil && q.Category == "",
		q.Sort == registry.SortNewest && q.MinTrust == nil && q.Category == "" && q.MaxPrice == nil:
		along = orderOf(q, q.Sort)
	case q.MinTrust == nil && q.Category == "":
		along = orderOf(q, registry.SortPrice)
	default:
		return nil, 0, false, nil
	}
	var is sqlText
	is.add("a.deleted_at IS NULL")
	if q.Category != "" {
		is.add(" AND a.effective_category = ?", q.Category)
	}
	if q.MinTrust != nil {
		is.add(" AND a.trust_score >= ?", *q.MinTrust)
	}
	if q.MaxPrice != nil {
		is.add(" AND a.price <= ?", int64(*q.MaxPrice))
	}
	if status, args := statusIs(q.Status, now); status != "" {
		is.add(" AND "+status, args...)
	}
	var s sqlText
	s.add("SELECT count(*) FROM (SELECT 1 FROM agents AS a WHERE ")
	s.part(is)
	s.add(" ORDER BY " + along + " LIMIT " + strconv.Itoa(registry.CountLimit+1) + ") AS f")
	if err := s.each(ctx, c, func(scan func(...any) error) error { return scan(&total) }); err != nil || total == 0 || total <= q.Offset && total <= registry.CountLimit {
		return nil, total, true, err
	}
	first := orderOf(q, q.Sort)
	if total <= registry.CountLimit || along != first {
		return nil, total, false, nil
	}
	value, _ := strings.CutSuffix(first, " DESC")
	s = sqlText{}
	s.add("SELECT a.id, " + value + " AS first FROM agents AS a WHERE ")
	s.part(is)
	if q.After != nil {
		s.add(" AND ")
		s.part(placeOf(q).is(first, "a.id"))
	}
	s.add(" ORDER BY "+first+", a.id LIMIT ? OFFSET ?", q.Limit, q.Offset)
	out, err = readStretch(ctx, c, s, strings.Replace(first, value, "f.first", 1))
	return out, total, true, err
}

// readStretch reads the agents of a statement's ids, in the order of what it calls first.
func readStretch(ctx context.Context, c *session, ids sqlText, order string) (out []agentRow, err error) {
	var s sqlText
	s.add("SELECT " + agentColumns + " FROM (")
	s.part(ids)
	s.add(" ) AS f JOIN agents AS a ON a.id = f.id ORDER BY " + order + ", f.id")
	err = s.each(ctx, c, func(scan func(...any) error) error {
		var r agentRow
		err := scan(r.dest()...)
		out = append(out, r)
		return err
	})
	return out, err
}
