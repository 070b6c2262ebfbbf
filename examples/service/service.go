// Package service is a program of one's own with the engine inside that lasts: its state in a SQLite file, agents called
// over HTTP, and the API, the A2A gateway and the pages for people among the host's own routes.
package service

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/nexus-protocol/nexus/adapters/a2aclient"
	"github.com/nexus-protocol/nexus/adapters/a2agateway"
	"github.com/nexus-protocol/nexus/adapters/argon2hasher"
	"github.com/nexus-protocol/nexus/adapters/dashboard"
	"github.com/nexus-protocol/nexus/adapters/httpapi"
	"github.com/nexus-protocol/nexus/adapters/inprocess"
	"github.com/nexus-protocol/nexus/adapters/jsonschemacheck"
	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/adapters/sqlite"
	"github.com/nexus-protocol/nexus/adapters/ssrfguard"
	"github.com/nexus-protocol/nexus/app"
)

// Service is the engine and what it is reached by.
type Service struct {
	Engine  *app.Engine
	Handler http.Handler
	store   *sqlite.Store
	unlock  func()
}

// Open opens the file, makes it if need be, and wires the engine. publicURL is how the service is reached.
func Open(ctx context.Context, file, publicURL string) (*Service, error) {
	unlock, err := sqlite.LockProcess(file) // one process at a time has the file
	if err != nil {
		return nil, err
	}
	s := &Service{unlock: unlock}
	if err := sqlite.Migrate(ctx, file); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if s.store, err = sqlite.Open(ctx, file); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	guard := ssrfguard.New(false) // no agents at private addresses
	s.Engine, err = app.New(app.Config{
		Store: s.store, Queue: inprocess.New(s.store, time.Now, inprocess.Options{}), Events: inprocess.NewEvents(),
		Agents: a2aclient.New(guard.Transport(), ssrfguard.ErrProhibited), Guard: guard, Schema: jsonschemacheck.New(),
		Hasher: argon2hasher.New(), Limits: memory.NewLimiter(time.Now),
		Now: time.Now, NewID: func() string { return uuid.Must(uuid.NewV7()).String() }, Random: rand.Reader,
		PublicURL: publicURL, Sole: true,
	})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	var open []httpapi.OpenRoute
	for _, r := range a2agateway.New(s.Engine, a2agateway.Options{PublicURL: publicURL}).Routes() {
		open = append(open, httpapi.OpenRoute(r))
	}
	s.Handler = httpapi.New(s.Engine, httpapi.Options{
		PublicURL: publicURL, RateLimit: true, Open: open,
		Pages: dashboard.New(s.Engine, dashboard.Options{PublicURL: publicURL, RateLimit: true}), PagesAt: dashboard.Patterns(),
	})
	return s, nil
}

// Work does the engine's work until ctx ends, and then finishes what is under way, for at most the grace.
func (s *Service) Work(ctx context.Context, grace time.Duration) error {
	return s.Engine.Worker.Run(ctx, grace)
}

// Close closes the file, once Work has returned and nothing is served any more.
func (s *Service) Close() (err error) {
	if s.store != nil {
		err = s.store.Close()
	}
	s.unlock()
	return err
}
