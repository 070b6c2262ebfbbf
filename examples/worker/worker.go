// Package worker is an agent that does visible work over several seconds, and can be told to fail, to stall or to ask
// something back. It speaks A2A 0.3 over JSON-RPC with polling, streaming and cancelling, and needs nothing but the
// standard library.
//
// What it is to do comes in the message, as a data part or as a text that holds the same JSON:
//
//	{"steps": 5, "delayMs": 600, "mode": "ok", "text": "what to count the words of"}
//
// Everything may be left out. The modes are
//
//	ok     works through the steps and ends completed, with a report as artifact
//	fail   ends failed at the last step
//	stall  says nothing more until it is cancelled, for an hour at most
//	ask    asks a question, and goes on as in ok once a second message answers it
//
// The words of all other text in the message are counted too, a share of them in each step.
package worker

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Limits of the work.
const (
	maxSteps   = 50
	maxDelay   = 10 * time.Second
	maxStall   = time.Hour
	maxTasks   = 1_000 // kept in memory
	maxRemarks = 100   // messages to a task that is being worked on
	maxID      = 256   // bytes of an id that a caller gives
)

// Agent does the work. It outlives the requests that brought it: a caller that goes away may come back for its task.
type Agent struct {
	maxTasks int
	maxStall time.Duration

	busy sync.WaitGroup

	mu        sync.Mutex // guards all that follows, and every job
	jobs      []*job     // oldest first
	byTask    map[string]*job
	byMessage map[string]*job // a message sent again finds the task that it belongs to
	started   int
	steps     int
	closed    bool
}

// New makes an agent that has nothing to do yet.
func New() *Agent {
	return &Agent{maxTasks: maxTasks, maxStall: maxStall, byTask: map[string]*job{}, byMessage: map[string]*job{}}
}

// Started is how many tasks were begun. A message that is sent again begins none.
func (a *Agent) Started() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.started
}

// Steps is how many steps were worked through, in all tasks together.
func (a *Agent) Steps() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.steps
}

// Close ends all work under way as failed, so that whoever waits gets an answer, and refuses new work.
func (a *Agent) Close() {
	a.mu.Lock()
	a.closed = true
	for _, j := range a.jobs {
		j.move(failed, "the worker has been stopped")
	}
	a.mu.Unlock()
	a.busy.Wait()
}

// job is a task with what is needed to work on it. The agent's lock guards it.
type job struct {
	task
	order      order
	began      time.Time
	answer     string   // to the question of an order to ask
	remarks    int      // messages that came while it was worked on
	messageIDs []string // of the callers' messages that belong to it
	said       int      // messages of ours
	events     []any    // all that happened, as a stream tells it
	changed    chan struct{}
	ended      chan struct{}
}

// view is a job at one moment: the task as it was, and how many of its events had happened.
type view struct {
	job     *job
	task    task
	seen    int
	changed <-chan struct{}
}

func (j *job) view() view {
	return view{job: j, task: j.task, seen: len(j.events), changed: j.changed} // what the slices hold is never changed, only added to
}

// move brings a task that has not ended into a state, with a message if text is not empty.
func (j *job) move(to state, text string, artifacts ...artifact) {
	if j.Status.State.ended() {
		return
	}
	if j.Status.Message != nil {
		j.History = append(j.History, *j.Status.Message)
	}
	j.Status = status{State: to, Timestamp: time.Now().UTC()}
	if text != "" {
		j.said++
		j.Status.Message = &message{
			Kind: "message", Role: "agent", MessageID: fmt.Sprintf("%s-%d", j.ID, j.said),
			TaskID: j.ID, ContextID: j.ContextID, Parts: []part{textPart(text)},
		}
	}
	for _, made := range artifacts {
		j.Artifacts = append(j.Artifacts, made)
		j.events = append(j.events, artifactUpdate{Kind: "artifact-update", TaskID: j.ID, ContextID: j.ContextID, Artifact: made, LastChunk: true})
	}
	j.events = append(j.events, j.statusUpdate())
	close(j.changed)
	j.changed = make(chan struct{})
	if to.ended() {
		close(j.ended)
	}
}

// accept takes a message: it begins a task, or goes to the one that it belongs to.
func (a *Agent) accept(msg incoming) (view, *rpcError) {
	if msg.MessageID == "" || len(msg.Parts) == 0 {
		return view{}, refuse(codeParams, "params.message needs a messageId and at least one part")
	}
	if max(len(msg.MessageID), len(msg.ContextID)) > maxID {
		return view{}, refuse(codeParams, "messageId and contextId are at most %d bytes", maxID)
	}
	o, text, err := readOrder(msg.Parts)
	if err != nil {
		return view{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	j := a.byMessage[msg.MessageID]
	switch {
	case j != nil:
		return j.view(), nil
	case msg.TaskID != "":
		if j = a.byTask[msg.TaskID]; j == nil {
			return view{}, noTask(msg.TaskID)
		}
		if msg.ContextID != "" && msg.ContextID != j.ContextID {
			return view{}, refuse(codeParams, "the task belongs to another context")
		}
	default:
		j = a.asking(msg.ContextID)
	}
	if j != nil {
		err = a.tell(j, msg.MessageID, text)
	} else {
		j, err = a.begin(msg, o)
	}
	if err != nil {
		return view{}, err
	}
	return j.view(), nil
}

// asking finds the newest task of a context that waits for an answer.
func (a *Agent) asking(contextID string) *job {
	for _, j := range slices.Backward(a.jobs) {
		if j.ContextID == contextID && j.Status.State == inputRequired {
			return j
		}
	}
	return nil
}

// tell hands a further message to a task.
func (a *Agent) tell(j *job, messageID, text string) *rpcError {
	switch {
	case j.Status.State.ended():
		return refuse(codeParams, "the task has ended; send the message without taskId to begin another")
	case j.Status.State == inputRequired:
		j.answer = shorten(text)
		j.move(working, "")
		a.busy.Go(func() { a.work(j) })
	case j.remarks == maxRemarks:
		return refuse(codeParams, "the task has been told enough; wait for it to end")
	default:
		j.remarks++
		j.move(working, "noted: "+shorten(text))
	}
	j.messageIDs = append(j.messageIDs, messageID)
	a.byMessage[messageID] = j
	return nil
}

// begin makes a task of a message and starts to work on it.
func (a *Agent) begin(msg incoming, o order) (*job, *rpcError) {
	if a.closed {
		return nil, unavailable("the worker has been stopped")
	}
	if len(a.jobs) >= a.maxTasks && !a.forgetOne() {
		return nil, unavailable("the worker has too much to do; try again later")
	}
	id := "task-" + rand.Text()
	if msg.ContextID == "" {
		msg.ContextID = "context-" + rand.Text()
	}
	now := time.Now()
	j := &job{
		task:  task{Kind: "task", ID: id, ContextID: msg.ContextID, Status: status{State: working, Timestamp: now.UTC()}},
		order: o, began: now, messageIDs: []string{msg.MessageID},
		changed: make(chan struct{}), ended: make(chan struct{}),
	}
	a.jobs = append(a.jobs, j)
	a.byTask[id], a.byMessage[msg.MessageID] = j, j
	a.started++
	a.busy.Go(func() { a.work(j) })
	return j, nil
}

// forgetOne drops the oldest task that nobody works on, if there is one.
func (a *Agent) forgetOne() bool {
	i := slices.IndexFunc(a.jobs, func(j *job) bool { return j.Status.State != working })
	if i < 0 {
		return false
	}
	delete(a.byTask, a.jobs[i].ID)
	for _, id := range a.jobs[i].messageIDs {
		delete(a.byMessage, id)
	}
	a.jobs = slices.Delete(a.jobs, i, i+1)
	return true
}

// find returns a task as it stands.
func (a *Agent) find(id string) (view, *rpcError) {
	a.mu.Lock()
	defer a.mu.Unlock()
	j := a.byTask[id]
	if j == nil {
		return view{}, noTask(id)
	}
	return j.view(), nil
}

// cancel ends a task by its caller's wish.
func (a *Agent) cancel(id string) (view, *rpcError) {
	a.mu.Lock()
	defer a.mu.Unlock()
	j := a.byTask[id]
	switch {
	case j == nil:
		return view{}, noTask(id)
	case j.Status.State.ended():
		return view{}, refuse(codeNotCancelable, "the task has already ended: %s", j.Status.State)
	}
	j.move(canceled, "cancelled")
	return j.view(), nil
}

// move is job.move for those who do not hold the lock.
func (a *Agent) move(j *job, to state, text string, artifacts ...artifact) {
	a.mu.Lock()
	defer a.mu.Unlock()
	j.move(to, text, artifacts...)
}

// work does what was ordered, up to the end or to a question.
func (a *Agent) work(j *job) {
	a.mu.Lock()
	o, answer := j.order, j.answer // a question may have been answered meanwhile
	a.mu.Unlock()
	switch {
	case o.mode == "ask" && answer == "":
		a.move(j, inputRequired, "How shall I go on? Any answer will do.")
		return
	case o.mode == "stall":
		if sleep(a.maxStall, j.ended) {
			a.move(j, failed, "stalled for too long")
		}
		return
	}
	var report []string
	if answer != "" {
		report = append(report, "answer: "+answer)
	}
	for step := 1; step <= o.steps; step++ {
		if !sleep(o.delay, j.ended) {
			return
		}
		if o.mode == "fail" && step == o.steps {
			a.move(j, failed, fmt.Sprintf("step %d of %d failed, as it was told to", step, o.steps))
			return
		}
		line := o.line(step)
		report = append(report, line)
		a.mu.Lock()
		if !j.Status.State.ended() {
			a.steps++
			j.move(working, line)
		}
		a.mu.Unlock()
	}
	a.move(j, completed, "", artifact{ArtifactID: "report", Name: "Report", Parts: []part{
		textPart(strings.Join(report, "\n")),
		{Kind: "data", Data: map[string]any{"steps": o.steps, "words": o.words, "durationMs": time.Since(j.began).Milliseconds()}},
	}})
}

// sleep reports whether it could sleep to the end.
func sleep(d time.Duration, stop <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-stop:
		return false
	case <-t.C:
		return true
	}
}

// shorten cuts what a caller said to what is worth repeating.
func shorten(text string) string {
	const most = 100
	if text = strings.Join(strings.Fields(text), " "); text == "" {
		return "(no words)"
	}
	if r := []rune(text); len(r) > most {
		return string(r[:most]) + "…"
	}
	return text
}
