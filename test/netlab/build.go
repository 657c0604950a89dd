package netlab

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// firstIndex is where interface indexes in the nodes begin. The two ends of a
// veth must not have the same index: the kernel then takes them for a physical
// device and may tell of a lost carrier up to a second late (linkwatch).
const firstIndex = 1000

// bring makes the nodes' namespaces, wires their ports into the switch and
// gives them their permanent addresses and routes: at first for all, later for
// a router that is switched on again. The switch itself is brought first.
func (s *Site) bring(nodes ...*Node) error {
	var script strings.Builder
	for _, n := range nodes {
		fmt.Fprintf(&script, "netns add %s\n", n.Namespace())
	}
	if err := ipBatch(script.String()); err != nil {
		return err
	}
	for _, n := range nodes {
		if err := s.open(n); err != nil {
			return err
		}
	}
	if err := s.wire(nodes); err != nil {
		return err
	}
	for _, n := range nodes {
		if err := s.settle(n); err != nil {
			return err
		}
	}
	return s.await(nodes)
}

// await waits until the kernel has noticed that the nodes' devices have
// carrier: before that (a moment, longer on a busy machine) it drops what is
// sent, at both ends.
func (s *Site) await(nodes []*Node) error {
	down := func(n *Node, devices map[string]bool) (waiting string, err error) {
		err = n.in(func() error {
			h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
			if err != nil {
				return err
			}
			defer h.Close()
			links, err := h.LinkList()
			for _, l := range links {
				if a := l.Attrs(); devices[a.Name] && a.OperState != netlink.OperUp {
					waiting = n.Name + "/" + a.Name
				}
			}
			return err
		})
		return waiting, err
	}
	ends := map[*Node]map[string]bool{s.sw: {}}
	for _, n := range nodes {
		for _, p := range n.ports {
			if !p.up {
				continue
			}
			if ends[n] == nil {
				ends[n] = map[string]bool{}
			}
			ends[n][p.Device], ends[s.sw][p.peer] = true, true
		}
	}
	for n, devices := range ends {
		var waiting string
		var err error
		done := WaitFor("carrier", 5*time.Second, func() bool {
			waiting, err = down(n, devices)
			return waiting == "" || err != nil
		})
		if err = errors.Join(err, done); err != nil {
			return fmt.Errorf("bring up %s: %w", waiting, err)
		}
	}
	return nil
}

func (s *Site) open(n *Node) error {
	namespace, err := os.Open(n.namespacePath())
	if err != nil {
		return err
	}
	n.namespace.Store(namespace)
	for _, dir := range []string{n.RunDir(), n.StateDir(), n.ConfigDir()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return n.in(n.writeSysctls)
}

// wire makes the cables of nodes.
func (s *Site) wire(nodes []*Node) error {
	var ports []*Port
	for _, n := range nodes {
		ports = append(ports, n.ports...)
	}
	if err := s.lay(ports...); err != nil {
		return err
	}
	return s.carry(s.segments...)
}

// lay makes cables. Both ends are created where they belong, so the caller's own
// namespace never sees a device.
func (s *Site) lay(ports ...*Port) error {
	var pairs, patch strings.Builder
	for _, p := range ports {
		s.index++
		fmt.Fprintf(&pairs, "link add dev %s index %d netns %s address %s type veth peer name %s netns %s\n",
			p.Device, firstIndex+s.index, p.Node.Namespace(), p.MAC, p.peer, s.sw.Namespace())
		fmt.Fprintf(&patch, "link set %s master %s\n", p.peer, p.master())
	}
	if err := ipBatch(pairs.String()); err != nil {
		return err
	}
	return s.sw.IP(patch.String())
}

// settle gives a node its addresses and routes.
func (s *Site) settle(n *Node) error {
	var script strings.Builder
	script.WriteString("link set lo up\n")
	for _, a := range n.loopback {
		fmt.Fprintf(&script, "address add %s dev lo\n", a)
	}
	for _, p := range n.ports {
		script.WriteString(p.setup())
	}
	for _, r := range n.routes {
		fmt.Fprintf(&script, "route add %s\n", r)
	}
	if err := n.IP(script.String()); err != nil {
		return err
	}
	if n.isp != nil {
		return n.NFT(ispRules(*n.isp))
	}
	return nil
}

// bridges makes the switches: no spanning tree, no multicast snooping (adverts
// are flooded, as a plain switch does), learning as usual.
func (s *Site) bridges() error {
	var script strings.Builder
	for _, seg := range s.segments {
		fmt.Fprintf(&script, "link add %s type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nlink set %[1]s up\n", seg.bridge)
	}
	if err := s.sw.IP(script.String()); err != nil {
		return err
	}
	return s.applyDrops()
}
