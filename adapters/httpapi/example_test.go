package httpapi_test

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/nexus-protocol/nexus/adapters/httpapi"
	"github.com/nexus-protocol/nexus/adapters/inprocess"
	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/app"
)

func Example() {
	store := memory.New()
	engine, err := app.New(app.Config{
		Store: store, Queue: inprocess.New(store, time.Now, inprocess.Options{}), Agents: memory.NewAgents(), Guard: memory.OpenGuard{},
		Schema: memory.Schemas{}, Hasher: memory.NewHasher(), Limits: memory.NewLimiter(time.Now), Now: time.Now, NewID: memory.NewID, Random: rand.Reader,
	})
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux() // the host's own
	mux.Handle("/", httpapi.New(engine, httpapi.Options{RateLimit: true}))

	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/billing/balance", nil))
	fmt.Println(w.Code, w.Body)
	// Output:
	// 401 {"error":{"code":"UNAUTHORIZED","message":"a valid credential is needed: log in, or send Authorization: Bearer nxk_…"}}
}
