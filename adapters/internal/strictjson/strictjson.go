// Package strictjson refuses what encoding/json lets pass, so that nobody reads another message than the one that was
// checked: keys that are there twice, also by case, and deep nesting.
package strictjson

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxDepth is how deep a text may be nested.
const MaxDepth = 64

// Error tells what is wrong with a text that encoding/json would take.
type Error struct{ Message string }

// Error implements error.
func (e *Error) Error() string { return e.Message }

// errNone is of a text that is no JSON.
var errNone = errors.New("it is no JSON")

// Check reads a text, which is to be one JSON value, to its end. What encoding/json would take as well is an *Error.
func Check(text []byte) error {
	type level struct {
		object, key bool // in an object; its next text is a key
		keys        KeySet
	}
	levels := make([]level, 0, 8)
	for i := 0; i < len(text); {
		n := len(levels)
		c := text[i]
		switch {
		case c == '"':
			end := textEnd(text, i)
			if n > 0 && levels[n-1].object && levels[n-1].key {
				key, ok := unquoted(text[i:end])
				if !ok {
					return errNone
				}
				if !levels[n-1].keys.Add(key) {
					return &Error{fmt.Sprintf("%.64q is there more than once; keys that differ only by case count as the same", key)}
				}
			}
			i = end
			continue
		case c == '{' || c == '[':
			if n >= MaxDepth {
				return &Error{fmt.Sprintf("is nested more than %d deep", MaxDepth)}
			}
			levels = append(levels, level{object: c == '{', key: true})
		case c == '}' || c == ']':
			if n == 0 {
				return errNone
			}
			levels = levels[:n-1]
		case n > 0 && (c == ',' || c == ':'):
			levels[n-1].key = c == ','
		}
		i++
	}
	if !json.Valid(text) { // else what was read above is what is there
		return errNone
	}
	return nil
}

// textEnd is where the quoted text that begins at i is over.
func textEnd(text []byte, i int) int {
	for i++; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(text)
}

// unquoted is what encoding/json makes of a quoted text.
func unquoted(quoted []byte) (text string, ok bool) {
	for _, c := range quoted {
		if c == '\\' || c >= utf8.RuneSelf {
			return text, json.Unmarshal(quoted, &text) == nil
		}
	}
	if len(quoted) < 2 {
		return "", false
	}
	return string(quoted[1 : len(quoted)-1]), true
}

// KeySet knows the keys of one object, without regard to case.
type KeySet struct {
	few  []string
	many map[string]struct{}
}

// Add is false for a key that is there already.
func (s *KeySet) Add(key string) bool {
	if s.many == nil {
		for _, k := range s.few {
			if strings.EqualFold(k, key) {
				return false
			}
		}
		if s.few == nil {
			s.few = make([]string, 0, 8)
		}
		if s.few = append(s.few, key); len(s.few) > 16 {
			s.many = make(map[string]struct{}, 64)
			for _, k := range s.few {
				s.many[foldCase(k)] = struct{}{}
			}
		}
		return true
	}
	key = foldCase(key)
	if _, ok := s.many[key]; ok {
		return false
	}
	s.many[key] = struct{}{}
	return true
}

// foldCase returns one form for all spellings that strings.EqualFold, and so encoding/json, takes as equal.
func foldCase(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case r < utf8.RuneSelf:
			return r
		}
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		return least
	}, s)
}
