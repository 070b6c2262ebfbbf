package httpapi

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/domain/identity"
)

// exchange is one request and its answer: the response writer that handlers get, and what is known of the request.
type exchange struct {
	http.ResponseWriter
	request  *http.Request // with the exchange in its context
	began    time.Time
	id       string
	pattern  string // of the route; "" until one took the request
	caller   identity.Caller
	body     []byte // of an operation that takes one
	status   int    // 0 until the answer has begun
	answered bool   // by the handler of an operation, be it with a fault
	streamed bool   // it has written the answer itself
	bytes    int64
}

type exchangeKey struct{}

// exchangeOf returns the exchange of a request's context.
func exchangeOf(ctx context.Context) *exchange { return ctx.Value(exchangeKey{}).(*exchange) }

// callerOf returns who asks; the zero caller on a public route.
func callerOf(ctx context.Context) identity.Caller { return exchangeOf(ctx).caller }

// WriteHeader implements http.ResponseWriter. What the mux says of a request that no route took is kept back: it is said
// in the API's own form instead.
func (x *exchange) WriteHeader(status int) {
	if x.pattern == "" {
		return
	}
	if x.status == 0 && status >= http.StatusOK {
		x.status = status
	}
	x.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (x *exchange) Write(b []byte) (int, error) {
	if x.pattern == "" {
		return len(b), nil
	}
	if x.status == 0 {
		x.status = http.StatusOK
	}
	n, err := x.ResponseWriter.Write(b)
	x.bytes += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// log writes the request's line: never a body, a secret, or a query.
func (x *exchange) log(ctx context.Context, l *slog.Logger, method string) {
	if !l.Enabled(ctx, slog.LevelInfo) {
		return
	}
	route := x.pattern
	if route == "" || route == unmatched {
		route = "unmatched"
	}
	attrs := []slog.Attr{
		slog.String("method", shorten(method, 16)), slog.String("route", route), slog.Int("status", x.status),
		slog.Duration("duration", time.Since(x.began)), slog.Int64("bytes", x.bytes), slog.String("request_id", x.id),
	}
	if x.caller.Known() {
		attrs = append(attrs, slog.String("user", x.caller.UserID))
	}
	if x.caller.KeyID != "" {
		attrs = append(attrs, slog.String("key", x.caller.KeyID))
	}
	l.LogAttrs(ctx, slog.LevelInfo, "request", attrs...)
}

// requestID is the caller's own id for the request if it is a sane one, else a new one.
func requestID(r *http.Request) string {
	id := r.Header.Get("X-Request-Id")
	if id == "" || len(id) > 64 {
		return rand.Text()
	}
	for i := range len(id) {
		switch c := id[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return rand.Text()
		}
	}
	return id
}

// clientAddress is where the request comes from, in the form that limits count by: an IPv6 address stands for its whole
// /64. The header that proxies add to is believed only as far as it was written by trusted ones, from the right.
func (s *server) clientAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	client, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	client = client.Unmap().WithZone("")
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		if !slices.ContainsFunc(s.opt.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(client) }) {
			break
		}
		hop = strings.TrimSpace(hop)
		next, err := netip.ParseAddr(hop)
		if err != nil {
			withPort, err := netip.ParseAddrPort(hop)
			if err != nil {
				break
			}
			next = withPort.Addr()
		}
		client = next.Unmap().WithZone("")
	}
	if client.Is6() {
		return netip.PrefixFrom(client, 64).Masked().String()
	}
	return client.String()
}
