package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/sqlite"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/ports"
)

var errOops = errors.New("oops")

// companions occupies the writer until n units wait behind it, then lets all go and returns what each answered. They all
// share one commit.
func companions(t *testing.T, s ports.Store, units ...func() error) []error {
	t.Helper()
	in, out := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var all sync.WaitGroup
	all.Go(func() {
		err := s.Update(context.Background(), func(context.Context, ports.Tx) error {
			once.Do(func() { close(in) })
			<-out
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-in
	errs := make([]error, len(units))
	for i, unit := range units {
		all.Go(func() { errs[i] = unit() })
		time.Sleep(2 * time.Millisecond) // they wait in this order
	}
	close(out)
	all.Wait()
	return errs
}

func saved(t *testing.T, s ports.Store, i int) bool {
	t.Helper()
	_, err := s.Read().Users.Get(context.Background(), userOf(i).ID)
	if err != nil {
		require.True(t, fault.Has(err, fault.CodeNotFound), "%v", err)
	}
	return err == nil
}

// commits counts COMMITs.
func commits(n *atomic.Int32) sqlite.Option {
	return sqlite.WithCommit(func(commit func() error) error {
		n.Add(1)
		return commit()
	})
}

func TestAFailingUnitHarmsNoNeighbour(t *testing.T) {
	var n atomic.Int32
	s, _ := fresh(t, commits(&n))
	var units []func() error
	for i := range 30 {
		units = append(units, func() (err error) {
			defer func() {
				if p := recover(); p != nil {
					err = fmt.Errorf("panic: %v", p)
				}
			}()
			return s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
				if err := tx.Users.Insert(ctx, userOf(i)); err != nil {
					return err
				}
				switch i % 5 {
				case 1:
					return errOops
				case 2:
					panic("oops")
				case 3:
					return tx.Users.Insert(ctx, identity.User{ID: "other", Email: userOf(i).Email, Role: identity.RoleUser}) // taken
				}
				return nil
			})
		})
	}
	for i, err := range companions(t, s, units...) {
		switch i % 5 {
		case 1:
			require.ErrorIs(t, err, errOops)
		case 2:
			require.EqualError(t, err, "panic: oops")
		case 3:
			require.True(t, fault.Has(err, fault.CodeEmailTaken), "%v", err)
		default:
			require.NoError(t, err)
		}
		require.Equal(t, err == nil, saved(t, s, i), i)
	}
	require.EqualValues(t, 1, n.Load(), "one commit for all")
}

func TestAUnitMayEndItsGoroutine(t *testing.T) {
	s, _ := fresh(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Update(context.Background(), func(ctx context.Context, tx ports.Tx) error {
			_ = tx.Users.Insert(ctx, userOf(1))
			runtime.Goexit() // what a failing test's FailNow does
			return nil
		})
	}()
	<-done
	require.NoError(t, insertUser(s, 2))
	require.False(t, saved(t, s, 1))
}

func TestAFailedCommitIsRepeatedAlone(t *testing.T) {
	var n, ran atomic.Int32
	s, _ := fresh(t, sqlite.WithCommit(func(commit func() error) error {
		if n.Add(1) == 1 {
			return errors.New("the disk is full")
		}
		return commit()
	}))
	var units []func() error
	for i := range 10 {
		units = append(units, func() error {
			return s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
				ran.Add(1)
				if i == 3 {
					return errOops
				}
				return tx.Users.Insert(ctx, userOf(i))
			})
		})
	}
	for i, err := range companions(t, s, units...) {
		if i == 3 {
			require.ErrorIs(t, err, errOops)
		} else {
			require.NoError(t, err)
		}
		require.Equal(t, i != 3, saved(t, s, i))
	}
	require.EqualValues(t, 20, ran.Load(), "each twice")
	require.EqualValues(t, 1+1+9, n.Load(), "the shared one, the one that held the others up, and each alone")
}

func TestACommitThatKeepsFailing(t *testing.T) {
	broken := errors.New("the disk is broken")
	var fail atomic.Bool
	fail.Store(true)
	s, _ := fresh(t, sqlite.WithCommit(func(commit func() error) error {
		if fail.Load() {
			return broken
		}
		return commit()
	}))
	require.ErrorIs(t, insertUser(s, 1), broken)
	require.False(t, saved(t, s, 1))
	fail.Store(false)
	require.NoError(t, insertUser(s, 1), "the store is fit again")
}

// TestATransactionThatTheDatabaseGaveUp is what a full disk does to SQLite: the transaction is rolled back in the
// middle of it, and what is written after that would be committed by itself.
func TestATransactionThatTheDatabaseGaveUp(t *testing.T) {
	s, path := fresh(t)
	_, err := raw(t, path).ExecContext(t.Context(), `CREATE TRIGGER full BEFORE INSERT ON users WHEN NEW.id = 'u5' BEGIN SELECT RAISE(ROLLBACK, 'disk full'); END`)
	require.NoError(t, err)
	var units []func() error
	for i := range 10 {
		units = append(units, func() error {
			return s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
				err := tx.Users.Insert(ctx, userOf(i))
				if i == 5 {
					_ = tx.Users.Insert(ctx, userOf(50)) // goes on behind the failure
					return nil
				}
				return err
			})
		})
	}
	for i, err := range companions(t, s, units...) {
		if i == 5 {
			require.ErrorContains(t, err, "disk full")
		} else {
			require.NoError(t, err)
		}
		require.Equal(t, i != 5, saved(t, s, i), i)
	}
	require.False(t, saved(t, s, 50))
}

func TestAContextThatEndsInTheQueue(t *testing.T) {
	s, _ := fresh(t)
	in, out := make(chan struct{}), make(chan struct{})
	blocker := make(chan error, 1)
	go func() {
		blocker <- s.Update(context.Background(), func(context.Context, ports.Tx) error {
			close(in)
			<-out
			return nil
		})
	}()
	<-in
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	ran := false
	err := s.Update(ctx, func(context.Context, ports.Tx) error { ran = true; return nil })
	require.ErrorIs(t, err, context.DeadlineExceeded, "while the writer is still busy")
	close(out)
	require.NoError(t, <-blocker)
	require.NoError(t, insertUser(s, 2))
	require.False(t, ran)
}

func TestAContextThatEndsDuringTheUnit(t *testing.T) {
	s, _ := fresh(t)
	errs := companions(t, s,
		func() error { return insertUser(s, 1) },
		func() error {
			ctx, cancel := context.WithCancel(t.Context())
			return s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
				err := tx.Users.Insert(ctx, userOf(2))
				cancel()
				return err
			})
		},
		func() error { return insertUser(s, 3) },
	)
	require.NoError(t, errs[0])
	require.ErrorIs(t, errs[1], context.Canceled)
	require.NoError(t, errs[2])
	require.True(t, saved(t, s, 1))
	require.False(t, saved(t, s, 2))
	require.True(t, saved(t, s, 3))
}

// TestAContextThatEndsDuringTheCommit: what was handed to the commit is waited for, and the answer is what happened.
func TestAContextThatEndsDuringTheCommit(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, _ := fresh(t, sqlite.WithCommit(func(commit func() error) error {
		cancel()
		time.Sleep(10 * time.Millisecond)
		return commit()
	}))
	err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Users.Insert(ctx, userOf(1)) })
	require.NoError(t, err)
	require.True(t, saved(t, s, 1))
}

// TestAFailureWaitsForWhatItRestsOn: an answer that came of a neighbour's change is given only once that is committed.
func TestAFailureWaitsForWhatItRestsOn(t *testing.T) {
	var n atomic.Int32
	s, _ := fresh(t, sqlite.WithCommit(func(commit func() error) error {
		if n.Add(1) == 1 {
			return errors.New("the disk is full")
		}
		return commit()
	}))
	firstRun := true
	errs := companions(t, s,
		func() error {
			return s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
				if !firstRun {
					return errOops
				}
				firstRun = false
				return tx.Users.Insert(ctx, userOf(1))
			})
		},
		func() error { return insertUser(s, 1) }, // taken, for as long as the first one's holds
	)
	require.ErrorIs(t, errs[0], errOops)
	require.NoError(t, errs[1])
	require.True(t, saved(t, s, 1))
}

func TestABusyFileIsWaitedFor(t *testing.T) {
	s, path := fresh(t)
	db := raw(t, path)
	db.SetMaxOpenConns(1)
	_, err := db.ExecContext(t.Context(), "BEGIN IMMEDIATE")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- insertUser(s, 1) }()
	time.Sleep(100 * time.Millisecond)
	_, err = db.ExecContext(t.Context(), "COMMIT")
	require.NoError(t, err)
	require.NoError(t, <-done)
}

// TestManyAtOnce has every unit's changes in the end, once.
func TestManyAtOnce(t *testing.T) {
	var n atomic.Int32
	s, _ := fresh(t, commits(&n))
	var all sync.WaitGroup
	for w := range 32 {
		all.Go(func() {
			for i := range 20 {
				if err := insertUser(s, w*100+i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	require.NoError(t, s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
		users, err := tx.Users.Count(ctx)
		require.Equal(t, 640, users)
		return err
	}))
	require.Less(t, n.Load(), int32(640), "they shared commits")
}

// TestUnitsRunInAnyMixture fails, panics, ends and gives up at random, with commits that fail, and looks at what is left.
func TestUnitsRunInAnyMixture(t *testing.T) {
	var n atomic.Int32
	s, _ := fresh(t, sqlite.WithCommit(func(commit func() error) error {
		if n.Add(1)%7 == 0 {
			return errors.New("the disk is full")
		}
		return commit()
	}))
	var told sync.Map
	var all sync.WaitGroup
	for w := range 24 {
		all.Go(func() {
			for i := range 25 {
				id := w*100 + i
				done := make(chan struct{})
				go func() { // which the unit may end
					defer close(done)
					defer func() { _ = recover() }()
					ctx, cancel := context.WithCancel(context.Background())
					defer cancel()
					err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
						if id%11 == 1 {
							return errOops
						}
						if err := tx.Users.Insert(ctx, userOf(id)); err != nil {
							return err
						}
						switch id % 11 {
						case 2:
							return errOops
						case 3:
							panic("oops")
						case 4:
							cancel()
						case 5:
							if i%5 == 0 {
								runtime.Goexit()
							}
						case 6:
							return tx.Users.Insert(ctx, identity.User{ID: "other", Email: userOf(id).Email, Role: identity.RoleUser})
						}
						return nil
					})
					if err == nil {
						told.Store(id, true)
					}
				}()
				<-done
			}
		})
	}
	all.Wait()
	for w := range 24 {
		for i := range 25 {
			_, ok := told.Load(w*100 + i)
			require.Equal(t, ok, saved(t, s, w*100+i), "user %d", w*100+i)
		}
	}
}
