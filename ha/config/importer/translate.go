package importer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// masking is a MASQUERADE on a device that is no uplink, opening an ACCEPT that a
// forward may explain; both are judged when everything was read.
type masking struct {
	at     place
	line   string
	device string
}

type opening struct {
	at       place
	line     string
	snat     bool // a translation of the source, for access from inside
	to, port string
}

const inNft = "write it as a rule for nft in a file nft.d/NAME.nft beside harouter.yaml (iptables-translate prints it)"

// apply takes one rule of iptables over, or says why not.
func (im *importer) apply(r *rule) {
	refuse := func(text string) { im.later(r.at, r.line, text) }
	mark, marks := strings.CutPrefix(r.jump, "MARK-")
	replies := r.states != "" && !strings.Contains(r.states, "NEW") && !strings.Contains(r.states, "INVALID")
	switch {
	case r.table == "mangle" && marks:
		im.force(r, mark)
	case r.op == 'D':
		refuse("the deletion of a rule; leave out what it deletes")
	case r.op != 'A' && r.op != 'I':
		refuse("a command on chains; " + inNft)
	case r.table == "mangle" && r.jump == "TCPMSS":
		im.needless(r.at, r.line, "firewall.mss is clamp, for all lines that need it")
	case r.table == "mangle" && r.jump == "CONNMARK":
		im.needless(r.at, r.line, "connections keep their line anyway")
	case r.table == "nat" && r.chain == "PREROUTING" && r.jump == "DNAT":
		im.dnat(r)
	case r.table == "nat" && r.chain == "POSTROUTING" && (r.jump == "MASQUERADE" || r.jump == "SNAT"):
		im.masked(r)
	case r.table != "filter":
		refuse(inNft)
	case r.chain == "OUTPUT" && r.jump == "ACCEPT":
		im.needless(r.at, r.line, "what the router itself sends is not filtered")
	case r.jump == "ACCEPT" && (replies || r.in == "lo"):
		im.needless(r.at, r.line, "replies and the router's own traffic pass anyway")
	case r.jump == "ACCEPT" && len(r.sports) > 0 && len(r.dports) == 0:
		im.needless(r.at, r.line, "replies pass anyway; this let in everybody who sends from that port")
	case r.chain == "INPUT" && r.jump == "ACCEPT":
		im.allow(r)
	case r.chain == "INPUT" && r.jump == "DROPFLOOD" && im.limited(r):
		im.needless(r.at, r.line, "the limit of the rule before it does that")
	case r.chain == "FORWARD" && r.jump == "ACCEPT":
		im.pass(r)
	case r.states == "INVALID" && (r.jump == "DROP" || r.jump == "DROPINVAL"):
		im.needless(r.at, r.line, "invalid packets are dropped anyway")
	case r.jump == "LOG":
		refuse("what is refused is logged by default (firewall.log); for other packets " + inNft)
	default:
		refuse("it refuses something; " + inNft)
	}
}

// force makes a policy of what is marked for one service.
func (im *importer) force(r *rule, service string) {
	u := im.uplinkOf(service)
	if u == nil {
		im.later(r.at, r.line, fmt.Sprintf("there is no line %s here", quoted(service)))
		return
	}
	if several(r.dports) || several(r.source) || several(r.dest) || r.not || r.out != "" || len(r.mac) > 1 && several(r.mac) {
		im.later(r.at, r.line, "a negation that a policy cannot say; write policies before it for what is not meant: {match: {…}, method: …}")
		return
	}
	var match []string
	put := func(s string) {
		if s != "" {
			match = append(match, s)
		}
	}
	if r.in != "" {
		l := im.lanOn(r.in)
		if l == nil {
			im.later(r.at, r.line, fmt.Sprintf("%s is the device of no lan", quoted(r.in)))
			return
		}
		put("lan: " + plain(l.name))
	}
	if r.protocol == "" && len(r.dports)+len(r.sports) > 0 {
		im.later(r.at, r.line, "ports without a protocol; iptables refuses that too")
		return
	}
	if r.protocol != "" {
		put("protocol: " + plain(r.protocol))
	}
	put(terms("source", r.source))
	put(terms("destination", r.dest))
	var from []term
	for _, p := range r.sports {
		from = append(from, term{text: p})
	}
	put(terms("source_ports", from))
	put(terms("destination_ports", r.dports))
	mac := slices.Clone(r.mac)
	for i := range mac {
		mac[i].text = text(mac[i].text)
	}
	put(terms("mac", mac))
	put(terms("dscp", r.dscp))
	key := u.name + " " + strings.Join(match, " ")
	if r.op == 'D' {
		i := slices.IndexFunc(im.forced, func(f forced) bool { return f.key == key })
		if i < 0 {
			im.needless(r.at, r.line, "it deletes a rule that is not there")
			return
		}
		im.needless(im.forced[i].at, "", "deleted again by "+r.at.String())
		im.forced = slices.Delete(im.forced, i, i+1)
		return
	}
	if slices.ContainsFunc(im.forced, func(f forced) bool { return f.key == key }) {
		return // Net-ISP-Balance leaves out what it had
	}
	if im.full(r.at, len(im.forced)) {
		return
	}
	im.forced = append(im.forced, forced{at: r.at, match: match, uplink: u.name, key: key})
	if im.conf.failover {
		im.warn(r.at, "with mode=failover Net-ISP-Balance does not do this (its chain is missing then); here it holds")
	}
}

// dnat makes forwards.
func (im *importer) dnat(r *rule) {
	host, hostPort, _ := strings.Cut(r.to, ":")
	if _, err := netip.ParseAddr(host); err != nil || len(r.dports) == 0 || several(r.dports) || r.dports[0].not || r.not || several(r.source) {
		im.later(r.at, r.line, "a translation that is no forward of a port to a host; "+inNft)
		return
	}
	var uplinks []string
	switch u := im.uplinkOn(r.in); {
	case u != nil:
		uplinks = []string{plain(u.name)}
	case r.in != "":
		im.later(r.at, r.line, fmt.Sprintf("%s is the device of no line; for access from inside: hairpin: true at the forward", quoted(r.in)))
		return
	case len(r.dest) > 0:
		u := im.uplinkWith(r.dest)
		if u == nil {
			im.later(r.at, r.line, "its -d is the address of no line here; write firewall: {forward: [{port: …, to: …, uplinks: […]}]}")
			return
		}
		uplinks = []string{plain(u.name)}
	}
	for _, p := range r.dports {
		to := host
		if hostPort != "" {
			to = r.to
		}
		im.forward(forward{at: r.at, port: p.text, to: to, proto: protocolOr(r.protocol), uplinks: uplinks, sources: texts(r.source)})
	}
}

func protocolOr(p string) string {
	if p == "" {
		return "tcp"
	}
	return p
}

// forward adds one, or its uplink to the same one of another line.
func (im *importer) forward(f forward) {
	for i := range im.forwards {
		was := &im.forwards[i]
		if was.port != f.port || was.to != f.to || was.proto != f.proto || !slices.Equal(was.sources, f.sources) {
			continue
		}
		was.hairpin = was.hairpin || f.hairpin
		if len(was.uplinks) == 0 || len(f.uplinks) == 0 {
			was.uplinks = nil
		} else if !slices.Contains(was.uplinks, f.uplinks[0]) {
			was.uplinks = append(was.uplinks[:len(was.uplinks):len(was.uplinks)], f.uplinks[0])
		}
		return
	}
	if !im.full(f.at, len(im.forwards)) {
		im.forwards = append(im.forwards, f)
	}
}

// maxRules is more than anybody writes by hand; ha/config takes no more in a list.
const maxRules = 1000

// full tells, and says, that there is no room for one more of a kind.
func (im *importer) full(at place, have int) bool {
	if have < maxRules {
		return false
	}
	im.fail(at, "one rule too many of its kind; allowed: %d", maxRules)
	return true
}

// uplinkWith is the uplink that has one of the addresses now.
func (im *importer) uplinkWith(dest []term) *uplink {
	for _, u := range im.uplinks {
		d := im.devices[u.service.base()]
		for _, p := range append([]netip.Prefix{d.Address}, d.Labelled[u.service.device]) {
			if p.IsValid() && slices.Contains(texts(dest), p.Addr().String()) {
				return u
			}
		}
	}
	return nil
}

func texts(list []term) (out []string) {
	for _, t := range list {
		out = append(out, t.text)
	}
	return out
}

func (im *importer) masked(r *rule) {
	switch {
	case im.uplinkOn(r.out) != nil && !r.not && r.jump == "MASQUERADE":
		im.needless(r.at, r.line, "the lans are hidden behind every line anyway")
	case r.out != "" && im.lanOn(r.out) == nil && !r.not:
		im.maskings = append(im.maskings, masking{r.at, r.line, r.out})
	case len(r.dest) == 1 && len(r.dports) == 1:
		im.openings = append(im.openings, opening{r.at, r.line, true, r.dest[0].text, r.dports[0].text})
	default:
		im.later(r.at, r.line, "a translation of sources; "+inNft)
	}
}

// allow opens ports of the router.
func (im *importer) allow(r *rule) {
	if r.protocol == "icmp" {
		im.needless(r.at, r.line, "pings are answered, up to firewall.icmp_limit")
		return
	}
	if len(r.dest) > 0 || r.not || r.out != "" || len(r.sports) > 0 || len(r.mac)+len(r.dscp) > 0 ||
		slices.ContainsFunc(append(slices.Clone(r.source), r.dports...), func(t term) bool { return t.not }) {
		im.later(r.at, r.line, "more than firewall.allow can say (from, protocol, ports, source, limit); "+inNft)
		return
	}
	a := allow{at: r.at, from: "wan", proto: r.protocol, ports: texts(r.dports), sources: texts(r.source), limit: limit(r.limit)}
	if a.proto == "" && len(a.ports) > 0 {
		im.later(r.at, r.line, "ports without a protocol; iptables refuses that too")
		return
	}
	if r.in != "" {
		l, u := im.lanOn(r.in), im.uplinkOn(r.in)
		switch {
		case l != nil:
			a.from = l.name
		case u != nil:
			a.from = u.name
		default:
			im.later(r.at, r.line, fmt.Sprintf("%s is the device of no lan or line; "+inNft, quoted(r.in)))
			return
		}
	}
	if l := im.lanAround(a.sources); l != nil && (r.in == "" || a.from == l.name) {
		a.from = l.name
		if len(a.sources) == 1 && im.isWhole(l, a.sources[0]) {
			a.sources = nil
		}
	}
	if !slices.ContainsFunc(im.allows, func(b allow) bool { return a.text() == b.text() }) && !im.full(a.at, len(im.allows)) {
		im.allows = append(im.allows, a)
	}
}

// limit is a rate as our file has it.
func limit(s string) string {
	n, unit, ok := strings.Cut(s, "/")
	if !ok || !isNumber(n) || unit == "" || strings.Trim(unit, "abcdefghijklmnopqrstuvwxyz") != "" {
		return ""
	}
	return n + "/" + unit[:1]
}

// lanAround is the lan in whose networks all of the sources lie.
func (im *importer) lanAround(sources []string) *lan {
	for _, l := range im.lans {
		inside := len(sources) > 0
		for _, s := range sources {
			p, err := netip.ParsePrefix(s)
			if a, err2 := netip.ParseAddr(s); err2 == nil {
				p, err = netip.PrefixFrom(a, a.BitLen()), nil
			}
			inside = inside && err == nil && slices.ContainsFunc(l.virtual, func(v address) bool {
				return v.prefix.Contains(p.Addr()) && v.prefix.Bits() <= p.Bits()
			})
		}
		if inside {
			return l
		}
	}
	return nil
}

// isWhole: the source is all of a lan.
func (im *importer) isWhole(l *lan, source string) bool {
	return len(l.virtual) == 1 && l.virtual[0].prefix.Masked().String() == source
}

func (im *importer) limited(r *rule) bool {
	return slices.ContainsFunc(im.allows, func(a allow) bool {
		return a.limit != "" && a.proto == r.protocol && slices.Equal(a.ports, texts(r.dports))
	})
}

// pass is an ACCEPT between devices.
func (im *importer) pass(r *rule) {
	from, to := im.lanOn(r.in), r.out == "" || im.lanOn(r.out) != nil || im.uplinkOn(r.out) != nil
	switch {
	case len(r.dest) == 1 && len(r.dports) == 1 && !r.dest[0].not && !r.dports[0].not:
		im.openings = append(im.openings, opening{r.at, r.line, false, r.dest[0].text, r.dports[0].text})
	case from != nil && to && !r.not && len(im.conf.groups) == 0:
		im.needless(r.at, r.line, "lans may talk to each other and to every line, unless firewall.groups says less")
	default:
		im.later(r.at, r.line, "who may talk to whom says firewall: {groups: [[…], […]]}; for more than that "+inNft)
	}
}

// join is for what can be judged only when everything was read.
func (im *importer) join() {
	for _, o := range im.openings {
		i := slices.IndexFunc(im.forwards, func(f forward) bool {
			host, at, has := strings.Cut(f.to, ":")
			if !has {
				at = f.port
			}
			return host == o.to && at == o.port
		})
		switch {
		case i >= 0 && o.snat:
			im.forwards[i].hairpin = true
			im.needless(o.at, o.line, "hairpin: true at the forward to "+im.forwards[i].to)
		case i >= 0:
			im.needless(o.at, o.line, "a forward lets its packets pass")
		case o.snat:
			im.later(o.at, o.line, "a translation of sources that belongs to no forward here; "+inNft)
		default:
			im.later(o.at, o.line, "it lets packets to a host pass; a port that is forwarded is firewall: {forward: [{port: …, to: …}]}, for more than that "+inNft)
		}
	}
	for _, m := range im.maskings {
		used := false
		for i := range im.routes {
			if im.routes[i].device == m.device {
				im.routes[i].masquerade, used = true, true
			}
		}
		if used {
			im.needless(m.at, m.line, "masquerade: true at the route over "+m.device)
			continue
		}
		im.later(m.at, m.line, fmt.Sprintf("write the network behind it: routes: [{to: NETWORK, device: %s, masquerade: true}]", m.device))
	}
	count := map[string]int{}
	for i := range im.forced {
		f := &im.forced[i]
		count[f.uplink]++
		f.name = im.policyName(f.uplink, count[f.uplink])
	}
}

func (im *importer) policyName(uplink string, n int) string {
	tail := fmt.Sprintf("-only-%d", n)
	return uplink[:min(len(uplink), maxName-len(tail))] + tail
}
