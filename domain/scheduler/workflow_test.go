package scheduler_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/scheduler"
)

var start = time.Date(2026, 3, 6, 12, 0, 0, 0, time.UTC)

func everyAgent(string) bool { return true }

func TestDefineFillsInDefaults(t *testing.T) {
	in := scheduler.Workflow{Name: "w", Steps: []scheduler.Step{
		{Name: "a", AgentID: "x"},
		{
			Name: "b", AgentID: "x", Input: json.RawMessage(" { \"k\" : 1 } "), DependsOn: []int{0}, Timeout: 10 * time.Second,
			Retry: scheduler.RetryPolicy{MaxRetries: 5, Backoff: 100 * time.Millisecond},
		},
	}}
	w, err := scheduler.Define(in, everyAgent)
	require.NoError(t, err)
	require.Equal(t, scheduler.Step{
		Name: "a", AgentID: "x", Input: json.RawMessage(`{}`), Timeout: 300 * time.Second, Retry: scheduler.RetryPolicy{Backoff: time.Second},
	}, w.Steps[0])
	require.Equal(t, `{"k":1}`, string(w.Steps[1].Input))
	require.Equal(t, 1600*time.Millisecond, w.Steps[1].Retry.Delay(5))
	require.Nil(t, in.Steps[0].Input, "what is given is left as it was")
}

func TestDefineNamesEveryFault(t *testing.T) {
	long := func(n int) string { return strings.Repeat("ä", n) }
	_, err := scheduler.Define(scheduler.Workflow{
		Name: "", Description: long(2001),
		Steps: []scheduler.Step{
			{Name: "", AgentID: "", DependsOn: []int{0}},
			{Name: long(101), AgentID: "unknown", SkillID: long(65), DependsOn: []int{2, 7, -1, 20, 1, 0, 0}, Timeout: time.Second},
			{Name: long(100), AgentID: "a", Input: json.RawMessage(`[]`), Timeout: 3601 * time.Second},
			{Name: "d", AgentID: "a", Input: json.RawMessage(`null`), Retry: scheduler.RetryPolicy{MaxRetries: 6, Backoff: 99 * time.Millisecond}},
			{Name: "e", AgentID: "a", Input: json.RawMessage(`{"step_0_output":1,"step\u005f1_output":1,"step_2_output":1}`), DependsOn: []int{0, 1}},
			{Name: "f", AgentID: "a", Input: json.RawMessage(`{"x":"` + long(128<<10) + `"}`), Retry: scheduler.RetryPolicy{MaxRetries: -1, Backoff: time.Minute + 1}},
			{Name: "g", AgentID: "a", Input: json.RawMessage(`{`), Timeout: -1},
		},
	}, func(id string) bool { return id == "a" })
	f, ok := fault.As(err)
	require.True(t, ok)
	require.Equal(t, fault.CodeValidation, f.Code)
	var paths []string
	for _, field := range f.Details["fields"].([]fault.Field) {
		paths = append(paths, field.Path)
	}
	require.Equal(t, []string{
		"name", "description",
		"steps[0].name", "steps[0].agentId", "steps[0].dependsOn[0]",
		"steps[1].name", "steps[1].agentId", "steps[1].skillId",
		"steps[1].dependsOn[0]", "steps[1].dependsOn[1]", "steps[1].dependsOn[2]", "steps[1].dependsOn[3]", "steps[1].dependsOn[4]", "steps[1].dependsOn[6]",
		"steps[1].timeout",
		"steps[2].input", "steps[2].timeout",
		"steps[3].input", "steps[3].retryPolicy.maxRetries", "steps[3].retryPolicy.backoffMs",
		"steps[4].input.step_0_output", "steps[4].input.step_1_output",
		"steps[5].input", "steps[5].retryPolicy.maxRetries", "steps[5].retryPolicy.backoffMs",
		"steps[6].input", "steps[6].timeout",
	}, paths)

	for _, n := range []int{0, 21, 100_000} {
		_, err = scheduler.Define(scheduler.Workflow{Name: "w", Steps: make([]scheduler.Step, n)}, everyAgent)
		f, ok = fault.As(err)
		require.True(t, ok)
		fields := f.Details["fields"].([]fault.Field)
		require.Equal(t, "steps", fields[0].Path)
		require.LessOrEqual(t, len(fields), 41, "what is beyond the limit is not looked at")
	}
}

func TestCompileRefusesWhatWouldBreakTheMachine(t *testing.T) {
	for name, steps := range map[string][]scheduler.Step{
		"no steps":        {},
		"too many":        make([]scheduler.Step, 21),
		"itself":          {{DependsOn: []int{0}}},
		"later":           {{DependsOn: []int{1}}, {}},
		"negative":        {{}, {DependsOn: []int{-1}}},
		"twice":           {{}, {DependsOn: []int{0, 0}}},
		"no object":       {{Input: json.RawMessage(`[]`)}},
		"half an object":  {{Input: json.RawMessage(`{`)}},
		"only whitespace": {{}, {DependsOn: []int{0}, Input: json.RawMessage(`"`)}},
	} {
		_, err := scheduler.Compile(steps)
		require.True(t, fault.Has(err, fault.CodeInternal), name)
	}
}
