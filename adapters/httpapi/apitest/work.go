package apitest

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func testTasks(t *testing.T, s *suite) {
	owner, u := s.signUp(t), s.signUp(t)
	a := owner.agent(t, Echo, object{"pricePerTask": 10.01, "skills": []any{object{"id": "say", "name": "Say"}}})
	r := u.post(t, "/api/v1/tasks", `{"assignedAgentId": "`+strings.ToUpper(a["id"].(string))+`", "title": "Summarize this document",
		"description": "Please <summarize> the following", "input": {"text": "Lorem ipsum", "n": 1.50}, "timeoutSeconds": 60, "skillId": "say",
		"maxBudgetCredits": 10.01, "minTrustScore": 0}`)
	task := r.data(http.StatusAccepted)
	assert.Equal(t, "/api/v1/tasks/"+task["id"].(string), r.header.Get("Location"))
	assert.Contains(t, string(r.body), `"input":{"text":"Lorem ipsum","n":1.50}`)
	for field, want := range (object{
		"title": "Summarize this document", "description": "Please <summarize> the following", "status": "assigned", "requesterUserId": u.userID,
		"requesterAgentId": nil, "assignedAgentId": a["id"], "skillId": "say", "input": object{"text": "Lorem ipsum", "n": 1.5}, "output": nil,
		"artifacts": []any{}, "maxBudgetCredits": 10.01, "costCredits": 10.01, "attempts": 0.0, "error": nil, "timeoutSeconds": 60.0,
		"startedAt": nil, "completedAt": nil, "workflowRunId": nil, "stepIndex": nil,
	}) {
		assert.Equal(t, want, task[field], field)
	}
	created, _ := time.Parse(time.RFC3339Nano, task["createdAt"].(string))
	end, _ := time.Parse(time.RFC3339Nano, task["timeoutAt"].(string))
	assert.Equal(t, time.Minute, end.Sub(created))
	messages := task["messages"].([]any)
	require.Len(t, messages, 1)
	assert.Equal(t, "user", messages[0].(object)["role"])
	assert.Equal(t, []any{
		object{"type": "text", "data": "Please <summarize> the following"}, object{"type": "data", "data": object{"text": "Lorem ipsum", "n": 1.5}},
	}, messages[0].(object)["parts"])

	done := u.ended(t, task["id"])
	assert.Equal(t, "completed", done["status"])
	assert.Equal(t, object{"text": "Lorem ipsum", "n": 1.5}, done["output"])
	assert.InDelta(t, 1, done["attempts"], 0)
	assert.Nil(t, done["error"])
	assert.NotNil(t, done["startedAt"])
	assert.NotNil(t, done["completedAt"])
	messages = done["messages"].([]any)
	require.Len(t, messages, 2)
	assert.Equal(t, "agent", messages[1].(object)["role"])
	assert.Contains(t, messages[1].(object)["parts"], object{"type": "text", "data": "echo: Please <summarize> the following"})

	// The price is captured: the owner has it less the fee of 5 %, 0.5005 rounded half up.
	b := u.balance(t)
	assert.Equal(t, object{
		"user_id": u.userID, "balance": 989.99, "total_earned": 0.0, "total_spent": 10.01, "total_purchased": 0.0, "held": 0.0,
		"total_granted": 1000.0, "total_reversed": 0.0, "debt": 0.0,
	}, b)
	b = owner.balance(t)
	assert.InDelta(t, 1009.51, b["balance"], 1e-9)
	assert.InDelta(t, 9.51, b["total_earned"], 1e-9)

	// The defaults, and a task of an agent for an agent of its own owner, which is free.
	k, _ := owner.key(t, a["id"], "*")
	task = k.task(t, a["id"], object{"title": strings.Repeat("é", 200)})
	assert.Equal(t, a["id"], task["requesterAgentId"])
	assert.Equal(t, owner.userID, task["requesterUserId"])
	assert.InDelta(t, 0, task["costCredits"], 0)
	assert.InDelta(t, 300, task["timeoutSeconds"], 0)
	assert.Equal(t, object{}, task["input"])
	assert.Equal(t, "", task["description"])
	assert.Nil(t, task["maxBudgetCredits"])
	done = k.ended(t, task["id"])
	assert.Equal(t, object{"text": "echo: " + strings.Repeat("é", 200)}, done["output"])
	assert.InDelta(t, 1009.51, owner.balance(t)["balance"], 1e-9)
}

func testTaskRefusals(t *testing.T, s *suite) {
	owner, u := s.signUp(t), s.signUp(t)
	a := owner.agent(t, Echo, object{"pricePerTask": 1000.01})
	offline := owner.agent(t, Gone, nil)
	body := func(extra object) object {
		out := object{"assignedAgentId": a["id"], "title": "x"}
		for k, v := range extra {
			out[k] = v
		}
		return out
	}
	d := u.post(t, "/api/v1/tasks", body(nil)).refused(http.StatusPaymentRequired, "INSUFFICIENT_CREDITS")
	assert.Equal(t, object{"required": 1000.01, "available": 1000.0}, d)
	d = u.post(t, "/api/v1/tasks", body(object{"maxBudgetCredits": 5.5})).refused(http.StatusPaymentRequired, "INSUFFICIENT_CREDITS")
	assert.Equal(t, object{"required": 1000.01, "available": 5.5}, d)
	d = u.post(t, "/api/v1/tasks", body(object{"minTrustScore": 99})).refused(http.StatusForbidden, "TRUST_THRESHOLD_NOT_MET")
	assert.InDelta(t, 99, d["minTrustScore"], 0)
	u.post(t, "/api/v1/tasks", body(object{"assignedAgentId": offline["id"]})).refused(http.StatusServiceUnavailable, "AGENT_OFFLINE")
	for _, id := range []string{unknownID, "abc", "", strings.Repeat("x", 5_000), "'; DROP TABLE tasks; --"} {
		u.post(t, "/api/v1/tasks", body(object{"assignedAgentId": id})).refused(http.StatusNotFound, "AGENT_NOT_FOUND")
	}
	for name, test := range map[string]struct {
		body any
		want []string
	}{
		"nothing":          {object{}, []string{"title"}},
		"no agent":         {object{"title": "x"}, []string{"assignedAgentId"}},
		"types":            {object{"assignedAgentId": 5, "title": nil, "description": 1, "input": []int{}, "timeoutSeconds": "300", "minTrustScore": true}, nil},
		"empty title":      {body(object{"title": ""}), []string{"title"}},
		"long title":       {body(object{"title": strings.Repeat("é", 201)}), []string{"title"}},
		"long description": {body(object{"description": strings.Repeat("é", 10_001)}), []string{"description"}},
		"input no object":  {body(object{"input": "text"}), []string{"input"}},
		"large input":      {body(object{"input": object{"x": strings.Repeat("x", 256<<10)}}), []string{"input"}},
		"short timeout":    {body(object{"timeoutSeconds": 9}), []string{"timeoutSeconds"}},
		"zero timeout":     {body(object{"timeoutSeconds": 0}), []string{"timeoutSeconds"}},
		"long timeout":     {body(object{"timeoutSeconds": 3601}), []string{"timeoutSeconds"}},
		"huge timeout":     {`{"assignedAgentId":"` + unknownID + `","title":"x","timeoutSeconds":9223372036854775807}`, []string{"timeoutSeconds"}},
		"wrapping timeout": {`{"assignedAgentId":"` + unknownID + `","title":"x","timeoutSeconds":18446744074}`, []string{"timeoutSeconds"}},
		"half seconds":     {body(object{"timeoutSeconds": 10.5}), []string{"timeoutSeconds"}},
		"exponent":         {`{"assignedAgentId":"` + unknownID + `","title":"x","timeoutSeconds":1e2}`, []string{"timeoutSeconds"}},
		"negative budget":  {body(object{"maxBudgetCredits": -1}), []string{"maxBudgetCredits"}},
		"fine budget":      {body(object{"maxBudgetCredits": 0.001}), []string{"maxBudgetCredits"}},
		"trust over 100":   {body(object{"minTrustScore": 100.1}), []string{"minTrustScore"}},
		"unknown skill":    {body(object{"skillId": "juggle"}), []string{"skillId"}},
		"all at once":      {object{"title": strings.Repeat("x", 201), "timeoutSeconds": 5, "maxBudgetCredits": -5, "input": 5}, nil},
	} {
		got := u.post(t, "/api/v1/tasks", test.body)
		for got.status == http.StatusTooManyRequests { // there are more of them than of requests in a minute
			time.Sleep(time.Second)
			got = u.post(t, "/api/v1/tasks", test.body)
		}
		paths := got.invalid()
		if test.want != nil {
			assert.Equal(t, test.want, paths, name)
		}
		switch name {
		case "types":
			assert.ElementsMatch(t, []string{"assignedAgentId", "title", "description", "input", "timeoutSeconds", "minTrustScore"}, paths)
		case "all at once":
			assert.ElementsMatch(t, []string{"title", "timeoutSeconds", "maxBudgetCredits", "input"}, paths)
		}
	}
	_, meta := u.get(t, "/api/v1/tasks").list()
	assert.InDelta(t, 0, meta["total"], 0, "nothing was stored")
	assert.InDelta(t, 1000, u.balance(t)["balance"], 0)

	u = s.signUp(t)
	u.post(t, "/api/v1/tasks", object{"title": "x", "skillTags": []string{"nobody has it"}}).refused(http.StatusNotFound, "AGENT_NOT_FOUND")
	tag := strings.ToLower("tag of " + owner.userID)[:30]
	a = owner.agent(t, Echo, object{"tags": []string{tag}})
	chosen := u.post(t, "/api/v1/tasks", object{"title": "x", "skillTags": []string{tag}}).data(http.StatusAccepted)
	assert.Equal(t, a["id"], chosen["assignedAgentId"])
	assert.Contains(t, chosen["assignmentReason"], "1 online agent")
	u.ended(t, chosen["id"])
	days := u.get(t, "/api/v1/trust/"+a["id"].(string)+"/daily").body
	assert.Contains(t, string(days), `"trustScore":`)
	assert.Contains(t, string(days), `"date":"`)
	u.get(t, "/api/v1/trust/"+a["id"].(string)+"/daily?days=366").refused(http.StatusBadRequest, "VALIDATION_ERROR")
}

func testTaskFailures(t *testing.T, s *suite) {
	owner, u := s.signUp(t), s.signUp(t)
	tasks := map[Behaviour]object{}
	agents := map[Behaviour]object{}
	for _, b := range []Behaviour{Failing, HTML, Huge} {
		agents[b] = owner.agent(t, b, object{"pricePerTask": 7})
		tasks[b] = u.task(t, agents[b]["id"], nil)
	}
	agents[Gone] = owner.agent(t, Echo, object{"pricePerTask": 7})
	owner.post(t, "/api/v1/agents/"+agents[Gone]["id"].(string)+"/heartbeat", nil).data(http.StatusOK) // it says that it is there
	owner.patch(t, "/api/v1/agents/"+agents[Gone]["id"].(string), object{"endpoint": s.AgentURL(Gone)}).data(http.StatusOK)
	tasks[Gone] = u.task(t, agents[Gone]["id"], nil)
	for b, task := range tasks {
		got := u.ended(t, task["id"])
		assert.Equal(t, "failed", got["status"], b)
		e, ok := got["error"].(object)
		require.True(t, ok, b)
		assert.NotEmpty(t, e["code"], b)
		assert.NotEmpty(t, e["message"], b)
		assert.Nil(t, got["output"], b)
		assert.InDelta(t, 0, got["costCredits"], 0, b)
		assert.NotNil(t, got["completedAt"], b)
		if b == Gone {
			assert.Equal(t, "AGENT_UNREACHABLE", e["code"])
			assert.InDelta(t, 3, got["attempts"], 0)
			assert.Equal(t, "degraded", u.get(t, "/api/v1/agents/"+agents[b]["id"].(string)).data(http.StatusOK)["status"])
		}
		stats := u.get(t, "/api/v1/trust/"+agents[b]["id"].(string)).data(http.StatusOK)["taskStats"]
		assert.Equal(t, object{"completed": 0.0, "failed": 1.0, "timedOut": 0.0, "total": 1.0}, stats, b)
	}
	b := u.balance(t)
	assert.InDelta(t, 1000, b["balance"], 0)
	assert.InDelta(t, 0, b["total_spent"], 0)
	assert.InDelta(t, 1000, owner.balance(t)["balance"], 0)
}

func testTaskTimeout(t *testing.T, s *suite) {
	owner, u := s.signUp(t), s.signUp(t)
	a := owner.agent(t, Stalling, object{"pricePerTask": 7})
	task := u.task(t, a["id"], object{"timeoutSeconds": 10})
	assert.InDelta(t, 7, u.balance(t)["held"], 0)
	got := u.ended(t, task["id"])
	assert.Equal(t, "failed", got["status"])
	assert.Equal(t, "TIMEOUT", got["error"].(object)["code"])
	assert.InDelta(t, 1000, u.balance(t)["balance"], 0)
	stats := u.get(t, "/api/v1/trust/"+a["id"].(string)).data(http.StatusOK)["taskStats"]
	assert.Equal(t, object{"completed": 0.0, "failed": 0.0, "timedOut": 1.0, "total": 1.0}, stats)
}

func testTaskCancel(t *testing.T, s *suite) {
	owner, u, other := s.signUp(t), s.signUp(t), s.signUp(t)
	a := owner.agent(t, Stalling, object{"pricePerTask": 7})
	task := u.task(t, a["id"], nil)
	path := "/api/v1/tasks/" + task["id"].(string)
	u.waitFor(t, task["id"], func(task object) bool { return task["status"] == "running" })
	b := u.balance(t)
	assert.InDelta(t, 993, b["balance"], 0)
	assert.InDelta(t, 7, b["held"], 0)

	other.post(t, path+"/cancel", nil).refused(http.StatusNotFound, "TASK_NOT_FOUND")
	owner.post(t, path+"/cancel", nil).refused(http.StatusForbidden, "FORBIDDEN")
	got := u.post(t, path+"/cancel", nil).data(http.StatusOK)
	assert.Equal(t, "cancelled", got["status"])
	assert.InDelta(t, 0, got["costCredits"], 0)
	again := u.post(t, path+"/cancel", nil).data(http.StatusOK)
	assert.Equal(t, got, again, "once more changes nothing")
	assert.InDelta(t, 1000, u.balance(t)["balance"], 0)
	stats := u.get(t, "/api/v1/trust/"+a["id"].(string)).data(http.StatusOK)["taskStats"]
	assert.Equal(t, object{"completed": 0.0, "failed": 0.0, "timedOut": 0.0, "total": 0.0}, stats)

	echo := owner.agent(t, Echo, object{"pricePerTask": 7})
	done := u.ended(t, u.task(t, echo["id"], nil)["id"])
	u.post(t, "/api/v1/tasks/"+done["id"].(string)+"/cancel", nil).refused(http.StatusConflict, "TASK_NOT_ACTIVE")
	assert.InDelta(t, 993, u.balance(t)["balance"], 0)
}

func testTaskPrivacy(t *testing.T, s *suite) {
	owner, u, other := s.signUp(t), s.signUp(t), s.signUp(t)
	a := owner.agent(t, Echo, nil)
	task := u.ended(t, u.task(t, a["id"], nil)["id"])
	path := "/api/v1/tasks/" + task["id"].(string)
	for _, c := range []*client{u, owner, s.admin} {
		assert.Equal(t, task, c.get(t, path).data(http.StatusOK))
	}
	r := other.get(t, path)
	r.refused(http.StatusNotFound, "TASK_NOT_FOUND")
	unknown := other.get(t, "/api/v1/tasks/"+unknownID)
	assert.Equal(t,
		strings.ReplaceAll(string(unknown.body), unknownID, "ID"), strings.ReplaceAll(string(r.body), task["id"].(string), "ID"),
		"another's task looks like none at all")
	other.post(t, "/api/v1/trust/"+a["id"].(string)+"/rate", object{"taskId": task["id"], "rating": 1}).refused(http.StatusNotFound, "TASK_NOT_FOUND")
	items, meta := other.get(t, "/api/v1/tasks?assignedAgentId="+a["id"].(string)).list()
	assert.Empty(t, items)
	assert.InDelta(t, 0, meta["total"], 0)
}

func testTaskList(t *testing.T, s *suite) {
	owner, u := s.signUp(t), s.signUp(t)
	a, b := owner.agent(t, Echo, nil), owner.agent(t, Stalling, nil)
	for i := range 3 {
		u.ended(t, u.task(t, a["id"], object{"title": fmt.Sprint("a", i)})["id"])
	}
	stalled := u.task(t, b["id"], object{"title": "b"})
	titles := func(c *client, query string) []string {
		items, _ := c.get(t, "/api/v1/tasks"+query).list()
		out := []string{}
		for _, v := range items {
			out = append(out, v["title"].(string))
			assert.NotContains(t, v, "messages")
			assert.NotContains(t, v, "artifacts")
		}
		return out
	}
	assert.Equal(t, []string{"b", "a2", "a1", "a0"}, titles(u, ""))
	assert.Equal(t, []string{"b", "a2", "a1", "a0"}, titles(owner, ""))
	assert.Equal(t, []string{"a2", "a1", "a0"}, titles(u, "?status=completed"))
	assert.Equal(t, []string{"b"}, titles(u, "?assignedAgentId="+b["id"].(string)))
	assert.Equal(t, []string{"b"}, titles(u, "?assignedAgentId="+strings.ToUpper(b["id"].(string))))
	assert.Empty(t, titles(u, "?assignedAgentId="+unknownID))
	assert.Len(t, titles(u, "?role=requester"), 4)
	assert.Empty(t, titles(u, "?role=assignee"))
	assert.Len(t, titles(owner, "?role=assignee"), 4)
	assert.Empty(t, titles(owner, "?role=requester"))
	assert.Equal(t, []string{"a1"}, titles(u, "?status=completed&limit=1&offset=1"))
	_, meta := u.get(t, "/api/v1/tasks?status=completed&limit=1&offset=1").list()
	assert.Equal(t, object{"total": 3.0, "limit": 1.0, "offset": 1.0}, meta)
	assert.ElementsMatch(t, []string{"status", "role", "limit"}, u.get(t, "/api/v1/tasks?status=asleep&role=x&limit=0").invalid())
	assert.Equal(t, []string{"assignedAgentId"}, u.get(t, "/api/v1/tasks?assignedAgentId=x").invalid())
	u.post(t, "/api/v1/tasks/"+stalled["id"].(string)+"/cancel", nil).data(http.StatusOK)
}

// testSpending has many requests at once spend what suffices for half of them.
func testSpending(t *testing.T, s *suite) {
	owner, u := s.signUp(t), s.signUp(t)
	a := owner.agent(t, Echo, object{"pricePerTask": 100})
	var mu sync.Mutex
	var ids []any
	statuses := map[int]int{}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			r := u.post(t, "/api/v1/tasks", object{"assignedAgentId": a["id"], "title": "x"})
			mu.Lock()
			defer mu.Unlock()
			if statuses[r.status]++; r.status == http.StatusAccepted {
				ids = append(ids, r.json["data"].(object)["id"])
			}
		})
	}
	all.Wait()
	assert.Equal(t, map[int]int{http.StatusAccepted: 10, http.StatusPaymentRequired: 10}, statuses)
	for _, id := range ids {
		assert.Equal(t, "completed", u.ended(t, id)["status"])
	}
	assert.InDelta(t, 0, u.balance(t)["balance"], 0)
	assert.InDelta(t, 1950, owner.balance(t)["balance"], 0)
}

func testTrust(t *testing.T, s *suite) {
	owner, u := s.signUp(t), s.signUp(t)
	a := owner.agent(t, Echo, nil)
	path := "/api/v1/trust/" + a["id"].(string)
	p := u.get(t, path).data(http.StatusOK)
	for field, want := range (object{
		"agentId": a["id"], "trustScore": a["trustScore"], "confidence": 0.0, "recentEvents": []any{},
		"taskStats":   object{"completed": 0.0, "failed": 0.0, "timedOut": 0.0, "total": 0.0},
		"ratingStats": object{"count": 0.0, "average": 0.0},
	}) {
		assert.Equal(t, want, p[field], field)
	}
	for _, name := range []string{"reliability", "speed", "quality", "tenure"} {
		assert.Contains(t, p["components"], name)
	}
	task := u.ended(t, u.task(t, a["id"], nil)["id"])
	e := u.post(t, path+"/rate", object{"taskId": strings.ToUpper(task["id"].(string)), "rating": 5, "comment": "Excellent work"}).data(http.StatusCreated)
	for field, want := range (object{"agentId": a["id"], "eventType": "rating_received", "score": 5.0, "reason": "Excellent work", "taskId": task["id"]}) {
		assert.Equal(t, want, e[field], field)
	}
	assert.Greater(t, e["scoreAfter"], e["scoreBefore"])
	u.post(t, path+"/rate", object{"taskId": task["id"], "rating": 1}).refused(http.StatusConflict, "ALREADY_RATED")

	p = u.get(t, path).data(http.StatusOK)
	assert.Equal(t, e["scoreAfter"], p["trustScore"])
	assert.Equal(t, object{"count": 1.0, "average": 5.0}, p["ratingStats"])
	assert.Equal(t, p["trustScore"], u.get(t, "/api/v1/agents/"+a["id"].(string)).data(http.StatusOK)["trustScore"])
	items, meta := u.get(t, path+"/history").list()
	assert.Equal(t, object{"total": 2.0, "limit": 20.0, "offset": 0.0}, meta)
	assert.Equal(t, e, items[0])
	assert.Equal(t, "task_completed", items[1]["eventType"])
	assert.Equal(t, []any{items[0], items[1]}, p["recentEvents"])
	items, meta = u.get(t, path+"/history?limit=1").list()
	assert.Equal(t, e, items[0])
	items, meta = u.get(t, path+"/history?limit=1&cursor="+meta["nextCursor"].(string)).list()
	assert.Equal(t, "task_completed", items[0]["eventType"])
	assert.Equal(t, object{"total": 2.0, "limit": 1.0, "offset": 0.0}, meta)
	assert.Equal(t, []string{"cursor"}, u.get(t, path+"/history?cursor=x").invalid())
	items, _ = u.get(t, path+"/history?limit=1&offset=1").list()
	assert.Equal(t, "task_completed", items[0]["eventType"])

	second := u.ended(t, u.task(t, a["id"], nil)["id"])
	for name, test := range map[string]struct {
		body any
		want []string
	}{
		"nothing":      {object{}, []string{"taskId", "rating"}},
		"no stars":     {object{"taskId": second["id"], "rating": 0}, []string{"rating"}},
		"six stars":    {object{"taskId": second["id"], "rating": 6}, []string{"rating"}},
		"half stars":   {object{"taskId": second["id"], "rating": 4.5}, []string{"rating"}},
		"text":         {object{"taskId": second["id"], "rating": "5"}, []string{"rating"}},
		"long comment": {object{"taskId": second["id"], "rating": 5, "comment": strings.Repeat("é", 1001)}, []string{"comment"}},
	} {
		assert.Equal(t, test.want, u.post(t, path+"/rate", test.body).invalid(), name)
	}
	u.post(t, path+"/rate", object{"taskId": "abc", "rating": 5}).refused(http.StatusNotFound, "TASK_NOT_FOUND")
	u.post(t, path+"/rate", object{"taskId": unknownID, "rating": 5}).refused(http.StatusNotFound, "TASK_NOT_FOUND")
	owner.post(t, path+"/rate", object{"taskId": second["id"], "rating": 5}).refused(http.StatusForbidden, "FORBIDDEN")
	another := owner.agent(t, Stalling, nil)
	assert.Equal(t, []string{"taskId"}, u.post(t, "/api/v1/trust/"+another["id"].(string)+"/rate", object{"taskId": second["id"], "rating": 5}).invalid())
	open := u.task(t, another["id"], nil)
	assert.Equal(t, []string{"taskId"}, u.post(t, "/api/v1/trust/"+another["id"].(string)+"/rate", object{"taskId": open["id"], "rating": 5}).invalid())
	u.post(t, "/api/v1/tasks/"+open["id"].(string)+"/cancel", nil).data(http.StatusOK)
}

func testBilling(t *testing.T, s *suite) {
	owner, u := s.signUp(t), s.signUp(t)
	a := owner.agent(t, Echo, object{"pricePerTask": 12.5})
	task := u.ended(t, u.task(t, a["id"], object{"title": "Bake"})["id"])
	items, meta := u.get(t, "/api/v1/billing/transactions").list()
	assert.Equal(t, object{"total": 4.0, "limit": 50.0, "offset": 0.0}, meta)
	type line struct {
		typ           string
		amount, after float64
	}
	lines := []line{}
	for _, v := range items {
		lines = append(lines, line{v["type"].(string), v["amount"].(float64), v["balanceAfter"].(float64)})
		assert.Equal(t, u.userID, v["userId"])
	}
	assert.Equal(t, []line{{"task_debit", -12.5, 987.5}, {"release", 12.5, 1000}, {"hold", -12.5, 987.5}, {"initial_grant", 1000, 1000}}, lines)
	assert.Equal(t, task["id"], items[0]["referenceId"])
	assert.Contains(t, items[0]["description"], "Bake")

	for typ, n := range map[string]int{"task_debit": 1, "hold": 1, "purchase": 0} {
		items, meta = u.get(t, "/api/v1/billing/transactions?type="+typ).list()
		assert.Len(t, items, n)
		assert.InDelta(t, n, meta["total"], 0)
	}
	items, meta = u.get(t, "/api/v1/billing/transactions?limit=1&offset=3").list()
	assert.Equal(t, "initial_grant", items[0]["type"])
	assert.Equal(t, object{"total": 4.0, "limit": 1.0, "offset": 3.0}, meta)
	u.get(t, "/api/v1/billing/transactions?limit=200").list()
	assert.ElementsMatch(t, []string{"limit", "type"}, u.get(t, "/api/v1/billing/transactions?limit=201&type=gift").invalid())

	for query, days := range map[string]int{"": 30, "?period=7d": 7, "?period=30d": 30, "?period=90d": 90} {
		d := u.get(t, "/api/v1/billing/usage"+query).data(http.StatusOK)
		daily := d["daily"].([]any)
		require.Len(t, daily, days)
		assert.Equal(t, fmt.Sprint(days, "d"), d["period"])
		last := daily[days-1].(object)
		if last["date"] == time.Now().UTC().Format(time.DateOnly) { // else midnight came in between
			assert.InDelta(t, 12.5, d["totalSpent"], 0)
			assert.InDelta(t, 0, d["totalEarned"], 0)
		}
		before, _ := time.Parse(time.DateOnly, daily[0].(object)["date"].(string))
		after, _ := time.Parse(time.DateOnly, last["date"].(string))
		assert.Equal(t, days-1, int(after.Sub(before).Hours()/24))
	}
	assert.Equal(t, []string{"period"}, u.get(t, "/api/v1/billing/usage?period=1y").invalid())
	b := owner.balance(t)
	assert.InDelta(t, 1011.87, b["balance"], 1e-9)
	sum := b["total_granted"].(float64) + b["total_purchased"].(float64) + b["total_earned"].(float64) - b["total_spent"].(float64) -
		b["held"].(float64) - b["total_reversed"].(float64)
	assert.InDelta(t, b["balance"], sum, 1e-6)
}
