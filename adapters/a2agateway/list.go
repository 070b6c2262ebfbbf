package a2agateway

import (
	"context"
	"encoding/base64"
	"errors"
	"strconv"

	"github.com/nexus-protocol/nexus/app"
)

// Sizes of a page of tasks.
const (
	defaultPage = 50
	maxPage     = 100
)

// list is the caller's tasks, newest first; at the door of one agent, those of that agent.
func (c *call) list(ctx context.Context) (any, error) {
	var contextID, status, token string
	var size *int
	var artifacts bool
	history, err := historyLength(c.params)
	err = errors.Join(err, c.params.into("contextId", &contextID), c.params.into("status", &status), c.params.into("pageToken", &token),
		c.params.into("pageSize", &size), c.params.into("includeArtifacts", &artifacts))
	if err != nil {
		return nil, err
	}
	limit := defaultPage
	if size != nil {
		if limit = *size; limit < 1 || limit > maxPage {
			return nil, invalid("params.pageSize", "must be 1 to 100")
		}
	}
	offset := 0
	if token != "" {
		if offset, err = offsetOf(token); err != nil {
			return nil, err
		}
	}
	q := app.TaskQuery{AgentID: c.agent, Role: "requester", Conversation: contextID, Page: app.Page{Limit: &limit, Offset: offset}}
	if status != "" && status != "TASK_STATE_UNSPECIFIED" {
		known := false
		if q.Status, known = statusOf(status); !known {
			return nil, invalid("params.status", "is no state of a task")
		}
	}
	l, err := c.g.engine.Tasks.List(ctx, c.caller, q)
	if err != nil {
		return nil, err
	}
	tasks := make([]object, 0, len(l.Items))
	for _, t := range l.Items {
		v := app.TaskView{Task: t}
		if artifacts || history != nil && *history > 0 {
			if v, err = c.task(ctx, t.ID); err != nil {
				return nil, err
			}
		}
		if !artifacts {
			v.Artifacts = nil
		}
		if history == nil {
			v.Messages = nil
		}
		tasks = append(tasks, c.speaks.task(v, history))
	}
	next := ""
	if offset+len(tasks) < l.Total && len(tasks) > 0 {
		next = tokenOf(offset + len(tasks))
	}
	return object{"tasks": tasks, "nextPageToken": next, "pageSize": limit, "totalSize": l.Total}, nil
}

// A page's token is a place in the caller's own list, which gives nothing away and opens nothing.
func tokenOf(offset int) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.Itoa(offset)))
}

func offsetOf(token string) (int, error) {
	text, err := base64.RawURLEncoding.DecodeString(token)
	n, err2 := strconv.Atoi(string(text))
	if err != nil || err2 != nil || n < 0 {
		return 0, invalid("params.pageToken", "is not one that was given out")
	}
	return n, nil
}
