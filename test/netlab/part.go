package netlab

import "strings"

// Part cuts a site in two at one instant: no frame passes between a node of the
// one side and a node of the other, on any segment, as if every switch between
// them had broken. Carrier stays, nodes of neither side reach both. Rejoin
// mends it.
func (s *Site) Part(one, other []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seg := range s.segments {
		for _, sides := range [][2][]*Port{{seg.of(s, one), seg.of(s, other)}, {seg.of(s, other), seg.of(s, one)}} {
			var macs []string
			for _, p := range sides[1] {
				macs = append(macs, p.MAC.String())
			}
			if len(macs) == 0 {
				continue
			}
			for _, p := range sides[0] {
				p.drops = append(p.drops, drop{In, "ether saddr { " + strings.Join(macs, ", ") + " }"})
			}
		}
	}
	return s.applyDrops()
}

// Rejoin ends all drops of the nodes' ports at one instant.
func (s *Site) Rejoin(nodes ...string) error {
	var ports []*Port
	for _, n := range nodes {
		ports = append(ports, s.Node(n).ports...)
	}
	return s.Pass(ports...)
}

// of are the ports of the segment that belong to the nodes.
func (seg *segment) of(s *Site, nodes []string) (ports []*Port) {
	for _, name := range nodes {
		for _, p := range seg.ports {
			if p.Node == s.Node(name) {
				ports = append(ports, p)
			}
		}
	}
	return ports
}
