package gossip

import (
	"math"
	"net/netip"
	"slices"
	"time"
)

// receive takes what memberlist opened: a snapshot or a message, from a packet,
// a stream or a push-pull. b is copied.
func (g *Gossip) receive(b []byte) {
	at := time.Now()
	e, err := decodeEnvelope(b)
	if err != nil {
		g.log.Debug("received", "error", err)
		g.drop(DropGarbage, netip.Addr{})
		return
	}
	p := g.roster.Load().peers[e.From]
	if p == nil {
		g.log.Debug("received from a node that the file does not have", "node", e.From)
		g.drop(DropSender, netip.Addr{})
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	present, news := p.line.enter(e.Life)
	if news { // tell it: until then it takes nothing of ours
		p.heard.Store(e.Life)
		p.wake()
	}
	switch e.Type {
	case typeState:
		if g.heardHere(&e) && present && p.line.takeState(e.Seq) && len(e.Payload) > 0 {
			g.tell(State{Node: p.name, Payload: e.Payload, At: at})
		}
	case typeMessage:
		if present && (e.To == 0 || slices.Contains(g.lives, e.To)) && p.line.seen.fresh(e.Seq) {
			g.tell(Message{From: p.name, Kind: e.Kind, Payload: e.Payload, At: at})
		}
	case typeAhead:
		if present && slices.Contains(g.lives, e.To) {
			g.tell(Message{From: p.name, Kind: e.Kind, Payload: e.Payload, At: at})
		}
	}
}

// heardHere tells whether the sender of a snapshot has heard of this run. mu
// is held.
func (g *Gossip) heardHere(e *envelope) bool {
	i := slices.IndexFunc(e.Heard, func(h heard) bool { return h.Node == g.node })
	if i < 0 {
		return false
	}
	life := e.Heard[i].Life
	if life > g.life.Load() && life != math.MaxUint64 {
		// It remembers a former run, begun when the clock was ahead of what it
		// was when this one began.
		g.begin(life + 1)
		for _, p := range g.roster.Load().peers {
			p.wake()
		}
		return false
	}
	return slices.Contains(g.lives, life)
}

// begin numbers this run. mu is held, or nobody else knows g yet.
func (g *Gossip) begin(life uint64) {
	g.life.Store(life)
	g.lives = append(g.lives, life)
}
