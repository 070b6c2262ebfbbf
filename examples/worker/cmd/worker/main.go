// Command worker serves the worker agent.
package main

import (
	"flag"
	"log"
	"net/http"
	"time"

	"github.com/nexus-protocol/nexus/examples/worker"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8092", "where to listen")
	flag.Parse()
	log.Println("the worker agent listens on http://" + *addr)
	server := &http.Server{Addr: *addr, Handler: worker.New().Handler("http://" + *addr), ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}
