package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
)

// keyJSON is an API key on the wire, as often as one likes: without its secret and its hash.
type keyJSON struct {
	ID         string     `json:"id" format:"uuid"`
	AgentID    string     `json:"agentId" format:"uuid"`
	Name       string     `json:"name"`
	Prefix     string     `json:"prefix" doc:"The key's first 10 characters."`
	Scopes     []string   `json:"scopes" nullable:"false"`
	CreatedAt  time.Time  `json:"createdAt"`
	ExpiresAt  *time.Time `json:"expiresAt" doc:"null: never."`
	LastUsedAt *time.Time `json:"lastUsedAt"`
}

// newKeyJSON is an API key on the wire, once.
type newKeyJSON struct {
	ID        string     `json:"id" format:"uuid"`
	Key       string     `json:"key" doc:"The whole key. It is shown this once and cannot be had again."`
	AgentID   string     `json:"agentId" format:"uuid"`
	Name      string     `json:"name"`
	Prefix    string     `json:"prefix" doc:"The key's first 10 characters."`
	Scopes    []string   `json:"scopes" nullable:"false"`
	CreatedAt time.Time  `json:"createdAt"`
	ExpiresAt *time.Time `json:"expiresAt" doc:"null: never."`
}

func scopes(l identity.Scopes) []string {
	return convert(l, func(s identity.Scope) string { return string(s) })
}

func key(k identity.APIKey) keyJSON {
	return keyJSON{
		ID: k.ID, AgentID: k.AgentID, Name: k.Name, Prefix: k.Prefix, Scopes: scopes(k.Scopes), CreatedAt: k.CreatedAt.UTC(),
		ExpiresAt: utc(k.ExpiresAt), LastUsedAt: utc(k.LastUsedAt),
	}
}

type createKeyInput struct {
	AgentID string `path:"agentId" format:"uuid"`
	Body    createKeyBody
}

type createKeyBody struct {
	Name          string   `json:"name" minLength:"1" maxLength:"100"`
	Scopes        []string `json:"scopes" nullable:"false" minItems:"1" doc:"What the key allows: * for everything, or some of agents:read, agents:write, tasks:read, tasks:write, workflows:read, workflows:write, trust:read, trust:write, billing:read, billing:write, keys:write. A key cannot grant what it may not do itself."`
	ExpiresInDays *int     `json:"expiresInDays,omitempty" nullable:"true" minimum:"1" maximum:"365" doc:"Without it, the key never expires."`
}

type listKeysInput struct {
	AgentID string `path:"agentId" format:"uuid"`
	Limit   int    `query:"limit" default:"100" minimum:"1" maximum:"100" doc:"How many to answer with."`
	Offset  int    `query:"offset" default:"0" minimum:"0" maximum:"1000000" doc:"How many to pass over."`
}

type keyInput struct {
	AgentID string `path:"agentId" format:"uuid"`
	KeyID   string `path:"keyId" format:"uuid"`
}

type revokedJSON struct {
	ID      string `json:"id" format:"uuid"`
	Revoked bool   `json:"revoked"`
}

func newKey(k app.CreatedKey) newKeyJSON {
	return newKeyJSON{
		ID: k.ID, Key: string(k.Secret), AgentID: k.AgentID, Name: k.Name, Prefix: k.Prefix, Scopes: scopes(k.Scopes),
		CreatedAt: k.CreatedAt.UTC(), ExpiresAt: utc(k.ExpiresAt),
	}
}

func (s *server) mountKeys() {
	keys := s.engine.Identity
	registerCreate(s, route{
		method: "POST", path: "/api/v1/agents/{agentId}/api-keys", access: caller, scope: string(identity.ScopeKeysWrite),
		id: "create-api-key", tag: tagKeys, summary: "Create an API key", status: http.StatusCreated,
		text: "For the agent's owner. The key acts for the owner, and the agent is the requester of what it creates.",
	}, func(ctx context.Context, in *createKeyInput) (app.CreatedKey, error) {
		return keys.CreateKey(ctx, callerOf(ctx), in.AgentID, identity.NewKey{
			Name: in.Body.Name, Scopes: in.Body.Scopes, ExpiresInDays: in.Body.ExpiresInDays,
		})
	}, answerWith(newKey), nil)
	register(s, route{
		method: "GET", path: "/api/v1/agents/{agentId}/api-keys", access: caller, scope: string(identity.ScopeAgentsRead),
		id: "list-api-keys", tag: tagKeys, summary: "List an agent's API keys", status: http.StatusOK,
		text: "For the agent's owner. Those that are not revoked, newest first.",
	}, func(ctx context.Context, in *listKeysInput) (many[keyJSON], error) {
		all, err := keys.ListKeys(ctx, callerOf(ctx), in.AgentID)
		if err != nil {
			return many[keyJSON]{}, err
		}
		from := min(in.Offset, len(all))
		shown := all[from:min(from+in.Limit, len(all))]
		return many[keyJSON]{convert(shown, key), metaJSON{Total: len(all), Limit: in.Limit, Offset: in.Offset}}, nil
	})
	register(s, route{
		method: "DELETE", path: "/api/v1/agents/{agentId}/api-keys/{keyId}", access: caller, scope: string(identity.ScopeKeysWrite),
		id: "revoke-api-key", tag: tagKeys, summary: "Revoke an API key", status: http.StatusOK,
		text: "For the agent's owner. The key is refused from now on.", errors: []fault.Code{fault.CodeAPIKeyNotFound},
	}, func(ctx context.Context, in *keyInput) (one[revokedJSON], error) {
		err := keys.RevokeKey(ctx, callerOf(ctx), in.AgentID, in.KeyID)
		return answer(revokedJSON{in.KeyID, true}, err)
	})
}
