// Package portstest has the conformance suite of every port: what an adapter must show to be one. Checks return errors
// and need nothing but the standard library, in the way of testing/fstest, so that a test can also prove that the suite
// finds a bad adapter.
//
// An adapter's test runs every check in a subtest with a fresh adapter:
//
//	for _, c := range portstest.StoreChecks() {
//		t.Run(c.Name, func(t *testing.T) {
//			if err := c.Run(t.Context(), open(t), traits); err != nil {
//				t.Fatal(err)
//			}
//		})
//	}
package portstest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// Traits are the honest differences between stores.
type Traits struct {
	TimePrecision time.Duration // times come back cut to it
}

// Check is one promise of a store.
type Check struct {
	Name string
	Run  func(ctx context.Context, s ports.Store, t Traits) error
}

// StoreChecks lists what every ports.Store must show. Each needs a fresh store.
func StoreChecks() []Check {
	var all []Check
	for _, part := range [][]Check{unitChecks, identityChecks, agentChecks, taskChecks, ledgerChecks, trustChecks, jobChecks, answerChecks, workflowChecks, billingChecks, statsChecks, raceChecks, secretChecks, callBackChecks, pushChecks, signinChecks} {
		all = append(all, part...)
	}
	return all
}

// Store runs all checks, each on a store of its own, and returns what failed.
func Store(ctx context.Context, open func() ports.Store, t Traits) error {
	var errs []error
	for _, c := range StoreChecks() {
		if err := run(ctx, c, open(), t); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.Name, err))
		}
	}
	return errors.Join(errs...)
}

// run turns a panic of a bad adapter into a failure of the check.
func run(ctx context.Context, c Check, s ports.Store, t Traits) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return c.Run(ctx, s, t)
}

// base is a moment with microseconds, so that a store that cuts deeper is found.
var base = time.Date(2026, 3, 6, 23, 59, 58, 123456000, time.UTC)

var counter atomic.Int64

// newID makes ids that sort in the order they are made.
func newID() string {
	return fmt.Sprintf("0198%04x-0000-7000-8000-%012x", counter.Load()>>32, counter.Add(1))
}

func failf(format string, args ...any) error { return fmt.Errorf(format, args...) }

// same compares by value; want is what should be.
func same(what string, got, want any) error {
	if reflect.DeepEqual(got, want) {
		return nil
	}
	return failf("%s:\n got  %+v\n want %+v", what, got, want)
}

func wantCode(what string, err error, code fault.Code) error {
	if fault.Has(err, code) {
		return nil
	}
	return failf("%s: want %s, got %v", what, code, err)
}

func wantErr(what string, err, want error) error {
	if errors.Is(err, want) {
		return nil
	}
	return failf("%s: want %v, got %v", what, want, err)
}

// first returns the first error there is.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

type fn = func(ctx context.Context, tx ports.Tx) error

func ptr[T any](v T) *T { return &v }

// Things to put into stores.

func user(email string) identity.User {
	return identity.User{ID: newID(), Email: email, PasswordHash: "hash", Role: identity.RoleUser, CreatedAt: base}
}

func agentOf(owner string) registry.Agent {
	return registry.Agent{
		ID: newID(), OwnerUserID: owner, Name: "Agent", Description: "Does things", Endpoint: "https://a.example.com", Status: registry.Online,
		Skills: []registry.Skill{}, Tags: []string{}, Metadata: json.RawMessage("{}"), Price: 1000, TrustScore: 47.5, CreatedAt: base, UpdatedAt: base,
	}
}

func taskFor(requester identity.User, a registry.Agent) (task.Task, []task.Event) {
	t, events, err := task.New(task.Draft{
		ID: newID(), Title: "Title", Description: "Do it", Input: json.RawMessage(`{"n":12345678901234567890}`),
		RequesterUserID: requester.ID, AgentID: a.ID, AgentOwnerID: a.OwnerUserID, Price: a.Price, At: base,
	})
	if err != nil {
		panic(err)
	}
	return t, events
}

// world is a requester with the initial credits, and an agent of someone else's.
type world struct {
	asker, owner identity.User
	agent        registry.Agent
}

func build(ctx context.Context, s ports.Store) (world, error) {
	w := world{asker: user("asker@example.com"), owner: user("owner@example.com")}
	w.agent = agentOf(w.owner.ID)
	return w, s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
		return first(
			tx.Users.Insert(ctx, w.asker), tx.Users.Insert(ctx, w.owner), tx.Agents.Insert(ctx, w.agent),
			tx.Ledger.Post(ctx, ledger.Grant(w.asker.ID, base).Stamp(newID)),
		)
	})
}

// with builds a world and goes on.
func with(do func(ctx context.Context, s ports.Store, t Traits, w world) error) func(context.Context, ports.Store, Traits) error {
	return func(ctx context.Context, s ports.Store, t Traits) error {
		w, err := build(ctx, s)
		if err != nil {
			return failf("build: %w", err)
		}
		return do(ctx, s, t, w)
	}
}

func insertTask(t task.Task, events []task.Event) fn {
	return func(ctx context.Context, tx ports.Tx) error { return tx.Tasks.Insert(ctx, t, events) }
}
