// Command worker serves the worker agent on its own.
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

	"github.com/nexus-protocol/nexus/examples/worker"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8092", "`address` to listen on")
	url := flag.String("url", "", "`URL` under which callers reach the agent (default: the address)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr, *url, os.Stderr); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "worker:", err)
		stop()
		os.Exit(1)
	}
}

// run serves until ctx ends, then ends the work under way, so that nobody is left waiting, and lets the answers go out.
func run(ctx context.Context, addr, url string, log io.Writer) error {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	if url == "" {
		url = "http://" + ln.Addr().String()
	}
	agent := worker.New()
	srv := &http.Server{ // with no time limit on answers: they take as long as the work
		Handler:           agent.Handler(url),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * time.Minute,
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	_, _ = fmt.Fprintln(log, "worker: serving", url)
	select {
	case err := <-served:
		agent.Close()
		return err
	case <-ctx.Done():
	}
	agent.Close()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err = srv.Shutdown(grace)
	if served := <-served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
