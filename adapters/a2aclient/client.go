// Package a2aclient calls agents over A2A: JSON-RPC as of version 0.3. Answers are also understood in the older
// {type, data} dialect and in the forms of 1.0.
package a2aclient

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

var _ ports.AgentCaller = (*Client)(nil)

const (
	maxCard       = 256 << 10
	maxRedirects  = 3
	maxRetryAfter = 5 * time.Minute
	userAgent     = "nexus"
	cardTimeout   = 3 * time.Second // when the caller sets none
)

// Client is a ports.AgentCaller. It is safe for concurrent use.
type Client struct {
	http *http.Client
	// prohibited tells an error of the transport that refused an address.
	prohibited error
}

// Reasons not to follow a redirect.
var (
	errTooOften = errors.New("redirected too often")
	errLoses    = errors.New("redirects in a way that loses the message; it must use 307 or 308")
	errNoHTTP   = errors.New("redirects to something that is neither http nor https")
)

// New makes a client. The transport decides which addresses may be dialled; prohibited is in the chain of the error when
// it refuses one, nil if it never does.
func New(transport http.RoundTripper, prohibited error) *Client {
	return &Client{prohibited: prohibited, http: &http.Client{
		Transport: transport,
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			switch {
			case len(via) > maxRedirects:
				return errTooOften
			case r.Method != via[0].Method:
				return errLoses
			case r.URL.Scheme != "http" && r.URL.Scheme != "https":
				return errNoHTTP
			}
			return nil
		},
	}}
}

// Card implements ports.AgentCaller: below the endpoint's path first, then at the root of its host. It takes at most
// three seconds if ctx has no deadline.
func (c *Client) Card(ctx context.Context, endpoint string) (json.RawMessage, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, err
	}
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, cardTimeout)
		defer cancel()
	}
	u.RawQuery, u.ForceQuery, u.Fragment, u.RawFragment = "", false, "", ""
	bases := []*url.URL{u}
	if root := u.JoinPath("/"); strings.Trim(u.Path, "/") != "" {
		root.Path, root.RawPath = "/", ""
		bases = append(bases, root)
	}
	var errs []error
	for _, base := range bases {
		for _, name := range []string{"agent-card.json", "agent.json"} {
			card, err := c.card(ctx, base.JoinPath(".well-known", name).String())
			if err == nil {
				return card, nil
			}
			errs = append(errs, err)
			if ctx.Err() != nil || noConnection(err) {
				return nil, errors.Join(errs...)
			}
		}
	}
	return nil, errors.Join(errs...)
}

func (c *Client) card(ctx context.Context, at string) (json.RawMessage, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", userAgent)
	res, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", at, res.Status)
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, maxCard+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxCard {
		return nil, fmt.Errorf("what %s answered is over %d KiB", at, maxCard>>10)
	}
	if b = bytes.TrimSpace(b); !bytes.HasPrefix(b, []byte("{")) || !json.Valid(b) || checkText(b) != nil {
		return nil, fmt.Errorf("what %s answered is no agent card", at)
	}
	return b, nil
}

// Send implements ports.AgentCaller with message/send. The agent is asked to answer when it is done. An agent that asks
// for authentication has failed the task, with its question as the reason: nobody is there to answer.
func (c *Client) Send(ctx context.Context, in ports.Call) (ports.Answer, error) {
	meta := map[string]any{"nexusTaskId": in.TaskID}
	m := wireMessage{
		Kind: "message", MessageID: in.Message.ID, Role: string(in.Message.Role), Parts: toWire(in.Message.Parts),
		ContextID: in.ContextID, TaskID: in.RemoteTaskID,
	}
	if in.SkillID != "" {
		meta["skillId"] = in.SkillID
		m.Metadata = map[string]any{"skillId": in.SkillID}
	}
	return c.ask(ctx, in, "message/send", sendParams{
		Message:       m,
		Configuration: map[string]any{"blocking": true, "acceptedOutputModes": []string{"text/plain", "application/json"}},
		Metadata:      meta,
	})
}

// Follow implements ports.AgentCaller with tasks/get. What an agent says and makes comes with the answer that ends its
// task, not before, so that nothing comes twice.
func (c *Client) Follow(ctx context.Context, in ports.Call) (ports.Answer, error) {
	return c.ask(ctx, in, "tasks/get", taskParams{in.RemoteTaskID})
}

// Cancel implements ports.AgentCaller with tasks/cancel. There is nothing to tell an agent that gave no id.
func (c *Client) Cancel(ctx context.Context, in ports.Call) error {
	if in.RemoteTaskID == "" {
		return nil
	}
	_, err := c.ask(ctx, in, "tasks/cancel", taskParams{in.RemoteTaskID})
	return err
}

func (c *Client) ask(ctx context.Context, in ports.Call, method string, params any) (ports.Answer, error) {
	asked := request{id: in.TaskID, remoteTaskID: in.RemoteTaskID}
	body, err := json.Marshal(rpcRequest{JSONRPC: "2.0", ID: asked.id, Method: method, Params: params})
	if err != nil {
		return ports.Answer{}, &ports.CallError{Code: task.ErrProtocol, Message: "the message cannot be put into JSON"}
	}
	answer, err := c.post(ctx, in.Endpoint, body)
	if err != nil {
		if ctx.Err() != nil {
			return ports.Answer{}, fmt.Errorf("call agent: %w", ctx.Err())
		}
		return ports.Answer{}, err
	}
	a, err := decodeAnswer(answer, asked)
	if err != nil {
		return ports.Answer{}, asCallError(err)
	}
	return a, nil
}

// post returns the body of a usable answer. Its errors are *ports.CallError.
func (c *Client) post(ctx context.Context, endpoint string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, bytes.NewReader(body))
	if err != nil {
		return nil, &ports.CallError{Code: task.ErrUnreachable, Message: "the agent's endpoint is no URL"}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", userAgent)
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.failed(err)
	}
	defer func() { _ = res.Body.Close() }()
	if err := statusError(res); err != nil {
		return nil, err
	}
	if kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); kind != "application/json" && !strings.HasSuffix(kind, "+json") {
		return nil, &ports.CallError{Code: task.ErrProtocol, Message: fmt.Sprintf("the agent answered with %s instead of JSON", cmp.Or(cut(kind), "no content type"))}
	}
	out, err := io.ReadAll(io.LimitReader(res.Body, task.MaxOutput+1))
	switch {
	case err != nil:
		return nil, &ports.CallError{Code: task.ErrUnreachable, Message: "the agent broke its answer off", Retryable: true}
	case len(out) > task.MaxOutput:
		return nil, &ports.CallError{Code: task.ErrProtocol, Message: fmt.Sprintf("the agent's answer is over %d MiB", task.MaxOutput>>20)}
	}
	return out, nil
}

// passing are the statuses of what may be gone in a while.
var passing = []int{http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}

func statusError(res *http.Response) error {
	if res.StatusCode/100 == 2 {
		return nil
	}
	e := &ports.CallError{Code: task.ErrAgent, Message: fmt.Sprintf("the agent answered HTTP %d", res.StatusCode)}
	if slices.Contains(passing, res.StatusCode) {
		e.Retryable, e.RetryAfter = true, retryAfter(res.Header.Get("Retry-After"))
	}
	return e
}

// retryAfter reads a Retry-After header, seconds or a date.
func retryAfter(s string) time.Duration {
	var d time.Duration
	switch n, err := strconv.Atoi(s); {
	case err == nil || errors.Is(err, strconv.ErrRange): // then n is as far as it goes
		d = time.Duration(min(n, int(maxRetryAfter.Seconds()))) * time.Second
	default:
		if at, err := http.ParseTime(s); err == nil {
			d = time.Until(at)
		}
	}
	return min(max(d, 0), maxRetryAfter)
}

// noConnection tells errors after which another path of the same host need not be tried.
func noConnection(err error) bool {
	var e *url.Error
	return errors.As(err, &e) && !isRedirect(err)
}

func isRedirect(err error) bool {
	return errors.Is(err, errTooOften) || errors.Is(err, errLoses) || errors.Is(err, errNoHTTP)
}

// notHTTP are the words of the standard library's errors about an answer that came, but is none of HTTP.
var notHTTP = []string{"malformed HTTP", "failed to parse Location header", "response headers exceeded", "too many 1xx", "transfer encoding"}

func (c *Client) failed(err error) *ports.CallError {
	said := cause(err)
	switch {
	case isRedirect(err):
		return &ports.CallError{Code: task.ErrProtocol, Message: "the agent " + said}
	case c.prohibited != nil && errors.Is(err, c.prohibited):
		return &ports.CallError{Code: task.ErrUnreachable, Message: "the agent's endpoint resolves to an address that is not allowed"}
	case slices.ContainsFunc(notHTTP, func(words string) bool { return strings.Contains(err.Error(), words) }):
		return &ports.CallError{Code: task.ErrProtocol, Message: "the agent's answer is not proper HTTP"}
	default:
		return &ports.CallError{Code: task.ErrUnreachable, Message: "no connection to the agent: " + said, Retryable: true, Unreachable: true}
	}
}

// cause is the innermost reason in words, without the addresses of the inside.
func cause(err error) string {
	var dns *net.DNSError
	if errors.As(err, &dns) { // it names the resolver
		return "the name of its host cannot be resolved"
	}
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return cut(err.Error())
		}
		err = inner
	}
}
