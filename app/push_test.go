package app_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/adapters/sqlite"
	"github.com/nexus-protocol/nexus/adapters/sqlite/sqlitetest"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

const (
	receiver = "https://receiver.example.com/hook"
	canary   = "canary-of-a-credential"
)

// inbox is a receiver that remembers.
type inbox struct {
	mu   sync.Mutex
	got  []ports.Notification
	fail func(n int) error // of the n-th attempt, from 1
	n    int
}

func (i *inbox) take(_ context.Context, n ports.Notification) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.n++
	if i.fail != nil {
		if err := i.fail(i.n); err != nil {
			return err
		}
	}
	i.got = append(i.got, n)
	return nil
}

func (i *inbox) attempts() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.n
}

// seqs are the places in the log that were told.
func (i *inbox) seqs() []int64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	var out []int64
	for _, n := range i.got {
		out = append(out, n.Seq)
	}
	return out
}

func (i *inbox) last() ports.Notification {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.got[len(i.got)-1]
}

// pushing gives the rig an engine that tells receivers, and one of those.
func (r *rig) pushing(change ...func(*app.Config)) *inbox {
	box := &inbox{}
	receivers := memory.NewReceivers()
	receivers.Handle(receiver, box.take)
	r.with(append([]func(*app.Config){func(c *app.Config) {
		c.Notifier, c.SealKeys = receivers, [][]byte{bytes.Repeat([]byte{1}, 32)}
	}}, change...)...)
	return box
}

func to(name string) app.PushTo {
	return app.PushTo{Name: name, URL: receiver, Dialect: "d", Schemes: []string{"Bearer"}, Credentials: canary, Token: "token"}
}

func (r *rig) send(c identity.Caller, a registry.Agent, push *app.PushTo) app.TaskView {
	r.t.Helper()
	v, err := r.Gateway.Send(r.t.Context(), c, app.SendMessage{AgentID: a.ID, MessageID: fmt.Sprint("m", r.n.Add(1)), Parts: []task.Part{task.TextPart("hi")}, Push: push})
	require.NoError(r.t, err)
	return v
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	require.Eventually(t, f, 10*time.Second, time.Millisecond, what)
}

func (r *rig) done(c identity.Caller, taskID, name string) bool {
	p, err := r.Gateway.PushConfig(r.t.Context(), c, taskID, name)
	require.NoError(r.t, err)
	return p.DoneAt != nil
}

// A receiver is told of all that the agent's side does, once and in order, or of how the task stands; then its secrets
// are forgotten.
func TestReceiversAreTold(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		box := r.pushing()
		r.work()
		asker, owner := r.user(), r.user()
		a := r.agent(owner, 0, func(_ context.Context, c ports.Call) (ports.Answer, error) {
			if c.RemoteTaskID == "" {
				return ports.Answer{State: ports.AnswerInputRequired, RemoteTaskID: "r", Messages: []task.Message{{ID: "ask", Role: task.RoleAgent, Parts: []task.Part{task.TextPart("which?")}}}}, nil
			}
			return ports.Answer{State: ports.AnswerDone, Artifacts: []task.Artifact{{ID: "a", Parts: c.Message.Parts}}}, nil
		})
		where := to("mine")
		v := r.send(asker, a, &where)
		awaits := func() bool {
			now, err := r.Tasks.Get(t.Context(), asker, v.ID)
			require.NoError(t, err)
			return now.AwaitsInput
		}
		eventually(t, "asks", awaits)
		eventually(t, "told that it asks", func() bool { return len(box.seqs()) == 3 })
		require.Equal(t, []int64{3, 4, 5}, box.seqs(), "at work, says, awaits; the answer told of what was before")
		require.True(t, box.last().Events[0].AwaitsInput)
		require.Equal(t, task.PushSecrets{Token: "token", Credentials: canary}, box.last().Secrets)
		kept, err := r.Gateway.PushConfig(t.Context(), asker, v.ID, "mine")
		require.NoError(t, err)
		require.NotEmpty(t, kept.Sealed)
		require.NotContains(t, string(kept.Sealed), canary)

		whole := to("whole") // from now on; that it asks is told too
		whole.Whole = true
		_, err = r.Gateway.SetPush(t.Context(), asker, "", v.ID, whole)
		require.NoError(t, err)
		eventually(t, "told how it stands", func() bool { return len(box.seqs()) == 4 })
		require.Len(t, box.last().Events, 2, "what was said")
		_, err = r.Tasks.Reply(t.Context(), asker, v.ID, app.ReplyTask{Role: task.RoleUser, Parts: []task.Part{task.TextPart("that")}})
		require.NoError(t, err)
		r.ended(asker, v.ID)
		eventually(t, "all is told", func() bool { return r.done(asker, v.ID, "mine") && r.done(asker, v.ID, "whole") })
		all, err := r.store.Read().Tasks.Events(t.Context(), v.ID, 0, 100)
		require.NoError(t, err)
		var want, got []int64
		for _, e := range all {
			if e.Seq > 2 && (e.Message == nil || e.Message.Role == task.RoleAgent) {
				want = append(want, e.Seq)
			}
		}
		box.mu.Lock()
		defer box.mu.Unlock()
		for _, n := range box.got {
			if n.Config.Name == "mine" {
				got = append(got, n.Seq)
			}
		}
		require.Equal(t, want, got)
	})
}

// Secrets are forgotten when they are of no more use. Of a task that has ended its end is told, once.
func TestReceiversOfTasksThatHaveEnded(t *testing.T) {
	r := newRig(t, memory.New(memory.WithReplay()))
	box := r.pushing()
	r.work()
	asker, owner := r.user(), r.user()
	where := to("mine")
	v := r.send(asker, r.agent(owner, 0, echo), &where)
	end := r.ended(asker, v.ID)
	eventually(t, "all is told", func() bool { return r.done(asker, v.ID, "mine") })
	p, err := r.Gateway.PushConfig(t.Context(), asker, v.ID, "mine")
	require.NoError(t, err)
	require.Nil(t, p.Sealed)
	require.Equal(t, end.LastSeq, p.Told)
	_, err = r.Gateway.SetPush(t.Context(), owner, "", v.ID, to("mine"))
	require.NoError(t, err)
	eventually(t, "told of the end", func() bool { return r.done(owner, v.ID, "mine") })
	require.Equal(t, task.EventComplete, box.last().Events[0].Kind)
	before := box.attempts()
	p, err = r.Gateway.SetPush(t.Context(), owner, "", v.ID, to("mine"))
	require.NoError(t, err)
	require.NotNil(t, p.DoneAt, "set again, it has nothing more to tell")
	require.Nil(t, p.Sealed)
	eventually(t, "no job is left", func() bool {
		all, err := r.store.Read().Jobs.Due(t.Context(), r.clock.now().Add(time.Hour), 100)
		return err == nil && !slices.ContainsFunc(all, func(j ports.Ref) bool { return strings.HasPrefix(j.ID, "push.") })
	})
	require.Equal(t, before, box.attempts())
}

// What a receiver does not take is tried again, later each time, up to a bound; one that wants none any more is left alone.
func TestReceiversThatFail(t *testing.T) {
	r := newRig(t, memory.New(memory.WithReplay()))
	box := r.pushing()
	broken := &ports.NotifyError{Reason: "broken"}
	box.fail = func(n int) error {
		if n <= 3 {
			return broken
		}
		return nil
	}
	r.work()
	asker, owner := r.user(), r.user()
	a := r.agent(owner, 0, echo)
	where := to("mine")
	where.Whole = true
	v := r.send(asker, a, &where)
	end := r.ended(asker, v.ID)
	for n := 1; n <= 3; n++ {
		eventually(t, "tried", func() bool {
			p, err := r.Gateway.PushConfig(t.Context(), asker, v.ID, "mine")
			return err == nil && p.Failures == n
		})
		r.clock.skip(time.Minute)
	}
	eventually(t, "taken", func() bool { return r.done(asker, v.ID, "mine") })
	require.Equal(t, []int64{end.LastSeq}, box.seqs(), "how the task stands is told once, however much has happened")

	box.mu.Lock()
	box.fail, box.n = func(int) error { return broken }, 0
	box.mu.Unlock()
	v = r.send(asker, a, &where)
	for n := 1; n <= task.MaxPushAttempts; n++ {
		eventually(t, "tried", func() bool {
			p, err := r.Gateway.PushConfig(t.Context(), asker, v.ID, "mine")
			return err == nil && p.Failures == n
		})
		require.Equal(t, n == task.MaxPushAttempts, r.done(asker, v.ID, "mine"))
		r.clock.skip(15 * time.Minute)
	}
	require.Equal(t, task.MaxPushAttempts, box.attempts())
	p, err := r.Gateway.PushConfig(t.Context(), asker, v.ID, "mine")
	require.NoError(t, err)
	require.Nil(t, p.Sealed)

	box.mu.Lock()
	box.fail, box.got = nil, nil
	box.mu.Unlock()
	_, err = r.Gateway.SetPush(t.Context(), asker, "", v.ID, where)
	require.NoError(t, err)
	eventually(t, "set anew, it is told what it missed", func() bool { return len(box.seqs()) == 1 })

	box.mu.Lock()
	box.fail, box.n = func(int) error { return &ports.NotifyError{Reason: "gone", Gone: true} }, 0
	box.mu.Unlock()
	v = r.send(asker, a, &where)
	eventually(t, "left alone", func() bool { return r.done(asker, v.ID, "mine") })
	require.Equal(t, 1, box.attempts())
}

// A receiver that asks to be left alone is.
func TestReceiversThatPutOff(t *testing.T) {
	r := newRig(t, memory.New())
	box := r.pushing()
	box.fail = func(n int) error {
		if n == 1 {
			return &ports.NotifyError{Reason: "busy", RetryAfter: 5 * time.Minute}
		}
		return nil
	}
	r.work()
	asker := r.user()
	where := to("mine")
	v := r.send(asker, r.agent(r.user(), 0, echo), &where)
	r.ended(asker, v.ID)
	eventually(t, "tried", func() bool { return box.attempts() == 1 })
	r.clock.skip(4 * time.Minute)
	time.Sleep(100 * time.Millisecond)
	require.Equal(t, 1, box.attempts())
	r.clock.skip(time.Minute)
	eventually(t, "told", func() bool { return r.done(asker, v.ID, "mine") })
}

// Only who may read a task can ask to be told of it, and sees what he himself asked for.
func TestWhoMayBeTold(t *testing.T) {
	r := newRig(t, memory.New(memory.WithReplay()))
	r.pushing()
	asker, owner, other := r.user(), r.user(), r.user()
	a := r.agent(owner, 0, echo)
	v := r.send(asker, a, nil)
	strangers, err := r.Gateway.Send(t.Context(), identity.Caller{}, app.SendMessage{AgentID: a.ID, MessageID: "m", Parts: []task.Part{task.TextPart("hi")}, Address: "a"})
	require.NoError(t, err)
	ctx := t.Context()
	set := func(c identity.Caller, id, name string) error {
		_, err := r.Gateway.SetPush(ctx, c, "a", id, to(name))
		return err
	}
	require.True(t, fault.Has(set(other, v.ID, "n"), fault.CodeTaskNotFound))
	require.True(t, fault.Has(set(identity.Caller{}, v.ID, "n"), fault.CodeUnauthorized))
	require.True(t, fault.Has(set(asker, "nobody", "n"), fault.CodeTaskNotFound))
	_, err = r.Gateway.PushConfigs(ctx, other, v.ID)
	require.True(t, fault.Has(err, fault.CodeTaskNotFound))
	require.True(t, fault.Has(r.Gateway.DeletePush(ctx, other, v.ID, "n"), fault.CodeTaskNotFound))
	for _, c := range []identity.Caller{asker, owner} {
		require.NoError(t, set(c, v.ID, "n"))
		require.NoError(t, set(c, v.ID, "n"), "again is the same")
		mine, err := r.Gateway.PushConfigs(ctx, c, v.ID)
		require.NoError(t, err)
		require.Len(t, mine, 1)
	}
	require.NoError(t, set(identity.Caller{}, strangers.ID, "n"))
	require.NoError(t, set(other, strangers.ID, "n"))
	for range 2 {
		require.NoError(t, r.Gateway.DeletePush(ctx, owner, v.ID, "n"))
	}
	_, err = r.Gateway.PushConfig(ctx, owner, v.ID, "n")
	require.True(t, fault.Has(err, fault.CodeTaskNotFound))
	_, err = r.Gateway.PushConfig(ctx, asker, v.ID, "n")
	require.NoError(t, err, "another's is another one")
	for i := 1; i < task.MaxPushConfigs; i++ {
		require.NoError(t, set(asker, v.ID, fmt.Sprint(i)))
	}
	require.True(t, fault.Has(set(asker, v.ID, "one more"), fault.CodeValidation))
	require.NoError(t, set(asker, v.ID, "1"), "one that is there can be replaced")
	unnamed, err := r.Gateway.SetPush(ctx, owner, "", v.ID, to(""))
	require.NoError(t, err)
	require.NotEmpty(t, unnamed.Name)
	var refused error
	for range limitOfStrangers {
		refused = set(identity.Caller{}, strangers.ID, "n")
	}
	require.True(t, fault.Has(refused, fault.CodeRateLimitExceeded))
}

const limitOfStrangers = 20

// Places that cannot be are refused, and change nothing.
func TestPlacesThatAreRefused(t *testing.T) {
	r := newRig(t, memory.New())
	r.pushing(func(c *app.Config) { c.Guard = guardOf("https://inside.example.com") })
	asker := r.user()
	a := r.agent(r.user(), 0, echo)
	v := r.send(asker, a, nil)
	for what, change := range map[string]func(*app.PushTo){
		"no URL":           func(p *app.PushTo) { p.URL = "" },
		"no host":          func(p *app.PushTo) { p.URL = "https:///x" },
		"a file":           func(p *app.PushTo) { p.URL = "file:///etc/passwd" },
		"a password":       func(p *app.PushTo) { p.URL = "https://u:p@receiver.example.com" },
		"too long":         func(p *app.PushTo) { p.URL = "https://receiver.example.com/" + strings.Repeat("x", task.MaxPushURL) },
		"inside":           func(p *app.PushTo) { p.URL = "https://inside.example.com" },
		"a long name":      func(p *app.PushTo) { p.Name = strings.Repeat("x", 256) },
		"a long token":     func(p *app.PushTo) { p.Token = strings.Repeat("x", task.MaxPushToken+1) },
		"a broken header":  func(p *app.PushTo) { p.Token = "x\r\nX-Injected: 1" },
		"a broken secret":  func(p *app.PushTo) { p.Credentials = "x\ny" },
		"a long secret":    func(p *app.PushTo) { p.Credentials = strings.Repeat("x", task.MaxPushCredentials+1) },
		"no scheme":        func(p *app.PushTo) { p.Schemes = nil },
		"a broken scheme":  func(p *app.PushTo) { p.Schemes = []string{"Bearer x"} },
		"too many schemes": func(p *app.PushTo) { p.Schemes = slices.Repeat([]string{"Bearer"}, task.MaxPushSchemes+1) },
	} {
		where := to("n")
		change(&where)
		_, err := r.Gateway.SetPush(t.Context(), asker, "", v.ID, where)
		require.True(t, fault.Has(err, fault.CodeValidation), "%s: %v", what, err)
		require.NotContains(t, err.Error(), canary)
		_, err = r.Gateway.Send(t.Context(), asker, app.SendMessage{AgentID: a.ID, MessageID: what, Parts: []task.Part{task.TextPart("hi")}, Push: &where})
		require.True(t, fault.Has(err, fault.CodeValidation), what)
	}
	mine, err := r.Gateway.PushConfigs(t.Context(), asker, v.ID)
	require.NoError(t, err)
	require.Empty(t, mine)
	l, err := r.Tasks.List(t.Context(), asker, app.TaskQuery{})
	require.NoError(t, err)
	require.Equal(t, 1, l.Total)

	r.pushing(func(c *app.Config) { c.SealKeys = nil })
	_, err = r.Gateway.SetPush(t.Context(), asker, "", v.ID, to("n"))
	require.True(t, fault.Has(err, fault.CodeValidation), "without a key secrets are not kept")
	_, err = r.Gateway.SetPush(t.Context(), asker, "", v.ID, app.PushTo{URL: receiver})
	require.NoError(t, err)
	_, err = app.New(app.Config{SealKeys: [][]byte{{1}}})
	require.ErrorContains(t, err, "SealKeys")
}

// guardOf refuses one endpoint.
type guardOf string

func (g guardOf) Check(_ context.Context, endpoint string) error {
	if endpoint != string(g) {
		return nil
	}
	var bad fault.Fields
	bad.Add("endpoint", "leads inside")
	return bad.Err()
}

// A new key seals, and the old one opens for as long as it is there.
func TestSealKeysCanBeChanged(t *testing.T) {
	r := newRig(t, memory.New())
	key := func(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }
	keys := func(k ...[]byte) func(*app.Config) { return func(c *app.Config) { c.SealKeys = k } }
	r.pushing(keys(key(1)))
	asker := r.user()
	a := r.agent(r.user(), 0, echo)
	v := r.send(asker, a, ptr(to("mine")))
	box := r.pushing(keys(key(3)))
	p, err := r.Gateway.PushConfig(t.Context(), asker, v.ID, "mine")
	require.NoError(t, err)
	_, err = r.Tasks.Cancel(t.Context(), asker, v.ID)
	require.NoError(t, err)
	require.NoError(t, r.Worker.Handle(t.Context(), "push.tell:"+p.ID))
	p, err = r.Gateway.PushConfig(t.Context(), asker, v.ID, "mine")
	require.NoError(t, err)
	require.Equal(t, 1, p.Failures, "without the key nothing is told, and nothing given up yet")
	require.Zero(t, box.attempts())
	r.clock.skip(time.Second)
	box = r.pushing(keys(key(2), key(1)))
	open := r.send(asker, a, ptr(to("mine")))
	r.work()
	for _, id := range []string{v.ID, open.ID} {
		eventually(t, "told", func() bool { return r.done(asker, id, "mine") })
	}
	require.Equal(t, canary, box.last().Secrets.Credentials)
}

// A slow receiver holds up neither tasks nor other receivers.
func TestSlowReceiversHoldUpNobody(t *testing.T) {
	r := newRig(t, memory.New())
	release := make(chan struct{})
	receivers := memory.NewReceivers()
	slow := 0
	var mu sync.Mutex
	for i := range 100 {
		receivers.Handle(fmt.Sprintf("https://slow%d.example.com", i), func(ctx context.Context, _ ports.Notification) error {
			mu.Lock()
			slow++
			mu.Unlock()
			select {
			case <-release:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}
	box := &inbox{}
	receivers.Handle(receiver, box.take)
	r.with(func(c *app.Config) {
		c.Notifier, c.SealKeys, c.MaxCalls = receivers, [][]byte{bytes.Repeat([]byte{1}, 32)}, 2
	})
	r.work()
	defer close(release)
	asker := r.user()
	a := r.agent(r.user(), 0, echo)
	for i := range 40 { // one host, and others
		where := app.PushTo{URL: fmt.Sprintf("https://slow%d.example.com", i*(i%2))}
		r.ended(asker, r.send(asker, a, &where).ID)
	}
	eventually(t, "they are slow", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return slow == 16
	})
	other, where := r.user(), to("mine")
	v := r.send(other, a, &where)
	r.ended(other, v.ID)
	eventually(t, "told", func() bool { return r.done(other, v.ID, "mine") })
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, 16, slow, "one user's")
}

// What was not told when a process died is told by the next one.
func TestReceiversAreToldAfterACrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nexus.db")
	sqlitetest.Fill(t, path)
	store, err := sqlite.Open(t.Context(), path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	r := newRig(t, store)
	trying, hang := make(chan struct{}), make(chan struct{})
	receivers := memory.NewReceivers()
	receivers.Handle(receiver, func(context.Context, ports.Notification) error {
		close(trying)
		<-hang // the process dies while it waits
		return nil
	})
	r.pushing(func(c *app.Config) { c.Name, c.Notifier = "first", receivers })
	ctx, kill := context.WithCancel(t.Context())
	asker := r.user()
	where := to("mine")
	a := r.agent(r.user(), 0, echo)
	v := r.send(asker, a, &where)
	_, err = r.Tasks.Cancel(ctx, asker, v.ID)
	require.NoError(t, err)
	p, err := r.Gateway.PushConfig(t.Context(), asker, v.ID, "mine")
	require.NoError(t, err)
	first, died := r.Worker, make(chan struct{})
	go func() {
		defer close(died)
		_ = first.Handle(ctx, "push.tell:"+p.ID)
	}()
	<-trying
	kill()
	t.Cleanup(func() {
		close(hang)
		<-died
	})
	second := r.pushing(func(c *app.Config) { c.Name = "second" })
	r.work()
	eventually(t, "told", func() bool { return r.done(asker, v.ID, "mine") })
	require.Equal(t, []int64{3}, second.seqs())
	require.Equal(t, canary, second.last().Secrets.Credentials)
}

// Secrets are in no row of the store, in no log, and in no trace.
func TestSecretsOfReceiversStaySecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nexus.db")
	sqlitetest.Fill(t, path)
	store, err := sqlite.Open(t.Context(), path)
	require.NoError(t, err)
	r := newRig(t, store)
	var logged bytes.Buffer // the handler has a lock
	tracer := memory.NewTracer()
	box := r.pushing(func(c *app.Config) {
		c.Logger, c.Tracer = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug})), tracer
	})
	box.fail = func(int) error { return &ports.NotifyError{Reason: "gone", Gone: true} }
	asker := r.user()
	where := to("mine")
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Worker.Run(ctx, time.Second) }()
	v := r.send(asker, r.agent(r.user(), 0, echo), &where)
	eventually(t, "given up", func() bool { return r.done(asker, v.ID, "mine") })
	stop()
	require.NoError(t, <-done)
	require.Contains(t, logged.String(), "given up")
	require.NoError(t, store.Close())
	all := logged.String() + fmt.Sprint(tracer.Spans())
	rows, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(rows), receiver)
	all += string(rows)
	require.NotContains(t, all, canary)
	require.NotContains(t, logged.String(), receiver, "a URL may hold secrets too")
}

// Whatever happens to tasks and however often receivers fail: each is told every notable thing at least once, for the first time
// in order, and last the end.
func TestWhateverHappensReceiversAreToldInOrder(t *testing.T) {
	r := newRig(t, memory.New(memory.WithReplay()))
	var mu sync.Mutex
	dice := rand.New(rand.NewPCG(11, uint64(time.Now().UnixNano())))
	roll := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return dice.IntN(n)
	}
	heard := map[string][]int64{} // by task, each once
	receivers := memory.NewReceivers()
	receivers.Handle(receiver, func(_ context.Context, n ports.Notification) error {
		lost := roll(6) == 0 // the answer, after it was heard
		if !lost && roll(4) == 0 {
			return &ports.NotifyError{Reason: "broken"}
		}
		mu.Lock()
		defer mu.Unlock()
		if !slices.Contains(heard[n.Task.ID], n.Seq) {
			heard[n.Task.ID] = append(heard[n.Task.ID], n.Seq)
		}
		if lost {
			return &ports.NotifyError{Reason: "cut off"}
		}
		return nil
	})
	r.with(func(c *app.Config) { c.Notifier = receivers })
	r.work()
	asker := r.user()
	said := []task.Message{{ID: "m", Role: task.RoleAgent, Parts: []task.Part{task.TextPart("hm")}}}
	a := r.agent(r.user(), 0, func(_ context.Context, c ports.Call) (ports.Answer, error) {
		switch roll(4) {
		case 0:
			return ports.Answer{State: ports.AnswerInputRequired, Messages: said, RemoteTaskID: "r"}, nil
		case 1:
			return ports.Answer{State: ports.AnswerFailed, Reason: "no"}, nil
		default:
			return ports.Answer{State: ports.AnswerDone, Messages: said, Artifacts: []task.Artifact{{ID: "a", Parts: c.Message.Parts}}}, nil
		}
	})
	ids := make([]string, 20)
	for i := range ids {
		ids[i] = r.send(asker, a, &app.PushTo{Name: "mine", URL: receiver}).ID
	}
	for _, id := range ids {
		for open := true; open; {
			_, err := r.Tasks.Reply(t.Context(), asker, id, app.ReplyTask{Role: task.RoleUser, Parts: []task.Part{task.TextPart("so?")}})
			open = !fault.Has(err, fault.CodeTaskNotActive) && roll(3) > 0
		}
		_, _ = r.Tasks.Cancel(t.Context(), asker, id) // unless it has ended
	}
	for _, id := range ids {
		eventually(t, "told", func() bool {
			r.clock.skip(100 * time.Millisecond)
			return r.done(asker, id, "mine")
		})
		all, err := r.store.Read().Tasks.Events(t.Context(), id, 2, 1000)
		require.NoError(t, err)
		var want []int64
		for _, e := range all {
			if e.Notable() {
				want = append(want, e.Seq)
			}
		}
		mu.Lock()
		require.Equal(t, want, heard[id])
		mu.Unlock()
	}
}

// A task that nobody wants to be told of costs no look at who might.
func TestTasksWithoutReceiversPayNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nexus.db")
	sqlitetest.Fill(t, path)
	tracer := memory.NewTracer()
	store, err := sqlite.Open(t.Context(), path, sqlite.WithTracer(tracer))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	r := newRig(t, store)
	r.pushing(func(c *app.Config) { c.Tracer = tracer })
	r.work()
	asker := r.user()
	a := r.agent(r.user(), 0, echo)
	looks := func() (n int) {
		for _, s := range tracer.Spans() {
			if strings.Contains(s.Name, "push_configs") {
				n++
			}
		}
		return n
	}
	r.ended(asker, r.send(asker, a, nil).ID)
	require.Zero(t, looks())
	v := r.send(asker, a, ptr(to("mine")))
	r.ended(asker, v.ID)
	eventually(t, "told", func() bool { return r.done(asker, v.ID, "mine") })
	require.NotZero(t, looks(), "else the test would see nothing")
}
