// Package handbook makes web pages of documentation in Markdown. Links between the files lead to the same place in the
// repository and on the server; one that leads nowhere is an error.
package handbook

import (
	"bytes"
	"errors"
	"fmt"
	"html"
	"io/fs"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"
	"unicode"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	east "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/renderer"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// Book is a set of pages that link to each other.
type Book struct {
	pages map[string]*Page
	files map[string][]byte
}

// Page is one file as a page.
type Page struct {
	Path     string // of its URL
	File     string
	Title    string
	Summary  string // its first paragraph that is more than some words, as plain text
	HTML     string
	Sections []Section // its headings of the second level

	ids   map[string]bool
	links []string // paths with anchors, to other pages and within this one
}

// Section is a heading and the anchor that leads to it.
type Section struct{ ID, Title string }

// Places are paths of the server that texts name in code; they become links.
type Places []string

// Read makes a book of the files below root, a path of the server such as /docs. README.md is its folder's page; files that
// are no Markdown are served as they are.
func Read(files fs.FS, root string, places Places) (*Book, error) {
	b := &Book{pages: map[string]*Page{}, files: map[string][]byte{}}
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		source, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		if path.Ext(name) != ".md" {
			b.files[root+"/"+name] = source
			return nil
		}
		p, err := render(source, name, root, places)
		b.pages[p.Path] = p
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the documentation: %w", err)
	}
	return b, b.check(places)
}

// Page finds the page of a URL's path.
func (b *Book) Page(path string) (Page, bool) {
	p, ok := b.pages[path]
	if !ok {
		return Page{}, false
	}
	return *p, true
}

// File finds a file that is no page.
func (b *Book) File(path string) ([]byte, bool) {
	f, ok := b.files[path]
	return f, ok
}

// Paths lists the paths of all pages.
func (b *Book) Paths() []string {
	return slices.Collect(maps.Keys(b.pages))
}

// check finds links that lead nowhere.
func (b *Book) check(places Places) error {
	var bad []error
	for _, p := range b.pages {
		for _, to := range p.links {
			at, anchor, _ := strings.Cut(to, "#")
			target, isPage := b.pages[at]
			_, isFile := b.files[at]
			switch {
			case isPage && (anchor == "" || target.ids[anchor]), isFile && anchor == "", slices.Contains(places, at):
			default:
				bad = append(bad, fmt.Errorf("%s links to %s, which is not there", p.File, to))
			}
		}
	}
	return errors.Join(bad...)
}

// pagePath is the path of a Markdown file's page.
func pagePath(root, name string) string {
	name = strings.TrimSuffix(name, ".md")
	if name == "README" {
		return root
	}
	return root + "/" + strings.TrimSuffix(name, "/README")
}

func render(source []byte, name, root string, places Places) (*Page, error) {
	p := &Page{Path: pagePath(root, name), File: name, ids: map[string]bool{}}
	w := &writer{page: p, source: source, places: places}
	md := goldmark.New(
		goldmark.WithExtensions(extension.Table),
		goldmark.WithParserOptions(parser.WithAutoHeadingID()),
		goldmark.WithRendererOptions(renderer.WithNodeRenderers(util.Prioritized(w, 1))),
	)
	doc := md.Parser().Parse(text.NewReader(source), parser.WithContext(parser.NewContext(parser.WithIDs(&ids{used: map[string]int{}}))))
	err := ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Heading:
			id := headingID(n)
			p.ids[id] = true
			switch {
			case n.Level == 1 && p.Title == "":
				p.Title = plain(n, source)
			case n.Level == 2:
				p.Sections = append(p.Sections, Section{id, plain(n, source)})
			}
		case *ast.Paragraph:
			if len(p.Summary) < 40 {
				p.Summary = shorten(plain(n, source), 200)
			}
		case *ast.Link:
			n.Destination = []byte(p.resolve(root, string(n.Destination)))
		}
		return ast.WalkContinue, nil
	})
	if err != nil {
		return p, err
	}
	if p.Title == "" {
		return p, fmt.Errorf("%s has no title", name)
	}
	var out bytes.Buffer
	if err := md.Renderer().Render(&out, source, doc); err != nil {
		return p, fmt.Errorf("%s: %w", name, err)
	}
	p.HTML = out.String()
	return p, nil
}

// resolve turns a link as the repository has it into one of the server.
func (p *Page) resolve(root, to string) string {
	u, err := url.Parse(to)
	if err != nil || u.IsAbs() || u.Host != "" {
		return to
	}
	at := p.Path
	if u.Path != "" {
		at = path.Join(path.Dir(p.File), u.Path) // outside of the folder it begins with ..
		if path.Ext(at) == ".md" {
			at = pagePath(root, at)
		} else {
			at = root + "/" + at
		}
	}
	link := at
	if u.Fragment != "" {
		link += "#" + u.Fragment
	}
	p.links = append(p.links, link)
	if u.Path == "" {
		return to
	}
	return link
}

// plain is the text of a node.
func plain(n ast.Node, source []byte) string {
	var b strings.Builder
	_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) { // it never fails
		if t, ok := n.(*ast.Text); ok && entering {
			b.Write(t.Segment.Value(source))
			if t.SoftLineBreak() {
				b.WriteByte(' ')
			}
		}
		return ast.WalkContinue, nil
	})
	return html.UnescapeString(strings.ReplaceAll(b.String(), `\`, ""))
}

func shorten(s string, n int) string {
	if r := []rune(s); len(r) > n {
		s = string(r[:n])
		return s[:max(strings.LastIndexByte(s, ' '), 0)] + " …"
	}
	return s
}

func headingID(n ast.Node) string {
	v, _ := n.AttributeString("id")
	b, _ := v.([]byte)
	return string(b)
}

// ids gives headings the anchors that GitHub gives them.
type ids struct{ used map[string]int }

// Generate implements parser.IDs.
func (i *ids) Generate(value []byte, _ ast.NodeKind) []byte {
	var b strings.Builder
	for _, r := range strings.ToLower(strings.TrimSpace(string(value))) {
		switch {
		case unicode.IsLetter(r), unicode.IsNumber(r), r == '-', r == '_':
			b.WriteRune(r)
		case r == ' ':
			b.WriteByte('-')
		}
	}
	id := b.String()
	n := i.used[id]
	i.used[id]++
	if n > 0 {
		id = fmt.Sprintf("%s-%d", id, n)
	}
	return []byte(id)
}

// Put implements parser.IDs.
func (i *ids) Put(value []byte) { i.used[string(value)]++ }

// writer writes what is to look otherwise than goldmark has it: headings with a link to themselves, code that is reached by
// the keyboard and can be copied, tables that scroll by themselves, without inline style and empty heads.
type writer struct {
	page   *Page
	source []byte
	places Places
	blocks int
	heads  []string // of the table's columns
	column int      // that the next cell is in
}

// RegisterFuncs implements renderer.NodeRenderer.
func (w *writer) RegisterFuncs(r renderer.NodeRendererFuncRegisterer) {
	r.Register(ast.KindHeading, w.heading)
	r.Register(ast.KindFencedCodeBlock, w.code)
	r.Register(ast.KindCodeBlock, w.code)
	r.Register(ast.KindCodeSpan, w.codeSpan)
	r.Register(east.KindTable, w.table)
	r.Register(east.KindTableHeader, w.tableHeader)
	r.Register(east.KindTableRow, w.tableRow)
	r.Register(east.KindTableCell, w.tableCell)
}

func (w *writer) heading(out util.BufWriter, _ []byte, node ast.Node, entering bool) (ast.WalkStatus, error) {
	n := node.(*ast.Heading)
	id := html.EscapeString(headingID(n))
	switch {
	case entering:
		_, _ = fmt.Fprintf(out, `<h%d id="%s">`, n.Level, id)
	case n.Level == 1:
		_, _ = fmt.Fprintf(out, "</h%d>\n", n.Level)
	default:
		_, _ = fmt.Fprintf(out, ` <a class="anchor" href="#%s" aria-label="Link to: %s">#</a></h%d>`+"\n", id, html.EscapeString(plain(n, w.source)), n.Level)
	}
	return ast.WalkContinue, nil
}

// pasted are the languages of blocks that readers take along.
var pasted = map[string]bool{"sh": true, "go": true, "yaml": true, "ini": true}

// shown are those of what programs answer.
var shown = map[string]bool{"text": true, "json": true}

func (w *writer) code(out util.BufWriter, source []byte, node ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkSkipChildren, nil
	}
	var language string
	if fenced, ok := node.(*ast.FencedCodeBlock); ok {
		language = string(fenced.Language(source))
	}
	w.blocks++
	class := "code"
	if shown[language] {
		class = "code out"
	}
	_, _ = fmt.Fprintf(out, `<div class="%s">`, class)
	if pasted[language] {
		_, _ = fmt.Fprintf(out, `<button type="button" class="btn small" data-copy="code-%d">Copy</button>`, w.blocks)
	}
	_, _ = fmt.Fprintf(out, `<pre tabindex="0"><code id="code-%d">`, w.blocks)
	for i := range node.Lines().Len() {
		line := node.Lines().At(i)
		_, _ = out.WriteString(html.EscapeString(string(line.Value(source))))
	}
	_, _ = out.WriteString("</code></pre></div>\n")
	return ast.WalkSkipChildren, nil
}

func (w *writer) codeSpan(out util.BufWriter, source []byte, node ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	code := plain(node, source)
	_, inLink := node.Parent().(*ast.Link)
	format := "<code>%[1]s</code>"
	if !inLink && slices.Contains(w.places, code) {
		format = `<a href="%[1]s"><code>%[1]s</code></a>`
	}
	_, _ = fmt.Fprintf(out, format, html.EscapeString(code))
	return ast.WalkSkipChildren, nil
}

func (w *writer) table(out util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		_, _ = out.WriteString("</table></div>\n")
		return ast.WalkContinue, nil
	}
	w.heads = nil
	for c := n.FirstChild().FirstChild(); c != nil; c = c.NextSibling() {
		w.heads = append(w.heads, plain(c, source))
	}
	class := ""
	if len(w.heads) > 2 { // on a phone each row becomes a card
		class = ` class="wide"`
	}
	_, _ = fmt.Fprintf(out, `<div class="table-wrap" tabindex="0"><table%s>`, class)
	return ast.WalkContinue, nil
}

func (w *writer) tableHeader(out util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	switch {
	case plain(n, source) == "":
		return ast.WalkSkipChildren, nil
	case entering:
		_, _ = out.WriteString("<thead><tr>")
	default:
		_, _ = out.WriteString("</tr></thead>\n")
	}
	return ast.WalkContinue, nil
}

func (w *writer) tableRow(out util.BufWriter, _ []byte, _ ast.Node, entering bool) (ast.WalkStatus, error) {
	w.column = 0
	if entering {
		_, _ = out.WriteString("<tr>")
	} else {
		_, _ = out.WriteString("</tr>\n")
	}
	return ast.WalkContinue, nil
}

func (w *writer) tableCell(out util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	tag, attribute := "td", ""
	if n.Parent().Kind() == east.KindTableHeader {
		if plain(n, source) != "" { // an empty one heads nothing
			tag, attribute = "th", ` scope="col"`
		}
	} else if entering {
		if len(w.heads) > 2 && w.column > 0 && w.heads[w.column] != "" && n.HasChildren() {
			attribute = fmt.Sprintf(` data-label="%s"`, html.EscapeString(w.heads[w.column]))
		}
		w.column++
	}
	if entering {
		_, _ = fmt.Fprintf(out, "<%s%s>", tag, attribute)
	} else {
		_, _ = fmt.Fprintf(out, "</%s>", tag)
	}
	return ast.WalkContinue, nil
}
