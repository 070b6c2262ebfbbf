package apitest

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// isSession looks at the session cookie that an answer sets, and returns its value.
func isSession(t *testing.T, r *response) string {
	t.Helper()
	c := r.cookie("nexus_session")
	require.NotNil(t, c)
	assert.True(t, c.HttpOnly)
	assert.Equal(t, http.SameSiteLaxMode, c.SameSite)
	assert.Equal(t, "/", c.Path)
	assert.Empty(t, c.Domain)
	assert.Equal(t, 30*24*3600, c.MaxAge)
	assert.Greater(t, len(c.Value), 40)
	return c.Value
}

func (s *suite) withCookie(token string) *client {
	return s.stranger().with("Cookie", "nexus_session="+token)
}

func testSignUp(t *testing.T, s *suite) {
	c := s.stranger()
	email := newEmail()
	r := c.post(t, "/auth/signup", object{"email": " " + strings.ToUpper(email) + " ", "password": password})
	user := r.data(http.StatusCreated)["user"].(object)
	assert.Equal(t, email, user["email"])
	assert.Equal(t, "user", user["role"])
	assert.NotEmpty(t, user["id"])
	assert.Len(t, user, 3)
	u := s.withCookie(isSession(t, r))
	b := u.balance(t)
	assert.Equal(t, user["id"], b["user_id"])
	assert.InDelta(t, 1000, b["balance"], 0)

	c.post(t, "/auth/signup", object{"email": email, "password": password}).refused(http.StatusConflict, "EMAIL_TAKEN")
	c.post(t, "/auth/signup", object{"email": strings.ToUpper(email), "password": password}).refused(http.StatusConflict, "EMAIL_TAKEN")

	for name, test := range map[string]struct {
		body object
		want []string
	}{
		"nothing":        {object{}, []string{"email", "password"}},
		"both wrong":     {object{"email": "nobody", "password": "short"}, []string{"email", "password"}},
		"types":          {object{"email": 1, "password": []string{}}, []string{"email", "password"}},
		"null":           {object{"email": nil, "password": password}, []string{"email"}},
		"short":          {object{"email": newEmail(), "password": "123456789"}, []string{"password"}},
		"long":           {object{"email": newEmail(), "password": strings.Repeat("x", 129)}, []string{"password"}},
		"no address":     {object{"email": "a@b@c", "password": password}, []string{"email"}},
		"with a name":    {object{"email": "Eve <eve@example.com>", "password": password}, []string{"email"}},
		"case of a name": {object{"Email": newEmail(), "PASSWORD": password}, []string{"email", "password"}},
	} {
		assert.Equal(t, test.want, c.post(t, "/auth/signup", test.body).invalid(), name)
	}
	// Nobody makes himself an admin, and a new account's session takes the place of the one the browser had.
	r = u.post(t, "/auth/signup", object{"email": newEmail(), "password": password, "role": "admin"})
	if r.status == http.StatusCreated {
		assert.Equal(t, "user", r.data(http.StatusCreated)["user"].(object)["role"])
		u.get(t, "/api/v1/agents").refused(http.StatusUnauthorized, "UNAUTHORIZED")
	}
}

func testLogIn(t *testing.T, s *suite) {
	u := s.signUp(t)
	c := s.stranger()
	r := c.post(t, "/auth/login", object{"email": strings.ToUpper(u.email), "password": password})
	assert.Equal(t, object{"id": u.userID, "email": u.email, "role": u.role}, r.data(http.StatusOK)["user"])
	first := isSession(t, r)
	s.withCookie(first).balance(t)
	u.balance(t) // another browser's session goes on

	for name, body := range map[string]object{
		"wrong password": {"email": u.email, "password": password + "!"},
		"unknown":        {"email": newEmail(), "password": password},
		"no address":     {"email": "x", "password": password},
		"empty":          {"email": u.email, "password": ""},
	} {
		r := c.post(t, "/auth/login", body)
		r.refused(http.StatusUnauthorized, "UNAUTHORIZED")
		assert.Nil(t, r.cookie("nexus_session"), name)
	}

	// A log-in from a browser that has a session takes the old one's place.
	r = s.withCookie(first).post(t, "/auth/login", object{"email": u.email, "password": password})
	second := isSession(t, r)
	assert.NotEqual(t, first, second)
	s.withCookie(first).get(t, "/api/v1/agents").refused(http.StatusUnauthorized, "UNAUTHORIZED")
	s.withCookie(second).balance(t)

	r = s.withCookie(second).post(t, "/auth/logout", nil)
	r.data(http.StatusOK)
	gone := r.cookie("nexus_session")
	require.NotNil(t, gone)
	assert.Empty(t, gone.Value)
	assert.Negative(t, gone.MaxAge)
	s.withCookie(second).get(t, "/api/v1/agents").refused(http.StatusUnauthorized, "UNAUTHORIZED")
	s.withCookie(second).post(t, "/auth/logout", nil).data(http.StatusOK) // once more is no error
	c.post(t, "/auth/logout", nil).data(http.StatusOK)
}

func (c *client) form(t *testing.T, path string, form url.Values) *response {
	t.Helper()
	return c.do(t, request{method: http.MethodPost, path: path, body: form.Encode(), header: http.Header{
		"Content-Type": {"application/x-www-form-urlencoded; charset=UTF-8"},
	}})
}

func testForms(t *testing.T, s *suite) {
	u := s.signUp(t)
	c := s.stranger()
	for path, action := range map[string]string{"/auth/login": "/auth/login", "/auth/signup": "/auth/signup", "/auth/login?next=%2Fdashboard": "/auth/login"} {
		r := c.get(t, path)
		require.Equal(t, http.StatusOK, r.status)
		isPage(t, r)
		assert.Contains(t, string(r.body), `action="`+action+`"`)
	}
	assert.Contains(t, string(c.get(t, "/auth/login?next=%2Fdashboard%3Fa%3D1").body), `name="next" value="/dashboard?a=1"`)

	// On to where it wanted to go, as long as that is here.
	for next, want := range map[string]string{
		"": "/", "/dashboard?tab=1": "/dashboard?tab=1", "https://evil.example/": "/", "//evil.example": "/", `/\evil.example`: "/", "/\t/evil.example": "/",
		"javascript:alert(1)": "/", "dashboard": "/",
	} {
		r := c.form(t, "/auth/login", url.Values{"email": {u.email}, "password": {password}, "next": {next}})
		if r.status == http.StatusTooManyRequests {
			break // the log-in limit is another test's
		}
		require.Equal(t, http.StatusSeeOther, r.status, "%s", r.body)
		assert.Equal(t, want, r.header.Get("Location"), next)
		s.withCookie(isSession(t, r)).balance(t)
	}

	r := c.form(t, "/auth/login", url.Values{"email": {`"><script>@x`}, "password": {"wrong wrong wrong"}, "next": {"/here"}})
	assert.Equal(t, http.StatusUnauthorized, r.status)
	isPage(t, r)
	assert.Contains(t, string(r.body), `role="alert"`)
	assert.Contains(t, string(r.body), `value="/here"`)
	assert.NotContains(t, string(r.body), "wrong wrong")
	assert.Nil(t, r.cookie("nexus_session"))

	r = c.form(t, "/auth/signup", url.Values{"email": {newEmail()}, "password": {"short"}})
	assert.Equal(t, http.StatusBadRequest, r.status)
	assert.Contains(t, string(r.body), "10 to 128")
	r = c.form(t, "/auth/signup", url.Values{"email": {u.email}, "password": {password}})
	assert.Equal(t, http.StatusConflict, r.status)
	r = c.form(t, "/auth/signup", url.Values{"email": {newEmail()}, "password": {password}, "next": {"/docs"}})
	if r.status != http.StatusTooManyRequests {
		require.Equal(t, http.StatusSeeOther, r.status)
		assert.Equal(t, "/docs", r.header.Get("Location"))
		in := s.withCookie(isSession(t, r))
		in.balance(t)
		r = in.form(t, "/auth/logout", url.Values{})
		assert.Equal(t, http.StatusSeeOther, r.status)
		assert.Equal(t, "/auth/login", r.header.Get("Location"))
		in.get(t, "/api/v1/agents").refused(http.StatusUnauthorized, "UNAUTHORIZED")
	}

	for name, body := range map[string]string{"malformed": "email=%zz", "NUL": "email=%00", "no UTF-8": "email=%ff", "large": "email=" + strings.Repeat("x", 100_000)} {
		r := c.do(t, request{method: http.MethodPost, path: "/auth/login", body: body, header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}})
		assert.Contains(t, []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusRequestEntityTooLarge}, r.status, name)
	}
}

func testCredentials(t *testing.T, s *suite) {
	u := s.signUp(t)
	a := u.agent(t, Echo, nil)
	k, made := u.key(t, a["id"], "*")
	key := made["key"].(string)
	k.balance(t)
	for name, header := range map[string]string{
		"another scheme":  "Basic " + key,
		"no scheme":       key,
		"nothing":         "Bearer ",
		"one letter off":  "Bearer " + key[:20] + flip(key[20]) + key[21:],
		"cut":             "Bearer " + key[:len(key)-1],
		"longer":          "Bearer " + key + "x",
		"prefix":          "Bearer " + made["prefix"].(string),
		"of another case": "Bearer " + strings.ToUpper(key),
		"no key":          "Bearer abc",
		"session's token": "Bearer " + strings.TrimPrefix(u.header.Get("Cookie"), "nexus_session="),
		"NUL":             "Bearer nxk_%00",
		"SQL":             "Bearer nxk_' OR '1'='1",
		"long":            "Bearer nxk_" + strings.Repeat("x", 10_000),
	} {
		r := s.stranger().with("Authorization", header).get(t, "/api/v1/agents")
		require.Equal(t, http.StatusUnauthorized, r.status, name)
		r.refused(http.StatusUnauthorized, "UNAUTHORIZED")
		// A bad key is not mended by a good cookie.
		u.with("Authorization", header).get(t, "/api/v1/agents").refused(http.StatusUnauthorized, "UNAUTHORIZED")
	}
	s.stranger().with("Authorization", "bearer "+key).balance(t) // schemes have no case
	for _, token := range []string{"", "x", strings.Repeat("A", 43), strings.Repeat("A", 5_000), "%00", key} {
		s.withCookie(token).get(t, "/api/v1/agents").refused(http.StatusUnauthorized, "UNAUTHORIZED")
	}
	r := s.stranger().do(t, request{method: http.MethodGet, path: "/api/v1/agents", header: http.Header{"Authorization": {"Bearer " + key, "Bearer " + key}}})
	r.refused(http.StatusUnauthorized, "UNAUTHORIZED")
	// A key in the query is no credential.
	s.stranger().get(t, "/api/v1/agents?api_key="+key).refused(http.StatusUnauthorized, "UNAUTHORIZED")
}

func flip(b byte) string {
	if b == 'a' {
		return "b"
	}
	return "a"
}

func testCrossOrigin(t *testing.T, s *suite) {
	u := s.signUp(t)
	a := u.agent(t, Echo, nil)
	k, _ := u.key(t, a["id"], "*")
	path := "/api/v1/agents/" + a["id"].(string)
	foreign := []http.Header{
		{"Sec-Fetch-Site": {"cross-site"}},
		{"Sec-Fetch-Site": {"same-site"}},
		{"Origin": {"https://evil.example"}},
		{"Origin": {"null"}},
		{"Sec-Fetch-Site": {"cross-site"}, "Origin": {"https://evil.example"}},
	}
	for _, h := range foreign {
		for _, r := range []request{
			{method: http.MethodPatch, path: path, body: object{"name": "stolen"}},
			{method: http.MethodDelete, path: path},
			{method: http.MethodPost, path: path + "/heartbeat"},
			{method: http.MethodPost, path: "/api/v1/tasks", body: object{"assignedAgentId": a["id"], "title": "x"}},
		} {
			r.header = h
			u.do(t, r).refused(http.StatusForbidden, "FORBIDDEN")
		}
		for _, path := range []string{"/auth/login", "/auth/signup", "/auth/logout"} {
			form := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
			for k, v := range h {
				form[k] = v
			}
			r := u.do(t, request{method: http.MethodPost, path: path, header: form, body: url.Values{"email": {u.email}, "password": {password}}.Encode()})
			r.refused(http.StatusForbidden, "FORBIDDEN")
			assert.Nil(t, r.cookie("nexus_session"))
			u.do(t, request{method: http.MethodPost, path: path, header: h, body: object{"email": u.email, "password": password}}).
				refused(http.StatusForbidden, "FORBIDDEN")
		}
		// Reading gives nothing away to another site's page, and a key is sent by no browser of itself.
		u.do(t, request{method: http.MethodGet, path: path, header: h}).data(http.StatusOK)
		k.do(t, request{method: http.MethodPatch, path: path, header: h, body: object{}}).data(http.StatusOK)
	}
	same := []http.Header{{"Sec-Fetch-Site": {"same-origin"}}, {"Sec-Fetch-Site": {"none"}}, {"Origin": {s.BaseURL}}, {}}
	for _, h := range same {
		got := u.do(t, request{method: http.MethodPatch, path: path, header: h, body: object{"description": "mine"}}).data(http.StatusOK)
		assert.Equal(t, a["name"], got["name"])
	}
}
