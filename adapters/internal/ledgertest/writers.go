package ledgertest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/ports"
)

// The size of Writers.
const (
	writers  = 64
	accounts = 8
)

// pool is what writers share: holds that several of them may settle at the same time.
type pool struct {
	mu    sync.Mutex
	holds []ledger.Hold
}

func (p *pool) put(h ledger.Hold) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.holds = append(p.holds, h); len(p.holds) > 32 {
		p.holds = p.holds[1:]
	}
}

func (p *pool) any(r *rand.Rand) (ledger.Hold, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.holds) == 0 {
		return ledger.Hold{}, false
	}
	return p.holds[r.IntN(len(p.holds))], true
}

// Writers has 64 writers book transfers among 8 accounts for a while, with keys of their own and with keys that others use
// at the same time. No answer may be another than that it is booked, was booked, or is not covered; in the end each account
// has exactly what those have been told who were told that it is booked.
func Writers(ctx context.Context, s ports.Store, d time.Duration) (booked int64, err error) {
	var users [accounts]string
	for i := range users {
		users[i] = newID()
		if err := post(ctx, s, ledger.Grant(users[i], time.Unix(0, 0)), nil); err != nil {
			return 0, err
		}
	}
	shared := newID()
	var contested pool
	var sums [writers]map[string]ledger.Balance
	var errs [writers]error
	var done, refused, repeated atomic.Int64
	end := time.Now().Add(d)
	late := end.Add(30 * time.Second)
	goOn := func() bool { // longer where the machine has so much else to do that nothing was tried yet
		now := time.Now()
		return now.Before(end) || now.Before(late) && (done.Load() < 2*writers || refused.Load()+repeated.Load() < 2*writers)
	}
	var wg sync.WaitGroup
	for i := range writers {
		sums[i] = map[string]ledger.Balance{}
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			var mine []ledger.Hold
			user := func() string { return users[r.IntN(accounts)] }
			for n := 0; goOn() && errs[i] == nil; n++ {
				var t ledger.Transfer
				var err error
				var placed *ledger.Hold
				at := time.Unix(int64(n), 0)
				switch op := r.IntN(20); {
				case op < 7 || len(mine) == 0 && op < 14:
					placed = &ledger.Hold{TaskID: newID(), UserID: user(), Amount: credits.Amount(1 + r.IntN(30_000))}
					t, err = placed.Place(at)
				case op < 12:
					h := mine[0]
					mine = mine[1:]
					t, err = h.CapturePart(1+credits.Amount(r.Int64N(int64(h.Amount))), user(), at)
				case op < 14:
					t = mine[0].Release(at)
					mine = mine[1:]
				case op < 17: // which others settle too
					h, ok := contested.any(r)
					if !ok {
						continue
					}
					if t = h.Release(at); r.IntN(2) == 0 {
						t, err = h.Capture(user(), at)
					}
				default: // which all buy, and refund
					k := r.IntN(1 + n/4)
					bought := ledger.Issue{ID: fmt.Sprint(shared, k), UserID: users[k%accounts], Amount: credits.Amount(1 + k%5_000), Given: k%5 == 0}
					if t, err = bought.Credit(at); op == 19 {
						t, err = bought.Reverse(0, bought.Amount, 1, at)
					}
				}
				if err == nil {
					err = post(ctx, s, t, nil)
				}
				switch {
				case err == nil:
					done.Add(1)
					for _, d := range t.Deltas() {
						sums[i][d.UserID] = plus(sums[i][d.UserID], d)
					}
					if placed != nil && r.IntN(3) == 0 {
						contested.put(*placed)
					} else if placed != nil {
						mine = append(mine, *placed)
					}
				case fault.Has(err, fault.CodeInsufficientCredits):
					refused.Add(1)
				case errors.Is(err, ports.ErrDuplicate):
					repeated.Add(1)
				default:
					errs[i] = fmt.Errorf("%s: %w", t.Key, err)
				}
				if n%16 == 0 && errs[i] == nil {
					b, err := s.Read().Ledger.Balance(ctx, user())
					if err == nil && !b.Consistent() {
						err = fmt.Errorf("in between: %+v does not add up", b)
					}
					errs[i] = err
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return done.Load(), err
	}
	for _, id := range users {
		want := ledger.Balance{UserID: id, Available: ledger.InitialGrant, Granted: ledger.InitialGrant}
		for i := range sums {
			want = plus(want, sums[i][id])
		}
		want.UserID = id
		b, err := s.Read().Ledger.Balance(ctx, id)
		if err != nil {
			return done.Load(), err
		}
		if b != want {
			return done.Load(), fmt.Errorf("%+v is kept, and what was acknowledged adds up to %+v", b, want)
		}
	}
	sum, err := s.Read().Ledger.Imbalance(ctx)
	switch {
	case err != nil:
		return done.Load(), err
	case sum != 0:
		return done.Load(), fmt.Errorf("all entries add up to %s", sum)
	case done.Load() < writers || refused.Load() == 0 || repeated.Load() == 0:
		return done.Load(), fmt.Errorf("%d were booked, %d refused, %d repeated: that tries nothing", done.Load(), refused.Load(), repeated.Load())
	}
	return done.Load(), Audit(ctx, s)
}

func plus(b, d ledger.Balance) ledger.Balance {
	return ledger.Balance{
		UserID: d.UserID, Available: b.Available + d.Available, Held: b.Held + d.Held, Granted: b.Granted + d.Granted, Purchased: b.Purchased + d.Purchased,
		Earned: b.Earned + d.Earned, Spent: b.Spent + d.Spent, Reversed: b.Reversed + d.Reversed,
	}
}

// request is an operation on the one account: hold takes, credit gives, and neither reads.
type request struct {
	hold, credit credits.Amount
}

type answer struct {
	refused bool
	balance credits.Amount // of a read
}

// account is what one account can do: porcupine's model.
var account = porcupine.Model{
	Init: func() any { return ledger.InitialGrant },
	Step: func(state, input, output any) (bool, any) {
		balance, in, out := state.(credits.Amount), input.(request), output.(answer)
		switch {
		case in.hold > 0 && out.refused:
			return balance < in.hold, balance
		case in.hold > 0:
			return balance >= in.hold, balance - in.hold
		case in.credit > 0:
			return true, balance + in.credit
		default:
			return out.balance == balance, balance
		}
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
}

// Linearizable has clients take from, give to and read one account at the same time, and looks for an order in which an
// account could have answered all of them as they were answered, each between its call and its return.
func Linearizable(ctx context.Context, s ports.Store, clients, each int) error {
	id := newID()
	if err := post(ctx, s, ledger.Grant(id, time.Unix(0, 0)), nil); err != nil {
		return err
	}
	histories := make([][]porcupine.Operation, clients)
	errs := make([]error, clients)
	start := time.Now()
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(c), 2))
			for range each {
				var in request
				var out answer
				var t ledger.Transfer
				var err error
				switch r.IntN(3) {
				case 0:
					in.hold = credits.Amount(1 + r.IntN(60_000))
					t, err = ledger.Hold{TaskID: newID(), UserID: id, Amount: in.hold}.Place(time.Unix(1, 0))
				case 1:
					in.credit = credits.Amount(1 + r.IntN(20_000))
					t, err = ledger.Issue{ID: newID(), UserID: id, Amount: in.credit}.Credit(time.Unix(1, 0))
				}
				called := time.Since(start)
				switch {
				case err != nil:
				case in == request{}:
					var b ledger.Balance
					b, err = s.Read().Ledger.Balance(ctx, id)
					out.balance = b.Available
				default:
					if err = post(ctx, s, t, nil); fault.Has(err, fault.CodeInsufficientCredits) {
						out.refused, err = true, nil
					}
				}
				if err != nil {
					errs[c] = err
					return
				}
				histories[c] = append(histories[c], porcupine.Operation{ClientId: c, Input: in, Call: int64(called), Output: out, Return: int64(time.Since(start))})
			}
		})
	}
	wg.Wait()
	var history []porcupine.Operation
	for _, h := range histories {
		history = append(history, h...)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	switch porcupine.CheckOperationsTimeout(account, history, 30*time.Second) {
	case porcupine.Ok:
		return nil
	case porcupine.Illegal:
		return errors.New("no account could have answered so")
	default:
		return errors.New("the history is too long to be checked")
	}
}

// spread is one database through several stores.
type spread struct {
	ports.Store
	all  []ports.Store
	turn atomic.Int64
}

// Spread is a store that writes through each of several stores of one database in turn, as several processes would.
func Spread(all ...ports.Store) ports.Store { return &spread{Store: all[0], all: all} }

func (s *spread) Update(ctx context.Context, fn func(ctx context.Context, tx ports.Tx) error) error {
	return s.all[int(s.turn.Add(1))%len(s.all)].Update(ctx, fn)
}
