package task

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/nexus-protocol/nexus/domain/fault"
)

// CheckSaid validates what one side says in a task: the parts of its message, and the artifacts that come with it. path
// names the message in faults.
func CheckSaid(path string, parts []Part, artifacts []Artifact) error {
	var bad fault.Fields
	bad.Check(len(parts) <= MaxParts, path+".parts", "must be at most %d", MaxParts)
	bad.Check(len(artifacts) <= MaxArtifacts, "artifacts", "must be at most %d", MaxArtifacts)
	size := checkParts(path+".parts", parts, &bad)
	for i, a := range artifacts {
		at := fmt.Sprintf("artifacts[%d]", i)
		bad.Check(len(a.Parts) >= 1 && len(a.Parts) <= MaxParts, at+".parts", "must be 1 to %d", MaxParts)
		bad.Check(len(a.ID) <= MaxTitle && len(a.Name) <= MaxTitle, at+".name", "must be at most %d bytes long", MaxTitle)
		size += len(a.Description) + checkParts(at+".parts", a.Parts, &bad)
	}
	bad.Check(size <= MaxSaid, path, "must be at most %d KiB with its artifacts", MaxSaid>>10)
	return bad.Err()
}

func checkParts(path string, parts []Part, bad *fault.Fields) (size int) {
	for i, p := range parts {
		at := fmt.Sprintf("%s[%d]", path, i)
		size += len(p.Data) + len(p.Metadata)
		switch p.Type {
		case PartText:
			var s string
			bad.Check(json.Unmarshal(p.Data, &s) == nil && !isNull(p.Data), at+".data", "must be a string, as the part's type is text")
		case PartData:
			bad.Check(len(p.Data) > 0, at+".data", "is missing")
		case PartFile:
			var f struct {
				Bytes *string `json:"bytes"`
				URI   *string `json:"uri"`
			}
			ok := json.Unmarshal(p.Data, &f) == nil && (f.Bytes == nil) != (f.URI == nil)
			bad.Check(ok, at+".data", "must be an object with bytes (base64) or uri, as the part's type is file")
		default:
			bad.Add(at+".type", "must be text, data or file")
		}
	}
	return size
}

func isNull(data json.RawMessage) bool { return bytes.Equal(bytes.TrimSpace(data), []byte("null")) }
