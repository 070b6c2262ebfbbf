package apitest

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func names(items []object) []string {
	out := []string{}
	for _, v := range items {
		out = append(out, v["name"].(string))
	}
	return out
}

func testAgents(t *testing.T, s *suite) {
	u := s.signUp(t)
	_, meta := u.get(t, "/api/v1/agents").list()
	assert.Equal(t, object{"total": 0.0, "limit": 20.0, "offset": 0.0}, meta)
	r := u.post(t, "/api/v1/agents", `{
		"name": "  My Agent ", "description": "Does <amazing> things & more", "endpoint": "`+s.AgentURL(Echo)+`",
		"skills": [{"id": "summarize", "name": "Summarize", "description": "Summarizes text", "tags": ["NLP"],
			"inputSchema": {"type": "object", "properties": {"n": {"const": 1.10}}}, "outputSchema": {}},
			{"id": "Translate", "name": "Translate"}],
		"tags": ["NLP", "ai", "nlp"], "metadata": {"version": 1.0, "big": 12345678901234567890, "é": "\u00e9"}, "pricePerTask": 9.50, "ignored": true
	}`)
	a := r.data(http.StatusCreated)
	assert.Equal(t, "/api/v1/agents/"+a["id"].(string), r.header.Get("Location"))
	want := object{
		"id": a["id"], "name": "My Agent", "description": "Does <amazing> things & more", "endpoint": s.AgentURL(Echo), "ownerUserId": u.userID,
		"status": "online", "tags": []any{"nlp", "ai"}, "category": "nlp", "metadata": object{"version": 1.0, "big": 12345678901234567890.0, "é": "é"},
		"pricePerTask": 9.5, "trustScore": a["trustScore"], "latencyMs": nil, "featured": false, "agentCard": a["agentCard"], "lastHeartbeat": nil,
		"createdAt": a["createdAt"], "updatedAt": a["updatedAt"],
		"skills": []any{
			object{
				"id": "summarize", "name": "Summarize", "description": "Summarizes text", "tags": []any{"nlp"},
				"inputSchema": object{"type": "object", "properties": object{"n": object{"const": 1.1}}}, "outputSchema": object{},
			},
			object{"id": "Translate", "name": "Translate", "description": "", "tags": []any{}, "inputSchema": nil, "outputSchema": nil},
		},
	}
	assert.Equal(t, want, a)
	assert.NotNil(t, a["agentCard"])
	// What is opaque stays byte for byte, but for spaces; credits are no strings, and as short as can be.
	for _, part := range []string{
		`"metadata":{"version":1.0,"big":12345678901234567890,"é":"\u00e9"}`, `"const":1.10`, `"pricePerTask":9.5,`,
		`Does <amazing> things & more`,
	} {
		assert.Contains(t, string(r.body), part)
	}
	assert.Equal(t, a, u.get(t, "/api/v1/agents/"+a["id"].(string)).data(http.StatusOK))
	assert.Equal(t, a, u.get(t, "/api/v1/agents/"+strings.ToUpper(a["id"].(string))).data(http.StatusOK))
	assert.Equal(t, a, s.signUp(t).get(t, "/api/v1/agents/"+a["id"].(string)).data(http.StatusOK))

	least := u.post(t, "/api/v1/agents", object{"name": "x", "endpoint": s.AgentURL(Gone)}).data(http.StatusCreated)
	for field, value := range (object{
		"description": "", "skills": []any{}, "tags": []any{}, "category": nil, "metadata": object{}, "pricePerTask": 0.0, "status": "offline", "agentCard": nil,
	}) {
		assert.Equal(t, value, least[field], field)
	}
	nulls := u.post(t, "/api/v1/agents", object{
		"name": "y", "endpoint": s.AgentURL(Gone), "description": nil, "skills": nil, "tags": nil, "category": nil, "metadata": nil, "pricePerTask": nil,
	}).data(http.StatusCreated)
	assert.Equal(t, []any{}, nulls["skills"])

	items, meta := u.get(t, "/api/v1/agents").list()
	assert.Equal(t, []string{"y", "x", "My Agent"}, names(items))
	assert.Equal(t, object{"total": 3.0, "limit": 20.0, "offset": 0.0}, meta)
	items, meta = u.get(t, "/api/v1/agents?limit=1&offset=1").list()
	assert.Equal(t, []string{"x"}, names(items))
	assert.Equal(t, object{"total": 3.0, "limit": 1.0, "offset": 1.0}, meta)
	items, _ = u.get(t, "/api/v1/agents?offset=5").list()
	assert.Empty(t, items)
}

func testAgentValidation(t *testing.T, s *suite) {
	u := s.signUp(t)
	good := func(extra object) object {
		body := object{"name": "x", "endpoint": "https://example.com/a2a"}
		for k, v := range extra {
			body[k] = v
		}
		return body
	}
	skill := func(extra object) object {
		k := object{"id": "a", "name": "A"}
		for f, v := range extra {
			k[f] = v
		}
		return good(object{"skills": []any{k}})
	}
	many := func(n int, f func(int) any) (out []any) {
		for i := range n {
			out = append(out, f(i))
		}
		return out
	}
	deep := func(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }
	for name, test := range map[string]struct {
		body any
		want []string
	}{
		"nothing":               {object{}, []string{"name", "endpoint"}},
		"types":                 {object{"name": 1, "endpoint": true, "description": object{}, "skills": object{}, "tags": "x", "metadata": []int{}, "pricePerTask": "5"}, nil},
		"empty name":            {good(object{"name": ""}), []string{"name"}},
		"blank name":            {good(object{"name": "   "}), []string{"name"}},
		"long name":             {good(object{"name": strings.Repeat("é", 101)}), []string{"name"}},
		"long description":      {good(object{"description": strings.Repeat("é", 1001)}), []string{"description"}},
		"no URL":                {good(object{"endpoint": "example.com"}), []string{"endpoint"}},
		"another scheme":        {good(object{"endpoint": "file:///etc/passwd"}), []string{"endpoint"}},
		"with a password":       {good(object{"endpoint": "https://me:secret@example.com"}), []string{"endpoint"}},
		"long endpoint":         {good(object{"endpoint": "https://example.com/" + strings.Repeat("x", 2048)}), []string{"endpoint"}},
		"many skills":           {good(object{"skills": many(51, func(i int) any { return object{"id": fmt.Sprint(i), "name": "A"} })}), []string{"skills"}},
		"same skill twice":      {good(object{"skills": []any{object{"id": "a", "name": "A"}, object{"id": "a", "name": "B"}}}), []string{"skills[1].id"}},
		"skill without all":     {good(object{"skills": []any{object{}}}), []string{"skills[0].id", "skills[0].name"}},
		"skills of all sorts":   {good(object{"skills": []any{object{"id": "a", "name": "A"}, 1, object{"id": 1, "name": "A", "tags": []any{"ok", 1}}}}), []string{"skills[1]", "skills[2].id", "skills[2].tags[1]"}},
		"long skill id":         {skill(object{"id": strings.Repeat("x", 65)}), []string{"skills[0].id"}},
		"many tags of a skill":  {skill(object{"tags": many(21, func(i int) any { return fmt.Sprint(i) })}), []string{"skills[0].tags"}},
		"array for a schema":    {skill(object{"inputSchema": []any{}}), []string{"skills[0].inputSchema"}},
		"many tags":             {good(object{"tags": many(21, func(i int) any { return fmt.Sprint(i) })}), []string{"tags"}},
		"long tag":              {good(object{"tags": []string{"ok", strings.Repeat("x", 41)}}), []string{"tags[1]"}},
		"empty tag":             {good(object{"tags": []string{""}}), []string{"tags[0]"}},
		"null tag":              {good(object{"tags": []any{nil}}), []string{"tags[0]"}},
		"large metadata":        {good(object{"metadata": object{"x": strings.Repeat("x", 16_384)}}), []string{"metadata"}},
		"metadata as a string":  {good(object{"metadata": "{}"}), []string{"metadata"}},
		"negative price":        {good(object{"pricePerTask": -0.01}), []string{"pricePerTask"}},
		"large price":           {good(object{"pricePerTask": 1_000_000.01}), []string{"pricePerTask"}},
		"three decimals":        {`{"name":"x","endpoint":"https://example.com","pricePerTask":0.005}`, []string{"pricePerTask"}},
		"exponent":              {`{"name":"x","endpoint":"https://example.com","pricePerTask":1e2}`, []string{"pricePerTask"}},
		"price beyond an int64": {`{"name":"x","endpoint":"https://example.com","pricePerTask":92233720368547758.08}`, []string{"pricePerTask"}},
		"several kinds at once": {good(object{"name": strings.Repeat("x", 101), "pricePerTask": "1", "tags": []any{1}, "category": strings.Repeat("x", 41)}), nil},
		"deep within limits":    {`{"name":"","endpoint":"https://example.com","metadata":` + deep(62) + `}`, []string{"name"}},
		"too deep":              {`{"name":"x","endpoint":"https://example.com","metadata":` + deep(64) + `}`, nil},
	} {
		got := u.post(t, "/api/v1/agents", test.body).invalid()
		if test.want != nil {
			assert.Equal(t, test.want, got, name)
		}
		switch name {
		case "types":
			assert.ElementsMatch(t, []string{"name", "endpoint", "description", "skills", "tags", "metadata", "pricePerTask"}, got)
		case "several kinds at once":
			assert.ElementsMatch(t, []string{"name", "pricePerTask", "tags[0]", "category"}, got)
		}
	}
	_, meta := u.get(t, "/api/v1/agents").list()
	assert.InDelta(t, 0, meta["total"], 0, "nothing was stored")

	// What is just within the limits is taken.
	full := good(object{
		"name": strings.Repeat("é", 100), "description": strings.Repeat("é", 1000), "pricePerTask": 1_000_000, "endpoint": s.AgentURL(Gone),
		"tags": many(20, func(i int) any { return strings.Repeat("x", 38) + fmt.Sprintf("%02d", i) }), "category": strings.Repeat("x", 40),
		"skills": many(50, func(i int) any { return object{"id": fmt.Sprintf("%064d", i), "name": strings.Repeat("x", 100)} }),
	})
	got := u.post(t, "/api/v1/agents", full).data(http.StatusCreated)
	assert.Len(t, got["skills"], 50)
	assert.InDelta(t, 1_000_000, got["pricePerTask"], 0)
}

func testAgentPatch(t *testing.T, s *suite) {
	u := s.signUp(t)
	a := u.agent(t, Echo, object{"tags": []string{"one", "two"}, "metadata": object{"a": 1}, "pricePerTask": 2, "description": "d"})
	path := "/api/v1/agents/" + a["id"].(string)
	without := func(o object, fields ...string) object {
		out := object{}
		for k, v := range o {
			out[k] = v
		}
		for _, f := range append(fields, "updatedAt") {
			delete(out, f)
		}
		return out
	}
	same := u.patch(t, path, object{}).data(http.StatusOK)
	assert.Equal(t, without(a), without(same))

	for field, values := range map[string][2]any{
		"name": {"new", "new"}, "description": {"", ""}, "metadata": {object{}, object{}}, "pricePerTask": {0.05, 0.05},
		"category": {"Tools", "tools"}, "skills": {[]any{}, []any{}}, "endpoint": {s.AgentURL(Failing), s.AgentURL(Failing)},
	} {
		got := u.patch(t, path, object{field: values[0]}).data(http.StatusOK)
		assert.Equal(t, values[1], got[field], field)
		assert.Equal(t, got, u.get(t, path).data(http.StatusOK))
	}
	got := u.patch(t, path, object{"tags": []string{"three"}}).data(http.StatusOK)
	assert.Equal(t, "tools", got["category"])
	got = u.patch(t, path, object{"category": nil}).data(http.StatusOK)
	assert.Equal(t, "three", got["category"], "automatic again")
	got = u.patch(t, path, object{"tags": []string{}}).data(http.StatusOK)
	assert.Nil(t, got["category"])

	for _, field := range []string{"name", "description", "endpoint", "skills", "tags", "metadata", "pricePerTask"} {
		assert.Equal(t, []string{field}, u.patch(t, path, object{field: nil}).invalid())
	}
	assert.ElementsMatch(t, []string{"name", "endpoint", "pricePerTask"}, u.patch(t, path, object{"name": "", "endpoint": 5, "pricePerTask": -1}).invalid())
	assert.Equal(t, []string{"endpoint"}, u.patch(t, path, object{"name": "half", "endpoint": "nowhere"}).invalid())
	assert.Equal(t, "new", u.get(t, path).data(http.StatusOK)["name"], "all or nothing")
	// Fields that are not the owner's to write are ignored.
	got = u.patch(t, path, object{"id": unknownID, "trustScore": 100, "featured": true, "ownerUserId": unknownID, "status": "online"}).data(http.StatusOK)
	assert.Equal(t, a["id"], got["id"])
	assert.Equal(t, a["trustScore"], got["trustScore"])
	assert.Equal(t, false, got["featured"])
	assert.Equal(t, u.userID, got["ownerUserId"])
}

func testAgentOwnership(t *testing.T, s *suite) {
	u, other := s.signUp(t), s.signUp(t)
	a := u.agent(t, Echo, nil)
	_, made := u.key(t, a["id"], "*")
	path := "/api/v1/agents/" + a["id"].(string)
	for _, c := range []*client{other, s.admin} {
		c.patch(t, path, object{"name": "mine"}).refused(http.StatusForbidden, "FORBIDDEN")
		c.delete(t, path).refused(http.StatusForbidden, "FORBIDDEN")
		c.post(t, path+"/heartbeat", nil).refused(http.StatusForbidden, "FORBIDDEN")
		c.post(t, path+"/api-keys", object{"name": "x", "scopes": []string{"*"}}).refused(http.StatusForbidden, "FORBIDDEN")
		c.get(t, path+"/api-keys").refused(http.StatusForbidden, "FORBIDDEN")
		c.delete(t, path+"/api-keys/"+made["id"].(string)).refused(http.StatusForbidden, "FORBIDDEN")
		items, _ := c.get(t, "/api/v1/agents?limit=100").list()
		for _, v := range items {
			assert.NotEqual(t, a["id"], v["id"])
		}
	}
	assert.Equal(t, a["name"], u.get(t, path).data(http.StatusOK)["name"])
}

func testAgentDelete(t *testing.T, s *suite) {
	u, other := s.signUp(t), s.signUp(t)
	tag := strings.ToLower(rand.Text())
	a := u.agent(t, Stalling, object{"pricePerTask": 10, "tags": []string{tag}})
	k, made := u.key(t, a["id"], "*")
	task := other.task(t, a["id"], nil)
	assert.InDelta(t, 990, other.balance(t)["balance"], 0)

	path := "/api/v1/agents/" + a["id"].(string)
	assert.Equal(t, object{"id": a["id"], "deleted": true}, u.delete(t, path).data(http.StatusOK))
	u.get(t, path).refused(http.StatusNotFound, "AGENT_NOT_FOUND")
	u.patch(t, path, object{}).refused(http.StatusNotFound, "AGENT_NOT_FOUND")
	u.delete(t, path).refused(http.StatusNotFound, "AGENT_NOT_FOUND")
	u.post(t, path+"/heartbeat", nil).refused(http.StatusNotFound, "AGENT_NOT_FOUND")
	u.get(t, path+"/api-keys").refused(http.StatusNotFound, "AGENT_NOT_FOUND")
	u.delete(t, path+"/api-keys/"+made["id"].(string)).refused(http.StatusNotFound, "AGENT_NOT_FOUND")
	other.post(t, "/api/v1/tasks", object{"assignedAgentId": a["id"], "title": "x"}).refused(http.StatusNotFound, "AGENT_NOT_FOUND")
	k.get(t, "/api/v1/agents").refused(http.StatusUnauthorized, "UNAUTHORIZED")
	items, _ := other.get(t, "/api/v1/discover?skillTags="+tag).list()
	assert.Empty(t, items)
	_, meta := u.get(t, "/api/v1/agents").list()
	assert.InDelta(t, 0, meta["total"], 0)

	got := other.ended(t, task["id"])
	assert.Equal(t, "cancelled", got["status"])
	b := other.balance(t)
	assert.InDelta(t, 1000, b["balance"], 0)
	assert.InDelta(t, 0, b["held"], 0)
	u.get(t, "/api/v1/tasks/"+task["id"].(string)).data(http.StatusOK)
	other.get(t, "/api/v1/trust/"+a["id"].(string)).data(http.StatusOK)
}

func testHeartbeat(t *testing.T, s *suite) {
	u := s.signUp(t)
	a := u.agent(t, Gone, object{"metadata": object{"a": 1}})
	require.Equal(t, "offline", a["status"])
	path := "/api/v1/agents/" + a["id"].(string)

	d := u.do(t, request{method: http.MethodPost, path: path + "/heartbeat"}).data(http.StatusOK) // no body, no type
	assert.Equal(t, "online", d["status"])
	assert.NotEmpty(t, d["last_heartbeat"])
	assert.Len(t, d, 2)
	got := u.get(t, path).data(http.StatusOK)
	assert.Equal(t, "online", got["status"])
	assert.Equal(t, d["last_heartbeat"], got["lastHeartbeat"])
	assert.Equal(t, object{"a": 1.0}, got["metadata"])

	for _, status := range []string{"degraded", "offline", "online"} {
		d = u.post(t, path+"/heartbeat", object{"status": status, "metadata": object{"version": "2.1.0"}}).data(http.StatusOK)
		assert.Equal(t, status, d["status"])
		got = u.get(t, path).data(http.StatusOK)
		assert.Equal(t, status, got["status"])
		assert.Equal(t, object{"version": "2.1.0"}, got["metadata"])
	}
	u.post(t, path+"/heartbeat", object{}).data(http.StatusOK)
	u.post(t, path+"/heartbeat", object{"status": nil, "metadata": nil}).data(http.StatusOK)
	u.do(t, request{method: http.MethodPost, path: path + "/heartbeat", header: http.Header{"Content-Type": {"application/json"}}}).data(http.StatusOK)
	assert.Equal(t, object{"version": "2.1.0"}, u.get(t, path).data(http.StatusOK)["metadata"])

	assert.Equal(t, []string{"status"}, u.post(t, path+"/heartbeat", object{"status": "asleep"}).invalid())
	assert.ElementsMatch(t, []string{"status", "metadata"}, u.post(t, path+"/heartbeat", object{"status": 1, "metadata": "x"}).invalid())
	assert.Equal(t, []string{"metadata"}, u.post(t, path+"/heartbeat", object{"metadata": object{"x": strings.Repeat("x", 16_384)}}).invalid())
	r := u.do(t, request{method: http.MethodPost, path: path + "/heartbeat", body: `{}`, header: http.Header{"Content-Type": {"text/plain"}}})
	r.refused(http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE")
	r = u.do(t, request{method: http.MethodPost, path: path + "/heartbeat", body: `{}`, header: http.Header{"Content-Type": nil}})
	r.refused(http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE")
	r = u.do(t, request{method: http.MethodPost, path: path + "/heartbeat", body: `{}`, header: http.Header{"Content-Type": nil}, chunked: true})
	r.refused(http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE")
}

func testDiscover(t *testing.T, s *suite) {
	u := s.signUp(t)
	tag, word := strings.ToLower(rand.Text()), strings.ToLower(rand.Text())
	u.agent(t, Echo, object{"name": "A " + word, "tags": []string{tag, "x1"}, "pricePerTask": 3})
	u.agent(t, Echo, object{"name": "B", "tags": []string{tag}, "category": "special" + tag[:8], "pricePerTask": 1, "skills": []any{object{"id": "s" + tag, "name": "S", "tags": []string{"y" + tag}}}})
	u.agent(t, Gone, object{"name": "C", "tags": []string{tag}, "pricePerTask": 2, "description": "about " + word})
	find := func(query string) []string {
		items, meta := u.get(t, "/api/v1/discover?"+query).list()
		assert.LessOrEqual(t, len(items), int(meta["total"].(float64)))
		return names(items)
	}
	in := "skillTags=" + tag
	a := "A " + word
	assert.ElementsMatch(t, []string{a, "B", "C"}, find(in))
	assert.ElementsMatch(t, []string{a, "B", "C"}, find("skillTags=nope,"+strings.ToUpper(tag)+",%20"))
	assert.Equal(t, []string{"B"}, find("skillTags=y"+tag))
	assert.Equal(t, []string{"B"}, find("category=Special"+tag[:8]))
	assert.Equal(t, []string{"C"}, find(in+"&status=offline"))
	assert.ElementsMatch(t, []string{a, "B"}, find(in+"&status=online"))
	assert.Equal(t, []string{"B", "C", a}, find(in+"&sort=price"))
	assert.Equal(t, []string{"C", "B", a}, find(in+"&sort=newest"))
	assert.Equal(t, []string{"B"}, find(in+"&maxPrice=1.99"))
	assert.Empty(t, find(in+"&minTrustScore=99.9"))
	assert.Len(t, find(in+"&minTrustScore=0"), 3)
	assert.Equal(t, []string{"B"}, find("skillId=s"+tag))
	assert.Equal(t, []string{a, "C"}, find("q="+word))
	assert.Equal(t, []string{a, "C"}, find("q="+word[:12]+"&sort=relevance"))
	assert.Empty(t, find("q=nothingofthiskind"+tag))
	assert.Len(t, find(in+"&category=&status=&sort=&q=&skillId="), 3, "what is empty does not narrow")

	var paged []string
	for i := range 3 {
		paged = append(paged, find(fmt.Sprintf("%s&sort=price&limit=1&offset=%d", in, i))...)
	}
	assert.Equal(t, []string{"B", "C", a}, paged)
	_, meta := u.get(t, "/api/v1/discover?"+in+"&limit=2").list()
	next := meta["nextCursor"].(string)
	delete(meta, "nextCursor")
	assert.Equal(t, object{"total": 3.0, "limit": 2.0, "offset": 0.0}, meta)
	items, meta := u.get(t, "/api/v1/discover?"+in+"&cursor="+next).list()
	assert.Len(t, items, 1)
	assert.Equal(t, object{"total": 3.0, "limit": 20.0, "offset": 0.0}, meta, "there is no more")
	for _, wrong := range []string{in + "&cursor=x" + next, in + "&cursor=" + next[1:], "skillTags=x1&cursor=" + next, in + "&sort=price&cursor=" + next, in + "&maxLatencyMs=1000&cursor=" + next, in + "&cursor=%00", in + "&cursor=" + strings.Repeat("x", 513)} {
		assert.Equal(t, []string{"cursor"}, u.get(t, "/api/v1/discover?"+wrong).invalid(), wrong)
	}
	assert.Equal(t, []string{"offset"}, u.get(t, "/api/v1/discover?"+in+"&offset=1&cursor="+next).invalid())

	assert.ElementsMatch(t, []string{"minTrustScore", "maxPrice", "maxLatencyMs", "status", "sort", "limit", "offset"},
		u.get(t, "/api/v1/discover?minTrustScore=101&maxPrice=0.001&maxLatencyMs=0&status=dead&sort=up&limit=101&offset=-1").invalid())
	for _, wrong := range []string{"-1", "3600001", "1.5", "soon", "99999999999999999999"} {
		assert.Equal(t, []string{"maxLatencyMs"}, u.get(t, "/api/v1/discover?maxLatencyMs="+wrong).invalid(), wrong)
	}
	assert.Equal(t, []string{"sort"}, u.get(t, "/api/v1/discover?sort=relevance").invalid())
	assert.Equal(t, []string{"q"}, u.get(t, "/api/v1/discover?q="+strings.Repeat("x", 201)).invalid())
}

func testLatency(t *testing.T, s *suite) {
	u, other := s.signUp(t), s.signUp(t)
	tag := strings.ToLower(rand.Text())
	quick := u.agent(t, Echo, object{"tags": []string{tag}})
	u.agent(t, Echo, object{"tags": []string{tag}})
	found := func(query string) (ids []any) {
		items, _ := other.get(t, "/api/v1/discover?skillTags="+tag+query).list()
		for _, v := range items {
			ids = append(ids, v["id"])
		}
		return ids
	}
	done := func(by *client, times int) {
		for range times {
			assert.Equal(t, "completed", by.ended(t, by.task(t, quick["id"], nil)["id"])["status"])
		}
	}
	latency := func() any { return u.get(t, "/api/v1/agents/"+quick["id"].(string)).data(http.StatusOK)["latencyMs"] }
	done(u, 3) // which prove nothing, being of the agent's owner
	done(other, 2)
	assert.Nil(t, latency())
	assert.Len(t, found(""), 2)
	assert.Empty(t, found("&maxLatencyMs=3600000"), "nobody knows yet")

	done(other, 1)
	ms, _ := latency().(float64)
	require.GreaterOrEqual(t, ms, 1.0)
	assert.Equal(t, []any{quick["id"]}, found(fmt.Sprintf("&maxLatencyMs=%.0f", ms)))
	assert.Equal(t, []any{quick["id"]}, found("&maxLatencyMs=3600000&sort=price"))
	if ms > 1 {
		assert.Empty(t, found(fmt.Sprintf("&maxLatencyMs=%.0f", ms-1)))
	}
}

func testKeys(t *testing.T, s *suite) {
	u := s.signUp(t)
	a, b := u.agent(t, Echo, nil), u.agent(t, Echo, nil)
	path := "/api/v1/agents/" + a["id"].(string) + "/api-keys"
	k := u.post(t, path, object{"name": "Production Key", "scopes": []string{"*"}, "expiresInDays": 90}).data(http.StatusCreated)
	secret := k["key"].(string)
	assert.Equal(t, secret[:10], k["prefix"])
	assert.True(t, strings.HasPrefix(secret, "nxk_"))
	assert.Equal(t, []any{"*"}, k["scopes"])
	assert.NotNil(t, k["expiresAt"])
	c, never := u.key(t, a["id"], "tasks:read", "agents:read")
	assert.Nil(t, never["expiresAt"])
	c.get(t, "/api/v1/agents").list()

	r := u.get(t, path)
	items, meta := r.list()
	assert.Equal(t, object{"total": 2.0, "limit": 100.0, "offset": 0.0}, meta)
	require.Len(t, items, 2)
	assert.Equal(t, never["id"], items[0]["id"], "newest first")
	assert.NotNil(t, items[0]["lastUsedAt"])
	assert.Nil(t, items[1]["lastUsedAt"])
	assert.NotContains(t, string(r.body), secret)
	for _, v := range items {
		for _, secretField := range []string{"key", "hash", "secret"} {
			assert.NotContains(t, v, secretField)
		}
	}
	items, _ = u.get(t, path+"?limit=1&offset=1").list()
	assert.Len(t, items, 1)

	for name, test := range map[string]struct {
		body object
		want []string
	}{
		"nothing":       {object{}, []string{"name", "scopes"}},
		"no scopes":     {object{"name": "x", "scopes": []string{}}, []string{"scopes"}},
		"unknown scope": {object{"name": "x", "scopes": []string{"tasks:read", "root"}}, []string{"scopes[1]"}},
		"no days":       {object{"name": "x", "scopes": []string{"*"}, "expiresInDays": 0}, []string{"expiresInDays"}},
		"too long":      {object{"name": "x", "scopes": []string{"*"}, "expiresInDays": 366}, []string{"expiresInDays"}},
		"half days":     {object{"name": "x", "scopes": []string{"*"}, "expiresInDays": 1.5}, []string{"expiresInDays"}},
		"many days":     {object{"name": "x", "scopes": []string{"*"}, "expiresInDays": 1e15}, []string{"expiresInDays"}},
		"long name":     {object{"name": strings.Repeat("x", 101), "scopes": []string{"*"}}, []string{"name"}},
	} {
		assert.Equal(t, test.want, u.post(t, path, test.body).invalid(), name)
	}

	// A key of another agent is not this one's to revoke, and one is revoked at once, and once.
	other := "/api/v1/agents/" + b["id"].(string) + "/api-keys/" + never["id"].(string)
	u.delete(t, other).refused(http.StatusNotFound, "API_KEY_NOT_FOUND")
	c.get(t, "/api/v1/agents").list()
	assert.Equal(t, object{"id": never["id"], "revoked": true}, u.delete(t, path+"/"+never["id"].(string)).data(http.StatusOK))
	c.get(t, "/api/v1/agents").refused(http.StatusUnauthorized, "UNAUTHORIZED")
	u.delete(t, path+"/"+never["id"].(string)).refused(http.StatusNotFound, "API_KEY_NOT_FOUND")
	items, _ = u.get(t, path).list()
	assert.Len(t, items, 1)
}

func testScopes(t *testing.T, s *suite) {
	u := s.signUp(t)
	a := u.agent(t, Echo, nil)
	task := u.ended(t, u.task(t, a["id"], nil)["id"])
	run := u.run(t, u.workflow(t, steps(a, nil)))
	// A key cannot grant what it does not have.
	narrow, _ := u.key(t, a["id"], "keys:write", "tasks:read")
	path := "/api/v1/agents/" + a["id"].(string) + "/api-keys"
	for _, scope := range []string{"*", "tasks:write"} {
		d := narrow.post(t, path, object{"name": "x", "scopes": []string{"tasks:read", scope}}).refused(http.StatusForbidden, "FORBIDDEN")
		assert.Equal(t, scope, d["requiredScope"])
	}
	narrow.post(t, path, object{"name": "x", "scopes": []string{"tasks:read"}}).data(http.StatusCreated)

	all := []string{
		"agents:read", "agents:write", "tasks:read", "tasks:write", "workflows:read", "workflows:write", "trust:read", "trust:write",
		"billing:read", "billing:write", "keys:write",
	}
	bodies := map[string]any{
		"register-agent": object{"name": "x", "endpoint": s.AgentURL(Gone)}, "update-agent": object{},
		"create-api-key":  object{"name": "x", "scopes": []string{"tasks:read"}},
		"create-task":     object{"assignedAgentId": a["id"], "title": "x"},
		"rate-agent":      object{"taskId": task["id"], "rating": 5},
		"create-workflow": object{"name": "x", "steps": steps(a, nil)}, "update-workflow": object{},
		"reply-to-task":   object{"message": object{"role": "user", "parts": []any{object{"type": "text", "data": "x"}}}},
		"create-checkout": object{"packageId": "starter"}, "grant-credits": object{"userId": u.userID, "amount": 1, "reason": "x"},
	}
	user, own := u, a
	admins := s.admin.agent(t, Echo, nil)
	for _, op := range s.spec.operations {
		u, a := user, own
		if slices.Contains(forAdmins, op.raw["operationId"]) {
			u, a = s.admin, admins
		}
		needed, ok := op.raw["x-required-scope"].(string)
		if !ok {
			assert.NotContains(t, fmt.Sprint(op.raw["security"]), "apiKey", "%s %s takes keys and has no scope", op.method, op.path)
			continue
		}
		var others []string
		for _, scope := range all {
			if scope != needed {
				others = append(others, scope)
			}
		}
		k, made := u.key(t, a["id"], others...)
		id := op.raw["operationId"].(string)
		r := request{method: op.method, path: fill(op.path, map[string]any{"agentId": a["id"], "taskId": task["id"], "keyId": made["id"], "workflowId": run["workflowId"], "runId": run["id"]}), body: bodies[id]}
		d := k.do(t, r).refused(http.StatusForbidden, "FORBIDDEN")
		assert.Equal(t, needed, d["requiredScope"], id)
		if id == "delete-agent" || id == "delete-workflow" {
			continue
		}
		k, made = u.key(t, a["id"], needed)
		r.path = fill(op.path, map[string]any{"agentId": a["id"], "taskId": task["id"], "keyId": made["id"], "workflowId": run["workflowId"], "runId": run["id"]})
		if status := k.do(t, r).status; id != "create-api-key" { // that one lacks what it would grant
			assert.NotEqual(t, http.StatusForbidden, status, id)
		}
	}
}
