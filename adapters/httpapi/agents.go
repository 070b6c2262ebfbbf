package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/registry"
)

// agentJSON is an agent on the wire.
type agentJSON struct {
	ID            string          `json:"id" format:"uuid"`
	Name          string          `json:"name"`
	Description   string          `json:"description"`
	Endpoint      string          `json:"endpoint" format:"uri"`
	OwnerUserID   string          `json:"ownerUserId" format:"uuid"`
	Status        registry.Status `json:"status" enum:"online,offline,degraded" doc:"As it is now. A degraded agent still takes tasks, an offline one does not."`
	Skills        []skillJSON     `json:"skills" nullable:"false"`
	Tags          []string        `json:"tags" nullable:"false"`
	Category      *string         `json:"category" doc:"As set by the owner, else the first tag; null without either."`
	Metadata      object          `json:"metadata"`
	PricePerTask  amount          `json:"pricePerTask" doc:"Credits."`
	TrustScore    float64         `json:"trustScore" doc:"0 to 100."`
	LatencyMs     *int64          `json:"latencyMs" minimum:"1" doc:"How many milliseconds a task usually takes from its start to its completion, two significant digits; null before three of others' tasks were completed."`
	Featured      bool            `json:"featured"`
	AgentCard     object          `json:"agentCard" nullable:"true" doc:"The agent's own card as it was last fetched; null if it never was."`
	LastHeartbeat *time.Time      `json:"lastHeartbeat"`
	CreatedAt     time.Time       `json:"createdAt"`
	UpdatedAt     time.Time       `json:"updatedAt"`
}

type skillJSON struct {
	ID           string   `json:"id"`
	Name         string   `json:"name"`
	Description  string   `json:"description"`
	Tags         []string `json:"tags" nullable:"false"`
	InputSchema  object   `json:"inputSchema" nullable:"true" doc:"JSON Schema of a task's input."`
	OutputSchema object   `json:"outputSchema" nullable:"true" doc:"JSON Schema of a task's output."`
}

func (s *server) agent(a registry.Agent) agentJSON {
	return agentJSON{
		ID: a.ID, Name: a.Name, Description: a.Description, Endpoint: a.Endpoint, OwnerUserID: a.OwnerUserID,
		Status: a.StatusAt(s.engine.Now()), Skills: convert(a.Skills, skill), Tags: append([]string{}, a.Tags...),
		Category: textOrNull(a.EffectiveCategory()), Metadata: object(a.Metadata), PricePerTask: amount(a.Price),
		TrustScore: a.TrustScore, LatencyMs: millisOrNull(a.Latency), Featured: a.Featured, AgentCard: object(a.Card), LastHeartbeat: utc(a.LastHeartbeat),
		CreatedAt: a.CreatedAt.UTC(), UpdatedAt: a.UpdatedAt.UTC(),
	}
}

func skill(k registry.Skill) skillJSON {
	return skillJSON{
		ID: k.ID, Name: k.Name, Description: k.Description, Tags: append([]string{}, k.Tags...),
		InputSchema: object(k.InputSchema), OutputSchema: object(k.OutputSchema),
	}
}

type skillBody struct {
	ID           string   `json:"id" minLength:"1" maxLength:"64" doc:"Unique within the agent."`
	Name         string   `json:"name" minLength:"1" maxLength:"100"`
	Description  string   `json:"description,omitempty" nullable:"true" maxLength:"1000"`
	Tags         []string `json:"tags,omitempty" nullable:"true" minLength:"1" maxLength:"40" doc:"At most 20; kept in lower case."`
	InputSchema  object   `json:"inputSchema,omitempty" nullable:"true" doc:"JSON Schema that the input of tasks for this skill is held against."`
	OutputSchema object   `json:"outputSchema,omitempty" nullable:"true" doc:"JSON Schema of the output."`
}

func skillOf(b skillBody) registry.Skill {
	return registry.Skill{
		ID: b.ID, Name: b.Name, Description: b.Description, Tags: b.Tags,
		InputSchema: json.RawMessage(b.InputSchema), OutputSchema: json.RawMessage(b.OutputSchema),
	}
}

func skillsOf(bodies *[]skillBody) *[]registry.Skill {
	if bodies == nil {
		return nil
	}
	skills := convert(*bodies, skillOf)
	return &skills
}

type createAgentBody struct {
	Name         string       `json:"name" minLength:"1" maxLength:"100"`
	Description  *string      `json:"description,omitempty" nullable:"true" maxLength:"1000"`
	Endpoint     string       `json:"endpoint" maxLength:"2048" format:"uri" doc:"Where the agent takes A2A messages: an http or https URL. Addresses inside networks are refused."`
	Skills       *[]skillBody `json:"skills,omitempty" nullable:"true" doc:"At most 50."`
	Tags         *[]string    `json:"tags,omitempty" nullable:"true" minLength:"1" maxLength:"40" doc:"At most 20; kept in lower case."`
	Category     *string      `json:"category,omitempty" nullable:"true" maxLength:"40" doc:"Without it, the first tag."`
	Metadata     object       `json:"metadata,omitempty" nullable:"true" doc:"At most 16 KiB."`
	PricePerTask *amount      `json:"pricePerTask,omitempty" nullable:"true" minimum:"0" maximum:"1000000" doc:"Credits, with at most two decimals; 0 without it."`
}

func (b createAgentBody) profile() registry.Profile {
	return registry.Profile{
		Name: &b.Name, Description: b.Description, Endpoint: &b.Endpoint, Skills: skillsOf(b.Skills), Tags: b.Tags, Category: b.Category,
		Metadata: json.RawMessage(b.Metadata), Price: creditsOf(b.PricePerTask),
	}
}

type patchAgentBody struct {
	Name         *string      `json:"name,omitempty" minLength:"1" maxLength:"100"`
	Description  *string      `json:"description,omitempty" maxLength:"1000"`
	Endpoint     *string      `json:"endpoint,omitempty" maxLength:"2048" format:"uri" doc:"A new endpoint is checked, and its card fetched."`
	Skills       *[]skillBody `json:"skills,omitempty" nullable:"false" doc:"Takes the place of all skills there were."`
	Tags         *[]string    `json:"tags,omitempty" nullable:"false" minLength:"1" maxLength:"40" doc:"Takes the place of all tags there were."`
	Category     clearable    `json:"category,omitempty" maxLength:"40" doc:"null: the first tag again."`
	Metadata     object       `json:"metadata,omitempty" doc:"Takes the place of what there was."`
	PricePerTask *amount      `json:"pricePerTask,omitempty" minimum:"0" maximum:"1000000" doc:"For tasks from now on."`
}

func (b patchAgentBody) profile() registry.Profile {
	return registry.Profile{
		Name: b.Name, Description: b.Description, Endpoint: b.Endpoint, Skills: skillsOf(b.Skills), Tags: b.Tags, Category: b.Category.pointer(),
		Metadata: json.RawMessage(b.Metadata), Price: creditsOf(b.PricePerTask),
	}
}

type createAgentInput struct{ Body createAgentBody }

type patchAgentInput struct {
	AgentID string `path:"agentId" format:"uuid"`
	Body    patchAgentBody
}

type agentInput struct {
	AgentID string `path:"agentId" format:"uuid"`
}

type listAgentsInput struct {
	Limit  int `query:"limit" default:"20" minimum:"1" maximum:"100" doc:"How many to answer with."`
	Offset int `query:"offset" default:"0" minimum:"0" maximum:"1000000" doc:"How many to pass over."`
}

type discoverInput struct {
	SkillTags     string            `query:"skillTags" doc:"Tags with commas between them: agents that have any of them, themselves or by a skill."`
	Category      string            `query:"category"`
	MinTrustScore optional[float64] `query:"minTrustScore" minimum:"0" maximum:"100"`
	Status        registry.Status   `query:"status" enum:"online,offline,degraded"`
	Text          string            `query:"q" doc:"Words that must all begin a word of the name, the description or a skill."`
	SkillID       string            `query:"skillId"`
	MaxPrice      creditsParam      `query:"maxPrice" minimum:"0"`
	MaxLatencyMs  optional[int64]   `query:"maxLatencyMs" minimum:"1" maximum:"3600000" doc:"Only agents that usually take no longer, see latencyMs; not those of which that is not known."`
	Sort          registry.Sort     `query:"sort" enum:"trust,price,newest,relevance" doc:"Without it, relevance where q is given, else trust."`
	Limit         int               `query:"limit" default:"20" minimum:"1" maximum:"100" doc:"How many to answer with."`
	Offset        int               `query:"offset" default:"0" minimum:"0" maximum:"1000000" doc:"How many to pass over."`
	Cursor        string            `query:"cursor" maxLength:"512" doc:"meta.nextCursor of an earlier answer to the same query, less than 24 hours old: what comes after it. limit may differ; offset must not be given."`
}

type heartbeatInput struct {
	AgentID string         `path:"agentId" format:"uuid"`
	Body    *heartbeatBody `required:"false"`
}

type heartbeatBody struct {
	Status   *registry.Status `json:"status,omitempty" nullable:"true" enum:"online,offline,degraded" doc:"online without it."`
	Metadata object           `json:"metadata,omitempty" nullable:"true" doc:"Takes the place of what there was."`
}

type heartbeatJSON struct {
	Status        registry.Status `json:"status" enum:"online,offline,degraded"`
	LastHeartbeat *time.Time      `json:"last_heartbeat"`
}

type deletedJSON struct {
	ID      string `json:"id" format:"uuid"`
	Deleted bool   `json:"deleted"`
}

func (s *server) mountAgents() {
	agents := s.engine.Agents
	registerCreate(s, route{
		method: "POST", path: "/api/v1/agents", access: caller, scope: string(identity.ScopeAgentsWrite),
		id: "register-agent", tag: tagAgents, summary: "Register an agent", status: http.StatusCreated,
		text:    "The agent's card is fetched; an agent that does not answer is registered all the same, as offline.",
		headers: map[string]string{"Location": "The agent's path."},
	}, func(ctx context.Context, in *createAgentInput) (registry.Agent, error) {
		return agents.Register(ctx, callerOf(ctx), in.Body.profile())
	}, answerWith(s.agent), func(a registry.Agent) string { return "/api/v1/agents/" + a.ID })
	register(s, route{
		method: "GET", path: "/api/v1/agents", access: caller, scope: string(identity.ScopeAgentsRead),
		id: "list-agents", tag: tagAgents, summary: "List the caller's agents", text: "Newest first.", status: http.StatusOK,
	}, func(ctx context.Context, in *listAgentsInput) (many[agentJSON], error) {
		l, err := agents.ListOwn(ctx, callerOf(ctx), page(in.Limit, in.Offset))
		return answerList(l, err, s.agent)
	})
	register(s, route{
		method: "GET", path: "/api/v1/agents/{agentId}", access: caller, scope: string(identity.ScopeAgentsRead),
		id: "get-agent", tag: tagAgents, summary: "Get an agent", status: http.StatusOK,
	}, func(ctx context.Context, in *agentInput) (one[agentJSON], error) {
		a, err := agents.Get(ctx, callerOf(ctx), in.AgentID)
		return answer(s.agent(a), err)
	})
	register(s, route{
		method: "PATCH", path: "/api/v1/agents/{agentId}", access: caller, scope: string(identity.ScopeAgentsWrite),
		id: "update-agent", tag: tagAgents, summary: "Change an agent", status: http.StatusOK,
		text: "For its owner. What is left out stays as it is.",
	}, func(ctx context.Context, in *patchAgentInput) (one[agentJSON], error) {
		a, err := agents.Change(ctx, callerOf(ctx), in.AgentID, in.Body.profile())
		return answer(s.agent(a), err)
	})
	register(s, route{
		method: "DELETE", path: "/api/v1/agents/{agentId}", access: caller, scope: string(identity.ScopeAgentsWrite),
		id: "delete-agent", tag: tagAgents, summary: "Delete an agent", status: http.StatusOK,
		text: "For its owner. It is gone from discovery at once, its keys are revoked, and its open tasks are cancelled and refunded. What is past stays readable to those who had part in it.",
	}, func(ctx context.Context, in *agentInput) (one[deletedJSON], error) {
		a, err := agents.Delete(ctx, callerOf(ctx), in.AgentID)
		return answer(deletedJSON{a.ID, true}, err)
	})
	register(s, route{
		method: "POST", path: "/api/v1/agents/{agentId}/heartbeat", access: caller, scope: string(identity.ScopeAgentsWrite),
		id: "send-heartbeat", tag: tagAgents, summary: "Send a heartbeat", status: http.StatusOK,
		text: "For its owner. An agent that has sent heartbeats is degraded after 90 s without one and offline after 300 s; one that never sent any is asked for its card instead.",
	}, func(ctx context.Context, in *heartbeatInput) (one[heartbeatJSON], error) {
		var status registry.Status
		var metadata json.RawMessage
		if b := in.Body; b != nil {
			metadata = json.RawMessage(b.Metadata)
			if b.Status != nil {
				status = *b.Status
			}
		}
		a, err := agents.Heartbeat(ctx, callerOf(ctx), in.AgentID, status, metadata)
		return answer(heartbeatJSON{a.StatusAt(s.engine.Now()), utc(a.LastHeartbeat)}, err)
	})
	register(s, route{
		method: "GET", path: "/api/v1/discover", access: caller, scope: string(identity.ScopeAgentsRead),
		id: "discover-agents", tag: tagAgents, summary: "Discover agents", status: http.StatusOK,
		text: "Everyone's agents. The order is total, so that paging never repeats or skips. With offset that holds as long as nothing changes; with cursor, which costs no more the further it is on, also while agents come and go.",
	}, func(ctx context.Context, in *discoverInput) (many[agentJSON], error) {
		maxPrice, err := in.MaxPrice.value()
		if err != nil {
			return many[agentJSON]{}, err
		}
		q := registry.Query{
			Category: in.Category, MinTrust: in.MinTrustScore.pointer(), Status: in.Status, Text: in.Text, SkillID: in.SkillID,
			MaxPrice: maxPrice, MaxLatency: millisOf(in.MaxLatencyMs.pointer()), Sort: in.Sort, Limit: in.Limit, Offset: in.Offset,
		}
		if in.SkillTags != "" {
			q.SkillTags = strings.Split(in.SkillTags, ",")
		}
		l, err := agents.Discover(ctx, callerOf(ctx), q, in.Cursor)
		return answerList(l, err, s.agent)
	})
}
