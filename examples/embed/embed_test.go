package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEmbed(t *testing.T) {
	out, err := exec.Command("go", "run", ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Regexp(t, `^completed \{"text":"Hello from [0-9a-f-]{36}"\}\n$`, string(out))
}

// An embedder of the engine in memory pays for no library.
func TestEmbedLinksOnlyTheStandardLibrary(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	require.NoError(t, err)
	for _, path := range strings.Fields(string(out)) {
		require.True(t, strings.HasPrefix(path, "github.com/nexus-protocol/nexus/"), path)
	}
}

func TestEmbedIsShort(t *testing.T) {
	src, err := os.ReadFile("main.go")
	require.NoError(t, err)
	_, body, _ := strings.Cut(string(src), "func main() {")
	require.Less(t, strings.Count(body, "\n"), 40)
}
