package a2aclient_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/a2aproject/a2a-go/v2/a2a"
	sdk "github.com/a2aproject/a2a-go/v2/a2aclient"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/a2aclient"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// BenchmarkForward is one message to an agent that answers at once, of 16 clients with 64 idle connections, beside the
// same by the client of a2a-go in the same run, in turns.
func BenchmarkForward(b *testing.B) {
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var req struct{ ID json.RawMessage }
		body, _ := io.ReadAll(r.Body) // what is wrong with it shows
		_ = json.Unmarshal(body, &req)
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"task":{"id":"r","contextId":"c","status":{"state":"TASK_STATE_COMPLETED"},"artifacts":[{"artifactId":"a","parts":[{"text":"hello"},{"data":{"n":1}}]}]}}}`, req.ID)
	}))
	b.Cleanup(agent.Close)
	card := &a2a.AgentCard{SupportedInterfaces: []*a2a.AgentInterface{a2a.NewAgentInterface(agent.URL, a2a.TransportProtocolJSONRPC)}}
	raw, err := json.Marshal(card)
	require.NoError(b, err)
	transport := func() *http.Transport { return &http.Transport{MaxIdleConns: 1024, MaxIdleConnsPerHost: 64} }
	ours := a2aclient.New(transport(), nil)
	theirs, err := sdk.NewFromCard(b.Context(), card, sdk.WithJSONRPCTransport(&http.Client{Transport: transport()}))
	require.NoError(b, err)
	in := ports.Call{Endpoint: agent.URL, Card: raw, TaskID: "t", Message: task.Message{ID: "m", Role: task.RoleUser, Parts: []task.Part{
		task.TextPart("do it"), {Type: task.PartData, Data: json.RawMessage(`{"n":1}`)},
	}}}
	call := map[bool]func() error{
		true: func() error {
			a, err := ours.Send(context.Background(), in)
			if err == nil && len(a.Artifacts) != 1 {
				err = fmt.Errorf("%+v", a)
			}
			return err
		},
		false: func() error {
			m := a2a.NewMessage(a2a.MessageRoleUser, a2a.NewTextPart("do it"), a2a.NewDataPart(map[string]any{"n": 1}))
			_, err := theirs.SendMessage(context.Background(), &a2a.SendMessageRequest{Message: m})
			return err
		},
	}
	took := map[bool]time.Duration{}
	b.ResetTimer()
	for done := 0; done < b.N; {
		n := min(1000, b.N-done)
		for _, mine := range []bool{true, false} {
			var next atomic.Int64
			var wg sync.WaitGroup
			began := time.Now()
			for range 16 {
				wg.Go(func() {
					for next.Add(1) <= int64(n) {
						if err := call[mine](); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			took[mine] += time.Since(began)
		}
		done += n
	}
	b.ReportMetric(float64(b.N)/took[true].Seconds(), "calls/s")
	b.ReportMetric(float64(b.N)/took[false].Seconds(), "a2a-go/s")
	b.ReportMetric(took[false].Seconds()/took[true].Seconds(), "of-a2a-go")
}
