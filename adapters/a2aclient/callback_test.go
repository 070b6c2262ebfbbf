package a2aclient_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/ports"
)

// An agent that says that it can call back is told where, in the words of its version; one that is listened to is not.
func TestWhereToCallBack(t *testing.T) {
	const rest03, rest10 = `{"protocolVersion":"0.3.0","preferredTransport":"HTTP+JSON","url":"%s","capabilities":%s}`, `{"supportedInterfaces":[{"url":"%s","protocolBinding":"HTTP+JSON","protocolVersion":"1.0"}],"capabilities":%s}`
	const rpc03, rpc10 = `{"protocolVersion":"0.3.0","url":"%s","capabilities":%s}`, `{"supportedInterfaces":[{"url":"%s","protocolBinding":"JSONRPC","protocolVersion":"1.0"}],"capabilities":%s}`
	const can = `{"pushNotifications":true}`
	old := `{"id":"t1","url":"http://engine.example/t1","token":"secret","authentication":{"schemes":["Bearer"],"credentials":"secret"}}`
	new := `{"id":"t1","url":"http://engine.example/t1","token":"secret","authentication":{"scheme":"Bearer","credentials":"secret"}}`
	for name, c := range map[string]struct {
		card, can  string
		hears      bool
		key, value string // "" for none
	}{
		"0.3 JSON-RPC":      {card: rpc03, can: can, key: "pushNotificationConfig", value: old},
		"1.0 JSON-RPC":      {card: rpc10, can: can, key: "taskPushNotificationConfig", value: new},
		"0.3 HTTP+JSON":     {card: rest03, can: can, key: "pushNotification", value: old},
		"1.0 HTTP+JSON":     {card: rest10, can: can, key: "taskPushNotificationConfig", value: new},
		"type data":         {card: rpc03, can: `{"pushNotifications":true,"extensions":[{"uri":"urn:nexus-protocol:parts:type-data"}]}`, key: "pushNotificationConfig", value: old},
		"it cannot":         {card: rpc10, can: `{}`},
		"it is listened to": {card: rpc10, can: `{"pushNotifications":true,"streaming":true}`, hears: true},
		"nobody listens":    {card: rpc10, can: `{"pushNotifications":true,"streaming":true}`, key: "taskPushNotificationConfig", value: new},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sent := make(chan []byte, 1)
			at := serve(t, func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				sent <- b
				w.WriteHeader(http.StatusForbidden)
			})
			in := call(at)
			in.Card, in.CallBack = json.RawMessage(fmt.Sprintf(c.card, at, c.can)), &ports.CallBack{URL: "http://engine.example/t1", Token: "secret"}
			if c.hears {
				in.Hear = func(context.Context, ports.Answer) error { return nil }
			}
			_, err := newClient().Send(t.Context(), in)
			require.Error(t, err)
			type params struct{ Configuration map[string]json.RawMessage }
			var got struct {
				params

				Params params
			}
			require.NoError(t, json.Unmarshal(<-sent, &got))
			conf := got.Configuration
			if conf == nil {
				conf = got.Params.Configuration
			}
			require.NotEmpty(t, conf)
			for _, key := range []string{"pushNotificationConfig", "pushNotification", "taskPushNotificationConfig"} {
				if key == c.key {
					require.JSONEq(t, c.value, string(conf[key]))
				} else {
					require.NotContains(t, conf, key)
				}
			}
		})
	}
}

// An agent that does not take it gets its message all the same, and is not asked again soon; one that refuses the message
// itself is not taken to refuse that.
func TestAnAgentThatDoesNotCallBackAfterAll(t *testing.T) {
	for name, refusal := range map[string]string{
		"not supported":       `{"code":-32003,"message":"Push Notification is not supported"}`,
		"its address is evil": `{"code":-32602,"message":"pushNotificationConfig.url"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			with, without, broken := 0, 0, false
			at := serve(t, func(w http.ResponseWriter, r *http.Request) {
				var in struct {
					Params struct{ Configuration map[string]any }
				}
				_ = json.NewDecoder(r.Body).Decode(&in)
				mu.Lock()
				defer mu.Unlock()
				w.Header().Set("Content-Type", "application/json")
				if in.Params.Configuration["pushNotificationConfig"] != nil {
					with++
					_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":"t1","error":%s}`, refusal)
					return
				}
				without++
				if broken {
					_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":"t1","error":{"code":-32602,"message":"no such words"}}`)
					return
				}
				_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":"t1","result":{"kind":"task","id":"r","contextId":"c","status":{"state":"working"}}}`)
			})
			in := call(at)
			in.Card, in.CallBack = json.RawMessage(`{"protocolVersion":"0.3.0","url":"`+at+`","capabilities":{"pushNotifications":true}}`), &ports.CallBack{URL: "http://x", Token: "y"}
			c := newClient()
			for range 40 {
				a, err := c.Send(t.Context(), in)
				require.NoError(t, err)
				require.Equal(t, ports.AnswerWorking, a.State)
			}
			require.Equal(t, [2]int{1, 40}, [2]int{with, without})
			c, broken = newClient(), true
			_, err := c.Send(t.Context(), in)
			require.ErrorContains(t, err, "no such words")
			mu.Lock()
			broken = false
			mu.Unlock()
			before := with
			_, err = c.Send(t.Context(), in)
			require.NoError(t, err)
			require.Equal(t, before+1, with, "it was the message")
		})
	}
}
