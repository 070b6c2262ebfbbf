package memory_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/ports"
	"github.com/nexus-protocol/nexus/ports/portstest"
)

func TestAgentCaller(t *testing.T) {
	agents := memory.NewAgents()
	n := 0
	host := func(agent portstest.Agent) (string, json.RawMessage) {
		n++
		endpoint := fmt.Sprintf("memory:%d", n)
		var ended sync.Map
		agents.Handle(endpoint, func(ctx context.Context, c ports.Call) (ports.Answer, error) {
			if a, ok := ended.Load(c.RemoteTaskID); ok && c.Message.ID == "" {
				return a.(ports.Answer), nil
			}
			c.RemoteTaskID, c.ContextID = "r-"+c.TaskID, "c-"+c.TaskID
			var all ports.Answer
			var deaf error
			a := agent(ctx, c, func(news ports.Answer) {
				news.State, news.RemoteTaskID, news.ContextID = ports.AnswerWorking, c.RemoteTaskID, c.ContextID
				all.Messages, all.Artifacts = append(all.Messages, news.Messages...), append(all.Artifacts, news.Artifacts...)
				if deaf == nil && c.Hear != nil {
					deaf = c.Hear(ctx, news)
				}
			})
			a.RemoteTaskID, a.ContextID = c.RemoteTaskID, c.ContextID
			a.Messages, a.Artifacts = append(all.Messages, a.Messages...), append(all.Artifacts, a.Artifacts...)
			ended.Store(c.RemoteTaskID, a)
			if deaf == nil {
				deaf = ctx.Err()
			}
			return a, deaf
		})
		return endpoint, nil
	}
	require.NoError(t, portstest.AgentCaller(t.Context(), agents, host, portstest.CallerTraits{Streams: true, Nowhere: "memory:nowhere"}))
}
