package a2aclient

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/nexus-protocol/nexus/adapters/internal/a2awire"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// operation is what an agent is asked to do.
type operation int

const (
	opSend operation = iota
	opStream
	opGet
	opCancel
	opSubscribe
)

// methods are the names of operations over JSON-RPC.
var methods = map[bool][]string{
	false: {"message/send", "message/stream", "tasks/get", "tasks/cancel", "tasks/resubscribe"},
	true:  {"SendMessage", "SendStreamingMessage", "GetTask", "CancelTask", "SubscribeToTask"},
}

type rpcRequest struct {
	JSONRPC string `json:"jsonrpc"`
	ID      string `json:"id"`
	Method  string `json:"method"`
	Params  any    `json:"params"`
}

type sendParams struct {
	Tenant        string        `json:"tenant,omitempty"`
	Message       wireMessage   `json:"message"`
	Configuration configuration `json:"configuration"`
	Metadata      metadata      `json:"metadata"`
}

type taskParams struct {
	Tenant string `json:"tenant,omitempty"`
	ID     string `json:"id"`
	// HistoryLength is needed by agents that tell nothing of the history without it.
	HistoryLength int `json:"historyLength,omitempty"`
}

const historyLength = 1000

type configuration struct {
	Blocking            *bool    `json:"blocking,omitempty"` // 0.3; in 1.0 it is so unless it is told otherwise
	AcceptedOutputModes []string `json:"acceptedOutputModes"`

	// Where to call back: in 0.3, in 0.3 over HTTP+JSON, in 1.0.
	Push03 *pushConfig `json:"pushNotificationConfig,omitempty"`
	PushP3 *pushConfig `json:"pushNotification,omitempty"`
	Push10 *pushConfig `json:"taskPushNotificationConfig,omitempty"`
}

type pushConfig struct {
	ID             string         `json:"id"`
	URL            string         `json:"url"`
	Token          string         `json:"token"`
	Authentication authentication `json:"authentication"`
}

// authentication has the token once more, for agents that show it so.
type authentication struct {
	Schemes     []string `json:"schemes,omitempty"` // 0.3
	Scheme      string   `json:"scheme,omitempty"`  // 1.0
	Credentials string   `json:"credentials"`
}

type metadata struct {
	NexusTaskID string `json:"nexusTaskId,omitempty"`
	SkillID     string `json:"skillId,omitempty"`
}

type wireMessage struct {
	Kind      string         `json:"kind,omitempty"`
	MessageID string         `json:"messageId"`
	Role      string         `json:"role"`
	Parts     []a2awire.Part `json:"parts,omitempty"`
	Content   []a2awire.Part `json:"content,omitempty"` // 0.3 over HTTP+JSON
	ContextID string         `json:"contextId,omitempty"`
	TaskID    string         `json:"taskId,omitempty"`
	Metadata  *metadata      `json:"metadata,omitempty"`
}

var (
	outputModes = []string{"text/plain", "application/json"}
	blocking    = true
)

// request is how an operation is asked for at a door. There is no body where there is nothing to say.
func (x *exchange) request(op operation) (method, at string, body []byte, err error) {
	if x.door.rest() {
		method, at = x.path(op)
		if op != opSend && op != opStream {
			return method, at, nil, nil
		}
		body, err = json.Marshal(x.sendParams(op))
	} else {
		method, at = http.MethodPost, x.door.url
		r := rpcRequest{JSONRPC: "2.0", ID: x.in.TaskID, Method: methods[x.door.dialect == rpc10][op], Params: taskParams{Tenant: x.door.tenant, ID: x.in.RemoteTaskID}}
		switch op {
		case opSend, opStream:
			r.Params = x.sendParams(op)
		case opGet:
			r.Params = taskParams{x.door.tenant, x.in.RemoteTaskID, historyLength}
		}
		body, err = json.Marshal(r)
	}
	if err != nil {
		return "", "", nil, &ports.CallError{Code: task.ErrProtocol, Message: "the message cannot be put into JSON"}
	}
	return method, at, body, nil
}

func (x *exchange) sendParams(op operation) sendParams {
	form, in := x.door.form(), x.in
	m := wireMessage{MessageID: in.Message.ID, Role: string(in.Message.Role), ContextID: in.ContextID, TaskID: in.RemoteTaskID}
	c := configuration{AcceptedOutputModes: outputModes}
	parts := form.Parts(in.Message.Parts)
	switch form {
	case a2awire.V10:
		m.Role, m.Parts = "ROLE_"+strings.ToUpper(m.Role), parts
	case a2awire.Proto03:
		m.Role, m.Content, c.Blocking = "ROLE_"+strings.ToUpper(m.Role), parts, &blocking
	default:
		m.Kind, m.Parts, c.Blocking = "message", parts, &blocking
	}
	if push := x.push(op); push != nil {
		switch form {
		case a2awire.V10:
			push.Authentication.Scheme, c.Push10 = bearer, push
		case a2awire.Proto03:
			push.Authentication.Schemes, c.PushP3 = []string{bearer}, push
		default:
			push.Authentication.Schemes, c.Push03 = []string{bearer}, push
		}
	}
	if in.SkillID != "" {
		m.Metadata = &metadata{SkillID: in.SkillID}
	}
	return sendParams{Tenant: x.door.tenant, Message: m, Configuration: c, Metadata: metadata{in.TaskID, in.SkillID}}
}

const bearer = "Bearer"

// calls tells whether the agent is given a place to call back at. One that is listened to need not call.
func (x *exchange) calls(op operation) bool {
	return op == opSend && x.in.CallBack != nil && x.peer.pushes && !x.uncalled
}

// push is that place; its id is the same for all messages of a task, so that the agent keeps one.
func (x *exchange) push(op operation) *pushConfig {
	if !x.calls(op) {
		return nil
	}
	to := x.in.CallBack
	return &pushConfig{ID: x.in.TaskID, URL: to.URL, Token: to.Token, Authentication: authentication{Credentials: to.Token}}
}

// path is where an operation is over HTTP+JSON.
func (x *exchange) path(op operation) (method, at string) {
	base, query, asks := strings.Cut(x.door.url, "?")
	base = strings.TrimRight(base, "/")
	if x.door.tenant != "" {
		base += "/" + url.PathEscape(x.door.tenant)
	}
	if x.door.dialect == rest03 {
		base += "/v1"
	}
	method = http.MethodPost
	id := "/tasks/" + url.PathEscape(x.in.RemoteTaskID)
	switch op {
	case opSend:
		at = base + "/message:send"
	case opStream:
		at = base + "/message:stream"
	case opGet:
		method, at = http.MethodGet, base+id
		query, asks = strings.Trim(query+"&historyLength="+strconv.Itoa(historyLength), "&"), true
	case opCancel:
		at = base + id + ":cancel"
	case opSubscribe:
		at = base + id + ":subscribe"
	}
	if asks {
		at += "?" + query
	}
	return method, at
}
