package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A made-up history is as good as one that was lived through: its books balance, and it is made once.
func TestASeededHistoryHoldsTogether(t *testing.T) {
	dir := t.TempDir()
	command := func(args ...string) (string, error) {
		var out bytes.Buffer
		err := run(t.Context(), append(args, "--data-dir", dir, "--log-level", "error"), strings.NewReader(""), &out, &bytes.Buffer{})
		return out.String(), err
	}
	small := []string{"seed", "--agents", "8", "--tasks", "30", "--workflows", "3", "--days", "12"}
	out, err := command(small...)
	require.NoError(t, err)
	assert.Contains(t, out, "8 agents")
	assert.Contains(t, out, "3 workflows")
	assert.Contains(t, out, seedEmail)
	_, err = command("ledger", "verify")
	require.NoError(t, err)
	_, err = command(small...)
	assert.ErrorContains(t, err, "seeded before")
}
