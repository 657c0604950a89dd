package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func repeat(n int, sep string, item func(i int) string) string {
	var all []string
	for i := range n {
		all = append(all, item(i))
	}
	return strings.Join(all, sep)
}

func TestLimits(t *testing.T) {
	uplinks := func(n int) string {
		return "[" + repeat(n, ",\n ", func(i int) string {
			return fmt.Sprintf("{name: u%d, device: w%d, virtual_addresses: [10.0.%d.1/24], probe: {targets: [198.51.100.1]}}", i, i, i)
		}) + "]"
	}
	nodes := func(n int) string {
		return "{" + repeat(n, ",\n ", func(i int) string { return fmt.Sprintf("n%d: {address: 192.0.2.%d}", i, i+1) }) + "}"
	}
	list := func(n, net int) string {
		return "[" + repeat(n, ", ", func(i int) string { return fmt.Sprintf("10.%d.%d.%d/16", net, i/200, i%200+1) }) + "]"
	}
	two := func(a, b string) string {
		return "[{name: x, device: d, virtual_addresses: " + a + "},\n {name: y, device: e, virtual_addresses: " + b + "}]"
	}
	for name, test := range map[string]struct {
		key, text string
		want      []string
	}{
		"256 addresses over two lans": {"lans", two(list(255, 1), list(1, 2)), nil},
		"256 addresses on one lan":    {"lans", two(list(256, 1), list(1, 2)), []string{"lans.x.virtual_addresses: 256 addresses; allowed: at most 255"}},
		"63 uplinks":                  {"uplinks", uplinks(63), nil},
		"64 uplinks":                  {"uplinks", uplinks(64), []string{"uplinks.u63 is one uplink too many; allowed: 63"}},
		"254 nodes":                   {"nodes", nodes(254), nil},
		"255 nodes":                   {"nodes", nodes(255), []string{"nodes: more than 254 of them; allowed: 1 to 254"}},
		"rows":                        {"routes", "[" + repeat(1001, ",\n ", func(i int) string { return fmt.Sprintf("{to: 10.%d.%d.0/24, device: t}", i/256, i%256) }) + "]", []string{"routes: more than 1000 entries; allowed: at most that"}},
		"many names": {"policies", "[{name: default, uplinks: [" + strings.Repeat("z", 70) + "]}]",
			[]string{`policies.default.uplinks: "` + strings.Repeat("z", 60) + `…" does not fit; allowed: a text of 1 to 32 characters in one line`}},
		// The device that stands further down is blamed, here that of the lan.
		"devices swapped": {"nodes", "{r1: {address: 192.0.2.1, devices: {a: lan0}}, r2: {address: 192.0.2.2, devices: {a: w1, b: w1}}}", []string{
			"device w1 carries a on node r2 already (line 2); allowed: one lan or uplink on each device, all its addresses in one list",
			"device lan0 carries a on node r1 already (line 2); allowed: one lan or uplink on each device, all its addresses in one list"}},
	} {
		_, ps := Parse("test.yaml", []byte(site(map[string]string{test.key: test.text})))
		if diff := cmp.Diff(test.want, texts(ps)); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
	if s := join(strings.Split(strings.Repeat("x,", 50), ",")); !strings.HasSuffix(s, "x, x and 11 more") {
		t.Error(s)
	}
}

// TestWarningsYield: of more problems than are shown, warnings go first.
func TestWarningsYield(t *testing.T) {
	ps := Problems{{Severity: Error, Line: 500, Col: 1, Text: "e"}}
	for i := range 200 {
		ps = append(ps, Problem{Severity: Warning, Line: 200 - i, Col: 1})
	}
	if got := ps.sorted(); len(got) != 1 || got[0].Text != "e" {
		t.Errorf("%d problems", len(got))
	}
	if Warning.String() != "warning" || Error.String() != "error" {
		t.Error("names of severities")
	}
}

// TestWrongKind: each kind of value is told from lists, maps and nonsense.
func TestWrongKind(t *testing.T) {
	const aList, aMap = "a list stands here; allowed: ", "a map stands here; allowed: "
	policy := func(text string) string { return "[{name: default, match: {" + text + "}}]" }
	for _, test := range []struct{ key, text, want string }{
		{"vrrp", "{id: [1]}", "vrrp.id: " + aList + "a whole number from 1 to 255"},
		{"vrrp", "{id: 1.5}", `vrrp.id: "1.5" is no whole number; allowed: 1 to 255`},
		{"vrrp", "{preempt: []}", "vrrp.preempt: " + aList + "true or false"},
		{"vrrp", "{preempt: \"true\"}", `vrrp.preempt: "true" is a text in quotes; allowed: true or false, without quotes`},
		{"vrrp", "{advertise: {ms: 100}}", "vrrp.advertise: " + aMap + "a time with its unit, 10ms to 40.95s in steps of 10ms"},
		{"vrrp", "{checksum: {}}", "vrrp.checksum: " + aMap + "pseudo, plain"},
		{"vrrp", "{foreign: [[10.0.0.1]]}", "vrrp.foreign: " + aList + "an IP address such as 192.0.2.1 or fd00::1"},
		{"vrrp", "{foreign: }", "vrrp.foreign: has no value; write a list such as [a, b], or remove the key"},
		{"vrrp", "{check: {command: reboot}}", "vrrp.check.command: one value stands here; allowed: a list such as [a, b]"},
		{"vrrp", "{check: {command: [\"\"]}}", `vrrp.check.command: "" does not fit; allowed: a text of 1 to 4096 characters in one line`},
		{"lans", "[{name: x, device: [eth0], virtual_addresses: [10.0.0.1/8]}]", "lans.x.device: " + aList + "1 to 15 characters of A-Z a-z 0-9 . _ - + @"},
		{"lans", lan("[{10.0.0.1: 8}]"), "lans.office.virtual_addresses: " + aMap + "an address with its prefix length, such as 192.168.77.1/24 or 2001:db8::1/64"},
		{"lans", "[office]", "lans[1]: one value stands here; allowed: a map such as {key: value}"},
		{"lans", "[~]", "lans[1]: nothing stands here; allowed: a map such as {name: a}"},
		{"uplinks", up(", gateway: [10.0.0.1]"), "uplinks.a.gateway: " + aList + "an IPv4 address, auto, dhcp or ppp"},
		{"uplinks", up(", speed: {up: [1]}"), "uplinks.a.speed.up: " + aList + "a number with its unit such as 512kbit, 100mbit, 2.5gbit"},
		{"uplinks", up(", speed: {up: 1Gbps}"), `uplinks.a.speed.up: "1Gbps" is no rate; allowed: a number with its unit such as 512kbit, 100mbit, 2.5gbit`},
		{"uplinks", probe("{targets: [198.51.100.1], loss: {clear: 0.1}}"), `uplinks.a.probe.loss.clear: "0.1" is no percentage; allowed: 0% to 100%`},
		{"uplinks", probe("{targets: [198.51.100.1], loss: {clear: [5%]}}"), "uplinks.a.probe.loss.clear: " + aList + "0% to 100%"},
		{"uplinks", probe("[]"), "uplinks.a.probe: " + aList + "a map such as {key: value}"},
		{"policies", policy("source: {not: 10.0.0.0/8, or: 11.0.0.0/8}"), "policies.default.match.source: a map stands here; allowed: a value, or {not: value}"},
		{"policies", policy("source: 10.0.0.0/33"), `policies.default.match.source: "10.0.0.0/33" is no network; allowed: a network such as 10.0.0.0/8`},
		{"policies", policy("source: [[10.0.0.0/8]]"), "policies.default.match.source: " + aList + "a network such as 10.0.0.0/8"},
		{"policies", policy("source: \"@../shadow\""), `policies.default.match.source: "@../shadow" names no file; allowed: @ and the name of a file beside this one`},
		{"policies", policy("source_ports: 20-10"), `policies.default.match.source_ports: "20-10" is no port; allowed: a port from 1 to 65535, or a range such as 1000-2000`},
		{"policies", policy("source_ports: [[1]]"), "policies.default.match.source_ports: " + aList + "a port from 1 to 65535, or a range such as 1000-2000"},
		{"balance", "{mark_mask: [1]}", "balance.mark_mask: " + aList + "one run of bits such as 0x3f00"},
		{"webhook", "{url: \"http://x/\", headers: {a: [b]}}", "webhook.headers.a: " + aList + "a text of 1 to 2048 characters"},
		{"routes", "{}", "routes: a map stands here; allowed: a list such as [{name: a}, {name: b}]"},
	} {
		_, ps := Parse("test.yaml", []byte(site(map[string]string{test.key: test.text})))
		got := texts(ps)
		if !contains(got, test.want) {
			t.Errorf("%s: %s\nwant %s\ngot  %s", test.key, test.text, test.want, strings.Join(got, "\n     "))
		}
	}
}
