package httpapi

import (
	"cmp"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/nexus-protocol/nexus/adapters/internal/peer"
	"github.com/nexus-protocol/nexus/domain/fault"
)

// OpenRoute is a route that the server mounts for another, with what the OpenAPI document says of it. The server asks for no
// credential there. The handler gets requests with the sender's address noted in their context, for whoever knows where to
// look.
type OpenRoute struct {
	Method, Path string // in the form of net/http's patterns
	Slash        bool   // the path is served with a final slash too
	Handler      http.Handler
	ID           string // of the operation
	Tag, TagText string // the group that it belongs to, and what the document says of that
	Summary      string
	Text         string
	Params       map[string]string // what the parameters of the path and the headers mean, by name
	Body         any               // of the type of the JSON body; nil if there is none
	Answers      map[int]any       // by status: of the type of the JSON that is answered; nil if there is none
	Says         map[int]string    // what each means
	Events       any               // of the type of the server-sent events that may be answered instead; nil if there are none
}

// mounted says in the document that a route is another handler's: its answers have a form of their own.
const mounted = "x-mounted"

// mountOpen mounts one of Options.Open.
func (s *server) mountOpen(o OpenRoute) {
	serve := func(x *exchange, r *http.Request) {
		o.Handler.ServeHTTP(x, r.WithContext(peer.With(r.Context(), s.clientAddress(r))))
	}
	status := slices.Min(slices.Collect(maps.Keys(o.Answers)))
	s.handle(route{method: o.Method, path: o.Path, access: public, id: o.ID, tag: o.Tag, summary: o.Summary, text: o.Text, status: status}, serve)
	if o.Slash {
		s.handle(route{method: o.Method, path: o.Path + "/{$}", access: public}, serve)
	}
	s.documentOpen(o, status)
}

func (s *server) documentOpen(o OpenRoute, success int) {
	doc := s.api.OpenAPI()
	if !slices.ContainsFunc(doc.Tags, func(t *huma.Tag) bool { return t.Name == o.Tag }) {
		doc.Tags = append(doc.Tags, &huma.Tag{Name: o.Tag, Description: o.TagText})
	}
	schema := func(of any) map[string]*huma.MediaType {
		if of == nil {
			return nil
		}
		return map[string]*huma.MediaType{typeJSON: {Schema: doc.Components.Schemas.Schema(reflect.TypeOf(of), true, "")}}
	}
	op := &huma.Operation{
		OperationID: o.ID, Method: o.Method, Path: o.Path, Tags: []string{o.Tag}, Summary: o.Summary, Description: o.Text,
		Security: []map[string][]string{}, Responses: map[string]*huma.Response{}, Extensions: map[string]any{mounted: true},
	}
	for _, name := range sortedKeys(o.Params) {
		p := &huma.Param{Name: name, In: "header", Description: o.Params[name], Schema: &huma.Schema{Type: huma.TypeString}}
		if strings.Contains(o.Path, "{"+name+"}") {
			p.In, p.Required, p.Schema.Format = "path", true, "uuid"
		}
		if name == "Authorization" { // OpenAPI has other words for it
			op.Security = append(op.Security, map[string][]string{}, map[string][]string{"apiKey": {}})
			continue
		}
		op.Parameters = append(op.Parameters, p)
	}
	if o.Body != nil {
		op.RequestBody = &huma.RequestBody{Required: true, Content: schema(o.Body)}
	}
	for status, of := range o.Answers {
		op.Responses[strconv.Itoa(status)] = &huma.Response{Description: cmp.Or(o.Says[status], http.StatusText(status)), Content: schema(of)}
	}
	if o.Events != nil {
		event := &huma.Schema{Title: "message", Type: huma.TypeObject, Properties: map[string]*huma.Schema{"data": schema(o.Events)[typeJSON].Schema}}
		op.Responses[strconv.Itoa(success)].Content[typeStream] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{OneOf: []*huma.Schema{event}}}}
	}
	doc.AddOperation(op)
}

// page adds a route that answers with a page, or another text, and documents it.
func (s *server) page(rt route, serve func(x *exchange, r *http.Request)) {
	s.handle(rt, serve)
	doc := s.api.OpenAPI()
	responses := errorResponses(append([]fault.Code{fault.CodeInternal}, rt.errors...), doc.Components.Schemas.Schema(reflect.TypeFor[errorJSON](), true, ""))
	media, schema := cmp.Or(rt.media, "text/html"), &huma.Schema{Type: huma.TypeString}
	if media == typeJSON {
		schema = &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}
	}
	responses[strconv.Itoa(rt.status)] = &huma.Response{
		Description: cmp.Or(rt.answers, http.StatusText(rt.status)), Content: map[string]*huma.MediaType{media: {Schema: schema}},
	}
	op := &huma.Operation{
		OperationID: rt.id, Method: rt.method, Path: plainPath(rt.path), Tags: []string{rt.tag}, Summary: rt.summary, Description: rt.text,
		Security: []map[string][]string{}, Responses: responses,
	}
	if rt.access == session {
		op.Security = append(op.Security, map[string][]string{"session": {}})
		for status, response := range errorResponses([]fault.Code{fault.CodeUnauthorized, fault.CodeForbidden}, doc.Components.Schemas.Schema(reflect.TypeFor[errorJSON](), true, "")) {
			responses[status] = response
		}
	}
	for _, seg := range strings.Split(op.Path, "/") {
		if name, ok := strings.CutPrefix(seg, "{"); ok {
			op.Parameters = append(op.Parameters, &huma.Param{Name: strings.TrimSuffix(name, "}"), In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString}})
		}
	}
	doc.AddOperation(op)
}

// plainPath is a pattern's path as documents write it.
func plainPath(pattern string) string { return strings.TrimSuffix(pattern, "{$}") }

// mounts tells whether routes are described by types of the package.
func (s *server) mounts(pkg string) bool {
	return slices.ContainsFunc(s.opt.Open, func(o OpenRoute) bool {
		for _, v := range o.Answers {
			if v != nil && reflect.TypeOf(v).PkgPath() == pkg {
				return true
			}
		}
		return false
	})
}
