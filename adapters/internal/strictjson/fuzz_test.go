package strictjson_test

import (
	"encoding/json"
	"slices"
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
		err := strictjson.Check(text)
		if want := byTokens(text); json.Valid(text) && (err != nil) != want {
			t.Fatalf("%q: %v, but by its tokens it is %v", text, err, want)
		}
		if err != nil {
			return
		}
		var v any
		d := json.NewDecoder(strings.NewReader(string(text)))
		d.UseNumber()
		if err := d.Decode(&v); err != nil || d.More() {
			t.Fatalf("%q passed: %v", text, err)
		}
		once(t, v)
	})
}

// byTokens tells the same of JSON in another way: whether a key is there twice, or it is nested too deep.
func byTokens(text []byte) bool {
	type level struct {
		object, value bool
		keys          []string
	}
	var levels []*level
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	for {
		token, err := d.Token()
		if err != nil {
			return false
		}
		if n := len(levels); n > 0 && levels[n-1].object {
			if l := levels[n-1]; l.value {
				l.value = false
			} else if key, ok := token.(string); ok {
				if slices.ContainsFunc(l.keys, func(k string) bool { return strings.EqualFold(k, key) }) {
					return true
				}
				l.keys, l.value = append(l.keys, key), true
				continue
			}
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			if len(levels) >= strictjson.MaxDepth {
				return true
			}
			levels = append(levels, &level{object: token == json.Delim('{')})
		case json.Delim('}'), json.Delim(']'):
			levels = levels[:len(levels)-1]
		}
	}
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
