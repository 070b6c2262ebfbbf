package dashboard

import (
	"net/http"
	"strings"

	"github.com/nexus-protocol/nexus/adapters/internal/websession"
	"github.com/nexus-protocol/nexus/app"
)

type settingsView struct {
	Account  app.AccountView
	Sessions []app.SessionView
	Mail     bool // the server sends mail
	Profile  form
	Password form
	Email    form
	Delete   form
}

func blankSettings() settingsView {
	return settingsView{Profile: newForm(nil), Password: newForm(nil), Email: newForm(nil), Delete: newForm(nil)}
}

func (d *dashboard) settings(x *exchange) error {
	return d.showSettings(x, http.StatusOK, blankSettings())
}

func (d *dashboard) showSettings(x *exchange, status int, v settingsView) error {
	var err error
	if v.Account, err = d.engine.Identity.Account(x.Context(), x.caller); err != nil {
		return err
	}
	if v.Sessions, err = d.engine.Identity.Sessions(x.Context(), x.caller); err != nil {
		return err
	}
	v.Mail = d.engine.Identity.Ways().Mail
	if !v.Profile.Has("name") {
		v.Profile.Set("name", v.Account.Name)
	}
	d.show(x, status, settingsPage(d.page(x, "Settings", "settings"), v))
	return nil
}

// byForm does what one of the forms asks for. name is the field that is to blame where the engine names none of the form's.
func (d *dashboard) byForm(x *exchange, said string, place map[string]string, name string, put func(*settingsView, form), do func() error) error {
	err := do()
	if err == nil {
		return d.to(x, "/dashboard/settings", done(said))
	}
	f := newForm(x.PostForm)
	ok := f.refuse(err, func(path string) string { return place[path] })
	if !ok {
		return err
	}
	if len(f.Bad) == 0 {
		f.Bad[name] = f.Problem
	}
	v := blankSettings()
	put(&v, f)
	return d.showSettings(x, http.StatusUnprocessableEntity, v)
}

func (d *dashboard) changeProfile(x *exchange) error {
	place := map[string]string{"name": "name"}
	return d.byForm(x, "Saved.", place, "name", func(v *settingsView, f form) { v.Profile = f }, func() error {
		_, err := d.engine.Identity.ChangeName(x.Context(), x.caller, x.PostForm.Get("name"))
		return err
	})
}

func (d *dashboard) changePassword(x *exchange) error {
	place := map[string]string{"currentPassword": "old", "password": "new", "newPassword": "new"}
	return d.byForm(x, "The new password is set. Your other sessions have ended.", place, "old", func(v *settingsView, f form) { v.Password = f }, func() error {
		return d.engine.Identity.ChangePassword(x.Context(), x.caller, x.PostForm.Get("old"), x.PostForm.Get("new"))
	})
}

func (d *dashboard) changeEmail(x *exchange) error {
	place := map[string]string{"email": "email", "password": "email-password"}
	return d.byForm(x, "A mail is on its way to the new address. It takes the place of the old one once you follow the link in it.", place, "email", func(v *settingsView, f form) { v.Email = f }, func() error {
		return d.engine.Identity.ChangeEmail(x.Context(), x.caller, strings.TrimSpace(x.PostForm.Get("email")), x.PostForm.Get("email-password"))
	})
}

func (d *dashboard) sendVerification(x *exchange) error {
	return d.byForm(x, "A mail with a link is on its way.", nil, "email", func(v *settingsView, f form) { v.Email = f }, func() error {
		return d.engine.Identity.SendVerification(x.Context(), x.caller)
	})
}

func (d *dashboard) revokeSession(x *exchange) error {
	if err := d.engine.Identity.RevokeSession(x.Context(), x.caller, x.PathValue("session")); err != nil {
		return err
	}
	return d.to(x, "/dashboard/settings#sessions", done("That session has ended."))
}

func (d *dashboard) revokeOthers(x *exchange) error {
	if err := d.engine.Identity.RevokeOtherSessions(x.Context(), x.caller); err != nil {
		return err
	}
	return d.to(x, "/dashboard/settings#sessions", done("All other sessions have ended."))
}

func (d *dashboard) deleteAccount(x *exchange) error {
	place := map[string]string{"password": "delete-password", "currentPassword": "delete-password"}
	err := d.engine.Identity.DeleteAccount(x.Context(), x.caller, x.PostForm.Get("delete-password"))
	if err != nil {
		return d.byForm(x, "", place, "delete-password", func(v *settingsView, f form) { v.Delete = f }, func() error { return err })
	}
	websession.Set(x, x.Request, "", d.opt.SecureCookies)
	return d.to(x, "/marketplace", done("Your account is deleted."))
}

// device is what a browser calls itself, made short.
func device(agent string) string {
	name := ""
	for _, known := range []struct{ mark, name string }{{"Edg/", "Edge"}, {"OPR/", "Opera"}, {"Firefox/", "Firefox"}, {"Chrome/", "Chrome"}, {"Safari/", "Safari"}, {"curl/", "curl"}} {
		if strings.Contains(agent, known.mark) {
			name = known.name
			break
		}
	}
	for _, known := range []struct{ mark, name string }{{"Android", "Android"}, {"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Windows", "Windows"}, {"Mac OS", "macOS"}, {"Linux", "Linux"}} {
		if name != "" && strings.Contains(agent, known.mark) {
			return name + " on " + known.name
		}
	}
	if name == "" {
		return orElse(shorten(agent, 60), "an unknown browser")
	}
	return name
}
