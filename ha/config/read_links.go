package config

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"harouter/vrrp"
)

const (
	maxVirtual = 255 // of each family: what the one byte of an advert can count (RFC 9568 §5.2.5)
	maxID      = 63  // of uplinks
	// maxFramed6 IPv6 addresses fit into an advert of one Ethernet frame: those
	// with a virtual MAC are never in fragments.
	maxFramed6 = (1500 - 40 - 8) / 16
)

func (d *decoder) lans(t *table, v VRRP) (lans []Lan) {
	t.rows("lans", func(row *table, place int) {
		l := defaultLan(v)
		d.link(row, "lan", &l.Name, &l.Device)
		if f := d.virtual(row, &l.Virtual).required("a list such as [192.168.77.1/24]"); f.empty() {
			d.fail(f.at(), "%s: none stands here; allowed: 1 to %d addresses", f.path(), maxVirtual)
		}
		take(row, "vrid", &l.VRID, number[uint8](1, 255))
		addLinkLocal(&l.Virtual, l.VRID)
		d.virtualMAC(row, &l.VirtualMAC, l.VRID, &l.Virtual, true)
		lans = append(lans, l)
	})
	return lans
}

func (d *decoder) uplinks(t *table, v VRRP) (uplinks []Uplink) {
	t.rows("uplinks", func(row *table, place int) {
		u := defaultUplink(v, place)
		named := d.link(row, "uplink", &u.Name, &u.Device)
		d.id(row, named, &u)
		gate := take(row, "gateway", &u.Gateway, gateway)
		d.virtual(row, &u.Virtual)
		weight := take(row, "weight", &u.Weight, number(0, 255))
		take(row, "tier", &u.Tier, number(1, 16))
		d.speed(row.sub("speed"), &u)
		metered := take(row, "metered", &u.Metered, boolean)
		take(row, "vrid", &u.VRID, number[uint8](1, 255))
		d.virtualMAC(row, &u.VirtualMAC, u.VRID, &u.Virtual, len(u.Virtual) > 0)
		d.probe(row.sub("probe"), &u.Probe, u.Gateway.Kind == GatewayPPP)
		if every := u.ProbeInterval(); every > u.Probe.Interval {
			d.warn(metered.at(), "%s is metered: probed every %s instead of every %s, so a silent fault is seen after %s at the latest",
				row.path, showDuration(every), showDuration(u.Probe.Interval), showDuration(time.Duration(u.Probe.Fall)*every+u.Probe.Timeout))
		}
		if u.Gateway.Kind == GatewayStatic {
			d.facts.gateways = append(d.facts.gateways, gatewayFact{u.Gateway.Address, row.path, u.Virtual, gate.v})
		}
		if !slices.ContainsFunc(u.Virtual, is4) {
			what := "virtual_addresses"
			if len(u.Virtual) > 0 {
				what = "virtual IPv4 address"
			}
			d.warn(named, "%s has no %s: the device's own address is used, so flows over it cannot survive a takeover", row.path, what)
		}
		if d.facts.weight = weight.v; weight.v == nil {
			d.facts.weight = named
		}
		uplinks = append(uplinks, u)
	})
	return uplinks
}

// link reads what lans and uplinks have in common; named is where it stands.
func (d *decoder) link(row *table, kind string, linkName, dev *string) (named *value) {
	named = row.at
	if f := take(row, "name", linkName, name(maxName)).required("a name such as office or cable"); f.ok {
		row.path, named = kind+"s."+*linkName, f.v
	}
	f := take(row, "device", dev, device).required("the name of a network device, such as eth0")
	d.facts.links = append(d.facts.links, linkFact{name: *linkName, kind: kind, named: named, device: f.v, dev: *dev})
	return named
}

func (d *decoder) virtual(row *table, all *[]netip.Prefix) field {
	var four, six []*value
	f := each(row, "virtual_addresses", virtual, func(v *value, p netip.Prefix) {
		*all = append(*all, p)
		link := row.path
		if !p.Addr().IsLinkLocalUnicast() { // else each network may have it
			link = ""
			d.facts.nets = append(d.facts.nets, subnet{p, row.path, v})
		}
		d.facts.own(p.Addr(), link, "a virtual address of "+row.path, v)
		if p.Addr().Is4() {
			four = append(four, v)
		} else {
			six = append(six, v)
			d.facts.six = append(d.facts.six, claim{addr: p.Addr(), who: row.path + ".virtual_addresses", v: v})
		}
	})
	most := func(vs []*value, n int, why string) {
		if len(vs) > n {
			d.fail(vs[n], "%s: %d addresses; allowed: at most %d%s", f.path(), len(vs), n, why)
		}
	}
	most(four, maxVirtual, "")
	if slices.ContainsFunc(*all, isLinkLocal6) {
		most(six, maxVirtual, " of IPv6")
	} else {
		most(six, maxVirtual-1, " of IPv6, beside the link-local one that is added")
	}
	return f
}

func is4(p netip.Prefix) bool { return p.Addr().Is4() }

func is6(p netip.Prefix) bool { return p.Addr().Is6() }

func isLinkLocal6(p netip.Prefix) bool { return is6(p) && p.Addr().IsLinkLocalUnicast() }

// addLinkLocal gives a virtual router of IPv6 its link-local address, which its
// adverts list first (RFC 9568 §5.2.9), where the file names none.
func addLinkLocal(all *[]netip.Prefix, vrid uint8) {
	if slices.ContainsFunc(*all, is6) && !slices.ContainsFunc(*all, isLinkLocal6) {
		*all = append(*all, netip.PrefixFrom(vrrp.LinkLocal(vrid), 64))
	}
}

// virtualMAC reads whether a link has one; carries: there is an address for it.
// An uplink that has one carries adverts, and needs what those list.
func (d *decoder) virtualMAC(row *table, on *bool, vrid uint8, virtual *[]netip.Prefix, carries bool) {
	f := take(row, "virtual_mac", on, boolean)
	if !*on {
		return
	}
	if !carries {
		d.fail(f.at(), "%s: there are no virtual_addresses that it could carry; allowed: false, or such addresses too", f.path())
	}
	addLinkLocal(virtual, vrid)
	six := 0
	for _, p := range *virtual {
		if is6(p) {
			six++
		}
	}
	if six > maxFramed6 {
		d.fail(f.at(), "%s: %d IPv6 addresses, the link-local one among them; allowed: at most %d, what one frame can list, or false", f.path(), six, maxFramed6)
	}
	d.facts.macs = append(d.facts.macs, macFact{vrid, row.path, f.at()})
}

func (d *decoder) id(row *table, named *value, u *Uplink) {
	f := take(row, "id", &u.ID, number(1, maxID))
	if f.v == nil && u.ID > maxID {
		d.fail(named, "%s is one uplink too many; allowed: %d", row.path, maxID)
		return
	}
	at := named
	if f.v != nil {
		at = f.v
	}
	if f.v == nil || f.ok {
		d.facts.ids = append(d.facts.ids, idFact{u.ID, row.path, f.ok, at})
	}
}

func gateway(v *value) (Gateway, error) {
	const allowed = "an IPv4 address, auto, dhcp or ppp"
	s, err := written(v, allowed)
	if err != nil {
		return Gateway{}, err
	}
	switch kind := GatewayKind(s); kind {
	case GatewayAuto, GatewayDHCP, GatewayPPP:
		return Gateway{Kind: kind}, nil
	}
	a, err := host4(v)
	if err == nil && a.IsLoopback() {
		err = fmt.Errorf("%s is this machine itself; allowed: %s", a, allowed)
	}
	return Gateway{Kind: GatewayStatic, Address: a}, err
}

func (d *decoder) speed(t *table, u *Uplink) {
	defer t.close()
	take(t, "down", &u.Down, bitRate)
	take(t, "up", &u.Up, bitRate)
}

// probe reads that of an uplink; point: it is a line between two points.
func (d *decoder) probe(t *table, p *Probe, point bool) {
	defer t.close()
	method := take(t, "method", &p.Method, probeMethods)
	targets := d.targets(t, p)
	take(t, "interval", &p.Interval, duration(10*time.Millisecond, time.Hour, 1))
	take(t, "timeout", &p.Timeout, duration(time.Millisecond, time.Minute, 1))
	take(t, "fall", &p.Fall, number(1, 1000))
	take(t, "rise", &p.Rise, number(1, 1000))
	quorum := take(t, "quorum", &p.Quorum, number(1, 255))
	if n := max(len(p.Targets), 1); quorum.ok && targets.ok && p.Quorum > n {
		d.fail(quorum.v, "%s: %d answers of %d targets; allowed: 1 to %d", quorum.path(), p.Quorum, len(p.Targets), n)
	}
	threshold(d, t.sub("loss"), &p.Loss, fraction, "10%")
	threshold(d, t.sub("latency"), &p.Latency, duration(0, time.Minute, 1), "300ms")
	threshold(d, t.sub("jitter"), &p.Jitter, duration(0, time.Minute, 1), "30ms")

	switch {
	case t.broken || !targets.ok:
	case point && slices.ContainsFunc(p.Targets, func(to Target) bool { return to.Method == ProbeARP }):
		d.fail(targets.key, "%s: arp is asked, which a line between two points does not have; allowed: another method, or another gateway than ppp", t.path)
	case point && len(p.Targets) == 0:
		d.warn(method.at(), "%s has no targets: only the line itself is looked at, so a fault behind it goes unseen", t.path)
	case len(p.Targets) == 0:
		d.warn(method.at(), "%s has no targets: only ARP to the gateway is asked, so a fault behind the gateway goes unseen", t.path)
	case !slices.ContainsFunc(p.Targets, func(to Target) bool { return to.Method != ProbeARP }):
		d.warn(targets.key, "%s asks only neighbours, by ARP, so a fault behind the gateway goes unseen", t.path)
	}
}

// threshold reads {degraded: …, clear: …}; without clear it is half of the other.
func threshold[T Fraction | time.Duration](d *decoder, t *table, th *Threshold[T], parse func(*value) (T, error), example string) {
	defer t.close()
	degraded := take(t, "degraded", &th.Degraded, parse)
	low := take(t, "clear", &th.Clear, parse)
	switch {
	case low.v != nil && degraded.v == nil:
		d.fail(low.key, "%s: clear stands without degraded; allowed: both, or degraded alone, such as {degraded: %s}", t.path, example)
	case degraded.ok && th.Degraded == 0:
		d.fail(degraded.v, "%s: 0 is no limit; allowed: more than that, such as %s, or leave %s out", degraded.path(), example, t.path)
	case low.v == nil:
		th.Clear = th.Degraded / 2
	case degraded.ok && low.ok && th.Clear >= th.Degraded:
		d.fail(low.v, "%s: %s is not below degraded (%s); allowed: less than that, or leave it out for half of it",
			low.path(), low.v.text, degraded.v.text)
	}
}
