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
	resolver     interface {
		LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	}
}

// New makes a guard. allowPrivate lets every address pass; it is for tests and for servers that only friends can reach.
func New(allowPrivate bool) *Guard {
	return &Guard{allowPrivate: allowPrivate, safe: ssrf.New(ssrf.WithAnyPort()), resolver: net.DefaultResolver}
}

const resolveTimeout = 3 * time.Second

// Check implements ports.EndpointGuard.
func (g *Guard) Check(ctx context.Context, endpoint string) error {
	if g.allowPrivate {
		return nil
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return refuse("is no URL")
	}
	host := strings.TrimSuffix(u.Hostname(), ".")
	if addr, err := netip.ParseAddr(host); err == nil {
		return g.checkAddr(addr)
	}
	if addr, ok := looseIPv4(host); ok {
		return g.checkAddr(addr)
	}
	if strings.EqualFold(host, "localhost") || strings.HasSuffix(strings.ToLower(host), ".localhost") {
		return refuse("must not be at this machine")
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	addrs, err := g.resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil //nolint:nilerr // it may come to be; every connection is checked
	}
	for _, a := range addrs {
		if err := g.checkAddr(a.Unmap()); err != nil {
			return err
		}
	}
	return nil
}

func (g *Guard) checkAddr(a netip.Addr) error {
	if a.Zone() != "" || g.safe.SafeAddr(a) != nil {
		return refuse("leads to the address %s, which is not public", a)
	}
	return nil
}

func refuse(format string, args ...any) error {
	var bad fault.Fields
	bad.Add("endpoint", format, args...)
	return bad.Err()
}

// looseIPv4 reads the forms of IPv4 addresses that some resolvers take: 2130706433, 0x7f.1, 0177.0.0.1.
func looseIPv4(host string) (netip.Addr, bool) {
	parts := strings.Split(host, ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var v uint64
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 0, 32)
		if err != nil {
			return netip.Addr{}, false
		}
		bits := uint(8)
		if i == len(parts)-1 {
			bits = uint(8 * (5 - len(parts)))
		}
		if n >= 1<<bits {
			return netip.Addr{}, false
		}
		v = v<<bits | n
	}
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}), true
}

// Transport makes the transport for calls to agents. It checks every address that it dials, those of redirects included,
// and uses no proxy of the environment, which could lead inside.
func (g *Guard) Transport() *http.Transport {
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}
	if !g.allowPrivate {
		dialer.Control = func(network, address string, c syscall.RawConn) error {
			if err := g.safe.Safe(network, address, c); err != nil {
				return fmt.Errorf("%w: %w", ErrProhibited, err)
			}
			return nil
		}
	}
	return &http.Transport{
		Proxy: nil, DialContext: dialer.DialContext, ForceAttemptHTTP2: true,
		MaxIdleConns: 1024, MaxIdleConnsPerHost: 64, IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 5 * time.Second,
		MaxResponseHeaderBytes: 64 << 10, ExpectContinueTimeout: time.Second,
	}
}
