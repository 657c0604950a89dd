package gossip

import (
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

// Config is what New needs.
type Config struct {
	Node         string
	Address      netip.Addr            // this node's: gossip listens there and comes from there
	Port         int                   // UDP and TCP, the same on all nodes
	Peers        map[string]netip.Addr // the other nodes of the file
	Keys         [][]byte              // 32 bytes each; the first seals, each opens
	ClusterLabel string                // cluster's name, at most 255 bytes
	// Handler is called from goroutines of this package, one at a time. It
	// must only hand over: while it blocks, nothing is received.
	Handler func(Event)
	Log     *slog.Logger
}

const keySize = 32

func (c *Config) check() error {
	switch {
	case c.Node == "" || len(c.Node) > maxName:
		return fmt.Errorf("start gossip: node name %q must have 1 to %d bytes", c.Node, maxName)
	case !c.Address.IsValid() || c.Address.IsUnspecified():
		return fmt.Errorf("start gossip: node %s needs an address of its own, not %s", c.Node, c.Address)
	case c.Port < 1 || c.Port > 65535:
		return fmt.Errorf("start gossip: port %d must be 1 to 65535", c.Port)
	case c.ClusterLabel == "" || len(c.ClusterLabel) > memberlist.LabelMaxSize:
		return fmt.Errorf("start gossip: cluster name %q must have 1 to %d bytes", c.ClusterLabel, memberlist.LabelMaxSize)
	case len(c.Keys) == 0:
		return fmt.Errorf("start gossip: a key is needed")
	case c.Handler == nil:
		return fmt.Errorf("start gossip: a handler is needed")
	}
	for i, k := range c.Keys {
		if len(k) != keySize {
			return fmt.Errorf("start gossip: key %d has %d bytes, not %d", i+1, len(k), keySize)
		}
	}
	for name, a := range c.Peers {
		if name == "" || len(name) > maxName || name == c.Node || !a.IsValid() || a == c.Address {
			return fmt.Errorf("start gossip: node %q with address %s cannot be a peer of %s with %s", name, a, c.Node, c.Address)
		}
	}
	return nil
}

// A node that dies is a member no more after about 1.1 s. VRRP is faster, and
// decides. Quicker profiles cost more: nearly all of the 0.7 % of a core that an
// idle node takes is waking up.
const (
	repeatEvery = 300 * time.Millisecond // snapshots, also unchanged
	joinEvery   = time.Second            // nodes that are not members
	bindEvery   = 250 * time.Millisecond // an address that is not there yet
	leaveWithin = 500 * time.Millisecond
)

// library returns memberlist's settings. The rest is that of its LAN profile.
func (g *Gossip) library(t *transport) (*memberlist.Config, error) {
	ring, err := memberlist.NewKeyring(g.cfg.Keys, g.cfg.Keys[0])
	if err != nil {
		return nil, fmt.Errorf("use gossip keys: %w", err)
	}
	c := memberlist.DefaultLANConfig()
	c.Name, c.Label, c.Keyring, c.Transport = g.cfg.Node, g.cfg.ClusterLabel, ring, t
	c.BindAddr, c.BindPort = g.cfg.Address.String(), g.cfg.Port
	c.AdvertiseAddr, c.AdvertisePort = c.BindAddr, c.BindPort
	c.GossipVerifyIncoming, c.GossipVerifyOutgoing = true, true
	c.EnableCompression = false // 64 KiB of tables for every ping
	c.ProbeInterval, c.ProbeTimeout = 250*time.Millisecond, 125*time.Millisecond
	c.SuspicionMult, c.SuspicionMaxTimeoutMult, c.AwarenessMaxMultiplier = 2, 1, 2
	c.IndirectChecks, c.DisableTcpPings = 1, true
	c.GossipInterval = 500 * time.Millisecond
	c.TCPTimeout = streamTimeout
	c.PushPullInterval = 5 * time.Second
	d := &delegate{g}
	c.Delegate, c.Events, c.Alive = d, d, d
	c.Logger = libraryLog(g.log)
	return c, nil
}
