// Package testrig gets real servers for tests: it finds a program, installs it where that can be done, and runs it for as
// long as this process lives.
package testrig

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
)

// Program returns the path of a program: out of PATH, else the newest that the glob finds; else, as root on Debian, out of
// the package, which is installed first.
func Program(name, glob, debianPackage string) (string, error) {
	if p := find(name, glob); p != "" {
		return p, nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		return "", fmt.Errorf("there is no %s on this machine", name)
	}
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), "nexus-test-apt.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer func() { _ = lock.Close() }() // which gives up the lock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	if p := find(name, glob); p != "" { // installed by another test binary in the meantime
		return p, nil
	}
	for _, args := range [][]string{{"update"}, {"install", "-y", "--no-install-recommends", debianPackage}} {
		cmd := exec.Command("apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("apt-get %s: %w: %s", args[0], err, out)
		}
	}
	if p := find(name, glob); p != "" {
		return p, nil
	}
	return "", fmt.Errorf("%s was installed, but there is no %s", debianPackage, name)
}

func find(name, glob string) string {
	if p, err := exec.LookPath(name); err == nil {
		return p
	}
	found, _ := filepath.Glob(glob) // the patterns are fine
	slices.Sort(found)
	if len(found) == 0 {
		return ""
	}
	return found[len(found)-1]
}

// Home is a temporary folder in which a server lives, as a user without rights if this process is root.
type Home struct {
	Dir  string
	user *syscall.SysProcAttr
}

// NewHome makes one.
func NewHome(prefix string) (*Home, error) {
	dir, err := os.MkdirTemp("", prefix)
	if err != nil {
		return nil, err
	}
	h := &Home{Dir: dir, user: &syscall.SysProcAttr{}}
	if os.Geteuid() == 0 {
		const nobody = 65534
		if err := os.Chown(dir, nobody, nobody); err != nil {
			return nil, errors.Join(err, h.Remove())
		}
		h.user.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	return h, nil
}

// Remove removes the folder.
func (h *Home) Remove() error { return os.RemoveAll(h.Dir) }

// Command is a command that runs in the home.
func (h *Home) Command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr, cmd.Dir = h.user, h.Dir
	return cmd
}

// Server is a running server.
type Server struct {
	home *Home
	cmd  *exec.Cmd
	hold io.Closer
	log  bytes.Buffer
}

// Serve runs a server in the home until Stop is called or this process ends in whatever way.
func (h *Home) Serve(name string, args ...string) (*Server, error) {
	// The shell holds the server for as long as its own standard input is open.
	s := &Server{home: h}
	s.cmd = h.Command("sh", append([]string{"-c", `"$@" </dev/null & pid=$!; read -r _; kill -INT "$pid"; wait "$pid"`, "sh", name}, args...)...)
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	hold, err := s.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	s.hold = hold
	return s, s.cmd.Start()
}

// Stop ends the server and removes its home.
func (s *Server) Stop() {
	_ = s.hold.Close()  // the shell sees it
	_ = s.cmd.Wait()    // it was told to end
	_ = s.home.Remove() // it is temporary
}

// Log is what the server said. It may be called once the server has ended.
func (s *Server) Log() string { return s.log.String() }

// FreePort returns a port of the loopback address that nobody listens on.
func FreePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}
