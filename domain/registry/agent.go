// Package registry knows the agents: what they offer, whether they are alive, and how they are found.
package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
)

// Limits of an agent's registration.
const (
	MaxName        = 100    // characters, of agents and skills
	MaxDescription = 1_000  // characters, of agents and skills
	MaxEndpoint    = 2_048  // bytes
	MaxSkills      = 50     //
	MaxSkillID     = 64     // characters
	MaxTags        = 20     // of an agent, and of each skill
	MaxTag         = 40     // characters
	MaxMetadata    = 16_384 // bytes
	MaxSchema      = 65_536 // bytes, of each schema of a skill
	MaxPrice       = 1_000_000 * credits.Credit
	maxCategory    = MaxTag
	maxSkillBytes  = 512 << 10 // of all skills together
)

// Skill is one thing that an agent can do.
type Skill struct {
	ID           string
	Name         string
	Description  string
	Tags         []string
	InputSchema  json.RawMessage // JSON Schema, or nil
	OutputSchema json.RawMessage // JSON Schema, or nil
}

// Agent is a registered agent.
type Agent struct {
	ID            string
	OwnerUserID   string
	Name          string
	Description   string
	Endpoint      string
	Status        Status // as last reported or probed; StatusAt is what holds now
	Skills        []Skill
	Tags          []string
	Category      string          // as set by the owner; EffectiveCategory is what is shown and searched
	Metadata      json.RawMessage // a JSON object
	Price         credits.Amount  // a task
	TrustScore    float64         // kept by trust; a change of the agent never writes it
	TrustBound    float64         // what the score is likely not below; likewise
	Latency       time.Duration   // what a task usually takes, whole milliseconds; 0 as long as that is not known; likewise
	Featured      bool
	Card          json.RawMessage // the agent card as it was last fetched; nil if it never was
	LastHeartbeat *time.Time
	CreatedAt     time.Time
	UpdatedAt     time.Time
	DeletedAt     *time.Time
}

// EffectiveCategory is the category that was set, else the first tag.
func (a Agent) EffectiveCategory() string {
	if a.Category == "" && len(a.Tags) > 0 {
		return a.Tags[0]
	}
	return a.Category
}

// Skill returns the skill with the id.
func (a Agent) Skill(id string) (Skill, bool) {
	i := slices.IndexFunc(a.Skills, func(s Skill) bool { return s.ID == id })
	if i < 0 {
		return Skill{}, false
	}
	return a.Skills[i], true
}

// Profile is everything of an agent that its owner writes. In a registration Name and Endpoint must be set; in a change
// a nil field stays as it is.
type Profile struct {
	Name        *string
	Description *string
	Endpoint    *string
	Skills      *[]Skill
	Tags        *[]string
	Category    *string
	Metadata    json.RawMessage
	Price       *credits.Amount
}

// Register makes a new agent from the profile.
func Register(id, ownerUserID string, p Profile, trustScore float64, now time.Time) (Agent, error) {
	if p.Name == nil {
		p.Name = new(string) // which is refused
	}
	if p.Endpoint == nil {
		p.Endpoint = new(string)
	}
	a := Agent{
		ID: id, OwnerUserID: ownerUserID, Status: Offline, Metadata: json.RawMessage("{}"), Skills: []Skill{}, Tags: []string{},
		TrustScore: trustScore, CreatedAt: now,
	}
	return a.Change(p, now)
}

// Change returns the agent with the profile's fields put in, or a fault that names every wrong field.
func (a Agent) Change(p Profile, now time.Time) (Agent, error) {
	var bad fault.Fields
	if p.Name != nil {
		a.Name = strings.TrimSpace(*p.Name)
		checkLen(&bad, "name", a.Name, 1, MaxName)
	}
	if p.Description != nil {
		a.Description = *p.Description
		checkLen(&bad, "description", a.Description, 0, MaxDescription)
	}
	if p.Endpoint != nil {
		a.Endpoint = strings.TrimSpace(*p.Endpoint)
		checkEndpoint(&bad, a.Endpoint)
	}
	if p.Tags != nil {
		a.Tags = normalizeTags(&bad, "tags", *p.Tags)
	}
	if p.Category != nil {
		a.Category = strings.ToLower(strings.TrimSpace(*p.Category))
		checkLen(&bad, "category", a.Category, 0, maxCategory)
	}
	if p.Skills != nil {
		a.Skills = normalizeSkills(&bad, *p.Skills)
	}
	if p.Metadata != nil {
		a.Metadata = p.Metadata
		bad.Check(isObject(a.Metadata), "metadata", "must be a JSON object")
		bad.Check(len(a.Metadata) <= MaxMetadata, "metadata", "must be at most %d KiB", MaxMetadata>>10)
	}
	if p.Price != nil {
		a.Price = *p.Price
		bad.Check(a.Price >= 0 && a.Price <= MaxPrice, "pricePerTask", "must be 0 to %s", MaxPrice)
	}
	a.UpdatedAt = now
	return a, bad.Err()
}

func checkLen(bad *fault.Fields, path, s string, least, most int) {
	n := utf8.RuneCountInString(s)
	switch {
	case n < least && least == 1:
		bad.Add(path, "must not be empty")
	case n < least || n > most:
		bad.Add(path, "must be at most %d characters long", most)
	}
}

func checkEndpoint(bad *fault.Fields, s string) {
	u, err := url.Parse(s)
	switch {
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "":
		bad.Add("endpoint", "must be an http or https URL")
	case u.User != nil:
		bad.Add("endpoint", "must not carry a user name or password")
	case len(s) > MaxEndpoint:
		bad.Add("endpoint", "must be at most %d characters long", MaxEndpoint)
	}
}

func normalizeTags(bad *fault.Fields, path string, in []string) []string {
	out := make([]string, 0, len(in))
	for i, tag := range in {
		tag = strings.ToLower(strings.TrimSpace(tag))
		n := utf8.RuneCountInString(tag)
		bad.Check(n >= 1 && n <= MaxTag, fmt.Sprintf("%s[%d]", path, i), "must be 1 to %d characters long", MaxTag)
		bad.Check(!strings.Contains(tag, ","), fmt.Sprintf("%s[%d]", path, i), "must not contain a comma")
		if !slices.Contains(out, tag) {
			out = append(out, tag)
		}
	}
	bad.Check(len(out) <= MaxTags, path, "must be at most %d", MaxTags)
	return out
}

func normalizeSkills(bad *fault.Fields, in []Skill) []Skill {
	bad.Check(len(in) <= MaxSkills, "skills", "must be at most %d", MaxSkills)
	out := make([]Skill, 0, len(in))
	seen := map[string]bool{}
	size := 0
	for i, s := range in {
		path := fmt.Sprintf("skills[%d]", i)
		checkLen(bad, path+".id", s.ID, 1, MaxSkillID)
		bad.Check(!seen[s.ID], path+".id", "is used by an earlier skill of this agent")
		seen[s.ID] = true
		s.Name = strings.TrimSpace(s.Name)
		checkLen(bad, path+".name", s.Name, 1, MaxName)
		checkLen(bad, path+".description", s.Description, 0, MaxDescription)
		s.Tags = normalizeTags(bad, path+".tags", s.Tags)
		bad.Check(len(s.InputSchema) <= MaxSchema, path+".inputSchema", "must be at most %d KiB", MaxSchema>>10)
		bad.Check(len(s.OutputSchema) <= MaxSchema, path+".outputSchema", "must be at most %d KiB", MaxSchema>>10)
		size += len(s.InputSchema) + len(s.OutputSchema)
		out = append(out, s)
	}
	bad.Check(size <= maxSkillBytes, "skills", "schemas must be at most %d KiB together", maxSkillBytes>>10)
	return out
}

func isObject(raw json.RawMessage) bool {
	raw = bytes.TrimSpace(raw)
	return len(raw) > 1 && raw[0] == '{' && json.Valid(raw)
}

// NotFound is the fault of an agent that does not exist.
func NotFound(id string) *fault.Error { return fault.NotFoundf(fault.CodeAgentNotFound, "Agent", id) }
