package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// many is a list of n addresses in 10.0.0.0/8.
func many(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("10.0.%d.%d/8", i/200, i%200+1))
	}
	return "[" + strings.Join(all, ", ") + "]"
}

// up and lan are one-line lists with a good first part.
func up(rest string) string {
	return "[{name: a, device: w1, virtual_addresses: [203.0.113.10/25], probe: {targets: [198.51.100.1]}" + rest + "}]"
}

func lan(addresses string) string {
	return "[{name: office, device: lan0, virtual_addresses: " + addresses + "}]"
}

func probe(text string) string {
	return "[{name: a, device: w1, virtual_addresses: [203.0.113.10/25], probe: " + text + "}]"
}

// TestRules: each rule of the file, with the whole text of what is said.
func TestRules(t *testing.T) {
	const (
		nameAllowed   = "1 to 32 characters of a-z 0-9 . _ - with a letter or digit first"
		deviceAllowed = "1 to 15 characters of A-Z a-z 0-9 . _ - + @"
		virtualAdr    = "an address with its prefix length, such as 192.168.77.1/24 or 2001:db8::1/64"
		machine       = "the IPv4 address of one machine, such as 192.0.2.1"
	)
	for _, test := range []struct {
		key, text string
		want      []string
	}{
		// what the router accepts
		{"firewall", "{allow: [{from: cabel, ports: [22]}]}", []string{`firewall.allow[1].from: there is no lan or uplink "cabel"; allowed: lan, wan, office, a, b`}},
		{"firewall", "{allow: [{from: office, ports: 22}]}", []string{"warning: firewall.allow[1].from: what comes from a lan reaches the router anyway: the firewall is for uplinks"}},
		{"firewall", "{allow: [{protocol: [tcp, gre], ports: 22}]}", []string{"firewall.allow[1].ports: only tcp and udp have ports here; allowed: no ports, or protocol: [tcp, udp]"}},
		{"firewall", "{allow: [{ports: 0}, {limit: 0/s}, {to: \"2001:db8::/32\", source: 10.0.0.0/8}]}", []string{`firewall.allow[1].ports: "0" is no port; allowed: a port from 1 to 65535, or a range such as 1000-2000`,
			"warning: firewall.allow[2]: every port of the routers is open from outside; if that is not meant, write ports, or source", `firewall.allow[2].limit: "0/s" is no rate; allowed: a number from 1 to 1000000 and its unit, such as 10/s, 30/m or 100/h`, "firewall.allow[3].source: from IPv4 to IPv6, or the other way round, nothing comes; allowed: a source of the family of to"}},
		{"firewall", "{allow: [{to: 192.168.77.1}]}", []string{"firewall.allow[1].to: 192.168.77.1 is an address of the routers; allowed: hosts behind them, or no to"}},
		{"firewall", "{allow: [{to: [203.0.113.64/29, \"2001:db8::/32\"], ports: 443, source: \"2001:db8:1::/48\"}, {source: \"2001:db8::/32\", ports: 22}]}", nil},
		{"firewall", "{enabled: false, log: false, antispoof: false, mss: off, icmp_limit: 10/s, syn_limit: 100/m, allow: [{from: a, protocol: [tcp, udp], ports: [22, 80-90], source: 10.0.0.0/8, limit: 5/s}, {protocol: gre}, {}]}", []string{"warning: firewall.allow[3]: every port of the routers is open from outside; if that is not meant, write ports, or source"}},
		// forwards
		{"firewall", "{forward: [{}]}", []string{"firewall.forward[1]: the key port is missing; allowed: a port such as 443", "firewall.forward[1]: the key to is missing; allowed: a host, or host:port"}},
		{"firewall", "{forward: [{port: 443, to: \"192.168.77.20:0\"}]}", []string{`firewall.forward[1].to: "192.168.77.20:0": the port is none from 1 to 65535; allowed: a host such as 192.168.77.20, or with a port such as 192.168.77.20:8443`}},
		{"firewall", "{forward: [{port: 443, to: 192.168.77.1}]}", []string{"firewall.forward[1].to: 192.168.77.1 is an address of the routers; allowed: a host behind them"}},
		{"firewall", "{forward: [{port: 443, to: 10.0.0.7}]}", []string{"warning: firewall.forward[1].to: 10.0.0.7 is in no lan: a route must lead there, and the answers back through this router"}},
		{"firewall", "{forward: [{port: 443, to: \"fd00::1\"}]}", []string{"firewall.forward[1].to: IPv4 only: this is IPv6; allowed: an IPv4 address"}},
		{"firewall", "{forward: [{port: 443-444, to: \"192.168.77.20:443\"}]}", []string{"firewall.forward[1].to: several ports lead to one; allowed: the host alone, which gets them as they are"}},
		{"firewall", "{forward: [{port: 443, to: 192.168.77.20, uplinks: [nowhere], limit: 10}]}", []string{"firewall.forward[1].uplinks: there is no uplink \"nowhere\"; allowed: a, b", `firewall.forward[1].limit: "10" is no rate; allowed: a number from 1 to 1000000 and its unit, such as 10/s, 30/m or 100/h`}},
		{"firewall", "{forward: [{port: 440-450, to: 192.168.77.20, protocol: [tcp, udp]}, {port: 443, to: 192.168.77.21, source: 198.51.100.0/24}]}",
			[]string{"firewall.forward[2]: port 443 of tcp is forwarded in line 6 already; allowed: each port of an uplink once, unless the first is for other sources"}},
		{"firewall", "{forward: [{port: 443, to: 192.168.77.20, source: 198.51.100.0/24, limit: 10/s, hairpin: true}, {port: 443, to: \"192.168.77.21:8443\", limit: 5/m}, {port: 443, to: 192.168.77.21, protocol: udp}]}", nil},
		// who may talk to whom
		{"firewall", "{groups: [[office, \":uplinks\"], [office, a]]}", nil},
		{"firewall", "{groups: [[\":lans\", \":uplinks\"]]}", nil},
		{"firewall", "{groups: [[office]]}", nil},
		{"firewall", "{groups: []}", nil},
		{"firewall", "{groups: [[], [ofice, \":wan\"]]}", []string{"firewall.groups: an empty group; allowed: names of lans and uplinks, such as [office, :uplinks]",
			`firewall.groups: there is no lan or uplink "ofice" (did you mean office?); allowed: :lans, :uplinks, office, a, b`,
			`firewall.groups: there is no lan or uplink ":wan" (did you mean :lans?); allowed: :lans, :uplinks, office, a, b`}},
		{"firewall", "{groups: [a]}", []string{"firewall.groups: one value stands here; allowed: a list such as [a, b]"}},
		{"firewall", "{groups: [[a, b]]}", []string{"warning: firewall.groups: lan office is in no group: what it begins reaches no other lan and no uplink; if that is meant, write [office]"}},
		{"firewall", "{groups: [[office, a]]}", []string{"warning: firewall.groups: lan office may not use b, but policy default leads it there too, which is refused; before that one, write {name: office-only, match: {lan: office}, uplinks: [a], when_none: drop}"}},
		{"firewall", "{enabled: false, groups: [[office, a]]}", []string{"warning: firewall.groups: the firewall is off, so nobody is refused"}},
		// extra networks
		{"routes", "[{to: 10.8.0.0/16, device: tun0, gateway: 10.9.0.1, source: 10.9.0.2, masquerade: true}, {to: 10.20.0.7, gateway: 192.168.77.9}, {to: 10.0.0.0/8, device: tun1}]",
			nil},
		{"routes", "[{to: 10.8.0.0/16, gateway: 10.9.0.1}]", []string{"warning: routes[1].gateway: 10.9.0.1 lies in the network of no lan or uplink: until the main routing table leads there directly, nothing goes to 10.8.0.0/16"}},
		{"routes", "[{to: 198.51.100.0/24, device: w1}, {to: 192.0.0.0/16, device: tun0}]", []string{
			"warning: routes[1].to: 198.51.100.0/24 holds 198.51.100.1, which the probes of uplinks.b ask: they go this way too, and get no answer over w2; name another target, or another network",
			"warning: routes[2].to: 192.0.0.0/16 holds 192.0.2.1, which is node r1: the nodes lose each other, unless their own network there is a smaller one"}},
		{"routes", "[{to: 10.8.0.0/16, device: tun0, gateway: 192.168.77.9}]", []string{"warning: routes[1].gateway: 192.168.77.9 lies in the network of lans.office, which is not behind tun0; if it is not found there, nothing goes to 10.8.0.0/16"}},
		{"firewall", "{allow: [{from: wan, protocol: tcp}, {from: office}, {source: 198.51.100.7}, {protocol: gre}]}", []string{
			"warning: firewall.allow[1]: every port of the routers is open from outside; if that is not meant, write ports, or source",
			"warning: firewall.allow[2].from: what comes from a lan reaches the router anyway: the firewall is for uplinks"}},
		{"routes", "[{}]", []string{"routes[1]: the key to is missing; allowed: a network such as 10.0.0.0/8", "routes[1]: neither device nor gateway stands here; allowed: one of them, or both"}},
		{"routes", "[{to: 0.0.0.0/0, device: tun0}, {to: 224.0.0.0/4, device: tun0}, {to: \"fd00::/8\", device: tun0}]", []string{
			"routes[1].to: 0.0.0.0/0 is everything, which the uplinks lead to; allowed: a network such as 10.0.0.0/8",
			"routes[2].to: 224.0.0.0/4 is no network behind a router; allowed: a network such as 10.0.0.0/8",
			"routes[3].to: IPv4 only: this is IPv6; allowed: an IPv4 network"}},
		{"routes", "[{to: 192.168.77.0/24, device: tun0}]", []string{"routes[1].to: 192.168.77.0/24 is the network of lans.office (line 4); allowed: a network behind another router"}},
		{"routes", "[{to: 192.168.77.1, device: tun0}]", []string{"routes[1].to: 192.168.77.1 is a virtual address of lans.office (line 4); allowed: an address that is not ours"}},
		{"routes", "[{to: 192.168.77.0/28, device: tun0}]", []string{"routes[1].to: 192.168.77.0/28 lies in the network of lans.office (line 4) and holds 192.168.77.1, which is a virtual address of lans.office; allowed: a network without our addresses"}},
		{"routes", "[{to: 192.168.77.64/28, device: tun0}]", []string{"warning: routes[1].to: 192.168.77.64/28 lies in the network of lans.office (line 4): hosts there look for it beside themselves, not at this router"}},
		{"routes", "[{to: 10.8.0.0/16, device: tun0}, {to: 10.8.0.0/16, device: tun1}]", []string{"routes[2].to: 10.8.0.0/16 stands in line 6 already; allowed: each network once"}},
		{"routes", "[{to: 10.8.0.0/16, gateway: 192.168.77.1}, {to: 10.9.0.0/16, device: tun0, gateway: 10.9.0.1}]", []string{
			"routes[1].gateway: 192.168.77.1 is a virtual address of lans.office (line 4); allowed: another router",
			"routes[2].gateway: 10.9.0.1 lies in 10.9.0.0/16 itself; allowed: a router that is reached without it, or device alone"}},
		{"uplinks", up(", gateway: dhcp"), nil},
		{"uplinks", up(", gateway: ppp"), nil},
		{"uplinks", "[{name: a, device: ppp0, gateway: ppp, virtual_addresses: [203.0.113.10/32], probe: {targets: [{address: 198.51.100.1, method: arp}]}}]",
			[]string{"uplinks.a.probe: arp is asked, which a line between two points does not have; allowed: another method, or another gateway than ppp"}},
		// names, required keys, shapes
		{"cluster", "-", []string{"the file: the key cluster is missing; allowed: the name of the cluster, such as home"}},
		{"cluster", "", []string{"cluster: has no value; write one, or remove the key"}},
		{"cluster", "[a]", []string{"cluster: a list stands here; allowed: " + nameAllowed}},
		{"cluster", "Home", []string{`cluster: "Home" cannot be a name; allowed: ` + nameAllowed}},
		{"cluster", strings.Repeat("x", 33), []string{`cluster: "` + strings.Repeat("x", 33) + `" cannot be a name; allowed: ` + nameAllowed}},
		{"nodes", "-", []string{"the file: the key nodes is missing; allowed: one entry for each router, such as r1: {address: 192.0.2.1}"}},
		{"nodes", "{}", []string{"nodes: none stands here; allowed: one entry for each router, such as r1: {address: 192.0.2.1}"}},
		{"nodes", "[r1]", []string{"nodes: a list stands here; allowed: a map such as {key: value}"}},
		{"nodes", "{r1: 192.0.2.1}", []string{"nodes.r1: one value stands here; allowed: a map such as {key: value}"}},
		{"nodes", "{r1: }", []string{"nodes.r1: the key address is missing; allowed: an IP address of this node that the others reach, such as 192.0.2.1"}},
		{"nodes", "{-r: {address: 192.0.2.1}}", []string{`nodes: "-r" cannot be a name; allowed: 1 to 63 characters of a-z 0-9 . _ - with a letter or digit first`}},
		{"lans", "{office: {}}", []string{"lans: a map stands here; allowed: a list such as [{name: a}, {name: b}]"}},
		{"lans", "[{}]", []string{"lans[1]: the key name is missing; allowed: a name such as office or cable",
			"lans[1]: the key device is missing; allowed: the name of a network device, such as eth0",
			"lans[1]: the key virtual_addresses is missing; allowed: a list such as [192.168.77.1/24]"}},
		{"colour", "blue", []string{`the file: unknown key "colour" (a newer harouter may know it); allowed: cluster, vrrp, nodes, lans, uplinks, policies, balance, firewall, routes, conntrack_sync, services, hooks, mail, webhook, ports, log`}},
		{"conntrack-sync", "{}", []string{`the file: unknown key "conntrack-sync" (did you mean conntrack_sync?); allowed: cluster, vrrp, nodes, lans, uplinks, policies, balance, firewall, routes, conntrack_sync, services, hooks, mail, webhook, ports, log`}},
		{"ports", "{gossip: 1, gossip: 2}", []string{`ports: the key "gossip" stands twice (first in line 6); allowed: once`}},

		// nodes
		{"nodes", "{r1: {address: 192.0.2.1, priority: 0}}", []string{"nodes.r1.priority: 0 is out of range; allowed: 1 to 254"}},
		{"nodes", "{r1: {address: 192.0.2.1, priority: 255}}", []string{"nodes.r1.priority: 255 is out of range; allowed: 1 to 254"}},
		{"nodes", "{r1: {address: 192.0.2.1, priority: 0100}}", []string{`nodes.r1.priority: "0100" is no whole number; allowed: 1 to 254`}},
		{"nodes", "{r1: {address: 192.0.2.1/24}}", []string{"nodes.r1.address: 192.0.2.1/24 has a prefix length; allowed: an address alone, 192.0.2.1"}},
		{"nodes", "{r1: {address: r1.example.org}}", []string{`nodes.r1.address: "r1.example.org" is no IP address; allowed: an IP address such as 192.0.2.1 or fd00::1`}},
		{"nodes", "{r1: {address: 224.0.0.18}}", []string{"nodes.r1.address: 224.0.0.18 is a multicast address; allowed: " + machine}},
		{"nodes", "{r1: {address: 0.0.0.0}}", []string{"nodes.r1.address: 0.0.0.0 is no address of a machine; allowed: " + machine}},
		{"nodes", "{r1: {addresses: []}}", []string{"nodes.r1.addresses: no address stands here; allowed: 1 to 8 IP addresses, the best path first"}},
		{"nodes", "{r1: {addresses: [192.0.2.1, 10.7.0.1]}, r2: {addresses: [192.0.2.2, 10.7.0.2]}}", nil},
		{"nodes", "{r1: {address: [192.0.2.1, 10.7.0.1]}}", []string{"nodes.r1.address: a list stands here; allowed: one IP address (a list is written as addresses: [192.0.2.1, 192.0.3.1])"}},
		{"nodes", "{r1: {addresses: [192.0.2.1, 192.0.2.1]}}", []string{"192.0.2.1 stands twice: node r1 in line 2, node r1 here; allowed: each address once"}},
		{"nodes", "{r1: {addresses: [192.0.2.1, 10.7.0.1]}, r2: {addresses: [192.0.2.2, 10.7.0.1]}}", []string{"10.7.0.1 stands twice: node r1 in line 2, node r2 here; allowed: each address once"}},
		{"nodes", "{r1: {addresses: [10.7.0.1, 10.7.0.2, 10.7.0.3, 10.7.0.4, 10.7.0.5, 10.7.0.6, 10.7.0.7, 10.7.0.8, 10.7.0.9]}}", []string{"nodes.r1.addresses: 9 addresses; allowed: 1 to 8"}},
		{"nodes", "{r1: {addresses: [192.168.77.8, 192.0.2.1]}, r2: {addresses: [192.168.77.9, 203.0.113.9]}}", []string{
			"warning: node r2: 192.168.77.9 lies in the network of lans.office: when that fails the nodes lose each other there too, so there is one witness less"}},
		{"nodes", "{r1: {address: 192.0.2.1, addresses: [192.0.2.2]}}", []string{"nodes.r1: address and addresses both stand here; allowed: one of them"}},
		{"nodes", "{r1: {address: 192.0.2.1}, r2: {address: 192.0.2.1}}", []string{"192.0.2.1 stands twice: node r1 in line 2, node r2 here; allowed: each address once"}},
		{"nodes", "{r1: {address: 192.168.77.1}}", []string{"192.168.77.1 stands twice: node r1 in line 2, a virtual address of lans.office here; allowed: each address once"}},
		{"nodes", "{r1: {address: 127.0.0.1}, r2: {address: 192.0.2.1}}", []string{"node r1: 127.0.0.1 is reached by no other node; allowed: an address that the others reach"}},
		{"nodes", "{r1: {address: 192.168.77.9}, r2: {address: 203.0.113.9}}", []string{
			"warning: node r1: 192.168.77.9 lies in the network of lans.office: when that fails the nodes lose each other there too, so there is one witness less",
			"warning: node r2: 203.0.113.9 lies in the network of uplinks.a: when that fails the nodes lose each other there too, so there is one witness less"}},
		{"nodes", "{r1: {address: 192.0.2.1, devices: {cable: x}}}", []string{`nodes.r1.devices.cable: there is no lan or uplink "cable"; allowed: a, b, office`}},
		{"nodes", "{r1: {address: 192.0.2.1, devices: {ofice: x}}}", []string{`nodes.r1.devices.ofice: there is no lan or uplink "ofice" (did you mean office?); allowed: a, b, office`}},
		{"nodes", "{r1: {address: 192.0.2.1, devices: {a: eth/0}}}", []string{`nodes.r1.devices.a: "eth/0" cannot be the name of a device; allowed: ` + deviceAllowed}},
		{"nodes", "{r1: {address: 192.0.2.1, devices: {a: w2}}}", []string{"device w2 carries a on node r1 already (line 2); allowed: one lan or uplink on each device, all its addresses in one list"}},

		// vrrp
		{"vrrp", "{id: 0}", []string{"vrrp.id: 0 is out of range; allowed: 1 to 255"}},
		{"vrrp", "{id: 99999999999999999999}", []string{"vrrp.id: 99999999999999999999 is out of range; allowed: 1 to 255"}},
		{"vrrp", "{id: \"51\"}", []string{`vrrp.id: "51" is a text in quotes; allowed: a whole number from 1 to 255, without quotes`}},
		{"vrrp", "{version: 4}", []string{"vrrp.version: 4 is out of range; allowed: 2 to 3"}},
		{"vrrp", "{advertise: 15ms}", []string{"vrrp.advertise: 15ms is not in steps of 10ms; allowed: 10ms to 40.95s in steps of 10ms"}},
		{"vrrp", "{advertise: 0ms}", []string{"vrrp.advertise: 0ms is out of range; allowed: 10ms to 40.95s in steps of 10ms"}},
		{"vrrp", "{advertise: 40.96s}", []string{"vrrp.advertise: 40.96s is out of range; allowed: 10ms to 40.95s in steps of 10ms"}},
		{"vrrp", "{advertise: 1}", []string{"vrrp.advertise: 1 lacks its unit (ms, s, m, h); allowed: 10ms to 40.95s in steps of 10ms"}},
		{"vrrp", "{advertise: fast}", []string{`vrrp.advertise: "fast" is no time such as 100ms, 2s or 10m; allowed: 10ms to 40.95s in steps of 10ms`}},
		{"vrrp", "{version: 2, advertise: 100ms}", []string{"vrrp.advertise: 100ms is out of range; allowed: 1s to 4m15s in steps of 1s"}},
		{"vrrp", "{advertise: 1500ms, version: 2}", []string{"vrrp.advertise: 1500ms is not in steps of 1s; allowed: 1s to 4m15s in steps of 1s"}},
		{"vrrp", "{version: 2, advertise: 256s}", []string{"vrrp.advertise: 256s is out of range; allowed: 1s to 4m15s in steps of 1s"}},
		{"vrrp", "{version: 2, advertise: 255s, authentication: \"8 bytes!\"}", nil},
		{"vrrp", "{version: 2, authentication: 9_bytes__}", []string{`vrrp.authentication: "9_bytes__" does not fit; allowed: a text of 1 to 8 characters in one line`}},
		{"vrrp", "{authentication: secret}", []string{"vrrp.authentication: only version 2 has a password; allowed: none, or vrrp.version: 2"}},
		{"vrrp", "{preempt_delay: -1s}", []string{"vrrp.preempt_delay: -1s is out of range; allowed: 0s to 24h"}},
		{"vrrp", "{preempt: yes}", []string{`vrrp.preempt: "yes" is not understood here; allowed: true or false`}},
		{"vrrp", "{checksum: psuedo}", []string{`vrrp.checksum: "psuedo" is not known here (did you mean pseudo?); allowed: pseudo, plain`}},
		{"vrrp", "{foreign: 10.0.0.1}", []string{"vrrp.foreign: one value stands here; allowed: a list such as [a, b]"}},
		{"vrrp", "{foreign: [192.0.2.1]}", []string{"192.0.2.1 stands twice: node r1 in line 2, a foreign router here; allowed: each address once"}},

		// lans
		{"lans", "[{name: x, device: d, virtual_addresses: [10.0.0.1/8], vrid: 0}]", []string{"lans.x.vrid: 0 is out of range; allowed: 1 to 255"}},
		{"lans", lan("[]"), []string{"lans.office.virtual_addresses: none stands here; allowed: 1 to 255 addresses"}},
		{"lans", lan("[192.168.77.1]"), []string{"lans.office.virtual_addresses: 192.168.77.1 lacks its prefix length; allowed: 192.168.77.1/24 or the like"}},
		{"lans", lan("[192.168.77.0/24]"), []string{"lans.office.virtual_addresses: 192.168.77.0/24 is the network itself; allowed: the address of a machine in it"}},
		{"lans", lan("[192.168.77.255/24]"), []string{"lans.office.virtual_addresses: 192.168.77.255/24 is the broadcast address of its network; allowed: the address of a machine in it"}},
		{"lans", lan("[192.168.77.300/24]"), []string{`lans.office.virtual_addresses: "192.168.77.300/24" is no address with a prefix length; allowed: ` + virtualAdr}},
		{"lans", lan("[127.0.0.2/8]"), []string{"lans.office.virtual_addresses: 127.0.0.2/8 cannot be shared (127.0.0.0/8, 169.254.0.0/16 and ::1 stay on one machine); allowed: " + virtualAdr}},
		{"lans", lan("[10.0.0.1/7]"), []string{"lans.office.virtual_addresses: 10.0.0.1/7: a prefix length of 7; allowed: 8 to 32"}},
		{"lans", lan(many(256)), []string{"lans.office.virtual_addresses: 256 addresses; allowed: at most 255"}},
		{"lans", lan(many(255)), nil},
		{"lans", lan("[192.168.77.1/24, 192.168.77.1/24]"), []string{"192.168.77.1 stands twice: a virtual address of lans.office in line 4, a virtual address of lans.office here; allowed: each address once"}},
		{"lans", lan("[192.168.77.1/24, 192.168.77.129/25]"), []string{"lans.office: network 192.168.77.128/25 overlaps 192.168.77.0/24 of lans.office in line 4; allowed: the same length for all addresses of one network, or /32"}},
		{"lans", lan("[203.0.113.100/24]"), []string{
			"uplinks.a: network 203.0.113.0/25 overlaps 203.0.113.0/24 of lans.office in line 4; allowed: networks that do not overlap",
			"uplinks.b: network 203.0.113.128/25 overlaps 203.0.113.0/24 of lans.office in line 4; allowed: networks that do not overlap"}},
		{"lans", "[{name: x, device: lan0, virtual_addresses: [10.1.0.1/16]}, {name: y, device: lan1, virtual_addresses: [10.1.2.1/24]}]", []string{
			"lans.y: network 10.1.2.0/24 overlaps 10.1.0.0/16 of lans.x in line 4; allowed: networks that do not overlap"}},
		{"lans", "[{name: x, device: lan0, virtual_addresses: [10.1.0.1/16]}, {name: x, device: lan0, virtual_addresses: [10.2.2.1/24]}]", []string{
			"lans: the name x is that of a lan in line 4 too; allowed: a different name for each lan and uplink",
			"device lan0 carries x on node r1 already (line 4); allowed: one lan or uplink on each device, all its addresses in one list"}},
		{"lans", "[{name: a, device: lan0, virtual_addresses: [10.1.0.1/16]}]", []string{"uplinks: the name a is that of a lan in line 4 too; allowed: a different name for each lan and uplink"}},
		{"uplinks", "[{name: a, device: w1, virtual_addresses: [203.0.113.10/25], probe: {targets: [198.51.100.1]}}, {name: a, device: w2, virtual_addresses: [203.0.113.140/25], probe: {targets: [198.51.100.1]}}]", []string{
			"uplinks: the name a is that of an uplink in line 5 too; allowed: a different name for each lan and uplink"}},
		{"lans", "[{name: x, device: interface-number-1, virtual_addresses: [10.1.0.1/16]}]", []string{`lans.x.device: "interface-number-1" cannot be the name of a device; allowed: ` + deviceAllowed}},

		// uplinks
		{"uplinks", up(", id: 0"), []string{"uplinks.a.id: 0 is out of range; allowed: 1 to 63"}},
		{"uplinks", up(", id: 64"), []string{"uplinks.a.id: 64 is out of range; allowed: 1 to 63"}},
		{"uplinks", up(", weight: 256"), []string{"uplinks.a.weight: 256 is out of range; allowed: 0 to 255"}},
		{"uplinks", up(", weight: -1"), []string{"uplinks.a.weight: -1 is out of range; allowed: 0 to 255"}},
		{"uplinks", up(", weight: 0"), []string{"uplinks: the weights of all of them are 0; allowed: 1 to 255 for at least one"}},
		{"uplinks", up(", tier: 0"), []string{"uplinks.a.tier: 0 is out of range; allowed: 1 to 16"}},
		{"uplinks", up(", gateway: automatic"), []string{`uplinks.a.gateway: "automatic" is no IP address; allowed: an IPv4 address such as 192.0.2.1`}},
		{"uplinks", up(", gateway: 127.0.0.1"), []string{"uplinks.a.gateway: 127.0.0.1 is this machine itself; allowed: an IPv4 address, auto, dhcp or ppp"}},
		{"uplinks", up(", gateway: 203.0.113.10"), []string{"uplinks.a.gateway: 203.0.113.10 is a virtual address of uplinks.a (line 5); allowed: an address that is not ours"}},
		{"uplinks", up(", gateway: 192.0.2.2"), []string{"uplinks.a.gateway: 192.0.2.2 is node r2 (line 2); allowed: an address that is not ours", "warning: uplinks.a: gateway 192.0.2.2 lies in no network of its virtual_addresses"}},
		{"uplinks", up(", gateway: 203.0.113.200"), []string{"warning: uplinks.a: gateway 203.0.113.200 lies in no network of its virtual_addresses"}},
		{"uplinks", "[{name: a, device: w1, gateway: 192.168.77.5, virtual_addresses: [203.0.113.10/32], probe: {targets: [198.51.100.1]}}]", []string{"warning: uplinks.a: gateway 192.168.77.5 lies in the network of lans.office (line 4)"}},
		{"uplinks", "[{name: a, device: w1, gateway: 203.0.113.1, probe: {targets: [198.51.100.1]}}]", []string{"warning: uplinks.a has no virtual_addresses: the device's own address is used, so flows over it cannot survive a takeover"}},
		{"uplinks", up(", virtual_mac: true"), nil},
		{"uplinks", "[{name: a, device: w1, probe: {targets: [198.51.100.1]}, virtual_mac: true}]", []string{
			"warning: uplinks.a has no virtual_addresses: the device's own address is used, so flows over it cannot survive a takeover",
			"uplinks.a.virtual_mac: there are no virtual_addresses that it could carry; allowed: false, or such addresses too"}},
		{"lans", "[{name: x, device: d, virtual_addresses: [10.0.0.1/16], virtual_mac: true}, {name: y, device: e, virtual_addresses: [10.1.0.1/16], vrid: 52, virtual_mac: true}, {name: z, device: f, virtual_addresses: [10.2.0.1/16], vrid: 52, virtual_mac: true}]", []string{
			"warning: lans.z.virtual_mac and lans.y.virtual_mac have the same virtual MAC 00:00:5e:00:01:34, from vrid 52: where one switch carries both without VLANs, give one of them another vrid"}},
		{"uplinks", "[{name: a, device: w1, virtual_addresses: [203.0.113.10/25]}]", []string{"warning: uplinks.a.probe has no targets: only ARP to the gateway is asked, so a fault behind the gateway goes unseen"}},
		{"uplinks", "[{name: a, id: 2, device: w1, virtual_addresses: [203.0.113.10/25], probe: {targets: [198.51.100.1]}}, {name: b, device: w2, virtual_addresses: [203.0.113.140/25], probe: {targets: [198.51.100.1]}}]", []string{
			"uplinks.b: its id would be 2, from its place in the file, but uplinks.a has that id (line 5); allowed: a different id; write one from 1 to 63"}},
		{"uplinks", "[{name: a, id: 7, device: w1, virtual_addresses: [203.0.113.10/25], probe: {targets: [198.51.100.1]}}, {name: b, id: 7, device: w2, virtual_addresses: [203.0.113.140/25], probe: {targets: [198.51.100.1]}}]", []string{
			"uplinks.b: id 7 is that of uplinks.a too (line 5); allowed: a different id from 1 to 63 for each"}},
		{"uplinks", "[{name: a, device: w1, virtual_addresses: [203.0.113.10/24], probe: {targets: [198.51.100.1]}}, {name: b, device: w2, virtual_addresses: [203.0.113.11/24], probe: {targets: [198.51.100.1]}}]", []string{
			"uplinks.b: network 203.0.113.0/24 overlaps 203.0.113.0/24 of uplinks.a in line 5; allowed: networks that do not overlap (two lines in one network: write their addresses with /32)"}},

		// probes
		{"uplinks", probe("{targets: []}"), []string{"warning: uplinks.a.probe has no targets: only ARP to the gateway is asked, so a fault behind the gateway goes unseen"}},
		{"uplinks", probe("{method: arp}"), []string{"warning: uplinks.a.probe has no targets: only ARP to the gateway is asked, so a fault behind the gateway goes unseen"}},
		{"uplinks", probe(`{method: arp, targets: [198.51.100.1]}`), []string{`warning: uplinks.a.probe asks only neighbours, by ARP, so a fault behind the gateway goes unseen`}},
		{"uplinks", probe(`{targets: [{address: 203.0.113.1, method: arp}, {address: 203.0.113.2, method: arp}]}`), []string{`warning: uplinks.a.probe asks only neighbours, by ARP, so a fault behind the gateway goes unseen`}},
		{"uplinks", probe(`{targets: [{address: 203.0.113.1, method: arp}, 198.51.100.1]}`), nil},
		{"uplinks", probe(`{method: dns, targets: [198.51.100.1, {address: 198.51.100.1, name: .}, {address: 198.51.100.1, name: _a.b-C.example.org., port: 5353}, {address: 198.51.100.1, method: tcp}]}`), nil},
		{"uplinks", probe(`{targets: [{address: 198.51.100.1, method: http}, {address: 198.51.100.1, method: http, url: "https://example.org:8443/x?y=z"}, {address: 198.51.100.1, method: http, url: "http://[2001:db8::1]/"}]}`), nil},
		{"uplinks", probe(`{method: tcp, targets: [{address: 198.51.100.1, port: 25}, {address: 198.51.100.1, port: 25}]}`), []string{`uplinks.a.probe.targets: 198.51.100.1 stands twice (first in line 5); allowed: once`}},
		{"uplinks", probe(`{targets: [{address: 198.51.100.1, method: ping}]}`), []string{`uplinks.a.probe.targets.method: "ping" is not known here; allowed: icmp, tcp, dns, http, arp`}},
		{"uplinks", probe(`{targets: [{address: 198.51.100.1, port: 53}]}`), []string{`uplinks.a.probe.targets.port: says nothing to method icmp; allowed: with method tcp or dns`}},
		{"uplinks", probe(`{targets: [{address: 198.51.100.1, method: tcp, url: "http://x/", name: x}]}`), []string{`uplinks.a.probe.targets.url: says nothing to method tcp; allowed: with method http`, `uplinks.a.probe.targets.name: says nothing to method tcp; allowed: with method dns`}},
		{"uplinks", probe(`{method: http, targets: [{address: 198.51.100.1, port: 8080}]}`), []string{`uplinks.a.probe.targets.port: method http has its port in the url; allowed: url: http://example.org:8080/`}},
		{"uplinks", probe(`{targets: [{address: 198.51.100.1, method: tcp, port: 65536}]}`), []string{`uplinks.a.probe.targets.port: 65536 is out of range; allowed: 1 to 65535`}},
		{"uplinks", probe(`{targets: [{address: 198.51.100.1, method: http, url: "www.example.org"}]}`), []string{`uplinks.a.probe.targets.url: "www.example.org" is no http or https URL with a host; allowed: a URL such as https://www.example.org/`}},
		{"uplinks", probe(`{targets: [{address: 198.51.100.1, method: http, url: "ftp://example.org/"}]}`), []string{`uplinks.a.probe.targets.url: "ftp://example.org/" is no http or https URL with a host; allowed: a URL such as https://www.example.org/`}},
		{"uplinks", probe(`{targets: [{address: 198.51.100.1, method: http, url: "http://"}]}`), []string{`uplinks.a.probe.targets.url: "http://" is no http or https URL with a host; allowed: a URL such as https://www.example.org/`}},
		{"uplinks", probe(`{targets: [{address: 198.51.100.1, method: http, url: "http:///x"}]}`), []string{`uplinks.a.probe.targets.url: "http:///x" is no http or https URL with a host; allowed: a URL such as https://www.example.org/`}},
		{"uplinks", probe(`{targets: [{address: 198.51.100.1, method: http, url: "http://user:secret@example.org/"}]}`), []string{`uplinks.a.probe.targets.url: "http://user:secret@example.org/" is no http or https URL with a host; allowed: a URL such as https://www.example.org/`}},
		{"uplinks", probe(`{targets: [{address: 198.51.100.1, method: http, url: "http://a b/"}]}`), []string{`uplinks.a.probe.targets.url: "http://a b/" is no http or https URL with a host; allowed: a URL such as https://www.example.org/`}},
		{"uplinks", probe(`{targets: [{address: 198.51.100.1, method: http, url: "http://a:b/"}]}`), []string{`uplinks.a.probe.targets.url: "http://a:b/" is no http or https URL with a host; allowed: a URL such as https://www.example.org/`}},
		{"uplinks", probe(`{targets: [{address: 198.51.100.1, method: http, url: "http://a:0/"}]}`), []string{`uplinks.a.probe.targets.url: "http://a:0/" has no port from 1 to 65535; allowed: a URL such as https://www.example.org/`}},
		{"uplinks", probe(`{targets: [{address: 198.51.100.1, method: http, url: "http://a:65536/"}]}`), []string{`uplinks.a.probe.targets.url: "http://a:65536/" has no port from 1 to 65535; allowed: a URL such as https://www.example.org/`}},
		{"uplinks", probe(`{targets: [{address: 198.51.100.1, method: http, url: "http://käse.example/"}]}`), []string{`uplinks.a.probe.targets.url: "http://käse.example/" has a host with letters beyond a-z; allowed: a URL such as https://www.example.org/ (xn--…)`}},
		{"uplinks", probe(`{targets: [{address: 198.51.100.1, method: dns, name: "a..b"}]}`), []string{`uplinks.a.probe.targets.name: "a..b" is no name in the DNS; allowed: a name such as www.example.org, or "." for the root`}},
		{"uplinks", probe(`{targets: [{address: 198.51.100.1, method: dns, name: ".."}]}`), []string{`uplinks.a.probe.targets.name: ".." is no name in the DNS; allowed: a name such as www.example.org, or "." for the root`}},
		{"uplinks", probe(`{targets: [{address: 198.51.100.1, method: dns, name: "a b"}]}`), []string{`uplinks.a.probe.targets.name: "a b" is no name in the DNS; allowed: a name such as www.example.org, or "." for the root`}},
		{"uplinks", probe(`{targets: [{address: 198.51.100.1, method: dns, name: ".a"}]}`), []string{`uplinks.a.probe.targets.name: ".a" is no name in the DNS; allowed: a name such as www.example.org, or "." for the root`}},
		{"uplinks", probe(`{targets: [{address: 198.51.100.1, method: dns, name: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}]}`), []string{`uplinks.a.probe.targets.name: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…" is no name in the DNS; allowed: a name such as www.example.org, or "." for the root`}},
		{"uplinks", probe(`{targets: [{address: 198.51.100.1, method: dns, name: "käse.example"}]}`), []string{`uplinks.a.probe.targets.name: "käse.example" is no name in the DNS; allowed: a name such as www.example.org, or "." for the root`}},
		{"uplinks", `[{name: a, device: w1, metered: true, virtual_addresses: [203.0.113.10/25], probe: {targets: [198.51.100.1]}}]`, []string{`warning: uplinks.a is metered: probed every 10s instead of every 1s, so a silent fault is seen after 30.8s at the latest`}},
		{"uplinks", `[{name: a, device: w1, metered: true, virtual_addresses: [203.0.113.10/25], probe: {targets: [198.51.100.1], interval: 200ms, fall: 5, timeout: 1s}}]`, []string{`warning: uplinks.a is metered: probed every 2s instead of every 200ms, so a silent fault is seen after 11s at the latest`}},
		{"uplinks", `[{name: a, device: w1, metered: true, virtual_addresses: [203.0.113.10/25], probe: {targets: [198.51.100.1], interval: 7s}}]`, []string{`warning: uplinks.a is metered: probed every 1m instead of every 7s, so a silent fault is seen after 3m0.8s at the latest`}},
		{"uplinks", `[{name: a, device: w1, metered: true, virtual_addresses: [203.0.113.10/25], probe: {targets: [198.51.100.1], interval: 1m}}]`, nil},
		{"uplinks", `[{name: a, device: w1, metered: true, virtual_addresses: [203.0.113.10/25], probe: {targets: [198.51.100.1], interval: 1h}}]`, nil},
		{"uplinks", probe("{targets: 198.51.100.1}"), []string{"uplinks.a.probe.targets: one value stands here; allowed: a list such as [198.51.100.1, 198.51.100.2]"}},
		{"uplinks", probe("{targets: [dns.google]}"), []string{`uplinks.a.probe.targets: "dns.google" is no IP address; allowed: an IPv4 address such as 192.0.2.1`}},
		{"uplinks", probe("{targets: [{method: icmp}]}"), []string{"uplinks.a.probe.targets: the key address is missing; allowed: an IPv4 address such as 198.51.100.1"}},
		{"uplinks", probe("{targets: [198.51.100.1, 198.51.100.1]}"), []string{"uplinks.a.probe.targets: 198.51.100.1 stands twice (first in line 5); allowed: once"}},
		{"uplinks", probe("{targets: [192.168.77.1]}"), []string{"uplinks.a.probe.targets: 192.168.77.1 is a virtual address of lans.office (line 4); allowed: an address that is not ours"}},
		{"uplinks", probe("{targets: [198.51.100.1], quorum: 2}"), []string{"uplinks.a.probe.quorum: 2 answers of 1 targets; allowed: 1 to 1"}},
		{"uplinks", probe("{targets: [198.51.100.1], quorum: 0}"), []string{"uplinks.a.probe.quorum: 0 is out of range; allowed: 1 to 255"}},
		{"uplinks", probe("{targets: [198.51.100.1], interval: 0s, timeout: 0s, fall: 0, rise: 0}"), []string{
			"uplinks.a.probe.interval: 0s is out of range; allowed: 10ms to 1h", "uplinks.a.probe.timeout: 0s is out of range; allowed: 1ms to 1m",
			"uplinks.a.probe.fall: 0 is out of range; allowed: 1 to 1000", "uplinks.a.probe.rise: 0 is out of range; allowed: 1 to 1000"}},
		{"uplinks", probe("{targets: [198.51.100.1], loss: {degraded: 10%, clear: 5%}, latency: {degraded: 300ms}, jitter: {}}"), nil},
		{"uplinks", probe("{targets: [198.51.100.1], loss: {clear: 5%}}"), []string{"uplinks.a.probe.loss: clear stands without degraded; allowed: both, or degraded alone, such as {degraded: 10%}"}},
		{"uplinks", probe("{targets: [198.51.100.1], loss: {degraded: 5%, clear: 5%}}"), []string{"uplinks.a.probe.loss.clear: 5% is not below degraded (5%); allowed: less than that, or leave it out for half of it"}},
		{"uplinks", probe("{targets: [198.51.100.1], latency: {degraded: 100ms, clear: 1s}}"), []string{"uplinks.a.probe.latency.clear: 1s is not below degraded (100ms); allowed: less than that, or leave it out for half of it"}},
		{"uplinks", probe("{targets: [198.51.100.1], jitter: {degraded: 0ms}}"), []string{"uplinks.a.probe.jitter.degraded: 0 is no limit; allowed: more than that, such as 30ms, or leave uplinks.a.probe.jitter out"}},
		{"uplinks", probe("{targets: [198.51.100.1], loss: {degraded: 101%, clear: 5%}}"), []string{`uplinks.a.probe.loss.degraded: "101%" is no percentage; allowed: 0% to 100%`}},

		// policies
		{"policies", "[{method: weighted}]", []string{"policies[1]: the key name is missing; allowed: a name; default for the one that stands last"}},
		{"policies", "[{name: default}, {name: default}]", []string{"policies: the name default stands twice (first in line 6); allowed: once"}},
		{"policies", "[{name: default}, {name: x}]", []string{"policies.x stands behind the policy default, which takes everything; allowed: default as the last one"}},
		{"policies", "[{name: default, uplinks: []}]", []string{"policies.default.uplinks: none stands here; allowed: names of uplinks, or leave the key out for all"}},
		{"policies", "[{name: default, uplinks: [a, a, c]}]", []string{"policies.default.uplinks: a stands twice; allowed: once", `policies.default.uplinks: there is no uplink "c"; allowed: a, b`}},
		{"policies", "[{name: default, weights: {zebra: 1, a: 300}}]", []string{`policies.default.weights: there is no uplink "zebra"; allowed: a, b`, "policies.default.weights.a: 300 is out of range; allowed: 0 to 255"}},
		{"policies", "[{name: default, uplinks: [a], weights: {b: 1}}]", []string{"policies.default.weights.b: this policy does not use it; allowed: a"}},
		{"policies", "[{name: default, weights: {a: 0, b: 0}}]", []string{"policies.default: the weights of all its uplinks are 0; allowed: 1 to 255 for at least one of them"}},
		{"policies", "[{name: default, method: wieghted}]", []string{`policies.default.method: "wieghted" is not known here (did you mean weighted?); allowed: weighted, priority, overflow, persistence, least-used, lowest-latency, enforced, fastest-response`}},
		{"policies", "[{name: x, method: priority}, {name: default}]", []string{"warning: policies.x takes everything, since it has no match: no policy behind it is used"}},
		{"policies", "[{name: default, match: {protocol: tcp}}]", []string{"policies.default.match: default takes what no other policy takes; allowed: a match in a policy with another name, before it"}},
		{"policies", match("{lan: offce}"), []string{`policies.x.match.lan: "offce" is not known here (did you mean office?); allowed: office`}},
		{"policies", match("{lan: []}"), []string{"policies.x.match.lan: an empty list stands here; allowed: at least one value, or leave the key out"}},
		{"policies", match("{lan: {not: office}}"), []string{"warning: policies.x.match.lan: no packet has such a value: the policy takes nothing"}},
		{"policies", match("{source: 2001:db8::/32}"), []string{"policies.x.match.source: IPv4 only: this is IPv6; allowed: an IPv4 address"}},
		{"policies", match("{destination: \"@nets\"}"), []string{`policies.x.match.destination: there is no file "nets" beside this one; allowed: one with a network in each line`}},
		{"policies", match("{destination: \"@cluster.key\"}"), []string{`policies.x.match.destination: "@cluster.key" names no file; allowed: @ and the name of a file beside this one`}},
		{"policies", match("{protocol: tpc}"), []string{`policies.x.match.protocol: "tpc" is not known here; allowed: a protocol such as tcp, udp, icmp, sctp, gre, esp, or its number from 0 to 255`}},
		{"policies", match("{protocol: 256}"), []string{`policies.x.match.protocol: "256" is not known here; allowed: a protocol such as tcp, udp, icmp, sctp, gre, esp, or its number from 0 to 255`}},
		{"policies", match("{protocol: [tcp, icmp], source_ports: 7}"), []string{"policies.x.match.source_ports: not all that policies.x.match.protocol names has ports; allowed: tcp, udp, sctp, dccp, udplite as protocol, or leave it out for all of these"}},
		{"policies", match("{protocol: {not: tcp}, destination_ports: 7}"), []string{"policies.x.match.destination_ports: not all that policies.x.match.protocol names has ports; allowed: tcp, udp, sctp, dccp, udplite as protocol, or leave it out for all of these"}},
		{"policies", match("{dscp: [64, af44]}"), []string{`policies.x.match.dscp: "64" is not known here; allowed: a code point from 0 to 63, or its name such as ef, cs3, af41`, `policies.x.match.dscp: "af44" is not known here; allowed: a code point from 0 to 63, or its name such as ef, cs3, af41`}},
		{"policies", match("{mac: \"02:00:5e:10:00\"}"), []string{`policies.x.match.mac: "02:00:5e:10:00" is no Ethernet address; allowed: an Ethernet address such as 02:00:5e:10:00:01`}},
		{"policies", match("{time: \"8-18\"}"), []string{`policies.x.match.time: "8-18" is no time of the week; allowed: a time such as "08:00-18:00", "mon-fri 08:00-18:00" or "sat,sun"`}},
		{"policies", match("{time: \"mon 08:00-25:00\"}"), []string{`policies.x.match.time: "mon 08:00-25:00" is no time of the week; allowed: a time such as "08:00-18:00", "mon-fri 08:00-18:00" or "sat,sun"`}},
		{"policies", match("{router: true, mac: \"02:00:5e:10:00:01\"}"), []string{"policies.x.match.mac: the router's own traffic is not told apart by this; allowed beside router: source, destination, protocol, source_ports, destination_ports, time"}},
		{"policies", "[{name: x, match: {protocol: tcp}, method: enforced}]", []string{"policies.x.method: enforced has one uplink, up or down; allowed: one name in policies.x.uplinks"}},
		{"policies", "[{name: x, match: {protocol: tcp}, bypass: true, uplinks: [a]}]", []string{"policies.x.bypass: what the main table leads has no method, uplinks or weights; allowed: bypass alone, or these"}},
		{"policies", "[{name: default, persistence: {by: source}}]", []string{"policies.default.persistence: it belongs to the method persistence; allowed: method: persistence, or remove it"}},
		{"policies", "[{name: default, method: persistence, persistence: {timeout: 1h}}]", []string{"warning: policies.default.persistence.timeout: without learned: true nothing is remembered, so nothing times out"}},

		// balance, ports, log
		{"balance", "{mark_mask: 0x5f00}", []string{"balance.mark_mask: 0x5f00 is not one run of bits without a gap; allowed: one run of bits such as 0x3f00"}},
		{"balance", "{mark_mask: 0}", []string{"balance.mark_mask: 0 is not one run of bits without a gap; allowed: one run of bits such as 0x3f00"}},
		{"balance", "{mark_mask: 0x1ffffffff}", []string{`balance.mark_mask: "0x1ffffffff" is no mask of 32 bits; allowed: one run of bits such as 0x3f00`}},
		{"balance", "{mark_mask: 0x100}", []string{"balance.mark_mask: 0x100 holds ids up to 1, but uplinks.b has id 2; allowed: a mask of more bits, such as 0x3f00"}},
		{"balance", "{table_base: 190}", []string{"balance.table_base: tables 190 to 253 would touch the kernel's own 253, 254 and 255; allowed: 1 to 189, or from 256"}},
		{"balance", "{table_base: 255}", []string{"balance.table_base: tables 255 to 318 would touch the kernel's own 253, 254 and 255; allowed: 1 to 189, or from 256"}},
		{"balance", "{table_base: 256}", nil},
		{"balance", "{table_base: 0}", []string{"balance.table_base: 0 is out of range; allowed: 1 to 2147483584"}},
		{"balance", "{table_base: 2147483585}", []string{"balance.table_base: 2147483585 is out of range; allowed: 1 to 2147483584"}},
		{"balance", "{rule_priority: 31767}", []string{"balance.rule_priority: 31767 is out of range; allowed: 1 to 31766"}},
		{"balance", "{flap_hold: 1m}", nil},
		{"balance", "{flap_hold: 0}", nil},
		{"balance", "{flap_hold: {hold: 1s, max: 1s}}", nil},
		{"balance", "{flap_hold: {hold: 10m}}", nil},
		{"balance", "{flap_hold: 10}", []string{"balance.flap_hold: 10 lacks its unit (ms, s, m, h); allowed: 0s to 1h, or {hold: 10s, max: 5m} (doubling from one to the other); 0 turns it off"}},
		{"balance", "{flap_hold: 2h}", []string{"balance.flap_hold: 2h is out of range; allowed: 0s to 1h, or {hold: 10s, max: 5m} (doubling from one to the other); 0 turns it off"}},
		{"balance", "{flap_hold: [10s, 5m]}", []string{"balance.flap_hold: a list stands here; allowed: a time such as 10s, or {hold: 10s, max: 5m} (doubling from one to the other); 0 turns it off"}},
		{"balance", "{flap_hold: {hold: 10s, max: 5s}}", []string{"balance.flap_hold.max: 5s is less than hold (10s); allowed: at least that, up to 24h"}},
		{"balance", "{flap_hold: {max: 5s}}", []string{"balance.flap_hold.max: 5s is less than hold (10s); allowed: at least that, up to 24h"}},
		{"balance", "{flap_hold: {till: 5s}}", []string{`balance.flap_hold: unknown key "till" (a newer harouter may know it); allowed: hold, max`}},
		{"ports", "{gossip: 7947}", []string{"ports: gossip and sync are both 7947; allowed: two different ports"}},
		{"ports", "{gossip: 0, sync: 65536}", []string{"ports.gossip: 0 is out of range; allowed: 1 to 65535", "ports.sync: 65536 is out of range; allowed: 1 to 65535"}},
		{"log", "{level: verbose}", []string{`log.level: "verbose" is not known here; allowed: debug, info, warn, error`}},
		{"log", "{parts: {vrrpp: debug}}", []string{`log.parts: unknown key "vrrpp" (did you mean vrrp?); allowed: ` + strings.Join(LogParts, ", ")}},
		{"lans", lan("[198.19.3.1/24]"), []string{"warning: 198.19.3.1 is a placeholder (a virtual address of lans.office); write the real address"}},
	} {
		text := site(map[string]string{test.key: test.text})
		c, ps := Parse("test.yaml", []byte(text))
		if diff := cmp.Diff(test.want, texts(ps)); diff != "" {
			t.Errorf("%s: %s\n%s", test.key, test.text, diff)
		}
		if (c == nil) != (ps.Err() != nil) {
			t.Errorf("%s: %s: a config with errors, or none without", test.key, test.text)
		}
	}
}
