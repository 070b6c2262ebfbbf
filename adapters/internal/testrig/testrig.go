// Package testrig gets real servers for tests: it finds a program, installs it where that can be done, or else a container,
// and runs it for as long as this process lives.
package testrig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
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
	return h.serve(`kill -INT "$pid"`, name, args...)
}

// serve runs a server until the shell's word ends it.
func (h *Home) serve(end, name string, args ...string) (*Server, error) {
	// The shell holds the server for as long as its own standard input is open.
	s := &Server{home: h}
	s.cmd = h.Command("sh", append([]string{"-c", `"$@" </dev/null & pid=$!; read -r _; ` + end + `; wait "$pid"`, "sh", name}, args...)...)
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	hold, err := s.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	s.hold = hold
	return s, s.cmd.Start()
}

// Container is a server in a container: the last resort.
type Container struct {
	Image   string
	Port    string   // inside; it is reached at the loopback address
	Options []string // of docker run
	Args    []string // after the image
}

// Serve runs the container with its port at the given one of the loopback address until Stop is called or this process
// ends in whatever way. It fetches the image if it is not there.
func (c Container) Serve(port string) (*Server, error) {
	docker, err := exec.LookPath("docker")
	if err != nil {
		return nil, errors.New("there is no docker on this machine")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	ask, stopAsking := context.WithTimeout(ctx, 10*time.Second)
	defer stopAsking()
	if out, err := exec.CommandContext(ask, docker, "version", "--format", "{{.Server.Version}}").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("docker does not work: %w: %s", err, bytes.TrimSpace(out))
	}
	if exec.CommandContext(ctx, docker, "image", "inspect", c.Image).Run() != nil {
		if out, err := exec.CommandContext(ctx, docker, "pull", c.Image).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("docker pull %s: %w: %s", c.Image, err, bytes.TrimSpace(out))
		}
	}
	dir, err := os.MkdirTemp("", "nexus-docker-")
	if err != nil {
		return nil, err
	}
	home := &Home{Dir: dir, user: &syscall.SysProcAttr{}} // who may use docker is for this user to know
	name := filepath.Base(dir)
	args := append([]string{"run", "--rm", "--name", name, "-p", "127.0.0.1:" + port + ":" + c.Port}, c.Options...)
	s, err := home.serve(`"$1" kill `+name, docker, append(append(args, c.Image), c.Args...)...)
	if err != nil {
		return nil, errors.Join(err, home.Remove())
	}
	return s, nil
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
