package bunstore

import (
	"context"
	"math"

	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/ports"
)

type accounts struct{ access }

var _ ports.StatementReader = (*accounts)(nil)

var (
	qStatement = hot(`SELECT e.seq, ` + entryColumns + ` FROM ledger_entries AS e JOIN ledger_transfers AS x ON x.id = e.transfer_id
		WHERE e.account = ? AND e.seq < ? ORDER BY e.seq DESC LIMIT ?`)
	qStatementOf = hot(`SELECT e.seq, ` + entryColumns + ` FROM ledger_entries AS e JOIN ledger_transfers AS x ON x.id = e.transfer_id
		WHERE e.account = ? AND e.seq < ? AND e.type = ? ORDER BY e.seq DESC LIMIT ?`)
)

// Before implements ports.StatementReader. One statement.
func (v *accounts) Before(ctx context.Context, userID string, typ ledger.EntryType, place int64, limit int) (out []ledger.Entry, next int64, err error) {
	if place == 0 {
		place = math.MaxInt64
	}
	q, args := qStatement, []any{string(ledger.Available(userID)), place, limit}
	if typ != "" {
		q, args = qStatementOf, []any{string(ledger.Available(userID)), place, string(typ), limit}
	}
	err = v.do(ctx, func(ctx context.Context, c *session) error {
		out, next = nil, 0
		err := c.each(ctx, q, args, func(scan func(...any) error) error {
			var e entryRow
			err := scan(&next, &e.ID, &e.TransferID, &e.Account, &e.Type, &e.Amount, &e.BalanceAfter, &e.At, &e.Reference, &e.Description)
			out = append(out, e.domain())
			return err
		})
		return c.store.wrap(err, "read statement")
	})
	return out, next, err
}
