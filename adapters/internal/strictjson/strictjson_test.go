package strictjson_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/internal/strictjson"
)

// many is an object with the keys k0 to k(n-1), and one more.
func many(n int, last string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"k%d":%d,`, i, i)
	}
	return "{" + b.String() + `"` + last + `":0}`
}

func TestCheck(t *testing.T) {
	deep := func(n int) string { return strings.Repeat(`{"a":[`, n/2) + strings.Repeat(`]}`, n/2) }
	for _, good := range []string{`{}`, `[1,"a","a",null,{"a":"a","b":{"a":{"a":1}}}]`, `{"a":["a","a"],"b":"a","c":{"A":1}}`, deep(64), `"x"`, `12345678901234567890123`, ` {"a" : "a,\"a\":{" , "b" : [ ] } `, "{\"\xff\":1}", `{"\\":1,"\"":"\\"}`, `{"a":{"b":1},"b":{"b":1}}`, many(40, "x")} {
		require.NoError(t, strictjson.Check([]byte(good)), good)
	}
	var strict *strictjson.Error
	for _, bad := range []string{`{"a":1,"a":2}`, `{"a":1,"A":2}`, `[{"x":{"role":[],"\u0052ole":1}}]`, `{"s":1,"\u017f":2}`, `{"a":{"b":1},"A":1}`, `{"x,":1,"x,":2}`, `{"\\":1,"\u005c":2}`, "{\"\xff\":1,\"\xfe\":2}", many(40, "K39"), many(40, "\u212a39"), deep(66), strings.Repeat("[", 1<<19)} {
		require.ErrorAs(t, strictjson.Check([]byte(bad)), &strict, bad[:min(40, len(bad))])
	}
	for _, none := range []string{`{`, `{"a":1,}`, `{"a" 1}`, `]`, `{1:2}`, ``, `{}{}`, `"`, `{"a`, `{"a\`, `{"`, `{"a"`, `{"a":1,"b`, `{"\u00`, `[1}`, "{\"a\x01\":1}", `{"a":"b":"a"}`} {
		require.Error(t, strictjson.Check([]byte(none)), none)
	}
}
