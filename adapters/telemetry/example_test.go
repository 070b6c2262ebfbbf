package telemetry_test

import (
	"crypto/rand"
	"log"
	"net/http"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"

	"github.com/nexus-protocol/nexus/adapters/httpapi"
	"github.com/nexus-protocol/nexus/adapters/inprocess"
	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/adapters/telemetry"
	"github.com/nexus-protocol/nexus/app"
)

// A host gives its own provider of traces, and serves the metrics where it likes.
func Example() {
	tracing := telemetry.NewTracing(sdk.NewTracerProvider())
	store := memory.New()
	metrics := telemetry.NewMetrics(telemetry.MetricsOptions{Stats: store.Read().Stats})
	engine, err := app.New(app.Config{
		Store: store, Queue: inprocess.New(store, time.Now, inprocess.Options{}), Agents: telemetry.Agents(memory.NewAgents(), tracing, metrics),
		Guard: memory.OpenGuard{}, Schema: memory.Schemas{}, Hasher: memory.NewHasher(), Limits: memory.NewLimiter(time.Now),
		Now: time.Now, NewID: memory.NewID, Random: rand.Reader, Tracer: tracing, Observe: metrics,
	})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", httpapi.New(engine, httpapi.Options{Observe: telemetry.Requests(tracing, metrics)}))
	go func() { log.Print(http.ListenAndServe("127.0.0.1:9464", metrics.Handler(telemetry.Door{Local: true}))) }()
	log.Print(http.ListenAndServe("127.0.0.1:8080", mux))
}
