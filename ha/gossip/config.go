package gossip

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"
)

// Config is what New needs.
type Config struct {
	Node         string
	Addresses    []netip.Addr            // this node's, in order of preference: gossip listens there and comes from there
	Port         int                     // UDP and TCP, the same on all nodes
	Peers        map[string][]netip.Addr // the other nodes of the file, their addresses in order of preference
	Keys         [][]byte                // 32 bytes each; the first seals, each opens
	ClusterLabel string                  // cluster's name, at most 255 bytes
	// Handler is called from goroutines of this package, one at a time. It
	// must only hand over: while it blocks, nothing is received.
	Handler func(Event)
	Log     *slog.Logger
}

const keySize = 32

func (c *Config) check() error {
	switch {
	case c.Node == "" || len(c.Node) > maxName:
		return fmt.Errorf("set up gossip: node name %q must have 1 to %d bytes", c.Node, maxName)
	case len(c.Addresses) == 0:
		return fmt.Errorf("set up gossip: node %s needs an address of its own", c.Node)
	case c.Port < 1 || c.Port > 65535:
		return fmt.Errorf("set up gossip: port %d must be 1 to 65535", c.Port)
	case c.ClusterLabel == "" || len(c.ClusterLabel) > memberlist.LabelMaxSize:
		return fmt.Errorf("set up gossip: cluster name %q must have 1 to %d bytes", c.ClusterLabel, memberlist.LabelMaxSize)
	case len(c.Keys) == 0:
		return fmt.Errorf("set up gossip: a key is needed")
	case c.Handler == nil:
		return fmt.Errorf("set up gossip: a handler is needed")
	}
	for i, k := range c.Keys {
		if len(k) != keySize {
			return fmt.Errorf("set up gossip: key %d has %d bytes, not %d", i+1, len(k), keySize)
		}
	}
	return c.checkAddresses()
}

// checkAddresses sees to it that an address tells which node it is, and that
// there is a path to each node.
func (c *Config) checkAddresses() error {
	owner := map[netip.Addr]string{}
	claim := func(node string, list []netip.Addr) error {
		for _, a := range list {
			if !a.IsValid() || a.IsUnspecified() {
				return fmt.Errorf("set up gossip: node %s cannot have %s as an address of its own", node, a)
			}
			if other, taken := owner[a.Unmap()]; taken {
				return fmt.Errorf("set up gossip: %s is an address of %s and cannot be one of %s too", a, other, node)
			}
			owner[a.Unmap()] = node
		}
		return nil
	}
	if err := claim(c.Node, c.Addresses); err != nil {
		return err
	}
	for name, list := range c.Peers {
		if name == "" || len(name) > maxName || name == c.Node {
			return fmt.Errorf("set up gossip: a node named %q cannot be a peer of %s", name, c.Node)
		}
		if err := claim(name, list); err != nil {
			return err
		}
		if len(pairs(c.Addresses, list)) == 0 {
			return fmt.Errorf("set up gossip: %s with %v has no way to %s with %v: each needs an address of the same family", c.Node, c.Addresses, name, list)
		}
	}
	return nil
}

// sameCluster tells whether memberlist can go on when c becomes to.
func (c *Config) sameCluster(to *Config) bool {
	return c.ClusterLabel == to.ClusterLabel && slices.EqualFunc(c.Keys, to.Keys, bytes.Equal)
}

// A node that dies is a member no more after 1.2 to 1.6 s; it counts as dead
// when it was not heard for 1.5 s. VRRP is faster, and decides. Quicker profiles
// cost more: nearly all that an idle node does is waking up.
const (
	repeatEvery = 400 * time.Millisecond // snapshots, also unchanged
	joinEvery   = time.Second            // nodes that are not members
	bindEvery   = 250 * time.Millisecond // an address that is not there yet
	leaveWithin = 500 * time.Millisecond
)

// library returns memberlist's settings. The rest is that of its LAN profile.
func (g *Gossip) library(cfg *Config, t *transport, d *delegate) (*memberlist.Config, error) {
	ring, err := memberlist.NewKeyring(cfg.Keys, cfg.Keys[0])
	if err != nil {
		return nil, fmt.Errorf("use gossip keys: %w", err)
	}
	c := memberlist.DefaultLANConfig()
	c.Name, c.Label, c.Keyring, c.Transport = g.node, cfg.ClusterLabel, ring, t
	c.RequireNodeNames = true // the transport goes by names
	c.BindAddr, c.BindPort = nominal(g.node).String(), nominalPort
	c.AdvertiseAddr, c.AdvertisePort = c.BindAddr, c.BindPort
	c.GossipVerifyIncoming, c.GossipVerifyOutgoing = true, true
	c.EnableCompression = false // 64 KiB of tables for every ping
	c.ProbeInterval, c.ProbeTimeout = 400*time.Millisecond, 200*time.Millisecond
	c.SuspicionMult, c.SuspicionMaxTimeoutMult, c.AwarenessMaxMultiplier = 1, 1, 2
	c.IndirectChecks, c.DisableTcpPings = 1, true
	c.GossipInterval = 500 * time.Millisecond
	c.TCPTimeout = streamTimeout
	c.PushPullInterval = 5 * time.Second
	c.Delegate, c.Events, c.Alive = d, d, d
	c.Logger = libraryLog(g.log)
	return c, nil
}
