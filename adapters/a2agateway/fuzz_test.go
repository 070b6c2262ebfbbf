package a2agateway

import (
	"encoding/json"
	"testing"

	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/task"
)

// Whatever strangers send is refused with an error of JSON-RPC, or read; and what was read can be answered in every form.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"message/send","params":{"message":{"messageId":"1","role":"user","parts":[{"kind":"text","text":"x"},{"type":"data","data":[1]}]}}}`,
		`{"jsonrpc":"2.0","id":"a","method":"SendMessage","params":{"message":{"message_id":"1","role":"ROLE_USER","parts":[{"raw":"aGk=","filename":"f"},{"url":"http://x"},{"file":{"uri":"x"},"kind":"file"}],"metadata":{"agentId":1}}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tasks/pushNotificationConfig/set","params":{"taskId":"t","pushNotificationConfig":{"url":"http://x","token":"t","authentication":{"schemes":["Bearer"],"scheme":null,"credentials":"c"}}}}`,
		`[]`, `null`, `{"id":[]}`, `{"jsonrpc":"2.0","id":1,"method":"m","params":{"message":{"role":"user","parts":[null,{}]}}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		req, err := readRequest(body)
		if !json.Valid(req.id) {
			t.Fatalf("id %q", req.id)
		}
		if err != nil {
			if e, internal := errorOf(err); internal || e.Code == 0 {
				t.Fatal(err)
			}
			return
		}
		speaks := methods[req.method].speaks
		for _, s := range []form{v03, v10} {
			to, err := s.pushTo(req.params.get("pushNotificationConfig"))
			if err != nil {
				if _, internal := errorOf(err); internal {
					t.Fatal(err)
				}
				continue
			}
			if to.Whole != (s == v03) || forms[to.Dialect] != s {
				t.Fatal(to)
			}
		}
		m, err := message(req.params.get("message"), &speaks)
		if err != nil {
			if _, internal := errorOf(err); internal {
				t.Fatal(err)
			}
			return
		}
		if task.CheckSaid("message", m.parts, nil) != nil {
			return
		}
		v := app.TaskView{Messages: []task.Message{{ID: m.id, Role: task.RoleUser, Parts: m.parts}}, Artifacts: []task.Artifact{{ID: "a", Parts: m.parts}}}
		for _, s := range []form{v03, typed, v10} {
			if _, err := encode(s.wrapped(s.task(v, nil))); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Whatever is posted as a notification, it is taken or refused, and what is taken is one JSON object.
func FuzzNotification(f *testing.F) {
	for _, s := range []string{
		`{"kind":"task","id":"r","status":{"state":"completed"}}`, `{"task":{"id":"r"}}`, `{"statusUpdate":{"taskId":"r"}}`, `{"id":"","status":{}}`, `{"task":{},"TASK":{}}`, `[]`, `null`, `{"message": {}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var v map[string]any
		if isNotification(body) && (json.Unmarshal(body, &v) != nil || len(v) == 0) {
			t.Fatalf("%q", body)
		}
	})
}
