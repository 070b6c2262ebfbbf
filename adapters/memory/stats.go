package memory

import (
	"context"
	"time"

	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

type stats struct{ view }

func (v stats) OpenTasks(ctx context.Context) (map[task.Status]int, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	out := map[task.Status]int{}
	for id := range v.s.open.rows {
		out[v.s.tasks.rows[id].Status]++
	}
	return out, nil
}

func (v stats) Jobs(ctx context.Context, now time.Time) (map[ports.Priority]ports.JobStats, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	out := map[ports.Priority]ports.JobStats{}
	for _, j := range v.s.jobs.rows {
		s := out[j.Priority]
		switch {
		case claimable(j, now):
			s.Waiting++
			if s.Oldest.IsZero() || j.RunAt.Before(s.Oldest) {
				s.Oldest = j.RunAt
			}
		case j.RunAt.After(now):
			s.Later++
		default:
			s.Running++
		}
		out[j.Priority] = s
	}
	return out, nil
}

func (v stats) Ledger(ctx context.Context) (out ports.LedgerStats, err error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return out, err
	}
	defer unlock()
	for account, sum := range v.s.totals.rows {
		_, available, user := ledger.Account(account).User()
		switch {
		case user && available:
			out.Available += sum
		case user:
			out.Held += sum
		case account == string(ledger.Fees):
			out.Fees += sum
		case account == string(ledger.Issuance):
			out.Issuance += sum
		case account == string(ledger.Clearing):
			out.Clearing += sum
		}
		out.Imbalance += sum
	}
	return out, nil
}
