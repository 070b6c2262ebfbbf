package bunstore

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/uptrace/bun"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/domain/trust"
	"github.com/nexus-protocol/nexus/ports"
)

// views are the stores over one access.
type views struct {
	users      users
	sessions   sessions
	keys       keys
	agents     agents
	tasks      tasks
	ledger     books
	trust      trusts
	jobs       jobs
	answers    answers
	workflows  workflows
	runs       runs
	purchases  purchases
	payments   payments
	grants     grants
	usage      usage
	accounts   accounts
	secrets    secrets
	callBacks  callBacks
	push       pushes
	identities identities
	tokens     tokens
	letters    letters
}

func newViews(a access) *views {
	return &views{users{a}, sessions{a}, keys{a}, agents{a}, tasks{a}, books{a}, trusts{a}, jobs{a}, answers{a}, workflows{a}, runs{a}, purchases{a}, payments{a}, grants{a}, usage{a}, accounts{a}, secrets{a}, callBacks{a}, pushes{a}, identities{a}, tokens{a}, letters{a}}
}

func (v *views) tx() ports.Tx {
	return ports.Tx{
		Users: &v.users, Sessions: &v.sessions, Keys: &v.keys, Agents: &v.agents, Tasks: &v.tasks, Ledger: &v.ledger, Trust: &v.trust, Jobs: &v.jobs, Answers: &v.answers,
		Workflows: &v.workflows, Runs: &v.runs, Purchases: &v.purchases, Payments: &v.payments, Grants: &v.grants, Usage: &v.usage, Secrets: &v.secrets, CallBacks: &v.callBacks, Push: &v.push,
		Identities: &v.identities, Tokens: &v.tokens, Letters: &v.letters, Foresight: foresight{v.tasks.access},
	}
}

func (v *views) reads() ports.Reads {
	return ports.Reads{
		Users: &v.users, Sessions: &v.sessions, Keys: &v.keys, Agents: &v.agents, Tasks: &v.tasks, TaskLogs: &v.tasks, Ledger: &v.ledger, Earnings: &v.ledger, Trust: &v.trust, Jobs: &v.jobs, Answers: &v.answers,
		Workflows: &v.workflows, Runs: &v.runs, RunLogs: &v.runs, Purchases: &v.purchases, Grants: &v.grants, Usage: &v.usage, Statements: &v.accounts, Secrets: &v.secrets, CallBacks: &v.callBacks, Push: &v.push,
		Identities: &v.identities, Tokens: &v.tokens, Letters: &v.letters,
	}
}

// micros is a moment in microseconds since 1970, UTC. It is a plain number to every database, so that order and equality
// are exact.
type micros int64

func at(t time.Time) micros { return micros(t.UnixMicro()) }

func (m micros) time() time.Time { return time.UnixMicro(int64(m)).UTC() }

func maybeAt(t *time.Time) sql.NullInt64 {
	if t == nil {
		return sql.NullInt64{}
	}
	return sql.NullInt64{Int64: t.UnixMicro(), Valid: true}
}

func maybeTime(n sql.NullInt64) *time.Time {
	if !n.Valid {
		return nil
	}
	t := micros(n.Int64).time()
	return &t
}

// maybeMillis is a length of time in whole milliseconds; none of 0.
func maybeMillis(d time.Duration) sql.NullInt64 {
	return sql.NullInt64{Int64: d.Milliseconds(), Valid: d != 0}
}

func millis(n sql.NullInt64) time.Duration { return time.Duration(n.Int64) * time.Millisecond }

// number is how a truth is kept.
func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// raw keeps JSON as the text that it is, byte by byte; nil is NULL.
func raw(j json.RawMessage) sql.NullString { return sql.NullString{String: string(j), Valid: j != nil} }

func unraw(n sql.NullString) json.RawMessage {
	if !n.Valid {
		return nil
	}
	return json.RawMessage(n.String)
}

// pack writes what this package made itself as JSON.
func pack(v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("encode: %w", err)
	}
	return string(b), nil
}

func unpack(text string, v any) error {
	if err := json.Unmarshal([]byte(text), v); err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	return nil
}

// quoted is JSON from outside inside of JSON of ours: as a string, so that no byte of it is lost.
type quoted = *string

func quote(j json.RawMessage) quoted {
	if j == nil {
		return nil
	}
	s := string(j)
	return &s
}

func unquote(q quoted) json.RawMessage {
	if q == nil {
		return nil
	}
	return json.RawMessage(*q)
}

type userRow struct {
	bun.BaseModel `bun:"table:users,alias:u"`

	ID           string        `bun:"id,pk"`
	Email        string        `bun:"email"`
	PasswordHash string        `bun:"password_hash"`
	Role         identity.Role `bun:"role"`
	CreatedAt    micros        `bun:"created_at"`

	VerifiedAt   sql.NullInt64 `bun:"verified_at"`
	PendingEmail string        `bun:"pending_email"`
	DisabledAt   sql.NullInt64 `bun:"disabled_at"`
	DeletedAt    sql.NullInt64 `bun:"deleted_at"`
	Name         string        `bun:"name"`
}

func (r userRow) domain() identity.User {
	return identity.User{
		ID: r.ID, Email: r.Email, Name: r.Name, PasswordHash: r.PasswordHash, Role: r.Role, CreatedAt: r.CreatedAt.time(),
		VerifiedAt: maybeTime(r.VerifiedAt), PendingEmail: r.PendingEmail, DisabledAt: maybeTime(r.DisabledAt), DeletedAt: maybeTime(r.DeletedAt),
	}
}

func userRowOf(u identity.User) userRow {
	return userRow{
		ID: u.ID, Email: u.Email, Name: u.Name, PasswordHash: u.PasswordHash, Role: u.Role, CreatedAt: at(u.CreatedAt),
		VerifiedAt: maybeAt(u.VerifiedAt), PendingEmail: u.PendingEmail, DisabledAt: maybeAt(u.DisabledAt), DeletedAt: maybeAt(u.DeletedAt),
	}
}

type sessionRow struct {
	bun.BaseModel `bun:"table:sessions,alias:s"`

	TokenHash  string `bun:"token_hash,pk"`
	UserID     string `bun:"user_id"`
	CreatedAt  micros `bun:"created_at"`
	LastSeenAt micros `bun:"last_seen_at"`
	ExpiresAt  micros `bun:"expires_at"`
	Address    string `bun:"address"`
	Device     string `bun:"device"`
}

func (r sessionRow) domain() identity.Session {
	return identity.Session{
		TokenHash: r.TokenHash, UserID: r.UserID, CreatedAt: r.CreatedAt.time(), LastSeenAt: r.LastSeenAt.time(), ExpiresAt: r.ExpiresAt.time(),
		Address: r.Address, Device: r.Device,
	}
}

type keyRow struct {
	bun.BaseModel `bun:"table:api_keys,alias:k"`

	ID         string        `bun:"id,pk"`
	AgentID    string        `bun:"agent_id"`
	UserID     string        `bun:"user_id"`
	Name       string        `bun:"name"`
	Prefix     string        `bun:"prefix"`
	Hash       string        `bun:"hash"`
	Scopes     string        `bun:"scopes"`
	CreatedAt  micros        `bun:"created_at"`
	ExpiresAt  sql.NullInt64 `bun:"expires_at"`
	LastUsedAt sql.NullInt64 `bun:"last_used_at"`
	RevokedAt  sql.NullInt64 `bun:"revoked_at"`
}

const keyColumns = `k.id, k.agent_id, k.user_id, k.name, k.prefix, k.hash, k.scopes, k.created_at, k.expires_at, k.last_used_at, k.revoked_at`

func (r *keyRow) dest() []any {
	return []any{
		&r.ID, &r.AgentID, &r.UserID, &r.Name, &r.Prefix, &r.Hash, &r.Scopes, &r.CreatedAt, &r.ExpiresAt, &r.LastUsedAt, &r.RevokedAt,
	}
}

func keyRowOf(k identity.APIKey) (keyRow, error) {
	scopes, err := pack(k.Scopes)
	return keyRow{
		ID: k.ID, AgentID: k.AgentID, UserID: k.UserID, Name: k.Name, Prefix: k.Prefix, Hash: k.Hash, Scopes: scopes, CreatedAt: at(k.CreatedAt),
		ExpiresAt: maybeAt(k.ExpiresAt), LastUsedAt: maybeAt(k.LastUsedAt), RevokedAt: maybeAt(k.RevokedAt),
	}, err
}

func (r keyRow) domain() (identity.APIKey, error) {
	k := identity.APIKey{
		ID: r.ID, AgentID: r.AgentID, UserID: r.UserID, Name: r.Name, Prefix: r.Prefix, Hash: r.Hash, CreatedAt: r.CreatedAt.time(),
		ExpiresAt: maybeTime(r.ExpiresAt), LastUsedAt: maybeTime(r.LastUsedAt), RevokedAt: maybeTime(r.RevokedAt),
	}
	return k, unpack(r.Scopes, &k.Scopes)
}

type agentRow struct {
	bun.BaseModel `bun:"table:agents,alias:a"`

	ID            string          `bun:"id,pk"`
	Version       int64           `bun:"version"`
	OwnerUserID   string          `bun:"owner_user_id"`
	Status        registry.Status `bun:"status"`
	Category      string          `bun:"category"`
	Price         int64           `bun:"price"`
	TrustScore    float64         `bun:"trust_score"`
	TrustBound    float64         `bun:"trust_bound"`
	Latency       sql.NullInt64   `bun:"latency_ms"`
	Featured      int             `bun:"featured"`
	LastHeartbeat sql.NullInt64   `bun:"last_heartbeat"`
	CreatedAt     micros          `bun:"created_at"`
	UpdatedAt     micros          `bun:"updated_at"`
	DeletedAt     sql.NullInt64   `bun:"deleted_at"`
	Name          string          `bun:"name"`
	Endpoint      string          `bun:"endpoint"`
	Description   string          `bun:"description"`
	Tags          string          `bun:"tags"`
	Metadata      sql.NullString  `bun:"metadata"`
	Skills        string          `bun:"skills"`
	Card          sql.NullString  `bun:"card"`
}

const agentColumns = `a.id, a.version, a.owner_user_id, a.status, a.category, a.price, a.trust_score, a.trust_bound, a.latency_ms, a.featured, a.last_heartbeat, a.created_at, a.updated_at,
	a.deleted_at, a.name, a.endpoint, a.description, a.tags, a.metadata, a.skills, a.card`

func (r *agentRow) dest() []any {
	return []any{
		&r.ID, &r.Version, &r.OwnerUserID, &r.Status, &r.Category, &r.Price, &r.TrustScore, &r.TrustBound, &r.Latency, &r.Featured, &r.LastHeartbeat, &r.CreatedAt, &r.UpdatedAt,
		&r.DeletedAt, &r.Name, &r.Endpoint, &r.Description, &r.Tags, &r.Metadata, &r.Skills, &r.Card,
	}
}

// size is that of its texts, in bytes.
func (r *agentRow) size() int {
	return len(r.Skills) + len(r.Tags) + len(r.Metadata.String) + len(r.Card.String) + len(r.Description)
}

type skillDoc struct {
	ID           string   `json:"id"`
	Name         string   `json:"name"`
	Description  string   `json:"description,omitempty"`
	Tags         []string `json:"tags"`
	InputSchema  quoted   `json:"inputSchema,omitempty"`
	OutputSchema quoted   `json:"outputSchema,omitempty"`
}

func agentRowOf(a registry.Agent) (agentRow, error) {
	var docs []skillDoc // nil stays null, empty stays []
	if a.Skills != nil {
		docs = make([]skillDoc, len(a.Skills))
	}
	for i, s := range a.Skills {
		docs[i] = skillDoc{s.ID, s.Name, s.Description, s.Tags, quote(s.InputSchema), quote(s.OutputSchema)}
	}
	skills, err := pack(docs)
	if err != nil {
		return agentRow{}, err
	}
	tags, err := pack(a.Tags)
	featured := 0
	if a.Featured {
		featured = 1
	}
	return agentRow{
		ID: a.ID, Version: rand.Int64(), OwnerUserID: a.OwnerUserID, Status: a.Status, Category: a.Category, Price: int64(a.Price), TrustScore: a.TrustScore, TrustBound: a.TrustBound, Latency: maybeMillis(a.Latency), Featured: featured,
		LastHeartbeat: maybeAt(a.LastHeartbeat), CreatedAt: at(a.CreatedAt), UpdatedAt: at(a.UpdatedAt), DeletedAt: maybeAt(a.DeletedAt),
		Name: a.Name, Endpoint: a.Endpoint, Description: a.Description, Tags: tags, Metadata: raw(a.Metadata), Skills: skills, Card: raw(a.Card),
	}, err
}

func (r agentRow) domain() (registry.Agent, error) {
	a := registry.Agent{
		ID: r.ID, OwnerUserID: r.OwnerUserID, Name: r.Name, Description: r.Description, Endpoint: r.Endpoint, Status: r.Status, Category: r.Category,
		Metadata: unraw(r.Metadata), Price: credits.Amount(r.Price), TrustScore: r.TrustScore, TrustBound: r.TrustBound, Latency: millis(r.Latency), Featured: r.Featured != 0, Card: unraw(r.Card),
		LastHeartbeat: maybeTime(r.LastHeartbeat), CreatedAt: r.CreatedAt.time(), UpdatedAt: r.UpdatedAt.time(), DeletedAt: maybeTime(r.DeletedAt),
	}
	if err := unpack(r.Tags, &a.Tags); err != nil {
		return a, err
	}
	var docs []skillDoc
	if err := unpack(r.Skills, &docs); err != nil {
		return a, err
	}
	if docs != nil {
		a.Skills = make([]registry.Skill, len(docs))
	}
	for i, d := range docs {
		a.Skills[i] = registry.Skill{
			ID: d.ID, Name: d.Name, Description: d.Description, Tags: d.Tags, InputSchema: unquote(d.InputSchema), OutputSchema: unquote(d.OutputSchema),
		}
	}
	return a, nil
}

type taskRow struct {
	bun.BaseModel `bun:"table:tasks,alias:t"`

	ID               string         `bun:"id,pk"`
	Status           task.Status    `bun:"status"`
	RequesterUserID  string         `bun:"requester_user_id"`
	RequesterAgentID string         `bun:"requester_agent_id"`
	AgentID          string         `bun:"agent_id"`
	AgentOwnerID     string         `bun:"agent_owner_id"`
	SkillID          string         `bun:"skill_id"`
	MaxBudget        sql.NullInt64  `bun:"max_budget"`
	Price            int64          `bun:"price"`
	Attempts         int            `bun:"attempts"`
	Timeout          time.Duration  `bun:"timeout"`
	CreatedAt        micros         `bun:"created_at"`
	StartedAt        sql.NullInt64  `bun:"started_at"`
	UpdatedAt        micros         `bun:"updated_at"`
	TimeoutAt        micros         `bun:"timeout_at"`
	CompletedAt      sql.NullInt64  `bun:"completed_at"`
	WorkflowRunID    string         `bun:"workflow_run_id"`
	StepIndex        sql.NullInt64  `bun:"step_index"`
	RemoteTaskID     string         `bun:"remote_task_id"`
	ContextID        string         `bun:"context_id"`
	LastSeq          int64          `bun:"last_seq"`
	Conversation     string         `bun:"conversation"`
	Verbatim         int            `bun:"verbatim"`
	Asked            int64          `bun:"asked"`
	Told             int64          `bun:"told"`
	Tried            int            `bun:"tried"`
	AwaitsInput      int            `bun:"awaits_input"`
	Push             int            `bun:"push"`
	ErrorCode        sql.NullString `bun:"error_code"`
	ErrorMessage     sql.NullString `bun:"error_message"`
	Title            string         `bun:"title"`
	Description      string         `bun:"description"`
	Input            sql.NullString `bun:"input"`
	Output           sql.NullString `bun:"output"`
}

const taskColumns = `id, status, requester_user_id, requester_agent_id, agent_id, agent_owner_id, skill_id, max_budget, price, attempts, timeout,
	created_at, started_at, updated_at, timeout_at, completed_at, workflow_run_id, step_index, remote_task_id, context_id, last_seq,
	conversation, verbatim, asked, told, tried, awaits_input, push, error_code, error_message, title, description, input, output`

const taskColumnCount = 34

func (r *taskRow) dest() []any {
	return []any{
		&r.ID, &r.Status, &r.RequesterUserID, &r.RequesterAgentID, &r.AgentID, &r.AgentOwnerID, &r.SkillID, &r.MaxBudget, &r.Price, &r.Attempts, &r.Timeout,
		&r.CreatedAt, &r.StartedAt, &r.UpdatedAt, &r.TimeoutAt, &r.CompletedAt, &r.WorkflowRunID, &r.StepIndex, &r.RemoteTaskID, &r.ContextID, &r.LastSeq,
		&r.Conversation, &r.Verbatim, &r.Asked, &r.Told, &r.Tried, &r.AwaitsInput, &r.Push, &r.ErrorCode, &r.ErrorMessage, &r.Title, &r.Description, &r.Input, &r.Output,
	}
}

func (r *taskRow) values() []any {
	return []any{
		r.ID, string(r.Status), r.RequesterUserID, r.RequesterAgentID, r.AgentID, r.AgentOwnerID, r.SkillID, r.MaxBudget, r.Price, r.Attempts, int64(r.Timeout),
		int64(r.CreatedAt), r.StartedAt, int64(r.UpdatedAt), int64(r.TimeoutAt), r.CompletedAt, r.WorkflowRunID, r.StepIndex, r.RemoteTaskID, r.ContextID, r.LastSeq,
		r.Conversation, r.Verbatim, r.Asked, r.Told, r.Tried, r.AwaitsInput, r.Push, r.ErrorCode, r.ErrorMessage, r.Title, r.Description, r.Input, r.Output,
	}
}

func taskRowOf(t task.Task) taskRow {
	r := taskRow{
		ID: t.ID, Status: t.Status, RequesterUserID: t.RequesterUserID, RequesterAgentID: t.RequesterAgentID, AgentID: t.AgentID, AgentOwnerID: t.AgentOwnerID,
		SkillID: t.SkillID, Price: int64(t.Price), Attempts: t.Attempts, Timeout: t.Timeout, CreatedAt: at(t.CreatedAt), StartedAt: maybeAt(t.StartedAt),
		UpdatedAt: at(t.UpdatedAt), TimeoutAt: at(t.TimeoutAt), CompletedAt: maybeAt(t.CompletedAt), WorkflowRunID: t.WorkflowRunID,
		RemoteTaskID: t.RemoteTaskID, ContextID: t.ContextID, LastSeq: t.LastSeq, Conversation: t.Conversation, Verbatim: number(t.Verbatim), Asked: t.Asked, Told: t.Told, Tried: t.Tried, AwaitsInput: number(t.AwaitsInput), Push: number(t.Push), Title: t.Title, Description: t.Description, Input: raw(t.Input), Output: raw(t.Output),
	}
	if t.MaxBudget != nil {
		r.MaxBudget = sql.NullInt64{Int64: int64(*t.MaxBudget), Valid: true}
	}
	if t.StepIndex != nil {
		r.StepIndex = sql.NullInt64{Int64: int64(*t.StepIndex), Valid: true}
	}
	if t.Error != nil {
		r.ErrorCode = sql.NullString{String: t.Error.Code, Valid: true}
		r.ErrorMessage = sql.NullString{String: t.Error.Message, Valid: true}
	}
	return r
}

func (r *taskRow) domain() task.Task {
	t := task.Task{
		ID: r.ID, Title: r.Title, Description: r.Description, Status: r.Status, RequesterUserID: r.RequesterUserID, RequesterAgentID: r.RequesterAgentID,
		AgentID: r.AgentID, AgentOwnerID: r.AgentOwnerID, SkillID: r.SkillID, Input: unraw(r.Input), Output: unraw(r.Output), Price: credits.Amount(r.Price),
		Attempts: r.Attempts, Timeout: r.Timeout, CreatedAt: r.CreatedAt.time(), StartedAt: maybeTime(r.StartedAt), UpdatedAt: r.UpdatedAt.time(),
		TimeoutAt: r.TimeoutAt.time(), CompletedAt: maybeTime(r.CompletedAt), WorkflowRunID: r.WorkflowRunID, RemoteTaskID: r.RemoteTaskID, ContextID: r.ContextID,
		LastSeq: r.LastSeq, Conversation: r.Conversation, Verbatim: r.Verbatim != 0, Asked: r.Asked, Told: r.Told, Tried: r.Tried, AwaitsInput: r.AwaitsInput != 0, Push: r.Push != 0,
	}
	if r.MaxBudget.Valid {
		b := credits.Amount(r.MaxBudget.Int64)
		t.MaxBudget = &b
	}
	if r.StepIndex.Valid {
		i := int(r.StepIndex.Int64)
		t.StepIndex = &i
	}
	if r.ErrorCode.Valid {
		t.Error = &task.Error{Code: r.ErrorCode.String, Message: r.ErrorMessage.String}
	}
	return t
}

// eventDoc is the body of an event; most status events have none.
type eventDoc struct {
	Awaits   bool         `json:"awaitsInput,omitempty"`
	Message  *messageDoc  `json:"message,omitempty"`
	Artifact *artifactDoc `json:"artifact,omitempty"`
	Error    *errorDoc    `json:"error,omitempty"`
}

type messageDoc struct {
	ID    string    `json:"id"`
	Role  task.Role `json:"role"`
	Parts []partDoc `json:"parts"`
	At    micros    `json:"at"`
}

type artifactDoc struct {
	ID          string    `json:"id"`
	Name        string    `json:"name,omitempty"`
	Description string    `json:"description,omitempty"`
	Parts       []partDoc `json:"parts"`
}

type partDoc struct {
	Type     task.PartType `json:"type"`
	Data     quoted        `json:"data,omitempty"`
	Metadata quoted        `json:"metadata,omitempty"`
}

type errorDoc struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func partDocs(parts []task.Part) []partDoc {
	if parts == nil {
		return nil
	}
	docs := make([]partDoc, len(parts))
	for i, p := range parts {
		docs[i] = partDoc{p.Type, quote(p.Data), quote(p.Metadata)}
	}
	return docs
}

func partsOf(docs []partDoc) []task.Part {
	if docs == nil {
		return nil
	}
	parts := make([]task.Part, len(docs))
	for i, d := range docs {
		parts[i] = task.Part{Type: d.Type, Data: unquote(d.Data), Metadata: unquote(d.Metadata)}
	}
	return parts
}

func eventBody(e task.Event) (string, error) {
	d := eventDoc{Awaits: e.AwaitsInput}
	switch {
	case e.Message != nil:
		d.Message = &messageDoc{e.Message.ID, e.Message.Role, partDocs(e.Message.Parts), at(e.Message.At)}
	case e.Artifact != nil:
		d.Artifact = &artifactDoc{e.Artifact.ID, e.Artifact.Name, e.Artifact.Description, partDocs(e.Artifact.Parts)}
	}
	if e.Error != nil {
		d.Error = &errorDoc{e.Error.Code, e.Error.Message}
	}
	if d == (eventDoc{}) {
		return "", nil
	}
	return pack(d)
}

// eventOf puts an event together again.
func eventOf(taskID string, seq int64, kind task.EventKind, status task.Status, when micros, body string) (task.Event, error) {
	e := task.Event{TaskID: taskID, Seq: seq, Kind: kind, Status: status, At: when.time()}
	if body == "" {
		return e, nil
	}
	var d eventDoc
	if err := unpack(body, &d); err != nil {
		return e, err
	}
	e.AwaitsInput = d.Awaits
	if m := d.Message; m != nil {
		e.Message = &task.Message{ID: m.ID, Role: m.Role, Parts: partsOf(m.Parts), At: m.At.time()}
	}
	if a := d.Artifact; a != nil {
		e.Artifact = &task.Artifact{ID: a.ID, Name: a.Name, Description: a.Description, Parts: partsOf(a.Parts)}
	}
	if d.Error != nil {
		e.Error = &task.Error{Code: d.Error.Code, Message: d.Error.Message}
	}
	return e, nil
}

type entryRow struct {
	ID           string           `bun:"id"`
	TransferID   string           `bun:"transfer_id"`
	Account      ledger.Account   `bun:"account"`
	Type         ledger.EntryType `bun:"type"`
	Amount       int64            `bun:"amount"`
	BalanceAfter int64            `bun:"balance_after"`
	At           micros           `bun:"at"`
	Reference    string           `bun:"reference"`
	Description  string           `bun:"description"`
}

const entryColumns = `e.id, e.transfer_id, e.account, e.type, e.amount, e.balance_after, e.at, x.reference, x.description`

func (r entryRow) domain() ledger.Entry {
	userID, _, _ := r.Account.User()
	return ledger.Entry{
		ID: r.ID, TransferID: r.TransferID, Account: r.Account, UserID: userID, Type: r.Type, Amount: credits.Amount(r.Amount),
		BalanceAfter: credits.Amount(r.BalanceAfter), Reference: r.Reference, Description: r.Description, At: r.At.time(),
	}
}

type trustEventRow struct {
	bun.BaseModel `bun:"table:trust_events,alias:e"`

	ID          string          `bun:"id"`
	AgentID     string          `bun:"agent_id"`
	Type        trust.EventType `bun:"type"`
	Score       float64         `bun:"score"`
	Seq         int64           `bun:"seq"`
	Weight      float64         `bun:"weight"`
	Speed       float64         `bun:"speed"`
	Damping     float64         `bun:"damping"`
	ScoreBefore float64         `bun:"score_before"`
	ScoreAfter  float64         `bun:"score_after"`
	TaskID      string          `bun:"task_id"`
	Reason      string          `bun:"reason"`
	CreatedAt   micros          `bun:"created_at"`
}

func (r trustEventRow) domain() trust.Event {
	return trust.Event{
		ID: r.ID, AgentID: r.AgentID, Seq: r.Seq, Type: r.Type, Score: r.Score, Weight: r.Weight, Speed: r.Speed, Damping: r.Damping, Reason: r.Reason, TaskID: r.TaskID, ScoreBefore: r.ScoreBefore,
		ScoreAfter: r.ScoreAfter, CreatedAt: r.CreatedAt.time(),
	}
}
