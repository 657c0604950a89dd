package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"
)

// Config is what New and Configure need. Other, Heard, Drop, Taken and Log may be nil.
type Config struct {
	Node      string
	Addresses []netip.AddrPort            // this node's, in order of preference: it listens there and dials from there
	Peers     map[string][]netip.AddrPort // the other nodes, their addresses in order of preference
	Seeds     [][32]byte                  // derived from the cluster's keys: the first is used, another one with a node that has only that
	Frames    uint16                      // the version of what frames hold: there is a session only with a node that has the same
	Queue     int                         // bytes that may wait for one peer; 0 means DefaultQueue
	Handler   Handler

	// Other gives connections with another protocol (ALPN) away: the TLS
	// settings for them, and who talks to them after the handshake and closes
	// them. Nil settings refuse: to a stranger nobody listens. It is called for
	// each connection and must not block.
	Other func(alpn string) (*tls.Config, func(ctx context.Context, conn net.Conn))

	Heard func(node string)                      // a sign of life of a node with which there is a session, about each 450 ms; it must not block
	Drop  func(reason Reason, source netip.Addr) // at most ten a second of each reason; Counters has them all
	// Taken tells that another program has the port on an own address, in a
	// sentence, and with "" that it has it no more, or that it does not matter.
	Taken func(at netip.AddrPort, text string)
	Log   *slog.Logger
}

// DefaultQueue is how many bytes may wait for one peer.
const DefaultQueue = 4 << 20

// Handler gets what happens with a peer, in order and from one goroutine for
// each peer. It may block: that holds back this peer only. Run waits for it in
// the end, Configure does not.
type Handler interface {
	// Up: there is a session. From now on Send takes frames for the node.
	Up(node string, via netip.AddrPort)
	// Down: there is none, and why. It comes after each Up, and where there was
	// none yet when the reason changes.
	Down(node string, reason Reason, err error)
	// Frame: a frame came; it is valid until Frame returns. More says that the
	// next call for this peer is another frame already here: what is gathered
	// then must be done when a call with more = false (or Down) returns, since
	// that is what the other side's Barrier waits for.
	Frame(node string, frame []byte, more bool)
	// Overflow: the queue to the node was full, and all of it was dropped.
	// From the drop until this call Send takes nothing for the node. What is
	// sent from now on should start over with the whole state.
	Overflow(node string)
}

// How it keeps time.
const (
	beatEvery   = 400 * time.Millisecond
	silentAfter = 1200 * time.Millisecond // a session without a byte
	drainAfter  = 50 * time.Millisecond   // once more, for a node that overslept
	writeWithin = 1200 * time.Millisecond // the other side always reads

	linger         = 200 * time.Microsecond // between two small records
	farewellWithin = 200 * time.Millisecond

	greetWithin  = 2 * time.Second // from connecting to the session
	dialStagger  = 150 * time.Millisecond
	firstRetry   = 50 * time.Millisecond
	lastRetry    = time.Second
	lastAgain    = 10 * time.Second // where each session is soon given up for what is said in it
	steadyAfter  = 5 * time.Second  // a session that lived so long was a good one
	bindEvery    = 250 * time.Millisecond
	userTimeout  = 1500 * time.Millisecond
	notSentLimit = 128 << 10 // bytes in the kernel that urgent frames cannot overtake
)

// Bounds of a session.
const (
	window        = 1 << 20       // bytes on the way to the other side's Handler
	urgentReserve = 64 << 10      // bytes on top for urgent frames
	urgentQueue   = urgentReserve // bytes of them that wait here
)

func (c *Config) check() error {
	if c.Node == "" {
		return errors.New("set up state sync: a node name is needed")
	}
	if len(c.Seeds) == 0 {
		return errors.New("set up state sync: a key is needed")
	}
	if c.Handler == nil {
		return errors.New("set up state sync: a handler is needed")
	}
	if c.Queue != 0 && c.Queue < 2*recordSize {
		return fmt.Errorf("set up state sync: a queue of %d bytes is too small, at least %d are needed", c.Queue, 2*recordSize)
	}
	owner := map[netip.AddrPort]string{}
	claim := func(node string, list []netip.AddrPort) error {
		if len(list) == 0 {
			return fmt.Errorf("set up state sync: node %s has no address", node)
		}
		for _, a := range list {
			if !a.IsValid() || a.Addr().IsUnspecified() || a.Port() == 0 {
				return fmt.Errorf("set up state sync: node %s cannot be reached at %v", node, a)
			}
			a = plain(a)
			if other, taken := owner[a]; taken {
				return fmt.Errorf("set up state sync: %v is an address of %s and cannot be one of %s too", a, other, node)
			}
			owner[a] = node
		}
		return nil
	}
	if err := claim(c.Node, c.Addresses); err != nil {
		return err
	}
	for name, list := range c.Peers {
		if name == "" || name == c.Node {
			return fmt.Errorf("set up state sync: a node named %q cannot be a peer of %s", name, c.Node)
		}
		if err := claim(name, list); err != nil {
			return err
		}
	}
	return nil
}

func plain(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
