package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/httpapi/apitest"
	"github.com/nexus-protocol/nexus/adapters/postgres/postgrestest"
	"github.com/nexus-protocol/nexus/adapters/redistest"
	"github.com/nexus-protocol/nexus/adapters/stripepay/stripetest"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/domain/trust"
	"github.com/nexus-protocol/nexus/ports"
)

func TestAPIOfTheBinary(t *testing.T) {
	everyDatabase(t, func(t *testing.T, s *server) {
		pay := s.sells(t)
		s.start()
		apitest.Run(t, apitest.Target{BaseURL: s.url(), KeepAlive: keepAlive, Pay: pay})
		for _, secret := range []string{stripetest.SecretKey, stripetest.WebhookSecret, stripetest.Canary} {
			require.NotContains(t, s.log.String(), secret, "in the log")
		}
	})
}

// agent is an A2A agent that survives the server. It answers after a while, says no to some, and counts what it is sent.
func agent(t testing.TB, delay func() time.Duration) (endpoint string, calls *sync.Map) {
	t.Helper()
	calls = &sync.Map{}
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
		n.(*atomic.Int32).Add(1)
		select {
		case <-time.After(delay()):
		case <-r.Context().Done():
			return
		}
		state := "completed"
		if sum := in.ID[len(in.ID)-1]; sum == '0' || sum == '7' {
			state = "failed"
		}
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%q,"result":{"kind":"task","id":"r","status":{"state":%q},"artifacts":[]}}`, in.ID, state)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, calls
}

// Two hundred tasks are under way while the server is killed five times, at moments that nobody chose. Every task ends
// once and is settled once, and the books balance.
func TestKilledFiveTimes(t *testing.T) {
	everyDatabase(t, func(t *testing.T, s *server) {
		const tasks, price = 200, 3.5
		endpoint, calls := agent(t, func() time.Duration { return time.Duration(50+rand.IntN(1_200)) * time.Millisecond })
		s.start()
		asker, owner := s.signUp("asker@example.com"), s.signUp("owner@example.com")
		agentID := s.register(owner, endpoint, price)

		var ids []string
		for i := range tasks {
			var out taskJSON
			status, err := asker.call("POST", "/api/v1/tasks", map[string]any{"assignedAgentId": agentID, "title": fmt.Sprint("Task ", i)}, &out)
			require.NoError(t, err)
			require.Equal(t, http.StatusAccepted, status)
			ids = append(ids, out.ID)
			if i%40 == 39 {
				time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond)
				s.kill()
				s.start()
			}
		}
		byStatus := map[string]int{}
		for _, id := range ids {
			var out taskJSON
			require.Eventually(t, func() bool {
				_, err := asker.call("GET", "/api/v1/tasks/"+id, nil, &out)
				return err == nil && (out.Status == "completed" || out.Status == "failed")
			}, 60*time.Second, 10*time.Millisecond, "task %s does not end", id)
			byStatus[out.Status]++
			if out.Status == "failed" {
				require.Equal(t, task.ErrAgentFailed, out.Error.Code, out.Error.Message)
			}
		}
		require.NotZero(t, byStatus["completed"])
		require.NotZero(t, byStatus["failed"])
		var spent, earned balanceJSON
		_, err := asker.call("GET", "/api/v1/billing/balance", nil, &spent)
		require.NoError(t, err)
		_, err = owner.call("GET", "/api/v1/billing/balance", nil, &earned)
		require.NoError(t, err)
		paid := float64(byStatus["completed"]) * price
		require.Equal(t, balanceJSON{Balance: 1000 - paid, Spent: paid}, spent)
		require.InDelta(t, float64(byStatus["completed"])*3.32, earned.Earned, 0.001) // 3.50 less a fee of 0.18
		require.NoError(t, s.stop())

		store := s.look(t)
		sum, err := store.Read().Ledger.Imbalance(t.Context())
		require.NoError(t, err)
		require.Zero(t, sum, "the sum of all postings")
		s.audited()
		evidence := map[trust.EventType]int{}
		for offset := 0; offset < tasks; offset += 100 {
			events, total, err := store.Read().Trust.Events(t.Context(), agentID, ports.Page{Limit: 100, Offset: offset})
			require.NoError(t, err)
			require.Equal(t, tasks, total, "one piece of evidence a task")
			for _, e := range events {
				evidence[e.Type]++
			}
		}
		require.Equal(t, map[trust.EventType]int{trust.TaskCompleted: byStatus["completed"], trust.TaskFailed: byStatus["failed"]}, evidence)
		repeats := 0
		for _, id := range ids {
			log, err := store.Read().Tasks.Events(t.Context(), id, 0, 100)
			require.NoError(t, err)
			ends := 0
			for i, e := range log {
				require.EqualValues(t, i+1, e.Seq)
				if e.Kind == task.EventComplete {
					ends++
				}
			}
			require.Equal(t, 1, ends, "ends of task %s", id)
			n, called := calls.Load(id)
			require.True(t, called)
			repeats += int(n.(*atomic.Int32).Load()) - 1
		}
		left, err := store.Read().Jobs.Count(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, left, "only the job that probes the agent is left")
		t.Logf("%d completed, %d failed, %d calls were repeated with the same message id", byStatus["completed"], byStatus["failed"], repeats)
	})
}

// Two processes serve and two work, on one database. Any of them is killed at any moment, and Redis is emptied.
func TestACluster(t *testing.T) {
	t.Parallel()
	const tasks, price = 200, 2.0
	endpoint, _ := agent(t, func() time.Duration { return time.Duration(20+rand.IntN(400)) * time.Millisecond })
	one := newServer(t)
	one.db, one.rds, one.role = postgrestest.URL(t), redistest.URL(t), "api"
	all := []*server{one, one.beside("api"), one.beside("worker"), one.beside("worker")}
	var started sync.WaitGroup
	for _, s := range all { // all migrate at once
		started.Go(s.start)
	}
	started.Wait()
	asker, owner := one.signUp("asker@example.com"), one.signUp("owner@example.com")
	agentID := one.register(owner, endpoint, price)
	opt, err := redis.ParseURL(one.rds)
	require.NoError(t, err)
	rc := redis.NewClient(opt)
	defer func() { require.NoError(t, rc.Close()) }()
	var ids []string
	for i := range tasks {
		api := all[i%2]
		c := &client{base: api.url(), cookie: asker.cookie}
		var out taskJSON
		_, err := c.call("POST", "/api/v1/tasks", map[string]any{"assignedAgentId": agentID, "title": fmt.Sprint("Task ", i)}, &out)
		require.NoError(t, err)
		ids = append(ids, out.ID)
		switch i % 50 {
		case 20:
			require.NoError(t, rc.FlushDB(t.Context()).Err())
		case 49:
			victim := all[rand.IntN(len(all))]
			victim.kill()
			victim.start()
		}
	}
	completed := 0
	for i, id := range ids {
		c := &client{base: all[(i+1)%2].url(), cookie: asker.cookie} // by the one that did not take it on
		var out taskJSON
		require.Eventually(t, func() bool {
			_, err := c.call("GET", "/api/v1/tasks/"+id, nil, &out)
			return err == nil && (out.Status == "completed" || out.Status == "failed")
		}, 60*time.Second, 10*time.Millisecond, "task %s does not end", id)
		if out.Status == "completed" {
			completed++
		}
	}
	var spent balanceJSON
	_, err = asker.call("GET", "/api/v1/billing/balance", nil, &spent)
	require.NoError(t, err)
	require.Equal(t, balanceJSON{Balance: 1000 - float64(completed)*price, Spent: float64(completed) * price}, spent)
	store := one.look(t)
	sum, err := store.Read().Ledger.Imbalance(t.Context())
	require.NoError(t, err)
	require.Zero(t, sum)
	one.audited()
	_, total, err := store.Read().Trust.Events(t.Context(), agentID, ports.Page{Limit: 1})
	require.NoError(t, err)
	require.Equal(t, tasks, total, "one piece of evidence a task")
	for _, s := range all {
		require.NoError(t, s.stop())
	}
}

// Redis goes away and comes back. Meanwhile the server says that it is not ready, tasks are taken on and wait; then they are done.
func TestRedisGoesAndComesBack(t *testing.T) {
	t.Parallel()
	base, stop, err := redistest.Start()
	require.NoError(t, err)
	s := newServer(t)
	s.db, s.rds = postgrestest.URL(t), base+"/0"
	s.start()
	endpoint, _ := agent(t, func() time.Duration { return 0 })
	c := s.signUp("a@example.com")
	agentID := s.register(c, endpoint, 0)
	stop()
	status, _ := c.call("GET", "/readyz", nil, nil)
	require.Equal(t, http.StatusServiceUnavailable, status)
	var out taskJSON
	_, err = c.call("POST", "/api/v1/tasks", map[string]any{"assignedAgentId": agentID, "title": "x"}, &out)
	require.NoError(t, err)
	_, port, _ := strings.Cut(strings.TrimPrefix(base, "redis://"), ":")
	stop, err = redistest.StartAt(port)
	require.NoError(t, err)
	t.Cleanup(stop)
	require.Eventually(t, func() bool {
		_, err := c.call("GET", "/api/v1/tasks/"+out.ID, nil, &out)
		return err == nil && out.Status != "assigned" && out.Status != "running"
	}, 30*time.Second, 20*time.Millisecond)
	require.Eventually(t, func() bool { status, _ := c.call("GET", "/readyz", nil, nil); return status == http.StatusOK }, 10*time.Second, 20*time.Millisecond)
}

func TestAWrongConfigurationIsOneLineAndAnEnd(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ db, rds, want string }{
		"nobody there":       {"postgres://nexus:secret@127.0.0.1:1/x", "", "127.0.0.1:1"},
		"no PostgreSQL":      {"mysql://x", "", "NEXUS_DATABASE_URL must be"},
		"Redis without it":   {"", "redis://127.0.0.1:1", "NEXUS_DATABASE_URL"},
		"no Redis":           {"postgres://nexus@127.0.0.1:1/x", "http://x", "NEXUS_REDIS_URL must be"},
		"a host that is not": {"postgres://nexus@no-such-host.invalid/x", "", "no-such-host.invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			_, err := (&server{t: t, addr: freeAddr(t), dir: t.TempDir(), db: c.db, rds: c.rds}).run("", "serve")
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, "exit status 1")
			require.NotContains(t, err.Error(), "secret")
			require.Equal(t, 1, strings.Count(strings.TrimSpace(err.Error()), "\n")+1, err.Error())
			require.Less(t, time.Since(began), 5*time.Second)
		})
	}
}

// What was being done when the server was killed is taken up again at once.
func TestWorkIsTakenUpWithinTwoSecondsOfARestart(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	endpoint, calls := agent(t, func() time.Duration {
		select {
		case <-release:
			return 0
		default:
			return time.Hour
		}
	})
	s := newServer(t)
	s.start()
	c := s.signUp("a@example.com")
	agentID := s.register(c, endpoint, 0)
	var out taskJSON
	_, err := c.call("POST", "/api/v1/tasks", map[string]any{"assignedAgentId": agentID, "title": "x"}, &out)
	require.NoError(t, err)
	require.Eventually(t, func() bool { _, ok := calls.Load(out.ID); return ok }, 5*time.Second, time.Millisecond)
	s.kill()
	close(release)
	began := time.Now()
	s.start()
	ready := time.Now()
	require.Eventually(t, func() bool {
		_, err := c.call("GET", "/api/v1/tasks/"+out.ID, nil, &out)
		return err == nil && (out.Status == "completed" || out.Status == "failed") // as its agent says by the id
	}, 8*time.Second, time.Millisecond, "the task waited for the lease of the server that is gone, which is ten seconds")
	t.Logf("ready %s after the start, the task done %s later", ready.Sub(began), time.Since(ready))
}

func TestStopFinishesWhatRuns(t *testing.T) {
	everyDatabase(t, func(t *testing.T, s *server) {
		endpoint, calls := agent(t, func() time.Duration { return 700 * time.Millisecond })
		s.start()
		c := s.signUp("a@example.com")
		agentID := s.register(c, endpoint, 0)
		var out taskJSON
		_, err := c.call("POST", "/api/v1/tasks", map[string]any{"assignedAgentId": agentID, "title": "x"}, &out)
		require.NoError(t, err)
		require.Eventually(t, func() bool { _, ok := calls.Load(out.ID); return ok }, 5*time.Second, time.Millisecond)
		require.NoError(t, s.stop(), "a stop that was asked for is no failure")
		store := s.look(t)
		v, err := store.Read().Tasks.Get(t.Context(), out.ID)
		require.NoError(t, err)
		require.Contains(t, []task.Status{task.Completed, task.Failed}, v.Status)
		require.Contains(t, s.log.String(), "stopped")
	})
}

func TestOneServerOnOneDatabase(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start()
	second := &server{t: t, addr: freeAddr(t), dir: s.dir}
	_, err := second.run("", "serve")
	require.ErrorContains(t, err, "another server")
	busy := &server{t: t, addr: s.addr, dir: t.TempDir()}
	_, err = busy.run("", "serve")
	require.ErrorContains(t, err, "NEXUS_ADDR")
}

func TestOperatorsCommands(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	out, err := s.run("", "migrate", "status")
	require.NoError(t, err)
	require.Contains(t, out, "pending")
	out, err = s.run("", "migrate", "up")
	require.NoError(t, err)
	require.NotContains(t, out, "pending")
	out, err = s.run("", "migrate", "down")
	require.NoError(t, err)
	require.Contains(t, out, "pending")

	out, err = s.run("correct horse\n", "user", "create", "--email", "Boss@example.com", "--admin")
	require.NoError(t, err)
	require.Regexp(t, `^[0-9a-f-]{36} boss@example.com admin\n$`, out)
	_, err = s.run("correct horse\n", "user", "create", "--email", "boss@example.com")
	require.ErrorContains(t, err, "EMAIL_TAKEN")
	_, err = s.run("short\n", "user", "create", "--email", "b@example.com")
	require.ErrorContains(t, err, "password")

	s.start()
	_, err = s.run("", "migrate", "down")
	require.ErrorContains(t, err, "stop the server first")
	c := &client{base: s.url()}
	_, err = c.call("POST", "/auth/login", map[string]string{"email": "boss@example.com", "password": "correct horse"}, nil)
	require.NoError(t, err)
	endpoint, _ := agent(t, func() time.Duration { return 0 })
	agentID := s.register(c, endpoint, 0)
	key, err := s.run("", "key", "create", "--agent", agentID, "--scopes", "agents:read,tasks:read", "--expires-in-days", "3")
	require.NoError(t, err, "also while the server runs")
	k := &client{base: s.url(), bearer: strings.TrimSpace(key)}
	_, err = k.call("GET", "/api/v1/agents/"+agentID, nil, nil)
	require.NoError(t, err)
	status, _ := k.call("DELETE", "/api/v1/agents/"+agentID, nil, nil)
	require.Equal(t, http.StatusForbidden, status)
	_, err = s.run("", "key", "create", "--agent", agentID, "--scopes", "everything")
	require.ErrorContains(t, err, "is no scope")
}

// The demo's agents are asked whether they are there as soon as the server starts again after a while; they are.
func TestTheDemosAgentsAreThereFirst(t *testing.T) {
	t.Parallel()
	s := newServer(t, "--demo")
	s.start()
	ready := func(times int) {
		require.Eventually(t, func() bool { return strings.Count(s.out.String(), "NEXUS_KEY=") == times }, 20*time.Second, 5*time.Millisecond)
	}
	ready(1)
	c := s.signUp("looks@example.com")
	db, err := sql.Open("sqlite", filepath.Join(s.dir, "nexus.db")+"?_pragma=busy_timeout(5000)")
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	for i := range 3 {
		s.kill()
		_, err := db.ExecContext(t.Context(), "UPDATE jobs SET run_at = 0, lease_owner = '', lease_until = 0 WHERE kind = 'agent.probe'")
		require.NoError(t, err)
		s.start()
		require.Eventually(t, func() bool { // they were asked
			n := 1
			err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM jobs WHERE kind = 'agent.probe' AND run_at = 0").Scan(&n)
			return err == nil && n == 0
		}, 20*time.Second, 10*time.Millisecond)
		ready(i + 2)
		var found []struct{ Name, Status string }
		_, err = c.call("GET", "/api/v1/discover?tags=demo", nil, &found)
		require.NoError(t, err)
		require.Len(t, found, 3)
		for _, a := range found {
			require.Equal(t, "online", a.Status, a.Name)
		}
	}
}

func TestDemo(t *testing.T) {
	t.Parallel()
	s := newServer(t, "--demo")
	s.start()
	printed := func() map[string]string {
		var text string
		require.Eventually(t, func() bool { text = s.out.String(); return strings.Contains(text, "/docs") }, 20*time.Second, 5*time.Millisecond)
		out := map[string]string{}
		for name, re := range map[string]string{
			"key": `NEXUS_KEY=(\S+)`, "owner": `OWNER_KEY=(\S+)`, "email": `account +(\S+)`, "password": `password +(\S+)`,
			"path": s.url() + `(/api/v1/tasks) -H`, "body": `-d '(\{.*\})'`, "trust": s.url() + `(/api/v1/trust/\S+)`,
		} {
			m := regexp.MustCompile(re).FindStringSubmatch(text)
			require.Len(t, m, 2, "%s in:\n%s", name, text)
			out[name] = m[1]
		}
		return out
	}
	p := printed()
	asker, owner := &client{base: s.url(), bearer: p["key"]}, &client{base: s.url(), bearer: p["owner"]}
	var before, after, earned balanceJSON
	_, err := owner.call("GET", "/api/v1/billing/balance", nil, &before)
	require.NoError(t, err)
	var v struct {
		taskJSON
		Output map[string]any
	}
	_, err = asker.call("POST", p["path"], json.RawMessage(p["body"]), &v)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err := asker.call("GET", p["path"]+"/"+v.ID, nil, &v)
		return err == nil && v.Status == "completed"
	}, 10*time.Second, time.Millisecond)
	require.Equal(t, map[string]any{"text": "hello"}, v.Output)
	_, err = asker.call("GET", "/api/v1/billing/balance", nil, &after)
	require.NoError(t, err)
	_, err = owner.call("GET", "/api/v1/billing/balance", nil, &earned)
	require.NoError(t, err)
	require.Equal(t, 990.0, after.Balance)
	require.InDelta(t, before.Balance+9.5, earned.Balance, 0.001)
	var profile struct {
		RecentEvents []struct{ EventType, TaskID string }
	}
	_, err = asker.call("GET", p["trust"], nil, &profile)
	require.NoError(t, err)
	require.Equal(t, "task_completed", profile.RecentEvents[0].EventType)
	person := &client{base: s.url()}
	_, err = person.call("POST", "/auth/login", map[string]string{"email": p["email"], "password": p["password"]}, nil)
	require.NoError(t, err)

	s.kill()
	s.out = &syncBuffer{}
	s.start()
	again := printed()
	delete(p, "trust")
	delete(again, "trust")
	require.Equal(t, p, again, "a second start prints what still holds")
}

func TestHelpNamesEveryVariable(t *testing.T) {
	out, err := (&server{t: t}).run("", "serve", "--help")
	require.NoError(t, err)
	for _, name := range []string{
		"NEXUS_ADDR", "NEXUS_PUBLIC_URL", "NEXUS_DATA_DIR", "NEXUS_ALLOW_PRIVATE_ENDPOINTS", "NEXUS_LOG_LEVEL", "NEXUS_LOG_FORMAT", "NEXUS_RATE_LIMIT",
		"NEXUS_LOCAL_ACCOUNTS", "NEXUS_SUPABASE_URL", "NEXUS_SUPABASE_KEY", "NEXUS_SUPABASE_JWT_SECRET", "NEXUS_OIDC_ISSUER", "NEXUS_OIDC_CLIENT_ID",
		"NEXUS_OIDC_CLIENT_SECRET", "NEXUS_OIDC_TITLE", "NEXUS_SMTP_URL", "NEXUS_MAIL_FROM",
		"NEXUS_TRUSTED_PROXIES", "NEXUS_DATABASE_URL", "NEXUS_DISCOVERY_AGENTS", "NEXUS_REDIS_URL", "NEXUS_ROLE", "NEXUS_WORKERS", "NEXUS_SHUTDOWN_GRACE", "NEXUS_DEMO",
		"NEXUS_METRICS_ADDR", "NEXUS_METRICS_TOKEN", "NEXUS_CARD_KEY", "NEXUS_CARD_KEY_FILE", "NEXUS_STRIPE_SECRET_KEY", "NEXUS_STRIPE_WEBHOOK_SECRET", "NEXUS_STRIPE_API_BASE", "NEXUS_STRIPE_PRICES",
	} {
		require.Contains(t, out, name)
	}
	var buf syncBuffer
	require.ErrorContains(t, run(context.Background(), []string{"dance"}, strings.NewReader(""), &buf, &buf), "--help")
}
