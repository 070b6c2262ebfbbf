package scheduler_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/scheduler"
)

var update = flag.Bool("update", false, "rewrite the scenarios in testdata with what the machine answers now")

// TestScenarios runs the texts in testdata, which are meant to be read: commands, and below ---- what follows from them.
//
// A block is a command line, further lines of it, ---- and the answer up to an empty line. Lines that begin with # are
// comments. The commands:
//
//	workflow                     defines the workflow and creates a run of it; a line a step: name after=0,1 retries=2 backoff=1s input={…}
//	start | tick | cancel        at=1s moves the clock to so long after the run's creation; without it the clock stands
//	started|completed|failed|timedout|cancelled step=0 attempt=1 task=t output={…} bytes=300000 code=X message=Y final at=1s
//	state                        prints the whole run
//
// go test ./domain/scheduler -run TestScenarios -update rewrites them.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			got := (&scenario{t: t}).play(string(text))
			if *update {
				require.NoError(t, os.WriteFile(file, []byte(got), 0o600))
				return
			}
			require.Equal(t, string(text), got)
		})
	}
}

type scenario struct {
	t   *testing.T
	run scheduler.Run
	log []scheduler.Event
	now time.Time
}

// play answers every block of the text anew.
func (s *scenario) play(text string) string {
	var out strings.Builder
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		if lines[i] == "" || strings.HasPrefix(lines[i], "#") {
			out.WriteString(lines[i] + "\n")
			continue
		}
		var block []string
		for ; i < len(lines) && lines[i] != "----" && lines[i] != ""; i++ {
			block = append(block, lines[i])
		}
		for ; i < len(lines) && lines[i] != ""; i++ { // the old answer
			continue
		}
		out.WriteString(strings.Join(block, "\n") + "\n----\n" + s.answer(block))
		if i < len(lines) {
			out.WriteString("\n")
		}
	}
	return out.String()
}

func (s *scenario) answer(block []string) string {
	words := strings.Fields(block[0])
	args := arguments(words[1:])
	if s.now.IsZero() {
		s.now = start
	}
	if at := args["at"]; at != "" {
		d, err := time.ParseDuration(at)
		require.NoError(s.t, err)
		s.now = start.Add(d)
	}
	switch words[0] {
	case "workflow":
		return s.create(block[1:])
	case "state":
		return s.state()
	}
	command := s.command(words[0], args)
	next, d, err := scheduler.Apply(s.run, command)
	if err != nil {
		f, ok := fault.As(err)
		require.True(s.t, ok)
		return fmt.Sprintf("refused %s: %s\n", f.Code, f.Message)
	}
	s.log = append(s.log, d.Events...)
	again, err := scheduler.Replay(s.log)
	require.NoError(s.t, err)
	require.Equal(s.t, again, next)
	s.run = next
	return s.decision(d)
}

func (s *scenario) create(lines []string) string {
	w := scheduler.Workflow{ID: "w", Name: "scenario"}
	for _, line := range lines {
		words := strings.Fields(line)
		args := arguments(words[1:])
		step := scheduler.Step{Name: words[0], AgentID: "agent", Input: json.RawMessage(args["input"])}
		for d := range strings.SplitSeq(args["after"], ",") {
			if d != "" {
				step.DependsOn = append(step.DependsOn, s.number(d))
			}
		}
		if v := args["retries"]; v != "" {
			step.Retry.MaxRetries = s.number(v)
		}
		if v := args["backoff"]; v != "" {
			d, err := time.ParseDuration(v)
			require.NoError(s.t, err)
			step.Retry.Backoff = d
		}
		w.Steps = append(w.Steps, step)
	}
	w, err := scheduler.Define(w, everyAgent)
	if err != nil {
		f, _ := fault.As(err)
		var b strings.Builder
		for _, field := range f.Details["fields"].([]fault.Field) {
			fmt.Fprintf(&b, "refused %s: %s\n", field.Path, field.Message)
		}
		return b.String()
	}
	s.run, s.log, err = scheduler.NewRun("r", w, "", s.now)
	require.NoError(s.t, err)
	return s.decision(scheduler.Decision{Events: s.log})
}

func (s *scenario) command(name string, args map[string]string) scheduler.Command {
	step, attempt := -1, 1
	if v := args["step"]; v != "" {
		step = s.number(v)
	}
	if v := args["attempt"]; v != "" {
		attempt = s.number(v)
	}
	switch name {
	case "start":
		return scheduler.Start{At: s.now}
	case "tick":
		return scheduler.Tick{At: s.now}
	case "cancel":
		return scheduler.Cancel{At: s.now}
	case "started":
		return scheduler.StepStarted{Step: step, Attempt: attempt, TaskID: args["task"], At: s.now}
	case "completed":
		output := json.RawMessage(args["output"])
		if v := args["bytes"]; v != "" {
			output = json.RawMessage(`"` + strings.Repeat("x", s.number(v)-2) + `"`)
		}
		return scheduler.StepCompleted{Step: step, Attempt: attempt, Output: output, At: s.now}
	case "failed":
		_, final := args["final"]
		return scheduler.StepFailed{Step: step, Attempt: attempt, Error: scheduler.Error{Code: args["code"], Message: args["message"]}, Retryable: !final, At: s.now}
	case "timedout":
		return scheduler.StepTimedOut{Step: step, Attempt: attempt, At: s.now}
	case "cancelled":
		return scheduler.StepCancelled{Step: step, Attempt: attempt, At: s.now}
	}
	s.t.Fatalf("unknown command %q", name)
	return nil
}

func (s *scenario) decision(d scheduler.Decision) string {
	var b strings.Builder
	for _, e := range d.Events {
		fmt.Fprintf(&b, "event %d +%s %s", e.Seq, e.At.Sub(start), e.Kind)
		if e.Step >= 0 {
			fmt.Fprintf(&b, " step=%d attempt=%d", e.Step, e.Attempt)
		}
		fmt.Fprintf(&b, " status=%s", e.Status)
		if e.TaskID != "" {
			fmt.Fprintf(&b, " task=%s", e.TaskID)
		}
		if len(e.Output) > 0 {
			fmt.Fprintf(&b, " output=%s", short(e.Output))
		}
		if e.RetryAt != nil {
			fmt.Fprintf(&b, " retry=+%s", e.RetryAt.Sub(start))
		}
		b.WriteString(reason(e.Error) + "\n")
	}
	for _, a := range d.Starts {
		fmt.Fprintf(&b, "start %s input=%s\n", a.Key, short(a.Input))
	}
	for _, a := range d.Timers {
		fmt.Fprintf(&b, "timer %s +%s\n", a.Key, a.At.Sub(start))
	}
	for _, a := range d.Cancels {
		fmt.Fprintf(&b, "cancel %s task=%s\n", a.Key, a.TaskID)
	}
	if d.Ended {
		b.WriteString("ended\n")
	}
	if b.Len() == 0 {
		return "nothing\n"
	}
	return b.String()
}

func (s *scenario) state() string {
	var b strings.Builder
	r := s.run
	fmt.Fprintf(&b, "run %s open=%d waiting=%d seq=%d%s%s%s\n", r.Status, r.Open, r.Waiting, r.LastSeq, when("started", r.StartedAt), when("completed", r.CompletedAt), reason(r.Error))
	for _, step := range r.Steps {
		fmt.Fprintf(&b, "%d %s %s attempts=%d remaining=%d", step.Index, step.Name, step.Status, step.Attempts, step.Remaining)
		if step.TaskID != "" {
			fmt.Fprintf(&b, " task=%s", step.TaskID)
		}
		if len(step.Output) > 0 {
			fmt.Fprintf(&b, " output=%s", short(step.Output))
		}
		b.WriteString(when("started", step.StartedAt) + when("completed", step.CompletedAt) + when("retry", step.RetryAt) + reason(step.Error) + "\n")
	}
	return b.String()
}

func (s *scenario) number(v string) int {
	n, err := strconv.Atoi(v)
	require.NoError(s.t, err)
	return n
}

func arguments(words []string) map[string]string {
	args := map[string]string{}
	for _, w := range words {
		k, v, _ := strings.Cut(w, "=")
		args[k] = v
	}
	return args
}

func when(what string, at *time.Time) string {
	if at == nil {
		return ""
	}
	return fmt.Sprintf(" %s=+%s", what, at.Sub(start))
}

func reason(e *scheduler.Error) string {
	if e == nil {
		return ""
	}
	return fmt.Sprintf(" error=%s: %s", e.Code, e.Message)
}

func short(b []byte) string {
	if len(b) > 200 {
		return fmt.Sprintf("(%d bytes)", len(b))
	}
	return string(b)
}
