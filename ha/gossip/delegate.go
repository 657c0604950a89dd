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

// NotifyAlive refuses nodes that the file does not have. The address is the
// nominal one: where a node really is, only the file tells.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	addr, ok := netip.AddrFromSlice(n.Addr)
	if ok && (n.Name == d.g.node || d.g.roster.Load().peers[n.Name] != nil) && addr == nominal(n.Name) && n.Port == nominalPort {
		return nil
	}
	d.g.drop(DropSender, netip.Addr{})
	return fmt.Errorf("the file has no node %s at %s port %d", n.Name, addr, n.Port)
}

// NotifyJoin is called when a node becomes a member.
func (d *delegate) NotifyJoin(n *memberlist.Node) { d.g.member(d, n.Name, true) }

// NotifyLeave is called when a member leaves or is found dead.
func (d *delegate) NotifyLeave(n *memberlist.Node) { d.g.member(d, n.Name, false) }

// NotifyUpdate is called when a node's meta data change: there are none.
func (d *delegate) NotifyUpdate(*memberlist.Node) {}
