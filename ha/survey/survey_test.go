package survey

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"harouter/test/netlab"
)

func TestJudge(t *testing.T) {
	private, public := netip.MustParsePrefix("192.168.1.1/24"), netip.MustParsePrefix("203.0.113.9/29")
	gateway := netip.MustParseAddr("203.0.113.14")
	for name, test := range map[string]struct {
		seen seen
		use  Use
		why  string
	}{
		"lo":                 {seen{loopback: true, kind: "device", Device: Device{Address: netip.MustParsePrefix("127.0.0.1/8")}}, None, "the machine itself"},
		"lan":                {seen{kind: "device", up: true, Device: Device{Address: private}}, Lan, "has a private address and no default route"},
		"lan, unplugged":     {seen{kind: "device", Device: Device{Address: private}}, Lan, "has a private address and no default route"},
		"direct cable":       {seen{kind: "device", up: true, Device: Device{Address: netip.MustParsePrefix("10.99.0.1/30")}}, Cable, "has a private network of two machines and no default route"},
		"transfer network":   {seen{kind: "device", up: true, Device: Device{Address: netip.MustParsePrefix("203.0.113.9/30")}}, Wan, "has a public address"},
		"vlan":               {seen{kind: "vlan", up: true, Device: Device{Address: private}}, Lan, "has a private address and no default route"},
		"wan":                {seen{kind: "device", up: true, route: true, Device: Device{Address: public, Gateway: gateway}}, Wan, "has a default route via 203.0.113.14"},
		"behind a box":       {seen{kind: "device", up: true, route: true, Device: Device{Address: private, Gateway: private.Addr().Next()}}, Wan, "has a default route via 192.168.1.2"},
		"ppp":                {seen{kind: "ppp", up: true, route: true, Device: Device{Address: public}}, Wan, "has a default route"},
		"second line":        {seen{kind: "device", up: true, Device: Device{Address: public}}, Wan, "has a public address"},
		"carrier-grade NAT":  {seen{kind: "device", up: true, Device: Device{Address: netip.MustParsePrefix("100.72.0.9/16")}}, Wan, "has an address of those that ISPs share out (100.64.0.0/10)"},
		"wireguard":          {seen{kind: "wireguard", up: true, Device: Device{Address: private}}, None, "a tunnel (wireguard)"},
		"wireguard, default": {seen{kind: "wireguard", up: true, route: true, Device: Device{Address: private}}, None, "a tunnel (wireguard)"},
		"port of a bridge":   {seen{kind: "device", up: true, part: "br0"}, None, "a part of br0"},
		"bridge":             {seen{kind: "bridge", up: true, Device: Device{Name: "br0", Address: private}}, Lan, "has a private address and no default route"},
		"docker":             {seen{kind: "bridge", up: true, Device: Device{Name: "docker0", Address: private}}, None, "for containers or virtual machines"},
		"docker compose":     {seen{kind: "bridge", up: true, Device: Device{Name: "br-0123456789ab", Address: private}}, None, "for containers or virtual machines"},
		"OpenWrt's br-lan":   {seen{kind: "bridge", up: true, Device: Device{Name: "br-lan", Address: private}}, Lan, "has a private address and no default route"},
		"cable to a guest":   {seen{kind: "veth", up: true}, None, "a cable into a container"},
		"inside a container": {seen{kind: "veth", up: true, route: true, Device: Device{Address: private, Gateway: gateway}}, Wan, "has a default route via 203.0.113.14"},
		"dummy":              {seen{kind: "dummy", up: true, Device: Device{Address: private}}, None, "no network of its own behind it (dummy)"},
		"without an address": {seen{kind: "device", up: true}, None, "has no IPv4 address"},
		"down":               {seen{kind: "device"}, None, "is down and has no IPv4 address"},
	} {
		if use, why := judge(test.seen); use != test.use || why != test.why {
			t.Errorf("%s: %s, %s", name, use, why)
		}
	}
}

// TestLook reads a real machine of many devices.
func TestLook(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	netlab.Sh(t, `set -e
ip link set lo up
cable() { ip link add $1 type veth peer name p-$1; ip link set $1 up; ip link set p-$1 up; }
cable lan0; ip addr add 169.254.51.1/32 dev lan0; ip addr add 192.168.77.2/24 dev lan0; ip addr add 192.168.77.3/24 dev lan0 label lan0:1
cable wan1; ip addr add 203.0.113.9/25 dev wan1; ip route add default via 203.0.113.1 metric 50
ip route add default via 203.0.113.2 dev wan1 metric 20; ip route add unreachable default metric 5; ip route add default via 203.0.113.7 table 100
cable wan2; ip addr add 10.1.0.2/24 dev wan2 valid_lft 600 preferred_lft 600
cable wan3; ip addr add 10.2.0.2/24 dev wan3
ip route add default metric 70 nexthop via 10.1.0.1 dev wan2 nexthop via 10.2.0.1 dev wan3
cable wan4; ip addr add 10.3.0.2/24 dev wan4; ip route add default via 10.3.0.1 metric 90 proto dhcp
ip link add br0 type bridge; ip link set br0 up; ip addr add 10.9.0.1/24 dev br0
cable port; ip link set port master br0
ip link add docker0 type bridge; ip addr add 172.17.0.1/16 dev docker0
ip tuntap add tun0 mode tun; ip addr add 10.8.0.1/24 dev tun0
ip link add mv0 link wan1 type macvlan`)
	got, err := Look()
	if err != nil {
		t.Fatal(err)
	}
	mine := []string{"lo", "lan0", "wan1", "wan2", "wan3", "wan4", "br0", "port", "docker0", "tun0", "mv0"}
	got = slices.DeleteFunc(got, func(d Device) bool { return !slices.Contains(mine, d.Name) })
	slices.SortFunc(got, func(a, b Device) int { return slices.Index(mine, a.Name) - slices.Index(mine, b.Name) })
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	want := []Device{
		{Name: "lo", Why: "the machine itself", Address: p("127.0.0.1/8")},
		{Name: "lan0", Use: Lan, Why: "has a private address and no default route", Address: p("192.168.77.2/24"),
			Further: []netip.Addr{a("169.254.51.1"), a("192.168.77.3")}, Labelled: map[string]netip.Prefix{"lan0:1": p("192.168.77.3/24")}},
		{Name: "wan1", Use: Wan, Why: "has a default route via 203.0.113.2", Address: p("203.0.113.9/25"), Gateway: a("203.0.113.2")},
		{Name: "wan2", Use: Wan, Why: "has a default route via 10.1.0.1", Address: p("10.1.0.2/24"), Gateway: a("10.1.0.1"), Dynamic: true},
		{Name: "wan3", Use: Wan, Why: "has a default route via 10.2.0.1", Address: p("10.2.0.2/24"), Gateway: a("10.2.0.1")},
		{Name: "wan4", Use: Wan, Why: "has a default route via 10.3.0.1", Address: p("10.3.0.2/24"), Gateway: a("10.3.0.1"), Dynamic: true},
		{Name: "br0", Use: Lan, Why: "has a private address and no default route", Address: p("10.9.0.1/24")},
		{Name: "port", Why: "a part of br0"},
		{Name: "docker0", Why: "for containers or virtual machines", Address: p("172.17.0.1/16")},
		{Name: "tun0", Why: "a tunnel (tuntap)", Address: p("10.8.0.1/24")},
		{Name: "mv0", Why: "is down and has no IPv4 address"},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Error(diff)
	}
}
