package gossip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

// maxPayload bounds snapshots and messages, bytes: a push-pull with one must
// stay below maxStream.
const maxPayload = 512 << 10

// Send sends a direct message of at most 512 KiB to a node of the file, member
// or not. Up to about a kilobyte it goes as a packet over each path before
// Send returns (about half a millisecond from handler to handler), and once
// more over TCP in the background, in case the packets are lost; what is larger
// goes over TCP only. The other side takes it once. The error says that it was
// not even tried, also of a larger one; that the message arrived, only an
// answer tells. ctx is looked at on entry only. The payload is copied.
func (g *Gossip) Send(ctx context.Context, node, kind string, payload []byte) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("send %s to %s: %w", kind, node, err)
	}
	p, list := g.roster.Load().peers[node], g.list.Load()
	switch {
	case p == nil:
		return fmt.Errorf("send %s to %s: no other node has this name", kind, node)
	case list == nil:
		return fmt.Errorf("send %s to %s: gossip does not run", kind, node)
	case len(kind) > maxName || len(payload) > maxPayload:
		return fmt.Errorf("send %.20q to %s: %d and %d bytes are more than %d and %d", kind, node, len(kind), len(payload), maxName, maxPayload)
	}
	e := envelope{
		Type: typeMessage, From: g.node, Life: g.life.Load(), Seq: g.told.Add(1),
		To: p.heard.Load(), Kind: kind, Payload: payload,
	}
	b := e.appendTo(nil)
	sent := g.sendPacket(list, p, b)
	select {
	case p.outbox <- b:
		return nil
	default:
	}
	if sent != nil {
		return fmt.Errorf("send %s to %s: %w", kind, node, sent)
	}
	return nil
}

// SendTo sends a direct message to an address that is no node's here, as one
// packet: whoever has the key, and this node in its file, takes it. The error
// says that it did not leave. It does not wait.
func (g *Gossip) SendTo(to netip.Addr, kind string, payload []byte) error {
	r, t := g.roster.Load(), g.way.Load()
	if t == nil {
		return fmt.Errorf("send %s to %s: gossip does not run", kind, to)
	}
	sealed, err := r.seal(&envelope{Type: typeMessage, From: g.node, Life: g.life.Load(), Seq: g.told.Add(1), Kind: kind, Payload: payload})
	if err != nil {
		return fmt.Errorf("send %.20q to %s: %w", kind, to, err)
	}
	sockets := *t.sockets.Load()
	for _, own := range r.addresses {
		if s := sockets[netip.AddrPortFrom(own, r.port)]; s != nil && own.Is4() == to.Unmap().Is4() {
			if err = s.write(sealed, netip.AddrPortFrom(to.Unmap(), r.port)); err == nil {
				return nil
			}
		}
	}
	if err == nil {
		err = errors.New("no address of that family here")
	}
	return fmt.Errorf("send %s to %s: %w", kind, to, err)
}

func (g *Gossip) sendPacket(list *memberlist.Memberlist, p *peer, b []byte) error {
	if len(b) > packetLimit {
		return fmt.Errorf("%d bytes are too large for a packet", len(b))
	}
	return list.SendBestEffort(p.node, b)
}

const (
	deliverTries = 3
	deliverPause = 50 * time.Millisecond
)

// deliver sends the reliable copies of direct messages to one node, until ctx
// ends and then those that still wait.
func (g *Gossip) deliver(ctx context.Context, list *memberlist.Memberlist, p *peer) {
	for {
		select {
		case b := <-p.outbox:
			for try := 1; ; try++ {
				err := list.SendReliable(p.node, b)
				if err == nil {
					break
				}
				if try == deliverTries {
					g.log.Debug("deliver message", "node", p.name, "error", err)
					break
				}
				select {
				case <-ctx.Done():
				case <-time.After(deliverPause):
				}
				_ = g.sendPacket(list, p, b) // a packet may pass where a handshake does not
			}
		case <-ctx.Done():
			for len(p.outbox) > 0 {
				if list.SendReliable(p.node, <-p.outbox) != nil {
					return
				}
			}
			return
		}
	}
}
