package httpapi

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/nexus-protocol/nexus/adapters/internal/webassets"
	"github.com/nexus-protocol/nexus/adapters/internal/websession"
	"github.com/nexus-protocol/nexus/domain/fault"
)

//go:embed pages
var pageFiles embed.FS

// pages are the server's own pages. They have no script; how they look is the style sheet's that all pages share.
var pages = template.Must(template.New("").Funcs(template.FuncMap{"asset": webassets.URL}).ParseFS(pageFiles, "pages/*.html"))

const pagePolicy = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// shown is a page's content, in the colours that the reader chose in the dashboard; "" for what the system says.
type shown struct {
	Theme string
	Page  any
}

// showPage answers with a page.
func (s *server) showPage(x *exchange, r *http.Request, status int, name string, data any) {
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, name, shown{websession.Theme(r), data}); err != nil {
		s.fail(x, r, err)
		return
	}
	s.showHTML(x, status, b.Bytes())
}

func (s *server) showHTML(x *exchange, status int, html []byte) {
	x.Header().Set("Content-Type", typeHTML)
	x.Header().Set("Content-Security-Policy", pagePolicy)
	x.WriteHeader(status)
	_, _ = x.Write(html) // whoever does not read it is gone
}

// entryPage is what the pages to log in and to sign up show.
type entryPage struct {
	SignUp bool
	Email  string
	Next   string
	Error  string

	Form      bool // with an e-mail and a password
	Other     bool // the other of the two pages is of use
	Forgot    bool
	Providers []entryProvider
}

type entryProvider struct{ Title, URL string }

func (s *server) entryPage(e entry, email, next string, err error) entryPage {
	w := s.engine.Identity.Ways()
	p := entryPage{SignUp: bool(e), Email: email, Next: next, Form: w.Password, Other: w.SignUp, Forgot: w.SignUp && w.Mail && e == logIn}
	if e == signUp {
		p.Form = w.SignUp
	}
	if err != nil {
		p.Error = messageOf(err)
	}
	for _, one := range w.Providers {
		if one.Redirect {
			p.Providers = append(p.Providers, entryProvider{one.Title, withPath + one.Name + "?next=" + url.QueryEscape(next)})
		}
	}
	return p
}

func (s *server) showEntry(e entry) func(*exchange, *http.Request) {
	return func(x *exchange, r *http.Request) {
		s.showPage(x, r, http.StatusOK, "entry.html", s.entryPage(e, "", websession.LocalPath(r.URL.Query().Get("next"), "/"), nil))
	}
}

// enterByForm is logIn or signUp by an HTML form: on to where it wanted to go, or the form again and what was wrong.
func (s *server) enterByForm(e entry) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		x := exchangeOf(r.Context())
		form, err := readForm(x, r)
		email, next := form.Get("email"), websession.LocalPath(form.Get("next"), "/")
		if err == nil {
			_, err = s.enter(w, r, e, email, form.Get("password"))
		}
		if err == nil {
			http.Redirect(w, r, next, http.StatusSeeOther)
			return
		}
		status, _ := s.errorAnswer(r.Context(), x, err)
		s.showPage(x, r, status, "entry.html", s.entryPage(e, email, next, err))
	}
}

func (s *server) leaveByForm(w http.ResponseWriter, r *http.Request) {
	x := exchangeOf(r.Context())
	form, err := readForm(x, r)
	if err == nil {
		err = s.leave(w, r)
	}
	if err != nil {
		s.fail(x, r, err)
		return
	}
	http.Redirect(w, r, websession.LocalPath(form.Get("next"), "/auth/login"), http.StatusSeeOther)
}

// maxForm is the most bytes of a form.
const maxForm = 64 << 10

// readForm reads the request's body as a form.
func readForm(x *exchange, r *http.Request) (url.Values, error) {
	text, err := readBody(x, r, maxForm)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(text))
	var bad fault.Fields
	bad.Check(err == nil, wholeBody, "is no well-formed form")
	for k, values := range form {
		if strings.ContainsRune(values[0], 0) || !utf8.ValidString(values[0]) {
			bad.Add(shorten(k, maxPathKey), "must be text")
		}
	}
	if err := bad.Err(); err != nil {
		return nil, err
	}
	return form, nil
}
