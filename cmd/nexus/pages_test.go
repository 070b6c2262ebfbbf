package main

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/dashboard"
	"github.com/nexus-protocol/nexus/adapters/httpapi"
	"github.com/nexus-protocol/nexus/app"
)

// walk is a person's way through all pages of a seeded server, from link to link.
type walk struct {
	t       *testing.T
	handler http.Handler
	token   string
	routes  *http.ServeMux // of the dashboard, to tell of what kind a page is
	taken   map[string]int // how many pages of a kind
	seen    map[string]bool
	queue   []string
	found   []visited
}

// visited is a page, and what it costs.
type visited struct {
	kind, path string
	took       []time.Duration
	bytes      int
}

const (
	pageTime  = raceFactor * 50 * time.Millisecond
	pageBytes = 100_000
	pageLooks = 4/raceFactor + 1
	perKind   = 4 // agents, tasks, workflows, runs and so on are looked at
)

var hrefs = regexp.MustCompile(`href="(/[^"#]*)`)

// kind is what pages with the same template have in common: their route, and which parameters are set.
func (w *walk) kind(r *http.Request) string {
	_, kind := w.routes.Handler(r)
	if kind == "" || strings.Contains(kind, " /docs") { // every page of the documentation is one of its own
		kind = r.URL.Path
	}
	if names := slices.Sorted(maps.Keys(r.URL.Query())); len(names) > 0 {
		kind += "?" + strings.Join(names, "&")
	}
	return kind
}

func (w *walk) get(path string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(w.t.Context(), http.MethodGet, path, http.NoBody)
	r.Header.Set("Accept", "text/html")
	r.AddCookie(&http.Cookie{Name: "nexus_session", Value: w.token})
	out := httptest.NewRecorder()
	w.handler.ServeHTTP(out, r)
	return out
}

// visit looks at a page some times, and notes what it leads to. That other work goes on on this machine makes a page slow
// now and then, but hardly each time: only one that was never fast enough is slow.
func (w *walk) visit(path string) {
	w.t.Helper()
	kind := w.kind(httptest.NewRequestWithContext(w.t.Context(), http.MethodGet, path, http.NoBody))
	if w.seen[path] || w.taken[kind] == perKind {
		return
	}
	w.seen[path] = true
	answer := w.get(path)
	if !strings.HasPrefix(answer.Header().Get("Content-Type"), "text/html") || answer.Code >= 300 && answer.Code < 400 {
		return
	}
	w.taken[kind]++
	for _, m := range hrefs.FindAllStringSubmatch(answer.Body.String(), -1) {
		to := strings.ReplaceAll(m[1], "&amp;", "&")
		if !strings.HasPrefix(to, "/assets/") && !strings.HasPrefix(to, "/api/") && !strings.HasSuffix(to, "/live") {
			w.queue = append(w.queue, to)
		}
	}
	v := visited{kind: kind, path: path, bytes: answer.Body.Len()}
	for began := time.Now(); len(v.took) < pageLooks || slices.Min(v.took) >= pageTime && time.Since(began) < 20*time.Second; {
		asked := time.Now()
		w.get(path)
		v.took = append(v.took, time.Since(asked))
	}
	w.found = append(w.found, v)
}

// all visits what is to be visited, and what that leads to.
func (w *walk) all() {
	w.t.Helper()
	for len(w.queue) > 0 {
		next := w.queue[0]
		w.queue = w.queue[1:]
		w.visit(next)
	}
}

// everyPage looks at all that the dashboard, the marketplace, the documentation and signing in have: it is rendered fast and
// is small, with as much in it as people have after ninety days. go test -v prints the figures.
func everyPage(t *testing.T, engine *app.Engine) {
	ada, err := engine.Identity.UserByEmail(t.Context(), seedEmail)
	require.NoError(t, err)
	token, err := engine.Identity.StartSession(t.Context(), ada, app.Browser{Device: "Firefox on Linux"})
	require.NoError(t, err)
	const base = "http://127.0.0.1:8080"
	w := &walk{t: t, token: token, routes: http.NewServeMux(), taken: map[string]int{}, seen: map[string]bool{}, handler: httpapi.New(engine, httpapi.Options{
		PublicURL: base, Pages: dashboard.New(engine, dashboard.Options{PublicURL: base}), PagesAt: dashboard.Patterns(),
	})}
	for _, p := range dashboard.Patterns() {
		w.routes.Handle(p, http.NotFoundHandler())
	}
	w.queue = []string{
		"/dashboard", "/marketplace", "/docs", "/auth/login", "/auth/signup", "/auth/forgot-password", "/auth/reset-password?token=x", "/auth/verify-email?token=x",
		"/dashboard/nothing", "/marketplace/nothing", "/nothing", "/marketplace?q=translate", "/dashboard/billing?period=90d", "/dashboard/tasks?status=failed",
		"/dashboard/workflows?offset=10", "/dashboard/agents?offset=5",
	}
	w.all()
	for _, p := range dashboard.Patterns() {
		path, isGet := strings.CutPrefix(p, "GET ")
		if !isGet || slices.Contains([]string{"/{$}", "/billing/return"}, path) || strings.HasSuffix(path, "/live") || strings.Contains(path, "/files/") || strings.HasPrefix(path, "/docs") {
			continue // it leads on, or is no page
		}
		assert.True(t, slices.ContainsFunc(w.found, func(v visited) bool { return strings.HasPrefix(v.kind, p) }), "no link led to "+path)
	}
	w.token = "" // what is for everybody, as a stranger sees it
	clear(w.seen)
	clear(w.taken)
	w.queue = []string{"/marketplace", "/docs"}
	w.all()
	table := &strings.Builder{}
	fmt.Fprintf(table, "%d pages\n%-8s %-8s %s\n", len(w.found), "ms", "bytes", "page")
	slices.SortStableFunc(w.found, func(a, b visited) int { return cmp.Compare(a.kind, b.kind) })
	for _, v := range w.found {
		slices.Sort(v.took)
		fmt.Fprintf(table, "%-8.2f %-8d %s\n", float64(v.took[len(v.took)/2].Microseconds())/1000, v.bytes, v.path)
		assert.Less(t, v.took[0], pageTime, v.path)
		assert.Less(t, v.bytes, pageBytes, v.path)
	}
	t.Log(table)
}
