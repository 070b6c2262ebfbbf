package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nexus-protocol/nexus/domain/billing"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/ports"
)

// Packages lists the credits that are on sale, the smallest first, whether or not this engine sells any. Anyone may ask.
func (s *Billing) Packages() []billing.Package { return billing.Packages() }

// Sells reports whether Checkout can work: there is a provider.
func (s *Billing) Sells() bool { return s.Payments != nil }

// Checkout is a purchase that has begun, and where its payer goes to pay.
type Checkout struct {
	billing.Purchase
	URL string
}

// Checkout begins the purchase of a package, and asks the provider for a place to pay. Its credits come once they are paid
// for. An unknown package is VALIDATION_ERROR; without a provider it is PAYMENTS_NOT_CONFIGURED, and UNAVAILABLE while
// that cannot be reached. Any known caller may buy for the caller's own user; it can be done once (WithOnce). Two commits
// and a call of the provider between them, so that what it may know of is always known here.
func (s *Billing) Checkout(ctx context.Context, c identity.Caller, packageID string) (Checkout, error) {
	if err := identity.Authorize(c, identity.BillingBuy, identity.Resource{}); err != nil {
		return Checkout{}, err
	}
	pack, err := billing.PackageByID(packageID)
	if err != nil {
		return Checkout{}, err
	}
	if s.Payments == nil {
		return Checkout{}, billing.NotConfigured()
	}
	if err := s.replay(ctx, c); err != nil {
		return Checkout{}, err
	}
	var out Checkout
	err = s.update(ctx, func(ctx context.Context, u *unit) error {
		out.Purchase = billing.Start(u.id(), c.UserID, pack, s.Payments.Name(), u.now)
		return u.Purchases.Insert(ctx, out.Purchase)
	})
	if err != nil {
		return Checkout{}, fmt.Errorf("begin purchase: %w", err)
	}
	opened, err := s.Payments.Begin(ctx, billing.Order{ID: out.ID, UserID: c.UserID, Package: pack})
	if err != nil {
		return Checkout{}, fmt.Errorf("open checkout: %w", err)
	}
	out.URL = opened.URL
	err = s.once(ctx, c, func() any { return out }, func(ctx context.Context, u *unit) error {
		p, err := u.Purchases.Lock(ctx, out.ID)
		if err != nil {
			return fmt.Errorf("lock purchase: %w", err)
		}
		out.Purchase = p.Opened(opened, u.now)
		return u.Purchases.Save(ctx, out.Purchase)
	})
	return out, err
}

// Purchases returns the caller's purchases, newest first.
func (s *Billing) Purchases(ctx context.Context, c identity.Caller, p Page) (List[billing.Purchase], error) {
	var none List[billing.Purchase]
	if err := identity.Authorize(c, identity.BillingRead, identity.Resource{}); err != nil {
		return none, err
	}
	page, err := p.resolve(transactionsLimit, maxTransactionsLimit)
	if err != nil {
		return none, err
	}
	items, total, err := s.Store.Read().Purchases.ListByUser(ctx, c.UserID, page)
	if err != nil {
		return none, fmt.Errorf("read purchases: %w", err)
	}
	return list(items, total, page), nil
}

// Receive takes in what a provider tells. It asks for no credential: the delivery has to prove itself, else it is
// VALIDATION_ERROR and nothing is done. What came before is nothing new, and no error. What follows from it is done by a
// job, which is written in the same commit. Without a provider it is PAYMENTS_NOT_CONFIGURED.
func (s *Billing) Receive(ctx context.Context, d ports.Delivery) error {
	if s.Payments == nil {
		return billing.NotConfigured()
	}
	e, err := s.Payments.Read(ctx, d)
	if err != nil || e.Kind == "" {
		return err
	}
	kept := ports.KeptEvent{Event: e, Key: e.Provider + ":" + e.ID}
	return s.update(ctx, func(ctx context.Context, u *unit) error {
		kept.ReceivedAt = u.now
		added, err := u.Payments.AddEvent(ctx, kept)
		if err != nil || !added {
			return err
		}
		return u.enqueue(ctx, jobPayment, kept.Key, u.now, ports.PriorityInteractive)
	})
}

// GrantCredits names who gets credits, by id or by e-mail, how many, and why.
type GrantCredits struct {
	UserID string
	Email  string
	Amount credits.Amount
	Reason string
}

// Grant gives a user credits. Admins may do it, and it is kept who did, to whom, how many and why. It can be done once
// (WithOnce). One or two reads, one commit.
func (s *Billing) Grant(ctx context.Context, c identity.Caller, in GrantCredits) (billing.Grant, error) {
	var none billing.Grant
	if err := identity.Authorize(c, identity.CreditsGrant, identity.Resource{}); err != nil {
		return none, err
	}
	if s.Config.Grants == nil {
		return none, billing.NotConfigured()
	}
	if err := s.replay(ctx, c); err != nil {
		return none, err
	}
	g := billing.Grant{ID: s.NewID(), UserID: in.UserID, ByID: c.UserID, Credits: in.Amount, Reason: strings.TrimSpace(in.Reason), At: s.now()}
	to, err := s.receiver(ctx, in)
	if err != nil {
		return none, errors.Join(err, checkRest(g))
	}
	g.UserID = to
	order := billing.Order{ID: g.ID, UserID: g.UserID, Grant: &g}
	settled, err := s.Config.Grants.Begin(ctx, order)
	if err != nil {
		return none, fmt.Errorf("grant credits: %w", err)
	}
	if !settled.Settled {
		return none, fault.New(fault.Internal, fault.CodeInternal, "grants by %s have to be paid for", s.Config.Grants.Name())
	}
	credit := ledger.Issue{ID: settled.SessionID, UserID: g.UserID, Amount: g.Credits, Given: true, Description: "Granted: " + g.Reason}
	err = s.once(ctx, c, func() any { return g }, func(ctx context.Context, u *unit) error {
		g.At = u.now
		if err := u.move(ctx)(credit.Credit(u.now)); err != nil {
			return err
		}
		if err := u.Grants.Insert(ctx, g); err != nil {
			return fmt.Errorf("keep grant: %w", err)
		}
		return nil
	})
	return g, err
}

// checkRest is what is wrong with a grant besides who gets it.
func checkRest(g billing.Grant) error {
	g.UserID = "someone"
	return g.Check()
}

// receiver finds the user who is to get credits.
func (s *Billing) receiver(ctx context.Context, in GrantCredits) (string, error) {
	var bad fault.Fields
	if (in.UserID == "") == (in.Email == "") {
		bad.Add("userId", "name the user who gets the credits, either by userId or by email")
		return "", bad.Err()
	}
	users, field := s.Store.Read().Users, "userId"
	var u identity.User
	var err error
	if in.UserID != "" {
		u, err = users.Get(ctx, strings.ToLower(in.UserID))
	} else {
		norm, _ := identity.NormalizeEmail(in.Email)
		u, err = users.ByEmail(ctx, norm)
		field = "email"
	}
	if fault.Has(err, fault.CodeNotFound) {
		bad.Add(field, "is no user's")
		return "", bad.Err()
	}
	if err != nil {
		return "", fmt.Errorf("find user: %w", err)
	}
	return u.ID, nil
}

// Grants returns what admins gave, newest first; userID "" means to anyone. Admins may ask.
func (s *Billing) Grants(ctx context.Context, c identity.Caller, userID string, p Page) (List[billing.Grant], error) {
	var none List[billing.Grant]
	if err := identity.Authorize(c, identity.GrantsRead, identity.Resource{}); err != nil {
		return none, err
	}
	page, err := p.resolve(transactionsLimit, maxTransactionsLimit)
	if err != nil {
		return none, err
	}
	items, total, err := s.Store.Read().Grants.List(ctx, strings.ToLower(userID), page)
	if err != nil {
		return none, fmt.Errorf("read grants: %w", err)
	}
	return list(items, total, page), nil
}

// statementBatch is how many transactions are read at a time.
const statementBatch = 1_000

// Statement visits all of the caller's transactions, newest first, some at a time. typ "" means all types. It ends with
// the first error of visit's, which comes back as it is. What comes in the meantime is left out.
func (s *Billing) Statement(ctx context.Context, c identity.Caller, typ ledger.EntryType, visit func([]ledger.Entry) error) error {
	if err := identity.Authorize(c, identity.BillingRead, identity.Resource{}); err != nil {
		return err
	}
	if err := checkType(typ); err != nil {
		return err
	}
	reader, place := s.Store.Read().Statements, int64(0)
	for {
		entries, next, err := reader.Before(ctx, c.UserID, typ, place, statementBatch)
		if err != nil {
			return fmt.Errorf("read transactions: %w", err)
		}
		if place == 0 || len(entries) > 0 {
			if err := visit(entries); err != nil {
				return err
			}
		}
		if len(entries) < statementBatch {
			return nil
		}
		place = next
	}
}

func checkType(typ ledger.EntryType) error {
	var bad fault.Fields
	bad.Check(typ == "" || slices.Contains(ledger.EntryTypes(), typ), "type", "must be one of %v", ledger.EntryTypes())
	return bad.Err()
}

// payment does what follows from an event, with its end and the job's in one commit.
func (w *Worker) payment(ctx context.Context, job ports.Job) error {
	var past *history
	for {
		var e ports.KeptEvent
		outcome := ""
		err := w.update(ctx, func(ctx context.Context, u *unit) (err error) {
			if e, err = u.Payments.Event(ctx, job.Subject); err != nil {
				return fmt.Errorf("read event: %w", err)
			}
			if outcome = ""; e.Outcome == "" {
				if outcome, err = u.hear(ctx, e.Event, past); err != nil {
					return err
				}
				if err := u.Payments.EndEvent(ctx, e.Key, outcome); err != nil {
					return fmt.Errorf("end event: %w", err)
				}
			}
			return u.Jobs.Finish(ctx, job)
		})
		if errors.Is(err, errUnknownSession) && past == nil {
			if past, err = w.historyOf(ctx, e.Event); err == nil {
				continue
			}
		}
		kind, why, _ := strings.Cut(outcome, ": ")
		if err == nil && outcome != "" && w.Observe != nil {
			w.Observe.PaymentHeard(billing.Outcome(kind))
		}
		if err == nil && kind == string(billing.Rejected) {
			w.Logger.ErrorContext(ctx, "a payment was not credited, its purchase wants an operator's look", "event", e.Key, "session", e.SessionID, "why", why)
		}
		return err
	}
}

// outcomeOf is what came of an event, as it is kept: of one that was refused with the reason.
func outcomeOf(o billing.Outcome, why string) string {
	if why == "" {
		return string(o)
	}
	return string(o) + ": " + why
}

// errUnknownSession is returned for a session whose purchase is missing, before it is known what the ledger has of it.
var errUnknownSession = errors.New("app: no purchase has this session")

// history is what the ledger has of a session.
type history struct {
	credited  bool
	reversed  credits.Amount
	reversals int
}

// historyOf finds in the ledger what happened to a session whose purchase is missing, such as after one was restored.
func (w *Worker) historyOf(ctx context.Context, e billing.Event) (*history, error) {
	out := &history{}
	owner := &Billing{w.core}
	of := identity.Caller{UserID: e.UserID, Scopes: identity.Scopes{identity.ScopeAll}}
	for _, typ := range []ledger.EntryType{ledger.TypePurchase, ledger.TypeReversal} {
		err := owner.Statement(ctx, of, typ, func(entries []ledger.Entry) error {
			for _, x := range entries {
				switch {
				case x.Reference != e.SessionID:
				case typ == ledger.TypePurchase:
					out.credited = true
				default:
					out.reversed -= x.Amount
					out.reversals++
				}
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("look for a session in the ledger: %w", err)
		}
	}
	return out, nil
}

// hear does what follows from an event: whatever comes in which order and how often, a session is credited once, and
// what was taken back of it is what went back of its money and did not come again. It locks the payment, then the purchase, then the money.
func (u *unit) hear(ctx context.Context, e billing.Event, past *history) (outcome string, err error) {
	pay, err := u.Payments.Lock(ctx, e.Payment())
	if err != nil {
		return "", fmt.Errorf("lock payment: %w", err)
	}
	known := pay
	if e.About() {
		pay = pay.Hear(e)
		if err := u.Payments.Save(ctx, pay); err != nil {
			return "", fmt.Errorf("save payment: %w", err)
		}
	}
	p, insert, ignored, err := u.purchaseOf(ctx, e, past)
	if err != nil || ignored != "" {
		return ignored, err
	}
	before := p
	credit := false
	if e.SessionID != "" {
		p, credit = p.Settle(e, u.now)
	}
	from := p.Reversed
	if p.PaymentID == pay.ID {
		p = p.Reverse(known, pay, u.now)
	}
	switch {
	case insert:
		err = u.Purchases.Insert(ctx, p)
	case p != before:
		err = u.Purchases.Save(ctx, p)
	}
	if err != nil {
		return "", fmt.Errorf("save purchase: %w", err)
	}
	came, why := billing.Noted, ""
	issue := ledger.Issue{ID: p.SessionID, UserID: p.UserID, Amount: p.Credits, Description: fmt.Sprintf("%s credits (%s)", p.Credits, p.PackageID)}
	if credit {
		came = billing.Credited
		if err := u.move(ctx)(issue.Credit(u.now)); err != nil {
			return "", err
		}
	}
	if p.Reversed != from {
		if came = billing.Reversed; p.Reversed < from {
			came = billing.Returned
		}
		if err := u.move(ctx)(issue.Reverse(from, p.Reversed, p.Reversals, u.now)); err != nil {
			return "", err
		}
	}
	if p.Status == billing.Refused && e.Kind == billing.EventPaid {
		came, why = billing.Rejected, p.Note
	}
	return outcomeOf(came, why), nil
}

// move posts a transfer, if it could be made.
func (u *unit) move(ctx context.Context) func(ledger.Transfer, error) error {
	return func(t ledger.Transfer, err error) error {
		if err != nil {
			return err
		}
		return u.post(ctx, t)
	}
}

// purchaseOf locks the purchase that an event is about. If it is missing, it is made of what the event gives back of the
// order, to be inserted. ignored says why there is none.
func (u *unit) purchaseOf(ctx context.Context, e billing.Event, past *history) (p billing.Purchase, insert bool, ignored string, err error) {
	if e.SessionID == "" {
		id, err := u.Purchases.ByPayment(ctx, e.PaymentID)
		switch {
		case err != nil:
			return p, false, "", fmt.Errorf("find purchase: %w", err)
		case id == "": // nothing of ours, or it is not paid yet as far as is known
			return p, false, outcomeOf(billing.Noted, ""), nil
		}
		p, err = u.Purchases.Lock(ctx, id)
		return p, false, "", err
	}
	id, err := u.Purchases.BySession(ctx, e.SessionID)
	if err != nil {
		return p, false, "", fmt.Errorf("find purchase: %w", err)
	}
	if id == "" {
		id = e.PurchaseID
	}
	if id != "" {
		p, err = u.Purchases.Lock(ctx, id)
		switch {
		case err == nil && p.Provider == e.Provider && (p.SessionID == "" || p.SessionID == e.SessionID):
			return p, false, "", nil
		case err != nil && !fault.Has(err, fault.CodeNotFound):
			return p, false, "", fmt.Errorf("lock purchase: %w", err)
		}
	}
	p, ok := billing.Restore(u.id(), e, u.now)
	if !ok {
		return p, false, outcomeOf(billing.Rejected, "no purchase has this session, and it names no package or no user"), nil
	}
	if _, err := u.Users.Get(ctx, e.UserID); fault.Has(err, fault.CodeNotFound) {
		return p, false, outcomeOf(billing.Rejected, "no purchase has this session, and there is no such user"), nil
	} else if err != nil {
		return p, false, "", fmt.Errorf("find user: %w", err)
	}
	if past == nil {
		return p, false, "", errUnknownSession
	}
	if past.credited {
		p.Status, p.PaymentID, p.Reversed, p.Reversals = billing.Paid, e.Payment(), past.reversed, past.reversals
	}
	return p, true, "", nil
}

// Sums of days.
const (
	foldLook  = 100_000 // entries at a time that are looked at for busy users
	foldOften = 500     // what a user has to have among them to be busy
	foldBatch = 50_000  // entries of a user that are summed up in one commit
	foldLoose = 5_000   // entries that are not summed yet are more than a report should have to add up
)

// foldUsage sums up the days of users who are busy, or of one.
func (w *Worker) foldUsage(ctx context.Context, subject string) error {
	if subject != foldAll {
		return w.fold(ctx, subject)
	}
	for {
		users, upTo, more, err := w.Store.Read().Usage.Busy(ctx, foldLook, foldOften)
		if err != nil {
			return fmt.Errorf("find busy users: %w", err)
		}
		for _, id := range users {
			if err := w.fold(ctx, id); err != nil {
				return err
			}
		}
		err = w.update(ctx, func(ctx context.Context, u *unit) error { return u.Usage.Note(ctx, upTo) })
		if err != nil || !more {
			return err
		}
	}
}

const foldAll = "all"

func (w *Worker) fold(ctx context.Context, userID string) error {
	for more := true; more; {
		err := w.update(ctx, func(ctx context.Context, u *unit) (err error) {
			more, err = u.Usage.Fold(ctx, userID, foldBatch)
			return err
		})
		if err != nil {
			return fmt.Errorf("sum up usage: %w", err)
		}
	}
	return nil
}

// foldSoon lets the days of a user be summed up, if that is worth its while. Whoever asked does not wait for it.
func (s *Billing) foldSoon(ctx context.Context, userID string) {
	n, err := s.Store.Read().Usage.Loose(ctx, userID, foldLoose)
	if err == nil && n >= foldLoose {
		err = s.update(ctx, func(ctx context.Context, u *unit) error {
			return u.enqueue(ctx, jobFoldUsage, userID, u.now, ports.PriorityHousekeeping)
		})
	}
	if err != nil {
		s.Logger.WarnContext(ctx, "usage could not be summed up ahead", "error", err)
	}
}
