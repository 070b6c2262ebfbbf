// Package docshelf has the order in which the documentation is offered: the dashboard's pages and the API's reference, which
// is served elsewhere, show the same menu.
package docshelf

// Places that the menu leads to, which others lead to too.
const (
	Root      = "/docs"           // where the documentation begins
	Reference = "/docs/reference" // what the OpenAPI document says, for people
)

// Group is pages under one heading.
type Group struct {
	Title string
	Pages []Entry
}

// Entry leads to a page.
type Entry struct{ Path, Title string }

// Groups is the menu.
var Groups = []Group{
	{"Start", []Entry{{Root, "Overview"}, {"/docs/quickstart", "Quick start"}, {"/docs/concepts", "Concepts"}}},
	{"Use", []Entry{
		{"/docs/api", "API"}, {Reference, "API reference"}, {"/docs/a2a", "A2A"}, {"/docs/workflows", "Workflows"}, {"/docs/discovery", "Discovery"}, {"/docs/billing", "Billing"}, {"/docs/dashboard", "Dashboard"},
	}},
	{"Build in", []Entry{{"/docs/embedding", "Embedding"}, {"/docs/adapters", "Adapters"}, {"/docs/dependencies", "Dependencies"}}},
	{"Run", []Entry{{"/docs/operations", "Operations"}, {"/docs/deploy", "Deployment"}, {"/docs/signin", "Signing in"}, {"/docs/telemetry", "Telemetry"}}},
	{"Understand", []Entry{{"/docs/trust", "Trust"}, {"/docs/ledger", "The ledger"}, {"/docs/adr", "Decisions"}}},
}
