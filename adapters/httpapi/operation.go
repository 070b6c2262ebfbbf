package httpapi

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/nexus-protocol/nexus/adapters/internal/websession"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/fault"
)

// Extensions of the OpenAPI document.
const (
	extCodes = "x-error-codes"    // of a response: the codes that it can carry
	extScope = "x-required-scope" // of an operation: what an API key needs
)

// Tags of the OpenAPI document, which group its operations.
const (
	tagAuth      = "Accounts"
	tagAgents    = "Agents"
	tagKeys      = "API keys"
	tagTasks     = "Tasks"
	tagWorkflows = "Workflows"
	tagTrust     = "Trust"
	tagBilling   = "Billing"
	tagAdmin     = "Administration"
	tagHealth    = "Health"
	tagDocs      = "Documentation"
)

// newAPI sets huma up to document and decode, and to do nothing else: requests are checked before it sees them, and
// answers are written by register. Its package's globals are left alone and not relied on.
func newAPI(s *server) huma.API {
	cfg := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title:   "NEXUS API",
				Version: s.opt.Version,
				Description: "The API of a NEXUS engine: agents register and are found, tasks are forwarded to them, paid and rated.\n\n" +
					"Every answer is JSON: {\"data\": …}, a list with \"meta\" beside it, or {\"error\": {\"code\", \"message\", \"details\"}}. " +
					"Credits are numbers with at most two decimals. Times are RFC 3339 in UTC. Unknown fields of a body are ignored.",
			},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", s.schemaName),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"apiKey":  {Type: "http", Scheme: "bearer", BearerFormat: "nxk_…", Description: "An API key. It acts for the user who owns its agent, within its scopes."},
					"session": {Type: "apiKey", In: "cookie", Name: websession.Cookie, Description: "The session of a person who logged in. What changes something must come from a page of this site."},
				},
			},
			Tags: []*huma.Tag{
				{Name: tagAuth, Description: "Sign up, log in and out, and look after one's account and sessions."},
				{Name: tagAgents, Description: "Register agents, keep them alive, and find others'."},
				{Name: tagKeys, Description: "Credentials of programs. Each belongs to an agent."},
				{Name: tagTasks, Description: "Ask an agent to do something, and see how it gets on."},
				{Name: tagWorkflows, Description: "Work in several steps, of which each waits for others, and the runs of it."},
				{Name: tagTrust, Description: "What agents' conduct adds up to."},
				{Name: tagBilling, Description: "The credits of the caller."},
				{Name: tagAdmin, Description: "For admins who are logged in; no key does."},
				{Name: tagHealth, Description: "Whether the server works."},
				{Name: tagDocs, Description: "What the API is."},
			},
		},
		Formats: map[string]huma.Format{typeJSON: {
			Marshal:   func(io.Writer, any) error { return errNoAnswer },
			Unmarshal: json.Unmarshal,
		}},
		DefaultFormat: typeJSON,
	}
	cfg.AllowAdditionalPropertiesByDefault = true
	if s.opt.PublicURL != "" {
		cfg.Servers = []*huma.Server{{URL: strings.TrimRight(s.opt.PublicURL, "/")}}
	}
	return huma.NewAPI(cfg, &adapter{s})
}

// schemaName names a type's schema: agentJSON is Agent, the answers of one and many of them AgentAnswer and AgentList. A
// type of another package, such as the host's own form of errors, stays out of the way until it is dropped; but for those of
// the routes that the server mounts for others.
func (s *server) schemaName(t reflect.Type, hint string) string {
	name := strings.ReplaceAll(huma.DefaultSchemaNamer(t, hint), "JSON", "")
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if at := t.PkgPath(); at != "" && at != reflect.TypeFor[errorJSON]().PkgPath() && !s.mounts(at) {
		return "foreign." + name
	}
	if rest, ok := strings.CutPrefix(name, "One"); ok {
		return rest + "Answer"
	}
	if rest, ok := strings.CutPrefix(name, "Many"); ok {
		return rest + "List"
	}
	return name
}

// reply is an answer as huma is to write it.
type reply struct {
	Status int
	Body   []byte
}

// register adds an operation: its route, its documentation, and what it does. in's fields tagged path, query and Body
// are filled from a request that was checked against the documentation.
func register[I, O any](s *server, rt route, do func(ctx context.Context, in *I) (O, error)) {
	registry := s.api.OpenAPI().Components.Schemas
	op := huma.Operation{
		OperationID: rt.id, Method: rt.method, Path: rt.path, Tags: []string{rt.tag}, Summary: rt.summary, Description: rt.text,
		DefaultStatus: rt.status, SkipValidateParams: true, SkipValidateBody: true, MaxBodyBytes: -1, BodyReadTimeout: -1,
		Metadata: map[string]any{metaRoute: rt},
		Responses: errorResponses([]fault.Code{fault.CodeInternal},
			registry.Schema(reflect.TypeFor[errorJSON](), true, "")),
	}
	op.Responses[strconv.Itoa(rt.status)] = &huma.Response{
		Description: cmp.Or(rt.answers, http.StatusText(rt.status)),
		Content:     map[string]*huma.MediaType{typeJSON: {Schema: registry.Schema(reflect.TypeFor[O](), true, rt.id)}},
	}
	if rt.csv {
		op.Responses[strconv.Itoa(rt.status)].Content["text/csv"] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
	}
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*reply, error) {
		x := exchangeOf(ctx)
		out, err := do(ctx, in)
		var body []byte
		if err == nil {
			body, err = encode(out)
		}
		x.answered = true
		if x.streamed {
			if err != nil {
				s.fail(x, x.request, err)
			}
			return &reply{}, nil
		}
		if err != nil {
			status, body := s.errorAnswer(ctx, x, err)
			return &reply{status, body}, nil
		}
		x.Header().Set("Content-Type", typeJSON)
		return &reply{rt.status, body}, nil
	})
}

// registerCreate is register for operations that make or charge something, which a caller may repeat under an
// Idempotency-Key. do's result is what app gives back, render the answer that it makes.
func registerCreate[I, T, O any](s *server, rt route, do func(ctx context.Context, in *I) (T, error), render func(T) O, location func(T) string) {
	rt.once = true
	rt.errors = append(rt.errors, fault.CodeIdempotencyConflict, fault.CodeValidation)
	finish := func(x *exchange, v T) ([]byte, error) {
		if location != nil {
			x.Header().Set("Location", location(v))
		}
		return encode(render(v))
	}
	register(s, rt, func(ctx context.Context, in *I) (kept[O], error) {
		x := exchangeOf(ctx)
		if keys := x.request.Header.Values("Idempotency-Key"); len(keys) > 0 {
			if len(keys) > 1 {
				return nil, badHeader("Idempotency-Key", "must not be given more than once")
			}
			if !utf8.ValidString(keys[0]) {
				return nil, badHeader("Idempotency-Key", "must be text")
			}
			digest := sha256.Sum256(slices.Concat([]byte(rt.method+" "+x.request.URL.Path+"\n"), x.body))
			ctx = app.WithOnce(ctx, app.Once{Key: keys[0], Request: digest, Render: func(v any) ([]byte, error) {
				body, err := encode(render(v.(T)))
				if err != nil || location == nil {
					return append([]byte("\n"), body...), err
				}
				return slices.Concat([]byte(location(v.(T))+"\n"), body), nil
			}})
		}
		v, err := do(ctx, in)
		var before *app.Replayed
		if errors.As(err, &before) {
			to, body, _ := bytes.Cut(before.Answer, []byte("\n"))
			if len(to) > 0 {
				x.Header().Set("Location", string(to))
			}
			x.Header().Set("Idempotency-Replayed", "true")
			return body, nil
		}
		if err != nil {
			return nil, err
		}
		return finish(x, v)
	})
}

// kept is an answer that was encoded already; O is what the document says of it.
type kept[O any] json.RawMessage

// MarshalJSON implements json.Marshaler.
func (k kept[O]) MarshalJSON() ([]byte, error) { return k, nil }

// Schema implements huma.SchemaProvider.
func (kept[O]) Schema(r huma.Registry) *huma.Schema { return r.Schema(reflect.TypeFor[O](), true, "") }

func badHeader(name, message string) error {
	var bad fault.Fields
	bad.Add(name, "%s", message)
	return bad.Err()
}

const metaRoute = "route"

// adapter puts huma's operations on the server's routes.
type adapter struct{ s *server }

// ServeHTTP implements huma.Adapter.
func (a *adapter) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.s.ServeHTTP(w, r) }

// Handle implements huma.Adapter.
func (a *adapter) Handle(op *huma.Operation, do func(huma.Context)) {
	rt, ok := op.Metadata[metaRoute].(route)
	if !ok {
		panic(fmt.Sprintf("httpapi: %s %s was not added by register", op.Method, op.Path))
	}
	a.s.document(op, rt)
	a.s.handle(rt, func(x *exchange, r *http.Request) {
		in, err := a.s.check(op, x, humago.NewContext(op, r, x))
		if err != nil {
			a.s.fail(x, r, rt.allFaults(r.Context(), x.body, err))
			return
		}
		do(in)
		if !x.answered {
			a.s.fail(x, r, errNoAnswer)
		}
	})
}

// document completes what is said of an operation by what follows from its route, its parameters and its body.
func (s *server) document(op *huma.Operation, rt route) {
	codes := append([]fault.Code{fault.CodeInternal}, rt.errors...)
	op.Security = []map[string][]string{}
	switch rt.access {
	case caller:
		op.Security = append(op.Security, map[string][]string{"apiKey": {}}, map[string][]string{"session": {}})
		codes = append(codes, fault.CodeUnauthorized, fault.CodeForbidden)
	case session:
		op.Security = append(op.Security, map[string][]string{"session": {}})
		codes = append(codes, fault.CodeUnauthorized, fault.CodeForbidden)
	case public, unset:
	}
	if rt.scope != "" {
		op.Extensions = map[string]any{extScope: rt.scope}
	}
	if rt.once {
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: "Idempotency-Key", In: "header", Schema: &huma.Schema{Type: huma.TypeString, MinLength: new(1), MaxLength: new(255)},
			Description: "The caller's own name for this request. Repeated with it and the same body within 24 h, the request does nothing and gets its first answer again.",
		})
	}
	if rt.limit != nil {
		codes = append(codes, fault.CodeRateLimitExceeded)
	}
	for _, p := range op.Parameters {
		switch p.In {
		case "path":
			code, ok := idParams[p.Name]
			if !ok {
				panic(fmt.Sprintf("httpapi: %s %s: no rule for the path parameter %s", op.Method, op.Path, p.Name))
			}
			codes = append(codes, code)
		case "query":
			if t := p.Schema.Type; t != huma.TypeString && t != huma.TypeInteger && t != huma.TypeNumber {
				panic(fmt.Sprintf("httpapi: %s %s: query parameter %s of unsupported type %q", op.Method, op.Path, p.Name, t))
			}
			codes = append(codes, fault.CodeValidation)
		}
	}
	if op.RequestBody != nil {
		codes = append(codes, fault.CodeValidation, fault.CodePayloadTooLarge, fault.CodeUnsupportedMediaType)
	}
	success := op.Responses[strconv.Itoa(rt.status)]
	success.Headers = headerDocs(rt)
	registry := s.api.OpenAPI().Components.Schemas
	for status, response := range errorResponses(codes, registry.Schema(reflect.TypeFor[errorJSON](), true, "")) {
		op.Responses[status] = response
	}
	if rt.form != nil {
		op.Responses["303"] = &huma.Response{
			Description: "The answer to a form: on to the path in its field next.",
			Headers:     map[string]*huma.Param{"Location": {Schema: &huma.Schema{Type: huma.TypeString}}},
		}
		if op.RequestBody != nil {
			op.RequestBody.Content[typeForm] = &huma.MediaType{Schema: op.RequestBody.Content[typeJSON].Schema}
		}
	}
}

// headerDocs documents the headers of a route's success.
func headerDocs(rt route) map[string]*huma.Param {
	text := func(doc string) *huma.Param {
		return &huma.Param{Description: doc, Schema: &huma.Schema{Type: huma.TypeString}}
	}
	number := func(doc string) *huma.Param {
		return &huma.Param{Description: doc, Schema: &huma.Schema{Type: huma.TypeInteger}}
	}
	out := map[string]*huma.Param{"X-Request-Id": text("The id of the request: the caller's own if it sent one in this header, else a new one.")}
	if rt.once {
		out["Idempotency-Replayed"] = text("true when this is the first answer to a request that was repeated.")
	}
	for name, doc := range rt.headers {
		out[name] = text(doc)
	}
	if rt.limit != nil {
		out["RateLimit-Limit"] = number("How many requests are allowed in the window.")
		out["RateLimit-Remaining"] = number("How many are left now.")
		out["RateLimit-Reset"] = number("Seconds until all are there again.")
		out["RateLimit"] = text("The same as the IETF's draft has it.")
		out["RateLimit-Policy"] = text("The limit as the IETF's draft has it.")
	}
	return out
}

// finishDocument drops the schemas that nothing refers to, such as huma's own form of errors.
func (s *server) finishDocument() {
	doc := s.api.OpenAPI()
	schemas := doc.Components.Schemas.Map()
	used := map[string]bool{}
	var collect func(v any)
	collect = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				name := ref[strings.LastIndexByte(ref, '/')+1:]
				if !used[name] {
					used[name] = true
					collect(asJSON(schemas[name]))
				}
			}
			for _, child := range v {
				collect(child)
			}
		case []any:
			for _, child := range v {
				collect(child)
			}
		}
	}
	collect(asJSON(doc.Paths))
	for name := range schemas {
		if !used[name] {
			delete(schemas, name)
		}
	}
}

// asJSON is the generic form of what v is in JSON.
func asJSON(v any) (out any) {
	b, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		panic(fmt.Sprintf("httpapi: the OpenAPI document: %v", err))
	}
	return out
}
