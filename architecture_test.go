// Package nexus_test proves how the project is built: who may import whom, and what an embedder links.
package nexus_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/nexus-protocol/nexus"

// pkg is a package as go list tells of it.
type pkg struct {
	ImportPath string
	Standard   bool
	Imports    []string
	Deps       []string
}

// driving are the adapters that call app.
var driving = []string{"httpapi", "dashboard", "a2agateway", "mcpserver"}

// kernel are the domain packages that all others share.
var kernel = []string{"fault", "credits"}

// impure is what the domain has no use for: I/O, logs, randomness, goroutines.
var impure = []string{
	"context", "os", "io", "net", "net/http", "net/rpc", "database/sql", "log", "log/slog", "math/rand", "math/rand/v2", "crypto/rand", "sync", "sync/atomic",
	"os/exec", "os/signal", "syscall", "runtime",
}

// violations lists every arrow that points the wrong way.
func violations(pkgs []pkg) []string {
	var out []string
	third := func(imp string) bool {
		return strings.Contains(strings.Split(imp, "/")[0], ".") && !strings.HasPrefix(imp, module)
	}
	for _, p := range pkgs {
		from, inside := strings.CutPrefix(p.ImportPath, module+"/")
		if !inside {
			continue
		}
		layer, rest, _ := strings.Cut(from, "/")
		bad := func(imp, why string) { out = append(out, fmt.Sprintf("%s imports %s: %s", from, imp, why)) }
		pure := layer == "domain" || layer == "ports" || layer == "app" || from == "adapters/memory"
		for _, imp := range p.Imports {
			to, own := strings.CutPrefix(imp, module+"/")
			if pure && third(imp) {
				bad(imp, "a library in a layer that has none")
			}
			if layer == "domain" && slices.Contains(impure, imp) {
				bad(imp, "the domain is pure")
			}
			if !own {
				continue
			}
			toLayer, toRest, _ := strings.Cut(to, "/")
			allowed := map[string][]string{
				"domain": {"domain"}, "ports": {"ports", "domain"}, "app": {"ports", "domain"},
				"adapters": {"adapters", "app", "ports", "domain", "migrations", "docs"}, "migrations": {}, "docs": {}, "examples": {"adapters", "app", "ports", "domain", "examples"},
				"cmd": {"adapters", "app", "ports", "domain", "examples", "migrations", "cmd"},
			}[layer]
			switch {
			case !slices.Contains(allowed, toLayer):
				bad(to, "imports point inwards only")
			case layer == "domain" && !slices.Contains(kernel, toRest):
				bad(to, "sibling domain packages do not know each other")
			case layer == "adapters" && toLayer == "app" && !slices.Contains(driving, strings.Split(rest, "/")[0]):
				bad(to, "only driving adapters call app")
			case layer == "adapters" && toLayer == "adapters" && !strings.HasPrefix(toRest, "internal/") && strings.Split(toRest, "/")[0] != strings.Split(rest, "/")[0]:
				bad(to, "adapters do not know each other")
			}
		}
	}
	return out
}

// linked lists the libraries that come with a package.
func linked(pkgs []pkg, importPath string) []string {
	var out []string
	for _, p := range pkgs {
		if p.ImportPath != module+"/"+importPath {
			continue
		}
		for _, dep := range p.Deps {
			if strings.Contains(strings.Split(dep, "/")[0], ".") && !strings.HasPrefix(dep, module) {
				out = append(out, dep)
			}
		}
	}
	return out
}

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Standard,Imports,Deps", "./...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	var pkgs []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
	require.Greater(t, len(pkgs), 10)
	return pkgs
}

func TestImportsPointInwards(t *testing.T) {
	pkgs := list(t)
	require.Empty(t, violations(pkgs))
	for _, p := range []string{"domain/task", "ports", "ports/portstest", "app", "adapters/memory", "adapters/inprocess"} {
		require.Empty(t, linked(pkgs, p), "an embedder of %s links these", p)
	}
}

// Who does not import telemetry links none of its libraries.
func TestTelemetryIsLinkedByWhoImportsIt(t *testing.T) {
	pkgs := list(t)
	require.NotEmpty(t, linked(pkgs, "adapters/telemetry"))
	for _, p := range pkgs {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		if name == "adapters/telemetry" || name == "cmd/nexus" {
			continue
		}
		for _, dep := range linked(pkgs, name) {
			require.False(t, strings.HasPrefix(dep, "go.opentelemetry.io/") || strings.HasPrefix(dep, "github.com/prometheus/"), "%s links %s", name, dep)
		}
	}
}

// Stripe's library is large, and only who sells by Stripe links it.
func TestStripeIsLinkedByWhoImportsIt(t *testing.T) {
	pkgs := list(t)
	require.NotEmpty(t, linked(pkgs, "adapters/stripepay"))
	for _, p := range pkgs {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		if strings.HasPrefix(name, "adapters/stripepay") || name == "cmd/nexus" {
			continue
		}
		for _, dep := range linked(pkgs, name) {
			require.False(t, strings.HasPrefix(dep, "github.com/stripe/"), "%s links %s", name, dep)
		}
	}
}

func TestTheRulesCatchWhatBreaksThem(t *testing.T) {
	for from, imports := range map[string][]string{
		"domain/task":             {module + "/domain/ledger", module + "/ports", "context", "crypto/rand", "example.com/lib"},
		"ports":                   {module + "/app", "example.com/lib"},
		"app":                     {module + "/adapters/memory", "example.com/lib"},
		"adapters/sqlite":         {module + "/app", module + "/adapters/memory", module + "/cmd/nexus"},
		"adapters/memory":         {"example.com/lib"},
		"adapters/internal/thing": {module + "/adapters/sqlite"},
		"examples/echo":           {module + "/cmd/nexus"},
	} {
		for _, imp := range imports {
			require.Len(t, violations([]pkg{{ImportPath: module + "/" + from, Imports: []string{imp}}}), 1, "%s → %s", from, imp)
		}
	}
	for from, imports := range map[string][]string{
		"domain/task":     {module + "/domain/fault", "time", "encoding/json"},
		"app":             {module + "/ports", module + "/domain/task", "context"},
		"adapters/sqlite": {module + "/adapters/internal/bunstore", module + "/ports", "example.com/lib"},
		"cmd/nexus":       {module + "/adapters/sqlite", module + "/app"},
	} {
		require.Empty(t, violations([]pkg{{ImportPath: module + "/" + from, Imports: imports}}))
	}
	require.Equal(t, []string{"example.com/lib"}, linked([]pkg{{ImportPath: module + "/app", Deps: []string{"fmt", module + "/ports", "example.com/lib"}}}, "app"))
}

// findings lists what the source of a layer must not do: take the time by itself, start goroutines in the domain, or
// declare a port with more than six methods.
func findings(file string, f *ast.File) []string {
	var out []string
	layer, _, _ := strings.Cut(file, "/")
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After", "Tick"}, n.Sel.Name) &&
				(layer == "domain" || layer == "app") {
				out = append(out, file+": time."+n.Sel.Name)
			}
		case *ast.GoStmt:
			if layer == "domain" {
				out = append(out, file+": go statement")
			}
		case *ast.TypeSpec:
			if i, ok := n.Type.(*ast.InterfaceType); ok && layer == "ports" {
				methods := 0
				for _, m := range i.Methods.List {
					methods += len(m.Names)
				}
				if methods > 6 {
					out = append(out, fmt.Sprintf("%s: %s has %d methods", file, n.Name.Name, methods))
				}
			}
		}
		return true
	})
	return out
}

func TestTheInnerLayersAreDeterministicAndPortsAreSmall(t *testing.T) {
	for _, dir := range []string{"domain", "app", "ports"} {
		require.NoError(t, filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			require.NoError(t, err)
			require.Empty(t, findings(filepath.ToSlash(name), f))
			return nil
		}))
	}
	for file, src := range map[string]string{
		"domain/x.go": `package x; import "time"; var _ = time.Now()`,
		"app/x.go":    `package x; import "time"; func f() { time.Sleep(1) }`,
		"domain/y.go": `package y; func f() { go f() }`,
		"ports/x.go":  `package x; type P interface { A(); B(); C(); D(); E(); F(); G() }`,
	} {
		f, err := parser.ParseFile(token.NewFileSet(), file, src, 0)
		require.NoError(t, err)
		require.Len(t, findings(file, f), 1, file)
	}
}

// The top level is for what people expect to find there.
func TestTopLevel(t *testing.T) {
	entries, err := os.ReadDir(".")
	require.NoError(t, err)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		require.Contains(t, []string{
			"adapters", "app", "architecture_test.go", "bin", "CHANGELOG.md", "client", "cmd", "CONTRIBUTING.md", "Dockerfile", "docker-compose.yml", "docs", "domain",
			"examples", "go.mod", "go.sum", "LICENSE", "Makefile", "migrations", "nexus-data", "ports", "README.md",
		}, e.Name())
	}
}
