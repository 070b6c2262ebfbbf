// Package a2aclient calls agents over A2A: JSON-RPC as of version 0.3. Answers are also understood in the older
// {type, data} dialect and in the forms of 1.0.
package a2aclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
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
)

// Client is a ports.AgentCaller. It is safe for concurrent use.
type Client struct {
	http *http.Client
	// prohibited tells an error of the transport that refused an address.
	prohibited error
}

var errRedirects = errors.New("redirected too often")

// New makes a client. The transport decides which addresses may be dialled; prohibited is in the chain of the error when
// it refuses one, nil if it never does.
func New(transport http.RoundTripper, prohibited error) *Client {
	return &Client{prohibited: prohibited, http: &http.Client{
		Transport: transport,
		CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return errRedirects
			}
			return nil
		},
	}}
}

// Card implements ports.AgentCaller: below the endpoint's path first, then at the root of its host.
func (c *Client) Card(ctx context.Context, endpoint string) (json.RawMessage, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, err
	}
	bases := []string{u.Path}
	if strings.Trim(u.Path, "/") != "" {
		bases = append(bases, "/")
	}
	var errs []error
	for _, base := range bases {
		for _, name := range []string{"agent-card.json", "agent.json"} {
			at := url.URL{Scheme: u.Scheme, Host: u.Host, Path: path.Join("/", base, ".well-known", name)}
			card, err := c.card(ctx, at.String())
			if err == nil {
				return card, nil
			}
			errs = append(errs, err)
			if ctx.Err() != nil || c.noConnection(err) {
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
	b = bytes.TrimSpace(b)
	if len(b) > maxCard || !bytes.HasPrefix(b, []byte("{")) || !json.Valid(b) || depth(b) > maxDepth || bytes.Contains(b, []byte(`\u0000`)) {
		return nil, fmt.Errorf("what %s answered is no agent card", at)
	}
	return b, nil
}

// Send implements ports.AgentCaller with message/send. The agent is asked to answer when it is done.
func (c *Client) Send(ctx context.Context, in ports.Call) (ports.Answer, error) {
	meta := map[string]any{"nexusTaskId": in.TaskID}
	if in.SkillID != "" {
		meta["skillId"] = in.SkillID
	}
	return c.ask(ctx, in, "message/send", sendParams{
		Message: wireMessage{
			Kind: "message", MessageID: in.Message.ID, Role: string(in.Message.Role), Parts: toWire(in.Message.Parts),
			ContextID: in.ContextID, TaskID: in.RemoteTaskID,
		},
		Configuration: map[string]any{"blocking": true, "acceptedOutputModes": []string{"text/plain", "application/json"}},
		Metadata:      meta,
	})
}

// Follow implements ports.AgentCaller with tasks/get.
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
	id := in.TaskID
	body, err := json.Marshal(rpcRequest{JSONRPC: "2.0", ID: id, Method: method, Params: params})
	if err != nil {
		return ports.Answer{}, &ports.CallError{Code: task.ErrProtocol, Message: "the message cannot be put into JSON"}
	}
	answer, err := c.post(ctx, in.Endpoint, body)
	if err != nil {
		if ctx.Err() != nil {
			return ports.Answer{}, ctx.Err()
		}
		return ports.Answer{}, err
	}
	a, err := decodeAnswer(answer, id)
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
	req.Header.Set("User-Agent", "nexus")
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.failed(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.Request.Method != http.MethodPost {
		return nil, &ports.CallError{Code: task.ErrProtocol, Message: "the agent redirects in a way that loses the message; it must use 307 or 308"}
	}
	if err := statusError(res); err != nil {
		return nil, err
	}
	if kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); kind != "application/json" && !strings.HasSuffix(kind, "+json") {
		return nil, &ports.CallError{Code: task.ErrProtocol, Message: fmt.Sprintf("the agent answered with %s instead of JSON", named(kind))}
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

func named(kind string) string {
	if kind == "" {
		return "no content type"
	}
	return cut(kind)
}

func statusError(res *http.Response) error {
	e := &ports.CallError{Code: task.ErrAgent, Message: fmt.Sprintf("the agent answered HTTP %d", res.StatusCode)}
	switch res.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		e.Retryable, e.RetryAfter = true, retryAfter(res.Header.Get("Retry-After"))
	}
	return e
}

func retryAfter(s string) time.Duration {
	d := time.Duration(0)
	if n, err := strconv.Atoi(s); err == nil {
		d = time.Duration(min(n, int(maxRetryAfter.Seconds()))) * time.Second
	} else if at, err := http.ParseTime(s); err == nil {
		d = time.Until(at)
	}
	return min(max(d, 0), maxRetryAfter)
}

// noConnection tells errors after which another path of the same host need not be tried.
func (c *Client) noConnection(err error) bool {
	var e *url.Error
	return errors.As(err, &e)
}

func (c *Client) failed(err error) *ports.CallError {
	switch {
	case errors.Is(err, errRedirects):
		return &ports.CallError{Code: task.ErrProtocol, Message: "the agent redirected the call too often"}
	case c.prohibited != nil && errors.Is(err, c.prohibited):
		return &ports.CallError{Code: task.ErrUnreachable, Message: "the agent's endpoint leads to an address that is not allowed"}
	default:
		return &ports.CallError{Code: task.ErrUnreachable, Message: "no connection to the agent: " + cause(err), Retryable: true, Unreachable: true}
	}
}

// cause is the innermost reason in words, without the addresses of the inside.
func cause(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return cut(err.Error())
		}
		err = inner
	}
}
