package apitest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// steps are steps of an agent's, one for each list of dependencies.
func steps(agent object, dependsOn ...[]int) []object {
	var out []object
	for i, d := range dependsOn {
		if d == nil {
			d = []int{}
		}
		out = append(out, object{"name": fmt.Sprint("Step ", i), "agentId": agent["id"], "input": object{"own": i}, "dependsOn": d})
	}
	return out
}

func (c *client) workflow(t *testing.T, steps []object) object {
	t.Helper()
	return c.post(t, "/api/v1/workflows", object{"name": "Flow", "steps": steps}).data(http.StatusCreated)
}

func (c *client) run(t *testing.T, workflow object) object {
	t.Helper()
	return c.post(t, fmt.Sprintf("/api/v1/workflows/%s/execute", workflow["id"]), nil).data(http.StatusAccepted)
}

func runPath(run object) string {
	return fmt.Sprintf("/api/v1/workflows/%s/runs/%s", run["workflowId"], run["id"])
}

func (c *client) runEnded(t *testing.T, run object) object {
	t.Helper()
	for deadline := time.Now().Add(25 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		now := c.get(t, runPath(run)).data(http.StatusOK)
		if now["status"] != "pending" && now["status"] != "running" {
			return now
		}
		require.True(t, time.Now().Before(deadline), "the run stays %v", now)
	}
}

func stepStatuses(run object) string {
	var out []string
	for _, s := range run["stepResults"].([]any) {
		out = append(out, s.(object)["status"].(string))
	}
	return strings.Join(out, " ")
}

func testWorkflows(t *testing.T, s *suite) {
	owner, u := s.signUp(t), s.signUp(t)
	a := owner.agent(t, Echo, object{"skills": []any{object{"id": "fetch", "name": "Fetch"}}})
	r := u.post(t, "/api/v1/workflows", `{"name": "Research Pipeline", "description": "Multi-step research workflow", "steps": [
		{"name": "Fetch Data", "agentId": "`+strings.ToUpper(a["id"].(string))+`", "skillId": "fetch", "input": {"url": "https://example.com", "n": 1.50},
		 "dependsOn": [], "timeout": 120, "retryPolicy": {"maxRetries": 2, "backoffMs": 1500}},
		{"name": "Summarize", "agentId": "`+a["id"].(string)+`", "skillId": null, "input": null, "dependsOn": [0], "timeout": null, "retryPolicy": null}]}`)
	w := r.data(http.StatusCreated)
	path := "/api/v1/workflows/" + w["id"].(string)
	assert.Equal(t, path, r.header.Get("Location"))
	assert.Contains(t, string(r.body), `"n":1.50`)
	want := []any{
		object{
			"name": "Fetch Data", "agentId": a["id"], "skillId": "fetch", "input": object{"url": "https://example.com", "n": 1.5}, "dependsOn": []any{},
			"timeout": 120.0, "retryPolicy": object{"maxRetries": 2.0, "backoffMs": 1500.0},
		},
		object{
			"name": "Summarize", "agentId": a["id"], "skillId": nil, "input": object{}, "dependsOn": []any{0.0},
			"timeout": 300.0, "retryPolicy": object{"maxRetries": 0.0, "backoffMs": 1000.0},
		},
	}
	for field, v := range (object{
		"name": "Research Pipeline", "description": "Multi-step research workflow", "ownerUserId": u.userID, "steps": want, "runs": []any{}, "schedule": nil,
	}) {
		assert.Equal(t, v, w[field], field)
	}
	assert.Equal(t, w, u.get(t, path).data(http.StatusOK))

	items, meta := u.get(t, "/api/v1/workflows").list()
	require.Len(t, items, 1)
	assert.InDelta(t, 1, meta["total"], 0)
	assert.NotContains(t, items[0], "runs")
	items, _ = owner.get(t, "/api/v1/workflows").list()
	assert.Empty(t, items)

	changed := u.patch(t, path, object{"name": "New", "steps": steps(a, nil)}).data(http.StatusOK)
	assert.Equal(t, "New", changed["name"])
	assert.Equal(t, w["description"], changed["description"])
	assert.Len(t, changed["steps"], 1)

	run := u.runEnded(t, u.run(t, w))
	seen := u.get(t, path).data(http.StatusOK)["runs"].([]any)
	require.Len(t, seen, 1)
	assert.Equal(t, run["id"], seen[0].(object)["id"])

	assert.Equal(t, object{"id": w["id"], "deleted": true}, u.delete(t, path).data(http.StatusOK))
	u.get(t, path).refused(http.StatusNotFound, "WORKFLOW_NOT_FOUND")
	u.patch(t, path, object{}).refused(http.StatusNotFound, "WORKFLOW_NOT_FOUND")
	u.delete(t, path).refused(http.StatusNotFound, "WORKFLOW_NOT_FOUND")
	u.post(t, path+"/execute", nil).refused(http.StatusNotFound, "WORKFLOW_NOT_FOUND")
	assert.Equal(t, run, u.get(t, runPath(run)).data(http.StatusOK), "what is past stays readable")
}

func testWorkflowRuns(t *testing.T, s *suite) {
	owner, u := s.signUp(t), s.signUp(t)
	good, bad, slow := owner.agent(t, Echo, object{"pricePerTask": 10}), owner.agent(t, Failing, object{"pricePerTask": 10}), owner.agent(t, Stalling, object{"pricePerTask": 10})

	w := u.workflow(t, steps(good, nil, []int{0}, []int{0}, []int{1, 2}))
	r := u.post(t, fmt.Sprintf("/api/v1/workflows/%s/execute", w["id"]), nil)
	run := r.data(http.StatusAccepted)
	assert.Equal(t, runPath(run), r.header.Get("Location"))
	assert.Equal(t, w["id"], run["workflowId"])
	assert.Equal(t, "running pending pending pending", stepStatuses(run))
	run = u.runEnded(t, run)
	assert.Equal(t, "completed", run["status"])
	assert.Nil(t, run["error"])
	results := run["stepResults"].([]any)
	for i, res := range results {
		res := res.(object)
		assert.InDelta(t, i, res["stepIndex"], 0)
		assert.Equal(t, fmt.Sprint("Step ", i), res["name"])
		assert.Equal(t, "completed", res["status"])
		assert.InDelta(t, 1, res["attempts"], 0)
		assert.NotNil(t, res["startedAt"])
		assert.NotNil(t, res["completedAt"])
		task := u.get(t, fmt.Sprintf("/api/v1/tasks/%s", res["taskId"])).data(http.StatusOK)
		assert.Equal(t, run["id"], task["workflowRunId"])
		assert.InDelta(t, i, task["stepIndex"], 0)
		assert.Equal(t, task["output"], res["output"])
	}
	last := u.get(t, fmt.Sprintf("/api/v1/tasks/%s", results[3].(object)["taskId"])).data(http.StatusOK)
	assert.Equal(t, object{"own": 3.0, "step_1_output": results[1].(object)["output"], "step_2_output": results[2].(object)["output"]}, last["input"])
	assert.InDelta(t, 960, u.balance(t)["balance"], 0)
	assert.InDelta(t, 1038, owner.balance(t)["balance"], 0)

	// A failed step skips what lies downstream of it, and nothing else.
	mixed := steps(good, nil, nil, []int{1}, []int{0})
	mixed[1]["agentId"] = bad["id"]
	run = u.runEnded(t, u.run(t, u.workflow(t, mixed)))
	assert.Equal(t, "failed", run["status"])
	assert.Equal(t, "completed failed skipped completed", stepStatuses(run))
	assert.Equal(t, "STEP_FAILED", run["error"].(object)["code"])
	assert.Equal(t, "DEPENDENCY_FAILED", run["stepResults"].([]any)[2].(object)["error"].(object)["code"])
	assert.InDelta(t, 940, u.balance(t)["balance"], 0)

	// A cancelled run gives back what was held.
	w = u.workflow(t, steps(slow, nil, nil, []int{0}))
	run = u.run(t, w)
	assert.InDelta(t, 20, u.balance(t)["held"], 0)
	run = u.post(t, runPath(run)+"/cancel", nil).data(http.StatusOK)
	assert.Equal(t, "cancelled", run["status"])
	assert.Equal(t, "cancelled cancelled cancelled", stepStatuses(run))
	assert.InDelta(t, 0, u.balance(t)["held"], 0)
	assert.Equal(t, run, u.post(t, runPath(run)+"/cancel", nil).data(http.StatusOK))
	done := u.runEnded(t, u.run(t, u.workflow(t, steps(good, nil))))
	u.post(t, runPath(done)+"/cancel", nil).refused(http.StatusConflict, "TASK_NOT_ACTIVE")

	// Runs are listed, and a repeat is none.
	key := u.with("Idempotency-Key", "run once")
	path := fmt.Sprintf("/api/v1/workflows/%s", w["id"])
	first := key.post(t, path+"/execute", nil).data(http.StatusAccepted)
	assert.Equal(t, first["id"], key.post(t, path+"/execute", nil).data(http.StatusAccepted)["id"])
	items, meta := u.get(t, path+"/runs?limit=1").list()
	assert.InDelta(t, 2, meta["total"], 0)
	require.Len(t, items, 1)
	assert.Equal(t, first["id"], items[0]["id"])
	u.delete(t, path).data(http.StatusOK)
	assert.Equal(t, "cancelled", u.get(t, runPath(first)).data(http.StatusOK)["status"])
	assert.InDelta(t, 0, u.balance(t)["held"], 0)
}

func testWorkflowRefusals(t *testing.T, s *suite) {
	u, other := s.signUp(t), s.signUp(t)
	a := u.agent(t, Echo, nil)
	step := func(extra object) object {
		out := object{"name": "x", "agentId": a["id"]}
		for k, v := range extra {
			out[k] = v
		}
		return out
	}
	for name, test := range map[string]struct {
		body object
		want []string
	}{
		"nothing":    {object{}, []string{"name", "steps"}},
		"no steps":   {object{"name": "x", "steps": []any{}}, []string{"steps"}},
		"too many":   {object{"name": "x", "steps": steps(a, make([][]int, 21)...)}, []string{"steps"}},
		"all wrong":  {object{"name": "x", "steps": []any{step(object{"dependsOn": []int{0}}), step(object{"dependsOn": []int{2, 0, 0, -1}}), step(object{"agentId": unknownID})}}, []string{"steps[0].dependsOn[0]", "steps[1].dependsOn[0]", "steps[1].dependsOn[2]", "steps[1].dependsOn[3]", "steps[2].agentId"}},
		"all kinds":  {object{"name": "", "description": strings.Repeat("x", 2001), "steps": []any{step(object{"name": "", "timeout": 9, "dependsOn": []any{0}}), step(object{"agentId": unknownID, "dependsOn": []any{7, 0, 0}})}}, []string{"description", "name", "steps[0].name", "steps[0].timeout", "steps[0].dependsOn[0]", "steps[1].agentId", "steps[1].dependsOn[0]", "steps[1].dependsOn[2]"}},
		"no agent":   {object{"name": "x", "steps": []any{object{"name": "x"}}}, []string{"steps[0].agentId"}},
		"odd agent":  {object{"name": "x", "steps": []any{step(object{"agentId": "nobody"})}}, []string{"steps[0].agentId"}},
		"timeout":    {object{"name": "x", "steps": []any{step(object{"timeout": 0}), step(object{"timeout": 3601})}}, []string{"steps[0].timeout", "steps[1].timeout"}},
		"retries":    {object{"name": "x", "steps": []any{step(object{"retryPolicy": object{"maxRetries": 6, "backoffMs": 99}})}}, []string{"steps[0].retryPolicy.backoffMs", "steps[0].retryPolicy.maxRetries"}},
		"no backoff": {object{"name": "x", "steps": []any{step(object{"retryPolicy": object{"backoffMs": 0}})}}, []string{"steps[0].retryPolicy.backoffMs"}},
		"input":      {object{"name": "x", "steps": []any{step(object{"input": []int{1}})}}, []string{"steps[0].input"}},
		"its name":   {object{"name": "x", "steps": []any{step(nil), step(object{"dependsOn": []int{0}, "input": object{"step_0_output": 1}})}}, []string{"steps[1].input.step_0_output"}},
	} {
		assert.Equal(t, test.want, u.post(t, "/api/v1/workflows", test.body).invalid(), name)
	}
	w := u.workflow(t, steps(a, nil))
	path := fmt.Sprintf("/api/v1/workflows/%s", w["id"])
	assert.Equal(t, []string{"steps[0].agentId"}, u.patch(t, path, object{"steps": []any{step(object{"agentId": unknownID})}}).invalid())
	assert.Equal(t, w, u.get(t, path).data(http.StatusOK))
	run := u.run(t, w)
	for _, do := range []func() *response{
		func() *response { return other.get(t, path) },
		func() *response { return other.patch(t, path, object{"name": "mine"}) },
		func() *response { return other.delete(t, path) },
		func() *response { return other.post(t, path+"/execute", nil) },
		func() *response { return other.get(t, path+"/runs") },
		func() *response { return other.get(t, runPath(run)) },
		func() *response { return other.get(t, runPath(run)+"/stream") },
		func() *response { return other.post(t, runPath(run)+"/cancel", nil) },
	} {
		do().refused(http.StatusForbidden, "FORBIDDEN")
	}
	u.get(t, path+"/runs/"+unknownID).refused(http.StatusNotFound, "RUN_NOT_FOUND")
	second := u.workflow(t, steps(a, nil))
	u.get(t, fmt.Sprintf("/api/v1/workflows/%s/runs/%s", second["id"], run["id"])).refused(http.StatusNotFound, "RUN_NOT_FOUND")
	u.post(t, "/api/v1/workflows/"+unknownID+"/execute", nil).refused(http.StatusNotFound, "WORKFLOW_NOT_FOUND")
}

func testRunStream(t *testing.T, s *suite) {
	owner, u := s.signUp(t), s.signUp(t)
	making, echo := owner.agent(t, Making, nil), owner.agent(t, Echo, nil)
	all := steps(making, nil, []int{0})
	all[1]["agentId"] = echo["id"]
	run := u.run(t, u.workflow(t, all))
	path := runPath(run) + "/stream"
	live := u.streamAt(t, path, "").rest()
	var told []string
	for _, e := range live {
		what := fmt.Sprint(e.kind, " ", e.data["status"])
		if e.kind == "step" {
			what += fmt.Sprint(" ", e.data["stepIndex"])
			assert.Equal(t, fmt.Sprint("Step ", e.data["stepIndex"]), e.data["name"])
		}
		told = append(told, what)
	}
	require.GreaterOrEqual(t, len(told), 4)
	assert.Equal(t, "status running", told[0])
	assert.Equal(t, "complete completed", told[len(told)-1])
	assert.Contains(t, told, "step completed 0")
	assert.Contains(t, told, "step completed 1")

	// All of it from the beginning, in one piece and in two.
	whole := u.streamAt(t, path, "0").rest()
	for i, e := range whole {
		assert.EqualValues(t, i+1, e.id)
	}
	rest := u.streamAt(t, path, "4").rest()
	assert.Equal(t, whole[4:], rest)
	done := u.runEnded(t, run)
	for _, e := range whole {
		if e.kind == "step" && e.data["status"] == "completed" {
			assert.Equal(t, done["stepResults"].([]any)[int(e.data["stepIndex"].(float64))].(object)["output"], e.data["output"])
		}
	}
	r := u.with("Last-Event-ID", fmt.Sprint(len(whole))).get(t, path)
	assert.Equal(t, http.StatusNoContent, r.status)
}
