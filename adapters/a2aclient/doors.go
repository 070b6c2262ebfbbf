package a2aclient

import (
	"encoding/json"
	"hash/maphash"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/nexus-protocol/nexus/adapters/internal/a2awire"
)

// dialect is a way of speaking to an agent: the version of A2A and the binding.
type dialect int

const (
	rpc03    dialect = iota // 0.3 over JSON-RPC
	rpc10                   // 1.0 over JSON-RPC
	rpcTyped                // 0.3 over JSON-RPC, but for parts that are {type, data}
	rest10                  // 1.0 over HTTP+JSON
	rest03                  // 0.3 over HTTP+JSON
)

// guesses are what an agent is tried with whose card says nothing, the most common first.
var guesses = []dialect{rpc03, rpc10, rpcTyped, rest10, rest03}

func (d dialect) rest() bool { return d == rest10 || d == rest03 }

func (d dialect) form() a2awire.Form {
	switch d {
	case rpc10, rest10:
		return a2awire.V10
	case rpcTyped:
		return a2awire.Typed
	case rest03:
		return a2awire.Proto03
	default:
		return a2awire.V03
	}
}

// door is where and how an agent can be spoken to.
type door struct {
	dialect
	url    string
	tenant string // of 1.0
}

// typedParts is the URI of the extension by which a card says that the agent's parts are {type, data}.
const typedParts = "urn:nexus-protocol:parts:type-data"

// maxDoors bounds how many interfaces of a card count.
const maxDoors = 8

// card is what of an agent card matters to a caller, in 0.3 and in 1.0.
type card struct {
	URL                  string   `json:"url"`
	ProtocolVersion      string   `json:"protocolVersion"`
	PreferredTransport   string   `json:"preferredTransport"`
	AdditionalInterfaces []onCard `json:"additionalInterfaces"`
	SupportedInterfaces  []onCard `json:"supportedInterfaces"`
	Capabilities         struct {
		Streaming  bool `json:"streaming"`
		Pushes     bool `json:"pushNotifications"`
		Extensions []struct {
			URI string `json:"uri"`
		} `json:"extensions"`
	} `json:"capabilities"`
}

type onCard struct {
	URL             string `json:"url"`
	ProtocolBinding string `json:"protocolBinding"` // 1.0
	Transport       string `json:"transport"`       // 0.3
	ProtocolVersion string `json:"protocolVersion"`
	Tenant          string `json:"tenant"`
}

// readCard is where and how an agent can be spoken to by its card and then by guess, and what it can do. A card
// cannot lead a message away from the origin that the agent's owner has registered: of an interface elsewhere only the
// dialect counts. What is no card says nothing.
func readCard(raw json.RawMessage, endpoint string) *peer {
	var c card
	if json.Unmarshal(raw, &c) != nil {
		c = card{}
	}
	return &peer{doors: c.doors(endpoint), streams: c.Capabilities.Streaming, pushes: c.Capabilities.Pushes}
}

func (c card) doors(endpoint string) (doors []door) {
	offered := c.SupportedInterfaces
	if len(offered) == 0 && c.URL != "" {
		offered = append([]onCard{{URL: c.URL, Transport: c.PreferredTransport}}, c.AdditionalInterfaces...)
		for i := range offered {
			offered[i].ProtocolVersion = c.ProtocolVersion
		}
	}
	typed := slices.ContainsFunc(c.Capabilities.Extensions, func(e struct {
		URI string `json:"uri"`
	},
	) bool {
		return e.URI == typedParts
	})
	add := func(d door) {
		if !slices.Contains(doors, d) {
			doors = append(doors, d)
		}
	}
	base, err := url.Parse(endpoint)
	if err != nil {
		base = &url.URL{}
	}
	var elsewhere []door
	for _, in := range offered[:min(len(offered), maxDoors)] {
		d, ok := in.dialect()
		if d == rpc03 && typed {
			d = rpcTyped
		}
		switch at, bad := base.Parse(in.URL); {
		case !ok || len(in.Tenant) > maxID: // nobody's
		case bad != nil || in.URL == "" || at.Scheme != base.Scheme || !strings.EqualFold(at.Host, base.Host):
			elsewhere = append(elsewhere, door{d, endpoint, in.Tenant})
		default:
			at.Host, at.User, at.Fragment, at.RawFragment = base.Host, base.User, "", ""
			add(door{d, at.String(), in.Tenant})
		}
	}
	for _, d := range elsewhere {
		add(d)
	}
	for _, d := range slices.Clone(doors) {
		if d.dialect == rpc03 {
			add(door{rpcTyped, d.url, d.tenant})
		}
	}
	for _, d := range guesses {
		add(door{d, endpoint, ""})
	}
	return doors
}

func (in onCard) dialect() (d dialect, ok bool) {
	new := strings.HasPrefix(in.ProtocolVersion, "1.")
	switch binding := strings.ToUpper(in.ProtocolBinding + in.Transport); {
	case (binding == "JSONRPC" || binding == "") && new:
		return rpc10, true
	case binding == "JSONRPC" || binding == "":
		return rpc03, true
	case binding == "HTTP+JSON" && new:
		return rest10, true
	case binding == "HTTP+JSON":
		return rest03, true
	}
	return 0, false // such as gRPC
}

// peer is what is known of an agent.
type peer struct {
	sum     uint64 // of its card
	doors   []door // the best first
	streams bool   // says its card
	pushes  bool   // says its card

	at atomic.Int32 // the door that it was last seen to open
	// Calls until it is asked again for what it has refused: to stream an answer, to stream a task that is under way, to call
	// back.
	unasked, unfollowed, uncalled atomic.Int32
}

// askAgain is after how many calls an agent is asked again for what it has refused.
const askAgain = 50

// ask tells whether it is time to ask for what was refused, if it was.
func ask(left *atomic.Int32) bool { return left.Load() <= 0 || left.Add(-1) <= 0 }

// order is the doors to try, the one that is known to open first.
func (p *peer) order(yield func(int, door) bool) {
	first := int(p.at.Load())
	if !yield(first, p.doors[first]) {
		return
	}
	for i, d := range p.doors {
		if i != first && !yield(i, d) {
			return
		}
	}
}

// found notes which door has opened. Parts of an answer that are {type, data} tell that the agent's are.
func (p *peer) found(i int, typed bool) {
	if d := p.doors[i]; typed && d.dialect == rpc03 {
		d.dialect = rpcTyped
		if j := slices.Index(p.doors, d); j >= 0 {
			i = j
		}
	}
	if p.at.Load() != int32(i) { //nolint:gosec // there are few doors
		p.at.Store(int32(i)) //nolint:gosec // as above
	}
}

// maxPeers is how many agents are remembered.
const maxPeers = 4096

// peers remembers agents by their endpoints, for as long as their cards stay as they are.
type peers struct {
	seed maphash.Seed
	mu   sync.RWMutex
	by   map[string]*peer
}

func (ps *peers) get(endpoint string, card json.RawMessage) *peer {
	sum := maphash.Bytes(ps.seed, card)
	ps.mu.RLock()
	p := ps.by[endpoint]
	ps.mu.RUnlock()
	if p != nil && p.sum == sum {
		return p
	}
	p = readCard(card, endpoint)
	p.sum = sum
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if known := ps.by[endpoint]; known != nil && known.sum == sum {
		return known
	}
	if len(ps.by) >= maxPeers && ps.by[endpoint] == nil {
		for other := range ps.by { // whichever; it is found out again
			delete(ps.by, other)
			break
		}
	}
	ps.by[endpoint] = p
	return p
}
