package dashboard

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/domain/trust"
)

func isMissing(err error) bool {
	f, ok := fault.As(err)
	return ok && f.Kind == fault.NotFound
}

const agentRows = 25

type agentsView struct {
	Agents app.List[registry.Agent]
	Earned map[string]credits.Amount
	Pages  listing
}

func (d *dashboard) agents(x *exchange) error {
	l, err := d.engine.Agents.ListOwn(x.Context(), x.caller, pageOf(x.URL.Query(), agentRows))
	if err != nil {
		return err
	}
	earned, err := d.engine.Billing.EarnedByAgent(x.Context(), x.caller)
	if err != nil {
		return err
	}
	d.show(x, http.StatusOK, agentsPage(d.page(x, "Agents", "agents"), agentsView{l, earned, listingOf(l, x)}))
	return nil
}

// agentForm is the form of an agent that is registered or edited.
type agentForm struct {
	form
	ID     string // "" of a new one
	Skills []skillForm
	Check  *inspection // what its endpoint was seen to be
	Card   string      // the URL that was imported from
}

type skillForm struct {
	ID, Name, Description, Tags, Input, Output string
}

// inspection is what a look at an endpoint brought.
type inspection struct {
	Endpoint  string
	Reachable bool
	Took      time.Duration
	Name      string
	Protocol  string
	Skills    int
}

func (f *agentForm) place(path string) string {
	switch {
	case path == "pricePerTask":
		return "price"
	case strings.HasPrefix(path, "tags"):
		return "tags"
	case strings.HasPrefix(path, "skills["):
		head, rest, _ := strings.Cut(path, ".")
		n := strings.TrimSuffix(strings.TrimPrefix(head, "skills["), "]")
		rest, _, _ = strings.Cut(rest, "[")
		return "skill-" + n + "-" + map[string]string{"id": "id", "name": "name", "description": "description", "tags": "tags", "inputSchema": "input", "outputSchema": "output"}[rest]
	case slices.Contains([]string{"name", "description", "endpoint", "category"}, path):
		return path
	}
	return ""
}

func readAgentForm(v url.Values) agentForm {
	f := agentForm{form: newForm(v)}
	for i := 0; i <= registry.MaxSkills && v.Has(fmt.Sprintf("skill-%d-id", i)); i++ {
		at := func(name string) string { return v.Get(fmt.Sprintf("skill-%d-%s", i, name)) }
		f.Skills = append(f.Skills, skillForm{at("id"), at("name"), at("description"), at("tags"), at("input"), at("output")})
	}
	return f
}

func formOfAgent(a registry.Agent) agentForm {
	f := agentForm{ID: a.ID, form: newForm(url.Values{
		"name": {a.Name}, "description": {a.Description}, "endpoint": {a.Endpoint}, "category": {a.Category},
		"tags": {strings.Join(a.Tags, ", ")}, "price": {a.Price.String()},
	})}
	for _, s := range a.Skills {
		f.Skills = append(f.Skills, skillForm{s.ID, s.Name, s.Description, strings.Join(s.Tags, ", "), schemaText(s.InputSchema), schemaText(s.OutputSchema)})
	}
	return f
}

func schemaText(raw json.RawMessage) string {
	if raw == nil {
		return ""
	}
	return pretty(raw)
}

// profile is what the form says, as the engine takes it. What cannot be put into the engine's terms is marked.
func (f *agentForm) profile() (registry.Profile, bool) {
	text := func(name string) *string { v := f.Get(name); return &v }
	split := splitTags(f.Get("tags"))
	p := registry.Profile{Name: text("name"), Description: text("description"), Endpoint: text("endpoint"), Category: text("category"), Tags: &split, Skills: &[]registry.Skill{}}
	if s := strings.TrimSpace(f.Get("price")); s != "" {
		amount, err := credits.Parse(strings.ReplaceAll(s, ",", ""))
		if err != nil {
			f.Bad["price"] = "Must be a number of credits with at most two decimals, such as 10 or 2.50."
		}
		p.Price = &amount
	} else {
		var free credits.Amount
		p.Price = &free
	}
	for i, s := range f.Skills {
		skill := registry.Skill{ID: strings.TrimSpace(s.ID), Name: s.Name, Description: s.Description, Tags: splitTags(s.Tags)}
		for name, to := range map[string]*json.RawMessage{"input": &skill.InputSchema, "output": &skill.OutputSchema} {
			raw := strings.TrimSpace(map[string]string{"input": s.Input, "output": s.Output}[name])
			switch {
			case raw == "":
			case !json.Valid([]byte(raw)):
				f.Bad[fmt.Sprintf("skill-%d-%s", i, name)] = "Is no well-formed JSON."
			default:
				*to = json.RawMessage(raw)
			}
		}
		*p.Skills = append(*p.Skills, skill)
	}
	if len(f.Bad) > 0 {
		f.Problem = "Please look at what is marked below."
	}
	return p, len(f.Bad) == 0
}

func splitTags(s string) []string {
	out := []string{}
	for t := range strings.SplitSeq(s, ",") {
		if t = strings.TrimSpace(t); t != "" {
			out = append(out, t)
		}
	}
	return out
}

// edit does what a button within the form asks for. ok is false if it is the form itself that is to be sent.
func (d *dashboard) edit(x *exchange, f *agentForm) (ok bool, err error) {
	do := f.Get("do")
	n, isRemove := strings.CutPrefix(do, "remove-skill-")
	switch {
	case do == "add-skill":
		f.Skills = append(f.Skills, skillForm{})
	case isRemove:
		if i, err := strconv.Atoi(n); err == nil && i >= 0 && i < len(f.Skills) {
			f.Skills = slices.Delete(f.Skills, i, i+1)
		}
	case do == "check":
		_, err := d.inspect(x, f, f.Get("endpoint"))
		return true, err
	default:
		return false, nil
	}
	return true, nil
}

// inspect looks at an endpoint, and notes in the form what was seen, or what is wrong with it.
func (d *dashboard) inspect(x *exchange, f *agentForm, endpoint string) (card json.RawMessage, err error) {
	endpoint = strings.TrimSpace(endpoint)
	seen, err := d.engine.Agents.Inspect(x.Context(), x.caller, endpoint)
	if err != nil {
		if !f.refuse(err, f.place) {
			return nil, err
		}
		return nil, nil
	}
	in := inspection{Endpoint: endpoint, Reachable: seen.Card != nil, Took: seen.Took}
	c := readCard(seen.Card)
	in.Name, in.Protocol, in.Skills = c.Name, c.ProtocolVersion, len(c.Skills)
	f.Check = &in
	return seen.Card, nil
}

// card is what is taken of an agent card.
type card struct {
	Name            string `json:"name"`
	Description     string `json:"description"`
	ProtocolVersion string `json:"protocolVersion"`
	Skills          []struct {
		ID          string          `json:"id"`
		Name        string          `json:"name"`
		Description string          `json:"description"`
		Tags        []string        `json:"tags"`
		InputSchema json.RawMessage `json:"inputSchema"`
		Output      json.RawMessage `json:"outputSchema"`
	} `json:"skills"`
	Interfaces []struct {
		URL      string `json:"url"`
		Protocol string `json:"protocolVersion"`
	} `json:"supportedInterfaces"`
}

// readCard takes what it can of a stranger's card.
func readCard(raw json.RawMessage) card {
	var c card
	_ = json.Unmarshal(raw, &c) // what does not fit is left out
	if c.ProtocolVersion == "" && len(c.Interfaces) > 0 {
		c.ProtocolVersion = c.Interfaces[0].Protocol
	}
	c.Skills = c.Skills[:min(len(c.Skills), registry.MaxSkills)]
	return c
}

// cardPlaces are where cards are; an agent's endpoint is what comes before.
var cardPlaces = []string{"/.well-known/agent-card.json", "/.well-known/agent.json"}

func (d *dashboard) newAgent(x *exchange) error {
	d.showAgentForm(x, http.StatusOK, agentForm{form: newForm(nil)})
	return nil
}

func (d *dashboard) showAgentForm(x *exchange, status int, f agentForm) {
	title := "Register an agent"
	if f.ID != "" {
		title = "Edit agent"
	}
	d.show(x, status, agentFormPage(d.page(x, title, "agents"), f))
}

// importAgent fills the form with what an agent's card says.
func (d *dashboard) importAgent(x *exchange) error {
	where := strings.TrimSpace(x.PostForm.Get("card"))
	endpoint := where
	for _, place := range cardPlaces {
		endpoint = strings.TrimSuffix(endpoint, place)
	}
	f := agentForm{form: newForm(url.Values{"endpoint": {endpoint}}), Card: where}
	raw, err := d.inspect(x, &f, endpoint)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if f.Check == nil || raw == nil {
		status = http.StatusUnprocessableEntity
	}
	if msg := f.Bad["endpoint"]; msg != "" {
		f.Bad["card"], f.Problem = msg, ""
	}
	c := readCard(raw)
	f.Set("name", c.Name)
	f.Set("description", c.Description)
	for _, s := range c.Skills {
		f.Skills = append(f.Skills, skillForm{s.ID, s.Name, s.Description, strings.Join(s.Tags, ", "), schemaText(s.InputSchema), schemaText(s.Output)})
	}
	d.showAgentForm(x, status, f)
	return nil
}

func (d *dashboard) registerAgent(x *exchange) error {
	f := readAgentForm(x.PostForm)
	if ok, err := d.edit(x, &f); ok || err != nil {
		if err == nil {
			d.showAgentForm(x, http.StatusOK, f)
		}
		return err
	}
	p, ok := f.profile()
	if ok {
		a, err := d.engine.Agents.Register(x.Context(), x.caller, p)
		if err == nil {
			return d.to(x, agentPath(a.ID), done(a.Name+" is registered. Next, create an API key for it, or give it a task."))
		}
		if !f.refuse(err, f.place) {
			return err
		}
	}
	d.showAgentForm(x, http.StatusUnprocessableEntity, f)
	return nil
}

// ownAgent is an agent of the caller's; anybody else's does not exist here.
func (d *dashboard) ownAgent(x *exchange) (registry.Agent, []identity.APIKey, error) {
	id := x.PathValue("id")
	keys, err := d.engine.Identity.ListKeys(x.Context(), x.caller, id) // which its owner alone may
	if err != nil {
		return registry.Agent{}, nil, err
	}
	a, err := d.engine.Agents.Get(x.Context(), x.caller, id)
	return a, keys, err
}

func (d *dashboard) editAgent(x *exchange) error {
	a, _, err := d.ownAgent(x)
	if err == nil {
		d.showAgentForm(x, http.StatusOK, formOfAgent(a))
	}
	return err
}

func (d *dashboard) saveAgent(x *exchange) error {
	a, _, err := d.ownAgent(x)
	if err != nil {
		return err
	}
	f := readAgentForm(x.PostForm)
	f.ID = a.ID
	if ok, err := d.edit(x, &f); ok || err != nil {
		if err == nil {
			d.showAgentForm(x, http.StatusOK, f)
		}
		return err
	}
	p, ok := f.profile()
	if ok {
		a, err := d.engine.Agents.Change(x.Context(), x.caller, a.ID, p)
		if err == nil {
			return d.to(x, agentPath(a.ID), done("Saved."))
		}
		if !f.refuse(err, f.place) {
			return err
		}
	}
	d.showAgentForm(x, http.StatusUnprocessableEntity, f)
	return nil
}

func (d *dashboard) deleteAgent(x *exchange) error {
	a, err := d.engine.Agents.Delete(x.Context(), x.caller, x.PathValue("id"))
	if err != nil {
		return err
	}
	return d.to(x, "/dashboard/agents", done(a.Name+" is deleted. Its keys are revoked and its open tasks refunded."))
}

// agentView is an agent's page, for its owner.
type agentView struct {
	Agent  registry.Agent
	Trust  app.TrustProfile
	Days   []app.DayScore
	Events app.List[trust.Event]
	Pages  listing
	Tasks  app.List[task.Task]
	Earned credits.Amount
	Keys   []identity.APIKey
	Form   form
	New    *app.CreatedKey // the key that was made just now, shown this once
}

func (d *dashboard) agent(x *exchange) error { return d.showAgent(x, http.StatusOK, newForm(nil), nil) }

func (d *dashboard) showAgent(x *exchange, status int, f form, key *app.CreatedKey) error {
	ctx := x.Context()
	v := agentView{Form: f, New: key}
	var err error
	if v.Agent, v.Keys, err = d.ownAgent(x); err != nil {
		return err
	}
	id := v.Agent.ID
	if v.Trust, err = d.engine.Trust.Profile(ctx, x.caller, id); err != nil {
		return err
	}
	if v.Days, err = d.engine.Trust.Daily(ctx, x.caller, id, 90); err != nil {
		return err
	}
	if v.Events, err = d.engine.Trust.History(ctx, x.caller, id, pageOf(x.URL.Query(), 10)); err != nil {
		return err
	}
	v.Pages = listingOf(v.Events, x)
	rows := homeRows
	if v.Tasks, err = d.engine.Tasks.List(ctx, x.caller, app.TaskQuery{AgentID: id, Page: app.Page{Limit: &rows}}); err != nil {
		return err
	}
	earned, err := d.engine.Billing.EarnedByAgent(ctx, x.caller)
	if err != nil {
		return err
	}
	v.Earned = earned[id]
	d.show(x, status, agentPage(d.page(x, v.Agent.Name, "agents"), v))
	return nil
}

func (d *dashboard) createKey(x *exchange) error {
	f := newForm(x.PostForm)
	in := identity.NewKey{Name: f.Get("key-name"), Scopes: x.PostForm["scope"]}
	if days := f.Get("days"); days != "" {
		n, err := strconv.Atoi(days)
		if err != nil {
			n = -1 // which is refused
		}
		in.ExpiresInDays = &n
	}
	key, err := d.engine.Identity.CreateKey(x.Context(), x.caller, x.PathValue("id"), in)
	if err == nil {
		return d.showAgent(x, http.StatusOK, newForm(nil), &key)
	}
	ok := f.refuse(err, func(path string) string {
		switch {
		case path == "name":
			return "key-name"
		case strings.HasPrefix(path, "scopes"):
			return "scope"
		case path == "expiresInDays":
			return "days"
		}
		return ""
	})
	if !ok {
		return err
	}
	return d.showAgent(x, http.StatusUnprocessableEntity, f, nil)
}

func (d *dashboard) revokeKey(x *exchange) error {
	id := x.PathValue("id")
	if err := d.engine.Identity.RevokeKey(x.Context(), x.caller, id, x.PathValue("key")); err != nil {
		return err
	}
	return d.to(x, agentPath(id)+"#keys", done("The key is revoked. It stopped working at once."))
}

// scopeWords says what a scope allows.
func scopeWords(s identity.Scope) string {
	return map[identity.Scope]string{
		identity.ScopeAll: "Everything", identity.ScopeAgentsRead: "See agents", identity.ScopeAgentsWrite: "Change agents, heartbeats",
		identity.ScopeTasksRead: "See tasks", identity.ScopeTasksWrite: "Create and answer tasks", identity.ScopeWorkflowsRead: "See workflows",
		identity.ScopeWorkflowsWrite: "Change and run workflows", identity.ScopeTrustRead: "See trust", identity.ScopeTrustWrite: "Rate agents",
		identity.ScopeBillingRead: "See the balance", identity.ScopeBillingWrite: "Buy credits", identity.ScopeKeysWrite: "Make and revoke keys",
	}[s]
}
