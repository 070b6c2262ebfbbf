package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/nexus-protocol/nexus/domain/trust"
	"github.com/nexus-protocol/nexus/ports"
)

type trusts struct{ access }

var _ ports.TrustStore = (*trusts)(nil)

const profileColumns = `agent_id, since, updated_at, reliability_sum, reliability_weight, speed_sum, speed_weight, quality_sum, quality_weight,
	completed, failed, timed_out, ratings, stars, score, reliability, speed, quality, tenure`

var (
	qProfile = hot(`SELECT ` + profileColumns + ` FROM trust_profiles WHERE agent_id = ?`)
	// The agent's row stands for its evidence, of which there may be none yet.
	qLockEvidence = hot(`SELECT 1 FROM agents WHERE id = ?{lock}`).ranked(rankAgent, 0).locks("evidence")
	qSaveProfile  = hot(`INSERT INTO trust_profiles (`+profileColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (agent_id) DO UPDATE SET since = excluded.since, updated_at = excluded.updated_at,
		reliability_sum = excluded.reliability_sum, reliability_weight = excluded.reliability_weight, speed_sum = excluded.speed_sum,
		speed_weight = excluded.speed_weight, quality_sum = excluded.quality_sum, quality_weight = excluded.quality_weight,
		completed = excluded.completed, failed = excluded.failed, timed_out = excluded.timed_out, ratings = excluded.ratings, stars = excluded.stars,
		score = excluded.score, reliability = excluded.reliability, speed = excluded.speed, quality = excluded.quality, tenure = excluded.tenure`).ranked(unranked, 0).frees("evidence")
	qInsertEvidence = hot(`INSERT INTO trust_events (id, agent_id, type, score, score_before, score_after, task_id, reason, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`)
	qScore = hot(`UPDATE agents SET trust_score = ? WHERE id = ? AND trust_score <> ?`)
)

// Profile implements ports.TrustReader. One statement.
func (v *trusts) Profile(ctx context.Context, agentID string) (p trust.Profile, ok bool, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) error { return readProfile(ctx, c, agentID, &p) })
	if errors.Is(err, sql.ErrNoRows) {
		return trust.Profile{}, false, nil
	}
	return p, err == nil, err
}

func readProfile(ctx context.Context, c *session, agentID string, p *trust.Profile, before ...*call) error {
	var since, updated micros
	k := qProfile.first([]any{agentID}, &p.AgentID, &since, &updated, &p.Reliability.Sum, &p.Reliability.Weight, &p.Speed.Sum, &p.Speed.Weight,
		&p.Quality.Sum, &p.Quality.Weight, &p.Tasks.Completed, &p.Tasks.Failed, &p.Tasks.TimedOut, &p.Ratings.Count, &p.Ratings.Sum, &p.Score,
		&p.Components.Reliability, &p.Components.Speed, &p.Components.Quality, &p.Components.Tenure)
	err := c.send(ctx, append(before, k)...)
	if err == nil && k.rows == 0 {
		err = sql.ErrNoRows
	}
	p.Since, p.UpdatedAt = since.time(), updated.time()
	return c.store.wrap(err, "read trust profile")
}

// Lock implements ports.TrustStore. One statement, and one for the lock where there is one, sent together.
func (v *trusts) Lock(ctx context.Context, agentID string) (p trust.Profile, ok bool, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		if c.store.cfg.Dialect.Lock == "" {
			return readProfile(ctx, c, agentID, &p)
		}
		var one int
		return readProfile(ctx, c, agentID, &p, qLockEvidence.first([]any{agentID}, &one))
	})
	if errors.Is(err, sql.ErrNoRows) {
		return trust.Profile{}, false, nil
	}
	return p, err == nil, err
}

// Save implements ports.TrustStore. Three statements, sent together but for a rating.
func (v *trusts) Save(ctx context.Context, p trust.Profile, e trust.Event) error {
	return v.do(ctx, func(ctx context.Context, c *session) error {
		event := &call{statement: qInsertEvidence, args: []any{
			e.ID, e.AgentID, string(e.Type), e.Score, e.ScoreBefore, e.ScoreAfter, e.TaskID, e.Reason, int64(at(e.CreatedAt)),
		}}
		saved := &call{statement: qSaveProfile, args: []any{
			p.AgentID, int64(at(p.Since)), int64(at(p.UpdatedAt)), p.Reliability.Sum, p.Reliability.Weight, p.Speed.Sum, p.Speed.Weight,
			p.Quality.Sum, p.Quality.Weight, p.Tasks.Completed, p.Tasks.Failed, p.Tasks.TimedOut, p.Ratings.Count, p.Ratings.Sum, p.Score,
			p.Components.Reliability, p.Components.Speed, p.Components.Quality, p.Components.Tenure,
		}}
		calls := []*call{event, saved, {statement: qScore, args: []any{p.Score, p.AgentID, p.Score}}}
		if e.Type == trust.RatingReceived { // which people repeat: find out before anything is changed
			if err := c.send(ctx, event); err != nil {
				return c.store.wrap(err, "insert trust event")
			}
			if event.rows == 0 {
				return trust.AlreadyRated(e.TaskID)
			}
			calls = calls[1:]
		}
		if err := c.send(ctx, calls...); err != nil {
			return c.store.wrap(err, "save trust profile")
		}
		if event.rows == 0 {
			return fmt.Errorf("trust event %s of task %s: %w", e.Type, e.TaskID, ports.ErrDuplicate)
		}
		return nil
	})
}

// Events implements ports.TrustReader. One statement.
func (v *trusts) Events(ctx context.Context, agentID string, page ports.Page) ([]trust.Event, int, error) {
	var rows []struct {
		trustEventRow `bun:",extend"`
		Total         int `bun:"total"`
	}
	total := 0
	err := v.solo(ctx, func(ctx context.Context, c *session) error {
		rows, total = nil, 0
		count := c.bun.NewSelect().TableExpr("trust_events AS e").ColumnExpr("count(*)").Where("e.agent_id = ?", agentID)
		err := c.bun.NewSelect().TableExpr("trust_events AS e").ColumnExpr("e.*").ColumnExpr("(?) AS total", count).Where("e.agent_id = ?", agentID).
			OrderExpr("e.created_at DESC, e.id DESC").Limit(int64(page.Limit)).Offset(int64(page.Offset)).Scan(ctx, &rows)
		if err != nil {
			return c.store.wrap(err, "list trust events")
		}
		if len(rows) > 0 {
			total = rows[0].Total
			return nil
		}
		if page.Offset == 0 {
			return nil
		}
		return c.store.wrap(count.Scan(ctx, &total), "count trust events") // beyond the end
	})
	if err != nil {
		return nil, 0, err
	}
	out := make([]trust.Event, len(rows))
	for i, r := range rows {
		out[i] = r.domain()
	}
	return out, total, nil
}
