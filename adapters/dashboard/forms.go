package dashboard

import (
	"fmt"
	"net/url"
	"strconv"

	"github.com/a-h/templ"

	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/trust"
)

// form is a form as it was filled in, and what is wrong with it, by the names of its fields.
type form struct {
	url.Values
	Problem string // what no field of the form is to blame for
	Bad     map[string]string
}

func newForm(v url.Values) form {
	if v == nil {
		v = url.Values{}
	}
	return form{Values: v, Bad: map[string]string{}}
}

// refuse takes what the engine said against the form. place says which of the form's fields a path of the API is; "" is
// none. ok is false for an error that is not about the form.
func (f *form) refuse(err error, place func(path string) string) (ok bool) {
	fa, known := fault.As(err)
	if !known || fa.Kind == fault.Internal || fa.Kind == fault.NotFound || fa.Kind == fault.Unauthenticated || fa.Code == fault.CodeForbidden {
		return false
	}
	fields, _ := fa.Details["fields"].([]fault.Field)
	if len(fields) == 0 {
		f.Problem = sentence(fa.Message)
		return true
	}
	for _, bad := range fields {
		name := place(bad.Path)
		switch {
		case name == "" && f.Problem == "":
			f.Problem = sentence(bad.Path + " " + bad.Message)
		case name == "":
			f.Problem += " " + sentence(bad.Path+" "+bad.Message)
		case f.Bad[name] == "":
			f.Bad[name] = sentence(bad.Message)
		}
	}
	if f.Problem == "" {
		f.Problem = "Please look at what is marked below."
	}
	return true
}

// marks are the attributes of a field that tell of its problem.
func (f form) marks(name, id string) templ.Attributes {
	if f.Bad[name] == "" {
		return templ.Attributes{}
	}
	return templ.Attributes{"aria-invalid": "true", "aria-describedby": id + "-problem"}
}

func sentence(s string) string {
	if s == "" {
		return s
	}
	if c := s[0]; c >= 'a' && c <= 'z' {
		s = string(c-'a'+'A') + s[1:]
	}
	if last := s[len(s)-1]; last != '.' && last != '!' && last != '?' {
		s += "."
	}
	return s
}

// listing is where in a long list a page is.
type listing struct {
	Total, Limit, Offset int
	Path                 string
	Query                url.Values
}

func listingOf[T any](l app.List[T], x *exchange) listing {
	return listing{Total: l.Total, Limit: l.Limit, Offset: l.Offset, Path: x.URL.Path, Query: x.URL.Query()}
}

func (l listing) link(offset int) templ.SafeURL {
	q := url.Values{}
	for k, v := range l.Query {
		q[k] = v
	}
	q.Del("offset")
	if offset > 0 {
		q.Set("offset", strconv.Itoa(offset))
	}
	if len(q) == 0 {
		return templ.SafeURL(l.Path)
	}
	return templ.SafeURL(l.Path + "?" + q.Encode())
}

func (l listing) words() string {
	return fmt.Sprintf("%s–%s of %s", count(l.Offset+1), count(min(l.Offset+l.Limit, l.Total)), count(l.Total))
}

// pageOf is the stretch that the query asks for; nonsense is the beginning.
func pageOf(q url.Values, limit int) app.Page {
	offset, err := strconv.Atoi(q.Get("offset"))
	if err != nil || offset < 0 || offset > 1_000_000 {
		offset = 0
	}
	return app.Page{Limit: &limit, Offset: offset}
}

func themeAttr(theme string) templ.Attributes {
	if theme == "" {
		return templ.Attributes{}
	}
	return templ.Attributes{"data-theme": theme}
}

func current(is bool) templ.Attributes {
	if !is {
		return templ.Attributes{}
	}
	return templ.Attributes{"aria-current": "page"}
}

func badgeName(score float64) string { return trust.Badge(score) }
