package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/httpapi"
	"github.com/nexus-protocol/nexus/adapters/inprocess"
	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/adapters/postgres"
	"github.com/nexus-protocol/nexus/adapters/postgres/postgrestest"
	"github.com/nexus-protocol/nexus/adapters/sqlite"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// streamLoad is what a process that serves streams is to do: it is the test's own binary, since the sockets of both ends
// are more than one process may have open.
type streamLoad struct {
	Dir     string // of the SQLite file
	URL     string // of a PostgreSQL database; "" for SQLite
	Tasks   int
	Callers int
	Rate    int // changes a second
	For     time.Duration
	Deaf    bool // everybody is woken every two seconds, as while Redis is away
}

const streamLoadVariable = "NEXUS_TEST_STREAM_LOAD"

// streamReady is what that process says when it can be asked, streamDone when it has done.
type (
	streamReady struct {
		Addr  string
		Keys  []string
		Tasks []string // of the caller of the same place, one after the other
	}
	streamDone struct {
		Changes int
		Took    time.Duration
	}
)

// serveStreams is that process. It serves, makes its changes when it is told to, and ends with its input.
func serveStreams(load streamLoad, in io.Reader, out io.Writer) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var disk store
	var err error
	if load.URL != "" {
		if err = postgres.Migrate(ctx, load.URL); err == nil {
			disk, err = postgres.Open(ctx, load.URL)
		}
	} else {
		path := filepath.Join(load.Dir, "nexus.db")
		if err = sqlite.Migrate(ctx, path); err == nil {
			disk, err = sqlite.Open(ctx, path)
		}
	}
	if err != nil {
		return err
	}
	defer func() { _ = disk.Close() }()
	changes := inprocess.NewEvents()
	engine, err := app.New(app.Config{
		Store: disk, Queue: inprocess.New(disk, time.Now, inprocess.Options{}), Agents: memory.NewAgents(), Guard: memory.OpenGuard{},
		Schema: memory.Schemas{}, Hasher: memory.NewHasher(), Limits: memory.NewLimiter(time.Now), Events: changes,
		Now: time.Now, NewID: memory.NewID, Random: rand.Reader,
	})
	if err != nil {
		return err
	}
	ready, err := streamTasks(ctx, engine, load)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ready.Addr = listener.Addr().String()
	if load.Deaf {
		go changes.WakeAllEvery(ctx, lookEvery)
	}
	handler := httpapi.New(engine, httpapi.Options{Streams: httpapi.StreamOptions{MaxPerCaller: load.Tasks, Closing: ctx.Done()}})
	served := make(chan error, 1)
	go func() { served <- httpapi.Serve(ctx, listener, handler, 10*time.Second) }()
	say := json.NewEncoder(out)
	if err := say.Encode(ready); err != nil {
		return err
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		done, err := changeTasks(ctx, disk, changes, ready.Tasks, load)
		if err == nil {
			err = say.Encode(done)
		}
		if err != nil {
			return err
		}
	}
	stop()
	return <-served
}

// streamTasks makes callers, each with a key, and as many tasks that are running.
func streamTasks(ctx context.Context, engine *app.Engine, load streamLoad) (ready streamReady, err error) {
	var agents []string
	var callers []identity.Caller
	for i := range load.Callers {
		user, err := engine.Identity.SignUp(ctx, app.Credentials{Email: fmt.Sprintf("u%d@example.com", i), Password: "long enough"})
		if err != nil {
			return ready, err
		}
		c := identity.SessionCaller(user, "")
		name, endpoint := "Agent", "http://agent.test"
		a, err := engine.Agents.Register(ctx, c, registry.Profile{Name: &name, Endpoint: &endpoint})
		if err != nil {
			return ready, err
		}
		if _, err = engine.Agents.Heartbeat(ctx, c, a.ID, "", nil); err != nil { // it is online
			return ready, err
		}
		key, err := engine.Identity.CreateKey(ctx, c, a.ID, identity.NewKey{Name: "bench", Scopes: []string{"*"}})
		if err != nil {
			return ready, err
		}
		ready.Keys, agents, callers = append(ready.Keys, string(key.Secret)), append(agents, a.ID), append(callers, c)
	}
	ready.Tasks = make([]string, load.Tasks)
	var failed atomic.Pointer[error]
	var next atomic.Int64
	var group sync.WaitGroup
	for range 64 {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < load.Tasks; i = int(next.Add(1)) - 1 {
				v, err := engine.Tasks.Create(ctx, callers[i%load.Callers], app.CreateTask{AgentID: agents[i%load.Callers], Title: "x", Timeout: time.Hour})
				if err != nil {
					failed.Store(&err)
					return
				}
				ready.Tasks[i] = v.ID
			}
		})
	}
	group.Wait()
	if err := failed.Load(); err != nil {
		return ready, *err
	}
	return ready, nil
}

// changeTasks lets agents say something at the rate, in one task after the other. What they say is when they began to.
func changeTasks(ctx context.Context, store ports.Store, changes ports.Events, ids []string, load streamLoad) (streamDone, error) {
	began := time.Now()
	var made atomic.Int64
	var failed atomic.Pointer[error]
	var group sync.WaitGroup
	slots := make(chan struct{}, 256)
	due := time.NewTicker(time.Millisecond)
	defer due.Stop()
	begun := 0
	for time.Since(began) < load.For && failed.Load() == nil {
		<-due.C
		for want := int(time.Since(began).Seconds() * float64(load.Rate)); begun < want; begun++ {
			id := ids[(begun*7919)%len(ids)]
			slots <- struct{}{}
			group.Go(func() {
				defer func() { <-slots }()
				say := task.Message{ID: memory.NewID(), Role: task.RoleAgent, Parts: []task.Part{task.TextPart(fmt.Sprintf("at=%d;", time.Now().UnixNano()))}}
				err := store.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
					t, err := tx.Tasks.Lock(ctx, id)
					if err != nil {
						return err
					}
					next, events, err := task.Apply(t, task.Progress{At: time.Now(), Messages: []task.Message{say}})
					if err != nil {
						return err
					}
					return tx.Tasks.Save(ctx, next, events)
				})
				if err != nil {
					failed.Store(&err)
					return
				}
				changes.Publish(id)
				made.Add(1)
			})
		}
	}
	group.Wait()
	if err := failed.Load(); err != nil {
		return streamDone{}, *err
	}
	return streamDone{Changes: int(made.Load()), Took: time.Since(began)}, nil
}

// streamFigures is how the streams did.
type streamFigures struct {
	changes    float64 // a second
	deliveries int
	p50, p99   time.Duration
	worst      time.Duration
	opening    time.Duration // of all
	idle, peak int           // bytes of the server's memory: with all streams open, and at most
}

// measureStreams opens as many streams of a server in another process as it has tasks, times the watchers of each, and
// measures how soon they bring what happens.
func measureStreams(tb testing.TB, on string, load streamLoad, watchers int) (f streamFigures) {
	tb.Helper()
	load.Dir = tb.TempDir()
	if on == "postgres" {
		load.URL = postgrestest.URL(tb)
	}
	text, err := json.Marshal(load)
	require.NoError(tb, err)
	cmd := exec.Command(os.Args[0], "-test.run", "^$")
	cmd.Env = append(os.Environ(), streamLoadVariable+"="+string(text))
	var errOut syncBuffer
	cmd.Stderr = &errOut
	in, err := cmd.StdinPipe()
	require.NoError(tb, err)
	out, err := cmd.StdoutPipe()
	require.NoError(tb, err)
	require.NoError(tb, cmd.Start())
	defer func() {
		_ = in.Close()
		require.NoError(tb, cmd.Wait(), "%s", errOut.String())
	}()
	said := json.NewDecoder(out)
	var ready streamReady
	require.NoError(tb, said.Decode(&ready), "%s", errOut.String())

	var mu sync.Mutex
	var took []time.Duration
	var open, ended atomic.Int64
	var group sync.WaitGroup
	defer group.Wait()
	conns := make([]net.Conn, 0, load.Tasks*watchers)
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	began := time.Now()
	for i := range load.Tasks * watchers {
		c, err := net.Dial("tcp", ready.Addr)
		require.NoError(tb, err)
		conns = append(conns, c)
		n := i % load.Tasks
		_, err = fmt.Fprintf(c, "GET /api/v1/tasks/%s/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", ready.Tasks[n], ready.Keys[n%load.Callers])
		require.NoError(tb, err)
		group.Go(func() {
			defer ended.Add(1)
			lines := bufio.NewReaderSize(c, 1024)
			for first := true; ; {
				line, err := lines.ReadSlice('\n')
				if err != nil {
					return
				}
				if first && bytes.HasPrefix(line, []byte("data: ")) {
					first = false
					open.Add(1)
				}
				if _, rest, ok := bytes.Cut(line, []byte("at=")); ok {
					at, _, _ := bytes.Cut(rest, []byte(";"))
					nanos, err := strconv.ParseInt(string(at), 10, 64)
					if err != nil {
						return
					}
					d := time.Since(time.Unix(0, nanos))
					mu.Lock()
					took = append(took, d)
					mu.Unlock()
				}
			}
		})
	}
	require.Eventually(tb, func() bool { return open.Load() == int64(load.Tasks*watchers) }, time.Minute, 10*time.Millisecond, "of the streams %d are open", open.Load())
	f.opening = time.Since(began)
	f.idle = memoryOf(tb, cmd.Process.Pid, "VmRSS")
	_, err = io.WriteString(in, "go\n")
	require.NoError(tb, err)
	var done streamDone
	require.NoError(tb, said.Decode(&done), "%s", errOut.String())
	f.deliveries = done.Changes * watchers
	require.Eventually(tb, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(took) >= f.deliveries
	}, 30*time.Second, 10*time.Millisecond, "not everything was delivered")
	require.Zero(tb, ended.Load(), "streams ended")
	f.peak = memoryOf(tb, cmd.Process.Pid, "VmHWM")
	mu.Lock()
	defer mu.Unlock()
	require.Len(tb, took, f.deliveries, "each once")
	slices.Sort(took)
	f.p50, f.p99, f.worst = took[len(took)/2], took[len(took)*99/100], took[len(took)-1]
	f.changes = float64(done.Changes) / done.Took.Seconds()
	return f
}

// memoryOf reads a figure of a process's memory, in bytes; 0 where there is no /proc.
func memoryOf(tb testing.TB, pid int, name string) int {
	tb.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			kb, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			require.NoError(tb, err)
			return kb << 10
		}
	}
	return 0
}

// BenchmarkStreams is ten thousand open streams of one server, in which a thousand changes a second happen: each with a
// task of its own, ten of each task, and each with its own while all are woken every two seconds. It reports the server's memory, and how long it takes from before a change is
// committed until a client has it.
func BenchmarkStreams(b *testing.B) {
	for _, c := range []struct {
		name     string
		watchers int
		deaf     bool
	}{{"watchers=1", 1, false}, {"watchers=10", 10, false}, {"watchers=1,deaf", 1, true}} {
		for _, on := range []string{"sqlite", "postgres"} {
			b.Run(c.name+"/"+on, func(b *testing.B) {
				watchers := c.watchers
				load := streamLoad{Tasks: 10_000 / watchers, Callers: 100, Rate: 1_000, For: 10 * time.Second, Deaf: c.deaf}
				for range b.N {
					f := measureStreams(b, on, load, watchers)
					b.ReportMetric(float64(f.idle)/(1<<20), "idle-MiB")
					b.ReportMetric(float64(f.peak)/(1<<20), "peak-MiB")
					b.ReportMetric(float64(f.p50.Microseconds())/1000, "p50-ms")
					b.ReportMetric(float64(f.p99.Microseconds())/1000, "p99-ms")
					b.ReportMetric(float64(f.worst.Microseconds())/1000, "worst-ms")
					b.ReportMetric(f.changes, "changes/s")
					b.ReportMetric(float64(f.deliveries)/load.For.Seconds(), "deliveries/s")
					b.ReportMetric(f.opening.Seconds(), "opening-s")
				}
			})
		}
	}
}

// The same in small, which anybody's machine can do beside the other tests.
func TestManyStreams(t *testing.T) {
	t.Parallel()
	f := measureStreams(t, "sqlite", streamLoad{Tasks: 250, Callers: 10, Rate: 100, For: 2 * time.Second}, 2)
	t.Logf("%+v", f)
	require.Less(t, f.p99, 5*time.Second)
	require.Less(t, f.peak, 1<<30)
	require.Greater(t, f.changes, 20.0)
}
