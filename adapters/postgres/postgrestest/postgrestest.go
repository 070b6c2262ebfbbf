// Package postgrestest gives tests a real PostgreSQL, each with a database of its own.
//
// The server is the one that NEXUS_TEST_DATABASE_URL names; else one that is started for the test binary out of what is
// installed, in a temporary folder on a free port; else, as root on Debian, it is installed first; else it is a container,
// where docker works. NEXUS_TEST_SHARED_BUFFERS is how much memory a started one keeps pages in, for benchmarks. There is no way to skip: without a server the test fails and says what to do.
package postgrestest

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver

	"github.com/nexus-protocol/nexus/adapters/internal/testrig"
)

const (
	variable = "NEXUS_TEST_DATABASE_URL"
	buffers  = "NEXUS_TEST_SHARED_BUFFERS"
)

var server struct {
	once sync.Once
	base *url.URL
	stop func()
	err  error
}

// Main runs a package's tests and stops the server that they started. Call it from TestMain.
func Main(m *testing.M) int {
	defer func() {
		if prepared.name != "" {
			_ = exec1("DROP DATABASE IF EXISTS " + prepared.name + " WITH (FORCE)") // on a server that stays
		}
		if server.stop != nil {
			server.stop()
		}
	}()
	return m.Run()
}

var made atomic.Int64

// URL makes an empty database and returns its URL. It is dropped when the test ends.
func URL(t testing.TB) string { return database(t, "") }

var prepared struct {
	once sync.Once
	name string
	err  error
}

// Prepared is URL, of a database that is a copy of one that was prepared: once for all tests of the process, by the first of them.
func Prepared(t testing.TB, prepare func(url string) error) string {
	t.Helper()
	need(t)
	prepared.once.Do(func() {
		prepared.name = fmt.Sprintf("nexus_test_%d_prepared", os.Getpid())
		if prepared.err = exec1("CREATE DATABASE " + prepared.name); prepared.err == nil {
			prepared.err = prepare(urlOf(prepared.name))
		}
	})
	if prepared.err != nil {
		t.Fatalf("prepare a database: %v", prepared.err)
	}
	return database(t, " TEMPLATE "+prepared.name)
}

func need(t testing.TB) {
	t.Helper()
	server.once.Do(start)
	if server.err != nil {
		t.Fatalf("tests need PostgreSQL: %v\nInstall it, or make docker work, or set %s to the URL of a server on which databases may be made.", server.err, variable)
	}
}

func urlOf(database string) string {
	u := *server.base
	u.Path = "/" + database
	return u.String()
}

func database(t testing.TB, how string) string {
	t.Helper()
	need(t)
	name := fmt.Sprintf("nexus_test_%d_%d", os.Getpid(), made.Add(1))
	if err := exec1("CREATE DATABASE " + name + how); err != nil {
		t.Fatalf("make a database: %v", err)
	}
	t.Cleanup(func() {
		if err := exec1("DROP DATABASE IF EXISTS " + name + " WITH (FORCE)"); err != nil {
			t.Errorf("drop the database: %v", err)
		}
	})
	return urlOf(name)
}

func exec1(query string) error {
	db, err := sql.Open("pgx", server.base.String())
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_, err = db.ExecContext(ctx, query)
	return err
}

func start() {
	if given := os.Getenv(variable); given != "" {
		server.base, server.err = url.Parse(given)
		return
	}
	initdb, err := testrig.Program("initdb", "/usr/lib/postgresql/*/bin/initdb", "postgresql")
	if err != nil {
		var err2 error
		if server.base, server.stop, err2 = startContainer(); err2 != nil {
			server.err = errors.Join(err, err2)
		}
		return
	}
	if initdb, err = filepath.EvalSymlinks(initdb); err != nil { // postgres is beside it
		server.err = err
		return
	}
	server.base, server.stop, server.err = Start(filepath.Dir(initdb))
}

// Start starts a server out of the binaries in a folder, on a free port of the loopback address. It writes durably, as a
// server should. It ends with stop, and also when this process ends in whatever way.
func Start(bin string) (base *url.URL, stop func(), err error) {
	home, err := testrig.NewHome("nexus-postgres-")
	if err != nil {
		return nil, nil, err
	}
	data := filepath.Join(home.Dir, "data")
	initdb := home.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "nexus", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("initdb: %w: %s", err, out), home.Remove())
	}
	port, err := testrig.FreePort()
	if err != nil {
		return nil, nil, errors.Join(err, home.Remove())
	}
	srv, err := home.Serve(filepath.Join(bin, "postgres"), "-D", data, "-p", port, "-c", "listen_addresses=127.0.0.1",
		"-c", "unix_socket_directories="+home.Dir, "-c", "max_connections=200", "-c", "shared_buffers="+cmp.Or(os.Getenv(buffers), "128MB"))
	if err != nil {
		return nil, nil, errors.Join(err, home.Remove())
	}
	return await(srv, port)
}

func startContainer() (base *url.URL, stop func(), err error) {
	port, err := testrig.FreePort()
	if err != nil {
		return nil, nil, err
	}
	srv, err := testrig.Container{
		Image: "postgres:17", Port: "5432", Options: []string{"-e", "POSTGRES_USER=nexus", "-e", "POSTGRES_DB=postgres", "-e", "POSTGRES_HOST_AUTH_METHOD=trust"},
		Args: []string{"-c", "max_connections=200", "-c", "shared_buffers=" + cmp.Or(os.Getenv(buffers), "128MB")},
	}.Serve(port)
	if err != nil {
		return nil, nil, err
	}
	return await(srv, port)
}

// await waits until the server can be used.
func await(srv *testrig.Server, port string) (base *url.URL, stop func(), err error) {
	base = &url.URL{Scheme: "postgres", User: url.User("nexus"), Host: "127.0.0.1:" + port, Path: "/postgres", RawQuery: "sslmode=disable"}
	db, err := sql.Open("pgx", base.String())
	if err != nil {
		srv.Stop()
		return nil, nil, err
	}
	defer func() { _ = db.Close() }()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if err = db.Ping(); err == nil {
			return base, srv.Stop, nil
		}
		if time.Now().After(deadline) {
			srv.Stop()
			return nil, nil, fmt.Errorf("PostgreSQL did not start: %w: %s", err, srv.Log())
		}
	}
}
