// Package websession is how browsers hold sessions: the cookie, and where a person goes after having logged in. All that
// serves pages shares it.
package websession

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/nexus-protocol/nexus/domain/identity"
)

// Cookie is the name of the cookie that holds a session's token.
const Cookie = "nexus_session"

// Token is the token of the request's session cookie, "" without one.
func Token(r *http.Request) string {
	c, err := r.Cookie(Cookie)
	if err != nil {
		return ""
	}
	return c.Value
}

// Set gives the browser a session, or with "" takes it away. secure marks it for https only, as a request over TLS does.
func Set(w http.ResponseWriter, r *http.Request, token string, secure bool) {
	c := &http.Cookie{
		Name: Cookie, Value: token, Path: "/", MaxAge: int(identity.SessionIdle.Seconds()),
		HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: secure || r.TLS != nil,
	}
	if token == "" {
		c.MaxAge = -1
	}
	others := w.Header().Values("Set-Cookie")
	w.Header().Del("Set-Cookie")
	for _, other := range others { // this is the newest word on the session
		if !strings.HasPrefix(other, Cookie+"=") {
			w.Header().Add("Set-Cookie", other)
		}
	}
	http.SetCookie(w, c)
}

// ThemeCookie is the name of the cookie that holds the colours that a browser's reader chose.
const ThemeCookie = "nexus_theme"

// Theme is the colours that the reader chose: light, dark, or "" for what the system says.
func Theme(r *http.Request) string {
	c, err := r.Cookie(ThemeCookie)
	if err != nil || c.Value != "light" && c.Value != "dark" {
		return ""
	}
	return c.Value
}

// LocalPath returns the path if it leads to a place on this site and nowhere else, or what to use instead.
func LocalPath(path, instead string) string {
	u, err := url.Parse(path)
	if err != nil || !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.ContainsRune(path, '\\') || u.Host != "" || u.Scheme != "" {
		return instead
	}
	return path
}
