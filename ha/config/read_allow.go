package config

import (
	"net/netip"
	"slices"
)

const maxAllows = 500 // a new connection to the router is compared with one after the other

// Words for all lans and all uplinks.
const fromLan, fromWAN = "lan", "wan"

// allowFact is an Allow with the places of what others may contradict.
type allowFact struct {
	Allow
	path string
	at   *value // from
	to   *value
	wide bool // all ports of the router, for everybody
}

// allow reads one opening of the router.
func (d *decoder) allow(row *table, c *Firewall) {
	var a Allow
	from := take(row, "from", &a.From, name(maxName))
	protocol := take(row, "protocol", &a.Protocol, oneOrMore(protocolNumber))
	ports := take(row, "ports", &a.Ports, oneOrMore(ports))
	to := take(row, "to", &a.To, oneOrMore(network))
	source := take(row, "source", &a.Source, oneOrMore(network))
	take(row, "limit", &a.Limit, rate)
	if len(a.Ports) > 0 {
		if protocol.v == nil {
			a.Protocol = []uint8{6}
		}
		if slices.ContainsFunc(a.Protocol, func(p uint8) bool { return p != 6 && p != 17 }) {
			d.fail(ports.at(), "%s: only tcp and udp have ports here; allowed: no ports, or protocol: [tcp, udp]", ports.path())
		}
	}
	meet := func(six bool) bool {
		is := func(p netip.Prefix) bool { return p.Addr().Is6() == six }
		return slices.ContainsFunc(a.To, is) && slices.ContainsFunc(a.Source, is)
	}
	if len(a.To) > 0 && len(a.Source) > 0 && !meet(false) && !meet(true) {
		d.fail(source.at(), "%s: from IPv4 to IPv6, or the other way round, nothing comes; allowed: a source of the family of to", source.path())
	}
	transport := func(p uint8) bool { return p == 6 || p == 17 }
	wide := to.v == nil && ports.v == nil && source.v == nil && (len(a.Protocol) == 0 || slices.ContainsFunc(a.Protocol, transport))
	c.Allow = append(c.Allow, a)
	d.facts.allows = append(d.facts.allows, allowFact{a, row.path, from.at(), to.at(), wide && !row.broken})
	if len(c.Allow) == maxAllows+1 {
		d.fail(row.at, "%s: more than %d; allowed: at most that", row.path, maxAllows)
	}
}

// checkAllows: each is from a link that is there, and to hosts that are not the router.
func (d *decoder) checkAllows(c *Config) {
	words := []string{fromLan, fromWAN}
	var lans, uplinks []string
	for _, l := range c.Lans {
		lans = append(lans, l.Name)
	}
	for _, u := range c.Uplinks {
		uplinks = append(uplinks, u.Name)
	}
	words = append(append(words, lans...), uplinks...)
	for _, a := range d.facts.allows {
		switch {
		case a.From == "":
		case !contains(words, a.From):
			d.fail(a.at, "%s.from: there is no lan or uplink %s%s; allowed: %s", a.path, quote(a.From), didYouMean(a.From, words), join(words))
		case a.From == fromWAN && contains(uplinks, a.From) && len(uplinks) > 1, a.From == fromLan && contains(uplinks, a.From):
			d.warn(a.at, "%s.from: %s is the uplink of that name alone here; all uplinks are meant where there is no from", a.path, a.From)
		case a.From == fromWAN && contains(lans, a.From):
			d.warn(a.at, "%s.from: %s is the lan of that name here, which reaches the router anyway; all uplinks are meant where there is no from", a.path, a.From)
		case contains(uplinks, a.From):
		case a.From == fromLan || contains(lans, a.From):
			d.warn(a.at, "%s.from: what comes from a lan reaches the router anyway: the firewall is for uplinks", a.path)
		}
		if by, all := c.AllowedBy(a.Allow); a.wide && (all || len(by) > 0) {
			d.warn(a.at, "%s: every port of the routers is open from outside; if that is not meant, write ports, or source", a.path)
		}
		for _, to := range a.To {
			if to.IsSingleIP() && slices.ContainsFunc(d.facts.owned, func(o claim) bool { return o.addr == to.Addr() }) {
				d.fail(a.to, "%s.to: %v is an address of the routers; allowed: hosts behind them, or no to", a.path, to.Addr())
			}
		}
	}
}

// AllowedBy are the uplinks by which an Allow lets something in; all: every one. A
// link that is called like one of the words wan and lan goes first.
func (c *Config) AllowedBy(a Allow) (uplinks []string, all bool) {
	switch {
	case a.From == "":
		return nil, true
	case slices.ContainsFunc(c.Uplinks, func(u Uplink) bool { return u.Name == a.From }):
		return []string{a.From}, false
	case slices.ContainsFunc(c.Lans, func(l Lan) bool { return l.Name == a.From }):
		return nil, false // a lan is not kept out
	}
	return nil, a.From == fromWAN
}
