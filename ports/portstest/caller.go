package portstest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// Agent is an agent that the suite wants to be called. It gets a message, may tell something while it works, and gives
// its answer: done, failed with words in Reason, or a question. Its host gives the ids of tasks and contexts.
type Agent func(ctx context.Context, got ports.Call, tell func(ports.Answer)) ports.Answer

// AgentHost puts an agent where the caller under test reaches it, until the test ends.
type AgentHost func(Agent) (endpoint string, card json.RawMessage)

// CallerTraits are the honest differences between callers, and between the agents that they are tried with.
type CallerTraits struct {
	Streams bool   // what an agent says while it works is heard at once
	Nowhere string // an endpoint where there is no agent
	// NoBytes: the library that the agents are built with has an encoding of its own for files that are sent along.
	NoBytes bool
}

// AgentCaller checks a caller with agents at a host.
func AgentCaller(ctx context.Context, c ports.AgentCaller, host AgentHost, t CallerTraits) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	s := callerSuite{c, host, t}
	for _, check := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"parts go both ways without loss", s.lossless},
		{"what is said meanwhile is heard at once", s.live},
		{"an error of the listener ends the call", s.deaf},
		{"a question is answered in the same context", s.question},
		{"a failure has the agent's words", s.failure},
		{"an ended task can be asked about", s.follow},
		{"a cancel reaches the agent", s.cancel},
		{"a ctx that ended is its own error", s.ended},
		{"nobody is there", s.nobody},
	} {
		if err := check.run(ctx); err != nil {
			return failf("%s: %w", check.name, err)
		}
	}
	return nil
}

type callerSuite struct {
	c    ports.AgentCaller
	host AgentHost
	t    CallerTraits
}

// call is a call of an agent that is put up for it.
func (s callerSuite) call(a Agent, id string, parts ...task.Part) ports.Call {
	endpoint, card := s.host(a)
	return ports.Call{Endpoint: endpoint, Card: card, TaskID: id, Message: task.Message{ID: id, Role: task.RoleUser, Parts: parts}}
}

func (s callerSuite) lossless(ctx context.Context) error {
	parts := []task.Part{
		task.TextPart("grüße \"<&>\"\n"),
		{Type: task.PartText, Data: json.RawMessage(`"noted"`), Metadata: json.RawMessage(`{"k":{"n":1}}`)},
		{Type: task.PartData, Data: json.RawMessage(`{"s":["a",null,true],"n":1.5}`)},
		{Type: task.PartData, Data: json.RawMessage(`[1,"two"]`), Metadata: json.RawMessage(`{"k":"v"}`)},
		{Type: task.PartData, Data: json.RawMessage(`"three"`)},
		{Type: task.PartFile, Data: json.RawMessage(`{"name":"b.txt","mimeType":"text/plain","uri":"https://files.example/b.txt"}`)},
	}
	if !s.t.NoBytes {
		parts = append(parts, task.Part{Type: task.PartFile, Data: json.RawMessage(`{"name":"a.bin","mimeType":"application/octet-stream","bytes":"AP8+Pw=="}`)})
	}
	said := task.Message{ID: "said", Role: task.RoleAgent, Parts: []task.Part{task.TextPart("here it is")}}
	got := make(chan ports.Call, 9)
	in := s.call(func(_ context.Context, c ports.Call, _ func(ports.Answer)) ports.Answer {
		got <- c
		return ports.Answer{State: ports.AnswerDone, Messages: []task.Message{said}, Artifacts: []task.Artifact{{ID: "made", Name: "name", Description: "description", Parts: c.Message.Parts}}}
	}, "lossless", parts...)
	a, err := s.c.Send(ctx, in)
	if err != nil {
		return err
	}
	c := <-got
	if err := first(same("the agent's message id", c.Message.ID, in.Message.ID), same("state", a.State, ports.AnswerDone), same("messages", len(a.Messages), 1), same("artifacts", len(a.Artifacts), 1)); err != nil {
		return err
	}
	f := a.Artifacts[0]
	return first(sameParts("what the agent got", c.Message.Parts, parts), sameParts("what came back", f.Parts, parts), sameParts("what it said", a.Messages[0].Parts, said.Parts),
		same("message id", a.Messages[0].ID, "said"), same("role", a.Messages[0].Role, task.RoleAgent), same("artifact", [3]string{f.ID, f.Name, f.Description}, [3]string{"made", "name", "description"}))
}

func sameParts(what string, got, want []task.Part) error {
	written := func(parts []task.Part) string {
		var out []string
		for _, p := range parts {
			var data, meta any
			d := json.NewDecoder(bytes.NewReader(p.Data))
			d.UseNumber()
			if err := d.Decode(&data); err != nil {
				data = err.Error()
			}
			if p.Metadata != nil {
				_ = json.Unmarshal(p.Metadata, &meta) // nil then, and different
			}
			b, _ := json.Marshal([]any{p.Type, data, meta}) // of what was JSON
			out = append(out, string(b))
		}
		return strings.Join(out, "\n")
	}
	return same(what, written(got), written(want))
}

func (s callerSuite) live(ctx context.Context) error {
	if !s.t.Streams {
		return nil
	}
	one := task.Message{ID: "one", Role: task.RoleAgent, Parts: []task.Part{task.TextPart("one")}}
	two := task.Artifact{ID: "two", Parts: []task.Part{task.TextPart("two")}}
	heard := make(chan string, 9)
	in := s.call(func(ctx context.Context, _ ports.Call, tell func(ports.Answer)) ports.Answer {
		for _, step := range []ports.Answer{{Messages: []task.Message{one}}, {Artifacts: []task.Artifact{two}}} {
			tell(step)
			select { // nothing goes on before it was heard
			case <-heard:
			case <-ctx.Done():
			}
		}
		return ports.Answer{State: ports.AnswerDone}
	}, "live", task.TextPart("x"))
	var all ports.Answer
	in.Hear = func(_ context.Context, news ports.Answer) error {
		if news.State != ports.AnswerWorking || news.RemoteTaskID == "" {
			return failf("heard of a task %+v", news)
		}
		all.Messages, all.Artifacts, all.RemoteTaskID = append(all.Messages, news.Messages...), append(all.Artifacts, news.Artifacts...), news.RemoteTaskID
		for range len(news.Messages) + len(news.Artifacts) {
			heard <- ""
		}
		return nil
	}
	a, err := s.c.Send(ctx, in)
	if err != nil {
		return err
	}
	if err := first(same("state", a.State, ports.AnswerDone), same("task", a.RemoteTaskID, all.RemoteTaskID), same("messages heard", len(all.Messages), 1), same("artifacts heard", len(all.Artifacts), 1)); err != nil {
		return err
	}
	return first(same("message", all.Messages[0].ID, "one"), sameParts("said", all.Messages[0].Parts, one.Parts), same("artifact", all.Artifacts[0].ID, "two"), sameParts("made", all.Artifacts[0].Parts, two.Parts),
		same("messages in the end", len(a.Messages), 1), same("artifacts in the end", len(a.Artifacts), 1))
}

func (s callerSuite) deaf(ctx context.Context) error {
	if !s.t.Streams {
		return nil
	}
	enough := errors.New("enough")
	in := s.call(func(ctx context.Context, _ ports.Call, tell func(ports.Answer)) ports.Answer {
		tell(ports.Answer{Messages: []task.Message{{ID: "m", Role: task.RoleAgent, Parts: []task.Part{task.TextPart("x")}}}})
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
		return ports.Answer{State: ports.AnswerDone}
	}, "deaf", task.TextPart("x"))
	times := 0
	in.Hear = func(context.Context, ports.Answer) error { times++; return enough }
	_, err := s.c.Send(ctx, in)
	if !errors.Is(err, enough) {
		return failf("got %v", err)
	}
	return same("times heard", times, 1)
}

func (s callerSuite) question(ctx context.Context) error {
	got := make(chan ports.Call, 9)
	in := s.call(func(_ context.Context, c ports.Call, _ func(ports.Answer)) ports.Answer {
		got <- c
		m := task.Message{ID: "q" + fmt.Sprint(len(c.Message.Parts)), Role: task.RoleAgent, Parts: c.Message.Parts}
		if len(c.Message.Parts) == 1 {
			return ports.Answer{State: ports.AnswerInputRequired, Messages: []task.Message{m}}
		}
		return ports.Answer{State: ports.AnswerDone, Messages: []task.Message{m}}
	}, "question", task.TextPart("which?"))
	in.Hear = func(context.Context, ports.Answer) error { return nil }
	a, err := s.c.Send(ctx, in)
	if err != nil {
		return err
	}
	if err := first(same("state", a.State, ports.AnswerInputRequired), same("questions", len(a.Messages), 1)); err != nil {
		return err
	}
	if a.RemoteTaskID == "" || a.ContextID == "" {
		return failf("no ids to go on with: %+v", a)
	}
	<-got
	in.RemoteTaskID, in.ContextID = a.RemoteTaskID, a.ContextID
	in.Message = task.Message{ID: "question/4", Role: task.RoleUser, Parts: []task.Part{task.TextPart("this"), task.TextPart("one")}}
	b, err := s.c.Send(ctx, in)
	if err != nil {
		return err
	}
	c := <-got
	if err := first(same("state after the reply", b.State, ports.AnswerDone), same("the agent's task", c.RemoteTaskID, a.RemoteTaskID), same("its context", c.ContextID, a.ContextID),
		same("task", b.RemoteTaskID, a.RemoteTaskID)); err != nil {
		return err
	}
	for _, m := range b.Messages {
		if m.ID == "q2" {
			return sameParts("the answer", m.Parts, in.Message.Parts)
		}
	}
	return failf("the answer lacks what was said: %+v", b.Messages)
}

func (s callerSuite) failure(ctx context.Context) error {
	in := s.call(func(context.Context, ports.Call, func(ports.Answer)) ports.Answer {
		return ports.Answer{State: ports.AnswerFailed, Reason: "no ink"}
	}, "failure", task.TextPart("x"))
	a, err := s.c.Send(ctx, in)
	if err != nil {
		return err
	}
	if !strings.Contains(a.Reason, "no ink") {
		return failf("the reason is %q", a.Reason)
	}
	return same("state", a.State, ports.AnswerFailed)
}

func (s callerSuite) follow(ctx context.Context) error {
	in := s.call(func(context.Context, ports.Call, func(ports.Answer)) ports.Answer {
		return ports.Answer{State: ports.AnswerDone, Artifacts: []task.Artifact{{ID: "f", Parts: []task.Part{task.TextPart("made")}}}}
	}, "follow", task.TextPart("x"))
	a, err := s.c.Send(ctx, in)
	if err != nil {
		return err
	}
	in.RemoteTaskID, in.ContextID, in.Message = a.RemoteTaskID, a.ContextID, task.Message{}
	in.Hear = func(context.Context, ports.Answer) error { return nil }
	b, err := s.c.Follow(ctx, in)
	if err := first(err, same("state", b.State, ports.AnswerDone), same("task", b.RemoteTaskID, a.RemoteTaskID), same("artifacts", len(b.Artifacts), 1)); err != nil {
		return err
	}
	return sameParts("made", b.Artifacts[0].Parts, a.Artifacts[0].Parts)
}

func (s callerSuite) cancel(ctx context.Context) error {
	if !s.t.Streams { // else nobody knows what to cancel
		return nil
	}
	in := s.call(func(ctx context.Context, _ ports.Call, tell func(ports.Answer)) ports.Answer {
		tell(ports.Answer{Messages: []task.Message{{ID: "m", Role: task.RoleAgent, Parts: []task.Part{task.TextPart("at work")}}}})
		<-ctx.Done()
		return ports.Answer{State: ports.AnswerFailed, Reason: "cancelled"}
	}, "cancel", task.TextPart("x"))
	id := make(chan string, 9)
	in.Hear = func(_ context.Context, news ports.Answer) error {
		if len(news.Messages) > 0 {
			id <- news.RemoteTaskID
		}
		return nil
	}
	calling, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		_, err := s.c.Send(calling, in)
		done <- err
	}()
	defer stop()
	select {
	case in.RemoteTaskID = <-id:
	case err := <-done:
		return failf("it ended before it was cancelled: %w", err)
	}
	in.Hear = nil
	if err := s.c.Cancel(ctx, in); err != nil {
		return err
	}
	stop()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) { // it may have been in time
		return err
	}
	return nil
}

func (s callerSuite) ended(ctx context.Context) error {
	in := s.call(func(ctx context.Context, _ ports.Call, _ func(ports.Answer)) ports.Answer {
		<-ctx.Done()
		return ports.Answer{State: ports.AnswerDone}
	}, "ended", task.TextPart("x"))
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, err := s.c.Send(short, in)
	var failed *ports.CallError
	if !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &failed) {
		return failf("got %v", err)
	}
	return nil
}

func (s callerSuite) nobody(ctx context.Context) error {
	if _, err := s.c.Card(ctx, s.t.Nowhere); err == nil {
		return failf("there is a card where there is no agent")
	}
	_, err := s.c.Send(ctx, ports.Call{Endpoint: s.t.Nowhere, TaskID: "t", Message: task.Message{ID: "t", Role: task.RoleUser, Parts: []task.Part{task.TextPart("x")}}})
	var failed *ports.CallError
	if !errors.As(err, &failed) {
		return failf("got %v", err)
	}
	return first(same("code", failed.Code, task.ErrUnreachable), same("retryable", failed.Retryable, true), same("unreachable", failed.Unreachable, true))
}
