package a2agateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/nexus-protocol/nexus/adapters/internal/strictjson"
	"github.com/nexus-protocol/nexus/domain/fault"
)

// pathCallBack is where agents say that a task that they were given has moved on: push notifications to the engine.
const pathCallBack = "/api/v1/a2a/callbacks/{taskId}"

// CallBackURL is where an agent can call back about a task, on a server that is reached from outside by publicURL.
func CallBackURL(publicURL, taskID string) string {
	return strings.TrimRight(publicURL, "/") + strings.Replace(pathCallBack, "{taskId}", url.PathEscape(taskID), 1)
}

// tokenHeaders are where SDKs put the token, besides Authorization.
var tokenHeaders = []string{"X-A2A-Notification-Token", "A2A-Notification-Token"}

func shownToken(r *http.Request) string {
	for _, name := range tokenHeaders {
		if token := r.Header.Get(name); token != "" {
			return token
		}
	}
	if scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	return ""
}

// serveCallBack takes a push notification. Of what it says nothing is believed: the engine asks the agent.
func (g *Gateway) serveCallBack(w http.ResponseWriter, r *http.Request) {
	err := readNotification(w, r)
	if err == nil {
		err = g.engine.Gateway.CalledBack(r.Context(), strings.ToLower(r.PathValue("taskId")), shownToken(r))
	}
	if err != nil {
		g.refusePlainly(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// statuses of faults where no JSON-RPC is spoken.
var statuses = map[fault.Kind]int{
	fault.Invalid: http.StatusBadRequest, fault.Unauthenticated: http.StatusUnauthorized, fault.Forbidden: http.StatusForbidden, fault.NotFound: http.StatusNotFound,
	fault.TooLarge: http.StatusRequestEntityTooLarge, fault.Unsupported: http.StatusUnsupportedMediaType, fault.RateLimited: http.StatusTooManyRequests,
	fault.Unavailable: http.StatusServiceUnavailable,
}

// refusePlainly answers with an error as the HTTP API does.
func (g *Gateway) refusePlainly(w http.ResponseWriter, r *http.Request, err error) {
	f, ok := fault.As(err)
	if !ok || statuses[f.Kind] == 0 {
		if r.Context().Err() == nil {
			g.log.ErrorContext(r.Context(), "an a2a request failed", "error", err)
		}
		g.write(w, r, http.StatusInternalServerError, object{"error": object{"code": fault.CodeInternal, "message": "internal error"}})
		return
	}
	switch f.Kind {
	case fault.Unauthenticated:
		w.Header().Set("WWW-Authenticate", "Bearer")
	case fault.RateLimited:
		w.Header().Set("Retry-After", fmt.Sprint(f.Details["retryAfter"]))
	default:
	}
	g.write(w, r, statuses[f.Kind], object{"error": object{"code": f.Code, "message": f.Message}})
}

// readNotification reads the body to its end and refuses what is no notification.
func readNotification(w http.ResponseWriter, r *http.Request) error {
	mediaType, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	if !slices.Contains([]string{"application/json", "application/a2a+json"}, strings.ToLower(strings.TrimSpace(mediaType))) {
		return fault.New(fault.Unsupported, fault.CodeUnsupportedMediaType, "send application/json")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		return fault.New(fault.TooLarge, fault.CodePayloadTooLarge, "send a whole notification of at most 1 MiB")
	}
	if !isNotification(body) {
		var bad fault.Fields
		bad.Add("body", "must be a task, a message or an update of one, as A2A 0.3 or 1.0 has them")
		return bad.Err()
	}
	return nil
}

// isNotification tells whether a body is what agents notify with: in 1.0 an event of a stream, in 0.3 a task; some send the
// events of 0.3.
func isNotification(body []byte) bool {
	var f map[string]json.RawMessage
	if strictjson.Check(body) != nil || json.Unmarshal(body, &f) != nil {
		return false
	}
	for _, name := range []string{"task", "message", "statusUpdate", "artifactUpdate"} {
		if bytes.HasPrefix(f[name], []byte("{")) {
			return true
		}
	}
	var kind string
	if json.Unmarshal(f["kind"], &kind) == nil && slices.Contains([]string{"task", "message", "status-update", "artifact-update"}, kind) {
		return true
	}
	var id string
	return json.Unmarshal(f["id"], &id) == nil && id != "" && bytes.HasPrefix(f["status"], []byte("{"))
}
