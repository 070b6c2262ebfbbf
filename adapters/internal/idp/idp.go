// Package idp has what the adapters of identity providers share.
package idp

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
)

const (
	timeout = 10 * time.Second
	maxBody = 1 << 20
)

// Client is an HTTP client for speaking to an identity provider: it waits ten seconds and reads a mebibyte at most, and
// goes nowhere else when it is told to.
func Client(base http.RoundTripper) *http.Client {
	if base == nil {
		base = http.DefaultTransport
	}
	return &http.Client{
		Timeout: timeout, Transport: bounded{base},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > 3 || r.URL.Host != via[0].URL.Host || r.URL.Scheme != via[0].URL.Scheme {
				return errors.New("the identity provider sends us elsewhere")
			}
			return nil
		},
	}
}

type bounded struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		res.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(res.Body, maxBody), res.Body}
	}
	return res, err
}

// CheckURL refuses an address that secrets must not be sent to: it must be https, but for this machine's own.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return errors.New("must be an address such as https://id.example.com")
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && (u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback()):
		return nil
	default:
		return errors.New("must begin with https://")
	}
}

// NoSuchWay is the fault of a way that a provider does not have.
func NoSuchWay() error {
	return fault.New(fault.Forbidden, fault.CodeForbidden, "this identity provider cannot be used in this way")
}

// Refused is the fault of somebody whom the provider does not know so.
func Refused() error {
	return fault.New(fault.Unauthenticated, fault.CodeUnauthorized, "the identity provider does not let you in so; sign in again")
}

// Away is the fault of a provider that cannot be asked now.
func Away() error {
	return fault.New(fault.Unavailable, fault.CodeUnavailable, "the identity provider cannot be reached now; try again in a moment")
}

// Nonsense is the fault of a provider whose answer cannot be used.
func Nonsense() error {
	return fault.New(fault.BadGateway, fault.CodeProtocol, "the identity provider's answer could not be used; tell the operator of this server")
}
