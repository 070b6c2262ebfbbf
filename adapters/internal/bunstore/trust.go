package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/domain/trust"
	"github.com/nexus-protocol/nexus/ports"
)

type trusts struct{ access }

var _ ports.TrustStore = (*trusts)(nil)

const profileColumns = `agent_id, since, updated_at, events, start, damping, reliability_sum, reliability_weight, reliability_fresh_sum, reliability_fresh_weight,
	speed_sum, speed_weight, speed_fresh_sum, speed_fresh_weight, quality_sum, quality_weight, quality_fresh_sum, quality_fresh_weight,
	completed, failed, timed_out, ratings, stars, score, bound, reliability, speed, quality, tenure,
	latency_first, latency_second, latency_sum, latency_weight, latency_ms`

const profileColumnCount = 34

// savedPair is what changes of a pair.
const savedPair = `owner_user_id, tasks, paid, full_weight, counted, updated_at`

// overwritten is the columns of an upsert that take the new values.
func overwritten(columns string) string {
	var out []string
	for c := range strings.SplitSeq(columns, ",") {
		c = strings.TrimSpace(c)
		out = append(out, c+" = excluded."+c)
	}
	return strings.Join(out, ", ")
}

var (
	qProfile = hot(`SELECT ` + profileColumns + ` FROM trust_profiles WHERE agent_id = ?`).
			inBulk(reads(`SELECT u.n, `+columnsOf("p", profileColumns)+` FROM `+rowsOf("t")+` JOIN trust_profiles AS p ON p.agent_id = u.c0`, "t"))
	qGivenUp = hot(`SELECT ` + profileColumns + ` FROM trust_profiles WHERE agent_id IN (SELECT id FROM agents WHERE owner_user_id = ? AND deleted_at IS NOT NULL)
		ORDER BY score, agent_id LIMIT 1`)
	qDealings = hot(`SELECT COALESCE(p.owner_user_id, ''), COALESCE(p.tasks, 0), COALESCE(p.paid, 0), COALESCE(p.full_weight, 0), COALESCE(p.counted, 0), p.updated_at,
		COALESCE(r.standing, 0), COALESCE(r.seen, 0), COALESCE(r.agreed, 0), COALESCE(r.disagreed, 0)
		FROM (SELECT 1 AS one) AS o LEFT JOIN trust_pairs AS p ON p.agent_id = ? AND p.user_id = ? LEFT JOIN trust_raters AS r ON r.user_id = ?`).
		inBulk(reads(`SELECT u.n, COALESCE(p.owner_user_id, ''), COALESCE(p.tasks, 0), COALESCE(p.paid, 0), COALESCE(p.full_weight, 0), COALESCE(p.counted, 0), p.updated_at,
		COALESCE(r.standing, 0), COALESCE(r.seen, 0), COALESCE(r.agreed, 0), COALESCE(r.disagreed, 0)
		FROM `+rowsOf("ttt")+` LEFT JOIN trust_pairs AS p ON p.agent_id = u.c0 AND p.user_id = u.c1 LEFT JOIN trust_raters AS r ON r.user_id = u.c2`, "ttt"))
	// The agent's row stands for its evidence, of which there may be none yet.
	qLockEvidence = hot(`SELECT 1 FROM agents WHERE id = ?{lock}`).ranked(rankAgent, 0).locks("evidence").
			inBulk(reads(`SELECT u.n, 1 FROM `+rowsOf("t")+` JOIN agents AS a ON a.id = u.c0 ORDER BY u.n{lock} OF a`, "t"))
	qSavePair = hot(`INSERT INTO trust_pairs (agent_id, user_id, ` + savedPair + `) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (agent_id, user_id) DO UPDATE SET ` + overwritten(savedPair)).
		inBulk(overwrites(`INSERT INTO trust_pairs (agent_id, user_id, `+savedPair+`)`, "tttffffb", `ON CONFLICT (agent_id, user_id) DO UPDATE SET `+overwritten(savedPair), 0, 1))
	qSaveProfile = hot(`INSERT INTO trust_profiles (`+profileColumns+`) VALUES (?`+strings.Repeat(", ?", profileColumnCount-1)+`)
		ON CONFLICT (agent_id) DO UPDATE SET `+overwritten(strings.TrimPrefix(profileColumns, "agent_id, "))).ranked(unranked, 0).frees("evidence").
		inBulk(overwrites(`INSERT INTO trust_profiles (`+profileColumns+`)`, "tbbbff"+"ffffffffffff"+"bbbbb"+"ffffff"+"ffffb", `ON CONFLICT (agent_id) DO UPDATE SET `+overwritten(strings.TrimPrefix(profileColumns, "agent_id, ")), 0))
	qInsertEvidence = hot(`INSERT INTO trust_events (id, agent_id, seq, type, score, weight, speed, damping, score_before, score_after, task_id, reason, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`).
		inBulk(inserts(`INSERT INTO trust_events (id, agent_id, seq, type, score, weight, speed, damping, score_before, score_after, task_id, reason, created_at)`, "ttbtffffffttb", `ON CONFLICT DO NOTHING`))
	qScore = hot(`UPDATE agents SET trust_score = ?, trust_bound = ?, latency_ms = ? WHERE id = ? AND (trust_score <> ? OR trust_bound <> ? OR COALESCE(latency_ms, 0) <> ?)`).
		inBulk(changes(`UPDATE agents AS a SET trust_score = u.c0, trust_bound = u.c1, latency_ms = u.c2 FROM `+rowsOf("ffBtffb")+`
		WHERE a.id = u.c3 AND (a.trust_score <> u.c0 OR a.trust_bound <> u.c1 OR COALESCE(a.latency_ms, 0) <> u.c6)`, "ffBtffb", false, 3))
	qJudge = hot(`INSERT INTO trust_raters (user_id, standing, seen, agreed, disagreed) VALUES (?, 0, 0, ?, ?)
		ON CONFLICT (user_id) DO UPDATE SET agreed = trust_raters.agreed + excluded.agreed, disagreed = trust_raters.disagreed + excluded.disagreed`).ranked(rankAccess, 0)
	qStand = hot(`INSERT INTO trust_raters (user_id, standing, seen, agreed, disagreed) VALUES (?, ?, 1, 0, 0)
		ON CONFLICT (user_id) DO UPDATE SET standing = excluded.standing, seen = 1`).ranked(rankAccess, 0)
	qPayments = hot(`SELECT agent_id, user_id, owner_user_id, paid, full_weight, counted FROM trust_pairs WHERE (agent_id, user_id) > (?, ?) ORDER BY agent_id, user_id LIMIT ?`)
	qPace     = hot(`SELECT weights, updated_at FROM trust_paces WHERE skill_id = ?`)
	qLockPace = hot(`INSERT INTO trust_paces (skill_id, weights, updated_at) VALUES (?, '', 0)
		ON CONFLICT (skill_id) DO UPDATE SET skill_id = excluded.skill_id RETURNING weights, updated_at`).ranked(rankAccess, 0).locks("pace")
	qSavePace = hot(`UPDATE trust_paces SET weights = ?, updated_at = ? WHERE skill_id = ?`)
	qDamped   = hot(`SELECT agent_id, damping FROM trust_profiles WHERE damping < 1 AND agent_id > ? ORDER BY agent_id LIMIT ?`)
	qScoreAt  = hot(`SELECT score_after FROM trust_events WHERE agent_id = ? AND created_at < ? ORDER BY created_at DESC, id DESC LIMIT 1`)
)

// Profile implements ports.TrustReader. One statement.
func (v *trusts) Profile(ctx context.Context, agentID string) (p trust.Profile, ok bool, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) (err error) {
		if c.memo != nil {
			var found bool
			if p, ok, found = c.memo.profile(agentID); found {
				return nil
			}
		}
		err = readProfile(ctx, c, agentID, &p)
		ok = err == nil
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return trust.Profile{}, false, nil
	}
	return p, ok, err
}

// GivenUp implements ports.TrustReader. One statement.
func (v *trusts) GivenUp(ctx context.Context, ownerUserID string) (p trust.Profile, ok bool, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		k := profileInto(qGivenUp, ownerUserID, &p)
		err := c.send(ctx, k)
		ok = k.rows > 0
		return c.store.wrap(err, "read the profile of a deleted agent")
	})
	return p, ok && err == nil, err
}

// lockEvidence keeps an agent's evidence from changing, where a statement does that.
func lockEvidence(c *session, agentID string) []*call {
	if c.store.cfg.Dialect.Lock == "" {
		return nil
	}
	q := qLockEvidence
	if c.memo != nil { // which sees to it among the units of the transaction
		q.room = ""
	}
	return []*call{q.first([]any{agentID}, new(int))}
}

// dealings reads what a requester and an agent had to do with each other.
func dealings(agentID, requesterID string, d *trust.Dealings) *call {
	d.UserID, d.Rater.UserID = requesterID, requesterID
	return &call{statement: qDealings, args: []any{agentID, requesterID, requesterID}, visit: func(scan func(...any) error) error {
		var at sql.NullInt64
		var seen int
		err := scan(&d.OwnerUserID, &d.Pair.Tasks, &d.Pair.Paid, &d.Pair.Full, &d.Pair.Counted, &at, &d.Rater.Standing, &seen, &d.Rater.Agreed, &d.Rater.Disagreed)
		if at.Valid {
			d.Pair.UpdatedAt = micros(at.Int64).time()
		}
		d.Rater.Seen = seen != 0
		return err
	}}
}

func readProfile(ctx context.Context, c *session, agentID string, p *trust.Profile, others ...*call) error {
	k := profileInto(qProfile, agentID, p)
	err := c.send(ctx, append(others, k)...)
	if err == nil && k.rows == 0 {
		err = sql.ErrNoRows
	}
	return c.store.wrap(err, "read trust profile")
}

// profileInto reads one profile.
func profileInto(q statement, key string, p *trust.Profile) *call {
	var since, updated micros
	var usual int64
	dest := []any{
		&p.AgentID, &since, &updated, &p.Events, &p.Start, &p.Damping, &p.Reliability.Sum, &p.Reliability.Weight, &p.Reliability.FreshSum, &p.Reliability.FreshWeight,
		&p.Speed.Sum, &p.Speed.Weight, &p.Speed.FreshSum, &p.Speed.FreshWeight, &p.Quality.Sum, &p.Quality.Weight, &p.Quality.FreshSum, &p.Quality.FreshWeight,
		&p.Tasks.Completed, &p.Tasks.Failed, &p.Tasks.TimedOut, &p.Ratings.Count, &p.Ratings.Sum, &p.Score, &p.Bound,
		&p.Components.Reliability, &p.Components.Speed, &p.Components.Quality, &p.Components.Tenure,
		&p.Latency.First, &p.Latency.Second, &p.Latency.Sum, &p.Latency.Weight, &usual,
	}
	return &call{statement: q, args: []any{key}, visit: func(scan func(...any) error) error {
		err := scan(dest...)
		p.Since, p.UpdatedAt = since.time(), updated.time()
		p.Latency.Usual = time.Duration(usual) * time.Millisecond
		return err
	}}
}

// Lock implements ports.TrustStore. Two statements, and one for the lock where there is one, sent together.
func (v *trusts) Lock(ctx context.Context, agentID, requesterID string) (p trust.Profile, d trust.Dealings, ok bool, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		d = trust.Dealings{}
		if c.memo != nil {
			p, d, ok, err = c.memo.lock(ctx, c, agentID, requesterID)
			return err
		}
		others := lockEvidence(c, agentID)
		if requesterID != "" {
			others = append(others, dealings(agentID, requesterID, &d))
		}
		err = readProfile(ctx, c, agentID, &p, others...)
		ok = err == nil
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return trust.Profile{}, d, false, nil
	}
	return p, d, ok, err
}

func saveProfile(p trust.Profile) *call {
	return &call{statement: qSaveProfile, args: []any{
		p.AgentID, int64(at(p.Since)), int64(at(p.UpdatedAt)), p.Events, p.Start, p.Damping,
		p.Reliability.Sum, p.Reliability.Weight, p.Reliability.FreshSum, p.Reliability.FreshWeight,
		p.Speed.Sum, p.Speed.Weight, p.Speed.FreshSum, p.Speed.FreshWeight, p.Quality.Sum, p.Quality.Weight, p.Quality.FreshSum, p.Quality.FreshWeight,
		p.Tasks.Completed, p.Tasks.Failed, p.Tasks.TimedOut, p.Ratings.Count, p.Ratings.Sum, p.Score, p.Bound,
		p.Components.Reliability, p.Components.Speed, p.Components.Quality, p.Components.Tenure,
		p.Latency.First, p.Latency.Second, p.Latency.Sum, p.Latency.Weight, p.Latency.Usual.Milliseconds(),
	}}
}

func saveScore(p trust.Profile) *call {
	usual := p.Latency.Usual
	return &call{statement: qScore, args: []any{p.Score, p.Bound, maybeMillis(usual), p.AgentID, p.Score, p.Bound, usual.Milliseconds()}}
}

func savePair(agentID, userID, ownerUserID string, p trust.Pair) *call {
	return &call{statement: qSavePair, args: []any{agentID, userID, ownerUserID, p.Tasks, p.Paid, p.Full, p.Counted, int64(at(p.UpdatedAt))}}
}

// Save implements ports.TrustStore. Four statements, sent together but for a rating, which takes one more.
func (v *trusts) Save(ctx context.Context, p trust.Profile, e trust.Event, d trust.Dealings) error {
	return v.do(ctx, func(ctx context.Context, c *session) error {
		event := &call{statement: qInsertEvidence, args: []any{
			e.ID, e.AgentID, e.Seq, string(e.Type), e.Score, e.Weight, e.Speed, e.Damping, e.ScoreBefore, e.ScoreAfter, e.TaskID, e.Reason, int64(at(e.CreatedAt)),
		}}
		var left []*call                    // of what is to be written now
		if e.Type == trust.RatingReceived { // which people repeat: find out before anything is changed
			if err := c.send(ctx, event); err != nil {
				return c.store.wrap(err, "insert trust event")
			}
			if event.rows == 0 {
				return trust.AlreadyRated(e.TaskID)
			}
		} else {
			left = append(left, event)
		}
		check := func() error {
			if event.rows == 0 {
				return fmt.Errorf("trust event %s of task %s: %w", e.Type, e.TaskID, ports.ErrDuplicate)
			}
			return nil
		}
		var err error
		if c.memo != nil {
			c.memo.settle(c, p, d)
			err = c.later(ctx, check, left...)
		} else {
			if d.UserID != "" {
				left = append(left, savePair(p.AgentID, d.UserID, d.OwnerUserID, d.Pair))
			}
			if err = c.send(ctx, append(left, saveProfile(p), saveScore(p))...); err == nil {
				err = check()
			}
		}
		if err != nil {
			return c.store.wrap(err, "save trust profile")
		}
		if d.UserID == "" || e.Type != trust.RatingReceived {
			return nil
		}
		_, err = c.exec(ctx, qJudge, d.UserID, d.Rater.Agreed, d.Rater.Disagreed)
		return c.store.wrap(err, "save rater")
	})
}

// Settle implements ports.TrustStore. Two statements, sent together.
func (v *trusts) Settle(ctx context.Context, p trust.Profile) error {
	return v.do(ctx, func(ctx context.Context, c *session) error {
		if c.memo != nil {
			c.memo.settle(c, p, trust.Dealings{})
			return nil
		}
		return c.store.wrap(c.send(ctx, saveProfile(p), saveScore(p)), "save trust profile")
	})
}

// Stand implements ports.TrustStore. One statement a user, sent together.
func (v *trusts) Stand(ctx context.Context, standing map[string]float64) error {
	var calls []*call
	for _, user := range slices.Sorted(maps.Keys(standing)) { // all lock them in one order
		calls = append(calls, &call{statement: qStand, args: []any{user, standing[user]}})
	}
	return v.do(ctx, func(ctx context.Context, c *session) error {
		return c.store.wrap(c.send(ctx, calls...), "save standing")
	})
}

// Pace implements ports.TrustReader. One statement.
func (v *trusts) Pace(ctx context.Context, skillID string) (trust.Pace, error) {
	p, err := v.pace(ctx, qPace, skillID)
	if errors.Is(err, sql.ErrNoRows) {
		return trust.Pace{}, nil
	}
	return p, err
}

// LockPace implements ports.TrustStore. One statement.
func (v *trusts) LockPace(ctx context.Context, skillID string) (trust.Pace, error) {
	return v.pace(ctx, qLockPace, skillID)
}

func (v *trusts) pace(ctx context.Context, q statement, skillID string) (p trust.Pace, err error) {
	var weights string
	var updated micros
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		return c.store.wrap(c.row(ctx, q, []any{skillID}, &weights, &updated), "read the pace of a skill")
	})
	if err != nil || weights == "" {
		return trust.Pace{}, err
	}
	p.UpdatedAt = updated.time()
	return p, unpack(weights, &p.Weights)
}

// SavePace implements ports.TrustStore. One statement.
func (v *trusts) SavePace(ctx context.Context, skillID string, p trust.Pace) error {
	weights, err := pack(p.Weights)
	if err != nil {
		return err
	}
	return v.do(ctx, func(ctx context.Context, c *session) error {
		_, err := c.exec(ctx, qSavePace, weights, int64(at(p.UpdatedAt)), skillID)
		return c.store.wrap(err, "save the pace of a skill")
	})
}

// Payments implements ports.TrustReader. One statement.
func (v *trusts) Payments(ctx context.Context, afterAgentID, afterUserID string, limit int) ([]trust.Payment, error) {
	var out []trust.Payment
	err := v.do(ctx, func(ctx context.Context, c *session) error {
		out = nil
		return c.store.wrap(c.each(ctx, qPayments, []any{afterAgentID, afterUserID, limit}, func(scan func(...any) error) error {
			var p trust.Payment
			err := scan(&p.AgentID, &p.FromUserID, &p.ToUserID, &p.Amount, &p.Full, &p.Counted)
			out = append(out, p)
			return err
		}), "read payments")
	})
	return out, err
}

// Damped implements ports.TrustReader. One statement, by an index of the damped ones.
func (v *trusts) Damped(ctx context.Context, afterAgentID string, limit int) ([]trust.Damping, error) {
	var out []trust.Damping
	err := v.do(ctx, func(ctx context.Context, c *session) error {
		out = nil
		return c.store.wrap(c.each(ctx, qDamped, []any{afterAgentID, limit}, func(scan func(...any) error) error {
			var d trust.Damping
			err := scan(&d.AgentID, &d.Damping)
			out = append(out, d)
			return err
		}), "read damped agents")
	})
	return out, err
}

// ScoresAt implements ports.TrustReader. One statement a moment, along the index.
func (v *trusts) ScoresAt(ctx context.Context, agentID string, moments []time.Time) ([]*float64, error) {
	out := make([]*float64, len(moments))
	err := v.do(ctx, func(ctx context.Context, c *session) error {
		var calls []*call
		for i, m := range moments {
			calls = append(calls, &call{statement: qScoreAt, args: []any{agentID, int64(at(m))}, visit: func(scan func(...any) error) error {
				out[i] = new(float64)
				return scan(out[i])
			}})
		}
		return c.store.wrap(c.send(ctx, calls...), "read scores")
	})
	return out, err
}

// Rating implements ports.TrustReader. One statement, by the index that lets a task be rated once.
func (v *trusts) Rating(ctx context.Context, taskID string) (trust.Event, bool, error) {
	var rows []trustEventRow
	err := v.solo(ctx, func(ctx context.Context, c *session) error {
		rows = nil
		q := c.bun.NewSelect().Model(&rows).Where("e.task_id = ?", taskID).Where("e.task_id <> ''").Where("e.type = ?", trust.RatingReceived)
		return c.store.wrap(q.Scan(ctx), "read the rating of a task")
	})
	if err != nil || len(rows) == 0 {
		return trust.Event{}, false, err
	}
	return rows[0].domain(), true, nil
}

// Events implements ports.TrustReader. One statement.
func (v *trusts) Events(ctx context.Context, agentID string, page ports.Page) ([]trust.Event, int, error) {
	return v.events(ctx, agentID, nil, page)
}

// EventsAfter implements ports.TrustReader. One statement, two at the end.
func (v *trusts) EventsAfter(ctx context.Context, agentID string, after trust.Place, limit int) ([]trust.Event, int, error) {
	return v.events(ctx, agentID, &after, ports.Page{Limit: limit})
}

func (v *trusts) events(ctx context.Context, agentID string, after *trust.Place, page ports.Page) ([]trust.Event, int, error) {
	var rows []struct {
		trustEventRow `bun:",extend"`
		Total         int `bun:"total"`
	}
	total := 0
	err := v.solo(ctx, func(ctx context.Context, c *session) error {
		rows, total = nil, 0
		count := c.bun.NewSelect().TableExpr("trust_events AS e").ColumnExpr("count(*)").Where("e.agent_id = ?", agentID)
		q := c.bun.NewSelect().TableExpr("trust_events AS e").ColumnExpr("e.*").ColumnExpr("(?) AS total", count).Where("e.agent_id = ?", agentID).
			OrderExpr("e.created_at DESC, e.id DESC").Limit(int64(page.Limit)).Offset(int64(page.Offset))
		if after != nil {
			q = q.Where("(e.created_at, e.id) < (?, ?)", after.At, after.ID)
		}
		if err := q.Scan(ctx, &rows); err != nil {
			return c.store.wrap(err, "list trust events")
		}
		if len(rows) > 0 {
			total = rows[0].Total
			return nil
		}
		if page.Offset == 0 && after == nil {
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
