package httpapi

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/domain/fault"
)

func bodySchema(body any) (huma.Registry, *huma.Schema) {
	registry := huma.NewMapRegistry("#/components/schemas/", (&server{}).schemaName)
	return registry, registry.Schema(reflect.TypeOf(body), true, "")
}

func checkCreateAgent(t *testing.T, text string) ([]byte, []fault.Field) {
	t.Helper()
	registry, schema := bodySchema(createAgentBody{})
	out, err := checkJSON(registry, schema, []byte(text))
	if err == nil {
		return out, nil
	}
	f, ok := fault.As(err)
	require.True(t, ok)
	require.Equal(t, fault.CodeValidation, f.Code)
	return nil, f.Details["fields"].([]fault.Field)
}

func TestCheckJSONKeepsWhatIsKnown(t *testing.T) {
	for name, test := range map[string]struct{ in, out string }{
		"unknown fields":        {`{"name":"a","zz":[1,{"b":2}],"endpoint":"e"}`, `{"name":"a","endpoint":"e"}`},
		"other spellings":       {`{"name":"a","endpoint":"e","Tags":5,"METADATA":"x"}`, `{"name":"a","endpoint":"e"}`},
		"escaped keys":          {`{"\u006eame":"a","endpoint":"e"}`, `{"name":"a","endpoint":"e"}`},
		"opaque objects":        {`{"name":"a","endpoint":"e","metadata":{ "A" :[ 1.0, 1e2, "\u00e9\/" ] } }`, `{"name":"a","endpoint":"e","metadata":{ "A" :[ 1.0, 1e2, "\u00e9\/" ] }}`},
		"unknown fields within": {`{"name":"a","endpoint":"e","skills":[{"id":"i","x":1,"name":"n"}]}`, `{"name":"a","endpoint":"e","skills":[{"id":"i","name":"n"}]}`},
		"nulls":                 {`{"name":"a","endpoint":"e","tags":null}`, `{"name":"a","endpoint":"e","tags":null}`},
		"spaces":                {" {\t\"name\"\n:\r\"a\" , \"endpoint\":\"e\" } ", `{"name":"a","endpoint":"e"}`},
		"64 deep":               {`{"name":"a","endpoint":"e","x":` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `}`, `{"name":"a","endpoint":"e"}`},
		"many keys":             {`{"name":"a","endpoint":"e","a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"k":1,"l":1,"m":1,"n":1,"o":1,"p":1,"q":1,"r":1}`, `{"name":"a","endpoint":"e"}`},
	} {
		out, bad := checkCreateAgent(t, test.in)
		assert.Empty(t, bad, name)
		assert.Equal(t, test.out, string(out), name)
	}
}

func TestCheckJSONSaysWhere(t *testing.T) {
	for name, test := range map[string]struct{ in, path, message string }{
		"cut":             {"{\n \"name\":", "name", "ends too early (line 2, column 9)"},
		"garbage":         {"{} x", "body", "has something after its end (line 1, column 4)"},
		"in an array":     {`{"skills":[{},{"id":tru}]}`, "skills[1].id", "is no JSON (line 1, column 21)"},
		"twice":           {`{"metadata":{"a":{"b":1,"B":2}}}`, "metadata.a.B", "is there more than once; keys that differ only by case count as the same (line 1, column 25)"},
		"among many":      {`{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"k":1,"l":1,"m":1,"n":1,"o":1,"p":1,"q":1,"r":1,"A":1}`, "A", "is there more than once; keys that differ only by case count as the same (line 1, column 110)"},
		"NUL":             {`{"metadata":{"a":["x","\u0000"]}}`, "metadata.a[1]", "must not hold the NUL character (line 1, column 24)"},
		"a key's fault":   {`{"metadata":{"a":1,"\u0000":2}}`, "metadata", "must not hold the NUL character (line 1, column 21)"},
		"long keys":       {`{"` + strings.Repeat("k", 100) + `":}`, strings.Repeat("k", 64) + "…", "is no JSON (line 1, column 105)"},
		"a nameless key":  {`{"metadata":{"":}}`, "metadata", "is no JSON (line 1, column 17)"},
		"too deep":        {strings.Repeat("[", 65), strings.Repeat("[0]", 64), "is nested more than 64 deep (line 1, column 65)"},
		"number too long": {`{"name":` + strings.Repeat("1", 1001) + `}`, "name", "has a number that is too large, too small or too long (line 1, column 9)"},
	} {
		_, bad := checkCreateAgent(t, test.in)
		assert.Equal(t, []fault.Field{{Path: test.path, Message: test.message}}, bad, name)
	}
}

func TestCheckJSONListsNoMoreThanAHundredFaults(t *testing.T) {
	_, bad := checkCreateAgent(t, `{"name":"a","endpoint":"e","tags":[`+strings.Repeat("1,", 200_000)+`1]}`)
	assert.Len(t, bad, maxFaults)
}

// TestDeepNestingIsCheapToRefuse bounds the work by the depth that is allowed, whatever the length.
func TestDeepNestingIsCheapToRefuse(t *testing.T) {
	registry, schema := bodySchema(createAgentBody{})
	for _, text := range []string{strings.Repeat("[", maxBody), strings.Repeat(`{"a":`, maxBody/5)} {
		in := []byte(text)
		assert.Less(t, testing.AllocsPerRun(10, func() { _, _ = checkJSON(registry, schema, in) }), 1_000.0)
	}
}

func TestAmounts(t *testing.T) {
	for in, want := range map[string]string{"0": "0", "-0": "0", "9.5": "9.5", "9.50": "9.5", "0.05": "0.05", "10.00": "10", "-3.1": "-3.1", "1.000": "1"} {
		var a amount
		require.NoError(t, json.Unmarshal([]byte(in), &a), in)
		out, err := json.Marshal(a)
		require.NoError(t, err)
		assert.Equal(t, want, string(out), in)
	}
	for _, in := range []string{"1e2", "0.001", `"5"`, "1E0", "true", "{}", "99999999999999999999"} {
		var a amount
		assert.Error(t, json.Unmarshal([]byte(in), &a), in)
	}
}

func TestUUIDForm(t *testing.T) {
	for in, want := range map[string]bool{
		"01890000-0000-7000-8000-000000000000": true, "01890000-ABCD-7000-8000-00000000000f": true, "": false, "01890000000070008000000000000000": false,
		"01890000-0000-7000-8000-00000000000g": false, "01890000x0000-7000-8000-000000000000": false, "01890000-0000-7000-8000-0000000000000": false,
	} {
		assert.Equal(t, want, isUUID(in), in)
	}
}

// FuzzStrictJSON holds the strict reader against encoding/json: what it lets pass is JSON, fits the Go type, and is read
// to the end the same way a second time.
func FuzzStrictJSON(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"name":"a","endpoint":"e"}`, `{"name":"a","endpoint":"e","skills":[{"id":"i","name":"n","inputSchema":{"a":[1,2.50,-1e-3]}}],"pricePerTask":9.50}`,
		`{"name":"\ud83d\ude00\u00e9\n","endpoint":"e","tags":["a","b"],"category":null,"metadata":{"":{"x":[true,false,null]}}}`,
		`{"name":"a","NAME":"b"}`, `{"a":"\u0000"}`, `[[[[`, `{"a":01}`, "{\"a\":\"\xff\"}", `{"pricePerTask":1e5}`, `{"name":"a","endpoint":"e"} x`, `{"a":1e999}`,
		`{"taskId":"x","rating":5,"comment":null}`, `{"assignedAgentId":"x","title":"t","timeoutSeconds":300,"minTrustScore":0.5,"maxBudgetCredits":0.01,"input":{}}`,
		`{"email":"a@b","password":"x"}`, `{"status":"online","metadata":{}}`, `{"scopes":["*"],"name":"k","expiresInDays":90}`,
	} {
		f.Add([]byte(seed))
	}
	bodies := []any{createAgentBody{}, patchAgentBody{}, createTaskBody{}, rateBody{}, createKeyBody{}, heartbeatBody{}, credentialsBody{}}
	registry := huma.NewMapRegistry("#/components/schemas/", (&server{}).schemaName)
	schemas := make([]*huma.Schema, len(bodies))
	for i, b := range bodies {
		schemas[i] = registry.Schema(reflect.TypeOf(b), true, "")
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for i, body := range bodies {
			out, err := checkJSON(registry, schemas[i], text)
			if err != nil {
				if !fault.Has(err, fault.CodeValidation) {
					t.Fatalf("%v", err)
				}
				continue
			}
			if !json.Valid(text) {
				t.Fatalf("%q is no JSON and was let pass", text)
			}
			if err := json.Unmarshal(out, reflect.New(reflect.TypeOf(body)).Interface()); err != nil {
				t.Fatalf("%q was let pass as %q for %T: %v", text, out, body, err)
			}
			again, err := checkJSON(registry, schemas[i], out)
			if err != nil || string(again) != string(out) {
				t.Fatalf("%q became %q, then %q: %v", text, out, again, err)
			}
		}
	})
}
