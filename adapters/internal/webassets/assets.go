// Package webassets holds what the pages of all adapters are made to look and move with: style sheets, scripts and
// images. They are part of the binary. Each is served under a name with its hash in it, so that browsers keep it for good.
package webassets

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"mime"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
)

//go:embed static
var static embed.FS

// Pattern is where Handler is to be mounted.
const Pattern = "GET /assets/{file}"

// asset is one file as it is served.
type asset struct {
	kind  string
	plain []byte
	small func() []byte // compressed
}

var (
	assets = map[string]asset{}
	urls   = map[string]string{}
)

func init() { //nolint:gochecknoinits // the names follow from what is embedded
	files, err := static.ReadDir("static")
	if err != nil {
		panic(err)
	}
	for _, f := range files {
		b, err := static.ReadFile("static/" + f.Name())
		if err != nil {
			panic(err)
		}
		add(f.Name(), b)
	}
	// htmx begins by itself right after its script: what extends it must not come later, as a script of its own may.
	add("htmx-sse.js", slices.Concat(Read("htmx.min.js"), []byte("\n;"), Read("hx-sse.min.js")))
}

func add(name string, b []byte) {
	sum := sha256.Sum256(b)
	ext := path.Ext(name)
	hashed := strings.TrimSuffix(name, ext) + "." + hex.EncodeToString(sum[:6]) + ext
	kind := mime.TypeByExtension(ext)
	switch ext { // whatever the machine's own table says
	case ".js":
		kind = "text/javascript; charset=utf-8"
	case ".css":
		kind = "text/css; charset=utf-8"
	case ".svg":
		kind = "image/svg+xml"
	case ".txt":
		kind = "text/plain; charset=utf-8"
	}
	assets[hashed] = asset{kind, b, sync.OnceValue(func() []byte { return compress(b) })}
	urls[name] = "/assets/" + hashed
}

func compress(b []byte) []byte {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err == nil {
		_, err = w.Write(b)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil { // a buffer takes everything
		panic(err)
	}
	return out.Bytes()
}

// URL is the path of a file. It panics for one that there is not.
func URL(name string) string {
	u, ok := urls[name]
	if !ok {
		panic("webassets: there is no " + name)
	}
	return u
}

// Read returns a file as it is. It panics for one that there is not.
func Read(name string) []byte { return assets[path.Base(URL(name))].plain }

// Serve answers with the file that Pattern matched. ok is false, and nothing written, if there is none of that name.
func Serve(w http.ResponseWriter, r *http.Request) (ok bool) {
	a, ok := assets[r.PathValue("file")]
	if !ok {
		return false
	}
	h := w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Vary", "Accept-Encoding")
	body := a.plain
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body = a.small()
	}
	_, _ = w.Write(body) // whoever does not read it is gone
	return true
}
