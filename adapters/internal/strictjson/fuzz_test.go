package strictjson_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/nexus-protocol/nexus/adapters/internal/strictjson"
)

// What passes is JSON, in which no key is there twice: whoever reads it last or first reads the same.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{`{"a":1,"A":2}`, `{"a":[{"b":null},{"b":"\u0000"}],"c":{"k":1,"K":2}}`, `[[[]]]`, `{"ſ":1,"s":2}`, `{}{}`, `"x"`, `{"a":1,`, strings.Repeat("[", 70)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if strictjson.Check(text) != nil {
			return
		}
		var first any
		d := json.NewDecoder(strings.NewReader(string(text)))
		d.UseNumber()
		for d.More() { // Check takes several texts one after the other, as its callers do not
			if err := d.Decode(&first); err != nil {
				t.Fatalf("%q passed: %v", text, err)
			}
		}
		once(t, first)
	})
}

func once(t *testing.T, v any) {
	t.Helper()
	switch v := v.(type) {
	case map[string]any:
		for k, child := range v {
			for other := range v {
				if k != other && strings.EqualFold(k, other) {
					t.Fatalf("%q and %q", k, other)
				}
			}
			once(t, child)
		}
	case []any:
		for _, child := range v {
			once(t, child)
		}
	}
}
