package a2agateway

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/task"
)

// unnamed is the name of a configuration of 0.3 that was given none: a task has one of those.
const unnamed = "default"

// Names of the forms, as push configurations carry them.
var (
	dialects = map[form]string{v03: "0.3", typed: "0.3 {type, data}", v10: "1.0"}
	forms    = func() map[string]form {
		out := map[string]form{}
		for f, name := range dialects {
			out[name] = f
		}
		return out
	}()
)

var errNoPush = &rpcError{Code: codePush, Message: "push notifications are not supported; follow the task's stream"}

func (c *call) pushTo(raw json.RawMessage) (*app.PushTo, error) {
	if !c.g.engine.Gateway.Pushes() {
		return nil, errNoPush
	}
	return c.speaks.pushTo(raw)
}

// pushTo reads a configuration: 0.3 writes a list of schemes, 1.0 one.
func (s form) pushTo(raw json.RawMessage) (*app.PushTo, error) {
	var f, auth fields
	if json.Unmarshal(raw, &f) != nil || f == nil {
		return nil, invalid("params", "have no push notification configuration")
	}
	to := &app.PushTo{Dialect: dialects[s], Whole: s != v10}
	err := errors.Join(f.into("id", &to.Name), f.into("url", &to.URL), f.into("token", &to.Token), f.into("authentication", &auth))
	var scheme string
	err = errors.Join(err, auth.into("scheme", &scheme), auth.into("schemes", &to.Schemes), auth.into("credentials", &to.Credentials))
	if err != nil {
		return nil, err
	}
	if scheme != "" {
		to.Schemes = append([]string{scheme}, to.Schemes...)
	}
	if to.Name == "" && s != v10 {
		to.Name = unnamed
	}
	return to, nil
}

// pushInConfiguration reads where the sender of a message wants to be told; nil if nowhere.
func (c *call) pushInConfiguration() (*app.PushTo, error) {
	conf, err := c.configuration()
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"taskPushNotificationConfig", "pushNotificationConfig"} { // as 1.0 calls it, and 0.3
		if raw := conf.get(name); raw != nil && string(raw) != "null" {
			return c.pushTo(raw)
		}
	}
	return nil, nil
}

// pushOf finds the task, which is the caller's to see, and the name that a method of push configurations is about.
func (c *call) pushOf(ctx context.Context) (taskID, name string, err error) {
	if !c.g.engine.Gateway.Pushes() {
		return "", "", errNoPush
	}
	ofTask, ofConfig := "taskId", "id"
	if c.speaks != v10 {
		ofTask, ofConfig = "id", "pushNotificationConfigId"
	}
	if err := errors.Join(c.params.into(ofTask, &taskID), c.params.into(ofConfig, &name)); err != nil {
		return "", "", err
	}
	if taskID == "" {
		return "", "", invalid("params."+ofTask, "is missing")
	}
	v, err := c.task(ctx, taskID)
	return v.ID, name, err
}

func (c *call) setPush(ctx context.Context) (any, error) {
	if !c.g.engine.Gateway.Pushes() {
		return nil, errNoPush
	}
	var taskID string
	if err := c.params.into("taskId", &taskID); err != nil {
		return nil, err
	}
	if taskID == "" {
		return nil, invalid("params.taskId", "is missing")
	}
	v, err := c.task(ctx, taskID)
	if err != nil {
		return nil, err
	}
	raw := c.params.get("pushNotificationConfig")
	if c.speaks == v10 {
		if raw, err = json.Marshal(c.params); err != nil {
			return nil, err
		}
	}
	to, err := c.pushTo(raw)
	if err != nil {
		return nil, err
	}
	p, err := c.g.engine.Gateway.SetPush(ctx, c.caller, c.from, v.ID, *to)
	if err != nil {
		return nil, err
	}
	return c.pushConfig(p), nil
}

func (c *call) getPush(ctx context.Context) (any, error) {
	taskID, name, err := c.pushOf(ctx)
	if err != nil {
		return nil, err
	}
	if name == "" {
		if c.speaks == v10 {
			return nil, invalid("params.id", "is missing")
		}
		name = unnamed
	}
	p, err := c.g.engine.Gateway.PushConfig(ctx, c.caller, taskID, name)
	if err != nil {
		return nil, err
	}
	return c.pushConfig(p), nil
}

func (c *call) listPush(ctx context.Context) (any, error) {
	taskID, _, err := c.pushOf(ctx)
	if err != nil {
		return nil, err
	}
	all, err := c.g.engine.Gateway.PushConfigs(ctx, c.caller, taskID)
	if err != nil {
		return nil, err
	}
	out := make([]object, 0, len(all))
	for _, p := range all {
		out = append(out, c.pushConfig(p))
	}
	if c.speaks == v10 { // there are never more than fit on one page
		return object{"configs": out, "nextPageToken": ""}, nil
	}
	return out, nil
}

func (c *call) deletePush(ctx context.Context) (any, error) {
	taskID, name, err := c.pushOf(ctx)
	if err != nil {
		return nil, err
	}
	if name == "" {
		return nil, invalid(map[bool]string{true: "params.id", false: "params.pushNotificationConfigId"}[c.speaks == v10], "is missing")
	}
	if err := c.g.engine.Gateway.DeletePush(ctx, c.caller, taskID, name); err != nil {
		return nil, err
	}
	if c.speaks == v10 {
		return object{}, nil
	}
	return nil, nil
}

// pushConfig is a configuration as the caller reads it: without its secrets, which are only ever shown to the receiver.
func (c *call) pushConfig(p task.PushConfig) object {
	out := object{"id": p.Name, "url": p.URL}
	if c.speaks == v10 {
		if len(p.Schemes) > 0 {
			out["authentication"] = object{"scheme": p.Schemes[0]}
		}
		out["taskId"] = p.TaskID
		if tenant := c.params["tenant"]; strings.HasPrefix(string(tenant), `"`) && string(tenant) != `""` {
			out["tenant"] = tenant
		}
		return out
	}
	if len(p.Schemes) > 0 {
		out["authentication"] = object{"schemes": p.Schemes}
	}
	return object{"taskId": p.TaskID, "pushNotificationConfig": out}
}
