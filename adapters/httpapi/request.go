package httpapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/nexus-protocol/nexus/domain/fault"
)

// maxBody is the most bytes of a JSON body.
const maxBody = 1 << 20

// idParams are the parameters that a path may have. Each is an id, and one that has not the form of an id is that of
// nothing there is.
var idParams = map[string]fault.Code{
	"agentId":    fault.CodeAgentNotFound,
	"taskId":     fault.CodeTaskNotFound,
	"workflowId": fault.CodeWorkflowNotFound,
	"runId":      fault.CodeRunNotFound,
	"keyId":      fault.CodeAPIKeyNotFound,
	"sessionId":  fault.CodeNotFound,
	"identityId": fault.CodeNotFound,
	"userId":     fault.CodeNotFound,
}

// checked is a request that was held against its operation's documentation, for huma to decode.
type checked struct {
	humaContext
	x     *exchange
	query url.Values
	body  io.Reader
}

type humaContext = huma.Context

// Param implements huma.Context. Ids are compared in lower case.
func (c *checked) Param(name string) string { return strings.ToLower(c.humaContext.Param(name)) }

// Query implements huma.Context.
func (c *checked) Query(name string) string { return c.query.Get(name) }

// Header implements huma.Context. The body is JSON by now, whatever parameters its type came with.
func (c *checked) Header(name string) string {
	if name == "Content-Type" {
		return typeJSON
	}
	return c.humaContext.Header(name)
}

// BodyReader implements huma.Context.
func (c *checked) BodyReader() io.Reader { return c.body }

// SetReadDeadline implements huma.Context. The body was read; a deadline now would cut off the handler.
func (c *checked) SetReadDeadline(time.Time) error { return nil }

// SetStatus implements huma.Context. It takes only what register's handlers answer.
func (c *checked) SetStatus(status int) {
	if c.x.answered && !c.x.streamed {
		c.humaContext.SetStatus(status)
	}
}

// BodyWriter implements huma.Context; see SetStatus.
func (c *checked) BodyWriter() io.Writer {
	if c.x.answered && !c.x.streamed {
		return c.humaContext.BodyWriter()
	}
	return io.Discard
}

// check holds a request against its operation: the ids in its path, its query and its body.
func (s *server) check(op *huma.Operation, x *exchange, ctx huma.Context) (*checked, error) {
	r := x.request
	for _, p := range op.Parameters {
		if p.In == "path" && !isUUID(r.PathValue(p.Name)) {
			return nil, noSuch(idParams[p.Name], r.PathValue(p.Name))
		}
	}
	out := &checked{humaContext: ctx, x: x}
	var err error
	if out.query, err = checkQuery(op.Parameters, r.URL.RawQuery); err != nil {
		return nil, err
	}
	if op.RequestBody == nil {
		return out, nil
	}
	body, err := s.checkBody(op.RequestBody, x, r)
	x.body, out.body = body, bytes.NewReader(body)
	return out, err
}

// allFaults adds to what is wrong with a body what the route finds beside it.
func (rt route) allFaults(ctx context.Context, body []byte, err error) error {
	f, ok := fault.As(err)
	if rt.also == nil || len(body) == 0 || !ok || f.Code != fault.CodeValidation {
		return err
	}
	more, ok := fault.As(rt.also(ctx, body))
	if !ok || more.Code != fault.CodeValidation {
		return err
	}
	var all fault.Fields
	told, _ := f.Details["fields"].([]fault.Field)
	for _, field := range told {
		all.Add(field.Path, "%s", field.Message)
	}
	found, _ := more.Details["fields"].([]fault.Field)
	for _, field := range found {
		known := func(old fault.Field) bool { // or a part of what is wrong as a whole
			rest, within := strings.CutPrefix(field.Path, old.Path)
			return within && (rest == "" || rest[0] == '.' || rest[0] == '[')
		}
		if !slices.ContainsFunc(told, known) {
			all.Add(field.Path, "%s", field.Message)
		}
	}
	return all.Err()
}

// checkQuery reads the parameters that an operation has. What it does not have is ignored.
func checkQuery(params []*huma.Param, raw string) (url.Values, error) {
	if raw == "" {
		return nil, nil
	}
	values, err := url.ParseQuery(raw)
	var bad faults
	for _, p := range params {
		if p.In != "query" {
			continue
		}
		if err != nil {
			bad.add("query", "is malformed")
			break
		}
		given, ok := values[p.Name]
		if !ok {
			continue
		}
		where := func() string { return p.Name }
		switch text := given[0]; {
		case len(given) > 1:
			bad.add(p.Name, "must not be given more than once")
		case !utf8.ValidString(text) || strings.ContainsRune(text, 0):
			bad.add(p.Name, "must be text")
		case p.Schema.Type == huma.TypeString && text != "":
			checkString(&bad, where, p.Schema, text)
		case p.Schema.Type == huma.TypeString:
		case !isNumber(text):
			bad.add(p.Name, "%s", mustBe(p.Schema.Type))
		default:
			checkNumber(&bad, where, p.Schema, text)
		}
	}
	return values, bad.Err()
}

func isNumber(text string) bool {
	c := checker{in: []byte(text)}
	if text == "" {
		return false
	}
	_, err := c.number()
	return err == nil && c.pos == len(text)
}

// checkBody reads the body as JSON and returns what of it is known and right. It is empty where it may be.
func (s *server) checkBody(want *huma.RequestBody, x *exchange, r *http.Request) ([]byte, error) {
	if !want.Required && r.ContentLength == 0 {
		return nil, nil
	}
	isJSON := isJSONType(r.Header)
	if !isJSON && (want.Required || r.Header.Get("Content-Type") != "") {
		return nil, errNotJSON
	}
	text, err := readBody(x, r, maxBody)
	switch {
	case err != nil:
		return nil, err
	case len(text) == 0 && !want.Required:
		return nil, nil
	case !isJSON:
		return nil, errNotJSON
	case len(text) == 0:
		var bad fault.Fields
		bad.Add(wholeBody, "is empty; send a JSON object")
		return nil, bad.Err()
	}
	return checkJSON(s.api.OpenAPI().Components.Schemas, want.Content[typeJSON].Schema, text)
}

var errNotJSON = fault.New(fault.Unsupported, fault.CodeUnsupportedMediaType,
	"send the body as JSON in UTF-8, with the header Content-Type: application/json and no Content-Encoding")

// isJSONType reports whether the headers promise plain JSON.
func isJSONType(h http.Header) bool {
	if types := h.Values("Content-Type"); len(types) != 1 || h.Get("Content-Encoding") != "" {
		return false
	}
	mediaType, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if charset, ok := params["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
		return false
	}
	return err == nil && mediaType == typeJSON
}

// readBody reads a body of at most so many bytes. What its header says of its length is believed only to refuse it.
func readBody(x *exchange, r *http.Request, most int64) ([]byte, error) {
	tooLarge := fault.New(fault.TooLarge, fault.CodePayloadTooLarge, "the body must be at most %d KiB", most>>10)
	if r.ContentLength > most {
		x.Header().Set("Connection", "close") // rather than read what is left
		return nil, tooLarge
	}
	text, err := io.ReadAll(http.MaxBytesReader(x.ResponseWriter, r.Body, most))
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		x.Header().Set("Connection", "close")
		return nil, tooLarge
	case err != nil:
		var bad fault.Fields
		bad.Add(wholeBody, "did not arrive whole and in time")
		return nil, bad.Err()
	}
	return text, nil
}
