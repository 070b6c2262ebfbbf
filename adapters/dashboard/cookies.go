package dashboard

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"

	"github.com/nexus-protocol/nexus/adapters/internal/websession"
)

const (
	flashCookie = "nexus_flash"
	maxFlash    = 300 // bytes of a flash's text
	year        = 365 * 24 * 3600
)

// flash is one word to the reader after something was done.
type flash struct {
	Bad  bool
	Text string
}

func done(text string) flash { return flash{Text: text} }

func (d *dashboard) cookie(x *exchange, name, value string, maxAge int) {
	http.SetCookie(x, &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: maxAge, HttpOnly: true, SameSite: http.SameSiteLaxMode,
		Secure: d.opt.SecureCookies || x.TLS != nil,
	})
}

func (d *dashboard) putFlash(x *exchange, f flash) {
	if f.Text == "" {
		return
	}
	mark := "+"
	if f.Bad {
		mark = "-"
	}
	if len(f.Text) > maxFlash {
		f.Text = strings.ToValidUTF8(f.Text[:maxFlash], "") + "…"
	}
	d.cookie(x, flashCookie, base64.RawURLEncoding.EncodeToString([]byte(mark+f.Text)), 60)
}

// takeFlash reads the word that the last page left, and takes it away.
func takeFlash(x *exchange) flash {
	c, err := x.Cookie(flashCookie)
	if err != nil || c.Value == "" {
		return flash{}
	}
	http.SetCookie(x, &http.Cookie{Name: flashCookie, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	b, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil || len(b) < 2 {
		return flash{}
	}
	return flash{Bad: b[0] == '-', Text: string(b[1:])}
}

// setTheme keeps which colours a browser wants.
func (d *dashboard) setTheme(x *exchange) error {
	value, age := x.PostForm.Get("theme"), year
	if !slices.Contains([]string{"light", "dark"}, value) {
		value, age = "", -1
	}
	d.cookie(x, websession.ThemeCookie, value, age)
	http.Redirect(x, x.Request, websession.LocalPath(x.PostForm.Get("next"), "/"), http.StatusSeeOther)
	return nil
}
