package app

import (
	"context"
	"fmt"

	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// System is how the engine's work stands, for those who run it.
type System struct{ *core }

// Overview is the state of all work at one moment.
type Overview struct {
	OpenTasks map[task.Status]int
	Jobs      map[ports.Priority]ports.JobStats
	Ledger    ports.LedgerStats
}

// Overview adds up what is open and what waits. An admin's session may call it. Three reads.
func (s *System) Overview(ctx context.Context, c identity.Caller) (Overview, error) {
	var out Overview
	if err := identity.Authorize(c, identity.SystemRead, identity.Resource{}); err != nil {
		return out, err
	}
	stats := s.Store.Read().Stats
	var err error
	if out.OpenTasks, err = stats.OpenTasks(ctx); err != nil {
		return out, fmt.Errorf("count open tasks: %w", err)
	}
	if out.Jobs, err = stats.Jobs(ctx, s.now()); err != nil {
		return out, fmt.Errorf("count jobs: %w", err)
	}
	if out.Ledger, err = stats.Ledger(ctx); err != nil {
		return out, fmt.Errorf("add up the ledger: %w", err)
	}
	return out, nil
}
