package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/nexus-protocol/nexus/adapters/internal/strictjson"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
)

// Limits of a JSON body.
const (
	maxFaults  = 100   // that one answer lists
	maxNumber  = 1_000 // characters of one number
	maxPathKey = 64    // characters of a key, as shown in a path
)

// wholeBody is the path of a fault that is not in one field.
const wholeBody = "body"

// checkJSON reads a JSON text strictly, beside the schema it should have. What encoding/json lets pass is refused: keys
// that are there twice, also by case; text that is no Unicode or holds NUL; deep nesting; numbers that nobody else can
// read. Every field that does not fit the schema is named at once. The answer holds just the fields that the schema
// knows, spelled as it spells them, with the values byte for byte; so what is decoded is only what was checked.
func checkJSON(registry huma.Registry, schema *huma.Schema, text []byte) ([]byte, error) {
	c := checker{registry: registry, in: text, out: make([]byte, 0, len(text))}
	err := c.value(schema)
	if err == nil {
		if c.space(); c.pos < len(c.in) {
			err = c.malformed("has something after its end")
		}
	}
	if err != nil {
		return nil, err
	}
	return c.out, c.bad.Err()
}

// checker is a JSON reader at some place of its text.
type checker struct {
	registry huma.Registry
	in       []byte
	pos      int
	out      []byte
	path     []step
	bad      faults
}

// step is one key or index on the way to a value.
type step struct {
	key   string
	index int // -1 for a key
}

// faults are the fields found wrong, up to a limit.
type faults struct {
	fault.Fields
	n int
}

func (f *faults) add(path, format string, args ...any) {
	if f.n++; f.n <= maxFaults {
		f.Add(path, format, args...)
	}
}

func (c *checker) where() string {
	var b strings.Builder
	for _, s := range c.path {
		switch {
		case s.index >= 0:
			b.WriteString("[" + strconv.Itoa(s.index) + "]")
		case s.key == "": // before a key, or a nameless one
		case b.Len() > 0:
			b.WriteString("." + shorten(s.key, maxPathKey))
		default:
			b.WriteString(shorten(s.key, maxPathKey))
		}
	}
	if b.Len() == 0 {
		return wholeBody
	}
	return b.String()
}

// shorten cuts a stranger's text to n characters.
func shorten(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n]) + "…"
	}
	return s
}

// malformed is the fault of a text that is no acceptable JSON. Nothing else is said about such a text.
func (c *checker) malformed(format string, args ...any) error {
	before := c.in[:c.pos]
	line, column := 1+bytes.Count(before, []byte{'\n'}), c.pos-bytes.LastIndexByte(before, '\n')
	var bad fault.Fields
	bad.Add(c.where(), "%s (line %d, column %d)", fmt.Sprintf(format, args...), line, column)
	return bad.Err()
}

func (c *checker) space() {
	for c.pos < len(c.in) {
		switch c.in[c.pos] {
		case ' ', '\t', '\n', '\r':
			c.pos++
		default:
			return
		}
	}
}

// value reads one value. A nil schema stands for a place that no schema speaks of: the value is read but not kept.
func (c *checker) value(schema *huma.Schema) error {
	c.space()
	if c.pos == len(c.in) {
		return c.malformed("ends too early")
	}
	schema = resolve(c.registry, schema)
	start := c.pos
	var err error
	switch b := c.in[c.pos]; {
	case b == '{':
		if c.fits(schema, huma.TypeObject) && schema.Properties != nil {
			return c.object(schema)
		}
		err = c.object(nil)
	case b == '[':
		if c.fits(schema, huma.TypeArray) {
			return c.array(schema.Items)
		}
		err = c.array(nil)
	case b == '"':
		var s string
		if s, err = c.text(); err == nil && c.fits(schema, huma.TypeString) {
			checkString(&c.bad, c.where, schema, s)
		}
	case b == '-' || '0' <= b && b <= '9':
		var literal string
		if literal, err = c.number(); err == nil && c.fits(schema, huma.TypeNumber) {
			checkNumber(&c.bad, c.where, schema, literal)
		}
	default:
		err = c.word(schema)
	}
	if err == nil && schema != nil {
		c.out = append(c.out, c.in[start:c.pos]...)
	}
	return err
}

// resolve follows references.
func resolve(registry huma.Registry, s *huma.Schema) *huma.Schema {
	for s != nil && s.Ref != "" {
		s = registry.SchemaFromRef(s.Ref)
	}
	return s
}

// fits notes a value of another type than the schema's. It is true where the schema has more to say about the value.
func (c *checker) fits(schema *huma.Schema, typ string) bool {
	switch {
	case schema == nil || schema.Type == "":
		return false
	case schema.Type == typ, typ == huma.TypeNumber && schema.Type == huma.TypeInteger:
		return true
	}
	c.bad.add(c.where(), "%s", mustBe(schema.Type))
	return false
}

func mustBe(typ string) string {
	switch typ {
	case huma.TypeObject:
		return "must be a JSON object"
	case huma.TypeArray:
		return "must be an array"
	case huma.TypeString:
		return "must be a string"
	case huma.TypeInteger:
		return "must be a whole number"
	case huma.TypeNumber:
		return "must be a number"
	default:
		return "must be true or false"
	}
}

func (c *checker) word(schema *huma.Schema) error {
	for _, w := range []string{"true", "false", "null"} {
		if !strings.HasPrefix(string(c.in[c.pos:min(c.pos+len(w), len(c.in))]), w) {
			continue
		}
		c.pos += len(w)
		if w != "null" {
			c.fits(schema, huma.TypeBoolean)
		} else if schema != nil && !schema.Nullable && schema.Type != "" {
			c.bad.add(c.where(), "must not be null")
		}
		return nil
	}
	return c.malformed("is no JSON")
}

// enter goes one level down.
func (c *checker) enter() error {
	if len(c.path) >= strictjson.MaxDepth {
		return c.malformed("is nested more than %d deep", strictjson.MaxDepth)
	}
	c.pos++
	c.path = append(c.path, step{})
	return nil
}

func (c *checker) leave() { c.path = c.path[:len(c.path)-1] }

// next moves to the next member of an object or array that ends with the closing character; more is false at its end.
func (c *checker) next(first bool, closing byte) (more bool, err error) {
	c.space()
	switch {
	case c.pos == len(c.in):
		return false, c.malformed("ends too early")
	case c.in[c.pos] == closing:
		c.pos++
		return false, nil
	case first:
		return true, nil
	case c.in[c.pos] != ',':
		return false, c.malformed("needs a comma or %q here", closing)
	}
	c.pos++
	c.space()
	return true, nil
}

// array reads an array. items is nil where the array is not kept or only as it is.
func (c *checker) array(items *huma.Schema) error {
	if err := c.enter(); err != nil {
		return err
	}
	here := len(c.path) - 1
	keep := items != nil
	if keep {
		c.out = append(c.out, '[')
	}
	for i := 0; ; i++ {
		c.path[here] = step{index: i}
		more, err := c.next(i == 0, ']')
		if err != nil {
			return err
		}
		if !more {
			break
		}
		if keep && i > 0 {
			c.out = append(c.out, ',')
		}
		if err := c.value(items); err != nil {
			return err
		}
	}
	if keep {
		c.out = append(c.out, ']')
	}
	c.leave()
	return nil
}

// object reads an object. schema is nil where the object is not kept or only as it is.
func (c *checker) object(schema *huma.Schema) error {
	if err := c.enter(); err != nil {
		return err
	}
	here := len(c.path) - 1
	var keys strictjson.KeySet
	var known []string
	if schema != nil {
		c.out = append(c.out, '{')
	}
	for first := true; ; first = false {
		c.path[here] = step{index: -1}
		more, err := c.next(first, '}')
		if err != nil {
			return err
		}
		if !more {
			break
		}
		if c.pos == len(c.in) || c.in[c.pos] != '"' {
			return c.malformed("needs a key in quotes here")
		}
		at := c.pos
		key, err := c.text()
		if err != nil {
			return err
		}
		c.path[here] = step{key: key, index: -1}
		if !keys.Add(key) {
			c.pos = at
			return c.malformed("is there more than once; keys that differ only by case count as the same")
		}
		if c.space(); c.pos == len(c.in) || c.in[c.pos] != ':' {
			return c.malformed("needs a colon after the key")
		}
		c.pos++
		var property *huma.Schema
		if schema != nil {
			property = schema.Properties[key]
		}
		if property != nil {
			if len(known) > 0 {
				c.out = append(c.out, ',')
			}
			known = append(known, key)
			c.out = append(strconv.AppendQuote(c.out, key), ':')
		}
		if err := c.value(property); err != nil {
			return err
		}
	}
	if schema != nil {
		c.out = append(c.out, '}')
		for _, name := range schema.Required {
			if !slices.Contains(known, name) {
				c.path[here] = step{key: name, index: -1}
				c.bad.add(c.where(), "is required")
			}
		}
	}
	c.leave()
	return nil
}

// text reads a string and returns what it says.
func (c *checker) text() (string, error) {
	start := c.pos
	escaped := false
	c.pos++
	for c.pos < len(c.in) {
		switch b := c.in[c.pos]; {
		case b == '"':
			c.pos++
			raw := c.in[start:c.pos]
			if !escaped {
				return string(raw[1 : len(raw)-1]), nil
			}
			var s string
			if err := json.Unmarshal(raw, &s); err != nil {
				return "", c.malformed("is no JSON string")
			}
			return s, nil
		case b < ' ':
			return "", c.malformed("has a control character in a string; escape it")
		case b == '\\':
			escaped = true
			if err := c.escape(); err != nil {
				return "", err
			}
		case b < utf8.RuneSelf:
			c.pos++
		default:
			r, size := utf8.DecodeRune(c.in[c.pos:])
			if r == utf8.RuneError && size == 1 {
				return "", c.malformed("is not valid UTF-8")
			}
			c.pos += size
		}
	}
	return "", c.malformed("ends within a string")
}

func (c *checker) escape() error {
	if c.pos+1 == len(c.in) {
		return c.malformed("ends within a string")
	}
	if c.in[c.pos+1] != 'u' {
		if !strings.ContainsRune(`"\/bfnrt`, rune(c.in[c.pos+1])) {
			return c.malformed("has an unknown escape in a string")
		}
		c.pos += 2
		return nil
	}
	r, ok := c.hex(c.pos)
	switch {
	case !ok:
		return c.malformed("has an unknown escape in a string")
	case r == 0:
		return c.malformed("must not hold the NUL character")
	case 0xD800 <= r && r < 0xDC00:
		low, ok := c.hex(c.pos + 6)
		if !ok || low < 0xDC00 || low > 0xDFFF {
			return c.malformed("has half of a surrogate pair")
		}
		c.pos += 6
	case 0xDC00 <= r && r < 0xE000:
		return c.malformed("has half of a surrogate pair")
	}
	c.pos += 6
	return nil
}

// hex reads the four digits of a \u escape that begins at a position.
func (c *checker) hex(at int) (rune, bool) {
	if at+6 > len(c.in) || c.in[at] != '\\' || c.in[at+1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(c.in[at+2:at+6]), 16, 16)
	return rune(n), err == nil
}

// number reads a number and returns it as it is written.
func (c *checker) number() (string, error) {
	start := c.pos
	digits := func() bool {
		from := c.pos
		for c.pos < len(c.in) && '0' <= c.in[c.pos] && c.in[c.pos] <= '9' {
			c.pos++
		}
		return c.pos > from
	}
	is := func(chars string) bool {
		if c.pos < len(c.in) && strings.IndexByte(chars, c.in[c.pos]) >= 0 {
			c.pos++
			return true
		}
		return false
	}
	is("-")
	ok := is("0") || digits()
	if ok && is(".") {
		ok = digits()
	}
	if ok && is("eE") {
		is("+-")
		ok = digits()
	}
	literal := string(c.in[start:c.pos])
	switch {
	case !ok:
		return "", c.malformed("has a malformed number")
	case !readable(literal):
		c.pos = start
		return "", c.malformed("has a number that is too large, too small or too long")
	}
	return literal, nil
}

// readable reports whether a well-formed number can be taken in by what reads numbers as floating point or as decimals.
func readable(literal string) bool {
	if len(literal) > maxNumber {
		return false
	}
	f, err := strconv.ParseFloat(literal, 64)
	if err != nil {
		return false
	}
	mantissa, _, _ := strings.Cut(strings.ToLower(literal), "e")
	return f != 0 || !strings.ContainsAny(mantissa, "123456789")
}

// checkString notes what a schema has against a string. The domain trims some texts before it counts, so a text is
// measured here in its favour; the domain has the last word.
func checkString(bad *faults, where func() string, s *huma.Schema, text string) {
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, any(text)) {
		bad.add(where(), "must be %s", oneOf(s.Enum))
		return
	}
	if s.MinLength == nil && s.MaxLength == nil {
		return
	}
	short := s.MinLength != nil && utf8.RuneCountInString(text) < *s.MinLength
	long := s.MaxLength != nil && utf8.RuneCountInString(strings.TrimSpace(text)) > *s.MaxLength
	switch {
	case !short && !long:
	case s.MinLength == nil:
		bad.add(where(), "must be at most %d characters long", *s.MaxLength)
	case s.MaxLength == nil:
		bad.add(where(), "must be at least %d characters long", *s.MinLength)
	default:
		bad.add(where(), "must be %d to %d characters long", *s.MinLength, *s.MaxLength)
	}
}

func oneOf(values []any) string {
	var b strings.Builder
	for i, v := range values {
		switch {
		case i > 0 && i == len(values)-1:
			b.WriteString(" or ")
		case i > 0:
			b.WriteString(", ")
		}
		fmt.Fprint(&b, v)
	}
	return b.String()
}

// formatCredits marks numbers of credits in schemas.
const formatCredits = "credits"

// checkNumber notes what a schema has against a well-formed number.
func checkNumber(bad *faults, where func() string, s *huma.Schema, literal string) {
	if s.Format == formatCredits {
		if _, err := credits.Parse(literal); err != nil {
			bad.add(where(), "must be a number of credits with at most two decimals and without an exponent")
			return
		}
	}
	f, _ := strconv.ParseFloat(literal, 64) // its form was checked, and what is too large is infinite
	if s.Type == huma.TypeInteger {
		if strings.ContainsAny(literal, ".eE") {
			bad.add(where(), "must be a whole number")
			return
		}
		if _, err := strconv.ParseInt(literal, 10, strconv.IntSize); err != nil {
			f = math.Copysign(math.Inf(1), f)
		}
	}
	low := s.Minimum != nil && f < *s.Minimum
	high := s.Maximum != nil && f > *s.Maximum
	switch {
	case math.IsInf(f, 0) && s.Minimum == nil && s.Maximum == nil:
		bad.add(where(), "is out of range")
	case !low && !high && !math.IsInf(f, 0):
	case s.Maximum == nil && *s.Minimum == 0 && low:
		bad.add(where(), "must not be negative")
	case s.Maximum == nil && low:
		bad.add(where(), "must be at least %s", plain(*s.Minimum))
	case s.Minimum == nil && high:
		bad.add(where(), "must be at most %s", plain(*s.Maximum))
	case s.Minimum != nil && s.Maximum != nil:
		bad.add(where(), "must be %s to %s", plain(*s.Minimum), plain(*s.Maximum))
	default:
		bad.add(where(), "is out of range")
	}
}

func plain(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
