package httpapi

import (
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"github.com/nexus-protocol/nexus/adapters/internal/docshelf"
	"github.com/nexus-protocol/nexus/domain/fault"
)

func (s *server) mountDocs() {
	document := sync.OnceValues(func() ([]byte, error) { return encode(s.api.OpenAPI()) })
	s.page(route{
		method: "GET", path: "/openapi.json", access: public, media: typeJSON,
		id: "get-openapi", tag: tagDocs, summary: "This document", status: http.StatusOK, answers: "An OpenAPI 3.1 document.",
	}, func(x *exchange, r *http.Request) {
		b, err := document()
		if err != nil {
			s.fail(x, r, err)
			return
		}
		x.Header().Set("Content-Type", typeJSON)
		_, _ = x.Write(b) // whoever does not read it is gone
	})
	made := sync.OnceValue(s.docsPage)
	s.page(route{
		method: "GET", path: referencePath, access: public,
		id: "get-docs", tag: tagDocs, summary: "The same for people", text: "Lists the routes, each with a link to the page of its group, and the error codes.", status: http.StatusOK,
	}, func(x *exchange, r *http.Request) {
		s.showPage(x, r, http.StatusOK, "docs.html", made())
	})
	s.page(route{
		method: "GET", path: referencePath + "/{group}", access: public,
		id: "get-docs-group", tag: tagDocs, summary: "A group of routes for people", status: http.StatusOK, errors: []fault.Code{fault.CodeNotFound},
	}, func(x *exchange, r *http.Request) {
		all := made()
		for _, group := range all.Groups {
			if group.Anchor == r.PathValue("group") {
				s.showPage(x, r, http.StatusOK, "docsgroup.html", docsGroupPage{all, group})
				return
			}
		}
		s.serveUnmatched(x, r)
	})
	if s.opt.Pages != nil {
		return
	}
	for _, at := range []struct{ path, id string }{{"/{$}", "get-root"}, {"/docs", "get-docs-root"}} {
		s.page(route{
			method: "GET", path: at.path, access: public,
			id: at.id, tag: tagDocs, summary: "To the documentation", status: http.StatusSeeOther,
		}, func(x *exchange, r *http.Request) {
			http.Redirect(x, r, referencePath, http.StatusSeeOther)
		})
	}
}

// referencePath is where people read the OpenAPI document. Pages for people have the rest of /docs.
const referencePath = docshelf.Reference

// docsPage is the OpenAPI document as people read it.
type docsPage struct {
	Title   string
	Version string
	Around  bool             // there are other pages at /docs,
	Shelf   []docshelf.Group // and the menu that they share; none if the pages are others than the dashboard's
	Text    []string
	Groups  []docsGroup
	Codes   []docsCode
}

// docsGroupPage is one group of it.
type docsGroupPage struct {
	docsPage
	Group docsGroup
}

// docsMenu is the menu beside a page.
type docsMenu struct {
	Label  string
	Shelf  []docshelf.Group
	Groups []docsGroup
	Here   string // the anchor of the group that is read; "" for the list of all
}

// Menu is the menu beside the list of all groups.
func (p docsPage) Menu(label string) docsMenu { return docsMenu{label, p.Shelf, p.Groups, ""} }

// Menu is the menu beside the group.
func (p docsGroupPage) Menu(label string) docsMenu {
	return docsMenu{label, p.Shelf, p.Groups, p.Group.Anchor}
}

type docsGroup struct {
	Name       string
	Anchor     string
	Text       string
	Operations []docsOperation
}

type docsOperation struct {
	ID, Method, Path, Summary, Text, Auth, Scope string

	Params       []docsField
	Body         []docsField
	BodyOptional bool
	Status       string
	Answer       string
	Fields       []docsField
	Headers      []docsField
	Errors       []docsCode
}

type docsField struct {
	Name, Type, Text string
	Required         bool
}

type docsCode struct {
	Status int
	Code   fault.Code
	When   string
}

func (s *server) docsPage() docsPage {
	doc := s.api.OpenAPI()
	page := docsPage{Title: doc.Info.Title, Version: doc.Info.Version, Around: s.opt.Pages != nil, Text: strings.Split(doc.Info.Description, "\n\n"), Codes: docsCodes(fault.Codes())}
	if slices.Contains(s.opt.PagesAt, "GET /docs/{page}") {
		page.Shelf = docshelf.Groups
	}
	for _, tag := range doc.Tags {
		group := docsGroup{Name: tag.Name, Anchor: strings.ToLower(strings.ReplaceAll(tag.Name, " ", "-")), Text: tag.Description}
		for _, rt := range s.routes { // in the order in which they were added
			if rt.id != "" && rt.tag == tag.Name {
				group.Operations = append(group.Operations, s.docsOperation(rt, operationOf(doc, rt)))
			}
		}
		page.Groups = append(page.Groups, group)
	}
	return page
}

// operationOf finds a route's operation.
func operationOf(doc *huma.OpenAPI, rt route) *huma.Operation {
	item := doc.Paths[plainPath(rt.path)]
	return map[string]*huma.Operation{
		http.MethodGet: item.Get, http.MethodPost: item.Post, http.MethodPatch: item.Patch, http.MethodDelete: item.Delete, http.MethodPut: item.Put,
	}[rt.method]
}

func (s *server) docsOperation(rt route, op *huma.Operation) docsOperation {
	out := docsOperation{
		ID: op.OperationID, Method: op.Method, Path: op.Path, Summary: op.Summary, Text: op.Description, Scope: rt.scope,
		Auth: map[access]string{public: "none", caller: "API key or session", session: "session"}[rt.access],
	}
	for _, p := range op.Parameters {
		out.Params = append(out.Params, docsField{p.Name, "in " + p.In + ", " + s.typeText(p.Schema), p.Description, p.Required})
	}
	if op.RequestBody != nil {
		out.Body = s.fields("", op.RequestBody.Content[typeJSON].Schema)
		out.BodyOptional = !op.RequestBody.Required
	}
	success := op.Responses[strconv.Itoa(rt.status)]
	out.Status, out.Answer = strconv.Itoa(rt.status), success.Description
	if content := success.Content[typeJSON]; content != nil {
		out.Fields = s.fields("", content.Schema)
	} else if content := success.Content[typeStream]; content != nil {
		for _, event := range content.Schema.Items.OneOf {
			out.Fields = append(out.Fields, docsField{Name: "event: " + event.Title, Type: "data: " + s.typeText(event.Properties["data"]), Text: event.Description})
			out.Fields = append(out.Fields, s.fields(event.Title+".", event.Properties["data"])...)
		}
	}
	for i := range out.Fields {
		out.Fields[i].Required = false // to say so of an answer means nothing to its reader
	}
	for _, name := range sortedKeys(success.Headers) {
		h := success.Headers[name]
		out.Headers = append(out.Headers, docsField{Name: name, Type: s.typeText(h.Schema), Text: h.Description})
	}
	for _, status := range sortedKeys(op.Responses) {
		response := op.Responses[status]
		codes, known := response.Extensions[extCodes].([]fault.Code)
		out.Errors = append(out.Errors, docsCodes(codes)...)
		if n, err := strconv.Atoi(status); err == nil && !known && n >= http.StatusBadRequest {
			out.Errors = append(out.Errors, docsCode{Status: n, When: response.Description})
		}
	}
	return out
}

func docsCodes(codes []fault.Code) []docsCode {
	out := make([]docsCode, 0, len(codes))
	for _, c := range codes {
		out = append(out, docsCode{statusOf(kinds[c].kind, c), c, kinds[c].when})
	}
	slices.SortStableFunc(out, func(a, b docsCode) int { return a.Status - b.Status })
	return out
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// fields lists the fields of a schema and of those in it, by their paths.
func (s *server) fields(prefix string, schema *huma.Schema) []docsField {
	registry := s.api.OpenAPI().Components.Schemas
	names := sortedKeys(resolve(registry, schema).Properties)
	if schema.Ref != "" {
		names = fieldOrder(registry.TypeFromRef(schema.Ref), names)
	}
	schema = resolve(registry, schema)
	var out []docsField
	for _, name := range names {
		field := schema.Properties[name]
		path := prefix + name
		out = append(out, docsField{path, s.typeText(field), field.Description, slices.Contains(schema.Required, name)})
		if field.Type == huma.TypeArray {
			path, field = path+"[]", field.Items
		}
		out = append(out, s.fields(path+".", field)...)
	}
	return out
}

// fieldOrder puts the names into the order of the type's fields.
func fieldOrder(t reflect.Type, names []string) []string {
	var out []string
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if slices.Contains(names, name) {
			out = append(out, name)
		}
	}
	return out
}

// typeText says what values a schema takes.
func (s *server) typeText(schema *huma.Schema) string {
	null := schema.Nullable
	schema = resolve(s.api.OpenAPI().Components.Schemas, schema)
	var b strings.Builder
	switch {
	case schema.Type == "":
		b.WriteString("any JSON")
	case schema.Type == huma.TypeArray:
		b.WriteString("array of " + s.typeText(schema.Items))
	case len(schema.Enum) > 0:
		b.WriteString(oneOf(schema.Enum))
	case schema.Format != "" && schema.Format != "double" && schema.Format != "int64":
		fmt.Fprintf(&b, "%s (%s)", schema.Type, schema.Format)
	default:
		b.WriteString(schema.Type)
	}
	if null {
		b.WriteString(" or null")
	}
	bounds := func(low, high, unit string) {
		switch {
		case low != "" && high != "":
			b.WriteString(", " + low + " to " + high + unit)
		case low != "":
			b.WriteString(", at least " + low + unit)
		case high != "":
			b.WriteString(", at most " + high + unit)
		}
	}
	bounds(number(schema.Minimum), number(schema.Maximum), "")
	bounds(number(schema.MinLength), number(schema.MaxLength), " characters")
	if schema.Default != nil {
		fmt.Fprintf(&b, ", default %v", schema.Default)
	}
	return b.String()
}

func number[N int | float64](n *N) string {
	if n == nil {
		return ""
	}
	return plain(float64(*n))
}
