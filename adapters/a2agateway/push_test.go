package a2agateway_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/a2agateway"
	"github.com/nexus-protocol/nexus/adapters/ssrfguard"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
	"github.com/nexus-protocol/nexus/ports/portstest"
)

// hook is a receiver of push notifications.
type hook struct {
	url string
	mu  sync.Mutex
	got []push
}

type push struct {
	header http.Header
	body   object
}

func newHook(t *testing.T) *hook {
	h := &hook{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		p := push{header: r.Header}
		if err != nil || json.Unmarshal(body, &p.body) != nil || r.Method != http.MethodPost {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.got = append(h.got, p)
	}))
	t.Cleanup(srv.Close)
	h.url = srv.URL + "/hook"
	return h
}

func (h *hook) all() []push {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]push(nil), h.got...)
}

// until waits for a notification that is as it should be, which is the last there is.
func (h *hook) until(t *testing.T, is func(push) bool) push {
	t.Helper()
	var last push
	require.Eventually(t, func() bool {
		all := h.all()
		if len(all) == 0 {
			return false
		}
		last = all[len(all)-1]
		return is(last)
	}, 10*time.Second, time.Millisecond)
	return last
}

func pushing(c *app.Config) {
	c.Notifier = a2agateway.NewNotifier(ssrfguard.New(true).Transport(), ssrfguard.ErrProhibited, "test")
	c.SealKeys = [][]byte{bytes.Repeat([]byte{1}, 32)}
}

func TestNotifier(t *testing.T) {
	n := a2agateway.NewNotifier(ssrfguard.New(true).Transport(), ssrfguard.ErrProhibited, "test")
	require.NoError(t, portstest.Notifier(t.Context(), n, []string{"0.3", "0.3 {type, data}", "1.0"}, func(how portstest.Reception) (string, func() int) {
		taken := 0
		var mu sync.Mutex
		gone := make(chan struct{})
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if how == portstest.Refuse && r.URL.Path != "/elsewhere" { // which would take it
				http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
				return
			}
			switch how {
			case portstest.SendAway:
				w.WriteHeader(http.StatusGone)
			case portstest.PutOff:
				w.Header().Set("Retry-After", "60")
				w.WriteHeader(http.StatusServiceUnavailable)
			case portstest.Ignore:
				<-gone
			default:
				mu.Lock()
				taken++
				mu.Unlock()
				w.WriteHeader(http.StatusAccepted)
			}
		}))
		t.Cleanup(srv.Close)
		t.Cleanup(func() { close(gone) })
		return srv.URL, func() int {
			mu.Lock()
			defer mu.Unlock()
			return taken
		}
	}))
}

// A receiver may say in seconds or as a date when it wants to be told again.
func TestNotifierHeedsRetryAfter(t *testing.T) {
	n := a2agateway.NewNotifier(ssrfguard.New(true).Transport(), ssrfguard.ErrProhibited, "test")
	for header, least := range map[string]time.Duration{"120": 2 * time.Minute, time.Now().Add(time.Hour).UTC().Format(http.TimeFormat): 30 * time.Minute} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", header)
			w.WriteHeader(http.StatusTooManyRequests)
		}))
		var failed *ports.NotifyError
		err := n.Notify(t.Context(), ports.Notification{
			Config: task.PushConfig{URL: srv.URL, Dialect: "1.0"}, Events: []task.Event{{Kind: task.EventStatus, Status: task.Running}},
		})
		srv.Close()
		require.ErrorAs(t, err, &failed)
		require.GreaterOrEqual(t, failed.RetryAfter, least, header)
	}
}

// The address that is dialled is what counts, not the one that was checked.
func TestNotifierIsGuarded(t *testing.T) {
	h := newHook(t)
	n := a2agateway.NewNotifier(ssrfguard.New(false).Transport(), ssrfguard.ErrProhibited, "test")
	for _, url := range []string{h.url, strings.Replace(h.url, "127.0.0.1", "localhost", 1)} {
		var failed *ports.NotifyError
		err := n.Notify(t.Context(), ports.Notification{
			Config: task.PushConfig{URL: url, Dialect: "1.0"}, Events: []task.Event{{Kind: task.EventStatus, Status: task.Running}},
		})
		require.ErrorAs(t, err, &failed)
		require.Contains(t, failed.Reason, "not allowed")
		require.NotContains(t, failed.Reason, "127.0.0.1")
	}
	require.Empty(t, h.all())

	r := newRig(t, pushing, func(c *app.Config) { c.Guard = ssrfguard.New(false) })
	r.agents.Handle("https://8.8.8.8/", echo)
	a := r.registerAt("Agent", "https://8.8.8.8/")
	v := r.call(door(a), "message/send", says("0.3", "m", "x", nil)).result()
	for _, url := range []string{h.url, "http://localhost/", "http://169.254.169.254/latest", "http://[::1]/", "http://10.0.0.1/"} {
		for method, params := range map[string]object{
			"tasks/pushNotificationConfig/set": {"taskId": v["id"], "pushNotificationConfig": object{"url": url}},
			"CreateTaskPushNotificationConfig": {"taskId": v["id"], "url": url},
			"message/send":                     {"message": says("0.3", url, "x", nil)["message"], "configuration": object{"pushNotificationConfig": object{"url": url}}},
		} {
			require.Equal(t, -32602, r.call(door(a), method, params, "X-Test-Address", url[len(url)-5:len(url)-4]).code(), "%s %s", method, url)
		}
	}
	require.Empty(t, h.all())
}

// A message can say where its sender wants to be told, in the form in which it is written.
func TestPushInEveryForm(t *testing.T) {
	r := newRig(t, pushing)
	a := r.register(r.owner, 0, nil)
	for form, method := range map[string]string{"0.3": "message/send", "typed": "message/stream", "1.0": "SendMessage"} {
		t.Run(form, func(t *testing.T) {
			h := newHook(t)
			conf := object{"url": h.url, "token": "tok", "authentication": object{"schemes": []string{"Basic", "Bearer"}, "credentials": "c2VjcmV0"}}
			name := "pushNotificationConfig"
			if form == "1.0" {
				conf["authentication"], name = object{"scheme": "Basic", "credentials": "c2VjcmV0"}, "taskPushNotificationConfig"
			}
			params := says(form, "m "+form, "hello", nil)
			params["configuration"] = object{name: conf, "blocking": false, "returnImmediately": true}
			require.NotContains(t, r.call(door(a), method, params).body, "c2VjcmV0")
			var last push
			part := map[string]object{"0.3": {"kind": "text", "text": "hello"}, "typed": {"type": "text", "data": "hello"}, "1.0": {"text": "hello"}}[form]
			if form == "1.0" {
				last = h.until(t, func(p push) bool {
					u, ok := p.body["statusUpdate"].(object)
					return ok && u["status"].(object)["state"] == "TASK_STATE_COMPLETED"
				})
				var kinds []string
				id := ""
				before := 0.0
				for _, p := range h.all() {
					require.Len(t, p.body, 1)
					for kind, v := range p.body {
						update := v.(object)
						kinds = append(kinds, kind)
						id = update["taskId"].(string)
						require.NotEmpty(t, update["contextId"])
						seq := update["metadata"].(object)["sequence"].(float64)
						require.Greater(t, seq, before, "in order")
						before = seq
						if kind == "artifactUpdate" {
							require.Equal(t, []any{part}, update["artifact"].(object)["parts"])
						}
					}
				}
				require.Equal(t, []string{"statusUpdate", "statusUpdate", "artifactUpdate", "statusUpdate"}, kinds, "at work, says, made, done")
				require.Equal(t, "application/a2a+json", last.header.Get("Content-Type"))
				require.Equal(t, "1.0", last.header.Get("A2A-Version"))
				require.Equal(t, "tok", last.header.Get("A2A-Notification-Token"))
				require.Equal(t, id+"/6", last.header.Get("X-A2A-Notification-Id"))
			} else {
				last = h.until(t, func(p push) bool {
					return p.body["status"].(object)["state"] == "completed" && p.body["artifacts"] != nil
				})
				require.Equal(t, "task", last.body["kind"])
				require.Equal(t, []any{part}, last.body["artifacts"].([]any)[0].(object)["parts"])
				require.Len(t, last.body["history"], 2)
				require.InDelta(t, 6, last.body["metadata"].(object)["sequence"], 0)
				require.Equal(t, "application/json", last.header.Get("Content-Type"))
				require.Equal(t, last.body["id"].(string)+"/6", last.header.Get("X-A2A-Notification-Id"))
			}
			require.Equal(t, "tok", last.header.Get("X-A2A-Notification-Token"))
			require.Equal(t, "Basic c2VjcmV0", last.header.Get("Authorization"))
			require.Equal(t, "nexus/test", last.header.Get("User-Agent"))
		})
	}
}

// asks is an agent that asks once.
func asks(_ context.Context, c ports.Call) (ports.Answer, error) {
	if c.RemoteTaskID != "" {
		return ports.Answer{State: ports.AnswerDone, Artifacts: []task.Artifact{{ID: "a", Parts: c.Message.Parts}}}, nil
	}
	return ports.Answer{State: ports.AnswerInputRequired, RemoteTaskID: "r"}, nil
}

func TestPushConfigurations(t *testing.T) {
	r := newRig(t, pushing)
	a, other := r.register(r.owner, 0, asks), r.register(r.owner, 0, asks)
	key := []string{"Authorization", "Bearer " + r.key}
	card, _ := r.read(door(a) + "/.well-known/agent-card.json")
	assert.Equal(t, true, card["capabilities"].(object)["pushNotifications"])
	v := r.call(door(a), "message/send", says("0.3", "m", "x", nil), key...).result()
	require.Equal(t, "input-required", v["status"].(object)["state"])
	id := v["id"].(string)
	do := func(method string, params object) answer { return r.call(door(a), method, params, key...) }
	result := func(method string, params object) any {
		t.Helper()
		v := do(method, params).rpc()
		require.NotContains(t, v, "error", method)
		require.Contains(t, v, "result", method)
		return v["result"]
	}
	h := newHook(t)

	// 0.3: without an id there is one, which is replaced.
	const set, get, list, del = "tasks/pushNotificationConfig/set", "tasks/pushNotificationConfig/get", "tasks/pushNotificationConfig/list", "tasks/pushNotificationConfig/delete"
	assert.Equal(t, []any{}, result(list, object{"id": id}))
	assert.Equal(t, -32001, do(get, object{"id": id}).code())
	sent := object{"url": "https://first.example.com", "token": "canary", "authentication": object{"schemes": []string{"Bearer"}, "credentials": "canary"}}
	result(set, object{"taskId": id, "pushNotificationConfig": sent})
	sent["url"] = h.url
	shown := object{"taskId": id, "pushNotificationConfig": object{"id": "default", "url": h.url, "authentication": object{"schemes": []any{"Bearer"}}}}
	assert.Equal(t, shown, result(set, object{"task_id": id, "push_notification_config": sent}), "without its secrets")
	assert.Equal(t, shown, result(get, object{"id": id}))
	assert.Equal(t, shown, result(get, object{"id": id, "pushNotificationConfigId": "default"}))
	named := result(set, object{"taskId": id, "pushNotificationConfig": object{"id": "n", "url": h.url}})
	assert.Equal(t, object{"taskId": id, "pushNotificationConfig": object{"id": "n", "url": h.url}}, named)
	assert.ElementsMatch(t, []any{shown, named}, result(list, object{"id": id}))
	for range 2 {
		assert.Nil(t, result(del, object{"id": id, "push_notification_config_id": "n"}))
	}
	assert.Equal(t, []any{shown}, result(list, object{"id": id}))
	told := h.until(t, func(p push) bool { return p.header.Get("Authorization") != "" || len(h.all()) > 1 })
	for _, p := range h.all() { // the one with an id is told too
		if p.header.Get("Authorization") != "" {
			told = p
		}
	}
	assert.Equal(t, "input-required", told.body["status"].(object)["state"], "that it waits is told at once")
	assert.Equal(t, "Bearer canary", told.header.Get("Authorization"))

	// 1.0: without an id it gets a new one.
	const create, get10, list10, del10 = "CreateTaskPushNotificationConfig", "GetTaskPushNotificationConfig", "ListTaskPushNotificationConfigs", "DeleteTaskPushNotificationConfig"
	one := result(create, object{"taskId": id, "url": h.url, "authentication": object{"scheme": "Bearer", "credentials": "canary"}, "tenant": "us"}).(object)
	assert.NotEmpty(t, one["id"])
	assert.Equal(t, object{"id": one["id"], "taskId": id, "url": h.url, "authentication": object{"scheme": "Bearer"}, "tenant": "us"}, one)
	delete(one, "tenant")
	assert.Equal(t, one, result(get10, object{"task_id": id, "id": one["id"]}))
	mine := result(create, object{"task_id": id, "id": "mine", "url": h.url, "token": "", "tenant": "", "authentication": nil}).(object)
	assert.Equal(t, object{"id": "mine", "taskId": id, "url": h.url}, mine)
	all := result(list10, object{"taskId": id, "pageSize": 1}).(object)
	assert.Empty(t, all["nextPageToken"])
	assert.Len(t, all["configs"], 3, "those of 0.3 among them")
	assert.Contains(t, all["configs"], object{"id": "default", "taskId": id, "url": h.url, "authentication": object{"scheme": "Bearer"}})
	for range 2 {
		assert.Equal(t, object{}, result(del10, object{"taskId": id, "id": "mine"}))
	}
	assert.Equal(t, -32001, do(get10, object{"taskId": id, "id": "mine"}).code())

	// What is wrong is told, and who has no part in the task finds nothing.
	for method, params := range map[string]object{
		set: {"taskId": id}, get: {}, list: {}, del: {"id": id}, create: {"taskId": id}, get10: {"taskId": id}, list10: {"id": id}, del10: {"taskId": id},
	} {
		assert.Equal(t, -32602, do(method, params).code(), method)
	}
	assert.Equal(t, -32602, do(create, object{"taskId": id, "url": h.url, "authentication": "Bearer"}).code())
	assert.Equal(t, -32602, do(create, object{"taskId": id, "url": "file:///etc/passwd"}).code())
	assert.Contains(t, do(create, object{"taskId": id, "url": "file:///etc/passwd"}).body, `"field":"url"`)
	for method, params := range map[string]object{
		set: {"taskId": id, "pushNotificationConfig": object{"url": h.url}}, get: {"id": id}, list: {"id": id}, del: {"id": id, "pushNotificationConfigId": "default"},
		create: {"taskId": id, "url": h.url}, get10: {"taskId": id, "id": "default"}, list10: {"taskId": id}, del10: {"taskId": id, "id": "default"},
	} {
		assert.Equal(t, -32001, r.call(door(a), method, params).code(), method)
		assert.Equal(t, -32001, r.call(door(other), method, params, key...).code(), "%s at another agent's door", method)
		for _, name := range []string{"taskId", "id"} {
			if params[name] == id {
				params[name] = "nobody"
			}
		}
		assert.Equal(t, -32001, do(method, params).code(), method)
	}
	assert.Equal(t, []any{shown, object{"taskId": id, "pushNotificationConfig": object{"id": one["id"], "url": h.url, "authentication": object{"schemes": []any{"Bearer"}}}}}, result(list, object{"id": id}), "nothing was changed")

	// Each is told in the form of the version that asked, to the end.
	do("message/send", says("0.3", "m2", "that", object{"taskId": id})).result()
	var old, now int
	require.Eventually(t, func() bool {
		old, now = 0, 0
		for _, p := range h.all() {
			if u, ok := p.body["statusUpdate"].(object); ok && u["status"].(object)["state"] == "TASK_STATE_COMPLETED" {
				now++
			} else if s, ok := p.body["status"].(object); ok && s["state"] == "completed" {
				old++
			}
		}
		return old == 1 && now == 1
	}, 10*time.Second, time.Millisecond)

	// A follow-up may say so too, and that a message comes again changes nothing.
	v = r.call(door(a), "SendMessage", says("1.0", "n", "x", nil), key...).result()["task"].(object)
	g := newHook(t)
	more := says("1.0", "n2", "that", object{"taskId": v["id"]})
	more["configuration"] = object{"task_push_notification_config": object{"url": g.url}}
	for range 2 {
		do("SendMessage", more).result()
	}
	g.until(t, func(p push) bool {
		u, ok := p.body["statusUpdate"].(object)
		return ok && u["status"].(object)["state"] == "TASK_STATE_COMPLETED"
	})
	assert.Len(t, result(list10, object{"taskId": v["id"]}).(object)["configs"], 1)
}

func TestWithoutANotifierThereIsNoPush(t *testing.T) {
	r := newRig(t)
	a := r.register(r.owner, 0, nil)
	card, _ := r.read(door(a) + "/.well-known/agent-card.json")
	assert.Equal(t, false, card["capabilities"].(object)["pushNotifications"])
	id := r.call(door(a), "message/send", says("0.3", "m", "x", nil)).result()["id"]
	for method, params := range map[string]object{
		"tasks/pushNotificationConfig/set": {"taskId": id, "pushNotificationConfig": object{"url": "https://example.com"}}, "tasks/pushNotificationConfig/get": {"id": id},
		"ListTaskPushNotificationConfigs": {"taskId": id}, "DeleteTaskPushNotificationConfig": {"taskId": id, "id": "x"},
		"SendMessage": {"message": says("1.0", "n", "x", nil)["message"], "configuration": object{"taskPushNotificationConfig": object{"url": "https://example.com"}}},
	} {
		assert.Equal(t, -32003, r.call(door(a), method, params).code(), method)
	}
}

func TestSealKeys(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	sec1, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	require.NoError(t, err)
	block := func(kind string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	fresh, err := a2agateway.NewCardKey()
	require.NoError(t, err)
	one, err := a2agateway.SealKeys(block("PRIVATE KEY", pkcs8))
	require.NoError(t, err)
	require.Len(t, one, 1)
	require.Len(t, one[0], 32)
	two, err := a2agateway.SealKeys(append(append(fresh, block("PUBLIC KEY", public)...), block("EC PRIVATE KEY", sec1)...))
	require.NoError(t, err)
	require.Len(t, two, 2)
	require.Equal(t, one[0], two[1], "however the key is written")
	require.NotEqual(t, two[0], two[1])
	_, err = a2agateway.SealKeys(block("PUBLIC KEY", public))
	require.Error(t, err)
}
