// Package a2agateway serves the engine's agents over A2A: versions 0.3 and 1.0 of the protocol, and the {type, data} form
// of parts in the API reference, all on one URL. A caller's method tells its version, its parts their form.
package a2agateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/adapters/internal/peer"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/task"
)

// Options are the gateway's settings; zero values are the defaults.
type Options struct {
	Logger    *slog.Logger // default: discards
	PublicURL string       // how the server is reached from outside; must be set, as cards name it
	Version   string       // of the engine, for the card; default "dev"
	// Wait is how long message/send waits at most for a task's end, and then answers with the task as it is; default two
	// minutes.
	Wait time.Duration
	// Signer signs the cards; without one they are not signed.
	Signer *Signer
	// KeepAlive is how often a stream says that it is still there; default 15 s.
	KeepAlive time.Duration
}

// Gateway is the handler of the A2A endpoints and cards. Patterns says where it is to be mounted.
type Gateway struct {
	engine *app.Engine
	opt    Options
	log    *slog.Logger
	began  time.Time // no card of this process is older
}

// New makes the gateway of an engine.
func New(engine *app.Engine, opt Options) *Gateway {
	g := &Gateway{engine: engine, opt: opt, log: opt.Logger, began: time.Now()}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	if g.opt.Version == "" {
		g.opt.Version = "dev"
	}
	if g.opt.Wait == 0 {
		g.opt.Wait = 2 * time.Minute
	}
	if g.opt.KeepAlive == 0 {
		g.opt.KeepAlive = 15 * time.Second
	}
	g.opt.PublicURL = strings.TrimRight(g.opt.PublicURL, "/")
	return g
}

// The paths, in the form of net/http's patterns.
const (
	pathOpen  = "/api/v1/a2a"
	pathAgent = "/api/v1/a2a/agents/{agentId}"
	wellKnown = "/.well-known/agent-card.json"
	olderCard = "/.well-known/agent.json"
	moreCard  = "/v1/card" // of 0.3's REST, which finds it below the door
	pathKeys  = "/.well-known/jwks.json"
)

// ServeHTTP implements http.Handler for requests that were routed by one of Patterns.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		switch path := strings.TrimSuffix(r.URL.Path, "/"); {
		case path == pathKeys:
			g.serveKeys(w, r)
		case strings.HasSuffix(path, moreCard):
			g.serveExtendedCard(w, r)
		default:
			g.serveCard(w, r)
		}
		return
	}
	if r.PathValue("taskId") != "" {
		g.serveCallBack(w, r)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		g.refuse(w, r, json.RawMessage("null"), &rpcError{Code: codeRequest, Message: "send a whole request of at most 1 MiB", status: http.StatusRequestEntityTooLarge})
		return
	}
	mediaType, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	if !strings.EqualFold(strings.TrimSpace(mediaType), "application/json") {
		g.refuse(w, r, json.RawMessage("null"), &rpcError{Code: codeContentType, Message: "send application/json", status: http.StatusUnsupportedMediaType})
		return
	}
	req, err := readRequest(body)
	if err == nil {
		err = g.serve(w, r, req)
	}
	if err != nil {
		g.refuse(w, r, req.id, err)
	}
}

// refuse answers with an error.
func (g *Gateway) refuse(w http.ResponseWriter, r *http.Request, id json.RawMessage, err error) {
	e, internal := errorOf(err)
	if internal && r.Context().Err() == nil {
		g.log.ErrorContext(r.Context(), "a2a request failed", "error", err)
	}
	if e.retry != "" {
		w.Header().Set("Retry-After", e.retry)
	}
	if e.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	status := e.status
	if status == 0 {
		status = http.StatusOK
	}
	g.write(w, r, status, object{"jsonrpc": "2.0", "id": id, "error": e})
}

func (g *Gateway) write(w http.ResponseWriter, r *http.Request, status int, v any) {
	body, err := encode(v)
	if err != nil {
		g.log.ErrorContext(r.Context(), "a2a answer could not be encoded", "error", err)
		status, body = http.StatusInternalServerError, []byte(`{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"internal error"}}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // whoever does not read it any more is told nothing
}

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimRight(b.Bytes(), "\n"), err
}

// call is one request with who asks.
type call struct {
	g      *Gateway
	caller identity.Caller
	from   string // address
	agent  string // of the URL; "" at the open door
	speaks form
	params fields
	wait   time.Duration // for what comes of a message
	// toTheEnd makes a stream go on when the agent asks back, as a subscription's does in 1.0.
	toTheEnd bool
}

// methods of both versions do the same things.
var methods = map[string]struct {
	speaks form
	stream bool
	needs  string // a field of params
	do     func(*call, context.Context) (any, error)
	follow func(*call, context.Context) (app.TaskView, error)
}{
	"message/send":         {speaks: v03, needs: "message", do: (*call).sendAndWait},
	"SendMessage":          {speaks: v10, needs: "message", do: (*call).sendAndWait},
	"message/stream":       {speaks: v03, needs: "message", stream: true, follow: (*call).send},
	"SendStreamingMessage": {speaks: v10, needs: "message", stream: true, follow: (*call).send},
	"tasks/get":            {speaks: v03, needs: "id", do: (*call).get},
	"GetTask":              {speaks: v10, needs: "id", do: (*call).get},
	"ListTasks":            {speaks: v10, do: (*call).list},
	"tasks/list":           {speaks: v10, do: (*call).list},
	"tasks/cancel":         {speaks: v03, needs: "id", do: (*call).cancel},
	"CancelTask":           {speaks: v10, needs: "id", do: (*call).cancel},
	"tasks/resubscribe":    {speaks: v03, needs: "id", stream: true, follow: (*call).resubscribe},
	"SubscribeToTask":      {speaks: v10, needs: "id", stream: true, follow: (*call).resubscribe},

	"tasks/pushNotificationConfig/set":    {speaks: v03, needs: "taskId", do: (*call).setPush},
	"tasks/pushNotificationConfig/get":    {speaks: v03, needs: "id", do: (*call).getPush},
	"tasks/pushNotificationConfig/list":   {speaks: v03, needs: "id", do: (*call).listPush},
	"tasks/pushNotificationConfig/delete": {speaks: v03, needs: "id", do: (*call).deletePush},
	"CreateTaskPushNotificationConfig":    {speaks: v10, needs: "taskId", do: (*call).setPush},
	"GetTaskPushNotificationConfig":       {speaks: v10, needs: "taskId", do: (*call).getPush},
	"ListTaskPushNotificationConfigs":     {speaks: v10, needs: "taskId", do: (*call).listPush},
	"DeleteTaskPushNotificationConfig":    {speaks: v10, needs: "taskId", do: (*call).deletePush},
	"agent/getAuthenticatedExtendedCard":  {speaks: v03, do: (*call).extendedCard},
	"GetExtendedAgentCard":                {speaks: v10, do: (*call).extendedCard},
}

// versions that the header A2A-Version may name, besides none, which is 0.3.
var versions = map[string]bool{"": true, "0.3": true, "0.3.0": true, "1.0": true, "1.0.0": true}

func (g *Gateway) serve(w http.ResponseWriter, r *http.Request, req request) error {
	ctx := r.Context()
	c := &call{g: g, from: peer.Address(ctx), agent: strings.ToLower(r.PathValue("agentId")), params: req.params}
	if err := c.admit(ctx, r); err != nil {
		return err
	}
	if v := strings.TrimSpace(r.Header.Get("A2A-Version")); !versions[v] {
		return &rpcError{Code: codeVersion, Message: "A2A-Version must be 0.3 or 1.0"}
	}
	method, ok := methods[req.method]
	if !ok {
		return &rpcError{Code: codeMethod, Message: "there is no such method"}
	}
	if req.nameless { // what else is wrong with it is said first
		if method.needs != "" && req.params.get(method.needs) == nil {
			return invalid("params."+method.needs, "is missing")
		}
		return errNoID
	}
	c.speaks = method.speaks
	if method.stream {
		v, err := method.follow(c, ctx)
		if err != nil {
			return c.inStream(w, r, req.id, err)
		}
		c.stream(w, r, req.id, v)
		return nil
	}
	result, err := method.do(c, ctx)
	if err != nil {
		return err
	}
	g.write(w, r, http.StatusOK, object{"jsonrpc": "2.0", "id": req.id, "result": result})
	return nil
}

// admit finds out who asks. At the door of an agent with a price nothing is to be had without a credential, as its card says.
func (c *call) admit(ctx context.Context, r *http.Request) error {
	if auth := r.Header.Get("Authorization"); auth != "" {
		scheme, token, _ := strings.Cut(auth, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return identity.Unauthorized()
		}
		var err error
		if c.caller, err = c.g.engine.Identity.ByKey(ctx, strings.TrimSpace(token)); err != nil {
			return err
		}
	}
	if c.agent == "" {
		return nil
	}
	a, err := c.g.engine.Gateway.Agent(ctx, c.agent) // also so that a wrong URL is told from a wrong task
	if err == nil && a.Price > 0 && !c.caller.Known() {
		err = identity.Unauthorized()
	}
	return err
}

// historyLength reads how many messages are wanted; nil is all.
func historyLength(f fields) (*int, error) {
	var n *int
	if err := f.into("historyLength", &n); err != nil || n != nil && *n < 0 {
		return nil, invalid("params.historyLength", "must be a whole number that is not negative")
	}
	return n, nil
}

func (c *call) configuration() (fields, error) {
	var conf fields
	err := c.params.into("configuration", &conf)
	return conf, err
}

// send hands the caller's message on.
func (c *call) send(ctx context.Context) (app.TaskView, error) {
	m, err := message(c.params.get("message"), &c.speaks)
	if err != nil {
		return app.TaskView{}, err
	}
	var outer fields
	if err := c.params.into("metadata", &outer); err != nil {
		return app.TaskView{}, err
	}
	push, err := c.pushInConfiguration()
	if err != nil {
		return app.TaskView{}, err
	}
	in := app.SendMessage{
		AgentID: c.agent, TaskID: strings.ToLower(m.taskID), ContextID: m.contextID, MessageID: m.id, Parts: m.parts, Address: c.from, Push: push, Wait: c.wait,
	}
	for _, f := range []fields{outer, m.metadata} { // the first that says something counts
		if in.AgentID == "" {
			err = errors.Join(err, f.into("agentId", &in.AgentID))
		}
		if in.SkillID == "" {
			err = errors.Join(err, f.into("skillId", &in.SkillID))
		}
		if len(in.SkillTags) == 0 {
			err = errors.Join(err, f.into("skillTags", &in.SkillTags))
		}
	}
	if in.AgentID == "" {
		err = errors.Join(err, c.params.into("assignedAgentId", &in.AgentID))
	}
	if err != nil {
		return app.TaskView{}, err
	}
	in.AgentID = strings.ToLower(in.AgentID)
	if in.TaskID != "" {
		before, err := c.task(ctx, in.TaskID)
		if err != nil {
			return app.TaskView{}, err
		}
		if in.ContextID != "" && in.ContextID != contextOf(before.Task) {
			return app.TaskView{}, invalid("params.message.contextId", "is not that of the task")
		}
	}
	return c.g.engine.Gateway.Send(ctx, c.caller, in)
}

// task reads a task, which at the door of one agent must be that agent's.
func (c *call) task(ctx context.Context, id string) (app.TaskView, error) {
	v, err := c.g.engine.Tasks.Get(ctx, c.caller, strings.ToLower(id))
	if err == nil && c.agent != "" && v.AgentID != c.agent {
		err = fault.NotFoundf(fault.CodeTaskNotFound, "Task", id)
	}
	if f, ok := fault.As(err); ok && f.Code == fault.CodeUnauthorized && !c.caller.Known() { // to a stranger it is as if it were not there
		err = fault.NotFoundf(fault.CodeTaskNotFound, "Task", id)
	}
	return v, err
}

// named reads the task that params name.
func (c *call) named(ctx context.Context) (app.TaskView, error) {
	var id string
	if err := c.params.into("id", &id); err != nil {
		return app.TaskView{}, err
	}
	if id == "" {
		return app.TaskView{}, invalid("params.id", "is missing")
	}
	return c.task(ctx, id)
}

// sendAndWait sends, and waits for the task's end, or for the agent to ask back, unless the caller does not want to.
func (c *call) sendAndWait(ctx context.Context) (any, error) {
	conf, err := c.configuration()
	if err != nil {
		return nil, err
	}
	history, err := historyLength(conf)
	if err != nil {
		return nil, err
	}
	blocking, immediately := true, false
	if err := errors.Join(conf.into("blocking", &blocking), conf.into("returnImmediately", &immediately)); err != nil {
		return nil, err
	}
	if blocking && !immediately {
		c.wait = c.g.opt.Wait
	}
	v, err := c.send(ctx)
	if err != nil {
		return nil, err
	}
	if m := direct(v); m != nil {
		return c.speaks.said(c.speaks.message(v.Task, *m)), nil
	}
	return c.speaks.wrapped(c.speaks.task(v, history)), nil
}

// direct is the agent's message if that is all of its answer: no task of its own, nothing made.
func direct(v app.TaskView) *task.Message {
	n := len(v.Messages)
	if v.Status != task.Completed || v.RemoteTaskID != "" || len(v.Artifacts) > 0 || n != 2 || v.Messages[1].Role != task.RoleAgent {
		return nil
	}
	return &v.Messages[1]
}

func (c *call) get(ctx context.Context) (any, error) {
	history, err := historyLength(c.params)
	if err != nil {
		return nil, err
	}
	v, err := c.named(ctx)
	if err != nil {
		return nil, err
	}
	return c.speaks.task(v, history), nil
}

func (c *call) cancel(ctx context.Context) (any, error) {
	v, err := c.named(ctx)
	if err != nil {
		return nil, err
	}
	if v.Status == task.Cancelled {
		err = task.NotActive(v.Task)
	} else {
		v, err = c.g.engine.Tasks.Cancel(ctx, c.caller, v.ID)
	}
	if f, ok := fault.As(err); ok && f.Code == fault.CodeTaskNotActive {
		return nil, &rpcError{Code: codeNotCancelable, Message: f.Message}
	}
	if err != nil {
		return nil, err
	}
	return c.speaks.task(v, nil), nil
}

// resubscribe finds a task to follow. In 1.0 one that has ended cannot be.
func (c *call) resubscribe(ctx context.Context) (app.TaskView, error) {
	v, err := c.named(ctx)
	c.toTheEnd = c.speaks == v10
	if err == nil && v.Status.Ended() && c.speaks == v10 {
		err = &rpcError{Code: codeUnsupported, Message: "the task has ended: " + string(v.Status)}
	}
	return v, err
}
