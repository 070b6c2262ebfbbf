// Package apitest shows that a server keeps the promises of the HTTP API. It speaks to the server over HTTP alone, so
// that one suite holds for every choice of adapters, and for a server in another process.
package apitest

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Target is the server under test. It must have no users yet, run its worker, be the only one to use its store, and let
// agents live at private addresses.
type Target struct {
	BaseURL string
	// AgentURL gives the endpoint of an agent that behaves so. Default: HTTP agents that the suite starts itself.
	AgentURL func(Behaviour) string
	// Pay pays at the address that a checkout led to, and returns what the provider tells of it: the body and the signature of
	// a delivery. nil: the server sells nothing.
	Pay func(t *testing.T, checkoutURL string) (body []byte, signature string)
	// RateLimited says that the server's limits are on.
	RateLimited bool
	// KeepAlive is how often the server writes to a stream in which nothing happens. Default: what servers do without being
	// told.
	KeepAlive time.Duration
}

// suite is one run.
type suite struct {
	Target
	http  *http.Client
	spec  *spec
	admin *client
}

// Run runs the suite.
func Run(t *testing.T, target Target) {
	t.Helper()
	if target.AgentURL == nil {
		target.AgentURL = startAgents(t)
	}
	if target.KeepAlive == 0 {
		target.KeepAlive = 12 * time.Second
	}
	s := &suite{Target: target, http: &http.Client{
		Timeout:       30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	s.spec = loadSpec(t, s)
	s.admin = s.signUp(t)
	require.Equal(t, "admin", s.admin.role, "the first user is the admin; does the server have users already?")

	for _, test := range []struct {
		name string
		run  func(*testing.T, *suite)
	}{
		{"Health", testHealth},
		{"Document", testDocument},
		{"Docs", testDocs},
		{"DefaultDeny", testDefaultDeny},
		{"Routes", testRoutes},
		{"Headers", testHeaders},
		{"SignUp", testSignUp},
		{"LogIn", testLogIn},
		{"Forms", testForms},
		{"Credentials", testCredentials},
		{"CrossOrigin", testCrossOrigin},
		{"Agents", testAgents},
		{"AgentValidation", testAgentValidation},
		{"AgentPatch", testAgentPatch},
		{"AgentOwnership", testAgentOwnership},
		{"AgentDelete", testAgentDelete},
		{"Heartbeat", testHeartbeat},
		{"Discover", testDiscover},
		{"Latency", testLatency},
		{"Keys", testKeys},
		{"Scopes", testScopes},
		{"Tasks", testTasks},
		{"TaskRefusals", testTaskRefusals},
		{"TaskFailures", testTaskFailures},
		{"TaskTimeout", testTaskTimeout},
		{"TaskCancel", testTaskCancel},
		{"TaskReplies", testTaskReplies},
		{"TaskQuestions", testTaskQuestions},
		{"TaskQueue", testTaskQueue},
		{"DashboardTasks", testDashboardTasks},
		{"Repeats", testRepeats},
		{"TaskPrivacy", testTaskPrivacy},
		{"TaskList", testTaskList},
		{"Stream", testStream},
		{"StreamResume", testStreamResume},
		{"StreamEnds", testStreamEnds},
		{"StreamRefusals", testStreamRefusals},
		{"StreamKeepAlive", testStreamKeepAlive},
		{"StreamRevoked", testStreamRevoked},
		{"StreamCut", testStreamCut},
		{"Workflows", testWorkflows},
		{"WorkflowRuns", testWorkflowRuns},
		{"WorkflowRefusals", testWorkflowRefusals},
		{"RunStream", testRunStream},
		{"Spending", testSpending},
		{"Trust", testTrust},
		{"Billing", testBilling},
		{"TransactionsTable", testTransactionsTable},
		{"Checkout", testCheckout},
		{"Webhook", testWebhook},
		{"CheckoutLimit", testCheckoutLimit},
		{"Grants", testGrants},
		{"Bodies", testBodies},
		{"Queries", testQueries},
		{"IDs", testIDs},
		{"RateLimit", testRateLimit},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, s)
		})
	}
}
