package ports

import (
	"context"
	"errors"
)

// Store keeps the engine's state.
type Store interface {
	// Update runs fn in a transaction: everything that fn wrote is saved when it returns nil, nothing otherwise. When
	// Update returns nil the change is durable. fn may run more than once (after a serialisation failure, or alone after
	// having shared a commit with others that failed), so it must not act outside of tx. A Get through tx sees what the
	// transaction wrote so far, and a Lock keeps the row from changing until the end. Update inside fn with fn's context
	// is ErrNestedUpdate. When ctx ends before the commit began, nothing is saved. What a store finds wrong with a write it
	// says there and then, or in a later step, or as Update's error.
	Update(ctx context.Context, fn func(ctx context.Context, tx Tx) error) error
	// Read gives access to what is committed. Each call stands for itself: two calls may see different moments.
	Read() Reads
	// Ping tells whether the store can be used now.
	Ping(ctx context.Context) error
}

// ErrNestedUpdate is returned by Update when it is called inside another Update.
var ErrNestedUpdate = errors.New("store: Update inside Update")

// ErrLeaseLost is returned by a JobStore when the job was handed to someone else in the meantime, or is done.
var ErrLeaseLost = errors.New("store: the job's lease is lost")

// ErrDuplicate is returned for a second row with a key that must be unique, where no fault says it better.
var ErrDuplicate = errors.New("store: duplicate key")

// Reads are the readers over committed state. It is a struct so that a new one breaks no adapter's or fake's build.
type Reads struct {
	Users      UserReader
	Sessions   SessionReader
	Keys       KeyReader
	Identities IdentityReader
	Tokens     TokenReader
	Letters    LetterReader
	Agents     AgentReader
	Tasks      TaskReader
	TaskLogs   TaskLogReader
	Ledger     LedgerReader
	Audit      LedgerAudit
	Earnings   EarningsReader
	Trust      TrustReader
	Jobs       JobReader
	Answers    AnswerReader
	Workflows  WorkflowReader
	Runs       RunReader
	RunLogs    RunLogReader
	Stats      StatsReader
	Purchases  PurchaseReader
	Grants     GrantReader
	Usage      UsageReader
	Statements StatementReader
	Secrets    SecretReader
	CallBacks  CallBackReader
	Push       PushReader
}

// Tx is a running transaction.
type Tx struct {
	Users     UserStore
	Sessions  SessionStore
	Keys      KeyStore
	Agents    AgentStore
	Tasks     TaskStore
	Ledger    LedgerStore
	Trust     TrustStore
	Jobs      JobStore
	Answers   AnswerStore
	CallBacks CallBackStore
	Push      PushStore
	Workflows WorkflowStore
	Runs      RunStore
	Purchases PurchaseStore
	Payments  PaymentStore
	Grants    GrantStore
	Usage     UsageStore
	Secrets   SecretStore

	Identities IdentityStore
	Tokens     TokenStore
	Letters    LetterStore

	// Foresight may be nil.
	Foresight Foresight
}

// Foresight hears what a unit of work is going to lock and read, so that a store on a server can take it in one round trip.
type Foresight interface {
	// Expect changes nothing but the time that it takes: rows that are not there are no error, and what is read later is as
	// if it had not been called. A unit that expects locks calls it before anything else. What is locked stays so, as ever, until
	// the unit ends.
	Expect(ctx context.Context, e Expected) error
}

// Expected is what a unit of work will lock and read. All of it may be empty.
type Expected struct {
	TaskID, RunID string   // will be locked,
	EvidenceOf    string   // and this agent's evidence,
	RequesterID   string   // with what it had to do with this user;
	UserIDs       []string // their money will be moved
	AgentIDs      []string // will be read
}
