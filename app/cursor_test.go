package app_test

import (
	"encoding/base64"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/registry"
)

func TestCursorsGoOnWhileAgentsComeAndGo(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		owner := r.user()
		var want []string
		for i := range 7 {
			a := r.agent(owner, credits.Whole(int64(i)), nil)
			want = append(want, a.ID)
		}
		q := registry.Query{Sort: registry.SortPrice, Limit: 2}
		var got []string
		cursor := ""
		for {
			l, err := r.Agents.Discover(t.Context(), owner, q, cursor)
			require.NoError(t, err)
			for _, a := range l.Items {
				got = append(got, a.ID)
			}
			if cursor = l.Next; cursor == "" {
				break
			}
			require.Less(t, len(got), 20)
			r.agent(owner, 0, nil) // before all that is to come
			q.Limit++              // may change
		}
		require.Equal(t, want, got[len(got)-7:], "none again, none left out")
		require.Len(t, got, 7)
	})
}

func TestACursorIsOfOneListAndQuestionOnly(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		owner := r.user()
		a := r.agent(owner, 0, nil)
		for range 4 {
			r.agent(owner, 0, nil)
		}
		q := registry.Query{Limit: 1, Status: registry.Offline}
		l, err := r.Agents.Discover(t.Context(), owner, q, "")
		require.NoError(t, err)
		require.NotEmpty(t, l.Next)
		require.Equal(t, 5, l.Total)
		refused := func(q registry.Query, cursor string) {
			t.Helper()
			_, err := r.Agents.Discover(t.Context(), owner, q, cursor)
			r.refused(err, fault.CodeValidation)
		}
		goes := func(cursor string) {
			t.Helper()
			_, err := r.Agents.Discover(t.Context(), owner, q, cursor)
			require.NoError(t, err)
		}
		goes(l.Next)
		raw, err := base64.RawURLEncoding.DecodeString(l.Next)
		require.NoError(t, err)
		for i := range raw { // every bit of it counts
			raw[i] ^= 1
			refused(q, base64.RawURLEncoding.EncodeToString(raw))
			raw[i] ^= 1
		}
		for _, cursor := range []string{"x", "=", "' OR 1=1 --", l.Next[:20], l.Next + "AA", l.Next[:len(l.Next)-1], base64.RawURLEncoding.EncodeToString(raw[16:]), fmt.Sprintf("%0600d", 0)} {
			refused(q, cursor)
		}
		for _, other := range []registry.Query{{Limit: 1}, {Limit: 1, Status: registry.Offline, Sort: registry.SortPrice}, {Limit: 1, Status: registry.Offline, SkillTags: []string{"x"}}, {Limit: 1, Status: registry.Offline, Offset: 1}} {
			refused(other, l.Next)
		}
		_, err = r.Trust.History(t.Context(), owner, a.ID, app.Page{Cursor: l.Next})
		r.refused(err, fault.CodeValidation)

		r.clock.skip(24*time.Hour - time.Minute)
		goes(l.Next)
		r.clock.skip(2 * time.Minute)
		refused(q, l.Next)
	})
}

func TestACursorIsGoodInEveryProcessOnTheStore(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		owner := r.user()
		for range 3 {
			r.agent(owner, 0, nil)
		}
		var engines []*app.Engine
		for range 4 {
			r.with()
			engines = append(engines, r.Engine)
		}
		made := make([]string, len(engines))
		var all sync.WaitGroup
		for i, e := range engines { // the key is made by all of them at once
			all.Go(func() {
				l, err := e.Agents.Discover(t.Context(), owner, registry.Query{Limit: 1}, "")
				if err != nil {
					t.Error(err)
					return
				}
				made[i] = l.Next
			})
		}
		all.Wait()
		r.with()
		for _, e := range append(engines, r.Engine) {
			for _, cursor := range made {
				_, err := e.Agents.Discover(t.Context(), owner, registry.Query{Limit: 1}, cursor)
				require.NoError(t, err)
			}
		}
	})
}

func TestHistoryGoesOnWhileEventsAreAdded(t *testing.T) {
	everyStore(t, func(t *testing.T, r *rig) {
		r.work()
		asker, owner := r.user(), r.user()
		a := r.agent(owner, 0, echo)
		for range 5 {
			r.ended(asker, r.create(asker, a).ID)
		}
		all, err := r.Trust.History(t.Context(), asker, a.ID, app.Page{})
		require.NoError(t, err)
		require.Empty(t, all.Next)
		require.Len(t, all.Items, 5)
		got := all.Items[:0:0]
		page := app.Page{Limit: ptr(2)}
		for {
			l, err := r.Trust.History(t.Context(), asker, a.ID, page)
			require.NoError(t, err)
			got = append(got, l.Items...)
			if page.Cursor = l.Next; page.Cursor == "" {
				break
			}
			r.ended(asker, r.create(asker, a).ID)
			require.Less(t, len(got), 20)
		}
		require.Equal(t, all.Items, got)
		l, err := r.Trust.History(t.Context(), asker, a.ID, app.Page{Limit: ptr(1)})
		require.NoError(t, err)
		_, err = r.Trust.History(t.Context(), asker, r.agent(owner, 0, nil).ID, app.Page{Cursor: l.Next})
		r.refused(err, fault.CodeValidation)
		_, err = r.Trust.History(t.Context(), asker, a.ID, app.Page{Cursor: l.Next, Offset: 1})
		r.refused(err, fault.CodeValidation)
	})
}
