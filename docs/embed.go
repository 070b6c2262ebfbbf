// Package docs holds the project's documentation, as it is read in the repository, for servers to show it.
package docs

import "embed"

// Files are the pages in Markdown, and what they link to.
//
//go:embed *.md adr/*.md grafana/nexus.json
var Files embed.FS
