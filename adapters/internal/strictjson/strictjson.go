// Package strictjson refuses what encoding/json lets pass, so that nobody reads another message than the one that was
// checked: keys that are there twice, also by case, and deep nesting.
package strictjson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
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

// Check reads a text to its end. The errors are *Error, or encoding/json's for what is no JSON. The work is bounded by what
// comes before the fault.
func Check(text []byte) error {
	type level struct {
		object, value bool // in an object; its next token is a value
		keys          KeySet
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var levels []*level
	for {
		token, err := d.Token()
		if err == io.EOF { // Token promises it bare
			if len(levels) > 0 {
				return io.ErrUnexpectedEOF
			}
			return nil
		}
		if err != nil {
			return err
		}
		if n := len(levels); n > 0 && levels[n-1].object {
			key, isText := token.(string)
			if l := levels[n-1]; l.value {
				l.value = false
			} else if isText {
				if !l.keys.Add(key) {
					return &Error{fmt.Sprintf("%.64q is there more than once; keys that differ only by case count as the same", key)}
				}
				l.value = true
				continue
			}
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			if len(levels) >= MaxDepth {
				return &Error{fmt.Sprintf("is nested more than %d deep", MaxDepth)}
			}
			levels = append(levels, &level{object: token == json.Delim('{')})
		case json.Delim('}'), json.Delim(']'):
			levels = levels[:len(levels)-1]
		}
	}
}

// KeySet knows the keys of one object, without regard to case.
type KeySet struct {
	few  []string
	many map[string]struct{}
}

// Add is false for a key that is there already.
func (s *KeySet) Add(key string) bool {
	key = foldCase(key)
	if s.many == nil {
		if slices.Contains(s.few, key) {
			return false
		}
		if s.few = append(s.few, key); len(s.few) > 16 {
			s.many = make(map[string]struct{}, 64)
			for _, k := range s.few {
				s.many[k] = struct{}{}
			}
		}
		return true
	}
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
