package demopay_test

import (
	"context"
	"errors"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/demopay"
	"github.com/nexus-protocol/nexus/domain/billing"
	"github.com/nexus-protocol/nexus/ports"
	"github.com/nexus-protocol/nexus/ports/portstest"
)

// world is the page, and what it delivers.
type world struct {
	*demopay.Payments
	url       string
	delivered []ports.Delivery
	fail      error
	now       time.Time
}

func open(t *testing.T) *world {
	t.Helper()
	w := &world{now: time.Now()}
	mux := http.NewServeMux()
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	w.url = srv.URL
	w.Payments = demopay.New(demopay.Options{BaseURL: srv.URL, SuccessURL: srv.URL + "/paid", CancelURL: srv.URL + "/unpaid", Now: func() time.Time { return w.now }})
	page := w.Handler(func(_ context.Context, d ports.Delivery) error {
		w.delivered = append(w.delivered, d)
		return w.fail
	})
	for _, p := range demopay.Patterns() {
		mux.Handle(p, page)
	}
	return w
}

var client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

func get(t *testing.T, link string) (int, http.Header, string) {
	t.Helper()
	res, err := client.Get(link)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, res.Header, string(body)
}

// press sends the page's form.
func (w *world) press(t *testing.T, link, button string, header http.Header) (int, string) {
	t.Helper()
	u, err := url.Parse(link)
	require.NoError(t, err)
	form := url.Values{"order": {u.Query().Get("order")}, "do": {button}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+"/demo/checkout", strings.NewReader(form.Encode()))
	require.NoError(t, err)
	req.Header = http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	for k, v := range header {
		req.Header[k] = v
	}
	res, err := client.Do(req)
	require.NoError(t, err)
	_ = res.Body.Close()
	return res.StatusCode, res.Header.Get("Location")
}

func TestPayments(t *testing.T) {
	w := open(t)
	links := map[string]string{}
	spy := spy{w.Payments, links}
	require.NoError(t, portstest.Payments(t.Context(), spy, portstest.Provider{
		Sells: true, Now: w.now,
		Pay: func(id string) ([]ports.Delivery, error) {
			if status, to := w.press(t, links[id], "pay", nil); status != http.StatusSeeOther || to != w.url+"/paid" {
				return nil, errors.New("the page did not pay")
			}
			return w.delivered, nil
		},
		Sign: w.Sign,
	}))
}

// spy remembers where checkouts are.
type spy struct {
	*demopay.Payments
	links map[string]string
}

func (s spy) Begin(ctx context.Context, o billing.Order) (billing.Checkout, error) {
	c, err := s.Payments.Begin(ctx, o)
	s.links[c.SessionID] = c.URL
	return c, err
}

func TestThePage(t *testing.T) {
	w := open(t)
	o := billing.Order{ID: "purchase", UserID: "user", Package: billing.Packages()[1]}
	o.Package.Name = `<script>alert("x")</script>`
	c, err := w.Begin(t.Context(), o)
	require.NoError(t, err)
	status, header, body := get(t, c.URL)
	assert.Equal(t, http.StatusOK, status)
	assert.Contains(t, body, "Demo checkout")
	assert.Contains(t, body, "40.00 USD")
	assert.Contains(t, body, html.EscapeString(o.Package.Name))
	for _, without := range []string{"<script", "<link", "<img", " src=", " style=", " onclick="} {
		assert.NotContains(t, body, without)
	}
	policy := header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
		assert.Contains(t, policy, want)
	}
	assert.NotContains(t, policy, "unsafe")
	assert.Regexp(t, regexp.MustCompile(`style-src 'sha256-[^']+'`), policy)
	assert.Equal(t, "no-store", header.Get("Cache-Control"))

	// Nobody makes up an order, or changes one.
	u, err := url.Parse(c.URL)
	require.NoError(t, err)
	signed := u.Query().Get("order")
	for _, forged := range []string{"", "x", signed[:len(signed)-2], "A" + signed, strings.Replace(signed, ".", "..", 1), "." + signed, "e30." + strings.Split(signed, ".")[1]} {
		status, _, _ := get(t, w.url+"/demo/checkout?order="+url.QueryEscape(forged))
		assert.Equal(t, http.StatusNotFound, status, forged)
		status, _ = w.press(t, w.url+"/demo/checkout?order="+url.QueryEscape(forged), "pay", nil)
		assert.Equal(t, http.StatusNotFound, status, forged)
	}
	// A page of another site does not press the button.
	for _, from := range []http.Header{{"Sec-Fetch-Site": {"cross-site"}}, {"Origin": {"https://evil.example"}}} {
		status, _ := w.press(t, c.URL, "pay", from)
		assert.Equal(t, http.StatusForbidden, status)
	}
	status, to := w.press(t, c.URL, "cancel", nil)
	assert.Equal(t, []any{http.StatusSeeOther, w.url + "/unpaid"}, []any{status, to})
	assert.Empty(t, w.delivered)

	w.fail = errors.New("no database")
	status, _ = w.press(t, c.URL, "pay", http.Header{"Sec-Fetch-Site": {"same-origin"}})
	assert.Equal(t, http.StatusServiceUnavailable, status)
	w.fail = nil
	for range 2 {
		status, to = w.press(t, c.URL, "pay", nil)
		assert.Equal(t, []any{http.StatusSeeOther, w.url + "/paid"}, []any{status, to})
	}
	require.Len(t, w.delivered, 3)
	first, err1 := w.Read(t.Context(), w.delivered[1])
	second, err2 := w.Read(t.Context(), w.delivered[2])
	require.NoError(t, errors.Join(err1, err2))
	assert.Equal(t, first.ID, second.ID, "pressed twice it is one event")

	w.now = w.now.Add(25 * time.Hour)
	status, _, _ = get(t, c.URL)
	assert.Equal(t, http.StatusNotFound, status, "a checkout does not stay open for ever")
}
