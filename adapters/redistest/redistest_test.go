package redistest

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/internal/testrig"
)

// A docker that runs the machine's own Redis where a container's would be.
func TestARedisInAContainer(t *testing.T) {
	program, err := testrig.Program("redis-server", "/usr/bin/redis-server", "redis-server")
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "docker"), []byte(`#!/bin/sh
case "$1" in
run)
	port=${6#127.0.0.1:}
	shift 8
	echo $$ > "${0%docker}pid"
	exec `+program+` "$@" --port "${port%:6379}" --bind 127.0.0.1 ;;
kill) kill -KILL "$(cat "${0%docker}pid")" ;;
esac
`), 0o700))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	port, err := testrig.FreePort()
	require.NoError(t, err)
	stop, err := startContainer(port, []string{"--save", "", "--databases", "64"})
	require.NoError(t, err)
	c := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + port, DB: 63, MaxRetries: -1, DialerRetries: 1})
	defer func() { require.NoError(t, c.Close()) }()
	require.NoError(t, c.Set(t.Context(), "k", "v", 0).Err())
	stop()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	require.Error(t, c.Ping(ctx).Err(), "it ended")
}
