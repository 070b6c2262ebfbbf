package ssrfguard

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/ports/portstest"
)

func TestConformance(t *testing.T) {
	require.NoError(t, portstest.EndpointGuard(t.Context(), New(false)))
}

// inside has an address of every range that is not public, and of the edges where a mask is easily got wrong.
var inside = []string{
	"0.0.0.0", "0.255.255.255", // this network
	"10.0.0.0", "10.255.255.255", // private
	"100.64.0.0", "100.127.255.255", "100.100.100.200", // carriers' NAT, Alibaba's metadata
	"127.0.0.1", "127.255.255.255", // loopback
	"169.254.0.1", "169.254.169.254", "169.254.170.2", // link-local, metadata
	"168.63.129.16",                // Azure's host
	"172.16.0.0", "172.31.255.255", // private
	"192.0.0.1", "192.0.0.192", // protocol assignments, Oracle's metadata
	"192.0.2.1", "198.51.100.1", "203.0.113.1", // documentation
	"192.88.99.1",                    // 6to4 relays
	"192.168.0.0", "192.168.255.255", // private
	"198.18.0.0", "198.19.255.255", // benchmarks
	"224.0.0.1", "239.255.255.255", // multicast
	"240.0.0.1", "255.255.255.254", "255.255.255.255", // reserved, broadcast
	"::", "::1", "::127.0.0.1", // unspecified, loopback, IPv4-compatible
	"::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1", // IPv4-mapped and translated
	"64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", // NAT64
	"100::1",                         // discard
	"2001::1", "2001:0:4136:e378::1", // Teredo
	"2001:10::1", "2001:20::1", // ORCHID
	"2001:db8::1", "3fff::1", // documentation
	"2002:7f00:1::", "2002:a9fe:a9fe::", // 6to4
	"5f00::1",                  // segment routing
	"fc00::1", "fd00:ec2::254", // unique local, metadata
	"fe80::1", "fe80::1%eth0", "fec0::1", // link-local, site-local
	"ff02::1", "ff0e::1", // multicast
}

func TestNoAddressOfTheInsideIsTakenOrDialled(t *testing.T) {
	g := New(false)
	for _, a := range inside {
		addr := netip.MustParseAddr(a)
		u := url.URL{Scheme: "http", Host: netip.AddrPortFrom(addr, 8080).String()}
		require.True(t, fault.Has(g.Check(t.Context(), u.String()), fault.CodeValidation), a)
		network := "tcp4"
		if addr.Is6() {
			network = "tcp6"
		}
		require.ErrorIs(t, g.control(network, u.Host, nil), ErrProhibited, a)
	}
	for _, a := range []string{"8.8.8.8:80", "100.63.255.255:8443", "172.32.0.1:1", "198.20.0.1:22", "223.255.255.255:443"} {
		require.NoError(t, g.Check(t.Context(), "https://"+a))
		require.NoError(t, g.control("tcp4", a, nil))
	}
	require.NoError(t, g.control("tcp6", "[2606:4700::1111]:8080", nil))
}

func TestDisguisesAreSeenThrough(t *testing.T) {
	for _, endpoint := range []string{
		"http://2130706433/", "http://0x7f000001/", "http://017700000001/", "http://0x7f.1/", "http://0177.0.0.1/", "http://127.1/", "http://0/",
		"http://127.0.0.1./", "http://0x7f.1./", "http://LOCALHOST./", "http://a.localhost:1/", "http://①②⑦.⓪.⓪.①/", "http://127。0。0。1/",
		"http://１２７．０．０．１/", "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/", "http://user@127.0.0.1/", "http://[::1%25lo]/", "http://[2606:4700::1111%25eth0]/",
		"ftp://8.8.8.8/", "file:///etc/passwd", "gopher://8.8.8.8/", "//8.8.8.8/", "http:///x", "http://", "8.8.8.8:80", "http://%zz/",
	} {
		err := New(false).Check(t.Context(), endpoint)
		f, ok := fault.As(err)
		require.True(t, ok, endpoint)
		require.Equal(t, fault.Invalid, f.Kind, endpoint)
		require.Equal(t, fault.CodeValidation, f.Code, endpoint)
		fields, ok := f.Details["fields"].([]fault.Field)
		require.True(t, ok, endpoint)
		require.Equal(t, "endpoint", fields[0].Path, endpoint)
	}
}

// dns is a resolver that gives a name's answers one after the other, the last one for ever.
func dns(t *testing.T, answers ...[]string) *net.Resolver {
	t.Helper()
	var mu sync.Mutex
	asked := 0
	next := func() []string {
		mu.Lock()
		defer mu.Unlock()
		a := answers[min(asked, len(answers)-1)]
		asked++
		return a
	}
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			defer func() { _ = server.Close() }()
			var size uint16
			if binary.Read(server, binary.BigEndian, &size) != nil {
				return
			}
			question := make([]byte, size)
			if _, err := io.ReadFull(server, question); err != nil {
				return
			}
			end := 12 // of the header; then the name, its type and class
			for question[end] != 0 {
				end += int(question[end]) + 1
			}
			end += 5
			reply := append([]byte{question[0], question[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, question[12:end]...)
			if question[end-3] == 1 { // A
				for _, a := range next() {
					ip := netip.MustParseAddr(a).As4()
					reply = append(append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4), ip[:]...)
					reply[7]++
				}
			}
			_ = binary.Write(server, binary.BigEndian, uint16(len(reply)))
			_, _ = server.Write(reply)
		}()
		return client, nil
	}}
}

func TestEveryAddressOfANameMustBePublic(t *testing.T) {
	g := New(false)
	g.resolver = dns(t, []string{"8.8.8.8", "8.8.4.4"})
	require.NoError(t, g.Check(t.Context(), "http://fine.example/"))
	g.resolver = dns(t, []string{"8.8.8.8", "10.1.2.3"})
	err := g.Check(t.Context(), "http://mixed.example/")
	require.True(t, fault.Has(err, fault.CodeValidation))
	require.NotContains(t, err.Error(), "10.1.2.3", "what names of the inside resolve to is nobody's business")
}

func TestANameThatIsReboundAfterTheCheckIsRefusedAtTheConnection(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the inside was reached") }))
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)

	g := New(false)
	g.resolver = dns(t, []string{"8.8.8.8"}, []string{"127.0.0.1"})
	endpoint := "http://rebound.example:" + port + "/"
	require.NoError(t, g.Check(t.Context(), endpoint))
	_, err = (&http.Client{Transport: g.Transport()}).Get(endpoint)
	require.ErrorIs(t, err, ErrProhibited)
}

func TestConnectionsAreCheckedToo(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "①②⑦.⓪.⓪.①"} {
		_, err := (&http.Client{Transport: New(false).Transport()}).Get("http://" + host + ":" + port)
		require.ErrorIs(t, err, ErrProhibited, host)
	}
	require.NoError(t, New(true).Check(t.Context(), server.URL))
	res, err := (&http.Client{Transport: New(true).Transport()}).Get(server.URL)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
}

// outside answers for a public host; all others are left to the guarded transport.
type outside struct{ inner http.RoundTripper }

func (o outside) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Hostname() != "public.example" {
		return o.inner.RoundTrip(r)
	}
	w := httptest.NewRecorder()
	http.Redirect(w, r, r.URL.Query().Get("to"), http.StatusTemporaryRedirect)
	return w.Result(), nil
}

func TestARedirectToTheInsideIsRefused(t *testing.T) {
	client := &http.Client{Transport: outside{New(false).Transport()}}
	for _, to := range []string{"http://127.0.0.1:1/", "http://169.254.169.254/latest/meta-data/", "http://localhost:1/"} {
		_, err := client.Get("http://public.example/?to=" + to)
		require.ErrorIs(t, err, ErrProhibited, to)
	}
	_, err := client.Get("http://public.example/?to=file:///etc/passwd")
	require.ErrorContains(t, err, "unsupported protocol scheme")
}

func TestTheEnvironmentsProxyIsNotUsed(t *testing.T) {
	require.Nil(t, New(false).Transport().Proxy)
	require.Nil(t, New(true).Transport().Proxy)
}
