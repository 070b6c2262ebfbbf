package dashboard

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/registry"
)

const marketRows = 24

type marketView struct {
	Agents app.List[registry.Agent]
	Pages  listing
	Filter form
}

// narrowed reports whether anything was asked for.
func (v marketView) narrowed() bool {
	for _, k := range []string{"q", "tag", "status", "trust", "price", "within", "category"} {
		if v.Filter.Get(k) != "" {
			return true
		}
	}
	return false
}

func (d *dashboard) market(x *exchange) error {
	q := x.URL.Query()
	v := marketView{Filter: newForm(q)}
	ask := registry.Query{
		Text: strings.TrimSpace(q.Get("q")), Category: q.Get("category"), Status: registry.Status(q.Get("status")), Sort: registry.Sort(q.Get("sort")), Limit: marketRows,
		Offset: pageOf(q, marketRows).Offset,
	}
	if tag := q.Get("tag"); tag != "" {
		ask.SkillTags = []string{tag}
	}
	if s := q.Get("trust"); s != "" {
		n, err := strconv.ParseFloat(s, 64)
		if err != nil {
			v.Filter.Bad["trust"] = "Must be a number, 0 to 100."
		} else {
			ask.MinTrust = &n
		}
	}
	if s := q.Get("price"); s != "" {
		a, err := credits.Parse(s)
		if err != nil {
			v.Filter.Bad["price"] = "Must be a number of credits."
		} else {
			ask.MaxPrice = &a
		}
	}
	if s := q.Get("within"); s != "" {
		i := slices.IndexFunc(withins(), func(d time.Duration) bool { return d.String() == s })
		if i < 0 {
			v.Filter.Bad["within"] = "Choose one of these."
		} else {
			ask.MaxLatency = &withins()[i]
		}
	}
	if ask.Sort == registry.SortRelevance && len(ask.Words()) == 0 {
		ask.Sort = ""
	}
	status := http.StatusOK
	var err error
	v.Agents, err = d.engine.Market.Search(x.Context(), x.caller, ask)
	if err != nil {
		ok := v.Filter.refuse(err, func(path string) string {
			return map[string]string{"minTrustScore": "trust", "maxPrice": "price", "q": "q"}[path]
		})
		if !ok {
			return err
		}
		status = http.StatusBadRequest
	}
	v.Pages = listingOf(v.Agents, x)
	d.show(x, status, marketPage(d.page(x, "Marketplace", "market"), v))
	return nil
}

// withins are the times that one may ask for to be answered within.
func withins() []time.Duration {
	return []time.Duration{time.Second, 10 * time.Second, time.Minute, 10 * time.Minute}
}

// about is a length of time in words, to two digits.
func about(d time.Duration) string {
	n, unit := d.Seconds(), "s"
	switch {
	case d < time.Second:
		n, unit = float64(d.Milliseconds()), "ms"
	case d >= time.Hour:
		n, unit = d.Hours(), "h"
	case d >= time.Minute:
		n, unit = d.Minutes(), "min"
	}
	if n >= 10 {
		return fmt.Sprintf("%.0f %s", n, unit)
	}
	return strconv.FormatFloat(math.Round(n*10)/10, 'f', -1, 64) + " " + unit
}

type listingView struct {
	app.Listing
	Own      bool
	Examples []example
}

// example is a call of an agent in one language.
type example struct{ Name, ID, Text string }

func (d *dashboard) marketAgent(x *exchange) error {
	l, err := d.engine.Market.Agent(x.Context(), x.caller, x.PathValue("id"))
	if err != nil {
		return err
	}
	v := listingView{Listing: l, Own: x.caller.Known() && l.OwnerUserID == x.caller.UserID, Examples: examples(d.base(x), l.Agent)}
	d.show(x, http.StatusOK, listingPage(d.page(x, l.Name, "market"), v))
	return nil
}

// base is where the server is reached, for examples.
func (d *dashboard) base(x *exchange) string {
	if u, err := url.Parse(d.opt.PublicURL); err == nil && u.Host != "" {
		return strings.TrimSuffix(d.opt.PublicURL, "/")
	}
	return "https://nexus.example.com" // never what the request says: its headers are the sender's to choose
}

// examples are calls that give the agent a task.
func examples(base string, a registry.Agent) []example {
	body := map[string]any{"assignedAgentId": a.ID, "title": "A first task"}
	if len(a.Skills) > 0 {
		s := a.Skills[0]
		body["skillId"] = s.ID
		body["title"] = shorten(s.Name, 100)
		if in := exampleInput(s.InputSchema); len(in) > 0 {
			body["input"] = in
		}
	}
	indented := func(prefix string) string {
		b, err := json.MarshalIndent(body, prefix, "  ")
		if err != nil {
			return "{}"
		}
		return string(b)
	}
	shell := strings.ReplaceAll(indented(""), "'", `'\''`)
	goText := indented("")
	quoted := "`" + goText + "`"
	if strings.Contains(goText, "`") {
		quoted = strconv.Quote(goText)
	}
	return []example{
		{"curl", "curl", fmt.Sprintf("curl %s/api/v1/tasks \\\n  -H \"Authorization: Bearer $NEXUS_KEY\" \\\n  -H 'Content-Type: application/json' \\\n  -d '%s'", base, shell)},
		{"Go", "go", fmt.Sprintf(`package main

import (
	"io"
	"log"
	"net/http"
	"os"
	"strings"
)

func main() {
	body := %s
	req, err := http.NewRequest("POST", %q, strings.NewReader(body))
	if err != nil {
		log.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+os.Getenv("NEXUS_KEY"))
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	io.Copy(os.Stdout, resp.Body)
}`, quoted, base+"/api/v1/tasks")},
		{"JavaScript", "js", fmt.Sprintf(`const answer = await fetch(%s, {
  method: "POST",
  headers: {
    "Authorization": `+"`Bearer ${process.env.NEXUS_KEY}`"+`,
    "Content-Type": "application/json",
  },
  body: JSON.stringify(%s),
});
console.log(await answer.json());`, strconv.Quote(base+"/api/v1/tasks"), indented("  "))},
	}
}

// exampleInput is an input that a simple schema takes.
func exampleInput(schema json.RawMessage) map[string]any {
	fields, ok := fieldsOf(schema)
	if !ok {
		return nil
	}
	out := map[string]any{}
	for _, f := range fields {
		if !f.Required && len(fields) > 3 {
			continue
		}
		switch f.Kind {
		case "text", "long":
			out[f.Key] = orElse(f.Default, "…")
		case "choice":
			if len(f.Choices) > 0 {
				out[f.Key] = orElse(f.Default, f.Choices[0])
			}
		case "integer", "number":
			n, err := strconv.ParseFloat(orElse(f.Default, orElse(f.Min, "1")), 64)
			if err == nil {
				out[f.Key] = n
			}
		case "check":
			out[f.Key] = f.Default == "true"
		case "list":
			out[f.Key] = []string{"…"}
		}
	}
	return out
}

func tagQuery(tag string) string { return url.Values{"tag": {tag}}.Encode() }
