package apitest

import (
	"encoding/csv"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const webhook = "/api/v1/billing/webhook"

// deliver delivers a provider's event.
func (s *suite) deliver(t *testing.T, body, signature string) *response {
	t.Helper()
	return s.stranger().do(t, request{method: http.MethodPost, path: webhook, body: body, header: http.Header{
		"Content-Type": {"application/json; charset=utf-8"}, "Stripe-Signature": {signature},
	}})
}

// hasBalance waits until a user's balance is so.
func (c *client) hasBalance(t *testing.T, want float64) object {
	t.Helper()
	var b object
	require.Eventually(t, func() bool {
		b = c.balance(t)
		return b["balance"] == want
	}, 20*time.Second, 10*time.Millisecond, "the balance stays away from %v", want)
	return b
}

func testCheckout(t *testing.T, s *suite) {
	u := s.signUp(t)
	packages := s.stranger().get(t, "/api/v1/billing/packages").data(http.StatusOK)
	assert.Equal(t, s.Pay != nil, packages["open"])
	have := []string{}
	for _, p := range packages["packages"].([]any) {
		p := p.(object)
		have = append(have, fmt.Sprint(p["id"], " ", p["credits"], " ", p["price"], " ", p["currency"]))
	}
	assert.Equal(t, []string{"starter 1000 1000 usd", "pro 5000 4000 usd", "enterprise 25000 15000 usd"}, have)

	assert.Equal(t, []string{"packageId"}, u.post(t, "/api/v1/billing/checkout", object{"packageId": "Starter"}).invalid())
	if s.Pay == nil {
		u.post(t, "/api/v1/billing/checkout", object{"packageId": "starter"}).refused(http.StatusServiceUnavailable, "PAYMENTS_NOT_CONFIGURED")
		s.deliver(t, "{}", "t=1,v1=00").refused(http.StatusServiceUnavailable, "PAYMENTS_NOT_CONFIGURED")
		return
	}
	evil := u.with("X-Forwarded-Host", "evil.example").with("Idempotency-Key", "buy")
	first := evil.post(t, "/api/v1/billing/checkout", object{"packageId": "starter"})
	link := first.data(http.StatusOK)["url"].(string)
	assert.NotEmpty(t, link)
	again := evil.post(t, "/api/v1/billing/checkout", object{"packageId": "starter"})
	assert.Equal(t, link, again.data(http.StatusOK)["url"])
	assert.Equal(t, "true", again.header.Get("Idempotency-Replayed"))
	evil.post(t, "/api/v1/billing/checkout", object{"packageId": "pro"}).refused(http.StatusConflict, "IDEMPOTENCY_CONFLICT")
	items, meta := u.get(t, "/api/v1/billing/purchases").list()
	assert.InDelta(t, 1, meta["total"], 0)
	assert.Equal(t, "open", items[0]["status"])

	body, signature := s.Pay(t, link)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() { assert.Equal(t, true, s.deliver(t, string(body), signature).data(http.StatusOK)["received"]) })
	}
	wg.Wait()
	b := u.hasBalance(t, 2000)
	assert.InDelta(t, 1000, b["total_purchased"], 0)
	s.deliver(t, string(body), signature).data(http.StatusOK)
	lines, meta := u.get(t, "/api/v1/billing/transactions?type=purchase").list()
	require.InDelta(t, 1, meta["total"], 0)
	assert.InDelta(t, 1000, lines[0]["amount"], 0)
	assert.InDelta(t, 2000, lines[0]["balanceAfter"], 0)
	items, _ = u.get(t, "/api/v1/billing/purchases").list()
	assert.Equal(t, "paid", items[0]["status"])
	assert.Equal(t, "starter", items[0]["packageId"])
	_, meta = s.signUp(t).get(t, "/api/v1/billing/purchases").list()
	assert.InDelta(t, 0, meta["total"], 0, "purchases are the buyer's own")
	u.hasBalance(t, 2000)
}

func testWebhook(t *testing.T, s *suite) {
	if s.Pay == nil {
		return
	}
	u := s.signUp(t)
	body, signature := s.Pay(t, u.post(t, "/api/v1/billing/checkout", object{"packageId": "pro"}).data(http.StatusOK)["url"].(string))
	text := string(body)
	for name, d := range map[string][2]string{
		"another amount":         {strings.Replace(text, "4000", "4001", 1), signature},
		"a byte more":            {text + " ", signature},
		"no signature":           {text, ""},
		"half a signature":       {text, signature[:len(signature)/2]},
		"nonsense":               {text, "nonsense"},
		"nothing":                {"", signature},
		"a made-up event":        {`{"id":"evt_1","type":"checkout.session.completed"}`, "t=1,v1=" + strings.Repeat("0", 64)},
		"not even JSON":          {"]", signature},
		"two signatures in one":  {text, signature + "," + signature},
		"a signature of nothing": {text, "t=,v1="},
	} {
		r := s.deliver(t, d[0], d[1])
		assert.Equal(t, http.StatusBadRequest, r.status, "%s: %s", name, r.body)
		r.refused(http.StatusBadRequest, "VALIDATION_ERROR")
	}
	plain := s.stranger().do(t, request{method: http.MethodPost, path: webhook, body: text, header: http.Header{"Content-Type": {"text/plain"}, "Stripe-Signature": {signature}}})
	plain.refused(http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE")
	s.stranger().do(t, request{method: http.MethodPost, path: webhook, body: text, header: http.Header{"Stripe-Signature": {signature, signature}}}).invalid()
	s.stranger().post(t, webhook, text).invalid()
	s.deliver(t, strings.Repeat(" ", 2<<20), signature).refused(http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE")
	assert.InDelta(t, 1000, u.balance(t)["balance"], 0, "nothing was done")
	s.deliver(t, text, signature).data(http.StatusOK)
	u.hasBalance(t, 6000)
}

func testCheckoutLimit(t *testing.T, s *suite) {
	if !s.RateLimited || s.Pay == nil {
		return
	}
	u := s.signUp(t)
	for range 10 {
		r := u.post(t, "/api/v1/billing/checkout", object{"packageId": "none"})
		r.invalid()
		assert.Equal(t, `"checkout";q=10;w=60`, r.header.Get("RateLimit-Policy"))
	}
	r := u.post(t, "/api/v1/billing/checkout", object{"packageId": "starter"})
	r.refused(http.StatusTooManyRequests, "RATE_LIMIT_EXCEEDED")
	assert.Equal(t, "10", r.header.Get("RateLimit-Limit"))
	assert.NotEmpty(t, r.header.Get("Retry-After"))
}

func testGrants(t *testing.T, s *suite) {
	u := s.signUp(t)
	path := "/api/v1/billing/grants"
	good := object{"email": strings.ToUpper(u.email), "amount": 9.5, "reason": "a prize\n=cmd"}
	u.post(t, path, good).refused(http.StatusForbidden, "FORBIDDEN")
	u.get(t, path).refused(http.StatusForbidden, "FORBIDDEN")
	for name, test := range map[string]struct {
		body object
		want []string
	}{
		"nothing":       {object{}, []string{"amount", "reason"}},
		"nobody":        {object{"amount": 1, "reason": "x"}, []string{"userId"}},
		"two":           {object{"userId": u.userID, "email": u.email, "amount": 1, "reason": "x"}, []string{"userId"}},
		"a stranger":    {object{"userId": unknownID, "amount": 1, "reason": "x"}, []string{"userId"}},
		"an e-mail":     {object{"email": "nobody@example.com", "amount": 1, "reason": "x"}, []string{"email"}},
		"no amount":     {object{"userId": u.userID, "amount": 0, "reason": "x"}, []string{"amount"}},
		"a debit":       {object{"userId": u.userID, "amount": -1, "reason": "x"}, []string{"amount"}},
		"too much":      {object{"userId": u.userID, "amount": 1_000_000.01, "reason": "x"}, []string{"amount"}},
		"three digits":  {object{"userId": u.userID, "amount": 0.001, "reason": "x"}, []string{"amount"}},
		"no reason":     {object{"userId": u.userID, "amount": 1, "reason": " "}, []string{"reason"}},
		"a long reason": {object{"userId": u.userID, "amount": 1, "reason": strings.Repeat("x", 501)}, []string{"reason"}},
		"all wrong":     {object{"userId": unknownID, "amount": 0, "reason": ""}, []string{"userId", "amount", "reason"}},
	} {
		assert.Equal(t, test.want, s.admin.post(t, path, test.body).invalid(), name)
	}
	admin := s.admin.with("Idempotency-Key", "grant "+u.userID)
	g := admin.post(t, path, good).data(http.StatusCreated)
	assert.Equal(t, g, admin.post(t, path, good).data(http.StatusCreated))
	assert.Equal(t, u.userID, g["userId"])
	assert.Equal(t, s.admin.userID, g["byUserId"])
	assert.InDelta(t, 9.5, g["amount"], 0)
	b := u.balance(t)
	assert.InDelta(t, 1009.5, b["balance"], 0)
	assert.InDelta(t, 1009.5, b["total_granted"], 0)
	lines, _ := u.get(t, "/api/v1/billing/transactions").list()
	assert.Len(t, lines, 2)
	assert.InDelta(t, 9.5, lines[0]["amount"], 0)
	assert.Contains(t, lines[0]["description"], "a prize")
	found, meta := s.admin.get(t, path+"?userId="+u.userID).list()
	assert.InDelta(t, 1, meta["total"], 0)
	assert.Equal(t, g, found[0])
}

func testTransactionsTable(t *testing.T, s *suite) {
	owner, u := s.signUp(t), s.signUp(t)
	a := owner.agent(t, Echo, object{"pricePerTask": 2.5})
	u.ended(t, u.task(t, a["id"], object{"title": `Bake, "twice"`})["id"])
	path := "/api/v1/billing/transactions"
	items, _ := u.get(t, path).list()
	table := func(r *response) [][]string {
		t.Helper()
		require.Equal(t, http.StatusOK, r.status, "%s", r.body)
		assert.Equal(t, "text/csv; charset=utf-8; header=present", r.header.Get("Content-Type"))
		assert.Contains(t, r.header.Get("Content-Disposition"), "attachment")
		assert.Contains(t, r.header.Values("Vary"), "Accept")
		rows, err := csv.NewReader(strings.NewReader(string(r.body))).ReadAll()
		require.NoError(t, err)
		require.Equal(t, []string{"id", "userId", "type", "amount", "balanceAfter", "referenceId", "description", "createdAt"}, rows[0])
		return rows[1:]
	}
	rows := table(u.with("Accept", "text/html;q=0.1, text/csv").get(t, path))
	require.Len(t, rows, len(items))
	for i, row := range rows {
		x := items[i]
		reference := ""
		if x["referenceId"] != nil {
			reference = x["referenceId"].(string)
		}
		assert.Equal(t, []string{
			x["id"].(string), x["userId"].(string), x["type"].(string), fmt.Sprint(x["amount"]), fmt.Sprint(x["balanceAfter"]), reference, x["description"].(string), x["createdAt"].(string),
		}, row)
	}
	assert.Equal(t, rows, table(u.get(t, path+"?format=csv")))
	assert.Equal(t, rows[1:3], table(u.get(t, path+"?format=csv&limit=2&offset=1")))
	assert.Equal(t, rows[:1], table(u.get(t, path+"?format=csv&type=task_debit")))
	assert.Empty(t, table(u.get(t, path+"?format=csv&type=purchase")))
	u.with("Accept", "text/csv").get(t, path+"?format=json").list()
	u.with("Accept", "text/csv;q=0.5, application/json").get(t, path).list()
	u.with("Accept", "text/csv;q=0, */*").get(t, path).list()
	assert.Equal(t, []string{"limit"}, u.get(t, path+"?format=csv&limit=201").invalid())
	s.stranger().with("Accept", "text/csv").get(t, path).refused(http.StatusUnauthorized, "UNAUTHORIZED")
	head := u.do(t, request{method: http.MethodHead, path: path + "?format=csv"})
	assert.Equal(t, http.StatusOK, head.status)
	assert.Empty(t, head.body)
}
