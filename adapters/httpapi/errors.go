package httpapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
)

// statuses is the one place where a kind of fault gets its status.
var statuses = map[fault.Kind]int{
	fault.Internal:        http.StatusInternalServerError,
	fault.Invalid:         http.StatusBadRequest,
	fault.Unauthenticated: http.StatusUnauthorized,
	fault.Payment:         http.StatusPaymentRequired,
	fault.Forbidden:       http.StatusForbidden,
	fault.NotFound:        http.StatusNotFound,
	fault.Conflict:        http.StatusConflict,
	fault.TooLarge:        http.StatusRequestEntityTooLarge,
	fault.Unsupported:     http.StatusUnsupportedMediaType,
	fault.RateLimited:     http.StatusTooManyRequests,
	fault.BadGateway:      http.StatusBadGateway,
	fault.Unavailable:     http.StatusServiceUnavailable,
}

// kinds says for the documentation which kind each code is of, and when it is answered.
var kinds = map[fault.Code]struct {
	kind fault.Kind
	when string
}{
	fault.CodeValidation:           {fault.Invalid, "a field is missing, malformed or out of range; details.fields names every one"},
	fault.CodeUnauthorized:         {fault.Unauthenticated, "no, unknown, expired or revoked credential"},
	fault.CodeInsufficientCredits:  {fault.Payment, "the available balance is below the price; details.required, details.available, and details.debt for one who owes"},
	fault.CodeForbidden:            {fault.Forbidden, "not the caller's, or the key lacks a scope (details.requiredScope), or another site's page asks"},
	fault.CodeTrustThreshold:       {fault.Forbidden, "the agent is below the minTrustScore that was asked for"},
	fault.CodeAgentNotFound:        {fault.NotFound, "no such agent"},
	fault.CodeTaskNotFound:         {fault.NotFound, "no such task, or none of the caller's business"},
	fault.CodeWorkflowNotFound:     {fault.NotFound, "no such workflow"},
	fault.CodeRunNotFound:          {fault.NotFound, "no such run"},
	fault.CodeAPIKeyNotFound:       {fault.NotFound, "no such key of this agent, or revoked already"},
	fault.CodeNotFound:             {fault.NotFound, "no such route, or nothing there of that id or name"},
	fault.CodeMethodNotAllowed:     {fault.NotFound, "the route has no such method; the Allow header lists those it has"},
	fault.CodeTaskNotActive:        {fault.Conflict, "the task has ended"},
	fault.CodeAlreadyRated:         {fault.Conflict, "the task has been rated"},
	fault.CodeIdempotencyConflict:  {fault.Conflict, "the Idempotency-Key was used with another body"},
	fault.CodeEmailTaken:           {fault.Conflict, "there is an account with this e-mail"},
	fault.CodePayloadTooLarge:      {fault.TooLarge, "the body is over 1 MiB"},
	fault.CodeUnsupportedMediaType: {fault.Unsupported, "the body is not application/json"},
	fault.CodeRateLimitExceeded:    {fault.RateLimited, "too many requests, or too many streams of the caller's open; details.retryAfter and the Retry-After header say how many seconds to wait"},
	fault.CodeInternal:             {fault.Internal, "a fault of the server; details.requestId helps its operator to find it"},
	fault.CodeProtocol:             {fault.BadGateway, "an agent's answer could not be used"},
	fault.CodeAgentOffline:         {fault.Unavailable, "the agent is offline"},
	fault.CodePaymentsUnset:        {fault.Unavailable, "this server takes no payments"},
	fault.CodeUnavailable:          {fault.Unavailable, "the server cannot serve now; the Retry-After header may say how many seconds to wait"},
}

// statusOf is the status of a fault. A method that a route does not have is the one that HTTP has a status of its own for.
func statusOf(kind fault.Kind, code fault.Code) int {
	if code == fault.CodeMethodNotAllowed {
		return http.StatusMethodNotAllowed
	}
	return cmp.Or(statuses[kind], http.StatusInternalServerError)
}

// errorJSON is the answer of every request that fails.
type errorJSON struct {
	Error errorBodyJSON `json:"error"`
}

type errorBodyJSON struct {
	Code    errorCode      `json:"code" doc:"For programs; it stays the same."`
	Message string         `json:"message" doc:"For people: what to do about it."`
	Details map[string]any `json:"details,omitempty" doc:"What else there is to say, depending on the code."`
}

type errorCode fault.Code

// Schema implements huma.SchemaProvider.
func (errorCode) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, c := range fault.Codes() {
		s.Enum = append(s.Enum, string(c))
	}
	return s
}

type fieldJSON struct {
	Path    string `json:"path"`
	Message string `json:"message"`
}

// classify turns any error into what the caller may see of it. What was not classified, or is the engine's own fault, is
// logged with its cause and shown without.
func (s *server) classify(ctx context.Context, x *exchange, err error) *fault.Error {
	f := join(err)
	switch {
	case f != nil && f.Kind != fault.Internal:
		return f
	case errors.Is(err, context.Canceled) && ctx.Err() != nil: // nobody is there to read it
		return fault.New(fault.Unavailable, fault.CodeUnavailable, "the request was given up")
	}
	s.log.LogAttrs(ctx, slog.LevelError, "request failed",
		slog.String("error", err.Error()), slog.String("route", x.pattern), slog.String("request_id", x.id))
	return internalFault(x)
}

func internalFault(x *exchange) *fault.Error {
	return fault.New(fault.Internal, fault.CodeInternal, "something went wrong on the server; try again, and tell its operator the request id if it stays").
		With("requestId", x.id)
}

// join returns the fault in an error's chain. Where several validation faults were joined, it is one of all their fields.
func join(err error) *fault.Error {
	var all []*fault.Error
	var walk func(error)
	walk = func(err error) {
		switch e := err.(type) { //nolint:errorlint // this is what walks the chain
		case *fault.Error:
			all = append(all, e)
		case interface{ Unwrap() error }:
			walk(e.Unwrap())
		case interface{ Unwrap() []error }:
			for _, e := range e.Unwrap() {
				walk(e)
			}
		}
	}
	walk(err)
	if len(all) < 2 {
		if len(all) == 0 {
			return nil
		}
		return all[0]
	}
	var bad fault.Fields
	for _, f := range all {
		fields, ok := f.Details["fields"].([]fault.Field)
		if !ok {
			return all[0]
		}
		for _, field := range fields {
			bad.Add(field.Path, "%s", field.Message)
		}
	}
	merged, _ := fault.As(bad.Err())
	return merged
}

// fail answers with an error.
func (s *server) fail(x *exchange, r *http.Request, err error) {
	if x.status != 0 { // the answer has begun; all that is left is to break it off
		_ = s.classify(r.Context(), x, err) // for the log
		panic(http.ErrAbortHandler)
	}
	status, body := s.errorAnswer(r.Context(), x, err)
	x.WriteHeader(status)
	_, _ = x.Write(body) // whoever does not read it is gone
}

// errorAnswer sets the headers of the answer to a request that failed, and returns the rest of it.
func (s *server) errorAnswer(ctx context.Context, x *exchange, err error) (status int, body []byte) {
	f := s.classify(ctx, x, err)
	status = statusOf(f.Kind, f.Code)
	h := x.Header()
	h.Set("Content-Type", typeJSON)
	switch status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", "Bearer")
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		if wait, ok := f.Details["retryAfter"].(int); ok {
			h.Set("Retry-After", strconv.Itoa(wait))
		}
	}
	body, err = encode(errorJSON{errorBodyJSON{Code: errorCode(f.Code), Message: f.Message, Details: detailsJSON(f.Details)}})
	if err != nil { // a detail that is no JSON; the rest still says what to do
		s.log.ErrorContext(ctx, "details of an error cannot be shown", "error", err, "code", f.Code)
		body, _ = encode(errorJSON{errorBodyJSON{Code: errorCode(f.Code), Message: f.Message}})
	}
	return status, body
}

// detailsJSON puts the domain's types into their form on the wire.
func detailsJSON(in map[string]any) map[string]any {
	if len(in) == 0 {
		return nil
	}
	out := make(map[string]any, len(in))
	for k, v := range in {
		switch v := v.(type) {
		case []fault.Field:
			out[k] = convert(v, func(f fault.Field) fieldJSON { return fieldJSON(f) })
		case credits.Amount:
			out[k] = amount(v)
		default:
			out[k] = v
		}
	}
	return out
}

// errorResponses are the documented answers for the codes: one for each status, which names its codes.
func errorResponses(codes []fault.Code, schema *huma.Schema) map[string]*huma.Response {
	byStatus := map[int][]fault.Code{}
	for _, c := range fault.Codes() { // in the order of the table
		if slices.Contains(codes, c) {
			status := statusOf(kinds[c].kind, c)
			byStatus[status] = append(byStatus[status], c)
		}
	}
	out := map[string]*huma.Response{}
	for status, codes := range byStatus {
		text := ""
		for i, c := range codes {
			if i > 0 {
				text += "; "
			}
			text += fmt.Sprintf("%s: %s", c, kinds[c].when)
		}
		out[strconv.Itoa(status)] = &huma.Response{
			Description: text,
			Content:     map[string]*huma.MediaType{typeJSON: {Schema: schema}},
			Extensions:  map[string]any{extCodes: codes},
		}
	}
	return out
}
