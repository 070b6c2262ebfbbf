package ports

import (
	"context"
	"encoding/json"
	"time"

	"github.com/nexus-protocol/nexus/domain/task"
)

// AgentCaller speaks to agents.
type AgentCaller interface {
	// Card fetches the agent card from the endpoint's well-known places. The error is for the log; whatever it is, the
	// agent is not reachable.
	Card(ctx context.Context, endpoint string) (json.RawMessage, error)
	// Send hands a message to an agent and returns its answer. Every error is a *CallError, but for that of a ctx that
	// ended and for those of Hear, which come back as they are.
	Send(ctx context.Context, c Call) (Answer, error)
	// Follow asks how a task that an agent works on is getting on; with Hear it may stay and listen. Errors as in Send.
	Follow(ctx context.Context, c Call) (Answer, error)
	// Cancel tells an agent that a task is no longer wanted. Errors as in Send.
	Cancel(ctx context.Context, c Call) error
}

// Call is what an agent is told.
type Call struct {
	Endpoint     string
	Card         json.RawMessage // the agent's, as Card gave it; nil if there is none
	TaskID       string          // ours
	SkillID      string
	Message      task.Message // its id is the same on every attempt
	RemoteTaskID string       // the agent's, once it is known
	ContextID    string
	// CallBack, if set, is given to an agent that says it can call back, with a message that it is to answer in one piece.
	CallBack *CallBack
	// Hear is given what an agent says and makes while it works, as it comes: the ids, and messages and artifacts that
	// are whole. It is not called again before it has returned, nor after the call has; what it was given is in the answer
	// that the agent ends with too, if it ends within the call. Its error ends the call. Without it, or with an agent that does not stream, what an agent
	// says comes with the answer that ends its task.
	Hear func(ctx context.Context, news Answer) error
}

// CallBack is where an agent can say that a task has moved on.
type CallBack struct {
	URL   string
	Token string // to be shown there
}

// AnswerState is how far an agent says it is.
type AnswerState string

// The states of an answer.
const (
	AnswerDone    AnswerState = "done"
	AnswerWorking AnswerState = "working" // ask again
	AnswerFailed  AnswerState = "failed"  // the agent says so; Reason has its words
	// AnswerInputRequired: the agent has asked something, or wants to be shown a right, and goes on when it is sent a
	// further message in the same context.
	AnswerInputRequired AnswerState = "input-required"
)

// Answer is what an agent said.
type Answer struct {
	State        AnswerState
	Reason       string
	Messages     []task.Message // the agent's; those that it gave before may be among them, under the same ids
	Artifacts    []task.Artifact
	RemoteTaskID string
	ContextID    string
}

// CallError says why a call brought no usable answer.
type CallError struct {
	Code        string // one of task's error codes
	Message     string // names the cause, fit to be shown to the requester
	Retryable   bool   // another attempt may do better
	Unreachable bool   // no connection came about, or it broke before an answer began
	RetryAfter  time.Duration
}

// Error implements error.
func (e *CallError) Error() string { return e.Code + ": " + e.Message }

// EndpointGuard decides which endpoints the engine is willing to call.
type EndpointGuard interface {
	// Check resolves the endpoint's host and refuses one that leads inside, with a message for the owner. A host that
	// cannot be resolved now is no error: the address is checked again at every connection.
	Check(ctx context.Context, endpoint string) error
}

// SchemaChecker knows JSON Schema.
type SchemaChecker interface {
	// Compile tells what is wrong with a schema, nil if nothing is. References to other documents are wrong.
	Compile(schema json.RawMessage) error
	// Validate tells what is wrong with a value under a schema, nil if nothing is: the paths and messages of all faults.
	// An error is the schema's, and comes again.
	Validate(schema, value json.RawMessage) ([]SchemaFault, error)
}

// SchemaFault is one place where a value breaks a schema.
type SchemaFault struct{ Path, Message string }

// PasswordHasher hashes passwords slowly. It bounds how many it works on at once.
type PasswordHasher interface {
	Hash(ctx context.Context, password string) (string, error)
	// Verify compares in constant time. An empty hash stands for a user who does not exist: it takes as long, and is false.
	Verify(ctx context.Context, password, hash string) (bool, error)
}

// RateLimiter counts requests.
type RateLimiter interface {
	// Allow takes one from the caller's allowance under the rule, if there is one left.
	Allow(ctx context.Context, key string, rule RateRule) (RateResult, error)
}

// RateRule is so many requests in so long a time, as a continuous flow that allows the whole number at once.
type RateRule struct {
	Name  string
	Limit int
	Per   time.Duration
}

// RateResult is what is left of an allowance.
type RateResult struct {
	Allowed    bool
	Limit      int
	Remaining  int
	RetryAfter time.Duration // 0 when allowed
	Reset      time.Duration // until the whole allowance is there again
}
