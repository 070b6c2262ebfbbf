package dashboard_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/dashboard"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/scheduler"
	"github.com/nexus-protocol/nexus/domain/task"
)

// client asks a site without following redirects.
type client struct {
	t     *testing.T
	site  *site
	token string
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (c client) send(method, path string, form url.Values, headers ...string) answer {
	c.t.Helper()
	var body io.Reader = http.NoBody
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.site.url+path, body)
	require.NoError(c.t, err)
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	if c.token != "" {
		req.AddCookie(&http.Cookie{Name: "nexus_session", Value: c.token})
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(req)
	require.NoError(c.t, err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	require.NoError(c.t, err)
	return answer{resp.StatusCode, resp.Header, string(b)}
}

func (c client) get(path string) answer { c.t.Helper(); return c.send(http.MethodGet, path, nil) }

// belongings are things of one user.
type belongings struct{ agent, key, task, workflow, run string }

func (s *site) belongingsOf(t *testing.T, c identity.Caller) belongings {
	t.Helper()
	a := s.register(t, c, "Mine", s.agent, 0)
	key, err := s.engine.Identity.CreateKey(t.Context(), c, a.ID, identity.NewKey{Name: "k", Scopes: []string{"*"}})
	require.NoError(t, err)
	made, err := s.engine.Tasks.Create(t.Context(), c, app.CreateTask{AgentID: a.ID, Title: "Do it"})
	require.NoError(t, err)
	w, err := s.engine.Workflows.Create(t.Context(), c, "Flow", "", []scheduler.Step{{Name: "one", AgentID: a.ID}})
	require.NoError(t, err)
	r, err := s.engine.Workflows.Execute(t.Context(), c, w.ID)
	require.NoError(t, err)
	return belongings{a.ID, key.ID, made.ID, w.ID, r.ID}
}

// paths are all routes of the dashboard with the ids put in.
func (b belongings) paths() map[string][]string {
	out := map[string][]string{}
	for _, p := range dashboard.Patterns() {
		method, path, found := strings.Cut(p, " ")
		if !found || strings.HasSuffix(path, "{$}") {
			continue
		}
		id := b.agent
		switch {
		case strings.Contains(path, "/tasks/"):
			id = b.task
		case strings.Contains(path, "/workflows/"):
			id = b.workflow
		}
		path = strings.NewReplacer("{id}", id, "{key}", b.key, "{run}", b.run, "{artifact}", "0", "{part}", "0", "{session}", b.agent, "{user}", b.agent).Replace(path)
		out[method] = append(out[method], path)
	}
	return out
}

func TestPagesWithoutASessionLeadToTheLogInAndBack(t *testing.T) {
	s := open(t)
	me, _ := s.user(t, "me@example.com")
	of := s.belongingsOf(t, me)
	c := client{t: t, site: s}
	seen := 0
	for method, paths := range of.paths() {
		for _, path := range paths {
			if strings.HasPrefix(path, "/marketplace") || strings.HasPrefix(path, "/docs") || path == "/theme" || path == "/billing/return" {
				continue
			}
			seen++
			var form url.Values
			if method == http.MethodPost {
				form = url.Values{}
			}
			a := c.send(method, path, form)
			if strings.HasSuffix(path, "/live") {
				assert.Equal(t, http.StatusUnauthorized, a.status, path)
				continue
			}
			assert.Equal(t, http.StatusSeeOther, a.status, "%s %s", method, path)
			next := path
			if method == http.MethodPost {
				next = "/dashboard"
			}
			assert.Equal(t, "/auth/login?next="+url.QueryEscape(next), a.header.Get("Location"), path)
		}
	}
	require.Greater(t, seen, 30)
	for _, next := range []string{"//evil.example", "https://evil.example", `/\evil.example`, "javascript:alert(1)", "/\t/evil.example"} {
		a := c.send(http.MethodPost, "/theme", url.Values{"theme": {"dark"}, "next": {next}})
		assert.Equal(t, "/", a.header.Get("Location"), next)
	}
}

func TestWhatIsAnothersDoesNotExist(t *testing.T) {
	s := open(t)
	me, _ := s.user(t, "me@example.com")
	of := s.belongingsOf(t, me)
	_, token := s.user(t, "other@example.com")
	c := client{t: t, site: s, token: token}
	seen := 0
	for method, paths := range of.paths() {
		for _, path := range paths {
			if !strings.Contains(path, of.agent) && !strings.Contains(path, of.task) && !strings.Contains(path, of.workflow) || strings.HasPrefix(path, "/marketplace") {
				continue
			}
			seen++
			var form url.Values
			if method == http.MethodPost {
				form = url.Values{"name": {"x"}, "endpoint": {"http://127.0.0.1:1"}, "key-name": {"k"}, "scope": {"*"}, "text": {"x"}, "stars": {"5"}, "step-0-name": {"x"}, "step-0-agent": {of.agent}}
			}
			assert.Equal(t, http.StatusNotFound, c.send(method, path, form).status, "%s %s", method, path)
		}
	}
	require.Greater(t, seen, 15)
	for _, path := range []string{"/dashboard/agents/x", "/dashboard/tasks/x", "/dashboard/workflows/x", "/dashboard/x", "/dashboard/tasks/new?again=" + of.task} {
		assert.Equal(t, http.StatusNotFound, c.get(path).status, path)
	}
	a, err := s.engine.Agents.Get(t.Context(), me, of.agent)
	require.NoError(t, err)
	assert.Equal(t, "Mine", a.Name)
	keys, err := s.engine.Identity.ListKeys(t.Context(), me, of.agent)
	require.NoError(t, err)
	assert.Len(t, keys, 1)
}

func TestFormsOfOtherSitesAreRefused(t *testing.T) {
	s := open(t)
	me, token := s.user(t, "me@example.com")
	of := s.belongingsOf(t, me)
	c := client{t: t, site: s, token: token}
	posts := of.paths()[http.MethodPost]
	require.Greater(t, len(posts), 14)
	for _, path := range posts {
		for _, headers := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Sec-Fetch-Site", "", "Origin", "https://evil.example"}, {"Sec-Fetch-Site", "", "Origin", "null"}} {
			assert.Equal(t, http.StatusForbidden, c.send(http.MethodPost, path, url.Values{}, headers...).status, "%s %v", path, headers)
		}
	}
	a, err := s.engine.Agents.Get(t.Context(), me, of.agent)
	require.NoError(t, err)
	assert.Equal(t, "Mine", a.Name)
}

func TestPagesCannotBeFramedAndRunNothingOfTheirOwn(t *testing.T) {
	s := open(t)
	me, token := s.user(t, "me@example.com")
	of := s.belongingsOf(t, me)
	c := client{t: t, site: s, token: token}
	for _, path := range of.paths()[http.MethodGet] {
		if strings.HasSuffix(path, "/live") {
			continue
		}
		a := c.get(path)
		h := a.header
		policy := h.Get("Content-Security-Policy")
		assert.Contains(t, policy, "frame-ancestors 'none'", path)
		assert.NotContains(t, policy, "unsafe", path)
		assert.Equal(t, "DENY", h.Get("X-Frame-Options"), path)
		assert.Equal(t, "nosniff", h.Get("X-Content-Type-Options"), path)
		assert.Equal(t, "no-store", h.Get("Cache-Control"), path)
		assert.Less(t, len(a.body), 100_000, path)
		assert.NotRegexp(t, `<script(?: [^>]*)?>[^<]|<style|style="| on[a-z]+="`, a.body, path)
	}
	css := regexp.MustCompile(`/assets/nexus\.[0-9a-f]+\.css`).FindString(c.get("/marketplace").body)
	require.NotEmpty(t, css)
	a := c.send(http.MethodGet, css, nil, "Accept-Encoding", "gzip")
	assert.Equal(t, http.StatusOK, a.status)
	assert.Equal(t, "gzip", a.header.Get("Content-Encoding"))
	assert.Contains(t, a.header.Get("Cache-Control"), "immutable")
	assert.Equal(t, http.StatusNotFound, c.get("/assets/nexus.css").status)
}

func TestCookies(t *testing.T) {
	s := open(t)
	_, token := s.user(t, "me@example.com")
	c := client{t: t, site: s, token: token}
	for _, a := range []answer{
		c.send(http.MethodPost, "/theme", url.Values{"theme": {"dark"}}),
		c.get("/billing/return?checkout=success"),
		c.send(http.MethodPost, "/auth/login", url.Values{"email": {"me@example.com"}, "password": {password}}),
	} {
		cookies := a.header.Values("Set-Cookie")
		require.NotEmpty(t, cookies)
		for _, cookie := range cookies {
			assert.Contains(t, cookie, "HttpOnly")
			assert.Contains(t, cookie, "SameSite=Lax")
			assert.Contains(t, cookie, "Path=/")
		}
	}
	// Logging in has given another session, and taken the one away that the browser came with.
	assert.Equal(t, http.StatusSeeOther, c.get("/dashboard").status)
	fixed := client{t: t, site: s, token: strings.Repeat("A", 43)}
	a := fixed.send(http.MethodPost, "/auth/login", url.Values{"email": {"me@example.com"}, "password": {password}})
	assert.NotContains(t, a.header.Get("Set-Cookie"), fixed.token)
	assert.Equal(t, http.StatusSeeOther, fixed.get("/dashboard").status)
}

// What an agent made is shown as what its bytes are, and nothing that could act is served to be shown.
func TestFilesOfAgentsCannotAct(t *testing.T) {
	s := open(t)
	me, token := s.user(t, "me@example.com")
	off := s.register(t, me, "Away", "http://127.0.0.1:1", 0)
	made, err := s.engine.Tasks.Create(t.Context(), me, app.CreateTask{AgentID: off.ID, Title: "x", QueueIfOffline: true})
	require.NoError(t, err)
	files := []struct{ name, kind, content, served, how string }{
		{"a.png", "text/html", "\x89PNG\r\n\x1a\n....", "image/png", "inline"},
		{"a.svg", "image/svg+xml", `<svg xmlns="http://www.w3.org/2000/svg" onload="x()"/>`, "application/octet-stream", "attachment"},
		{"a.html", "image/png", `<script>x()</script>`, "application/octet-stream", "attachment"},
		{"../../e\"vil\r\n.exe", "x", "MZ", "application/octet-stream", "attachment"},
	}
	var parts []task.Part
	for _, f := range files {
		b, err := json.Marshal(map[string]string{"name": f.name, "mimeType": f.kind, "bytes": base64.StdEncoding.EncodeToString([]byte(f.content))})
		require.NoError(t, err)
		parts = append(parts, task.Part{Type: task.PartFile, Data: b})
	}
	parts = append(parts, task.TextPart("text"))
	_, err = s.engine.Tasks.Reply(t.Context(), me, made.ID, app.ReplyTask{Role: task.RoleAgent, Parts: []task.Part{task.TextPart("x")}, Artifacts: []task.Artifact{{Parts: parts}}})
	require.NoError(t, err)
	c := client{t: t, site: s, token: token}
	base := "/dashboard/tasks/" + made.ID + "/files/"
	for i, f := range files {
		a := c.get(base + "0/" + string(rune('0'+i)))
		assert.Equal(t, f.served, a.header.Get("Content-Type"), f.name)
		assert.True(t, strings.HasPrefix(a.header.Get("Content-Disposition"), f.how), f.name)
		assert.NotContains(t, a.header.Get("Content-Disposition"), "..", f.name)
		assert.Contains(t, a.header.Get("Content-Security-Policy"), "sandbox", f.name)
		assert.Equal(t, f.content, a.body, f.name)
	}
	for _, path := range []string{"0/4", "0/9", "1/0", "-1/0", "x/0", "m0/0", "m9/0", "0/-1"} {
		assert.Equal(t, http.StatusNotFound, c.get(base+path).status, path)
	}
}

// A live page that was cut off is right again with the first thing that it gets, and is told when nothing more comes.
func TestALivePageCatchesUp(t *testing.T) {
	s := open(t)
	me, token := s.user(t, "me@example.com")
	off := s.register(t, me, "Away", "http://127.0.0.1:1", 0)
	made, err := s.engine.Tasks.Create(t.Context(), me, app.CreateTask{AgentID: off.ID, Title: "x", QueueIfOffline: true})
	require.NoError(t, err)
	say := func(text string, status task.Status) {
		_, err := s.engine.Tasks.Reply(t.Context(), me, made.ID, app.ReplyTask{Role: task.RoleAgent, Status: status, Parts: []task.Part{task.TextPart(text)}})
		require.NoError(t, err)
	}
	follow := func() (next func() string, closeIt func()) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/dashboard/tasks/"+made.ID+"/live", http.NoBody)
		require.NoError(t, err)
		req.AddCookie(&http.Cookie{Name: "nexus_session", Value: token})
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.Equal(t, "text/event-stream; charset=utf-8", resp.Header.Get("Content-Type"))
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 1<<20)
		return func() string {
			var b strings.Builder
			for lines.Scan() && lines.Text() != "" {
				b.WriteString(lines.Text() + "\n")
			}
			return b.String()
		}, func() { _ = resp.Body.Close() }
	}
	next, stop := follow()
	assert.Contains(t, next(), "Waiting for the agent")
	say("one", task.Running)
	assert.Contains(t, next(), "one")
	stop()
	say("two", task.Running) // which nobody hears
	next, stop = follow()
	defer stop()
	first := next()
	assert.Contains(t, first, "one")
	assert.Contains(t, first, "two")
	for line := range strings.Lines(first) {
		assert.True(t, strings.HasPrefix(line, "data: "), line)
	}
	say("three\rdata: evil\r\n\r\nevent: over", task.Completed)
	last := next()
	assert.Contains(t, last, "three")
	assert.NotContains(t, last, "\nevent:")
	assert.Contains(t, next(), "event: over")
	assert.Empty(t, next())
}

// Who follows a link that leads nowhere gets a page to go on from, and a program the API's answer.
func TestWhatIsNowhereIsAPageForPeople(t *testing.T) {
	s := open(t)
	_, token := s.user(t, "me@example.com")
	const browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
	for _, path := range []string{"/nothing", "/docs/", "/docs/nothing", "/docs/reference/nothing", "/auth/nothing", "/auth/logout", "/billing", "/dashboard/nothing", "/marketplace/nothing", "/x%00"} {
		for _, c := range []client{{t: t, site: s}, {t: t, site: s, token: token}} {
			if c.token == "" && strings.HasPrefix(path, "/dashboard") {
				continue // they log in first
			}
			a := c.send(http.MethodGet, path, nil, "Accept", browser)
			assert.Equal(t, http.StatusNotFound, a.status, path)
			assert.Equal(t, "text/html; charset=utf-8", a.header.Get("Content-Type"), path)
			assert.Contains(t, a.body, "There is nothing here", path)
			assert.Contains(t, a.body, `href="/marketplace"`, path)
			assert.Contains(t, a.header.Get("Content-Security-Policy"), "frame-ancestors 'none'", path)
			assert.Equal(t, c.token != "", strings.Contains(a.body, "Go home"), path)
		}
	}
	c := client{t: t, site: s, token: token}
	for path, accept := range map[string]string{
		"/nothing": "*/*", "/docs/": "application/json", "/docs/reference/nothing": "", "/auth/nothing": "application/json, text/html;q=0.1", "/api/v1/nothing": browser, "/api": browser,
	} {
		a := c.send(http.MethodGet, path, nil, "Accept", accept)
		assert.Equal(t, http.StatusNotFound, a.status, path)
		assert.Contains(t, a.body, `"code":"NOT_FOUND"`, path)
	}
	assert.Contains(t, c.send(http.MethodPost, "/nothing", url.Values{}, "Accept", browser).body, `"code":"NOT_FOUND"`)
	assert.Equal(t, http.StatusMethodNotAllowed, c.get("/auth/logout").status)
}

// Amounts that stand beside each other have as many decimals each.
func TestAmountsAreWrittenAlike(t *testing.T) {
	s := open(t)
	owner, _ := s.user(t, "owner@example.com")
	me, token := s.user(t, "me@example.com")
	a := s.register(t, owner, "Away", "http://127.0.0.1:1", credits.Whole(5)/2)
	_, err := s.engine.Tasks.Create(t.Context(), me, app.CreateTask{AgentID: a.ID, Title: "x", QueueIfOffline: true})
	require.NoError(t, err)
	c := client{t: t, site: s, token: token}
	for _, path := range []string{"/dashboard", "/dashboard/billing"} {
		body := c.get(path).body
		amounts := regexp.MustCompile(`(?:class="value">|<b>)([\d,]+\.\d+)`).FindAllStringSubmatch(body, -1)
		require.GreaterOrEqual(t, len(amounts), 4, path)
		for _, m := range amounts {
			assert.Regexp(t, `^[\d,]+\.\d\d$`, m[1], path)
		}
		assert.Contains(t, body, "2.50 held for open tasks", path)
	}
	assert.Contains(t, c.get("/marketplace").body, "2.50 credits")
}
