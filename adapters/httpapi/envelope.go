package httpapi

import (
	"bytes"
	"encoding/json"

	"github.com/nexus-protocol/nexus/app"
)

// one is the answer that holds one thing.
type one[T any] struct {
	Data T `json:"data"`
}

// many is the answer that holds a stretch of a list.
type many[T any] struct {
	Data []T      `json:"data" nullable:"false"`
	Meta metaJSON `json:"meta"`
}

type metaJSON struct {
	Total  int `json:"total" doc:"How many there are in all."`
	Limit  int `json:"limit" doc:"How many were asked for."`
	Offset int `json:"offset" doc:"How many were passed over."`

	NextCursor string `json:"nextCursor,omitempty" doc:"Of lists that take a cursor: what to ask with for what comes after. Absent at the end."`
}

func answer[T any](v T, err error) (one[T], error) { return one[T]{v}, err }

// answerWith is the answer that holds one of the engine's things in the wire's form.
func answerWith[D, J any](f func(D) J) func(D) one[J] {
	return func(v D) one[J] { return one[J]{f(v)} }
}

// convert turns a list of the engine's into the wire's. A list is never null.
func convert[D, J any](items []D, f func(D) J) []J {
	out := make([]J, 0, len(items))
	for _, v := range items {
		out = append(out, f(v))
	}
	return out
}

func answerList[D, J any](l app.List[D], err error, f func(D) J) (many[J], error) {
	if err != nil {
		return many[J]{}, err
	}
	return many[J]{convert(l.Items, f), metaJSON{l.Total, l.Limit, l.Offset, l.Next}}, nil
}

// page is the stretch of a list that a query asks for.
func page(limit, offset int) app.Page { return app.Page{Limit: &limit, Offset: offset} }

// encode writes JSON without escaping what is harmless in JSON.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	err := encodeTo(&b, v)
	return b.Bytes(), err
}

func encodeTo(b *bytes.Buffer, v any) error {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
