package a2agateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/nexus-protocol/nexus/adapters/internal/strictjson"
	"github.com/nexus-protocol/nexus/domain/fault"
)

// Codes of JSON-RPC and of A2A.
const (
	codeParse          = -32700
	codeRequest        = -32600
	codeMethod         = -32601
	codeParams         = -32602
	codeInternal       = -32603
	codeServer         = -32000
	codeTaskNotFound   = -32001
	codeNotCancelable  = -32002
	codePush           = -32003
	codeUnsupported    = -32004
	codeContentType    = -32005
	codeAgentAnswer    = -32006
	codeExtendedCard   = -32007
	codeVersion        = -32009
	codeUnauthorized   = -31401
	codeForbidden      = -31403
	errorInfo          = "type.googleapis.com/google.rpc.ErrorInfo"
	badRequest         = "type.googleapis.com/google.rpc.BadRequest"
	errorDomain        = "a2a-protocol.org"
	errorDomainOfOurs  = "nexus"
	maxRequest         = 1 << 20
	retryAfterFallback = "1"
)

// rpcError is JSON-RPC's error, and Go's.
type rpcError struct {
	Code    int      `json:"code"`
	Message string   `json:"message"`
	Data    []object `json:"data,omitempty"`

	status int    // HTTP's; 0 is 200
	retry  string // seconds, for Retry-After
}

// Error implements error.
func (e *rpcError) Error() string { return fmt.Sprintf("%d %s", e.Code, e.Message) }

var errNoID = &rpcError{Code: codeRequest, Message: "a request has an id, which is a string or a whole number"}

func invalid(path, message string) *rpcError {
	return &rpcError{Code: codeParams, Message: path + " " + message}
}

// reasons are A2A's names of its codes.
var reasons = map[int]string{
	codeTaskNotFound: "TASK_NOT_FOUND", codeNotCancelable: "TASK_NOT_CANCELABLE", codePush: "PUSH_NOTIFICATION_NOT_SUPPORTED",
	codeUnsupported: "UNSUPPORTED_OPERATION", codeContentType: "CONTENT_TYPE_NOT_SUPPORTED", codeAgentAnswer: "INVALID_AGENT_RESPONSE",
	codeExtendedCard: "EXTENDED_AGENT_CARD_NOT_CONFIGURED", codeVersion: "VERSION_NOT_SUPPORTED",
}

// explain adds what machines read: google.rpc's ErrorInfo, under A2A's name of the code where it has one, else under ours.
func (e *rpcError) explain(f *fault.Error) *rpcError {
	out := *e
	info := object{"@type": errorInfo, "reason": reasons[e.Code], "domain": errorDomain}
	metadata := object{} // of texts only
	if f != nil {
		if info["reason"] == "" {
			info["reason"], info["domain"] = f.Code, errorDomainOfOurs
		} else {
			metadata["nexusCode"] = f.Code
		}
		for k, v := range f.Details {
			if k != "fields" {
				metadata[k] = fmt.Sprint(v)
			}
		}
	}
	if info["reason"] == "" {
		return &out
	}
	if len(metadata) > 0 {
		info["metadata"] = metadata
	}
	out.Data = append(out.Data, info)
	if f == nil {
		return &out
	}
	if fields, ok := f.Details["fields"].([]fault.Field); ok {
		wrong := make([]object, 0, len(fields))
		for _, w := range fields {
			wrong = append(wrong, object{"field": w.Path, "description": w.Message})
		}
		out.Data = append(out.Data, object{"@type": badRequest, "fieldViolations": wrong})
	}
	return &out
}

// codes of ours that A2A has one for.
var codes = map[fault.Code]int{
	fault.CodeTaskNotFound: codeTaskNotFound, fault.CodeValidation: codeParams, fault.CodeAgentNotFound: codeParams, fault.CodeUnauthorized: codeUnauthorized,
	fault.CodeForbidden: codeForbidden, fault.CodeTaskNotActive: codeUnsupported, fault.CodeProtocol: codeAgentAnswer,
}

// errorOf translates a refusal. What is not meant for callers is opaque; internal tells that it must be logged.
func errorOf(err error) (out *rpcError, internal bool) {
	if errors.As(err, &out) {
		return out.explain(nil), false
	}
	f, ok := fault.As(err)
	if !ok || f.Kind == fault.Internal {
		return &rpcError{Code: codeInternal, Message: "internal error"}, true
	}
	out = &rpcError{Code: codeServer, Message: f.Message}
	if code, ok := codes[f.Code]; ok {
		out.Code = code
	}
	out = out.explain(f)
	switch f.Kind {
	case fault.Unauthenticated:
		out.status = http.StatusUnauthorized
	case fault.Forbidden:
		out.status = http.StatusForbidden
	case fault.RateLimited:
		out.status, out.retry = http.StatusTooManyRequests, retryAfterFallback
		if after, ok := f.Details["retryAfter"]; ok {
			out.retry = fmt.Sprint(after)
		}
	case fault.Unavailable:
		out.status = http.StatusServiceUnavailable
	default:
	}
	return out, false
}

// request is one call.
type request struct {
	id     json.RawMessage
	method string
	params fields
	// nameless is a request without an id, which is answered with what is wrong with it.
	nameless bool
}

// readRequest reads a JSON-RPC request. What can be told of its id is there with an error too.
func readRequest(body []byte) (request, error) {
	req := request{id: json.RawMessage("null")}
	if err := strictjson.Check(body); err != nil {
		var strict *strictjson.Error
		if !errors.As(err, &strict) || !json.Valid(body) {
			return req, &rpcError{Code: codeParse, Message: "the body is not JSON"}
		}
		return req, &rpcError{Code: codeRequest, Message: "the body cannot be taken: " + err.Error()}
	}
	if trimmed := bytes.TrimSpace(body); trimmed[0] == '[' {
		return req, &rpcError{Code: codeRequest, Message: "batches are not served; send one request at a time"}
	}
	var f fields
	if json.Unmarshal(body, &f) != nil || f == nil {
		return req, &rpcError{Code: codeRequest, Message: "send one JSON-RPC request"}
	}
	id, ok := f["id"]
	switch {
	case !ok:
		req.nameless = true
	case id[0] == '"', !bytes.ContainsAny(id[:1], "{[tf") && !bytes.ContainsAny(id, ".eE"):
		req.id = id
	default:
		return req, errNoID
	}
	var version string
	if json.Unmarshal(f["jsonrpc"], &version) != nil || version != "2.0" {
		return req, &rpcError{Code: codeRequest, Message: `a request has "jsonrpc": "2.0"`}
	}
	if json.Unmarshal(f["method"], &req.method) != nil || req.method == "" {
		return req, &rpcError{Code: codeRequest, Message: "a request has a method"}
	}
	if bytes.Contains(body, []byte(`\u0000`)) {
		return req, &rpcError{Code: codeParams, Message: "params must not hold NUL characters"}
	}
	if raw, ok := f["params"]; ok && string(raw) != "null" && json.Unmarshal(raw, &req.params) != nil {
		return req, &rpcError{Code: codeParams, Message: "params must be an object"}
	}
	return req, nil
}
