package scheduler_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/scheduler"
)

// TestAnyRun lets random workflows run in a random world: any order of answers, duplicates, late ones, strays, lost and
// early timers, cancels. 2 000 runs unless -rapid.checks says otherwise:
//
//	go test ./domain/scheduler -run TestAnyRun -rapid.checks 100000
func TestAnyRun(t *testing.T) {
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := flag.Set("rapid.checks", "2000"); err != nil {
			t.Fatal(err)
		}
		defer flag.Set("rapid.checks", f.DefValue)
	}
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.play()
		w.checkEnd()
	})
}

// world is all that surrounds a run, and a second opinion on what must become of it.
type world struct {
	t      *rapid.T
	rng    *rand.Rand // rapid's own numbers lean to the small ones: most runs would be cancelled at once
	steps  []scheduler.Step
	run    scheduler.Run
	stored *scheduler.Plan // the same plan, made of the steps in the log
	log    []scheduler.Event
	now    time.Time

	inbox   []scheduler.Command // on its way to the run, in no order
	past    []scheduler.Command // delivered before, and perhaps again
	timers  []scheduler.SetTimer
	keys    map[string]bool // of all attempts that were begun
	outputs map[int]string  // of the attempts that will complete, by step
	outcome map[int]scheduler.Status
	due     map[string]time.Time // of attempts that are not to begin before it
	trouble int                  // percent of the attempts that do not complete
	wish    bool                 // somebody cancelled the run
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, now: start, keys: map[string]bool{}, outputs: map[int]string{}, outcome: map[int]scheduler.Status{}, due: map[string]time.Time{}}
	w.rng = rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	w.trouble = rapid.SampledFrom([]int{0, 5, 20, 50, 80}).Draw(t, "trouble")
	n := rapid.IntRange(1, scheduler.MaxSteps).Draw(t, "steps")
	density := rapid.IntRange(0, 6).Draw(t, "density")
	def := scheduler.Workflow{ID: "w", Name: "w"}
	for i := range n {
		s := scheduler.Step{Name: fmt.Sprint("s", i), AgentID: "a"}
		for d := range i {
			if w.rng.IntN(12) < density {
				s.DependsOn = append(s.DependsOn, d)
			}
		}
		s.Retry.MaxRetries = w.rng.IntN(4)
		if i%3 == 0 {
			s.Input = json.RawMessage(`{"own":true}`)
		}
		def.Steps = append(def.Steps, s)
	}
	def, err := scheduler.Define(def, everyAgent)
	if err != nil {
		t.Fatal(err)
	}
	w.steps = def.Steps
	w.run, w.log, err = scheduler.NewRun("r", def, "", w.now)
	if err != nil {
		t.Fatal(err)
	}
	if w.stored, err = scheduler.Compile(w.log[0].Created.Steps); err != nil {
		t.Fatal(err)
	}
	w.inbox = append(w.inbox, scheduler.Start{At: w.now})
	return w
}

// play goes on until the run has ended and everything that was on its way has arrived.
func (w *world) play() {
	noise := rapid.SampledFrom([]int{0, 10, 40}).Draw(w.t, "noise")
	cancelAt := -1
	if rapid.IntRange(0, 2).Draw(w.t, "cancel") == 2 {
		cancelAt = w.rng.IntN(4 * len(w.steps))
	}
	for i := 0; ; i++ {
		if i > 5000 {
			w.t.Fatalf("the run does not end: %+v", w.run)
		}
		dice := w.rng.IntN(100)
		switch {
		case i == cancelAt:
			w.wish = true
			w.apply(scheduler.Cancel{At: w.now})
		case dice < noise && dice%2 == 0 && len(w.past) > 0:
			w.honest(w.past[w.rng.IntN(len(w.past))])
		case dice < noise:
			w.apply(w.stray())
		case len(w.inbox) > 0:
			k := w.rng.IntN(len(w.inbox))
			c := w.inbox[k]
			w.inbox[k] = w.inbox[len(w.inbox)-1]
			w.inbox = w.inbox[:len(w.inbox)-1]
			w.past = append(w.past, c)
			w.honest(c)
		case len(w.timers) > 0:
			k := w.rng.IntN(len(w.timers))
			timer := w.timers[k]
			w.timers[k] = w.timers[len(w.timers)-1]
			w.timers = w.timers[:len(w.timers)-1]
			if dice < 90 && timer.At.After(w.now) { // else it comes early
				w.now = timer.At
			}
			w.apply(scheduler.Tick{At: w.now})
		default:
			if !w.run.Status.Ended() {
				w.t.Fatalf("nothing is on its way and the run is %s: %+v", w.run.Status, w.run)
			}
			return
		}
	}
}

// stray is an answer that nobody may have given: of any step and attempt.
func (w *world) stray() scheduler.Command {
	step := w.rng.IntN(len(w.steps)+2) - 1
	attempt := 0
	if step >= 0 && step < len(w.steps) {
		// Only attempts that are not the newest: what the newest is told is the truth of the model.
		s := w.run.Steps[step]
		attempt = s.Attempts + []int{-2, -1, 1, 2}[w.rng.IntN(4)]
	}
	strays := []scheduler.Command{
		scheduler.StepStarted{Step: step, Attempt: attempt, TaskID: "stray", At: w.now},
		scheduler.StepCompleted{Step: step, Attempt: attempt, Output: json.RawMessage(`"stray"`), At: w.now},
		scheduler.StepFailed{Step: step, Attempt: attempt, Error: scheduler.Error{Code: "STRAY"}, At: w.now},
		scheduler.StepTimedOut{Step: step, Attempt: attempt, At: w.now},
		scheduler.StepCancelled{Step: step, Attempt: attempt, At: w.now},
		scheduler.Tick{At: w.now},
	}
	return strays[w.rng.IntN(len(strays))]
}

// honest applies what is true, if late or known. That is never refused.
func (w *world) honest(c scheduler.Command) {
	if err := w.apply(c); err != nil {
		w.t.Fatalf("%#v: %v", c, err)
	}
}

func (w *world) apply(c scheduler.Command) error {
	before, frozen := w.run, deepCopy(w.run)
	next, d, err := scheduler.Apply(w.run, c)
	if !reflect.DeepEqual(before, frozen) {
		w.t.Fatalf("%#v changed the run that it was given", c)
	}
	if err != nil {
		if f, ok := fault.As(err); !ok || f.Kind == fault.Internal {
			w.t.Fatalf("%#v: %v", c, err)
		}
		if !reflect.DeepEqual(next, before) || !reflect.DeepEqual(d, scheduler.Decision{}) {
			w.t.Fatalf("%#v was refused and did something", c)
		}
		return err
	}
	lean := deepCopy(before) // as a host would have it from its rows
	lean.Plan = w.stored
	for i, s := range lean.Steps {
		if !scheduler.Reads(before, c).Has(i) {
			s.Output = nil
		}
		if d.Changed.Has(i) && before.Steps[i].Status.Ended() {
			w.t.Fatalf("%#v changed step %d, which had ended", c, i)
		}
	}
	if _, same, err := scheduler.Apply(lean, c); err != nil || !reflect.DeepEqual(same, d) {
		w.t.Fatalf("%#v reads more outputs than it says: %+v, not %+v (%v)", c, same, d, err)
	}
	if before.Status.Ended() && (len(d.Events) > 0 || len(d.Starts) > 0 || len(d.Timers) > 0 || d.Ended) {
		w.t.Fatalf("%#v made something of a run that is %s: %+v", c, before.Status, d)
	}
	if len(d.Events) == 0 && !reflect.DeepEqual(next, before) {
		w.t.Fatalf("%#v changed the run without an event", c)
	}
	if d.Ended != (next.Status.Ended() && !before.Status.Ended()) {
		w.t.Fatalf("%#v: Ended is %v, but the run went from %s to %s", c, d.Ended, before.Status, next.Status)
	}
	for i := range next.Steps {
		if !d.Changed.Has(i) && !reflect.DeepEqual(next.Steps[i], before.Steps[i]) {
			w.t.Fatalf("%#v changed step %d without saying so", c, i)
		}
	}
	w.run, w.log = next, append(w.log, d.Events...)
	for _, s := range d.Starts {
		w.begin(s)
	}
	for _, timer := range d.Timers {
		s := w.steps[timer.Step]
		if due, again := w.due[timer.Key]; again && !due.Equal(timer.At) || !again && timer.At.Sub(w.failedAt(c)) != s.Retry.Backoff<<(timer.Attempt-2) {
			w.t.Fatalf("%#v set a wrong timer: %+v", c, timer)
		}
		w.due[timer.Key] = timer.At
		w.timers = append(w.timers, timer)
	}
	w.checkCancels(c, before, d)
	w.checkCounters()
	return nil
}

func (w *world) failedAt(c scheduler.Command) time.Time {
	switch c := c.(type) {
	case scheduler.StepFailed:
		return c.At
	case scheduler.StepTimedOut:
		return c.At
	}
	w.t.Fatalf("%#v set a timer", c)
	return time.Time{}
}

// checkCancels: no task of a cancelled run goes on, whether it existed by then or is told of later; no other is cancelled.
func (w *world) checkCancels(c scheduler.Command, before scheduler.Run, d scheduler.Decision) {
	var want []scheduler.CancelTask
	switch c := c.(type) {
	case scheduler.Cancel:
		for i, s := range before.Steps {
			if s.Attempts > 0 && s.RetryAt == nil && !s.Status.Ended() {
				want = append(want, scheduler.CancelTask{Step: i, Attempt: s.Attempts, Key: scheduler.Key("r", i, s.Attempts), TaskID: s.TaskID})
			}
		}
	case scheduler.StepStarted:
		after := w.run.Steps[c.Step]
		if after.Status == scheduler.Running && after.Attempts == c.Attempt && after.TaskID != c.TaskID {
			w.t.Fatalf("%#v, but the step has the task %q", c, after.TaskID)
		}
		if s := before.Steps[c.Step]; s.Status == scheduler.Cancelled && s.Attempts == c.Attempt && s.TaskID == "" {
			want = []scheduler.CancelTask{{Step: c.Step, Attempt: c.Attempt, Key: scheduler.Key("r", c.Step, c.Attempt), TaskID: c.TaskID}}
		}
	}
	if !reflect.DeepEqual(d.Cancels, want) {
		w.t.Fatalf("%#v cancels %+v, not %+v", c, d.Cancels, want)
	}
}

// begin is what a world does with a step that is to be started: it creates a task and decides how that will end.
func (w *world) begin(s scheduler.StartStep) {
	if key := fmt.Sprintf("r/%d/%d", s.Step, s.Attempt); s.Key != key || w.keys[key] {
		w.t.Fatalf("step %d, attempt %d was begun twice, or has the wrong key %s", s.Step, s.Attempt, s.Key)
	}
	w.keys[s.Key] = true
	if w.now.Before(w.due[s.Key]) {
		w.t.Fatalf("attempt %d of step %d begins before it is due", s.Attempt, s.Step)
	}
	if s.Attempt > 1+w.steps[s.Step].Retry.MaxRetries {
		w.t.Fatalf("attempt %d of step %d is one too many", s.Attempt, s.Step)
	}
	want := map[string]any{}
	if s.Step%3 == 0 {
		want["own"] = true
	}
	for _, d := range w.steps[s.Step].DependsOn {
		if w.outcome[d] != scheduler.Completed || w.run.Steps[d].Status != scheduler.Completed {
			w.t.Fatalf("step %d began before step %d was done", s.Step, d)
		}
		want[fmt.Sprintf("step_%d_output", d)] = w.outputs[d]
	}
	got := map[string]any{}
	if err := json.Unmarshal(s.Input, &got); err != nil || !reflect.DeepEqual(got, want) {
		w.t.Fatalf("step %d got the input %s, not %v (%v)", s.Step, s.Input, want, err)
	}
	w.timers = append(w.timers, w.lostAndFound()...)

	last := s.Attempt > w.steps[s.Step].Retry.MaxRetries
	hasTask := true
	var answer scheduler.Command
	switch dice := w.rng.IntN(100); {
	case w.rng.IntN(100) >= w.trouble:
		w.outcome[s.Step], w.outputs[s.Step] = scheduler.Completed, s.Key
		answer = scheduler.StepCompleted{Step: s.Step, Attempt: s.Attempt, Output: json.RawMessage(`"` + s.Key + `"`), At: w.now}
	case dice < 40:
		if last {
			w.outcome[s.Step] = scheduler.Failed
		}
		answer = scheduler.StepFailed{Step: s.Step, Attempt: s.Attempt, Error: scheduler.Error{Code: "AGENT_ERROR"}, Retryable: true, At: w.now}
	case dice < 80:
		if last {
			w.outcome[s.Step] = scheduler.Failed
		}
		answer = scheduler.StepTimedOut{Step: s.Step, Attempt: s.Attempt, At: w.now}
	case dice < 88:
		w.outcome[s.Step], hasTask = scheduler.Failed, false
		answer = scheduler.StepFailed{Step: s.Step, Attempt: s.Attempt, Error: scheduler.Error{Code: "INSUFFICIENT_CREDITS"}, At: w.now}
	case dice < 94:
		w.outcome[s.Step] = scheduler.Failed
		answer = scheduler.StepCompleted{Step: s.Step, Attempt: s.Attempt, Output: tooLarge, At: w.now}
	default:
		w.outcome[s.Step] = scheduler.Cancelled
		answer = scheduler.StepCancelled{Step: s.Step, Attempt: s.Attempt, At: w.now}
	}
	w.inbox = append(w.inbox, answer)
	if hasTask {
		w.inbox = append(w.inbox, scheduler.StepStarted{Step: s.Step, Attempt: s.Attempt, TaskID: "task of " + s.Key, At: w.now})
	}
}

// lostAndFound are timers that nobody set.
func (w *world) lostAndFound() []scheduler.SetTimer {
	if w.rng.IntN(20) > 0 {
		return nil
	}
	return []scheduler.SetTimer{{At: w.now.Add(time.Second)}}
}

var tooLarge = json.RawMessage(`"` + strings.Repeat("x", scheduler.MaxOutput) + `"`)

// checkCounters compares what the run keeps count of with what a scan finds.
func (w *world) checkCounters() {
	open, waiting := 0, 0
	for i, s := range w.run.Steps {
		if !s.Status.Ended() {
			open++
		}
		if s.RetryAt != nil {
			waiting++
		}
		remaining := 0
		for _, d := range w.steps[i].DependsOn {
			if w.run.Steps[d].Status != scheduler.Completed {
				remaining++
			}
		}
		if s.Remaining != remaining && s.Status != scheduler.Skipped && s.Status != scheduler.Cancelled || (s.CompletedAt != nil) != s.Status.Ended() || s.Index != i {
			w.t.Fatalf("step %d has %d dependencies to wait for, not %d: %+v", i, remaining, s.Remaining, s)
		}
	}
	if w.run.Open != open || w.run.Waiting != waiting || (open == 0) != w.run.Status.Ended() {
		w.t.Fatalf("%d steps are open and %d wait, and the run says %+v", open, waiting, w.run)
	}
}

func (w *world) checkEnd() {
	for i, e := range w.log {
		if e.Seq != int64(i+1) || (e.Kind == scheduler.EventComplete) != (i == len(w.log)-1) {
			w.t.Fatalf("event %d of %d is number %d, %s", i+1, len(w.log), e.Seq, e.Kind)
		}
	}
	again, err := scheduler.Replay(w.log)
	if err != nil || !reflect.DeepEqual(again, w.run) {
		w.t.Fatalf("replayed (%v):\n%+v\nbut it was\n%+v", err, again, w.run)
	}
	if w.run.Status == scheduler.Cancelled {
		if !w.wish {
			w.t.Fatal("nobody cancelled the run")
		}
		for i, s := range w.run.Steps {
			if s.Status != scheduler.Cancelled && s.Status != scheduler.Skipped && s.Status != w.outcome[i] {
				w.t.Fatalf("step %d of a cancelled run is %s", i, s.Status)
			}
		}
		return
	}
	want := scheduler.Completed
	for i, s := range w.run.Steps {
		expected := w.outcome[i]
		for _, d := range w.steps[i].DependsOn {
			if w.run.Steps[d].Status != scheduler.Completed {
				expected = scheduler.Skipped
			}
		}
		if s.Status != expected {
			w.t.Fatalf("step %d is %s, not %s", i, s.Status, expected)
		}
		if (s.Status == scheduler.Skipped) != (s.Attempts == 0) {
			w.t.Fatalf("step %d is %s after %d attempts", i, s.Status, s.Attempts)
		}
		if expected != scheduler.Completed {
			want = scheduler.Failed
		}
	}
	if w.run.Status != want || (w.run.Error != nil) != (want == scheduler.Failed) {
		w.t.Fatalf("the run is %s (%v), not %s", w.run.Status, w.run.Error, want)
	}
}

func deepCopy(r scheduler.Run) scheduler.Run {
	steps := make([]*scheduler.StepResult, len(r.Steps))
	for i, s := range r.Steps {
		c := *s
		steps[i] = &c
	}
	r.Steps = steps
	return r
}

// What an intact log tells is a run, and what a broken one tells is refused.
func TestReplayRefusesABrokenLog(t *testing.T) {
	def, err := scheduler.Define(fan(), everyAgent)
	if err != nil {
		t.Fatal(err)
	}
	_, log, err := scheduler.NewRun("r", def, "", start)
	if err != nil {
		t.Fatal(err)
	}
	started := scheduler.Event{RunID: "r", Seq: 2, Kind: scheduler.EventStarted, Status: scheduler.Running, Step: -1, At: start}
	ended := scheduler.Event{RunID: "r", Seq: 2, Kind: scheduler.EventComplete, Status: scheduler.Cancelled, Step: -1, At: start}
	with := func(e scheduler.Event, change func(*scheduler.Event)) scheduler.Event {
		change(&e)
		return e
	}
	if _, err := scheduler.Replay(append(log[:1:1], started)); err != nil {
		t.Fatal(err)
	}
	for name, events := range map[string][]scheduler.Event{
		"empty":            {},
		"no creation":      {started},
		"a gap":            {log[0], with(started, func(e *scheduler.Event) { e.Seq = 3 })},
		"a repeat":         {log[0], started, started},
		"another run":      {log[0], with(started, func(e *scheduler.Event) { e.RunID = "x" })},
		"a second birth":   {log[0], with(log[0], func(e *scheduler.Event) { e.Seq = 2 })},
		"no such kind":     {log[0], with(started, func(e *scheduler.Event) { e.Kind, e.Step = "x", 0 })},
		"no such step":     {log[0], with(started, func(e *scheduler.Event) { e.Kind, e.Step = scheduler.EventStepStarted, 10 })},
		"more than an end": {log[0], ended, with(started, func(e *scheduler.Event) { e.Seq = 3 })},
		"no plan":          {with(log[0], func(e *scheduler.Event) { e.Created = &scheduler.Created{} })},
	} {
		if _, err := scheduler.Replay(events); !fault.Has(err, fault.CodeInternal) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := scheduler.Apply(scheduler.Run{ID: "r"}, scheduler.Start{At: start}); !fault.Has(err, fault.CodeInternal) {
		t.Error(err)
	}
}

// Two processes read their clocks, and the one that read first comes second.
func TestTimesOfARunNeverGoBack(t *testing.T) {
	w := scheduler.Workflow{Steps: []scheduler.Step{{Name: "a"}, {Name: "b"}, {Name: "c", DependsOn: []int{0, 1}}}}
	r, _, err := scheduler.NewRun("r", w, "", start)
	require.NoError(t, err)
	for _, c := range []scheduler.Command{
		scheduler.Start{At: start.Add(1)},
		scheduler.StepStarted{Step: 0, Attempt: 1, TaskID: "a", At: start.Add(2)},
		scheduler.StepStarted{Step: 1, Attempt: 1, TaskID: "b", At: start.Add(2)},
		scheduler.StepCompleted{Step: 0, Attempt: 1, At: start.Add(9)},
		scheduler.StepCompleted{Step: 1, Attempt: 1, At: start.Add(5)},
		scheduler.StepStarted{Step: 2, Attempt: 1, TaskID: "c", At: start.Add(5)},
	} {
		r, _, err = scheduler.Apply(r, c)
		require.NoError(t, err)
	}
	require.Equal(t, start.Add(9), *r.Steps[2].StartedAt)
}
