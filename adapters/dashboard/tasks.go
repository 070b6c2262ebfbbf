package dashboard

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/fnv"
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
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/domain/trust"
)

const taskRows = 25

type tasksView struct {
	Tasks   app.List[task.Task]
	Names   names
	Pages   listing
	Filter  url.Values
	Agents  []registry.Agent // to choose from: one's own
	Mark    string           // of what is shown, so that the page is only told of changes
	Problem string
}

func (d *dashboard) tasks(x *exchange) error {
	q := x.URL.Query()
	v := tasksView{Filter: q}
	ask := app.TaskQuery{Status: task.Status(q.Get("status")), Role: q.Get("role"), AgentID: q.Get("agent"), Page: pageOf(q, taskRows)}
	if !slices.Contains(task.Statuses(), ask.Status) {
		ask.Status = ""
	}
	if ask.Role != "requester" && ask.Role != "assignee" {
		ask.Role = ""
	}
	var err error
	if v.Tasks, err = d.engine.Tasks.List(x.Context(), x.caller, ask); err != nil {
		return err
	}
	v.Pages = listingOf(v.Tasks, x)
	v.Pages.Query.Del("seen")
	v.Mark = markOf(v.Tasks)
	if seen := q.Get("seen"); seen != "" { // the page asks whether anything has changed
		if seen == v.Mark {
			x.WriteHeader(http.StatusNoContent)
			return nil
		}
	}
	if v.Names, err = d.agentNames(x, v.Tasks.Items); err != nil {
		return err
	}
	if q.Get("seen") != "" {
		d.show(x, http.StatusOK, tasksLive(v))
		return nil
	}
	most := 100
	own, err := d.engine.Agents.ListOwn(x.Context(), x.caller, app.Page{Limit: &most})
	if err != nil {
		return err
	}
	v.Agents = own.Items
	d.show(x, http.StatusOK, tasksPage(d.page(x, "Tasks", "tasks"), v))
	return nil
}

// markOf is the same as long as the list is.
func markOf(l app.List[task.Task]) string {
	h := fnv.New64a()
	fmt.Fprint(h, l.Total)
	for _, t := range l.Items {
		fmt.Fprint(h, t.ID, t.Status, t.LastSeq, t.AwaitsInput)
	}
	return strconv.FormatUint(h.Sum64(), 36)
}

// again is where a list asks for itself.
func (v tasksView) again() string {
	q := url.Values{}
	for k, vs := range v.Filter {
		q[k] = vs
	}
	q.Set("seen", v.Mark)
	return "/dashboard/tasks?" + q.Encode()
}

// taskForm is the form of a new task.
type taskForm struct {
	form
	Agent  registry.Agent // zero until one is chosen
	Skill  string
	Fields []schemaField // of the skill's input; none: the input is JSON
	Own    bool          // it costs nothing
	Choose []registry.Agent
}

func (d *dashboard) newTask(x *exchange) error {
	q := x.URL.Query()
	f := taskForm{form: newForm(url.Values{"agent": {q.Get("agent")}, "skill": {q.Get("skill")}})}
	if id := q.Get("again"); id != "" {
		t, err := d.engine.Tasks.Get(x.Context(), x.caller, id)
		if err != nil {
			return err
		}
		f.Set("agent", t.AgentID)
		f.Set("skill", t.SkillID)
		f.Set("title", t.Title)
		f.Set("description", t.Description)
		f.Set("timeout", strconv.Itoa(int(t.Timeout.Seconds())))
		if string(t.Input) != "{}" {
			f.Set("input", pretty(t.Input))
		}
		if err := d.prepare(x, &f); err != nil {
			return err
		}
		fill(f.Values, f.Fields, t.Input)
		d.show(x, http.StatusOK, newTaskPage(d.page(x, "New task", "tasks"), f))
		return nil
	}
	if err := d.prepare(x, &f); err != nil {
		return err
	}
	for _, field := range f.Fields {
		f.Set(field.Name, field.Default)
	}
	d.show(x, http.StatusOK, newTaskPage(d.page(x, "New task", "tasks"), f))
	return nil
}

// prepare finds the agent and the skill that the form is about. An agent that is gone is not chosen.
func (d *dashboard) prepare(x *exchange, f *taskForm) error {
	if id := f.Get("agent"); id != "" {
		a, err := d.engine.Agents.Get(x.Context(), x.caller, id)
		if err != nil && !isMissing(err) {
			return err
		}
		if err == nil {
			f.Agent, f.Own = a, a.OwnerUserID == x.caller.UserID
		}
	}
	if f.Agent.ID == "" {
		q := registry.Query{Text: f.Get("q"), Limit: 12}
		l, err := d.engine.Agents.Discover(x.Context(), x.caller, q, "")
		if err != nil {
			return err
		}
		f.Choose = l.Items
		return nil
	}
	if !f.Has("skill") || f.Get("skill") == "" && len(f.Agent.Skills) == 1 && !f.Has("title") {
		f.Set("skill", "")
		if len(f.Agent.Skills) == 1 {
			f.Set("skill", f.Agent.Skills[0].ID)
		}
	}
	if s, ok := f.Agent.Skill(f.Get("skill")); ok {
		f.Skill = s.ID
		f.Fields, _ = fieldsOf(s.InputSchema)
	}
	return nil
}

func (d *dashboard) createTask(x *exchange) error {
	f := taskForm{form: newForm(x.PostForm)}
	if err := d.prepare(x, &f); err != nil {
		return err
	}
	if f.Agent.ID == "" {
		return fault.New(fault.NotFound, fault.CodeAgentNotFound, "there is no such agent")
	}
	in := app.CreateTask{AgentID: f.Agent.ID, SkillID: f.Skill, Title: strings.TrimSpace(f.Get("title")), Description: f.Get("description"), QueueIfOffline: f.Get("wait") != ""}
	if in.Title == "" && in.Description != "" {
		in.Title = task.TitleOf(in.Description)
	}
	var bad map[string]string
	switch raw := strings.TrimSpace(f.Get("input")); {
	case len(f.Fields) > 0:
		in.Input, bad = inputOf(f.Values, f.Fields)
		for name, what := range bad {
			f.Bad[name] = what
		}
	case raw == "":
	case !json.Valid([]byte(raw)) || raw[0] != '{':
		f.Bad["input"] = "Must be a JSON object, such as {\"text\": \"…\"}."
	default:
		in.Input = json.RawMessage(raw)
	}
	if s := f.Get("timeout"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			f.Bad["timeout"] = "Must be a whole number of seconds."
		}
		in.Timeout = time.Duration(n) * time.Second
	}
	if s := strings.TrimSpace(f.Get("budget")); s != "" {
		amount, err := credits.Parse(s)
		if err != nil {
			f.Bad["budget"] = "Must be a number of credits."
		}
		in.MaxBudget = &amount
	}
	if len(f.Bad) == 0 {
		if d.opt.RateLimit {
			if _, err := d.engine.Limits.Take(x.Context(), x.caller, app.LimitDashboardTasks); err != nil {
				return err
			}
		}
		t, err := d.engine.Tasks.Create(x.Context(), x.caller, in)
		if err == nil {
			return d.to(x, taskPath(t.ID), flash{})
		}
		if !f.refuse(err, f.place) {
			return err
		}
	} else {
		f.Problem = "Please look at what is marked below."
	}
	d.show(x, http.StatusUnprocessableEntity, newTaskPage(d.page(x, "New task", "tasks"), f))
	return nil
}

func (f taskForm) place(path string) string {
	if key, ok := strings.CutPrefix(path, "input"); ok {
		if len(f.Fields) == 0 {
			return "input"
		}
		key = strings.TrimPrefix(key, ".")
		for _, field := range f.Fields {
			if key == field.Key || strings.HasPrefix(key, field.Key+".") || strings.HasPrefix(key, field.Key+"[") {
				return field.Name
			}
		}
		return ""
	}
	return map[string]string{"title": "title", "description": "description", "timeoutSeconds": "timeout", "maxBudgetCredits": "budget", "skillId": "skill"}[path]
}

// taskView is a task's page.
type taskView struct {
	app.TaskView
	Agent     string
	Requester bool // the reader asked for it
	Rating    form
	Reply     form
	Rated     bool
	Given     trust.Event // the rating, if there is one
	RunPath   string
}

func (d *dashboard) viewTask(ctx context.Context, x *exchange, id string) (taskView, error) {
	t, err := d.engine.Tasks.Get(ctx, x.caller, id)
	if err != nil {
		return taskView{}, err
	}
	v := taskView{TaskView: t, Requester: t.RequesterUserID == x.caller.UserID, Rating: newForm(nil), Reply: newForm(nil)}
	n := names{}
	if err := d.learnName(x, n, t.AgentID); err != nil {
		return v, err
	}
	v.Agent = n.of(t.AgentID)
	if t.WorkflowRunID != "" && v.Requester {
		if r, err := d.engine.Workflows.FindRun(ctx, x.caller, t.WorkflowRunID); err == nil {
			v.RunPath = runPath(r.WorkflowID, r.ID)
		}
	}
	if t.Status == task.Completed && v.Requester {
		v.Given, v.Rated, err = d.engine.Trust.Rating(ctx, x.caller, t.ID)
	}
	return v, err
}

func (d *dashboard) task(x *exchange) error {
	v, err := d.viewTask(x.Context(), x, x.PathValue("id"))
	if err != nil {
		return err
	}
	d.show(x, http.StatusOK, taskPage(d.page(x, v.Title, "tasks"), v))
	return nil
}

// taskLive sends the task's live part each time that it changes.
func (d *dashboard) taskLive(x *exchange) error {
	id := x.PathValue("id")
	w, err := d.engine.Tasks.Watch(x.Context(), x.caller, id, app.FromState)
	if err != nil {
		return err
	}
	return follow(d, x, w, func(ctx context.Context) (templ.Component, error) {
		v, err := d.viewTask(ctx, x, id)
		return taskParts(v), err
	})
}

func (d *dashboard) cancelTask(x *exchange) error {
	id := x.PathValue("id")
	_, err := d.engine.Tasks.Cancel(x.Context(), x.caller, id)
	if f, ok := fault.As(err); ok && f.Kind == fault.Conflict {
		return d.to(x, taskPath(id), flash{Bad: true, Text: "It had already ended."})
	}
	if err != nil {
		return err
	}
	return d.to(x, taskPath(id), done("The task is cancelled, and its credits are yours again."))
}

func (d *dashboard) replyTask(x *exchange) error {
	id := x.PathValue("id")
	f := newForm(x.PostForm)
	text := strings.TrimSpace(f.Get("text"))
	if text == "" {
		f.Bad["text"] = "Please write something."
	} else {
		_, err := d.engine.Tasks.Reply(x.Context(), x.caller, id, app.ReplyTask{Role: task.RoleUser, Parts: []task.Part{task.TextPart(text)}})
		if err == nil {
			return d.to(x, taskPath(id), flash{})
		}
		if !f.refuse(err, func(string) string { return "text" }) {
			return err
		}
	}
	v, err := d.viewTask(x.Context(), x, id)
	if err != nil {
		return err
	}
	v.Reply = f
	d.show(x, http.StatusUnprocessableEntity, taskPage(d.page(x, v.Title, "tasks"), v))
	return nil
}

func (d *dashboard) rateTask(x *exchange) error {
	id := x.PathValue("id")
	v, err := d.viewTask(x.Context(), x, id)
	if err != nil {
		return err
	}
	f := newForm(x.PostForm)
	stars, _ := strconv.Atoi(f.Get("stars")) // 0 is refused
	_, err = d.engine.Trust.Rate(x.Context(), x.caller, v.AgentID, app.RateAgent{TaskID: id, Stars: stars, Comment: strings.TrimSpace(f.Get("comment"))})
	if err == nil {
		return d.to(x, taskPath(id), done("Thank you. Your rating counts towards the agent's trust."))
	}
	ok := f.refuse(err, func(path string) string {
		return map[string]string{"rating": "stars", "comment": "comment"}[path]
	})
	if !ok {
		return err
	}
	v.Rating = f
	d.show(x, http.StatusUnprocessableEntity, taskPage(d.page(x, v.Title, "tasks"), v))
	return nil
}

// filePart is a part of type file.
type filePart struct {
	Name     string `json:"name"`
	MimeType string `json:"mimeType"`
	Bytes    string `json:"bytes"`
	URI      string `json:"uri"`
}

// shownPart is a part as a page shows it.
type shownPart struct {
	Kind string // text, json, image, file, link
	Text string
	Name string
	URL  string
	Size string
}

// maxShown is how many bytes of one part a page shows; the rest is in the file and in the API.
const maxShown = 12_000

// pictures are the types that are shown as pictures. What is not one of them by its own bytes is a file, whatever it calls
// itself: SVG and HTML can act, these can not.
var pictures = []string{"image/png", "image/jpeg", "image/gif", "image/webp"}

// show says how a part is shown. at is where its file is served.
func showPart(p task.Part, at string) shownPart {
	switch p.Type {
	case task.PartText:
		var s string
		if json.Unmarshal(p.Data, &s) == nil {
			return shownPart{Kind: "text", Text: cut(s, maxShown)}
		}
	case task.PartFile:
		var f filePart
		if json.Unmarshal(p.Data, &f) != nil {
			break
		}
		out := shownPart{Kind: "file", Name: orElse(f.Name, "file"), URL: at}
		if f.Bytes == "" {
			u, err := url.Parse(f.URI)
			if err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" {
				return shownPart{Kind: "link", Name: orElse(f.Name, u.Host), Text: u.Host, URL: u.String()}
			}
			return shownPart{Kind: "text", Text: cut(f.Name+" "+f.URI, maxShown)}
		}
		b, err := base64.StdEncoding.DecodeString(f.Bytes)
		if err != nil {
			return shownPart{Kind: "text", Text: out.Name + " (its content is damaged)"}
		}
		out.Size = size(len(b))
		if slices.Contains(pictures, http.DetectContentType(b)) {
			out.Kind = "image"
		}
		return out
	}
	return shownPart{Kind: "json", Text: cut(pretty(p.Data), maxShown)}
}

func size(n int) string {
	if n < 1024 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%.1f KiB", float64(n)/1024)
}

// taskFile serves a file that an agent made or sent: as a picture if it is one, else for download. Nothing of it can run
// here.
func (d *dashboard) taskFile(x *exchange) error {
	t, err := d.engine.Tasks.Get(x.Context(), x.caller, x.PathValue("id"))
	if err != nil {
		return err
	}
	missing := fault.New(fault.NotFound, fault.CodeNotFound, "there is no such file")
	which, n := x.PathValue("artifact"), 0
	var parts []task.Part
	if m, ok := strings.CutPrefix(which, "m"); ok {
		if n, err = strconv.Atoi(m); err == nil && n >= 0 && n < len(t.Messages) {
			parts = t.Messages[n].Parts
		}
	} else if n, err = strconv.Atoi(which); err == nil && n >= 0 && n < len(t.Artifacts) {
		parts = t.Artifacts[n].Parts
	}
	i, err := strconv.Atoi(x.PathValue("part"))
	if err != nil || i < 0 || i >= len(parts) || parts[i].Type != task.PartFile {
		return missing
	}
	var f filePart
	if json.Unmarshal(parts[i].Data, &f) != nil || f.Bytes == "" {
		return missing
	}
	b, err := base64.StdEncoding.DecodeString(f.Bytes)
	if err != nil {
		return missing
	}
	kind, how := http.DetectContentType(b), "inline"
	if !slices.Contains(pictures, kind) {
		kind, how = "application/octet-stream", "attachment"
	}
	h := x.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Disposition", how+"; filename*=UTF-8''"+url.PathEscape(fileName(f.Name)))
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox; frame-ancestors 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	_, _ = x.Write(b) // whoever does not read it is gone
	return nil
}

// fileName is a name without a path and without what a system could take for more than a letter.
func fileName(name string) string {
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || strings.ContainsRune(`"<>|:*?`, r) {
			return '_'
		}
		return r
	}, name)
	return orElse(cut(strings.TrimLeft(name, "."), 150), "file")
}
