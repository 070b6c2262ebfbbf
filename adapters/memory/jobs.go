package memory

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/ports"
)

type jobs struct{ view }

func claimable(j ports.Job, now time.Time) bool {
	return !j.RunAt.After(now) && (j.Lease.Owner == "" || !j.Lease.Until.After(now))
}

func (v jobs) Due(ctx context.Context, now time.Time, limit int) ([]ports.Ref, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	var due []ports.Ref
	for _, j := range v.s.jobs.rows {
		if claimable(j, now) {
			due = append(due, j.Ref())
		}
	}
	slices.SortFunc(due, func(a, b ports.Ref) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), a.RunAt.Compare(b.RunAt), strings.Compare(a.ID, b.ID))
	})
	return stretch(due, ports.Page{Limit: limit}), nil
}

func (v jobs) Count(ctx context.Context) (int, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return 0, err
	}
	defer unlock()
	return len(v.s.jobs.rows), nil
}

func (v jobs) Enqueue(_ context.Context, j ports.Job) error {
	if known, ok := v.s.jobs.get(j.ID); ok {
		if !j.RunAt.Before(known.RunAt) {
			return nil
		}
		known.RunAt = j.RunAt
		j = known
	}
	v.s.jobs.put(v.tx, j.ID, j)
	return nil
}

func (v jobs) Claim(_ context.Context, id string, lease ports.Lease, now time.Time) (ports.Job, error) {
	j, ok := v.s.jobs.get(id)
	if !ok || !claimable(j, now) {
		return ports.Job{}, ports.ErrLeaseLost
	}
	j.Attempt++
	j.Lease = lease
	v.s.jobs.put(v.tx, id, j)
	return j, nil
}

// holds is the fence: only the claim that holds the job may touch it.
func (v jobs) holds(claimed ports.Job) (ports.Job, error) {
	j, ok := v.s.jobs.get(claimed.ID)
	if !ok || j.Lease.Owner != claimed.Lease.Owner || j.Attempt != claimed.Attempt {
		return j, ports.ErrLeaseLost
	}
	return j, nil
}

func (v jobs) Finish(_ context.Context, claimed ports.Job) error {
	_, err := v.holds(claimed)
	if err == nil {
		v.s.jobs.del(v.tx, claimed.ID)
	}
	return err
}

func (v jobs) Retry(_ context.Context, claimed ports.Job, runAt time.Time) error {
	j, err := v.holds(claimed)
	if err == nil {
		j.RunAt, j.Lease = runAt, ports.Lease{}
		v.s.jobs.put(v.tx, j.ID, j)
	}
	return err
}

func (v jobs) Extend(_ context.Context, owner string, until time.Time) error {
	for id, j := range v.s.jobs.rows {
		if j.Lease.Owner == owner {
			j.Lease.Until = until
			v.s.jobs.put(v.tx, id, j)
		}
	}
	return nil
}

func (v jobs) ReleaseOthers(_ context.Context, owner string) (n int, err error) {
	for id, j := range v.s.jobs.rows {
		if j.Lease.Owner != "" && j.Lease.Owner != owner {
			j.Lease = ports.Lease{}
			v.s.jobs.put(v.tx, id, j)
			n++
		}
	}
	return n, nil
}
