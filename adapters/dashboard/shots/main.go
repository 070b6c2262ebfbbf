// Command shots takes pictures of every page, light and dark, on a desktop and on a phone, of a server that was filled by
// nexus seed. It builds and runs that server itself.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/nexus-protocol/nexus/adapters/internal/browsertest"
	"github.com/nexus-protocol/nexus/adapters/internal/testrig"
)

func main() {
	out := flag.String("out", "screenshots", "where the pictures go")
	only := flag.String("only", "", "only pages whose name contains this")
	looks := flag.String("looks", "", "only looks whose name contains this, such as light-desktop")
	flag.Parse()
	if err := run(*out, *only, *looks); err != nil {
		fmt.Fprintln(os.Stderr, "shots:", err)
		os.Exit(1)
	}
}

var (
	passwordLine = regexp.MustCompile(`password\s+(\S+)`)
	link         = func(pattern string) *regexp.Regexp { return regexp.MustCompile(`href="(` + pattern + `)["<]`) }
	uuid         = `[0-9a-f]{8}-[0-9a-f-]{27}`
)

func run(out, only, looks string) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "nexus-shots-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	binary := filepath.Join(dir, "nexus")
	if b, err := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/nexus").CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w: %s", err, b)
	}
	port, err := testrig.FreePort()
	if err != nil {
		return err
	}
	base := "http://127.0.0.1:" + port
	agents, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	endpoint := "http://" + agents.Addr().String()
	card := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // all that the agents are asked for
		if r.Method == http.MethodPost { // it is at work on it for as long as it is looked at
			<-r.Context().Done()
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"protocolVersion":"0.3.0","name":"Agent","url":%q,"preferredTransport":"JSONRPC","version":"1","capabilities":{},"skills":[]}`, endpoint)
	})
	go func() { // it ends with the process
		_ = (&http.Server{Handler: card, ReadHeaderTimeout: 5 * time.Second}).Serve(agents)
	}()
	env := append(os.Environ(), "NEXUS_DATA_DIR="+filepath.Join(dir, "data"), "NEXUS_ADDR=127.0.0.1:"+port, "NEXUS_METRICS_ADDR=off", "NEXUS_LOG_LEVEL=error", "NEXUS_RATE_LIMIT=off", "NEXUS_ALLOW_PRIVATE_ENDPOINTS=true")
	seed := exec.CommandContext(ctx, binary, "seed", "--endpoint", endpoint)
	seed.Env = env
	told, err := seed.CombinedOutput()
	if err != nil {
		return fmt.Errorf("seed: %w: %s", err, told)
	}
	found := passwordLine.FindSubmatch(told)
	if found == nil {
		return fmt.Errorf("seed gave no password: %s", told)
	}
	server := exec.CommandContext(ctx, binary, "serve")
	server.Env, server.Stderr = env, os.Stderr
	if err := server.Start(); err != nil {
		return err
	}
	defer func() {
		_ = server.Process.Signal(os.Interrupt)
		_ = server.Wait()
	}()
	if err := up(ctx, base); err != nil {
		return err
	}
	tab, stop, err := browsertest.Start(ctx)
	if err != nil {
		return err
	}
	defer stop()
	return pictures(tab, base, string(found[1]), out, only, looks)
}

// up waits for the server.
func up(ctx context.Context, base string) error {
	for range 100 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/readyz", http.NoBody)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return errors.New("the server did not start")
}

// shot is one page.
type shot struct{ name, path string }

func pictures(tab context.Context, base, password, out, only, looks string) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	public := []shot{{"login", "/auth/login"}, {"signup", "/auth/signup"}, {"forgot", "/auth/forgot-password"}, {"reset", "/auth/reset-password?token=x"}, {"verify", "/auth/verify-email?token=x"}, {"marketplace-stranger", "/marketplace"}, {"docs", "/docs"}}
	for _, page := range []string{"quickstart", "concepts", "api", "reference", "reference/tasks", "a2a", "workflows", "embedding", "adapters", "operations", "telemetry", "trust", "adr", "adr/0004-money"} {
		public = append(public, shot{"docs-" + strings.ReplaceAll(page, "/", "-"), "/docs/" + page})
	}
	if err := all(tab, base, out, only, looks, public); err != nil {
		return err
	}
	if err := chromedp.Do(tab, chromedp.Navigate(base+"/auth/login?next=/dashboard"), chromedp.SetValue("#email", "ada@nexus.example"), chromedp.SetValue("#password", password),
		chromedp.Submit("#password"), chromedp.WaitReady(".frame")); err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	html := func(path string) (string, error) {
		if err := chromedp.Do(tab, chromedp.Navigate(base+path)); err != nil {
			return "", err
		}
		return chromedp.Run(tab, chromedp.OuterHTML("html"))
	}
	first := func(path, pattern string) (string, error) {
		text, err := html(path)
		if err != nil {
			return "", err
		}
		m := link(pattern).FindStringSubmatch(text)
		if m == nil {
			return "", fmt.Errorf("%s links to no %s", path, pattern)
		}
		return m[1], nil
	}
	private := []shot{
		{"home", "/dashboard"},
		{"agents", "/dashboard/agents"},
		{"agent-new", "/dashboard/agents/new"},
		{"tasks", "/dashboard/tasks"},
		{"task-choose", "/dashboard/tasks/new"},
		{"workflows", "/dashboard/workflows"},
		{"workflow-new", "/dashboard/workflows/new"},
		{"marketplace", "/marketplace"},
		{"billing", "/dashboard/billing?period=90d"},
		{"settings", "/dashboard/settings"},
		{"admin", "/dashboard/admin"},
		{"lost", "/dashboard/nothing"},
	}
	runOf := func(status string) string {
		return "/dashboard/workflows/" + uuid + "/runs/" + uuid + `)"[^>]*><span class="badge [a-z ]*">(` + status
	}
	for _, f := range []struct{ name, at, pattern, suffix string }{
		{"agent", "/dashboard/agents", "/dashboard/agents/" + uuid, ""},
		{"agent-edit", "/dashboard/agents", "/dashboard/agents/" + uuid, "/edit"},
		{"task-completed", "/dashboard/tasks?status=completed&role=requester", "/dashboard/tasks/" + uuid, ""},
		{"task-running", "/dashboard/tasks?status=running&role=requester", "/dashboard/tasks/" + uuid, ""},
		{"task-failed", "/dashboard/tasks?status=failed", "/dashboard/tasks/" + uuid, ""},
		{"workflow", "/dashboard/workflows", "/dashboard/workflows/" + uuid, ""},
		{"workflow-edit", "/dashboard/workflows", "/dashboard/workflows/" + uuid, "/edit"},
		{"run", "/dashboard/workflows", runOf("completed"), ""},
		{"run-running", "/dashboard/workflows", runOf("running"), ""},
		{"run-failed", "/dashboard/workflows", runOf("failed"), ""},
		{"marketplace-agent", "/marketplace", "/marketplace/" + uuid, ""},
	} {
		path, err := first(f.at, f.pattern)
		if err != nil {
			return err
		}
		private = append(private, shot{f.name, path + f.suffix})
		if f.name == "marketplace-agent" {
			private = append(private, shot{"task-new", "/dashboard/tasks/new?agent=" + path[len("/marketplace/"):]})
		}
	}
	return all(tab, base, out, only, looks, private)
}

func all(tab context.Context, base, out, only, looks string, shots []shot) error {
	for _, look := range []struct {
		name, scheme  string
		width, height int64
		phone         bool
	}{{"light-desktop", "light", 1360, 860, false}, {"dark-desktop", "dark", 1360, 860, false}, {"light-phone", "light", 390, 844, true}, {"dark-phone", "dark", 390, 844, true}} {
		if !strings.Contains(look.name, looks) {
			continue
		}
		viewport := []chromedp.EmulateViewportOption{}
		if look.phone {
			viewport = append(viewport, chromedp.EmulateMobile)
		}
		media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: look.scheme}}}
		if err := chromedp.Do(tab, chromedp.EmulateViewport(look.width, look.height, viewport...)); err != nil {
			return err
		}
		if _, err := chromedp.Call(tab, emulation.SetEmulatedMedia, media); err != nil {
			return err
		}
		for _, s := range shots {
			if !strings.Contains(s.name, only) {
				continue
			}
			if err := chromedp.Do(tab, chromedp.Navigate(base+s.path), chromedp.Sleep(250*time.Millisecond)); err != nil {
				return fmt.Errorf("%s: %w", s.path, err)
			}
			b, err := chromedp.Run(tab, chromedp.FullScreenshot(100))
			if err != nil {
				return fmt.Errorf("%s: %w", s.path, err)
			}
			if err := os.WriteFile(filepath.Join(out, s.name+"-"+look.name+".png"), b, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}
