package apitest

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// says is the body of a reply with one text.
func says(role, text string) object {
	return object{"message": object{"role": role, "parts": []any{object{"type": "text", "data": text}}}, "artifacts": []any{}}
}

func with(body object, more object) object {
	out := object{}
	for _, o := range []object{body, more} {
		for k, v := range o {
			out[k] = v
		}
	}
	return out
}

// An agent that is called but does not answer may call in itself.
func testTaskReplies(t *testing.T, s *suite) {
	owner, u, stranger := s.signUp(t), s.signUp(t), s.signUp(t)
	a := owner.agent(t, Stalling, object{"pricePerTask": 10})
	agent, _ := owner.key(t, a["id"], "tasks:write")
	task := u.task(t, a["id"], nil)
	path := "/api/v1/tasks/" + task["id"].(string) + "/reply"
	assert.Equal(t, false, task["inputRequired"])

	stranger.post(t, path, says("user", "x")).refused(http.StatusNotFound, "TASK_NOT_FOUND")
	stranger.post(t, path, says("agent", "x")).refused(http.StatusNotFound, "TASK_NOT_FOUND")
	u.post(t, path, says("agent", "x")).refused(http.StatusForbidden, "FORBIDDEN")
	agent.post(t, path, says("user", "x")).refused(http.StatusForbidden, "FORBIDDEN")
	for what, body := range map[string]any{
		"nothing":              object{},
		"no role":              object{"message": object{"parts": []any{object{"type": "text", "data": "x"}}}},
		"another role":         says("system", "x"),
		"no parts":             object{"message": object{"role": "user", "parts": []any{}}},
		"text that is none":    object{"message": object{"role": "user", "parts": []any{object{"type": "text", "data": 1}}}},
		"text that is null":    object{"message": object{"role": "user", "parts": []any{object{"type": "text", "data": nil}}}},
		"no data":              object{"message": object{"role": "user", "parts": []any{object{"type": "data"}}}},
		"another type":         object{"message": object{"role": "user", "parts": []any{object{"type": "video", "data": "x"}}}},
		"a file without place": object{"message": object{"role": "user", "parts": []any{object{"type": "file", "data": object{"name": "x"}}}}},
		"a user's artifacts":   with(says("user", "x"), object{"artifacts": []any{object{"name": "x", "parts": []any{object{"type": "text", "data": "x"}}}}}),
		"a user's status":      with(says("user", "x"), object{"status": "completed"}),
		"another status":       with(says("agent", "x"), object{"status": "cancelled"}),
		"too much":             says("user", strings.Repeat("x", 256<<10)),
	} {
		require.NotEmpty(t, u.post(t, path, body).invalid(), what)
	}

	v := u.post(t, path, says("user", "one more thing")).data(http.StatusOK)
	messages := v["messages"].([]any)
	require.Len(t, messages, 2)
	assert.Equal(t, "user", messages[1].(object)["role"])
	assert.Equal(t, []any{object{"type": "text", "data": "one more thing"}}, messages[1].(object)["parts"])

	v = agent.post(t, path, with(says("agent", "at work"), object{"status": "running"})).data(http.StatusOK)
	assert.Equal(t, "running", v["status"])
	v = agent.post(t, path, object{
		"message":   object{"role": "agent", "parts": []any{object{"type": "data", "data": object{"n": 1}}}},
		"artifacts": []any{object{"name": "paper", "parts": []any{object{"type": "file", "data": object{"name": "a.txt", "bytes": "aGk="}}}}}, "status": "completed",
	}).data(http.StatusOK)
	assert.Equal(t, "completed", v["status"])
	assert.Equal(t, object{"n": 1.0}, v["output"])
	require.Len(t, v["artifacts"], 1)
	assert.Equal(t, "paper", v["artifacts"].([]any)[0].(object)["name"])
	assert.NotEmpty(t, v["artifacts"].([]any)[0].(object)["id"])
	require.Len(t, v["messages"], 4)
	assert.InDelta(t, 990, u.balance(t)["balance"], 0)
	assert.InDelta(t, 1009.5, owner.balance(t)["balance"], 1e-9)
	for _, c := range []*client{u, agent} {
		d := c.post(t, path, says(map[bool]string{true: "user", false: "agent"}[c == u], "late")).refused(http.StatusConflict, "TASK_NOT_ACTIVE")
		assert.Equal(t, "completed", d["status"])
	}
	stranger.post(t, path, says("user", "x")).refused(http.StatusNotFound, "TASK_NOT_FOUND")

	task = u.task(t, a["id"], nil)
	v = agent.post(t, "/api/v1/tasks/"+task["id"].(string)+"/reply", with(says("agent", "no idea"), object{"status": "failed"})).data(http.StatusOK)
	assert.Equal(t, "failed", v["status"])
	assert.Equal(t, "AGENT_FAILED", v["error"].(object)["code"])
	assert.InDelta(t, 990, u.balance(t)["balance"], 0, "the money is back")
}

// An agent that asks back is told what its requester replies, in the same context.
func testTaskQuestions(t *testing.T, s *suite) {
	owner, u := s.signUp(t), s.signUp(t)
	a := owner.agent(t, Asking, object{"pricePerTask": 10})
	task := u.task(t, a["id"], nil)
	asks := u.waitFor(t, task["id"], func(task object) bool { return task["inputRequired"] == true })
	assert.Equal(t, "running", asks["status"])
	require.Len(t, asks["messages"], 2)
	assert.Equal(t, []any{object{"type": "text", "data": "which one?"}}, asks["messages"].([]any)[1].(object)["parts"])
	v := u.post(t, "/api/v1/tasks/"+task["id"].(string)+"/reply", says("user", "the blue one")).data(http.StatusOK)
	assert.Equal(t, false, v["inputRequired"])
	done := u.ended(t, task["id"])
	assert.Equal(t, "completed", done["status"])
	assert.InDelta(t, 2, done["attempts"], 0)
	require.Len(t, done["messages"], 4, "what the agent tells again is not said twice")
	require.Len(t, done["artifacts"], 1)
	assert.Equal(t, object{"text": "the blue one\nfine"}, done["output"])
	assert.InDelta(t, 990, u.balance(t)["balance"], 0)
}

// A task may wait for an agent that is offline.
func testTaskQueue(t *testing.T, s *suite) {
	owner, u := s.signUp(t), s.signUp(t)
	a := owner.agent(t, Gone, object{"pricePerTask": 5})
	require.Equal(t, "offline", a["status"])
	u.post(t, "/api/v1/tasks", object{"assignedAgentId": a["id"], "title": "x"}).refused(http.StatusServiceUnavailable, "AGENT_OFFLINE")
	task := u.task(t, a["id"], object{"queueIfOffline": true})
	assert.Equal(t, "pending", task["status"])
	assert.InDelta(t, 5, u.balance(t)["held"], 0)
	gone := u.task(t, a["id"], object{"queueIfOffline": true})
	v := u.post(t, "/api/v1/tasks/"+gone["id"].(string)+"/cancel", nil).data(http.StatusOK)
	assert.Equal(t, "cancelled", v["status"])
	u.post(t, "/api/v1/tasks/"+task["id"].(string)+"/reply", says("user", "and this")).data(http.StatusOK)

	owner.patch(t, "/api/v1/agents/"+a["id"].(string), object{"endpoint": s.AgentURL(Echo)}).data(http.StatusOK)
	done := u.ended(t, task["id"])
	assert.Equal(t, "completed", done["status"])
	assert.InDelta(t, 995, u.balance(t)["balance"], 0)
	assert.Equal(t, "cancelled", u.ended(t, gone["id"])["status"])

	// By a heartbeat, too. An agent that is there gets a task at once, whether or not it could have waited.
	b := owner.agent(t, Gone, nil)
	task = u.task(t, b["id"], object{"queueIfOffline": true})
	owner.post(t, "/api/v1/agents/"+b["id"].(string)+"/heartbeat", nil).data(http.StatusOK)
	assert.Equal(t, "failed", u.ended(t, task["id"])["status"], "nobody listens there all the same")
	task = u.task(t, a["id"], object{"queueIfOffline": true})
	assert.Equal(t, "assigned", task["status"])
}

func testDashboardTasks(t *testing.T, s *suite) {
	u := s.signUp(t)
	a := u.agent(t, Echo, nil)
	id := u.post(t, "/api/dashboard/tasks", object{"agentId": a["id"], "message": "Please do this thing\nsoon"}).data(http.StatusAccepted)["taskId"]
	done := u.ended(t, id)
	assert.Equal(t, "Please do this thing", done["title"])
	assert.Equal(t, object{"text": "echo: Please do this thing\nsoon"}, done["output"])
	k, _ := u.key(t, a["id"], "*")
	k.post(t, "/api/dashboard/tasks", object{"agentId": a["id"], "message": "x"}).refused(http.StatusUnauthorized, "UNAUTHORIZED")
	u.post(t, "/api/dashboard/tasks", object{"agentId": unknownID, "message": "x"}).refused(http.StatusNotFound, "AGENT_NOT_FOUND")
	require.Equal(t, []string{"message"}, u.post(t, "/api/dashboard/tasks", object{"agentId": a["id"], "message": ""}).invalid())
}
