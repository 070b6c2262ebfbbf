package identity

import (
	"fmt"
	"slices"

	"github.com/nexus-protocol/nexus/domain/fault"
)

// Scope is one permission of an API key.
type Scope string

// The scopes. ScopeAll stands for every one of them, those to come included.
const (
	ScopeAll            Scope = "*"
	ScopeAgentsRead     Scope = "agents:read"
	ScopeAgentsWrite    Scope = "agents:write"
	ScopeTasksRead      Scope = "tasks:read"
	ScopeTasksWrite     Scope = "tasks:write"
	ScopeWorkflowsRead  Scope = "workflows:read"
	ScopeWorkflowsWrite Scope = "workflows:write"
	ScopeTrustRead      Scope = "trust:read"
	ScopeTrustWrite     Scope = "trust:write"
	ScopeBillingRead    Scope = "billing:read"
	ScopeBillingWrite   Scope = "billing:write"
	ScopeKeysWrite      Scope = "keys:write"
)

// AllScopes lists every scope.
func AllScopes() []Scope {
	return []Scope{
		ScopeAll, ScopeAgentsRead, ScopeAgentsWrite, ScopeTasksRead, ScopeTasksWrite, ScopeWorkflowsRead, ScopeWorkflowsWrite,
		ScopeTrustRead, ScopeTrustWrite, ScopeBillingRead, ScopeBillingWrite, ScopeKeysWrite,
	}
}

// Scopes is what a credential allows.
type Scopes []Scope

// Allow reports whether s is allowed. Only "*" itself allows "*".
func (l Scopes) Allow(s Scope) bool { return slices.Contains(l, ScopeAll) || slices.Contains(l, s) }

func parseScopes(in []string, bad *fault.Fields) Scopes {
	if len(in) == 0 {
		bad.Add("scopes", `must name at least one scope, such as "*" or "tasks:write"`)
	}
	var out Scopes
	for i, s := range in {
		switch scope := Scope(s); {
		case !slices.Contains(AllScopes(), scope):
			bad.Add(fmt.Sprintf("scopes[%d]", i), "is no scope; there are %v", AllScopes())
		case !slices.Contains(out, scope):
			out = append(out, scope)
		}
	}
	return out
}

// Caller is who asks. The zero value is a stranger, who may do nothing that needs a credential.
type Caller struct {
	UserID  string
	Role    Role
	Scopes  Scopes
	AgentID string // the key's agent; "" for a session
	KeyID   string // "" for a session
	Session string // the hash of the session's token; "" for a key
}

// SessionCaller is a user who logged in: allowed all that the user is.
func SessionCaller(u User, tokenHash string) Caller {
	return Caller{UserID: u.ID, Role: u.Role, Scopes: Scopes{ScopeAll}, Session: tokenHash}
}

// KeyCaller is an API key, which acts for its user within its scopes.
func KeyCaller(k APIKey, role Role) Caller {
	return Caller{UserID: k.UserID, Role: role, Scopes: k.Scopes, AgentID: k.AgentID, KeyID: k.ID}
}

// Known reports whether the caller showed a credential that holds.
func (c Caller) Known() bool { return c.UserID != "" }

// Resource is what an action is about, reduced to who has part in it.
type Resource struct {
	OwnerUserID     string // of the agent, or of the task's agent
	RequesterUserID string // of the task
	Open            bool   // a stranger's task: whoever knows its id has part in it
	Missing         error  // what to answer a caller from whom it must be hidden
}

// Action is one thing that a caller may ask for.
type Action uint8

// The actions.
const (
	AgentRegister Action = iota
	AgentRead
	AgentChange // patch, delete, heartbeat
	AgentListOwn
	KeyCreate
	KeyList
	KeyRevoke
	TaskCreate
	TaskRead
	TaskCancel
	TaskReply  // for the requester's side
	TaskAnswer // for the agent's side
	TaskList
	TrustRead
	TrustRate
	BillingRead
	BillingBuy
	CreditsGrant
	GrantsRead
	LedgerAudit // of all the books
	WorkflowCreate
	WorkflowList
	WorkflowRead
	WorkflowChange // patch, delete, execute, cancel a run
	AccountRead    // one's own account, its sessions and identities
	AccountChange
	UserList // all users
	UserChange
	SystemRead // how the engine's work stands
	MarketRead // what is shown of agents to whoever comes by
	numActions
)

type relation uint8

const (
	anyone    relation = iota // any known caller
	owner                     // the resource's owner
	requester                 // the task's requester
	party                     // its requester, its agent's owner, or an admin
	admin
	person   // whose account it is, and no key of theirs
	operator // an admin, and no key of theirs
)

// rules is the whole of who may do what: the scope that a key needs, the part the caller must have in the resource, and
// whether its existence is hidden from those who have none.
var rules = [numActions]struct {
	scope  Scope
	who    relation
	hidden bool
	open   bool // strangers may do it to what is open
}{
	AgentRegister:  {ScopeAgentsWrite, anyone, false, false},
	AgentRead:      {ScopeAgentsRead, anyone, false, false},
	AgentChange:    {ScopeAgentsWrite, owner, false, false},
	AgentListOwn:   {ScopeAgentsRead, anyone, false, false},
	KeyCreate:      {ScopeKeysWrite, owner, false, false},
	KeyList:        {ScopeAgentsRead, owner, false, false},
	KeyRevoke:      {ScopeKeysWrite, owner, false, false},
	TaskCreate:     {ScopeTasksWrite, anyone, false, false},
	TaskRead:       {ScopeTasksRead, party, true, true},
	TaskCancel:     {ScopeTasksWrite, requester, true, true},
	TaskReply:      {ScopeTasksWrite, requester, true, true},
	TaskAnswer:     {ScopeTasksWrite, owner, true, false},
	TaskList:       {ScopeTasksRead, anyone, false, false},
	TrustRead:      {ScopeTrustRead, anyone, false, false},
	TrustRate:      {ScopeTrustWrite, requester, true, false},
	BillingRead:    {ScopeBillingRead, anyone, false, false},
	BillingBuy:     {ScopeBillingWrite, anyone, false, false},
	CreditsGrant:   {ScopeBillingWrite, admin, false, false},
	GrantsRead:     {ScopeBillingRead, admin, false, false},
	LedgerAudit:    {ScopeBillingRead, admin, false, false},
	WorkflowCreate: {ScopeWorkflowsWrite, anyone, false, false},
	WorkflowList:   {ScopeWorkflowsRead, anyone, false, false},
	WorkflowRead:   {ScopeWorkflowsRead, owner, false, false},
	WorkflowChange: {ScopeWorkflowsWrite, owner, false, false},
	AccountRead:    {ScopeAll, person, false, false},
	AccountChange:  {ScopeAll, person, false, false},
	UserList:       {ScopeAll, operator, false, false},
	UserChange:     {ScopeAll, operator, false, false},
	SystemRead:     {ScopeAll, operator, false, false},
	MarketRead:     {ScopeAgentsRead, anyone, false, true},
}

// MayAsk refuses a caller who may not do the action to anything: who has no credential, or a key that lacks the scope. It is
// for what is answered before it is known what the action is about, such as a repeat.
func MayAsk(c Caller, a Action) error {
	if !c.Known() {
		return Unauthorized()
	}
	if scope := rules[a].scope; !c.Scopes.Allow(scope) {
		return missingScope(scope)
	}
	return nil
}

// Authorize decides whether the caller may do the action on the resource. For actions on nothing in particular the
// resource is the zero value. What is open needs no credential. The order of refusals: no credential, missing scope, hidden, not theirs.
func Authorize(c Caller, a Action, r Resource) error {
	rule := rules[a]
	if r.Open && rule.open {
		return nil
	}
	if err := MayAsk(c, a); err != nil {
		return err
	}
	isOwner := c.UserID == r.OwnerUserID
	isRequester := c.UserID == r.RequesterUserID
	isParty := isOwner || isRequester || c.Role == RoleAdmin
	var ok bool
	switch rule.who {
	case anyone:
		ok = true
	case owner:
		ok = isOwner
	case requester:
		ok = isRequester
	case party:
		ok = isParty
	case person:
		ok = isOwner && c.KeyID == ""
	case admin:
		ok = c.Role == RoleAdmin
	case operator:
		ok = c.Role == RoleAdmin && c.KeyID == ""
	}
	switch {
	case ok:
		return nil
	case rule.hidden && !isParty && r.Missing != nil:
		return r.Missing
	case rule.who == admin:
		return fault.New(fault.Forbidden, fault.CodeForbidden, "only an administrator may do this")
	case rule.who == operator || rule.who == person:
		return fault.New(fault.Forbidden, fault.CodeForbidden, "only its owner, or an administrator where it is others', may do this, and not with a key: log in")
	default:
		return fault.New(fault.Forbidden, fault.CodeForbidden, "only its %s may do this", map[relation]string{
			owner: "owner", requester: "requester", party: "parties",
		}[rule.who])
	}
}

// Unauthorized is the fault of a caller without a credential that holds. It does not say what was wrong with it.
func Unauthorized() *fault.Error {
	return fault.New(fault.Unauthenticated, fault.CodeUnauthorized,
		"a valid credential is needed: log in, or send Authorization: Bearer nxk_…")
}

func missingScope(s Scope) *fault.Error {
	return fault.New(fault.Forbidden, fault.CodeForbidden, "this key lacks the scope %s", s).With("requiredScope", string(s))
}
