package bunstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/ports"
)

// Discovery by bands. Where the dialect has an index of words and terms in bands of trust (Dialect.Entries), agents that
// have some are found band after band, the best first: the first thousand are counted, and only the bands that the stretch lies in are
// looked at closely. In a band that most agents of that trust are in, the stretch is found along the order of trust.

// The bands of trust that an index has. An agent's score is not above its band, and may be a little below it: who has a score of at
// least a band's is in that band or a higher one.
const (
	bandWidth = 5.0
	bandSlack = 2.0
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
	// Tags or a skill alone have an index of their own; else there is a query of entries, in which mark stands for the band.
	kind       string
	terms      []string // any of them
	entries    string   // for the index
	inRow      string   // for a row of it that was found otherwise
	mark       string
	sure       int  // from this band up all scores are enough
	loose      bool // what the index finds is to be asked for inRow
	none       bool // a word is nobody's
	long       bool // of a word the index has only the beginning
	first, low int  // bands to look in, the first is the highest
}

// bandedQuery is nil for a query that names no word and no term. Up to one statement, which looks up what words there are that begin
// like the query's.
func bandedQuery(ctx context.Context, c *session, q registry.Query, now time.Time) (*banded, error) {
	words := q.Words()
	if c.store.cfg.Dialect.Entries == nil || len(words) == 0 && len(q.SkillTags) == 0 && q.SkillID == "" {
		return nil, nil
	}
	b := &banded{c: c, q: q, now: now, first: topBand}
	if q.MinTrust != nil {
		b.low = bandOf(*q.MinTrust)
		b.sure = int(math.Ceil((*q.MinTrust + bandSlack) / bandWidth))
	}
	for _, w := range words {
		b.long = b.long || utf8.RuneCountInString(w) > c.store.cfg.Dialect.TextIsExact
	}
	alone := len(words) == 0 && q.Category == "" && q.MaxPrice == nil && q.MaxLatency == nil && q.Status == "" && q.Sort == registry.SortTrust
	switch {
	case alone && q.SkillID == "":
		b.kind, b.terms = "tag", slices.Compact(slices.Sorted(slices.Values(q.SkillTags)))
	case alone && len(q.SkillTags) == 0:
		b.kind, b.terms = "skill", []string{q.SkillID}
	default:
		alike, err := b.alike(ctx, words)
		if err != nil {
			return nil, err
		}
		b.entries, b.inRow, b.mark, b.loose = c.store.cfg.Dialect.Entries(words, alike, q.SkillTags, q.SkillID, q.Category)
	}
	return b, nil
}

// manyAlike is how many words that begin alike are too many to be asked for one by one.
const manyAlike = 16

// alike finds what words there are that begin like these; none where there are too many. Where there are none for one, no agent is
// found.
func (b *banded) alike(ctx context.Context, words []string) ([][]string, error) {
	d := b.c.store.cfg.Dialect
	out := make([][]string, len(words))
	var s sqlText
	asked := make([]bool, len(words))
	for n, w := range words {
		letters := []rune(w)
		if len(letters) <= d.Beginning {
			continue
		}
		if asked[n] = true; s.text != "" {
			s.add(" UNION ALL ")
		}
		w = string(letters[:min(len(letters), d.TextIsExact)])
		s.add("(SELECT "+strconv.Itoa(n)+", word FROM agent_vocabulary WHERE word >= ? AND word < ? ORDER BY word LIMIT "+strconv.Itoa(manyAlike+1)+")", w, w+string(utf8.MaxRune))
	}
	if s.text == "" {
		return out, nil
	}
	err := s.each(ctx, b.c, func(scan func(...any) error) error {
		var n int
		var w string
		err := scan(&n, &w)
		out[n] = append(out[n], w)
		return err
	})
	for n := range out {
		b.none = b.none || asked[n] && len(out[n]) == 0
		if len(out[n]) > manyAlike {
			out[n] = nil
		}
	}
	return out, err
}

// agentIs is what the agent a has to be, beside what the index has said of it.
func (b *banded) agentIs() (s sqlText) {
	s.add("a.deleted_at IS NULL")
	if b.q.MinTrust != nil {
		s.add(" AND a.trust_score >= ?", *b.q.MinTrust)
	}
	for _, w := range b.q.Words() {
		if utf8.RuneCountInString(w) > b.c.store.cfg.Dialect.TextIsExact {
			s.add(" AND (" + has("name", w) + " OR " + has("skills", w) + " OR " + has("description", w) + ")")
		}
	}
	return s
}

// rowIs is what r has to be, a row of the index or an agent.
func (b *banded) rowIs(s *sqlText, r string) {
	if b.q.MaxPrice != nil {
		s.add(" AND "+r+".price <= ?", int64(*b.q.MaxPrice))
	}
	if b.q.MaxLatency != nil {
		s.add(" AND "+r+".latency_ms <= ?", b.q.MaxLatency.Milliseconds())
	}
	if is, args := statusIs(r, b.q.Status, b.now); is != "" {
		s.add(" AND "+is, args...)
	}
}

// found is the agents of the bands from first down to low, as agent_id and band, best band first as far as only the beginning is
// read. checked: those that are all that is asked for, not only all that the index knows of.
func (b *banded) found(first, low int, checked bool) sqlText {
	return b.foundWith(first, low, checked, sqlText{}, sqlText{})
}

// foundWith is found with more columns: what of the row i, which may use what each band has in q.
func (b *banded) foundWith(first, low int, checked bool, band, what sqlText) (s sqlText) {
	check := func(band, id string) {
		switch {
		case !checked || !b.long && low >= b.sure:
			return
		case b.long:
			s.add(" AND ")
		default:
			s.add(" AND ("+band+" >= ? OR ", b.sure)
		}
		s.add("EXISTS (SELECT 1 FROM agents AS a WHERE a.id = " + id + " AND ")
		s.part(b.agentIs())
		s.add(" OFFSET 0)")
		if !b.long {
			s.add(")")
		}
	}
	if b.kind != "" {
		several := len(b.terms) > 1
		if several { // whose agents are merged in their order
			s.add("SELECT DISTINCT t.band, t.agent_id FROM (")
		}
		for n, term := range b.terms {
			if n > 0 {
				s.add(" UNION ALL ")
			}
			s.add("(SELECT t.band, t.agent_id FROM agent_terms AS t WHERE t.kind = ? AND t.term = ? AND t.band BETWEEN ? AND ?", b.kind, term, low, first)
			check("t.band", "t.agent_id")
			s.add(" ORDER BY t.band DESC, t.agent_id)")
		}
		if several {
			s.add(") AS t ORDER BY t.band DESC, t.agent_id")
		}
		return s
	}
	s.add("SELECT i.*, b.band FROM generate_series(?::int, ?::int, -1) AS b (band) CROSS JOIN LATERAL (SELECT ", first, low)
	s.part(b.entriesOf("b.band", b.entries)) // once for each band
	s.add(" AS q")
	if b.loose {
		s.add(", ")
		s.part(b.entriesOf("b.band", b.inRow))
		s.add(" AS r")
	}
	s.part(band)
	s.add(" OFFSET 0) AS q CROSS JOIN LATERAL (SELECT i.agent_id")
	s.part(what)
	s.add(" FROM agent_index AS i WHERE i.terms @@ q.q")
	if b.loose {
		s.add(" AND (i.terms @@ q.r) IS TRUE") // which no index takes for its own
	}
	b.rowIs(&s, "i")
	check("b.band", "i.agent_id")
	s.add(" OFFSET 0) AS i")
	return s
}

// entriesOf is the query of entries in a band, of which band is the number as SQL.
func (b *banded) entriesOf(band, entries string) sqlText { return b.entriesIn(band, entries, b.mark) }

func (b *banded) entriesIn(band, entries, mark string) (s sqlText) {
	s.add("replace(?, ?, lpad("+band+"::text, 2, '0'))::tsquery", entries, mark)
	return s
}

// meets is that an agent a, met along an order, has what the index knows of, in its band.
func (b *banded) meets() (s sqlText) {
	if b.kind != "" {
		s.add("EXISTS (SELECT 1 FROM agent_terms AS t WHERE t.agent_id = a.id AND t.kind = ? AND t.term IN (", b.kind)
		for n, term := range b.terms {
			if n > 0 {
				s.add(", ")
			}
			s.add("?", term)
		}
		s.add(") OFFSET 0)")
		return s
	}
	s.add("EXISTS (SELECT 1 FROM agent_index AS i WHERE i.agent_id = a.id AND i.terms @@ ")
	s.part(b.entriesOf("i.band", b.inRow))
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

// discover answers the query.
func (b *banded) discover(ctx context.Context) (out []agentRow, total int, err error) {
	if b.none {
		return nil, 0, nil
	}
	q := b.q
	most := max(registry.CountLimit+1, q.Offset+q.Limit+1)
	if q.After != nil {
		most = registry.CountLimit + 1
	}
	sort := q.Sort
	var counts []bandCount
	if sort != registry.SortTrust { // which is answered at once where there are few
		out, counts, total, err = b.fewBy(ctx, sort, most)
		if err != nil || len(out) > 0 && total <= registry.CountLimit || len(out) == 0 && q.Offset == 0 && q.After == nil {
			return out, total, err
		}
	}
	if total == 0 {
		counts, total, err = b.count(ctx, b.first, b.low, most)
	}
	if err != nil || total == 0 || total <= registry.CountLimit && sort != registry.SortTrust || total <= q.Offset && total < most {
		return nil, total, err
	}
	if sort == registry.SortRelevance {
		sort = registry.SortTrust
	}
	if sort == registry.SortTrust {
		out, err = b.byTrust(ctx, counts, total >= most)
	} else {
		out, err = b.along(ctx, orderOf(q, sort), placeOf(q), topBand, ports.Page{Limit: q.Limit, Offset: q.Offset})
	}
	return out, total, err
}

// byTrust reads a stretch of the order of trust. partly: only the beginning of the last of the counted bands was counted.
func (b *banded) byTrust(ctx context.Context, counts []bandCount, partly bool) (out []agentRow, err error) {
	limit, enough, top := b.q.Limit, b.q.Offset+b.q.Limit, b.first
	after := placeOf(b.q)
	if after != nil { // from its band on
		most, total := registry.CountLimit+1+limit, 0
		top = bandOf(b.q.After.Trust + bandSlack)
		if counts, total, err = b.count(ctx, top, b.low, most); err != nil || total == 0 {
			return nil, err
		}
		partly = total >= most
		for _, n := range counts { // some or all of which are before it
			if n.Band >= bandOf(b.q.After.Trust) {
				enough += n.N
			}
		}
	}
	seen := 0
	for i, n := range counts {
		last := i == len(counts)-1
		if seen += n.N; seen < enough && !last {
			continue
		}
		if last && partly { // it has more than were counted
			many := n.N >= crowded
			if !many {
				_, all, err := b.count(ctx, n.Band, n.Band, crowd+1)
				if err != nil {
					return nil, err
				}
				many = all > crowd
			}
			if many {
				return b.crowded(ctx, top, n.Band, after)
			}
		}
		low := n.Band
		if last && !partly {
			low = b.low
		}
		if out, err = b.sorted(ctx, after, top, low, 0, ports.Page{Limit: limit, Offset: b.q.Offset}); err != nil {
			return nil, err
		}
		// Of the last band's agents those that are below it may have better ones behind them.
		if low <= b.low || len(out) == limit && out[limit-1].TrustScore >= float64(low)*bandWidth {
			return out, nil
		}
		if last {
			return b.crowded(ctx, top, low-1, after)
		}
	}
	return out, nil
}

// crowded reads a stretch that ends in a band of which there are too many to sort: the better ones are sorted, the rest is met
// along the order.
func (b *banded) crowded(ctx context.Context, top, low int, after *place) (out []agentRow, err error) {
	page := ports.Page{Limit: b.q.Limit, Offset: b.q.Offset}
	edge := float64(low+1) * bandWidth // who has as much is in a better band
	if low < top {
		if out, err = b.sorted(ctx, after, top, low+1, edge, page); err != nil || len(out) == page.Limit {
			return out, err
		}
		if page.Limit -= len(out); len(out) > 0 {
			page.Offset = 0
		} else if page.Offset > 0 {
			better, err := b.sorted(ctx, after, top, low+1, edge, ports.Page{Limit: page.Offset})
			if err != nil {
				return nil, err
			}
			page.Offset -= len(better)
		}
	}
	rest, err := b.along(ctx, orderOf(b.q, registry.SortTrust), after, low, page)
	return append(out, rest...), err
}

// sorted collects the agents of some bands that have a score of at least that, puts them in the order of trust, and reads the stretch of them.
func (b *banded) sorted(ctx context.Context, after *place, top, low int, least float64, page ports.Page) ([]agentRow, error) {
	var s sqlText
	s.add("SELECT f.first, f.id FROM (SELECT a.id, a.first FROM (")
	s.part(b.found(top, low, false))
	s.add(" OFFSET 0) AS t CROSS JOIN LATERAL (SELECT a.id, a.trust_score AS first FROM agents AS a WHERE a.id = t.agent_id AND ")
	s.part(b.agentIs())
	if least > 0 {
		s.add(" AND a.trust_score >= ?", least)
	}
	s.add(" OFFSET 0) AS a) AS f")
	const order = "f.first DESC"
	if after != nil {
		s.add(" WHERE ")
		s.part(after.is(order, "f.id"))
	}
	s.add(" ORDER BY "+order+", f.id LIMIT ? OFFSET ?", page.Limit, page.Offset)
	return readStretch(ctx, b.c, s, order)
}

// fewBy counts up to most agents and reads the stretch of them in an order that the index's rows know. Where there are more than a
// thousand the stretch is of no use, and where it is empty nothing is known.
func (b *banded) fewBy(ctx context.Context, sort registry.Sort, most int) (out []agentRow, counts []bandCount, total int, err error) {
	var band, first sqlText
	order := "f.first DESC"
	switch sort {
	case registry.SortPrice:
		first.add(", i.price AS first")
		order = "f.first"
	case registry.SortNewest:
		first.add(", i.created_at AS first")
	default:
		band, first = b.relevance()
	}
	var s sqlText
	s.add("WITH f AS MATERIALIZED (")
	s.part(b.foundWith(b.first, b.low, true, band, first))
	s.add(" LIMIT ?), n AS MATERIALIZED (SELECT count(*) AS total FROM f) SELECT COALESCE((SELECT string_agg(c.band || ' ' || c.n, ' ' ORDER BY c.band DESC) FROM (SELECT f.band, count(*) AS n FROM f GROUP BY f.band) AS c), ''), ", most)
	s.add(agentColumns + " FROM (SELECT f.first, f.agent_id AS id FROM f")
	if after := placeOf(b.q); after != nil {
		s.add(" WHERE ")
		s.part(after.is(order, "f.agent_id"))
	}
	few := fmt.Sprintf("CASE WHEN (SELECT total FROM n) <= %d THEN ", registry.CountLimit)
	s.add(" ORDER BY "+order+", f.agent_id LIMIT "+few+"?::int ELSE 1 END OFFSET "+few+"?::int ELSE 0 END) AS f JOIN agents AS a ON a.id = f.id ORDER BY "+order+", f.id", b.q.Limit, b.q.Offset)
	var perBand string
	err = s.each(ctx, b.c, func(scan func(...any) error) error {
		var r agentRow
		err := scan(append([]any{&perBand}, r.dest()...)...)
		out = append(out, r)
		return err
	})
	if err != nil {
		return nil, nil, 0, err
	}
	fields := strings.Fields(perBand)
	for i := 0; i+1 < len(fields); i += 2 {
		var n bandCount
		if n.Band, err = strconv.Atoi(fields[i]); err == nil {
			n.N, err = strconv.Atoi(fields[i+1])
		}
		if err != nil {
			return nil, nil, 0, err
		}
		counts, total = append(counts, n), total+n.N
	}
	return out, counts, total, nil
}

// relevance is that of the index's row i, first, by what each band has for it. Of words that are longer than its entries the
// agent has it.
func (b *banded) relevance() (band, first sqlText) {
	words := b.q.Words()
	if b.long {
		first.add(", (SELECT " + relevance(words) + " FROM agents AS a WHERE a.id = i.agent_id) AS first")
		return band, first
	}
	first.add(", 0")
	for n, w := range words {
		_, word, mark, _ := b.c.store.cfg.Dialect.Entries([]string{w}, nil, nil, "", "")
		for _, in := range []struct {
			field  string
			weight int
		}{{"A", registry.WeightName}, {"B", registry.WeightSkill}, {"D", registry.WeightDescription}} {
			name := fmt.Sprint("q", n, in.field)
			band.add(", ")
			band.part(b.entriesIn("b.band", word+in.field, mark))
			band.add(" AS " + name)
			first.add(fmt.Sprintf(" + CASE WHEN i.terms @@ q.%s THEN %d ELSE 0 END", name, in.weight))
		}
	}
	first.add(" AS first")
	return band, first
}

// along goes along the order, from the top of a band of trust where that is the order, and takes the agents that it meets.
func (b *banded) along(ctx context.Context, first string, after *place, top int, page ports.Page) ([]agentRow, error) {
	value, _ := strings.CutSuffix(first, " DESC")
	var s sqlText
	s.add("SELECT a.id, " + value + " AS first FROM agents AS a WHERE ")
	s.part(b.agentIs())
	b.rowIs(&s, "a")
	if b.q.Category != "" {
		s.add(" AND a.effective_category = ?", b.q.Category)
	}
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
	case c.store.cfg.Dialect.Cached == nil || len(q.Words()) > 0 || len(q.SkillTags) > 0 || q.SkillID != "" || q.MaxLatency != nil:
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
	if status, args := statusIs("a", q.Status, now); status != "" {
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
