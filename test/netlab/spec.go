package netlab

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
)

// Spec says what a site is made of. Every router is on every LAN, ISP and
// cable: its devices are lan0, lan1 … in the order of LANs, wan1, wan2 … in
// the order of ISPs, sync0, sync1 … in the order of Cables.
type Spec struct {
	Routers []RouterSpec
	ISPs    []ISPSpec
	LANs    []LANSpec
	// Cables join the routers directly. Between two routers it is one cable:
	// both ends lose carrier together. More routers share a small switch.
	// Router number i (from 1) has the i-th address of the network.
	Cables []netip.Prefix
	// Servers are addresses of the node "net", which stands behind all ISPs.
	Servers []netip.Addr
}

// RouterSpec is one router: a fresh machine that does not forward, with the
// kernel's settings as Debian has them (rp_filter loose on new devices).
type RouterSpec struct {
	Name string
	// Sysctls are written before the devices exist: net.ipv4.conf.default.rp_filter: 1.
	Sysctls map[string]string
}

// ISPSpec is one ISP: a gateway that holds the first address of Net on device
// wan0 and reaches the node "net" by device core0. It forwards only what comes
// from Net (BCP 38) and counts the rest: Leaks.
type ISPSpec struct {
	Name string
	Net  netip.Prefix
	// Own gives each router a permanent address: the second of Net, the third …
	Own bool
	// IgnoreGratuitous makes the gateway deaf to ARP that is not addressed to
	// it, as many ISP routers are.
	IgnoreGratuitous bool
}

// LANSpec is one LAN. Hosts use the first address of Net as their gateway;
// that is for the routers to hold. Hosts are named h1, h2 … through the whole
// site, with addresses from the hundredth of Net.
type LANSpec struct {
	Name  string
	Net   netip.Prefix
	Own   bool // each router has a permanent address: the second of Net, the third …
	Hosts int
}

// PairOptions vary the standard site. The zero value is the usual one.
type PairOptions struct {
	Routers  int  // 2
	ISPs     int  // 2, at most 16
	Hosts    int  // 1
	WANOwn   bool // routers have own addresses towards the ISPs
	NoLANOwn bool // routers have none on the LAN
	NoCable  bool
}

// Pair is the standard site: routers r1, r2; isp1 203.0.113.0/25, isp2
// 203.0.113.128/25 (isp3 … 198.18.N.0/25); a LAN "lan" 192.168.77.0/24 with
// host h1 on .100; servers 198.51.100.1 and .2; a cable 192.0.2.0/24.
func Pair(o PairOptions) Spec {
	orElse := func(n, usual int) int {
		if n == 0 {
			return usual
		}
		return n
	}
	spec := Spec{
		LANs: []LANSpec{{Name: "lan", Net: netip.MustParsePrefix("192.168.77.0/24"),
			Own: !o.NoLANOwn, Hosts: orElse(o.Hosts, 1)}},
		Servers: []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2")},
	}
	for i := 1; i <= orElse(o.Routers, 2); i++ {
		spec.Routers = append(spec.Routers, RouterSpec{Name: fmt.Sprintf("r%d", i)})
	}
	for i := 1; i <= orElse(o.ISPs, 2); i++ {
		net := netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(i), 0}), 25)
		if i <= 2 {
			net = netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i-1) * 128}), 25)
		}
		spec.ISPs = append(spec.ISPs, ISPSpec{Name: fmt.Sprintf("isp%d", i), Net: net, Own: o.WANOwn})
	}
	if !o.NoCable {
		spec.Cables = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	}
	return spec
}

// nodeName keeps the devices on the switch's side (NAME-lan0) within the
// kernel's 15 bytes, and namespace names free of anything that needs quoting.
var nodeName = regexp.MustCompile(`^[a-z][a-z0-9]{0,7}$`)

func (s Spec) check() error {
	var errs []error
	seen := map[string]bool{"sw": true, "net": true}
	name := func(what, n string) {
		if !nodeName.MatchString(n) || seen[n] {
			errs = append(errs, fmt.Errorf("%s %q: want a name of its own, at most 8 of a-z and 0-9, not sw or net", what, n))
		}
		seen[n] = true
	}
	network := func(what string, p netip.Prefix) {
		if !p.IsValid() || !p.Addr().Is4() || p != p.Masked() || p.Bits() > 29 {
			errs = append(errs, fmt.Errorf("%s: want an IPv4 network of at most 29 bits, not %s", what, p))
		}
	}
	if len(s.ISPs) > 16 {
		errs = append(errs, fmt.Errorf("%d ISPs: at most 16", len(s.ISPs)))
	}
	for _, r := range s.Routers {
		name("router", r.Name)
	}
	for _, i := range s.ISPs {
		name("isp", i.Name)
		network(i.Name, i.Net)
	}
	for _, l := range s.LANs {
		name("lan", l.Name)
		network(l.Name, l.Net)
		if l.Hosts > 0 && l.Net.Bits() > 24 {
			errs = append(errs, fmt.Errorf("%s: hosts need a network of at most 24 bits, not %s", l.Name, l.Net))
		}
	}
	for _, c := range s.Cables {
		network("cable", c)
	}
	return errors.Join(errs...)
}

// nth is the address with number n in a network of IPv4: nth(…0/24, 1) is .1.
func nth(p netip.Prefix, n int) netip.Addr {
	a := p.Masked().Addr().As4()
	v := uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
	v += uint32(n)
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}
