// Package redistest gives tests a real Redis, each with a database of its own.
//
// The server is the one that NEXUS_TEST_REDIS_URL names; else one that is started for the test binary out of what is
// installed, in a temporary folder on a free port; else, as root on Debian, it is installed first; else it is a container,
// where docker works. There is no way to skip: without a server the test fails and says what to do.
package redistest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-protocol/nexus/adapters/internal/testrig"
)

const variable = "NEXUS_TEST_REDIS_URL"

// databases is how many a server has.
const databases = 64

var server struct {
	once sync.Once
	base string
	stop func()
	err  error
}

// Main runs a package's tests and stops the server that they started. Call it from TestMain.
func Main(m *testing.M) int {
	defer Stop()
	return m.Run()
}

// Stop stops the server that tests started. It is for a TestMain that has more to do.
func Stop() {
	if server.stop != nil {
		server.stop()
	}
}

var used atomic.Int64

// URL returns the URL of an empty database. Tests of one binary that run at the same time have different ones.
func URL(t testing.TB) string {
	t.Helper()
	server.once.Do(start)
	if server.err != nil {
		t.Fatalf("tests need Redis: %v\nInstall it, or make docker work, or set %s to the URL of a server whose databases may be emptied.", server.err, variable)
	}
	url := fmt.Sprintf("%s/%d", server.base, used.Add(1)%databases)
	opt, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(opt)
	defer func() { _ = c.Close() }()
	if err := c.FlushDB(context.Background()).Err(); err != nil {
		t.Fatalf("empty the database: %v", err)
	}
	return url
}

func start() {
	if given := os.Getenv(variable); given != "" {
		server.base = given
		return
	}
	server.base, server.stop, server.err = Start()
}

// Start starts a server on a free port of the loopback address. It keeps nothing on disk: Redis is never the truth. It
// ends with stop, and also when this process ends in whatever way.
func Start() (base string, stop func(), err error) {
	port, err := testrig.FreePort()
	if err != nil {
		return "", nil, err
	}
	stop, err = StartAt(port)
	return "redis://127.0.0.1:" + port, stop, err
}

// StartAt is Start on a given port, for tests in which a server comes back.
func StartAt(port string) (stop func(), err error) {
	settings := []string{"--save", "", "--appendonly", "no", "--databases", fmt.Sprint(databases)}
	program, err := testrig.Program("redis-server", "/usr/bin/redis-server", "redis-server")
	if err != nil {
		stop, err2 := startContainer(port, settings)
		if err2 != nil {
			return nil, errors.Join(err, err2)
		}
		return stop, nil
	}
	home, err := testrig.NewHome("nexus-redis-")
	if err != nil {
		return nil, err
	}
	srv, err := home.Serve(program, append(settings, "--port", port, "--bind", "127.0.0.1", "--dir", home.Dir)...)
	if err != nil {
		return nil, errors.Join(err, home.Remove())
	}
	return await(srv, port)
}

func startContainer(port string, settings []string) (stop func(), err error) {
	srv, err := testrig.Container{Image: "redis:7", Port: "6379", Args: append([]string{"redis-server"}, settings...)}.Serve(port)
	if err != nil {
		return nil, err
	}
	return await(srv, port)
}

// await waits until the server answers; before a container does, its port is open already.
func await(srv *testrig.Server, port string) (stop func(), err error) {
	c := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + port, MaxRetries: -1, DialerRetries: 1})
	defer func() { _ = c.Close() }()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if err = c.Ping(context.Background()).Err(); err == nil {
			return srv.Stop, nil
		}
		if time.Now().After(deadline) {
			srv.Stop()
			return nil, fmt.Errorf("Redis did not start: %w: %s", err, srv.Log()) //nolint:staticcheck // a name
		}
	}
}
