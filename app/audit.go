package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/ports"
)

// auditPage is how many rows of a kind an audit reads at a time.
const auditPage = 2_000

// Audit is Verify for an administrator.
func (s *Billing) Audit(ctx context.Context, c identity.Caller) (ledger.Report, error) {
	if err := identity.Authorize(c, identity.LedgerAudit, identity.Resource{}); err != nil {
		return ledger.Report{}, err
	}
	return s.Verify(ctx, nil)
}

// Verify works the whole ledger out again from its entries, as it is at one moment, and says what is not as it must be:
// transfers that do not balance, balances that are not what their entries add up to, holds that are not those of the open
// tasks, and what was changed, added or removed since it was sealed. Where expected is not nil, the seal of that name must
// be there. It is for the operator's command line. It reads all there is and holds up nobody.
func (s *Billing) Verify(ctx context.Context, expected *ledger.Head) (ledger.Report, error) {
	var audit *ledger.Audit
	err := s.Store.Read().Audit.Snapshot(ctx, func(ctx context.Context, snap ports.LedgerSnapshot) error {
		audit = ledger.NewAudit(expected)
		if err := auditEntries(ctx, snap, audit); err != nil {
			return err
		}
		empty, err := snap.EmptyTransfers(ctx, auditPage)
		for _, id := range empty {
			audit.Empty(id)
		}
		return errors.Join(err,
			inPages(ctx, snap.Balances, func(b ledger.Balance) string { return b.UserID }, audit.Balance),
			inPages(ctx, snap.OpenHolds, func(h ledger.Hold) string { return h.TaskID }, audit.Open))
	})
	if err != nil {
		return ledger.Report{}, fmt.Errorf("audit the ledger: %w", err)
	}
	return audit.Report(), nil
}

// inPages visits all rows of a kind in the order of their keys.
func inPages[K, V any](ctx context.Context, read func(context.Context, K, int) ([]V, error), key func(V) K, visit func(V)) error {
	var after K
	for {
		rows, err := read(ctx, after, auditPage)
		if err != nil {
			return err
		}
		for _, r := range rows {
			visit(r)
			after = key(r)
		}
		if len(rows) < auditPage {
			return nil
		}
	}
}

// auditEntries tells the audit each seal, and then the entries that it covers.
func auditEntries(ctx context.Context, snap ports.LedgerSnapshot, audit *ledger.Audit) error {
	const few = 50 // seals at a time, as each has the marks of many entries
	var seals []ledger.Seal
	last := int64(0)
	more := true
	next := func() error { // the next seal is told, if there is one
		if len(seals) == 0 && more {
			var err error
			if seals, err = snap.Seals(ctx, last, few); err != nil {
				return err
			}
			more = len(seals) == few
		}
		return nil
	}
	covered := int64(0)
	step := func() (told bool, err error) {
		if err := next(); err != nil || len(seals) == 0 {
			return false, err
		}
		audit.Seal(seals[0])
		covered, last = max(covered, seals[0].To), seals[0].N
		seals = seals[1:]
		return true, nil
	}
	told, err := step()
	if err != nil {
		return err
	}
	err = inPages(ctx, snap.Entries, func(e ledger.Booked) int64 { return e.Seq }, func(e ledger.Booked) {
		for err == nil && told && e.Seq > covered {
			told, err = step()
		}
		audit.Entry(e)
	})
	for err == nil && told { // of entries that are gone
		told, err = step()
	}
	return err
}

// seal adds to the chain what has been booked since its newest seal and is settled.
func (c *core) seal(ctx context.Context) error {
	r := c.Store.Read().Audit
	last, err := r.LastSeal(ctx)
	if err != nil {
		return fmt.Errorf("read the last seal: %w", err)
	}
	to, err := r.Settled(ctx)
	if err != nil {
		return err
	}
	for {
		entries, err := r.Entries(ctx, last.To, to, ledger.SealSize)
		if err != nil {
			return fmt.Errorf("read entries: %w", err)
		}
		if len(entries) == 0 {
			return nil
		}
		next := last.Next(entries, c.now())
		err = c.commit(ctx, func(ctx context.Context, u *unit) error { return u.Ledger.Seal(ctx, next) })
		switch {
		case errors.Is(err, ports.ErrDuplicate): // another process is at it
			return nil
		case err != nil:
			return fmt.Errorf("seal entries: %w", err)
		}
		if last = next; len(entries) < ledger.SealSize {
			return nil
		}
	}
}

// sealSoon has the entries sealed, if there are any that are not.
func (c *core) sealSoon(ctx context.Context) error {
	r := c.Store.Read().Audit
	last, err := r.LastSeal(ctx)
	if err != nil {
		return fmt.Errorf("read the last seal: %w", err)
	}
	to, err := r.Settled(ctx)
	if err != nil || to <= last.To {
		return err
	}
	return c.update(ctx, func(ctx context.Context, u *unit) error {
		return u.enqueue(ctx, jobSeal, "all", u.now, ports.PriorityHousekeeping)
	})
}
