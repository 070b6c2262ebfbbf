package dashboard

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"mime"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/nexus-protocol/nexus/adapters/internal/docshelf"
	"github.com/nexus-protocol/nexus/adapters/internal/handbook"
	"github.com/nexus-protocol/nexus/docs"
)

// isAt tells whether an entry of the menu leads to the page, or to the list that it is in.
func isAt(e docshelf.Entry, p handbook.Page) bool {
	return e.Path == p.Path || e.Path != docshelf.Root && strings.HasPrefix(p.Path, e.Path+"/")
}

// handbookOf is made once, of what is embedded. A test shows that it can be.
var handbookOf = sync.OnceValue(func() *handbook.Book {
	book, err := handbook.Read(docs.Files, docshelf.Root, handbook.Places{docshelf.Reference, "/openapi.json", "/marketplace", "/dashboard"})
	if err != nil {
		panic(err)
	}
	return book
})

// docs serves a page of the documentation, or a file that one links to.
func (d *dashboard) docs(x *exchange) error {
	if file, ok := handbookOf().File(x.URL.Path); ok {
		x.Header().Set("Content-Type", mime.TypeByExtension(path.Ext(x.URL.Path)))
		x.Header().Set("Content-Disposition", "attachment")
		return d.fresh(x, file)
	}
	p, ok := handbookOf().Page(x.URL.Path)
	if !ok {
		return d.lost(x)
	}
	around := d.page(x, p.Title, "docs")
	around.Summary = p.Summary
	var b bytes.Buffer
	if err := docsPage(around, p).Render(x.Context(), &b); err != nil {
		return err
	}
	x.Header().Set("Content-Type", "text/html; charset=utf-8")
	return d.fresh(x, b.Bytes())
}

// fresh answers with what a stranger's browser may keep, as long as it asks whether it is still the same: around the text
// there are the colours that it chose. What tells who is logged in is kept nowhere.
func (d *dashboard) fresh(x *exchange, body []byte) error {
	if x.caller.Known() {
		_, _ = x.Write(body) // whoever does not read it is gone
		return nil
	}
	sum := sha256.Sum256(body)
	x.Header().Set("Cache-Control", "private, no-cache")
	x.Header().Set("Vary", "Cookie")
	x.Header().Set("ETag", `"`+hex.EncodeToString(sum[:12])+`"`)
	http.ServeContent(x, x.Request, "", time.Time{}, bytes.NewReader(body))
	return nil
}
