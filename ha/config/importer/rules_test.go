package importer

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// site is what the rules below are about.
const site = "CABLE eth0 isp 198.51.100.1\nDSL ppp0 isp 198.51.100.1\nLAN eth1 lan\nGUESTS eth3 lan\n"

// outcome is everything that became of rule files, in short lines.
func outcome(t *testing.T, beside map[string]string) (out []string) {
	t.Helper()
	in := input(site, beside)
	im := newImporter(in)
	im.readConf()
	im.chooseLinks()
	im.readBeside()
	im.join()
	if err := im.problems.Err(); err != nil {
		t.Error(err)
	}
	for _, a := range im.allows {
		out = append(out, "allow "+a.text())
	}
	for _, f := range im.forwards {
		out = append(out, "forward "+f.text())
	}
	for _, f := range im.forced {
		out = append(out, "policy "+strings.Join(f.match, ", ")+" -> "+f.uplink)
	}
	for _, r := range im.routes {
		out = append(out, "route "+r.text())
	}
	for _, r := range im.todo.list {
		out = append(out, "todo "+r.text)
	}
	for _, r := range im.obsolete.list {
		out = append(out, "needless "+r.text)
	}
	return out
}

// TestIptables: each kind of rule, and what becomes of it.
func TestIptables(t *testing.T) {
	const (
		refusal = "todo it refuses something; " + inNft
		more    = "todo more than firewall.allow can say (from, protocol, ports, source, limit); " + inNft
		groups  = "todo who may talk to whom says firewall: {groups: [[…], […]]}; for more than that " + inNft
		reply   = "needless replies and the router's own traffic pass anyway"
		port    = "needless replies pass anyway; this let in everybody who sends from that port"
	)
	unread := func(what string) string { return "todo " + what + " is not read here; " + inNft }
	for rule, want := range map[string]string{
		// INPUT
		"-A INPUT -p tcp --dport 22 -j ACCEPT":                                                    "allow from: wan, protocol: tcp, ports: [22]",
		"-A INPUT -p tcp -m tcp --syn --dport ssh -j ACCEPT":                                      "allow from: wan, protocol: tcp, ports: [22]",
		"-I INPUT 3 -p udp -m multiport --dports 500,4500,5000:5010 -j ACCEPT":                    "allow from: wan, protocol: udp, ports: [500, 4500, 5000-5010]",
		"-A INPUT -i ppp0 --protocol tcp --destination-port 8080: -m state --state NEW -j ACCEPT": "allow from: dsl, protocol: tcp, ports: [8080-65535]",
		"-A INPUT -i eth3 -p udp --dport domain -j ACCEPT":                                        "allow from: guests, protocol: udp, ports: [53]",
		"-A INPUT -s 192.168.10.0/255.255.255.0 -p tcp --dport 22 -j ACCEPT":                      "allow from: lan, protocol: tcp, ports: [22]",
		"-A INPUT -s 192.168.10.7 -p tcp --dport 22 -j ACCEPT":                                    "allow from: lan, protocol: tcp, ports: [22], source: [192.168.10.7]",
		"-A INPUT -s 203.0.113.0/24,198.51.100.7 -p tcp --dport 22 -j ACCEPT":                     "allow from: wan, protocol: tcp, ports: [22], source: [203.0.113.0/24, 198.51.100.7]",
		"-A INPUT -p gre -j ACCEPT":                                                               "allow from: wan, protocol: gre",
		"-A INPUT -p tcp --dport 22 -m limit --limit 3/minute --limit-burst 5 -j ACCEPT":          "allow from: wan, protocol: tcp, ports: [22], limit: 3/m",
		"-A INPUT -p icmp --icmp-type echo-request -j ACCEPT":                                     "needless pings are answered, up to firewall.icmp_limit",
		"-A INPUT -m state --state ESTABLISHED,RELATED -j ACCEPT":                                 reply,
		"-A INPUT -m conntrack --ctstate INVALID -j DROP":                                         "needless invalid packets are dropped anyway",
		"-A INPUT -i lo -j ACCEPT":                                                                reply,
		"-A INPUT -p udp --source-port ntp -j ACCEPT":                                             port,
		"-A INPUT -i eth9 -p tcp --dport 22 -j ACCEPT":                                            "todo \"eth9\" is the device of no lan or line; " + inNft,
		"-A INPUT -d 203.0.113.1 -p tcp --dport 22 -j ACCEPT":                                     more,
		"-A INPUT ! -s 203.0.113.1 -p tcp --dport 22 -j ACCEPT":                                   more,
		"-A INPUT -s ! 203.0.113.1 -p tcp --dport 22 -j ACCEPT":                                   more,
		"-A INPUT -p tcp ! --dport 22 -j ACCEPT":                                                  more,
		"-A INPUT ! -i eth0 -p tcp --dport 22 -j ACCEPT":                                          more,
		"-A INPUT -m mac --mac-source 00:11:22:33:44:55 -j ACCEPT":                                more,
		"-A INPUT --dport 22 -j ACCEPT":                                                           "todo ports without a protocol; iptables refuses that too",
		"-A INPUT -p tcp --dport 23 -j REJECT --reject-with tcp-reset":                            refusal,
		"-A INPUT -s 203.0.113.66 -j DROP":                                                        refusal,
		"-A INPUT -p tcp --dport 22 -j MYCHAIN":                                                   refusal,
		"-A INPUT -j LOG --log-prefix \"IN: \" --log-level 4":                                     "todo what is refused is logged by default (firewall.log); for other packets " + inNft,
		// OUTPUT, FORWARD
		"-A OUTPUT -o eth0 -j ACCEPT":                                   "needless what the router itself sends is not filtered",
		"-A OUTPUT -p tcp --dport 25 -j DROP":                           refusal,
		"-A FORWARD -i eth1 -o eth3 -j ACCEPT":                          "needless lans may talk to each other and to every line, unless firewall.groups says less",
		"-A FORWARD -i eth0 -o eth1 -j ACCEPT":                          groups,
		"-A FORWARD -i eth1 -o eth9 -j ACCEPT":                          groups,
		"-A FORWARD -p udp --source-port domain -d 1.2.3.4 -j ACCEPT":   port,
		"-A FORWARD -p tcp -d 192.168.10.9 --dport 99 -j ACCEPT":        "todo it lets packets to a host pass; a port that is forwarded is firewall: {forward: [{port: …, to: …}]}, for more than that " + inNft,
		"-A FORWARD -i eth3 -o eth1 -j DROP":                            refusal,
		"-t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS": "needless firewall.mss is clamp, for all lines that need it",
		// nat
		"-t nat -A PREROUTING -i eth0 -p tcp --dport 80 -j DNAT --to 192.168.10.9:8080":                      `forward port: 80, to: "192.168.10.9:8080", protocol: tcp, uplinks: [cable]`,
		"-t nat -A PREROUTING -p udp --dport 1000:1010 -s 203.0.113.0/24 -j DNAT --to 192.168.10.9":          `forward port: 1000-1010, to: "192.168.10.9", protocol: udp, source: [203.0.113.0/24]`,
		"-t nat -A PREROUTING -d 191.3.88.152 -p tcp --dport 80 -j DNAT --to-destination 192.168.10.9":       `forward port: 80, to: "192.168.10.9", protocol: tcp, uplinks: [cable]`,
		"-t nat -A PREROUTING -d 203.0.113.99 -p tcp --dport 80 -j DNAT --to-destination 192.168.10.9":       "todo its -d is the address of no line here; write firewall: {forward: [{port: …, to: …, uplinks: […]}]}",
		"-t nat -A PREROUTING -i eth1 -p tcp --dport 80 -j DNAT --to-destination 192.168.10.9":               "todo \"eth1\" is the device of no line; for access from inside: hairpin: true at the forward",
		"-t nat -A PREROUTING -i eth0 -j DNAT --to-destination 192.168.10.9":                                 "todo a translation that is no forward of a port to a host; " + inNft,
		"-t nat -A PREROUTING -i eth0 -p tcp --dport 80 -j DNAT --to-destination 192.168.10.9-192.168.10.12": "todo a translation that is no forward of a port to a host; " + inNft,
		"-t nat -A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 3128":                                 unread("--to-ports"),
		"-t nat -A POSTROUTING -o eth0 -j MASQUERADE":                                                        "needless the lans are hidden behind every line anyway",
		"-t nat -A POSTROUTING -o eth7 -j MASQUERADE":                                                        "todo write the network behind it: routes: [{to: NETWORK, device: eth7, masquerade: true}]",
		"-t nat -A POSTROUTING -s 192.168.10.0/24 -j SNAT --to-source 203.0.113.9":                           "todo a translation of sources; " + inNft,
		"-t nat -A POSTROUTING -d 192.168.10.9 -p tcp --dport 80 -j MASQUERADE":                              "todo a translation of sources that belongs to no forward here; " + inNft,
		// mangle
		"-t mangle -A PREROUTING -p tcp --dport 25 -j MARK-DSL":                                                 "policy protocol: tcp, destination_ports: [25] -> dsl",
		"-t mangle -A PREROUTING -i eth1 -s 192.168.10.7,192.168.10.8 -p udp --sport 5060 -j MARK-CABLE":        "policy lan: lan, protocol: udp, source: [192.168.10.7, 192.168.10.8], source_ports: [5060] -> cable",
		"-t mangle -A PREROUTING ! -d 198.51.100.0/24 -p tcp -m mac --mac-source AA:BB:CC:DD:EE:FF -j MARK-DSL": `policy protocol: tcp, destination: [{not: 198.51.100.0/24}], mac: ["aa:bb:cc:dd:ee:ff"] -> dsl`,
		"-t mangle -A PREROUTING -p tcp -m multiport ! --dports 25,587 -j MARK-DSL":                             "todo a negation that a policy cannot say; write policies before it for what is not meant: {match: {…}, method: …}",
		"-t mangle -A PREROUTING -i eth9 -j MARK-DSL":                                                           "todo \"eth9\" is the device of no lan",
		"-t mangle -A PREROUTING -j MARK-SAT":                                                                   "todo there is no line \"SAT\" here",
		"-t mangle -A PREROUTING --dport 25 -j MARK-DSL":                                                        "todo ports without a protocol; iptables refuses that too",
		"-t mangle -D PREROUTING -p tcp --dport 25 -j MARK-DSL":                                                 "needless it deletes a rule that is not there",
		"-t mangle -A PREROUTING -j CONNMARK --restore-mark":                                                    unread("--restore-mark"),
		"-t mangle -A PREROUTING -p tcp -j MARK --set-mark 5":                                                   "todo " + inNft,
		"-t raw -A PREROUTING -j NOTRACK":                                                                       "todo " + inNft,
		// anything else
		"-N MYCHAIN":                          unread("-N"),
		"-P INPUT ACCEPT":                     unread("-P"),
		"-F":                                  unread("-F"),
		"-D INPUT 3":                          unread("the deletion of a rule by its number"),
		"-D INPUT -j DROP":                    "todo the deletion of a rule; leave out what it deletes",
		"-j ACCEPT":                           unread("no rule of a chain"),
		"-A INPUT -m owner":                   unread("-m owner"),
		"-A INPUT -m recent --name x -j DROP": unread("-m recent"),
		"-A INPUT -p tcp --dport nosuch -j ACCEPT":                                              unread("--dport nosuch"),
		"-A INPUT -p tcp --dport 9:5 -j ACCEPT":                                                 unread("--dport 9:5"),
		"-A INPUT -p tcp --dport 0 -j ACCEPT":                                                   unread("--dport 0"),
		"-A INPUT -s example.org -j ACCEPT":                                                     unread("-s example.org"),
		"-A INPUT -s 10.0.0.0/255.0.255.0 -j ACCEPT":                                            unread("-s 10.0.0.0/255.0.255.0"),
		"-A INPUT -p tcp --tcp-flags ALL NONE -j ACCEPT":                                        unread("--tcp-flags ALL NONE"),
		"-A INPUT -p tcp ! --syn -j ACCEPT":                                                     unread("! --syn"),
		"-A INPUT $EXTRA -j ACCEPT":                                                             "todo the shell's $: only plain commands are read; " + otherCommand,
		"-A INPUT -j ACCEPT; reboot":                                                            "todo the shell's ;: only plain commands are read; " + otherCommand,
		"-A INPUT -m comment --comment 'it''s # fine' -p tcp --dport 1 -j ACCEPT # this is not": "allow from: wan, protocol: tcp, ports: [1]",
		"-A INPUT -m comment --comment \"$(id)\" -j ACCEPT":                                     "todo the shell's $, ` or \\ in quotes: only plain commands are read; " + otherCommand,
		"-A INPUT -m comment --comment 'open -j ACCEPT":                                         "todo a quote ' without its end: only plain commands are read; " + otherCommand,
		"-A INPUT \\": "todo a line that goes on in the next one, which Net-ISP-Balance does not read so: only plain commands are read; " + otherCommand,
	} {
		for _, start := range []string{"iptables ", "  sudo /sbin/iptables -w "} {
			got := outcome(t, map[string]string{"firewall/a": start + rule + "\n"})
			if diff := cmp.Diff([]string{want}, got); diff != "" {
				t.Errorf("%s: %s", rule, diff)
			}
		}
	}
}

// TestTogether: rules that explain each other.
func TestTogether(t *testing.T) {
	for name, test := range map[string]struct {
		beside map[string]string
		want   []string
	}{
		"a forward by hand": {map[string]string{"firewall/a": `iptables -A FORWARD -p tcp -d 192.168.10.9 --dport 8080 -j ACCEPT
iptables -t nat -A PREROUTING -i eth0 -p tcp --dport 80 -j DNAT --to 192.168.10.9:8080
iptables -t nat -A PREROUTING -i ppp0 -p tcp --dport 80 -j DNAT --to 192.168.10.9:8080
iptables -t nat -A POSTROUTING -s 192.168.10.0/24 -d 192.168.10.9 -p tcp --dport 8080 -j MASQUERADE`},
			[]string{`forward port: 80, to: "192.168.10.9:8080", protocol: tcp, uplinks: [cable, dsl], hairpin: true`,
				"needless a forward lets its packets pass", "needless hairpin: true at the forward to 192.168.10.9:8080"}},
		"on one line, then on all": {map[string]string{"firewall/a": "iptables -t nat -A PREROUTING -i eth0 -p tcp --dport 80 -j DNAT --to 192.168.10.9", "firewall/b.pl": "$B->forward(80=>'192.168.10.9');"},
			[]string{`forward port: 80, to: "192.168.10.9", protocol: tcp`}},
		"a modem": {map[string]string{"routes/a": "ip route add 192.168.1.0/24 dev eth7 src 192.168.1.9\n", "firewall/a": "iptables -t nat -A POSTROUTING -o eth7 -j MASQUERADE\n"},
			[]string{"route to: 192.168.1.0/24, device: eth7, source: 192.168.1.9, masquerade: true", "needless masquerade: true at the route over eth7"}},
		"the order of directories": {map[string]string{"post-run/a": "ip route add 10.4.0.0/16 dev a", "firewall/a": "ip route add 10.3.0.0/16 dev a", "routes/a": "ip route add 10.2.0.0/16 dev a", "pre-run/a": "ip route add 10.1.0.0/16 dev a"},
			[]string{"route to: 10.1.0.0/16, device: a", "route to: 10.2.0.0/16, device: a", "route to: 10.3.0.0/16, device: a", "route to: 10.4.0.0/16, device: a"}},
		"what is left out": {map[string]string{"routes/a~": "x", "routes/a.bak": "x", "routes/#a#": "x", "routes/.swp": "x", "elsewhere/a": "x", "lsm/up.d/a~": "x"}, nil},
		"a limited accept": {map[string]string{"firewall/a": "iptables -A INPUT -p tcp --dport 22 -m limit --limit 1/s -j ACCEPT\niptables -A INPUT -p tcp --dport 22 -j DROPFLOOD\niptables -A INPUT -p tcp --dport 23 -j DROPFLOOD"},
			[]string{"allow from: wan, protocol: tcp, ports: [22], limit: 1/s", "todo it refuses something; " + inNft, "needless the limit of the rule before it does that"}},
		"the same twice": {map[string]string{"firewall/a": strings.Repeat("iptables -A INPUT -p tcp --dport 22 -j ACCEPT\niptables -t mangle -A PREROUTING -p tcp -j MARK-DSL\nip route add 10.1.0.0/16 dev a\n", 2)},
			[]string{"allow from: wan, protocol: tcp, ports: [22]", "policy protocol: tcp -> dsl", "route to: 10.1.0.0/16, device: a"}},
	} {
		if diff := cmp.Diff(test.want, outcome(t, test.beside)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestCommands: lines of rule files that are no iptables.
func TestCommands(t *testing.T) {
	const keys = ": routes: of this file has {to, device, gateway, source, masquerade}"
	for line, want := range map[string]string{
		"ip route add 10.1.0.0/16 dev eth7":                                         "route to: 10.1.0.0/16, device: eth7",
		"/sbin/ip -4 route replace 10.1.2.3 via 192.168.10.254 metric 5 onlink":     "route to: 10.1.2.3/32, gateway: 192.168.10.254",
		"ip route append 10.1.0.9/16 dev eth7 src 10.1.0.1 proto static table main": "route to: 10.1.0.0/16, device: eth7, source: 10.1.0.1",
		"ip route add default via 192.168.10.254":                                   "needless every line has its default route from its gateway",
		"ip route add 0.0.0.0/0 dev eth7":                                           "needless every line has its default route from its gateway",
		"ip route add blackhole 10.0.0.0/8":                                         "todo blackhole" + keys,
		"ip route add 10.0.0.0/8":                                                   "todo routes: of this file has {to, device, gateway, source, masquerade}",
		"ip route add 10.0.0.0/8 via":                                               "todo nothing stands behind via",
		"ip route add 10.0.0.0/8 via nowhere":                                       "todo via nowhere" + keys,
		"ip route add 10.0.0.0/8 dev eth0:1":                                        "todo dev eth0:1" + keys,
		"ip route add 10.0.0.0/8 nexthop via 10.0.0.1":                              "todo nexthop" + keys,
		"ip route del 10.0.0.0/8":                                                   "todo it changes routes that others made; routes: of this file has those that are to be there",
		"ip rule add from 192.168.10.7 table 2":                                     "todo write a policy: policies: [{name: NAME, match: {source: 192.168.10.7}, method: enforced, uplinks: [NAME]}]",
		"ip rule add to 203.0.113.0/24 table 2":                                     "todo write a policy: policies: [{name: NAME, match: {destination: 203.0.113.0/24}, method: enforced, uplinks: [NAME]}]",
		"ip rule add fwmark 7 table 2":                                              "todo write a policy: policies: [{name: NAME, match: {…}, method: enforced, uplinks: [NAME]}]",
		"ip link set eth0 mtu 1400":                                                 "todo " + otherCommand,
		"ip":                                                                        "todo " + otherCommand,
		"modprobe nf_nat_ftp":                                                       "todo " + otherCommand,
		"sysctl -w net.ipv4.ip_forward=1":                                           "todo write it into a file of /etc/sysctl.d",
		"echo hello":                                                                "needless it does nothing to the network",
		"echo 1 > /proc/sys/net/ipv4/ip_forward":                                    "todo the shell's >: only plain commands are read; " + otherCommand,
		"for i in 1 2; do reboot; done":                                             "todo the shell's ;: only plain commands are read; " + otherCommand,
	} {
		if diff := cmp.Diff([]string{want}, outcome(t, map[string]string{"routes/a": line})); diff != "" {
			t.Errorf("%s: %s", line, diff)
		}
	}
	if got := outcome(t, map[string]string{"routes/a": "\n  # a comment\n## another\n"}); got != nil {
		t.Error(got)
	}
	if diff := cmp.Diff([]string{"route to: 10.0.0.0/8, device: a", "needless what routes: has, and every other route in the table main, holds for all lines"},
		outcome(t, map[string]string{"routes/a": "ip route add 10.0.0.0/8 dev a\nip route add 10.0.0.0/8 dev a table 1"})); diff != "" {
		t.Error(diff)
	}
}

// TestPerl: what is read of Perl, and that all else is told as a whole.
func TestPerl(t *testing.T) {
	unread := func(what string) string { return "todo " + what + "; " + perlInstead }
	any := unread("more Perl than is read here")
	loop := unread("a loop over what is not read here")
	f := func(port, to string) string { return `forward port: ` + port + `, to: "` + to + `", protocol: tcp` }
	for code, want := range map[string][]string{
		"":                                     nil,
		"# $B->forward(1=>'10.0.0.1');\n1;":    nil,
		"use strict; use warnings;\nour $B;\n": nil,
		"=pod\n$B->forward(1=>'10.0.0.1');\n=cut\n$B->forward(2=>'10.0.0.1');\n__END__\n$B->forward(3=>'10.0.0.1');": {f("2", "10.0.0.1")},
		"$B->forward(80 => '10.0.0.1')":                                                                  {f("80", "10.0.0.1")},
		"$B->forward('http', \"10.0.0.1\", qw(tcp udp));":                                                {f("80", "10.0.0.1"), `forward port: 80, to: "10.0.0.1", protocol: udp`},
		"$B->forward('1000:1010' => '10.0.0.1');":                                                        {f("1000-1010", "10.0.0.1")},
		"$B->forward_with_snat(80 => '10.0.0.1:81');":                                                    {f("80", "10.0.0.1:81") + ", hairpin: true"},
		"my $h = '10.0.0'; my $p = 8000;\n$B->forward($p => $h . '.7');":                                 {f("8000", "10.0.0.7")},
		"my $h = \"10.0.0\"; $B->forward(80 => \"$h.7\");":                                               {f("80", "10.0.0.7")},
		"my $h = \"10.0.0\"; $B->forward(80 => \"${h}.7\");":                                             {f("80", "10.0.0.7")},
		"for my $p (1, 2) { $B->forward($p => '10.0.0.1'); }":                                            {f("1", "10.0.0.1"), f("2", "10.0.0.1")},
		"foreach (qw/1 2/) { $B->forward($_ => '10.0.0.1') }":                                            {f("1", "10.0.0.1"), f("2", "10.0.0.1")},
		"{ my $x = 5; $B->forward($x => '10.0.0.1'); }":                                                  {f("5", "10.0.0.1")},
		"$B->forward($_ => '10.0.0.1') for (1,2);":                                                       {f("1", "10.0.0.1"), f("2", "10.0.0.1")},
		"$B->forward(80 => 'web.lan');":                                                                  {unread(`a forward to "web.lan", which is no IP address`)},
		"$B->forward(80);":                                                                               {any},
		"$B->forward(0 => '10.0.0.1');":                                                                  {unread(`"0" is no port that this knows`)},
		"$B->forward(80 => $ENV{WEB});":                                                                  {unread("the variable $ENV")},
		"$B->forward(80 => $web);":                                                                       {unread("the variable $web")},
		"my $web = `cat /etc/web`;\n$B->forward(80 => $web);":                                            {any, unread("the variable $web")},
		"my $web = '10.0.0.1'; $web =~ s/1/2/; $B->forward(80 => $web);":                                 {any},
		"if ($x) { $B->forward(80 => '10.0.0.1'); }":                                                     {any},
		"if ($x) { 1 } else { $B->forward(80 => '10.0.0.1'); }":                                          {any, any},
		"sub f { $B->forward(80 => '10.0.0.1'); } f();":                                                  {any, any},
		"$B->forward(80 => '10.0.0.1') if $x;":                                                           {any},
		"$B->forward(80 => '10.0.0.1') or die;":                                                          {any},
		"$x && $B->forward(80 => '10.0.0.1');":                                                           {any},
		"for my $p (1, 2) { $B->forward($p => '10.0.0.1'); $B->nosuch($p); }":                            {unread("$B->nosuch")},
		"for my $p (f()) { $B->forward($p => '10.0.0.1'); }":                                             {loop},
		"for (my $i=0; $i<3; $i++) { $B->forward($i => '10.0.0.1'); }":                                   {loop},
		"while (1) { $B->forward(1 => '10.0.0.1'); }":                                                    {any},
		"my $x = 3; { my $x = 5; } $B->forward($x => '10.0.0.1');":                                       {f("3", "10.0.0.1")},
		"{ my $x = 5; } $B->forward($x => '10.0.0.1');":                                                  {unread("the variable $x")},
		"my $x = 3; { $x = 5; } $B->forward($x => '10.0.0.1');":                                          {f("5", "10.0.0.1")},
		"$B->forward(010 => '10.0.0.1');":                                                                {any},
		"$B->forward(80 => 10.0.0.1);":                                                                   {any},
		"if ($x) { return; } $B->forward(80 => '10.0.0.1');":                                             {"todo what stands behind it in the file runs only at times; " + perlInstead},
		"sub f { return 1; } $B->forward(80 => '10.0.0.1');":                                             {f("80", "10.0.0.1"), any},
		"return unless $x; $B->forward(80 => '10.0.0.1');":                                               {"todo what stands behind it in the file runs only at times; " + perlInstead},
		"$B->forward(80 => '10.0.0.1'); exit 0;":                                                         {f("80", "10.0.0.1")},
		"for (1..9) { $B->forward($_ => '10.0.0.1'); }":                                                  {loop},
		"print \"$B\"; warn 'x';":                                                                        {"needless it only prints", "needless it only prints"},
		"system('reboot');":                                                                              {any},
		"$B->sh('reboot');":                                                                              {"todo " + otherCommand},
		"$B->iptables(-A, 'INPUT -p tcp --dport 22 -j ACCEPT');":                                         {any},
		"$B->iptables(-A => 'INPUT -p tcp --dport 22 -j ACCEPT');":                                       {"allow from: wan, protocol: tcp, ports: [22]"},
		"$B->iptables(['-A INPUT -p tcp --dport 22 -j ACCEPT','-A INPUT -p tcp --dport 23 -j ACCEPT']);": {"allow from: wan, protocol: tcp, ports: [22]", "allow from: wan, protocol: tcp, ports: [23]"},
		"$B->iptables('-A INPUT -j ACCEPT | sh');":                                                       {"todo the shell's | in a rule is not read; " + inNft},
		"$B->firewall_rule(INPUT=>undef,-p=>'tcp',-dport=>25,-j=>'ACCEPT');":                             {"allow from: wan, protocol: tcp, ports: [25]"},
		"$B->firewall_rule(PREROUTING=>'mangle',-p=>'tcp',-dport=>25,-j=>$B->mark_table('DSL'));":        {"policy protocol: tcp, destination_ports: [25] -> dsl"},
		"$B->force_route('DSL', -p => 'tcp', -d => '203.0.113.0/24');":                                   {"policy protocol: tcp, destination: [203.0.113.0/24] -> dsl"},
		"$B->force_route('dsl', '-s', $B->net('LAN'));":                                                  {"policy source: [192.168.10.0/24] -> dsl"},
		"$B->force_route('DSL', '-s', $B->ip('CABLE'));":                                                 {unread(`$B->ip("CABLE")`)},
		"$B->force_route('SAT', -p => 'tcp');":                                                           {unread(`"SAT" is no line here`)},
		"$B->force_route('DSL', -i => $B->dev('GUESTS'));":                                               {"policy lan: guests -> dsl"},
		"$B->force_route('DSL', -i => $B->dev($_)) foreach $B->lan_services;":                            {"policy lan: lan -> dsl", "policy lan: guests -> dsl"},
		"$B->force_route('DSL', -s => $_) for map { $B->net($_) } $B->lan_services;":                     {"policy source: [192.168.10.0/24] -> dsl", "policy source: [192.168.12.0/24] -> dsl"},
		"$B->firewall_op('insert'); $B->force_route('DSL', -p => 'tcp');":                                {unread("a call after a firewall_op that is not read here")},
		"{ local $B->{firewall_op} = 'delete'; $B->force_route('DSL', -p => 'tcp'); }":                   {any},
		"$B->ip_route('add 10.1.0.0/16', 'dev eth7');":                                                   {"route to: 10.1.0.0/16, device: eth7"},
		"$B->ip_rule('add from 10.0.0.7 table 2');":                                                      {"todo " + ruleInstead([]string{"from", "10.0.0.7"})},
		"$B->add_route('10.1.0.0/16' => 'tun0', 0);":                                                     {"route to: 10.1.0.0/16, device: tun0"},
		"$B->add_route('10.1.0.0/16' => $B->dev('LAN'), 1);":                                             {"route to: 10.1.0.0/16, device: eth1, masquerade: true"},
		"$B->add_route('default' => 'tun0');":                                                            {unread(`"default" is no network`)},
		"$B->add_route('10.1.0.0/16' => 'eth0:1');":                                                      {unread(`"eth0:1" is no device`)},
		"$B->add_route('10.1.0.0/16' => $B->dev('NO'));":                                                 {unread(`$B->dev of "NO", which is no service`)},
		"$B->enable_forwarding(1);":                                                                      {"needless forwarding is on and stays on"},
		"my $t = <<EOF;\n$B->forward(1=>'10.0.0.1');\nEOF\n":                                             {any},
		"print <<'A', <<\"B\";\n$B->forward(1=>'10.0.0.1');\nA\nx\nB\n$B->forward(2=>'10.0.0.1');":       {f("2", "10.0.0.1"), "needless it only prints"},
		"$x =~ s/'//g;\n$B->forward(2=>'10.0.0.1');":                                                     {f("2", "10.0.0.1"), any},
		"my @a = split /'/, 'x';\n$B->forward(2=>'10.0.0.1');":                                           {f("2", "10.0.0.1"), any},
		"my $a = $';\n$B->forward(2=>'10.0.0.1');":                                                       {f("2", "10.0.0.1"), any},
		"my $a = qq{it's};\n$B->forward(2=>'10.0.0.1');":                                                 {f("2", "10.0.0.1"), any},
		"$B->force_route('DSL', -s=>'10.0.0.0/8', -m => 'tcp');":                                         {"policy source: [10.0.0.0/8] -> dsl"},
		"$B->forward(80 => '10.0.0.1":                                                                    {any},
		"$B->forward((((((((((((((((((((((((80 => '10.0.0.1'))))))))))))))))))))))));":                   {any},
	} {
		if diff := cmp.Diff(want, outcome(t, map[string]string{"firewall/a.pl": code})); diff != "" {
			t.Errorf("%s: %s", code, diff)
		}
	}
}
