// Package jsonschemacheck knows JSON Schema, from draft 4 to 2020-12, which is the one that is meant when a schema does
// not say. Schemas come from strangers: nothing outside of the schema itself is ever loaded, and what a schema can cost
// is bounded. Formats are not asserted.
package jsonschemacheck

import (
	"bytes"
	"cmp"
	"container/list"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/nexus-protocol/nexus/ports"
)

var _ ports.SchemaChecker = (*Checker)(nil)

// What is kept of compiled schemas, the least used going first. A compiled schema takes up to a hundred times its source.
const (
	maxCached      = 1_000
	maxCachedBytes = 1 << 20 // of source
)

// Checker is a ports.SchemaChecker. It keeps compiled schemas by their content. It is safe for concurrent use.
type Checker struct {
	mu    sync.Mutex
	known map[[sha256.Size]byte]*list.Element
	used  *list.List // of *compiled, the last used first
	bytes int        // of the source of all that is known
}

// New makes a checker.
func New() *Checker {
	return &Checker{known: map[[sha256.Size]byte]*list.Element{}, used: list.New()}
}

// compiled is a schema with the meter that is built into it; hence one value at a time.
type compiled struct {
	key    [sha256.Size]byte
	bytes  int
	mu     sync.Mutex
	meter  *meter
	schema *jsonschema.Schema
}

// home is where a schema is said to be. Nothing is there.
const home = "nexus:schema"

// Compile implements ports.SchemaChecker. A schema that is too large to be worked with is wrong too.
func (c *Checker) Compile(schema json.RawMessage) error {
	_, err := c.compiled(schema)
	return err
}

func (c *Checker) compiled(schema json.RawMessage) (*compiled, error) {
	key := sha256.Sum256(schema)
	if s := c.cached(key); s != nil {
		return s, nil
	}
	s, err := compile(schema)
	if err != nil {
		return nil, err
	}
	s.key = key
	c.keep(s)
	return s, nil
}

func (c *Checker) cached(key [sha256.Size]byte) *compiled {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.known[key]
	if e == nil {
		return nil
	}
	c.used.MoveToFront(e)
	return e.Value.(*compiled)
}

func (c *Checker) keep(s *compiled) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known[s.key] != nil { // another was faster
		return
	}
	c.known[s.key] = c.used.PushFront(s)
	c.bytes += s.bytes
	for c.used.Len() > 1 && (c.used.Len() > maxCached || c.bytes > maxCachedBytes) {
		oldest := c.used.Remove(c.used.Back()).(*compiled)
		delete(c.known, oldest.key)
		c.bytes -= oldest.bytes
	}
}

func compile(schema json.RawMessage) (out *compiled, err error) {
	defer func() {
		if p := recover(); p != nil { // a schema that the library is not up to
			out, err = nil, fmt.Errorf("cannot be worked with: %v", p)
		}
	}()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return nil, fmt.Errorf("is not JSON: %w", err)
	}
	if at, why := oversized(doc, nil); why != "" {
		return nil, fmt.Errorf("at %s: %s", cmp.Or(path(doc, at), "the root"), why)
	}
	if nodes(doc) > maxNodes {
		return nil, fmt.Errorf("has more than %d parts", maxNodes)
	}
	m := &meter{left: maxWork}
	regexps := &patterns{meter: m, known: map[string]*pattern{}}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.UseLoader(jsonschema.SchemeURLLoader{}) // the default one would open files
	compiler.UseRegexpEngine(regexps.compile)
	if err := compiler.AddResource(home, doc); err != nil {
		return nil, explain(doc, err)
	}
	s, err := compiler.Compile(home)
	switch {
	case regexps.tooLarge != nil:
		return nil, regexps.tooLarge
	case err != nil:
		return nil, explain(doc, err)
	}
	if err := bounded(s, m); err != nil {
		return nil, err
	}
	return &compiled{bytes: len(schema), schema: s, meter: m}, nil
}

// explain says what is wrong in one line.
func explain(doc any, err error) error {
	var load *jsonschema.LoadURLError
	if errors.As(err, &load) {
		return fmt.Errorf("refers to another document, %s", cut(load.URL))
	}
	var meta *jsonschema.SchemaValidationError
	if errors.As(err, &meta) {
		err = meta.Err
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	var invalid *jsonschema.ValidationError
	if errors.As(err, &invalid) {
		if all := leaves(invalid, doc); len(all) > 0 {
			line = "at " + cmp.Or(all[0].Path, "the root") + ": " + all[0].Message
		}
	}
	return errors.New(cut(strings.ReplaceAll(line, home+"#", "#")))
}

// Validate implements ports.SchemaChecker. Paths are such as a.b[0], and empty for the value itself. A value that would
// take too much work to hold against the schema has that as its fault. At most fifty faults are told.
func (c *Checker) Validate(schema, value json.RawMessage) (faults []ports.SchemaFault, err error) {
	s, err := c.compiled(schema)
	if err != nil {
		return nil, err
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(value))
	if err != nil {
		return nil, fmt.Errorf("value is not JSON: %w", err)
	}
	if at, why := oversized(v, nil); why != "" {
		return []ports.SchemaFault{{Path: path(v, at), Message: why}}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.meter.left = maxWork
	defer func() {
		switch p := recover().(type) {
		case nil:
		case exhausted:
			faults = []ports.SchemaFault{{Message: "takes too much work to be held against the schema; make it smaller, or the schema simpler"}}
		default:
			err = fmt.Errorf("the schema cannot be applied: %v", p)
		}
	}()
	var invalid *jsonschema.ValidationError
	if err := s.schema.Validate(v); errors.As(err, &invalid) {
		return leaves(invalid, v), nil
	} else if err != nil {
		return nil, err
	}
	return nil, nil
}

const (
	maxFaults = 50  // that are told of one value
	maxText   = 300 // characters of a path or a message
)

func cut(s string) string {
	if utf8.RuneCountInString(s) > maxText {
		return string([]rune(s)[:maxText]) + "…"
	}
	return s
}

var english = message.NewPrinter(language.English)

// leaves collects the innermost faults, in the order of their paths.
func leaves(e *jsonschema.ValidationError, root any) []ports.SchemaFault {
	var out []ports.SchemaFault
	var collect func(*jsonschema.ValidationError)
	collect = func(e *jsonschema.ValidationError) {
		for _, cause := range e.Causes {
			collect(cause)
		}
		if len(e.Causes) == 0 && len(out) < maxFaults {
			out = append(out, ports.SchemaFault{Path: cut(path(root, e.InstanceLocation)), Message: cut(e.ErrorKind.LocalizedString(english))})
		}
	}
	collect(e)
	slices.SortStableFunc(out, func(a, b ports.SchemaFault) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Message, b.Message))
	})
	return out
}

// path writes a place of root as a.b[0].
func path(root any, tokens []string) string {
	var b strings.Builder
	for _, t := range tokens {
		if list, ok := root.([]any); ok && len(list) > 0 {
			b.WriteString("[" + t + "]")
			i, _ := strconv.Atoi(t)
			root = list[min(i, len(list)-1)]
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(t)
		object, _ := root.(map[string]any)
		root = object[t]
	}
	return b.String()
}
