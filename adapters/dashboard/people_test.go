package dashboard_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/scheduler"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/examples/echo"
)

// mailed waits for the mail about something, which went into the log, and returns where its link leads. Of several it is
// the newest that is not among the known ones.
func (s *site) mailed(page string, known ...string) string {
	s.t.Helper()
	pattern := regexp.MustCompile(regexp.QuoteMeta(s.url) + `(/auth/` + page + `\?token=[A-Za-z0-9_-]+)`)
	found := ""
	require.Eventually(s.t, func() bool {
		for _, m := range pattern.FindAllStringSubmatch(s.log.String(), -1) {
			isKnown := false
			for _, k := range known {
				isKnown = isKnown || k == m[1]
			}
			if !isKnown {
				found = m[1]
			}
		}
		return found != ""
	}, 40*time.Second, 10*time.Millisecond, "no mail about "+page)
	return found
}

// unfold opens what is folded around an element.
func (b *browser) unfold(id string) {
	b.t.Helper()
	b.see(`document.getElementById(` + quote(id) + `)`)
	b.eval(`document.getElementById(` + quote(id) + `).closest("details").open = true`)
}

// What a person does about their account: verify the e-mail, be called by a name, change password and e-mail, end sessions,
// forget the password, and go.
func TestAnAccountInTheBrowser(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.user(t, "admin@example.com") // the first one is the admin, who cannot go
	b := browse(t, s.url)
	check := func() {
		t.Helper()
		b.accessible()
	}

	b.open("/auth/signup?next=/dashboard/settings")
	check()
	b.fill("email", "admin@example.com") // which the API's contract has sign-ups tell
	b.fill("password", password)
	b.do(chromedp.Submit("#password"))
	b.says("there is an account with this e-mail")
	check()
	b.fill("email", "ann@example.com")
	b.fill("password", password)
	b.do(chromedp.Submit("#password"))
	b.at("/dashboard/settings$")
	b.says("not verified")
	verify := s.mailed("verify-email")
	b.open(verify)
	check()
	b.press("Confirm")
	b.says("The e-mail is verified.")
	check()
	b.open(verify) // a link is good once
	b.press("Confirm")
	b.see(`document.querySelector(".error")`)
	check()
	b.open("/dashboard/settings")
	b.see(`[...document.querySelectorAll(".badge")].some(e => e.innerText === "verified")`)

	b.eval(`document.getElementById("name").removeAttribute("maxlength")`)
	b.eval(`document.getElementById("name").value = "n".repeat(81)`)
	b.press("Save")
	b.says("at most 80 characters long")
	b.see(`document.querySelector("#name").getAttribute("aria-invalid") === "true"`)
	check()
	b.fill("name", "Ann of <b>Anywhere</b>")
	b.press("Save")
	b.says("Saved.")
	b.see(`document.querySelector(".side .who").innerText.includes("Ann of <b>Anywhere</b>")`)

	const second = "another good password"
	b.fill("old", "not the password")
	b.fill("new", second)
	b.press("Set the password")
	b.says("Is not the password of this account")
	check()
	b.fill("old", password)
	b.fill("new", second)
	b.press("Set the password")
	b.says("The new password is set.")

	ann, err := s.engine.Identity.UserByEmail(t.Context(), "ann@example.com")
	require.NoError(t, err)
	var elsewhere []string
	for range 3 {
		token, err := s.engine.Identity.StartSession(t.Context(), ann, app.Browser{Device: `<script>window.hacked=1</script> Firefox/1 Windows`})
		require.NoError(t, err)
		elsewhere = append(elsewhere, token)
	}
	b.open("/dashboard/settings")
	b.see(`[...document.querySelectorAll("main button")].filter(e => e.innerText === "End it").length === 3`)
	b.press("End it")
	b.says("That session has ended.")
	b.see(`[...document.querySelectorAll("main button")].filter(e => e.innerText === "End it").length === 2`)
	b.press("End all others")
	b.says("All other sessions have ended.")
	for _, token := range elsewhere {
		assert.Equal(t, http.StatusSeeOther, client{t: t, site: s, token: token}.get("/dashboard").status)
	}

	b.open("/dashboard/settings")
	b.unfold("email")
	b.fill("email", "anna@example.com")
	b.fill("email-password", password) // the one from before
	b.press("Send the link")
	b.says("Is not the password of this account")
	b.fill("email-password", second)
	b.press("Send the link")
	b.says("A mail is on its way to the new address.")
	b.open(s.mailed("verify-email", verify))
	b.press("Confirm")
	b.says("The e-mail is verified.")
	b.open("/dashboard/settings")
	b.see(`document.querySelector(".facts").innerText.includes("anna@example.com")`)

	b.press2(".side .who button", "Log out")
	b.at("/auth/login")
	b.do(chromedp.Click(`a[href="/auth/forgot-password"]`))
	b.at("/auth/forgot-password")
	check()
	b.fill("email", "anna@example.com")
	b.press("Send the link")
	b.says("If there is an account with this e-mail")
	check()
	b.open(s.mailed("reset-password"))
	check()
	const third = "a third good password"
	b.fill("password", "short")
	b.eval(`document.querySelector("form").noValidate = true`)
	b.press("Set the password")
	b.says("10 to 128 characters")
	check()
	b.fill("password", third)
	b.press("Set the password")
	b.says("The new password is set")
	b.press("Log in")
	b.at("/auth/login")
	b.fill("email", "anna@example.com")
	b.fill("password", second)
	b.do(chromedp.Submit("#password"))
	b.see(`document.querySelector(".error")`)
	check()
	b.fill("password", third)
	b.do(chromedp.Submit("#password"))
	b.at("^/(dashboard|marketplace)?$")

	b.open("/dashboard/settings")
	b.unfold("delete-password")
	b.fill("delete-password", second)
	b.press("Delete my account")
	b.says("Is not the password of this account")
	check()
	b.fill("delete-password", third)
	b.press("Delete my account")
	b.at("/marketplace$")
	b.says("Your account is deleted.")
	b.open("/dashboard")
	b.at("/auth/login")
	_, err = s.engine.Identity.UserByEmail(t.Context(), "anna@example.com")
	require.Error(t, err)
}

// press2 presses what the selector finds.
func (b *browser) press2(selector, text string) {
	b.t.Helper()
	b.see(`document.querySelector(` + quote(selector) + `)?.innerText.trim() === ` + quote(text))
	b.click(selector)
}

// A page that is left open while its server is gone shows, without being loaded again, what happened meanwhile and what
// happens from then on.
func TestAPageLeftOpenOutlivesARestart(t *testing.T) {
	t.Parallel()
	s := open(t)
	me, token := s.user(t, "me@example.com")
	off := s.register(t, me, "Away", "http://127.0.0.1:1", 0)
	made, err := s.engine.Tasks.Create(t.Context(), me, app.CreateTask{AgentID: off.ID, Title: "Outlive it", QueueIfOffline: true})
	require.NoError(t, err)
	say := func(text string, status task.Status) {
		t.Helper()
		_, err := s.engine.Tasks.Reply(t.Context(), me, made.ID, app.ReplyTask{Role: task.RoleAgent, Status: status, Parts: []task.Part{task.TextPart(text)}})
		require.NoError(t, err)
	}
	b := browse(t, s.url)
	b.enter(token)
	b.open("/dashboard/tasks/" + made.ID)
	b.eval(`window.same = true`)
	b.see(`document.body.innerText.includes("Waiting for the agent")`)
	say("said before", task.Running)
	b.says("said before")
	b.fill("text", "half a reply") // which must not be lost

	b.mu.Lock()
	b.outage = true
	b.mu.Unlock()
	s.stop()
	say("said meanwhile", task.Running)
	s.again()
	b.says("said meanwhile")
	say("said afterwards", task.Running)
	b.says("said afterwards")
	b.see(`window.same && document.querySelector("#text").value === "half a reply"`)
	s.stop() // and once more, while it ends
	say("said at the end", task.Completed)
	s.again()
	b.says("said at the end")
	b.see(`window.same && document.querySelector(".badge.good")?.innerText === "completed"`)

	// A list asks again by itself.
	b.open("/dashboard/tasks")
	b.eval(`window.same = true`)
	b.says("Outlive it")
	s.stop()
	_, err = s.engine.Tasks.Create(t.Context(), me, app.CreateTask{AgentID: off.ID, Title: "Made while away", QueueIfOffline: true})
	require.NoError(t, err)
	s.again()
	b.says("Made while away")
	b.see(`window.same`)
}

// A page is live also if its scripts came slowly, and if the first call for its live part came to nothing.
func TestALivePageBeginsInTheEnd(t *testing.T) {
	t.Parallel()
	s := open(t, func(s *site) { s.slowly = true })
	me, token := s.user(t, "me@example.com")
	off := s.register(t, me, "Away", "http://127.0.0.1:1", 0)
	made, err := s.engine.Tasks.Create(t.Context(), me, app.CreateTask{AgentID: off.ID, Title: "Begin", QueueIfOffline: true})
	require.NoError(t, err)
	b := browse(t, s.url)
	b.outage = true // which is told in the browser's log
	b.enter(token)
	for i, refuse := range []int32{0, 2} {
		s.refuse.Store(refuse)
		b.open("/dashboard/tasks/" + made.ID)
		b.eval(`window.same = true`)
		text := fmt.Sprintf("said %d", i)
		_, err = s.engine.Tasks.Reply(t.Context(), me, made.ID, app.ReplyTask{Role: task.RoleAgent, Status: task.Running, Parts: []task.Part{task.TextPart(text)}})
		require.NoError(t, err)
		b.says(text)
		b.see(`window.same`)
	}
}

// Steps are linked by dragging from one to another. What cannot be is refused and said, and what was done can be undone.
func TestStepsAreLinkedByDragging(t *testing.T) {
	t.Parallel()
	s := open(t)
	me, token := s.user(t, "me@example.com")
	a := s.register(t, me, "Agent", s.agent, 0)
	w, err := s.engine.Workflows.Create(t.Context(), me, "Flow", "", []scheduler.Step{
		{Name: "One", AgentID: a.ID}, {Name: "Two", AgentID: a.ID, DependsOn: []int{0}}, {Name: "Three", AgentID: a.ID},
	})
	require.NoError(t, err)
	b := browse(t, s.url)
	b.enter(token)
	b.open("/dashboard/workflows/" + w.ID + "/edit")
	where := func(name string) point {
		t.Helper()
		return ask[point](b, `(() => { const r = [...document.querySelectorAll(".dag title")].find(e => e.textContent === `+quote(name)+`).parentElement.querySelector("rect").getBoundingClientRect();
			return {X: r.x + r.width / 2, Y: r.y + r.height / 2}; })()`)
	}
	at := func(name string) point {
		t.Helper()
		b.see(`document.readyState === "complete" && !document.querySelector(".htmx-request") && [...document.querySelectorAll(".dag title")].some(e => e.textContent === ` + quote(name) + `)`)
		b.eval(`[...document.querySelectorAll(".dag title")].find(e => e.textContent === ` + quote(name) + `).parentElement.scrollIntoView({block: "center"})`)
		return where(name)
	}
	drag := func(from, to string) {
		t.Helper()
		at(to) // and to where both are seen
		p := at(from)
		q := where(to)
		b.do(mouse("mousePressed", p), mouse("mouseMoved", point{(p.X + q.X) / 2, (p.Y + q.Y) / 2}), mouse("mouseMoved", q))
		b.see(`document.querySelector(".dag .edge.draft")`)
		b.do(mouse("mouseReleased", q))
		b.see(`!document.querySelector(".dag .edge.draft")`)
	}
	edges := func(want string) {
		t.Helper()
		b.see(`JSON.stringify(JSON.parse(document.querySelector("#json").value).steps.map(s => [s.name, s.dependsOn])) === ` + quote(want))
		b.see(`document.querySelectorAll(".dag .edge:not(.draft)").length === JSON.parse(document.querySelector("#json").value).steps.reduce((n, s) => n + s.dependsOn.length, 0)`)
	}
	drag("One", "Three")
	edges(`[["One",[]],["Two",[0]],["Three",[0]]]`)
	b.says("“Three” now waits for “One”.")
	b.accessible()
	b.press("Undo")
	edges(`[["One",[]],["Two",[0]],["Three",[]]]`)
	b.says("“Three” does not wait for “One” any more.")

	drag("Two", "One") // which Two waits for
	b.says("“One” cannot wait for “Two”, which waits for it")
	edges(`[["One",[]],["Two",[0]],["Three",[]]]`)
	b.accessible()

	drag("Three", "One") // which comes before it: so it is moved
	edges(`[["Three",[]],["One",[0]],["Two",[1]]]`)
	b.says("“One” now waits for “Three”.")
	drag("Two", "Three") // through One it waits for it
	b.says("“Three” cannot wait for “Two”, which waits for it")
	edges(`[["Three",[]],["One",[0]],["Two",[1]]]`)

	// The keyboard does the same: the first step is chosen, then the one that is to wait for it.
	choose := func(name string) {
		t.Helper()
		at(name)
		b.eval(`[...document.querySelectorAll(".dag title")].find(e => e.textContent === ` + quote(name) + `).parentElement.focus()`)
		b.do(chromedp.KeyEvent("\r"))
	}
	choose("Three")
	b.see(`document.querySelector(".dag .picked")`)
	choose("Two")
	edges(`[["Three",[]],["One",[0]],["Two",[0,1]]]`)
	b.press("Save the workflow")
	b.at("/dashboard/workflows/[0-9a-f-]{36}$")
	kept, err := s.engine.Workflows.Get(t.Context(), me, w.ID)
	require.NoError(t, err)
	assert.Equal(t, []int{0, 1}, kept.Steps[2].DependsOn)
}

// Arrows of a graph go between the steps, not behind them, and on a phone two steps stand beside each other without being
// cut off.
func TestArrowsGoBetweenTheSteps(t *testing.T) {
	t.Parallel()
	s := open(t)
	me, token := s.user(t, "me@example.com")
	a := s.register(t, me, "An agent with a long name", s.agent, 0)
	step := func(name string, after ...int) scheduler.Step {
		return scheduler.Step{Name: name, AgentID: a.ID, DependsOn: after}
	}
	b := browse(t, s.url)
	b.enter(token)
	for name, steps := range map[string][]scheduler.Step{
		"a chain that is cut short": {step("Collect the numbers"), step("Two", 0), step("Three", 1), step("Four", 2, 0)},
		"two long arrows":           {step("One"), step("Two", 0), step("Three", 0), step("Four", 1, 2), step("Five", 3, 0, 1), step("Six", 4, 0)},
		"side by side":              {step("One"), step("Two"), step("Three", 0, 1), step("Four", 0, 1), step("Five", 2, 1)},
	} {
		w, err := s.engine.Workflows.Create(t.Context(), me, name, "", steps)
		require.NoError(t, err)
		arrows := 0
		for _, st := range steps {
			arrows += len(st.DependsOn)
		}
		for _, width := range []int64{1360, 390} {
			b.do(chromedp.EmulateViewport(width, 844))
			for _, path := range []string{"", "/edit"} {
				b.open("/dashboard/workflows/" + w.ID + path)
				b.see(`document.readyState === "complete"`)
				const dag = `[...document.querySelectorAll(".dag")].find(e => e.checkVisibility())`
				assert.Equal(t, arrows, ask[int](b, dag+`.querySelectorAll(".edge").length`), name)
				assert.Empty(t, ask[string](b, `(() => { const dag = `+dag+`, boxes = [...dag.querySelectorAll(".node")].map(n => [n.querySelector("title").textContent, n.querySelector("rect").getBBox()]), behind = new Set();
					for (const e of dag.querySelectorAll(".edge")) for (let at = 0; at <= e.getTotalLength(); at += 2) {
						const p = e.getPointAtLength(at);
						for (const [name, r] of boxes) if (p.x > r.x + 1 && p.x < r.x + r.width - 1 && p.y > r.y + 1 && p.y < r.y + r.height - 1) behind.add(name);
					}
					return [...behind].join(); })()`), "%s at %d%s: an arrow is behind", name, width, path)
				if width == 390 {
					assert.False(t, ask[bool](b, `document.querySelector(".dag-wrap").scrollWidth > document.querySelector(".dag-wrap").clientWidth`), "%s%s is cut off on a phone", name, path)
				}
			}
		}
	}
}

// A run that goes on says how long it has so far, and goes on counting. What moves to say so stands still for those who want
// it to.
func TestARunThatGoesOnCountsAndMovesOnlyIfItMay(t *testing.T) {
	t.Parallel()
	s := open(t)
	me, token := s.user(t, "me@example.com")
	over := make(chan struct{})
	busy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost { // it is at work on it for as long as it is looked at
			<-over
			return
		}
		echo.Handler("http://"+r.Host).ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		close(over)
		busy.Close()
	})
	a := s.register(t, me, "Busy", busy.URL, 0)
	w, err := s.engine.Workflows.Create(t.Context(), me, "Flow", "", []scheduler.Step{{Name: "One", AgentID: a.ID}, {Name: "Two", AgentID: a.ID, DependsOn: []int{0}}})
	require.NoError(t, err)
	run, err := s.engine.Workflows.Execute(t.Context(), me, w.ID)
	require.NoError(t, err)
	b := browse(t, s.url)
	b.enter(token)
	const took = `([...document.querySelectorAll(".tile")].map(e => e.innerText).find(t => /^Took\s+\d+ s so far$/.test(t)))`
	page := "/dashboard/workflows/" + w.ID + "/runs/" + run.ID
	b.open(page)
	b.see(took + ` && document.querySelector(".dag.across .node.running")`)
	b.eval(`window.before = ` + took)
	b.see(took + ` && ` + took + ` !== window.before`)
	b.see(`document.getAnimations().length > 0`)
	b.prefer("prefers-reduced-motion", "reduce")
	for _, path := range []string{page, "/dashboard", "/dashboard/tasks", "/dashboard/workflows", "/dashboard/workflows/" + w.ID + "/edit", "/dashboard/billing", "/marketplace", "/docs"} {
		b.open(path)
		b.see(`document.readyState === "complete" && matchMedia("(prefers-reduced-motion: reduce)").matches`)
		assert.Empty(t, ask[string](b, `document.getAnimations().map(a => a.animationName || a.transitionProperty).join()`), path)
		assert.Empty(t, ask[string](b, `[...document.querySelectorAll("*")].filter(e => getComputedStyle(e).scrollBehavior === "smooth" || getComputedStyle(e).transitionDuration !== "0s").map(e => e.outerHTML.slice(0, 80)).join()`), path)
	}
}

// Without script the pages do all that they do, by links and forms.
func TestPagesWorkWithoutScript(t *testing.T) {
	t.Parallel()
	s := open(t)
	me, token := s.user(t, "me@example.com")
	a := s.register(t, me, "Agent", s.agent, 0)
	b := browse(t, s.url)
	b.enter(token)
	b.withoutScript()
	b.open("/dashboard/tasks/new?agent=" + a.ID)
	b.do(chromedp.SendKeys("#title", "No script"), chromedp.Click(`form[action="/dashboard/tasks"] button.primary`), chromedp.WaitReady(".talk"))
	b.open("/dashboard/workflows/new?agent=" + a.ID)
	b.do(chromedp.SendKeys("#name", "No script"), chromedp.SendKeys("#step-0-name", "First"), chromedp.Click(`button[value="add"]`), chromedp.WaitReady("#step-1-name"))
	b.do(chromedp.SendKeys("#step-1-name", "Second"), chromedp.SetValue("#step-1-agent", a.ID), chromedp.Click("#builder button.primary"), chromedp.WaitReady(`form[action$="/run"] button`))
	b.do(chromedp.Click(`form[action$="/run"] button`), chromedp.WaitReady(".times"))
	b.open("/dashboard")
	b.do(chromedp.Click(`.side button[value="dark"]`), chromedp.WaitReady(`html[data-theme="dark"]`))
	b.do(chromedp.Click(`.side form[action="/auth/logout"] button`), chromedp.WaitReady(`html[data-theme="dark"] #password`)) // whose page has the colours too
	l, err := s.engine.Workflows.List(t.Context(), me, app.Page{})
	require.NoError(t, err)
	require.Len(t, l.Items, 1)
	assert.Equal(t, []int{0}, l.Items[0].Steps[1].DependsOn)
}

// Every agent can be given to any step of the builder, also without script: those that no list has are found by words.
func TestAnyAgentCanBeChosenWithoutScript(t *testing.T) {
	t.Parallel()
	s := open(t)
	me, token := s.user(t, "me@example.com")
	other, _ := s.user(t, "other@example.com")
	for i := range 70 {
		s.register(t, me, fmt.Sprintf("Number %d", i), s.agent, 0)
	}
	mine := s.register(t, me, "Quince counter", s.agent, 0)
	theirs := s.register(t, other, "Medlar counter", s.agent, 0)
	for i := range 110 {
		s.register(t, me, fmt.Sprintf("Number %d", i+70), s.agent, 0)
	}
	first := s.register(t, me, "First", s.agent, 0)
	lists := client{t: t, site: s, token: token}.get("/dashboard/workflows/new").body
	require.NotContains(t, lists, mine.ID)
	require.NotContains(t, lists, theirs.ID)
	b := browse(t, s.url)
	b.enter(token)
	b.withoutScript()
	b.open("/dashboard/workflows/new?agent=" + first.ID)
	b.do(chromedp.SendKeys("#name", "Fruit"), chromedp.SendKeys("#step-0-name", "One"))
	for i, pick := range []registry.Agent{mine, theirs} {
		id := fmt.Sprintf("#step-%d-", i+1)
		summary := fmt.Sprintf("#step-card-%d .seek", i+1)
		b.do(chromedp.Click(`button[value="add"]`), chromedp.WaitReady(id+"name"), chromedp.SendKeys(id+"name", pick.Name))
		if i == 0 {
			b.do(chromedp.Click(fmt.Sprintf(`button[value="find-%d"]`, i+1)), chromedp.WaitReady(id+"find"), chromedp.SendKeys(id+"find", "quin"), chromedp.Click(summary+" button"))
		} else { // Enter looks too, and does not save
			b.do(chromedp.Click(fmt.Sprintf(`button[value="find-%d"]`, i+1)), chromedp.WaitReady(id+"find"), chromedp.SendKeys(id+"find", "medl\r"))
		}
		b.do(chromedp.WaitReady(fmt.Sprintf(`%sagent option[value="%s"]`, id, pick.ID)), chromedp.SetValue(id+"agent", pick.ID))
	}
	b.do(chromedp.Click("#builder button.primary"), chromedp.WaitReady(`form[action$="/run"] button`))
	l, err := s.engine.Workflows.List(t.Context(), me, app.Page{})
	require.NoError(t, err)
	require.Len(t, l.Items, 1)
	assert.Equal(t, mine.ID, l.Items[0].Steps[1].AgentID)
	assert.Equal(t, theirs.ID, l.Items[0].Steps[2].AgentID)
}

// Who tries log-ins is told the same of accounts that exist and of others, after the same work, and is stopped soon.
func TestALogInTellsNothingAndIsNotGuessed(t *testing.T) {
	s := open(t, func(s *site) { s.limits = true })
	_, token := s.user(t, "me@example.com")
	c := client{t: t, site: s}
	try := func(path, email string) (answer, [2]int64) {
		h, v := s.hasher.hashed.Load(), s.hasher.verified.Load()
		a := c.send(http.MethodPost, path, url.Values{"email": {email}, "password": {"not the password"}})
		a.body = strings.ReplaceAll(a.body, email, "E-MAIL")
		return a, [2]int64{s.hasher.hashed.Load() - h, s.hasher.verified.Load() - v}
	}
	for _, path := range []string{"/auth/login", "/auth/forgot-password"} {
		known, work := try(path, "me@example.com")
		unknown, workFor := try(path, "no@example.com")
		assert.Equal(t, known.status, unknown.status, path)
		assert.Equal(t, known.body, unknown.body, path)
		assert.Equal(t, work, workFor, "passwords that were hashed and compared at "+path)
		assert.Empty(t, known.header.Values("Set-Cookie"), path)
	}
	for _, email := range []string{"me@example.com", "no@example.com"} {
		var a answer
		tries := 1
		for ; tries < 30 && a.status != http.StatusTooManyRequests; tries++ {
			a, _ = try("/auth/login", email)
		}
		assert.Equal(t, http.StatusTooManyRequests, a.status, email)
		assert.LessOrEqual(t, tries, 12, email)
		assert.NotEmpty(t, a.header.Get("Retry-After"), email)
		assert.Contains(t, a.body, "E-MAIL", "the form is shown again")
	}
	// The right password does not help who guesses, and who is in stays in.
	a := c.send(http.MethodPost, "/auth/login", url.Values{"email": {"me@example.com"}, "password": {password}})
	assert.Equal(t, http.StatusTooManyRequests, a.status)
	assert.Equal(t, http.StatusOK, client{t: t, site: s, token: token}.get("/dashboard").status)
}

// The pages of signing in are as hard to abuse as those behind them.
func TestSigningInByForms(t *testing.T) {
	s := open(t)
	_, token := s.user(t, "me@example.com")
	c := client{t: t, site: s}
	for _, path := range []string{"/auth/login", "/auth/signup", "/auth/forgot-password", "/auth/reset-password", "/auth/verify-email", "/billing/return", "/marketplace/nothing", "/nothing"} {
		a := c.get(path)
		policy := a.header.Get("Content-Security-Policy")
		assert.Contains(t, policy, "frame-ancestors 'none'", path)
		assert.NotContains(t, policy, "unsafe", path)
		assert.Less(t, len(a.body), 100_000, path)
	}
	form := url.Values{"email": {"me@example.com"}, "password": {password}, "token": {"x"}, "next": {"/"}}
	for _, path := range []string{"/auth/login", "/auth/signup", "/auth/logout", "/auth/forgot-password", "/auth/reset-password", "/auth/verify-email"} {
		for _, headers := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "", "Origin", "https://evil.example"}, {"Sec-Fetch-Site", "", "Origin", "null"}} {
			a := client{t: t, site: s, token: token}.send(http.MethodPost, path, form, headers...)
			assert.Equal(t, http.StatusForbidden, a.status, "%s %v", path, headers)
			assert.Empty(t, a.header.Values("Set-Cookie"), path)
		}
	}
	assert.Equal(t, http.StatusOK, client{t: t, site: s, token: token}.get("/dashboard").status, "still logged in")
	for _, next := range []string{"//evil.example", "https://evil.example", `/\evil.example`, "javascript:alert(1)", "/\t/evil.example", ""} {
		a := c.send(http.MethodPost, "/auth/login", url.Values{"email": {"me@example.com"}, "password": {password}, "next": {next}})
		assert.Equal(t, "/", a.header.Get("Location"), next)
	}
	a := client{t: t, site: s}.send(http.MethodGet, "/auth/login", nil, "Cookie", "nexus_theme=dark")
	assert.Contains(t, a.body, `data-theme="dark"`)
	a = client{t: t, site: s}.send(http.MethodGet, "/auth/login", nil, "Cookie", `nexus_theme=x"onload=y`)
	assert.NotContains(t, a.body, "data-theme")
}

// A task that was rated is known as rated, however much its agent did since.
func TestARatedTaskStaysRated(t *testing.T) {
	s := open(t)
	owner, _ := s.user(t, "owner@example.com")
	me, token := s.user(t, "me@example.com")
	a := s.register(t, owner, "Busy", "http://127.0.0.1:1", 0)
	do := func() string {
		made, err := s.engine.Tasks.Create(t.Context(), me, app.CreateTask{AgentID: a.ID, Title: "x", QueueIfOffline: true})
		require.NoError(t, err)
		_, err = s.engine.Tasks.Reply(t.Context(), owner, made.ID, app.ReplyTask{Role: task.RoleAgent, Status: task.Completed, Parts: []task.Part{task.TextPart("done")}})
		require.NoError(t, err)
		return made.ID
	}
	first := do()
	c := client{t: t, site: s, token: token}
	assert.Contains(t, c.get("/dashboard/tasks/"+first).body, "Was it good?")
	a2 := c.send(http.MethodPost, "/dashboard/tasks/"+first+"/rate", url.Values{"stars": {"4"}})
	require.Equal(t, http.StatusSeeOther, a2.status)
	for range 101 {
		do()
	}
	assert.Contains(t, c.get("/dashboard/tasks/"+first).body, "You gave it 4 of 5 stars.")
}

// The longest pages that there are stay small, and are quick to make.
func TestTheLongestPagesAreSmall(t *testing.T) {
	s := open(t)
	admin, token := s.user(t, "me@example.com")
	long := strings.Repeat("An agent with a long name ", 4)[:100]
	text := strings.Repeat("It does what it says, and says what it does. ", 22)
	agents := make([]string, 0, 30)
	for range 30 {
		a := s.register(t, admin, long, "http://127.0.0.1:1", credits.Whole(12))
		_, err := s.engine.Agents.Change(t.Context(), admin, a.ID, described(text))
		require.NoError(t, err)
		agents = append(agents, a.ID)
	}
	for range 500 {
		_, err := s.engine.Tasks.Create(t.Context(), admin, app.CreateTask{AgentID: agents[0], Title: long + long, QueueIfOffline: true})
		require.NoError(t, err)
	}
	steps := make([]scheduler.Step, scheduler.MaxSteps)
	for i := range steps {
		steps[i] = scheduler.Step{Name: fmt.Sprintf("A step with a long name, number %d", i+1), AgentID: agents[i]}
		for d := max(0, i-3); d < i; d++ {
			steps[i].DependsOn = append(steps[i].DependsOn, d)
		}
	}
	w, err := s.engine.Workflows.Create(t.Context(), admin, long, text, steps)
	require.NoError(t, err)
	run, err := s.engine.Workflows.Execute(t.Context(), admin, w.ID)
	require.NoError(t, err)
	c := client{t: t, site: s, token: token}
	for _, path := range []string{
		"/dashboard", "/dashboard/agents", "/dashboard/agents/" + agents[0], "/dashboard/tasks", "/dashboard/tasks/new", "/dashboard/workflows", "/dashboard/workflows/" + w.ID,
		"/dashboard/workflows/" + w.ID + "/edit", "/dashboard/workflows/" + w.ID + "/runs/" + run.ID, "/dashboard/billing", "/dashboard/admin", "/marketplace",
	} {
		a := c.get(path)
		assert.Equal(t, http.StatusOK, a.status, path)
		assert.Less(t, len(a.body), 100_000, path)
	}
}

func described(text string) registry.Profile { return registry.Profile{Description: &text} }

func mouse(kind input.DispatchMouseEventType, p point) chromedp.Action[chromedp.Void] {
	return chromedp.MouseEvent(kind, p.X, p.Y, chromedp.Button("left"), chromedp.ClickCount(1))
}

type point struct{ X, Y float64 }

// withoutScript switches script off for the pages that are opened from now on.
func (b *browser) withoutScript() {
	b.t.Helper()
	_, err := chromedp.Call(b.tab, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	require.NoError(b.t, err)
}
