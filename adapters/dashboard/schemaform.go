package dashboard

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// schemaField is one field of a form that is made of a JSON Schema.
type schemaField struct {
	Name     string // of the form's field
	Key      string // of the input
	Label    string
	Hint     string
	Kind     string // text, long, number, integer, check, choice, list, json
	Choices  []string
	Default  string
	Required bool
	Min, Max string // of a number
	MaxLen   string
}

// maxSchemaFields is how many fields a form of a schema has at most; one with more is filled in as JSON.
const maxSchemaFields = 40

// schemaOf is what is understood of a schema. What is not is filled in as JSON, and the engine checks it all anyway.
type schemaOf struct {
	Type        any                        `json:"type"`
	Title       string                     `json:"title"`
	Description string                     `json:"description"`
	Enum        []any                      `json:"enum"`
	Const       any                        `json:"const"`
	Default     json.RawMessage            `json:"default"`
	Minimum     *float64                   `json:"minimum"`
	Maximum     *float64                   `json:"maximum"`
	MaxLength   *float64                   `json:"maxLength"`
	Format      string                     `json:"format"`
	Items       json.RawMessage            `json:"items"`
	Properties  map[string]json.RawMessage `json:"properties"`
	Required    []string                   `json:"required"`
	Ref         string                     `json:"$ref"`
}

func (s schemaOf) is(kind string) bool {
	switch t := s.Type.(type) {
	case string:
		return t == kind
	case []any:
		others := 0
		found := false
		for _, k := range t {
			found = found || k == kind
			if k != kind && k != "null" {
				others++
			}
		}
		return found && others == 0
	}
	return false
}

// fieldsOf makes the fields of a skill's input schema. ok is false if it is not simple enough: then the input is JSON.
func fieldsOf(raw json.RawMessage) (fields []schemaField, ok bool) {
	var s schemaOf
	if len(raw) == 0 || json.Unmarshal(raw, &s) != nil || s.Ref != "" || len(s.Properties) == 0 || len(s.Properties) > maxSchemaFields {
		return nil, false
	}
	if s.Type != nil && !s.is("object") {
		return nil, false
	}
	for i, key := range keysInOrder(raw) {
		var p schemaOf
		if json.Unmarshal(s.Properties[key], &p) != nil {
			p = schemaOf{} // true, false, or odd: any JSON
		}
		f := schemaField{
			Name: fmt.Sprintf("in-%d", i), Key: key, Label: orElse(p.Title, key), Hint: p.Description, Required: slices.Contains(s.Required, key),
		}
		bound := func(n *float64) string {
			if n == nil || math.IsInf(*n, 0) || math.IsNaN(*n) {
				return ""
			}
			return strconv.FormatFloat(*n, 'f', -1, 64)
		}
		f.Min, f.Max, f.MaxLen = bound(p.Minimum), bound(p.Maximum), bound(p.MaxLength)
		texts := len(p.Enum) > 0
		for _, e := range p.Enum {
			text, isText := e.(string)
			texts = texts && isText
			f.Choices = append(f.Choices, text)
		}
		var item schemaOf
		_ = json.Unmarshal(p.Items, &item) // none is fine
		switch {
		case p.Ref != "":
			f.Kind = "json"
		case texts:
			f.Kind = "choice"
		case p.is("string") && (p.Format == "" || p.Format == "textarea") && (p.MaxLength == nil || *p.MaxLength > 200) && !p.short():
			f.Kind = "long"
		case p.is("string"):
			f.Kind = "text"
		case p.is("integer"):
			f.Kind = "integer"
		case p.is("number"):
			f.Kind = "number"
		case p.is("boolean"):
			f.Kind = "check"
		case p.is("array") && item.is("string") && len(item.Enum) == 0:
			f.Kind = "list"
		default:
			f.Kind = "json"
		}
		f.Default = f.text(p.Default)
		fields = append(fields, f)
	}
	return fields, true
}

// short reports whether the words of the schema speak of something short, so that one line is enough.
func (s schemaOf) short() bool {
	words := strings.ToLower(s.Title + " " + s.Description)
	for _, w := range []string{"text", "document", "content", "message", "prompt", "body", "question", "code"} {
		if strings.Contains(words, w) {
			return false
		}
	}
	return s.MaxLength == nil
}

// keysInOrder are the names of a schema's properties in the order in which they are written.
func keysInOrder(raw json.RawMessage) []string {
	var outer struct {
		Properties json.RawMessage `json:"properties"`
	}
	if json.Unmarshal(raw, &outer) != nil {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(outer.Properties))
	if _, err := dec.Token(); err != nil {
		return nil
	}
	var keys []string
	for dec.More() {
		t, err := dec.Token()
		key, isKey := t.(string)
		if err != nil || !isKey {
			return keys
		}
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
		var skip json.RawMessage
		if dec.Decode(&skip) != nil {
			return keys
		}
	}
	return keys
}

// text is a value of the field as the form shows it.
func (f schemaField) text(raw json.RawMessage) string {
	if len(raw) == 0 || string(raw) == "null" {
		return ""
	}
	switch f.Kind {
	case "text", "long", "choice":
		var s string
		if json.Unmarshal(raw, &s) == nil {
			return s
		}
	case "list":
		var l []string
		if json.Unmarshal(raw, &l) == nil {
			return strings.Join(l, "\n")
		}
	case "check":
		if string(raw) == "true" {
			return "true"
		}
		return ""
	}
	return string(raw)
}

// fill puts an input into the form's values, as when a task is done again.
func fill(v url.Values, fields []schemaField, input json.RawMessage) {
	var in map[string]json.RawMessage
	if json.Unmarshal(input, &in) != nil {
		return
	}
	for _, f := range fields {
		v.Set(f.Name, f.text(in[f.Key]))
	}
}

// inputOf is what the form's fields say, as JSON. What is left empty is left out. bad says by field what cannot be.
func inputOf(v url.Values, fields []schemaField) (input json.RawMessage, bad map[string]string) {
	out := map[string]json.RawMessage{}
	bad = map[string]string{}
	put := func(key string, value any) {
		b, err := json.Marshal(value)
		if err == nil {
			out[key] = b
		}
	}
	for _, f := range fields {
		text := v.Get(f.Name)
		if f.Kind == "check" {
			put(f.Key, text != "")
			continue
		}
		if strings.TrimSpace(text) == "" {
			if f.Required {
				bad[f.Name] = "Please fill this in."
			}
			continue
		}
		switch f.Kind {
		case "text", "long", "choice":
			put(f.Key, strings.ReplaceAll(text, "\r\n", "\n"))
		case "integer", "number":
			n := strings.TrimSpace(text)
			if !json.Valid([]byte(n)) || strings.ContainsAny(n, `"[{tfn`) {
				bad[f.Name] = "Must be a number."
				continue
			}
			out[f.Key] = json.RawMessage(n)
		case "list":
			var lines []string
			for l := range strings.Lines(text) {
				if l = strings.TrimSpace(l); l != "" {
					lines = append(lines, l)
				}
			}
			put(f.Key, lines)
		default:
			if !json.Valid([]byte(text)) {
				bad[f.Name] = "Is no well-formed JSON."
				continue
			}
			out[f.Key] = json.RawMessage(text)
		}
	}
	input, err := json.Marshal(out)
	if err != nil {
		bad[""] = "The input is no well-formed JSON."
	}
	return input, bad
}
