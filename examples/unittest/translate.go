// Package unittest shows how a program that uses the engine is tested: with the whole engine in the test's own process, in
// memory, and agents that are functions.
package unittest

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/task"
)

// Translate has the best agent for it translate a text, and waits for what it makes of it.
func Translate(ctx context.Context, engine *app.Engine, me identity.Caller, text string) (string, error) {
	input, err := json.Marshal(map[string]string{"text": text})
	if err != nil {
		return "", err
	}
	t, err := engine.Tasks.Create(ctx, me, app.CreateTask{SkillID: "translate", Title: "Translate", Input: input})
	if err != nil {
		return "", err
	}
	w, err := engine.Tasks.Watch(ctx, me, t.ID, 0)
	if err != nil {
		return "", err
	}
	defer w.Close()
	for !w.Over() {
		if _, err := w.Next(ctx, nil); err != nil {
			return "", err
		}
	}
	if t, err = engine.Tasks.Get(ctx, me, t.ID); err != nil {
		return "", err
	}
	if t.Status != task.Completed {
		return "", fmt.Errorf("%s: %s", t.Status, t.Error.Code)
	}
	var out struct{ Text string }
	return out.Text, json.Unmarshal(t.Output, &out)
}
