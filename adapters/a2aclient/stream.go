package a2aclient

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// Limits of a stream.
const (
	maxStream = 8 * task.MaxOutput // bytes of all of it; one event is as long as an answer may be
	maxLines  = 50_000             // comments count
	// maxIdle is how long a stream may be silent before the agent is asked instead.
	maxIdle = time.Minute
)

func (x *exchange) story() *story { return newStory(x.asked()) }

// stream asks for a stream and listens until the agent does no more by itself. When it breaks before, the agent is at
// work if it has given an id to ask for, and has not been heard of if not.
func (x *exchange) stream(ctx context.Context, op operation, s *story) (ports.Answer, error) {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	res, err := x.send(reading, op, "text/event-stream")
	if err != nil {
		return ports.Answer{}, err
	}
	defer func() { _ = res.Body.Close() }()
	switch kind := mediaType(res); kind {
	case "text/event-stream":
	default: // an error, or an agent that had no more to say than one thing
		body, err := x.body(res)
		if err != nil {
			return ports.Answer{}, err
		}
		return x.answer(body)
	}
	silence := time.AfterFunc(maxIdle, func() { stop(); _ = res.Body.Close() })
	silence.Stop()
	defer silence.Stop()
	events, begun := newEvents(res.Body), false
	for {
		if s.id != "" {
			silence.Reset(maxIdle)
		}
		data, err := events.next()
		silence.Stop()
		switch {
		case ctx.Err() != nil:
			return ports.Answer{}, ctx.Err()
		case errors.Is(err, errUnbounded):
			return ports.Answer{}, asCallError(err)
		case err != nil && s.id != "":
			return ports.Answer{State: ports.AnswerWorking, RemoteTaskID: s.id, ContextID: s.contextID}, nil
		case err != nil:
			return ports.Answer{}, brokeOff()
		}
		if err := x.event(data, s); err != nil {
			var no *refusal
			if begun && errors.As(err, &no) { // it is no refusal any more
				err = no.CallError
			}
			return ports.Answer{}, err
		}
		begun = true
		if s.ended() {
			return s.answer(), nil
		}
		if err := x.tell(ctx, s); err != nil {
			return ports.Answer{}, err
		}
	}
}

func (x *exchange) event(data []byte, s *story) error {
	result, err := decodeResult(data, x.asked())
	if err == nil && x.door.rest() {
		if said, bad := decodeError(result); bad {
			err = said
		}
	}
	if err == nil {
		err = s.decodeEvent(result)
	}
	if err != nil {
		return asCallError(err)
	}
	return nil
}

// tell hands on what is new.
func (x *exchange) tell(ctx context.Context, s *story) error {
	if news, ok := s.news(); ok {
		return x.in.Hear(ctx, news)
	}
	return nil
}

// follow goes on with a task that the agent was asked about: if it is at work it is listened to.
func (x *exchange) follow(ctx context.Context, result json.RawMessage) (ports.Answer, error) {
	now, err := x.answer(result)
	if err != nil || now.State != ports.AnswerWorking {
		return now, err
	}
	s := x.story()
	s.heardID = x.in.RemoteTaskID
	if err := s.decodeEvent(result); err != nil {
		return ports.Answer{}, asCallError(err)
	}
	if err := x.tell(ctx, s); err != nil || !ask(&x.peer.unfollowed) {
		return now, err
	}
	end, err := x.stream(ctx, opSubscribe, s)
	var failed *ports.CallError
	switch {
	case ctx.Err() != nil:
		return ports.Answer{}, ctx.Err()
	case errors.As(err, &failed): // it may have ended just now; asking will tell
		x.peer.unfollowed.Store(askAgain)
		return now, nil
	case err != nil || end.State == ports.AnswerWorking:
		return end, err
	}
	// Between question and stream something may have gone by.
	if result, err = x.whole(ctx, opGet); err == nil {
		if whole, err := x.answer(result); err == nil && whole.State != ports.AnswerWorking {
			return whole, nil
		}
	}
	if ctx.Err() != nil {
		return ports.Answer{}, ctx.Err()
	}
	return end, nil
}

// errUnbounded is the end of a stream that is longer than any may be.
var errUnbounded = fmt.Errorf("%w", unusable("the agent's stream is over %d MiB or %d lines, or has an event over %d MiB", maxStream>>20, maxLines, task.MaxOutput>>20))

// events reads server-sent events.
type events struct {
	r      *bufio.Reader
	total  int
	lines  int
	afterR bool // the last line ended with a carriage return, which may be half of its end
	begun  bool
}

func newEvents(r io.Reader) *events { return &events{r: bufio.NewReader(r)} }

// next is the data of the next event that has any. What the stream's end cuts off is none.
func (e *events) next() ([]byte, error) {
	var data []byte
	some := false
	for {
		line, err := e.line()
		if err != nil {
			return nil, err
		}
		if len(line) == 0 {
			if some {
				return data, nil
			}
			continue
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if string(name) != "data" { // comments, and what only browsers need
			continue
		}
		if some {
			data = append(data, '\n')
		}
		data, some = append(data, bytes.TrimPrefix(value, []byte(" "))...), true
		if len(data) > task.MaxOutput {
			return nil, errUnbounded
		}
	}
}

// line is the next line without its end, which may be of any of the three kinds.
func (e *events) line() ([]byte, error) {
	var line []byte
	for {
		c, err := e.r.ReadByte()
		if err != nil {
			return nil, err
		}
		if e.total++; e.total > maxStream {
			return nil, errUnbounded
		}
		if c == '\n' && e.afterR {
			e.afterR = false
			continue
		}
		e.afterR = c == '\r'
		if c != '\n' && c != '\r' {
			if line = append(line, c); len(line) > task.MaxOutput+len("data: ") {
				return nil, errUnbounded
			}
			continue
		}
		if e.lines++; e.lines > maxLines {
			return nil, errUnbounded
		}
		if !e.begun {
			e.begun, line = true, bytes.TrimPrefix(line, []byte("\ufeff"))
		}
		return line, nil
	}
}
