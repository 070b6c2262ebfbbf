package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/postgres/postgrestest"
	"github.com/nexus-protocol/nexus/adapters/redistest"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/domain/scheduler"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// randomSteps are up to ten steps, each of which waits for any of those before it, and some of which are tried again.
func randomSteps(agentID string) []map[string]any {
	var steps []map[string]any
	for i := range 1 + rand.IntN(10) {
		depends := []int{}
		for d := range i {
			if rand.IntN(3) == 0 {
				depends = append(depends, d)
			}
		}
		s := map[string]any{"name": fmt.Sprint("Step ", i), "agentId": agentID, "input": map[string]any{"i": i}, "dependsOn": depends}
		if rand.IntN(2) == 0 {
			s["retryPolicy"] = map[string]any{"maxRetries": 2, "backoffMs": 100}
		}
		steps = append(steps, s)
	}
	return steps
}

// Two hundred runs of random workflows are under way while whatever serves and works is killed at any moment. Every run
// ends as its steps did, each step's effect is there once, and the books balance. NEXUS_FAULTS=60s makes it long.
func TestRunsOutliveTheirServers(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		outlive(t, newServer(t))
	})
	t.Run("a cluster", func(t *testing.T) {
		t.Parallel()
		one := newServer(t)
		one.db, one.rds, one.role = postgrestest.URL(t), redistest.URL(t), "api"
		outlive(t, one, one.beside("api"), one.beside("worker"), one.beside("worker"))
	})
}

// outlive does it with processes, of which the first and, if there is one, the second serve.
func outlive(t *testing.T, all ...*server) {
	const runs, price = 200, 0.5
	length := 6 * time.Second
	if s := os.Getenv("NEXUS_FAULTS"); s != "" {
		var err error
		length, err = time.ParseDuration(s)
		require.NoError(t, err)
	}
	endpoint, _ := agent(t, func() time.Duration { return time.Duration(rand.IntN(60)) * time.Millisecond })
	for _, s := range all {
		s.start()
	}
	apis := all[:min(2, len(all))]
	owner, asker := all[0].signUp("owner@example.com"), all[0].signUp("asker@example.com")
	agentID := all[0].register(owner, endpoint, price)
	var flows []string
	for i := range 20 {
		var out struct{ ID string }
		_, err := asker.call("POST", "/api/v1/workflows", map[string]any{"name": fmt.Sprint("Flow ", i), "steps": randomSteps(agentID)}, &out)
		require.NoError(t, err)
		flows = append(flows, out.ID)
	}

	type ref struct{ ID, WorkflowID string }
	begun := make([]ref, runs)
	end := time.Now().Add(length)
	var asking sync.WaitGroup
	for c := range 4 {
		asking.Go(func() {
			for i := c; i < runs; i += 4 {
				time.Sleep(time.Until(end.Add(-length + length*time.Duration(i)/runs)))
				me := &client{cookie: asker.cookie, once: fmt.Sprint("run ", i)}
				for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) { // until it is taken on, once
					me.base = apis[rand.IntN(len(apis))].url()
					status, err := me.call("POST", "/api/v1/workflows/"+flows[i%len(flows)]+"/execute", nil, &begun[i])
					if err == nil {
						break
					}
					if status != 0 && status != http.StatusServiceUnavailable || time.Now().After(deadline) {
						assert.NoError(t, err)
						return
					}
				}
			}
		})
	}
	kills := 0
	for time.Now().Before(end) {
		time.Sleep(time.Duration(100+rand.IntN(700)) * time.Millisecond)
		victim := all[rand.IntN(len(all))]
		victim.kill()
		victim.start()
		kills++
	}
	asking.Wait()
	require.False(t, t.Failed())

	for _, r := range begun {
		var out struct{ Status string }
		require.Eventually(t, func() bool {
			c := &client{base: apis[0].url(), cookie: asker.cookie}
			_, err := c.call("GET", "/api/v1/workflows/"+r.WorkflowID+"/runs/"+r.ID, nil, &out)
			return err == nil && (out.Status == "completed" || out.Status == "failed")
		}, time.Minute, 10*time.Millisecond, "run %s does not end", r.ID)
	}
	for _, s := range all {
		require.NoError(t, s.stop())
	}

	store := all[0].look(t)
	ids := map[string]bool{}
	var total, paid, attempts int
	for _, r := range begun {
		ids[r.ID] = true
		total++
		a, p := soundRun(t, store, r.ID)
		attempts, paid = attempts+a, paid+p
	}
	require.Len(t, ids, runs, "each key made one run")
	for _, id := range flows {
		_, n, err := store.Read().Runs.List(t.Context(), ports.RunFilter{WorkflowID: id}, ports.Page{Limit: 1})
		require.NoError(t, err)
		total -= n
	}
	require.Zero(t, total, "there are no runs that nobody asked for")
	_, tasks, err := store.Read().Tasks.List(t.Context(), ports.TaskFilter{RequesterUserID: asker.userID}, ports.Page{Limit: 1})
	require.NoError(t, err)
	require.Equal(t, attempts, tasks, "each attempt is one task")
	b, err := store.Read().Ledger.Balance(t.Context(), asker.userID)
	require.NoError(t, err)
	require.EqualValues(t, paid*50, b.Spent)
	require.Zero(t, b.Held)
	require.True(t, b.Consistent())
	imbalance, err := store.Read().Ledger.Imbalance(t.Context())
	require.NoError(t, err)
	require.Zero(t, imbalance)
	_, debits, err := store.Read().Ledger.Transactions(t.Context(), asker.userID, ledger.TypeTaskDebit, ports.Page{Limit: 1})
	require.NoError(t, err)
	require.Equal(t, paid, debits)
	left, err := store.Read().Jobs.Count(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, left, "only the job that probes the agent is left")
	t.Logf("%d processes were killed %d times: %d runs, %d tasks, %d paid", len(all), kills, runs, attempts, paid)
}

// soundRun looks whether a run that has ended is what its log tells and what its tasks did. It returns how many tasks it
// had, and how many of them were paid.
func soundRun(t *testing.T, store ports.Store, id string) (attempts, paid int) {
	t.Helper()
	log, err := store.Read().RunLogs.EventsOf(t.Context(), []ports.Position{{ID: id}}, 1000)
	require.NoError(t, err)
	told, err := scheduler.Replay(log)
	require.NoError(t, err)
	r, err := store.Read().Runs.Get(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, told, r)
	seen := map[string]bool{}
	for _, e := range log {
		if e.Kind == scheduler.EventStepStarted {
			require.False(t, seen[e.TaskID])
			seen[e.TaskID] = true
		}
	}
	worst := scheduler.Completed
	for i, s := range r.Steps {
		attempts += s.Attempts
		waits := r.Plan.Steps()[i].DependsOn
		ready := !slices.ContainsFunc(waits, func(d int) bool { return r.Steps[d].Status != scheduler.Completed })
		require.Equal(t, ready, s.Attempts > 0, "step %d begins when what it waits for has completed, and only then", i)
		if s.Status != scheduler.Completed {
			worst = scheduler.Failed
		}
		if !ready {
			require.Equal(t, scheduler.Skipped, s.Status)
			continue
		}
		v, err := store.Read().Tasks.Get(t.Context(), s.TaskID)
		require.NoError(t, err)
		require.Equal(t, id, v.WorkflowRunID)
		require.Equal(t, i, *v.StepIndex)
		require.EqualValues(t, s.Status, v.Status)
		if v.Status == task.Completed {
			paid++
			require.Equal(t, string(v.Output), string(s.Output))
		} else {
			require.Equal(t, 1+r.Plan.Steps()[i].Retry.MaxRetries, s.Attempts, "it was tried as often as it may be")
		}
		for _, d := range waits {
			require.False(t, s.StartedAt.Before(*r.Steps[d].CompletedAt))
		}
	}
	require.Len(t, seen, attempts)
	require.Equal(t, worst, r.Status)
	return attempts, paid
}
