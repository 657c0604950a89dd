package dataplane

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"harouter/balancer"
)

// scope is what of the kernel's news concerns the plan. It is never changed:
// each plan brings a new one, which the listeners read.
type scope struct {
	tables, priorities [2]int                // from, to
	main               map[netip.Prefix]bool // destinations of ours in the main table
	devices            map[string]bool
	indexes            map[int]bool    // of the devices that were there
	anyDevice          bool            // a way is looked up by address
	anyAddress         bool            // a way names an address of the node, wherever it is
	theirs             map[string]bool // sets whose elements are what rules and nodes learn
}

func newScope(p balancer.Plan, index map[string]int) *scope {
	s := &scope{
		tables:     [2]int{p.TableBase, p.TableBase + balancer.Tables - 1},
		priorities: [2]int{p.RulePriority, p.RulePriority + 999},
		main:       map[netip.Prefix]bool{}, devices: map[string]bool{}, indexes: map[int]bool{}, theirs: map[string]bool{},
	}
	for _, set := range p.Table.Sets {
		if set.Lasts > 0 {
			s.theirs[set.Name] = true
		}
	}
	for _, d := range planDevices(p) {
		s.devices[d] = true
		if i := index[d]; i != 0 {
			s.indexes[i] = true
		}
	}
	for _, r := range p.Routes {
		if r.Table == unix.RT_TABLE_MAIN {
			s.main[r.To] = true
		}
		s.anyAddress = s.anyAddress || r.Source.IsValid()
		for _, h := range r.Hops {
			s.anyDevice = s.anyDevice || h.Device == ""
		}
	}
	return s
}

// planDevices are the devices that a plan names, once each.
func planDevices(p balancer.Plan) []string {
	var out []string
	seen := map[string]bool{"": true, "all": true, "default": true}
	add := func(d string) {
		if !seen[d] {
			seen[d] = true
			out = append(out, d)
		}
	}
	for _, r := range p.Routes {
		for _, h := range r.Hops {
			add(h.Device)
		}
	}
	for _, s := range p.Sysctls {
		add(sysctlDevice(s.Key))
	}
	return out
}

// sysctlDevice is the device of a key, "" if it has none.
func sysctlDevice(key string) string {
	rest, ok := strings.CutPrefix(key, "net/ipv4/conf/")
	if !ok {
		return ""
	}
	device, _, _ := strings.Cut(rest, "/")
	return device
}

func within(v int, r [2]int) bool { return r[0] <= v && v <= r[1] }

// readRouting tells what a datagram of rtnetlink means. What cannot be read is
// not from a kernel that we know: look at everything.
func readRouting(b []byte, s *scope) sighting {
	var out sighting
	if s == nil {
		return out
	}
	messages, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return sighting{kinds: allKinds}
	}
	for _, m := range messages {
		switch m.Header.Type {
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
			if s.concernsRoute(m) {
				out.kinds.put(kindRoute)
			}
		case unix.RTM_NEWRULE, unix.RTM_DELRULE:
			if s.concernsRule(m) {
				out.kinds.put(kindRule)
			}
		case unix.RTM_NEWLINK, unix.RTM_DELLINK:
			if len(m.Data) < unix.SizeofIfInfomsg {
				continue
			}
			name := strings.TrimRight(string(attribute(m.Data[unix.SizeofIfInfomsg:], unix.IFLA_IFNAME)), "\x00")
			if !s.devices[name] && !s.anyDevice {
				continue
			}
			out.kinds |= setOf(kindRoute) | setOf(kindSysctl)
			if flags := binary.NativeEndian.Uint32(m.Data[8:]); m.Header.Type == unix.RTM_DELLINK || flags&unix.IFF_UP == 0 {
				out.down = append(out.down, name)
			}
		case unix.RTM_NEWADDR, unix.RTM_DELADDR:
			if len(m.Data) < unix.SizeofIfAddrmsg {
				continue
			}
			if s.anyDevice || s.anyAddress || s.indexes[int(binary.NativeEndian.Uint32(m.Data[4:]))] {
				out.kinds.put(kindRoute)
			}
		case unix.RTM_NEWNETCONF:
			out.kinds.put(kindSysctl)
		}
	}
	return out
}

// concernsRoute: it is ours, or in a table of ours, or it took the place of one
// of ours in the main table, of which the kernel tells no removal.
func (s *scope) concernsRoute(m syscall.NetlinkMessage) bool {
	d := m.Data
	if len(d) < unix.SizeofRtMsg {
		return false
	}
	if d[5] == balancer.Protocol {
		return true
	}
	attrs := d[unix.SizeofRtMsg:]
	table := int(d[4])
	if t := attribute(attrs, unix.RTA_TABLE); len(t) == 4 {
		table = int(binary.NativeEndian.Uint32(t))
	}
	if within(table, s.tables) {
		return true
	}
	if table != unix.RT_TABLE_MAIN || m.Header.Flags&unix.NLM_F_REPLACE == 0 || len(s.main) == 0 {
		return false
	}
	to, _ := netip.AddrFromSlice(attribute(attrs, unix.RTA_DST))
	return s.main[netip.PrefixFrom(to, int(d[1]))]
}

func (s *scope) concernsRule(m syscall.NetlinkMessage) bool {
	if len(m.Data) < unix.SizeofRtMsg { // struct fib_rule_hdr is as long
		return false
	}
	attrs := m.Data[unix.SizeofRtMsg:]
	if p := attribute(attrs, unix.FRA_PROTOCOL); len(p) == 1 && p[0] == balancer.Protocol {
		return true
	}
	p := attribute(attrs, unix.FRA_PRIORITY)
	return len(p) == 4 && within(int(binary.NativeEndian.Uint32(p)), s.priorities)
}

// readNft tells whether a datagram of nftables names our table. All kinds of
// messages have the table's name as their first attribute.
func readNft(b []byte, s *scope) sighting {
	if s == nil {
		return sighting{}
	}
	messages, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return sighting{kinds: setOf(kindTable)}
	}
	for _, m := range messages {
		if len(m.Data) < 4 || m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || m.Header.Type&0xff == unix.NFT_MSG_NEWGEN {
			continue
		}
		name := strings.TrimRight(string(attribute(m.Data[4:], unix.NFTA_TABLE_NAME)), "\x00")
		if typ := m.Header.Type & 0xff; typ == unix.NFT_MSG_NEWSETELEM || typ == unix.NFT_MSG_DELSETELEM {
			if set := strings.TrimRight(string(attribute(m.Data[4:], unix.NFTA_SET_ELEM_LIST_SET)), "\x00"); s.theirs[set] || isUser(set) {
				continue
			}
		}
		if m.Data[0] == unix.NFPROTO_INET && name == balancer.TableName {
			return sighting{kinds: setOf(kindTable)}
		}
	}
	return sighting{}
}

// attribute returns the payload of the first attribute of that type, nil if
// there is none.
func attribute(b []byte, typ uint16) []byte {
	for len(b) >= unix.SizeofNlAttr {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofNlAttr || n > len(b) {
			return nil
		}
		if binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER) == typ {
			return b[unix.SizeofNlAttr:n]
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return nil
}
