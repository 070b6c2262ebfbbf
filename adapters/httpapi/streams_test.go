package httpapi_test

import (
	"bufio"
	"context"
	crand "crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/nexus-protocol/nexus/adapters/httpapi"
	"github.com/nexus-protocol/nexus/adapters/inprocess"
	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// streamRig is a server whose tasks only change as the test says.
type streamRig struct {
	engine *app.Engine
	store  *memory.Store
	events ports.Events
	url    string
	caller identity.Caller
	key    string
	agent  string
}

func newStreamRig(t testing.TB, opt httpapi.StreamOptions, serve func(http.Handler) string) *streamRig {
	t.Helper()
	r := &streamRig{store: memory.New(), events: inprocess.NewEvents()}
	var err error
	r.engine, err = app.New(app.Config{
		Store: r.store, Queue: inprocess.New(r.store, time.Now, inprocess.Options{}), Agents: memory.NewAgents(), Guard: memory.OpenGuard{}, Schema: memory.Schemas{},
		Hasher: memory.NewHasher(), Limits: memory.NewLimiter(time.Now), Events: r.events, Now: time.Now, NewID: memory.NewID, Random: crand.Reader,
	})
	require.NoError(t, err)
	r.url = serve(httpapi.New(r.engine, httpapi.Options{Streams: opt}))
	user, err := r.engine.Identity.SignUp(context.Background(), app.Credentials{Email: "a@example.com", Password: "long enough"})
	require.NoError(t, err)
	r.caller = identity.SessionCaller(user, "")
	name, endpoint := "Agent", "http://agent.test"
	a, err := r.engine.Agents.Register(context.Background(), r.caller, registry.Profile{Name: &name, Endpoint: &endpoint})
	require.NoError(t, err)
	_, err = r.engine.Agents.Heartbeat(context.Background(), r.caller, a.ID, "", nil)
	require.NoError(t, err)
	key, err := r.engine.Identity.CreateKey(context.Background(), r.caller, a.ID, identity.NewKey{Name: "x", Scopes: []string{"*"}})
	require.NoError(t, err)
	r.agent, r.key = a.ID, string(key.Secret)
	return r
}

func (r *streamRig) create(t testing.TB) string {
	t.Helper()
	v, err := r.engine.Tasks.Create(context.Background(), r.caller, app.CreateTask{AgentID: r.agent, Title: "x"})
	require.NoError(t, err)
	return v.ID
}

// apply lets a command happen to a task, here or in another process.
func (r *streamRig) apply(t testing.TB, id string, cmd task.Command, tell bool) {
	t.Helper()
	require.NoError(t, r.store.Update(context.Background(), func(ctx context.Context, tx ports.Tx) error {
		now, err := tx.Tasks.Lock(ctx, id)
		if err != nil {
			return err
		}
		next, events, err := task.Apply(now, cmd)
		if err != nil {
			return err
		}
		return tx.Tasks.Save(ctx, next, events)
	}))
	if tell {
		r.events.Publish(id)
	}
}

func say(text string) task.Progress {
	return task.Progress{At: time.Now(), Messages: []task.Message{{ID: memory.NewID(), Role: task.RoleAgent, Parts: []task.Part{task.TextPart(text)}}}}
}

func (r *streamRig) open(t testing.TB, ctx context.Context, id, after string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+"/api/v1/tasks/"+id+"/stream", nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+r.key)
	if after != "" {
		req.Header.Set("Last-Event-ID", after)
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(t, err)
	t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

func plain(t testing.TB) func(http.Handler) string {
	return func(h http.Handler) string {
		srv := httptest.NewServer(h)
		t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
		return srv.URL
	}
}

// However a task grows and however its streams are cut and resumed, each has brought every event once and in order.
func TestCutStreamsLoseNothing(t *testing.T) {
	r := newStreamRig(t, httpapi.StreamOptions{MaxPerCaller: 1_000}, plain(t))
	rapid.Check(t, func(rt *rapid.T) {
		id := r.create(t)
		steps := rapid.SliceOfN(rapid.IntRange(1, 5), 1, 40).Draw(rt, "messages of each step")
		watchers := rapid.IntRange(1, 5).Draw(rt, "watchers")
		seed := rapid.Uint64().Draw(rt, "seed")
		var done sync.WaitGroup
		got := make([][]int64, watchers)
		for w := range watchers {
			luck := rand.New(rand.NewPCG(seed, uint64(w)))
			done.Go(func() {
				for after, over := "0", false; !over; {
					res := r.open(t, context.Background(), id, after)
					over = res.StatusCode == http.StatusNoContent // it was cut right after the last one
					lines := bufio.NewScanner(res.Body)
					for left := luck.IntN(30); left > 0 && !over && lines.Scan(); {
						if seq, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
							n, _ := strconv.ParseInt(seq, 10, 64)
							got[w], after = append(got[w], n), seq
							left--
						}
						over = lines.Text() == "event: complete"
					}
					_ = res.Body.Close()
				}
			})
		}
		luck := rand.New(rand.NewPCG(seed, 1_000))
		for _, n := range steps {
			p := say("hello")
			for range n - 1 {
				p.Messages = append(p.Messages, p.Messages[0])
			}
			r.apply(t, id, p, luck.IntN(4) > 0) // some are not heard of until the next one
			if luck.IntN(3) == 0 {
				time.Sleep(time.Duration(luck.IntN(2_000)) * time.Microsecond)
			}
		}
		r.apply(t, id, task.Complete{At: time.Now()}, true)
		done.Wait()
		log, err := r.store.Read().Tasks.Events(context.Background(), id, 0, 10_000)
		require.NoError(t, err)
		for w := range got {
			require.Len(t, got[w], len(log))
			for i := range log {
				require.EqualValues(t, i+1, got[w][i])
			}
		}
	})
}

// smallBuffers makes the kernel keep little of what a client does not read.
type smallBuffers struct{ net.Listener }

func (l smallBuffers) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetWriteBuffer(64 << 10)
	}
	return c, err
}

// A client that does not read is dropped, and nobody else waits for it.
func TestASlowClientIsDropped(t *testing.T) {
	t.Parallel()
	r := newStreamRig(t, httpapi.StreamOptions{WriteTimeout: 6 * time.Second, MaxPerCaller: 2}, func(h http.Handler) string {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		srv := &http.Server{Handler: h}
		go func() { _ = srv.Serve(smallBuffers{ln}) }()
		t.Cleanup(func() { _ = srv.Close() })
		return "http://" + ln.Addr().String()
	})
	id := r.create(t)
	slow, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	require.NoError(t, err)
	defer func() { _ = slow.Close() }()
	require.NoError(t, slow.(*net.TCPConn).SetReadBuffer(4<<10))
	_, err = fmt.Fprintf(slow, "GET /api/v1/tasks/%s/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", id, r.key)
	require.NoError(t, err)
	fast := r.open(t, t.Context(), id, "")
	lines := bufio.NewScanner(fast.Body)
	lines.Buffer(nil, 4<<20)
	began := time.Now()
	const n = 8
	for range n {
		r.apply(t, id, say(strings.Repeat("x", 512<<10)), true)
	}
	for seen := 0; seen < n; {
		require.True(t, lines.Scan())
		if strings.HasPrefix(lines.Text(), "data: ") && len(lines.Text()) > 512<<10 {
			seen++
		}
	}
	require.Less(t, time.Since(began), 5*time.Second, "the other client waits for nobody")
	require.Eventually(t, func() bool { // its place is free again
		res := r.open(t, t.Context(), id, "100")
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	}, 30*time.Second, 20*time.Millisecond)
	require.NoError(t, slow.SetReadDeadline(time.Now().Add(5*time.Second)))
	whole, _ := io.ReadAll(slow)
	assert.Less(t, len(whole), n*512<<10, "it was cut off")
}

// There are so many streams for each caller, and for all together.
func TestLimitsOfStreams(t *testing.T) {
	t.Parallel()
	r := newStreamRig(t, httpapi.StreamOptions{Max: 3, MaxPerCaller: 2}, plain(t))
	id := r.create(t)
	ask := func(key string) (status int, code string, header http.Header, close func()) {
		was := r.key
		defer func() { r.key = was }()
		r.key = key
		res := r.open(t, t.Context(), id, "")
		if res.StatusCode != http.StatusOK {
			var out struct {
				Error struct {
					Code    string
					Details struct{ RetryAfter int }
				}
			}
			require.NoError(t, json.NewDecoder(res.Body).Decode(&out))
			assert.Equal(t, strconv.Itoa(out.Error.Details.RetryAfter), res.Header.Get("Retry-After"))
			code = out.Error.Code
		}
		return res.StatusCode, code, res.Header, func() { _ = res.Body.Close() }
	}
	_, _, _, closeOne := ask(r.key)
	status, _, _, _ := ask(r.key)
	require.Equal(t, http.StatusOK, status)
	status, code, _, _ := ask(r.key)
	assert.Equal(t, http.StatusTooManyRequests, status)
	assert.Equal(t, "RATE_LIMIT_EXCEEDED", code)
	closeOne()
	require.Eventually(t, func() bool { status, _, _, _ := ask(r.key); return status == http.StatusOK }, 5*time.Second, 5*time.Millisecond)

	// Two others fill the rest: one has a place, one has not.
	keys := []string{}
	for i := range 2 {
		user, err := r.engine.Identity.CreateUser(t.Context(), app.Credentials{Email: fmt.Sprintf("admin%d@example.com", i), Password: "long enough"}, identity.RoleAdmin)
		require.NoError(t, err)
		token, err := r.engine.Identity.StartSession(t.Context(), user, app.Browser{})
		require.NoError(t, err)
		keys = append(keys, token)
	}
	get := func(token string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/api/v1/tasks/"+id+"/stream", nil)
		require.NoError(t, err)
		req.AddCookie(&http.Cookie{Name: "nexus_session", Value: token})
		res, err := http.DefaultTransport.RoundTrip(req)
		require.NoError(t, err)
		t.Cleanup(func() { _ = res.Body.Close() })
		return res
	}
	assert.Equal(t, http.StatusOK, get(keys[0]).StatusCode)
	full := get(keys[1])
	assert.Equal(t, http.StatusServiceUnavailable, full.StatusCode)
	assert.Equal(t, "5", full.Header.Get("Retry-After"))
}

// A server that is about to stop ends its streams at once and takes no new ones.
func TestAStopEndsStreams(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	r := newStreamRig(t, httpapi.StreamOptions{Closing: ctx.Done()}, func(h http.Handler) string {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		go func() { served <- httpapi.Serve(ctx, ln, h, 20*time.Second) }()
		return "http://" + ln.Addr().String()
	})
	id := r.create(t)
	var bodies []io.Reader
	for range 20 {
		bodies = append(bodies, r.open(t, t.Context(), id, "").Body)
	}
	began := time.Now()
	stop()
	for _, b := range bodies {
		text, err := io.ReadAll(b)
		assert.NoError(t, err, "the answer has an end")
		assert.NotContains(t, string(text), "event: complete")
	}
	assert.NoError(t, <-served)
	assert.Less(t, time.Since(began), 5*time.Second)
}

// A stream outlives the deadlines of an ordinary request.
func TestStreamsHaveNoDeadlines(t *testing.T) {
	t.Parallel()
	r := newStreamRig(t, httpapi.StreamOptions{KeepAlive: time.Second}, func(h http.Handler) string {
		srv := httptest.NewUnstartedServer(h)
		srv.Config.ReadTimeout, srv.Config.WriteTimeout = 2*time.Second, 2*time.Second
		srv.Start()
		t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
		return srv.URL
	})
	id := r.create(t)
	res := r.open(t, t.Context(), id, "")
	time.Sleep(4 * time.Second)
	r.apply(t, id, task.Complete{At: time.Now()}, true)
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	assert.Contains(t, string(text), "event: complete")
	assert.Contains(t, string(text), ": keep-alive")
}

// countedReads counts what is read of logs.
type countedReads struct {
	ports.Store
	mu    sync.Mutex
	reads int
}

func (c *countedReads) Read() ports.Reads {
	out := c.Store.Read()
	out.TaskLogs = countedLogs{out.TaskLogs, c}
	return out
}

type countedLogs struct {
	ports.TaskLogReader
	of *countedReads
}

func (l countedLogs) EventsOf(ctx context.Context, after []ports.Position, limit int) ([]task.Event, error) {
	l.of.mu.Lock()
	l.of.reads++
	l.of.mu.Unlock()
	return l.TaskLogReader.EventsOf(ctx, after, limit)
}

// However many watch a task, it is read once for each change.
func TestAChangeIsReadOnce(t *testing.T) {
	t.Parallel()
	counted := &countedReads{Store: memory.New()}
	events := inprocess.NewEvents()
	engine, err := app.New(app.Config{
		Store: counted, Queue: inprocess.New(counted, time.Now, inprocess.Options{}), Agents: memory.NewAgents(), Guard: memory.OpenGuard{}, Schema: memory.Schemas{},
		Hasher: memory.NewHasher(), Limits: memory.NewLimiter(time.Now), Events: events, Now: time.Now, NewID: memory.NewID, Random: crand.Reader,
	})
	require.NoError(t, err)
	user, err := engine.Identity.SignUp(t.Context(), app.Credentials{Email: "a@example.com", Password: "long enough"})
	require.NoError(t, err)
	c := identity.SessionCaller(user, "")
	made, log, err := task.New(task.Draft{ID: memory.NewID(), Title: "x", RequesterUserID: user.ID, AgentID: "a", AgentOwnerID: "o", At: time.Now()})
	require.NoError(t, err)
	require.NoError(t, counted.Update(t.Context(), func(ctx context.Context, tx ports.Tx) error { return tx.Tasks.Insert(ctx, made, log) }))
	rig := &streamRig{store: counted.Store.(*memory.Store), events: events}
	const watchers, changes = 200, 20
	var all sync.WaitGroup
	got := make(chan int, watchers)
	var opened sync.WaitGroup
	opened.Add(watchers)
	for range watchers {
		all.Go(func() {
			w, err := engine.Tasks.Watch(t.Context(), c, made.ID, app.FromState)
			opened.Done()
			if !assert.NoError(t, err) {
				return
			}
			defer w.Close()
			n := 0
			for {
				events, err := w.Next(t.Context(), nil)
				if err != nil {
					got <- n
					return
				}
				n += len(events)
			}
		})
	}
	opened.Wait()
	for range changes - 1 {
		rig.apply(t, made.ID, say("hello"), true)
		time.Sleep(time.Millisecond)
	}
	rig.apply(t, made.ID, task.Cancel{At: time.Now()}, true)
	all.Wait()
	for range watchers {
		assert.Equal(t, 3+changes, <-got, "the state, the request, that the agent is at work, and each change")
	}
	assert.LessOrEqual(t, counted.reads, 2*changes, "not one for each of the watchers")
}
