package config

import "slices"

const maxAllows = 500 // a new connection to the router is compared with one after the other

// Words for all lans and all uplinks.
const fromLan, fromWAN = "lan", "wan"

// allowFact is where an Allow names what it is from.
type allowFact struct {
	from string
	path string
	at   *value
}

// allow reads one opening of the router.
func (d *decoder) allow(row *table, c *Firewall) {
	a := Allow{From: fromWAN}
	from := take(row, "from", &a.From, name(maxName))
	protocol := take(row, "protocol", &a.Protocol, oneOrMore(protocolNumber))
	ports := take(row, "ports", &a.Ports, oneOrMore(ports))
	take(row, "source", &a.Source, oneOrMore(network4))
	take(row, "limit", &a.Limit, rate)
	if len(a.Ports) > 0 {
		if protocol.v == nil {
			a.Protocol = []uint8{6}
		}
		if slices.ContainsFunc(a.Protocol, func(p uint8) bool { return p != 6 && p != 17 }) {
			d.fail(ports.at(), "%s: only tcp and udp have ports here; allowed: no ports, or protocol: [tcp, udp]", ports.path())
		}
	}
	c.Allow = append(c.Allow, a)
	d.facts.allows = append(d.facts.allows, allowFact{a.From, row.path, from.at()})
	if len(c.Allow) == maxAllows+1 {
		d.fail(row.at, "%s: more than %d; allowed: at most that", row.path, maxAllows)
	}
}

// checkAllows: each is from a link that is there.
func (d *decoder) checkAllows(c *Config) {
	words := []string{fromLan, fromWAN}
	var lans []string
	for _, l := range c.Lans {
		lans = append(lans, l.Name)
	}
	words = append(words, lans...)
	for _, u := range c.Uplinks {
		words = append(words, u.Name)
	}
	for _, a := range d.facts.allows {
		switch {
		case !contains(words, a.from):
			d.fail(a.at, "%s.from: there is no lan or uplink %s%s; allowed: %s", a.path, quote(a.from), didYouMean(a.from, words), join(words))
		case a.from == fromLan || contains(lans, a.from):
			d.warn(a.at, "%s.from: what comes from a lan reaches the router anyway: the firewall is for uplinks", a.path)
		}
	}
}
