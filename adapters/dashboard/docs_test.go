package dashboard_test

import (
	"io/fs"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/docs"
)

var (
	hrefs = regexp.MustCompile(`(?:href|src)="([^"]+)"`)
	idsOf = regexp.MustCompile(` id="([^"]+)"`)
	title = regexp.MustCompile(`<title>([^<]+) – NEXUS</title><meta name="description" content="[^"]{20,}">`)
)

// Whoever follows the links of the documentation sees all of it, and comes to no place that is not there.
func TestTheDocumentationHangsTogether(t *testing.T) {
	t.Parallel()
	s := open(t)
	stranger := client{t: t, site: s}
	seen, todo, titles := map[string]answer{}, []string{"/docs"}, map[string]string{}
	ids := func(a answer) (out []string) {
		for _, m := range idsOf.FindAllStringSubmatch(a.body, -1) {
			out = append(out, m[1])
		}
		return out
	}
	for len(todo) > 0 {
		at := todo[0]
		todo = todo[1:]
		a := stranger.send("GET", at, nil)
		seen[at] = a
		if !strings.HasPrefix(at, "/docs") || path.Ext(at) == ".json" {
			assert.Contains(t, []int{http.StatusOK, http.StatusSeeOther}, a.status, at)
			continue
		}
		require.Equal(t, http.StatusOK, a.status, at)
		require.Less(t, len(a.body), 100_000, at)
		if !strings.HasPrefix(at, "/docs/reference") { // httpapi's
			m := title.FindStringSubmatch(a.body)
			require.Len(t, m, 2, at)
			require.Empty(t, titles[m[1]], "%s has the title of another page", at)
			titles[m[1]] = at
		}
		require.Equal(t, 1, strings.Count(a.body, "<h1"), at)
		unique := ids(a)
		slices.Sort(unique)
		require.Len(t, slices.Compact(unique), len(ids(a)), "%s has an id twice", at)
		for _, m := range hrefs.FindAllStringSubmatch(a.body, -1) {
			to, _, _ := strings.Cut(m[1], "#")
			if strings.HasPrefix(to, "/") && seen[to].status == 0 && !slices.Contains(todo, to) {
				todo = append(todo, to)
			}
		}
	}
	for at, a := range seen {
		if !strings.HasPrefix(at, "/docs") || path.Ext(at) == ".json" {
			continue
		}
		for _, m := range hrefs.FindAllStringSubmatch(a.body, -1) {
			to, anchor, _ := strings.Cut(m[1], "#")
			if to == "" {
				to = at
			}
			if anchor != "" && strings.HasPrefix(to, "/") {
				assert.Contains(t, ids(seen[to]), anchor, "%s links to %s", at, m[1])
			}
		}
	}
	for _, pattern := range []string{"*.md", "adr/*.md"} {
		names, err := fs.Glob(docs.Files, pattern)
		require.NoError(t, err)
		for _, name := range names {
			at := strings.TrimSuffix("/docs/"+strings.TrimSuffix(name, ".md"), "/README")
			assert.Equal(t, http.StatusOK, seen[at].status, "nothing leads to %s", at)
			if pattern == "*.md" {
				assert.Contains(t, seen["/docs"].body, `<li><a href="`+at+`"`, "the menu lacks %s", at)
			}
		}
	}
}

// A page that a stranger's browser has is not sent again; what tells who is logged in is not kept.
func TestTheDocumentationIsKeptByBrowsers(t *testing.T) {
	t.Parallel()
	s := open(t)
	_, token := s.user(t, "me@example.com")
	stranger, me := client{t: t, site: s}, client{t: t, site: s, token: token}
	a := stranger.send("GET", "/docs/trust", nil)
	require.Equal(t, "private, no-cache", a.header.Get("Cache-Control"))
	require.Equal(t, "Cookie", a.header.Get("Vary"))
	tag := a.header.Get("ETag")
	again := stranger.send("GET", "/docs/trust", nil, "If-None-Match", `"x", W/`+tag)
	require.Equal(t, http.StatusNotModified, again.status)
	require.Empty(t, again.body)
	mine := me.send("GET", "/docs/trust", nil, "If-None-Match", tag)
	require.Equal(t, http.StatusOK, mine.status)
	require.Equal(t, "no-store", mine.header.Get("Cache-Control"))
	require.Empty(t, mine.header.Get("ETag"))
	require.Contains(t, mine.body, "me@example.com")
	require.Equal(t, http.StatusNotFound, stranger.send("GET", "/docs/nothing", nil).status)
	require.Equal(t, http.StatusNotFound, stranger.send("GET", "/docs/adr/..%2f..%2fembed", nil).status)
	file := stranger.send("GET", "/docs/grafana/nexus.json", nil)
	require.Equal(t, "application/json", file.header.Get("Content-Type"))
	require.Equal(t, "attachment", file.header.Get("Content-Disposition"))
}

// The documentation can be read by everybody, on every screen, and what it shows can be taken along.
func TestTheDocumentationIsReadable(t *testing.T) {
	t.Parallel()
	s := open(t)
	b := browse(t, s.url)
	look := func(at string) {
		t.Helper()
		b.open(at)
		assert.False(t, ask[bool](b, `document.documentElement.scrollWidth > innerWidth + 1`), "%s is wider than the window", at)
		b.accessible()
	}
	b.open("/docs")
	shelf := ask[[]string](b, `[...document.querySelectorAll(".shelf nav > ul > li > a")].map(a => a.getAttribute("href"))`)
	require.Greater(t, len(shelf), 15)
	for _, at := range shelf {
		look(at)
	}
	look("/docs/adr/0029-pages")
	for _, at := range []string{"/docs/reference", "/docs/reference/tasks"} { // whose pages are made elsewhere, with the same menu
		b.open(at)
		assert.Equal(t, shelf, ask[[]string](b, `[...document.querySelectorAll(".shelf nav > ul > li > a")].map(a => a.getAttribute("href"))`), at)
		assert.Equal(t, at, ask[string](b, `document.querySelector(".shelf [aria-current=page]").getAttribute("href")`))
		assert.Equal(t, "/docs/reference/tasks", ask[string](b, `[...document.querySelectorAll(".shelf ul ul a")].find(a => a.textContent === "Tasks").getAttribute("href")`))
	}
	look("/docs/reference/tasks")
	b.open("/docs/reference/tasks#create-task")
	b.see(`document.querySelector("#create-task").checkVisibility()`) // it unfolds
	b.open("/docs/quickstart")
	b.eval(`navigator.clipboard.writeText = async (text) => { window.copied = text; }`) // what a browser without a window does not do
	b.eval(`[...document.querySelectorAll(".code > .btn")][1].click()`)
	b.see(`window.copied?.startsWith("api() {") && document.querySelectorAll(".code > .btn")[1].textContent === "Copied"`)
	b.prefer("prefers-color-scheme", "dark")
	b.do(chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile))
	for _, at := range []string{"/docs", "/docs/quickstart", "/docs/telemetry", "/docs/reference", "/docs/reference/tasks"} {
		look(at)
	}
	b.open("/docs/operations") // on a phone the other pages are folded away
	b.click(".shelf-fold > summary")
	b.do(chromedp.Click(`.shelf-fold a[href="/docs/trust"]`))
	b.at("/docs/trust")
}
