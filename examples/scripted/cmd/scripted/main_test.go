package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRunServesAndStops(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, log := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, "127.0.0.1:0", "", "", log) }()
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	url := strings.TrimSpace(strings.TrimPrefix(line, "scripted: serving "))

	resp, err := http.Get(url + "/.well-known/agent-card.json")
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, resp.Body.Close())
	require.NoError(t, err)
	require.Contains(t, string(body), url)

	cancel()
	require.NoError(t, <-ended)
}

func TestRunTellsWhatIsWrongWithTheAddress(t *testing.T) {
	t.Parallel()
	require.Error(t, run(t.Context(), "127.0.0.1:notaport", "", "", io.Discard))
}
