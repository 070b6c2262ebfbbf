package identity_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
)

func secret(t interface{ Fatalf(string, ...any) }, random []byte) identity.Secret {
	s, ok := identity.NewSecret(random)
	if !ok {
		t.Fatalf("not enough randomness")
	}
	return s
}

func TestKeyForm(t *testing.T) {
	s := secret(t, bytes.Repeat([]byte{7, 61, 130}, 30))
	require.True(t, strings.HasPrefix(string(s), "nxk_"))
	require.Len(t, string(s), 42)
	require.Equal(t, string(s[:10]), s.Prefix())
	back, ok := identity.ParseSecret(string(s))
	require.True(t, ok)
	require.Equal(t, s, back)
	_, ok = identity.NewSecret(bytes.Repeat([]byte{255}, 100))
	require.False(t, ok, "bytes that would favour some characters are not used")
}

// Any one character changed, swapped with its neighbour, cut off or added is found without a look-up.
func TestKeyChecksumFindsTypos(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := []byte(secret(t, rapid.SliceOfN(rapid.ByteRange(0, 247), 64, 64).Draw(t, "random")))
		i := rapid.IntRange(4, len(s)-2).Draw(t, "place")
		wrong := bytes.Clone(s)
		switch rapid.IntRange(0, 3).Draw(t, "typo") {
		case 0:
			wrong[i] = rapid.SampledFrom([]byte("0123456789ABCxyz-_ ")).Draw(t, "character")
		case 1:
			wrong[i], wrong[i+1] = wrong[i+1], wrong[i]
		case 2:
			wrong = wrong[:i]
		case 3:
			wrong = append(wrong, wrong[i])
		}
		if _, ok := identity.ParseSecret(string(wrong)); ok && !bytes.Equal(wrong, s) {
			t.Fatalf("%s passes for %s", wrong, s)
		}
	})
}

func TestEmail(t *testing.T) {
	for in, want := range map[string]string{" Ann@Example.COM ": "ann@example.com", "a+b@c.de": "a+b@c.de"} {
		got, ok := identity.NormalizeEmail(in)
		require.True(t, ok, in)
		require.Equal(t, want, got)
	}
	for _, in := range []string{"", "ann", "ann@", "Ann <ann@example.com>", "a@b, c@d", strings.Repeat("a", 250) + "@b.de", "a@b\x00.de"} {
		_, ok := identity.NormalizeEmail(in)
		require.False(t, ok, in)
	}
}

func TestMakeKey(t *testing.T) {
	now := time.Date(2026, 3, 6, 12, 0, 0, 0, time.UTC)
	s := secret(t, bytes.Repeat([]byte{1}, 64))
	days := func(n int) *int { return &n }
	all := identity.Caller{UserID: "u", Scopes: identity.Scopes{identity.ScopeAll}}

	k, err := identity.NewKey{Name: "Production", Scopes: []string{"*"}, ExpiresInDays: days(90)}.Make(all, s, "k", "a", "u", now)
	require.NoError(t, err)
	require.Equal(t, now.AddDate(0, 0, 90), *k.ExpiresAt)
	require.True(t, k.Live(now.AddDate(0, 0, 89)))
	require.False(t, k.Live(now.AddDate(0, 0, 90)))

	_, err = identity.NewKey{Name: "", Scopes: []string{"nonsense", "tasks:read"}, ExpiresInDays: days(366)}.Make(all, s, "k", "a", "u", now)
	f, ok := fault.As(err)
	require.True(t, ok)
	require.Len(t, f.Details["fields"], 3, "every wrong field is named")

	narrow := identity.Caller{UserID: "u", Scopes: identity.Scopes{identity.ScopeKeysWrite, identity.ScopeTasksRead}}
	_, err = identity.NewKey{Name: "x", Scopes: []string{"tasks:read"}}.Make(narrow, s, "k", "a", "u", now)
	require.NoError(t, err)
	for _, more := range []string{"tasks:write", "*"} {
		_, err = identity.NewKey{Name: "x", Scopes: []string{more}}.Make(narrow, s, "k", "a", "u", now)
		f, ok := fault.As(err)
		require.True(t, ok)
		require.Equal(t, more, f.Details["requiredScope"], "a key cannot grant what it does not have")
	}
}

func TestAuthorize(t *testing.T) {
	hidden := fault.New(fault.NotFound, fault.CodeTaskNotFound, "hidden")
	taskOf := identity.Resource{OwnerUserID: "owner", RequesterUserID: "asker", Missing: hidden}
	person := func(id string) identity.Caller {
		return identity.SessionCaller(identity.User{ID: id, Role: identity.RoleUser}, "s")
	}
	admin := identity.SessionCaller(identity.User{ID: "boss", Role: identity.RoleAdmin}, "s")
	key := func(scopes ...identity.Scope) identity.Caller {
		return identity.KeyCaller(identity.APIKey{ID: "k", UserID: "asker", AgentID: "a", Scopes: scopes}, identity.RoleUser)
	}
	for name, c := range map[string]struct {
		caller identity.Caller
		action identity.Action
		on     identity.Resource
		want   fault.Code // "" when allowed
	}{
		"a stranger":                        {identity.Caller{}, identity.TaskRead, taskOf, fault.CodeUnauthorized},
		"the requester reads":               {person("asker"), identity.TaskRead, taskOf, ""},
		"the agent's owner reads":           {person("owner"), identity.TaskRead, taskOf, ""},
		"an admin reads":                    {admin, identity.TaskRead, taskOf, ""},
		"anyone else finds nothing":         {person("other"), identity.TaskRead, taskOf, fault.CodeTaskNotFound},
		"the owner does not cancel":         {person("owner"), identity.TaskCancel, taskOf, fault.CodeForbidden},
		"nobody else cancels":               {person("other"), identity.TaskCancel, taskOf, fault.CodeTaskNotFound},
		"the requester's key cancels":       {key(identity.ScopeTasksWrite), identity.TaskCancel, taskOf, ""},
		"a key without the scope does not":  {key(identity.ScopeTasksRead), identity.TaskCancel, taskOf, fault.CodeForbidden},
		"a key with all scopes does":        {key(identity.ScopeAll), identity.TaskCancel, taskOf, ""},
		"another's agent is no secret":      {person("other"), identity.AgentChange, identity.Resource{OwnerUserID: "owner"}, fault.CodeForbidden},
		"the owner changes it":              {person("owner"), identity.AgentChange, identity.Resource{OwnerUserID: "owner"}, ""},
		"an admin does not":                 {admin, identity.AgentChange, identity.Resource{OwnerUserID: "owner"}, fault.CodeForbidden},
		"the owner does not rate":           {person("owner"), identity.TrustRate, taskOf, fault.CodeForbidden},
		"billing needs its scope":           {key(identity.ScopeTasksRead), identity.BillingRead, identity.Resource{}, fault.CodeForbidden},
		"one's own account":                 {person("asker"), identity.AccountChange, identity.Resource{OwnerUserID: "asker"}, ""},
		"another's account":                 {person("other"), identity.AccountChange, identity.Resource{OwnerUserID: "asker"}, fault.CodeForbidden},
		"an admin in another's account":     {admin, identity.AccountChange, identity.Resource{OwnerUserID: "asker"}, fault.CodeForbidden},
		"a key in its user's account":       {key(identity.ScopeAll), identity.AccountRead, identity.Resource{OwnerUserID: "asker"}, fault.CodeForbidden},
		"an admin lists users":              {admin, identity.UserList, identity.Resource{}, ""},
		"a user does not":                   {person("asker"), identity.UserList, identity.Resource{}, fault.CodeForbidden},
		"an admin's key does not":           {identity.KeyCaller(identity.APIKey{ID: "k", UserID: "boss", Scopes: identity.Scopes{identity.ScopeAll}}, identity.RoleAdmin), identity.UserChange, identity.Resource{}, fault.CodeForbidden},
		"an empty resource belongs to none": {identity.Caller{Scopes: identity.Scopes{identity.ScopeAll}}, identity.AgentChange, identity.Resource{}, fault.CodeUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			err := identity.Authorize(c.caller, c.action, c.on)
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.True(t, fault.Has(err, c.want), "%v", err)
		})
	}
}

func TestSessionIsExtendedByUse(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := identity.Session{LastSeenAt: at, ExpiresAt: at.Add(identity.SessionIdle)}
	_, changed := s.Seen(at.Add(time.Second))
	require.False(t, changed, "not at every request")
	later := at.AddDate(0, 0, 20)
	s, changed = s.Seen(later)
	require.True(t, changed)
	require.True(t, s.Live(at.AddDate(0, 0, 45)))
	require.False(t, s.Live(later.Add(identity.SessionIdle)))
}

func TestTokens(t *testing.T) {
	token := identity.NewToken(bytes.Repeat([]byte{0xfb, 0xff}, identity.TokenEntropy/2))
	require.True(t, identity.IsToken(token))
	for _, no := range []string{"", "x", token[1:], token + "A", token + "=", strings.Replace(token, "-", "+", 1), token[:42] + "B", " " + token[1:]} {
		require.False(t, identity.IsToken(no), no)
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	held := identity.Token{ExpiresAt: now.Add(identity.ResetPassword.Life())}
	require.True(t, held.Live(now.Add(59*time.Minute)))
	require.False(t, held.Live(now.Add(time.Hour)))
}

func TestASessionsNameDoesNotTellItsHash(t *testing.T) {
	one, two := identity.Session{TokenHash: identity.HashToken("1")}, identity.Session{TokenHash: identity.HashToken("2")}
	require.Regexp(t, `^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`, one.ID())
	require.NotEqual(t, one.ID(), two.ID())
	require.NotContains(t, one.TokenHash, one.ID()[:8])
}

func TestADeletedUserHasNoName(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	u := identity.User{ID: "u", Email: "ann@example.com", PasswordHash: "h", Role: identity.RoleAdmin, PendingEmail: "x@example.com", VerifiedAt: &now}.Deleted(now)
	require.Equal(t, identity.User{ID: "u", Email: "u@deleted.invalid", Role: identity.RoleUser, DeletedAt: &now}, u)
	require.False(t, u.Active())
}
