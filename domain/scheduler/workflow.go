// Package scheduler runs workflows: a definition is a graph of steps, and a run of it is a pure machine. It is told what
// happened (a step's task ended, time passed, somebody cancelled) and says what is to be done now: which steps to start,
// which timers to set, which tasks to cancel. It calls nobody and knows no clock; the events that it tells of a run are
// enough to build the run again.
package scheduler

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"math/bits"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/nexus-protocol/nexus/domain/fault"
)

// Limits of a workflow.
const (
	MaxName        = 200       // characters
	MaxDescription = 2000      // characters
	MaxSteps       = 20        // and at least one
	MaxStepName    = 100       // characters
	MaxSkillID     = 64        // characters
	MaxInput       = 256 << 10 // bytes of a step's own input
	MaxOutput      = 256 << 10 // bytes of a step's output
	MinTimeout     = 10 * time.Second
	MaxTimeout     = 3600 * time.Second
	DefaultTimeout = 300 * time.Second
	MaxRetries     = 5
	MinBackoff     = 100 * time.Millisecond
	MaxBackoff     = 60 * time.Second
	DefaultBackoff = time.Second
)

// Workflow is a definition: steps, and what each waits for.
type Workflow struct {
	ID          string
	Name        string
	Description string
	OwnerUserID string
	Steps       []Step
	CreatedAt   time.Time
	UpdatedAt   time.Time
	DeletedAt   *time.Time
}

// Step is one piece of work in a workflow, done by one agent.
type Step struct {
	Name      string
	AgentID   string
	SkillID   string          // "" when the agent is to find out itself
	Input     json.RawMessage // a JSON object; nil counts as {}
	DependsOn []int           // indices of earlier steps, each once
	Timeout   time.Duration   // of one attempt; 0: the default
	Retry     RetryPolicy
}

// RetryPolicy says how often a step that failed is tried again. The zero policy never does.
type RetryPolicy struct {
	MaxRetries int           // 0–5, beyond the first attempt
	Backoff    time.Duration // before the first retry, and twice as long before each further one; 0: the default
}

// Delay is how long to wait after the attempt (counted from 1) has failed.
func (p RetryPolicy) Delay(attempt int) time.Duration { return p.Backoff << (attempt - 1) }

// Define validates a workflow as its owner wrote it and returns it with the defaults filled in and inputs without
// superfluous space. agentExists tells whether an agent can be named in a step. The fault is VALIDATION_ERROR and names
// every wrong field by its path in the API, such as steps[2].dependsOn[0].
func Define(w Workflow, agentExists func(agentID string) bool) (Workflow, error) {
	var bad fault.Fields
	n := utf8.RuneCountInString(w.Name)
	bad.Check(n >= 1 && n <= MaxName, "name", "must be 1 to %d characters long", MaxName)
	bad.Check(utf8.RuneCountInString(w.Description) <= MaxDescription, "description", "must be at most %d characters long", MaxDescription)
	bad.Check(len(w.Steps) >= 1 && len(w.Steps) <= MaxSteps, "steps", "must be 1 to %d steps", MaxSteps)
	w.Steps = slices.Clone(w.Steps[:min(len(w.Steps), MaxSteps)])
	for i := range w.Steps {
		w.Steps[i].define(i, agentExists, &bad)
	}
	if err := bad.Err(); err != nil {
		return Workflow{}, err
	}
	return w, nil
}

func (s *Step) define(index int, agentExists func(string) bool, bad *fault.Fields) {
	path := fmt.Sprintf("steps[%d].", index)
	n := utf8.RuneCountInString(s.Name)
	bad.Check(n >= 1 && n <= MaxStepName, path+"name", "must be 1 to %d characters long", MaxStepName)
	switch {
	case s.AgentID == "":
		bad.Add(path+"agentId", "is required")
	case !agentExists(s.AgentID):
		bad.Add(path+"agentId", "no agent with this id exists")
	}
	bad.Check(utf8.RuneCountInString(s.SkillID) <= MaxSkillID, path+"skillId", "must be at most %d characters long", MaxSkillID)

	s.DependsOn = slices.Clone(s.DependsOn)
	var seen Set
	for j, d := range s.DependsOn {
		at := fmt.Sprintf("%sdependsOn[%d]", path, j)
		switch {
		case d == index:
			bad.Add(at, "a step cannot depend on itself")
		case d < 0 || d >= MaxSteps:
			bad.Add(at, "there is no step %d", d)
		case d > index:
			bad.Add(at, "must be the index of an earlier step, below %d", index)
		case seen.Has(d):
			bad.Add(at, "step %d is named twice", d)
		default:
			seen.add(d)
		}
	}
	s.defineInput(path+"input", seen, bad)

	if s.Timeout == 0 {
		s.Timeout = DefaultTimeout
	}
	bad.Check(s.Timeout >= MinTimeout && s.Timeout <= MaxTimeout, path+"timeout", "must be %d to %d seconds", int(MinTimeout.Seconds()), int(MaxTimeout.Seconds()))
	bad.Check(s.Retry.MaxRetries >= 0 && s.Retry.MaxRetries <= MaxRetries, path+"retryPolicy.maxRetries", "must be 0 to %d", MaxRetries)
	if s.Retry.Backoff == 0 {
		s.Retry.Backoff = DefaultBackoff
	}
	bad.Check(s.Retry.Backoff >= MinBackoff && s.Retry.Backoff <= MaxBackoff, path+"retryPolicy.backoffMs",
		"must be %d to %d", MinBackoff.Milliseconds(), MaxBackoff.Milliseconds())
}

func (s *Step) defineInput(path string, dependsOn Set, bad *fault.Fields) {
	if len(s.Input) == 0 {
		s.Input = json.RawMessage("{}")
	}
	if len(s.Input) > MaxInput {
		bad.Add(path, "must be at most %d KiB", MaxInput>>10)
		return
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(s.Input, &members); err != nil || members == nil {
		bad.Add(path, "must be a JSON object")
		return
	}
	for d := range dependsOn.All() { // a name that stood for two things would be the reader's guess
		key := fmt.Sprintf("step_%d_output", d)
		if _, taken := members[key]; taken {
			bad.Add(path+"."+key, "is the name under which the step gets the output of one that it waits for; choose another")
		}
	}
	var b bytes.Buffer
	if err := json.Compact(&b, s.Input); err == nil {
		s.Input = b.Bytes()
	}
}

// Plan is the steps of a workflow, ready to be run. It never changes, so many runs can share one.
type Plan struct {
	steps      []Step
	roots      Set   // who waits for nobody
	dependents []Set // by step: who waits for it
	downstream []Set // by step: who cannot run unless it completes
}

// Compile makes the plan of defined steps. It refuses, as INTERNAL_ERROR, only what would break the machine: no steps or
// too many, a dependency that is no earlier step or is named twice, an input that is no object.
func Compile(steps []Step) (*Plan, error) {
	if len(steps) < 1 || len(steps) > MaxSteps {
		return nil, broken("a plan of %d steps", len(steps))
	}
	p := &Plan{steps: slices.Clone(steps), dependents: make([]Set, len(steps)), downstream: make([]Set, len(steps))}
	for i := range p.steps {
		s := &p.steps[i]
		s.DependsOn = slices.Clone(s.DependsOn)
		s.Input = bytes.TrimSpace(s.Input)
		if len(s.Input) == 0 {
			s.Input = json.RawMessage("{}")
		}
		if n := len(s.Input); s.Input[0] != '{' || s.Input[n-1] != '}' {
			return nil, broken("the input of step %d is no object", i)
		}
		if len(s.DependsOn) == 0 {
			p.roots.add(i)
		}
		for _, d := range s.DependsOn {
			if d < 0 || d >= i || p.dependents[d].Has(i) {
				return nil, broken("step %d cannot depend on step %d", i, d)
			}
			p.dependents[d].add(i)
		}
	}
	for i := len(steps) - 1; i >= 0; i-- {
		p.downstream[i] = p.dependents[i]
		for d := range p.dependents[i].All() {
			p.downstream[i] |= p.downstream[d]
		}
	}
	return p, nil
}

// Len is the number of steps.
func (p *Plan) Len() int { return len(p.steps) }

// Steps returns the steps, which must not be changed.
func (p *Plan) Steps() []Step { return p.steps }

// Dependents are the steps that wait for the given one directly.
func (p *Plan) Dependents(step int) Set { return p.dependents[step] }

func (p *Plan) all() Set { return 1<<len(p.steps) - 1 }

func broken(format string, args ...any) error {
	return fault.New(fault.Internal, fault.CodeInternal, format, args...)
}

// Set is a set of step indices, 0–31.
type Set uint32

// Has reports whether the index is in the set.
func (s Set) Has(i int) bool { return s>>i&1 == 1 }

// Len is the number of indices in the set.
func (s Set) Len() int { return bits.OnesCount32(uint32(s)) }

// All yields the indices in ascending order.
func (s Set) All() iter.Seq[int] {
	return func(yield func(int) bool) {
		for ; s != 0; s &= s - 1 {
			if !yield(bits.TrailingZeros32(uint32(s))) {
				return
			}
		}
	}
}

func only(i int) Set { return 1 << i }

func (s *Set) add(i int) { *s |= 1 << i }

// next takes the smallest index out of a set that is not empty.
func (s *Set) next() int {
	i := bits.TrailingZeros32(uint32(*s))
	*s &= *s - 1
	return i
}
