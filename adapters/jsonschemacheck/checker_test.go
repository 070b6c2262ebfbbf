package jsonschemacheck

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/ports"
	"github.com/nexus-protocol/nexus/ports/portstest"
)

func TestConformance(t *testing.T) {
	require.NoError(t, portstest.SchemaChecker(t.Context(), New()))
}

func validate(t *testing.T, schema, value string) []ports.SchemaFault {
	t.Helper()
	faults, err := New().Validate(json.RawMessage(schema), json.RawMessage(value))
	require.NoError(t, err)
	return faults
}

func TestFaultsAreToldWithTheirPlace(t *testing.T) {
	for _, c := range []struct{ schema, value, path, says string }{
		{`{"properties":{"a":{"items":{"required":["b"]}}}}`, `{"a":[{"b":1},{}]}`, "a[1]", "'b'"},
		{`{"properties":{"text":{"type":"string"}}}`, `{"text":1}`, "text", "string"},
		{`{"type":"object"}`, `1`, "", "object"},
		{`{"additionalProperties":{"type":"string"}}`, `{"0":1}`, "0", "string"},
		{`{"items":{"items":{"const":1}}}`, `[[1],[1,2]]`, "[1][1]", "1"},
		{`{"items":{"additionalProperties":{"type":"null"}}}`, `[{"7":1}]`, "[0].7", "null"},
		{`{"properties":{"a":{"enum":["x",1]}}}`, `{"a":"y"}`, "a", "'x', 1"},
		{`{"properties":{"a":{"uniqueItems":true}}}`, `{"a":[1,{"b":[1.0]},{"b":[1e0]}]}`, "a", "1 and 2"},
		{`{"properties":{"a":{"propertyNames":{"maxLength":1}}}}`, `{"a":{"b":1,"cc":2}}`, "a", `"cc"`},
		{`{"properties":{"a":{"pattern":"^x$"}}}`, `{"a":"` + strings.Repeat("y", 10_000) + `"}`, "a", "…"},
	} {
		faults := validate(t, c.schema, c.value)
		require.Len(t, faults, 1, c.schema)
		require.Equal(t, c.path, faults[0].Path, c.schema)
		require.Contains(t, faults[0].Message, c.says, c.schema)
		require.LessOrEqual(t, len([]rune(faults[0].Message)), maxText+1)
	}
	many := validate(t, `{"items":{"type":"string"}}`, "["+strings.Repeat("1,", 1_000)+"1]")
	require.Len(t, many, maxFaults)
	two := validate(t, `{"properties":{"b":{"type":"string"},"a":{"type":"string"}}}`, `{"b":1,"a":1}`)
	require.Equal(t, []string{"a", "b"}, []string{two[0].Path, two[1].Path}, "their order is always the same")
}

func TestEqualValuesAreEqualHoweverTheyAreWritten(t *testing.T) {
	for _, c := range []struct {
		schema, value string
		fine          bool
	}{
		{`{"const":{"a":[1,"x"],"b":null}}`, `{"b":null,"a":[1.0,"x"]}`, true},
		{`{"const":{"a":[1]}}`, `{"a":[1,1]}`, false},
		{`{"enum":[1,"1"]}`, `10e-1`, true},
		{`{"enum":[0]}`, `-0.0`, true},
		{`{"enum":[false]}`, `0`, false},
		{`{"enum":["a"],"const":"b"}`, `"a"`, false},
		{`{"uniqueItems":true}`, `[["a","b"],["a,b"],["a\",\"b"],"[\"a\"]",["a"],1,"1",true,"true",null,"null",{"a":1},"{\"a\":1}"]`, true},
		{`{"uniqueItems":true}`, `[12345678901234567890,12345678901234567891]`, true},
		{`{"not":{"uniqueItems":true}}`, `[0,0]`, true},
		{`{"not":{"enum":[1]}}`, `1`, false},
		{`{"propertyNames":{"enum":["a"]}}`, `{"a":1}`, true},
		{`{"propertyNames":false}`, `{}`, true},
		{`{"format":"email"}`, `"x"`, true},
		{`{"$schema":"http://json-schema.org/draft-07/schema#","format":"email"}`, `"x"`, true},
	} {
		require.Equal(t, c.fine, len(validate(t, c.schema, c.value)) == 0, "%s %s", c.schema, c.value)
	}
}

func TestWhatIsWrongWithASchemaIsSaid(t *testing.T) {
	deep := func(n int) string { return strings.Repeat(`{"not":`, n) + "{}" + strings.Repeat("}", n) }
	for schema, says := range map[string]string{
		`{"type":"nonsense"}`:                    "at type",
		`{`:                                      "is not JSON",
		`{} {}`:                                  "is not JSON",
		`{"$ref":"#/$defs/x"}`:                   "not found",
		`{"pattern":"("}`:                        "at pattern",
		`{"$ref":"file:///etc/passwd"}`:          "refers to another document",
		`{"$id":"file:///etc/","$ref":"passwd"}`: "refers to another document",
		`{"$schema":"file:///etc/passwd"}`:       "refers to another document",
		`{"$ref":"http://127.0.0.1:1/x"}`:        "refers to another document",
		`{"$ref":"https://json-schema.org/draft/2020-12/schema"}`: "refers to another document",
		`{"$ref":"#"}`: "refers to itself",
		`{"anyOf":[{"type":"null"},{"if":true,"then":{"$ref":"#"}}]}`:             "refers to itself",
		`{"$dynamicRef":"#a","$defs":{"a":{"$dynamicAnchor":"a","type":"null"}}}`: "$dynamicRef",
		`{"minimum":1e999999}`:                           "at minimum: is a number",
		`{"minLength":` + strings.Repeat("1", 401) + `}`: "at minLength: is a number",
		deep(63): "",
		deep(70): "nested deeper than 64",
		`{"allOf":[` + strings.Repeat("{},", 4_000) + `{}]}`:               "more than 4000 parts",
		`{"pattern":"` + strings.Repeat("x", 1_001) + `"}`:                 "more than 1000 bytes",
		`{"pattern":"` + strings.Repeat("(x{1000})", 100) + `"}`:           "too large",
		`{"patternProperties":{"` + strings.Repeat(`\\pL`, 700) + `":{}}}`: "more than 1000 bytes",
	} {
		err := New().Compile(json.RawMessage(schema))
		if says == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, says, cut(schema))
		require.NotContains(t, err.Error(), "\n")
		require.Less(t, len(err.Error()), 2*maxText)
	}
}

func TestNoFileIsOpened(t *testing.T) {
	file := filepath.Join(t.TempDir(), "schema.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object"}`), 0o600))
	for _, schema := range []string{`{"$schema":%q}`, `{"$ref":%q}`, `{"$id":%q,"properties":{"a":{"$ref":"schema.json#/type"}}}`, `{"not":{"$dynamicRef":%q}}`} {
		for _, url := range []string{"file://" + file, file} {
			err := New().Compile(fmt.Appendf(nil, schema, url))
			require.Error(t, err, schema)
			require.NotContains(t, err.Error(), "object")
		}
	}
}

func TestSchemasThatReferToThemselvesDeeperDownAreFine(t *testing.T) {
	tree := `{"type":"object","required":["name"],"properties":{"name":{"type":"string"},"children":{"type":"array","items":{"$ref":"#"}}}}`
	require.Empty(t, validate(t, tree, `{"name":"a","children":[{"name":"b","children":[]}]}`))
	require.Equal(t, "children[0]", validate(t, tree, `{"name":"a","children":[{}]}`)[0].Path)
	named := `{"$id":"https://nexus.example/s","$defs":{"s":{"$id":"inner","$anchor":"a","type":"string"}},"properties":{"x":{"$ref":"inner#a"}}}`
	require.Equal(t, "x", validate(t, named, `{"x":1}`)[0].Path)
}

// The bare library takes seconds to forever for these, or panics.
func TestWhatAValidationCostsIsBounded(t *testing.T) {
	doubling := func(how, last string) string {
		var b strings.Builder
		for i := range 40 {
			fmt.Fprintf(&b, `"a%d":{"%s":[{"$ref":"#/$defs/a%d"},{"$ref":"#/$defs/a%d"}]},`, i, how, i+1, i+1)
		}
		return `{"not":{"$ref":"#/$defs/a0"},"$defs":{` + b.String() + `"a40":` + last + `}}`
	}
	nested := func(with, v string) string { return strings.Repeat(`{`+with+`"a":`, 60) + v + strings.Repeat("}", 60) }
	const tooMuch = "too much work"
	for name, c := range map[string]struct{ schema, value, says string }{
		"doubling that holds": {doubling("allOf", `{"type":"object"}`), `{}`, tooMuch},
		"doubling that fails": {doubling("anyOf", `{"type":"string"}`), `{}`, tooMuch},
		"doubling with the value's depth": {
			`{"type":"object","allOf":[{"properties":{"a":{"$ref":"#"}}},{"properties":{"a":{"$ref":"#"}}}]}`, nested("", "1"), tooMuch,
		},
		"doubling where no errors are kept": {
			`{"not":{"$ref":"#/$defs/n"},"$defs":{"n":{"type":"object","properties":{"a":{"$ref":"#/$defs/n"}},"patternProperties":{"a":{"$ref":"#/$defs/n"}}}}}`,
			nested("", "1"), tooMuch,
		},
		"doubling by dependent schemas": {
			`{"not":{"$ref":"#/$defs/n"},"$defs":{"p":{"properties":{"a":{"$ref":"#/$defs/n"}}},"n":{"type":"object","dependentSchemas":{"a":{"$ref":"#/$defs/p"},"b":{"allOf":[{"$ref":"#/$defs/p"}]}}}}}`,
			nested(`"b":1,`, "1"), tooMuch,
		},
		"many alternatives of many":  {`{"items":{"anyOf":[` + strings.Repeat("false,", 3_900) + `false]}}`, "[" + strings.Repeat("1,", 30_000) + "1]", tooMuch},
		"long strings, often":        {`{"allOf":[` + strings.Repeat(`{"minLength":1},`, 3_000) + `{}]}`, `"` + strings.Repeat("x", 256<<10) + `"`, tooMuch},
		"long strings, slow pattern": {`{"pattern":"(x+x+)+y|(a|b|x)*z"}`, `"` + strings.Repeat("x", 4<<20) + `"`, tooMuch},
		"large numbers":              {`{"items":{"type":"integer"}}`, `[1,1e999999]`, "is a number of more than 400 digits"},
		"numbers that are no ratio":  {`{"minimum":1}`, `1e9999999`, "is a number of more than 400 digits"},
		"the same in no schema":      {`{}`, `{"a":-1e-9999999}`, "is a number of more than 400 digits"},
		"long numbers":               {`{"multipleOf":3}`, strings.Repeat("1", 401), "is a number of more than 400 digits"},
		"a value that is too deep":   {`{}`, strings.Repeat("[", 66) + strings.Repeat("]", 66), "nested deeper than 64"},
	} {
		t.Run(name, func(t *testing.T) {
			begun := time.Now()
			faults := validate(t, c.schema, c.value)
			require.Len(t, faults, 1)
			require.Contains(t, faults[0].Message, c.says)
			require.Less(t, time.Since(begun), 20*time.Second, "slow machines and the race detector included")
		})
	}
}

func TestHonestWorkIsNotTooMuch(t *testing.T) {
	for schema, value := range map[string]string{
		`{"properties":{"v":{"items":{"type":"number"}}}}`:                            `{"v":[` + strings.Repeat("0.123456,", 29_000) + `1]}`,
		`{"items":{"type":"string","pattern":"^[\\w.+-]+@[\\w.-]+\\.[a-zA-Z]{2,}$"}}`: `[` + strings.Repeat(`"someone@example.com",`, 11_000) + `"a@b.cd"]`,
		`{"items":{"required":["id"],"properties":{"id":{"type":"integer","minimum":1},"name":{"type":"string","maxLength":9},"kind":{"enum":["a","b"]}},"additionalProperties":false}}`: `[` +
			strings.Repeat(`{"id":1,"name":"x","kind":"a"},`, 8_000) + `{"id":1}]`,
		`{"type":"string","minLength":1,"pattern":"^[^\\x00]*$"}`: `"` + strings.Repeat("x", 256<<10) + `"`,
	} {
		require.Empty(t, validate(t, schema, value), schema)
	}
}

func TestCompiledSchemasAreKeptWithinBounds(t *testing.T) {
	c := New()
	schema := func(i int) json.RawMessage { return fmt.Appendf(nil, `{"const":%d}`, i) }
	for i := range maxCached + 10 {
		require.NoError(t, c.Compile(schema(0)), "the one that is used stays")
		require.NoError(t, c.Compile(schema(i)))
	}
	require.Equal(t, maxCached, c.used.Len())
	require.Len(t, c.known, maxCached)
	first := c.used.Front().Next().Value.(*compiled)
	require.NoError(t, c.Compile(schema(0)))
	require.Same(t, first, c.used.Front().Value)

	for i := range 40 { // few, but large
		require.NoError(t, c.Compile(fmt.Appendf(nil, `{"title":"%d%s"}`, i, strings.Repeat("x", 60<<10))))
	}
	require.LessOrEqual(t, c.bytes, maxCachedBytes)
	require.Len(t, c.known, c.used.Len())
	sum := 0
	for e := c.used.Front(); e != nil; e = e.Next() {
		sum += e.Value.(*compiled).bytes
	}
	require.Equal(t, sum, c.bytes)
	require.Error(t, c.Compile(json.RawMessage(`{"type":1}`)))
	require.Len(t, c.known, c.used.Len(), "what is wrong is not kept")
}

func TestOneCheckerServesMany(t *testing.T) {
	c := New()
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 50 {
				schema := fmt.Appendf(nil, `{"properties":{"a":{"maximum":%d}}}`, j%5)
				faults, err := c.Validate(schema, fmt.Appendf(nil, `{"a":%d}`, i))
				if err != nil || (len(faults) == 0) != (i <= j%5) {
					t.Error(i, j, faults, err)
				}
			}
		})
	}
	all.Wait()
}

// Whatever a stranger gives for a schema and a value, it is an answer, in time, and in bounds.
func FuzzValidate(f *testing.F) {
	for _, seed := range [][2]string{
		{`{"type":"object","properties":{"a":{"$ref":"#/$defs/x"}},"$defs":{"x":{"enum":[1,"a",null]}}}`, `{"a":1.0}`},
		{`{"allOf":[{"not":{"items":{"const":[1]}}}],"uniqueItems":true,"contains":{"multipleOf":0.1}}`, `[[1],[1],0.3]`},
		{`{"$schema":"http://json-schema.org/draft-04/schema#","id":"x","dependencies":{"a":["b"],"b":{"maxProperties":1}}}`, `{"a":1,"b":2}`},
		{`{"$schema":"https://json-schema.org/draft/2019-09/schema","$recursiveAnchor":true,"properties":{"a":{"$recursiveRef":"#"}},"unevaluatedProperties":false}`, `{"a":{"b":1}}`},
		{`{"propertyNames":{"pattern":"^a+$"},"patternProperties":{"a":false},"if":{"required":["a"]},"then":false,"else":{"minProperties":1}}`, `{"aa":1,"b":2}`},
		{`{"prefixItems":[true,{"$anchor":"z","type":"integer"}],"items":{"$ref":"#z"},"unevaluatedItems":false,"minItems":1e1}`, `[1,2,"x"]`},
	} {
		f.Add([]byte(seed[0]), []byte(seed[1]))
	}
	f.Fuzz(func(t *testing.T, schema, value []byte) {
		faults, err := New().Validate(schema, value)
		if err != nil && strings.Contains(err.Error(), "cannot be") {
			t.Fatal(err) // the library panicked
		}
		if len(faults) > maxFaults {
			t.Fatal(len(faults))
		}
		for _, fault := range faults {
			if fault.Message == "" || len([]rune(fault.Message)) > maxText+1 || len([]rune(fault.Path)) > maxText+1 {
				t.Fatalf("%q", fault)
			}
		}
	})
}
