package inprocess

import (
	"context"
	"time"

	"github.com/nexus-protocol/nexus/adapters/internal/eventhub"
	"github.com/nexus-protocol/nexus/ports"
)

var _ ports.Events = (*Events)(nil)

// Events is a ports.Events for a process that is alone. Other processes do not hear it, nor it them; where there are some
// all the same, WakeAllEvery lets readers look.
type Events struct{ hub eventhub.Hub }

// NewEvents makes one.
func NewEvents() *Events { return &Events{} }

// Publish implements ports.Events.
func (e *Events) Publish(streams ...string) { e.hub.Wake(streams...) }

// PublishElsewhere implements ports.Events: there is nowhere else.
func (e *Events) PublishElsewhere(...string) {}

// Subscribe implements ports.Events.
func (e *Events) Subscribe(stream string) ports.Subscription { return e.hub.Subscribe(stream) }

// WakeAllEvery wakes all subscriptions every so often until ctx ends.
func (e *Events) WakeAllEvery(ctx context.Context, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			e.hub.WakeAll()
		}
	}
}
