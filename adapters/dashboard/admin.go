package dashboard

import (
	"net/http"

	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

const userRows = 25

type adminView struct {
	Overview app.Overview
	Users    app.List[identity.User]
	Pages    listing
	Find     string
	Agents   app.List[registry.Agent]
	Report   *ledger.Report // of a verification that was asked for just now
	Me       string
}

func (v adminView) tasks(s task.Status) string { return count(v.Overview.OpenTasks[s]) }

func (v adminView) jobs() []jobRow {
	var out []jobRow
	for _, p := range []struct {
		priority ports.Priority
		name     string
	}{{ports.PriorityInteractive, "somebody waits"}, {ports.PriorityWorkflow, "workflows"}, {ports.PriorityHousekeeping, "housekeeping"}} {
		out = append(out, jobRow{p.name, v.Overview.Jobs[p.priority]})
	}
	return out
}

type jobRow struct {
	Name string
	ports.JobStats
}

func (d *dashboard) admin(x *exchange) error { return d.showAdmin(x, nil) }

func (d *dashboard) showAdmin(x *exchange, report *ledger.Report) error {
	ctx, q := x.Context(), x.URL.Query()
	v := adminView{Find: q.Get("email"), Report: report, Me: x.caller.UserID}
	var err error
	if v.Overview, err = d.engine.System.Overview(ctx, x.caller); err != nil {
		return err
	}
	if v.Users, err = d.engine.Identity.Users(ctx, x.caller, app.FindUsers{Email: v.Find, Page: pageOf(q, userRows)}); err != nil {
		if f, ok := fault.As(err); !ok || f.Kind != fault.Invalid {
			return err
		}
		v.Users = app.List[identity.User]{}
	}
	v.Pages = listingOf(v.Users, x)
	if v.Agents, err = d.engine.Market.Search(ctx, x.caller, registry.Query{Sort: registry.SortNewest, Limit: 8}); err != nil {
		return err
	}
	d.show(x, http.StatusOK, adminPage(d.page(x, "Admin", "admin"), v))
	return nil
}

func (d *dashboard) disableUser(x *exchange) error {
	u, err := d.engine.Identity.DisableUser(x.Context(), x.caller, x.PathValue("user"))
	return d.changed(x, u.Email+" is shut out.", err)
}

func (d *dashboard) enableUser(x *exchange) error {
	u, err := d.engine.Identity.EnableUser(x.Context(), x.caller, x.PathValue("user"))
	return d.changed(x, u.Email+" is let in again.", err)
}

func (d *dashboard) changed(x *exchange, said string, err error) error {
	if f, ok := fault.As(err); ok && f.Kind == fault.Conflict {
		return d.to(x, "/dashboard/admin", flash{Bad: true, Text: sentence(f.Message)})
	}
	if err != nil {
		return err
	}
	return d.to(x, "/dashboard/admin", done(said))
}

// verifyLedger works the whole ledger out again from its entries.
func (d *dashboard) verifyLedger(x *exchange) error {
	r, err := d.engine.Billing.Audit(x.Context(), x.caller)
	if err != nil {
		return err
	}
	return d.showAdmin(x, &r)
}
