package ha

import (
	"context"
	"net/netip"
	"time"

	"harouter/balancer"
)

// Adverts is the advert thread (vrrp/wire). Nothing here may block.
type Adverts interface {
	Advertise(priority uint8, interval time.Duration)
	Silence()
	Once(priority uint8)
	Renew()
	// Unread tells whether an advert was received that was not handed over yet.
	Unread() bool
}

// Addresses holds the virtual addresses (vrrp/vip).
type Addresses interface {
	Add(context.Context) error
	Remove(context.Context) error
	Announce()
}

// Plane is the kernel's routing and rules (balancer/dataplane).
type Plane interface {
	Apply(context.Context, balancer.Plan) error
	Activate(ctx context.Context, active, grace bool) error
}

// Gossip talks to the other nodes (ha/gossip).
type Gossip interface {
	Publish(state []byte)
	Send(ctx context.Context, node, kind string, payload []byte) error
	// SendTo sends to whoever has an address, and must not block.
	SendTo(to netip.Addr, kind string, payload []byte) error
}

// Lans are the frames that nodes exchange on each lan, and the look at its hosts
// (ha/hello). Nothing here may block.
type Lans interface {
	// Publish greets with this state from now on.
	Publish(state []byte)
	Send(node string, payload []byte)
	Look(Look)
}

// Files are the configuration files of this node, and all that follows them.
type Files interface {
	// Read reads, or makes, a file and checks it for this node.
	Read(ReadFile) Checked
	// Adopt keeps a file and hands it to all edges; with an error nothing
	// changed.
	Adopt(context.Context, Adopt) (Config, error)
	// Rest keeps the maintenance mode over a restart.
	Rest(on bool) error
	// KeepSwitches keeps over a restart which uplinks are disabled by hand.
	KeepSwitches(map[string]Switch) error
}

// Flows replicates the connection table (conntracksync). None of its calls is
// made from the deciding loop. It starts as one of a backup. The order of terms
// tells whose word on a flow is the newer; they grow with each change of the role.
type Flows interface {
	// Take makes this node the owner of all flows in a new term, and returns
	// when everything that was received is in the kernel: before a takeover
	// puts addresses on. Ctx ends after a second, or when another node is master
	// after all; Yield follows then. With any other error, which is logged, the
	// takeover goes on. A master that met another one takes again, in a higher
	// term.
	Take(ctx context.Context, term uint64) error
	// Yield: this node is no master any more; term is that of the master that
	// is, as far as it is known. It returns at once.
	Yield(term uint64)
	// Flush returns when all that this node knows has been received and
	// installed by another one: before a hand-over to it. Ctx ends after 500 ms.
	Flush(ctx context.Context, node string) error
}

// Ports are the edges that the loop drives; cmd/harouter fills them.
type Ports struct {
	Adverts   Adverts
	Addresses Addresses
	Plane     Plane
	Gossip    Gossip
	Lans      Lans // nil: the nodes do not greet each other there
	Files     Files
	Flows     Flows // nil: flows are never replicated, whatever Config.Sync says
	// DeleteFlows ends all flows that carry the mark of the uplink with this id
	// under a mask of balance.mark_mask; tell: hosts learn at once that their TCP
	// connections are among them.
	DeleteFlows func(ctx context.Context, id int, mask uint32, tell bool) error
	// MoveFlows ends those flows that are strays; their ids are in mask.
	MoveFlows func(ctx context.Context, s balancer.Strays, mask uint32) error
	// DropAddresses ends those that come to an address or are translated to it; tell
	// as above.
	DropAddresses func(ctx context.Context, gone []netip.Addr, tell bool) error
	// Forwarded counts the packets that this node forwarded; nil: it cannot be told.
	Forwarded func() (uint64, error)
	// Probe sets where an uplink is probed from.
	Probe func(Source)
	// Pulse asks whether another machine runs (ha/pulse); nil: nobody does. It must
	// not block.
	Pulse func(Pulse)
	// Guard hands the guard its orders; Beat tells it that this loop lives.
	Guard func(Guard)
	Beat  func()
	// Remember keeps the other nodes' addresses over a restart.
	Remember func(map[string][]netip.Addr) error
	// Record takes a line of the event log. It must not block.
	Record func(Record)
}
