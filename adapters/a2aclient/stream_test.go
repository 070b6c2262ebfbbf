package a2aclient_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/a2aclient"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

const streaming = `{"protocolVersion":"0.3.0","url":"","capabilities":{"streaming":true}}`

// scripted is a transport to an agent of which each method has its answer; it keeps what it is asked.
type scripted struct {
	asked   []string
	answers map[string]func() *http.Response
}

func (s *scripted) RoundTrip(r *http.Request) (*http.Response, error) {
	var m struct{ Method string }
	if r.Body != nil {
		_ = json.NewDecoder(r.Body).Decode(&m) // there may be none
	}
	if m.Method == "" {
		m.Method = r.Method + " " + r.URL.Path
	}
	s.asked = append(s.asked, m.Method)
	if answer := s.answers[m.Method]; answer != nil {
		res := answer()
		res.Request = r
		return res, nil
	}
	return &http.Response{StatusCode: http.StatusNotFound, Status: "404", Body: http.NoBody, Header: http.Header{}, Request: r}, nil
}

func answers(kind, body string) func() *http.Response {
	return func() *http.Response {
		return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {kind}}, Body: io.NopCloser(strings.NewReader(body))}
	}
}

// sse is a stream of events of JSON-RPC, without the agent's having ended anything.
func sse(results ...string) func() *http.Response {
	var b strings.Builder
	for _, r := range results {
		fmt.Fprintf(&b, "data: {\"jsonrpc\":\"2.0\",\"id\":\"t1\",\"result\":%s}\n\n", r)
	}
	return answers("text/event-stream; charset=utf-8", b.String())
}

func rpc(result string) func() *http.Response {
	return answers("application/json", `{"jsonrpc":"2.0","id":"t1","result":`+result+`}`)
}

func refuses(code int) func() *http.Response {
	return answers("application/json", fmt.Sprintf(`{"jsonrpc":"2.0","id":"t1","error":{"code":%d,"message":"no"}}`, code))
}

// listen is a call that keeps what it hears.
func listen(s *scripted) (c *a2aclient.Client, in ports.Call, heard *[]string) {
	in = call("http://agent.example")
	in.Card = json.RawMessage(streaming)
	heard = new([]string)
	in.Hear = func(_ context.Context, a ports.Answer) error {
		said := "task " + a.RemoteTaskID
		for _, m := range a.Messages {
			said += ", message " + m.ID
		}
		for _, f := range a.Artifacts {
			said += ", artifact " + f.ID
			for _, p := range f.Parts {
				said += " " + string(p.Data)
			}
		}
		*heard = append(*heard, said)
		return nil
	}
	return a2aclient.New(s, nil), in, heard
}

const (
	submitted = `{"kind":"task","id":"r","contextId":"c","status":{"state":"submitted"}}`
	completed = `{"kind":"status-update","taskId":"r","contextId":"c","status":{"state":"completed"},"final":true}`
)

func says03(id string) string {
	return `{"kind":"status-update","taskId":"r","status":{"state":"working","message":{"messageId":"` + id + `","role":"agent","parts":[{"kind":"text","text":"x"}]}},"final":false}`
}

func chunk(id, text string, more, last bool) string {
	return fmt.Sprintf(`{"kind":"artifact-update","taskId":"r","artifact":{"artifactId":%q,"parts":[{"kind":"text","text":%q}]},"append":%t,"lastChunk":%t}`, id, text, more, last)
}

func TestChunksAreJoinedAndRepeatsDropped(t *testing.T) {
	c, in, heard := listen(&scripted{answers: map[string]func() *http.Response{"message/stream": sse(submitted, says03("a"), chunk("f", "1", false, false), says03("a"), chunk("g", "x", false, false),
		chunk("f", "2", true, true), says03("b"), chunk("g", "y", true, false), completed, says03("late"))}})
	a, err := c.Send(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, []string{"task r", "task r, message a", `task r, artifact f "1" "2"`, "task r, message b"}, *heard)
	require.Equal(t, ports.AnswerDone, a.State)
	require.Len(t, a.Messages, 2)
	require.Equal(t, []task.Artifact{
		{ID: "f", Parts: []task.Part{task.TextPart("1"), task.TextPart("2")}}, {ID: "g", Parts: []task.Part{task.TextPart("x"), task.TextPart("y")}},
	}, a.Artifacts, "what is never called the last chunk is whole in the end")
}

func TestABrokenStreamIsTakenUpAgainAndThenPolled(t *testing.T) {
	s := &scripted{answers: map[string]func() *http.Response{"message/stream": sse(submitted, says03("a"))}}
	c, in, heard := listen(s)
	a, err := c.Send(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, ports.Answer{State: ports.AnswerWorking, RemoteTaskID: "r", ContextID: "c"}, a)

	in.RemoteTaskID = "r"
	s.answers["tasks/get"] = rpc(`{"kind":"task","id":"r","status":{"state":"working"},"history":[{"messageId":"a","role":"agent","parts":[]},{"messageId":"missed","role":"agent","parts":[]}]}`)
	s.answers["tasks/resubscribe"] = func() *http.Response {
		s.answers["tasks/get"] = rpc(`{"kind":"task","id":"r","status":{"state":"completed"},"history":[{"messageId":"a","role":"agent","parts":[]},{"messageId":"missed","role":"agent","parts":[]}],"artifacts":[{"artifactId":"gone by","parts":[]}]}`)
		return sse(completed)()
	}
	a, err = c.Follow(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, ports.AnswerDone, a.State)
	require.Equal(t, "gone by", a.Artifacts[0].ID, "what went by between question and stream is told in the end")
	require.Equal(t, "task r, message a, message missed", (*heard)[len(*heard)-1])

	s.answers["tasks/get"], s.answers["tasks/resubscribe"] = rpc(`{"kind":"task","id":"r","status":{"state":"working"}}`), refuses(-32004)
	for range 3 {
		a, err = c.Follow(t.Context(), in)
		require.NoError(t, err)
		require.Equal(t, ports.AnswerWorking, a.State)
	}
	require.Equal(t, []string{"message/stream", "tasks/get", "tasks/resubscribe", "tasks/get", "tasks/get", "tasks/resubscribe", "tasks/get", "tasks/get"}, s.asked, "what was refused is not asked for each time")
}

func TestAStreamThatSaysNothingUsefulFailsTheCall(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for name, c := range map[string]struct {
		stream    func() *http.Response
		code, say string
		retry     bool
	}{
		"nothing at all":          {sse(), task.ErrUnreachable, "broke its answer off", true},
		"only comments":           {answers("text/event-stream", ": hi\n\n: hi\n\n"), task.ErrUnreachable, "broke its answer off", true},
		"half an event":           {answers("text/event-stream", `data: {"jsonrpc":"2.0"`), task.ErrUnreachable, "broke its answer off", true},
		"no JSON":                 {answers("text/event-stream", "data: hi\n\n"), task.ErrProtocol, "not JSON-RPC", false},
		"another's answer":        {answers("text/event-stream", `data: {"jsonrpc":"2.0","id":"t2","result":{"parts":[]}}`+"\n\n"), task.ErrProtocol, "another request", false},
		"another's task":          {sse(submitted, strings.ReplaceAll(says03("a"), `"r"`, `"s"`)), task.ErrProtocol, "another task", false},
		"an update without task":  {sse(strings.ReplaceAll(says03("a"), `"r"`, `""`)), task.ErrProtocol, "no id", false},
		"an event without end":    {answers("text/event-stream", "data: "+long+long), task.ErrProtocol, "over 8 MiB", false},
		"an event of many lines":  {answers("text/event-stream", strings.Repeat("data: "+long[:1<<19]+"\n", 4)), task.ErrProtocol, "over 8 MiB", false},
		"comments without end":    {answers("text/event-stream", strings.Repeat(":\n", 60_000)), task.ErrProtocol, "50000 lines", false},
		"a stream without end":    {answers("text/event-stream", strings.Repeat(": "+long[:1<<18]+"\n", 40)), task.ErrProtocol, "over 8 MiB", false},
		"more than an answer has": {sse(submitted, chunk("f", long[:600_000], false, false), chunk("f", long[:600_000], true, false)), task.ErrProtocol, "over 1 MiB", false},
		"an error":                {answers("text/event-stream", `data: {"jsonrpc":"2.0","id":"t1","error":{"code":-32603,"message":"oops"}}`+"\n\n"), task.ErrAgent, "oops", false},
		"an error after a while":  {answers("text/event-stream", "data: {\"jsonrpc\":\"2.0\",\"id\":\"t1\",\"result\":"+submitted+"}\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":\"t1\",\"error\":{\"code\":-32004,\"message\":\"oops\"}}\n\n"), task.ErrAgent, "oops", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := &scripted{answers: map[string]func() *http.Response{"message/stream": c.stream}}
			client, in, _ := listen(s)
			_, err := client.Send(t.Context(), in)
			var failed *ports.CallError
			require.ErrorAs(t, err, &failed)
			require.Equal(t, c.code, failed.Code, failed.Message)
			require.Contains(t, failed.Message, c.say)
			require.Equal(t, c.retry, failed.Retryable)
			require.Equal(t, []string{"message/stream"}, s.asked, "the message was taken; it is not sent in another way")
		})
	}
}

func TestEveryFormOfServerSentEventsIsRead(t *testing.T) {
	body := "\ufeff: hello\r\rid: 1\r\nevent: message\r\ndata: {\"jsonrpc\":\"2.0\",\"id\":\"t1\",\r\ndata:\"result\":" + submitted + "}\r\n\r\nretry: 1\n\ndata:{\"jsonrpc\":\"2.0\",\"id\":\"t1\",\"result\":" + completed + "}\n\n"
	c, in, heard := listen(&scripted{answers: map[string]func() *http.Response{"message/stream": answers("text/event-stream", body)}})
	a, err := c.Send(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, ports.AnswerDone, a.State)
	require.Equal(t, []string{"task r"}, *heard)
}

func TestAnAgentThatDoesNotStreamAfterAllIsSentTheMessage(t *testing.T) {
	for name, refusal := range map[string]func() *http.Response{"unsupported": refuses(-32004), "no such method": refuses(-32601)} {
		s := &scripted{answers: map[string]func() *http.Response{"message/stream": refusal, "message/send": rpc(`{"kind":"message","messageId":"a","parts":[]}`)}}
		c, in, _ := listen(s)
		for range 2 {
			a, err := c.Send(t.Context(), in)
			require.NoError(t, err, name)
			require.Equal(t, ports.AnswerDone, a.State)
		}
		require.Equal(t, []string{"message/stream", "message/send", "message/send"}, s.asked, name)
	}
	s := &scripted{answers: map[string]func() *http.Response{"message/stream": rpc(submitted)}}
	c, in, _ := listen(s)
	a, err := c.Send(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, ports.AnswerWorking, a.State, "one thing to say needs no stream")
}

func TestASilentStreamIsLeftAndTheAgentAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, known := range []bool{true, false} {
			r, w := io.Pipe()
			c, in, _ := listen(&scripted{answers: map[string]func() *http.Response{"message/stream": func() *http.Response {
				return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: r}
			}}})
			go func() {
				if known {
					_, _ = fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"id\":\"t1\",\"result\":%s}\n\n", submitted)
				}
				time.Sleep(5 * time.Minute)
				_, _ = fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"id\":\"t1\",\"result\":{\"kind\":\"message\",\"messageId\":\"a\",\"parts\":[]}}\n\n")
			}()
			begun := time.Now()
			a, err := c.Send(t.Context(), in)
			require.NoError(t, err)
			if known {
				require.Equal(t, ports.AnswerWorking, a.State)
				require.Equal(t, time.Minute, time.Since(begun))
			} else {
				require.Equal(t, ports.AnswerDone, a.State, "there would be nothing to ask for")
			}
		}
	})
}
