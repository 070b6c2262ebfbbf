package strictjson_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/internal/strictjson"
)

func TestCheck(t *testing.T) {
	deep := func(n int) string { return strings.Repeat(`{"a":[`, n/2) + strings.Repeat(`]}`, n/2) }
	for _, good := range []string{`{}`, `[1,"a","a",null,{"a":"a","b":{"a":{"a":1}}}]`, `{"a":["a","a"],"b":"a","c":{"A":1}}`, deep(64), `"x"`, `12345678901234567890123`} {
		require.NoError(t, strictjson.Check([]byte(good)), good)
	}
	var strict *strictjson.Error
	for _, bad := range []string{`{"a":1,"a":2}`, `{"a":1,"A":2}`, `[{"x":{"role":[],"\u0052ole":1}}]`, `{"s":1,"\u017f":2}`, deep(66), strings.Repeat("[", 1<<19)} {
		require.ErrorAs(t, strictjson.Check([]byte(bad)), &strict, bad[:min(40, len(bad))])
	}
	for _, none := range []string{`{`, `{"a":1,}`, `{"a" 1}`, `]`, `{1:2}`} {
		require.Error(t, strictjson.Check([]byte(none)), none)
	}
}
