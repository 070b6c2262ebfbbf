package bunstore

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/bits"
	"reflect"
	"slices"
	"strings"
	"unicode"
)

// Statements in bulk. What a group in lockstep sends at one time is mostly the same few statements, said for different
// rows. Where the database can take them so, equal ones become one statement over arrays of their parameters: it is parsed,
// planned and begun once for all.
//
// A call joins the others of its kind unless a statement that touches the same tables comes in between; then it begins a
// new lot. So each row sees its statements in the order in which they were sent.

// bulk is a statement for many rows. Its parameters are arrays, one for each parameter of the statement that it stands for.
type bulk struct {
	statement
	kinds string // of the parameters: t for text, b for bigint, f for double precision; in capitals where they may be NULL
	key   []int  // the parameters that name the row, where a second call for it must not be in the same lot
	last  bool   // of several calls for a row the last one counts, as each says all there is to say
	exact bool   // each row must be changed, or the units are run one by one, to find out whose was not
	tells bool   // it returns rows, of which the first column is the place of the call in the lot, from 1 on
}

// arrays are the parameters as SQL: unnest over all of them.
func arrays(kinds string) string {
	types := map[rune]string{'t': "text", 'b': "bigint", 'f': "double precision"}
	var out []string
	for _, k := range strings.ToLower(kinds) {
		out = append(out, "?::"+types[k]+"[]")
	}
	return "unnest(" + strings.Join(out, ", ") + ")"
}

// rowsOf is arrays as the rows of u, whose columns are c0, c1 … and last n, the place of the row.
func rowsOf(kinds string) string {
	var names strings.Builder
	for i := range kinds {
		fmt.Fprintf(&names, "c%d, ", i)
	}
	return arrays(kinds) + " WITH ORDINALITY AS u (" + names.String() + "n)"
}

// inBulk says how the statement is said of many rows.
func (q statement) inBulk(b *bulk) statement {
	q.bulk = b
	return q
}

// reads is a SELECT of rows of u, where u.n is the first column.
func reads(text, kinds string) *bulk { return &bulk{statement: hot(text), kinds: kinds, tells: true} }

// changes is a change of rows that are in u by their key. If it must change all of them it is exact.
func changes(text, kinds string, exact bool, key ...int) *bulk {
	return &bulk{statement: hot(text), kinds: kinds, key: key, last: true, exact: exact}
}

// fenced is a change of those rows of u that are still as they were thought to be; it returns their u.n first.
func fenced(text, kinds string, key ...int) *bulk {
	return &bulk{statement: hot(text), kinds: kinds, key: key, tells: true}
}

// inserts is an INSERT of rows that must all be new.
func inserts(head, kinds, tail string) *bulk {
	return &bulk{statement: hot(head + " SELECT * FROM " + arrays(kinds) + " " + tail), kinds: kinds, exact: true}
}

// overwrites is an INSERT of rows, or their change if they are there, by all that there is to say of them.
func overwrites(head, kinds, tail string, key ...int) *bulk {
	return &bulk{statement: hot(head + " SELECT * FROM " + arrays(kinds) + " " + tail), kinds: kinds, key: key, last: true}
}

// columnsOf are columns as those of a table's alias.
func columnsOf(alias, columns string) string {
	var out []string
	for c := range strings.SplitSeq(columns, ",") {
		out = append(out, alias+"."+strings.TrimSpace(c))
	}
	return strings.Join(out, ", ")
}

// lot is calls that are sent as one statement.
type lot struct {
	calls  []*call
	bulk   *bulk // nil: a single call, as it is
	byKey  map[string]int
	counts []*call // all that were put in, where some took the place of others
}

// gather puts calls together, without changing the order in which any table sees them.
func (s *Store) gather(calls []*call) []*lot {
	var lots []*lot
	open := map[*bulk]int{}
	var touched [64]int // by table, the place of the newest lot that touches it, from 1 on
	if !s.cfg.Dialect.Bulk {
		for _, k := range calls {
			lots = append(lots, &lot{calls: []*call{k}})
		}
		return lots
	}
	for _, k := range calls {
		mask := s.tables[k.id]
		newest := 0
		for m := mask; m != 0; m &= m - 1 {
			newest = max(newest, touched[bits.TrailingZeros64(m)])
		}
		place := open[k.bulk]
		if k.bulk == nil || place == 0 || newest > place || !lots[place-1].add(k) {
			l := &lot{bulk: k.bulk}
			l.add(k)
			lots = append(lots, l)
			place = len(lots)
			if k.bulk != nil {
				open[k.bulk] = place
			}
		}
		for m := mask; m != 0; m &= m - 1 {
			touched[bits.TrailingZeros64(m)] = max(touched[bits.TrailingZeros64(m)], place)
		}
	}
	return lots
}

// inLots are calls put together, and what is sent for each lot, said in one of the ways that there are.
func (s *Store) inLots(calls []*call, say func(*lot, *Store) (Call, error)) (lots []*lot, out []Call, err error) {
	lots = s.gather(calls)
	out = make([]Call, len(lots), len(lots)+1)
	for i, l := range lots {
		if out[i], err = say(l, s); err != nil {
			return nil, nil, err
		}
	}
	return lots, out, nil
}

// add takes a call in; false when its row is there already.
func (l *lot) add(k *call) bool {
	if l.bulk == nil || l.bulk.key == nil {
		l.calls = append(l.calls, k)
		return true
	}
	key := k.rowKey(l.bulk.key)
	i, there := l.byKey[key]
	switch {
	case !there:
		if l.byKey == nil {
			l.byKey = map[string]int{}
		}
		l.byKey[key] = len(l.calls)
		l.calls = append(l.calls, k)
	case l.bulk.last:
		l.calls[i] = k
	default:
		return false
	}
	l.counts = append(l.counts, k)
	return true
}

func (k *call) rowKey(key []int) string {
	if len(key) == 1 {
		return fmt.Sprint(k.args[key[0]])
	}
	var b strings.Builder
	for _, i := range key {
		fmt.Fprintf(&b, "%v\x00", k.args[i])
	}
	return b.String()
}

// errShort says that a statement in bulk changed fewer rows than it was to: one of the units has something to be told.
var errShort = errors.New("store: a statement for several units of work did not change all of its rows")

// sent is the lot as the dialect's Pipeline takes it.
func (l *lot) sent(s *Store) (Call, error) {
	if l.single() {
		k := l.calls[0]
		k.rows = 0
		return Call{ID: k.id, Text: s.sql[k.id], Args: k.args, Visit: k.counted()}, nil
	}
	b := l.bulk
	c := Call{ID: b.id, Text: s.sql[b.id]}
	var err error
	if c.Args, err = b.columns(l.calls); err != nil {
		return c, err
	}
	for _, k := range l.all() {
		k.rows = 0
	}
	if b.tells {
		c.Each = func(n int, scan func(...any) error) error {
			if n < 1 || n > len(l.calls) {
				return fmt.Errorf("a statement of %d calls tells of the one at %d", len(l.calls), n)
			}
			k := l.calls[n-1]
			k.rows++
			if k.visit == nil {
				return nil
			}
			return k.visit(scan)
		}
	}
	return c, nil
}

// sentExactly is the lot as a statement that fails unless it changes all of its rows; one that need not is as it is.
func (l *lot) sentExactly(s *Store) (Call, error) {
	c, err := l.sent(s)
	if b := l.calls[0].bulk; err != nil || !b.exact && !b.tells {
		return c, err
	}
	c.Text, c.ID = s.exact[c.ID], c.ID+len(statements)
	c.Args = append(slices.Clip(c.Args), l.rows())
	c.Each = nil // whose rows they are is plain when all are there
	c.Visit = func(scan func(...any) error) error { return nil }
	return c, nil
}

// rows is how many rows the lot is to change.
func (l *lot) rows() (n int64) {
	for _, k := range l.calls {
		n += k.want()
	}
	return n
}

// want is how many rows a call that is in a lot is to change.
func (k *call) want() int64 { return int64(len(k.args) / len(k.bulk.kinds)) }

// ends tells whether the COMMIT may go with calls, as there is nothing to be looked at before.
func (s *Store) ends(calls []*call) bool {
	if s.cfg.Dialect.Exact == nil || s.cfg.Commit != nil {
		return false
	}
	return !slices.ContainsFunc(calls, func(k *call) bool { return k.reads || k.visit != nil || k.bulk == nil })
}

// single tells a lot that is sent as the call that it is made of.
func (l *lot) single() bool { return l.bulk == nil || len(l.calls) == 1 && len(l.all()) == 1 }

// all are the calls that the lot answers.
func (l *lot) all() []*call {
	if l.counts != nil {
		return l.counts
	}
	return l.calls
}

// answered tells the calls how many rows each of them changed.
func (l *lot) answered(c Call) error {
	switch {
	case l.single():
		if k := l.calls[0]; k.visit == nil {
			k.rows = c.Rows
		}
		return nil
	case l.bulk.tells:
		return nil
	}
	if l.bulk.exact && c.Rows != l.rows() {
		return errShort
	}
	l.allChanged()
	return nil
}

// allChanged tells the calls that each has changed its rows.
func (l *lot) allChanged() {
	for _, k := range l.all() {
		k.rows = k.want()
	}
}

// columns are the parameters of calls, as an array each.
func (b *bulk) columns(calls []*call) ([]any, error) {
	width := len(b.kinds)
	rows := 0
	for _, k := range calls {
		rows += len(k.args) / width
	}
	out := make([]any, width)
	for i := range width {
		var err error
		switch b.kinds[i] {
		case 't':
			out[i], err = column(calls, i, width, rows, texts)
		case 'T':
			out[i], err = column(calls, i, width, rows, maybe(texts))
		case 'b':
			out[i], err = column(calls, i, width, rows, numbers)
		case 'B':
			out[i], err = column(calls, i, width, rows, maybe(numbers))
		default:
			out[i], err = column(calls, i, width, rows, floats)
		}
		if err != nil {
			return nil, fmt.Errorf("parameter %d of %q: %w", i, b.text, err)
		}
	}
	return out, nil
}

func column[T any](calls []*call, i, width, rows int, of func(any) (T, error)) ([]T, error) {
	out := make([]T, 0, rows)
	for _, k := range calls {
		for at := i; at < len(k.args); at += width {
			v, err := of(k.args[at])
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
	}
	return out, nil
}

var errNull = errors.New("is NULL")

// maybe takes NULL for nil.
func maybe[T any](of func(any) (T, error)) func(any) (*T, error) {
	return func(v any) (*T, error) {
		t, err := of(v)
		if errors.Is(err, errNull) {
			return nil, nil
		}
		return &t, err
	}
}

func texts(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case sql.NullString:
		if !v.Valid {
			return "", errNull
		}
		return v.String, nil
	}
	return plain(v, func(r reflect.Value) (string, bool) { return r.String(), r.Kind() == reflect.String })
}

func numbers(v any) (int64, error) {
	switch v := v.(type) {
	case int64:
		return v, nil
	case int:
		return int64(v), nil
	case sql.NullInt64:
		if !v.Valid {
			return 0, errNull
		}
		return v.Int64, nil
	}
	return plain(v, func(r reflect.Value) (int64, bool) {
		if !r.CanInt() {
			return 0, false
		}
		return r.Int(), true
	})
}

func floats(v any) (float64, error) {
	if f, ok := v.(float64); ok {
		return f, nil
	}
	return plain(v, func(r reflect.Value) (float64, bool) {
		switch {
		case r.CanFloat():
			return r.Float(), true
		case r.CanInt():
			return float64(r.Int()), true
		}
		return 0, false
	})
}

// plain is a value of a named type, of a driver.Valuer, or behind a pointer.
func plain[T any](v any, as func(reflect.Value) (T, bool)) (T, error) {
	var none T
	if valuer, ok := v.(driver.Valuer); ok {
		inner, err := valuer.Value()
		if err != nil {
			return none, err
		}
		v = inner
	}
	r := reflect.ValueOf(v)
	for r.Kind() == reflect.Pointer && !r.IsNil() {
		r = r.Elem()
	}
	if v == nil || r.Kind() == reflect.Pointer {
		return none, errNull
	}
	if out, ok := as(r); ok {
		return out, nil
	}
	return none, fmt.Errorf("a %T does not fit", v)
}

// tablesOf names the tables that a statement reads or changes, as bits in the order in which they were met.
func tablesOf(text string, known map[string]int) (mask uint64) {
	before := ""
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		if slices.Contains([]string{"FROM", "INTO", "UPDATE", "JOIN", "TABLE", "USING"}, before) && word == strings.ToLower(word) && word != "unnest" {
			bit, ok := known[word]
			if !ok {
				bit = len(known) % 64 // two tables that share one are only kept apart more than they need
				known[word] = bit
			}
			mask |= 1 << bit
		}
		before = word
	}
	return mask
}
