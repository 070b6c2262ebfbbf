package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/postgres/postgrestest"
	"github.com/nexus-protocol/nexus/adapters/redistest"
)

// between puts a proxy between a server and the one at the URL, and returns the URL to use instead.
func between(t *testing.T, target string) (string, *toxiproxy.Proxy) {
	t.Helper()
	u, err := url.Parse(target)
	require.NoError(t, err)
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	p := toxiproxy.NewProxy(api, u.Scheme, "127.0.0.1:0", u.Host)
	require.NoError(t, p.Start())
	t.Cleanup(p.Stop)
	u.Host = p.Listen
	return u.String(), p
}

// For a while databases go away and come back, their connections are cut in the middle of whatever is under way, workers
// are killed, or frozen for longer than their leases. Every task that was accepted ends once, and the books balance.
// NEXUS_FAULTS=10m makes it long.
func TestFaults(t *testing.T) {
	t.Parallel()
	length := 12 * time.Second
	if s := os.Getenv("NEXUS_FAULTS"); s != "" {
		var err error
		length, err = time.ParseDuration(s)
		require.NoError(t, err)
	}
	endpoint, _ := agent(t, func() time.Duration { return time.Duration(rand.IntN(300)) * time.Millisecond })
	api := newServer(t)
	realDB := postgrestest.URL(t)
	var pg, rds *toxiproxy.Proxy
	api.db, pg = between(t, realDB)
	api.rds, rds = between(t, redistest.URL(t))
	api.role = "api"
	workers := []*server{api.beside("worker"), api.beside("worker")}
	api.start()
	for _, w := range workers {
		w.start()
	}
	asker, owner := api.signUp("asker@example.com"), api.signUp("owner@example.com")
	agentID := api.register(owner, endpoint, 0.01)

	end := time.Now().Add(length)
	var mu sync.Mutex
	var accepted []string
	refused := 0
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			c := &client{base: api.url(), cookie: asker.cookie}
			for time.Now().Before(end) {
				var out taskJSON
				status, err := c.call("POST", "/api/v1/tasks", map[string]any{"assignedAgentId": agentID, "title": "x"}, &out)
				mu.Lock()
				switch {
				case err == nil:
					accepted = append(accepted, out.ID)
				case status == http.StatusServiceUnavailable:
					refused++
				default:
					t.Errorf("refused otherwise than with 503: %d %v", status, err)
				}
				mu.Unlock()
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	away := func(for_ time.Duration, proxies ...*toxiproxy.Proxy) {
		for _, p := range proxies {
			p.Stop()
		}
		time.Sleep(for_)
		for _, p := range proxies {
			require.NoError(t, p.Start())
		}
	}
	faults := map[string]int{}
	for i := 0; time.Now().Before(end); i++ {
		time.Sleep(time.Duration(500+rand.IntN(1_000)) * time.Millisecond)
		name := []string{"database cut", "redis cut", "both away", "worker killed", "database away", "redis away"}[i%6]
		if length > time.Minute && i%12 == 11 {
			name = "worker frozen past its leases"
		}
		faults[name]++
		w := workers[rand.IntN(len(workers))]
		switch name {
		case "database cut":
			for range 5 {
				away(0, pg)
				time.Sleep(50 * time.Millisecond)
			}
		case "redis cut":
			away(0, rds)
		case "database away":
			away(2*time.Second, pg)
		case "redis away":
			away(2*time.Second, rds)
		case "both away":
			away(time.Second, pg, rds)
		case "worker killed":
			w.kill()
			w.start()
		case "worker frozen past its leases":
			require.NoError(t, w.cmd.Process.Signal(syscall.SIGSTOP))
			time.Sleep(12 * time.Second)
			require.NoError(t, w.cmd.Process.Signal(syscall.SIGCONT))
		}
	}
	load.Wait()
	c := &client{base: api.url(), cookie: asker.cookie}
	completed := 0
	for _, id := range accepted {
		var out taskJSON
		require.Eventually(t, func() bool {
			_, err := c.call("GET", "/api/v1/tasks/"+id, nil, &out)
			return err == nil && (out.Status == "completed" || out.Status == "failed")
		}, 60*time.Second, 20*time.Millisecond, "task %s does not end", id)
		if out.Status == "completed" {
			completed++
		}
	}
	// A request whose answer was lost may have been carried out, so the database may know of more than were accepted.
	for _, status := range []string{"pending", "assigned", "running"} {
		require.Eventually(t, func() bool {
			var open []taskJSON
			_, err := c.call("GET", "/api/v1/tasks?status="+status, nil, &open)
			return err == nil && len(open) == 0
		}, 60*time.Second, 50*time.Millisecond)
	}
	look := &server{t: t, db: realDB}
	store := look.look(t)
	look.audited()
	sum, err := store.Read().Ledger.Imbalance(t.Context())
	require.NoError(t, err)
	b, err := store.Read().Ledger.Balance(t.Context(), asker.userID)
	require.NoError(t, err)
	require.Zero(t, sum)
	require.True(t, b.Consistent())
	require.Zero(t, b.Held, "nothing is held any more")
	require.GreaterOrEqual(t, int(b.Spent), completed, "a hundredth each")
	var said []string
	for name, n := range faults {
		said = append(said, fmt.Sprintf("%s ×%d", name, n))
	}
	t.Logf("faults: %s; %d tasks accepted, %d requests refused, %d ended, %d of them completed; imbalance %s",
		strings.Join(said, ", "), len(accepted), refused, len(accepted), completed, sum)
}
