package gossip

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// peer is another node of the file.
type peer struct {
	name string
	at   netip.AddrPort
	node *memberlist.Node // as far as sending needs it; also where it is no member

	up     atomic.Bool
	heard  atomic.Uint64 // line.life, for the sending side
	line   lifeline      // guarded by Gossip.mu
	kick   chan struct{}
	outbox chan []byte
}

func newPeer(name string, at netip.AddrPort) *peer {
	return &peer{
		name: name, at: at,
		node:   &memberlist.Node{Name: name, Addr: net.IP(at.Addr().AsSlice()), Port: at.Port()},
		kick:   make(chan struct{}, 1),
		outbox: make(chan []byte, outboxSize),
	}
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
func (g *Gossip) tend(ctx context.Context, p *peer) {
	var joined time.Time
	for {
		wait := repeatEvery
		if p.up.Load() {
			g.sendState(p)
		} else if wait = joinEvery - time.Since(joined); wait <= 0 {
			joined, wait = time.Now(), joinEvery
			// The library logs the error. Most often the node is off.
			_, _ = g.list.Load().Join([]string{p.name + "/" + p.at.String()})
		}
		select {
		case <-ctx.Done():
			return
		case <-p.kick:
		case <-time.After(wait):
		}
	}
}

func (g *Gossip) sendState(p *peer) {
	b := g.snapshot()
	send := g.list.Load().SendBestEffort
	if len(b) > packetLimit {
		send = g.list.Load().SendReliable
	}
	if err := send(p.node, b); err != nil {
		g.log.Debug("send state", "node", p.name, "error", err)
	}
}

// snapshot returns what the others are to know now, freshly numbered. Before
// the first Publish the payload is empty: the others only learn of this life.
func (g *Gossip) snapshot() []byte {
	e := envelope{Type: typeState, From: g.cfg.Node, Life: g.life.Load(), Seq: g.states.Add(1)}
	for name, p := range g.peers {
		if l := p.heard.Load(); l != 0 {
			e.Heard = append(e.Heard, heard{Node: name, Life: l})
		}
	}
	if b := g.payload.Load(); b != nil {
		e.Payload = *b
	}
	return e.appendTo(nil)
}
