// Package a2awire knows how the parts of messages and the states of tasks are written in each form of A2A that the engine
// speaks, as a client and as a server.
package a2awire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"

	"github.com/nexus-protocol/nexus/domain/task"
)

// Form is a way of writing.
type Form int

// The forms.
const (
	V03     Form = iota // A2A 0.3
	Typed               // 0.3, but for parts that are {type, data}, as in the API reference
	V10                 // A2A 1.0
	Proto03             // 0.3 as its REST binding has it: the JSON of its protocol buffers
)

// File is the data of a task.PartFile.
type File struct {
	Name     string  `json:"name,omitempty"`
	MimeType string  `json:"mimeType,omitempty"`
	Bytes    *string `json:"bytes,omitempty"` // base64
	URI      *string `json:"uri,omitempty"`
}

// Part is a part as it is written, whatever the form.
type Part struct {
	Kind      string          `json:"kind,omitempty"`
	Type      string          `json:"type,omitempty"`
	Text      json.RawMessage `json:"text,omitempty"`
	Data      json.RawMessage `json:"data,omitempty"`
	File      json.RawMessage `json:"file,omitempty"`
	Raw       *string         `json:"raw,omitempty"`
	URL       *string         `json:"url,omitempty"`
	Filename  string          `json:"filename,omitempty"`
	MediaType string          `json:"mediaType,omitempty"`
	Metadata  json.RawMessage `json:"metadata,omitempty"`
}

// Part writes a part, whose data was checked when it came in.
func (f Form) Part(p task.Part) Part {
	out := Part{Metadata: p.Metadata}
	if f == Typed {
		out.Type, out.Data = string(p.Type), p.Data
		return out
	}
	if f == V03 {
		out.Kind = string(p.Type)
	}
	switch p.Type {
	case task.PartText:
		out.Text = p.Data
	case task.PartFile:
		f.file(p.Data, &out)
	default:
		out.Data = p.Data
		if f != V10 && !IsObject(p.Data) { // 0.3 has objects only
			out.Data, out.Metadata = wrap(p.Data, p.Metadata)
		}
		if f == Proto03 {
			out.Data = marshal(map[string]json.RawMessage{"data": out.Data})
		}
	}
	return out
}

func (f Form) file(data json.RawMessage, out *Part) {
	if f == V03 {
		out.File = data
		return
	}
	var file File
	_ = json.Unmarshal(data, &file)
	if file.Bytes != nil {
		b := padded(*file.Bytes)
		file.Bytes = &b
	}
	if f == V10 {
		out.Raw, out.Filename, out.MediaType = file.Bytes, file.Name, file.MimeType
		if file.Bytes == nil { // it is one of the two
			out.URL = file.URI
		}
		return
	}
	old := map[string]string{}
	for k, v := range map[string]*string{"name": &file.Name, "mimeType": &file.MimeType, "fileWithBytes": file.Bytes} {
		if v != nil && (*v != "" || k == "fileWithBytes") {
			old[k] = *v
		}
	}
	if file.Bytes == nil && file.URI != nil {
		old["fileWithUri"] = *file.URI
	}
	out.File = marshal(old)
}

// Parts writes parts.
func (f Form) Parts(parts []task.Part) []Part {
	out := make([]Part, len(parts))
	for i, p := range parts {
		out[i] = f.Part(p)
	}
	return out
}

// wrapped is how all SDKs mark data that is no object where 0.3 has room for objects only.
const wrapped = "data_part_compat"

func wrap(data, metadata json.RawMessage) (json.RawMessage, json.RawMessage) {
	meta := map[string]json.RawMessage{}
	_ = json.Unmarshal(metadata, &meta) // there may be none
	if meta == nil {
		meta = map[string]json.RawMessage{}
	}
	meta[wrapped] = json.RawMessage("true")
	return marshal(map[string]json.RawMessage{"value": data}), marshal(meta)
}

// Unwrap is the data and metadata of a part as it was before 0.3 had no room for it.
func Unwrap(data, metadata json.RawMessage) (json.RawMessage, json.RawMessage) {
	if !bytes.Contains(metadata, []byte(wrapped)) {
		return data, metadata
	}
	var meta, value map[string]json.RawMessage
	if json.Unmarshal(metadata, &meta) != nil || string(meta[wrapped]) != "true" || json.Unmarshal(data, &value) != nil || len(value) != 1 || value["value"] == nil {
		return data, metadata
	}
	delete(meta, wrapped)
	if len(meta) == 0 {
		return value["value"], nil
	}
	return value["value"], marshal(meta)
}

func marshal(v any) json.RawMessage {
	b, _ := json.Marshal(v) // of what was JSON, and of strings
	return b
}

// alphabets are the common ones of base64, with and without padding.
var alphabets = []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding}

// IsBase64 takes every common alphabet, with and without padding.
func IsBase64(s string) bool {
	for _, e := range alphabets {
		if _, err := e.DecodeString(s); err == nil {
			return true
		}
	}
	return false
}

// padded writes base64 in the alphabet that every reader takes.
func padded(s string) string {
	for i, e := range alphabets {
		if b, err := e.DecodeString(s); err == nil {
			if i == 0 {
				return s
			}
			return base64.StdEncoding.EncodeToString(b)
		}
	}
	return s
}

// IsObject tells whether JSON is an object.
func IsObject(b json.RawMessage) bool { return bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) }

// State is the name of a task's state in the words of 0.3, whichever version it is in.
func State(s string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(s, "TASK_STATE_")), "_", "-")
}
