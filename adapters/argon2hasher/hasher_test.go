package argon2hasher_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/argon2hasher"
	"github.com/nexus-protocol/nexus/ports/portstest"
)

func TestConformance(t *testing.T) {
	require.NoError(t, portstest.PasswordHasher(t.Context(), argon2hasher.New()))
}

func TestNobodyIsNobodyWhateverThePassword(t *testing.T) {
	ok, err := argon2hasher.New().Verify(t.Context(), "nobody", "")
	require.NoError(t, err)
	require.False(t, ok)
}
