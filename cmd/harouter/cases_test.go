package main

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"harouter/ha/config/importer"
)

// theirRouter is the machine of the original's own test file.
const theirRouter = `CABLE    eth0    isp  198.51.100.1 1 191.3.88.1
DSL      ppp0    isp  198.51.100.1
FALLBACK eth5    isp  198.51.100.1 default 192.168.20.254
LAN      eth1    lan
SUBNET   eth3    lan
VSUBNET  eth3:0  lan
VPN      tun0    lan
BAD      eth4    lan
`

// planOfTheirs imports theirRouter, with more lines and with files beside it, and
// gives the script of harouter plan.
func planOfTheirs(t *testing.T, more string, beside map[string]string, at situation) string {
	t.Helper()
	p := netip.MustParsePrefix
	in := importer.Input{
		Conf: importer.File{Path: "balance.conf", Data: []byte(theirRouter + more)}, Cluster: "home", Node: "r1", Address: netip.MustParseAddr("192.0.2.1"),
		Devices: []importer.Device{
			{Name: "eth0", Address: p("191.3.88.152/27")}, {Name: "ppp0", Address: p("11.120.199.108/32")}, {Name: "eth1", Address: p("192.168.10.1/24")},
			{Name: "eth3", Address: p("192.168.12.1/24"), Labelled: map[string]netip.Prefix{"eth3:0": p("192.168.13.1/24")}},
			{Name: "eth4"}, {Name: "eth5", Address: p("192.168.20.1/24")}, {Name: "tun0", Address: p("10.8.0.1/24")},
		},
	}
	for name, text := range beside {
		in.Beside = append(in.Beside, importer.File{Name: name, Path: "balance/" + name, Data: []byte(text)})
	}
	text, said := importer.Import(in)
	if said.Err() != nil {
		t.Fatal(said.Err())
	}
	s, err := parse("harouter.yaml", text, "r1")
	if err != nil {
		t.Fatal(err)
	}
	script, err := s.plan(at, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return script
}

// TestTheirCases: what the case groups of the original's test file ask of the
// emitted commands, of ours, from their file by import to plan.
func TestTheirCases(t *testing.T) {
	type texts = []string
	type shares = map[string]int // slots of 256 of an uplink in a policy, by POLICY UPLINK
	firewall := func(text string) map[string]string { return map[string]string{"firewall/a.pl": text} }
	for name, test := range map[string]struct {
		conf   string
		beside map[string]string
		at     situation
		has    texts
		hasNot texts
		shares shares
	}{
		"1, 2, 7 services, devices, roles": {has: texts{`"eth0", "eth5", "ppp0"`, `"eth1", "eth3", "eth4", "tun0"`}},
		"3 gateways": {has: texts{"default table 7001 protocol 200 via 191.3.88.1 dev eth0", "default table 7002 protocol 200 dev ppp0 scope link",
			"default table 7003 protocol 200 via 192.168.20.254 dev eth5"}},
		"4, 5 network of the tunnel, of the alias":   {has: texts{"ip route add 10.8.0.0/24 table 254 protocol 200 dev tun0", "ip route add 192.168.13.0/24 table 254 protocol 200 dev eth3"}},
		"6 marks of lines alone":                     {has: texts{"fwmark 0x100/", "fwmark 0x200/", "fwmark 0x300/"}, hasNot: texts{"fwmark 0x400/", "fwmark 0x500/"}},
		"9 forwarding is never off, nothing flushed": {has: texts{"ip_forward=1"}, hasNot: texts{"ip_forward=0", "flush", "policy drop", "iptables"}},
		"10, 13 three lines alike":                   {hasNot: texts{"nexthop", "default table 254"}, shares: shares{"default cable": 86, "default dsl": 85, "default fallback": 85}},
		"11 networks of the lans for every line":     {has: texts{"ip rule add priority 7000 lookup 254 suppress_prefixlength 0", "ip route add 192.168.10.0/24 table 254 protocol 200 dev eth1"}},
		"12 rule files": {beside: map[string]string{"routes/01.local": "ip route add 10.9.0.0/24 dev eth1 via 192.168.10.7\n", "routes/02.pl": "$B->add_route('10.10.0.0/24'=>'eth3');"},
			has: texts{"ip route add 10.9.0.0/24 table 254 protocol 200 via 192.168.10.7 dev eth1", "ip route add 10.10.0.0/24 table 254 protocol 200 dev eth3"}},
		"14 one line up":        {at: situation{down: []string{"cable", "fallback"}}, shares: shares{"default dsl": 256, "default cable": 0, "default fallback": 0}},
		"15 MSS clamping":       {has: texts{`"ppp0"`, "tcp option maxseg size set rt mtu"}},
		"16 pings limited":      {has: texts{"icmp type echo-request limit rate over"}},
		"17 who may talk":       {conf: "forwarding_group=LAN DSL", has: texts{`"eth1" : jump group_lan`}, shares: shares{"of-lan dsl": 256, "of-lan cable": 0}},
		"18 a port forwarded":   {beside: firewall("$B->forward(80 => '192.168.10.35');"), has: texts{"tcp dport 80 counter dnat ip to 192.168.10.35\n"}},
		"19 to another, both":   {beside: firewall("$B->forward(81 => '192.168.10.35:8080','tcp','udp');"), has: texts{"tcp dport 81 counter dnat ip to 192.168.10.35:8080", "udp dport 81 counter dnat ip to 192.168.10.35:8080"}},
		"20 a user's forward":   {beside: firewall("$B->forward(23 => '192.168.10.35:22');"), has: texts{"tcp dport 23 counter dnat ip to 192.168.10.35:22"}},
		"21 a user's accept":    {beside: firewall("$B->iptables('-A INPUT -p tcp --syn --dport ssh -j ACCEPT');"), has: texts{"tcp dport 22 return"}},
		"21 none by itself":     {hasNot: texts{"dport 22 ", "sport 53", "sport 123"}},
		"22 force_route":        {beside: firewall("$B->force_route('CABLE','--syn','-p'=>'tcp','--dport'=>25);"), has: texts{"25 : goto policy_cable-only-1"}, shares: shares{"cable-only-1 cable": 256}},
		"22 though it is down":  {beside: firewall("$B->force_route('CABLE','--syn','-p'=>'tcp','--dport'=>25);"), at: situation{down: []string{"cable"}}, shares: shares{"cable-only-1 cable": 256, "cable-only-1 dsl": 0}},
		"23 deleted again":      {beside: firewall("$B->force_route('CABLE','--syn -p tcp --dport 25');\n$B->firewall_op('delete');\n$B->force_route('CABLE',-syn,-p=>'tcp',-dport=>25);"), hasNot: texts{"only-1"}},
		"24 add_route":          {beside: map[string]string{"routes/a.pl": "$B->add_route('192.168.100.0/24' => 'eth0', 1); $B->add_route('192.168.100.1/32'=>'eth5');"}, has: texts{"ip route add 192.168.100.0/24 table 254 protocol 200 dev eth0", "ip route add 192.168.100.1/32 table 254 protocol 200 dev eth5", "goto extra_masquerade"}},
		"25 failover":           {conf: "mode=failover", shares: shares{"default cable": 256, "default dsl": 0, "default fallback": 0}},
		"25 failover, its turn": {conf: "mode=failover", at: situation{down: []string{"cable"}}, shares: shares{"default dsl": 256, "default cable": 0}},
	} {
		test.at.role = "master"
		script := planOfTheirs(t, test.conf, test.beside, test.at)
		for _, want := range test.has {
			if !strings.Contains(script, want) {
				t.Errorf("%s: %q is missing", name, want)
			}
		}
		for _, no := range test.hasNot {
			if strings.Contains(script, no) {
				t.Errorf("%s: %q is in it", name, no)
			}
		}
		for of, want := range test.shares {
			policy, uplink, _ := strings.Cut(of, " ")
			slots := regexp.MustCompile(`(?s)map slots_` + policy + ` \{.*?\n\t\}`).FindString(script)
			if n := len(regexp.MustCompile(` : goto up_`+uplink+`\b`).FindAllString(slots, -1)); n != want || slots == "" {
				t.Errorf("%s: %s owns %d slots, want %d", name, of, n, want)
			}
		}
	}
}
