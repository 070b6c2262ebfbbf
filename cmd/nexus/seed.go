package main

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	mathrand "math/rand/v2"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/nexus-protocol/nexus/adapters/argon2hasher"
	"github.com/nexus-protocol/nexus/adapters/inprocess"
	"github.com/nexus-protocol/nexus/adapters/jsonschemacheck"
	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/billing"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/scheduler"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

type seedCmd struct {
	Agents    int    `default:"40" help:"How many agents."`
	Tasks     int    `default:"500" help:"About how many tasks, those of workflows among them."`
	Workflows int    `default:"20" help:"How many workflows."`
	Days      int    `default:"90" help:"Over how many days it all happened."`
	Seed      uint64 `default:"1" help:"The same seed gives the same history."`
	Endpoint  string `default:"http://127.0.0.1:8091" help:"Where the agents listen: by default where the demo's echo agent does."`
}

// seedEmail is the account that the made-up history is told from.
const seedEmail = "ada@nexus.example"

// Run makes a history up and lets it happen, day by day, through the engine itself under a clock of its own. So the
// ledger balances and trust follows from evidence, as if it had all been lived through.
func (c *seedCmd) Run(e *env) (err error) {
	db, err := e.database()
	if err != nil {
		return err
	}
	if db.lock != nil {
		release, err := db.lock()
		if err != nil {
			return fmt.Errorf("stop the server first: %w", err)
		}
		defer release()
	}
	store, err := e.openStore(db, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	s := &seeding{cmd: c, drawn: map[int][]byte{}, end: clockOf(store)().UTC(), rand: mathrand.New(mathrand.NewPCG(c.Seed, 2))} //nolint:gosec // a history, no secret
	s.now = s.end.AddDate(0, 0, -c.Days)
	agents := memory.NewAgents()
	agents.Handle(c.Endpoint, func(context.Context, ports.Call) (ports.Answer, error) { // it is asked for its card only
		return ports.Answer{}, errors.New("seed: nobody works here")
	})
	s.store = store
	s.engine, err = app.New(app.Config{
		Store: store, Queue: inprocess.New(store, s.clock, inprocess.Options{}), Agents: agents, Guard: memory.OpenGuard{},
		Schema: jsonschemacheck.New(), Hasher: argon2hasher.New(), Limits: unlimited{}, Now: s.clock, NewID: s.newID, Random: rand.Reader, Logger: e.log,
	})
	if err != nil {
		return err
	}
	raw := make([]byte, 12)
	_, _ = rand.Read(raw) // it never fails
	password := base64.RawURLEncoding.EncodeToString(raw)
	if err := s.run(e, password); err != nil {
		if fault.Has(err, fault.CodeEmailTaken) {
			return fmt.Errorf("%s has been seeded before", db.name)
		}
		return err
	}
	fmt.Fprintf(e.out, "%d agents, %d tasks, %d workflows, %d days\n\n  account   %s\n  password  %s\n\n", len(s.agents), s.made, len(s.flows), c.Days, seedEmail, password)
	return nil
}

// seeding is a history that happens.
type seeding struct {
	cmd    *seedCmd
	engine *app.Engine
	store  store
	rand   *mathrand.Rand
	now    time.Time
	end    time.Time
	queue  happenings
	count  int

	ada    identity.Caller
	people []identity.Caller
	agents []seededAgent
	flows  []string
	live   []string // the workflows of which a run is still going on
	made   int      // tasks
	drawn  map[int][]byte
}

// seededAgent is an agent, and how well it works.
type seededAgent struct {
	id     string
	owner  identity.Caller
	kind   seedKind
	skill  string
	good   float64 // how often it completes what it takes on
	pace   time.Duration
	liking float64 // the mean of its ratings
	price  credits.Amount
	away   bool // it does not answer
}

func (s *seeding) clock() time.Time { return s.now }

// newID makes ids that sort by the history's own time.
func (s *seeding) newID() string {
	id := uuid.Must(uuid.NewV7())
	ms := uint64(s.now.UnixMilli())
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	s.count++
	id[6], id[7] = 0x70|byte(s.count>>8)&0x0f, byte(s.count) // in order within a millisecond
	return id.String()
}

// happening is one thing that happens at its time.
type happening struct {
	at time.Time
	n  int
	do func(ctx context.Context) error
}

type happenings []happening

func (h happenings) Len() int { return len(h) }
func (h happenings) Less(i, j int) bool {
	return cmp.Or(h[i].at.Compare(h[j].at), cmp.Compare(h[i].n, h[j].n)) < 0
}
func (h happenings) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *happenings) Push(x any)   { *h = append(*h, x.(happening)) }
func (h *happenings) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

// at lets something happen, if that is before the end.
func (s *seeding) at(t time.Time, do func(ctx context.Context) error) {
	if t.Before(s.end) {
		s.count++
		heap.Push(&s.queue, happening{t, s.count, do})
	}
}

func (s *seeding) some(low, high time.Duration) time.Duration {
	return low + time.Duration(s.rand.Int64N(int64(high-low)))
}

func pickOf[T any](s *seeding, list []T) T { return list[s.rand.IntN(len(list))] }

// run plans the history and lets it happen in the order of time.
func (s *seeding) run(ctx context.Context, password string) error {
	if err := s.account(ctx, seedEmail, password); err != nil {
		return err
	}
	s.ada = s.people[0]
	for _, name := range seedPeople {
		if err := s.account(ctx, name+"@nexus.example", password); err != nil {
			return err
		}
	}
	span := s.end.Sub(s.now)
	start := s.now
	for i := range s.cmd.Agents {
		after := time.Duration(float64(span) * 0.75 * math.Pow(float64(i)/float64(max(s.cmd.Agents, 1)), 1.6))
		s.at(start.Add(after+time.Minute), func(ctx context.Context) error { return s.register(ctx, i) })
	}
	for day := 3; day < s.cmd.Days; day += 17 {
		for _, c := range s.people[:min(4, len(s.people))] {
			s.at(start.AddDate(0, 0, day).Add(s.some(0, 20*time.Hour)), func(ctx context.Context) error { return s.buy(ctx, c) })
		}
	}
	inFlows := 0
	for i := range s.cmd.Workflows {
		first := start.Add(time.Duration(float64(span) * (0.25 + 0.7*float64(i)/float64(s.cmd.Workflows))))
		owner := s.ada
		if i%3 == 2 {
			owner = s.people[1+i%(len(s.people)-1)]
		}
		runs := 1 + s.rand.IntN(3)
		inFlows += runs * 4
		s.at(first, func(ctx context.Context) error { return s.workflow(ctx, owner, i, runs) })
	}
	for i := range max((s.cmd.Tasks-inFlows)*7/5, 0) { // some come to nothing, for want of credits or of an agent
		// More and more as time goes on, and more by day than by night.
		t := start.Add(time.Duration(float64(span) * (0.02 + 0.98*math.Pow(s.rand.Float64(), 0.7))))
		t = t.Truncate(24 * time.Hour).Add(7*time.Hour + s.some(0, 13*time.Hour))
		who := s.ada
		if i%4 > 0 {
			who = pickOf(s, s.people)
		}
		s.at(t, func(ctx context.Context) error { return s.task(ctx, who, false) })
	}
	for _, before := range []time.Duration{75 * time.Hour, 26 * time.Hour} { // what went wrong lately, for the first page to tell
		s.at(s.end.Add(-before), func(ctx context.Context) error { return s.task(ctx, s.ada, true) })
	}
	for i, kind := range []int{0, 1, 2, 3} { // what goes on now
		s.at(s.end.Add(-time.Duration(i+1)*20*time.Second), func(ctx context.Context) error { return s.open(ctx, kind) })
	}
	for i, before := range []time.Duration{25 * time.Second, 4 * time.Second} { // the second has no time to end
		s.at(s.end.Add(-before), func(ctx context.Context) error {
			if len(s.live) <= i {
				return nil
			}
			return s.execute(ctx, s.ada, s.live[i], endsWell)
		})
	}
	for s.queue.Len() > 0 {
		next := heap.Pop(&s.queue).(happening)
		if next.at.After(s.now) {
			s.now = next.at
		}
		if err := next.do(ctx); err != nil {
			return err
		}
	}
	s.now = s.end
	return nil
}

func (s *seeding) account(ctx context.Context, email, password string) error {
	role := identity.RoleUser
	if email == seedEmail {
		role = identity.RoleAdmin
	}
	u, err := s.engine.Identity.CreateUser(ctx, app.Credentials{Email: email, Password: password}, role)
	if err != nil {
		return err
	}
	s.people = append(s.people, identity.SessionCaller(u, ""))
	name, _, _ := strings.Cut(email, "@")
	u.Name = strings.ToUpper(name[:1]) + name[1:]
	if len(s.people)%5 != 0 {
		u.VerifiedAt = &u.CreatedAt
	}
	return s.store.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Users.Save(ctx, u) })
}

// buy is a purchase as the demo's checkout would have it, paid at once.
func (s *seeding) buy(ctx context.Context, c identity.Caller) error {
	packs := billing.Packages()
	pack := packs[max(s.rand.IntN(3)-1, 0)] // mostly the small one
	p := billing.Start(s.newID(), c.UserID, pack, "demo", s.now)
	p = p.Opened(billing.Checkout{SessionID: "demo_" + p.ID}, s.now)
	p, _ = p.Settle(billing.Event{
		ID: "demo_paid_" + p.ID, Provider: "demo", Kind: billing.EventPaid, SessionID: p.SessionID, PaymentID: "demo_payment_" + p.ID,
		PurchaseID: p.ID, UserID: c.UserID, PackageID: pack.ID, Amount: pack.Price, At: s.now,
	}, s.now)
	t, err := ledger.Issue{ID: p.SessionID, UserID: c.UserID, Amount: pack.Credits, Description: fmt.Sprintf("%s credits (%s)", pack.Credits, pack.ID)}.Credit(s.now)
	if err != nil {
		return err
	}
	t = t.Stamp(s.newID)
	return s.store.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
		if err := tx.Purchases.Insert(ctx, p); err != nil {
			return err
		}
		return tx.Ledger.Post(ctx, t)
	})
}

// register adds the next agent. Some are Ada's, and some do not answer.
func (s *seeding) register(ctx context.Context, i int) error {
	kind := seedKinds[i%len(seedKinds)]
	owner := s.people[1+i%(len(s.people)-1)]
	if i%5 == 1 {
		owner = s.ada
	}
	name := kind.names[(i/len(seedKinds))%len(kind.names)]
	endpoint, away := s.cmd.Endpoint, i%9 == 7
	if away {
		endpoint = "https://" + strings.ToLower(strings.ReplaceAll(name, " ", "-")) + ".agents.example"
	}
	price := kind.price + credits.Amount(s.rand.IntN(9))*25
	if i%11 == 4 {
		price = 0
	}
	skill := registry.Skill{ID: kind.skill, Name: kind.title, Description: kind.does, Tags: kind.tags, InputSchema: json.RawMessage(kind.schema)}
	description := kind.does + " " + kind.more
	tags := kind.tags
	a, err := s.engine.Agents.Register(ctx, owner, registry.Profile{
		Name: &name, Description: &description, Endpoint: &endpoint, Price: &price, Tags: &tags, Category: &kind.category, Skills: &[]registry.Skill{skill},
	})
	if err != nil {
		return fmt.Errorf("register %s: %w", name, err)
	}
	if i%4 == 1 {
		days := 90
		if _, err := s.engine.Identity.CreateKey(ctx, owner, a.ID, identity.NewKey{Name: "Production", Scopes: []string{"agents:write", "tasks:read", "tasks:write"}, ExpiresInDays: &days}); err != nil {
			return err
		}
	}
	good := []float64{0.99, 0.97, 0.93, 0.86, 0.98, 0.72}[i%6]
	s.agents = append(s.agents, seededAgent{
		id: a.ID, owner: owner, kind: kind, skill: kind.skill, good: good, pace: s.some(3*time.Second, 70*time.Second), liking: 3.2 + 1.8*good*math.Sqrt(s.rand.Float64()), price: price, away: away,
	})
	return nil
}

// agent is one that answers; the better ones are chosen more often.
func (s *seeding) agent() (seededAgent, bool) {
	if len(s.agents) == 0 {
		return seededAgent{}, false
	}
	best := pickOf(s, s.agents)
	for range 4 {
		if other := pickOf(s, s.agents); other.good > best.good {
			best = other
		}
	}
	return best, true
}

// passing says of what a history has to live with that it is none: no credits, or an agent that is away.
func passing(err error) error {
	f, ok := fault.As(err)
	if ok && (f.Kind == fault.Payment || f.Kind == fault.Unavailable || f.Kind == fault.Conflict) {
		return nil
	}
	return err
}

// task gives an agent something to do. What is to fail does; else it is the agent's luck.
func (s *seeding) task(ctx context.Context, who identity.Caller, fails bool) error {
	a, ok := s.agent()
	if !ok || a.price > 0 && a.owner.UserID == who.UserID && s.rand.IntN(4) > 0 {
		return nil
	}
	j := pickOf(s, a.kind.jobs)
	t, err := s.engine.Tasks.Create(ctx, who, app.CreateTask{AgentID: a.id, SkillID: a.skill, Title: j.title, Description: j.text, Input: json.RawMessage(j.input)})
	if err != nil {
		return passing(err)
	}
	s.made++
	s.work(t.Task, a, j, who, !fails && s.rand.Float64() < a.good)
	return nil
}

// work lets an agent do a task: it begins, says something, and ends it well if it is lucky; then perhaps it is rated.
func (s *seeding) work(t task.Task, a seededAgent, j seedJob, who identity.Caller, lucky bool) {
	begins := s.now.Add(s.some(200*time.Millisecond, 3*time.Second))
	ends := begins.Add(time.Duration(float64(a.pace) * (0.5 + s.rand.Float64())))
	cancelled := s.rand.IntN(40) == 0 && t.WorkflowRunID == ""
	s.at(begins, func(ctx context.Context) error {
		return s.say(ctx, a, t.ID, app.ReplyTask{Role: task.RoleAgent, Parts: []task.Part{task.TextPart(pickOf(s, seedBeginnings))}})
	})
	s.at(ends, func(ctx context.Context) error {
		switch {
		case cancelled:
			_, err := s.engine.Tasks.Cancel(ctx, who, t.ID)
			return passing(err)
		case !lucky:
			return s.say(ctx, a, t.ID, app.ReplyTask{Role: task.RoleAgent, Status: task.Failed, Parts: []task.Part{task.TextPart(pickOf(s, seedFailures))}})
		}
		return s.say(ctx, a, t.ID, app.ReplyTask{
			Role: task.RoleAgent, Status: task.Completed, Parts: []task.Part{task.TextPart(j.answer)}, Artifacts: s.results(a.kind, j),
		})
	})
	if lucky && !cancelled && a.owner.UserID != who.UserID && s.rand.IntN(5) > 1 {
		stars := min(max(int(math.Round(a.liking+s.rand.NormFloat64()*0.7)), 1), 5)
		s.at(ends.Add(s.some(time.Minute, 3*time.Hour)), func(ctx context.Context) error {
			if now, err := s.engine.Tasks.Get(ctx, who, t.ID); err != nil || now.Status != task.Completed { // its run was cancelled
				return err
			}
			_, err := s.engine.Trust.Rate(ctx, who, a.id, app.RateAgent{TaskID: t.ID, Stars: stars, Comment: seedComments[stars-1][s.rand.IntN(len(seedComments[stars-1]))]})
			return passing(err)
		})
	}
}

func (s *seeding) say(ctx context.Context, a seededAgent, taskID string, in app.ReplyTask) error {
	_, err := s.engine.Tasks.Reply(ctx, a.owner, taskID, in)
	return passing(err)
}

// results are what a task made: mostly text, sometimes data, a picture or a file.
func (s *seeding) results(kind seedKind, j seedJob) []task.Artifact {
	out := []task.Artifact{{Name: kind.result, Parts: []task.Part{task.TextPart(j.answer)}}}
	file := func(name, mime string, content []byte) task.Part {
		b, _ := json.Marshal(map[string]string{"name": name, "mimeType": mime, "bytes": base64.StdEncoding.EncodeToString(content)}) // strings always marshal
		return task.Part{Type: task.PartFile, Data: b}
	}
	switch kind.category {
	case "images":
		out[0].Parts = append(out[0].Parts, file("picture.png", "image/png", s.picture()))
	case "data":
		rows := "month,orders,revenue\n2026-08,1204,48160.00\n2026-09,1377,55080.50\n2026-10,1511,60440.25\n"
		out = append(out, task.Artifact{Name: "Table", Parts: []task.Part{file("orders.csv", "text/csv", []byte(rows))}},
			task.Artifact{Name: "Summary", Parts: []task.Part{{Type: task.PartData, Data: json.RawMessage(`{"rows":3,"growth":0.097,"outliers":[]}`)}}})
	case "code":
		out = append(out, task.Artifact{Name: "Findings", Parts: []task.Part{{Type: task.PartData, Data: json.RawMessage(`{"findings":[{"file":"handler.go","line":48,"severity":"medium","message":"the error of Close is dropped"}],"checked":14}`)}}})
	}
	return out
}

// picture is one of a few small drawings.
func (s *seeding) picture() []byte {
	const w, h, kinds = 320, 200, 8
	kind := s.rand.IntN(kinds)
	if b, ok := s.drawn[kind]; ok {
		return b
	}
	hue := float64(kind) / kinds
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			d := math.Hypot(float64(x-220), float64(y-70)) / 90
			wave := math.Sin(float64(x)/38+hue*9)*14 + 140
			c := color.RGBA{uint8(40 + 120*hue + float64(y)/3), uint8(70 + float64(y)/2), uint8(190 - float64(y)/3), 255}
			switch {
			case d < 0.4:
				c = color.RGBA{255, 214, 140, 255}
			case float64(y) > wave:
				c = color.RGBA{uint8(30 + 40*hue), uint8(90 + float64(x)/8), 90, 255}
			}
			img.SetRGBA(x, y, c)
		}
	}
	var b bytes.Buffer
	_ = png.Encode(&b, img) // a buffer takes everything
	s.drawn[kind] = b.Bytes()
	return b.Bytes()
}

// workflow defines one and runs it some times over the days that are left.
func (s *seeding) workflow(ctx context.Context, owner identity.Caller, i, runs int) error {
	f := seedFlows[i%len(seedFlows)]
	steps := make([]scheduler.Step, 0, len(f.steps))
	for _, st := range f.steps {
		a, ok := s.agent()
		if !ok {
			return nil
		}
		for range 60 { // rather one that is there and knows how
			if a.kind.category == st.category && !a.away {
				break
			}
			a = pickOf(s, s.agents)
		}
		steps = append(steps, scheduler.Step{Name: st.name, AgentID: a.id, DependsOn: st.after, Input: json.RawMessage(`{"language":"en"}`)})
	}
	name := f.name
	if round := i / len(seedFlows); round > 0 {
		name = fmt.Sprintf("%s, %s", f.name, []string{"weekly", "for partners", "in German"}[(round-1)%3])
	}
	w, err := s.engine.Workflows.Create(ctx, owner, name, f.description, steps)
	if err != nil {
		return err
	}
	s.flows = append(s.flows, w.ID)
	if len(s.live) < 2 && owner.UserID == s.ada.UserID {
		s.live = append(s.live, w.ID)
	}
	for r := range runs {
		end := endsWell
		switch last := r == runs-1; { // about one run in ten fails
		case last && i%5 == 4:
			end = fails
		case last && i == 7:
			end = isCancelled
		}
		left := s.end.Sub(s.now)
		s.at(s.now.Add(time.Minute+time.Duration(float64(left)*float64(r)/float64(runs))), func(ctx context.Context) error {
			return s.execute(ctx, owner, w.ID, end)
		})
	}
	return nil
}

// runEnd is how a run is to end.
type runEnd uint8

const (
	endsWell runEnd = iota
	fails
	isCancelled
)

// execute begins a run.
func (s *seeding) execute(ctx context.Context, owner identity.Caller, workflowID string, end runEnd) error {
	run, err := s.engine.Workflows.Execute(ctx, owner, workflowID)
	if err != nil {
		return passing(err)
	}
	failing := -1
	switch end {
	case endsWell:
	case fails:
		failing = s.rand.IntN(len(run.Steps))
	case isCancelled:
		s.at(s.now.Add(s.some(4*time.Second, 9*time.Second)), func(ctx context.Context) error {
			_, err := s.engine.Workflows.CancelRun(ctx, owner, workflowID, run.ID)
			return passing(err)
		})
	}
	return s.follow(ctx, owner, run, failing, map[string]bool{})
}

// follow lets the agents of a run do the steps that have begun, all but the failing one well, and looks again soon.
func (s *seeding) follow(ctx context.Context, owner identity.Caller, r scheduler.Run, failing int, known map[string]bool) error {
	r, err := s.engine.Workflows.Run(ctx, owner, r.WorkflowID, r.ID)
	if err != nil || r.Status.Ended() {
		return err
	}
	for i, step := range r.Steps {
		if step.TaskID == "" || known[step.TaskID] {
			continue
		}
		known[step.TaskID] = true
		t, err := s.engine.Tasks.Get(ctx, owner, step.TaskID)
		if err != nil {
			return err
		}
		s.made++
		for _, a := range s.agents {
			if a.id == r.Plan.Steps()[i].AgentID {
				s.work(t.Task, a, pickOf(s, a.kind.jobs), owner, i != failing)
			}
		}
	}
	if s.now.Before(r.CreatedAt.Add(time.Hour)) { // what is left open then stays so
		s.at(s.now.Add(2*time.Second), func(ctx context.Context) error { return s.follow(ctx, owner, r, failing, known) })
	}
	return nil
}

// open leaves something that is still going on.
func (s *seeding) open(ctx context.Context, _ int) error {
	a, ok := s.agent()
	if !ok {
		return nil
	}
	j := pickOf(s, a.kind.jobs)
	t, err := s.engine.Tasks.Create(ctx, s.ada, app.CreateTask{AgentID: a.id, SkillID: a.skill, Title: j.title, Description: j.text, Input: json.RawMessage(j.input), Timeout: task.MaxTimeout})
	if err != nil {
		return passing(err)
	}
	s.made++
	s.at(s.now.Add(2*time.Second), func(ctx context.Context) error {
		return s.say(ctx, a, t.ID, app.ReplyTask{Role: task.RoleAgent, Parts: []task.Part{task.TextPart(pickOf(s, seedBeginnings))}})
	})
	return nil
}
