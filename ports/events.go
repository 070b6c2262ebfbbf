package ports

// Events wakes those who wait for a stream to grow, in this process and in all others. A stream is a log of events in the
// store, named by valid UTF-8, such as a task's id.
//
// The store is what a reader reads and resumes from; Events carries no events, it only says that it is worth looking. A
// reader therefore subscribes first, then reads up to where the stream ends, and then waits to be woken, over and over.
//
// What is promised: a publication after Subscribe has returned wakes the subscription, in this process at once and in
// others soon, and as many as happen before the reader looks wake it once. While other processes cannot be heard,
// subscriptions are woken every few seconds, and once more when they are heard again.
//
// What is not: that each wake means something new, that wakes are in any order, or that none is lost. A process that dies
// between its commit and its publication has told nobody; so a reader also looks by itself, seldom.
type Events interface {
	// Publish tells that streams have grown; call it once that is committed. It never blocks, however slow the readers
	// are and whether or not other processes can be reached.
	Publish(streams ...string)
	// PublishElsewhere is Publish for streams whose readers in this process know already: it wakes those of others only.
	PublishElsewhere(streams ...string)
	// Subscribe begins to listen to a stream. It needs no server, and is cheap: a process may hold tens of thousands.
	Subscribe(stream string) Subscription
}

// Subscription is one reader's wait for one stream.
type Subscription interface {
	// Wake has a signal in it when the stream may have grown since the last one was taken out. It is never closed.
	Wake() <-chan struct{}
	// Close ends the subscription: after it nothing is put into Wake any more. A second one does nothing.
	Close()
}
