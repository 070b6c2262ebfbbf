package bunstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/uptrace/bun"

	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/ports"
)

type agents struct{ access }

var _ ports.AgentStore = (*agents)(nil)

var (
	qAgentVersion = hot(`SELECT version, trust_score, trust_bound, featured FROM agents WHERE id = ?`).
			inBulk(reads(`SELECT u.n, a.version, a.trust_score, a.trust_bound, a.featured FROM `+numbered("t")+` JOIN agents AS a ON a.id = u.c0`, "t"))
	qLockAgent = hot(`SELECT version, trust_score, trust_bound, featured FROM agents WHERE id = ?{lock}`).ranked(rankAgent, 0).locks("agent")
	qAgent     = hot(`SELECT ` + agentColumns + ` FROM agents AS a WHERE a.id = ?`)

	qInsertAgent = hot(`INSERT INTO agents (id, trust_score, trust_bound, created_at, ` + savedColumns + `) VALUES (?, ?, ?, ?` + strings.Repeat(", ?", savedCount) + `)`)
	qSaveAgent   = hot(`UPDATE agents SET ` + strings.ReplaceAll(savedColumns, ",", " = ?,") + ` = ? WHERE id = ?`)
	qSameTerms   = hot(`SELECT CASE WHEN tags = ? AND skills = ? AND deleted_at IS NULL THEN 1 ELSE 0 END FROM agents WHERE id = ?`)
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
			if err := c.row(ctx, q, []any{id}, &s.version, &s.score, &s.bound, &s.featured); err != nil {
				return c.store.wrap(err, "read agent")
			}
			if c.memo != nil {
				c.memo.sawAgent(id, s)
			}
		}
		if known, ok := c.store.agents.get(id, s.version); ok {
			a = known
			a.TrustScore, a.TrustBound, a.Featured = s.score, s.bound, s.featured != 0
			return nil
		}
		var r agentRow
		if err := c.row(ctx, qAgent, []any{id}, r.dest()...); err != nil {
			return c.store.wrap(err, "read agent")
		}
		var err error
		if a, err = r.domain(); err == nil {
			c.store.agents.put(r.Version, a, len(r.Skills)+len(r.Tags)+len(r.Metadata.String)+len(r.Card.String)+len(r.Description))
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

// Insert implements ports.AgentStore. One statement, and one for every eight tags and skills.
func (v *agents) Insert(ctx context.Context, a registry.Agent) error {
	r, err := agentRowOf(a)
	if err != nil {
		return err
	}
	return v.do(ctx, func(ctx context.Context, c *session) error {
		args := append([]any{r.ID, r.TrustScore, r.TrustBound, int64(r.CreatedAt)}, r.saved(a)...)
		if _, err := c.exec(ctx, qInsertAgent, args...); err != nil {
			return c.store.wrap(err, "insert agent")
		}
		return insertTerms(ctx, c, a)
	})
}

// Save implements ports.AgentStore. Two statements; when tags or skills changed, one more and one for every eight of
// them; when it is deleted, three.
func (v *agents) Save(ctx context.Context, a registry.Agent) error {
	r, err := agentRowOf(a)
	if err != nil {
		return err
	}
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		var same int
		if err := c.row(ctx, qSameTerms, []any{r.Tags, r.Skills, r.ID}, &same); err != nil {
			return c.store.wrap(err, "compare terms")
		}
		if _, err := c.exec(ctx, qSaveAgent, append(r.saved(a), r.ID)...); err != nil {
			return c.store.wrap(err, "save agent")
		}
		if c.memo != nil {
			c.memo.forgetAgent(r.ID)
		}
		if same != 0 && a.DeletedAt == nil {
			return nil
		}
		if _, err := c.exec(ctx, qDropTerms, r.ID); err != nil {
			return c.store.wrap(err, "delete terms")
		}
		return insertTerms(ctx, c, a)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return registry.NotFound(a.ID)
	}
	return err
}

func insertTerms(ctx context.Context, c *session, a registry.Agent) error {
	if a.DeletedAt != nil { // nobody finds it
		return nil
	}
	var args []any
	for _, tag := range a.AllTags() {
		args = append(args, "tag", tag, a.ID)
	}
	for _, s := range a.Skills {
		args = append(args, "skill", s.ID, a.ID)
	}
	return c.store.wrap(c.send(ctx, qInsertTerms.calls(args)...), "insert terms")
}

// ListByOwner implements ports.AgentReader. Two statements.
func (v *agents) ListByOwner(ctx context.Context, userID string, page ports.Page) ([]registry.Agent, int, error) {
	return v.list(ctx, page, math.MaxInt32, func(c *session) filter {
		return filter{where: func(q *bun.SelectQuery) *bun.SelectQuery {
			return q.Where("a.owner_user_id = ?", userID).Where("a.deleted_at IS NULL")
		}}
	}, nil, "a.created_at DESC", "a.id DESC")
}

// Discover implements ports.AgentReader. Two statements, one more for many agents, and one more for a tag or a skill alone.
func (v *agents) Discover(ctx context.Context, q registry.Query, now time.Time) ([]registry.Agent, int, error) {
	first := "a.trust_score DESC"
	switch q.Sort {
	case registry.SortPrice:
		first = "a.price"
	case registry.SortNewest:
		first = "a.created_at DESC"
	case registry.SortRelevance:
		first = relevance(q.Words()) + " DESC"
	case registry.SortTrust:
	}
	page := ports.Page{Limit: q.Limit, Offset: q.Offset}
	return v.list(ctx, page, registry.CountLimit, func(c *session) filter { return discovery(c, q, now) }, placeOf(q), first, "a.id")
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

// past narrows a query to what comes after the place in the order of first, which may end with DESC, and id.
func (p *place) past(q *bun.SelectQuery, first, id string) *bun.SelectQuery {
	if p == nil {
		return q
	}
	if first, down := strings.CutSuffix(first, " DESC"); down {
		return q.Where(first+" <= ? AND ("+first+" < ? OR "+id+" > ?)", p.first, p.first, p.id)
	}
	return q.Where(first+" >= ? AND ("+first+" > ? OR "+id+" > ?)", p.first, p.first, p.id)
}

// filter is what agents have to be. terms, if there are any, narrows by an index of its own.
type filter struct {
	terms []term
	where func(*bun.SelectQuery) *bun.SelectQuery
	alone bool   // terms is all there is to it
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
	q := f.where(c.bun.NewSelect().TableExpr("agents AS a"))
	for _, t := range f.terms {
		if n > some {
			q = q.Where("EXISTS (SELECT 1 FROM agent_terms AS t WHERE t.agent_id = a.id AND t.kind = ? AND t.term IN (?))", t.kind, bun.List(t.anyOf))
		} else {
			q = q.Where("a.id IN (SELECT t.agent_id FROM agent_terms AS t WHERE t.kind = ? AND t.term IN (?))", t.kind, bun.List(t.anyOf))
		}
	}
	return q
}

// collect finds how many agents there are, up to one more than most, and if they are no more, the stretch of them.
func (f filter) collect(ctx context.Context, c *session, page ports.Page, most int, after *place, order []string) (ids []string, total int, err error) {
	var rows []struct {
		ID    string `bun:"id"`
		Total int    `bun:"total"`
	}
	if f.alone && len(f.terms) == 1 { // which an index of its own counts
		t := f.terms[0]
		some := c.bun.NewSelect().TableExpr("agent_terms AS t").ColumnExpr("t.agent_id").Where("t.kind = ?", t.kind).Where("t.term IN (?)", bun.List(t.anyOf)).Limit(int64(most) + 1)
		if len(t.anyOf) > 1 {
			some = some.Distinct()
		}
		if err := c.bun.NewSelect().TableExpr("(?) AS found", some).ColumnExpr("count(*)").Scan(ctx, &total); err != nil || total > most {
			return nil, total, err
		}
	}
	first, down := strings.CutSuffix(order[0], " DESC")
	all := f.from(c, -1).ColumnExpr("a.id").ColumnExpr(first + " AS first").Limit(int64(most) + 1)
	counted := c.bun.NewSelect().TableExpr("(?) AS found", all).ColumnExpr("id").ColumnExpr("first").ColumnExpr("count(*) OVER () AS total")
	q := c.bun.NewSelect().TableExpr("(?) AS counted", counted).ColumnExpr("id").ColumnExpr("total").Limit(int64(page.Limit)).Offset(int64(page.Offset))
	if down {
		q = after.past(q, "first DESC", "id").OrderExpr("first DESC")
	} else {
		q = after.past(q, "first", "id").OrderExpr("first")
	}
	if strings.HasSuffix(order[1], " DESC") {
		q = q.OrderExpr("id DESC")
	} else {
		q = q.OrderExpr("id")
	}
	if err := q.Scan(ctx, &rows); err != nil {
		return nil, 0, err
	}
	if len(rows) == 0 && (page.Offset > 0 || after != nil) { // beyond the end
		err := c.bun.NewSelect().TableExpr("(?) AS found", all).ColumnExpr("count(*)").Scan(ctx, &total)
		return nil, total, err
	}
	for _, r := range rows {
		ids, total = append(ids, r.ID), r.Total
	}
	return ids, total, nil
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
	f.alone = q.Category == "" && q.MinTrust == nil && q.MaxPrice == nil && q.Status == "" && len(words) == 0
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
		if narrow := c.store.cfg.Dialect.Text; narrow != nil && len(words) > 0 {
			if where, args := narrow(words); where != "" {
				s = s.Where(where, args...)
			}
		}
		for _, w := range words {
			if utf8.RuneCountInString(w) <= c.store.cfg.Dialect.TextIsExact {
				continue
			}
			s = s.Where("(" + has("name", w) + " OR " + has("skills", w) + " OR " + has("description", w) + ")")
		}
		return status(s, q.Status, now)
	}
	return f
}

// status is registry.Agent.StatusAt as SQL.
func status(s *bun.SelectQuery, want registry.Status, now time.Time) *bun.SelectQuery {
	degraded, offline := at(now.Add(-registry.DegradedAfter)), at(now.Add(-registry.OfflineAfter)) // heartbeats up to then are too old
	switch want {
	case registry.Online:
		return s.Where("a.status = 'online' AND (a.last_heartbeat IS NULL OR a.last_heartbeat > ?)", degraded)
	case registry.Degraded:
		return s.Where("(a.last_heartbeat IS NULL OR a.last_heartbeat > ?) AND (a.status = 'degraded' OR a.status = 'online' AND a.last_heartbeat <= ?)", offline, degraded)
	case registry.Offline:
		return s.Where("(a.status = 'offline' OR a.last_heartbeat <= ?)", offline)
	default:
		return s
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

// list reads how many agents there are, and a stretch of them: their ids come from an index, and only the rows of the
// stretch are read.
func (v *agents) list(ctx context.Context, page ports.Page, most int, by func(*session) filter, after *place, order ...string) (out []registry.Agent, total int, err error) {
	err = v.solo(ctx, func(ctx context.Context, c *session) error {
		out, total = nil, 0
		f := by(c)
		var ids []string
		if ids, total, err = f.collect(ctx, c, page, most, after, order); err != nil {
			return c.store.wrap(err, "find agents")
		}
		if total <= page.Offset && total <= most {
			return nil
		}
		if total > most { // too many to collect: along the order
			if f.broad != "" {
				order[0] = f.broad
			}
			q := after.past(f.from(c, total), order[0], order[1]).ColumnExpr("a.id").Limit(int64(page.Limit)).Offset(int64(page.Offset))
			for _, o := range order {
				q = q.OrderExpr(o)
			}
			ids = nil
			if err := q.Scan(ctx, &ids); err != nil {
				return c.store.wrap(err, "find agents")
			}
		}
		if len(ids) == 0 {
			return nil
		}
		var rows []agentRow
		err := c.bun.NewSelect().TableExpr("agents AS a").ColumnExpr(agentColumns).Where("a.id IN (?)", bun.List(ids)).Scan(ctx, &rows)
		if err != nil {
			return c.store.wrap(err, "list agents")
		}
		slices.SortFunc(rows, func(a, b agentRow) int { return cmp.Compare(slices.Index(ids, a.ID), slices.Index(ids, b.ID)) })
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
