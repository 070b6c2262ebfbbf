package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/ports"
)

type agents struct{ access }

var _ ports.AgentStore = (*agents)(nil)

var (
	qAgentVersion = hot(`SELECT version, trust_score, trust_bound, latency_ms, featured FROM agents WHERE id = ?`).
			inBulk(reads(`SELECT u.n, a.version, a.trust_score, a.trust_bound, a.latency_ms, a.featured FROM `+rowsOf("t")+` JOIN agents AS a ON a.id = u.c0`, "t"))
	qLockAgent = hot(`SELECT version, trust_score, trust_bound, latency_ms, featured FROM agents WHERE id = ?{lock}`).ranked(rankAgent, 0).locks("agent")
	qAgent     = hot(`SELECT ` + agentColumns + ` FROM agents AS a WHERE a.id = ?`)

	qInsertAgent = hot(`INSERT INTO agents (id, trust_score, trust_bound, latency_ms, created_at, ` + savedColumns + `) VALUES (?, ?, ?, ?, ?` + strings.Repeat(", ?", savedCount) + `)`)
	qSaveAgent   = hot(`UPDATE agents SET ` + strings.ReplaceAll(savedColumns, ",", " = ?,") + ` = ? WHERE id = ?`)
	qSameTerms   = hot(`SELECT CASE WHEN tags = ? AND skills = ? AND deleted_at IS NULL THEN 1 ELSE 0 END,
		CASE WHEN price = ? AND effective_category = ? AND search_name = ? AND search_skills = ? AND search_description = ? THEN 1 ELSE 0 END FROM agents WHERE id = ?`)
	qIndexAgent  = hot(`{index}`)
	qDropTerms   = hot(`DELETE FROM agent_terms WHERE agent_id = ?`)
	qInsertTerms = hotMulti(`INSERT INTO agent_terms (kind, term, agent_id)`, "ttt", `ON CONFLICT DO NOTHING`)
)

const (
	savedColumns = `version, owner_user_id, status, category, effective_category, price, featured, last_heartbeat, updated_at, deleted_at, name, endpoint, ` +
		`description, tags, search_name, search_skills, search_description, metadata, skills, card`
	savedCount = 20
)

func (r *agentRow) saved(a registry.Agent) []any {
	text := a.SearchText()
	return []any{
		r.Version, r.OwnerUserID, string(r.Status), r.Category, a.EffectiveCategory(), r.Price, r.Featured, r.LastHeartbeat, int64(r.UpdatedAt), r.DeletedAt, r.Name, r.Endpoint,
		r.Description, r.Tags, text.Name, text.Skills, text.Description, r.Metadata, r.Skills, r.Card,
	}
}

// Get implements ports.AgentReader. One statement, two when the agent has changed since it was last read here.
func (v *agents) Get(ctx context.Context, id string) (registry.Agent, error) {
	return v.find(ctx, qAgentVersion, id)
}

// Lock implements ports.AgentStore. As many as Get.
func (v *agents) Lock(ctx context.Context, id string) (registry.Agent, error) {
	return v.find(ctx, qLockAgent, id)
}

func (v *agents) find(ctx context.Context, q statement, id string) (a registry.Agent, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		var s standing
		seen := false
		if c.memo != nil && q.id == qAgentVersion.id {
			s, seen = c.memo.agent(id)
		}
		if !seen {
			if err := c.row(ctx, q, []any{id}, &s.version, &s.score, &s.bound, &s.latency, &s.featured); err != nil {
				return c.store.wrap(err, "read agent")
			}
			if c.memo != nil {
				c.memo.sawAgent(id, s)
			}
		}
		if known, ok := c.store.agents.get(id, s.version); ok {
			a = known
			a.TrustScore, a.TrustBound, a.Latency, a.Featured = s.score, s.bound, millis(s.latency), s.featured != 0
			return nil
		}
		var r agentRow
		if err := c.row(ctx, qAgent, []any{id}, r.dest()...); err != nil {
			return c.store.wrap(err, "read agent")
		}
		var err error
		if a, err = r.domain(); err == nil {
			c.store.agents.put(r.Version, a, r.size())
		}
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		err = registry.NotFound(id)
	}
	if err != nil {
		return registry.Agent{}, err
	}
	return a, nil
}

// Insert implements ports.AgentStore. One statement, one for every eight tags and skills, and one for an index.
func (v *agents) Insert(ctx context.Context, a registry.Agent) error {
	r, err := agentRowOf(a)
	if err != nil {
		return err
	}
	return v.do(ctx, func(ctx context.Context, c *session) error {
		args := append([]any{r.ID, r.TrustScore, r.TrustBound, r.Latency, int64(r.CreatedAt)}, r.saved(a)...)
		if _, err := c.exec(ctx, qInsertAgent, args...); err != nil {
			return c.store.wrap(err, "insert agent")
		}
		return index(ctx, c, a, termsOf(a))
	})
}

// Save implements ports.AgentStore. Two statements; when tags or skills changed, one more and one for every eight of
// them; when it is deleted, three; and one for an index when anything changed that it is found by.
func (v *agents) Save(ctx context.Context, a registry.Agent) error {
	r, err := agentRowOf(a)
	if err != nil {
		return err
	}
	text := a.SearchText()
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		var sameTerms, sameRest int
		args := []any{r.Tags, r.Skills, r.Price, a.EffectiveCategory(), text.Name, text.Skills, text.Description, r.ID}
		if err := c.row(ctx, qSameTerms, args, &sameTerms, &sameRest); err != nil {
			return c.store.wrap(err, "compare terms")
		}
		if _, err := c.exec(ctx, qSaveAgent, append(r.saved(a), r.ID)...); err != nil {
			return c.store.wrap(err, "save agent")
		}
		if c.memo != nil {
			c.memo.forgetAgent(r.ID)
		}
		switch {
		case sameTerms != 0 && a.DeletedAt == nil && sameRest != 0:
			return nil
		case sameTerms != 0 && a.DeletedAt == nil:
			return index(ctx, c, a, nil)
		}
		if _, err := c.exec(ctx, qDropTerms, r.ID); err != nil {
			return c.store.wrap(err, "delete terms")
		}
		return index(ctx, c, a, termsOf(a))
	})
	if errors.Is(err, sql.ErrNoRows) {
		return registry.NotFound(a.ID)
	}
	return err
}

// termsOf is the rows of an agent's terms; none of one that nobody is to find.
func termsOf(a registry.Agent) (args []any) {
	if a.DeletedAt != nil {
		return nil
	}
	for _, tag := range a.AllTags() {
		args = append(args, "tag", tag, a.ID)
	}
	for _, s := range a.Skills {
		args = append(args, "skill", s.ID, a.ID)
	}
	return args
}

// index adds terms and, where there is an index that does not see to itself, what else the agent is found by.
func index(ctx context.Context, c *session, a registry.Agent, terms []any) error {
	calls := qInsertTerms.calls(terms)
	if c.store.cfg.Dialect.Index != "" {
		calls = append(calls, &call{statement: qIndexAgent, args: []any{a.ID}})
	}
	return c.store.wrap(c.send(ctx, calls...), "index agent")
}

// ListByOwner implements ports.AgentReader. Two statements.
func (v *agents) ListByOwner(ctx context.Context, userID string, page ports.Page) (out []registry.Agent, total int, err error) {
	owned := filter{where: func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("a.owner_user_id = ?", userID).Where("a.deleted_at IS NULL")
	}}
	err = v.solo(ctx, func(ctx context.Context, c *session) error {
		var rows []agentRow
		if rows, total, err = list(ctx, c, page, math.MaxInt32, 0, owned, nil, "a.created_at DESC", "a.id DESC"); err != nil {
			return c.store.wrap(err, "list agents")
		}
		out, err = convert(rows, agentRow.domain)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	return out, total, nil
}

// Discover implements ports.AgentReader. Out of memory, where the market is there: one statement, which searches share, and another where
// not all that were found are remembered. Else two; by words and terms, where there is an index of them in bands of trust, up to five.
func (v *agents) Discover(ctx context.Context, q registry.Query, now time.Time) (out []registry.Agent, total int, err error) {
	if r, ok := v.access.(*readers); ok { // and no transaction, which sees what it has not committed
		if out, total, found, err := r.store.market.discover(ctx, q, now); found || err != nil {
			return out, total, err
		}
	}
	page := ports.Page{Limit: q.Limit, Offset: q.Offset}
	most := registry.CountLimit
	err = v.solo(ctx, func(ctx context.Context, c *session) error {
		var rows []agentRow
		var b *banded
		done := false
		if b, err = bandedQuery(ctx, c, q, now); err != nil {
			return c.store.wrap(err, "find agents")
		}
		if b != nil {
			rows, total, err = b.discover(ctx)
		} else if rows, total, done, err = discoverPlain(ctx, c, q, now); err == nil && !done {
			rows, total, err = list(ctx, c, page, most, total, discovery(c, q, now), placeOf(q), orderOf(q, q.Sort), "a.id")
		}
		if err != nil {
			return c.store.wrap(err, "find agents")
		}
		if total > most && len(rows) == page.Limit {
			total = max(total, page.Offset+len(rows)+1)
		}
		out, err = convert(rows, agentRow.domain)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	return out, total, nil
}

// orderOf is what a query is ordered by first, as SQL.
func orderOf(q registry.Query, by registry.Sort) string {
	switch by {
	case registry.SortPrice:
		return "a.price"
	case registry.SortNewest:
		return "a.created_at DESC"
	case registry.SortRelevance:
		return relevance(q.Words()) + " DESC"
	default:
		return "a.trust_score DESC"
	}
}

// place is where a stretch of a list begins: after the row with this value, and of those with the same after this id.
type place struct {
	first any
	id    string
}

// placeOf is where a query goes on from; nil for the beginning.
func placeOf(q registry.Query) *place {
	if q.After == nil {
		return nil
	}
	switch q.Sort {
	case registry.SortPrice:
		return &place{int64(q.After.Price), q.After.ID}
	case registry.SortNewest:
		return &place{q.After.CreatedAt, q.After.ID}
	case registry.SortRelevance:
		return &place{q.After.Relevance, q.After.ID}
	default:
		return &place{q.After.Trust, q.After.ID}
	}
}

// is what comes after the place in the order of first, which may end with DESC, and id.
func (p *place) is(first, id string) (s sqlText) {
	first, down := strings.CutSuffix(first, " DESC")
	if down {
		s.add(first+" <= ? AND ("+first+" < ? OR "+id+" > ?)", p.first, p.first, p.id)
	} else {
		s.add(first+" >= ? AND ("+first+" > ? OR "+id+" > ?)", p.first, p.first, p.id)
	}
	return s
}

// past narrows a query to what comes after the place.
func (p *place) past(q *bun.SelectQuery, first, id string) *bun.SelectQuery {
	if p == nil {
		return q
	}
	is := p.is(first, id)
	return q.Where(is.text, is.args...)
}

// filter is what agents have to be. terms, if there are any, narrows by an index of its own.
type filter struct {
	terms []term
	text  struct { // narrows by an index of words
		from, where string
		args        []any
	}
	where func(*bun.SelectQuery) *bun.SelectQuery
	alone bool   // terms is all there is to it
	loose bool   // most agents pass: they are counted along the order, which reads no rows
	broad string // what more than are counted are ordered by, instead of the first of the order; "" for that
}

// term is one that an agent has to have: any of these.
type term struct {
	kind  string
	anyOf []string
}

// some is how many agents are so many that it is better to go along the order and look at each than to collect them.
const some = registry.CountLimit

// from is a query of the agents that the filter lets pass, of which there are about n; n below 0 is unknown.
func (f filter) from(c *session, n int) *bun.SelectQuery {
	from := "agents AS a"
	if f.text.from != "" && n <= some {
		from = f.text.from
	}
	q := f.where(c.bun.NewSelect().TableExpr(from))
	if f.text.from != "" && n <= some {
		q = q.Where(f.text.where, f.text.args...)
	}
	for _, t := range f.terms {
		if n > some {
			q = q.Where("EXISTS (SELECT 1 FROM agent_terms AS t WHERE t.agent_id = a.id AND t.kind = ? AND t.term IN (?))", t.kind, bun.List(t.anyOf))
		} else {
			q = q.Where("a.id IN (SELECT t.agent_id FROM agent_terms AS t WHERE t.kind = ? AND t.term IN (?))", t.kind, bun.List(t.anyOf))
		}
	}
	return q
}

// count finds how many agents there are, up to one more than most.
func (f filter) count(ctx context.Context, c *session, most int, first string) (total int, err error) {
	some := f.from(c, -1).ColumnExpr("1").Limit(int64(most) + 1)
	if f.loose {
		some = some.OrderExpr(first)
	}
	if f.alone && len(f.terms) == 1 { // which an index of its own counts
		t := f.terms[0]
		some = c.bun.NewSelect().TableExpr("agent_terms AS t").ColumnExpr("t.agent_id").Where("t.kind = ?", t.kind).Where("t.term IN (?)", bun.List(t.anyOf)).Limit(int64(most) + 1)
		if len(t.anyOf) > 1 {
			some = some.Distinct()
		}
	}
	return total, c.bun.NewSelect().TableExpr("(?) AS found", some).ColumnExpr("count(*)").Scan(ctx, &total)
}

// stretch is the ids of a stretch of the total agents there are, and what they are ordered by: those of a few are collected and put
// in order, those of many are met along it.
func (f filter) stretch(c *session, page ports.Page, total, most int, after *place, order []string) *bun.SelectQuery {
	value, down := strings.CutSuffix(order[0], " DESC")
	desc := ""
	if down {
		desc = " DESC"
	}
	q := f.from(c, total).ColumnExpr("a.id").ColumnExpr(value + " AS first")
	if total > most {
		q = after.past(q, order[0], order[1]).OrderExpr(order[0]).OrderExpr(order[1])
	} else {
		all := q.Limit(int64(most) + 1) // which keeps what is within from being put in order
		q = c.bun.NewSelect().TableExpr("(?) AS found", all).ColumnExpr("id").ColumnExpr("first")
		q = after.past(q, "first"+desc, "id").OrderExpr("first" + desc).OrderExpr(strings.TrimPrefix(order[1], "a."))
	}
	return q.Limit(int64(page.Limit)).Offset(int64(page.Offset))
}

// discovery is registry.Query.Match as SQL.
func discovery(c *session, q registry.Query, now time.Time) filter {
	var f filter
	if len(q.SkillTags) > 0 {
		f.terms = append(f.terms, term{"tag", q.SkillTags})
	}
	if q.SkillID != "" {
		f.terms = append(f.terms, term{"skill", []string{q.SkillID}})
	}
	words := q.Words()
	if q.Sort == registry.SortRelevance {
		f.broad = "a.trust_score DESC"
	}
	f.loose = q.Category == "" && q.MinTrust == nil && q.MaxPrice == nil && q.MaxLatency == nil && len(words) == 0 && len(f.terms) == 0
	f.alone = q.Category == "" && q.MinTrust == nil && q.MaxPrice == nil && q.MaxLatency == nil && q.Status == "" && len(words) == 0
	if narrow := c.store.cfg.Dialect.Text; narrow != nil && len(words) > 0 {
		f.text.from, f.text.where, f.text.args = narrow(words)
	}
	f.where = func(s *bun.SelectQuery) *bun.SelectQuery {
		s = s.Where("a.deleted_at IS NULL")
		if q.Category != "" {
			s = s.Where("a.effective_category = ?", q.Category)
		}
		if q.MinTrust != nil {
			s = s.Where("a.trust_score >= ?", *q.MinTrust)
		}
		if q.MaxPrice != nil {
			s = s.Where("a.price <= ?", int64(*q.MaxPrice))
		}
		if q.MaxLatency != nil {
			latency := "a.latency_ms"
			if len(f.terms) > 0 || len(words) > 0 {
				latency = "+" + latency // its index is for those who ask for nothing that narrows more
			}
			s = s.Where(latency+" <= ?", q.MaxLatency.Milliseconds())
		}
		for _, w := range words {
			s = s.Where("(" + has("name", w) + " OR " + has("skills", w) + " OR " + has("description", w) + ")")
		}
		if is, args := statusIs("a", q.Status, now); is != "" {
			s = s.Where(is, args...)
		}
		return s
	}
	return f
}

// statusIs is registry.Agent.StatusAt of the row r as SQL; "" if any will do.
func statusIs(r string, want registry.Status, now time.Time) (string, []any) {
	degraded, offline := at(now.Add(-registry.DegradedAfter)), at(now.Add(-registry.OfflineAfter)) // heartbeats up to then are too old
	status, beat := r+".status", r+".last_heartbeat"
	switch want {
	case registry.Online:
		return status + " = 'online' AND (" + beat + " IS NULL OR " + beat + " > ?)", []any{degraded}
	case registry.Degraded:
		return "(" + beat + " IS NULL OR " + beat + " > ?) AND (" + status + " = 'degraded' OR " + status + " = 'online' AND " + beat + " <= ?)", []any{offline, degraded}
	case registry.Offline:
		return "(" + status + " = 'offline' OR " + beat + " <= ?)", []any{offline}
	default:
		return "", nil
	}
}

// has is true where a word begins with w. A word has letters and digits only, so nothing in it means anything to LIKE
// or to a literal.
func has(field, w string) string { return "a.search_" + field + " LIKE '% " + w + "%'" }

// relevance is registry.SearchText.Relevance as SQL.
func relevance(words []string) string {
	var sum []string
	for _, w := range words {
		for _, f := range []struct {
			field  string
			weight int
		}{{"name", registry.WeightName}, {"skills", registry.WeightSkill}, {"description", registry.WeightDescription}} {
			sum = append(sum, fmt.Sprintf("CASE WHEN %s THEN %d ELSE 0 END", has(f.field, w), f.weight))
		}
	}
	return "(" + strings.Join(sum, " + ") + ")"
}

// list reads how many agents there are, up to one more than most, and a stretch of them: their ids come from an index, and
// only the rows of the stretch are read. known is how many there are if that is known already, else 0.
func list(ctx context.Context, c *session, page ports.Page, most, known int, f filter, after *place, order ...string) (rows []agentRow, total int, err error) {
	if total = known; total == 0 {
		total, err = f.count(ctx, c, most, order[0])
	}
	if err != nil || total == 0 || total <= page.Offset && total <= most {
		return nil, total, err
	}
	if total > most && f.broad != "" {
		order[0] = f.broad
	}
	first := "f.first"
	if strings.HasSuffix(order[0], " DESC") {
		first += " DESC"
	}
	err = c.bun.NewSelect().TableExpr("(?) AS f", f.stretch(c, page, total, most, after, order)).Join("JOIN agents AS a ON a.id = f.id").
		ColumnExpr(agentColumns).OrderExpr(first).OrderExpr(order[1]).Scan(ctx, &rows)
	return rows, total, err
}
