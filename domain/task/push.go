package task

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
)

// Limits of push configurations.
const (
	MaxPushConfigs     = 10 // of one user, or of all strangers, for one task
	MaxPushURL         = 2048
	MaxPushToken       = 2048
	MaxPushCredentials = 4096
	MaxPushSchemes     = 10
	MaxPushScheme      = 64
	// MaxPushAttempts is how often one notification is tried; then the receiver is given up.
	MaxPushAttempts = 12
)

// Waits before a notification is tried again.
const (
	pushRetryBase = time.Second // after the first attempt; doubles
	pushRetryMax  = 15 * time.Minute
)

// PushConfig says where somebody who may read a task wants to be told of what happens to it.
type PushConfig struct {
	ID     string // ours
	TaskID string
	UserID string // who asked for it, whose alone it is; "" is any stranger
	Name   string // by which the asker's side knows it, unique for the task and the user
	URL    string
	// Dialect is how the receiver wants to be told; notifiers know what it means.
	Dialect string
	// Whole says that the receiver is told how the whole task stands each time, and not each change by itself.
	Whole   bool
	Schemes []string // of authentication; the first is used, if there are credentials
	// Sealed are the PushSecrets; nil if there are none, or they are of no more use.
	Sealed   []byte
	Told     int64 // the place in the log up to which the receiver knows
	Failures int   // attempts since something was taken
	SetAt    time.Time
	DoneAt   *time.Time // since when nothing more is to come; nil while something may
}

// PushSecrets are what the asker gives so that the receiver can tell who calls.
type PushSecrets struct {
	Token       string
	Credentials string // for the scheme
}

// Check validates a configuration and the secrets that come with it. Paths are of its fields in A2A.
func (c PushConfig) Check(s PushSecrets) error {
	var bad fault.Fields
	bad.Check(len(c.Name) <= MaxName, "id", "must be at most %d bytes long", MaxName)
	u, err := url.Parse(c.URL)
	switch {
	case len(c.URL) > MaxPushURL:
		bad.Add("url", "must be at most %d bytes long", MaxPushURL)
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		bad.Add("url", "must be an http or https URL")
	case u.User != nil:
		bad.Add("url", "must hold no user and password; give them in authentication")
	}
	bad.Check(len(s.Token) <= MaxPushToken && isHeader(s.Token), "token", "must be at most %d visible ASCII characters", MaxPushToken)
	bad.Check(len(c.Schemes) <= MaxPushSchemes, "authentication.schemes", "must be at most %d", MaxPushSchemes)
	for i, scheme := range c.Schemes {
		bad.Check(len(scheme) <= MaxPushScheme && isToken(scheme), fmt.Sprintf("authentication.schemes[%d]", i), "must be the name of a scheme, such as Bearer")
	}
	bad.Check(len(s.Credentials) <= MaxPushCredentials && isHeader(s.Credentials), "authentication.credentials", "must be at most %d visible ASCII characters", MaxPushCredentials)
	bad.Check(s.Credentials == "" || len(c.Schemes) > 0, "authentication.schemes", "must say how the credentials are to be shown, such as Bearer")
	return bad.Err()
}

// isHeader tells whether a text can be the value of a header as it is.
func isHeader(s string) bool {
	return strings.TrimSpace(s) == s && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// isToken tells whether a text is a token of RFC 9110.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}

// Since is the configuration for a task as it stands: the receiver is told what happens from now on. Of a task that has
// ended or waits for an answer it is told that, as it may have come about before the configuration did.
func (c PushConfig) Since(t Task) PushConfig {
	c.Told = t.LastSeq
	if t.Status.Ended() || t.AwaitsInput {
		c.Told--
	}
	return c
}

// Behind reports whether the receiver does not know all of the task's log yet.
func (c PushConfig) Behind(t Task) bool { return c.DoneAt == nil && c.Told < t.LastSeq }

// Took is the configuration after the receiver knows the log up to seq. It is done when the task has ended with that.
func (c PushConfig) Took(seq int64, t Task, at time.Time) PushConfig {
	c.Told, c.Failures = max(c.Told, seq), 0
	if t.Status.Ended() && c.Told >= t.LastSeq {
		return c.End(at)
	}
	return c
}

// Refused is the configuration after an attempt that failed, and how long to wait before the next one. After the last
// one it is done.
func (c PushConfig) Refused(at time.Time) (PushConfig, time.Duration) {
	c.Failures++
	if c.Failures >= MaxPushAttempts {
		return c.End(at), 0
	}
	return c, min(pushRetryBase<<(c.Failures-1), pushRetryMax)
}

// End is the configuration when nothing more is to be sent. Its secrets are forgotten.
func (c PushConfig) End(at time.Time) PushConfig {
	c.DoneAt, c.Sealed = &at, nil
	return c
}

// Notable reports whether receivers are told of an event. What the requester's side says itself is none.
func (e Event) Notable() bool { return e.Message == nil || e.Message.Role != RoleUser }

// AnyNotable reports whether receivers are told of any of the events.
func AnyNotable(events []Event) bool { return slices.ContainsFunc(events, Event.Notable) }
