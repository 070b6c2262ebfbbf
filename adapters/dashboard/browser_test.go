package dashboard_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/a2aclient"
	"github.com/nexus-protocol/nexus/adapters/dashboard"
	"github.com/nexus-protocol/nexus/adapters/demopay"
	"github.com/nexus-protocol/nexus/adapters/httpapi"
	"github.com/nexus-protocol/nexus/adapters/inprocess"
	"github.com/nexus-protocol/nexus/adapters/internal/browsertest"
	"github.com/nexus-protocol/nexus/adapters/jsonschemacheck"
	"github.com/nexus-protocol/nexus/adapters/logmailer"
	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/adapters/nodetest"
	"github.com/nexus-protocol/nexus/adapters/ssrfguard"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/scheduler"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/examples/echo"
)

// site is a whole server, and what is behind it.
type site struct {
	t      *testing.T
	url    string
	engine *app.Engine
	agent  string // where the echo agent listens
	slow   string // and one that takes a while
	log    lockedBuffer
	hasher countingHasher

	limits bool         // of requests
	refuse atomic.Int32 // so many live parts are answered 503
	slowly bool         // scripts come one after the other, with time between
	asked  atomic.Int32 // so many scripts
	store  *memory.Store
	stop   func() // ends the server, as a process does
}

// lockedBuffer is a log that can be read while it is written to.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// countingHasher is a quick hasher, as no password here is one that anybody wants.
type countingHasher struct{ hashed, verified atomic.Int64 }

func (h *countingHasher) Hash(_ context.Context, password string) (string, error) {
	h.hashed.Add(1)
	sum := sha256.Sum256([]byte(password))
	return hex.EncodeToString(sum[:]), nil
}

func (h *countingHasher) Verify(_ context.Context, password, hash string) (bool, error) {
	h.verified.Add(1)
	sum := sha256.Sum256([]byte(password))
	return hex.EncodeToString(sum[:]) == hash, nil
}

const password = "correct horse battery"

func open(t *testing.T, set ...func(*site)) *site {
	t.Helper()
	s := &site{t: t, store: memory.New()}
	for _, one := range set {
		one(s)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.url = "http://" + l.Addr().String()
	agents := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		slow := strings.HasPrefix(r.URL.Path, "/slow")
		if slow {
			r.URL.Path = strings.TrimPrefix(r.URL.Path, "/slow")
			if r.URL.Path == "" {
				r.URL.Path = "/"
			}
			if r.Method == http.MethodPost {
				time.Sleep(1200 * time.Millisecond)
			}
		}
		base := "http://" + r.Host
		if slow {
			base += "/slow"
		}
		echo.Handler(base).ServeHTTP(w, r)
	}))
	s.agent, s.slow = agents.URL, agents.URL+"/slow"
	s.serve(l)
	t.Cleanup(func() {
		s.stop()
		agents.Close()
	})
	return s
}

// serve starts a server on what the store has.
func (s *site) serve(l net.Listener) {
	s.t.Helper()
	guard := ssrfguard.New(true)
	pay := demopay.New(demopay.Options{BaseURL: s.url, SuccessURL: s.url + "/billing/return?checkout=success", CancelURL: s.url + "/billing/return?checkout=cancelled"})
	var err error
	s.engine, err = app.New(app.Config{
		Store: s.store, Queue: inprocess.New(s.store, time.Now, inprocess.Options{}), Agents: a2aclient.New(guard.Transport(), ssrfguard.ErrProhibited), Guard: guard,
		Schema: jsonschemacheck.New(), Hasher: &s.hasher, Limits: memory.NewLimiter(time.Now), Events: inprocess.NewEvents(), Payments: pay,
		Mailer: logmailer.New(slog.New(slog.NewTextHandler(&s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))), PublicURL: s.url,
		Now: time.Now, NewID: memory.NewID, Random: rand.Reader,
	})
	require.NoError(s.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	worked := make(chan error, 1)
	go func() { worked <- s.engine.Worker.Run(ctx, time.Second) }()
	handler := http.NewServeMux()
	page := pay.Handler(s.engine.Billing.Receive)
	for _, p := range demopay.Patterns() {
		handler.Handle(p, page)
	}
	handler.Handle("/", httpapi.New(s.engine, httpapi.Options{
		PublicURL: s.url, RateLimit: s.limits,
		Pages: dashboard.New(s.engine, dashboard.Options{PublicURL: s.url, RateLimit: true}), PagesAt: dashboard.Patterns(),
	}))
	front := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case s.slowly && strings.HasSuffix(r.URL.Path, ".js"):
			select {
			case <-time.After(time.Duration(s.asked.Add(1)) * 150 * time.Millisecond):
			case <-r.Context().Done():
			}
		case strings.HasSuffix(r.URL.Path, "/live") && s.refuse.Add(-1) >= 0:
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		handler.ServeHTTP(w, r)
	})
	server := &http.Server{Handler: front, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(l) }()
	s.stop = sync.OnceFunc(func() {
		_ = server.Close()
		cancel()
		<-worked
	})
}

// again starts the server anew where it was.
func (s *site) again() {
	s.t.Helper()
	var l net.Listener
	require.Eventually(s.t, func() (ok bool) {
		var err error
		l, err = net.Listen("tcp", strings.TrimPrefix(s.url, "http://"))
		return err == nil
	}, 20*time.Second, 20*time.Millisecond)
	s.serve(l)
}

// user makes an account and returns it with the token of a session.
func (s *site) user(t *testing.T, email string) (identity.Caller, string) {
	t.Helper()
	u, err := s.engine.Identity.CreateUser(t.Context(), app.Credentials{Email: email, Password: password}, identity.RoleUser)
	require.NoError(t, err)
	token, err := s.engine.Identity.StartSession(t.Context(), u, app.Browser{})
	require.NoError(t, err)
	return identity.SessionCaller(u, identity.HashToken(token)), token
}

// register makes an agent.
func (s *site) register(t *testing.T, c identity.Caller, name, endpoint string, price credits.Amount, skills ...registry.Skill) registry.Agent {
	t.Helper()
	a, err := s.engine.Agents.Register(t.Context(), c, registry.Profile{Name: &name, Endpoint: &endpoint, Price: &price, Skills: &skills})
	require.NoError(t, err)
	return a
}

// browser is a tab that watches for what must not happen: errors, refused scripts, dialogs.
type browser struct {
	t   *testing.T
	tab context.Context
	url string

	mu     sync.Mutex
	bad    []string
	outage bool // the server is away: that it cannot be reached is no fault of the page
}

func browse(t *testing.T, url string) *browser {
	t.Helper()
	tab, stop, err := browsertest.Start(context.Background())
	require.NoError(t, err)
	t.Cleanup(stop)
	ctx, cancel := context.WithTimeout(tab, 5*time.Minute)
	t.Cleanup(cancel)
	b := &browser{t: t, tab: ctx, url: url}
	note := func(format string, args ...any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.bad = append(b.bad, fmt.Sprintf(format, args...))
	}
	require.NoError(t, chromedp.Listen(ctx, func(ev any) {
		switch ev := ev.(type) {
		case *runtime.EventExceptionThrown:
			note("exception: %s", ev.ExceptionDetails.Text)
		case *cdplog.EventEntryAdded:
			b.mu.Lock()
			away := b.outage && (strings.Contains(ev.Entry.Text, "net::ERR_") || strings.Contains(ev.Entry.Text, "status of 5"))
			b.mu.Unlock()
			if ev.Entry.Level == "error" && !away && !strings.Contains(ev.Entry.Text, "status of 4") {
				note("log: %s %s", ev.Entry.Text, ev.Entry.URL)
			}
		case *cdppage.EventJavascriptDialogOpening:
			if ev.Type != "confirm" {
				note("dialog: %s", ev.Message)
			}
			go func() {
				_, _ = chromedp.Call(ctx, cdppage.HandleJavaScriptDialog, cdppage.HandleJavaScriptDialogParams{Accept: true})
			}()
		}
	}))
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		assert.Empty(t, b.bad, "what the browser complained about")
	})
	return b
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.tab, 40*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		text, _ := chromedp.Run(b.tab, chromedp.Evaluate[string](`location.href + "\n" + document.body.innerText.slice(0, 1500)`))
		b.t.Fatalf("%v\nat %s", err, text)
	}
}

func (b *browser) open(path string) {
	b.t.Helper()
	b.do(chromedp.Navigate(b.url + path))
}

func (b *browser) fill(id, text string) {
	b.t.Helper()
	b.see(fmt.Sprintf(`document.readyState === "complete" && document.getElementById(%q)`, id))
	b.eval(fmt.Sprintf(`document.getElementById(%q).value = ""`, id))
	b.do(chromedp.SendKeys("#"+id, text))
}

func (b *browser) click(selector string) {
	b.t.Helper()
	b.do(chromedp.Click(selector))
}

// press follows the button or link with the text.
func (b *browser) press(text string) {
	b.t.Helper()
	b.see(fmt.Sprintf(`[...document.querySelectorAll("main a, main button")].some(e => e.innerText?.trim() === %q && e.checkVisibility())`, text))
	b.eval(fmt.Sprintf(`[...document.querySelectorAll("main a, main button")].find(e => e.innerText?.trim() === %q && e.checkVisibility()).click()`, text))
}

func (b *browser) eval(js string) {
	b.t.Helper()
	_, err := chromedp.Run(b.tab, chromedp.Evaluate[any](js+"; null"))
	require.NoError(b.t, err, js)
}

func ask[T any](b *browser, js string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.tab, chromedp.Evaluate[T](js))
	require.NoError(b.t, err, js)
	return v
}

// see waits until the expression is true.
func (b *browser) see(js string) {
	b.t.Helper()
	for end := time.Now().Add(40 * time.Second); ; time.Sleep(40 * time.Millisecond) {
		ok, err := chromedp.Run(b.tab, chromedp.Evaluate[bool]("Boolean("+js+")"))
		if err == nil && ok {
			return
		}
		if time.Now().After(end) {
			text, _ := chromedp.Run(b.tab, chromedp.Evaluate[string](`location.href + "\n" + document.body.innerText.slice(0, 2000)`))
			b.t.Fatalf("never came true: %s (%v)\nat %s", js, err, text)
		}
	}
}

// at waits for a page.
func (b *browser) at(pattern string) {
	b.t.Helper()
	b.see(fmt.Sprintf(`document.readyState === "complete" && new RegExp(%q).test(location.pathname)`, pattern))
}

func (b *browser) says(text string) {
	b.t.Helper()
	b.see(fmt.Sprintf(`document.body.innerText.includes(%q)`, text))
}

// enter gives the tab a session.
func (b *browser) enter(token string) {
	b.t.Helper()
	b.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error { return setCookie(ctx, t, b.url, token) }))
}

var axe struct {
	once   sync.Once
	source string
	err    error
}

// accessible has axe-core look at the page.
func (b *browser) accessible() {
	b.t.Helper()
	axe.once.Do(func() {
		dir, err := nodetest.Install("testdata/axe")
		if err == nil {
			var text []byte
			text, err = os.ReadFile(filepath.Join(dir, "node_modules", "axe-core", "axe.min.js"))
			axe.source = string(text)
		}
		axe.err = err
	})
	require.NoError(b.t, axe.err)
	_, err := chromedp.Run(b.tab, chromedp.Evaluate[any](axe.source+"; null"))
	require.NoError(b.t, err)
	found, err := chromedp.Run(b.tab, chromedp.Evaluate[string](`axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"], resultTypes: ["violations"]}).then(r =>
		r.violations.map(v => v.id + ": " + v.help + " " + v.nodes.slice(0, 3).map(n => n.html.slice(0, 160) + " " + (n.any[0]?.message || "")).join(" | ")).join("\n"))`, chromedp.EvalAwaitPromise))
	require.NoError(b.t, err)
	assert.Empty(b.t, found, ask[string](b, "location.pathname"))
}

// steady looks whether anything has moved that was shown, other than by what the user did. Less than a hundredth is not seen.
func (b *browser) steady(path string) {
	b.t.Helper()
	shift, err := chromedp.Run(b.tab, chromedp.Evaluate[float64](`new Promise(done => {
		let sum = 0;
		const count = list => list.forEach(e => { if (!e.hadRecentInput) sum += e.value; });
		const o = new PerformanceObserver(l => count(l.getEntries()));
		o.observe({type: "layout-shift", buffered: true});
		requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => { count(o.takeRecords()); done(sum); })));
	})`, chromedp.EvalAwaitPromise))
	require.NoError(b.t, err)
	assert.Less(b.t, shift, 0.01, "how much has moved on "+path)
}

// What a new user does, from signing up to the charts.
func TestTheWayOfANewUser(t *testing.T) {
	t.Parallel()
	s := open(t)
	owner, _ := s.user(t, "owner@example.com")
	s.register(t, owner, "Slow one", s.slow, credits.Whole(10), registry.Skill{
		ID: "say", Name: "Say", InputSchema: json.RawMessage(`{"type":"object","required":["text"],"properties":{"text":{"type":"string","title":"Text"},"times":{"type":"integer","minimum":1,"title":"Times"}}}`),
	})
	b := browse(t, s.url)

	b.open("/dashboard/agents/new") // leads to the log-in, and back
	b.at("/auth/login")
	b.do(chromedp.Click(`a[href^="/auth/signup"]`))
	b.at("/auth/signup")
	b.fill("email", "new@example.com")
	b.fill("password", password)
	b.do(chromedp.Submit("#password"))
	b.at("/dashboard/agents/new")

	b.fill("card", s.agent+"/.well-known/agent-card.json")
	b.press("Fetch the card")
	b.says("It answers.")
	b.see(`document.querySelector("#name").value === "Echo" && document.querySelector("#skill-0-id").value === "echo"`)
	b.fill("price", "oops")
	b.press("Register")
	b.says("Must be a number of credits")
	b.see(`document.querySelector("#price").getAttribute("aria-invalid") === "true"`)
	b.fill("price", "2.50")
	b.press("Register")
	b.at("/dashboard/agents/[0-9a-f-]{36}$")
	b.says("Echo is registered")

	b.click("#keys ~ *, details.more summary")
	b.eval(`document.querySelector("#key-name").closest("details").open = true`)
	b.fill("key-name", "Test key")
	b.press("Create the key")
	b.says("shown only now")
	secret := ask[string](b, `document.querySelector("#new-key-secret").textContent`)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/api/v1/agents", http.NoBody)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+secret)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	b.open(ask[string](b, "location.pathname.replace('/keys', '')"))
	b.see(`!document.body.innerText.includes(` + quote(secret) + `)`)

	// A task by the form of the skill's schema, watched as it goes.
	b.open("/marketplace?q=slow")
	b.do(chromedp.Click(".pick h2 a"))
	b.at("/marketplace/[0-9a-f-]{36}$")
	b.press("Give it a task")
	b.at("/dashboard/tasks/new")
	b.fill("title", "Say hello")
	b.fill("in-1", "many")
	b.press("Create the task for 10 credits")
	b.says("Please fill this in.")
	b.says("Must be a number.")
	b.fill("in-0", "hello there")
	b.fill("in-1", "2")
	b.press("Create the task for 10 credits")
	b.at("/dashboard/tasks/[0-9a-f-]{36}$")
	b.see(`document.querySelector("#task-live")`)
	b.says("The agent is working on it.")
	b.eval(`window.same = true`) // the page is never loaded again
	b.see(`document.querySelector(".badge.good")?.innerText === "completed"`)
	b.see(`window.same && document.querySelector(".artifact")?.innerText.includes("hello there")`)
	b.click(".stars label:nth-child(5)")
	b.fill("comment", "Just right")
	b.press("Rate")
	b.says("Your rating counts")
	b.says("You gave it 5 of 5 stars.")

	// A workflow of three steps: one goes on from another by the graph, another by the keyboard.
	b.open("/dashboard/workflows/new")
	b.fill("name", "Three")
	step := func(i int, name string) {
		b.fill(fmt.Sprintf("step-%d-name", i), name)
		b.eval(fmt.Sprintf(`(() => { const s = document.querySelector("#step-%d-agent"); s.value = [...s.options].find(o => o.text.startsWith("Slow")).value; s.dispatchEvent(new Event("change", {bubbles: true})); })()`, i))
		b.see(fmt.Sprintf(`[...document.querySelectorAll(".dag text")].some(e => e.textContent === %q)`, name))
	}
	// Adding a step right behind a change: what the change asked for must not take the step away again.
	b.open("/dashboard/workflows/new")
	b.eval(`(() => { window.open_ = 0; const fetch = window.fetch; window.fetch = async (...a) => { window.open_++; try { const r = await fetch(...a); await new Promise(f => setTimeout(f, 200)); return r; } finally { window.open_--; } }; // a slow network
		document.addEventListener("htmx:config:request", (e) => { if (e.detail.ctx.sourceElement.id === "builder") window.looked = true; });
		const n = document.querySelector("#step-0-name"); n.value = "Quick"; n.dispatchEvent(new Event("change", {bubbles: true}));
		setTimeout(() => [...document.querySelectorAll("#builder button")].find(x => x.textContent === "Add a step").click(), 60); })()`)
	b.see(`document.querySelector("#step-1-name")`)
	b.see(`window.looked && window.open_ === 0 && !document.querySelector(".htmx-request")`) // what the change asked for was held back, or has come back
	b.see(`document.querySelector("#step-1-name") && document.querySelector("#step-0-name").value === "Quick"`)
	b.open("/dashboard/workflows/new")
	b.fill("name", "Three")
	step(0, "First")
	b.press("Add a step")
	b.see(`document.querySelector("#step-1-name")`)
	step(1, "Second")
	b.press("Add a step")
	b.see(`document.querySelector("#step-2-name")`)
	step(2, "Third")
	b.see(`document.querySelectorAll(".dag .edge").length === 2`)
	b.do(chromedp.Focus(`[name="step-2-after"][value="1"]`), chromedp.SendKeys(`[name="step-2-after"][value="1"]`, " ")) // by keyboard: no more after the second
	b.see(`document.querySelectorAll(".dag .edge").length === 1`)
	b.eval(`document.querySelector('[data-node="0"]').dispatchEvent(new MouseEvent("click", {bubbles: true}))`)
	b.eval(`document.querySelector('[data-node="2"]').dispatchEvent(new MouseEvent("click", {bubbles: true}))`)
	b.see(`document.querySelector('[name="step-2-after"][value="0"]').checked && document.querySelectorAll(".dag .edge").length === 2`)
	// The same as JSON, which is edited too.
	b.eval(`document.querySelector("#json").closest("details").open = true`)
	b.fill("json", "{")
	b.press("Use this JSON")
	b.says("It is no workflow")
	b.open("/dashboard/workflows/new")
	b.fill("name", "Three")
	step(0, "First")
	b.see(`JSON.parse(document.querySelector("#json").value).steps[0].agentId && !document.querySelector(".htmx-request")`) // the look at the draft has come back
	b.eval(`(() => { const a = JSON.parse(document.querySelector("#json").value).steps[0].agentId; document.querySelector("#json").closest("details").open = true;
		document.querySelector("#json").value = JSON.stringify({name: "Three", steps: [{name: "First", agentId: a, dependsOn: []}, {name: "Second", agentId: a, dependsOn: [0]}, {name: "Third", agentId: a, dependsOn: [0]}]}); })()`)
	b.press("Use this JSON")
	b.see(`document.querySelector("#step-2-name")?.value === "Third" && document.querySelectorAll(".dag .edge").length === 2 && document.querySelector('[name="step-2-after"][value="0"]').checked`)
	b.fill("step-1-input", "{no")
	b.press("Save the workflow")
	b.says("Is no well-formed JSON.")
	b.see(`document.querySelector("#step-card-1").classList.contains("wrong")`)
	b.fill("step-1-input", `{"a": 1}`)
	b.press("Save the workflow")
	b.at("/dashboard/workflows/[0-9a-f-]{36}$")
	b.press("Run it")
	b.at("/runs/[0-9a-f-]{36}$")
	b.eval(`window.same = true`)
	b.see(`document.querySelector(".dag.across .node.running")`)
	b.see(`document.querySelectorAll(".dag.across .node.completed").length === 1`)
	b.see(`document.querySelectorAll(".dag.across .node.completed").length === 3 && window.same`)
	b.do(chromedp.Click(".times a"))
	b.at("/dashboard/tasks/")

	// Credits by the demo checkout, and the charts.
	b.open("/dashboard/billing?period=7d")
	b.press("Buy for $10")
	b.at("/demo/checkout")
	b.do(chromedp.Click(`button[value=pay]`))
	b.at("/dashboard/billing")
	b.says("Thank you.")
	b.see(`document.querySelector(".chart canvas")`)
	for range 40 { // they come once the payment is confirmed
		if ask[bool](b, `document.body.innerText.includes("+1,000.00") && document.body.innerText.includes("Purchase")`) {
			break
		}
		b.do(chromedp.Reload(), chromedp.Sleep(50*time.Millisecond))
	}
	b.says("+1,000.00")
}

func quote(s string) string {
	b, _ := json.Marshal(s) // a string always marshals
	return string(b)
}

// hostile are texts that would like to be more than that.
var hostile = []string{
	`<script>window.hacked=1</script>`,
	`"><img src=x onerror=window.hacked=1>`,
	`'"><svg onload=window.hacked=1>`,
	`</textarea></title></style></script><script>window.hacked=1</script>`,
	`javascript:window.hacked=1`,
	`" autofocus onfocus=window.hacked=1 x="`,
	`<div hx-get="/theme" hx-trigger="load" hx-on:load="window.hacked=1">`,
	`<a href="javascript:window.hacked=1" data-chart="{}">x</a>`,
	`{{constructor.constructor('window.hacked=1')()}}`,
	"\u2028\u202ewindow.hacked=1\u0000\r\ndata: <script>window.hacked=1</script>\n\n",
}

// Whatever agents and people write, it is shown and never run; and axe-core finds nothing on any of the pages.
func TestStrangersTextsAreOnlyTexts(t *testing.T) {
	t.Parallel()
	s := open(t)
	me, token := s.user(t, "me@example.com")
	all := strings.Join(hostile, " ")
	text := strings.ReplaceAll(all, "\u0000", "")
	short := func(n int) string { return string([]rune(text)[:min(n, len([]rune(text)))]) }
	schema, err := json.Marshal(map[string]any{"type": "object", "properties": map[string]any{
		hostile[1]: map[string]any{"type": "string", "title": text, "description": text}, "choice": map[string]any{"enum": hostile[:5], "default": hostile[1]},
		"n": map[string]any{"type": "integer", "title": hostile[0], "minimum": 1}, "yes": map[string]any{"type": "boolean", "title": hostile[2]},
	}})
	require.NoError(t, err)
	name, description, endpoint := short(100), short(1000), s.agent
	tags := []string{`<script>window.hacked=1</script>`, `"><img src=x onerror=window.hacked=1>`}
	price := credits.Whole(3)
	a, err := s.engine.Agents.Register(t.Context(), me, registry.Profile{
		Name: &name, Description: &description, Endpoint: &endpoint, Tags: &tags, Category: &tags[0], Price: &price,
		Skills: &[]registry.Skill{{ID: `"><b onclick=x>`, Name: short(100), Description: short(1000), Tags: tags, InputSchema: schema}},
	})
	require.NoError(t, err)
	_, err = s.engine.Identity.CreateKey(t.Context(), me, a.ID, identity.NewKey{Name: short(100), Scopes: []string{"*"}})
	require.NoError(t, err)
	other, _ := s.user(t, "other@example.com")
	file := func(name, kind, content string) task.Part {
		b, err := json.Marshal(map[string]string{"name": name, "mimeType": kind, "bytes": base64.StdEncoding.EncodeToString([]byte(content))})
		require.NoError(t, err)
		return task.Part{Type: task.PartFile, Data: b}
	}
	data, err := json.Marshal(hostile[:9])
	require.NoError(t, err)
	made := []task.Artifact{{Name: short(200), Description: short(1000), Parts: []task.Part{
		task.TextPart(text),
		{Type: task.PartData, Data: data},
		file("x.svg", "image/svg+xml", `<svg xmlns="http://www.w3.org/2000/svg" onload="window.hacked=1"><script>window.hacked=1</script></svg>`),
		file(hostile[1]+".html", "text/html", hostile[0]), file("x.png", "image/png", "\x89PNG\r\n\x1a\n"+hostile[0]),
		{Type: task.PartFile, Data: json.RawMessage(`{"name":"l","uri":"javascript:window.hacked=1"}`)},
		{Type: task.PartFile, Data: json.RawMessage(`{"name":"l","uri":"https://example.com/\"onclick=window.hacked=1"}`)},
	}}}
	// One that waits for the agent, so that the page is live, and one that is over.
	off := s.register(t, me, "Away", "http://127.0.0.1:1", 0)
	var ids []string
	for i, who := range []identity.Caller{other, me} {
		agent := a.ID
		if i == 1 {
			agent = off.ID
		}
		made_, err := s.engine.Tasks.Create(t.Context(), who, app.CreateTask{AgentID: agent, Title: short(200), Description: text, QueueIfOffline: true})
		require.NoError(t, err)
		ids = append(ids, made_.ID)
	}
	require.Eventually(t, func() bool {
		v, err := s.engine.Tasks.Get(t.Context(), me, ids[0])
		return err == nil && v.Status.Ended()
	}, 10*time.Second, 10*time.Millisecond)
	_, err = s.engine.Tasks.Reply(t.Context(), me, ids[1], app.ReplyTask{Role: task.RoleAgent, Parts: made[0].Parts, Artifacts: made})
	require.NoError(t, err)
	_, err = s.engine.Trust.Rate(t.Context(), other, a.ID, app.RateAgent{TaskID: ids[0], Stars: 2, Comment: short(1000)})
	require.NoError(t, err)
	w, err := s.engine.Workflows.Create(t.Context(), me, short(200), short(2000), []scheduler.Step{
		{Name: short(100), AgentID: a.ID}, {Name: short(90) + "2", AgentID: off.ID, DependsOn: []int{0}, Input: json.RawMessage(`{"a":` + string(data) + `}`)},
	})
	require.NoError(t, err)
	run, err := s.engine.Workflows.Execute(t.Context(), me, w.ID)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		r, err := s.engine.Workflows.Run(t.Context(), me, w.ID, run.ID)
		return err == nil && r.Status.Ended()
	}, 10*time.Second, 10*time.Millisecond)

	_, err = s.engine.Identity.ChangeName(t.Context(), me, strings.Join(hostile[1:3], " "))
	require.NoError(t, err)
	u, err := s.engine.Identity.UserByEmail(t.Context(), "me@example.com")
	require.NoError(t, err)
	_, err = s.engine.Identity.StartSession(t.Context(), u, app.Browser{Device: text})
	require.NoError(t, err)

	b := browse(t, s.url)
	look := func(path string) {
		t.Helper()
		b.see(`document.readyState === "complete"`)
		assert.Equal(t, "undefined", ask[string](b, `typeof window.hacked`), path)
		assert.Zero(t, ask[int](b, `[...document.querySelectorAll("*")].filter(e => [...e.attributes].some(a => a.name.startsWith("on") || a.name.startsWith("hx-on"))).length + document.querySelectorAll('main script, main style, [style]:not(.uplot *):not(.uplot), a[href^="javascript:"]').length`), path)
		assert.False(t, ask[bool](b, `document.documentElement.scrollWidth > innerWidth + 1`), "%s is wider than the window", path)
		b.steady(path)
		b.accessible()
	}
	check := func(path string) {
		t.Helper()
		b.open(path)
		look(path)
	}
	hostileQuery := url.QueryEscape("/" + text)
	query := "q=" + strings.ReplaceAll(`"><img`, `"`, "%22")
	for _, path := range []string{"/marketplace", "/marketplace/" + a.ID, "/marketplace?" + query, "/marketplace/nothing", "/nothing", "/auth/login?next=" + hostileQuery, "/auth/signup?next=" + hostileQuery, "/auth/forgot-password", "/auth/reset-password?token=" + hostileQuery, "/auth/verify-email?token=" + hostileQuery, "/billing/return?checkout=success"} {
		check(path) // as a stranger
	}
	b.enter(token)
	for _, path := range []string{
		"/dashboard", "/dashboard/agents", "/dashboard/agents/new", "/dashboard/agents/" + a.ID, "/dashboard/agents/" + a.ID + "/edit",
		"/dashboard/tasks", "/dashboard/tasks/new", "/dashboard/tasks/new?agent=" + a.ID, "/dashboard/tasks/new?again=" + ids[1], "/dashboard/tasks/" + ids[0], "/dashboard/tasks/" + ids[1],
		"/dashboard/workflows", "/dashboard/workflows/new", "/dashboard/workflows/" + w.ID, "/dashboard/workflows/" + w.ID + "/edit", "/dashboard/workflows/" + w.ID + "/runs/" + run.ID,
		"/dashboard/billing", "/dashboard/settings", "/dashboard/admin", "/marketplace", "/dashboard/nothing",
	} {
		check(path)
	}
	// What was wrong comes back with the form: the texts are in all of its fields, and what is said of them.
	for path, form := range map[string]string{
		"/dashboard/agents/new": "/dashboard/agents", "/dashboard/tasks/new?agent=" + a.ID: "/dashboard/tasks", "/dashboard/workflows/" + w.ID + "/edit": "/dashboard/workflows/" + w.ID,
		"/dashboard/settings": "/dashboard/settings/profile", "/dashboard/tasks/" + ids[0]: "/dashboard/tasks/" + ids[0] + "/rate",
	} {
		b.open(path)
		if !ask[bool](b, `Boolean(document.querySelector('form[action="`+form+`"]'))`) {
			continue // it was rated
		}
		b.eval(`(() => { const f = document.querySelector('form[action="` + form + `"]');
			for (const e of f.querySelectorAll("input:not([type=hidden]):not([type=checkbox]):not([type=radio]), textarea")) { e.removeAttribute("maxlength"); e.value = ` + quote(text+text) + `; }
			f.submit(); })()`)
		b.see(`document.querySelector("main .problem, main [role=alert], main .lost")`)
		look("the form of " + path)
	}
	b.open("/dashboard/workflows/" + w.ID + "/edit")
	b.press("Another agent")
	for words, problem := range map[string]bool{hostile[1]: false, hostile[8] + " of another kind": true} {
		b.fill("step-0-find", words)
		b.press("Find")
		b.see(fmt.Sprintf(`document.querySelector("[name=step-0-found]")?.value === %s && Boolean(document.querySelector("#step-0-find-problem")) === %t`, quote(words), problem))
		look("agents that were looked for")
	}
	b.open("/dashboard/admin")
	b.press("Verify it now")
	b.says("All is right")
	look("the ledger, verified")
	b.open("/dashboard/billing")
	b.press("Buy for $10")
	b.at("/demo/checkout")
	look("/demo/checkout")
	// The same under dark colours and on a phone, as narrow as there are.
	b.do(chromedp.EmulateViewport(360, 740, chromedp.EmulateMobile))
	b.prefer("prefers-color-scheme", "dark")
	for _, path := range []string{
		"/dashboard", "/dashboard/agents/" + a.ID, "/dashboard/tasks/" + ids[1], "/dashboard/workflows/" + w.ID + "/edit", "/dashboard/workflows/" + w.ID + "/runs/" + run.ID, "/dashboard/billing", "/marketplace", "/dashboard/settings", "/dashboard/admin",
		"/dashboard/tasks", "/dashboard/tasks/new?agent=" + a.ID, "/dashboard/agents/" + a.ID + "/edit", "/dashboard/workflows", "/marketplace/" + a.ID, "/dashboard/nothing", "/auth/login",
	} {
		check(path)
	}
}

func setCookie(ctx context.Context, t *chromedp.Target, url, token string) error {
	_, err := cdp.Call(ctx, t, network.SetCookie, network.SetCookieParams{Name: "nexus_session", Value: token, URL: url})
	return err
}

// prefer has the system say what its user prefers.
func (b *browser) prefer(feature, value string) {
	b.t.Helper()
	_, err := chromedp.Call(b.tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: feature, Value: value}}})
	require.NoError(b.t, err)
}
