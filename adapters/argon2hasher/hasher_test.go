package argon2hasher

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/argon2id"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/ports/portstest"
)

func TestConformance(t *testing.T) {
	require.NoError(t, portstest.PasswordHasher(t.Context(), New()))
}

func TestNobodyIsNobodyWhateverThePassword(t *testing.T) {
	ok, err := New().Verify(t.Context(), "nobody", "")
	require.NoError(t, err)
	require.False(t, ok)
	match, with, err := argon2id.CheckHash("nobody", dummy)
	require.NoError(t, err)
	require.True(t, match, "the work is done to the end")
	require.Equal(t, params, with, "it takes as long as for a user")
}

func TestParamsAreInTheHash(t *testing.T) {
	hash, err := New().Hash(t.Context(), "correct horse")
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$"), hash)
}

func TestAStoredHashThatIsNoneIsAnError(t *testing.T) {
	for _, hash := range []string{"x", "$2a$12$abcdefghijklmnopqrstuv", "$argon2id$v=19$m=19456,t=2,p=1$", hashOfNoParams} {
		ok, err := New().Verify(t.Context(), "correct horse", hash)
		require.Error(t, err, hash)
		require.False(t, ok)
	}
}

const hashOfNoParams = "$argon2id$v=19$$c2FsdHNhbHRzYWx0c2FsdA$aGFzaA"

func TestWaitingForATurnEndsWithTheContext(t *testing.T) {
	h := New()
	for range atOnce {
		leave, err := h.enter(t.Context())
		require.NoError(t, err)
		defer leave()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	_, err := h.Hash(ctx, "correct horse")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = h.Verify(ctx, "correct horse", "")
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestTurnsAreGivenBack(t *testing.T) {
	h := NewAtOnce(0)
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if _, err := h.Verify(t.Context(), "x", ""); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	_, err := h.Verify(t.Context(), "x", "broken")
	require.Error(t, err)
	require.Empty(t, h.slots)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = h.Hash(ended, "x")
	require.ErrorIs(t, err, context.Canceled, "an ended context starts no work")
}
