package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/postgres"
	"github.com/nexus-protocol/nexus/adapters/postgres/postgrestest"
	"github.com/nexus-protocol/nexus/adapters/redistest"
	"github.com/nexus-protocol/nexus/adapters/sqlite"
	"github.com/nexus-protocol/nexus/ports"
)

var build struct {
	once sync.Once
	path string
	err  error
}

// binary builds the command, once for all tests.
func binary(t testing.TB) string {
	t.Helper()
	build.once.Do(func() {
		dir, err := os.MkdirTemp("", "nexus-test-")
		if err != nil {
			build.err = err
			return
		}
		build.path = filepath.Join(dir, "nexus")
		out, err := exec.Command("go", "build", "-o", build.path, ".").CombinedOutput()
		if err != nil {
			build.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	require.NoError(t, build.err)
	return build.path
}

func TestMain(m *testing.M) {
	if text := os.Getenv(streamLoadVariable); text != "" {
		var load streamLoad
		err := json.Unmarshal([]byte(text), &load)
		if err == nil {
			err = serveStreams(load, os.Stdin, os.Stdout)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := postgrestest.Main(m)
	redistest.Stop()
	if build.path != "" {
		_ = os.RemoveAll(filepath.Dir(build.path))
	}
	os.Exit(code)
}

// keepAlive is that of the servers' streams.
const keepAlive = 500 * time.Millisecond

// server is the built command as a process of its own.
type server struct {
	t       testing.TB
	addr    string
	dir     string
	db      string // URL of a PostgreSQL database; "" for SQLite
	rds     string // URL of a Redis database; "" without
	role    string // "" for all
	args    []string
	more    []string // of the environment
	metrics string   // address; "" for none
	cmd     *exec.Cmd
	out     *syncBuffer
	log     *syncBuffer
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

var (
	portsMu   sync.Mutex
	portsUsed = map[int]bool{}
)

// freeAddr is an address that nobody listens at, nor will: it is below the ports that systems give out by themselves, and
// given out here once.
func freeAddr(t testing.TB) string {
	t.Helper()
	portsMu.Lock()
	defer portsMu.Unlock()
	for {
		port := 20_000 + rand.IntN(10_000)
		if portsUsed[port] {
			continue
		}
		portsUsed[port] = true
		addr := fmt.Sprint("127.0.0.1:", port)
		if l, err := net.Listen("tcp", addr); err == nil {
			require.NoError(t, l.Close())
			return addr
		}
	}
}

func newServer(t testing.TB, args ...string) *server {
	t.Helper()
	s := &server{t: t, addr: freeAddr(t), dir: t.TempDir(), args: append([]string{"serve"}, args...), out: &syncBuffer{}, log: &syncBuffer{}}
	t.Cleanup(func() {
		if s.cmd != nil {
			s.kill()
		}
		if t.Failed() {
			t.Logf("the server's log ends with:\n%s", tail(s.log.String(), 4_000))
		}
	})
	return s
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// everyDatabase runs a test on each kind of database.
func everyDatabase(t *testing.T, test func(t *testing.T, s *server)) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, newServer(t))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		s := newServer(t)
		s.db = postgrestest.URL(t)
		test(t, s)
	})
	t.Run("postgres and redis", func(t *testing.T) {
		t.Parallel()
		s := newServer(t)
		s.db, s.rds = postgrestest.URL(t), redistest.URL(t)
		test(t, s)
	})
}

// beside makes another process on the same databases.
func (s *server) beside(role string) *server {
	s.t.Helper()
	other := newServer(s.t)
	other.db, other.rds, other.role = s.db, s.rds, role
	return other
}

// look opens the server's database beside it.
func (s *server) look(t *testing.T) ports.Store {
	t.Helper()
	var out store
	var err error
	if s.db == "" {
		out, err = sqlite.Open(t.Context(), filepath.Join(s.dir, "nexus.db"))
	} else {
		out, err = postgres.Open(t.Context(), s.db)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, out.Close()) })
	return out
}

func (s *server) url() string { return "http://" + s.addr }

func (s *server) env() []string {
	out := append(os.Environ(), "NEXUS_ADDR="+s.addr, "NEXUS_DATA_DIR="+s.dir, "NEXUS_DATABASE_URL="+s.db, "NEXUS_REDIS_URL="+s.rds,
		"NEXUS_ROLE="+cmp.Or(s.role, "all"), "NEXUS_ALLOW_PRIVATE_ENDPOINTS=true", "NEXUS_RATE_LIMIT=off", "NEXUS_STREAM_KEEP_ALIVE="+keepAlive.String(), "NEXUS_METRICS_ADDR="+cmp.Or(s.metrics, "off"))
	return append(out, s.more...)
}

// start runs the server and waits until it is ready.
func (s *server) start() {
	s.t.Helper()
	s.cmd = exec.Command(binary(s.t), s.args...)
	s.cmd.Env, s.cmd.Stdout, s.cmd.Stderr = s.env(), s.out, s.log
	require.NoError(s.t, s.cmd.Start())
	require.Eventually(s.t, func() bool {
		res, err := http.Get(s.url() + "/readyz")
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	}, 20*time.Second, 2*time.Millisecond, "the server does not get ready")
}

func (s *server) kill() {
	_ = s.cmd.Process.Signal(syscall.SIGKILL) // it may have ended
	_ = s.cmd.Wait()                          // it was killed
	s.cmd = nil
}

// stop asks the server to stop and waits for it.
func (s *server) stop() error {
	s.t.Helper()
	require.NoError(s.t, s.cmd.Process.Signal(syscall.SIGTERM))
	err := s.cmd.Wait()
	s.cmd = nil
	return err
}

// run runs another command on the server's data.
func (s *server) run(stdin string, args ...string) (string, error) {
	s.t.Helper()
	cmd := exec.Command(binary(s.t), args...)
	cmd.Env, cmd.Stdin = s.env(), strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, stderr.String())
	}
	return string(out), err
}

// audited has the command hold the ledger against itself.
func (s *server) audited() {
	s.t.Helper()
	out, err := s.run("", "ledger", "verify")
	require.NoError(s.t, err, out)
	require.Contains(s.t, out, "all is well")
}

// client is someone who uses the API.
type client struct {
	base   string
	bearer string
	cookie *http.Cookie
	userID string
	once   string // the Idempotency-Key of what it asks for
}

// call returns the status and the body's data, or its error.
func (c *client) call(method, path string, body, data any) (status int, err error) {
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, c.base+path, in)
	if err != nil {
		return 0, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.once != "" {
		req.Header.Set("Idempotency-Key", c.once)
	}
	if c.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+c.bearer)
	}
	if c.cookie != nil {
		req.AddCookie(c.cookie)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err
	}
	for _, cookie := range res.Cookies() {
		if cookie.Name == "nexus_session" {
			c.cookie = cookie
		}
	}
	if res.StatusCode >= 300 {
		return res.StatusCode, fmt.Errorf("%s %s: %s: %s", method, path, res.Status, raw)
	}
	if data != nil {
		return res.StatusCode, json.Unmarshal(raw, &struct{ Data any }{data})
	}
	return res.StatusCode, nil
}

func (s *server) signUp(email string) *client {
	s.t.Helper()
	c := &client{base: s.url()}
	var out struct{ User struct{ ID string } }
	_, err := c.call("POST", "/auth/signup", map[string]string{"email": email, "password": "correct horse"}, &out)
	require.NoError(s.t, err)
	require.NotNil(s.t, c.cookie)
	c.userID = out.User.ID
	return c
}

func (s *server) register(c *client, endpoint string, price float64) (id string) {
	s.t.Helper()
	var out struct{ ID, Status string }
	_, err := c.call("POST", "/api/v1/agents", map[string]any{"name": "Agent", "endpoint": endpoint, "pricePerTask": price}, &out)
	require.NoError(s.t, err)
	require.Equal(s.t, "online", out.Status)
	return out.ID
}

type taskJSON struct {
	ID, Status string
	Attempts   int
	Error      *struct{ Code, Message string }
}

type balanceJSON struct {
	Balance float64 `json:"balance"`
	Earned  float64 `json:"total_earned"`
	Spent   float64 `json:"total_spent"`
	Held    float64 `json:"held"`
}
