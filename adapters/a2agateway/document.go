package a2agateway

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

// Route is a route that the gateway serves, with what an OpenAPI document says of it. None asks for a credential; the
// gateway itself does where one is needed.
type Route struct {
	Method, Path string // in the form of net/http's patterns
	Slash        bool   // the path is served with a final slash too
	Handler      http.Handler
	ID           string
	Tag, TagText string
	Summary      string
	Text         string
	Params       map[string]string // what the parameters of the path and the headers mean, by name
	Body         any               // of the type of the JSON body; nil if there is none
	Answers      map[int]any       // by status: of the type of the JSON that is answered; nil if there is none
	Says         map[int]string    // what each means
	Events       any               // of the type of the events that may be answered instead; nil if there are none
}

// Routes are what the gateway serves.
func (g *Gateway) Routes() []Route {
	out := routes()
	for i := range out {
		out[i].Handler = g
	}
	return out
}

// Patterns are the patterns of Routes, for net/http.
func Patterns() []string {
	var out []string
	for _, r := range routes() {
		out = append(out, r.Method+" "+r.Path)
		if r.Slash {
			out = append(out, r.Method+" "+r.Path+"/{$}")
		}
	}
	return out
}

// What goes over the wire, as it is documented. Fields are also taken in snake_case.
type (
	a2aRequest struct {
		JSONRPC string    `json:"jsonrpc" enum:"2.0"`
		ID      any       `json:"id" doc:"A string or a whole number, which the answer has too."`
		Method  string    `json:"method" doc:"One of those above. Its name tells the version of A2A."`
		Params  a2aParams `json:"params"`
	}
	a2aParams struct {
		Message         *a2aMessage       `json:"message,omitempty" doc:"What is sent. Of sending and streaming."`
		Configuration   *a2aConfiguration `json:"configuration,omitempty" doc:"Of sending and streaming."`
		Metadata        *a2aAddress       `json:"metadata,omitempty" doc:"Whom a message is for, at the open door."`
		AssignedAgentID string            `json:"assignedAgentId,omitempty" doc:"The same, in the form of the API reference."`
		ID              string            `json:"id,omitempty" doc:"A task's id. Of all that is about one task."`
		HistoryLength   *int              `json:"historyLength,omitempty" minimum:"0" doc:"How many of the newest messages are wanted; all without it."`
		TaskID          string            `json:"taskId,omitempty" doc:"A task's id. Of push-notification configurations, whose other fields are as A2A has them."`
		ContextID       string            `json:"contextId,omitempty" doc:"Of lists: only tasks of this context."`
		Status          string            `json:"status,omitempty" doc:"Of lists: only tasks in this state."`
		PageSize        *int              `json:"pageSize,omitempty" minimum:"1" maximum:"100" doc:"Of lists: 50 without it."`
		PageToken       string            `json:"pageToken,omitempty" doc:"Of lists: the nextPageToken of the page before."`
		IncludeArtifact bool              `json:"includeArtifacts,omitempty" doc:"Of lists."`
	}
	a2aAddress struct {
		AgentID   string   `json:"agentId,omitempty" doc:"The agent."`
		SkillID   string   `json:"skillId,omitempty" doc:"Or a skill: the most trusted agent that is online and has it."`
		SkillTags []string `json:"skillTags,omitempty" doc:"Or any of these tags."`
	}
	a2aConfiguration struct {
		Blocking          *bool `json:"blocking,omitempty" doc:"0.3: false answers at once."`
		ReturnImmediately bool  `json:"returnImmediately,omitempty" doc:"1.0: the same."`
		HistoryLength     *int  `json:"historyLength,omitempty" minimum:"0"`

		PushNotificationConfig     map[string]any `json:"pushNotificationConfig,omitempty" doc:"0.3: where to send push notifications: url, token, authentication."`
		TaskPushNotificationConfig map[string]any `json:"taskPushNotificationConfig,omitempty" doc:"1.0: the same."`
	}
	a2aMessage struct {
		Kind      string         `json:"kind,omitempty" doc:"0.3: message."`
		MessageID string         `json:"messageId" doc:"The sender's own. The same one from the same caller is the same task for 24 hours."`
		Role      string         `json:"role" enum:"user,agent,ROLE_USER,ROLE_AGENT"`
		Parts     []a2aPart      `json:"parts"`
		TaskID    string         `json:"taskId,omitempty" doc:"The open task that it goes on with."`
		ContextID string         `json:"contextId,omitempty" doc:"The caller's name for what belongs together."`
		Metadata  map[string]any `json:"metadata,omitempty"`
	}
	a2aPart struct {
		Kind      string         `json:"kind,omitempty" enum:"text,data,file" doc:"0.3."`
		Type      string         `json:"type,omitempty" enum:"text,data,file" doc:"In the {type, data} form, instead of kind."`
		Text      string         `json:"text,omitempty"`
		Data      any            `json:"data,omitempty" doc:"Any JSON; in the {type, data} form what the type says."`
		File      *a2aFile       `json:"file,omitempty" doc:"0.3."`
		Raw       string         `json:"raw,omitempty" doc:"1.0: a file's bytes in base64."`
		URL       string         `json:"url,omitempty" doc:"1.0: where a file is."`
		Filename  string         `json:"filename,omitempty" doc:"1.0."`
		MediaType string         `json:"mediaType,omitempty" doc:"1.0."`
		Metadata  map[string]any `json:"metadata,omitempty"`
	}
	a2aFile struct {
		Name     string `json:"name,omitempty"`
		MimeType string `json:"mimeType,omitempty"`
		Bytes    string `json:"bytes,omitempty" doc:"In base64; or uri."`
		URI      string `json:"uri,omitempty"`
	}
	a2aAnswer struct {
		JSONRPC string     `json:"jsonrpc" enum:"2.0"`
		ID      any        `json:"id" doc:"The request's; null if it could not be read."`
		Result  *a2aResult `json:"result,omitempty" doc:"In the form of the version that asked. In 1.0 what is sent is answered with task or message in it, and events come as task, message, statusUpdate or artifactUpdate; in 0.3 they stand for themselves, and kind says what they are."`
		Error   *a2aError  `json:"error,omitempty" doc:"Instead of a result."`
	}
	a2aResult struct {
		Kind      string         `json:"kind,omitempty" doc:"0.3: task, message, status-update or artifact-update."`
		ID        string         `json:"id,omitempty" doc:"Of a task that stands for itself, and so on."`
		ContextID string         `json:"contextId,omitempty"`
		Status    *a2aStatus     `json:"status,omitempty"`
		Artifacts []a2aArtifact  `json:"artifacts,omitempty"`
		History   []a2aMessage   `json:"history,omitempty"`
		Metadata  map[string]any `json:"metadata,omitempty"`

		Task           *a2aTask    `json:"task,omitempty"`
		Message        *a2aMessage `json:"message,omitempty"`
		StatusUpdate   *a2aUpdate  `json:"statusUpdate,omitempty"`
		ArtifactUpdate *a2aUpdate  `json:"artifactUpdate,omitempty"`

		Tasks         []a2aTask `json:"tasks,omitempty" doc:"Of a list, newest first."`
		NextPageToken *string   `json:"nextPageToken,omitempty" doc:"Of a list; empty on the last page."`
		PageSize      *int      `json:"pageSize,omitempty"`
		TotalSize     *int      `json:"totalSize,omitempty"`
	}
	a2aTask struct {
		Kind      string         `json:"kind,omitempty" doc:"0.3."`
		ID        string         `json:"id,omitempty"`
		ContextID string         `json:"contextId,omitempty"`
		Status    *a2aStatus     `json:"status,omitempty"`
		Artifacts []a2aArtifact  `json:"artifacts,omitempty"`
		History   []a2aMessage   `json:"history,omitempty"`
		Metadata  map[string]any `json:"metadata,omitempty"`
	}
	a2aStatus struct {
		State     string      `json:"state" doc:"submitted, working, input-required, completed, failed or canceled; in 1.0 TASK_STATE_SUBMITTED and so on."`
		Message   *a2aMessage `json:"message,omitempty"`
		Timestamp string      `json:"timestamp,omitempty"`
	}
	a2aArtifact struct {
		ArtifactID  string    `json:"artifactId"`
		Name        string    `json:"name,omitempty"`
		Description string    `json:"description,omitempty"`
		Parts       []a2aPart `json:"parts"`
	}
	a2aUpdate struct {
		TaskID    string       `json:"taskId"`
		ContextID string       `json:"contextId"`
		Status    *a2aStatus   `json:"status,omitempty"`
		Artifact  *a2aArtifact `json:"artifact,omitempty"`
		Append    bool         `json:"append,omitempty"`
		LastChunk bool         `json:"lastChunk,omitempty"`
	}
	a2aError struct {
		Code    int              `json:"code" doc:"JSON-RPC's or A2A's; see above."`
		Message string           `json:"message"`
		Data    []map[string]any `json:"data,omitempty" doc:"google.rpc's ErrorInfo and BadRequest."`
	}
	a2aCard struct {
		Name                string            `json:"name"`
		Description         string            `json:"description"`
		Version             string            `json:"version"`
		URL                 string            `json:"url,omitempty" doc:"0.3."`
		ProtocolVersion     string            `json:"protocolVersion,omitempty" doc:"0.3."`
		PreferredTransport  string            `json:"preferredTransport,omitempty" doc:"0.3."`
		SupportedInterfaces []a2aInterface    `json:"supportedInterfaces" doc:"1.0."`
		Capabilities        map[string]any    `json:"capabilities"`
		DefaultInputModes   []string          `json:"defaultInputModes"`
		DefaultOutputModes  []string          `json:"defaultOutputModes"`
		Skills              []map[string]any  `json:"skills"`
		SecuritySchemes     map[string]any    `json:"securitySchemes,omitempty"`
		Signatures          []map[string]any  `json:"signatures,omitempty" doc:"JWS over RFC 8785, by the keys at /.well-known/jwks.json."`
		Provider            map[string]string `json:"provider,omitempty"`
	}
	a2aInterface struct {
		URL             string `json:"url"`
		ProtocolBinding string `json:"protocolBinding"`
		ProtocolVersion string `json:"protocolVersion"`
	}
	a2aKeys struct {
		Keys []map[string]any `json:"keys" doc:"JSON Web Keys (RFC 7517)."`
	}
	a2aNotification struct {
		Kind           string         `json:"kind,omitempty" doc:"0.3."`
		ID             string         `json:"id,omitempty" doc:"0.3: the agent's id of the task."`
		Status         map[string]any `json:"status,omitempty" doc:"0.3."`
		Task           map[string]any `json:"task,omitempty" doc:"1.0."`
		Message        map[string]any `json:"message,omitempty" doc:"1.0."`
		StatusUpdate   map[string]any `json:"statusUpdate,omitempty" doc:"1.0."`
		ArtifactUpdate map[string]any `json:"artifactUpdate,omitempty" doc:"1.0."`
	}
	a2aRefusal struct {
		Error a2aRefused `json:"error"`
	}
	a2aRefused struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
)

const (
	tag     = "A2A"
	tagText = "The engine's agents for any client of A2A, in versions 0.3 and 1.0 and in the {type, data} form, by JSON-RPC 2.0 over one URL."

	tagAgent     = "A2A agents"
	tagAgentText = "The same with a door and a card for each agent, which is how clients that know nothing of this engine reach one."

	textCodes = "Errors are JSON-RPC's, with HTTP 200 unless one of the statuses below says more: -32700 no JSON, -32600 no request, -32601 no such method, -32602 wrong params (or no such agent), -32603 our failure; " +
		"A2A's -32001 no such task, -32002 not cancelable, -32003 no push notifications, -32004 unsupported, -32005 content type, -32006 the agent's answer cannot be used, -32007 no extended card, -32009 version; and -32000 for the rest, with ErrorInfo in data, -31401 no or a wrong key, -31403 not allowed."
	headerVersion = "0.3 or 1.0; without it 0.3. Methods are told apart by their names anyway."
	noAgent       = "AGENT_NOT_FOUND: no such agent."
	noKey         = "UNAUTHORIZED: no or a wrong key."
	noScope       = "FORBIDDEN: the key may not read agents."
	headerKey     = "Bearer and an API key: for agents with a price, lists and extended cards."
)

func routes() []Route {
	var once, streams []string
	for _, name := range slices.Sorted(maps.Keys(methods)) {
		if methods[name].stream {
			streams = append(streams, name)
		} else {
			once = append(once, name)
		}
	}
	text := "Methods: " + strings.Join(once, ", ") + "; and, answered with server-sent events, " + strings.Join(streams, ", ") + ".\n\n" + textCodes
	refused := map[int]string{
		http.StatusUnauthorized: "A key is needed, or does not hold.", http.StatusForbidden: "The key does not allow it.", http.StatusRequestEntityTooLarge: "Over 1 MiB, or cut off.",
		http.StatusUnsupportedMediaType: "Not application/json.", http.StatusTooManyRequests: "Too many messages; Retry-After says when to come again.", http.StatusServiceUnavailable: "Not now.",
	}
	answers, says := map[int]any{http.StatusOK: a2aAnswer{}}, map[int]string{http.StatusOK: "A result or an error; of the methods that stream, events with one each."}
	for status, why := range refused {
		answers[status], says[status] = a2aAnswer{}, why
	}
	out := []Route{
		{
			Method: http.MethodPost, Path: pathOpen, Slash: true, ID: "a2a", Summary: "Speak to any agent over A2A",
			Text:   "A message says whom it is for, by the first of these: params.metadata.agentId, params.message.metadata.agentId, params.assignedAgentId, or skillId or skillTags in one of the two metadata.\n\n" + text,
			Params: map[string]string{"A2A-Version": headerVersion, "Authorization": headerKey},
			Body:   a2aRequest{}, Answers: answers, Says: says, Events: a2aAnswer{},
		},
		{
			Method: http.MethodPost, Path: pathAgent, Slash: true, ID: "a2a-agent", Summary: "Speak to one agent over A2A", Text: text,
			Params: map[string]string{"agentId": "The agent's id.", "A2A-Version": headerVersion, "Authorization": headerKey},
			Body:   a2aRequest{}, Answers: answers, Says: says, Events: a2aAnswer{},
		},
	}
	const cards = "With A2A-Version 1.0 there is nothing but 1.0 in it, else both versions can read it."
	for _, c := range []struct{ id, path, of string }{
		{"a2a-card", wellKnown, ""}, {"a2a-card-older", olderCard, ""}, {"a2a-card-door", "", pathOpen},
	} {
		path := c.of + c.path
		out = append(out, Route{
			Method: http.MethodGet, Path: path, Slash: c.path == "", ID: c.id, Summary: "The platform's agent card", Text: cards, Params: map[string]string{"A2A-Version": "0.3 or 1.0."},
			Answers: map[int]any{http.StatusOK: a2aCard{}, http.StatusNotModified: nil}, Says: map[int]string{http.StatusOK: "The card.", http.StatusNotModified: "It is as If-None-Match or If-Modified-Since has it."},
		}, Route{
			Method: http.MethodGet, Path: pathAgent + c.path, Slash: c.path == "", ID: c.id + "-agent", Summary: "One agent's card", Text: cards, Params: map[string]string{"agentId": "The agent's id.", "A2A-Version": "0.3 or 1.0."},
			Answers: map[int]any{http.StatusOK: a2aCard{}, http.StatusNotModified: nil, http.StatusNotFound: a2aRefusal{}},
			Says:    map[int]string{http.StatusOK: "The card.", http.StatusNotModified: "It is as If-None-Match or If-Modified-Since has it.", http.StatusNotFound: noAgent},
		})
	}
	const extended = "What the methods for the extended card answer with, where 0.3 has it for those who speak no JSON-RPC."
	out = append(out, Route{
		Method: http.MethodGet, Path: pathOpen + moreCard, Slash: true, ID: "a2a-card-extended", Summary: "The platform's extended agent card", Text: extended + " " + cards,
		Params:  map[string]string{"A2A-Version": "0.3 or 1.0.", "Authorization": headerKey},
		Answers: map[int]any{http.StatusOK: a2aCard{}, http.StatusUnauthorized: a2aRefusal{}, http.StatusForbidden: a2aRefusal{}},
		Says:    map[int]string{http.StatusOK: "The card.", http.StatusUnauthorized: noKey, http.StatusForbidden: noScope},
	}, Route{
		Method: http.MethodGet, Path: pathAgent + moreCard, Slash: true, ID: "a2a-card-extended-agent", Summary: "One agent's extended card", Text: extended + " " + cards,
		Params:  map[string]string{"agentId": "The agent's id.", "A2A-Version": "0.3 or 1.0.", "Authorization": headerKey},
		Answers: map[int]any{http.StatusOK: a2aCard{}, http.StatusUnauthorized: a2aRefusal{}, http.StatusForbidden: a2aRefusal{}, http.StatusNotFound: a2aRefusal{}},
		Says:    map[int]string{http.StatusOK: "The card.", http.StatusUnauthorized: noKey, http.StatusForbidden: noScope, http.StatusNotFound: noAgent},
	})
	out = append(out, Route{
		Method: http.MethodGet, Path: pathKeys, ID: "a2a-keys", Summary: "The keys that cards are signed with",
		Answers: map[int]any{http.StatusOK: a2aKeys{}, http.StatusNotModified: nil}, Says: map[int]string{http.StatusOK: "A JSON Web Key Set.", http.StatusNotModified: "It is as If-None-Match or If-Modified-Since has it."},
	}, Route{
		Method: http.MethodPost, Path: pathCallBack, ID: "a2a-call-back", Summary: "Tell the engine that a task has moved on",
		Text: "For agents: push notifications about a task that the engine has given to them, in the form of A2A 0.3 or 1.0. The engine then asks the agent; nothing else of what it says is believed.",
		Params: map[string]string{
			"taskId": "The engine's id of the task.", "X-A2A-Notification-Token": "The token that the agent was given with the task; or in A2A-Notification-Token, or as a bearer token in Authorization.",
		},
		Body: a2aNotification{},
		Answers: map[int]any{
			http.StatusNoContent: nil, http.StatusBadRequest: a2aRefusal{}, http.StatusUnauthorized: a2aRefusal{}, http.StatusRequestEntityTooLarge: a2aRefusal{},
			http.StatusUnsupportedMediaType: a2aRefusal{}, http.StatusTooManyRequests: a2aRefusal{}, http.StatusInternalServerError: a2aRefusal{}, http.StatusServiceUnavailable: a2aRefusal{},
		},
		Says: map[int]string{
			http.StatusNoContent: "The engine will ask, if the task goes on.", http.StatusBadRequest: "VALIDATION_ERROR: no notification.", http.StatusUnauthorized: "UNAUTHORIZED: no or another token, or no such task.",
			http.StatusRequestEntityTooLarge: "PAYLOAD_TOO_LARGE: over 1 MiB.", http.StatusUnsupportedMediaType: "UNSUPPORTED_MEDIA_TYPE: no JSON.",
			http.StatusTooManyRequests: "RATE_LIMIT_EXCEEDED: over 600 a minute about the task.", http.StatusInternalServerError: "INTERNAL_ERROR", http.StatusServiceUnavailable: "UNAVAILABLE",
		},
	})
	for i := range out {
		out[i].Tag, out[i].TagText = tag, tagText
		if strings.HasPrefix(out[i].Path, pathAgent) {
			out[i].Tag, out[i].TagText = tagAgent, tagAgentText
		}
	}
	return out
}
