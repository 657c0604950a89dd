package netlab

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

func prefixOf(n *net.IPNet) netip.Prefix {
	ip, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(ip.Unmap(), bits)
}

// Port is a device of a node and the switch port at the other end of its cable.
type Port struct {
	Node      *Node
	Device    string
	MAC       net.HardwareAddr
	Addresses []netip.Prefix // permanent ones, put there at power-on

	segment  *segment
	peer     string // the device at the switch's end
	plugged  bool
	up       bool // what the switch's end was last told
	drops    []drop
	emulator *Emulator
}

// Direction of frames as the port's node sees them.
type Direction uint8

const (
	In   Direction = 1 << iota // towards the node
	Out                        // from the node
	Both = In | Out
)

type drop struct {
	direction Direction
	match     string
}

// master is the bridge that the switch's end belongs to.
func (p *Port) master() string {
	if p.emulator != nil {
		return p.emulator.bridge
	}
	return p.segment.bridge
}

// String is node and device: r1/lan0.
func (p *Port) String() string { return p.Node.Name + "/" + p.Device }

// Unplug pulls the cable: the node's device has no carrier (and at the other
// end of a direct cable neither has the peer's).
func (p *Port) Unplug() error { return p.plug(false) }

// Plug puts the cable back.
func (p *Port) Plug() error { return p.plug(true) }

func (p *Port) plug(in bool) error {
	s := p.Node.site
	s.mu.Lock()
	defer s.mu.Unlock()
	p.plugged = in
	return s.carry(p.segment)
}

// Remove deletes the node's device, and the cable with it, as a driver that is
// unloaded does. Captures on the port end.
func (p *Port) Remove() error {
	s := p.Node.site
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.emulator != nil {
		return fmt.Errorf("remove %s: an emulated line is on it", p)
	}
	if err := p.Node.IP("link del " + p.Device); err != nil {
		return err
	}
	p.plugged, p.up = false, false
	return s.carry(p.segment)
}

// Create makes a device that was removed anew: another one of the same name and
// MAC, with its permanent addresses, up and plugged in.
func (p *Port) Create() error {
	s := p.Node.site
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.lay(p); err != nil {
		return err
	}
	p.plugged = true
	if err := s.carry(p.segment); err != nil {
		return err
	}
	return p.Node.IP(p.setup())
}

// setup is what the admin's scripts do with the device, in lines of `ip`.
func (p *Port) setup() string {
	var script strings.Builder
	fmt.Fprintf(&script, "link set %s up\n", p.Device)
	for _, a := range p.Addresses {
		fmt.Fprintf(&script, "address add %s dev %s broadcast +\n", a, p.Device)
	}
	return script.String()
}

// Drop loses frames in the given directions while carrier stays. match limits
// it to some of them in the words of nft in the bridge family ("ip protocol
// 112", "udp dport 7946", "ether type arp"); "" means every frame. Drops add
// up until Pass.
func (p *Port) Drop(d Direction, match string) error {
	s := p.Node.site
	s.mu.Lock()
	defer s.mu.Unlock()
	before := p.drops
	p.drops = append(p.drops[:len(before):len(before)], drop{d, match})
	if err := s.applyDrops(); err != nil {
		p.drops = before
		return fmt.Errorf("drop %q on %s: %w", match, p, err)
	}
	return nil
}

// Pass ends all drops of the port.
func (p *Port) Pass() error { return p.Node.site.Pass(p) }

// Cut loses every frame in both directions on all the ports at one instant
// while carrier stays; Pass mends it.
func (s *Site) Cut(ports ...*Port) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range ports {
		p.drops = append(p.drops, drop{Both, ""})
	}
	return s.applyDrops()
}

// Pass ends all drops of the ports at one instant.
func (s *Site) Pass(ports ...*Port) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range ports {
		p.drops = nil
	}
	return s.applyDrops()
}

// carries tells whether the switch's end of p has a signal: cable and power are
// there, and those of the other end too where it is one cable.
func (seg *segment) carries(p *Port) bool {
	if !seg.cable {
		return p.plugged && p.Node.on()
	}
	for _, end := range seg.ports {
		if !end.plugged || !end.Node.on() {
			return false
		}
	}
	return true
}

// carry gives each switch end of the segments the state that cables and power
// make of it. The switch's end is what is set down: the node's own device stays
// up and sees NO-CARRIER. A switch forgets the addresses behind a dead port.
func (s *Site) carry(segments ...*segment) error {
	for _, seg := range segments {
		for _, p := range seg.ports {
			up := seg.carries(p)
			if up == p.up {
				continue
			}
			link, err := s.links.LinkByName(p.peer)
			if err != nil {
				return fmt.Errorf("find the switch's end of %s: %w", p, err)
			}
			set := s.links.LinkSetDown
			if up {
				set = s.links.LinkSetUp
			}
			if err := set(link); err != nil {
				return fmt.Errorf("set carrier of %s to %t: %w", p, up, err)
			}
			p.up = up
		}
	}
	return nil
}

// applyDrops writes all drops of the site in one transaction. A node without
// power neither sends nor hears.
func (s *Site) applyDrops() error {
	var from, to strings.Builder
	for _, n := range s.nodes {
		for _, p := range n.ports {
			drops := p.drops
			if n.dark.Load() {
				drops = []drop{{Both, ""}}
			}
			for _, d := range drops {
				if d.direction&Out != 0 {
					fmt.Fprintf(&from, "    iifname %q %s drop\n", p.peer, d.match)
				}
				if d.direction&In != 0 {
					fmt.Fprintf(&to, "    oifname %q %s drop\n", p.peer, d.match)
				}
			}
		}
	}
	return s.sw.NFT(fmt.Sprintf(`table bridge lab
flush table bridge lab
table bridge lab {
  chain from {
    type filter hook prerouting priority 0; policy accept;
%s  }
  chain to {
    type filter hook forward priority 0; policy accept;
%s  }
}
`, from.String(), to.String()))
}
