package testrig

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fakeDocker puts a docker on PATH that notes what it is told, and then does what the script says.
func fakeDocker(t *testing.T, script string) (told func() string) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	script = "#!/bin/sh\necho \"$*\" >> " + log + "\n" + script
	require.NoError(t, os.WriteFile(filepath.Join(dir, "docker"), []byte(script), 0o700)) //nolint:gosec // it is run
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() string {
		b, _ := os.ReadFile(log) // there may be none yet
		return string(b)
	}
}

var image = Container{Image: "thing:7", Port: "99", Options: []string{"-e", "A=b"}, Args: []string{"-c", "x=1"}}

func TestAContainerLivesUntilStop(t *testing.T) {
	told := fakeDocker(t, `case "$1" in
image) exit 1 ;;
run) trap 'exit 0' TERM; echo $$ > "${0%docker}pid"; while :; do sleep 0.01; done ;;
kill) kill -TERM "$(cat "${0%docker}pid")" ;;
esac`)
	s, err := image.Serve("4711")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return strings.Contains(told(), "\nrun ") }, 5*time.Second, time.Millisecond)
	time.Sleep(100 * time.Millisecond) // its pid is written
	began := time.Now()
	s.Stop()
	require.Less(t, time.Since(began), 5*time.Second)
	lines := strings.Split(strings.TrimSpace(told()), "\n")
	require.Len(t, lines, 5)
	require.Equal(t, "version --format {{.Server.Version}}", lines[0])
	require.Equal(t, []string{"image inspect thing:7", "pull thing:7"}, lines[1:3])
	require.Regexp(t, `^run --rm --name nexus-docker-\d+ -p 127\.0\.0\.1:4711:99 -e A=b thing:7 -c x=1$`, lines[3])
	require.Equal(t, "kill "+strings.Fields(lines[3])[3], lines[4])
	left, err := filepath.Glob(filepath.Join(os.TempDir(), strings.Fields(lines[3])[3]))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestAnImageThatIsThereIsNotFetched(t *testing.T) {
	told := fakeDocker(t, "exit 0")
	s, err := image.Serve("4711")
	require.NoError(t, err)
	s.Stop()
	require.NotContains(t, told(), "pull")
}

func TestADockerThatDoesNotWorkSaysWhy(t *testing.T) {
	fakeDocker(t, `echo "Cannot connect to the Docker daemon"; exit 1`)
	_, err := image.Serve("4711")
	require.ErrorContains(t, err, "docker does not work")
	require.ErrorContains(t, err, "Cannot connect to the Docker daemon")

	fakeDocker(t, `[ "$1" = version ] || { echo "no such registry"; exit 1; }`)
	_, err = image.Serve("4711")
	require.ErrorContains(t, err, "docker pull thing:7")
	require.ErrorContains(t, err, "no such registry")

	t.Setenv("PATH", t.TempDir())
	_, err = image.Serve("4711")
	require.ErrorContains(t, err, "no docker")
}
