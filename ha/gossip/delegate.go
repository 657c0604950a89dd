package gossip

import (
	"fmt"
	"net/netip"

	"github.com/hashicorp/memberlist"
)

// delegate is what memberlist calls, from its own goroutines and partly with
// its locks held: nothing here calls back into it.
type delegate struct{ g *Gossip }

// NotifyMsg is called with each user message.
func (d *delegate) NotifyMsg(b []byte) { d.g.receive(b) }

// MergeRemoteState is called with the other side's snapshot of a push-pull.
func (d *delegate) MergeRemoteState(b []byte, _ bool) { d.g.receive(b) }

// LocalState is this side's snapshot of a push-pull.
func (d *delegate) LocalState(bool) []byte { return d.g.snapshot() }

// NodeMeta is not used: snapshots carry everything.
func (d *delegate) NodeMeta(int) []byte { return nil }

// GetBroadcasts is not used: it loses what is larger than a packet without a
// word, and waits for the next gossip round.
func (d *delegate) GetBroadcasts(int, int) [][]byte { return nil }

// NotifyAlive refuses nodes that the file does not have, and known names at
// other addresses.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	addr, ok := netip.AddrFromSlice(n.Addr)
	at := netip.AddrPortFrom(addr.Unmap(), n.Port)
	if ok && n.Name == d.g.cfg.Node && at == d.g.self {
		return nil
	}
	if p, known := d.g.peers[n.Name]; ok && known && at == p.at {
		return nil
	}
	d.g.drop(DropSender, addr.Unmap())
	return fmt.Errorf("the file has no node %s at %s", n.Name, at)
}

// NotifyJoin is called when a node becomes a member.
func (d *delegate) NotifyJoin(n *memberlist.Node) { d.g.member(n.Name, true) }

// NotifyLeave is called when a member leaves or is found dead.
func (d *delegate) NotifyLeave(n *memberlist.Node) { d.g.member(n.Name, false) }

// NotifyUpdate is called when a node's meta data change: there are none.
func (d *delegate) NotifyUpdate(*memberlist.Node) {}
