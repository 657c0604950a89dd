package config

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"harouter/vrrp"
)

// TestIPv6 has the rules of the file for addresses of IPv6, with the whole text
// of what is said.
func TestIPv6(t *testing.T) {
	const (
		virtualAdr = "an address with its prefix length, such as 192.168.77.1/24 or 2001:db8::1/64"
		machine    = "the IPv6 address of one machine, such as fd00::1"
		office     = "lans.office.virtual_addresses: "
	)
	six := func(n int, more string) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf("2001:db8::%x/64", i+1))
		}
		return "[" + strings.Join(all, ", ") + more + "]"
	}
	withMAC := func(addresses string) string {
		return "[{name: office, device: lan0, virtual_mac: true, virtual_addresses: " + addresses + "}]"
	}
	two := func(a, b string) string {
		return "[{name: x, device: lan0, virtual_addresses: " + a + "}, {name: y, device: lan1, virtual_addresses: " + b + "}]"
	}
	v2 := func(lans string) string { return "{version: 2}\nlans: " + lans }
	for _, test := range []struct {
		key, text string
		want      []string
	}{
		{"nodes", "{r1: {address: fd00::1}, r2: {address: fd00::2}}", nil},
		{"nodes", "{r1: {address: \"fd00::1\"}}", nil},
		{"nodes", "{r1: {addresses: [fd00::1, 192.0.2.1]}, r2: {addresses: [fd00::2, 192.0.2.2]}}", nil},
		{"nodes", "{r1: {addresses: [192.0.2.1, fd00::1]}, r2: {address: fd00::2}}", []string{
			"node r2: fd00::2 is IPv6, but the first address of node r1 (line 2) is IPv4; allowed: first addresses of one family, since adverts go between them"}},
		{"nodes", "{r1: {address: fe80::1}}", []string{"nodes.r1.address: fe80::1 is good on one link only; allowed: an address that is good everywhere, such as fd00::1"}},
		{"nodes", "{r1: {address: fd00::1%eth0}}", []string{"nodes.r1.address: fd00::1%eth0 names a device; allowed: the address alone, fd00::1"}},
		{"nodes", "{r1: {address: \"::ffff:192.0.2.1\"}}", []string{"nodes.r1.address: ::ffff:192.0.2.1 is an IPv4 address in other clothes; allowed: 192.0.2.1"}},
		{"nodes", "{r1: {address: ff02::12}}", []string{"nodes.r1.address: ff02::12 is a multicast address; allowed: " + machine}},
		{"nodes", "{r1: {address: \"::\"}}", []string{"nodes.r1.address: :: is no address of a machine; allowed: " + machine}},
		{"nodes", "{r1: {address: \"::1\"}, r2: {address: fd00::2}}", []string{"node r1: ::1 is reached by no other node; allowed: an address that the others reach"}},
		{"nodes", "{r1: {addresses: [fd00::1, fd00::1]}}", []string{"fd00::1 stands twice: node r1 in line 2, node r1 here; allowed: each address once"}},

		{"vrrp", v2(lan("[2001:db8::1/64]")), []string{
			office + "2001:db8::1 with vrrp.version: 2, which knows IPv4 only (RFC 3768); allowed: IPv4 addresses, or vrrp.version: 3"}},
		{"vrrp", "{version: 2}\nnodes: {r1: {addresses: [fd00::1, 192.0.2.1]}}", []string{
			"node r1: fd00::1 comes first, and vrrp.version: 2 knows IPv4 only (RFC 3768); allowed: an IPv4 address first, or vrrp.version: 3"}},
		{"vrrp", "{version: 2}\nnodes: {r1: {addresses: [192.0.2.1, fd00::1]}}", nil},
		{"vrrp", "{foreign: [fe80::5, 10.0.0.9]}", nil},
		{"vrrp", "{unicast_only: true, foreign: [fe80::5]}", []string{
			"vrrp.foreign: fe80::5 is good on one link only, and with unicast_only adverts are routed; allowed: an address that is good everywhere"}},
		{"vrrp", "{unicast_only: true, foreign: [fd00::5]}", []string{
			"vrrp.foreign: fd00::5 is IPv6, and with unicast_only adverts leave from 192.0.2.1; allowed: an address of that family"}},

		{"lans", lan("[2001:db8::1/64, 192.168.77.1/24, fd00::1/64, fe80::1/64]"), nil},
		{"lans", lan("[2001:db8::1]"), []string{office + "2001:db8::1 lacks its prefix length; allowed: 2001:db8::1/64 or the like"}},
		{"lans", lan("[2001:db8::/64]"), []string{office + "2001:db8::/64 is the network itself; allowed: the address of a machine in it"}},
		{"lans", lan("[2001:db8::/127, 2001:db8::2/128]"), nil},
		{"lans", lan("[2001:db8::1/7]"), []string{office + "2001:db8::1/7: a prefix length of 7; allowed: 8 to 128"}},
		{"lans", lan("[\"::1/64\"]"), []string{office + "::1/64 cannot be shared (127.0.0.0/8, 169.254.0.0/16 and ::1 stay on one machine); allowed: " + virtualAdr}},
		{"lans", lan("[fe80::1/10]"), []string{office + "fe80::1/10: a prefix length of 10; allowed: 64, as all link-local addresses have it"}},
		{"lans", lan("[fe80::1%lan0/64]"), []string{office + `"fe80::1%lan0/64" is no address with a prefix length; allowed: ` + virtualAdr}},
		{"lans", lan("[2001:db8::1/64, 2001:db8::1/64]"), []string{"2001:db8::1 stands twice: a virtual address of lans.office in line 4, a virtual address of lans.office here; allowed: each address once"}},
		{"lans", lan("[2001:db8::1/64, 2001:db8::2/65]"), []string{"lans.office: network 2001:db8::/65 overlaps 2001:db8::/64 of lans.office in line 4; allowed: the same length for all addresses of one network, or /128"}},
		{"lans", two("[2001:db8::1/32]", "[2001:db8:7::1/64]"), []string{"lans.y: network 2001:db8:7::/64 overlaps 2001:db8::/32 of lans.x in line 4; allowed: networks that do not overlap"}},
		{"lans", two("[fe80::1/64]", "[fe80::1/64]"), nil},
		{"lans", two("[fe80::1/64, fe80::1/64]", "[fe80::2/64]"), []string{"fe80::1 stands twice: a virtual address of lans.x in line 4, a virtual address of lans.x here; allowed: each address once"}},
		{"vrrp", "{foreign: [fe80::1]}\nlans: " + lan("[fe80::1/64]"), []string{"fe80::1 stands twice: a foreign router in line 3, a virtual address of lans.office here; allowed: each address once"}},
		{"lans", lan(six(254, "")), nil},
		{"lans", lan(six(255, "")), []string{office + "255 addresses; allowed: at most 254 of IPv6, beside the link-local one that is added"}},
		{"lans", lan(six(254, ", fe80::1/64")), nil},
		{"lans", lan(six(255, ", fe80::1/64")), []string{office + "256 addresses; allowed: at most 255 of IPv6"}},
		{"lans", withMAC(six(89, "")), nil},
		{"lans", withMAC(six(90, "")), []string{"lans.office.virtual_mac: 91 IPv6 addresses, the link-local one among them; allowed: at most 90, what one frame can list, or false"}},

		{"uplinks", up(", gateway: fd00::1"), []string{"uplinks.a.gateway: IPv4 only: this is IPv6; allowed: an IPv4 address"}},
		{"uplinks", probe("{targets: [2001:db8::9]}"), []string{"uplinks.a.probe.targets: IPv4 only: this is IPv6; allowed: an IPv4 address"}},
		{"uplinks", "[{name: a, device: w1, virtual_addresses: [2001:db8:9::1/64], gateway: 203.0.113.1, probe: {targets: [198.51.100.1]}}]", []string{
			"warning: uplinks.a has no virtual IPv4 address: the device's own address is used, so flows over it cannot survive a takeover"}},
	} {
		changes := map[string]string{test.key: test.text}
		for _, other := range []string{"nodes", "lans"} { // that the text brings along
			if strings.Contains(test.text, "\n"+other+": ") {
				changes[other] = "-"
			}
		}
		c, ps := Parse("test.yaml", []byte(site(changes)))
		if diff := cmp.Diff(test.want, texts(ps)); diff != "" {
			t.Errorf("%s: %s\n%s", test.key, test.text, diff)
		}
		if (c == nil) != (ps.Err() != nil) {
			t.Errorf("%s: %s: a config with errors, or none without", test.key, test.text)
		}
	}
}

// TestLinkLocal: a virtual router of IPv6 has a link-local address on every lan,
// on every node the same; on one without IPv6 there is none.
func TestLinkLocal(t *testing.T) {
	c, ps := Parse("test.yaml", []byte(site(map[string]string{
		"vrrp": "{id: 7}",
		"lans": "[{name: x, device: lan0, virtual_addresses: [2001:db8::1/64, 10.1.0.1/24]}, {name: y, device: lan1, vrid: 9, virtual_addresses: [fd00::1/64]}," +
			" {name: z, device: lan2, virtual_addresses: [10.2.0.1/24]}, {name: w, device: lan3, virtual_addresses: [fd01::1/64, fe80::1/64]}]",
	})))
	if c == nil {
		t.Fatal(ps)
	}
	var got []string
	for _, l := range c.Lans {
		for _, p := range l.Virtual {
			got = append(got, l.Name+" "+p.String())
		}
	}
	want := []string{
		"x 2001:db8::1/64", "x 10.1.0.1/24", "x fe80::200:5eff:fe00:207/64", "y fd00::1/64", "y fe80::200:5eff:fe00:209/64",
		"z 10.2.0.1/24", "w fd01::1/64", "w fe80::1/64",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if a := vrrp.LinkLocal(51); a != netip.MustParseAddr("fe80::200:5eff:fe00:233") {
		t.Error(a)
	}
}
