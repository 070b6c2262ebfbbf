package portstest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/registry"
	"github.com/nexus-protocol/nexus/ports"
)

var agentChecks = []Check{
	{"agents/come back as they were", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		full := registry.Agent{
			ID: newID(), OwnerUserID: w.owner.ID, Name: "Ünïcode 𝒩ame", Description: "two\nlines", Endpoint: "https://a.example.com/x?y=z", Status: registry.Degraded,
			Skills: []registry.Skill{
				{
					ID: "s", Name: "Skill", Description: "d", Tags: []string{"a", "b"},
					InputSchema: json.RawMessage(`{"type":"object","maximum":1e400}`), OutputSchema: json.RawMessage(`true`),
				},
				{ID: "t", Name: "Other", Tags: []string{}},
			},
			Tags: []string{"z", "y"}, Category: "set", Metadata: json.RawMessage(`{"n":12345678901234567890,"s":"\u00e9"}`), Price: 950, TrustScore: 47.5, TrustBound: 40.5, Latency: 2300 * time.Millisecond,
			Featured: true, Card: json.RawMessage(`{"name":"x"}`), LastHeartbeat: ptr(base.Add(time.Second)), CreatedAt: base, UpdatedAt: base.Add(time.Minute),
			DeletedAt: ptr(base.Add(time.Hour)),
		}
		err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Agents.Insert(ctx, full) })
		got, err2 := s.Read().Agents.Get(ctx, full.ID)
		plain, err3 := s.Read().Agents.Get(ctx, w.agent.ID)
		_, missing := s.Read().Agents.Get(ctx, "unknown")
		return first(err, err2, err3, same("full", got, full), same("plain", plain, w.agent), wantCode("unknown", missing, fault.CodeAgentNotFound))
	})},
	{"agents/what is handed out is not what is kept", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		a := agentOf(w.owner.ID)
		a.Tags = []string{"kept"}
		err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Agents.Insert(ctx, a) })
		a.Tags[0], a.Metadata[0] = "changed", 'x'
		got, err2 := s.Read().Agents.Get(ctx, a.ID)
		if err := first(err, err2, same("after changing what was put in", got.Tags[0], "kept"), same("metadata", string(got.Metadata), "{}")); err != nil {
			return err
		}
		got.Tags[0] = "changed"
		got, err = s.Read().Agents.Get(ctx, a.ID)
		return first(err, same("after changing what was got", got.Tags[0], "kept"))
	})},
	{"agents/save leaves what trust keeps", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		changed := w.agent
		changed.Name, changed.TrustScore, changed.TrustBound, changed.Latency, changed.Card = "New", 99, 98, time.Second, json.RawMessage(`{}`)
		unknown := agentOf(w.owner.ID)
		err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Agents.Save(ctx, changed) })
		missing := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Agents.Save(ctx, unknown) })
		got, err2 := s.Read().Agents.Get(ctx, w.agent.ID)
		changed.TrustScore, changed.TrustBound, changed.Latency = w.agent.TrustScore, w.agent.TrustBound, w.agent.Latency
		return first(err, err2, same("agent", got, changed), wantCode("unknown", missing, fault.CodeAgentNotFound))
	})},
	{"agents/list of an owner", with(func(ctx context.Context, s ports.Store, _ Traits, w world) error {
		var mine []string
		err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
			mine = nil
			for i := range 7 {
				a := agentOf(w.asker.ID)
				a.CreatedAt = base.Add(time.Duration(i/2) * time.Second)
				if i == 3 {
					a.DeletedAt = &base
				} else {
					mine = append(mine, a.ID)
				}
				if err := tx.Agents.Insert(ctx, a); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		slices.Reverse(mine)
		var got []string
		for offset := 0; offset < 8; offset += 2 {
			page, total, err := s.Read().Agents.ListByOwner(ctx, w.asker.ID, ports.Page{Limit: 2, Offset: offset})
			if err := first(err, same("total", total, 6)); err != nil {
				return err
			}
			for _, a := range page {
				got = append(got, a.ID)
			}
		}
		return same("newest first, page by page", got, mine)
	})},
	{"agents/discovery agrees with the domain", with(discovery)},
}

// market is a spread of agents, with ties in everything that is sorted by.
func market(owner string) []registry.Agent {
	statuses := registry.Statuses()
	beats := []time.Duration{-time.Second, -registry.DegradedAfter, -registry.DegradedAfter + time.Microsecond, -registry.OfflineAfter, -registry.OfflineAfter + time.Microsecond}
	words := []string{"PDF reader", "Über setzer", "percent 100", "under_score", "naïve Überblick", "reader of pdfs"}
	var out []registry.Agent
	for i := range 60 {
		a := agentOf(owner)
		a.Status = statuses[i%3]
		if i%4 != 0 {
			a.LastHeartbeat = ptr(base.Add(beats[i%5]))
		}
		a.Name, a.Description = words[i%6], words[(i/2)%6]
		a.Price, a.TrustScore = credits.Amount(i%5*100), float64(i%7*10)+0.5
		a.CreatedAt = base.Add(time.Duration(i/4) * time.Second)
		a.Tags = []string{fmt.Sprintf("tag%d", i%4)}
		a.Latency = time.Duration(i%6*500) * time.Millisecond // of a sixth it is not known
		if i%3 == 0 {
			a.Category = "special"
		}
		if i%2 == 0 {
			a.Skills = []registry.Skill{{ID: fmt.Sprintf("skill%d", i%6), Name: words[(i+3)%6], Tags: []string{fmt.Sprintf("tag%d", 4+i%3), "shared"}}}
		}
		if i%11 == 0 {
			a.DeletedAt = &base
		}
		out = append(out, a)
	}
	return out
}

func discovery(ctx context.Context, s ports.Store, _ Traits, w world) error {
	agents := market(w.owner.ID)
	err := s.Update(ctx, func(ctx context.Context, tx ports.Tx) error {
		for _, a := range agents {
			if err := tx.Agents.Insert(ctx, a); err != nil {
				return err
			}
		}
		// A change of tags and skills changes what an agent is found by.
		agents[1].Tags, agents[1].Skills = []string{"moved"}, []registry.Skill{{ID: "moved", Name: "moved", Tags: []string{}}}
		agents[1].Name = "Moved"
		return tx.Agents.Save(ctx, agents[1])
	})
	if err != nil {
		return err
	}
	agents = append(agents, w.agent)
	queries := []registry.Query{
		{},
		{SkillTags: []string{"tag1"}},
		{SkillTags: []string{"tag5", "shared", "tag5"}},
		{SkillTags: []string{"tag1", "moved"}},
		{Category: "special"},
		{Category: "tag2"},
		{MinTrust: ptr(30.5)},
		{MaxPrice: ptr(credits.Amount(200))},
		{MaxLatency: ptr(time.Hour)},
		{MaxLatency: ptr(time.Second)},
		{MaxLatency: ptr(time.Second - time.Nanosecond)},
		{MaxLatency: ptr(499 * time.Millisecond)},
		{MaxLatency: ptr(time.Second), Category: "special", MinTrust: ptr(10.0)},
		{MaxLatency: ptr(1500 * time.Millisecond), SkillTags: []string{"tag1"}},
		{MaxLatency: ptr(1500 * time.Millisecond), SkillID: "skill2"},
		{MaxLatency: ptr(1500 * time.Millisecond), Text: "r", MaxPrice: ptr(credits.Amount(300))},
		{SkillID: "skill2"},
		{SkillID: "moved"},
		{SkillTags: []string{"nothing"}},
		{Text: "pdf"},
		{Text: "über"},
		{Text: "ÜBER se"},
		{Text: "100"},
		{Text: "%"},
		{Text: "under"},
		{Text: "naïve read"},
		{Text: "reader pdf"},
		{Text: "agent does"},
		{SkillTags: []string{"shared"}, MinTrust: ptr(10.0), MaxPrice: ptr(credits.Amount(300)), Text: "r", Category: "special"},
	}
	for _, status := range registry.Statuses() {
		queries = append(queries, registry.Query{Status: status}, registry.Query{Status: status, Category: "special"}, registry.Query{Status: status, MaxLatency: ptr(time.Second)})
	}
	for _, q := range queries {
		for _, sort := range []registry.Sort{"", registry.SortTrust, registry.SortPrice, registry.SortNewest, registry.SortRelevance} {
			q.Sort, q.Limit = sort, 7
			q, err := q.Normalize()
			if err != nil {
				continue // relevance without a text
			}
			for _, now := range []time.Time{base, base.Add(registry.DegradedAfter), base.Add(-time.Hour)} {
				if err := sameMarket(ctx, s, agents, q, now); err != nil {
					return fmt.Errorf("%+v at %s: %w", q, now, err)
				}
			}
		}
	}
	return nil
}

func sameMarket(ctx context.Context, s ports.Store, agents []registry.Agent, q registry.Query, now time.Time) error {
	var found []registry.Agent
	for _, a := range agents {
		if q.Match(a, now) {
			found = append(found, a)
		}
	}
	slices.SortFunc(found, q.Compare)
	want := make([]string, len(found))
	for i, a := range found {
		want[i] = a.ID
	}
	got := []string{}
	for q.Offset = 0; q.Offset <= len(want); q.Offset += q.Limit {
		page, total, err := s.Read().Agents.Discover(ctx, q, now)
		if err := first(err, same("total", total, len(want))); err != nil {
			return err
		}
		for _, a := range page {
			got = append(got, a.ID)
		}
	}
	if err := same("found, page by page", got, want); err != nil {
		return err
	}
	got = []string{}
	for q.Offset, q.Limit = 0, 5; len(got) <= len(want); {
		page, total, err := s.Read().Agents.Discover(ctx, q, now)
		if err := first(err, same("total after a place", total, len(want))); err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		for _, a := range page {
			got = append(got, a.ID)
		}
		q.After = ptr(q.Place(page[len(page)-1]))
	}
	return same("found, each page after the last one's place", got, want)
}
