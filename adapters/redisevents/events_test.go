package redisevents_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/nexus-protocol/nexus/adapters/redisevents"
	"github.com/nexus-protocol/nexus/adapters/redistest"
	"github.com/nexus-protocol/nexus/ports"
	"github.com/nexus-protocol/nexus/ports/portstest"
)

func TestMain(m *testing.M) { os.Exit(redistest.Main(m)) }

var processes atomic.Int64

// process is an instance as each process has one, until the test ends.
func process(t *testing.T, redisURL string, opt redisevents.Options) *redisevents.Events {
	t.Helper()
	o, err := redis.ParseURL(redisURL)
	require.NoError(t, err)
	client := redis.NewClient(o)
	e := redisevents.New(client, fmt.Sprint("process ", processes.Add(1)), opt)
	ctx, stop := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- e.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-over)
		require.NoError(t, client.Close())
	})
	return e
}

func hearing(t *testing.T, all ...*redisevents.Events) {
	t.Helper()
	for _, e := range all {
		require.Eventually(t, e.Hearing, 10*time.Second, time.Millisecond)
	}
}

func woken(s ports.Subscription, within time.Duration) bool {
	select {
	case <-s.Wake():
		return true
	default:
	}
	select {
	case <-s.Wake():
		return true
	case <-time.After(within):
		return false
	}
}

// settle takes wakes out until there are no more: some come late, or twice.
func settle(subs ...ports.Subscription) {
	for _, s := range subs {
		for woken(s, 100*time.Millisecond) {
		}
	}
}

// between puts a proxy before the server.
func between(t *testing.T, target string) (string, *toxiproxy.Proxy) {
	t.Helper()
	u, err := url.Parse(target)
	require.NoError(t, err)
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	p := toxiproxy.NewProxy(api, "redis", "127.0.0.1:0", u.Host)
	require.NoError(t, p.Start())
	t.Cleanup(p.Stop)
	u.Host = p.Listen
	return u.String(), p
}

func TestConformance(t *testing.T) {
	for _, c := range portstest.EventsChecks() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			url := redistest.URL(t)
			require.NoError(t, c.Run(t.Context(), func() ports.Events {
				e := process(t, url, redisevents.Options{})
				hearing(t, e)
				return e
			}, portstest.EventsTraits{Processes: true}))
		})
	}
}

// A process that was cut off hears what was said meanwhile: its subscriptions are woken when it is back, whatever was said.
func TestALostConnectionIsAWakeForAll(t *testing.T) {
	t.Parallel()
	real := redistest.URL(t)
	cut, proxy := between(t, real)
	never := redisevents.Options{DeafEvery: time.Hour}
	far, near := process(t, cut, never), process(t, real, never)
	hearing(t, far, near)
	one, two := far.Subscribe("one"), far.Subscribe("two")
	back := near.Subscribe("back")
	for range 2 {
		settle(one, two, back)
		proxy.Stop()
		require.Eventually(t, func() bool { return !far.Hearing() }, 5*time.Second, time.Millisecond)
		near.Publish("one")
		far.Publish("back")
		require.False(t, woken(one, 200*time.Millisecond))
		require.False(t, woken(back, 0))
		far.Publish("two")
		require.True(t, woken(two, 0), "the process itself needs no Redis")
		require.NoError(t, proxy.Start())
		require.True(t, woken(one, 10*time.Second), "something was missed")
		require.True(t, woken(two, 10*time.Second), "whatever it was")
		require.True(t, woken(back, 10*time.Second), "what could not be said is said later")
		hearing(t, far)
		settle(one)
		near.Publish("one")
		require.True(t, woken(one, 5*time.Second))
	}
}

// A connection that nothing comes through, and that nobody ends, is found out.
func TestAConnectionThatIsSilentIsGivenUp(t *testing.T) {
	t.Parallel()
	base, stop, err := redistest.Start()
	require.NoError(t, err)
	t.Cleanup(stop)
	cut, proxy := between(t, base+"/0")
	e := process(t, cut, redisevents.Options{PingEvery: 100 * time.Millisecond, DeafEvery: time.Hour})
	hearing(t, e)
	time.Sleep(500 * time.Millisecond)
	require.True(t, e.Hearing(), "a quiet one is kept")
	_, err = proxy.Toxics.AddToxicJson(toxic(t, "timeout", "downstream", map[string]any{"timeout": 0}))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return !e.Hearing() }, 5*time.Second, time.Millisecond)
}

// While other processes cannot be heard, readers are told to look by themselves.
func TestTheDeafLook(t *testing.T) {
	t.Parallel()
	e := process(t, "redis://127.0.0.1:1/0", redisevents.Options{DeafEvery: 20 * time.Millisecond})
	s := e.Subscribe("s")
	for range 3 {
		require.True(t, woken(s, 5*time.Second))
	}
	heard := process(t, redistest.URL(t), redisevents.Options{DeafEvery: 20 * time.Millisecond})
	hearing(t, heard)
	s = heard.Subscribe("s")
	settle(s)
	require.False(t, woken(s, 200*time.Millisecond), "and otherwise they are not")
}

// More names than are kept become one word for everybody.
func TestTooManyNamesWakeEverybody(t *testing.T) {
	t.Parallel()
	real := redistest.URL(t)
	cut, proxy := between(t, real)
	never := redisevents.Options{DeafEvery: time.Hour}
	far, near := process(t, cut, never), process(t, real, never)
	hearing(t, far, near)
	s := near.Subscribe("other")
	settle(s)
	proxy.Stop()
	began := time.Now()
	for i := range 50_000 {
		far.Publish(fmt.Sprint("stream ", i))
	}
	require.Less(t, time.Since(began), 5*time.Second, "nobody waits for a Redis that is away")
	require.False(t, woken(s, 50*time.Millisecond))
	require.NoError(t, proxy.Start())
	require.True(t, woken(s, 10*time.Second))
}

// What was published right before a stop is still said.
func TestAStopSaysWhatIsLeft(t *testing.T) {
	t.Parallel()
	url := redistest.URL(t)
	near := process(t, url, redisevents.Options{})
	hearing(t, near)
	s := near.Subscribe("last")
	settle(s)
	o, err := redis.ParseURL(url)
	require.NoError(t, err)
	client := redis.NewClient(o)
	defer func() { require.NoError(t, client.Close()) }()
	e := redisevents.New(client, "ends", redisevents.Options{})
	ctx, stop := context.WithCancel(t.Context())
	stop()
	e.Publish("last")
	require.NoError(t, e.Run(ctx))
	require.True(t, woken(s, 5*time.Second))
}

// What a newer program says, or anybody else, is at worst a reason to look.
func TestAMessageThatNobodyUnderstands(t *testing.T) {
	t.Parallel()
	url := redistest.URL(t)
	e := process(t, url, redisevents.Options{Channel: t.Name()})
	hearing(t, e)
	s := e.Subscribe("s")
	settle(s)
	o, err := redis.ParseURL(url)
	require.NoError(t, err)
	client := redis.NewClient(o)
	defer func() { require.NoError(t, client.Close()) }()
	for _, m := range []string{"", "{", `{"streams":7}`, `[]`, "\xff"} {
		require.NoError(t, client.Publish(t.Context(), t.Name(), m).Err())
		require.True(t, woken(s, 5*time.Second), m)
		settle(s)
	}
}

// A stop ends every goroutine, with Redis there and without.
func TestNothingIsLeftRunning(t *testing.T) {
	for name, url := range map[string]string{"there": redistest.URL(t), "away": "redis://127.0.0.1:1/0"} {
		t.Run(name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			o, err := redis.ParseURL(url)
			require.NoError(t, err)
			client := redis.NewClient(o)
			e := redisevents.New(client, "a", redisevents.Options{})
			ctx, stop := context.WithCancel(t.Context())
			over := make(chan error, 1)
			go func() { over <- e.Run(ctx) }()
			e.Publish("a")
			if name == "there" {
				hearing(t, e)
			} else {
				time.Sleep(100 * time.Millisecond)
			}
			began := time.Now()
			stop()
			require.NoError(t, <-over)
			require.Less(t, time.Since(began), 5*time.Second)
			require.NoError(t, client.Close())
			goleak.VerifyNone(t, before)
		})
	}
}

func toxic(t *testing.T, kind, stream string, attributes map[string]any) io.Reader {
	t.Helper()
	b, err := json.Marshal(map[string]any{"name": kind, "type": kind, "stream": stream, "attributes": attributes})
	require.NoError(t, err)
	return bytes.NewReader(b)
}

// BenchmarkPublish is what a publication costs the one who publishes, with ten thousand subscriptions.
func BenchmarkPublish(b *testing.B) {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer func() { _ = client.Close() }()
	e := redisevents.New(client, "a", redisevents.Options{})
	streams := make([]string, 10_000)
	for i := range streams {
		streams[i] = fmt.Sprintf("0198a1b2-0000-7000-8000-%012x", i)
		e.Subscribe(streams[i])
	}
	for i := 0; b.Loop(); i++ {
		e.Publish(streams[i%len(streams)])
	}
}
