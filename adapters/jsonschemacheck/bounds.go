package jsonschemacheck

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/message"

	"github.com/nexus-protocol/nexus/ports"
)

// The library bounds nothing: a schema of some hundred bytes can double the work at each of its levels, one number can
// take it a gigabyte. These limits are far above what schemas of tasks are like.
const (
	maxDepth   = 64        // of brackets, in schemas and in values
	maxNodes   = 4_000     // objects and booleans of a schema; compiling takes their square
	maxDigits  = 400       // of a number, and of what its exponent makes it
	maxPattern = 1_000     // bytes of one regular expression
	maxProgram = 20_000    // instructions of all regular expressions of a schema
	maxWork    = 1_000_000 // of one validation, some tenths of a second
)

// oversized finds a place of v that no work should be spent on.
func oversized(v any, at []string) (place []string, why string) {
	if len(at) > maxDepth {
		return at, fmt.Sprintf("is nested deeper than %d", maxDepth)
	}
	switch v := v.(type) {
	case map[string]any:
		for name, e := range v {
			if place, why = oversized(e, append(at, name)); why != "" {
				return place, why
			}
		}
	case []any:
		for i, e := range v {
			if place, why = oversized(e, append(at, strconv.Itoa(i))); why != "" {
				return place, why
			}
		}
	case json.Number:
		s := string(v)
		exp := 0
		if i := strings.IndexAny(s, "eE"); i >= 0 {
			var err error
			if exp, err = strconv.Atoi(s[i+1:]); err != nil {
				exp = maxDigits + 1
			}
		}
		if len(s) > maxDigits || max(exp, -exp) > maxDigits {
			return at, fmt.Sprintf("is a number of more than %d digits", maxDigits)
		}
	}
	return nil, ""
}

// nodes is how many schemas a document may have at most.
func nodes(v any) int {
	n := 0
	switch v := v.(type) {
	case bool:
		n = 1
	case map[string]any:
		n = 1
		for _, e := range v {
			n += nodes(e)
		}
	case []any:
		for _, e := range v {
			n += nodes(e)
		}
	}
	return n
}

// meter counts down the work of one validation.
type meter struct{ left int }

// exhausted is panicked with when the work is used up: the library knows no other way out.
type exhausted struct{}

func (m *meter) charge(work int) {
	if m.left -= work; m.left < 0 {
		panic(exhausted{})
	}
}

// bounded makes a compiled schema count its work, and checks that it is one that can.
func bounded(root *jsonschema.Schema, m *meter) error {
	seen := map[*jsonschema.Schema]bool{} // false while its own value's schemas are looked through
	var same func(*jsonschema.Schema) error
	var later []*jsonschema.Schema
	same = func(s *jsonschema.Schema) error {
		if done, known := seen[s]; known {
			if !done {
				return errors.New("refers to itself without going deeper into the value, at " + strings.TrimPrefix(s.Location, home))
			}
			return nil
		}
		if !strings.HasPrefix(s.Location, home+"#") {
			return errors.New("refers to another document, " + s.Location)
		}
		if s.DynamicRef != nil && s.DynamicRef.Anchor != "" {
			return errors.New("uses $dynamicRef with an anchor, which is not supported")
		}
		seen[s] = false
		here, below := children(s)
		for _, c := range here {
			if err := same(c); err != nil {
				return err
			}
		}
		later = append(later, below...)
		seen[s] = true
		m.attach(s, len(here))
		return nil
	}
	later = append(later, root)
	for len(later) > 0 {
		s := later[0]
		later = later[1:]
		if err := same(s); err != nil {
			return err
		}
	}
	return nil
}

// children are the schemas that s applies to its own value, and those for what is in the value.
func children(s *jsonschema.Schema) (here, below []*jsonschema.Schema) {
	if s.DynamicRef != nil {
		here = append(here, s.DynamicRef.Ref)
	}
	here = append(here, s.Ref, s.RecursiveRef, s.Not, s.If, s.Then, s.Else)
	here = slices.Concat(here, s.AllOf, s.AnyOf, s.OneOf, slices.Collect(maps.Values(s.DependentSchemas)))
	for _, d := range s.Dependencies {
		if d, ok := d.(*jsonschema.Schema); ok {
			here = append(here, d)
		}
	}
	below = slices.Concat(s.PrefixItems, slices.Collect(maps.Values(s.Properties)), slices.Collect(maps.Values(s.PatternProperties)))
	below = append(below, s.PropertyNames, s.UnevaluatedProperties, s.Contains, s.Items2020, s.UnevaluatedItems)
	for _, either := range []any{s.AdditionalProperties, s.Items, s.AdditionalItems} {
		switch either := either.(type) {
		case *jsonschema.Schema:
			below = append(below, either)
		case []*jsonschema.Schema:
			below = append(below, either...)
		}
	}
	none := func(s *jsonschema.Schema) bool { return s == nil }
	return slices.DeleteFunc(here, none), slices.DeleteFunc(below, none)
}

// attach lets s charge for its work before it does it, and takes over what the library would do without measure. The
// format's place is the one that is asked first; formats themselves are not asserted.
func (m *meter) attach(s *jsonschema.Schema, here int) {
	const step = 5
	fixed := step * (1 + here)
	for _, names := range s.DependentRequired {
		fixed += len(names)
	}
	fixed += len(s.Required)
	s.Format = &jsonschema.Format{Validate: func(v any) error {
		size := 0
		switch v := v.(type) {
		case map[string]any:
			size = len(v)
		case []any:
			size = len(v)
		case string:
			size = len(v) / 256
		}
		m.charge(fixed + size*(1+here))
		return nil
	}}
	e := &exact{meter: m, unique: s.UniqueItems, names: s.PropertyNames}
	if s.Enum != nil {
		e.enum, e.notOne = map[string]bool{}, &kind.Enum{Want: s.Enum.Values}
		for _, v := range s.Enum.Values {
			e.enum[canonical(nil, v)] = true
		}
	}
	if s.Const != nil {
		e.constant, e.notIt = canonical(nil, *s.Const), &kind.Const{Want: *s.Const}
	}
	if s.Enum != nil || s.Const != nil || e.unique || e.names != nil {
		s.Enum, s.Const, s.UniqueItems, s.PropertyNames = nil, nil, false, nil
		s.Extensions = append(s.Extensions, e)
	}
}

// exact is enum, const, uniqueItems and propertyNames.
type exact struct {
	meter    *meter
	enum     map[string]bool
	notOne   jsonschema.ErrorKind // of enum, nil without one
	constant string
	notIt    jsonschema.ErrorKind // than constant, nil without one
	unique   bool
	names    *jsonschema.Schema
}

// Validate implements jsonschema.SchemaExt.
func (e *exact) Validate(ctx *jsonschema.ValidatorContext, v any) {
	if e.notOne != nil && !e.enum[canonical(e.meter, v)] {
		ctx.AddError(e.notOne)
	}
	if e.notIt != nil && e.constant != canonical(e.meter, v) {
		ctx.AddError(e.notIt)
	}
	switch v := v.(type) {
	case []any:
		if !e.unique {
			return
		}
		seen := make(map[string]int, len(v))
		for i, item := range v {
			key := canonical(e.meter, item)
			if j, twice := seen[key]; twice {
				ctx.AddError(&kind.UniqueItems{Duplicates: [2]int{j, i}})
				return
			}
			seen[key] = i
		}
	case map[string]any:
		if e.names == nil {
			return
		}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			e.meter.charge(1)
			var bad *jsonschema.ValidationError
			if errors.As(e.names.Validate(name), &bad) {
				ctx.AddError(&badName{name, leaves(bad, name)})
			}
		}
	}
}

// badName is the kind of a property whose name breaks propertyNames.
type badName struct {
	name string
	why  []ports.SchemaFault
}

// KeywordPath implements jsonschema.ErrorKind.
func (*badName) KeywordPath() []string { return []string{"propertyNames"} }

// LocalizedString implements jsonschema.ErrorKind.
func (b *badName) LocalizedString(*message.Printer) string {
	out := "the property name " + strconv.Quote(cut(b.name)) + " is not allowed"
	if len(b.why) > 0 {
		out += ": " + b.why[0].Message
	}
	return out
}

// canonical is the same for equal values and for no others.
func canonical(m *meter, v any) string {
	var b bytes.Buffer
	var put func(any)
	put = func(v any) {
		before := b.Len()
		switch v := v.(type) {
		case nil:
			b.WriteString("null")
		case bool:
			b.WriteString(strconv.FormatBool(v))
		case string:
			b.WriteString(strconv.Quote(v))
		case json.Number:
			r, _ := new(big.Rat).SetString(string(v)) // it is short, and JSON's
			b.WriteString(r.RatString())
		case []any:
			b.WriteByte('[')
			for _, e := range v {
				put(e)
				b.WriteByte(',')
			}
			b.WriteByte(']')
		case map[string]any:
			b.WriteByte('{')
			for _, name := range slices.Sorted(maps.Keys(v)) {
				b.WriteString(strconv.Quote(name) + ":")
				put(v[name])
				b.WriteByte(',')
			}
			b.WriteByte('}')
		}
		if m != nil {
			m.charge(1 + (b.Len()-before)/64)
		}
	}
	put(v)
	return b.String()
}

// patterns compiles the regular expressions of one schema.
type patterns struct {
	meter    *meter
	size     int
	known    map[string]*pattern
	tooLarge error // why the first one was refused for its size
}

// pattern is a regular expression that counts its work.
type pattern struct {
	*regexp.Regexp
	meter *meter
	size  int
}

// MatchString implements jsonschema.Regexp.
func (p *pattern) MatchString(s string) bool {
	p.meter.charge(1 + len(s)*p.size/64)
	return p.Regexp.MatchString(s)
}

func (p *patterns) compile(s string) (jsonschema.Regexp, error) {
	if re := p.known[s]; re != nil {
		return re, nil
	}
	if p.tooLarge == nil && len(s) > maxPattern {
		p.tooLarge = fmt.Errorf("has a pattern of more than %d bytes", maxPattern)
	}
	if p.tooLarge != nil {
		return nil, p.tooLarge
	}
	tree, err := syntax.Parse(s, syntax.Perl)
	if err != nil {
		return nil, err
	}
	size := program(tree)
	if p.size += size; p.size > maxProgram {
		p.tooLarge = errors.New("has patterns that are too large; repetitions such as {1000} are written out")
		return nil, p.tooLarge
	}
	re, err := regexp.Compile(s)
	if err != nil {
		return nil, err
	}
	p.known[s] = &pattern{re, p.meter, size}
	return p.known[s], nil
}

// program is about how many instructions a regular expression takes. Repetitions are written out.
func program(re *syntax.Regexp) int {
	n := 1 + len(re.Rune)
	if re.Op == syntax.OpCharClass {
		n = 1 + len(re.Rune)/32
	}
	for _, sub := range re.Sub {
		n += program(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Min+1, re.Max)
	}
	return n
}
