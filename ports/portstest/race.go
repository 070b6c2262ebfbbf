package portstest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/domain/trust"
	"github.com/nexus-protocol/nexus/ports"
)

func soon() <-chan time.Time { return time.After(50 * time.Millisecond) }

// together runs f n times at once and returns what each answered.
func together(n int, f func(i int) error) []error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			errs[i] = f(i)
		})
	}
	close(start)
	wg.Wait()
	return errs
}

// outcomes counts those who won, and fails if one lost otherwise than expected.
func outcomes(errs []error, expected func(error) bool) (won int, err error) {
	for _, e := range errs {
		switch {
		case e == nil:
			won++
		case !expected(e):
			return won, failf("unexpected: %w", e)
		}
	}
	return won, nil
}

func has(code fault.Code) func(error) bool {
	return func(err error) bool { return fault.Has(err, code) }
}

var raceChecks = []Check{
	{"race/for the last credits", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		const each = 3_100
		won, err := outcomes(together(40, func(i int) error {
			return place(ctx, s, ledger.Hold{TaskID: fmt.Sprint("t", i), UserID: w.asker.ID, Amount: each})
		}), has(fault.CodeInsufficientCredits))
		b, err2 := s.Read().Ledger.Balance(ctx, w.asker.ID)
		return first(err, err2, same("won", won, int(ledger.InitialGrant)/each), same("left", b.Available, ledger.InitialGrant%each), sound(ctx, s, w.asker.ID))
	})},
	{"race/to settle one task", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		h := ledger.Hold{TaskID: "t", UserID: w.asker.ID, Amount: 1000}
		if err := place(ctx, s, h); err != nil {
			return err
		}
		won, err := outcomes(together(16, func(i int) error {
			if i%2 == 0 {
				return capture(ctx, s, h, w.owner.ID, base)
			}
			return post(ctx, s, h.Release(base), nil)
		}), func(err error) bool { return errors.Is(err, ports.ErrDuplicate) })
		return first(err, same("won", won, 1), sound(ctx, s, w.asker.ID, w.owner.ID))
	})},
	{"race/many writers on one account", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		errs := together(32, func(i int) error {
			for n := range 5 {
				h := ledger.Hold{TaskID: fmt.Sprintf("t%d.%d", i, n), UserID: w.asker.ID, Amount: 100}
				if err := first(place(ctx, s, h), capture(ctx, s, h, w.owner.ID, base)); err != nil {
					return err
				}
			}
			return nil
		})
		b, err := s.Read().Ledger.Balance(ctx, w.owner.ID)
		return first(errors.Join(errs...), err, same("earned", int64(b.Earned), int64(32*5*95)), sound(ctx, s, w.asker.ID, w.owner.ID))
	})},
	{"race/writers without keys of their own on one account", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		// All writers credit the same purchases: each counts once, whoever wins.
		errs := together(24, func(i int) error {
			for n := range 8 {
				t, err := ledger.Issue{ID: fmt.Sprint("cs_", (n+i)%8), UserID: w.owner.ID, Amount: credits.Amount(1 << ((n + i) % 8))}.Credit(base)
				if err := post(ctx, s, t, err); err != nil && !errors.Is(err, ports.ErrDuplicate) {
					return err
				}
			}
			return nil
		})
		b, err := s.Read().Ledger.Balance(ctx, w.owner.ID)
		return first(errors.Join(errs...), err, same("purchased", b, ledger.Balance{UserID: w.owner.ID, Available: 255, Purchased: 255}), sound(ctx, s, w.owner.ID))
	})},
	{"race/seals are made while others write", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		errs := together(9, func(i int) error {
			for n := range 12 {
				var err error
				if i == 0 {
					err = sealAll(ctx, s, 5)
				} else {
					h := ledger.Hold{TaskID: fmt.Sprintf("t%d.%d", i, n), UserID: w.asker.ID, Amount: 100}
					err = first(place(ctx, s, h), capture(ctx, s, h, w.owner.ID, base))
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err := first(errors.Join(errs...), sound(ctx, s, w.asker.ID, w.owner.ID), sealAll(ctx, s, 50)); err != nil {
			return err
		}
		r, err := audit(ctx, s)
		return first(err, same("findings", r.Findings, []ledger.Finding(nil)), same("sealed", r.Sealed, 2+8*12*7))
	})},
	{"race/tasks of one agent do not stand in each other's way", with(busyAgent)},
	{"race/cancels against a completion", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		for range 10 {
			t, events := taskFor(w.asker, w.agent)
			if err := s.Update(ctx, insertTask(t, events)); err != nil {
				return err
			}
			var ends atomic.Int32
			_, err := outcomes(together(6, func(i int) error {
				var n int
				err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
					now, err := tx.Tasks.Lock(ctx, t.ID)
					if err != nil {
						return err
					}
					var cmd task.Command = task.Cancel{At: base}
					if i%3 == 0 {
						cmd = task.Complete{At: base}
					}
					next, events, err := task.Apply(now, cmd)
					if err != nil {
						return err
					}
					n = len(events)
					return tx.Tasks.Save(ctx, next, events)
				})
				if err == nil {
					ends.Add(int32(n))
				}
				return err
			}), has(fault.CodeTaskNotActive))
			log, err2 := s.Read().Tasks.Events(ctx, t.ID, 0, 100)
			if err := first(err, err2, same("ends", ends.Load(), int32(1)), same("events", len(log), 3), same("the last", log[len(log)-1].Kind, task.EventComplete)); err != nil {
				return err
			}
		}
		return nil
	})},
	{"race/a heartbeat against a delete", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		_, err := outcomes(together(12, func(i int) error {
			return s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
				a, err := tx.Agents.Lock(ctx, w.agent.ID)
				if err != nil {
					return err
				}
				if a.DeletedAt != nil {
					return registry.NotFound(a.ID)
				}
				if i == 6 {
					a.DeletedAt = ptr(base)
					return tx.Agents.Save(ctx, a)
				}
				if a, err = a.Heartbeat("", nil, base); err != nil {
					return err
				}
				return tx.Agents.Save(ctx, a)
			})
		}), has(fault.CodeAgentNotFound))
		a, err2 := s.Read().Agents.Get(ctx, w.agent.ID)
		return first(err, err2, same("deleted", a.DeletedAt != nil, true))
	})},
	{"race/evidence is not lost", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		errs := together(24, func(i int) error {
			_, _, err := learn(ctx, s, w, trust.Evidence{Type: trust.TaskCompleted, TaskID: fmt.Sprint("t", i), At: base})
			return err
		})
		p, _, err := s.Read().Trust.Profile(ctx, w.agent.ID)
		return first(errors.Join(errs...), err, same("completed", p.Tasks.Completed, int64(24)))
	})},
	{"race/one claim of a job", func(ctx context.Context, s ports.Store, _ Traits) error {
		j := ports.Job{ID: newID(), Kind: "k", RunAt: base}
		if err := enqueue(ctx, s, j); err != nil {
			return err
		}
		won, err := outcomes(together(16, func(i int) error {
			_, err := claim(ctx, s, j.ID, fmt.Sprint("w", i), base)
			return err
		}), func(err error) bool { return errors.Is(err, ports.ErrLeaseLost) })
		return first(err, same("won", won, 1))
	}},
	{"race/one first user", func(ctx context.Context, s ports.Store, _ Traits) error {
		var firsts atomic.Int32
		errs := together(12, func(i int) error {
			u := user(fmt.Sprintf("u%d@example.com", i))
			var n int
			err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) (err error) {
				if n, err = tx.Users.Count(ctx); err != nil {
					return err
				}
				return tx.Users.Insert(ctx, u)
			})
			if err == nil && n == 0 {
				firsts.Add(1)
			}
			return err
		})
		return first(errors.Join(errs...), same("firsts", firsts.Load(), int32(1)))
	}},
}

// busyAgent has many requesters give tasks to one agent and its answers come in, all at once: units that lock the same
// rows, each in the order in which use cases do. None is lost, and none
// has to wait for long.
func busyAgent(ctx context.Context, s ports.Store, _ Traits, w world) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	const askers, each = 12, 10
	users := make([]identity.User, askers)
	for i := range users {
		users[i] = user(fmt.Sprintf("asker%d@example.com", i))
		grant := ledger.Grant(users[i].ID, base).Stamp(newID)
		if err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
			return first(tx.Users.Insert(ctx, users[i]), tx.Ledger.Post(ctx, grant))
		}); err != nil {
			return err
		}
	}
	errs := together(askers, func(i int) error {
		for range each {
			t, events := taskFor(users[i], w.agent)
			hold := ledger.Hold{TaskID: t.ID, UserID: users[i].ID, Amount: t.Price}
			placed, err1 := hold.Place(base)
			paid, err2 := hold.Capture(w.owner.ID, base)
			if err := first(err1, err2); err != nil {
				return err
			}
			placed, paid = placed.Stamp(newID), paid.Stamp(newID)
			eventID := newID()
			err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
				return first(tx.Tasks.Insert(ctx, t, events), tx.Ledger.Post(ctx, placed))
			})
			if err != nil {
				return failf("create: %w", err)
			}
			err = s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
				now, err := tx.Tasks.Lock(ctx, t.ID)
				if err != nil {
					return err
				}
				done, more, err := task.Apply(now, task.Complete{At: base})
				if err != nil {
					return err
				}
				p, _, ok, err := tx.Trust.Lock(ctx, w.agent.ID, "")
				if err != nil {
					return err
				}
				if !ok {
					p = trust.Newcomer(w.agent.ID, base, trust.DefaultWeights())
				}
				p, ev := trust.Apply(p, trust.Evidence{Type: trust.TaskCompleted, EventID: eventID, TaskID: t.ID, At: base}, trust.DefaultWeights())
				return first(tx.Tasks.Save(ctx, done, more), tx.Trust.Save(ctx, p, ev, trust.Dealings{}), tx.Ledger.Post(ctx, paid))
			})
			if err != nil {
				return failf("complete: %w", err)
			}
		}
		return nil
	})
	p, _, err := s.Read().Trust.Profile(ctx, w.agent.ID)
	b, err2 := s.Read().Ledger.Balance(ctx, w.owner.ID)
	return first(errors.Join(errs...), err, err2, same("completed", p.Tasks.Completed, int64(askers*each)),
		same("earned", int64(b.Earned), int64(askers*each*950)), sound(ctx, s, w.owner.ID))
}
