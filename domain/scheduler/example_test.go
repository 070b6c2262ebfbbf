package scheduler_test

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/nexus-protocol/nexus/domain/scheduler"
)

// A host keeps the run, tells it what happened, and does what it says.
func Example() {
	now := time.Date(2026, 3, 6, 12, 0, 0, 0, time.UTC)
	agents := map[string]bool{"scraper": true, "writer": true}
	workflow, err := scheduler.Define(scheduler.Workflow{
		ID: "w1", Name: "Research Pipeline",
		Steps: []scheduler.Step{
			{Name: "Fetch Data", AgentID: "scraper", Input: json.RawMessage(`{"url":"https://example.com"}`)},
			{Name: "Summarize", AgentID: "writer", DependsOn: []int{0}},
		},
	}, func(id string) bool { return agents[id] })
	if err != nil {
		fmt.Println(err)
		return
	}
	run, _, err := scheduler.NewRun("r1", workflow, "", now)
	if err != nil {
		fmt.Println(err)
		return
	}

	happened := []scheduler.Command{scheduler.Start{At: now}}
	for len(happened) > 0 {
		var d scheduler.Decision
		if run, d, err = scheduler.Apply(run, happened[0]); err != nil {
			fmt.Println(err)
			return
		}
		happened = happened[1:]
		for _, s := range d.Starts { // the agents are called here, and answer at once
			fmt.Println("start", s.Key, string(s.Input))
			now = now.Add(time.Second)
			happened = append(happened,
				scheduler.StepStarted{Step: s.Step, Attempt: s.Attempt, TaskID: fmt.Sprint("task-", s.Step), At: now},
				scheduler.StepCompleted{Step: s.Step, Attempt: s.Attempt, Output: json.RawMessage(`"done"`), At: now},
			)
		}
		if d.Ended {
			fmt.Println("run", run.Status)
		}
	}
	// Output:
	// start r1/0/1 {"url":"https://example.com"}
	// start r1/1/1 {"step_0_output":"done"}
	// run completed
}

// The log alone is enough to have the run again.
func ExampleReplay() {
	at := time.Date(2026, 3, 6, 12, 0, 0, 0, time.UTC)
	workflow := scheduler.Workflow{ID: "w1", Steps: []scheduler.Step{{Name: "only"}}}
	run, log, _ := scheduler.NewRun("r1", workflow, "", at)
	for _, c := range []scheduler.Command{
		scheduler.Start{At: at},
		scheduler.StepCompleted{Step: 0, Attempt: 1, Output: json.RawMessage(`42`), At: at},
	} {
		var d scheduler.Decision
		run, d, _ = scheduler.Apply(run, c)
		log = append(log, d.Events...)
	}
	again, err := scheduler.Replay(log)
	fmt.Println(again.Status, string(again.Steps[0].Output), again.LastSeq == run.LastSeq, err)
	// Output: completed 42 true <nil>
}
