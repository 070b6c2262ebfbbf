package apitest

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// testRepeats repeats requests under an Idempotency-Key.
func testRepeats(t *testing.T, s *suite) {
	owner, u, other := s.signUp(t), s.signUp(t), s.signUp(t)
	a := owner.agent(t, Stalling, object{"pricePerTask": 10})
	body := object{"assignedAgentId": a["id"], "title": "Do it"}
	first := u.with("Idempotency-Key", "k 1 é").post(t, "/api/v1/tasks", body)
	task := first.data(http.StatusAccepted)
	assert.Empty(t, first.header.Get("Idempotency-Replayed"))
	u.post(t, "/api/v1/tasks/"+task["id"].(string)+"/cancel", nil).data(http.StatusOK) // the first answer stays as it was
	again := u.with("Idempotency-Key", "k 1 é").post(t, "/api/v1/tasks", body)
	assert.Equal(t, task, again.data(http.StatusAccepted))
	assert.Equal(t, "true", again.header.Get("Idempotency-Replayed"))
	assert.Equal(t, first.header.Get("Location"), again.header.Get("Location"))
	assert.Equal(t, first.header.Get("Content-Type"), again.header.Get("Content-Type"))

	u.with("Idempotency-Key", "k 1 é").post(t, "/api/v1/tasks", object{"assignedAgentId": a["id"], "title": "Do that"}).refused(http.StatusConflict, "IDEMPOTENCY_CONFLICT")
	u.with("Idempotency-Key", "k 1 é").post(t, "/api/v1/tasks/"+task["id"].(string)+"/reply", says("user", "x")).refused(http.StatusConflict, "IDEMPOTENCY_CONFLICT")
	assert.NotEqual(t, task["id"], other.with("Idempotency-Key", "k 1 é").post(t, "/api/v1/tasks", body).data(http.StatusAccepted)["id"], "a key is the caller's own")
	for _, bad := range []string{"", strings.Repeat("x", 256), "\xff"} {
		assert.Equal(t, []string{"Idempotency-Key"}, u.with("Idempotency-Key", bad).post(t, "/api/v1/tasks", body).invalid(), "%q", bad)
	}

	// What was refused may be tried again.
	poor := object{"assignedAgentId": unknownID, "title": "x"}
	u.with("Idempotency-Key", "2").post(t, "/api/v1/tasks", poor).refused(http.StatusNotFound, "AGENT_NOT_FOUND")
	u.with("Idempotency-Key", "2").post(t, "/api/v1/tasks", body).data(http.StatusAccepted)

	// Many at once are one.
	var mu sync.Mutex
	ids := map[string]bool{}
	var wg sync.WaitGroup
	before := u.balance(t)["held"].(float64)
	for range 6 {
		wg.Go(func() {
			v := u.with("Idempotency-Key", strings.Repeat("é", 255)).post(t, "/api/v1/tasks", body).data(http.StatusAccepted)
			mu.Lock()
			defer mu.Unlock()
			ids[v["id"].(string)] = true
		})
	}
	wg.Wait()
	require.Len(t, ids, 1)
	assert.InDelta(t, before+10, u.balance(t)["held"], 0)

	// Every operation that makes something takes it.
	for _, op := range []struct {
		path string
		body object
	}{
		{"/api/v1/agents", object{"name": "twice", "endpoint": s.AgentURL(Gone)}},
		{fmt.Sprintf("/api/v1/agents/%s/api-keys", a["id"]), object{"name": "twice", "scopes": []string{"*"}}},
	} {
		c := owner.with("Idempotency-Key", "make "+op.path)
		one, two := c.post(t, op.path, op.body), c.post(t, op.path, op.body)
		assert.Equal(t, one.data(http.StatusCreated), two.data(http.StatusCreated), op.path)
		assert.Equal(t, "true", two.header.Get("Idempotency-Replayed"), op.path)
	}
}
