package handbook_test

import (
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/internal/handbook"
)

func files(m map[string]string) fs.FS {
	out := fstest.MapFS{}
	for name, text := range m {
		out[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

func page(t *testing.T, b *handbook.Book, path string) handbook.Page {
	t.Helper()
	p, ok := b.Page(path)
	require.True(t, ok, path)
	return p
}

func TestLinksLeadToTheSamePlaceAsInTheRepository(t *testing.T) {
	b, err := handbook.Read(files(map[string]string{
		"README.md":     "# Start\n\nSee [one](one.md), [its end](one.md#the-end-of-it), [x](adr/0001-x.md), [all](adr/README.md), [a file](data/x.json), [elsewhere](https://example.com/x.md).",
		"one.md":        "# One\n\nIn short.\n\nWords `with` code\nin two lines, and then some.\n\n## The end: of it!\n\n[back](README.md) [up](#one) `/api` and `/else`\n\n## Again\n\n## Again\n",
		"adr/README.md": "# All\n\n[x](0001-x.md) [start](../README.md)",
		"adr/0001-x.md": "# X\n\n[one](../one.md#again-1)",
		"data/x.json":   "{}",
	}), "/docs", handbook.Places{"/api"})
	require.NoError(t, err)
	start, one := page(t, b, "/docs"), page(t, b, "/docs/one")
	for _, to := range []string{"/docs/one", "/docs/one#the-end-of-it", "/docs/adr/0001-x", "/docs/adr", "/docs/data/x.json", "https://example.com/x.md"} {
		require.Contains(t, start.HTML, `href="`+to+`"`)
	}
	for _, to := range []string{"/docs", "#one", "#the-end-of-it"} {
		require.Contains(t, one.HTML, `href="`+to+`"`)
	}
	require.Contains(t, one.HTML, `<a href="/api"><code>/api</code></a> and <code>/else</code>`)
	require.Equal(t, "Words with code in two lines, and then some.", one.Summary)
	require.Equal(t, []handbook.Section{{"the-end-of-it", "The end: of it!"}, {"again", "Again"}, {"again-1", "Again"}}, one.Sections)
	require.Contains(t, page(t, b, "/docs/adr/0001-x").HTML, `href="/docs/one#again-1"`)
	require.Contains(t, page(t, b, "/docs/adr").HTML, `href="/docs/adr/0001-x"`)
	f, ok := b.File("/docs/data/x.json")
	require.True(t, ok)
	require.Equal(t, "{}", string(f))
}

func TestALinkThatLeadsNowhereIsAnError(t *testing.T) {
	for _, to := range []string{"two.md", "one.md#nothing", "#nothing", "../README.md", "data/y.json", "/nowhere", "data/x.json#a"} {
		_, err := handbook.Read(files(map[string]string{"one.md": "# One\n\n[x](" + to + ")", "data/x.json": "{}"}), "/docs", nil)
		require.ErrorContains(t, err, "one.md links to ", to)
	}
	_, err := handbook.Read(files(map[string]string{"one.md": "No title"}), "/docs", nil)
	require.ErrorContains(t, err, "has no title")
}

func TestNothingInAPageActs(t *testing.T) {
	b, err := handbook.Read(files(map[string]string{
		"x.md": "# A <script>alert(1)</script> `<b>`\n\n<script>alert(1)</script>\n\nText <img src=x onerror=alert(1)> and [a](javascript:alert(1)).\n\n```sh\necho '<b>'\n```\n\n```text\n<i>\n```\n\n" +
			"| | b | c<d |\n|---|--:|---|\n| `<i>` | 2 | |\n\n| | |\n|---|---|\n| 1 | 2 |\n",
	}), "/docs", nil)
	require.NoError(t, err)
	html := page(t, b, "/docs/x").HTML
	for _, bad := range []string{"<script", "<img", "javascript:", "style=", "<b>", "<i>"} {
		require.NotContains(t, html, bad)
	}
	require.Contains(t, html, `<button type="button" class="btn small" data-copy="code-1">Copy</button><pre tabindex="0"><code id="code-1">echo &#39;&lt;b&gt;&#39;`)
	require.Contains(t, html, `<div class="code out"><pre tabindex="0"><code id="code-2">&lt;i&gt;`)
	require.Contains(t, html, `<table class="wide"><thead><tr><td></td><th scope="col">b</th><th scope="col">c&lt;d</th></tr></thead>`)
	require.Contains(t, html, `<tr><td><code>&lt;i&gt;</code></td><td data-label="b">2</td><td></td></tr>`)
	require.Contains(t, html, `<table><tr><td>1</td>`)
}
