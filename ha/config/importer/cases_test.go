package importer

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// router is the machine of the original's own tests: four networks, a line by DHCP,
// one by PPP and one with its gateway by hand, an alias, a tunnel, a device that has
// no address.
const router = `CABLE    eth0    isp  198.51.100.1 1 191.3.88.1
DSL      ppp0    isp  198.51.100.1
FALLBACK eth5    isp  198.51.100.1 default 192.168.20.254
LAN      eth1    lan
SUBNET   eth3    lan
VSUBNET  eth3:0  lan
VPN      tun0    lan
BAD      eth4    lan
`

// bare are the lines of a file without comments.
func bareLines(text []byte) (out []string) {
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, " #")
		if line = strings.TrimRight(line, " \n"); line != "" && !strings.HasPrefix(strings.TrimSpace(line), "#") {
			out = append(out, line)
		}
	}
	return out
}

// block is what stands below the first line that begins so, as one line.
func block(lines []string, start string) string {
	i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(strings.TrimSpace(l), start) })
	if i < 0 {
		return ""
	}
	depth := func(l string) int { return len(l) - len(strings.TrimLeft(l, " ")) }
	out := []string{strings.TrimSpace(lines[i])}
	for _, l := range lines[i+1:] {
		if depth(l) <= depth(lines[i]) {
			break
		}
		out = append(out, strings.TrimSpace(l))
	}
	return strings.Join(out, " ")
}

// TestCases states the case groups of the original's test file again, what of them
// is a matter of configuration (research: multiwan-peers §1e, by their numbers; 9,
// the printing without doing, is what import does anyway).
func TestCases(t *testing.T) {
	for name, test := range map[string]struct {
		conf   string // behind router
		beside map[string]string
		start  string // of a block
		want   string
	}{
		"1 services, lines":         {"", nil, "uplinks:", "uplinks: - name: cable id: 1 device: eth0 gateway: 191.3.88.1 weight: 1 probe: targets: [198.51.100.1] - name: dsl id: 2 device: ppp0 gateway: ppp weight: 1 probe: targets: [198.51.100.1] - name: fallback id: 3 device: eth5 gateway: 192.168.20.254 weight: 1 probe: targets: [198.51.100.1]"},
		"1 services, lans":          {"", nil, "lans:", "lans: - name: lan device: eth1 virtual_addresses: [192.168.10.1/24] - name: subnet device: eth3 virtual_addresses: - 192.168.12.1/24 - 192.168.13.1/24 - name: vpn device: tun0 virtual_addresses: [10.8.0.1/24] - name: bad device: eth4 virtual_addresses: [198.19.5.1/24]"},
		"2 device of a ppp line":    {"", nil, "- name: dsl", "- name: dsl id: 2 device: ppp0 gateway: ppp weight: 1 probe: targets: [198.51.100.1]"},
		"3 gateway, ppp":            {"", nil, "gateway: ppp", "gateway: ppp"},
		"3 gateway, by hand":        {"", nil, "gateway: 192", "gateway: 192.168.20.254"},
		"4 network of a tunnel":     {"", nil, "- name: vpn", "- name: vpn device: tun0 virtual_addresses: [10.8.0.1/24]"},
		"5 address of an alias":     {"", nil, "- name: subnet", "- name: subnet device: eth3 virtual_addresses: - 192.168.12.1/24 - 192.168.13.1/24"},
		"6 a number for lines only": {"", nil, "id: 3", "id: 3"},
		"7 device and role":         {"", nil, "- name: lan", "- name: lan device: eth1 virtual_addresses: [192.168.10.1/24]"},
		"8 mail":                    {"warn_email=admin@example.org", nil, "mail:", `mail: to: ["admin@example.org"]`},
		"10 balanced":               {"mode=balanced", nil, "policies:", "policies: - {name: default, method: weighted}"},
		"10 balanced, unsaid":       {"", nil, "policies:", "policies: - {name: default, method: weighted}"},
		"11 a table for each line":  {"", map[string]string{"routes/a": "ip route add 192.168.10.0/24 dev eth1 src 192.168.10.1 table 1"}, "routes:", ""},
		"12 rule files":             {"", map[string]string{"routes/01.local": "echo \"01 local routing rules go here\"", "routes/02.pl": "print 'debug: ',$B->dev('DSL');"}, "routes:", ""},
		"13 equal weights":          {"", nil, "weight: 1", "weight: 1"},
		"15 MSS clamping":           {"", map[string]string{"firewall/a": "iptables -t mangle -A POSTROUTING -o ppp0 -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu"}, "firewall:", ""},
		"16 pings limited":          {"", map[string]string{"firewall/a": "iptables -A INPUT -p icmp --icmp-type echo-request -m limit --limit 1/s -j ACCEPT"}, "firewall:", ""},
		"17 forwarding":             {"forwarding_group = :lan DSL", nil, "firewall:", "firewall: groups: - [lan, subnet, vpn, bad, dsl]"},
		"17 forwarding, default":    {"forwarding_group=:isp :lan", nil, "groups:", `groups: - [":uplinks", lan, subnet, vpn, bad]`},
		"17 forwarding, some lines": {"forwarding_group=LAN :isp\nforwarding_group=SUBNET fallback DSL\nforwarding_group=VPN VSUBNET DSL", nil, "policies:", "policies: - {name: of-subnet, match: {lan: subnet}, method: weighted, uplinks: [dsl, fallback]} - {name: of-vpn, match: {lan: vpn}, method: weighted, uplinks: [dsl]} - {name: default, method: weighted}"},
		"17 forwarding, by weight":  {"forwarding_group=LAN BAD DSL\nmode=failover", nil, "policies:", "policies: - {name: of-lan, match: {lan: [lan, bad]}, method: priority, uplinks: [dsl]} - {name: default, method: priority, uplinks: [cable, dsl, fallback]}"},
		"18 a port forwarded":       {"", map[string]string{"firewall/a.pl": "$B->forward(80 => '192.168.10.35');"}, "firewall:", `firewall: forward: - {port: 80, to: "192.168.10.35", protocol: tcp}`},
		"19 to another port, both":  {"", map[string]string{"firewall/a.pl": "$B->forward(81 => '192.168.10.35:8080','tcp','udp');"}, "firewall:", `firewall: forward: - {port: 81, to: "192.168.10.35:8080", protocol: tcp} - {port: 81, to: "192.168.10.35:8080", protocol: udp}`},
		"20 a user's forward":       {"", map[string]string{"firewall/01.forwardings.pl": "$B->forward(23 => '192.168.10.35:22');\n"}, "firewall:", `firewall: forward: - {port: 23, to: "192.168.10.35:22", protocol: tcp}`},
		"21 a user's accept":        {"", map[string]string{"firewall/02.accept.pl": "$B->iptables(\"-A INPUT -p tcp -s\",$B->net($_),\"--syn --dport ssh -j ACCEPT\") foreach $B->lan_services;"}, "allow:", "allow: - {from: lan, protocol: tcp, ports: [22]} - {from: subnet, protocol: tcp, ports: [22], source: [192.168.12.0/24]} - {from: subnet, protocol: tcp, ports: [22], source: [192.168.13.0/24]} - {from: vpn, protocol: tcp, ports: [22]} - {from: bad, protocol: tcp, ports: [22]}"},
		"22 force_route":            {"", map[string]string{"firewall/a.pl": "$B->force_route('CABLE','--syn','-p'=>'tcp','--dport'=>25);"}, "policies:", "policies: - {name: cable-only-1, match: {protocol: tcp, destination_ports: [25]}, method: enforced, uplinks: [cable]} - {name: default, method: weighted}"},
		"22 force_route, short":     {"", map[string]string{"firewall/a.pl": "$B->force_route('eth0',-syn,-p=>'tcp',-dport=>25);"}, "policies:", "policies: - {name: cable-only-1, match: {protocol: tcp, destination_ports: [25]}, method: enforced, uplinks: [cable]} - {name: default, method: weighted}"},
		"22 force_route, as a rule": {"", map[string]string{"firewall/a": "iptables -t mangle -A PREROUTING --syn -p tcp --dport 25 -j MARK-CABLE"}, "policies:", "policies: - {name: cable-only-1, match: {protocol: tcp, destination_ports: [25]}, method: enforced, uplinks: [cable]} - {name: default, method: weighted}"},
		"23 deleted again":          {"", map[string]string{"firewall/a.pl": "$B->force_route('CABLE','--syn -p tcp --dport 25');\n$B->firewall_op('delete');\n$B->force_route('CABLE',-syn,-p=>'tcp',-dport=>25);"}, "policies:", "policies: - {name: default, method: weighted}"},
		"24 add_route":              {"", map[string]string{"routes/a.pl": "$B->add_route('192.168.100.0/24' => 'eth0', 1); $B->add_route('192.168.100.1/32'=>'eth5');"}, "routes:", "routes: - {to: 192.168.100.0/24, device: eth0, masquerade: true} - {to: 192.168.100.1/32, device: eth5}"},
		"25 failover":               {"mode=failover", nil, "policies:", "policies: - {name: default, method: priority, uplinks: [cable, dsl, fallback]}"},
		"25 failover, odd":          {"mode = Fail over? FAILOVER!", nil, "policies:", "policies: - {name: default, method: priority, uplinks: [cable, dsl, fallback]}"},
	} {
		text, said := run(input(router+test.conf, test.beside), all)
		if said.Err() != nil {
			t.Errorf("%s: %v", name, said.Err())
			continue
		}
		if diff := cmp.Diff(test.want, block(bareLines(text), test.start)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	// 14, one line up: the same file; which lines are up is no matter of it.
}

// input is a router with a file and what stands beside it.
func input(conf string, beside map[string]string) Input {
	in := Input{Conf: File{Path: "balance.conf", Data: []byte(conf)}, Cluster: "home", Node: "r1", Address: netip.MustParseAddr("192.0.2.1"), Devices: machine()}
	for name, text := range beside {
		in.Beside = append(in.Beside, File{Name: name, Path: "balance/" + name, Data: []byte(text)})
	}
	return in
}

// TestWeights: the same ratio, in whole numbers up to 255.
func TestWeights(t *testing.T) {
	for name, test := range map[string]struct {
		weights string
		want    string
		warned  bool
	}{
		"as they are":       {"2 1 1", "2 1 1", false},
		"halves":            {"1.5 1 0.5", "3 2 1", false},
		"tenths":            {"0.7 0.2 0.1", "7 2 1", false},
		"large":             {"1000 500 250", "200 100 50", false},
		"the failover hack": {"10000 1 1", "255 1 1", true},
		"one rests":         {"1 0 1", "1 0 1", false},
		"all rest":          {"0 0 0", "1 1 1", true},
		"default":           {"default 3 default", "1 3 1", false},
	} {
		conf := ""
		for i, w := range strings.Fields(test.weights) {
			conf += string(rune('A'+i)) + " eth" + string(rune('5'+i)) + " isp 198.51.100.1 " + w + "\n"
		}
		text, said := run(input(conf, nil), all)
		var got []string
		for _, l := range bareLines(text) {
			if w, ok := strings.CutPrefix(l, "    weight: "); ok {
				got = append(got, w)
			}
		}
		if strings.Join(got, " ") != test.want || len(said) > 0 != test.warned {
			t.Errorf("%s: %v, %v", name, got, said)
		}
	}
}

// TestPreference: in failover mode the greatest weight is first.
func TestPreference(t *testing.T) {
	text, said := run(input("A eth5 isp 198.51.100.1 1\nB eth6 isp 198.51.100.1 10000\nC eth7 isp 198.51.100.1 1\nmode=failover\n", nil), all)
	if got := block(bareLines(text), "- {name: default"); got != "- {name: default, method: priority, uplinks: [b, a, c]}" || len(said) > 0 {
		t.Errorf("%s %v", got, said)
	}
}

// TestProbes: every option of lsm that has a key of ours, with its unit.
func TestProbes(t *testing.T) {
	for options, want := range map[string]string{
		"":                                         "probe: targets: [198.51.100.1]",
		"interval_ms=1500":                         "probe: targets: [198.51.100.1] interval: 1.5s",
		"interval_ms=20\ninterval_ms=60000":        "probe: targets: [198.51.100.1] interval: 1m",
		"timeout_ms = 500":                         "probe: targets: [198.51.100.1] timeout: 500ms",
		"max_successive_pkts_lost=7":               "probe: targets: [198.51.100.1] fall: 7",
		"min_successive_pkts_rcvd=5":               "probe: targets: [198.51.100.1] rise: 5",
		"max_packet_loss=20":                       "probe: targets: [198.51.100.1] loss: {degraded: 20%}",
		"max_packet_loss=20\nmin_packet_loss=10":   "probe: targets: [198.51.100.1] loss: {degraded: 20%, clear: 10%}",
		"min_packet_loss=10\nmax_packet_loss=20":   "probe: targets: [198.51.100.1] loss: {degraded: 20%, clear: 10%}",
		"max_packet_loss=5\nmin_packet_loss=10":    "probe: targets: [198.51.100.1] loss: {degraded: 5%}",
		"min_packet_loss=10":                       "probe: targets: [198.51.100.1]",
		"check_arp=1":                              "probe: targets: [198.51.100.1] method: arp",
		"check_arp=0\nttl=0\nstatus=2\ndebug=8":    "probe: targets: [198.51.100.1]",
		"queue=a\nlong_down_time=7\nnobodys=thing": "probe: targets: [198.51.100.1]",
	} {
		text, said := run(input("A eth5 isp 198.51.100.1\n"+options+"\n", nil), all)
		if got := block(bareLines(text), "probe:"); got != want || said.Err() != nil {
			t.Errorf("%q: %s %v", options, got, said)
		}
		for line := range strings.Lines(options) {
			key, _, _ := strings.Cut(strings.TrimSpace(line), "=")
			if !strings.Contains(string(text), strings.TrimSpace(key)) {
				t.Errorf("%q: nothing about %s", options, key)
			}
		}
	}
}

// TestTargets: addresses, and names as far as they can be found.
func TestTargets(t *testing.T) {
	at := netip.MustParseAddr("198.51.100.94")
	for name, test := range map[string]struct {
		ping  string
		found netip.Addr
		want  string // the line
		said  int
	}{
		"an address":         {"198.51.100.7", at, "probe: targets: [198.51.100.7]", 0},
		"nothing":            {"", at, "probe: targets: [198.51.100.94] # balance.conf:1, the address of www.google.ca, the default there when this was written", 1},
		"a name":             {"dns.example.org", at, "probe: targets: [198.51.100.94] # balance.conf:1, the address of dns.example.org when this was written", 1},
		"a name nobody has":  {"dns.example.org", netip.Addr{}, "# probe: # targets: [ADDRESS, ADDRESS] # balance.conf:1, there dns.example.org", 1},
		"an address of IPv6": {"2001:db8::1", at, `probe: targets: ["2001:db8::1"] # balance.conf:1`, 0},
	} {
		in := input("A eth5 isp "+test.ping+"\n", nil)
		in.Resolve = func(string) (netip.Addr, error) { return test.found, nil }
		text, said := run(in, all)
		if !strings.Contains(strings.Join(strings.Fields(string(text)), " "), " "+test.want) || len(said) != test.said {
			t.Errorf("%s: %v\n%s", name, said, text)
		}
	}
}
