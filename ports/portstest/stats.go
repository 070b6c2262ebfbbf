package portstest

import (
	"context"
	"time"

	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

var statsChecks = []Check{
	{"stats/of nothing", func(ctx context.Context, s ports.Store, _ Traits) error {
		open, err := s.Read().Stats.OpenTasks(ctx)
		jobs, err2 := s.Read().Stats.Jobs(ctx, base)
		sums, err3 := s.Read().Stats.Ledger(ctx)
		return first(err, err2, err3, same("open tasks", len(open), 0), same("jobs", len(jobs), 0), same("ledger", sums, ports.LedgerStats{}))
	}},
	{"stats/open tasks", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		run := func(t task.Task, cmds ...task.Command) error {
			return s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
				now, err := tx.Tasks.Lock(ctx, t.ID)
				for _, cmd := range cmds {
					var events []task.Event
					if err == nil {
						now, events, err = task.Apply(now, cmd)
					}
					if err == nil {
						err = tx.Tasks.Save(ctx, now, events)
					}
				}
				return err
			})
		}
		var tasks []task.Task
		for range 5 {
			t, events := taskFor(w.asker, w.agent)
			if err := s.Update(ctx, insertTask(t, events)); err != nil {
				return err
			}
			tasks = append(tasks, t)
		}
		err := first(run(tasks[0], task.Start{At: base}), run(tasks[1], task.Start{At: base}, task.Complete{At: base}), run(tasks[2], task.Cancel{At: base}))
		open, err2 := s.Read().Stats.OpenTasks(ctx)
		return first(err, err2, same("assigned", open[task.Assigned], 2), same("running", open[task.Running], 1), same("all open", open[task.Assigned]+open[task.Running]+open[task.Pending], 3),
			same("ended", open[task.Completed]+open[task.Cancelled]+open[task.Failed], 0))
	})},
	{"stats/jobs by priority", func(ctx context.Context, s ports.Store, _ Traits) error {
		job := func(p ports.Priority, at time.Time) ports.Job {
			return ports.Job{ID: newID(), Kind: "k", RunAt: at, Priority: p}
		}
		now := base.Add(time.Minute)
		taken, left := job(0, base), job(0, base.Add(-time.Hour))
		if err := enqueue(ctx, s, taken, left, job(0, base.Add(time.Second)), job(0, base.Add(2*time.Second)), job(0, now.Add(time.Microsecond)), job(2, now)); err != nil {
			return err
		}
		_, err := claim(ctx, s, taken.ID, "a", now)
		_, err2 := claim(ctx, s, left.ID, "a", base) // its lease runs out before now
		got, err3 := s.Read().Stats.Jobs(ctx, now)
		if err := first(err, err2, err3, same("interactive", got[0], ports.JobStats{Waiting: 3, Running: 1, Later: 1, Oldest: base.Add(-time.Hour)}),
			same("workflow", got[1], ports.JobStats{}), same("housekeeping", got[2], ports.JobStats{Waiting: 1, Oldest: now})); err != nil {
			return err
		}
		got, err = s.Read().Stats.Jobs(ctx, base.Add(-2*time.Hour))
		return first(err, same("before all", got[0].Waiting, 0), same("the oldest before all", got[0].Oldest, time.Time{}))
	}},
	{"stats/ledger", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		paid := ledger.Hold{TaskID: "t1", UserID: w.asker.ID, Amount: 1001, Title: "Paid"}
		open := ledger.Hold{TaskID: "t2", UserID: w.asker.ID, Amount: 500, Title: "Open"}
		if err := first(place(ctx, s, paid), place(ctx, s, open), capture(ctx, s, paid, w.owner.ID, base)); err != nil {
			return err
		}
		want := ports.LedgerStats{Available: 98_499 + 951, Held: 500, Fees: 50, Issuance: -ledger.InitialGrant}
		got, err := s.Read().Stats.Ledger(ctx)
		if err := first(err, same("ledger", got, want)); err != nil {
			return err
		}
		refused := place(ctx, s, ledger.Hold{TaskID: "t3", UserID: w.asker.ID, Amount: ledger.InitialGrant})
		if refused == nil {
			return failf("too much was held")
		}
		again, err := s.Read().Stats.Ledger(ctx)
		if err := first(err, same("after a refused transfer", again, want), post(ctx, s, open.Release(base), nil)); err != nil {
			return err
		}
		want.Available, want.Held = want.Available+500, 0
		last, err := s.Read().Stats.Ledger(ctx)
		return first(err, same("after a release", last, want))
	})},
}
