package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/ports"
)

type agents struct{ access }

var _ ports.AgentStore = (*agents)(nil)

var (
	qAgent     = hot(`SELECT ` + agentColumns + ` FROM agents AS a WHERE a.id = ?`)
	qLockAgent = hot(`SELECT ` + agentColumns + ` FROM agents AS a WHERE a.id = ?{lock}`)

	qInsertAgent = hot(`INSERT INTO agents (id, trust_score, created_at, ` + savedColumns + `) VALUES (?, ?, ?` + strings.Repeat(", ?", savedCount) + `)`)
	qSaveAgent   = hot(`UPDATE agents SET ` + strings.ReplaceAll(savedColumns, ",", " = ?,") + ` = ? WHERE id = ?`)
	qSameTerms   = hot(`SELECT CASE WHEN tags = ? AND skills = ? THEN 1 ELSE 0 END FROM agents WHERE id = ?`)
	qDropTerms   = hot(`DELETE FROM agent_terms WHERE agent_id = ?`)
	qInsertTerms = hotMulti(`INSERT INTO agent_terms (kind, term, agent_id)`, 3, `ON CONFLICT DO NOTHING`)
)

const (
	savedColumns = `owner_user_id, status, category, effective_category, price, featured, last_heartbeat, updated_at, deleted_at, name, endpoint, ` +
		`description, tags, search_name, search_skills, search_description, metadata, skills, card`
	savedCount = 19
)

func (r *agentRow) saved(a registry.Agent) []any {
	text := a.SearchText()
	return []any{
		r.OwnerUserID, string(r.Status), r.Category, a.EffectiveCategory(), r.Price, r.Featured, r.LastHeartbeat, int64(r.UpdatedAt), r.DeletedAt, r.Name, r.Endpoint,
		r.Description, r.Tags, text.Name, text.Skills, text.Description, r.Metadata, r.Skills, r.Card,
	}
}

// Get implements ports.AgentReader. One statement.
func (v *agents) Get(ctx context.Context, id string) (registry.Agent, error) {
	return v.find(ctx, qAgent, id)
}

// Lock implements ports.AgentStore. One statement.
func (v *agents) Lock(ctx context.Context, id string) (registry.Agent, error) {
	return v.find(ctx, qLockAgent, id)
}

func (v *agents) find(ctx context.Context, q statement, id string) (registry.Agent, error) {
	var r agentRow
	err := v.do(ctx, func(ctx context.Context, c *session) error {
		return c.store.wrap(c.row(ctx, q, []any{id}, r.dest()...), "read agent")
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return registry.Agent{}, registry.NotFound(id)
	case err != nil:
		return registry.Agent{}, err
	}
	return r.domain()
}

// Insert implements ports.AgentStore. One statement, and one for every eight tags and skills.
func (v *agents) Insert(ctx context.Context, a registry.Agent) error {
	r, err := agentRowOf(a)
	if err != nil {
		return err
	}
	return v.do(ctx, func(ctx context.Context, c *session) error {
		args := append([]any{r.ID, r.TrustScore, int64(r.CreatedAt)}, r.saved(a)...)
		if _, err := c.exec(ctx, qInsertAgent, args...); err != nil {
			return c.store.wrap(err, "insert agent")
		}
		return insertTerms(ctx, c, a)
	})
}

// Save implements ports.AgentStore. Two statements; when tags or skills changed, one more and one for every eight of
// them.
func (v *agents) Save(ctx context.Context, a registry.Agent) error {
	r, err := agentRowOf(a)
	if err != nil {
		return err
	}
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		var same bool
		if err := c.row(ctx, qSameTerms, []any{r.Tags, r.Skills, r.ID}, &same); err != nil {
			return c.store.wrap(err, "compare terms")
		}
		if _, err := c.exec(ctx, qSaveAgent, append(r.saved(a), r.ID)...); err != nil {
			return c.store.wrap(err, "save agent")
		}
		if same {
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
	var args []any
	for _, tag := range a.AllTags() {
		args = append(args, "tag", tag, a.ID)
	}
	for _, s := range a.Skills {
		args = append(args, "skill", s.ID, a.ID)
	}
	_, err := c.execMulti(ctx, qInsertTerms, args)
	return c.store.wrap(err, "insert terms")
}

// ListByOwner implements ports.AgentReader. One statement.
func (v *agents) ListByOwner(ctx context.Context, userID string, page ports.Page) ([]registry.Agent, int, error) {
	return v.list(ctx, page, []string{"a.created_at DESC", "a.id DESC"}, func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("a.owner_user_id = ?", userID).Where("a.deleted_at IS NULL")
	})
}

// Discover implements ports.AgentReader. One statement.
func (v *agents) Discover(ctx context.Context, q registry.Query, now time.Time) ([]registry.Agent, int, error) {
	order := []string{"a.trust_score DESC", "a.id"}
	switch q.Sort {
	case registry.SortPrice:
		order[0] = "a.price"
	case registry.SortNewest:
		order[0] = "a.created_at DESC"
	case registry.SortRelevance:
		order[0] = relevance(q.Words()) + " DESC"
	case registry.SortTrust:
	}
	page := ports.Page{Limit: q.Limit, Offset: q.Offset}
	return v.list(ctx, page, order, func(s *bun.SelectQuery) *bun.SelectQuery { return v.match(s, q, now) })
}

// match is registry.Query.Match as SQL.
func (v *agents) match(s *bun.SelectQuery, q registry.Query, now time.Time) *bun.SelectQuery {
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
	if len(q.SkillTags) > 0 {
		s = s.Where("a.id IN (SELECT t.agent_id FROM agent_terms AS t WHERE t.kind = 'tag' AND t.term IN (?))", bun.List(q.SkillTags))
	}
	if q.SkillID != "" {
		s = s.Where("a.id IN (SELECT t.agent_id FROM agent_terms AS t WHERE t.kind = 'skill' AND t.term = ?)", q.SkillID)
	}
	degraded, offline := at(now.Add(-registry.DegradedAfter)), at(now.Add(-registry.OfflineAfter)) // heartbeats up to then are too old
	switch q.Status {
	case registry.Online:
		s = s.Where("a.status = 'online' AND (a.last_heartbeat IS NULL OR a.last_heartbeat > ?)", degraded)
	case registry.Degraded:
		s = s.Where("(a.last_heartbeat IS NULL OR a.last_heartbeat > ?) AND (a.status = 'degraded' OR a.status = 'online' AND a.last_heartbeat <= ?)", offline, degraded)
	case registry.Offline:
		s = s.Where("(a.status = 'offline' OR a.last_heartbeat <= ?)", offline)
	}
	words := q.Words()
	for _, w := range words {
		s = s.Where("(" + has("name", w) + " OR " + has("skills", w) + " OR " + has("description", w) + ")")
	}
	return s
}

// has is true where a word begins with w. A word has letters and digits only, so nothing in it means anything to LIKE
// or to a literal.
func has(field, w string) string { return "a.search_" + field + " LIKE '% " + w + "%'" }

// relevance is registry.SearchText.Relevance as SQL.
func relevance(words []string) string {
	var terms []string
	for _, w := range words {
		for _, f := range []struct {
			field  string
			weight string
		}{{"name", "4"}, {"skills", "2"}, {"description", "1"}} {
			terms = append(terms, "CASE WHEN "+has(f.field, w)+" THEN "+f.weight+" ELSE 0 END")
		}
	}
	return "(" + strings.Join(terms, " + ") + ")"
}

// list reads a stretch of agents and how many there are, in one statement: the ids of the stretch and the number come
// from an index, and only the rows of the stretch are read.
func (v *agents) list(ctx context.Context, page ports.Page, order []string, where func(*bun.SelectQuery) *bun.SelectQuery) ([]registry.Agent, int, error) {
	var rows []struct {
		agentRow `bun:",extend"`
		Total    int `bun:"total"`
	}
	total := 0
	err := v.do(ctx, func(ctx context.Context, c *session) error {
		rows, total = nil, 0
		from := func() *bun.SelectQuery { return where(c.bun.NewSelect().TableExpr("agents AS a")) }
		count := from().ColumnExpr("count(*)")
		ids := from().ColumnExpr("a.id")
		q := c.bun.NewSelect().TableExpr("agents AS a").ColumnExpr(agentColumns).ColumnExpr("(?) AS total", count)
		for _, o := range order {
			ids, q = ids.OrderExpr(o), q.OrderExpr(o)
		}
		q = q.Where("a.id IN (SELECT page.id FROM (?) AS page)", ids.Limit(int64(page.Limit)).Offset(int64(page.Offset)))
		if err := q.Scan(ctx, &rows); err != nil {
			return c.store.wrap(err, "list agents")
		}
		if len(rows) > 0 {
			total = rows[0].Total
			return nil
		}
		if page.Offset == 0 {
			return nil
		}
		return c.store.wrap(count.Scan(ctx, &total), "count agents") // beyond the end
	})
	if err != nil {
		return nil, 0, err
	}
	out := make([]registry.Agent, len(rows))
	for i, r := range rows {
		if out[i], err = r.domain(); err != nil {
			return nil, 0, err
		}
	}
	return out, total, nil
}
