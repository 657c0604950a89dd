package ha

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// A node whose address on a lan is this node's as well, by a copied file of the
// system's network, say, is not heard there: to the kernel its packets come from
// this machine itself. It tells its addresses elsewhere.

// twins are the addresses that this node and another one have on one lan, and
// who the other one is.
func (m *Machine) twins(now time.Time) map[netip.Addr]string {
	var all map[netip.Addr]string
	for _, l := range m.cfg.Balancer.Lans {
		for _, own := range m.own(l.Device) {
			if !inLan(l, own.Addr()) {
				continue
			}
			for _, n := range m.cfg.Nodes {
				if p := m.peers[n.Name]; p != nil && p.told && p.alive(now) && slices.Contains(p.addresses, own.Addr()) {
					if all == nil {
						all = map[netip.Addr]string{}
					}
					all[own.Addr()] = p.Name
				}
			}
		}
	}
	return all
}

func (m *Machine) settleTwins(now time.Time) {
	if !m.untwinned {
		return
	}
	m.untwinned = false
	twins := m.twins(now)
	for a, name := range twins {
		m.raise(AlarmAddressConflict, a.String(), fmt.Sprintf("%s has the address %v of %s too, so that the two do not hear each other there: give one of them another", name, a, m.cfg.Node), time.Time{}, now)
	}
	for a := range m.twinned {
		if twins[a] == "" {
			m.clear(AlarmAddressConflict, a.String())
		}
	}
	m.twinned = twins
}
