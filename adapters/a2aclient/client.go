// Package a2aclient calls agents over A2A 0.3 and 1.0, over JSON-RPC and over HTTP+JSON, and in the {type, data} dialect of
// the API reference. Which of them an agent gets is chosen by its card, else found out at the first call and remembered.
package a2aclient

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/adapters/internal/a2awire"
	"github.com/nexus-protocol/nexus/adapters/internal/retryafter"
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
	http  *http.Client
	peers peers
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
	return &Client{prohibited: prohibited, peers: peers{seed: maphash.MakeSeed(), by: map[string]*peer{}}, http: &http.Client{
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

// Send implements ports.AgentCaller. The agent is asked to answer when it is done, and to stream until then if its card
// says that it can and someone listens.
func (c *Client) Send(ctx context.Context, in ports.Call) (ports.Answer, error) {
	return c.ask(ctx, in, opSend)
}

// Follow implements ports.AgentCaller. It asks where the task is, and if the agent is at work and streams it listens until
// the task ends or the stream breaks.
func (c *Client) Follow(ctx context.Context, in ports.Call) (ports.Answer, error) {
	return c.ask(ctx, in, opGet)
}

// Cancel implements ports.AgentCaller. There is nothing to tell an agent that gave no id.
func (c *Client) Cancel(ctx context.Context, in ports.Call) error {
	if in.RemoteTaskID == "" {
		return nil
	}
	_, err := c.ask(ctx, in, opCancel)
	return err
}

// ask speaks to the agent in the dialect that it is known to speak, else in each in turn until it understands one. If it
// understands none, what it said first is the failure.
func (c *Client) ask(ctx context.Context, in ports.Call, op operation) (ports.Answer, error) {
	p := c.peers.get(in.Endpoint, in.Card)
	var first error
	onlyTyped := false // it understood, but for the parts
	for i, d := range p.order {
		if onlyTyped && d.dialect != rpcTyped {
			continue
		}
		x := exchange{c: c, in: in, peer: p, door: d}
		answer, err := x.do(ctx, op)
		var no *refusal
		var failed *ports.CallError
		switch {
		case err == nil:
			p.found(i, x.typed)
			return answer, nil
		case ctx.Err() != nil:
			return ports.Answer{}, fmt.Errorf("call agent: %w", ctx.Err())
		case errors.As(err, &no) && no.dialect(d.rest()): // to the next
		case errors.As(err, &no) && no.rpc == codeParams && d.dialect == rpc03: // 0.3 is known, its parts may not be
			onlyTyped = true
		case errors.As(err, &failed) && first != nil && (onlyTyped || no == nil && !failed.Retryable):
			return ports.Answer{}, first
		case no != nil:
			p.found(i, false)
			return ports.Answer{}, no.CallError
		default:
			return ports.Answer{}, err
		}
		if first == nil {
			first = no.CallError
		}
	}
	return ports.Answer{}, first
}

// exchange is one call of an agent at one door.
type exchange struct {
	c     *Client
	in    ports.Call
	peer  *peer
	door  door
	typed bool // the agent answered with {type, data}
	// uncalled: it is not given a place to call back at, as it has refused one.
	uncalled bool
}

func (x *exchange) asked() request {
	return request{id: x.in.TaskID, remoteTaskID: x.in.RemoteTaskID, dialect: x.door.dialect, typed: &x.typed}
}

func (x *exchange) do(ctx context.Context, op operation) (ports.Answer, error) {
	listens := x.in.Hear != nil && x.peer.streams
	if op == opSend && listens && ask(&x.peer.unasked) {
		answer, err := x.stream(ctx, opStream, x.story())
		var no *refusal
		if !errors.As(err, &no) || !no.operation(x.door.rest()) {
			return answer, err
		}
		x.peer.unasked.Store(askAgain)
	}
	if x.calls(op) {
		x.uncalled = !ask(&x.peer.uncalled)
	}
	body, err := x.whole(ctx, op)
	var no *refusal
	if x.calls(op) && errors.As(err, &no) && no.callBack() {
		x.uncalled = true
		if body, err = x.whole(ctx, op); err == nil { // so that was the reason
			x.peer.uncalled.Store(askAgain)
		}
	}
	if err != nil {
		return ports.Answer{}, err
	}
	if op != opGet || !listens {
		return x.answer(body)
	}
	return x.follow(ctx, body)
}

// whole is the JSON of an answer that comes in one piece.
func (x *exchange) whole(ctx context.Context, op operation) (json.RawMessage, error) {
	res, err := x.send(ctx, op, "application/json")
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	return x.body(res)
}

func (x *exchange) body(res *http.Response) (json.RawMessage, error) {
	if kind := mediaType(res); kind != "application/json" && !strings.HasSuffix(kind, "+json") {
		return nil, &ports.CallError{Code: task.ErrProtocol, Message: fmt.Sprintf("the agent answered with %s instead of JSON", cmp.Or(cut(kind), "no content type"))}
	}
	out, err := io.ReadAll(io.LimitReader(res.Body, task.MaxOutput+1))
	switch {
	case err != nil:
		return nil, brokeOff()
	case len(out) > task.MaxOutput:
		return nil, asCallError(errTooLong)
	}
	result, err := decodeResult(out, x.asked())
	if err != nil {
		return nil, asCallError(err)
	}
	return result, nil
}

func (x *exchange) answer(result json.RawMessage) (ports.Answer, error) {
	a, err := decodeAnswer(result, x.asked())
	if err != nil {
		return ports.Answer{}, asCallError(err)
	}
	return a, nil
}

func mediaType(res *http.Response) string {
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	return kind
}

func brokeOff() error {
	return &ports.CallError{Code: task.ErrUnreachable, Message: "the agent broke its answer off", Retryable: true}
}

// send returns an answer that is no failure, whose body is the caller's to close. Its errors are of *ports.CallError.
func (x *exchange) send(ctx context.Context, op operation, accept string) (*http.Response, error) {
	method, at, body, err := x.request(op)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, at, bytes.NewReader(body))
	if err != nil {
		return nil, &ports.CallError{Code: task.ErrUnreachable, Message: "the agent's endpoint is no URL"}
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("User-Agent", userAgent)
	if x.door.form() == a2awire.V10 { // of 0.3 nothing is said: servers of both take it so
		req.Header.Set("A2A-Version", "1.0")
	}
	res, err := x.c.http.Do(req)
	if err != nil {
		return nil, x.c.failed(err)
	}
	if err := statusError(res); err != nil {
		_ = res.Body.Close()
		return nil, err
	}
	return res, nil
}

// passing are the statuses of what may be gone in a while.
var passing = []int{http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}

// maxErrorBody is how much of a failure is read.
const maxErrorBody = 64 << 10

func statusError(res *http.Response) error {
	if res.StatusCode/100 == 2 {
		return nil
	}
	e := &ports.CallError{Code: task.ErrAgent, Message: fmt.Sprintf("the agent answered HTTP %d", res.StatusCode)}
	if slices.Contains(passing, res.StatusCode) {
		e.Retryable, e.RetryAfter = true, retryafter.Wait(res.Header.Get("Retry-After"), maxRetryAfter)
		return e
	}
	no := &refusal{CallError: e, http: res.StatusCode}
	if kind := mediaType(res); kind == "application/json" || strings.HasSuffix(kind, "+json") {
		b, _ := io.ReadAll(io.LimitReader(res.Body, maxErrorBody)) // as far as it comes
		if said, ok := decodeError(b); ok {
			no.rpc, no.reason = said.code, said.reason
			if said.message != "" {
				e.Message += ": " + said.message
			}
		}
	}
	return no
}

// refusal is the failure of a call that was answered with an error.
type refusal struct {
	*ports.CallError

	http   int    // 0: none, the error came with 200
	rpc    int    // the code of JSON-RPC, 0 if there was none
	reason string // A2A's name of the error over HTTP+JSON
}

// Unwrap lets the failure be found.
func (r *refusal) Unwrap() error { return r.CallError }

// Codes of JSON-RPC and of A2A.
const (
	codeRequest     = -32600
	codeMethod      = -32601
	codeParams      = -32602
	codePush        = -32003
	codeUnsupported = -32004
	codeVersion     = -32009
)

// dialect tells whether the agent does not understand what it was asked, rather than refuse it: it has done nothing.
func (r *refusal) dialect(rest bool) bool {
	if rest && (r.reason == "TASK_NOT_FOUND" || r.reason == "UNSUPPORTED_OPERATION") {
		return false
	}
	switch r.rpc {
	case codeMethod, codeVersion:
		return true
	case 0:
	case codeRequest: // when not even the form of a request is known
		return r.http != 0
	default:
		if !rest || r.rpc < 0 { // over HTTP+JSON it may be the status once more
			return false
		}
	}
	return r.reason == "VERSION_NOT_SUPPORTED" || slices.Contains([]int{http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusUnsupportedMediaType, http.StatusNotImplemented}, r.http)
}

// operation tells whether it is this one operation that the agent does not have, or not now.
func (r *refusal) operation(rest bool) bool {
	return r.rpc == codeUnsupported || r.reason == "UNSUPPORTED_OPERATION" || r.dialect(rest)
}

// callBack tells whether it may be the place to call back at that the agent does not take.
func (r *refusal) callBack() bool {
	return r.rpc == codePush || r.rpc == codeParams || r.reason == "PUSH_NOTIFICATION_NOT_SUPPORTED" || r.http == http.StatusBadRequest
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
