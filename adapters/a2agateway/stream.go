package a2agateway

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/task"
)

// writeFor bounds each single write of a stream: who does not read it is not waited for.
const writeFor = 10 * time.Second

// inStream refuses a stream. Clients of 0.3 read nothing but events after HTTP's 200.
func (c *call) inStream(w http.ResponseWriter, r *http.Request, id json.RawMessage, err error) error {
	e, internal := errorOf(err)
	if c.speaks == v10 || internal || e.status != 0 {
		return err
	}
	body, err := encode(object{"jsonrpc": "2.0", "id": id, "error": e})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(bytes.Join([][]byte{[]byte("data: "), body, []byte("\n\n")}, nil)) // whoever does not read it any more is told nothing
	return nil
}

// stream answers with the task and then with what happens to it, as server-sent events.
func (c *call) stream(w http.ResponseWriter, r *http.Request, id json.RawMessage, v app.TaskView) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{}) // tests have none
	send := func(text []byte) bool {
		_ = rc.SetWriteDeadline(time.Now().Add(writeFor))
		_, err := w.Write(text)
		return err == nil && rc.Flush() == nil
	}
	data := func(result any, failure *rpcError) bool {
		answer := object{"jsonrpc": "2.0", "id": id}
		if failure != nil {
			answer["error"] = failure
		} else {
			answer["result"] = result
		}
		body, err := encode(answer)
		if err != nil {
			c.g.log.ErrorContext(ctx, "a2a event could not be encoded", "error", err)
			return false
		}
		return send(bytes.Join([][]byte{[]byte("data: "), body, []byte("\n\n")}, nil))
	}
	if !data(c.speaks.wrapped(c.speaks.task(v, nil)), nil) {
		return
	}
	if v.Status.Ended() || v.AwaitsInput && !c.toTheEnd { // nothing is to come, which callers of 0.3 want to be told
		last := app.TaskEvent{Event: task.Event{Kind: task.EventStatus, Status: v.Status, AwaitsInput: v.AwaitsInput, Error: v.Error, At: v.UpdatedAt}}
		if v.Status.Ended() {
			last.Kind = task.EventComplete
		}
		data(c.speaks.event(v.Task, last), nil)
		return
	}
	watcher, err := c.g.engine.Tasks.Watch(ctx, c.caller, v.ID, v.LastSeq)
	if err != nil {
		failure, _ := errorOf(err)
		data(nil, failure)
		return
	}
	defer watcher.Close()
	alive := make(chan struct{}, 1)
	ticks := time.NewTicker(c.g.opt.KeepAlive)
	defer ticks.Stop()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticks.C:
				select {
				case alive <- struct{}{}:
				default:
				}
			}
		}
	}()
	for !watcher.Over() {
		events, err := watcher.Next(ctx, alive)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			failure, _ := errorOf(err)
			data(nil, failure)
			return
		case len(events) == 0:
			if !send([]byte(": alive\n\n")) {
				return
			}
		}
		for _, e := range events {
			if said := c.speaks.event(v.Task, e); said != nil && !data(said, nil) || over(e) && (!c.toTheEnd || e.Kind == task.EventComplete) {
				return
			}
		}
	}
}
