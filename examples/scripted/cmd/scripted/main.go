// Command scripted serves the scripted agent on its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/nexus-protocol/nexus/examples/scripted"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8093", "`address` to listen on")
	url := flag.String("url", "", "`URL` under which callers reach the agent (default: the address)")
	gateway := flag.String("gateway", "", "`URL` of the engine's A2A endpoint, to read the requesters' message ids from tasks that anyone may read")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr, *url, *gateway, os.Stderr); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "scripted:", err)
		stop()
		os.Exit(1)
	}
}

// run serves until ctx ends, then lets the requests under way finish.
func run(ctx context.Context, addr, url, gateway string, log io.Writer) error {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	if url == "" {
		url = "http://" + ln.Addr().String()
	}
	srv := &http.Server{
		Handler:           scripted.Handler(scripted.Options{BaseURL: url, Gateway: gateway}),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	_, _ = fmt.Fprintln(log, "scripted: serving", url)
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err = srv.Shutdown(grace)
	if served := <-served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
