package a2aclient

import (
	"encoding/json"
	"testing"
)

// Whatever an agent answers, it is either refused or comes out as parts that are valid JSON.
func FuzzDecodeAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"jsonrpc":"2.0","id":"t","result":{"kind":"message","messageId":"a","parts":[{"kind":"text","text":"x"}]}}`,
		`{"jsonrpc":"2.0","id":"t","result":{"task":{"id":"r","status":{"state":"TASK_STATE_COMPLETED"},"artifacts":[{"parts":[{"raw":"aGk="}]}]}}}`,
		`{"jsonrpc":"2.0","id":"t","error":{"code":1,"message":"m"}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := decodeAnswer(body, "t")
		if err != nil {
			return
		}
		for _, artifact := range a.Artifacts {
			for _, p := range artifact.Parts {
				if !json.Valid(p.Data) {
					t.Fatalf("part %q", p.Data)
				}
			}
		}
		for _, m := range a.Messages {
			for _, p := range m.Parts {
				if !json.Valid(p.Data) {
					t.Fatalf("part %q", p.Data)
				}
			}
		}
	})
}
