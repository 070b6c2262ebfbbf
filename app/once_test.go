package app_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/domain/scheduler"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// overtaken is a store that does something before the next update.
type overtaken struct {
	ports.Store
	by func()
}

func (s *overtaken) Update(ctx context.Context, fn func(ctx context.Context, tx ports.Tx) error) error {
	if by := s.by; by != nil {
		s.by = nil
		by()
	}
	return s.Store.Update(ctx, fn)
}

// A repeat that is overtaken by the first request gets its answer, also where what the first did would be refused now.
func TestARepeatAtTheSameMomentGetsTheFirstAnswer(t *testing.T) {
	t.Parallel()
	s := &overtaken{Store: memory.New()}
	r := newRig(t, s)
	asker, owner := r.user(), r.user()
	a := r.agent(owner, credits.Whole(600), echo) // of which two are more than there is
	done := r.create(asker, r.agent(owner, 0, echo))
	require.NoError(t, r.Worker.Handle(t.Context(), "task.forward:"+done.ID))
	open := r.create(owner, r.agent(asker, 0, echo))

	for name, do := range map[string]func(ctx context.Context) error{
		"create": func(ctx context.Context) error {
			_, err := r.Tasks.Create(ctx, asker, app.CreateTask{AgentID: a.ID, Title: "x"})
			return err
		},
		"rate": func(ctx context.Context) error {
			_, err := r.Trust.Rate(ctx, asker, done.AgentID, app.RateAgent{TaskID: done.ID, Stars: 5})
			return err
		},
		"reply": func(ctx context.Context) error {
			_, err := r.Tasks.Reply(ctx, asker, open.ID, app.ReplyTask{Role: task.RoleAgent, Status: task.Failed})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			once := func(request byte) context.Context {
				return app.WithOnce(t.Context(), app.Once{
					Key: name, Request: [32]byte{request}, Render: func(any) ([]byte, error) { return []byte("first"), nil },
				})
			}
			s.by = func() { require.NoError(t, do(once(1))) }
			var first *app.Replayed
			require.ErrorAs(t, do(once(1)), &first)
			require.Equal(t, "first", string(first.Answer))
			require.True(t, fault.Has(do(once(2)), fault.CodeIdempotencyConflict))
		})
	}
}

// A repeat tells nothing to a key that may not do what is repeated, though it is the same agent's.
func TestARepeatByALesserKey(t *testing.T) {
	t.Parallel()
	r := newRig(t, memory.New())
	me := r.user()
	a := r.agent(me, 0, echo)
	open := r.create(me, a)
	w := r.workflow(me, step(a))
	done := r.create(me, a)
	require.NoError(t, r.Worker.Handle(t.Context(), "task.forward:"+done.ID))
	able := identity.KeyCaller(identity.APIKey{ID: "able", UserID: me.UserID, AgentID: a.ID, Scopes: identity.Scopes{identity.ScopeAll}}, identity.RoleUser)
	lesser := able
	lesser.KeyID, lesser.Scopes = "lesser", identity.Scopes{identity.ScopeBillingRead}
	for name, do := range map[string]func(ctx context.Context, c identity.Caller) error{
		"key": func(ctx context.Context, c identity.Caller) error {
			_, err := r.Identity.CreateKey(ctx, c, a.ID, identity.NewKey{Name: "new", Scopes: []string{"*"}})
			return err
		},
		"run": func(ctx context.Context, c identity.Caller) error {
			_, err := r.Workflows.Execute(ctx, c, w.ID)
			return err
		},
		"workflow": func(ctx context.Context, c identity.Caller) error {
			_, err := r.Workflows.Create(ctx, c, "Flow", "", []scheduler.Step{step(a)})
			return err
		},
		"task": func(ctx context.Context, c identity.Caller) error {
			_, err := r.Tasks.Create(ctx, c, app.CreateTask{AgentID: a.ID, Title: "x"})
			return err
		},
		"reply": func(ctx context.Context, c identity.Caller) error {
			_, err := r.Tasks.Reply(ctx, c, open.ID, app.ReplyTask{Role: task.RoleUser, Parts: []task.Part{task.TextPart("x")}})
			return err
		},
		"rating": func(ctx context.Context, c identity.Caller) error {
			_, err := r.Trust.Rate(ctx, c, a.ID, app.RateAgent{TaskID: done.ID, Stars: 5})
			return err
		},
		"agent": func(ctx context.Context, c identity.Caller) error {
			_, err := r.Agents.Register(ctx, c, registry.Profile{Name: ptr("Agent"), Endpoint: ptr("http://x.example.com")})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := app.WithOnce(t.Context(), app.Once{Key: name, Render: func(any) ([]byte, error) { return []byte("secret"), nil }})
			require.NoError(t, do(ctx, able))
			var first *app.Replayed
			require.ErrorAs(t, do(ctx, able), &first)
			err := do(ctx, lesser)
			require.True(t, fault.Has(err, fault.CodeForbidden), "%v", err)
		})
	}
}

// A duplicate of something else than the answer is an error, and not tried for ever.
func TestADuplicateThatIsNoAnswer(t *testing.T) {
	t.Parallel()
	r := newRig(t, duplicates{memory.New()})
	owner := r.user()
	ctx := app.WithOnce(t.Context(), app.Once{Key: "k", Render: func(any) ([]byte, error) { return nil, nil }})
	_, err := r.Agents.Register(ctx, owner, registry.Profile{Name: ptr("Agent"), Endpoint: ptr("http://x.example.com"), Price: ptr(credits.Amount(0))})
	require.ErrorIs(t, err, ports.ErrDuplicate)
}

// duplicates finds a duplicate among what was left for later when an answer is kept.
type duplicates struct{ ports.Store }

type duplicateAnswers struct{ ports.AnswerStore }

func (duplicateAnswers) Put(context.Context, ports.KeptAnswer, time.Time) error {
	return ports.ErrDuplicate
}

func (s duplicates) Update(ctx context.Context, fn func(ctx context.Context, tx ports.Tx) error) error {
	return s.Store.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
		tx.Answers = duplicateAnswers{tx.Answers}
		return fn(ctx, tx)
	})
}
