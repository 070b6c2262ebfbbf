package a2agateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/registry"
)

const (
	// maxListed is how many agents the platform's extended card tells of at most.
	maxListed = 50
	// terms is the extension under which the extended card tells what an agent costs and how far it is trusted.
	terms = "urn:nexus:agent-terms"
)

// serveKeys serves the keys that cards are signed with.
func (g *Gateway) serveKeys(w http.ResponseWriter, r *http.Request) {
	keys := []jwk{}
	if g.opt.Signer != nil {
		keys = g.opt.Signer.keys
	}
	g.publish(w, r, struct {
		Keys []jwk `json:"keys"`
	}{keys}, g.began)
}

// serveCard serves the card of the platform, or of one agent. A caller that says to speak 1.0 gets a card in which there is
// nothing else; all others get one that both versions can read.
func (g *Gateway) serveCard(w http.ResponseWriter, r *http.Request) {
	var a *registry.Agent
	changed := g.began
	if id := r.PathValue("agentId"); id != "" {
		found, err := g.engine.Gateway.Agent(r.Context(), strings.ToLower(id))
		if err != nil {
			g.refusePlainly(w, r, err)
			return
		}
		if a = &found; a.UpdatedAt.After(changed) {
			changed = a.UpdatedAt
		}
	}
	card, err := g.signed(g.cardOf(a, nil), only1(r))
	if err != nil {
		g.refuse(w, r, nil, err)
		return
	}
	w.Header().Set("Vary", "A2A-Version")
	g.publish(w, r, card, changed)
}

// only1 tells whether a caller wants a card of 1.0 alone.
func only1(r *http.Request) bool {
	return strings.HasPrefix(strings.TrimSpace(r.Header.Get("A2A-Version")), "1.")
}

// serveExtendedCard serves what extendedCard answers with, without JSON-RPC.
func (g *Gateway) serveExtendedCard(w http.ResponseWriter, r *http.Request) {
	c := &call{g: g, agent: strings.ToLower(r.PathValue("agentId")), speaks: v03}
	if only1(r) {
		c.speaks = v10
	}
	err := c.admit(r.Context(), r)
	var card any
	if err == nil {
		card, err = c.extendedCard(r.Context())
	}
	if err != nil {
		g.refusePlainly(w, r, err)
		return
	}
	w.Header().Set("Vary", "A2A-Version, Authorization")
	w.Header().Set("Cache-Control", "private, no-store")
	g.write(w, r, http.StatusOK, card)
}

// publish answers with something that is for everybody, and may be kept for a minute.
func (g *Gateway) publish(w http.ResponseWriter, r *http.Request, v any, changed time.Time) {
	body, err := encode(v)
	if err != nil {
		g.refuse(w, r, nil, err)
		return
	}
	sum := sha256.Sum256(body)
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "public, max-age=60")
	h.Set("ETag", `"`+hex.EncodeToString(sum[:16])+`"`)
	h.Set("Access-Control-Allow-Origin", "*")
	http.ServeContent(w, r, "", changed, bytes.NewReader(body))
}

// extendedCard is the card for a caller with a key: that of the platform tells of the agents too, that of an agent what it
// costs and how far it is trusted.
func (c *call) extendedCard(ctx context.Context) (any, error) {
	if !c.caller.Known() {
		return nil, identity.Unauthorized()
	}
	if c.agent != "" {
		a, err := c.g.engine.Agents.Get(ctx, c.caller, c.agent)
		if err != nil {
			return nil, err
		}
		card := c.g.cardOf(&a, []registry.Agent{a})
		capabilities := card["capabilities"].(object)
		capabilities["extensions"] = []object{{
			"uri": terms, "description": "What a task costs in credits, and how far the agent is trusted, of 100.",
			"params": object{"agentId": a.ID, "pricePerTask": a.Price.String(), "trustScore": trustOf(a)},
		}}
		return c.g.signed(card, c.speaks == v10)
	}
	found, err := c.g.engine.Agents.Discover(ctx, c.caller, registry.Query{Status: registry.Online, Sort: registry.SortTrust, Limit: maxListed}, "")
	if err != nil {
		return nil, err
	}
	return c.g.signed(c.g.cardOf(nil, found.Items), c.speaks == v10)
}

// cardOf is a card that callers of both versions can read: 0.3 looks at url, 1.0 at supportedInterfaces. a is nil for the
// platform. What is known are agents that the caller may see more of; nil for the card that is for everybody.
//
// Nothing in it is empty, as libraries do not agree on what of that is signed.
func (g *Gateway) cardOf(a *registry.Agent, known []registry.Agent) object {
	name, description, url := "NEXUS", "An economy of agents: messages are handed to the agent that they name, or to the most trusted one that has the skill.", g.opt.PublicURL+pathOpen
	skills := []object{{
		"id": "forward", "name": "Forward", "description": "Hands a message to an agent: name it in metadata.agentId, or what it must know in metadata.skillId or metadata.skillTags.",
		"tags": []string{"gateway"},
	}}
	if a != nil {
		name, description, url = a.Name, a.Description, g.opt.PublicURL+strings.Replace(pathAgent, "{agentId}", a.ID, 1)
		skills = skillsOf(*a)
		if description == "" {
			description = name
		}
	} else {
		for _, k := range known {
			skills = append(skills, skillOfAgent(k))
		}
	}
	const says = "An API key of this platform. Agents that cost nothing need none."
	card := object{
		"protocolVersion": "0.3.0", "name": name, "description": description, "url": url, "preferredTransport": "JSONRPC", "version": g.opt.Version,
		"supportedInterfaces": []object{
			{"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}, {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "0.3"},
		},
		"capabilities":      object{"streaming": true, "pushNotifications": g.engine.Gateway.Pushes(), "extendedAgentCard": true},
		"defaultInputModes": []string{"text/plain", "application/json"}, "defaultOutputModes": []string{"text/plain", "application/json"},
		"skills": skills, "supportsAuthenticatedExtendedCard": true,
		"securitySchemes": object{"nexusKey": object{
			"type": "http", "scheme": "bearer", "description": says, "httpAuthSecurityScheme": object{"scheme": "Bearer", "description": says},
		}},
		"provider": object{"organization": "NEXUS", "url": g.opt.PublicURL},
	}
	if a != nil && a.Price > 0 {
		scopes := []string{string(identity.ScopeTasksWrite)}
		card["security"] = []object{{"nexusKey": scopes}}
		card["securityRequirements"] = []object{{"schemes": object{"nexusKey": object{"list": scopes}}}}
	}
	return card
}

// only10 is what 1.0 knows of a card.
func only10(card object) object {
	out := object{}
	for k, v := range card {
		switch k {
		case "protocolVersion", "url", "preferredTransport", "supportsAuthenticatedExtendedCard", "security":
		case "securitySchemes":
			schemes := object{}
			for name, scheme := range v.(object) {
				schemes[name] = object{"httpAuthSecurityScheme": scheme.(object)["httpAuthSecurityScheme"]}
			}
			out[k] = schemes
		default:
			out[k] = v
		}
	}
	return out
}

// signed adds the signatures: one over what 1.0 knows of the card, and if there is more in it, one over all of it. Readers
// that know 1.0 alone see no more than the first is over; those that take the text as it is, check the second.
func (g *Gateway) signed(card object, strict bool) (object, error) {
	forms := []object{only10(card)}
	if strict {
		card = forms[0]
	} else {
		forms = append(forms, card)
	}
	if g.opt.Signer == nil {
		return card, nil
	}
	signatures := make([]object, 0, len(forms))
	for _, f := range forms {
		s, err := g.opt.Signer.signature(f, g.opt.PublicURL+pathKeys)
		if err != nil {
			return nil, err
		}
		signatures = append(signatures, s)
	}
	out := object{"signatures": signatures}
	for k, v := range card {
		out[k] = v
	}
	return out, nil
}

// skillOfAgent is a whole agent as a skill of the platform; its id is what metadata.agentId takes.
func skillOfAgent(a registry.Agent) object {
	text := a.Description
	if text == "" {
		text = a.Name
	}
	price := "costs nothing"
	if a.Price > 0 {
		price = "costs " + a.Price.String() + " credits a task"
	}
	tags := slices.Clone(a.Tags)
	for _, s := range a.Skills {
		tags = append(tags, s.Tags...)
	}
	slices.Sort(tags)
	return object{
		"id": a.ID, "name": a.Name, "description": text + " (metadata.agentId " + a.ID + "; " + price + "; trust " + trustOf(a) + " of 100)",
		"tags": append([]string{"agent"}, slices.Compact(tags)...),
	}
}

func skillsOf(a registry.Agent) []object {
	out := make([]object, 0, len(a.Skills))
	for _, s := range a.Skills {
		text := s.Description
		if text == "" {
			text = s.Name
		}
		out = append(out, object{"id": s.ID, "name": s.Name, "description": text, "tags": tagsOf(s.Tags, a.Tags)})
	}
	if len(out) == 0 {
		out = append(out, object{"id": "default", "name": a.Name, "description": a.Name, "tags": tagsOf(a.Tags)})
	}
	return out
}

// tagsOf is the first of the lists that is not empty.
func tagsOf(lists ...[]string) []string {
	for _, l := range lists {
		if len(l) > 0 {
			return l
		}
	}
	return []string{"agent"}
}

func trustOf(a registry.Agent) string { return strconv.FormatFloat(a.TrustScore, 'f', 1, 64) }
