package balancer

import (
	"net/netip"
	"slices"
)

// A link may have virtual addresses of both families. What is planned for is
// IPv4; of IPv6 only the wish that unaccepted addresses take no packets.

func is6(p netip.Prefix) bool { return p.Addr().Is6() }

// four is a configuration with its IPv4 addresses only.
func (c Config) four() Config {
	c.Lans, c.Uplinks = slices.Clone(c.Lans), slices.Clone(c.Uplinks)
	for i := range c.Lans {
		c.Lans[i].Virtual = slices.DeleteFunc(slices.Clone(c.Lans[i].Virtual), is6)
	}
	for i := range c.Uplinks {
		c.Uplinks[i].Virtual = slices.DeleteFunc(slices.Clone(c.Uplinks[i].Virtual), is6)
	}
	return c
}

// six are the virtual addresses of IPv6.
func (c *Config) six() []netip.Addr {
	var out []netip.Addr
	add := func(ps []netip.Prefix) {
		for _, p := range ps {
			if is6(p) {
				out = append(out, p.Addr())
			}
		}
	}
	for _, l := range c.Lans {
		add(l.Virtual)
	}
	for _, u := range c.Uplinks {
		add(u.Virtual)
	}
	return out
}

// NAT is the virtual address to which flows over an uplink are translated; zero:
// it has none, and the device's own is taken.
func (u Uplink) NAT() netip.Addr {
	for _, p := range u.Virtual {
		if p.Addr().Is4() {
			return p.Addr()
		}
	}
	return netip.Addr{}
}

// IsVirtual tells whether a is one of the cluster's addresses.
func (c *Config) IsVirtual(a netip.Addr) bool {
	is := func(p netip.Prefix) bool { return p.Addr() == a }
	return slices.ContainsFunc(c.Lans, func(l Lan) bool { return slices.ContainsFunc(l.Virtual, is) }) ||
		slices.ContainsFunc(c.Uplinks, func(u Uplink) bool { return slices.ContainsFunc(u.Virtual, is) })
}

// OwnOn are, of the addresses of a device, the node's permanent ones: neither
// virtual nor of the 169.254 kind, which lead nowhere.
func (c *Config) OwnOn(device []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range device {
		if a := p.Addr(); a.Is4() && !a.IsLinkLocalUnicast() && !a.IsLoopback() && !c.IsVirtual(a) {
			out = append(out, p)
		}
	}
	return out
}
