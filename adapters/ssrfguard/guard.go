// Package ssrfguard keeps the engine from being used to reach the inside: endpoints at loopback, private, link-local and
// other special addresses are refused, when they are given and again at every connection, for the very address that is
// dialled.
package ssrfguard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
	"golang.org/x/text/unicode/norm"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/ports"
)

var _ ports.EndpointGuard = (*Guard)(nil)

// ErrProhibited is in the chain of the error of a connection to an address that is not allowed.
var ErrProhibited = errors.New("the address is not allowed")

// Guard is a ports.EndpointGuard.
type Guard struct {
	allowPrivate bool
	safe         *ssrf.Guardian
	resolver     *net.Resolver // of checks and of connections
}

// New makes a guard. allowPrivate lets every address pass; it is for tests and for servers that only friends can reach.
func New(allowPrivate bool) *Guard {
	return &Guard{
		allowPrivate: allowPrivate,
		safe:         ssrf.New(ssrf.WithAnyPort(), ssrf.WithDeniedV4Prefixes(hostServices...)),
		resolver:     net.DefaultResolver,
	}
}

// hostServices are public by their number, but answered by the host of a virtual machine: Azure's metadata and keys.
var hostServices = []netip.Prefix{netip.MustParsePrefix("168.63.129.16/32")}

const resolveTimeout = 3 * time.Second

// Check implements ports.EndpointGuard. What a name resolves to is not told: it may be a name of the inside.
func (g *Guard) Check(ctx context.Context, endpoint string) error {
	if g.allowPrivate {
		return nil
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return refuse("is no URL")
	}
	// An HTTP client takes ①②⑦.⓪.⓪.① and 127。0。0。1 for the address.
	host := strings.ToLower(strings.ReplaceAll(norm.NFKC.String(u.Hostname()), "。", "."))
	host = strings.TrimSuffix(host, ".")
	if (u.Scheme != "http" && u.Scheme != "https") || host == "" {
		return refuse("must be an http or https URL")
	}
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return refuse("must not be at this machine")
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		addr, err = looseIPv4(host)
	}
	if err == nil {
		if !g.public(addr) {
			return refuse("leads to the address %s, which is not public", addr)
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	addrs, err := g.resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil //nolint:nilerr // it may come to be; every connection is checked
	}
	for _, a := range addrs {
		if !g.public(a.Unmap()) {
			return refuse("leads to an address that is not public")
		}
	}
	return nil
}

func (g *Guard) public(a netip.Addr) bool { return g.safe.SafeAddr(a) == nil }

func refuse(format string, args ...any) error {
	var bad fault.Fields
	bad.Add("endpoint", format, args...)
	return bad.Err()
}

// looseIPv4 reads the forms of IPv4 addresses that some resolvers take: 2130706433, 0x7f.1, 0177.0.0.1.
func looseIPv4(host string) (netip.Addr, error) {
	parts := strings.Split(host, ".")
	if len(parts) > 4 {
		return netip.Addr{}, strconv.ErrSyntax
	}
	var v uint64
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 0, 32)
		if err != nil {
			return netip.Addr{}, err
		}
		bits := uint(8)
		if i == len(parts)-1 {
			bits = uint(8 * (5 - len(parts)))
		}
		if n >= 1<<bits {
			return netip.Addr{}, strconv.ErrRange
		}
		v = v<<bits | n
	}
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}), nil
}

// Transport makes the transport for calls to agents. It checks every address that it dials, those of redirects included,
// and uses no proxy of the environment, which could lead inside. How long to wait for an answer is up to the request's
// context.
func (g *Guard) Transport() *http.Transport {
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second, Resolver: g.resolver}
	if !g.allowPrivate {
		dialer.Control = g.control
	}
	return &http.Transport{
		Proxy: nil, DialContext: dialer.DialContext, ForceAttemptHTTP2: true,
		MaxIdleConns: 1024, MaxIdleConnsPerHost: 64, IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 5 * time.Second,
		MaxResponseHeaderBytes: 64 << 10, ExpectContinueTimeout: time.Second,
	}
}

// control is asked about every address right before it is dialled.
func (g *Guard) control(network, address string, c syscall.RawConn) error {
	if err := g.safe.Safe(network, address, c); err != nil {
		return fmt.Errorf("%w: %w", ErrProhibited, err)
	}
	return nil
}
