package jsonschemacheck_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/jsonschemacheck"
	"github.com/nexus-protocol/nexus/ports/portstest"
)

func TestConformance(t *testing.T) {
	require.NoError(t, portstest.SchemaChecker(t.Context(), jsonschemacheck.New()))
}

func TestFaultsAreToldWithTheirPlace(t *testing.T) {
	faults, err := jsonschemacheck.New().Validate(
		json.RawMessage(`{"type":"object","properties":{"a":{"items":{"required":["b"]}}}}`), json.RawMessage(`{"a":[{"b":1},{}]}`))
	require.NoError(t, err)
	require.Len(t, faults, 1)
	require.Equal(t, "a[1]", faults[0].Path)
	require.Contains(t, faults[0].Message, "b")
}

func TestWhatIsWrongWithASchemaIsSaid(t *testing.T) {
	err := jsonschemacheck.New().Compile(json.RawMessage(`{"$ref":"file:///etc/passwd"}`))
	require.ErrorContains(t, err, "refers to another document")
	err = jsonschemacheck.New().Compile(json.RawMessage(`{"type":"nonsense"}`))
	require.ErrorContains(t, err, "type")
}
