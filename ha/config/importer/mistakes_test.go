package importer

import (
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestMistakes: everything wrong is told at once, with its place.
func TestMistakes(t *testing.T) {
	const a = "A eth5 isp 198.51.100.1\n"
	for name, test := range map[string]struct {
		conf string
		want []string // without balance.conf:
	}{
		"nothing":                  {"", []string{"1:1: there is no service in this file; allowed: rows such as CABLE eth0 isp 192.0.2.1 1 default (service device role ping-ip weight gateway)"}},
		"comments alone":           {"# a\n\n  # b\n", []string{"1:1: there is no service in this file; allowed: rows such as CABLE eth0 isp 192.0.2.1 1 default (service device role ping-ip weight gateway)"}},
		"no text":                  {a + "B\x00 eth1 isp\n", []string{"2:2: this is no text; allowed: printable text in UTF-8"}},
		"no UTF-8":                 {a + "# \xff\n", []string{"2:3: this is no text; allowed: printable text in UTF-8"}},
		"half a row":               {a + "B eth1\n", []string{"2:1: a row needs at least a service, its device and its role; allowed: service device role ping-ip weight gateway"}},
		"one word":                 {a + "hello\n", []string{"2:1: a row needs at least a service, its device and its role; allowed: service device role ping-ip weight gateway"}},
		"called up":                {a + "up eth1 isp\ndown eth2 lan\n", []string{"2:1: a service cannot be called up; allowed: another name", "3:1: a service cannot be called down; allowed: another name"}},
		"a role":                   {a + "B eth1 wan\n", []string{`2:8: the role "wan" is neither isp nor lan; Net-ISP-Balance leaves such a row out, and so does this`}},
		"twice":                    {a + "a eth1 lan\n", []string{`2:1: the service "a" stands twice (first in line 1); allowed: once (capitals make no difference)`}},
		"a device":                 {a + "B eth/1 lan\nC averyverylongdevice isp 1.1.1.1\n", []string{`2:3: "eth/1" cannot be the name of a device; allowed: one such as eth0, ppp0 or eth0:1`, `3:3: "averyverylongdevice" cannot be the name of a device; allowed: one such as eth0, ppp0 or eth0:1`}},
		"a weight":                 {a + "B eth6 isp 198.51.100.1 many\nC eth7 isp 198.51.100.1 -1\nD eth8 isp 198.51.100.1 NaN\n", []string{`2:25: "many" is no weight; allowed: a number such as 1 or 2, or default`, `3:25: "-1" is no weight; allowed: a number such as 1 or 2, or default`, `4:25: "NaN" is no weight; allowed: a number such as 1 or 2, or default`}},
		"a gateway":                {a + "B eth6 isp 198.51.100.1 1 gw.example.org\n", []string{`2:27: "gw.example.org" is no IP address; allowed: one such as 203.0.113.1, or default`}},
		"a host":                   {a + "B eth6 isp 198.51.100.1/24\n", []string{`2:12: "198.51.100.1/24" is no host that could be pinged; allowed: an IP address, a name, or default`}},
		"a number":                 {a + "interval_ms=1s\nmax_packet_loss=-1\n", []string{`2:13: interval_ms: "1s" is no whole number; allowed: one such as 1000`, `3:17: max_packet_loss: "-1" is no whole number; allowed: one such as 1000`}},
		"a mode":                   {a + "mode=blanced\n", []string{`2:6: mode: "blanced" is neither balanced nor failover; Net-ISP-Balance takes it for balanced, and so does this`}},
		"a group of nothing":       {a + "forwarding_group=\n", []string{"2:18: forwarding_group: nothing stands here; allowed: services, :isp and :lan"}},
		"a group of nobody":        {a + "forwarding_group=:isp B :lans\n", []string{`2:18: forwarding_group: there is no service "B"; allowed: services of the table, :isp and :lan`, `2:18: forwarding_group: there is no service ":lans"; allowed: services of the table, :isp and :lan`}},
		"an option nobody knows":   {a + "intervall_ms=5\n", []string{`2:14: not carried over: "intervall_ms" is no option of lsm that this knows`}},
		"indented":                 {"  A eth5 isp 198.51.100.1\n", []string{"1:3: a blank before the first word: Net-ISP-Balance leaves such a row out, here it counts"}},
		"too many columns":         {"A eth5 isp 198.51.100.1 1 default and more\n", []string{"1:35: more than six columns; Net-ISP-Balance reads no further, nor does this (service device role ping-ip weight gateway)"}},
		"a comment behind":         {"A eth5 isp 198.51.100.1 # fine\nL eth1 lan\t# too\n", nil},
		"line ends of DOS":         {"A eth5 isp 198.51.100.1\r\nmode=failover\r\n", nil},
		"two lines on a device":    {a + "B eth5:1 isp 198.51.100.1\n", []string{"2:1: not carried over: device eth5 carries A already, and a device carries one lan or uplink here; make a second one of it, ip link add link eth5 name NEW type macvlan, move the address there, and write a line for NEW"}},
		"a lan on a line's device": {a + "L eth5 lan\n", []string{"2:1: not carried over: device eth5 carries A already, and a device carries one lan or uplink here; make a second one of it, ip link add link eth5 name NEW type macvlan, move the address there, and write a line for NEW"}},
		"an alias without address": {"A eth5:7 isp 198.51.100.1\n", []string{"1:3: this machine has no address labelled eth5:7; if A is to use one, write it as virtual_addresses: [ADDRESS/LENGTH]"}},
		"no address":               {"L eth9 lan\n", []string{"1:1: this machine has no IPv4 address on eth9, so the virtual address of lan l is a placeholder, 198.19.1.1/24; give the real one with --lan l=ADDRESS/LENGTH, or write it into the file"}},
		"a tunnel":                 {"L tun0 lan\n", []string{"1:3: tun0 looks like a tunnel, which ends on one router: if only hosts behind it are to be reached, take it out of lans and write routes: [{to: NETWORK, device: tun0}]"}},
	} {
		text, said := Import(input(test.conf, nil))
		for i := range said {
			if said[i].Line == 0 || !strings.Contains(said[i].Excerpt, "^") {
				t.Errorf("%s: no place: %+v", name, said[i])
			}
		}
		var got []string
		for _, s := range brief(said) {
			got = append(got, strings.TrimPrefix(s, "balance.conf:"))
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if (text == nil) != (said.Err() != nil) {
			t.Errorf("%s: text %v with %v", name, text != nil, said)
		}
	}
}

// TestTooMuch: files that are too long, and more of a thing than there can be.
func TestTooMuch(t *testing.T) {
	var lines, rules strings.Builder
	for i := range 64 {
		lines.WriteString("L" + string(rune('0'+i/10)) + string(rune('0'+i%10)) + " e" + string(rune('0'+i/10)) + string(rune('0'+i%10)) + " isp 198.51.100.1\n")
	}
	for range 2 {
		for i := range 1001 {
			rules.WriteString("iptables -t nat -A PREROUTING -i eth5 -p tcp --dport " + string(rune('1'+i/1000)) + string(rune('0'+i/100%10)) + string(rune('0'+i/10%10)) + string(rune('0'+i%10)) + " -j DNAT --to 192.168.10.9\n")
		}
	}
	for name, test := range map[string]struct {
		conf   string
		beside string
		want   string
	}{
		"a huge file":      {strings.Repeat("# 345678\n", MaxSize/9+1), "", "balance.conf:1:1: the file has 1048581 bytes; allowed: at most 1048576 (1 MiB)"},
		"64 lines":         {lines.String(), "", "balance.conf:64:1: one isp too many; allowed: 254 lans and 63 lines"},
		"1001 forwards":    {"A eth5 isp 198.51.100.1\n", rules.String(), "balance/firewall/a:1001:1: one rule too many of its kind; allowed: 1000"},
		"a huge rule file": {"A eth5 isp 198.51.100.1\n", strings.Repeat("# 345678\n", MaxSize/9+1), "balance/firewall/a:1:1: the file has 1048581 bytes; allowed: at most 1048576 (1 MiB)"},
	} {
		text, said := Import(input(test.conf, map[string]string{"firewall/a": test.beside}))
		if text != nil || len(said) == 0 || brief(said.Errors())[0] != test.want {
			t.Errorf("%s: %v", name, brief(said.Errors()))
		}
	}
}

// TestLanGiven: what somebody says holds before what is seen.
func TestLanGiven(t *testing.T) {
	in := input("OFFICE eth1 lan\nLAB eth9 lan\n", nil)
	in.Lans = map[string]netip.Prefix{"office": netip.MustParsePrefix("10.1.0.1/16"), "LAB": netip.MustParsePrefix("10.2.0.1/16")}
	text, said := run(in, all)
	if got := block(bareLines(text), "lans:"); got != "lans: - name: office device: eth1 virtual_addresses: [10.1.0.1/16] - name: lab device: eth9 virtual_addresses: [10.2.0.1/16]" || len(said) > 0 {
		t.Errorf("%s %v", got, said)
	}
}

// TestNames: names of ours from theirs, all different.
func TestNames(t *testing.T) {
	text, said := run(input("Cable+1 eth5 isp 198.51.100.1\nCABLE-1 eth6 isp 198.51.100.1\n+++ eth7 isp 198.51.100.1\n---- eth8 lan\n"+
		strings.Repeat("x", 40)+" eth9 isp 198.51.100.1\n"+strings.Repeat("x", 41)+" eth10 isp 198.51.100.1\nNO eth11 isp 198.51.100.1\n", nil), all)
	var got []string
	for _, l := range bareLines(text) {
		if n, ok := strings.CutPrefix(l, "  - name: "); ok {
			got = append(got, n)
		}
	}
	want := []string{"line-2", "cable-1", "cable-1-2", "line", strings.Repeat("x", 32), strings.Repeat("x", 30) + "-2", `"no"`}
	if diff := cmp.Diff(want, got); diff != "" || said.Err() != nil {
		t.Errorf("%s %v", diff, said.Err())
	}
}

// TestHopeless: files of a mebibyte that are made to cost time take none, and end.
func TestHopeless(t *testing.T) {
	fill := func(s string) string { return strings.Repeat(s, MaxSize/len(s)) }
	const conf = "A eth5 isp 198.51.100.1\n"
	for name, test := range map[string][3]string{
		"services":       {fill("A eth5 isp\n"), "", ""},
		"options":        {conf + fill("x=y\n")[:MaxSize-100], "", ""},
		"junk":           {conf, fill("x\n"), ""},
		"accepts":        {conf, fill("iptables -A INPUT -p tcp --dport 22 -j ACCEPT\n"), ""},
		"Perl":           {conf, "", fill("x;\n")},
		"brackets":       {conf, "", fill("$B->forward((\n")},
		"quotes":         {conf, "", fill("'\n")},
		"a loop":         {conf, "", "for my $x (" + strings.Repeat("1,", 900) + "1) {\n" + fill("$y=1;\n")[:MaxSize/2] + "}"},
		"loops in loops": {conf, "", strings.Repeat("for my $x (1,2,3,4,5,6,7,8,9) {\n", 15) + "$B->forward(1=>'10.0.0.1');" + strings.Repeat("}", 15)},
		"heredocs":       {conf, "", fill("<<A;\n")},
	} {
		start := used(t)
		text, said := Import(input(test[0], map[string]string{"firewall/a": test[1], "firewall/b.pl": test[2]}))
		if (text == nil) != (said.Err() != nil) || len(said) > maxProblems+1 {
			t.Errorf("%s: text %v, %d problems, %v", name, text != nil, len(said), said.Err())
		}
		if took := used(t) - start; took > 20*time.Second { // a quadratic one takes minutes
			t.Errorf("%s: %s", name, took)
		}
	}
}

// used is the processor time of this process: a busy machine does not count.
func used(t *testing.T) time.Duration {
	t.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano())
}
