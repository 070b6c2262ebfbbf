package dashboard

import (
	"net/http"

	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/task"
)

// homeView is what the first page shows: what needs a look, and what went on.
type homeView struct {
	Failed  app.List[task.Task]
	Asks    []task.Task // the agent waits for a reply
	Offline []registry.Agent
	Agents  app.List[registry.Agent]
	Recent  app.List[task.Task]
	Running int
	Usage   app.Usage
	Names   names
}

func (v homeView) calm(b balance) bool {
	return v.Failed.Total == 0 && len(v.Offline) == 0 && len(v.Asks) == 0 && b.Available >= lowBalance
}

const homeRows = 6

func (d *dashboard) home(x *exchange) error {
	var v homeView
	var err error
	ctx := x.Context()
	rows, most := homeRows, 100
	if v.Recent, err = d.engine.Tasks.List(ctx, x.caller, app.TaskQuery{Page: app.Page{Limit: &rows}}); err != nil {
		return err
	}
	if v.Failed, err = d.engine.Tasks.List(ctx, x.caller, app.TaskQuery{Status: task.Failed, Role: "requester", Page: app.Page{Limit: &rows}}); err != nil {
		return err
	}
	since := now(ctx).AddDate(0, 0, -7)
	v.Failed.Items = keep(v.Failed.Items, func(t task.Task) bool { return t.UpdatedAt.After(since) })
	v.Failed.Total = len(v.Failed.Items)
	running, err := d.engine.Tasks.List(ctx, x.caller, app.TaskQuery{Status: task.Running, Role: "requester", Page: app.Page{Limit: &most}})
	if err != nil {
		return err
	}
	v.Running = running.Total
	v.Asks = keep(running.Items, func(t task.Task) bool { return t.AwaitsInput })
	if v.Agents, err = d.engine.Agents.ListOwn(ctx, x.caller, app.Page{Limit: &most}); err != nil {
		return err
	}
	v.Offline = keep(v.Agents.Items, func(a registry.Agent) bool { return a.StatusAt(now(ctx)) != registry.Online })
	if v.Usage, err = d.engine.Billing.Usage(ctx, x.caller, "30d"); err != nil {
		return err
	}
	if v.Names, err = d.agentNames(x, v.Recent.Items, v.Failed.Items, v.Asks); err != nil {
		return err
	}
	d.show(x, http.StatusOK, homePage(d.page(x, "Home", "home"), v))
	return nil
}

func keep[T any](list []T, ok func(T) bool) []T {
	var out []T
	for _, e := range list {
		if ok(e) {
			out = append(out, e)
		}
	}
	return out
}

// names are the names of agents by their ids.
type names map[string]string

func (n names) of(id string) string {
	if name := n[id]; name != "" {
		return name
	}
	return "a deleted agent"
}

// agentNames finds out what the agents of tasks are called.
func (d *dashboard) agentNames(x *exchange, lists ...[]task.Task) (names, error) {
	out := names{}
	for _, l := range lists {
		for _, t := range l {
			if err := d.learnName(x, out, t.AgentID); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func (d *dashboard) learnName(x *exchange, n names, agentID string) error {
	if _, known := n[agentID]; known {
		return nil
	}
	a, err := d.engine.Agents.Get(x.Context(), x.caller, agentID)
	if err != nil && !isMissing(err) {
		return err
	}
	n[agentID] = a.Name
	return nil
}
