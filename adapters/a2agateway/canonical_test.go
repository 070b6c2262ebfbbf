package a2agateway

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCanonicalIsThatOfRFC8785(t *testing.T) {
	b, err := canonical(object{
		"\u20ac": "Euro", "\r": "CR", "\ufb33": "Dalet", "1": "One", "\U0001f600": "Smiley", "\u0080": "Control", "\u00f6": "o",
	})
	require.NoError(t, err)
	require.Equal(t, "{\"\\r\":\"CR\",\"1\":\"One\",\"\u0080\":\"Control\",\"\u00f6\":\"o\",\"\u20ac\":\"Euro\",\"\U0001f600\":\"Smiley\",\"\ufb33\":\"Dalet\"}", string(b), "the RFC's own example")
	b, err = canonical([]any{"\u20ac$\u000f\nA'B\"\\\\\"/<>&\u2028", true, []string{}, object{}})
	require.NoError(t, err)
	require.Equal(t, "[\"\u20ac$\\u000f\\nA'B\\\"\\\\\\\\\\\"/<>&\u2028\",true,[],{}]", string(b))
	for _, bad := range []any{1, nil, "\xff", object{"a": 1.5}} {
		_, err = canonical(bad)
		require.Error(t, err)
	}
}
