package scheduler_test

import (
	"encoding/json"
	"testing"

	"github.com/nexus-protocol/nexus/domain/scheduler"
)

// fan is the workflow that engines are compared on: 0→{1,2,3,4}→5→{6,7,8}→9.
func fan() scheduler.Workflow {
	deps := [][]int{nil, {0}, {0}, {0}, {0}, {1, 2, 3, 4}, {5}, {5}, {5}, {6, 7, 8}}
	w := scheduler.Workflow{ID: "w", Name: "fan"}
	for _, d := range deps {
		w.Steps = append(w.Steps, scheduler.Step{Name: "step", AgentID: "a", DependsOn: d, Input: json.RawMessage(`{"n":1}`)})
	}
	return w
}

// One run is 22 transitions: its creation, its start, and for each step that its task exists and that it has completed.
func BenchmarkRun(b *testing.B) {
	w, err := scheduler.Define(fan(), everyAgent)
	if err != nil {
		b.Fatal(err)
	}
	output := json.RawMessage(`{"ok":true}`)
	var queue []scheduler.StartStep
	transitions := 0
	b.ReportAllocs()
	for b.Loop() {
		r, _, err := scheduler.NewRun("run", w, "", start)
		if err != nil {
			b.Fatal(err)
		}
		r, d, err := scheduler.Apply(r, scheduler.Start{At: start})
		transitions += 2
		queue = append(queue[:0], d.Starts...)
		for i := 0; i < len(queue) && err == nil; i++ {
			s := queue[i]
			if r, _, err = scheduler.Apply(r, scheduler.StepStarted{Step: s.Step, Attempt: s.Attempt, TaskID: "task", At: start}); err != nil {
				break
			}
			r, d, err = scheduler.Apply(r, scheduler.StepCompleted{Step: s.Step, Attempt: s.Attempt, Output: output, At: start})
			queue = append(queue, d.Starts...)
			transitions += 2
		}
		if err != nil || r.Status != scheduler.Completed {
			b.Fatal(r.Status, err)
		}
	}
	b.ReportMetric(float64(transitions)/b.Elapsed().Seconds(), "transitions/s")
	b.ReportMetric(float64(transitions)/float64(b.N), "transitions/op")
}
