package main

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/httpapi/apitest"
	"github.com/nexus-protocol/nexus/adapters/postgres"
	"github.com/nexus-protocol/nexus/adapters/postgres/postgrestest"
	"github.com/nexus-protocol/nexus/adapters/redistest"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/domain/trust"
	"github.com/nexus-protocol/nexus/ports"
)

// cluster makes a process of each role on one PostgreSQL and one Redis, both empty. It starts none.
func cluster(t *testing.T, roles ...string) []*server {
	t.Helper()
	one := newServer(t)
	one.db, one.rds, one.role = postgrestest.URL(t), redistest.URL(t), roles[0]
	all := []*server{one}
	for _, role := range roles[1:] {
		all = append(all, one.beside(role))
	}
	return all
}

func startAll(all []*server) {
	var started sync.WaitGroup
	for _, s := range all {
		started.Go(s.start)
	}
	started.Wait()
}

// quietLogs demands that no process has complained.
func quietLogs(t *testing.T, all []*server) {
	t.Helper()
	for i, s := range all {
		for line := range strings.Lines(s.log.String()) {
			require.NotRegexp(t, `level=(ERROR|WARN)|panic`, line, "process %d", i)
		}
	}
}

// roundRobin sends one request after the other to one server after the other.
func roundRobin(t *testing.T, servers ...*server) (base string, served []atomic.Int64) {
	t.Helper()
	served = make([]atomic.Int64, len(servers))
	var n atomic.Int64
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			i := int(n.Add(1)) % len(servers)
			served[i].Add(1)
			r.SetURL(&url.URL{Scheme: "http", Host: servers[i].addr})
			r.Out.Host, r.Out.URL.RawQuery = r.In.Host, r.In.URL.RawQuery // untouched, also where it is wrong
		},
	})
	t.Cleanup(proxy.Close)
	return proxy.URL, served
}

// The API's whole suite on two processes that serve and two that work: every request may meet another process than the
// one before.
func TestAPIOfACluster(t *testing.T) {
	t.Parallel()
	all := cluster(t, "api", "api", "worker", "worker")
	base, served := roundRobin(t, all[0], all[1])
	for _, s := range all {
		s.args = append(s.args, "--public-url", base)
	}
	startAll(all)
	t.Run("suite", func(t *testing.T) { apitest.Run(t, apitest.Target{BaseURL: base, KeepAlive: keepAlive}) })
	for i := range served {
		require.Greater(t, served[i].Load(), int64(100), "requests of server %d", i)
	}
}

// What was sent to one process is seen at the other as soon as it was answered.
func TestWhatOneProcessTookOnTheOtherKnows(t *testing.T) {
	t.Parallel()
	all := cluster(t, "api", "api")
	startAll(all)
	endpoint, _ := agent(t, func() time.Duration { return 0 })
	c := all[0].signUp("a@example.com")
	there := &client{base: all[1].url(), cookie: c.cookie}
	opt, err := redis.ParseURL(all[0].rds)
	require.NoError(t, err)
	rc := redis.NewClient(opt)
	defer func() { require.NoError(t, rc.Close()) }()
	said := rc.Subscribe(t.Context(), fmt.Sprint("nexus:events:", opt.DB))
	defer func() { require.NoError(t, said.Close()) }()
	_, err = said.Receive(t.Context()) // it is subscribed
	require.NoError(t, err)
	for range 20 {
		agentID := all[0].register(c, endpoint, 1)
		_, err := there.call("GET", "/api/v1/agents/"+agentID, nil, nil)
		require.NoError(t, err)
		var out taskJSON
		_, err = there.call("POST", "/api/v1/tasks", map[string]any{"assignedAgentId": agentID, "title": "x"}, &out)
		require.NoError(t, err)
		_, err = c.call("POST", "/api/v1/tasks/"+out.ID+"/cancel", nil, &out)
		require.NoError(t, err)
		_, err = there.call("GET", "/api/v1/tasks/"+out.ID, nil, &out)
		require.NoError(t, err)
		require.Equal(t, "cancelled", out.Status)
		for from := map[string]bool{}; len(from) < 2; { // both say that it has changed: one took it on, one cancelled it
			m, err := said.ReceiveTimeout(t.Context(), 10*time.Second)
			require.NoError(t, err)
			var body struct {
				From    string
				Streams []string
			}
			require.NoError(t, json.Unmarshal([]byte(m.(*redis.Message).Payload), &body))
			require.Equal(t, []string{out.ID}, body.Streams)
			from[body.From] = true
		}
		_, err = there.call("DELETE", "/api/v1/agents/"+agentID, nil, nil)
		require.NoError(t, err)
		status, _ := c.call("POST", "/api/v1/tasks", map[string]any{"assignedAgentId": agentID, "title": "x"}, nil)
		require.Equal(t, http.StatusNotFound, status)
	}
}

// sound demands that each task ended once, with one piece of evidence, and that the books balance.
func sound(t *testing.T, store ports.Store, agentID string, ids []string, evidence trust.EventType) {
	t.Helper()
	for _, id := range ids {
		log, err := store.Read().Tasks.Events(t.Context(), id, 0, 100)
		require.NoError(t, err)
		ends := 0
		for _, e := range log {
			if e.Kind == task.EventComplete {
				ends++
			}
		}
		require.Equal(t, 1, ends, "ends of task %s", id)
	}
	events, total, err := store.Read().Trust.Events(t.Context(), agentID, ports.Page{Limit: 100})
	require.NoError(t, err)
	require.Equal(t, len(ids), total, "one piece of evidence a task")
	for _, e := range events {
		require.Equal(t, evidence, e.Type)
	}
	sum, err := store.Read().Ledger.Imbalance(t.Context())
	require.NoError(t, err)
	require.Zero(t, sum)
	left, err := store.Read().Jobs.Count(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, left, "only the job that probes the agent is left")
}

// Two workers start at the same time and find the same tasks overdue, and the same jobs that Redis has forgotten. Each
// ends once, and nobody complains.
func TestTwoSweepers(t *testing.T) {
	t.Parallel()
	const overdue, forgotten = 40, 40
	all := cluster(t, "api", "worker", "worker")
	api := all[0]
	api.start()
	var calls sync.Map
	endpoint := polite(t, func(id string, n int32) { calls.Store(id, n) })
	asker, owner := api.signUp("asker@example.com"), api.signUp("owner@example.com")
	late, agentID := api.register(owner, endpoint, 1), api.register(owner, endpoint, 1)
	create := func(agentID string, n int) (ids []string) {
		for range n {
			var out taskJSON
			_, err := asker.call("POST", "/api/v1/tasks", map[string]any{"assignedAgentId": agentID, "title": "x"}, &out)
			require.NoError(t, err)
			ids = append(ids, out.ID)
		}
		return ids
	}
	lateIDs, ids := create(late, overdue), create(agentID, forgotten)
	db, err := sql.Open("pgx", api.db)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	_, err = db.Exec("UPDATE tasks SET timeout_at = created_at WHERE agent_id = $1", late)
	require.NoError(t, err)
	// Half of the overdue ones have no job any more that would end them.
	_, err = db.Exec("DELETE FROM jobs WHERE subject = ANY($1)", lateIDs[:overdue/2])
	require.NoError(t, err)
	opt, err := redis.ParseURL(api.rds)
	require.NoError(t, err)
	rc := redis.NewClient(opt)
	defer func() { require.NoError(t, rc.Close()) }()
	require.NoError(t, rc.FlushDB(t.Context()).Err())

	startAll(all[1:])
	store := api.look(t)
	wantStatus := func(ids []string, want task.Status) {
		for _, id := range ids {
			require.Eventually(t, func() bool {
				v, err := store.Read().Tasks.Get(t.Context(), id)
				return err == nil && v.Status == want
			}, 30*time.Second, 10*time.Millisecond, "task %s", id)
		}
	}
	wantStatus(lateIDs, task.Failed)
	wantStatus(ids, task.Completed)
	for _, s := range all {
		require.NoError(t, s.stop())
	}
	for _, id := range lateIDs {
		_, called := calls.Load(id)
		require.False(t, called, "an overdue task is not begun")
	}
	for _, id := range ids {
		n, _ := calls.Load(id)
		require.Equal(t, int32(1), n, "calls of the agent")
	}
	_, err = db.Exec("DELETE FROM jobs WHERE subject = $1", late) // the other agent's probe
	require.NoError(t, err)
	sound(t, store, late, lateIDs, trust.TaskTimeout)
	sound(t, store, agentID, ids, trust.TaskCompleted)
	b, err := store.Read().Ledger.Balance(t.Context(), asker.userID)
	require.NoError(t, err)
	require.Zero(t, b.Held)
	require.EqualValues(t, forgotten*100, b.Spent)
	quietLogs(t, all)
}

// polite is an agent that completes everything at once. It tells of each call for the n-th time, before it answers.
func polite(t *testing.T, called func(taskID string, n int32)) (endpoint string) {
	t.Helper()
	var calls sync.Map
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, `{"name":"test"}`)
			return
		}
		var in struct {
			ID     string
			Params struct {
				Message struct{ MessageID string }
			}
		}
		if json.NewDecoder(r.Body).Decode(&in) != nil {
			return
		}
		n, _ := calls.LoadOrStore(in.Params.Message.MessageID, &atomic.Int32{})
		called(in.Params.Message.MessageID, n.(*atomic.Int32).Add(1))
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%q,"result":{"kind":"task","id":"r","status":{"state":"completed"},"artifacts":[]}}`, in.ID)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// A worker freezes while it calls an agent. Another one takes its task over and completes it. When the first one wakes up
// it has its answer too, and nothing comes of it.
func TestAFrozenWorkerWakesUpTooLate(t *testing.T) {
	t.Parallel()
	all := cluster(t, "api", "worker", "worker")
	api, frozen, other := all[0], all[1], all[2]
	startAll(all[:2])
	called, release := make(chan struct{}), make(chan struct{})
	var calls atomic.Int32
	endpoint := polite(t, func(_ string, n int32) {
		calls.Add(1)
		if n == 1 {
			close(called)
			<-release
		}
	})
	asker, owner := api.signUp("asker@example.com"), api.signUp("owner@example.com")
	agentID := api.register(owner, endpoint, 10)
	var out taskJSON
	_, err := asker.call("POST", "/api/v1/tasks", map[string]any{"assignedAgentId": agentID, "title": "x"}, &out)
	require.NoError(t, err)
	<-called
	require.NoError(t, frozen.cmd.Process.Signal(syscall.SIGSTOP))
	other.start()
	require.Eventually(t, func() bool {
		_, err := asker.call("GET", "/api/v1/tasks/"+out.ID, nil, &out)
		return err == nil && out.Status == "completed"
	}, 40*time.Second, 50*time.Millisecond, "nobody takes it over")
	require.EqualValues(t, 2, calls.Load())
	require.Equal(t, 2, out.Attempts)
	close(release)
	require.NoError(t, frozen.cmd.Process.Signal(syscall.SIGCONT))
	// It works again, and by the time that it has stopped it has done with what it had begun.
	require.Eventually(t, func() bool {
		status, _ := (&client{base: frozen.url()}).call("GET", "/readyz", nil, nil)
		return status == http.StatusOK
	},
		10*time.Second, 20*time.Millisecond)
	time.Sleep(500 * time.Millisecond)
	for _, s := range all {
		require.NoError(t, s.stop())
	}
	store := api.look(t)
	sound(t, store, agentID, []string{out.ID}, trust.TaskCompleted)
	spent, err := store.Read().Ledger.Balance(t.Context(), asker.userID)
	require.NoError(t, err)
	earned, err := store.Read().Ledger.Balance(t.Context(), owner.userID)
	require.NoError(t, err)
	require.EqualValues(t, []int{1000, 0, 950}, []int{int(spent.Spent), int(spent.Held), int(earned.Earned)}, "paid once")
	require.NotContains(t, frozen.log.String(), "job failed")
}

// Ten processes start at once on databases that are empty. One migrates while the others wait, and all get ready.
func TestTenProcessesStartAtOnce(t *testing.T) {
	t.Parallel()
	all := cluster(t, "all", "api", "worker", "all", "api", "worker", "all", "api", "worker", "all")
	startAll(all)
	list, err := postgres.MigrationStatus(t.Context(), all[0].db)
	require.NoError(t, err)
	db, err := sql.Open("pgx", all[0].db)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	for _, m := range list {
		require.True(t, m.Applied, m.Name)
		var times int
		require.NoError(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM goose_db_version WHERE version_id = $1", m.Version).Scan(&times))
		require.Equal(t, 1, times, m.Name)
	}
	c := all[3].signUp("a@example.com")
	endpoint, _ := agent(t, func() time.Duration { return 0 })
	agentID := all[3].register(c, endpoint, 0)
	_, err = (&client{base: all[4].url(), cookie: c.cookie}).call("POST", "/api/v1/tasks", map[string]any{"assignedAgentId": agentID, "title": "x"}, nil)
	require.NoError(t, err)
	for _, s := range all {
		require.NoError(t, s.stop())
	}
	quietLogs(t, all)
}
