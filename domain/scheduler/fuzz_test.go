package scheduler_test

import (
	"encoding/json"
	"regexp"
	"testing"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/scheduler"
)

var fieldPath = regexp.MustCompile(`^(name|description|steps(\[\d+\]\.(name|agentId|skillId|dependsOn\[\d+\]|input(\.step_\d+_output)?|timeout|retryPolicy\.(maxRetries|backoffMs)))?)$`)

// Whatever is written in a definition, it is either refused with the paths of what is wrong, or every run of it that goes
// well completes, with a JSON object as the input of each step.
func FuzzDefine(f *testing.F) {
	f.Add([]byte(`{"Name":"w","Steps":[{"Name":"a","AgentID":"x"},{"Name":"b","AgentID":"x","DependsOn":[0],"Input":{ "k" : [1] },"Timeout":10000000000}]}`))
	f.Add([]byte(`{"Name":"","Steps":[{"DependsOn":[0,-1,99],"Input":[],"Timeout":1,"Retry":{"MaxRetries":9,"Backoff":1}}]}`))
	f.Add([]byte(`{"Name":"w","Steps":[{"Name":"a","AgentID":"x"},{"Name":"b","AgentID":"x","DependsOn":[0],"Input":{"step_0_output":1}}]}`))
	f.Add([]byte(`{"Name":"w","Steps":[{"Name":"a","AgentID":"x","Input":null},{"Name":"b","AgentID":"none"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var w scheduler.Workflow
		if json.Unmarshal(data, &w) != nil {
			return
		}
		w, err := scheduler.Define(w, func(id string) bool { return id != "none" })
		if err != nil {
			fields := faultFields(t, err)
			for _, field := range fields {
				if !fieldPath.MatchString(field.Path) {
					t.Fatalf("%q is no path of a workflow", field.Path)
				}
			}
			return
		}
		r, log, err := scheduler.NewRun("r", w, "", start)
		if err != nil {
			t.Fatal(err)
		}
		r, d, err := scheduler.Apply(r, scheduler.Start{At: start})
		log = append(log, d.Events...)
		for queue := d.Starts; len(queue) > 0 && err == nil; queue = append(queue[1:], d.Starts...) {
			s := queue[0]
			var input map[string]any
			if json.Unmarshal(s.Input, &input) != nil || input == nil {
				t.Fatalf("step %d is to get %s", s.Step, s.Input)
			}
			for _, dep := range w.Steps[s.Step].DependsOn {
				if _, ok := input["step_"+string(rune('0'+dep))+"_output"]; dep < 10 && !ok {
					t.Fatalf("step %d does not get the output of step %d: %s", s.Step, dep, s.Input)
				}
			}
			r, d, err = scheduler.Apply(r, scheduler.StepCompleted{Step: s.Step, Attempt: s.Attempt, Output: s.Input, At: start.Add(time.Second)})
			log = append(log, d.Events...)
		}
		if err != nil || !r.Status.Ended() {
			t.Fatal(r.Status, err)
		}
		if again, err := scheduler.Replay(log); err != nil || again.Status != r.Status || again.LastSeq != r.LastSeq {
			t.Fatal(again, err)
		}
	})
}

func faultFields(t *testing.T, err error) []fault.Field {
	t.Helper()
	f, ok := fault.As(err)
	if !ok || f.Code != fault.CodeValidation {
		t.Fatal(err)
	}
	return f.Details["fields"].([]fault.Field)
}
