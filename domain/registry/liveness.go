package registry

import (
	"encoding/json"
	"time"

	"github.com/nexus-protocol/nexus/domain/fault"
)

// Status says whether an agent can be given tasks.
type Status string

// The states. A degraded agent still takes tasks, an offline one does not.
const (
	Online   Status = "online"
	Degraded Status = "degraded"
	Offline  Status = "offline"
)

// Statuses lists all states.
func Statuses() []Status { return []Status{Online, Degraded, Offline} }

// An agent that sends heartbeats is degraded, then offline, after so long without one.
const (
	DegradedAfter = 90 * time.Second
	OfflineAfter  = 300 * time.Second
)

// ProbeEvery is how often an agent that never sent a heartbeat is asked for its card.
const ProbeEvery = 60 * time.Second

// StatusAt is the agent's status at that moment: what it last reported, made worse by a heartbeat that stays away. It
// needs no sweep to be right; stores apply the same rule in their queries.
func (a Agent) StatusAt(now time.Time) Status {
	if a.LastHeartbeat != nil {
		switch age := now.Sub(*a.LastHeartbeat); {
		case age >= OfflineAfter:
			return Offline
		case age >= DegradedAfter && a.Status == Online:
			return Degraded
		}
	}
	return a.Status
}

// Probed reports whether the engine has to find out by itself if the agent is there.
func (a Agent) Probed() bool { return a.LastHeartbeat == nil && a.DeletedAt == nil }

// Heartbeat notes a sign of life. status "" means online; metadata, if any, takes the place of what there was.
func (a Agent) Heartbeat(status Status, metadata json.RawMessage, now time.Time) (Agent, error) {
	var bad fault.Fields
	switch status {
	case "":
		status = Online
	case Online, Degraded, Offline:
	default:
		bad.Add("status", "must be one of %v", Statuses())
	}
	if metadata != nil {
		bad.Check(isObject(metadata), "metadata", "must be a JSON object")
		bad.Check(len(metadata) <= MaxMetadata, "metadata", "must be at most %d KiB", MaxMetadata>>10)
		a.Metadata = metadata
	}
	a.Status, a.LastHeartbeat, a.UpdatedAt = status, &now, now
	return a, bad.Err()
}

// Seen notes the answer to a probe: the card, or nil when there was none. An agent that has sent a heartbeat in the
// meantime speaks for itself: only its card is noted.
func (a Agent) Seen(card json.RawMessage, now time.Time) Agent {
	if card != nil {
		a.Card = card
	}
	if a.LastHeartbeat != nil {
		return a
	}
	status := Offline
	if card != nil {
		status = Online
	}
	if a.Status != status {
		a.Status, a.UpdatedAt = status, now
	}
	return a
}

// Unreachable notes that a task could not be delivered. It makes an online agent degraded, never better.
func (a Agent) Unreachable(now time.Time) (out Agent, changed bool) {
	if a.Status != Online {
		return a, false
	}
	a.Status, a.UpdatedAt = Degraded, now
	return a, true
}

// Withdrawn is the agent of an owner who is shut out: offline until it is heard of or seen again.
func (a Agent) Withdrawn(now time.Time) (out Agent, changed bool) {
	if a.Status == Offline {
		return a, false
	}
	a.Status, a.UpdatedAt = Offline, now
	return a, true
}

// OfflineFault is the refusal of a task for an agent that is offline.
func (a Agent) OfflineFault() error {
	return fault.New(fault.Unavailable, fault.CodeAgentOffline,
		"agent %s is offline; try later, choose another one, or set queueIfOffline", a.ID)
}
