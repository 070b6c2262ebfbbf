package worker_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/examples/worker"
)

func post(t *testing.T, url, method, params string) *http.Response {
	t.Helper()
	res, err := http.Post(url, "application/json", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"`+method+`","params":`+params+`}`))
	require.NoError(t, err)
	t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

func call(t *testing.T, url, method, params string) (result map[string]any, code float64) {
	t.Helper()
	var out struct {
		Result map[string]any
		Error  struct{ Code float64 }
	}
	require.NoError(t, json.NewDecoder(post(t, url, method, params).Body).Decode(&out))
	return out.Result, out.Error.Code
}

func order(id, data, more string) string {
	return `{"message":{"messageId":"` + id + `","role":"user","parts":[{"kind":"text","text":"go"},{"kind":"data","data":` + data + `}]}` + more + `}`
}

func state(result map[string]any) any { return result["status"].(map[string]any)["state"] }

func TestWorker(t *testing.T) {
	agent := worker.New()
	server := httptest.NewServer(agent.Handler("http://a.example.com"))
	t.Cleanup(server.Close)
	t.Run("works and reports", func(t *testing.T) {
		got, _ := call(t, server.URL, "message/send", order("m1", `{"steps":3,"delayMs":1}`, ""))
		require.Equal(t, "completed", state(got))
		again, _ := call(t, server.URL, "message/send", order("m1", `{"steps":3,"delayMs":1}`, ""))
		require.Equal(t, got["id"], again["id"])
		require.Equal(t, 1, agent.Started(), "a repeated message begins nothing")
	})
	t.Run("fails when told to", func(t *testing.T) {
		got, _ := call(t, server.URL, "message/send", order("m2", `{"steps":1,"delayMs":1,"mode":"fail"}`, ""))
		require.Equal(t, "failed", state(got))
	})
	t.Run("stalls until cancelled", func(t *testing.T) {
		got, _ := call(t, server.URL, "message/send", order("m3", `{"mode":"stall"}`, `,"configuration":{"blocking":false}`))
		require.Equal(t, "working", state(got))
		got, _ = call(t, server.URL, "tasks/cancel", `{"id":"`+got["id"].(string)+`"}`)
		require.Equal(t, "canceled", state(got))
	})
	t.Run("is asked how it is getting on", func(t *testing.T) {
		got, _ := call(t, server.URL, "message/send", order("m4", `{"steps":2,"delayMs":5}`, `,"configuration":{"blocking":false}`))
		require.Eventually(t, func() bool {
			now, _ := call(t, server.URL, "tasks/get", `{"id":"`+got["id"].(string)+`"}`)
			return state(now) == "completed"
		}, 5*time.Second, 5*time.Millisecond)
	})
	t.Run("streams", func(t *testing.T) {
		body, err := io.ReadAll(post(t, server.URL, "message/stream", order("m5", `{"steps":2,"delayMs":5}`, "")).Body)
		require.NoError(t, err)
		first := bytes.Index(body, []byte("step 1 of 2"))
		report := bytes.Index(body, []byte("artifact-update"))
		last := bytes.Index(body, []byte(`"final":true`))
		require.True(t, 0 < first && first < report && report < last, "%s", body)
	})
	t.Run("refuses", func(t *testing.T) {
		for params, want := range map[string]float64{
			`{}`:                                -32602,
			order("x", `{"steps":51}`, ""):      -32602,
			order("x", `{"mode":"dance"}`, ""):  -32602,
			order("x", `{"delayMs":99999}`, ""): -32602,
		} {
			_, code := call(t, server.URL, "message/send", params)
			require.Equal(t, want, code, params)
		}
		_, code := call(t, server.URL, "tasks/get", `{"id":"none"}`)
		require.Equal(t, -32001.0, code)
		_, code = call(t, server.URL, "dance", `{}`)
		require.Equal(t, -32601.0, code)
	})
	t.Run("has a card", func(t *testing.T) {
		res, err := http.Get(server.URL + "/.well-known/agent-card.json")
		require.NoError(t, err)
		defer func() { _ = res.Body.Close() }()
		var card struct{ URL string }
		require.NoError(t, json.NewDecoder(res.Body).Decode(&card))
		require.Equal(t, "http://a.example.com/", card.URL)
	})
}
