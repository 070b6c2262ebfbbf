package unittest_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nexus-protocol/nexus/adapters/inprocess"
	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/examples/unittest"
	"github.com/nexus-protocol/nexus/ports"
)

// start runs an engine for as long as the test, with one agent that translates in the way that is given.
func start(t *testing.T, translate memory.AgentFunc) (*app.Engine, identity.Caller) {
	t.Helper()
	store, agents := memory.New(), memory.NewAgents()
	engine, err := app.New(app.Config{
		Store: store, Queue: inprocess.New(store, time.Now, inprocess.Options{}), Agents: agents, Guard: memory.OpenGuard{}, Schema: memory.Schemas{},
		Hasher: memory.NewHasher(), Limits: memory.NewLimiter(time.Now), Events: inprocess.NewEvents(), Now: time.Now, NewID: memory.NewID, Random: rand.Reader,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- engine.Worker.Run(ctx, time.Second) }()
	t.Cleanup(func() { stop(); <-done })

	agents.Handle("http://translator", translate)
	u, err := engine.Identity.SignUp(ctx, app.Credentials{Email: "me@example.com", Password: "long enough"})
	if err != nil {
		t.Fatal(err)
	}
	me := identity.SessionCaller(u, "")
	name, endpoint := "Translator", "http://translator"
	_, err = engine.Agents.Register(ctx, me, registry.Profile{
		Name: &name, Endpoint: &endpoint, Skills: &[]registry.Skill{{ID: "translate", Name: "Translate"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return engine, me
}

func TestTranslate(t *testing.T) {
	engine, me := start(t, func(context.Context, ports.Call) (ports.Answer, error) {
		return ports.Answer{State: ports.AnswerDone, Artifacts: []task.Artifact{
			{ID: "1", Parts: []task.Part{{Type: task.PartData, Data: json.RawMessage(`{"text":"Guten Tag"}`)}}},
		}}, nil
	})
	got, err := unittest.Translate(t.Context(), engine, me, "Good day")
	if got != "Guten Tag" || err != nil {
		t.Fatal(got, err)
	}
}

// Five minutes pass in no time, as the engine has no clock but the one that it is given.
func TestAnAgentThatSaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine, me := start(t, func(ctx context.Context, _ ports.Call) (ports.Answer, error) {
			<-ctx.Done()
			return ports.Answer{}, ctx.Err()
		})
		began := time.Now()
		_, err := unittest.Translate(t.Context(), engine, me, "Good day")
		if err == nil || err.Error() != "failed: TIMEOUT" || time.Since(began) < 5*time.Minute {
			t.Fatal(err, time.Since(began))
		}
		time.Sleep(time.Minute) // what looked after the watcher ends with its next look
	})
}
