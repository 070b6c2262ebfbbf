package a2agateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/nexus-protocol/nexus/adapters/internal/retryafter"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

const (
	notifyTimeout  = 10 * time.Second
	maxReception   = 64 << 10 // of what a receiver answers is read, so that the connection can be used again
	sequence       = "sequence"
	maxRetryAfter  = 24 * time.Hour // the engine heeds less
	headerID       = "X-A2A-Notification-Id"
	headerToken    = "X-A2A-Notification-Token"
	headerTokenGo  = "A2A-Notification-Token" // as a2a-go has it
	contentTypeA2A = "application/a2a+json"
)

// Notifier is a ports.Notifier: it posts push notifications in the form of the version in which they were asked for.
type Notifier struct {
	http       *http.Client
	userAgent  string
	prohibited error
}

var _ ports.Notifier = (*Notifier)(nil)

// NewNotifier makes a notifier. The transport decides which addresses may be dialled, and must record nothing, as URLs
// and headers may hold secrets; prohibited is in the chain of the error when it refuses one, nil if it never does.
// Redirects are not followed.
func NewNotifier(transport http.RoundTripper, prohibited error, version string) *Notifier {
	return &Notifier{
		http:      &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		userAgent: "nexus/" + version, prohibited: prohibited,
	}
}

// Notify implements ports.Notifier. Any 2xx is an acceptance, 410 says that no more is wanted.
func (n *Notifier) Notify(ctx context.Context, in ports.Notification) error {
	speaks, ok := forms[in.Config.Dialect]
	if !ok {
		return &ports.NotifyError{Reason: "it was asked for in a version that is not spoken any more", Gone: true}
	}
	content := payload(speaks, in)
	if content == nil {
		return nil
	}
	body, err := encode(content)
	if err != nil {
		return &ports.NotifyError{Reason: "it could not be encoded", Gone: true}
	}
	timed, cancel := context.WithTimeout(ctx, notifyTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(timed, http.MethodPost, in.Config.URL, bytes.NewReader(body))
	if err != nil {
		return &ports.NotifyError{Reason: "its URL cannot be used", Gone: true}
	}
	h := req.Header
	h.Set("User-Agent", n.userAgent)
	h.Set("Content-Type", "application/json")
	h.Set("A2A-Version", "0.3")
	if speaks == v10 {
		h.Set("Content-Type", contentTypeA2A)
		h.Set("A2A-Version", "1.0")
	}
	h.Set(headerID, in.Task.ID+"/"+strconv.FormatInt(in.Seq, 10))
	if in.Secrets.Token != "" {
		h.Set(headerToken, in.Secrets.Token)
		if speaks == v10 {
			h.Set(headerTokenGo, in.Secrets.Token)
		}
	}
	if in.Secrets.Credentials != "" && len(in.Config.Schemes) > 0 {
		h.Set("Authorization", in.Config.Schemes[0]+" "+in.Secrets.Credentials)
	}
	res, err := n.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return n.unreached(timed, err)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxReception)) // what it says does not matter
	_ = res.Body.Close()
	if res.StatusCode >= 200 && res.StatusCode < 300 {
		return nil
	}
	return &ports.NotifyError{
		Reason: "it answered " + strconv.Itoa(res.StatusCode), Gone: res.StatusCode == http.StatusGone,
		RetryAfter: retryafter.Wait(res.Header.Get("Retry-After"), maxRetryAfter),
	}
}

// unreached says why no answer came, without what is said of the URL and of the inside.
func (n *Notifier) unreached(timed context.Context, err error) *ports.NotifyError {
	switch {
	case timed.Err() != nil:
		return &ports.NotifyError{Reason: "it did not answer in time"}
	case n.prohibited != nil && errors.Is(err, n.prohibited):
		return &ports.NotifyError{Reason: "it is at an address that is not allowed"}
	default:
		return &ports.NotifyError{Reason: "it cannot be reached"}
	}
}

// payload is what is posted: the task in 0.3, one event as a stream has it in 1.0. Its metadata has the place in the
// task's log that the receiver knows by it, by which repeats can be told. nil: receivers are not told of it.
func payload(speaks form, in ports.Notification) object {
	var out, body object
	if in.Config.Whole {
		v := app.TaskView{Task: in.Task}
		v.Messages, v.Artifacts = task.History(in.Events)
		body = speaks.task(v, nil)
		out = speaks.wrapped(body)
	} else {
		out = speaks.event(in.Task, app.TaskEvent{Event: in.Events[0]})
		if body = out; out == nil {
			return nil
		}
		for _, inner := range out {
			if update, ok := inner.(object); ok && speaks == v10 {
				body = update
			}
		}
	}
	metadata, _ := body["metadata"].(object)
	if metadata == nil {
		metadata = object{}
		body["metadata"] = metadata
	}
	metadata[sequence] = in.Seq
	return out
}
