package config

import (
	"fmt"
	"net/netip"
	"slices"
)

// routeFact is a route with the places of what others may contradict.
type routeFact struct {
	Route
	path                string
	to, gateway, source *value
}

// routes reads the networks that are reached another way than over the uplinks.
func (d *decoder) routes(t *table, all *[]Route) {
	t.rows("routes", func(row *table, _ int) {
		var r Route
		to := take(row, "to", &r.To, routedNetwork).required("a network such as 10.0.0.0/8")
		dev := take(row, "device", &r.Device, device)
		gate := take(row, "gateway", &r.Gateway, host4)
		source := take(row, "source", &r.Source, host4)
		take(row, "masquerade", &r.Masquerade, boolean)
		if dev.v == nil && gate.v == nil && !row.broken {
			d.fail(row.at, "%s: neither device nor gateway stands here; allowed: one of them, or both", row.path)
		}
		*all = append(*all, r)
		if to.ok {
			d.facts.routes = append(d.facts.routes, routeFact{r, row.path, to.v, gate.v, source.v})
		}
	})
}

// routedNetwork is one that a route can be for.
func routedNetwork(v *value) (netip.Prefix, error) {
	p, err := network4(v)
	switch {
	case err != nil:
	case p.Bits() == 0:
		err = fmt.Errorf("%s is everything, which the uplinks lead to; allowed: a network such as 10.0.0.0/8", p)
	case p.Addr().IsMulticast() || p.Addr().IsLoopback():
		err = fmt.Errorf("%s is no network behind a router; allowed: a network such as 10.0.0.0/8", p)
	}
	return p, err
}

// checkRoutes: each is for a network of its own, which is none of a link's, and
// leads to somebody else.
func (d *decoder) checkRoutes(c *Config) {
	first := map[netip.Prefix]routeFact{}
	for _, r := range d.facts.routes {
		if was, ok := first[r.To]; ok {
			d.fail(r.to, "%s.to: %s stands in line %d already; allowed: each network once", r.path, r.To, was.to.line)
			continue
		}
		first[r.To] = r
		d.checkRoutedNetwork(r)
		ours := func(a netip.Addr) (claim, bool) {
			i := slices.IndexFunc(d.facts.owned, func(o claim) bool { return o.addr == a && o.who != foreignRouter })
			if i < 0 {
				return claim{}, false
			}
			return d.facts.owned[i], true
		}
		if by, is := ours(r.Gateway); is {
			d.fail(r.gateway, "%s.gateway: %s is %s (line %d); allowed: another router", r.path, r.Gateway, by.who, by.v.line)
		}
		if r.gateway != nil && r.To.Contains(r.Gateway) {
			d.fail(r.gateway, "%s.gateway: %s lies in %s itself; allowed: a router that is reached without it, or device alone", r.path, r.Gateway, r.To)
		}
		if r.gateway != nil && r.Device == "" && d.linkOf(r.Gateway) == "" {
			d.warn(r.gateway, "%s.gateway: %s lies in the network of no lan or uplink: until the main routing table leads there directly, nothing goes to %s", r.path, r.Gateway, r.To)
		}
		d.checkGateway(c, r)
		d.checkCutOff(c, r)
		if r.source != nil && r.To.Contains(r.Source) && r.To.IsSingleIP() {
			d.fail(r.source, "%s.source: %s is whom the route leads to; allowed: an address of the routers", r.path, r.Source)
		}
	}
}

// devices are those of the lans and uplinks, by the path of each.
func (c *Config) devices() map[string]string {
	all := map[string]string{}
	for _, l := range c.Lans {
		all["lans."+l.Name] = l.Device
	}
	for _, u := range c.Uplinks {
		all["uplinks."+u.Name] = u.Device
	}
	return all
}

// checkGateway: it is asked for on the device in whose network it is.
func (d *decoder) checkGateway(c *Config, r routeFact) {
	if r.gateway == nil || r.Device == "" {
		return
	}
	if link := d.linkOf(r.Gateway); link != "" && c.devices()[link] != r.Device {
		d.warn(r.gateway, "%s.gateway: %s lies in the network of %s, which is not behind %s; if it is not found there, nothing goes to %s", r.path, r.Gateway, link, r.Device, r.To)
	}
}

// checkCutOff: what the nodes need for themselves is not led away.
func (d *decoder) checkCutOff(c *Config, r routeFact) {
	for _, o := range d.facts.owned {
		if o.who != foreignRouter && d.linkOf(o.addr) == "" && r.To.Contains(o.addr) && !r.To.IsSingleIP() {
			d.warn(r.to, "%s.to: %s holds %s, which is %s: the nodes lose each other, unless their own network there is a smaller one", r.path, r.To, o.addr, o.who)
			break
		}
	}
	device := r.Device
	if device == "" {
		device = c.devices()[d.linkOf(r.Gateway)]
	}
	for _, u := range c.Uplinks {
		for _, t := range u.Probe.Targets {
			if r.To.Contains(t.Address) && device != u.Device && d.linkOf(t.Address) == "" {
				d.warn(r.to, "%s.to: %s holds %s, which the probes of uplinks.%s ask: they go this way too, and get no answer over %s; name another target, or another network", r.path, r.To, t.Address, u.Name, u.Device)
				return
			}
		}
	}
}

// checkRoutedNetwork compares where a route leads with the networks of links.
func (d *decoder) checkRoutedNetwork(r routeFact) {
	for _, o := range d.facts.owned {
		if o.who != foreignRouter && r.To.IsSingleIP() && r.To.Addr() == o.addr {
			d.fail(r.to, "%s.to: %s is %s (line %d); allowed: an address that is not ours", r.path, o.addr, o.who, o.v.line)
			return
		}
	}
	for _, n := range d.facts.nets {
		switch net := n.prefix.Masked(); {
		case net.IsSingleIP():
		case net == r.To:
			d.fail(r.to, "%s.to: %s is the network of %s (line %d); allowed: a network behind another router", r.path, r.To, n.link, n.v.line)
			return
		case net.Bits() < r.To.Bits() && net.Contains(r.To.Addr()):
			if i := slices.IndexFunc(d.facts.owned, func(o claim) bool { return o.who != foreignRouter && r.To.Contains(o.addr) }); i >= 0 {
				o := d.facts.owned[i]
				d.fail(r.to, "%s.to: %s lies in the network of %s (line %d) and holds %s, which is %s; allowed: a network without our addresses", r.path, r.To, n.link, n.v.line, o.addr, o.who)
				return
			}
			d.warn(r.to, "%s.to: %s lies in the network of %s (line %d): hosts there look for it beside themselves, not at this router", r.path, r.To, n.link, n.v.line)
			return
		}
	}
}
