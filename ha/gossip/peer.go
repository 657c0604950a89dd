package gossip

import (
	"context"
	"crypto/sha256"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"harouter/ha"
)

// peer is another node of the file, whatever its addresses are.
type peer struct {
	name string
	node *memberlist.Node // as far as sending needs it; also where it is no member

	up       atomic.Bool
	heard    atomic.Uint64        // line.life, for the sending side
	answered atomic.Pointer[path] // the last stream went over it; nil before the first
	line     lifeline             // guarded by Gossip.mu
	kick     chan struct{}
	outbox   chan []byte
}

func newPeer(name string) *peer {
	return &peer{
		name:   name,
		node:   &memberlist.Node{Name: name, Addr: net.IP(nominal(name).AsSlice()), Port: nominalPort},
		kick:   make(chan struct{}, 1),
		outbox: make(chan []byte, outboxSize),
	}
}

// memberlist wants one address for each node and takes a node that comes with
// another for an impostor. So it is given one that says nothing but the name,
// out of the block that is never used (RFC 6666); the transport knows the real
// ones, and those may change at any time.
const nominalPort = 1

func nominal(name string) netip.Addr {
	sum := sha256.Sum256([]byte(name))
	a := [16]byte{0: 1}
	copy(a[8:], sum[:8])
	return netip.AddrFrom16(a)
}

// outboxSize is how many direct messages wait for their reliable copy; what
// is more goes out as a packet only.
const outboxSize = 64

// wake makes tend look at once.
func (p *peer) wake() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// packetLimit is the size up to which something travels as one packet, bytes.
// With seal and headers it stays below 1400.
const packetLimit = 1200

// tend keeps one node informed while it is a member and calls it while it is
// none.
func (g *Gossip) tend(ctx context.Context, list *memberlist.Memberlist, p *peer) {
	var joined time.Time
	for {
		wait := ha.Together(time.Now(), repeatEvery)
		if p.up.Load() {
			g.sendState(list, p)
		} else if wait = joinEvery - time.Since(joined); wait <= 0 {
			joined, wait = time.Now(), joinEvery
			// The library logs the error. Most often the node is off.
			_, _ = list.Join([]string{p.name + "/" + p.node.Address()})
		}
		select {
		case <-ctx.Done():
			return
		case <-p.kick:
		case <-time.After(wait):
		}
	}
}

func (g *Gossip) sendState(list *memberlist.Memberlist, p *peer) {
	b := g.snapshot()
	send := list.SendBestEffort
	if len(b) > packetLimit {
		send = list.SendReliable
	}
	if err := send(p.node, b); err != nil {
		g.log.Debug("send state", "node", p.name, "error", err)
	}
}

// snapshot returns what the others are to know now, freshly numbered. Before
// the first Publish the payload is empty: the others only learn of this life.
func (g *Gossip) snapshot() []byte {
	e := envelope{Type: typeState, From: g.node, Life: g.life.Load(), Seq: g.states.Add(1)}
	for name, p := range g.roster.Load().peers {
		if l := p.heard.Load(); l != 0 {
			e.Heard = append(e.Heard, heard{Node: name, Life: l})
		}
	}
	if b := g.payload.Load(); b != nil {
		e.Payload = *b
	}
	return e.appendTo(nil)
}
