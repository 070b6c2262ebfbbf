package dashboard_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/task"
)

// post sends a form that is to lead on, and shows where it leads to.
func (c client) post(path string, form url.Values) string {
	c.t.Helper()
	a := c.send(http.MethodPost, path, form)
	require.Equal(c.t, http.StatusSeeOther, a.status, "%s: %s", path, a.body)
	return c.get(a.header.Get("Location")).body
}

// away registers an agent that is away: its owner answers for it.
func (s *site) away(t *testing.T, owner identity.Caller, name string, price credits.Amount) registry.Agent {
	t.Helper()
	return s.register(t, owner, name, "http://127.0.0.1:1", price, registry.Skill{ID: "say", Name: "Say", Description: "Says something.", Tags: []string{"talk"}})
}

func (s *site) ask(t *testing.T, c identity.Caller, agentID, title string) string {
	t.Helper()
	made, err := s.engine.Tasks.Create(t.Context(), c, app.CreateTask{AgentID: agentID, Title: title, QueueIfOffline: true})
	require.NoError(t, err)
	return made.ID
}

func (s *site) answer(t *testing.T, owner identity.Caller, taskID string, status task.Status, parts ...task.Part) {
	t.Helper()
	in := app.ReplyTask{Role: task.RoleAgent, Status: status, Parts: []task.Part{task.TextPart("so it is")}}
	if len(parts) > 0 {
		in.Artifacts = []task.Artifact{{Name: "Result", Parts: parts}}
	}
	_, err := s.engine.Tasks.Reply(t.Context(), owner, taskID, in)
	require.NoError(t, err)
}

// The first page says what needs a look, and else that all is well.
func TestHomeSaysWhatNeedsALook(t *testing.T) {
	s := open(t)
	owner, _ := s.user(t, "owner@example.com")
	me, token := s.user(t, "me@example.com")
	c := client{t: t, site: s, token: token}
	assert.Contains(t, c.get("/dashboard").body, "All is well")
	dear := s.away(t, owner, "Dear one", credits.Whole(950))
	free := s.away(t, owner, "Free one", 0)
	s.away(t, me, "Gone fishing", 0)
	s.ask(t, me, dear.ID, "Costs a lot")
	s.answer(t, owner, s.ask(t, me, free.ID, "Goes wrong"), task.Failed)
	body := c.get("/dashboard").body
	assert.NotContains(t, body, "All is well")
	for _, want := range []string{"Your balance is low", "50.00 credits are left to spend", "Goes wrong", "Try again", "Gone fishing", ">offline<"} {
		assert.Contains(t, body, want)
	}
	assert.Regexp(t, `<time datetime="20\d\d-[^"]+Z" title="\d+ \w+ 20\d\d, \d\d:\d\d:\d\d UTC" data-ago>just now</time>`, body, "a time in words, with the exact one on hover")
}

// A task is found by what it is, answered, and cancelled; what was made is shown as what it is.
func TestTasksAreFilteredAnsweredAndCancelled(t *testing.T) {
	s := open(t)
	owner, _ := s.user(t, "owner@example.com")
	me, token := s.user(t, "me@example.com")
	c := client{t: t, site: s, token: token}
	theirs, mine := s.away(t, owner, "Theirs", credits.Whole(3)), s.away(t, me, "Mine", 0)
	open_ := s.ask(t, me, theirs.ID, "Still to do")
	done := s.ask(t, me, mine.ID, "Well done")
	file := func(name string, content string) task.Part {
		b, err := json.Marshal(map[string]string{"name": name, "bytes": base64.StdEncoding.EncodeToString([]byte(content))})
		require.NoError(t, err)
		return task.Part{Type: task.PartFile, Data: b}
	}
	s.answer(t, me, done, task.Completed, task.TextPart("In plain words"), task.Part{Type: task.PartData, Data: json.RawMessage(`{"rows":3}`)},
		file("picture.png", "\x89PNG\r\n\x1a\n...."), file("table.csv", "a,b\n"))
	for query, want := range map[string][2]bool{ // which of the two are there
		"": {true, true}, "?status=completed": {false, true}, "?status=failed": {false, false}, "?agent=" + mine.ID: {false, true}, "?role=assignee": {false, true},
	} {
		body := c.get("/dashboard/tasks" + query).body
		assert.Equal(t, want, [2]bool{regexp.MustCompile(`>Still to do<`).MatchString(body), regexp.MustCompile(`>Well done<`).MatchString(body)}, query)
	}
	body := c.get("/dashboard/tasks/" + done).body
	assert.Regexp(t, `In plain words`, body)
	assert.Regexp(t, `<pre[^>]*>\{\s+&#34;rows&#34;: 3\s+\}</pre>`, body)
	assert.Regexp(t, `<img[^>]+src="/dashboard/tasks/`+done+`/files/0/2"`, body)
	assert.Regexp(t, `href="/dashboard/tasks/`+done+`/files/0/3" download>Download table.csv`, body)

	body = c.post("/dashboard/tasks/"+open_+"/reply", url.Values{"text": {"And be quick"}})
	assert.Contains(t, body, "And be quick")
	assert.Contains(t, body, "Cancel the task")
	body = c.post("/dashboard/tasks/"+open_+"/cancel", url.Values{})
	assert.Contains(t, body, ">cancelled<")
	assert.NotContains(t, body, "Cancel the task")
	b, err := s.engine.Billing.Balance(t.Context(), me)
	require.NoError(t, err)
	assert.Zero(t, b.Held)
}

// Transactions are filtered, paged, and taken along as a table.
func TestTransactionsAreFilteredPagedAndTakenAlong(t *testing.T) {
	s := open(t)
	owner, _ := s.user(t, "owner@example.com")
	me, token := s.user(t, "me@example.com")
	c := client{t: t, site: s, token: token}
	a := s.away(t, owner, "Theirs", credits.Whole(1))
	for i := range 60 {
		s.ask(t, me, a.ID, fmt.Sprintf("Number %d", i))
	}
	body := c.get("/dashboard/billing").body
	assert.Contains(t, body, `rel="next"`)
	assert.NotContains(t, body, "Initial credits</td>")
	older := regexp.MustCompile(`href="([^"]+)" rel="next"`).FindStringSubmatch(body)
	require.NotNil(t, older)
	assert.Contains(t, c.get(regexp.MustCompile("&amp;").ReplaceAllString(older[1], "&")).body, "Initial credits</td>")
	body = c.get("/dashboard/billing?type=initial_grant").body
	assert.Contains(t, body, "Initial credits</td>")
	assert.NotContains(t, body, "Held</td>")
	csv := regexp.MustCompile(`href="([^"]+)" download="transactions.csv"`).FindStringSubmatch(body)
	require.NotNil(t, csv)
	table := c.get(regexp.MustCompile("&amp;").ReplaceAllString(csv[1], "&"))
	assert.Contains(t, table.header.Get("Content-Type"), "text/csv")
	assert.Len(t, regexp.MustCompile(`(?m)^.+$`).FindAllString(table.body, -1), 2, table.body)
	for _, period := range []string{"7d", "30d", "90d"} {
		assert.Regexp(t, `aria-label="Credits of each day: [^"]+ in `+period[:len(period)-1]+` days"`, c.get("/dashboard/billing?period="+period).body)
	}
}

// A stranger finds an agent in the marketplace by words and filters, sees what it can do and how it is called, and is led
// on to use it.
func TestAStrangerFindsAnAgent(t *testing.T) {
	s := open(t)
	owner, _ := s.user(t, "owner@example.com")
	a := s.away(t, owner, "Quince", credits.Whole(3))
	s.away(t, owner, "Medlar", credits.Whole(30))
	c := client{t: t, site: s}
	for query, want := range map[string][2]bool{ // which of the two are there
		"": {true, true}, "?q=quin": {true, false}, "?price=5": {true, false}, "?tag=talk": {true, true}, "?tag=other": {false, false}, "?trust=99": {false, false}, "?status=online": {false, false},
	} {
		body := c.get("/marketplace" + query).body
		assert.Equal(t, want, [2]bool{regexp.MustCompile(`>Quince<`).MatchString(body), regexp.MustCompile(`>Medlar<`).MatchString(body)}, query)
	}
	assert.Contains(t, c.get("/marketplace?price=dear").body, "Must be a number of credits.")
	body := c.get("/marketplace/" + a.ID).body
	for _, want := range []string{"Use this agent", "3 credits", "Says something.", "<summary>curl</summary>", "<summary>Go</summary>", "<summary>JavaScript</summary>", s.url + "/api/v1/tasks", "Reliability", "What moved the score"} {
		assert.Contains(t, body, want)
	}
	use := c.get("/dashboard/tasks/new?agent=" + a.ID)
	assert.Equal(t, "/auth/login?next="+url.QueryEscape("/dashboard/tasks/new?agent="+a.ID), use.header.Get("Location"))
}

// A key has the scopes and the end that were asked for, is shown once, and works until it is revoked.
func TestKeysAreShownOnceAndRevoked(t *testing.T) {
	s := open(t)
	me, token := s.user(t, "me@example.com")
	a := s.away(t, me, "Mine", 0)
	c := client{t: t, site: s, token: token}
	page := "/dashboard/agents/" + a.ID
	made := c.send(http.MethodPost, page+"/keys", url.Values{"key-name": {"For the robot"}, "scope": {"tasks:read"}, "days": {"30"}})
	require.Equal(t, http.StatusOK, made.status)
	secret := regexp.MustCompile(`id="new-key-secret">([^<]+)<`).FindStringSubmatch(made.body)
	require.NotNil(t, secret)
	body := c.get(page).body
	assert.NotContains(t, body, secret[1])
	assert.Contains(t, body, "For the robot")
	assert.Contains(t, body, "in 29 days")
	assert.Contains(t, body, "tasks:read")
	use := func(method, path string) int {
		return client{t: t, site: s}.send(method, path, nil, "Authorization", "Bearer "+secret[1]).status
	}
	assert.Equal(t, http.StatusOK, use(http.MethodGet, "/api/v1/tasks"))
	assert.Equal(t, http.StatusForbidden, use(http.MethodGet, "/api/v1/billing/balance"))
	revoke := regexp.MustCompile(`action="([^"]+/revoke)"`).FindStringSubmatch(body)
	require.NotNil(t, revoke)
	assert.NotContains(t, c.post(revoke[1], url.Values{}), "For the robot")
	assert.Equal(t, http.StatusUnauthorized, use(http.MethodGet, "/api/v1/tasks"))
	wrong := c.send(http.MethodPost, page+"/keys", url.Values{"key-name": {"x"}, "days": {"soon"}})
	assert.Equal(t, http.StatusUnprocessableEntity, wrong.status)
	assert.Contains(t, wrong.body, `id="days-problem"`)
}

// An admin shuts a user out and lets them in again; nobody else finds the page.
func TestAnAdminShutsAUserOut(t *testing.T) {
	s := open(t)
	_, admin := s.user(t, "admin@example.com")
	u, err := s.engine.Identity.UserByEmail(t.Context(), "admin@example.com")
	require.NoError(t, err)
	require.Equal(t, identity.RoleAdmin, u.Role)
	_, token := s.user(t, "me@example.com")
	c, me := client{t: t, site: s, token: admin}, client{t: t, site: s, token: token}
	require.Equal(t, http.StatusOK, me.get("/dashboard").status)
	assert.Equal(t, http.StatusNotFound, me.get("/dashboard/admin").status)
	out := regexp.MustCompile(`action="(/dashboard/admin/users/[^"]+/disable)"`).FindStringSubmatch(c.get("/dashboard/admin").body)
	require.NotNil(t, out)
	body := c.post(out[1], url.Values{})
	assert.Equal(t, http.StatusSeeOther, me.get("/dashboard").status)
	back := regexp.MustCompile(`action="(/dashboard/admin/users/[^"]+/enable)"`).FindStringSubmatch(body)
	require.NotNil(t, back)
	c.post(back[1], url.Values{})
	in := client{t: t, site: s}.send(http.MethodPost, "/auth/login", url.Values{"email": {"me@example.com"}, "password": {password}})
	assert.NotEmpty(t, in.header.Get("Set-Cookie"))
}
