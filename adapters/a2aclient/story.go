package a2aclient

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/nexus-protocol/nexus/adapters/internal/a2awire"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// story is what an agent has said and made of a task: at once, or event by event.
type story struct {
	to        request
	id        string // the agent's, of the task
	contextID string
	state     ports.AnswerState // "" until it is known
	reason    string

	messages []task.Message
	said     map[string]bool // by id
	unnamed  map[string]int  // how often a message without an id was said
	made     []*piece

	items, size int // of all that came, to bound them

	// How much was handed on.
	heard      int
	heardID    string
	finalChunk []*piece // whole since then
}

// piece is an artifact that may still grow.
type piece struct {
	task.Artifact

	whole bool
}

func newStory(to request) *story {
	return &story{to: to, id: to.remoteTaskID, said: map[string]bool{}, unnamed: map[string]int{}}
}

var errTooLong = unusable("the agent's answer is over %d MiB", task.MaxOutput>>20)

var errNoID = unusable("the agent says that it works on the task, but gives no id to ask for")

// ended tells that the agent does no more by itself.
func (s *story) ended() bool { return s.state != "" && s.state != ports.AnswerWorking }

// event takes in a task, a message, or what has become of a task.
func (s *story) event(r wireResult) (err error) {
	switch m := r.message(); {
	case r.StatusUpdate != nil && r.StatusUpdate.Status != nil:
		err = s.update(*r.StatusUpdate)
	case r.Kind == "status-update" && r.Status != nil:
		err = s.update(r)
	case r.ArtifactUpdate != nil && r.ArtifactUpdate.Artifact != nil:
		err = s.chunk(*r.ArtifactUpdate)
	case r.Kind == "artifact-update" && r.Artifact != nil:
		err = s.chunk(r)
	case r.task() != nil:
		err = s.task(*r.task())
	case m != nil && s.state != "": // one of several, in a stream about a task
		err = s.say(*m)
	case m != nil:
		if r.Message != nil {
			s.contextID = r.Message.ContextID
		} else if r.Msg != nil {
			s.contextID = r.Msg.ContextID
		} else {
			s.contextID = r.ContextID
		}
		m.Role = "agent" // who else would
		s.state, err = ports.AnswerDone, s.say(*m)
	default:
		return errNeither
	}
	switch {
	case err != nil:
		return err
	case s.items > maxItems:
		return unusable("the agent's answer has more than %d parts", maxItems)
	case s.size > task.MaxOutput:
		return errTooLong
	case len(s.id) > maxID || len(s.contextID) > maxID:
		return unusable("the agent's ids are longer than %d bytes", maxID)
	}
	return nil
}

// about notes whose an event is.
func (s *story) about(id, contextID string) error {
	if id != "" && s.id != "" && id != s.id {
		return unusable("the agent answered about another task")
	}
	if id != "" {
		s.id = id
	}
	if contextID != "" {
		s.contextID = contextID
	}
	return nil
}

// task takes in a whole task, which tells the whole story again.
func (s *story) task(r wireResult) error {
	if err := s.about(r.ID, r.ContextID); err != nil {
		return err
	}
	s.items, s.size, s.unnamed = 0, 0, map[string]int{}
	for _, m := range r.History {
		if err := s.say(m); err != nil {
			return err
		}
	}
	for i, w := range r.Artifacts {
		if w.ArtifactID == "" {
			w.ArtifactID = fmt.Sprintf("%s-artifact-%d", s.base(), i)
		}
		if err := s.make(w, false); err != nil {
			return err
		}
	}
	return s.status(*r.Status)
}

func (s *story) update(r wireResult) error {
	if err := s.about(r.TaskID, r.ContextID); err != nil {
		return err
	}
	return s.status(*r.Status)
}

func (s *story) chunk(r wireResult) error {
	if err := s.about(r.TaskID, r.ContextID); err != nil {
		return err
	}
	if s.id == "" {
		return errNoID
	}
	w := *r.Artifact
	if w.ArtifactID == "" {
		n := len(s.made)
		if r.Append && n > 0 {
			n--
		}
		w.ArtifactID = fmt.Sprintf("%s-artifact-%d", s.base(), n)
	}
	if err := s.make(w, r.Append); err != nil {
		return err
	}
	if s.state == "" {
		s.state = ports.AnswerWorking
	}
	if r.LastChunk {
		s.whole(s.piece(w.ArtifactID))
	}
	return nil
}

func (s *story) piece(id string) *piece {
	for _, p := range s.made {
		if p.ID == id {
			return p
		}
	}
	p := &piece{Artifact: task.Artifact{ID: id, Parts: []task.Part{}}}
	s.made = append(s.made, p)
	return p
}

func (s *story) make(w wireArtifact, more bool) error {
	parts, err := s.parts(w.Parts)
	if err != nil {
		return err
	}
	p := s.piece(w.ArtifactID)
	if more {
		p.Parts = append(p.Parts, parts...)
	} else {
		p.Parts = parts
	}
	if w.Name != "" {
		p.Name = w.Name
	}
	if w.Description != "" {
		p.Description = w.Description
	}
	p.whole = false
	return nil
}

func (s *story) whole(p *piece) {
	if !p.whole {
		p.whole = true
		s.finalChunk = append(s.finalChunk, p)
	}
}

// stateOf is what a state of A2A's means; reason is that of a failure.
func stateOf(written string) (state ports.AnswerState, reason string, err error) {
	switch a2awire.State(written) {
	case "completed":
		return ports.AnswerDone, "", nil
	case "submitted", "working":
		return ports.AnswerWorking, "", nil
	case "failed":
		return ports.AnswerFailed, "the agent reports that it failed", nil
	case "rejected":
		return ports.AnswerFailed, "the agent rejected the task", nil
	case "canceled", "cancelled":
		return ports.AnswerFailed, "the agent cancelled the task", nil
	case "input-required":
		return ports.AnswerInputRequired, "", nil
	case "auth-required":
		return ports.AnswerInputRequired, "the agent asks for authentication", nil
	default:
		return "", "", unusable("the agent's task is in the unknown state %q", cut(written))
	}
}

func (s *story) status(w wireStatus) (err error) {
	if s.state, s.reason, err = stateOf(w.State); err != nil {
		return err
	}
	if s.state == ports.AnswerWorking && s.id == "" {
		return errNoID
	}
	if m := w.Message; m != nil {
		m.Role = "agent" // whose status it is
		before := len(s.messages)
		if err := s.say(*m); err != nil {
			return err
		}
		if s.state == ports.AnswerFailed {
			parts, err := s.parts(append(m.Parts, m.Content...))
			if err != nil {
				return err
			}
			if words := textOf(parts); words != "" {
				s.reason += ": " + cut(words)
			}
		}
		if s.state == ports.AnswerInputRequired && len(s.messages) > before {
			s.reason = ""
		}
	}
	if s.state == ports.AnswerInputRequired && s.reason != "" { // someone has to be told
		said := answeredMessage{Role: "agent", Parts: []answeredPart{{Kind: "text", Text: &s.reason}}}
		if err := s.say(said); err != nil {
			return err
		}
		s.reason = ""
	}
	return nil
}

func (s *story) base() string {
	if s.id != "" {
		return s.id
	}
	return s.to.id
}

// say takes in a message of the agent's that was not said before. One without an id gets one that follows from what it
// says, the same whenever the story is told.
func (s *story) say(m answeredMessage) error {
	if role := strings.ToLower(strings.TrimPrefix(m.Role, "ROLE_")); role != "agent" || m.MessageID != "" && s.said[m.MessageID] {
		return nil
	}
	parts, err := s.parts(append(m.Parts, m.Content...))
	if err != nil {
		return err
	}
	if m.MessageID == "" {
		h := fnv.New64a()
		for _, p := range parts {
			_, _ = fmt.Fprintf(h, "%s %s\n", p.Type, p.Data) // a hash takes everything
		}
		key := fmt.Sprintf("%016x", h.Sum64())
		m.MessageID = fmt.Sprintf("%s-message-%s-%d", s.base(), key, s.unnamed[key])
		s.unnamed[key]++
		if s.said[m.MessageID] {
			return nil
		}
	}
	s.said[m.MessageID] = true
	s.messages = append(s.messages, task.Message{ID: m.MessageID, Role: task.RoleAgent, Parts: parts})
	return nil
}

func (s *story) parts(in []answeredPart) ([]task.Part, error) {
	out := make([]task.Part, 0, len(in))
	s.items += 1 + len(in)
	for _, p := range in {
		part, err := p.part(s.to)
		if err != nil {
			return nil, err
		}
		s.size += len(part.Data) + len(part.Metadata)
		out = append(out, part)
	}
	return out, nil
}

// answer is the story as it stands. What an agent that is at work says and makes is no part of it.
func (s *story) answer() ports.Answer {
	a := ports.Answer{State: s.state, Reason: s.reason, RemoteTaskID: s.id, ContextID: s.contextID}
	if s.state == ports.AnswerWorking {
		return a
	}
	a.Messages = s.messages
	for _, p := range s.made {
		a.Artifacts = append(a.Artifacts, p.Artifact)
	}
	return a
}

// news is what was not handed on yet and need not wait; ok is false if there is nothing.
func (s *story) news() (a ports.Answer, ok bool) {
	a = ports.Answer{State: ports.AnswerWorking, RemoteTaskID: s.id, ContextID: s.contextID, Messages: s.messages[s.heard:]}
	for _, p := range s.finalChunk {
		a.Artifacts = append(a.Artifacts, p.Artifact)
	}
	ok = s.heardID != s.id || len(a.Messages)+len(a.Artifacts) > 0
	s.heard, s.heardID, s.finalChunk = len(s.messages), s.id, nil
	return a, ok
}

// decodeEvent reads one event of a stream into the story.
func (s *story) decodeEvent(result json.RawMessage) error {
	var r wireResult
	if err := json.Unmarshal(result, &r); err != nil {
		return errNeither
	}
	return s.event(r)
}
