package main

import (
	"context"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/a2aproject/a2a-go/v2/a2a"
	"github.com/a2aproject/a2a-go/v2/a2acompat/a2av0"
	"github.com/a2aproject/a2a-go/v2/a2asrv"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/examples/echo"
)

// instant is an agent on a2a-go that answers at once.
type instant struct{}

// Execute implements a2asrv.AgentExecutor.
func (instant) Execute(_ context.Context, in *a2asrv.ExecutorContext) iter.Seq2[a2a.Event, error] {
	return func(yield func(a2a.Event, error) bool) {
		if yield(a2a.NewSubmittedTask(in, in.Message), nil) {
			yield(a2a.NewStatusUpdateEvent(in, a2a.TaskStateCompleted, nil), nil)
		}
	}
}

// Cancel implements a2asrv.AgentExecutor.
func (instant) Cancel(_ context.Context, in *a2asrv.ExecutorContext) iter.Seq2[a2a.Event, error] {
	return func(yield func(a2a.Event, error) bool) {
		yield(a2a.NewStatusUpdateEvent(in, a2a.TaskStateCanceled, nil), nil)
	}
}

// BenchmarkGateway is message/send of 0.3 until its answer tells that the task is completed, by 16 clients: at the built
// server's gateway, which keeps the task on disk and calls an agent over HTTP for it, and, in turns in the same run, at
// a2a-go's default server, which keeps it in memory and has the agent in its own process.
func BenchmarkGateway(b *testing.B) {
	const clients = 16
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 64
	s := newServer(b)
	s.start()
	agent := httptest.NewServer(nil)
	agent.Config.Handler = echo.Handler(agent.URL)
	b.Cleanup(agent.Close)
	id := s.register(s.signUp("owner@example.com"), agent.URL, 0)
	other := httptest.NewServer(a2av0.NewJSONRPCHandler(a2asrv.NewHandler(instant{}, a2asrv.WithLogger(slog.New(slog.DiscardHandler)))))
	b.Cleanup(other.Close)
	doors := []string{s.url() + "/api/v1/a2a/agents/" + id, other.URL}
	send := func(url string) error {
		body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"message/send","params":{"message":{"kind":"message","messageId":%q,"role":"user","parts":[{"kind":"text","text":"hello"}]}}}`, memory.NewID())
		res, err := http.Post(url, "application/json", strings.NewReader(body))
		if err != nil {
			return err
		}
		defer func() { _ = res.Body.Close() }()
		answer, err := io.ReadAll(res.Body)
		if err == nil && !strings.Contains(string(answer), `"completed"`) {
			err = fmt.Errorf("%s", answer)
		}
		return err
	}
	for b.Loop() {
		rates := [2][]float64{}
		var took []time.Duration
		for range 3 {
			for i, url := range doors {
				var mu sync.Mutex
				var all sync.WaitGroup
				n := 0
				began := time.Now()
				for range clients {
					all.Go(func() {
						for time.Since(began) < 2*time.Second {
							start := time.Now()
							if err := send(url); err != nil {
								b.Error(err)
								return
							}
							mu.Lock()
							n++
							if i == 0 {
								took = append(took, time.Since(start))
							}
							mu.Unlock()
						}
					})
				}
				all.Wait()
				require.False(b, b.Failed())
				rates[i] = append(rates[i], float64(n)/time.Since(began).Seconds())
			}
		}
		slices.Sort(rates[0])
		slices.Sort(rates[1])
		slices.Sort(took)
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(rates[0][1], "gateway/s")
		b.ReportMetric(rates[1][1], "a2a-go/s")
		b.ReportMetric(rates[0][1]/rates[1][1], "ratio")
		b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	}
}
