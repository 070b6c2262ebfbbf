package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/examples/echo"
	"github.com/nexus-protocol/nexus/examples/worker"
)

// demoState is what the demo remembers between starts, in the data directory.
type demoState struct {
	Email    string `json:"email"`
	Password string `json:"password"`
	Key      string `json:"key"`
	Desk     string `json:"deskAgentId"`

	OwnerEmail string            `json:"ownerEmail"`
	OwnerKey   string            `json:"ownerKey"`
	Agents     map[string]string `json:"agents"` // name → id
}

// demoAgents are the bundled agents: where each tries to listen, and its price.
var demoAgents = []struct {
	name, description, addr string
	price                   credits.Amount
	handler                 func(baseURL string) http.Handler
	skills                  []registry.Skill
}{
	{
		"Echo", "Answers with what it is given.", "127.0.0.1:8091", credits.Whole(10), echo.Handler,
		[]registry.Skill{{ID: "echo", Name: "Echo", Description: "Gives back what it gets.", Tags: []string{"demo", "text"}}},
	},
	{
		"Worker", "Works for some seconds; can be told to fail or to stall.", "127.0.0.1:8092", credits.Whole(25),
		func(baseURL string) http.Handler { return worker.New().Handler(baseURL) },
		[]registry.Skill{{ID: "work", Name: "Work", Description: "Works through some steps and reports on them.", Tags: []string{"demo", "slow"}}},
	},
}

// serveDemoAgents serves the bundled agents until the process ends, and tells where each listens.
func serveDemoAgents(e *env) (endpoints map[string]string, err error) {
	endpoints = map[string]string{}
	for _, a := range demoAgents {
		if endpoints[a.name], err = serveAgent(e, a.addr, a.handler); err != nil {
			return nil, err
		}
	}
	return endpoints, nil
}

// runDemo registers the bundled agents under an account of their own, makes a second account that can give them tasks, and
// prints how to try it.
func runDemo(e *env, engine *app.Engine, base string, endpoints map[string]string) error {
	if err := os.MkdirAll(e.cli.DataDir, 0o700); err != nil {
		return err
	}
	path := filepath.Join(e.cli.DataDir, "demo.json")
	state, err := loadDemo(path)
	if err != nil {
		return err
	}
	asker, err := demoUser(e, engine, state.Email, state.Password)
	if err != nil {
		return err
	}
	owner, err := demoUser(e, engine, state.OwnerEmail, state.Password)
	if err != nil {
		return err
	}
	for _, a := range demoAgents {
		endpoint := endpoints[a.name]
		state.Agents[a.name], err = demoAgent(e, engine, owner, state.Agents[a.name], registry.Profile{
			Name: &a.name, Description: &a.description, Endpoint: &endpoint, Price: &a.price, Skills: &a.skills, Tags: &[]string{"demo"},
		})
		if err != nil {
			return err
		}
	}
	echoAgent, err := engine.Agents.Get(e, owner, state.Agents["Echo"])
	if err != nil {
		return err
	}
	name, description, free := "Front desk", "The demo account's own agent; API keys belong to agents.", credits.Amount(0)
	state.Desk, err = demoAgent(e, engine, asker, state.Desk, registry.Profile{
		Name: &name, Description: &description, Endpoint: &echoAgent.Endpoint, Price: &free, Tags: &[]string{"desk"},
	})
	if err != nil {
		return err
	}
	for _, k := range []struct {
		key    *string
		caller identity.Caller
		agent  string
	}{{&state.Key, asker, state.Desk}, {&state.OwnerKey, owner, echoAgent.ID}} {
		if _, err := engine.Identity.ByKey(e, *k.key); err == nil {
			continue
		}
		key, err := engine.Identity.CreateKey(e, k.caller, k.agent, identity.NewKey{Name: "Demo", Scopes: []string{"*"}})
		if err != nil {
			return err
		}
		*k.key = string(key.Secret)
	}
	if err := saveDemo(path, state); err != nil {
		return err
	}
	fmt.Fprintf(e.out, demoText, base, state.Email, state.Password, state.Key, state.OwnerKey, base, echoAgent.ID, base, base, base, base, echoAgent.ID, base, state.Agents["Worker"])
	return nil
}

const demoText = `
NEXUS is running at %[1]s
Open it in a browser and log in:

  account   %[2]s
  password  %[3]s

Paste this to try it. The first gives a task to the echo agent for 10 credits, the second reads its result:

  export NEXUS_URL=%[1]s NEXUS_KEY=%[4]s OWNER_KEY=%[5]s ECHO_AGENT=%[7]s WORKER_AGENT=%[14]s
  TASK=$(curl -s %[6]s/api/v1/tasks -H "Authorization: Bearer $NEXUS_KEY" -H 'Content-Type: application/json' -d '{"assignedAgentId":"%[7]s","title":"Say hello","input":{"text":"hello"}}' | tee /dev/stderr | sed -E 's/^\{"data":\{"id":"([^"]+)".*/\1/')
  curl -s %[8]s/api/v1/tasks/$TASK -H "Authorization: Bearer $NEXUS_KEY"

Then look at the money of the one who asked and of the agent's owner, and at the agent's trust:

  curl -s %[9]s/api/v1/billing/balance -H "Authorization: Bearer $NEXUS_KEY"
  curl -s %[10]s/api/v1/billing/balance -H "Authorization: Bearer $OWNER_KEY"
  curl -s %[11]s/api/v1/trust/%[12]s -H "Authorization: Bearer $NEXUS_KEY"

How to go on: %[13]s/docs

`

func loadDemo(path string) (demoState, error) {
	s := demoState{Email: "demo@nexus.example", OwnerEmail: "agents@nexus.example", Agents: map[string]string{}}
	b, err := os.ReadFile(path)
	switch {
	case err == nil:
		return s, json.Unmarshal(b, &s)
	case !errors.Is(err, fs.ErrNotExist):
		return s, err
	}
	raw := make([]byte, 12)
	_, _ = rand.Read(raw) // it never fails
	s.Password = base64.RawURLEncoding.EncodeToString(raw)
	return s, saveDemo(path, s) // before the accounts are made, so that a crash does not lock them
}

func saveDemo(path string, s demoState) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}

func demoUser(ctx context.Context, engine *app.Engine, email, password string) (identity.Caller, error) {
	u, err := engine.Identity.UserByEmail(ctx, email)
	if fault.Has(err, fault.CodeNotFound) {
		u, err = engine.Identity.CreateUser(ctx, app.Credentials{Email: email, Password: password}, identity.RoleUser)
	}
	return identity.SessionCaller(u, ""), err
}

// demoAgent makes the agent, or moves the one that there is to where it listens now.
func demoAgent(ctx context.Context, engine *app.Engine, owner identity.Caller, id string, p registry.Profile) (string, error) {
	_, err := engine.Agents.Change(ctx, owner, id, registry.Profile{Endpoint: p.Endpoint})
	if fault.Has(err, fault.CodeAgentNotFound) {
		a, err := engine.Agents.Register(ctx, owner, p)
		return a.ID, err
	}
	return id, err
}

// serveAgent serves an agent on the address, or on any free port if that one is taken, until ctx ends.
func serveAgent(ctx context.Context, addr string, handler func(baseURL string) http.Handler) (endpoint string, err error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return "", err
		}
	}
	endpoint = "http://" + l.Addr().String()
	server := &http.Server{Handler: handler(endpoint), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(l) }() // it ends with the server
	context.AfterFunc(ctx, func() { _ = server.Close() })
	return endpoint, nil
}
