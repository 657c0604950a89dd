package main

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/balancer/dataplane"
	"harouter/ha/config"
	"harouter/test/netlab"
)

// proofNodes begins the files of the proof; r1 has the address here.
const proofNodes = `cluster: home
nodes:
  r1: {address: 192.0.2.1, priority: 200}
  r2: {address: 192.0.2.2, priority: 150}
lans:
  - {name: office, device: lan0, virtual_addresses: [192.168.77.1/24, "2001:db8:77::1/64"]}
  - {name: guests, device: lan1, virtual_addresses: [192.168.88.1/24]}
uplinks:
  - {name: cable, device: wan1, gateway: 203.0.113.1, virtual_addresses: [203.0.113.10/26, 203.0.113.11/26], weight: 2, speed: {down: 100mbit, up: 20mbit}, probe: {targets: [198.51.100.1]}}
  - {name: dsl, device: wan2, gateway: 203.0.113.65, virtual_addresses: [203.0.113.70/26, "2001:db8:2::70/64"], speed: {down: 50mbit, up: 10mbit}, probe: {targets: [198.51.100.1]}}
  - {name: line, device: wan3, gateway: 203.0.113.129, tier: 2, metered: true, speed: {down: 5mbit, up: 5mbit}, probe: {targets: [198.51.100.1]}}
`

// proofFiles are configurations, by what they are rich in.
var proofFiles = map[string]string{
	"the least": proofNodes,
	"methods": proofNodes + `policies:
  - {name: mail, match: {protocol: tcp, destination_ports: [25, 587], source: {not: 192.168.77.9}}, method: enforced, uplinks: [cable]}
  - {name: first, match: {lan: guests, protocol: [tcp, udp], dscp: 46}, method: priority, uplinks: [dsl, cable]}
  - {name: full, match: {source: [192.168.77.32/27, 192.168.77.96/27], destination: 198.51.100.0/24}, method: overflow, uplinks: [cable, dsl]}
  - {name: both, match: {source_ports: 1000-2000, mac: ["00:11:22:33:44:55"], protocol: tcp}, method: persistence, persistence: {by: source, learned: true}}
  - {name: pair, match: {protocol: udp, destination_ports: 5060}, method: persistence}
  - {name: used, match: {destination: 203.0.113.192/27}, method: least-used}
  - {name: near, match: {protocol: icmp}, method: lowest-latency}
  - {name: race, match: {protocol: tcp, destination_ports: 443}, method: fastest-response}
  - {name: night, match: {time: "00:00-23:59"}, method: weighted, weights: {cable: 1, dsl: 3}, on_recovery: move}
  - {name: past, match: {destination: 198.51.100.128/25}, bypass: true}
  - {name: own, match: {router: true, protocol: tcp, destination_ports: [22, 80]}, uplinks: [dsl], when_none: drop}
  - {name: default, method: weighted, when_none: any}
`,
	"firewall": proofNodes + `firewall:
  allow:
    - {from: wan, protocol: tcp, ports: [22, 8000-8010], limit: 10/m}
    - {from: dsl, protocol: [udp, tcp], ports: 53, source: [198.51.100.0/24, 203.0.113.200]}
    - {protocol: gre}
  forward:
    - {port: 443, to: 192.168.77.20, hairpin: true}
    - {port: 8000-8010, to: "192.168.88.20", protocol: [tcp, udp], uplinks: [cable], source: 198.51.100.0/24}
    - {port: 2222, to: "192.168.77.21:22", limit: 10/m}
  groups: [[office, ":uplinks"], [guests, dsl]]
  icmp_limit: 10/s
  syn_limit: 100/s
`,
	"networks": proofNodes + `routes:
  - {to: 10.8.0.0/16, device: tun0, masquerade: true}
  - {to: 10.9.0.0/16, device: lan0, gateway: 192.168.77.250}
  - {to: 10.10.0.0/24, device: wan1, gateway: 203.0.113.5, source: 203.0.113.10, masquerade: true}
firewall: {groups: [[office, guests, ":uplinks"]], log: false, antispoof: false}
balance: {mark_mask: 0x7f0000, table_base: 8000, rule_priority: 8000, reset_clients: false}
`,
	"virtual MACs": strings.NewReplacer("device: lan0,", "device: lan0, virtual_mac: true,", "device: wan1,", "device: wan1, virtual_mac: true,").Replace(proofNodes) +
		"vrrp: {accept: false}\nfirewall: {forward: [{port: 443, to: 192.168.77.20, hairpin: true}]}\n",
	"no firewall": proofNodes + "firewall: {enabled: false, mss: \"off\", forward: [{port: 443, to: 192.168.77.20}]}\nvrrp: {accept: false}\n",
	"single": `cluster: single
nodes: {r1: {address: 192.0.2.1}}
uplinks:
  - {name: cable, device: wan1, gateway: 203.0.113.1, probe: {targets: [198.51.100.1]}}
  - {name: dsl, device: wan2, gateway: auto, probe: {targets: [198.51.100.1]}}
`,
}

// proofState is all that a plan makes.
const proofState = `ip rule; ip -6 rule; ip -4 route show table all | sort; nft -s list ruleset
`

// levelled levels what nft shows in two ways, as a set was made with netlink or
// with its own words.
func levelled(s string) []string {
	s = regexp.MustCompile(` comment "harouter [0-9a-f]+"`).ReplaceAllString(s, "")
	s = strings.NewReplacer("type mark : verdict", "typeof : verdict", "type 0 : verdict", "typeof : verdict", "typeof numgen random mod 256 : verdict", "typeof : verdict",
		"typeof @nh,8,8 : verdict", "typeof : verdict", "meta l4proto tcp iifname", "iifname").Replace(s)
	s = regexp.MustCompile(`\b0x[0-9a-f]+\b`).ReplaceAllStringFunc(s, func(m string) string {
		n, err := strconv.ParseUint(m[2:], 16, 64)
		if err != nil {
			return m
		}
		return fmt.Sprint(n)
	})
	return strings.Split(regexp.MustCompile(`,\s+`).ReplaceAllString(s, ", "), "\n")
}

// TestPlanProof: the script of `plan`, run where nothing is, gives what the data
// plane makes of the same plan, for all samples and files rich in something, in
// each role, and with an uplink down. That the daemon makes the same of what it
// finds is proved in test/integration. (race: hold is not part of it: kernels
// differ in how a packet can wait.)
func TestPlanProof(t *testing.T) {
	files := map[string]string{}
	for name, text := range proofFiles {
		files[name] = text
	}
	samples, err := filepath.Glob("../../deploy/samples/*.yaml")
	if err != nil || len(samples) < 5 {
		t.Fatalf("samples: %v %v", samples, err)
	}
	for _, path := range samples {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(path)] = string(text)
	}
	if !netlab.Isolated(t) {
		return
	}
	for name, text := range files {
		t.Run(name, func(t *testing.T) { provePlan(t, text) })
	}
}

func provePlan(t *testing.T, text string) {
	path := filepath.Join(t.TempDir(), "harouter.yaml")
	file, problems := config.Parse(path, []byte(text))
	if err := problems.Errors().Err(); err != nil {
		t.Fatal(err)
	}
	s, err := parse(path, []byte(text), file.Nodes[0].Name)
	if err != nil {
		t.Fatal(err)
	}
	situations := []situation{{role: "master"}, {role: "backup"}}
	if n := len(s.file.Uplinks); n > 0 && len(s.file.Policies) > 1 {
		situations = append(situations, situation{role: "master", down: []string{s.file.Uplinks[n-1].Name}})
	}
	devices := slices.Concat(s.devices(), s.routeDevices())
	slices.Sort(devices)
	devices = slices.Compact(devices)
	// One group, which goes in one step: the kernel waits for a while at each.
	make := "set -e\nip -batch - <<E\nlink set lo up\nlink add sync0 group 77 up type veth peer name psync0\nlink set psync0 up\n"
	for i, d := range devices {
		make += fmt.Sprintf("link add %s group 77 up address 02:00:00:00:01:%02x type veth peer name peer%d\nlink set peer%d up\n", d, i, i, i)
	}
	own, on := s.self().Addresses[0], "sync0"
	for _, l := range s.file.Lans {
		if slices.ContainsFunc(l.Virtual, func(p netip.Prefix) bool { return p.Contains(own) }) {
			on = s.file.Device(s.node, l.Name)
		}
	}
	make += fmt.Sprintf("addr add %v/24 dev %s\nE\n", own, on)
	const remove = "ip link del group 77 2>/dev/null || true; nft flush ruleset\n"
	t.Cleanup(func() { netlab.Sh(t, remove) })
	for i, at := range situations {
		hold, holdMAC := "", "" // as vrrp/vip does
		if at.role == "master" {
			for _, a := range s.vip().Addresses {
				line := fmt.Sprintf("ip addr add %v dev %s noprefixroute\n", a.Prefix, a.Device)
				switch {
				case a.Prefix.Addr().Is6():
				case slices.Contains(s.macDevices(), a.Device):
					holdMAC += line
				default:
					hold += line
				}
			}
		}
		what := fmt.Sprintf("%s, down: %v", at.role, at.down)
		netlab.Sh(t, remove+make+hold)
		plan, err := s.planOf(at, true, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range plan.MACs { // vrrp/vip makes them
			netlab.Sh(t, fmt.Sprintf("ip link add %s link %s address %s type macvlan mode private", m.Name, m.Parent, m.MAC))
			if plan.Active {
				netlab.Sh(t, "ip link set "+m.Name+" up")
			}
		}
		netlab.Sh(t, holdMAC)
		k, err := dataplane.New(dataplane.Config{StateDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if err := k.Apply(t.Context(), plan); !dataplane.OnlySkipped(err) {
			t.Fatalf("%s: %v", what, err)
		}
		if plan.Active {
			k.Raise()
		}
		want := netlab.Sh(t, proofState)
		if err := k.Cleanup(t.Context()); err != nil {
			t.Fatal(err)
		}
		script, err := s.plan(at, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		path = filepath.Join(t.TempDir(), fmt.Sprint(i, ".sh"))
		if err := os.WriteFile(path, []byte(make+hold+script+holdMAC+proofState), 0o600); err != nil {
			t.Fatal(err)
		}
		got := netlab.Sh(t, "unshare -n sh "+path)
		if d := cmp.Diff(levelled(want), levelled(got)); d != "" {
			t.Errorf("%s: -applied +script\n%s", what, d)
		}
	}
}
