package main

import (
	"bytes"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/scheduler"
)

// A made-up history is as good as one that was lived through: its books balance, and it is made once. Pages show it well.
func TestASeededHistory(t *testing.T) {
	dir := t.TempDir()
	command := func(args ...string) (string, error) {
		var out bytes.Buffer
		err := run(t.Context(), append(args, "--data-dir", dir, "--log-level", "error"), strings.NewReader(""), &out, &bytes.Buffer{})
		return out.String(), err
	}
	out, err := command("seed")
	require.NoError(t, err)
	assert.Contains(t, out, "40 agents")
	assert.Contains(t, out, "20 workflows")
	assert.Contains(t, out, seedEmail)
	_, err = command("ledger", "verify")
	require.NoError(t, err)
	_, err = command("seed")
	require.ErrorContains(t, err, "seeded before")

	e := &env{Context: t.Context(), out: io.Discard, errOut: io.Discard, cli: &cli{DataDir: dir}, log: slog.New(slog.DiscardHandler)}
	require.NoError(t, e.withEngine(func(engine *app.Engine) error {
		t.Run("most runs end well", func(t *testing.T) { mostRunsEndWell(t, engine) })
		t.Run("every page is fast and small", func(t *testing.T) { everyPage(t, engine) })
		return nil
	}))
}

// mostRunsEndWell looks at the runs of the account that people look at: about one in ten fails, one is cancelled, and some go on.
func mostRunsEndWell(t *testing.T, engine *app.Engine) {
	u, err := engine.Identity.UserByEmail(t.Context(), seedEmail)
	require.NoError(t, err)
	ada, most := identity.SessionCaller(u, ""), 100
	flows, err := engine.Workflows.List(t.Context(), ada, app.Page{Limit: &most})
	require.NoError(t, err)
	runs, total := map[scheduler.Status]int{}, 0
	for _, w := range flows.Items {
		l, err := engine.Workflows.Runs(t.Context(), ada, w.ID, app.Page{Limit: &most})
		require.NoError(t, err)
		for _, r := range l.Items {
			runs[r.Status]++
			total++
		}
	}
	t.Log(runs)
	assert.Positive(t, runs[scheduler.Failed])
	assert.LessOrEqual(t, runs[scheduler.Failed]*5, total)
	assert.Equal(t, 1, runs[scheduler.Cancelled])
	assert.Positive(t, runs[scheduler.Running])
	assert.GreaterOrEqual(t, runs[scheduler.Completed]*4, total*3)
}
