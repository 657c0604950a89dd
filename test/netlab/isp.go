package netlab

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// ispRules are the firewall of an ISP: it takes from the access line only
// what comes from its own network and remembers who sent anything else.
func ispRules(isp ISPSpec) string {
	rules := fmt.Sprintf(`table inet lab {
  counter leaks { }
  set leakers { type ipv4_addr . ipv4_addr; size 64; flags dynamic; }
  chain pre {
    type filter hook prerouting priority raw; policy accept;
    iifname "wan0" ip saddr != %[1]s ip daddr != { 224.0.0.0/4, 255.255.255.255 } update @leakers { ip saddr . ip daddr }
    iifname "wan0" ip saddr != %[1]s ip daddr != { 224.0.0.0/4, 255.255.255.255 } counter name leaks drop
  }
}
`, isp.Net)
	if isp.IgnoreGratuitous {
		rules += fmt.Sprintf(`table arp lab {
  chain in {
    type filter hook input priority 0; policy accept;
    iifname "wan0" arp daddr ip != %s drop
  }
}
`, nth(isp.Net, 1))
	}
	return rules
}

// Blackhole makes an ISP die in silence: carrier stays, but its gateway
// neither forwards nor answers anything, ARP included.
func (s *Site) Blackhole(isp string) error {
	n := s.kind(isp, KindISP)
	return s.Cut(n.Port("wan0"), n.Port("core0"))
}

// BlackholeBeyond makes an ISP die behind its gateway: that still answers ARP
// and ping, but nothing is forwarded.
func (s *Site) BlackholeBeyond(isp string) error {
	return s.Cut(s.kind(isp, KindISP).Port("core0"))
}

// Restore ends either kind of silent death, and whatever else was dropped on
// the ISP's ports.
func (s *Site) Restore(isp string) error {
	n := s.kind(isp, KindISP)
	return s.Pass(n.Port("wan0"), n.Port("core0"))
}

// Leak is what an ISP refused because it did not come from its network.
type Leak struct {
	Packets uint64
	Pairs   []string // "source > destination" of them, at most 64
}

var packetCount = regexp.MustCompile(`packets (\d+)`)

// Leaks tells what the ISP refused since the site was built.
func (s *Site) Leaks(isp string) (Leak, error) {
	var leak Leak
	n := s.kind(isp, KindISP)
	err := n.in(func() error {
		text, err := run("", "nft", "list", "counter", "inet", "lab", "leaks")
		if err != nil {
			return err
		}
		m := packetCount.FindStringSubmatch(text)
		if m == nil {
			return fmt.Errorf("read counter of leaks: no packets in %q", text)
		}
		if leak.Packets, err = strconv.ParseUint(m[1], 10, 64); err != nil {
			return err
		}
		text, err = run("", "nft", "list", "set", "inet", "lab", "leakers")
		if err != nil {
			return err
		}
		_, elements, _ := strings.Cut(text, "elements = {")
		elements, _, _ = strings.Cut(elements, "}")
		for _, e := range strings.Split(elements, ",") {
			if src, dst, ok := strings.Cut(strings.TrimSpace(e), " . "); ok {
				leak.Pairs = append(leak.Pairs, src+" > "+dst)
			}
		}
		return nil
	})
	return leak, err
}

// ISPOf names the ISP in whose network the address lies, "" if none: the
// uplink over which a server saw a flow come.
func (s *Site) ISPOf(addr netip.Addr) string { return ispOf(s.Spec.ISPs, addr) }

func ispOf(isps []ISPSpec, addr netip.Addr) string {
	for _, isp := range isps {
		if isp.Net.Contains(addr.Unmap()) {
			return isp.Name
		}
	}
	return ""
}
