package postgres_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/adapters/postgres"
	"github.com/nexus-protocol/nexus/adapters/postgres/postgrestest"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/domain/trust"
	"github.com/nexus-protocol/nexus/ports"
)

var errOops = errors.New("oops")

// open is one more store on a database.
func open(t testing.TB, url string, opts ...postgres.Option) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), url, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// migrated is an empty database.
func migrated(t testing.TB) string {
	t.Helper()
	url := postgrestest.URL(t)
	require.NoError(t, postgres.Migrate(t.Context(), url))
	return url
}

// companions occupies the one writer until all units wait behind it, then lets all go and returns what each answered.
// They run in lockstep.
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
	}
	time.Sleep(50 * time.Millisecond) // they wait
	close(out)
	all.Wait()
	return errs
}

func newTask(t testing.TB, id string) (task.Task, []task.Event) {
	t.Helper()
	v, events, err := task.New(task.Draft{ID: id, Title: "x", RequesterUserID: "u", AgentID: "a", AgentOwnerID: "o", At: now()})
	require.NoError(t, err)
	return v, events
}

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

func there(t testing.TB, s ports.Store, id string) bool {
	t.Helper()
	_, err := s.Read().Tasks.Get(context.Background(), id)
	if err != nil {
		require.True(t, fault.Has(err, fault.CodeTaskNotFound), "%v", err)
	}
	return err == nil
}

// grant gives a user a hundred credits.
func grant(ctx context.Context, tx ports.Tx, user string) error {
	return tx.Ledger.Post(ctx, ledger.Grant(user, now()).Stamp(memory.NewID))
}

func TestWhatLockstepCosts(t *testing.T) {
	t.Parallel()
	s := open(t, migrated(t), postgres.WithWriters(1))
	placed := func(i int) func() error {
		user := fmt.Sprint("u", i)
		v, events := newTask(t, fmt.Sprint("t", i))
		place, err := ledger.Hold{TaskID: v.ID, UserID: user, Amount: 10, Title: "x"}.Place(now())
		require.NoError(t, err)
		place = place.Stamp(memory.NewID)
		return func() error {
			return s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
				if err := tx.Ledger.Post(ctx, place); err != nil {
					return err
				}
				if err := tx.Tasks.Insert(ctx, v, events); err != nil {
					return err
				}
				return tx.Jobs.Enqueue(ctx, ports.Job{ID: v.ID, Kind: "k", Subject: v.ID, RunAt: now()})
			})
		}
	}
	var units []func() error
	for i := range 40 {
		require.NoError(t, s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error { return grant(ctx, tx, fmt.Sprint("u", i)) }))
		units = append(units, placed(i))
	}
	require.NoError(t, units[0]()) // its statements are prepared
	units = units[1:]
	before := s.Stats()
	for _, err := range companions(t, s, units...) {
		require.NoError(t, err)
	}
	after := s.Stats()
	require.EqualValues(t, 1, after.Commits-before.Commits, "one commit for all")
	require.EqualValues(t, 2, after.RoundTrips-before.RoundTrips, "accounts; everything else with the COMMIT")
}

// A task that ends locks itself, its agent's evidence and the money of two users: in one round trip, when that was said before.
func TestWhatIsExpectedCostsOneRoundTrip(t *testing.T) {
	t.Parallel()
	s := open(t, migrated(t), postgres.WithWriters(1))
	end := func(i int, expects bool) func() error {
		v, events := newTask(t, fmt.Sprint("t", i))
		user, agent := fmt.Sprint("u", i), fmt.Sprint("a", i)
		require.NoError(t, s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
			if err := grant(ctx, tx, user); err != nil {
				return err
			}
			if err := tx.Agents.Insert(ctx, registry.Agent{ID: agent, OwnerUserID: "o", Status: registry.Online, Name: "A", CreatedAt: now(), UpdatedAt: now()}); err != nil {
				return err
			}
			return tx.Tasks.Insert(ctx, v, events)
		}))
		return func() error {
			return s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
				if expects {
					e := ports.Expected{TaskID: v.ID, EvidenceOf: agent, RequesterID: user, UserIDs: []string{user, "nobody yet"}}
					if err := tx.Foresight.Expect(ctx, e); err != nil {
						return err
					}
				}
				got, err := tx.Tasks.Lock(ctx, v.ID)
				if err != nil {
					return err
				}
				require.Equal(t, v.ID, got.ID)
				if _, _, _, err := tx.Trust.Lock(ctx, agent, user); err != nil {
					return err
				}
				place, err := ledger.Hold{TaskID: v.ID, UserID: user, Amount: 10, Title: "x"}.Place(now())
				if err != nil {
					return err
				}
				return tx.Ledger.Post(ctx, place.Stamp(memory.NewID))
			})
		}
	}
	trips := func(units ...func() error) int64 {
		require.NoError(t, units[0]()) // its statements are prepared
		before := s.Stats()
		for _, err := range companions(t, s, units[1:]...) {
			require.NoError(t, err)
		}
		after := s.Stats()
		require.EqualValues(t, 1, after.Commits-before.Commits)
		return after.RoundTrips - before.RoundTrips
	}
	units := func(from int, expects func(i int) bool) (out []func() error) {
		for i := range 20 {
			out = append(out, end(from+i, expects(i)))
		}
		return out
	}
	require.EqualValues(t, 4, trips(units(0, func(int) bool { return false })...), "task; evidence; money; the rest and COMMIT")
	require.EqualValues(t, 2, trips(units(100, func(int) bool { return true })...), "all of it; the rest and COMMIT")
	require.EqualValues(t, 4, trips(units(200, func(i int) bool { return i%2 == 0 })...), "as long as one that says nothing")
}

func TestAFailingUnitHarmsNoNeighbour(t *testing.T) {
	t.Parallel()
	s := open(t, migrated(t), postgres.WithWriters(1))
	var units []func() error
	for i := range 48 {
		v, events := newTask(t, fmt.Sprint("t", i))
		units = append(units, func() (err error) {
			defer func() {
				if p := recover(); p != nil {
					err = fmt.Errorf("panic: %v", p)
				}
			}()
			return s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
				if err := tx.Tasks.Insert(ctx, v, events); err != nil {
					return err
				}
				if i%2 == 0 { // what was left for later is done
					if _, err := tx.Tasks.Lock(ctx, v.ID); err != nil {
						return err
					}
				}
				switch i % 12 {
				case 2, 3:
					return errOops
				case 4, 5:
					panic("oops")
				case 6, 7:
					_, err := tx.Tasks.Lock(ctx, "nowhere")
					return err
				case 8, 9:
					return tx.Tasks.Insert(ctx, v, events) // twice
				case 10, 11:
					return tx.Jobs.Enqueue(ctx, ports.Job{ID: v.ID, Kind: "a text with a \x00", RunAt: now()}) // which the database refuses
				}
				return nil
			})
		})
	}
	for i, err := range companions(t, s, units...) {
		switch i % 12 {
		case 2, 3:
			require.ErrorIs(t, err, errOops)
		case 4, 5:
			require.EqualError(t, err, "panic: oops")
		case 6, 7:
			require.True(t, fault.Has(err, fault.CodeTaskNotFound), "%v", err)
		case 8, 9:
			require.ErrorIs(t, err, ports.ErrDuplicate)
		case 10, 11:
			require.ErrorContains(t, err, "enqueue")
		default:
			require.NoError(t, err)
		}
		require.Equal(t, err == nil, there(t, s, fmt.Sprint("t", i)), "%d: %v", i, err)
	}
}

// Units of one transaction are not kept from each other's rows by the database.
func TestUnitsOfOneTransactionLockEachOtherOut(t *testing.T) {
	t.Parallel()
	for name, expects := range map[string]func(i int) bool{
		"as they come": func(int) bool { return false },
		"as they said": func(int) bool { return true },
		"some as said": func(i int) bool { return i%3 == 0 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, migrated(t), postgres.WithWriters(1))
			v, events := newTask(t, "t")
			require.NoError(t, s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
				if err := grant(ctx, tx, "u"); err != nil {
					return err
				}
				return tx.Tasks.Insert(ctx, v, events)
			}))
			var units []func() error
			for i := range 20 {
				hold, err := ledger.Hold{TaskID: fmt.Sprint("t", i), UserID: "u", Amount: 1, Title: "x"}.Place(now())
				require.NoError(t, err)
				hold = hold.Stamp(memory.NewID)
				units = append(units, func() error {
					return s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
						if expects(i) {
							if err := tx.Foresight.Expect(ctx, ports.Expected{TaskID: "t", UserIDs: []string{"u"}, AgentIDs: []string{"nobody"}}); err != nil {
								return err
							}
						}
						v, err := tx.Tasks.Lock(ctx, "t")
						if err != nil {
							return err
						}
						v.Attempts++
						if err := tx.Tasks.Save(ctx, v, nil); err != nil {
							return err
						}
						_, err = tx.Agents.Get(ctx, "nobody") // one more step with the lock
						require.True(t, fault.Has(err, fault.CodeAgentNotFound), "%v", err)
						return tx.Ledger.Post(ctx, hold)
					})
				})
			}
			for _, err := range companions(t, s, units...) {
				require.NoError(t, err)
			}
			v, err := s.Read().Tasks.Get(t.Context(), "t")
			require.NoError(t, err)
			require.Equal(t, 20, v.Attempts, "no update is lost")
			b, err := s.Read().Ledger.Balance(t.Context(), "u")
			require.NoError(t, err)
			require.EqualValues(t, 20, b.Held)
		})
	}
}

// A step through Bun has the connection for itself.
func TestStepsThatNeedTheConnection(t *testing.T) {
	t.Parallel()
	s := open(t, migrated(t), postgres.WithWriters(1))
	var units []func() error
	for i := range 20 {
		v, events := newTask(t, fmt.Sprint("t", i))
		units = append(units, func() error {
			return s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
				if err := tx.Tasks.Insert(ctx, v, events); err != nil {
					return err
				}
				if i%3 == 0 {
					list, _, err := tx.Tasks.List(ctx, ports.TaskFilter{RequesterUserID: "u"}, ports.Page{Limit: 100})
					if err != nil {
						return err
					}
					if !slices.ContainsFunc(list, func(o task.Task) bool { return o.ID == v.ID }) {
						return errors.New("the unit does not see what it has done")
					}
					if i%2 == 0 {
						return errOops
					}
				}
				return tx.Jobs.Enqueue(ctx, ports.Job{ID: v.ID, Kind: "k", RunAt: now()})
			})
		})
	}
	for i, err := range companions(t, s, units...) {
		if i%6 == 0 {
			require.ErrorIs(t, err, errOops)
		} else {
			require.NoError(t, err)
		}
		require.Equal(t, err == nil, there(t, s, fmt.Sprint("t", i)), i)
	}
}

// TestUnitsRunInAnyMixture fails, panics, ends and gives up at random, and looks at what is left.
func TestUnitsRunInAnyMixture(t *testing.T) {
	t.Parallel()
	t.Run("with commits that fail", func(t *testing.T) {
		t.Parallel()
		var n atomic.Int32
		anyMixture(t, postgres.WithCommit(func(commit func() error) error {
			if n.Add(1)%7 == 0 {
				return errors.New("the disk is full")
			}
			return commit()
		}))
	})
	t.Run("with commits that go with what comes last", func(t *testing.T) {
		t.Parallel()
		anyMixture(t)
	})
}

func anyMixture(t *testing.T, opts ...postgres.Option) {
	s := open(t, migrated(t), opts...)
	for i := range 4 {
		require.NoError(t, retried(func() error {
			return s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error { return grant(ctx, tx, fmt.Sprint("u", i)) })
		}))
	}
	var told sync.Map
	var all sync.WaitGroup
	for w := range 16 {
		all.Go(func() {
			for i := range 20 {
				id := fmt.Sprint(w, "-", i)
				v, events := newTask(t, id)
				done := make(chan struct{})
				go func() { // which the unit may end
					defer close(done)
					defer func() { _ = recover() }()
					ctx, cancel := context.WithCancel(context.Background())
					defer cancel()
					err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
						kind := (w*20 + i) % 11
						if kind == 1 {
							return errOops
						}
						if err := tx.Tasks.Insert(ctx, v, events); err != nil {
							return err
						}
						if i%2 == 0 {
							place, err := ledger.Hold{TaskID: id, UserID: fmt.Sprint("u", w%4), Amount: 1, Title: "x"}.Place(now())
							if err == nil {
								err = tx.Ledger.Post(ctx, place.Stamp(memory.NewID))
							}
							if err != nil {
								return err
							}
						}
						switch kind {
						case 2:
							return errOops
						case 3:
							panic("oops")
						case 4:
							cancel()
						case 5:
							runtime.Goexit()
						case 6:
							_, _, err := tx.Tasks.List(ctx, ports.TaskFilter{RequesterUserID: "u"}, ports.Page{Limit: 1})
							return err
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
	held := map[string]int64{}
	for w := range 16 {
		for i := range 20 {
			id := fmt.Sprint(w, "-", i)
			_, ok := told.Load(id)
			require.Equal(t, ok, there(t, s, id), id)
			if ok && i%2 == 0 {
				held[fmt.Sprint("u", w%4)]++
			}
		}
	}
	for user, n := range held {
		b, err := s.Read().Ledger.Balance(t.Context(), user)
		require.NoError(t, err)
		require.EqualValues(t, n, b.Held, user)
	}
}

// What a unit has to be told at its end, of which the COMMIT is a part, is told to it alone.
func TestALeaseThatWasLostHarmsNoNeighbour(t *testing.T) {
	t.Parallel()
	s := open(t, migrated(t), postgres.WithWriters(1))
	var units []func() error
	for i := range 12 {
		id := fmt.Sprint("j", i)
		var job ports.Job
		require.NoError(t, s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
			return tx.Jobs.Enqueue(ctx, ports.Job{ID: id, Kind: "k", RunAt: now()})
		}))
		require.NoError(t, s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) (err error) {
			job, err = tx.Jobs.Claim(ctx, id, ports.Lease{Owner: "me", Until: now().Add(time.Minute)}, now())
			return err
		}))
		if i%5 == 1 { // it was claimed again by another
			job.Attempt--
		}
		v, events := newTask(t, fmt.Sprint("t", i))
		units = append(units, func() error {
			return s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
				if _, err := tx.Tasks.Lock(ctx, "nowhere"); !fault.Has(err, fault.CodeTaskNotFound) {
					return err
				}
				if err := tx.Tasks.Insert(ctx, v, events); err != nil {
					return err
				}
				return tx.Jobs.Finish(ctx, job)
			})
		})
	}
	for i, err := range companions(t, s, units...) {
		if i%5 == 1 {
			require.ErrorIs(t, err, ports.ErrLeaseLost)
		} else {
			require.NoError(t, err)
		}
		require.Equal(t, i%5 != 1, there(t, s, fmt.Sprint("t", i)), "%d", i)
	}
	left, err := s.Read().Jobs.Count(t.Context())
	require.NoError(t, err)
	require.Equal(t, 3, left)
}

// The connection breaks around the COMMIT: whether it happened is not known, so the unit is not run again, and whoever asked
// is told that it is not known.
func TestACommitWhoseAnswerIsLostIsNotRepeated(t *testing.T) {
	t.Parallel()
	for _, arrives := range []bool{true, false} {
		t.Run(fmt.Sprint("arrives=", arrives), func(t *testing.T) {
			t.Parallel()
			u, err := url.Parse(migrated(t))
			require.NoError(t, err)
			server := u.Host
			var armed atomic.Bool
			u.Host = cutAtCommit(t, server, &armed, arrives)
			s := open(t, u.String(), postgres.WithWriters(1), postgres.WithReaders(1))
			granted(t, s, "u")
			spend := move("u")
			runs := 0
			armed.Store(true)
			err = s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
				runs++
				return spend(ctx, tx)
			})
			require.ErrorContains(t, err, "unknown outcome")
			require.Equal(t, 1, runs)
			u.Host = server
			b, err := open(t, u.String()).Read().Ledger.Balance(t.Context(), "u")
			require.NoError(t, err)
			require.Equal(t, arrives, b.Held > 0)
			require.NoError(t, s.Update(t.Context(), move("u")), "the store goes on")
		})
	}
}

// cutAtCommit is the address of a proxy that breaks the connection over which a COMMIT goes while it is armed, once: after it
// has handed it on, if it is to arrive.
func cutAtCommit(t *testing.T, server string, armed *atomic.Bool, arrives bool) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", server)
			if err != nil {
				_ = in.Close()
				continue
			}
			var silent atomic.Bool
			go func() { // what the server says
				defer func() { _, _ = in.Close(), out.Close() }()
				buf := make([]byte, 1<<16)
				for {
					n, err := out.Read(buf)
					if err != nil || silent.Load() {
						return
					}
					if _, err := in.Write(buf[:n]); err != nil {
						return
					}
				}
			}()
			go func() {
				defer func() { _, _ = in.Close(), out.Close() }()
				buf := make([]byte, 1<<16)
				for {
					n, err := in.Read(buf)
					if err != nil {
						return
					}
					cut := bytes.Contains(buf[:n], []byte("COMMIT")) && armed.CompareAndSwap(true, false)
					silent.Store(cut)
					if cut && !arrives {
						return
					}
					if _, err := out.Write(buf[:n]); err != nil {
						return
					}
					if cut {
						_, _ = out.Read(make([]byte, 1)) // it has happened, when the server answers
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

func retried(do func() error) (err error) {
	for range 5 {
		if err = do(); err == nil {
			break
		}
	}
	return err
}

// Many groups of several processes, each with many units, take the rows of agents and accounts in one order.
func TestGroupsDoNotWaitInACircle(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	stores := []*postgres.Store{open(t, url), open(t, url), open(t, url, postgres.WithWriters(4))}
	const agents, users = 6, 12
	require.NoError(t, stores[0].Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
		for i := range users {
			if err := grant(ctx, tx, fmt.Sprint("u", i)); err != nil {
				return err
			}
		}
		for i := range agents {
			if err := tx.Agents.Insert(ctx, registry.Agent{ID: fmt.Sprint("a", i), OwnerUserID: "u0", Status: registry.Online, Name: "a", CreatedAt: now(), UpdatedAt: now()}); err != nil {
				return err
			}
		}
		return nil
	}))
	var all sync.WaitGroup
	for w := range 36 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(w)))
			for range 25 {
				agent, id := fmt.Sprint("a", r.IntN(agents)), memory.NewID()
				from, to := r.IntN(users), r.IntN(users)
				place, err := ledger.Hold{TaskID: id, UserID: fmt.Sprint("u", from), Amount: 1, Title: "x"}.Place(now())
				require.NoError(t, err)
				capture, err := ledger.Hold{TaskID: id, UserID: fmt.Sprint("u", from), Amount: 1, Title: "x"}.Capture(fmt.Sprint("u", to), now())
				require.NoError(t, err)
				place, capture = place.Stamp(memory.NewID), capture.Stamp(memory.NewID)
				s := stores[r.IntN(len(stores))]
				err = s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error { return tx.Ledger.Post(ctx, place) })
				expects := r.IntN(3)
				if err == nil {
					err = s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
						if expects > 0 { // some units say what they will lock, and some do not
							e := ports.Expected{EvidenceOf: agent, UserIDs: []string{fmt.Sprint("u", from), fmt.Sprint("u", to)}}
							if expects > 1 {
								e.RequesterID = fmt.Sprint("u", from)
							}
							if err := tx.Foresight.Expect(ctx, e); err != nil {
								return err
							}
						}
						p, d, ok, err := tx.Trust.Lock(ctx, agent, fmt.Sprint("u", from))
						if err != nil {
							return err
						}
						d.Pair.Tasks++
						d.OwnerUserID = "u0"
						if !ok {
							p = trust.Newcomer(agent, now(), trust.DefaultWeights())
						}
						p, e := trust.Apply(p, trust.Evidence{Type: trust.TaskCompleted, EventID: id, TaskID: id, At: now(), Took: time.Second, Limit: time.Minute}, trust.DefaultWeights())
						if err := tx.Trust.Save(ctx, p, e, d); err != nil {
							return err
						}
						return tx.Ledger.Post(ctx, capture)
					})
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	var sum int64
	for i := range agents {
		p, _, err := stores[0].Read().Trust.Profile(t.Context(), fmt.Sprint("a", i))
		require.NoError(t, err)
		sum += p.Tasks.Completed
	}
	require.EqualValues(t, 36*25, sum, "no evidence is lost")
	var dealt float64
	require.NoError(t, stores[0].Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
		dealt = 0
		for i := range agents {
			for u := range users {
				_, d, _, err := tx.Trust.Lock(ctx, fmt.Sprint("a", i), fmt.Sprint("u", u))
				if err != nil {
					return err
				}
				dealt += d.Pair.Tasks
			}
		}
		return nil
	}))
	require.EqualValues(t, 36*25, dealt, "and none of what they had to do with each other")
	imbalance, err := stores[0].Read().Ledger.Imbalance(t.Context())
	require.NoError(t, err)
	require.Zero(t, imbalance)

	time.Sleep(1500 * time.Millisecond) // the server's statistics are that late
	db, err := sql.Open("pgx", url)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	var circles int
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").Scan(&circles))
	require.Zero(t, circles)
}

// crossed runs units in lockstep on one store while a unit of another one holds a row, and then wants
// another one, which it gets without anybody having to begin again.
func crossed(t *testing.T, prepare func(a, b *postgres.Store), hold, then func(context.Context, ports.Tx) error, units ...func(context.Context, ports.Tx) error) {
	t.Helper()
	url := migrated(t)
	a, b := open(t, url, postgres.WithWriters(1)), open(t, url, postgres.WithWriters(1))
	prepare(a, b)
	held, waited := make(chan struct{}), make(chan struct{})
	var runs atomic.Int32
	var all sync.WaitGroup
	all.Go(func() {
		err := b.Update(context.Background(), func(ctx context.Context, tx ports.Tx) error {
			first := runs.Add(1) == 1
			if err := hold(ctx, tx); err != nil {
				return err
			}
			if first {
				close(held)
				<-waited
			}
			return then(ctx, tx)
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-held
	var counted []func() error
	for _, unit := range units {
		counted = append(counted, func() error {
			return a.Update(context.Background(), func(ctx context.Context, tx ports.Tx) error {
				runs.Add(1)
				return unit(ctx, tx)
			})
		})
	}
	all.Go(func() {
		time.Sleep(300 * time.Millisecond) // the group waits
		close(waited)
	})
	for _, err := range companions(t, a, counted...) {
		require.NoError(t, err)
	}
	all.Wait()
	require.EqualValues(t, 1+len(units), runs.Load(), "nobody had to run again")
}

// move takes a credit from one user's account for a task.
func move(user string) func(context.Context, ports.Tx) error {
	place, err := ledger.Hold{TaskID: memory.NewID(), UserID: user, Amount: 1, Title: "x"}.Place(now())
	if err != nil {
		panic(err)
	}
	place = place.Stamp(memory.NewID)
	return func(ctx context.Context, tx ports.Tx) error { return tx.Ledger.Post(ctx, place) }
}

func granted(t *testing.T, s ports.Store, users ...string) {
	t.Helper()
	require.NoError(t, s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
		for _, user := range users {
			if err := grant(ctx, tx, user); err != nil {
				return err
			}
		}
		return nil
	}))
}

// The rows of leases are those that units free at their end, when they have everything else.
func TestToExtendLeasesIsNoDeadlock(t *testing.T) {
	t.Parallel()
	var claimed ports.Job
	crossed(t, func(a, _ *postgres.Store) {
		granted(t, a, "u")
		require.NoError(t, a.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
			return tx.Jobs.Enqueue(ctx, ports.Job{ID: "j", Kind: "k", RunAt: now()})
		}))
		require.NoError(t, a.Update(t.Context(), func(ctx context.Context, tx ports.Tx) (err error) {
			claimed, err = tx.Jobs.Claim(ctx, "j", ports.Lease{Owner: "me", Until: now().Add(time.Minute)}, now())
			return err
		}))
	},
		move("u"),
		func(ctx context.Context, tx ports.Tx) error { return tx.Jobs.Finish(ctx, claimed) },
		func(ctx context.Context, tx ports.Tx) error { return tx.Jobs.Extend(ctx, "me", now().Add(time.Hour)) },
		move("u"),
	)
}

// What a unit does to jobs comes last, also where it does it first: what it locks next is locked in its order.
func TestAJobThatIsEnqueuedEarlyIsNoDeadlock(t *testing.T) {
	t.Parallel()
	enqueue := func(ctx context.Context, tx ports.Tx) error {
		return tx.Jobs.Enqueue(ctx, ports.Job{ID: "j", Kind: "k", RunAt: now()})
	}
	agent := func(ctx context.Context, tx ports.Tx) error {
		_, err := tx.Agents.Lock(ctx, "a")
		return err
	}
	crossed(t, func(a, _ *postgres.Store) {
		granted(t, a, "u")
		require.NoError(t, a.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
			return tx.Agents.Insert(ctx, registry.Agent{ID: "a", OwnerUserID: "u", Status: registry.Online, Name: "a", CreatedAt: now(), UpdatedAt: now()})
		}))
	},
		agent,
		move("u"),
		func(ctx context.Context, tx ports.Tx) error {
			if err := enqueue(ctx, tx); err != nil {
				return err
			}
			return agent(ctx, tx)
		},
		move("u"),
	)
}

// A unit that did not return must not run again, whatever becomes of its companions.
func TestAPanicIsNotRunAgain(t *testing.T) {
	t.Parallel()
	s := open(t, migrated(t), postgres.WithWriters(1))
	var runs atomic.Int32
	panics := func() (err error) {
		defer func() { err = fmt.Errorf("%v", recover()) }()
		return s.Update(t.Context(), func(context.Context, ports.Tx) error {
			runs.Add(1)
			panic("oops")
		})
	}
	v, events := newTask(t, "t")
	fails := func() error {
		return s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
			if err := tx.Tasks.Insert(ctx, v, events); err != nil {
				return err
			}
			if _, err := tx.Tasks.Lock(ctx, v.ID); err != nil {
				return err
			}
			return errOops
		})
	}
	errs := companions(t, s, panics, fails)
	require.EqualError(t, errs[0], "oops")
	require.ErrorIs(t, errs[1], errOops)
	require.EqualValues(t, 1, runs.Load())
}

// A unit that panics because it has to wait for the next transaction runs in that.
func TestAUnitThatCannotStandToWaitRunsAgain(t *testing.T) {
	t.Parallel()
	s := open(t, migrated(t), postgres.WithWriters(1))
	v, events := newTask(t, "t")
	require.NoError(t, s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error { return tx.Tasks.Insert(ctx, v, events) }))
	var runs atomic.Int32
	unit := func() error {
		return s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
			runs.Add(1)
			if _, err := tx.Tasks.Lock(ctx, "t"); err != nil {
				panic(err)
			}
			_, err := tx.Jobs.Claim(ctx, "nowhere", ports.Lease{Owner: "me", Until: now()}, now())
			require.ErrorIs(t, err, ports.ErrLeaseLost)
			return nil
		})
	}
	for _, err := range companions(t, s, unit, unit) {
		require.NoError(t, err)
	}
	require.Greater(t, runs.Load(), int32(2), "one had to wait")
}

// What a unit did to jobs is there for what it does next with them, and for its own rows in between.
func TestAUnitSeesWhatItDidToJobs(t *testing.T) {
	t.Parallel()
	s := open(t, migrated(t), postgres.WithWriters(1))
	granted(t, s, "u")
	spend := move("u")
	v, events := newTask(t, "0") // sorts before the job
	var runs atomic.Int32
	unit := func() error {
		return s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
			runs.Add(1)
			if err := tx.Jobs.Enqueue(ctx, ports.Job{ID: "j", Kind: "k", RunAt: now()}); err != nil {
				return err
			}
			if err := tx.Tasks.Insert(ctx, v, events); err != nil {
				return err
			}
			if _, err := tx.Tasks.Lock(ctx, v.ID); err != nil {
				return err
			}
			if err := spend(ctx, tx); err != nil {
				return err
			}
			j, err := tx.Jobs.Claim(ctx, "j", ports.Lease{Owner: "me", Until: now().Add(time.Minute)}, now())
			if err != nil {
				return err
			}
			if err := tx.Jobs.Finish(ctx, j); err != nil {
				return err
			}
			n, err := tx.Jobs.Count(ctx)
			if err == nil && n != 0 {
				err = errors.New("the job is still there")
			}
			return err
		})
	}
	for _, err := range companions(t, s, unit) {
		require.NoError(t, err)
	}
	require.EqualValues(t, 1, runs.Load(), "it sees it in lockstep too")
}

// A process that stands still in the middle of a transaction does not keep others from its rows for ever, and begins
// again when it goes on.
func TestAProcessThatStandsStillLosesItsRows(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	db, err := postgres.OpenDB(url, 1)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	var limit string
	require.NoError(t, db.QueryRowContext(t.Context(), "SHOW idle_in_transaction_session_timeout").Scan(&limit))
	require.Equal(t, "10s", limit)

	slow, other := open(t, withParam(t, url, "idle_in_transaction_session_timeout", "300ms"), postgres.WithWriters(1)), open(t, url)
	granted(t, slow, "u")
	held, woken := make(chan struct{}), make(chan struct{})
	var runs atomic.Int32
	spend := move("u")
	done := make(chan error, 1)
	go func() {
		done <- slow.Update(context.Background(), func(ctx context.Context, tx ports.Tx) error {
			if err := spend(ctx, tx); err != nil {
				return err
			}
			if runs.Add(1) == 1 {
				close(held)
				<-woken
			}
			return nil
		})
	}()
	<-held
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	err = other.Update(ctx, move("u"))
	close(woken)
	require.NoError(t, err)
	require.NoError(t, <-done)
	require.EqualValues(t, 2, runs.Load())
	b, err := other.Read().Ledger.Balance(t.Context(), "u")
	require.NoError(t, err)
	require.EqualValues(t, 2, b.Held)
}

func withParam(t *testing.T, database, name, value string) string {
	t.Helper()
	u, err := url.Parse(database)
	require.NoError(t, err)
	q := u.Query()
	q.Set(name, value)
	u.RawQuery = q.Encode()
	return u.String()
}

// Forty paid tasks of one agent end at once: its evidence and its owner's money are read and written once for all of them,
// and come out as if they had ended one after the other.
func TestUnitsShareWhatAllOfThemChange(t *testing.T) {
	t.Parallel()
	s := open(t, migrated(t), postgres.WithWriters(1))
	agent := registry.Agent{ID: "a", OwnerUserID: "o", Status: registry.Online, Name: "A", Endpoint: "http://a", CreatedAt: now(), UpdatedAt: now()}
	const n = 40
	require.NoError(t, s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
		for _, u := range []string{"u", "o"} {
			if err := grant(ctx, tx, u); err != nil {
				return err
			}
		}
		for i := range n {
			place, err := hold(fmt.Sprint("t", i)).Place(now())
			if err == nil {
				err = tx.Ledger.Post(ctx, place.Stamp(memory.NewID))
			}
			if err != nil {
				return err
			}
		}
		return tx.Agents.Insert(ctx, agent)
	}))
	var units []func() error
	for i := range n {
		id, event := fmt.Sprint("t", i), memory.NewID()
		capture, err := hold(id).Capture("o", now())
		require.NoError(t, err)
		capture = capture.Stamp(memory.NewID)
		units = append(units, func() error {
			return s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
				p, d, ok, err := tx.Trust.Lock(ctx, "a", "u")
				if err != nil {
					return err
				}
				if !ok {
					p = trust.Resumed("a", agent.CreatedAt, 50, trust.DefaultWeights())
				}
				d.Pair = d.Pair.Dealt(1, 10, trust.Source{}, now())
				p, e := trust.Apply(p, trust.Evidence{Type: trust.TaskCompleted, EventID: event, TaskID: id, At: now(), Limit: time.Minute, Took: time.Second}, trust.DefaultWeights())
				if err := tx.Trust.Save(ctx, p, e, d); err != nil {
					return err
				}
				if err := tx.Ledger.Post(ctx, capture); err != nil {
					return err
				}
				if i%10 == 9 {
					return errOops
				}
				return nil
			})
		})
	}
	before := s.Stats()
	for i, err := range companions(t, s, units...) {
		if i%10 == 9 {
			require.ErrorIs(t, err, errOops)
			continue
		}
		require.NoError(t, err)
	}
	require.Less(t, s.Stats().RoundTrips-before.RoundTrips, int64(60), "also with those that failed alone")

	p, ok, err := s.Read().Trust.Profile(t.Context(), "a")
	require.NoError(t, err)
	require.True(t, ok)
	require.EqualValues(t, n-n/10, p.Events)
	events, total, err := s.Read().Trust.Events(t.Context(), "a", ports.Page{Limit: 100})
	require.NoError(t, err)
	require.Equal(t, n-n/10, total)
	slices.SortFunc(events, func(a, b trust.Event) int { return int(a.Seq - b.Seq) })
	for i := 1; i < len(events); i++ {
		require.InDelta(t, events[i-1].ScoreAfter, events[i].ScoreBefore, 1e-9, "each goes on from the one before")
	}
	a, err := s.Read().Agents.Get(t.Context(), "a")
	require.NoError(t, err)
	require.InDelta(t, p.Score, a.TrustScore, 1e-9)
	for user, want := range map[string]credits.Amount{"u": ledger.InitialGrant - n*10, "o": ledger.InitialGrant + (n-n/10)*9} {
		b, err := s.Read().Ledger.Balance(t.Context(), user)
		require.NoError(t, err)
		require.Equal(t, want, b.Available, user)
		require.True(t, b.Consistent())
		entries, _, err := s.Read().Ledger.Transactions(t.Context(), user, "", ports.Page{Limit: 200})
		require.NoError(t, err)
		require.Equal(t, b.Available, entries[0].BalanceAfter, user)
		for i := 1; i < len(entries); i++ {
			require.Equal(t, entries[i].BalanceAfter+entries[i-1].Amount, entries[i-1].BalanceAfter, "the order of booking is that of the balances")
		}
	}
}

func hold(taskID string) ledger.Hold {
	return ledger.Hold{TaskID: taskID, UserID: "u", Amount: 10, Title: "x"}
}

// What units hold of a user's money together is never more than there is.
func TestUnitsDoNotSpendTheSameMoney(t *testing.T) {
	t.Parallel()
	s := open(t, migrated(t), postgres.WithWriters(1))
	require.NoError(t, s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error { return grant(ctx, tx, "u") }))
	var units []func() error
	for i := range 30 {
		h := hold(fmt.Sprint("t", i))
		h.Amount = ledger.InitialGrant / 20
		place, err := h.Place(now())
		require.NoError(t, err)
		place = place.Stamp(memory.NewID)
		units = append(units, func() error {
			return s.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error {
				if err := tx.Ledger.Post(ctx, place); err != nil {
					return err
				}
				b, err := tx.Ledger.Balance(ctx, "u")
				if err == nil && !b.Consistent() {
					err = fmt.Errorf("the unit sees %+v", b)
				}
				return err
			})
		})
	}
	held := 0
	for _, err := range companions(t, s, units...) {
		if err == nil {
			held++
			continue
		}
		require.True(t, fault.Has(err, fault.CodeInsufficientCredits), "%v", err)
	}
	require.Equal(t, 20, held)
	b, err := s.Read().Ledger.Balance(t.Context(), "u")
	require.NoError(t, err)
	require.Equal(t, ledger.Balance{UserID: "u", Held: ledger.InitialGrant, Granted: ledger.InitialGrant}, b)
}
