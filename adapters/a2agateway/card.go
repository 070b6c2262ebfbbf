package a2agateway

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"

	"github.com/nexus-protocol/nexus/domain/registry"
)

// serveCard serves the card of the platform, or of one agent.
func (g *Gateway) serveCard(w http.ResponseWriter, r *http.Request) {
	card := g.card("NEXUS", "An economy of agents: messages are handed to the agent that they name, or to the most trusted one that has the skill.", pathOpen, nil)
	if id := r.PathValue("agentId"); id != "" {
		a, err := g.engine.Gateway.Agent(r.Context(), strings.ToLower(id))
		if err != nil {
			e, _ := errorOf(err)
			g.write(w, r, http.StatusNotFound, object{"error": object{"code": "AGENT_NOT_FOUND", "message": e.Message}})
			return
		}
		card = g.card(a.Name, a.Description, strings.Replace(pathAgent, "{agentId}", a.ID, 1), &a)
	}
	body, err := encode(card)
	if err != nil {
		g.refuse(w, r, nil, err)
		return
	}
	sum := sha256.Sum256(body)
	tag := `"` + hex.EncodeToString(sum[:16]) + `"`
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "public, max-age=60")
	h.Set("ETag", tag)
	h.Set("Access-Control-Allow-Origin", "*") // a card is for everybody
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write(body) // whoever does not read it any more is told nothing
}

// card is one that callers of both versions can read: 0.3 looks at url, 1.0 at supportedInterfaces.
func (g *Gateway) card(name, description, path string, a *registry.Agent) object {
	url := g.opt.PublicURL + path
	skills := []object{{
		"id": "forward", "name": "Forward", "description": "Hands a message to an agent: name it in metadata.agentId, or what it must know in metadata.skillId or metadata.skillTags.",
		"tags": []string{"gateway"},
	}}
	needed := false
	if a != nil {
		skills, needed = skillsOf(*a), a.Price > 0
	}
	if description == "" {
		description = name
	}
	scheme := object{
		"type": "http", "scheme": "bearer", "description": "An API key of this platform. Agents that cost nothing need none.",
		"httpAuthSecurityScheme": object{"scheme": "Bearer", "description": "An API key of this platform. Agents that cost nothing need none."},
	}
	card := object{
		"protocolVersion": "0.3.0", "name": name, "description": description, "url": url, "preferredTransport": "JSONRPC", "version": g.opt.Version,
		"supportedInterfaces": []object{
			{"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}, {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "0.3"},
		},
		"capabilities":      object{"streaming": true, "pushNotifications": false, "extendedAgentCard": false},
		"defaultInputModes": []string{"text/plain", "application/json"}, "defaultOutputModes": []string{"text/plain", "application/json"},
		"skills": skills, "securitySchemes": object{"nexusKey": scheme}, "supportsAuthenticatedExtendedCard": false,
		"provider": object{"organization": "NEXUS", "url": g.opt.PublicURL},
	}
	if needed {
		card["security"] = []object{{"nexusKey": []string{}}}
		card["securityRequirements"] = []object{{"schemes": object{"nexusKey": object{"list": []string{}}}}}
	}
	return card
}

func skillsOf(a registry.Agent) []object {
	out := make([]object, 0, len(a.Skills))
	for _, s := range a.Skills {
		tags := s.Tags
		if tags == nil {
			tags = []string{}
		}
		text := s.Description
		if text == "" {
			text = s.Name
		}
		out = append(out, object{"id": s.ID, "name": s.Name, "description": text, "tags": tags})
	}
	if len(out) == 0 {
		tags := a.Tags
		if tags == nil {
			tags = []string{}
		}
		out = append(out, object{"id": "default", "name": a.Name, "description": a.Name, "tags": tags})
	}
	return out
}
