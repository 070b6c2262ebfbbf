// Command embed is a service of one's own with the engine inside: no server, no file, no library beyond the standard one.
package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/nexus-protocol/nexus/adapters/inprocess"
	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

func main() {
	store, agents := memory.New(), memory.NewAgents()
	engine := must(app.New(app.Config{
		Store: store, Queue: inprocess.New(store, time.Now, inprocess.Options{}), Agents: agents, Guard: memory.OpenGuard{}, Schema: memory.Schemas{},
		Hasher: memory.NewHasher(), Limits: memory.NewLimiter(time.Now), Events: inprocess.NewEvents(), Now: time.Now, NewID: memory.NewID, Random: rand.Reader,
	}))
	ctx := context.Background()
	go func() { _ = engine.Worker.Run(ctx, time.Second) }() // it ends with the program

	agents.Handle("http://greeter", func(_ context.Context, c ports.Call) (ports.Answer, error) {
		return ports.Answer{State: ports.AnswerDone, Artifacts: []task.Artifact{{ID: "1", Parts: []task.Part{task.TextPart("Hello from " + c.TaskID)}}}}, nil
	})
	me := identity.SessionCaller(must(engine.Identity.SignUp(ctx, app.Credentials{Email: "me@example.com", Password: "long enough"})), "")
	name, endpoint := "Greeter", "http://greeter"
	greeter := must(engine.Agents.Register(ctx, me, registry.Profile{Name: &name, Endpoint: &endpoint}))
	t := must(engine.Tasks.Create(ctx, me, app.CreateTask{AgentID: greeter.ID, Title: "Say hello"}))
	for ; !t.Status.Ended(); t = must(engine.Tasks.Get(ctx, me, t.ID)) {
		time.Sleep(time.Millisecond)
	}
	fmt.Println(t.Status, string(t.Output))
}
