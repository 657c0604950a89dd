package ha

import (
	"net/netip"
	"slices"

	"harouter/vrrp"
)

// noteLeases has what hangs on an address that an uplink had before it got the
// present one end: its flows would go on with a source that leads nowhere, those of UDP
// for as long as their hosts repeat themselves. An uplink that has no address at
// all is a matter of its verdict.
func (m *Machine) noteLeases() {
	held := m.ownAddresses()
	for _, u := range m.cfg.Balancer.Uplinks {
		own := m.own(u.Device)
		if len(own) == 0 {
			continue
		}
		for _, a := range m.leases[u.Name] {
			if !held[a] && !m.virtual(a) {
				m.lapsed = append(m.lapsed, a)
			}
		}
		now := make([]netip.Addr, 0, len(own))
		for _, p := range own {
			now = append(now, p.Addr())
		}
		if was := m.leases[u.Name]; len(was) > 0 && !slices.Equal(was, now) {
			m.record("address", u.Name, joined(was), joined(now), "its own address changed")
		}
		m.leases[u.Name] = now
	}
}

// settleLapsed ends those flows once the kernel leads nothing to the address any
// more: what comes to it until then would begin them anew.
func (m *Machine) settleLapsed() {
	held := m.ownAddresses()
	gone := slices.DeleteFunc(m.lapsed, func(a netip.Addr) bool { return held[a] })
	if m.lapsed = nil; len(gone) > 0 {
		m.do(DropAddresses{Addresses: gone, Tell: m.vrrp.State() == vrrp.Master})
	}
}

// ownAddresses are the addresses that the devices of this node have.
func (m *Machine) ownAddresses() map[netip.Addr]bool {
	held := map[netip.Addr]bool{}
	for _, l := range m.links {
		for _, p := range l.Addresses {
			held[p.Addr()] = true
		}
	}
	return held
}

func joined(all []netip.Addr) string {
	text := ""
	for i, a := range all {
		if i > 0 {
			text += " "
		}
		text += a.String()
	}
	return text
}
