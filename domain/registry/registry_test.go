package registry_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/registry"
)

var now = time.Date(2026, 3, 6, 12, 0, 0, 0, time.UTC)

func ptr[T any](v T) *T { return &v }

func agent(t *testing.T, p registry.Profile) registry.Agent {
	t.Helper()
	if p.Name == nil {
		p.Name = ptr("Agent")
	}
	if p.Endpoint == nil {
		p.Endpoint = ptr("https://agent.example.com")
	}
	a, err := registry.Register("id", "owner", p, 47.5, now)
	require.NoError(t, err)
	return a
}

func paths(t *testing.T, err error) []string {
	t.Helper()
	f, ok := fault.As(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, fault.CodeValidation, f.Code)
	var out []string
	for _, field := range f.Details["fields"].([]fault.Field) {
		out = append(out, field.Path)
	}
	return out
}

func TestRegisterNormalizes(t *testing.T) {
	a := agent(t, registry.Profile{
		Name: ptr("  My Agent "), Tags: ptr([]string{"NLP", "ai", "nlp"}),
		Skills: ptr([]registry.Skill{{ID: "s", Name: "Summarize", Tags: []string{"Text"}}}),
	})
	require.Equal(t, "My Agent", a.Name)
	require.Equal(t, []string{"nlp", "ai"}, a.Tags)
	require.Equal(t, "nlp", a.EffectiveCategory(), "without a category it is the first tag")
	require.Equal(t, []string{"ai", "nlp", "text"}, a.AllTags())
	require.JSONEq(t, "{}", string(a.Metadata))
}

func TestRegisterNamesEveryWrongField(t *testing.T) {
	_, err := registry.Register("id", "owner", registry.Profile{}, 0, now)
	require.Equal(t, []string{"name", "endpoint"}, paths(t, err))

	skill := registry.Skill{ID: "same", Name: "x"}
	_, err = registry.Register("id", "owner", registry.Profile{
		Name: ptr(""), Description: ptr(strings.Repeat("ü", 1001)), Endpoint: ptr("ftp://x"),
		Skills:   &[]registry.Skill{skill, skill, {ID: "", Name: strings.Repeat("x", 101), Tags: []string{""}}},
		Tags:     ptr([]string{strings.Repeat("x", 41)}),
		Metadata: json.RawMessage(`[1]`), Price: ptr(registry.MaxPrice + 1),
	}, 0, now)
	require.ElementsMatch(t, []string{
		"name", "description", "endpoint", "tags[0]", "skills[1].id", "skills[2].id", "skills[2].name", "skills[2].tags[0]", "metadata", "pricePerTask",
	}, paths(t, err))

	for _, endpoint := range []string{"", "x", "//host", "http://", "https://user:secret@host/", "http://h/" + strings.Repeat("x", 2048), "javascript:alert(1)"} {
		_, err := registry.Register("id", "owner", registry.Profile{Name: ptr("x"), Endpoint: ptr(endpoint)}, 0, now)
		require.Equal(t, []string{"endpoint"}, paths(t, err), endpoint)
	}
}

func TestChangeLeavesTheRest(t *testing.T) {
	a := agent(t, registry.Profile{Description: ptr("old"), Price: ptr(credits.Whole(3))})
	b, err := a.Change(registry.Profile{Name: ptr("New")}, now.Add(time.Hour))
	require.NoError(t, err)
	require.Equal(t, "New", b.Name)
	require.Equal(t, "old", b.Description)
	require.Equal(t, credits.Whole(3), b.Price)
	require.Equal(t, now.Add(time.Hour), b.UpdatedAt)
	require.Equal(t, now, b.CreatedAt)
}

func TestLivenessFollowsHeartbeats(t *testing.T) {
	a := agent(t, registry.Profile{})
	require.Equal(t, registry.Offline, a.StatusAt(now))
	a = a.Seen(json.RawMessage(`{}`), now)
	require.Equal(t, registry.Online, a.StatusAt(now.AddDate(1, 0, 0)), "one that never sent any does not go stale")

	a, err := a.Heartbeat("", nil, now)
	require.NoError(t, err)
	for after, want := range map[time.Duration]registry.Status{
		0: registry.Online, 89 * time.Second: registry.Online, 90 * time.Second: registry.Degraded,
		299 * time.Second: registry.Degraded, 300 * time.Second: registry.Offline,
	} {
		require.Equal(t, want, a.StatusAt(now.Add(after)), after)
	}
	require.Equal(t, registry.Online, a.Seen(nil, now).Status, "it speaks for itself, a probe does not")
	require.False(t, a.Probed())

	off, err := a.Heartbeat(registry.Offline, nil, now)
	require.NoError(t, err)
	require.Equal(t, registry.Offline, off.StatusAt(now))
	_, err = a.Heartbeat("sleepy", json.RawMessage(`3`), now)
	require.Equal(t, []string{"status", "metadata"}, paths(t, err))

	down, changed := a.Unreachable(now)
	require.True(t, changed)
	require.Equal(t, registry.Degraded, down.StatusAt(now))
	_, changed = off.Unreachable(now)
	require.False(t, changed, "never better")
}

func TestQuery(t *testing.T) {
	normal := func(q registry.Query) registry.Query {
		t.Helper()
		q, err := q.Normalize()
		require.NoError(t, err)
		return q
	}
	require.Equal(t, registry.SortTrust, normal(registry.Query{}).Sort)
	require.Equal(t, 20, normal(registry.Query{}).Limit)
	require.Equal(t, registry.SortRelevance, normal(registry.Query{Text: "pdf"}).Sort)
	_, err := registry.Query{Limit: 101, Offset: -1, Status: "asleep", Sort: "relevance", MinTrust: ptr(101.0)}.Normalize()
	require.ElementsMatch(t, []string{"limit", "offset", "status", "sort", "minTrustScore"}, paths(t, err))

	a := agent(t, registry.Profile{
		Name: ptr("Über-Setzer"), Description: ptr("translates 100% of documents"), Tags: ptr([]string{"nlp"}),
		Skills: ptr([]registry.Skill{{ID: "tr", Name: "Translate", Tags: []string{"language"}}}), Price: ptr(credits.Whole(5)),
	})
	for _, q := range []registry.Query{
		{},
		{SkillTags: []string{"x", "LANGUAGE"}},
		{Category: "NLP"},
		{Text: "über trans"},
		{SkillID: "tr"},
		{MaxPrice: ptr(credits.Whole(5))},
		{MinTrust: ptr(47.5)},
		{Status: registry.Offline},
		{Text: "100"},
	} {
		require.True(t, normal(q).Match(a, now), "%+v", q)
	}
	for _, q := range []registry.Query{
		{SkillTags: []string{"x"}},
		{Category: "language"},
		{Text: "setz er"},
		{Text: "slate"},
		{SkillID: "t"},
		{MaxPrice: ptr(credits.Amount(499))},
		{MinTrust: ptr(47.6)},
		{Status: registry.Online},
	} {
		require.False(t, normal(q).Match(a, now), "%+v", q)
	}
	a.DeletedAt = &now
	require.False(t, normal(registry.Query{}).Match(a, now))
}

func TestRelevanceWeighsWhereAWordStands(t *testing.T) {
	text := func(p registry.Profile) registry.SearchText { return agent(t, p).SearchText() }
	byName := text(registry.Profile{Name: ptr("PDF reader")})
	bySkill := text(registry.Profile{Skills: ptr([]registry.Skill{{ID: "p", Name: "pdf"}})})
	byText := text(registry.Profile{Description: ptr("reads pdfs")})
	words := []string{"pdf"}
	require.Greater(t, byName.Relevance(words), bySkill.Relevance(words))
	require.Greater(t, bySkill.Relevance(words), byText.Relevance(words))
	require.Positive(t, byText.Relevance(words))
	require.Zero(t, byName.Relevance([]string{"pdf", "nothing"}), "every word must be found")
}
