package apitest

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// spec is the server's OpenAPI document, which every answer is held against.
type spec struct {
	doc        object
	operations []operation
}

type operation struct {
	method   string
	path     string
	segments []string
	raw      object
	schemas  map[int]*jsonschema.Schema // of the JSON answers, by status
}

func loadSpec(t *testing.T, s *suite) *spec {
	t.Helper()
	r := s.stranger().get(t, "/openapi.json")
	require.Equal(t, http.StatusOK, r.status)
	out := &spec{doc: r.json}
	c := jsonschema.NewCompiler()
	c.UseLoader(jsonschema.SchemeURLLoader{})
	c.AssertFormat()
	const name = "http://api.test/openapi.json"
	require.NoError(t, c.AddResource(name, r.json))
	for path, item := range r.json["paths"].(object) {
		for method, raw := range item.(object) {
			if raw.(object)["x-mounted"] == true { // it speaks otherwise, and is tested where it is at home
				continue
			}
			op := operation{method: strings.ToUpper(method), path: path, segments: strings.Split(path, "/"), raw: raw.(object), schemas: map[int]*jsonschema.Schema{}}
			for status, answer := range op.raw["responses"].(object) {
				n, err := strconv.Atoi(status)
				require.NoError(t, err, "a response without a status in %s %s", op.method, path)
				content, _ := answer.(object)["content"].(object)
				if content["application/json"] == nil {
					continue
				}
				pointer := strings.Join([]string{
					"/paths", strings.ReplaceAll(path, "/", "~1"), method, "responses", status, "content", "application~1json", "schema",
				}, "/")
				op.schemas[n], err = c.Compile(name + "#" + (&url.URL{Fragment: pointer}).EscapedFragment())
				require.NoError(t, err, "%s %s %s", op.method, path, status)
			}
			out.operations = append(out.operations, op)
		}
	}
	return out
}

// find returns the operation of a request, nil if there is none.
func (s *spec) find(method string, u *url.URL) *operation {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	given := strings.Split(u.EscapedPath(), "/")
	i := slices.IndexFunc(s.operations, func(op operation) bool {
		return op.method == method && slices.EqualFunc(op.segments, given, func(want, got string) bool {
			return want == got || strings.HasPrefix(want, "{") && got != ""
		})
	})
	if i < 0 {
		return nil
	}
	return &s.operations[i]
}

// check holds an answer against the document.
func (s *spec) check(t *testing.T, method string, u *url.URL, r *response) {
	t.Helper()
	op := s.find(method, u)
	if op == nil || method == http.MethodHead || r.json == nil {
		return
	}
	what := fmt.Sprintf("%s %s %d", method, op.path, r.status)
	schema := op.schemas[r.status]
	if !assert.NotNil(t, schema, "%s is not in the OpenAPI document: %s", what, r.body) {
		return
	}
	assert.NoError(t, schema.Validate(r.json), "%s: %s", what, r.body)
	if r.status < http.StatusBadRequest {
		return
	}
	codes, _ := op.raw["responses"].(object)[strconv.Itoa(r.status)].(object)["x-error-codes"].([]any)
	assert.Contains(t, codes, r.json["error"].(object)["code"], "%s: the code is not in the OpenAPI document", what)
}
