package httpapi

import (
	"encoding/json"
	"errors"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
)

// amount is credits as the wire has them: a JSON number with at most two decimals.
type amount credits.Amount

// MarshalJSON implements json.Marshaler.
func (a amount) MarshalJSON() ([]byte, error) { return []byte(credits.Amount(a).String()), nil }

// UnmarshalJSON implements json.Unmarshaler. It is exact, and takes no exponent.
func (a *amount) UnmarshalJSON(b []byte) error {
	v, err := credits.Parse(string(b))
	*a = amount(v)
	return err
}

// Schema implements huma.SchemaProvider.
func (amount) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeNumber, Format: formatCredits, Examples: []any{9.5}}
}

// creditsOf returns the credits of an optional amount.
func creditsOf(a *amount) *credits.Amount { return (*credits.Amount)(a) }

func amountOf(a *credits.Amount) *amount { return (*amount)(a) }

// creditsParam is an amount in a query; "" when it was left out.
type creditsParam string

// Schema implements huma.SchemaProvider.
func (creditsParam) Schema(r huma.Registry) *huma.Schema { return amount(0).Schema(r) }

func (p creditsParam) value() (*credits.Amount, error) {
	if p == "" {
		return nil, nil
	}
	v, err := credits.Parse(string(p))
	return &v, err
}

// object is a JSON object that the engine does not look into, kept as it came. nil is null.
type object json.RawMessage

// MarshalJSON implements json.Marshaler.
func (o object) MarshalJSON() ([]byte, error) {
	if o == nil {
		return []byte("null"), nil
	}
	return o, nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (o *object) UnmarshalJSON(b []byte) error {
	switch {
	case string(b) == "null":
		*o = nil
	case len(b) == 0 || b[0] != '{':
		return errors.New("no JSON object")
	default:
		*o = append(object{}, b...)
	}
	return nil
}

// Schema implements huma.SchemaProvider.
func (object) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}
}

// anything is any JSON value, as it came. nil is null.
type anything json.RawMessage

// MarshalJSON implements json.Marshaler.
func (a anything) MarshalJSON() ([]byte, error) { return object(a).MarshalJSON() }

// UnmarshalJSON implements json.Unmarshaler.
func (a *anything) UnmarshalJSON(b []byte) error {
	*a = append(anything{}, b...)
	return nil
}

// Schema implements huma.SchemaProvider.
func (anything) Schema(huma.Registry) *huma.Schema { return &huma.Schema{} }

// clearable is a text that can be left out, set, or taken away with null.
type clearable struct {
	given bool
	text  string
}

// UnmarshalJSON implements json.Unmarshaler.
func (c *clearable) UnmarshalJSON(b []byte) error {
	c.given, c.text = true, ""
	return json.Unmarshal(b, &c.text) // null leaves the text empty
}

// Schema implements huma.SchemaProvider.
func (clearable) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Nullable: true}
}

func (c clearable) pointer() *string {
	if !c.given {
		return nil
	}
	return &c.text
}

// optional is a query parameter that can be left out.
type optional[T any] struct {
	Value T
	given bool
}

// Receiver implements huma.ParamWrapper.
func (o *optional[T]) Receiver() reflect.Value { return reflect.ValueOf(&o.Value).Elem() }

// OnParamSet implements huma.ParamReactor.
func (o *optional[T]) OnParamSet(given bool, _ any) { o.given = given }

// Schema implements huma.SchemaProvider.
func (optional[T]) Schema(r huma.Registry) *huma.Schema {
	return r.Schema(reflect.TypeFor[T](), true, "")
}

func (o optional[T]) pointer() *T {
	if !o.given {
		return nil
	}
	return &o.Value
}

// textOrNull is nil, so null, for a text that is not there.
func textOrNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// millisOrNull is a length of time in milliseconds; nil, so null, for none.
func millisOrNull(d time.Duration) *int64 {
	if d == 0 {
		return nil
	}
	return new(d.Milliseconds())
}

// millisOf is so many milliseconds, or nil. There must not be more than fit.
func millisOf(n *int64) *time.Duration {
	if n == nil {
		return nil
	}
	return new(time.Duration(*n) * time.Millisecond)
}

// utc is the time as the wire has it.
func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}

// isUUID reports whether s has the form of an id.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
				return false
			}
		}
	}
	return true
}

// noSuch is the fault of an id under which there can be nothing.
func noSuch(code fault.Code, id string) error {
	what := map[fault.Code]string{
		fault.CodeAgentNotFound: "Agent", fault.CodeTaskNotFound: "Task", fault.CodeAPIKeyNotFound: "API key",
		fault.CodeWorkflowNotFound: "Workflow", fault.CodeRunNotFound: "Run",
	}[code]
	if code == fault.CodeNotFound {
		return fault.New(fault.NotFound, code, "there is nothing of the id %s here", shorten(id, maxPathKey))
	}
	return fault.NotFoundf(code, what, shorten(id, maxPathKey))
}
