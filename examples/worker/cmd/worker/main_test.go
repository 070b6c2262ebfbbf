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

func TestRunStopsWithWorkUnderWay(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, log := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, "127.0.0.1:0", "", log) }()
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	url := strings.TrimSpace(strings.TrimPrefix(line, "worker: serving "))

	resp, err := http.Post(url, "application/json", strings.NewReader(
		`{"jsonrpc":"2.0","id":1,"method":"message/stream","params":{"message":{"messageId":"m","parts":[{"kind":"data","data":{"mode":"stall"}}]}}}`,
	))
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	events := bufio.NewReader(resp.Body)
	first, err := events.ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, first, `"state":"working"`)

	cancel()
	rest, err := io.ReadAll(events)
	require.NoError(t, err)
	require.Contains(t, string(rest), `"state":"failed"`)
	require.Contains(t, string(rest), `"final":true`)
	require.NoError(t, <-ended)
}

func TestRunTellsWhatIsWrongWithTheAddress(t *testing.T) {
	t.Parallel()
	require.Error(t, run(t.Context(), "127.0.0.1:notaport", "", io.Discard))
}
