package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

const maxForwards = 500 // a new connection from outside is compared with one after the other

// forwardFact is a forward with the places of what others may contradict.
type forwardFact struct {
	Forward
	path    string
	at      *value // the port
	to      *value
	uplinks *value
}

// forward reads one port that leads to a host.
func (d *decoder) forward(row *table, c *Firewall) {
	w := Forward{Protocol: []string{"tcp"}}
	port := take(row, "port", &w.Port, ports).required("a port such as 443")
	var to netip.AddrPort
	host := take(row, "to", &to, hostPort).required("a host, or host:port")
	w.To, w.ToPort = to.Addr(), to.Port()
	take(row, "protocol", &w.Protocol, oneOrMore(oneOf("tcp", "udp")))
	names := take(row, "uplinks", &w.Uplinks, listOf(name(maxName)))
	take(row, "source", &w.Source, oneOrMore(network4))
	take(row, "hairpin", &w.Hairpin, boolean)
	take(row, "limit", &w.Limit, rate)
	if host.ok && w.ToPort != 0 && w.Port.First != w.Port.Last {
		d.fail(host.v, "%s: several ports lead to one; allowed: the host alone, which gets them as they are", host.path())
	}
	c.Forward = append(c.Forward, w)
	if !port.ok || !host.ok {
		return
	}
	d.facts.forwards = append(d.facts.forwards, forwardFact{w, row.path, port.v, host.v, names.v})
}

// checkForwards: each names uplinks that are there, leads to a host that is not
// this router, and is not hidden by one that stands before it.
func (d *decoder) checkForwards(c *Config) {
	var names []string
	for _, u := range c.Uplinks {
		names = append(names, u.Name)
	}
	for i, f := range d.facts.forwards {
		if i == maxForwards {
			d.fail(f.at, "%s: more than %d forwards; allowed: at most that", f.path, maxForwards)
			break
		}
		for _, u := range f.Uplinks {
			if !contains(names, u) {
				d.fail(f.uplinks, "%s.uplinks: there is no uplink %s%s; allowed: %s", f.path, quote(u), didYouMean(u, names), join(names))
			}
		}
		within := slices.ContainsFunc(c.Lans, func(l Lan) bool {
			return slices.ContainsFunc(l.Virtual, func(p netip.Prefix) bool { return p.Masked().Contains(f.To) })
		})
		switch {
		case slices.ContainsFunc(d.facts.owned, func(o claim) bool { return o.addr == f.To }):
			d.fail(f.to, "%s.to: %v is an address of the routers; allowed: a host behind them", f.path, f.To)
		case !within:
			d.warn(f.to, "%s.to: %v is in no lan: a route must lead there, and the answers back through this router", f.path, f.To)
		}
		for _, was := range d.facts.forwards[:i] {
			if was.hides(f) {
				d.fail(f.at, "%s: port %v of %s is forwarded in line %d already; allowed: each port of an uplink once, unless the first is for other sources",
					f.path, f.Port, strings.Join(f.Protocol, " and "), was.at.line)
				break
			}
		}
	}
}

// hides tells whether some connection that a later forward is for is led away,
// wherever it comes from, or from the very same sources.
func (f forwardFact) hides(o forwardFact) bool {
	return f.Port.First <= o.Port.Last && o.Port.First <= f.Port.Last &&
		slices.ContainsFunc(f.Protocol, func(p string) bool { return contains(o.Protocol, p) }) &&
		(len(f.Uplinks) == 0 || len(o.Uplinks) == 0 || slices.ContainsFunc(f.Uplinks, func(u string) bool { return contains(o.Uplinks, u) })) &&
		(len(f.Source) == 0 || slices.Equal(f.Source, o.Source))
}

func (p PortRange) String() string {
	if p.First == p.Last {
		return strconv.Itoa(int(p.First))
	}
	return fmt.Sprintf("%d-%d", p.First, p.Last)
}

// hostPort is the IPv4 address of a host, or with a port behind it.
func hostPort(v *value) (netip.AddrPort, error) {
	const allowed = "a host such as 192.168.77.20, or with a port such as 192.168.77.20:8443"
	s, err := written(v, allowed)
	if err != nil {
		return netip.AddrPort{}, err
	}
	text, port, hasPort := strings.Cut(s, ":")
	if strings.Contains(port, ":") {
		return netip.AddrPort{}, errIPv6
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%s is no host; allowed: %s", quote(s), allowed)
	}
	if err := hostAddress(a); err != nil {
		return netip.AddrPort{}, err
	}
	var n uint64
	if hasPort {
		if n, err = strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return netip.AddrPort{}, fmt.Errorf("%s: the port is none from 1 to 65535; allowed: %s", quote(s), allowed)
		}
	}
	return netip.AddrPortFrom(a, uint16(n)), nil
}

// network4 is a network where there is no data path for IPv6.
func network4(v *value) (netip.Prefix, error) {
	p, err := network(v)
	if err == nil && p.Addr().Is6() {
		err = errors.New("IPv4 only: this is IPv6; allowed: an IPv4 network")
	}
	return p, err
}

var rateUnit = map[string]string{"s": "second", "m": "minute", "h": "hour"}

// rate is so many in a second, minute or hour.
func rate(v *value) (Rate, error) {
	const allowed = "a number from 1 to 1000000 and its unit, such as 10/s, 30/m or 100/h"
	s, err := written(v, allowed)
	if err != nil {
		return Rate{}, err
	}
	count, unit, _ := strings.Cut(s, "/")
	n, err := strconv.ParseUint(count, 10, 32)
	if err != nil || n == 0 || n > 1e6 || rateUnit[unit] == "" {
		return Rate{}, fmt.Errorf("%s is no rate; allowed: %s", quote(s), allowed)
	}
	return Rate{uint32(n), rateUnit[unit]}, nil
}
