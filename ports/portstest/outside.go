package portstest

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/ports"
)

// RateLimiter checks a limiter under a rule of thirty in the given time, some seconds at least. advance moves its clock;
// it sleeps if the clock is real.
func RateLimiter(ctx context.Context, l ports.RateLimiter, per time.Duration, advance func(time.Duration)) error {
	rule := ports.RateRule{Name: "r", Limit: 30, Per: per}
	var allowed atomic.Int32
	for _, err := range together(200, func(int) error {
		r, err := l.Allow(ctx, "ann", rule)
		if r.Allowed {
			allowed.Add(1)
		}
		return err
	}) {
		if err != nil {
			return err
		}
	}
	if err := same("allowed out of 200 at once", allowed.Load(), int32(30)); err != nil {
		return err
	}
	refused, err := l.Allow(ctx, "ann", rule)
	if err != nil {
		return err
	}
	other, err := l.Allow(ctx, "bob", rule)
	if err := first(err, same("refused", refused.Allowed, false), same("nothing left", refused.Remaining, 0), same("another key", other.Allowed, true),
		same("limit", other.Limit, 30), same("remaining", other.Remaining, 29)); err != nil {
		return err
	}
	if refused.RetryAfter <= 0 || refused.RetryAfter > per/30 || refused.Reset <= per*5/6 || refused.Reset > per {
		return failf("retry after %s, reset in %s", refused.RetryAfter, refused.Reset)
	}
	advance(refused.RetryAfter)
	again, err := l.Allow(ctx, "ann", rule)
	if err := first(err, same("after waiting as told", again.Allowed, true)); err != nil {
		return err
	}
	advance(per)
	whole, err := l.Allow(ctx, "ann", rule)
	return first(err, same("after the whole time", whole.Remaining, 29))
}

// PasswordHasher checks a hasher.
func PasswordHasher(ctx context.Context, h ports.PasswordHasher) error {
	one, err1 := h.Hash(ctx, "correct horse")
	two, err2 := h.Hash(ctx, "correct horse")
	if err := first(err1, err2); err != nil {
		return err
	}
	if one == two || strings.Contains(one, "correct") {
		return failf("hashes of one password are %q and %q", one, two)
	}
	right, err1 := h.Verify(ctx, "correct horse", one)
	wrong, err2 := h.Verify(ctx, "correct horsf", one)
	nobody, err3 := h.Verify(ctx, "correct horse", "")
	if err := first(err1, err2, err3, same("right", right, true), same("wrong", wrong, false), same("nobody", nobody, false)); err != nil {
		return err
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err := h.Hash(ended, "x")
	_ = err // it may have been in time
	return nil
}

// EndpointGuard checks a guard that lets nobody inside.
func EndpointGuard(ctx context.Context, g ports.EndpointGuard) error {
	for _, host := range []string{
		"127.0.0.1", "127.255.255.254", "localhost", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
		"198.18.0.1", "198.51.100.1", "203.0.113.1", "192.0.2.1", "192.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
		"[::1]", "[::]", "[fe80::1]", "[fc00::1]", "[fd12:3456::1]", "[ff02::1]", "[::ffff:127.0.0.1]", "[::ffff:10.0.0.1]", "[64:ff9b::7f00:1]",
		"[2002:7f00:1::]", "[2001::1]", "[2001:db8::1]", "[100::1]", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "[fe80::1%25eth0]",
	} {
		for _, endpoint := range []string{"http://" + host, "https://" + host + ":8443/a"} {
			if err := wantCode(endpoint, g.Check(ctx, endpoint), fault.CodeValidation); err != nil {
				return err
			}
		}
	}
	for _, endpoint := range []string{"https://8.8.8.8/agent", "http://[2606:4700::1111]:8080", "https://no-such-host.invalid/"} {
		if err := g.Check(ctx, endpoint); err != nil {
			return failf("%s: %w", endpoint, err)
		}
	}
	return nil
}

// SchemaChecker checks a checker that really knows JSON Schema.
func SchemaChecker(_ context.Context, c ports.SchemaChecker) error {
	for _, good := range []string{
		`{}`, `true`, `{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}`,
		`{"$defs":{"a":{"type":"string"}},"properties":{"x":{"$ref":"#/$defs/a"}}}`,
	} {
		if err := c.Compile(json.RawMessage(good)); err != nil {
			return failf("%s: %w", good, err)
		}
	}
	for _, bad := range []string{
		``, `{`, `3`, `"x"`, `[]`, `{"type":"nonsense"}`, `{"minimum":"x"}`, `{"pattern":"("}`, `{"$ref":"#/$defs/none"}`,
		`{"$ref":"file:///etc/passwd"}`, `{"$ref":"http://127.0.0.1:1/x"}`, `{"$schema":"file:///etc/passwd"}`, `{"$id":"http://a.example/","$ref":"b"}`,
	} {
		if c.Compile(json.RawMessage(bad)) == nil {
			return failf("%s was accepted", bad)
		}
	}
	schema := json.RawMessage(`{"type":"object","properties":{"n":{"type":"integer"},"list":{"items":{"type":"string"}}},"required":["n"]}`)
	fine, err := c.Validate(schema, json.RawMessage(`{"n":12345678901234567890,"list":["a"]}`))
	if err := first(err, same("faults of a good value", len(fine), 0)); err != nil {
		return err
	}
	faults, err := c.Validate(schema, json.RawMessage(`{"n":"x","list":["a",2]}`))
	if err := first(err, same("faults of a bad value", len(faults), 2)); err != nil {
		return err
	}
	paths := map[string]bool{faults[0].Path: true, faults[1].Path: true}
	return same("their paths", paths, map[string]bool{"n": true, "list[1]": true})
}
