// Package postgrestest gives tests a real PostgreSQL, each with a database of its own.
//
// The server is the one that NEXUS_TEST_DATABASE_URL names; else one that is started for the test binary out of what is
// installed, in a temporary folder on a free port; else, as root on Debian, it is installed first. There is no way to
// skip: without a server the test fails and says what to do.
package postgrestest

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver
)

const variable = "NEXUS_TEST_DATABASE_URL"

var server struct {
	once sync.Once
	base *url.URL
	stop func()
	err  error
}

// Main runs a package's tests and stops the server that they started. Call it from TestMain.
func Main(m *testing.M) int {
	defer func() {
		if server.stop != nil {
			server.stop()
		}
	}()
	return m.Run()
}

var made atomic.Int64

// URL makes an empty database and returns its URL. It is dropped when the test ends.
func URL(t testing.TB) string {
	t.Helper()
	server.once.Do(start)
	if server.err != nil {
		t.Fatalf("tests need PostgreSQL: %v\nInstall it, or set %s to the URL of a server on which databases may be made.", server.err, variable)
	}
	name := fmt.Sprintf("nexus_test_%d_%d", os.Getpid(), made.Add(1))
	if err := exec1("CREATE DATABASE " + name); err != nil {
		t.Fatalf("make a database: %v", err)
	}
	t.Cleanup(func() {
		if err := exec1("DROP DATABASE IF EXISTS " + name + " WITH (FORCE)"); err != nil {
			t.Errorf("drop the database: %v", err)
		}
	})
	u := *server.base
	u.Path = "/" + name
	return u.String()
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
	bin, err := binaries()
	if err != nil {
		server.err = err
		return
	}
	server.base, server.stop, server.err = Start(bin)
}

// binaries finds where initdb and postgres are, and installs them if that can be done.
func binaries() (dir string, err error) {
	if dir := installed(); dir != "" {
		return dir, nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		return "", errors.New("no initdb and postgres on this machine")
	}
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), "nexus-test-apt.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer func() { _ = lock.Close() }() // which gives up the lock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	if dir := installed(); dir != "" { // by another test binary, in the meantime
		return dir, nil
	}
	for _, args := range [][]string{{"update"}, {"install", "-y", "--no-install-recommends", "postgresql"}} {
		cmd := exec.Command("apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("apt-get %s: %w: %s", args[0], err, out)
		}
	}
	if dir := installed(); dir != "" {
		return dir, nil
	}
	return "", errors.New("PostgreSQL was installed, but initdb is not to be found")
}

func installed() string {
	if p, err := exec.LookPath("initdb"); err == nil {
		if p, err = filepath.EvalSymlinks(p); err == nil {
			return filepath.Dir(p)
		}
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // the pattern is fine
	slices.Sort(found)
	if len(found) == 0 {
		return ""
	}
	return filepath.Dir(found[len(found)-1])
}

// Start starts a server out of the binaries in a folder, on a free port of the loopback address. It writes durably, as a
// server should. It ends with stop, and also when this process ends in whatever way.
func Start(bin string) (base *url.URL, stop func(), err error) {
	dir, err := os.MkdirTemp("", "nexus-postgres-")
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(dir)
		}
	}()
	owner, err := unprivileged(dir)
	if err != nil {
		return nil, nil, err
	}
	data := filepath.Join(dir, "data")
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "nexus", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	initdb.SysProcAttr, initdb.Dir = owner, dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	port, err := freePort()
	if err != nil {
		return nil, nil, err
	}
	// The shell holds the server for as long as its standard input is open, which is as long as this process lives.
	args := []string{
		filepath.Join(bin, "postgres"), "-D", data, "-p", port, "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=" + dir,
		"-c", "max_connections=200", "-c", "shared_buffers=128MB", "-c", "logging_collector=off",
	}
	cmd := exec.Command("sh", append([]string{"-c", `"$@" & pid=$!; read -r _; kill -INT "$pid"; wait "$pid"`, "sh"}, args...)...)
	cmd.SysProcAttr, cmd.Dir = owner, dir
	var log bytes.Buffer
	cmd.Stderr = &log
	hold, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	stop = func() {
		_ = hold.Close() // the shell sees it
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	}
	base = &url.URL{Scheme: "postgres", User: url.User("nexus"), Host: "127.0.0.1:" + port, Path: "/postgres", RawQuery: "sslmode=disable"}
	db, err := sql.Open("pgx", base.String())
	if err != nil {
		stop()
		return nil, nil, err
	}
	defer func() { _ = db.Close() }()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if err = db.Ping(); err == nil {
			return base, stop, nil
		}
		if time.Now().After(deadline) {
			stop()
			return nil, nil, fmt.Errorf("PostgreSQL did not start: %w: %s", err, strings.TrimSpace(log.String()))
		}
	}
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// unprivileged makes the folder belong to another user if this one is root, as whom PostgreSQL refuses to run.
func unprivileged(dir string) (*syscall.SysProcAttr, error) {
	if os.Geteuid() != 0 {
		return &syscall.SysProcAttr{}, nil
	}
	const nobody = 65534
	if err := os.Chown(dir, nobody, nobody); err != nil {
		return nil, err
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}, nil
}
