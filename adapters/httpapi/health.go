package httpapi

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
)

type healthJSON struct {
	Status    string    `json:"status" enum:"ok"`
	Timestamp time.Time `json:"timestamp"`
}

func (s *server) mountHealth() {
	ok := func(context.Context, *struct{}) (one[healthJSON], error) {
		return answer(healthJSON{"ok", s.engine.Now()}, nil)
	}
	register(s, route{
		method: "GET", path: "/api/v1/health", access: public,
		id: "get-health", tag: tagHealth, summary: "Health check", status: http.StatusOK,
	}, ok)
	register(s, route{
		method: "GET", path: "/livez", access: public,
		id: "get-livez", tag: tagHealth, summary: "Whether the process lives", status: http.StatusOK,
		text: "It asks nothing of anything else. A process that does not answer wants a restart.",
	}, ok)
	register(s, route{
		method: "GET", path: "/readyz", access: public,
		id: "get-readyz", tag: tagHealth, summary: "Whether the server can serve", status: http.StatusOK,
		text: "It asks the store. A server that is not ready wants no requests for now.", errors: []fault.Code{fault.CodeUnavailable},
	}, func(ctx context.Context, in *struct{}) (one[healthJSON], error) {
		if err := s.ready(ctx); err != nil {
			return one[healthJSON]{}, err
		}
		return ok(ctx, in)
	})
}

// readyTimeout bounds how long the checks may take.
const readyTimeout = 3 * time.Second

// ready asks everything that must work.
func (s *server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := s.engine.Ready(ctx); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(s.opt.ReadyChecks)) {
		if err := s.opt.ReadyChecks[name](ctx); err != nil {
			s.log.LogAttrs(ctx, slog.LevelWarn, "not ready", slog.String("check", name), slog.String("error", err.Error()))
			return fault.New(fault.Unavailable, fault.CodeUnavailable, "%s does not work now", name).With(name, "down")
		}
	}
	return nil
}
