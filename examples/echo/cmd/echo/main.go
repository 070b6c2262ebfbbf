// Command echo serves the echo agent.
package main

import (
	"flag"
	"log"
	"net/http"
	"time"

	"github.com/nexus-protocol/nexus/examples/echo"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8091", "where to listen")
	flag.Parse()
	log.Println("the echo agent listens on http://" + *addr)
	server := &http.Server{Addr: *addr, Handler: echo.Handler("http://" + *addr), ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}
