package gossip

import (
	"crypto/rand"
	"fmt"
	"net/netip"
)

// Datagram is a sealed packet that another process may send in this node's
// name, over one of the paths.
type Datagram struct {
	Source netip.Addr
	To     netip.AddrPort
	Bytes  []byte
}

// Ahead seals a direct message to a node for the time when this process cannot
// send it any more: one datagram for each path. Of the copies that arrive by
// different paths the node takes one; if it is sent again later it is taken
// again, so what it says must hold once only. It is valid for the present lives
// of both nodes (Lives): made anew when they change.
func (g *Gossip) Ahead(node, kind string, payload []byte) ([]Datagram, error) {
	r := g.roster.Load()
	p := r.peers[node]
	switch {
	case p == nil:
		return nil, fmt.Errorf("seal %s for %s: no other node has this name", kind, node)
	case p.heard.Load() == 0:
		return nil, fmt.Errorf("seal %s for %s: it was not heard yet", kind, node)
	}
	sealed, err := r.seal(&envelope{Type: typeAhead, From: g.node, Life: g.life.Load(), To: p.heard.Load(), Kind: kind, Payload: payload})
	if err != nil {
		return nil, fmt.Errorf("seal %.20q for %s: %w", kind, node, err)
	}
	var out []Datagram
	for _, path := range r.paths[node] {
		out = append(out, Datagram{Source: path.local, To: netip.AddrPortFrom(path.remote, r.port), Bytes: sealed})
	}
	return out, nil
}

// Lives tells which runs of this node and of another one a message that is
// sealed ahead now would be for; 0 not known.
func (g *Gossip) Lives(node string) (own, other uint64) {
	if p := g.roster.Load().peers[node]; p != nil {
		other = p.heard.Load()
	}
	return g.life.Load(), other
}

// seal makes the packet of a message.
func (r *roster) seal(e *envelope) ([]byte, error) {
	b := e.appendTo(nil)
	if len(e.Kind) > maxName || len(b) > packetLimit {
		return nil, fmt.Errorf("%d bytes are too large for a packet", len(b))
	}
	seals, err := newSeals(r.cfg.ClusterLabel, r.cfg.Keys[:1])
	if err != nil {
		return nil, err
	}
	return seals.seal(b), nil
}

// userMessage is memberlist's type of what its user sends.
const userMessage = 8

// seal makes the packet that memberlist would make of a user's message.
func (s *seals) seal(text []byte) []byte {
	b := append([]byte{labelByte, byte(len(s.label))}, s.label...)
	b = append(b, sealVersion)
	nonce := make([]byte, nonceSize)
	rand.Read(nonce) // never fails (crypto/rand)
	b = append(b, nonce...)
	return s.keys[0].Seal(b, nonce, append([]byte{userMessage}, text...), []byte(s.label))
}
