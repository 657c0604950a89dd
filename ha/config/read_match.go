package config

import (
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"harouter/balancer"
)

func (d *decoder) match(t *table, m *Match, lans []Lan) {
	defer t.close()
	var names []string
	for _, l := range lans {
		names = append(names, l.Name)
	}
	take(t, "lan", &m.Lan, terms(oneOf(names...)))
	take(t, "source", &m.Source, terms(d.networkOrFile))
	take(t, "destination", &m.Destination, terms(d.networkOrFile))
	protocol := take(t, "protocol", &m.Protocol, terms(protocolNumber))
	source := take(t, "source_ports", &m.SourcePorts, terms(ports))
	destination := take(t, "destination_ports", &m.DestinationPorts, terms(ports))
	take(t, "dscp", &m.DSCP, terms(dscpNumber))
	take(t, "mac", &m.MAC, terms(mac))
	take(t, "time", &m.Time, terms(hours))
	take(t, "router", &m.Router, boolean)

	if m.Router {
		for _, name := range []string{"lan", "dscp", "mac"} {
			if f := t.field(name); f.v != nil {
				d.fail(f.key, "%s: the router's own traffic is not told apart by this; allowed beside router: source, destination, protocol, source_ports, destination_ports, time", f.path())
			}
		}
	}
	for _, f := range []field{source, destination} {
		if f.ok && protocol.ok && len(m.protocols().Minus(balancer.WithPorts)) > 0 {
			d.fail(f.at(), "%s: not all that %s names has ports; allowed: tcp, udp, sctp, dccp, udplite as protocol, or leave it out for all of these", f.path(), protocol.path())
			break
		}
	}
	if len(d.problems.Errors()) == 0 && len(d.listed) == 0 {
		for f, spans := range m.Balancer(lans) {
			if len(spans) == 0 {
				d.warn(t.at, "%s.%s: no packet has such a value: the policy takes nothing", t.path, f)
			}
		}
	}
}

// terms is a value or a list of them, each alone or as {not: value}.
func terms[T any](item func(*value) (T, error)) func(*value) ([]Term[T], error) {
	term := func(v *value) (Term[T], error) {
		if v.kind != mapping {
			got, err := item(v)
			return Term[T]{Value: got}, err
		}
		if len(v.entries) != 1 || v.entries[0].key.text != "not" {
			return Term[T]{}, fmt.Errorf("a map stands here; allowed: a value, or {not: value}")
		}
		got, err := item(v.entries[0].value)
		return Term[T]{Not: true, Value: got}, err
	}
	some := oneOrMore(term)
	return func(v *value) ([]Term[T], error) {
		got, err := some(v)
		if err == nil && len(got) == 0 {
			err = fmt.Errorf("an empty list stands here; allowed: at least one value, or leave the key out")
		}
		return got, err
	}
}

func (d *decoder) networkOrFile(v *value) (Network, error) {
	if file, ok := strings.CutPrefix(v.text, "@"); ok && v.kind == scalar {
		if !listName(file) {
			return Network{}, fmt.Errorf("%s names no file; allowed: @ and the name of a file beside this one", quote(v.text))
		}
		all, err := d.networks(file)
		return Network{File: file, Listed: all}, err
	}
	p, err := network(v)
	if err == nil && p.Addr().Is6() {
		err = errIPv6
	}
	return Network{Prefix: p}, err
}

// ports is one port, or a range such as 1000-2000.
func ports(v *value) (PortRange, error) {
	const allowed = "a port from 1 to 65535, or a range such as 1000-2000"
	s, err := written(v, allowed)
	if err != nil {
		return PortRange{}, err
	}
	from, to, isRange := strings.Cut(s, "-")
	if !isRange {
		to = from
	}
	port := number[uint16](1, 65535)
	first, err1 := port(&value{kind: scalar, text: from})
	last, err2 := port(&value{kind: scalar, text: to})
	if err1 != nil || err2 != nil || first > last {
		return PortRange{}, fmt.Errorf("%s is no port; allowed: %s", quote(s), allowed)
	}
	return PortRange{first, last}, nil
}

// protocolNames are those that people write; others have a number.
var protocolNames = map[string]uint8{
	"icmp": 1, "igmp": 2, "ipip": 4, "tcp": 6, "udp": 17, "dccp": 33, "ipv6": 41, "gre": 47, "esp": 50, "ah": 51, "ospf": 89, "sctp": 132, "udplite": 136,
}

func protocolNumber(v *value) (uint8, error) {
	const allowed = "a protocol such as tcp, udp, icmp, sctp, gre, esp, or its number from 0 to 255"
	return named(v, allowed, protocolNames, 255)
}

// dscpNames are those of RFC 2474, 2597, 3246, 5865 and 8622.
var dscpNames = func() map[string]uint8 {
	out := map[string]uint8{"ef": 46, "va": 44, "le": 1}
	for i := range uint8(8) {
		out[fmt.Sprint("cs", i)] = i << 3
	}
	for class := range uint8(4) {
		for drop := range uint8(3) {
			out[fmt.Sprintf("af%d%d", class+1, drop+1)] = (class+1)<<3 | (drop+1)<<1
		}
	}
	return out
}()

func dscpNumber(v *value) (uint8, error) {
	return named(v, "a code point from 0 to 63, or its name such as ef, cs3, af41", dscpNames, 63)
}

// named is a number or a name that stands for one.
func named(v *value, allowed string, names map[string]uint8, last uint8) (uint8, error) {
	s, err := written(v, allowed)
	if err != nil {
		return 0, err
	}
	if n, ok := names[s]; ok {
		return n, nil
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil || n > uint64(last) {
		return 0, fmt.Errorf("%s is not known here; allowed: %s", quote(s), allowed)
	}
	return uint8(n), nil
}

func mac(v *value) (MAC, error) {
	const allowed = "an Ethernet address such as 02:00:5e:10:00:01"
	s, err := written(v, allowed)
	if err != nil {
		return MAC{}, err
	}
	a, err := net.ParseMAC(s)
	if err != nil || len(a) != 6 {
		return MAC{}, fmt.Errorf("%s is no Ethernet address; allowed: %s", quote(s), allowed)
	}
	return MAC(a), nil
}

var (
	weekdays   = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}
	hourSyntax = regexp.MustCompile(`^([0-2][0-9]):([0-5][0-9])-([0-2][0-9]):([0-5][0-9])$`)
)

// hours are days, times of the day, or both.
func hours(v *value) (balancer.Hours, error) {
	const allowed = `a time such as "08:00-18:00", "mon-fri 08:00-18:00" or "sat,sun"`
	s, err := written(v, allowed)
	if err != nil {
		return balancer.Hours{}, err
	}
	wrong := fmt.Errorf("%s is no time of the week; allowed: %s", quote(s), allowed)
	h := balancer.Hours{To: 24 * 60}
	words := strings.Fields(s)
	if len(words) == 0 || len(words) > 2 {
		return h, wrong
	}
	if m := hourSyntax.FindStringSubmatch(words[len(words)-1]); m != nil {
		var n [4]int
		for i := range n {
			n[i], _ = strconv.Atoi(m[i+1])
		}
		h.From, h.To = n[0]*60+n[1], n[2]*60+n[3]
		if h.From >= 24*60 || h.To > 24*60 || h.From == h.To {
			return h, wrong
		}
		words = words[:len(words)-1]
	} else if len(words) == 2 {
		return h, wrong
	}
	if len(words) == 0 {
		for day := range h.Days {
			h.Days[day] = true
		}
		return h, nil
	}
	for part := range strings.SplitSeq(words[0], ",") {
		from, to, isRange := strings.Cut(part, "-")
		first, last := slices.Index(weekdays, from), slices.Index(weekdays, to)
		if !isRange {
			last = first
		}
		if first < 0 || last < 0 {
			return h, wrong
		}
		for day := first; ; day = (day + 1) % 7 { // fri-mon goes over the end
			h.Days[time.Weekday(day)] = true
			if day == last {
				break
			}
		}
	}
	return h, nil
}
