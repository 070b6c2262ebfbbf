package service_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/examples/service"
)

// An account that was made before a restart is there after it, and the API, the gateway and the pages answer.
func TestService(t *testing.T) {
	file := filepath.Join(t.TempDir(), "nexus.db")
	for _, path := range []string{"/auth/signup", "/auth/login"} {
		ctx, stop := context.WithCancel(t.Context())
		s, err := service.Open(ctx, file, "http://nexus.example")
		require.NoError(t, err)
		worked := make(chan error, 1)
		go func() { worked <- s.Work(ctx, time.Second) }()
		mux := http.NewServeMux() // the host's own
		mux.Handle("/", s.Handler)
		for path, status := range map[string]int{"/api/v1/health": 200, "/.well-known/agent-card.json": 200, "/marketplace": 200, "/docs": 200, "/api/v1/agents": 401} {
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, http.NoBody))
			require.Equal(t, status, w.Code, path)
		}
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(`{"email":"me@example.com","password":"long enough"}`))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		require.Less(t, w.Code, 300, w.Body)
		stop()
		require.NoError(t, <-worked)
		require.NoError(t, s.Close())
	}
}
