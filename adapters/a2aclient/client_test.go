package a2aclient_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/a2aclient"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/examples/echo"
	"github.com/nexus-protocol/nexus/examples/worker"
	"github.com/nexus-protocol/nexus/ports"
)

func call(endpoint string) ports.Call {
	return ports.Call{Endpoint: endpoint, TaskID: "t1", SkillID: "s", Message: task.Message{
		ID: "m1", Role: task.RoleUser, Parts: []task.Part{task.TextPart("hi"), {Type: task.PartData, Data: json.RawMessage(`{"n":12345678901234567890}`)}},
	}}
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func newClient() *a2aclient.Client { return a2aclient.New(&http.Transport{}, nil) }

var errProhibited = errors.New("prohibited")

// prohibiting is a transport that does not dial everywhere.
type prohibiting struct{ http.RoundTripper }

func (p prohibiting) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Hostname() == "prohibited.example" {
		return nil, fmt.Errorf("dial 10.0.0.1: %w", errProhibited)
	}
	return p.RoundTripper.RoundTrip(r)
}

// speak is the URL of a server that says what it has to say to whatever it is asked, and hangs up.
func speak(t *testing.T, words string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = http.ReadRequest(bufio.NewReader(conn))
			_, _ = io.WriteString(conn, words)
			_ = conn.Close()
		}
	}()
	return "http://" + l.Addr().String()
}

func redirect(status int, to string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.WriteHeader(http.StatusTeapot) // the message was lost on the way
			return
		}
		w.Header().Set("Location", to)
		w.WriteHeader(status)
	}
}

func says(result string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":"t1","result":%s}`, result)
	}
}

func TestTheExampleAgents(t *testing.T) {
	server := httptest.NewServer(echo.Handler("http://x"))
	t.Cleanup(server.Close)
	c := newClient()
	a, err := c.Send(t.Context(), call(server.URL))
	require.NoError(t, err)
	require.Equal(t, ports.AnswerDone, a.State)
	require.Equal(t, call("").Message.Parts, a.Artifacts[0].Parts, "parts come back without loss")
	card, err := c.Card(t.Context(), server.URL)
	require.NoError(t, err)
	require.Contains(t, string(card), "Echo")

	agent := worker.New()
	server = httptest.NewServer(agent.Handler("http://x"))
	t.Cleanup(server.Close)
	in := call(server.URL)
	in.Message.Parts = []task.Part{{Type: task.PartData, Data: json.RawMessage(`{"steps":1,"delayMs":1,"mode":"fail"}`)}}
	a, err = c.Send(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, ports.AnswerFailed, a.State)
	require.Contains(t, a.Reason, "as it was told to")
	in.RemoteTaskID = a.RemoteTaskID
	a, err = c.Follow(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, ports.AnswerFailed, a.State)
	var failed *ports.CallError
	require.ErrorAs(t, c.Cancel(t.Context(), in), &failed, "it has ended already")

	in.Message.ID, in.TaskID, in.RemoteTaskID = "m2", "t2", ""
	in.Message.Parts = []task.Part{{Type: task.PartData, Data: json.RawMessage(`{"mode":"stall"}`)}}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = c.Send(ctx, in)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	agent.Close()
}

// The simplest example agent speaks three dialects, and is spoken to in that which its card names.
func TestTheEchoAgentInEveryDialect(t *testing.T) {
	for name, c := range map[string]struct{ card, method, part string }{
		"0.3":       {`{"protocolVersion":"0.3.0","url":"%s"}`, "message/send", `{"kind":"text","text":"hi"}`},
		"1.0":       {`{"supportedInterfaces":[{"url":"%s","protocolBinding":"JSONRPC","protocolVersion":"1.0"}]}`, "SendMessage", `{"text":"hi"}`},
		"type data": {`{"protocolVersion":"0.3.0","url":"%s","capabilities":{"extensions":[{"uri":"urn:nexus-protocol:parts:type-data"}]}}`, "message/send", `{"type":"text","data":"hi"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got struct {
				Method string
				Params struct {
					Message struct{ Parts []json.RawMessage }
				}
			}
			agent := echo.Handler("http://x")
			at := serve(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				_ = json.Unmarshal(body, &got)
				r.Body = io.NopCloser(strings.NewReader(string(body)))
				agent.ServeHTTP(w, r)
			})
			in := call(at)
			in.Card = json.RawMessage(fmt.Sprintf(c.card, at))
			in.Message.Parts = append(in.Message.Parts, task.Part{Type: task.PartFile, Data: json.RawMessage(`{"name":"n","mimeType":"m/m","bytes":"aGk="}`)},
				task.Part{Type: task.PartFile, Data: json.RawMessage(`{"uri":"http://x"}`), Metadata: json.RawMessage(`{"k":[1]}`)})
			a, err := newClient().Send(t.Context(), in)
			require.NoError(t, err)
			require.Equal(t, ports.AnswerDone, a.State)
			require.Equal(t, in.Message.Parts, a.Artifacts[0].Parts)
			require.Equal(t, c.method, got.Method)
			require.JSONEq(t, c.part, string(got.Params.Message.Parts[0]))
		})
	}
}

func TestAnswersInEveryDialect(t *testing.T) {
	text := []task.Part{task.TextPart("yes")}
	for name, result := range map[string]string{
		"0.3 message":           `{"kind":"message","messageId":"a","role":"agent","parts":[{"kind":"text","text":"yes"}]}`,
		"0.3 task":              `{"kind":"task","id":"r","contextId":"c","status":{"state":"completed","message":{"kind":"message","messageId":"a","role":"agent","parts":[{"kind":"text","text":"yes"}]}},"history":[{"messageId":"q","role":"user","parts":[]},{"messageId":"a","role":"agent","parts":[{"kind":"text","text":"yes"}]}]}`,
		"type and data":         `{"messageId":"a","role":"agent","parts":[{"type":"text","data":"yes"}]}`,
		"task of type and data": `{"id":"r","status":{"state":"completed","message":{"messageId":"a","role":"agent","parts":[{"type":"text","data":"yes"}]}}}`,
		"1.0 message":           `{"message":{"messageId":"a","role":"ROLE_AGENT","parts":[{"text":"yes"}]}}`,
		"1.0 task":              `{"task":{"id":"r","contextId":"c","status":{"state":"TASK_STATE_COMPLETED","message":{"messageId":"a","role":"ROLE_AGENT","parts":[{"text":"yes"}]}}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			a, err := newClient().Send(t.Context(), call(serve(t, says(result))))
			require.NoError(t, err)
			require.Equal(t, ports.AnswerDone, a.State)
			require.Equal(t, []task.Message{{ID: "a", Role: task.RoleAgent, Parts: text}}, a.Messages)
		})
	}
	a, err := newClient().Send(t.Context(), call(serve(t, says(`{"task":{"id":"r","status":{"state":"TASK_STATE_WORKING"}}}`))))
	require.NoError(t, err)
	require.Equal(t, ports.Answer{State: ports.AnswerWorking, RemoteTaskID: "r"}, a)
}

func TestPartsInEveryDialect(t *testing.T) {
	for part, want := range map[string]task.Part{
		`{"kind":"text","text":"a","metadata":{"k":1}}`:                      {Type: task.PartText, Data: json.RawMessage(`"a"`), Metadata: json.RawMessage(`{"k":1}`)},
		`{"type":"text","data":"a","metadata":null}`:                         {Type: task.PartText, Data: json.RawMessage(`"a"`)},
		`{"type":"text","text":"a","metadata":[]}`:                           {Type: task.PartText, Data: json.RawMessage(`"a"`)},
		`{"text":"a","mediaType":"text/plain"}`:                              {Type: task.PartText, Data: json.RawMessage(`"a"`)},
		`{"text":"a \\u0000 \\"}`:                                            {Type: task.PartText, Data: json.RawMessage(`"a \\u0000 \\"`)},
		`{"kind":"data","data":{"n":12345678901234567890}}`:                  {Type: task.PartData, Data: json.RawMessage(`{"n":12345678901234567890}`)},
		`{"type":"data","data":[1]}`:                                         {Type: task.PartData, Data: json.RawMessage(`[1]`)},
		`{"data":null}`:                                                      {Type: task.PartData, Data: json.RawMessage(`null`)},
		`{"kind":"file","file":{"uri":"u","name":"n","mimeType":"m","x":1}}`: {Type: task.PartFile, Data: json.RawMessage(`{"name":"n","mimeType":"m","uri":"u"}`)},
		`{"kind":"file","file":{"bytes":""}}`:                                {Type: task.PartFile, Data: json.RawMessage(`{"bytes":""}`)},
		`{"type":"file","data":{"name":"n","bytes":"_-8"}}`:                  {Type: task.PartFile, Data: json.RawMessage(`{"name":"n","bytes":"_-8"}`)},
		`{"file":{"fileWithBytes":"aGk=","mediaType":"m"}}`:                  {Type: task.PartFile, Data: json.RawMessage(`{"mimeType":"m","bytes":"aGk="}`)},
		`{"file":{"fileWithUri":"u"},"filename":"n"}`:                        {Type: task.PartFile, Data: json.RawMessage(`{"name":"n","uri":"u"}`)},
		`{"raw":"aGk=","filename":"n","mediaType":"m"}`:                      {Type: task.PartFile, Data: json.RawMessage(`{"name":"n","mimeType":"m","bytes":"aGk="}`)},
		`{"url":"u","mediaType":"m"}`:                                        {Type: task.PartFile, Data: json.RawMessage(`{"mimeType":"m","uri":"u"}`)},
	} {
		a, err := newClient().Send(t.Context(), call(serve(t, says(`{"parts":[`+part+`]}`))))
		require.NoError(t, err, part)
		require.Equal(t, []task.Part{want}, a.Messages[0].Parts, part)
	}
}

func TestEveryStateOfATaskMeansSomething(t *testing.T) {
	const words = `,"message":{"messageId":"a","role":"agent","parts":[{"kind":"text","text":"so"},{"kind":"text","text":"it is"}]}`
	for state, want := range map[string]ports.Answer{
		"completed":      {State: ports.AnswerDone},
		"submitted":      {State: ports.AnswerWorking},
		"working":        {State: ports.AnswerWorking},
		"failed":         {State: ports.AnswerFailed, Reason: "the agent reports that it failed: so it is"},
		"rejected":       {State: ports.AnswerFailed, Reason: "the agent rejected the task: so it is"},
		"canceled":       {State: ports.AnswerFailed, Reason: "the agent cancelled the task: so it is"},
		"input-required": {State: ports.AnswerInputRequired},
		"auth-required":  {State: ports.AnswerInputRequired},
	} {
		for _, written := range []string{state, "TASK_STATE_" + strings.ToUpper(strings.ReplaceAll(state, "-", "_"))} {
			a, err := newClient().Send(t.Context(), call(serve(t, says(`{"id":"r","status":{"state":"`+written+`"`+words+`}}`))))
			require.NoError(t, err, written)
			require.Equal(t, want.State, a.State, written)
			require.Equal(t, want.Reason, a.Reason, written)
			require.Equal(t, want.State != ports.AnswerWorking, len(a.Messages) == 1, "%s: what comes before the end would come again", written)
		}
	}
}

func TestWhatAnAgentSaysAndMakesComesOnceAndHasIDs(t *testing.T) {
	a, err := newClient().Send(t.Context(), call(serve(t, says(`{"id":"r","status":{"state":"completed","message":{"messageId":"b","role":"agent","parts":[]}},
		"history":[{"messageId":"q","role":"user","parts":[{"kind":"smell"}]},{"messageId":"a","role":"agent","parts":[]},{"role":"ROLE_AGENT","parts":[]},
			{"messageId":"a","role":"agent","parts":[]},{"messageId":"b","role":"agent","parts":[]}],
		"artifacts":[{"artifactId":"x","name":"n","description":"d","parts":[]},{"parts":[]}]}`))))
	require.NoError(t, err)
	var ids []string
	for _, m := range a.Messages {
		ids = append(ids, m.ID)
	}
	require.Equal(t, []string{"a", "r-message-cbf29ce484222325-0", "b"}, ids)
	require.Equal(t, []task.Artifact{{ID: "x", Name: "n", Description: "d", Parts: []task.Part{}}, {ID: "r-artifact-1", Parts: []task.Part{}}}, a.Artifacts)

	a, err = newClient().Send(t.Context(), call(serve(t, says(`{"parts":[],"contextId":"c"}`))))
	require.NoError(t, err)
	require.Equal(t, "t1-message-cbf29ce484222325-0", a.Messages[0].ID)
	require.Equal(t, "c", a.ContextID)
}

func TestFollowingIsAboutOneTask(t *testing.T) {
	in := call(serve(t, says(`{"status":{"state":"working"}}`)))
	in.RemoteTaskID = "r"
	a, err := newClient().Follow(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, ports.Answer{State: ports.AnswerWorking, RemoteTaskID: "r"}, a)

	in = call(serve(t, says(`{"id":"other","status":{"state":"completed"}}`)))
	in.RemoteTaskID = "r"
	_, err = newClient().Follow(t.Context(), in)
	require.ErrorContains(t, err, "another task")
}

func TestFailuresAreNamed(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	status := func(code int, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if len(header) == 2 {
				w.Header().Set(header[0], header[1])
			}
			w.WriteHeader(code)
		}
	}
	secure := httptest.NewUnstartedServer(nil)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	for name, c := range map[string]struct {
		endpoint  string
		handler   http.HandlerFunc
		code, say string
		retry     bool
		wait      time.Duration
		offline   bool
	}{
		"nobody there":            {endpoint: closed.URL, code: task.ErrUnreachable, say: "refused", retry: true, offline: true},
		"no such host":            {endpoint: "http://no-such-host.invalid", code: task.ErrUnreachable, say: "the name of its host cannot be resolved", retry: true, offline: true},
		"closes at once":          {handler: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, code: task.ErrUnreachable, say: "EOF", retry: true, offline: true},
		"500":                     {handler: status(500), code: task.ErrAgent, say: "HTTP 500"},
		"404":                     {handler: status(404), code: task.ErrAgent, say: "HTTP 404"},
		"502":                     {handler: status(502), code: task.ErrAgent, say: "HTTP 502", retry: true},
		"503":                     {handler: status(503), code: task.ErrAgent, say: "HTTP 503", retry: true},
		"504":                     {handler: status(504), code: task.ErrAgent, say: "HTTP 504", retry: true},
		"204":                     {handler: status(204), code: task.ErrProtocol, say: "no content type"},
		"401":                     {handler: status(401, "Retry-After", "7"), code: task.ErrAgent, say: "HTTP 401"},
		"429 without a time":      {handler: status(429), code: task.ErrAgent, say: "HTTP 429", retry: true},
		"429 with nonsense":       {handler: status(429, "Retry-After", "soon"), code: task.ErrAgent, say: "HTTP 429", retry: true},
		"429 with the past":       {handler: status(429, "Retry-After", "-7"), code: task.ErrAgent, say: "HTTP 429", retry: true},
		"429 with a date":         {handler: status(429, "Retry-After", "Fri, 31 Dec 9999 23:59:59 GMT"), code: task.ErrAgent, say: "HTTP 429", retry: true, wait: 5 * time.Minute},
		"429 with a date gone by": {handler: status(429, "Retry-After", "Fri, 31 Dec 1999 23:59:59 GMT"), code: task.ErrAgent, say: "HTTP 429", retry: true},
		"429 with eternity":       {handler: status(429, "Retry-After", "99999999999999999999999"), code: task.ErrAgent, say: "HTTP 429", retry: true, wait: 5 * time.Minute},
		"429 with seconds":        {handler: status(429, "Retry-After", "7"), code: task.ErrAgent, say: "HTTP 429", retry: true, wait: 7 * time.Second},
		"429 with centuries":      {handler: status(429, "Retry-After", "99999999999"), code: task.ErrAgent, say: "HTTP 429", retry: true, wait: 5 * time.Minute},
		"HTML": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write([]byte("<html>"))
		}, code: task.ErrProtocol, say: "text/html"},
		"an endless body": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for {
				if _, err := w.Write([]byte(strings.Repeat("x", 64<<10))); err != nil {
					return
				}
			}
		}, code: task.ErrProtocol, say: "over 1 MiB"},
		"a body that unpacks to 4 MiB": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = z.Write(make([]byte, 4<<20))
			_ = z.Close()
		}, code: task.ErrProtocol, say: "over 1 MiB"},
		"2 MiB": {handler: says(`{"parts":[{"kind":"text","text":"` + strings.Repeat("x", 2<<20) + `"}]}`), code: task.ErrProtocol, say: "over 1 MiB"},
		"an answer that breaks off": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte(`{"jsonrpc"`))
		}, code: task.ErrUnreachable, say: "broke its answer off", retry: true},
		"no TLS":                         {endpoint: strings.Replace(serve(t, status(200)), "http:", "https:", 1), code: task.ErrUnreachable, say: "HTTP response to HTTPS client", retry: true, offline: true},
		"bad certificate":                {endpoint: secure.URL, code: task.ErrUnreachable, say: "unknown authority", retry: true, offline: true},
		"no HTTP":                        {endpoint: speak(t, "SSH-2.0-OpenSSH_9.9\r\n"), code: task.ErrProtocol, say: "not proper HTTP"},
		"nothing":                        {endpoint: speak(t, ""), code: task.ErrUnreachable, say: "no connection", retry: true, offline: true},
		"half a header":                  {endpoint: speak(t, "HTTP/1.1 200 OK\r\nContent-"), code: task.ErrUnreachable, say: "no connection", retry: true, offline: true},
		"an endless header":              {endpoint: speak(t, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 128<<10)), code: task.ErrProtocol, say: "not proper HTTP"},
		"no URL":                         {endpoint: "http://%zz", code: task.ErrUnreachable, say: "no URL"},
		"an address that is not allowed": {endpoint: "http://prohibited.example", code: task.ErrUnreachable, say: "resolves to an address that is not allowed"},
		"a redirect to such an address":  {handler: redirect(307, "http://prohibited.example"), code: task.ErrUnreachable, say: "resolves to an address that is not allowed"},
		"a redirect to itself": {handler: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
		}, code: task.ErrProtocol, say: "the agent redirected too often"},
		"301":                     {handler: redirect(301, "/there"), code: task.ErrProtocol, say: "307 or 308"},
		"302":                     {handler: redirect(302, "/there"), code: task.ErrProtocol, say: "307 or 308"},
		"303":                     {handler: redirect(303, "/there"), code: task.ErrProtocol, say: "307 or 308"},
		"a redirect to a file":    {handler: redirect(307, "file:///etc/passwd"), code: task.ErrProtocol, say: "neither http nor https"},
		"a redirect to nowhere":   {handler: redirect(308, "http://[::1"), code: task.ErrProtocol, say: "not proper HTTP"},
		"a redirect without goal": {handler: status(307), code: task.ErrAgent, say: "HTTP 307"},
		"a JSON-RPC error": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"busy"}}`))
		}, code: task.ErrAgent, say: "-32000: busy"},
		"a JSON-RPC error of many words": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":"t1","error":{"code":1,"message":"%s"}}`, strings.Repeat("ä", 501))
		}, code: task.ErrAgent, say: "error 1: " + strings.Repeat("ä", 500) + "…"},
		"JSON-RPC 1.0": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"id":"t1","result":{"parts":[]}}`))
		}, code: task.ErrProtocol, say: "not JSON-RPC 2.0"},
		"no JSON": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`hello`))
		}, code: task.ErrProtocol, say: "not JSON-RPC"},
		"another's answer": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"jsonrpc":"2.0","id":"t2","result":{"parts":[]}}`))
		}, code: task.ErrProtocol, say: "another request"},
		"no result":                    {handler: says(`null`), code: task.ErrProtocol, say: "no result"},
		"no sense":                     {handler: says(`{"x":1}`), code: task.ErrProtocol, say: "neither a task nor a message"},
		"a list":                       {handler: says(`[1]`), code: task.ErrProtocol, say: "neither a task nor a message"},
		"an unknown state":             {handler: says(`{"id":"r","status":{"state":"dreaming"}}`), code: task.ErrProtocol, say: "dreaming"},
		"a task at work without an id": {handler: says(`{"status":{"state":"working"}}`), code: task.ErrProtocol, say: "no id"},
		"an id without end":            {handler: says(`{"id":"` + strings.Repeat("x", 1001) + `","status":{"state":"working"}}`), code: task.ErrProtocol, say: "ids are longer"},
		"a task without a status":      {handler: says(`{"task":{"id":"r"}}`), code: task.ErrProtocol, say: "neither a task nor a message"},
		"a text part without text":     {handler: says(`{"parts":[{"kind":"text","data":1}]}`), code: task.ErrProtocol, say: "has no text"},
		"a data part without data":     {handler: says(`{"parts":[{"kind":"data"}]}`), code: task.ErrProtocol, say: "has no data"},
		"a file part without a file":   {handler: says(`{"parts":[{"kind":"file","file":{"name":"x"}}]}`), code: task.ErrProtocol, say: "has no file"},
		"a file part of a number":      {handler: says(`{"parts":[{"kind":"file","file":{"bytes":1}}]}`), code: task.ErrProtocol, say: "has no file"},
		"a file that is not base64":    {handler: says(`{"parts":[{"kind":"file","file":{"bytes":"%"}}]}`), code: task.ErrProtocol, say: "not base64"},
		"an unknown part":              {handler: says(`{"parts":[{"kind":"smell"}]}`), code: task.ErrProtocol, say: "smell"},
		"too deep":                     {handler: says(`{"parts":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}`), code: task.ErrProtocol, say: "deeper"},
		"a NUL":                        {handler: says(`{"parts":[{"kind":"text","text":"\u0000"}]}`), code: task.ErrProtocol, say: "NUL"},
		"a bare NUL":                   {handler: says("{\"parts\":[{\"kind\":\"text\",\"text\":\"\x00\"}]}"), code: task.ErrProtocol, say: "NUL"},
		"bad UTF-8":                    {handler: says("{\"parts\":[{\"kind\":\"text\",\"text\":\"\xff\"}]}"), code: task.ErrProtocol, say: "UTF-8"},
		"too many parts":               {handler: says(`{"parts":[` + strings.Repeat(`{"text":""},`, 10_000) + `{"text":""}]}`), code: task.ErrProtocol, say: "more than 10000"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.handler != nil {
				c.endpoint = serve(t, c.handler)
			}
			_, err := a2aclient.New(prohibiting{&http.Transport{MaxResponseHeaderBytes: 64 << 10}}, errProhibited).Send(t.Context(), call(c.endpoint))
			var failed *ports.CallError
			require.ErrorAs(t, err, &failed)
			require.Equal(t, c.code, failed.Code)
			require.Contains(t, failed.Message, c.say)
			require.Equal(t, c.retry, failed.Retryable)
			require.Equal(t, c.offline, failed.Unreachable)
			require.Equal(t, c.wait, failed.RetryAfter)
		})
	}
}

func TestWhatIsSaidOfAFailureNamesNothingOfTheInside(t *testing.T) {
	for _, cause := range []error{
		&net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3)}, Err: &net.DNSError{Err: "no such host", Name: "x", Server: "10.1.2.3:53", IsNotFound: true}},
		&net.OpError{Op: "read", Net: "tcp", Source: &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3)}, Err: syscall.ECONNRESET},
		fmt.Errorf("10.1.2.3: %w", errProhibited),
	} {
		_, err := a2aclient.New(failing{cause}, errProhibited).Send(t.Context(), call("http://agent.example"))
		var failed *ports.CallError
		require.ErrorAs(t, err, &failed)
		require.NotContains(t, failed.Message, "10.1.2.3")
	}
}

type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }

func TestAnEndedContextIsItsOwnError(t *testing.T) {
	for name, stall := range map[string]http.HandlerFunc{
		"no answer": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"a header that drips": func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				panic(err)
			}
			defer func() { _ = conn.Close() }()
			for drip := "HTTP/1.1 200 OK\r\nX: "; ; drip = "x" {
				if _, err := io.WriteString(conn, drip); err != nil {
					return
				}
				time.Sleep(time.Millisecond)
			}
		},
		"a body that drips": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, " ")
				_ = http.NewResponseController(w).Flush()
				time.Sleep(time.Millisecond)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			endpoint := serve(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // only then does the server see that the caller goes away
				stall(w, r)
			})
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			_, err := newClient().Send(ctx, call(endpoint))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			var failed *ports.CallError
			require.NotErrorAs(t, err, &failed)
			_, err = newClient().Card(ctx, endpoint)
			require.ErrorIs(t, err, context.DeadlineExceeded)
		})
	}
}

// asked is the endpoint of an agent that keeps what it is asked.
func asked(t *testing.T, answer http.HandlerFunc) (endpoint string, requests *[]map[string]any, headers *http.Header) {
	t.Helper()
	requests, headers = new([]map[string]any), new(http.Header)
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		var m map[string]any
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			t.Error(err)
		}
		*requests, *headers = append(*requests, m), r.Header
		answer(w, r)
	}), requests, headers
}

func TestTheRequestsAreThoseOfA2A(t *testing.T) {
	done := says(`{"kind":"task","id":"r","contextId":"c","status":{"state":"canceled"}}`)
	endpoint, requests, headers := asked(t, done)
	in := call(endpoint)
	in.Message.Parts = []task.Part{
		{Type: task.PartText, Data: json.RawMessage(`"hi"`), Metadata: json.RawMessage(`{"k":1}`)},
		{Type: task.PartData, Data: json.RawMessage(`{"n":1}`)},
		{Type: task.PartFile, Data: json.RawMessage(`{"name":"f","uri":"u"}`)},
	}
	_, err := newClient().Send(t.Context(), in)
	require.NoError(t, err)
	in.RemoteTaskID, in.ContextID = "r", "c"
	_, err = newClient().Send(t.Context(), in)
	require.NoError(t, err)
	_, err = newClient().Follow(t.Context(), in)
	require.NoError(t, err)
	require.NoError(t, newClient().Cancel(t.Context(), in))
	in.RemoteTaskID = ""
	require.NoError(t, newClient().Cancel(t.Context(), in), "an agent that gave no id is not asked")

	const message = `"kind":"message","messageId":"m1","role":"user","metadata":{"skillId":"s"},
		"parts":[{"kind":"text","text":"hi","metadata":{"k":1}},{"kind":"data","data":{"n":1}},{"kind":"file","file":{"name":"f","uri":"u"}}]`
	const rest = `"configuration":{"blocking":true,"acceptedOutputModes":["text/plain","application/json"]},"metadata":{"nexusTaskId":"t1","skillId":"s"}`
	want := []string{
		`{"jsonrpc":"2.0","id":"t1","method":"message/send","params":{"message":{` + message + `},` + rest + `}}`,
		`{"jsonrpc":"2.0","id":"t1","method":"message/send","params":{"message":{` + message + `,"taskId":"r","contextId":"c"},` + rest + `}}`,
		`{"jsonrpc":"2.0","id":"t1","method":"tasks/get","params":{"id":"r","historyLength":1000}}`,
		`{"jsonrpc":"2.0","id":"t1","method":"tasks/cancel","params":{"id":"r"}}`,
	}
	require.Len(t, *requests, len(want))
	for i, w := range want {
		got, err := json.Marshal((*requests)[i])
		require.NoError(t, err)
		require.JSONEq(t, w, string(got))
	}
	require.Equal(t, "application/json", headers.Get("Content-Type"))
	require.Equal(t, "application/json", headers.Get("Accept"))
	require.Equal(t, "nexus", headers.Get("User-Agent"))
}

func TestARedirectKeepsTheMessage(t *testing.T) {
	for _, status := range []int{307, 308} {
		there, requests, _ := asked(t, says(`{"parts":[]}`))
		hops := 3
		endpoint := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if hops--; hops == 0 {
				http.Redirect(w, r, there, status)
				return
			}
			http.Redirect(w, r, r.URL.Path, status)
		})
		_, err := newClient().Send(t.Context(), call(endpoint))
		require.NoError(t, err, "three hops are not too often")
		require.Len(t, *requests, 1)
		require.Equal(t, "message/send", (*requests)[0]["method"])
	}
}

func TestWhatIsNoCardIsRefused(t *testing.T) {
	for name, body := range map[string]string{
		"a list": `[]`, "no JSON": `{`, "nothing": ``, "too large": `{"x":"` + strings.Repeat("x", 256<<10) + `"}`, "bad UTF-8": "{\"x\":\"\xff\"}",
		"NUL": `{"x":"\u0000"}`, "too deep": `{"x":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`,
	} {
		_, err := newClient().Card(t.Context(), serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }))
		require.Error(t, err, name)
	}
	_, err := newClient().Card(t.Context(), "http://%zz")
	require.Error(t, err)
}

func TestACardIsNotWaitedForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		_, err := a2aclient.New(stalling{}, nil).Card(context.Background(), "http://agent.example/a")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 3*time.Second, time.Since(begun), "of all places together")
	})
}

type stalling struct{}

func (stalling) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestAHostThatIsNotThereIsAskedForItsCardOnce(t *testing.T) {
	dialled := 0
	c := a2aclient.New(counting{&dialled, failing{syscall.ECONNREFUSED}}, nil)
	_, err := c.Card(t.Context(), "http://agent.example/a")
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.Equal(t, 1, dialled)
}

type counting struct {
	n *int
	http.RoundTripper
}

func (c counting) RoundTrip(r *http.Request) (*http.Response, error) {
	*c.n++
	return c.RoundTripper.RoundTrip(r)
}

func TestNothingIsLeftRunning(t *testing.T) {
	before := runtime.NumGoroutine()
	transport := &http.Transport{}
	c := a2aclient.New(transport, nil)
	var servers []*httptest.Server
	for _, h := range []http.HandlerFunc{
		says(`{"parts":[]}`), redirect(302, "/"), redirect(307, "/"), says(strings.Repeat(" ", 3<<20)),
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); <-r.Context().Done() },
	} {
		s := httptest.NewServer(h)
		servers = append(servers, s)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, _ = c.Send(ctx, call(s.URL))
		_, _ = c.Card(ctx, s.URL)
		cancel()
	}
	transport.CloseIdleConnections()
	for _, s := range servers {
		s.Close()
	}
	for patience := 1_000; runtime.NumGoroutine() > before; patience-- { // require.Eventually has a goroutine of its own
		require.Positive(t, patience, "%d goroutines of %d before", runtime.NumGoroutine(), before)
		time.Sleep(5 * time.Millisecond)
	}
}

func TestCardIsLookedForBelowTheEndpointFirst(t *testing.T) {
	var asked []string
	endpoint := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.String())
		switch r.URL.Path {
		case "/.well-known/agent.json":
			_, _ = w.Write([]byte(`{"name":"x"}`))
		case "/.well-known/agent-card.json":
			http.Redirect(w, r, r.URL.Path, http.StatusFound) // once too often, which says nothing of other places
		default:
			_, _ = w.Write([]byte(`<html>`))
		}
	})
	card, err := newClient().Card(t.Context(), endpoint+"/agents/one%2Ftwo?key=1#f")
	require.NoError(t, err)
	require.JSONEq(t, `{"name":"x"}`, string(card))
	require.Equal(t, []string{
		"/agents/one%2Ftwo/.well-known/agent-card.json", "/agents/one%2Ftwo/.well-known/agent.json", "/.well-known/agent-card.json", "/.well-known/agent.json",
	}, slices.Compact(asked))
}
