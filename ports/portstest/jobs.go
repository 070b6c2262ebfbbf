package portstest

import (
	"context"
	"time"

	"github.com/nexus-protocol/nexus/ports"
)

func enqueue(ctx context.Context, s ports.Store, jobs ...ports.Job) error {
	return s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
		for _, j := range jobs {
			if err := tx.Jobs.Enqueue(ctx, j); err != nil {
				return err
			}
		}
		return nil
	})
}

func claim(ctx context.Context, s ports.Store, id, owner string, now time.Time) (j ports.Job, err error) {
	err = s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
		j, err = tx.Jobs.Claim(ctx, id, ports.Lease{Owner: owner, Until: now.Add(10 * time.Second)}, now)
		return err
	})
	return j, err
}

func inJobs(ctx context.Context, s ports.Store, do func(ctx context.Context, jobs ports.JobStore) error) error {
	return s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return do(ctx, tx.Jobs) })
}

func finish(ctx context.Context, s ports.Store, j ports.Job) error {
	return inJobs(ctx, s, func(ctx context.Context, jobs ports.JobStore) error { return jobs.Finish(ctx, j) })
}

func retry(ctx context.Context, s ports.Store, j ports.Job, at time.Time) error {
	return inJobs(ctx, s, func(ctx context.Context, jobs ports.JobStore) error { return jobs.Retry(ctx, j, at) })
}

var jobChecks = []Check{
	{"jobs/due in order", func(ctx context.Context, s ports.Store, _ Traits) error {
		job := func(p ports.Priority, after time.Duration) ports.Job {
			return ports.Job{ID: newID(), Kind: "k", Subject: "s", RunAt: base.Add(after), Priority: p}
		}
		late, early, urgent, tie, future := job(1, 2), job(1, 1), job(0, 2*time.Second), job(1, 2), job(0, time.Hour)
		early.RunAt = base.Add(time.Microsecond)
		late.RunAt, tie.RunAt = base.Add(2*time.Microsecond), base.Add(2*time.Microsecond)
		if err := enqueue(ctx, s, late, early, urgent, tie, future); err != nil {
			return err
		}
		due, err := s.Read().Jobs.Due(ctx, base.Add(2*time.Second), 10)
		two, err2 := s.Read().Jobs.Due(ctx, base.Add(2*time.Second), 2)
		n, err3 := s.Read().Jobs.Count(ctx)
		return first(err, err2, err3, same("due", due, []ports.Ref{urgent.Ref(), early.Ref(), late.Ref(), tie.Ref()}), same("two", two, due[:2]), same("count", n, 5))
	}},
	{"jobs/one of an id, at the earlier time", func(ctx context.Context, s ports.Store, _ Traits) error {
		j := ports.Job{ID: newID(), Kind: "kind", Subject: "subject", RunAt: base.Add(time.Minute), Trace: "first"}
		sooner, later := j, j
		sooner.RunAt, sooner.Trace, later.RunAt = base, "second", base.Add(time.Hour)
		if err := first(enqueue(ctx, s, j), enqueue(ctx, s, later)); err != nil {
			return err
		}
		_, early := claim(ctx, s, j.ID, "a", base.Add(59*time.Second))
		err := enqueue(ctx, s, sooner)
		got, err2 := claim(ctx, s, j.ID, "a", base)
		err3 := enqueue(ctx, s, sooner) // while it is leased
		_, leased := claim(ctx, s, j.ID, "b", base.Add(time.Second))
		n, err4 := s.Read().Jobs.Count(ctx)
		return first(err, err2, err3, err4, wantErr("not due", early, ports.ErrLeaseLost), wantErr("leased", leased, ports.ErrLeaseLost),
			same("job", got.Trace, "first"), same("count", n, 1), finish(ctx, s, got))
	}},
	{"jobs/claim and finish", func(ctx context.Context, s ports.Store, _ Traits) error {
		j := ports.Job{ID: newID(), Kind: "kind", Subject: "subject", RunAt: base, Priority: 1, Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
		if err := enqueue(ctx, s, j); err != nil {
			return err
		}
		_, tooEarly := claim(ctx, s, j.ID, "a", base.Add(-time.Microsecond))
		got, err := claim(ctx, s, j.ID, "a", base)
		_, leased := claim(ctx, s, j.ID, "b", base.Add(time.Second))
		due, err2 := s.Read().Jobs.Due(ctx, base.Add(time.Second), 10)
		want := j
		want.Attempt, want.Lease = 1, ports.Lease{Owner: "a", Until: base.Add(10 * time.Second)}
		if err := first(wantErr("not due", tooEarly, ports.ErrLeaseLost), err, err2, wantErr("leased", leased, ports.ErrLeaseLost), same("job", got, want), same("due", len(due), 0)); err != nil {
			return err
		}
		forged := got
		forged.Attempt++
		if err := first(wantErr("another claim's finish", finish(ctx, s, forged), ports.ErrLeaseLost), finish(ctx, s, got),
			wantErr("finished twice", finish(ctx, s, got), ports.ErrLeaseLost), wantErr("retried after", retry(ctx, s, got, base), ports.ErrLeaseLost)); err != nil {
			return err
		}
		n, err := s.Read().Jobs.Count(ctx)
		_, gone := claim(ctx, s, j.ID, "a", base)
		return first(err, same("count", n, 0), wantErr("gone", gone, ports.ErrLeaseLost))
	}},
	{"jobs/retry", func(ctx context.Context, s ports.Store, _ Traits) error {
		j := ports.Job{ID: newID(), Kind: "k", RunAt: base, Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}
		err := enqueue(ctx, s, j)
		one, err2 := claim(ctx, s, j.ID, "a", base)
		if err := first(err, err2, retry(ctx, s, one, base.Add(time.Minute)), wantErr("retried twice", retry(ctx, s, one, base), ports.ErrLeaseLost)); err != nil {
			return err
		}
		_, early := claim(ctx, s, j.ID, "a", base.Add(59*time.Second))
		two, err := claim(ctx, s, j.ID, "a", base.Add(time.Minute))
		return first(wantErr("early", early, ports.ErrLeaseLost), err, same("attempt", two.Attempt, 2), same("trace", two.Trace, j.Trace), wantErr("a stale finish", finish(ctx, s, one), ports.ErrLeaseLost), finish(ctx, s, two))
	}},
	{"jobs/a lease that ran out", func(ctx context.Context, s ports.Store, _ Traits) error {
		j, k := ports.Job{ID: newID(), Kind: "k", RunAt: base}, ports.Job{ID: newID(), Kind: "k", RunAt: base}
		err := enqueue(ctx, s, j, k)
		frozen, err2 := claim(ctx, s, j.ID, "a", base)
		slow, err3 := claim(ctx, s, k.ID, "a", base)
		due, err4 := s.Read().Jobs.Due(ctx, base.Add(10*time.Second), 10)
		next, err5 := claim(ctx, s, j.ID, "b", base.Add(10*time.Second))
		return first(err, err2, err3, err4, err5, same("due again", len(due), 2), same("attempt", next.Attempt, 2),
			wantErr("finish by the one who lost it", finish(ctx, s, frozen), ports.ErrLeaseLost), finish(ctx, s, next),
			finish(ctx, s, slow)) // late, but nobody took it
	}},
	{"jobs/extend and release", func(ctx context.Context, s ports.Store, _ Traits) error {
		mine, theirs, free := ports.Job{ID: newID(), Kind: "k", RunAt: base}, ports.Job{ID: newID(), Kind: "k", RunAt: base}, ports.Job{ID: newID(), Kind: "k", RunAt: base}
		err := enqueue(ctx, s, mine, theirs, free)
		_, err2 := claim(ctx, s, mine.ID, "a", base)
		lost, err3 := claim(ctx, s, theirs.ID, "b", base)
		err4 := inJobs(ctx, s, func(ctx context.Context, jobs ports.JobStore) error {
			return jobs.Extend(ctx, "a", base.Add(time.Minute))
		})
		due, err5 := s.Read().Jobs.Due(ctx, base.Add(59*time.Second), 10)
		if err := first(err, err2, err3, err4, err5, same("due", due, []ports.Ref{theirs.Ref(), free.Ref()})); err != nil {
			return err
		}
		var n int
		err = inJobs(ctx, s, func(ctx context.Context, jobs ports.JobStore) (err error) {
			n, err = jobs.ReleaseOthers(ctx, "a")
			return err
		})
		due, err2 = s.Read().Jobs.Due(ctx, base, 10)
		return first(err, err2, same("released", n, 1), same("due", len(due), 2), wantErr("finish by the one who lost it", finish(ctx, s, lost), ports.ErrLeaseLost))
	}},
}
