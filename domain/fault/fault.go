// Package fault holds the one error type of the domain: a kind that adapters map to their protocol's status, a stable
// code for programs, a message for people that says what to do, and details.
package fault

import (
	"errors"
	"fmt"
)

// Kind classifies an error by what the caller can do about it. Adapters map kinds, never codes, to their own statuses.
type Kind uint8

// The kinds of fault. Internal is the zero value, so that an unclassified error never looks like the caller's mistake.
const (
	Internal        Kind = iota // a bug or a broken dependency; nothing of it is shown to the caller
	Invalid                     // the request itself is wrong; details.fields says where
	Unauthenticated             // no credential, or none that holds
	Payment                     // the available balance does not cover the price
	Forbidden                   // a known caller who may not
	NotFound                    // it does not exist, or must look so to this caller
	Conflict                    // the state of things forbids it now
	TooLarge                    // more bytes than the limit
	Unsupported                 // a media type that is not served
	RateLimited                 // too many requests; details.retryAfter says how long to wait
	BadGateway                  // an agent's answer could not be used
	Unavailable                 // cannot be done now; may be later
)

// Code is the stable, machine-readable name of a fault in the API.
type Code string

// Every code that the engine answers with. The OpenAPI document lists them and a test demands a status for each.
const (
	CodeValidation           Code = "VALIDATION_ERROR"
	CodeUnauthorized         Code = "UNAUTHORIZED"
	CodeInsufficientCredits  Code = "INSUFFICIENT_CREDITS"
	CodeForbidden            Code = "FORBIDDEN"
	CodeTrustThreshold       Code = "TRUST_THRESHOLD_NOT_MET"
	CodeAgentNotFound        Code = "AGENT_NOT_FOUND"
	CodeTaskNotFound         Code = "TASK_NOT_FOUND"
	CodeWorkflowNotFound     Code = "WORKFLOW_NOT_FOUND"
	CodeRunNotFound          Code = "RUN_NOT_FOUND"
	CodeAPIKeyNotFound       Code = "API_KEY_NOT_FOUND"
	CodeNotFound             Code = "NOT_FOUND"
	CodeMethodNotAllowed     Code = "METHOD_NOT_ALLOWED"
	CodeTaskNotActive        Code = "TASK_NOT_ACTIVE"
	CodeAlreadyRated         Code = "ALREADY_RATED"
	CodeIdempotencyConflict  Code = "IDEMPOTENCY_CONFLICT"
	CodeEmailTaken           Code = "EMAIL_TAKEN"
	CodePayloadTooLarge      Code = "PAYLOAD_TOO_LARGE"
	CodeUnsupportedMediaType Code = "UNSUPPORTED_MEDIA_TYPE"
	CodeRateLimitExceeded    Code = "RATE_LIMIT_EXCEEDED"
	CodeInternal             Code = "INTERNAL_ERROR"
	CodeProtocol             Code = "PROTOCOL_ERROR"
	CodeAgentOffline         Code = "AGENT_OFFLINE"
	CodePaymentsUnset        Code = "PAYMENTS_NOT_CONFIGURED"
	CodeUnavailable          Code = "UNAVAILABLE"
)

// Codes lists every code, in the order of the API's table.
func Codes() []Code {
	return []Code{
		CodeValidation, CodeUnauthorized, CodeInsufficientCredits, CodeForbidden, CodeTrustThreshold,
		CodeAgentNotFound, CodeTaskNotFound, CodeWorkflowNotFound, CodeRunNotFound, CodeAPIKeyNotFound, CodeNotFound,
		CodeMethodNotAllowed, CodeTaskNotActive, CodeAlreadyRated, CodeIdempotencyConflict, CodeEmailTaken,
		CodePayloadTooLarge, CodeUnsupportedMediaType, CodeRateLimitExceeded, CodeInternal, CodeProtocol,
		CodeAgentOffline, CodePaymentsUnset, CodeUnavailable,
	}
}

// Error is a fault. It is immutable; With returns a copy.
type Error struct {
	Kind    Kind
	Code    Code
	Message string
	Details map[string]any // shown to the caller; never secrets or internals
}

// New makes a fault. The message says what to do about it.
func New(kind Kind, code Code, format string, args ...any) *Error {
	return &Error{Kind: kind, Code: code, Message: fmt.Sprintf(format, args...)}
}

// Error implements error.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Is makes errors.Is(err, target) true for a target fault of the same code.
func (e *Error) Is(target error) bool {
	var t *Error
	return errors.As(target, &t) && t.Code == e.Code
}

// With returns a copy that carries one more detail.
func (e *Error) With(key string, value any) *Error {
	c := *e
	c.Details = make(map[string]any, len(e.Details)+1)
	for k, v := range e.Details {
		c.Details[k] = v
	}
	c.Details[key] = value
	return &c
}

// As returns the fault in err's chain. ok is false for an error that was never classified.
func As(err error) (fault *Error, ok bool) {
	ok = errors.As(err, &fault)
	return fault, ok
}

// Has reports whether err is a fault with the code.
func Has(err error, code Code) bool {
	f, ok := As(err)
	return ok && f.Code == code
}

// Field names one wrong field of a request.
type Field struct {
	Path    string // such as steps[2].dependsOn[0]
	Message string
}

// Fields collects every wrong field of a request, so that a caller hears of all of them at once.
type Fields struct{ list []Field }

// Add notes one wrong field.
func (f *Fields) Add(path, format string, args ...any) {
	f.list = append(f.list, Field{Path: path, Message: fmt.Sprintf(format, args...)})
}

// Check notes the field when ok is false.
func (f *Fields) Check(ok bool, path, format string, args ...any) {
	if !ok {
		f.Add(path, format, args...)
	}
}

// Err returns nil when nothing was noted, else one VALIDATION_ERROR whose details.fields ([]Field) has them all.
func (f *Fields) Err() error {
	if len(f.list) == 0 {
		return nil
	}
	msg := f.list[0].Path + ": " + f.list[0].Message
	if n := len(f.list); n > 1 {
		msg = fmt.Sprintf("%s (and %d more, see details.fields)", msg, n-1)
	}
	return New(Invalid, CodeValidation, "%s", msg).With("fields", append([]Field(nil), f.list...))
}

// NotFoundf is the fault of a thing that does not exist, such as AGENT_NOT_FOUND "Agent not found: <id>".
func NotFoundf(code Code, what, id string) *Error {
	return New(NotFound, code, "%s not found: %s", what, id)
}
