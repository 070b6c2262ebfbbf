// Package ports holds the interfaces through which the engine meets the outside world, in the domain's words. In this
// project a port is always an interface that app calls (a driven port), never an inbound handler. Each has more than
// one adapter, and its promises are checked by the suites in portstest.
//
// Errors: an adapter answers with a *fault.Error where a comment here names one; every other error is an internal one.
package ports

// Position is a place in the log of something, such as a task.
type Position struct {
	ID  string
	Seq int64 // of an event; 0 before the first
}

// Page is a stretch of a list.
type Page struct {
	Limit  int // at least 1
	Offset int // at least 0
}
