// Package httpapi serves the engine over HTTP: the JSON API, its OpenAPI document and pages, and the log-in of people.
// It translates and nothing else; what is allowed and what happens is for app to decide.
package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/nexus-protocol/nexus/adapters/internal/peer"
	"github.com/nexus-protocol/nexus/adapters/internal/webassets"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/ports"
)

// Options are the server's settings; zero values are the defaults.
type Options struct {
	Logger    *slog.Logger // default: discards
	PublicURL string       // how the server is reached from outside, such as https://nexus.example.com
	Version   string       // of the engine, for the OpenAPI document; default "dev"

	// TrustedProxies are those whose X-Forwarded-For is believed; default none.
	TrustedProxies []netip.Prefix
	// RateLimit switches the limits on. Without them, log-ins and sign-ups are not limited by address either.
	RateLimit bool
	// SecureCookies marks cookies as for https only, whatever the request says. Without it they are so marked if the
	// request came over TLS or PublicURL begins with https.
	SecureCookies bool
	// ReadyChecks are asked, with the engine itself, if the server can serve. The names of those that fail are shown.
	ReadyChecks map[string]func(context.Context) error
	// Observe, if set, is called with each request. What it returns becomes the request's context, and done is called
	// once the request is answered, with the pattern of its route ("" if none took it) and the status (0 if there is none).
	Observe func(r *http.Request) (ctx context.Context, done func(pattern string, status int))
	// Open are routes that need no credential, such as the A2A gateway's.
	Open []OpenRoute
	// Pages, if set, serves pages for people, by their patterns, such as the dashboard's. It looks at the session itself,
	// and its front page and its /docs take the place of those here, which lead to the API's reference. It is also asked for
	// what no route takes, outside of /api/, if a browser asks: people get a page to go on from.
	Pages   http.Handler
	PagesAt []string
	// Streams bound the streams of events.
	Streams StreamOptions
}

// server is the API over one engine.
type server struct {
	engine  *app.Engine
	opt     Options
	log     *slog.Logger
	mux     *http.ServeMux
	api     huma.API
	origin  *http.CrossOriginProtection
	routes  []route
	streams *streams
}

// New makes the handler of everything that the engine serves over HTTP. It panics when a route is faulty, such as one
// that does not say who may call it. The engine's Worker must run for tasks to be forwarded.
func New(engine *app.Engine, opt Options) http.Handler {
	return newServer(engine, opt, (*server).mountAll)
}

// NewHealth makes a handler of the health routes alone, for a process that only works.
func NewHealth(engine *app.Engine, opt Options) http.Handler {
	return newServer(engine, opt, (*server).mountHealth)
}

func newServer(engine *app.Engine, opt Options, mount func(*server)) *server {
	s := &server{engine: engine, opt: opt, log: opt.Logger, mux: http.NewServeMux(), origin: http.NewCrossOriginProtection(), streams: newStreams(opt.Streams)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.opt.Version == "" {
		s.opt.Version = "dev"
	}
	if u, err := url.Parse(opt.PublicURL); err == nil && u.Host != "" {
		if err := s.origin.AddTrustedOrigin(u.Scheme + "://" + u.Host); err != nil {
			panic(fmt.Sprintf("httpapi: PublicURL: %v", err))
		}
		s.opt.SecureCookies = s.opt.SecureCookies || u.Scheme == "https"
	}
	s.api = newAPI(s)
	mount(s)
	s.finishDocument()
	return s
}

// assetPath is where the pages get their style from. It is no part of the API.
var assetPath = strings.TrimPrefix(webassets.Pattern, "GET ")

func (s *server) mountAll() {
	s.mountAuth()
	s.mountAgents()
	s.mountKeys()
	s.mountTasks()
	s.mountTaskStream()
	s.mountWorkflows()
	s.mountTrust()
	s.mountBilling()
	s.mountHealth()
	s.mountDocs()
	for _, o := range s.opt.Open {
		s.mountOpen(o)
	}
	s.handle(route{method: "GET", path: assetPath, access: public}, func(x *exchange, r *http.Request) {
		if !webassets.Serve(x, r) {
			s.serveUnmatched(x, r)
		}
	})
	for _, pattern := range s.opt.PagesAt {
		method, path, found := strings.Cut(pattern, " ")
		if !found {
			method, path = "", pattern
		}
		s.handle(route{method: method, path: path, access: public}, func(x *exchange, r *http.Request) {
			s.showPages(x, r)
		})
	}
}

// showPages has the pages for people answer.
func (s *server) showPages(x *exchange, r *http.Request) {
	s.opt.Pages.ServeHTTP(x, r.WithContext(peer.With(r.Context(), s.clientAddress(r))))
}

// access says who may call a route at all. What a caller may do there is for app to say.
type access uint8

const (
	unset   access = iota // a mistake: such a route does not start
	public                // anyone
	caller                // an API key or a session
	session               // a session alone
)

// route is one method of one path.
type route struct {
	method  string
	path    string
	access  access
	browser bool             // public, yet a page of another site may not post to it
	limit   *ports.RateRule  // counted against the caller before anything else is looked at
	form    http.HandlerFunc // takes the request instead if its body is a form
	// also, if set, finds the faults that only the engine knows in a body that has others already, so that all are told at
	// once.
	also func(ctx context.Context, body []byte) error

	// What the OpenAPI document says of it. A route without an id is not in there.
	id      string
	tag     string
	summary string
	text    string
	scope   string       // that a key needs; app asks for it
	status  int          // of success
	answers string       // what success is, if not plain from the summary
	media   string       // of a page or document; "": text/html
	errors  []fault.Code // beyond those that follow from the rest
	headers map[string]string
	once    bool // set by registerCreate
	csv     bool // success may be text/csv
}

// unmatched is the pattern of an exchange that no route took.
const unmatched = "-"

// answerTimeout bounds the writing of an answer. Streams lift it.
const answerTimeout = 60 * time.Second

// handle adds a route. Every route there is comes through here.
func (s *server) handle(rt route, serve func(x *exchange, r *http.Request)) {
	if rt.access == unset {
		panic(fmt.Sprintf("httpapi: %s %s has no access rule", rt.method, rt.path))
	}
	s.routes = append(s.routes, rt)
	pattern := strings.TrimPrefix(rt.method+" "+rt.path, " ")
	s.mux.HandleFunc(pattern, func(_ http.ResponseWriter, r *http.Request) {
		x := exchangeOf(r.Context())
		x.pattern = pattern
		_ = http.NewResponseController(x.ResponseWriter).SetWriteDeadline(time.Now().Add(answerTimeout)) // tests have none
		if err := s.admit(x, rt, r); err != nil {
			s.fail(x, r, err)
			return
		}
		if rt.form != nil && isForm(r) {
			rt.form(x, r)
			return
		}
		serve(x, r)
	})
}

// ServeHTTP implements http.Handler.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{ResponseWriter: w, began: time.Now(), id: requestID(r)}
	ctx := r.Context()
	if s.opt.Observe != nil {
		var done func(string, int)
		ctx, done = s.opt.Observe(r)
		defer func() { done(strings.TrimPrefix(x.pattern, unmatched), x.status) }()
	}
	r = r.WithContext(context.WithValue(ctx, exchangeKey{}, x))
	x.request = r
	h := w.Header()
	h.Set("X-Request-Id", x.id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Cache-Control", "no-store")
	defer x.log(r.Context(), s.log, r.Method)
	defer s.rescue(x, r)
	s.mux.ServeHTTP(x, r)
	if x.pattern == "" {
		s.serveUnmatched(x, r)
	}
}

// serveUnmatched answers a request that the mux found no route for, and noted so in the headers.
func (s *server) serveUnmatched(x *exchange, r *http.Request) {
	x.pattern = unmatched
	h := x.Header()
	h.Del("Location") // of a redirect to a tidier path
	if s.opt.Pages != nil && wantsPage(r) {
		h.Del("Allow")
		s.showPages(x, r)
		return
	}
	if allow := h.Get("Allow"); allow != "" {
		s.fail(x, r, fault.New(fault.NotFound, fault.CodeMethodNotAllowed, "there is no %s here; use one of %s", shorten(r.Method, 16), allow))
		return
	}
	s.fail(x, r, fault.New(fault.NotFound, fault.CodeNotFound, "there is no such route; /docs/reference lists those there are"))
}

// wantsPage tells a browser that looks for a page from a client of the API.
func wantsPage(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead || r.URL.Path == "/api" || strings.HasPrefix(r.URL.Path, "/api/") {
		return false
	}
	accept := strings.Join(r.Header.Values("Accept"), ",")
	return strings.Contains(accept, "text/html") && !strings.Contains(accept, typeJSON)
}

// rescue answers a request whose handler panicked.
func (s *server) rescue(x *exchange, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so too
		panic(v)
	}
	if x.pattern == "" {
		x.pattern = unmatched
	}
	s.fail(x, r, fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
}

// admit lets a request pass that shows the credential its route asks for, or refuses it.
func (s *server) admit(x *exchange, rt route, r *http.Request) error {
	if rt.access != public {
		c, err := s.identify(x, r, rt.access)
		if err != nil {
			return err
		}
		x.caller = c
	}
	if rt.browser || x.caller.Session != "" {
		if s.origin.Check(r) != nil {
			return fault.New(fault.Forbidden, fault.CodeForbidden, "a page of another site may not do this; send an API key instead of the session cookie")
		}
	}
	if rt.limit != nil && s.opt.RateLimit {
		return s.count(x, r, *rt.limit)
	}
	return nil
}

// isForm reports whether the request's body is an HTML form's.
func isForm(r *http.Request) bool {
	mediaType, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(mediaType), typeForm)
}

// Media types.
const (
	typeJSON = "application/json"
	typeForm = "application/x-www-form-urlencoded"
	typeHTML = "text/html; charset=utf-8"
)

var errNoAnswer = errors.New("httpapi: an operation gave no answer")
