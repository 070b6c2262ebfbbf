package echo_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/examples/echo"
)

type answer struct {
	JSONRPC string
	ID      json.RawMessage
	Result  *struct {
		Kind, ID, ContextID string
		Status              struct {
			State     string
			Timestamp time.Time
		}
		Artifacts []struct {
			ArtifactID, Name string
			Parts            []json.RawMessage
		}
	}
	Error *struct {
		Code    int
		Message string
	}
}

func serve(t *testing.T) string {
	t.Helper()
	srv := httptest.NewServer(echo.Handler("http://echo.example"))
	t.Cleanup(srv.Close)
	return srv.URL
}

func post(t *testing.T, url, body string) (int, answer) {
	t.Helper()
	resp, err := http.Post(url, "application/json", strings.NewReader(body))
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
	var a answer
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&a))
	require.Equal(t, "2.0", a.JSONRPC)
	require.NotEqual(t, a.Result == nil, a.Error == nil, "a result or an error, never both")
	return resp.StatusCode, a
}

func TestCard(t *testing.T) {
	t.Parallel()
	url := serve(t)
	for _, path := range []string{"/.well-known/agent-card.json", "/.well-known/agent.json"} {
		resp, err := http.Get(url + path)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, resp.Body.Close())
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
		require.JSONEq(t, `{
			"protocolVersion": "0.3.0", "name": "Echo", "version": "1.0.0",
			"description": "Answers with what it is given.",
			"url": "http://echo.example", "preferredTransport": "JSONRPC",
			"supportedInterfaces": [{"url": "http://echo.example", "protocolBinding": "JSONRPC", "protocolVersion": "0.3"}, {"url": "http://echo.example", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}],
			"capabilities": {"streaming": false, "pushNotifications": false},
			"defaultInputModes": ["text/plain", "application/json"],
			"defaultOutputModes": ["text/plain", "application/json"],
			"skills": [{"id": "echo", "name": "Echo", "description": "Gives back what it gets.", "tags": ["demo", "text"]}]
		}`, string(body))
	}
}

func TestSend(t *testing.T) {
	t.Parallel()
	status, a := post(t, serve(t), `{"jsonrpc":"2.0","id":"call-1","method":"message/send","params":{"message":{
		"kind":"message","role":"user","messageId":"m1","contextId":"c1","parts":[
			{"kind":"text","text":"<hello>","metadata":{"lang":"en"}},
			{"kind":"data","data":{"n":12345678901234567890}}]}}}`)
	require.Equal(t, http.StatusOK, status)
	require.Nil(t, a.Error)
	require.JSONEq(t, `"call-1"`, string(a.ID))
	require.Equal(t, "task", a.Result.Kind)
	require.NotEmpty(t, a.Result.ID)
	require.Equal(t, "c1", a.Result.ContextID)
	require.Equal(t, "completed", a.Result.Status.State)
	require.WithinDuration(t, time.Now(), a.Result.Status.Timestamp, time.Minute)
	require.Len(t, a.Result.Artifacts, 1)
	require.Equal(t, "echo", a.Result.Artifacts[0].Name)
	require.NotEmpty(t, a.Result.Artifacts[0].ArtifactID)
	require.Len(t, a.Result.Artifacts[0].Parts, 2)
	require.JSONEq(t, `{"kind":"text","text":"<hello>","metadata":{"lang":"en"}}`, string(a.Result.Artifacts[0].Parts[0]))
	require.Contains(t, string(a.Result.Artifacts[0].Parts[1]), "12345678901234567890", "numbers come back digit by digit")
}

// A caller of 1.0 is answered in 1.0, and parts that are {type, data} come back so.
func TestSendInOtherDialects(t *testing.T) {
	t.Parallel()
	url := serve(t)
	raw := func(body string) string {
		res, err := http.Post(url, "application/json", strings.NewReader(body))
		require.NoError(t, err)
		defer func() { _ = res.Body.Close() }()
		b, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return string(b)
	}
	const parts = `[{"text":"x"},{"data":null},{"raw":"aGk=","filename":"f"},{"url":"http://x"}]`
	var v10 struct {
		Result struct {
			Task struct {
				Kind      string
				Status    struct{ State string }
				Artifacts []struct{ Parts json.RawMessage }
			}
		}
	}
	require.NoError(t, json.Unmarshal([]byte(raw(`{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":{"messageId":"m","role":"ROLE_USER","parts":`+parts+`}}}`)), &v10))
	require.Empty(t, v10.Result.Task.Kind)
	require.Equal(t, "TASK_STATE_COMPLETED", v10.Result.Task.Status.State)
	require.JSONEq(t, parts, string(v10.Result.Task.Artifacts[0].Parts))
	_, a := post(t, url, `{"jsonrpc":"2.0","id":1,"method":"message/send","params":{"message":{"messageId":"m","parts":[{"type":"text","data":"x"}]}}}`)
	require.JSONEq(t, `{"type":"text","data":"x"}`, string(a.Result.Artifacts[0].Parts[0]))
	require.Contains(t, raw(`{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":{"messageId":"m","parts":[{"kind":"text"}]}}}`), "-32602")
}

func TestSameMessageSameTask(t *testing.T) {
	t.Parallel()
	url := serve(t)
	send := func(messageID string) (id, contextID string) {
		_, a := post(t, url, `{"jsonrpc":"2.0","id":1,"method":"message/send","params":{"message":{"messageId":"`+messageID+`","parts":[{"kind":"text","text":"x"}]}}}`)
		require.Nil(t, a.Error)
		return a.Result.ID, a.Result.ContextID
	}
	id, contextID := send("m1")
	again, contextAgain := send("m1")
	require.Equal(t, id, again)
	require.Equal(t, contextID, contextAgain)
	require.NotEmpty(t, contextID)
	other, _ := send("m2")
	require.NotEqual(t, id, other)
}

func TestErrors(t *testing.T) {
	t.Parallel()
	url := serve(t)
	send := func(params string) string {
		return `{"jsonrpc":"2.0","id":7,"method":"message/send","params":` + params + `}`
	}
	for name, c := range map[string]struct {
		body string
		code int
		id   string
	}{
		"no JSON":          {`{"jsonrpc":`, -32700, `null`},
		"empty":            {``, -32700, `null`},
		"trailing":         {send(`{}`) + `x`, -32700, `null`},
		"batch":            {`[` + send(`{}`) + `]`, -32600, `null`},
		"no object":        {`"hello"`, -32600, `null`},
		"no id":            {`{"jsonrpc":"2.0","method":"message/send"}`, -32600, `null`},
		"object as id":     {`{"jsonrpc":"2.0","id":{},"method":"message/send"}`, -32600, ``},
		"wrong version":    {`{"jsonrpc":"1.0","id":7,"method":"message/send"}`, -32600, `7`},
		"no method":        {`{"jsonrpc":"2.0","id":7}`, -32600, `7`},
		"number as method": {`{"jsonrpc":"2.0","id":7,"method":8}`, -32600, `7`},
		"unknown method":   {`{"jsonrpc":"2.0","id":"7","method":"tasks/get","params":{"id":"t"}}`, -32601, `"7"`},
		"no params":        {`{"jsonrpc":"2.0","id":7,"method":"message/send"}`, -32602, `7`},
		"wrong type":       {send(`{"message":"hello"}`), -32602, `7`},
		"no message":       {send(`{}`), -32602, `7`},
		"no message id":    {send(`{"message":{"parts":[{"kind":"text","text":"x"}]}}`), -32602, `7`},
		"no parts":         {send(`{"message":{"messageId":"m","parts":[]}}`), -32602, `7`},
		"part without kind": {
			send(`{"message":{"messageId":"m","parts":[{"text":"x"}]}}`), -32602, `7`,
		},
		"null part":    {send(`{"message":{"messageId":"m","parts":[null]}}`), -32602, `7`},
		"unknown task": {send(`{"message":{"messageId":"m","taskId":"t","parts":[{"kind":"text","text":"x"}]}}`), -32001, `7`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, a := post(t, url, c.body)
			require.Equal(t, http.StatusOK, status)
			require.NotNil(t, a.Error)
			require.Equal(t, c.code, a.Error.Code, a.Error.Message)
			require.NotEmpty(t, a.Error.Message)
			if c.id == "" {
				c.id = "null"
			}
			require.Equal(t, c.id, string(a.ID))
		})
	}
}

func TestBodyLimit(t *testing.T) {
	t.Parallel()
	url := serve(t)
	body := func(size int) string {
		head, tail := `{"jsonrpc":"2.0","id":1,"method":"message/send","params":{"message":{"messageId":"m","parts":[{"kind":"text","text":"`, `"}]}}}`
		return head + strings.Repeat("x", size-len(head)-len(tail)) + tail
	}
	status, a := post(t, url, body(1<<20))
	require.Equal(t, http.StatusOK, status)
	require.Nil(t, a.Error)
	status, a = post(t, url, body(1<<20+1))
	require.Equal(t, http.StatusRequestEntityTooLarge, status)
	require.Equal(t, -32600, a.Error.Code)
}

func TestOtherRoutes(t *testing.T) {
	t.Parallel()
	url := serve(t)
	for path, want := range map[string]int{"/": http.StatusMethodNotAllowed, "/nowhere": http.StatusNotFound} {
		resp, err := http.Get(url + path)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, want, resp.StatusCode, path)
	}
}
