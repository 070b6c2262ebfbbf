package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// script puts one of the scripts, as it is now and not as the cache has it, among the packages that it needs.
func script(t *testing.T, name string) string {
	t.Helper()
	dir, err := sdks()
	require.NoError(t, err, "the test needs Node 20 or later with npm, and npm's registry")
	text, err := os.ReadFile(filepath.Join(interopDir, name))
	require.NoError(t, err)
	file, err := os.CreateTemp(dir, "*-"+name)
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.Remove(file.Name()) })
	_, err = file.Write(text)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	return file.Name()
}

// nodeAgent runs an agent of a script until the test ends, and returns where it is.
func nodeAgent(t *testing.T, name string) string {
	t.Helper()
	addr := freeAddr(t)
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	cmd := exec.Command("node", script(t, name))
	cmd.Env = append(os.Environ(), "PORT="+port)
	var wrong syncBuffer
	cmd.Stderr = &wrong
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("the agent said:\n%s", wrong.String())
		}
	})
	lines := bufio.NewScanner(out)
	require.True(t, lines.Scan(), wrong.String())
	require.Equal(t, "ready", lines.Text())
	return "http://" + addr
}

type partJSON struct {
	Type string          `json:"type"`
	Data json.RawMessage `json:"data"`
}

type talkJSON struct {
	taskJSON

	Output        json.RawMessage
	InputRequired bool
	Messages      []struct {
		Role  string
		Parts []partJSON
	}
	Artifacts []struct {
		Name  string
		Parts []partJSON
	}
}

func (v talkJSON) said() (out []string) {
	for _, m := range v.Messages {
		if m.Role == "agent" {
			for _, p := range m.Parts {
				out = append(out, string(p.Data))
			}
		}
	}
	return out
}

// The engine calls agents built with both generations of the official JavaScript SDK, over JSON-RPC and HTTP+JSON: they
// answer, are listened to, ask back, fail, are cancelled, and call back.
func TestAgentsOfTheJavaScriptSDKs(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.more = []string{"NEXUS_PUBLIC_URL=" + s.url()}
	s.start()
	owner := s.signUp("a@example.com")
	for _, name := range []string{"agent10.mjs", "agent03.mjs"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := nodeAgent(t, name)
			post := func(path string) {
				t.Helper()
				res, err := http.Post(host+path, "application/json", nil)
				require.NoError(t, err)
				require.NoError(t, res.Body.Close())
			}
			ask := func(c *client, agentID, words string) string {
				t.Helper()
				var out taskJSON
				_, err := c.call("POST", "/api/v1/tasks", map[string]any{"assignedAgentId": agentID, "title": "x", "description": words, "input": map[string]any{"n": 1}, "timeoutSeconds": 50}, &out)
				require.NoError(t, err)
				return out.ID
			}
			get := func(c *client, id string) (out talkJSON) {
				t.Helper()
				_, err := c.call("GET", "/api/v1/tasks/"+id, nil, &out)
				require.NoError(t, err)
				return out
			}
			until := func(c *client, id, what string, ok func(talkJSON) bool) talkJSON {
				t.Helper()
				var v talkJSON
				require.Eventually(t, func() bool { v = get(c, id); return ok(v) }, 15*time.Second, 2*time.Millisecond, what)
				return v
			}
			ended := func(v talkJSON) bool {
				return v.Status == "completed" || v.Status == "failed" || v.Status == "cancelled"
			}

			for _, path := range []string{"/rpc", "/rest"} {
				agentID := s.register(owner, host+path, 0)
				c := *owner
				echoed := ask(&c, agentID, "echo")
				fails := ask(&c, agentID, "message")
				asks := ask(&c, agentID, "ask")
				holds := ask(&c, agentID, "hold")
				wanted := ask(&c, agentID, "hold")

				v := until(&c, echoed, "an answer", ended)
				require.Equal(t, "completed", v.Status, "%+v", v.Error)
				require.JSONEq(t, `{"n":1}`, string(v.Output))
				require.Equal(t, "echo", v.Artifacts[0].Name)
				v = until(&c, fails, "a failure", ended)
				require.Equal(t, "failed", v.Status)
				require.Equal(t, []string{`"as it was told to"`}, v.said())
				require.Contains(t, v.Error.Message, "as it was told to")

				// Live: what is said and made is seen while the agent holds.
				v = until(&c, holds, "words of an agent at work", func(v talkJSON) bool { return len(v.said()) == 1 && len(v.Artifacts) == 1 })
				require.Equal(t, "running", v.Status)
				require.Equal(t, []string{`"on it"`}, v.said())
				require.Equal(t, []partJSON{{"text", json.RawMessage(`"one "`)}, {"text", json.RawMessage(`"two"`)}}, v.Artifacts[0].Parts)

				until(&c, wanted, "that it works", func(v talkJSON) bool { return len(v.Artifacts) == 1 })
				_, err := c.call("POST", "/api/v1/tasks/"+wanted+"/cancel", nil, nil)
				require.NoError(t, err)

				v = until(&c, asks, "a question", func(v talkJSON) bool { return v.InputRequired })
				require.Equal(t, []string{`"which one?"`}, v.said())
				_, err = c.call("POST", "/api/v1/tasks/"+asks+"/reply", map[string]any{"message": map[string]any{"role": "user", "parts": []partJSON{{"text", json.RawMessage(`"that one"`)}}}}, nil)
				require.NoError(t, err)
				v = until(&c, asks, "an answer to the reply", ended)
				require.Equal(t, "completed", v.Status, "%+v", v.Error)
				require.JSONEq(t, `{"text":"you said that one"}`, string(v.Output), path)
			}
			seen := func() (out struct{ Cancelled, Held int }) {
				res, err := http.Get(host + "/seen")
				require.NoError(t, err)
				defer func() { _ = res.Body.Close() }()
				require.NoError(t, json.NewDecoder(res.Body).Decode(&out))
				return out
			}
			require.Eventually(t, func() bool { return seen().Cancelled == 2 }, 10*time.Second, 5*time.Millisecond, "the agent is told of the cancels")

			// It calls back when it has been given the task, and when that moves on.
			calling := s.register(owner, host+"/push", 0)
			held := seen().Held
			called := ask(owner, calling, "hold")
			require.Eventually(t, func() bool { return seen().Held == held+1 }, 10*time.Second, 5*time.Millisecond)
			calls := s.look(t).Read().CallBacks
			require.Eventually(t, func() bool {
				n, err := calls.Count(t.Context(), called)
				require.NoError(t, err)
				return n > 0
			}, 10*time.Second, 5*time.Millisecond, "its calls are taken")
			post("/release")
			v := until(owner, called, "its end", ended)
			require.Equal(t, "completed", v.Status, "%+v", v.Error)
			require.Contains(t, v.said(), `"there"`)

			files(t, s, owner, host, name)
		})
	}
}

// files checks that what a client sends to the gateway reaches the agent and comes back.
func files(t *testing.T, s *server, owner *client, host, name string) {
	t.Helper()
	for _, path := range []string{"/rpc", "/rest"} {
		agentID := s.register(owner, host+path, 0)
		file := base64.StdEncoding.EncodeToString([]byte{0, 1, 0xff})
		sent := `[{"kind":"text","text":"echo","metadata":{"k":[1]}},{"kind":"data","data":{"n":1.5,"list":[null,{"é":"\u2028"}]}},` +
			`{"kind":"file","file":{"name":"a.bin","mimeType":"application/octet-stream","bytes":"` + file + `"}},{"kind":"file","file":{"name":"b","mimeType":"text/plain","uri":"https://files.example/b?c=d"}}]`
		if name == "agent03.mjs" && path == "/rest" { // the SDK loses these
			sent = strings.NewReplacer(`,"metadata":{"k":[1]}`, "", `"name":"a.bin",`, "", `"name":"b",`, "").Replace(sent)
		}
		body := `{"jsonrpc":"2.0","id":1,"method":"message/send","params":{"message":{"messageId":"` + name + path + `","role":"user","parts":` + sent + `}}}`
		res, err := http.Post(s.url()+"/api/v1/a2a/agents/"+agentID, "application/json", bytes.NewReader([]byte(body)))
		require.NoError(t, err)
		var out struct {
			Result struct {
				Artifacts []struct{ Parts json.RawMessage }
			}
			Error json.RawMessage
		}
		require.NoError(t, json.NewDecoder(res.Body).Decode(&out))
		require.NoError(t, res.Body.Close())
		require.Empty(t, out.Error)
		require.Len(t, out.Result.Artifacts, 1, path)
		require.JSONEq(t, sent, string(out.Result.Artifacts[0].Parts), path)
	}
}
