package a2agateway

import (
	"errors"
	"fmt"
	"slices"
	"unicode/utf16"
	"unicode/utf8"
)

// canonical is a value as RFC 8785 (JSON canonicalization) writes it. It knows what cards are made of: objects, lists,
// texts and truths; of anything else, numbers among it, it says that it cannot.
func canonical(v any) ([]byte, error) { return appendCanonical(nil, v) }

func appendCanonical(b []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case bool:
		return fmt.Append(b, v), nil
	case string:
		return appendText(b, v)
	case []string:
		return appendList(b, v)
	case []object:
		return appendList(b, v)
	case []any:
		return appendList(b, v)
	case object:
		return appendObject(b, v)
	}
	return nil, fmt.Errorf("a %T has no place in a card", v)
}

func appendList[T any](b []byte, list []T) ([]byte, error) {
	b = append(b, '[')
	for i, e := range list {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = appendCanonical(b, e); err != nil {
			return nil, err
		}
	}
	return append(b, ']'), nil
}

func appendObject(b []byte, o object) ([]byte, error) {
	keys := make([]string, 0, len(o))
	for k := range o {
		keys = append(keys, k)
	}
	// The order is that of UTF-16, which differs from that of UTF-8 beyond the basic plane.
	slices.SortFunc(keys, func(x, y string) int { return slices.Compare(utf16.Encode([]rune(x)), utf16.Encode([]rune(y))) })
	b = append(b, '{')
	for i, k := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = appendText(b, k); err != nil {
			return nil, err
		}
		if b, err = appendCanonical(append(b, ':'), o[k]); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

var errNoUnicode = errors.New("a card's text is no Unicode")

func appendText(b []byte, s string) ([]byte, error) {
	if !utf8.ValidString(s) {
		return nil, errNoUnicode
	}
	short := map[rune]byte{'"': '"', '\\': '\\', '\b': 'b', '\t': 't', '\n': 'n', '\f': 'f', '\r': 'r'}
	b = append(b, '"')
	for _, r := range s {
		switch c, ok := short[r]; {
		case ok:
			b = append(b, '\\', c)
		case r < ' ':
			b = fmt.Appendf(b, `\u%04x`, r)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"'), nil
}
