package dashboard

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/scheduler"
)

const workflowRows = 20

func workflowPath(id string) string { return "/dashboard/workflows/" + id }

func runPath(workflowID, id string) string { return workflowPath(workflowID) + "/runs/" + id }

type workflowsView struct {
	Workflows app.List[scheduler.Workflow]
	Last      map[string]app.List[scheduler.Run] // the newest run of each, and how many there were
	Pages     listing
}

func (d *dashboard) workflows(x *exchange) error {
	l, err := d.engine.Workflows.List(x.Context(), x.caller, pageOf(x.URL.Query(), workflowRows))
	if err != nil {
		return err
	}
	v := workflowsView{Workflows: l, Pages: listingOf(l, x), Last: map[string]app.List[scheduler.Run]{}}
	one := 1
	for _, w := range l.Items {
		if v.Last[w.ID], err = d.engine.Workflows.Runs(x.Context(), x.caller, w.ID, app.Page{Limit: &one}); err != nil {
			return err
		}
	}
	d.show(x, http.StatusOK, workflowsPage(d.page(x, "Workflows", "workflows"), v))
	return nil
}

// builder is the form in which a workflow is made.
type builder struct {
	form
	ID      string // "" of a new one
	Steps   []stepForm
	Agents  []registry.Agent // to choose from
	JSON    string
	Graph   graph
	Price   credits.Amount // of a run in which every step completes
	Strict  bool           // what is left empty is wrong too: it was tried to save it
	Said    string         // what was done to the graph just now,
	Undo    string         // and the button that takes it back
	Refused string         // why it was not done
}

// stepForm is a step as it is filled in.
type stepForm struct {
	Name, Agent, Skill, Input string
	After                     []int
	Timeout, Retries, Backoff string
	Find, Sought              string           // what agents are looked for, and were on the page that was sent,
	Found                     []registry.Agent // those that were found,
	Matches                   int              // and how many there are
	More                      bool             // time limit and retries were asked for
	Seek                      bool             // and so was to look for an agent
	Wrong                     bool
}

// stepJSON is a step as the API has it.
type stepJSON struct {
	Name      string          `json:"name"`
	AgentID   string          `json:"agentId"`
	SkillID   string          `json:"skillId,omitempty"`
	Input     json.RawMessage `json:"input,omitempty"`
	DependsOn []int           `json:"dependsOn"`
	Timeout   int             `json:"timeout,omitempty"`
	Retry     *retryJSON      `json:"retryPolicy,omitempty"`
}

type retryJSON struct {
	MaxRetries int `json:"maxRetries"`
	BackoffMs  int `json:"backoffMs,omitempty"`
}

type workflowJSON struct {
	Name        string     `json:"name"`
	Description string     `json:"description,omitempty"`
	Steps       []stepJSON `json:"steps"`
}

func readBuilder(v url.Values) builder {
	b := builder{form: newForm(v), Strict: v.Get("strict") != "", JSON: v.Get("json")}
	for i := 0; i < scheduler.MaxSteps+1 && v.Has(fmt.Sprintf("step-%d-name", i)); i++ {
		at := func(name string) string { return v.Get(fmt.Sprintf("step-%d-%s", i, name)) }
		s := stepForm{Name: at("name"), Agent: at("agent"), Skill: at("skill"), Input: at("input"), Find: strings.TrimSpace(at("find")), Sought: at("found"), Seek: v.Has(fmt.Sprintf("step-%d-find", i)), Timeout: at("timeout"), Retries: at("retries"), Backoff: at("backoff"), More: v.Has(fmt.Sprintf("step-%d-timeout", i))}
		for _, text := range v[fmt.Sprintf("step-%d-after", i)] {
			if n, err := strconv.Atoi(text); err == nil {
				s.After = append(s.After, n)
			}
		}
		b.Steps = append(b.Steps, s)
	}
	return b
}

func builderOf(w scheduler.Workflow) builder {
	b := builder{ID: w.ID, form: newForm(url.Values{"name": {w.Name}, "description": {w.Description}})}
	for _, s := range w.Steps {
		f := stepForm{Name: s.Name, Agent: s.AgentID, Skill: s.SkillID, After: slices.Clone(s.DependsOn), Timeout: number(s.Timeout / time.Second)}
		if in := string(s.Input); in != "{}" && in != "" {
			f.Input = pretty(s.Input)
		}
		if s.Retry.MaxRetries > 0 {
			f.Retries, f.Backoff = number(s.Retry.MaxRetries), number(s.Retry.Backoff.Milliseconds())
		}
		b.Steps = append(b.Steps, f)
	}
	return b
}

func number[N ~int | ~int64](n N) string { return strconv.FormatInt(int64(n), 10) }

// steps are the steps as the engine takes them. What is no number or no JSON is marked.
func (b *builder) steps() []scheduler.Step {
	out := make([]scheduler.Step, 0, len(b.Steps))
	for i, s := range b.Steps {
		whole := func(name, text string) int64 {
			text = strings.TrimSpace(text)
			if text == "" {
				return 0
			}
			n, err := strconv.ParseInt(text, 10, 32)
			if err != nil {
				b.Bad[fmt.Sprintf("step-%d-%s", i, name)] = "Must be a whole number."
			}
			return n
		}
		step := scheduler.Step{
			Name: strings.TrimSpace(s.Name), AgentID: s.Agent, SkillID: strings.TrimSpace(s.Skill), DependsOn: s.After,
			Timeout: time.Duration(whole("timeout", s.Timeout)) * time.Second,
			Retry:   scheduler.RetryPolicy{MaxRetries: int(whole("retries", s.Retries)), Backoff: time.Duration(whole("backoff", s.Backoff)) * time.Millisecond},
		}
		if in := strings.TrimSpace(s.Input); in != "" {
			step.Input = json.RawMessage(in)
			if !json.Valid(step.Input) {
				b.Bad[fmt.Sprintf("step-%d-input", i)] = "Is no well-formed JSON."
				step.Input = nil
			}
		}
		out = append(out, step)
	}
	return out
}

func (b *builder) place(path string) string {
	if path == "name" || path == "description" || path == "steps" {
		return path
	}
	head, rest, _ := strings.Cut(path, ".")
	n := strings.TrimSuffix(strings.TrimPrefix(head, "steps["), "]")
	for prefix, name := range map[string]string{
		"name": "name", "agentId": "agent", "skillId": "skill", "dependsOn": "after", "input": "input", "timeout": "timeout",
		"retryPolicy.maxRetries": "retries", "retryPolicy.backoffMs": "backoff",
	} {
		if strings.HasPrefix(rest, prefix) {
			return "step-" + n + "-" + name
		}
	}
	return ""
}

// finish adds what follows from the form: its graph, its JSON, its price, what is wrong, and the agents to choose from.
func (d *dashboard) finish(x *exchange, b *builder) error {
	steps := b.steps()
	if len(steps) > 0 || b.Strict {
		err := d.engine.Workflows.Check(x.Context(), x.caller, b.Get("name"), b.Get("description"), steps)
		if err != nil && !b.refuse(err, b.place) {
			return err
		}
	}
	if !b.Strict { // who is still at it knows what is missing
		b.Problem = ""
		for name := range b.Bad {
			if b.emptyField(name) {
				delete(b.Bad, name)
			}
		}
	}
	if err := d.choices(x, b); err != nil {
		return err
	}
	byID := map[string]registry.Agent{}
	for _, a := range b.Agents {
		byID[a.ID] = a
	}
	doc := workflowJSON{Name: b.Get("name"), Description: b.Get("description"), Steps: []stepJSON{}}
	nodes := make([]node, 0, len(steps))
	for i := range steps {
		s := &steps[i]
		a := byID[s.AgentID]
		if a.OwnerUserID != x.caller.UserID {
			b.Price += a.Price
		}
		prefix := fmt.Sprintf("step-%d-", i)
		for name := range b.Bad {
			b.Steps[i].Wrong = b.Steps[i].Wrong || strings.HasPrefix(name, prefix) && name != prefix+"find"
		}
		class := ""
		if b.Steps[i].Wrong {
			class = "wrong"
		}
		nodes = append(nodes, node{Index: i, Name: orElse(s.Name, fmt.Sprintf("Step %d", i+1)), Sub: orElse(shorten(a.Name, 20), "no agent yet"), Class: class, DependsOn: s.DependsOn})
		j := stepJSON{Name: s.Name, AgentID: s.AgentID, SkillID: s.SkillID, Input: s.Input, DependsOn: append([]int{}, s.DependsOn...), Timeout: int(s.Timeout / time.Second)}
		if s.Retry.MaxRetries != 0 {
			j.Retry = &retryJSON{s.Retry.MaxRetries, int(s.Retry.Backoff.Milliseconds())}
		}
		doc.Steps = append(doc.Steps, j)
	}
	b.Graph = drawDown(nodes)
	if b.Bad["json"] == "" {
		raw, err := json.MarshalIndent(doc, "", "  ")
		if err != nil {
			return err
		}
		b.JSON = string(raw)
	}
	return nil
}

// emptyField reports whether a field of the form is empty, rather than wrong.
func (b *builder) emptyField(name string) bool {
	return name == "steps" || !strings.HasSuffix(name, "-after") && strings.TrimSpace(b.Get(name)) == ""
}

// choices are the agents that a step can be given: one's own, the most trusted ones, those that were looked for, and those
// already chosen.
func (d *dashboard) choices(x *exchange, b *builder) error {
	most := 100
	own, err := d.engine.Agents.ListOwn(x.Context(), x.caller, app.Page{Limit: &most})
	if err != nil {
		return err
	}
	found, err := d.engine.Agents.Discover(x.Context(), x.caller, registry.Query{Limit: 60}, "")
	if err != nil {
		return err
	}
	known := map[string]bool{}
	add := func(a registry.Agent) {
		if !known[a.ID] {
			known[a.ID] = true
			b.Agents = append(b.Agents, a)
		}
	}
	for _, a := range own.Items {
		add(a)
	}
	for _, a := range found.Items {
		add(a)
	}
	for i := range b.Steps {
		if err := d.find(x, b, i); err != nil {
			return err
		}
	}
	for _, s := range b.Steps {
		if s.Agent == "" || known[s.Agent] {
			continue
		}
		a, err := d.engine.Agents.Get(x.Context(), x.caller, s.Agent)
		if err != nil && !isMissing(err) {
			return err
		}
		if err == nil {
			add(a)
		}
	}
	return nil
}

// find looks for agents by a step's words.
func (d *dashboard) find(x *exchange, b *builder, i int) error {
	s := &b.Steps[i]
	if s.Find == "" {
		return nil
	}
	name := fmt.Sprintf("step-%d-find", i)
	found, err := d.engine.Agents.Discover(x.Context(), x.caller, registry.Query{Text: s.Find, Limit: min(max(160/len(b.Steps), 8), 20)}, "")
	if f, ok := fault.As(err); ok && f.Kind == fault.Invalid {
		b.Bad[name] = "Try a few words."
		return nil
	}
	if err != nil {
		return err
	}
	s.Found, s.Matches = found.Items, found.Total
	if len(s.Found) == 0 {
		b.Bad[name] = "No agent is found by that."
	}
	return nil
}

// foundWords says what was found, and how to find another one.
func (s stepForm) foundWords() string {
	switch n := len(s.Found); {
	case n == 0:
		return "By its name, its skills, or what it does. Your own are found too."
	case n < s.Matches:
		return fmt.Sprintf("The list of agents now has the best %d of those. More words find others.", n)
	}
	return fmt.Sprintf("The list of agents now has the %s found.", many(len(s.Found), "agent"))
}

// more reports whether a step's card shows its time limit and retries: if they are not as they are by default, or were asked
// for.
func (s stepForm) more(b builder, i int) bool {
	at := func(name string) string { return b.Bad[fmt.Sprintf("step-%d-%s", i, name)] }
	usual := number(scheduler.DefaultTimeout / time.Second)
	return s.More || s.Timeout != "" && s.Timeout != usual || s.Retries+s.Backoff != "" || at("timeout")+at("retries")+at("backoff") != ""
}

// offers are the agents among which a step's is chosen: those that were found for it; else all in the first such step, and
// in the others, so that the page of many steps stays small, the first of them. The chosen one is always there. Script fills
// in the rest from the first.
func (b *builder) offers(step int) []registry.Agent {
	s := b.Steps[step]
	out := slices.Clone(s.Found)
	if len(out) == 0 {
		most := max(40/max(len(b.Steps), 1), 2)
		if step == slices.IndexFunc(b.Steps, func(s stepForm) bool { return len(s.Found) == 0 }) || len(b.Agents) <= most {
			return b.Agents
		}
		out = slices.Clone(b.Agents[:most])
	}
	if a := b.agent(s.Agent); a.ID != "" && !slices.ContainsFunc(out, func(o registry.Agent) bool { return o.ID == a.ID }) {
		out = append(out, a)
	}
	return out
}

func (b *builder) agent(id string) registry.Agent {
	for _, a := range b.Agents {
		if a.ID == id {
			return a
		}
	}
	return registry.Agent{}
}

func (d *dashboard) showBuilder(x *exchange, status int, b builder) error {
	if err := d.finish(x, &b); err != nil {
		return err
	}
	title := "New workflow"
	if b.ID != "" {
		title = "Edit workflow"
	}
	d.show(x, status, builderPage(d.page(x, title, "workflows"), b))
	return nil
}

func (d *dashboard) newWorkflow(x *exchange) error {
	b := builder{form: newForm(nil), Steps: []stepForm{{Agent: x.URL.Query().Get("agent")}}}
	return d.showBuilder(x, http.StatusOK, b)
}

// draftWorkflow does what a button within the builder asks for, and shows what has become of the draft. Nothing is kept.
func (d *dashboard) draftWorkflow(x *exchange) error {
	b := readBuilder(x.PostForm)
	b.ID = x.PostForm.Get("id")
	do := b.Get("do")
	verb, arg, _ := strings.Cut(do, "-")
	n, err := strconv.Atoi(arg)
	known := err == nil && n >= 0 && n < len(b.Steps)
	switch {
	case do == "add" && len(b.Steps) < scheduler.MaxSteps:
		s := stepForm{}
		if last := len(b.Steps) - 1; last >= 0 { // most steps go on from the one before
			s.After = []int{last}
		}
		b.Steps = append(b.Steps, s)
	case verb == "remove" && known:
		b.Steps = slices.Delete(b.Steps, n, n+1)
		for i := range b.Steps {
			b.Steps[i].After = moved(b.Steps[i].After, func(a int) int {
				switch {
				case a == n:
					return -1
				case a > n:
					return a - 1
				}
				return a
			})
		}
	case verb == "up" && known && n > 0:
		b.Steps[n-1], b.Steps[n] = b.Steps[n], b.Steps[n-1]
		for i := range b.Steps {
			b.Steps[i].After = moved(b.Steps[i].After, func(a int) int {
				switch a {
				case n:
					a = n - 1
				case n - 1:
					a = n
				}
				if a >= i { // it would wait for a later one
					return -1
				}
				return a
			})
		}
	case verb == "find" && known:
		b.Steps[n].Seek = true
	case verb == "more" && known:
		b.Steps[n].More = true
	case verb == "link":
		from, to, _ := strings.Cut(arg, "-")
		i, err1 := strconv.Atoi(from)
		j, err2 := strconv.Atoi(to)
		if err1 == nil && err2 == nil && min(i, j) >= 0 && max(i, j) < len(b.Steps) {
			b.link(i, j)
		}
	case do == "json":
		if err := b.takeJSON(); err != "" {
			b.Bad["json"] = err
		}
	}
	b.retell()
	if x.Request.Header.Get("HX-Request") == "true" {
		if err := d.finish(x, &b); err != nil {
			return err
		}
		d.show(x, http.StatusOK, builderParts(b))
		return nil
	}
	return d.showBuilder(x, http.StatusOK, b)
}

// link lets the step to wait for the step from, or no more if it did. Where that needs another order of the steps they are
// moved. Steps that would wait for each other are refused.
func (b *builder) link(from, to int) {
	name := func(i int) string { return orElse(strings.TrimSpace(b.Steps[i].Name), fmt.Sprintf("Step %d", i+1)) }
	first, second := name(from), name(to)
	after := &b.Steps[to].After
	at := slices.Index(*after, from)
	switch {
	case from == to:
		b.Refused = fmt.Sprintf("“%s” cannot wait for itself.", second)
		return
	case at >= 0:
		*after = slices.Delete(slices.Clone(*after), at, at+1)
		b.Said = fmt.Sprintf("“%s” does not wait for “%s” any more.", second, first)
	case b.waits(from, to):
		b.Refused = fmt.Sprintf("“%s” cannot wait for “%s”, which waits for it: neither would ever begin.", second, first)
		return
	default:
		*after = append(slices.Clone(*after), from)
		b.Said = fmt.Sprintf("“%s” now waits for “%s”.", second, first)
	}
	place := b.order()
	b.Undo = fmt.Sprintf("link-%d-%d", place[from], place[to])
}

// waits reports whether a step waits for another one, through however many between.
func (b *builder) waits(step, other int) bool {
	seen := make([]bool, len(b.Steps))
	var look func(int) bool
	look = func(i int) bool {
		for _, d := range b.Steps[i].After {
			if d == other {
				return true
			}
			if d >= 0 && d < len(seen) && !seen[d] {
				seen[d] = true
				if look(d) {
					return true
				}
			}
		}
		return false
	}
	return look(step)
}

// order puts each step behind all that it waits for, and otherwise leaves the order as it is. It returns the new place of
// each. Steps that wait for each other, which a written draft may have, stay where they are.
func (b *builder) order() []int {
	place, placed := make([]int, len(b.Steps)), make([]bool, len(b.Steps))
	steps := make([]stepForm, 0, len(b.Steps))
	for len(steps) < len(b.Steps) {
		next := -1
		for i, s := range b.Steps {
			if !placed[i] && !slices.ContainsFunc(s.After, func(d int) bool { return d >= 0 && d < len(placed) && d != i && !placed[d] }) {
				next = i
				break
			}
		}
		if next < 0 {
			for i := range place {
				place[i] = i
			}
			return place
		}
		place[next], placed[next] = len(steps), true
		steps = append(steps, b.Steps[next])
	}
	for i := range steps {
		steps[i].After = moved(steps[i].After, func(d int) int {
			if d >= 0 && d < len(place) {
				return place[d]
			}
			return d
		})
	}
	b.Steps = steps
	return place
}

// retell puts the steps back into the form's values, which the checks look at.
func (b *builder) retell() {
	for i, s := range b.Steps {
		for name, text := range map[string]string{"name": s.Name, "agent": s.Agent, "skill": s.Skill, "input": s.Input, "timeout": s.Timeout, "retries": s.Retries, "backoff": s.Backoff, "find": s.Find} {
			b.Set(fmt.Sprintf("step-%d-%s", i, name), text)
		}
	}
}

func moved(list []int, to func(int) int) []int {
	var out []int
	for _, a := range list {
		if a = to(a); a >= 0 && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	slices.Sort(out)
	return out
}

// takeJSON takes the workflow that is written as JSON in place of the fields. What is wrong with it comes back.
func (b *builder) takeJSON() string {
	var doc workflowJSON
	if err := json.Unmarshal([]byte(b.JSON), &doc); err != nil {
		return "It is no workflow: " + strings.TrimPrefix(err.Error(), "json: ") + "."
	}
	if len(doc.Steps) > scheduler.MaxSteps {
		return fmt.Sprintf("It has more than %d steps.", scheduler.MaxSteps)
	}
	b.Set("name", doc.Name)
	b.Set("description", doc.Description)
	b.Steps = nil
	for _, s := range doc.Steps {
		f := stepForm{Name: s.Name, Agent: s.AgentID, Skill: s.SkillID, After: s.DependsOn}
		if len(s.Input) > 0 {
			f.Input = pretty(s.Input)
		}
		if s.Timeout != 0 {
			f.Timeout = number(s.Timeout)
		}
		if s.Retry != nil {
			f.Retries = number(s.Retry.MaxRetries)
			if s.Retry.BackoffMs != 0 {
				f.Backoff = number(s.Retry.BackoffMs)
			}
		}
		b.Steps = append(b.Steps, f)
	}
	return ""
}

// looks reports whether Enter was pressed to find an agent, rather than to save.
func (b *builder) looks() bool {
	return b.Get("do") == "enter" && slices.ContainsFunc(b.Steps, func(s stepForm) bool { return s.Find != "" && s.Find != s.Sought })
}

func (d *dashboard) createWorkflow(x *exchange) error {
	b := readBuilder(x.PostForm)
	if b.looks() {
		return d.showBuilder(x, http.StatusOK, b)
	}
	steps := b.steps()
	if len(b.Bad) == 0 {
		w, err := d.engine.Workflows.Create(x.Context(), x.caller, b.Get("name"), b.Get("description"), steps)
		if err == nil {
			return d.to(x, workflowPath(w.ID), done("Saved. Run it whenever you like."))
		}
		if !b.refuse(err, b.place) {
			return err
		}
	}
	b.Strict = true
	b.Set("strict", "yes")
	return d.showBuilder(x, http.StatusUnprocessableEntity, b)
}

func (d *dashboard) saveWorkflow(x *exchange) error {
	id := x.PathValue("id")
	b := readBuilder(x.PostForm)
	b.ID = id
	if b.looks() {
		return d.showBuilder(x, http.StatusOK, b)
	}
	steps := b.steps()
	if len(b.Bad) == 0 {
		name, description := b.Get("name"), b.Get("description")
		_, err := d.engine.Workflows.Change(x.Context(), x.caller, id, app.ChangeWorkflow{Name: &name, Description: &description, Steps: &steps})
		if err == nil {
			return d.to(x, workflowPath(id), done("Saved. Runs that have begun keep the steps that they began with."))
		}
		if !b.refuse(err, b.place) {
			return err
		}
	}
	b.Strict = true
	b.Set("strict", "yes")
	return d.showBuilder(x, http.StatusUnprocessableEntity, b)
}

func (d *dashboard) editWorkflow(x *exchange) error {
	w, err := d.engine.Workflows.Get(x.Context(), x.caller, x.PathValue("id"))
	if err != nil {
		return err
	}
	b := builderOf(w.Workflow)
	b.retell()
	return d.showBuilder(x, http.StatusOK, b)
}

type workflowView struct {
	app.WorkflowView
	Graph graph
	Tall  graph // the same for narrow screens
	Names names
}

func (d *dashboard) workflow(x *exchange) error {
	w, err := d.engine.Workflows.Get(x.Context(), x.caller, x.PathValue("id"))
	if err != nil {
		return err
	}
	v := workflowView{WorkflowView: w, Names: names{}}
	nodes := make([]node, 0, len(w.Steps))
	for i, s := range w.Steps {
		if err := d.learnName(x, v.Names, s.AgentID); err != nil {
			return err
		}
		nodes = append(nodes, node{Index: i, Name: s.Name, Sub: shorten(v.Names.of(s.AgentID), 20), DependsOn: slices.Clone(s.DependsOn)})
	}
	v.Graph, v.Tall = draw(nodes), drawDown(slices.Clone(nodes))
	d.show(x, http.StatusOK, workflowPage(d.page(x, w.Name, "workflows"), v))
	return nil
}

func (d *dashboard) runWorkflow(x *exchange) error {
	if d.opt.RateLimit {
		if _, err := d.engine.Limits.Take(x.Context(), x.caller, app.LimitRuns); err != nil {
			return err
		}
	}
	r, err := d.engine.Workflows.Execute(x.Context(), x.caller, x.PathValue("id"))
	if err != nil {
		return err
	}
	return d.to(x, runPath(r.WorkflowID, r.ID), flash{})
}

func (d *dashboard) deleteWorkflow(x *exchange) error {
	if err := d.engine.Workflows.Delete(x.Context(), x.caller, x.PathValue("id")); err != nil {
		return err
	}
	return d.to(x, "/dashboard/workflows", done("The workflow is deleted, and its open runs are cancelled."))
}

// runView is the page of a run.
type runView struct {
	scheduler.Run
	Workflow string // its name; of a deleted one there is none
	Graph    graph
	Tall     graph // the same for narrow screens
	Lines    []runLine
	Cost     string
}

// runLine is a step in the timeline. Positions are in thousandths of the run's time.
type runLine struct {
	*scheduler.StepResult
	Shown          string // its status in words
	Agent          string
	WaitAt, WaitTo int
	RanAt, RanTo   int
	Waited, Ran    time.Duration
}

func (d *dashboard) viewRun(ctx context.Context, x *exchange) (runView, error) {
	r, err := d.engine.Workflows.Run(ctx, x.caller, x.PathValue("id"), x.PathValue("run"))
	if err != nil {
		return runView{}, err
	}
	v := runView{Run: r, Workflow: "Workflow"}
	if w, err := d.engine.Workflows.Get(ctx, x.caller, r.WorkflowID); err == nil {
		v.Workflow = w.Name
	} else if !isMissing(err) {
		return v, err
	}
	end := now(ctx)
	if r.CompletedAt != nil {
		end = *r.CompletedAt
	}
	total := max(end.Sub(r.CreatedAt), time.Millisecond)
	at := func(t time.Time) int {
		return int(min(max(t.Sub(r.CreatedAt)*1000/total, 0), 1000))
	}
	n := names{}
	nodes := make([]node, 0, len(r.Steps))
	for i, s := range r.Steps {
		step := r.Plan.Steps()[i]
		if err := d.learnName(x, n, step.AgentID); err != nil {
			return v, err
		}
		l := runLine{StepResult: s, Shown: string(s.Status), Agent: n.of(step.AgentID)}
		if s.RetryAt != nil {
			l.Shown = "retrying"
		}
		ready := r.CreatedAt
		for _, dep := range step.DependsOn {
			if done := r.Steps[dep].CompletedAt; done == nil {
				ready = end // it is not its turn yet
			} else if done.After(ready) {
				ready = *done
			}
		}
		if s.StartedAt != nil {
			until := end
			if s.CompletedAt != nil {
				until = *s.CompletedAt
			}
			l.WaitAt, l.WaitTo, l.RanAt, l.RanTo = at(ready), at(*s.StartedAt), at(*s.StartedAt), max(at(until), at(*s.StartedAt)+3)
			l.Waited, l.Ran = max(s.StartedAt.Sub(ready), 0), max(until.Sub(*s.StartedAt), 0)
		}
		v.Lines = append(v.Lines, l)
		nd := node{Index: i, Name: s.Name, Sub: l.words(), Class: l.Shown, DependsOn: slices.Clone(step.DependsOn), Said: fmt.Sprintf("%s: %s", s.Name, l.Shown)}
		if s.TaskID != "" {
			nd.To = taskPath(s.TaskID)
		}
		nodes = append(nodes, nd)
	}
	v.Graph, v.Tall = draw(nodes), drawDown(slices.Clone(nodes))
	return v, nil
}

func (l runLine) words() string {
	switch {
	case l.CompletedAt != nil && l.StartedAt != nil:
		if l.Status == scheduler.Completed {
			return "done in " + span(l.Ran)
		}
		return l.Shown + ", " + span(l.Ran)
	case l.Attempts > 1:
		return fmt.Sprintf("%s, attempt %d", l.Shown, l.Attempts)
	}
	return l.Shown
}

func (d *dashboard) run(x *exchange) error {
	v, err := d.viewRun(x.Context(), x)
	if err != nil {
		return err
	}
	d.show(x, http.StatusOK, runPage(d.page(x, "Run of "+v.Workflow, "workflows"), v))
	return nil
}

// runLive sends the run's live part each time that it changes.
func (d *dashboard) runLive(x *exchange) error {
	w, _, err := d.engine.Workflows.Watch(x.Context(), x.caller, x.PathValue("id"), x.PathValue("run"), app.FromState)
	if err != nil {
		return err
	}
	return follow(d, x, w, func(ctx context.Context) (templ.Component, error) {
		v, err := d.viewRun(ctx, x)
		return runParts(v), err
	})
}

func (d *dashboard) cancelRun(x *exchange) error {
	id, run := x.PathValue("id"), x.PathValue("run")
	_, err := d.engine.Workflows.CancelRun(x.Context(), x.caller, id, run)
	if f, ok := fault.As(err); ok && f.Kind == fault.Conflict {
		return d.to(x, runPath(id, run), flash{Bad: true, Text: "It had already ended."})
	}
	if err != nil {
		return err
	}
	return d.to(x, runPath(id, run), done("The run is cancelled. What was held for its open steps is yours again."))
}
