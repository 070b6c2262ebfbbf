package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/text"

	"github.com/nexus-protocol/nexus/adapters/postgres/postgrestest"
	"github.com/nexus-protocol/nexus/adapters/redistest"
	"github.com/nexus-protocol/nexus/docs"
)

// block is a piece of code in a page.
type block struct {
	info string // what stands behind the fence; "indented" for a block without one
	text string
}

// notRun are the blocks of the documentation that no test runs, by their first lines, and why.
var notRun = map[string]string{
	"make run     # the server with a demo: prints an account, an API key, and lines to paste": "the test has started it",
	"make run": "the test has started it",
	"make run      # the server with the demo":                                       "the test has started it",
	"make build        # bin/nexus, one static file":                                 "the test has built and started it",
	"go run ./cmd/nexus seed --data-dir seeded     # prints an account":              "a test of its own does",
	"go run ./examples/echo/cmd/echo -addr 127.0.0.1:9000":                           "it serves until it is stopped",
	"go run ./examples/worker/cmd/worker -addr 127.0.0.1:9001":                       "it serves until it is stopped; that tasks go on is shown by TestKilledFiveTimes and others",
	"make generate      # the Go code of the templates, which is committed":          "the gate does",
	"go test -run '^$' -bench '^BenchmarkLedger$' -benchtime 1x ./adapters/postgres": "a benchmark",
	"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 nexus serve":                  "it serves until it is stopped; with a collector it is tested",
	"asynqmon --redis-addr 127.0.0.1:6379 --read-only --port 8089":                   "another project's program",
	"export NEXUS_DATABASE_URL=postgres://nexus:password@db.example.com/nexus":       "the test has databases of its own",
}

// blocks lists the pieces of code of a page, in order.
func blocks(source []byte) []block {
	var out []block
	_ = ast.Walk(goldmark.DefaultParser().Parse(text.NewReader(source)), func(n ast.Node, entering bool) (ast.WalkStatus, error) { // it never fails
		b := block{info: "indented"}
		switch n := n.(type) {
		case *ast.CodeBlock:
		case *ast.FencedCodeBlock:
			b.info = ""
			if n.Info != nil {
				b.info = string(n.Info.Value(source))
			}
		default:
			return ast.WalkContinue, nil
		}
		if entering {
			b.text = string(n.Lines().Value(source))
			out = append(out, b)
		}
		return ast.WalkContinue, nil
	})
	return out
}

// pages are README.md and the documentation, by name.
func pages(t *testing.T) map[string][]block {
	t.Helper()
	out := map[string][]block{}
	names, err := fs.Glob(docs.Files, "*.md")
	require.NoError(t, err)
	for _, name := range names {
		source, err := fs.ReadFile(docs.Files, name)
		require.NoError(t, err)
		out["docs/"+name] = blocks(source)
	}
	for _, name := range []string{"README.md", "CONTRIBUTING.md"} {
		source, err := os.ReadFile("../../" + name)
		require.NoError(t, err)
		out[name] = blocks(source)
	}
	return out
}

var blanks = regexp.MustCompile(`\s+`)

// shows tells whether an output has the expected text in it; blanks do not count, and … is anything.
func shows(output, expected string) bool {
	parts := strings.Split(blanks.ReplaceAllString(expected, ""), "…")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile(strings.Join(parts, ".*?")).MatchString(blanks.ReplaceAllString(output, ""))
}

// The commands in README.md and in the documentation do what the pages say: each page's are run in order in one shell,
// after the line that the demo prints, and each ends well. Go code there is code of the repository.
func TestTheDocumentationIsTrue(t *testing.T) {
	t.Parallel()
	ran, skipped := 0, map[string]bool{}
	for name, list := range pages(t) {
		var run []block
		for i, b := range list {
			language, rest, _ := strings.Cut(b.info, " ")
			first, _, _ := strings.Cut(b.text, "\n")
			switch {
			case b.info == "indented", b.info == "":
				t.Errorf("%s: a piece of code without its language: %s", name, first)
			case language == "sh" && rest == "norun":
				assert.NotEmpty(t, notRun[first], "%s: %q is not run, and notRun does not say why", name, first)
				skipped[first] = true
			case language == "sh":
				run = append(run, b)
				ran++
			case (b.info == "text" || b.info == "json") && i > 0 && list[i-1].info == "sh":
				run = append(run, b)
			case language == "go":
				source, err := os.ReadFile("../../" + rest)
				assert.NoError(t, err, "%s: behind the fence stands the file that the code is from", name)
				assert.Contains(t, trimLines(string(source)), trimLines(b.text), "%s is not as %s has it", rest, name)
			}
		}
		if len(run) > 0 {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				runPage(t, name, run)
			})
		}
	}
	require.Greater(t, ran, 20)
	for first := range notRun {
		assert.True(t, skipped[first], "no page has %q", first)
	}
}

func trimLines(s string) string {
	var out []string
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

// clustered are the pages about several processes: they begin with databases, and start the servers themselves.
var clustered = map[string]bool{"docs/deploy.md": true}

func runPage(t *testing.T, name string, run []block) {
	t.Helper()
	s := newServer(t, "--demo")
	dir := t.TempDir()
	require.NoError(t, os.Symlink(s.dir, filepath.Join(dir, "nexus-data")))
	var script strings.Builder
	script.WriteString("set -euo pipefail\n")
	if clustered[name] {
		s.db, s.rds = postgrestest.URL(t), redistest.URL(t)
		binary(t)
	} else {
		s.start()
		export := regexp.MustCompile(`(?m)^ *export NEXUS_URL=.*$`)
		require.Eventually(t, func() bool { return export.MatchString(s.out.String()) }, 20*time.Second, 5*time.Millisecond)
		fmt.Fprintln(&script, export.FindString(s.out.String()))
	}
	const mark = "::: block "
	addresses := strings.NewReplacer("127.0.0.1:8080", s.addr, "127.0.0.1:8081", freeAddr(t))
	for i, b := range run {
		if b.info == "sh" {
			fmt.Fprintf(&script, "echo '\n%s%d'\n%s\n", mark, i, addresses.Replace(b.text))
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script.String())
	cmd.Dir, cmd.Env = dir, append(s.env(), "PATH="+filepath.Dir(binary(t))+":"+os.Getenv("PATH"))
	cmd.WaitDelay = time.Second // for what a page left running
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		require.NoError(t, err, "%s ends with:\n%s\n%s", name, tail(out.String(), 3_000), errOut.String())
	}
	outputs := map[string]string{}
	for _, piece := range strings.Split(out.String(), mark)[1:] {
		at, output, _ := strings.Cut(piece, "\n")
		outputs[at] = output
	}
	for i, b := range run {
		if b.info != "sh" {
			before := outputs[fmt.Sprint(i-1)]
			require.True(t, shows(before, b.text), "%s says that\n%s\nshows\n%s\nbut it shows\n%s", name, run[i-1].text, b.text, before)
		}
	}
}
