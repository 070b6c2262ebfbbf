package app_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/task"
)

// Strangers see the market, and nothing else; what agents brought in is for their owner to know.
func TestTheMarketIsOpenAndTheRestIsNot(t *testing.T) {
	r := newRig(t, memory.New())
	r.work()
	admin, owner := r.user(), r.user()
	a := r.agent(owner, credits.Whole(10), echo)
	r.ended(admin, r.create(admin, a).ID)

	stranger := identity.Caller{}
	l, err := r.Market.Search(t.Context(), stranger, registry.Query{})
	require.NoError(t, err)
	require.Len(t, l.Items, 1)
	one, err := r.Market.Agent(t.Context(), stranger, a.ID)
	require.NoError(t, err)
	assert.EqualValues(t, 1, one.Trust.Tasks.Completed)
	assert.Len(t, one.Days, 1)
	_, err = r.Market.Search(t.Context(), stranger, registry.Query{Limit: 1000})
	r.refused(err, fault.CodeValidation)
	_, err = r.Market.Agent(t.Context(), stranger, "no such agent")
	r.refused(err, fault.CodeAgentNotFound)
	_, err = r.Billing.EarnedByAgent(t.Context(), stranger)
	r.refused(err, fault.CodeUnauthorized)

	earned, err := r.Billing.EarnedByAgent(t.Context(), owner)
	require.NoError(t, err)
	assert.Equal(t, map[string]credits.Amount{a.ID: 950}, earned)
	_, err = r.Agents.Delete(t.Context(), owner, a.ID)
	require.NoError(t, err)
	_, err = r.Market.Agent(t.Context(), stranger, a.ID)
	r.refused(err, fault.CodeAgentNotFound)
}

func TestOnlyAdminsSeeHowTheWorkStands(t *testing.T) {
	r := newRig(t, memory.New())
	admin, user := r.user(), r.user()
	a := r.agent(user, 0, echo)
	r.create(admin, a)
	_, err := r.System.Overview(t.Context(), user)
	r.refused(err, fault.CodeForbidden)
	_, err = r.System.Overview(t.Context(), identity.Caller{})
	r.refused(err, fault.CodeUnauthorized)
	admin.Session = "a session" // keys are no use here
	o, err := r.System.Overview(t.Context(), admin)
	require.NoError(t, err)
	assert.Equal(t, 1, o.OpenTasks[task.Assigned])
	assert.Zero(t, o.Ledger.Imbalance)
}

// guarded refuses what leads inside.
type guarded struct{}

func (guarded) Check(_ context.Context, endpoint string) error {
	if endpoint == "http://inside.example" {
		return fault.New(fault.Invalid, fault.CodeValidation, "leads inside")
	}
	return nil
}

func TestAnEndpointIsLookedAtAndNothingKept(t *testing.T) {
	r := newRig(t, memory.New(), func(c *app.Config) { c.Guard = guarded{} })
	me := r.user()
	r.agents.Handle("http://there.example", echo)
	seen, err := r.Agents.Inspect(t.Context(), me, "http://there.example")
	require.NoError(t, err)
	assert.NotNil(t, seen.Card)
	seen, err = r.Agents.Inspect(t.Context(), me, "http://nobody.example")
	require.NoError(t, err)
	assert.Nil(t, seen.Card)
	for _, bad := range []string{"http://inside.example", "file:///etc/passwd", "", "http://a:b@there.example"} {
		_, err = r.Agents.Inspect(t.Context(), me, bad)
		r.refused(err, fault.CodeValidation)
	}
	_, err = r.Agents.Inspect(t.Context(), identity.Caller{}, "http://there.example")
	r.refused(err, fault.CodeUnauthorized)
	own, err := r.Agents.ListOwn(t.Context(), me, app.Page{})
	require.NoError(t, err)
	assert.Empty(t, own.Items)
	require.Eventually(t, func() bool { // a scanner of other people's ports gets nowhere
		_, err = r.Agents.Inspect(t.Context(), me, "http://there.example")
		return fault.Has(err, fault.CodeRateLimitExceeded)
	}, 5*time.Second, time.Millisecond)
}
