package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/nexus-protocol/nexus/ports"
)

type jobs struct{ access }

var _ ports.JobStore = (*jobs)(nil)

// dueOf is the due jobs of one priority, along the index.
func dueOf(priority string) string {
	return `SELECT * FROM (SELECT id, run_at, priority FROM jobs WHERE priority = ` + priority + ` AND run_at <= ? AND (lease_owner = '' OR lease_until <= ?)
		ORDER BY run_at, id LIMIT ?) AS p` + priority
}

var (
	qEnqueue = hot(`INSERT INTO jobs (id, kind, subject, run_at, priority, attempt, lease_owner, lease_until, trace) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET run_at = CASE WHEN excluded.run_at < jobs.run_at THEN excluded.run_at ELSE jobs.run_at END`).ranked(rankDone, 0).ofJobs().
		inBulk(&bulk{statement: hot(`INSERT INTO jobs (id, kind, subject, run_at, priority, attempt, lease_owner, lease_until, trace) SELECT * FROM ` + arrays("tttbbbtbt") + `
		ON CONFLICT (id) DO UPDATE SET run_at = CASE WHEN excluded.run_at < jobs.run_at THEN excluded.run_at ELSE jobs.run_at END`), kinds: "tttbbbtbt", key: []int{0}})
	qClaim = hot(`UPDATE jobs SET attempt = attempt + 1, lease_owner = ?, lease_until = ?
		WHERE id = ? AND run_at <= ? AND (lease_owner = '' OR lease_until <= ?) RETURNING kind, subject, run_at, priority, attempt, trace`).ranked(rankJob, 2).ofJobs().
		inBulk(fenced(`UPDATE jobs AS j SET attempt = j.attempt + 1, lease_owner = u.c0, lease_until = u.c1 FROM `+rowsOf("tbtbb")+`
		WHERE j.id = u.c2 AND j.run_at <= u.c3 AND (j.lease_owner = '' OR j.lease_until <= u.c4) RETURNING u.n, j.kind, j.subject, j.run_at, j.priority, j.attempt, j.trace`, "tbtbb", 2))
	qFinish = hot(`DELETE FROM jobs WHERE id = ? AND lease_owner = ? AND attempt = ?`).ranked(rankDone, 0).ofJobs().
		inBulk(fenced(`DELETE FROM jobs AS j USING `+rowsOf("ttb")+` WHERE j.id = u.c0 AND j.lease_owner = u.c1 AND j.attempt = u.c2 RETURNING u.n`, "ttb", 0))
	qRetry = hot(`UPDATE jobs SET run_at = ?, lease_owner = '', lease_until = 0 WHERE id = ? AND lease_owner = ? AND attempt = ?`).ranked(rankDone, 1).ofJobs().
		inBulk(fenced(`UPDATE jobs AS j SET run_at = u.c0, lease_owner = '', lease_until = 0 FROM `+rowsOf("bttb")+` WHERE j.id = u.c1 AND j.lease_owner = u.c2 AND j.attempt = u.c3 RETURNING u.n`, "bttb", 1))
	// A job that is locked is just being finished. In its turn it is last, as those that finish them are.
	qExtend  = hot(`UPDATE jobs SET lease_until = ? WHERE id IN (SELECT id FROM jobs WHERE lease_owner = ? AND lease_owner <> ''{skip})`).ranked(rankDone, 1).ofJobs()
	qRelease = hot(`UPDATE jobs SET lease_owner = '', lease_until = 0 WHERE lease_owner <> '' AND lease_owner <> ?`).ranked(rankJob, 0).ofJobs()
	// Each priority by itself, so that those that are not due yet are never looked at.
	qDue       = hot(dueOf("0") + ` UNION ALL ` + dueOf("1") + ` UNION ALL ` + dueOf("2") + ` ORDER BY priority, run_at, id LIMIT ?`).ofJobs()
	qCountJobs = hot(`SELECT count(*) FROM jobs`).ofJobs()
)

// Due implements ports.JobReader. One statement.
func (v *jobs) Due(ctx context.Context, now time.Time, limit int) ([]ports.Ref, error) {
	var out []ports.Ref
	err := v.do(ctx, func(ctx context.Context, c *session) error {
		out = nil
		t := int64(at(now))
		err := c.each(ctx, qDue, []any{t, t, limit, t, t, limit, t, t, limit, limit}, func(scan func(...any) error) error {
			var r ports.Ref
			var runAt micros
			if err := scan(&r.ID, &runAt, &r.Priority); err != nil {
				return err
			}
			r.RunAt = runAt.time()
			out = append(out, r)
			return nil
		})
		return c.store.wrap(err, "find due jobs")
	})
	return out, err
}

// Count implements ports.JobReader. One statement.
func (v *jobs) Count(ctx context.Context) (n int, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		return c.store.wrap(c.row(ctx, qCountJobs, nil, &n), "count jobs")
	})
	return n, err
}

// Enqueue implements ports.JobStore. One statement.
func (v *jobs) Enqueue(ctx context.Context, j ports.Job) error {
	return v.do(ctx, func(ctx context.Context, c *session) error {
		added := &call{statement: qEnqueue, args: []any{
			j.ID, j.Kind, j.Subject, int64(at(j.RunAt)), int(j.Priority), j.Attempt, j.Lease.Owner, int64(at(j.Lease.Until)), j.Trace,
		}}
		err := c.later(ctx, func() error { return nil }, added)
		return c.store.wrap(err, "enqueue")
	})
}

// Claim implements ports.JobStore. One statement.
func (v *jobs) Claim(ctx context.Context, id string, lease ports.Lease, now time.Time) (ports.Job, error) {
	j := ports.Job{ID: id, Lease: ports.Lease{Owner: lease.Owner, Until: at(lease.Until).time()}}
	var runAt micros
	err := v.do(ctx, func(ctx context.Context, c *session) error {
		t := int64(at(now))
		err := c.row(ctx, qClaim, []any{lease.Owner, int64(at(lease.Until)), id, t, t}, &j.Kind, &j.Subject, &runAt, &j.Priority, &j.Attempt, &j.Trace)
		return c.store.wrap(err, "claim job")
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return ports.Job{}, ports.ErrLeaseLost
	case err != nil:
		return ports.Job{}, err
	}
	j.RunAt = runAt.time()
	return j, nil
}

// Finish implements ports.JobStore. One statement.
func (v *jobs) Finish(ctx context.Context, claimed ports.Job) error {
	return v.fenced(ctx, claimed, qFinish, claimed.ID, claimed.Lease.Owner, claimed.Attempt)
}

// Retry implements ports.JobStore. One statement.
func (v *jobs) Retry(ctx context.Context, claimed ports.Job, runAt time.Time) error {
	return v.fenced(ctx, claimed, qRetry, int64(at(runAt)), claimed.ID, claimed.Lease.Owner, claimed.Attempt)
}

func (v *jobs) fenced(ctx context.Context, claimed ports.Job, q statement, args ...any) error {
	if claimed.Lease.Owner == "" { // was never claimed
		return ports.ErrLeaseLost
	}
	return v.do(ctx, func(ctx context.Context, c *session) error {
		changed := &call{statement: q, args: args}
		err := c.later(ctx, func() error {
			if changed.rows == 0 {
				return ports.ErrLeaseLost
			}
			return nil
		}, changed)
		return c.store.wrap(err, "change job")
	})
}

// Extend implements ports.JobStore. One statement.
func (v *jobs) Extend(ctx context.Context, owner string, until time.Time) error {
	_, err := v.change(ctx, qExtend, int64(at(until)), owner)
	return err
}

// ReleaseOthers implements ports.JobStore. One statement.
func (v *jobs) ReleaseOthers(ctx context.Context, owner string) (int, error) {
	n, err := v.change(ctx, qRelease, owner)
	return int(n), err
}

func (v *jobs) change(ctx context.Context, q statement, args ...any) (n int64, err error) {
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		n, err = c.exec(ctx, q, args...)
		return c.store.wrap(err, "change job")
	})
	return n, err
}
