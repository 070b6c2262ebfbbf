// Package jsonschemacheck knows JSON Schema, from draft 4 to 2020-12. Schemas come from strangers: nothing outside of
// the schema itself is ever loaded.
package jsonschemacheck

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/nexus-protocol/nexus/ports"
)

var _ ports.SchemaChecker = (*Checker)(nil)

// maxCached bounds the compiled schemas that are kept.
const maxCached = 1_000

// Checker is a ports.SchemaChecker. It keeps compiled schemas by their content.
type Checker struct {
	mu       sync.Mutex
	compiled map[[sha256.Size]byte]*jsonschema.Schema
}

// New makes a checker.
func New() *Checker { return &Checker{compiled: map[[sha256.Size]byte]*jsonschema.Schema{}} }

// home is where a schema without an id is said to be. Nothing is there.
const home = "nexus:schema"

// Compile implements ports.SchemaChecker.
func (c *Checker) Compile(schema json.RawMessage) error {
	_, err := c.compile(schema)
	return err
}

func (c *Checker) compile(schema json.RawMessage) (*jsonschema.Schema, error) {
	key := sha256.Sum256(schema)
	c.mu.Lock()
	s := c.compiled[key]
	c.mu.Unlock()
	if s != nil {
		return s, nil
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return nil, fmt.Errorf("is not JSON: %w", err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(jsonschema.SchemeURLLoader{}) // the default one would open files
	if err := compiler.AddResource(home, doc); err != nil {
		return nil, explain(err)
	}
	if s, err = compiler.Compile(home); err != nil {
		return nil, explain(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.compiled) >= maxCached {
		clear(c.compiled)
	}
	c.compiled[key] = s
	return s, nil
}

// explain says what is wrong in one line.
func explain(err error) error {
	var load *jsonschema.LoadURLError
	if errors.As(err, &load) {
		return fmt.Errorf("refers to another document, %s", load.URL)
	}
	var meta *jsonschema.SchemaValidationError
	if errors.As(err, &meta) {
		err = meta.Err
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	var invalid *jsonschema.ValidationError
	if errors.As(err, &invalid) {
		if all := leaves(invalid, nil); len(all) > 0 {
			line = "at " + cmp.Or(all[0].Path, "the root") + ": " + all[0].Message
		}
	}
	return errors.New(strings.ReplaceAll(line, home+"#", "#"))
}

// Validate implements ports.SchemaChecker.
func (c *Checker) Validate(schema, value json.RawMessage) ([]ports.SchemaFault, error) {
	s, err := c.compile(schema)
	if err != nil {
		return nil, err
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(value))
	if err != nil {
		return nil, fmt.Errorf("value is not JSON: %w", err)
	}
	var invalid *jsonschema.ValidationError
	if err := s.Validate(v); errors.As(err, &invalid) {
		return leaves(invalid, nil), nil
	} else if err != nil {
		return nil, err
	}
	return nil, nil
}

// maxFaults bounds what is told of one value.
const maxFaults = 50

var english = message.NewPrinter(language.English)

// leaves collects the innermost faults.
func leaves(e *jsonschema.ValidationError, out []ports.SchemaFault) []ports.SchemaFault {
	for _, cause := range e.Causes {
		out = leaves(cause, out)
	}
	if len(e.Causes) == 0 && len(out) < maxFaults {
		out = append(out, ports.SchemaFault{Path: path(e.InstanceLocation), Message: e.ErrorKind.LocalizedString(english)})
	}
	return out
}

func path(tokens []string) string {
	var b strings.Builder
	for _, t := range tokens {
		if _, err := strconv.Atoi(t); err == nil {
			b.WriteString("[" + t + "]")
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(t)
	}
	return b.String()
}
